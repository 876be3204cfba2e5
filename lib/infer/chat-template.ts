/**
 * Conversations to prompts: the Jinja template that a model file carries, rendered by @huggingface/jinja. A template is a
 * stranger's program, so it runs with bounds: its size, the time of compiling and rendering, the length of `range`, the size of
 * the output and of every value on the way. The time bound is V8's own watchdog (node:vm), which ends any JavaScript that the call
 * reaches. A worker would bound memory as a whole, but cannot answer a synchronous call and costs 15 MB a model.
 *
 * User text must not become control tokens: every string of a conversation is guarded (tokenizer.ts) before it is rendered, which
 * puts an invisible mark into names of control tokens, and the marks are taken out when the prompt is tokenized. Without such
 * names the ids are those of the whole text with control tokens recognised. Source: inference.md sections 5 and 6.
 */
import vm from 'node:vm'
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja'
import { messageOf, ZgError } from '../base/errors.ts'
import { LIMITS } from '../base/limits.ts'
import { type ModelTokenizer, withBos } from './tokenizer.ts'
import type { ChatMessage } from './types.ts'

/** A template's source; the longest known ones have about 20 KiB. */
export const MAX_TEMPLATE_BYTES = 256 * 1024
/** A rendered prompt, in UTF-16 units. */
export const MAX_RENDERED_BYTES = 8 * 1024 * 1024
/** Compiling, and each rendering, by the wall clock: a busy machine needs more than the few ms of a free one. */
export const RENDER_MS = 1_000
/** Elements of a list in a template, `range` included. */
export const MAX_RANGE = 100_000

/** Names that the renderer gives to every template; a conversation's own fields may not hide them. */
const RESERVED = new Set(['true', 'false', 'none', 'True', 'False', 'None', 'range', 'namespace', 'raise_exception'])
RESERVED.add('strftime_now')

/** The package's declarations name their own files without an extension, which TypeScript does not follow here. */
const Renderer = Interpreter as unknown as new (
  env: unknown
) => { run(program: unknown): { value: unknown }; evaluate(...args: unknown[]): { value: unknown } }

/** For files without a template whose vocabulary has ChatML's tokens. */
const CHATML =
  "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

/** For all others: a model that was never taught a format reads plain words best. */
const PLAIN =
  "{% for m in messages %}{% if m.role == 'system' %}{{ m.content + '\\n\\n' }}" +
  "{% elif m.role == 'assistant' %}{{ 'Assistant: ' + m.content + '\\n' }}" +
  "{% else %}{{ 'User: ' + m.content + '\\n' }}{% endif %}{% endfor %}" +
  "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"

export interface RenderOptions {
  tools?: unknown[] | undefined
  /** End with the opening of an answer. Default true. */
  addGenerationPrompt?: boolean | undefined
  /** What `strftime_now` reads, in UTC. Default: the clock. */
  now?: Date | undefined
  /** Further fields for the template (`chat_template_kwargs`). */
  extra?: Record<string, unknown> | undefined
  /** The last message is the beginning of the answer, which goes on behind it. */
  continueFinal?: boolean | undefined
}

/** The template of one model, compiled once. */
export class ChatTemplate {
  readonly source: string
  readonly #program: unknown
  readonly #bos: string
  readonly #eos: string

