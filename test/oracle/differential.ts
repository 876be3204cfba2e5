/**
 * Native execution against @ethereumjs: worlds of random contracts, blocks of random transactions. The second implementation builds each
 * block; the native one must accept it, which compares status, gas, logs, requests and state root of everything in it, and calls
 * on the state after it must answer the same bytes for the same gas.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeHeader } from '../../cmd/zg-chain/core/block.ts'
import { GENESIS_DEFAULTS, type Genesis } from '../../cmd/zg-chain/core/genesis.ts'
import { decodeCallResult, encodeCall } from '../../cmd/zg-chain/core/records.ts'
import { decodeTransaction } from '../../cmd/zg-chain/core/transaction.ts'
import type { BlockHeader, CallRequest, CallResult, Transaction } from '../../cmd/zg-chain/core/types.ts'
import { engineOptions } from '../../cmd/zg-chain/open.ts'
import { systemClock } from '../../lib/adapters/clock.ts'
import { bigToBytes, concat } from '../../lib/base/bytes.ts'
import { messageOf } from '../../lib/base/errors.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { signTransaction } from '../../lib/clients/sign.ts'
import { encodeRlp } from '../../lib/codec/rlp.ts'
import { SYSTEM_CONTRACTS } from '../../lib/contracts/system-contracts.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { addressOf, sign } from '../../lib/crypto/secp256k1.ts'
import { evmAddon } from '../../lib/evm/native.ts'
import { type EthereumjsOptions, openEthereumjs } from './engine.ts'
import { memoryKv } from './memory.ts'
import { type Dice, dice, program } from './programs.ts'

const CHAIN_ID = 31337
const KEYS = [1, 2, 3, 4].map(n => bigToBytes(BigInt(n), 32))
const SENDERS = KEYS.map(addressOf)
const CONTRACTS = 12
const BLOCKS = 6
const TRANSACTIONS = 12
const CALLS = 4

export interface Differences {
  executions: number
  blocks: number
  /** What differs, with all that is needed to see it again. */
  found: string[]
}

export interface DifferentialOptions {
  seed: number
  /** Transactions and calls at least. */
  executions: number
  /** Ends at so many differences; default 1. */
  stopAfter?: number
  /** Constants of the second implementation to be wrong: the test must notice. */
  wrongParams?: EthereumjsOptions['wrongParams']
  progress?(d: Differences): void
}

/** Runs worlds until enough was executed. */
export async function differential(opts: DifferentialOptions): Promise<Differences> {
  const out: Differences = { executions: 0, blocks: 0, found: [] }
  const base = await mkdtemp(join(tmpdir(), 'zg-differential-'))
  try {
    for (let n = 0; out.executions < opts.executions && out.found.length < (opts.stopAfter ?? 1); n++) {
      await world(opts, n, join(base, `${n}`), out)
      await rm(join(base, `${n}`), { recursive: true, force: true })
      opts.progress?.(out)
    }
  } finally {
    await rm(base, { recursive: true, force: true })
  }
  return out
}

async function world(opts: DifferentialOptions, n: number, dir: string, out: Differences): Promise<void> {
  const seed = (opts.seed + n * 7919) >>> 0
  const d = dice(seed)
  const targets = Array.from({ length: CONTRACTS }, (_, i) => bigToBytes(BigInt(0xc0de00 + i), 20))
  const genesis = genesisOf(d, targets)
  const hashes = new Map<number, Uint8Array>()
  const oracle = openEthereumjs({
    chainId: CHAIN_ID,
    kv: memoryKv(),
    clock: systemClock,
    blockHash: async number => hashes.get(number),
    ...(opts.wrongParams === undefined ? {} : { wrongParams: opts.wrongParams })
  })
  const native = await evmAddon().open(
    engineOptions({ dir, genesis, dev: false, kept: false, cacheBytes: 32 * 1024 * 1024 })
  )
  const differs = (what: string) => void out.found.push(`seed ${opts.seed} world ${n}: ${what}`)
  try {
    let head: BlockHeader = decodeHeader(native.head().header)
    const root = await oracle.genesis(genesis.alloc)
    if (toHex(root) !== toHex(head.stateRoot)) return differs('genesis root')
    hashes.set(0, head.hash)
    const nonces = new Map<number, bigint>()
    for (let b = 0; b < BLOCKS; b++) {
      const transactions = Array.from({ length: TRANSACTIONS }, () => transaction(d, targets, nonces))
      const built = await oracle.buildPayload(
        { stateRoot: head.stateRoot, header: head },
        {
          timestamp: head.timestamp + d.below(3),
          prevRandao: d.bytes(32),
          suggestedFeeRecipient: d.below(4) === 0 ? targets[0]! : new Uint8Array(20).fill(9),
          parentBeaconBlockRoot: d.bytes(32),
          gasLimit: head.gasLimit
        },
        transactions
      )
      const { block } = built
      out.blocks++
      out.executions += block.transactions.length
      let hash: Uint8Array
      try {
        hash = await native.newPayload(block.raw)
      } catch (err) {
        return differs(`block ${b + 1} is refused: ${messageOf(err)}\n${toHex(block.raw)}`)
      }
      if (toHex(hash) !== toHex(block.header.hash)) return differs(`hash of block ${b + 1}`)
      await native.commit(hash)
      await oracle.forkchoiceUpdated(block.header.hash)
      head = block.header
      hashes.set(head.number, head.hash)
      // A refused one leaves a gap behind it.
      for (const [i, from] of SENDERS.entries()) nonces.set(i, native.account(from, undefined)?.nonce ?? 0n)

      for (let c = 0; c < CALLS; c++) {
        const request = callOf(d, targets)
        const [want, have] = [
          await oracle.call(request, callAt(head), { gasCap: 1_000_000n, timeoutMs: 60_000 }),
          decodeCallResult(await native.call(encodeCall(request), undefined, false, {}))
        ]
        out.executions++
        const [a, z] = [shown(want), shown(have)]
        if (a !== z)
          return differs(`call ${c} after block ${b + 1}: ${a} against native ${z}\n${JSON.stringify(plain(request))}`)
      }
    }
  } finally {
    await native.close()
    await oracle.close()
  }
}

