/**
 * Follows the chain and replays the submissions of the followed streams in the order of their seq.
 *
 *   wait for a head ─► last block still there? ─► logs of the next page ─► for each: skip, or check sender, fetch, replay, write
 *
 * A file that cannot be had within the time allowed gets the result `DownloadFailed` and the replay goes on: one lost file must
 * never block a stream. A chain or nodes that are away only delay.
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { decodeKv, decodeStreamTags } from '../../../lib/codec/storage/kv.ts'
import type { SubmitEvent } from '../../../lib/codec/storage/submission.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import { checkSender, type KvTransaction, type ReplayResult, replay } from './replay.ts'
import type { KvDatabase } from './store.ts'

export interface PlacedEvent {
  event: SubmitEvent
  block: number
  txHash: string
}

/** The chain as the follower needs it. Every call may fail and is made again later. */
export interface KvChain {
  head(): Promise<number>
  blockHash(number: number): Promise<Uint8Array | undefined>
  /** In order of block and log. */
  submissions(from: number, to: number): Promise<PlacedEvent[]>
  /** The account that signed. */
  sender(txHash: string): Promise<Uint8Array>
  /** Resolves when there may be a new head. Never rejects. */
  nextHead(signal: AbortSignal): Promise<void>
}

export interface FollowOptions {
  db: KvDatabase
  chain: KvChain
  clock: Clock
  log: Logger
  /** Content of a file, verified; undefined when it could not be had in the time allowed. */
  fetch: (file: { root: Uint8Array; sizeBytes: number }, signal: AbortSignal) => Promise<Uint8Array | undefined>
  follows: (stream: Uint8Array) => boolean
  startBlock: number
  /** 1: the newest block counts at once. */
  confirmations: number
  maxFileBytes: number
  onResult?: (text: string) => void
}

const PAGE_BLOCKS = 1_000
const BACKOFF_MS = [50, 100, 200, 400, 1_000]
/** Files fetched before their turn, and how large they may be. */
const AHEAD = 4
const AHEAD_BYTES = 4 * 1024 * 1024

export class KvFollower {
  readonly #o: FollowOptions
  /** Newest block that the chain named. */
  head: number | undefined
  /** Why there is no progress. */
  trouble: string | undefined
  caughtUp = false

  constructor(options: FollowOptions) {
    this.#o = options
  }

  /** Follows until the signal ends it. @throws {ZgError} ERR_WRONG_NETWORK when the chain is another one. */
  async run(signal: AbortSignal): Promise<void> {
    const { chain, clock, log } = this.#o
    let failures = 0
    while (!signal.aborted) {
      try {
        await this.catchUp(signal)
        if (this.trouble !== undefined) log.info('following the chain again')
        this.trouble = undefined
        this.caughtUp = true
        failures = 0
        await chain.nextHead(signal)
      } catch (err) {
        if (signal.aborted) return
        if (err instanceof ZgError && (err.code === 'ERR_WRONG_NETWORK' || err.code === 'ERR_DISK_FULL')) throw err
        const text = messageOf(err)
        if (this.trouble !== text) log.warn('cannot follow the chain', { error: text })
        this.trouble = text
        await clock.sleep(BACKOFF_MS[Math.min(failures++, BACKOFF_MS.length - 1)]!, signal).catch(() => {})
      }
    }
  }

  /** Reads up to the newest block that counts. */
  async catchUp(signal: AbortSignal): Promise<void> {
    const { chain, db, confirmations, startBlock } = this.#o
    for (;;) {
      signal.throwIfAborted()
      const head = await chain.head()
      this.head = head
      const target = head - Math.max(0, confirmations - 1)
      const { block } = db.progress
      if (block >= 0 && !(await this.#stillThere(head))) continue
      const from = Math.max(startBlock, db.progress.block + 1)
      if (from > target) return
      const to = Math.min(target, from + PAGE_BLOCKS - 1)
      // The hash first: if the page is replaced while it is read, the next check sees it.
      const hash = await chain.blockHash(to)
      if (hash === undefined) throw new ZgError('ERR_UNAVAILABLE', `chain does not answer block ${to}`)
      await this.#takePage(await chain.submissions(from, to), signal)
      await db.blockDone(to, hash)
    }
  }

  /** False after a step back to the last block that both know. */
  async #stillThere(head: number): Promise<boolean> {
    const { chain, db, log } = this.#o
    const newest = db.newestBlock
    if (newest === undefined) return true
    const known = db.knownBlocks()
    if (newest.block > head) {
      // Shorter than what was read: a chain that lags, unless a block below is another one now.
      const below = known.find(k => k.block <= head)
      const there = below === undefined ? undefined : await chain.blockHash(below.block)
      if (below !== undefined && there !== undefined && equalBytes(there, below.hash)) {
        const above = known.find(k => k.block > head)
        // A devnet that was set back answers the old block for good; one that lags catches up within the retries.
        if (above !== undefined && this.trouble === undefined) {
          throw new ZgError('ERR_UNAVAILABLE', `chain is at block ${head}, ${newest.block} was read`)
        }
      }
    } else {
      const there = await chain.blockHash(newest.block)
      if (there === undefined) throw new ZgError('ERR_UNAVAILABLE', `chain does not answer block ${newest.block}`)
      if (equalBytes(there, newest.hash)) return true
    }
    for (const k of known) {
      if (k.block > head) continue
      const there = await chain.blockHash(k.block)
      if (there === undefined) throw new ZgError('ERR_UNAVAILABLE', `chain does not answer block ${k.block}`)
      if (!equalBytes(there, k.hash)) continue
      return this.#stepBack(k)
    }
    log.warn('no block that was read is on this chain any more')
    return this.#stepBack(undefined)
  }

  async #stepBack(to: { block: number; hash: Uint8Array; nextSeq: number } | undefined): Promise<false> {
    const { db, log } = this.#o
    const before = db.progress.nextSeq
    if (!(await db.rollback(to))) {
      throw new ZgError('ERR_WRONG_NETWORK', 'the chain is not the one that this data was read from', {
        hint: 'give an empty --dir to follow it from the start'
      })
    }
    log.warn('chain stepped back', { block: to?.block ?? 0, submissions: before - db.progress.nextSeq })
    return false
  }