  /**
   * @param source - the template; undefined: a built-in one.
   * @param tokens - texts of BOS and EOS, '' for none; `chatml`: the vocabulary has ChatML's tokens.
   * @throws {ZgError} ERR_BAD_INPUT when it is too large or no valid template.
   */
  constructor(source: string | undefined, tokens: { bos: string; eos: string; chatml?: boolean }) {
    this.source = source ?? (tokens.chatml === true ? CHATML : PLAIN)
    this.#bos = tokens.bos
    this.#eos = tokens.eos
    if (Buffer.byteLength(this.source) > MAX_TEMPLATE_BYTES) {
      throw new ZgError('ERR_BAD_INPUT', `the chat template has more than ${MAX_TEMPLATE_BYTES} bytes`)
    }
    this.#program = inTime('the chat template cannot be compiled', () =>
      parse(tokenize(this.source, { lstrip_blocks: true, trim_blocks: true }))
    )
  }

  /**
   * The text of a conversation, with names of control tokens wherever they stand: for display and for tests. Prompts for the
   * model come from {@link chatPrompt}.
   * @throws {ZgError} ERR_BAD_INPUT when the template refuses the conversation (`raise_exception`), fails or takes too long.
   */
  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    for (const name of Object.keys(options.extra ?? {})) {
      if (RESERVED.has(name)) throw new ZgError('ERR_BAD_INPUT', `a template's field may not be called '${name}'`)
    }
    const fields: Record<string, unknown> = {
      ...options.extra,
      messages,
      add_generation_prompt: options.addGenerationPrompt ?? true,
      bos_token: this.#bos,
      eos_token: this.#eos
    }
    if (options.tools !== undefined && options.tools.length > 0) fields.tools = options.tools
    const text = inTime('the chat template refuses the conversation', () => {
      const env = environment(options.now ?? new Date())
      for (const [name, value] of Object.entries(fields)) env.set(name, value)
      return new BoundedInterpreter(env).run(this.#program).value
    })
    if (typeof text !== 'string') throw new ZgError('ERR_BAD_INPUT', 'the chat template gives no text')
    if (text.length > MAX_RENDERED_BYTES) {
      throw new ZgError('ERR_BAD_INPUT', `the chat template gives more than ${MAX_RENDERED_BYTES} characters`)
    }
    return text
  }
}

/** The template of a tokenizer's file. `name` of its BOS and EOS are known to it. */
export function templateOf(tokenizer: ModelTokenizer, source = tokenizer.info.chatTemplate): ChatTemplate {
  const { bosId, eosId } = tokenizer.info
  const chatml = ['<|im_start|>', '<|im_end|>'].every(name => tokenizer.encode(name, true).length === 1)
  return new ChatTemplate(source, { bos: tokenizer.name(bosId), eos: tokenizer.name(eosId), chatml })
}

/**
 * The prompt of a conversation: ids of the rendered template, control tokens from the template alone, BOS in front where the
 * model asks for it and the template did not print it.
 * @throws {ZgError} ERR_BAD_INPUT as {@link ChatTemplate.render}, and when the text is too long.
 */
export function chatPrompt(
  tokenizer: ModelTokenizer,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: RenderOptions = {}
): Int32Array {
  const mark = unusedMark(template.source + JSON.stringify([messages, options.tools ?? null, options.extra ?? null]))
  const guard = (value: unknown): unknown => guarded(value, text => tokenizer.guard(text, mark), 0)
  const last = options.continueFinal === true ? messages.at(-1) : undefined
  if (last !== undefined && last.role !== 'assistant') {
    throw new ZgError('ERR_BAD_INPUT', "the last message is not the assistant's: its answer cannot go on")
  }
  const rendered = template.render(
    // A role is a word of the protocol, which templates compare and print between control tokens.
    messages.slice(0, last === undefined ? undefined : -1).map(m => ({ ...(guard(m) as ChatMessage), role: m.role })),
    {
      ...options,
      ...(last === undefined ? {} : { addGenerationPrompt: true }),
      tools: guard(options.tools) as unknown[] | undefined,
      extra: guard(options.extra) as Record<string, unknown> | undefined
    }
  )
  const text = last === undefined ? rendered : rendered + tokenizer.guard(last.content, mark)
  return withBos(tokenizer.info, tokenizer.encodeGuarded(text, mark))
}

/** A private-use character that the conversation lacks. */
function unusedMark(text: string): string {
  for (let cp = 0xf0000; cp < 0xffffe; cp++) {
    const mark = String.fromCodePoint(cp)
    if (!text.includes(mark)) return mark
  }
  throw new ZgError('ERR_BAD_INPUT', 'the conversation uses every private-use character')
}

