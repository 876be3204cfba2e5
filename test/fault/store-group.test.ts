/**
 * Proves with six real node processes (4+2) that a file put through one member is final at another and reads back identical through
 * every survivor while two are killed, wiped or have their disks corrupted, and that the group makes itself whole again. By default a
 * few patterns; `npm run test:store-group` takes all C(6, 2) of them, each way of failing in turn.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, openSync, readdirSync, readSync, rmSync, statSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { encodeFrameHead } from '../../cmd/zg-store/node/frame.ts'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { memberKey } from '../../lib/adapters/member-key.ts'
import { concat, equalBytes } from '../../lib/base/bytes.ts'
import { RemoteFile } from '../../lib/clients/store/get.ts'
import { NodePool } from '../../lib/clients/store/nodes.ts'
import { groupToJson, signGroup } from '../../lib/codec/storage/members.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { FLOW_ADDRESS, startFlowChain, type TestFile, testFile } from '../harness/flow-chain.ts'
import { SEED } from '../harness/seed.ts'
import { choices, content } from '../harness/store-group.ts'
import { freePort, packageRoot, waitFor } from '../harness/tools.ts'

const ALL = process.env.PATTERNS === 'all'
const random = new SeededRandom(`store group ${SEED}`)
t.setTimeout(ALL ? 3_600_000 : 540_000)

const WAYS = ['kill', 'wipe', 'corrupt'] as const
/** What a wiped member may move for its repair in a second, and what it moves for one stripe: the first is not waited for. */
const REPAIR_RATE = 524_288
const STRIPE_BYTES = 4 * 262_144

