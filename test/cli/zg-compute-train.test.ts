/**
 * Proves `zg-compute train` as a user meets it: a new model from plain text, a model trained on, an adapter that `complete` then hears in the
 * served model, runs that are stopped or killed and go on, and datasets with faulty lines, each of which is named.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openEngine } from '../../lib/infer/engine.ts'
import { trainerPath } from '../../lib/infer/train/program.ts'
import { runTool, sandbox, startTool } from '../harness/tools.ts'

const skip = existsSync(trainerPath()) ? false : 'no native build here'
const box = sandbox('train')
t.teardown(() => box.remove())
t.setTimeout(120_000)

const records = (text: string): any[] =>
  text
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line))
const train = (args: string[], input = '') =>
  runTool('zg-compute', ['train', ...args], { env: box.env, input, timeoutMs: 60_000 })

/** Sentences of few words, the same each time. */
function book(): string {
  let state = 7
  const pick = (words: string): string => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    const list = words.split(' ')
    return list[(state >>> 16) % list.length]!
  }
  const sentence = (): string =>
    `The ${pick('old grey tall')} ${pick('ship whale captain')} ${pick('sailed went looked')} to the ${pick('sea north café')}.`
  return Array.from({ length: 300 }, () => `${sentence()} ${sentence()}`).join('\n\n')
}

const SMALL = ['--width', '64', '--heads', '2', '--layers', '2', '--context', '64', '--vocabulary-size', '300']
const MODEL = box.path('small.gguf')
const BOOK = box.path('book.txt')

t.test('a new model from plain text, in a file and in records', { skip }, async t => {
  writeFileSync(BOOK, book())
  const made = await train([
    '--text',
    BOOK,
    '-o',
    MODEL,
    ...SMALL,
    '--epochs',
    '4',
    '--batch',
    '4',
    '--rate',
    '5e-3',
    '--json'
  ])
  t.equal(made.code, 0, made.stderr)
  const lines = records(made.stdout)
  t.match(lines[0], { type: 'training_start', step: 0, context: 64, vocab: 300 })
  const trained = lines.at(-1)
  t.match(trained, { type: 'trained', output: MODEL, kind: 'model' })
  t.ok(trained.loss < Math.log(300) - 3, `loss ${trained.loss}`)
  t.ok(trained.validation[0].nats_per_token < Math.log(300) - 3, 'the held-out text as well')
  t.notOk(existsSync(`${MODEL}.train`), 'nothing is left beside it')
  const engine = await openEngine(MODEL, { threads: 1 })
  t.teardown(() => engine.close())
  let text = ''
  for await (const step of engine.generate({
    prompt: engine.textPrompt('The old'),
    maxTokens: 24,
    sampling: { temperature: 0, seed: 1n }
  })) {
    text += step.text
  }
  t.match(text, /^ (ship|whale|captain) (sailed|went|looked) to the /)
  t.equal((await train(['--text', BOOK, '-o', MODEL, ...SMALL])).code, 73, 'it is not replaced by accident')
})

t.test('an adapter from JSON lines changes what is served as it was taught', { skip }, async t => {
  const data = box.path('chats.jsonl')
  const sample = JSON.stringify({ prompt: 'The old whale', completion: ' went to the north, north, north.' })
  const chat = JSON.stringify({
    messages: [
      { role: 'user', content: 'The ship' },
      { role: 'assistant', content: ' went to the north, north, north.' }
    ]
  })
  writeFileSync(
    data,
    `${[sample, chat, JSON.stringify({ text: 'The captain went to the north, north, north.' })].join('\n')}\n`
  )
  const adapter = box.path('never.gguf')
  const how = [
    '--steps',
    '60',
    '--batch',
    '2',
    '--rate',
    '2e-2',
    '--held-out',
    '0',
    '--targets',
    'q,k,v,o,gate,up,down'
  ]
  const made = await train([data, '--from', MODEL, '--lora', '-o', adapter, ...how, '--name', 'never', '--json'])
  t.equal(made.code, 0, made.stderr)
  const trained = records(made.stdout).at(-1)
  t.equal(trained.kind, 'adapter')
  t.ok(trained.loss < 2, `loss ${trained.loss}`)
  const server = await startTool(
    'zg-compute',
    ['serve', '--port', '0', '--model', MODEL, '--lora-modules', `never=${adapter}`],
    { env: box.env }
  )
  t.teardown(() => server.stop())
  const ask = async (model: string): Promise<string> => {
    const body = JSON.stringify({ model, prompt: 'The old whale', max_tokens: 24, temperature: 0 })
    const answer = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body
    })
    return ((await answer.json()) as { choices: { text: string }[] }).choices[0]!.text
  }
  t.match(await ask('never'), /^ went to the north, north, north/)
  t.notMatch(await ask('small'), /north, north/)
})

