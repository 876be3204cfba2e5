/**
 * Proves LoRA adapters: logits are those of a model into which they were merged, on every architecture's matrices, experts and embedding
 * included; bits do not depend on chunks, threads, the level of CPU or the requests beside; what was computed with one adapter is never
 * used for another; files that do not fit are refused in words.
 */
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { type LocalEngine, openEngine } from '../../lib/infer/engine.ts'
import { inferAddon } from '../../lib/infer/native.ts'
import type { AdapterChoice, EngineOptions } from '../../lib/infer/types.ts'
import { nativePath } from '../../lib/native.ts'
import { entry, floatsOf, parseGguf, type RawGguf, type RawTensor, TENSOR_TYPES, writeGguf } from '../harness/gguf.ts'
import { SEED } from '../harness/seed.ts'

const FIXTURES = ['..', '../..'].map(up => join(packageRoot(), up, 'shared', 'fixtures', 'models')).find(existsSync)
const noBuild = existsSync(nativePath('infer')) ? false : 'no native build here'
const skip = noBuild !== false ? noBuild : FIXTURES === undefined ? 'no model fixtures beside the repository' : false
const seed = SEED
t.setTimeout(300_000)

const fixture = (name: string): string => join(FIXTURES!, `${name}.gguf`)
const temp = await mkdtemp(join(tmpdir(), 'zg-adapters-'))
t.teardown(() => rm(temp, { recursive: true }))

let state = seed | 1
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) | 0
  return (state >>> 0) / 2 ** 32 - 0.5
}
const TOKENS = Int32Array.from([1, 40, 7, 300, 9, 12, 77, 5, 130, 22, 8, 101, 40, 7, 300, 3, 19, 250, 66, 31])
const ALPHA = 8

interface Made {
  path: string
  raw: RawGguf
}

/** A random adapter of a model's matrices; size says how much it changes them. */
async function makeAdapter(
  model: string,
  rank: number,
  options: { size?: number; only?: RegExp; name?: string; type?: string } = {}
): Promise<Made> {
  const base = parseGguf(readFileSync(fixture(model)))
  const architecture = inferArchitecture(base)
  const tensors: RawTensor[] = []
  const type = TENSOR_TYPES[options.type ?? 'F32']!
  for (const { name, dims } of base.tensors) {
    if (dims.length < 2 || !(options.only ?? /./).test(name)) continue
    const [columns, rows, experts = 1] = dims as [number, number, number?]
    const embedding = name.startsWith('token_embd')
    const one = (d: number[], scale: number): RawTensor => {
      const values = Float32Array.from({ length: d.reduce((a, b) => a * b, 1) }, () => random() * scale)
      return { name: '', dims: d, type, data: inferAddon().quantize(type, values)! }
    }
    const deep = experts > 1 ? [experts] : []
    const size = (options.size ?? 1) / Math.sqrt(columns)
    const a = embedding ? one([rank, rows], 1) : one([columns, rank, ...deep], 1)
    const b = embedding ? one([rank, columns], size) : one([rank, rows, ...deep], size)
    tensors.push({ ...a, name: `${name}.lora_a` }, { ...b, name: `${name}.lora_b` })
  }
  const raw: RawGguf = {
    entries: [
      entry('general.architecture', 'text', architecture),
      entry('general.type', 'text', 'adapter'),
      entry('adapter.type', 'text', 'lora'),
      entry('adapter.lora.alpha', 'f32', ALPHA),
      ...(options.name === undefined ? [] : [entry('general.name', 'text', options.name)])
    ],
    tensors
  }
  const path = join(temp, `${options.name ?? model}-${rank}.gguf`)
  await writeFile(path, writeGguf(raw))
  return { path, raw }
}

function inferArchitecture(raw: RawGguf): string {
  const { bytes } = raw.entries.find(e => e.key === 'general.architecture')!
  return Buffer.from(bytes.subarray(8 + 20 + 4 + 8)).toString()
}

function floats(t: RawTensor): Float32Array {
  return inferAddon().dequantize(t.type, t.data)
}

