/**
 * Requests of the OpenAI API as a model server takes them: bodies of `/v1/chat/completions` and `/v1/completions` checked and
 * turned into plain records, refusals as {@link ApiError}. Pure: no socket, no model. Answers are built by openai-answer.ts.
 * Source: inference.md 7.1, 7.3 and 11; compute.md 2.3 and 2.4.
 *
 *   parseBody(bytes): Record<string, unknown>             JSON object, UTF-8, nesting bounded
 *   parseChat(body, limits): ChatRequest
 *   parseCompletion(body, limits): CompletionRequest
 *   ApiError: status, type, code, param; errorBody(err) → {"error":{message,type,code,param}} for any error
 *
 * Unknown fields are ignored, known ones of a wrong type or range are 400 with `param`; `null` counts as absent.
 */
import { messageOf, ZgError } from '../base/errors.ts'
import { LIMITS } from '../base/limits.ts'
import type { Constraint } from './grammar/constraint.ts'
import { parseConstraint, parseTools, type Tool, type ToolChoice } from './openai-format.ts'
import type { ChatMessage, Sampling } from './types.ts'

/** Choices for one prompt. */
export const MAX_N = 8
/** Prompts in one completions request. */
export const MAX_PROMPTS = 32
/** Stop strings; the API says 4, other servers take 16. */
export const MAX_STOPS = 16
/** A stop string. */
export const MAX_STOP_BYTES = 1024
/** Messages of a conversation. */
export const MAX_MESSAGES = 4096
/** Entries of `logit_bias`. */
export const MAX_BIASES = 1024
/** Alternatives a token that `top_logprobs` may ask for. */
export const MAX_TOP_LOGPROBS = 20
/** Tools of a conversation. */
export const MAX_TOOLS = 128

export type ApiErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'insufficient_quota'
  | 'not_found_error'
  | 'rate_limit_error'
  | 'server_error'
  | 'overloaded'

/** A refusal with its HTTP status, as the API words it. */
export class ApiError extends ZgError {
  readonly status: number
  readonly type: ApiErrorType
  /** The API's own code, for instance `model_not_found`, `context_length_exceeded`, `unsupported`. */
  readonly apiCode: string | null
  /** The field that is wrong. */
  readonly param: string | null
  constructor(
    status: number,
    message: string,
    opts: { type?: ApiErrorType; code?: string; param?: string; cause?: unknown } = {}
  ) {
    super(status === 404 ? 'ERR_NOT_FOUND' : status >= 500 ? 'ERR_UNAVAILABLE' : 'ERR_BAD_INPUT', message, {
      cause: opts.cause
    })
    this.status = status
    this.type = opts.type ?? (status >= 500 ? 'server_error' : 'invalid_request_error')
    this.apiCode = opts.code ?? null
    this.param = opts.param ?? null
  }
}

export interface ErrorBody {
  error: { message: string; type: string; code: string | null; param: string | null }
}

/**
 * What a client reads. Of errors that are neither ApiError nor expected bad input only `internal error` is told: no stack,
 * path or text of a backend leaves in a 5xx.
 * @returns the HTTP status and the JSON body.
 */
export function errorBody(err: unknown): { status: number; body: ErrorBody } {
  const api =
    err instanceof ApiError
      ? err
      : err instanceof ZgError && err.code === 'ERR_BAD_INPUT'
        ? new ApiError(400, messageOf(err))
        : err instanceof ZgError && (err.code === 'ERR_UNAVAILABLE' || err.code === 'ERR_STOPPED')
          ? new ApiError(503, 'the model is not available now', { type: 'overloaded' })
          : new ApiError(500, 'internal error')
  return {
    status: api.status,
    body: { error: { message: api.message, type: api.type, code: api.apiCode, param: api.param } }
  }
}

/** What the served model allows. */
export interface RequestLimits {
  /** `max_tokens` above it is lowered to it, never refused. */
  maxTokens: number
  /** Ids in prompts and biases lie below it. */
  vocabularySize: number
}

