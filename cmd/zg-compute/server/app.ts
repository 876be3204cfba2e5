/**
 * The public HTTP service (compute.md 2.1): which path is what, who must show a token, and how refusals look. One POST body at a time is
 * read into memory per request, and all together stay within a bound.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { answerUnread, type HttpHandler, readBody, sendJson, sendText } from '../../../lib/adapters/http.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { addressFromHex, toHex } from '../../../lib/base/hex.ts'
import { responseText, signatureRecord } from '../../../lib/codec/compute/response-signature.ts'
import { TokenRefusal } from '../../../lib/codec/compute/session-token.ts'
import { checksumAddress } from '../../../lib/crypto/address.ts'
import { sha256 } from '../../../lib/crypto/hash.ts'
import { ApiError, type Fields, flag, parseBody } from '../../../lib/infer/openai.ts'
import { adapterList } from '../../../lib/infer/openai-adapters.ts'
import type { Broker, Service } from '../serve/service.ts'
import { answer } from './answer.ts'
import { embeddings } from './embeddings.ts'
import { apiError, BusyError, isBug, notFound, refusalReason, sendRefusal } from './errors.ts'
import type { Rate } from './gate.ts'
import type { Held } from './model-set.ts'
import { hold, modelList } from './models.ts'
import type { Kind } from './plan.ts'

/** A request's body. */
export const BODY_MAX_BYTES = 32 * 1024 * 1024
/** Bodies in memory at once. */
export const BODIES_MAX_BYTES = 128 * 1024 * 1024
/** Until a body is there. */
const BODY_TIMEOUT_MS = 30_000
/** Counted for a body that does not say how long it is. */
const UNKNOWN_BYTES = 1024 * 1024

const EXPOSED =
  'ZG-Res-Key, Provider, Retry-After, ZG-Failure-Source, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, ' +
  'x-ratelimit-reset-requests'

interface Route {
  /** Label of the counter. */
  name: string
  methods: readonly string[]
  /** `{"error":"text"}` instead of OpenAI's form. */
  plainErrors?: boolean
  run: (req: IncomingMessage, res: ServerResponse, url: URL) => Promise<void>
}

/** The handler of the public port. */
export function publicHandler(s: Service): HttpHandler {
  const bodies = new Budget()
  return async (req, res, url) => {
    res.setHeader('Access-Control-Allow-Origin', '*')
    res.setHeader('Access-Control-Expose-Headers', EXPOSED)
    const route = findRoute(s, normalPath(url.pathname), bodies)
    let failed = ''
    try {
      if (route === undefined) throw notFound('endpoint not supported', 'endpoint_not_supported')
      if (req.method === 'OPTIONS' && route.methods.includes('POST')) preflight(res)
      else if (!route.methods.includes(req.method ?? '')) {
        throw new ApiError(405, `${req.method} is not allowed here`)
      } else await route.run(req, res, url)
    } catch (err) {
      const refusal = apiError(err)
      failed = refusalReason(refusal)
      s.counters.refusals.inc(1, { reason: failed })
      if (isBug(err)) s.logger.error('a request failed inside', { error: messageOf(err) })
      if (res.headersSent || res.destroyed) res.destroy()
      else {
        if (!req.complete && req.method !== 'GET' && req.method !== 'HEAD') answerUnread(req, res)
        sendRefusal(res, refusal, route?.plainErrors === true)
      }
    }
    s.counters.requests.inc(1, { route: route?.name ?? 'unknown', status: `${Math.floor(res.statusCode / 100)}xx` })
  }
}

/** Trailing slashes away; `/v1/proxy/v1/…` is `/v1/proxy/…`; paths of OpenAI at the root are those of the proxy. */
export function normalPath(pathname: string): string {
  const path = pathname.replace(/\/{2,}/g, '/').replace(/\/+$/, '')
  return path.replace(/^\/v1\/proxy\/v1(?=\/|$)/, '/v1/proxy')
}

const ROOT_ALIASES: Record<string, string> = {
  '/v1/chat/completions': '/v1/proxy/chat/completions',
  '/v1/completions': '/v1/proxy/completions'
}

