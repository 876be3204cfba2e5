/**
 * `zg-compute bench`: how fast an OpenAI-compatible server is, measured from outside. Prompts of a wanted length, streamed answers, so many
 * at once; each prompt begins differently, so that no server answers from what it remembers.
 */
import { ZgError } from '../../../lib/base/errors.ts'
import { formatCount, formatDuration } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { ask } from '../../../lib/clients/compute/answer.ts'
import { listModels } from '../../../lib/clients/compute/session.ts'
import { LOCAL_URL } from './embed.ts'

const WORDS =
  'the ship sailed over a quiet sea while men spoke of law and trade and winter came with long nights'.split(' ')

interface One {
  promptTokens: number
  tokens: number
  firstMs: number
  totalMs: number
  /** Between pieces of the answer. */
  gapsMs: number[]
}

export async function bench(ctx: VerbContext, _args: string[], opts: Options): Promise<number> {
  const base = ((opts.url as string | undefined) ?? LOCAL_URL).replace(/\/+$/, '')
  const model = (opts.model as string | undefined) ?? (await listModels(base, ctx.signal))[0]?.id
  if (model === undefined) throw new ZgError('ERR_NOT_FOUND', `${base} serves no model`)
  const requests = opts.requests as number
  const promptTokens = opts.promptTokens as number
  const maxTokens = opts.maxTokens as number
  const levels = (opts.parallel as string)
    .split(',')
    .map(text => (/^[1-9]\d{0,3}$/.test(text.trim()) ? Number(text) : Number.NaN))
  if (levels.some(Number.isNaN)) throw new ZgError('ERR_USAGE', `'${String(opts.parallel)}' is not a list of numbers`)
  const run = new Bench(ctx, base, model, maxTokens)
  // Also warms the server; and tells how many words make so many tokens.
  const words = await run.calibrate(promptTokens)
  ctx.say(`${model} on ${base}: prompts of about ${promptTokens} tokens, answers of ${maxTokens}`)
  if (!ctx.json) {
    ctx.print(
      { type: 'bench' },
      row([
        'at once',
        'req/s',
        'prefill',
        'decode',
        'total',
        'first p50',
        'p95',
        'p99',
        'next p50',
        'p95',
        'p99',
        'failed'
      ])
    )
  }
  let failed = 0
  for (const parallel of levels) {
    const result = await run.level(parallel, Math.max(requests, parallel), words)
    failed += result.failed
    ctx.print(
      { type: 'bench', url: base, model, parallel, ...result },
      row([
        String(parallel),
        result.requests_per_second.toFixed(2),
        `${formatCount(Math.round(result.prefill_tokens_per_second))}/s`,
        `${formatCount(Math.round(result.decode_tokens_per_second))}/s`,
        `${formatCount(Math.round(result.total_tokens_per_second))}/s`,
        ...[result.first_p50_seconds, result.first_p95_seconds, result.first_p99_seconds].map(short),
        ...[result.next_p50_seconds, result.next_p95_seconds, result.next_p99_seconds].map(short),
        String(result.failed)
      ])
    )
  }
  return failed === 0 ? 0 : 1
}

const WIDTHS = [7, 8, 10, 10, 10, 9, 8, 8, 8, 8, 8, 6]

function row(cells: string[]): string {
  return cells.map((cell, i) => cell.padStart(WIDTHS[i]!)).join('  ')
}

function short(seconds: number): string {
  return formatDuration(seconds * 1000)
}

class Bench {
  readonly #ctx: VerbContext
  readonly #base: string
  readonly #model: string
  readonly #maxTokens: number
  #number = 0

  constructor(ctx: VerbContext, base: string, model: string, maxTokens: number) {
    this.#ctx = ctx
    this.#base = base
    this.#model = model
    this.#maxTokens = maxTokens
  }

  /** Words of a prompt that has about so many tokens. */
  async calibrate(tokens: number): Promise<number> {
    const sample = Math.min(tokens, 64)
    const one = await this.#one(sample, 1)
    if (one.promptTokens === 0)
      throw new ZgError('ERR_PROTOCOL', `${this.#base} does not say how many tokens it counted`)
    return Math.max(1, Math.round((sample * tokens) / one.promptTokens))
  }

