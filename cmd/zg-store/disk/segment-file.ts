/** One segment file: its name, its first bytes, and the scan that finds the intact records in it. */
import { equalBytes } from '../../../lib/base/bytes.ts'
import type { DiskFile } from '../../../lib/ports/disk.ts'
import { type DecodedHead, decodeHead, HEADER_BYTES, MAX_SIBLINGS, RECORD_MAGIC } from './record.ts'
import type { LeafOf } from './segment-log.ts'

/** "ZGSF", format 1, file number, zero: for `file(1)` and for people; records do not depend on it. */
export const FILE_HEADER_BYTES = 16
const WINDOW_BYTES = 1024 * 1024

export function fileHeader(number: number): Uint8Array {
  const out = new Uint8Array(FILE_HEADER_BYTES)
  const v = new DataView(out.buffer)
  v.setUint32(0, 0x5a475346)
  v.setUint32(4, 1)
  v.setUint32(8, number)
  return out
}

export function fileName(number: number): string {
  return `${number.toString().padStart(8, '0')}.seg`
}

/** The number in a segment file's name; undefined for foreign names. */
export function fileNumber(name: string): number | undefined {
  const m = /^([0-9]{8})\.seg$/.exec(name)
  return m === null ? undefined : Number(m[1])
}

export interface FoundRecord {
  offset: number
  head: DecodedHead
  data: Uint8Array
  /** Damaged bytes between the record before (or `start`) and this one. */
  gapBefore: number
}

/**
 * The intact records from `start` on, in order. A record is intact when its header's checksum is right and its data hashes to its
 * segment root; after one that is not, the next magic word at a multiple of 8 is tried.
 */
export async function* scanRecords(
  file: DiskFile,
  start: number,
  size: number,
  leafOf: LeafOf
): AsyncGenerator<FoundRecord> {
  let at = start
  let expected = start
  while (at + HEADER_BYTES <= size) {
    const head = decodeHead(await file.read(at, Math.min(HEADER_BYTES + 32 * MAX_SIBLINGS, size - at)))
    if (head !== undefined && at + head.headBytes + head.dataSize <= size) {
      const data = await file.read(at + head.headBytes, head.dataSize)
      if (data.length === head.dataSize && equalBytes(await leafOf(data, head.index, head.fileSize), head.leaf)) {
        yield { offset: at, head, data, gapBefore: at - expected }
        at += head.headBytes + head.dataSize
        expected = at
        continue
      }
    }
    const next = await findMagic(file, at + 8, size)
    if (next === undefined) return
    at = next
  }
}

/** The intact heads from `start` on, in order, the data unread: what compaction and a check of a file's use need. */
export async function* scanHeads(
  file: DiskFile,
  start: number,
  size: number
): AsyncGenerator<{ offset: number; head: DecodedHead }> {
  let at: number | undefined = start
  while (at !== undefined && at + HEADER_BYTES <= size) {
    const head = decodeHead(await file.read(at, Math.min(HEADER_BYTES + 32 * MAX_SIBLINGS, size - at)))
    if (head !== undefined && at + head.headBytes + head.dataSize <= size) {
      yield { offset: at, head }
      at += head.headBytes + head.dataSize
    } else at = await findMagic(file, at + 8, size)
  }
}

async function findMagic(file: DiskFile, from: number, size: number): Promise<number | undefined> {
  for (let at = from; at < size; at += WINDOW_BYTES) {
    const window = Buffer.from(await file.read(at, Math.min(WINDOW_BYTES, size - at)))
    for (let i = window.indexOf(RECORD_MAGIC); i >= 0; i = window.indexOf(RECORD_MAGIC, i + 1)) {
      if (i % 8 === 0) return at + i
    }
  }
  return undefined
}
