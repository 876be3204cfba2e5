/**
 * Proves that the tokenizers, chat templates and text streams are exact: every tokenization and chat vector of the model fixtures
 * both ways; the scanners against the regular expressions that they stand for; long pieces merged by heap against a plain quadratic
 * program; round trips of random text; user text that never becomes a control token; streamed text equal to the whole text for any
 * cut. Then that hostile vocabularies and templates end in errors or warnings.
 */
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { ChatTemplate, chatPrompt, templateOf } from '../../lib/infer/chat-template.ts'
import { inferAddon } from '../../lib/infer/native.ts'
import { TextStream } from '../../lib/infer/text-stream.ts'
import { type ModelTokenizer, openTokenizer, type TokenizerAddon } from '../../lib/infer/tokenizer.ts'
import { nativePath } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'

const seed = SEED
fc.configureGlobal({ seed })
// A busy machine needs longer than the runner's half minute.
t.setTimeout(120_000)

const fixtures = ['../shared/fixtures', '../../shared/fixtures']
  .map(dir => join(packageRoot(), dir, 'models'))
  .find(dir => existsSync(join(dir, 'vectors.json')))
const built = existsSync(nativePath('infer'))
const noBuild = built ? false : 'no native build here'
const skip =
  noBuild !== false ? noBuild : fixtures === undefined ? 'the model fixtures are not beside the repository' : false

const addon = (): TokenizerAddon => inferAddon()
const opened = new Map<string, ModelTokenizer>()
function fixture(name: string): ModelTokenizer {
  let tokenizer = opened.get(name)
  if (tokenizer === undefined) {
    tokenizer = openTokenizer(addon(), join(fixtures!, name))
    opened.set(name, tokenizer)
  }
  return tokenizer
}

interface Vectors {
  tokenization: { model: string; text: string; special: boolean; tokens: number[]; back?: string | null }[]
  chat: {
    model: string
    messages: { role: string; content: string }[]
    add_generation_prompt: boolean
    tools?: unknown[]
    text?: string
    tokens?: number[]
    error?: string
  }[]
}
const vectors = (): Vectors => JSON.parse(readFileSync(join(fixtures!, 'vectors.json'), 'utf8'))

