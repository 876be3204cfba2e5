/**
 * An append-only file of checked records: what was acknowledged is there after any crash.
 *
 *     0      4      8              16
 *     | size | crc  | durable u64   | body, `size` bytes |        big endian; crc = CRC-32 of durable ‖ body
 *
 * `durable` is the length of the file that was known to be on the disk when the record was written. It tells a torn tail from damage:
 * records of one unsynced write may be lost in any pattern and were never acknowledged, so the file is cut at the first bad one; but when
 * a later record says that this place was durable, acknowledged data is gone, and opening fails instead of losing money silently.
 *
 * Appends that arrive while a sync runs share the next one. When the disk is full the half-written record is cut off and the journal stays
 * usable; after any other failure it takes nothing more (a failed sync proves nothing about earlier writes).
 */
import { crc32 } from 'node:zlib'
import { concat, u32be, u64be, view } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import type { Disk, DiskFile } from '../../../lib/ports/disk.ts'

const HEAD_BYTES = 16
/** One record: a settlement of 50 users with 10,000 requests has 170 KB. A torn length must not make the reader allocate. */
export const RECORD_MAX_BYTES = 1 * 1024 * 1024
/** Below this a rewrite is not worth its syncs. */
const REWRITE_BYTES = 4 * 1024 * 1024

export interface Journal {
  /**
   * Durable when it resolves; records of one call are applied together, in order.
   * @param applied - called once they are durable, in file order, before the promise resolves.
   * @throws {ZgError} ERR_DISK_FULL (may be tried again), ERR_IO (the journal is finished).
   */
  append(bodies: readonly Uint8Array[], applied?: () => void): Promise<void>
  /** Replaces the file by these records when it is large and they are less than a quarter of it. */
  trim(live: () => Uint8Array[]): Promise<void>
  /** Why the last append failed; undefined when it did not. */
  readonly trouble: ZgError | undefined
  readonly sizeBytes: number
  readonly syncs: number
  close(): Promise<void>
}

/**
 * Opens (or creates) the journal.
 * @returns the bodies it held, oldest first.
 * @throws {ZgError} ERR_CORRUPT when acknowledged records are damaged, else as the disk does.
 */
