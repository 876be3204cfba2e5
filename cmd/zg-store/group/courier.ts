/**
 * Carries shards to and from members, many in one message: what is asked of a member while a message to it is on its way goes with
 * the next one. So a busy member makes one sync and one signature for eight shards, and an idle one is asked at once.
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
import { decodeTaken, encodeGets, encodePuts, MESSAGE_SHARDS, type Put } from './wire.ts'

/**
 * Messages of one kind to one member at a time. One `put`: while it is being stored the next one fills up, and a full one costs its
 * member one sync and everybody one check of a signature.
 */
const PUTS = 1
const GETS = 2

interface Job<In, Out> {
  readonly what: In
  readonly signal: AbortSignal | undefined
  readonly resolve: (out: Out) => void
  readonly reject: (err: unknown) => void
}

interface PutJob extends Put {
  readonly data: Uint8Array
}

export class Courier {
  readonly #c: Context
  readonly #puts: Queues<PutJob, Claim>
  readonly #gets: Queues<HeldShard, Piece | undefined>

  constructor(c: Context) {
    this.#c = c
    this.#puts = new Queues(PUTS, (to, jobs) => this.#put(to, jobs))
    this.#gets = new Queues(GETS, (to, jobs) => this.#get(to, jobs))
  }

  /**
   * Gives a shard to a member. @returns its signed word for it.
   * @throws {ZgError} when it does not take it or its word does not hold.
   */
  put(to: Uint8Array, what: PutJob): Promise<Claim> {
    return this.#puts.add(to, what, undefined)
  }

  /**
   * Fetches a shard, unchecked but for its length. @returns undefined when the member says that it does not have it.
   * @throws {ZgError} when there is no answer, or the signal's reason.
   */
  get(from: Uint8Array, shard: HeldShard, signal?: AbortSignal): Promise<Piece | undefined> {
    return this.#gets.add(from, shard, signal)
  }

  async #put(to: Uint8Array, jobs: readonly Job<PutJob, Claim>[]): Promise<void> {
    const c = this.#c
    const head = encodePuts(jobs.map(j => j.what))
    const answer = await ask(c, to, OP.put, head, { body: jobs.map(j => j.what.data) })
    const taken = decodeTaken(answer.head)
    for (const [i, { what, resolve, reject }] of jobs.entries()) {
      const claim = taken?.[i]
      if (claim === undefined || typeof claim === 'string') {
        reject(new ZgError('ERR_REJECTED', `member ${toHex(to)} did not take a shard: ${claim ?? 'no answer'}`))
        continue
      }
      const statement = claimStatement(what.shard, what.shard.shardRoot)
      if (!equalBytes(claim.holder, to) || !c.verifier.holds(to, statement, claim.by)) {
        reject(new ZgError('ERR_PROTOCOL', `member ${toHex(to)} did not acknowledge a shard`))
        continue
      }
      c.stats.spreadBytes += what.data.length
      resolve(claim)
    }
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

/** One queue a member. */
class Queues<In, Out> {
  readonly #most: number
  readonly #send: (to: Uint8Array, jobs: readonly Job<In, Out>[]) => Promise<void>
  readonly #byMember = new Map<string, { waiting: Job<In, Out>[]; running: number }>()

  constructor(most: number, send: (to: Uint8Array, jobs: readonly Job<In, Out>[]) => Promise<void>) {
    this.#most = most
    this.#send = send
  }

  add(to: Uint8Array, what: In, signal: AbortSignal | undefined): Promise<Out> {
    if (signal?.aborted === true) return Promise.reject(signal.reason)
    return new Promise((resolve, reject) => {
      const key = name(to)
      let queue = this.#byMember.get(key)
      if (queue === undefined) {
        queue = { waiting: [], running: 0 }
        this.#byMember.set(key, queue)
      }
      queue.waiting.push({ what, signal, resolve, reject })
      this.#pump(to, key, queue)
    })
  }

  #pump(to: Uint8Array, key: string, queue: { waiting: Job<In, Out>[]; running: number }): void {
    while (queue.running < this.#most && queue.waiting.length > 0) {
      const jobs: Job<In, Out>[] = []
      while (jobs.length < MESSAGE_SHARDS && queue.waiting.length > 0) {
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
          if (queue.running === 0 && queue.waiting.length === 0) this.#byMember.delete(key)
          else this.#pump(to, key, queue)
        })
    }
  }
}
