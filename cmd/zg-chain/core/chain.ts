/**
 * The chain: one validator's order, blocks, receipts and pool over an execution engine. Everything that changes it goes
 * through one queue; reads go on meanwhile and see the last committed block.
 *
 * Commit of a block, in this order: state durable (engine), block log synced, index batch with the head pointer synced. Only
 * then do the head, the pool and the subscribers learn of it. A failed write or sync is final: the chain stops, and the next
 * start recovers from what is on disk.
 */
import { setImmediate } from 'node:timers/promises'
import { concat, equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Random } from '../../../lib/ports/random.ts'
import type { ChainStore } from '../store/chain-store.ts'
import type { PoolJournal } from '../store/pool-journal.ts'
import type { BlockRef, Chain, DevControls, LogFilter } from './api.ts'
import { devControls } from './dev.ts'
import type { ExecutionEngine, StateRef } from './engine.ts'
import { nextBaseFee, nextGasLimit } from './fees.ts'
import { keccak256 } from './hash.ts'
import { type PoolLimits, type SenderState, TxPool } from './pool.ts'
import { Producer } from './producer.ts'
import type {
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

type BlockEvent = { block: Block; receipts: Receipt[]; removed: boolean }

export interface ChainOptions {
  chainId: number
  store: ChainStore
  engine: ExecutionEngine
  journal: PoolJournal
  clock: Clock
  random: Random
  log: Logger
  /** Header of the genesis. */
  genesis: BlockHeader
  /** Header of the head. */
  head: BlockHeader
  /** Gas limit that the blocks move to. */
  gasLimit: bigint
  coinbase: Uint8Array
  /** Interval of blocks, empty ones too; 0: none. */
  blockTimeMs: number
  /** A block as soon as a transaction is executable. */
  onDemand: boolean
  /** Development verbs and their accounts; absent: none. */
  dev?: { accounts: Chain['devAccounts'] } | undefined
  poolLimits?: Partial<PoolLimits> | undefined
  /** A write or sync failed: the process must end. */
  onFatal(err: unknown): void
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
  readonly pool: TxPool
  readonly producer: Producer
  readonly settings: DevState
  readonly #opts: ChainOptions
  #head: BlockHeader
  #queue: Promise<unknown> = Promise.resolve()
  #stopped: unknown
  readonly #blockListeners = new Set<(e: BlockEvent) => void>()
  readonly #pendingListeners = new Set<(tx: Transaction) => void>()

  constructor(opts: ChainOptions) {
    this.#opts = opts
    this.#head = opts.head
    this.chainId = opts.chainId
    this.genesisHash = opts.genesis.hash
    this.settings = {
      offsetSeconds: 0,
      nextTimestamp: undefined,
      nextBaseFee: undefined,
      gasLimit: opts.gasLimit,
      gasLimitNow: false,
      coinbase: opts.coinbase,
      impersonated: new Set()
    }
    this.pool = new TxPool({
      chainId: BigInt(opts.chainId),
      account: address => this.#senderState(address),
      baseFee: () => this.nextBaseFee(),
      gasLimit: () => this.nextGasLimit(),
      persist: tx => this.#persist(tx),
      onPending: tx => {
        this.#emit(this.#pendingListeners, tx)
        this.producer.wake()
      },
      turn: fairly(opts.clock),
      dev: opts.dev !== undefined,
      ...(opts.poolLimits === undefined ? {} : { limits: opts.poolLimits })
    })
    this.producer = new Producer({
      clock: opts.clock,
      produce: how => this.exclusive(() => this.produce(how)),
      hasExecutable: () => this.pool.hasExecutable(this.nextBaseFee()),
      onError: () => {}
    })
    this.producer.setInterval(opts.blockTimeMs)
    this.producer.setOnDemand(opts.onDemand)
    this.devAccounts = opts.dev?.accounts ?? []
    this.dev = opts.dev === undefined ? undefined : devControls(this, opts)
  }

  /** Begins to make blocks. */
  start(): void {
    this.producer.start()
  }

  /** Finishes the block being made, then closes everything. */
  async close(): Promise<void> {
    await this.producer.stop()
    await this.#queue.catch(() => undefined)
    this.#stopped ??= new ZgError('ERR_STOPPED', 'the chain is closed')
    await this.#opts.journal.close()
    await this.#opts.store.close()
    await this.#opts.engine.close()
  }

  head(): BlockHeader {
    return this.#head
  }

  async headerByNumber(number: number): Promise<BlockHeader | undefined> {
    if (number === this.#head.number) return this.#head
    return (await this.#opts.store.byNumber(number))?.block.header
  }

  async headerByHash(hash: Uint8Array): Promise<BlockHeader | undefined> {
    if (equalBytes(hash, this.#head.hash)) return this.#head
    return (await this.#opts.store.byHash(hash))?.block.header
  }

  async blockByHash(hash: Uint8Array): Promise<Block | undefined> {
    return (await this.#opts.store.byHash(hash))?.block
  }

  async receipts(hash: Uint8Array): Promise<Receipt[] | undefined> {
    return (await this.#opts.store.byHash(hash))?.receipts
  }

  locate(txHash: Uint8Array): ReturnType<Chain['locate']> {
    return this.#opts.store.locate(txHash)
  }

  /** @throws {ZgError} ERR_REJECTED with facts ['limit', last block that fits] when there are too many. */
  logs(filter: LogFilter): Promise<PlacedLog[]> {
    return this.#opts.store.logs({ ...filter, toBlock: Math.min(filter.toBlock, this.#head.number) })
  }

  state(at: BlockRef): StateReader {
    return this.#opts.engine.state(this.stateRef(at.kind === 'block' ? at.header : at.parent).stateRoot)
  }

  call(
    request: CallRequest,
    at: BlockRef,
    opts: { stateOverrides?: Map<string, StateOverride>; blockOverride?: BlockOverride; accessList?: boolean } = {}
  ): Promise<CallResult> {
    const header = at.kind === 'block' ? at.header : at.parent
    const isNext = at.kind === 'pending'
    const block: Required<BlockOverride> = {
      number: header.number + (isNext ? 1 : 0),
      timestamp: isNext ? this.#timestamp(header) : header.timestamp,
      gasLimit: isNext ? this.nextGasLimit() : header.gasLimit,
      beneficiary: isNext ? this.settings.coinbase : header.beneficiary,
      prevRandao: header.prevRandao,
      baseFeePerGas: isNext ? this.nextBaseFee() : header.baseFeePerGas,
      ...opts.blockOverride
    }
    return this.#opts.engine.call(
      request,
      { parent: this.stateRef(header), block },
      {
        ...(opts.stateOverrides === undefined ? {} : { stateOverrides: opts.stateOverrides }),
        ...(opts.accessList === undefined ? {} : { accessList: opts.accessList }),
        gasCap: LIMITS.ethCallGas,
        timeoutMs: LIMITS.ethCallMs
      }
    )
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

  /** A header with the state on top of it: development changes belong to the head alone. */
  stateRef(header: BlockHeader): StateRef {
    const { devRoot } = this.#opts.store.head!
    const changed = devRoot !== undefined && equalBytes(header.hash, this.#head.hash)
    return { stateRoot: changed ? devRoot : header.stateRoot, header }
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
    const { engine, store, random } = this.#opts
    const parent = this.#head
    const baseFeePerGas = this.nextBaseFee()
    const gasLimit = this.nextGasLimit()
    // Limits overstate what transactions use, so twice the block's gas is offered.
    const transactions = this.pool.select(baseFeePerGas, gasLimit * 2n)
    if (transactions.length === 0 && !how.empty) return false
    const built = await engine.buildPayload(
      this.stateRef(parent),
      {
        timestamp: how.timestamp ?? this.#timestamp(parent),
        prevRandao: keccak256(concat(parent.hash, random.bytes(32))),
        suggestedFeeRecipient: this.settings.coinbase,
        parentBeaconBlockRoot: new Uint8Array(32),
        gasLimit,
        baseFeePerGas
      },
      transactions
    )
    for (const { hash, reason } of built.rejected) {
      this.#opts.log.debug('transaction dropped', { hash, reason })
      this.pool.remove(hash)
    }
    if (built.block.transactions.length === 0 && !how.empty) return false
    await engine.forkchoiceUpdated(built.block.header.hash)
    await store.append(built.block, built.receipts)
    this.#head = built.block.header
    const exact = how.timestamp ?? this.settings.nextTimestamp
    // Time goes on from a timestamp that was set.
    if (exact !== undefined) this.settings.offsetSeconds = exact - Math.floor(this.#opts.clock.now() / 1000)
    this.settings.nextTimestamp = undefined
    this.settings.nextBaseFee = undefined
    this.settings.gasLimitNow = false
    // Mined transactions leave the pool with the nonce of their sender, so that no moment shows a gap behind them.
    await this.pool.revalidate(built.touched)
    this.#emit(this.#blockListeners, { block: built.block, receipts: built.receipts, removed: false })
    await this.#trimJournal()
    return true
  }

  /** Moves back to a block; only inside {@link exclusive}. The pool becomes `transactions`. */
  async moveBack(to: { height: number; devRoot: Uint8Array | undefined; transactions: Transaction[] }): Promise<void> {
    const { store, journal } = this.#opts
    const gone = await store.revertTo(to.height, to.devRoot)
    this.#head = (await store.byNumber(to.height))!.block.header
    this.pool.clear()
    for (const tx of to.transactions) await this.pool.restore(tx)
    await journal.rewrite(() => this.pool.all())
    for (const { block, receipts } of gone) this.#emit(this.#blockListeners, { block, receipts, removed: true })
  }

  /** Looks at the whole pool again, after a change that no block made. */
  async stateChanged(): Promise<void> {
    await this.pool.revalidate()
    this.producer.wake()
  }

  /** Seconds of a block that is made now on `parent`: never decreasing. */
  #timestamp(parent: BlockHeader): number {
    const { nextTimestamp, offsetSeconds } = this.settings
    const now = nextTimestamp ?? Math.floor(this.#opts.clock.now() / 1000) + offsetSeconds
    return Math.max(now, parent.timestamp)
  }

  async #senderState(address: Uint8Array): Promise<SenderState> {
    const state = this.state({ kind: 'block', header: this.#head })
    const account = await state.account(address)
    if (account === undefined) return { nonce: 0n, balance: 0n, delegated: false }
    const code = await state.code(address)
    return { nonce: account.nonce, balance: account.balance, delegated: code[0] === 0xef && code.length === 23 }
  }

  async #persist(tx: Transaction): Promise<void> {
    if (this.#stopped !== undefined) throw stopped(this.#stopped)
    try {
      await this.#opts.journal.append(tx)
    } catch (err) {
      this.#fail(err)
      throw err
    }
  }

  async #trimJournal(): Promise<void> {
    await this.#opts.journal.trim(() => this.pool.all())
  }

  /** Refusals and bad requests pass; anything else is a broken store or a bug, and the chain must not go on. */
  #fail(err: unknown): void {
    const harmless = err instanceof ZgError && ['ERR_BAD_INPUT', 'ERR_REJECTED', 'ERR_STOPPED'].includes(err.code)
    if (!harmless) this.#stop(err)
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

/** Gives the event loop away when 8 ms have passed since it was last given away here. */
function fairly(clock: Clock): () => Promise<void> {
  let turnEnds = clock.monotonic() + 8
  return async () => {
    if (clock.monotonic() < turnEnds) return
    await setImmediate()
    turnEnds = clock.monotonic() + 8
  }
}

function stopped(cause: unknown): ZgError {
  if (cause instanceof ZgError && cause.code === 'ERR_STOPPED') return cause
  return new ZgError('ERR_STOPPED', 'the chain has stopped after an error', { cause, facts: [messageOf(cause)] })
}
