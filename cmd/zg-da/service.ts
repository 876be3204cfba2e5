/** What the three daemons share: a chain that may start later than they do, health and metrics on a port of their own. */
import { setMaxListeners } from 'node:events'
import { systemClock } from '../../lib/adapters/clock.ts'
import { listenHttp, sendJson } from '../../lib/adapters/http.ts'
import { messageOf, ZgError } from '../../lib/base/errors.ts'
import type { Options, VerbContext } from '../../lib/cli/types.ts'
import { ChainClient } from '../../lib/clients/chain.ts'
import { DaChain } from '../../lib/clients/da/chain.ts'
import { findEndpoint } from '../../lib/clients/network.ts'
import { opsRoutes, type Readiness } from '../../lib/ops/http.ts'
import type { Logger } from '../../lib/ops/log.ts'
import type { Metrics } from '../../lib/ops/metrics.ts'

/** What a daemon says about itself at `/ready`. */
export interface State {
  ready: boolean
  /** Why not, for people. */
  reason: string
}

/** Beside a chain that starts at the same time every moment counts; later it is down, and patience is cheaper. */
const QUICK_TRIES = 60
const QUICK_MS = 100
const PATIENT_MS = 5_000
const CALL_MS = 10_000

/**
 * Connects to the chain and waits until it answers.
 * @throws {ZgError} ERR_NO_NETWORK (nowhere to connect to), ERR_STOPPED.
 */
export async function reachChain(
  ctx: VerbContext,
  opts: Options,
  o: { state: State; logger: Logger; signal: AbortSignal }
): Promise<DaChain> {
  const url = await findEndpoint(opts.rpcUrl as string | undefined, ctx.network, 'rpc', `zg-da ${ctx.verb}`)
  const client = new ChainClient(url, { signal: o.signal, timeoutMs: CALL_MS })
  let told: string | undefined
  for (let attempt = 0; ; attempt++) {
    try {
      return await DaChain.open(client, { entrance: opts.entrance as string | undefined })
    } catch (err) {
      if (o.signal.aborted) throw new ZgError('ERR_STOPPED', 'stopped', { cause: err })
      const message = messageOf(err)
      o.state.reason = `chain: ${message}`
      if (message !== told) o.logger.warn('chain not reached', { chain: url, error: message })
      told = message
      await systemClock.sleep(attempt < QUICK_TRIES ? QUICK_MS : PATIENT_MS, o.signal)
    }
  }
}

/** `/health`, `/ready` and `/metrics` on a loopback port. */
export async function serveOps(
  port: number,
  state: State,
  metrics: Metrics,
  facts: () => Record<string, unknown> = () => ({})
): Promise<{ port: number; close(): Promise<void> }> {
  const ready = (): Readiness =>
    state.ready
      ? { ok: true, state: 'ready', ...facts() }
      : { ok: false, state: 'starting', reason: state.reason, ...facts() }
  const route = opsRoutes({ ready, metrics })
  return listenHttp({
    port,
    handler: async (req, res, url) => {
      if (!(await route(req, res, url)))
        sendJson(res, 404, { error: { code: 'ERR_NOT_FOUND', message: 'no such page' } })
    }
  })
}

/** A controller whose signal many calls wait on at once. */
export function stopper(): AbortController {
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  return stop
}

/** Runs what must be closed, newest first, and never stops half-way. */
export class Closers {
  readonly #all: (() => Promise<unknown> | unknown)[] = []

  add(fn: () => Promise<unknown> | unknown): void {
    this.#all.push(fn)
  }

  async run(): Promise<void> {
    for (const fn of this.#all.splice(0).reverse()) await Promise.resolve(fn()).catch(() => {})
  }
}

/** Metrics of the gRPC face. */
export function callMetrics(metrics: Metrics): (method: string, ms: number, status: number) => void {
  const calls = metrics.counter('grpc_calls_total', 'gRPC calls answered', ['method', 'code'])
  const seconds = metrics.histogram(
    'grpc_call_seconds',
    'Time to answer a gRPC call',
    [0.005, 0.02, 0.1, 0.5, 2, 10, 60],
    ['method']
  )
  return (method, ms, status) => {
    calls.inc(1, { method, code: String(status) })
    seconds.observe(ms / 1000, { method })
  }
}

/** Failures that end by themselves, or when somebody sends coins. */
const PASSING: readonly string[] = ['ERR_UNAVAILABLE', 'ERR_TIMEOUT', 'ERR_FUNDS']

/** Tries again while the chain is what fails; what only a person can change is thrown. */
export async function patiently<T>(fn: () => Promise<T>, state: State, signal: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await fn()
    } catch (err) {
      if (signal.aborted || !(err instanceof ZgError) || !PASSING.includes(err.code)) throw err
      state.reason = messageOf(err)
      await systemClock.sleep(500, signal)
    }
  }
}
