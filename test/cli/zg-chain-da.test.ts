/**
 * Proves that a running node executes the DASigners precompile wherever it executes: calls at new and old blocks, estimates, access lists,
 * transactions; that its state is part of the chain's (snapshots, failed transactions, kill -9); and that a chain without 0G's
 * contracts has none. The built launcher as a child process.
 */
import { writeFileSync } from 'node:fs'
import { Interface, type InterfaceAbi, type Result } from 'ethers'
import t from 'tap'
import { formatGenesis, GENESIS_DEFAULTS } from '../../cmd/zg-chain/core/genesis.ts'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { fromHex, type Hex, toQuantity } from '../../lib/base/hex.ts'
import { contractAddresses } from '../../lib/contracts/addresses.ts'
import { DA_SIGNERS_ABI } from '../../lib/contracts/da-signers-abi.ts'
import { dAEntranceAbi, dARegistryAbi } from '../../lib/contracts/generated/abi.ts'
import { buildAlloc } from '../../lib/contracts/genesis.ts'
import * as bls from '../../lib/crypto/bn254.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { devSigners } from '../../lib/crypto/dev-signers.ts'
import { runTool, sandbox, startTool, waitFor } from '../harness/tools.ts'

t.setTimeout(300_000)
const box = sandbox('chain-da')
t.teardown(() => box.remove())

const CHAIN_ID = 31337
const AT = contractAddresses(CHAIN_ID)
/** Short, so that epochs can be mined through. */
const EPOCH_BLOCKS = 60
const signersAbi = new Interface(DA_SIGNERS_ABI)
const registryAbi = new Interface(dARegistryAbi as unknown as InterfaceAbi)
const entranceAbi = new Interface(dAEntranceAbi as unknown as InterfaceAbi)

interface Receipt {
  status: Hex
  gasUsed: Hex
  blockNumber: Hex
  logs: { address: Hex; topics: Hex[]; data: Hex }[]
}

interface Transaction {
  from: string
  to: string
  data: string
  gas?: string
}

/** The node over JSON-RPC. */
function clientOf(url: string) {
  const rpc = new RpcClient(url)
  const read = async (name: string, args: unknown[] = [], block = 'latest'): Promise<Result> => {
    const data = signersAbi.encodeFunctionData(name, args)
    const answer = await rpc.call<Hex>('eth_call', [{ to: AT.daSigners, data }, block])
    return signersAbi.decodeFunctionResult(name, answer)
  }
  const send = async (tx: Transaction): Promise<Receipt> => {
    const hash = await rpc.call<Hex>('eth_sendTransaction', [tx])
    let receipt: Receipt | null = null
    const there = async (): Promise<boolean> => {
      receipt = await rpc.call<Receipt | null>('eth_getTransactionReceipt', [hash])
      return receipt !== null
    }
    await waitFor(there, { what: `the receipt of ${hash}` })
    return receipt!
  }
  /** Root of all that the precompile keeps. */
  const storage = async (): Promise<string> =>
    (await rpc.call<{ storageHash: string }>('eth_getProof', [AT.daSigners, [], 'latest'])).storageHash
  return { rpc, read, send, storage }
}

/** A development account with a key of its own, and the transactions by which it becomes a signer. */
function newcomer(i: number) {
  const { address, privateKey } = DEV_ACCOUNTS[i]!
  const secretKey = bls.secretKeyFrom(fromHex(privateKey))
  const point = (p: bls.G1) => [p.x, p.y]
  const g2 = bls.publicKeyG2(secretKey)
  const detail = [address, '127.0.0.1:1', point(bls.publicKeyG1(secretKey)), [[...g2.x], [...g2.y]]]
  const sign = (digest: Uint8Array) => point(bls.signBls(secretKey, digest))
  const by = (name: string, args: unknown[]): Transaction => ({
    from: address,
    to: AT.daRegistry,
    data: registryAbi.encodeFunctionData(name, args)
  })
  return {
    address,
    enrol: by('registerSigner', [detail, sign(bls.registrationDigest(fromHex(address), BigInt(CHAIN_ID)))]),
    enter: (epoch: bigint) =>
      by('registerNextEpoch', [sign(bls.epochDigest(fromHex(address), epoch, BigInt(CHAIN_ID)))])
  }
}

