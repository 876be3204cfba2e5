/**
 * The HTTP edge of every tool: an explicit bound on each thing a stranger controls (headers, body, time, connections), a Host
 * allow-list against DNS rebinding, and small helpers for routes. Sources: reliability.md 6 and 7.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { messageOf, systemCode, ZgError } from '../base/errors.ts'
import { LIMITS } from '../base/limits.ts'

export type HttpHandler = (req: IncomingMessage, res: ServerResponse, url: URL) => void | Promise<void>

export interface HttpOptions {
  handler: HttpHandler
  port: number
  host?: string
  cors?: 'any' | 'none'
  allowedHosts?: string[]
  connections?: number
  gate?: ConnectionGate | undefined
  onError?: (err: unknown) => void
}

/** Decides when a new connection is read for the first time; until `go` is called nothing of it is in this process's memory. */
export type ConnectionGate = (socket: Socket, go: () => void) => void

export interface HttpListener {
  server: Server
  port: number
  url: string
  close(): Promise<void>
}

/** Listens; every request has passed the Host check and, with `cors: 'any'`, preflights are answered. @throws {ZgError} ERR_PORT_IN_USE, ERR_PERMISSION. */
export async function listenHttp(opts: HttpOptions): Promise<HttpListener> {
  const host = opts.host ?? '127.0.0.1'
  const inFlight = new Set<ServerResponse>()
  const server = createServer(
    {
      maxHeaderSize: LIMITS.httpHeaderBytes,
      headersTimeout: LIMITS.httpHeadersTimeoutMs,
      // Whole-request deadlines differ between a call and a streamed upload, so `readBody` sets them, not the server.
      requestTimeout: 0,
      keepAliveTimeout: LIMITS.httpKeepAliveCloseMs,
      connectionsCheckingInterval: LIMITS.httpCheckIntervalMs
    },
    (req, res) => {
      inFlight.add(res)
      res.once('close', () => inFlight.delete(res))
      // Node would tell the time after which it closes; a client that was busy until then would send into the close.
      if (res.shouldKeepAlive) res.setHeader('keep-alive', KEEP_ALIVE)
      handle(req, res, opts).catch(err => {
        opts.onError?.(err)
        if (!res.headersSent) sendJson(res, 500, { error: { code: 'ERR_BUG', message: 'internal error' } })
        else res.destroy()
      })
    }
  )
  server.maxConnections = opts.connections ?? LIMITS.httpConnections
  boundPerAddress(server)
  const waiting = opts.gate === undefined ? undefined : gated(server, opts.gate)
  await listen(server, opts.port, host)
  const port = (server.address() as AddressInfo).port
  const shown = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host
  return { server, port, url: `http://${shown}:${port}`, close: () => closeServer(server, inFlight, waiting) }
}

const KEEP_ALIVE = `timeout=${LIMITS.httpKeepAliveMs / 1000}`

/** Makes an answer the last one of its connection. */
export function lastAnswer(res: ServerResponse): void {
  res.removeHeader('keep-alive')
  res.setHeader('connection', 'close')
}

/**
 * For an answer before the body was read to its end: it is the last one of its connection, so that the rest cannot be mistaken for a
 * request. What still comes is dropped for a while instead of closing at once: a socket that is closed with bytes unread resets the
 * connection, and the client then sees the reset instead of the answer.
 */
export function answerUnread(req: IncomingMessage, res: ServerResponse): void {
  lastAnswer(res)
  const { socket } = req
  req.removeAllListeners('data')
  // Called by Node once the last answer is written.
  socket.destroySoon = () => {
    socket.end()
    const timer = setTimeout(() => socket.destroy(), LIMITS.httpLingerMs)
    socket.once('close', () => clearTimeout(timer))
    if (req.complete) socket.destroy()
    else {
      req.once('end', () => socket.destroy())
      req.resume()
    }
  }
}

/** Connections a remote (not loopback) address may hold. */
const PER_ADDRESS = 64

function boundPerAddress(server: Server): void {
  const open = new Map<string, number>()
  server.on('connection', (socket: Socket) => {
    const from = socket.remoteAddress ?? ''
    if (from.startsWith('127.') || from === '::1' || from.startsWith('::ffff:127.')) return
    const count = (open.get(from) ?? 0) + 1
    if (count > PER_ADDRESS) {
      socket.destroy()
      return
    }
    open.set(from, count)
    socket.once('close', () => {
      const rest = (open.get(from) ?? 1) - 1
      if (rest === 0) open.delete(from)
      else open.set(from, rest)
    })
  })
}

/** Puts a gate between accepting a connection and reading it. @returns the connections that wait there. */
function gated(server: Server, gate: ConnectionGate): Set<Socket> {
  const handOver = server.listeners('connection').at(0) as (this: Server, socket: Socket) => void
  const waiting = new Set<Socket>()
  const ignore = (): void => {}
  server.removeListener('connection', handOver)
  // As the option of net.createServer, which an HTTP server does not pass on.
  Object.assign(server, { pauseOnConnect: true })
  server.on('connection', (socket: Socket) => {
    if (socket.destroyed) return
    waiting.add(socket)
    socket.on('error', ignore)
    gate(socket, () => {
      waiting.delete(socket)
      socket.off('error', ignore)
      if (socket.destroyed) return
      handOver.call(server, socket)
      socket.resume()
    })
  })
  return waiting
}