interface Common {
  /** Absent: the service's own model. */
  model: string | undefined
  /** Choices a prompt, 1 to 8. */
  n: number
  /** Absent: what is left of the context (chat), 16 (completions). Never above the limit. */
  maxTokens: number | undefined
  /** For the engine; `seed` is set when the request had one, else the caller draws one. */
  sampling: Partial<Sampling>
  stop: string[]
  /** The stop string is part of the answer. */
  keepStop: boolean
  /** Further ids that end the answer. */
  stopIds: number[]
  /** Nothing ends the answer before. */
  minTokens: number
  /** What the answer has to be. */
  constraint: Constraint | undefined
  /** The prompt is cut to its last tokens where it does not fit; absent: it is refused. */
  truncate: number | undefined
  /** Who shares computed beginnings with whom. */
  cacheSalt: string | undefined
  /** Generate on after the model's end tokens. */
  ignoreEnd: boolean
  /** Alternatives a token (0: the chosen one alone); absent: no log-probabilities. */
  logprobs: number | undefined
  stream: boolean
  /** A stream ends with a chunk that carries `usage`. */
  includeUsage: boolean
}

export interface ChatRequest extends Common {
  /** Content joined to one string; `developer` is `system`; arguments of tool calls are parsed where they are JSON. */
  messages: ChatMessage[]
  /** For the template; absent rather than empty. */
  tools: Tool[] | undefined
  toolChoice: ToolChoice
  /** More than one call in an answer. */
  parallelToolCalls: boolean
  /** Further fields of the template (`chat_template_kwargs`, `reasoning_effort`). */
  templateFields: Record<string, unknown>
  /** What a model thinks before it answers is told apart from the answer. */
  separateReasoning: boolean
  addGenerationPrompt: boolean
  /** The last message is the answer's beginning. */
  continueFinal: boolean
}

export interface CompletionRequest extends Common {
  /** Text, or ids that the vocabulary has. At least one. The index of a choice is prompt × n + choice. */
  prompts: (string | Int32Array)[]
  /** The answer's text starts with the prompt. */
  echo: boolean
  /** Answers made for a prompt, of which the n likeliest are told; at least n. */
  bestOf: number
}

export type Fields = Record<string, unknown>

/**
 * A request body as an object.
 * @throws {ApiError} 400 when it is not UTF-8, not JSON, no object, or nested deeper than 64.
 */
export function parseBody(bytes: Uint8Array): Fields {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (err) {
    throw new ApiError(400, `the body is not JSON: ${messageOf(err)}`, { code: 'invalid_json', cause: err })
  }
  if (!isObject(value)) throw new ApiError(400, 'the body is not a JSON object', { code: 'invalid_json' })
  checkDepth(value)
  return value
}

/** @throws {ApiError} 400 naming the field. */
export function parseChat(body: Fields, limits: RequestLimits): ChatRequest {
  const wanted = flag(body, 'logprobs')
  const top = integer(body, 'top_logprobs', 0, MAX_TOP_LOGPROBS)
  if (top !== undefined && !wanted) throw wrong('top_logprobs', 'needs logprobs to be true')
  const maxTokens =
    integer(body, 'max_completion_tokens', 1, Number.MAX_SAFE_INTEGER) ??
    integer(body, 'max_tokens', 1, Number.MAX_SAFE_INTEGER)
  const shared = common(body, limits)
  const { tools, toolChoice, parallelToolCalls } = parseTools(body)
  const continueFinal = flag(body, 'continue_final_message') ?? false
  const addGenerationPrompt = flag(body, 'add_generation_prompt') ?? !continueFinal
  if (continueFinal && addGenerationPrompt) throw wrong('continue_final_message', 'excludes add_generation_prompt')
  if (toolChoice !== 'none' && toolChoice !== 'auto' && shared.constraint !== undefined) {
    throw wrong('tool_choice', 'forces a call, which excludes a response_format')
  }
  return {
    ...shared,
    maxTokens: maxTokens === undefined ? undefined : Math.min(maxTokens, limits.maxTokens),
    logprobs: wanted ? (top ?? 0) : undefined,
    messages: parseMessages(body.messages),
    tools,
    toolChoice,
    parallelToolCalls,
    templateFields: parseTemplateFields(body),
    separateReasoning: flag(body, 'separate_reasoning') ?? true,
    addGenerationPrompt,
    continueFinal
  }
}

