/**
 * Sizes of the storage layer and how a file of a given size is cut (storage.md 1.1, 1.3). Counts of sectors reach 2⁴⁵, so
 * there are no 32-bit operations here.
 */
import { ZgError } from '../../base/errors.ts'

/** Merkle leaf, unit of price and of every index on the wire; also called entry or chunk. */
export const SECTOR_BYTES = 256
/** Sectors of a segment, the unit of transfer. */
export const SEGMENT_SECTORS = 1024
export const SEGMENT_BYTES = SECTOR_BYTES * SEGMENT_SECTORS
/** log₂ of {@link SEGMENT_SECTORS}. */
export const SEGMENT_HEIGHT = 10
/** The largest file: its size must be a safe integer. */
export const MAX_FILE_BYTES = 2 ** 52

/** How a file lies in sectors and segments. */
export interface Shape {
  /** Bytes of the file. */
  size: number
  /** Sectors that hold data. */
  chunks: number
  /** Sectors of the file tree, zero sectors at the end included. */
  padded: number
  /** Segments that hold data: these are sent. */
  segments: number
  /** Segments of the file tree: these are the leaves of segment proofs. */
  paddedSegments: number
  /** Heights of the submission nodes, strictly falling, one to four. */
  heights: number[]
}

/**
 * The shape of a file.
 * @param size - bytes, 1 … 2⁵².
 * @throws {ZgError} ERR_BAD_INPUT for other sizes: an empty file cannot be stored.
 */
export function shape(size: number): Shape {
  // Whoever works on a file asks again and again.
  if (last?.size === size) return last
  if (size === 0) throw new ZgError('ERR_BAD_INPUT', 'an empty file cannot be stored')
  if (!Number.isSafeInteger(size) || size < 0 || size > MAX_FILE_BYTES) {
    throw new ZgError('ERR_BAD_INPUT', `file size ${size} is out of range`)
  }
  const chunks = Math.ceil(size / SECTOR_BYTES)
  const p = nextPow2(chunks)
  const unit = Math.max(1, p / 16)
  const padded = chunks === p ? chunks : Math.ceil(chunks / unit) * unit
  last = {
    size,
    chunks,
    padded,
    segments: Math.ceil(chunks / SEGMENT_SECTORS),
    paddedSegments: Math.ceil(padded / SEGMENT_SECTORS),
    heights: setBits(padded)
  }
  return last
}

let last: Shape | undefined

/** Leaves of segment `index` of the padded file: 1024 but for the last. */
export function segmentLeaves(s: Shape, index: number): number {
  return Math.min(SEGMENT_SECTORS, s.padded - index * SEGMENT_SECTORS)
}

/** Bytes of data in segment `index`: 0 for segments of padding alone. */
export function segmentDataBytes(s: Shape, index: number): number {
  return Math.max(0, Math.min(SEGMENT_BYTES, s.size - index * SEGMENT_BYTES))
}

/**
 * Bytes to send for segment `index`: its data filled up to whole sectors.
 * Both SDKs send the last sector whole.
 */
export function segmentWireBytes(s: Shape, index: number): number {
  return Math.ceil(segmentDataBytes(s, index) / SECTOR_BYTES) * SECTOR_BYTES
}

/** The smallest power of two that is at least n, for 1 ≤ n ≤ 2⁵². */
export function nextPow2(n: number): number {
  let p = 1
  while (p < n) p *= 2
  return p
}

/** Positions of the set bits of n, highest first. */
export function setBits(n: number): number[] {
  const out: number[] = []
  let rest = n
  for (let h = Math.floor(Math.log2(n)) + 1; h >= 0; h--) {
    const p = 2 ** h
    if (rest >= p) {
      out.push(h)
      rest -= p
    }
  }
  return out
}

/** n rounded up to a multiple of `unit`. */
export function alignUp(n: number, unit: number): number {
  return Math.ceil(n / unit) * unit
}
