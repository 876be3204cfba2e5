/**
 * The 208-byte header, its commitment (CX, CY) and the forms in which they travel (da-design.md 4, 11).
 *
 *   offset  size
 *        0    16   tag: version 1, log k, u16 0, w u32, len u64, little endian
 *       16    32   R0
 *       48    32   zHash
 *       80    96   B_0, B_1, B_2
 *      176    32   dataRoot
 */
import { concat, equalBytes, view } from '../../base/bytes.ts'
import { toHex } from '../../base/hex.ts'
import { keccak256 } from '../../crypto/hash.ts'
import { fits, shapeTag } from './shape.ts'
import {
  BLOB_MAX_BYTES,
  type DaCommitment,
  DaError,
  type DaHeader,
  HEADER_BYTES,
  LOG_K_MAX,
  ROW_MAX_BYTES,
  type Shape
} from './types.ts'

const COMMIT_DOMAIN = new TextEncoder().encode('zg-da/commit/1')

/** A header of a shape and the roots under it; dataRoot follows. */
export function makeHeader(
  shape: Shape,
  roots: { r0: Uint8Array; zHash: Uint8Array; b: readonly [Uint8Array, Uint8Array, Uint8Array] }
): DaHeader {
  const { b } = roots
  return decodeHeader(concat(shapeTag(shape), roots.r0, roots.zHash, ...b, outerRoot(b)))
}

/** keccak(keccak(B_0 ‖ B_1) ‖ B_2). */
export function outerRoot(b: readonly [Uint8Array, Uint8Array, Uint8Array]): Uint8Array {
  return keccak256(keccak256(b[0], b[1]), b[2])
}

/**
 * Reads a header and checks all that it says about itself: version, zero field, shape, outer tree.
 * @param bytes - exactly 208; copied.
 * @throws {DaError} `header-size`, `header-version`, `header-reserved`, `header-k`, `header-w`, `header-len`, `header-shape`
 *   (w does not follow from len and k), `data-root` (not the root over its B's); in this order, hashing last.
 */
export function decodeHeader(bytes: Uint8Array): DaHeader {
  if (bytes.length !== HEADER_BYTES) {
    throw new DaError('header-size', `blob header has ${bytes.length} bytes, ${HEADER_BYTES} wanted`)
  }
  const own = bytes.slice()
  const v = view(own)
  if (own[0] !== 1) throw new DaError('header-version', `blob header has version ${own[0]}, only 1 is known`)
  const logK = own[1]!
  if (logK > LOG_K_MAX) throw new DaError('header-k', `blob header names 2^${logK} rows, at most 2^${LOG_K_MAX}`)
  if (v.getUint16(2, true) !== 0) throw new DaError('header-reserved', 'blob header has bits set that must be zero')
  const w = v.getUint32(4, true)
  if (w < 64 || w > ROW_MAX_BYTES || w % 64 !== 0) {
    throw new DaError(
      'header-w',
      `blob header names rows of ${w} bytes: not a multiple of 64 from 64 to ${ROW_MAX_BYTES}`
    )
  }
  const len64 = v.getBigUint64(8, true)
  if (len64 < 1n || len64 > BigInt(BLOB_MAX_BYTES)) {
    throw new DaError('header-len', `blob header names ${len64} bytes: not within 1 to ${BLOB_MAX_BYTES}`)
  }
  const len = Number(len64)
  const k = 2 ** logK
  if (!fits(logK, w, len)) {
    throw new DaError('header-shape', `blob header is inconsistent: ${len} bytes do not make ${k} rows of ${w} bytes`)
  }
  const at = (from: number): Uint8Array => own.subarray(from, from + 32)
  const b = [at(80), at(112), at(144)] as const
  const dataRoot = at(176)
  if (!equalBytes(outerRoot(b), dataRoot)) {
    throw new DaError('data-root', `blob header: ${toHex(dataRoot)} is not the root over its three thirds`)
  }
  const p = own.subarray(0, 48)
  return { bytes: own, p, tag: own.subarray(0, 16), logK, k, w, len, r0: at(16), zHash: at(48), b, dataRoot }
}

