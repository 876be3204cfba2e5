/**
 * Proves that the trainer's derivatives are right (finite differences, in double, on every level of SIMD), that training lowers
 * the loss and gives the same bytes for a seed whatever the threads and interruptions, that its files are refused when damaged,
 * and that the model file it writes, the embedded one included, is the same model to the engine: ids, logits, and English words.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { openEngine } from '../../lib/infer/engine.ts'
import { inferAddon } from '../../lib/infer/native.ts'
import { nativePath } from '../../lib/native.ts'

const sources = join(packageRoot(), 'native', 'infer', 'train')
const moduleOf = (name: string): Promise<any> => import(pathToFileURL(join(sources, name)).href)
const noCompiler = spawnSync(process.env.CXX ?? 'c++', ['--version']).status === 0 ? false : 'no C++ compiler here'
const noEngine = statSync(nativePath('infer'), { throwIfNoEntry: false }) === undefined ? 'no native build here' : false
const seed = Date.now() % 2 ** 31
t.comment(`seed ${seed}`)
// Compiling takes 15 s of processor time: 8 s on two free cores, a minute on a busy machine.
t.setTimeout(240_000)

const EMBEDDED = join(packageRoot(), 'share', 'models', 'tiny-zg.gguf')
/** In units of the logits' standard deviation: float sums of another order. Seen: 5e-6. */
const TOLERANCE = 2e-5
/** What rounding activations to 8 bits may cost where the model is served. Seen: 0.08. */
const SERVED_TOLERANCE = 0.15

interface Vocabulary {
  tokens: string[]
  types: number[]
  merges: [number, number][]
}

let folder = ''
let program = ''
const file = (name: string): string => join(folder, name)

interface Run {
  status: number | null
  lines: any[]
  stderr: string
}

function trainer(...words: string[]): Run {
  const run = spawnSync(program, words, { encoding: 'utf8', maxBuffer: 1 << 26 })
  return {
    status: run.status,
    lines: run.stdout
      .split('\n')
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line)),
    stderr: run.stderr
  }
}

/** A text of made-up sentences, the same for a seed: enough structure to learn in 20 steps. */
function toyText(from: number): string[][] {
  let state = from
  const pick = (words: string[]): string => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return words[(state >>> 16) % words.length]!
  }
  const sentence = (): string =>
    `The ${pick(['old', 'grey', 'tall'])} ${pick(['ship', 'whale', 'captain'])} ${pick(['sailed', 'went', 'looked'])} to the ${pick(['sea', 'north', 'café'])}.`
  return Array.from({ length: 8 }, () => Array.from({ length: 12 }, () => `${sentence()} ${sentence()}`))
}

const SHAPE = '--width 32 --layers 2 --heads 2 --kv-heads 1 --hidden 64 --context 64 --batch 6 --rate 1e-2 --warmup 4'
const toyRun = (out: string, ...more: string[]): Run =>
  trainer('train', '--tokens', file('toy.bin'), '--out', file(out), '--steps', '20', ...SHAPE.split(' '), ...more)
const digest = (name: string): string =>
  createHash('sha256')
    .update(readFileSync(file(name)))
    .digest('hex')

t.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zg-train-'))
})
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

t.test(
  'the trainer builds without warnings and its derivatives are those of finite differences',
  { skip: noCompiler },
  async t => {
    program = await (await moduleOf('build.mjs')).buildTrainer(folder)
    const { status, lines } = trainer('check', '--seed', String(seed))
    t.equal(status, 0)
    t.ok(lines[0].levels.length >= 1)
    for (const level of lines[0].levels) {
      t.ok(level.ok, `${level.level}: ${JSON.stringify(level)}`)
      t.ok(level.finite_difference_error > 0 && level.finite_difference_error < 1e-6, `${level.level} in double`)
      t.ok(level.float_error > 0 && level.float_error < 2e-5, `${level.level} in float`)
    }
  }
)

