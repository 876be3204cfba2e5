/**
 * Keeps every stripe whole: finds shards whose holders are lost, lack them or never acknowledged, makes them again and hands them on.
 *
 * - The best ranked live holder of a stripe acts; what two did at once merges by name. A live member that lacks a shard of its own makes it
 *   again itself. Fewest survivors first; k shards read for what is missing of a stripe, together.
 * - More than m members lost within the time of "lost" is taken for a partition: only stripes with k or k + 1 survivors are repaired
 *   until an operator says so or a day has passed.
 * - While clients are served, repair takes a part of the time (30 % unless set); an operator may set a rate (`--repair-rate`).
 * - Below k good shards for the time of "lost", a file is not final any more: segments are accepted again.
 * - Parity is made again once after the write by its first holder, and at each scrub: numbers and signatures prove neither.
 */
import { concat, equalBytes, u32be } from '../../../lib/base/bytes.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import { type Claim, type Manifest, manifestStripe } from '../../../lib/codec/storage/manifest.ts'
import type { MerkleTree } from '../../../lib/codec/storage/merkle.ts'
import { ranked, reassign } from '../../../lib/codec/storage/placement.ts'
import { SECTOR_BYTES, SEGMENT_BYTES } from '../../../lib/codec/storage/shape.ts'
import { cutShards } from '../../../lib/codec/storage/shard-name.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import type { PackedProof } from '../disk/record.ts'
import {
  allShards,
  ask,
  bytesOf,
  type Context,
  goodHolders,
  hand,
  heldOf,
  releaseAll,
  rootsOf,
  sealed
} from './context.ts'
import { block, type Piece } from './memory.ts'
import { OP } from './ports.ts'
import type { Reader } from './reader.ts'
import { type Job, RepairQueue, stripeKey } from './repair-queue.ts'
import { encodeHeld, type HeldShard } from './shards.ts'
import { encodeList, encodeStripeName } from './wire.ts'

/** What shall be done about a stripe. */
export interface RepairPlan {
  /** Shards to make or move, and to whom. */
  readonly moves: readonly { j: number; to: Uint8Array }[]
  /** Good shards. */
  readonly survivors: number
  /** Who shall do it; undefined: nobody can. */
  readonly actor: Uint8Array | undefined
}

/** Stripes whose parity is to be made again, and those below k, that are kept in mind. */
const NOTED = 100_000
/** Stripes at a time: 30 MiB. While clients are served most of these rest, and the others still fill messages to each holder. */
const PARALLEL = 20
const CHECK_PARALLEL = 8
/** Stripes that may wait at one member while clients write: 2 GiB of a group of six. */
const CHECKS_WAITING = 350
const BUSY_MS = 1_000
/** Longer than other subsets of a stripe's shards are not tried again. */
const RETRY_MAX_MS = 60_000

export class Repairer {
  readonly #c: Context
  readonly #reader: Reader
  readonly #queue = new RepairQueue()
  readonly #checks = new Map<string, Manifest>()
  readonly #below = new Map<string, number>()
  readonly #alarms = new Map<string, string>()
  #running = 0
  #checking = 0
  #lostSet = ''
  #version = 0
  #sweeping: Promise<void> | undefined
  #sweepAgain = false
  #forced = false
  #passes = 0
  #writtenMs = -1e9
  /** When the rate allows the next stripe. */
  #freeAtMs = 0

  constructor(c: Context, reader: Reader) {
    this.#c = c
    this.#reader = reader
  }

  get pending(): number {
    return this.#queue.size
  }

  get unchecked(): number {
    return this.#checks.size
  }

  /** What an operator should know, by file. */
  get alarms(): ReadonlyMap<string, string> {
    return this.#alarms
  }

  /** Finished walks over all stripes. */
  get passes(): number {
    return this.#passes
  }

  /** Repairs everything now, whatever looks like a partition. */
  force(): void {
    this.#forced = true
    this.#queue.due(0, true)
    this.sweep()
  }

  /** Shards are being written here: what can wait waits. */
  written(): void {
    this.#writtenMs = this.#c.clock.monotonic()
  }

  /** A manifest came or something is wrong with its shards. */
  note(m: Manifest): void {
    const plan = this.plan(m)
    this.#watch(m, plan)
    if (plan.moves.length === 0) this.#queue.delete(stripeKey(m))
    else this.#queue.put(m, plan.survivors)
  }