function findRoute(s: Service, path: string, bodies: Budget): Route | undefined {
  const get = (name: string, run: Route['run'], plainErrors = false): Route => ({
    name,
    methods: ['GET', 'HEAD'],
    plainErrors,
    run
  })
  const post = (name: string, run: Route['run']): Route => ({ name, methods: ['POST'], run })
  if (path === '/health') {
    return get('health', async (_req, res) => {
      const { ok, state, reason } = s.ready()
      const status = ok ? 'ready' : s.draining ? 'draining' : state === 'starting' ? 'loading' : 'failed'
      // Alive, whatever it waits for: a supervisor must not kill what only loads.
      sendJson(res, 200, { ok: true, status, ...(reason === undefined ? {} : { reason }) })
    })
  }
  if (path === '/ready') {
    return get('ready', async (_req, res) => {
      const ready = s.ready()
      sendJson(res, ready.ok ? 200 : 503, ready)
    })
  }
  if (path === '/v1/models' || path === '/v1/proxy/models')
    return get('models', async (_req, res) => listModels(s, res))
  if (path === '/lora-adapters')
    return get('lora-adapters', async (_req, res) => sendJson(res, 200, adapterList(s.engine?.adapters)))
  const model = /^\/v1(?:\/proxy)?\/models\/(.+)$/.exec(path)
  if (model !== null) return get('models', async (_req, res) => oneModel(s, res, model[1]!))
  const target = s.paid
    ? (ROOT_ALIASES[path] ?? path)
    : Object.hasOwn(ROOT_ALIASES, path)
      ? ROOT_ALIASES[path]!
      : plainPath(path)
  if (target === '/v1/proxy/chat/completions') return post('chat', (req, res) => generate(s, 'chat', req, res, bodies))
  if (target === '/v1/proxy/completions')
    return post('completions', (req, res) => generate(s, 'completion', req, res, bodies))
  return s.paid ? brokerRoute(s, target, get) : plainRoute(s, target, post, bodies)
}

/** Paths of a provider mean nothing on the plain server. */
function plainPath(path: string): string {
  return path.startsWith('/v1/proxy') ? '' : path
}

function brokerRoute(
  s: Service,
  path: string,
  get: (name: string, run: Route['run'], plainErrors?: boolean) => Route
): Route | undefined {
  if (path === '/v1/quote') return get('quote', async (_req, res) => sendJson(res, 200, broker(s).quote()))
  const fee = /^\/v1\/user\/([^/]+)\/unsettledfee$/.exec(path)
  if (fee !== null) return get('unsettledfee', (req, res) => unsettledFee(s, fee[1]!, req, res), true)
  const trace = /^\/v1\/proxy\/trace\/([^/]+)$/.exec(path)
  if (trace !== null)
    return get('trace', async (req, res) => {
      const identity = broker(s).gate.identify(req.headers.authorization)
      sendTrace(s, trace[1]!, toHex(identity.user), res)
    })
  const id = /^\/v1\/proxy\/signature\/([^/]+)$/.exec(path)
  if (id !== null) return get('signature', (_req, res) => signature(s, id[1]!, res))
  return undefined
}

function plainRoute(
  s: Service,
  path: string,
  post: (name: string, run: Route['run']) => Route,
  bodies: Budget
): Route | undefined {
  const trace = /^\/(?:v1\/)?trace\/([^/]+)$/.exec(path)
  if (trace !== null) {
    return {
      name: 'trace',
      methods: ['GET', 'HEAD'],
      run: async (req, res, url) =>
        sendTrace(s, trace[1]!, callerOf(req, { user: url.searchParams.get('user') ?? '' }), res)
    }
  }
  if (path === '/metrics') {
    return {
      name: 'metrics',
      methods: ['GET', 'HEAD'],
      run: async (_req, res) => sendText(res, 200, 'text/plain; version=0.0.4', await s.metrics())
    }
  }
  if (path === '/v1/embeddings') {
    return post('embeddings', (req, res) =>
      withModel(s, req, res, bodies, '/embeddings', async ({ engine, names }, body, signal) =>
        embeddings(engine, names[0]!, body, { account: callerOf(req, body), signal })
      )
    )
  }
  if (path === '/tokenize' || path === '/v1/tokenize') {
    return post('tokenize', (req, res) =>
      withModel(s, req, res, bodies, undefined, async ({ engine }, body) => {
        const text = body.content ?? body.prompt
        if (typeof text !== 'string') throw new ApiError(400, 'content is not a string', { param: 'content' })
        const special = flag(body, 'parse_special') ?? false
        const plain = body.add_special !== true
        const tokens = [...(plain ? engine.tokenizer.encode(text, special) : engine.textPrompt(text))]
        const pieces = flag(body, 'with_pieces') ?? false
        return {
          tokens: pieces ? tokens.map(id => ({ id, piece: engine.tokenizer.decode([id]) })) : tokens,
          count: tokens.length,
          max_model_len: engine.info.contextLength
        }
      })
    )
  }
  if (path === '/detokenize' || path === '/v1/detokenize') {
    return post('detokenize', (req, res) =>
      withModel(s, req, res, bodies, undefined, async ({ engine }, body) => {
        const { tokens } = body
        const known = (id: unknown): boolean =>
          typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < engine.info.vocabularySize
        if (!Array.isArray(tokens) || !tokens.every(known))
          throw new ApiError(400, 'tokens is not a list of ids of the vocabulary', { param: 'tokens' })
        const content = engine.tokenizer.decode(tokens as number[])
        return { content, prompt: content }
      })
    )
  }
  return undefined
}

