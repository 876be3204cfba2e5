/**
 * How many requests run at once and how many may wait. The engine shares its threads between requests, so more at once only makes
 * all of them slower; a queue without bound would only make clients wait for answers they have given up on.
 */
import type { Clock } from '../../../lib/ports/clock.ts'
import { BusyError } from './errors.ts'

/** Requests that wait for a free slot. */
export const QUEUE_MAX = 256
/** Longest wait for one. */
export const QUEUE_WAIT_MS = 60_000

interface Waiting {
  go: () => void
}

export class Slots {
  readonly #clock: Clock
  readonly #size: number
  #running = 0
  readonly #queue: Waiting[] = []

  constructor(size: number, clock: Clock) {
    this.#size = size
    this.#clock = clock
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#queue.length
  }

  /**
   * Waits for a slot; the answer frees it.
   * @throws {BusyError} 503 when too many wait or it took too long; the signal's reason when the client left.
   */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#running >= this.#size) {
      if (this.#queue.length >= QUEUE_MAX)
        throw new BusyError(503, 'overloaded', 'too many requests are waiting, try again later', 5)
      await new Promise<void>((resolve, reject) => {
        const entry: Waiting = {
          go: () => {
            end()
            resolve()
          }
        }
        const leave = (err: unknown): void => {
          end()
          this.#queue.splice(this.#queue.indexOf(entry), 1)
          reject(err)
        }
        const onAbort = (): void => leave(signal.reason)
        const cancel = this.#clock.after(QUEUE_WAIT_MS, () =>
          leave(new BusyError(503, 'overloaded', 'no capacity became free in time, try again later', 5))
        )
        const end = (): void => {
          cancel()
          signal.removeEventListener('abort', onAbort)
        }
        signal.addEventListener('abort', onAbort, { once: true })
        this.#queue.push(entry)
      })
    } else this.#running++
    let freed = false
    return () => {
      if (freed) return
      freed = true
      // Handed over, not freed: nobody who comes now overtakes the queue.
      const next = this.#queue.shift()
      if (next === undefined) this.#running--
      else next.go()
    }
  }
}
