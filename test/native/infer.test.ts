/**
 * Proves that the native engine reads GGUF files whole and refuses damaged ones with words, and that its logits, greedy choices and
 * draws are those of the double-precision reference in the fixtures (or of plain formulas here), on every level of CPU, however a
 * prompt is cut and whatever runs beside it; that requests can be cancelled, refused and closed at any time.
 */
import { spawnSync } from 'node:child_process'
import { setMaxListeners } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { fromHex } from '../../lib/base/hex.ts'
import { packageRoot } from '../../lib/base/package-root.ts'
import { type LocalEngine, openEngine } from '../../lib/infer/engine.ts'
import { inferAddon } from '../../lib/infer/native.ts'
import type { GenerateRequest, Step } from '../../lib/infer/types.ts'
import { nativePath } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'

const FIXTURES = ['..', '../..'].map(up => join(packageRoot(), up, 'shared', 'fixtures', 'models')).find(existsSync)
const noBuild = existsSync(nativePath('infer')) ? false : 'no native build here'
const skip = noBuild !== false ? noBuild : FIXTURES === undefined ? 'no model fixtures beside the repository' : false
const seed = SEED
// 7 s on a free machine; a busy one needs several times that.
t.setTimeout(300_000)

interface Vectors {
  blocks: { type: string; hex: string; values: number[] }[]
  greedy: {
    model: string
    prompt: string
    promptTokens: number[]
    tokens: number[]
    margins: number[]
    text: string
  }[]
  logits: { model: string; tokens: number[]; spread: number; mean: number; top: [number, number][] }[]
  agreement: Record<string, { worst: number; typical: number }>
}

const fixture = (name: string): string => join(FIXTURES!, name.endsWith('.gguf') ? name : `${name}.gguf`)
const vectors: Vectors = skip === false ? JSON.parse(readFileSync(join(FIXTURES!, 'vectors.json'), 'utf8')) : {}
const TYPE_IDS: Record<string, number> = {
  ...{ F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, BF16: 30 },
  ...{ Q4_K: 12, Q5_K: 13, Q6_K: 14, IQ4_NL: 20, MXFP4: 39 }
}
const STORIES = ['F32', 'F16', 'Q8_0', 'Q4_0', 'Q5_0'].map(type => `stories260K-${type}.gguf`)
const LLAMA = ['llama-f32.gguf', 'llama-linear-f32.gguf', 'llama3-f32.gguf', 'llama3-q8_0.gguf']
const QWEN = ['qwen2-f32.gguf', 'qwen2-yarn-f32.gguf', 'qwen3-f32.gguf', 'qwen3-gpt2-f32.gguf', 'qwen3-bf16.gguf']
const MIXED = ['llama-mix.gguf', 'llama-q5_k_m.gguf', 'qwen2-q4_k_m.gguf', 'qwen3-q6_k.gguf', 'gemma3-q4_0.gguf']
const OTHERS = ['gemma-f32.gguf', 'gemma2-f32.gguf', 'gemma3-f32.gguf', 'mixtral-f32.gguf', 'qwen3moe-f32.gguf']
const MODELS = [...STORIES, ...LLAMA, ...QWEN, ...MIXED, ...OTHERS, 'qwen3moe-mxfp4.gguf']
/** Float weights, in units of the vocabulary's standard deviation, with keys and values kept as floats. */
const TOLERANCE = 2e-5
/** As they are served: what the cache's half precision leaves. */
const HALF_CACHE_TOLERANCE = 4e-3

async function withEngine(
  name: string,
  use: (engine: LocalEngine) => Promise<void>,
  options: Parameters<typeof openEngine>[1] = {}
): Promise<void> {
  const engine = await openEngine(fixture(name), { threads: 1, ...options })
  try {
    await use(engine)
  } finally {
    await engine.close()
  }
}

