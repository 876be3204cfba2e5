/**
 * Proves that what the scheduler does to requests never shows in their answers: beginnings shared within a user and not beyond, pages
 * taken back and computed again, accounts served in turn, tokens guessed ahead (looked up, or by a smaller model) and kept only when the
 * sampler would have drawn them; and that answers can be followed again, with the same digests, as one prompt.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { type LocalEngine, openEngine } from '../../lib/infer/engine.ts'
import { inferAddon } from '../../lib/infer/native.ts'
import type { EngineOptions, GenerateRequest, Step } from '../../lib/infer/types.ts'
import { nativePath } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'

const FIXTURES = ['..', '../..'].map(up => join(packageRoot(), up, 'shared', 'fixtures', 'models')).find(existsSync)
const noBuild = existsSync(nativePath('infer')) ? false : 'no native build here'
const skip = noBuild !== false ? noBuild : FIXTURES === undefined ? 'no model fixtures beside the repository' : false
const seed = SEED
t.setTimeout(300_000)

let state = seed * 2 + 1
/** A whole number below n. */
const below = (n: number): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
  return Math.floor((state / 2 ** 32) * n)
}
const ids = (count: number, vocabulary: number): Int32Array =>
  Int32Array.from({ length: count }, () => 3 + below(vocabulary - 3))

async function withEngine<T>(
  name: string,
  options: EngineOptions & { cpu?: string },
  use: (engine: LocalEngine) => Promise<T>
): Promise<T> {
  const engine = await openEngine(join(FIXTURES!, `${name}.gguf`), { threads: 1, ...options })
  try {
    return await use(engine)
  } finally {
    await engine.close()
  }
}

interface Answer {
  ids: number[]
  steps: Step[]
  finish: Step['finish']
  cached: number
}

async function collect(
  engine: LocalEngine,
  request: Partial<GenerateRequest> & { prompt: Int32Array }
): Promise<Answer> {
  const steps: Step[] = []
  const whole = { maxTokens: 16, ignoreEnd: true, sampling: { temperature: 0 }, ...request }
  for await (const step of engine.generate(whole)) steps.push(step)
  return {
    steps,
    ids: steps.flatMap(s => (s.id === undefined ? [] : [s.id])),
    finish: steps.at(-1)?.finish,
    cached: steps[0]?.cachedTokens ?? 0
  }
}

/** Random requests of every kind of sampling. */
function requests(count: number, vocabulary: number, most: number): (GenerateRequest & { prompt: Int32Array })[] {
  return Array.from({ length: count }, (_, i) => ({
    // Some repeat themselves, so that something can be looked up.
    prompt: below(2) === 0 ? ids(1 + below(70), vocabulary) : repeated(ids(2 + below(6), vocabulary), 30 + below(40)),
    maxTokens: 1 + below(most),
    ignoreEnd: true,
    sampling: [
      { temperature: 0 },
      { temperature: 0.2 + below(100) / 100, seed: BigInt(below(1 << 30)) },
      { temperature: 0.9, topK: 1 + below(20), topP: 0.8, seed: BigInt(i) },
      { temperature: 0.7, minP: 0.05, repetitionPenalty: 1.2, frequencyPenalty: 0.3, presencePenalty: 0.1, seed: 7n }
    ][below(4)]!
  }))
}

const repeated = (part: Int32Array, length: number): Int32Array =>
  Int32Array.from({ length }, (_, i) => part[i % part.length]!)

t.test('equal beginnings are computed once for a user, and for nobody else unless told so', { skip }, async t => {
  const prompt = ids(100, 512)
  const other = Int32Array.from([...prompt.subarray(0, 50), ...ids(20, 512)])
  await withEngine('stories260K-Q8_0', {}, async engine => {
    const first = await collect(engine, { prompt, account: 'a' })
    t.equal(first.cached, 0)
    const again = await collect(engine, { prompt, account: 'a' })
    t.equal(again.cached, 96, 'six pages of sixteen')
    t.strictSame(again.ids, first.ids)
    t.equal((await collect(engine, { prompt: other, account: 'a' })).cached, 48)
    const talk = Int32Array.from([...prompt, ...first.ids, ...ids(5, 512)])
    t.equal((await collect(engine, { prompt: talk, account: 'a' })).cached, 112, 'the answer is there too')
    const stranger = await collect(engine, { prompt, account: 'b' })
    t.equal(stranger.cached, 0)
    t.strictSame(stranger.ids, first.ids)
    t.equal((await collect(engine, { prompt, account: 'a', cacheSalt: 'x' })).cached, 0, 'a salt of his own')
    t.equal(
      (await collect(engine, { prompt: prompt.subarray(0, 96), account: 'a' })).cached,
      80,
      'the last is computed'
    )
    const before = engine.stats()
    const choices = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        collect(engine, {
          prompt: talk.subarray(3),
          account: 'c',
          sampling: { seed: BigInt(i) }
        })
      )
    )
    t.equal(choices.length, 8)
    const rows = engine.stats().promptTokens - before.promptTokens
    t.ok(rows < 2 * talk.length, `${rows} positions of prompts for eight answers to one of ${talk.length}`)
  })
  await withEngine('stories260K-Q8_0', { sharedCache: true }, async engine => {
    await collect(engine, { prompt, account: 'a' })
    t.equal((await collect(engine, { prompt, account: 'b' })).cached, 96, 'everybody shares where that was asked for')
  })
})

