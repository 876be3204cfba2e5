/**
 * Line records, the entries of `encoded_slice` (da-design.md 11.1).
 *
 *   offset  size
 *        0     1   version 1
 *        1     1   flags: 1 payload, 2 line path, 4 row path
 *        2     2   place p, u16 LE
 *        4     4   payload bytes (w or 0), u32 LE
 *        8         line path 10 × 32, row path (log k + 2) × 32, payload; each when its flag is set
 */
import { concat, view } from '../../base/bytes.ts'
import { DaError, LINE_PATH_HASHES, type LineRecord, PLACES, type Shape } from './types.ts'

const HEAD_BYTES = 8
const PAYLOAD = 1
const LINE_PATH = 2
const ROW_PATH = 4

/** A record as bytes. Sizes of the parts are taken as they are. */
export function encodeRecord(r: LineRecord): Uint8Array {
  const head = new Uint8Array(HEAD_BYTES)
  const v = view(head)
  head[0] = 1
  head[1] = (r.payload ? PAYLOAD : 0) | (r.linePath ? LINE_PATH : 0) | (r.rowPath ? ROW_PATH : 0)
  v.setUint16(2, r.p, true)
  v.setUint32(4, r.payload?.length ?? 0, true)
  const none = new Uint8Array(0)
  return concat(head, r.linePath ?? none, r.rowPath ?? none, r.payload ?? none)
}

/**
 * Reads a record; its parts are views of `bytes`.
 * @param shape - of the blob: fixes every size.
 * @throws {DaError} `record-size` (too short, or trailing bytes), `record-version`, `record-flags`, `record-place`,
 *   `payload-size` (neither w nor, without payload, 0).
 */
export function decodeRecord(bytes: Uint8Array, shape: Shape): LineRecord {
  if (bytes.length < HEAD_BYTES) throw new DaError('record-size', `line record has only ${bytes.length} bytes`)
  if (bytes[0] !== 1) throw new DaError('record-version', `line record has version ${bytes[0]}, only 1 is known`)
  const flags = bytes[1]!
  if (flags > (PAYLOAD | LINE_PATH | ROW_PATH))
    throw new DaError('record-flags', `line record has unknown flags ${flags}`)
  const v = view(bytes)
  const p = v.getUint16(2, true)
  if (p >= PLACES) throw new DaError('record-place', `line record is of place ${p}, there are ${PLACES}`)
  const size = v.getUint32(4, true)
  const wanted = flags & PAYLOAD ? shape.w : 0
  if (size !== wanted)
    throw new DaError('payload-size', `line ${p} names ${size} bytes of payload, ${wanted} wanted`, p)
  const linePath = flags & LINE_PATH ? 32 * LINE_PATH_HASHES : 0
  const rowPath = flags & ROW_PATH ? 32 * rowPathHashes(shape) : 0
  const total = HEAD_BYTES + linePath + rowPath + wanted
  if (bytes.length !== total) {
    throw new DaError('record-size', `line record of place ${p} has ${bytes.length} bytes, ${total} wanted`, p)
  }
  let at = HEAD_BYTES
  const next = (n: number): Uint8Array | undefined => {
    at += n
    return n === 0 ? undefined : bytes.subarray(at - n, at)
  }
  return { p, linePath: next(linePath), rowPath: next(rowPath), payload: next(wanted) }
}

/**
 * Reads a list of records.
 * @throws {DaError} as {@link decodeRecord}, and `record-count` for more records than places.
 */
export function decodeRecords(list: readonly Uint8Array[], shape: Shape): LineRecord[] {
  if (list.length > PLACES) throw new DaError('record-count', `${list.length} line records, at most ${PLACES}`)
  return list.map(bytes => decodeRecord(bytes, shape))
}

/** Hashes of a row path: the row roots are padded to 4k leaves. */
export function rowPathHashes(shape: Pick<Shape, 'logK'>): number {
  return shape.logK + 2
}
