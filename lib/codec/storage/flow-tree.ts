/**
 * The flow: the endless array of sectors in which all files lie, and its accumulator (storage.md 2.3, 2.4, 3.5).
 *
 * The flow root is the root of the complete binary tree of height H = smallest with 2^H ≥ length. Sector 0 has the leaf
 * 0x00…00, every submission node is a subtree at its place, everything else is zero sectors.
 *
 *   length 5:            root (H = 3)          open subtrees: one for each set bit of the length, here heights 2 and 0.
 *                       /    \                 Appending a piece of height h at an aligned place works like adding 2^h
 *                  [0, 4)     n                in binary: while there is an open subtree of this height, hash both and
 *                 /    \     / \               carry. Each hash made is a **complete** node: it never changes again.
 *                .      .   4   z[1]
 *
 * This is a pure data structure. The caller keeps the complete nodes that `appendSubmission` returns, under (height, index);
 * from them any past state is restored and any sector proved against any past root. Nodes beyond the length of an older state
 * (end > length) must be deleted when the flow is cut back by a reorganisation, or a stale one could be read later.
 */
import { equalBytes } from '../../base/bytes.ts'
import { assert, ZgError } from '../../base/errors.ts'
import { FIRST_SECTOR_LEAF, nodeHash, type Proof, zeroRoot } from './merkle.ts'
import { alignUp, SEGMENT_SECTORS, setBits } from './shape.ts'
import { MAX_FLOW_SECTORS, type SubmissionNode, sectorsOf } from './submission.ts'

/** Where a submission lies. */
export interface Place {
  /** First sector. */
  start: number
  /** Sectors taken. */
  sectors: number
  /** Zero sectors between the old end of the flow and the start. */
  gap: number
  /** Length of the flow afterwards. */
  end: number
  /** First sector of each node, in order. */
  positions: number[]
}

/** The accumulator: length and the open subtree at each set bit of it. Never mutated. */
export interface FlowState {
  readonly length: number
  /** open[h] is the root of the complete subtree of height h that ends the binary decomposition, where bit h is set. */
  readonly open: readonly (Uint8Array | undefined)[]
}

/** A complete node: the subtree over sectors [index·2^height, (index+1)·2^height). */
export interface FlowNode {
  height: number
  index: number
  hash: Uint8Array
}

/** The flow before the first submission: sector 0 alone. Its node (0, 0) is {@link FIRST_NODE}. */
export const EMPTY_FLOW: FlowState = { length: 1, open: [FIRST_SECTOR_LEAF] }
export const FIRST_NODE: FlowNode = { height: 0, index: 0, hash: FIRST_SECTOR_LEAF }

/**
 * Where the contract puts a submission.
 * @param length - length of the flow before.
 * @throws {ZgError} ERR_PROTOCOL when it would lie beyond 2⁵² sectors.
 */
export function place(length: number, heights: readonly number[]): Place {
  assert(heights.length > 0, 'a submission has nodes')
  const sectors = sectorsOf(heights.map(height => ({ height })))
  let start = alignUp(length, 2 ** heights[0]!)
  const crosses = Math.floor(start / SEGMENT_SECTORS) !== Math.floor((start + sectors - 1) / SEGMENT_SECTORS)
  if (start % SEGMENT_SECTORS !== 0 && crosses) start = alignUp(start, SEGMENT_SECTORS)
  if (start + sectors > MAX_FLOW_SECTORS) throw new ZgError('ERR_PROTOCOL', 'flow is longer than 2^52 sectors')
  const positions: number[] = []
  let at = start
  for (const h of heights) {
    at = alignUp(at, 2 ** h)
    positions.push(at)
    at += 2 ** h
  }
  return { start, sectors, gap: start - length, end: at, positions }
}

/**
 * Adds a submission.
 * @returns the new state, the place, and all nodes that became complete, in the order in which they did.
 * @throws {ZgError} ERR_PROTOCOL as {@link place}.
 */
export function appendSubmission(
  state: FlowState,
  nodes: readonly SubmissionNode[]
): { state: FlowState; place: Place; complete: FlowNode[] } {
  const where = place(
    state.length,
    nodes.map(n => n.height)
  )
  const complete: FlowNode[] = []
  const open = [...state.open]
  let length = state.length
  const append = (height: number, hash: Uint8Array): void => {
    assert(length % 2 ** height === 0, 'a piece must lie at a multiple of its size')
    length += 2 ** height
    let h = height
    let running = hash
    complete.push({ height: h, index: length / 2 ** h - 1, hash: running })
    for (; open[h] !== undefined; h++) {
      running = nodeHash(open[h]!, running)
      open[h] = undefined
      complete.push({ height: h + 1, index: length / 2 ** (h + 1) - 1, hash: running })
    }
    open[h] = running
  }
  nodes.forEach((n, i) => {
    while (length < where.positions[i]!) {
      const h = largestPiece(length, where.positions[i]!)
      append(h, zeroRoot(h))
    }
    append(n.height, n.root)
  })
  return { state: { length, open }, place: where, complete }
}

