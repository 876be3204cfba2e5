/**
 * How a model says that it calls a function and that it thinks, told from its chat template (inference.md 6 and 11). Templates
 * that know no tools get them described in a system message, in the form of the Hermes models.
 */
import type { Tool } from './openai-format.ts'
import type { ChatMessage, Engine } from './types.ts'

export interface CallStyle {
  /** What the model writes before a call. */
  marker: string
  /** What is put into the prompt to make it call. */
  open: string
  /** Behind a call, before whatever comes next; undefined: an answer has one call. */
  close: string | undefined
  /** Name of the field with the arguments. */
  argumentsKey: string
  /** Calls stand in a list. */
  list: boolean
  /** The model may also begin its answer with such text instead of the marker. */
  bare: string | undefined
}

export interface ChatStyle {
  calls: CallStyle
  /** The template itself tells the model about tools. */
  knowsTools: boolean
  /** The template knows `<think>`. */
  thinks: boolean
  /** Control tokens whose names say something here. */
  visible: ReadonlySet<number>
}

const HERMES: CallStyle = {
  marker: '<tool_call>',
  open: '<tool_call>\n',
  close: '\n</tool_call>',
  argumentsKey: 'arguments',
  list: false,
  bare: undefined
}
const MISTRAL: CallStyle = {
  marker: '[TOOL_CALLS]',
  open: '[TOOL_CALLS]',
  close: undefined,
  argumentsKey: 'arguments',
  list: true,
  bare: undefined
}
const LLAMA: CallStyle = {
  marker: '<|python_tag|>',
  open: '',
  close: undefined,
  argumentsKey: 'parameters',
  list: false,
  bare: '{"name": '
}

export const THINK_OPEN = '<think>'
export const THINK_CLOSE = '</think>'
const NAMES = [THINK_OPEN, THINK_CLOSE, '<tool_call>', '</tool_call>', '[TOOL_CALLS]', '<|python_tag|>']

const styles = new WeakMap<Engine, ChatStyle>()

export function styleOf(engine: Engine): ChatStyle {
  const known = styles.get(engine)
  if (known !== undefined) return known
  const source = engine.info.chatTemplate ?? ''
  const visible = new Set<number>()
  for (const name of NAMES) {
    const ids = engine.tokenizer.encode(name, true)
    if (ids.length === 1) visible.add(ids[0]!)
  }
  const style: ChatStyle = {
    calls: source.includes('[TOOL_CALLS]')
      ? MISTRAL
      : source.includes('<|python_tag|>') || /"parameters"/.test(source.replaceAll('<tool_call>', ''))
        ? source.includes('<tool_call>')
          ? HERMES
          : LLAMA
        : HERMES,
    knowsTools: /\btools\b/.test(source),
    thinks: source.includes(THINK_CLOSE) || source.includes(THINK_OPEN),
    visible
  }
  styles.set(engine, style)
  return style
}

/** A conversation for a template that knows nothing of tools. */
export function describeTools(messages: readonly ChatMessage[], tools: readonly Tool[]): ChatMessage[] {
  const described =
    `You may call functions. They are, one a line:\n<tools>\n${tools.map(t => JSON.stringify(t)).join('\n')}\n</tools>\n` +
    'To call one, answer with:\n<tool_call>\n{"name": <name>, "arguments": <arguments as JSON>}\n</tool_call>'
  const out = messages.map((m): ChatMessage => {
    if (m.role === 'tool') return { role: 'user', content: `<tool_response>\n${m.content}\n</tool_response>` }
    const calls = m.tool_calls
    if (!Array.isArray(calls)) return m
    const texts = calls.map((c: { function: { name: string; arguments: unknown } }) => {
      const call = { name: c.function.name, arguments: c.function.arguments }
      return `<tool_call>\n${JSON.stringify(call)}\n</tool_call>`
    })
    return { role: m.role, content: [m.content, ...texts].filter(x => x !== '').join('\n') }
  })
  const [first, ...rest] = out
  return first?.role === 'system'
    ? [{ ...first, content: `${first.content}\n\n${described}` }, ...rest]
    : [{ role: 'system', content: described }, ...out]
}