t.test('a cache too small for all takes pages back, and answers stay what they are alone', { skip }, async t => {
  // Each grows by more pages than it begins with, and the cache holds no three of them.
  const list = requests(40, 512, 60).map(r => ({ ...r, maxTokens: 128 }))
  const alone = await withEngine('stories260K-Q8_0', { running: 1, lookUp: false }, async engine => {
    const out = []
    for (const request of list) out.push((await collect(engine, request)).ids)
    return out
  })
  const pageBytes = await withEngine('stories260K-Q8_0', {}, async engine => engine.stats().pageBytes)
  await withEngine('stories260K-Q8_0', { cacheBytes: 24 * pageBytes, running: 16 }, async engine => {
    const answers = await Promise.all(list.map((r, i) => collect(engine, { ...r, account: `u${i % 5}` })))
    for (const [i, answer] of answers.entries()) t.strictSame(answer.ids, alone[i], `request ${i}`)
    const s = engine.stats()
    t.equal(s.pages, 24)
    t.ok(s.preempted > 0, `${s.preempted} computed again`)
    t.strictSame([s.running, s.waiting, s.accounts, s.pagesUsed], [0, 0, 0, 0])
    t.throws(() => engine.generate({ prompt: ids(900, 512), maxTokens: 1, sampling: {} }), { code: 'ERR_BAD_INPUT' })
    await t.rejects(collect(engine, { prompt: ids(200, 512), maxTokens: 300 }), { code: 'ERR_BAD_INPUT' }, 'never fits')
  })
})

t.test('an account with one request does not wait for one with forty', { skip }, async t => {
  await withEngine('stories260K-Q8_0', { running: 4 }, async engine => {
    const order: string[] = []
    // Long ones: while this thread does not run, the engine's goes on.
    const run = async (account: string): Promise<void> => {
      await collect(engine, { prompt: ids(20, 512), maxTokens: 400, account })
      order.push(account)
    }
    const many = Array.from({ length: 40 }, () => run('many'))
    await new Promise(resolve => setImmediate(resolve))
    const { running, waiting } = engine.stats()
    await run('one')
    const before = order.length - 1 - (40 - running - waiting)
    await Promise.all(many)
    // Those that run, and those that run beside it: about eight. In the order of asking it would be all.
    t.ok(before <= 20, `${before} of the others' forty became ready before it`)
  })
})

t.test('who waits too long is told so, and so is one too many', { skip }, async t => {
  const asked = async (engine: LocalEngine, count: number): Promise<string[]> => {
    const results = await Promise.allSettled(
      Array.from({ length: count }, () => collect(engine, { prompt: ids(200, 300), maxTokens: 100 }))
    )
    return results.map(r => (r.status === 'fulfilled' ? 'done' : r.reason.message))
  }
  const count = (said: string[], what: RegExp): number => said.filter(s => what.test(s)).length
  await withEngine('llama3-q8_0', { running: 1, waiting: 3 }, async engine => {
    const said = await asked(engine, 6)
    // Whether the first one runs already when one of the last three is asked for is the scheduler's affair.
    const refused = count(said, /^the engine is busy: 3 requests wait/)
    t.ok(refused === 2 || refused === 3, said.join('; '))
    t.equal(count(said, /^done$/), 6 - refused)
    t.strictSame(said.slice(0, 3), ['done', 'done', 'done'], 'there was room for the first three')
  })
  await withEngine('llama3-q8_0', { running: 1, waiting: 8, patienceMs: 1 }, async engine => {
    const said = await asked(engine, 8)
    const expired = count(said, /^no capacity became free in time$/)
    t.ok(expired >= 1, said.join('; '))
    t.equal(count(said, /^done$/), 8 - expired)
    t.equal(engine.stats().expired, expired)
  })
})

