/**
 * Proves that the scheduler over the CUDA back end (its kernels emulated on the host, the same engine and addon source otherwise) gives the
 * tokens and digests of the CPU: alone and eight at once, with shared beginnings, pages taken back, guesses, forced answers and pooled
 * states; that a device that fails is told to everybody; and that a device that is not there is a clear error.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { backendOf, cudaDevices } from '../../lib/infer/cuda.ts'
import { parseDevice } from '../../lib/infer/device.ts'
import { type LocalEngine, openEngine } from '../../lib/infer/engine.ts'
import type { EngineOptions, GenerateRequest, Step } from '../../lib/infer/types.ts'
import { nativePath } from '../../lib/native.ts'

const FIXTURES = ['..', '../..'].map(up => join(packageRoot(), up, 'shared', 'fixtures', 'models')).find(existsSync)
const cudaAddon = join(packageRoot(), 'build', 'Release', 'infer_emulated.node')
const noBuild = existsSync(nativePath('infer')) && existsSync(cudaAddon) ? false : 'no native build here'
const skip = noBuild !== false ? noBuild : FIXTURES === undefined ? 'no model fixtures beside the repository' : false
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31)
t.comment(`seed ${seed}`)
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

function requests(count: number, vocabulary: number, longest: number): Asked[] {
  const start = ids(33, vocabulary)
  return Array.from({ length: count }, (_, i) => ({
    prompt:
      i % 3 === 0 ? Int32Array.from([...start, ...ids(1 + below(8), vocabulary)]) : ids(1 + below(longest), vocabulary),
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
  const list = requests(8, 512, 60).map(r => ({ ...r, maxTokens: 40 }))
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
    message: /the emulated device is full/
  })
})

t.test('a device that is not there, and what the device does not do, are clear errors', { skip: noBuild }, async t => {
  t.same(['cpu', 'auto', 'cuda', 'cuda:3'].map(parseDevice), ['cpu', 'auto', 'cuda', 'cuda:3'])
  for (const bad of ['gpu', 'cuda:', 'cuda:x', 'cuda:65', 'CUDA', '']) {
    t.throws(() => parseDevice(bad), { code: 'ERR_USAGE' }, bad)
  }
  t.equal(backendOf('cpu', cudaAddon), undefined)
  t.equal(backendOf('auto', cudaAddon)?.device, 0)
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
