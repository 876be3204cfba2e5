/**
 * Proves the JSON-RPC method table of the chain on a real chain in memory: encodings, look-ups, execution errors, estimation, fees,
 * logs, filters, subscriptions, pool and development methods, and that no parameter, however odd, is an internal error.
 * Hashes and signatures are checked by ethers, which shares no code with the node.
 */
import * as ethers from 'ethers'
import fc from 'fast-check'
import t from 'tap'
import { GENESIS_DEFAULTS } from '../../cmd/zg-chain/core/genesis.ts'
import { openChain } from '../../cmd/zg-chain/open.ts'
import { chainMethods, type RpcOptions } from '../../cmd/zg-chain/rpc/methods.ts'
import { systemClock } from '../../lib/adapters/clock.ts'
import { serveRpc } from '../../lib/adapters/jsonrpc/server.ts'
import { JsonText, type RpcContext, RpcError } from '../../lib/adapters/jsonrpc/types.ts'
import { systemRandom } from '../../lib/adapters/random.ts'
import { fromHex, type Hex, toHex, toQuantity } from '../../lib/base/hex.ts'
import { ChainClient } from '../../lib/clients/chain.ts'
import { signTransaction } from '../../lib/clients/sign.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { SEED } from '../harness/seed.ts'

/** Answers come in every shape, and each test knows its own. */
type Json = any

const [alice, bob, carol] = DEV_ACCOUNTS as [
  (typeof DEV_ACCOUNTS)[0],
  (typeof DEV_ACCOUNTS)[0],
  (typeof DEV_ACCOUNTS)[0]
]
const GWEI = 1_000_000_000n
const NOBODY = '0x00000000000000000000000000000000deadbeef'
const UNKNOWN = `0x${'00'.repeat(28)}deadbeef`

/** A chain that makes a block as soon as there is a transaction, and its methods. */
async function open(opts: Partial<RpcOptions> & { onDemand?: boolean } = {}) {
  const alloc = DEV_ACCOUNTS.map(a => ({
    address: fromHex(a.address),
    balance: 10_000n * 10n ** 18n,
    nonce: 0n,
    code: new Uint8Array(0),
    storage: []
  }))
  const chain = await openChain({
    genesis: {
      ...GENESIS_DEFAULTS,
      chainId: 31337,
      timestamp: 1_700_000_000,
      gasLimit: 30_000_000n,
      baseFeePerGas: GWEI,
      extraData: new Uint8Array(0),
      prevRandao: new Uint8Array(32),
      beneficiary: new Uint8Array(20),
      alloc
    },
    clock: systemClock,
    random: systemRandom,
    blockTimeMs: 0,
    onDemand: opts.onDemand ?? true,
    dev: { accounts: DEV_ACCOUNTS.map(a => ({ address: fromHex(a.address), privateKey: fromHex(a.privateKey) })) }
  })
  chain.start()
  const methods = chainMethods(chain, { dev: true, clientVersion: 'zg-chain/test', ...opts })
  const connection = new Connection()
  const rpc = (name: string, ...params: unknown[]): Promise<Json> => {
    const method = methods[name]
    if (method === undefined) throw new Error(`no method ${name}`)
    // As a client reads it.
    const plain = (answer: unknown): Json => (answer instanceof JsonText ? JSON.parse(answer.text) : answer)
    return Promise.resolve(method(params, connection.ctx)).then(plain)
  }
  const text = async (name: string, ...params: unknown[]) => await rpc(name, ...params)
  const refused = async (name: string, ...params: unknown[]): Promise<RpcError> => {
    try {
      await rpc(name, ...params)
    } catch (err) {
      if (err instanceof RpcError) return err
      throw err
    }
    throw new Error(`${name} was not refused`)
  }
  /** Sends as an account and waits for the receipt. */
  const send = async (from: Hex, fields: Record<string, unknown>): Promise<Json> => {
    const hash = await text('eth_sendTransaction', { from, ...fields })
    return until(async () => (await rpc('eth_getTransactionReceipt', hash)) ?? undefined)
  }
  return { chain, methods, rpc, text, refused, send, connection }
}

