/**
 * The way of an upload: staged segments → complete stripes → shards at their holders → a manifest with their acknowledgements.
 *
 * ```
 *   staged ──all segments of a stripe──► sending ──k + ⌈m/2⌉ acknowledged──► durable ──all, parity checked──► staged bytes go
 *                                           ▲  │ fewer: again, a little later, rank by rank
 *                                           └──┘
 * ```
 *
 * A segment was answered to its client once it was synced in the staging log here; a crash before spreading only delays. All of it
 * is found again from the staging log at start. Two entry nodes with one file send the same shards to the same holders, who have them
 * already; the manifests merge.
 */
import { concat, equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { type Manifest, manifestStripe } from '../../../lib/codec/storage/manifest.ts'
import { choose, ranked } from '../../../lib/codec/storage/placement.ts'
import { defaultCode } from '../../../lib/codec/storage/rs.ts'
import { SEGMENT_BYTES, segmentWireBytes, shape } from '../../../lib/codec/storage/shape.ts'
import { type Code, cutShards, durableAt, stripeCount, stripeOf } from '../../../lib/codec/storage/shard-name.ts'
import type { StagedSegment } from '../core/file-store.ts'
import type { SegmentUpload } from '../core/upload-checks.ts'
import type { PackedProof } from '../disk/record.ts'
import { lease } from '../node/buffers.ts'
import {
  allShards,
  ask,
  type Context,
  entrust,
  goodHolders,
  heldOf,
  Lanes,
  rootsOf,
  sealed,
  wordOf
} from './context.ts'
import type { Word } from './courier.ts'
import { stripeDurable } from './manifests.ts'
import { block } from './memory.ts'
import { OP } from './ports.ts'
import type { HeldShard } from './shards.ts'
import { encodeStripeName } from './wire.ts'

interface Upload {
  readonly root: Uint8Array
  readonly size: number
  readonly seq: number
  readonly segments: number
  readonly bits: Uint8Array
  count: number
  code: Code
  /** For each stripe: 0 waits for segments, 1 queued or being sent, 2 durable. */
  states: Uint8Array
  durable: number
  fails: number
  /** Parity of all stripes below was computed again. */
  checkedTo: number
  /** Bytes of a segment; of the last one at most. */
  readonly unit: number
  /** Segments that are still in memory: they need not be read. */
  readonly kept: Map<number, Kept>
}

interface Kept {
  readonly data: Uint8Array
  readonly leaf: Uint8Array
  readonly proof: PackedProof
  readonly memory: { release(): void }
}

type FileName = Pick<Upload, 'root' | 'size' | 'seq'>

/** Segments of a stripe as they are to be coded. */
export interface StripeData {
  /** Data shards. */
  readonly data: readonly Uint8Array[]
  /** Roots of its segments. */
  readonly leaves: readonly Uint8Array[]
  /** Proofs of its segments; of full stripes. */
  readonly proofs: readonly (PackedProof | undefined)[]
}

/** Signs the manifest of a stripe whose shards are with their holders. */
type Seal = () => Promise<Manifest>

/** Stripes being sent at a time, so that messages to holders fill up; each holds up to 3.5 MiB. */
const PARALLEL_STRIPES = 24
/**
 * Bytes staged and not yet spread, beyond which clients wait: a member takes in what the group takes, and what is spread next is still in
 * memory.
 */
const STAGED_BYTES = 32 * 1024 * 1024
/** Segments that stay in memory until they are spread, of all files. */
const KEPT_SEGMENTS = 128
const RETRY_MS = 500
/** Stripes of a file that are asked about in one round. */
const ASKED = 256
const RETRY_MAX_MS = 15_000

export class Spreader {
  readonly #c: Context
  readonly #uploads = new Map<string, Upload>()
  readonly #lanes = new Lanes(PARALLEL_STRIPES)
  #waiting = 0
  #waitingBytes = 0
  #kept = 0
  #waiters: (() => void)[] = []

  constructor(c: Context) {
    this.#c = c
  }

  /** Files with staged bytes here. */
  get files(): number {
    return this.#uploads.size
  }

  /** Segments that wait to be spread. */
  get waiting(): number {
    return this.#waiting
  }

  get hasRoom(): boolean {
    return this.#waitingBytes < STAGED_BYTES || this.#c.stop.aborted
  }

  /** Resolves when a further segment may be staged. */
  async room(): Promise<void> {
    while (!this.hasRoom) {
      await new Promise<void>(resolve => this.#waiters.push(resolve))
    }
  }

  isStaged(root: Uint8Array): boolean {
    return this.#uploads.has(toHex(root))
  }

  /** Segments are on stable storage in the staging log. */
  async staged(file: FileName, segments: readonly StagedSegment[]): Promise<void> {
    const up = await this.#upload(file)
    for (const { up: sent, leaf, proof } of segments) this.#have(up, sent.index, { ...sent, leaf, proof })
  }

  #have(up: Upload, index: number, s?: Pick<SegmentUpload, 'data' | 'memory'> & Pick<Kept, 'leaf' | 'proof'>): void {
    if (index >= up.segments || hasBit(up, index)) return
    up.bits[index >> 3]! |= 1 << (index & 7)
    up.count++
    this.#settled(up, -1)
    const t = Math.floor(index / up.code.k)
    if (s?.memory !== undefined && this.#kept < KEPT_SEGMENTS && up.states[t] === 0) {
      s.memory.share()
      this.#kept++
      up.kept.set(index, { data: s.data, leaf: s.leaf, proof: s.proof, memory: s.memory })
    }
    this.#look(up, t)
  }

  /** What is in memory of a segment, for whoever then releases it. */
  #unkeep(up: Upload, index: number): Kept | undefined {
    const found = up.kept.get(index)
    if (found === undefined) return undefined
    up.kept.delete(index)
    this.#kept--
    return found
  }

  #unkeepStripe(up: Upload, t: number): void {
    for (let i = t * up.code.k; i < (t + 1) * up.code.k; i++) this.#unkeep(up, i)?.memory.release()
  }

  #unkeepAll(up: Upload): void {
    for (const index of [...up.kept.keys()]) this.#unkeep(up, index)?.memory.release()
  }

  /** After a start: what the staging log holds. */
  async resume(roots: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const root of roots) {
      const txs = await this.#c.files.txs(root)
      const stone = await this.#c.manifests.tombstone(root)
      if (stone !== undefined && txs.every(t => t.status !== 'pending')) {
        await this.#c.staging.forget(root)
        continue
      }
      let size: number | undefined
      for await (const [index] of this.#c.staging.locations(root)) {
        size ??= (await this.#c.staging.readHead(root, index))?.fileSize
        if (size === undefined) break
        this.#have(await this.#upload({ root, size, seq: txs[0]?.seq ?? 0 }), index)
      }
    }
  }

  /** Something about a root has changed: its stripes may be durable by others, or its staged bytes not needed any more. */
  async touched(root: Uint8Array): Promise<void> {
    const up = this.#uploads.get(toHex(root))
    if (up !== undefined) await this.#release(up)
  }

  async forget(root: Uint8Array): Promise<void> {
    const up = this.#uploads.get(toHex(root))
    this.#uploads.delete(toHex(root))
    if (up !== undefined) {
      this.#unkeepAll(up)
      this.#settled(up, pending(up))
    }
    await this.#c.staging.forget(root)
  }

  /** Final was taken back: stripes that are not whole any more are spread again when their segments are here. */
  async reopen(root: Uint8Array): Promise<void> {
    const up = this.#uploads.get(toHex(root))
    if (up === undefined) return
    for (let t = 0; t < up.states.length; t++) {
      if (up.states[t] === 2) {
        up.states[t] = 0
        up.durable--
        this.#look(up, t)
      }
    }
  }

  async #upload(file: FileName): Promise<Upload> {
    const key = toHex(file.root)
    const found = this.#uploads.get(key)
    if (found !== undefined) return found
    const code = await this.#codeOf(file.root, file.size)
    const again = this.#uploads.get(key)
    if (again !== undefined) return again
    const { segments } = shape(file.size)
    const states = new Uint8Array(stripeCount(file.size, code))
    const up: Upload = {
      ...file,
      segments,
      bits: new Uint8Array((segments + 7) >> 3),
      count: 0,
      code,
      states,
      durable: 0,
      fails: 0,
      checkedTo: 0,
      unit: Math.min(file.size, SEGMENT_BYTES),
      kept: new Map()
    }
    this.#uploads.set(key, up)
    return up
  }

  /** The code that somebody has begun with, unless too few live to end it; else the one for those who live. */
  async #codeOf(root: Uint8Array, size: number): Promise<Code> {
    const begun = await this.#c.manifests.best(root)
    const live = Math.max(1, this.#c.members.expected())
    if (begun !== undefined && begun.size === size) {
      const { k, m } = begun
      if (begun.durable === begun.stripes || durableAt({ need: k, count: k + m }) <= live) return { k, m }
    }
    return defaultCode(live)
  }

  #look(up: Upload, t: number): void {
    if (up.states[t] !== 0) return
    const first = t * up.code.k
    const end = Math.min(first + up.code.k, up.segments)
    for (let i = first; i < end; i++) if (!hasBit(up, i)) return
    up.states[t] = 1
    const { code } = up
    void this.#lanes
      .run(() => this.#send(up, t, code))
      .then(seal => (seal === undefined ? undefined : this.#sent(up, t, code, seal)))
      .catch(err => this.#failed(up, t, code, err))
  }

  /** @returns what makes the manifest, or undefined when there is nothing to do any more. */
  async #send(up: Upload, t: number, code: Code): Promise<Seal | undefined> {
    if (this.#c.stop.aborted || up.code !== code || this.#uploads.get(toHex(up.root)) !== up) return undefined
    // Just after a start nobody has been heard: then every member would look dead.
    while (!this.#c.members.known()) await this.#c.clock.sleep(this.#c.times.tickMs, this.#c.stop)
    const there = await this.#c.manifests.get(up.root, code, t)
    if (there !== undefined && there.size === up.size && stillDurable(this.#c, there)) {
      this.#unkeepStripe(up, t)
      return async () => there
    }
    const leases: { release(): void }[] = []
    const memory = block(code.m * SEGMENT_BYTES)
    let made: Seal | undefined
    try {
      const stripe = await this.#read(up, t, leases)
      if (stripe === undefined) {
        up.states[t] = 0
        return undefined
      }
      const base = { root: up.root, seq: up.seq, size: up.size, stripe: t, ...code }
      made = await spreadStripe(this.#c, base, stripe, { parity: memory.bytes })
    } finally {
      memory.release()
      for (const slot of leases) slot.release()
    }
    if (made === undefined) throw new Error('not enough members took their shards')
    return made
  }

  async #sent(up: Upload, t: number, code: Code, seal: Seal): Promise<void> {
    const made = await seal()
    await this.#c.take([made])
    if (up.code !== code || up.states[t] !== 1) return
    up.states[t] = 2
    up.durable++
    up.fails = 0
    this.#settled(up, manifestStripe(made).segments)
    if (up.durable === up.states.length) {
      await this.#c.files.settle(up.root)
      await this.#release(up)
    }
  }

  #failed(up: Upload, t: number, code: Code, err: unknown): void {
    if (this.#c.stop.aborted || up.code !== code) return
    const waitMs = Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** Math.min(up.fails++, 6))
    this.#c.logger.debug('stripe not spread yet', { root: toHex(up.root), stripe: t, error: messageOf(err) })
    this.#c.clock.after(waitMs, () => {
      if (this.#c.stop.aborted || up.code !== code || up.states[t] !== 1) return
      if (this.#recoded(up)) return
      up.states[t] = 0
      this.#look(up, t)
    })
  }

  /** The code needs more members than live: the file takes the code for those who do, from its beginning. */
  #recoded(up: Upload): boolean {
    const live = this.#c.members.expected()
    const { k, m } = up.code
    if (durableAt({ need: k, count: k + m }) <= live) return false
    const code = defaultCode(Math.max(1, live))
    if (code.k === k && code.m === m) return false
    this.#c.logger.warn('too few members for the code of a file, another one is taken', {
      root: toHex(up.root),
      code: `${k}+${m}`,
      now: `${code.k}+${code.m}`
    })
    const before = pending(up)
    up.code = code
    up.states = new Uint8Array(stripeCount(up.size, code))
    up.durable = 0
    up.checkedTo = 0
    this.#settled(up, before - pending(up))
    for (let t = 0; t < up.states.length; t++) this.#look(up, t)
    return true
  }

  /** @param leases - get the memory of the data, to be given back when it was sent. */
  async #read(up: Upload, t: number, leases: { release(): void }[]): Promise<StripeData | undefined> {
    const s = stripeOf(up.size, up.code, t)
    const form = shape(up.size)
    const found = await Promise.all(
      Array.from({ length: s.segments }, (_, i) => {
        const kept = this.#unkeep(up, s.firstSegment + i)
        if (kept !== undefined) {
          leases.push(kept.memory)
          return kept
        }
        const slot = lease()
        leases.push(slot)
        return this.#c.staging.read(up.root, s.firstSegment + i, slot.bytes)
      })
    )
    for (const [i, f] of found.entries()) {
      if (f !== undefined) continue
      // Damaged while it waited: it is wanted from the client again.
      up.bits[(s.firstSegment + i) >> 3]! &= ~(1 << ((s.firstSegment + i) & 7))
      up.count--
      this.#settled(up, 1)
      this.#c.files.changed(up.root)
      return undefined
    }
    const segments = found.map((f, i) => fit(f!.data, segmentWireBytes(form, s.firstSegment + i)))
    return {
      data: s.full ? segments : cutShards(segments.length === 1 ? segments[0]! : concat(...segments), s),
      leaves: found.map(f => f!.leaf),
      proofs: found.map(f => f!.proof)
    }
  }

  /** Asks the first parity holders of files that only wait for their word: it may have been lost, or given to another. */
  async askChecked(): Promise<void> {
    const c = this.#c
    for (const up of [...this.#uploads.values()]) {
      await this.#release(up)
      if (up.durable < up.states.length || this.#uploads.get(toHex(up.root)) !== up) continue
      for (let t = up.checkedTo; t < up.states.length && t < up.checkedTo + ASKED; t++) {
        const m = await c.manifests.get(up.root, up.code, t)
        if (m === undefined || (await c.manifests.isChecked(m))) continue
        const first = m.claims[manifestStripe(m).need]?.holder
        if (first === undefined || equalBytes(first, c.id)) continue
        const answer = await ask(c, first, OP.wasChecked, encodeStripeName(up.root, up.code, t)).catch(() => undefined)
        if (answer?.head[0] === 1 && equalBytes(answer.head.subarray(1), concat(...m.shardRoots))) {
          await c.manifests.markChecked([m])
        }
      }
      await this.#release(up)
    }
  }

  /** So many segments of a file wait no longer. */
  #settled(up: Upload, segments: number): void {
    this.#waiting = Math.max(0, this.#waiting - segments)
    this.#waitingBytes = this.#waiting === 0 ? 0 : Math.max(0, this.#waitingBytes - segments * up.unit)
    if (this.#waitingBytes >= STAGED_BYTES) return
    for (const w of this.#waiters.splice(0)) w()
  }

  /** Staged bytes go when every stripe has all its acknowledgements and its parity was computed again by another. */
  async #release(up: Upload): Promise<void> {
    const family = (await this.#c.manifests.families(up.root)).find(f => f.k === up.code.k && f.m === up.code.m)
    if (family === undefined || family.durable < family.stripes) return
    // Durable by another entry node's hands: nothing is left to send from here.
    for (let t = 0; up.durable < up.states.length && t < up.states.length; t++) {
      if (up.states[t] === 2 || !stripeDurable(family, t)) continue
      const { segments, firstSegment } = stripeOf(up.size, up.code, t)
      let staged = 0
      for (let i = firstSegment; i < firstSegment + segments; i++) if (hasBit(up, i)) staged++
      up.states[t] = 2
      up.durable++
      this.#unkeepStripe(up, t)
      this.#settled(up, staged)
    }
    if (family.whole < family.stripes) return
    for (; up.checkedTo < up.states.length; up.checkedTo++) {
      const m = await this.#c.manifests.get(up.root, up.code, up.checkedTo)
      if (m === undefined) return
      if (manifestStripe(m).count > manifestStripe(m).need && !(await this.#c.manifests.isChecked(m))) return
    }
    if (this.#uploads.get(toHex(up.root)) !== up) return
    this.#uploads.delete(toHex(up.root))
    this.#unkeepAll(up)
    await this.#c.staging.forget(up.root)
    this.#c.files.changed(up.root)
  }
}

/**
 * Sends the shards of one stripe to their holders. Those of an earlier manifest keep theirs.
 * @returns what makes the manifest, or undefined when too few have acknowledged. Signing waits for company, the next stripe need not.
 */
export async function spreadStripe(
  c: Context,
  base: Pick<Manifest, 'root' | 'seq' | 'size' | 'stripe' | 'k' | 'm'>,
  stripe: StripeData,
  opts: { leastEpoch?: number; parity?: Uint8Array } = {}
): Promise<Seal | undefined> {
  const { leastEpoch = 0 } = opts
  const s = manifestStripe(base)
  const shards = await allShards(c, base, stripe.data, opts.parity)
  const known = s.full ? [...stripe.leaves] : []
  const roots =
    s.need === 1 && !s.full
      ? Array(s.count).fill((await rootsOf(c, [shards[0]!], s.sectors))[0]!)
      : [...known, ...(await rootsOf(c, shards.slice(known.length), s.sectors))]
  const old = await c.manifests.get(base.root, base, base.stripe)
  const same = old?.shardRoots.every((r, j) => equalBytes(r, roots[j]!)) === true && old.epoch >= leastEpoch
  const dead = (await c.manifests.tombstone(base.root))?.epoch ?? -1
  const epoch = same ? old.epoch : Math.max(old?.epoch ?? -1, dead, leastEpoch - 1) + 1
  const core = { ...base, epoch, shardRoots: roots as Uint8Array[], leaves: s.full ? [] : stripe.leaves }

  const words: (Word | undefined)[] = Array.from({ length: s.count }, (_, j) => {
    const claim = old !== undefined && equalBytes(old.shardRoots[j]!, roots[j]) ? old.claims[j] : undefined
    const there = claim !== undefined && c.members.isMember(claim.holder) && c.members.health(claim.holder) === 'live'
    return there && !c.bad.has(base, j, claim.holder) ? claim : undefined
  })
  const order = ranked(c.members.live(), base.root, base.stripe)
  const holders = words.map(x => (typeof x === 'object' ? x.holder : undefined))
  const holds = (id: Uint8Array): boolean => holders.some(h => h !== undefined && equalBytes(h, id))
  // First rank by rank; who fails is passed over once.
  const tried = new Set<string>()
  for (let round = 0; round < 2; round++) {
    const wanting = [...words.keys()].filter(j => words[j] === undefined)
    if (wanting.length === 0) break
    const free = choose(
      order.filter(m => !tried.has(toHex(m.id))),
      s.count
    ).filter(m => !holds(m.id))
    if (round > 0 && free.length === 0) break
    await Promise.all(
      wanting.map(async (j, i) => {
        const to = free[i]
        if (to === undefined) return
        tried.add(toHex(to.id))
        const shard: HeldShard = heldOf(core, j)
        try {
          words[j] = await entrust(c, shard, to.id, shards[j]!, { epoch, proof: s.full ? stripe.proofs[j] : undefined })
          holders[j] = to.id
          c.bad.clear(base, j, to.id)
        } catch (err) {
          untaken(c, to.id, err)
        }
      })
    )
  }
  if (words.filter(x => x !== undefined).length < durableAt(s)) return undefined
  if (same && old.claims.every((x, j) => x !== undefined && x === words[j])) return async () => old
  return async () => {
    const claims = await Promise.all(
      words.map((word, j) => (word === undefined ? undefined : wordOf(word).catch(err => untaken(c, holders[j]!, err))))
    )
    if (claims.filter(x => x !== undefined).length < durableAt(s)) throw new Error('not enough members gave their word')
    return same ? { ...old, claims } : sealed(c, { ...core, claims })
  }
}

/** Said once a minute for each member, and counted: a member that takes nothing costs redundancy while everything looks well. */
function untaken(c: Context, member: Uint8Array, err: unknown): undefined {
  if (c.stop.aborted) return undefined
  c.stats.refusedShards++
  c.warnings.say(`spread ${toHex(member)}`, () => {
    c.logger.warn('a member does not take shards', {
      member: toHex(member),
      error: messageOf(err),
      refused: c.stats.refusedShards
    })
  })
  return undefined
}

/** Enough of its shards are with members that are not lost: there is nothing to send. */
function stillDurable(c: Context, m: Manifest): boolean {
  return goodHolders(c, m).filter(h => h !== undefined).length >= durableAt(manifestStripe(m))
}

function hasBit(up: Upload, i: number): boolean {
  return (up.bits[i >> 3]! & (1 << (i & 7))) !== 0
}

/** Staged segments of stripes that are not durable. */
function pending(up: Upload): number {
  let n = 0
  for (let i = 0; i < up.segments; i++) if (hasBit(up, i) && up.states[Math.floor(i / up.code.k)] !== 2) n++
  return n
}

/** Data cut or zero-filled: submissions of one root may differ by zero bytes at the end. */
export function fit(data: Uint8Array, size: number): Uint8Array {
  if (data.length >= size) return data.subarray(0, size)
  const out = new Uint8Array(size)
  out.set(data)
  return out
}
