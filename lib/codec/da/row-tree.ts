/**
 * Trees of the fast mode in plain form (da-design.md 4): the tree over one extended row (128 sectors of 256 bytes), and complete
 * binary trees over hashes with their paths.
 */
import { concat } from '../../base/bytes.ts'
import { assert } from '../../base/errors.ts'
import { LINE_BYTES, SUBLINE_BYTES } from './types.ts'

type Hash = (...parts: readonly Uint8Array[]) => Uint8Array

const SECTOR_BYTES = 256

/** A row with zeros up to 32 752 bytes and the shape tag behind them: what is hashed, and what upstream calls the line. */
export function extendRow(tag: Uint8Array, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(LINE_BYTES)
  out.set(payload)
  out.set(tag, LINE_BYTES - 16)
  return out
}

/** Hashes of the 128 sectors of an extended row, one behind the other. Equal sectors (zeros) are hashed once. */
export function sectorHashes(hash: Hash, tag: Uint8Array, payload: Uint8Array): Uint8Array {
  const line = extendRow(tag, payload)
  const zero = hash(new Uint8Array(SECTOR_BYTES))
  const used = Math.ceil(payload.length / SECTOR_BYTES)
  const sectors = LINE_BYTES / SECTOR_BYTES
  const out = new Uint8Array(32 * sectors)
  for (let i = 0; i < sectors; i++) {
    const isData = i < used || i === sectors - 1
    out.set(isData ? hash(line.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES)) : zero, 32 * i)
  }
  return out
}

/**
 * All nodes of the complete binary tree over n hashes, n a power of two: the leaves, then each level up to the root, which is
 * last; 32·(2n − 1) bytes.
 */
export function treeNodes(hash: Hash, leaves: Uint8Array): Uint8Array {
  const n = leaves.length / 32
  assert(n >= 1 && Number.isInteger(Math.log2(n)), 'a power of two of hashes')
  const out = new Uint8Array(32 * (2 * n - 1))
  out.set(leaves)
  for (let i = 0, at = n; at < 2 * n - 1; i += 2, at++) out.set(hash(out.subarray(32 * i, 32 * (i + 2))), 32 * at)
  return out
}

/** The root of {@link treeNodes}. */
export function rootOf(nodes: Uint8Array): Uint8Array {
  return nodes.subarray(nodes.length - 32)
}

/**
 * Siblings from a node up to the root, nearest first.
 * @param level - of the node: 0 for a leaf.
 */
export function pathOf(nodes: Uint8Array, index: number, level = 0): Uint8Array {
  let width = (nodes.length / 32 + 1) / 2
  let start = 0
  for (let h = 0; h < level; h++) {
    start += width
    width /= 2
  }
  assert(index < width, 'a node of its level')
  const siblings: Uint8Array[] = []
  for (let i = index; width > 1; i = Math.floor(i / 2)) {
    const at = 32 * (start + (i ^ 1))
    siblings.push(nodes.subarray(at, at + 32))
    start += width
    width /= 2
  }
  return concat(...siblings)
}

/** The root to which a path leads from a node. */
export function climb(hash: Hash, node: Uint8Array, index: number, path: Uint8Array): Uint8Array {
  let running = node
  let i = index
  for (let at = 0; at < path.length; at += 32) {
    const sibling = path.subarray(at, at + 32)
    running = i % 2 === 0 ? hash(running, sibling) : hash(sibling, running)
    i = Math.floor(i / 2)
  }
  return running
}

/** Siblings from the root of sub-line s (1 024 bytes, four sectors) to the row root: 5 × 32 bytes. */
export function sublinePath(hash: Hash, tag: Uint8Array, payload: Uint8Array, s: number): Uint8Array {
  const level = Math.log2(SUBLINE_BYTES / SECTOR_BYTES)
  return pathOf(treeNodes(hash, sectorHashes(hash, tag, payload)), s, level)
}