/** The model with W + strength · alpha / rank · B · A in place of W: by plain sums in double precision. */
async function merge(model: string, adapter: RawGguf, strength = 1): Promise<string> {
  const base = parseGguf(readFileSync(fixture(model)))
  for (const w of base.tensors) {
    const a = adapter.tensors.find(x => x.name === `${w.name}.lora_a`)
    if (a === undefined) continue
    const b = adapter.tensors.find(x => x.name === `${w.name}.lora_b`)!
    const [columns, rows, experts = 1] = w.dims as [number, number, number?]
    const rank = b.dims[0]!
    const embedding = w.name.startsWith('token_embd')
    const values = floats(w)
    const [av, bv] = [floats(a), floats(b)]
    const factor = (strength * ALPHA) / rank
    for (let e = 0; e < experts; e++) {
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < columns; c++) {
          let sum = 0
          for (let k = 0; k < rank; k++) {
            // A of an embedding has a row a token, and B makes the columns.
            sum += embedding
              ? av[r * rank + k]! * bv[c * rank + k]!
              : av[(e * rank + k) * columns + c]! * bv[(e * rows + r) * rank + k]!
          }
          values[(e * rows + r) * columns + c]! += factor * sum
        }
      }
    }
    w.data = floatsOf(values)
    w.type = TENSOR_TYPES.F32!
  }
  const path = join(temp, 'merged.gguf')
  await writeFile(path, writeGguf(base))
  return path
}

async function withEngine<T>(path: string, options: EngineOptions, use: (e: LocalEngine) => Promise<T>): Promise<T> {
  const engine = await openEngine(path, { threads: 1, ...options })
  try {
    return await use(engine)
  } finally {
    await engine.close()
  }
}

/** The largest difference in units of the second's spread. */
function distance(a: Float32Array, b: Float32Array): number {
  const spread = Math.sqrt(b.reduce((sum, v) => sum + v * v, 0) / b.length)
  return a.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i]!)), 0) / spread
}

const bits = (a: Float32Array): Buffer => Buffer.from(a.buffer, a.byteOffset, a.byteLength)

t.test('logits with an adapter are those of the merged model', { skip }, async t => {
  const cases: [model: string, rank: number, only?: RegExp][] = [
    ['llama-f32', 4],
    ['llama-f32', 17, /attn_[qv]/],
    ['llama3-f32', 8, /blk|output/],
    // Tied: the embedding is the output too, which merging would change and adapting does not.
    ['qwen2-f32', 3, /blk/],
    ['qwen3-f32', 8],
    ['qwen3moe-f32', 4],
    ['mixtral-f32', 5, /ffn|embd/],
    ['gemma-f32', 4, /blk/],
    ['gemma2-f32', 4, /blk/],
    ['gemma3-f32', 4, /blk/],
    ['qwen3-bf16', 8, /blk/]
  ]
  for (const [model, rank, only] of cases) {
    const adapter = await makeAdapter(model, rank, only === undefined ? {} : { only })
    for (const strength of [1, -0.5]) {
      const merged = await merge(model, adapter.raw, strength)
      const want = await withEngine(merged, {}, e => e.evaluate(TOKENS, { floatCache: true }))
      await withEngine(fixture(model), { adapters: [{ path: adapter.path, name: 'x', strength: 0 }] }, async e => {
        const got = await e.evaluate(TOKENS, { floatCache: true, adapters: [{ name: 'x', strength }] })
        const off = distance(got, want)
        // Choosing another expert is a jump that a rounding may cause.
        t.ok(
          off < (/moe|mixtral/.test(model) ? 1e-3 : 4e-5),
          `${model} of rank ${rank} times ${strength}: ${off.toExponential(1)}`
        )
        const plain = await e.evaluate(TOKENS, { floatCache: true })
        t.ok(distance(plain, want) > 0.02, `${model}: it matters`)
      })
    }
  }
})

