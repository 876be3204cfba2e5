/**
 * Proves what a node of zg-chain keeps in its directory and what its clients notice: stop, kill -9, the lock, another network, and new
 * heads that go on in order over a restart. The built launcher as a child process.
 */
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import t from 'tap'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { toHex } from '../../lib/base/hex.ts'
import { ChainClient, type RpcHeader } from '../../lib/clients/chain.ts'
import { freePort, runTool, sandbox, startTool, waitFor } from '../harness/tools.ts'

t.setTimeout(300_000)
const box = sandbox('chain-node')
t.teardown(() => box.remove())

t.test('a directory holds a chain over stop and kill -9, and one process', async t => {
  const dir = box.path('net')
  const hash = await runTool('zg-chain', ['init', '--dir', dir, '--kind', 'dev', '--chain-id', '4242'], {
    env: box.env
  })
  t.equal(hash.code, 0)
  t.ok(existsSync(`${dir}/genesis.json`))
  t.equal((await runTool('zg-chain', ['init', '--dir', dir], { env: box.env })).code, 73)
  const args = ['node', '--dir', dir, '--rpc-port', '0', '--block-time', '50ms']
  let running = await startTool('zg-chain', args, { env: box.env })
  t.match(running.ready, { type: 'ready', chainId: 4242, genesis: hash.stdout.trim(), data_dir: dir })
  const second = await runTool('zg-chain', args, { env: box.env })
  t.equal(second.code, 75)
  t.match(second.stderr, `pid ${running.pid}`)

  const there = { ...box.env, ETH_RPC_URL: running.url }
  const refused = await runTool('zg-chain', ['send', '1', '1'], { env: there })
  t.equal(refused.code, 64, 'no devnet here, so no default account')
  const known = await runTool('zg-chain', ['send', '1', '1', '--from', '0'], { env: there })
  t.equal(known.code, 78, 'and keys that everybody knows sign nothing')
  t.match(known.stderr, /devnet keys are refused on chain 4242/)
  t.match(await new RpcClient(running.url).call('eth_accounts'), [])
  await t.rejects(new RpcClient(running.url).call('evm_mine'), { code: -32601 })

  const client = new ChainClient(running.url)
  await waitFor(async () => (await client.blockNumber()) >= 3)
  const third = await client.call<RpcHeader>('eth_getHeaderByNumber', ['0x3'])
  // An unsigned legacy transaction: no chain id, zeros for a signature.
  const call = { from: toHex(new Uint8Array(20)), to: toHex(new Uint8Array(20)), gasPrice: '0x77359400', gas: '0x5208' }
  const stateOverrides = { [call.from]: { balance: '0xffffffffffffff' } }
  const simulated = { blockStateCalls: [{ stateOverrides, calls: [call] }], returnFullTransactions: true }
  const [block] = await client.call<{ transactions: object[] }[]>('eth_simulateV1', [simulated, 'latest'])
  t.match(block!.transactions[0], {
    type: '0x0',
    gasPrice: '0x77359400',
    v: '0x0',
    r: '0x0',
    s: '0x0',
    from: call.from
  })
  t.notOk('chainId' in block!.transactions[0]!)
  await running.kill9()
  running = await startTool('zg-chain', args, { env: box.env })
  t.same(await new ChainClient(running.url).call('eth_getHeaderByNumber', ['0x3']), third, 'what was final stays')
  t.same(await running.stop(), { code: 0, signal: null })
  const other = await runTool('zg-chain', [...args, '--chain-id', '5'], { env: box.env })
  t.equal(other.code, 78)
})

t.test('heads keep coming in order while the node goes away and comes back', async t => {
  const dir = box.path('restart')
  const port = await freePort()
  const args = ['node', '--dev', '--dir', dir, '--rpc-port', `${port}`, '--block-time', '50ms']
  let running = await startTool('zg-chain', args, { env: box.env })
  const seen: number[] = []
  const client = new ChainClient(running.url)
  const stop = client.subscribeHeads(header => void seen.push(Number(header.number)))
  await waitFor(() => seen.length >= 5, { what: 'five heads' })
  await running.kill9()
  running = await startTool('zg-chain', args, { env: box.env })
  const before = seen.at(-1)!
  await waitFor(() => seen.at(-1)! >= before + 10, { what: 'heads after the restart' })
  t.same(
    seen,
    seen.map((_, i) => seen[0]! + i),
    'none skipped, none twice'
  )
  stop()
  await running.stop()
})

t.test('a development node without a directory leaves nothing behind, and removes what a killed one left', async t => {
  const env = { ...box.env, TMPDIR: box.path('tmp') }
  mkdirSync(env.TMPDIR)
  const left = (): string[] => readdirSync(env.TMPDIR)
  const args = ['node', '--dev', '--rpc-port', '0']
  let running = await startTool('zg-chain', args, { env })
  const [first] = left()
  t.match(first, new RegExp(`^zg-chain-dev-${running.pid}-`))
  await running.kill9()
  t.same(left(), [first], 'kill -9 leaves it')
  running = await startTool('zg-chain', args, { env })
  t.notOk(left().includes(first!), 'the next one removes it')
  t.equal(left().length, 1)
  await running.stop()
  t.same(left(), [])
  running = await startTool('zg-chain', [...args, '--in-memory'], { env })
  t.same(left(), [], 'nothing on disk at all')
  await running.stop()
})