/** @throws {ApiError} 400 naming the field. */
export function parseCompletion(body: Fields, limits: RequestLimits): CompletionRequest {
  const echo = flag(body, 'echo') ?? false
  const logprobs = integer(body, 'logprobs', 0, 5)
  const stream = flag(body, 'stream') ?? false
  if (text(body, 'suffix')) throw unsupported('suffix', 'is not supported')
  const maxTokens = integer(body, 'max_tokens', 0, Number.MAX_SAFE_INTEGER) ?? 16
  if (maxTokens === 0 && !echo) throw wrong('max_tokens', 'may be 0 only with echo')
  const request = common(body, limits)
  const bestOf = integer(body, 'best_of', 1, MAX_N) ?? request.n
  if (bestOf < request.n) throw wrong('best_of', 'is less than n')
  if (bestOf > request.n && stream) throw wrong('best_of', 'above n cannot be streamed')
  return {
    ...request,
    maxTokens: Math.min(maxTokens, limits.maxTokens),
    logprobs,
    prompts: parsePrompts(body.prompt, limits),
    echo,
    bestOf
  }
}

function common(body: Fields, limits: RequestLimits): Omit<Common, 'maxTokens' | 'logprobs'> {
  const options = body.stream_options
  if (options !== undefined && options !== null && !isObject(options)) throw wrong('stream_options', 'is not an object')
  return {
    model: text(body, 'model'),
    n: integer(body, 'n', 1, MAX_N) ?? 1,
    sampling: parseSampling(body, limits),
    stop: parseStop(body.stop),
    keepStop: flag(body, 'include_stop_str_in_output') ?? false,
    stopIds:
      body.stop_token_ids === undefined || body.stop_token_ids === null ? [] : stopIds(body.stop_token_ids, limits),
    minTokens: integer(body, 'min_tokens', 0, 2 ** 31 - 1) ?? 0,
    constraint: parseConstraint(body),
    truncate: integer(body, 'truncate_prompt_tokens', 1, 2 ** 31 - 1),
    cacheSalt: text(body, 'cache_salt'),
    ignoreEnd: flag(body, 'ignore_eos') ?? false,
    stream: flag(body, 'stream') ?? false,
    includeUsage: isObject(options) ? (flag(options, 'include_usage', 'stream_options.include_usage') ?? false) : false
  }
}

