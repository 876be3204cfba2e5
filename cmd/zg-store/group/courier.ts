/**
 * Carries shards to and from members, many in one message: what is asked of a member while a message to it is on its way goes with
 * the next one. So a busy member makes one sync for eight shards, and an idle one is asked at once.
 *
 * A single shard is sent as it is and acknowledged by its holder's signed word (`put`). Of many, the holder fetches the bytes into memory
 * of its own (`keep`, `take`), says when they are on its disk, and gives its word for them some moments later together with others (`claim`):
 *
 * ```
 *   keep ─► what there is          ◄─ take: these of it          bytes ─►          ◄─ on stable storage          claim ─►   ◄─ signed, up to 64
 * ```
 *
 * Everybody checks each signature, so one for 64 shards is worth a short wait; and bytes that are fetched arrive where they are wanted, while
 * Node hands those of a request's body over in pieces of 64 KiB.
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { type Claim, claimStatement } from '../../../lib/codec/storage/manifest.ts'
import { SECTOR_BYTES } from '../../../lib/codec/storage/shape.ts'
import { stripeOf } from '../../../lib/codec/storage/shard-name.ts'
import { ask, type Context } from './context.ts'
import { name } from './members.ts'
import { block, type Piece } from './memory.ts'
import { OP } from './ports.ts'
import type { HeldShard } from './shards.ts'
import {
  decodeKept,
  decodeTaken,
  encodeClaims,
  encodeGets,
  encodeKeep,
  encodePuts,
  KEEP_SHARDS,
  MESSAGE_CLAIMS,
  MESSAGE_SHARDS,
  type Put
} from './wire.ts'

/**
 * Messages of one kind to one member at a time. While a `put` is being stored the next one fills up, for a full one costs its member one
 * sync; with so many shards it does not wait longer.
 */
const PUTS = 2
const PUT_SHARDS = 8
const GETS = 2
const CLAIMS = 1
/** Shards on their way to all members from which on more are expected to follow. */
const BUSY_PUTS = 9
/** Shards of this size are fetched by their holder; less is quicker sent. */
const FETCHED_BYTES = 64 * 1024
/** How long a word may wait for others while more shards are on their way. */
const CLAIM_MS = 150

interface Job<In, Out> {
  readonly what: In
  readonly signal: AbortSignal | undefined
  readonly resolve: (out: Out) => void
  readonly reject: (err: unknown) => void
}

interface PutJob extends Put {
  readonly data: Uint8Array
}

/** A shard is on its holder's disk; its signed word is here, or can be had. */
export type Word = Claim | (() => Promise<Claim>)

export class Courier {
  readonly #c: Context
  readonly #puts: Queues<PutJob, Word>
  readonly #gets: Queues<HeldShard, Piece | undefined>
  readonly #claims: Queues<HeldShard, Claim>
  /** What members may fetch now. */
  readonly #offers = new Map<number, { to: Uint8Array; data: readonly Uint8Array[] }>()
  #ticket = 0
  /** Shards handed over and not yet on their holder's disk. */
  #underWay = 0
  /** Words that wait for company. */
  #unsigned: (() => void)[] = []
  #cancelClaims: (() => void) | undefined

  constructor(c: Context) {
    this.#c = c
    this.#puts = new Queues(PUTS, KEEP_SHARDS, PUT_SHARDS, (to, jobs) => this.#put(to, jobs))
    this.#gets = new Queues(GETS, MESSAGE_SHARDS, 1, (to, jobs) => this.#get(to, jobs))
    this.#claims = new Queues(CLAIMS, MESSAGE_CLAIMS, 1, (to, jobs) => this.#claim(to, jobs))
  }

  /** True while so much is on its way that what is to be signed had better wait for company. */
  get busy(): boolean {
    return this.#underWay >= BUSY_PUTS
  }

  /**
   * Gives a shard to a member. @returns once it is on its disk: its signed word for it, or how to get it.
   * @throws {ZgError} when it does not take it or its word does not hold.
   */
  async put(to: Uint8Array, what: PutJob): Promise<Word> {
    this.#underWay++
    try {
      return await this.#puts.add(to, what, undefined)
    } finally {
      this.#underWay--
      // The last one: whoever waits for company waits for nobody.
      if (this.#underWay === 0) {
        this.#release()
        this.#c.patientSigner.hurry()
      }
    }
  }

