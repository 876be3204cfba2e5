/**
 * The boundary between consensus and execution, shaped like Ethereum's Engine API (chain.md 8): build a payload, take a payload,
 * move the fork choice. The chain owns order, blocks, receipts and the pool; an engine owns state. `engine-ethereumjs.ts` is
 * the first implementation; a native one takes its place, and then the first is the oracle of differential tests.
 *
 * Durability: `forkchoiceUpdated(head)` returns only when the state of `head` is on stable storage. The chain records the head
 * in its own stores after that, so a crash in between leaves a state nobody points to, never a head without state.
 */

import type {
  Account,
  Block,
  BlockOverride,
  CallRequest,
  CallResult,
  Receipt,
  StateOverride,
  StateReader,
  Transaction
} from '../../cmd/zg-chain/core/types.ts'
import type { AllocEntry } from '../../lib/contracts/genesis.ts'

export interface PayloadAttributes {
  timestamp: number
  prevRandao: Uint8Array
  suggestedFeeRecipient: Uint8Array
  parentBeaconBlockRoot: Uint8Array
  gasLimit: bigint
  /** Development only: overrides the EIP-1559 base fee. */
  baseFeePerGas?: bigint
}

export interface BuiltPayload {
  block: Block
  receipts: Receipt[]
  /** Transactions that could not be included, with geth's words; the pool drops them. */
  rejected: { hash: Uint8Array; reason: string }[]
  /** Accounts that the block may have changed: whose pool transactions must be looked at again. */
  touched: Uint8Array[]
}

export type PayloadStatus =
  | { status: 'VALID'; receipts: Receipt[] }
  | { status: 'INVALID'; latestValidHash: Uint8Array; validationError: string }
  | { status: 'SYNCING' }

export interface ExecutionEngine {
  /** Loads genesis state when the store is empty and answers its root; with state present only checks it. */
  genesis(alloc: AllocEntry[]): Promise<Uint8Array>
  /**
   * Executes `transactions` (already ordered) on the state of `parent` until the gas limit, skipping what does not fit or is
   * invalid, and seals a block. Nothing becomes durable. The post-state stays in memory until forkchoice or forget.
   */
  buildPayload(parent: StateRef, attributes: PayloadAttributes, transactions: Transaction[]): Promise<BuiltPayload>
  /** Executes and checks a block made elsewhere. */
  newPayload(parent: StateRef, block: Block): Promise<PayloadStatus>
  /** Makes the state of a built or accepted payload durable. Payloads beside it are forgotten. */
  forkchoiceUpdated(blockHash: Uint8Array): Promise<void>
  state(root: Uint8Array): Omit<StateReader, 'now'>
  hasState(root: Uint8Array): Promise<boolean>
  call(
    request: CallRequest,
    at: { parent: StateRef; block: Required<BlockOverride> },
    opts: { stateOverrides?: Map<string, StateOverride>; accessList?: boolean; gasCap: bigint; timeoutMs: number }
  ): Promise<CallResult>
  /** Development only: writes accounts on top of a state and answers the new root, durable. */
  writeState(
    root: Uint8Array,
    changes: {
      address: Uint8Array
      account?: Partial<Account> & { code?: Uint8Array }
      storage?: [Uint8Array, Uint8Array][]
    }[]
  ): Promise<Uint8Array>
  close(): Promise<void>
}

/** A state to execute on: its root and the header it belongs to (for hashes, fees and numbers). */
export interface StateRef {
  stateRoot: Uint8Array
  header: import('../../cmd/zg-chain/core/types.ts').BlockHeader
}

export type { AllocEntry }
