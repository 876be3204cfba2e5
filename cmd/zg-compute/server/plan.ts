/** From a request body to what the engine is asked for: prompts as ids, limits, grammars, and the most it can cost. */

import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { type ChatRun, type ChatStep, runChat } from '../../../lib/infer/chat-run.ts'
import { type ChatStyle, describeTools, styleOf } from '../../../lib/infer/chat-style.ts'
import type { CallShape, Constraint } from '../../../lib/infer/grammar/constraint.ts'
import {
  ApiError,
  type ChatRequest,
  type CompletionRequest,
  parseChat,
  parseCompletion,
  type RequestLimits
} from '../../../lib/infer/openai.ts'
import { parseAdapters } from '../../../lib/infer/openai-adapters.ts'
import type { Usage } from '../../../lib/infer/openai-answer.ts'
import type { AdapterChoice, AnswerGrammar, Engine, GenerateRequest } from '../../../lib/infer/types.ts'
import type { Random } from '../../../lib/ports/random.ts'
import { notFound } from './errors.ts'

export type Kind = 'chat' | 'completion'

export interface Task {
  /** Index of the choice. */
  index: number
  /** Index of its prompt. */
  prompt: number
  /** Starts it. Undefined: nothing is generated (`max_tokens` 0 with `echo`). */
  run: ((signal: AbortSignal, account: string) => AsyncGenerator<ChatStep, void, void>) | undefined
  /** Text before the answer's own (`echo`). */
  prefix: string
  /** With `echo` and `logprobs`: the prompt's first id, which nothing predicted. */
  first: number | undefined
  /** Only the prompt's tokens are wanted. */
  promptAlone: boolean
}

export interface Plan {
  kind: Kind
  stream: boolean
  includeUsage: boolean
  logprobs: boolean
  tasks: Task[]
  /** Choices told for a prompt; more may be made, of which these are the likeliest. */
  keep: number
  /** Each prompt counts once, however many choices it has. */
  promptTokens: number
  /** The most that can be made, all choices together. */
  maxTokens: number
  /** Keywords of a schema that nobody looks at. */
  ignored: readonly string[]
}

interface Planned {
  engine: Engine
  models: readonly string[]
  random: Random
  adapters?: AdapterChoice[]
}

/**
 * @param body - the parsed JSON object.
 * @param o.models - names that mean the served model.
 * @throws {ApiError} 400, 404 `model_not_found`, 400 `context_length_exceeded`.
 */
export async function planRequest(kind: Kind, body: Record<string, unknown>, o: Planned): Promise<Plan> {
  const { engine } = o
  const limits: RequestLimits = {
    maxTokens: engine.info.contextLength,
    vocabularySize: engine.info.vocabularySize
  }
  // The model comes first: a request meant for another one may have fields that only that one knows.
  if (typeof body.model === 'string' && !o.models.includes(body.model))
    throw notFound(`model '${body.model.slice(0, 100)}' is not served here, '${o.models[0]}' is`, 'model_not_found')
  const adapters = parseAdapters(body, engine.adapters)
  const planned = adapters === undefined ? o : { ...o, adapters }
  return kind === 'chat'
    ? planChat(parseChat(body, limits), planned)
    : planCompletion(parseCompletion(body, limits), planned)
}

async function planChat(request: ChatRequest, o: Planned): Promise<Plan> {
  const { engine } = o
  const style = styleOf(engine)
  const { tools } = request
  const described = tools !== undefined && !style.knowsTools
  const ids = fitted(
    engine.chatPrompt(described ? describeTools(request.messages, tools) : request.messages, {
      addGenerationPrompt: request.addGenerationPrompt,
      extra: request.templateFields,
      continueFinal: request.continueFinal,
      ...(tools === undefined || described ? {} : { tools })
    }),
    request,
    o,
    'messages'
  )
  const grammar = await compiled(engine, request.constraint)
  const calls = await toolsOf(engine, request, style)
  const base = baseOf(request, ids, o)
  const run: Omit<ChatRun, 'base'> = {
    style,
    thinking: style.thinks && endsInThought(engine, ids),
    separate: request.separateReasoning,
    grammar,
    tools: calls
  }
  const seed = request.sampling.seed ?? randomSeed(o.random)
  return {
    kind: 'chat',
    stream: request.stream,
    includeUsage: request.includeUsage,
    logprobs: request.logprobs !== undefined,
    tasks: Array.from({ length: request.n }, (_, choice) => ({
      index: choice,
      prompt: 0,
      prefix: '',
      first: undefined,
      promptAlone: false,
      run: (signal, account) =>
        runChat(engine, { ...run, base: { ...withChoice(base, seed, choice), account } }, signal)
    })),
    keep: request.n,
    promptTokens: ids.length,
    maxTokens: base.maxTokens * request.n,
    ignored: [...(grammar?.ignored ?? []), ...(calls?.grammar.ignored ?? [])]
  }
}

