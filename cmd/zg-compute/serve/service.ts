/** What the HTTP side of a running `serve` knows, in both of its forms: the plain model server, and the paid provider. */
import type { ServiceRecord } from '../../../lib/codec/compute/abi.ts'
import type { Prices } from '../../../lib/codec/compute/fee.ts'
import type { Quote } from '../../../lib/codec/compute/quote.ts'
import type { Engine } from '../../../lib/infer/types.ts'
import type { Readiness } from '../../../lib/ops/http.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Metrics } from '../../../lib/ops/metrics.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Random } from '../../../lib/ports/random.ts'
import type { FeeBook } from '../ledger/fee-book.ts'
import type { SignatureStore } from '../ledger/signatures.ts'
import type { Gate } from '../server/gate.ts'
import type { ModelSet } from '../server/model-set.ts'
import type { Pacer } from '../server/pace.ts'
import type { Slots } from '../server/slots.ts'
import type { Traces } from '../server/traces.ts'
import type { Upstreams } from '../server/upstream.ts'

/** The paid side. */
export interface Broker {
  /** 20 bytes. */
  readonly provider: Uint8Array
  /** Address and key of the response and voucher signer. */
  readonly signer: Uint8Array
  readonly signerKey: Uint8Array
  readonly gate: Gate
  readonly book: FeeBook
  readonly signatures: SignatureStore
  /** What a request costs now: after a rise the old price for a while. */
  prices(): Prices
  quote(): Quote
  service(): ServiceRecord | undefined
  /** A fee was recorded: perhaps time to settle. */
  onDebt(user: Uint8Array): void
}

export interface Counters {
  requests: { inc(by?: number, labels?: Record<string, string>): void }
  refusals: { inc(by?: number, labels?: Record<string, string>): void }
  promptTokens: { inc(by?: number): void }
  completionTokens: { inc(by?: number): void }
  fees: { inc(by?: number): void }
  firstTokenSeconds: { observe(value: number): void }
  tokenSeconds: { observe(value: number): void }
}

export interface Service {
  /** Undefined while it loads. */
  engine: Engine | undefined
  /** Models beside it, opened on demand; undefined: none. */
  readonly others: ModelSet | undefined
  /** Servers behind this one; undefined: none. */
  readonly upstreams: Upstreams | undefined
  /** What `/metrics` says. */
  metrics(): Promise<string>
  /** Names of the served model, its own first; empty while it loads. */
  modelNames: string[]
  /** Unix seconds. */
  modelCreated: number
  fingerprint: string
  broker: Broker | undefined
  /** True when started with a provider key, also before the broker stands. */
  readonly paid: boolean
  readonly slots: Slots
  /** When streams send. */
  readonly pacer: Pacer
  readonly traces: Traces
  /** Generations under way: aborted when stopping takes too long. */
  readonly running: Set<AbortController>
  /** No new generation is begun. */
  draining: boolean
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly counters: Counters
  ready(): Readiness
}

/** The counters of a process. */
export function makeCounters(metrics: Metrics): Counters {
  return {
    requests: metrics.counter('requests_total', 'requests answered', ['route', 'status']),
    refusals: metrics.counter('refusals_total', 'requests refused', ['reason']),
    promptTokens: metrics.counter('prompt_tokens_total', 'tokens of prompts'),
    completionTokens: metrics.counter('completion_tokens_total', 'tokens made'),
    fees: metrics.counter('fees_neuron_total', 'fees recorded since start, as a double'),
    firstTokenSeconds: metrics.histogram(
      'first_token_seconds',
      'time to the first token',
      [0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
    ),
    tokenSeconds: metrics.histogram(
      'between_tokens_seconds',
      'time from a token of a request to its next',
      [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1]
    )
  }
}
