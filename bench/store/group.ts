/**
 * How fast is a coding group of six nodes, 4+2, on one machine? Figures of storage.md 12.3, each with the processor time of all
 * nodes and of the client for a GB.
 *
 *   node --import tsx bench/store/group.ts [--size 1GiB] [--only put,get,degraded,repair] [--reading no] [--profile DIR]
 *
 *   put        zg's client hashes a file and sends it to one member; over when that member says final
 *   get        zg's client reads and verifies it from all six
 *   degraded   the same with two members killed
 *   repair     one more file as above, then one member is wiped and comes back empty: until the group is whole; a client reads meanwhile
 *
 * Nodes and client are processes of their own on the same cores, writes durable, everything verified. With --profile each of them
 * leaves a V8 profile in a directory of its own.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { memberKey } from '../../lib/adapters/member-key.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { parseSize } from '../../lib/base/units.ts'
import { RemoteFile } from '../../lib/clients/store/get.ts'
import { NodePool } from '../../lib/clients/store/nodes.ts'
import { hashSource } from '../../lib/clients/store/put.ts'
import { openSource, type Source } from '../../lib/clients/store/source.ts'
import { fileToSend, uploadTo } from '../../lib/clients/store/upload.ts'
import { groupToJson, signGroup } from '../../lib/codec/storage/members.ts'
import { codec } from '../../lib/native.ts'
import { FLOW_ADDRESS, type FlowChainServer, startFlowChain } from '../../test/harness/flow-chain.ts'
import { freePort, packageRoot, waitFor } from '../../test/harness/tools.ts'

const NODES = 6

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '1GiB' },
    only: { type: 'string', default: 'put,get,degraded,repair' },
    /** A first file, so that six processes have compiled what they run: its row stands apart. */
    warm: { type: 'string', default: '256MiB' },
    /** Whether a client reads while the group repairs. */
    reading: { type: 'string', default: 'yes' },
    /** Part of the time that repair takes while clients are served. */
    share: { type: 'string' },
    /** Flags of the nodes' V8. */
    flags: { type: 'string', default: '' },
    /** Times each read is repeated. */
    rounds: { type: 'string', default: '2' },
    profile: { type: 'string' },
    dir: { type: 'string' },
    role: { type: 'string' }
  }
})
const SIZE = parseSize(values.size)
let start: (m: Member) => Promise<void> = async () => {}
const wanted = (name: string): boolean => values.only.split(',').includes(name)

if (values.role === undefined) await main()
else await client(values.role)

interface Member {
  index: number
  dir: string
  port: number
  child: ChildProcess
}

interface Done {
  nodes?: { height: number; root: string }[]
  root?: string
  hashSeconds?: number
  seconds?: number
  bytes?: number
  cpu?: number
  peakMib?: number
}

async function main(): Promise<void> {
  const dir = mkdtempSync(join(values.dir ?? tmpdir(), 'zg-bench-group-'))
  const file = join(dir, 'file')
  // Before the chain, which this process serves: it would not answer meanwhile.
  writeRandom(file, SIZE)
  const chain = await startFlowChain(31337, true)
  // A block a second, told to all who follow: nobody polls a chain of zg's.
  const blocks = setInterval(() => chain.mine(1), 1000)
  const members = await group(dir, chain)
  try {
    if (values.warm !== '0') {
      const first = join(dir, 'first')
      writeRandom(first, parseSize(values.warm))
      await put(members, chain, first, parseSize(values.warm), ', first file of cold processes')
      rmSync(first)
    }
    const root = await put(members, chain, file, SIZE, '')
    for (let i = 0; i < Number(values.rounds) && wanted('get'); i++) await get(members, root, 'get, 6 nodes')
    if (wanted('repair')) await repair(members, root)
    if (wanted('degraded')) {
      for (const m of [members[1]!, members[4]!]) await stop(m, 'SIGKILL')
      const left = members.filter(m => m.index !== 1 && m.index !== 4)
      // The others notice at the next request; what is measured is the steady state.
      for (let i = 0; i < Number(values.rounds); i++) await get(left, root, 'get, two of 6 nodes dead')
    }
    const machine = { cpus: cpus().length, model: cpus()[0]?.model, load: round(loadavg()[0]!), codec: codec().cpu }
    print({ row: 'machine', node: process.version, size: SIZE, ...machine })
  } finally {
    for (const m of members) await stop(m, 'SIGTERM')
    clearInterval(blocks)
    await chain.close()
    rmSync(dir, { recursive: true, force: true })
  }
}

