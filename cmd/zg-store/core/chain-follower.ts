/**
 * Follows the chain: turns Submit events into entries of the {@link FlowIndex}, in order, each once (storage.md 3.7).
 *
 * ```
 *   wait for a head ─► is our last block still on the chain? ─► logs of the next page ─► prepare ─► flow root as the contract's? ─► commit
 *        ▲                      │ no                                                                      │ no, three times
 *        │                      ▼                                                                         ▼
 *        └──────────── back to the last common block                                       stop: log read wrongly or RPC lies
 * ```
 *
 * An RPC that is away, lags or answers nonsense only delays: nothing is written that does not continue the log, and the node goes
 * on serving reads. Only a flow root that differs from the contract's again and again ends the following.
 */
import { RPC, RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { decodeSubmitLog, type SubmitEvent } from '../../../lib/codec/storage/submission.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { FlowIndex, KnownBlock, LoggedSubmission, Progress } from './flow-index.ts'
import type { Tx } from './tx.ts'

export interface ChainBlock {
  readonly number: number
  readonly hash: Uint8Array
  readonly parentHash: Uint8Array
}

export interface ChainLog {
  readonly topics: readonly Uint8Array[]
  readonly data: Uint8Array
  readonly block: number
  readonly logIndex: number
}

/** The chain as the follower needs it; the real one speaks JSON-RPC. Every call may fail, and is then made again later. */
export interface FlowChain {
  head(): Promise<number>
  block(number: number): Promise<ChainBlock | undefined>
  /** `Submit` logs of the flow contract with from ≤ block ≤ to. */
  submitLogs(from: number, to: number): Promise<ChainLog[]>
  /** True when it is certain, without asking, that no block of the range has a log of the contract. */
  quiet(from: number, to: number): boolean
  /** `getFlowRootByTxSeq`. */
  flowRoot(seq: number): Promise<Uint8Array>
  /** `numSubmissions`. */
  submissionCount(): Promise<number>
  /** Resolves when there may be a new head: a pushed header, or the poll interval. Never rejects. */
  nextHead(signal: AbortSignal): Promise<void>
}

export interface FollowerOptions {
  chain: FlowChain
  index: FlowIndex
  clock: Clock
  logger: Logger
  startBlock: number
  /** 1: take the newest block at once. */
  confirmations: number
  onSubmitted: (txs: readonly Tx[]) => Promise<void>
  onRemoved: (txs: readonly Tx[]) => Promise<void>
  /** Blocks of one eth_getLogs. */
  pageBlocks?: number
}

export interface FollowerState {
  /** Newest block that the RPC named; undefined before the first answer. */
  head: number | undefined
  /** Why there is no progress; undefined while all goes well. */
  trouble: string | undefined
  /** Monotonic ms of the last block taken or of the start. */
  progressedAtMs: number
  reorgs: number
}

const PAGE_BLOCKS = 999
/** Submissions that a page should bring at most: with all that is made of one, some KiB each, so that they die young. A block that has more comes whole. */
const PAGE_LOGS = 500
/** Short: a chain that fails one call in ten must not cost many blocks; one call a second does not hurt a chain that is down. */
const BACKOFF_MS = [50, 100, 200, 400, 1_000]
/** How a chain says that it will not answer so much; one that is away says otherwise. */
const REFUSED: ReadonlySet<string> = new Set(['ERR_REJECTED', 'ERR_BAD_INPUT', 'ERR_PROTOCOL'])
const ROOT_TRIES = 3
const COUNT_MS = 2_000
const TIP_MS = 500

export class ChainFollower {
  readonly #o: FollowerOptions
  readonly state: FollowerState
  #page: number
  #wrongRoots = 0
  #countedAtMs = 0
  #tipAtMs = 0
  #behindAt: number | undefined
  /** Logs were asked for since the submissions were last counted: an answer may have missed one. */
  #asked = true

  constructor(options: FollowerOptions) {
    this.#o = options
    this.#page = options.pageBlocks ?? PAGE_BLOCKS
    this.state = { head: undefined, trouble: undefined, progressedAtMs: options.clock.monotonic(), reorgs: 0 }
  }

  /**
   * Follows until `signal` is aborted.
   * @throws {ZgError} ERR_PROTOCOL when the flow root differs from the contract's for good.
   */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      try {
        await this.#catchUp(signal)
        if (this.state.trouble !== undefined) this.#o.logger.info('following the chain again')
        this.state.trouble = undefined
        failures = 0
        await this.#o.chain.nextHead(signal)
      } catch (err) {
        if (signal.aborted) return
        if (err instanceof FatalMismatch) throw new ZgError('ERR_PROTOCOL', err.message, { hint: err.hint })
        const message = messageOf(err)
        if (this.state.trouble !== message) this.#o.logger.warn('cannot follow the chain', { error: message })
        this.state.trouble = message
        const waitMs = BACKOFF_MS[Math.min(failures++, BACKOFF_MS.length - 1)]!
        await this.#o.clock.sleep(waitMs, signal).catch(() => {})
      }
    }
  }

  async #catchUp(signal: AbortSignal): Promise<void> {
    const { chain, index, confirmations, startBlock } = this.#o
    for (;;) {
      const head = await chain.head()
      this.state.head = head
      const target = head - Math.max(0, confirmations - 1)
      const last = index.progress
      const from = last === undefined ? startBlock : last.block + 1
      if (from > target) {
        if (last !== undefined && head < last.block) await this.#checkShorter(head)
        else if (last !== undefined) {
          if (!(await this.#checkTip(last))) continue
          await this.#checkCount(last)
        }
        return
      }
      const to = Math.min(target, from + this.#page - 1)
      await this.#takePage(from, to)
      if (signal.aborted) return
    }
  }

  async #takePage(from: number, to: number): Promise<void> {
    const { chain, index } = this.#o
    const block = await chain.block(to)
    if (block === undefined) throw new ZgError('ERR_UNAVAILABLE', `chain does not answer block ${to}`)
    const last = index.progress
    if (last !== undefined) {
      const parent = to === last.block + 1 ? block.parentHash : (await chain.block(last.block))?.hash
      if (parent === undefined) throw new ZgError('ERR_UNAVAILABLE', `chain does not answer block ${last.block}`)
      if (!equalBytes(parent, last.hash)) return this.#goBack()
    }
    const logs = chain.quiet(from, to) ? [] : await this.#logs(from, to)
    if (logs === undefined) return // the page was too large: again with a smaller one
    await this.#take(logs, { block: to, hash: block.hash })
  }

  /** Puts what a page brought into the index. */
  async #take(logs: readonly ChainLog[], progress: Progress): Promise<void> {
    const events = this.#decode(logs)
    const gap = events.length > 0 && events[0]!.event.seq > this.#o.index.nextSeq
    await this.#put(gap ? await this.#readAgain(progress.block) : events, progress)
  }

  async #put(events: readonly LoggedSubmission[], progress: Progress): Promise<void> {
    const { chain, index, onSubmitted } = this.#o
    const prepared = index.prepare(events, progress)
    const newest = prepared.txs.at(-1)
    if (newest !== undefined) {
      const theirs = await chain.flowRoot(newest.seq)
      if (!equalBytes(theirs, prepared.root)) this.#wrongRoot(newest.seq, prepared.root, theirs)
      this.#wrongRoots = 0
    }
    await index.commit(prepared)
    this.state.progressedAtMs = this.#o.clock.monotonic()
    if (prepared.txs.length > 0) await onSubmitted(prepared.txs)
  }

  async #logs(from: number, to: number): Promise<ChainLog[] | undefined> {
    this.#asked = true
    try {
      const logs = await this.#o.chain.submitLogs(from, to)
      const span = to - from + 1
      const most = Math.max(1, Math.floor((span * PAGE_LOGS) / Math.max(1, logs.length)))
      this.#page = Math.min(this.#o.pageBlocks ?? PAGE_BLOCKS, this.#page * 2, most)
      return logs
    } catch (err) {
      // RPCs bound the results of one call, and we the size of an answer: halve until it fits.
      if (to === from) throw err
      this.#page = Math.max(1, Math.floor((to - from + 1) / 2))
      if (this.#page > 8 || isLimit(err)) return undefined
      throw err
    }
  }

  /** Logs since the last submission that we have: an RPC behind a balancer may have answered "none" for a block it did not know yet. */
  async #readAgain(to: number): Promise<LoggedSubmission[]> {
    const { index, startBlock, logger } = this.#o
    const from = index.nextSeq === 0 ? startBlock : ((await index.tx(index.nextSeq - 1))?.block ?? startBlock)
    logger.warn('the log has a gap, reading it again', { from_block: from, to_block: to, next: index.nextSeq })
    const events = this.#decode(await this.#allLogs(from, to))
    if (events[0]?.event.seq !== index.nextSeq) {
      const late = index.nextSeq === 0 && startBlock > 0
      throw new ZgError(
        'ERR_PROTOCOL',
        `chain does not answer the event of submission ${index.nextSeq}${late ? ` from block ${startBlock} on: --start-block is too late` : ''}`
      )
    }
    return events
  }

  /** The logs of any range: what an RPC refuses as too much is asked for in halves. */
  async #allLogs(from: number, to: number): Promise<ChainLog[]> {
    try {
      return await this.#o.chain.submitLogs(from, to)
    } catch (err) {
      const refused = err instanceof ZgError && REFUSED.has(err.code)
      if (from === to || !refused) throw err
      const middle = Math.floor((from + to) / 2)
      const first = await this.#allLogs(from, middle)
      return [...first, ...(await this.#allLogs(middle + 1, to))]
    }
  }

  /** Now and then: is the last block read still there? A chain may be replaced by one of the same height. False after a step back. */
  async #checkTip(last: Progress): Promise<boolean> {
    const { chain, clock } = this.#o
    if (clock.monotonic() - this.#tipAtMs < TIP_MS) return true
    const there = await chain.block(last.block)
    if (there === undefined) throw new ZgError('ERR_UNAVAILABLE', `chain does not answer block ${last.block}`)
    this.#tipAtMs = clock.monotonic()
    if (equalBytes(there.hash, last.hash)) return true
    await this.#goBack()
    return false
  }

  /** Now and then: does the contract count more submissions than we read? Else a lost one would only show with the next. */
  async #checkCount(last: Progress): Promise<void> {
    const { chain, clock, index, confirmations } = this.#o
    if (!this.#asked || confirmations > 1 || clock.monotonic() - this.#countedAtMs < COUNT_MS) return
    const behind = (await chain.submissionCount()) > index.nextSeq
    // A submission between our last page and the count is normal: only the second look at the same number is a loss.
    if (behind && this.#behindAt === index.nextSeq) await this.#put(await this.#readAgain(last.block), last)
    this.#countedAtMs = clock.monotonic()
    this.#behindAt = behind ? index.nextSeq : undefined
    this.#asked = behind
  }

  /** Events in order, each once; those already in the index are left out. */
  #decode(logs: readonly ChainLog[]): LoggedSubmission[] {
    const ordered = [...logs].sort((a, b) => a.block - b.block || a.logIndex - b.logIndex)
    const out: LoggedSubmission[] = []
    let seq = this.#o.index.nextSeq
    for (const log of ordered) {
      const event: SubmitEvent = decodeSubmitLog(log.topics, log.data)
      if (event.seq < seq) continue
      out.push({ event, block: log.block })
      seq = event.seq + 1
    }
    return out
  }

  #wrongRoot(seq: number, ours: Uint8Array, theirs: Uint8Array): never {
    const message = `flow root after submission ${seq} is ${toHex(ours)} here and ${toHex(theirs)} in the contract`
    this.#wrongRoots++
    if (this.#wrongRoots >= ROOT_TRIES) throw new FatalMismatch(message)
    throw new ZgError('ERR_PROTOCOL', message)
  }

  /** The chain got shorter: only a reorganisation if a block we know is gone, else the RPC lags. */
  async #checkShorter(head: number): Promise<void> {
    const known = (await this.#o.index.knownBlocks()).find(b => b.block <= head)
    if (known === undefined) throw new ZgError('ERR_UNAVAILABLE', `chain is at block ${head}, far behind what was read`)
    const there = await this.#o.chain.block(known.block)
    if (there !== undefined && !equalBytes(there.hash, known.hash)) return this.#goBack()
    throw new ZgError(
      'ERR_UNAVAILABLE',
      `chain lags: it is at block ${head}, ${this.#o.index.progress?.block} was read`
    )
  }

  async #goBack(): Promise<void> {
    const { chain, index, logger, onRemoved } = this.#o
    const known = await index.knownBlocks()
    let common: KnownBlock | undefined
    for (const b of known) {
      if (b.block > (this.state.head ?? 0)) continue
      const there = await chain.block(b.block)
      // No answer is no proof: an RPC that lags must not make us forget.
      if (there === undefined) throw new ZgError('ERR_UNAVAILABLE', `chain does not answer block ${b.block}`)
      if (equalBytes(there.hash, b.hash)) {
        common = b
        break
      }
    }
    if (common === undefined && index.progress !== undefined && known.length >= 100) {
      throw new ZgError('ERR_WRONG_NETWORK', 'none of the last 100 blocks read is on this chain', {
        hint: 'check --chain; to follow a new chain use an empty --dir'
      })
    }
    const gone = await index.rollback(common, this.#o.clock.now())
    this.state.reorgs++
    logger.warn('chain reorganised', {
      to_block: common?.block ?? this.#o.startBlock,
      submissions_removed: gone.length
    })
    await onRemoved(gone)
  }
}

/** True when the chain would have answered more than it, or we, allow at once. */
function isLimit(err: unknown): boolean {
  return err instanceof ZgError && err.cause instanceof RpcError && err.cause.code === RPC.limit
}

class FatalMismatch extends Error {
  readonly hint =
    'the log was read wrongly or the RPC lies: check --chain, --flow and --start-block, then use an empty --dir'
}
