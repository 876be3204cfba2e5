/**
 * Answers of the OpenAI API: whole objects and streamed chunks, for chat and for text completions. Pure; see openai.ts for
 * requests. Source: inference.md 7.2 and 11, compute.md 2.4.
 *
 *   chatAnswer(head, choices, usage) · completionAnswer(head, choices, usage)     objects to be sent as JSON
 *   new ChatChunks(head, includeUsage) · new CompletionChunks(head, includeUsage) each method returns one event as text:
 *     open(index)                  role first (chat), nothing for completions
 *     text(index, text, logprobs?) a piece; '' when there is nothing to say
 *     close(index, finish)         the choice's last chunk with finish_reason
 *     usage(usage)                 the usage chunk; '' when it was not asked for
 *   SSE_DONE, SSE_KEEP_ALIVE, sseError(err)
 */

import type { ChatStep } from './chat-run.ts'
import { errorBody } from './openai.ts'
import type { Step } from './types.ts'

/** What all chunks of one answer share. `id` is whole: `chatcmpl-…` or `cmpl-…`; `created` in seconds. */
export interface AnswerHead {
  id: string
  created: number
  model: string
  /** `system_fingerprint`; left out when absent. */
  fingerprint?: string
}

export interface Usage {
  promptTokens: number
  completionTokens: number
  /** Prompt tokens found in the prefix cache; left out when absent. */
  cachedTokens?: number
  /** Of the answer's tokens, those of thoughts; left out when absent. */
  reasoningTokens?: number
}

export type Finish = NonNullable<ChatStep['finish']>
/** `logprob` null: the first token of a prompt, which nothing predicted. */
export type Logprob = Omit<NonNullable<Step['logprob']>, 'logprob'> & { logprob: number | null }

/** A function that was called. */
export interface Call {
  id: string
  name: string
  /** JSON. */
  arguments: string
}

export interface Choice {
  index: number
  text: string
  finish: Finish
  /** One a token, when asked for. */
  logprobs?: readonly Logprob[]
  reasoning?: string
  calls?: readonly Call[]
  /** The stop string or id that ended it. */
  stopReason?: string | number
}

/** The end of a stream that went well; one that failed ends with {@link sseError} alone. */
export const SSE_DONE = 'data: [DONE]\n\n'
/** Sent every 15 s while nothing is produced. */
export const SSE_KEEP_ALIVE = ': keep-alive\n\n'

/** The event that ends a stream after an error. */
export function sseError(err: unknown): string {
  return event(errorBody(err).body)
}

export function chatAnswer(head: AnswerHead, choices: readonly Choice[], usage: Usage): object {
  return {
    ...headOf(head, 'chat.completion'),
    choices: choices.map(c => ({
      index: c.index,
      message: message(c),
      logprobs: c.logprobs === undefined ? null : chatLogprobs(c.logprobs),
      finish_reason: finishReason(c.finish),
      ...(c.stopReason === undefined ? {} : { stop_reason: c.stopReason })
    })),
    usage: usageOf(usage)
  }
}

export function completionAnswer(head: AnswerHead, choices: readonly Choice[], usage: Usage): object {
  return {
    ...headOf(head, 'text_completion'),
    choices: choices.map(c => ({
      index: c.index,
      text: c.text,
      logprobs: c.logprobs === undefined ? null : completionLogprobs(c.logprobs, 0),
      finish_reason: finishReason(c.finish),
      ...(c.stopReason === undefined ? {} : { stop_reason: c.stopReason })
    })),
    usage: usageOf(usage)
  }
}

function message(c: Choice): object {
  const calls = c.calls ?? []
  return {
    role: 'assistant',
    content: calls.length > 0 && c.text === '' ? null : c.text,
    refusal: null,
    ...(c.reasoning === undefined || c.reasoning === '' ? {} : { reasoning_content: c.reasoning }),
    ...(calls.length === 0
      ? {}
      : {
          tool_calls: calls.map(x => ({
            id: x.id,
            type: 'function',
            function: { name: x.name, arguments: x.arguments }
          }))
        })
  }
}

/** Chunks of a chat answer. */
export class ChatChunks {
  readonly #frame: Frame
  constructor(head: AnswerHead, includeUsage: boolean) {
    this.#frame = new Frame(headOf(head, 'chat.completion.chunk'), includeUsage)
  }

  open(index: number): string {
    return this.#chunk(index, { role: 'assistant', content: '' }, null, null)
  }

  text(index: number, text: string, logprobs?: readonly Logprob[]): string {
    const some = logprobs !== undefined && logprobs.length > 0
    if (text === '' && !some) return ''
    if (!some) return this.#frame.event(index, `"delta":{"content":${JSON.stringify(text)}}`, null, null)
    return this.#chunk(index, { content: text }, chatLogprobs(logprobs), null)
  }

  reasoning(index: number, text: string): string {
    return text === '' ? '' : this.#chunk(index, { reasoning_content: text }, null, null)
  }