/** A WebSocket connection as the methods see it. */
class Connection {
  readonly pushed: { subscription: string; result: Json }[] = []
  readonly #closers: (() => void)[] = []
  readonly ctx: RpcContext = {
    transport: 'ws',
    signal: new AbortController().signal,
    session: new Map(),
    onClose: fn => this.#closers.push(fn),
    notify: (_method, params) => {
      this.pushed.push(params as { subscription: string; result: Json })
      return true
    }
  }
  close(): void {
    for (const fn of this.#closers) fn()
  }
}

async function until<T>(look: () => T | undefined | Promise<T | undefined>, ms = 10_000): Promise<T> {
  const deadline = performance.now() + ms
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > deadline) throw new Error('condition not met in time')
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

/** Runtime code that reverts (or returns) with these bytes. */
function answers(data: string, opcode: 'revert' | 'return' = 'revert'): string {
  const size = (data.length - 2) / 2
  const word = size.toString(16).padStart(4, '0')
  return `0x61${word}600e60003961${word}6000${opcode === 'revert' ? 'fd' : 'f3'}${data.slice(2)}`
}

/** Creation code of a runtime code. */
function creates(runtime: string): string {
  const size = ((runtime.length - 2) / 2).toString(16).padStart(4, '0')
  return `0x61${size}600e60003961${size}6000f3${runtime.slice(2)}`
}

/** Emits a log with topic 7 and the caller as second topic, data 32 bytes of zero. */
const LOGGER = '0x33600760206000a2'
const abi = ethers.AbiCoder.defaultAbiCoder()

t.test('nothing is missing that clients call, and nothing is there that must not be', async t => {
  const { methods, chain } = await open()
  const wanted = `web3_clientVersion web3_sha3 net_version net_listening net_peerCount eth_chainId eth_syncing eth_accounts
    eth_mining eth_hashrate eth_coinbase rpc_modules eth_blockNumber eth_getBlockByNumber eth_getBlockByHash
    eth_getBlockTransactionCountByNumber eth_getBlockTransactionCountByHash eth_getUncleCountByBlockNumber
    eth_getUncleCountByBlockHash eth_getUncleByBlockNumberAndIndex eth_getUncleByBlockHashAndIndex eth_getBlockReceipts
    eth_getHeaderByNumber eth_getHeaderByHash debug_getRawHeader debug_getRawBlock debug_getRawReceipts
    debug_getRawTransaction debug_getBadBlocks debug_traceTransaction debug_traceCall debug_traceBlock
    debug_traceBlockByNumber debug_traceBlockByHash debug_accountRange debug_storageRangeAt eth_simulateV1 eth_getBalance eth_getCode eth_getStorageAt eth_getStorageValues
    eth_getTransactionCount eth_getProof eth_sendRawTransaction eth_sendRawTransactionSync eth_getTransactionByHash
    eth_getTransactionByBlockHashAndIndex eth_getTransactionByBlockNumberAndIndex eth_getRawTransactionByHash
    eth_getRawTransactionByBlockHashAndIndex eth_getRawTransactionByBlockNumberAndIndex eth_getTransactionReceipt
    eth_call eth_estimateGas eth_createAccessList eth_gasPrice eth_maxPriorityFeePerGas eth_feeHistory eth_blobBaseFee
    eth_baseFee eth_getLogs eth_newFilter eth_newBlockFilter eth_newPendingTransactionFilter eth_getFilterChanges
    eth_getFilterLogs eth_uninstallFilter eth_subscribe eth_unsubscribe txpool_status txpool_content
    txpool_contentFrom txpool_inspect eth_config eth_capabilities eth_fillTransaction
    eth_getTransactionBySenderAndNonce eth_sendTransaction eth_sign eth_signTypedData_v4 evm_mine evm_snapshot evm_revert
    evm_increaseTime evm_setNextBlockTimestamp evm_setAutomine evm_setIntervalMining anvil_nodeInfo hardhat_metadata
    ${['anvil', 'hardhat'].flatMap(p => ['setBalance', 'setCode', 'setStorageAt', 'setNonce', 'impersonateAccount', 'stopImpersonatingAccount', 'autoImpersonateAccount', 'reset', 'mine', 'setNextBlockBaseFeePerGas', 'setCoinbase', 'dropTransaction'].map(m => `${p}_${m}`)).join(' ')}`
  const missing = wanted.split(/\s+/).filter(name => methods[name] === undefined)
  t.same(missing, [])
  for (const name of ['personal_sign', 'constructor', '__proto__', 'toString']) {
    t.equal(methods[name], undefined, name)
  }
  const plain = chainMethods(chain, { dev: false })
  t.same(
    Object.keys(plain).filter(name => /^(evm|anvil|hardhat)_|sign|eth_sendTransaction/.test(name)),
    []
  )
  const outside = { ...new Connection().ctx, transport: 'http' as const }
  const inside = { ...new Connection().ctx, transport: 'unix' as const }
  await t.rejects(async () => plain.debug_getRawBlock!(['latest'], outside), { code: -32601 })
  t.match(await plain.debug_getRawBlock!(['latest'], inside), /^0xf9/)
  await chain.close()
})

t.test('blocks, transactions and receipts are written as clients check them', async t => {
  const { rpc, text, send, refused, chain } = await open()
  const mined = await send(alice.address, { to: bob.address, value: toQuantity(7n) })
  t.match(mined, {
    status: '0x1',
    type: '0x2',
    to: bob.address.toLowerCase(),
    contractAddress: null,
    gasUsed: '0x5208'
  })
  t.notOk('root' in mined)

  const block = await rpc('eth_getBlockByNumber', 'latest', true)
  t.equal(ethers.keccak256(await text('debug_getRawHeader', 'latest')), block.hash, 'hash is that of the header bytes')
  t.equal((await text('debug_getRawBlock', 'latest')).length / 2 - 1, Number(block.size))
  t.match(block, { uncles: [], withdrawals: [], difficulty: '0x0', number: '0x1', blobGasUsed: '0x0' })
  t.notOk('totalDifficulty' in block)
  for (const tag of ['safe', 'finalized', '0x1']) t.same(await rpc('eth_getBlockByNumber', tag, true), block, tag)
  t.same(await rpc('eth_getBlockByHash', block.hash, true), block)
  const { size, transactions, uncles, withdrawals, ...header } = block as Record<string, unknown>
  t.same(await rpc('eth_getHeaderByHash', block.hash), header)

  const tx = (transactions as Json[])[0]!
  t.equal(ethers.Transaction.from(await text('eth_getRawTransactionByHash', tx.hash)).hash, tx.hash)
  t.equal(ethers.Transaction.from(await text('debug_getRawTransaction', tx.hash)).from, alice.address)
  t.match(tx, { chainId: '0x7a69', accessList: [], yParity: tx.v, transactionIndex: '0x0', type: '0x2' })
  t.equal(BigInt(tx.gasPrice as string), BigInt(mined.effectiveGasPrice as string), 'mined: the price paid')
  t.same(await rpc('eth_getTransactionByBlockNumberAndIndex', '0x1', '0x0'), tx)
  t.same(await rpc('eth_getTransactionByBlockHashAndIndex', block.hash, '0x0'), tx)
  t.same(await rpc('eth_getTransactionByHash', tx.hash), tx)
  t.same(await rpc('eth_getBlockReceipts', block.hash), [mined])
  t.equal((await rpc('debug_getRawReceipts', '0x1')).length, 1)
  t.equal(await text('eth_getBlockTransactionCountByNumber', '0x1'), '0x1')

  t.same(
    await Promise.all([
      rpc('eth_getBlockByNumber', '0x2', false),
      rpc('eth_getBlockByHash', UNKNOWN, false),
      rpc('eth_getTransactionByHash', UNKNOWN),
      rpc('eth_getTransactionReceipt', UNKNOWN),
      rpc('eth_getBlockReceipts', '0x99'),
      rpc('eth_getUncleByBlockNumberAndIndex', '0x1', '0x0'),
      rpc('eth_getTransactionByBlockNumberAndIndex', '0x1', '0x5')
    ]),
    Array(7).fill(null),
    'look-ups of what is not there are null'
  )
  t.match(await rpc('eth_getBlockByNumber', 'pending', false), { number: '0x2', hash: null, parentHash: block.hash })

  t.equal(await text('eth_getBalance', NOBODY, 'latest'), '0x0')
  t.equal(await text('eth_getBalance', bob.address, { blockHash: block.parentHash }), toQuantity(10_000n * 10n ** 18n))
  t.equal(await text('eth_getBalance', bob.address, { blockNumber: '0x1' }), toQuantity(10_000n * 10n ** 18n + 7n))
  t.match(await refused('eth_getBalance', bob.address, '0x99'), { code: -32000, message: 'header not found' })
  t.match(await refused('eth_getBalance', bob.address, UNKNOWN), { code: -32000 })
  t.equal((await text('eth_getStorageAt', bob.address, '0x0', 'latest')).length, 66)
  const proof = await rpc('eth_getProof', alice.address, ['0x0', `0x${'00'.repeat(32)}`], 'latest')
  t.same(
    proof.storageProof.map((p: Json) => p.key),
    ['0x0', `0x${'00'.repeat(32)}`],
    'keys as given'
  )
  const root = ethers.keccak256(proof.accountProof[0]!)
  t.equal(root, block.stateRoot, 'the proof starts at the state root of the block')
  await chain.close()
})

t.test('a transaction is visible from the moment its hash is known', async t => {
  const { rpc, text, refused, chain } = await open({ onDemand: false })
  const wallet = new ethers.Wallet(alice.privateKey)
  const fields = { chainId: 31337, gasLimit: 21_000n, to: bob.address, value: 1n }
  const priced = { ...fields, maxFeePerGas: 5n * GWEI, maxPriorityFeePerGas: GWEI }
  const raw = await wallet.signTransaction({ ...priced, type: 2, nonce: 0 })
  const hash = await text('eth_sendRawTransaction', raw)
  t.equal(hash, ethers.Transaction.from(raw).hash)
  t.match(await rpc('eth_getTransactionByHash', hash), {
    blockHash: null,
    blockNumber: null,
    gasPrice: toQuantity(5n * GWEI)
  })
  t.equal(await rpc('eth_getTransactionReceipt', hash), null)
  t.equal(await text('eth_getTransactionCount', alice.address, 'latest'), '0x0')
  t.equal(await text('eth_getTransactionCount', alice.address, 'pending'), '0x1')
  t.same(await rpc('txpool_status'), { pending: '0x1', queued: '0x0' })
  const content = await rpc('txpool_content')
  t.equal(content.pending[alice.address]['0']!.hash, hash)

  t.match(await refused('eth_sendRawTransaction', raw), { code: -32000, message: /already known/ })
  const again = { ...priced, nonce: 0, type: 2 as const }
  t.match(await refused('eth_sendRawTransaction', await wallet.signTransaction({ ...again, value: 2n })), {
    message: /replacement transaction underpriced/
  })
  t.match(await refused('eth_sendRawTransaction', '0x1234'), { code: -32000 })
  const foreign = await wallet.signTransaction({ ...again, chainId: 1 })
  t.match(await refused('eth_sendRawTransaction', foreign), { message: /invalid chain id for signer/ })

  const late = await refused('eth_sendRawTransactionSync', await wallet.signTransaction({ ...again, nonce: 1 }), 30)
  t.equal(late.code, 4, 'EIP-7966: not in a block in time')
  t.equal(await rpc('eth_getTransactionByHash', late.data).then(x => x.nonce), '0x1')
  const third = rpc('eth_sendRawTransactionSync', await wallet.signTransaction({ ...again, nonce: 2 }))
  await until(async () => ((await rpc('txpool_status')).pending === '0x3' ? true : undefined))
  await rpc('evm_mine')
  t.match(await third, { status: '0x1', transactionIndex: '0x2', blockNumber: '0x1' })
  await chain.close()
})

t.test('every type of transaction that the node signs is one that ethers reads back', async t => {
  for (const type of [0, 1, 2] as const) {
    const fees = type === 2 ? { maxFeePerGas: 3n * GWEI, maxPriorityFeePerGas: GWEI } : { gasPrice: 3n * GWEI }
    const accessList =
      type === 0 ? {} : { accessList: [{ address: fromHex(bob.address), storageKeys: [new Uint8Array(32)] }] }
    const fields = {
      type,
      chainId: 31337n,
      nonce: 0x80n,
      gasLimit: 50_000n,
      to: null,
      value: 0n,
      data: fromHex('0x00')
    }
    const tx = ethers.Transaction.from(
      ethers.hexlify(signTransaction({ ...fields, ...fees, ...accessList }, fromHex(carol.privateKey)))
    )
    t.match(tx, { type, from: carol.address, nonce: 128, to: null, chainId: 31337n }, `type ${type}`)
  }
})

t.test('a transaction is filled in for others to sign, and found by its sender and nonce', async t => {
  const { rpc, text, chain } = await open()
  const filled = await rpc('eth_fillTransaction', { from: alice.address, to: bob.address, value: '0x5' })
  const unsigned = ethers.Transaction.from(filled.raw)
  t.match(unsigned, { to: bob.address, value: 5n, nonce: 0, gasLimit: 21_000n, chainId: 31337n, type: 2 })
  t.equal(filled.tx.gas, '0x5208')
  const wallet = new ethers.Wallet(alice.privateKey)
  const sent = []
  for (let nonce = 0; nonce < 5; nonce++) {
    const raw = await wallet.signTransaction({ ...unsigned.toJSON(), from: null, sig: null, hash: null, nonce })
    sent.push((await rpc('eth_sendRawTransactionSync', raw)).transactionHash)
  }
  for (const [nonce, hash] of sent.entries()) {
    t.equal((await rpc('eth_getTransactionBySenderAndNonce', alice.address, toQuantity(nonce))).hash, hash)
  }
  t.equal(await rpc('eth_getTransactionBySenderAndNonce', alice.address, '0x5'), null)
  t.equal(await rpc('eth_getTransactionBySenderAndNonce', NOBODY, '0x0'), null)
  t.equal((await text('eth_config').then(c => (c as Json).current)).chainId, '0x7a69')
  await chain.close()
})

t.test('execution errors carry what libraries look for', async t => {
  const { rpc, text, refused, send, chain } = await open()
  const at = (code: string) => ({ [NOBODY]: { code } })
  const failing = (data: string) => refused('eth_call', { to: NOBODY }, 'latest', at(answers(data)))
  const reason = `0x08c379a0${abi.encode(['string'], ['no luck']).slice(2)}`
  t.match(await failing(reason), { code: 3, message: 'execution reverted: no luck', data: reason })
  const panic = `0x4e487b71${abi.encode(['uint256'], [0x11]).slice(2)}`
  t.match(await failing(panic), {
    code: 3,
    message: 'execution reverted: arithmetic underflow or overflow',
    data: panic
  })
  t.match(await failing('0x12345678'), { code: 3, message: 'execution reverted', data: '0x12345678' })
  t.match(await failing('0x'), { code: 3, message: 'execution reverted', data: '0x' })
  t.match(await failing(`0x08c379a0${'ff'.repeat(64)}`), { code: 3, message: 'execution reverted' }, 'malformed reason')
  const looping = await refused('eth_call', { to: NOBODY, gas: '0x30000' }, 'latest', at('0x5b600056'))
  t.match(looping, { code: -32000, message: /out of gas/, data: undefined })
  t.match(await refused('eth_call', { to: NOBODY }, 'latest', at('0xfe')), { code: -32000, message: /invalid opcode/ })

  t.equal(await text('eth_call', { to: NOBODY }, 'latest', at(answers('0xabcd', 'return'))), '0xabcd')
  t.equal(await text('eth_call', { to: NOBODY, input: '0x01', data: '0x01' }), '0x', 'both names, same bytes')
  t.match(await refused('eth_call', { to: NOBODY, input: '0x01', data: '0x02' }), { code: -32602 })
  // CALLDATALOAD(0), NUMBER, BASEFEE, GASPRICE, TIMESTAMP: stored and returned.
  const probe = '0x6000356000524360205248604052 3a60605242608052 60a06000f3'.replaceAll(' ', '')
  const words = (out: string) => abi.decode(Array(5).fill('uint256'), out).map(Number)
  const seen = await text('eth_call', { to: NOBODY, data: `0x${'00'.repeat(31)}2a` }, 'latest', at(probe), {
    number: '0x64',
    time: '0x65'
  })
  t.same(words(seen), [42, 100, 0, 0, 101], 'block overrides; without a price base fee and gas price are 0')
  const paid = await text(
    'eth_call',
    { from: alice.address, to: NOBODY, gasPrice: toQuantity(9n * GWEI) },
    'latest',
    at(probe)
  )
  t.equal(words(paid)[3], 9e9)
  t.match(await refused('eth_call', { from: NOBODY, to: NOBODY, value: '0x1' }), {
    code: -32000,
    message: /insufficient funds/
  })
  t.match(await refused('eth_call', { from: NOBODY, to: NOBODY, gasPrice: toQuantity(9n * GWEI) }), {
    message: /^insufficient funds for gas \* price \+ value: address 0x/
  })
  t.match(await refused('eth_call', { from: alice.address, to: NOBODY, maxFeePerGas: '0x1' }), {
    message: /max fee per gas less than block base fee/
  })
  t.match(await refused('eth_call', { to: NOBODY, gasPrice: '0x1', maxFeePerGas: '0x1' }), { code: -32602 })

  t.equal(await text('eth_estimateGas', { from: alice.address, to: bob.address, value: '0x1' }), '0x5208')
  t.match(await refused('eth_estimateGas', { to: NOBODY }, 'latest', at(answers(reason))), { code: 3, data: reason })
  t.match(await refused('eth_estimateGas', { to: NOBODY, gas: '0x30000' }, 'latest', at('0x5b600056')), {
    code: -32000,
    message: 'gas required exceeds allowance (196608)'
  })
  // Writes slot 0 with the number of the block: 20,000 gas, and the estimate must suffice exactly where it says so.
  const writer = await send(alice.address, { data: creates('0x436000556000600055') })
  const estimate = await text('eth_estimateGas', { from: alice.address, to: writer.contractAddress })
  const wrote = await send(bob.address, { to: writer.contractAddress, gas: estimate })
  t.equal(wrote.status, '0x1', 'the estimate covers the refund that comes only afterwards')
  t.ok(Number(estimate) >= Number(wrote.gasUsed))
  const list = await rpc('eth_createAccessList', { from: alice.address, to: writer.contractAddress })
  t.same(list.accessList, [{ address: writer.contractAddress, storageKeys: [`0x${'00'.repeat(32)}`] }])
  t.same((await rpc('eth_createAccessList', { from: alice.address, to: bob.address })).accessList, [])
  await chain.close()
})

t.test('fees: history, and no suggestion below the next base fee', async t => {
  const { rpc, text, refused, send, chain } = await open()
  for (let i = 0; i < 3; i++) await send(alice.address, { to: bob.address, value: '0x1' })
  const head = await rpc('eth_getBlockByNumber', 'latest', false)
  const history = await rpc('eth_feeHistory', 2, 'latest', [0, 50, 100])
  t.equal(history.oldestBlock, toQuantity(Number(head.number) - 1))
  t.equal(history.baseFeePerGas!.length, 3)
  t.equal(history.baseFeePerGas[2], await text('eth_baseFee'), 'the last is the next block')
  t.same(history.reward, Array(2).fill(Array(3).fill(toQuantity(GWEI))))
  t.ok(history.gasUsedRatio.every((r: unknown) => typeof r === 'number' && r > 0 && r < 1))
  t.notOk('reward' in (await rpc('eth_feeHistory', '0x5', 'pending')))
  t.equal((await rpc('eth_feeHistory', '0x400', 'latest', [])).oldestBlock as string, '0x0', 'cut at block 0')
  t.match(await refused('eth_feeHistory', '0x1', 'latest', [50, 10]), { code: -32602 })
  t.match(await refused('eth_feeHistory', '0x1', 'latest', [101]), { code: -32602 })
  t.match(await refused('eth_feeHistory', '0x1', '0x99', []), { code: -32000, message: /beyond head block/ })
  t.ok(BigInt(await text('eth_gasPrice')) >= BigInt(await text('eth_baseFee')))
  t.equal(await text('eth_maxPriorityFeePerGas'), toQuantity(GWEI), 'what was paid lately')
  await chain.close()
})

t.test('a block of many transactions: hashes, places and numbers of logs agree in every view of it', async t => {
  const { rpc, text, send, chain } = await open()
  const emitter = (await send(alice.address, { data: creates(LOGGER) })).contractAddress as string
  await rpc('evm_setAutomine', false)
  // Every third has no log.
  const sent = await Promise.all(
    Array.from({ length: 300 }, (_, i) =>
      text('eth_sendTransaction', { from: alice.address, to: i % 3 === 0 ? bob.address : emitter, gas: '0x186a0' })
    )
  )
  await rpc('evm_mine')
  const block = await rpc('eth_getBlockByNumber', 'latest', false)
  t.equal(block.transactions.length, 300)
  t.same([...block.transactions].sort(), [...sent].sort())
  const whole = await rpc('eth_getBlockByHash', block.hash, true)
  t.same(
    whole.transactions.map((tx: Json) => tx.hash),
    block.transactions
  )
  const receipts: Json[] = await rpc('eth_getBlockReceipts', 'latest')
  const logs: Json[] = await rpc('eth_getLogs', { address: emitter, fromBlock: block.number, toBlock: block.number })
  t.same(
    logs.map(l => Number(l.logIndex)),
    Array.from({ length: 200 }, (_, i) => i)
  )
  t.same(
    receipts.flatMap(r => r.logs),
    logs
  )
  for (const i of [0, 1, 150, 298, 299])
    t.same(await rpc('eth_getTransactionReceipt', block.transactions[i]), receipts[i], `receipt ${i}`)
  await rpc('evm_mine')
  t.same((await rpc('eth_getBlockByNumber', 'latest', false)).transactions, [], 'an empty block')
  await chain.close()
})

t.test('logs by address, topic and block, and filters that end by themselves', async t => {
  let nowMs = 0
  const { rpc, text, refused, send, chain } = await open({ monotonic: () => nowMs, logsBlocks: 5, logsResults: 2 })
  const emitter = (await send(alice.address, { data: creates(LOGGER) })).contractAddress as string
  const filter = await text('eth_newFilter', { address: emitter })
  const blocks = await text('eth_newBlockFilter')
  const first = await send(alice.address, { to: emitter })
  const second = await send(bob.address, { to: emitter })
  const seven = abi.encode(['uint256'], [7])
  const byBob = abi.encode(['address'], [bob.address])
  const range = { fromBlock: 'earliest', toBlock: 'latest' }
  const logs = async (query: object) => await rpc('eth_getLogs', query)

  t.same(await logs(range), [...first.logs, ...second.logs])
  t.same(await logs({ ...range, topics: [seven, byBob] }), second.logs)
  t.same(await logs({ ...range, topics: [null, [byBob, seven]] }), second.logs, 'wildcard, then alternatives')
  t.same(await logs({ ...range, topics: [byBob] }), [])
  t.same(await logs({ ...range, address: [NOBODY, emitter], topics: [[], byBob] }), second.logs)
  t.same(await logs({ blockHash: first.blockHash }), first.logs)
  t.equal(first.logs[0]!.blockTimestamp, (await rpc('eth_getHeaderByHash', first.blockHash)).timestamp)
  t.same(await logs({ fromBlock: '0x50' }), [], 'beyond the head there is nothing yet')
  t.match(await refused('eth_getLogs', { fromBlock: '0x3', toBlock: '0x1' }), {
    code: -32602,
    message: 'invalid block range'
  })
  t.match(await refused('eth_getLogs', { blockHash: first.blockHash, fromBlock: '0x1' }), { code: -32602 })
  t.match(await refused('eth_getLogs', { blockHash: UNKNOWN }), { code: -32000, message: 'unknown block' })

  t.same(await rpc('eth_getFilterChanges', filter), [...first.logs, ...second.logs])
  t.same(await rpc('eth_getFilterChanges', filter), [])
  t.same(await rpc('eth_getFilterChanges', blocks), [first.blockHash, second.blockHash])
  const third = await send(carol.address, { to: emitter })
  t.same(await rpc('eth_getFilterChanges', filter), third.logs)
  t.match(await refused('eth_getLogs', range), {
    code: -32005,
    message: /more than 2 results: try fromBlock 0x0, toBlock 0x3/
  })
  await rpc('evm_mine')
  t.match(await refused('eth_getLogs', { ...range, address: NOBODY }), {
    code: -32005,
    message: /spans 6 blocks, at most 5: try fromBlock 0x0, toBlock 0x4/
  })
  const behind = await text('eth_newFilter', { address: emitter })
  const missed: Json[] = []
  for (let i = 0; i < 5; i++) missed.push(...(await send(carol.address, { to: emitter })).logs)
  const told: Json[] = []
  for (let polls = 0; told.length < 5 && polls < 10; polls++) {
    const page = await rpc('eth_getFilterChanges', behind)
    t.ok(page.length <= 2, 'a filter that fell behind catches up page by page')
    told.push(...page)
  }
  t.same(told, missed)
  const waiting = await text('eth_newPendingTransactionFilter')
  const fourth = await send(alice.address, { to: bob.address })
  t.same(await rpc('eth_getFilterChanges', waiting), [fourth.transactionHash])
  t.equal(await rpc('eth_uninstallFilter', waiting), true)
  t.equal(await rpc('eth_uninstallFilter', waiting), false)
  nowMs += 300_001
  t.match(await refused('eth_getFilterChanges', filter), { code: -32000, message: 'filter not found' })
  await chain.close()
})

t.test('subscribers hear of every block, in order, when it can be read already', async t => {
  const { rpc, text, send, refused, chain, methods, connection } = await open()
  const emitter = (await send(alice.address, { data: creates(LOGGER) })).contractAddress as string
  const heads = await text('eth_subscribe', 'newHeads')
  const logs = await text('eth_subscribe', 'logs', { address: emitter })
  const hashes = await text('eth_subscribe', 'newPendingTransactions')
  const whole = await text('eth_subscribe', 'newPendingTransactions', true)
  const of = (id: string) => connection.pushed.filter(p => p.subscription === id).map(p => p.result)
  const sent = [await send(alice.address, { to: emitter }), await send(bob.address, { to: emitter })]
  await rpc('evm_mine')
  await until(() => (of(heads).length >= 3 ? true : undefined))
  t.same(
    of(heads).map(h => h.number),
    ['0x2', '0x3', '0x4']
  )
  for (const head of of(heads)) t.same(await rpc('eth_getHeaderByHash', head.hash), head)
  t.same(
    of(logs),
    sent.flatMap(r => r.logs)
  )
  t.same(
    of(hashes),
    sent.map(r => r.transactionHash)
  )
  t.same(
    of(whole).map(x => [x.hash, x.blockHash]),
    sent.map(r => [r.transactionHash, null])
  )

  t.equal(await rpc('eth_unsubscribe', heads), true)
  t.match(await refused('eth_unsubscribe', heads), { code: -32000, message: 'subscription not found' })
  t.match(await refused('eth_subscribe', 'weather'), { code: -32602 })
  for (let i = 0; i < 29; i++) await rpc('eth_subscribe', 'newHeads')
  t.match(await refused('eth_subscribe', 'newHeads'), { code: -32005 }, '32 a connection')
  connection.close()
  const before = connection.pushed.length
  await rpc('evm_mine')
  t.equal(connection.pushed.length, before, 'a closed connection gets nothing')
  const { notify, ...http } = new Connection().ctx
  await t.rejects(async () => methods.eth_subscribe!(['newHeads'], http), { code: -32601 })
  await chain.close()
})

t.test('development methods change time, blocks and accounts', async t => {
  const { rpc, text, refused, send, chain } = await open()
  const snapshot = await text('evm_snapshot')
  await rpc('anvil_setBalance', NOBODY, '0xde0b6b3a7640000')
  await rpc('hardhat_setNonce', NOBODY, '0x5')
  await rpc('anvil_setCode', carol.address, '0x6001')
  await rpc('hardhat_setStorageAt', carol.address, '0x0', `0x${'00'.repeat(31)}09`)
  t.equal(await text('eth_getBalance', NOBODY), '0xde0b6b3a7640000')
  t.equal(await text('eth_getTransactionCount', NOBODY), '0x5')
  t.equal(await text('eth_getCode', carol.address), '0x6001')
  t.equal(Number(await text('eth_getStorageAt', carol.address, '0x0')), 9)

  t.match(await refused('eth_sendTransaction', { from: NOBODY, to: bob.address }), {
    code: -32000,
    message: /unknown account/
  })
  await rpc('anvil_impersonateAccount', NOBODY)
  t.match(await send(NOBODY, { to: bob.address, value: '0x1' }), { status: '0x1', from: NOBODY })
  await rpc('anvil_stopImpersonatingAccount', NOBODY)
  t.match(await refused('eth_sendTransaction', { from: NOBODY, to: bob.address }), { code: -32000 })

  const { timestamp } = await rpc('eth_getBlockByNumber', 'latest', false)
  await rpc('evm_setNextBlockTimestamp', Number(timestamp) + 1_000)
  await rpc('evm_mine')
  t.equal(Number((await rpc('eth_getBlockByNumber', 'latest', false)).timestamp), Number(timestamp) + 1_000)
  t.match(await refused('evm_setNextBlockTimestamp', 1), { code: -32602 })
  await rpc('evm_increaseTime', '0x15180')
  await rpc('hardhat_mine', '0x3', '0x3c')
  const [a, b] = [await rpc('eth_getBlockByNumber', '0x4', false), await rpc('eth_getBlockByNumber', '0x5', false)]
  t.equal(Number(b.timestamp) - Number(a.timestamp), 60)
  await rpc('hardhat_setNextBlockBaseFeePerGas', '0x64')
  await rpc('anvil_setCoinbase', NOBODY)
  await rpc('evm_mine')
  t.match(await rpc('eth_getBlockByNumber', 'latest', false), { baseFeePerGas: '0x64', miner: NOBODY })

  t.equal(await rpc('evm_revert', snapshot), true)
  t.equal(await text('eth_blockNumber'), '0x0')
  t.equal(await text('eth_getBalance', NOBODY), '0x0')
  t.equal(await rpc('evm_revert', snapshot), false, 'a snapshot serves once')
  await rpc('evm_setAutomine', false)
  const together = await Promise.all(
    Array.from({ length: 20 }, () => text('eth_sendTransaction', { from: carol.address, to: bob.address }))
  )
  t.equal(new Set(together).size, 20, 'transactions sent at once get a nonce each')
  t.match(await rpc('txpool_status'), { pending: '0x14' })
  await rpc('anvil_dropAllTransactions')
  t.match(await rpc('txpool_status'), { pending: '0x0', queued: '0x0' })
  const dropped = await text('eth_sendTransaction', { from: alice.address, to: bob.address })
  t.equal(await rpc('anvil_dropTransaction', dropped), true)
  t.equal(await rpc('eth_getTransactionByHash', dropped), null)
  t.match(await rpc('anvil_nodeInfo'), { environment: { chainId: 31337 } })

  const hello = ethers.hexlify(ethers.toUtf8Bytes('hello'))
  t.equal(ethers.verifyMessage('hello', await text('eth_sign', bob.address, hello)), bob.address)
  const types = {
    Person: [
      { name: 'name', type: 'string' },
      { name: 'wallets', type: 'address[]' }
    ],
    Mail: [
      { name: 'from', type: 'Person' },
      { name: 'amounts', type: 'int16[2]' },
      { name: 'tag', type: 'bytes4' },
      { name: 'blob', type: 'bytes' }
    ]
  }
  const domain = { name: 'Post', version: '1', chainId: 31337, verifyingContract: carol.address }
  const message = {
    from: { name: 'Ann', wallets: [alice.address, bob.address] },
    amounts: [-3, 4],
    tag: '0x01020304',
    blob: '0x00ff'
  }
  const signature = await text('eth_signTypedData_v4', alice.address, { domain, types, primaryType: 'Mail', message })
  t.equal(ethers.verifyTypedData(domain, types, message, signature), alice.address)
  await chain.close()
})

t.test(
  "the tools' own client pages through logs, waits for receipts and speaks of refusals in the family's words",
  async t => {
    const { chain, methods, send } = await open({ logsBlocks: 3, logsResults: 2 })
    const server = await serveRpc({ methods, port: 0, websocket: true })
    const client = new ChainClient(server.url!)
    const emitter = (await send(alice.address, { data: creates(LOGGER) })).contractAddress as string
    const wanted: string[] = []
    for (let i = 0; i < 7; i++) wanted.push((await send(bob.address, { to: emitter })).transactionHash)
    const found: string[] = []
    for await (const page of client.getLogs({ address: emitter, fromBlock: 0, toBlock: 8 })) {
      t.ok(page.length <= 2)
      found.push(...page.map(log => log.transactionHash))
    }
    t.same(found, wanted, 'every log once, in order, though the node allows three blocks and two logs at a time')

    const account = {
      address: fromHex(carol.address),
      name: '2',
      wellKnown: true,
      privateKey: async () => fromHex(carol.privateKey)
    }
    const receipt = await client.waitReceipt(await client.send(account, { to: fromHex(bob.address), value: 5n }))
    t.match(receipt, { status: '0x1', from: carol.address.toLowerCase() })
    await t.rejects(client.send(account, { to: fromHex(bob.address), value: 10n ** 24n }), {
      code: 'ERR_FUNDS',
      message: /has 9999\.\d+ 0G, needs 1000000 0G$/
    })
    const failing = client.call('eth_call', [{ to: NOBODY }, 'latest', { [NOBODY]: { code: answers('0x12345678') } }])
    await t.rejects(failing, { code: 'ERR_REJECTED', message: 'execution reverted', cause: { data: '0x12345678' } })
    await t.rejects(client.call('eth_getBalance', ['0x12']), { code: 'ERR_BAD_INPUT' })
    await t.rejects(client.call('eth_nothing'), { code: 'ERR_PROTOCOL' })
    await t.rejects(client.waitReceipt(UNKNOWN, { timeoutMs: 1 }), { code: 'ERR_TIMEOUT' })
    const both = await client.batch([{ method: 'eth_chainId' }, { method: 'eth_getBalance', params: [1] }])
    t.match(both, ['0x7a69', { code: 'ERR_BAD_INPUT' }])
    await server.close()
    await t.rejects(client.blockNumber(), { code: 'ERR_UNAVAILABLE', hint: /zg-devnet up/ })
    await chain.close()
  }
)

t.test('no parameter is an internal error', async t => {
  const seed = SEED
  const { methods, chain } = await open({ onDemand: false })
  const skip = /^(evm_setTime|anvil_setTime|.*_mine|evm_mine|evm_increaseTime|anvil_increaseTime)$/
  const names = Object.keys(methods).filter(name => !skip.test(name))
  let deep: unknown = []
  for (let i = 0; i < 60; i++) deep = [deep]
  const odd = fc.oneof(
    fc.jsonValue({ maxDepth: 3 }),
    fc.constantFrom<unknown>(
      deep,
      JSON.parse('{"__proto__":{"to":"0x00"},"constructor":1,"toString":null}'),
      `0x${'f'.repeat(64)}`,
      `0x${'f'.repeat(20_000)}`,
      '9'.repeat(1_000),
      '0x',
      '0x0',
      -1,
      1e308,
      2 ** 53,
      alice.address,
      UNKNOWN,
      'latest',
      { from: alice.address, to: bob.address, value: `0x${'f'.repeat(64)}`, gas: '0xffffffffffffffff' },
      { [alice.address]: { state: { x: 1 } } },
      { topics: [[[[]]]] },
      { fromBlock: -1 },
      { blockHash: UNKNOWN, requireCanonical: 'yes' }
    )
  )
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...names), fc.array(odd, { maxLength: 5 }), async (name, params) => {
      try {
        await methods[name]!(params, new Connection().ctx)
      } catch (err) {
        if (!(err instanceof RpcError) || err.code === -32603) {
          throw new Error(`${name}: ${err instanceof Error ? err.stack : err}`)
        }
      }
    }),
    { seed, numRuns: 1_500 }
  )
  t.equal(({} as { to?: string }).to, undefined, 'prototypes are as they were')
  await chain.close()
})