function print(row: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(row)}\n`)
}

function round(x: number): number {
  return Number(x.toFixed(2))
}

function writeRandom(path: string, size: number): void {
  const fd = openSync(path, 'w')
  const piece = new Uint8Array(4 * 1024 * 1024)
  for (let at = 0; at < size; at += piece.length) {
    randomFillSync(piece)
    writeSync(fd, piece, 0, Math.min(piece.length, size - at))
  }
  closeSync(fd)
}

// ---- the group

async function group(dir: string, chain: FlowChainServer): Promise<Member[]> {
  const members: Member[] = []
  for (let index = 0; index < NODES; index++) {
    members.push({ index, dir: join(dir, `n${index}`), port: await freePort(), child: undefined as never })
  }
  const keys = await Promise.all(members.map(m => memberKey(join(m.dir, 'p2p.key'))))
  const list = signGroup(
    {
      version: 1,
      chainId: 31337,
      flow: FLOW_ADDRESS,
      members: keys.map((k, i) => ({ id: k.publicKey, peer: url(members[i]!) }))
    },
    await memberKey(join(dir, 'group.key'))
  )
  const times = values.share === undefined ? {} : { groupTimes: { repairShare: Number(values.share) } }
  start = async m => {
    const options = { dir: m.dir, chain: chain.url, rpcPort: m.port, group: groupToJson(list), ...times }
    const script = join(packageRoot, 'test/harness/store-node-process.ts')
    const args = ['--import', 'tsx', script, JSON.stringify(options)]
    m.child = spawn(
      process.execPath,
      [...profiled(`node-${m.index}`), ...values.flags.split(' ').filter(f => f !== ''), ...args],
      {
        cwd: packageRoot,
        stdio: ['ignore', 'pipe', 'inherit']
      }
    )
    let line = ''
    m.child.stdout!.on('data', d => {
      line += d
    })
    await waitFor(() => line.includes('"ready"'), { timeoutMs: 60_000, what: `node ${m.index}` })
  }
  await Promise.all(members.map(m => start(m)))
  for (const m of members) {
    await waitFor(async () => (await metric(m, 'group_members_live')) === NODES, {
      timeoutMs: 60_000,
      what: 'six live members'
    })
  }
  return members
}

function url(m: Member): string {
  return `http://127.0.0.1:${m.port}`
}

async function stop(m: Member, signal: NodeJS.Signals): Promise<void> {
  if (m.child.exitCode !== null || m.child.signalCode !== null) return
  const ended = new Promise(resolve => m.child.once('close', resolve))
  m.child.kill(signal)
  await ended
}

function profiled(name: string): string[] {
  if (values.profile === undefined) return []
  const dir = join(values.profile, name)
  mkdirSync(dir, { recursive: true })
  return ['--cpu-prof', '--cpu-prof-interval', '500', '--cpu-prof-dir', dir]
}

async function metric(m: Member, name: string): Promise<number> {
  return (await metrics(m, [name]))[0]!
}

/** Asked for together: to answer costs a node some milliseconds. */
async function metrics(m: Member, names: readonly string[]): Promise<number[]> {
  const text = await (await fetch(`${url(m)}/metrics`)).text()
  return names.map(name => Number(new RegExp(`^zg_store_${name} (.*)$`, 'm').exec(text)?.[1] ?? Number.NaN))
}

async function sums(members: readonly Member[], ...names: string[]): Promise<number[]> {
  const all = await Promise.all(members.map(m => metrics(m, names)))
  return names.map((_, i) => all.reduce((a, values) => a + values[i]!, 0))
}

async function sum(members: readonly Member[], name: string): Promise<number> {
  return (await sums(members, name))[0]!
}

// ---- rows

async function put(
  members: readonly Member[],
  chain: FlowChainServer,
  file: string,
  size: number,
  what: string
): Promise<string> {
  const before = now(members)
  const begun = performance.now()
  const child = role('put')
  child.send({ urls: [url(members[0]!)], file })
  const done = await answer(child, message => {
    const nodes = message.nodes!.map(n => ({ height: n.height, root: fromHex(n.root, 'root') }))
    child.send({ seq: chain.submit([{ size, nodes }])[0] })
  })
  row(`put, 6 nodes, 4+2${what}`, members, before, done, { hash_seconds: round(done.hashSeconds!) })
  await whole(members, 'all shards to be acknowledged')
  const seconds = (performance.now() - begun) / 1000
  row(`put, until every parity was computed again${what}`, members, before, { ...done, seconds })
  return done.root!
}

