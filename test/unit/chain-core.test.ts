/**
 * Proves the chain on its in-memory stores: execution by @ethereumjs/vm behind the engine interface, blocks whose hash is
 * keccak256(rlp(header)), the pool in geth's words, development verbs, the log index against a scan of everything, and that a
 * chain that is closed and opened again is the same chain. Transactions are signed by ethers, an independent encoder.
 */
import { AbiCoder, id, keccak256, Signature, type TransactionLike, Wallet } from 'ethers'
import t from 'tap'
import { encodeHeader } from '../../cmd/zg-chain/core/block.ts'
import type { ZgChain } from '../../cmd/zg-chain/core/chain.ts'
import type { Genesis } from '../../cmd/zg-chain/core/genesis.ts'
import { GENESIS_DEFAULTS } from '../../cmd/zg-chain/core/genesis.ts'
import { type OpenChainOptions, openChain } from '../../cmd/zg-chain/open.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import type { Clock } from '../../lib/ports/clock.ts'

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

const SYSTEM: [string, string][] = [
  [
    '0x000F3df6D732807Ef1319fB7B8bB8522d0Beac02',
    '0x3373fffffffffffffffffffffffffffffffffffffffe14604d57602036146024575f5ffd5b5f35801560495762001fff810690815414603c575f5ffd5b62001fff01545f5260205ff35b5f5ffd5b62001fff42064281555f359062001fff015500'
  ],
  [
    '0x0000F90827F1C53a10cb7A02335B175320002935',
    '0x3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff81430311604257611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500'
  ]
]

function genesisOf(): Genesis {
  return {
    ...GENESIS_DEFAULTS,
    chainId: CHAIN_ID,
    timestamp: 1_600_000_000,
    alloc: [
      ...wallets
        .slice(0, 3)
        .map(w => ({
          address: fromHex(w.address),
          balance: 1000n * ETHER,
          nonce: 0n,
          code: new Uint8Array(0),
          storage: [] as [Uint8Array, Uint8Array][]
        })),
      ...SYSTEM.map(([a, c]) => ({
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
  t.equal(await balance(chain, dave.address), 21_000n * (receipt!.effectiveGasPrice - head.baseFeePerGas))
  t.same(await chain.locate(hash), { blockHash: head.hash, blockNumber: 1, index: 0 })
  t.equal(chain.pool.get(hash), undefined)
  await chain.close()
})
