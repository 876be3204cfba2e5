/**
 * Proves what is done with model files short of running them: blocks of every type are made within bounds of error and never worse than
 * plain rounding, whole models keep their logits near, the bytes are the same on every machine; a model split over files is one model,
 * and a part that is missing, swapped or there twice is named.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { openEngine } from '../../lib/infer/engine.ts'
import { describeModel, memoryNeed, quantizeModel, recipeNames } from '../../lib/infer/model-file.ts'
import { inferAddon } from '../../lib/infer/native.ts'
import { nativePath } from '../../lib/native.ts'
import { entry, parseGguf, type RawGguf, TENSOR_TYPES, writeGguf } from '../harness/gguf.ts'
import { SEED } from '../harness/seed.ts'

const FIXTURES = ['..', '../..'].map(up => join(packageRoot(), up, 'shared', 'fixtures', 'models')).find(existsSync)
const noBuild = existsSync(nativePath('infer')) ? false : 'no native build here'
const skip = noBuild !== false ? noBuild : FIXTURES === undefined ? 'no model fixtures beside the repository' : false
const seed = SEED
t.setTimeout(300_000)

const fixture = (name: string): string => join(FIXTURES!, `${name}.gguf`)
const temp = await mkdtemp(join(tmpdir(), 'zg-models-'))
t.teardown(() => rm(temp, { recursive: true }))

let state = seed | 1
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) | 0
  return (state >>> 0) / 2 ** 32
}
/** Near enough to a normal distribution. */
const normal = (): number => Array.from({ length: 6 }, random).reduce((a, b) => a + b, -3) * Math.SQRT2

/** Root of the mean squared error of normal values that a type may leave, in units of their spread. */
const BOUNDS: Record<string, number> = {
  ...{ F32: 0, F16: 3e-4, BF16: 2.4e-3, Q8_0: 6e-3, Q6_K: 0.018, Q5_K: 0.038, Q5_1: 0.037, Q5_0: 0.042 },
  ...{ Q4_K: 0.076, Q4_1: 0.076, Q4_0: 0.085, IQ4_NL: 0.078, IQ4_XS: 0.078, MXFP4: 0.13, Q3_K: 0.165, Q2_K: 0.32 }
}

function errorOf(type: string, x: Float32Array): number {
  const addon = inferAddon()
  const blocks = addon.quantize(TENSOR_TYPES[type]!, x)!
  const back = addon.dequantize(TENSOR_TYPES[type]!, blocks)
  let squares = 0
  for (let i = 0; i < x.length; i++) squares += (x[i]! - back[i]!) ** 2
  return Math.sqrt(squares / x.length)
}

t.test('blocks of every type stay within their bound of error', { skip: noBuild }, async t => {
  t.strictSame(Object.keys(BOUNDS).sort(), Object.keys(TENSOR_TYPES).sort(), 'every type has a bound')
  const x = Float32Array.from({ length: 65_536 }, normal)
  for (const [type, bound] of Object.entries(BOUNDS)) {
    const off = errorOf(type, x)
    t.ok(off <= bound && (bound === 0 || off > bound / 2), `${type}: ${off.toFixed(5)} of ${bound}`)
    // The scale is each block's own, whatever its size; a half cannot hold the smallest.
    for (const unit of [1e-3, 100]) {
      const scaled =
        errorOf(
          type,
          x.subarray(0, 4096).map(v => v * unit)
        ) / unit
      // What a half of this size is rounded to, where the block's scale is one.
      t.ok(scaled <= bound * 1.1 + 4e-4, `${type}, times ${unit}: ${scaled.toFixed(5)}`)
    }
  }
})

