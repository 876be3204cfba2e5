/**
 * A member of a coding group (storage.md 11): erasure coding and repair behind the unchanged protocol. Pure of network and disk: it sees
 * both through ports, so test/sim/store-group.test.ts runs whole groups of it on simulated time, nets and disks.
 *
 * ```
 *   FileStore ── staged, read, complete ──► CodingGroup ──► Spreader   uploads → shards at their holders → manifests
 *       ▲                                       │      ──► Reader     any segment from anywhere
 *       └── settle, changed, lost, prune ───────┘      ──► Repairer   what is missing is made again
 *                                               │      ──► Sync       heartbeats, comparison
 *                        members ◄── GroupNet ──┘      ──► Shards, Manifests on disk
 * ```
 */
import { setMaxListeners } from 'node:events'
import { equalBytes, u32be } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import {
  BatchVerifier,
  checkManifest,
  claimed,
  isDurable,
  type Manifest,
  manifestStripe,
  segmentRootsOf
} from '../../../lib/codec/storage/manifest.ts'
import {
  encodeTombstone,
  type GroupList,
  groupFromJson,
  groupToJson,
  type Tombstone,
  tombstoneHolds
} from '../../../lib/codec/storage/members.ts'
import { treeRoot } from '../../../lib/codec/storage/merkle.ts'
import { defaultCode } from '../../../lib/codec/storage/rs.ts'
import { segmentWireBytes, shape } from '../../../lib/codec/storage/shape.ts'
import { type Code, stripeOf } from '../../../lib/codec/storage/shard-name.ts'
import type { SigningKey } from '../../../lib/crypto/ed25519.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import { type Clock, repeat } from '../../../lib/ports/clock.ts'
import type { KvStore } from '../../../lib/ports/kv.ts'
import type { StagedSegment } from '../core/file-store.ts'
import type { Tx } from '../core/tx.ts'
import type { SegmentLog } from '../disk/segment-log.ts'
import { Answers, LEAVES_PAGE } from './answers.ts'
import {
  BadShards,
  BatchSigner,
  type Context,
  type GroupStats,
  goodHolders,
  heldOf,
  ownPiece,
  Warnings
} from './context.ts'
import { Courier } from './courier.ts'
import { heldSectors, heldSegment } from './holding.ts'
import { Keeper } from './keeper.ts'
import { type Family, type KnownLeaves, Manifests, paddedLeaves, stripeDurable } from './manifests.ts'
import { Membership } from './members.ts'
import type { Piece } from './memory.ts'
import {
  DEFAULT_TIMES,
  type GroupCodec,
  type GroupFiles,
  type GroupHandler,
  type GroupNet,
  type GroupSegment,
  type GroupTimes,
  NOTHING,
  OP,
  type StripeState
} from './ports.ts'
import { Reader } from './reader.ts'
import { packedProof, Repairer } from './repair.ts'
import { Shards } from './shards.ts'
import { Spreader } from './spread.ts'
import { Sync } from './sync.ts'
import { decodeManifests, encodeStripeName } from './wire.ts'

export interface GroupOptions {
  key: SigningKey
  list: GroupList
  /** Of its own: see prefix-kv.ts. */
  kv: KvStore
  /** Where shards lie. */
  log: SegmentLog
  /** Where uploads wait. */
  staging: SegmentLog
  /** Roots that have segments in the staging log. */
  stagedRoots: () => AsyncIterable<Uint8Array>
  clock: Clock
  logger: Logger
  net: GroupNet
  codec: GroupCodec
  files: GroupFiles
  times?: Partial<GroupTimes>
  /** How members reach this node. */
  url?: () => string
}

const LIST_KEY = Uint8Array.of(0x67) // 'g'
const SWEEP_MS = 600_000

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** Manifests wait so long to be signed together, and while more is on its way. */
const SIGN_MS = 40
const SIGN_BUSY_MS = 150

