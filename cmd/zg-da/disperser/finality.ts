/** Waits for blocks to become final. Follows the chain's heads only while somebody waits. */
import { ZgError } from '../../../lib/base/errors.ts'
import type { DaChain } from '../../../lib/clients/da/chain.ts'
import type { Clock } from '../../../lib/ports/clock.ts'

/** After the last waiter: the next blob is often near. */
const LINGER_MS = 10_000

export class Finality {
  readonly #chain: DaChain
  readonly #clock: Clock
  readonly #signal: AbortSignal
  readonly #waiting = new Set<{ block: number; done: () => void }>()
  #known = -1
  #unfollow: (() => void) | undefined
  #linger: (() => void) | undefined
  #looking = false

  constructor(chain: DaChain, clock: Clock, signal: AbortSignal) {
    this.#chain = chain
    this.#clock = clock
    this.#signal = signal
    signal.addEventListener('abort', () => this.#stop(), { once: true })
  }

  /** @throws {ZgError} ERR_STOPPED. */
  async reached(block: number): Promise<void> {
    if (this.#known >= block) return
    await new Promise<void>((resolve, reject) => {
      const entry = {
        block,
        done: () => {
          this.#signal.removeEventListener('abort', onAbort)
          resolve()
        }
      }
      const onAbort = (): void => {
        this.#waiting.delete(entry)
        reject(new ZgError('ERR_STOPPED', 'stopped'))
      }
      if (this.#signal.aborted) {
        onAbort()
        return
      }
      this.#signal.addEventListener('abort', onAbort, { once: true })
      this.#waiting.add(entry)
      this.#follow()
      void this.#look()
    })
  }

  #follow(): void {
    this.#linger?.()
    this.#linger = undefined
    this.#unfollow ??= this.#chain.client.subscribeHeads(() => this.#look())
  }

  async #look(): Promise<void> {
    if (this.#looking || this.#waiting.size === 0) return
    this.#looking = true
    try {
      this.#known = await this.#chain.finalized()
    } catch {
      // The next head asks again.
      return
    } finally {
      this.#looking = false
    }
    for (const entry of this.#waiting) {
      if (entry.block > this.#known) continue
      this.#waiting.delete(entry)
      entry.done()
    }
    if (this.#waiting.size > 0 || this.#linger !== undefined) return
    this.#linger = this.#clock.after(LINGER_MS, () => {
      if (this.#waiting.size === 0) this.#stop()
    })
  }

  #stop(): void {
    this.#unfollow?.()
    this.#unfollow = undefined
    this.#linger?.()
    this.#linger = undefined
  }
}
