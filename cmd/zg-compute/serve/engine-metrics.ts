/** What `/metrics` says of the engine: queue, cache, batches, drafts. All are read when they are asked for. */
import type { Engine, EngineStats } from '../../../lib/infer/types.ts'
import type { Metrics } from '../../../lib/ops/metrics.ts'

const GAUGES: [name: keyof EngineStats, help: string][] = [
  ['running', 'sequences that share the steps'],
  ['waiting', 'sequences that wait for a start'],
  ['accounts', 'accounts with requests'],
  ['pagesUsed', 'pages of the cache that sequences hold'],
  ['pagesIdle', 'pages that only remember a beginning'],
  ['pages', 'pages there may be'],
  ['pageBytes', 'bytes of a page: keys and values of 16 positions'],
  ['steps', 'forward passes'],
  ['rows', 'positions computed; divided by steps: the batch'],
  ['promptTokens', 'positions of prompts computed'],
  ['cachedTokens', 'tokens of prompts that were there already'],
  ['tokens', 'tokens drawn'],
  ['drafted', 'tokens guessed'],
  ['accepted', 'guesses that were right'],
  ['preempted', 'sequences that made way and were computed again'],
  ['cancelled', 'requests cancelled'],
  ['expired', 'requests that waited too long'],
  ['busySeconds', "time of the engine's thread in steps"]
]

/** @param engine - undefined while it loads: all is 0. */
export function engineMetrics(metrics: Metrics, engine: () => Engine | undefined): void {
  for (const [key, help] of GAUGES) {
    const name = `engine_${key.replace(/[A-Z]/g, c => `_${c.toLowerCase()}`)}`
    metrics.gauge(name, help, () => engine()?.stats?.()[key] ?? 0)
  }
}
