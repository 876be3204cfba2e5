/**
 * Proves that `zg-compute verify` computes a served answer again, on every path of the CPU, and names the first step that differs when a
 * token, a state, a hash, a parameter, the seed, the end, the prompt or the model was changed; and that the trace goes to who asked for it.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { toHex } from '../../lib/base/hex.ts'
import {
  canonicalParams,
  floatText,
  makeTranscript,
  merkleRoot,
  readTranscript,
  type Transcript,
  traceStart
} from '../../lib/codec/compute/trace.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { openEngine } from '../../lib/infer/engine.ts'
import { inferAddon } from '../../lib/infer/native.ts'
import { nativePath } from '../../lib/native.ts'
import { packageRoot, runTool, sandbox, startTool } from '../harness/tools.ts'

const skip = existsSync(nativePath('infer')) ? false : 'no native build here'
const FIXTURES = ['..', '../..'].map(up => join(packageRoot, up, 'shared', 'fixtures', 'models')).find(existsSync)
const noFixtures = skip !== false ? skip : FIXTURES === undefined ? 'no model fixtures beside the repository' : false
const VECTOR = join(packageRoot, 'test', 'vectors', 'trace.json')
const TINY = join(packageRoot, 'share', 'models', 'tiny-zg.gguf')
const box = sandbox('verify')
t.setTimeout(240_000)
t.teardown(() => box.remove())

interface Verdict {
  ok: boolean
  what: string | null
  step: number | null
}

async function verify(transcript: unknown, args: string[] = [], env: Record<string, string> = {}) {
  const r = await runTool('zg-compute', ['verify', '-', '--json', ...args], {
    env: { ...box.env, ...env },
    input: JSON.stringify(transcript)
  })
  const lines = r.stdout.trim().split('\n').filter(Boolean)
  return { code: r.code, stderr: r.stderr, verdicts: lines.map(l => JSON.parse(l) as Verdict) }
}

t.test('trees, numbers and parameters as they are written down', async t => {
  const leaf = (text: string): Uint8Array => keccak256(Buffer.from(`\0${text}`))
  const inner = (a: Uint8Array, b: Uint8Array): Uint8Array => keccak256(Uint8Array.of(1), a, b)
  const [a, b, c] = ['a', 'b', 'c'].map(x => Buffer.from(x)) as [Buffer, Buffer, Buffer]
  t.same(merkleRoot([]), new Uint8Array(32))
  t.same(merkleRoot([a]), leaf('a'))
  t.same(merkleRoot([a, b]), inner(leaf('a'), leaf('b')))
  t.same(merkleRoot([a, b, c]), inner(inner(leaf('a'), leaf('b')), leaf('c')), 'an odd one is carried up')
  const texts = [0, 0.7, 1, 0.1, 1e-10, 100, 1 / 3, 0.95].map(floatText)
  t.strictSame(texts, ['0', '0.7', '1', '0.1', '1e-10', '100', '0.33333334', '0.95'])
  const names = Object.keys(JSON.parse(canonicalParams(readTranscript(readFileSync(VECTOR, 'utf8')).params)))
  t.strictSame(names, [...names].sort())
})

t.test('the vector: a fixed model, prompt, seed and salt', { skip: noFixtures }, async t => {
  const vector = readTranscript(readFileSync(VECTOR, 'utf8'))
  const model = join(FIXTURES!, 'stories260K-Q8_0.gguf')
  for (const cpu of inferAddon().info().paths) {
    const { code, verdicts } = await verify(vector, ['--model', model], { ZG_CPU: cpu })
    t.strictSame([code, verdicts[0]?.ok], [0, true], cpu)
  }
  // Made again token by token, from the values in it alone.
  const engine = await openEngine(model, { threads: 1 })
  const { params, prompt, tokens } = vector
  const hidden: Uint8Array[] = []
  const running: Uint8Array[] = []
  const ids: number[] = []
  const request = {
    prompt: Int32Array.from(prompt),
    maxTokens: params.max_tokens,
    sampling: { temperature: Number(params.temperature), topP: Number(params.top_p), seed: BigInt(vector.seed) },
    trace: traceStart(Buffer.from(vector.model.root.slice(2), 'hex'), params, prompt)
  }
  for await (const { id, trace } of engine.generate(request)) {
    if (id === undefined) continue
    ids.push(id)
    hidden.push(trace!.hidden)
    running.push(trace!.running)
  }
  await engine.close()
  t.strictSame(ids, tokens)
  const again = makeTranscript({
    id: vector.id,
    model: { name: vector.model.name, root: Buffer.from(vector.model.root.slice(2), 'hex') },
    params,
    seed: BigInt(vector.seed),
    choice: 0,
    salt: Buffer.from(vector.salt.slice(2), 'hex'),
    prompt,
    tokens: ids,
    finish: vector.finish,
    hidden,
    running
  })
  t.strictSame(again, vector)
  const other = await verify(vector, ['--model', join(FIXTURES!, 'stories260K-Q4_0.gguf')])
  t.strictSame([other.code, other.verdicts[0]?.what, other.verdicts[0]?.step], [1, 'model', 0], 'another quantization')
})

t.test('a served answer, and what was changed in it', { skip }, async t => {
  const server = await startTool('zg-compute', ['serve', '--port', '0'], { env: { ...box.env, ZG_LOG: 'error' } })
  t.teardown(() => server.kill9())
  const ask = async (body: Record<string, unknown>): Promise<{ id: string; choices: unknown[] }> => {
    const res = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        prompt: 'The ship sailed',
        max_tokens: 40,
        temperature: 0.9,
        seed: 11,
        trace: true,
        ...body
      })
    })
    return (await res.json()) as { id: string; choices: unknown[] }
  }
  const trace = async (id: string, query = ''): Promise<Transcript[] | undefined> => {
    const res = await fetch(`${server.url}/trace/${id}${query}`)
    return res.ok ? ((await res.json()) as { transcripts: Transcript[] }).transcripts : undefined
  }
  const two = await ask({ n: 2, ignore_eos: true, top_p: 0.95, logit_bias: { 7: -3 } })
  const transcripts = (await trace(two.id))!
  t.equal(transcripts.length, 2)
  t.equal(await trace((await ask({ user: 'x' })).id), undefined, "not a stranger's to read")
  t.equal(await trace((await ask({ trace: false })).id), undefined, 'only where asked for')
  t.equal((await trace((await ask({ user: 'x' })).id, '?user=x'))?.length, 1)
  const whole = await verify({ transcripts })
  t.strictSame([whole.code, whole.verdicts.map(v => v.ok)], [0, [true, true]], whole.stderr)
  for (const body of [
    { temperature: 0 },
    { stop: ['the', ' a'], max_tokens: 200 },
    { top_k: 5, min_p: 0.02, repetition_penalty: 1.1, frequency_penalty: 0.2, presence_penalty: 0.1 }
  ]) {
    const [one] = (await trace((await ask(body)).id))!
    const { code, verdicts } = await verify(one)
    t.strictSame([code, verdicts[0]?.ok], [0, true], `${Object.keys(body)}: ${JSON.stringify(verdicts[0])}`)
  }
  await server.stop()

  const good = transcripts[0]!
  const changed = (change: (c: Transcript) => void): Transcript => {
    const copy = structuredClone(good)
    change(copy)
    return copy
  }
  const flip = (hex: string): `0x${string}` => `${hex.slice(0, -1)}${hex.endsWith('0') ? '1' : '0'}` as `0x${string}`
  const cases: [name: string, transcript: Transcript, what: string, step: number | null][] = [
    [
      'a token',
      changed(c => {
        c.tokens[9] = c.tokens[9] === 5 ? 6 : 5
      }),
      'state',
      9
    ],
    [
      'the last token',
      changed(c => {
        c.tokens[39] = c.tokens[39] === 5 ? 6 : 5
      }),
      'state',
      39
    ],
    [
      'a leaf',
      changed(c => {
        c.leaves[17] = flip(c.leaves[17]!)
      }),
      'state',
      17
    ],
    [
      'a running hash',
      changed(c => {
        c.running[23] = flip(c.running[23]!)
      }),
      'hash',
      23
    ],
    [
      'the temperature',
      changed(c => {
        c.params.temperature = '0.91'
      }),
      'hash',
      0
    ],
    ['a shorter prompt', changed(c => void c.prompt.splice(1, 1)), 'state', 0],
    [
      'the trace root',
      changed(c => {
        c.trace_root = flip(c.trace_root)
      }),
      'trace_root',
      null
    ],
    [
      'the prompt root',
      changed(c => {
        c.prompt_root = flip(c.prompt_root)
      }),
      'prompt_root',
      null
    ],
    [
      'the named model',
      changed(c => {
        c.model.root = flip(c.model.root)
      }),
      'model',
      0
    ],
    [
      'an answer ended early',
      changed(c => {
        for (const list of [c.tokens, c.leaves, c.running]) list.length = 20
      }),
      'output_root',
      null
    ]
  ]
  for (const [name, transcript, what, step] of cases) {
    const { code, verdicts } = await verify(transcript)
    t.strictSame([code, verdicts[0]?.ok, verdicts[0]?.what, verdicts[0]?.step], [1, false, what, step], name)
  }
  const seed = await verify(
    changed(c => {
      c.seed = '12'
    })
  )
  t.strictSame([seed.code, seed.verdicts[0]?.what], [1, 'token'], 'another seed draws another token')
  t.ok(seed.verdicts[0]!.step! < 20)
  // The same file but for one weight.
  const bytes = readFileSync(TINY)
  bytes[bytes.length - 20_000] = bytes[bytes.length - 20_000]! ^ 0x40
  writeFileSync(box.path('other.gguf'), bytes)
  const other = await verify(good, ['--model', box.path('other.gguf')])
  t.strictSame([other.code, other.verdicts[0]?.what], [1, 'model'])
  const junk = await verify({ ...good, leaves: [] })
  t.equal(junk.code, 65)
  t.match(junk.stderr, /the transcript's leaves must be as many hashes as there are tokens/)
  t.equal(toHex(merkleRoot(good.leaves.map(l => Buffer.from(l.slice(2), 'hex')))), good.trace_root)
})
