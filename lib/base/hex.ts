/** Hex only at the edges: 0x-prefixed, lower case out, any case in. */
import { ZgError } from './errors.ts'

/** A 0x-prefixed hex string. */
export type Hex = `0x${string}`

/** Bytes as 0x + two lower-case digits a byte. */
export function toHex(b: Uint8Array): Hex {
  return `0x${Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('hex')}`
}

/** An Ethereum quantity: 0x, no leading zeros, `0x0` for zero. */
export function toQuantity(n: bigint | number): Hex {
  return `0x${n.toString(16)}`
}

const HEX = /^[0-9a-fA-F]*$/

/**
 * Reads a hex byte string.
 * @param text - 0x-prefixed (the prefix may be missing when `bare` is set).
 * @param what - name of the thing, for the error.
 * @throws {ZgError} ERR_BAD_INPUT when it is not a string, has an odd length, other characters or another size than `size`.
 */
export function fromHex(text: unknown, what = 'hex', opts: { size?: number; bare?: boolean } = {}): Uint8Array {
  if (typeof text !== 'string') throw new ZgError('ERR_BAD_INPUT', `${what} is not a string`)
  const prefixed = text.startsWith('0x') || text.startsWith('0X')
  if (!prefixed && !opts.bare) throw new ZgError('ERR_BAD_INPUT', `${what} does not start with 0x`)
  const digits = prefixed ? text.slice(2) : text
  if (digits.length % 2 !== 0) throw new ZgError('ERR_BAD_INPUT', `${what} has an odd number of hex digits`)
  if (!HEX.test(digits)) throw new ZgError('ERR_BAD_INPUT', `${what} has characters that are not hex`)
  const size = digits.length / 2
  if (opts.size !== undefined && size !== opts.size) {
    throw new ZgError('ERR_BAD_INPUT', `${what} has ${size} bytes, ${opts.size} wanted`)
  }
  const out = new Uint8Array(size)
  Buffer.from(out.buffer).write(digits, 'hex')
  return out
}

/** Reads a 32-byte hash; the 0x may be missing. @throws {ZgError} ERR_BAD_INPUT. */
export function hashFromHex(text: unknown, what = 'hash'): Uint8Array {
  return fromHex(text, what, { size: 32, bare: true })
}

/** Reads a 20-byte address of any case; the checksum is not enforced. @throws {ZgError} ERR_BAD_INPUT. */
export function addressFromHex(text: unknown, what = 'address'): Uint8Array {
  return fromHex(text, what, { size: 20 })
}

/**
 * Reads an Ethereum quantity (0x, at most 32 bytes).
 * @throws {ZgError} ERR_BAD_INPUT.
 */
export function fromQuantity(text: unknown, what = 'quantity'): bigint {
  if (typeof text !== 'string' || !/^0x[0-9a-fA-F]{1,64}$/.test(text)) {
    throw new ZgError('ERR_BAD_INPUT', `${what} is not a hex quantity`)
  }
  return BigInt(text)
}