async function get(members: readonly Member[], root: string, name: string): Promise<void> {
  const before = now(members)
  const child = role('get')
  child.send({ urls: members.map(url), root })
  row(name, members, before, await answer(child))
}

/** Until nothing waits any more at any member. */
async function whole(members: readonly Member[], what: string): Promise<void> {
  const idle = async (): Promise<boolean> =>
    (await sums(members, 'repair_pending', 'parity_unchecked', 'staged_files')).every(n => n === 0)
  await waitFor(idle, { timeoutMs: 600_000, everyMs: 250, what })
}

async function repair(members: readonly Member[], root: string): Promise<void> {
  const victim = members[2]!
  await stop(victim, 'SIGKILL')
  for (const name of ['segments', 'staging', 'index']) rmSync(join(victim.dir, name), { recursive: true, force: true })
  const own = await sum(
    members.filter(m => m !== victim),
    'repair_lost_bytes_total'
  )
  const lost = (SIZE * 1.5) / NODES
  await start(victim)
  const before = now(members)
  const begun = performance.now()
  const reading = { on: values.reading === 'yes', bytes: 0, seconds: 0 }
  const reads = (async () => {
    while (reading.on) {
      const child = role('get')
      child.send({ urls: members.filter(m => m !== victim).map(url), root })
      const done = await answer(child)
      if (!reading.on) return
      reading.bytes += done.bytes!
      reading.seconds += done.seconds!
    }
  })()
  const restored = async (): Promise<number> => (await sum(members, 'repair_lost_bytes_total')) - own
  const done = async (): Promise<boolean> => {
    const [bytes, pending] = await sums(members, 'repair_lost_bytes_total', 'repair_pending')
    return bytes! - own >= lost * 0.99 && pending === 0
  }
  await waitFor(done, { timeoutMs: 1_200_000, everyMs: 250, what: 'repair' })
  const seconds = (performance.now() - begun) / 1000
  reading.on = false
  const read = await sum(members, 'repair_read_bytes_total')
  const sent = await sum(members, 'repair_sent_bytes_total')
  row(
    `repair, one of 6 nodes empty, ${values.reading === 'yes' ? 'clients' : 'nobody'} reading`,
    members,
    before,
    { seconds, bytes: await restored() },
    {
      stored_mb_per_second: Math.round(SIZE / 1e6 / seconds),
      minutes_for_10_gib: round(((10 * 2 ** 30) / SIZE) * (seconds / 60)),
      read_and_sent_per_lost_byte: round((read + sent) / (await restored())),
      reads_meanwhile_mb_per_second: reading.seconds === 0 ? null : Math.round(reading.bytes / 1e6 / reading.seconds)
    }
  )
  await reads
}

function row(
  name: string,
  members: readonly Member[],
  before: Before,
  done: Done,
  more: Record<string, unknown> = {}
): void {
  const bytes = done.bytes ?? SIZE
  print({
    row: name,
    mb_per_second: Math.round(bytes / 1e6 / done.seconds!),
    seconds: round(done.seconds!),
    nodes_cpu_s_per_gb: round((usage(members) - before.cpu) / (bytes / 1e9)),
    ...threadRow(members, before, bytes / 1e9),
    cores_busy: round((busySeconds() - before.busy) / ((performance.now() - before.ms) / 1000)),
    ...(done.cpu === undefined ? {} : { client_cpu_s_per_gb: round(done.cpu / (bytes / 1e9)) }),
    node_peak_mib: Math.max(...members.map(m => peakMib(m.child.pid!))),
    ...(done.peakMib === undefined ? {} : { client_peak_mib: done.peakMib }),
    ...more
  })
}

// ---- the client

function role(name: string): ChildProcess {
  return fork(fileURLToPath(import.meta.url), ['--role', name], {
    execArgv: [...profiled(`client-${name}`), ...process.execArgv]
  })
}

function answer(child: ChildProcess, onNodes?: (m: Done) => void): Promise<Done> {
  return new Promise((resolve, reject) => {
    child.once('close', code => reject(new Error(`the client ended with ${code}`)))
    child.on('message', m => {
      const done = m as Done
      if (done.nodes === undefined) resolve(done)
      else onNodes?.(done)
    })
  })
}

