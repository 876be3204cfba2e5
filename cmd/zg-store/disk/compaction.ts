/**
 * Gives space back: what still lives in a segment file that is mostly forgotten is written again at the end of the log, then the file is
 * removed.
 *
 * A power loss at any point costs nothing. The new copy is synced before the index points to it, the index is synced before the file
 * goes, and a copy that the index does not know is a dead record like any other. A segment that is forgotten meanwhile is not
 * moved (SegmentLog.move); one that turns out to be damaged is quarantined by the read, as everywhere.
 */
import { messageOf } from '../../../lib/base/errors.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import { MAX_RECORD_BYTES } from './record.ts'
import type { SegmentLog } from './segment-log.ts'

export interface CompactionOptions {
  log: SegmentLog
  clock: Clock
  logger: Logger
  /** A file is worth it when this part of it is forgotten. */
  deadShare?: number
  /** The file being written is left alone until so much of it is forgotten. */
  leastBytes?: number
  /** Bytes moved a second, at most. */
  bytesPerSecond?: number
}

export interface CompactionResult {
  files: number
  movedBytes: number
  freedBytes: number
}

const DEAD_SHARE = 0.5
/** A quarter of what a common disk writes, so that uploads hardly notice. */
const BYTES_PER_SECOND = 64 * 1024 * 1024
const LEAST_BYTES = 1024 * 1024
/** Moved side by side: one sync for all of them. */
const LANES = 8

/**
 * Compacts all files that are worth it.
 * @param signal - ends it between two segments; what was moved by then stays moved.
 */
export async function compact(o: CompactionOptions, signal: AbortSignal): Promise<CompactionResult> {
  const total: CompactionResult = { files: 0, movedBytes: 0, freedBytes: 0 }
  const share = o.deadShare ?? DEAD_SHARE
  const active = await o.log.active()
  if (active.deadBytes > (o.leastBytes ?? LEAST_BYTES) && active.deadBytes >= share * active.bytes) await o.log.seal()
  for (const file of await o.log.sealed()) {
    if (signal.aborted) break
    if (file.deadBytes < share * file.bytes || file.deadBytes === 0) continue
    const moved = await moveOut(o, file.number, signal)
    if (moved === undefined) break
    total.movedBytes += moved
    if (!(await o.log.drop(file.number))) {
      o.logger.warn('a segment file is still in use and stays', { file: file.number })
      continue
    }
    total.files++
    total.freedBytes += file.bytes - moved
    o.logger.info('segment file compacted', { file: file.number, moved_bytes: moved, freed_bytes: file.bytes - moved })
  }
  return total
}

/** @returns bytes moved; undefined when it cannot go on now. */
async function moveOut(o: CompactionOptions, number: number, signal: AbortSignal): Promise<number | undefined> {
  const rate = o.bytesPerSecond ?? BYTES_PER_SECOND
  const begun = o.clock.monotonic()
  let bytes = 0
  let fault: unknown
  const lanes: Promise<void>[] = []
  for await (const { head, at } of o.log.heads(number)) {
    if (signal.aborted || fault !== undefined) break
    const now = await o.log.locate(head.root, head.index)
    if (now === undefined || now.file !== number || now.offset !== at.offset) continue
    const move = async (): Promise<void> => {
      try {
        const segment = await o.log.read(head.root, head.index, new Uint8Array(MAX_RECORD_BYTES))
        if (segment !== undefined && (await o.log.move(segment, at))) bytes += head.headBytes + head.dataSize
      } catch (err) {
        fault ??= err
      }
    }
    lanes.push(move())
    if (lanes.length < LANES) continue
    await Promise.all(lanes.splice(0))
    const dueMs = begun + (bytes / rate) * 1000 - o.clock.monotonic()
    if (dueMs > 0) await o.clock.sleep(dueMs, signal).catch(() => {})
  }
  await Promise.all(lanes)
  if (fault !== undefined) o.logger.warn('compaction has to wait', { file: number, error: messageOf(fault) })
  return signal.aborted || fault !== undefined ? undefined : bytes
}