/** The commitment of a header: CX binds it, CY tells its shape. */
export function commitmentOf(header: DaHeader): DaCommitment {
  return { cx: keccak256(COMMIT_DOMAIN, header.bytes), cy: encodeCy(header) }
}

/** CY = 0xff ‖ 0x01 ‖ u8 log k ‖ u32be w ‖ u64be len ‖ 17 zero bytes. Above the field's modulus, so never a KZG commitment. */
function encodeCy(s: Shape): Uint8Array {
  const out = new Uint8Array(32)
  const v = view(out)
  out[0] = 0xff
  out[1] = 1
  out[2] = s.logK
  v.setUint32(3, s.w)
  v.setBigUint64(7, BigInt(s.len))
  return out
}

/** True when a recorded CY belongs to this mode, whatever its version: KZG commitments lie below the field's modulus. */
export function isFastMode(cy: Uint8Array): boolean {
  return cy.length === 32 && cy[0] === 0xff
}

/**
 * The shape that a recorded CY tells.
 * @throws {DaError} `commitment-form` for another mode, an unknown version, unused bytes that are not zero, an impossible shape.
 */
export function decodeCy(cy: Uint8Array): Shape {
  const fail = (why: string): DaError => new DaError('commitment-form', `commitment ${why}`)
  if (!isFastMode(cy)) throw fail('is not of the fast mode')
  if (cy[1] !== 1) throw fail(`has version ${cy[1]}, only 1 is known`)
  const v = view(cy)
  const [logK, w, len] = [cy[2]!, v.getUint32(3), v.getBigUint64(7)]
  if (cy.subarray(15).some(x => x !== 0)) throw fail('has bytes set that must be zero')
  const inRange =
    logK <= LOG_K_MAX && w >= 64 && w <= ROW_MAX_BYTES && w % 64 === 0 && len >= 1n && len <= BigInt(BLOB_MAX_BYTES)
  if (!inRange || !fits(logK, w, Number(len))) throw fail('tells a shape that no blob has')
  return { logK, k: 2 ** logK, w, len: Number(len) }
}

/** The `erasure_commitment` of the public face: CX then CY, each little endian, 64 bytes. */
export function commitmentToLe(c: DaCommitment): Uint8Array {
  return concat(c.cx.slice().reverse(), c.cy.slice().reverse())
}

/** @throws {DaError} `commitment-size` unless it has 64 bytes. */
export function commitmentFromLe(bytes: Uint8Array): DaCommitment {
  if (bytes.length !== 64) throw new DaError('commitment-size', `commitment has ${bytes.length} bytes, 64 wanted`)
  return { cx: bytes.slice(0, 32).reverse(), cy: bytes.slice(32).reverse() }
}

/**
 * Compares a header with what a request or the chain says it should be.
 * @throws {DaError} `storage-root`, `commitment-form` (CY malformed), `commitment`.
 */
export function checkHeader(
  header: DaHeader,
  expected: { storageRoot?: Uint8Array | undefined; commitment?: DaCommitment | undefined }
): void {
  const { storageRoot, commitment } = expected
  if (storageRoot !== undefined && !equalBytes(storageRoot, header.dataRoot)) {
    throw new DaError('storage-root', `blob header is of ${toHex(header.dataRoot)}, not of ${toHex(storageRoot)}`)
  }
  if (commitment === undefined) return
  decodeCy(commitment.cy)
  const own = commitmentOf(header)
  if (!equalBytes(own.cx, commitment.cx) || !equalBytes(own.cy, commitment.cy)) {
    throw new DaError('commitment', `commitment is not that of the blob header of ${toHex(header.dataRoot)}`)
  }
}
