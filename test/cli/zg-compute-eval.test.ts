/**
 * Proves `zg-compute eval --jsonl` from outside: every section of the model fixtures' vectors asked line by line on each path of the CPU,
 * within their tolerances; the reference engine in TypeScript, a second implementation from the file to the running hash, gives the same bits
 * for all models; hostile lines are answered with an error that says what is wrong, and the next line is read all the same.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { inferAddon } from '../../lib/infer/native.ts'
import { nativePath } from '../../lib/native.ts'
import { packageRoot, runTool, sandbox } from '../harness/tools.ts'

const skip = existsSync(nativePath('infer')) ? false : 'no native build here'
const FIXTURES = ['..', '../..'].map(up => join(packageRoot, up, 'shared', 'fixtures', 'models')).find(existsSync)
const noFixtures = skip !== false ? skip : FIXTURES === undefined ? 'no model fixtures beside the repository' : false
const TINY = join(packageRoot, 'share', 'models', 'tiny-zg.gguf')
const box = sandbox('eval')
t.setTimeout(240_000)
t.teardown(() => box.remove())

interface Vectors {
  blocks: { type: string; hex: string; values: number[] }[]
  tokenization: { model: string; text: string; special: boolean; tokens: number[]; back?: string | null }[]
  greedy: { model: string; promptTokens: number[]; tokens: number[]; margins: number[] }[]
  logits: { model: string; tokens: number[]; spread: number; top: [number, number][] }[]
  chat: {
    model: string
    messages: unknown[]
    add_generation_prompt: boolean
    tools?: unknown[]
    text?: string
    tokens?: number[]
  }[]
  agreement: Record<string, { worst: number; typical: number }>
}
const vectors: Vectors = noFixtures === false ? JSON.parse(readFileSync(join(FIXTURES!, 'vectors.json'), 'utf8')) : {}

type Answer = Record<string, unknown> & { id: unknown; error?: string }

/** Answers in the order of the requests, whose ids are their places. */
async function ask(requests: object[], options: { cpu?: string; args?: string[] } = {}): Promise<Answer[]> {
  const r = await runTool('zg-compute', ['eval', '--jsonl', ...(options.args ?? [])], {
    env: { ...box.env, ...(options.cpu === undefined ? {} : { ZG_CPU: options.cpu }) },
    timeoutMs: 120_000,
    input: requests.map((request, id) => `${JSON.stringify({ id, ...request })}\n`).join('')
  })
  if (r.code !== 0) throw new Error(`eval ended with ${r.code}: ${r.stderr}`)
  const answers = r.stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Answer)
  return requests.map((_, id) => answers.find(a => a.id === id)!)
}

/** By model, so that none is opened twice. */
const byModel = <T extends { model: string }>(list: T[]): T[] => [...list].sort((a, b) => (a.model < b.model ? -1 : 1))
const at = (model: string): string => join(FIXTURES!, model)

t.test('blocks, tokens and chats are those of the vectors, by both engines', { skip: noFixtures }, async t => {
  const tokenization = byModel(vectors.tokenization)
  const chats = byModel(vectors.chat)
  const requests = [
    ...vectors.blocks.map(b => ({ op: 'dequantize', type: b.type, hex: b.hex })),
    ...tokenization.map(v => ({ op: 'tokenize', model: at(v.model), text: v.text, special: v.special })),
    ...tokenization.map(v => ({ op: 'detokenize', model: at(v.model), tokens: v.tokens })),
    ...chats.map(c => ({ ...c, text: undefined, tokens: undefined, error: undefined, op: 'chat', model: at(c.model) }))
  ]
  const native = await ask(requests)
  const reference = await ask(requests, { args: ['--engine', 'reference'] })
  t.strictSame(
    reference.map(({ error, ...rest }) => ({ ...rest, failed: error !== undefined })),
    native.map(({ error, ...rest }) => ({ ...rest, failed: error !== undefined })),
    'the reference answers the same'
  )
  const [a, b, c] = [vectors.blocks.length, tokenization.length, tokenization.length]
  for (const [i, v] of vectors.blocks.entries()) t.strictSame(native[i]!.values, v.values.map(Math.fround), v.type)
  for (const [i, v] of tokenization.entries()) {
    t.strictSame(native[a + i]!.tokens, v.tokens, `${v.model} ${JSON.stringify(v.text)}`)
    // Two of them were cleaned of a space by the engine that made them.
    const cleaned = v.text.includes(' ??') ? v.text : v.back
    if (v.back !== undefined && v.back !== null) t.equal(native[a + b + i]!.text, cleaned)
  }
  for (const [i, v] of chats.entries()) {
    const answer = native[a + b + c + i]!
    if (v.text === undefined) t.match(answer.error, /template refuses/)
    else t.strictSame([answer.text, answer.tokens], [v.text, v.tokens], v.model)
  }
})

