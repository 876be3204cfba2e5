/**
 * Proves that bodies of the OpenAI API become plain records, that wrong ones are refused with the field's name, and that answers
 * and streamed chunks have the API's shapes in the API's order.
 */
import t from 'tap'
import { ApiError, errorBody, parseBody, parseChat, parseCompletion } from '../../lib/infer/openai.ts'
import { ChatChunks, CompletionChunks, chatAnswer, completionAnswer } from '../../lib/infer/openai-answer.ts'

const limits = { maxTokens: 100, vocabularySize: 50 }
const messages = [{ role: 'user', content: 'hi' }]
const head = { id: 'chatcmpl-1', created: 7, model: 'm' }

t.test('a chat request is read whole', async t => {
  const r = parseChat(
    {
      messages: [
        {
          role: 'developer',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' }
          ]
        },
        { role: 'assistant', content: null, tool_calls: [{ id: '1', function: { name: 'f', arguments: '{"x":1}' } }] }
      ],
      ...{
        max_tokens: 5000,
        temperature: 0,
        seed: -1,
        stop: 'x',
        stream: true,
        stream_options: { include_usage: true }
      },
      ...{ logprobs: true, top_logprobs: 3, logit_bias: { 7: -100 }, n: 2, unknown: 1, tools: [] }
    },
    limits
  )
  t.match(r, { n: 2, maxTokens: 100, stop: ['x'], stream: true, includeUsage: true, logprobs: 3, tools: undefined })
  t.same(r.messages[0], { role: 'system', content: 'a\nb' })
  t.match(r.messages[1], { content: '', tool_calls: [{ function: { arguments: { x: 1 } } }] })
  t.equal(r.sampling.seed, 2n ** 64n - 1n)
  t.equal(r.sampling.logitBias?.get(7), -100)
})

t.test('wrong fields are 400 with their name', async t => {
  for (const [param, body] of [
    ['messages', {}],
    ['messages', { messages: [] }],
    ['messages[0].role', { messages: [{ role: 'toString', content: '' }] }],
    ['messages[0].content', { messages: [{ role: 'user', content: 5 }] }],
    ['n', { messages, n: 9 }],
    ['temperature', { messages, temperature: 'hot' }],
    ['max_tokens', { messages, max_tokens: 0 }],
    ['stop', { messages, stop: [''] }],
    ['top_logprobs', { messages, top_logprobs: 1 }],
    ['logit_bias', { messages, logit_bias: { 50: 1 } }],
    ['response_format', { messages, response_format: { type: 'xml' } }]
  ] as const) {
    t.throws(() => parseChat(body, limits), refusal(param), param)
  }
  t.throws(() => parseBody(Buffer.from('[]')), refusal())
  t.throws(() => parseBody(Buffer.from(`{"a":${'['.repeat(70)}${']'.repeat(70)}}`)), refusal())
  t.throws(() => parseCompletion({ prompt: [1, 50] }, limits), refusal('prompt'))
  t.same(parseCompletion({ prompt: [[1], 'x'] }, limits).prompts, [Int32Array.of(1), 'x'])
  const error = errorBody(new ApiError(404, 'no such model', { code: 'model_not_found' }))
  t.same(error.body.error, {
    message: 'no such model',
    type: 'invalid_request_error',
    code: 'model_not_found',
    param: null
  })
  t.same(errorBody(new Error('/secret')).body.error.message, 'internal error')
})

t.test('answers and chunks have the shapes of the API', async t => {
  const usage = { promptTokens: 2, completionTokens: 1 }
  const choice = { index: 0, text: 'x', finish: 'stop' as const }
  t.match(chatAnswer(head, [choice], usage), {
    object: 'chat.completion',
    choices: [{ message: { role: 'assistant', content: 'x' }, finish_reason: 'stop' }],
    usage: { total_tokens: 3 }
  })
  t.match(completionAnswer(head, [choice], usage), {
    object: 'text_completion',
    choices: [{ text: 'x', logprobs: null }]
  })
  const chunks = new ChatChunks(head, true)
  const sent = [chunks.open(0), chunks.text(0, 'x'), chunks.text(0, ''), chunks.close(0, 'length'), chunks.usage(usage)]
  const events = sent.filter(x => x !== '').map(x => JSON.parse(/^data: (.*)\n\n$/.exec(x)![1]!))
  t.same(
    events.map(e => e.choices[0]?.delta),
    [{ role: 'assistant', content: '' }, { content: 'x' }, {}, undefined]
  )
  t.equal(events[2].choices[0].finish_reason, 'length')
  t.equal(events[1].usage, null)
  t.equal(events[3].usage.total_tokens, 3)
  t.equal(new CompletionChunks(head, false).usage(usage), '')
})

/** What a thrown ApiError of status 400 must look like; tap's own type for this knows errors' standard fields only. */
function refusal(param?: string): Error {
  return { status: 400, ...(param === undefined ? {} : { param }) } as unknown as Error
}
