/**
 * The members of a coding group, and what the group's own key signs (storage.md 11): the list, with a version that only rises, and
 * tombstones, by which a file is deleted for good. Membership is by permission: whoever may choose node ids can sit on more than m
 * shards of a file.
 *
 * ```
 * {"group": "0x… public key of the group", "version": 3, "chainId": 16602, "flow": "0x…",
 *  "members": [{"id": "0x… public key of the node", "peer": "http://10.0.0.1:5678", "zone": "a"}, …], "signature": "0x…"}
 * ```
 *
 * `id` is the node's Ed25519 key (the one of its peer id), `peer` the address of its RPC port.
 */
import { compareBytes, concat, equalBytes, u32be, u64be, utf8 } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { addressFromHex, fromHex, hashFromHex, toHex } from '../../base/hex.ts'
import { type SigningKey, verifyEd25519 } from '../../crypto/ed25519.ts'
import { keccak256 } from '../../crypto/hash.ts'

export interface Member {
  /** Ed25519 public key. */
  readonly id: Uint8Array
  /** `http://host:port` of its RPC port; empty: it is learned from the member itself. */
  readonly peer: string
  /** Failure zone; absent: a zone of its own. */
  readonly zone?: string
}

export interface GroupList {
  /** Public key of the group. */
  readonly group: Uint8Array
  readonly version: number
  readonly chainId: number
  readonly flow: string
  /** In order of id, no id twice. */
  readonly members: readonly Member[]
  readonly signature: Uint8Array
}

/** Most members of a group: placement and heartbeats are quadratic in it. */
export const MAX_MEMBERS = 64
const LIST_DOMAIN = utf8('zg/store/group/list/1')
const TOMBSTONE_DOMAIN = utf8('zg/store/group/tombstone/1')
const LIST_BYTES = 65_536

/** Signs a list; members are put in order. @throws {ZgError} ERR_BAD_INPUT for a list that breaks a rule. */
export function signGroup(
  list: { version: number; chainId: number; flow: string; members: readonly Member[] },
  key: SigningKey
): GroupList {
  const members = [...list.members].sort((a, b) => compareBytes(a.id, b.id))
  const unsigned = {
    ...list,
    flow: list.flow.toLowerCase(),
    members,
    group: key.publicKey,
    signature: new Uint8Array(0)
  }
  const fault = listFault(unsigned)
  if (fault !== undefined) throw new ZgError('ERR_BAD_INPUT', `the group list ${fault}`)
  return { ...unsigned, signature: key.sign(listDigest(unsigned)) }
}

/** The JSON text of a list, with a newline. */
export function groupToJson(g: GroupList): string {
  const members = g.members.map(m => ({
    id: toHex(m.id),
    peer: m.peer,
    ...(m.zone === undefined ? {} : { zone: m.zone })
  }))
  const { version, chainId, flow } = g
  const out = { group: toHex(g.group), version, chainId, flow, members, signature: toHex(g.signature) }
  return `${JSON.stringify(out, null, 2)}\n`
}

/** Reads a list and checks its signature. @throws {ZgError} ERR_BAD_INPUT. */
export function groupFromJson(text: string): GroupList {
  if (text.length > LIST_BYTES) throw bad(`has ${text.length} characters`)
  let v: Record<string, unknown>
  try {
    v = JSON.parse(text) as Record<string, unknown>
  } catch (cause) {
    throw new ZgError('ERR_BAD_INPUT', 'the group list is not JSON', { cause })
  }
  if (typeof v !== 'object' || v === null || !Array.isArray(v.members)) throw bad('has no members')
  const members = v.members.map((x: unknown): Member => {
    const m = (typeof x === 'object' && x !== null ? x : {}) as Record<string, unknown>
    if (typeof m.peer !== 'string') throw bad('has a member without peer')
    if (m.zone !== undefined && typeof m.zone !== 'string') throw bad('has a zone that is no text')
    return { id: hashFromHex(m.id, 'member id'), peer: m.peer, ...(m.zone === undefined ? {} : { zone: m.zone }) }
  })
  const flow = typeof v.flow === 'string' ? toHex(addressFromHex(v.flow, 'flow')) : ''
  if (typeof v.signature !== 'string') throw bad('is not signed')
  const list: GroupList = {
    group: hashFromHex(v.group, 'group'),
    version: v.version as number,
    chainId: v.chainId as number,
    flow,
    members,
    signature: fromHex(v.signature)
  }
  const fault = groupFault(list)
  if (fault !== undefined) throw bad(fault)
  return list
}

