// Writes a GGUF model of random weights, for timings: blocks are random bits with sane scales, so values stay finite and the arithmetic is
// that of a real model. Plain JavaScript on node: modules alone.
//
//   node scripts/make-random-gguf.mjs FILE [--type Q8_0|Q4_0|Q4_K_M] [--layers N] [--width N] [--feed N] [--heads N] [--kv-heads N]
//                                          [--vocabulary N] [--seed N]
//
// The shape of the defaults has about 0.5 billion parameters. The same options give the same bytes. Exit status: 0 written, 2 wrong usage.
import { closeSync, openSync, writeSync } from 'node:fs'
import { parseArgs } from 'node:util'

const number = value => ({ type: 'string', default: String(value) })
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    type: { type: 'string', default: 'Q8_0' },
    layers: number(16),
    width: number(1536),
    feed: number(4096),
    heads: number(24),
    'kv-heads': number(8),
    vocabulary: number(32000),
    seed: number(1)
  }
})
const TYPES = {
  F32: { id: 0, values: 1, bytes: 4 },
  Q4_0: { id: 2, values: 32, bytes: 18 },
  Q8_0: { id: 8, values: 32, bytes: 34 },
  Q4_K: { id: 12, values: 256, bytes: 144 },
  Q6_K: { id: 14, values: 256, bytes: 210 }
}
// As files have them: more bits for the output; Q4_K_M also for values and the way down in every second layer.
const RECIPES = {
  Q8_0: { most: 'Q8_0', second: 'Q8_0', output: 'Q8_0' },
  Q4_0: { most: 'Q4_0', second: 'Q4_0', output: 'Q8_0' },
  Q4_K_M: { most: 'Q4_K', second: 'Q6_K', output: 'Q6_K' }
}
const recipe = RECIPES[values.type]
const [layers, width, feed, heads, kvHeads, vocabulary, seed] = [
  ...[values.layers, values.width, values.feed, values.heads],
  ...[values['kv-heads'], values.vocabulary, values.seed]
].map(Number)
const whole = [layers, width, feed, heads, kvHeads, vocabulary].every(n => Number.isSafeInteger(n) && n > 0)
if (positionals.length !== 1 || recipe === undefined || !whole || vocabulary < 300 || width % heads !== 0) {
  process.stderr.write(
    'usage: make-random-gguf FILE [--type Q8_0|Q4_0|Q4_K_M] [--layers N] [--width N] [--feed N] [--heads N] [--kv-heads N] [--vocabulary N] [--seed N]\n'
  )
  process.exit(2)
}

const head = width / heads
const tensors = []
const add = (name, type, columns, rows) => tensors.push({ name, type, columns, rows })
add('token_embd.weight', recipe.most, width, vocabulary)
add('output_norm.weight', 'F32', width, 1)
add('output.weight', recipe.output, width, vocabulary)
for (let i = 0; i < layers; i++) {
  const other = i % 2 === 0 ? recipe.second : recipe.most
  const at = name => `blk.${i}.${name}.weight`
  add(at('attn_norm'), 'F32', width, 1)
  add(at('attn_q'), recipe.most, width, heads * head)
  add(at('attn_k'), recipe.most, width, kvHeads * head)
  add(at('attn_v'), other, width, kvHeads * head)
  add(at('attn_output'), recipe.most, heads * head, width)
  add(at('ffn_norm'), 'F32', width, 1)
  add(at('ffn_gate'), recipe.most, width, feed)
  add(at('ffn_up'), recipe.most, width, feed)
  add(at('ffn_down'), other, feed, width)
}

// ---- header ----

const u32 = n => {
  const b = Buffer.alloc(4)
  b.writeUInt32LE(n)
  return b
}
const u64 = n => {
  const b = Buffer.alloc(8)
  b.writeBigUInt64LE(BigInt(n))
  return b
}
const f32 = x => {
  const b = Buffer.alloc(4)
  b.writeFloatLE(x)
  return b
}
const text = s => [u64(Buffer.byteLength(s)), Buffer.from(s)]
const entries = []
const entry = (key, type, ...value) => entries.push([text(key), u32(type), value].flat(2))
entry('general.architecture', 8, ...text('llama'))
entry('general.name', 8, ...text(`random-${values.type}`))
for (const [key, n] of Object.entries({
  'llama.block_count': layers,
  'llama.context_length': 4096,
  'llama.embedding_length': width,
  'llama.feed_forward_length': feed,
  'llama.attention.head_count': heads,
  'llama.attention.head_count_kv': kvHeads,
  'llama.rope.dimension_count': head,
  'llama.vocab_size': vocabulary,
  'general.file_type': { Q8_0: 7, Q4_0: 2, Q4_K_M: 15 }[values.type],
  'general.quantization_version': 2,
  'tokenizer.ggml.bos_token_id': 1,
  'tokenizer.ggml.eos_token_id': 2,
  'tokenizer.ggml.unknown_token_id': 0
}))
  entry(key, 4, u32(n))
