/**
 * HTTP as the store's clients need it: kept-alive connections, a deadline and a byte bound on every exchange, errors that name
 * the node. Bodies are received into one buffer of the announced length, so that a segment is copied once.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { messageOf, systemCode, ZgError } from '../../base/errors.ts'

export interface HttpRequest {
  method?: string
  headers?: Record<string, string>
  /** Parts are sent one behind the other. */
  body?: readonly Uint8Array[]
  signal?: AbortSignal | undefined
  /** Whole exchange; 30 s when absent. */
  timeoutMs?: number
  /** Answers beyond this are refused; 1 MiB when absent. */
  maxBytes?: number
}

export interface HttpAnswer {
  status: number
  headers: IncomingHttpHeaders
  body: Uint8Array
}

const MiB = 1024 * 1024
// Sockets a host: enough to keep a fast node busy, few enough not to look like an attack.
const http = new HttpAgent({ keepAlive: true, maxSockets: 64, scheduling: 'lifo' })
const https = new HttpsAgent({ keepAlive: true, maxSockets: 64, scheduling: 'lifo' })

const REASONS: Record<string, string> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection closed',
  EPIPE: 'connection closed',
  ENOTFOUND: 'unknown host',
  EAI_AGAIN: 'unknown host',
  ETIMEDOUT: 'timed out',
  EHOSTUNREACH: 'host unreachable',
  ENETUNREACH: 'network unreachable'
}

/** No answer from there, in words. */
export function unreachable(url: string, err: unknown): ZgError {
  const code = systemCode(err)
  const why = (code !== undefined && REASONS[code]) || messageOf(err)
  return new ZgError('ERR_UNAVAILABLE', `cannot reach ${origin(url)}: ${why}`, { cause: err })
}

/** Scheme, host and port of a URL, as messages name a node. */
export function origin(url: string): string {
  try {
    return new URL(url).origin
  } catch {
    return url
  }
}

/**
 * One HTTP exchange.
 * @throws {ZgError} ERR_UNAVAILABLE (unreachable, closed early), ERR_TIMEOUT, ERR_PROTOCOL (answer too large), or the
 *   signal's own reason.
 */
export function exchange(url: string, opts: HttpRequest = {}): Promise<HttpAnswer> {
  const timeoutMs = opts.timeoutMs ?? 30_000
  const maxBytes = opts.maxBytes ?? MiB
  return new Promise<HttpAnswer>((resolve, reject) => {
    if (opts.signal?.aborted) return reject(opts.signal.reason)
    let settled = false
    const secure = url.startsWith('https:')
    const headers: Record<string, string> = { ...opts.headers }
    if (opts.body !== undefined)
      headers['content-length'] = String(opts.body.reduce((sum, part) => sum + part.length, 0))
    let req: ReturnType<typeof httpRequest>
    const finish = (fn: () => void): void => {
      if (settled) return
      settled = true
      clearTimeout(timer)
      opts.signal?.removeEventListener('abort', onAbort)
      fn()
    }
    const fail = (err: unknown): void =>
      finish(() => {
        req?.destroy()
        reject(err)
      })
    const onAbort = (): void => fail(opts.signal?.reason)
    const timer = setTimeout(
      () => fail(new ZgError('ERR_TIMEOUT', `${origin(url)} did not answer within ${Math.round(timeoutMs / 1000)} s`)),
      timeoutMs
    )
    opts.signal?.addEventListener('abort', onAbort, { once: true })
    try {
      const start = secure ? httpsRequest : httpRequest
      req = start(url, { method: opts.method ?? 'GET', headers, agent: secure ? https : http }, res => {
        receive(res, maxBytes, opts.method === 'HEAD').then(
          bytes => finish(() => resolve({ status: res.statusCode ?? 0, headers: res.headers, body: bytes })),
          err => fail(err instanceof ZgError ? err : unreachable(url, err))
        )
      })
      req.on('error', err => fail(unreachable(url, err)))
      // Corked, so that a small header and the segment behind it leave in one write.
      for (const part of opts.body ?? []) req.write(part)
      req.end()
    } catch (err) {
      fail(new ZgError('ERR_USAGE', `'${url}' is not a URL`, { cause: err }))
    }
  })
}

/**
 * Collects a body: into one buffer where its length is announced. Events, not an async iterator, and memory that is not zeroed
 * first: together a third of the processor time of a download.
 */
function receive(res: IncomingMessage, maxBytes: number, head: boolean): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const announced = Number(res.headers['content-length'] ?? -1)
    if (head) {
      res.resume()
      resolve(new Uint8Array(0))
      return
    }
    if (announced > maxBytes) {
      reject(new ZgError('ERR_PROTOCOL', `answer of ${announced} bytes is over ${maxBytes}`))
      return
    }
    const whole = announced > 0 ? Buffer.allocUnsafeSlow(announced) : undefined
    const parts: Uint8Array[] = []
    let size = 0
    res.on('data', (chunk: Buffer) => {
      if (whole !== undefined) chunk.copy(whole, size)
      else parts.push(chunk)
      size += chunk.length
      if (size > maxBytes) reject(new ZgError('ERR_PROTOCOL', `answer is over ${maxBytes} bytes`))
    })
    res.once('end', () => {
      // Never a buffer that was filled in part: what lies behind is not zeroed.
      if (whole !== undefined && size !== announced) reject(cutShort())
      else resolve(whole ?? Buffer.concat(parts, size))
    })
    res.once('error', reject)
    res.once('close', () => reject(cutShort()))
  })
}

export function cutShort(): ZgError {
  return new ZgError('ERR_UNAVAILABLE', 'the connection closed in the middle of an answer')
}