/** What is wrong with a list, its signature included; undefined when it holds. */
export function groupFault(g: GroupList): string | undefined {
  return (
    listFault(g) ??
    (verifyEd25519(g.group, listDigest(g), g.signature) ? undefined : 'is not signed by the key of the group')
  )
}

function listFault(g: GroupList): string | undefined {
  if (!Number.isInteger(g.version) || g.version < 1 || g.version > 0xffff_ffff) return 'has no version'
  if (!Number.isSafeInteger(g.chainId) || g.chainId < 1) return 'has no chain id'
  if (!/^0x[0-9a-f]{40}$/.test(g.flow)) return 'has no flow address'
  if (g.members.length < 1 || g.members.length > MAX_MEMBERS) return `has ${g.members.length} members`
  for (const [i, m] of g.members.entries()) {
    if (i > 0 && compareBytes(g.members[i - 1]!.id, m.id) >= 0) return 'has members out of order or twice'
    if (m.peer !== '' && !/^https?:\/\/[\x21-\x7e]{1,200}$/.test(m.peer)) return 'has a member whose peer is no URL'
    if (m.zone !== undefined && (m.zone === '' || utf8(m.zone).length > 64)) return 'has a zone out of shape'
  }
  return undefined
}

function listDigest(g: GroupList): Uint8Array {
  const parts = [LIST_DOMAIN, g.group, u32be(g.version), u64be(g.chainId), fromHex(g.flow), u32be(g.members.length)]
  for (const m of g.members) {
    const peer = utf8(m.peer)
    const zone = utf8(m.zone ?? '')
    parts.push(m.id, u32be(peer.length), peer, u32be(zone.length), zone)
  }
  return keccak256(...parts)
}

/** Deletes a file from the group, for good: about 150 bytes that are kept for ever. */
export interface Tombstone {
  readonly root: Uint8Array
  /** Manifests up to this epoch are dead. */
  readonly epoch: number
  readonly reason: string
  readonly signature: Uint8Array
}

const REASON_BYTES = 64

/** @throws {ZgError} ERR_BAD_INPUT for a reason above 64 bytes. */
export function signTombstone(root: Uint8Array, epoch: number, reason: string, key: SigningKey): Tombstone {
  if (utf8(reason).length > REASON_BYTES) throw new ZgError('ERR_BAD_INPUT', 'the reason is longer than 64 bytes')
  return { root, epoch, reason, signature: key.sign(tombstoneDigest(key.publicKey, root, epoch, reason)) }
}

export function tombstoneHolds(t: Tombstone, group: Uint8Array): boolean {
  return verifyEd25519(group, tombstoneDigest(group, t.root, t.epoch, t.reason), t.signature)
}

function tombstoneDigest(group: Uint8Array, root: Uint8Array, epoch: number, reason: string): Uint8Array {
  return keccak256(TOMBSTONE_DOMAIN, group, root, u32be(epoch), utf8(reason))
}

/** root ‖ epoch u32 ‖ signature ‖ reason. */
export function encodeTombstone(t: Tombstone): Uint8Array {
  return concat(t.root, u32be(t.epoch), t.signature, utf8(t.reason))
}

/** undefined for bytes that are none. The signature is not checked. */
export function decodeTombstone(b: Uint8Array): Tombstone | undefined {
  if (b.length < 100 || b.length > 100 + REASON_BYTES) return undefined
  const epoch = new DataView(b.buffer, b.byteOffset, b.byteLength).getUint32(32)
  return { root: b.slice(0, 32), epoch, signature: b.slice(36, 100), reason: new TextDecoder().decode(b.subarray(100)) }
}

export function sameMember(a: Member, b: Member): boolean {
  return equalBytes(a.id, b.id)
}

function bad(what: string): ZgError {
  return new ZgError('ERR_BAD_INPUT', `the group list ${what}`)
}