async function collect(
  engine: LocalEngine,
  request: Partial<GenerateRequest> & { prompt: Int32Array }
): Promise<{ ids: number[]; text: string; steps: Step[]; finish: Step['finish'] }> {
  const steps: Step[] = []
  for await (const step of engine.generate({ maxTokens: 16, sampling: { temperature: 0 }, ...request }))
    steps.push(step)
  return {
    steps,
    ids: steps.flatMap(s => (s.id === undefined ? [] : [s.id])),
    text: steps.map(s => s.text).join(''),
    finish: steps.at(-1)?.finish
  }
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`never: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}

// ---- files ----

/** Where a header has its counts, lengths, dimensions and offsets: written for this test, independent of the native reader. */
function fieldsOf(file: Uint8Array): { name: string; at: number; size: 4 | 8 }[] {
  const view = new DataView(file.buffer, file.byteOffset, file.length)
  const fields: { name: string; at: number; size: 4 | 8 }[] = []
  let at = 4
  const u32 = (name: string): number => {
    fields.push({ name, at, size: 4 })
    at += 4
    return view.getUint32(at - 4, true)
  }
  const u64 = (name: string): number => {
    fields.push({ name, at, size: 8 })
    at += 8
    return Number(view.getBigUint64(at - 8, true))
  }
  const text = (name: string): string => {
    const length = u64(`${name} length`)
    at += length
    return Buffer.from(file.subarray(at - length, at)).toString('latin1')
  }
  const sizes: Record<number, number> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 }
  const value = (type: number, name: string): void => {
    if (type === 8) text(name)
    else if (type === 9) {
      const element = u32(`${name} element type`)
      const count = u64(`${name} count`)
      for (let i = 0; i < count; i++) value(element, name)
    } else at += sizes[type]!
  }
  u32('version')
  const tensors = u64('tensor count')
  const entries = u64('metadata count')
  for (let i = 0; i < entries; i++) {
    const key = text('key')
    value(u32(`${key} type`), key)
  }
  for (let i = 0; i < tensors; i++) {
    const name = text('tensor name')
    const dims = u32(`${name} dimension count`)
    for (let d = 0; d < dims; d++) u64(`${name} dimension`)
    u32(`${name} type`)
    u64(`${name} offset`)
  }
  fields.push({ name: 'end', at, size: 4 })
  return fields
}

/** The container fixture as its key says it is laid out: data and offsets stand at multiples of 32, while its key says 64. */
function container(): Uint8Array<ArrayBuffer> {
  const file = new Uint8Array(readFileSync(fixture('container')))
  const at = Buffer.from(file).indexOf('general.alignment') + 'general.alignment'.length + 4
  new DataView(file.buffer).setUint32(at, 32, true)
  return file
}

const temp = skip === false ? await mkdtemp(join(tmpdir(), 'zg-infer-')) : ''
t.teardown(() => (temp === '' ? undefined : rm(temp, { recursive: true })))

t.test('the container is read whole', { skip }, async t => {
  const path = join(temp, 'container.gguf')
  await writeFile(path, container())
  const read = await inferAddon().readGguf(path)
  t.equal(read.version, 3)
  t.equal(read.alignment, 32)
  t.strictSame(Object.fromEntries(read.metadata.map(([key, , value]) => [key, value])), {
    'general.architecture': 'none',
    'general.alignment': 32,
    't.u8': 255,
    't.i8': -128,
    't.u16': 65535,
    't.i16': -32768,
    't.u32': 4294967295,
    't.i32': -2147483648,
    't.f32': Math.fround(0.1),
    't.bool.true': true,
    't.bool.false': false,
    't.str': 'grüß 🦙',
    't.str.empty': '',
    't.u64': 18446744073709551615n,
    't.i64': -9223372036854775808n,
    't.f64': 0.1,
    't.arr.f32': [1, -2, 0.5],
    't.arr.str': ['', 'a', '▁b'],
    't.arr.empty': [],
    't.arr.bool': [true, false, true],
    't.arr.arr': [[1, 2], ['x']]
  })
  t.strictSame(
    read.metadata.map(([, type]) => type),
    [8, 4, 0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 8, 10, 11, 12, 9, 9, 9, 9, 9]
  )
  t.strictSame(
    read.tensors.map(x => [x.name, x.dims, x.bytes]),
    [
      ['t1', [3], 12],
      ['t2', [2, 3], 24],
      ['t3', [2, 3, 4], 96],
      ['t4', [2, 3, 4, 5], 480]
    ]
  )
  const bytes = readFileSync(path)
  for (const tensor of read.tensors) {
    for (let i = 0; i < tensor.bytes / 4; i++) {
      if (bytes.readFloatLE(tensor.offset + 4 * i) !== i + 1) t.fail(`${tensor.name}[${i}]`)
    }
  }
  t.match(
    inferAddon().check(readFileSync(fixture('container')), false),
    /tensor 't2': offset 32 is no multiple of 64 at byte \d+/,
    'as it lies its offsets contradict its own alignment'
  )
})

t.test('damaged files are refused in words, never by a crash', { skip }, async t => {
  const addon = inferAddon()
  const reason =
    /^(magic|no GGUF|version|tensor|metadata|name of tensor|the file holds no tensors|architecture|\d+ heads|head size)/
  let cases = 0
  for (const [name, original] of [
    ['container', container()],
    ['stories260K-Q8_0', new Uint8Array(readFileSync(fixture('stories260K-Q8_0')))]
  ] as const) {
    const asModel = name !== 'container'
    t.equal(addon.check(original, asModel), undefined, `${name} is whole`)
    const fields = fieldsOf(original)
    const end = fields.pop()!.at
    const cuts = Array.from({ length: end }, (_, i) => i)
    for (let i = 0; i < 50; i++) cuts.push(end + Math.floor(((original.length - end) * i) / 50))
    for (const cut of cuts) {
      const message = addon.check(original.slice(0, cut), asModel)
      cases++
      if (message === undefined || !reason.test(message) || !/byte \d+$/.test(message)) {
        t.fail(`${name} cut at ${cut}: ${message}`)
      }
    }
    const view = new DataView(original.buffer)
    for (const { name: field, at, size } of fields) {
      // One of each kind of many alike.
      if (/tokens length|scores/.test(field) && at % 7 !== 0) continue
      const before = original.slice(at, at + size)
      for (const value of [0n, 1n, 2n ** 31n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n]) {
        if (size === 4) view.setUint32(at, Number(value & 0xffffffffn), true)
        else view.setBigUint64(at, value, true)
        const same = original.slice(at, at + size).every((b, i) => b === before[i])
        const message = addon.check(original, asModel)
        cases++
        // What the value makes of the file may be another valid file only where it stays small.
        if (
          message === undefined
            ? !same && value > 1n && size === 8
            : !/byte \d+|metadata|tensor|heads|head/.test(message)
        ) {
          t.fail(`${name}: ${field} = ${value}: ${message}`)
        }
        original.set(before, at)
      }
    }
    const offsets = fields.filter(f => f.name.endsWith(' offset'))
    // A small one and a larger one, which then reaches into its neighbour.
    const [a, b] = asModel ? [offsets[0]!.at, offsets[1]!.at] : [offsets[2]!.at, offsets[3]!.at]
    const both = [original.slice(a, a + 8), original.slice(b, b + 8)] as const
    original.set(both[1], a)
    original.set(both[0], b)
    t.match(addon.check(original, asModel), /overlaps/, `${name} with swapped offsets`)
    original.set(both[0], a)
    original.set(both[1], b)
  }
  t.comment(`${cases} damaged files`)
  t.match(addon.check(new Uint8Array(0), false), /no GGUF file/)
  const swapped = container()
  swapped.set([0, 0, 0, 3], 4)
  t.match(addon.check(swapped, false), /big-endian/)
})

t.test('files that are no model to run are refused by name', { skip }, async t => {
  const refused = (name: string, why: RegExp) =>
    t.rejects(openEngine(fixture(name)), { code: 'ERR_BAD_INPUT', message: why })
  await refused('vocab-llama2', /vocabulary only/)
  await refused('vocab-qwen3', /vocabulary only/)
  t.equal((await inferAddon().readGguf(fixture('vocab-llama2'))).tensors.length, 0, 'yet it opens')
  const other = new Uint8Array(readFileSync(fixture('gemma2-f32')))
  other[Buffer.from(other).indexOf('gemma2')] = 0x6c
  await writeFile(join(temp, 'other.gguf'), other)
  await t.rejects(openEngine(join(temp, 'other.gguf')), {
    code: 'ERR_BAD_INPUT',
    message: /architecture 'lemma2' is not known; known are llama, qwen2, qwen3, qwen3moe, gemma, gemma2, gemma3/
  })
  // The first matrix becomes IQ1_S, of whose blocks this file has enough.
  const odd = new Uint8Array(readFileSync(fixture('llama3-q8_0')))
  const info = Buffer.from(odd).indexOf('blk.0.attn_q.weight') + 'blk.0.attn_q.weight'.length + 4 + 16
  new DataView(odd.buffer).setUint32(info, 19, true)
  await writeFile(join(temp, 'odd.gguf'), odd)
  await t.rejects(openEngine(join(temp, 'odd.gguf')), {
    code: 'ERR_BAD_INPUT',
    message: /tensor 'blk.0.attn_q.weight': type IQ1_S is not supported, described at byte \d+/
  })
  await t.rejects(openEngine(join(temp, 'absent.gguf')), { code: 'ERR_NO_INPUT' })
  await t.rejects(openEngine(temp), { code: 'ERR_BAD_INPUT', message: /not a regular file/ })
})

// ---- arithmetic ----

t.test('blocks of each type give exactly the values that they stand for', { skip }, async t => {
  t.equal(vectors.blocks.length, 26)
  for (const { type, hex, values } of vectors.blocks) {
    const got = inferAddon().dequantize(TYPE_IDS[type]!, fromHex(hex.startsWith('0x') ? hex : `0x${hex}`))
    // Types with a minimum are rounded once.
    t.strictSame([...got], values.map(Math.fround), type)
  }
})

t.test('logits are the reference within tolerance, greedy choices the same', { skip }, async t => {
  for (const name of MODELS) {
    await withEngine(name, async engine => {
      const size = engine.info.vocabularySize
      const floats = !/[qQ]\d_|-mix|mxfp4/.test(name)
      const errorsOf = async (floatCache: boolean): Promise<number[]> => {
        const errors: number[] = []
        for (const l of vectors.logits.filter(l => l.model === name)) {
          const all = await engine.evaluate(Int32Array.from(l.tokens), { floatCache })
          const row = all.subarray((l.tokens.length - 1) * size)
          errors.push(Math.max(...l.top.map(([id, value]) => Math.abs(row[id]! - value) / l.spread)))
        }
        return errors
      }
      if (floats) {
        const exact = Math.max(...(await errorsOf(true)))
        t.ok(exact > 0 && exact <= TOLERANCE, `${name}: ${exact.toExponential(2)} spreads off without halves`)
      }
      const errors = await errorsOf(false)
      const worst = Math.max(...errors)
      const typical = errors.reduce((a, b) => a + b) / errors.length
      const agreement = vectors.agreement[name]!
      const tolerance = floats ? HALF_CACHE_TOLERANCE : 1.25 * agreement.worst
      // What rounding activations to 8 bits costs; in the last file a rounding may change which expert is chosen.
      const met = name.includes('mxfp4')
        ? typical <= 0.1
        : worst <= tolerance && (floats || typical <= 1.25 * agreement.typical)
      t.ok(worst > 0 && met, `${name}: ${worst.toExponential(2)} spreads off, ${typical.toExponential(2)} typical`)
      if (name.includes('mxfp4')) return
      let compared = 0
      for (const g of vectors.greedy.filter(g => g.model === name)) {
        const tokens = [...g.promptTokens, ...g.tokens]
        const all = await engine.evaluate(Int32Array.from(tokens))
        for (let i = 0; i < g.tokens.length; i++) {
          const at = (g.promptTokens.length - 1 + i) * size
          const row = all.subarray(at, at + size)
          const best = row.reduce((b, v, id) => (v > row[b]! ? id : b), 0)
          const spread = Math.sqrt(row.reduce((s, v) => s + v * v, 0) / size)
          if (g.margins[i]! <= 2 * tolerance * spread) continue
          compared++
          if (best !== g.tokens[i]) t.fail(`${name}: '${g.prompt}' step ${i}`)
        }
      }
      t.ok(compared > (floats ? 200 : 40), `${compared} greedy choices`)
    })
  }
})

t.test('every level of CPU and every way to cut a prompt gives the same bits', { skip }, async t => {
  for (const name of [
    'stories260K-F16.gguf',
    'stories260K-Q4_0.gguf',
    'llama3-q8_0.gguf',
    'qwen3-bf16.gguf',
    'qwen3-f32.gguf'
  ]) {
    await withEngine(name, async engine => {
      const tokens = Int32Array.from(vectors.logits.filter(l => l.model === name).at(-1)!.tokens)
      const want = await engine.evaluate(tokens, { chunk: 4096, cpu: 'generic' })
      for (const cpu of inferAddon().info().paths) {
        for (const chunk of [1, 7, 16, 4096]) {
          const got = await engine.evaluate(tokens, { chunk, cpu })
          t.ok(Buffer.from(got.buffer).equals(Buffer.from(want.buffer)), `${name}, ${cpu}, chunks of ${chunk}`)
        }
      }
    })
  }
})

t.test('greedy text runs free to the reference, alone and beside others', { skip }, async t => {
  for (const name of ['stories260K-F32.gguf', 'llama-f32.gguf', 'llama3-f32.gguf']) {
    for (const threads of [1, 3]) {
      await withEngine(
        name,
        async engine => {
          const cases = vectors.greedy.filter(g => g.model === name)
          const run = (g: Vectors['greedy'][number]) =>
            collect(engine, { prompt: Int32Array.from(g.promptTokens), maxTokens: g.tokens.length, ignoreEnd: true })
          const one = await run(cases[0]!)
          t.strictSame(one.ids, cases[0]!.tokens, `${name} alone, ${threads} threads`)
          t.equal(one.finish, 'length')
          const many = await Promise.all(cases.map(run))
          t.strictSame(
            many.map(m => m.ids),
            cases.map(g => g.tokens),
            `${name}, ${cases.length} at once`
          )
        },
        { threads }
      )
    }
  }
})

// ---- choosing ----

/** The draw of inference.md 7.1 for one position, by BigInt arithmetic of its own. */
function philox(key: bigint, position: number): bigint {
  const m = 0xffffffffn
  let [c0, c1, c2, c3] = [BigInt(position), 0n, 0n, 0n]
  let [k0, k1] = [key & m, key >> 32n]
  for (let i = 0; i < 10; i++) {
    const a = 0xd2511f53n * c0
    const b = 0xcd9e8d57n * c2
    ;[c0, c1, c2, c3] = [(b >> 32n) ^ c1 ^ k0, b & m, (a >> 32n) ^ c3 ^ k1, a & m]
    k0 = (k0 + 0x9e3779b9n) & m
    k1 = (k1 + 0xbb67ae85n) & m
  }
  return (c0 << 32n) | c1
}

t.test('draws follow seed and position, and temperature, top-k, top-p and min-p in this order', { skip }, async t => {
  // Known answer: key 0, counter 0.
  t.equal(philox(0n, 0), 0x6627e8d5e169c58dn)
  await withEngine('stories260K-F32', async engine => {
    const prompt = engine.textPrompt('Once upon a time')
    const size = engine.info.vocabularySize
    const settings = [
      { temperature: 1 },
      { temperature: 1.7, topK: 5 },
      { temperature: 1.3, topP: 0.7 },
      { temperature: 2, minP: 0.1 },
      { temperature: 1.9, topK: 40, topP: 0.95, minP: 0.02 }
    ]
    let compared = 0
    let unlikely = 0
    for (const [n, s] of settings.entries()) {
      const key = BigInt(seed) * 0x1_0000_0001n + BigInt(n)
      const got = await collect(engine, { prompt, maxTokens: 60, ignoreEnd: true, sampling: { ...s, seed: key } })
      const again = await collect(engine, { prompt, maxTokens: 60, ignoreEnd: true, sampling: { ...s, seed: key } })
      t.strictSame(again.ids, got.ids, 'the same seed, the same answer')
      const tokens = Int32Array.from([...prompt, ...got.ids])
      const all = await engine.evaluate(tokens)
      for (const [i, id] of got.ids.entries()) {
        const at = prompt.length + i
        const row = [...all.subarray((at - 1) * size, at * size)].map((l, id) => ({ id, l: l / s.temperature }))
        row.sort((a, b) => b.l - a.l || a.id - b.id)
        const weights = row.map(c => ({ id: c.id, w: Math.exp(c.l - row[0]!.l) }))
        let left = weights.slice(0, s.topK ?? size)
        let sum = left.reduce((x, c) => x + c.w, 0)
        if (s.topP !== undefined) {
          let running = 0
          const enough = s.topP * sum
          left = left.filter(c => {
            const keep = running < enough
            if (keep) running += c.w
            return keep
          })
        }
        left = left.filter(c => c.w >= (s.minP ?? 0))
        sum = left.reduce((x, c) => x + c.w, 0)
        const target = (Number(philox(key, at)) / 2 ** 64) * sum
        let running = 0
        const hit = left.find(c => {
          running += c.w
          return running > target
        })
        // Too near a border for the formulas in doubles to tell.
        if (hit === undefined || Math.min(Math.abs(running - target), Math.abs(running - hit.w - target)) < 1e-5)
          continue
        compared++
        if (hit.id !== row[0]!.id) unlikely++
        if (hit.id !== id) t.fail(`${JSON.stringify(s)}, position ${at}: ${id} instead of ${hit.id}`)
      }
    }
    t.ok(compared > 200 && unlikely > 20, `${compared} draws, ${unlikely} of them not the likeliest`)
  })
})

t.test('bias, penalties and log-probabilities', { skip }, async t => {
  await withEngine('stories260K-F32', async engine => {
    const prompt = engine.textPrompt('Once upon a time')
    const plain = await collect(engine, { prompt, maxTokens: 48, logprobs: 3 })
    const size = engine.info.vocabularySize
    const all = await engine.evaluate(Int32Array.from([...prompt, ...plain.ids]))
    for (const [i, step] of plain.steps.entries()) {
      const row = all.subarray((prompt.length + i - 1) * size, (prompt.length + i) * size)
      const most = Math.max(...row)
      const log = Math.log(row.reduce((s, l) => s + Math.exp(l - most), 0))
      const got = step.logprob!
      const off = Math.max(...[got, ...got.top].map(x => Math.abs(x.logprob - (row[x.id]! - most - log))))
      if (off > 1e-5) t.fail(`step ${i}: off by ${off}`)
      if (got.top.length !== 3 || got.top[0]!.id !== got.id) t.fail(`step ${i}: the greedy choice leads the list`)
    }
    const first = plain.ids[0]!
    const other = plain.steps[0]!.logprob!.top[1]!.id
    const biased = (bias: [number, number][]) =>
      collect(engine, { prompt, maxTokens: 1, sampling: { temperature: 0, logitBias: new Map(bias) } })
    t.strictSame((await biased([[first, -100]])).ids, [other], 'the likeliest banned, the next one comes')
    t.strictSame((await biased([[7, 100]])).ids, [7], 'a token forced')
    const counts = (ids: number[]) => Math.max(...ids.map(id => ids.filter(x => x === id).length))
    const forced = { temperature: 0, logitBias: new Map([[7, 100]]) }
    const same = await collect(engine, { prompt, maxTokens: 12, sampling: forced })
    t.equal(counts(same.ids), 12)
    const frequency = await collect(engine, { prompt, maxTokens: 12, sampling: { ...forced, frequencyPenalty: 100 } })
    t.ok(counts(frequency.ids) < 12, 'a frequency penalty as large as the bias ends the run')
    const presence = await collect(engine, { prompt, maxTokens: 12, sampling: { ...forced, presencePenalty: 100 } })
    t.equal(presence.ids.filter(id => id === 7).length < 12, true)
    const repetition = await collect(engine, {
      prompt,
      maxTokens: 12,
      sampling: { temperature: 0, repetitionPenalty: 10 }
    })
    t.equal(counts(repetition.ids), 1, 'nothing is said twice')
  })
})

// ---- requests ----

t.test('an answer ends at stop strings, end tokens and lengths', { skip }, async t => {
  await withEngine('stories260K-F32', async engine => {
    const prompt = engine.textPrompt('Once upon a time')
    const plain = await collect(engine, { prompt, maxTokens: 60 })
    t.equal(plain.finish, 'length')
    const stop = plain.text.slice(20, 27)
    const cut = await collect(engine, { prompt, maxTokens: 60, stop: ['never there', stop] })
    t.equal(cut.text, plain.text.slice(0, plain.text.indexOf(stop)))
    t.equal(cut.finish, 'stop')
    const end = engine.info.endIds[0]!
    const ended = await collect(engine, { prompt, sampling: { temperature: 0, logitBias: new Map([[end, 100]]) } })
    t.strictSame([ended.ids, ended.text, ended.finish], [[end], '', 'stop'])
    const context = engine.info.contextLength
    const full = new Int32Array(context).fill(prompt[1]!)
    const last = await collect(engine, { prompt: full, maxTokens: 5, ignoreEnd: true })
    t.strictSame([last.ids.length, last.finish], [1, 'length'], 'a prompt that fills the context leaves one token')
    const none = await collect(engine, { prompt, maxTokens: 0 })
    t.strictSame([none.ids, none.finish], [[], 'length'])
    t.throws(() => engine.generate({ prompt: new Int32Array(812), maxTokens: 1, sampling: {} }), {
      code: 'ERR_BAD_INPUT',
      message: `prompt has 812 tokens, 'stories260K' takes ${context}`
    })
    t.throws(() => engine.generate({ prompt: new Int32Array(0), maxTokens: 1, sampling: {} }), {
      code: 'ERR_BAD_INPUT'
    })
    for (const sampling of [
      { temperature: -1 },
      { topP: 2 },
      { minP: Number.NaN },
      { seed: 2n ** 64n },
      { topK: 0.5 }
    ]) {
      await t.rejects(
        collect(engine, { prompt, sampling }),
        { code: 'ERR_BAD_INPUT' },
        JSON.stringify(Object.keys(sampling))
      )
    }
    await t.rejects(
      collect(engine, { prompt: Int32Array.of(512) }),
      { code: 'ERR_BAD_INPUT' },
      'an id that is not there'
    )
    await t.rejects(collect(engine, { prompt: Int32Array.of(-1) }), { code: 'ERR_BAD_INPUT' })
  })
})

t.test('cancelled requests end at once and leave nothing behind', { skip }, async t => {
  await withEngine('llama3-q8_0', async engine => {
    const prompt = Int32Array.from({ length: 200 }, (_, i) => 5 + (i % 300))
    const idle = () => {
      const s = engine.stats()
      return s.running === 0 && s.waiting === 0 && s.pagesUsed === 0
    }
    const request = { prompt, maxTokens: 300, ignoreEnd: true }
    const aborted = new AbortController()
    let seen = 0
    let finish: Step['finish']
    for await (const step of engine.generate({ ...request, sampling: { temperature: 0 }, signal: aborted.signal })) {
      if (++seen === 3) aborted.abort()
      finish = step.finish
    }
    t.equal(finish, 'cancelled')
    t.ok(seen < 300, `${seen} steps`)
    await until('idle after an abort', idle)
    for await (const _ of engine.generate({ ...request, sampling: {} })) break
    await until('idle after a reader that left', idle)
    // Many at once: more than may run, some aborted before they start, beside one that must not suffer.
    const [whole, ...others] = await Promise.all([
      collect(engine, { ...request, maxTokens: 20 }),
      ...Array.from({ length: 60 }, async (_, i) => {
        const controller = new AbortController()
        const steps = collect(engine, { ...request, prompt: prompt.subarray(0, 1 + i), signal: controller.signal })
        setImmediate(() => controller.abort())
        return (await steps).finish
      })
    ])
    t.strictSame(others, Array(60).fill('cancelled'))
    t.strictSame(whole.ids, (await collect(engine, { ...request, maxTokens: 20 })).ids)
    await until('idle after many', idle)
    t.equal((await collect(engine, { ...request, signal: AbortSignal.abort() })).finish, 'cancelled')
    // As many as may run and wait; one more is refused.
    const crowd = new AbortController()
    setMaxListeners(0, crowd.signal)
    setImmediate(() => crowd.abort())
    const results = await Promise.allSettled(
      Array.from({ length: 400 }, () => collect(engine, { ...request, signal: crowd.signal }))
    )
    const busy = results.filter(r => r.status === 'rejected')
    t.ok(busy.length > 0 && busy.every(r => r.reason.code === 'ERR_UNAVAILABLE'), `${busy.length} refused`)
    await until('idle after a crowd', idle)
  })
})

t.test('a long prompt does not hold up a short one', { skip }, async t => {
  await withEngine('llama3-q8_0', async engine => {
    const order: string[] = []
    const long = Int32Array.from({ length: 500 }, (_, i) => 5 + (i % 300))
    const run = async (name: string, prompt: Int32Array) => {
      for await (const step of engine.generate({ prompt, maxTokens: 4, ignoreEnd: true, sampling: {} })) {
        if (step.finish !== undefined) order.push(name)
      }
    }
    const short = run('short', long.subarray(0, 3))
    await Promise.all([short, run('long', long)])
    t.strictSame(order, ['short', 'long'])
  })
})

t.test('closing cancels what runs', { skip }, async t => {
  const engine = await openEngine(fixture('llama3-q8_0'), { threads: 2 })
  const prompt = Int32Array.from({ length: 30 }, (_, i) => 5 + i)
  const running = collect(engine, { prompt, maxTokens: 400, ignoreEnd: true })
  const waiting = collect(engine, { prompt, maxTokens: 400, ignoreEnd: true })
  const closed = engine.close()
  t.equal((await running).finish, 'cancelled')
  t.equal((await waiting).finish, 'cancelled')
  await closed
  t.equal(await engine.close(), undefined, 'twice is once')
  await t.rejects(collect(engine, { prompt }), { code: 'ERR_STOPPED' })
})

/** Opens a model and fills it with requests; argument 1 the addon, 2 the model. Workers end from their callback or from outside. */
const WORKERS = `
const { Worker, isMainThread, workerData } = require('node:worker_threads')
const [addon, model] = isMainThread ? process.argv.slice(1) : workerData
const options = { threads: 2, contextLength: 512, cacheBytes: 1e9, waiting: 10, running: 8 }
const request = () => ({
  prompt: Int32Array.from({ length: 100 }, (_, i) => 5 + i), maxTokens: 400, endIds: new Int32Array(0), logprobs: -1, temperature: 1,
  topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, frequencyPenalty: 0, presencePenalty: 0, seed: 1n,
  biasIds: new Int32Array(0), biasValues: new Float32Array(0), typicalP: 1, choice: 0, minTokens: 0, outputFrom: 100, promptLogprobs: false, pooling: 0
})
async function go(calls) {
  let left = calls
  const m = await require(addon).open(model, options, () => { if (--left === 0) process.exit(0) })
  for (let i = 0; i < 4; i++) m.submit(request())
}
async function main() {
  for (let i = 0; i < 6; i++) {
    const w = new Worker(process.env.SCRIPT, { eval: true, workerData: [addon, model] })
    if (i % 2 === 1) w.once('online', () => setTimeout(() => w.terminate(), 50 + 20 * i))
    await new Promise(resolve => w.once('exit', resolve))
  }
  console.log('workers ended')
  await go(Infinity)
  await go(8)
}
if (isMainThread) main()
else go(5)
`

t.test(
  'threads and processes may end in the middle of an answer; an idle model keeps none alive',
  { skip },
  async t => {
    const args = [nativePath('infer'), fixture('llama3-q8_0')]
    const run = (script: string) =>
      spawnSync('/usr/bin/env', ['-u', 'NODE_OPTIONS', process.execPath, '-e', script, ...args], {
        encoding: 'utf8',
        timeout: 60_000,
        env: { ...process.env, SCRIPT: WORKERS }
      })
    const ended = run(WORKERS)
    t.strictSame([ended.status, ended.stdout, ended.stderr], [0, 'workers ended\n', ''])
    const idle = run(`require(process.argv[1]).open(process.argv[2],
    { threads: 2, contextLength: 512, cacheBytes: 1e9, waiting: 10, running: 8 }, () => {}).then(m => console.log(m.info.architecture))`)
    t.strictSame([idle.status, idle.stdout], [0, 'llama\n'])
  }
)
