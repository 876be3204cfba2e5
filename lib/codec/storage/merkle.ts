/**
 * Merkle trees of the storage layer (storage.md 1.2, 1.5).
 *
 *   leaf = keccak(sector of 256 bytes)     node = keccak(left ‖ right)
 *
 * Neighbours are paired; an odd last one moves up unchanged. There is no domain prefix, length or index in a hash, so a tree
 * with another number of leaves can collide with a subtree: **every check of a proof must know the leaf count**.
 *
 *          root                     a file of 3 segments: leaves of the file tree are segment roots, each the
 *         /    \                    root of a tree of 1024 sectors (the last segment: of fewer, not filled up)
 *       n01     \
 *      /   \     \
 *    s0     s1    s2
 */
import { concat, equalBytes } from '../../base/bytes.ts'
import { assert } from '../../base/errors.ts'
import { keccak256 } from '../../crypto/hash.ts'
import { codec } from '../../native.ts'
import { nextPow2, SECTOR_BYTES, SEGMENT_BYTES, SEGMENT_SECTORS, type Shape, segmentLeaves, setBits } from './shape.ts'

/** A proof as on the wire, in bytes. */
export interface Proof {
  /** The leaf, then siblings from bottom to top, then the root; the leaf alone in a tree of one. */
  lemma: Uint8Array[]
  /** For each sibling: true when the running hash is the left child. */
  path: boolean[]
}

/** Leaf of sector 0 of the flow, which is not data. */
export const FIRST_SECTOR_LEAF = new Uint8Array(32)

/** keccak of one sector, whole (256 bytes). */
export function leafHash(sector: Uint8Array): Uint8Array {
  assert(sector.length === SECTOR_BYTES, 'a sector has 256 bytes')
  return keccak256(sector)
}

/** keccak(left ‖ right). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return keccak256(left, right)
}

const zeros: Uint8Array[] = []

/** Root of the complete tree of 2^height zero sectors. */
export function zeroRoot(height: number): Uint8Array {
  assert(Number.isInteger(height) && height >= 0 && height <= 64, 'height of a zero subtree is 0 to 64')
  if (zeros.length === 0) zeros.push(leafHash(new Uint8Array(SECTOR_BYTES)))
  while (zeros.length <= height) zeros.push(nodeHash(zeros[zeros.length - 1]!, zeros[zeros.length - 1]!))
  return zeros[height]!
}

/** Root of the tree over any number of zero sectors. */
export function zeroTreeRoot(leaves: number): Uint8Array {
  return foldNodes(setBits(leaves).map(zeroRoot))
}

/**
 * Root of one segment of a padded file.
 * @param data - its data, at most 262,144 bytes; zero sectors follow up to `leaves`.
 */
export function segmentRoot(data: Uint8Array, leaves: number): Uint8Array {
  assert(data.length <= SEGMENT_BYTES && leaves >= 1 && leaves <= SEGMENT_SECTORS, 'not one segment')
  return codec().segmentRootsSync(data, leaves)[0]!
}

/** Folds subtree roots of falling size from the right: the root of the file from its submission nodes. */
export function foldNodes(roots: readonly Uint8Array[]): Uint8Array {
  assert(roots.length > 0, 'no nodes to fold')
  let root = roots[roots.length - 1]!
  for (let i = roots.length - 2; i >= 0; i--) root = nodeHash(roots[i]!, root)
  return root
}

/** Hashes, 32 bytes each: one after the other in an array of bytes, or each by itself. */
type Hashes = Uint8Array | readonly Uint8Array[]

function together(hashes: Hashes): Uint8Array {
  const bytes = hashes instanceof Uint8Array ? hashes : concat(...hashes)
  assert(bytes.length > 0 && bytes.length % 32 === 0, 'a tree has at least one leaf, each of 32 bytes')
  return bytes
}

/** Root of the tree over these leaves. */
export function treeRoot(leaves: Hashes): Uint8Array {
  return codec().treeRoot(together(leaves))
}

function parents(level: Uint8Array): Uint8Array {
  const pairs = Math.floor(level.length / 64)
  const next = new Uint8Array(32 * Math.ceil(level.length / 64))
  for (let i = 0; i < pairs; i++) next.set(keccak256(level.subarray(64 * i, 64 * i + 64)), 32 * i)
  if (level.length % 64 !== 0) next.set(level.subarray(64 * pairs), 32 * pairs)
  return next
}

/** A tree with all its levels, for many proofs of one file: 64 bytes a leaf. What it gives are views of its own memory. */
export class MerkleTree {
  /** Each the hashes of one level, 32 bytes each. */
  readonly #levels: Uint8Array[]

