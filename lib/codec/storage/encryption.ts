/**
 * Client-side encryption of stored files (storage.md 7.1). The node sees opaque bytes.
 *
 *   version 1   01 ‖ nonce 16                                            key given, 32 bytes
 *   version 2   02 ‖ ephemeral public key 33 (compressed) ‖ nonce 16     key = HKDF-SHA256(x of ECDH, no salt, info)
 *
 * Stored stream = header ‖ AES-256-CTR(plaintext); the 128-bit big-endian counter is `nonce` at plaintext offset 0 and wraps.
 * **There is no authentication**: the file root on the chain is what protects the bytes, and a wrong key gives noise.
 */
import { createCipheriv, hkdfSync, randomBytes } from 'node:crypto'
import { bigToBytes, bytesToBig, concat } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { publicKey, sharedX } from '../../crypto/secp256k1.ts'

/** Header sizes by version. */
export const HEADER_BYTES = { 1: 17, 2: 50 } as const
/** So many first bytes of a stream are enough for {@link parseHeader}. */
export const MAX_HEADER_BYTES = 50
const ECIES_INFO = '0g-storage-client/ecies/v1/aes-256'

/** A parsed header. */
export interface EncryptionHeader {
  version: 1 | 2
  nonce: Uint8Array
  /** 33 bytes, version 2 only. */
  ephemeralKey: Uint8Array | undefined
  /** Bytes of the header; the ciphertext follows. */
  bytes: number
}

/** What encrypts or decrypts one stream. */
export interface StreamKey {
  aesKey: Uint8Array
  nonce: Uint8Array
}

/** Who may read: everybody with the key, or the owner of a secp256k1 key pair (public key of 33, 64 or 65 bytes). */
export type EncryptFor = { key: Uint8Array } | { publicKey: Uint8Array }
export type DecryptWith = { key: Uint8Array } | { privateKey: Uint8Array }

/**
 * A header and key for a new stream.
 * @param fixed - nonce and ephemeral private key, for tests; random otherwise. A nonce must never be used twice with one key.
 * @throws {ZgError} ERR_BAD_INPUT for a key of wrong size or a public key that is not on the curve.
 */
export function newStream(
  to: EncryptFor,
  fixed: { nonce?: Uint8Array; ephemeralPrivateKey?: Uint8Array } = {}
): StreamKey & { header: Uint8Array } {
  const nonce = fixed.nonce ?? new Uint8Array(randomBytes(16))
  if ('key' in to) {
    return { aesKey: checkedKey(to.key), nonce, header: concat(Uint8Array.of(1), nonce) }
  }
  const secret = fixed.ephemeralPrivateKey ?? new Uint8Array(randomBytes(32))
  const aesKey = derive(sharedX(secret, to.publicKey))
  return { aesKey, nonce, header: concat(Uint8Array.of(2), publicKey(secret, { compressed: true }), nonce) }
}

/**
 * Reads the header at the start of a stream.
 * @throws {ZgError} ERR_CORRUPT when there is none or it is cut off. A plain file may look like one: keep the flag elsewhere.
 */
export function parseHeader(start: Uint8Array): EncryptionHeader {
  const version = start[0]
  if (version !== 1 && version !== 2)
    throw new ZgError('ERR_CORRUPT', 'stream does not begin with an encryption header')
  const bytes = HEADER_BYTES[version]
  if (start.length < bytes) throw new ZgError('ERR_CORRUPT', 'encryption header is cut off')
  return {
    version,
    nonce: start.slice(bytes - 16, bytes),
    ephemeralKey: version === 2 ? start.slice(1, 34) : undefined,
    bytes
  }
}

/**
 * The key of a stream from its header.
 * @throws {ZgError} ERR_BAD_INPUT when the header wants the other kind of key, ERR_CORRUPT when its point is not on the curve.
 */
export function openStream(header: EncryptionHeader, by: DecryptWith): StreamKey {
  if (header.version === 1) {
    if (!('key' in by)) throw new ZgError('ERR_BAD_INPUT', 'stream is encrypted with a shared key, not for a key pair')
    return { aesKey: checkedKey(by.key), nonce: header.nonce }
  }
  if (!('privateKey' in by))
    throw new ZgError('ERR_BAD_INPUT', 'stream is encrypted for a key pair, not with a shared key')
  try {
    return { aesKey: derive(sharedX(by.privateKey, header.ephemeralKey!)), nonce: header.nonce }
  } catch (err) {
    if (err instanceof ZgError && /point/.test(err.message)) {
      throw new ZgError('ERR_CORRUPT', 'encryption header holds a key that is not on the curve', { cause: err })
    }
    throw err
  }
}

/**
 * The cipher from a plaintext offset on: each call takes the next bytes and returns as many. Encryption and decryption are the
 * same. About 1 GB/s.
 * @param offset - plaintext offset (header not counted), a safe integer.
 */
export function cipherFrom(stream: StreamKey, offset = 0): (bytes: Uint8Array) => Uint8Array {
  if (!Number.isSafeInteger(offset) || offset < 0)
    throw new ZgError('ERR_BAD_INPUT', `offset ${offset} is out of range`)
  const counter = (bytesToBig(stream.nonce) + BigInt(Math.floor(offset / 16))) & ((1n << 128n) - 1n)
  const cipher = createCipheriv('aes-256-ctr', stream.aesKey, bigToBytes(counter, 16))
  const skip = offset % 16
  if (skip > 0) cipher.update(new Uint8Array(skip))
  return bytes => cipher.update(bytes)
}

/** Encrypts or decrypts bytes that lie at a plaintext offset. */
export function cryptAt(stream: StreamKey, offset: number, bytes: Uint8Array): Uint8Array {
  return cipherFrom(stream, offset)(bytes)
}

function derive(x: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', x, new Uint8Array(0), ECIES_INFO, 32))
}

function checkedKey(key: Uint8Array): Uint8Array {
  if (key.length !== 32) throw new ZgError('ERR_BAD_INPUT', `encryption key has ${key.length} bytes, 32 wanted`)
  return key
}