t.test('odd blocks: zeros, one value, one far from the others, what no type holds', { skip: noBuild }, async t => {
  const addon = inferAddon()
  for (const [type, id] of Object.entries(TENSOR_TYPES)) {
    const block = (f: (i: number) => number) => Float32Array.from({ length: 256 }, (_, i) => f(i))
    const back = (x: Float32Array) => addon.dequantize(id, addon.quantize(id, x)!)
    t.ok(
      back(block(() => 0)).every(v => v === 0),
      `${type}: zeros`
    )
    for (const v of [0.5, -0.75]) {
      // A scale of a quarter bit of the exponent, halves of 11 bits, 4 to 6 bits for scales of scales.
      const coarse = /K|XS/.test(type) ? 0.03 : type === 'MXFP4' ? 0.13 : 1e-2
      t.ok(
        back(block(() => v)).every(b => Math.abs(b - v) <= coarse * Math.abs(v)),
        `${type}: all ${v}`
      )
    }
    const far = back(block(i => (i === 77 ? -8 : normal() / 100)))
    t.ok(Math.abs(far[77]! + 8) <= 1.1, `${type}: ${far[77]} for -8 alone`)
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      t.equal(
        addon.quantize(
          id,
          block(i => (i === 200 ? bad : 1))
        ),
        undefined,
        `${type}: ${bad}`
      )
    }
    const huge = addon.quantize(
      id,
      block(() => 3e38)
    )
    t.equal(huge === undefined, !['F32', 'BF16', 'MXFP4'].includes(type), `${type}: 3e38`)
  }
})

/** A model's tensors as floats. */
function tensorsOf(path: string): Map<string, { type: number; values: Float32Array }> {
  const out = new Map<string, { type: number; values: Float32Array }>()
  for (const { name, type, data } of parseGguf(readFileSync(path)).tensors) {
    out.set(name, { type, values: inferAddon().dequantize(type, data) })
  }
  return out
}

t.test('tensors come out nearer to the original than plain rounding leaves them', { skip }, async t => {
  const original = tensorsOf(fixture('stories260K-F32'))
  for (const type of ['Q8_0', 'Q5_0', 'Q4_0']) {
    let compared = 0
    for (const [name, plain] of tensorsOf(fixture(`stories260K-${type}`))) {
      if (plain.type !== TENSOR_TYPES[type]) continue
      const x = original.get(name)!.values
      const id = TENSOR_TYPES[type]!
      const ours = inferAddon().dequantize(id, inferAddon().quantize(id, x)!)
      const squares = (y: Float32Array) => x.reduce((sum, v, i) => sum + (v - y[i]!) ** 2, 0)
      // Rounding of the sums themselves.
      if (squares(ours) > squares(plain.values) * 1.0001) t.fail(`${type} ${name}`)
      compared++
      // And what is quantized stays what it is when it is done again.
      const again = inferAddon().dequantize(id, inferAddon().quantize(id, ours)!)
      const spread = Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length)
      const drift = Math.max(...again.map((v, i) => Math.abs(v - ours[i]!))) / spread
      if (drift > 0.02) t.fail(`${type} ${name} drifts by ${drift}`)
    }
    t.ok(compared > 20, `${compared} tensors of ${type}`)
  }
  // Types that only a mixed file has: made again from their own values they hardly move.
  for (const { name, type, data } of parseGguf(readFileSync(fixture('llama-mix'))).tensors) {
    const addon = inferAddon()
    const x = addon.dequantize(type, data.subarray(0, 262_144))
    const again = addon.dequantize(type, addon.quantize(type, x)!)
    const squares = x.reduce((sum, v) => sum + v * v, 0)
    const off = Math.sqrt(x.reduce((sum, v, i) => sum + (v - again[i]!) ** 2, 0) / squares)
    const typeName = Object.entries(TENSOR_TYPES).find(([, id]) => id === type)![0]
    t.ok(off <= BOUNDS[typeName]! / 2, `${name}, ${typeName}: ${off.toExponential(1)}`)
  }
})

async function logitsOf(path: string): Promise<Float32Array> {
  const engine = await openEngine(path, { threads: 1 })
  try {
    return await engine.evaluate(Int32Array.from([1, 40, 7, 300, 9, 12, 77, 5, 130, 22, 8, 101]))
  } finally {
    await engine.close()
  }
}

function distance(a: Float32Array, b: Float32Array): number {
  let spread = 0
  let off = 0
  for (let i = 0; i < a.length; i++) {
    spread += a[i]! ** 2
    off += (a[i]! - b[i]!) ** 2
  }
  return Math.sqrt(off / spread)
}

/** How far a random model's logits may go, in units of their spread. Random weights are the worst case: nothing in them repeats. */
const LOGITS: Record<string, number> = {
  ...{ F32: 0, F16: 0.01, BF16: 0, Q8_0: 0.03, Q6_K: 0.06, Q5_K: 0.12, Q5_K_M: 0.12, Q5_1: 0.12, Q5_0: 0.13 },
  ...{ Q4_K: 0.22, Q4_K_M: 0.2, Q4_1: 0.22, Q4_0: 0.24, IQ4_NL: 0.22, IQ4_XS: 0.22, MXFP4: 0.36, Q3_K: 0.5, Q2_K: 0.9 }
}

