/**
 * Every field of every request that the built server takes, with values that are not its own: answered, or refused with a 4xx that says
 * why; never a 5xx, never the words of a failure inside, and the server answers as before at the end.
 */
import { existsSync } from 'node:fs'
import t from 'tap'
import { nativePath } from '../../lib/native.ts'
import { sandbox, startTool } from '../harness/tools.ts'

const skip = existsSync(nativePath('infer')) ? false : 'no native build here'
const box = sandbox('hostile')
t.setTimeout(240_000)
t.teardown(() => box.remove())

const call = (parameters: unknown): unknown => ({ type: 'function', function: { name: 'f', parameters } })
const schema = (value: unknown): unknown => ({ type: 'json_schema', json_schema: { name: 'x', schema: value } })

const VALUES: readonly unknown[] = [
  ...[null, true, false, -1, 0, 1, 2.5, 0.1, 1e15, 1e308, '', 'x', '#', '\ud800', '\u0000', 'a'.repeat(5_000)],
  ...[[], [[]], [1, 'a', null], ['string', 7], [{}], [null], [-1], [1e9], {}, { a: 7 }, { type: 'x' }],
  ...[{ type: 'text' }, { include_usage: 1 }, call(7), [call({ type: 'number', multipleOf: 'q' })]],
  ...[[call({ const: -1, multipleOf: ['string', 7] })], schema(undefined), schema({ type: 'array', minItems: 'x' })],
  schema({ const: -1, multipleOf: ['string', 7] })
]
const nested = (open: string, close: string, n: number): string => `${open.repeat(n)}1${close.repeat(n)}`
/** As JSON, since not all of it could be made otherwise. */
const TEXTS: readonly string[] = [
  ...VALUES.map(value => JSON.stringify(value)),
  ...[nested('[', ']', 20_000), nested('{"a":', '}', 20_000), nested('{"a":', '}', 600), '1e400', '-1e400']
]

const user = [{ role: 'user', content: 'hi' }]
const chat = { messages: user, max_tokens: 2 }
const ENDPOINTS: Record<string, [Record<string, unknown>, string]> = {
  '/v1/chat/completions': [
    chat,
    `messages model max_tokens max_completion_tokens temperature top_p top_k min_p typical_p n stop stream stream_options
     seed logit_bias logprobs top_logprobs presence_penalty frequency_penalty repeat_penalty tools tool_choice
     parallel_tool_calls response_format structured_outputs grammar guided_json guided_regex guided_choice guided_grammar
     user metadata store trace lora chat_template_kwargs add_generation_prompt continue_final_message ignore_eos
     stop_token_ids min_tokens echo functions function_call reasoning_effort prediction modalities`
  ],
  '/v1/completions': [
    { prompt: 'a', max_tokens: 2 },
    `prompt suffix echo logprobs best_of n stop seed logit_bias model max_tokens stream response_format guided_json
     structured_outputs grammar prompt_logprobs trace lora user`
  ],
  '/v1/embeddings': [{ input: 'a' }, 'input encoding_format dimensions model user'],
  '/tokenize': [{ content: 'a' }, 'content prompt messages model add_special with_pieces'],
  '/detokenize': [{ tokens: [1] }, 'tokens model']
}

t.test('no value of any field makes the server fail', { skip }, async t => {
  const server = await startTool('zg-compute', ['serve', '--port', '0'], { env: { ...box.env, ZG_LOG: 'error' } })
  t.teardown(() => server.kill9())
  const asked: [path: string, body: string][] = []
  const put = (path: string, body: unknown, text: string): void => {
    asked.push([path, JSON.stringify(body).replace('"@here@"', () => text)])
  }
  for (const [path, [base, fields]] of Object.entries(ENDPOINTS)) {
    for (const field of fields.split(/\s+/)) {
      for (const text of TEXTS) put(path, { ...base, [field]: '@here@' }, text)
      asked.push([path, JSON.stringify({ ...base, stream: true, [field]: { a: 1 } })])
    }
    for (const body of ['', '[]', 'null', '7', '"x"', '{', '{}', nested('[', ']', 100_000)]) asked.push([path, body])
  }
  const messages = (part: Record<string, unknown>) => ({ ...chat, messages: [{ role: 'assistant', ...part }, ...user] })
  for (const text of TEXTS) {
    for (const key of [
      'role',
      'content',
      'name',
      'tool_calls',
      'tool_call_id',
      'reasoning_content',
      'refusal',
      'other'
    ])
      put('/v1/chat/completions', messages({ content: 'x', [key]: '@here@' }), text)
    const inside = { id: 'a', type: 'function', function: { name: 'f', arguments: '@here@' } }
    put('/v1/chat/completions', messages({ tool_calls: [inside] }), text)
    put('/v1/chat/completions', messages({ tool_calls: [inside] }), JSON.stringify(text))
    put('/v1/chat/completions', { ...chat, tools: [call({ type: 'object', default: '@here@' })] }, text)
    put('/v1/chat/completions', { ...chat, tools: [call('@here@')] }, text)
    put('/v1/chat/completions', { ...chat, response_format: schema('@here@') }, text)
    put('/v1/chat/completions', { ...chat, response_format: schema({ enum: ['x'], default: '@here@' }) }, text)
  }
  const wrong: string[] = []
  const seen = new Map<number, number>()
  const count = asked.length
  const worker = async (): Promise<void> => {
    for (let next = asked.pop(); next !== undefined; next = asked.pop()) {
      const [path, body] = next
      const headers = { 'content-type': 'application/json' }
      const res = await fetch(`${server.url}${path}`, { method: 'POST', headers, body })
      const text = await res.text()
      seen.set(res.status, (seen.get(res.status) ?? 0) + 1)
      const inner = /TypeError|RangeError|undefined|\[object|not a function|call stack|"code":"?5\d\d/.test(text)
      if (inner || ![200, 400, 404, 413].includes(res.status))
        wrong.push(`${res.status} ${path} ${body.slice(0, 300)} -> ${text.slice(0, 300)}`)
    }
  }
  await Promise.all(Array.from({ length: 8 }, worker))
  t.same(wrong.slice(0, 10), [], `${count} requests: ${JSON.stringify([...seen])}`)
  t.ok((seen.get(200) ?? 0) > 500 && (seen.get(400) ?? 0) > 1_500, 'some are answered, some refused')
  const last = await fetch(`${server.url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(chat) })
  t.equal(last.status, 200, 'and it answers as before')
})
