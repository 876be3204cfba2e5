/**
 * Proves the chain on the native execution client: blocks whose hash is keccak256(rlp(header)), the very block accepted by another
 * implementation (@ethereumjs/vm) and any other refused by both, the pool in geth's words, development verbs, the log index against a
 * scan of everything, and that a chain that is closed and opened again is the same chain. Transactions are signed by ethers, an
 * independent encoder.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AbiCoder, keccak256, type TransactionLike, Wallet } from 'ethers'
import t from 'tap'
import { PoolRefusal } from '../../cmd/zg-chain/core/api.ts'
import { encodeBlock, encodeHeader } from '../../cmd/zg-chain/core/block.ts'
import type { ZgChain } from '../../cmd/zg-chain/core/chain.ts'
import { formatGenesis, GENESIS_DEFAULTS, type Genesis, parseGenesis } from '../../cmd/zg-chain/core/genesis.ts'
import { encodeCall } from '../../cmd/zg-chain/core/records.ts'
import { decodeTransaction } from '../../cmd/zg-chain/core/transaction.ts'
import { orderedRoot } from '../../cmd/zg-chain/core/trie-root.ts'
import type { Block, CallRequest, PlacedLog } from '../../cmd/zg-chain/core/types.ts'
import { type OpenChainOptions, openChain } from '../../cmd/zg-chain/open.ts'
import { allocOf } from '../../cmd/zg-chain/state-file.ts'
import { concat, equalBytes, utf8 } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { encodeRlp } from '../../lib/codec/rlp.ts'
import { SYSTEM_CONTRACTS } from '../../lib/contracts/system-contracts.ts'
import type { Clock } from '../../lib/ports/clock.ts'
import { SEED } from '../harness/seed.ts'
import { openEthereumjs } from '../oracle/engine.ts'
import { memoryKv } from '../oracle/memory.ts'
import { verifyBlocks, verifyState } from '../oracle/verify-chain.ts'

const CHAIN_ID = 31337
const ETHER = 10n ** 18n
const GWEI = 10n ** 9n
const wallets = [1, 2, 3, 4].map(n => new Wallet(`0x${n.toString(16).padStart(64, '0')}`))
const [alice, bob, carol, dave] = wallets as [Wallet, Wallet, Wallet, Wallet]

/** A clock that tests move; nothing fires by itself. */
function manualClock(): Clock & { ms: number; run(): void } {
  const due: { at: number; fn: () => void }[] = []
  const clock = {
    ms: 1_700_000_000_000,
    now: () => clock.ms,
    monotonic: () => clock.ms,
    after(ms: number, fn: () => void) {
      const timer = { at: clock.ms + ms, fn }
      due.push(timer)
      return () => {
        if (due.includes(timer)) due.splice(due.indexOf(timer), 1)
      }
    },
    sleep: async () => {},
    run() {
      for (const timer of due.splice(0)) {
        if (timer.at <= clock.ms) timer.fn()
        else due.push(timer)
      }
    }
  }
  return clock
}

function seededRandom(seed = 1) {
  let x = seed >>> 0 || 1
  const next = () => {
    x ^= x << 13
    x >>>= 0
    x ^= x >>> 17
    x ^= x << 5
    x >>>= 0
    return x
  }
  return {
    bytes: (n: number) => Uint8Array.from({ length: n }, () => next() & 255),
    below: (n: number) => next() % n
  }
}

/** Tiny contracts at fixed addresses. */
const CODE = {
  // LOG2 with the first two words of the input as topics and the third as data
  logger: '0x60403560005260203560003560206000a200',
  // SSTORE(0, input)
  storer: '0x60003560005500',
  // returns SLOAD(0)
  loader: '0x60005460005260206000f3',
  // reverts with its input
  reverter: '0x366000600037366000fd',
  looper: '0x5b600056',
  // returns BLOCKHASH(input)
  hasher: '0x6000354060005260206000f3',
  baseFee: '0x4860005260206000f3',
  invalid: '0xfe'
} as const
const contract = (name: keyof typeof CODE) =>
  `0x${(0xc0de00 + Object.keys(CODE).indexOf(name)).toString(16).padStart(40, '0')}`
const word = (n: number | bigint) => n.toString(16).padStart(64, '0')

const SYSTEM: [string, string][] = Object.values(SYSTEM_CONTRACTS).map(c => [c.address, c.code])

function genesisOf(): Genesis {
  return {
    ...GENESIS_DEFAULTS,
    chainId: CHAIN_ID,
    timestamp: 1_600_000_000,
    alloc: [
      ...wallets.slice(0, 3).map(w => ({
        address: fromHex(w.address),
        balance: 1000n * ETHER,
        nonce: 0n,
        code: new Uint8Array(0),
        storage: [] as [Uint8Array, Uint8Array][]
      })),
      ...[
        ...SYSTEM,
        ...Object.entries(CODE).map(([n, c]): [string, string] => [contract(n as keyof typeof CODE), c])
      ].map(([a, c]) => ({
        address: fromHex(a),
        balance: 0n,
        nonce: 1n,
        code: fromHex(c),
        storage: [] as [Uint8Array, Uint8Array][]
      }))
    ]
  }
}