async function handle(req: IncomingMessage, res: ServerResponse, opts: HttpOptions): Promise<void> {
  if (!hostAllowed(req.headers.host, opts.allowedHosts)) {
    sendJson(res, 403, {
      error: {
        code: 'ERR_PERMISSION',
        message: 'this Host is not allowed',
        hint: "start the node with '--allow-host NAME'"
      }
    })
    return
  }
  if (opts.cors === 'any') {
    res.setHeader('access-control-allow-origin', '*')
    if (req.method === 'OPTIONS') {
      res.writeHead(204, {
        'access-control-allow-methods': 'GET, HEAD, POST, PUT, OPTIONS',
        'access-control-allow-headers': req.headers['access-control-request-headers'] ?? 'content-type',
        'access-control-expose-headers': 'etag, content-length, content-range, content-disposition',
        'access-control-max-age': '86400'
      })
      res.end()
      return
    }
  }
  let url: URL
  try {
    url = new URL(req.url ?? '/', 'http://localhost')
  } catch {
    sendJson(res, 400, { error: { code: 'ERR_BAD_INPUT', message: 'malformed URL' } })
    return
  }
  await opts.handler(req, res, url)
}

/** A name that resolves anywhere could be an attacker's that now points here; literals and localhost could not. */
export function hostAllowed(header: string | undefined, allowed: string[] = []): boolean {
  if (header === undefined) return true
  const name = header.replace(/:\d+$/, '').toLowerCase()
  if (name === 'localhost' || name.endsWith('.localhost') || /^[\d.]+$/.test(name) || name.startsWith('[')) return true
  return allowed.includes(name)
}

/** Binds a port. @throws {ZgError} ERR_PORT_IN_USE or ERR_PERMISSION. */
async function listen(server: Server, port: number, host: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', err => {
      const code = systemCode(err)
      if (code === 'EADDRINUSE') {
        reject(
          new ZgError('ERR_PORT_IN_USE', `port ${port} is in use`, {
            cause: err,
            hint: 'choose another port, or stop the process that holds it'
          })
        )
      } else if (code === 'EACCES') {
        reject(new ZgError('ERR_PERMISSION', `may not listen on ${host}:${port}`, { cause: err }))
      } else
        reject(new ZgError('ERR_UNAVAILABLE', `cannot listen on ${host}:${port}: ${messageOf(err)}`, { cause: err }))
    })
    server.listen({ port, host, backlog: 4096 }, resolve)
  })
}

async function closeServer(server: Server, inFlight: Set<ServerResponse>, waiting?: Set<Socket>): Promise<void> {
  const closed = new Promise<void>(resolve => server.close(() => resolve()))
  for (const socket of waiting ?? []) socket.destroy()
  server.closeIdleConnections()
  for (const res of inFlight) if (!res.headersSent) lastAnswer(res)
  const timer = setTimeout(() => server.closeAllConnections(), LIMITS.shutdownMs)
  // An idle kept-alive connection may come back between the two calls above; sweep until all are gone.
  const sweep = setInterval(() => server.closeIdleConnections(), 50)
  await closed
  clearTimeout(timer)
  clearInterval(sweep)
}

/**
 * Reads a whole body.
 * @throws {HttpError} 413 above `maxBytes`, 408 when it is not complete within `timeoutMs`, 400 when the client goes away.
 */
export async function readBody(
  req: IncomingMessage,
  maxBytes: number,
  timeoutMs: number = LIMITS.httpRequestTimeoutMs
): Promise<Buffer> {
  const announced = Number(req.headers['content-length'] ?? 0)
  if (announced > maxBytes)
    throw new HttpError(413, 'ERR_BAD_INPUT', `body has ${announced} bytes, at most ${maxBytes} are allowed`)
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = []
    let size = 0
    const timer = setTimeout(() => fail(new HttpError(408, 'ERR_TIMEOUT', 'body did not arrive in time')), timeoutMs)
    const fail = (err: Error): void => {
      clearTimeout(timer)
      req.removeAllListeners('data')
      req.pause()
      reject(err)
    }
    req.on('data', (part: Buffer) => {
      size += part.length
      if (size > maxBytes) fail(new HttpError(413, 'ERR_BAD_INPUT', `body is larger than ${maxBytes} bytes`))
      else parts.push(part)
    })
    req.once('end', () => {
      clearTimeout(timer)
      resolve(parts.length === 1 ? parts[0]! : Buffer.concat(parts, size))
    })
    req.once('error', () => fail(new HttpError(400, 'ERR_BAD_INPUT', 'connection closed within the body')))
    req.once('close', () => {
      if (!req.complete) fail(new HttpError(400, 'ERR_BAD_INPUT', 'connection closed within the body'))
    })
  })
}

/** An HTTP answer other than 2xx, with the JSON body of every plain route. */
export class HttpError extends Error {
  readonly status: number
  readonly code: string
  readonly hint: string | undefined
  constructor(status: number, code: string, message: string, hint?: string) {
    super(message)
    this.name = 'HttpError'
    this.status = status
    this.code = code
    this.hint = hint
  }
}

/** Answers an HttpError; the connection is closed when the body was not read to its end, so that it cannot be mistaken for a request. */
export function sendError(req: IncomingMessage, res: ServerResponse, err: HttpError): void {
  if (!req.complete) answerUnread(req, res)
  sendJson(res, err.status, {
    error: { code: err.code, message: err.message, ...(err.hint === undefined ? {} : { hint: err.hint }) }
  })
}

/** One JSON answer. */
export function sendJson(res: ServerResponse, status: number, value: unknown): void {
  sendText(res, status, 'application/json', JSON.stringify(value))
}

/** One text answer. */
export function sendText(res: ServerResponse, status: number, type: string, text: string): void {
  const body = Buffer.from(text)
  res.writeHead(status, { 'content-type': type, 'content-length': body.length })
  res.end(res.req.method === 'HEAD' ? undefined : body)
}
