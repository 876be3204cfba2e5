/**
 * Proves with the built server as a child process, and the unmodified `openai` client where it has a word for it: sampling parameters do what
 * their names say and repeat under load, odds of answers and prompts, embeddings, several models within a memory limit, servers behind
 * a server that die, the client verbs `embed` and `bench`, and that every bad request gets one clear error while the server goes on.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import OpenAI from 'openai'
import t from 'tap'
import { entry, floatsOf, TENSOR_TYPES, writeGguf } from '../harness/gguf.ts'
import { endSoon, packageRoot, parseRecords, runTool, startTool, waitFor } from '../harness/tools.ts'

t.setTimeout(240_000)
const TINY = join(packageRoot, 'share', 'models', 'tiny-zg.gguf')
/** The same architecture at less than half the width. */
const SMALL = join(packageRoot, '..', 'shared', 'fixtures', 'models', 'stories260K-Q8_0.gguf')
const skipSmall = existsSync(SMALL) ? false : 'no ../shared/fixtures/models'
const dir = mkdtempSync(join(tmpdir(), 'zg-api-'))
const server = await startTool('zg-compute', ['serve', '--port', '0'])
const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
const model = String(server.ready.model)
const messages = [{ role: 'user' as const, content: 'The ship' }]
t.teardown(async () => {
  await server.stop()
  rmSync(dir, { recursive: true, force: true })
  endSoon()
})

interface Answered {
  status: number
  body: Record<string, any>
  headers: Headers
}

