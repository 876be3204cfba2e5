/**
 * The thread behind contract-chain.ts. tap follows every promise of its own thread, and the EVM makes one an instruction: here the same
 * thousand submissions take a tenth of the time.
 *
 * A message is {id, chain, op, args}; the answer {id, value} or {id, error}. Chains are numbered by whoever asks.
 */
import { parentPort } from 'node:worker_threads'
import { type Common, createCustomCommon, Hardfork, Mainnet } from '@ethereumjs/common'
import { createEVM, type EVM } from '@ethereumjs/evm'
import { SimpleStateManager } from '@ethereumjs/statemanager'
import { Account, Address, createAddressFromString, createZeroAddress } from '@ethereumjs/util'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { AbiCoder } from 'ethers'
import { bigToBytes, padLeft } from '../../lib/base/bytes.ts'
import { fromHex, type Hex, toHex } from '../../lib/base/hex.ts'
import { type AllocEntry, buildAlloc, type StorageParams } from '../../lib/contracts/genesis.ts'
import { SYSTEM_CONTRACTS } from '../../lib/contracts/system-contracts.ts'
import { hostPrecompiles } from '../oracle/precompiles.ts'
import type { Call, Outcome, StartOptions } from './contract-chain.ts'

/**
 * A state that undoes instead of copying: the plain SimpleStateManager copies every map at every call, which after a thousand submissions
 * is most of the time.
 */
class UndoState extends SimpleStateManager {
  private readonly undo: (() => void)[] = []
  private readonly marks: number[] = []

  override async checkpoint(): Promise<void> {
    this.marks.push(this.undo.length)
  }
  override async commit(): Promise<void> {
    this.marks.pop()
    if (this.marks.length === 0) this.undo.length = 0
  }
  override async revert(): Promise<void> {
    const mark = this.marks.pop() ?? 0
    while (this.undo.length > mark) this.undo.pop()!()
  }
  /** A copy, since the EVM changes accounts in place before it puts them back. */
  override async getAccount(address: Address): Promise<Account | undefined> {
    const a = this.topAccountStack().get(address.toString())
    return a === undefined ? undefined : new Account(a.nonce, a.balance, a.storageRoot, a.codeHash)
  }
  override async putAccount(address: Address, account?: Account): Promise<void> {
    this.set(this.topAccountStack(), address.toString(), account)
  }
  override async deleteAccount(address: Address): Promise<void> {
    this.set(this.topAccountStack(), address.toString(), undefined)
  }
  override async putCode(address: Address, code: Uint8Array): Promise<void> {
    this.set(this.topCodeStack(), address.toString(), code)
    await this.modifyAccountFields(address, { codeHash: keccak_256(code) })
  }
  override async putStorage(address: Address, key: Uint8Array, value: Uint8Array): Promise<void> {
    this.set(this.topStorageStack(), `${address.toString()}_${toHex(key)}`, value)
  }
  override async getStorage(address: Address, key: Uint8Array): Promise<Uint8Array> {
    return this.topStorageStack().get(`${address.toString()}_${toHex(key)}`) ?? new Uint8Array(0)
  }

  private set<T>(map: Map<string, T>, key: string, value: T): void {
    const had = map.has(key)
    const old = map.get(key)
    this.undo.push(() => (had ? map.set(key, old as T) : map.delete(key)))
    map.set(key, value)
  }
}

class Chain {
  number = 1
  timestamp = 1_700_000_000
  private evm!: EVM
  private readonly state: UndoState
  constructor(state: UndoState) {
    this.state = state
  }

  /** The EVM comes after the genesis, which says whether there are precompiles of ours. */
  async begin(common: Common): Promise<void> {
    const blockchain = {
      getBlock: async (n: number) => ({ hash: () => blockHash(n) }),
      putBlock: async () => {},
      shallowCopy: () => blockchain
    }
    const precompiles = await hostPrecompiles({
      common,
      state: this.state,
      blockNumber: () => BigInt(this.number),
      blockHash: async n => blockHash(n)
    })
    this.evm = await createEVM({
      common,
      stateManager: this.state,
      blockchain,
      customPrecompiles: precompiles.custom
    })
    this.evm.events!.on('beforeMessage', (message, done) => {
      precompiles.heard(message)
      done?.()
    })
  }

  async load(alloc: AllocEntry[]): Promise<void> {
    for (const { address, balance, nonce, code, storage } of alloc) {
      const at = new Address(address)
      await this.state.putAccount(at, new Account(nonce, balance))
      if (code.length > 0) await this.state.putCode(at, code)
      for (const [slot, value] of storage) await this.state.putStorage(at, slot, stripped(value))
    }
  }

