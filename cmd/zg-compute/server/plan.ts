/** From a request body to what the engine is asked for: prompts as ids, limits, and the most it can cost. Pure. */

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
import type { Engine, GenerateRequest } from '../../../lib/infer/types.ts'
import type { Random } from '../../../lib/ports/random.ts'
import { notFound } from './errors.ts'

export type Kind = 'chat' | 'completion'

export interface Task {
  /** Index of the choice. */
  index: number
  /** Without signal. Undefined: nothing is generated (`max_tokens` 0 with `echo`). */
  request: GenerateRequest | undefined
  /** Text before the answer's own (`echo`). */
  prefix: string
}

export interface Plan {
  kind: Kind
  stream: boolean
  includeUsage: boolean
  logprobs: boolean
  tasks: Task[]
  /** Each prompt counts once, however many choices it has. */
  promptTokens: number
  /** The most that can be made, all choices together. */
  maxTokens: number
}

/**
 * @param body - the parsed JSON object.
 * @param models - names that mean the served model.
 * @throws {ApiError} 400, 404 `model_not_found`, 400 `context_length_exceeded`.
 */
export function planRequest(
  kind: Kind,
  body: Record<string, unknown>,
  o: { engine: Engine; models: readonly string[]; random: Random }
): Plan {
  const { engine } = o
  const limits: RequestLimits = {
    maxTokens: engine.info.contextLength,
    vocabularySize: engine.info.vocabularySize
  }
  // The model comes first: a request meant for another one may have fields that only that one knows.
  if (typeof body.model === 'string' && !o.models.includes(body.model))
    throw notFound(`model '${body.model.slice(0, 100)}' is not served here, '${o.models[0]}' is`, 'model_not_found')
  const adapters = parseAdapters(body, engine.adapters)
  const request = kind === 'chat' ? parseChat(body, limits) : parseCompletion(body, limits)
  const prompts =
    kind === 'chat' ? [chatPrompt(engine, request as ChatRequest)] : textPrompts(engine, request as CompletionRequest)
  const seed = request.sampling.seed ?? randomSeed(o.random)
  const tasks: Task[] = []
  let promptTokens = 0
  let maxTokens = 0
  for (const { ids, text } of prompts) {
    if (ids.length === 0) throw new ApiError(400, 'the prompt is empty', { param: 'prompt' })
    const room = engine.info.contextLength - ids.length
    const wanted = request.maxTokens ?? Math.max(room, 1)
    if (room < 1 && wanted > 0) {
      throw new ApiError(
        400,
        `prompt has ${ids.length} tokens, '${o.models[0]}' takes ${engine.info.contextLength} with its answer`,
        { code: 'context_length_exceeded', param: kind === 'chat' ? 'messages' : 'prompt' }
      )
    }
    const most = Math.min(wanted, Math.max(room, 0))
    promptTokens += ids.length
    for (let choice = 0; choice < request.n; choice++) {
      const index = tasks.length
      const generate: GenerateRequest = {
        prompt: ids,
        maxTokens: most,
        // Choices of one request differ by their seed alone.
        sampling: { temperature: 1, topP: 1, ...request.sampling, seed: BigInt.asUintN(64, seed + BigInt(choice)) },
        stop: request.stop,
        ignoreEnd: request.ignoreEnd
      }
      if (adapters !== undefined) generate.adapters = adapters
      if (request.logprobs !== undefined) generate.logprobs = request.logprobs
      tasks.push({ index, request: most === 0 ? undefined : generate, prefix: text })
      maxTokens += most
    }
  }
  return {
    kind,
    stream: request.stream,
    includeUsage: request.includeUsage,
    logprobs: request.logprobs !== undefined,
    tasks,
    promptTokens,
    maxTokens
  }
}

function chatPrompt(engine: Engine, request: ChatRequest): { ids: Int32Array; text: string } {
  const options = {
    addGenerationPrompt: request.addGenerationPrompt,
    ...(request.tools === undefined ? {} : { tools: request.tools })
  }
  return { ids: engine.chatPrompt(request.messages, options), text: '' }
}

function textPrompts(engine: Engine, request: CompletionRequest): { ids: Int32Array; text: string }[] {
  return request.prompts.map(p => ({
    ids: typeof p === 'string' ? engine.textPrompt(p) : p,
    text: !request.echo ? '' : typeof p === 'string' ? p : engine.tokenizer.decode(p)
  }))
}

function randomSeed(random: Random): bigint {
  return Buffer.from(random.bytes(8)).readBigUInt64BE()
}

/** What was used, as answers and fees count it. */
export function usageOf(plan: Plan, completionTokens: number): Usage {
  return { promptTokens: plan.promptTokens, completionTokens }
}
