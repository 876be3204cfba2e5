/**
 * Opens the index of a node. It can always be made again, the places of segments from the segment files and the submissions from the
 * chain: so a damaged one is put aside instead of keeping the node down.
 */
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { openKv } from '../../../lib/adapters/kv.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { KvStore } from '../../../lib/ports/kv.ts'

/**
 * @param rebuild - put it aside even when it opens.
 * @returns the store, and whether it begins anew because the old one was put aside.
 * @throws {ZgError} of openKv, but ERR_CORRUPT only when a fresh one cannot be made either.
 */
export async function openIndex(
  dir: string,
  logger: Logger,
  rebuild = false
): Promise<{ kv: KvStore; rebuilt: boolean }> {
  const path = join(dir, 'index')
  let rebuilt = rebuild
  if (!rebuild) {
    try {
      return { kv: quick(await openKv(path)), rebuilt }
    } catch (err) {
      if (!(err instanceof ZgError) || err.code !== 'ERR_CORRUPT') throw err
      logger.error('the index is damaged; it is made again from the segment files and the chain', {
        error: messageOf(err)
      })
      rebuilt = true
    }
  }
  const aside = `${path}.damaged`
  await rm(aside, { recursive: true, force: true })
  // An absent one is made below.
  await rename(path, aside).catch(() => {})
  return { kv: quick(await openKv(path)), rebuilt }
}

/** Reads without a turn in the thread pool, which hashing and the disk need more: an entry lies in memory nearly always. */
function quick(kv: KvStore): KvStore {
  return { ...kv, get: async key => kv.getSync(key) }
}
