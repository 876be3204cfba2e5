/**
 * A chain of one state for contract tests: the genesis of lib/contracts in an EthereumJS EVM, calls instead of transactions, blocks by
 * counting. Block n has the hash keccak(n). The EVM runs in a worker thread (contract-chain-worker.ts says why); operations on one
 * chain must be awaited one after the other.
 */
import { Worker } from 'node:worker_threads'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { Interface, type InterfaceAbi, type Result } from 'ethers'
import { bigToBytes } from '../../lib/base/bytes.ts'
import { type Hex, toHex } from '../../lib/base/hex.ts'
import { contractAddresses } from '../../lib/contracts/addresses.ts'
import { flowAbi } from '../../lib/contracts/generated/abi.ts'
import { type AllocOptions, DEVNET_STORAGE, type MineParams, type StorageParams } from '../../lib/contracts/genesis.ts'

export interface StartOptions {
  chainId: number
  storage?: Partial<StorageParams>
  mine?: Partial<MineParams>
  /** Signers of data availability, their epochs and the price of a blob. */
  da?: Pick<AllocOptions, 'daSigners' | 'daEpochBlocks' | 'blobPriceWei'>
}

export interface Call {
  from: string
  to: string
  value?: bigint
  data?: string
  /** Limit, 30 million by default. */
  gas?: bigint
}

export interface Outcome {
  ok: boolean
  /** Gas a transaction would be charged, intrinsic gas and refunds included. */
  gas: bigint
  data: Hex
  logs: { address: Hex; topics: Hex[]; data: Hex }[]
  /** Revert string, or name and arguments of a custom error, or the EVM's word. */
  error: string
}

/** Ten accounts; the first owns everything. */
export const ACCOUNTS = Array.from({ length: 10 }, (_, i) => keccak_256(Uint8Array.of(i)).slice(12))
export const account = (i: number): Hex => toHex(ACCOUNTS[i]!)

export class TestChain {
  number = 1
  timestamp = 1_700_000_000
  private readonly id: number
  private constructor(id: number) {
    this.id = id
  }

  static async start(opts: Partial<StartOptions> = {}): Promise<TestChain> {
    const chain = new TestChain(nextChain++)
    await chain.ask('start', { chainId: 31337, ...opts, accounts: ACCOUNTS })
    return chain
  }

  /** Lets `count` blocks of one second pass. */
  async mine(count = 1): Promise<void> {
    await this.ask('mine', count)
    this.number += count
    this.timestamp += count
  }

  /** Jumps without making the blocks between: their hashes stay unknown to EIP-2935. */
  async skip(by: { blocks?: number; seconds?: number }): Promise<void> {
    const { blocks = 0, seconds = 0 } = by
    await this.ask('skip', blocks, seconds)
    this.number += blocks
    this.timestamp += seconds
  }

  /** Runs a call from `from` (account 0 by default) and keeps what it changes, as a transaction would. */
  send(call: Omit<Call, 'from'> & { from?: string }): Promise<Outcome> {
    return this.ask('send', { from: account(0), ...call }) as Promise<Outcome>
  }

  /** Reads without keeping changes. */
  call(call: Omit<Call, 'from'> & { from?: string }): Promise<Outcome> {
    return this.ask('call', { from: account(0), ...call }) as Promise<Outcome>
  }

  balance(address: string): Promise<bigint> {
    return this.ask('balance', address) as Promise<bigint>
  }

  async setBalance(address: string, balance: bigint): Promise<void> {
    await this.ask('setBalance', address, balance)
  }

  async setCode(address: string, code: Hex): Promise<void> {
    await this.ask('setCode', address, code)
  }

  /** One slot, 32 bytes. */
  storage(address: string, slot: Uint8Array): Promise<Hex> {
    return this.ask('storage', address, slot) as Promise<Hex>
  }

  contract(address: string, abi: readonly object[]): TestContract {
    return new TestContract(this, address, new Interface(abi as InterfaceAbi))
  }

  private ask(op: string, ...args: unknown[]): Promise<unknown> {
    const id = nextId++
    const answer = new Promise<unknown>((resolve, reject) => waiting.set(id, { resolve, reject }))
    evmThread().postMessage({ id, chain: this.id, op, args })
    return answer
  }
}

/** A contract by its ABI: `send` for changes, `read` for answers. */
export class TestContract {
  readonly address: string
  readonly abi: Interface
  private readonly chain: TestChain
  constructor(chain: TestChain, address: string, abi: Interface) {
    this.chain = chain
    this.address = address
    this.abi = abi
  }