/** Reads a body, holds the model that it names, and answers with what comes of it; or passes it on to who has the model. */
async function withModel(
  s: Service,
  req: IncomingMessage,
  res: ServerResponse,
  bodies: Budget,
  upstreamPath: string | undefined,
  work: (held: Held, body: Fields, signal: AbortSignal) => Promise<object>
): Promise<void> {
  if (s.draining) throw new BusyError(503, 'draining', 'the server is stopping', 5)
  const bytes = await bodies.read(req)
  const body = parseBody(bytes)
  if (upstreamPath !== undefined && (await passOn(s, upstreamPath, bytes, body, res))) return
  const gone = new AbortController()
  const onClose = (): void => gone.abort(new Error('the client left'))
  res.once('close', onClose)
  s.running.add(gone)
  try {
    const held = await hold(s, body.model, gone.signal)
    try {
      sendJson(res, 200, await work(held, body, gone.signal))
    } finally {
      held.release()
    }
  } catch (err) {
    if (!gone.signal.aborted) throw err
  } finally {
    s.running.delete(gone)
    res.off('close', onClose)
  }
}

/** True when a server behind this one was given the request: its model is there, or none is named and there is no model here. */
async function passOn(s: Service, path: string, bytes: Buffer, body: Fields, res: ServerResponse): Promise<boolean> {
  const { upstreams } = s
  if (upstreams === undefined) return false
  const { model } = body
  if (typeof model === 'string') {
    if (s.modelNames.includes(model) || s.others?.has(model) === true) return false
    if (!upstreams.has(model)) {
      if (s.engine !== undefined) return false
      throw notFound(`model '${model.slice(0, 100)}' is not served here`, 'model_not_found')
    }
    await upstreams.forward(path, model, bytes, res)
    return true
  }
  if (s.engine !== undefined) return false
  const first = upstreams.models()[0]?.id
  if (typeof first !== 'string') throw new BusyError(503, 'overloaded', 'no server behind this one answers', 5)
  await upstreams.forward(path, first, Buffer.from(JSON.stringify({ ...body, model: first })), res)
  return true
}

/** Refusals in this order: token and account, then the body, then model, prompt and money (in `answer`). */
async function generate(
  s: Service,
  kind: Kind,
  req: IncomingMessage,
  res: ServerResponse,
  bodies: Budget
): Promise<void> {
  if (s.draining) throw new BusyError(503, 'draining', 'the server is stopping', 5)
  if (s.upstreams === undefined) engineOf(s)
  const headers: Record<string, string> = {}
  let user: Uint8Array | undefined
  if (s.paid) {
    const b = broker(s)
    const admitted = await b.gate.admit(req.headers.authorization)
    user = admitted.user
    Object.assign(headers, rateHeaders(admitted.rate), { Provider: checksumAddress(b.provider) })
    if (b.book.trouble !== undefined)
      throw new BusyError(503, 'disk_unavailable', 'the provider cannot record requests now', 30)
    if (b.book.full) throw new BusyError(503, 'overloaded', 'too many requests are not settled yet', 60)
  }
  const bytes = await bodies.read(req)
  const body = parseBody(bytes)
  if (await passOn(s, kind === 'chat' ? '/chat/completions' : '/completions', bytes, body, res)) return
  await answer(s, { kind, bytes, body, user, account: callerOf(req, body), headers }, req, res)
}