async function open(more: Partial<OpenChainOptions> = {}): Promise<ZgChain> {
  return openChain({
    genesis: genesisOf(),
    clock: manualClock(),
    random: seededRandom(),
    blockTimeMs: 0,
    dev: { accounts: [] },
    ...more
  })
}

async function sign(w: Wallet, tx: TransactionLike): Promise<Uint8Array> {
  return fromHex(
    await w.signTransaction({
      chainId: CHAIN_ID,
      gasLimit: 21_000n,
      maxFeePerGas: 3n * GWEI,
      maxPriorityFeePerGas: GWEI,
      type: 2,
      ...tx
    })
  )
}

const at = (chain: ZgChain) => ({ kind: 'block' as const, header: chain.head() })
const balance = async (chain: ZgChain, a: string) => (await chain.state(at(chain)).account(fromHex(a)))?.balance ?? 0n

/** What the pool answers to a transaction it refuses. */
async function refusal(chain: ZgChain, raw: Uint8Array): Promise<string> {
  try {
    await chain.pool.add(raw)
  } catch (err) {
    if (err instanceof PoolRefusal) return err.message
    throw err
  }
  return 'accepted'
}

const request = (to: string | null, data = '0x', more: Partial<CallRequest> = {}): CallRequest => ({
  from: fromHex(alice.address),
  to: to === null ? null : fromHex(to),
  gas: 1_000_000n,
  gasPrice: 0n,
  value: 0n,
  data: fromHex(data),
  ...more
})

t.test('a transfer is executed, charged and paid out, and the header hashes to its hash', async t => {
  const chain = await open({ coinbase: fromHex(dave.address) })
  const hash = await chain.pool.add(await sign(alice, { nonce: 0, to: bob.address, value: 5n * ETHER }))
  t.equal(chain.pool.get(hash)?.nonce, 0n, 'visible at once')
  const head = await chain.dev!.mine(1)
  t.equal(toHex(head.hash), keccak256(encodeHeader(head)))
  t.equal(head.number, 1)
  t.equal(head.gasUsed, 21_000n)
  const [receipt] = (await chain.receipts(head.hash))!
  t.equal(receipt!.status, 1)
  t.equal(await balance(chain, bob.address), 1005n * ETHER)
  t.equal(await balance(chain, alice.address), 995n * ETHER - 21_000n * receipt!.effectiveGasPrice)
  t.equal(await balance(chain, dave.address), 21_000n * (receipt!.effectiveGasPrice - head.baseFeePerGas!))
  t.same(await chain.locate(hash), { blockHash: head.hash, blockNumber: 1, index: 0 })
  t.equal(chain.pool.get(hash), undefined)
  await chain.close()
})

t.test('every transaction type executes, and another engine accepts the very block and refuses any other', async t => {
  const clock = manualClock()
  const chain = await open({ clock })
  const init = `0x60${(CODE.storer.length / 2 - 1).toString(16).padStart(2, '0')}80600b6000396000f3${CODE.storer.slice(2)}`
  const slots = [`0x${word(0)}`]
  await chain.pool.add(await sign(alice, { nonce: 0, data: init, gasLimit: 200_000n }))
  await chain.pool.add(
    await sign(bob, {
      type: 1,
      nonce: 0,
      to: contract('storer'),
      data: `0x${word(7)}`,
      gasPrice: 3n * GWEI,
      gasLimit: 100_000n,
      accessList: [{ address: contract('storer'), storageKeys: slots }],
      maxFeePerGas: null,
      maxPriorityFeePerGas: null
    })
  )
  await chain.pool.add(
    fromHex(
      await carol.signTransaction({
        type: 0,
        nonce: 0,
        to: contract('logger'),
        data: `0x${word(1)}${word(2)}${word(3)}`,
        gasPrice: 3n * GWEI,
        gasLimit: 100_000n
      })
    )
  )
  await chain.dev!.mine(1)
  const delegation = await dave.authorize({ chainId: CHAIN_ID, nonce: 0, address: contract('loader') })
  await chain.pool.add(
    await sign(alice, { type: 4, nonce: 1, to: dave.address, gasLimit: 200_000n, authorizationList: [delegation] })
  )
  const head = await chain.dev!.mine(1)

  const one = (await chain.blockByHash((await chain.headerByNumber(1))!.hash))!
  t.same(one.transactions.map(tx => tx.type).sort(), [0, 1, 2])
  const receipts = (await chain.receipts(one.header.hash))!
  t.ok(receipts.every(r => r.status === 1))
  const created = receipts[one.transactions.findIndex(tx => tx.to === null)]!.contractAddress!
  t.equal(toHex(await chain.state(at(chain)).code(created)), CODE.storer)
  t.equal(toHex(await chain.state(at(chain)).storage(fromHex(contract('storer')), new Uint8Array(32))), `0x${word(7)}`)
  t.equal(toHex(await chain.state(at(chain)).code(fromHex(dave.address))), `0xef0100${contract('loader').slice(2)}`)
  t.equal((await chain.receipts(head.hash))![0]!.status, 1)
  t.equal(one.transactions.find(tx => tx.type === 0)!.chainId, undefined, 'pre-155 is accepted')

  // EIP-4788 and EIP-2935 wrote before the block.
  const history = await chain.call(request(SYSTEM[1]![0], `0x${word(1)}`), { kind: 'pending', parent: head })
  t.equal(toHex(history.returnData), toHex(one.header.hash))

  const native = await open({ clock })
  const engine = openEthereumjs({ chainId: CHAIN_ID, kv: memoryKv(), clock, blockHash: async () => undefined })
  const genesis = (await chain.headerByNumber(0))!
  t.same(await engine.genesis(genesisOf().alloc), genesis.stateRoot)
  const parent = { stateRoot: genesis.stateRoot, header: genesis }
  const seal = (change: Partial<Block['header']>): Block => {
    const { hash: _, ...fields } = { ...one.header, ...change }
    const header = { ...fields, hash: fromHex(keccak256(encodeHeader(fields))) }
    return { header, transactions: one.transactions, ommers: [], raw: one.raw }
  }
  for (const change of [
    { stateRoot: new Uint8Array(32) },
    { receiptsRoot: new Uint8Array(32) },
    { transactionsRoot: new Uint8Array(32) },
    { logsBloom: new Uint8Array(256) },
    { requestsHash: new Uint8Array(32) },
    { gasUsed: one.header.gasUsed + 1n },
    { baseFeePerGas: one.header.baseFeePerGas! + 1n },
    { gasLimit: one.header.gasLimit * 2n },
    { timestamp: genesis.timestamp - 1 },
    { number: 2 },
    { parentHash: one.header.hash },
    { extraData: new Uint8Array(33) }
  ]) {
    const name = Object.keys(change)[0]!
    t.equal((await engine.newPayload(parent, seal(change))).status, 'INVALID', name)
    const { header } = seal(change)
    await t.rejects(
      native.native.newPayload(encodeBlock(header, one.transactions, { withdrawals: one.withdrawals })),
      { failure: name === 'parentHash' ? 'not found' : 'rejected' } as unknown as Error,
      `${name}, native`
    )
  }
  t.same(await native.native.newPayload(one.raw), one.header.hash)
  t.equal(toHex((await native.native.commit(one.header.hash)).hash), toHex(one.header.hash))
  await native.close()
  const valid = await engine.newPayload(parent, one)
  t.equal(valid.status, 'VALID')
  t.same(valid.status === 'VALID' ? valid.receipts.map(plainReceipt) : [], receipts.map(plainReceipt))
  await engine.forkchoiceUpdated(one.header.hash)
  t.ok(await engine.hasState(one.header.stateRoot))
  await engine.close()
  await chain.close()
})

