/**
 * When the one validator makes a block. Three ways, alone or together:
 *
 *   interval    a block every `intervalMs`, empty ones too; the beat is fixed, a slow block does not shift the next ones
 *   on demand   a block as soon as a transaction is executable; what arrives together shares it; never an empty one
 *   manual      neither: `mine` alone makes blocks
 *
 * The producer only decides when; the chain serialises and commits.
 */
import type { Clock } from '../../../lib/ports/clock.ts'

export interface ProducerOptions {
  clock: Clock
  /** Makes and commits a block; false when there was nothing to put in (only without `empty`). */
  produce(opts: { empty: boolean }): Promise<boolean>
  hasExecutable(): boolean
  /** A commit failed: the chain has stopped already. */
  onError(err: unknown): void
}

export class Producer {
  readonly #opts: ProducerOptions
  #running = false
  #intervalMs = 0
  #onDemand = false
  #cancelBeat: (() => void) | undefined
  #cancelDemand: (() => void) | undefined
  #busy: Promise<unknown> = Promise.resolve()

  constructor(opts: ProducerOptions) {
    this.#opts = opts
  }

  get onDemand(): boolean {
    return this.#onDemand
  }

  get intervalMs(): number {
    return this.#intervalMs
  }

  start(): void {
    this.#running = true
    this.#beat(this.#opts.clock.monotonic() + this.#intervalMs)
    this.wake()
  }

  /** Resolves when no block is being made any more. */
  async stop(): Promise<void> {
    this.#running = false
    this.#cancelBeat?.()
    this.#cancelDemand?.()
    this.#cancelDemand = undefined
    await this.#busy
  }

  /** 0: none. */
  setInterval(ms: number): void {
    this.#intervalMs = ms
    this.#cancelBeat?.()
    if (this.#running) this.#beat(this.#opts.clock.monotonic() + ms)
  }

  setOnDemand(on: boolean): void {
    this.#onDemand = on
    this.wake()
  }

  /** Something may have become executable. */
  wake(): void {
    if (!this.#running || !this.#onDemand || this.#cancelDemand !== undefined) return
    if (!this.#opts.hasExecutable()) return
    this.#cancelDemand = this.#opts.clock.after(0, () => {
      this.#make(false).then(made => {
        this.#cancelDemand = undefined
        // What did not fit waits for the next; a block without success is not tried again before something new arrives.
        if (made) this.wake()
      })
    })
  }

  #beat(dueMs: number): void {
    if (this.#intervalMs === 0) return
    const { clock } = this.#opts
    this.#cancelBeat = clock.after(Math.max(0, dueMs - clock.monotonic()), () => {
      this.#make(true).then(() => {
        if (!this.#running) return
        // Beats missed while a block took long are not made up for.
        const now = clock.monotonic()
        const missed = Math.max(0, Math.floor((now - dueMs) / this.#intervalMs))
        this.#beat(dueMs + this.#intervalMs * (missed + 1))
      })
    })
  }

  async #make(empty: boolean): Promise<boolean> {
    if (!this.#running) return false
    const work = this.#opts.produce({ empty }).catch(err => {
      this.#running = false
      this.#opts.onError(err)
      return false
    })
    this.#busy = work
    return work
  }
}
