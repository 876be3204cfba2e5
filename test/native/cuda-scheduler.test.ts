/**
 * Proves that the scheduler over the CUDA back end (its kernels emulated on the host, the same engine and addon source otherwise) gives the
 * tokens and digests of the CPU: alone and eight at once, with shared beginnings, pages taken back, guesses, forced answers and pooled
 * states; on one device, on several that share a model's layers, and with layers on the CPU; that a device that fails, in the middle of a
 * step, too, is told to everybody; and that a device that is not there, or has no room, is a clear error.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { backendOf, cudaDevices } from '../../lib/infer/cuda.ts'
import { devicesOf, parseDevice, parseSplit } from '../../lib/infer/device.ts'
import { type LocalEngine, openEngine } from '../../lib/infer/engine.ts'
import type { EngineOptions, GenerateRequest, Step } from '../../lib/infer/types.ts'
import { nativePath } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'

const FIXTURES = ['..', '../..'].map(up => join(packageRoot(), up, 'shared', 'fixtures', 'models')).find(existsSync)
const cudaAddon = join(packageRoot(), 'build', 'Release', 'infer_emulated.node')
const noBuild = existsSync(nativePath('infer')) && existsSync(cudaAddon) ? false : 'no native build here'
const skip = noBuild !== false ? noBuild : FIXTURES === undefined ? 'no model fixtures beside the repository' : false
const seed = SEED
// One emulated device at a time: tests run one after another.
t.setTimeout(300_000)

let state = seed * 2 + 1
const below = (n: number): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
  return Math.floor((state / 2 ** 32) * n)
}
const ids = (count: number, vocabulary: number): Int32Array =>
  Int32Array.from({ length: count }, () => 3 + below(vocabulary - 3))

async function withEngine<T>(
  name: string,
  options: EngineOptions & { cudaAddon?: string },
  use: (engine: LocalEngine) => Promise<T>
): Promise<T> {
  const engine = await openEngine(join(FIXTURES!, `${name}.gguf`), { threads: 1, contextLength: 256, ...options })
  try {
    return await use(engine)
  } finally {
    await engine.close()
  }
}
const emulated = { device: 'cuda', cudaAddon } as const
/** Keys and values in the emulated device: few, so that its memory stays small. */
const cacheBytes = 8 * 1024 * 1024

const trace = new Uint8Array(32).fill(5)
type Asked = Partial<GenerateRequest> & { prompt: Int32Array }

async function collect(engine: LocalEngine, request: Asked): Promise<Step[]> {
  const steps: Step[] = []
  const whole = { maxTokens: 12, ignoreEnd: true, sampling: { temperature: 0 }, trace, ...request }
  for await (const step of engine.generate(whole)) steps.push(step)
  return steps
}
/** What must be equal wherever it was computed: tokens, digests of states, running hashes of whole rows of logits. */
const told = (steps: Step[]): unknown[] => steps.map(s => [s.id, s.trace, s.finish])

function requests(count: number, vocabulary: number, longest: number, shortest = 1): Asked[] {
  const start = ids(33, vocabulary)
  return Array.from({ length: count }, (_, i) => ({
    prompt:
      i % 3 === 0
        ? Int32Array.from([...start, ...ids(1 + below(8), vocabulary)])
        : ids(shortest + below(longest - shortest + 1), vocabulary),
    maxTokens: 3 + below(9),
    account: `u${i % 2}`,
    sampling: i % 2 === 0 ? { temperature: 0 } : { temperature: 0.8, topK: 40, seed: BigInt(i) }
  }))
}

t.test('tokens and digests are those of the CPU, one request at a time and eight at once', { skip }, async t => {
  let compared = 0
  for (const [name, vocabulary] of [
    ['stories260K-Q4_0', 512],
    ['llama-q5_k_m', 896],
    ['gemma3-q4_0', 896],
    ['qwen3moe-mxfp4', 896],
    ['qwen2-f32', 896]
  ] as const) {
    const list = requests(8, vocabulary, 70)
    const run = (options: EngineOptions & { cudaAddon?: string }) =>
      withEngine(name, options, engine => Promise.all(list.map(async r => told(await collect(engine, r)))))
    const cpu = await run({ running: 1, lookUp: false })
    for (const options of [
      { running: 1, lookUp: false },
      { running: 8, sharedCache: true }
    ]) {
      const device = await run({ ...emulated, cacheBytes, ...options })
      t.strictSame(device, cpu, `${name}, ${JSON.stringify(options)}`)
      compared += device.flat().length
    }
  }
  t.comment(`${compared} tokens`)
  t.ok(compared > 400)
})

