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

/** `sleep` of a clock that has `after`. */
export function sleepOn(clock: Pick<Clock, 'after'>, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason)
      return
    }
    const onAbort = (): void => {
      cancel()
      reject(signal?.reason)
    }
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** Calls `fn` every `ms`, never twice at once. @returns the stop, which waits for a run under way. */
export function repeat(clock: Clock, ms: number, fn: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> = Promise.resolve()
  let stopped = false
  let cancel: () => void = () => {}
  const arm = (): void => {
    cancel = clock.after(ms, () => {
      running = fn()
        .catch(() => {})
        .then(() => {
          if (!stopped) arm()
        })
    })
  }
  arm()
  return () => {
    stopped = true
    cancel()
    return running
  }
}
