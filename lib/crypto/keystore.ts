/**
 * Web3 Secret Storage, version 3: one private key under a password. Written with scrypt and AES-128-CTR; files with PBKDF2 are
 * read too.
 *
 *   password, salt --KDF--> 32 bytes: [0, 16) AES key, [16, 32) MAC key
 *   ciphertext = AES-128-CTR(private key, iv)        mac = keccak(MAC key ‖ ciphertext)
 *
 * A key file comes from a disk that others may have written to: what it asks of the KDF is bounded before anything is derived.
 * `keystore-file.ts` reads and writes the files.
 */
import { createCipheriv, createDecipheriv, pbkdf2, randomBytes, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { ZgError } from '../base/errors.ts'
import { fromHex, toHex } from '../base/hex.ts'
import { LIMITS } from '../base/limits.ts'
import { keccak256 } from './hash.ts'
import { addressOf, isPrivateKey } from './secp256k1.ts'

/** The JSON of a V3 key file; hex without 0x. */
export interface KeystoreV3 {
  version: 3
  id: string
  address: string
  crypto: {
    cipher: 'aes-128-ctr'
    cipherparams: { iv: string }
    ciphertext: string
    kdf: 'scrypt' | 'pbkdf2'
    kdfparams: Record<string, string | number>
    mac: string
  }
}

/** Cost of scrypt: the product uses the default, tests less. */
export interface ScryptCost {
  N: number
  r: number
  p: number
}
export const DEFAULT_SCRYPT: ScryptCost = { N: 262_144, r: 8, p: 1 }

/** Work of scrypt in N·r·p beyond which a file is refused: 16 × the default, some ten seconds. */
const SCRYPT_WORK = 16 * 262_144 * 8
/** PBKDF2 iterations beyond which a file is refused, some ten seconds; usual files have 262,144. */
const PBKDF2_ITERATIONS = 10_000_000

/**
 * Encrypts a private key.
 * @param privateKey - 32 bytes.
 * @param password - as typed; normalised to NFKC, as other wallets do.
 * @throws {ZgError} ERR_BAD_INPUT for a key out of range.
 */
export async function encryptKey(
  privateKey: Uint8Array,
  password: string,
  opts: { scrypt?: ScryptCost; salt?: Uint8Array; iv?: Uint8Array; id?: Uint8Array } = {}
): Promise<KeystoreV3> {
  const cost = opts.scrypt ?? DEFAULT_SCRYPT
  const salt = opts.salt ?? randomBytes(32)
  const iv = opts.iv ?? randomBytes(16)
  const address = addressOf(privateKey)
  const derived = await deriveScrypt(password, salt, cost)
  const cipher = createCipheriv('aes-128-ctr', derived.subarray(0, 16), iv)
  const ciphertext = Buffer.concat([cipher.update(privateKey), cipher.final()])
  const mac = keccak256(derived.subarray(16, 32), ciphertext)
  derived.fill(0)
  return {
    version: 3,
    id: uuid(opts.id ?? randomBytes(16)),
    address: bare(address),
    crypto: {
      cipher: 'aes-128-ctr',
      cipherparams: { iv: bare(iv) },
      ciphertext: bare(ciphertext),
      kdf: 'scrypt',
      kdfparams: { dklen: 32, salt: bare(salt), n: cost.N, r: cost.r, p: cost.p },
      mac: bare(mac)
    }
  }
}

/**
 * Decrypts a key file's JSON.
 * @param json - text of the file.
 * @returns the private key, 32 bytes; the caller wipes it when done.
 * @throws {ZgError} ERR_CORRUPT when the text is not a V3 key file or asks for too much, ERR_PASSWORD when the password is wrong.
 */
export async function decryptKey(json: string, password: string): Promise<Uint8Array> {
  const k = parseKeystore(json)
  const derived = await k.derive(password)
  const mac = keccak256(derived.subarray(16, 32), k.ciphertext)
  if (!timingSafeEqual(mac, k.mac)) {
    derived.fill(0)
    throw new ZgError('ERR_PASSWORD', 'wrong password for the key file')
  }
  const decipher = createDecipheriv('aes-128-ctr', derived.subarray(0, 16), k.iv)
  const key = new Uint8Array(Buffer.concat([decipher.update(k.ciphertext), decipher.final()]))
  derived.fill(0)
  if (!isPrivateKey(key)) throw new ZgError('ERR_CORRUPT', 'key file holds no private key of secp256k1')
  // The address is outside the MAC: a file that shows one account and signs as another must not pass.
  if (k.address !== undefined && bare(addressOf(key)) !== k.address) {
    throw new ZgError('ERR_CORRUPT', 'key file names another address than its key has')
  }
  return key
}

/** The address a key file claims, without the password; undefined when it names none. @throws {ZgError} ERR_CORRUPT. */
export function keystoreAddress(json: string): Uint8Array | undefined {
  const address = parseKeystore(json).address
  return address === undefined ? undefined : fromHex(address, 'address', { bare: true })
}

interface ParsedKeystore {
  address: string | undefined
  iv: Uint8Array
  ciphertext: Uint8Array
  mac: Uint8Array
  derive(password: string): Promise<Uint8Array>
}

function parseKeystore(json: string): ParsedKeystore {
  if (json.length > LIMITS.keystoreFileBytes) throw corrupt('is too long')
  let root: Record<string, unknown>
  try {
    root = lowerKeys(JSON.parse(json))
  } catch (err) {
    if (err instanceof ZgError) throw err
    throw corrupt('is not JSON')
  }
  if (root.version !== 3) throw corrupt('is not of version 3')
  const crypto = lowerKeys(root.crypto)
  if (crypto.cipher !== 'aes-128-ctr') throw corrupt('uses a cipher other than aes-128-ctr')
  const params = lowerKeys(crypto.kdfparams)
  if (params.dklen !== 32) throw corrupt('asks for a derived key of another size than 32 bytes')
  const salt = bytes(params.salt, 'salt')
  if (salt.length > 1024) throw corrupt('has a salt that is too long')
  return {
    address: root.address === undefined ? undefined : bare(bytes(root.address, 'address', 20)),
    iv: bytes(lowerKeys(crypto.cipherparams).iv, 'iv', 16),
    ciphertext: bytes(crypto.ciphertext, 'ciphertext', 32),
    mac: bytes(crypto.mac, 'mac', 32),
    derive: kdfOf(crypto.kdf, params, salt)
  }
}

function kdfOf(
  name: unknown,
  params: Record<string, unknown>,
  salt: Uint8Array
): (password: string) => Promise<Uint8Array> {
  if (name === 'scrypt') {
    const cost = { N: count(params.n, 'n'), r: count(params.r, 'r'), p: count(params.p, 'p') }
    checkScrypt(cost)
    return password => deriveScrypt(password, salt, cost)
  }
  if (name === 'pbkdf2') {
    if (params.prf !== 'hmac-sha256') throw corrupt('uses PBKDF2 with another function than hmac-sha256')
    const iterations = count(params.c, 'c')
    if (iterations > PBKDF2_ITERATIONS) throw corrupt(`asks for ${iterations} iterations of PBKDF2`)
    return async password =>
      new Uint8Array(await promisify(pbkdf2)(passwordBytes(password), salt, iterations, 32, 'sha256'))
  }
  throw corrupt('uses an unknown key derivation')
}

/** Refuses what would take more memory than LIMITS.keystoreKdfBytes or minutes of work. */
function checkScrypt(cost: ScryptCost): void {
  const { N, r, p } = cost
  if (N < 2 || N > 2 ** 32 || !Number.isInteger(Math.log2(N)))
    throw corrupt('asks scrypt for an N that is no power of two')
  if (128 * N * r + 128 * r * p > LIMITS.keystoreKdfBytes) throw corrupt('asks scrypt for more than 1 GiB of memory')
  if (N * r * p > SCRYPT_WORK) throw corrupt('asks scrypt for too much work')
}

async function deriveScrypt(password: string, salt: Uint8Array, cost: ScryptCost): Promise<Uint8Array> {
  checkScrypt(cost)
  const { N, r, p } = cost
  const maxmem = 128 * N * r + 128 * r * p + 1024 * 1024
  // OpenSSL keeps to RFC 7914's N < 2^(16 r); other wallets write files beyond it, and read them.
  if (Math.log2(N) >= 16 * r) {
    const { scryptAsync } = await import('@noble/hashes/scrypt.js')
    return scryptAsync(passwordBytes(password), salt, { N, r, p, dkLen: 32, maxmem })
  }
  const derived = await new Promise<Buffer>((resolve, reject) => {
    // maxmem is what OpenSSL may use beyond its own small blocks; its default of 32 MiB is below the standard cost.
    scrypt(passwordBytes(password), salt, 32, { N, r, p, maxmem }, (err, key) =>
      err === null ? resolve(key) : reject(err)
    )
  })
  return new Uint8Array(derived)
}

function passwordBytes(password: string): Uint8Array {
  return new TextEncoder().encode(password.normalize('NFKC'))
}

/** An object with lower-case names: some wallets write `Crypto` and `KDFParams`. */
function lowerKeys(v: unknown): Record<string, unknown> {
  if (typeof v !== 'object' || v === null || Array.isArray(v)) throw corrupt('lacks an object where one belongs')
  const out: Record<string, unknown> = Object.create(null)
  for (const [k, x] of Object.entries(v)) out[k.toLowerCase()] = x
  return out
}

function count(v: unknown, what: string): number {
  if (typeof v !== 'number' || !Number.isInteger(v) || v < 1) throw corrupt(`has no whole number for '${what}'`)
  return v
}

function bytes(v: unknown, what: string, size?: number): Uint8Array {
  try {
    return fromHex(v, what, size === undefined ? { bare: true } : { bare: true, size })
  } catch (err) {
    throw corrupt(`is malformed: ${(err as Error).message}`)
  }
}

function corrupt(what: string): ZgError {
  return new ZgError('ERR_CORRUPT', `key file ${what}`)
}

function bare(b: Uint8Array): string {
  return toHex(b).slice(2)
}

function uuid(b: Uint8Array): string {
  const x = Uint8Array.from(b)
  x[6] = (x[6]! & 0x0f) | 0x40
  x[8] = (x[8]! & 0x3f) | 0x80
  const h = bare(x)
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}`
}
