/**
 * Proves that the settings of `zg-chain node` that say what is kept do so, as seen from outside: --prune and --archive (states of the past, and
 * what eth_capabilities says of them, over a restart), --cache (bounds and refusals), --state (a devnet's state in a file, there and back).
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { runTool, sandbox, startTool, waitFor } from '../harness/tools.ts'

t.setTimeout(240_000)
const box = sandbox('chain-settings')
t.teardown(() => box.remove())

const who = DEV_ACCOUNTS[3]!.address
const quantity = (n: number): string => `0x${n.toString(16)}`
const height = async (rpc: RpcClient): Promise<number> => Number(await rpc.call<string>('eth_blockNumber'))
const balanceAt = (rpc: RpcClient, n: number): Promise<string> => rpc.call('eth_getBalance', [who, quantity(n)])

interface Capabilities {
  head: { number: string }
  state: { disabled: boolean; oldestBlock: string; deleteStrategy?: { type: string; retentionBlocks: string } }
  blocks: { oldestBlock: string }
}

t.test('a pruned node knows its last states and says so, an archive all of them', async t => {
  const args = ['node', '--dev', '--dir', box.path('pruned'), '--rpc-port', '0', '--block-time', '20ms', '--prune', '8']
  let running = await startTool('zg-chain', args, { env: box.env })
  for (const life of ['first', 'second']) {
    const rpc = new RpcClient(running.url)
    const from = await height(rpc)
    await waitFor(async () => (await height(rpc)) >= from + 30, { what: 'thirty blocks' })
    const said = await rpc.call<Capabilities>('eth_capabilities')
    t.same(said.state.deleteStrategy, { type: 'window', retentionBlocks: '0x8' }, `${life} life`)
    t.equal(Number(said.state.oldestBlock), Number(said.head.number) - 8)
    t.equal(said.blocks.oldestBlock, '0x0', 'blocks are kept whatever becomes of states')
    // Blocks come meanwhile: what is behind the window stays there.
    for (const n of [0, 2, Number(said.head.number) - 9]) {
      await t.rejects(balanceAt(rpc, n), { code: 4444 }, `the state of block ${n} is refused under ${said.head.number}`)
      await t.rejects(rpc.call('eth_call', [{ to: who }, quantity(n)]), { code: 4444 }, 'and a call on it')
      await t.rejects(rpc.call('eth_getProof', [who, [], quantity(n)]), { code: 4444 }, 'and a proof of it')
    }
    t.ok(await rpc.call('eth_getBlockByNumber', ['0x2', false]))
    t.match(await balanceAt(rpc, (await height(rpc)) - 2), /^0x/)
    await running.kill9()
    running = await startTool('zg-chain', args, { env: box.env })
  }
  await running.stop()

  running = await startTool(
    'zg-chain',
    ['node', '--dev', '--dir', box.path('archive'), '--rpc-port', '0', '--block-time', '20ms', '--archive'],
    { env: box.env }
  )
  const rpc = new RpcClient(running.url)
  await waitFor(async () => (await height(rpc)) >= 30, { what: 'thirty blocks' })
  const said = await rpc.call<Capabilities>('eth_capabilities')
  t.same(said.state, { disabled: false, oldestBlock: '0x0' })
  t.equal(await balanceAt(rpc, 0), await balanceAt(rpc, 30))
  await running.stop()

  const both = await runTool('zg-chain', ['node', '--dev', '--archive', '--prune', '5'], { env: box.env })
  t.equal(both.code, 64)
  t.match(both.stderr, /--archive and --prune exclude each other/)
})

t.test('the caches take a size, and no nonsense', async t => {
  for (const size of ['16M', '1G']) {
    const running = await startTool('zg-chain', ['node', '--dev', '--rpc-port', '0', '--cache', size], { env: box.env })
    t.match(await balanceAt(new RpcClient(running.url), 0), /^0x/, size)
    await running.stop()
  }
  for (const size of ['none', '8M', '1B']) {
    const refused = await runTool('zg-chain', ['node', '--dev', '--rpc-port', '0', '--cache', size], { env: box.env })
    t.equal(refused.code, 64, size)
    t.match(refused.stderr, /--cache/)
  }
})

t.test('a devnet goes into a file and comes out of it', async t => {
  const file = box.path('state.json')
  const args = ['node', '--dev', '--rpc-port', '0', '--block-time', '20ms', '--state', file]
  const recipient = '0x00000000000000000000000000000000000abcde'
  const contract = '0x00000000000000000000000000000000000c0de0'
  let running = await startTool('zg-chain', args, { env: box.env })
  let rpc = new RpcClient(running.url)
  const sent = await runTool('zg-chain', ['send', recipient, '1.5', '--from', '3', '--rpc-url', running.url], {
    env: box.env
  })
  t.equal(sent.code, 0, sent.stderr)
  await rpc.call('anvil_setCode', [contract, '0x5f545f5260205ff3'])
  await rpc.call('anvil_setStorageAt', [contract, '0x0', `0x${'2a'.padStart(64, '0')}`])
  const before = [
    await rpc.call('eth_getBalance', [who, 'latest']),
    await rpc.call('eth_getTransactionCount', [who, 'latest'])
  ]
  t.notOk(existsSync(file), 'written at the end')
  await running.stop()
  t.ok(existsSync(file))
  const kept = readFileSync(file, 'utf8')

  running = await startTool('zg-chain', args, { env: box.env })
  rpc = new RpcClient(running.url)
  const after = [
    await rpc.call('eth_getBalance', [who, 'latest']),
    await rpc.call('eth_getTransactionCount', [who, 'latest'])
  ]
  t.same(after, before)
  t.equal(BigInt(await rpc.call<string>('eth_getBalance', [recipient, 'latest'])), 1_500_000_000_000_000_000n)
  t.equal(await rpc.call('eth_call', [{ to: contract }, 'latest']), `0x${'2a'.padStart(64, '0')}`)
  await running.kill9()
  t.equal(readFileSync(file, 'utf8'), kept, 'a crash leaves the old file')

  writeFileSync(file, kept.slice(0, kept.length / 2))
  const torn = await runTool('zg-chain', args, { env: box.env })
  t.equal(torn.code, 78, torn.stderr)
  t.match(torn.stderr, /state\.json/)
  t.equal(readFileSync(file, 'utf8'), kept.slice(0, kept.length / 2), 'and a file that is damaged is not written over')
})