/** CALLs the account in its first word of calldata with no data, then stores 1 in slot 7. */
const CALLER = '0x600060006000600060006000355af15060016007550000'

t.test('tracers show what ran in the shapes of geth', async t => {
  const { rpc, send, chain } = await open()
  const target = '0x00000000000000000000000000000000000000c1'
  const inner = '0x00000000000000000000000000000000000000c2'
  await rpc('anvil_setCode', target, CALLER)
  await rpc('anvil_setCode', inner, LOGGER)
  const data = `0x${inner.slice(2).padStart(64, '0')}`
  const receipt = await send(alice.address, { to: target, data, gas: '0x186a0' })
  t.equal(receipt.status, '0x1')
  const trace = async (options?: unknown): Promise<Json> =>
    await rpc('debug_traceTransaction', receipt.transactionHash, options)

  const logs = await trace()
  t.equal(`0x${logs.gas.toString(16)}`, receipt.gasUsed)
  t.equal(logs.failed, false)
  t.equal(logs.structLogs[0].op, 'PUSH1')
  t.same(Object.keys(logs.structLogs[0]), ['pc', 'op', 'gas', 'gasCost', 'depth', 'stack'])
  const store = logs.structLogs.find((l: Json) => l.op === 'SSTORE')
  t.same(store.storage, { [`0x${'7'.padStart(64, '0')}`]: `0x${'1'.padStart(64, '0')}` })
  t.ok(logs.structLogs.some((l: Json) => l.depth === 2))
  const bare = await trace({ disableStack: true, disableStorage: true, enableMemory: true, limit: 500 })
  t.ok(bare.structLogs.length < logs.structLogs.length, 'the limit holds')
  t.ok(bare.structLogs.every((l: Json) => l.stack === undefined && Array.isArray(l.memory)))

  // What an instruction asked for is its price, paid or not: geth's figures.
  const ends: [what: string, code: string, gas: number, cost: number, error: string | undefined][] = [
    ['too few operands', '0x01', 1_000, 3, 'stack underflow'],
    ['nothing left for a PUSH', '0x6001', 2, 3, 'out of gas'],
    ['a cold slot', '0x600054', 500, 2_100, 'out of gas'],
    ['a new value in a cold slot', '0x6001600055', 5_000, 22_100, 'out of gas'],
    ['the stipend does not write', '0x6001600055', 2_000, 0, 'out of gas'],
    ['memory of 0x6200 bytes', '0x61620051', 300, 3 + 3 * 785 + Math.floor((785 * 785) / 512), 'out of gas'],
    ['a jump into nothing', '0x600056', 1_000, 8, undefined],
    ['no instruction', '0xfe', 1_000, 0, undefined]
  ]
  for (const [what, code, gas, cost, error] of ends) {
    await rpc('anvil_setCode', target, code)
    const faulty = await rpc('debug_traceCall', { to: target, gas: `0x${(21_000 + gas).toString(16)}` }, 'latest')
    const last = faulty.structLogs.at(-1)
    t.same([last.gasCost, last.error], [cost, error], what)
  }
  await rpc('anvil_setCode', target, CALLER)

  const calls = await trace({ tracer: 'callTracer', tracerConfig: { withLog: true } })
  t.equal(calls.gasUsed, receipt.gasUsed)
  t.equal(calls.calls[0].to, inner)
  t.equal(calls.calls[0].from, target)
  t.equal(calls.calls[0].logs.length, 1)
  t.equal((await trace({ tracer: 'callTracer', tracerConfig: { onlyTopCall: true } })).calls, undefined)
  const flat = await trace({ tracer: 'flatCallTracer' })
  t.same(
    flat.map((f: Json) => f.traceAddress),
    [[], [0]]
  )
  t.equal(flat[1].transactionHash, receipt.transactionHash)
  const before = await trace({ tracer: 'prestateTracer' })
  t.same(Object.keys(before), [...Object.keys(before)].sort())
  t.equal(before[target].code, CALLER)
  t.same(before[target].storage, { [`0x${'7'.padStart(64, '0')}`]: `0x${'0'.padStart(64, '0')}` })
  const diff = await trace({ tracer: 'prestateTracer', tracerConfig: { diffMode: true } })
  t.same(diff.post[target].storage, { [`0x${'7'.padStart(64, '0')}`]: `0x${'1'.padStart(64, '0')}` })
  t.equal(diff.pre[inner], undefined, 'what did not change is not told')
  t.equal(diff.post[alice.address.toLowerCase()].nonce, 1)
  t.same(await trace({ tracer: '4byteTracer' }), { '0x00000000-28': 1 })
  t.same(await trace({ tracer: 'noopTracer' }), {})
  const mux = await trace({
    tracer: 'muxTracer',
    tracerConfig: { callTracer: { onlyTopCall: true }, '4byteTracer': null }
  })
  t.same(Object.keys(mux), ['4byteTracer', 'callTracer'])

  const block = await rpc('debug_traceBlockByNumber', receipt.blockNumber, { tracer: 'callTracer' })
  t.same(
    block.map((b: Json) => b.txHash),
    [receipt.transactionHash]
  )
  const raw = await rpc('debug_getRawBlock', receipt.blockNumber)
  const again = await rpc('debug_traceBlockByHash', receipt.blockHash, { tracer: 'callTracer' })
  t.same(again, block)
  t.match(raw, /^0xf9/)
  await rpc('evm_setAutomine', false)
  const pair = [
    await rpc('eth_sendTransaction', { from: bob.address, data: creates(LOGGER), gas: '0x186a0' }),
    await rpc('eth_sendTransaction', { from: bob.address, to: target, data, gas: '0x186a0' })
  ]
  await rpc('evm_mine')
  const kinds = []
  for (const hash of pair) {
    kinds.push((await rpc('debug_traceTransaction', hash, { tracer: 'callTracer' })).type)
  }
  t.same(kinds, ['CREATE', 'CALL'], 'each of one block is found')
  const called = await rpc('debug_traceCall', { to: target, data }, 'latest', {
    tracer: 'prestateTracer',
    stateOverrides: { [inner]: { code: '0x00' } }
  })
  t.equal(called[inner].code, '0x00', 'overrides hold in a traced call')
  await chain.close()
})