/** Outcome of a call in words that both have; refusals have words of their own. */
function shown(r: CallResult): string {
  const kind = r.error?.kind === 'revert' ? 'revert' : r.error === undefined ? 'ok' : 'failed'
  const logs =
    r.error === undefined ? r.logs.map(l => [toHex(l.address), ...l.topics.map(toHex), toHex(l.data)].join()) : []
  return `${kind} gas ${r.gasUsed} output ${toHex(r.returnData)} logs ${logs.join(';')}`
}

function plain(c: CallRequest): object {
  return {
    from: toHex(c.from),
    to: c.to === null ? null : toHex(c.to),
    gas: `${c.gas}`,
    value: `${c.value}`,
    data: toHex(c.data)
  }
}

function genesisOf(d: Dice, targets: readonly Uint8Array[]): Genesis {
  const account = (address: Uint8Array, balance: bigint, code: Uint8Array = new Uint8Array(0)) => ({
    address,
    balance,
    nonce: code.length === 0 ? 0n : 1n,
    code,
    storage: [] as [Uint8Array, Uint8Array][]
  })
  return {
    ...GENESIS_DEFAULTS,
    chainId: CHAIN_ID,
    timestamp: 1_700_000_000,
    alloc: [
      ...SENDERS.map(a => account(a, 10n ** 21n)),
      ...Object.values(SYSTEM_CONTRACTS).map(s => account(fromHex(s.address), 0n, fromHex(s.code))),
      ...targets.map(t => {
        const made = account(t, BigInt(d.below(1000)), program(d, targets))
        for (let s = 0; s < 4; s++) {
          if (d.below(2) === 0)
            made.storage.push([bigToBytes(BigInt(s), 32), bigToBytes(BigInt(1 + d.below(1000)), 32)])
        }
        return made
      })
    ]
  }
}

function callData(d: Dice): Uint8Array {
  return d.below(2) === 0 ? new Uint8Array(d.below(200)) : d.bytes(d.below(200))
}

function callOf(d: Dice, targets: readonly Uint8Array[]): CallRequest {
  return {
    from: SENDERS[d.below(SENDERS.length)]!,
    to: targets[d.below(targets.length)]!,
    gas: BigInt(30_000 + d.below(150_000)),
    gasPrice: 0n,
    value: BigInt(d.below(2)),
    data: callData(d)
  }
}

function callAt(head: BlockHeader) {
  return {
    parent: { stateRoot: head.stateRoot, header: head },
    block: {
      number: head.number,
      timestamp: head.timestamp,
      gasLimit: head.gasLimit,
      beneficiary: head.beneficiary,
      prevRandao: head.prevRandao,
      baseFeePerGas: head.baseFeePerGas ?? 0n,
      blobBaseFee: 1n
    }
  }
}

function transaction(d: Dice, targets: readonly Uint8Array[], nonces: Map<number, bigint>): Transaction {
  const who = d.below(SENDERS.length)
  const nonce = nonces.get(who) ?? 0n
  nonces.set(who, nonce + 1n)
  const type = [0, 1, 2, 2, 4][d.below(5)]!
  const price = 2_000_000_000n + BigInt(d.below(3)) * 1_000_000_000n
  const create = type !== 4 && d.below(6) === 0
  const accessList = Array.from({ length: type === 0 ? 0 : d.below(3) }, () => ({
    address: targets[d.below(targets.length)]!,
    storageKeys: Array.from({ length: d.below(3) }, () => bigToBytes(BigInt(d.below(4)), 32))
  }))
  const to = d.below(20) === 0 ? SENDERS[d.below(SENDERS.length)]! : targets[d.below(targets.length)]!
  const raw = signTransaction(
    {
      type,
      chainId: BigInt(CHAIN_ID),
      nonce,
      ...(type < 2
        ? { gasPrice: price }
        : { maxFeePerGas: price, maxPriorityFeePerGas: BigInt(d.below(2_000_000_000)) }),
      gasLimit: BigInt(60_000 + d.below(180_000)),
      to: create ? null : to,
      value: BigInt(d.below(3)),
      data: create ? program(d, targets) : callData(d),
      ...(type === 0 ? {} : { accessList }),
      ...(type === 4 ? { authorizationList: [authorization(d, targets, nonces)] } : {})
    },
    KEYS[who]!
  )
  return decodeTransaction(raw, { from: SENDERS[who]! })
}

/** Sometimes valid: any chain or this one, the right nonce or another. */
function authorization(d: Dice, targets: readonly Uint8Array[], nonces: Map<number, bigint>) {
  const who = d.below(SENDERS.length)
  const chainId = [0n, BigInt(CHAIN_ID), 5n][d.below(3)]!
  const address = d.below(4) === 0 ? new Uint8Array(20) : targets[d.below(targets.length)]!
  const nonce = (nonces.get(who) ?? 0n) + BigInt(d.below(3) === 0 ? 1 : 0)
  const digest = keccak256(concat(Uint8Array.of(5), encodeRlp([chainId, address, nonce])))
  const { r, s, yParity } = sign(digest, KEYS[who]!)
  return { chainId, address, nonce, yParity, r, s }
}
