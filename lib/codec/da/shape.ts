/** Shapes of blobs (da-design.md 2) and the 16-byte tag that binds them into every row. */
import { view } from '../../base/bytes.ts'
import { BLOB_MAX_BYTES, DaError, LOG_K_MAX, ROW_MAX_BYTES, type Shape } from './types.ts'

/**
 * The shape of a blob.
 * @param len - bytes of the blob.
 * @param logK - log of the number of data rows; absent: the default, which every encoder takes, so that the same blob has the
 *   same root everywhere.
 * @throws {DaError} `blob-size` for no bytes or too many, `shape` for a logK that the blob cannot have.
 */
export function shapeOf(len: number, logK: number = defaultLogK(len)): Shape {
  checkLen(len)
  if (!Number.isInteger(logK) || logK < 0 || logK > LOG_K_MAX) {
    throw new DaError('shape', `a blob cannot have 2^${logK} rows, at most 2^${LOG_K_MAX}`)
  }
  const k = 2 ** logK
  const w = 64 * Math.ceil(len / (64 * k))
  if (w > ROW_MAX_BYTES)
    throw new DaError('shape', `${len} bytes do not fit ${k} rows of at most ${ROW_MAX_BYTES} bytes`)
  return { logK, k, w, len }
}

/** log of the largest power of two with k² ≤ len, k ≤ max(1, len / 64) and k ≤ 1 024. */
export function defaultLogK(len: number): number {
  let logK = 0
  while (logK < LOG_K_MAX && 4 ** (logK + 1) <= len && 2 ** (logK + 1) <= Math.max(1, len / 64)) logK++
  return logK
}

/** True when w is the one row size of len bytes in 2^logK rows. All three must be in range. */
export function fits(logK: number, w: number, len: number): boolean {
  const k = 2 ** logK
  return k * w >= len && len > k * w - 64 * k
}

/** The first 16 bytes of a header: u8 1 ‖ u8 log k ‖ u16 0 ‖ u32 w ‖ u64 len, little endian. */
export function shapeTag(s: Shape): Uint8Array {
  const out = new Uint8Array(16)
  const v = view(out)
  out[0] = 1
  out[1] = s.logK
  v.setUint32(4, s.w, true)
  v.setBigUint64(8, BigInt(s.len), true)
  return out
}

function checkLen(len: number): void {
  if (!Number.isInteger(len) || len < 1) throw new DaError('blob-size', 'a blob has at least one byte')
  if (len > BLOB_MAX_BYTES) throw new DaError('blob-size', `blob has ${len} bytes, at most ${BLOB_MAX_BYTES}`)
}
