/**
 * Answers in parts, against an engine that says what a script says: thoughts, text and calls are told apart whatever pieces the tokens come
 * in, marks are never shown, markers may lie within tokens, streams joined are the whole, budgets hold, and each part goes on exactly where
 * the last one ended. Seeds are printed.
 */
import t from 'tap'
import { type ChatRun, type ChatStep, callHead, runChat } from '../../lib/infer/chat-run.ts'
import { styleOf } from '../../lib/infer/chat-style.ts'
import { TextStream } from '../../lib/infer/text-stream.ts'
import type { Engine, GenerateRequest, Step } from '../../lib/infer/types.ts'
import { randomOf } from '../harness/json-schema.ts'
import { SEED } from '../harness/seed.ts'

const PROMPT = Int32Array.from(Buffer.from('prompt:'))
/** Where a grammar ends in a script. */
const END = '\u0001'

interface Scripted extends Engine {
  requests: GenerateRequest[]
}

/** Ids below 256 are bytes; others are pieces of the script, cut at random. endless: says its script again and again, whatever was said. */
function scripted(script: string, template: string, random: () => number, endless = false): Scripted {
  const pieces: Uint8Array[] = []
  const idOf = (bytes: Uint8Array): number => {
    if (bytes.length === 1) return bytes[0]!
    pieces.push(bytes)
    return 255 + pieces.length
  }
  const piece = (id: number): Uint8Array => (id < 256 ? Uint8Array.of(id) : pieces[id - 256]!)
  const textOf = (ids: Int32Array): string => Buffer.concat([...ids].map(piece)).toString()
  const requests: GenerateRequest[] = []
  return {
    requests,
    info: { chatTemplate: template, contextLength: 10_000, endIds: [] } as unknown as Engine['info'],
    tokenizer: {
      encode: text => Int32Array.from(Buffer.from(text)),
      piece,
      decode: ids => textOf(Int32Array.from(ids))
    },
    chatPrompt: () => PROMPT,
    textPrompt: () => PROMPT,
    constrain: async () => ({ native: undefined, ignored: [] }),
    close: async () => {},
    async *generate(request: GenerateRequest): AsyncGenerator<Step, void, void> {
      requests.push(request)
      // What the parts so far made is a beginning of the script, ends of grammars left out.
      const said = textOf(request.prompt.slice(PROMPT.length))
      let rest = script
      let at = 0
      // By UTF-16 units, as the script is indexed.
      for (let i = 0; i < said.length && !endless; i++) {
        while (rest[at] === END) at++
        if (rest[at] !== said[i]) throw new Error(`the part goes on behind '${said}', the script is '${script}'`)
        at++
      }
      while (rest[at] === END && request.grammar === undefined) at++
      rest = rest.slice(at)
      const end = request.grammar === undefined ? -1 : rest.indexOf(END)
      const bytes = Buffer.from((end === -1 ? rest : rest.slice(0, end)).replaceAll(END, ''))
      const out = new TextStream(request.stop ?? [])
      let used = 0
      for (let from = 0; from < bytes.length; ) {
        const size = 1 + Math.floor(random() * 6)
        const token = bytes.subarray(from, from + size)
        from += token.length
        used++
        const step: Step = { id: idOf(token), text: out.push(token) }
        if (out.stopped !== undefined) Object.assign(step, { finish: 'stop', stopReason: out.stopped })
        else if (from >= bytes.length && end !== -1)
          Object.assign(step, { finish: 'stop', text: step.text + out.finish() })
        else if (used >= request.maxTokens) Object.assign(step, { finish: 'length', text: step.text + out.finish() })
        yield step
        if (step.finish !== undefined) return
      }
      yield { id: 0, text: out.finish(), finish: 'stop' }
    }
  }
}

async function run(engine: Scripted, o: Partial<ChatRun> & { maxTokens?: number; stop?: string[] }) {
  const base: GenerateRequest = { prompt: PROMPT, maxTokens: o.maxTokens ?? 5_000, sampling: {}, stop: o.stop ?? [] }
  const out = {
    text: '',
    reasoning: '',
    calls: [] as { name: string; arguments: string }[],
    finish: '' as ChatStep['finish'] | '',
    tokens: 0
  }
  const full: ChatRun = {
    base,
    style: styleOf(engine),
    thinking: false,
    separate: true,
    grammar: undefined,
    tools: undefined,
    ...o
  }
  for await (const step of runChat(engine, full, new AbortController().signal)) {
    out.text += step.text
    out.reasoning += step.reasoning ?? ''
    if (step.call?.name !== undefined) {
      t.equal(step.call.arguments, '', 'the first piece of a call has no arguments')
      out.calls.push({ name: step.call.name, arguments: '' })
    }
    if (step.call !== undefined) out.calls[step.call.index]!.arguments += step.call.arguments
    if (step.id !== undefined) out.tokens++
    if (step.finish !== undefined) {
      t.equal(out.finish, '', 'one end')
      out.finish = step.finish
    }
  }
  return out
}

