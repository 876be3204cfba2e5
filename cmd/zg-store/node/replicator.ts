/**
 * Fetches what is missing from other nodes: a file uploaded to one node becomes available on the others, and a node that was
 * away catches up by itself. Peers are asked, never believed: each segment passes the same checks as an upload.
 *
 * A file is asked for a moment after its event (its client may be about to send it here), at once when a peer announces it, and
 * again with growing pauses. What does not fit into memory is found again in the store's own list of unfinished files.
 */
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { FileStore } from '../core/file-store.ts'
import type { FlowIndex } from '../core/flow-index.ts'
import type { Tx } from '../core/tx.ts'
import { type SegmentUpload, UploadRefusal } from '../core/upload-checks.ts'

/** Other nodes as the replicator needs them; libp2p behind it. */
export interface SegmentPeers {
  /** Connected peers. */
  ids(): string[]
  /** What a peer holds of a file; undefined when it does not know it. */
  have(
    peer: string,
    root: Uint8Array,
    first: number,
    count: number,
    signal: AbortSignal
  ): Promise<boolean[] | undefined>
  /** Up to `count` segments from `first` on, fewer when the peer lacks some. */
  get(peer: string, root: Uint8Array, first: number, count: number, signal: AbortSignal): Promise<SegmentUpload[]>
}

export interface ReplicatorOptions {
  index: FlowIndex
  clock: Clock
  logger: Logger
  peers: () => SegmentPeers | undefined
}

interface Wanted {
  root: Uint8Array
  name: string
  tries: number
  dueAtMs: number
  announcers: Set<string>
  running: boolean
}

/** Segments of one request: a frame each, together below the bound of a message. */
export const GET_SEGMENTS = 4
const HAVE_SEGMENTS = 65_536
const FIRST_ASK_MS = 2_000
const LONGEST_PAUSE_MS = 60_000
const TICK_MS = 250
const PARALLEL_FILES = 4
const WANTED_FILES = 50_000
const ANNOUNCERS = 8
/** Pending submissions of one root that are looked at. */
const PENDING_TXS = 16
/** A peer that sent wrong bytes is not asked for so long. */
const SHUN_MS = 600_000

export class Replicator {
  readonly #o: ReplicatorOptions
  readonly #wanted = new Map<string, Wanted>()
  readonly #shunned = new Map<string, number>()
  readonly #stop = new AbortController()
  readonly #runs = new Set<Promise<void>>()
  #known = new Set<string>()
  #store: FileStore | undefined
  #cancel: (() => void) | undefined
  #walkAtMs: number
  /** Segments taken from peers since start. */
  fetched = 0

  constructor(options: ReplicatorOptions) {
    this.#o = options
    this.#walkAtMs = options.clock.monotonic() + LONGEST_PAUSE_MS
  }

  /** Starts; apart from the constructor because store and replicator need each other. */
  attach(store: FileStore): void {
    this.#store = store
    this.#arm()
  }

  /** Files waiting to be fetched or being fetched. */
  get pending(): number {
    return this.#wanted.size
  }

  get running(): number {
    return this.#runs.size
  }

