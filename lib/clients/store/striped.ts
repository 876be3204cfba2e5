/**
 * Reads a file of a coding group from all holders at once: each segment from the member that has it, and where one is silent the stripe
 * is decoded here from any k of its shards. A row of stripes is one request a member. What is handed on was hashed against the file
 * root like everything else; a stripe that cannot be had this way is left to the ordinary one (get.ts).
 *
 * ```
 *   row      stripe 0  d0 d1 d2 d3 p0 p1        member A: 0.d0 1.d2 2.d1 …  ─┐
 *            stripe 1  d0 d1 d2 d3 p0 p1        member B: 0.d1 1.p0 …        ├─► checked, decoded ─► segments in order
 *            …                                  member C: …                 ─┘
 * ```
 */
import { equalBytes } from '../../base/bytes.ts'
import { SEGMENT_BYTES, type Shape } from '../../codec/storage/shape.ts'
import { type Stripe, stripeCount, stripeOf } from '../../codec/storage/shard-name.ts'
import { codec } from '../../native.ts'
import type { CallOptions, Placement, StoreNode } from './node.ts'

/** Shards of one request. */
const SHARDS = 8
const BUFFER_BYTES = SHARDS * SEGMENT_BYTES + 64
const KEPT = 24
/** Stripes of a row: with six members and 4+2 each is asked for about six shards. */
const ROW_STRIPES = 8
/** A member that failed is not asked again for so long. */
const DOWN_MS = 10_000
const PATIENCE_MS = 5_000
const ROUNDS = 3
const NOBODY = 255

/** A segment and how to say that nobody looks at it any more; undefined when it was not had this way. */
export interface Segment {
  readonly bytes: Uint8Array
  readonly release: () => void
}

interface Shard {
  readonly data: Uint8Array
  readonly release: () => void
}

interface Wanted {
  readonly s: Stripe
  /** Data shards to hand on. */
  readonly js: readonly number[]
  readonly have: (Shard | undefined)[]
  /** Asked for already: holders that failed or had it wrong. */
  readonly tried: Set<number>
}

const free: Uint8Array[] = []

export class StripedFile {
  readonly #root: Uint8Array
  readonly #at: Placement
  readonly #roots: Uint8Array
  readonly #nodes: readonly StoreNode[]
  readonly #downUntilMs: number[]

