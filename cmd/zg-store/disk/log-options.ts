/** What the segment log is given, and what it tells of itself. */
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Disk } from '../../../lib/ports/disk.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'

/** Computes the segment root of `data`, which is segment `index` of a file of `fileSize` bytes; at once when there is little to hash. */
export type LeafOf = (data: Uint8Array, index: number, fileSize: number) => Uint8Array | Promise<Uint8Array>

export interface SegmentLogOptions {
  disk: Disk
  kv: KvStore
  clock: Clock
  log: Logger
  /** Directory of the segment files. */
  dir: string
  leafOf: LeafOf
  /** A file is sealed once it is this long. */
  fileBytes?: number
  /** How long a segment waits for company. */
  groupMs?: number
  /** Room on the file system, if it can be asked. */
  freeBytes?: () => Promise<number>
  /** Bytes that all segment files together may have; ERR_DISK_FULL above. */
  quotaBytes?: number
  /** Left free for the key-value store, which after a failed write works only after a restart. */
  reserveBytes?: number
  /** What is to be written in the same batch that takes a damaged segment out of the index: no crash may leave its file unnoticed. */
  quarantineOps?: (root: Uint8Array) => readonly KvOp[]
  /** Called after a segment was found damaged and taken out of the index. */
  onQuarantine?: (root: Uint8Array, index: number) => void
}

export interface LogTrouble {
  kind: 'full' | 'failed'
  message: string
}

export interface LogStats {
  files: number
  /** Records appended since start, and their data bytes. */
  appended: number
  appendedBytes: number
  syncs: number
  quarantined: number
  /** Segments that compaction has moved, and files it has removed. */
  moved: number
  removedFiles: number
  /** Bytes of all segment files. */
  usedBytes: number
  /** Of the recovery at start. */
  recovered: number
  gaps: number
  cutBytes: number
}
