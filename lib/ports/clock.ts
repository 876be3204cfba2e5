/** Time as handed to a core: never read directly. */
export interface Clock {
  /** Wall time in ms since 1970. Only ever data: it may jump. */
  now(): number
  /** Monotonic ms with fractions; every timeout is measured by it. */
  monotonic(): number
  /** Calls back once after `ms`; the answer cancels it. */
  after(ms: number, fn: () => void): () => void
  /** Resolves after `ms`, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}
