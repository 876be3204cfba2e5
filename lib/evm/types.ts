/**
 * The native execution client as JavaScript sees it (native/evm behind native/napi/evm_*.cpp). Structured values cross the border as RLP
 * (lib/codec/rlp.ts): one strict codec on both sides. Numbers in RLP are canonical; absent optional values are empty strings.
 *
 *   block record    [block, hash, senders, receipts]   block = rlp of the block as hashed, a string; senders: 20 bytes each, joined; receipts: list of
 *   receipt         [type, status (or 32 bytes of post-state), cumulativeGas, gasUsed, effectiveGasPrice, bloom, logs, created]
 *   log             [address, [topic…], data]
 *   transaction     [raw, hash, sender]
 *   placed log      [log, blockHash, blockNumber, blockTimestamp, transactionHash, transactionIndex, logIndex]
 *   call            [from, to, gas, gasPrice, value, data, accessList, authorizations, nonce, maxFeePerBlobGas, blobHashes]
 *   access list     [[address, [slot (32 bytes)…]]…]      authorization  [chainId, address, nonce, yParity, r, s]
 *   overrides       [[address, balance | '' , nonce | '', code | [] for none, mode 0 none 1 state 2 stateDiff, [[slot, value]…], movePrecompileTo | '']…]
 *                   balance, nonce and code are lists of one element when present, empty lists when not
 *   block env       [number, timestamp, gasLimit, beneficiary, prevRandao, baseFee, blobBaseFee]
 *   attributes      [timestamp, prevRandao, feeRecipient, parentBeaconRoot, withdrawals, gasLimit, extraData, [baseFee] | []]
 *   config          the genesis' config as [[name, value]…]: see native/evm/exec/config.h and lib/evm/genesis.ts
 */

/** What a method says when it cannot: `code` is one of these. */
export type NativeFailure =
  | 'locked'
  | 'corrupt'
  | 'wrong network'
  | 'io'
  | 'not found'
  | 'rejected'
  | 'pruned'
  | 'stopped'

/** Errors thrown and rejections of the addon carry `failure`. */
export interface NativeError extends Error {
  failure?: NativeFailure
}

export interface NativeOpenOptions {
  dir: string
  /** rlp([config, header fields…, alloc]) from lib/evm/genesis.ts. */
  genesis: Uint8Array
  dev: boolean
  archive: boolean
  /** Versions kept when not archive. */
  history: number
  /** Bytes: state caches, LevelDB's block cache, its write buffer. */
  cacheBytes: number
  blockCacheBytes: number
  writeBufferBytes: number
  poolCount: number
  poolBytes: number
  queuedPerSender: number
  threads: number
  /** That may execute a block's transactions together; 0 or absent: as many as gain on this machine. */
  executionThreads?: number
  /** false in tests that count no crash. */
  sync: boolean
  logSegmentBytes: number
  /** Switches 0G's stateful precompiles on; absent: plain Ethereum. */
  zg?: {
    tokensPerVote: bigint
    maxVotesPerSigner: bigint
    maxQuorums: bigint
    epochBlocks: bigint
    encodedSlices: bigint
    daRegistry: Uint8Array
    w0g: Uint8Array
    agency: Uint8Array
  }
}

export interface NativeAccount {
  nonce: bigint
  balance: bigint
  codeHash: Uint8Array
}

/** Which state: a block's, or undefined for the head with development changes on it. */
export type At = number | undefined

export interface NativeCallOptions {
  /** rlp of overrides; absent: none. */
  overrides?: Uint8Array
  /** rlp of a block env; absent: as the block itself (or the next one when `next`). */
  env?: Uint8Array
  /** Answers the warm set too. */
  accessList?: boolean
  /** Absent: no time limit. */
  timeoutMs?: number
  /** Name and JSON configuration of a tracer; the result has `trace`, JSON text. */
  tracer?: { name: string; config: string }
}

export interface NativeCallResult {
  /** geth's words; absent on success. */
  error?: string
  /** `revert`, `out of gas`, `other`, `refused` (never ran), `stopped` (time). */
  kind?: 'revert' | 'out of gas' | 'other' | 'refused' | 'stopped'
  gasUsed: bigint
  gasRefund: bigint
  output: Uint8Array
  /** rlp list of logs. */
  logs: Uint8Array
  /** rlp access list. */
  accessList?: Uint8Array
  trace?: string
}

export interface NativeHead {
  number: number
  hash: Uint8Array
  /** RLP of the header. */
  header: Uint8Array
  /** Version of the state: grows with blocks and development changes. */
  version: number
}

export interface NativeChain {
  /** The last committed block; as cheap as a call. */
  head(): NativeHead
  readonly genesisHash: Uint8Array

