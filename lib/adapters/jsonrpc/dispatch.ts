/**
 * From the text of one message to the text of its answer: parsing, batches, notifications, limits, errors (chain.md 9.1).
 * Transport-free: HTTP, WebSocket and the Unix socket all end here.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { ZgError } from '../../base/errors.ts'
import { LIMITS } from '../../base/limits.ts'
import { JsonText, RPC, type RpcContext, RpcError, type RpcMethods, type RpcParams } from './types.ts'

type Id = string | number | null

export interface DispatchOptions {
  methods: RpcMethods
  /** See RpcServerOptions.together. */
  together?: ReadonlySet<string> | undefined
  answerBytes?: number
  onCall?: ((method: string, ms: number, errorCode: number | undefined) => void) | undefined
  onBug?: ((method: string, err: unknown) => void) | undefined
}

/** Answers one message; undefined when it held only notifications. Never throws. */
export async function dispatch(text: string, ctx: RpcContext, opts: DispatchOptions): Promise<string | undefined> {
  return dispatchNow(text, ctx, opts)
}

/**
 * The same, at once when every method of the message answers at once: no promise is made for those.
 * A promise that it answers never rejects.
 */
export function dispatchNow(
  text: string,
  ctx: RpcContext,
  opts: DispatchOptions
): string | undefined | Promise<string | undefined> {
  let message: unknown
  try {
    message = JSON.parse(text)
  } catch {
    return failure(null, RPC.parse, 'parse error')
  }
  if (mayBeDeep(text) && tooDeep(message)) return failure(null, RPC.request, `nested deeper than ${LIMITS.jsonDepth}`)
  if (!Array.isArray(message)) return answer(message, ctx, opts, opts.answerBytes ?? LIMITS.rpcAnswerBytes)
  if (message.length === 0) return failure(null, RPC.request, 'empty batch')
  if (message.length > LIMITS.rpcBatchCalls) {
    return failure(null, RPC.limit, `batch has ${message.length} calls, at most ${LIMITS.rpcBatchCalls} are allowed`)
  }
  return new Batch(message, ctx, opts).run()
}

/** How long the calls of one batch may hold the event loop before others get their turn. */
const TURN_MS = 4

/**
 * Calls of a batch, each begun when those before it are answered, neighbours of `together` excepted: they are begun in their order without
 * waiting for each other, so that a batch of transactions is one job of the pool and not as many. It becomes asynchronous at the first call
 * that is, or when its turn is over.
 */
class Batch {
  readonly #calls: unknown[]
  readonly #ctx: RpcContext
  readonly #opts: DispatchOptions
  /** Answers by the place of their calls; undefined: a notification, or not answered yet. */
  readonly #parts: (string | undefined)[]
  #left: number
  #next = 0
  #running: Promise<void>[] = []

  constructor(calls: unknown[], ctx: RpcContext, opts: DispatchOptions) {
    this.#calls = calls
    this.#parts = new Array<string | undefined>(calls.length)
    this.#ctx = ctx
    this.#opts = opts
    this.#left = opts.answerBytes ?? LIMITS.rpcAnswerBytes
  }