t.test('ranges of the state are answered of any block, and within one', async t => {
  const { rpc, send } = await open()
  const [from] = (await rpc('eth_accounts')) as [Hex]
  const at = '0x00000000000000000000000000000000000000cc'
  // sstore(calldata[0], calldata[32])
  await rpc('anvil_setCode', at, '0x6020355f3555')
  const word = (n: number): string => n.toString(16).padStart(64, '0')
  const set = (slot: number, value: number) => ({ to: at, data: `0x${word(slot)}${word(value)}`, gas: '0x20000' })
  const first = await send(from, set(1, 11))
  await rpc('evm_setAutomine', false)
  await rpc('evm_setIntervalMining', 0)
  const hashes: string[] = []
  for (const fields of [set(2, 22), set(1, 0), set(3, 33)])
    hashes.push(await rpc('eth_sendTransaction', { from, ...fields }))
  await rpc('evm_mine')
  const receipts = await Promise.all(hashes.map(h => rpc('eth_getTransactionReceipt', h)))
  t.equal(new Set(receipts.map(r => r.blockHash)).size, 1, 'three transactions in one block')
  const { blockHash } = receipts[0]
  // What comes later must not show.
  for (const fields of [set(4, 44), set(2, 0)]) await rpc('eth_sendTransaction', { from, ...fields })
  await rpc('evm_mine')
  await rpc('anvil_setStorageAt', at, `0x${word(5)}`, `0x${word(55)}`)

  const range = async (hash: Hex, index: number): Promise<Record<number, number>> => {
    const seen: [number, number][] = []
    // One by one, so that every page border is crossed.
    for (let start: string | null = `0x${word(0)}`; start !== null; ) {
      const page: Json = await rpc('debug_storageRangeAt', hash, index, at, start, 1)
      for (const { key, value } of Object.values(page.storage) as Json[]) seen.push([Number(key), Number(value)])
      start = page.nextKey
    }
    return Object.fromEntries(seen)
  }
  t.same(await range(first.blockHash, 0), {}, 'before the first')
  t.same(await range(first.blockHash, 1), { 1: 11 }, 'after the last of a block of the past')
  t.same(await range(blockHash, 0), { 1: 11 })
  t.same(await range(blockHash, 1), { 1: 11, 2: 22 })
  t.same(await range(blockHash, 2), { 2: 22 })
  t.same(await range(blockHash, 3), { 2: 22, 3: 33 })
  const head = await rpc('eth_getBlockByNumber', 'latest', false)
  t.same(await range(head.hash, 2), { 3: 33, 4: 44, 5: 55 }, 'the head with what development has written')

  const accounts = async (block: string): Promise<Json> => {
    const all: Json = {}
    for (let start: string | undefined = '0x'; start !== undefined; ) {
      const page: Json = await rpc('debug_accountRange', block, start, 3, true)
      Object.assign(all, page.accounts)
      start = page.next
    }
    return all
  }
  const [then, now] = [await accounts(first.blockNumber), await accounts('latest')]
  t.equal(then[from].balance, BigInt(await rpc('eth_getBalance', from, first.blockNumber)).toString())
  t.equal(now[from].balance, BigInt(await rpc('eth_getBalance', from, 'latest')).toString())
  t.not(then[from].balance, now[from].balance)
  t.not(then[at].root, now[at].root)

  // Development changes belong to the block that they follow, not to the state that it was executed on.
  const traced = async (): Promise<string> =>
    (await rpc('debug_traceTransaction', hashes[2], { tracer: 'prestateTracer' })).text
  const before = await traced()
  await rpc('evm_mine')
  const last = await rpc('eth_sendTransaction', { from, ...set(6, 66) })
  await rpc('evm_mine')
  await rpc('anvil_setNonce', from, '0x64')
  const again = await rpc('debug_traceTransaction', last, { tracer: 'callTracer' })
  t.equal(again.error, undefined, 'traced on the state before the write')
  t.equal(await traced(), before)
})

