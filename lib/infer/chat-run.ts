/**
 * An answer in a conversation, in as many parts as it needs: what the model thinks, what it says, the functions it calls. Each part is
 * a request of its own to the engine that goes on where the last one ended, so that a grammar can begin in the middle of an answer; draws
 * depend on the position alone, and what was computed is still in the cache.
 */
import { type ChatStyle, THINK_CLOSE, THINK_OPEN } from './chat-style.ts'
import type { AnswerGrammar, Engine, GenerateRequest, Step } from './types.ts'

export interface ChatStep extends Omit<Step, 'finish'> {
  /** Of what the model thinks. */
  reasoning?: string
  /** A piece of a call: its name in the first one, whose arguments are empty. */
  call?: { index: number; name?: string; arguments: string }
  finish?: Step['finish'] | 'tool_calls'
}

export interface ChatRun {
  /** Prompt, sampling, limits; without grammar and signal. */
  base: GenerateRequest
  style: ChatStyle
  /** The prompt ended within a thought. */
  thinking: boolean
  /** Thoughts are told apart. */
  separate: boolean
  /** For the answer itself. */
  grammar: AnswerGrammar | undefined
  /** Tools: `auto` waits for the model's marker, `forced` begins with a call. */
  tools:
    | {
        mode: 'auto' | 'forced'
        grammar: AnswerGrammar
        names: readonly string[]
        parallel: boolean
      }
    | undefined
}

/** Tokens kept for the answer when a thought would use up all. */
const ANSWER_RESERVE = 64

type Part = 'think' | 'begin' | 'text' | 'call' | 'answer'

export async function* runChat(
  engine: Engine,
  run: ChatRun,
  signal: AbortSignal
): AsyncGenerator<ChatStep, void, void> {
  const { base, style, tools } = run
  let prompt = base.prompt
  let left = base.maxTokens
  let calls = 0
  let part: Part = run.thinking
    ? 'think'
    : run.grammar !== undefined
      ? 'answer'
      : tools?.mode === 'forced'
        ? 'call'
        : style.thinks && run.separate
          ? 'begin'
          : 'text'
  const append = (ids: ArrayLike<number>): void => {
    const longer = new Int32Array(prompt.length + ids.length)
    longer.set(prompt)
    longer.set(ids, prompt.length)
    prompt = longer
  }
  const room = (): number => Math.min(left, engine.info.contextLength - prompt.length + 1)
  if (part === 'call') append(engine.tokenizer.encode(style.calls.open, true))
  for (;;) {
    if (room() <= 0) return yield { text: '', finish: 'length' }
    const marks = marksOf(part, run)
    const most = part === 'think' ? Math.max(1, room() - Math.min(ANSWER_RESERVE, room() >> 1)) : room()
    const grammar = part === 'call' ? tools!.grammar : part === 'answer' ? run.grammar : undefined
    const ids: number[] = []
    let text = ''
    let last: Step | undefined
    const call = part === 'call' ? new CallReader(run, calls) : undefined
    const request: GenerateRequest = {
      ...base,
      prompt,
      maxTokens: most,
      stop: part === 'call' ? [] : [...(part === 'think' ? [] : (base.stop ?? [])), ...marks],
      outputFrom: base.prompt.length,
      visible: style.visible,
      signal,
      ...(grammar === undefined ? {} : { grammar })
    }
    // A thought that begins the answer is known by its first word: until then blanks are held back.
    let held = ''
    for await (const step of engine.generate(request)) {
      if (step.id !== undefined) ids.push(step.id)
      text += step.text
      const { finish, ...rest } = step
      if (finish !== undefined) last = step
      if (call !== undefined) {
        const pieces = call.push(step.text, finish !== undefined)
        yield { ...rest, text: '' }
        for (const piece of pieces) yield { text: '', call: piece }
      } else if (part === 'think') {
        yield run.separate ? { ...rest, text: '', reasoning: step.text } : rest
      } else if (part === 'begin') {
        held += step.text
        // Kept until it is known whether a thought follows.
        const out = held.trim() === '' && finish === undefined ? '' : held
        if (out !== '') held = ''
        yield { ...rest, text: last?.stopReason === THINK_OPEN ? '' : out }
      } else yield rest
    }
    left -= ids.length
    const mark = typeof last?.stopReason === 'string' && marks.includes(last.stopReason) ? last.stopReason : undefined
    append(mark === undefined ? ids : upTo(engine, ids, text + mark))
    if (last?.finish === 'cancelled') return yield { text: '', finish: 'cancelled' }
    if (part === 'think' && (mark !== undefined || (last?.finish === 'length' && left > 0))) {
      if (mark === undefined) append(engine.tokenizer.encode(THINK_CLOSE, true))
      part = run.grammar !== undefined ? 'answer' : tools?.mode === 'forced' ? 'call' : 'text'
      if (part === 'call') append(engine.tokenizer.encode(style.calls.open, true))
      continue
    }
    if (part === 'begin' && mark === THINK_OPEN) {
      part = 'think'
      continue
    }
    if (mark !== undefined) {
      // The beginning of a bare call is written again, by its grammar.
      if (mark === style.calls.bare) prompt = prompt.slice(0, prompt.length - upTo(engine, ids, text + mark).length)
      part = 'call'
      continue
    }
    if (part === 'call' && last?.finish === 'stop') {
      calls++
      if (tools!.mode === 'forced' || !tools!.parallel || style.calls.close === undefined) {
        return yield { text: '', finish: 'tool_calls' }
      }
      append(engine.tokenizer.encode(style.calls.close, true))
      part = 'text'
      continue
    }
    const finish = last?.finish ?? 'length'
    const stopReason = last?.stopReason
    return yield {
      text: '',
      finish: finish === 'stop' && calls > 0 ? 'tool_calls' : finish,
      ...(stopReason === undefined ? {} : { stopReason })
    }
  }
}

