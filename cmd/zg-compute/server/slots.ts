/**
 * How many requests are in the house: those the engine runs and those that wait for it, in the order that it chooses by account. A queue
 * without bound would only make clients wait for answers they have given up on, so one more is told at once when to come back.
 */
import type { Clock } from '../../../lib/ports/clock.ts'
import { BusyError } from './errors.ts'

/** Requests that wait for the engine, unless `--queue` says otherwise. */
export const QUEUE_MAX = 256
/** Longest wait for it. */
export const QUEUE_WAIT_MS = 60_000
/** What is told to come back sooner or later than this is told this. */
const RETRY_MIN_SECONDS = 1
const RETRY_MAX_SECONDS = 60
/** Weight of the latest request in the mean of their durations. */
const LATEST = 0.1

export class Slots {
  readonly #clock: Clock
  readonly #size: number
  readonly #queue: number
  #inside = 0
  /** Mean duration of a request; 0: none ended yet. */
  #meanMs = 0

  /**
   * @param size - requests that the engine runs at once.
   * @param queue - those that may wait for it.
   */
  constructor(size: number, clock: Clock, queue: number = QUEUE_MAX) {
    this.#clock = clock
    this.#size = size
    this.#queue = queue
  }

  get running(): number {
    return Math.min(this.#inside, this.#size)
  }

  get waiting(): number {
    return Math.max(0, this.#inside - this.#size)
  }

  /**
   * Takes a place; the answer gives it back.
   * @throws {BusyError} 429 when all are taken; the signal's reason when the client left.
   */
  take(signal: AbortSignal): () => void {
    signal.throwIfAborted()
    if (this.#inside >= this.#size + this.#queue) {
      throw new BusyError(429, 'overloaded', 'too many requests are waiting, try again later', this.#retrySeconds())
    }
    this.#inside++
    const began = this.#clock.monotonic()
    let freed = false
    return () => {
      if (freed) return
      freed = true
      this.#inside--
      const took = this.#clock.monotonic() - began
      this.#meanMs = this.#meanMs === 0 ? took : this.#meanMs + LATEST * (took - this.#meanMs)
    }
  }

  /** Until about a tenth of the places are free again, at the rate at which requests end. */
  #retrySeconds(): number {
    const places = Math.max(1, (this.#size + this.#queue) / 10)
    const seconds = Math.ceil(((this.#meanMs / 1000) * places) / (this.#size + this.#queue))
    return Math.min(RETRY_MAX_SECONDS, Math.max(RETRY_MIN_SECONDS, seconds))
  }
}