t.test('bits do not depend on chunks or the level of CPU', { skip }, async t => {
  for (const [model, type] of [
    ['llama3-q8_0', 'F16'],
    ['qwen3-bf16', 'F32'],
    ['qwen3moe-mxfp4', 'BF16']
  ] as const) {
    const { path } = await makeAdapter(model, 16, { type, only: /blk|output/, name: `bits-${model}` })
    const more = await makeAdapter(model, 8, { type, only: /attn/, name: `more-${model}` })
    const adapters = [
      { path, name: 'a' },
      { path: more.path, name: 'b', strength: 0.25 }
    ]
    await withEngine(fixture(model), { adapters }, async e => {
      const want = await e.evaluate(TOKENS, { chunk: 64, cpu: 'generic' })
      for (const cpu of inferAddon().info().paths) {
        for (const chunk of [1, 7, 64]) {
          t.ok(
            bits(await e.evaluate(TOKENS, { chunk, cpu })).equals(bits(want)),
            `${model}, ${cpu}, chunks of ${chunk}`
          )
        }
      }
      const other = await e.evaluate(TOKENS, {
        adapters: [
          { name: 'b', strength: 0.25 },
          { name: 'a', strength: 1 }
        ]
      })
      t.ok(distance(other, want) < 0.5, 'the order of adapters is no more than a rounding')
      t.notOk(
        bits(await e.evaluate(TOKENS, { adapters: [] })).equals(bits(want)),
        'without adapters it is another answer'
      )
    })
    await withEngine(fixture(model), {}, async plain => {
      await withEngine(fixture(model), { adapters: [{ path, name: 'a', strength: 0 }] }, async e => {
        t.ok(
          bits(await e.evaluate(TOKENS)).equals(bits(await plain.evaluate(TOKENS))),
          `${model}: loaded, not asked for, it changes nothing`
        )
      })
    })
  }
})

async function ids(engine: LocalEngine, prompt: number[], adapters?: AdapterChoice[]): Promise<number[]> {
  const out: number[] = []
  const request = { prompt: Int32Array.from(prompt), maxTokens: 24, ignoreEnd: true, sampling: { temperature: 0 } }
  for await (const step of engine.generate(adapters === undefined ? request : { ...request, adapters })) {
    if (step.id !== undefined) out.push(step.id)
  }
  return out
}

t.test('requests with different adapters share steps and nothing else', { skip }, async t => {
  const model = 'llama3-q8_0'
  const one = await makeAdapter(model, 8, { only: /blk/, name: 'one' })
  const two = await makeAdapter(model, 4, { only: /ffn|output/, name: 'two' })
  const adapters = [one, two].map(({ path }) => ({ path, strength: 0 }))
  const choices: (AdapterChoice[] | undefined)[] = [
    undefined,
    [{ name: 'one', strength: 1 }],
    [{ name: 'two', strength: 1 }],
    [{ name: 'one', strength: 0.5 }],
    [
      { name: 'one', strength: 1 },
      { name: 'two', strength: 2 }
    ]
  ]
  // Longer than two pages of the cache, so that there is something to share wrongly.
  const prompt = [...TOKENS, ...TOKENS]
  const alone: number[][] = []
  for (const c of choices) alone.push(await withEngine(fixture(model), { adapters }, e => ids(e, prompt, c)))
  t.equal(new Set(alone.map(String)).size, choices.length, 'all of them answer differently')
  for (const threads of [1, 2]) {
    await withEngine(fixture(model), { adapters, threads }, async e => {
      t.strictSame(
        e.adapters!.map(a => a.name),
        ['one', 'two']
      )
      for (let round = 0; round < 3; round++) {
        const together = await Promise.all([...choices, ...choices].map(c => ids(e, prompt, c)))
        t.strictSame(together, [...alone, ...alone], `${threads} threads, round ${round}`)
      }
      t.ok(e.stats().cachedTokens > 0, 'beginnings were shared')
    })
  }
})

