/**
 * Words of the fast mode of data availability: sizes, shapes, and one fault a kind of refusal (da-design.md 2, 11).
 *
 * A blob of `len` bytes is a matrix of k rows of w bytes; the code makes 3k rows of them, numbered c; a quorum has 3 072
 * places p, and place p holds line p, which is code row σ(p) mod 3k.
 */
import { ZgError } from '../../base/errors.ts'

/** Places of a quorum, and lines of a blob. */
export const PLACES = 3072
/** Lines under each of the three roots B_t. */
export const THIRD = 1024
/** A row with its zeros and tag, as it is hashed and as upstream calls it a line. */
export const LINE_BYTES = 32_768
/** A line as upstream's readers get it: u64 LE count 1 024, then the extended line. */
export const SLICE_BYTES = 8 + 32_768
/** What one sample of the lottery reads of a line. */
export const SUBLINE_BYTES = 1024
export const SUBLINES = 32
/** The largest payload of a row: what follows would not be committed. */
export const ROW_MAX_BYTES = 32_704
/** The largest blob. */
export const BLOB_MAX_BYTES = 32_505_852
/** Data rows: k = 2^logK. */
export const LOG_K_MAX = 10
export const HEADER_BYTES = 208
/** Hashes of a line path: leaf 1 of 1 024. */
export const LINE_PATH_HASHES = 10

/** The shape of a blob: w follows from len and k. */
export interface Shape {
  readonly logK: number
  readonly k: number
  /** Bytes of a row, a multiple of 64. */
  readonly w: number
  /** Bytes of the blob. */
  readonly len: number
}

/** A header that was found well formed: sizes, shape and the outer tree agree (section 5, step 1). */
export interface DaHeader extends Shape {
  /** All 208 bytes. */
  readonly bytes: Uint8Array
  /** The first 48 bytes: shape tag and R0. */
  readonly p: Uint8Array
  /** The first 16 bytes, which end every extended row. */
  readonly tag: Uint8Array
  /** Root over the 3k row roots, padded to 4k. */
  readonly r0: Uint8Array
  readonly zHash: Uint8Array
  /** Roots over 1 024 lines each. */
  readonly b: readonly [Uint8Array, Uint8Array, Uint8Array]
  /** keccak(keccak(B_0 ‖ B_1) ‖ B_2): the storage root of the public face. */
  readonly dataRoot: Uint8Array
}

/** What the contract records as an elliptic curve point and never treats as one; 32 bytes each, big endian. */
export interface DaCommitment {
  readonly cx: Uint8Array
  readonly cy: Uint8Array
}

/** One record of an `encoded_slice` list, decoded (section 11.1). Absent parts are undefined. */
export interface LineRecord {
  /** Place, 0 … 3071. */
  readonly p: number
  /** w bytes, the code row. */
  readonly payload?: Uint8Array | undefined
  /** 10 × 32 bytes, leaf side first: from the row root at p mod 1024 to B_t. */
  readonly linePath?: Uint8Array | undefined
  /** (logK + 2) × 32 bytes, leaf side first: from the row root at c to R0. */
  readonly rowPath?: Uint8Array | undefined
}

/** Every way in which something of a blob can be wrong. Each stands for one check. */
export type DaFault =
  // The blob and its shape.
  | 'blob-size'
  | 'shape'
  // Header, step 1.
  | 'header-size'
  | 'header-version'
  | 'header-reserved'
  | 'header-k'
  | 'header-w'
  | 'header-len'
  | 'header-shape'
  | 'data-root'
  | 'storage-root'
  | 'commitment'
  | 'commitment-size'
  | 'commitment-form'
  // z, step 2.
  | 'z-size'
  | 'z-hash'
  // Records as bytes.
  | 'record-size'
  | 'record-version'
  | 'record-flags'
  | 'record-place'
  // Records as a list.
  | 'record-count'
  | 'record-order'
  | 'record-repeated'
  | 'record-places'
  | 'payload-missing'
  | 'payload-differs'
  | 'path-missing'
  // Lines, steps 3 and 4.
  | 'payload-size'
  | 'path-size'
  | 'line-path'
  | 'row-path'
  | 'row-roots-size'
  | 'row-roots'
  | 'row-root'
  | 'outer-tree'
  | 'line-code'
  // Readers.
  | 'row-index'
  | 'row-count'
  | 'row-size'
  | 'slice-size'
  | 'slice-form'
  | 'no-value'

/** A refusal: which check failed and, for lines, at which place or code row. */
export class DaError extends ZgError {
  readonly fault: DaFault
  /** Place (lines) or code row (rows), when the fault has one. */
  readonly at: number | undefined
  constructor(fault: DaFault, message: string, at?: number) {
    super(codeOf(fault), message)
    this.name = 'DaError'
    this.fault = fault
    this.at = at
  }
}

/** Proofs that fail are ERR_BAD_PROOF, a blob without a value is ERR_CORRUPT, the rest is malformed: ERR_BAD_INPUT. */
function codeOf(fault: DaFault): 'ERR_BAD_PROOF' | 'ERR_BAD_INPUT' | 'ERR_CORRUPT' {
  switch (fault) {
    case 'no-value':
      return 'ERR_CORRUPT'
    case 'data-root':
    case 'storage-root':
    case 'commitment':
    case 'z-hash':
    case 'line-path':
    case 'row-path':
    case 'row-roots':
    case 'row-root':
    case 'outer-tree':
    case 'line-code':
      return 'ERR_BAD_PROOF'
    default:
      return 'ERR_BAD_INPUT'
  }
}
