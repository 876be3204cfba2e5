/**
 * Encoding of a blob in the fast mode: code rows, commitment, and the proofs of its lines (da-design.md 3, 4, 5).
 */
import { concat } from '../../base/bytes.ts'
import { assert } from '../../base/errors.ts'
import { keccak256 } from '../../crypto/hash.ts'
import type { DaKernels } from '../../native.ts'
import { commitmentOf, makeHeader } from './header.ts'
import { daKernels } from './kernels.ts'
import { permutation } from './open.ts'
import { rowPathHashes } from './records.ts'
import { pathOf, rootOf } from './row-tree.ts'
import { shapeOf, shapeTag } from './shape.ts'
import {
  type DaCommitment,
  type DaHeader,
  LINE_PATH_HASHES,
  type LineRecord,
  PLACES,
  type Shape,
  THIRD
} from './types.ts'

/**
 * How the lines of a request prove themselves: each with its paths, or all by the 3k row roots beside them. Readers need a path
 * to R0 only; encoders answer the roots and every line.
 */
export type ProofForm = 'paths' | 'roots' | 'read'

/** Unique signers up to which, and data rows up to which, signers always get the row roots (section 9.3). */
const ROOTS_SIGNERS = 32
const ROOTS_K = 32

/** An encoded blob. It holds the parity rows (twice the blob) and, for the data rows, the caller's bytes. */
export class EncodedBlob {
  readonly header: DaHeader
  readonly commitment: DaCommitment
  /** k × 16 bytes. */
  readonly z: Uint8Array
  /** 3k × 32 bytes. */
  readonly rowRoots: Uint8Array
  readonly sigma: Uint16Array
  readonly #data: Uint8Array
  readonly #parity: Uint8Array
  readonly #rowTree: Uint8Array
  readonly #lineTrees: readonly Uint8Array[]

  constructor(parts: {
    shape: Shape
    data: Uint8Array
    parity: Uint8Array
    rowRoots: Uint8Array
    z: Uint8Array
    kernels: DaKernels
  }) {
    const { shape, kernels } = parts
    this.#data = parts.data
    this.#parity = parts.parity
    this.rowRoots = parts.rowRoots
    this.z = parts.z
    this.#rowTree = rowTree(parts.rowRoots, kernels)
    const r0 = rootOf(this.#rowTree)
    const zHash = keccak256(parts.z)
    this.sigma = permutation(concat(shapeTag(shape), r0), zHash, kernels)
    this.#lineTrees = lineTrees(parts.rowRoots, this.sigma, kernels)
    const [b0, b1, b2] = this.#lineTrees.map(rootOf)
    this.header = makeHeader(shape, { r0, zHash, b: [b0!, b1!, b2!] })
    this.commitment = commitmentOf(this.header)
  }

  /** The code row c, 0 … 3k − 1: w bytes. */
  row(c: number): Uint8Array {
    const { k, w, len } = this.header
    assert(Number.isInteger(c) && c >= 0 && c < 3 * k, 'a code row')
    if (c >= k) return this.#parity.subarray((c - k) * w, (c - k + 1) * w)
    if ((c + 1) * w <= len) return this.#data.subarray(c * w, (c + 1) * w)
    const out = new Uint8Array(w)
    if (c * w < len) out.set(this.#data.subarray(c * w, len))
    return out
  }

  /** The code row on place p. */
  codeRow(p: number): number {
    assert(Number.isInteger(p) && p >= 0 && p < PLACES, 'a place')
    return this.sigma[p]! % (3 * this.header.k)
  }

  /** ρ_c. */
  rowRoot(c: number): Uint8Array {
    return this.rowRoots.subarray(32 * c, 32 * (c + 1))
  }

  /** 10 siblings from line p to its B. */
  linePath(p: number): Uint8Array {
    return pathOf(this.#lineTrees[Math.floor(p / THIRD)]!, p % THIRD)
  }

  /** log k + 2 siblings from row c to R0. */
  rowPath(c: number): Uint8Array {
    return pathOf(this.#rowTree, c)
  }

  /**
   * Records of places in ascending order; a code row's payload and row path stand in its first record only.
   * @param places - different ones, in any order.
   */
  records(places: readonly number[], form: ProofForm): LineRecord[] {
    const seen = new Set<number>()
    return [...places]
      .sort((a, b) => a - b)
      .map(p => {
        const c = this.codeRow(p)
        const first = !seen.has(c)
        seen.add(c)
        return {
          p,
          payload: first ? this.row(c) : undefined,
          linePath: form === 'paths' ? this.linePath(p) : undefined,
          rowPath: first && form !== 'roots' ? this.rowPath(c) : undefined
        }
      })
  }
}

/**
 * Encodes a blob, natively on a worker thread: about 0.15 s for 31 MiB.
 * @param data - 1 to 32 505 852 bytes; not copied, so it must not change while the result is used.
 * @param opts.logK - log of the number of data rows; absent: the default of the length, which gives everyone the same root.
 * @throws {DaError} `blob-size`, `shape`.
 */
export async function encodeBlob(
  data: Uint8Array,
  opts: { logK?: number | undefined; kernels?: DaKernels | undefined } = {}
): Promise<EncodedBlob> {
  const shape = shapeOf(data.length, opts.logK)
  const kernels = opts.kernels ?? daKernels()
  const { k, w } = shape
  const parity = new Uint8Array(2 * k * w)
  const out = await kernels.encode(shapeTag(shape), data, parity)
  return new EncodedBlob({
    shape,
    data,
    parity,
    rowRoots: out.subarray(0, 96 * k),
    z: out.subarray(96 * k),
    kernels
  })
}

/** All nodes over the row roots, padded with 32-byte zeros to 4k leaves. */
export function rowTree(rowRoots: Uint8Array, kernels: DaKernels): Uint8Array {
  const padded = new Uint8Array((rowRoots.length / 3) * 4)
  padded.set(rowRoots)
  return kernels.treeNodes(padded)
}

/** The trees under B_0, B_1 and B_2. */
export function lineTrees(rowRoots: Uint8Array, sigma: Uint16Array, kernels: DaKernels): Uint8Array[] {
  const rows = rowRoots.length / 32
  return [0, 1, 2].map(t => {
    const leaves = new Uint8Array(32 * THIRD)
    for (let i = 0; i < THIRD; i++) {
      const c = sigma[t * THIRD + i]! % rows
      leaves.set(rowRoots.subarray(32 * c, 32 * (c + 1)), 32 * i)
    }
    return kernels.treeNodes(leaves)
  })
}

/**
 * The form in which a signer gets its lines: the smaller one, but always the roots where readers may need them (section 9.3).
 * @param places - the signer's own.
 * @param signers - unique signers of the quorum.
 */
export function signerForm(shape: Shape, places: number, signers: number): 'paths' | 'roots' {
  if (shape.k <= ROOTS_K || signers <= ROOTS_SIGNERS) return 'roots'
  // Paths are counted with one distinct row a place (section 13).
  const paths = places * 32 * (LINE_PATH_HASHES + rowPathHashes(shape))
  return paths <= 96 * shape.k ? 'paths' : 'roots'
}