  /** Segments of this file are missing here. `now`: ask at once. */
  want(root: Uint8Array, now = false): void {
    const name = toHex(root)
    const found = this.#wanted.get(name)
    if (found !== undefined) {
      if (now) found.dueAtMs = 0
      return
    }
    if (this.#wanted.size >= WANTED_FILES) return
    const dueAtMs = now ? 0 : this.#o.clock.monotonic() + FIRST_ASK_MS
    this.#wanted.set(name, { root, name, tries: 0, dueAtMs, announcers: new Set(), running: false })
  }

  /** A peer says that it has this file whole. */
  announced(root: Uint8Array, peer: string): void {
    const found = this.#wanted.get(toHex(root))
    if (found === undefined) return
    if (found.announcers.size < ANNOUNCERS) found.announcers.add(peer)
    found.dueAtMs = 0
  }

  /** Peers that announced a file which is still wanted here. */
  announcersOf(root: Uint8Array): string[] {
    return [...(this.#wanted.get(toHex(root))?.announcers ?? [])]
  }

  /** Stops fetching a file; it is wanted again after the next start, or by command. @returns false when it was not wanted. */
  cancel(root: Uint8Array): boolean {
    return this.#wanted.delete(toHex(root))
  }

  /** How the fetching of a file stands; undefined when it is not wanted. */
  describe(root: Uint8Array): { running: boolean; tries: number; announcers: number } | undefined {
    const w = this.#wanted.get(toHex(root))
    return w === undefined ? undefined : { running: w.running, tries: w.tries, announcers: w.announcers.size }
  }

  /** Files wanted, at most `limit`. */
  wanted(limit: number): Uint8Array[] {
    return [...this.#wanted.values()].slice(0, limit).map(w => w.root)
  }

  /** Peers that are not asked at the moment because they sent wrong bytes. */
  get shunned(): number {
    const now = this.#o.clock.monotonic()
    return [...this.#shunned.values()].filter(until => until > now).length
  }

  /** Fetches some segments of a submission now. @returns how many came. */
  async fetchRange(tx: Tx, first: number, end: number): Promise<number> {
    const w: Wanted = {
      root: tx.root,
      name: toHex(tx.root),
      tries: 0,
      dueAtMs: 0,
      announcers: new Set(),
      running: true
    }
    const missing = (await this.#store!.missing(tx))
      .map(([from, to]): [number, number] => [Math.max(from, first), Math.min(to, end)])
      .filter(([from, to]) => from < to)
    let got = 0
    for (const peer of missing.length === 0 ? [] : this.#candidates(w)) {
      got += await this.#fromPeer(w, peer, tx, missing)
      if (got > 0 || this.#stop.signal.aborted) break
    }
    return got
  }

  /** A new peer is connected: what nobody had may be there. */
  #peerJoined(): void {
    for (const w of this.#wanted.values()) w.dueAtMs = Math.min(w.dueAtMs, this.#o.clock.monotonic() + TICK_MS)
  }

  /** These became final: nothing left to fetch. */
  done(txs: readonly Tx[]): void {
    for (const tx of txs) this.#wanted.delete(toHex(tx.root))
  }

  async close(): Promise<void> {
    this.#cancel?.()
    this.#stop.abort(new ZgError('ERR_STOPPED', 'the node stops'))
    await Promise.allSettled(this.#runs)
  }

  #arm(): void {
    this.#cancel = this.#o.clock.after(TICK_MS, () => {
      this.#tick()
      if (!this.#stop.signal.aborted) this.#arm()
    })
  }

  #tick(): void {
    const now = this.#o.clock.monotonic()
    const peers = this.#o.peers()?.ids() ?? []
    if (peers.some(p => !this.#known.has(p))) this.#peerJoined()
    this.#known = new Set(peers)
    if (peers.length === 0) return
    if (now >= this.#walkAtMs) {
      this.#walkAtMs = now + LONGEST_PAUSE_MS
      this.#start(this.#walk())
    }
    for (const w of this.#wanted.values()) {
      if (this.#runs.size >= PARALLEL_FILES) return
      if (w.running || w.dueAtMs > now) continue
      w.running = true
      this.#start(this.#try(w))
    }
  }

  #start(run: Promise<void>): void {
    this.#runs.add(run)
    void run.finally(() => this.#runs.delete(run))
  }

  /** Files that did not fit into the list before. */
  async #walk(): Promise<void> {
    try {
      for await (const root of this.#store!.unsettled()) {
        if (this.#stop.signal.aborted || this.#wanted.size >= WANTED_FILES) return
        this.want(root)
      }
    } catch (err) {
      this.#o.logger.debug('cannot list unfinished files', { error: messageOf(err) })
    }
  }

  async #try(w: Wanted): Promise<void> {
    try {
      if (await this.#fetch(w)) this.#wanted.delete(w.name)
    } catch (err) {
      if (!this.#stop.signal.aborted) this.#o.logger.debug('fetch failed', { root: w.name, error: messageOf(err) })
    }
    w.running = false
    w.tries++
    w.dueAtMs = this.#o.clock.monotonic() + Math.min(LONGEST_PAUSE_MS, 1000 * 2 ** Math.min(w.tries, 6))
  }

  /** @returns true when nothing is missing any more. */
  async #fetch(w: Wanted): Promise<boolean> {
    while (!this.#stop.signal.aborted) {
      const pending = await this.#pendingTxs(w.root)
      if (pending.length === 0) return true
      let wanting = 0
      let got = 0
      // All of them, because one may be a lie that nothing ever completes.
      for (const tx of pending) {
        const missing = await this.#store!.missing(tx)
        if (missing.length === 0) continue
        wanting++
        for (const peer of this.#candidates(w)) {
          got += await this.#fromPeer(w, peer, tx, missing)
          if (got > 0 || this.#stop.signal.aborted) break
        }
        if (got > 0) break // the list of what is missing has changed
      }
      if (wanting === 0) return this.#store!.settle(w.root)
      if (got === 0) return false
    }
    return false
  }

  async #pendingTxs(root: Uint8Array): Promise<Tx[]> {
    const out: Tx[] = []
    for await (const tx of this.#o.index.txsOf(root)) {
      if (tx.status === 'pending' && out.length < PENDING_TXS) out.push(tx)
    }
    return out
  }

  #candidates(w: Wanted): string[] {
    const now = this.#o.clock.monotonic()
    // Announcers first, connected or not: libp2p may know how to reach them.
    const order = [...w.announcers]
    for (const p of this.#o.peers()?.ids() ?? []) if (!w.announcers.has(p)) order.push(p)
    return order.filter(p => (this.#shunned.get(p) ?? 0) <= now)
  }

  async #fromPeer(w: Wanted, peer: string, tx: Tx, missing: [number, number][]): Promise<number> {
    const peers = this.#o.peers()
    if (peers === undefined) return 0
    const first = missing[0]![0]
    const count = Math.min(HAVE_SEGMENTS, missing.at(-1)![1] - first)
    let got = 0
    try {
      const held = await peers.have(peer, w.root, first, count, this.#stop.signal)
      if (held === undefined) return 0
      for (const [from, to] of missing) {
        for (let i = from; i < to && i - first < count; ) {
          if (!held[i - first]) {
            i++
            continue
          }
          let n = 1
          while (n < GET_SEGMENTS && i + n < to && held[i + n - first]) n++
          const segments = await peers.get(peer, w.root, i, n, this.#stop.signal)
          if (segments.length === 0) return got
          // Checked under the size that the peer knows: a submission here may lie about it, and the peer is not to blame then.
          await Promise.all(segments.map(s => this.#store!.store(s, { ...tx, size: s.fileSize })))
          got += segments.length
          this.fetched += segments.length
          i += segments.length
        }
      }
    } catch (err) {
      const wrong = err instanceof UploadRefusal ? err.reason === 'proof' : isBadProof(err)
      if (wrong) {
        this.#shunned.set(peer, this.#o.clock.monotonic() + SHUN_MS)
        if (this.#shunned.size > 1000) this.#shunned.clear()
        this.#o.logger.warn('peer sent wrong bytes, not asked for a while', { peer, root: w.name, why: messageOf(err) })
      } else if (!(err instanceof UploadRefusal && err.reason === 'final')) {
        this.#o.logger.debug('peer did not deliver', { peer, root: w.name, error: messageOf(err) })
        if (err instanceof ZgError && (err.code === 'ERR_DISK_FULL' || err.code === 'ERR_IO')) throw err
      }
    }
    return got
  }
}

function isBadProof(err: unknown): boolean {
  return err instanceof ZgError && err.code === 'ERR_BAD_PROOF'
}
