/** What a member answers to messages of the others (ports.ts, OP). Whoever sends is authenticated; what is sent is checked here. */
import { concat, equalBytes, view } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { claimStatement, type Manifest, manifestStripe } from '../../../lib/codec/storage/manifest.ts'
import { decodeTombstone, encodeTombstone, groupToJson, type Tombstone } from '../../../lib/codec/storage/members.ts'
import { SECTOR_BYTES, shape } from '../../../lib/codec/storage/shape.ts'
import { codeFault, stripeOf } from '../../../lib/codec/storage/shard-name.ts'
import { checkProof } from '../core/upload-checks.ts'
import type { PackedProof } from '../disk/record.ts'
import { ask, type Context, ownPiece, releaseAll } from './context.ts'
import type { KnownLeaves } from './manifests.ts'
import { block } from './memory.ts'
import { type GroupHandler, NOTHING, OP, type Outgoing, type Packet } from './ports.ts'
import type { Repairer } from './repair.ts'
import { decodeHeld } from './shards.ts'
import { BUCKET_PAGE, FAMILY_PAGE } from './sync.ts'
import {
  decodeBeat,
  decodeClaims,
  decodeGets,
  decodeKeep,
  decodeList,
  decodeManifests,
  decodePuts,
  decodeStripeName,
  decodeTake,
  encodeBeat,
  encodeEntries,
  encodeKept,
  encodeLeaves,
  encodeList,
  encodeManifests,
  encodeTake,
  encodeTaken,
  type Put
} from './wire.ts'

/** Segment roots in one answer: 1 MiB. */
export const LEAVES_PAGE = 32 * 1024

interface Rest {
  touched(root: Uint8Array): Promise<void>
  receive(list: Manifest[]): Promise<void>
  bury(stone: Tombstone): Promise<boolean>
  leaves(root: Uint8Array): Promise<KnownLeaves | undefined>
  url(): string
}

export class Answers {
  readonly #c: Context
  readonly #repairer: Repairer
  readonly #o: Rest

  constructor(c: Context, repairer: Repairer, rest: Rest) {
    this.#c = c
    this.#repairer = repairer
    this.#o = rest
  }