  /**
   * Fetches a shard, unchecked but for its length. @returns undefined when the member says that it does not have it.
   * @throws {ZgError} when there is no answer, or the signal's reason.
   */
  get(from: Uint8Array, shard: HeldShard, signal?: AbortSignal): Promise<Piece | undefined> {
    return this.#gets.add(from, shard, signal)
  }

  /** What a member may fetch under a ticket; undefined when that is not offered to it (any more). */
  offered(to: Uint8Array, ticket: number): readonly Uint8Array[] | undefined {
    const offer = this.#offers.get(ticket)
    return offer !== undefined && equalBytes(offer.to, to) ? offer.data : undefined
  }

  async #put(to: Uint8Array, jobs: readonly Job<PutJob, Word>[]): Promise<void> {
    if (this.busy && jobs.every(j => j.what.data.length >= FETCHED_BYTES)) return this.#keep(to, jobs)
    for (let i = 0; i < jobs.length; i += MESSAGE_SHARDS) await this.#send(to, jobs.slice(i, i + MESSAGE_SHARDS))
  }

  async #send(to: Uint8Array, jobs: readonly Job<PutJob, Word>[]): Promise<void> {
    const head = encodePuts(jobs.map(j => j.what))
    const answer = await ask(this.#c, to, OP.put, head, { body: jobs.map(j => j.what.data) })
    const taken = decodeTaken(answer.head)
    for (const [i, { what, resolve, reject }] of jobs.entries()) {
      const claim = this.#held(to, what.shard, taken?.[i])
      if (claim instanceof ZgError) {
        reject(claim)
        continue
      }
      this.#c.stats.spreadBytes += what.data.length
      resolve(claim)
    }
  }

  async #keep(to: Uint8Array, jobs: readonly Job<PutJob, Word>[]): Promise<void> {
    const ticket = ++this.#ticket
    this.#offers.set(ticket, { to, data: jobs.map(j => j.what.data) })
    try {
      const answer = await ask(
        this.#c,
        to,
        OP.keep,
        encodeKeep(
          ticket,
          jobs.map(j => j.what)
        )
      )
      const kept = decodeKept(answer.head)
      for (const [i, { what, resolve, reject }] of jobs.entries()) {
        const fault = kept === undefined || i >= kept.length ? 'no answer' : kept[i]
        if (fault !== undefined) {
          reject(new ZgError('ERR_REJECTED', `member ${toHex(to)} did not take a shard: ${fault}`))
          continue
        }
        this.#c.stats.spreadBytes += what.data.length
        // Not the data: it must be free when it is on the holder's disk.
        const { shard } = what
        resolve(() => this.#word(to, shard))
      }
    } finally {
      this.#offers.delete(ticket)
    }
  }

  /** The word of a member for a shard on its disk. @throws {ZgError} when it does not give one that holds. */
  async #word(to: Uint8Array, shard: HeldShard): Promise<Claim> {
    if (this.#underWay > 0) {
      await new Promise<void>(resolve => {
        this.#unsigned.push(resolve)
        this.#cancelClaims ??= this.#c.clock.after(CLAIM_MS, () => this.#release())
      })
    }
    return this.#claims.add(to, shard, undefined)
  }

  /** All words that wait are asked for now. */
  #release(): void {
    this.#cancelClaims?.()
    this.#cancelClaims = undefined
    for (const go of this.#unsigned.splice(0)) go()
  }

  async #claim(to: Uint8Array, jobs: readonly Job<HeldShard, Claim>[]): Promise<void> {
    const answer = await ask(this.#c, to, OP.claim, encodeClaims(jobs.map(j => j.what)))
    const taken = decodeTaken(answer.head)
    for (const [i, { what, resolve, reject }] of jobs.entries()) {
      const claim = this.#held(to, what, taken?.[i])
      if (claim instanceof ZgError) reject(claim)
      else resolve(claim)
    }
  }

  /** The claim, when it is one of this member for this shard; else what is wrong. */
  #held(to: Uint8Array, shard: HeldShard, claim: Claim | string | undefined): Claim | ZgError {
    if (claim === undefined || typeof claim === 'string') {
      return new ZgError('ERR_REJECTED', `member ${toHex(to)} did not take a shard: ${claim ?? 'no answer'}`)
    }
    const statement = claimStatement(shard, shard.shardRoot)
    if (equalBytes(claim.holder, to) && this.#c.verifier.holds(to, statement, claim.by)) return claim
    return new ZgError('ERR_PROTOCOL', `member ${toHex(to)} did not acknowledge a shard`)
  }

  async #get(from: Uint8Array, jobs: readonly Job<HeldShard, Piece | undefined>[]): Promise<void> {
    const sizes = jobs.map(({ what: s }) => stripeOf(s.size, s, s.stripe).sectors * SECTOR_BYTES)
    const memory = block(sizes.reduce((a, b) => a + b, 4096))
    // After an error somebody might still write into it: then it is left to the collector.
    const { head, body } = await ask(this.#c, from, OP.get, encodeGets(jobs.map(j => j.what)), { into: memory.bytes })
    let at = 0
    for (const [i, { resolve }] of jobs.entries()) {
      const data = body.subarray(at, at + sizes[i]!)
      if (head[i] !== 1 || data.length !== sizes[i]) {
        resolve(undefined)
        continue
      }
      at += data.length
      memory.share()
      let live = true
      const release = (): void => {
        if (live) memory.release()
        live = false
      }
      resolve({ data, release })
    }
    memory.release()
  }
}

