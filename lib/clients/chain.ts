/**
 * The chain as the other tools call it: JSON-RPC with errors in the family's own words, receipts, log pages and new heads.
 * Light: no wallet library is loaded unless `wallet` is called.
 */
import type { JsonRpcProvider, Wallet } from 'ethers'
import { RpcClient, type RpcClientOptions } from '../adapters/jsonrpc/client.ts'
import { RPC, RpcError } from '../adapters/jsonrpc/types.ts'
import { ZgError } from '../base/errors.ts'
import { type Hex, toHex, toQuantity } from '../base/hex.ts'
import { formatAmount } from '../base/units.ts'
import type { Account } from './accounts.ts'
import type { UnsignedTransaction } from './sign.ts'

/** A receipt as the RPC writes it. */
export interface RpcReceipt {
  transactionHash: Hex
  transactionIndex: Hex
  blockHash: Hex
  blockNumber: Hex
  from: Hex
  to: Hex | null
  contractAddress: Hex | null
  gasUsed: Hex
  effectiveGasPrice: Hex
  status: Hex
  logs: RpcLog[]
  [field: string]: unknown
}

export interface RpcLog {
  address: Hex
  topics: Hex[]
  data: Hex
  blockNumber: Hex
  blockHash: Hex
  transactionHash: Hex
  transactionIndex: Hex
  logIndex: Hex
  removed: boolean
  [field: string]: unknown
}

/** What `eth_getLogs` takes, in numbers. */
export interface LogQuery {
  address?: string | string[]
  topics?: (string | string[] | null)[]
  fromBlock: number
  toBlock: number
}

export interface ChainClientOptions {
  signal?: AbortSignal | undefined
  timeoutMs?: number
}

/** A transaction as its sender thinks of it. */
export interface Message {
  /** Null creates a contract. */
  to: Uint8Array | null
  /** Neuron. */
  value?: bigint
  data?: Uint8Array
  gasLimit?: bigint
}

/** All fields settled, and what the fee will be if the base fee stays (neuron). */
export type PreparedTransaction = UnsignedTransaction & { likelyFee: bigint }

/** How often a receipt or a head is asked for when nothing pushes it. */
const POLL_MS = 100
/** Blocks of one log page; a node that allows fewer says so and the page shrinks. */
const PAGE_BLOCKS = 5_000
const RECEIPT_TIMEOUT_MS = 60_000

export class ChainClient {
  readonly url: string
  readonly #rpc: RpcClient
  readonly #signal: AbortSignal | undefined
  #provider: JsonRpcProvider | undefined

