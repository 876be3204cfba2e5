/**
 * The token that guards an Engine API port: JWT with HS256 alone, a 32-byte secret both sides read from a file, and a time of issue at
 * most 60 s from now. Source: execution-apis, authentication; chain.md 8.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import { readSecretFile, writeSecretFile } from '../../../lib/crypto/keystore-file.ts'

/** How far the time of issue may be from now, either way. */
const DRIFT_SECONDS = 60
/** A token has about 150 characters. */
const MAX_TOKEN = 2_048

/**
 * The secret in a file: 64 hex digits, with or without 0x. A missing file is made, mode 0600, with a new secret, when `make` is set.
 * @throws {ZgError} ERR_NO_INPUT when absent, ERR_PERMISSION when others may read it, ERR_BAD_INPUT when it is no secret.
 */
export async function jwtSecret(path: string, make: boolean): Promise<Uint8Array> {
  let text: string
  try {
    text = await readSecretFile(path)
  } catch (err) {
    if (!make || !(err instanceof ZgError) || err.code !== 'ERR_NO_INPUT') throw err
    const secret = randomBytes(32)
    await writeSecretFile(path, new TextEncoder().encode(`${toHex(secret)}\n`))
    return secret
  }
  try {
    return fromHex(text.trim(), 'secret', { size: 32, bare: true })
  } catch (err) {
    throw new ZgError('ERR_BAD_INPUT', `'${path}' does not hold 64 hex digits`, { cause: err })
  }
}

const encode = (value: object | Uint8Array): string =>
  Buffer.from(value instanceof Uint8Array ? value : JSON.stringify(value)).toString('base64url')

const HEADER = encode({ alg: 'HS256', typ: 'JWT' })

/** A token issued now. */
export function jwtToken(secret: Uint8Array, nowMs: number): string {
  const body = `${HEADER}.${encode({ iat: Math.floor(nowMs / 1000) })}`
  return `${body}.${encode(createHmac('sha256', secret).update(body).digest())}`
}

/** Checks an Authorization header; any doubt is a no. */
export function jwtAccepts(header: string | undefined, secret: Uint8Array, nowMs: number): boolean {
  if (header === undefined || header.length > MAX_TOKEN) return false
  const m = /^Bearer ([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/i.exec(header)
  if (m === null) return false
  const [, head, body, signature] = m
  const wanted = createHmac('sha256', secret).update(`${head}.${body}`).digest()
  // Digests of equal length, so that the comparison tells nothing about the length either.
  const digest = (b: Uint8Array): Buffer => createHash('sha256').update(b).digest()
  if (!timingSafeEqual(digest(wanted), digest(Buffer.from(signature!, 'base64url')))) return false
  const claims = parse(body!)
  const { iat, exp } = claims
  // The algorithm is a field of the stranger's; only one is accepted, whatever it says.
  if (parse(head!).alg !== 'HS256' || typeof iat !== 'number') return false
  const now = nowMs / 1000
  if (exp !== undefined && (typeof exp !== 'number' || exp < now)) return false
  return Math.abs(now - iat) <= DRIFT_SECONDS
}

function parse(part: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}
