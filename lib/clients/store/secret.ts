/**
 * Encrypted files: what is stored is header ‖ AES-256-CTR(plaintext) (storage.md 7.1). A source is encrypted while it is read,
 * at any offset, so an encrypted file is put in two passes like any other and nothing encrypted is kept on disk.
 *
 * The nonce of a regular file is made from the key and the content (HMAC), so that the same file under the same key gives the
 * same root: an interrupted put goes on, and a second one costs nothing. Equal files are therefore recognisable as equal by
 * whoever sees the roots; two different files never share a key stream. Streams from a pipe get a random nonce.
 *
 * A file for the owner of a key pair gets a random key each time, which only that owner can find again: from the content it would tell
 * everybody who guesses the content. So it has another root each time it is put.
 */
import { createHmac, randomBytes } from 'node:crypto'
import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { systemCode, ZgError } from '../../base/errors.ts'
import { fromHex, toHex } from '../../base/hex.ts'
import {
  cipherFrom,
  cryptAt,
  type EncryptFor,
  MAX_HEADER_BYTES,
  newStream,
  openStream,
  parseHeader,
  type StreamKey
} from '../../codec/storage/encryption.ts'
import { readSecretFile } from '../../crypto/keystore-file.ts'
import type { Source } from './source.ts'

const READ_BYTES = 1024 * 1024

/**
 * Reads a key file: 32 bytes as 64 hex digits, with or without 0x.
 * @throws {ZgError} ERR_PERMISSION when others may read it, ERR_BAD_INPUT when it is not a key.
 */
export async function readEncryptionKey(path: string): Promise<Uint8Array> {
  const text = (await readSecretFile(path)).trim()
  try {
    return fromHex(text, 'encryption key', { size: 32, bare: true })
  } catch (err) {
    throw new ZgError('ERR_BAD_INPUT', `'${path}' does not hold a key of 64 hex digits`, {
      cause: err,
      hint: `run 'umask 077; openssl rand -hex 32 > ${path}'`
    })
  }
}

/**
 * Makes a key file, for its owner alone. @throws {ZgError} ERR_EXISTS when there is one already: a key is never overwritten.
 */
export async function makeEncryptionKey(path: string): Promise<Uint8Array> {
  const key = new Uint8Array(randomBytes(32))
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const handle = await open(path, 'wx', 0o600)
    try {
      await handle.writeFile(`${toHex(key).slice(2)}\n`)
      await handle.sync()
    } finally {
      await handle.close()
    }
  } catch (err) {
    if (systemCode(err) === 'EEXIST') throw new ZgError('ERR_EXISTS', `'${path}' exists`, { cause: err })
    throw new ZgError('ERR_IO', `cannot write '${path}'`, { cause: err })
  }
  return key
}

/** What a file is encrypted with: a shared key of 32 bytes, or the public key (secp256k1) of who may read it. */
export type Lock = Uint8Array | { publicKey: Uint8Array }

/** What encrypts one file, and the header in front of it. */
export type LockedStream = StreamKey & { header: Uint8Array }

/** An encrypted source, with what makes the same one again without reading it all. */
export type EncryptedSource = Source & { readonly stream: LockedStream }

/**
 * Reads a public key: 33, 64 or 65 bytes as hex digits, with or without 0x.
 * @throws {ZgError} ERR_USAGE when it is none.
 */
export function parsePublicKey(text: string): Uint8Array {
  try {
    const key = fromHex(text, 'public key', { bare: true })
    // Whether it is a point of the curve shows when something is encrypted to it.
    newStream({ publicKey: key })
    return key
  } catch (err) {
    throw new ZgError('ERR_USAGE', `'${text.slice(0, 140)}' is not a public key`, {
      cause: err,
      hint: "it has 66 hex digits, as 'zg-store pubkey' prints it"
    })
  }
}

function encryptFor(lock: Lock): EncryptFor {
  return lock instanceof Uint8Array ? { key: lock } : lock
}

/**
 * A source whose bytes are the encrypted form of another's.
 * @param o.stream - of an earlier encrypted source of the same bytes; made anew when absent, with a shared key from the bytes, which
 *   reads them once.
 */
export async function encryptedSource(
  plain: Source,
  lock: Lock,
  o: { signal?: AbortSignal | undefined; stream?: LockedStream | undefined } = {}
): Promise<EncryptedSource> {
  const nonce =
    lock instanceof Uint8Array && o.stream === undefined ? await contentNonce(plain, lock, o.signal) : undefined
  const stream = o.stream ?? newStream(encryptFor(lock), nonce === undefined ? {} : { nonce })
  const head = stream.header
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    const end = Math.min(head.length + plain.sizeBytes, offset + length)
    if (offset >= end) return new Uint8Array(0)
    const out = new Uint8Array(end - offset)
    if (offset < head.length) out.set(head.subarray(offset, Math.min(end, head.length)))
    const from = Math.max(0, offset - head.length)
    const to = end - head.length
    if (to > from) {
      const bytes = cryptAt(stream, from, await plain.read(from, to - from))
      out.set(bytes, from + head.length - offset)
    }
    return out
  }
  return {
    stream,
    sizeBytes: head.length + plain.sizeBytes,
    read,
    check: () => plain.check(),
    close: () => plain.close()
  }
}

async function contentNonce(plain: Source, key: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
  const mac = createHmac('sha256', key).update('zg-store nonce 1\0')
  for (let at = 0; at < plain.sizeBytes; at += READ_BYTES) {
    signal?.throwIfAborted()
    mac.update(await plain.read(at, READ_BYTES))
  }
  return new Uint8Array(mac.digest().subarray(0, 16))
}

/** Encrypts a stream of unknown length with a random nonce. */
export async function* encrypting(plain: AsyncIterable<Uint8Array>, lock: Lock): AsyncGenerator<Uint8Array> {
  const stream = newStream(encryptFor(lock))
  yield stream.header
  const next = cipherFrom(stream)
  for await (const part of plain) yield next(part)
}

/**
 * Decrypts a stored stream as it comes.
 * @throws {ZgError} ERR_CORRUPT when it does not begin with a header, ERR_BAD_INPUT when it wants another kind of key.
 */
export async function* decrypting(
  stored: AsyncIterable<Uint8Array>,
  by: { key: Uint8Array } | { privateKey: Uint8Array }
): AsyncGenerator<Uint8Array> {
  let head = new Uint8Array(0)
  let next: ((bytes: Uint8Array) => Uint8Array) | undefined
  const start = (): Uint8Array => {
    const header = parseHeader(head)
    const key: StreamKey = openStream(header, by)
    next = cipherFrom(key)
    return next(head.subarray(header.bytes))
  }
  for await (const part of stored) {
    if (next !== undefined) {
      yield next(part)
      continue
    }
    const joined = new Uint8Array(head.length + part.length)
    joined.set(head)
    joined.set(part, head.length)
    head = joined
    if (head.length >= MAX_HEADER_BYTES) yield start()
  }
  if (next === undefined) yield start()
}