  /** Its parity is to be made again here. */
  async check(m: Manifest): Promise<void> {
    const s = manifestStripe(m)
    const first = m.claims[s.need]?.holder
    if (first === undefined || !equalBytes(first, this.#c.id)) return
    if (this.#checks.size < NOTED && !(await this.#c.manifests.isChecked(m))) this.#checks.set(stripeKey(m), m)
  }

  /** Its parity is to be made again here, whatever was found before. */
  async recheck(m: Manifest): Promise<void> {
    await this.#c.manifests.unmarkChecked(m)
    await this.check(m)
  }

  forget(root: Uint8Array): void {
    this.#queue.forget(root)
    const prefix = toHex(root)
    for (const map of [this.#checks, this.#below, this.#alarms]) {
      for (const key of map.keys()) if (key.startsWith(prefix)) map.delete(key)
    }
  }

  /** What is to be done about a stripe, as this node sees the group. */
  plan(m: Manifest): RepairPlan {
    const c = this.#c
    const good = goodHolders(c, m)
    const survivors = good.filter(h => h !== undefined).length
    const holds = (id: Uint8Array): boolean => good.some(h => h !== undefined && equalBytes(h, id))
    // A suspected member keeps what it has and gets nothing new: most absences are restarts.
    const eligible = c.members.notLost().filter(x => c.members.health(x.id) === 'live' || holds(x.id))
    const order = ranked(eligible, m.root, m.stripe)
    const target = reassign(good, order)
    const moves: { j: number; to: Uint8Array }[] = []
    for (const [j, to] of target.entries()) {
      if (to === undefined) continue
      const now = good[j]
      if (now !== undefined && (equalBytes(now, to) || survivors < m.claims.length)) continue
      // Whoever is only restarting keeps his place until he is lost; only one that lacks the shard gets it again.
      const claim = m.claims[j]
      const away =
        claim !== undefined && c.members.isMember(claim.holder) && c.members.health(claim.holder) === 'suspected'
      if (now === undefined && away && !c.bad.has(m, j, claim.holder)) continue
      moves.push({ j, to })
    }
    const own = moves.filter(
      x => equalBytes(x.to, c.id) && m.claims[x.j] !== undefined && equalBytes(m.claims[x.j]!.holder, c.id)
    )
    if (own.length > 0) return { moves: own, survivors, actor: c.id }
    const actor = order.find(x => holds(x.id) && c.members.health(x.id) === 'live')
    return { moves, survivors, actor: actor?.id }
  }

  /** Looks around: called every tick. */
  tick(): void {
    const { lost } = this.#c.members.losses()
    const set = lost.join(',')
    const { version } = this.#c.members.list
    if (set !== this.#lostSet || version !== this.#version) {
      if (set !== this.#lostSet) this.#c.logger.warn('members lost', { count: lost.length, members: set })
      this.#lostSet = set
      this.#version = version
      this.sweep()
    }
    this.#belowLong()
    this.#queue.due(this.#c.clock.monotonic())
    for (const root of this.#queue.treeless()) void this.treeOf(root).catch(() => {})
    this.#pump()
  }

  /** Walks over all manifests. One walk at a time; another one follows when asked meanwhile. */
  sweep(): void {
    if (this.#sweeping !== undefined) {
      this.#sweepAgain = true
      return
    }
    this.#sweeping = this.#walk().then(
      () => {
        this.#sweeping = undefined
        this.#passes++
        if (this.#sweepAgain) {
          this.#sweepAgain = false
          this.sweep()
        } else this.#pump()
      },
      err => {
        this.#sweeping = undefined
        if (!this.#c.stop.aborted) this.#c.logger.warn('cannot look through the manifests', { error: messageOf(err) })
      }
    )
  }

  async #walk(): Promise<void> {
    let n = 0
    for await (const m of this.#c.manifests.all()) {
      if (this.#c.stop.aborted) return
      if (!(await this.ownMissing(m))) this.note(m)
      if (++n % 256 === 0) await this.#c.clock.sleep(1, this.#c.stop).catch(() => {})
    }
  }

  /** Own shards that the log does not have: after a wipe, or a found rot. True when there is one. */
  async ownMissing(m: Manifest): Promise<boolean> {
    let missing = false
    for (const [j, claim] of m.claims.entries()) {
      if (claim === undefined || !equalBytes(claim.holder, this.#c.id)) continue
      const shard = heldOf(m, j)
      if (await this.#c.shards.has(shard)) {
        await this.#c.shards.remember(shard)
        continue
      }
      this.#c.bad.mark(m, j, this.#c.id)
      missing = true
    }
    if (missing) this.note(m)
    return missing
  }

  #watch(m: Manifest, plan: RepairPlan): void {
    const key = stripeKey(m)
    if (plan.survivors >= manifestStripe(m).need) {
      this.#below.delete(key)
      return
    }
    if (!this.#below.has(key) && this.#below.size < NOTED) this.#below.set(key, this.#c.clock.monotonic())
  }

  /** Final is not for ever. */
  #belowLong(): void {
    const nowMs = this.#c.clock.monotonic()
    for (const [key, sinceMs] of this.#below) {
      if (nowMs - sinceMs < this.#c.times.lostMs) continue
      this.#below.set(key, nowMs)
      const { root, code, stripe } = parseName(key)
      void this.#c.manifests.get(root, code, stripe).then(async m => {
        if (m === undefined || this.plan(m).survivors >= manifestStripe(m).need) return
        const best = await this.#c.manifests.best(root)
        if (best === undefined || best.k !== code.k || best.m !== code.m) return
        this.#alarm(
          root,
          `stripe ${stripe} has fewer than ${manifestStripe(m).need} good shards; upload the file again`
        )
        this.#c.stats.filesBelow++
        await this.#c.files.lost(root)
      })
    }
  }

  #alarm(root: Uint8Array, what: string): void {
    const key = toHex(root)
    if (this.#alarms.get(key) === what) return
    if (this.#alarms.size < 10_000) this.#alarms.set(key, what)
    this.#c.logger.error('file in danger', { root: key, what })
  }

  #pump(): void {
    if (this.#c.stop.aborted) return
    while (this.#running < PARALLEL) {
      const job = this.#queue.take()
      if (job === undefined) break
      this.#running++
      void this.#run(job).finally(() => {
        this.#running--
        if (!this.#c.stop.aborted) this.#pump()
      })
    }
    while (this.#checking < CHECK_PARALLEL && this.#checks.size > 0 && this.#mayCheck()) {
      const [key, m] = this.#checks.entries().next().value!
      this.#checks.delete(key)
      this.#checking++
      void this.#paced(() => this.#checkOne(m))
        .catch(err => {
          if (this.#c.stop.aborted) return
          this.#c.logger.debug('parity not checked', { error: messageOf(err) })
          this.#c.clock.after(RETRY_MAX_MS, () => void this.check(m).catch(() => {}))
        })
        .finally(() => {
          this.#checking--
          if (!this.#c.stop.aborted) this.#pump()
        })
    }
  }

  /** Parity is computed again when nothing is being written, or when much waits for it: staged bytes are kept until then. */
  #mayCheck(): boolean {
    return this.#checks.size > CHECKS_WAITING || this.#c.clock.monotonic() - this.#writtenMs > BUSY_MS
  }

  async #run(job: Job): Promise<void> {
    const c = this.#c
    const inMs = (ms: number): number => c.clock.monotonic() + ms
    try {
      const m = await c.manifests.get(job.root, job, job.stripe)
      let plan = m === undefined ? undefined : this.plan(m)
      // What was found missing here counts as missing for a while only, and the job may have waited longer: the log knows.
      if (m !== undefined && plan?.moves.length === 0 && (await this.ownMissing(m))) plan = this.plan(m)
      if (m === undefined || plan === undefined || plan.moves.length === 0) {
        this.#queue.delete(job.key)
        return
      }
      const mine = plan.actor !== undefined && equalBytes(plan.actor, c.id)
      if (!mine || this.#partitioned(m, plan) || plan.survivors < manifestStripe(m).need) {
        this.#queue.rest(job, inMs(c.times.suspectMs))
        return
      }
      if (await this.#treeless(m, plan)) {
        this.#queue.untilTree(job)
        return
      }
      await this.#paced(async () => {
        await this.#allowed(m, plan)
        await this.#repair(m, plan)
      })
      this.#queue.delete(job.key)
      const now = await c.manifests.get(job.root, job, job.stripe)
      if (now === undefined || this.plan(now).moves.length === 0) return
      // Something of it is left to do, or was not taken: a little later.
      this.note(now)
      const left = this.#queue.taken(job.key)
      if (left !== undefined) this.#queue.rest(left, inMs(c.times.suspectMs))
    } catch (err) {
      if (c.stop.aborted) return
      job.fails++
      this.#queue.rest(job, inMs(Math.min(RETRY_MAX_MS, c.times.tickMs * 2 ** Math.min(job.fails, 6))))
      c.logger.debug('stripe not repaired yet', { stripe: job.key, error: messageOf(err) })
    }
  }

  /** True when segments are to be stored and their proofs cannot be had: manifests of the file still arrive. */
  async #treeless(m: Manifest, plan: RepairPlan): Promise<boolean> {
    const s = manifestStripe(m)
    if (!s.full || plan.moves.every(x => x.j >= s.need)) return false
    return (await this.#c.manifests.leaves(m.root)) === undefined && (await this.treeOf(m.root)) === undefined
  }

  /** Makes the tree of a file from its manifests, if all of them are here. */
  treeOf: (root: Uint8Array) => Promise<unknown> = async () => undefined

  /** The tree of a file is known now. */
  treeKnown(root: Uint8Array): void {
    this.#queue.treeKnown(root)
    this.#pump()
  }

  #partitioned(m: Manifest, plan: RepairPlan): boolean {
    if (this.#forced) return false
    const { lost, oldestMs } = this.#c.members.losses()
    const s = manifestStripe(m)
    if (lost.length <= s.count - s.need || oldestMs > this.#c.times.partitionMs) return false
    return plan.survivors > s.need + 1
  }

  /** A part of the time while clients are served; all of it when nobody is. */
  async #paced(fn: () => Promise<void>): Promise<void> {
    const begun = this.#c.clock.monotonic()
    await fn()
    const took = this.#c.clock.monotonic() - begun
    const busy = this.#c.clock.monotonic() - this.#reader.servedMs < BUSY_MS
    const { repairShare } = this.#c.times
    if (busy && repairShare < 1) await this.#c.clock.sleep(took * (1 / repairShare - 1), this.#c.stop).catch(() => {})
  }

  /** Waits until the operator's rate allows what this stripe will move: k shards read for those to be made, and each one sent. */
  async #allowed(m: Manifest, plan: RepairPlan): Promise<void> {
    const rate = this.#c.times.repairBytesPerSecond
    if (rate <= 0) return
    const s = manifestStripe(m)
    const nowMs = this.#c.clock.monotonic()
    const sent = plan.moves.filter(x => !equalBytes(x.to, this.#c.id)).length
    const startMs = Math.max(nowMs, this.#freeAtMs)
    this.#freeAtMs = startMs + ((s.need + sent) * s.sectors * SECTOR_BYTES * 1000) / rate
    if (startMs > nowMs) await this.#c.clock.sleep(startMs - nowMs, this.#c.stop)
  }

  async #repair(m: Manifest, plan: RepairPlan): Promise<void> {
    const c = this.#c
    const s = manifestStripe(m)
    const claims: (Claim | undefined)[] = [...m.claims]
    const good = goodHolders(c, m)
    const making = plan.moves.filter(x => good[x.j] === undefined)
    const data = new Map<number, Uint8Array>()
    for (const { j } of plan.moves) {
      if (good[j] === undefined) continue
      const d = (await this.#reader.shard(m, j))?.data
      if (d !== undefined) {
        data.set(j, d)
        if (!equalBytes(good[j]!, c.id)) c.stats.repairReadBytes += d.length
      }
    }
    if (making.length > 0) {
      const pieces = await this.#reader.gather(m)
      if (pieces === undefined) throw new Error(`fewer than ${s.need} shards can be had`)
      const shards = pieces.map(bytesOf)
      for (const [j, d] of shards.entries()) {
        const holder = m.claims[j]?.holder
        if (d !== undefined && holder !== undefined && !equalBytes(holder, c.id)) c.stats.repairReadBytes += d.length
      }
      const wanted = making.map(x => x.j)
      const made =
        s.need === 1
          ? wanted.map(() => shards.find(x => x !== undefined)!)
          : await c.codec.reconstruct(s.need, s.count - s.need, shards, wanted)
      const roots = await rootsOf(c, made, s.sectors)
      // A copy is the piece itself, and goes on to its holder.
      if (s.need > 1) releaseAll(pieces)
      for (const [i, j] of wanted.entries()) {
        if (equalBytes(roots[i]!, m.shardRoots[j]!)) data.set(j, made[i]!)
        else return this.#remakeParity(m)
      }
    }
    let handed = 0
    for (const { j, to } of plan.moves) {
      const d = data.get(j)
      if (d === undefined) continue
      const proof = s.full && j < s.need ? await segmentProof(c, m, s.firstSegment + j) : undefined
      if (s.full && j < s.need && proof === undefined) throw new Error('the tree of the file is not known yet')
      try {
        const before = m.claims[j]
        const own = before !== undefined && equalBytes(to, c.id) && equalBytes(before.holder, c.id)
        // Its word for this very shard is given already: what was lost is put back.
        if (own) await c.shards.put(heldOf(m, j), d, proof)
        else claims[j] = await hand(c, heldOf(m, j), to, d, { epoch: m.epoch, proof })
        handed++
        c.bad.clear(m, j, to)
        c.stats.repairedBytes += d.length
        c.stats.repairedShards++
        if (!equalBytes(to, c.id)) c.stats.repairSentBytes += d.length
      } catch (err) {
        c.logger.debug('member did not take a repaired shard', { member: toHex(to), error: messageOf(err) })
      }
    }
    if (handed === 0) throw new Error('nobody took the repaired shards')
    const same = claims.every((x, j) => {
      const before = m.claims[j]
      return x === before || (x !== undefined && before !== undefined && equalBytes(x.holder, before.holder))
    })
    // The holder is the one that was named: nothing in the manifest is to change.
    if (same) return
    const now = await c.manifests.get(m.root, m, m.stripe)
    const epoch = Math.max(now?.epoch ?? 0, m.epoch) + 1
    await c.take([await sealed(c, { ...m, epoch, claims })])
  }

  /** The first parity holder computes parity again: nothing else proves it. */
  async #checkOne(m: Manifest): Promise<void> {
    const c = this.#c
    const now = await c.manifests.get(m.root, m, m.stripe)
    if (now === undefined || (await c.manifests.isChecked(now))) return
    const s = manifestStripe(now)
    const pieces = await this.#dataShards(now)
    if (pieces === undefined) {
      // A data holder does not deliver: repair sees to it; then it is looked at again.
      c.clock.after(c.times.suspectMs, () => void this.check(now).catch(() => {}))
      return
    }
    const memory = block((s.count - s.need) * SEGMENT_BYTES)
    const data = pieces.map(x => x.data)
    const shards = await allShards(c, now, data, memory.bytes)
    const roots = s.need === 1 ? now.shardRoots.map(() => undefined) : await rootsOf(c, shards.slice(s.need), s.sectors)
    memory.release()
    releaseAll(pieces)
    const wrong =
      s.need === 1
        ? now.shardRoots.some(r => !equalBytes(r, now.shardRoots[0]!))
        : roots.some((r, i) => !equalBytes(r!, now.shardRoots[s.need + i]!))
    if (wrong) return this.#remakeParity(now)
    c.stats.checkedStripes++
    await c.manifests.markChecked([now])
    await this.onChecked(now)
  }

  /** Tells that a stripe's parity is right: whoever has its bytes staged may drop them. */
  onChecked: (m: Manifest) => Promise<void> = async () => {}

  /** Data shards whose segments were checked against the file's tree. */
  async #dataShards(m: Manifest): Promise<Piece[] | undefined> {
    const s = manifestStripe(m)
    const out = await Promise.all(Array.from({ length: s.need }, (_, j) => this.#reader.shard(m, j)))
    if (out.some(x => x === undefined)) {
      releaseAll(out)
      return undefined
    }
    const known = await this.#c.manifests.leaves(m.root)
    if (s.full && known !== undefined) {
      for (let j = 0; j < s.need; j++) {
        const at = 32 * (s.firstSegment + j)
        if (!equalBytes(known.leaves.subarray(at, at + 32), m.shardRoots[j]!)) return undefined
      }
    }
    return out as Piece[]
  }

  /** Parity does not follow from the data: all of it is made again from verified data, under the next epoch. */
  async #remakeParity(m: Manifest): Promise<void> {
    const c = this.#c
    const s = manifestStripe(m)
    c.stats.wrongParity++
    this.#alarm(m.root, `stripe ${m.stripe} had wrong parity, signed by ${toHex(m.signer)}; it is made again`)
    const segments = await this.#reader.stripe(m)
    if (segments === undefined) throw new Error('the data of a stripe with wrong parity cannot be had')
    const data = s.full ? [...segments] : cutShards(concat(...segments), s)
    const shards = await allShards(c, m, data)
    const roots = await rootsOf(c, shards, s.sectors)
    const claims: (Claim | undefined)[] = m.claims.map((x, j) =>
      equalBytes(roots[j]!, m.shardRoots[j]!) ? x : undefined
    )
    const core = { ...m, shardRoots: roots, claims, epoch: m.epoch + 1 }
    for (const [j, root] of roots.entries()) {
      if (equalBytes(root, m.shardRoots[j]!)) continue
      const to = m.claims[j]?.holder
      if (to === undefined || !c.members.isMember(to)) continue
      try {
        const proof = s.full && j < s.need ? await segmentProof(c, m, s.firstSegment + j) : undefined
        claims[j] = await hand(c, heldOf(core, j), to, shards[j]!, { epoch: core.epoch, proof })
        c.stats.repairedBytes += shards[j]!.length
        c.stats.repairedShards++
      } catch (err) {
        c.logger.debug('member did not take new parity', { member: toHex(to), error: messageOf(err) })
      }
    }
    await c.take([await sealed(c, { ...core, claims })])
  }

  /**
   * Compares the numbers that the holders publish for a stripe: they must form a code word (storage.md 11, Consistency of parity).
   * @returns undefined when somebody does not answer.
   */
  async sumsHold(m: Manifest): Promise<boolean | undefined> {
    const c = this.#c
    const s = manifestStripe(m)
    const rho = rhoOf(m)
    const sums = await Promise.all(
      m.claims.map(async (claim, j): Promise<Uint8Array | undefined> => {
        if (claim === undefined) return undefined
        const shard: HeldShard = heldOf(m, j)
        if (equalBytes(claim.holder, c.id)) {
          const data = await c.shards.read(shard)
          return data === undefined ? undefined : c.codec.sum(rho, data)
        }
        try {
          const { head } = await ask(c, claim.holder, OP.sum, encodeList([encodeHeld(shard), rho]))
          return head.length === 16 ? head : undefined
        } catch {
          return undefined
        }
      })
    )
    if (sums.some(x => x === undefined)) return undefined
    const all = sums as Uint8Array[]
    if (s.need === 1) return all.every(x => equalBytes(x, all[0]!))
    const parity = await c.codec.encode(s.need, s.count - s.need, all.slice(0, s.need))
    return parity.every((p, i) => equalBytes(p, all[s.need + i]!))
  }

  /** Tells a live member that it lacks a shard; it makes it again itself. */
  async tellHolder(m: Manifest, j: number, holder: Uint8Array): Promise<void> {
    if (equalBytes(holder, this.#c.id)) {
      await this.ownMissing(m)
      return
    }
    if (this.#c.members.health(holder) !== 'live') return
    await ask(this.#c, holder, OP.lacks, concat(encodeStripeName(m.root, m, m.stripe), Uint8Array.of(j))).catch(
      () => {}
    )
  }
}

/** ρ of a stripe: the first 16 bytes of keccak(root ‖ stripe ‖ k ‖ m ‖ all shard roots). */
export function rhoOf(m: Manifest): Uint8Array {
  return keccak256(m.root, u32be(m.stripe), Uint8Array.of(m.k, m.m), ...m.shardRoots).slice(0, 16)
}

/** The proof of a segment from the roots of all of them, where they are known. */
export async function segmentProof(c: Context, m: Manifest, index: number): Promise<PackedProof | undefined> {
  const known = await c.manifests.leaves(m.root)
  if (known === undefined) return undefined
  return packedProof(known.tree(), index)
}

export function packedProof(tree: MerkleTree, index: number): PackedProof {
  const { lemma, path } = tree.proof(index)
  return { siblings: path.length === 0 ? new Uint8Array(0) : concat(...lemma.slice(1, -1)), path }
}

function parseName(key: string) {
  const [root, k, m, stripe] = key.split('/')
  return { root: fromHex(root!), code: { k: Number(k), m: Number(m) }, stripe: Number(stripe) }
}