t.test('whole models of every recipe run, and their logits stay near', { skip }, async t => {
  const from = fixture('qwen3-bf16')
  const want = await logitsOf(from)
  t.strictSame(recipeNames().sort(), Object.keys(LOGITS).sort())
  let last = Number.POSITIVE_INFINITY
  for (const recipe of recipeNames()) {
    const to = join(temp, `${recipe}.gguf`)
    await quantizeModel(from, to, recipe.toLowerCase(), { threads: 2 })
    const got = distance(want, await logitsOf(to))
    t.ok(got <= LOGITS[recipe]! && (LOGITS[recipe] === 0 || got > 0), `${recipe}: ${got.toFixed(4)}`)
    const { fileBytes, types, architecture, shape } = await describeModel(to)
    t.equal(architecture, 'qwen3')
    if (/^Q\d_K$|Q8_0/.test(recipe)) {
      t.ok(fileBytes < last, `${recipe} is smaller: ${fileBytes}`)
      last = fileBytes
    }
    const most = types.reduce((a, b) => (b.bytes > a.bytes ? b : a))
    t.equal(most.type, recipe.replace(/_M$/, ''), `${recipe} is mostly ${most.type}`)
    t.ok(shape!.weightBytes > 0.5 * (fileBytes - shape!.embeddingBytes), 'the memory told is that of the weights')
  }
})

t.test('the same model and recipe give the same bytes, on any number of threads', { skip }, async t => {
  const digest = async (recipe: string, threads: number): Promise<string> => {
    const to = join(temp, 'same.gguf')
    await quantizeModel(fixture('qwen3-bf16'), to, recipe, { threads, force: true })
    return createHash('sha256').update(readFileSync(to)).digest('hex').slice(0, 16)
  }
  // Made once and kept: another compiler, processor or day must give these.
  const golden: Record<string, string> = {
    Q4_K_M: '0a83d7a9e4ea48c1',
    IQ4_XS: '1366a50fea730b25',
    Q4_1: 'c9cc3758fb871a37',
    MXFP4: '50e9e49658a9b36c'
  }
  for (const [recipe, want] of Object.entries(golden)) {
    for (const threads of [1, 3]) t.equal(await digest(recipe, threads), want, `${recipe}, ${threads} threads`)
  }
})

t.test('what cannot be quantized is refused in words and leaves nothing behind', { skip }, async t => {
  const to = join(temp, 'refused.gguf')
  const refused = (from: string, recipe: string, code: string, message: RegExp) =>
    t.rejects(quantizeModel(from, to, recipe), { code, message })
  await refused(fixture('llama3-q8_0'), 'Q4_0', 'ERR_BAD_INPUT', /is Q8_0 already/)
  await refused(fixture('llama-f32'), 'Q9_X', 'ERR_USAGE', /'Q9_X' is no type/)
  await refused(fixture('vocab-llama2'), 'Q8_0', 'ERR_BAD_INPUT', /no tensors/)
  await refused(join(temp, 'absent.gguf'), 'Q8_0', 'ERR_NO_INPUT', /does not exist/)
  const raw = parseGguf(readFileSync(fixture('llama-f32')))
  const q = raw.tensors.find(x => x.name === 'blk.1.ffn_up.weight')!
  new DataView(q.data.buffer).setFloat32(4 * (3 * q.dims[0]! + 5), Number.POSITIVE_INFINITY, true)
  await writeFile(join(temp, 'infinite.gguf'), writeGguf(raw))
  await refused(
    join(temp, 'infinite.gguf'),
    'Q8_0',
    'ERR_BAD_INPUT',
    /'blk.1.ffn_up.weight': row 3 has a value that Q8_0 cannot hold/
  )
  await quantizeModel(fixture('llama-f32'), to, 'Q8_0')
  await refused(fixture('llama-f32'), 'Q8_0', 'ERR_EXISTS', /exists/)
  const stop = new AbortController()
  const stopped = quantizeModel(fixture('qwen3-bf16'), join(temp, 'stopped.gguf'), 'Q4_K_M', { signal: stop.signal })
  stop.abort(new Error('enough'))
  await t.rejects(stopped, /enough/)
  t.strictSame(
    readdirSync(temp).filter(name => name.endsWith('.part') || name.startsWith('stopped')),
    []
  )
})

