/**
 * Proves that a node takes what one call of an SDK does with a large file: a connection for each whole segment, all at the same time,
 * through JSON-RPC. Each is answered with success at its first try, every byte is stored, and the node's resident memory stays under
 * 256 MiB. COUNT=4096 (npm run test:store-uploads) is the figure; npm test runs the same with 512. Then: connections that open
 * and say nothing, or stop in the middle of a body, do not keep others out.
 */
import { spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { startFlowChain, type TestFile, testFile, wireSegment } from '../harness/flow-chain.ts'
import { packageRoot, sandbox, waitFor } from '../harness/tools.ts'

const COUNT = Number(process.env.COUNT ?? 512)
const MOST_MIB = 256

const box = sandbox('store-uploads')
const chain = await startFlowChain()
const script = join(packageRoot, 'test/harness/store-node-process.ts')
const options = JSON.stringify({ dir: box.path('node'), chain: chain.url, rpcPort: 0 })
const child = spawn(process.execPath, ['--import', 'tsx', script, options], {
  cwd: packageRoot,
  stdio: ['ignore', 'pipe', 'inherit']
})
let line = ''
child.stdout.on('data', d => {
  line += d
})
await waitFor(() => line.includes('\n'), { what: 'the node', timeoutMs: 30_000 })
const url = new URL(JSON.parse(line).url)
t.teardown(async () => {
  const ended = new Promise(resolve => child.once('close', resolve))
  child.kill('SIGTERM')
  await ended
  await chain.close()
  box.remove()
})

t.test(`${COUNT} whole segments at the same time, none refused`, { timeout: 280_000 }, async t => {
  const file = await submitted(COUNT * 262_144)
  const agent = new Agent({ keepAlive: false, maxSockets: COUNT })
  const answers = await Promise.all(file.segments.map(async g => post(upload(file, g.index), agent)))
  agent.destroy()
  // The last ones may come when the file is final already: an answer that the SDKs take for success.
  const bad = answers.filter(a => !/"result":1|already uploaded and finalized/.test(a))
  t.same(bad, [], 'each stored at its first try')
  t.equal((await call('zgs_getFileInfoByTxSeq', [file.seq])).finalized, true)
  const mib = Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]) / 1024)
  t.ok(mib < MOST_MIB, `${mib} MiB resident at most, ${MOST_MIB} are allowed`)
  for (const g of file.segments.filter(g => g.index % 37 === 0)) {
    const result = await call('zgs_downloadSegmentByTxSeq', [file.seq, g.index * 1024, g.index * 1024 + 1024])
    t.ok(Buffer.from(result, 'base64').equals(g.data), `segment ${g.index} reads back equal`)
  }
})

t.test('silent and stuck connections do not keep others out', { timeout: 60_000 }, async t => {
  const sockets: Socket[] = []
  const open = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const s = connect(Number(url.port), url.hostname, () => s.write(text, () => resolve()))
      s.on('error', reject)
      sockets.push(s)
    })
  const stuck = 'POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 350000\r\n\r\n{"jsonrpc":'
  await Promise.all(Array.from({ length: 600 }, (_, i) => open(i % 2 === 0 ? stuck : '\r\n')))
  const file = await submitted(4 * 262_144)
  const answers = await Promise.all(file.segments.map(g => post(upload(file, g.index), new Agent())))
  t.match(answers.join(), /("result":1.*){4}/)
  for (const s of sockets) s.destroy()
})

async function submitted(size: number): Promise<TestFile & { seq: number }> {
  const bytes = new Uint8Array(size)
  for (let at = 0; at < size; at += 65_536) randomFillSync(bytes, at, Math.min(65_536, size - at))
  const file = testFile(bytes)
  const [seq] = chain.submit([file])
  const known = async (): Promise<boolean> => (await call('zgs_getFileInfoByTxSeq', [seq])) !== null
  await waitFor(known, { what: 'the event', timeoutMs: 30_000 })
  return { ...file, seq: seq! }
}

function upload(file: TestFile & { seq: number }, index: number): Buffer {
  const params = [[wireSegment(file.segments[index]!)], file.seq]
  return Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: index, method: 'zgs_uploadSegmentsByTxSeq', params }))
}

async function call(method: string, params: unknown[]): Promise<any> {
  const agent = new Agent()
  const text = await post(Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })), agent)
  agent.destroy()
  return JSON.parse(text).result
}

function post(body: Buffer, agent: Agent): Promise<string> {
  return new Promise(resolve => {
    const headers = { 'content-type': 'application/json', 'content-length': body.length }
    const to = { host: url.hostname, port: url.port, method: 'POST', path: '/', agent, headers }
    const req = request(to, res => {
      const parts: Buffer[] = []
      res.on('data', d => parts.push(d))
      res.on('end', () => resolve(Buffer.concat(parts).toString('latin1')))
      res.on('error', err => resolve(String(err)))
    })
    req.on('error', err => resolve(String(err)))
    req.end(body)
  })
}