t.test('calls answer data, revert reasons and gas, see overrides and the block, and change nothing', async t => {
  const chain = await open()
  const head = await chain.dev!.mine(3)
  const here = at(chain)
  const reason = AbiCoder.defaultAbiCoder().encode(['string'], ['no way'])
  const reverted = await chain.call(request(contract('reverter'), `0x08c379a0${reason.slice(2)}`), here)
  t.same(reverted.error, { kind: 'revert', text: 'execution reverted' })
  t.equal(toHex(reverted.returnData), `0x08c379a0${reason.slice(2)}`)
  t.equal((await chain.call(request(contract('invalid')), here)).error?.text, 'invalid opcode')
  const oog = await chain.call(request(contract('looper')), here)
  t.same(oog.error, { kind: 'out of gas', text: 'out of gas' })
  t.equal(oog.gasUsed, 1_000_000n)
  t.same(
    (await chain.call(request(contract('loader'), '0x', { gas: 20_000n }), here)).error?.kind,
    'refused',
    'intrinsic'
  )
  t.equal((await chain.call(request(bob.address), here)).gasUsed, 21_000n)
  const poor = await chain.call(request(alice.address, '0x', { from: fromHex(dave.address), value: 1n }), here)
  t.match(poor.error?.text, 'insufficient funds for gas * price + value')
  const fee = await chain.call(request(contract('baseFee')), here)
  t.equal(toHex(fee.returnData), `0x${word(0)}`, 'no price, no base fee')
  const paid = await chain.call(request(contract('baseFee'), '0x', { gasPrice: 10n * GWEI }), here)
  t.equal(toHex(paid.returnData), `0x${word(head.baseFeePerGas!)}`)
  const parentHash = await chain.call(request(contract('hasher'), `0x${word(2)}`), here)
  t.equal(toHex(parentHash.returnData), toHex((await chain.headerByNumber(2))!.hash))

  const stored = await chain.call(request(contract('storer'), `0x${word(9)}`, { gas: 100_000n }), here)
  t.equal(stored.gasUsed, 21_000n + 16n + 31n * 4n + 3n + 3n + 3n + 22_100n)
  t.equal((await chain.call(request(contract('storer'), `0x${word(0)}`, { gas: 100_000n }), here)).gasRefund, 0n)
  const override = new Map([
    [contract('loader'), { stateDiff: [[new Uint8Array(32), fromHex(`0x${word(5)}`)]] as [Uint8Array, Uint8Array][] }]
  ])
  t.equal(
    toHex((await chain.call(request(contract('loader')), here, { stateOverrides: override })).returnData),
    `0x${word(5)}`
  )
  const asCode = new Map([
    [dave.address.toLowerCase(), { code: fromHex(CODE.loader), state: [] as [Uint8Array, Uint8Array][] }]
  ])
  t.equal(toHex((await chain.call(request(dave.address), here, { stateOverrides: asCode })).returnData), `0x${word(0)}`)
  const fromContract = await chain.call(request(contract('loader'), '0x', { from: fromHex(contract('logger')) }), here)
  t.equal(fromContract.error, undefined, 'a contract may be the sender of a call')
  const listed = await chain.call(request(contract('loader')), here, { accessList: true })
  t.same(
    listed.accessList?.map(e => [toHex(e.address), e.storageKeys.map(toHex)]),
    [[contract('loader'), [`0x${word(0)}`]]]
  )
  const made = await chain.call(request(null, CODE.loader, { gas: 200_000n }), here)
  t.equal(made.error, undefined)

  t.equal(toHex(await chain.state(here).storage(fromHex(contract('storer')), new Uint8Array(32))), `0x${word(0)}`)
  const proof = await chain.state(here).proof(fromHex(alice.address), [new Uint8Array(32)])
  t.equal(keccak256(proof.accountProof[0]!), toHex(head.stateRoot), 'a proof begins at the root')
  t.equal(proof.account.balance, 1000n * ETHER)
  await chain.close()

  const endless = await open()
  const forever = encodeCall(request(contract('looper'), '0x', { gas: 1n << 50n }))
  const late = await endless.native.call(forever, undefined, false, { timeoutMs: 50 })
  t.equal(late.kind, 'stopped')
  await endless.close()
})

