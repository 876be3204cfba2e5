/**
 * Datasets of training: files of JSON lines, and plain text, to tokens. A line is {"messages": […]} (the model's chat template; what the
 * assistant says is learnt), {"prompt", "completion"} (the completion is learnt) or {"text"} (all of it is). Further fields are ignored.
 */
import { messageOf, ZgError } from '../../base/errors.ts'
import { type ChatTemplate, chatPrompt } from '../chat-template.ts'
import type { ModelTokenizer } from '../tokenizer.ts'
import type { ChatMessage } from '../types.ts'
import { COUNTS, emptyList, type TokenSet } from './token-file.ts'

/** A line of a dataset, in UTF-16 units. */
export const LINE_MAX = 16 * 1024 * 1024
/** Faulty lines that are named; the rest are counted. */
export const FAULTS_SHOWN = 20

export interface Sample {
  ids: number[]
  /** Ids from `from` up to `to` are learnt. */
  learnt: [from: number, to: number][]
}

const ROLES = new Set(['system', 'developer', 'user', 'assistant', 'tool'])

/** Turns lines into samples of at most `context` + 1 tokens. */
export class SampleReader {
  readonly #tokenizer: ModelTokenizer
  readonly #template: ChatTemplate
  readonly #context: number
  /** Samples of which an end was cut off because they are longer than the context. */
  cut = 0

  constructor(tokenizer: ModelTokenizer, template: ChatTemplate, context: number) {
    this.#tokenizer = tokenizer
    this.#template = template
    this.#context = context
  }

  /** @throws {ZgError} ERR_BAD_INPUT that says what is wrong with the line. */
  line(text: string): Sample[] {
    if (text.length > LINE_MAX) throw bad(`the line is longer than ${LINE_MAX} characters`)
    const value = parse(text)
    if (Array.isArray(value.messages)) return this.#conversation(value.messages)
    if (value.messages !== undefined) throw bad("'messages' is no list")
    if (value.prompt !== undefined || value.completion !== undefined) {
      return this.#completion(string(value.prompt, 'prompt'), string(value.completion, 'completion'))
    }
    if (value.text !== undefined) return this.#text(string(value.text, 'text'))
    throw bad("there is no 'messages', no 'prompt' with 'completion' and no 'text'")
  }

