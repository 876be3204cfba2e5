/**
 * Proves the built miner on a real chain and a real node: files are stored and paid for, `zg-store mine` seals what the node holds, has an
 * answer accepted within minutes of its start, answers a task once even over a restart, makes rotten copies again, and the reward is
 * withdrawn; beside a sharded node it answers with the segments of that share; what was paid out never exceeds what was paid in. `zg-store quote` says beforehand what the contract then charges.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { NEW_SUBMISSION_TOPIC } from '../../lib/codec/storage/mine.ts'
import { contractAddresses } from '../../lib/contracts/addresses.ts'
import { wrongAnswers } from '../harness/mining.ts'
import {
  type JsonRecord,
  parseRecords,
  type RunningTool,
  runTool,
  sandbox,
  startTool,
  waitFor
} from '../harness/tools.ts'

const AT = contractAddresses(31337)
const box = sandbox('store-mine')
await runTool('zg-chain', ['init', '--dir', box.path('chain'), '--quiet'], { env: box.env })
const chain = await startTool(
  'zg-chain',
  ['node', '--dev', '--dir', box.path('chain'), '--rpc-port', '0', '--block-time', '150ms'],
  { env: box.env }
)
const node = await startTool(
  'zg-store',
  ['node', '--dir', box.path('node'), '--rpc-port', '0', '--rpc-url', chain.url],
  { env: box.env }
)
let miner: RunningTool | undefined
t.teardown(async () => {
  for (const tool of [miner, node, chain]) await tool?.stop().catch(() => {})
  box.remove()
})

const env = { ...box.env, ZG_STORE_NODES: node.url, ETH_RPC_URL: chain.url }
const zg = (...args: string[]) => runTool('zg-store', args, { env })
const rpc = new RpcClient(chain.url, { what: 'chain' })
const balance = async (address: string): Promise<bigint> =>
  BigInt(await rpc.call<string>('eth_getBalance', [address, 'latest']))
const startMiner = () =>
  startTool(
    'zg-store',
    [
      'mine',
      '--node',
      node.url,
      '--account',
      '4',
      '--cpu-limit',
      '60',
      '--dir',
      box.path('miner'),
      '--cache-max',
      '64MiB',
      '--json'
    ],
    { env }
  )
const answers = (tool: RunningTool): JsonRecord[] => tool.records().filter(r => r.type === 'mine_answer')
let fees = 0n

t.test('a quote is what the contract charges', async t => {
  // Two files: one of whole segments and an odd end, one small; together more than a pricing chunk of 1 MiB.
  for (const [name, size] of [
    ['a', 1_400_000],
    ['b', 5_000]
  ] as const) {
    const path = box.path(name)
    writeFileSync(path, Buffer.alloc(size, name))
    const [quoted] = parseRecords((await zg('quote', path, '--json')).stdout)
    t.equal(quoted!.size, size)
    const [bySize] = parseRecords((await zg('quote', String(size), '--json')).stdout)
    t.equal(bySize!.fee_neuron, quoted!.fee_neuron, 'a size costs what a file of it costs')
    const put = await zg('put', path, '--json', '--expected-replica', '1')
    t.equal(put.code, 0, put.stderr)
    const [stored] = parseRecords(put.stdout).filter(r => r.type === 'file')
    t.equal(stored!.fee_neuron, quoted!.fee_neuron)
    fees += BigInt(String(stored!.fee_neuron))
  }
  const [gib] = parseRecords((await zg('quote', '1GiB', '--json')).stdout)
  t.equal(gib!.sectors, 2 ** 22)
  t.equal(gib!.fee_neuron, gib!.price_gib_neuron)
  t.match((await zg('quote', '1GiB')).stdout, /^0\.128906249998696448 0G for 1.0 GiB: /)
  t.equal(await balance(AT.reward), fees, 'all of it is in the reward pool')
  t.equal((await zg('quote', 'nosuchfile')).code, 66)
})

t.test('a miner has an answer accepted and is paid', { timeout: 250_000 }, async t => {
  miner = await startMiner()
  t.match(miner.ready, { service: 'miner', node: node.url })
  const started = performance.now()
  await waitFor(() => answers(miner!).some(r => r.accepted === true && r.reward_neuron !== '0'), {
    timeoutMs: 200_000,
    what: 'a paid answer'
  })
  t.comment(`accepted and paid ${Math.round((performance.now() - started) / 1000)} s after the start`)
  const first = answers(miner).find(r => r.accepted === true)!
  t.ok(Number(first.tried) > 0)
  t.ok(Number(first.gas_used) < 3_000_000)
  const receipt = await rpc.call<{ status: string; to: string }>('eth_getTransactionReceipt', [first.txHash])
  t.match(receipt, { status: '0x1', to: AT.mine.toLowerCase() })
  t.not(first.position, 0, 'the seal of sector 0 is never answered')

  // Copies survive a restart; one whose bytes rotted is made again.
  await miner.stop()
  const dir = box.path('miner', String(miner.ready.minerId).slice(2))
  const copies = readdirSync(dir)
  t.ok(copies.length >= 6, `${copies.length} sealed copies`)
  const rotten = box.path('miner', String(miner.ready.minerId).slice(2), copies[1]!)
  const bytes = readFileSync(rotten)
  const good = Buffer.from(bytes)
  bytes[5000] = bytes[5000]! ^ 1
  writeFileSync(rotten, bytes)
  const id = miner.ready.minerId
  miner = await startMiner()
  t.equal(miner.ready.minerId, id, 'the id is kept')
  await waitFor(() => readdirSync(dir).includes(copies[1]!) && readFileSync(rotten).equals(good), {
    timeoutMs: 60_000,
    what: 'a copy made again'
  })
  await waitFor(() => answers(miner!).some(r => r.accepted === true), {
    timeoutMs: 100_000,
    what: 'an answer after the restart'
  })
  await miner.stop()

  // Each epoch of the log has one answer of ours: a task is answered once.
  const logs = await rpc.call<{ topics: string[] }[]>('eth_getLogs', [
    { address: AT.mine, topics: [NEW_SUBMISSION_TOPIC], fromBlock: '0x0', toBlock: 'latest' }
  ])
  t.ok(logs.length >= 2)
  t.equal(new Set(logs.map(l => l.topics[1])).size, logs.length, 'one answer an epoch')
})

t.test('rewards are withdrawn and covered by the fees', async t => {
  const [due] = parseRecords((await zg('mine', 'rewards', '4', '--json')).stdout)
  const amount = BigInt(String(due!.due_neuron))
  t.ok(amount > 0n && amount <= fees, `${amount} of ${fees}`)
  const before = await balance(String(due!.address))
  // Somebody else sends it, so that the payee's balance shows nothing but the payment.
  const sent = await zg('mine', 'withdraw', '4', '--account', '5', '--json')
  t.equal(sent.code, 0, sent.stderr)
  t.equal(parseRecords(sent.stdout)[0]!.amount_neuron, String(amount))
  t.equal((await balance(String(due!.address))) - before, amount)
  t.equal(await balance(AT.reward), fees - amount)
  t.equal((await zg('mine', 'withdraw', '4', '--account', '5')).code, 1, 'nothing is left')
})

t.test('a miner at a sharded node answers with its share', { timeout: 250_000 }, async t => {
  const at = ['--rpc-port', '0', '--rpc-url', chain.url]
  const shards = await Promise.all(
    ['0/2', '1/2'].map(shard =>
      startTool('zg-store', ['node', '--dir', box.path(`shard${shard[0]}`), '--shard', shard, ...at], { env: box.env })
    )
  )
  t.teardown(() => Promise.all(shards.map(s => s.stop())))
  const path = box.path('c')
  writeFileSync(path, Buffer.alloc(9 * 262_144, 'c'))
  const put = await runTool('zg-store', ['put', path, '--json', '--expected-replica', '1'], {
    env: { ...env, ZG_STORE_NODES: shards.map(s => s.url).join(',') }
  })
  t.equal(put.code, 0, put.stderr)
  const options = ['--account', '6', '--cpu-limit', '60', '--cache-max', '64MiB', '--json', '--dir', box.path('miner2')]
  const mining = await startTool('zg-store', ['mine', '--node', shards[1]!.url, ...options], { env })
  t.teardown(() => mining.stop())
  await waitFor(() => answers(mining).some(r => r.accepted === true), {
    timeoutMs: 200_000,
    what: 'an answer of the shard'
  })
  const answer = answers(mining).find(r => r.accepted === true)!
  t.equal(Math.floor(Number(answer.position) / 1024) % 2, 1, 'from a segment of the share')
  t.same(wrongAnswers(answers(mining)), [], 'none was wrong')
})

t.test('a miner refuses what does not fit together', async t => {
  const other = await zg('mine', '--node', 'http://127.0.0.1:1', '--account', '4', '--dir', box.path('other'))
  t.equal(other.code, 69)
  const bad = await zg('mine', '--cpu-limit', '0')
  t.equal(bad.code, 64)
})
