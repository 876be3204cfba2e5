/**
 * The indexer's book of nodes: which of them live, how fast they answer, how often they fail, since when. Trusted nodes come from
 * the configuration, discovered ones are told by other nodes and must prove that they belong to the same network. Every node is
 * probed every two seconds, dropped after three failures in a row and taken back after one good answer, so lists never name a node
 * that has been dead for ten seconds. Latency and success are moving averages: one slow answer moves nobody.
 */
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import type { NodeStatus, StoreNode } from '../../../lib/clients/store.ts'
import { isShard, type Shard, selectNodes } from '../../../lib/codec/storage/shards.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'

export const PROBE_MS = 2_000
const PROBE_TIMEOUT_MS = 1_500
/** A node that starts at the same time is asked more often at first. */
const FIRST_PROBES = 60
const FIRST_PROBE_MS = 100
/** Failures in a row that drop a node. */
const FAILURES = 3
/** Weight of the newest measurement. */
const ALPHA = 0.2
/** Below this share of good answers a living node stands behind the others. */
const STEADY = 0.8
/** Discovered nodes in the book. */
const DISCOVERED_MAX = 256
/** Probes in a row after which a discovered node is forgotten: a minute. */
const FORGET_AFTER = 30

export interface Entry {
  readonly node: StoreNode
  readonly trusted: boolean
  shard: Shard | undefined
  status: NodeStatus | undefined
  up: boolean
  failures: number
  latencyMs: number
  /** Share of good answers lately, 0 to 1. */
  success: number
  /** Unix seconds since when it answers; 0 while it does not. */
  sinceSeconds: number
  problem: string | undefined
}

/** A node as the RPC shows it. */
export interface ShardedNode {
  url: string
  config: Shard
  latency: number
  since: number
}

export class NodeBook {
  #trusted: Entry[]
  readonly #discovered = new Map<string, Entry>()
  readonly #clock: Clock
  readonly #log: Logger
  #turn = 0

  constructor(nodes: readonly StoreNode[], clock: Clock, log: Logger) {
    this.#clock = clock
    this.#log = log
    this.#trusted = nodes.map(node => entry(node, true))
  }