t.test('six processes: two fail, nothing is lost, the group heals itself', async t => {
  const chain = await startFlowChain()
  const base = mkdtempSync(join(tmpdir(), 'zg-group-'))
  const dirs = Array.from({ length: 6 }, (_, i) => join(base, `n${i}`))
  const keys = await Promise.all(dirs.map(d => memberKey(join(d, 'p2p.key'))))
  const ports: number[] = []
  for (const _ of dirs) ports.push(await freePort())
  const members = keys.map((k, i) => ({ id: k.publicKey, peer: `http://127.0.0.1:${ports[i]}` }))
  const list = signGroup(
    { version: 1, chainId: 31337, flow: FLOW_ADDRESS, members },
    await memberKey(join(base, 'group.key'))
  )
  const running = new Map<number, ChildProcess>()
  const start = async (i: number, repairBytesPerSecond = 0): Promise<void> => {
    const options = {
      dir: dirs[i],
      chain: chain.url,
      rpcPort: ports[i],
      socket: join(dirs[i]!, 'a.sock'),
      group: groupToJson(list),
      groupTimes: {
        beatMs: 500,
        suspectMs: 2500,
        lostMs: 600_000,
        tickMs: 250,
        requestMs: 5000,
        repairBytesPerSecond
      }
    }
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
    running.set(i, child)
    await waitFor(() => out.includes('\n') || child.exitCode !== null, { timeoutMs: 120_000, what: `node ${i}` })
    if (child.exitCode !== null) throw new Error(`node ${i} ended: ${err}`)
  }
  const kill = async (i: number): Promise<void> => {
    const child = running.get(i)!
    running.delete(i)
    const ended = new Promise(resolve => child.once('close', resolve))
    child.kill('SIGKILL')
    await ended
  }
  t.teardown(async () => {
    for (const i of [...running.keys()]) await kill(i)
    await chain.close()
    rmSync(base, { recursive: true, force: true })
  })
  const url = (i: number): string => `http://127.0.0.1:${ports[i]}`
  const isFinal = async (i: number, seq: number): Promise<boolean> =>
    (await new RpcClient(url(i)).call('zgs_checkFileFinalized', [seq])) === true
  const metric = async (i: number, name: string): Promise<number> => {
    const text = await (await fetch(`${url(i)}/metrics`)).text()
    return Number(new RegExp(`^zg_store_${name} (.*)$`, 'm').exec(text)?.[1] ?? Number.NaN)
  }
  const traffic = async (i: number): Promise<number> =>
    (await metric(i, 'repair_read_bytes_total')) + (await metric(i, 'repair_sent_bytes_total'))
  /** Looks again and again until a wiped member is whole: how often it had moved more than its rate allows since it was started. */
  const watchRate = async (i: number, begunMs: number): Promise<number> => {
    let above = 0
    let looks = 0
    const whole = async (): Promise<boolean> => {
      const bytes = await traffic(i)
      // The clock is read after the bytes: a slow look only allows more.
      if (bytes > STRIPE_BYTES + (REPAIR_RATE * (performance.now() - begunMs)) / 1000) above++
      if (bytes > 0) looks++
      return bytes > 4 * STRIPE_BYTES && (await metric(i, 'repair_pending')) === 0
    }
    await waitFor(whole, { timeoutMs: 120_000, everyMs: 100, what: `member ${i} to be whole again` })
    return looks > 0 ? above : -1
  }
  const same = async (i: number, f: TestFile, seq: number): Promise<boolean> => {
    const res = await fetch(`${url(i)}/v1/segments/${seq}?first=0&count=${f.segments.length}`)
    return (
      res.status === 200 && equalBytes(new Uint8Array(await res.arrayBuffer()), concat(...f.segments.map(s => s.data)))
    )
  }
  /** With zg's own client, which reads from the holders and decodes at home. */
  const striped = async (f: TestFile, nodes: readonly string[]): Promise<boolean> => {
    const file = await RemoteFile.open(new NodePool({ nodes }), f.root)
    const parts: Uint8Array[] = []
    for await (const part of file.bytes(0, f.size)) parts.push(part.slice())
    return equalBytes(concat(...parts), f.bytes)
  }
  await Promise.all(dirs.map((_, i) => start(i)))
  await waitFor(async () => (await metric(0, 'group_members_live')) === 6, {
    timeoutMs: 120_000,
    what: 'six live members'
  })

  const files = [1, 16_385, 300_000, 2_400_000, 5_300_000].map(size => testFile(content(`${SEED}/${size}`, size)))
  const seqs = chain.submit(files)
  await waitFor(async () => (await metric(0, 'next_tx_seq')) === files.length, {
    timeoutMs: 120_000,
    what: 'the events'
  })
  for (const [k, f] of files.entries()) {
    for (const s of f.segments) {
      const siblings = s.proof.path.length === 0 ? new Uint8Array(0) : concat(...s.proof.lemma.slice(1, -1))
      const head = { index: s.index, dataSize: s.data.length, fileSize: f.size, root: f.root }
      const body = concat(encodeFrameHead(head, { siblings, path: s.proof.path }), s.data)
      const res = await fetch(`${url(0)}/v1/segments/${seqs[k]}`, { method: 'PUT', body })
      if (res.status !== 200) t.fail(`upload answered ${res.status} ${await res.text()}`)
    }
  }
  for (const i of [0, 3, 5]) {
    for (const seq of seqs) await waitFor(() => isFinal(i, seq), { timeoutMs: 120_000, what: `final at ${i}` })
  }
  t.match(await (await fetch(`${url(2)}/v1/file/${seqs[3]}`)).json(), { finalized: true })
  t.match(await new RpcClient(url(4)).call('zgs_getShardConfig'), { shardId: 0, numShard: 1 })
  await waitFor(
    async () =>
      (await Promise.all(dirs.map((_, i) => metric(i, 'stripes_checked_total')))).reduce((a, b) => a + b) >= 6,
    { timeoutMs: 120_000, what: 'parity to be computed again' }
  )

  t.ok(await striped(files[4]!, [url(1)]), 'read from its holders, of which one member told')
  const served = await Promise.all(dirs.map((_, i) => metric(i, 'direct_shards_total')))
  t.ok(served.filter(n => n > 0).length >= 4, `${served} shards given to the client by each member`)
  const patterns = [...choices(6, 2)].map((dead, n) => ({ dead, way: WAYS[n % 3]! }))
  const chosen = ALL ? patterns : patterns.slice(0, 3)
  let moved = 0
  let lost = 0
  for (const { dead, way } of chosen) {
    for (const i of dead) await kill(i)
    for (let i = 0; i < 6; i++) {
      if (dead.includes(i)) continue
      for (const [k, f] of files.entries()) {
        if (!(await same(i, f, seqs[k]!))) t.fail(`${way} ${dead}: file ${k} through ${i} is not the same`)
      }
    }
    const left = dirs.map((_, i) => i).filter(i => !dead.includes(i))
    if (!(await striped(files[4]!, left.map(url)))) t.fail(`${way} ${dead}: decoded at home it is not the same`)
    const watched: Promise<number>[] = []
    for (const i of dead) {
      if (way === 'wipe') {
        for (const name of ['segments', 'staging', 'index'])
          rmSync(join(dirs[i]!, name), { recursive: true, force: true })
      }
      if (way === 'corrupt') corrupt(join(dirs[i]!, 'segments'))
      const begunMs = performance.now()
      await start(i, way === 'wipe' ? REPAIR_RATE : 0)
      if (way === 'wipe') watched.push(watchRate(i, begunMs))
    }
    for (const above of await Promise.all(watched)) t.equal(above, 0, 'times that more was moved than the rate allows')
    for (const i of dead) {
      await waitFor(async () => (await metric(i, 'group_members_live')) === 6, { timeoutMs: 120_000, what: 'all live' })
      for (const seq of seqs) await waitFor(() => isFinal(i, seq), { timeoutMs: 120_000, what: `final at ${i} again` })
      await adminScrub(join(dirs[i]!, 'a.sock'))
    }
    await waitFor(
      async () => (await Promise.all(dirs.map((_, i) => metric(i, 'repair_pending')))).every(n => n === 0),
      { timeoutMs: 120_000, what: 'repair' }
    )
    for (const i of dead) {
      lost += await metric(i, 'repair_lost_bytes_total')
      moved += await traffic(i)
      for (const [k, f] of files.entries()) {
        if (!(await same(i, f, seqs[k]!))) t.fail(`${way} ${dead}: file ${k} through ${i} is not the same afterwards`)
      }
    }
    t.pass(`${way} ${dead}`)
  }
  t.ok(lost > 0, 'shards were made again')
  t.ok(moved <= 4.01 * lost, `${(moved / lost).toFixed(2)} bytes moved for each lost one`)
})

/** Flips a bit in the data of every record or so. */
function corrupt(dir: string): void {
  for (const name of readdirSync(dir)) {
    const path = join(dir, name)
    const { size } = statSync(path)
    const file = openSync(path, 'r+')
    const byte = new Uint8Array(1)
    for (let at = 300 + random.below(100); at < size; at += 70_000) {
      readSync(file, byte, 0, 1, at)
      byte[0]! ^= 1 << random.below(8)
      writeSync(file, byte, 0, 1, at)
    }
  }
}

async function adminScrub(socket: string): Promise<void> {
  const { connect } = await import('node:net')
  await new Promise<void>((resolve, reject) => {
    const c = connect(socket)
    c.once('data', () => {
      c.destroy()
      resolve()
    })
    c.on('error', reject)
    c.write(`${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'admin_scrub' })}\n`)
  })
}