/** The expressions of inference.md section 5, `\s` as the property that other engines mean by it. */
const EXPRESSIONS: Record<string, string> = (() => {
  const any = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
  const s = '\\p{White_Space}'
  const gap = `${s}+(?!\\P{White_Space})|${s}+`
  const other = `[^${s}\\p{L}\\p{N}]+`
  const llama = (digits: string): string =>
    `${any}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?${other}[\\r\\n]*|${s}*[\\r\\n]+|${gap}`
  const high = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]'
  const low = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'
  const cased = (more: string, digits: string): string =>
    `[^\\r\\n\\p{L}\\p{N}]?${high}*${low}+${more}|[^\\r\\n\\p{L}\\p{N}]?${high}+${low}*${more}|${digits}| ?${other}[\\r\\n/]*|${s}*[\\r\\n]+|${gap}`
  const gpt2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?${other}|${gap}`
  return {
    'gpt-2': gpt2,
    'llama-bpe': llama('\\p{N}{1,3}'),
    qwen2: llama('\\p{N}'),
    tekken: cased('', '\\p{N}'),
    'gpt-4o': cased(`(?:${any})?`, '\\p{N}{1,3}'),
    smollm: gpt2
  }
})()

function split(pre: string, text: string): string[] {
  const pattern = new RegExp(EXPRESSIONS[pre]!, 'gu')
  if (pre !== 'smollm') return text.match(pattern) ?? []
  return text.split(/(\p{N})/u).flatMap(part => (/^\p{N}$/u.test(part) ? [part] : (part.match(pattern) ?? [])))
}

/** A GGUF file of metadata alone. Values: strings, numbers (u32), booleans, lists of strings, {f32} and {i32} lists. */
type Meta = string | number | boolean | (string | Uint8Array)[] | { f32: number[] } | { i32: number[] }
function gguf(meta: Record<string, Meta>): Uint8Array {
  const parts: Buffer[] = []
  const u32 = (n: number): void => {
    const b = Buffer.alloc(4)
    b.writeUInt32LE(n)
    parts.push(b)
  }
  const u64 = (n: number): void => {
    const b = Buffer.alloc(8)
    b.writeBigUInt64LE(BigInt(n))
    parts.push(b)
  }
  const str = (x: string | Uint8Array): void => {
    const b = Buffer.from(x as string)
    u64(b.length)
    parts.push(b)
  }
  parts.push(Buffer.from('GGUF'))
  u32(3)
  u64(0)
  u64(Object.keys(meta).length)
  for (const [key, value] of Object.entries(meta)) {
    str(key)
    if (typeof value === 'string') {
      u32(8)
      str(value)
    } else if (typeof value === 'number') {
      u32(4)
      u32(value)
    } else if (typeof value === 'boolean') {
      u32(7)
      parts.push(Buffer.from([value ? 1 : 0]))
    } else if (Array.isArray(value)) {
      u32(9)
      u32(8)
      u64(value.length)
      for (const x of value) str(x)
    } else {
      const floats = 'f32' in value
      const list = floats ? value.f32 : value.i32
      u32(9)
      u32(floats ? 6 : 5)
      u64(list.length)
      const b = Buffer.alloc(4 * list.length)
      list.forEach((x, i) => {
        if (floats) b.writeFloatLE(x, 4 * i)
        else b.writeInt32LE(x, 4 * i)
      })
      parts.push(b)
    }
  }
  return Buffer.concat(parts)
}

const dir = await mkdtemp(join(tmpdir(), 'zg-tokenizer-'))
t.teardown(() => rm(dir, { recursive: true, force: true }))
let files = 0
async function open(meta: Record<string, Meta>): Promise<ModelTokenizer> {
  const path = join(dir, `${files++}.gguf`)
  await writeFile(path, gguf(meta))
  return openTokenizer(addon(), path)
}

/** Bytes as byte-level BPE writes them. */
const PRINTABLE = (() => {
  const out: string[] = []
  let next = 0x100
  for (let b = 0; b < 256; b++) {
    const plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174
    out.push(String.fromCodePoint(plain ? b : next++))
  }
  return out
})()

/** A vocabulary of all bytes, merges among letters that overlap in many ways, and control tokens. */
function bpe(pre: string, merges: string[] = []): Record<string, Meta> {
  const tokens = [
    ...PRINTABLE,
    ...new Set(merges.map(m => m.replace(' ', ''))),
    '<|im_start|>',
    '<|im_end|>',
    '<think>'
  ]
  const types = tokens.map(x => (/^<\|im_(start|end)\|>$/.test(x) ? 3 : x === '<think>' ? 4 : 1))
  return {
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': pre,
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.token_type': { i32: types },
    'tokenizer.ggml.merges': merges
  }
}
const MERGES = [
  'a a',
  'a b',
  'aa aa',
  'b a',
  'ab ab',
  'aa b',
  'c c',
  'cc a',
  'aaaa aaaa',
  'ba ba',
  'aab aab',
  'Ġ a',
  'Ġa b'
]

/** Merging as its definition says: the whole list again for every merge. */
function plainMerge(word: string, merges: string[]): string[] {
  let symbols = [...Buffer.from(word)].map(b => PRINTABLE[b]!)
  for (;;) {
    let best = -1
    let rank = Number.POSITIVE_INFINITY
    for (let i = 0; i + 1 < symbols.length; i++) {
      const r = merges.indexOf(`${symbols[i]} ${symbols[i + 1]}`)
      if (r >= 0 && r < rank) [best, rank] = [i, r]
    }
    if (best < 0) return symbols
    symbols = [...symbols.slice(0, best), symbols[best]! + symbols[best + 1]!, ...symbols.slice(best + 2)]
  }
}

const text = fc.string({ unit: 'binary', maxLength: 200 })
/** Text of characters that the scanners tell apart. */
const lumps = [
  ' ',
  '  ',
  '\n',
  '\r\n',
  '\t',
  "'",
  "'s",
  "'LL",
  "'re",
  'a',
  'B',
  'Ab',
  'é',
  'ǅ',
  'ʰ',
  '一',
  'ا',
  '\u0301',
  '1',
  '12345'
]
lumps.push(
  '²',
  '!',
  '//',
  '...',
  '\u00a0',
  '\u3000',
  '\u0085',
  '\u2028',
  '\ufeff',
  '😀',
  '👩‍👩‍👧',
  '\u0000',
  '<',
  '|>',
  '\u{10ffff}'
)
const lumpy = fc.array(fc.constantFrom(...lumps), { maxLength: 40 }).map(x => x.join(''))

t.test('all tokenization vectors are equal, both ways', { skip }, async t => {
  const { tokenization } = vectors()
  t.ok(tokenization.length >= 172, `${tokenization.length} vectors`)
  for (const v of tokenization) {
    const tokenizer = fixture(v.model)
    const name = `${v.model} ${v.special} ${JSON.stringify(v.text.slice(0, 40))}`
    const ids = [...tokenizer.encode(v.text, v.special)]
    if (JSON.stringify(ids) !== JSON.stringify(v.tokens)) t.same(ids, v.tokens, name)
    if (v.back === undefined || v.back === null) continue
    // Two answers lost a space to another engine's clean-up of text.
    const want = v.text.startsWith('function f(a, b)') ? v.text : v.back
    if (tokenizer.decode(v.tokens) !== want) t.equal(tokenizer.decode(v.tokens), want, `${name} back`)
  }
})

t.test('all chat vectors are equal in text and tokens', { skip }, async t => {
  const { chat } = vectors()
  t.ok(chat.length >= 16, `${chat.length} vectors`)
  for (const v of chat) {
    const tokenizer = fixture(v.model)
    const template = templateOf(tokenizer)
    const options = { tools: v.tools, addGenerationPrompt: v.add_generation_prompt }
    if (v.error !== undefined) {
      t.throws(() => chatPrompt(tokenizer, template, v.messages, options), { code: 'ERR_BAD_INPUT' }, v.model)
      continue
    }
    const rendered = template.render(v.messages, options)
    t.equal(rendered, v.text, v.model)
    t.same([...tokenizer.encode(rendered, true)], v.tokens, `${v.model}: the whole text, control tokens by name`)
    t.same([...chatPrompt(tokenizer, template, v.messages, options)], v.tokens, `${v.model}: guarded`)
  }
})

t.test('what the vocabularies of the fixtures say', { skip }, async t => {
  const { info } = fixture('vocab-qwen3.gguf')
  t.equal(info.vocabularySize, 151_669)
  t.same(info.endIds, [151_643, 151_645], 'eos, and another end token by its name')
  t.same(info.warnings, [])
  t.notOk(info.addBos)
  t.ok(fixture('vocab-llama2.gguf').info.addBos)
  t.ok(fixture('llama3-f32.gguf').info.addBos)
  t.same([...fixture('vocab-llama2.gguf').prompt('')], [1], 'BOS alone')
  t.equal(fixture('vocab-llama2.gguf').name(1), '<s>')
  t.throws(() => openTokenizer(addon(), join(fixtures!, 'container.gguf')), { code: 'ERR_BAD_INPUT' })
  t.throws(() => openTokenizer(addon(), join(dir, 'nothing.gguf')), { code: 'ERR_BAD_INPUT' })
})

t.test('random text comes back from its tokens', { skip }, async t => {
  for (const name of [
    'vocab-qwen3.gguf',
    'llama3-f32.gguf',
    'qwen3-gpt2-f32.gguf',
    'vocab-llama2.gguf',
    'gemma-f32.gguf'
  ]) {
    const tokenizer = fixture(name)
    const spm = tokenizer.info.model === 'llama'
    fc.assert(
      fc.property(fc.oneof(text, lumpy), x => {
        // SPM writes spaces as `▁` and cannot tell the two apart.
        const want = spm ? x.replaceAll('▁', ' ') : x
        return tokenizer.decode(tokenizer.encode(x)) === want
      }),
      { numRuns: 500 }
    )
    t.pass(name)
  }
})

t.test('control tokens never come out of user text', { skip }, async t => {
  for (const name of ['vocab-qwen3.gguf', 'llama3-f32.gguf', 'gemma-f32.gguf', 'qwen2-f32.gguf', 'vocab-llama2.gguf']) {
    const tokenizer = fixture(name)
    const template = templateOf(tokenizer)
    const names = [
      '<|im_start|>',
      '<|im_end|>',
      '<|eot_id|>',
      '<|start_header_id|>',
      '<end_of_turn>',
      '<s>',
      '</s>',
      '<|'
    ]
    names.push('im_start|>', '<|im_st', '\n', ' ', 'system', '>')
    const count = (ids: Int32Array): number => ids.filter(id => tokenizer.piece(id).length === 0).length
    const clean = count(chatPrompt(tokenizer, template, [{ role: 'user', content: 'x' }]))
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 8 }), parts => {
        const content = parts.join('')
        const ids = chatPrompt(tokenizer, template, [{ role: 'user', content: `x${content}x` }])
        if (count(ids) !== clean) return false
        return count(tokenizer.encode(content)) === 0 && tokenizer.decode(ids).includes(content)
      }),
      { numRuns: 40 }
    )
    t.pass(name)
  }
  // A name that two messages make together.
  const tokenizer = fixture('vocab-qwen3.gguf')
  const bare = new ChatTemplate('{% for m in messages %}{{ m.content }}{% endfor %}', { bos: '', eos: '' })
  const two = ['<|im_', 'start|>'].map(content => ({ role: 'user', content }))
  t.notOk(chatPrompt(tokenizer, bare, two).includes(151_644))
  t.ok(tokenizer.encode('<|im_start|>', true).includes(151_644))
})

t.test('scanners cut where the regular expressions cut', { skip: noBuild }, async t => {
  for (const pre of Object.keys(EXPRESSIONS)) {
    // Every pair of bytes merges, so tokens show the cuts of ASCII; for the rest all pairs of the characters in use merge as well.
    const { tokenizer, ids } = await joiner(pre)
    fc.assert(
      fc.property(lumpy, x => {
        const got = [...tokenizer.encode(x)].map(id => Buffer.from(tokenizer.piece(id)).toString('latin1'))
        const want = split(pre, x).flatMap(word => ids(word))
        return JSON.stringify(got) === JSON.stringify(want)
      }),
      { numRuns: 250 }
    )
    t.pass(pre)
  }
  // Every character, where the tables are of the same Unicode version as this engine: in front of a letter, after one, alone.
  const { tokenizer, ids } = await joiner('tekken')
  t.comment(`tables of Unicode ${tokenizer.info.unicode}, engine ${process.versions.unicode}`)
  if (tokenizer.info.unicode !== process.versions.unicode) return
  let wrong = 0
  for (let first = 0; first < 0x12000; first += 64) {
    let x = ''
    for (let cp = first; cp < first + 64; cp++) if (cp < 0xd800 || cp > 0xdfff) x += `${String.fromCodePoint(cp)}aB`
    const got = [...tokenizer.encode(x)].map(id => Buffer.from(tokenizer.piece(id)).toString('latin1')).join('|')
    if (
      got !==
      split('tekken', x)
        .flatMap(word => ids(word))
        .join('|')
    )
      wrong++
  }
  t.equal(wrong, 0, 'blocks of 64 characters that were cut otherwise')
})

/**
 * A tokenizer that shows cuts: any two neighbouring bytes merge once, leftmost first, so a piece of n bytes gives tokens of two
 * bytes and, for odd n, one of one byte at its end. A cut at another place shifts the pairs.
 */
async function joiner(pre: string): Promise<{ tokenizer: ModelTokenizer; ids: (word: string) => string[] }> {
  const bytes = [...new Set(Buffer.from(lumps.join('')))].map(b => PRINTABLE[b]!)
  const merges = bytes.flatMap(a => bytes.map(b => `${a} ${b}`))
  const tokenizer = await open(bpe(pre, merges))
  const order = new Map(merges.map((m, i) => [m, i]))
  const known = new Map<string, string[]>()
  const ids = (word: string): string[] => {
    const before = known.get(word)
    if (before !== undefined) return before
    const fresh = merged(word)
    known.set(word, fresh)
    return fresh
  }
  const merged = (word: string): string[] => {
    let symbols = [...Buffer.from(word)].map(b => PRINTABLE[b]!)
    for (;;) {
      let best = -1
      let rank = Number.POSITIVE_INFINITY
      for (let i = 0; i + 1 < symbols.length; i++) {
        const r = order.get(`${symbols[i]} ${symbols[i + 1]}`)
        if (r !== undefined && r < rank) [best, rank] = [i, r]
      }
      if (best < 0) break
      symbols = [...symbols.slice(0, best), symbols[best]! + symbols[best + 1]!, ...symbols.slice(best + 2)]
    }
    return symbols.map(s => [...s].map(c => String.fromCharCode(PRINTABLE.indexOf(c))).join(''))
  }
  return { tokenizer, ids }
}

t.test('long pieces merge as short ones do', { skip: noBuild }, async t => {
  const tokenizer = await open(bpe('gpt-2', MERGES))
  const letters = fc
    .array(fc.constantFrom('a', 'b', 'c', 'aa', 'aab'), { minLength: 1, maxLength: 120 })
    .map(x => x.join(''))
  fc.assert(
    fc.property(letters, word => {
      const got = [...tokenizer.encode(word)].map(id => Buffer.from(tokenizer.piece(id)).toString())
      return JSON.stringify(got) === JSON.stringify(plainMerge(word, MERGES))
    }),
    { numRuns: 150 }
  )
  t.equal(tokenizer.decode(tokenizer.encode('a'.repeat(1_000_000))).length, 1_000_000)
  t.throws(() => tokenizer.encode('a'.repeat(17 * 1024 * 1024)), { code: 'ERR_BAD_INPUT' }, 'bounded')
})

t.test('hostile vocabularies end in errors or warnings', { skip: noBuild }, async t => {
  const spm = (
    tokens: (string | Uint8Array)[],
    types: number[],
    more: Record<string, Meta> = {}
  ): Record<string, Meta> => ({
    'tokenizer.ggml.model': 'llama',
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.token_type': { i32: types },
    'tokenizer.ggml.scores': { f32: tokens.map((_, i) => -i) },
    ...more
  })
  const bad: [string, Record<string, Meta>][] = [
    ['unknown kind', { ...bpe('gpt-2'), 'tokenizer.ggml.model': 'wordy' }],
    ['unknown pre-tokenizer', bpe('nobody')],
    ['scores shorter than tokens', { ...spm(['a', 'b'], [1, 1]), 'tokenizer.ggml.scores': { f32: [0] } }],
    ['a score that is no number', { ...spm(['a', 'b'], [1, 1]), 'tokenizer.ggml.scores': { f32: [0, Number.NaN] } }],
    ['types shorter than tokens', spm(['a', 'b'], [1])],
    ['a type that is none', spm(['a', 'b'], [1, 7])],
    ['an id beyond the vocabulary', spm(['a', 'b'], [1, 1], { 'tokenizer.ggml.bos_token_id': 2 })],
    ['an end id beyond the vocabulary', spm(['a', 'b'], [1, 1], { 'tokenizer.ggml.eot_token_id': 4_294_967_295 })],
    ['an id of another kind', spm(['a', 'b'], [1, 1], { 'tokenizer.ggml.eos_token_id': 'b' })],
    ['no tokens', spm([], [])],
    ['tokens of another kind', { ...spm(['a'], [1]), 'tokenizer.ggml.tokens': 'a' }],
    ['merges of another kind', { ...bpe('gpt-2'), 'tokenizer.ggml.merges': { i32: [1] } }],
    ['scores of another kind', { ...spm(['a'], [1]), 'tokenizer.ggml.scores': ['x'] }]
  ]
  for (const [name, meta] of bad) await t.rejects(open(meta), { code: 'ERR_BAD_INPUT' }, name)

  const odd = await open(spm(['<unk>', '<0xGG>', '<0x4>', '<0xff>', '<0x41>', '▁'], [2, 6, 6, 6, 6, 1]))
  t.match(odd.info.warnings.join('\n'), /3 byte tokens are not named <0xXX>/)
  t.same([...odd.encode('AB')], [5, 4, 0], 'a byte token, and unknown for what has none')
  t.equal(odd.piece(1).length, 0)
  t.equal(odd.piece(6).length, 0, 'beyond the vocabulary')
  t.equal(odd.piece(-1).length, 0)
  t.equal(odd.decode([2 ** 31 - 1, -5, 4]), 'A')

  const merges = ['a b', 'x', ' ', 'a \u{1f600}', 'zz a', 'a b', '']
  const half = await open({ ...bpe('gpt-2', ['a b']), 'tokenizer.ggml.merges': merges })
  t.match(half.info.warnings.join('\n'), /5 of 7 merges/)
  t.equal(half.encode('ab').length, 1)

  // Control names that merging could give, names of all sizes, bytes that are no UTF-8.
  const control = await open({
    ...bpe('gpt-2', ['< s', '<s >']),
    'tokenizer.ggml.token_type': { i32: Array(261).fill(3) }
  })
  t.same([...control.encode('<s>')], [], 'a vocabulary of control tokens writes nothing')
  const wild = await open(
    spm(['<unk>', new Uint8Array([0xff, 0xfe]), '', 'a'.repeat(100_000), 'a', 'aa', 'aaa'], [2, 1, 1, 4, 3, 3, 4])
  )
  t.equal(wild.encode('aaaa'.repeat(50), true).length > 0, true)
  t.equal(wild.decode(wild.encode('aaaaaa', false)), 'aaaaaa', 'user-defined tokens count in all text')
  t.match((await open({ ...bpe('default') })).info.warnings.join(), /names no pre-tokenizer/)
})

t.test('templates are bounded and refuse in words', { skip: noBuild }, async t => {
  const none = { bos: '', eos: '' }
  const user = [{ role: 'user', content: 'x' }]
  const render = (source: string): string => new ChatTemplate(source, none).render(user)
  const doubling = (start: string): string =>
    `{% set n = namespace(s=${start}) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s|length }}`
  for (const [source, message] of [
    ['{{ raise_exception("no pictures") }}', /refuses the conversation: no pictures/],
    ['{% if %}', /cannot be compiled/],
    ['{% for i in range(99999999) %}x{% endfor %}', /more than 100000/],
    ['{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}', /longer than 1000 ms/],
    [doubling('"aaaaaaaa"'), /a text of more than/],
    [doubling('["a"]'), /a list of more than/],
    ['{{ "".constructor.constructor("return process")() }}', /not a function/],
    ['{{ messages[0].nothing.at.all() }}', /./],
    [`{# ${'x'.repeat(300_000)} #}`, /more than 262144 bytes/]
  ] as const) {
    t.throws(() => render(source), { code: 'ERR_BAD_INPUT', message }, source.slice(0, 60))
  }
  const dated = new ChatTemplate('{{ strftime_now("%d %b %Y %-d %q") }}', none)
  t.equal(dated.render(user, { now: new Date(Date.UTC(2026, 0, 2)) }), '02 Jan 2026 2 %q')
  t.throws(() => dated.render(user, { extra: { range: 1 } }), { code: 'ERR_BAD_INPUT' })
  t.equal(new ChatTemplate(undefined, none).render(user), 'User: x\nAssistant:')
  t.match(new ChatTemplate(undefined, { ...none, chatml: true }).render(user), /^<\|im_start\|>user\nx<\|im_end\|>\n/)
})

