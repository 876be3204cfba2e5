/** The bytes of messages between members. Big endian; every decoder answers undefined for what is no message. */
import { concat, u32be, u64be, utf8, view } from '../../../lib/base/bytes.ts'
import {
  type Claim,
  decodeClaim,
  decodeManifest,
  encodeClaim,
  encodeManifest,
  MAX_BATCH,
  type Manifest
} from '../../../lib/codec/storage/manifest.ts'
import type { Code } from '../../../lib/codec/storage/shard-name.ts'
import { MAX_SIBLINGS, type PackedProof, packPath, unpackPath } from '../disk/record.ts'
import type { BucketEntry } from './manifests.ts'
import { NOTHING } from './ports.ts'
import { decodeHeld, encodeHeld, type HeldShard } from './shards.ts'

/** Manifests of one message together. */
export const MESSAGE_BYTES = 512 * 1024
const HELD_BYTES = 79

/** Shards in one message: 2 MiB of them. */
export const MESSAGE_SHARDS = 8
/** Shards of one `keep`: 4 MiB, which their holder fetches when it has room. */
export const KEEP_SHARDS = 16
/** Claims in one message: what one signature can cover. */
export const MESSAGE_CLAIMS: number = MAX_BATCH

/** One shard of a `put`: what it is, the epoch its manifest will have, and the proof of a segment. */
export interface Put {
  readonly shard: HeldShard
  readonly epoch: number
  readonly proof: PackedProof | undefined
}

/** `put`: the head; the body is the shards one behind the other. */
export function encodePuts(puts: readonly Put[]): Uint8Array {
  return encodeList(
    puts.map(({ shard, epoch, proof }) => {
      const p = proof ?? { siblings: new Uint8Array(0), path: [] }
      const path = new Uint8Array(9)
      path[0] = p.path.length
      new DataView(path.buffer).setBigUint64(1, packPath(p.path))
      return concat(encodeHeld(shard), u32be(epoch), path, p.siblings)
    })
  )
}

/** undefined when one of them is no shard, or there are too many. */
export function decodePuts(b: Uint8Array, most = MESSAGE_SHARDS): (Put & { proof: PackedProof })[] | undefined {
  const items = decodeList(b)
  if (items === undefined || items.length === 0 || items.length > most) return undefined
  const out = items.map(decodePut)
  return out.includes(undefined) ? undefined : (out as (Put & { proof: PackedProof })[])
}

function decodePut(b: Uint8Array): (Put & { proof: PackedProof }) | undefined {
  const at = HELD_BYTES
  if (b.length < at + 13) return undefined
  const shard = decodeHeld(b.subarray(0, at))
  const steps = b[at + 4]!
  if (shard === undefined || steps > MAX_SIBLINGS || b.length !== at + 13 + 32 * steps) return undefined
  const path = unpackPath(view(b).getBigUint64(at + 5), steps)
  if (path === undefined) return undefined
  return { shard, epoch: view(b).getUint32(at), proof: { siblings: b.slice(at + 13), path } }
}

/** `keep`: a ticket under which the bytes can be fetched, and the shards as in `put`. */
export function encodeKeep(ticket: number, puts: readonly Put[]): Uint8Array {
  return concat(u64be(ticket), encodePuts(puts))
}

export function decodeKeep(b: Uint8Array): { ticket: Uint8Array; puts: (Put & { proof: PackedProof })[] } | undefined {
  if (b.length < 8) return undefined
  const puts = decodePuts(b.subarray(8), KEEP_SHARDS)
  return puts === undefined ? undefined : { ticket: b.subarray(0, 8), puts }
}

/** `take`: the ticket, and one byte for each of its shards, 1 for those wanted; they follow each other in the answer's body. */
export function encodeTake(ticket: Uint8Array, wanted: readonly boolean[]): Uint8Array {
  return concat(ticket, Uint8Array.from(wanted, Number))
}

export function decodeTake(b: Uint8Array): { ticket: number; wanted: boolean[] } | undefined {
  if (b.length < 9 || b.length > 8 + KEEP_SHARDS) return undefined
  const ticket = Number(view(b).getBigUint64(0))
  return Number.isSafeInteger(ticket) ? { ticket, wanted: Array.from(b.subarray(8), x => x === 1) } : undefined
}

/** The answer to a `keep`, in the order of the shards: nothing for one that is on stable storage, or why it is not. */
export function encodeKept(faults: readonly (string | undefined)[]): Uint8Array {
  return encodeList(faults.map(x => (x === undefined ? NOTHING : utf8((x || 'not stored').slice(0, 500)))))
}

export function decodeKept(b: Uint8Array): (string | undefined)[] | undefined {
  return decodeList(b)?.map(x => (x.length === 0 ? undefined : new TextDecoder().decode(x)))
}

/** `claim`: shards whose holder shall give its word; the answer is that of `put`. */
export function encodeClaims(shards: readonly HeldShard[]): Uint8Array {
  return concat(...shards.map(encodeHeld))
}

