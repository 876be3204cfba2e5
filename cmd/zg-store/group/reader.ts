/**
 * Any segment of any file from wherever its bytes are: here, at its holder, or decoded from the others. A reader accepts nothing that
 * does not hash to the file root; manifests and members are only hints.
 *
 * ```
 *   staged here ─► shard here ─► its holder, 50 ms or the usual time ─► k of the others, decoded, checked ─► null
 *                                     │ down, or it lacks it ────────────────▲
 * ```
 *
 * Stripes that had to be put together are kept whole, up to 64 MiB, because the next segments asked for are their neighbours.
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { type Manifest, manifestStripe } from '../../../lib/codec/storage/manifest.ts'
import { ranked } from '../../../lib/codec/storage/placement.ts'
import { segmentLeaves, segmentWireBytes, shape } from '../../../lib/codec/storage/shape.ts'
import { joinShards, type Stripe, stripeCount } from '../../../lib/codec/storage/shard-name.ts'
import { ask, bytesOf, type Context, heldOf, ownPiece } from './context.ts'
import type { Piece } from './memory.ts'
import { OP } from './ports.ts'
import { encodeHeld } from './shards.ts'
import { encodeStripeName } from './wire.ts'

const CACHE_BYTES = 64 * 1024 * 1024
/** Other subsets of shards are tried for a stripe at most once in this time. */
const SUBSETS_MS = 60_000
const SUBSETS = 495
const LATENCIES = 128

export class Reader {
  readonly #c: Context
  readonly #cache = new Map<string, { data: readonly Uint8Array[]; bytes: number }>()
  readonly #running = new Map<string, Promise<readonly Uint8Array[] | undefined>>()
  readonly #subsets = new Map<string, number>()
  readonly #latencies = new Float64Array(LATENCIES)
  #latency = 0
  /** The 95th percentile of latencies, and the count at which it is taken again. */
  #usualMs = 0
  #usualAt = 0
  #cacheBytes = 0
  /** Called when a holder lacks a shard or sends a wrong one. */
  onBad: (m: Manifest, j: number, holder: Uint8Array) => void = () => {}
  /** A stripe that no subset of its shards decodes rightly. */
  onWrong: (m: Manifest) => void = () => {}
  /** When a client was last served. */
  servedMs = -1e9

  constructor(c: Context) {
    this.#c = c
  }

  get cacheBytes(): number {
    return this.#cacheBytes
  }