t.test('a model is trained on from standard input, and written in another type', { skip }, async t => {
  const out = box.path('on.gguf')
  const line = JSON.stringify({ text: 'A tall ship looked to the sea.' })
  const how = ['--steps', '3', '--batch', '1', '--type', 'F16', '--validation', box.path('check.jsonl')]
  writeFileSync(box.path('check.jsonl'), `${line}\n`)
  const made = await train(['-', '--from', MODEL, '-o', out, ...how, '--json'], `${line}\n${line}\n`)
  t.equal(made.code, 0, made.stderr)
  const trained = records(made.stdout).at(-1)
  t.equal(trained.validation[0].tokens > 0, true)
  const seen = records(
    (await runTool('zg-compute', ['models', 'inspect', out, '--no-hash', '--json'], { env: box.env })).stdout
  )[0]
  t.match(seen, { runnable: true, name: 'small' })
  t.ok(seen.types.some((x: { type: string }) => x.type === 'F16'))
})

t.test('a run that is stopped or killed goes on with --resume', { skip }, async t => {
  const how = (out: string): string[] => [
    '--text',
    BOOK,
    '-o',
    out,
    ...SMALL,
    '--steps',
    '4000',
    '--batch',
    '8',
    '--checkpoint',
    '0',
    '--threads',
    '1',
    '--keep'
  ]
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const out = box.path(`${signal}.gguf`)
    const started = await startTool('zg-compute', ['train', ...how(out)], {
      env: box.env,
      readyType: 'training_saved'
    })
    await (signal === 'SIGKILL' ? started.kill9() : started.stop())
    t.notOk(existsSync(out))
    const run = JSON.parse(readFileSync(join(`${out}.train`, 'run.json'), 'utf8'))
    // A shorter schedule, so that the test ends.
    const words: string[] = run.how
    words[words.indexOf('--steps') + 1] = '1'
    writeFileSync(join(`${out}.train`, 'run.json'), JSON.stringify(run))
    // The trainer of a killed parent ends after its step; a run that begins meanwhile waits for it.
    const again = await train(['--resume', '-o', out, '--json'])
    t.equal(again.code, 0, again.stderr)
    const [begin] = records(again.stdout)
    t.ok(begin.step >= 1, `goes on behind step ${begin.step}`)
    t.ok(existsSync(out))
  }
  t.equal((await train(['--resume', '-o', box.path('none.gguf')])).code, 66)
})

t.test('every faulty line is named with what is wrong', { skip }, async t => {
  const lines = [
    '{"other":1}',
    'nonsense',
    '',
    '{"prompt":"x","completion":3}',
    '{"messages":[{"role":"user","content":"x"}]}',
    '{"messages":[{"role":"robot","content":"x"}]}',
    '{"messages":7}',
    '[1]',
    '{"text":"fine"}'
  ]
  const bad = await train(['-', '--from', MODEL, '-o', box.path('no.gguf')], lines.join('\n'))
  t.equal(bad.code, 65)
  for (const [number, what] of [
    [1, "no 'messages'"],
    [2, 'no JSON'],
    [4, "'completion' is no text"],
    [5, 'nothing to learn'],
    [6, "no known 'role'"],
    [7, "'messages' is no list"],
    [8, 'no JSON object']
  ]) {
    t.ok(
      bad.stderr.split('\n').some(line => line.startsWith(`stdin:${number}: `) && line.includes(String(what))),
      `${number}: ${what}`
    )
  }
  t.notMatch(bad.stderr, /stdin:(3|9)/)
  t.match(bad.stderr, /7 of the lines/)
  t.notOk(existsSync(box.path('no.gguf.train')), 'nothing is left')
  const refused = async (code: number, pattern: RegExp, ...args: string[]): Promise<void> => {
    const run = await train(args)
    t.equal(run.code, code, args.join(' '))
    t.match(run.stderr, pattern)
  }
  const out = ['-o', box.path('no.gguf')]
  await refused(66, /no such file/, box.path('absent.jsonl'), ...out)
  await refused(64, /--from/, BOOK, '--lora', ...out)
  await refused(64, /--output/, BOOK)
  await refused(64, /no matrix/, BOOK, '--text', '--from', MODEL, '--lora', '--targets', 'q,z', ...out)
  await refused(65, /UTF-8/, '--text', MODEL, '--from', MODEL, ...out)
})