t.test('training on a toy text', { skip: noCompiler }, async t => {
  const { makeCorpus, metadataLines } = await moduleOf('corpus.mjs')
  const sets = [{ name: 'toy', weight: 1, training: toyText(seed), heldOut: toyText(seed + 1).slice(0, 2) }]
  const { vocabulary, file: tokens } = makeCorpus(sets, 320) as { vocabulary: Vocabulary; file: Uint8Array }
  writeFileSync(file('toy.bin'), tokens)

  t.test('20 steps lower the loss of training and of held-out text', async t => {
    const { status, lines } = toyRun('one.bin', '--threads', '1', '--log-every', '1', '--check-every', '1')
    t.equal(status, 0)
    const losses = lines.filter(l => l.event === 'step').map(l => l.loss)
    t.equal(losses.length, 20)
    t.ok(Math.abs(losses[0] - Math.log(vocabulary.tokens.length)) < 0.5, `starts near chance: ${losses[0]}`)
    t.ok(losses[19] < losses[0] - 1, `${losses[0]} to ${losses[19]}`)
    const heldOut = lines.filter(l => l.event === 'validation').map(l => l.sets[0].nats_per_token)
    t.ok(heldOut.at(-1) < heldOut[0] - 1, `${heldOut[0]} to ${heldOut.at(-1)}`)
  })

  t.test('a seed gives the same bytes with other threads and across an interruption, another seed others', async t => {
    t.equal(toyRun('three.bin', '--threads', '3').status, 0)
    t.equal(digest('three.bin'), digest('one.bin'))
    t.equal(toyRun('halves.bin', '--threads', '2', '--stop-after', '9').status, 0)
    t.not(digest('halves.bin'), digest('one.bin'))
    const { lines } = toyRun('halves.bin', '--threads', '2', '--resume')
    t.equal(lines[0].step, 9)
    t.equal(digest('halves.bin'), digest('one.bin'))
    t.equal(digest('halves.bin.adam'), digest('one.bin.adam'))
    toyRun('other.bin', '--threads', '2', '--seed', '2')
    t.not(digest('other.bin'), digest('one.bin'))
  })

  t.test('damaged files and wrong arguments are refused', async t => {
    const model = readFileSync(file('one.bin'))
    const moments = readFileSync(file('one.bin.adam'))
    const spoil = (name: string, bytes: Uint8Array): string => {
      writeFileSync(file(name), bytes)
      return file(name)
    }
    const refused = (status: number, pattern: RegExp, ...words: string[]): void => {
      const run = trainer(...words)
      t.equal(run.status, status, words.join(' '))
      t.match(run.stderr, pattern)
    }
    const changed = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
      const copy = Uint8Array.from(bytes)
      copy[at] = value
      return copy
    }
    const evaluate = (path: string): string[] => ['evaluate', '--checkpoint', path, '--tokens', file('toy.bin')]
    refused(1, /cut short/, ...evaluate(spoil('cut.bin', model.subarray(0, -4))))
    refused(1, /not a checkpoint/, ...evaluate(spoil('magic.bin', changed(model, 0, 0))))
    refused(1, /./, ...evaluate(spoil('shape.bin', changed(model, 16, 33))))
    for (const [what, bytes] of [
      ['cut short', tokens.subarray(0, -2)],
      ['after the end', Buffer.concat([tokens, Buffer.alloc(2)])],
      ['vocabulary', changed(changed(tokens, 12, 10), 13, 0)]
    ] as const) {
      const path = spoil('bad-tokens.bin', bytes)
      refused(1, new RegExp(what), 'train', '--tokens', path, '--out', file('no.bin'), ...SHAPE.split(' '))
    }
    spoil('mixed.bin', model)
    spoil('mixed.bin.adam', changed(moments, 80, moments[80]! ^ 1))
    refused(1, /another step/, 'train', '--tokens', file('toy.bin'), '--out', file('mixed.bin'), '--resume')
    refused(1, /cannot open/, 'train', '--tokens', file('absent.bin'), '--out', file('no.bin'))
    refused(64, /unknown option --stepz/, 'train', '--tokens', file('toy.bin'), '--out', file('no.bin'), '--stepz', '1')
    refused(64, /usage/)
    refused(64, /heads do not divide/, 'train', '--tokens', file('toy.bin'), '--out', file('no.bin'), '--heads', '7')
  })

  t.test('the model file is the same model to the engine', { skip: noEngine }, async t => {
    const entries = {
      'general.name': 'toy',
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'gpt-2',
      'tokenizer.ggml.bos_token_id': 0,
      'tokenizer.ggml.eos_token_id': 1
    }
    writeFileSync(file('metadata.txt'), metadataLines(vocabulary, entries))
    const words = ['--checkpoint', file('one.bin'), '--metadata', file('metadata.txt'), '--out', file('toy.gguf')]
    t.equal(trainer('export', ...words).status, 0)
    const apart = await compare(file('toy.gguf'), [0, ...encode(vocabulary, 'The old captain')])
    t.ok(apart.exact < TOLERANCE && apart.served < SERVED_TOLERANCE, JSON.stringify(apart))
    // What the checkpoint gives with rounded matrices is what the file gives.
    const prompt = ['--prompt', '0,5,9']
    const rounded = trainer('logits', '--checkpoint', file('one.bin'), '--quantized', ...prompt).lines[0].logits
    t.strictSame(trainer('logits', '--model', file('toy.gguf'), ...prompt).lines[0].logits, rounded)
    t.notSame(trainer('logits', '--checkpoint', file('one.bin'), ...prompt).lines[0].logits, rounded)
  })
})

