/** The chain as its RPC sees it. `chain.ts` implements it; `rpc/` knows nothing else of the chain. */
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
  content(): { pending: Transaction[]; queued: Transaction[] }
  counts(): { pending: number; queued: number }
  remove(hash: Uint8Array): boolean
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

export interface Chain {
  readonly chainId: number
  readonly genesisHash: Uint8Array
  /** Well-known keys that `eth_sendTransaction` and `eth_sign…` may use; empty unless `--dev`. */
  readonly devAccounts: { address: Uint8Array; privateKey: Uint8Array }[]
  readonly dev: DevControls | undefined
  readonly pool: Pool
  head(): BlockHeader
  headerByNumber(number: number): Promise<BlockHeader | undefined>
  headerByHash(hash: Uint8Array): Promise<BlockHeader | undefined>
  blockByHash(hash: Uint8Array): Promise<Block | undefined>
  receipts(hash: Uint8Array): Promise<Receipt[] | undefined>
  /** Canonical place of a mined transaction. */
  locate(txHash: Uint8Array): Promise<{ blockHash: Uint8Array; blockNumber: number; index: number } | undefined>
  /** From the index (address and topic → blocks), ordered by block then log index. */
  logs(filter: LogFilter): Promise<PlacedLog[]>
  state(at: BlockRef): StateReader
  call(
    request: CallRequest,
    at: BlockRef,
    opts?: { stateOverrides?: Map<string, StateOverride>; blockOverride?: BlockOverride; accessList?: boolean }
  ): Promise<CallResult>
  /** Base fee of the next block. */
  nextBaseFee(): bigint
  /** Gas limit of the next block. */
  nextGasLimit(): bigint
  /** After the block is readable everywhere, in order, none skipped. `removed` on evm_revert. Answers an unsubscribe. */
  onBlock(fn: (e: { block: Block; receipts: Receipt[]; removed: boolean }) => void): () => void
  onPending(fn: (tx: Transaction) => void): () => void
}
