/** The system's clock. */
import { type Clock, sleepOn } from '../ports/clock.ts'

/** setTimeout takes at most 2³¹−1 ms and fires at once above it. */
const TIMER_MAX_MS = 2 ** 31 - 1

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, fn) {
    let timer: NodeJS.Timeout
    const arm = (left: number): void => {
      timer =
        left > TIMER_MAX_MS
          ? setTimeout(() => arm(left - TIMER_MAX_MS), TIMER_MAX_MS)
          : setTimeout(fn, Math.max(0, left))
    }
    arm(ms)
    return () => clearTimeout(timer)
  },
  sleep(ms, signal) {
    return sleepOn(systemClock, ms, signal)
  }
}
