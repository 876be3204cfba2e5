/** How the node is doing: for /ready, /metrics and SIGUSR2. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { formatCount } from '../../lib/base/units.ts'
import type { Readiness } from '../../lib/ops/http.ts'
import type { Metrics } from '../../lib/ops/metrics.ts'
import type { Clock } from '../../lib/ports/clock.ts'
import type { Chain } from './core/api.ts'

/** Blocks over which the rate is taken. */
const WINDOW = 32
/** Beats without a block after which something is wrong, and the least time to say so. */
const MISSED_BEATS = 10
const STALL_MS = 10_000
const LOOP_TICK_MS = 10
/** Figures of the engine serve a whole scrape. */
const STATS_AGE_MS = 100

export class Vitals {
  readonly #chain: Chain
  readonly #blockTimeMs: number
  readonly #clock: Clock
  readonly #startedMs: number
  /** Monotonic times of the last blocks. */
  readonly #times: number[] = []
  #transactions = 0
  #blocks = 0
  #gas = 0

  constructor(chain: Chain, o: { blockTimeMs: number; clock: Clock }) {
    this.#chain = chain
    this.#blockTimeMs = o.blockTimeMs
    this.#clock = o.clock
    this.#startedMs = o.clock.monotonic()
    chain.onHead(e => {
      if (e.removed) return
      this.#blocks++
      this.#transactions += e.transactions
      this.#gas += Number(e.header.gasUsed)
      if (this.#times.push(o.clock.monotonic()) > WINDOW) this.#times.shift()
    })
  }

  /** Blocks a second lately. */
  rate(): number {
    const [first, last] = [this.#times[0], this.#times.at(-1)]
    if (first === undefined || last === undefined || last === first) return 0
    return ((this.#times.length - 1) * 1000) / (last - first)
  }

  readiness(): Readiness {
    const { number } = this.#chain.head()
    const silentMs = this.#clock.monotonic() - (this.#times.at(-1) ?? this.#startedMs)
    const beats = this.#blockTimeMs > 0
    const stalled = beats && silentMs > Math.max(STALL_MS, MISSED_BEATS * this.#blockTimeMs)
    return {
      ok: !stalled,
      state: stalled ? 'stalled' : 'ready',
      ...(stalled ? { reason: `no block for ${Math.round(silentMs / 1000)} s` } : {}),
      progress: `block ${formatCount(number)}${beats ? `  ${this.rate().toFixed(1)}/s` : ''}`,
      busy: beats && this.#blockTimeMs <= STALL_MS,
      blockNumber: number,
      chainId: this.#chain.chainId
    }
  }

  publish(metrics: Metrics): void {
    const { pool } = this.#chain
    metrics.gauge('head_block', 'Height of the newest block', () => this.#chain.head().number)
    metrics.gauge('pool_pending_transactions', 'Executable transactions waiting', () => pool.counts().pending)
    metrics.gauge('pool_queued_transactions', 'Transactions behind a nonce gap', () => pool.counts().queued)
    metrics.gauge('base_fee_wei', 'Base fee of the next block', () => Number(this.#chain.nextBaseFee()))
    // Sums since the start; read as counters.
    metrics.gauge('blocks_total', 'Blocks made since the start', () => this.#blocks)
    metrics.gauge('transactions_total', 'Transactions in blocks since the start', () => this.#transactions)
    metrics.gauge('gas_used_total', 'Gas used in blocks since the start', () => this.#gas)
    // The engine's own figures: sizes of caches, commits, bytes on disk.
    const { native } = this.#chain
    let [stats, takenMs] = [native.stats(), this.#clock.monotonic()]
    for (const name of Object.keys(stats)) {
      metrics.gauge(`engine_${metricName(name)}`, `${name} of the execution client`, () => {
        // One look for all gauges of a scrape: the allocator walks its lists for it.
        if (this.#clock.monotonic() - takenMs > STATS_AGE_MS)
          [stats, takenMs] = [native.stats(), this.#clock.monotonic()]
        return stats[name] ?? 0
      })
    }
    const delay = monitorEventLoopDelay({ resolution: LOOP_TICK_MS })
    delay.enable()
    metrics.gauge(
      'event_loop_delay_p99_seconds',
      'How long a request waits for the event loop, p99 since the last look',
      () => {
        // What is recorded is the time from one tick to the next: the tick itself is no delay.
        const seconds = Math.max(0, delay.percentile(99) / 1e9 - LOOP_TICK_MS / 1e3)
        delay.reset()
        return seconds
      }
    )
  }

  dump(): Record<string, unknown> {
    const head = this.#chain.head()
    return {
      type: 'state',
      time: new Date(this.#clock.now()).toISOString(),
      number: head.number,
      pool: this.#chain.pool.counts(),
      blocks: this.#blocks,
      transactions: this.#transactions,
      blocks_per_second: this.rate(),
      // V8's side of the memory; the engine's stands among its figures.
      memory: process.memoryUsage(),
      engine: this.#chain.native.stats()
    }
  }
}

/** As Prometheus takes names. */
function metricName(name: string): string {
  return name.replace(/[^a-zA-Z0-9]+/g, '_').toLowerCase()
}
