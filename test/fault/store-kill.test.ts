/**
 * Proves that kill -9 at random moments loses nothing: a real node is killed while it takes segments, prunes and compacts; after each
 * start every acknowledged segment is there byte for byte, final stays final, pruned stays gone, and in the end everything can be
 * finished and SIGTERM ends it within 5 s. ROUNDS sets how often: `npm run test:store-kill` is 200.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { encodeFrameHead } from '../../cmd/zg-store/node/frame.ts'
import { concat, equalBytes } from '../../lib/base/bytes.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { startFlowChain, type TestFile, testFile } from '../harness/flow-chain.ts'
import { SEED } from '../harness/seed.ts'
import { packageRoot, waitFor } from '../harness/tools.ts'

const ROUNDS = Number(process.env.ROUNDS ?? 10)
const random = new SeededRandom(`store kill ${SEED}`)
t.setTimeout(60_000 + ROUNDS * 25_000)

function frame(f: TestFile, index: number): Uint8Array {
  const g = f.segments[index]!
  const siblings = g.proof.path.length === 0 ? new Uint8Array(0) : concat(...g.proof.lemma.slice(1, -1))
  const head = { index, dataSize: g.data.length, fileSize: f.size, root: f.root }
  return concat(encodeFrameHead(head, { siblings, path: g.proof.path }), g.data)
}

interface NodeProcess {
  url: string
  child: ChildProcess
  ended: Promise<number | null>
}

async function start(options: Record<string, unknown>): Promise<NodeProcess> {
  // `env -u`: the test runner puts its loader into NODE_OPTIONS of every child.
  const script = join(packageRoot, 'test', 'harness', 'store-node-process.ts')
  const args = ['-u', 'NODE_OPTIONS', process.execPath, '--import', 'tsx', script, JSON.stringify(options)]
  const child = spawn('/usr/bin/env', args, { cwd: packageRoot, stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  let err = ''
  child.stdout!.on('data', d => {
    out += d
  })
  child.stderr!.on('data', d => {
    err += d
  })
  const ended = new Promise<number | null>(resolve => child.once('close', resolve))
  let over = false
  void ended.then(() => {
    over = true
  })
  await waitFor(() => out.includes('\n') || over, { timeoutMs: 60_000, what: 'the node process' })
  if (over) throw new Error(`the node process ended: ${err}`)
  return { url: (JSON.parse(out).url as string).replace(/\/$/, ''), child, ended }
}

/** One line to the admin socket; rejects when the node dies first. */
function admin(path: string, method: string, ...params: unknown[]): Promise<{ result?: unknown }> {
  return new Promise((resolve, reject) => {
    const c = connect(path)
    let text = ''
    c.on('data', d => {
      text += d
      if (!text.includes('\n')) return
      c.destroy()
      resolve(JSON.parse(text))
    })
    c.on('error', reject)
    c.on('close', () => reject(new Error('the node died')))
    c.write(`${JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })}\n`)
  })
}

