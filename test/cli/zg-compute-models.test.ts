/**
 * Proves `zg-compute models` as its users meet it: files are described, named by the root that zg-store gives them, made smaller and
 * fetched from a storage node by that root, whole or not at all.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot, parseRecords, runTool, sandbox, startTool } from '../harness/tools.ts'

const MODEL = join(packageRoot, 'share', 'models', 'tiny-zg.gguf')
const FIXTURES = ['..', '../..'].map(up => join(packageRoot, up, 'shared', 'fixtures', 'models')).find(existsSync)
const box = sandbox('models')
t.teardown(() => box.remove())
const zg = (...args: string[]) => runTool('zg-compute', ['models', ...args], { env: box.env })
const record = (stdout: string) => parseRecords(stdout).at(-1)!

t.test('a model is described, and named by the root that zg-store gives it', async t => {
  const root = (await runTool('zg-store', ['root', MODEL], { env: box.env })).stdout.trim()
  const hash = await zg('hash', MODEL)
  t.equal(hash.stdout.trim(), root)
  const shown = await zg('inspect', MODEL)
  t.equal(shown.code, 0, shown.stderr)
  for (const line of [
    /^architecture +llama$/m,
    /^memory +[0-9.]+ MiB: weights /m,
    new RegExp(`^root +${root}$`, 'm')
  ]) {
    t.match(shown.stdout, line)
  }
  const told = record((await zg('inspect', MODEL, '--json', '--context', '64')).stdout)
  const { size, memory, roots, runnable, parts } = told as unknown as {
    size: number
    memory: { weights: number; mapped: number; cache: number; positions: number; total: number }
    roots: string[]
    runnable: boolean
    parts: number
  }
  t.match(
    { size, roots, runnable, parts },
    { size: readFileSync(MODEL).length, roots: [root], runnable: true, parts: 1 }
  )
  t.equal(memory.positions, 64)
  t.equal(memory.total, memory.weights + memory.mapped + memory.cache)
  t.equal(record((await zg('inspect', MODEL, '--json', '--no-hash')).stdout).roots, null)
  const two = await zg('hash', MODEL, box.path('absent'))
  t.match([two.code, two.stdout.trim()], [66, `${root}  ${MODEL}`], 'one missing file does not hide the other')
  writeFileSync(box.path('no.gguf'), 'GGUF is only its first word here')
  const bad = await zg('inspect', box.path('no.gguf'))
  t.equal(bad.code, 65)
  t.match(bad.stderr, /cannot be read as a model: version: .* at byte 4/)
})

t.test('a model is made smaller, or the reason is told', { skip: FIXTURES === undefined && 'no fixtures' }, async t => {
  const from = join(FIXTURES!, 'qwen3-bf16.gguf')
  const to = box.path('small.gguf')
  const made = await zg('quantize', from, to, '--type', 'q4_k_m', '--json')
  t.equal(made.code, 0, made.stderr)
  t.match(record(made.stdout), { type: 'quantized', recipe: 'Q4_K_M', output: to })
  t.ok(readFileSync(to).length < 0.5 * readFileSync(from).length)
  const run = await runTool('zg-compute', ['models', 'inspect', to, '--json'], { env: box.env })
  t.match(record(run.stdout), { runnable: true, architecture: 'qwen3' })
  for (const [args, code, words] of [
    [[from, to], 73, /exists.*--force/s],
    [[to, box.path('again.gguf'), '--type', 'q8_0'], 65, /already; models are made from F32, F16 or BF16/],
    [[from, box.path('x.gguf'), '--type', 'Q7'], 64, /'Q7' is no type to quantize to.*known are F32/s],
    [[box.path('none'), box.path('x.gguf')], 66, /does not exist/],
    [[from, box.path('no/such/dir.gguf')], 74, /cannot be created/]
  ] as const) {
    const r = await zg('quantize', ...args)
    t.equal(r.code, code, r.stderr)
    t.match(r.stderr, words)
  }
  t.strictSame(
    readdirSync(box.path('.')).filter(f => /part|again|^x/.test(f)),
    [],
    'nothing is left behind'
  )
})

t.test('a model is fetched by its root, checked, and only when it is one', async t => {
  await runTool('zg-chain', ['init', '--dir', box.path('chain'), '--quiet'], { env: box.env })
  const chain = await startTool(
    'zg-chain',
    ['node', '--dev', '--dir', box.path('chain'), '--rpc-port', '0', '--block-time', '200ms'],
    { env: box.env }
  )
  const store = await startTool(
    'zg-store',
    ['node', '--dir', box.path('store'), '--rpc-port', '0', '--rpc-url', chain.url],
    { env: box.env }
  )
  const env = { ...box.env, ZG_STORE_NODES: store.url, ETH_RPC_URL: chain.url }
  t.teardown(async () => {
    await store.stop()
    await chain.stop()
  })
  writeFileSync(box.path('note'), 'not a model\n'.repeat(99))
  const put = async (file: string): Promise<string> => {
    const r = await runTool('zg-store', ['put', file, '--expected-replica', '1'], { env })
    t.equal(r.code, 0, r.stderr)
    return r.stdout.trim()
  }
  const [model, note] = [await put(MODEL), await put(box.path('note'))]
  const pull = (...args: string[]) => runTool('zg-compute', ['models', 'pull', ...args], { env })
  const output = box.path('pulled.gguf')
  const r = await pull(model, '-o', output, '--json')
  t.equal(r.code, 0, r.stderr)
  t.match(record(r.stdout), { type: 'pulled', root: model, output, architecture: 'llama', runnable: true })
  t.ok(readFileSync(output).equals(readFileSync(MODEL)))
  const again = await pull(model, '-o', output)
  t.equal(again.code, 73)
  const other = await pull(note, '-o', box.path('note.gguf'))
  t.match([other.code, other.stderr], [65, /no GGUF file/])
  t.equal(existsSync(box.path('note.gguf')) || existsSync(box.path('note.gguf.part')), false)
  t.match((await pull(`0x${'11'.repeat(32)}`, '-o', box.path('a.gguf'))).code, 69)
  t.match((await pull('0x12')).code, 64)
})
