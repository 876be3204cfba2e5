/** How the gateway answers: upstream's envelope, plain errors under /v1/, and streams that respect their reader. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { answerUnread, sendJson } from '../../../lib/adapters/http.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { LIMITS } from '../../../lib/base/limits.ts'

/** Business errors of the envelope (storage.md 5.2). */
export const CODES = {
  parameter: 1,
  internal: 2,
  notFound: 101,
  pruned: 102,
  notFinal: 103,
  noPath: 104,
  tooLarge: 105,
  unsupported: 106
} as const

const WORDS: Record<number, string> = {
  1: 'Invalid parameter',
  2: 'Internal server error',
  101: 'File not found',
  102: 'File already pruned',
  103: 'File not finalized yet',
  104: 'Path not found',
  105: 'File too large',
  106: 'Type unsupported'
}

/** Something that the envelope has a code for. */
export class GatewayError extends Error {
  readonly code: number
  readonly data: unknown
  constructor(code: number, data?: unknown) {
    super(WORDS[code] ?? 'error')
    this.code = code
    this.data = data
  }
}

export function sendData(res: ServerResponse, data: unknown): void {
  sendJson(res, 200, { code: 0, message: 'Success', data })
}

/** Turns what a route threw into its answer: business errors are HTTP 200, the rest 500. */
export function sendFailure(res: ServerResponse, err: unknown): void {
  const known = gatewayError(err)
  if (known !== undefined) {
    sendJson(res, 200, { code: known.code, message: known.message, data: known.data ?? null })
  } else {
    const text = err instanceof ZgError ? err.message : 'internal error'
    sendJson(res, 500, { code: CODES.internal, message: WORDS[2], data: text })
  }
}

function gatewayError(err: unknown): GatewayError | undefined {
  if (err instanceof GatewayError) return err
  if (!(err instanceof ZgError)) return undefined
  switch (err.code) {
    case 'ERR_NOT_FOUND':
      return new GatewayError(CODES.notFound)
    case 'ERR_NOT_SYNCED':
      return new GatewayError(CODES.notFinal)
    case 'ERR_BAD_INPUT':
    case 'ERR_USAGE':
      return new GatewayError(CODES.parameter, err.message)
    default:
      return undefined
  }
}

const STATUS: Partial<Record<string, number>> = {
  ERR_BAD_INPUT: 400,
  ERR_USAGE: 400,
  ERR_NOT_FOUND: 404,
  ERR_PERMISSION: 403,
  ERR_FUNDS: 402,
  ERR_NOT_SYNCED: 409,
  ERR_LOCKED: 409,
  ERR_UNAVAILABLE: 503,
  ERR_TIMEOUT: 504,
  ERR_DISK_FULL: 507
}

/** Errors under /v1/: plain HTTP statuses. */
export function sendPlainFailure(req: IncomingMessage, res: ServerResponse, err: unknown): void {
  const gone = err instanceof GatewayError && err.code === CODES.pruned
  const z = err instanceof ZgError ? err : gone ? new ZgError('ERR_NOT_FOUND', 'the file was pruned') : undefined
  // A body that was not read must not be taken for the next request.
  if (!req.complete) answerUnread(req, res)
  const error = { code: z?.code ?? 'ERR_BUG', message: z?.message ?? 'internal error', hint: z?.hint }
  sendJson(res, gone ? 410 : ((z && STATUS[z.code]) ?? 500), { error })
}

export interface Body {
  sizeBytes: number
  etag: string
  name: string
  /** Media type. */
  type: string
  bytes(start: number, end: number, signal: AbortSignal): AsyncIterable<Uint8Array>
}