function parseSampling(body: Fields, limits: RequestLimits): Partial<Sampling> {
  const out: Partial<Sampling> = {}
  const set = (key: 'temperature' | 'topP' | 'minP' | 'typicalP', value: number | undefined): void => {
    if (value !== undefined) out[key] = value
  }
  set('temperature', number(body, 'temperature', 0, 2))
  set('topP', number(body, 'top_p', 0, 1))
  set('minP', number(body, 'min_p', 0, 1))
  set('typicalP', number(body, 'typical_p', 0, 1))
  const topK = integer(body, 'top_k', -1, 2 ** 31 - 1)
  if (topK !== undefined) out.topK = Math.max(topK, 0)
  const repetition = number(body, 'repetition_penalty', 0, 2)
  if (repetition !== undefined) {
    if (repetition === 0) throw wrong('repetition_penalty', 'must be above 0')
    out.repetitionPenalty = repetition
  }
  const frequency = number(body, 'frequency_penalty', -2, 2)
  if (frequency !== undefined) out.frequencyPenalty = frequency
  const presence = number(body, 'presence_penalty', -2, 2)
  if (presence !== undefined) out.presencePenalty = presence
  const seed = integer(body, 'seed', Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
  if (seed !== undefined) out.seed = BigInt.asUintN(64, BigInt(seed))
  const bias = parseBias(body.logit_bias, limits)
  if (bias !== undefined) out.logitBias = bias
  return out
}

function parseBias(value: unknown, limits: RequestLimits): Map<number, number> | undefined {
  if (value === undefined || value === null) return undefined
  if (!isObject(value)) throw wrong('logit_bias', 'is not an object of ids and numbers')
  const entries = Object.entries(value)
  if (entries.length > MAX_BIASES) throw wrong('logit_bias', `has more than ${MAX_BIASES} entries`)
  const out = new Map<number, number>()
  for (const [key, bias] of entries) {
    const id = /^(0|[1-9]\d{0,9})$/.test(key) ? Number(key) : -1
    if (id < 0 || id >= limits.vocabularySize) throw wrong('logit_bias', 'names an id that the vocabulary lacks')
    if (typeof bias !== 'number' || !(bias >= -100 && bias <= 100)) throw wrong('logit_bias', 'is outside -100 to 100')
    out.set(id, bias)
  }
  return out
}

function parseStop(value: unknown): string[] {
  if (value === undefined || value === null) return []
  const list: unknown[] = Array.isArray(value) ? value : [value]
  if (list.length > MAX_STOPS) throw wrong('stop', `has more than ${MAX_STOPS} strings`)
  return list.map(stop => {
    if (typeof stop !== 'string') throw wrong('stop', 'is neither a string nor a list of strings')
    if (stop === '') throw wrong('stop', 'has an empty string')
    if (Buffer.byteLength(stop) > MAX_STOP_BYTES) throw wrong('stop', `has a string above ${MAX_STOP_BYTES} bytes`)
    return stop
  })
}

const ROLES: Record<string, string> = {
  system: 'system',
  developer: 'system',
  user: 'user',
  assistant: 'assistant',
  tool: 'tool'
}

function parseMessages(value: unknown): ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0) throw wrong('messages', 'is not a list of at least one message')
  if (value.length > MAX_MESSAGES) throw wrong('messages', `has more than ${MAX_MESSAGES} messages`)
  return value.map((item: unknown, i) => {
    const at = `messages[${i}]`
    if (!isObject(item)) throw wrong(at, 'is not an object')
    const role = typeof item.role === 'string' && Object.hasOwn(ROLES, item.role) ? ROLES[item.role] : undefined
    if (role === undefined) throw wrong(`${at}.role`, 'is none of system, developer, user, assistant, tool')
    const calls = parseCalls(item.tool_calls, `${at}.tool_calls`)
    if (calls !== undefined && role !== 'assistant') throw wrong(`${at}.tool_calls`, 'belongs to the assistant alone')
    const message: ChatMessage = { role, content: parseContent(item.content, `${at}.content`, calls !== undefined) }
    if (calls !== undefined) message.tool_calls = calls
    for (const key of ['name', 'tool_call_id', 'reasoning_content']) {
      const extra = text(item, key, `${at}.${key}`)
      if (extra !== undefined) message[key] = extra
    }
    return message
  })
}

/** A string, or its text parts joined by newlines. */
function parseContent(value: unknown, at: string, optional: boolean): string {
  if (typeof value === 'string') return value
  if ((value === undefined || value === null) && optional) return ''
  if (!Array.isArray(value)) throw wrong(at, 'is neither a string nor a list of parts')
  return value
    .map((part: unknown, i) => {
      if (!isObject(part) || typeof part.type !== 'string') throw wrong(`${at}[${i}]`, 'is not a part with a type')
      if (part.type !== 'text') throw unsupported(`${at}[${i}].type`, 'is not text: other parts are not supported')
      if (typeof part.text !== 'string') throw wrong(`${at}[${i}].text`, 'is not a string')
      return part.text
    })
    .join('\n')
}