t.test('a cache too small for all, guesses of a draft model, forced answers, pooled states', { skip }, async t => {
  const name = 'stories260K-Q8_0'
  const list = requests(8, 512, 60, 30).map(r => ({ ...r, maxTokens: 60 }))
  const pageBytes = await withEngine(name, { ...emulated, cacheBytes }, async engine => {
    t.equal(engine.info.cpu, 'emulation')
    return engine.stats().pageBytes
  })
  const draft = join(FIXTURES!, 'stories260K-Q4_0.gguf')
  const cpu = await withEngine(name, { lookUp: false }, async engine => ({
    answers: await Promise.all(list.map(async r => told(await collect(engine, r)))),
    mean: await engine.embed!(list[0]!.prompt),
    odds: await collect(engine, { prompt: list[1]!.prompt, promptLogprobs: true, logprobs: 3 })
  }))
  await withEngine(name, { ...emulated, cacheBytes: 14 * pageBytes, running: 8 }, async engine => {
    t.equal(engine.stats().pages, 14)
    const device = await Promise.all(list.map(async r => told(await collect(engine, r))))
    t.strictSame(device, cpu.answers)
    t.ok(engine.stats().preempted > 0, `${engine.stats().preempted} computed again`)
    t.equal(engine.stats().pagesUsed, 0)
  })
  await withEngine(name, { ...emulated, cacheBytes, draft, running: 2 }, async engine => {
    const device = await Promise.all(list.slice(0, 3).map(async r => told(await collect(engine, r))))
    t.strictSame(device, cpu.answers.slice(0, 3), 'with guesses')
    t.ok(engine.stats().drafted > 0)
    t.strictSame(await engine.embed!(list[0]!.prompt), cpu.mean, 'the mean of the states')
    const odds = await collect(engine, { prompt: list[1]!.prompt, promptLogprobs: true, logprobs: 3 })
    t.strictSame(
      odds.map(s => s.logprob),
      cpu.odds.map(s => s.logprob)
    )
    const answer = cpu.answers[4]! as [number, Step['trace'], Step['finish']][]
    const forced = Int32Array.from(answer.map(a => a[0]))
    const again = await collect(engine, { ...list[4]!, forced })
    t.strictSame(
      again.map(s => s.trace),
      answer.map(a => a[1]),
      'an answer followed again'
    )
  })
})

/** The emulation's own knobs: devices that are there, bytes of each, whether they reach one another, when one fails. */
type Knobs = Partial<Record<'DEVICES' | 'BYTES' | 'PEERS' | 'FAIL', string>>
async function withDevices<T>(knobs: Knobs, use: () => Promise<T>): Promise<T> {
  const names = Object.keys(knobs).map(k => `ZG_EMULATED_${k}`)
  for (const [k, v] of Object.entries(knobs)) process.env[`ZG_EMULATED_${k}`] = v
  try {
    return await use()
  } finally {
    for (const name of names) delete process.env[name]
  }
}