t.test('streamed text is the whole text cut before the first stop string', async t => {
  const bytes = fc.uint8Array({ maxLength: 60 })
  const some = fc.oneof(
    bytes,
    fc.string({ unit: 'grapheme', maxLength: 30 }).map(x => new TextEncoder().encode(x)),
    abc()
  )
  const stops = fc.array(fc.oneof(fc.stringMatching(/^[abc]{1,4}$/), fc.constantFrom('é', '😀', '\n\n')), {
    maxLength: 4
  })
  fc.assert(
    fc.property(fc.array(some, { maxLength: 8 }), stops, (pieces, stops) => {
      const stream = new TextStream(stops)
      let got = ''
      for (const piece of pieces) {
        const part = stream.push(piece)
        got += part
        if (stream.stopped !== undefined) break
      }
      got += stream.finish()
      const [want, stop] = reference(Buffer.concat(pieces), stops)
      return got === want && stream.stopped === stop
    }),
    { numRuns: 3_000 }
  )
  const face = new TextEncoder().encode('😀')
  const stream = new TextStream(['###'])
  t.equal(stream.push(face.subarray(0, 2)), '')
  t.equal(stream.push(face.subarray(2)), '😀')
  t.equal(stream.push(Buffer.from('a#')), 'a')
  t.equal(stream.push(Buffer.from('b##')), '#b')
  t.equal(stream.finish(), '##')
  t.equal(new TextStream().push(Buffer.from([0xf0, 0x9f, 0x41])), '\ufffdA', 'one sign for one bad part, at once')
})

function abc(): fc.Arbitrary<Uint8Array> {
  return fc.stringMatching(/^[abc]{0,6}$/).map(x => new TextEncoder().encode(x))
}

/** The stop string that is complete first, of those the longest; the text before it. */
function reference(all: Buffer, stops: string[]): [string, string | undefined] {
  const decode = (b: Buffer): string => new TextDecoder('utf-8', { ignoreBOM: true }).decode(b)
  for (let end = 1; end <= all.length; end++) {
    const [stop] = stops
      .filter(s => s !== '' && all.subarray(0, end).toString('latin1').endsWith(Buffer.from(s).toString('latin1')))
      .sort((a, b) => Buffer.byteLength(b) - Buffer.byteLength(a))
    if (stop !== undefined) return [decode(all.subarray(0, end - Buffer.byteLength(stop))), stop]
  }
  return [decode(all), undefined]
}
