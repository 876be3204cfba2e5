/**
 * Proves the reading of the submission log: after every one of many random submissions (SUBMISSIONS, 500 by default; `npm run test:flow`
 * makes 10,000) the contract's flow root, the node's and that of a tree written another way are equal; a chain RPC that fails, lags,
 * limits, leaves out, repeats and shuffles costs time only, from block 0 and from a start block; pages of the log have a bounded size; and reorganisations of up to five
 * blocks leave the index that a fresh one has.
 */
import { Interface } from 'ethers'
import t, { type Test } from 'tap'
import { ChainFollower } from '../../cmd/zg-store/core/chain-follower.ts'
import { FlowIndex } from '../../cmd/zg-store/core/flow-index.ts'
import { followedChain } from '../../cmd/zg-store/kv/chain.ts'
import { chainSource } from '../../cmd/zg-store/node/chain-source.ts'
import { systemClock } from '../../lib/adapters/clock.ts'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { RpcError } from '../../lib/adapters/jsonrpc/types.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { ChainClient } from '../../lib/clients/chain.ts'
import { encodeStreamTags } from '../../lib/codec/storage/kv.ts'
import { flowAbi } from '../../lib/contracts/generated/abi.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { silentLog } from '../../lib/ops/log.ts'
import type { KvStore } from '../../lib/ports/kv.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { FLOW_ADDRESS, startFlowChain, type TestSubmission } from '../harness/flow-chain.ts'
import { SEED } from '../harness/seed.ts'
import { SparseTree } from '../harness/sparse-tree.ts'
import { sandbox, startTool, waitFor } from '../harness/tools.ts'
import { AT, BATCH_OLD, type File, file, tuple } from '../unit/contract-chain.ts'

const SUBMISSIONS = Number(process.env.SUBMISSIONS ?? 500)
const random = new SeededRandom(SEED)

/** A file of random shape: mostly small, now and then up to 8 GiB. */
function someFile(n: number): File {
  const highest = random.below(10) === 0 ? random.below(25) : random.below(9)
  const heights = [highest]
  for (const h of [highest - 1, highest - 2, highest - 3]) if (h >= 0 && random.below(2) === 0) heights.push(h)
  return file(heights, n)
}

interface Sync {
  index: FlowIndex
  kv: KvStore
  follower: ChainFollower
  stop(): Promise<void>
}

/** Time that runs ten times as fast: pauses between attempts are not what is tested. */
const hasty = {
  ...systemClock,
  monotonic: () => systemClock.monotonic() * 10,
  sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms / 10, signal),
  after: (ms: number, fn: () => void) => systemClock.after(ms / 10, fn)
}

/** The node's own reading of the log, without the rest of the node. */
async function sync(url: string, o: { startBlock?: number; flow?: string } = {}): Promise<Sync> {
  const kv = await openSimKv(new SimDisk(), '/kv')
  const index = await FlowIndex.open(kv)
  const ended = new AbortController()
  const client = new ChainClient(url, { signal: ended.signal, timeoutMs: 2_000 })
  const chain = chainSource(client, o.flow ?? FLOW_ADDRESS, hasty)
  const follower = new ChainFollower({
    chain,
    index,
    clock: hasty,
    logger: silentLog,
    startBlock: o.startBlock ?? 0,
    confirmations: 1,
    onSubmitted: async () => {},
    onRemoved: async () => {}
  })
  const running = follower.run(ended.signal)
  return {
    index,
    kv,
    follower,
    async stop() {
      ended.abort()
      chain.close()
      await running
    }
  }
}

