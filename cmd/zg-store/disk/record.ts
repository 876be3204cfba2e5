/**
 * One segment as it lies in a segment file.
 *
 * ```
 *  0        4        8        12       16  17  18       20       24               32               40
 *  ┌────────┬────────┬────────┬────────┬───┬───┬────────┬────────┬────────────────┬────────────────┬─ …
 *  │ "ZGSR" │ crc    │ index  │dataSize│ n │ 1 │ 0      │ 0      │ path bits u64  │ fileSize u64   │
 *  └────────┴────────┴────────┴────────┴───┴───┴────────┴────────┴────────────────┴────────────────┴─ …
 *  40                   72                   104                  104 + 32 n
 *  ┬────────── … ───────┬────────── … ───────┬────────── … ───────┬──────────── … ────────────┐
 *  │ file root          │ segment root       │ n siblings         │ data, dataSize bytes      │
 *  ┴────────── … ───────┴────────── … ───────┴────────── … ───────┴──────────── … ────────────┘
 * ```
 *
 * `crc` is CRC-32C over bytes 8 … 104 + 32 n: the header and the proof. The data needs no checksum of its own, because its segment
 * root stands in the header, is itself covered by `crc`, and has to be computed for every upload anyway; a second pass over 256 KiB
 * would cost as much as writing it. The proof makes a record stand alone: (data → segment root → siblings → file root) can be checked
 * without any index, so an index that was lost is made again from the files, and a peer can be given a proof while the file is
 * still incomplete. Every part is a multiple of 8 bytes, hence records start at multiples of 8 and a reader that meets a damaged
 * one finds the next by looking for the magic word there. Big endian throughout.
 */
import { assert } from '../../../lib/base/errors.ts'
import { crc32c } from './crc32c.ts'

/** The way from a segment root to the file root, without the two ends. */
export interface PackedProof {
  /** Sibling hashes bottom to top, 32 bytes each. */
  readonly siblings: Uint8Array
  /** True at step i: the running hash is the left child. As long as there are siblings. */
  readonly path: readonly boolean[]
}

/** What names a segment and proves where it belongs. */
export interface SegmentHead {
  readonly root: Uint8Array
  readonly index: number
  /** Bytes of the whole file, as the uploader gave them. */
  readonly fileSize: number
  /** Merkle root over the sectors of the segment, padding sectors included. */
  readonly leaf: Uint8Array
  readonly proof: PackedProof
}

export interface Segment extends SegmentHead {
  readonly data: Uint8Array
}

/** Bytes before the siblings. */
export const HEADER_BYTES = 104
/** Most siblings of a proof: a tree of 2^64 segments. */
export const MAX_SIBLINGS = 64
/** Most data of one record. */
export const MAX_DATA_BYTES = 262_144
export const MAX_RECORD_BYTES = HEADER_BYTES + 32 * MAX_SIBLINGS + MAX_DATA_BYTES
/** "ZGSR". */
export const RECORD_MAGIC: Uint8Array = Uint8Array.of(0x5a, 0x47, 0x53, 0x52)
const VERSION = 1

/** Path bits as the 64-bit integer of records and frames: bit i, least significant first, is `path[i]`. */
export function packPath(path: readonly boolean[]): bigint {
  let bits = 0n
  for (let i = 0; i < path.length; i++) if (path[i]) bits |= 1n << BigInt(i)
  return bits
}

/** The reverse of {@link packPath} for a path of `length` steps; undefined when a bit beyond them is set. */
export function unpackPath(bits: bigint, length: number): boolean[] | undefined {
  if (bits >> BigInt(length) !== 0n) return undefined
  const path: boolean[] = []
  for (let i = 0; i < length; i++) path.push(((bits >> BigInt(i)) & 1n) === 1n)
  return path
}

/** Header and proof of a record; the data follows them unchanged. */
export function encodeHead(s: SegmentHead, dataSize: number): Uint8Array {
  const n = s.proof.path.length
  assert(n <= MAX_SIBLINGS && s.proof.siblings.length === 32 * n, 'proof of a record out of shape')
  assert(dataSize > 0 && dataSize <= MAX_DATA_BYTES && dataSize % 256 === 0, 'data of a record out of shape')
  const out = new Uint8Array(HEADER_BYTES + 32 * n)
  const v = new DataView(out.buffer)
  out.set(RECORD_MAGIC, 0)
  v.setUint32(8, s.index)
  v.setUint32(12, dataSize)
  v.setUint8(16, n)
  v.setUint8(17, VERSION)
  v.setBigUint64(24, packPath(s.proof.path))
  v.setBigUint64(32, BigInt(s.fileSize))
  out.set(s.root, 40)
  out.set(s.leaf, 72)
  out.set(s.proof.siblings, HEADER_BYTES)
  v.setUint32(4, crc32c(out.subarray(8)))
  return out
}

/** A header read back, with the sizes needed to go on. */
export interface DecodedHead extends SegmentHead {
  readonly dataSize: number
  /** Header and siblings together. */
  readonly headBytes: number
}

/**
 * Reads header and proof at the start of `bytes`.
 * @param bytes - at least the header; more may follow.
 * @returns undefined when the bytes are no intact header, or too few.
 */
export function decodeHead(bytes: Uint8Array): DecodedHead | undefined {
  if (bytes.length < HEADER_BYTES) return undefined
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (v.getUint32(0) !== 0x5a475352) return undefined
  const n = v.getUint8(16)
  const headBytes = HEADER_BYTES + 32 * n
  if (n > MAX_SIBLINGS || v.getUint8(17) !== VERSION || bytes.length < headBytes) return undefined
  if (crc32c(bytes.subarray(8, headBytes)) !== v.getUint32(4)) return undefined
  const dataSize = v.getUint32(12)
  const fileSize = v.getBigUint64(32)
  const path = unpackPath(v.getBigUint64(24), n)
  if (path === undefined || dataSize === 0 || dataSize > MAX_DATA_BYTES || dataSize % 256 !== 0) return undefined
  if (fileSize === 0n || fileSize > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
  return {
    root: bytes.slice(40, 72),
    index: v.getUint32(8),
    fileSize: Number(fileSize),
    leaf: bytes.slice(72, 104),
    proof: { siblings: bytes.slice(HEADER_BYTES, headBytes), path },
    dataSize,
    headBytes
  }
}
