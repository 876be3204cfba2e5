/**
 * Session tokens: what a user signs to be served by one provider (compute.md 2.2).
 *
 *   rawMessage = {"address":…,"provider":…,"timestamp":…,"expiresAt":…,"nonce":…,"generation":…,"tokenId":…}   this order, no spaces
 *   signature  = EIP-191 over keccak256(rawMessage), 0x and 130 lower-case hex digits, v 27 or 28
 *   header     = "Bearer app-sk-" + base64(rawMessage + "|" + signature)
 *
 * A token is verified over the bytes that came, never over what they would be if written anew. Everything that could be changed
 * without changing what is signed (upper-case hex, unused bits of base64, bytes behind the signature) is refused, so that a token
 * has one form; only the padding of base64 may be missing. The checks come in three steps, in the specification's order:
 * {@link readSessionToken} (form), {@link checkSessionToken} (whom, when, who signed), {@link checkAccount} (what the chain says).
 */
import { fromUtf8, utf8 } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { addressFromHex, type Hex, toHex } from '../../base/hex.ts'
import { checksumAddress } from '../../crypto/address.ts'
import { keccak256 } from '../../crypto/hash.ts'
import { personalHash, recoverPersonal, signPersonal } from './personal-sign.ts'

/** `tokenId` of a token that must expire; ids below it are API keys. */
export const EPHEMERAL_ID = 255
/** Longest life of an ephemeral token. */
export const EPHEMERAL_MAX_MS = 86_400_000
/** How far a token may be dated ahead: without this an ephemeral one could live for years. */
export const FUTURE_MAX_MS = 3_600_000
/** A token with its prefix: real ones have under 600 bytes. */
export const TOKEN_MAX_BYTES = 4096

/** The signed fields. Times are ms since 1970; `expiresAt` 0 is never. Addresses as written, compared in any case. */
export interface SessionToken {
  address: string
  provider: string
  timestamp: number
  expiresAt: number
  nonce: string
  generation: number
  tokenId: number
}

/** A token as it came: fields, the signed bytes, the signature (65 bytes). */
export interface ReceivedToken {
  token: SessionToken
  /** Bytes that are hashed and signed. */
  rawMessage: Uint8Array
  /** r ‖ s ‖ v. */
  signature: Uint8Array
}

/** What the chain knows about (user, provider), as far as tokens care. */
export interface TokenAccount {
  generation: bigint
  revokedBitmap: bigint
  acknowledged: boolean
}

/** Why a token is not taken. Each has its HTTP status and a word for counters. */
export class TokenRefusal extends ZgError {
  readonly status: 401 | 402 | 403
  readonly reason: string
  constructor(status: 401 | 402 | 403, reason: string, message: string) {
    super('ERR_PERMISSION', message)
    this.status = status
    this.reason = reason
  }
}

const PREFIX = 'app-sk-'
const BEARER = `Bearer ${PREFIX}`

/**
 * Form: header, base64, separator, JSON and the types of its fields, form of the signature.
 * @param authorization - value of the Authorization header.
 * @throws {TokenRefusal} 401.
 */
export function readSessionToken(authorization: string | undefined): ReceivedToken {
  if (authorization === undefined || authorization === '') throw no('missing_token', 'no Authorization header')
  if (!authorization.startsWith(BEARER)) throw no('malformed_token', `Authorization is not '${BEARER}…'`)
  if (authorization.length > TOKEN_MAX_BYTES) throw no('malformed_token', 'the session token is too long')
  const bytes = base64(authorization.slice(BEARER.length))
  if (bytes === undefined) throw no('malformed_token', 'the session token is not base64')
  const cut = bytes.indexOf(0x7c)
  if (cut < 0) throw no('malformed_token', "the session token has no '|' before its signature")
  const rawMessage = bytes.slice(0, cut)
  return { token: readMessage(rawMessage), rawMessage, signature: readSignature(fromUtf8(bytes.slice(cut + 1))) }
}

/**
 * Whom it is for, its times, and who signed it.
 * @param o.signerOf - the recovery, replaceable by a cache; it may throw ERR_BAD_INPUT.
 * @returns the user's address, 20 bytes.
 * @throws {TokenRefusal} 403 for another provider, 401 otherwise.
 */