  constructor(leaves: Hashes) {
    let level = together(leaves)
    this.#levels = [level]
    while (level.length > 32) {
      level = parents(level)
      this.#levels.push(level)
    }
  }

  get root(): Uint8Array {
    return this.#levels[this.#levels.length - 1]!
  }

  get leafCount(): number {
    return this.#levels[0]!.length / 32
  }

  leaf(index: number): Uint8Array {
    assert(Number.isInteger(index) && index >= 0 && index < this.leafCount, 'no such leaf')
    return hashAt(this.#levels[0]!, index)
  }

  /** Root of the complete subtree over leaves [index·2^height, (index+1)·2^height), all of which must exist. */
  subtree(height: number, index: number): Uint8Array {
    assert((index + 1) * 2 ** height <= this.leafCount, 'subtree reaches beyond the tree')
    return hashAt(this.#levels[height]!, index)
  }

  /** The proof of one leaf. */
  proof(index: number): Proof {
    assert(Number.isInteger(index) && index >= 0 && index < this.leafCount, 'no such leaf')
    const lemma = [hashAt(this.#levels[0]!, index)]
    const path: boolean[] = []
    let at = index
    for (const level of this.#levels.slice(0, -1)) {
      // Without a sibling the node moves up unpaired and the level leaves no trace in the proof.
      if (32 * (at ^ 1) < level.length) {
        lemma.push(hashAt(level, at ^ 1))
        path.push(at % 2 === 0)
      }
      at = Math.floor(at / 2)
    }
    if (path.length > 0) lemma.push(this.root)
    return { lemma, path }
  }
}

function hashAt(level: Uint8Array, index: number): Uint8Array {
  return level.subarray(32 * index, 32 * index + 32)
}

/** What a proof is checked against. */
export interface ProofClaim {
  leaf: Uint8Array
  root: Uint8Array
  index: number
  leafCount: number
}

/**
 * Checks a proof from a stranger: form, leaf, root, hashes and position (storage.md 1.5).
 * @returns undefined when it holds, otherwise what is wrong.
 */
export function proofFault(proof: Proof, claim: ProofClaim): string | undefined {
  const { lemma, path } = proof
  if (path.length > 64) return 'proof is too long'
  if (path.length === 0 ? lemma.length !== 1 : lemma.length !== path.length + 2) return 'proof has a wrong length'
  if (lemma.some(h => h.length !== 32)) return 'proof has a hash that is not 32 bytes'
  if (!equalBytes(lemma[0]!, claim.leaf)) return 'leaf of the proof is another one'
  if (!equalBytes(lemma[lemma.length - 1]!, claim.root)) return 'root of the proof is another one'
  let running = claim.leaf
  for (let i = 0; i < path.length; i++) {
    const sibling = lemma[i + 1]!
    running = path[i] ? nodeHash(running, sibling) : nodeHash(sibling, running)
  }
  if (!equalBytes(running, claim.root)) return 'hashes of the proof do not lead to the root'
  const position = positionOf(path, claim.leafCount)
  if (position !== claim.index) return 'position in the proof is another one'
  return undefined
}

/** Index of the leaf that a path leads to in a tree of `leafCount` leaves; undefined when there is no such leaf. */
export function positionOf(path: readonly boolean[], leafCount: number): number | undefined {
  let position = 0
  let left = leafCount
  for (let i = path.length - 1; i >= 0; i--) {
    if (left <= 1) return undefined
    const half = nextPow2(left) / 2
    if (path[i]) {
      left = half
    } else {
      position += half
      left -= half
    }
  }
  return left === 1 ? position : undefined
}

/**
 * Checks that what lies behind a file's data is zero, as far as the proof of one segment shows it: a right sibling that covers
 * only segments without data must be the root of zero sectors. Call it after {@link proofFault}.
 * @returns undefined when it holds, otherwise what is wrong.
 */
export function rearPaddingFault(proof: Proof, s: Shape): string | undefined {
  let first = 0
  let count = s.paddedSegments
  for (let i = proof.path.length - 1; i >= 0; i--) {
    if (count <= 1) return 'proof is too long'
    const half = nextPow2(count) / 2
    if (proof.path[i]) {
      // The sibling on the right covers segments [first + half, first + count).
      const from = first + half
      if (from >= s.segments) {
        const last = first + count - 1
        const leaves = (last - from) * SEGMENT_SECTORS + segmentLeaves(s, last)
        if (!equalBytes(proof.lemma[i + 1]!, zeroTreeRoot(leaves))) return 'padding behind the file is not zero'
      }
      count = half
    } else {
      first += half
      count -= half
    }
  }
  return undefined
}