  run(): string | undefined | Promise<string | undefined> {
    const began = performance.now()
    while (this.#next < this.#calls.length) {
      if ((this.#next & 15) === 15 && performance.now() - began > TURN_MS) return nextTurn().then(() => this.run())
      const call = this.#calls[this.#next]
      const alone = !this.#isTogether(call)
      if (alone && this.#running.length > 0) return this.#settle()
      const place = this.#next++
      // After the bound each remaining entry still gets its own error object, so that ids match up.
      const part = this.#left > 0 ? answer(call, this.#ctx, this.#opts, this.#left) : overflow(call)
      if (!(part instanceof Promise)) this.#take(place, part)
      else {
        this.#running.push(part.then(text => this.#take(place, text)))
        if (alone) return this.#settle()
      }
    }
    if (this.#running.length > 0) return this.#settle()
    const parts = this.#parts.filter(part => part !== undefined)
    return parts.length === 0 ? undefined : `[${parts.join(',')}]`
  }

  #isTogether(call: unknown): boolean {
    const method = (call as { method?: unknown } | null)?.method
    return typeof method === 'string' && this.#opts.together?.has(method) === true
  }

  async #settle(): Promise<string | undefined> {
    await Promise.all(this.#running)
    this.#running = []
    return this.run()
  }

  #take(place: number, part: string | undefined): void {
    if (part === undefined) return
    this.#left -= part.length
    this.#parts[place] = part
  }
}

function overflow(call: unknown): string | undefined {
  const id = idOf(call)
  return id === undefined ? undefined : failure(id, RPC.limit, 'answers of this batch are too large')
}

function answer(
  call: unknown,
  ctx: RpcContext,
  opts: DispatchOptions,
  bound: number
): string | undefined | Promise<string | undefined> {
  if (typeof call !== 'object' || call === null || Array.isArray(call)) {
    return failure(null, RPC.request, 'invalid request')
  }
  const { method, params = [] } = call as { method?: unknown; params?: unknown }
  const id = idOf(call)
  if (typeof method !== 'string' || id === 'invalid') return failure(null, RPC.request, 'invalid request')
  const started = opts.onCall === undefined ? 0 : performance.now()
  const failed = (err: unknown): string | undefined => {
    const e = toRpcError(err, method, opts)
    opts.onCall?.(method, performance.now() - started, e.code)
    return id === undefined ? undefined : failure(id, e.code, e.message, e.data)
  }
  const succeeded = (value: unknown): string | undefined => {
    let text: string
    try {
      text = success(id ?? null, value)
      if (text.length > bound) throw new RpcError(RPC.limit, 'answer is too large, ask for less at a time')
    } catch (err) {
      return failed(err)
    }
    opts.onCall?.(method, performance.now() - started, undefined)
    return id === undefined ? undefined : text
  }
  try {
    const fn = Object.hasOwn(opts.methods, method) ? opts.methods[method] : undefined
    if (fn === undefined)
      throw new RpcError(RPC.method, `the method ${printable(method)} does not exist/is not available`)
    const value = fn(positional(params), ctx)
    return value instanceof Promise ? value.then(succeeded, failed) : succeeded(value)
  } catch (err) {
    return failed(err)
  }
}

/** One answer with a result. */
function success(id: Id, value: unknown): string {
  const json = value instanceof JsonText ? value.text : JSON.stringify(value ?? null)
  return `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${json}}`
}

/** The id to echo; undefined for a notification, 'invalid' for a type that JSON-RPC does not allow. */
function idOf(call: unknown): Id | undefined | 'invalid' {
  if (typeof call !== 'object' || call === null || !Object.hasOwn(call, 'id')) return undefined
  const id = (call as { id: unknown }).id
  return id === null || typeof id === 'string' || typeof id === 'number' ? id : 'invalid'
}

function positional(params: unknown): RpcParams {
  if (params === null || params === undefined) return []
  if (Array.isArray(params)) return params
  // Rare clients name no parameters by an empty object; others put the single parameter there.
  if (typeof params === 'object') return Object.keys(params).length === 0 ? [] : [params]
  throw new RpcError(RPC.params, 'params must be a list')
}

function toRpcError(err: unknown, method: string, opts: DispatchOptions): RpcError {
  if (err instanceof RpcError) return err
  if (err instanceof ZgError) {
    const malformed = err.code === 'ERR_BAD_INPUT' || err.code === 'ERR_USAGE'
    return new RpcError(malformed ? RPC.params : RPC.server, err.message)
  }
  opts.onBug?.(method, err)
  return new RpcError(RPC.internal, 'internal error')
}

/** One error answer. */
export function failure(id: Id | 'invalid', code: number, message: string, data?: unknown): string {
  const error = data === undefined ? { code, message } : { code, message, data }
  return JSON.stringify({ jsonrpc: '2.0', id: id === 'invalid' ? null : id, error })
}

function printable(name: string): string {
  return name.slice(0, 80).replace(/[^\x20-\x7e]/g, '?')
}

/** False when a text has too few brackets to nest too deeply: almost always, and without walking the value. */
function mayBeDeep(text: string): boolean {
  let open = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if ((c === 0x7b || c === 0x5b) && ++open > LIMITS.jsonDepth) return true
  }
  return false
}

/** True when a value nests deeper than LIMITS.jsonDepth. Iterative, so that depth cannot overflow the stack. */
function tooDeep(root: unknown): boolean {
  if (typeof root !== 'object' || root === null) return false
  let level: object[] = [root]
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > LIMITS.jsonDepth) return true
    const next: object[] = []
    for (const node of level) {
      for (const child of Array.isArray(node) ? node : Object.values(node)) {
        if (typeof child === 'object' && child !== null) next.push(child)
      }
    }
    level = next
  }
  return false
}