t.test('layers over several devices and the CPU: the same tokens and digests', { skip }, async t => {
  let compared = 0
  for (const [name, vocabulary, layouts] of [
    [
      'stories260K-Q4_0',
      512,
      [
        { device: 'cuda:0,1', running: 8 },
        { device: 'cuda:2,0,1', split: [1, 3, 1], running: 8, sharedCache: true },
        { device: 'cuda:all', deviceLayers: 4, running: 8 },
        { device: 'cuda:1', deviceLayers: 2, running: 1 }
      ]
    ],
    ['qwen3moe-mxfp4', 896, [{ device: 'cuda:0,1', running: 8 }]],
    ['gemma3-q4_0', 896, [{ device: 'cuda:all', deviceLayers: 4, running: 8 }]]
  ] as const) {
    const list = requests(6, vocabulary, 40)
    const run = (options: EngineOptions & { cudaAddon?: string }) =>
      withEngine(name, options, async engine => ({
        answers: await Promise.all(list.map(async r => told(await collect(engine, r)))),
        placement: engine.placement
      }))
    const cpu = await run({ running: 1, lookUp: false })
    t.equal(cpu.placement, '')
    for (const [i, options] of layouts.entries()) {
      const knobs = { DEVICES: '3', PEERS: `${i % 2}` }
      const got = await withDevices(knobs, () => run({ ...options, cudaAddon, cacheBytes }))
      t.strictSame(got.answers, cpu.answers, `${name}, ${JSON.stringify(options)}`)
      t.match(got.placement, /^layers? 1.* on cuda:\d \(emulation\) \(\d+ MiB\).*; keys and values of \d+ positions/)
      t.equal('deviceLayers' in options, got.placement.includes(' on the CPU ('), got.placement)
      compared += got.answers.flat().length
    }
  }
  t.ok(compared > 200, `${compared} tokens`)
})

t.test('a split with few pages, a draft model, forced answers and pooled states', { skip }, async t => {
  const name = 'stories260K-Q8_0'
  const list = requests(6, 512, 60, 30).map(r => ({ ...r, maxTokens: 60 }))
  const cpu = await withEngine(name, { lookUp: false }, async engine => ({
    answers: await Promise.all(list.map(async r => told(await collect(engine, r)))),
    mean: await engine.embed!(list[0]!.prompt)
  }))
  const split = { device: 'cuda:0,1', deviceLayers: 4, cudaAddon } as const
  await withDevices({ DEVICES: '2' }, async () => {
    const pageBytes = await withEngine(name, { ...split, cacheBytes }, async engine => engine.stats().pageBytes)
    await withEngine(name, { ...split, cacheBytes: 14 * pageBytes, running: 8 }, async engine => {
      t.strictSame(await Promise.all(list.map(async r => told(await collect(engine, r)))), cpu.answers)
      t.ok(engine.stats().preempted > 0, `${engine.stats().preempted} computed again`)
      t.equal(engine.stats().pagesUsed, 0)
    })
    const draft = join(FIXTURES!, 'stories260K-Q4_0.gguf')
    await withEngine(name, { ...split, cacheBytes, draft, running: 2 }, async engine => {
      t.strictSame(
        await Promise.all(list.slice(0, 2).map(async r => told(await collect(engine, r)))),
        cpu.answers.slice(0, 2)
      )
      t.ok(engine.stats().drafted > 0)
      t.strictSame(await engine.embed!(list[0]!.prompt), cpu.mean, 'the mean of the states')
      const answer = cpu.answers[4]! as [number, Step['trace'], Step['finish']][]
      const again = await collect(engine, { ...list[4]!, forced: Int32Array.from(answer.map(a => a[0])) })
      t.strictSame(
        again.map(s => s.trace),
        answer.map(a => a[1]),
        'an answer followed again'
      )
    })
    // Without a size the devices' memory decides, and every stage has room for the same pages.
    await withDevices({ BYTES: '24000000,20000000' }, () =>
      withEngine(name, { ...split, running: 2 }, async engine => {
        t.ok(engine.stats().pages > 20, `${engine.stats().pages} pages`)
        t.strictSame(told(await collect(engine, list[1]!)), cpu.answers[1])
      })
    )
  })
})

t.test('a device of a split that fails in the middle of a step is told, and stays so', { skip }, async t => {
  // The second device: full when a longer sequence wants more, or gone after so many launches.
  for (const [fails, message] of [
    [{ BYTES: ',1' }, 'the emulated device is full'],
    [{ FAIL: '1:7' }, 'the emulated device failed'],
    [{ FAIL: '0:4' }, 'the emulated device failed']
  ] as const) {
    await withDevices({ DEVICES: '2' }, async () => {
      const path = join(FIXTURES!, 'stories260K-Q8_0.gguf')
      const engine = await openEngine(path, { device: 'cuda:0,1', deviceLayers: 4, cudaAddon, cacheBytes, threads: 1 })
      try {
        t.equal((await collect(engine, { prompt: ids(5, 512) })).length, 12)
        await withDevices(fails, async () => {
          const long = collect(engine, { prompt: ids(100, 512), maxTokens: 100 })
          const other = collect(engine, { prompt: ids(3, 512), maxTokens: 100 })
          await t.rejects(long, { code: 'ERR_UNAVAILABLE', message: 'the device failed' })
          await t.rejects(other, { code: 'ERR_UNAVAILABLE' })
        })
        // The cause is gone, the state of the sequences is not known any more.
        await t.rejects(collect(engine, { prompt: ids(5, 512) }), {
          code: 'ERR_UNAVAILABLE',
          message: `the device failed: ${message}`
        })
      } finally {
        await engine.close()
      }
    })
  }
})