/** On the plain server callers are told apart by key and `user`, so that one of them cannot crowd out the others. */
function callerOf(req: IncomingMessage, body: Record<string, unknown>): string {
  const user = typeof body.user === 'string' ? body.user : ''
  const key = req.headers.authorization ?? ''
  if (key === '' && user === '') return NOBODY
  return nameOf(key, user)
}

function nameOf(key: string, user: string): string {
  return toHex(sha256(Buffer.from(JSON.stringify([key, user])))).slice(0, 34)
}

/** Who gives neither. */
const NOBODY = nameOf('', '')

function rateHeaders(r: Rate): Record<string, string> {
  return {
    'x-ratelimit-limit-requests': String(r.limit),
    'x-ratelimit-remaining-requests': String(r.remaining),
    'x-ratelimit-reset-requests': `${r.resetSeconds}s`
  }
}

function listModels(s: Service, res: ServerResponse): void {
  const data = modelList(s)
  if (data === undefined) throw new BusyError(503, 'starting', 'the model is loading', 1)
  sendJson(res, 200, { object: 'list', data })
}

function oneModel(s: Service, res: ServerResponse, name: string): void {
  const list = modelList(s)
  if (list === undefined) throw new BusyError(503, 'starting', 'the model is loading', 1)
  const wanted = decodeName(name)
  const entry = list.find(m => m.id === wanted) ?? (s.modelNames.includes(wanted) ? list[0] : undefined)
  if (entry === undefined) throw notFound('no such model', 'model_not_found')
  sendJson(res, 200, entry)
}

function decodeName(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

async function unsettledFee(s: Service, text: string, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const b = broker(s)
  const identity = b.gate.identify(req.headers.authorization)
  let address: Uint8Array
  try {
    address = addressFromHex(text)
  } catch {
    throw new ApiError(400, 'the path names no address')
  }
  if (toHex(identity.user) !== toHex(address))
    throw new TokenRefusal(403, 'other_provider', "the session token is another user's")
  await b.gate.checkAccount(identity)
  sendJson(res, 200, { userAddress: checksumAddress(address), unsettledFee: b.book.unsettled(address).toString() })
}

/** Transcripts of a response (compute.md 6.2), to whoever asked for it. */
function sendTrace(s: Service, text: string, owner: string, res: ServerResponse): void {
  const id = text.toLowerCase().replace(/^(chatcmpl|cmpl)-/, '')
  const transcripts = s.traces.get(id, owner)
  if (transcripts === undefined) throw notFound('no trace under this id', 'chat_id_not_found')
  sendJson(res, 200, { id, transcripts })
}

async function signature(s: Service, text: string, res: ServerResponse): Promise<void> {
  const b = broker(s)
  // The response's own id is as good as the header.
  const id = text.toLowerCase().replace(/^(chatcmpl|cmpl)-/, '')
  const found = await b.signatures.get(id, s.clock.now())
  if (found === undefined) throw notFound('no signature under this id', 'chat_id_not_found')
  sendJson(res, 200, signatureRecord(responseText(found.requestHash, found.responseHash), found.signature, b.signer))
}

function broker(s: Service): Broker {
  if (s.broker === undefined) throw new BusyError(503, 'starting', 'the provider is starting', 1)
  return s.broker
}

function engineOf(s: Service): NonNullable<Service['engine']> {
  if (s.engine === undefined) throw new BusyError(503, 'starting', 'the model is loading', 1)
  return s.engine
}

function preflight(res: ServerResponse): void {
  res.writeHead(204, {
    'Access-Control-Allow-Methods': 'GET, HEAD, POST, OPTIONS',
    'Access-Control-Allow-Headers': 'Authorization, Content-Type, ZG-Commit',
    'Access-Control-Max-Age': '86400'
  })
  res.end()
}

/** Bodies in memory, all requests together. */
class Budget {
  #taken = 0

  /** @throws {BusyError} 503 when there is no room; {HttpError} 413, 408. */
  async read(req: IncomingMessage): Promise<Buffer> {
    const announced = Number(req.headers['content-length'] ?? UNKNOWN_BYTES)
    // Above the bound it is refused unread.
    const charge = Math.min(announced, BODY_MAX_BYTES)
    if (this.#taken > 0 && this.#taken + charge > BODIES_MAX_BYTES)
      throw new BusyError(503, 'overloaded', 'too many large requests at once', 1)
    this.#taken += charge
    try {
      return await readBody(req, BODY_MAX_BYTES, BODY_TIMEOUT_MS)
    } finally {
      this.#taken -= charge
    }
  }
}