/** A copy with every string guarded, names of fields included (tools name their parameters). */
function guarded(value: unknown, guard: (text: string) => string, depth: number): unknown {
  if (typeof value === 'string') return guard(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth > LIMITS.jsonDepth) throw new ZgError('ERR_BAD_INPUT', 'the conversation is nested too deeply')
  if (Array.isArray(value)) return value.map(x => guarded(x, guard, depth + 1))
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [guard(k), guarded(v, guard, depth + 1)]))
}

/**
 * Values stay small at every step. A list that doubles in a loop would have the process killed for its memory within the time
 * that a template has.
 */
class BoundedInterpreter extends Renderer {
  override evaluate(...args: unknown[]): { value: unknown } {
    const result = super.evaluate(...args)
    const { value } = result
    if (typeof value === 'string' && value.length > MAX_RENDERED_BYTES) {
      throw new Error(`a text of more than ${MAX_RENDERED_BYTES} characters`)
    }
    if (Array.isArray(value) && value.length > MAX_RANGE) throw new Error(`a list of more than ${MAX_RANGE} elements`)
    return result
  }
}

/** What every template may call. */
function environment(now: Date): Environment {
  const env = new Environment()
  for (const name of ['none', 'None']) env.set(name, null)
  for (const name of ['true', 'True']) env.set(name, true)
  for (const name of ['false', 'False']) env.set(name, false)
  env.set('raise_exception', (message: unknown) => {
    throw new Error(String(message))
  })
  env.set('range', boundedRange)
  env.set('strftime_now', (format: unknown) => strftime(now, String(format)))
  return env
}

function boundedRange(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second]
  const count = Math.ceil((stop - start) / step)
  if (![start, stop, step].every(Number.isSafeInteger) || step === 0) throw new Error('range needs whole numbers')
  if (count > MAX_RANGE) throw new Error(`range of more than ${MAX_RANGE} elements`)
  return Array.from({ length: Math.max(count, 0) }, (_, i) => start + i * step)
}

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const MONTHS = [
  ...['January', 'February', 'March', 'April', 'May', 'June'],
  ...['July', 'August', 'September', 'October', 'November', 'December']
]

/** The directives that templates use, in UTC and English so that all machines render alike; others stay as they are. */
function strftime(d: Date, format: string): string {
  const two = (n: number): string => String(n).padStart(2, '0')
  const hour = d.getUTCHours()
  const by: Record<string, string> = {
    a: DAYS[d.getUTCDay()]!.slice(0, 3),
    A: DAYS[d.getUTCDay()]!,
    b: MONTHS[d.getUTCMonth()]!.slice(0, 3),
    B: MONTHS[d.getUTCMonth()]!,
    d: two(d.getUTCDate()),
    m: two(d.getUTCMonth() + 1),
    y: two(d.getUTCFullYear() % 100),
    Y: String(d.getUTCFullYear()),
    H: two(hour),
    I: two(hour % 12 || 12),
    M: two(d.getUTCMinutes()),
    S: two(d.getUTCSeconds()),
    p: hour < 12 ? 'AM' : 'PM',
    Z: 'UTC',
    '%': '%'
  }
  return format.replace(/%(-?)([a-zA-Z%])/g, (all, minus: string, letter: string) => {
    const value = by[letter]
    if (value === undefined) return all
    return minus === '-' ? value.replace(/^0(?=\d)/, '') : value
  })
}

let box: { context: vm.Context; script: vm.Script } | undefined

/** Runs a synchronous function of ours or of the renderer under the time bound; whatever it throws is bad input. */
function inTime<T>(what: string, call: () => T): T {
  box ??= { context: vm.createContext({ call: undefined }), script: new vm.Script('call()') }
  box.context.call = call
  try {
    return box.script.runInContext(box.context, { timeout: RENDER_MS }) as T
  } catch (err) {
    const late = (err as { code?: unknown }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
    const why = late ? `it takes longer than ${RENDER_MS} ms` : messageOf(err).slice(0, 500)
    throw new ZgError('ERR_BAD_INPUT', `${what}: ${why}`, { cause: err })
  } finally {
    box.context.call = undefined
  }
}