export function checkSessionToken(
  received: ReceivedToken,
  o: { provider: Uint8Array; nowMs: number; signerOf?: (received: ReceivedToken) => Uint8Array }
): Uint8Array {
  const { token } = received
  if (token.provider.toLowerCase() !== toHex(o.provider)) {
    throw new TokenRefusal(403, 'other_provider', `the session token is for provider ${token.provider}`)
  }
  if (token.tokenId === EPHEMERAL_ID) {
    if (token.expiresAt === 0) throw no('malformed_token', 'an ephemeral session token must expire')
    if (token.expiresAt - token.timestamp > EPHEMERAL_MAX_MS)
      throw no('malformed_token', 'an ephemeral session token may live 24 hours at most')
  }
  if (token.expiresAt !== 0 && o.nowMs > token.expiresAt) throw no('expired_token', 'the session token has expired')
  if (token.timestamp > o.nowMs + FUTURE_MAX_MS)
    throw no('future_token', 'the session token is dated more than an hour ahead')
  let signer: Uint8Array
  try {
    signer = (o.signerOf ?? tokenSigner)(received)
  } catch (err) {
    if (!(err instanceof ZgError)) throw err
    throw no('wrong_signer', `the session token's signature is no signature: ${err.message}`)
  }
  if (toHex(signer) !== token.address.toLowerCase())
    throw no('wrong_signer', 'the session token is not signed by its address')
  return signer
}

/**
 * What the chain says. `account` undefined: there is none.
 * @throws {TokenRefusal} 402 without account, 401 when revoked or of another generation, 403 when not acknowledged.
 */
export function checkAccount(token: SessionToken, account: TokenAccount | undefined): void {
  if (account === undefined) {
    throw new TokenRefusal(
      402,
      'account_not_exist',
      'insufficient balance: no account with this provider, transfer funds to it'
    )
  }
  const generation = BigInt(token.generation)
  if (generation < account.generation) throw no('revoked_token', 'the session token was revoked with all others')
  if (generation > account.generation) throw no('invalid_generation', 'the session token is of a generation to come')
  if (token.tokenId !== EPHEMERAL_ID && ((account.revokedBitmap >> BigInt(token.tokenId)) & 1n) === 1n) {
    throw no('revoked_token', `API key ${token.tokenId} was revoked`)
  }
  if (!account.acknowledged) {
    throw new TokenRefusal(403, 'not_acknowledged', "the account has not acknowledged the provider's signer")
  }
}

/** The address (20 bytes) that signed. @throws {ZgError} ERR_BAD_INPUT when the numbers are no signature. */
export function tokenSigner(received: ReceivedToken): Uint8Array {
  return recoverPersonal(keccak256(received.rawMessage), received.signature)
}

/** The exact text that is signed. */
export function tokenMessage(t: SessionToken): string {
  const { address, provider, timestamp, expiresAt, nonce, generation, tokenId } = t
  return JSON.stringify({ address, provider, timestamp, expiresAt, nonce, generation, tokenId })
}

export interface SignedToken {
  rawMessage: string
  hash: Uint8Array
  signature: Hex
  /** `app-sk-…`: the `apiKey` of OpenAI clients. */
  apiKey: string
  /** Value of the Authorization header. */
  authorization: string
}

/** Signs a token with the user's key. */
export function signSessionToken(t: SessionToken, key: Uint8Array): SignedToken {
  const rawMessage = tokenMessage(t)
  const hash = keccak256(utf8(rawMessage))
  const signature = toHex(signPersonal(hash, key))
  const apiKey = `${PREFIX}${Buffer.from(`${rawMessage}|${signature}`).toString('base64')}`
  return { rawMessage, hash, signature, apiKey, authorization: `Bearer ${apiKey}` }
}

export interface TokenOptions {
  mode: 'ephemeral' | 'persistent'
  /** Life in ms. Ephemeral: 24 h when absent or not positive; persistent: never expires then. */
  duration?: number
  /** Persistent: which key; the first free one when absent. */
  tokenId?: number
}

