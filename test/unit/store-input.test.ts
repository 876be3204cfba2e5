/**
 * Proves the lines "Node, bad input" of the storage checklist on a real node over its port: bodies taken apart in any pieces mean what
 * JSON.parse says they mean; base64 that is not quite base64, bodies at and above the bound, counters beyond 2^53, altered proofs, slow
 * and idle clients each get one clear answer, leave no byte on the disk, and the node goes on. Also every admin method, an index that was
 * deleted or damaged, age and quota.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { blobOf, JsonBody } from '../../cmd/zg-store/node/json-body.ts'
import { type StoreNode, type StoreNodeOptions, startStoreNode } from '../../cmd/zg-store/node/store-node.ts'
import { equalBytes } from '../../lib/base/bytes.ts'
import { toHex } from '../../lib/base/hex.ts'
import { silentLog } from '../../lib/ops/log.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { type FlowChainServer, startFlowChain, type TestFile, testFile, wireSegment } from '../harness/flow-chain.ts'
import { SEED } from '../harness/seed.ts'
import { waitFor } from '../harness/tools.ts'

const random = new SeededRandom(`store input ${SEED}`)
t.setTimeout(200_000)

interface Setup {
  chain: FlowChainServer
  node: StoreNode
  dir: string
  restart(more?: Partial<StoreNodeOptions>): Promise<void>
}

async function setup(
  test: { teardown(fn: () => Promise<void>): unknown },
  more: Partial<StoreNodeOptions> = {}
): Promise<Setup> {
  const chain = await startFlowChain()
  const dir = mkdtempSync(join(tmpdir(), 'zg-input-'))
  const options = { dir, chain: chain.url, rpcPort: 0, log: () => silentLog, ...more }
  const s: Setup = {
    chain,
    dir,
    node: await startStoreNode(options),
    async restart(changed = {}) {
      await s.node.close()
      s.node = await startStoreNode({ ...options, ...changed })
    }
  }
  test.teardown(async () => {
    await s.node.close()
    await chain.close()
    rmSync(dir, { recursive: true, force: true })
  })
  return s
}

async function submit(s: Setup, files: TestFile[]): Promise<number[]> {
  const seqs = s.chain.submit(files)
  await waitFor(() => s.node.ready().next_tx_seq === seqs.at(-1)! + 1, { what: 'the events' })
  return seqs
}

const content = (size: number): Uint8Array => random.bytes(size)

interface Answer {
  result?: unknown
  error?: { code: number; message: string; data?: unknown }
}

function post(s: Setup, body: string | Uint8Array, agent?: Agent): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
    const req = request(s.node.url, { method: 'POST', headers, agent }, res => {
      let text = ''
      res.on('data', d => {
        text += d
      })
      res.on('end', () => resolve({ status: res.statusCode!, body: text }))
      res.on('error', reject)
    })
    req.on('error', reject)
    req.end(body)
  })
}

async function call(s: Setup, method: string, ...params: unknown[]): Promise<Answer> {
  const { status, body } = await post(s, JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }))
  if (status !== 200) throw new Error(`HTTP ${status}: ${body}`)
  return JSON.parse(body)
}

/** One line to the admin socket. */
function admin(path: string, method: string, ...params: unknown[]): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const c = connect(path)
    let text = ''
    c.on('data', d => {
      text += d
      if (!text.includes('\n')) return
      resolve(JSON.parse(text))
      c.destroy()
    })
    c.on('error', reject)
    c.write(`${JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })}\n`)
  })
}

function diskBytes(s: Setup): number {
  const dir = join(s.dir, 'segments')
  return readdirSync(dir).reduce((n, f) => n + statSync(join(dir, f)).size, 0)
}

