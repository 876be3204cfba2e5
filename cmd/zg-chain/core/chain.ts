/**
 * The chain: one validator that says when a block is built, over the native execution client, which builds it and keeps all of it.
 * Everything that changes the chain goes through one queue; reads go on meanwhile and see the last committed block.
 *
 * A block is built and committed off the event loop; when the commit is durable, the head moves, then subscribers learn of it. A failed
 * write or sync is final: the chain stops, and the next start recovers from what is on disk.
 */
import { concat, equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import { encodeRlp } from '../../../lib/codec/rlp.ts'
import type { At, NativeCallOptions, NativeChain } from '../../../lib/evm/types.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Random } from '../../../lib/ports/random.ts'
import type { BlockEvent, BlockRef, CallOptions, Chain, DevControls, LogFilter, Tracer } from './api.ts'
import { decodeHeader } from './block.ts'
import { devControls } from './dev.ts'
import { asking, askingNow, fromNative, isFatal } from './failure.ts'
import { nextBaseFee, nextGasLimit } from './fees.ts'
import { keccak256 } from './hash.ts'
import { NativePool } from './pool.ts'
import { Producer } from './producer.ts'
import {
  decodeCallResult,
  decodePlacedLogs,
  decodeProof,
  decodeRecord,
  encodeCall,
  encodeEnvironment,
  encodeLogFilter,
  encodeOverrides,
  type StoredBlock
} from './records.ts'
import type {
  Block,
  BlockHeader,
  BlockOverride,
  CallRequest,
  CallResult,
  PlacedLog,
  Receipt,
  StateReader,
  Transaction
} from './types.ts'

type HeadEvent = { header: BlockHeader; transactions: number; removed: boolean }

/** Records of blocks that are asked for again and again: receipts of the block just made. Decoded they take about six times as much. */
const RECENT_BYTES = 4 * 1024 * 1024
/** Time for putting transactions into a block, of its interval; roots and commit come after it. */
const BUILD_SHARE = 0.6
const BUILD_MS_MIN = 50
/** On demand, and for blocks far apart. */
const BUILD_MS_MAX = 2_000

export interface ChainOptions {
  chainId: number
  native: NativeChain
  clock: Clock
  random: Random
  log: Logger
  /** Gas limit that the blocks move to. */
  gasLimit: bigint
  coinbase: Uint8Array
  /** Interval of blocks, empty ones too; 0: none. */
  blockTimeMs: number
  /** A block as soon as a transaction is executable. */
  onDemand: boolean
  /** Development verbs and their accounts; absent: none. */
  dev?: { accounts: Chain['devAccounts'] } | undefined
  /** A write or sync failed: the process must end. */
  onFatal(err: unknown): void
  /** After the engine has let go of everything. */
  onClosed?(): Promise<void>
}

/** What development verbs change; `snapshot` keeps a copy. */
export interface DevState {
  offsetSeconds: number
  nextTimestamp: number | undefined
  nextBaseFee: bigint | undefined
  gasLimit: bigint
  /** Development verbs may jump; blocks otherwise move by 1/1024. */
  gasLimitNow: boolean
  coinbase: Uint8Array
  impersonated: Set<string>
}

export class ZgChain implements Chain {
  readonly chainId: number
  readonly genesisHash: Uint8Array
  readonly devAccounts: Chain['devAccounts']
  readonly dev: DevControls | undefined
  readonly native: NativeChain
  readonly pool: NativePool
  readonly producer: Producer
  readonly settings: DevState
  readonly #opts: ChainOptions
  #head: BlockHeader
  #queue: Promise<unknown> = Promise.resolve()
  #stopped: unknown
  #closed = false
  readonly #recent = new Map<string, StoredBlock>()
  #recentBytes = 0
  readonly #blockListeners = new Set<(e: BlockEvent) => void>()
  readonly #headListeners = new Set<(e: HeadEvent) => void>()
  readonly #pendingListeners = new Set<(tx: Transaction) => void>()

  constructor(opts: ChainOptions) {
    this.#opts = opts
    this.native = opts.native
    this.#head = decodeHeader(opts.native.head().header)
    this.chainId = opts.chainId
    this.genesisHash = opts.native.genesisHash
    this.settings = {
      offsetSeconds: 0,
      nextTimestamp: undefined,
      nextBaseFee: undefined,
      gasLimit: opts.gasLimit,
      gasLimitNow: false,
      coinbase: opts.coinbase,
      impersonated: new Set()
    }
    this.pool = new NativePool(opts.native, {
      changed: () => this.#poolChanged(),
      failed: err => this.#fail(err)
    })
    this.producer = new Producer({
      clock: opts.clock,
      produce: how => this.exclusive(() => this.produce(how)),
      hasExecutable: () => opts.native.hasExecutable(),
      onError: () => {}
    })
    this.producer.setInterval(opts.blockTimeMs)
    this.producer.setOnDemand(opts.onDemand)
    this.devAccounts = opts.dev?.accounts ?? []
    this.dev = opts.dev === undefined ? undefined : devControls(this, opts)
    this.settle()
  }

  /** Begins to make blocks. */
  start(): void {
    this.producer.start()
  }

  /** Finishes the block being made, then closes everything. */
  async close(): Promise<void> {
    await this.producer.stop()
    await this.#queue.catch(() => undefined)
    if (this.#closed) return
    this.#closed = true
    this.#stopped ??= new ZgError('ERR_STOPPED', 'the chain is closed')
    await this.native.close()
    await this.#opts.onClosed?.()
  }

  // ── Blocks ──

  head(): BlockHeader {
    return this.#head
  }

  header(at: number | Uint8Array): BlockHeader | undefined {
    const number = typeof at === 'number' ? at : this.native.numberOf(at)
    if (number === undefined) return undefined
    if (number === this.#head.number) return this.#head
    const raw = this.native.headerByNumber(number)
    return raw === undefined ? undefined : decodeHeader(raw)
  }

  async headerByNumber(number: number): Promise<BlockHeader | undefined> {
    return this.header(number)
  }

  async headerByHash(hash: Uint8Array): Promise<BlockHeader | undefined> {
    return this.header(hash)
  }

  async blockByHash(hash: Uint8Array): Promise<Block | undefined> {
    return (await this.#byHash(hash))?.block
  }

  async transactionHashes({ number, hash }: BlockHeader): Promise<string | undefined> {
    const text = await asking(this.native.transactionHashes(number))
    // Only evm_revert takes a block away meanwhile.
    const now = this.header(number)
    return now !== undefined && equalBytes(now.hash, hash) ? text : undefined
  }

  async receipts(hash: Uint8Array): Promise<Receipt[] | undefined> {
    return (await this.#byHash(hash))?.receipts
  }

  async stored(number: number): Promise<StoredBlock | undefined> {
    const header = this.header(number)
    return header === undefined ? undefined : this.#byHash(header.hash)
  }

  async locate(txHash: Uint8Array): ReturnType<Chain['locate']> {
    const place = askingNow(() => this.native.locate(txHash))
    const header = place === undefined ? undefined : this.header(place.number)
    if (place === undefined || header === undefined) return undefined
    return { blockHash: header.hash, blockNumber: place.number, index: place.index }
  }

  bySenderAndNonce(sender: Uint8Array, nonce: bigint): Uint8Array | undefined {
    return askingNow(() => this.native.bySenderAndNonce(sender, nonce))
  }

  /** @throws {ZgError} ERR_REJECTED with facts ['limit', last block that fits] when there are too many. */
  async logs(filter: LogFilter): Promise<PlacedLog[]> {
    const cut = { ...filter, toBlock: Math.min(filter.toBlock, this.#head.number) }
    if (cut.fromBlock > cut.toBlock) return []
    try {
      return decodePlacedLogs(await this.native.logs(encodeLogFilter(cut)))
    } catch (err) {
      const { lastBlock } = err as { lastBlock?: number }
      if (lastBlock === undefined) throw fromNative(err)
      throw new ZgError('ERR_REJECTED', `more than ${filter.limit} results`, {
        facts: ['limit', `${lastBlock}`],
        cause: err
      })
    }
  }

  // ── State and execution ──

  at(ref: BlockRef): At {
    const header = ref.kind === 'block' ? ref.header : ref.parent
    if (equalBytes(header.hash, this.#head.hash)) return undefined
    if (this.native.numberOf(header.hash) !== header.number)
      throw new ZgError('ERR_NOT_FOUND', `block ${toHex(header.hash)} is not part of the chain`)
    return header.number
  }

  state(ref: BlockRef): StateReader {
    const at = this.at(ref)
    const { native } = this
    const now: StateReader['now'] = {
      account: address => askingNow(() => native.account(address, at)),
      code: address => askingNow(() => native.code(address, at)),
      storage: (address, slot) => askingNow(() => native.storage(address, slot, at))
    }
    return {
      now,
      account: async address => now.account(address),
      code: async address => now.code(address),
      storage: async (address, slot) => now.storage(address, slot),
      proof: async (address, slots) => decodeProof(await asking(native.proof(address, slots, at)))
    }
  }

  async call(request: CallRequest, ref: BlockRef, opts: CallOptions = {}): Promise<CallResult> {
    const call = encodeCall({ ...request, gas: capped(request.gas) })
    const work = this.native.call(call, this.at(ref), ref.kind === 'pending', this.#callOptions(ref, opts))
    return decodeCallResult(await asking(work))
  }

  callSync(request: CallRequest, ref: BlockRef, gasBudget: number): CallResult | undefined {
    const call = encodeCall({ ...request, gas: capped(request.gas) })
    const result = askingNow(() => this.native.callSync(call, this.at(ref), ref.kind === 'pending', gasBudget))
    return result === undefined ? undefined : decodeCallResult(result)
  }

  async estimateGas(
    request: CallRequest,
    ref: BlockRef,
    opts: CallOptions & { gasCap?: bigint } = {}
  ): Promise<CallResult> {
    const work = this.native.estimateGas(encodeCall(request), this.at(ref), ref.kind === 'pending', {
      ...this.#callOptions(ref, opts),
      gasCap: opts.gasCap ?? LIMITS.ethCallGas
    })
    return decodeCallResult(await asking(work))
  }

  traceBlock(number: number, index: number | undefined, tracer: Tracer, timeoutMs: number): Promise<string> {
    return asking(this.native.traceBlock(number, index, tracer, timeoutMs))
  }

  traceRaw(block: Uint8Array, tracer: Tracer, timeoutMs: number): Promise<string> {
    return asking(this.native.traceRaw(block, tracer, timeoutMs))
  }

  simulate(request: Uint8Array, ref: BlockRef, timeoutMs: number): Promise<Uint8Array> {
    return asking(() => this.native.simulate(request, this.at(ref), timeoutMs))
  }

  environment(ref: BlockRef, override: BlockOverride = {}): Required<BlockOverride> {
    const isNext = ref.kind === 'pending'
    const header = ref.kind === 'block' ? ref.header : ref.parent
    return {
      number: header.number + (isNext ? 1 : 0),
      timestamp: isNext ? this.#timestamp(header) : header.timestamp,
      gasLimit: isNext ? this.nextGasLimit() : header.gasLimit,
      beneficiary: isNext ? this.settings.coinbase : header.beneficiary,
      prevRandao: header.prevRandao,
      baseFeePerGas: isNext ? this.nextBaseFee() : (header.baseFeePerGas ?? 0n),
      blobBaseFee: 1n,
      ...override
    }
  }

  nextBaseFee(): bigint {
    return this.settings.nextBaseFee ?? nextBaseFee(this.#head)
  }

  nextGasLimit(): bigint {
    const { gasLimit, gasLimitNow } = this.settings
    return gasLimitNow ? gasLimit : nextGasLimit(this.#head.gasLimit, gasLimit)
  }

  onBlock(fn: (e: BlockEvent) => void): () => void {
    this.#blockListeners.add(fn)
    return () => this.#blockListeners.delete(fn)
  }

  onHead(fn: (e: HeadEvent) => void): () => void {
    this.#headListeners.add(fn)
    return () => this.#headListeners.delete(fn)
  }

  onPending(fn: (tx: Transaction) => void): () => void {
    this.#pendingListeners.add(fn)
    return () => this.#pendingListeners.delete(fn)
  }

  // ── What dev.ts uses besides ──

  /** Runs `work` when all changes before it are done. @throws ERR_STOPPED after a failed commit or close. */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#queue.then(async () => {
      if (this.#stopped !== undefined) throw stopped(this.#stopped)
      try {
        return await work()
      } catch (err) {
        this.#fail(err)
        throw err
      }
    })
    this.#queue = run.catch(() => undefined)
    return run
  }

  /**
   * Makes and commits one block; only inside {@link exclusive}.
   * @returns false when it would be empty and must not.
   */
  async produce(how: { empty: boolean; timestamp?: number }): Promise<boolean> {
    try {
      return await this.#produce(how)
    } catch (err) {
      // Whatever it is: a validator that cannot make its block must not look alive.
      this.#stop(err)
      throw err
    }
  }

  async #produce(how: { empty: boolean; timestamp?: number }): Promise<boolean> {
    const { native, settings } = this
    if (!how.empty && !native.hasExecutable()) return false
    const parent = this.#head
    const attributes = encodeRlp([
      how.timestamp ?? this.#timestamp(parent),
      keccak256(concat(parent.hash, this.#opts.random.bytes(32))),
      settings.coinbase,
      new Uint8Array(32),
      [],
      this.nextGasLimit(),
      new Uint8Array(0),
      // With a base fee the engine takes the gas limit as it is: both may jump in development.
      settings.nextBaseFee === undefined && !settings.gasLimitNow ? [] : [this.nextBaseFee()]
    ])
    const built = await asking(native.build(attributes, this.#buildMs()))
    if (built.transactions === 0 && !how.empty) return false
    const { header } = await asking(native.commit(built.hash))
    this.#head = decodeHeader(header)
    const exact = how.timestamp ?? settings.nextTimestamp
    // Time goes on from a timestamp that was set.
    if (exact !== undefined) settings.offsetSeconds = exact - Math.floor(this.#opts.clock.now() / 1000)
    settings.nextTimestamp = undefined
    settings.nextBaseFee = undefined
    settings.gasLimitNow = false
    await this.#announce(built.transactions)
    return true
  }

  /** An external consensus client has committed blocks through the engine: what a block of one's own does after its commit, for each. */
  async headMoved(): Promise<void> {
    const { number } = this.native.head()
    for (let n = this.#head.number + 1; n <= number; n++) {
      const record = await asking(this.native.block(n))
      if (record === undefined) throw new ZgError('ERR_CORRUPT', 'a block is gone after its commit')
      const { block } = decodeRecord(record)
      this.#head = block.header
      await this.#announce(block.transactions.length)
    }
  }

  async #announce(transactions: number): Promise<void> {
    this.settle()
    this.#emit(this.#headListeners, { header: this.#head, transactions, removed: false })
    if (this.#blockListeners.size > 0) {
      const stored = await this.#byHash(this.#head.hash)
      if (stored === undefined) throw new ZgError('ERR_CORRUPT', 'a block is gone after its commit')
      this.#emit(this.#blockListeners, eventOf(stored, false))
    }
    this.#poolChanged()
  }

  /** Moves back to a block; only inside {@link exclusive}. The pool becomes `transactions`. */
  async moveBack(to: { number: number; version: number; transactions: Transaction[] }): Promise<void> {
    const gone = await asking(this.native.revertTo(to.number, to.version))
    this.#head = decodeHeader(this.native.head().header)
    this.settle()
    this.pool.clear()
    await this.pool.restore(to.transactions)
    for (const record of gone) {
      const stored = decodeRecord(record)
      const { header, transactions } = stored.block
      this.#emit(this.#headListeners, { header, transactions: transactions.length, removed: true })
      this.#emit(this.#blockListeners, eventOf(stored, true))
    }
  }

  /** Tells the pool what the next block will be; after every change of it. */
  settle(): void {
    this.native.setNext(this.nextBaseFee(), this.nextGasLimit())
  }

  /** After a change that no block made. */
  stateChanged(): void {
    this.settle()
    this.#poolChanged()
  }

  async #byHash(hash: Uint8Array): Promise<StoredBlock | undefined> {
    const number = this.native.numberOf(hash)
    if (number === undefined) return undefined
    const key = toHex(hash)
    const known = this.#recent.get(key)
    if (known !== undefined) {
      this.#recent.delete(key)
      this.#recent.set(key, known)
      return known
    }
    const record = await asking(this.native.block(number))
    if (record === undefined) return undefined
    const stored = decodeRecord(record)
    // A development revert may have put another block there meanwhile.
    if (!equalBytes(stored.block.header.hash, hash)) return undefined
    if (!this.#recent.has(key)) this.#recentBytes += stored.size
    this.#recent.set(key, stored)
    for (const [oldest, { size }] of this.#recent) {
      if (this.#recentBytes <= RECENT_BYTES || this.#recent.size === 1) break
      this.#recent.delete(oldest)
      this.#recentBytes -= size
    }
    return stored
  }

  #callOptions(ref: BlockRef, opts: CallOptions): NativeCallOptions {
    const { stateOverrides, blockOverride, accessList, tracer, timeoutMs } = opts
    // The next block's time and fee are this side's to say.
    const own = ref.kind === 'pending' || blockOverride !== undefined
    return {
      timeoutMs: timeoutMs ?? LIMITS.ethCallMs,
      ...(stateOverrides === undefined ? {} : { overrides: encodeOverrides(stateOverrides) }),
      ...(own ? { env: encodeEnvironment(this.environment(ref, blockOverride)) } : {}),
      ...(accessList === undefined ? {} : { accessList }),
      ...(tracer === undefined ? {} : { tracer })
    }
  }

  #buildMs(): number {
    const interval = this.producer.intervalMs
    return interval === 0
      ? BUILD_MS_MAX
      : Math.round(Math.min(BUILD_MS_MAX, Math.max(BUILD_MS_MIN, interval * BUILD_SHARE)))
  }

  /** Seconds of a block that is made now on `parent`: never decreasing. */
  #timestamp(parent: BlockHeader): number {
    const { nextTimestamp, offsetSeconds } = this.settings
    const now = nextTimestamp ?? Math.floor(this.#opts.clock.now() / 1000) + offsetSeconds
    return Math.max(now, parent.timestamp)
  }

  #poolChanged(): void {
    if (this.#stopped !== undefined) return
    const announced = this.pool.takeAnnounced()
    if (this.#pendingListeners.size > 0) {
      for (const hash of announced) {
        const tx = this.pool.get(hash)
        // Mined since then: a block has told of it.
        if (tx !== undefined) this.#emit(this.#pendingListeners, tx)
      }
    }
    this.producer.wake()
  }

  /** Refusals and bad requests pass; anything else is a broken store or a bug, and the chain must not go on. */
  #fail(err: unknown): void {
    if (isFatal(err)) this.#stop(err)
  }

  #stop(err: unknown): void {
    if (this.#stopped !== undefined) return
    this.#stopped = err
    this.#opts.log.error('the chain has stopped', { reason: messageOf(err) })
    this.#opts.onFatal(err)
  }

  /** One listener's fault must not keep the others, or the chain, from going on. */
  #emit<T>(listeners: ReadonlySet<(e: T) => void>, event: T): void {
    for (const fn of [...listeners]) {
      try {
        fn(event)
      } catch (err) {
        this.#opts.log.error('a listener failed', { reason: messageOf(err) })
      }
    }
  }
}

function eventOf(stored: StoredBlock, removed: boolean): BlockEvent {
  return {
    header: stored.block.header,
    block: stored.block,
    get receipts() {
      return stored.receipts
    },
    removed
  }
}

function capped(gas: bigint): bigint {
  return gas < LIMITS.ethCallGas ? gas : LIMITS.ethCallGas
}

function stopped(cause: unknown): ZgError {
  if (cause instanceof ZgError && cause.code === 'ERR_STOPPED') return cause
  return new ZgError('ERR_STOPPED', 'the chain has stopped after an error', { cause, facts: [messageOf(cause)] })
}