t.test('the pool refuses in the words of geth and orders by tip, nonce and arrival', async t => {
  const chain = await open()
  const ok = { nonce: 0, to: bob.address, value: 1n }
  // Ethers signs no such thing.
  const tipped = [CHAIN_ID, 0, 4n * GWEI, 3n * GWEI, 21_000, fromHex(bob.address), 0, new Uint8Array(0), []]
  const signature = alice.signingKey.sign(keccak256(concat(Uint8Array.of(2), encodeRlp(tipped))))
  const tipAboveCap = concat(
    Uint8Array.of(2),
    encodeRlp([...tipped, signature.yParity, BigInt(signature.r), BigInt(signature.s)])
  )
  const cases: [string, Uint8Array][] = [
    ['intrinsic gas too low', await sign(alice, { ...ok, gasLimit: 20_000n })],
    [
      'insufficient gas for floor data gas cost',
      await sign(alice, { ...ok, data: `0x${'ff'.repeat(1000)}`, gasLimit: 38_000n })
    ],
    ['exceeds block gas limit', await sign(alice, { ...ok, gasLimit: 30_000_001n })],
    ['insufficient funds for gas * price + value', await sign(alice, { ...ok, value: 2000n * ETHER })],
    ['insufficient funds for gas * price + value', await sign(dave, ok)],
    ['max priority fee per gas higher than max fee per gas', tipAboveCap],
    ['invalid chain id for signer', await sign(alice, { ...ok, chainId: 1 })],
    ['transaction type not supported', concat(Uint8Array.of(5), fromHex('0xc0'))],
    [
      'max initcode size exceeded',
      await sign(alice, { nonce: 0, data: `0x${'00'.repeat(49_153)}`, gasLimit: 3_000_000n })
    ],
    ['rlp', fromHex('0xc3010203')],
    ['rlp', concat(await sign(alice, ok), Uint8Array.of(0))]
  ]
  for (const [words, raw] of cases) t.match(await refusal(chain, raw), words)
  const highS = await sign(alice, ok)
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
  const s = BigInt(toHex(highS.subarray(-32)))
  highS.set(fromHex(`0x${word(order - s)}`), highS.length - 32)
  t.match(await refusal(chain, highS), 'invalid sender')

  t.equal(await refusal(chain, await sign(alice, ok)), 'accepted')
  t.equal(await refusal(chain, await sign(alice, ok)), 'already known')
  t.equal(
    await refusal(chain, await sign(alice, { ...ok, maxFeePerGas: 3_200_000_000n })),
    'replacement transaction underpriced'
  )
  const bumped = { ...ok, maxFeePerGas: 3_300_000_000n, maxPriorityFeePerGas: 1_100_000_000n }
  t.equal(await refusal(chain, await sign(alice, bumped)), 'accepted')
  t.match(
    await refusal(chain, await sign(alice, { ...ok, nonce: 1, value: 9_999_999n * 10n ** 14n })),
    'insufficient funds',
    'all pending together'
  )

  // A gap: queued until it is filled.
  await chain.pool.add(await sign(bob, { ...ok, nonce: 2 }))
  t.same(chain.pool.counts(), { pending: 1, queued: 1 })
  const announced: bigint[] = []
  chain.onPending(tx => announced.push(tx.nonce))
  await chain.pool.add(await sign(bob, { ...ok, nonce: 0 }))
  t.equal(await chain.pool.pendingNonce(fromHex(bob.address)), 1n)
  await chain.pool.add(await sign(bob, { ...ok, nonce: 1, maxPriorityFeePerGas: 2n * GWEI }))
  t.equal(await chain.pool.pendingNonce(fromHex(bob.address)), 3n)
  t.same(announced, [0n, 1n, 2n])
  await chain.pool.add(await sign(carol, { ...ok, nonce: 0, maxPriorityFeePerGas: 1_500_000_000n }))
  await chain.pool.add(await sign(carol, { ...ok, nonce: 1, maxFeePerGas: GWEI / 2n, maxPriorityFeePerGas: 0n }))
  const head = await chain.dev!.mine(1)
  const block = (await chain.blockByHash(head.hash))!
  const who = new Map(wallets.map((w, i) => [w.address.toLowerCase(), 'abcd'[i]]))
  t.same(
    block.transactions.map(tx => `${who.get(toHex(tx.from))}${tx.nonce}`),
    ['c0', 'a0', 'b0', 'b1', 'b2']
  )
  t.same(chain.pool.counts(), { pending: 1, queued: 0 }, 'a fee below the base fee waits')
  t.match(await refusal(chain, await sign(alice, ok)), 'nonce too low')
  await chain.close()
})