  /** All nodes, the trusted ones first. */
  get entries(): readonly Entry[] {
    return [...this.#trusted, ...this.#discovered.values()]
  }

  get trusted(): readonly Entry[] {
    return this.#trusted
  }

  get discovered(): readonly Entry[] {
    return [...this.#discovered.values()]
  }

  /** Takes a node that somebody told of; it is listed once it answered for itself. @returns true when it is new. */
  add(node: StoreNode): boolean {
    if (this.#discovered.has(node.url) || this.#trusted.some(e => e.node.url === node.url)) return false
    if (this.#discovered.size >= DISCOVERED_MAX) return false
    this.#discovered.set(node.url, entry(node, false))
    return true
  }

  /** Probes all nodes every {@link PROBE_MS}, counted from start to start, until the signal ends it. */
  async run(signal: AbortSignal, onRound: () => void): Promise<void> {
    while (!signal.aborted) {
      const started = this.#clock.monotonic()
      await Promise.all(this.entries.map(e => this.#probe(e, signal)))
      this.#forget()
      onRound()
      const waiting = this.#trusted.some(e => !e.up && e.failures < FIRST_PROBES)
      const rest = (waiting ? FIRST_PROBE_MS : PROBE_MS) - (waiting ? 0 : this.#clock.monotonic() - started)
      await this.#clock.sleep(Math.max(FIRST_PROBE_MS, rest), signal).catch(() => {})
    }
  }

  async #probe(e: Entry, signal: AbortSignal): Promise<void> {
    const started = this.#clock.monotonic()
    const o = { signal, timeoutMs: PROBE_TIMEOUT_MS }
    try {
      const [shard, status] = await Promise.all([e.node.shardConfig(o), e.node.status(o)])
      if (!e.trusted) this.#checkNetwork(status)
      const ms = this.#clock.monotonic() - started
      e.latencyMs = e.latencyMs === 0 ? ms : e.latencyMs + ALPHA * (ms - e.latencyMs)
      e.success += ALPHA * (1 - e.success)
      e.shard = shard
      e.status = status
      e.failures = 0
      e.problem = undefined
      if (e.up) return
      e.up = true
      e.sinceSeconds = Math.floor(this.#clock.now() / 1000)
      this.#log.info('node answers', { url: e.node.url, trusted: e.trusted })
    } catch (err) {
      if (signal.aborted) return
      e.failures++
      e.success -= ALPHA * e.success
      e.problem = messageOf(err)
      if (e.up && e.failures >= FAILURES) {
        e.up = false
        e.sinceSeconds = 0
        this.#log.warn('node dropped', { url: e.node.url, reason: e.problem })
      }
    }
  }

  /** A node of another chain or contract holds other files under the same names. */
  #checkNetwork(status: NodeStatus): void {
    const ours = this.#trusted.find(e => e.status !== undefined)?.status
    if (ours === undefined) throw new ZgError('ERR_UNAVAILABLE', 'no trusted node has answered yet')
    if (ours.chainId === status.chainId && ours.flowAddress === status.flowAddress) return
    throw new ZgError('ERR_WRONG_NETWORK', `belongs to another network (chain ${status.chainId})`)
  }

  #forget(): void {
    for (const [url, e] of this.#discovered) if (e.failures >= FORGET_AFTER) this.#discovered.delete(url)
  }

  /**
   * Living trusted nodes; the list begins with another one at each call, since the SDKs take equal nodes in the order of the list.
   * Those that fail often stand at its end.
   */
  living(): Entry[] {
    return this.#turned(this.#trusted)
  }

  /** Living discovered nodes, likewise. */
  livingDiscovered(): Entry[] {
    return this.#turned(this.discovered)
  }

  #turned(list: readonly Entry[]): Entry[] {
    const up = list.filter(e => e.up && e.shard !== undefined && isShard(e.shard))
    if (up.length === 0) return []
    const shift = this.#turn++ % up.length
    const turned = [...up.slice(shift), ...up.slice(0, shift)]
    return [...turned.filter(e => e.success >= STEADY), ...turned.filter(e => e.success < STEADY)]
  }

  /** Nodes that together hold everything `copies` times, by one of upstream's methods; undefined when they do not suffice. */
  select(copies: number, method: string, dropped: ReadonlySet<string>, from = this.living()): Entry[] | undefined {
    let list = from.filter(e => !dropped.has(e.node.url))
    if (/^[0-9]+$/.test(method)) list = list.filter(e => e.shard!.numShard === Number(method))
    const order = method === 'min' || method === 'max' ? method : 'given'
    if (method === 'random') shuffle(list)
    try {
      return selectNodes(
        list.map(entry => ({ entry, shard: entry.shard! })),
        copies,
        order
      ).map(x => x.entry)
    } catch {
      return undefined
    }
  }

  /**
   * As {@link select}, with up to three fifths of the copies on discovered nodes, fewer where those do not suffice.
   * @param fullTrusted - all copies on trusted nodes.
   */
  selectMixed(
    copies: number,
    method: string,
    fullTrusted: boolean,
    dropped: ReadonlySet<string>
  ): { trusted: Entry[]; discovered: Entry[] } | undefined {
    for (let n = fullTrusted ? 0 : Math.floor((copies * 3) / 5); n >= 0; n--) {
      const discovered = n === 0 ? [] : this.select(n, method, dropped, this.livingDiscovered())
      const trusted = n === copies ? [] : this.select(copies - n, method, dropped)
      if (discovered !== undefined && trusted !== undefined) return { trusted, discovered }
    }
    return undefined
  }
}

function entry(node: StoreNode, trusted: boolean): Entry {
  return {
    node,
    trusted,
    shard: undefined,
    status: undefined,
    up: false,
    failures: 0,
    latencyMs: 0,
    success: 1,
    sinceSeconds: 0,
    problem: 'not asked yet'
  }
}

/** Fisher and Yates: every order equally likely, which sorting by a coin is not. */
function shuffle<T>(list: T[]): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    const x = list[i]!
    list[i] = list[j]!
    list[j] = x
  }
}

export function shown(e: Entry): ShardedNode {
  return { url: e.node.url, config: e.shard!, latency: Math.round(e.latencyMs), since: e.sinceSeconds }
}
