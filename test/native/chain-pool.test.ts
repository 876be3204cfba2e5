/**
 * Proves that the native pool refuses with geth's words, replaces for ten per cent more, keeps gaps apart, bounds what it holds by
 * dropping what pays least, and lets a delegated account have one transaction in flight.
 */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { concat, padLeft } from '../../lib/base/bytes.ts'
import { signTransaction, type UnsignedTransaction } from '../../lib/clients/sign.ts'
import { decodeRlp, encodeRlp, rlpBytes, rlpList } from '../../lib/codec/rlp.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { addressOf, SECP256K1_ORDER, sign } from '../../lib/crypto/secp256k1.ts'
import { encodeGenesis } from '../../lib/evm/genesis.ts'
import { evmAddon } from '../../lib/evm/native.ts'
import type { NativeChain } from '../../lib/evm/types.ts'
import { nativePath } from '../../lib/native.ts'

const skip = existsSync(nativePath('evm')) ? false : 'no native build here'
const GWEI = 10n ** 9n
const ETHER = 10n ** 18n
const KEYS = Array.from({ length: 8 }, (_, i) => padLeft(Uint8Array.of(i + 1), 32))
const USERS = KEYS.map(addressOf)
const NOBODY = padLeft(Uint8Array.of(0x99, 0x99), 20)
const EMPTY = new Uint8Array(0)

const open = async (test: { teardown(fn: () => unknown): unknown }, over: object = {}): Promise<NativeChain> => {
  const dir = await mkdtemp(join(tmpdir(), 'zg-pool-'))
  const chain = await evmAddon().open({
    dir: join(dir, 'chain'),
    genesis: encodeGenesis({
      chainId: 31337,
      config: { londonBlock: 0, terminalTotalDifficulty: 0n, shanghaiTime: 0, cancunTime: 0, pragueTime: 0 },
      timestamp: 1000,
      gasLimit: 30_000_000n,
      difficulty: 0n,
      nonce: new Uint8Array(8),
      extraData: EMPTY,
      prevRandao: new Uint8Array(32),
      beneficiary: new Uint8Array(20),
      baseFeePerGas: GWEI,
      excessBlobGas: 0n,
      blobGasUsed: 0n,
      alloc: USERS.map(address => ({ address, balance: ETHER, nonce: 0n, code: EMPTY, storage: [] }))
    }),
    dev: false,
    archive: true,
    history: 128,
    cacheBytes: 8 << 20,
    blockCacheBytes: 4 << 20,
    writeBufferBytes: 4 << 20,
    poolCount: 1000,
    poolBytes: 16 << 20,
    queuedPerSender: 64,
    threads: 2,
    sync: false,
    logSegmentBytes: 1 << 20,
    ...over
  })
  test.teardown(async () => {
    await chain.close()
    await rm(dir, { recursive: true, force: true })
  })
  return chain
}

const tx = (from: number, nonce: bigint, over: Partial<UnsignedTransaction> = {}): Uint8Array =>
  signTransaction(
    {
      type: 2,
      chainId: 31337n,
      nonce,
      maxFeePerGas: 10n * GWEI,
      maxPriorityFeePerGas: GWEI,
      gasLimit: 21_000n,
      to: NOBODY,
      value: 1n,
      data: EMPTY,
      ...over
    },
    KEYS[from]!
  )

const submit = async (chain: NativeChain, ...raw: Uint8Array[]): Promise<string[]> =>
  (await chain.submit(raw)).map(a => (typeof a === 'string' ? a : 'ok'))

const mine = async (chain: NativeChain): Promise<void> => {
  const attributes = encodeRlp([
    1001,
    new Uint8Array(32),
    padLeft(Uint8Array.of(0xfe), 20),
    new Uint8Array(32),
    [],
    30_000_000,
    EMPTY,
    []
  ])
  await chain.commit((await chain.build(attributes, 5000)).hash)
}