  /** A call's first piece has its id and name and empty arguments; later ones have arguments alone. */
  call(index: number, number: number, first: { id: string; name: string } | undefined, piece: string): string {
    const call =
      first === undefined
        ? { index: number, function: { arguments: piece } }
        : { index: number, id: first.id, type: 'function', function: { name: first.name, arguments: '' } }
    return this.#chunk(index, { tool_calls: [call] }, null, null)
  }

  close(index: number, finish: Finish): string {
    return this.#chunk(index, {}, null, finishReason(finish))
  }

  usage(usage: Usage): string {
    return this.#frame.usage(usage)
  }

  #chunk(index: number, delta: object, logprobs: object | null, finish: string | null): string {
    return this.#frame.event(index, `"delta":${JSON.stringify(delta)}`, logprobs, finish)
  }
}

/** Chunks of a text completion. */
export class CompletionChunks {
  readonly #frame: Frame
  /** Characters sent so far, by choice: `text_offset` counts from the start of the answer. */
  readonly #sent = new Map<number, number>()
  constructor(head: AnswerHead, includeUsage: boolean) {
    this.#frame = new Frame(headOf(head, 'text_completion'), includeUsage)
  }

  open(_index: number): string {
    return ''
  }

  text(index: number, text: string, logprobs?: readonly Logprob[]): string {
    const some = logprobs !== undefined && logprobs.length > 0
    if (text === '' && !some) return ''
    const offset = this.#sent.get(index) ?? 0
    this.#sent.set(index, offset + text.length)
    return this.#chunk(index, text, some ? completionLogprobs(logprobs, offset) : null, null)
  }

  close(index: number, finish: Finish): string {
    return this.#chunk(index, '', null, finishReason(finish))
  }

  usage(usage: Usage): string {
    return this.#frame.usage(usage)
  }

  #chunk(index: number, text: string, logprobs: object | null, finish: string | null): string {
    return this.#frame.event(index, `"text":${JSON.stringify(text)}`, logprobs, finish)
  }
}

/** What the events of one answer share, written once: they differ in a few bytes, and there is one for every few tokens. */
class Frame {
  readonly #head: object
  readonly #includeUsage: boolean
  readonly #before: string
  readonly #after: string
  constructor(head: object, includeUsage: boolean) {
    this.#head = head
    this.#includeUsage = includeUsage
    this.#before = `data: ${JSON.stringify(head).slice(0, -1)},"choices":[{"index":`
    this.#after = `}]${includeUsage ? ',"usage":null' : ''}}\n\n`
  }

  /** @param what - the choice's own field, as JSON. */
  event(index: number, what: string, logprobs: object | null, finish: string | null): string {
    const odds = logprobs === null ? 'null' : JSON.stringify(logprobs)
    const end = finish === null ? 'null' : `"${finish}"`
    return `${this.#before}${index},${what},"logprobs":${odds},"finish_reason":${end}${this.#after}`
  }

  usage(usage: Usage): string {
    return this.#includeUsage ? event({ ...this.#head, choices: [], usage: usageOf(usage) }) : ''
  }
}

/** JSON has no line breaks outside strings and escapes those inside, so one object is one event. */
function event(value: object): string {
  return `data: ${JSON.stringify(value)}\n\n`
}

function headOf(head: AnswerHead, object: string): object {
  return {
    id: head.id,
    object,
    created: head.created,
    model: head.model,
    ...(head.fingerprint === undefined ? {} : { system_fingerprint: head.fingerprint })
  }
}

function usageOf(usage: Usage): object {
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    ...(usage.cachedTokens === undefined ? {} : { prompt_tokens_details: { cached_tokens: usage.cachedTokens } }),
    ...(usage.reasoningTokens === undefined
      ? {}
      : { completion_tokens_details: { reasoning_tokens: usage.reasoningTokens } })
  }
}

/** The API has no word for an answer that was cut by the server: it is as incomplete as one of full length. */
function finishReason(finish: Finish): 'stop' | 'length' | 'tool_calls' {
  return finish === 'stop' || finish === 'tool_calls' ? finish : 'length'
}

const loose = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true })

interface Alternative {
  logprob: number | null
  bytes: Uint8Array
}

function named(x: Alternative): { token: string; logprob: number | null; bytes: number[] } {
  // JSON has no infinity.
  const logprob = x.logprob === null ? null : Math.max(x.logprob, -9999)
  return { token: loose.decode(x.bytes), logprob, bytes: [...x.bytes] }
}

function chatLogprobs(list: readonly Logprob[]): object {
  return { content: list.map(x => ({ ...named(x), top_logprobs: x.top.map(named) })), refusal: null }
}

function completionLogprobs(list: readonly Logprob[], start: number): object {
  let offset = start
  const tokens = list.map(named)
  return {
    tokens: tokens.map(x => x.token),
    token_logprobs: tokens.map(x => x.logprob),
    top_logprobs: list.map(x =>
      x.logprob === null ? null : Object.fromEntries(x.top.map(named).map(y => [y.token, y.logprob]))
    ),
    text_offset: tokens.map((x, i) => {
      const at = offset
      if (list[i]!.hidden !== true) offset += x.token.length
      return at
    })
  }
}