async function post(path: string, body: unknown, base = server.url): Promise<Answered> {
  const raw = typeof body === 'string' || body instanceof Uint8Array
  const res = await fetch(`${base}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: raw ? body : JSON.stringify(body)
  })
  return { status: res.status, body: (await res.json()) as Record<string, any>, headers: res.headers }
}

const complete = async (extra: object): Promise<OpenAI.Completion> =>
  (await client.completions.create({
    model,
    prompt: 'It was a dark',
    max_tokens: 12,
    seed: 7,
    ...extra
  } as never)) as OpenAI.Completion
const textOf = async (extra: object): Promise<string> => (await complete(extra)).choices[0]!.text

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN)
}

t.test('sampling', async t => {
  const greedy = await textOf({ temperature: 0 })
  for (const same of [{ top_k: 1 }, { top_p: 0 }, { min_p: 1 }]) {
    t.equal(await textOf({ temperature: 1.9, ...same }), greedy, `${JSON.stringify(same)} leaves the likeliest token`)
  }
  const hot = {
    temperature: 1.5,
    top_k: 50,
    top_p: 0.95,
    min_p: 0.01,
    typical_p: 0.9,
    repetition_penalty: 1.1,
    presence_penalty: 0.3,
    frequency_penalty: 0.2
  }
  const alone = await textOf(hot)
  const beside = await Promise.all(
    Array.from({ length: 12 }, (_, i) => textOf({ ...hot, seed: i === 5 ? 7 : 100 + i }))
  )
  t.equal(beside[5], alone, 'the same seed gives the same answer among eleven others')
  t.ok(new Set(beside).size > 6, 'other seeds give others')
  t.not(await textOf({ ...hot, typical_p: 0.05 }), alone, 'typical_p has its say')
  const [first] = (await post('/tokenize', { content: ' the' })).body.tokens
  const banned = await complete({ temperature: 0, max_tokens: 40, logit_bias: { [first]: -100 } })
  t.notMatch(banned.choices[0]!.text, / the /)
  t.match(await textOf({ temperature: 0, max_tokens: 4, logit_bias: { [first]: 100 } }), /^( the){4}$/)
  const n = await client.chat.completions.create({ model, messages, n: 4, max_tokens: 8, seed: 3, temperature: 1.3 })
  t.strictSame(
    n.choices.map(c => c.index),
    [0, 1, 2, 3]
  )
  t.ok(new Set(n.choices.map(c => c.message.content)).size > 1, 'choices differ')
  const again = await client.chat.completions.create({
    model,
    messages,
    n: 4,
    max_tokens: 8,
    seed: 3,
    temperature: 1.3
  })
  t.strictSame(again.choices, n.choices, 'and repeat')
  const best = await complete({ best_of: 6, n: 2, temperature: 1.4, logprobs: 0 })
  const odds = best.choices.map(
    c => c.logprobs!.token_logprobs!.reduce((a, b) => a + b, 0) / c.logprobs!.token_logprobs!.length
  )
  t.equal(best.choices.length, 2)
  t.ok(odds[0]! >= odds[1]!, 'the best of six, the better first')
  t.ok(best.usage!.completion_tokens > 24, 'all that was made is counted')
  const whole = await textOf({ temperature: 0, max_tokens: 40 })
  const stop = whole.slice(12, 17)
  const stopped = await complete({ temperature: 0, max_tokens: 40, stop: ['never there', stop] })
  t.equal(stopped.choices[0]!.text, whole.slice(0, whole.indexOf(stop)), 'ends before the stop string, across tokens')
  t.equal((stopped.choices[0] as { stop_reason?: string }).stop_reason, stop)
  t.equal(
    await textOf({ temperature: 0, max_tokens: 40, stop, include_stop_str_in_output: true }),
    whole.slice(0, whole.indexOf(stop) + stop.length)
  )
  const ids = (await post('/tokenize', { content: whole })).body.tokens as number[]
  const byId = await complete({ temperature: 0, max_tokens: 40, stop_token_ids: [ids[3]] })
  t.ok(byId.choices[0]!.text.length < whole.length, 'ends at an id')
  t.equal((await post('/detokenize', { tokens: ids })).body.content, whole)
})

t.test('odds of answers and of prompts', async t => {
  const chat = await client.chat.completions.create({
    model,
    messages,
    max_tokens: 6,
    logprobs: true,
    top_logprobs: 3,
    temperature: 0
  })
  const content = chat.choices[0]!.logprobs!.content!
  t.equal(content.length, 6)
  for (const one of content) {
    t.equal(one.top_logprobs.length, 3)
    t.equal(one.top_logprobs[0]!.logprob, one.logprob, 'greedy takes the first')
    t.equal(Buffer.from(one.bytes!).toString(), one.token)
  }
  const echo = await complete({ echo: true, logprobs: 2, max_tokens: 3, temperature: 0 })
  const { tokens, token_logprobs: odds, text_offset: offsets } = echo.choices[0]!.logprobs!
  t.equal(tokens!.slice(1).join(''), echo.choices[0]!.text, 'prompt and answer, token by token')
  t.equal(odds![0], null, 'nothing predicted the first token')
  t.ok(odds!.slice(1).every(x => typeof x === 'number' && x <= 0))
  t.strictSame(
    offsets!.slice(1).map((at, i) => echo.choices[0]!.text.slice(at, at + tokens![i + 1]!.length)),
    tokens!.slice(1)
  )
  const only = await complete({ echo: true, logprobs: 0, max_tokens: 0, prompt: 'It was a dark night' })
  t.equal(only.choices[0]!.text, 'It was a dark night')
  t.equal(only.usage!.completion_tokens, 0)
  // The odds of a text as a prompt are those with which it would be drawn.
  const drawn = await complete({ prompt: 'It was a', logprobs: 0, max_tokens: 4, temperature: 0 })
  const scored = await complete({ prompt: `It was a${drawn.choices[0]!.text}`, logprobs: 0, max_tokens: 0, echo: true })
  t.strictSame(scored.choices[0]!.logprobs!.token_logprobs!.slice(-4), drawn.choices[0]!.logprobs!.token_logprobs)
})

t.test('embeddings', async t => {
  const { data, usage } = await client.embeddings.create({
    model,
    input: ['a ship at sea', 'a ship at sea', 'the law of the land']
  })
  t.ok(usage.prompt_tokens > 6)
  const [a, b, c] = data.map(d => d.embedding) as [number[], number[], number[]]
  const dot = (x: number[], y: number[]): number => x.reduce((sum, v, i) => sum + v * y[i]!, 0)
  t.ok(Math.abs(dot(a, a) - 1) < 1e-5, 'of length 1')
  t.strictSame(a, b, 'equal texts, equal bits')
  t.ok(dot(a, c) < 0.999, 'others differ')
  const floats = await client.embeddings.create({ model, input: 'a ship at sea', encoding_format: 'float' })
  t.strictSame(
    floats.data[0]!.embedding.map(Math.fround),
    a.map(Math.fround),
    'the client reads base64 as the same floats'
  )
  const cut = await client.embeddings.create({ model, input: 'a ship at sea', dimensions: 8 })
  t.equal(cut.data[0]!.embedding.length, 8)
  const piped = await runTool('zg-compute', ['embed', '--url', `${server.url}/v1`, '--json'], {
    input: 'a ship at sea\nthe law of the land\n'
  })
  t.equal(piped.code, 0, piped.stderr)
  const records = parseRecords(piped.stdout).filter(r => r.type === 'embedding')
  t.strictSame(
    records.map(r => r.text),
    ['a ship at sea', 'the law of the land']
  )
  t.strictSame((records[0]!.embedding as number[]).map(Math.fround), a.map(Math.fround))
})

t.test('every bad request: one clear error, and the server goes on', async t => {
  const chat = '/v1/chat/completions'
  const text = '/v1/completions'
  const m = [{ role: 'user', content: 'x' }]
  const bad: [string, string, unknown, number, string?][] = [
    [
      'beyond the context',
      chat,
      { messages: [{ role: 'user', content: 'word '.repeat(5_000) }] },
      400,
      'context_length_exceeded'
    ],
    ['unknown model', chat, { model: 'no-such', messages: m }, 404, 'model_not_found'],
    ['no messages', chat, {}, 400],
    ['messages of a wrong type', chat, { messages: 'x' }, 400],
    ['a role that is none', chat, { messages: [{ role: 'king', content: 'x' }] }, 400],
    [
      'an image',
      chat,
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] },
      400,
      'unsupported'
    ],
    ['negative tokens', chat, { messages: m, max_tokens: -1 }, 400],
    ['half a token', chat, { messages: m, max_tokens: 1.5 }, 400],
    ['huge temperature', chat, { messages: m, temperature: 1e300 }, 400],
    ['temperature in words', chat, { messages: m, temperature: 'hot' }, 400],
    ['a number JSON cannot hold', chat, '{"messages":[{"role":"user","content":"x"}],"temperature":1e999}', 400],
    ['negative n', chat, { messages: m, n: -3 }, 400],
    ['a million choices', chat, { messages: m, n: 1e6 }, 400],
    ['seed beyond integers', chat, { messages: m, seed: 1e30 }, 400],
    ['100,000 stop strings', chat, { messages: m, stop: Array(100_000).fill('x') }, 400],
    ['an empty stop string', chat, { messages: m, stop: [''] }, 400],
    ['a stop string of a megabyte', chat, { messages: m, stop: 'x'.repeat(1 << 20) }, 400],
    ['bias for nobody', chat, { messages: m, logit_bias: { 999999: 1 } }, 400],
    ['bias of infinity', chat, { messages: m, logit_bias: { 1: 1e10 } }, 400],
    ['top_logprobs alone', chat, { messages: m, top_logprobs: 3 }, 400],
    ['too many top_logprobs', chat, { messages: m, logprobs: true, top_logprobs: 21 }, 400],
    ['two formats at once', chat, { messages: m, response_format: { type: 'json_object' }, guided_regex: 'a' }, 400],
    ['a format that is none', chat, { messages: m, response_format: { type: 'yaml' } }, 400, 'unsupported'],
    [
      'no schema',
      chat,
      { messages: m, response_format: { type: 'json_schema', json_schema: { name: 'x', schema: [] } } },
      400
    ],
    ['a call of nothing', chat, { messages: m, tool_choice: 'required' }, 400],
    [
      'a call of a stranger',
      chat,
      {
        messages: m,
        tools: [{ type: 'function', function: { name: 'a' } }],
        tool_choice: { type: 'function', function: { name: 'b' } }
      },
      400
    ],
    ['a tool without a name', chat, { messages: m, tools: [{ type: 'function', function: {} }] }, 400],
    ['template fields of the house', chat, { messages: m, chat_template_kwargs: { messages: [] } }, 400],
    ['nothing to go on with', chat, { messages: m, continue_final_message: true }, 400],
    ['an empty prompt list', text, { prompt: [] }, 400],
    ['ids that are none', text, { prompt: [-1] }, 400],
    ['a best that is fewer', text, { prompt: 'x', n: 3, best_of: 2 }, 400],
    ['a best that streams', text, { prompt: 'x', n: 1, best_of: 2, stream: true }, 400],
    ['no tokens without echo', text, { prompt: 'x', max_tokens: 0 }, 400],
    ['a suffix', text, { prompt: 'x', suffix: 'y' }, 400, 'unsupported'],
    ['no JSON', chat, '{"messages":', 400, 'invalid_json'],
    ['no object', chat, '[]', 400, 'invalid_json'],
    [
      'no UTF-8',
      chat,
      Buffer.concat([
        Buffer.from('{"messages":[{"role":"user","content":"'),
        Buffer.from([0xff, 0xc0, 0x80]),
        Buffer.from('"}]}')
      ]),
      400,
      'invalid_json'
    ],
    ['a deep nest', chat, `{"messages":${'['.repeat(5_000)}${']'.repeat(5_000)}}`, 400],
    ['embedding nothing', '/v1/embeddings', { input: [] }, 400],
    ['embedding an empty text in a list', '/v1/embeddings', { input: ['x', 5] }, 400],
    ['too many dimensions', '/v1/embeddings', { input: 'x', dimensions: 1e6 }, 400],
    [
      'embedding beyond the context',
      '/v1/embeddings',
      { input: 'word '.repeat(5_000) },
      400,
      'context_length_exceeded'
    ],
    ['tokens of a stranger', '/detokenize', { tokens: [1e9] }, 400],
    ['a path that is none', '/v1/images', {}, 404]
  ]
  for (const [why, path, body, status, code] of bad) {
    const answer = await post(path, body)
    const { error } = answer.body
    t.equal(answer.status, status, `${why}: ${error?.message}`)
    t.ok(
      typeof error?.message === 'string' &&
        error.message.length > 5 &&
        typeof error.type === 'string' &&
        'param' in error &&
        'code' in error,
      'in the API’s form'
    )
    t.ok(error.message.length < 500 && !/\bat .*:\d+:\d+/.test(error.message), 'short, and no stack')
    if (code !== undefined) t.equal(error.code, code)
  }
  t.equal((await fetch(`${server.url}/v1/completions`)).status, 405)
  t.ok((await textOf({})).length > 0)
})

t.test('clients that leave or do not read', async t => {
  const idle = async (): Promise<boolean> =>
    (await metric('zg_compute_engine_running')) === 0 && (await metric('zg_compute_engine_pages_used')) === 0
  const begin = async (): Promise<AbortController> => {
    const stop = new AbortController()
    const res = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ prompt: 'x', max_tokens: 480, ignore_eos: true, stream: true, n: 4 }),
      signal: stop.signal
    })
    await res.body!.getReader().read()
    return stop
  }
  for (let round = 0; round < 10; round++)
    for (const stop of await Promise.all([begin(), begin(), begin()])) stop.abort()
  await waitFor(idle, { timeoutMs: 20_000, everyMs: 50, what: 'the engine to be idle, all pages free' })
  t.pass('thirty streams broken off leave nothing')
  // Reads nothing: what was made waits in the socket and goes with it.
  const body = JSON.stringify({ prompt: 'x', max_tokens: 400, ignore_eos: true, stream: true, n: 8 })
  const sockets = Array.from({ length: 5 }, () => {
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
    socket.pause()
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
    )
    return socket
  })
  t.ok((await textOf({})).length > 0, 'others are answered meanwhile')
  for (const socket of sockets) socket.destroy()
  await waitFor(idle, { timeoutMs: 20_000, everyMs: 50, what: 'the engine to be idle again' })
  t.ok((await metric('zg_compute_between_tokens_seconds_count')) > 100, 'times between tokens are counted')
  t.ok((await metric('zg_compute_first_token_seconds_count')) > 10)
  const health = (await (await fetch(`${server.url}/health`)).json()) as { status: string }
  t.equal(health.status, 'ready')
})

t.test(
  'adapters are the first model’s: a model of another shape is opened without them',
  { skip: skipSmall },
  async t => {
    const width = 256
    const ones = floatsOf(new Float32Array(width).fill(0.05))
    const adapter = join(dir, 'adapter.gguf')
    const type = TENSOR_TYPES.F32!
    writeFileSync(
      adapter,
      writeGguf({
        entries: [
          entry('general.architecture', 'text', 'llama'),
          entry('general.type', 'text', 'adapter'),
          entry('adapter.type', 'text', 'lora'),
          entry('adapter.lora.alpha', 'f32', 64)
        ],
        tensors: ['lora_a', 'lora_b'].map(part => ({
          name: `blk.0.attn_output.weight.${part}`,
          dims: [part === 'lora_a' ? width : 1, part === 'lora_a' ? 1 : width],
          type,
          data: ones
        }))
      })
    )
    const args = ['serve', '--port', '0', '--model', `big=${TINY}`, '--model', `small=${SMALL}`]
    const served = await startTool('zg-compute', [...args, '--lora-modules', `style=${adapter}`])
    const ask = async (name: string): Promise<string> => {
      const prompt = { model: name, prompt: 'The ship', max_tokens: 6, temperature: 0 }
      const { status, body } = await post('/v1/completions', prompt, served.url)
      t.equal(status, 200, `${name}: ${JSON.stringify(body).slice(0, 200)}`)
      return body.choices[0].text
    }
    try {
      const plain = await ask('big')
      t.not(await ask('style'), plain, 'the adapter does something')
      await ask('small')
      t.equal(await ask('big'), plain)
    } finally {
      await served.stop()
    }
  }
)

t.test('several models within a memory limit, opened on demand', async t => {
  for (const name of ['b', 'c']) copyFileSync(TINY, join(dir, `${name}.gguf`))
  const args = [
    'serve',
    '--port',
    '0',
    '--cache',
    '8MiB',
    '--models-memory',
    '20MiB',
    '--model',
    `first=${TINY}`,
    '--model',
    join(dir, 'b.gguf'),
    '--model',
    `third=${join(dir, 'c.gguf')}`
  ]
  const several = await startTool('zg-compute', args)
  const ask = (name: string): Promise<Answered> =>
    post('/v1/completions', { model: name, prompt: 'The ship', max_tokens: 4, temperature: 0 }, several.url)
  try {
    const { data } = (await (await fetch(`${several.url}/v1/models`)).json()) as { data: { id: string }[] }
    t.strictSame(
      data.map(m => m.id),
      [model, 'b', 'third']
    )
    const texts = []
    for (const name of ['first', 'b', 'third', 'b', 'third', model]) {
      const { status, body } = await ask(name)
      t.equal(status, 200, JSON.stringify(body).slice(0, 200))
      texts.push(body.choices[0].text)
    }
    t.equal(new Set(texts).size, 1)
    const both = await Promise.all(['b', 'third', 'b', 'third', 'third', 'b'].map(ask))
    t.ok(
      both.every(r => r.status === 200),
      'in turn, when there is room for one of them only'
    )
    const metrics = await (await fetch(`${several.url}/metrics`)).text()
    t.match(metrics, /^zg_compute_models_open 1$/m, 'one of the two is open')
    t.equal((await ask('fourth')).status, 404)
    rmSync(join(dir, 'b.gguf'))
    await ask('third')
    t.equal((await ask('b')).status, 503, 'a file that is gone')
    t.equal((await ask('third')).status, 200)
  } finally {
    await several.stop()
  }
})

t.test('servers behind a server', async t => {
  const behind = await Promise.all([1, 2].map(() => startTool('zg-compute', ['serve', '--port', '0'])))
  const front = await startTool('zg-compute', [
    'serve',
    '--port',
    '0',
    ...behind.flatMap((b, i) => ['--upstream', i === 0 ? `${b.url}/v1` : b.url])
  ])
  try {
    const through = new OpenAI({ baseURL: `${front.url}/v1`, apiKey: 'none', maxRetries: 0 })
    t.equal((await through.models.list()).data[0]!.id, model)
    const direct = await client.chat.completions.create({ model, messages, max_tokens: 8, seed: 4 })
    const passed = await through.chat.completions.create({ model, messages, max_tokens: 8, seed: 4 })
    t.equal(passed.choices[0]!.message.content, direct.choices[0]!.message.content)
    let streamed = ''
    for await (const chunk of await through.chat.completions.create({
      model,
      messages,
      max_tokens: 8,
      seed: 4,
      stream: true
    }))
      streamed += chunk.choices[0]?.delta.content ?? ''
    t.equal(streamed, direct.choices[0]!.message.content)
    t.equal((await through.embeddings.create({ model, input: 'a ship' })).data.length, 1)
    const refused = await through.chat.completions.create({ model, messages: [] }).catch(e => e)
    t.equal(refused.status, 400, 'a refusal is passed on as it is')
    t.equal((await through.chat.completions.create({ model: 'none', messages }).catch(e => e)).status, 404)
    t.equal(
      (await post('/v1/completions', { prompt: 'x', max_tokens: 2 }, front.url)).status,
      200,
      'without a model: the first'
    )
    await Promise.all(
      Array.from({ length: 12 }, (_, i) => through.completions.create({ model, prompt: `x${i}`, max_tokens: 20 }))
    )
    for (const b of behind)
      t.match(
        await (await fetch(`${b.url}/metrics`)).text(),
        /zg_compute_completion_tokens_total [1-9]/,
        'both have their share'
      )
    await behind[0]!.kill9()
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => through.completions.create({ model, prompt: 'x', max_tokens: 2 }))
    )
    t.equal(answers.length, 6, 'when one dies the other answers for it')
    await behind[1]!.kill9()
    const err = await through.completions.create({ model, prompt: 'x', max_tokens: 2 }).catch(e => e)
    t.equal(err.status, 503)
  } finally {
    await front.stop()
  }
})

t.test('bench measures a server from outside', async t => {
  const run = await runTool('zg-compute', [
    'bench',
    '--url',
    `${server.url}/v1`,
    '--parallel',
    '1,4',
    '--requests',
    '4',
    '--max-tokens',
    '16',
    '--prompt-tokens',
    '32',
    '--json'
  ])
  t.equal(run.code, 0, run.stderr)
  const records = parseRecords(run.stdout).filter(r => r.type === 'bench')
  t.strictSame(
    records.map(r => r.parallel),
    [1, 4]
  )
  for (const r of records) {
    t.equal(r.requests, 4)
    t.equal(r.failed, 0)
    t.equal(r.completion_tokens, 64)
    t.ok(Math.abs((r.prompt_tokens as number) / 4 - 32) <= 16, 'prompts about as long as asked')
    t.ok((r.first_p50_seconds as number) > 0 && (r.next_p99_seconds as number) >= (r.next_p50_seconds as number))
  }
  const nobody = await runTool('zg-compute', ['bench', '--url', 'http://127.0.0.1:9/v1'])
  t.equal(nobody.code, 69)
  const curl = spawnSync(
    'curl',
    ['-sN', `${server.url}/v1/completions`, '-d', '{"prompt":"x","max_tokens":3,"stream":true}'],
    { encoding: 'utf8' }
  )
  if (curl.error === undefined) t.match(curl.stdout, /^data: \{[\s\S]*data: \[DONE\]\n\n$/, 'curl -N reads the stream')
})