  constructor(url: string, opts: ChainClientOptions = {}) {
    this.url = url
    this.#signal = opts.signal
    this.#rpc = new RpcClient(url, {
      what: 'chain',
      hint: "run 'zg-devnet up', or give '--rpc-url URL'",
      ...(opts.signal === undefined ? {} : { signal: opts.signal }),
      ...(opts.timeoutMs === undefined ? {} : { timeoutMs: opts.timeoutMs })
    })
  }

  /**
   * One call. The node's refusals become ZgErrors with the RpcError as cause.
   * @throws {ZgError} ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_PROTOCOL, ERR_STOPPED, ERR_FUNDS, ERR_REJECTED, ERR_BAD_INPUT.
   */
  async call<T = unknown>(method: string, params: readonly unknown[] = [], opts: RpcClientOptions = {}): Promise<T> {
    try {
      return await this.#rpc.call<T>(method, params, opts)
    } catch (err) {
      throw chainError(err)
    }
  }

  /** Several calls in one request; an entry that failed is its ZgError. */
  async batch<T = unknown>(
    calls: readonly { method: string; params?: readonly unknown[] }[]
  ): Promise<(T | ZgError)[]> {
    const answers = await this.#rpc.batch<T>(calls)
    return answers.map(a => (a instanceof RpcError ? (chainError(a) as ZgError) : a))
  }

  async chainId(): Promise<number> {
    return toNumber(await this.call('eth_chainId'))
  }

  async blockNumber(): Promise<number> {
    return toNumber(await this.call('eth_blockNumber'))
  }

  /** Neuron. */
  async balance(address: Uint8Array): Promise<bigint> {
    return BigInt(await this.call<Hex>('eth_getBalance', [toHex(address), 'latest']))
  }

  /** True when there is code at the address. */
  async hasCode(address: string): Promise<boolean> {
    return (await this.call<Hex>('eth_getCode', [address, 'latest'])) !== '0x'
  }

  /**
   * The receipt of a transaction, once it is in a block. A status of 0 is an answer, not an error.
   * @throws {ZgError} ERR_TIMEOUT after `timeoutMs` (60 s), ERR_STOPPED.
   */
  async waitReceipt(hash: string, opts: { timeoutMs?: number } = {}): Promise<RpcReceipt> {
    const timeoutMs = opts.timeoutMs ?? RECEIPT_TIMEOUT_MS
    const until = performance.now() + timeoutMs
    for (;;) {
      const receipt = await this.call<RpcReceipt | null>('eth_getTransactionReceipt', [hash])
      if (receipt !== null) return receipt
      if (performance.now() >= until) {
        throw new ZgError('ERR_TIMEOUT', `transaction ${hash} is in no block after ${Math.round(timeoutMs / 1000)} s`, {
          hint: `run 'zg-chain tx ${hash}' later`
        })
      }
      await pause(POLL_MS, this.#signal)
    }
  }

  /**
   * Settles nonce, gas and fees of a message: EIP-1559, twice the base fee plus the usual tip. Calls with data get a fifth more
   * gas than estimated, since the state they were estimated on may move before they run.
   * @throws {ZgError} ERR_FUNDS, ERR_REJECTED with the revert's reason.
   */
  async prepare(from: Uint8Array, message: Message): Promise<PreparedTransaction> {
    const data = message.data ?? new Uint8Array(0)
    const value = message.value ?? 0n
    const request = {
      from: toHex(from),
      ...(message.to === null ? {} : { to: toHex(message.to) }),
      value: toQuantity(value),
      input: toHex(data)
    }
    const [chainId, nonce, tip, block, estimate] = await Promise.all([
      this.chainId(),
      this.call<Hex>('eth_getTransactionCount', [request.from, 'pending']),
      this.call<Hex>('eth_maxPriorityFeePerGas'),
      this.call<RpcHeader>('eth_getBlockByNumber', ['latest', false]),
      message.gasLimit ?? this.call<Hex>('eth_estimateGas', [request]).then(BigInt)
    ])
    const maxPriorityFeePerGas = BigInt(tip)
    return {
      type: 2,
      chainId: BigInt(chainId),
      nonce: BigInt(nonce),
      maxPriorityFeePerGas,
      maxFeePerGas: 2n * BigInt(block.baseFeePerGas) + maxPriorityFeePerGas,
      gasLimit: message.gasLimit !== undefined || data.length === 0 ? estimate : estimate + estimate / 5n,
      to: message.to,
      value,
      data,
      likelyFee: estimate * (BigInt(block.baseFeePerGas) + maxPriorityFeePerGas)
    }
  }

  /** Signs and sends; the answer is the hash, before any block has the transaction. @throws {ZgError} as {@link prepare}. */
  async send(account: Account, message: Message): Promise<Hex> {
    return this.sendPrepared(account, await this.prepare(account.address, message))
  }

  async sendPrepared(account: Account, tx: PreparedTransaction): Promise<Hex> {
    const { signTransaction } = await import('./sign.ts')
    const { likelyFee, ...unsigned } = tx
    return this.call<Hex>('eth_sendRawTransaction', [toHex(signTransaction(unsigned, await account.privateKey()))])
  }

  /**
   * Logs in order, page by page, so that memory does not grow with the range. A page the node finds too large is halved.
   */
  async *getLogs(query: LogQuery): AsyncGenerator<RpcLog[]> {
    let from = query.fromBlock
    let span = PAGE_BLOCKS
    while (from <= query.toBlock) {
      const to = Math.min(from + span - 1, query.toBlock)
      let page: RpcLog[]
      try {
        page = await this.#rpc.call<RpcLog[]>('eth_getLogs', [
          {
            ...(query.address === undefined ? {} : { address: query.address }),
            ...(query.topics === undefined ? {} : { topics: query.topics }),
            fromBlock: toQuantity(from),
            toBlock: toQuantity(to)
          }
        ])
      } catch (err) {
        if (err instanceof RpcError && err.code === RPC.limit && to > from) {
          span = Math.max(1, Math.floor((to - from + 1) / 2))
          continue
        }
        throw chainError(err)
      }
      if (page.length > 0) yield page
      from = to + 1
    }
  }

  /**
   * Calls `onHead` for each new block, in order, none skipped, until the answer is called. Comes over WebSocket; while that
   * is down, by polling every 100 ms, so a node's restart costs nothing but time. After a development node went back in time
   * its new blocks come again under their old numbers.
   * @param from - the first block to tell about; the next one when absent.
   */
  subscribeHeads(
    onHead: (header: RpcHeader) => void | Promise<void>,
    opts: { from?: number; onState?: (up: boolean, err: unknown) => void } = {}
  ): () => void {
    let stop: (() => void) | undefined
    let stopped = false
    void import('./heads.ts').then(({ followHeads }) => {
      if (!stopped) stop = followHeads(this, onHead, opts)
    })
    return () => {
      stopped = true
      stop?.()
    }
  }

  /** An ethers wallet for an account of this chain. The provider is shared; `close` ends it. */
  async wallet(account: Account): Promise<Wallet> {
    const [{ Wallet }, provider] = await Promise.all([import('ethers'), this.provider()])
    const key = await account.privateKey()
    return new Wallet(toHex(key), provider)
  }

  /** An ethers provider of this node: network fixed, polling every 100 ms. */
  async provider(): Promise<JsonRpcProvider> {
    if (this.#provider === undefined) {
      const [{ JsonRpcProvider, Network }, chainId] = await Promise.all([import('ethers'), this.chainId()])
      const network = Network.from(chainId)
      this.#provider ??= new JsonRpcProvider(this.url, network, { staticNetwork: network, pollingInterval: POLL_MS })
    }
    return this.#provider
  }

  /** Ends the ethers provider, if there is one. */
  close(): void {
    this.#provider?.destroy()
    this.#provider = undefined
  }
}

