/**
 * The flow: the endless array of sectors in which every submission has its place, as a Merkle tree that anyone rebuilds from the
 * chain's events (storage.md 2.3, 2.4).
 *
 * ```
 *  height
 *    3   ┌──────────────────────────────┐             length L = 7, height H = 3
 *    2   ┌──────────────┬───────────────┐
 *    1   ┌───┬──────────┬───────┬───────┐
 *    0   0   A     B    B       C   (zero)            0: the leaf of sector 0, 32 zero bytes
 *            1     2    3   4 5     6   7
 * ```
 *
 * Kept are the **whole** nodes: a node (height, index) whose sectors all lie below L and which is a submission node, a stretch of a gap,
 * or a parent of two whole nodes. They never change while the flow only grows, so one put a node is all that is written, about
 * one for each submission node and gap (a merge consumes two). Everything else follows:
 * - the root of *any* length L that was ever current is made of whole nodes and zero subtrees along one path, the edge of L;
 * - a proof against such a root is the same walk for each sibling;
 * - going back (a reorganisation) is dropping the nodes that reach beyond the new length.
 * Nodes inside a submission are not kept: who holds its data can compute them ({@link FlowTreeSource.inside}).
 */
import { assert, ZgError } from '../../base/errors.ts'

/** What the tree is built on. */
export interface FlowTreeSource {
  keccak256(data: Uint8Array): Uint8Array
  /** A whole node, if it was put. */
  node(height: number, index: number): Promise<Uint8Array | undefined>
  /** A node that lies inside a submission node, from its data. @throws {ZgError} ERR_NOT_FOUND when that is not held. */
  inside?(height: number, index: number): Promise<Uint8Array>
}

/** A node to keep. */
export interface FlowNode {
  readonly height: number
  readonly index: number
  readonly hash: Uint8Array
}

/** Where a submission landed. */
export interface Placement {
  readonly startPos: number
  /** Sectors, padding included. */
  readonly length: number
}

/** A proof from one sector to a flow root: `lemma` = leaf, siblings, root. */
export interface SectorProof {
  readonly lemma: Uint8Array[]
  readonly path: boolean[]
}

export const MAX_FLOW_HEIGHT = 52
const SEGMENT_SECTORS = 1024

/** The next multiple of 2^height. Lengths stay far below 2^53, so plain numbers are exact. */
function alignUp(n: number, height: number): number {
  const unit = 2 ** height
  return Math.ceil(n / unit) * unit
}

/** Height of the tree over `length` sectors: the smallest H with 2^H ≥ length. */
export function flowHeight(length: number): number {
  let h = 0
  while (2 ** h < length) h++
  return h
}

/** First sector of a submission with these node heights when the flow is `length` long (storage.md 2.3). */
export function placeOf(length: number, heights: readonly number[]): Placement {
  let sectors = 0
  for (const h of heights) sectors += 2 ** h
  let start = alignUp(length, heights[0]!)
  if (
    start % SEGMENT_SECTORS !== 0 &&
    Math.floor(start / SEGMENT_SECTORS) !== Math.floor((start + sectors - 1) / SEGMENT_SECTORS)
  ) {
    start = alignUp(start, 10)
  }
  return { startPos: start, length: sectors }
}

/** A flow of some length: appends collect in memory until {@link FlowTree.take} hands them over to be persisted. */
export class FlowTree {
  readonly #source: FlowTreeSource
  readonly #zeros: Uint8Array[]
  #fresh = new Map<string, FlowNode>()
  #length: number

  /** @param length - current length; 1 is the empty flow. */
  constructor(source: FlowTreeSource, length: number) {
    assert(length >= 1, 'the empty flow has length 1')
    this.#source = source
    this.#length = length
    this.#zeros = [source.keccak256(new Uint8Array(256))]
    for (let i = 1; i <= MAX_FLOW_HEIGHT; i++) this.#zeros.push(this.#pair(this.#zeros[i - 1]!, this.#zeros[i - 1]!))
  }

  get length(): number {
    return this.#length
  }

  /** Root of a subtree of zero sectors. */
  zero(height: number): Uint8Array {
    return this.#zeros[height]!
  }