t.test('adapters that are on by themselves apply until a request says otherwise', { skip }, async t => {
  const { path } = await makeAdapter('llama3-q8_0', 8, { only: /blk/, name: 'on' })
  await withEngine(fixture('llama3-q8_0'), { adapters: [{ path, strength: 0.75 }] }, async e => {
    const on = await ids(e, [...TOKENS])
    t.strictSame(on, await ids(e, [...TOKENS], [{ name: 'on', strength: 0.75 }]))
    const off = await ids(e, [...TOKENS], [])
    t.strictSame(off, await withEngine(fixture('llama3-q8_0'), {}, plain => ids(plain, [...TOKENS])))
    t.notSame(on, off)
    t.strictSame(off, await ids(e, [...TOKENS], [{ name: 'on', strength: 0 }]), 'a strength of 0 is none')
    await t.rejects(ids(e, [1], [{ name: 'off', strength: 1 }]), { code: 'ERR_BAD_INPUT', message: /no adapter 'off'/ })
    await t.rejects(ids(e, [1], [{ name: 'on', strength: 1e9 }]), { message: /strength is from -100 to 100/ })
    await t.rejects(ids(e, [1], [{ name: 'on', strength: Number.NaN }]), { message: /strength is from/ })
    await t.rejects(ids(e, [1], Array(9).fill({ name: 'on', strength: 1 })), { message: /9 adapters in one request/ })
  })
})

t.test('files that are no adapter of this model are refused in words', { skip }, async t => {
  const model = 'llama-f32'
  const { raw } = await makeAdapter(model, 4)
  const path = join(temp, 'bad.gguf')
  const refused = async (change: (raw: RawGguf) => void, message: RegExp): Promise<void> => {
    const copy: RawGguf = { entries: [...raw.entries], tensors: raw.tensors.map(x => ({ ...x })) }
    change(copy)
    await writeFile(path, writeGguf(copy))
    await t.rejects(openEngine(fixture(model), { adapters: [{ path }] }), { code: 'ERR_BAD_INPUT', message })
  }
  const set = (key: string, value: string) => (r: RawGguf) => {
    r.entries = [...r.entries.filter(e => e.key !== key), entry(key, 'text', value)]
  }
  await refused(set('general.type', 'model'), /'general.type' is 'model', not 'adapter'/)
  await refused(set('adapter.type', 'ia3'), /'adapter.type' is 'ia3', only 'lora'/)
  await refused(set('general.architecture', 'qwen3'), /the adapter is for 'qwen3', the model is 'llama'/)
  await refused(r => r.tensors.splice(1, 1), /has no '.lora_b' beside it/)
  await refused(r => r.tensors.splice(0, 1), /has no '.lora_a' beside it/)
  await refused(r => r.tensors.splice(0), /holds no tensors/)
  await refused(r => {
    r.tensors[0]!.name = 'blk.0.attn_norm.weight'
  }, /neither '.lora_a' nor '.lora_b'/)
  await refused(r => {
    for (const x of r.tensors) x.name = x.name.replace('blk.2.', 'blk.9.')
  }, /changes 'blk.9.attn_q.weight', which this model has not/)
  await refused(r => {
    const b = r.tensors.find(x => x.name === 'blk.1.ffn_up.weight.lora_b')!
    b.dims = [8, b.dims[1]! / 2]
  }, /matrices for 'blk.1.ffn_up.weight' do not have its size/)
  await refused(r => {
    const a = r.tensors.find(x => x.name === 'blk.1.ffn_up.weight.lora_a')!
    a.data = new Uint8Array(a.data)
    new DataView(a.data.buffer).setFloat32(40, Number.NaN, true)
  }, /'blk.1.ffn_up.weight.lora_a' has a value that is no finite number/)
  await t.rejects(openEngine(fixture(model), { adapters: [{ path: fixture(model) }] }), {
    message: /'general.type' is '.*', not 'adapter'/
  })
  await t.rejects(openEngine(fixture(model), { adapters: [{ path: join(temp, 'none') }] }), { code: 'ERR_NO_INPUT' })
  const good = await makeAdapter(model, 4, { name: 'good' })
  await t.rejects(openEngine(fixture(model), { adapters: [{ path: good.path }, { path: good.path }] }), {
    message: /two adapters are called 'good'/
  })
  const file = readFileSync(good.path)
  for (let cut = 0; cut < 900; cut += 7) {
    await writeFile(path, file.subarray(0, cut))
    await t.rejects(openEngine(fixture(model), { adapters: [{ path }] }), { code: 'ERR_BAD_INPUT' }, `cut at ${cut}`)
  }
})