// ---- models in several files ----

/** Cuts a model into files of about as many tensors; the first also has all metadata. */
function split(raw: RawGguf, count: number): RawGguf[] {
  const each = Math.ceil(raw.tensors.length / count)
  return Array.from({ length: count }, (_, i) => ({
    entries: [
      ...(i === 0 ? raw.entries : []),
      entry('split.no', 'u16', i),
      entry('split.count', 'u16', count),
      entry('split.tensors.count', 'i32', raw.tensors.length)
    ],
    tensors: raw.tensors.slice(i * each, (i + 1) * each)
  }))
}

const partName = (i: number, count = 3): string =>
  join(temp, `s-${String(i + 1).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.gguf`)

t.test('a model split over files is one model, whichever part is named', { skip }, async t => {
  const whole = fixture('llama3-q8_0')
  const parts = split(parseGguf(readFileSync(whole)), 3)
  for (const [i, part] of parts.entries()) await writeFile(partName(i), writeGguf(part))
  const want = await logitsOf(whole)
  for (let i = 0; i < 3; i++) {
    t.equal(
      Buffer.compare(Buffer.from((await logitsOf(partName(i))).buffer), Buffer.from(want.buffer)),
      0,
      `by part ${i + 1}`
    )
  }
  const [one, three] = [await describeModel(whole), await describeModel(partName(1))]
  t.strictSame(
    three.paths,
    [0, 1, 2].map(i => partName(i))
  )
  t.strictSame(three.types, one.types)
  t.strictSame(memoryNeed(three.shape!), memoryNeed(one.shape!))
  t.equal(
    three.fileBytes,
    [0, 1, 2].reduce((sum, i) => sum + readFileSync(partName(i)).length, 0)
  )
})

t.test('a part that is missing, swapped, doubled or of another model is named', { skip }, async t => {
  const raw = parseGguf(readFileSync(fixture('llama3-q8_0')))
  const write = async (change: (parts: RawGguf[]) => void): Promise<void> => {
    const parts = split(raw, 3)
    change(parts)
    for (const [i, part] of parts.entries()) await writeFile(partName(i), writeGguf(part))
  }
  const refused = async (message: RegExp): Promise<void> => {
    await t.rejects(openEngine(partName(0)), { code: 'ERR_BAD_INPUT', message })
    await t.rejects(describeModel(partName(0)), { code: 'ERR_BAD_INPUT', message })
  }
  await write(() => {})
  await rm(partName(1))
  await refused(/part 2 of 3, 's-00002-of-00003.gguf': cannot be opened: No such file/)
  await write(parts => parts.splice(1, 2, parts[2]!, parts[1]!))
  await refused(/'s-00002-of-00003.gguf' holds part 3 of 3: parts were swapped/)
  await write(parts => parts.splice(2, 1, parts[1]!))
  await refused(/'s-00003-of-00003.gguf' holds part 2 of 3/)
  await write(parts => parts[2]!.tensors.push(parts[1]!.tensors[0]!))
  await refused(/tensor '.*' is in part 2 and again in part 3/)
  await write(parts => parts[2]!.tensors.pop())
  await refused(/the 3 parts have \d+ tensors together, \d+ wanted/)
  await write(parts => parts.splice(1, 1, split(raw, 4)[1]!))
  await refused(/'s-00002-of-00003.gguf' is a part of 4, not of 3/)
  await write(() => {})
  await writeFile(partName(1), readFileSync(partName(1)).subarray(0, 900))
  await refused(/part 2 of 3, 's-00002-of-00003.gguf': .* at byte \d+/)
  await writeFile(join(temp, 'renamed.gguf'), readFileSync(partName(0)))
  await t.rejects(openEngine(join(temp, 'renamed.gguf')), {
    message: /split over 3 files, whose names end in -00001-of-00003.gguf/
  })
})

// ---- files that lie ----

