/**
 * Proves with the unmodified `openai` client against the built server that constrained answers are what they were asked to be: a thousand
 * random JSON Schemas, judged by an independent validator, all within their tokens; regular expressions, choices and grammars;
 * tools forced and named, whole and streamed; and that hostile schemas are refused without harm. ZG_SEED repeats a run.
 */
import OpenAI from 'openai'
import t from 'tap'
import { fault, randomOf, randomSchema } from '../harness/json-schema.ts'
import { SEED } from '../harness/seed.ts'
import { endSoon, startTool } from '../harness/tools.ts'

const SCHEMAS = Number(process.env.SCHEMAS ?? 1_000)
const AT_ONCE = 32
// Small schemas have small answers; a long one proves no more. Where the shortest valid text takes more tokens than there are, an
// answer cannot end, and is asked for again with more room; schemas nested thrice were seen to need 420.
const ROOMS = [112, 400, 1_600]

t.setTimeout(240_000)
const server = await startTool('zg-compute', ['serve', '--port', '0'])
const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
const model = String(server.ready.model)
const messages = [{ role: 'user' as const, content: 'The ship' }]
t.teardown(async () => {
  await server.stop()
  endSoon()
})

t.test(`${SCHEMAS} random schemas, every answer valid`, async t => {
  const random = randomOf(SEED)
  const jobs = Array.from({ length: SCHEMAS }, (_, i) => ({
    rooms: i % 10 === 0 ? ROOMS.slice(1) : ROOMS,
    i,
    schema: randomSchema(random, i % 10 === 0 ? 3 : 2),
    hot: random() < 0.5
  }))
  let valid = 0
  let cut = 0
  let tokens = 0
  const work = async (): Promise<void> => {
    for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
      const { i, rooms, schema, hot } = job
      const ask = (max: number): Promise<OpenAI.Chat.ChatCompletion> =>
        client.chat.completions.create({
          model,
          messages,
          max_tokens: max,
          temperature: hot ? 1.5 : 0.7,
          seed: SEED + i,
          response_format: { type: 'json_schema', json_schema: { name: `s${i}`, schema, strict: true } }
        })
      let answer = await ask(rooms[0]!)
      for (const room of rooms.slice(1)) {
        if (answer.choices[0]!.finish_reason !== 'length') break
        cut++
        answer = await ask(room)
      }
      const choice = answer.choices[0]!
      tokens += answer.usage!.completion_tokens
      const text = choice.message.content ?? ''
      let wrong: string | undefined
      try {
        wrong = choice.finish_reason === 'length' ? 'cut at its limit' : fault(JSON.parse(text), schema)
      } catch (err) {
        wrong = String(err)
      }
      if (wrong === undefined) valid++
      else t.fail(`schema ${i}: ${wrong}`, { schema: JSON.stringify(schema), text })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  t.equal(valid, SCHEMAS)
  t.comment(`${tokens} tokens, ${cut} asked again with more room`)
})

t.test('regular expressions, choices, grammars and free JSON', async t => {
  const ask = async (extra: object, max = 40): Promise<{ text: string; finish: string }> => {
    const answer = await client.chat.completions.create({
      model,
      messages,
      max_tokens: max,
      seed: 5,
      ...extra
    } as never)
    const choice = (answer as OpenAI.Chat.ChatCompletion).choices[0]!
    return { text: choice.message.content!, finish: choice.finish_reason }
  }
  t.match((await ask({ guided_regex: '(sea|land)-\\d{3}' })).text, /^(sea|land)-\d{3}$/)
  t.match((await ask({ structured_outputs: { regex: '[A-Z][a-z]{3,5}' } })).text, /^[A-Z][a-z]{3,5}$/)
  t.ok(['yes', 'no', 'perhaps'].includes((await ask({ guided_choice: ['yes', 'no', 'perhaps'] })).text))
  const grammar = 'root ::= sum\nsum ::= term (op term)*\nterm ::= [1-9] | "(" sum ")"\nop ::= "+" | "*"'
  for (const max of [1, 3, 8, 24]) {
    const { text, finish } = await ask({ grammar, temperature: 1.8 }, max)
    t.match(text, /^[1-9+*()]+$/)
    t.equal(finish, 'stop', `ends within ${max} tokens: ${text}`)
    t.type(new Function(`return ${text}`)(), 'number', 'every bracket is closed')
  }
  const free = await ask({ response_format: { type: 'json_object' }, temperature: 1.2 }, 60)
  t.type(JSON.parse(free.text), 'object')
  const text = await client.completions.create({
    model,
    prompt: 'It was',
    max_tokens: 30,
    guided_json: { type: 'array', items: { type: 'integer' }, minItems: 2, maxItems: 4 }
  } as never)
  const list = JSON.parse((text as OpenAI.Completion).choices[0]!.text)
  t.ok(list.length >= 2 && list.length <= 4 && list.every(Number.isInteger), 'completions take schemas, too')
  const again = await Promise.all(
    [1, 2, 3].map(() => ask({ guided_json: { type: 'string', maxLength: 30 }, temperature: 1 }))
  )
  t.equal(new Set(again.map(a => a.text)).size, 1, 'equal seeds, equal answers, whatever runs beside')
  const streamed = await client.chat.completions.create({
    model,
    messages,
    max_tokens: 40,
    seed: 5,
    stream: true,
    temperature: 1,
    guided_json: { type: 'string', maxLength: 30 }
  } as never)
  let joined = ''
  for await (const chunk of streamed as unknown as AsyncIterable<OpenAI.Chat.ChatCompletionChunk>)
    joined += chunk.choices[0]?.delta.content ?? ''
  t.equal(joined, again[0]!.text, 'streamed is what was not streamed')
})

const tools = [
  {
    type: 'function' as const,
    function: {
      name: 'weather',
      description: 'Tells the weather',
      parameters: {
        type: 'object',
        properties: { city: { type: 'string', maxLength: 8 }, days: { type: 'integer', minimum: 1, maximum: 9 } },
        required: ['city', 'days'],
        additionalProperties: false
      }
    }
  },
  { type: 'function' as const, function: { name: 'stop', parameters: { type: 'object', properties: {} } } }
]

t.test('functions: forced, named, streamed, and their results told', async t => {
  const named = await client.chat.completions.create({
    model,
    messages,
    max_tokens: 80,
    tools,
    tool_choice: { type: 'function', function: { name: 'weather' } },
    seed: 2
  })
  const choice = named.choices[0]!
  t.equal(choice.finish_reason, 'tool_calls')
  t.equal(choice.message.content, null)
  t.equal(choice.message.tool_calls!.length, 1)
  const call = choice.message.tool_calls![0]! as OpenAI.Chat.ChatCompletionMessageFunctionToolCall
  t.match(call.id, /^call_\w+$/)
  t.equal(call.function.name, 'weather')
  t.equal(fault(JSON.parse(call.function.arguments), tools[0]!.function.parameters), undefined)
  const required = await client.chat.completions.create({
    model,
    messages,
    max_tokens: 80,
    tools,
    tool_choice: 'required',
    seed: 3
  })
  t.equal(required.choices[0]!.finish_reason, 'tool_calls')
  const stream = client.chat.completions.stream({
    model,
    messages,
    max_tokens: 80,
    tools,
    tool_choice: { type: 'function', function: { name: 'weather' } },
    seed: 2
  })
  let firsts = 0
  for await (const chunk of stream) {
    for (const piece of chunk.choices[0]?.delta.tool_calls ?? []) {
      if (piece.id === undefined) continue
      firsts++
      t.strictSame(
        [piece.type, piece.function!.name, piece.function!.arguments],
        ['function', 'weather', ''],
        'the first piece has a name and no arguments'
      )
    }
  }
  t.equal(firsts, 1)
  const final = await stream.finalChatCompletion()
  const streamed = final.choices[0]!.message.tool_calls![0]! as OpenAI.Chat.ChatCompletionMessageFunctionToolCall
  t.equal(streamed.function.arguments, call.function.arguments, 'pieces joined are the whole arguments')
  const told = await client.chat.completions.create({
    model,
    max_tokens: 8,
    tools,
    messages: [
      ...messages,
      { role: 'assistant', content: null, tool_calls: [call] },
      { role: 'tool', tool_call_id: call.id, content: 'sunny' }
    ]
  })
  t.type(told.choices[0]!.message.content, 'string', 'the result of a call goes back into the conversation')
  const none = await client.chat.completions.create({ model, messages, max_tokens: 8, tools, tool_choice: 'none' })
  t.equal(none.choices[0]!.message.tool_calls, undefined)
})

t.test('schemas that are bombs, nonsense or out of reach are refused in the API’s words', async t => {
  const deep = (n: number): object => (n === 0 ? {} : { anyOf: [deep(n - 1), deep(n - 1)] })
  const wide = Object.fromEntries(
    Array.from({ length: 3_000 }, (_, i) => [`p${i}`, { type: 'string', maxLength: 4_000 }])
  )
  const bad: [string, object][] = [
    ['refers to itself', { $ref: '#' }],
    ['never ends', { type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }],
    ['alternatives without end', deep(11)],
    ['counts too much', { type: 'object', properties: wide }],
    ['repeats repetitions', { type: 'string', pattern: '((((a{900}){900}){900}){900})' }],
    ['repeats nothing', { type: 'string', pattern: '((){99999}){99999}' }],
    ['looks ahead', { type: 'string', pattern: '(?=a)a' }],
    ['unknown keyword, strict', { type: 'integer', oddOnly: true }],
    ['a number that cannot be left out of all', { not: { enum: [1] } }],
    ['no schema', { type: 'thing' }],
    ['contradicts itself', { allOf: [{ type: 'string' }, { type: 'integer' }] }],
    ['bounds cross', { type: 'integer', minimum: 5, maximum: 4 }],
    ['names outside', { $ref: 'https://example.org/schema' }],
    ['too long', { type: 'string', enum: ['x'.repeat(70_000)] }],
    ['requires what it forbids', { type: 'object', properties: {}, required: ['a'], additionalProperties: false }]
  ]
  for (const [why, schema] of bad) {
    const begun = performance.now()
    const err = await client.chat.completions
      .create({
        model,
        messages,
        max_tokens: 8,
        response_format: { type: 'json_schema', json_schema: { name: 'x', strict: true, schema: schema as never } }
      })
      .then(
        () => undefined,
        e => e as InstanceType<typeof OpenAI.APIError>
      )
    t.equal(err?.status, 400, `${why}: ${err?.message}`)
    t.equal(err?.type, 'invalid_request_error')
    t.comment(`${why}: ${Math.round(performance.now() - begun)} ms`)
  }
  // What restricts values and cannot be kept to is refused, strict or not, with its keyword and place.
  const item = (schema: object): object => ({ type: 'object', properties: { a: { type: 'array', items: schema } } })
  const out: [keyword: string, at: string, schema: object][] = [
    ['contains', '#', { type: 'array', contains: { const: 1 } }],
    ['propertyNames', '#/properties/a/items', item({ type: 'object', propertyNames: { maxLength: 3 } })],
    ['minProperties', '#/properties/a/items', item({ type: 'object', minProperties: 1 })],
    ['dependentRequired', '#', { type: 'object', dependentRequired: { a: ['b'] } }],
    ['unevaluatedProperties', '#', { type: 'object', unevaluatedProperties: false }],
    [
      'uniqueItems',
      '#/properties/a',
      { properties: { a: { type: 'array', items: { type: 'string' }, uniqueItems: true } } }
    ],
    ['uniqueItems', '#', { type: 'array', items: { enum: ['a', 'b', 'a'] }, uniqueItems: true, minItems: 3 }],
    ['oneOf', '#/properties/a/items', item({ oneOf: [{ type: 'string' }, { type: 'string', minLength: 2 }] })],
    ['oneOf', '#', { oneOf: [{ type: 'integer' }, { type: 'number', minimum: 3 }] }],
    ['not', '#', { type: 'string', not: { pattern: '^a' } }],
    ['not', '#/properties/a/items', item({ type: 'object', not: { required: ['x'] } })],
    ['if', '#', { type: 'object', if: { properties: { a: { minimum: 3 } } }, ['then' as string]: { required: ['b'] } }],
    [
      'patternProperties',
      '#',
      { type: 'object', patternProperties: { '^a': { type: 'string' }, b$: { type: 'integer' } } }
    ],
    ['multipleOf', '#', { type: 'number', multipleOf: 0 }]
  ]
  for (const [keyword, at, schema] of out) {
    for (const strict of [true, false]) {
      const err = await client.chat.completions
        .create({
          model,
          messages,
          max_tokens: 8,
          response_format: { type: 'json_schema', json_schema: { name: 'x', strict, schema: schema as never } }
        })
        .then(
          () => undefined,
          e => e as InstanceType<typeof OpenAI.APIError>
        )
      t.equal(err?.status, 400, `${keyword} at ${at}, strict ${strict}`)
      t.ok(err?.message.includes(`'${keyword}' at ${at} `), String(err?.message))
      t.equal(err?.code, 'invalid_schema')
    }
  }
  const loose = await client.chat.completions
    .create({
      model,
      messages,
      max_tokens: 8,
      response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'integer', oddOnly: true } } }
    })
    .withResponse()
  t.equal(loose.response.headers.get('zg-ignored-keywords'), 'oddOnly', 'what is not strict is told what is ignored')
  for (const grammar of [
    'root ::= root "a" | "b"',
    'root ::= missing',
    'a ::= "b"',
    'root ::= "a',
    'root ::= "a"{9,1}'
  ]) {
    const err = await client.chat.completions.create({ model, messages, max_tokens: 8, grammar } as never).then(
      () => undefined,
      e => e as InstanceType<typeof OpenAI.APIError>
    )
    t.equal(err?.status, 400, String(err?.message))
  }
  t.equal((await client.models.list()).data[0]!.id, model, 'the server goes on')
})