t.test(
  'the pool is bounded: by sender, by count with eviction of what pays least, and for delegated accounts',
  async t => {
    const chain = await open({ poolLimits: { count: 4, queuedPerSender: 2 } })
    const tx = (w: Wallet, nonce: number, tip: bigint) =>
      sign(w, { nonce, to: dave.address, maxFeePerGas: (40n + 10n * tip) * GWEI, maxPriorityFeePerGas: tip * GWEI })
    await chain.pool.add(await tx(alice, 5, 1n))
    await chain.pool.add(await tx(alice, 6, 1n))
    t.match(await refusal(chain, await tx(alice, 7, 1n)), 'txpool is full')
    t.equal(await refusal(chain, await tx(alice, 4, 1n)), 'accepted', 'a nearer nonce takes the place of the farthest')
    t.same(
      chain.pool.content().queued.map(x => x.nonce),
      [4n, 5n]
    )
    await chain.pool.add(await tx(bob, 0, 2n))
    await chain.pool.add(await tx(bob, 1, 2n))
    t.equal(await refusal(chain, await tx(carol, 0, 1n)), 'accepted', 'pending before queued')
    t.same(chain.pool.counts(), { pending: 3, queued: 1 })
    t.equal(await refusal(chain, await tx(carol, 1, 3n)), 'accepted')
    t.same(chain.pool.counts(), { pending: 4, queued: 0 })
    t.equal(await refusal(chain, await tx(alice, 0, 2n)), 'transaction underpriced')
    t.equal(await refusal(chain, await tx(alice, 0, 4n)), 'accepted')
    t.equal(await chain.pool.pendingNonce(fromHex(bob.address)), 1n, 'the tail of who pays least went')
    await chain.close()

    const small = await open()
    await small.dev!.setAccount(fromHex(dave.address), {
      balance: ETHER,
      code: fromHex(`0xef0100${contract('loader').slice(2)}`)
    })
    t.equal(await refusal(small, await tx(dave, 1, 1n)), 'gapped-nonce tx from delegated accounts')
    t.equal(await refusal(small, await tx(dave, 0, 1n)), 'accepted')
    t.equal(await refusal(small, await tx(dave, 0, 2n)), 'accepted', 'a replacement')
    t.equal(await refusal(small, await tx(dave, 1, 1n)), 'in-flight transaction limit reached for delegated accounts')
    // An account that a waiting transaction delegates is bound alike.
    const delegation = await carol.authorize({ chainId: CHAIN_ID, nonce: 0, address: contract('loader') })
    const setCode = { type: 4, to: bob.address, gasLimit: 100_000n, authorizationList: [delegation] }
    t.equal(await refusal(small, await sign(alice, { ...setCode, nonce: 0 })), 'accepted')
    t.equal(await refusal(small, await tx(carol, 0, 1n)), 'accepted')
    t.match(await refusal(small, await tx(carol, 1, 1n)), 'in-flight')
    await small.dev!.mine(1)
    t.equal(await refusal(small, await tx(bob, 0, 1n)), 'accepted')
    t.equal(await refusal(small, await tx(bob, 1, 1n)), 'accepted')
    const reserved = await bob.authorize({ chainId: CHAIN_ID, nonce: 0, address: contract('loader') })
    t.equal(
      await refusal(small, await sign(alice, { ...setCode, nonce: 1, authorizationList: [reserved] })),
      'authority already reserved'
    )
    await small.close()
  }
)