t.test('what a model must say is asked for by name, and in its kind', { skip }, async t => {
  const path = join(temp, 'lying.gguf')
  const reason = async (raw: RawGguf): Promise<string | undefined> => {
    await writeFile(path, writeGguf(raw))
    return inferAddon().check(writeGguf(raw), true)
  }
  for (const model of ['qwen3moe-f32', 'gemma3-f32', 'llama-linear-f32']) {
    const raw = parseGguf(readFileSync(fixture(model)))
    t.equal(await reason(raw), undefined, `${model} is whole`)
    let named = 0
    for (const { key } of raw.entries) {
      if (!/^(general.architecture|(qwen3moe|gemma3|llama)\.)/.test(key)) continue
      const others = raw.entries.filter(e => e.key !== key)
      const without = await reason({ ...raw, entries: others })
      // Some have a default; then the file may still be whole, or other parts do not fit to it.
      if (without !== undefined) named++
      for (const odd of [entry(key, 'text', 'seven'), entry(key, 'f32', Number.NaN)]) {
        const why = await reason({ ...raw, entries: [...others, odd] })
        if (/context_length|vocab_size|file_type/.test(key) && why === undefined) continue
        t.match(why ?? '', /metadata '|architecture '|tensor '/, `${key} as ${why}`)
      }
      for (const n of [0, -1, 2 ** 31 - 1]) {
        const why = await reason({ ...raw, entries: [...others, entry(key, 'i32', n)] })
        if (why !== undefined && !/metadata '|tensor '|architecture '|heads|head size|experts/.test(why))
          t.fail(`${key} = ${n}: ${why}`)
      }
    }
    t.ok(named >= 6, `${named} keys cannot be left out`)
    for (const [i, tensor] of raw.tensors.entries()) {
      const less = await reason({ ...raw, tensors: raw.tensors.filter((_, j) => j !== i) })
      if (tensor.name !== 'output.weight' && !/rope_freqs/.test(tensor.name))
        t.match(less, new RegExp(`'${tensor.name}' is missing`))
      const turned = raw.tensors.map((x, j) => (j === i ? { ...x, dims: [...x.dims].reverse() } : x))
      if (tensor.dims.length > 1 && tensor.dims[0] !== tensor.dims.at(-1))
        t.match(await reason({ ...raw, tensors: turned }), /wanted|match/)
    }
  }
})

t.test('sizes that overflow, overlap or are absurd never reach the arithmetic', { skip: noBuild }, async t => {
  const file = (dims: number[], type: number, offset: bigint): Uint8Array => {
    const raw = writeGguf({
      entries: [entry('general.architecture', 'text', 'llama')],
      tensors: [
        { name: 'a', dims: [32], type: 0, data: new Uint8Array(128) },
        { name: 'b', dims, type, data: new Uint8Array(128) }
      ]
    })
    const at = Buffer.from(raw).lastIndexOf(Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 98])) + 9 + 4 + 8 * dims.length + 4
    new DataView(raw.buffer, raw.byteOffset).setBigUint64(at, offset, true)
    return raw
  }
  const check = (dims: number[], type = 0, offset = 128n): string | undefined =>
    inferAddon().check(file(dims, type, offset), false)
  t.equal(check([32]), undefined)
  t.match(check([2 ** 32, 2 ** 32]), /tensor 'b': dimension 4294967296 is out of range at byte \d+/)
  t.match(check([2 ** 26, 2 ** 26]), /out of range/)
  t.match(check([2 ** 18, 2 ** 17, 2 ** 17]), /out of range/)
  t.match(check([2 ** 13, 2 ** 13, 2 ** 13, 2 ** 13]), /out of range/)
  t.match(check([2 ** 51]), /bytes at offset 128 of the data reach beyond the file/)
  t.match(check([0, 4]), /dimension 0 is out of range/)
  t.match(check([48], 8), /rows of 48 values are no whole Q8_0 blocks/)
  t.match(check([32], 4), /tensor type 4 was made by an old converter/)
  t.match(check([32], 99), /tensor type 99 is not known/)
  t.match(check([32], 0, 0n), /tensor '.' overlaps tensor '.' at byte \d+/)
  t.match(check([32], 0, 96n), /overlaps/)
  t.match(check([32], 0, 100n), /offset 100 is no multiple of 32/)
  t.match(check([32], 0, 2n ** 64n - 32n), /reach beyond the file/)
  t.match(check([32], 0, 2n ** 63n), /reach beyond the file/)
})
