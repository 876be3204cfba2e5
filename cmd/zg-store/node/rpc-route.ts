/**
 * `POST` on any path: JSON-RPC with segments in it. Bodies are taken apart while they arrive (json-body.ts), and a segment that is
 * asked for leaves as one prebuilt buffer, base64 and answer around it, without a string of it ever being made. All else, errors
 * and batches too, goes the ordinary way through the dispatcher.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { HttpError, sendError } from '../../../lib/adapters/http.ts'
import { type DispatchOptions, dispatchNow } from '../../../lib/adapters/jsonrpc/dispatch.ts'
import { HttpContext } from '../../../lib/adapters/jsonrpc/fast.ts'
import type { HttpRoute, Live, RpcContext, RpcParams } from '../../../lib/adapters/jsonrpc/types.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import { BodyReader } from './body-reader.ts'
import { type Lease, sendBytes } from './buffers.ts'
import { type Blob, JsonBody } from './json-body.ts'

/** An answer ready to be sent: JSON text with the result of a call, without `}` at its end. */
export interface Frame {
  readonly lease: Lease
  readonly size: number
}

/** Makes the answer to a call, given what stands before the result; undefined: let the dispatcher answer. */
export type FrameMethod = (params: RpcParams, head: string) => Promise<Frame | undefined>

export interface RpcRouteOptions {
  rpc: DispatchOptions
  frames: Record<string, FrameMethod>
  bodyBytes: number
}

/** A context with the blobs of its request. */
export interface BlobContext extends RpcContext {
  readonly blobs?: readonly Blob[]
}

class StoreContext extends HttpContext implements BlobContext {
  readonly blobs: readonly Blob[]
  constructor(live: Live, blobs: readonly Blob[]) {
    super(live)
    this.blobs = blobs
  }
}

export function rpcRoute(o: RpcRouteOptions): HttpRoute {
  return async (req, res) => {
    if (req.method !== 'POST') return false
    const body = new JsonBody()
    try {
      await receive(req, body, o.bodyBytes)
      await answer(o, body, res)
    } catch (err) {
      if (!(err instanceof HttpError)) throw err
      if (res.headersSent) res.destroy()
      else sendError(req, res, err)
    } finally {
      body.release()
    }
    return true
  }
}

/** Takes a body within the bounds of `readBody`, with the same errors. */
async function receive(req: IncomingMessage, body: JsonBody, maxBytes: number): Promise<void> {
  const announced = Number(req.headers['content-length'] ?? 0)
  if (announced > maxBytes) {
    throw new HttpError(413, 'ERR_BAD_INPUT', `body has ${announced} bytes, at most ${maxBytes} are allowed`)
  }
  const reader = new BodyReader(req)
  let late = false
  const timer = setTimeout(() => {
    late = true
    reader.end()
  }, LIMITS.httpRequestTimeoutMs)
  try {
    let size = 0
    for (let piece = await reader.next(); piece !== undefined; piece = await reader.next()) {
      size += piece.length
      if (size > maxBytes) {
        req.pause()
        throw new HttpError(413, 'ERR_BAD_INPUT', `body is larger than ${maxBytes} bytes`)
      }
      body.push(piece)
    }
    if (late) throw new HttpError(408, 'ERR_TIMEOUT', 'body did not arrive in time')
    if (!reader.complete) throw new HttpError(400, 'ERR_BAD_INPUT', 'connection closed within the body')
  } finally {
    clearTimeout(timer)
  }
}

async function answer(o: RpcRouteOptions, body: JsonBody, res: ServerResponse): Promise<void> {
  const text = body.text()
  const frame = await quick(o, text)
  if (frame !== undefined) return send(res, frame)
  const context = new StoreContext(new Set(), body.blobs)
  res.once('close', () => context.end())
  const out = Buffer.from((await dispatchNow(text, context, o.rpc)) ?? '')
  if (res.destroyed) return
  res.writeHead(200, { 'content-type': 'application/json', 'content-length': out.length })
  res.end(out)
}

/** The answer to a single, plain call of one of the frame methods. */
async function quick(o: RpcRouteOptions, text: string): Promise<Frame | undefined> {
  if (text.length > 1024 || !text.includes('_download')) return undefined
  const started = performance.now()
  let call: { method?: unknown; params?: unknown; id?: unknown }
  try {
    call = JSON.parse(text)
  } catch {
    return undefined
  }
  const { method, params, id } = call ?? {}
  if (typeof method !== 'string' || !Array.isArray(params)) return undefined
  if (typeof id !== 'number' && typeof id !== 'string') return undefined
  const fn = Object.hasOwn(o.frames, method) ? o.frames[method] : undefined
  if (fn === undefined) return undefined
  try {
    const frame = await fn(params, `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":`)
    if (frame !== undefined) o.rpc.onCall?.(method, performance.now() - started, undefined)
    return frame
  } catch {
    // The dispatcher will meet the same error and knows what to say.
    return undefined
  }
}

function send(res: ServerResponse, frame: Frame): void {
  if (res.destroyed) {
    frame.lease.release()
    return
  }
  res.writeHead(200, { 'content-type': 'application/json', 'content-length': frame.size })
  sendBytes(res, frame.lease.bytes.subarray(0, frame.size), frame.lease)
  res.end()
}