t.test('killed at random moments', async t => {
  const chain = await startFlowChain()
  const dir = mkdtempSync(join(tmpdir(), 'zg-kill-'))
  const socket = join(dir, 'a.sock')
  const options = { dir: join(dir, 'node'), chain: chain.url, rpcPort: 0, socket }
  const files: TestFile[] = []
  const acked = new Map<number, Set<number>>()
  const final = new Set<number>()
  /** Pruning was asked for; and was answered. */
  const pruning = new Set<number>()
  const pruned = new Set<number>()
  let node = await start(options)
  t.teardown(async () => {
    node.child.kill('SIGKILL')
    await node.ended
    await chain.close()
    rmSync(dir, { recursive: true, force: true })
  })
  const seen = async () => ((await (await fetch(`${node.url}/ready`)).json()) as { next_tx_seq: number }).next_tx_seq
  const put = async (seq: number, index: number): Promise<void> => {
    const res = await fetch(`${node.url}/v1/segments/${seq}`, { method: 'PUT', body: frame(files[seq]!, index) })
    if (res.status !== 200) throw new Error(`status ${res.status}`)
    const body = (await res.json()) as { finalized: boolean }
    acked.set(seq, (acked.get(seq) ?? new Set()).add(index))
    if (body.finalized) final.add(seq)
  }
  let kept = 0
  for (let round = 0; round < ROUNDS; round++) {
    const fresh = [
      testFile(random.bytes(700_000 + random.below(900_000))),
      testFile(random.bytes(1 + random.below(9000)))
    ]
    const first = files.length
    files.push(...fresh)
    chain.submit(fresh)
    await waitFor(async () => (await seen()) === files.length, { what: 'the events', timeoutMs: 60_000 })
    // Killed when a random number of segments has been acknowledged, four requests being under way all the time.
    const jobs = fresh.flatMap((f, k) => f.segments.map(g => ({ seq: first + k, index: g.index })))
    const killAfter = random.below(jobs.length)
    let answered = 0
    let next = 0
    const work: Promise<void>[] = Array.from({ length: 4 }, async () => {
      for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) {
        await put(job.seq, job.index)
        answered++
      }
    })
    // Every other round an old file is given up, and the space of all that are is gathered.
    const old = [...final].filter(seq => seq < first && !pruning.has(seq))
    if (round % 2 === 1 && old.length > 0) {
      const seq = random.pick(old)
      pruning.add(seq)
      work.push(
        admin(socket, 'admin_pruneFile', seq).then(async () => {
          pruned.add(seq)
          await admin(socket, 'admin_compact')
        })
      )
    }
    await waitFor(() => answered >= killAfter, { what: 'answers', everyMs: 1, timeoutMs: 60_000 })
    await new Promise(resolve => setTimeout(resolve, random.below(30)))
    node.child.kill('SIGKILL')
    await Promise.allSettled(work)
    await node.ended
    node = await start(options)
    // What was asked for earlier was looked at in earlier rounds; the last files and a tenth of the others are enough here.
    for (const [seq, indices] of acked) {
      if (seq < first - 2 && random.below(10) > 0 && round < ROUNDS - 1) continue
      for (const index of indices) {
        const res = await fetch(`${node.url}/v1/segment/${seq}/${index}`)
        const body = new Uint8Array(await res.arrayBuffer())
        if (pruned.has(seq)) {
          if (res.status !== 410) t.fail(`file ${seq} was pruned, now ${res.status}`)
        } else if (res.status === 200 ? !equalBytes(body, files[seq]!.segments[index]!.data) : !pruning.has(seq)) {
          t.fail(`round ${round}: segment ${seq}/${index} was acknowledged, now ${res.status}`)
        } else kept++
      }
    }
    for (const seq of final) {
      if (pruning.has(seq) || (seq < first - 2 && round < ROUNDS - 1)) continue
      const body = (await (await fetch(`${node.url}/v1/file/${seq}`)).json()) as { finalized: boolean }
      if (!body.finalized) t.fail(`round ${round}: file ${seq} was final and is not any more`)
    }
  }
  // And everything can be finished.
  await waitFor(async () => (await seen()) === files.length, { what: 'the events', timeoutMs: 60_000 })
  for (const [seq, f] of files.entries()) {
    if (pruning.has(seq)) continue
    for (const g of f.segments) if (!acked.get(seq)?.has(g.index)) await put(seq, g.index)
    const body = (await (await fetch(`${node.url}/v1/file/${seq}`)).json()) as { finalized: boolean }
    t.equal(body.finalized, true)
  }
  const count = [...acked.values()].reduce((n, s) => n + s.size, 0)
  t.comment(
    `${ROUNDS} kills, ${count} acknowledged segments read ${kept} times, ${final.size} final files, ${pruned.size} pruned, 0 lost`
  )
  const begun = performance.now()
  node.child.kill('SIGTERM')
  t.equal(await node.ended, 0, 'SIGTERM ends it cleanly')
  const ms = performance.now() - begun
  t.ok(ms < 5000, `within 5 s (${Math.round(ms)} ms)`)
  node = await start(options)
})
