/** The chain as its RPC sees it. `chain.ts` implements it; `rpc/` knows nothing else of the chain. */
import type { At, NativeChain } from '../../../lib/evm/types.ts'
import type {
  Account,
  Block,
  BlockHeader,
  BlockOverride,
  CallRequest,
  CallResult,
  PlacedLog,
  Receipt,
  StateOverride,
  StateReader,
  Transaction
} from './types.ts'

/** A block, resolved; `pending` is the block that would be built now (number + 1 on the head's state, pool nonces apart). */
export type BlockRef = { kind: 'block'; header: BlockHeader } | { kind: 'pending'; parent: BlockHeader }

export interface LogFilter {
  fromBlock: number
  toBlock: number
  /** Any of these; empty: all. */
  addresses: Uint8Array[]
  /** Position-wise alternatives; an empty list is a wildcard. */
  topics: Uint8Array[][]
  /** Stops beyond this many with ERR 'limit'. */
  limit: number
}

/** Refusals carry geth's words; tools match on them (chain.md 9.6). */
export class PoolRefusal extends Error {}

export interface Pool {
  /** @returns the hash; visible to `get` at once. @throws {PoolRefusal}. */
  add(raw: Uint8Array): Promise<Uint8Array>
  /** Development: from an impersonated account, without a signature check. */
  addImpersonated?(tx: Omit<Transaction, 'hash' | 'raw' | 'v' | 'r' | 's'>): Promise<Uint8Array>
  get(hash: Uint8Array): Transaction | undefined
  /** Next nonce after the sender's gapless pool transactions. */
  pendingNonce(address: Uint8Array): Promise<bigint>
  pendingNonceNow(address: Uint8Array): bigint
  /** Of all senders, or of one. */
  content(sender?: Uint8Array): { pending: Transaction[]; queued: Transaction[] }
  counts(): { pending: number; queued: number }
  remove(hash: Uint8Array): boolean
  clear(): void
}

export interface DevControls {
  /** Mines blocks now, with `timestamp` for the first when given. */
  mine(count: number, timestamp?: number): Promise<BlockHeader>
  snapshot(): Promise<number>
  /** False for an unknown id. Later snapshots are gone too. */
  revert(id: number): Promise<boolean>
  setNextTimestamp(seconds: number): void
  /** @returns the total offset in seconds. */
  increaseTime(seconds: number): number
  automine(): boolean
  setAutomine(on: boolean): void
  /** 0: none. */
  setInterval(ms: number): void
  setAccount(
    address: Uint8Array,
    change: Partial<Pick<Account, 'nonce' | 'balance'>> & { code?: Uint8Array }
  ): Promise<void>
  setStorage(address: Uint8Array, slot: Uint8Array, value: Uint8Array): Promise<void>
  setNextBaseFee(fee: bigint): void
  setCoinbase(address: Uint8Array): void
  setGasLimit(limit: bigint): void
  impersonate(address: Uint8Array, on: boolean): void
  isImpersonated(address: Uint8Array): boolean
  /** Back to genesis. */
  reset(): Promise<void>
}

export interface CallOptions {
  /** Keys are 0x addresses. */
  stateOverrides?: Map<string, StateOverride>
  blockOverride?: BlockOverride
  accessList?: boolean
  /** Name and JSON configuration; the result has `trace`. */
  tracer?: Tracer
  /** Of this call instead of LIMITS.ethCallMs. */
  timeoutMs?: number
}

export interface Tracer {
  name: string
  config: string
}

/** `block` and `receipts` are decoded when they are first read. */
export interface BlockEvent {
  readonly header: BlockHeader
  readonly block: Block
  readonly receipts: Receipt[]
  readonly removed: boolean
}

export interface Chain {
  readonly chainId: number
  readonly genesisHash: Uint8Array
  /** Well-known keys that `eth_sendTransaction` and `eth_sign…` may use; empty unless `--dev`. */
  readonly devAccounts: { address: Uint8Array; privateKey: Uint8Array }[]
  readonly dev: DevControls | undefined
  readonly pool: Pool
  /** The engine behind all of this, for what has no method here (whole states, payloads). core/records.ts reads its bytes. */
  readonly native: NativeChain
  head(): BlockHeader
  /** At once; the two that answer a promise are the same. */
  header(at: number | Uint8Array): BlockHeader | undefined
  headerByNumber(number: number): Promise<BlockHeader | undefined>
  headerByHash(hash: Uint8Array): Promise<BlockHeader | undefined>
  blockByHash(hash: Uint8Array): Promise<Block | undefined>
  /** The hashes of a block's transactions as the text of a JSON list, made off the loop; undefined when the block is not canonical. */
  transactionHashes(header: BlockHeader): Promise<string | undefined>
  receipts(hash: Uint8Array): Promise<Receipt[] | undefined>
  /** Both of a canonical block in one look. */
  stored(number: number): Promise<{ block: Block; receipts: Receipt[] } | undefined>
  /** Canonical place of a mined transaction. */
  locate(txHash: Uint8Array): Promise<{ blockHash: Uint8Array; blockNumber: number; index: number } | undefined>
  /** Hash of the mined transaction with this nonce. */
  bySenderAndNonce(sender: Uint8Array, nonce: bigint): Uint8Array | undefined
  /** From the index (address and topic → blocks), ordered by block then log index. */
  logs(filter: LogFilter): Promise<PlacedLog[]>
  /** The engine's name of a state. @throws {ZgError} ERR_NOT_FOUND for a block that was taken back. */
  at(ref: BlockRef): At
  state(at: BlockRef): StateReader
  call(request: CallRequest, at: BlockRef, opts?: CallOptions): Promise<CallResult>
  /** On this thread while it costs at most `gasBudget`; undefined: it would cost more. Overrides, access lists and tracers: use `call`. */
  callSync(request: CallRequest, at: BlockRef, gasBudget: number): CallResult | undefined
  /** geth's search (chain.md 9.4): `gasUsed` is the estimate. */
  estimateGas(request: CallRequest, at: BlockRef, opts?: CallOptions & { gasCap?: bigint }): Promise<CallResult>
  /** JSON: of one transaction, or a list of {txHash, result}. */
  traceBlock(number: number, index: number | undefined, tracer: Tracer, timeoutMs: number): Promise<string>
  /** A block given as RLP on the state of its parent. */
  traceRaw(block: Uint8Array, tracer: Tracer, timeoutMs: number): Promise<string>
  /** eth_simulateV1: rlp in, rlp out (lib/evm/types.ts). */
  simulate(request: Uint8Array, at: BlockRef, timeoutMs: number): Promise<Uint8Array>
  /** What a block override makes of the block a call runs in, complete. */
  environment(at: BlockRef, override?: BlockOverride): Required<BlockOverride>
  /** Base fee of the next block. */
  nextBaseFee(): bigint
  /** Gas limit of the next block. */
  nextGasLimit(): bigint
  /** After the block is readable everywhere, in order, none skipped. `removed` on evm_revert. Answers an unsubscribe. */
  onBlock(fn: (e: BlockEvent) => void): () => void
  /** The same moment without the block's body: costs nothing a transaction. */
  onHead(fn: (e: { header: BlockHeader; transactions: number; removed: boolean }) => void): () => void
  onPending(fn: (tx: Transaction) => void): () => void
}