async function client(name: string): Promise<void> {
  const task = (await new Promise(resolve => process.once('message', resolve))) as {
    urls: string[]
    root: string
    file: string
  }
  const own = process.cpuUsage()
  const begun = performance.now()
  const pool = new NodePool({ nodes: task.urls })
  const told = (message: Done): void => {
    const u = process.cpuUsage(own)
    const cpu = (u.user + u.system) / 1e6
    process.send!({ ...message, cpu, peakMib: peakMib(process.pid) }, () => process.exit(0))
  }
  const since = (from: number): number => (performance.now() - from) / 1000
  if (name === 'get') {
    const file = await RemoteFile.open(pool, fromHex(task.root, 'root'))
    let bytes = 0
    for await (const { bytes: part, release } of file.chunks(0, file.sizeBytes)) {
      bytes += part.length
      release()
    }
    if (bytes !== file.sizeBytes) throw new Error('too little came')
    return told({ seconds: since(begun), bytes })
  }
  const source = (await openSource(task.file)) as Source
  const hash = await hashSource(source)
  const hashSeconds = since(begun)
  process.send!({ nodes: hash.nodes.map(n => ({ height: n.height, root: toHex(n.root) })) })
  const { seq } = (await new Promise(resolve => process.once('message', resolve))) as { seq: number }
  const [member] = await pool.members()
  await uploadTo(member!, fileToSend(hash, source, seq), { entryMs: 30_000, sealMs: 600_000 })
  told({ root: toHex(hash.root), hashSeconds, seconds: since(begun), bytes: hash.size })
}

interface Before {
  readonly cpu: number
  readonly threads: Threads[]
  readonly busy: number
  readonly ms: number
}

function now(members: readonly Member[]): Before {
  return { cpu: usage(members), threads: threads(members), busy: busySeconds(), ms: performance.now() }
}

/** Processor seconds of a node by kind of thread: where JavaScript runs, libuv's pool (disk, hashing, code), V8's own (compiling, collecting). */
interface Threads {
  readonly main: number
  readonly pool: number
  readonly v8: number
}

/** Linux only; a thread that has no name of its own and is not the first is one of libuv's or V8's, which came in that order. */
function threads(members: readonly Member[]): Threads[] {
  return members.map(m => {
    const sum = { main: 0, pool: 0, v8: 0 }
    if (m.child.exitCode !== null || m.child.signalCode !== null) return sum
    const pid = String(m.child.pid)
    const ids = readdirSync(`/proc/${pid}/task`)
      .map(Number)
      .sort((a, b) => a - b)
    for (const [i, id] of ids.entries()) {
      try {
        const fields = readFileSync(`/proc/${pid}/task/${id}/stat`, 'utf8').split(') ')[1]!.split(' ')
        const seconds = (Number(fields[11]) + Number(fields[12])) / 100
        // After the main thread Node starts its delayed-task scheduler and four workers of V8, then a signal thread; the pool comes later.
        if (i === 0) sum.main += seconds
        else if (i <= 5) sum.v8 += seconds
        else sum.pool += seconds
      } catch {
        // It ended meanwhile.
      }
    }
    return sum
  })
}

/** What {@link threads} grew by for a GB: the entry node, and the mean of the others. */
function threadRow(members: readonly Member[], before: Before, gb: number): Record<string, string> {
  const after = threads(members)
  const show = (of: readonly number[]): string => {
    const part = (kind: keyof Threads): string =>
      (of.reduce((a, i) => a + after[i]![kind] - (before.threads[i]?.[kind] ?? 0), 0) / of.length / gb).toFixed(2)
    return `${part('main')}+${part('pool')}+${part('v8')}`
  }
  return { entry_main_pool_v8: show([0]), other_main_pool_v8: show(members.map((_, i) => i).slice(1)) }
}

/** Seconds that the cores of the machine were not idle so far. */
function busySeconds(): number {
  const f = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.split(/ +/).slice(1).map(Number)
  return f.slice(0, 8).reduce((a, b, i) => a + (i === 3 || i === 4 ? 0 : b), 0) / 100
}

/** User and system seconds of all processes so far. Linux only. */
function usage(members: readonly Member[]): number {
  let seconds = 0
  for (const m of members) {
    if (m.child.exitCode !== null || m.child.signalCode !== null) continue
    const fields = readFileSync(`/proc/${m.child.pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    seconds += (Number(fields[11]) + Number(fields[12])) / 100
  }
  return seconds
}

function peakMib(pid: number): number {
  try {
    return Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024)
  } catch {
    return 0
  }
}
