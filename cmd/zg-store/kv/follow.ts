/**
 * Follows the chain and replays the submissions of the followed streams in the order of their seq.
 *
 *   wait for a head ─► last block still there? ─► logs of the next page ─► for each: skip, or check sender, fetch, replay, write
 *
 * A file that cannot be had within the time allowed gets the result `DownloadFailed` and the replay goes on: one lost file must
 * never block a stream. A chain that is away, and storage nodes that all are, only delay.
 *
 * Streams that came later than the log are replayed from its start as a wave (wave.ts) whenever the others are at the head.
 */
import { compareBytes, equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import { type DecodedKv, decodeKv, decodeStreamTags } from '../../../lib/codec/storage/kv.ts'
import type { SubmitEvent } from '../../../lib/codec/storage/submission.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { KvOp } from '../../../lib/ports/kv.ts'
import { keys } from './keys.ts'
import { checkSender, type KvTransaction, type ReplayResult, replay } from './replay.ts'
import { encodeFile } from './state.ts'
import type { KvDatabase } from './store.ts'
import { WaveReplay } from './wave.ts'

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
  /** `numSubmissions` of the flow contract. */
  count(): Promise<number>
  /** The account that signed. */
  sender(txHash: string): Promise<Uint8Array>
  /** Resolves when there may be a new head. Never rejects. */
  nextHead(signal: AbortSignal): Promise<void>
}

/** Content of a file, and the bytes of the encryption header that stood before it. */
export interface FetchedFile {
  content: Uint8Array
  headerBytes: number
}

export interface FollowOptions {
  db: KvDatabase
  chain: KvChain
  clock: Clock
  log: Logger
  /**
   * Content of a file, verified; undefined when it could not be had in the time allowed.
   * `old`: the submission is far behind the head, so that its bytes are not on their way any more.
   */
  fetch: (
    file: { root: Uint8Array; sizeBytes: number; old: boolean },
    signal: AbortSignal
  ) => Promise<FetchedFile | undefined>
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
/** A submission so many blocks behind the head is old. */
const OLD_BLOCKS = 1_000
const COUNT_MS = 2_000

/** What a submission of ours needs from outside, fetched before its turn. */
interface Ahead {
  sender: Promise<Uint8Array>
  file: Promise<FetchedFile | undefined>
}

export class KvFollower {
  readonly #o: FollowOptions
  readonly #wave: WaveReplay
  /** Newest block that the chain named. */
  head: number | undefined
  /** Why there is no progress. */
  trouble: string | undefined
  caughtUp = false
  #countedAtMs = 0
  #behindAt: number | undefined
  /** Logs were asked for since the submissions were last counted: an answer may have missed one. */
  #asked = true

