/**
 * Proves that the trainer's derivatives are right for every architecture (finite differences, in double), whole models and adapters alike,
 * that its forward pass is the reference's, that training lowers the loss and gives the same bytes for a seed whatever the threads and
 * interruptions (kill -9 among them), that its files are refused when damaged, and that what it writes, the embedded model included, is the
 * same to the engine: ids, logits, the loss with an adapter, and English words.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { openEngine } from '../../lib/infer/engine.ts'
import { describeModel } from '../../lib/infer/model-file.ts'
import { inferAddon } from '../../lib/infer/native.ts'
import { trainerPath } from '../../lib/infer/train/program.ts'
import { encoderOf, metadataLines, type Vocabulary } from '../../lib/infer/train/vocabulary.ts'
import { SEED } from '../harness/seed.ts'

const sources = join(packageRoot(), 'native', 'infer', 'train')
const corpusModule = (): Promise<any> => import(pathToFileURL(join(packageRoot(), 'scripts', 'train-corpus.mjs')).href)
// `npm run test:sanitize:train` names another build of it.
const program = process.env.ZG_TRAIN_PROGRAM ?? trainerPath()
const skip = existsSync(program) ? false : 'no native build here'
const FIXTURES = ['..', '../..'].map(up => join(packageRoot(), up, 'shared', 'fixtures', 'models')).find(existsSync)
const seed = SEED
t.setTimeout(process.env.ZG_TRAIN_PROGRAM === undefined ? 240_000 : 3_000_000)

const EMBEDDED = join(packageRoot(), 'share', 'models', 'tiny-zg.gguf')
/** In units of the logits' standard deviation: float sums of another order. Seen: 5e-6. */
const TOLERANCE = 2e-5
/** The same of deeper or capped fixtures. Seen: 2.3e-5, gemma2. */
const FIXTURE_TOLERANCE = 1e-4
/** What rounding activations to 8 bits may cost where the model is served. Seen: 0.11. */
const SERVED_TOLERANCE = 0.2

let folder = ''
const file = (name: string): string => join(folder, name)

interface Run {
  status: number | null
  lines: any[]
  stderr: string
}

function trainerAt(level: string | undefined, ...words: string[]): Run {
  const env = { ...process.env, ...(level === undefined ? {} : { ZG_CPU: level }) }
  const run = spawnSync(program, words, { encoding: 'utf8', maxBuffer: 1 << 26, env })
  return {
    status: run.status,
    lines: run.stdout
      .split('\n')
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line)),
    stderr: run.stderr
  }
}
const trainer = (...words: string[]): Run => trainerAt(undefined, ...words)

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

const SHAPE = '--width 32 --layers 2 --heads 2 --kv-heads 1 --hidden 64 --context 64'.split(' ')
const HOW = '--batch 6 --rate 1e-2 --warmup 4'.split(' ')
const toyWords = (out: string, ...more: string[]): string[] => [
  ...['train', '--model', file('start.gguf'), '--tokens', file('toy.bin'), '--out', file(out), '--steps', '20', ...HOW],
  ...more
]
const toyRun = (out: string, ...more: string[]): Run => trainer(...toyWords(out, ...more))
const digest = (name: string): string =>
  createHash('sha256')
    .update(readFileSync(file(name)))
    .digest('hex')

t.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zg-train-'))
})
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

t.test('derivatives of all architectures and of adapters are those of finite differences', { skip }, async t => {
  const { status, lines } = trainer('check', '--seed', String(seed))
  t.equal(status, 0)
  const kinds = new Set<string>()
  for (const check of lines[0].checks) {
    kinds.add(`${check.architecture} ${check.adapter}`)
    t.ok(check.ok, JSON.stringify(check))
    t.ok(check.finite_difference_error > 0 && check.finite_difference_error < 1e-6, `${check.architecture} in double`)
    t.ok(check.float_error > 0 && check.float_error < 2e-5, `${check.architecture} in float`)
  }
  t.equal(kinds.size, 16, 'eight architectures, each whole and with an adapter')
  for (const { level, error } of lines[0].products) {
    t.ok(error > 0 && error < (level === 'bf16' ? 8e-3 : 1e-5), `products of ${level}: ${error}`)
  }
})

