/**
 * The load: signed ahead, sent in batches with a bound on requests under way and on transactions in no block yet, and counted only when a
 * block read back from the node has them with status 1. A transaction is visible when the block that has it can be read.
 */
import { readFile } from 'node:fs/promises'
import { RpcClient } from '../../../lib/adapters/jsonrpc/client.ts'
import { RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { type Hex, toHex, toQuantity } from '../../../lib/base/hex.ts'
import { type Fees, makeSenders, type Sender, type Signed, signAll } from './signing.ts'
import { planOf, type Workload } from './workload.ts'

export interface LoadOptions {
  url: string
  workload: Workload
  count: number
  senders: number
  /** Transactions a request. */
  batch: number
  /** Requests under way at once. */
  inFlight: number
  /** Transactions sent and in no block yet, at most. */
  ahead: number
  /** Transactions a second, at most; absent: as fast as the node takes them. */
  rate?: number | undefined
  /**
   * Receipts read back of each block, evenly spread; absent: all. Some nodes take minutes over all. What is not read counts as included with
   * the rest, and the gas is that of the blocks' headers.
   */
  sample?: number | undefined
  /** Pays for everything. */
  key: Uint8Array
  address: Uint8Array
  /** The node's process, if it is here: its CPU seconds are taken. */
  pid?: number | undefined
  /** Without any progress for so long: ERR_TIMEOUT. */
  timeoutMs: number
  /** Names the senders; the same seed on a fresh chain is the same load. */
  seed?: string
  signal?: AbortSignal
  onProgress?: (phase: 'setup' | 'sign' | 'load' | 'check', done: number, total: number) => void
  /** Signed already, by {@link prepareLoad} on a chain just like this one. */
  prepared?: PreparedLoad
}

export interface LoadResult {
  workload: Workload
  sent: number
  /** In blocks with status 1. */
  included: number
  failed: number
  refused: number
  /** The first refusal's words. */
  refusal: string | undefined
  seconds: number
  perSecond: number
  p50Ms: number
  p99Ms: number
  blocks: number
  largestBlock: number
  gasUsed: bigint
  cpuSeconds: number | undefined
  /** Of the node, after the load. */
  rssBytes: number | undefined
}

export interface PreparedLoad {
  setup: Signed[][]
  load: Signed[]
}

const POLL_MS = 10
/** Receipts of a larger block are asked for one by one, so many in a batch: an answer has its bound. */
const CHECK_BLOCK = 1_000
const CHECK_BATCH = 100

/** Signs everything for the chain as it is now; the funder's nonce is the chain's. */
export async function prepareLoad(opts: LoadOptions): Promise<PreparedLoad> {
  const rpc = new RpcClient(opts.url, { what: 'node', ...(opts.signal === undefined ? {} : { signal: opts.signal }) })
  const [chainId, nonce, block] = await Promise.all([
    rpc.call<Hex>('eth_chainId'),
    rpc.call<Hex>('eth_getTransactionCount', [toHex(opts.address), 'pending']),
    rpc.call<{ baseFeePerGas?: Hex }>('eth_getBlockByNumber', ['latest', false])
  ])
  // The base fee may double a few times under load; senders have plenty.
  const fees: Fees = {
    chainId: BigInt(chainId),
    maxPriorityFeePerGas: 1_000_000_000n,
    maxFeePerGas: 16n * BigInt(block.baseFeePerGas ?? '0x0') + 2_000_000_000n
  }
  const funder: Sender = { key: opts.key, address: opts.address, nonce: BigInt(nonce) }
  const senders = makeSenders(Math.min(opts.senders, opts.count), opts.seed ?? `${process.pid} ${Date.now()}`)
  const plan = await planOf(opts.workload, funder, senders)
  const setup = plan.setup.map(step => signAll(step, fees))
  const load: Signed[] = []
  for (let i = 0; i < opts.count; i += 2_000) {
    const part = Array.from({ length: Math.min(2_000, opts.count - i) }, (_, k) => plan.transaction(i + k))
    load.push(...signAll(part, fees))
    opts.onProgress?.('sign', load.length, opts.count)
    await new Promise(resolve => setImmediate(resolve))
    opts.signal?.throwIfAborted()
  }
  return { setup, load }
}

/** Runs a load. @throws {ZgError} ERR_TIMEOUT, ERR_UNAVAILABLE, ERR_REJECTED when what it stands on fails. */
export async function runLoad(opts: LoadOptions): Promise<LoadResult> {
  const rpc = new RpcClient(opts.url, { what: 'node', ...(opts.signal === undefined ? {} : { signal: opts.signal }) })
  const { setup, load } = opts.prepared ?? (await prepareLoad(opts))
  for (const [i, step] of setup.entries()) {
    opts.onProgress?.('setup', i, setup.length)
    // One request after the other: the funder's transactions must come in the order of their nonces.
    const done = await drive(rpc, step, { ...opts, inFlight: 1 })
    if (done.refused > 0) throw new ZgError('ERR_REJECTED', `the node refused what the load stands on: ${done.refusal}`)
    const { failed } = await check(rpc, done.blocks, new Set(step.map(s => toHex(s.hash))))
    if (failed > 0) throw new ZgError('ERR_REJECTED', `${failed} transactions that the load stands on failed`)
  }
  const before = opts.pid === undefined ? undefined : await cpuSeconds(opts.pid)
  const done = await drive(rpc, load, { ...opts, onDone: (n: number) => opts.onProgress?.('load', n, load.length) })
  const after = opts.pid === undefined ? undefined : await cpuSeconds(opts.pid)
  const rssBytes = opts.pid === undefined ? undefined : await residentBytes(opts.pid)
  opts.onProgress?.('check', 0, done.blocks.length)
  const checked = await check(rpc, done.blocks, new Set(load.map(s => toHex(s.hash))), opts.sample)
  const sorted = done.latencies.sort((a, b) => a - b)
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
  return {
    workload: opts.workload,
    sent: load.length,
    included: checked.included,
    failed: checked.failed,
    refused: done.refused,
    refusal: done.refusal,
    seconds: done.seconds,
    perSecond: done.seconds === 0 ? 0 : checked.included / done.seconds,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    blocks: done.blocks.length,
    largestBlock: checked.largest,
    gasUsed: checked.gasUsed,
    cpuSeconds: before === undefined || after === undefined ? undefined : after - before,
    rssBytes
  }
}

interface Drive {
  seconds: number
  refused: number
  refusal: string | undefined
  latencies: number[]
  /** The blocks that had any. */
  blocks: BlockLoad[]
}

/** A block and those of its transactions that are of the load. */
interface BlockLoad {
  number: number
  hashes: Hex[]
  /** Transactions of the block, others' too. */
  whole: number
  gasUsed: bigint
}

/** Sends all and waits until each is in a block or refused. */
async function drive(
  rpc: RpcClient,
  txs: readonly Signed[],
  o: Pick<LoadOptions, 'batch' | 'inFlight' | 'ahead' | 'rate' | 'timeoutMs' | 'signal'> & {
    onDone?: (n: number) => void
  }
): Promise<Drive> {
  // Bodies and hashes are made before the clock starts: on few cores the driver's own work is taken from the node.
  const hashes = txs.map(tx => toHex(tx.hash))
  const indexOf = new Map(hashes.map((hash, i) => [hash, i]))
  const bodies: string[] = []
  for (let from = 0; from < txs.length; from += o.batch) {
    const calls = txs.slice(from, from + o.batch).map((tx, i) => {
      return `{"jsonrpc":"2.0","id":${from + i},"method":"eth_sendRawTransaction","params":["${toHex(tx.raw)}"]}`
    })
    bodies.push(`[${calls.join(',')}]`)
    if (bodies.length % 20 === 0) await new Promise(resolve => setImmediate(resolve))
  }
  /** When each was sent; NaN: not yet, refused, or seen in a block. */
  const sentAt = new Float64Array(txs.length).fill(Number.NaN)
  const latencies: number[] = []
  const blocks: BlockLoad[] = []
  let refused = 0
  let refusal: string | undefined
  let next = 0
  let seen = 0
  let height = Number(await rpc.call<Hex>('eth_blockNumber'))
  let progressed = performance.now()
  let failure: unknown
  const began = performance.now()
  let last = began

  const refuse = (index: number, message: string): void => {
    // In a block before its answer came, or told twice: it is there.
    if (Number.isNaN(sentAt[index])) return
    sentAt[index] = Number.NaN
    refused++
    refusal ??= message
  }
  const sender = async (): Promise<void> => {
    while (failure === undefined && next < txs.length) {
      if (next - seen - refused >= o.ahead) {
        await pause(POLL_MS)
        continue
      }
      if (o.rate !== undefined && next > ((performance.now() - began) / 1000) * o.rate) {
        await pause(1)
        continue
      }
      const from = next
      next = Math.min(from + o.batch, txs.length)
      sentAt.fill(performance.now(), from, next)
      const answers = await rpc.send(bodies[from / o.batch]!)
      for (const { id, error } of answers) {
        // Not of one call, but of the whole batch.
        if (typeof id !== 'number') throw new ZgError('ERR_REJECTED', `the node refused a batch: ${error.message}`)
        refuse(id, error.message)
      }
    }
  }
  const reader = async (): Promise<void> => {
    while (failure === undefined && seen + refused < txs.length) {
      o.signal?.throwIfAborted()
      const head = Number(await rpc.call<Hex>('eth_blockNumber'))
      while (height < head) {
        const block = await rpc.call<{ transactions: Hex[]; gasUsed: Hex } | null>('eth_getBlockByNumber', [
          toQuantity(height + 1),
          false
        ])
        if (block === null) break
        height++
        const now = performance.now()
        const ours: Hex[] = []
        for (const hash of block.transactions) {
          const index = indexOf.get(hash)
          if (index === undefined || Number.isNaN(sentAt[index])) continue
          latencies.push(now - sentAt[index]!)
          sentAt[index] = Number.NaN
          seen++
          ours.push(hash)
        }
        if (ours.length > 0) {
          blocks.push({
            number: height,
            hashes: ours,
            whole: block.transactions.length,
            gasUsed: BigInt(block.gasUsed)
          })
          progressed = last = now
          o.onDone?.(seen)
        }
      }
      if (performance.now() - progressed > o.timeoutMs)
        throw new ZgError('ERR_TIMEOUT', `${txs.length - seen - refused} transactions are in no block`, {
          facts: refusal === undefined ? [] : [`${refused} were refused: ${refusal}`]
        })
      await pause(POLL_MS)
    }
  }
  const guarded = (work: Promise<void>): Promise<void> =>
    work.catch(err => {
      failure ??= err
    })
  await Promise.all([...Array.from({ length: o.inFlight }, () => guarded(sender())), guarded(reader())])
  if (failure !== undefined) throw failure
  return { seconds: (last - began) / 1000, refused, refusal, latencies, blocks }
}

/** Some nodes take a minute over the receipts of a block of ten thousand transactions. */
const RECEIPTS_MS = 300_000

interface Receipt {
  transactionHash: Hex
  status: Hex
  gasUsed: Hex
}

/** Reads the receipts of `wanted` in the blocks and counts them. */
async function check(
  rpc: RpcClient,
  blocks: readonly BlockLoad[],
  wanted: ReadonlySet<string>,
  sample?: number
): Promise<{ included: number; failed: number; largest: number; gasUsed: bigint }> {
  let included = 0
  let failed = 0
  let largest = 0
  let gasUsed = 0n
  for (const block of blocks) {
    let ours = 0
    const sampled = sample !== undefined && block.hashes.length > sample
    for await (const receipt of receiptsOf(rpc, sampled ? { ...block, hashes: spread(block.hashes, sample) } : block)) {
      if (!wanted.has(receipt.transactionHash)) continue
      ours++
      gasUsed += BigInt(receipt.gasUsed)
      if (receipt.status === '0x1') included++
      else failed++
    }
    if (sampled) {
      included += block.hashes.length - ours
      ours = block.hashes.length
    }
    largest = Math.max(largest, ours)
  }
  if (sample !== undefined) gasUsed = blocks.reduce((sum, b) => sum + b.gasUsed, 0n)
  return { included, failed, largest, gasUsed }
}

/** `count` of a list, evenly spread, the first and the last among them. */
function spread<T>(list: readonly T[], count: number): T[] {
  return Array.from({ length: count }, (_, i) => list[Math.floor((i * (list.length - 1)) / Math.max(1, count - 1))]!)
}

async function* receiptsOf(rpc: RpcClient, { number, hashes, whole }: BlockLoad): AsyncGenerator<Receipt> {
  const timeoutMs = RECEIPTS_MS
  if (whole <= CHECK_BLOCK) {
    yield* await rpc.call<Receipt[]>('eth_getBlockReceipts', [toQuantity(number)], { timeoutMs })
    return
  }
  for (let i = 0; i < hashes.length; i += CHECK_BATCH) {
    const calls = hashes.slice(i, i + CHECK_BATCH)
    const answers = await rpc.batch<Receipt | null>(
      calls.map(hash => ({ method: 'eth_getTransactionReceipt', params: [hash] })),
      { timeoutMs }
    )
    for (const answer of answers) {
      if (answer instanceof RpcError) throw answer
      if (answer === null)
        throw new ZgError('ERR_PROTOCOL', `the node has no receipt of a transaction in block ${number}`)
      yield answer
    }
  }
}

const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

/** User and system time of a process so far; undefined where the system does not tell. */
export async function cpuSeconds(pid: number): Promise<number | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8')
    // The name may hold blanks and brackets: what counts begins behind the last one.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) / 100
  } catch {
    return undefined
  }
}

export async function residentBytes(pid: number): Promise<number | undefined> {
  try {
    const m = /^VmRSS:\s+([0-9]+) kB/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))
    return m === null ? undefined : Number(m[1]) * 1024
  } catch {
    return undefined
  }
}
