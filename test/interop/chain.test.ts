/**
 * Proves that the clients Ethereum developers hold work unmodified against `zg-chain node --dev`: ethers 6, viem and cast deploy,
 * call, send, read logs and receipts, subscribe and estimate gas. The node is the built tool as a child process.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import * as ethers from 'ethers'
import t from 'tap'
import * as viem from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { counterAbi } from '../../lib/contracts/generated/abi.ts'
import { CREATION_CODE } from '../../lib/contracts/generated/artifacts.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { endSoon, packageRoot, sandbox, startTool, waitFor } from '../harness/tools.ts'

const box = sandbox('interop-chain')
const node = await startTool('zg-chain', ['node', '--dev', '--rpc-port', '0', '--block-time', '200ms'], {
  env: box.env
})
const wsUrl = node.url.replace('http', 'ws')
t.teardown(async () => {
  await node.stop()
  box.remove()
  endSoon()
})

const chain = viem.defineChain({
  id: 31337,
  name: 'zg',
  nativeCurrency: { name: '0G', symbol: '0G', decimals: 18 },
  rpcUrls: { default: { http: [node.url], webSocket: [wsUrl] } },
  contracts: { multicall3: { address: '0xcA11bde05977b3631167028862bE2a173976CA11' } }
})

// ethers remembers answers for 250 ms, longer than blocks of 200 ms take to come: `cacheTimeout: -1` keeps it from using a nonce twice.
t.test('ethers: deploy, call, send, revert reasons, logs, receipts, subscriptions', async t => {
  const provider = new ethers.WebSocketProvider(wsUrl, undefined, { cacheTimeout: -1 })
  const wallet = new ethers.Wallet(DEV_ACCOUNTS[0]!.privateKey, provider)
  const heads: number[] = []
  await provider.on('block', n => heads.push(n))
  const factory = new ethers.ContractFactory(
    counterAbi as unknown as ethers.InterfaceAbi,
    CREATION_CODE.Counter,
    wallet
  )
  const counter = (await factory.deploy()) as ethers.Contract
  await counter.waitForDeployment()
  t.equal(
    await counter.getAddress(),
    ethers.getCreateAddress({ from: wallet.address, nonce: 0 }),
    'plain --dev starts account 0 at nonce 0'
  )
  const changes: bigint[] = []
  await counter.on('Changed', (_by: string, n: bigint) => changes.push(n))
  const estimate = await counter.getFunction('setNumber').estimateGas(41n)
  const tx = await counter.getFunction('setNumber').send(41n)
  const receipt = await tx.wait()
  t.ok(receipt!.gasUsed <= estimate, 'the estimate covers what was used')
  t.ok(estimate < receipt!.gasUsed * 2n, 'and is not wasteful')
  await (await counter.getFunction('increment').send()).wait()
  t.equal(await counter.getFunction('number').staticCall(), 42n)
  await waitFor(() => changes.length === 2, { what: 'two Changed events' })
  t.strictSame(changes, [41n, 42n])
  const past = await counter.queryFilter('Changed', 0, 'latest')
  t.equal(past.length, 2)
  t.equal((await provider.getTransactionReceipt(tx.hash))!.blockHash, receipt!.blockHash)
  const block = (await provider.getBlock(receipt!.blockNumber, true))!
  t.equal(block.prefetchedTransactions[0]!.hash, tx.hash)
  t.equal(await provider.getTransactionCount(wallet.address, 'pending'), 3)
  const fee = await provider.getFeeData()
  t.ok(fee.maxFeePerGas! > 0n && fee.gasPrice! > 0n)
  await waitFor(() => heads.length >= 3, { what: 'three new heads' })
  t.ok(
    heads.every((n, i) => i === 0 || n === heads[i - 1]! + 1),
    'heads come in order, none skipped'
  )
  await provider.destroy()
})

t.test('ethers: a plain transfer of each fee kind, and refusals in geth words', async t => {
  const provider = new ethers.JsonRpcProvider(node.url, undefined, { pollingInterval: 50, cacheTimeout: -1 })
  const wallet = new ethers.Wallet(DEV_ACCOUNTS[1]!.privateKey, provider)
  const to = ethers.Wallet.createRandom().address
  for (const type of [0, 1, 2]) {
    const receipt = await (await wallet.sendTransaction({ to, value: 5n, type })).wait()
    t.equal(receipt!.type, type)
    t.equal(receipt!.gasUsed, 21_000n)
  }
  t.equal(await provider.getBalance(to), 15n)
  await t.rejects(wallet.sendTransaction({ to, value: ethers.parseEther('1000000') }), { code: 'INSUFFICIENT_FUNDS' })
  await t.rejects(wallet.sendTransaction({ to, nonce: 0, gasLimit: 21_000 }), { code: 'NONCE_EXPIRED' })
  provider.destroy()
})

t.test('viem: read, write, multicall, watch, simulate, typed errors', async t => {
  const account = privateKeyToAccount(DEV_ACCOUNTS[2]!.privateKey)
  const publicClient = viem.createPublicClient({ chain, transport: viem.http(), pollingInterval: 50 })
  const wallet = viem.createWalletClient({ chain, transport: viem.http(), account })
  const hash = await wallet.deployContract({ abi: counterAbi, bytecode: CREATION_CODE.Counter as viem.Hex, args: [] })
  const { contractAddress } = await publicClient.waitForTransactionReceipt({ hash })
  const address = contractAddress!
  const seen: bigint[] = []
  const live = viem.createPublicClient({ chain, transport: viem.webSocket() })
  const unwatch = live.watchContractEvent({
    address,
    abi: counterAbi,
    eventName: 'Changed',
    onLogs: logs => seen.push(...logs.map(l => l.args.number!))
  })
  // The subscription is made in the background: an event before it stands would be missed, and a test that fails must not leave the socket.
  const socket = await live.transport.getRpcClient()
  t.teardown(() => socket.close())
  await waitFor(() => socket.subscriptions.size === 1, { what: 'the subscription' })
  const { request } = await publicClient.simulateContract({
    account,
    address,
    abi: counterAbi,
    functionName: 'setNumber',
    args: [7n]
  })
  await publicClient.waitForTransactionReceipt({ hash: await wallet.writeContract(request) })
  const results = await publicClient.multicall({
    contracts: [
      { address, abi: counterAbi, functionName: 'number' },
      { address, abi: counterAbi, functionName: 'number' }
    ]
  })
  t.strictSame(
    results.map(r => r.result),
    [7n, 7n],
    'multicall3 stands in genesis'
  )
  await waitFor(() => seen.length === 1, { what: 'the watched event' })
  t.equal(seen[0], 7n)
  unwatch()
  const logs = await publicClient.getContractEvents({ address, abi: counterAbi, eventName: 'Changed', fromBlock: 0n })
  t.equal(logs.length, 1)
  t.equal(await publicClient.getChainId(), 31337)
  const proof = await publicClient.getProof({ address: account.address, storageKeys: [] })
  t.equal(proof.balance, await publicClient.getBalance({ address: account.address }))
  const history = await publicClient.getFeeHistory({ blockCount: 4, rewardPercentiles: [10, 50] })
  t.equal(history.baseFeePerGas.length, history.gasUsedRatio.length + 1)
  await t.rejects(wallet.sendTransaction({ to: address, value: 1n }), /revert/i, 'the contract takes no plain value')
})

t.test('viem test client: snapshots, time, balances, impersonation', async t => {
  const client = viem
    .createTestClient({ chain, transport: viem.http(), mode: 'anvil' })
    .extend(viem.publicActions)
    .extend(viem.walletActions)
  const whale = '0x00000000000000000000000000000000000000AA'
  const id = await client.snapshot()
  await client.setBalance({ address: whale, value: viem.parseEther('5') })
  t.equal(await client.getBalance({ address: whale }), viem.parseEther('5'))
  await client.impersonateAccount({ address: whale })
  const hash = await client.sendTransaction({ account: whale, to: DEV_ACCOUNTS[3]!.address, value: 1n })
  await client.waitForTransactionReceipt({ hash })
  await client.stopImpersonatingAccount({ address: whale })
  const before = await client.getBlock()
  await client.increaseTime({ seconds: 3600 })
  await client.mine({ blocks: 1 })
  t.ok((await client.getBlock()).timestamp >= before.timestamp + 3600n)
  await client.revert({ id })
  t.equal(await client.getBalance({ address: whale }), 0n, 'the snapshot came back')
})

const cast = join(packageRoot, 'test', 'interop', 'node_modules', '.bin', 'cast')
const castPlace = existsSync(cast)
  ? cast
  : process.env
      .PATH!.split(':')
      .map(d => join(d, 'cast'))
      .find(p => existsSync(p))

t.test(
  'cast: chain id, send, call, receipt, logs, estimate',
  { skip: castPlace === undefined ? 'cast is not available for this platform' : false },
  async t => {
    const run = async (...args: string[]): Promise<string> => {
      const env = { PATH: process.env.PATH, HOME: box.dir, ETH_RPC_URL: node.url, NO_PROXY: '*' }
      return (await promisify(execFile)(castPlace!, args, { env, timeout: 30_000 })).stdout.trim()
    }
    const key = DEV_ACCOUNTS[4]!.privateKey
    t.equal(await run('chain-id'), '31337')
    const deployed = JSON.parse(await run('send', '--json', '--private-key', key, '--create', CREATION_CODE.Counter))
    const address = deployed.contractAddress as string
    t.equal(deployed.status, '0x1')
    const sent = JSON.parse(await run('send', '--json', '--private-key', key, address, 'setNumber(uint256)', '99'))
    t.equal(sent.logs.length, 1)
    t.equal(await run('call', address, 'number()(uint256)'), '99')
    t.ok(Number(await run('estimate', address, 'increment()')) > 21_000)
    t.match(await run('receipt', sent.transactionHash), /status\s+1/)
    t.match(
      await run('logs', '--address', address, '--from-block', '0', 'Changed(address,uint256)'),
      sent.transactionHash
    )
    t.ok(Number(await run('block-number')) > 0)
    t.equal(await run('balance', '0x00000000000000000000000000000000000000bb'), '0')
    t.ok(BigInt(await run('base-fee')) > 0n)
    t.match(await run('code', address), /^0x60/)
  }
)
