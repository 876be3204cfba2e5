/**
 * `zg-compute train`: a new model from text, a model trained on, or an adapter beside one. All that a run needs to go on lies in OUTPUT.train,
 * which goes away when the output is there.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { ZgError } from '../../../lib/base/errors.ts'
import { formatCount, formatDuration } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { describeModel, recipeNames } from '../../../lib/infer/model-file.ts'
import { runTrainer, type TrainerEvent } from '../../../lib/infer/train/program.ts'
import { sourcesOf, writeTokens, writeVocabulary } from '../train/prepare.ts'
import { isLive, View } from '../train/view.ts'

/** What a run is, in OUTPUT.train/run.json. */
interface Run {
  version: 1
  /** Level of SIMD that the run began with: another gives other bits. */
  level: string
  model: string
  /** Words of the trainer that say what is trained. */
  what: string[]
  /** And how. */
  how: string[]
  type: string
  name: string
}

/** Rates by what is trained, when none is given. */
const RATE_NEW = 2e-3
const RATE_ON = 1e-4
const RATE_ADAPTER = 5e-4
/** Share of the steps in which the rate rises, when no number is given. */
const WARMUP_SHARE = 0.03
const TARGETS: Record<string, string> = {
  q: 'attn_q',
  k: 'attn_k',
  v: 'attn_v',
  o: 'attn_output',
  gate: 'ffn_gate',
  up: 'ffn_up',
  down: 'ffn_down'
}

export async function train(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const output = opts.output as string | undefined
  if (output === undefined) throw new ZgError('ERR_USAGE', "name the file to write with '--output'")
  const folder = `${output}.train`
  const force = opts.force === true
  const resume = opts.resume === true
  if (!force && existsSync(output)) {
    throw new ZgError('ERR_EXISTS', `'${output}' exists`, { hint: "give '--force' to replace it" })
  }
  if (resume) {
    if (!existsSync(join(folder, 'run.json'))) {
      throw new ZgError('ERR_NO_INPUT', `there is no run to go on with in '${folder}'`)
    }
    if (args.length > 0)
      throw new ZgError('ERR_USAGE', "'--resume' goes on with what the run began with: name no files")
  } else {
    if (!force && existsSync(join(folder, 'checkpoint'))) {
      throw new ZgError('ERR_EXISTS', `'${folder}' holds a run that was stopped`, {
        hint: "go on with '--resume', or begin anew with '--force'"
      })
    }
    if (args.length === 0) throw new ZgError('ERR_USAGE', 'name a dataset, or - for standard input')
    await rm(folder, { recursive: true, force: true })
    await mkdir(folder, { recursive: true })
  }
  const run = resume
    ? (JSON.parse(await readFile(join(folder, 'run.json'), 'utf8')) as Run)
    : await prepare(ctx, args, opts, folder).catch(async (err: unknown) => {
        await rm(folder, { recursive: true, force: true })
        throw err
      })
  const checkpoint = join(folder, 'checkpoint')
  const view = new View(ctx)
  const began = performance.now()
  const interval = ctx.json ? '1' : isLive(ctx) ? '0.5' : String(opts.interval)
  const threads = String((opts.threads as number | undefined) ?? availableParallelism())
  const events = await runTrainer(
    [
      ...['train', '--model', run.model, ...run.what, '--tokens', join(folder, 'tokens.bin'), '--out', checkpoint],
      ...[
        ...run.how,
        '--threads',
        threads,
        '--save-seconds',
        String(opts.checkpoint),
        '--log-every',
        '1',
        '--log-seconds',
        interval
      ],
      '--with-parent',
      ...(resume && existsSync(checkpoint) ? ['--resume'] : [])
    ],
    { level: run.level, signal: ctx.signal, onEvent: e => view.event(e) }
  )
  view.done()
  const stopped = events.findLast(e => e.event === 'stopped')
  if (stopped !== undefined) {
    ctx.warn(
      `${ctx.tool}: stopped after step ${formatCount((stopped as { step: number }).step)} and saved; go on with '--resume -o ${output}'`
    )
    ctx.signal.throwIfAborted()
    throw new ZgError('ERR_STOPPED', 'the trainer was stopped')
  }
  await runTrainer(
    [
      ...['export', '--model', run.model, ...run.what, '--checkpoint', checkpoint, '--out', output],
      ...['--type', run.type, '--name', run.name, '--threads', threads]
    ],
    { level: run.level }
  )
  const { size } = await stat(output)
  const kind = run.what.includes('--rank') ? 'adapter' : 'model'
  const { step, loss, tokens, validation } = view.result
  ctx.print(
    { type: 'trained', output, kind, size, steps: step, tokens, loss, validation, base: run.model, level: run.level },
    output
  )
  ctx.say(
    `${formatCount(step)} steps in ${formatDuration(performance.now() - began)}` +
      validation.map(v => `; held out '${v.set}': ${v.nats_per_token.toFixed(4)} nats a token`).join('')
  )
  if (opts.keep !== true) await rm(folder, { recursive: true, force: true })
}