t.test('a model that does not fit goes to the CPU in part, or is refused in numbers', { skip }, async t => {
  const name = 'llama-mix'
  const prompt = ids(20, 512)
  const want = await withEngine(name, { lookUp: false }, async engine => told(await collect(engine, { prompt })))
  const open = (BYTES: string, options: EngineOptions = {}) =>
    withDevices({ DEVICES: '2', BYTES }, () =>
      withEngine(
        name,
        { device: 'cuda:0,1', cudaAddon, cacheBytes: 1_000_000, running: 2, ...options },
        async engine => ({
          placement: engine.placement,
          answer: told(await collect(engine, { prompt }))
        })
      )
    )
  const roomy = await open('')
  t.match(roomy.placement, /^layers 1 to [345] on cuda:0 .*, layers [456] to 8 on cuda:1/)
  t.strictSame(roomy.answer, want)
  const part = await open('14000000')
  t.match(part.placement, /^layers? 1.* on the CPU \(\w+, \d+ MiB\), layers? .* on cuda:0 .*, layers? .* on cuda:1/)
  t.strictSame(part.answer, want)
  const chosen = await open('', { split: [1, 3], deviceLayers: 4 })
  t.match(chosen.placement, /^layers 1 to 4 on the CPU .*, layer 5 on cuda:0 .*, layers 6 to 8 on cuda:1/)
  t.strictSame(chosen.answer, want)
  await t.rejects(open('3000000'), {
    code: 'ERR_BAD_INPUT',
    message:
      /does not fit: layers 1 to 8 need \d+ MiB on one device, 3 MiB of cuda:0 \(emulation\) and 3 MiB of cuda:1 .*; with layers 1 to 7 on the CPU, layer 8 needs/
  })
  await t.rejects(open('14000000', { deviceLayers: 8 }), {
    code: 'ERR_BAD_INPUT',
    message: /layers 1 to 8 need \d+ MiB/
  })
  await t.rejects(open(',3000000', { split: [1, 1] }), {
    message: /layers \d to 8 need \d+ MiB of cuda:1 \(emulation\), 3 MiB/
  })
  await t.rejects(open('', { split: [100, 1] }), { message: /leave a device without any/ })
  await t.rejects(open('', { split: [1] }), { code: 'ERR_USAGE', message: 'split has 1 shares for 2 devices' })
  await t.rejects(open('', { device: 'cpu', split: [1] }), { code: 'ERR_USAGE', message: /CUDA devices alone/ })
})