  async #takePage(events: readonly PlacedEvent[], signal: AbortSignal): Promise<void> {
    const { db } = this.#o
    const todo = events.filter(e => e.event.seq >= db.progress.nextSeq)
    const ahead = new Map<number, Promise<Uint8Array | undefined>>()
    for (let i = 0; i < todo.length; i++) {
      signal.throwIfAborted()
      const { event } = todo[i]!
      if (event.seq !== db.progress.nextSeq) {
        throw new ZgError('ERR_PROTOCOL', `chain shows submission ${event.seq} before ${db.progress.nextSeq}`)
      }
      for (const later of todo.slice(i, i + AHEAD)) this.#prefetch(later.event, ahead, signal)
      const result = await this.#one(todo[i]!, () => ahead.get(event.seq), signal)
      ahead.delete(event.seq)
      await db.apply(event.seq, result?.ops ?? [], result?.text)
      if (result !== undefined) {
        this.#o.onResult?.(result.text)
        this.#o.log.debug('replayed', { seq: event.seq, root: toHex(event.root), result: result.text })
      }
    }
  }

  #prefetch(event: SubmitEvent, ahead: Map<number, Promise<Uint8Array | undefined>>, signal: AbortSignal): void {
    const { size } = event.submission
    if (ahead.has(event.seq) || size > AHEAD_BYTES || this.#streams(event) === undefined) return
    const work = this.#o.fetch({ root: event.root, sizeBytes: size }, signal)
    // Looked at in its turn; until then a failure is nobody's.
    work.catch(() => {})
    ahead.set(event.seq, work)
  }

  /** The streams of a submission when it is one of ours. */
  #streams(event: SubmitEvent): Uint8Array[] | undefined {
    const streams = decodeStreamTags(event.submission.tags)
    if (streams === undefined || streams.length === 0) return undefined
    return streams.every(s => this.#o.follows(s)) ? streams : undefined
  }

  /** Undefined: not ours, no result. */
  async #one(
    placed: PlacedEvent,
    fetched: () => Promise<Uint8Array | undefined> | undefined,
    signal: AbortSignal
  ): Promise<ReplayResult | undefined> {
    const { db, chain, follows, fetch, maxFileBytes } = this.#o
    const { event } = placed
    const streams = this.#streams(event)
    if (streams === undefined) return undefined
    const tx: KvTransaction = { seq: event.seq, sender: await chain.sender(placed.txHash), streams }
    const refused = await checkSender(db.state, tx)
    if (refused !== undefined) return refused
    const sizeBytes = event.submission.size
    if (sizeBytes > maxFileBytes) return { text: 'DataParseError: Invalid stream data', ops: [] }
    const data = await (fetched() ?? fetch({ root: event.root, sizeBytes }, signal))
    signal.throwIfAborted()
    if (data === undefined) return { text: 'DownloadFailed', ops: [] }
    return parseAndReplay(db, tx, data, follows)
  }
}

async function parseAndReplay(
  db: KvDatabase,
  tx: KvTransaction,
  data: Uint8Array,
  follows: (stream: Uint8Array) => boolean
): Promise<ReplayResult> {
  let content: ReturnType<typeof decodeKv>
  try {
    content = decodeKv(data)
  } catch (err) {
    if (!(err instanceof ZgError && err.code === 'ERR_CORRUPT')) throw err
    const text = /too long/.test(err.message) ? 'List too long' : 'Invalid stream data'
    return { text: `DataParseError: ${text}`, ops: [] }
  }
  return replay(db.state, tx, content, follows)
}
