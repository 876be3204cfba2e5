/** JSON-RPC over HTTP, WebSocket (same port) and a Unix socket, with plain routes beside it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { LIMITS } from '../../base/limits.ts'
import { HttpError, type HttpListener, listenHttp, readBody, sendError } from '../http.ts'
import { type DispatchOptions, dispatchNow } from './dispatch.ts'
import { attachFast, type FastPath, HttpContext } from './fast.ts'
import type { Live, RpcServer, RpcServerOptions } from './types.ts'
import { type Listener, listenUnix } from './unix.ts'
import { attachWebSocket } from './websocket.ts'

/** Starts the listeners that `opts` asks for. @throws {ZgError} ERR_PORT_IN_USE, ERR_PERMISSION, ERR_UNAVAILABLE. */
export async function serveRpc(opts: RpcServerOptions): Promise<RpcServer> {
  // One controller a connection or request: AbortSignal.any on a long-lived signal leaks in Node 20.
  const live: Live = new Set()
  const rpc: DispatchOptions = {
    methods: opts.methods,
    together: opts.together,
    onCall: opts.onCall,
    onBug: opts.onBug
  }
  if (opts.answerBytes !== undefined) rpc.answerBytes = opts.answerBytes
  let http: HttpListener | undefined
  let ws: Listener | undefined
  let fast: FastPath | undefined
  let unix: Listener | undefined
  try {
    if (opts.port !== undefined) {
      http = await listenHttp({
        port: opts.port,
        handler: (req, res, url) => serve(req, res, url, opts, rpc, live),
        cors: opts.cors ?? 'none',
        ...(opts.host === undefined ? {} : { host: opts.host }),
        ...(opts.allowedHosts === undefined ? {} : { allowedHosts: opts.allowedHosts }),
        ...(opts.connections === undefined ? {} : { connections: opts.connections }),
        gate: opts.gate,
        onError: err => opts.onBug?.('http', err)
      })
      if (opts.fast === true && opts.authorize === undefined) {
        fast = attachFast(http.server, {
          rpc,
          live,
          bodyBytes: opts.bodyBytes ?? LIMITS.httpBodyBytes,
          allowedHosts: opts.allowedHosts ?? [],
          anyOrigin: opts.cors === 'any'
        })
      }
      if (opts.websocket && opts.authorize === undefined)
        ws = attachWebSocket(http.server, {
          rpc,
          live,
          allowedHosts: opts.allowedHosts ?? [],
          anyOrigin: opts.cors === 'any'
        })
    }
    if (opts.socketPath !== undefined) unix = await listenUnix(opts.socketPath, rpc, live)
  } catch (err) {
    await http?.close()
    throw err
  }
  return {
    url: http?.url,
    port: http?.port,
    async close() {
      for (const connection of live) connection.abort()
      fast?.stop()
      await Promise.all([ws?.close(), unix?.close(), http?.close()])
    }
  }
}

async function serve(
  req: IncomingMessage,
  res: ServerResponse,
  url: URL,
  opts: RpcServerOptions,
  rpc: DispatchOptions,
  live: Live
): Promise<void> {
  try {
    for (const route of opts.routes ?? []) if (await route(req, res, url)) return
    if (req.method !== 'POST')
      throw new HttpError(
        req.method === 'GET' ? 404 : 405,
        'ERR_NOT_FOUND',
        `nothing at ${req.method} ${url.pathname.slice(0, 80)}`
      )
    if (opts.authorize !== undefined && !opts.authorize(req.headers.authorization))
      throw new HttpError(401, 'ERR_PERMISSION', 'this server needs a bearer token')
    const body = await readBody(req, opts.bodyBytes ?? LIMITS.httpBodyBytes)
    const ctx = new HttpContext(live)
    res.once('close', () => ctx.end())
    const text = await dispatchNow(body.toString('utf8'), ctx, rpc)
    if (res.destroyed) return
    const answer = Buffer.from(text ?? '')
    res.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length })
    res.end(answer)
  } catch (err) {
    if (!(err instanceof HttpError)) throw err
    if (res.headersSent) res.destroy()
    else sendError(req, res, err)
  }
}