/** A network's genesis with the devnet's signers and short epochs. */
async function networkGenesis(): Promise<string> {
  const timestamp = Math.floor(Date.now() / 1000)
  const signers = devSigners().map(s => ({ ...s, address: fromHex(s.address), votes: 768n }))
  const alloc = await buildAlloc({
    chainId: CHAIN_ID,
    timestamp,
    kind: 'network',
    accounts: DEV_ACCOUNTS.map(a => fromHex(a.address)),
    daSigners: signers,
    daEpochBlocks: BigInt(EPOCH_BLOCKS)
  })
  return formatGenesis({ ...GENESIS_DEFAULTS, chainId: CHAIN_ID, timestamp, alloc })
}

const POST: Transaction = {
  from: DEV_ACCOUNTS[0]!.address,
  to: AT.daEntrance,
  data: entranceAbi.encodeFunctionData('submitOriginalData', [[new Uint8Array(32).fill(1)]])
}

t.test('the precompile runs in calls, estimates and transactions; its state is the chain’s', async t => {
  writeFileSync(box.path('genesis.json'), await networkGenesis())
  const init = ['init', '--dir', box.path('net'), '--genesis', box.path('genesis.json')]
  t.equal((await runTool('zg-chain', init, { env: box.env })).code, 0)
  const args = ['node', '--dev', '--dir', box.path('net'), '--rpc-port', '0', '--block-time', 'on-demand']
  let running = await startTool('zg-chain', args, { env: box.env })
  let { rpc, read, send, storage } = clientOf(running.url)
  t.equal(await rpc.call('eth_getCode', [AT.daSigners, 'latest']), '0x01')
  t.same([...(await read('params'))[0]].map(Number), [30, 102_400, 10, EPOCH_BLOCKS, 3072])
  const quorum: string[] = [...(await read('getQuorum', [1n, 0n], 'earliest'))[0]]
  t.same(new Set(quorum), new Set(devSigners().map(s => s.address)))

  const one = newcomer(1)
  const estimate = await rpc.call<Hex>('eth_estimateGas', [one.enrol])
  t.ok(Number(estimate) > 100_000 && Number(estimate) < 300_000, `registerSigner estimated at ${Number(estimate)}`)
  const enrolled = await send({ ...one.enrol, gas: estimate })
  t.equal(enrolled.status, '0x1', 'the estimate is enough')
  t.equal((await read('isSigner', [one.address]))[0], true)
  t.equal((await read('isSigner', [one.address], 'earliest'))[0], false, 'an old block has the old state')
  const logs = await rpc.call<Receipt['logs']>('eth_getLogs', [{ address: AT.daSigners, fromBlock: '0x0' }])
  t.same(
    logs.map(l => signersAbi.parseLog(l)!.name),
    ['NewSigner', 'SocketUpdated']
  )
  t.same(
    enrolled.logs.map(l => l.topics),
    logs.map(l => l.topics),
    'the receipt has them too'
  )

  const entering = await rpc.call<Hex>('eth_estimateGas', [one.enter(2n)])
  t.ok(Number(entering) > 100_000 && Number(entering) < 300_000, `registerNextEpoch estimated at ${Number(entering)}`)
  const listed = await rpc.call<{ error?: string; gasUsed: Hex }>('eth_createAccessList', [one.enter(2n)])
  t.equal(listed.error, undefined)
  t.equal((await send({ ...one.enter(2n), gas: entering })).status, '0x1')
  t.equal((await read('registeredEpoch', [one.address, 2n]))[0], true)

  // What fails.
  const before = await storage()
  const again = await send({ ...one.enter(2n), gas: '0x4c4b40' })
  t.equal(again.status, '0x0')
  t.same(again.logs, [])
  t.ok(Number(again.gasUsed) < 400_000, 'the registry gives the precompile no more than it needs')
  const why = await rpc.call('eth_call', [one.enter(2n), 'latest']).catch((err: Error) => err.message)
  t.match(why, /registerNextEpoch call failed: signer already registered for the epoch/)
  await t.rejects(rpc.call('eth_estimateGas', [one.enter(2n)]), /already registered/)
  t.equal(await storage(), before, 'a failed transaction leaves nothing')

  // Snapshots.
  const two = newcomer(2)
  const snapshot = await rpc.call<Hex>('evm_snapshot')
  t.equal((await send(two.enrol)).status, '0x1')
  t.equal((await send(two.enter(2n))).status, '0x1')
  const with2 = await storage()
  t.not(with2, before)
  t.equal(await rpc.call('evm_revert', [snapshot]), true)
  t.equal(await storage(), before)
  t.equal((await read('isSigner', [two.address]))[0], false)
  t.equal((await send(two.enrol)).status, '0x1', 'what was taken back can be done again')
  t.equal((await send(two.enter(2n))).status, '0x1')
  t.equal(await storage(), with2, 'with the same outcome')

  await running.kill9()
  running = await startTool('zg-chain', args, { env: box.env })
  ;({ rpc, read, send, storage } = clientOf(running.url))
  t.equal(await storage(), with2, 'kill -9 takes nothing')
  t.equal((await read('registeredEpoch', [two.address, 2n]))[0], true)
  t.equal((await read('isSigner', [one.address], 'earliest'))[0], false)

  // The change of epochs, by whoever calls DAEntrance next; one more has nobody.
  t.equal((await send(POST)).status, '0x1')
  const last = await rpc.call<Hex>('eth_blockNumber')
  await rpc.call('anvil_mine', [toQuantity(BigInt(EPOCH_BLOCKS))])
  t.equal((await read('epochNumber'))[0], 1n, 'nobody has called')
  const posted = await send(POST)
  t.equal(posted.status, '0x1')
  const upload = posted.logs.map(l => entranceAbi.parseLog(l)).find(l => l?.name === 'DataUpload')
  t.equal(upload?.args.epoch, 2n)
  t.equal((await read('epochNumber'))[0], 2n)
  const second: string[] = [...(await read('getQuorum', [2n, 0n]))[0]]
  t.same(new Set(second), new Set([one.address, two.address]))
  await t.rejects(read('getQuorum', [2n, 0n], last), /epoch has not begun/, 'not in the past')
  t.equal((await read('epochNumber', [], last))[0], 1n)

  await rpc.call('anvil_mine', [toQuantity(BigInt(EPOCH_BLOCKS))])
  const kept = await storage()
  const refused = await send({ ...POST, gas: '0x4c4b40' })
  t.equal(refused.status, '0x0', 'the epoch would begin without signers')
  t.equal(await storage(), kept, 'what the precompile did before its caller failed is undone')
  t.equal((await read('epochNumber'))[0], 2n)
  await t.rejects(rpc.call('eth_estimateGas', [POST]), /DAEntrance: No DA Signers/)
  t.same(await running.stop(), { code: 0, signal: null })
})

