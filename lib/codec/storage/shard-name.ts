/**
 * How a file is cut into stripes, and what a shard is called (storage.md 11).
 *
 * ```
 *   segments   0 1 2 3 │ 4 5 6 7 │ 8 9(part)          code 4+2
 *   stripe 0   d d d d   p p                          a shard of a full stripe is one segment, unchanged
 *   stripe 1             d d d d   p p
 *   stripe 2                       P sectors of data: cut evenly into k shards of ceil(P / k) sectors, zero filled
 * ```
 *
 * A last stripe of up to 16 KiB is not coded: m + 1 whole copies, which is the code 1 + m with the data itself as every shard. A shard's
 * name is (root, stripe, k, m, j): its bytes follow from the file alone, so shards of two encoders are equal and interchangeable.
 */
import { concat, u32be, utf8 } from '../../base/bytes.ts'
import { assert } from '../../base/errors.ts'
import { keccak256 } from '../../crypto/hash.ts'
import { SECTOR_BYTES, SEGMENT_BYTES, SEGMENT_SECTORS, shape } from './shape.ts'

/** k data shards and m parity shards. */
export interface Code {
  readonly k: number
  readonly m: number
}

/** One stripe of a file under a code. */
export interface Stripe {
  readonly index: number
  /** Shards needed: k of the code, 1 for copies. */
  readonly need: number
  /** Shards in all. */
  readonly count: number
  /** Sectors of a shard. */
  readonly sectors: number
  /** k whole segments: data shards are segments. */
  readonly full: boolean
  /** First file segment in it, and how many. */
  readonly firstSegment: number
  readonly segments: number
  /** Sectors of data in it. */
  readonly dataSectors: number
}

/** A file or last stripe up to this many sectors is copied instead of coded: 16 KiB. */
export const COPY_SECTORS = 64
/** Largest k and m: shard numbers stay below 16. */
export const MAX_SHARDS = 15

/** Why (k, m) is no code, or undefined. */
export function codeFault({ k, m }: Code): string | undefined {
  const whole = Number.isInteger(k) && Number.isInteger(m)
  return whole && k >= 1 && m >= 0 && m <= k && k + m <= MAX_SHARDS ? undefined : `${k}+${m} is no code`
}

/** Number of stripes of a file. */
export function stripeCount(size: number, { k }: Code): number {
  return Math.ceil(shape(size).segments / k)
}

/** Stripe `index` of a file of `size` bytes. */
export function stripeOf(size: number, { k, m }: Code, index: number): Stripe {
  const { chunks, segments } = shape(size)
  const firstSegment = index * k
  assert(Number.isInteger(index) && index >= 0 && firstSegment < segments, `no stripe ${index}`)
  const dataSectors = Math.min(chunks - firstSegment * SEGMENT_SECTORS, k * SEGMENT_SECTORS)
  const full = dataSectors === k * SEGMENT_SECTORS
  const copies = !full && dataSectors <= COPY_SECTORS
  const need = copies ? 1 : k
  return {
    index,
    need,
    count: need + m,
    sectors: full ? SEGMENT_SECTORS : Math.ceil(dataSectors / need),
    full,
    firstSegment,
    segments: Math.min(k, segments - firstSegment),
    dataSectors
  }
}

/** Acknowledgements that make a stripe durable: k + ceil(m / 2). */
export function durableAt(s: Pick<Stripe, 'need' | 'count'>): number {
  return s.need + Math.ceil((s.count - s.need) / 2)
}

/** What names a shard. */
export interface ShardId extends Code {
  readonly root: Uint8Array
  readonly stripe: number
  /** Below k: data; else parity. */
  readonly j: number
}

const NAME_DOMAIN = utf8('zg/store/shard/1')

/** The bytes that a shard's name is hashed from. */
export function shardName(s: ShardId): Uint8Array {
  return concat(s.root, u32be(s.stripe), Uint8Array.of(s.k, s.m, s.j))
}

/**
 * Under which (root, index) the segment log keeps a shard: data of a full stripe as what it is, a segment; everything else under a
 * root of its own, which names the content too, so that a wrong parity shard and the right one can lie side by side.
 */
export function shardPlace(s: ShardId, stripe: Stripe, shardRoot: Uint8Array): { root: Uint8Array; index: number } {
  if (stripe.full && s.j < stripe.need) return { root: s.root, index: stripe.firstSegment + s.j }
  return { root: keccak256(NAME_DOMAIN, shardName(s), shardRoot), index: 0 }
}

/** Data of a last stripe, sectors one behind the other, as equal shards: views where possible. */
export function cutShards(data: Uint8Array, s: Stripe): Uint8Array[] {
  assert(data.length === s.dataSectors * SECTOR_BYTES, 'data of a stripe has another length')
  const size = s.sectors * SECTOR_BYTES
  return Array.from({ length: s.need }, (_, j) => {
    const part = data.subarray(j * size, (j + 1) * size)
    if (part.length === size) return part
    const filled = new Uint8Array(size)
    filled.set(part)
    return filled
  })
}

/** Segments of a stripe from its data shards, the last one cut to its sectors. */
export function joinShards(shards: readonly Uint8Array[], s: Stripe): Uint8Array[] {
  if (s.full) return [...shards]
  const data = concat(...shards).subarray(0, s.dataSectors * SECTOR_BYTES)
  return Array.from({ length: s.segments }, (_, i) => data.subarray(i * SEGMENT_BYTES, (i + 1) * SEGMENT_BYTES))
}