t.test('refusals carry the words that tools match on', { skip }, async t => {
  const chain = await open(t)
  const cases: [string | RegExp, Uint8Array][] = [
    ['typed transaction too short', EMPTY],
    ['transaction type not supported', Uint8Array.of(5, 0xc0)],
    ['oversized data: transaction size 131073, limit 131072', new Uint8Array(131_073).fill(2, 0, 1)],
    ['invalid chain id for signer: have 1 want 31337', tx(0, 0n, { chainId: 1n })],
    ['nonce has max value: 18446744073709551615', tx(0, (1n << 64n) - 1n)],
    ['exceeds block gas limit', tx(0, 0n, { gasLimit: 30_000_001n })],
    [
      /^max priority fee per gas higher than max fee per gas: address 0x/,
      tx(0, 0n, { maxPriorityFeePerGas: 11n * GWEI })
    ],
    ['intrinsic gas too low: gas 20999, minimum needed 21000', tx(0, 0n, { gasLimit: 20_999n })],
    [
      'insufficient gas for floor data gas cost: gas 24999, minimum needed 25000',
      tx(0, 0n, { gasLimit: 24_999n, data: new Uint8Array(100).fill(1) })
    ],
    [
      'max initcode size exceeded: code size 49153, limit 49152',
      tx(0, 0n, { to: null, data: new Uint8Array(49_153), gasLimit: 5_000_000n })
    ],
    [
      `insufficient funds for gas * price + value: balance ${ETHER}, tx cost ${ETHER + 210_000n * GWEI}, overshot ${210_000n * GWEI}`,
      tx(0, 0n, { value: ETHER })
    ]
  ]
  for (const [words, raw] of cases) t.match((await submit(chain, raw))[0], words)
  // A high s: somebody else's copy of a signature.
  const body = [31337, 0, GWEI, 10n * GWEI, 21_000, NOBODY, 1, EMPTY, []]
  const sig = sign(keccak256(Uint8Array.of(2), encodeRlp(body)), KEYS[0]!)
  const high = concat(Uint8Array.of(2), encodeRlp([...body, 1 - sig.yParity, sig.r, SECP256K1_ORDER - sig.s]))
  t.same(await submit(chain, high), ['invalid sender'])
  const impersonated = encodeRlp([2, USERS[0]!, 0, 21_000, NOBODY, 9, EMPTY, 10n * GWEI, GWEI, [], []])
  t.equal(await chain.submitUnsigned(impersonated), 'invalid sender', 'only for development')
  t.same(await submit(chain, tx(0, 0n)), ['ok'])
  await mine(chain)
  t.same(await submit(chain, tx(0, 0n)), ['nonce too low: next nonce 1, tx nonce 0'])
})

t.test(
  'a replacement pays ten per cent more on both fees, and a sender pays for all it has pending',
  { skip },
  async t => {
    const chain = await open(t)
    const fees = (a: bigint, b: bigint) => ({ maxFeePerGas: a, maxPriorityFeePerGas: b, value: 2n })
    t.same(
      await submit(
        chain,
        tx(0, 0n),
        tx(0, 1n),
        tx(0, 0n),
        tx(0, 0n, fees(11n * GWEI - 1n, 2n * GWEI)),
        tx(0, 0n, fees(11n * GWEI, (11n * GWEI) / 10n - 1n)),
        tx(0, 0n, fees(11n * GWEI, (11n * GWEI) / 10n))
      ),
      ['ok', 'ok', 'already known', 'replacement transaction underpriced', 'replacement transaction underpriced', 'ok']
    )
    t.equal(chain.pendingNonce(USERS[0]!), 2n)
    t.same(chain.poolCounts().pending, 2)
    const [refused] = await submit(chain, tx(0, 2n, { value: ETHER - 300_000n * GWEI }))
    t.match(
      refused,
      /^insufficient funds for gas \* price \+ value: balance \d+, queued cost \d+, tx cost \d+, overshot \d+$/
    )
    await mine(chain)
    t.equal(chain.account(NOBODY, undefined)!.balance, 3n)
  }
)