/** What a body means, with the blobs put back as base64 text, or what is wrong with them. */
function taken(text: string | Uint8Array, cuts: () => number): unknown {
  const bytes = Buffer.from(text as string)
  const body = new JsonBody()
  for (let at = 0; at < bytes.length; ) {
    const n = Math.max(1, cuts())
    body.push(bytes.subarray(at, at + n))
    at += n
  }
  const put = (v: unknown): unknown => {
    if (typeof v === 'string') {
      const blob = blobOf(v, body.blobs)
      return blob === undefined ? v : (blob.fault ?? Buffer.from(blob.bytes).toString('base64'))
    }
    if (Array.isArray(v)) return v.map(put)
    if (typeof v === 'object' && v !== null) return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, put(x)]))
    return v
  }
  const parsed = put(JSON.parse(body.text()))
  body.release()
  return parsed
}

t.test('a body in any pieces means what JSON.parse says', async t => {
  const b64 = (n: number): string => Buffer.from(content(n)).toString('base64')
  const values: unknown[] = [
    null,
    'x"\\\u2028\u{1f600}',
    { a: b64(40_000), b: ['', 'q\\"', { c: b64(262_144) }], 'k"ey': 1 },
    [b64(24_575), b64(24_576), b64(24_577), b64(100_000)],
    { data: `${b64(30_000)}`, text: 'é'.repeat(20_000) }
  ]
  for (const v of values) {
    const text = JSON.stringify(v)
    const want = JSON.stringify(JSON.parse(text), (_k, x) =>
      typeof x === 'string' && /^é+$/.test(x) ? 'not base64' : x
    )
    for (const cuts of [() => 1e9, () => 65_536, () => 1 + random.below(3000), () => 1 + random.below(40_000)]) {
      t.equal(JSON.stringify(taken(text, cuts)), want)
    }
  }
  t.equal(JSON.stringify(taken(JSON.stringify(values[2]), () => 1)), JSON.stringify(values[2]), 'byte by byte')
  // Writers that escape characters of base64.
  const plus = `${b64(60_000)}+/`
  for (const escaped of [plus.replaceAll('/', '\\/'), plus.replaceAll('+', '\\u002b')]) {
    t.equal(taken(`{"d":"${escaped}"}`, () => 1 + random.below(5000)) instanceof Object, true)
    t.same(
      taken(`{"d":"${escaped}"}`, () => 1 + random.below(5000)),
      { d: plus }
    )
  }
  // Marks that a client writes itself name nothing.
  t.same(
    taken('{"d":"\\u00000"}', () => 3),
    { d: '\u00000' }
  )
  for (const cut of ['{"a":"', '{"a":"\\', `{"a":"${b64(60_000)}`]) t.throws(() => taken(cut, () => 7), SyntaxError)
})

t.test('base64 that is not quite base64 is refused, short and long', async t => {
  const s = await setup(t)
  const files = [testFile(content(600)), testFile(content(262_144))]
  const seqs = await submit(s, files)
  const empty = diskBytes(s)
  for (const [k, f] of files.entries()) {
    const good = wireSegment(f.segments[0]!)
    const text = good.data as string
    const middle = text.length / 2
    const wrong: [string, string][] = [
      ['a newline within', `${text.slice(0, middle)}\n${text.slice(middle)}`],
      ['a newline for a character', `${text.slice(0, middle)}\n${text.slice(middle + 1)}`],
      ['lines of 76', text.replace(/(.{76})/g, '$1\r\n')],
      ['padding within', `${text.slice(0, middle)}====${text.slice(middle + 4)}`],
      ['no padding', text.replace(/=+$/, '')],
      ['too much padding', `${text}=`],
      ['a foreign character', `*${text.slice(1)}`],
      ['the alphabet of URLs', `-_-_${text.slice(4)}`],
      ['not ASCII', `é${text.slice(1)}`],
      ['one character', 'A']
    ]
    for (const [name, data] of wrong) {
      if (data === text) continue
      for (const params of [
        [[{ ...good, data }], seqs[k]],
        [[{ ...good, data }, good].slice(0, 1), seqs[k]]
      ]) {
        const { error } = await call(s, 'zgs_uploadSegmentsByTxSeq', ...params)
        t.equal(error?.code, -32602, `${f.size}: ${name}`)
        t.match(error?.message, /^Invalid params: data$/)
      }
    }
    // One character more than a segment has is a length, not an alphabet.
    const long = await call(
      s,
      'zgs_uploadSegmentsByTxSeq',
      [{ ...good, data: `${text.replace(/=+$/, 'A')}AAAA` }],
      seqs[k]
    )
    t.equal(long.error?.code === -32602 || long.error?.code === -32000, true)
    const huge = await call(s, 'zgs_uploadSegmentsByTxSeq', [{ ...good, data: 'A'.repeat(4_000_000) }], seqs[k])
    t.match(huge.error, { code: -32602, data: 'invalid data length' })
    t.equal((await call(s, 'zgs_checkFileFinalized', seqs[k])).result, false)
  }
  t.equal(diskBytes(s), empty, 'nothing of it is on the disk')
  for (const [k, f] of files.entries()) {
    t.equal((await call(s, 'zgs_uploadSegmentsByTxSeq', [wireSegment(f.segments[0]!)], seqs[k])).result, 1)
  }
})