t.test('logits and choices lie within the tolerances on every path of the CPU', { skip: noFixtures }, async t => {
  const logits = byModel(vectors.logits)
  const greedy = byModel(vectors.greedy)
  const requests = [
    ...logits.map(l => ({ op: 'logits', model: at(l.model), tokens: l.tokens, ids: l.top.map(([id]) => id) })),
    ...greedy.map(g => ({ op: 'force', model: at(g.model), tokens: g.promptTokens, follow: g.tokens }))
  ]
  const paths = inferAddon().info().paths
  const first = await ask(requests, { cpu: paths.at(-1)! })
  for (const cpu of paths.slice(0, -1)) {
    // The scalar path takes fifteen times as long.
    const some = requests.map((r, i) => ({ r, i })).filter(({ i }) => cpu !== 'generic' || i % 4 === 1)
    const answers = await ask(
      some.map(({ r }) => r),
      { cpu }
    )
    const told = ({ id: _, ...rest }: Answer): object => rest
    t.strictSame(
      answers.map(told),
      some.map(({ i }) => told(first[i]!)),
      `${cpu} answers as the widest path`
    )
  }
  for (const model of Object.keys(vectors.agreement)) {
    const floats = !/[qQ]\d_|-mix|mxfp4/.test(model)
    const agreement = vectors.agreement[model]!
    const errors = logits.flatMap((l, i) => {
      if (l.model !== model) return []
      const top = first[i]!.top as [number, number][]
      t.strictSame(
        top.map(([id]) => id),
        l.top.map(([id]) => id)
      )
      return [Math.max(...top.map(([, value], j) => Math.abs(value - l.top[j]![1]) / l.spread))]
    })
    const worst = Math.max(...errors)
    const typical = errors.reduce((x, y) => x + y) / errors.length
    // The cache holds halves.
    const tolerance = floats ? 4e-3 : 1.25 * agreement.worst
    if (model.includes('mxfp4')) t.ok(typical <= 0.1, `${model}: ${typical} typical`)
    else t.ok(worst > 0 && worst <= tolerance, `${model}: ${worst}, ${tolerance} allowed`)
    if (model.includes('mxfp4')) continue
    const spread = Math.max(...logits.filter(l => l.model === model).map(l => l.spread))
    let compared = 0
    for (const [i, g] of greedy.entries()) {
      if (g.model !== model) continue
      const argmax = first[logits.length + i]!.argmax as number[]
      t.equal(argmax.length, g.tokens.length)
      for (const [j, id] of g.tokens.entries()) {
        if (g.margins[j]! <= 2 * tolerance * spread) continue
        compared++
        if (argmax[j] !== id) t.fail(`${model}: step ${j} of ${JSON.stringify(g.promptTokens)}`)
      }
    }
    t.ok(compared > (floats ? 100 : 5), `${model}: ${compared} choices`)
  }
})

