/** What a start does with one segment file: finds the records that the index lacks, and cuts a torn tail. See segment-log.ts. */
import type { Logger } from '../../../lib/ops/log.ts'
import type { Disk, DiskFile } from '../../../lib/ports/disk.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'
import { FILE_HEADER_BYTES, fileHeader, fileName, scanRecords } from './segment-file.ts'
import {
  deadOp,
  decodeLocation,
  encodeLocation,
  encodePoint,
  indexKey,
  LOG_HEAD_KEY,
  type Location,
  recordBytes
} from './segment-index.ts'
import type { LeafOf, LogStats } from './segment-log.ts'

export interface RecoveryOptions {
  disk: Disk
  dir: string
  kv: KvStore
  leafOf: LeafOf
  log: Logger
  stats: LogStats
  sync: (file: DiskFile) => Promise<void>
}

/** Entries of one batch. */
const BATCH_OPS = 512

/**
 * @param start - everything before it is in the index.
 * @param isLast - the file that was being written.
 * @returns where its records end.
 */
export async function recoverFile(
  o: RecoveryOptions,
  file: DiskFile,
  number: number,
  start: number,
  isLast: boolean
): Promise<number> {
  const { kv, leafOf, log, stats } = o
  const size = await file.size()
  let end = Math.min(start, size)
  let ops: KvOp[] = []
  let synced = false
  let dead = 0
  for await (const { offset, head, data, gapBefore } of scanRecords(file, start, size, leafOf)) {
    if (!synced) {
      await o.sync(file)
      synced = true
    }
    if (gapBefore > 0) {
      stats.gaps++
      dead += gapBefore
      log.warn('damaged stretch in a segment file skipped', { file: fileName(number), offset: end, bytes: gapBefore })
    }
    end = offset + head.headBytes + data.length
    stats.recovered++
    const key = indexKey(head.root, head.index)
    const at: Location = {
      file: number,
      offset,
      dataSize: data.length,
      siblings: head.proof.path.length,
      leaf: head.leaf
    }
    const known = await kv.get(key)
    if (known === undefined) ops.push({ put: key, value: encodeLocation(at) })
    else {
      // A copy that compaction had made and the index had not learnt of.
      const old = decodeLocation(known)
      if (old.file !== number || old.offset !== offset) dead += recordBytes(at)
    }
    if (ops.length >= BATCH_OPS) {
      await kv.batch([...ops, { put: LOG_HEAD_KEY, value: encodePoint(number, end) }])
      ops = []
    }
  }
  end = Math.max(end, FILE_HEADER_BYTES)
  if (isLast && size !== end) {
    if (size > end) stats.cutBytes += size - end
    await file.truncate(end)
    if (size < FILE_HEADER_BYTES) await file.write(0, fileHeader(number))
    await o.sync(file)
  }
  // The name itself may have been made just before the crash.
  if (isLast) await o.disk.syncDir(o.dir)
  if (dead > 0) ops.push(await deadOp(kv, number, dead))
  await kv.batch([...ops, { put: LOG_HEAD_KEY, value: encodePoint(number, end) }])
  return end
}