const { encoderOf } = await moduleOf('vocabulary.mjs')
const encode = (vocabulary: Vocabulary, text: string): number[] => encoderOf(vocabulary)(text)

/** The same model with matrices of floats: each value is the one its block stands for. */
async function widened(path: string): Promise<string> {
  const bytes = readFileSync(path)
  const { tensors, alignment } = await inferAddon().readGguf(path)
  const stringOf = (text: string): Buffer => {
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)))
    return Buffer.concat([length, Buffer.from(text)])
  }
  const infos: Buffer[] = []
  const data: Buffer[] = []
  let at = 0
  for (const { name, type, dims, offset, bytes: size } of tensors) {
    const raw = bytes.subarray(offset, offset + size)
    const body = type === 'F32' ? raw : Buffer.from(inferAddon().dequantize(Q8_0, raw).buffer)
    const numbers = Buffer.alloc(4 + 8 * dims.length + 12)
    numbers.writeUInt32LE(dims.length)
    dims.forEach((d, i) => {
      numbers.writeBigUInt64LE(BigInt(d), 4 + 8 * i)
    })
    numbers.writeBigUInt64LE(BigInt(at), 8 + 8 * dims.length)
    infos.push(stringOf(name), numbers)
    const padding = Buffer.alloc((alignment - (body.length % alignment)) % alignment)
    data.push(body, padding)
    at += body.length + padding.length
  }
  const head = Buffer.concat([bytes.subarray(0, bytes.indexOf(stringOf(tensors[0]!.name))), ...infos])
  const out = file(`wide-${basename(path)}`)
  writeFileSync(out, Buffer.concat([head, Buffer.alloc((alignment - (head.length % alignment)) % alignment), ...data]))
  return out
}

const Q8_0 = 8

/**
 * Largest differences between the trainer's logits and the engine's after a prompt, in standard deviations of the logits: with the file's
 * values in float arithmetic throughout, and as the file is served.
 */
async function compare(path: string, ids: number[]): Promise<{ exact: number; served: number }> {
  const { status, lines } = trainer('logits', '--model', path, '--prompt', ids.join(','))
  const ours: number[] = lines[0]?.logits ?? []
  if (status !== 0 || ours.length === 0) throw new Error('the trainer gave no logits')
  const mean = ours.reduce((sum, x) => sum + x, 0) / ours.length
  const spread = Math.sqrt(ours.reduce((sum, x) => sum + (x - mean) ** 2, 0) / ours.length)
  const apart = async (model: string, floatCache: boolean): Promise<number> => {
    const engine = await openEngine(model, { threads: 1 })
    try {
      const all = await engine.evaluate(Int32Array.from(ids), { floatCache })
      const theirs = all.subarray(all.length - ours.length)
      return Math.max(...ours.map((x, i) => Math.abs(x - theirs[i]!))) / spread
    } finally {
      await engine.close()
    }
  }
  return { exact: await apart(await widened(path), true), served: await apart(path, false) }
}