t.test('development verbs: snapshots, accounts, time, impersonation', async t => {
  const chain = await open()
  const dev = chain.dev!
  const events: string[] = []
  chain.onBlock(e => events.push(`${e.removed ? '-' : '+'}${e.block.header.number}`))
  await dev.mine(1)
  const id = await dev.snapshot()
  const root = toHex(chain.head().stateRoot)
  const hash = await chain.pool.add(await sign(alice, { nonce: 0, to: bob.address, value: ETHER }))
  await dev.mine(2)
  await dev.setAccount(fromHex(dave.address), { balance: 7n, nonce: 3n, code: fromHex(CODE.loader) })
  await dev.setStorage(fromHex(dave.address), new Uint8Array(32), fromHex(`0x${word(77)}`))
  t.equal(await balance(chain, dave.address), 7n)
  t.equal(toHex((await chain.call(request(dave.address), at(chain))).returnData), `0x${word(77)}`)
  await dev.mine(1)
  t.equal(
    toHex((await chain.call(request(dave.address), at(chain))).returnData),
    `0x${word(77)}`,
    'kept by the next block'
  )
  t.equal(await dev.revert(id), true)
  t.equal(await dev.revert(id), false)
  t.same(events, ['+1', '+2', '+3', '+4', '-4', '-3', '-2'])
  t.equal(toHex(chain.head().stateRoot), root)
  t.equal(await chain.locate(hash), undefined)
  t.equal(await balance(chain, dave.address), 0n)

  dev.setNextTimestamp(1_800_000_000)
  t.equal((await dev.mine(1)).timestamp, 1_800_000_000)
  dev.increaseTime(50)
  t.equal((await dev.mine(1)).timestamp, 1_800_000_050)
  t.equal((await dev.mine(1)).timestamp, 1_800_000_050, 'equal timestamps are fine')
  t.throws(() => dev.setNextTimestamp(1))
  dev.setNextBaseFee(5n)
  t.equal((await dev.mine(1)).baseFeePerGas, 5n)
  dev.setGasLimit(60_000_000n)
  t.equal((await dev.mine(1)).gasLimit, 60_000_000n)

  const whale = fromHex(contract('logger'))
  await dev.setAccount(whale, { balance: ETHER })
  await chain.pool.addImpersonated({
    type: 2,
    nonce: 1n,
    gasLimit: 21_000n,
    to: fromHex(bob.address),
    value: 3n,
    data: new Uint8Array(0),
    chainId: BigInt(CHAIN_ID),
    maxFeePerGas: GWEI,
    maxPriorityFeePerGas: 0n,
    accessList: [],
    from: whale
  })
  const head = await dev.mine(1)
  t.equal((await chain.receipts(head.hash))![0]!.status, 1, 'a contract sends')
  t.equal(await balance(chain, bob.address), 1000n * ETHER + 3n)
  await dev.reset()
  t.equal(chain.head().number, 0)
  t.same(chain.pool.counts(), { pending: 0, queued: 0 })
  await chain.close()
})

t.test(
  'a chain opened again has the same head, roots, pool and development state, and refuses another network',
  async t => {
    const dir = await mkdtemp(join(tmpdir(), 'zg-chain-core-'))
    t.teardown(() => rm(dir, { recursive: true, force: true }))
    const where = { dir, segmentBytes: 4096 }
    const first = await open(where)
    for (let i = 0; i < 12; i++) {
      await first.pool.add(
        await sign(alice, {
          nonce: i,
          to: contract('logger'),
          data: `0x${word(i)}${word(2)}${word(3)}`,
          gasLimit: 100_000n
        })
      )
      await first.dev!.mine(1)
    }
    await first.dev!.setAccount(fromHex(dave.address), { balance: 99n })
    const waiting = await first.pool.add(await sign(bob, { nonce: 0, to: dave.address, value: 1n }))
    const head = first.head()
    const blocks = await Promise.all(Array.from({ length: 13 }, (_, n) => first.headerByNumber(n)))
    const receipts = await first.receipts(head.hash)
    await first.close()
    await t.rejects(first.dev!.mine(1), { code: 'ERR_STOPPED' })

    const second = await open(where)
    t.same(second.head(), head)
    for (const h of blocks) t.same(await second.headerByHash(h!.hash), h)
    t.same((await second.receipts(head.hash))!.map(plainReceipt), receipts!.map(plainReceipt))
    t.equal(await balance(second, dave.address), 99n)
    t.same(second.pool.get(waiting)?.from, fromHex(bob.address))
    t.equal(
      (await second.logs({ fromBlock: 0, toBlock: 100, addresses: [], topics: [[fromHex(`0x${word(4)}`)]], limit: 10 }))
        .length,
      1
    )
    await second.dev!.mine(1)
    t.equal(second.pool.get(waiting), undefined)
    t.equal(await balance(second, dave.address), 100n)
    await second.close()

    await t.rejects(open({ ...where, genesis: { ...genesisOf(), chainId: 5 } }), { code: 'ERR_WRONG_NETWORK' })
    await t.rejects(open({ ...where, genesis: { ...genesisOf(), timestamp: 5 } }), { code: 'ERR_WRONG_NETWORK' })
    await t.rejects(open({ ...where, genesis: { ...genesisOf(), alloc: [] } }), { code: 'ERR_WRONG_NETWORK' })
  }
)

t.test('producers: at an interval with empty blocks, on demand without', async t => {
  const clock = manualClock()
  const chain = await open({ clock, blockTimeMs: 500 })
  chain.start()
  const next = (c: ZgChain) =>
    new Promise<number>(done => {
      const off = c.onBlock(e => {
        off()
        done(e.block.header.number)
      })
    })
  for (let i = 1; i <= 3; i++) {
    clock.ms += 500
    const made = next(chain)
    clock.run()
    t.equal(await made, i)
    // The next beat is set when the block is through.
    await chain.exclusive(async () => {})
    await new Promise(setImmediate)
  }
  await chain.close()

  const demand = await open({ clock, onDemand: true })
  demand.start()
  const both = await Promise.all([
    sign(alice, { nonce: 0, to: bob.address }),
    sign(carol, { nonce: 0, to: bob.address })
  ])
  await Promise.all(both.map(raw => demand.pool.add(raw)))
  const made = next(demand)
  clock.run()
  t.equal(await made, 1)
  t.equal(
    (await demand.blockByHash(demand.head().hash))!.transactions.length,
    2,
    'what arrives together shares a block'
  )
  clock.run()
  await demand.exclusive(async () => {})
  t.equal(demand.head().number, 1)
  await demand.close()
})

