/** gRPC status codes as the services of data availability use them, and their meaning in the family's own error codes. */
import { type ErrorCode, messageOf, ZgError } from '../../base/errors.ts'

export const STATUS = {
  ok: 0,
  cancelled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  resourceExhausted: 8,
  failedPrecondition: 9,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15
} as const

/** A call that ended with another status than OK: thrown by handlers, and the cause of what a client throws. */
export class GrpcError extends Error {
  readonly code: number
  constructor(code: number, message: string, opts: { cause?: unknown } = {}) {
    super(message, opts.cause === undefined ? undefined : { cause: opts.cause })
    this.name = 'GrpcError'
    this.code = code
  }
}

const TO_STATUS: Partial<Record<ErrorCode, number>> = {
  ERR_USAGE: STATUS.invalidArgument,
  ERR_BAD_INPUT: STATUS.invalidArgument,
  ERR_NOT_FOUND: STATUS.notFound,
  ERR_EXISTS: STATUS.alreadyExists,
  ERR_DISK_FULL: STATUS.resourceExhausted,
  ERR_UNAVAILABLE: STATUS.unavailable,
  ERR_NOT_SYNCED: STATUS.unavailable,
  ERR_TIMEOUT: STATUS.deadlineExceeded,
  ERR_STOPPED: STATUS.unavailable,
  ERR_BAD_PROOF: STATUS.dataLoss,
  ERR_CORRUPT: STATUS.dataLoss
}

/** The status a handler's failure is answered with; undefined when it was not an expected one. */
export function statusFor(err: unknown): { code: number; details: string } | undefined {
  if (err instanceof GrpcError) return { code: err.code, details: err.message }
  if (err instanceof ZgError) return { code: TO_STATUS[err.code] ?? STATUS.internal, details: err.message }
  return undefined
}

/** The status behind an error of a client, if it was one. */
export function statusOf(err: unknown): number | undefined {
  for (let e = err, depth = 0; e instanceof Error && depth < 8; e = e.cause, depth++) {
    if (e instanceof GrpcError) return e.code
  }
  return undefined
}

const FROM_STATUS: Record<number, ErrorCode> = {
  [STATUS.cancelled]: 'ERR_STOPPED',
  [STATUS.invalidArgument]: 'ERR_BAD_INPUT',
  [STATUS.deadlineExceeded]: 'ERR_TIMEOUT',
  [STATUS.notFound]: 'ERR_NOT_FOUND',
  [STATUS.alreadyExists]: 'ERR_EXISTS',
  [STATUS.resourceExhausted]: 'ERR_UNAVAILABLE',
  [STATUS.unavailable]: 'ERR_UNAVAILABLE',
  [STATUS.dataLoss]: 'ERR_BAD_PROOF',
  [STATUS.internal]: 'ERR_PROTOCOL',
  [STATUS.unimplemented]: 'ERR_PROTOCOL'
}

/**
 * What a client throws.
 * @param what - names the service: `disperser`, `signer`.
 */
export function clientError(err: unknown, what: string, address: string, hint?: string): ZgError {
  if (err instanceof ZgError) return err
  const { code, details } = err as { code?: unknown; details?: unknown }
  const status = typeof code === 'number' ? code : STATUS.unknown
  const text = typeof details === 'string' && details !== '' ? details.slice(0, 300) : messageOf(err)
  const cause = new GrpcError(status, text, { cause: err })
  if (status === STATUS.unavailable && /No connection|ECONNREFUSED|Failed to connect|dropped|ECONNRESET/i.test(text)) {
    return new ZgError('ERR_UNAVAILABLE', `cannot reach ${what} at ${address}: nothing answers there`, { cause, hint })
  }
  if (status === STATUS.deadlineExceeded)
    return new ZgError('ERR_TIMEOUT', `${what} at ${address} did not answer in time`, { cause, hint })
  return new ZgError(FROM_STATUS[status] ?? 'ERR_REJECTED', `${what} at ${address}: ${text}`, { cause, hint })
}
