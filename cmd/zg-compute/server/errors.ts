/** Refusals of the HTTP service in the API's words: status, type, code, and a label for counters (compute.md 2.4). */
import type { ServerResponse } from 'node:http'
import { HttpError } from '../../../lib/adapters/http.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { TokenRefusal } from '../../../lib/codec/compute/session-token.ts'
import { ApiError, errorBody } from '../../../lib/infer/openai.ts'

/** A refusal that may be tried again after some seconds. */
export class BusyError extends ApiError {
  readonly retryAfterSeconds: number
  readonly reason: string
  constructor(status: 429 | 503, reason: string, message: string, retryAfterSeconds: number) {
    super(status, message, { type: status === 429 ? 'rate_limit_error' : 'overloaded', code: reason })
    this.retryAfterSeconds = retryAfterSeconds
    this.reason = reason
  }
}

/** Not enough locked: 402. */
export function noBalance(message: string): ApiError {
  return new ApiError(402, message, { type: 'insufficient_quota', code: 'insufficient_balance' })
}

export function notFound(message: string, code: string): ApiError {
  return new ApiError(404, message, { type: 'not_found_error', code })
}

/** Any error as one that a client may read. */
export function apiError(err: unknown): ApiError {
  if (err instanceof ApiError) return err
  if (err instanceof TokenRefusal) {
    const type =
      err.status === 401 ? 'authentication_error' : err.status === 402 ? 'insufficient_quota' : 'permission_error'
    return new ApiError(err.status, err.message, { type, code: err.reason })
  }
  if (err instanceof HttpError)
    return new ApiError(err.status, err.message, err.status >= 500 ? {} : { code: 'invalid_request' })
  const { status, body } = errorBody(err)
  return new ApiError(status, body.error.message, {
    type: body.error.type as NonNullable<ConstructorParameters<typeof ApiError>[2]>['type'] & string,
    ...(body.error.code === null ? {} : { code: body.error.code })
  })
}

/** The label under which a refusal is counted: a closed set, whatever clients send. */
export function refusalReason(err: ApiError): string {
  const code = err.apiCode ?? ''
  if (KNOWN_REASONS.has(code)) return code
  if (err.status === 413) return 'body_too_large'
  return err.status >= 500 ? 'internal' : 'invalid_request'
}

const KNOWN_REASONS = new Set([
  'missing_token',
  'malformed_token',
  'other_provider',
  'expired_token',
  'future_token',
  'wrong_signer',
  'account_not_exist',
  'revoked_token',
  'invalid_generation',
  'not_acknowledged',
  'insufficient_balance',
  'rate_limit',
  'concurrency',
  'overloaded',
  'draining',
  'starting',
  'chain_unavailable',
  'disk_unavailable',
  'model_not_found',
  'context_length_exceeded',
  'endpoint_not_supported',
  'chat_id_not_found'
])

/** True for errors that are nobody's expectation: to be logged. */
export function isBug(err: unknown): boolean {
  return !(err instanceof ZgError || err instanceof HttpError)
}

/**
 * Writes a refusal.
 * @param plain - `{"error":"text"}`: the form of routes that are not OpenAI's.
 */
export function sendRefusal(res: ServerResponse, err: ApiError, plain: boolean): void {
  const body = Buffer.from(JSON.stringify(plain ? { error: err.message } : errorBody(err).body))
  if (err instanceof BusyError) res.setHeader('Retry-After', String(err.retryAfterSeconds))
  res.setHeader('ZG-Failure-Source', err.status >= 500 ? 'broker' : 'client')
  res.writeHead(err.status, { 'Content-Type': 'application/json', 'Content-Length': body.length })
  res.end(res.req.method === 'HEAD' ? undefined : body)
}