/** Texts that end a part and begin another. */
function marksOf(part: Part, { style, tools }: ChatRun): string[] {
  if (part === 'think') return [THINK_CLOSE]
  const marks = part === 'begin' ? [THINK_OPEN] : []
  if (tools !== undefined && (part === 'begin' || part === 'text')) {
    marks.push(style.calls.marker)
    if (style.calls.bare !== undefined) marks.push(style.calls.bare)
  }
  return marks
}

/** The ids of a part that ends with a mark; a token that goes on behind it is replaced. */
function upTo(engine: Engine, ids: number[], text: string): ArrayLike<number> {
  let bytes = 0
  for (const id of ids) bytes += engine.tokenizer.piece(id, true).length
  return bytes === Buffer.byteLength(text) ? ids : engine.tokenizer.encode(text, true)
}

/** Reads a call as its grammar has it, as it comes. */
class CallReader {
  readonly #heads: { name: string; head: string }[]
  readonly #index: number
  readonly #tail: number
  #text = ''
  #sent = 0
  #open = false

  constructor(run: ChatRun, index: number) {
    const { argumentsKey, list } = run.style.calls
    this.#heads = run.tools!.names.map(name => ({ name, head: callHead(name, argumentsKey, list) }))
    this.#index = index
    this.#tail = list ? 2 : 1
  }

  push(text: string, ended: boolean): NonNullable<ChatStep['call']>[] {
    this.#text += text
    const out: NonNullable<ChatStep['call']>[] = []
    if (!this.#open) {
      const found = this.#heads.find(h => this.#text.startsWith(h.head))
      if (found === undefined) return out
      this.#open = true
      this.#sent = found.head.length
      out.push({ index: this.#index, name: found.name, arguments: '' })
    }
    // What closes the call itself is no part of its arguments.
    const whole = ended && this.#text.endsWith('}]'.slice(0, this.#tail))
    const to = ended && !whole ? this.#text.length : this.#text.length - this.#tail
    if (to > this.#sent) {
      out.push({ index: this.#index, arguments: this.#text.slice(this.#sent, to) })
      this.#sent = to
    }
    return out
  }
}

/** What a call begins with under its grammar (grammar/constraint.ts). */
export function callHead(name: string, argumentsKey: string, list: boolean): string {
  return `${list ? '[' : ''}{"name": ${JSON.stringify(name)}, ${JSON.stringify(argumentsKey)}: `
}