t.test('tokens guessed ahead change nothing: looked up, or by another model', { skip }, async t => {
  const draft = join(FIXTURES!, 'stories260K-Q4_0.gguf')
  let right = 0
  for (const name of ['stories260K-Q8_0', 'stories260K-F32']) {
    const list = requests(30, 512, 80)
    // A story goes on in its own words: much can be guessed.
    const text = await withEngine(name, { lookUp: false }, async engine => {
      const out = []
      for (const request of list) out.push((await collect(engine, request)).ids)
      t.equal(engine.stats().drafted, 0)
      return out
    })
    for (const options of [{}, { draft, lookUp: false }, { draft }]) {
      await withEngine(name, { ...options, running: 1 + below(6) }, async engine => {
        const answers = await Promise.all(list.map(r => collect(engine, r)))
        for (const [i, answer] of answers.entries()) t.strictSame(answer.ids, text[i], `request ${i}`)
        const { drafted, accepted } = engine.stats()
        right += accepted
        t.comment(`${name}, ${Object.keys(options).join(' and ') || 'look-up'}: ${accepted} of ${drafted} were right`)
      })
    }
  }
  // How many depends on the stories; that none was would mean that nothing was guessed.
  t.ok(right > 50, `${right} guesses were right`)
  await t.rejects(
    openEngine(join(FIXTURES!, 'stories260K-F32.gguf'), { draft: join(FIXTURES!, 'llama-f32.gguf') }),
    /the draft model has \d+ tokens, the model 512/
  )
})

t.test('an answer followed again as one prompt has the same digests', { skip }, async t => {
  const trace = new Uint8Array(32).fill(7)
  for (const [name, vocabulary] of [
    ['stories260K-Q8_0', 512],
    ['qwen2-q4_k_m', 896],
    ['qwen3moe-f32', 896]
  ] as const) {
    const list = requests(12, vocabulary, 40)
    const made = await withEngine(name, { cpu: 'generic' }, engine =>
      Promise.all(list.map(r => collect(engine, { ...r, trace })))
    )
    await withEngine(name, { threads: 2 }, async engine => {
      for (const [i, answer] of made.entries()) {
        const forced = Int32Array.from(answer.ids)
        const again = await collect(engine, { ...list[i]!, trace, forced })
        t.strictSame(again.ids, answer.ids, `${name}: drawn`)
        t.strictSame(
          again.steps.map(s => s.trace),
          answer.steps.map(s => s.trace),
          `${name}: digests`
        )
      }
      const longest = made.reduce((a, b, i) => (b.ids.length > made[a]!.ids.length ? i : a), 0)
      const wrong = Int32Array.from(made[longest]!.ids)
      const at = Math.floor(wrong.length / 2)
      wrong[at] = wrong[at] === 5 ? 6 : 5
      const other = await collect(engine, { ...list[longest]!, trace, forced: wrong })
      const differs = other.steps.findIndex(
        (s, i) => Buffer.compare(s.trace!.running, made[longest]!.steps[i]!.trace!.running) !== 0
      )
      t.equal(differs, at, 'the running hash shows where')
      if (other.ids[at] !== wrong[at]) t.pass('and the draw says another token')
    })
  }
})

t.test('digests depend on no batch, thread, path of the CPU, shared page or guess', { skip }, async t => {
  const trace = new Uint8Array(32).fill(9)
  const rounds = Number(process.env.ROUNDS ?? 1)
  let compared = 0
  for (const [name, vocabulary] of [
    ['stories260K-Q4_0', 512],
    ['llama-q5_k_m', 896],
    ['qwen3moe-mxfp4', 896],
    ['gemma3-q4_0', 896]
  ] as const) {
    for (let round = 0; round < rounds; round++) {
      const list = requests(10, vocabulary, 30)
      const run = (options: EngineOptions & { cpu?: string }) =>
        withEngine(name, options, engine =>
          Promise.all(list.map(async r => (await collect(engine, { ...r, trace })).steps.map(s => s.trace?.running)))
        )
      const alone = await run({ running: 1, lookUp: false, threads: 1 })
      for (const cpu of inferAddon().info().paths) {
        for (const options of [
          { running: 1 },
          { running: 32 },
          { running: 7, threads: 2 },
          { running: 32, sharedCache: true }
        ]) {
          const other = await run({ threads: 1, ...options, cpu })
          compared += other.flat().length
          t.strictSame(other, alone, `${name}, ${cpu}, ${JSON.stringify(options)}`)
        }
      }
    }
  }
  t.comment(`${compared} tokens`)
  t.ok(compared > 2_000)
})