export async function openJournal(
  disk: Disk,
  path: string,
  opts: { rewriteBytes?: number } = {}
): Promise<{ journal: Journal; bodies: Uint8Array[] }> {
  const rewriteBytes = opts.rewriteBytes ?? REWRITE_BYTES
  const dir = path.slice(0, path.lastIndexOf('/'))
  await disk.mkdir(dir)
  await disk.remove(`${path}.new`)
  let file = await disk.open(path, 'create')
  await disk.syncDir(dir)
  const bytes = await file.read(0, await file.size())
  const { bodies, end } = parse(bytes, path)
  if (end < bytes.length) {
    await file.truncate(end)
    await file.sync()
  }
  let size = end
  let syncs = 0
  let trouble: ZgError | undefined
  let finished: unknown
  interface Waiting {
    bodies: readonly Uint8Array[]
    applied: (() => void) | undefined
    done: () => void
    failed: (err: unknown) => void
  }
  let waiting: Waiting[] = []
  /** Everything that touches the file, one after the other. */
  let last: Promise<void> = Promise.resolve()

  function serial(work: () => Promise<void>): Promise<void> {
    const run = last.then(async () => {
      if (finished !== undefined) throw finished
      try {
        await work()
      } catch (err) {
        const full = err instanceof ZgError && err.code === 'ERR_DISK_FULL'
        trouble = err instanceof ZgError ? err : new ZgError('ERR_IO', 'the fee journal failed', { cause: err })
        if (!full || !(await cutBack())) finished = err
        throw err
      }
    })
    last = run.catch(() => {})
    return run
  }

  /** Takes back a write for which there was no room. */
  async function cutBack(): Promise<boolean> {
    try {
      await file.truncate(size)
      return true
    } catch {
      return false
    }
  }

  async function flush(): Promise<void> {
    const group = waiting
    waiting = []
    if (group.length === 0) return
    try {
      const frames = group.flatMap(w => w.bodies.map(b => frame(b, size)))
      await file.write(size, ...frames)
      await file.sync()
      syncs++
      for (const f of frames) size += f.length
      trouble = undefined
    } catch (err) {
      for (const w of group) w.failed(err)
      throw err
    }
    for (const w of group) {
      w.applied?.()
      w.done()
    }
  }

  async function replace(live: Uint8Array[]): Promise<void> {
    const next: DiskFile = await disk.open(`${path}.new`, 'create')
    const whole = concat(...live.map(b => frame(b, 0)))
    await next.truncate(0)
    await next.write(0, whole)
    await next.sync()
    await disk.rename(`${path}.new`, path)
    await disk.syncDir(dir)
    await file.close()
    file = next
    size = whole.length
  }

  const journal: Journal = {
    append(list, applied) {
      if (finished !== undefined) return Promise.reject(finished)
      for (const b of list) {
        if (b.length > RECORD_MAX_BYTES) return Promise.reject(new ZgError('ERR_BUG', `record of ${b.length} bytes`))
      }
      return new Promise<void>((done, failed) => {
        waiting.push({ bodies: list, applied, done, failed })
        // The first of a group starts the flush; later ones are taken along if it has not begun.
        if (waiting.length === 1) {
          serial(flush).catch(() => {
            // After a full disk those who came meanwhile have a flush of their own.
            if (finished !== undefined) for (const w of waiting.splice(0)) w.failed(finished)
          })
        }
      })
    },
    trim: live =>
      size < rewriteBytes
        ? Promise.resolve()
        : serial(async () => {
            const kept = live()
            const bytesKept = kept.reduce((sum, b) => sum + HEAD_BYTES + b.length, 0)
            if (bytesKept * 4 < size) await replace(kept)
          }),
    get trouble() {
      return trouble
    },
    get sizeBytes() {
      return size
    },
    get syncs() {
      return syncs
    },
    async close() {
      await last
      await file.close()
    }
  }
  return { journal, bodies }
}

function frame(body: Uint8Array, durable: number): Uint8Array {
  const checked = concat(u64be(durable), body)
  return concat(u32be(body.length), u32be(crc32(checked)), checked)
}

/** The record at an offset, or undefined when there is no whole and valid one. */
function recordAt(bytes: Uint8Array, at: number): { body: Uint8Array; durable: bigint; end: number } | undefined {
  if (at + HEAD_BYTES > bytes.length) return undefined
  const head = view(bytes)
  const size = head.getUint32(at)
  if (size === 0 || size > RECORD_MAX_BYTES || at + HEAD_BYTES + size > bytes.length) return undefined
  const end = at + HEAD_BYTES + size
  if (crc32(bytes.subarray(at + 8, end)) !== head.getUint32(at + 4)) return undefined
  return { body: bytes.slice(at + HEAD_BYTES, end), durable: head.getBigUint64(at + 8), end }
}

function parse(bytes: Uint8Array, path: string): { bodies: Uint8Array[]; end: number } {
  const bodies: Uint8Array[] = []
  let at = 0
  for (let r = recordAt(bytes, at); r !== undefined; r = recordAt(bytes, at)) {
    bodies.push(r.body)
    at = r.end
  }
  for (let later = at + 1; later + HEAD_BYTES <= bytes.length; later++) {
    const r = recordAt(bytes, later)
    if (r === undefined || r.durable <= BigInt(at)) continue
    throw new ZgError('ERR_CORRUPT', `'${path}' is damaged at byte ${at}: records behind it were acknowledged`, {
      hint: 'restore the file from a backup; unsettled fees behind the damage cannot be read'
    })
  }
  return { bodies, end: at }
}
