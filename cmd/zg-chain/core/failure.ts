/** What the engine says when it cannot, as the errors that the rest of zg knows. */
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import type { NativeError } from '../../../lib/evm/types.ts'

/** Failures after which the chain can go on. */
const HARMLESS = ['rejected', 'not found', 'pruned']

/** @returns what to throw; something that is no failure of the engine comes back as it is. */
export function fromNative(err: unknown): unknown {
  const { failure } = err as NativeError
  const text = messageOf(err)
  const made = (code: ConstructorParameters<typeof ZgError>[0], hint?: string, facts?: string[]) =>
    new ZgError(code, text, { cause: err, hint, ...(facts === undefined ? {} : { facts }) })
  switch (failure) {
    case 'locked':
      return made('ERR_LOCKED')
    case 'corrupt':
      return made('ERR_CORRUPT', 'restore the data directory from a copy, or make the chain anew')
    case 'wrong network':
      return made('ERR_WRONG_NETWORK', 'name another directory with --dir')
    case 'io':
      return made(/no space left/i.test(text) ? 'ERR_DISK_FULL' : 'ERR_IO')
    case 'not found':
      return made('ERR_NOT_FOUND')
    case 'rejected':
      return made('ERR_REJECTED')
    case 'pruned':
      return made('ERR_NOT_FOUND', undefined, ['pruned'])
    case 'stopped':
      return made('ERR_STOPPED')
    default:
      return err
  }
}

/** True when the chain must not go on. */
export function isFatal(err: unknown): boolean {
  if (err instanceof ZgError) {
    if (['ERR_BAD_INPUT', 'ERR_REJECTED', 'ERR_NOT_FOUND', 'ERR_TIMEOUT'].includes(err.code)) return false
    return err.code !== 'ERR_STOPPED'
  }
  return !HARMLESS.includes((err as NativeError).failure ?? '')
}

/** Runs an operation of the engine with its failures translated. */
export async function asking<T>(work: Promise<T> | (() => Promise<T>)): Promise<T> {
  try {
    return await (typeof work === 'function' ? work() : work)
  } catch (err) {
    throw fromNative(err)
  }
}

/** The same for what answers at once. */
export function askingNow<T>(work: () => T): T {
  try {
    return work()
  } catch (err) {
    throw fromNative(err)
  }
}