/**
 * The fields of a new token, by the rules of the network's own client.
 * @param o.random - in [0, 1): makes the nonce.
 * @throws {ZgError} ERR_USAGE with that client's words.
 */
export function planSessionToken(
  options: TokenOptions,
  o: {
    user: Uint8Array
    provider: Uint8Array
    account: Pick<TokenAccount, 'generation' | 'revokedBitmap'>
    nowMs: number
    random: number
  }
): SessionToken {
  const lasts = options.duration !== undefined && options.duration > 0 ? options.duration : undefined
  let tokenId = EPHEMERAL_ID
  let expiresAt = 0
  if (options.mode === 'ephemeral') {
    if (lasts !== undefined && lasts > EPHEMERAL_MAX_MS) {
      throw new ZgError('ERR_USAGE', `Ephemeral token duration cannot exceed 24 hours (${EPHEMERAL_MAX_MS}ms)`)
    }
    expiresAt = o.nowMs + (lasts ?? EPHEMERAL_MAX_MS)
  } else {
    tokenId = options.tokenId ?? firstFree(o.account.revokedBitmap)
    if (!Number.isInteger(tokenId) || tokenId < 0 || tokenId >= EPHEMERAL_ID) {
      throw new ZgError('ERR_USAGE', `Invalid tokenId: ${tokenId}. Must be between 0 and 254`)
    }
    if (lasts !== undefined) expiresAt = o.nowMs + lasts
  }
  return {
    address: checksumAddress(o.user),
    provider: checksumAddress(o.provider),
    timestamp: o.nowMs,
    expiresAt,
    nonce: `${o.nowMs}-${o.random.toString(36).substring(2, 15)}`.padEnd(32, '0'),
    generation: Number(o.account.generation),
    tokenId
  }
}

function firstFree(bitmap: bigint): number {
  for (let id = 0; id < EPHEMERAL_ID; id++) if (((bitmap >> BigInt(id)) & 1n) === 0n) return id
  throw new ZgError('ERR_USAGE', 'API Key limit reached (255). Call revokeAllTokens() to reset.')
}

function no(reason: string, message: string): TokenRefusal {
  return new TokenRefusal(401, reason, message)
}

/** Standard alphabet, padding whole or absent, no unused bits set. */
function base64(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined
  const bytes = Buffer.from(text, 'base64')
  const again = bytes.toString('base64')
  return again === text || again.replace(/=+$/, '') === text ? new Uint8Array(bytes) : undefined
}

function readMessage(raw: Uint8Array): SessionToken {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(raw))
  } catch {
    throw no('malformed_token', "the session token's message is not JSON")
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw no('malformed_token', "the session token's message is no object")
  const t = value as Record<string, unknown>
  const text = (name: string): string => {
    const field = t[name]
    if (typeof field !== 'string') throw no('malformed_token', `${name} of the session token is not a string`)
    return field
  }
  const count = (name: string): number => {
    const field = t[name]
    if (typeof field !== 'number' || !Number.isSafeInteger(field) || field < 0)
      throw no('malformed_token', `${name} of the session token is not a whole number`)
    return field
  }
  const address = (name: string): string => {
    const field = text(name)
    try {
      addressFromHex(field)
    } catch {
      throw no('malformed_token', `${name} of the session token is not an address`)
    }
    return field
  }
  const token = {
    address: address('address'),
    provider: address('provider'),
    timestamp: count('timestamp'),
    expiresAt: count('expiresAt'),
    nonce: text('nonce'),
    generation: count('generation'),
    tokenId: count('tokenId')
  }
  if (token.tokenId > EPHEMERAL_ID) throw no('malformed_token', 'tokenId of the session token is above 255')
  return token
}

function readSignature(text: string): Uint8Array {
  if (!/^0x[0-9a-f]{128}1[bc]$/.test(text)) {
    throw no('malformed_token', "the session token's signature is not 0x and 130 lower-case hex digits with v 27 or 28")
  }
  return new Uint8Array(Buffer.from(text.slice(2), 'hex'))
}

/** EIP-191 digest of a token's message, as wallets show it. */
export function tokenDigest(rawMessage: Uint8Array): Uint8Array {
  return personalHash(keccak256(rawMessage))
}
