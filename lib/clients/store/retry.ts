/** Waiting between attempts: exponential with jitter, ended by a signal. */
import { setTimeout as sleep } from 'node:timers/promises'

const FIRST_MS = 100
const MOST_MS = 5_000

/**
 * Waits before attempt `n` (1, 2, …): about 100, 200, 400 ms … at most 5 s, half of it random so that many clients do not
 * come back together.
 */
export async function backoff(n: number, signal?: AbortSignal): Promise<void> {
  const most = Math.min(MOST_MS, FIRST_MS * 2 ** (n - 1))
  await pause(most / 2 + Math.random() * (most / 2), signal)
}

/** Waits `ms`; rejects with the signal's reason. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal })
  } catch (err) {
    throw signal?.reason ?? err
  }
}

/** Polls until `check` answers something: quickly at first, then every `mostMs`. Undefined when the deadline passed. */
export async function until<T>(
  check: () => Promise<T | undefined>,
  o: { deadlineMs: number; firstMs?: number; mostMs?: number; signal?: AbortSignal | undefined }
): Promise<T | undefined> {
  const end = performance.now() + o.deadlineMs
  let wait = o.firstMs ?? 20
  for (;;) {
    const found = await check()
    if (found !== undefined) return found
    if (performance.now() + wait > end) return undefined
    await pause(wait, o.signal)
    wait = Math.min(wait * 1.5, o.mostMs ?? 250)
  }
}

/**
 * Waits for all, but once an answer is good only `graceMs` longer: one silent node must not hold up what others can answer.
 * None of the promises may reject; those that are late are undefined.
 */
export async function allOrGrace<T>(
  work: readonly Promise<T>[],
  good: (answer: T) => boolean,
  graceMs: number
): Promise<(T | undefined)[]> {
  const out: (T | undefined)[] = work.map(() => undefined)
  await new Promise<void>(resolve => {
    let left = work.length
    let timer: NodeJS.Timeout | undefined
    const done = (): void => {
      clearTimeout(timer)
      resolve()
    }
    if (left === 0) done()
    work.forEach((promise, i) => {
      void promise.then(answer => {
        out[i] = answer
        if (--left === 0) done()
        else if (timer === undefined && good(answer)) timer = setTimeout(done, graceMs)
      })
    })
  })
  return out
}