  async send(
    name: string,
    args: unknown[] = [],
    opts: { from?: string; value?: bigint; gas?: bigint } = {}
  ): Promise<Outcome> {
    const data = this.abi.encodeFunctionData(name, args)
    const outcome = await this.chain.send({ to: this.address, data, ...opts })
    return { ...outcome, error: this.named(outcome.error) }
  }

  /** The decoded answer; throws when the call reverts. */
  async read(name: string, args: unknown[] = []): Promise<Result> {
    const data = this.abi.encodeFunctionData(name, args)
    const outcome = await this.chain.call({ to: this.address, data })
    if (!outcome.ok) throw new Error(this.named(outcome.error))
    return this.abi.decodeFunctionResult(name, outcome.data)
  }

  private named(error: string): string {
    if (!error.startsWith('0x') || error === '0x') return error
    const parsed = this.abi.parseError(error)
    return parsed === null ? error : `${parsed.name}(${parsed.args.map(String).join(', ')})`
  }
}

/** keccak of the number: distinct and known in advance. */
export function blockHash(number: number): Uint8Array {
  return keccak_256(bigToBytes(BigInt(number), 32))
}

/** Ends the thread; without it the process would not exit. */
export async function stop(): Promise<void> {
  await worker?.terminate()
}

let worker: Worker | undefined
let nextChain = 0
let nextId = 0
const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (err: Error) => void }>()

function evmThread(): Worker {
  if (worker === undefined) {
    // Node 20 gives a new thread no TypeScript of its own, so it registers tsx first.
    const tsx = import.meta.resolve('tsx/esm/api')
    const main = new URL('./contract-chain-worker.ts', import.meta.url).href
    const boot = `import('${tsx}').then(tsx => { tsx.register(); return import('${main}') })`
    worker = new Worker(boot, { eval: true })
    worker.on('message', ({ id, value, error }) => {
      const { resolve, reject } = waiting.get(id)!
      waiting.delete(id)
      if (error === undefined) resolve(value)
      else reject(new Error(error))
    })
    worker.on('error', err => {
      for (const { reject } of waiting.values()) reject(err instanceof Error ? err : new Error(String(err)))
    })
  }
  return worker
}

// Submissions ----------------------------------------------------------------------------------------------------------------------

export const AT = contractAddresses(31337)
export const PRICE = DEVNET_STORAGE.pricePerSectorWei
export const SUBMIT_OLD = 'submit((uint256,bytes,(bytes32,uint256)[]))'
export const SUBMIT_NEW = 'submit(((uint256,bytes,(bytes32,uint256)[]),address))'
export const BATCH_OLD = 'batchSubmit((uint256,bytes,(bytes32,uint256)[])[])'
export const BATCH_NEW = 'batchSubmit(((uint256,bytes,(bytes32,uint256)[]),address)[])'
export const SUBMIT_TOPIC = '0x167ce04d2aa1981994d3a31695da0d785373335b1078cec239a1a3a2c7675555'
export const NEW_EPOCH_TOPIC = '0xbc8a3fd82465d43f1709e44ed882f7e1af0147274196ef1ec009f5d52ff4e993'

export interface Node {
  root: Hex
  height: number
}
export interface File {
  length: bigint
  tags: Hex
  nodes: Node[]
}

export const tuple = (f: File) => [f.length, f.tags, f.nodes.map(n => [n.root, n.height])]
export const sectorsOf = (f: File) => f.nodes.reduce((sum, n) => sum + 2n ** BigInt(n.height), 0n)
export const rootOf = (seed: number) => toHex(keccak_256(bigToBytes(BigInt(seed), 32)))

/** A file that needs exactly these subtrees: by default as long as they hold. */
export function file(heights: number[], seed = 0, length?: bigint): File {
  const nodes = heights.map((height, i) => ({ root: rootOf(seed * 8 + i), height }))
  const whole = { length: 0n, tags: '0x' as Hex, nodes }
  return { ...whole, length: length ?? sectorsOf(whole) * 256n }
}

export async function flowOf(opts: Parameters<typeof TestChain.start>[0] = {}) {
  const chain = await TestChain.start(opts)
  const flow = chain.contract(AT.flow, flowAbi)
  const submit = (f: File, value?: bigint) =>
    flow.send(SUBMIT_OLD, [tuple(f)], { from: account(1), value: value ?? sectorsOf(f) * PRICE })
  return { chain, flow, submit }
}