/** Templates want the arguments as an object; what does not parse stays a string. */
function parseCalls(value: unknown, at: string): unknown[] | undefined {
  if (value === undefined || value === null) return undefined
  if (!Array.isArray(value) || value.length > MAX_TOOLS) throw wrong(at, `is not a list of at most ${MAX_TOOLS} calls`)
  if (value.length === 0) return undefined
  return value.map((call: unknown) => {
    if (!isObject(call) || !isObject(call.function) || typeof call.function.name !== 'string') {
      throw wrong(at, 'has a call without function.name')
    }
    let args: unknown = call.function.arguments ?? {}
    if (typeof args === 'string') {
      try {
        const parsed: unknown = JSON.parse(args)
        if (isObject(parsed)) {
          checkDepth(parsed)
          args = parsed
        }
      } catch (err) {
        if (err instanceof ApiError) throw err
      }
    }
    return { ...call, function: { ...call.function, arguments: args } }
  })
}

function parsePrompts(value: unknown, limits: RequestLimits): (string | Int32Array)[] {
  if (typeof value === 'string') return [value]
  if (!Array.isArray(value) || value.length === 0)
    throw wrong('prompt', 'is not a string, list of strings or list of ids')
  if (typeof value[0] === 'number') return [ids(value, limits)]
  if (value.length > MAX_PROMPTS) throw wrong('prompt', `has more than ${MAX_PROMPTS} prompts`)
  return value.map((one: unknown) => {
    if (typeof one === 'string') return one
    if (!Array.isArray(one) || one.length === 0) throw wrong('prompt', 'has an entry that is neither text nor ids')
    return ids(one, limits)
  })
}

function stopIds(value: unknown, limits: RequestLimits): number[] {
  if (!Array.isArray(value) || value.length > MAX_STOPS) {
    throw wrong('stop_token_ids', `is not a list of at most ${MAX_STOPS} ids`)
  }
  return [...ids(value, limits, 'stop_token_ids')]
}

const RESERVED_FIELDS = new Set(['messages', 'tools', 'add_generation_prompt', 'bos_token', 'eos_token'])

function parseTemplateFields(body: Fields): Record<string, unknown> {
  const extra = body.chat_template_kwargs
  if (extra !== undefined && extra !== null && !isObject(extra)) throw wrong('chat_template_kwargs', 'is not an object')
  const out: Record<string, unknown> = {}
  const effort = text(body, 'reasoning_effort')
  if (effort !== undefined) out.reasoning_effort = effort
  for (const [key, value] of Object.entries(extra ?? {})) {
    if (RESERVED_FIELDS.has(key)) throw wrong('chat_template_kwargs', `may not have '${key}'`)
    out[key] = value
  }
  return out
}

export function ids(list: unknown[], limits: RequestLimits, param = 'prompt'): Int32Array {
  const out = new Int32Array(list.length)
  for (const [i, id] of list.entries()) {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= limits.vocabularySize) {
      throw wrong(param, 'has an id that the vocabulary lacks')
    }
    out[i] = id
  }
  return out
}

export function number(body: Fields, key: string, min: number, max: number): number | undefined {
  const value = body[key]
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong(key, 'is not a number')
  if (value < min || value > max) throw wrong(key, `is outside ${min} to ${max}`)
  return value
}

export function integer(body: Fields, key: string, min: number, max: number): number | undefined {
  const value = number(body, key, min, max)
  if (value !== undefined && !Number.isSafeInteger(value)) throw wrong(key, 'is not a whole number')
  return value
}

export function flag(body: Fields, key: string, at = key): boolean | undefined {
  const value = body[key]
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'boolean') throw wrong(at, 'is not true or false')
  return value
}

export function text(body: Fields, key: string, at = key): string | undefined {
  const value = body[key]
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'string') throw wrong(at, 'is not a string')
  return value
}

export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Level by level, without recursion: a template or a logger that recurses later is safe. */
function checkDepth(value: unknown): void {
  let level: unknown[] = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > LIMITS.jsonDepth) throw new ApiError(400, `the JSON is nested deeper than ${LIMITS.jsonDepth}`)
    level = level.flatMap(x => (typeof x === 'object' && x !== null ? Object.values(x) : []))
  }
}

export function wrong(param: string, why: string): ApiError {
  return new ApiError(400, `${param} ${why}`, { param })
}

export function unsupported(param: string, why: string): ApiError {
  return new ApiError(400, `${param} ${why}`, { param, code: 'unsupported' })
}