t.test('the forward pass is the reference', { skip: skip || (FIXTURES === undefined && 'no fixtures') }, async t => {
  const names =
    'stories260K-F32 llama-f32 llama-linear-f32 llama3-f32 mixtral-f32 qwen2-f32 qwen2-yarn-f32 qwen3-f32 qwen3moe-f32'
  const more = 'gemma-f32 gemma2-f32 gemma3-f32 qwen3-bf16 llama-mix qwen3moe-mxfp4 gemma3-q4_0 llama-q5_k_m'
  for (const name of `${names} ${more}`.split(' ')) {
    const run = trainer('compare', '--model', join(FIXTURES!, `${name}.gguf`), '--seed', String(seed))
    t.equal(run.status, 0, run.stderr)
    const { apart, typical, quantized } = run.lines[0]
    // A router behind rounded activations may choose another expert here and there.
    const far = quantized ? typical : apart
    t.ok(
      far > 0 && far < (quantized ? SERVED_TOLERANCE : FIXTURE_TOLERANCE),
      `${name}: ${far} standard deviations apart`
    )
  }
})

t.test('training on a toy text', { skip }, async t => {
  const { makeCorpus } = await corpusModule()
  const sets = [{ name: 'toy', weight: 1, training: toyText(seed), heldOut: toyText(seed + 1).slice(0, 2) }]
  const { vocabulary, file: tokens } = makeCorpus(sets, 320) as { vocabulary: Vocabulary; file: Uint8Array }
  writeFileSync(file('toy.bin'), tokens)
  const entries = {
    'general.name': 'toy',
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'gpt-2',
    'tokenizer.ggml.bos_token_id': 0,
    'tokenizer.ggml.eos_token_id': 1
  }
  writeFileSync(file('metadata.txt'), metadataLines(vocabulary, entries))
  t.equal(trainer('new', '--out', file('start.gguf'), '--metadata', file('metadata.txt'), ...SHAPE).status, 0)

  t.test('20 steps lower the loss of training and of held-out text, in BF16 as well', async t => {
    const levels = trainer('levels').lines[0].bf16 ? [undefined, 'bf16'] : [undefined]
    for (const level of levels) {
      const out = level ?? 'one.bin'
      const words = toyWords(out, '--threads', '1', '--log-every', '1', '--check-every', '1')
      const { status, lines } = trainerAt(level, ...words)
      t.equal(status, 0)
      const losses = lines.filter(l => l.event === 'step').map(l => l.loss)
      t.equal(losses.length, 20)
      t.ok(Math.abs(losses[0] - Math.log(vocabulary.tokens.length)) < 0.5, `starts near chance: ${losses[0]}`)
      t.ok(losses[19] < losses[0] - 1, `${losses[0]} to ${losses[19]}`)
      const heldOut = lines.filter(l => l.event === 'validation').map(l => l.sets[0].nats_per_token)
      t.ok(heldOut.at(-1) < heldOut[0] - 1, `${heldOut[0]} to ${heldOut.at(-1)}`)
    }
  })

  t.test('a seed gives the same bytes with other threads and across an interruption, another seed others', async t => {
    t.equal(toyRun('three.bin', '--threads', '3').status, 0)
    t.equal(digest('three.bin'), digest('one.bin'))
    t.equal(toyRun('halves.bin', '--threads', '2', '--stop-after', '9').status, 0)
    t.not(digest('halves.bin'), digest('one.bin'))
    const { lines } = toyRun('halves.bin', '--threads', '2', '--resume')
    t.equal(lines[0].step, 9)
    t.equal(digest('halves.bin'), digest('one.bin'))
    toyRun('other.bin', '--threads', '2', '--seed', '2')
    t.not(digest('other.bin'), digest('one.bin'))
  })

  t.test('a run that is killed or asked to stop goes on to the same bytes', async t => {
    for (const signal of ['SIGKILL', 'SIGTERM', 'SIGINT'] as const) {
      const out = `${signal}.bin`
      // Saved after each step, so that the kill falls into writing as often as not.
      const child = spawn(program, toyWords(out, '--log-every', '1', '--save-seconds', '0', '--threads', '1'), {
        stdio: ['ignore', 'pipe', 'inherit']
      })
      const ended = new Promise<[number | null, string | null]>(resolve => child.on('close', (...how) => resolve(how)))
      let stopped = 0
      for await (const line of createInterface({ input: child.stdout })) {
        const event = JSON.parse(line)
        if (event.event === 'saved' && event.step === 3) child.kill(signal)
        if (event.event === 'stopped') stopped = event.step
      }
      const [status, by] = await ended
      t.equal(signal === 'SIGKILL' ? by : status, signal === 'SIGKILL' ? signal : 0)
      if (signal !== 'SIGKILL') t.ok(stopped >= 3 && stopped < 20, `stopped after step ${stopped}`)
      const { status: again, lines } = toyRun(out, '--resume')
      t.equal(again, 0)
      t.ok(lines[0].step >= 3, `goes on from step ${lines[0].step}`)
      t.equal(digest(out), digest('one.bin'), signal)
    }
  })

  t.test('damaged files and wrong arguments are refused', async t => {
    const model = readFileSync(file('one.bin'))
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
    const start = ['--model', file('start.gguf')]
    const evaluate = (path: string): string[] => [
      'evaluate',
      ...start,
      '--checkpoint',
      path,
      '--tokens',
      file('toy.bin')
    ]
    refused(1, /cut short/, ...evaluate(spoil('cut.bin', model.subarray(0, -4))))
    refused(1, /not a checkpoint/, ...evaluate(spoil('magic.bin', changed(model, 0, 0))))
    refused(1, /something else/, ...evaluate(spoil('shape.bin', changed(model, 24, model[24]! ^ 1))))
    refused(1, /something else/, ...evaluate(file('one.bin')), '--rank', '4')
    for (const [what, bytes] of [
      ['cut short', tokens.subarray(0, -2)],
      ['after the end', Buffer.concat([tokens, Buffer.alloc(2)])],
      ['vocabulary', changed(changed(tokens, 12, 10), 13, 0)],
      ['version', changed(tokens, 8, 9)],
      ['not a token file', changed(tokens, 0, 9)]
    ] as const) {
      refused(
        1,
        new RegExp(what),
        'train',
        ...start,
        '--tokens',
        spoil('bad-tokens.bin', bytes),
        '--out',
        file('no.bin')
      )
    }
    const other = changed(tokens, tokens.length - 8, tokens.at(-8)! ^ 1)
    refused(
      1,
      /another token file/,
      'train',
      ...start,
      '--tokens',
      spoil('other-tokens.bin', other),
      '--out',
      file('one.bin'),
      '--resume'
    )
    refused(1, /cannot open/, 'train', ...start, '--tokens', file('absent.bin'), '--out', file('no.bin'))
    refused(
      71,
      /MiB of memory/,
      'train',
      ...start,
      '--tokens',
      file('toy.bin'),
      '--out',
      file('no.bin'),
      '--memory',
      '1000000'
    )
    refused(
      64,
      /unknown option --stepz/,
      'train',
      ...start,
      '--tokens',
      file('toy.bin'),
      '--out',
      file('no.bin'),
      '--stepz',
      '1'
    )
    refused(64, /usage/)
    const made = ['new', '--out', file('no.gguf'), '--metadata', file('metadata.txt')]
    refused(64, /do not divide/, ...made, '--heads', '4', '--kv-heads', '3')
    refused(64, /known are llama/, ...made, '--architecture', 'mamba')
    t.notOk(existsSync(file('no.bin')))
  })

  t.test('the model file is the same model to the engine', async t => {
    const words = ['export', '--model', file('start.gguf'), '--checkpoint', file('one.bin')]
    t.equal(trainer(...words, '--out', file('toy.gguf'), '--type', 'Q8_0').status, 0)
    const apart = await compare(file('toy.gguf'), [0, ...encode(vocabulary, 'The old captain')])
    t.ok(apart.exact < TOLERANCE && apart.served < SERVED_TOLERANCE, JSON.stringify(apart))
    t.equal(trainer(...words, '--out', file('toy-f32.gguf'), '--type', 'F32').status, 0)
    const prompt = ['--prompt', '0,5,9']
    const own = trainer('logits', '--model', file('start.gguf'), '--checkpoint', file('one.bin'), ...prompt).lines[0]
      .logits
    t.strictSame(trainer('logits', '--model', file('toy-f32.gguf'), ...prompt).lines[0].logits, own)
    t.notSame(trainer('logits', '--model', file('toy.gguf'), ...prompt).lines[0].logits, own)
  })

  t.test('an adapter trained beside a model gives the engine the loss that the trainer has', async t => {
    const base = [
      '--model',
      file('toy-f32.gguf'),
      '--rank',
      '4',
      '--targets',
      'attn_q,attn_k,attn_v,attn_output,ffn_gate,ffn_up,ffn_down'
    ]
    // Another text than the base has seen.
    const changedSets = [
      { name: 'other', weight: 1, training: toyText(seed + 2), heldOut: toyText(seed + 3).slice(0, 1) }
    ]
    const upper = changedSets.map(set => ({
      ...set,
      training: set.training.map(d => d.map(p => p.replaceAll('The', 'A'))),
      heldOut: set.heldOut.map(d => d.map(p => p.replaceAll('The', 'A')))
    }))
    const encodeText = encoderOf(vocabulary)
    const ids = upper[0]!.heldOut.flatMap(d => encodeText(d.join('\n\n'))).slice(0, 60)
    const learnt = upper[0]!.training.flatMap(d => encodeText(d.join('\n\n')))
    writeFileSync(file('other.tokens'), streamFile(vocabulary.tokens.length, learnt, ids))
    const tokensOf = ['--tokens', file('other.tokens')]
    const before = trainer('evaluate', '--model', file('toy-f32.gguf'), ...tokensOf).lines[0].sets[0].nats_per_token
    const how = ['--steps', '60', '--batch', '4', '--rate', '1e-2', '--warmup', '2', '--decay', '0']
    t.equal(trainer('train', ...base, ...tokensOf, '--out', file('low.bin'), ...how).status, 0)
    const after = trainer('evaluate', ...base, '--checkpoint', file('low.bin'), ...tokensOf).lines[0].sets[0]
    t.ok(after.nats_per_token < before - 0.25, `${before} to ${after.nats_per_token}`)
    t.equal(
      trainer('export', ...base, '--checkpoint', file('low.bin'), '--out', file('low.gguf'), '--name', 'low').status,
      0
    )
    const window = [0, ...ids]
    const nats = await engineLoss(file('toy-f32.gguf'), file('low.gguf'), window)
    t.equal(after.tokens, window.length - 1)
    // The trainer prints four places.
    t.ok(Math.abs(nats - after.nats_per_token) < 2e-4, `${nats} by the engine, ${after.nats_per_token} by the trainer`)
  })
})

