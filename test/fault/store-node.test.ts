/**
 * Proves what a storage node promises under faults (kill -9 is store-kill.test.ts): files
 * spread to other nodes over libp2p, a node that was away catches up, a lying peer is found out; a full disk leaves a node that
 * reads and says so; thousands of parallel and slow requests are borne; SIGTERM ends it within 5 s.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { encodeFrameHead } from '../../cmd/zg-store/node/frame.ts'
import { decodeAnnouncement, encodeAnnouncement } from '../../cmd/zg-store/node/peers.ts'
import { type StoreNode, type StoreNodeOptions, startStoreNode } from '../../cmd/zg-store/node/store-node.ts'
import { systemDisk } from '../../lib/adapters/disk.ts'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { startP2p } from '../../lib/adapters/libp2p/node.ts'
import { concat, equalBytes } from '../../lib/base/bytes.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { toHex } from '../../lib/base/hex.ts'
import { silentLog } from '../../lib/ops/log.ts'
import type { Disk } from '../../lib/ports/disk.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { FLOW_ADDRESS, startFlowChain, type TestFile, testFile, wireSegment } from '../harness/flow-chain.ts'
import { SEED } from '../harness/seed.ts'
import { packageRoot, waitFor } from '../harness/tools.ts'

const random = new SeededRandom(`store fault ${SEED}`)
t.setTimeout(120_000)

function content(size: number): Uint8Array {
  const block = random.bytes(Math.min(size, 65_536))
  const out = new Uint8Array(size)
  for (let at = 0; at < size; at += block.length) {
    out.set(block.subarray(0, Math.min(block.length, size - at)), at)
    // Each stretch differs, or all segments would have one root.
    new DataView(out.buffer).setUint32(Math.min(at, size - 4), at)
  }
  return out
}

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

async function startProcess(options: Record<string, unknown>): Promise<NodeProcess> {
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
  const ended = new Promise<number | null>(resolve => child.once('close', code => resolve(code)))
  let over = false
  void ended.then(() => {
    over = true
  })
  await waitFor(() => out.includes('\n') || over, { timeoutMs: 30_000, what: 'the node process' })
  if (over) throw new Error(`the node process ended: ${err}`)
  return { url: JSON.parse(out).url, child, ended }
}

t.test('files spread over libp2p, a node that was away catches up, a liar is found out', async t => {
  const chain = await startFlowChain()
  const dirs = ['a', 'b', 'liar'].map(n => mkdtempSync(join(tmpdir(), `zg-peer-${n}-`)))
  const base = { chain: chain.url, rpcPort: 0, log: () => silentLog }
  const start = (more: Partial<StoreNodeOptions> & { dir: string }): Promise<StoreNode> =>
    startStoreNode({ ...base, ...more })
  const a = await start({ dir: dirs[0]!, p2pPort: 0 })
  await waitFor(() => a.p2pAddresses().length > 0, { what: 'libp2p' })
  const address = a.p2pAddresses()[0]!
  let b = await start({ dir: dirs[1]!, peers: [address], p2pPort: 0 })
  await waitFor(() => a.ready().ok && b.ready().ok, { what: 'both nodes' })
  const status = (n: StoreNode) =>
    new RpcClient(n.url).call<{ connectedPeers: number; nextTxSeq: number }>('zgs_getStatus')
  await waitFor(async () => (await status(b)).connectedPeers === 1 && (await status(a)).connectedPeers === 1, {
    what: 'the connection'
  })
  const upload = async (f: TestFile): Promise<number> => {
    const seq = chain.submit([f])[0]!
    await waitFor(async () => (await status(a)).nextTxSeq === seq + 1, { what: 'the event' })
    await new RpcClient(a.url).call('zgs_uploadSegmentsByTxSeq', [f.segments.map(wireSegment), seq])
    return seq
  }
  const isFinal = (n: StoreNode, seq: number) =>
    new RpcClient(n.url).call<boolean | null>('zgs_checkFileFinalized', [seq])
  const big = testFile(content(6 * 262_144 + 5000))
  const seq = await upload(big)
  const begun = performance.now()
  await waitFor(async () => (await isFinal(b, seq)) === true, { what: 'the copy', timeoutMs: 15_000 })
  t.comment(`copied in ${Math.round(performance.now() - begun)} ms`)
  for (const g of big.segments) {
    const res = await fetch(`${b.url}/v1/segment/${seq}/${g.index}?proof=1`)
    t.ok(equalBytes(new Uint8Array(await res.arrayBuffer()), frame(big, g.index)))
  }
  // Away while three files come.
  await b.close()
  const missed = [testFile(content(700_000)), testFile(content(10)), testFile(content(262_144))]
  const seqs: number[] = []
  for (const f of missed) seqs.push(await upload(f))
  b = await start({ dir: dirs[1]!, peers: [address], p2pPort: 0 })
  await waitFor(async () => (await Promise.all(seqs.map(q => isFinal(b, q)))).every(x => x === true), {
    what: 'catching up',
    timeoutMs: 20_000
  })
  // The liar claims to have everything and sends wrong bytes; it announces, so it is asked first.
  const lies = { asked: 0 }
  const liar = await startP2p({
    keyFile: join(dirs[2]!, 'key'),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    bootstrap: [b.p2pAddresses()[0]!],
    topics: [`/zg/store/files/1/31337/${FLOW_ADDRESS}`]
  })
  const target = testFile(content(524_288))
  await liar.handle('/zg/store/segment/1', async stream => {
    for (let m = await stream.read(); m !== undefined; m = await stream.read()) {
      if (m[0] === 2) {
        await stream.write(concat(new Uint8Array(10), new Uint8Array(8).fill(255)))
      } else {
        lies.asked++
        const wrong = frame(target, 0)
        wrong[wrong.length - 9]! ^= 1
        await stream.write(concat(Uint8Array.of(0), wrong))
      }
    }
  })
  await waitFor(() => liar.subscribers(`/zg/store/files/1/31337/${FLOW_ADDRESS}`).length >= 1, {
    what: 'the gossip mesh'
  })
  const last = chain.submit([target])[0]!
  await waitFor(async () => (await status(b)).nextTxSeq === last + 1, { what: 'the event' })
  const announcement = encodeAnnouncement([{ root: target.root, seq: last, size: target.size }], '', Date.now())
  await waitFor(
    async () => {
      await liar.publish(`/zg/store/files/1/31337/${FLOW_ADDRESS}`, announcement)
      return lies.asked > 0
    },
    { what: 'the liar to be asked', everyMs: 100 }
  )
  t.equal(await isFinal(b, last), false)
  t.equal((await fetch(`${b.url}/v1/segment/${last}/0`)).status, 404, 'nothing of it was kept')
  await new RpcClient(a.url).call('zgs_uploadSegmentsByTxSeq', [target.segments.map(wireSegment), last])
  await waitFor(async () => (await isFinal(b, last)) === true, { what: 'the true bytes', timeoutMs: 15_000 })
  t.equal(lies.asked, 1, 'once is enough')
  await liar.close()
  await Promise.all([a.close(), b.close()])
  await chain.close()
  for (const d of dirs) rmSync(d, { recursive: true, force: true })
})

t.test('announcements: read back, and refused at every cut and flip of a length', async t => {
  const txs = [{ root: random.bytes(32), seq: 5, size: 77 }]
  const bytes = encodeAnnouncement(txs, 'http://127.0.0.1:5678', 1_700_000_000_000)
  t.match(decodeAnnouncement(bytes), { sentMs: 1_700_000_000_000, url: 'http://127.0.0.1:5678' })
  for (let n = 0; n < bytes.length; n++) t.type(decodeAnnouncement(bytes.subarray(0, n)), 'string')
  t.type(decodeAnnouncement(concat(bytes, Uint8Array.of(0))), 'string')
  t.type(decodeAnnouncement(encodeAnnouncement(txs, 'javascript:x', 1)), 'string')
  t.type(decodeAnnouncement(new Uint8Array(70_000)), 'string')
})

t.test('a full disk: a typed refusal, reads go on, /ready says so, and room brings it back', async t => {
  const chain = await startFlowChain()
  const dir = mkdtempSync(join(tmpdir(), 'zg-full-'))
  let full = false
  const disk: Disk = {
    ...systemDisk,
    async open(path, mode) {
      const file = await systemDisk.open(path, mode)
      const write = async (offset: number, ...b: Uint8Array[]): Promise<void> => {
        if (full && path.endsWith('.seg')) throw new ZgError('ERR_DISK_FULL', `cannot write '${path}': no space left`)
        await file.write(offset, ...b)
      }
      return {
        write,
        size: () => file.size(),
        read: (o, n) => file.read(o, n),
        truncate: n => file.truncate(n),
        sync: () => file.sync(),
        close: () => file.close()
      }
    }
  }
  const node = await startStoreNode({ dir, chain: chain.url, rpcPort: 0, log: () => silentLog, disk })
  t.teardown(async () => {
    await node.close()
    await chain.close()
    rmSync(dir, { recursive: true, force: true })
  })
  const f = testFile(content(600_000))
  chain.submit([f])
  await waitFor(() => node.ready().next_tx_seq === 1, { what: 'the event' })
  const put = (i: number) => fetch(`${node.url}/v1/segments/0`, { method: 'PUT', body: frame(f, i) })
  t.equal((await put(0)).status, 200)
  full = true
  const refused = await put(1)
  t.equal(refused.status, 507)
  t.match(await refused.json(), { error: { code: 'ERR_DISK_FULL', hint: String } })
  const rpc = new RpcClient(node.url)
  await t.rejects(rpc.call('zgs_uploadSegmentsByTxSeq', [[wireSegment(f.segments[1]!)], 0]), {
    code: -32000,
    message: /full/
  })
  t.match(await (await fetch(`${node.url}/ready`)).json(), {
    ok: false,
    state: 'degraded',
    reason: /^disk full, serving reads only/
  })
  t.equal((await fetch(`${node.url}/v1/segment/0/0`)).status, 200)
  full = false
  await waitFor(async () => (await put(1)).status === 200, { what: 'writing to come back' })
  t.equal((await put(2)).status, 200)
  t.equal((await fetch(`${node.url}/ready`)).status, 200)
})

t.test('4,096 parallel uploads beside idle and slow connections: all served, memory bounded', async t => {
  const chain = await startFlowChain()
  const dir = mkdtempSync(join(tmpdir(), 'zg-many-'))
  const node = await startProcess({ dir, chain: chain.url, rpcPort: 0 })
  const port = Number(new URL(node.url).port)
  t.teardown(async () => {
    node.child.kill('SIGKILL')
    await node.ended
    await chain.close()
    rmSync(dir, { recursive: true, force: true })
  })
  const big = testFile(content(32 * 262_144))
  const small = Array.from({ length: 64 }, (_, i) => testFile(content(4000 + i)))
  chain.submit([big, ...small])
  const ready = async () => (await (await fetch(`${node.url}/ready`)).json()) as { next_tx_seq: number }
  await waitFor(async () => (await ready()).next_tx_seq === 65, { what: 'the events' })
  const silent = Array.from({ length: 500 }, () => connect(port, '127.0.0.1'))
  for (const c of silent.slice(0, 100))
    c.write('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000\r\n\r\n{')
  const body = (f: TestFile, i: number, seq: number): string =>
    JSON.stringify({
      jsonrpc: '2.0',
      id: i,
      method: 'zgs_uploadSegmentsByTxSeq',
      params: [[wireSegment(f.segments[i]!)], seq]
    })
  const bodies = [...big.segments.map(g => body(big, g.index, 0)), ...small.map((f, k) => body(f, 0, k + 1))]
  // One in sixteen is a whole segment.
  const pick = (k: number): string => bodies[k % 16 === 0 ? (k / 16) % 32 : 32 + ((k + (k >> 4)) % 64)]!
  const agent = new Agent({ keepAlive: false, maxSockets: 4096 })
  let most = 0
  /** Resident bytes; 0 where the system does not tell. */
  const memory = (): number => {
    try {
      return 1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${node.child.pid}/status`, 'utf8'))?.[1] ?? 0)
    } catch {
      return 0
    }
  }
  const before = memory()
  const watch = setInterval(() => {
    most = Math.max(most, memory())
  }, 50)
  const begun = performance.now()
  const answers = await Promise.all(
    Array.from({ length: 4096 }, (_, k) => post(port, agent, pick(k)).catch(err => String(err)))
  )
  const seconds = (performance.now() - begun) / 1000
  clearInterval(watch)
  const ok = answers.filter(x => /"result":1/.test(x)).length
  const done = answers.filter(x => /already uploaded and finalized/.test(x)).length
  const other = answers.filter(x => !/"result":1|already uploaded and finalized/.test(x))
  t.equal(ok + done, 4096, `each answered as stored, or as final once the file was whole ${other[0] ?? ''}`)
  const mb = Array.from({ length: 4096 }, (_, k) => pick(k).length).reduce((a, b) => a + b, 0) / 1e6
  t.comment(`4096 requests, ${mb.toFixed(0)} MB of JSON in ${seconds.toFixed(1)} s`)
  t.comment(`memory of the node ${Math.round(before / 1e6)} MB before, at most ${Math.round(most / 1e6)} MB`)
  t.ok(most < 1.2e9, 'memory is bounded')
  for (let seq = 0; seq < 65; seq++) {
    const state = (await (await fetch(`${node.url}/v1/file/${seq}`)).json()) as { finalized: boolean }
    if (!state.finalized) t.fail(`file ${seq} is not final`)
  }
  for (const c of silent) c.destroy()
})

function post(port: number, agent: Agent, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const req = request(
      { port, host: '127.0.0.1', method: 'POST', agent, headers: { 'content-type': 'application/json' } },
      res => {
        let text = ''
        res.on('data', d => {
          text += d
        })
        res.on('end', () => resolve(text))
        res.on('error', reject)
      }
    )
    req.on('error', reject)
    req.end(body)
  })
}

t.test('no admin method is on the public port', async t => {
  const chain = await startFlowChain()
  const dir = mkdtempSync(join(tmpdir(), 'zg-admin-'))
  const socket = join(dir, 'admin.sock')
  let shut = false
  const node = await startStoreNode({
    dir,
    chain: chain.url,
    rpcPort: 0,
    log: () => silentLog,
    socket,
    onShutdown: () => {
      shut = true
    }
  })
  await t.rejects(new RpcClient(node.url).call('admin_shutdown'), { code: -32601 })
  const ask = (method: string, params: unknown[] = []) =>
    new Promise<string>((resolve, reject) => {
      const c = connect(socket)
      c.once('data', d => {
        resolve(d.toString())
        c.destroy()
      })
      c.on('error', reject)
      c.write(`${JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })}\n`)
    })
  t.match(await ask('admin_getSyncServiceState'), /"numSyncing":0,"catchedUp":true/)
  t.match(await ask('admin_getPeers'), /-32002/)
  const f = testFile(content(5000))
  chain.submit([f])
  await waitFor(() => node.ready().next_tx_seq === 1, { what: 'the event' })
  await new RpcClient(node.url).call('zgs_uploadSegmentsByTxSeq', [[wireSegment(f.segments[0]!)], 0])
  t.match(await ask('admin_pruneFile', [0]), /"result":1/)
  const info = await new RpcClient(node.url).call('zgs_getFileInfo', [toHex(f.root), true])
  t.equal(info, null, 'with needAvailable a pruned file is not there')
  t.match(await new RpcClient(node.url).call('zgs_getFileInfoByTxSeq', [0]), {
    pruned: true,
    finalized: false,
    uploadedSegNum: 1
  })
  t.equal((await fetch(`${node.url}/v1/segment/0/0`)).status, 410)
  await t.rejects(new RpcClient(node.url).call('zgs_uploadSegmentsByTxSeq', [[wireSegment(f.segments[0]!)], 0]), {
    code: -32602,
    data: 'already pruned'
  })
  await ask('admin_shutdown')
  t.ok(shut)
  await node.close()
  await chain.close()
  rmSync(dir, { recursive: true, force: true })
})