const QWEN = '{% if tools %}<tool_call>{% endif %}<think></think>'
const PLAIN = '{{ messages }}'
const grammar = { native: undefined, ignored: [] }
const auto = { mode: 'auto' as const, grammar, names: ['weather', 'stop'], parallel: true }

t.test('thoughts, text and calls, cut into tokens in two hundred ways', async t => {
  const random = randomOf(SEED)
  const call = `${callHead('weather', 'arguments', false)}{"city": "Zürich 🏔"}}`
  const stop = `${callHead('stop', 'arguments', false)}{}}`
  for (let i = 0; i < 200; i++) {
    const plain = await run(scripted('Hello, wörld <tool or <thin air', PLAIN, random), { tools: auto })
    t.match(plain, { text: 'Hello, wörld <tool or <thin air', reasoning: '', finish: 'stop' })
    const thought = await run(scripted('<think>\nWhy? 🤔 <thin\n</think>\n\nBecause.', QWEN, random), {})
    t.match(thought, { text: '\n\nBecause.', reasoning: '\nWhy? 🤔 <thin\n', finish: 'stop' })
    const opened = await run(scripted('so </think>yes', QWEN, random), { thinking: true })
    t.match(opened, { text: 'yes', reasoning: 'so ', finish: 'stop' })
    const joined = await run(scripted('<think>a</think>b', QWEN, random), { separate: false })
    t.match(joined, { text: '<think>a</think>b', reasoning: '' })
    const two = await run(
      scripted(
        `Let me see. <tool_call>${call}${END}\n</tool_call>\n<tool_call>${stop}${END}\n</tool_call>`,
        QWEN,
        random
      ),
      { tools: auto }
    )
    t.equal(two.text.trim(), 'Let me see.')
    t.strictSame(two.calls, [
      { name: 'weather', arguments: '{"city": "Zürich 🏔"}' },
      { name: 'stop', arguments: '{}' }
    ])
    t.equal(two.finish, 'tool_calls')
    const one = await run(scripted(`<tool_call>${call}${END}\n</tool_call> and more`, QWEN, random), {
      tools: { ...auto, parallel: false }
    })
    t.match(one, { text: '', finish: 'tool_calls', calls: [{ name: 'weather' }] })
    const forced = await run(scripted(`<tool_call>\n${stop}${END}`, QWEN, random), {
      tools: { ...auto, mode: 'forced' }
    })
    t.match(forced, { text: '', finish: 'tool_calls', calls: [{ name: 'stop', arguments: '{}' }] })
    const schema = await run(scripted(`hm</think>{"a":1}${END}`, QWEN, random), { thinking: true, grammar })
    t.match(schema, { text: '{"a":1}', reasoning: 'hm', finish: 'stop' })
  }
})

t.test('lists of calls, bare calls, stop strings and ends of the budget', async t => {
  const random = randomOf(SEED + 1)
  const mistral = await run(
    scripted(`[TOOL_CALLS]${callHead('stop', 'arguments', true)}{"x": [1]}}]${END}`, '[TOOL_CALLS]', random),
    { tools: auto }
  )
  t.match(mistral, { finish: 'tool_calls', calls: [{ name: 'stop', arguments: '{"x": [1]}' }] })
  const llama = await run(scripted(`${callHead('stop', 'parameters', false)}{}}${END}`, '<|python_tag|>', random), {
    tools: auto
  })
  t.match(llama, { text: '', finish: 'tool_calls', calls: [{ name: 'stop', arguments: '{}' }] })
  const stopped = await run(scripted('one two STOP three', QWEN, random), { stop: ['STOP'], tools: auto })
  t.match(stopped, { text: 'one two ', finish: 'stop' })
  for (const maxTokens of [1, 2, 7, 30]) {
    const cut = await run(scripted(`<think>${'long '.repeat(200)}`, QWEN, random, true), { maxTokens })
    t.equal(cut.finish, 'length')
    t.ok(cut.tokens <= maxTokens, `${cut.tokens} of ${maxTokens} tokens`)
  }
  const half = await run(
    scripted(`<tool_call>${callHead('stop', 'arguments', false)}{"endless": "${'x'.repeat(500)}`, QWEN, random),
    { tools: auto, maxTokens: 40 }
  )
  t.equal(half.finish, 'length', 'a call that was cut is no call')
  const engine = scripted(`a<tool_call>${callHead('stop', 'arguments', false)}{}}${END}\n</tool_call>`, QWEN, random)
  await run(engine, { tools: auto, maxTokens: 40 })
  t.ok(
    engine.requests.every(r => r.outputFrom === PROMPT.length),
    'penalties count what earlier parts made'
  )
})
