/** Prometheus metrics of one process: `zg_<tool>_<thing>_<unit>`, base units, bounded labels. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

export interface Metrics {
  counter(name: string, help: string, labels?: string[]): { inc(by?: number, labels?: Record<string, string>): void }
  gauge(name: string, help: string, read: () => number): void
  histogram(
    name: string,
    help: string,
    buckets: number[],
    labels?: string[]
  ): { observe(value: number, labels?: Record<string, string>): void }
  text(): Promise<string>
}

/** `prefix` is `zg_chain`, `zg_store`, … */
export function createMetrics(prefix: string): Metrics {
  const register = new Registry()
  collectDefaultMetrics({ register, eventLoopMonitoringPrecision: 20 })
  return {
    counter(name, help, labels = []) {
      const c = new Counter({ name: `${prefix}_${name}`, help, labelNames: labels, registers: [register] })
      return { inc: (by = 1, l = {}) => c.inc(l, by) }
    },
    gauge(name, help, read) {
      new Gauge({
        name: `${prefix}_${name}`,
        help,
        registers: [register],
        collect() {
          this.set(read())
        }
      })
    },
    histogram(name, help, buckets, labels = []) {
      const h = new Histogram({ name: `${prefix}_${name}`, help, buckets, labelNames: labels, registers: [register] })
      return { observe: (value, l = {}) => h.observe(l, value) }
    },
    text: () => register.metrics()
  }
}

/** Counts and times JSON-RPC calls. Only known methods become labels: a stranger must not invent series. */
export function rpcMetrics(
  metrics: Metrics,
  known: readonly string[]
): (method: string, ms: number, errorCode: number | undefined) => void {
  const names = new Set(known)
  const calls = metrics.counter('rpc_calls_total', 'JSON-RPC calls answered', ['method', 'result'])
  const seconds = metrics.histogram(
    'rpc_call_seconds',
    'Time to answer a JSON-RPC call',
    [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10]
  )
  return (method, ms, errorCode) => {
    calls.inc(1, { method: names.has(method) ? method : 'unknown', result: errorCode === undefined ? 'ok' : 'error' })
    seconds.observe(ms / 1000)
  }
}