t.test('counters, hashes and proofs out of shape', async t => {
  const s = await setup(t)
  const f = testFile(content(700_000))
  const [seq] = await submit(s, [f])
  const empty = diskBytes(s)
  const good = wireSegment(f.segments[1]!) as Record<string, unknown> & { proof: { lemma: string[]; path: boolean[] } }
  const up = (change: Record<string, unknown>) => call(s, 'zgs_uploadSegmentByTxSeq', { ...good, ...change }, seq)
  for (const index of [-1, 2 ** 53, 1e300, 1.5, '1', null, 2 ** 32]) t.equal((await up({ index })).error?.code, -32602)
  for (const fileSize of [-1, 2 ** 53, 0.5, '700000', null]) t.equal((await up({ fileSize })).error?.code, -32602)
  const path = (p: unknown) => up({ proof: { ...good.proof, path: p } })
  t.match((await path(good.proof.path.map(b => !b))).error, { message: /wrong position/ })
  t.equal((await path([...good.proof.path, true])).error?.code, -32602)
  t.equal((await path([1, 0])).error?.code, -32602)
  t.equal((await path(Array(65).fill(true))).error?.code, -32602)
  const lemma = (l: unknown) => up({ proof: { ...good.proof, lemma: l } })
  t.equal((await lemma([...good.proof.lemma, good.proof.lemma[0]])).error?.code, -32602)
  t.equal((await lemma(Array(67).fill(good.proof.lemma[0]))).error?.code, -32602)
  t.equal((await lemma(good.proof.lemma.map(h => h.slice(0, -2)))).error?.code, -32602)
  t.equal((await lemma('0x')).error?.code, -32602)
  for (const method of [
    'zgs_downloadSegmentByTxSeq',
    'zgs_downloadSegmentWithProofByTxSeq',
    'zgs_getFileInfoByTxSeq'
  ]) {
    for (const bad of [-1, 2 ** 53, 0.5, '0']) t.equal((await call(s, method, bad, 0, 1)).error?.code, -32602)
  }
  t.match((await call(s, 'zgs_getSectorProof', 2 ** 53, null)).error, { code: -32602 })
  t.match((await call(s, 'zgs_getSectorProof', 1e9, null)).error, { code: Number })
  t.match((await call(s, 'zgs_getSectorProof', 1, `0x${'ab'.repeat(32)}`)).error, { code: -32000 })
  t.equal(diskBytes(s), empty)
  // What is unusual but right is taken: hex without 0x, in capitals.
  const bare = toHex(f.root).slice(2)
  t.equal((await up({ root: bare.toUpperCase() })).result, 1)
  t.match((await call(s, 'zgs_getFileInfo', bare, true)).result, { finalized: false, tx: { seq } })
  t.equal((await call(s, 'zgs_downloadSegment', bare.toUpperCase(), 1024, 1025)).error, undefined)
  for (const unknown of [`0x${'01'.repeat(32)}`, 77]) {
    const byRoot = typeof unknown === 'string'
    t.equal((await call(s, byRoot ? 'zgs_getFileInfo' : 'zgs_getFileInfoByTxSeq', unknown, true)).result, null)
    t.equal((await call(s, byRoot ? 'zgs_downloadSegment' : 'zgs_downloadSegmentByTxSeq', unknown, 0, 1)).result, null)
    t.equal(
      (await call(s, byRoot ? 'zgs_downloadSegmentWithProof' : 'zgs_downloadSegmentWithProofByTxSeq', unknown, 0))
        .result,
      null
    )
    t.equal((await call(s, 'zgs_checkFileFinalized', unknown)).result, null)
  }
})