  /**
   * The data of segment `index` and its root, checked; undefined when it cannot be had.
   * @param leaf - its segment root, where the tree of the file is known.
   */
  async segment(
    root: Uint8Array,
    index: number,
    leaf: Uint8Array | undefined
  ): Promise<{ data: Uint8Array; size: number; leaf: Uint8Array } | undefined> {
    this.servedMs = this.#c.clock.monotonic()
    const m = await this.#manifest(root, index)
    if (m === undefined) return undefined
    const s = manifestStripe(m)
    const at = index - s.firstSegment
    const cached = this.#kept(m)
    if (cached !== undefined) return { data: cached[at]!, size: m.size, leaf: leafAt(m, s, at) }
    if (s.full && (leaf === undefined || equalBytes(leaf, m.shardRoots[at]!))) {
      const holder = m.claims[at]?.holder
      const mine = holder !== undefined && equalBytes(holder, this.#c.id)
      const data = mine || (await this.#allAnswer(m, s)) ? await this.#direct(m, at) : undefined
      if (data !== undefined) return { data, size: m.size, leaf: m.shardRoots[at]! }
    }
    const segments = await this.stripe(m)
    return segments === undefined ? undefined : { data: segments[at]!, size: m.size, leaf: leafAt(m, s, at) }
  }

  /** All segments of a stripe, checked against the roots of its segments; kept for the next reader. */
  async stripe(m: Manifest): Promise<readonly Uint8Array[] | undefined> {
    const key = nameOf(m)
    const running = this.#running.get(key)
    if (running !== undefined) return running
    const run = this.#assemble(m).finally(() => this.#running.delete(key))
    this.#running.set(key, run)
    return run
  }

  /** One shard from its holder or from here, checked against its root. @returns undefined when it is not had; never throws. */
  async shard(m: Manifest, j: number, signal?: AbortSignal): Promise<Piece | undefined> {
    const holder = m.claims[j]?.holder
    if (holder === undefined || equalBytes(holder, this.#c.id)) {
      const piece = await ownPiece(this.#c, heldOf(m, j))
      if (piece === undefined && holder !== undefined) this.#bad(m, j, holder)
      return piece
    }
    return this.#from(holder, m, j, signal)
  }

  async #from(holder: Uint8Array, m: Manifest, j: number, signal?: AbortSignal): Promise<Piece | undefined> {
    const s = manifestStripe(m)
    const begun = this.#c.clock.monotonic()
    try {
      const piece = await this.#c.courier.get(holder, heldOf(m, j), signal)
      if (piece === undefined) {
        this.#bad(m, j, holder)
        return undefined
      }
      const root = await this.#c.codec.root(piece.data, s.sectors)
      if (!equalBytes(root, m.shardRoots[j]!)) {
        piece.release()
        this.#bad(m, j, holder)
        return undefined
      }
      this.#latencies[this.#latency++ % LATENCIES] = this.#c.clock.monotonic() - begun
      this.#c.stats.remoteReads++
      this.#c.bad.clear(m, j, holder)
      return piece
    } catch (err) {
      if (signal?.aborted !== true) {
        this.#c.logger.debug('member did not deliver', { member: toHex(holder), error: messageOf(err) })
      }
      return undefined
    }
  }

  #bad(m: Manifest, j: number, holder: Uint8Array): void {
    this.#c.stats.badShards++
    this.#c.bad.mark(m, j, holder)
    this.onBad(m, j, holder)
  }

  /** From the holder; undefined when it is slow or lacks it, and the others shall help. */
  async #direct(m: Manifest, j: number): Promise<Uint8Array | undefined> {
    const abort = new AbortController()
    const first = this.shard(m, j, abort.signal).then(x => x?.data)
    let cancel: () => void = () => {}
    const late = new Promise<'late'>(resolve => {
      cancel = this.#c.clock.after(this.#patienceMs(), () => resolve('late'))
    })
    const found = await Promise.race([first, late])
    cancel()
    if (found !== 'late') return found
    this.#c.stats.hedgedReads++
    // Whoever is first: the slow holder or the others together.
    const others = this.stripe(m).then(x => x?.[j])
    const either = await Promise.race([first, others])
    const data = either ?? (await first) ?? (await others)
    abort.abort()
    return data
  }

  #patienceMs(): number {
    const n = Math.min(this.#latency, LATENCIES)
    if (n < 16) return this.#c.times.hedgeMs
    // Sorted again when an eighth of them is new: asked twice for each shard.
    if (this.#latency >= this.#usualAt) {
      this.#usualMs = this.#latencies.slice(0, n).sort()[Math.floor(n * 0.95)]!
      this.#usualAt = this.#latency + LATENCIES / 8
    }
    return Math.max(this.#c.times.hedgeMs, this.#usualMs)
  }

  /** True when every data shard has a holder that answers: then segments are fetched one by one. */
  async #allAnswer(m: Manifest, s: Stripe): Promise<boolean> {
    for (let j = 0; j < s.need; j++) {
      const holder = m.claims[j]?.holder
      if (holder === undefined || !this.#c.members.answers(holder) || this.#c.bad.has(m, j, holder)) return false
    }
    return true
  }

  async #assemble(m: Manifest): Promise<readonly Uint8Array[] | undefined> {
    const s = manifestStripe(m)
    const shards = await this.gather(m)
    let data = shards === undefined ? undefined : await this.#decode(s, shards.map(bytesOf))
    let segments = data === undefined ? undefined : await this.#checked(m, s, data)
    if (segments === undefined && shards !== undefined) {
      data = undefined
      segments = await this.#otherSubsets(m, s)
    }
    if (segments === undefined) return undefined
    this.#keep(m, segments)
    return segments
  }

  /**
   * At least `need` shards whose roots hold, by number. Own ones and data first; each failure asks one more; holders that the
   * manifest names first, then all others in rank.
   * @param want - asks for so many more than needed.
   */
  async gather(
    m: Manifest,
    opts: { all?: boolean; without?: number } = {}
  ): Promise<(Piece | undefined)[] | undefined> {
    const s = manifestStripe(m)
    const out: (Piece | undefined)[] = Array(s.count).fill(undefined)
    const rank = (j: number): number => {
      const holder = m.claims[j]?.holder
      if (holder === undefined) return 4
      if (equalBytes(holder, this.#c.id)) return 0
      if (!this.#c.members.answers(holder) || this.#c.bad.has(m, j, holder)) return 3
      return j < s.need ? 1 : 2
    }
    const order = [...out.keys()].filter(j => j !== opts.without).sort((a, b) => rank(a) - rank(b))
    const wanted = opts.all === true ? order.length : s.need
    let have = 0
    let next = 0
    const degraded = order.slice(0, wanted).some(j => j >= s.need)
    if (degraded) this.#c.stats.degradedReads++
    let running = 0
    // A lane that failed takes the next one; nobody asks for more than is needed.
    const lane = async (): Promise<void> => {
      while (next < order.length && have + running < wanted) {
        const j = order[next++]!
        if (m.claims[j] === undefined) continue
        running++
        const data = await this.#patient(m, j, () => have >= wanted)
        running--
        if (data !== undefined) {
          out[j] = data
          have++
        }
      }
    }
    await Promise.all(Array.from({ length: wanted }, lane))
    if (have < s.need) have += await this.#search(m, s, out)
    return have < s.need ? undefined : out
  }

  /** A shard, not waiting longer than needed for one that hangs: its lane goes on to the next after a while. */
  async #patient(m: Manifest, j: number, enough: () => boolean): Promise<Piece | undefined> {
    const abort = new AbortController()
    let cancel: () => void = () => {}
    const gaveUp = new Promise<undefined>(resolve => {
      const look = (): void => {
        if (enough()) resolve(undefined)
        else cancel = this.#c.clock.after(10 * this.#patienceMs(), () => resolve(undefined))
      }
      cancel = this.#c.clock.after(this.#patienceMs(), look)
    })
    let answered = false
    const asked = this.shard(m, j, abort.signal).then(x => {
      answered = true
      return x
    })
    const data = await Promise.race([asked, gaveUp])
    cancel()
    // An abort makes an error with its stack: not for each shard that came.
    if (!answered) abort.abort()
    return data
  }

  /** The manifest misleads: all members are asked in rank what they have of the stripe. */
  async #search(m: Manifest, s: Stripe, out: (Piece | undefined)[]): Promise<number> {
    let found = 0
    for (const member of ranked(this.#c.members.live(), m.root, m.stripe)) {
      const missing = out.filter(x => x !== undefined).length < s.need
      if (!missing) break
      for (let j = 0; j < s.count; j++) {
        if (out[j] !== undefined) continue
        const named = m.claims[j]?.holder
        if (named !== undefined && equalBytes(named, member.id)) continue
        const data = equalBytes(member.id, this.#c.id)
          ? await ownPiece(this.#c, heldOf(m, j))
          : (await this.#has(member.id, m, j))
            ? await this.#from(member.id, m, j)
            : undefined
        if (data === undefined) continue
        out[j] = data
        found++
        break
      }
    }
    return found
  }

  async #has(member: Uint8Array, m: Manifest, j: number): Promise<boolean> {
    try {
      return (
        (await ask(this.#c, member, OP.have, encodeHeld(heldOf(m, j)), { timeoutMs: this.#c.times.requestMs }))
          .head[0] === 1
      )
    } catch {
      return false
    }
  }

  async #decode(s: Stripe, shards: readonly (Uint8Array | undefined)[]): Promise<Uint8Array[]> {
    if (s.need === 1) return [shards.find(x => x !== undefined)!]
    const wanted = [...Array(s.need).keys()].filter(j => shards[j] === undefined)
    if (wanted.length === 0) return shards.slice(0, s.need) as Uint8Array[]
    // Exactly `need` of them: what is present beyond that must not hide a wrong one.
    let n = 0
    const used = shards.map(x => (x !== undefined && n++ < s.need ? x : undefined))
    const made = await this.#c.codec.reconstruct(s.need, s.count - s.need, used, wanted)
    return Array.from({ length: s.need }, (_, j) => shards[j] ?? made[wanted.indexOf(j)]!)
  }

  /** Segments of the stripe when they hash to what the file's tree says; else undefined. */
  async #checked(m: Manifest, s: Stripe, data: readonly Uint8Array[]): Promise<readonly Uint8Array[] | undefined> {
    const segments = joinShards(data, s)
    const form = shape(m.size)
    const known = await this.#c.manifests.leaves(m.root)
    const ok = await Promise.all(
      segments.map(async (d, i) => {
        const index = s.firstSegment + i
        const wire = segmentWireBytes(form, index)
        if (d.length !== wire) return false
        const root = await this.#c.codec.root(d, segmentLeaves(form, index))
        const leaf = known?.leaves.subarray(32 * index, 32 * index + 32)
        return equalBytes(root, leaf === undefined || leaf.length !== 32 ? leafAt(m, s, i) : leaf)
      })
    )
    return ok.every(x => x) ? segments : undefined
  }

  /** A lying encoder's roots: other subsets, at most 495, once a stripe and minute. */
  async #otherSubsets(m: Manifest, s: Stripe): Promise<readonly Uint8Array[] | undefined> {
    const key = nameOf(m)
    const nowMs = this.#c.clock.monotonic()
    if (nowMs - (this.#subsets.get(key) ?? -1e12) < SUBSETS_MS) return undefined
    if (this.#subsets.size >= 4096) this.#subsets.clear()
    this.#subsets.set(key, nowMs)
    this.onWrong(m)
    const shards = (await this.gather(m, { all: true }))?.map(bytesOf)
    if (shards === undefined) return undefined
    const there = [...shards.keys()].filter(j => shards[j] !== undefined)
    let tried = 0
    for (const set of subsets(there, s.need)) {
      if (tried++ >= SUBSETS) break
      const only = shards.map((x, j) => (set.includes(j) ? x : undefined))
      const segments = await this.#checked(m, s, await this.#decode(s, only))
      if (segments !== undefined) return segments
    }
    this.#c.logger.error('no subset of the shards gives the stripe', { root: toHex(m.root), stripe: m.stripe })
    return undefined
  }

  async #manifest(root: Uint8Array, index: number): Promise<Manifest | undefined> {
    const family = await this.#c.manifests.best(root)
    if (family !== undefined && index < shape(family.size).segments) {
      const m = await this.#c.manifests.get(root, family, Math.floor(index / family.k))
      if (m !== undefined) return m
      return this.#askAround(root, family, Math.floor(index / family.k))
    }
    return undefined
  }

  /** A manifest that did not reach this node. */
  async #askAround(root: Uint8Array, code: { k: number; m: number; size: number }, stripe: number) {
    if (stripe >= stripeCount(code.size, code)) return undefined
    for (const member of this.#c.members.live()) {
      if (equalBytes(member.id, this.#c.id)) continue
      try {
        const { body } = await ask(this.#c, member.id, OP.family, encodeStripeName(root, code, stripe))
        await this.onManifests(body)
        const m = await this.#c.manifests.get(root, code, stripe)
        if (m !== undefined) return m
      } catch {
        // The next one may answer.
      }
    }
    return undefined
  }

  /** Takes manifests from a message. */
  onManifests: (body: Uint8Array) => Promise<void> = async () => {}

  #kept(m: Manifest): readonly Uint8Array[] | undefined {
    const key = nameOf(m)
    const found = this.#cache.get(key)
    if (found === undefined) return undefined
    this.#cache.delete(key)
    this.#cache.set(key, found)
    return found.data
  }

  #keep(m: Manifest, data: readonly Uint8Array[]): void {
    const bytes = data.reduce((n, d) => n + d.length, 0)
    const key = nameOf(m)
    if (this.#cache.has(key)) return
    this.#cache.set(key, { data, bytes })
    this.#cacheBytes += bytes
    for (const [k, v] of this.#cache) {
      if (this.#cacheBytes <= CACHE_BYTES) break
      this.#cache.delete(k)
      this.#cacheBytes -= v.bytes
    }
  }

  dropCaches(): void {
    this.#cache.clear()
    this.#cacheBytes = 0
  }

  /** Forgets kept stripes of a root. */
  forget(root: Uint8Array): void {
    const prefix = toHex(root)
    for (const [k, v] of this.#cache) {
      if (!k.startsWith(prefix)) continue
      this.#cache.delete(k)
      this.#cacheBytes -= v.bytes
    }
  }
}

function leafAt(m: Manifest, s: Stripe, at: number): Uint8Array {
  return s.full ? m.shardRoots[at]! : m.leaves[at]!
}

function nameOf(m: Manifest): string {
  return `${toHex(m.root)}/${m.k}/${m.m}/${m.stripe}`
}

/** All subsets of `size` of the items, in order. */
export function* subsets(items: readonly number[], size: number): Generator<number[]> {
  if (size === 0) {
    yield []
    return
  }
  for (let i = 0; i + size <= items.length; i++) {
    for (const rest of subsets(items.slice(i + 1), size - 1)) yield [items[i]!, ...rest]
  }
}