  constructor(options: FollowOptions) {
    this.#o = options
    this.#wave = new WaveReplay(options, this)
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
        // New blocks go first: a page of the wave, then the head again.
        if (await this.#wave.page(signal)) continue
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

  /** Reads up to the newest block that counts, and replays what waits of the wave; for those who do not `run`. */
  async catchUpAll(signal: AbortSignal): Promise<void> {
    do await this.catchUp(signal)
    while (await this.#wave.page(signal))
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
      if (from > target) return this.#checkCount(target, signal)
      const to = Math.min(target, from + PAGE_BLOCKS - 1)
      // The hash first: if the page is replaced while it is read, the next check sees it.
      const hash = await chain.blockHash(to)
      if (hash === undefined) throw new ZgError('ERR_UNAVAILABLE', `chain does not answer block ${to}`)
      this.#asked = true
      await this.#takePage(await chain.submissions(from, to), to, signal)
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

  async #takePage(events: readonly PlacedEvent[], to: number, signal: AbortSignal): Promise<void> {
    const { db, startBlock } = this.#o
    let todo = ordered(events, db.progress.nextSeq)
    const first = todo[0]?.event.seq
    // Who starts in the middle of a chain takes the first submission that he sees for the first.
    const open = db.progress.firstSeq === undefined && startBlock > 0
    if (first !== undefined && first !== db.progress.nextSeq && !open) todo = await this.#readAgain(to)
    const ahead = new Map<number, Ahead>()
    for (let i = 0; i < todo.length; i++) {
      signal.throwIfAborted()
      const { event, block } = todo[i]!
      if (event.seq !== db.progress.nextSeq && !(open && i === 0)) throw gap(event.seq, db.progress.nextSeq)
      for (const later of todo.slice(i, i + AHEAD)) this.#prefetch(later, ahead, signal)
      const result = await this.#one(todo[i]!, ahead.get(event.seq), signal)
      ahead.delete(event.seq)
      if (result === undefined) {
        db.skip(event.seq, block)
        continue
      }
      await db.apply(event.seq, result.ops, result.text, { block, sync: i === todo.length - 1 })
      this.#o.onResult?.(result.text)
      this.#o.log.debug('replayed', { seq: event.seq, root: toHex(event.root), result: result.text })
    }
  }

  /** The log since the last submission that we have: an RPC behind a balancer may have answered "none" for a block it did not know yet. */
  async #readAgain(to: number): Promise<PlacedEvent[]> {
    const { chain, db, startBlock, log } = this.#o
    const { nextSeq, eventBlock } = db.progress
    const from = eventBlock ?? startBlock
    log.warn('the log has a gap, reading it again', { from_block: from, to_block: to, next: nextSeq })
    const events = ordered(await chain.submissions(from, to), nextSeq)
    if (events[0]?.event.seq !== nextSeq) {
      throw new ZgError('ERR_PROTOCOL', `chain does not answer the event of submission ${nextSeq}`)
    }
    return events
  }

  /** Now and then: does the contract count more submissions than were read? Else a lost one would only show with the next. */
  async #checkCount(to: number, signal: AbortSignal): Promise<void> {
    const { chain, clock, db, confirmations, startBlock } = this.#o
    const { nextSeq, firstSeq, block } = db.progress
    if (!this.#asked || confirmations > 1 || (firstSeq === undefined && startBlock > 0)) return
    if (clock.monotonic() - this.#countedAtMs < COUNT_MS) return
    const behind = (await chain.count()) > nextSeq
    // A submission between our last page and the count is normal: only the second look at the same number is a loss.
    if (behind && this.#behindAt === nextSeq)
      await this.#takePage(await this.#readAgain(Math.min(to, block)), to, signal)
    this.#countedAtMs = clock.monotonic()
    this.#behindAt = behind ? nextSeq : undefined
    this.#asked = behind
  }

  #prefetch(placed: PlacedEvent, ahead: Map<number, Ahead>, signal: AbortSignal): void {
    const { event } = placed
    if (ahead.has(event.seq) || event.submission.size > AHEAD_BYTES || this.#streams(event) === undefined) return
    const work = { sender: this.#o.chain.sender(placed.txHash), file: this.fetch(placed, signal) }
    // Looked at in their turn; until then a failure is nobody's.
    work.sender.catch(() => {})
    work.file.catch(() => {})
    ahead.set(event.seq, work)
  }

  /** The content of a submission's file. */
  fetch(placed: PlacedEvent, signal: AbortSignal): Promise<FetchedFile | undefined> {
    const old = (this.head ?? 0) - placed.block > OLD_BLOCKS
    return this.#o.fetch({ root: placed.event.root, sizeBytes: placed.event.submission.size, old }, signal)
  }

  /** True for streams that are replayed in the order of the log. */
  follows(stream: Uint8Array): boolean {
    const { db } = this.#o
    return db.everything || db.streams.get(toHex(stream)) === 'joined'
  }

  /** The streams of a submission when it is one of ours. */
  #streams(event: SubmitEvent): Uint8Array[] | undefined {
    const streams = streamsOf(event)
    return streams?.every(s => this.follows(s)) ? streams : undefined
  }

  /** Undefined: not ours, no result. */
  async #one(placed: PlacedEvent, ahead: Ahead | undefined, signal: AbortSignal): Promise<ReplayResult | undefined> {
    const streams = this.#streams(placed.event)
    if (streams === undefined) return undefined
    return this.replayOne(placed, streams, s => this.follows(s), signal, ahead)
  }

  /** Replays a submission of these streams. */
  async replayOne(
    placed: PlacedEvent,
    streams: readonly Uint8Array[],
    follows: (stream: Uint8Array) => boolean,
    signal: AbortSignal,
    ahead?: Ahead
  ): Promise<ReplayResult> {
    const { db, chain, maxFileBytes } = this.#o
    const { event } = placed
    const sender = await (ahead?.sender ?? chain.sender(placed.txHash))
    const tx: KvTransaction = { seq: event.seq, sender, streams }
    const refused = await checkSender(db.state, tx)
    if (refused !== undefined) return refused
    if (event.submission.size > maxFileBytes) return parseFault('invalid stream data')
    const file = await (ahead?.file ?? this.fetch(placed, signal))
    signal.throwIfAborted()
    if (file === undefined) return { text: 'DownloadFailed', ops: [] }
    const content = parse(file.content)
    if ('text' in content) return content
    const result = await replay(db.state, tx, content, follows, file.headerBytes)
    if (result.text !== 'Commit') return result
    return { text: result.text, ops: [...result.ops, fileOp(placed, content, file.headerBytes)] }
  }
}

/** What proofs of the file's values start from. */
function fileOp(placed: PlacedEvent, content: DecodedKv, headerBytes: number): KvOp {
  const { event } = placed
  const value = encodeFile({
    root: event.root,
    sizeBytes: event.submission.size,
    startPos: event.startPos,
    sectors: event.sectors,
    block: placed.block,
    txHash: fromHex(placed.txHash),
    headerBytes,
    valuesAt: headerBytes + content.valuesAt
  })
  return { put: keys.file(event.seq), value }
}

/** In order, each once; those already replayed are left out. */
function ordered(events: readonly PlacedEvent[], nextSeq: number): PlacedEvent[] {
  const out: PlacedEvent[] = []
  for (const e of [...events].sort((a, b) => a.event.seq - b.event.seq)) {
    if (e.event.seq >= nextSeq && e.event.seq !== out.at(-1)?.event.seq) out.push(e)
  }
  return out
}

function gap(seq: number, wanted: number): ZgError {
  return new ZgError('ERR_PROTOCOL', `chain shows submission ${seq} before ${wanted}`)
}

/** The streams that a submission's tags name, each once; undefined when it is no key-value file. */
export function streamsOf(event: SubmitEvent): Uint8Array[] | undefined {
  const streams = decodeStreamTags(event.submission.tags)
  if (streams === undefined || streams.length === 0) return undefined
  return streams.filter((s, i) => streams.findIndex(x => compareBytes(x, s) === 0) === i)
}

/** @throws anything but damage of the file. */
export function parse(data: Uint8Array): DecodedKv | ReplayResult {
  try {
    return decodeKv(data)
  } catch (err) {
    if (!(err instanceof ZgError && err.code === 'ERR_CORRUPT')) throw err
    return parseFault(err.message)
  }
}

function parseFault(why: string): ReplayResult {
  return { text: `DataParseError: ${/too long/.test(why) ? 'List too long' : 'Invalid stream data'}`, ops: [] }
}
