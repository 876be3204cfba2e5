/** The only table from errors to process exit statuses (sysexits numbers; style.md "Errors and exit codes"). */
import { type ErrorCode, systemCode, ZgError } from '../base/errors.ts'

export const EXIT: Record<ErrorCode, number> = {
  ERR_USAGE: 64,
  ERR_BAD_INPUT: 65,
  ERR_BAD_PROOF: 65,
  ERR_NO_INPUT: 66,
  ERR_UNAVAILABLE: 69,
  ERR_NO_NETWORK: 69,
  ERR_NOT_FOUND: 69,
  ERR_CRASHED: 69,
  ERR_BUG: 70,
  ERR_EXISTS: 73,
  ERR_IO: 74,
  ERR_DISK_FULL: 74,
  ERR_CORRUPT: 74,
  ERR_LOCKED: 75,
  ERR_NOT_SYNCED: 75,
  ERR_TIMEOUT: 75,
  ERR_PROTOCOL: 76,
  ERR_REJECTED: 76,
  ERR_PERMISSION: 77,
  ERR_PASSWORD: 77,
  ERR_FUNDS: 77,
  ERR_CONFIG: 78,
  ERR_WRONG_NETWORK: 78,
  ERR_NO_CONTRACT: 78,
  ERR_PORT_IN_USE: 78,
  ERR_NATIVE: 78,
  ERR_STOPPED: 130
}

/** What each status says, for help and man pages. */
export const EXIT_MEANING: Record<number, string> = {
  0: 'done',
  1: 'a plain no: a mismatch, or nothing found',
  64: 'wrong flags or arguments',
  65: 'input is malformed, or does not match its proof',
  66: 'input file missing',
  69: 'node, service or file not reachable',
  70: 'a bug; please report',
  73: 'output exists or cannot be created',
  74: 'read or write failed, disk full, data damaged',
  75: 'try again: locked, syncing, timed out',
  76: 'the other side refused or broke the protocol',
  77: 'wrong password, no permission, no money',
  78: 'configuration wrong: port taken, other network',
  130: 'stopped by SIGINT',
  141: 'stdout was closed',
  143: 'stopped by SIGTERM'
}

/** Turns anything thrown into the one error that is shown. System errors that reach this point get their plain words. */
export function toZgError(err: unknown): ZgError | undefined {
  if (err instanceof ZgError) return err
  const path = (err as { path?: unknown } | null)?.path
  const subject = typeof path === 'string' ? `'${path}'` : 'file'
  switch (systemCode(err)) {
    case 'ENOENT':
      return new ZgError('ERR_NO_INPUT', `cannot open ${subject}: no such file or directory`, { cause: err })
    case 'EACCES':
    case 'EPERM':
      return new ZgError('ERR_PERMISSION', `cannot open ${subject}: permission denied`, { cause: err })
    case 'EISDIR':
      return new ZgError('ERR_BAD_INPUT', `cannot read ${subject}: is a directory`, { cause: err })
    case 'ENOTDIR':
      return new ZgError('ERR_BAD_INPUT', `cannot open ${subject}: a part of the path is not a directory`, {
        cause: err
      })
    case 'EEXIST':
      return new ZgError('ERR_EXISTS', `${subject} exists`, { cause: err })
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return new ZgError('ERR_DISK_FULL', `cannot write ${subject}: no space left`, { cause: err })
    case 'EIO':
      return new ZgError('ERR_IO', `cannot read or write ${subject}: the device failed`, { cause: err })
    case 'EROFS':
      return new ZgError('ERR_IO', `cannot write ${subject}: the file system is read-only`, { cause: err })
    case 'EMFILE':
    case 'ENFILE':
      return new ZgError('ERR_UNAVAILABLE', 'too many open files', {
        cause: err,
        hint: "raise the limit with 'ulimit -n 65536'"
      })
    default:
      return undefined
  }
}
