/**
 * How does a storage node behave with 100 GB and a long log? `npm run bench:store-scale` reads the log of many submissions into a real index
 * on disk (rate in pieces, and its slope), writes the index entries of their segments beside sparse segment files of the full size, and
 * then starts the built node on that directory: how long until it answers, with how much memory, and how fast look-ups are.
 *
 *   FILES=1000000  small files of 4 KiB (4.2 GB on disk, 1 M submissions)
 *   SEGMENTS=400000  segments of large files of 1 GiB (105 GB)
 *
 * The bytes of the segments are holes, so nothing here measures reading data. Two cores or fewer: rates mean little while something else runs.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { truncate } from 'node:fs/promises'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { ChainFollower, type ChainLog, type FlowChain } from '../cmd/zg-store/core/chain-follower.ts'
import { FlowIndex } from '../cmd/zg-store/core/flow-index.ts'
import { encodeTx, key, type Tx } from '../cmd/zg-store/core/tx.ts'
import { fileHeader, fileName } from '../cmd/zg-store/disk/segment-file.ts'
import { encodeLocation, indexKey, LOG_HEAD_KEY } from '../cmd/zg-store/disk/segment-index.ts'
import { systemClock } from '../lib/adapters/clock.ts'
import { RpcClient } from '../lib/adapters/jsonrpc/client.ts'
import { openKv } from '../lib/adapters/kv.ts'
import { bigToBytes, concat } from '../lib/base/bytes.ts'
import { toHex } from '../lib/base/hex.ts'
import { appendSubmission, EMPTY_FLOW, type FlowState, flowRoot } from '../lib/codec/storage/flow-tree.ts'
import { setBits, shape } from '../lib/codec/storage/shape.ts'
import { identity, SUBMIT_TOPIC, type SubmissionNode } from '../lib/codec/storage/submission.ts'
import { silentLog } from '../lib/ops/log.ts'
import type { KvOp, KvStore } from '../lib/ports/kv.ts'
import { startFlowChain } from '../test/harness/flow-chain.ts'
import { startTool } from '../test/harness/tools.ts'

const FILES = Number(process.env.FILES ?? 1_000_000)
const SEGMENTS = Number(process.env.SEGMENTS ?? 400_000)
/** Submissions of one block, blocks of one page. */
const BLOCK = 50
const PAGE = 10
const SEGMENTS_EACH = 4_096
const SEGMENT_FILE_BYTES = 256 * 1024 * 1024
const MiB = 1024 * 1024

const say = (record: Record<string, unknown>): void => void process.stdout.write(`${JSON.stringify(record)}\n`)
const hash = (text: string): Uint8Array => new Uint8Array(createHash('sha256').update(text).digest())

/** The nodes of the n-th file of a size: made-up roots, real shape. */
function nodesOf(n: number, size: number): SubmissionNode[] {
  return setBits(shape(size).padded).map((height, i) => ({ height, root: hash(`${n} ${i}`) }))
}

/** Processor time of this process so far: what else runs on the machine does not count. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

/** A chain whose blocks are made when they are asked for. Its work (making logs, and the contract's root) is measured apart. */
function chainOf(count: number, size: number): FlowChain & { last: number; seconds: number } {
  let state: FlowState = EMPTY_FLOW
  const roots = new Map<number, Uint8Array>()
  let seq = 0
  const last = Math.ceil(count / BLOCK)
  const word = (n: number): Uint8Array => bigToBytes(BigInt(n), 32)
  const chain = {
    last,
    seconds: 0,
    head: async () => last,
    block: async (n: number) => ({ number: n, hash: hash(`block ${n}`), parentHash: hash(`block ${n - 1}`) }),
    submitLogs: async (from: number, to: number) => {
      const begun = cpuSeconds()
      const logs: ChainLog[] = []
      for (let block = from; block <= to; block++) {
        if (block === 0) continue
        for (let i = 0; i < BLOCK && seq < count; i++, seq++) {
          const nodes = nodesOf(seq, size)
          const added = appendSubmission(state, nodes)
          state = added.state
          roots.set(seq, flowRoot(state))
          roots.delete(seq - 2 * BLOCK * PAGE)
          const body = [word(size), word(96), word(128), word(0), word(nodes.length)]
          for (const x of nodes) body.push(x.root, word(x.height))
          const head = [word(seq), word(added.place.start), word(added.place.sectors), word(128)]
          const topics = [SUBMIT_TOPIC, bigToBytes(0x11n, 32), identity(nodes)]
          logs.push({ topics, data: concat(...head, ...body), block, logIndex: i })
        }
      }
      chain.seconds += cpuSeconds() - begun
      return logs
    },
    quiet: () => false,
    flowRoot: async (n: number) => roots.get(n)!,
    submissionCount: async () => seq,
    nextHead: async () => {}
  }
  return chain
}