t.test('contract, node and a tree written another way agree after every submission', { timeout: 900_000 }, async t => {
  const box = sandbox('flow-sync')
  const args = ['node', '--dev', '--kind', 'network', '--chain-id', '31337', '--dir', box.path('chain')]
  const node = await startTool('zg-chain', [...args, '--rpc-port', '0', '--block-time', 'on-demand'], { env: box.env })
  const rpc = new RpcClient(node.url, { what: 'chain', timeoutMs: 60_000 })
  const flow = new Interface(flowAbi)
  const { index, stop } = await sync(node.url, { flow: AT.flow.toLowerCase() })
  t.teardown(async () => {
    await stop()
    await node.stop()
    box.remove()
  })
  const tree = new SparseTree()
  const expected: string[] = []
  const BATCH = 20
  for (let n = 0; n < SUBMISSIONS; n += BATCH) {
    const files = Array.from({ length: Math.min(BATCH, SUBMISSIONS - n) }, (_, i) => someFile(n + i))
    for (const f of files) {
      tree.submit(f)
      expected.push(tree.root())
    }
    const sectors = files.reduce((sum, f) => sum + f.nodes.reduce((s, x) => s + 2n ** BigInt(x.height), 0n), 0n)
    const call = {
      from: DEV_ACCOUNTS[1 + ((n / BATCH) % 8)]!.address,
      to: AT.flow,
      data: flow.encodeFunctionData(BATCH_OLD, [files.map(tuple)])
    }
    const price = BigInt(await rpc.call<string>('eth_call', [{ to: AT.market, data: '0x61ec5082' }, 'latest']))
    const hash = await rpc.call<string>('eth_sendTransaction', [
      { ...call, value: `0x${(price * sectors).toString(16)}`, gas: '0x1c9c380' }
    ])
    const receipt = await new ChainClient(node.url).waitReceipt(hash)
    if (receipt.status !== '0x1') throw new Error(`submission ${n}: transaction failed`)
  }
  await waitFor(() => index.nextSeq === SUBMISSIONS, { timeoutMs: 60_000, what: 'the node to read all' })
  let wrong = 0
  for (let at = 0; at < SUBMISSIONS; at += 100) {
    const seqs = Array.from({ length: Math.min(100, SUBMISSIONS - at) }, (_, i) => at + i)
    const answers = await rpc.batch<string>(
      seqs.map(seq => ({
        method: 'eth_call',
        params: [{ to: AT.flow, data: flow.encodeFunctionData('getFlowRootByTxSeq', [seq]) }, 'latest']
      }))
    )
    for (const [i, seq] of seqs.entries()) {
      const ours = toHex((await index.tx(seq))!.flowRoot)
      if (answers[i] !== expected[seq] || ours !== expected[seq]) wrong++
    }
  }
  t.equal(wrong, 0, `${SUBMISSIONS} submissions, flow of ${tree.length} sectors`)
  t.equal(BigInt(index.length), tree.length)
  t.equal(toHex(index.root), expected.at(-1))
})

// ---- a chain that behaves badly ------------------------------------------------------------------------------------------------------

const submission = (n: number): TestSubmission => {
  const f = someFile(n)
  return { size: Number(f.length), nodes: f.nodes.map(x => ({ root: fromHex(x.root), height: x.height })) }
}

async function dump(kv: KvStore): Promise<string[]> {
  const out: string[] = []
  // Blocks seen, and times at which roots lost their last submission, depend on the way.
  const own = [0x62, 0x6f]
  for await (const [key, value] of kv.scan({})) if (!own.includes(key[0]!)) out.push(`${toHex(key)} ${toHex(value)}`)
  return out
}

async function chaos(t: Test, o: { startBlock: number }): Promise<void> {
  const chain = await startFlowChain()
  t.teardown(() => chain.close())
  chain.mine(o.startBlock === 0 ? 30 : o.startBlock + 10)
  let n = 0
  const more = (blocks: number): void => {
    for (let i = 0; i < blocks; i++) {
      if (random.below(3) === 0) chain.mine(1 + random.below(20))
      else chain.submit(Array.from({ length: 1 + random.below(4) }, () => submission(n++)))
    }
  }
  more(150)
  const did = { failed: 0, late: 0, left: 0, twice: 0, shuffled: 0, lagged: 0, limited: 0 }
  let wrong = 0
  chain.intercept = async (method, params) => {
    if (random.chance(0.1)) {
      did.failed++
      throw new RpcError(-32000, 'header not found')
    }
    if (random.chance(0.03)) {
      did.late++
      await new Promise(resolve => setTimeout(resolve, 50 + random.below(300)))
    }
    if (method === 'eth_blockNumber' && random.chance(0.2)) {
      did.lagged++
      return `0x${Math.max(0, chain.height - random.below(4)).toString(16)}`
    }
    if (method !== 'eth_getLogs') return undefined
    const { fromBlock, toBlock } = params[0] as { fromBlock: string; toBlock: string }
    if (Number(toBlock) - Number(fromBlock) >= 50) {
      did.limited++
      throw new RpcError(-32602, 'block range is too large, at most 50')
    }
    const logs = chain.answer(method, params) as unknown[]
    // In turns, so that each happens however few requests the node needs.
    if (logs.length < 2 || !random.chance(0.5)) return logs
    switch (wrong++ % 3) {
      case 0:
        did.shuffled++
        return logs.toReversed()
      case 1:
        did.left++
        return logs.filter(() => random.chance(0.5))
      default:
        did.twice++
        return [...logs, ...logs]
    }
  }
  const a = await sync(chain.url, { startBlock: o.startBlock })
  const short = (): boolean => Object.values(did).some(count => count === 0)
  for (let round = 0; round < 6 || (round < 60 && short()); round++) {
    more(8)
    const target = n
    await waitFor(() => a.index.nextSeq === target, { timeoutMs: 30_000, what: `submission ${target}` }).catch(err => {
      throw new Error(`${err.message}: at ${a.index.nextSeq} of ${target}, ${a.follower.state.trouble}`)
    })
    if (round % 3 === 2) {
      chain.reorg(1 + random.below(5))
      n = chain.submissions
      more(6)
      await waitFor(() => a.index.nextSeq === n && a.index.progress?.block === chain.height, {
        timeoutMs: 30_000,
        what: 'the other branch'
      })
    }
  }
  chain.intercept = undefined
  await waitFor(() => a.index.progress?.block === chain.height && a.index.nextSeq === n, { what: 'the head' })
  const b = await sync(chain.url, { startBlock: o.startBlock })
  await waitFor(() => b.index.progress?.block === chain.height, { what: 'a fresh index' })
  t.same(await dump(a.kv), await dump(b.kv), `${n} submissions: the index of a fresh node`)
  t.equal(toHex(a.index.root), toHex(chain.root(n - 1)))
  t.ok(
    Object.values(did).every(count => count > 0),
    `what the chain did: ${JSON.stringify(did)}`
  )
  t.ok(a.follower.state.reorgs > 0, `${a.follower.state.reorgs} reorganisations`)
  await Promise.all([a.stop(), b.stop()])
}

