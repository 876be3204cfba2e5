/**
 * The indexer's book of nodes: which of the configured ones live, how fast they answer, since when. A node is probed every two
 * seconds, dropped after three failures in a row and taken back after one good answer, so lists never name a node that has been
 * dead for ten seconds. Latency is a moving average, so that one slow answer does not move anybody.
 */
import { messageOf } from '../../../lib/base/errors.ts'
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

export interface Entry {
  readonly node: StoreNode
  shard: Shard | undefined
  status: NodeStatus | undefined
  up: boolean
  failures: number
  latencyMs: number
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
  readonly entries: Entry[]
  readonly #clock: Clock
  readonly #log: Logger
  #turn = 0

  constructor(nodes: readonly StoreNode[], clock: Clock, log: Logger) {
    this.#clock = clock
    this.#log = log
    this.entries = nodes.map(node => ({
      node,
      shard: undefined,
      status: undefined,
      up: false,
      failures: 0,
      latencyMs: 0,
      sinceSeconds: 0,
      problem: 'not asked yet'
    }))
  }

  /** Probes all nodes every {@link PROBE_MS} until the signal ends it. */
  async run(signal: AbortSignal, onRound: () => void): Promise<void> {
    while (!signal.aborted) {
      await Promise.all(this.entries.map(e => this.#probe(e, signal)))
      onRound()
      const waiting = this.entries.some(e => !e.up && e.failures < FIRST_PROBES)
      await this.#clock.sleep(waiting ? FIRST_PROBE_MS : PROBE_MS, signal).catch(() => {})
    }
  }

  async #probe(e: Entry, signal: AbortSignal): Promise<void> {
    const started = this.#clock.monotonic()
    const o = { signal, timeoutMs: PROBE_TIMEOUT_MS }
    try {
      const [shard, status] = await Promise.all([e.node.shardConfig(o), e.node.status(o)])
      const ms = this.#clock.monotonic() - started
      e.latencyMs = e.latencyMs === 0 ? ms : e.latencyMs + ALPHA * (ms - e.latencyMs)
      e.shard = shard
      e.status = status
      e.failures = 0
      e.problem = undefined
      if (e.up) return
      e.up = true
      e.sinceSeconds = Math.floor(this.#clock.now() / 1000)
      this.#log.info('node answers', { url: e.node.url })
    } catch (err) {
      if (signal.aborted) return
      e.failures++
      e.problem = messageOf(err)
      if (e.up && e.failures >= FAILURES) {
        e.up = false
        e.sinceSeconds = 0
        this.#log.warn('node dropped', { url: e.node.url, reason: e.problem })
      }
    }
  }

  /** Living nodes; the list begins with another one at each call, since the SDKs take equal nodes in the order of the list. */
  living(): Entry[] {
    const up = this.entries.filter(e => e.up && e.shard !== undefined && isShard(e.shard))
    if (up.length === 0) return []
    const shift = this.#turn++ % up.length
    return [...up.slice(shift), ...up.slice(0, shift)]
  }

  /** Nodes that together hold everything `copies` times, by one of upstream's methods; undefined when they do not suffice. */
  select(copies: number, method: string, dropped: ReadonlySet<string>): Entry[] | undefined {
    let list = this.living().filter(e => !dropped.has(e.node.url))
    if (/^[0-9]+$/.test(method)) list = list.filter(e => e.shard!.numShard === Number(method))
    const order = method === 'min' || method === 'max' ? method : 'given'
    if (method === 'random') list.sort(() => Math.random() - 0.5)
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
}

export function shown(e: Entry): ShardedNode {
  return { url: e.node.url, config: e.shard!, latency: Math.round(e.latencyMs), since: e.sinceSeconds }
}