async function planCompletion(request: CompletionRequest, o: Planned): Promise<Plan> {
  const { engine } = o
  const grammar = await compiled(engine, request.constraint)
  const seed = request.sampling.seed ?? randomSeed(o.random)
  const tasks: Task[] = []
  let promptTokens = 0
  let maxTokens = 0
  for (const [prompt, given] of request.prompts.entries()) {
    const whole = typeof given === 'string' ? engine.textPrompt(given) : given
    const ids = fitted(whole, request, o, 'prompt')
    const base = baseOf(request, ids, o)
    const wantsPrompt = request.echo && request.logprobs !== undefined
    const promptAlone = base.maxTokens === 0
    if (grammar !== undefined) base.grammar = grammar
    if (wantsPrompt) Object.assign(base, { promptLogprobs: true, maxTokens: Math.max(1, base.maxTokens) })
    const prefix = !request.echo ? '' : typeof given === 'string' ? given : engine.tokenizer.decode(ids)
    promptTokens += ids.length
    for (let choice = 0; choice < request.bestOf; choice++) {
      // The likeliest are found by the odds of their tokens.
      const one = withChoice(base, seed, choice)
      if (request.bestOf > request.n) one.logprobs ??= 0
      tasks.push({
        index: prompt * request.bestOf + choice,
        prompt,
        prefix,
        first: wantsPrompt ? ids[0]! : undefined,
        promptAlone,
        run: base.maxTokens === 0 ? undefined : (signal, account) => engine.generate({ ...one, account, signal })
      })
      maxTokens += promptAlone ? 0 : base.maxTokens
    }
  }
  return {
    kind: 'completion',
    stream: request.stream,
    includeUsage: request.includeUsage,
    logprobs: request.logprobs !== undefined,
    tasks,
    keep: request.n,
    promptTokens,
    maxTokens,
    ignored: grammar?.ignored ?? []
  }
}

/** The prompt's ids, cut where that was asked for. @throws {ApiError} 400 when it does not fit with an answer. */
function fitted(whole: Int32Array, request: ChatRequest | CompletionRequest, o: Planned, param: string): Int32Array {
  const { contextLength } = o.engine.info
  const ids = request.truncate === undefined ? whole : whole.slice(-Math.min(request.truncate, contextLength - 1))
  if (ids.length === 0) throw new ApiError(400, 'the prompt is empty', { param })
  if (ids.length >= contextLength && request.maxTokens !== 0) {
    throw new ApiError(
      400,
      `prompt has ${ids.length} tokens, '${o.models[0]}' takes ${contextLength} with its answer`,
      { code: 'context_length_exceeded', param }
    )
  }
  return ids
}

function baseOf(request: ChatRequest | CompletionRequest, prompt: Int32Array, o: Planned): GenerateRequest {
  const room = Math.max(0, o.engine.info.contextLength - prompt.length)
  const base: GenerateRequest = {
    prompt,
    maxTokens: Math.min(request.maxTokens ?? room, room),
    sampling: { temperature: 1, topP: 1, ...request.sampling },
    stop: request.stop,
    stopIds: request.stopIds,
    keepStop: request.keepStop,
    minTokens: request.minTokens,
    ignoreEnd: request.ignoreEnd
  }
  if (request.logprobs !== undefined) base.logprobs = request.logprobs
  if (o.adapters !== undefined) base.adapters = o.adapters
  if (request.cacheSalt !== undefined) base.cacheSalt = request.cacheSalt
  return base
}

/** Choices of one request have one seed and differ by their number. */
function withChoice(base: GenerateRequest, seed: bigint, choice: number): GenerateRequest {
  return { ...base, sampling: { ...base.sampling, seed, choice } }
}

/** @throws {ApiError} 400 with the field, when it cannot be followed. */
async function compiled(engine: Engine, constraint: Constraint | undefined): Promise<AnswerGrammar | undefined> {
  if (constraint === undefined) return undefined
  const param = constraint.kind === 'call' ? 'tools' : 'response_format'
  try {
    return await engine.constrain(constraint)
  } catch (err) {
    if (!(err instanceof ZgError) || err.code !== 'ERR_BAD_INPUT') throw err
    throw new ApiError(400, messageOf(err), { param, code: 'invalid_schema', cause: err })
  }
}

async function toolsOf(engine: Engine, request: ChatRequest, style: ChatStyle): Promise<ChatRun['tools']> {
  const { tools, toolChoice } = request
  if (tools === undefined || toolChoice === 'none') return undefined
  // An answer that has to be something else is no call.
  if (request.constraint !== undefined) return undefined
  const named = typeof toolChoice === 'object' ? tools.filter(t => t.function.name === toolChoice.name) : tools
  const functions = named.map(
    (t): CallShape => ({
      name: t.function.name,
      parameters: t.function.parameters ?? undefined,
      strict: t.function.strict === true
    })
  )
  const { argumentsKey, list } = style.calls
  const grammar = (await compiled(engine, { kind: 'call', functions, argumentsKey, list }))!
  return {
    mode: toolChoice === 'auto' ? 'auto' : 'forced',
    grammar,
    names: functions.map(f => f.name),
    parallel: request.parallelToolCalls
  }
}

/** Whether the template opened a thought for the model to go on with. */
function endsInThought(engine: Engine, ids: Int32Array): boolean {
  const tail = Buffer.concat([...ids.slice(-12)].map(id => engine.tokenizer.piece(id, true)))
  return /<think>\s*$/.test(tail.toString())
}

function randomSeed(random: Random): bigint {
  return Buffer.from(random.bytes(8)).readBigUInt64BE()
}

/** What was used, as answers and fees count it. */
export function usageOf(plan: Plan, used: { made: number; cached: number; reasoning: number }): Usage {
  return {
    promptTokens: plan.promptTokens,
    completionTokens: used.made,
    ...(used.cached === 0 ? {} : { cachedTokens: Math.min(used.cached, plan.promptTokens) }),
    ...(used.reasoning === 0 ? {} : { reasoningTokens: used.reasoning })
  }
}