/** Reads the first part before it says (by `undefined`) that the head may go: what cannot be had is then an answer, not a broken connection. */
async function* primed(parts: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array | undefined> {
  const iterator = parts[Symbol.asyncIterator]()
  try {
    let next = await iterator.next()
    yield undefined
    for (; !next.done; next = await iterator.next()) yield next.value
  } finally {
    await iterator.return?.()
  }
}

/** Sends a verified stream with HEAD, Range, If-Range and If-None-Match. Breaks the connection when it fails half-way. */
export async function sendBody(req: IncomingMessage, res: ServerResponse, body: Body): Promise<void> {
  const { sizeBytes, etag } = body
  res.setHeader('etag', etag)
  res.setHeader('accept-ranges', 'bytes')
  // What strangers stored must not act with the rights of this origin in a browser.
  res.setHeader('x-content-type-options', 'nosniff')
  res.setHeader('content-security-policy', "sandbox; default-src 'none'")
  if (matches(req.headers['if-none-match'], etag)) {
    res.writeHead(304)
    res.end()
    return
  }
  const asked =
    req.headers['if-range'] === undefined || req.headers['if-range'] === etag ? req.headers.range : undefined
  const range = parseRange(asked, sizeBytes)
  if (range === 'unsatisfiable') {
    res.writeHead(416, { 'content-range': `bytes */${sizeBytes}`, 'content-length': 0 })
    res.end()
    return
  }
  const [start, end] = range ?? [0, sizeBytes]
  const head = (): void => {
    res.setHeader('content-type', body.type)
    res.setHeader('content-disposition', disposition(body.name))
    res.setHeader('content-length', end - start)
    if (range !== undefined) res.setHeader('content-range', `bytes ${start}-${end - 1}/${sizeBytes}`)
    res.writeHead(range === undefined ? 200 : 206)
  }
  if (req.method === 'HEAD') {
    head()
    res.end()
    return
  }
  const gone = new AbortController()
  res.once('close', () => gone.abort(new ZgError('ERR_STOPPED', 'the client went away')))
  try {
    for await (const part of primed(body.bytes(start, end, gone.signal))) {
      if (part === undefined) head()
      else await write(res, part)
    }
    res.end()
  } catch (err) {
    if (gone.signal.aborted) return
    if (!res.headersSent) {
      for (const name of ['etag', 'accept-ranges', 'content-security-policy']) res.removeHeader(name)
      throw err
    }
    // The length is promised already: only a broken connection tells the client that this is not the file.
    res.destroy()
    throw err
  }
}

/** `If-None-Match`: a list of tags, weak or strong, or a star. */
export function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  return header.split(',').some(t => t.trim() === '*' || t.trim().replace(/^W\//, '') === etag)
}

/** Writes with back-pressure; a reader that takes nothing for half a minute is dropped. */
function write(res: ServerResponse, part: Uint8Array): Promise<void> {
  if (res.write(part)) return Promise.resolve()
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => finish(() => reject(new ZgError('ERR_TIMEOUT', 'the client reads nothing'))),
      LIMITS.httpIdleBodyMs
    )
    const onDrain = (): void => finish(resolve)
    const onClose = (): void => finish(() => reject(new ZgError('ERR_STOPPED', 'the client went away')))
    const finish = (fn: () => void): void => {
      clearTimeout(timer)
      res.off('drain', onDrain)
      res.off('close', onClose)
      fn()
    }
    res.once('drain', onDrain)
    res.once('close', onClose)
  })
}

/** One range of bytes as [start, end), undefined for the whole (also for several ranges, which HTTP allows). */
export function parseRange(header: string | undefined, size: number): [number, number] | 'unsatisfiable' | undefined {
  const m = header === undefined ? null : /^bytes=(\d{0,16})-(\d{0,16})$/.exec(header.trim())
  if (m === null || (m[1] === '' && m[2] === '')) return undefined
  if (m[1] === '') {
    const last = Number(m[2])
    return last === 0 ? 'unsatisfiable' : [Math.max(0, size - last), size]
  }
  const start = Number(m[1])
  const end = m[2] === '' ? size : Math.min(size, Number(m[2]) + 1)
  if (m[2] !== '' && Number(m[2]) < start) return undefined
  return start >= size ? 'unsatisfiable' : [start, end]
}

/** The name quoted for old readers and in UTF-8 for others (RFC 6266); nothing in it can end the header. */
function disposition(name: string): string {
  const plain = name.replace(/[^\x20-\x7e]|["\\]/g, '_').slice(0, 200)
  const full = encodeURIComponent(name.slice(0, 200)).replace(/['()*]/g, c => `%${c.charCodeAt(0).toString(16)}`)
  return plain === name
    ? `attachment; filename="${plain}"`
    : `attachment; filename="${plain}"; filename*=UTF-8''${full}`
}
