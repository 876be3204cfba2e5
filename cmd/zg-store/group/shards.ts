/**
 * The shards on this node's disk. They lie in the ordinary segment log: data of full stripes as the segments they are, everything
 * else under a root of its own (lib/codec/storage/shard-name.ts), so checksums, group commit, recovery and scrubbing are those of
 * segments. Beside it one small entry a shard says what it is: `h ‖ root ‖ index → (file root, size, stripe, k, m, j, shard root)`.
 */
import { concat, u32be, u64be, view } from '../../../lib/base/bytes.ts'
import { MAX_FILE_BYTES, SECTOR_BYTES, SEGMENT_SECTORS } from '../../../lib/codec/storage/shape.ts'
import { type ShardId, type Stripe, shardPlace, stripeOf } from '../../../lib/codec/storage/shard-name.ts'
import { codec } from '../../../lib/native.ts'
import type { KvStore } from '../../../lib/ports/kv.ts'
import { leafOf } from '../disk/leaf.ts'
import type { PackedProof } from '../disk/record.ts'
import type { LeafOf, SegmentLog } from '../disk/segment-log.ts'
import { NOTHING } from './ports.ts'

/** A shard with what is needed to place and check it. */
export interface HeldShard extends ShardId {
  readonly size: number
  readonly shardRoot: Uint8Array
}

const NO_PROOF: PackedProof = { siblings: NOTHING, path: [] }
const KIND = 0x68 // 'h'

/** A shard's record says "2⁵² + sectors" where a segment's has the size of its file: no file is so large. */
export function shardSize(sectors: number): number {
  return MAX_FILE_BYTES + sectors
}

/** Segment roots and shard roots, told apart by the size in the record. `root` computes a tree root off the event loop. */
export function leavesOf(
  segments: LeafOf = leafOf,
  root: (data: Uint8Array, leaves: number) => Promise<Uint8Array> = nativeRoot
): LeafOf {
  return (data, index, fileSize) => {
    if (fileSize <= MAX_FILE_BYTES) return segments(data, index, fileSize)
    const sectors = fileSize - MAX_FILE_BYTES
    if (sectors > SEGMENT_SECTORS || data.length !== sectors * SECTOR_BYTES) return Promise.resolve(new Uint8Array(32))
    return root(data, sectors)
  }
}

export async function nativeRoot(data: Uint8Array, leaves: number): Promise<Uint8Array> {
  return (await codec().segmentRoots(data, leaves))[0]!
}

export class Shards {
  readonly #log: SegmentLog
  readonly #kv: KvStore

  constructor(log: SegmentLog, kv: KvStore) {
    this.#log = log
    this.#kv = kv
  }

  async has(s: HeldShard): Promise<boolean> {
    const at = shardPlace(s, stripe(s), s.shardRoot)
    return (await this.#log.locate(at.root, at.index)) !== undefined
  }

  /**
   * Stores a shard whose root was checked. @returns once it is on stable storage.
   * @param proof - of a data shard of a full stripe: it is a segment.
   */
  async put(s: HeldShard, data: Uint8Array, proof: PackedProof | undefined): Promise<'stored' | 'known'> {
    const form = stripe(s)
    const at = shardPlace(s, form, s.shardRoot)
    const segment = form.full && s.j < form.need
    const result = await this.#log.append({
      ...at,
      data,
      leaf: s.shardRoot,
      fileSize: segment ? s.size : shardSize(form.sectors),
      proof: segment ? (proof ?? NO_PROOF) : NO_PROOF
    })
    await this.#kv.batch([{ put: placeKey(at.root, at.index), value: encodeHeld(s) }])
    return result
  }

  /** What lies at its place is this shard now: the same segment under another code. */
  async rename(s: HeldShard): Promise<void> {
    const at = shardPlace(s, stripe(s), s.shardRoot)
    await this.#kv.batch([{ put: placeKey(at.root, at.index), value: encodeHeld(s) }])
  }

  /** Notes what a shard in the log is, where a power loss took that entry: the log makes its index again from its records, not these. */
  async remember(s: HeldShard): Promise<void> {
    const at = shardPlace(s, stripe(s), s.shardRoot)
    const place = placeKey(at.root, at.index)
    if (this.#kv.getSync(place) === undefined) await this.#kv.batch([{ put: place, value: encodeHeld(s) }])
  }

  /**
   * Verified by the log; undefined when it is not held or was found damaged.
   * @param into - memory for its record, a slot of node/buffers.ts; the data may lie in it.
   */
  async read(s: HeldShard, into?: Uint8Array): Promise<Uint8Array | undefined> {
    const at = shardPlace(s, stripe(s), s.shardRoot)
    return (await this.#log.read(at.root, at.index, into))?.data
  }

  async drop(s: HeldShard): Promise<void> {
    const at = shardPlace(s, stripe(s), s.shardRoot)
    await this.#log.forget(at.root, [], i => i === at.index)
    await this.#kv.batch([{ del: placeKey(at.root, at.index) }])
  }

  /** The shard that lies at a place of the log. */
  async at(root: Uint8Array, index: number): Promise<HeldShard | undefined> {
    const value = await this.#kv.get(placeKey(root, index))
    return value === undefined ? undefined : decodeHeld(value)
  }

  /** All shards that were stored here, in order of their places. */
  async *all(): AsyncGenerator<HeldShard> {
    for await (const [, v] of this.#kv.scan({ gte: Uint8Array.of(KIND), lt: Uint8Array.of(KIND + 1) })) {
      const s = decodeHeld(v)
      if (s !== undefined) yield s
    }
  }
}

function stripe(s: HeldShard): Stripe {
  return stripeOf(s.size, s, s.stripe)
}

function placeKey(root: Uint8Array, index: number): Uint8Array {
  return concat(Uint8Array.of(KIND), root, u32be(index))
}

const HELD_BYTES = 32 + 8 + 4 + 3 + 32

export function encodeHeld(s: HeldShard): Uint8Array {
  return concat(s.root, u64be(s.size), u32be(s.stripe), Uint8Array.of(s.k, s.m, s.j), s.shardRoot)
}

/** undefined for bytes that name no shard. */
export function decodeHeld(b: Uint8Array): HeldShard | undefined {
  if (b.length !== HELD_BYTES) return undefined
  const size = Number(view(b).getBigUint64(32))
  const index = view(b).getUint32(40)
  const [k, m, j] = [b[44]!, b[45]!, b[46]!]
  if (size < 1 || size > MAX_FILE_BYTES || k < 1 || k + m > 15 || m > k) return undefined
  if (index * k * SEGMENT_SECTORS >= Math.ceil(size / SECTOR_BYTES)) return undefined
  if (j >= stripeOf(size, { k, m }, index).count) return undefined
  return { root: b.slice(0, 32), size, stripe: index, k, m, j, shardRoot: b.slice(47, 79) }
}