t.test('the reference in TypeScript gives the same bits for all models', { skip: noFixtures }, async t => {
  const models = Object.keys(vectors.agreement)
  const requests = models.flatMap(model => {
    const [g] = vectors.greedy.filter(x => x.model === model)
    const odd = g!.tokens.slice(0, 24).map((id, i) => (i % 5 === 3 ? (id * 7) % 500 : id))
    const common = { model: at(model), tokens: g!.promptTokens }
    return [
      { op: 'logits', ...common, ids: Array.from({ length: 500 }, (_, id) => id) },
      { op: 'trace', ...common, follow: odd },
      { op: 'force', ...common, follow: odd.slice(0, 8) },
      { op: 'greedy', ...common, count: 8 }
    ]
  })
  const native = await ask(requests)
  const reference = await ask(requests, { args: ['--engine', 'reference'] })
  t.strictSame(reference, native)
  t.equal(native.filter(a => /^0x[0-9a-f]{64}$/.test(String(a.digest))).length, models.length)
  t.notOk(native.some(a => a.error !== undefined))
  for (const cpu of inferAddon().info().paths) {
    const traces = requests.map((r, i) => ({ r, i })).filter(({ r }) => r.op === 'trace')
    const answers = await ask(
      traces.map(({ r }) => r),
      { cpu }
    )
    t.strictSame(
      answers.map(a => a.digest),
      traces.map(({ i }) => native[i]!.digest),
      `traces on ${cpu}`
    )
  }
})

t.test('hostile lines are answered one by one', { skip }, async t => {
  const lines: [line: string, error: RegExp][] = [
    ['{', /JSON/],
    ['[]', /no JSON object/],
    ['null', /no JSON object/],
    ['{"id":1}', /'op' must be/],
    ['{"id":1,"op":"dequantize","type":"Q4_0","hex":"00"}', /1 bytes are not whole blocks of 18/],
    ['{"id":1,"op":"dequantize","type":"Q9","hex":"00"}', /'Q9' is not one of/],
    ['{"id":1,"op":"dequantize","type":"F32","hex":"0g"}', /'hex' must be/],
    ['{"id":1,"op":"tokenize","text":"a"}', /'model' must be/],
    ['{"id":1,"op":"tokenize","model":"/nowhere.gguf","text":"a"}', /nowhere/],
    [`{"id":1,"op":"logits","model":"${TINY}","tokens":[],"ids":[1]}`, /'tokens' must be a list of 1 to/],
    [`{"id":1,"op":"logits","model":"${TINY}","tokens":[1],"ids":[99999]}`, /token 99999 is not one/],
    [`{"id":1,"op":"logits","model":"${TINY}","tokens":[99999],"ids":[1]}`, /token 99999 is not one/],
    [`{"id":1,"op":"force","model":"${TINY}","tokens":[1],"follow":[-1]}`, /'follow' must be/],
    [`{"id":1,"op":"greedy","model":"${TINY}","tokens":[1],"count":1e6}`, /tokens, the context has/],
    [`{"id":1,"op":"greedy","model":"${join(packageRoot, 'package.json')}","tokens":[1],"count":1}`, /package.json/],
    [`{"id":1,"op":"chat","model":"${TINY}","messages":"hi"}`, /'messages' must be/]
  ]
  const good = `{"id":"last","op":"greedy","model":"${TINY}","tokens":[5,6],"count":3}`
  for (const args of [[], ['--engine', 'reference']]) {
    const input = `${lines.map(([line]) => line).join('\r\n')}\n\n${good}`
    const r = await runTool('zg-compute', ['eval', '--jsonl', ...args], { env: box.env, input })
    t.equal(r.code, 0, r.stderr)
    const answers = r.stdout.trim().split('\n')
    t.equal(answers.length, lines.length + 1)
    for (const [i, [line, error]] of lines.entries()) t.match(JSON.parse(answers[i]!).error, error, line)
    const last = JSON.parse(answers.at(-1)!)
    t.equal(last.id, 'last')
    t.equal(last.tokens.length, 3)
  }
  const plain = await runTool('zg-compute', ['eval'], { env: box.env, input: '' })
  t.equal(plain.code, 64)
  t.match(plain.stderr, /add '--jsonl'/)
})