/** Height of the largest aligned zero subtree that starts at `from` and does not pass `to`. */
function largestPiece(from: number, to: number): number {
  let h = 0
  while (from % 2 ** (h + 1) === 0 && from + 2 ** (h + 1) <= to) h++
  return h
}

/** Height of the tree over a flow of this length: smallest H with 2^H ≥ length. */
export function flowHeight(length: number): number {
  let h = 0
  while (2 ** h < length) h++
  return h
}

/** The flow root of a state, as `getFlowRootByTxSeq` answers it. */
export function flowRoot(state: FlowState): Uint8Array {
  const top = flowHeight(state.length)
  if (state.open[top] !== undefined) return state.open[top]
  // From the lowest open subtree upwards: an open one is on the left, otherwise zeros are on the right.
  let h = state.open.findIndex(x => x !== undefined)
  let running = state.open[h]!
  running = nodeHash(running, zeroRoot(h))
  for (h++; h < top; h++) {
    const left = state.open[h]
    running = left === undefined ? nodeHash(running, zeroRoot(h)) : nodeHash(left, running)
  }
  return running
}

/** How stored nodes are read. Only complete nodes within the asked length are asked for. */
export interface FlowReader {
  /** A node that `appendSubmission` returned, or undefined when it returned none there. */
  node(height: number, index: number): Promise<Uint8Array | undefined>
  /**
   * A node inside a submission node, from the file's data: of height below 10 from the sectors of a segment, above from its
   * segment roots. Undefined when that data is not held.
   */
  inside(height: number, index: number): Promise<Uint8Array | undefined>
}

/**
 * The state at an earlier length (one that the flow had after a submission).
 * @throws {ZgError} ERR_CORRUPT when a node is missing.
 */
export async function restoreFlow(length: number, reader: Pick<FlowReader, 'node'>): Promise<FlowState> {
  const open: (Uint8Array | undefined)[] = []
  let at = 0
  for (const h of setBits(length)) {
    const hash = length === 1 ? FIRST_SECTOR_LEAF : await reader.node(h, at / 2 ** h)
    if (hash === undefined) throw new ZgError('ERR_CORRUPT', `flow node ${h}/${at / 2 ** h} is missing`)
    open[h] = hash
    at += 2 ** h
  }
  for (let h = 0; h < open.length; h++) open[h] ??= undefined
  return { length, open }
}

/**
 * The proof of one sector against the flow root that was current at `length`.
 * @throws {ZgError} ERR_BAD_INPUT for a sector at or beyond the length, ERR_NOT_FOUND when a hash on the way needs data that is
 *   not held.
 */
export async function sectorProof(sector: number, length: number, reader: FlowReader): Promise<Proof> {
  if (!Number.isSafeInteger(sector) || sector < 0 || sector >= length) {
    throw new ZgError('ERR_BAD_INPUT', `sector ${sector} is beyond the flow of ${length} sectors`)
  }
  const height = flowHeight(length)
  let running = await nodeAt(0, sector, length, reader)
  const lemma = [running]
  const path: boolean[] = []
  let index = sector
  for (let h = 0; h < height; h++) {
    const isLeft = index % 2 === 0
    const sibling = await nodeAt(h, isLeft ? index + 1 : index - 1, length, reader)
    lemma.push(sibling)
    path.push(isLeft)
    running = isLeft ? nodeHash(running, sibling) : nodeHash(sibling, running)
    index = Math.floor(index / 2)
  }
  if (height > 0) lemma.push(running)
  return { lemma, path }
}

/** Hash of a node in the tree over a flow of `length` sectors. At most one node a level is cut by the length. */
async function nodeAt(height: number, index: number, length: number, reader: FlowReader): Promise<Uint8Array> {
  const from = index * 2 ** height
  if (from >= length) return zeroRoot(height)
  if (from + 2 ** height > length) {
    const left = await nodeAt(height - 1, 2 * index, length, reader)
    return nodeHash(left, await nodeAt(height - 1, 2 * index + 1, length, reader))
  }
  if (height === 0 && index === 0) return FIRST_SECTOR_LEAF
  const known = await reader.node(height, index)
  if (known !== undefined) return known
  return (await zeroAbove(height, index, length, reader)) ?? (await heldInside(height, index, reader))
}

/** The zero root when the smallest known node around this one is a zero subtree (a gap), else undefined. */
async function zeroAbove(
  height: number,
  index: number,
  length: number,
  reader: FlowReader
): Promise<Uint8Array | undefined> {
  let i = index
  for (let h = height + 1; ; h++) {
    i = Math.floor(i / 2)
    if ((i + 1) * 2 ** h > length) return undefined
    const around = await reader.node(h, i)
    if (around !== undefined) return equalBytes(around, zeroRoot(h)) ? zeroRoot(height) : undefined
  }
}

async function heldInside(height: number, index: number, reader: FlowReader): Promise<Uint8Array> {
  const hash = await reader.inside(height, index)
  if (hash === undefined) {
    throw new ZgError('ERR_NOT_FOUND', `data of sectors from ${index * 2 ** height} is not held here`)
  }
  return hash
}