t.test('gaps wait, bounded for each sender; a full pool drops what pays least', { skip }, async t => {
  const chain = await open(t, { poolCount: 6, queuedPerSender: 3 })
  t.same(await submit(chain, tx(0, 2n), tx(0, 3n), tx(0, 5n)), ['ok', 'ok', 'ok'])
  t.same(await submit(chain, tx(0, 6n)), ['txpool is full: too many queued transactions of the sender'])
  t.same(await submit(chain, tx(0, 4n)), ['ok'], 'a lower nonce pushes the last one out')
  t.same({ ...chain.poolCounts(), bytes: 0 }, { pending: 0, queued: 3, bytes: 0 })
  t.notOk(chain.hasExecutable())
  t.same(
    await submit(
      chain,
      tx(1, 0n),
      tx(2, 0n, { maxPriorityFeePerGas: 2n * GWEI }),
      tx(3, 0n, { maxPriorityFeePerGas: 3n * GWEI })
    ),
    ['ok', 'ok', 'ok']
  )
  // Full: queued ones go first, then who pays least.
  t.same(await submit(chain, tx(4, 0n), tx(4, 1n), tx(4, 2n)), ['ok', 'ok', 'ok'])
  t.same({ ...chain.poolCounts(), bytes: 0 }, { pending: 6, queued: 0, bytes: 0 })
  t.same(await submit(chain, tx(5, 0n)), ['transaction underpriced'])
  t.same(await submit(chain, tx(5, 1n, { maxPriorityFeePerGas: 5n * GWEI })), ['txpool is full'])
  t.same(await submit(chain, tx(5, 0n, { maxPriorityFeePerGas: 5n * GWEI })), ['ok'])
  const content = decodeRlp(chain.poolContent())
  t.equal(rlpList(rlpList(content)[0]).length, 6)
  t.same(rlpBytes(rlpList(rlpList(rlpList(decodeRlp(chain.poolContent(USERS[5]!)))[0])[0])[2]), USERS[5])
  await mine(chain)
  t.same({ ...chain.poolCounts(), bytes: 0 }, { pending: 0, queued: 0, bytes: 0 })
})

t.test('delegated accounts have one transaction in flight', { skip }, async t => {
  const chain = await open(t)
  const delegate = (from: number, nonce: bigint, who: number, over: Partial<UnsignedTransaction> = {}): Uint8Array => {
    const sig = sign(keccak256(Uint8Array.of(5), encodeRlp([31337, NOBODY, 0])), KEYS[who]!)
    const authorizationList = [
      { chainId: 31337n, address: NOBODY, nonce: 0n, yParity: sig.yParity, r: sig.r, s: sig.s }
    ]
    return tx(from, nonce, { type: 4, gasLimit: 100_000n, authorizationList, ...over })
  }
  t.same(await submit(chain, tx(1, 0n), tx(1, 1n)), ['ok', 'ok'])
  t.same(await submit(chain, delegate(0, 0n, 1)), ['authority already reserved'])
  t.same(await submit(chain, delegate(0, 0n, 2)), ['ok'])
  t.same(await submit(chain, tx(2, 1n)), ['gapped-nonce tx from delegated accounts'])
  t.same(await submit(chain, tx(2, 0n), tx(2, 1n)), [
    'ok',
    'in-flight transaction limit reached for delegated accounts'
  ])
  chain.poolClear()
  t.same(await submit(chain, delegate(0, 0n, 3)), ['ok'])
  await mine(chain)
  t.equal(chain.code(USERS[3]!, undefined).length, 23)
  t.same(await submit(chain, tx(3, 1n), tx(3, 2n)), [
    'ok',
    'in-flight transaction limit reached for delegated accounts'
  ])
  t.ok(chain.poolRemove(keccak256(tx(3, 1n))))
  t.notOk(chain.poolRemove(keccak256(tx(3, 1n))))
})