t.test('a body of 100 MiB is taken, one of 101 MiB is not, announced or in chunks', async t => {
  const s = await setup(t)
  const f = testFile(content(2 * 262_144))
  const [seq] = await submit(s, [f])
  const one = JSON.stringify(wireSegment(f.segments[0]!))
  const count = Math.floor((100 * 1024 * 1024 - 1000) / (one.length + 1))
  const list = Array(count).fill(one).join(',')
  const text = `{"jsonrpc":"2.0","id":1,"method":"zgs_uploadSegmentsByTxSeq","params":[[${list}],${seq}]}`
  const padded = text.slice(0, -1) + ' '.repeat(100 * 1024 * 1024 - text.length) + text.slice(-1)
  t.equal(padded.length, 100 * 1024 * 1024)
  t.match(await post(s, padded), { status: 200, body: new RegExp(`"result":${count}}`) })
  const refused = (chunked: boolean) =>
    new Promise<number | undefined>((resolve, reject) => {
      const headers = chunked ? {} : { 'content-length': 101 * 1024 * 1024 }
      const req = request(s.node.url, { method: 'POST', headers }, res => {
        resolve(res.statusCode)
        res.resume()
        req.destroy()
      })
      // A client that goes on sending may meet the closed connection before it reads the answer.
      req.on('error', err => (chunked ? resolve(413) : reject(err)))
      if (chunked) {
        const piece = Buffer.alloc(1024 * 1024, 0x20)
        let sent = 0
        const more = (): void => {
          while (sent++ < 110 && !req.destroyed) if (!req.write(piece)) return void req.once('drain', more)
        }
        more()
      } else req.flushHeaders()
    })
  t.equal(await refused(false), 413, 'before a byte is read')
  t.equal(await refused(true), 413, 'at the first byte too many')
  t.match(await post(s, '{"jsonrpc":"2.0","id":1,"method":"zgs_getShardConfig"}'), { status: 200 })
})

t.test('slow and idle clients hold nothing that others need', async t => {
  const s = await setup(t)
  const f = testFile(content(40 * 262_144))
  const [seq] = await submit(s, [f])
  const open = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const c = connect(s.node.port, '127.0.0.1', () => resolve(c))
      c.on('error', reject)
    })
  const idle: Socket[] = []
  const many = Number(process.env.IDLE ?? 1000)
  for (let i = 0; i < many; i += 200) idle.push(...(await Promise.all(Array.from({ length: 200 }, open))))
  // Announce a whole segment, send a little of it, then a byte now and then.
  const slow = await Promise.all(Array.from({ length: 300 }, open))
  const body = JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'zgs_uploadSegmentsByTxSeq',
    params: [[wireSegment(f.segments[0]!)], seq]
  })
  const before = process.memoryUsage()
  for (const c of slow) {
    c.on('error', () => {})
    c.write(`POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 900)}`)
  }
  let at = 900
  const drip = setInterval(() => {
    for (const c of slow) c.write(body[at]!)
    at++
  }, 100)
  const agent = new Agent({ keepAlive: true, maxSockets: 16 })
  const answers = await Promise.all(
    f.segments.map(g =>
      post(
        s,
        JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'zgs_uploadSegmentsByTxSeq', params: [[wireSegment(g)], seq] }),
        agent
      )
    )
  )
  clearInterval(drip)
  t.ok(
    answers.every(a => /"result":1/.test(a.body)),
    'everybody else is served'
  )
  await waitFor(async () => (await call(s, 'zgs_checkFileFinalized', seq)).result === true, { what: 'the file' })
  const after = process.memoryUsage()
  // 300 times a segment would be 78 MB; the pool of the fast clients is in it, and this test's own requests.
  t.comment(
    `array buffers ${Math.round((after.arrayBuffers - before.arrayBuffers) / 1e6)} MB more beside ${many} idle and 300 slow clients`
  )
  for (const c of [...slow, ...idle]) c.destroy()
  agent.destroy()
})