  readonly handle: GroupHandler = async (from, op, packet): Promise<Outgoing> => {
    if (!this.#c.members.isMember(from)) throw new ZgError('ERR_PROTOCOL', 'not a member of this group')
    this.#c.members.heard(from)
    switch (op) {
      case OP.beat:
        return this.#onBeat(from, packet)
      case OP.list:
        return { head: NOTHING, body: new TextEncoder().encode(groupToJson(this.#c.members.list)) }
      case OP.put:
        return this.#onPut(packet)
      case OP.get:
        return this.#onGet(packet)
      case OP.keep:
        return this.#onKeep(from, packet)
      case OP.take: {
        const take = decodeTake(packet.head)
        const data = take === undefined ? undefined : this.#c.courier.offered(from, take.ticket)
        if (take === undefined || data === undefined) return flag(false)
        return { head: Uint8Array.of(1), body: data.filter((_, i) => take.wanted[i] === true) }
      }
      case OP.claim:
        return this.#onClaim(packet)
      case OP.have: {
        const shard = decodeHeld(packet.head)
        return flag(shard !== undefined && (await this.#c.shards.has(shard)))
      }
      case OP.manifests:
        await this.#o.receive(decodeManifests(packet.body))
        return flag(true)
      case OP.family: {
        const at = decodeStripeName(packet.head)
        if (at === undefined || codeFault(at) !== undefined) return flag(false)
        const list: Manifest[] = []
        for await (const m of this.#c.manifests.family(at.root, at, at.stripe, FAMILY_PAGE)) list.push(m)
        return { head: Uint8Array.of(1), body: encodeManifests(list).bytes }
      }
      case OP.buckets:
        return { head: Uint8Array.of(1), body: this.#c.manifests.buckets() }
      case OP.bucket:
        return this.#onBucket(packet)
      case OP.checked: {
        const at = decodeStripeName(packet.head)
        const m = at === undefined ? undefined : await this.#c.manifests.get(at.root, at, at.stripe)
        if (m === undefined) return flag(false)
        const s = manifestStripe(m)
        const first = m.claims[s.need]?.holder
        if (first === undefined || !equalBytes(first, from)) return flag(false)
        await this.#c.manifests.markChecked([m])
        await this.#o.touched(m.root)
        return flag(true)
      }
      case OP.wasChecked: {
        const at = decodeStripeName(packet.head)
        const m = at === undefined ? undefined : await this.#c.manifests.get(at.root, at, at.stripe)
        if (m === undefined || !(await this.#c.manifests.isChecked(m))) return flag(false)
        return { head: concat(Uint8Array.of(1), ...m.shardRoots), body: NOTHING }
      }
      case OP.tombstone: {
        const stone = decodeTombstone(packet.body)
        return flag(stone !== undefined && (await this.#o.bury(stone)))
      }
      case OP.lacks: {
        const at = decodeStripeName(packet.head.subarray(0, 38))
        const m = at === undefined ? undefined : await this.#c.manifests.get(at.root, at, at.stripe)
        if (m !== undefined) await this.#repairer.ownMissing(m)
        return flag(true)
      }
      case OP.sum: {
        const parts = decodeList(packet.head)
        const shard = parts?.[0] === undefined ? undefined : decodeHeld(parts[0])
        if (shard === undefined || parts?.[1]?.length !== 16) return flag(false)
        const data = await this.#c.shards.read(shard)
        return data === undefined
          ? flag(false)
          : { head: await this.#c.codec.sum(parts[1].slice(), data), body: NOTHING }
      }
      case OP.leaves: {
        const known = packet.head.length === 36 ? await this.#o.leaves(packet.head.slice(0, 32)) : undefined
        if (known === undefined) return flag(false)
        const at = 32 * view(packet.head).getUint32(32)
        const part = known.leaves.subarray(at, at + 32 * LEAVES_PAGE)
        return { head: Uint8Array.of(1), body: encodeLeaves({ size: known.size, leaves: part }) }
      }
      default:
        throw new ZgError('ERR_PROTOCOL', `unknown message ${op}`)
    }
  }

  async #onBeat(from: Uint8Array, packet: Packet): Promise<Packet> {
    const beat = decodeBeat(packet.head)
    if (beat !== undefined && beat.url !== '') this.#c.net.address(from, beat.url)
    const url = this.#o.url()
    const { version } = this.#c.members.list
    return { head: encodeBeat({ version, digest: this.#c.manifests.digest(), url }), body: NOTHING }
  }

  async #onPut({ head, body }: Packet): Promise<Packet> {
    const puts = decodePuts(head)
    if (puts === undefined) throw new ZgError('ERR_BAD_INPUT', 'not shards')
    const sizes = puts.map(({ shard: s }) => stripeOf(s.size, s, s.stripe).sectors * SECTOR_BYTES)
    if (body.length !== sizes.reduce((a, b) => a + b, 0)) throw new ZgError('ERR_BAD_INPUT', 'shards of another size')
    this.#repairer.written()
    let at = 0
    const stored = puts.map(async (put, i): Promise<Uint8Array | string> => {
      const data = body.subarray(at, at + sizes[i]!)
      at += sizes[i]!
      try {
        await this.#store(put, data)
        return claimStatement(put.shard, put.shard.shardRoot)
      } catch (err) {
        return messageOf(err)
      }
    })
    // Signed together when the last of them is on the disk: one batch, one check for everybody.
    const statements = await Promise.all(stored)
    const taken = statements.map(async x =>
      typeof x === 'string' ? x : { holder: this.#c.id, by: await this.#c.signer.sign(x) }
    )
    return { head: encodeTaken(await Promise.all(taken)), body: NOTHING }
  }

  /** Shards that the sender has ready: fetched into memory of this node's own, as far as they are not here already. */
  async #onKeep(from: Uint8Array, { head }: Packet): Promise<Packet> {
    const c = this.#c
    const keep = decodeKeep(head)
    if (keep === undefined) throw new ZgError('ERR_BAD_INPUT', 'not shards')
    this.#repairer.written()
    const here = await Promise.all(keep.puts.map(p => c.shards.has(p.shard)))
    const sizes = keep.puts.map(({ shard: s }, i) =>
      here[i] === true ? 0 : stripeOf(s.size, s, s.stripe).sectors * SECTOR_BYTES
    )
    const total = sizes.reduce((a, b) => a + b, 0)
    if (total === 0) return { head: encodeKept(here.map(() => undefined)), body: NOTHING }
    const memory = block(total + 4096)
    const ticket = encodeTake(
      keep.ticket,
      here.map(x => !x)
    )
    // After an error somebody might still write into it: then it is left to the collector.
    const { body } = await ask(c, from, OP.take, ticket, { into: memory.bytes })
    if (body.length !== total) throw new ZgError('ERR_BAD_INPUT', 'shards of another size')
    let at = 0
    const faults = await Promise.all(
      keep.puts.map((put, i) => {
        if (here[i] === true) return undefined
        const data = body.subarray(at, at + sizes[i]!)
        at += sizes[i]!
        return this.#store(put, data).then(() => undefined, messageOf)
      })
    )
    memory.release()
    return { head: encodeKept(faults), body: NOTHING }
  }

  /** This node's word for shards that are on its disk. */
  async #onClaim({ head }: Packet): Promise<Packet> {
    const shards = decodeClaims(head)
    if (shards === undefined) throw new ZgError('ERR_BAD_INPUT', 'not shards')
    const here = await Promise.all(shards.map(s => this.#c.shards.has(s)))
    const claims = await Promise.all(
      shards.map(async (s, i) =>
        here[i] === true
          ? { holder: this.#c.id, by: await this.#c.signer.sign(claimStatement(s, s.shardRoot)) }
          : 'not here'
      )
    )
    return { head: encodeTaken(claims), body: NOTHING }
  }

  /** Checks a shard and keeps it. @throws {ZgError} what is wrong with it, or of the disk. */
  async #store({ shard, epoch, proof }: Put & { proof: PackedProof }, data: Uint8Array): Promise<void> {
    const stone = await this.#c.manifests.tombstone(shard.root)
    if (stone !== undefined && epoch <= stone.epoch) throw new ZgError('ERR_NOT_FOUND', 'the file was deleted')
    const s = stripeOf(shard.size, shard, shard.stripe)
    const root = await this.#c.codec.root(data, s.sectors)
    if (!equalBytes(root, shard.shardRoot)) throw new ZgError('ERR_BAD_PROOF', 'a shard that does not hash to its root')
    const segment = s.full && shard.j < s.need
    if (segment) {
      const lemma = [root]
      for (let i = 0; i < proof.path.length; i++) lemma.push(proof.siblings.subarray(32 * i, 32 * i + 32))
      if (proof.path.length > 0) lemma.push(shard.root)
      const index = s.firstSegment + shard.j
      const up = { root: shard.root, index, fileSize: shard.size, data, proof: { lemma, path: [...proof.path] } }
      checkProof(up, shape(shard.size), root)
    }
    await this.#c.shards.put(shard, data, segment ? proof : undefined)
  }

  async #onGet({ head }: Packet): Promise<Outgoing> {
    const shards = decodeGets(head)
    if (shards === undefined) return flag(false)
    const pieces = await Promise.all(shards.map(s => ownPiece(this.#c, s)))
    return {
      head: Uint8Array.from(pieces, p => +(p !== undefined)),
      body: pieces.filter(p => p !== undefined).map(p => p.data),
      done: () => releaseAll(pieces)
    }
  }

  async #onBucket({ head }: Packet): Promise<Packet> {
    const at = decodeStripeName(head)
    const b = at === undefined ? (head[0] ?? 0) : at.root[0]!
    const from = at === undefined ? undefined : { root: at.root, k: at.k, m: at.m, sum: NOTHING }
    const entries = await this.#c.manifests.bucket(b, BUCKET_PAGE, from)
    const stones = from === undefined ? await this.#c.manifests.tombstones(b) : []
    return { head: encodeList(stones.map(encodeTombstone)), body: encodeEntries(entries) }
  }
}

function flag(yes: boolean): Packet {
  return { head: Uint8Array.of(yes ? 1 : 0), body: NOTHING }
}