t.test('simulated blocks are sealed, linked and priced', async t => {
  const { rpc, refused, chain } = await open()
  const to = '0x00000000000000000000000000000000000000d1'
  const blocks = await rpc('eth_simulateV1', {
    blockStateCalls: [
      { stateOverrides: { [NOBODY]: { balance: '0x64' } }, calls: [{ from: NOBODY, to, value: '0x5' }] },
      { blockOverrides: { number: '0x4' }, calls: [{ from: NOBODY, to, value: '0x6' }] }
    ],
    traceTransfers: true,
    returnFullTransactions: true
  })
  t.equal(blocks.length, 4, 'the gap is filled')
  t.equal(blocks[0].parentHash, (await rpc('eth_getBlockByNumber', 'latest', false)).hash)
  for (const [i, block] of blocks.entries()) if (i > 0) t.equal(block.parentHash, blocks[i - 1].hash)
  t.equal(blocks[0].calls[0].logs[0].address, `0x${'ee'.repeat(20)}`)
  t.equal(blocks[3].transactions[0].nonce, '0x1', 'nonces go on from block to block')
  t.equal(await rpc('eth_getBalance', to), '0x0', 'nothing happened')
  const one = (fields: Json, more: Json = {}) => ({ blockStateCalls: [{ calls: [fields] }], ...more })
  for (const [request, code] of [
    [one({ from: NOBODY, to, value: '0x1' }), -38014],
    [one({ from: alice.address, to, nonce: '0x9' }, { validation: true }), -38011],
    [one({ from: alice.address, to }, { validation: true }), -38012],
    [one({ from: alice.address, to, gas: '0x1' }), -38013],
    [one({ from: alice.address, to, gas: '0xffffffffff' }), -38015],
    [{ blockStateCalls: [{ blockOverrides: { number: '0x0' } }] }, -38020],
    [{ blockStateCalls: [{ blockOverrides: { time: '0x1' } }] }, -38021],
    [{ blockStateCalls: new Array(257).fill({}) }, -38026],
    [{ blockStateCalls: [] }, -32602]
  ] as const) {
    t.equal((await refused('eth_simulateV1', request)).code, code, `${code}`)
  }
  await chain.close()
})

