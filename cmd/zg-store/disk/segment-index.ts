/** The index entries of the segment log: one for a segment, none for a sector. */
import { ZgError } from '../../../lib/base/errors.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'
import { HEADER_BYTES } from './record.ts'

/** Where a segment lies. */
export interface Location {
  readonly file: number
  /** Of the record's header in the file. */
  readonly offset: number
  readonly dataSize: number
  /** Number of siblings in its proof. */
  readonly siblings: number
  /** Its segment root. */
  readonly leaf: Uint8Array
}

const VALUE_BYTES = 49
/** 'l': everything in the log before this (file, offset) is in the index. */
export const LOG_HEAD_KEY: Uint8Array = Uint8Array.of(0x6c)

/** Key of segment `index` of the file `root`: 's' ‖ root ‖ index. */
export function indexKey(root: Uint8Array, index: number): Uint8Array {
  const key = new Uint8Array(37)
  key[0] = 0x73
  key.set(root, 1)
  new DataView(key.buffer).setUint32(33, index)
  return key
}

export function encodeLocation(l: Location): Uint8Array {
  const out = new Uint8Array(VALUE_BYTES)
  const v = new DataView(out.buffer)
  v.setUint32(0, l.file)
  v.setBigUint64(4, BigInt(l.offset))
  v.setUint32(12, l.dataSize)
  v.setUint8(16, l.siblings)
  out.set(l.leaf, 17)
  return out
}

/** @throws {ZgError} ERR_CORRUPT. */
export function decodeLocation(value: Uint8Array): Location {
  if (value.length !== VALUE_BYTES) throw new ZgError('ERR_CORRUPT', 'bad entry in the segment index')
  const v = new DataView(value.buffer, value.byteOffset, value.byteLength)
  return {
    file: v.getUint32(0),
    offset: Number(v.getBigUint64(4)),
    dataSize: v.getUint32(12),
    siblings: v.getUint8(16),
    leaf: value.slice(17)
  }
}

/** Entries of one file with first ≤ index < end, in order. */
export async function* locationsOf(
  kv: KvStore,
  root: Uint8Array,
  first: number,
  end: number
): AsyncGenerator<[index: number, location: Location]> {
  const gte = indexKey(root, first)
  const lt = end > 0xffff_ffff ? Uint8Array.of(...indexKey(root, 0xffff_ffff), 0) : indexKey(root, end)
  for await (const [key, value] of kv.scan({ gte, lt })) {
    yield [new DataView(key.buffer, key.byteOffset, key.byteLength).getUint32(33), decodeLocation(value)]
  }
}

/** Bytes of the whole record. */
export function recordBytes(at: Location): number {
  return HEADER_BYTES + 32 * at.siblings + at.dataSize
}

/** 'd' ‖ file: bytes of the file that are forgotten, as the offset of a point. */
export function deadKey(file: number): Uint8Array {
  const key = new Uint8Array(5)
  key[0] = 0x64 // 'd'
  new DataView(key.buffer).setUint32(1, file)
  return key
}

/** A point of the log. */
export function encodePoint(file: number, offset: number): Uint8Array {
  const out = new Uint8Array(12)
  const v = new DataView(out.buffer)
  v.setUint32(0, file)
  v.setBigUint64(4, BigInt(offset))
  return out
}

/** @throws {ZgError} ERR_CORRUPT. */
export function decodePoint(value: Uint8Array): { file: number; offset: number } {
  if (value.length !== 12) throw new ZgError('ERR_CORRUPT', 'bad position of the segment log in the index')
  const v = new DataView(value.buffer, value.byteOffset, value.byteLength)
  return { file: v.getUint32(0), offset: Number(v.getBigUint64(4)) }
}

/** The entry that says so many bytes more of a file are forgotten. */
export async function deadOp(kv: KvStore, file: number, bytes: number): Promise<KvOp> {
  const key = deadKey(file)
  const old = await kv.get(key)
  const total = (old === undefined ? 0 : decodePoint(old).offset) + bytes
  return { put: key, value: encodePoint(file, total) }
}