/** A header as `newHeads` and `eth_getHeaderByNumber` give it. */
export interface RpcHeader {
  hash: Hex
  parentHash: Hex
  number: Hex
  timestamp: Hex
  gasUsed: Hex
  gasLimit: Hex
  baseFeePerGas: Hex
  [field: string]: unknown
}

/** A quantity of the RPC as a number. @throws {ZgError} ERR_PROTOCOL when it is none. */
export function toNumber(value: unknown): number {
  const n = typeof value === 'string' && /^0x[0-9a-f]{1,14}$/i.test(value) ? Number(value) : Number.NaN
  if (!Number.isSafeInteger(n))
    throw new ZgError('ERR_PROTOCOL', `chain answered '${String(value).slice(0, 40)}', not a number`)
  return n
}

/** What the node refused, in the family's codes. Errors that are not the node's pass unchanged. */
export function chainError(err: unknown): unknown {
  if (!(err instanceof RpcError)) return err
  const cause = err
  const text = err.message
  if (/^insufficient funds/.test(text)) return fundsError(text, cause)
  switch (err.code) {
    case RPC.reverted:
      return new ZgError('ERR_REJECTED', text, { cause })
    case RPC.method:
      return new ZgError('ERR_PROTOCOL', `chain: ${text}`, { cause })
    case RPC.params:
      return new ZgError('ERR_BAD_INPUT', text, { cause })
    case RPC.internal:
      return new ZgError('ERR_PROTOCOL', `chain failed inside: ${text}`, { cause })
    case RPC.unavailable:
      return new ZgError('ERR_UNAVAILABLE', text, { cause })
    default:
      return new ZgError('ERR_REJECTED', text, { cause })
  }
}

function fundsError(text: string, cause: RpcError): ZgError {
  const m = /address (0x[0-9a-fA-F]{40}) have ([0-9]+) want ([0-9]+)/.exec(text)
  if (m === null) return new ZgError('ERR_FUNDS', text, { cause, hint: "run 'zg-devnet fund ADDRESS'" })
  return notEnough(m[1]!, BigInt(m[2]!), BigInt(m[3]!), cause)
}

/** ERR_FUNDS with what there is and what it takes, in neuron. */
export function notEnough(address: string, has: bigint, needs: bigint, cause?: unknown): ZgError {
  return new ZgError('ERR_FUNDS', `account ${address} has ${formatAmount(has)} 0G, needs ${formatAmount(needs)} 0G`, {
    hint: `run 'zg-devnet fund ${address}'`,
    cause
  })
}

/** Waits, or ends with ERR_STOPPED when the signal fires. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer)
      reject(new ZgError('ERR_STOPPED', 'stopped'))
    }
    if (signal?.aborted) {
      reject(new ZgError('ERR_STOPPED', 'stopped'))
      return
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