function sizeOf(dir: string): number {
  return readdirSync(dir, { withFileTypes: true }).reduce(
    (sum, e) => sum + (e.isDirectory() ? sizeOf(join(dir, e.name)) : statSync(join(dir, e.name)).blocks * 512),
    0
  )
}

/** Rate of each tenth by processor time, and what the last one is of the first. */
function slope(seconds: number[], each: number): { per_second: number[]; last_to_first: number } {
  const rates = seconds.map(s => Math.round(each / s))
  return { per_second: rates, last_to_first: Number((rates.at(-1)! / rates[0]!).toFixed(2)) }
}

/** Reads the log of `count` files of a size into the index of a node's directory. */
async function readLog(dir: string, count: number, size: number): Promise<void> {
  const kv = await openKv(join(dir, 'index'))
  const index = await FlowIndex.open(kv)
  const chain = chainOf(count, size)
  const stop = new AbortController()
  const tenths: number[] = []
  const each = Math.ceil(count / 10)
  const wall = performance.now()
  let begun = cpuSeconds()
  let made = 0
  const follower = new ChainFollower({
    chain,
    index,
    clock: systemClock,
    logger: silentLog,
    startBlock: 0,
    confirmations: 1,
    pageBlocks: PAGE,
    onSubmitted: async txs => {
      await finish(kv, txs)
      while (index.nextSeq >= Math.min(count, (tenths.length + 1) * each) && tenths.length < 10) {
        tenths.push(Math.max(1e-6, cpuSeconds() - begun - (chain.seconds - made)))
        begun = cpuSeconds()
        made = chain.seconds
      }
      if (index.nextSeq >= count) stop.abort()
    },
    onRemoved: async () => {}
  })
  await follower.run(stop.signal)
  const seconds = tenths.reduce((a, b) => a + b, 0)
  say({
    type: 'log_sync',
    events: count,
    events_per_cpu_second: Math.round(count / seconds),
    tenths: slope(tenths, each),
    wall_seconds_with_generator: Math.round((performance.now() - wall) / 1000),
    reader_rss_mib: Math.round(process.memoryUsage().rss / MiB)
  })
  await kv.close()
}

/** All of it is here: what a finished upload leaves. */
async function finish(kv: KvStore, txs: readonly Tx[]): Promise<void> {
  const ops: KvOp[] = []
  for (const tx of txs) {
    ops.push({ put: key('t', tx.seq), value: encodeTx({ ...tx, status: 'final' }) }, { del: key('u', tx.root) })
  }
  await kv.batch(ops)
}

