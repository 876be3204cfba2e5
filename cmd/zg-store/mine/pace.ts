/** Keeps the work of this process within a share of one core: after each piece of it, a rest. */
import { pause } from '../../../lib/clients/chain.ts'

/** A rest is at most so long at once; what is owed beyond is forgiven, so a stall elsewhere does not stop mining for minutes. */
const REST_MAX_MS = 5_000
const REST_MIN_MS = 2

export class Pace {
  readonly #share: number
  #cpuMs = cpuMs()
  #at = performance.now()
  #owedMs = 0

  /** @param percent - of one core; 200 is two cores. */
  constructor(percent: number) {
    this.#share = percent / 100
  }

  /** Rests as long as the CPU time since the last call asks for, threads of the pool included. */
  async rest(signal: AbortSignal): Promise<void> {
    const used = cpuMs() - this.#cpuMs
    const passed = performance.now() - this.#at
    this.#owedMs = Math.min(this.#owedMs + used / this.#share - passed, REST_MAX_MS)
    if (this.#owedMs > REST_MIN_MS) await pause(this.#owedMs, signal)
    else if (this.#owedMs < -REST_MIN_MS) this.#owedMs = 0
    // The rest itself is paid by time: it is part of the next interval, against what is still owed.
    this.#cpuMs += used
    this.#at += passed
  }
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}
