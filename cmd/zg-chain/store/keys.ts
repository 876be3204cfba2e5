/**
 * The index's keys (one KvStore, `index/`). Heights are 8 bytes big endian, so that key order is height order.
 *
 *   m                              → JSON {format, chainId, genesisHash}: which network this directory belongs to
 *   h                              → head pointer: height | place in the block log | block hash | dev state root or nothing
 *   b height                       → place in the block log (file u32, offset u64, size u32) | block hash
 *   H blockHash                    → height
 *   t txHash                       → height | index u32
 *   l height                       → nothing: the block has logs
 *   a address height               → nothing: the address logged in the block
 *   o position topic height        → nothing: the topic stood at this position of a log of the block
 *
 * The last three are the log index. A posting is a key of its own, not a bitmap page: adding a block never reads or rewrites
 * older entries, a range of blocks is one scan, and a revert deletes exact keys. LevelDB shares the prefixes of neighbours, so a
 * posting costs about as much as its height.
 */
import { concat, readU64be, u32be, u64be, utf8, view } from '../../../lib/base/bytes.ts'
import type { Place } from './blocklog.ts'

const tag = (letter: string) => utf8(letter)
const [B, H, T, L, A, O] = ['b', 'H', 't', 'l', 'a', 'o'].map(tag) as [
  Uint8Array,
  Uint8Array,
  Uint8Array,
  Uint8Array,
  Uint8Array,
  Uint8Array
]

export const META_KEY = tag('m')
export const HEAD_KEY = tag('h')
export const NOTHING = new Uint8Array(0)

export const blockKey = (height: number) => concat(B, u64be(height))
export const hashKey = (hash: Uint8Array) => concat(H, hash)
export const txKey = (hash: Uint8Array) => concat(T, hash)

/** What a posting list stands for. */
export type Posting =
  | { kind: 'any' }
  | { kind: 'address'; address: Uint8Array }
  | { kind: 'topic'; position: number; topic: Uint8Array }

/** The key of a block in a posting list. */
export function postingKey(p: Posting, height: number): Uint8Array {
  if (p.kind === 'any') return concat(L, u64be(height))
  if (p.kind === 'address') return concat(A, p.address, u64be(height))
  return concat(O, Uint8Array.of(p.position), p.topic, u64be(height))
}

/** The height at the end of a posting key. */
export function heightOf(key: Uint8Array): number {
  return readU64be(key, key.length - 8)
}

const PLACE_BYTES = 16

export function encodePlace(p: Place, hash: Uint8Array): Uint8Array {
  return concat(u32be(p.file), u64be(p.offset), u32be(p.size), hash)
}

export function decodePlace(b: Uint8Array): { place: Place; hash: Uint8Array } {
  const v = view(b)
  return {
    place: { file: v.getUint32(0), offset: readU64be(b, 4), size: v.getUint32(12) },
    hash: b.slice(PLACE_BYTES, PLACE_BYTES + 32)
  }
}

export interface Head {
  height: number
  place: Place
  hash: Uint8Array
  /** State on top of the head made by development verbs, until the next block. */
  devRoot: Uint8Array | undefined
}

export function encodeHead(h: Head): Uint8Array {
  return concat(u64be(h.height), encodePlace(h.place, h.hash), h.devRoot ?? NOTHING)
}

export function decodeHead(b: Uint8Array): Head {
  const { place, hash } = decodePlace(b.subarray(8))
  const rest = b.slice(8 + PLACE_BYTES + 32)
  return { height: readU64be(b), place, hash, devRoot: rest.length === 32 ? rest : undefined }
}

export function encodeTxPlace(height: number, index: number): Uint8Array {
  return concat(u64be(height), u32be(index))
}

export function decodeTxPlace(b: Uint8Array): { height: number; index: number } {
  return { height: readU64be(b), index: view(b).getUint32(8) }
}
