/**
 * Proof of random access (storage.md 9): how stored data is sealed for one miner, and how a number is tried against it. This is the plain
 * form; `codec().pora` has the same functions natively, and vectors compare both.
 *
 * A seal is 4,096 bytes, a segment has 64 of them, a scratch pad is as long as four.
 */
import { blake2b } from '@noble/hashes/blake2.js'
import { bigToBytes, bytesToBig, concat, u64be } from '../../base/bytes.ts'
import { keccak256Reference as keccak256 } from '../../crypto/reference.ts'

export const SEAL_SECTORS = 16
export const SEAL_BYTES = 4096
/** Seals of a segment. */
export const SEGMENT_SEALS = 64
export const PAD_BYTES = 16_384
const SEGMENT_SECTORS = 1024n
/** Sectors that a mining range begins at a multiple of, and the most it has without shards. */
export const RANGE_ALIGN_SECTORS = 1n << 25n
export const RANGE_MAX_SECTORS = 1n << 35n
const WORD = 32

/** What a miner searches; all in sectors of the flow. */
export interface MineRange {
  startPosition: bigint
  mineLength: bigint
  shardId: bigint
  /** ~(shards − 1) as u64. */
  shardMask: bigint
}

const u256 = (n: bigint | number): Uint8Array => bigToBytes(BigInt(n), 32)

/**
 * The first mask of a seal: keccak(minerId ‖ context digest ‖ u256 position).
 * @param contextDigest - of the epoch whose range holds the seal's last sector.
 * @param position - first sector, a multiple of 16.
 */
export function sealMask(minerId: Uint8Array, contextDigest: Uint8Array, position: bigint): Uint8Array {
  return keccak256(concat(minerId, contextDigest, u256(position)))
}

/** Seals 4,096 bytes. */
export function seal(data: Uint8Array, firstMask: Uint8Array): Uint8Array {
  // Not slice(): that of a Buffer is no copy.
  const out = Uint8Array.from(data)
  let mask = firstMask
  for (let at = 0; at < out.length; at += WORD) {
    for (let i = 0; i < WORD; i++) out[at + i] = out[at + i]! ^ mask[i]!
    mask = keccak256(out.subarray(at, at + WORD))
  }
  return out
}

/** The bytes that were sealed. */
export function unseal(sealed: Uint8Array, firstMask: Uint8Array): Uint8Array {
  const out = Uint8Array.from(sealed)
  let mask = firstMask
  for (let at = 0; at < out.length; at += WORD) {
    for (let i = 0; i < WORD; i++) out[at + i] = out[at + i]! ^ mask[i]!
    mask = keccak256(sealed.subarray(at, at + WORD))
  }
  return out
}

/** What stands for a range in the seed of a pad. */
export function rangeDigest(range: MineRange): Uint8Array {
  return keccak256(
    concat(u256(range.startPosition), u256(range.mineLength), u256(range.shardId), u256(range.shardMask))
  )
}

/** Seed of the scratch pad of one number, 64 bytes: blake2b-512(minerId ‖ nonce ‖ subtask digest ‖ range digest). */
export function padSeed(
  minerId: Uint8Array,
  nonce: Uint8Array,
  subtaskDigest: Uint8Array,
  digestOfRange: Uint8Array
): Uint8Array {
  return blake2b(concat(minerId, nonce, subtaskDigest, digestOfRange))
}

/** The scratch pad, 16,384 bytes, and the 32 bytes that say which segment is read. */
export function scratchPad(seed: Uint8Array): { pad: Uint8Array; recall: Uint8Array } {
  const pad = new Uint8Array(PAD_BYTES)
  const d = Uint8Array.from(seed)
  for (let at = 0; at < PAD_BYTES; at += 64) {
    d.set(keccak256(d), 0)
    d.set(keccak256(d), 32)
    pad.set(d, at)
  }
  return { pad, recall: keccak256(d) }
}

/**
 * The segment that is read: its first sector in the flow. With shards it can lie one past the range; nobody can prove that one.
 * @returns undefined when it does.
 */
export function recallSegment(range: MineRange, recall: Uint8Array): bigint | undefined {
  const segments = range.mineLength / SEGMENT_SECTORS
  const index = ((bytesToBig(recall) % segments) & range.shardMask) | range.shardId
  return index < segments ? range.startPosition + index * SEGMENT_SECTORS : undefined
}

/** The sealed bytes with their quarter of the pad. */
export function mix(sealed: Uint8Array, pad: Uint8Array, sealOffset: number): Uint8Array {
  const at = (sealOffset % 4) * SEAL_BYTES
  return sealed.map((b, i) => b ^ pad[at + i]!)
}

/** The number that must not exceed the target: first 32 bytes of blake2b-512(u256 offset ‖ seed ‖ 32 zero bytes ‖ mixed). */
export function quality(sealOffset: number, seed: Uint8Array, mixed: Uint8Array): Uint8Array {
  return blake2b(concat(u256(sealOffset), seed, new Uint8Array(WORD), mixed)).slice(0, 32)
}

/** How many shards a mask stands for. */
export function shardsOf(range: MineRange): bigint {
  return BigInt.asUintN(64, ~range.shardMask) + 1n
}

/** What a quality may be at most, when the contract's target is `poraTarget` and the flow has so many sectors. */
export function rangeTarget(range: MineRange, poraTarget: bigint, flowSectors: bigint): bigint {
  const most = (n: bigint): bigint => (n < RANGE_MAX_SECTORS ? n : RANGE_MAX_SECTORS)
  const scale = (most(flowSectors) << 64n) / most(flowSectors / shardsOf(range))
  return (poraTarget / scale) << 64n
}

/**
 * The range of a miner that holds shard `shardId` of `shards`.
 * @param startPosition - a multiple of 2²⁵; 0 on small networks.
 * @returns undefined when no whole segment lies in it.
 */
export function rangeOf(flowSectors: bigint, startPosition = 0n, shardId = 0n, shards = 1n): MineRange | undefined {
  const whole = (flowSectors / SEGMENT_SECTORS) * SEGMENT_SECTORS
  const most = RANGE_MAX_SECTORS * shards
  const length = whole < most ? whole : most
  // The contract wants the full length, so a later start must leave room for it.
  if (length === 0n || startPosition + length > whole || startPosition % RANGE_ALIGN_SECTORS !== 0n) return undefined
  return { startPosition, mineLength: length, shardId, shardMask: BigInt.asUintN(64, ~(shards - 1n)) }
}

/** Successive numbers to try: 32 bytes, the last 8 counted up from a random start. */
export function nonceAt(start: Uint8Array, index: bigint): Uint8Array {
  const out = Uint8Array.from(start)
  out.set(u64be(BigInt.asUintN(64, bytesToBig(start.subarray(24)) + index)), 24)
  return out
}