t.test('the embedded model', { skip: noEngine }, async t => {
  const engine = await openEngine(EMBEDDED, { threads: 1 })
  t.teardown(() => engine.close())

  t.test('is small, says what it is, and needs no excuses', async t => {
    t.ok(statSync(EMBEDDED).size <= 4 * 1024 * 1024)
    t.match(engine.info, { name: 'tiny-zg', architecture: 'llama', contextLength: 512, vocabularySize: 2048 })
    t.ok(engine.info.parameters >= 1e6 && engine.info.parameters <= 2e6, `${engine.info.parameters} parameters`)
    t.strictSame(engine.warnings, [])
    const sheet = readFileSync(join(packageRoot(), 'share', 'models', 'README.md'), 'utf8')
    t.ok(
      sheet.includes(createHash('sha256').update(readFileSync(EMBEDDED)).digest('hex')),
      'its digest is in the README'
    )
  })

  t.test('has one vocabulary: the encoder of the training text and the engine give the same ids', async t => {
    const vocabulary: Vocabulary = { tokens: [], types: [], merges: [] }
    for (let id = 0; id < engine.info.vocabularySize; id++) {
      vocabulary.tokens.push(Buffer.from(engine.tokenizer.piece(id, true)).toString('latin1'))
    }
    // Merges follow from the tokens' order: each token after the bytes is the join of two earlier ones, found by encoding it.
    const idOf = new Map(vocabulary.tokens.map((bytes, id) => [bytes, id]))
    for (let id = 258; id < vocabulary.tokens.length; id++) {
      const bytes = vocabulary.tokens[id]!
      let parts = [...bytes].map(b => idOf.get(b)!)
      while (parts.length > 2) {
        let best = Number.POSITIVE_INFINITY
        for (let i = 0; i + 1 < parts.length; i++) {
          const joined = idOf.get(vocabulary.tokens[parts[i]!]! + vocabulary.tokens[parts[i + 1]!]!)
          if (joined !== undefined && joined < id) best = Math.min(best, joined)
        }
        const at = parts.findIndex(
          (p, i) =>
            i + 1 < parts.length &&
            vocabulary.tokens[p]! + vocabulary.tokens[parts[i + 1]!]! === vocabulary.tokens[best]
        )
        if (at < 0) throw new Error(`token ${id} is no join of earlier ones`)
        parts = [...parts.slice(0, at), best, ...parts.slice(at + 2)]
      }
      vocabulary.merges.push([parts[0]!, parts[1]!])
    }
    const encoder = encoderOf(vocabulary)
    const texts = [
      'The ship sailed down the river, and the captain said: "It\'s 1851; we\'ll go."',
      'Ünïcödé, naïve café — 你好 🙂 \u0000\t\r\n  two  spaces ',
      "DON'T don't\n\n\nx",
      '</s><s>',
      readFileSync(join(packageRoot(), 'README.md'), 'utf8')
    ]
    for (const text of texts) {
      const ids = encoder(text)
      t.strictSame([...engine.tokenizer.encode(text)], ids, JSON.stringify(text.slice(0, 30)))
      t.equal(engine.tokenizer.decode(ids), text)
    }
  })

  t.test('gives the same logits in the trainer and in the engine', { skip: noCompiler }, async t => {
    const long = engine.textPrompt(readFileSync(join(sources, 'model.cpp'), 'utf8')).slice(0, 300)
    for (const ids of [engine.textPrompt('The ship sailed'), engine.textPrompt('x'), long]) {
      const apart = await compare(EMBEDDED, [...ids])
      t.ok(apart.exact < TOLERANCE, `${ids.length} ids: ${apart.exact} standard deviations apart`)
      t.ok(apart.served < SERVED_TOLERANCE, `${ids.length} ids: ${apart.served} as served`)
    }
  })

  t.test('continues a sentence in words of the training text', async t => {
    const known = new Set(readFileSync(join(packageRoot(), 'test', 'vectors', 'train-words.txt'), 'utf8').split('\n'))
    const cases: [string, number, bigint][] = [
      ['The ship sailed', 0, 0n],
      ['The ship sailed', 0.7, 1n],
      ['The captain said', 0.7, 2n],
      ['The people of this country', 0.7, 3n]
    ]
    for (const [prompt, temperature, drawSeed] of cases) {
      let text = ''
      const sampling = { temperature, topK: 40, seed: drawSeed }
      for await (const step of engine.generate({
        prompt: engine.textPrompt(prompt),
        maxTokens: 64,
        sampling,
        ignoreEnd: true
      })) {
        text += step.text
      }
      // The last word may be cut by the limit.
      const words = (text.toLowerCase().match(/[a-z]+/g) ?? []).slice(0, -1)
      const good = words.filter(word => known.has(word)).length
      t.comment(`${good}/${words.length} ${prompt} |${text.replace(/\n/g, ' ')}`)
      t.ok(words.length >= 20, `${words.length} words`)
      t.ok(new Set(words).size >= 10, 'does not loop on a few words')
      t.ok(good >= 0.8 * words.length, `${good} of ${words.length} words are known`)
    }
  })

  t.test('its chat template goes on where the last message stops', async t => {
    const say = (...messages: [string, string][]): Int32Array =>
      engine.chatPrompt(messages.map(([role, content]) => ({ role, content })))
    const plain = engine.textPrompt('The ship sailed')
    t.strictSame(say(['user', 'The ship sailed']), plain)
    t.strictSame(say(['system', 'Be brief.'], ['user', 'The ship sailed']), plain)
    t.strictSame(
      say(['user', 'The ship'], ['assistant', ' sailed.'], ['user', 'Then']),
      engine.textPrompt('The ship sailed.\n\nThen')
    )
  })
})