  // ---- reads, at once (microseconds): undefined when absent
  account(address: Uint8Array, at: At): NativeAccount | undefined
  code(address: Uint8Array, at: At): Uint8Array
  /** 32 bytes. */
  storage(address: Uint8Array, slot: Uint8Array, at: At): Uint8Array
  headerByNumber(number: number): Uint8Array | undefined
  /** Canonical number of a block hash. */
  numberOf(hash: Uint8Array): number | undefined
  locate(txHash: Uint8Array): { number: number; index: number } | undefined
  bySenderAndNonce(sender: Uint8Array, nonce: bigint): Uint8Array | undefined
  /** A block record, off the loop when it is not cached. */
  block(number: number): Promise<Uint8Array | undefined>
  /** The hashes of its transactions as the text of a JSON list. */
  transactionHashes(number: number): Promise<string | undefined>
  /** rlp list of placed logs. @throws failure 'rejected' with `lastBlock` in the error when there are more than `limit`. */
  logs(filter: Uint8Array): Promise<Uint8Array>
  /** rlp [nonce, balance, codeHash, storageRoot, [node…], [[key, value, [node…]]…]]. */
  proof(address: Uint8Array, slots: Uint8Array[], at: At): Promise<Uint8Array>

  // ---- execution
  /** On the state of `at`; `next`: as the block after it. Runs on a worker thread. */
  call(call: Uint8Array, at: At, next: boolean, options: NativeCallOptions): Promise<NativeCallResult>
  /** The same at once on this thread while it costs at most `gasBudget` of gas; undefined: it would cost more, use `call`. */
  callSync(call: Uint8Array, at: At, next: boolean, gasBudget: number): NativeCallResult | undefined
  /** geth's binary search; answers the estimate or the failure. */
  estimateGas(
    call: Uint8Array,
    at: At,
    next: boolean,
    options: NativeCallOptions & { gasCap: bigint }
  ): Promise<NativeCallResult>
  /** Re-executes a block's transactions; JSON text: of one (`index`) or a list of {txHash, result}. */
  traceBlock(
    number: number,
    index: number | undefined,
    tracer: { name: string; config: string },
    timeoutMs: number
  ): Promise<string>
  /** A block given as RLP, on the state of its parent. */
  traceRaw(block: Uint8Array, tracer: { name: string; config: string }, timeoutMs: number): Promise<string>
  /** eth_simulateV1: rlp [[env overrides, overrides, [call…]]…] and flags; rlp answer. */
  simulate(request: Uint8Array, at: At, timeoutMs: number): Promise<Uint8Array>

  // ---- pool
  /** Raw transactions: decoded, recovered, admitted and journalled off the loop. One answer each: the 32-byte hash, or geth's words. */
  submit(raw: Uint8Array[]): Promise<(Uint8Array | string)[]>
  /** rlp of an unsigned transaction [type, from, nonce, gasLimit, to, value, data, gasPrice, maxPriorityFee, accessList, authorizations]: development. */
  submitUnsigned(tx: Uint8Array): Promise<Uint8Array | string>
  /** rlp transaction [raw, hash, sender]. */
  pooled(hash: Uint8Array): Uint8Array | undefined
  pendingNonce(address: Uint8Array): bigint
  /** rlp [[transaction…] pending, [transaction…] queued]; of one sender or of all. */
  poolContent(sender?: Uint8Array): Uint8Array
  poolCounts(): { pending: number; queued: number; bytes: number }
  poolRemove(hash: Uint8Array): boolean
  poolClear(): void
  hasExecutable(): boolean
  /** Hashes that became pending since the last call, joined. */
  takeAnnounced(): Uint8Array
  /** Base fee and gas limit of the next block as the pool must assume them. */
  setNext(baseFee: bigint, gasLimit: bigint): void

  // ---- consensus; one at a time
  /** rlp attributes → the built block's hash, and a block record with `record`. */
  build(attributes: Uint8Array, deadlineMs: number): Promise<{ hash: Uint8Array; transactions: number }>
  /** The block record of a built or accepted block. */
  payload(hash: Uint8Array): Uint8Array | undefined
  /** EIP-7685 requests of a built or accepted block, rlp list. */
  payloadRequests(hash: Uint8Array): Uint8Array | undefined
  /** @returns the hash when valid. @throws failure 'rejected' (invalid, why), 'not found' (its parent). */
  newPayload(block: Uint8Array): Promise<Uint8Array>
  commit(hash: Uint8Array): Promise<NativeHead>
  /** Development: block records that are gone, highest first. */
  revertTo(number: number, version: number): Promise<Uint8Array[]>
  /** Development: rlp [[address, [nonce] | [], [balance] | [], [code] | [], [[slot, value]…]]…]. */
  writeState(writes: Uint8Array): Promise<void>

  // ---- whole states
  /** rlp [[addressHash, address | '', nonce, balance, codeHash, storageRoot]…], next start hash or ''. */
  accountRange(start: Uint8Array, limit: number, at: At): Promise<Uint8Array>
  /** `transactions`: after so many of the block behind `at`, which is a number then. */
  storageRange(
    address: Uint8Array,
    start: Uint8Array,
    limit: number,
    at: At,
    transactions?: number
  ): Promise<Uint8Array>
  saveSnapshot(path: string): Promise<void>
  stats(): Record<string, number>
  close(): Promise<void>
}

export interface EvmAddon {
  /** n digests (32 bytes each) signed with n keys: r ‖ s ‖ parity, 65 bytes each, zeros for a key that is none. About 30 µs each. */
  signMany(digests: Uint8Array, keys: Uint8Array): Uint8Array
  info(): { cpu: string; paths: string[] }
  open(options: NativeOpenOptions): Promise<NativeChain>
  /** Loads a snapshot into an empty directory; then `open` it. */
  loadSnapshot(path: string, options: NativeOpenOptions): Promise<void>
}