  /**
   * Appends a submission.
   * @returns where it lies.
   * @throws {ZgError} ERR_BAD_INPUT when its node heights do not fit the flow.
   */
  async append(nodes: readonly { height: number; root: Uint8Array }[]): Promise<Placement> {
    const place = placeOf(
      this.#length,
      nodes.map(n => n.height)
    )
    if (nodes.length === 0 || place.startPos + place.length > 2 ** MAX_FLOW_HEIGHT) {
      throw new ZgError('ERR_BAD_INPUT', 'a submission does not fit the flow')
    }
    await this.#fillZeros(place.startPos)
    for (const n of nodes) {
      await this.#fillZeros(alignUp(this.#length, n.height))
      await this.#push(n.height, n.root)
    }
    assert(this.#length === place.startPos + place.length, 'a submission has gaps inside')
    return place
  }

  /** The root when the flow was `length` long; by default now. */
  root(length: number = this.#length): Promise<Uint8Array> {
    return this.#cut(flowHeight(length), 0, length)
  }

  /**
   * The proof of one sector against the root at `length`.
   * @throws {ZgError} ERR_BAD_INPUT beyond the length, ERR_NOT_FOUND when the data around the sector is not held.
   */
  async prove(sector: number, length: number = this.#length): Promise<SectorProof> {
    if (!Number.isSafeInteger(sector) || sector < 0 || sector >= length) {
      throw new ZgError('ERR_BAD_INPUT', `sector ${sector} is beyond the flow length ${length}`)
    }
    const height = flowHeight(length)
    const lemma = [await this.#whole(0, sector)]
    const path: boolean[] = []
    for (let h = 0; h < height; h++) {
      const i = Math.floor(sector / 2 ** h)
      path.push(i % 2 === 0)
      lemma.push(await this.#cut(h, i % 2 === 0 ? i + 1 : i - 1, length))
    }
    // One sector in all: the leaf is the root and stands once.
    if (height > 0) lemma.push(await this.root(length))
    return { lemma, path }
  }

  /** Any node below the current length, whole. */
  node(height: number, index: number): Promise<Uint8Array> {
    return this.#cut(height, index, this.#length)
  }

  /** The nodes to persist since the last call. */
  take(): FlowNode[] {
    const out = [...this.#fresh.values()]
    this.#fresh = new Map()
    return out
  }

  /** Back to a shorter flow, without the nodes not yet taken; the caller drops the persisted ones that reach beyond it. */
  reset(length: number): void {
    this.#fresh = new Map()
    this.#length = length
  }

  async #fillZeros(upTo: number): Promise<void> {
    while (this.#length < upTo) {
      let h = 0
      while (this.#length % 2 ** (h + 1) === 0 && this.#length + 2 ** (h + 1) <= upTo) h++
      await this.#push(h, this.#zeros[h]!)
    }
  }

  async #push(height: number, hash: Uint8Array): Promise<void> {
    let h = height
    let i = this.#length / 2 ** height
    let node = hash
    this.#put(h, i, node)
    while (i % 2 === 1) {
      const left = await this.#kept(h, i - 1)
      assert(left !== undefined, 'the left neighbour of a flow node is missing')
      node = this.#pair(left, node)
      h++
      i = (i - 1) / 2
      this.#put(h, i, node)
    }
    this.#length += 2 ** height
  }

  #put(height: number, index: number, hash: Uint8Array): void {
    this.#fresh.set(`${height}/${index}`, { height, index, hash })
  }

  async #kept(height: number, index: number): Promise<Uint8Array | undefined> {
    if (height === 0 && index === 0) return new Uint8Array(32)
    return this.#fresh.get(`${height}/${index}`)?.hash ?? (await this.#source.node(height, index))
  }

  /** A node of the tree that ends at `length`: beyond it all is zero. */
  async #cut(height: number, index: number, length: number): Promise<Uint8Array> {
    const start = index * 2 ** height
    if (start >= length) return this.#zeros[height]!
    if (start + 2 ** height <= length) return this.#whole(height, index)
    const left = await this.#cut(height - 1, 2 * index, length)
    return this.#pair(left, await this.#cut(height - 1, 2 * index + 1, length))
  }

  async #whole(height: number, index: number): Promise<Uint8Array> {
    const kept = await this.#kept(height, index)
    if (kept !== undefined) return kept
    // Not kept: it lies inside a gap node (then it is zero) or inside a submission node.
    for (let h = height + 1, i = Math.floor(index / 2); h <= MAX_FLOW_HEIGHT; h++, i = Math.floor(i / 2)) {
      const above = await this.#kept(h, i)
      if (above === undefined) continue
      if (Buffer.compare(above, this.#zeros[h]!) === 0) return this.#zeros[height]!
      break
    }
    if (this.#source.inside === undefined) throw new ZgError('ERR_NOT_FOUND', 'the data of this sector is not held here')
    return this.#source.inside(height, index)
  }

  #pair(left: Uint8Array, right: Uint8Array): Uint8Array {
    const both = new Uint8Array(64)
    both.set(left, 0)
    both.set(right, 32)
    return this.#source.keccak256(both)
  }
}
