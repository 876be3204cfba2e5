/**
 * From the text of one message to the text of its answer: parsing, batches, notifications, limits, errors (chain.md 9.1).
 * Transport-free: HTTP, WebSocket and the Unix socket all end here.
 */
import { ZgError } from '../../base/errors.ts'
import { LIMITS } from '../../base/limits.ts'
import { RPC, type RpcContext, RpcError, type RpcMethods, type RpcParams } from './types.ts'

type Id = string | number | null

export interface DispatchOptions {
  methods: RpcMethods
  answerBytes?: number
  onCall?: ((method: string, ms: number, errorCode: number | undefined) => void) | undefined
  onBug?: ((method: string, err: unknown) => void) | undefined
}

/** Answers one message; undefined when it held only notifications. Never throws. */
export async function dispatch(text: string, ctx: RpcContext, opts: DispatchOptions): Promise<string | undefined> {
  let message: unknown
  try {
    message = JSON.parse(text)
  } catch {
    return failure(null, RPC.parse, 'parse error')
  }
  if (tooDeep(message)) return failure(null, RPC.request, `nested deeper than ${LIMITS.jsonDepth}`)
  if (!Array.isArray(message)) return answer(message, ctx, opts, opts.answerBytes ?? LIMITS.rpcAnswerBytes)
  return batch(message, ctx, opts)
}

async function batch(calls: unknown[], ctx: RpcContext, opts: DispatchOptions): Promise<string | undefined> {
  if (calls.length === 0) return failure(null, RPC.request, 'empty batch')
  if (calls.length > LIMITS.rpcBatchCalls) {
    return failure(null, RPC.limit, `batch has ${calls.length} calls, at most ${LIMITS.rpcBatchCalls} are allowed`)
  }
  const parts: string[] = []
  let left = opts.answerBytes ?? LIMITS.rpcAnswerBytes
  for (const call of calls) {
    // After the bound each remaining entry still gets its own error object, so that ids match up.
    const part = left > 0 ? await answer(call, ctx, opts, left) : overflow(call)
    if (part === undefined) continue
    left -= part.length
    parts.push(part)
  }
  return parts.length === 0 ? undefined : `[${parts.join(',')}]`
}

function overflow(call: unknown): string | undefined {
  const id = idOf(call)
  return id === undefined ? undefined : failure(id, RPC.limit, 'answers of this batch are too large')
}

async function answer(
  call: unknown,
  ctx: RpcContext,
  opts: DispatchOptions,
  bound: number
): Promise<string | undefined> {
  if (typeof call !== 'object' || call === null || Array.isArray(call)) {
    return failure(null, RPC.request, 'invalid request')
  }
  const { method, params = [] } = call as { method?: unknown; params?: unknown }
  const id = idOf(call)
  if (typeof method !== 'string' || id === 'invalid') return failure(null, RPC.request, 'invalid request')
  const started = performance.now()
  let code: number | undefined
  let text: string
  try {
    const fn = Object.hasOwn(opts.methods, method) ? opts.methods[method] : undefined
    if (fn === undefined)
      throw new RpcError(RPC.method, `the method ${printable(method)} does not exist/is not available`)
    const value = await fn(positional(params), ctx)
    text = `{"jsonrpc":"2.0","id":${JSON.stringify(id ?? null)},"result":${JSON.stringify(value ?? null)}}`
    if (text.length > bound) throw new RpcError(RPC.limit, 'answer is too large, ask for less at a time')
  } catch (err) {
    const e = toRpcError(err, method, opts)
    code = e.code
    text = failure(id ?? null, e.code, e.message, e.data)
  }
  opts.onCall?.(method, performance.now() - started, code)
  return id === undefined ? undefined : text
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
