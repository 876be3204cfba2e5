/**
 * What a header and its z say about lines: the permutation σ and the expected sums E = Enc(z) (da-design.md 4 and 5, step 2).
 */
import { equalBytes } from '../../base/bytes.ts'
import { keccak256 } from '../../crypto/hash.ts'
import type { DaKernels } from '../../native.ts'
import { decodeHeader } from './header.ts'
import { daKernels } from './kernels.ts'
import { DaError, type DaHeader, PLACES } from './types.ts'

const PERMUTATION_DOMAIN = new TextEncoder().encode('zg-da/perm/1')
/** Hashes of 8 words that are drawn at a time; 3 071 words are needed and few are dropped. */
const DRAW_HASHES = 392

/** A header with its z, checked and expanded; keep it while lines of the blob come in. */
export interface OpenBlob {
  readonly header: DaHeader
  /** k × 16 bytes. */
  readonly z: Uint8Array
  /** Enc(z), 3k × 16 bytes: the sum that each code row must have. */
  readonly e: Uint8Array
  /** σ on 0 … 3071. */
  readonly sigma: Uint16Array
}

/**
 * Checks z against its header and expands it, 0.3 ms.
 * @param header - decoded, or its 208 bytes.
 * @param z - in plain form; the encoded form is never accepted.
 * @throws {DaError} as {@link decodeHeader} for bytes; `z-size`, `z-hash`.
 */
export function openZ(header: DaHeader | Uint8Array, z: Uint8Array, kernels: DaKernels = daKernels()): OpenBlob {
  const h = header instanceof Uint8Array ? decodeHeader(header) : header
  if (z.length !== 16 * h.k) {
    throw new DaError('z-size', `z has ${z.length} bytes, ${16 * h.k} wanted for ${h.k} rows`)
  }
  if (!equalBytes(keccak256(z), h.zHash)) throw new DaError('z-hash', 'z is not the one that the blob header names')
  const own = z.slice()
  return { header: h, z: own, e: kernels.extendZ(own), sigma: permutation(h.p, h.zHash, kernels) }
}

/** The code row on place p. */
export function codeRow(blob: { header: { k: number }; sigma: Uint16Array }, p: number): number {
  return blob.sigma[p]! % (3 * blob.header.k)
}

/**
 * σ: Fisher–Yates on 0 … 3071 from the stream keccak(seedP ‖ u64 0) ‖ …, words u32 little endian; a word that would favour
 * small results is dropped.
 * @param p - the first 48 bytes of the header.
 */
export function permutation(p: Uint8Array, zHash: Uint8Array, kernels: DaKernels): Uint16Array {
  const seed = keccak256(PERMUTATION_DOMAIN, p, zHash)
  let words = kernels.stream(seed, DRAW_HASHES)
  let view = new DataView(words.buffer, words.byteOffset, words.byteLength)
  let at = 0
  const next = (): number => {
    if (at === words.length) {
      // A prefix of the stream does not change when more of it is drawn.
      words = kernels.stream(seed, words.length / 32 + DRAW_HASHES)
      view = new DataView(words.buffer, words.byteOffset, words.byteLength)
    }
    at += 4
    return view.getUint32(at - 4, true)
  }
  const a = Uint16Array.from({ length: PLACES }, (_, i) => i)
  for (let i = PLACES - 1; i >= 1; i--) {
    const n = i + 1
    const bound = n * Math.floor(2 ** 32 / n)
    let v = next()
    while (v >= bound) v = next()
    const j = v % n
    const x = a[i]!
    a[i] = a[j]!
    a[j] = x
  }
  return a
}
