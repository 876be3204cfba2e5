/** `/health` (alive), `/ready` (useful) and `/metrics` of a long-running verb. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { sendJson, sendText } from '../adapters/http.ts'
import type { Metrics } from './metrics.ts'

export interface Readiness {
  ok: boolean
  /** `starting ready syncing degraded stalled`. */
  state: string
  /** Why it is not ready, for people. */
  reason?: string
  [field: string]: unknown
}

/** A route for RpcServerOptions.routes. */
export function opsRoutes(opts: {
  ready: () => Readiness | Promise<Readiness>
  metrics?: Metrics
}): (req: IncomingMessage, res: ServerResponse, url: URL) => Promise<boolean> {
  return async (req, res, url) => {
    if (req.method !== 'GET' && req.method !== 'HEAD') return false
    switch (url.pathname) {
      case '/health':
        sendJson(res, 200, { ok: true, uptime_seconds: Math.round(process.uptime()), pid: process.pid })
        return true
      case '/ready': {
        const ready = await opts.ready()
        sendJson(res, ready.ok ? 200 : 503, ready)
        return true
      }
      case '/metrics':
        if (opts.metrics === undefined) return false
        sendText(res, 200, 'text/plain; version=0.0.4', await opts.metrics.text())
        return true
      default:
        return false
    }
  }
}
