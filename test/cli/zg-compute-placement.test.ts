/**
 * Proves where an engine's threads and memory go, from outside: each thread of a server started with `--cpus` may use its own core and no
 * other, cores that the process may not use are refused, `--numa` is told by the system's files (two nodes and none are shown by files of
 * the test's own), changes nothing on one node and says so, and the memory policy that it asks for is the one the kernel then shows.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { openEngine } from '../../lib/infer/engine.ts'
import { inferAddon } from '../../lib/infer/native.ts'
import { placementOf } from '../../lib/infer/numa.ts'
import { nativePath } from '../../lib/native.ts'
import { packageRoot, runTool, sandbox, startTool } from '../harness/tools.ts'

const skip =
  process.platform !== 'linux' || !existsSync(nativePath('infer')) || availableParallelism() < 2
    ? 'needs Linux, two cores and a native build'
    : false
const model = join(packageRoot, 'share', 'models', 'tiny-zg.gguf')
const box = sandbox('placement')
t.setTimeout(120_000)
t.teardown(() => box.remove())

/** Which cores each thread may use. */
function threads(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map(
    id => /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/task/${id}/status`, 'utf8'))![1]!
  )
}

t.test('each thread keeps to its core of --cpus', { skip }, async t => {
  const all = threads(process.pid)[0]!
  for (const [cpus, own] of [
    ['0-1', ['0', '1']],
    ['1', ['1']]
  ] as const) {
    const server = await startTool('zg-compute', ['serve', '--port', '0', '--cpus', cpus], {
      env: box.env,
      timeoutMs: 60_000
    })
    const pinned = threads(server.pid).filter(list => list !== all)
    t.strictSame(pinned.sort(), own, `--cpus ${cpus}: one thread for each, the others of the process are free`)
    await server.stop()
  }
})

t.test('cores and nodes that are not there are refused', { skip }, async t => {
  const args = ['serve', '--port', '0', '--json']
  const none = await runTool('zg-compute', [...args, '--cpus', '1000'], { env: box.env })
  t.not(none.code, 0)
  t.match(none.stderr, /cores among the cpus that this process may not use/)
  const mode = await runTool('zg-compute', [...args, '--numa', 'both'], { env: box.env })
  t.equal(mode.code, 64)
  t.match(mode.stderr, /none of interleave and local/)
})

/** Files as a system with these nodes has them. */
function system(name: string, allowed: string, nodes: Record<string, string>, memory: string): string {
  const root = box.path(name)
  mkdirSync(join(root, 'proc', 'self'), { recursive: true })
  writeFileSync(
    join(root, 'proc', 'self', 'status'),
    `Name:\tnode\nCpus_allowed:\tff\nCpus_allowed_list:\t${allowed}\n`
  )
  const dir = join(root, 'sys', 'devices', 'system', 'node')
  for (const [id, cpus] of Object.entries(nodes)) {
    mkdirSync(join(dir, `node${id}`), { recursive: true })
    writeFileSync(join(dir, `node${id}`, 'cpulist'), `${cpus}\n`)
  }
  if (Object.keys(nodes).length > 0) writeFileSync(join(dir, 'has_memory'), `${memory}\n`)
  return root
}

t.test('threads take the nodes in turns, or one alone', async t => {
  // Node 2 has memory and no cores, node 3 cores and no memory.
  const two = system('two', '0-5,8-15', { 0: '0-3,8-9', 1: '4-7,10-11', 2: '', 3: '12-15' }, '0-2')
  t.strictSame(placementOf('interleave', undefined, two), {
    cpus: [0, 4, 1, 5, 2, 10, 3, 11, 8, 9],
    nodes: [0, 1],
    note: undefined
  })
  t.strictSame(placementOf('interleave', [5, 3, 2], two), { cpus: [2, 5, 3], nodes: [0, 1], note: undefined })
  t.strictSame(placementOf('local', undefined, two), { cpus: [0, 1, 2, 3, 8, 9], nodes: [0], note: undefined })
  t.strictSame(placementOf('local', [10, 11], two), { cpus: [10, 11], nodes: [1], note: undefined })
  t.throws(() => placementOf('local', [0, 4], two), { code: 'ERR_USAGE', message: /nodes 0, 1/ } as unknown as Error)
  t.throws(() => placementOf('local', [12], two), { code: 'ERR_UNAVAILABLE' } as unknown as Error)
  const one = system('one', '0-3', { 0: '0-3' }, '0')
  t.match(placementOf('local', undefined, one), { cpus: undefined, nodes: [], note: /changes nothing/ })
  t.match(placementOf('interleave', [1], one), { cpus: [1], nodes: [] })
  t.throws(() => placementOf('local', undefined, system('none', '0-3', {}, '')), {
    code: 'ERR_UNAVAILABLE'
  } as unknown as Error)
})

t.test('on this machine', { skip: skip || !existsSync('/sys/devices/system/node/has_memory') }, async t => {
  const engine = await openEngine(model, { threads: 1, numa: 'interleave' })
  const { nodes, note } = placementOf('interleave', undefined)
  if (nodes.length === 0) t.ok(engine.warnings.includes(note!), 'one node: told, and nothing done')
  let tokens = 0
  for await (const step of engine.generate({ prompt: engine.textPrompt('The'), maxTokens: 4, sampling: { seed: 1n } }))
    tokens += step.id === undefined ? 0 : 1
  t.ok(tokens > 0)
  await engine.close()
})

t.test(
  'the kernel shows the memory policy that was asked for',
  { skip: skip || !existsSync('/proc/self/numa_maps') },
  async t => {
    const options = {
      threads: 2,
      pin: false,
      contextLength: 64,
      cacheBytes: 2 ** 22,
      waiting: 1,
      running: 1,
      patienceMs: 0
    }
    // A thread's own policy is told for all memory of the process.
    const having = (policy: RegExp): number =>
      readdirSync('/proc/self/task').filter(id => policy.test(readFileSync(`/proc/self/task/${id}/numa_maps`, 'utf8')))
        .length
    for (const [interleave, policy] of [
      [true, /^\w+ interleave:0 /m],
      [false, /^\w+ bind:0 /m]
    ] as const) {
      const placed = await inferAddon().open(model, { ...options, nodes: Int32Array.of(0), interleave }, () => {})
      t.equal(having(policy), 2, 'of the thread that computes and of the one that helps, of no other')
      await placed.close()
      t.equal(having(policy), 0)
    }
    await t.rejects(
      inferAddon().open(model, { ...options, nodes: Int32Array.of(900), interleave: true }, () => {}),
      {
        message: /memory nodes/
      }
    )
    const plain = await inferAddon().open(model, options, () => {})
    await plain.close()
  }
)