t.test('bad input is refused with the right code and words', async t => {
  const { rpc, refused, send, chain } = await open()
  const wallet = new ethers.Wallet(alice.privateKey)
  const fields = { chainId: 31337, nonce: 0, to: bob.address, gasLimit: 21_000n, maxFeePerGas: 10n * GWEI, type: 2 }
  const signed = (more: object = {}) => wallet.signTransaction({ ...fields, ...more })
  const good = await signed()
  const unsigned = {
    type: 2,
    chainId: 31337n,
    nonce: 0n,
    maxFeePerGas: 10n * GWEI,
    maxPriorityFeePerGas: GWEI,
    gasLimit: 21_000n,
    to: fromHex(bob.address),
    value: 0n,
    data: new Uint8Array(0),
    accessList: []
  }
  const code = (runtime: string) => rpc('anvil_setCode', NOBODY, runtime)
  const table: [what: string, method: string, params: unknown[], code: number, words: RegExp][] = [
    ['nothing', 'eth_sendRawTransaction', ['0x'], -32000, /typed transaction too short|rlp/],
    ['an empty list', 'eth_sendRawTransaction', ['0xc0'], -32000, /rlp/],
    ['a list that is cut off', 'eth_sendRawTransaction', [good.slice(0, -2)], -32000, /rlp/],
    ['bytes behind it', 'eth_sendRawTransaction', [`${good}00`], -32000, /rlp/],
    ['an unknown type', 'eth_sendRawTransaction', [`0x05${good.slice(4)}`], -32000, /transaction type not supported/],
    ['a length of 2^56', 'eth_sendRawTransaction', ['0x02ffffffffffffffff'], -32000, /rlp/],
    ['another chain', 'eth_sendRawTransaction', [await signed({ chainId: 1 })], -32000, /invalid chain id for signer/],
    [
      'absurd gas',
      'eth_sendRawTransaction',
      [await signed({ gasLimit: 2n ** 63n })],
      -32000,
      /exceeds block gas limit/
    ],
    [
      'too little gas',
      'eth_sendRawTransaction',
      [await signed({ gasLimit: 20_999n })],
      -32000,
      /intrinsic gas too low/
    ],
    [
      'more than there is',
      'eth_sendRawTransaction',
      [await signed({ value: 2n ** 200n })],
      -32000,
      /insufficient funds/
    ],
    [
      'tip above the fee',
      'eth_sendRawTransaction',
      [toHex(signTransaction({ ...unsigned, maxPriorityFeePerGas: 11n * GWEI }, fromHex(alice.privateKey)))],
      -32000,
      /max priority fee per gas higher/
    ],
    [
      'oversized calldata',
      'eth_sendRawTransaction',
      [await signed({ data: `0x${'00'.repeat(200_000)}`, gasLimit: 29_000_000n })],
      -32000,
      /oversized data/
    ],
    [
      'a broken signature',
      'eth_sendRawTransaction',
      [`${good.slice(0, -64)}${'ff'.repeat(32)}`],
      -32000,
      /invalid|signature|sender/
    ],
    ['a number of 10^6 digits', 'eth_getBlockByNumber', [`0x${'1'.repeat(1_000_000)}`, false], -32602, /invalid block/],
    ['a decimal of 10^6 digits', 'anvil_setBalance', [NOBODY, '9'.repeat(1_000_000)], -32602, /invalid balance/],
    ['a prototype as address', 'eth_getBalance', ['__proto__'], -32602, /invalid address/],
    [
      'prototype names in overrides',
      'eth_call',
      [{ to: NOBODY }, 'latest', JSON.parse('{"__proto__":{"balance":"0x1"}}')],
      -32602,
      /invalid/
    ],
    [
      'a prototype as tracer',
      'debug_traceCall',
      [{ to: NOBODY }, 'latest', { tracer: 'constructor' }],
      -32000,
      /tracer not found/
    ],
    ['nested arrays', 'eth_getLogs', [{ topics: [[[[[]]]]] }], -32602, /invalid/],
    ['a wide range of topics', 'eth_getLogs', [{ topics: new Array(5).fill(null) }], -32602, /topics/],
    [
      'both data and input',
      'eth_call',
      [{ to: NOBODY, data: '0x01', input: '0x02' }],
      -32602,
      /both "data" and "input"/
    ],
    ['a state of the future', 'eth_getBalance', [NOBODY, '0xffffff'], -32000, /header not found/],
    ['a trace of genesis', 'debug_traceBlockByNumber', ['0x0'], -32000, /genesis is not traceable/],
    ['a block that is none', 'debug_traceBlock', ['0xc0'], -32000, /./],
    ['a duration that is none', 'debug_traceCall', [{ to: NOBODY }, 'latest', { timeout: 'soon' }], -32602, /duration/]
  ]
  for (const [what, method, params, wanted, words] of table) {
    const err = await refused(method, ...params)
    t.equal(err.code, wanted, `${what}: ${err.message.slice(0, 100)}`)
    t.match(err.message, words, what)
  }

  // JUMPDEST PUSH0 JUMP: never ends.
  await code('0x5b5f56')
  t.equal((await refused('eth_call', { to: NOBODY })).message, 'out of gas', 'an endless call ends with its gas')
  t.match((await refused('eth_estimateGas', { to: NOBODY })).message, /gas required exceeds allowance/)
  // Calls itself with all gas for ever.
  await code('0x5f5f5f5f5f305af100')
  t.equal(await rpc('eth_call', { to: NOBODY }), '0x', 'recursion ends at depth or gas')
  // Returns 2^40 bytes.
  await code('0x65010000000000 5ff3'.replace(' ', ''))
  t.equal((await refused('eth_call', { to: NOBODY })).message, 'out of gas', 'a return bomb costs more than there is')
  // Returns a megabyte: allowed, and no more than that.
  await code('0x620fffff5ff3')
  t.equal((await rpc('eth_call', { to: NOBODY })).length, 2 + 2 * 0xfffff)
  // A loop under the structLogs tracer grows until it is stopped.
  await code('0x5b5f618000525f56')
  const huge = await refused('debug_traceCall', { to: NOBODY }, 'latest', { enableMemory: true })
  t.equal(huge.code, -32000)
  t.match(huge.message, /tracing failed/)
  t.equal((await send(alice.address, { to: bob.address, value: '0x1' })).status, '0x1', 'the chain goes on')
  await chain.close()
})