/** Nats a token of ids by the engine, with keys and values as floats. */
async function engineLoss(path: string, adapter: string | undefined, ids: number[]): Promise<number> {
  const engine = await openEngine(path, {
    threads: 1,
    ...(adapter === undefined ? {} : { adapters: [{ path: adapter }] })
  })
  try {
    const logits = await engine.evaluate(Int32Array.from(ids.slice(0, -1)), { floatCache: true })
    const size = engine.info.vocabularySize
    let nats = 0
    for (let i = 0; i + 1 < ids.length; i++) {
      const row = logits.subarray(i * size, (i + 1) * size)
      const top = row.reduce((a, b) => Math.max(a, b))
      nats += Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0)) + top - row[ids[i + 1]!]!
    }
    return nats / (ids.length - 1)
  } finally {
    await engine.close()
  }
}

t.test(
  'every architecture learns, whole and by an adapter, and the engine finds the same loss',
  { skip: skip || (FIXTURES === undefined && 'no fixtures') },
  async t => {
    // Of quantized bases the engine rounds activations to 8 bits: what it finds is near, not equal.
    const cases: [string, number][] = [
      ...[
        'llama-f32',
        'mixtral-f32',
        'qwen2-yarn-f32',
        'qwen3-f32',
        'qwen3moe-f32',
        'gemma-f32',
        'gemma2-f32',
        'gemma3-f32'
      ].map((name): [string, number] => [name, 2e-4]),
      ...['llama-mix', 'qwen3moe-mxfp4', 'gemma3-q4_0', 'qwen2-q4_k_m'].map((name): [string, number] => [name, 0.2])
    ]
    for (const [name, near] of cases) {
      const path = join(FIXTURES!, `${name}.gguf`)
      const size = (await describeModel(path)).shape!.vocabulary
      const training = Array.from({ length: 120 }, (_, i) => 3 + ((i * i + i) % 17))
      const heldOut = training.slice(30, 70)
      writeFileSync(file('fixture.tokens'), streamFile(size, training, heldOut, NO_OPENING))
      const common = ['--model', path, '--context', '96']
      const low = [...common, '--rank', '3', '--targets', 'attn_q,attn_k,attn_v,attn_output,ffn_gate,ffn_up,ffn_down']
      const tokens = ['--tokens', file('fixture.tokens')]
      const lossOf = (words: string[]): number => {
        const run = trainer('evaluate', ...words, ...tokens)
        t.equal(run.status, 0, run.stderr)
        return run.lines[0].sets[0].nats_per_token
      }
      const before = lossOf(common)
      const how = [...tokens, '--batch', '1', '--rate', '5e-3', '--warmup', '1', '--decay', '0', '--threads', '1']
      t.equal(trainer('train', ...low, ...how, '--steps', '8', '--out', file('fixture.low')).status, 0)
      const after = lossOf([...low, '--checkpoint', file('fixture.low')])
      t.ok(after < before - 0.2, `${name} by an adapter: ${before} to ${after}`)
      t.equal(
        trainer('export', ...low, '--checkpoint', file('fixture.low'), '--out', file('fixture-low.gguf')).status,
        0
      )
      const served = await engineLoss(path, file('fixture-low.gguf'), heldOut)
      t.ok(Math.abs(served - after) < near, `${name}: ${after} by the trainer, ${served} by the engine`)
      t.equal(trainer('train', ...common, ...how, '--steps', '4', '--out', file('fixture.whole')).status, 0)
      const whole = lossOf([...common, '--checkpoint', file('fixture.whole')])
      t.ok(whole < before - 0.2, `${name} whole: ${before} to ${whole}`)
      const made = ['--checkpoint', file('fixture.whole'), '--out', file('fixture.gguf'), '--type', 'F32']
      t.equal(trainer('export', ...common, ...made).status, 0)
      const again = await engineLoss(file('fixture.gguf'), undefined, heldOut)
      t.ok(Math.abs(again - whole) < 2e-4, `${name} whole: ${whole} by the trainer, ${again} by the engine`)
    }
  }
)

