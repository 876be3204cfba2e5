/**
 * Other servers of the same API behind this one: asked every few seconds what they serve, and given the requests for it, each time to
 * the one with the fewest under way. A server that cannot be reached, or is busy before it has said a word, is passed over for the next.
 */
import type { ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { messageOf } from '../../../lib/base/errors.ts'
import { ApiError } from '../../../lib/infer/openai.ts'
import { sseError } from '../../../lib/infer/openai-answer.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import { type Clock, repeat } from '../../../lib/ports/clock.ts'
import { BusyError } from './errors.ts'

/** Between two looks at a server. */
export const CHECK_MS = 5_000
/** A look, the connection included. */
const CHECK_TIMEOUT_MS = 4_000
/** Models of one server that are listed. */
const MODELS_MAX = 1_000
/** Bytes of a list of models. */
const LIST_MAX_BYTES = 4 << 20

interface Upstream {
  base: string
  healthy: boolean
  models: Record<string, unknown>[]
  running: number
  served: number
  trouble: string | undefined
}

export interface UpstreamOptions {
  /** With or without `/v1` at their end. */
  urls: readonly string[]
  /** Sent as a bearer token. */
  key: string | undefined
  clock: Clock
  logger: Logger
}

export class Upstreams {
  readonly #o: UpstreamOptions
  readonly #all: Upstream[]
  #stop: () => void = () => {}

  constructor(o: UpstreamOptions) {
    this.#o = o
    this.#all = o.urls.map(url => ({
      base: url.replace(/\/+$/, '').replace(/(\/v1)?$/, '/v1'),
      healthy: false,
      models: [],
      running: 0,
      served: 0,
      trouble: 'not asked yet'
    }))
  }

  /** Asks all of them once, then again and again. */
  async start(): Promise<void> {
    this.#stop = repeat(this.#o.clock, CHECK_MS, () => this.#checkAll())
    await this.#checkAll()
  }

  stop(): void {
    this.#stop()
  }

  get healthy(): number {
    return this.#all.filter(u => u.healthy).length
  }

  get running(): number {
    return this.#all.reduce((sum, u) => sum + u.running, 0)
  }

  status(): {
    url: string
    healthy: boolean
    models: number
    running: number
    served: number
    trouble: string | null
  }[] {
    return this.#all.map(u => ({
      url: u.base,
      healthy: u.healthy,
      models: u.models.length,
      running: u.running,
      served: u.served,
      trouble: u.trouble ?? null
    }))
  }

  /** What healthy servers serve, each model once. */
  models(): Record<string, unknown>[] {
    const byId = new Map<string, Record<string, unknown>>()
    for (const u of this.#all)
      if (u.healthy) for (const m of u.models) if (!byId.has(String(m.id))) byId.set(String(m.id), m)
    return [...byId.values()]
  }

  /** Whether any server has it, healthy or not. */
  has(model: string): boolean {
    return this.#all.some(u => u.models.some(m => m.id === model))
  }

  /**
   * Passes a request on and the answer back, as it comes and no faster than the client reads.
   * @param path - below `/v1`.
   * @throws {BusyError} 503 before anything was sent, when no server that has the model answers.
   */
  async forward(path: string, model: string, body: Uint8Array, res: ServerResponse): Promise<void> {
    const stop = new AbortController()
    const onClose = (): void => stop.abort()
    res.once('close', onClose)
    const tried = new Set<Upstream>()
    let busy: { status: number; retryAfter: number } | undefined
    try {
      for (;;) {
        const u = this.#pick(model, tried)
        if (u === undefined) break
        tried.add(u)
        u.running++
        try {
          const answer = await this.#ask(u, path, body, stop.signal)
          if (answer === undefined) continue
          if ((answer.status === 429 || answer.status === 503) && this.#pick(model, tried) !== undefined) {
            busy = { status: answer.status, retryAfter: Number(answer.headers.get('retry-after')) || 1 }
            await answer.body?.cancel()
            continue
          }
          u.served++
          await this.#pass(u, answer, res, stop.signal)
          return
        } finally {
          u.running--
        }
      }
    } finally {
      res.off('close', onClose)
    }
    if (stop.signal.aborted) return
    if (busy?.status === 429)
      throw new BusyError(429, 'overloaded', 'all servers behind this one are busy', busy.retryAfter)
    throw new BusyError(503, 'overloaded', `no server behind this one answers for '${model.slice(0, 100)}'`, 5)
  }

  #pick(model: string, tried: ReadonlySet<Upstream>): Upstream | undefined {
    return this.#all
      .filter(u => u.healthy && !tried.has(u) && u.models.some(m => m.id === model))
      .sort((a, b) => a.running - b.running || a.served - b.served)[0]
  }

  /** Undefined when it cannot be reached; it is not asked again before it was seen to live. */
  async #ask(u: Upstream, path: string, body: Uint8Array, signal: AbortSignal): Promise<Response | undefined> {
    try {
      return await fetch(`${u.base}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...this.#auth() },
        body,
        redirect: 'error',
        signal
      })
    } catch (err) {
      if (!signal.aborted) this.#down(u, messageOf((err as { cause?: unknown }).cause ?? err))
      return undefined
    }
  }

  async #pass(u: Upstream, answer: Response, res: ServerResponse, signal: AbortSignal): Promise<void> {
    const type = answer.headers.get('content-type') ?? 'application/json'
    const stream = type.startsWith('text/event-stream')
    const retry = answer.headers.get('retry-after')
    if (retry !== null) res.setHeader('Retry-After', retry)
    res.writeHead(answer.status, { 'Content-Type': type, 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' })
    res.socket?.setNoDelay(true)
    if (answer.body === null) {
      res.end()
      return
    }
    try {
      await pipeline(Readable.fromWeb(answer.body as never), res, { end: false, signal })
      res.end()
    } catch (err) {
      if (signal.aborted || res.destroyed) return
      this.#o.logger.warn('a server broke off an answer', { url: u.base, error: messageOf(err) })
      // Half of a JSON object can only be broken off, too.
      if (stream) res.end(sseError(new ApiError(503, 'the server behind this one broke off', { type: 'overloaded' })))
      else res.destroy()
    }
  }

  #auth(): Record<string, string> {
    return this.#o.key === undefined ? {} : { authorization: `Bearer ${this.#o.key}` }
  }

  async #checkAll(): Promise<void> {
    await Promise.all(this.#all.map(u => this.#check(u)))
  }

  async #check(u: Upstream): Promise<void> {
    try {
      const res = await fetch(`${u.base}/models`, {
        headers: this.#auth(),
        redirect: 'error',
        signal: AbortSignal.timeout(CHECK_TIMEOUT_MS)
      })
      const text = await bounded(res)
      if (!res.ok) throw new Error(`HTTP ${res.status}`)
      const { data } = JSON.parse(text) as { data?: unknown }
      if (!Array.isArray(data)) throw new Error('its list of models is none')
      u.models = data
        .filter((m: unknown): m is Record<string, unknown> => typeof (m as { id?: unknown } | null)?.id === 'string')
        .slice(0, MODELS_MAX)
      if (!u.healthy) this.#o.logger.info('server is there', { url: u.base, models: u.models.length })
      u.healthy = true
      u.trouble = undefined
    } catch (err) {
      this.#down(u, messageOf((err as { cause?: unknown }).cause ?? err))
    }
  }

  #down(u: Upstream, why: string): void {
    if (u.healthy || u.trouble === 'not asked yet') this.#o.logger.warn('server is away', { url: u.base, error: why })
    u.healthy = false
    u.trouble = why
  }
}

async function bounded(res: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of (res.body ?? []) as AsyncIterable<Uint8Array>) {
    size += part.length
    if (size > LIST_MAX_BYTES) throw new Error('its list of models is longer than 4 MiB')
    parts.push(part)
  }
  return Buffer.concat(parts).toString()
}
