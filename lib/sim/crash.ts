/**
 * Power loss at every write: a scenario is run once to count its disk operations (N), then once for each n = 1…N with the power
 * cut during the n-th, and once cut after its end; from each crash the disk comes back in every mode, and a check looks at it.
 */
import { messageOf } from '../base/errors.ts'
import { CRASH_MODES, type CrashMode, SimDisk } from './disk.ts'

export interface CrashPoint {
  /** The interrupted operation, 1-based; N + 1 is the end of the scenario. */
  n: number
  /** It in words, or `end`. */
  operation: string
  mode: CrashMode
  seed: string
}

export interface CrashPlan<A> {
  /** Makes a fresh record of what the scenario was told is done; the check reads it and must not change it. */
  acked: () => A
  /** The program under test: opens its files on `disk`, works, and notes in `acked` each promise it got. Deterministic. */
  scenario: (disk: SimDisk, acked: A) => Promise<void>
  /** Opens the program again on what is left and throws when a promise in `acked` is broken. Gets its own disk each time. */
  check: (disk: SimDisk, acked: A, at: CrashPoint) => Promise<void>
  /** Default: all four. */
  modes?: readonly CrashMode[]
  /** Draws of `subset` (and of `prefix`) at each point; default 8 (and 2). */
  seeds?: number
  prefixSeeds?: number
  /** Begins every seed; printed in failures. */
  seed?: string | number
  /** What the disk holds before the scenario; default empty. */
  start?: () => Promise<SimDisk>
}

export interface CrashReport {
  /** Crash points tried, the end included. */
  points: number
  /** Reopenings checked. */
  runs: number
  /** History hash of the uncut scenario. */
  hash: string
}

/**
 * Tries every crash point.
 * @throws {Error} at the first broken promise, with n, operation, mode and seed in its message, or when two runs of the
 *   scenario differ before the crash.
 */
export async function forEveryCrash<A>(plan: CrashPlan<A>): Promise<CrashReport> {
  const start = plan.start ?? (async () => new SimDisk())
  const whole = await start()
  const before = whole.ops
  await plan.scenario(whole, plan.acked())
  const total = whole.ops
  let runs = 0
  for (let n = before + 1; n <= total + 1; n++) {
    const { disk, acked } = await crashedAt(plan, start, n, whole)
    const operation = whole.trace[n - 1] ?? 'end'
    for (const [mode, seed] of draws(plan, n)) {
      try {
        await plan.check(disk.afterCrash(mode, seed), acked, { n, operation, mode, seed })
      } catch (err) {
        const where = `crash at ${n} of ${total} (${operation}), mode ${mode}, seed ${seed}`
        throw new Error(`${where}: ${messageOf(err)}`, { cause: err })
      }
      runs++
    }
  }
  return { points: total + 1 - before, runs, hash: whole.hash() }
}

/** Runs the scenario with the power cut at operation n (or after its end) and proves that it did the same until then. */
async function crashedAt<A>(
  plan: CrashPlan<A>,
  start: () => Promise<SimDisk>,
  n: number,
  whole: SimDisk
): Promise<{ disk: SimDisk; acked: A }> {
  const disk = await start()
  const acked = plan.acked()
  disk.crashAt(n)
  try {
    await plan.scenario(disk, acked)
  } catch (err) {
    // Whatever the program makes of the power loss; anything before it is the scenario's own failure.
    if (!disk.crashed) throw new Error(`scenario failed without a crash (n ${n}): ${messageOf(err)}`, { cause: err })
  }
  if (n > whole.ops) disk.crashNow()
  const last = Math.min(n, whole.ops)
  for (let i = 0; i < last; i++) {
    if (disk.trace[i] === whole.trace[i]) continue
    throw new Error(`scenario is not deterministic: operation ${i + 1} was '${whole.trace[i]}', now '${disk.trace[i]}'`)
  }
  return { disk, acked }
}

function* draws<A>(plan: CrashPlan<A>, n: number): Generator<[CrashMode, string]> {
  for (const mode of plan.modes ?? CRASH_MODES) {
    const count = mode === 'subset' ? (plan.seeds ?? 8) : mode === 'prefix' ? (plan.prefixSeeds ?? 2) : 1
    for (let i = 0; i < count; i++) yield [mode, `${plan.seed ?? 1}/${n}/${i}`]
  }
}