  async level(parallel: number, requests: number, words: number): Promise<Result> {
    const done: One[] = []
    let failed = 0
    let left = requests
    let failure: unknown
    const began = performance.now()
    const worker = async (): Promise<void> => {
      while (left-- > 0) {
        try {
          done.push(await this.#one(words, this.#maxTokens))
        } catch (err) {
          this.#ctx.signal.throwIfAborted()
          failed++
          failure = err
        }
      }
    }
    await Promise.all(Array.from({ length: parallel }, worker))
    const seconds = (performance.now() - began) / 1000
    if (done.length === 0) throw failure
    return summary(done, failed, seconds)
  }

  async #one(words: number, maxTokens: number): Promise<One> {
    const number = this.#number++
    const text = Array.from(
      { length: words },
      (_, i) => WORDS[(i * 7 + number * 13 + ((i * number) % 5)) % WORDS.length]
    )
    const body = {
      model: this.#model,
      // Different from the first token on.
      prompt: `${number} ${process.pid} ${text.join(' ')}`,
      max_tokens: maxTokens,
      temperature: 0,
      ignore_eos: true
    }
    const gapsMs: number[] = []
    let last: number | undefined
    const stream = ask({ base: this.#base }, 'completions', body, this.#ctx.signal)
    for (;;) {
      const { value, done } = await stream.next()
      const now = performance.now()
      if (done === true) {
        return {
          promptTokens: value.promptTokens,
          tokens: value.completionTokens,
          firstMs: value.firstTokenMs === 0 ? value.totalMs : value.firstTokenMs,
          totalMs: value.totalMs,
          gapsMs
        }
      }
      if (last !== undefined) gapsMs.push(now - last)
      last = now
    }
  }
}

interface Result {
  requests: number
  failed: number
  seconds: number
  requests_per_second: number
  prompt_tokens: number
  completion_tokens: number
  /** Of one request, prompt tokens over the time to the first one. */
  prefill_tokens_per_second: number
  /** Of one request, tokens behind the first over their time. */
  decode_tokens_per_second: number
  /** All made together. */
  total_tokens_per_second: number
  first_p50_seconds: number
  first_p95_seconds: number
  first_p99_seconds: number
  next_p50_seconds: number
  next_p95_seconds: number
  next_p99_seconds: number
}

function summary(done: One[], failed: number, seconds: number): Result {
  const sum = (of: (one: One) => number): number => done.reduce((all, one) => all + of(one), 0)
  const firsts = done.map(one => one.firstMs / 1000).sort((a, b) => a - b)
  const gaps = done.flatMap(one => one.gapsMs.map(ms => ms / 1000)).sort((a, b) => a - b)
  const decoding = sum(one => Math.max(0, one.totalMs - one.firstMs)) / 1000
  return {
    requests: done.length,
    failed,
    seconds: digits(seconds),
    requests_per_second: digits(done.length / seconds),
    prompt_tokens: sum(one => one.promptTokens),
    completion_tokens: sum(one => one.tokens),
    prefill_tokens_per_second: digits(sum(one => one.promptTokens) / (sum(one => one.firstMs) / 1000)),
    decode_tokens_per_second: digits(decoding > 0 ? sum(one => Math.max(0, one.tokens - 1)) / decoding : 0),
    total_tokens_per_second: digits(sum(one => one.tokens) / seconds),
    first_p50_seconds: digits(percentile(firsts, 50)),
    first_p95_seconds: digits(percentile(firsts, 95)),
    first_p99_seconds: digits(percentile(firsts, 99)),
    next_p50_seconds: digits(percentile(gaps, 50)),
    next_p95_seconds: digits(percentile(gaps, 95)),
    next_p99_seconds: digits(percentile(gaps, 99))
  }
}

/** Of sorted values, by the nearest rank; 0 of none. */
export function percentile(sorted: readonly number[], p: number): number {
  return sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.ceil((p / 100) * sorted.length) - 1)]!
}

function digits(n: number): number {
  return Number(n.toPrecision(6))
}