t.test('the emulation finds memory of another device, writes beyond the end, and copies nobody waited for', async t => {
  const program = join(packageRoot(), 'build', 'Release', 'infer_emulation_mix_up')
  if (!existsSync(program)) return t.comment('no native build here')
  for (const [what, status, words] of [
    ['kernel', null, /a pointer of another device was used/],
    ['overrun', null, /written beyond the end/],
    ['copy-in', 0, /not of this device/],
    ['copy-out', 0, /not of this device/],
    ['host', 0, /host side is a device's memory/],
    ['peer', 0, /not of the other device/],
    ['no-wait', 0, /not there before it was waited for/]
  ] as const) {
    const r = spawnSync(program, [what], { encoding: 'utf8' })
    t.equal(r.status, status, what)
    t.match(r.stdout + r.stderr, words, what)
  }
})

t.test('a device that fails is told to those that run and to those that come', { skip }, async t => {
  const engine = await openEngine(join(FIXTURES!, 'stories260K-Q8_0.gguf'), { ...emulated, cacheBytes, threads: 1 })
  t.teardown(() => engine.close())
  t.equal((await collect(engine, { prompt: ids(5, 512) })).length, 12)
  // The next longer sequence wants more room for its attention.
  process.env.ZG_EMULATED_BYTES = '1'
  t.teardown(() => delete process.env.ZG_EMULATED_BYTES)
  const long = collect(engine, { prompt: ids(100, 512), maxTokens: 100 })
  const other = collect(engine, { prompt: ids(3, 512), maxTokens: 100 })
  await t.rejects(long, { code: 'ERR_UNAVAILABLE', message: 'the device failed' })
  await t.rejects(other, { code: 'ERR_UNAVAILABLE' })
  await t.rejects(collect(engine, { prompt: ids(5, 512) }), {
    code: 'ERR_UNAVAILABLE',
    message: 'the device failed: the emulated device is full'
  })
  await t.rejects(openEngine(join(FIXTURES!, 'llama-f32.gguf'), { ...emulated, cacheBytes }), {
    code: 'ERR_BAD_INPUT',
    message: /the model does not fit: .* 0 MiB of cuda:0 \(emulation\) can be taken; with layers 1 to \d on the CPU/
  })
})

t.test('a device that is not there, and what the device does not do, are clear errors', { skip: noBuild }, async t => {
  const good = ['cpu', 'auto', 'cuda', 'cuda:3', 'cuda:all', 'cuda:2,0']
  t.same(good.map(parseDevice), good)
  t.same(
    good.map(g => devicesOf(parseDevice(g))),
    [undefined, [0], [0], [3], 'all', [2, 0]]
  )
  for (const bad of [
    'gpu',
    'cuda:',
    'cuda:x',
    'cuda:65',
    'cuda:0,65',
    'cuda:0,',
    'cuda:1,1',
    'cuda:all,1',
    'CUDA',
    ''
  ]) {
    t.throws(() => parseDevice(bad), { code: 'ERR_USAGE' }, bad)
  }
  t.same(parseSplit('3,1'), [3, 1])
  for (const bad of ['', '0', '3,', 'a', '1,0', '1.5', '2000000', '1 2'])
    t.throws(() => parseSplit(bad), { code: 'ERR_USAGE' }, bad)
  t.equal(backendOf('cpu', cudaAddon), undefined)
  t.same(backendOf('auto', cudaAddon)?.devices, Int32Array.of(0))
  await withDevices({ DEVICES: '3' }, async () => {
    t.same(backendOf('cuda:all', cudaAddon)?.devices, Int32Array.of(0, 1, 2))
    t.same(backendOf('cuda:2,1', cudaAddon)?.devices, Int32Array.of(2, 1))
    t.throws(() => backendOf('cuda:1,3', cudaAddon), { message: 'no CUDA device: device 3 is not among 3' })
  })
  t.throws(() => backendOf('cuda:1', cudaAddon), {
    code: 'ERR_UNAVAILABLE',
    message: 'no CUDA device: device 1 is not among 1'
  })
  const missing = join(packageRoot(), 'build', 'Release', 'no-such.node')
  t.equal(backendOf('auto', missing), undefined)
  t.throws(() => backendOf('cuda', missing), { message: 'no CUDA device: zg was built without CUDA' })
  if (FIXTURES !== undefined) {
    const model = join(FIXTURES, 'stories260K-F32.gguf')
    await t.rejects(openEngine(model, { ...emulated, adapters: [{ path: 'x' }] }), {
      code: 'ERR_USAGE',
      message: 'LoRA adapters are applied on the CPU alone'
    })
    await t.rejects(openEngine(model, { ...emulated, cacheBytes: 10 }), {
      code: 'ERR_BAD_INPUT',
      message: /holds no page/
    })
  }
  if (cudaDevices().devices.length > 0) return
  const tool = join(packageRoot(), 'bin', 'zg-compute')
  const run = (device: string) =>
    spawnSync(process.execPath, [tool, 'serve', '--port', '0', '--device', device], {
      encoding: 'utf8',
      timeout: 60_000
    })
  const none = run('cuda')
  t.equal(none.status, 69, none.stderr)
  t.match(none.stderr, /no CUDA device: .+\n.*--device cpu/)
  t.equal(run('gpu').status, 64)
})