  /** Blocks of one second; each tells the EIP-2935 contract its parent's hash by the system call a chain would make. */
  async mine(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      this.number++
      this.timestamp++
      await this.evm.runCall({
        to: createAddressFromString(SYSTEM_CONTRACTS.blockHashes.address),
        caller: createAddressFromString(`0x${'f'.repeat(39)}e`),
        data: blockHash(this.number - 1),
        gasLimit: 30_000_000n,
        skipNonceIncrement: true,
        block: this.block()
      })
    }
    await this.endTransaction()
  }

  async send(opts: Call): Promise<Outcome> {
    const data = fromHex(opts.data ?? '0x')
    let intrinsic = 21_000n
    for (const byte of data) intrinsic += byte === 0 ? 4n : 16n
    const to = createAddressFromString(opts.to)
    const caller = createAddressFromString(opts.from)
    // As in a transaction, its two ends are warm.
    this.evm.journal.addAlwaysWarmAddress(to.toString())
    this.evm.journal.addAlwaysWarmAddress(caller.toString())
    const { execResult } = await this.evm.runCall({
      to,
      caller,
      value: opts.value ?? 0n,
      data,
      gasLimit: (opts.gas ?? 30_000_000n) - intrinsic,
      block: this.block()
    })
    await this.endTransaction()
    const used = intrinsic + execResult.executionGasUsed
    const refund = execResult.gasRefund ?? 0n
    const thrown = execResult.exceptionError?.error
    return {
      ok: thrown === undefined,
      gas: used - (refund < used / 5n ? refund : used / 5n),
      data: toHex(execResult.returnValue),
      logs: (thrown === undefined ? (execResult.logs ?? []) : []).map(([address, topics, log]) => ({
        address: toHex(address),
        topics: topics.map(topic => toHex(topic)),
        data: toHex(log)
      })),
      error: thrown === undefined ? '' : errorText(execResult.returnValue, thrown)
    }
  }

  async call(opts: Call): Promise<Outcome> {
    await this.state.checkpoint()
    try {
      return await this.send(opts)
    } finally {
      await this.state.revert()
    }
  }

  async balance(address: string): Promise<bigint> {
    return (await this.state.getAccount(createAddressFromString(address)))?.balance ?? 0n
  }

  setBalance(address: string, balance: bigint): Promise<void> {
    return this.state.modifyAccountFields(createAddressFromString(address), { balance })
  }

  setCode(address: string, code: Hex): Promise<void> {
    return this.state.putCode(createAddressFromString(address), fromHex(code))
  }

  async storage(address: string, slot: Uint8Array): Promise<Hex> {
    return toHex(padLeft(await this.state.getStorage(createAddressFromString(address), slot), 32))
  }

  async skip(blocks: number, seconds: number): Promise<void> {
    this.number += blocks
    this.timestamp += seconds
  }

  private async endTransaction(): Promise<void> {
    await this.evm.journal.cleanup()
    this.state.originalStorageCache.clear()
  }

  private block() {
    return {
      header: {
        number: BigInt(this.number),
        coinbase: createZeroAddress(),
        timestamp: BigInt(this.timestamp),
        difficulty: 0n,
        prevRandao: new Uint8Array(32),
        gasLimit: 30_000_000n,
        baseFeePerGas: 7n,
        getBlobGasPrice: () => 1n
      }
    }
  }
}

async function start({
  chainId,
  accounts,
  storage,
  mine,
  da
}: StartOptions & { accounts: Uint8Array[] }): Promise<Chain> {
  const alloc = await buildAlloc({
    chainId,
    timestamp: 1_700_000_000,
    kind: 'network',
    accounts,
    storage: (storage ?? {}) as Partial<StorageParams>,
    mine: mine ?? {},
    ...da
  })
  const common = createCustomCommon({ chainId, name: 'test' }, Mainnet, { hardfork: Hardfork.Prague })
  const state = new UndoState({ common })
  const chain = new Chain(state)
  await chain.load(alloc)
  await chain.begin(common)
  return chain
}

function blockHash(number: number): Uint8Array {
  return keccak_256(bigToBytes(BigInt(number), 32))
}

function errorText(data: Uint8Array, word: string): string {
  const hex = toHex(data)
  if (hex.startsWith('0x08c379a0'))
    return String(AbiCoder.defaultAbiCoder().decode(['string'], `0x${hex.slice(10)}`)[0])
  return data.length > 0 ? hex : word
}

function stripped(value: Uint8Array): Uint8Array {
  const first = value.findIndex(byte => byte !== 0)
  return first < 0 ? new Uint8Array(0) : value.slice(first)
}

const chains = new Map<number, Promise<Chain>>()
const OPS = ['mine', 'send', 'call', 'balance', 'setBalance', 'setCode', 'skip', 'storage'] as const

parentPort!.on('message', async ({ id, chain, op, args }) => {
  try {
    if (op === 'start') {
      chains.set(chain, start(args[0]))
      await chains.get(chain)
      parentPort!.postMessage({ id })
      return
    }
    const target = await chains.get(chain)!
    if (!OPS.includes(op)) throw new Error(`unknown operation ${op}`)
    const value = await (target[op as (typeof OPS)[number]] as (...args: unknown[]) => Promise<unknown>)(...args)
    parentPort!.postMessage({ id, value })
  } catch (err) {
    parentPort!.postMessage({ id, error: err instanceof Error ? err.stack : String(err) })
  }
})