t.test('every admin method answers, and refuses what is not there', async t => {
  const base = mkdtempSync(join(tmpdir(), 'zg-adm-'))
  const socket = join(base, 'a.sock')
  const s = await setup(t, { socket })
  t.teardown(async () => rmSync(base, { recursive: true, force: true }))
  const f = testFile(content(600_000))
  const [seq] = await submit(s, [f])
  const ask = (m: string, ...p: unknown[]) => admin(socket, m, ...p)
  for (const m of [
    'admin_findFile',
    'admin_getFileLocation',
    'admin_startSyncFile',
    'admin_startSyncChunks',
    'admin_terminateSync',
    'admin_getSyncStatus',
    'admin_pruneFile'
  ]) {
    for (const bad of [99, -1, '0', null, {}]) t.equal((await ask(m, bad, 0, 1)).error?.code, -32602, `${m} ${bad}`)
  }
  t.equal((await ask('admin_startSyncFile', seq)).result, null)
  t.match((await ask('admin_getSyncStatus', seq)).result, /^(FindingPeers|Downloading): 0 of 3 segments/)
  t.match((await ask('admin_getSyncInfo', null)).result, { files: { [seq!]: { root: toHex(f.root), nextChunks: 0 } } })
  t.equal((await ask('admin_terminateSync', seq)).result, true)
  t.equal((await ask('admin_terminateSync', seq)).result, false)
  t.match((await ask('admin_getSyncStatus', seq)).result, /^Idle/)
  t.match((await ask('admin_getSyncServiceState')).result, { numSyncing: 0, catchedUp: true })
  t.match((await ask('admin_startSyncChunks', seq, 5, 5)).error, { code: -32602 })
  t.match((await ask('admin_getNetworkInfo')).error, { code: -32002 })
  await call(s, 'zgs_uploadSegmentsByTxSeq', f.segments.map(wireSegment), seq)
  t.match((await ask('admin_getSyncStatus', seq)).result, /^Completed: 3 of 3/)
  const metrics = (await ask('admin_getMetrics', 'zg_store_seg')).result as Record<string, string>
  t.equal(metrics.zg_store_segments_written_total, '3')
  t.ok(Object.keys(metrics).every(k => k.startsWith('zg_store_seg')))
  t.match((await ask('admin_scrub')).result, { segments: 3, damaged: 0 })
  t.match((await ask('admin_getScrub')).result, { segments: 3, overdue: false })
  t.equal((await ask('admin_compact', 2)).error?.code, -32602)
  const before = diskBytes(s)
  t.equal((await ask('admin_pruneRoot', toHex(f.root))).result, 3)
  t.match((await ask('admin_compact')).result, { files: Number })
  t.ok(diskBytes(s) <= before)
  t.match((await call(s, 'zgs_getFileInfoByTxSeq', seq)).result, { pruned: true, finalized: false, uploadedSegNum: 3 })
})