/** Index entries for every segment of the files, beside sparse segment files in which they would lie. */
async function placeSegments(dir: string, count: number, size: number): Promise<void> {
  const kv = await openKv(join(dir, 'index'))
  const index = await FlowIndex.open(kv)
  mkdirSync(join(dir, 'segments'), { recursive: true })
  const s = shape(size)
  let [file, at, segments, bytes] = [1, 16, 0, 0]
  const ops: KvOp[] = []
  const end = async (): Promise<void> => {
    const path = join(dir, 'segments', fileName(file))
    writeFileSync(path, fileHeader(file))
    await truncate(path, at)
  }
  for (let seq = 0; seq < count; seq++) {
    const { root } = (await index.tx(seq))!
    for (let i = 0; i < s.segments; i++) {
      const dataSize = Math.min(262_144, s.chunks * 256 - i * 262_144)
      const siblings = Math.ceil(Math.log2(s.paddedSegments))
      const value = encodeLocation({ file, offset: at, dataSize, siblings, leaf: hash(`${seq} leaf ${i}`) })
      ops.push({ put: indexKey(root, i), value })
      at += 104 + 32 * siblings + dataSize
      segments++
      bytes += dataSize
      if (at >= SEGMENT_FILE_BYTES) {
        await end()
        file++
        at = 16
      }
    }
    if (ops.length >= 2_000) await kv.batch(ops.splice(0))
  }
  await end()
  const point = new Uint8Array(12)
  new DataView(point.buffer).setUint32(0, file)
  new DataView(point.buffer).setBigUint64(4, BigInt(at))
  await kv.batch([...ops, { put: LOG_HEAD_KEY, value: point }], { sync: true })
  await kv.close()
  const indexBytes = sizeOf(join(dir, 'index'))
  say({
    type: 'directory',
    files: count,
    segments,
    stored_gb: Number((bytes / 1e9).toFixed(1)),
    segment_files: file,
    index_mib: Math.round(indexBytes / MiB),
    index_bytes_per_file: Math.round(indexBytes / count),
    index_per_stored: Number((indexBytes / bytes).toFixed(5))
  })
}

/** Starts the built node there. */
async function startNode(dir: string, count: number, size: number): Promise<void> {
  const chain = await startFlowChain()
  // The block up to which the directory was read is where this chain is.
  const kv = await openKv(join(dir, 'index'))
  const index = await FlowIndex.open(kv)
  const last = index.progress!
  await kv.close()
  chain.intercept = (method, params) => {
    const block = (n: number): unknown => ({
      number: `0x${n.toString(16)}`,
      hash: toHex(n === last.block ? last.hash : hash(`block ${n}`)),
      parentHash: toHex(hash(`block ${n - 1}`)),
      timestamp: '0x1'
    })
    if (method === 'eth_blockNumber') return `0x${last.block.toString(16)}`
    if (method === 'eth_getBlockByNumber') return block(params[0] === 'latest' ? last.block : Number(params[0]))
    if (method === 'eth_call') return toHex(bigToBytes(BigInt(count), 32))
    return undefined
  }
  const started = await startTool('zg-store', ['node', '--dir', dir, '--rpc-port', '0', '--rpc-url', chain.url], {
    timeoutMs: 120_000
  })
  const rss = (): number =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${started.pid}/status`, 'utf8'))![1]) / 1024
  const idle = rss()
  const rpc = new RpcClient(started.url, { what: 'node' })
  const times: number[] = []
  for (let i = 0; i < 2_000; i++) {
    const seq = Math.floor((i * 2_654_435_761) % count)
    const begun = performance.now()
    const info = await rpc.call<{ finalized: boolean; tx: { size: number } }>('zgs_getFileInfoByTxSeq', [seq])
    times.push(performance.now() - begun)
    if (!info.finalized || info.tx.size !== size) throw new Error(`submission ${seq} is not there`)
  }
  times.sort((a, b) => a - b)
  say({
    type: 'node',
    files: count,
    ready_seconds: Number((started.readyMs / 1000).toFixed(2)),
    rss_mib_after_start: Math.round(idle),
    rss_mib_after_look_ups: Math.round(rss()),
    look_up_ms: { p50: Number(times[1_000]!.toFixed(2)), p99: Number(times[1_980]!.toFixed(2)) }
  })
  const stopping = performance.now()
  await started.stop()
  say({ type: 'stopped', seconds: Number(((performance.now() - stopping) / 1000).toFixed(2)) })
  await chain.close()
}

say({ type: 'machine', cpus: cpus().length, model: cpus()[0]?.model, load: loadavg().map(x => Number(x.toFixed(1))) })
// The same start with nothing stored, as the measure for what follows.
for (const [name, count, size] of [
  ['a small store', 1_000, 4_096],
  ['small files', FILES, 4_096],
  ['large files', Math.ceil(SEGMENTS / SEGMENTS_EACH), SEGMENTS_EACH * 262_144]
] as const) {
  const dir = mkdtempSync(join(tmpdir(), 'zg-scale-'))
  try {
    say({ type: 'case', name })
    await readLog(dir, count, size)
    await placeSegments(dir, count, size)
    await startNode(dir, count, size)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