export function decodeClaims(b: Uint8Array): HeldShard[] | undefined {
  return decodeShards(b, MESSAGE_CLAIMS)
}

/** The answer to a `put`, in the order of the shards: a claim, or why there is none. */
export function encodeTaken(items: readonly (Claim | string)[]): Uint8Array {
  return encodeList(
    items.map(x =>
      typeof x === 'string' ? concat(Uint8Array.of(0), utf8(x.slice(0, 500))) : concat(Uint8Array.of(1), encodeClaim(x))
    )
  )
}

export function decodeTaken(b: Uint8Array): (Claim | string)[] | undefined {
  return decodeList(b)?.map(x => {
    if (x[0] !== 1) return new TextDecoder().decode(x.subarray(1))
    return decodeClaim(x.subarray(1)) ?? 'not an acknowledgement'
  })
}

/** `get`: the shards wanted; the answer's head has a byte for each, 1 for those whose data follows in the body. */
export function encodeGets(shards: readonly HeldShard[]): Uint8Array {
  return concat(...shards.map(encodeHeld))
}

export function decodeGets(b: Uint8Array): HeldShard[] | undefined {
  return decodeShards(b, MESSAGE_SHARDS)
}

function decodeShards(b: Uint8Array, most: number): HeldShard[] | undefined {
  const n = b.length / HELD_BYTES
  if (!Number.isInteger(n) || n < 1 || n > most) return undefined
  const out = Array.from({ length: n }, (_, i) => decodeHeld(b.subarray(HELD_BYTES * i, HELD_BYTES * (i + 1))))
  return out.includes(undefined) ? undefined : (out as HeldShard[])
}

/** Several byte strings, each behind its length. */
export function encodeList(items: readonly Uint8Array[]): Uint8Array {
  return concat(...items.flatMap(i => [u32be(i.length), i]))
}

export function decodeList(b: Uint8Array): Uint8Array[] | undefined {
  const out: Uint8Array[] = []
  for (let at = 0; at < b.length; ) {
    if (at + 4 > b.length) return undefined
    const size = view(b).getUint32(at)
    if (at + 4 + size > b.length) return undefined
    out.push(b.subarray(at + 4, at + 4 + size))
    at += 4 + size
  }
  return out
}

/** As many manifests as fit one message. @returns the bytes and how many there are in them. */
export function encodeManifests(list: readonly Manifest[]): { bytes: Uint8Array; count: number } {
  const items: Uint8Array[] = []
  let size = 0
  for (const m of list) {
    const bytes = encodeManifest(m)
    if (items.length > 0 && size + bytes.length > MESSAGE_BYTES) break
    items.push(bytes)
    size += bytes.length + 4
  }
  return { bytes: encodeList(items), count: items.length }
}

/** Those that can be read; others are left out. */
export function decodeManifests(b: Uint8Array): Manifest[] {
  const out: Manifest[] = []
  for (const item of decodeList(b) ?? []) {
    const m = decodeManifest(item)
    if (m !== undefined) out.push(m)
  }
  return out
}

/** root ‖ k ‖ m ‖ stripe: one stripe, or where to begin. */
export function encodeStripeName(root: Uint8Array, code: Code, stripe: number): Uint8Array {
  return concat(root, Uint8Array.of(code.k, code.m), u32be(stripe))
}

export function decodeStripeName(
  b: Uint8Array
): { root: Uint8Array; k: number; m: number; stripe: number } | undefined {
  if (b.length !== 38) return undefined
  return { root: b.slice(0, 32), k: b[32]!, m: b[33]!, stripe: view(b).getUint32(34) }
}

export interface Beat {
  readonly version: number
  readonly digest: Uint8Array
  /** Where the sender can be reached now. */
  readonly url: string
}

export function encodeBeat(b: Beat): Uint8Array {
  return concat(u32be(b.version), b.digest, new TextEncoder().encode(b.url))
}

export function decodeBeat(b: Uint8Array): Beat | undefined {
  if (b.length < 36 || b.length > 36 + 250) return undefined
  const url = new TextDecoder().decode(b.subarray(36))
  if (url !== '' && !/^https?:\/\/[\x21-\x7e]{1,200}$/.test(url)) return undefined
  return { version: view(b).getUint32(0), digest: b.slice(4, 36), url }
}

/** Entries of a bucket: root ‖ k ‖ m ‖ sum, 50 bytes each. */
export function encodeEntries(list: readonly BucketEntry[]): Uint8Array {
  return concat(...list.map(e => concat(e.root, Uint8Array.of(e.k, e.m), e.sum)))
}

export function decodeEntries(b: Uint8Array): BucketEntry[] {
  const out: BucketEntry[] = []
  for (let at = 0; at + 50 <= b.length; at += 50) {
    out.push({ root: b.slice(at, at + 32), k: b[at + 32]!, m: b[at + 33]!, sum: b.slice(at + 34, at + 50) })
  }
  return out
}

/** size ‖ leaves. */
export function encodeLeaves(l: { size: number; leaves: Uint8Array }): Uint8Array {
  return concat(u64be(l.size), l.leaves)
}