t.test("a chain without 0G's contracts has nothing at that address", async t => {
  const running = await startTool(
    'zg-chain',
    ['node', '--dev', '--in-memory', '--rpc-port', '0', '--block-time', 'on-demand'],
    { env: box.env }
  )
  const { rpc, send } = clientOf(running.url)
  t.equal(await rpc.call('eth_getCode', [AT.daSigners, 'latest']), '0x')
  const data = signersAbi.encodeFunctionData('epochNumber')
  t.equal(await rpc.call('eth_call', [{ to: AT.daSigners, data }, 'latest']), '0x')
  const sent = await send({ from: DEV_ACCOUNTS[0]!.address, to: AT.daSigners, data: '0x' })
  t.match(sent, { status: '0x1', gasUsed: '0x5208', logs: [] }, 'a transfer like any other')
  await running.stop()
})

t.test('a network that the node makes itself begins with the devnet signers, and epochs of 20 minutes', async t => {
  const args = ['node', '--dev', '--kind', 'network', '--in-memory', '--rpc-port', '0']
  const running = await startTool('zg-chain', args, { env: box.env })
  const { read } = clientOf(running.url)
  t.equal((await read('params'))[0].epochBlocks, 1200n)
  const quorum: string[] = [...(await read('getQuorum', [1n, 0n]))[0]]
  t.same(new Set(quorum), new Set(devSigners().map(s => s.address)))
  await running.stop()
})