  /**
   * @param roots - checked roots of all padded segments.
   * @param node - the node at a URL.
   * @returns undefined when the placement is not of this file.
   */
  static of(
    root: Uint8Array,
    shape: Shape,
    at: Placement,
    roots: Uint8Array,
    node: (url: string) => StoreNode
  ): StripedFile | undefined {
    const fits = at.sizeBytes === shape.size && at.holders.length === stripeCount(at.sizeBytes, at) * (at.k + at.m)
    if (!fits || !at.urls.every(u => /^https?:\/\//.test(u))) return undefined
    return new StripedFile(root, at, roots, at.urls.map(node))
  }

  private constructor(root: Uint8Array, at: Placement, roots: Uint8Array, nodes: readonly StoreNode[]) {
    this.#root = root
    this.#at = at
    this.#roots = roots
    this.#nodes = nodes
    this.#downUntilMs = nodes.map(() => 0)
  }

  /** Segments of a row: the first of the next one after segment `index`. */
  rowEnd(index: number): number {
    const { k } = this.#at
    return (Math.floor(index / k / ROW_STRIPES) + 1) * ROW_STRIPES * k
  }

  /** Segments first … last, which lie in one row, checked; undefined for those that are to be had otherwise. */
  async row(first: number, last: number, call: CallOptions): Promise<(Segment | undefined)[]> {
    const { k } = this.#at
    const wanted: Wanted[] = []
    for (let t = Math.floor(first / k); t <= Math.floor(last / k); t++) {
      const s = stripeOf(this.#at.sizeBytes, this.#at, t)
      const js: number[] = []
      for (let i = Math.max(first, t * k); i <= Math.min(last, t * k + s.segments - 1); i++) js.push(i - t * k)
      wanted.push({ s, js, have: Array(s.count).fill(undefined), tried: new Set() })
    }
    for (let round = 0; round < ROUNDS; round++) {
      const asked = new Map<number, { stripe: number; j: number; of: Wanted }[]>()
      for (const w of wanted) {
        for (const j of this.#next(w)) {
          const n = this.#holder(w.s.index, j)!
          asked.set(n, [...(asked.get(n) ?? []), { stripe: w.s.index, j, of: w }])
        }
      }
      if (asked.size === 0) break
      const requests: Promise<void>[] = []
      for (const [n, list] of asked) {
        for (let i = 0; i < list.length; i += SHARDS) requests.push(this.#fetch(n, list.slice(i, i + SHARDS), call))
      }
      await Promise.all(requests)
    }
    const out: (Segment | undefined)[] = []
    for (const w of wanted) out.push(...(await this.#segments(w)))
    return out
  }

  #holder(stripe: number, j: number): number | undefined {
    const n = this.#at.holders[stripe * (this.#at.k + this.#at.m) + j]
    return n === undefined || n === NOBODY || n >= this.#nodes.length ? undefined : n
  }

  /** Shards to ask for: the wanted ones where their holders answer, else as many others as decoding takes. */
  #next({ s, js, have, tried }: Wanted): number[] {
    if (!s.full || js.every(j => have[j] !== undefined)) return []
    const nowMs = performance.now()
    const there = (j: number): boolean => {
      const n = this.#holder(s.index, j)
      return n !== undefined && !tried.has(j) && this.#downUntilMs[n]! <= nowMs
    }
    const missing = js.filter(j => have[j] === undefined)
    if (missing.every(there)) return missing
    const more = Array.from({ length: s.count }, (_, j) => j).filter(j => have[j] === undefined && there(j))
    const need = s.need - have.filter(x => x !== undefined).length
    return more.length < need ? [] : more.slice(0, Math.max(0, need))
  }

  async #fetch(
    n: number,
    list: readonly { stripe: number; j: number; of: Wanted }[],
    { signal }: CallOptions
  ): Promise<void> {
    const buffer = free.pop() ?? new Uint8Array(Buffer.allocUnsafeSlow(BUFFER_BYTES).buffer)
    const call = signal === undefined ? { timeoutMs: PATIENCE_MS } : { signal, timeoutMs: PATIENCE_MS }
    try {
      const { data, have } = await this.#nodes[n]!.getShards(this.#root, this.#at, list, buffer, call)
      const roots = data.length === 0 ? [] : await codec().segmentRoots(data)
      let users = 1
      const release = (): void => {
        if (--users === 0 && free.length < KEPT && data.buffer === buffer.buffer) free.push(buffer)
      }
      let at = 0
      for (const [i, { stripe, j, of }] of list.entries()) {
        of.tried.add(j)
        if (!have[i]) continue
        const bytes = data.subarray(at * SEGMENT_BYTES, (at + 1) * SEGMENT_BYTES)
        const root = roots[at++]
        // Parity shows itself when it decodes.
        if (j < of.s.need && (root === undefined || !this.#fits(stripe * this.#at.k + j, root))) {
          this.#downUntilMs[n] = performance.now() + DOWN_MS
          continue
        }
        users++
        of.have[j] = { data: bytes, release }
      }
      release()
    } catch {
      for (const { j, of } of list) of.tried.add(j)
      this.#downUntilMs[n] = performance.now() + DOWN_MS
    }
  }

  #fits(index: number, root: Uint8Array): boolean {
    return equalBytes(root, this.#roots.subarray(32 * index, 32 * index + 32))
  }

  async #segments({ s, js, have }: Wanted): Promise<(Segment | undefined)[]> {
    const missing = js.filter(j => have[j] === undefined)
    let made: Uint8Array[] = []
    if (missing.length > 0 && have.filter(x => x !== undefined).length >= s.need) {
      const shards = have.map(x => x?.data)
      made = await codec().rs.reconstruct(s.need, s.count - s.need, shards, missing)
      const roots = await Promise.all(made.map(async x => (await codec().segmentRoots(x))[0]!))
      if (!missing.every((j, i) => this.#fits(s.index * this.#at.k + j, roots[i]!))) made = []
    }
    for (const [j, x] of have.entries()) if (!js.includes(j)) x?.release()
    return js.map(j => {
      const x = have[j]
      if (x !== undefined) return { bytes: x.data, release: x.release }
      const bytes = made[missing.indexOf(j)]
      return bytes === undefined ? undefined : { bytes, release: () => {} }
    })
  }
}