entry('llama.attention.layer_norm_rms_epsilon', 6, f32(1e-5))
entry('tokenizer.ggml.model', 8, ...text('llama'))
const tokens = ['<unk>', '<s>', '</s>']
for (let i = 0; i < 256; i++) tokens.push(`<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`)
while (tokens.length < vocabulary) tokens.push(`\u2581t${tokens.length}`)
const kinds = tokens.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1))
entry('tokenizer.ggml.tokens', 9, u32(8), u64(tokens.length), tokens.flatMap(text))
entry(
  'tokenizer.ggml.scores',
  9,
  u32(6),
  u64(tokens.length),
  tokens.map((_, i) => f32(-i))
)
entry('tokenizer.ggml.token_type', 9, u32(5), u64(tokens.length), kinds.map(u32))

const ALIGN = 32
const aligned = n => Math.ceil(n / ALIGN) * ALIGN
let offset = 0
const infos = []
for (const t of tensors) {
  const type = TYPES[t.type]
  if (t.columns % type.values !== 0) throw new Error(`${t.name}: ${t.columns} columns are no whole blocks of ${t.type}`)
  t.bytes = (t.columns / type.values) * type.bytes * t.rows
  const dims = t.rows === 1 ? [t.columns] : [t.columns, t.rows]
  infos.push(...text(t.name), u32(dims.length), ...dims.map(u64), u32(type.id), u64(offset))
  offset = aligned(offset + t.bytes)
}
const start = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(entries.length)]
const parts = [start, entries.flat(), infos].flat()

// ---- data ----

let state = BigInt(seed) * 0x9e3779b97f4a7c15n
const lanes = new Uint32Array(4)
for (let i = 0; i < 4; i++) {
  state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn
  lanes[i] = Number(state >> 32n) | 1
}
let [a, b, c, d] = lanes
/** xoshiro128++: 32 random bits. */
function next() {
  const sum = (a + d) | 0
  const result = (((sum << 7) | (sum >>> 25)) + a) | 0
  const t = b << 9
  c ^= a
  d ^= b
  b ^= c
  a ^= d
  c ^= t
  d = (d << 11) | (d >>> 21)
  return result
}

/** The half nearest below a positive normal number. */
function half(x) {
  const exponent = Math.max(-14, Math.floor(Math.log2(x)))
  return ((exponent + 15) << 10) | Math.floor((x / 2 ** exponent - (exponent === -14 && x < 2 ** -14 ? 0 : 1)) * 1024)
}

function scales(type, view, at, unit) {
  const s = unit * (0.75 + (next() >>> 8) * 2 ** -25)
  if (type === 'Q8_0') view.setUint16(at, half(s / 127), true)
  if (type === 'Q4_0') view.setUint16(at, half(s / 8), true)
  if (type === 'Q6_K') view.setUint16(at + 208, half(s / 4096), true)
  if (type === 'Q4_K') {
    view.setUint16(at, half(s / 480), true)
    view.setUint16(at + 2, half(s / 64), true)
  }
}

const fd = openSync(positionals[0], 'w')
const write = bytes => {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done)
}
const header = Buffer.concat(parts)
write(header)
write(Buffer.alloc(aligned(header.length) - header.length))
for (const t of tensors) {
  const type = TYPES[t.type]
  const bytes = Buffer.alloc(aligned(t.bytes))
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (t.type === 'F32') {
    for (let i = 0; i < t.columns; i++) view.setFloat32(4 * i, 1, true)
  } else {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / 4))
    for (let i = 0; i < words.length; i++) words[i] = next()
    bytes.fill(0, t.bytes)
    const unit = 1 / Math.sqrt(t.columns)
    for (let at = 0; at < t.bytes; at += type.bytes) scales(t.type, view, at, unit)
  }
  write(bytes)
}
closeSync(fd)