/** A token file of one stream. */
function streamFile(size: number, training: number[], heldOut: number[], opening = 0): Uint8Array {
  const u32 = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer)
  const u64 = (...values: number[]): Buffer => Buffer.from(BigUint64Array.from(values, BigInt).buffer)
  const learnt = (ids: number[]): Buffer => u32(...ids.map(id => id + 0x80000000))
  const starts = Array.from({ length: Math.ceil(training.length / 16) }, (_, i) => i * 16)
  return Buffer.concat([
    ...[
      Buffer.from('ZGTOKENS'),
      u32(2, size, opening, 0, 1),
      u32(5),
      Buffer.from('other'),
      Buffer.from(Float32Array.of(1).buffer)
    ],
    ...[
      u64(training.length, starts.length, heldOut.length, 1, 0),
      learnt(training),
      u32(...starts),
      learnt(heldOut),
      u32(0)
    ]
  ])
}

const NO_OPENING = 0xffffffff

const encode = (vocabulary: Vocabulary, text: string): number[] => encoderOf(vocabulary)(text)

/** Q8_0 blocks (34 bytes for 32 values) as floats; the addon takes 1 MiB at a time. */
const expanded = (raw: Uint8Array): Buffer => {
  const parts: Buffer[] = []
  for (let at = 0; at < raw.length; at += 34 * 16_384) {
    parts.push(Buffer.from(inferAddon().dequantize(Q8_0, raw.subarray(at, at + 34 * 16_384)).buffer))
  }
  return Buffer.concat(parts)
}

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
    const body = type === 'F32' ? raw : expanded(raw)
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

t.test('the embedded model', { skip }, async t => {
  const engine = await openEngine(EMBEDDED, { threads: 1 })
  t.teardown(() => engine.close())

  t.test('is small, says what it is, and needs no excuses', async t => {
    t.ok(statSync(EMBEDDED).size <= 16 * 1024 * 1024)
    t.match(engine.info, { name: 'tiny-zg', architecture: 'llama', contextLength: 512, vocabularySize: 4096 })
    t.ok(engine.info.parameters >= 5e6 && engine.info.parameters <= 6e6, `${engine.info.parameters} parameters`)
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

  t.test('gives the same logits in the trainer and in the engine', { skip }, async t => {
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