interface Queue<In, Out> {
  readonly waiting: Job<In, Out>[]
  running: number
  /** It will be looked at in this very step. */
  due: boolean
}

/** One queue a member. */
class Queues<In, Out> {
  readonly #most: number
  readonly #together: number
  readonly #full: number
  readonly #send: (to: Uint8Array, jobs: readonly Job<In, Out>[]) => Promise<void>
  readonly #byMember = new Map<string, Queue<In, Out>>()

  /**
   * @param most - messages to one member at a time.
   * @param together - jobs of one message.
   * @param full - jobs for which it is worth to send a message beside another one.
   */
  constructor(
    most: number,
    together: number,
    full: number,
    send: (to: Uint8Array, jobs: readonly Job<In, Out>[]) => Promise<void>
  ) {
    this.#most = most
    this.#together = together
    this.#full = full
    this.#send = send
  }

  add(to: Uint8Array, what: In, signal: AbortSignal | undefined): Promise<Out> {
    if (signal?.aborted === true) return Promise.reject(signal.reason)
    return new Promise((resolve, reject) => {
      const key = name(to)
      let queue = this.#byMember.get(key)
      if (queue === undefined) {
        queue = { waiting: [], running: 0, due: false }
        this.#byMember.set(key, queue)
      }
      queue.waiting.push({ what, signal, resolve, reject })
      if (queue.due || queue.running >= this.#most) return
      // In the same step others may follow.
      queue.due = true
      queueMicrotask(() => {
        queue.due = false
        this.#pump(to, key, queue)
      })
    })
  }

  #pump(to: Uint8Array, key: string, queue: Queue<In, Out>): void {
    while (queue.running < this.#most && queue.waiting.length >= (queue.running === 0 ? 1 : this.#full)) {
      const jobs: Job<In, Out>[] = []
      while (jobs.length < this.#together && queue.waiting.length > 0) {
        const job = queue.waiting.shift()!
        if (job.signal?.aborted === true) job.reject(job.signal.reason)
        else jobs.push(job)
      }
      if (jobs.length === 0) break
      queue.running++
      void this.#send(to, jobs)
        .catch(err => {
          for (const job of jobs) job.reject(err)
        })
        .finally(() => {
          queue.running--
          if (queue.running === 0 && queue.waiting.length === 0 && !queue.due) this.#byMember.delete(key)
          else this.#pump(to, key, queue)
        })
    }
  }
}
