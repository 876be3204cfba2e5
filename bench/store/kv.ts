/**
 * How long after its block can a key-value write be read? `node --import tsx bench/store/kv.ts`.
 *
 * Real processes on this machine: zg-chain with blocks every 500 ms, a storage node, a key-value node. Each write is a transaction and an upload
 * by zg's own client; from the moment at which the chain pushes the header of its block a reader asks `kv_getValue` every few milliseconds.
 * What lies in between: the client's upload after it has seen the receipt, the node's finality, the key-value node's download and
 * replay. Rows: writes one after the other, then several at a time, then values of 1 MiB. One JSON line a row.
 *
 *   WRITES=40   of each row
 */
import { randomBytes } from 'node:crypto'
import { cpus, loadavg } from 'node:os'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { ChainClient } from '../../lib/clients/chain.ts'
import { FlowClient, hashSource, memorySource, NodePool, put } from '../../lib/clients/store.ts'
import { ANY_VERSION, encodeKv, encodeStreamTags } from '../../lib/codec/storage/kv.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { freePort, type RunningTool, sandbox, startTool, waitFor } from '../../test/harness/tools.ts'

const WRITES = Number(process.env.WRITES ?? 40)
const BLOCK_MS = 500
const ASK_MS = 4
const FLOW = '0x22e03a6a89b950f1c82ec5e74f8eca321a105296'
/** Each writer is the admin of a stream of its own. */
const WRITERS = 4
const streamOf = (by: number): Uint8Array => new Uint8Array(32).fill(by)

const box = sandbox('bench-kv')
const started: RunningTool[] = []
try {
  await main()
} finally {
  await Promise.all(started.map(p => p.stop()))
  box.remove()
}

interface Lag {
  /** From the block's header to the answer with the new value. */
  readableMs: number
  /** From the block's header to the end of the upload, as its client sees it. */
  uploadedMs: number
}

async function main(): Promise<void> {
  const [rpcPort, storePort, kvPort] = [await freePort(), await freePort(), await freePort()]
  const rpc = `http://127.0.0.1:${rpcPort}`
  const storeUrl = `http://127.0.0.1:${storePort}`
  const kvUrl = `http://127.0.0.1:${kvPort}`
  const network = ['--kind', 'network', '--chain-id', '31337']
  await run([
    'zg-chain',
    'node',
    '--dev',
    ...network,
    '--block-time',
    `${BLOCK_MS}ms`,
    '--dir',
    box.path('chain'),
    '--rpc-port',
    `${rpcPort}`
  ])
  await run(['zg-store', 'node', '--dir', box.path('store'), '--rpc-port', `${storePort}`, '--rpc-url', rpc])
  const follow = ['--node', storeUrl, '--flow', FLOW]
  for (let by = 1; by <= WRITERS; by++) follow.push('--stream', toHex(streamOf(by)))
  await run(['zg-store', 'kv', 'node', '--dir', box.path('kv'), '--rpc-port', `${kvPort}`, '--rpc-url', rpc, ...follow])

  const chain = new ChainClient(rpc)
  const headAt = new Map<number, number>()
  const stop = chain.subscribeHeads(header => {
    headAt.set(Number(header.number), performance.now())
  })
  const node = new RpcClient(kvUrl, { what: 'key-value node' })
  const pool = new NodePool({ nodes: [storeUrl] })
  const flow = new FlowClient(chain)
  await waitFor(() => headAt.size > 1, { what: 'pushed heads', timeoutMs: 20_000 })

  /** One write by account `by`, and how long it took to be readable. */
  async function write(by: number, key: string, valueBytes: number): Promise<Lag> {
    const value = new Uint8Array(randomBytes(valueBytes))
    const name = new Uint8Array(Buffer.from(key))
    const stream = streamOf(by)
    const content = encodeKv({ version: ANY_VERSION, reads: [], writes: [{ stream, key: name, value }], controls: [] })
    const source = memorySource(content)
    const { address, privateKey } = DEV_ACCOUNTS[by]!
    const signer = async () => ({ address: fromHex(address), name: '', privateKey: async () => fromHex(privateKey) })
    let read: Promise<number> | undefined
    let block = 0
    const done = await put(source, await hashSource(source), {
      pool,
      flow,
      signer: signer as never,
      journalDir: box.path(`journal${by}`),
      replicas: 1,
      always: true,
      tags: encodeStreamTags([stream]),
      on: {
        submitted: r => {
          block = r.blockNumber
          read = readable(stream, key, r.seq)
        }
      }
    })
    const uploaded = performance.now()
    const at = await waitForHead(block)
    return { readableMs: (await (read ?? readable(stream, key, done.seq))) - at, uploadedMs: uploaded - at }
  }

  /** When the value written by submission `seq` is answered. */
  async function readable(stream: Uint8Array, key: string, seq: number): Promise<number> {
    const params = [toHex(stream), Buffer.from(key).toString('base64'), 0, 1024]
    for (;;) {
      const { version } = await node.call<{ version: number }>('kv_getValue', params)
      if (version >= seq) return performance.now()
      await new Promise(resolve => setTimeout(resolve, ASK_MS))
    }
  }

  async function waitForHead(block: number): Promise<number> {
    await waitFor(() => headAt.has(block), { what: `the header of block ${block}`, timeoutMs: 10_000 })
    return headAt.get(block)!
  }

  async function row(name: string, writers: number, valueBytes: number): Promise<void> {
    const lags: Lag[] = []
    let next = 0
    const each = async (by: number): Promise<void> => {
      while (next < WRITES) lags.push(await write(by, `${name} ${next++}`, valueBytes))
    }
    await Promise.all(Array.from({ length: writers }, (_, i) => each(i + 1)))
    say({
      row: name,
      writes: lags.length,
      value_bytes: valueBytes,
      ...spread(
        'readable',
        lags.map(l => l.readableMs)
      ),
      ...spread(
        'uploaded',
        lags.map(l => l.uploadedMs)
      )
    })
  }

  await write(1, 'warm', 100)
  await row('one writer', 1, 100)
  await row('four writers at once', WRITERS, 100)
  await row('values of 1 MiB', 1, 1024 * 1024)
  stop()
  say({
    row: 'machine',
    node: process.version,
    block_ms: BLOCK_MS,
    cpus: cpus().length,
    model: cpus()[0]?.model,
    load: Number(loadavg()[0]!.toFixed(2))
  })
}

function spread(name: string, ms: number[]): Record<string, number> {
  const sorted = [...ms].sort((x, y) => x - y)
  const at = (part: number): number =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!)
  return { [`${name}_ms_p50`]: at(0.5), [`${name}_ms_p95`]: at(0.95), [`${name}_ms_most`]: at(1) }
}

function say(row: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(row)}\n`)
}

async function run(args: string[]): Promise<void> {
  started.push(await startTool(args[0] as 'zg-store', args.slice(1), { env: box.env }))
}