async function prepare(ctx: VerbContext, args: readonly string[], opts: Options, folder: string): Promise<Run> {
  const from = opts.from as string | undefined
  const adapts = opts.lora === true
  const plain = opts.text === true
  const type = (opts.type as string).toUpperCase()
  if (adapts && from === undefined)
    throw new ZgError('ERR_USAGE', "an adapter needs the model that it adapts: '--from'")
  if (!recipeNames().some(name => name.toUpperCase() === type) && type !== 'F32') {
    throw new ZgError('ERR_USAGE', `'${opts.type as string}' is no type of weights`, {
      hint: `known are ${recipeNames().join(', ')}`
    })
  }
  const name = (opts.name as string | undefined) ?? basename(opts.output as string).replace(/\.gguf$/, '')
  const sources = await sourcesOf(ctx, args, folder)
  const validation = await sourcesOf(ctx, (opts.validation as string[] | undefined) ?? [], folder)
  const seed = String(opts.seed)
  const model = from === undefined ? await newModel(ctx, opts, sources, plain, seed, name, folder) : resolve(from)
  const described = await describeModel(model)
  if (described.shape === undefined || described.refused !== undefined) {
    throw new ZgError('ERR_BAD_INPUT', `'${model}' cannot be trained: ${described.refused ?? 'no model'}`)
  }
  const context = Math.min((opts.context as number | undefined) ?? 512, described.shape.context)
  const heldOutShare = opts.heldOut as number
  await writeTokens(ctx, model, sources, { plain, context, heldOutShare, validation }, join(folder, 'tokens.bin'))
  const what = ['--context', String(context), ...(adapts ? adapterWords(opts) : [])]
  const rate = (opts.rate as number | undefined) ?? (adapts ? RATE_ADAPTER : from === undefined ? RATE_NEW : RATE_ON)
  const run: Run = { version: 1, level: await levelOf(opts.precision as string), model, what, how: [], type, name }
  const steps = opts.steps as number | undefined
  const epochs = opts.epochs as number
  const batch = opts.batch as number
  const total = steps ?? (await stepsOf(join(folder, 'tokens.bin'), context, batch, epochs))
  run.how = [
    ...(steps === undefined ? ['--epochs', String(epochs)] : ['--steps', String(steps)]),
    ...['--batch', String(batch), '--rate', String(rate), '--final-rate', String(opts.finalRate)],
    ...['--warmup', String((opts.warmup as number | undefined) ?? Math.ceil(total * WARMUP_SHARE))],
    ...[
      '--decay',
      String((opts.decay as number | undefined) ?? (adapts ? 0 : 0.1)),
      '--clip',
      String(opts.clip),
      '--seed',
      seed
    ],
    ...['--check-every', String(opts.checkEvery)]
  ]
  await writeFile(join(folder, 'run.json'), `${JSON.stringify(run, null, 2)}\n`)
  return run
}

/** About so many steps; the trainer counts exactly. */
async function stepsOf(tokens: string, context: number, batch: number, epochs: number): Promise<number> {
  const { size } = await stat(tokens)
  return Math.max(1, Math.ceil((size / 4 / context / batch) * epochs))
}

function adapterWords(opts: Options): string[] {
  const targets = (opts.targets as string).split(',').map(word => {
    const name = TARGETS[word.trim()]
    if (name === undefined) {
      throw new ZgError('ERR_USAGE', `'${word.slice(0, 40)}' is no matrix to adapt`, {
        hint: `known are ${Object.keys(TARGETS).join(', ')}`
      })
    }
    return name
  })
  return ['--rank', String(opts.rank), '--alpha', String(opts.alpha), '--targets', [...new Set(targets)].join(',')]
}

/** The level of SIMD: BF16 products where they are wanted and there. */
async function levelOf(precision: string): Promise<string> {
  const [info] = await runTrainer(['levels'])
  const { levels, bf16 } = info as Extract<TrainerEvent, { event: 'levels' }>
  if (precision === 'bf16' && !bf16) {
    throw new ZgError('ERR_USAGE', 'this processor has no products of BF16', { hint: "use '--precision f32'" })
  }
  const forced = process.env.ZG_CPU
  if (precision === 'auto' && forced !== undefined && forced !== '') return forced
  return bf16 && precision !== 'f32' ? 'bf16' : levels.at(-1)!
}

async function newModel(
  ctx: VerbContext,
  opts: Options,
  sources: Awaited<ReturnType<typeof sourcesOf>>,
  plain: boolean,
  seed: string,
  name: string,
  folder: string
): Promise<string> {
  const path = join(folder, 'start.gguf')
  const vocabulary = opts.vocabularyFrom as string | undefined
  const metadata = join(folder, 'vocabulary')
  if (vocabulary === undefined) {
    await writeVocabulary(ctx, sources, plain, opts.vocabularySize as number, name, metadata)
  }
  const width = opts.width as number
  const feed = (opts.feed as number | undefined) ?? Math.max(32, Math.round((width * 8) / 3 / 32) * 32)
  const numbers: Record<string, unknown> = {
    width,
    hidden: feed,
    layers: opts.layers,
    heads: opts.heads,
    'kv-heads': opts.kvHeads ?? opts.heads,
    'head-size': opts.headSize ?? 0,
    context: opts.context ?? 512,
    experts: opts.experts,
    ...(opts.experts === 0 ? {} : { 'experts-used': opts.expertsUsed }),
    window: opts.window,
    'rope-base': opts.ropeBase,
    seed
  }
  await runTrainer([
    ...['new', '--out', path, '--architecture', opts.architecture as string],
    ...(vocabulary === undefined ? ['--metadata', metadata] : ['--vocabulary', vocabulary]),
    ...Object.entries(numbers).flatMap(([key, value]) => [`--${key}`, String(value)])
  ])
  return resolve(path)
}
