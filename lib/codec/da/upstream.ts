/**
 * Forms in which stock peers see lines: slices of 32 776 bytes for readers (da.md 2), sub-lines with their 15 siblings for the
 * sampling lottery (da.md 8).
 */
import { concat, equalBytes, view } from '../../base/bytes.ts'
import { assert } from '../../base/errors.ts'
import { keccak256 } from '../../crypto/hash.ts'
import { extendRow, sublinePath } from './row-tree.ts'
import { DaError, type DaHeader, LINE_BYTES, SLICE_BYTES, SUBLINE_BYTES, SUBLINES, THIRD } from './types.ts'

/** Elements of 32 bytes in a line, the count in front of a slice. */
const ELEMENTS = 1024n

/** u64 LE 1 024 ‖ extended line. */
export function toSlice(tag: Uint8Array, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(SLICE_BYTES)
  view(out).setBigUint64(0, ELEMENTS, true)
  out.set(extendRow(tag, payload), 8)
  return out
}

/**
 * The payload in a slice.
 * @throws {DaError} `slice-size`; `slice-form` for another count, bytes set behind the row, or the tag of another shape.
 */
export function fromSlice(header: DaHeader, slice: Uint8Array): Uint8Array {
  if (slice.length !== SLICE_BYTES) {
    throw new DaError('slice-size', `slice has ${slice.length} bytes, ${SLICE_BYTES} wanted`)
  }
  const payload = slice.subarray(8, 8 + header.w)
  const rest = slice.subarray(8 + header.w, SLICE_BYTES - 16)
  const formed =
    view(slice).getBigUint64(0, true) === ELEMENTS &&
    rest.every(x => x === 0) &&
    equalBytes(slice.subarray(SLICE_BYTES - 16), header.tag)
  if (!formed) throw new DaError('slice-form', 'slice is not an extended line of the blob')
  return payload
}

/** Sub-line s of an extended line: 1 024 bytes. */
export function subline(tag: Uint8Array, payload: Uint8Array, s: number): Uint8Array {
  assert(Number.isInteger(s) && s >= 0 && s < SUBLINES, 'a sub-line')
  return extendRow(tag, payload).subarray(s * SUBLINE_BYTES, (s + 1) * SUBLINE_BYTES)
}

/** An answer to the sampling lottery. */
export interface SublineProof {
  data: Uint8Array
  /** 15 siblings of 32 bytes, leaf side first: 5 within the line, 10 to B. */
  path: Uint8Array
  /** (p mod 1024) · 32 + s: the leaf's position under its B. */
  position: number
}

/**
 * Proof of sub-line s of line p.
 * @param linePath - the line's 10 siblings.
 */
export function sublineProof(
  tag: Uint8Array,
  line: { p: number; payload: Uint8Array; linePath: Uint8Array },
  s: number
): SublineProof {
  assert(LINE_BYTES === SUBLINES * SUBLINE_BYTES && line.linePath.length === 320, 'a line path')
  return {
    data: subline(tag, line.payload, s).slice(),
    path: concat(sublinePath(keccak256, tag, line.payload, s), line.linePath),
    position: (line.p % THIRD) * SUBLINES + s
  }
}
