/** A bound on memory that several works share: each says what it will need and waits its turn, in order. */
import { ZgError } from '../../lib/base/errors.ts'

export class Budget {
  readonly #total: number
  readonly #maxWaiting: number
  #used = 0
  readonly #waiting: { bytes: number; go: () => void }[] = []

  /** @param maxWaiting - further ones are refused. */
  constructor(totalBytes: number, maxWaiting: number) {
    this.#total = totalBytes
    this.#maxWaiting = maxWaiting
  }

  get usedBytes(): number {
    return this.#used
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /**
   * Waits until there is room. A work larger than the whole budget runs alone.
   * @returns gives the room back; safe to call twice.
   * @throws {ZgError} ERR_UNAVAILABLE when too many wait, ERR_STOPPED.
   */
  async take(bytes: number, signal?: AbortSignal): Promise<() => void> {
    const share = Math.min(bytes, this.#total)
    if (this.#waiting.length > 0 || this.#used + share > this.#total) {
      if (this.#waiting.length >= this.#maxWaiting) throw new ZgError('ERR_UNAVAILABLE', 'request pool is full')
      await this.#wait(share, signal)
    } else this.#used += share
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#used -= share
      this.#wake()
    }
  }

  #wait(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        const at = this.#waiting.indexOf(entry)
        if (at >= 0) this.#waiting.splice(at, 1)
        reject(new ZgError('ERR_STOPPED', 'stopped'))
        this.#wake()
      }
      const entry = {
        bytes,
        go: () => {
          signal?.removeEventListener('abort', onAbort)
          resolve()
        }
      }
      if (signal?.aborted) {
        reject(new ZgError('ERR_STOPPED', 'stopped'))
        return
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(entry)
    })
  }

  #wake(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#used + next.bytes > this.#total) return
      this.#waiting.shift()
      this.#used += next.bytes
      next.go()
    }
  }
}