t.test('the log index answers as a scan of all blocks does', async t => {
  const random = seededRandom(SEED)
  const chain = await open()
  const nonces = new Map(wallets.map(w => [w, 0]))
  const second = await chain
    .dev!.setAccount(fromHex(dave.address), { code: fromHex(CODE.logger) })
    .then(() => dave.address)
  const pick = () => random.below(4)
  for (let b = 0; b < 30; b++) {
    for (let n = random.below(4); n > 0; n--) {
      const w = wallets[random.below(3)]!
      const to = random.below(2) === 0 ? contract('logger') : second
      await chain.pool.add(
        await sign(w, {
          nonce: nonces.get(w)!,
          to,
          data: `0x${word(pick())}${word(pick())}${word(b)}`,
          gasLimit: 60_000n
        })
      )
      nonces.set(w, nonces.get(w)! + 1)
    }
    await chain.dev!.mine(1)
    if (b === 20) {
      const id = await chain.dev!.snapshot()
      await chain.pool.add(
        await sign(alice, { nonce: nonces.get(alice)!, to: second, data: `0x${word(1)}${word(1)}`, gasLimit: 60_000n })
      )
      await chain.dev!.mine(1)
      await chain.dev!.revert(id)
    }
  }
  const all: PlacedLog[] = []
  for (let n = 0; n <= chain.head().number; n++) {
    const { hash, timestamp } = (await chain.headerByNumber(n))!
    const block = (await chain.blockByHash(hash))!
    let logIndex = 0
    for (const [i, r] of (await chain.receipts(hash))!.entries()) {
      for (const log of r.logs)
        all.push({
          ...log,
          blockHash: hash,
          blockNumber: n,
          blockTimestamp: timestamp,
          transactionHash: block.transactions[i]!.hash,
          transactionIndex: i,
          logIndex: logIndex++
        })
    }
  }
  t.ok(all.length > 20)
  for (let i = 0; i < 200; i++) {
    const some = (values: () => Uint8Array) => Array.from({ length: random.below(3) }, values)
    const fromBlock = random.below(31)
    const filter = {
      fromBlock,
      toBlock: fromBlock + random.below(31),
      addresses: some(() => fromHex([contract('logger'), second, alice.address][random.below(3)])),
      topics: Array.from({ length: random.below(4) }, () => some(() => fromHex(`0x${word(pick())}`))),
      limit: 10_000
    }
    const want = all.filter(
      l => l.blockNumber >= filter.fromBlock && l.blockNumber <= filter.toBlock && matches(l, filter)
    )
    const got = await chain.logs(filter)
    if (!t.same(got, want, `filter ${i}`)) break
  }
  await t.rejects(chain.logs({ fromBlock: 0, toBlock: 99, addresses: [], topics: [], limit: 3 }), {
    code: 'ERR_REJECTED',
    message: /more than 3 results/
  })
  await chain.close()
})

t.test('while blocks are made, senders and readers see no gap, and every transaction is executed once', async t => {
  const chain = await open()
  const raws = await Promise.all(
    [alice, bob, carol].map(w =>
      Promise.all(Array.from({ length: 25 }, (_, nonce) => sign(w, { nonce, to: dave.address, value: 1n })))
    )
  )
  let running = true
  const miner = (async () => {
    while (running) await chain.dev!.mine(1)
  })()
  const watcher = (async () => {
    let last = 0n
    let mined = 0n
    while (running) {
      const pending = await chain.pool.pendingNonce(fromHex(alice.address))
      const account = await chain.state(at(chain)).account(fromHex(alice.address))
      if (pending < last) t.fail(`pending nonce fell from ${last} to ${pending}`)
      if (account!.nonce < mined) t.fail(`nonce fell from ${mined} to ${account!.nonce}`)
      last = pending
      mined = account!.nonce
      const called = await chain.call(request(contract('loader')), at(chain))
      if (called.error !== undefined) t.fail(called.error.text)
    }
  })()
  const hashes = await Promise.all(
    raws.map(async list => {
      const out: Uint8Array[] = []
      for (const raw of list) {
        const hash = await chain.pool.add(raw)
        if (chain.pool.get(hash) === undefined && (await chain.locate(hash)) === undefined) t.fail('in neither place')
        out.push(hash)
      }
      return out
    })
  )
  const deadline = Date.now() + 60_000
  while (chain.pool.counts().pending > 0 && Date.now() < deadline) await chain.exclusive(async () => {})
  running = false
  await Promise.all([miner, watcher])
  t.equal(await balance(chain, dave.address), 75n)
  for (const hash of hashes.flat()) t.ok(await chain.locate(hash))
  t.same(chain.pool.counts(), { pending: 0, queued: 0 })
  await chain.close()
})

