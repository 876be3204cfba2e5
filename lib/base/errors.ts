/**
 * The one error type for everything that is expected to go wrong. Bugs use {@link assert}; hostile input is answered by a
 * typed rejection at the edge that read it. `lib/cli/exit.ts` maps each code to a process exit status.
 */

/** Stable, machine-readable reasons. Codes are only ever added. */
export type ErrorCode =
  | 'ERR_USAGE'
  | 'ERR_BAD_INPUT'
  | 'ERR_NO_INPUT'
  | 'ERR_UNAVAILABLE'
  | 'ERR_NO_NETWORK'
  | 'ERR_NOT_FOUND'
  | 'ERR_EXISTS'
  | 'ERR_IO'
  | 'ERR_DISK_FULL'
  | 'ERR_LOCKED'
  | 'ERR_NOT_SYNCED'
  | 'ERR_TIMEOUT'
  | 'ERR_PROTOCOL'
  | 'ERR_REJECTED'
  | 'ERR_BAD_PROOF'
  | 'ERR_CORRUPT'
  | 'ERR_PERMISSION'
  | 'ERR_PASSWORD'
  | 'ERR_FUNDS'
  | 'ERR_CONFIG'
  | 'ERR_WRONG_NETWORK'
  | 'ERR_NO_CONTRACT'
  | 'ERR_PORT_IN_USE'
  | 'ERR_NATIVE'
  | 'ERR_CRASHED'
  | 'ERR_STOPPED'
  | 'ERR_BUG'

/** An expected failure: what failed and why in `message` (lower case, no full stop), what to do next in `hint`. */
export class ZgError extends Error {
  readonly code: ErrorCode
  /** What to do next, for people; a command stands in single quotes. */
  readonly hint: string | undefined
  /** At most two further lines of fact. */
  readonly facts: readonly string[]
  constructor(
    code: ErrorCode,
    message: string,
    opts: { hint?: string | undefined; facts?: string[]; cause?: unknown } = {}
  ) {
    super(message, opts.cause === undefined ? undefined : { cause: opts.cause })
    this.name = 'ZgError'
    this.code = code
    this.hint = opts.hint
    this.facts = opts.facts ?? []
  }
}

/** A broken invariant. The process must stop (exit 70), never go on. */
export class AssertionError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'AssertionError'
  }
}

/**
 * Stops on a broken invariant; stays on in production.
 * @throws {AssertionError} when `condition` is false.
 */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message)
}

/** The system error code (`ENOENT`, `LEVEL_LOCKED`, …) of an unknown thrown value, looked for along its causes. */
export function systemCode(err: unknown): string | undefined {
  for (let e = err, depth = 0; e instanceof Error && depth < 8; e = e.cause, depth++) {
    const code = (e as { code?: unknown }).code
    if (typeof code === 'string' && !(e instanceof ZgError)) return code
    if (e instanceof AggregateError && e.errors.length > 0) return systemCode(e.errors[0])
  }
  return undefined
}

/** The message of an unknown thrown value, on one line. */
export function messageOf(err: unknown): string {
  const text = err instanceof Error ? err.message || err.name : String(err)
  return text.replace(/\s+/g, ' ').trim()
}
