/** A small JSON-RPC client over HTTP for daemons and verbs: deadlines, bounded answers, errors of one kind. */
import { messageOf, systemCode, ZgError } from '../../base/errors.ts'
import { AnswerTooLarge, postJson } from './post.ts'
import { RPC, RpcError } from './types.ts'

export interface RpcClientOptions {
  timeoutMs?: number
  signal?: AbortSignal | undefined
  /** Names the thing in errors: `node`, `chain`, `indexer`. */
  what?: string
  hint?: string
  /** Made anew for each request: tokens age. */
  headers?: () => Record<string, string>
  /** Of one answer. What is larger counts as refused by the server with its code for limits, and is not read to its end. */
  maxBytes?: number
}

/** One endpoint. Errors: RpcError as the server answered it; ZgError ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_PROTOCOL, ERR_STOPPED. */
export class RpcClient {
  readonly url: string
  readonly #opts: RpcClientOptions
  #id = 0
  constructor(url: string, opts: RpcClientOptions = {}) {
    this.url = url
    this.#opts = opts
  }

  async call<T>(method: string, params: readonly unknown[] = [], opts: RpcClientOptions = {}): Promise<T> {
    const answer = (await this.#post({ jsonrpc: '2.0', id: ++this.#id, method, params }, opts)) as RpcAnswer | undefined
    return unwrap<T>(answer, this.#name(opts), this.url)
  }

  /** Several calls in one request; each answer is a value or the RpcError it got. */
  async batch<T>(
    calls: readonly { method: string; params?: readonly unknown[] }[],
    opts: RpcClientOptions = {}
  ): Promise<(T | RpcError)[]> {
    if (calls.length === 0) return []
    const first = this.#id + 1
    this.#id += calls.length
    const body = calls.map((c, i) => ({ jsonrpc: '2.0', id: first + i, method: c.method, params: c.params ?? [] }))
    const answers = await this.#post(body, opts)
    if (!Array.isArray(answers)) return unwrap(answers as RpcAnswer, this.#name(opts), this.url)
    const byId = new Map((answers as RpcAnswer[]).map(a => [a.id, a]))
    return calls.map((_, i) => {
      try {
        return unwrap<T>(byId.get(first + i), this.#name(opts), this.url)
      } catch (err) {
        if (err instanceof RpcError) return err
        throw err
      }
    })
  }

  /**
   * Sends a batch that is text already, and reads its answer only if it tells an error.
   * @returns the calls that failed; empty: all were answered.
   */
  async send(batch: string, opts: RpcClientOptions = {}): Promise<{ id: unknown; error: { message: string } }[]> {
    const text = await this.#exchange(batch, opts)
    if (text.text.startsWith('[') && !text.text.includes('"error"')) return []
    const answers = this.#parse(text, opts)
    const list = (Array.isArray(answers) ? answers : [answers]) as RpcAnswer[]
    return list.flatMap(({ id, error }) =>
      error === undefined ? [] : [{ id, error: { message: String(error.message ?? 'error without a message') } }]
    )
  }

  #name(opts: RpcClientOptions): string {
    return opts.what ?? this.#opts.what ?? 'server'
  }

  async #post(body: unknown, opts: RpcClientOptions): Promise<unknown> {
    return this.#parse(await this.#exchange(JSON.stringify(body), opts), opts)
  }

  async #exchange(body: string, opts: RpcClientOptions): Promise<{ status: number; text: string }> {
    const o = { ...this.#opts, ...opts }
    const timeoutMs = o.timeoutMs ?? 30_000
    const stop = new AbortController()
    const timer = setTimeout(() => stop.abort(new DOMException('deadline', 'TimeoutError')), timeoutMs)
    // Not AbortSignal.any: on a long-lived signal it leaks in Node 20.
    const onAbort = (): void => stop.abort(o.signal?.reason)
    if (o.signal?.aborted) onAbort()
    o.signal?.addEventListener('abort', onAbort, { once: true })
    try {
      return await postJson(this.url, body, stop.signal, o.headers?.(), o.maxBytes)
    } catch (err) {
      if (err instanceof AnswerTooLarge) throw new RpcError(RPC.limit, err.message)
      throw fetchError(err, { url: this.url, what: this.#name(opts), timeoutMs, signal: o.signal, hint: o.hint })
    } finally {
      clearTimeout(timer)
      o.signal?.removeEventListener('abort', onAbort)
    }
  }

  #parse({ status, text }: { status: number; text: string }, opts: RpcClientOptions): unknown {
    try {
      return JSON.parse(text)
    } catch {
      throw new ZgError('ERR_PROTOCOL', `${this.#name(opts)} at ${this.url} answered HTTP ${status} that is not JSON`)
    }
  }
}

interface RpcAnswer {
  id: unknown
  result?: unknown
  error?: { code?: unknown; message?: unknown; data?: unknown }
}

function unwrap<T>(answer: RpcAnswer | undefined, what: string, url: string): T {
  if (typeof answer !== 'object' || answer === null)
    throw new ZgError('ERR_PROTOCOL', `${what} at ${url} did not answer a call`)
  if (answer.error !== undefined) {
    const { code, message, data } = answer.error
    throw new RpcError(
      typeof code === 'number' ? code : -32603,
      typeof message === 'string' ? message : 'error without a message',
      data
    )
  }
  return answer.result as T
}

/** Turns what an HTTP exchange throws into one ZgError: refused and unreachable, timed out, or stopped by the caller. */
export function fetchError(
  err: unknown,
  o: { url: string; what: string; timeoutMs: number; signal?: AbortSignal | undefined; hint?: string | undefined }
): ZgError {
  if (err instanceof ZgError) return err
  if (o.signal?.aborted) return new ZgError('ERR_STOPPED', 'stopped', { cause: err })
  if (err instanceof Error && err.name === 'TimeoutError') {
    return new ZgError(
      'ERR_TIMEOUT',
      `${o.what} at ${o.url} did not answer within ${Math.round(o.timeoutMs / 1000)} s`,
      { cause: err, hint: o.hint }
    )
  }
  const code = systemCode(err)
  const why =
    code === 'ECONNREFUSED'
      ? 'nothing listens there'
      : code === 'ENOTFOUND' || code === 'EAI_AGAIN'
        ? 'unknown host'
        : code === 'ECONNRESET' || code === 'UND_ERR_SOCKET'
          ? 'connection lost'
          : messageOf(err)
  return new ZgError('ERR_UNAVAILABLE', `cannot reach ${o.what} at ${o.url}: ${why}`, {
    cause: err,
    hint: o.hint ?? "run 'zg-devnet up', or give another URL"
  })
}