t.test('an index that is deleted or damaged is made again, with every file final', async t => {
  const s = await setup(t)
  const files = [testFile(content(700_000)), testFile(content(100)), testFile(content(262_145))]
  const seqs = await submit(s, files)
  for (const [k, f] of files.entries()) await call(s, 'zgs_uploadSegmentsByTxSeq', f.segments.map(wireSegment), seqs[k])
  const index = join(s.dir, 'index')
  for (const harm of ['deleted', 'damaged', 'asked for'] as const) {
    await s.node.close()
    if (harm === 'deleted') rmSync(index, { recursive: true })
    if (harm === 'damaged') {
      for (const name of readdirSync(index)) {
        if (/^(MANIFEST|CURRENT)/.test(name)) writeFileSync(join(index, name), random.bytes(50))
      }
    }
    await s.restart(harm === 'asked for' ? { rebuildIndex: true } : {})
    for (const [k, f] of files.entries()) {
      await waitFor(async () => (await call(s, 'zgs_checkFileFinalized', seqs[k])).result === true, {
        what: `${harm}: final`
      })
      for (const g of f.segments) {
        const { result } = await call(
          s,
          'zgs_downloadSegmentByTxSeq',
          seqs[k],
          g.index * 1024,
          g.index * 1024 + g.data.length / 256
        )
        if (!equalBytes(Buffer.from(result as string, 'base64'), g.data)) t.fail(`${harm}: segment ${k}/${g.index}`)
      }
    }
    t.pass(harm)
  }
})

t.test('age prunes, the quota refuses or makes room, and /ready tells', async t => {
  const s = await setup(t, { quotaBytes: 600_000 })
  const files = [testFile(content(262_144)), testFile(content(262_140)), testFile(content(262_100))]
  const seqs = await submit(s, files)
  const put = (k: number) => call(s, 'zgs_uploadSegmentsByTxSeq', [wireSegment(files[k]!.segments[0]!)], seqs[k])
  t.equal((await put(0)).result, 1)
  t.equal((await put(1)).result, 1)
  t.match((await put(2)).error, { code: -32000, message: /quota/ })
  const ready = await fetch(`${s.node.url}/ready`)
  t.equal(ready.status, 503)
  t.match(await ready.json(), { state: 'degraded', reason: /serving reads only: .*quota/ })
  t.equal((await call(s, 'zgs_downloadSegmentByTxSeq', seqs[0], 0, 1)).error, undefined)
  // The same node, told to make room: the oldest file goes, the refused one comes in.
  await s.restart({ quotaBytes: 600_000, whenFull: 'oldest' })
  await waitFor(() => s.node.ready().next_tx_seq === 3, { what: 'the chain' })
  await waitFor(async () => (await put(2)).result === 1, { what: 'room', timeoutMs: 30_000 })
  t.match((await call(s, 'zgs_getFileInfoByTxSeq', seqs[0])).result, { pruned: true })
  t.match((await call(s, 'zgs_getFileInfoByTxSeq', seqs[1])).result, { finalized: true })
  await waitFor(() => s.node.ready().ok, { what: 'ready again' })
})

t.test(
  '10,000 idle connections, and one more client is served',
  { skip: process.env.IDLE_ALL === undefined ? 'a long run: IDLE_ALL=1' : false },
  async t => {
    const s = await setup(t)
    const sockets: Socket[] = []
    // All but the few that the callers of this test need.
    for (let i = 0; i < 9_900; i += 100) {
      const group = Array.from({ length: 100 }, () => connect(s.node.port, '127.0.0.1'))
      await Promise.all(
        group.map(c => new Promise((resolve, reject) => c.once('connect', resolve).once('error', reject)))
      )
      sockets.push(...group)
    }
    t.match((await call(s, 'zgs_getShardConfig')).result, { numShard: 1 })
    const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024
    t.comment(`${sockets.length} idle connections, ${Math.round(rss)} MiB resident, client and node together`)
    for (const c of sockets) c.destroy()
  }
)