t.test(
  'from block 0, a chain that fails, lags, limits, forks and lies a little costs time only',
  { timeout: 120_000 },
  t => chaos(t, { startBlock: 0 })
)
t.test('the same from a start block', { timeout: 120_000 }, t => chaos(t, { startBlock: 400 }))

t.test('thousands of submissions at once are read in pages of a bounded size', { timeout: 120_000 }, async t => {
  const chain = await startFlowChain()
  t.teardown(() => chain.close())
  chain.mine(2_000)
  const a = await sync(chain.url)
  await waitFor(() => a.index.progress?.block === chain.height, { what: 'the empty blocks' })
  // By now pages are as long as they get, and all of these blocks are in the next one.
  const pages: number[] = []
  chain.intercept = (method, params) => {
    if (method !== 'eth_getLogs') return undefined
    const logs = chain.answer(method, params) as unknown[]
    pages.push(logs.length)
    return logs
  }
  for (let i = 0; i < 60; i++) chain.submit(Array.from({ length: 100 }, (_, j) => submission(i * 100 + j)))
  await waitFor(() => a.index.nextSeq === 6_000, { timeoutMs: 60_000, what: 'all of them' })
  t.equal(toHex(a.index.root), toHex(chain.root(5_999)))
  t.ok(pages[0]! > 600, `the first page would have had ${pages[0]}`)
  const taken = pages.slice(pages.findIndex(n => n <= 600))
  t.ok(taken.length >= 10 && taken.every(n => n <= 600), `then: ${taken}`)
  t.equal(a.follower.state.trouble, undefined)
  // A block is the least that can be asked for: one with more comes whole.
  chain.submit(Array.from({ length: 1_500 }, (_, j) => submission(6_000 + j)))
  await waitFor(() => a.index.nextSeq === 7_500, { timeoutMs: 60_000, what: 'a block with more' })
  await a.stop()
})

t.test('the key-value node asks in smaller pages where an RPC limits blocks or results', async t => {
  const chain = await startFlowChain()
  const tags = encodeStreamTags([new Uint8Array(32)])
  for (let i = 0; i < 120; i++) chain.submit([{ ...submission(i), tags }])
  chain.intercept = (method, params) => {
    if (method !== 'eth_getLogs') return undefined
    const { fromBlock, toBlock } = params[0] as { fromBlock: string; toBlock: string }
    const span = Number(toBlock) - Number(fromBlock) + 1
    if (span > 64) throw new RpcError(-32602, 'block range is too large')
    if (span > 9) throw new RpcError(-32005, 'query returned more than 10000 results')
    return undefined
  }
  const kv = followedChain(new ChainClient(chain.url), FLOW_ADDRESS, systemClock)
  const events = await kv.submissions(0, chain.height)
  t.same(
    events.map(e => e.event.seq),
    Array.from({ length: 120 }, (_, i) => i)
  )
  t.same(events[7]!.event.submission.tags, tags)
  t.equal(await kv.count(), 120)
  chain.intercept = () => {
    throw new RpcError(-32005, 'too many requests')
  }
  await t.rejects(kv.submissions(0, 3), { code: 'ERR_REJECTED' }, 'one block that is refused is an error')
  kv.close()
  await chain.close()
})
