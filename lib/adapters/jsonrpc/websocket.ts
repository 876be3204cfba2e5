/** JSON-RPC over WebSocket: bounded messages, bounded unsent bytes, pings; a slow reader is dropped, events never are. */
import type { IncomingMessage, Server } from 'node:http'
import { type WebSocket, WebSocketServer } from 'ws'
import { LIMITS } from '../../base/limits.ts'
import { hostAllowed } from '../http.ts'
import { type DispatchOptions, dispatch } from './dispatch.ts'
import type { Live, RpcContext } from './types.ts'

export interface WebSocketOptions {
  rpc: DispatchOptions
  live: Live
  allowedHosts: string[]
  /** Browsers send an Origin; without `anyOrigin` only pages from localhost may connect. */
  anyOrigin: boolean
}

/** Calls of one connection that run at once; more wait in the socket. */
const IN_FLIGHT = 64

export function attachWebSocket(server: Server, opts: WebSocketOptions): { close(): Promise<void> } {
  const wss = new WebSocketServer({
    server,
    maxPayload: LIMITS.wsMessageBytes,
    perMessageDeflate: false,
    // An upgrade passes the HTTP handler by, so the Host is checked here again.
    verifyClient: ({ origin, req }: { origin?: string; req: IncomingMessage }) =>
      hostAllowed(req.headers.host, opts.allowedHosts) &&
      (opts.anyOrigin || !origin || /^https?:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/.test(origin))
  })
  wss.on('error', () => {})
  wss.on('connection', ws => serveConnection(ws, opts))
  const pings = setInterval(() => {
    for (const ws of wss.clients) {
      const peer = ws as WebSocket & { alive?: boolean }
      if (peer.alive === false) peer.terminate()
      peer.alive = false
      peer.ping()
    }
  }, LIMITS.wsPingMs)
  pings.unref()
  return {
    async close() {
      clearInterval(pings)
      for (const ws of wss.clients) ws.close(1001, 'node stops')
      const timer = setTimeout(() => {
        for (const ws of wss.clients) ws.terminate()
      }, 500)
      await new Promise<void>(resolve => wss.close(() => resolve()))
      clearTimeout(timer)
    }
  }
}

function serveConnection(ws: WebSocket & { alive?: boolean }, opts: WebSocketOptions): void {
  const gone = new AbortController()
  opts.live.add(gone)
  const closers: (() => void)[] = []
  let running = 0
  const push = (text: string): boolean => {
    if (ws.readyState !== ws.OPEN) return false
    if (ws.bufferedAmount > LIMITS.wsUnsentBytes) {
      ws.terminate()
      return false
    }
    ws.send(text)
    return true
  }
  const ctx: RpcContext = {
    transport: 'ws',
    signal: gone.signal,
    session: new Map(),
    onClose: fn => closers.push(fn),
    notify: (method, params) => push(JSON.stringify({ jsonrpc: '2.0', method, params }))
  }
  ws.on('pong', () => {
    ws.alive = true
  })
  ws.on('error', () => ws.terminate())
  ws.on('close', () => {
    gone.abort()
    opts.live.delete(gone)
    for (const fn of closers) fn()
  })
  ws.on('message', data => {
    ws.alive = true
    if (++running >= IN_FLIGHT) ws.pause()
    dispatch(data.toString(), ctx, opts.rpc)
      .then(text => {
        if (text !== undefined) push(text)
      })
      .finally(() => {
        if (--running < IN_FLIGHT && ws.isPaused) ws.resume()
      })
  })
}