  #text(text: string): Sample[] {
    if (text === '') throw bad("'text' is empty")
    const ids = [...this.#tokenizer.prompt(text), ...this.#end()]
    if (ids.length < 2) throw bad('the text is a single token')
    // Each token is learnt once: a piece begins with the last token of the one before.
    const samples: Sample[] = []
    for (let at = 0; at + 1 < ids.length; at += this.#context) {
      const piece = ids.slice(at, at + this.#context + 1)
      samples.push({ ids: piece, learnt: [[1, piece.length]] })
    }
    return samples
  }

  #completion(prompt: string, completion: string): Sample[] {
    if (completion === '') throw bad("'completion' is empty")
    const before = [...this.#tokenizer.prompt(prompt)]
    // Where the whole begins with the prompt's ids, its other ids are what follows; else the border stays a border.
    const whole = [...this.#tokenizer.prompt(prompt + completion)]
    const after = startsWith(whole, before) ? whole.slice(before.length) : [...this.#tokenizer.encode(completion)]
    const ids = [...before, ...after, ...this.#end()]
    return this.#whole({ ids, learnt: [[Math.max(1, before.length), ids.length]] })
  }

  #conversation(list: unknown[]): Sample[] {
    const messages = list.map((message, i) => checked(message, i))
    if (!messages.some(m => m.role === 'assistant'))
      throw bad("no message is the assistant's, so there is nothing to learn")
    const ids = (count: number, open: boolean): number[] => [
      ...chatPrompt(this.#tokenizer, this.#template, messages.slice(0, count), { addGenerationPrompt: open })
    ]
    const turns = messages.flatMap((m, i) => {
      if (m.role !== 'assistant') return []
      const before = ids(i, true)
      const after = ids(i + 1, false)
      // A template that prints the answer otherwise than behind its own opening: the answer's text, as it would be generated.
      const answer = startsWith(after, before) ? after.slice(before.length) : [...this.#tokenizer.encode(m.content)]
      return [{ before, answer: this.#closed(answer, i + 1 === messages.length) }]
    })
    const last = turns.at(-1)!
    const whole = [...last.before, ...last.answer]
    const fits = turns.every(t => startsWith(whole, t.before) && startsWith(whole.slice(t.before.length), t.answer))
    if (fits) {
      return this.#whole({ ids: whole, learnt: turns.map(t => [t.before.length, t.before.length + t.answer.length]) })
    }
    return turns.flatMap(t =>
      this.#whole({ ids: [...t.before, ...t.answer], learnt: [[t.before.length, t.before.length + t.answer.length]] })
    )
  }

  /** The last answer ends with a token that ends answers. */
  #closed(answer: number[], last: boolean): number[] {
    if (!last || answer.some(id => this.#tokenizer.info.endIds.includes(id))) return answer
    return [...answer, ...this.#end()]
  }

  #end(): number[] {
    const { eosId } = this.#tokenizer.info
    return eosId === undefined ? [] : [eosId]
  }

  #whole(sample: Sample): Sample[] {
    const { ids } = sample
    const most = this.#context + 1
    if (ids.length < 2) throw bad('there is no token before the first one that is learnt')
    const learnt = sample.learnt
      .map(([from, to]): [number, number] => [Math.max(1, from), Math.min(to, most)])
      .filter(([from, to]) => from < to)
    if (learnt.length === 0) throw bad(`nothing is left to learn within the context of ${this.#context} tokens`)
    if (ids.length > most) this.cut++
    return [{ ids: ids.slice(0, most), learnt }]
  }
}

/** Appends a sample to a set. */
export function addSample(list: TokenSet['training'], sample: Sample): void {
  list.starts.push(list.tokens.length)
  let range = 0
  sample.ids.forEach((id, i) => {
    while (range < sample.learnt.length && i >= sample.learnt[range]![1]) range++
    const counts = range < sample.learnt.length && i >= sample.learnt[range]![0]
    list.tokens.push(counts ? id + COUNTS : id)
  })
}

/** Paragraphs of a text as a stream; every so many of them, in blocks, are held out. */
export function addText(set: TokenSet, tokenizer: ModelTokenizer, text: string, heldOutShare: number): void {
  const paragraphs = text.replace(/\r\n/g, '\n').split(/\n[ \t]*\n\s*/)
  const pieces = (paragraphs.length > 1 ? paragraphs : text.split('\n')).filter(p => p.trim() !== '')
  const mark = paragraphs.length > 1 ? '\n\n' : '\n'
  const block = Math.max(1, Math.min(32, Math.floor((pieces.length * heldOutShare) / 4)))
  const every = heldOutShare > 0 ? Math.max(2, Math.round(1 / heldOutShare)) : Number.POSITIVE_INFINITY
  let last: TokenSet['training'] | undefined
  pieces.forEach((piece, i) => {
    const held = heldOutShare > 0 && Math.floor(i / block) % every === Math.floor(every / 2)
    const list = held ? set.heldOut : set.training
    list.starts.push(list.tokens.length)
    const words = i + 1 < pieces.length ? piece + mark : piece
    for (const id of tokenizer.encode(words)) list.tokens.push(id + COUNTS)
    if (held) set.heldOutBytes += Buffer.byteLength(words)
    last = list
  })
  const { eosId } = tokenizer.info
  if (eosId !== undefined) last?.tokens.push(eosId + COUNTS)
}

export function emptySet(name: string): TokenSet {
  return { name, weight: 1, training: emptyList(), heldOut: emptyList(), heldOutBytes: 0 }
}

function parse(text: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (err) {
    throw bad(`no JSON: ${messageOf(err)}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad('no JSON object')
  return value as Record<string, unknown>
}

function checked(message: unknown, i: number): ChatMessage {
  const { role, content } = (message ?? {}) as { role?: unknown; content?: unknown }
  if (typeof role !== 'string' || !ROLES.has(role)) throw bad(`message ${i + 1} has no known 'role'`)
  if (typeof content !== 'string') throw bad(`the 'content' of message ${i + 1} is no text`)
  return { ...(message as ChatMessage), role: role === 'developer' ? 'system' : role, content } as ChatMessage
}

function string(value: unknown, name: string): string {
  if (typeof value !== 'string') throw bad(`'${name}' is no text`)
  return value
}

function startsWith(ids: readonly number[], start: readonly number[]): boolean {
  return ids.length >= start.length && start.every((id, i) => ids[i] === id)
}

function bad(text: string): ZgError {
  return new ZgError('ERR_BAD_INPUT', text)
}