t.test('whole states: every account is listed, the root recomputes, and a copy has the same root', async t => {
  const chain = await open()
  for (let i = 0; i < 5; i++) {
    await chain.pool.add(await sign(alice, { nonce: i, to: `0x${'ab'.repeat(19)}0${i}`, value: 1n }))
    await chain.dev!.mine(1)
  }
  await chain.pool.add(await sign(bob, { nonce: 0, to: contract('storer'), data: `0x${word(9)}`, gasLimit: 100_000n }))
  const head = await chain.dev!.mine(1)
  const state = await verifyState(chain)
  t.same(state.root, head.stateRoot)
  t.equal(await verifyBlocks(chain, 100), 7)
  const copy = await openChain({
    genesis: { ...genesisOf(), alloc: await allocOf(chain) },
    clock: manualClock(),
    random: seededRandom(),
    blockTimeMs: 0
  })
  t.same(copy.head().stateRoot, head.stateRoot)
  await copy.close()
  await chain.dev!.setAccount(fromHex(dave.address), { balance: 5n, code: fromHex(CODE.loader) })
  t.not(toHex((await verifyState(chain)).root), toHex(head.stateRoot), 'development changes have a root of their own')
  await chain.close()
})

t.test('genesis files are read and written in full, and a chain has the hash that geth gives it', async t => {
  const full: Genesis = {
    ...genesisOf(),
    config: {
      ...GENESIS_DEFAULTS.config,
      osakaTime: 10,
      bpo1Time: 20,
      terminalTotalDifficulty: 58_750_000_000_000_000_000_000n,
      depositContractAddress: new Uint8Array(20).fill(3),
      blobSchedule: { cancun: { target: 3, max: 6, baseFeeUpdateFraction: 3_338_477 } },
      minGasChargeBps: 8000
    },
    difficulty: 131_072n,
    nonce: fromHex('0x0000000000000042'),
    extraData: utf8('zg')
  }
  t.same(parseGenesis(formatGenesis(full)), full)
  t.same(parseGenesis('{"config":{"chainId":5}}').config, GENESIS_DEFAULTS.config, 'no fork named: Prague')
  t.equal(parseGenesis('{"config":{"chainId":5,"homesteadBlock":0}}').config.pragueTime, undefined)
  for (const [change, message] of [
    [{ config: { chainId: 5, londonBlock: 5, berlinBlock: 9 } }, /londonBlock 5 is before berlinBlock 9/],
    [{ config: { chainId: 5, blobSchedule: { cancun: { target: 1, max: 1, baseFeeUpdateFraction: 0 } } } }, /is 0/],
    [{ config: { chainId: 5, minGasChargeBps: 10_001 } }, /minGasChargeBps/],
    [{ config: { chainId: 5 }, number: '0x1' }, /number is not 0/],
    [{ config: { chainId: 5 }, nonce: `0x1${'0'.repeat(16)}` }, /nonce has more than 64 bits/]
  ] as const) {
    t.throws(() => parseGenesis(JSON.stringify(change)), { code: 'ERR_CONFIG', message })
  }
  // Ethereum's own first block, without its accounts: hash of the header with the empty state.
  const old = await openChain({
    genesis: {
      ...GENESIS_DEFAULTS,
      chainId: 1,
      config: { homesteadBlock: 1_150_000 },
      gasLimit: 5000n,
      difficulty: 17_179_869_184n,
      nonce: fromHex('0x0000000000000042'),
      alloc: []
    },
    clock: manualClock(),
    random: seededRandom(),
    blockTimeMs: 0
  })
  const header = old.head()
  t.equal(header.baseFeePerGas, undefined)
  t.equal(header.withdrawalsRoot, undefined)
  t.equal(toHex(header.hash), keccak256(encodeHeader(header)))
  await old.close()
})

t.test('list roots match a trie library, transactions match their signer', async t => {
  const { createMPT } = await import('@ethereumjs/mpt')
  for (const size of [0, 1, 2, 16, 127, 128, 129, 300]) {
    const values = Array.from({ length: size }, (_, i) => utf8(`value ${i}`.repeat((i % 7) + 1)))
    const trie = await createMPT()
    for (const [i, v] of values.entries()) await trie.put(encodeRlp(i), v)
    t.same(orderedRoot(values), trie.root(), `${size} values`)
  }
  const raw = await sign(alice, { nonce: 7, to: bob.address, value: 5n, data: '0x1234' })
  const tx = decodeTransaction(raw, { chainId: BigInt(CHAIN_ID) })
  t.equal(toHex(tx.from), alice.address.toLowerCase())
  t.equal(toHex(tx.hash), keccak256(raw))
  t.throws(() => decodeTransaction(raw, { chainId: 1n }), { message: /invalid chain id/ })
})

/** A receipt's fields, whatever holds them. */
function plainReceipt(r: Awaited<ReturnType<ZgChain['receipts']>> extends (infer R)[] | undefined ? R : never) {
  const { type, status, gasUsed, cumulativeGasUsed, effectiveGasPrice, logsBloom, logs, contractAddress } = r
  return { type, status, gasUsed, cumulativeGasUsed, effectiveGasPrice, logsBloom, logs, contractAddress }
}

/** What an index must answer, by looking at every log. */
function matches(log: PlacedLog, filter: { addresses: Uint8Array[]; topics: Uint8Array[][] }): boolean {
  if (filter.addresses.length > 0 && !filter.addresses.some(a => equalBytes(a, log.address))) return false
  // A place that the log does not have is no wildcard, as in geth.
  if (filter.topics.length > log.topics.length) return false
  return filter.topics.every((any, i) => any.length === 0 || any.some(x => equalBytes(x, log.topics[i]!)))
}