export class CodingGroup {
  readonly #o: GroupOptions
  readonly #c: Mutable<Context>
  readonly #abort = new AbortController()
  readonly #reader: Reader
  readonly #repairer: Repairer
  readonly #spreader: Spreader
  readonly #sync: Sync
  readonly #closers: (() => Promise<void>)[] = []
  #scrub: { running: boolean; stripes: number; wrong: number; doneAtMs: number } = {
    running: false,
    stripes: 0,
    wrong: 0,
    doneAtMs: 0
  }
  readonly #keeper: Keeper
  readonly #answers: Answers
  /** Trees being made from manifests, by file: all who want one wait for the same. */
  readonly #folding = new Map<string, Promise<KnownLeaves | undefined>>()
  /** Manifests made here in this moment. */
  #made: { list: Manifest[]; done: Promise<void> } | undefined

  private constructor(o: GroupOptions, manifests: Manifests, list: GroupList) {
    this.#o = o
    // Every request in flight listens to it.
    setMaxListeners(0, this.#abort.signal)
    const times = { ...DEFAULT_TIMES, ...o.times }
    const id = o.key.publicKey
    const stats: GroupStats = {
      spreadBytes: 0,
      repairedBytes: 0,
      repairedShards: 0,
      repairReadBytes: 0,
      repairSentBytes: 0,
      remoteReads: 0,
      degradedReads: 0,
      hedgedReads: 0,
      checkedStripes: 0,
      wrongParity: 0,
      badShards: 0,
      wrongClaims: 0,
      filesBelow: 0,
      dropped: 0,
      refusedShards: 0,
      directShards: 0
    }
    this.#c = {
      key: o.key,
      id,
      clock: o.clock,
      logger: o.logger,
      times,
      codec: o.codec,
      net: o.net,
      files: {
        ...o.files,
        lost: async root => {
          await o.files.lost(root)
          await this.#spreader.reopen(root)
        }
      },
      members: new Membership(list, id, o.clock, times),
      manifests,
      shards: new Shards(o.log, o.kv),
      staging: o.staging,
      courier: undefined as unknown as Courier,
      signer: new BatchSigner(o.key, o.clock),
      patientSigner: new BatchSigner(o.key, o.clock, () => (this.#c.courier.busy ? SIGN_BUSY_MS : SIGN_MS)),
      verifier: new BatchVerifier(),
      bad: new BadShards(o.clock, 30_000),
      stats,
      warnings: new Warnings(o.clock),
      stop: this.#abort.signal,
      take: list => this.#takeOwn(list)
    }
    this.#c.courier = new Courier(this.#c)
    this.#keeper = new Keeper(this.#c, (tx, index) => this.read(tx, index))
    this.#reader = new Reader(this.#c)
    this.#repairer = new Repairer(this.#c, this.#reader)
    this.#spreader = new Spreader(this.#c)
    this.#answers = new Answers(this.#c, this.#repairer, {
      touched: root => this.#spreader.touched(root),
      receive: list => this.#receive(list),
      bury: stone => this.bury(stone),
      leaves: root => this.#leavesOf(root),
      url: o.url ?? (() => '')
    })
    this.#sync = new Sync(this.#c, o.url ?? (() => ''))
    this.#sync.onList = json => this.#newList(json)
    this.#sync.onTombstone = async t => void (await this.bury(t))
    this.#sync.onManifests = list => this.#receive(list)
    this.#reader.onManifests = body => this.#receive(decodeManifests(body))
    this.#reader.onBad = (m, j, holder) => {
      void this.#repairer.tellHolder(m, j, holder)
      this.#repairer.note(m)
    }
    this.#reader.onWrong = m => {
      this.#c.logger.error('shards of a stripe do not fit its file', { root: toHex(m.root), stripe: m.stripe })
    }
    this.#repairer.onChecked = m => this.#tellChecked(m)
    this.#repairer.treeOf = root => this.#leavesOf(root)
  }

  /** @throws {ZgError} ERR_CONFIG when this node is not in the list. */
  static async open(o: GroupOptions): Promise<CodingGroup> {
    const kept = await o.kv.get(LIST_KEY)
    let list = o.list
    if (kept !== undefined) {
      const other = groupFromJson(new TextDecoder().decode(kept))
      if (equalBytes(other.group, list.group) && other.version > list.version) list = other
    }
    if (!list.members.some(m => equalBytes(m.id, o.key.publicKey))) {
      throw new ZgError('ERR_CONFIG', `this node, ${toHex(o.key.publicKey)}, is not in the list of its group`, {
        hint: "add it with 'zg-store group make'"
      })
    }
    return new CodingGroup(o, await Manifests.open(o.kv), list)
  }

  /** Begins to talk and to work. */
  start(): void {
    for (const m of this.#c.members.members) if (m.peer !== '') this.#c.net.address(m.id, m.peer)
    this.#sync.start()
    const tick = repeat(this.#c.clock, this.#c.times.tickMs, async () => this.#repairer.tick())
    const look = repeat(this.#c.clock, Math.min(SWEEP_MS, this.#c.times.dropMs), () => this.#lookThrough())
    this.#closers.push(tick, look)
    void this.#resume().catch(err => {
      if (!this.#abort.signal.aborted) this.#c.logger.warn('cannot take up where it was', { error: messageOf(err) })
    })
  }

  async close(): Promise<void> {
    this.#abort.abort(new ZgError('ERR_STOPPED', 'the node stops'))
    await this.#sync.close()
    for (const close of this.#closers) await close()
  }

  get id(): Uint8Array {
    return this.#c.id
  }

  get stats(): GroupStats {
    return this.#c.stats
  }

  // ---- what FileStore asks -------------------------------------------------------------------------------------------------

  get staging(): SegmentLog {
    return this.#o.staging
  }

  get hasRoom(): boolean {
    return this.#spreader.hasRoom
  }

  room(): Promise<void> {
    return this.#spreader.room()
  }

  /** Segments have been synced in the staging log. */
  staged(tx: Pick<Tx, 'root' | 'size' | 'seq'>, segments: readonly StagedSegment[]): Promise<void> {
    this.#reader.servedMs = this.#c.clock.monotonic()
    return this.#spreader.staged(tx, segments)
  }

  /** Segments that need not be sent: staged here or in a durable stripe. */
  async present(root: Uint8Array): Promise<Iterable<number>> {
    const out = new Set<number>()
    for await (const [i] of this.#o.staging.locations(root)) out.add(i)
    for (const f of await this.#c.manifests.families(root)) {
      for (let t = 0; t < f.stripes; t++) {
        if (!stripeDurable(f, t) || (await this.#belowK(f, t))) continue
        const s = stripeOf(f.size, f, t)
        for (let i = 0; i < s.segments; i++) out.add(s.firstSegment + i)
      }
    }
    return out
  }

  /**
   * A segment from wherever it is, checked, with its proof; undefined when it cannot be had.
   * @param into - memory for it; the data may lie in it or not.
   */
  async read(tx: Pick<Tx, 'root' | 'size'>, index: number, into?: Uint8Array): Promise<GroupSegment | undefined> {
    if (this.#spreader.isStaged(tx.root)) {
      const staged = await this.#o.staging.read(tx.root, index, into)
      if (staged !== undefined) return { data: staged.data, leaf: staged.leaf, proof: staged.proof }
    }
    const own = await this.#o.log.read(tx.root, index, into)
    if (own !== undefined) {
      this.#reader.servedMs = this.#c.clock.monotonic()
      return { data: own.data, leaf: own.leaf, proof: own.proof }
    }
    const known = await this.#leavesOf(tx.root)
    const at = 32 * index
    const leaf = known !== undefined && at < known.leaves.length ? known.leaves.subarray(at, at + 32) : undefined
    const found = await this.#reader.segment(tx.root, index, leaf)
    if (found === undefined || known === undefined) return undefined
    return { data: found.data, leaf: found.leaf, proof: packedProof(known.tree(), index) }
  }

  /** Roots of all padded segments, 32 bytes each. */
  async leaves(tx: Pick<Tx, 'root' | 'size'>): Promise<Uint8Array | undefined> {
    const known = await this.#leavesOf(tx.root)
    if (known === undefined) return undefined
    return paddedLeaves(known.size, known.leaves)
  }

  /** True when enough acknowledgements of every stripe were checked here and the tree folds to the root. */
  async complete(tx: Pick<Tx, 'root' | 'size'>): Promise<boolean> {
    const family = await this.#completeFamily(tx.root)
    if (family === undefined) return false
    const known = await this.#leavesOf(tx.root)
    if (known === undefined) return false
    const [a, b] = [shape(tx.size), shape(known.size)]
    if (a.padded !== b.padded || a.size === b.size) return a.padded === b.padded
    return a.chunks >= b.chunks || this.#zeroBehind(tx, known.size)
  }

  /** Drops what is here of a file that the group has deleted: staged bytes and shards. */
  async #forget(root: Uint8Array): Promise<number> {
    await this.#spreader.forget(root)
    let dropped = 0
    for await (const m of this.#c.manifests.ofRoot(root)) dropped += await this.#dropShards(m)
    this.#reader.forget(root)
    this.#repairer.forget(root)
    return dropped
  }

  /** A record of the shard log was found damaged. @returns false when it is none of a shard. */
  async rotten(root: Uint8Array, index: number): Promise<boolean> {
    const shard = await this.#c.shards.at(root, index)
    if (shard === undefined) return false
    const m = await this.#c.manifests.get(shard.root, shard, shard.stripe)
    if (m !== undefined) await this.#repairer.ownMissing(m)
    return true
  }

  // ---- messages of members -------------------------------------------------------------------------------------------------

  readonly handle: GroupHandler = (from, op, packet) => this.#answers.handle(from, op, packet)

  // ---- manifests --------------------------------------------------------------------------------------------------------------

  /** Manifests of others: signatures, membership and the file's own tree decide what is taken. */
  async #receive(list: Manifest[]): Promise<void> {
    const good: Manifest[] = []
    for (const m of list) {
      const checked = checkManifest(m, id => this.#c.members.isMember(id), this.#c.verifier)
      if (typeof checked === 'string') {
        this.#c.logger.warn('manifest refused', { root: toHex(m.root), stripe: m.stripe, why: checked })
        continue
      }
      if (claimed(checked) < claimed(m)) this.#c.stats.wrongClaims += claimed(m) - claimed(checked)
      if (await this.#contradicts(checked)) {
        this.#c.logger.warn('manifest refused', {
          root: toHex(m.root),
          stripe: m.stripe,
          signer: toHex(m.signer),
          why: 'not the segments of the file'
        })
        continue
      }
      if (await this.#superseded(checked)) continue
      good.push(checked)
    }
    await this.#take(good, 'others')
  }

  /** True when its data is not that of the file, as far as the file's tree is known here. */
  async #contradicts(m: Manifest): Promise<boolean> {
    const known = await this.#c.manifests.leaves(m.root)
    if (known === undefined) return false
    const s = manifestStripe(m)
    return segmentRootsOf(m).some((leaf, i) => {
      const at = 32 * (s.firstSegment + i)
      const is = known.leaves.subarray(at, at + 32)
      return is.length === 32 && !equalBytes(is, leaf)
    })
  }

  /** True when the file was coded again, and all shards of the new code are acknowledged. */
  async #superseded(m: Manifest): Promise<boolean> {
    const families = await this.#c.manifests.families(m.root)
    const mine = families.find(f => f.k === m.k && f.m === m.m)
    return families.some(f => f !== mine && f.whole === f.stripes && f.epoch > Math.max(m.epoch, mine?.epoch ?? 0))
  }

  /** What was signed together is taken together. */
  #takeOwn(list: readonly Manifest[]): Promise<void> {
    let next = this.#made
    if (next === undefined) {
      const all: Manifest[] = []
      const done = new Promise<void>(resolve => this.#c.clock.after(0, resolve)).then(() => {
        this.#made = undefined
        return this.#take(all, 'own')
      })
      next = { list: all, done }
      this.#made = next
    }
    next.list.push(...list)
    return next.done
  }

  async #take(list: readonly Manifest[], from: 'own' | 'others'): Promise<void> {
    if (list.length === 0) return
    const { changed, merged } = await this.#c.manifests.accept(list)
    if (changed.length === 0) return
    const roots = new Map<string, Uint8Array>()
    for (const m of changed) {
      roots.set(toHex(m.root), m.root)
      if (!isDurable(m)) continue
      const s = manifestStripe(m)
      await this.#c.files.gained(m.root, s.firstSegment, s.segments)
    }
    for (const root of roots.values()) {
      await this.#spreader.touched(root)
      if ((await this.#completeFamily(root)) !== undefined) await this.#c.files.settle(root)
    }
    for (const m of changed) {
      await this.#repairer.ownMissing(m)
      this.#repairer.note(m)
      await this.#repairer.check(m)
    }
    // Whoever made a manifest tells everybody; what became something else by merging is news, and the rest is found by comparison.
    this.#sync.publish(from === 'own' ? changed : merged)
  }

  async #completeFamily(root: Uint8Array): Promise<Family | undefined> {
    return (await this.#c.manifests.families(root)).find(f => f.durable === f.stripes)
  }

  async #belowK(f: Family, stripe: number): Promise<boolean> {
    const m = await this.#c.manifests.get(f.root, f, stripe)
    if (m === undefined) return true
    return goodHolders(this.#c, m).filter(h => h !== undefined).length < manifestStripe(m).need
  }

  /** Segment roots of a file from its manifests, once they fold to its root. */
  async #leavesOf(root: Uint8Array): Promise<KnownLeaves | undefined> {
    const kept = await this.#c.manifests.leaves(root)
    if (kept !== undefined) return kept
    const name = toHex(root)
    let making = this.#folding.get(name)
    if (making === undefined) {
      making = this.#foldLeaves(root).finally(() => this.#folding.delete(name))
      this.#folding.set(name, making)
      void making.then(
        known => known !== undefined && this.#repairer.treeKnown(root),
        () => {}
      )
    }
    return making
  }

  async #foldLeaves(root: Uint8Array): Promise<KnownLeaves | undefined> {
    for (const f of await this.#c.manifests.families(root)) {
      if (f.durable < f.stripes) continue
      const leaves = new Uint8Array(32 * shape(f.size).segments)
      for await (const m of this.#c.manifests.family(root, f)) {
        const at = manifestStripe(m).firstSegment
        for (const [i, leaf] of segmentRootsOf(m).entries()) leaves.set(leaf, 32 * (at + i))
      }
      if (this.#folds(root, f.size, leaves)) {
        return this.#c.manifests.keepLeaves(root, f.size, leaves)
      }
      const found = await this.#askLeaves(root, f.size)
      if (found === undefined) continue
      const known = await this.#c.manifests.keepLeaves(root, f.size, found)
      // Whoever signed those that do not fit has lied: they go, the true ones come again by comparison.
      for await (const m of this.#c.manifests.family(root, f)) {
        if (!(await this.#contradicts(m))) continue
        this.#c.logger.error('manifest of another file dropped', { root: toHex(root), signer: toHex(m.signer) })
        await this.#c.manifests.forget(root, x => x.stripe === m.stripe && x.k === m.k && x.m === m.m)
      }
      return known
    }
    return undefined
  }

  #folds(root: Uint8Array, size: number, leaves: Uint8Array): boolean {
    return equalBytes(treeRoot(paddedLeaves(size, leaves)), root)
  }

  async #askLeaves(root: Uint8Array, size: number): Promise<Uint8Array | undefined> {
    for (const member of this.#c.members.live()) {
      if (equalBytes(member.id, this.#c.id)) continue
      const leaves = new Uint8Array(32 * shape(size).segments)
      try {
        for (let at = 0; at < leaves.length; at += 32 * LEAVES_PAGE) {
          const head = new Uint8Array(36)
          head.set(root)
          head.set(u32be(at / 32), 32)
          const packet = { head, body: NOTHING }
          const answer = await this.#c.net.ask(member.id, OP.leaves, packet, { timeoutMs: this.#c.times.requestMs })
          const part = answer.body.subarray(8)
          if (answer.head[0] !== 1 || at + part.length > leaves.length) break
          leaves.set(part, at)
        }
        if (this.#folds(root, size, leaves)) return leaves
      } catch {
        // The next one may know.
      }
    }
    return undefined
  }

  async #zeroBehind(tx: Pick<Tx, 'root' | 'size'>, size: number): Promise<boolean> {
    const [small, large] = [shape(tx.size), shape(size)]
    for (let i = small.segments - 1; i < large.segments; i++) {
      const found = await this.read({ root: tx.root, size }, i)
      if (found === undefined) return false
      const from = i < small.segments ? segmentWireBytes(small, i) : 0
      if (found.data.subarray(from).some(b => b !== 0)) return false
    }
    return true
  }

  async #tellChecked(m: Manifest): Promise<void> {
    await this.#spreader.touched(m.root)
    const packet = { head: encodeStripeName(m.root, m, m.stripe), body: NOTHING }
    // Staged bytes may lie at any entry node; only the one that signed is sure to have had them.
    if (equalBytes(m.signer, this.#c.id)) return
    await this.#c.net.ask(m.signer, OP.checked, packet, { timeoutMs: this.#c.times.requestMs }).catch(() => {})
  }

  // ---- list, tombstones ---------------------------------------------------------------------------------------------------------

  async #newList(json: string): Promise<void> {
    const list = groupFromJson(json)
    if (!this.#c.members.adopt(list)) return
    await this.#o.kv.batch([{ put: LIST_KEY, value: new TextEncoder().encode(groupToJson(list)) }], { sync: true })
    for (const m of list.members) if (m.peer !== '') this.#c.net.address(m.id, m.peer)
    this.#c.logger.info('new list of the group', { version: list.version, members: list.members.length })
    this.#repairer.sweep()
  }

  /** Takes a newer list from an operator. @throws {ZgError} ERR_BAD_INPUT. */
  async adopt(json: string): Promise<boolean> {
    const before = this.#c.members.list.version
    await this.#newList(json)
    return this.#c.members.list.version > before
  }

  /** A file is deleted from the group for good. @returns false when it is not signed by the group or already known. */
  async bury(stone: Tombstone): Promise<boolean> {
    if (!tombstoneHolds(stone, this.#c.members.list.group)) return false
    if (!(await this.#c.manifests.bury(stone))) return false
    await this.#delete(stone.root)
    const packet = { head: NOTHING, body: encodeTombstone(stone) }
    for (const m of this.#c.members.others()) {
      void this.#c.net.ask(m.id, OP.tombstone, packet, { timeoutMs: this.#c.times.requestMs }).catch(() => {})
    }
    return true
  }

  /** All that is here of a file with a tombstone. Cut off anywhere, the next start does it again. */
  async #delete(root: Uint8Array): Promise<void> {
    await this.#forget(root)
    await this.#c.manifests.forget(root)
    await this.#c.files.prune(root)
    await this.#c.manifests.buried(root)
  }

  // ---- background ------------------------------------------------------------------------------------------------------------

  async #resume(): Promise<void> {
    for (const root of await this.#c.manifests.halfBuried()) await this.#delete(root)
    await this.#spreader.resume(this.#o.stagedRoots())
    for await (const m of this.#c.manifests.all()) {
      if (this.#abort.signal.aborted) return
      await this.#repairer.ownMissing(m)
      await this.#repairer.check(m)
      this.#repairer.note(m)
    }
    await this.#keeper.offerOwn()
  }

  /** Every so often: shards nobody asks for here any more, codes that do not fit the group. */
  async #lookThrough(): Promise<void> {
    if (this.#abort.signal.aborted) return
    this.#repairer.sweep()
    await this.#spreader.askChecked()
    await this.#keeper.offerOwn()
    await this.#keeper.recode()
  }

  async #dropShards(m: Manifest): Promise<number> {
    let n = 0
    for (let j = 0; j < m.shardRoots.length; j++) {
      const shard = heldOf(m, j)
      if (!(await this.#c.shards.has(shard))) continue
      await this.#c.shards.drop(shard)
      n++
    }
    return n
  }

  // ---- for people -------------------------------------------------------------------------------------------------------------

  /** Repairs now, a look like a partition or not. @returns stripes that wait. */
  repair(): number {
    this.#repairer.force()
    return this.#repairer.pending
  }

  /** Reads every shard here again and has parity made again where this node is the first parity holder. */
  async scrub(): Promise<{ shards: number; damaged: number; stripes: number; sums_wrong: number }> {
    const c = this.#c
    let shards = 0
    let damaged = 0
    let stripes = 0
    let sums = 0
    for await (const shard of c.shards.all()) {
      if (c.stop.aborted) break
      shards++
      if ((await c.shards.read(shard)) !== undefined) continue
      damaged++
      const m = await c.manifests.get(shard.root, shard, shard.stripe)
      if (m !== undefined) await this.#repairer.ownMissing(m)
    }
    for await (const m of c.manifests.all()) {
      if (c.stop.aborted) break
      const s = manifestStripe(m)
      const first = m.claims[s.need]?.holder
      if (first === undefined || !equalBytes(first, c.id)) continue
      stripes++
      if ((await this.#repairer.sumsHold(m)) === false) sums++
      await this.#repairer.recheck(m)
    }
    this.#scrub = { running: false, stripes, wrong: damaged + sums, doneAtMs: c.clock.now() }
    return { shards, damaged, stripes, sums_wrong: sums }
  }

  /** How each stripe of a file stands. */
  async stripes(root: Uint8Array, limit = 10_000): Promise<StripeState[]> {
    const out: StripeState[] = []
    const best = await this.#c.manifests.best(root)
    if (best === undefined) return out
    for await (const m of this.#c.manifests.family(root, best, 0, limit)) {
      const s = manifestStripe(m)
      out.push({
        stripe: m.stripe,
        code: `${m.k}+${m.m}`,
        epoch: m.epoch,
        survivors: goodHolders(this.#c, m).filter(h => h !== undefined).length,
        need: s.need,
        count: s.count,
        acknowledged: claimed(m),
        checked: s.count === s.need || (await this.#c.manifests.isChecked(m)),
        holders: m.claims.map(x => (x === undefined ? null : toHex(x.holder)))
      })
    }
    return out
  }

  /** Manifests of a file under the code it is read by. */
  async *manifestsOf(root: Uint8Array): AsyncGenerator<Manifest> {
    const best = await this.#c.manifests.best(root)
    if (best !== undefined) yield* this.#c.manifests.family(root, best)
  }

  /** Shards of full stripes that lie here, each with its memory; undefined for those that do not. */
  async ownShards(
    root: Uint8Array,
    size: number,
    code: Code,
    asked: readonly { stripe: number; j: number }[]
  ): Promise<(Piece | undefined)[]> {
    const found = await Promise.all(
      asked.map(async ({ stripe, j }) => {
        const s = stripeOf(size, code, stripe)
        if (!s.full) return undefined
        // A data shard lies under the root of its file; the place of a parity shard follows from its content.
        const m = j < s.need ? undefined : await this.#c.manifests.get(root, code, stripe)
        const shardRoot = m === undefined ? NOTHING : m.shardRoots[j]!
        if (j >= s.need && m?.size !== size) return undefined
        const piece = await ownPiece(this.#c, { root, size, stripe, k: code.k, m: code.m, j, shardRoot })
        if (piece !== undefined) this.#c.stats.directShards++
        return piece
      })
    )
    // Whoever has nothing to give yet serves nobody: its repair need not stand back.
    if (found.some(x => x !== undefined)) this.#reader.servedMs = this.#c.clock.monotonic()
    return found
  }

  /** Which sectors of `count` segments of a file lie on this node's own disk: a bit each, MASK_BYTES a segment. */
  async heldSectors(root: Uint8Array, first: number, count: number): Promise<Uint8Array[]> {
    const out: Uint8Array[] = []
    for (let i = first; i < first + count; i++) out.push(await heldSectors(this.#c, root, i))
    return out
  }

  /** What of a segment lies on this node's own disk. */
  heldSegment(root: Uint8Array, index: number): Promise<{ mask: Uint8Array; data: Uint8Array }> {
    return heldSegment(this.#c, root, index)
  }

  /** The group as this node sees it. */
  describe(): Record<string, unknown> {
    const c = this.#c
    const { group, version } = c.members.list
    const { stats } = c
    const traffic = stats.repairReadBytes + stats.repairSentBytes
    return {
      id: toHex(c.id),
      group: toHex(group),
      version,
      digest: toHex(c.manifests.digest()),
      code: `${defaultCode(c.members.members.length).k}+${defaultCode(c.members.members.length).m}`,
      members: c.members.members.map(m => ({
        id: toHex(m.id),
        peer: m.peer,
        ...(m.zone === undefined ? {} : { zone: m.zone }),
        health: c.members.health(m.id)
      })),
      repairPending: this.#repairer.pending,
      parityUnchecked: this.#repairer.unchecked,
      stagedFiles: this.#spreader.files,
      stagedSegments: this.#spreader.waiting,
      alarms: Object.fromEntries(this.#repairer.alarms),
      stats: { ...stats },
      trafficPerLostByte: stats.repairedBytes === 0 ? null : traffic / stats.repairedBytes,
      scrub: { ...this.#scrub }
    }
  }

  /** Forgets stripes kept for readers. */
  dropCaches(): void {
    this.#reader.dropCaches()
  }

  get pendingRepairs(): number {
    return this.#repairer.pending
  }

  get uncheckedParity(): number {
    return this.#repairer.unchecked
  }

  get stagedFiles(): number {
    return this.#spreader.files
  }

  get membership(): Membership {
    return this.#c.members
  }
}
