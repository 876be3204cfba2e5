/**
 * Strict reading of JSON-RPC parameters: a value of the wrong type, length or range is −32602 with the parameter named, never
 * an exception from deeper down. Fields are read as own properties only, so `__proto__` and its kin are data like any other,
 * and unknown extra fields are ignored (chain.md 9.1).
 */
import { RPC, RpcError, type RpcParams } from '../../../lib/adapters/jsonrpc/types.ts'
import { type Hex, toHex } from '../../../lib/base/hex.ts'
import type { AccessListEntry, Authorization } from '../core/types.ts'

/** A reader of one value: what it is called stands in the error. */
export type Reader<T> = (value: unknown, name: string) => T

export function invalid(name: string, why: string): RpcError {
  return new RpcError(RPC.params, `invalid ${name}: ${why}`)
}

/** The parameter at `index`; absent and null are an error. */
export function arg<T>(params: RpcParams, index: number, name: string, read: Reader<T>): T {
  const value = params[index]
  if (value === undefined || value === null) {
    throw new RpcError(RPC.params, `missing value for required argument ${index} (${name})`)
  }
  return read(value, name)
}

/** The parameter at `index`, or undefined when absent or null. */
export function optional<T>(params: RpcParams, index: number, name: string, read: Reader<T>): T | undefined {
  const value = params[index]
  return value === undefined || value === null ? undefined : read(value, name)
}

export type JsonObject = { readonly [key: string]: unknown }

export function asObject(value: unknown, name: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(name, 'not an object')
  return value as JsonObject
}

/** An own field of an object, read; undefined when absent or null. */
export function field<T>(object: JsonObject, key: string, path: string, read: Reader<T>): T | undefined {
  if (!Object.hasOwn(object, key)) return undefined
  const value = object[key]
  return value === undefined || value === null ? undefined : read(value, path === '' ? key : `${path}.${key}`)
}

export function asArray(value: unknown, name: string, max: number): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid(name, 'not an array')
  if (value.length > max) throw invalid(name, `${value.length} entries, at most ${max}`)
  return value
}

export function asBoolean(value: unknown, name: string): boolean {
  if (typeof value !== 'boolean') throw invalid(name, 'not a boolean')
  return value
}

export function asString(value: unknown, name: string): string {
  if (typeof value !== 'string') throw invalid(name, 'not a string')
  return value
}

const HEX_DIGITS = /^[0-9a-fA-F]*$/

function hexDigits(value: unknown, name: string): string {
  if (typeof value !== 'string') throw invalid(name, 'not a hex string')
  if (!value.startsWith('0x') && !value.startsWith('0X')) throw invalid(name, 'hex string without 0x prefix')
  const digits = value.slice(2)
  if (!HEX_DIGITS.test(digits)) throw invalid(name, 'not a hex string')
  return digits
}

/** Byte string of any length; the body limit of the server bounds it. */
export function asBytes(value: unknown, name: string): Uint8Array {
  const digits = hexDigits(value, name)
  if (digits.length % 2 !== 0) throw invalid(name, 'hex string of odd length')
  return new Uint8Array(Buffer.from(digits, 'hex'))
}

/** Exactly `size` bytes. */
export function asSized(size: number): Reader<Uint8Array> {
  return (value, name) => {
    const bytes = asBytes(value, name)
    if (bytes.length !== size) throw invalid(name, `${bytes.length} bytes, ${size} wanted`)
    return bytes
  }
}

export const asAddress = asSized(20)
export const asHash = asSized(32)

/** A quantity of at most 32 bytes. Leading zeros are forgiven: several libraries send them. */
export function asQuantity(value: unknown, name: string): bigint {
  const digits = hexDigits(value, name)
  if (digits === '') throw invalid(name, 'empty hex string')
  if (digits.length > 64) throw invalid(name, 'more than 256 bits')
  return BigInt(`0x${digits}`)
}

/** A quantity that fits 64 bits. */
export function asUint64(value: unknown, name: string): bigint {
  const n = asQuantity(value, name)
  if (n >= 1n << 64n) throw invalid(name, 'more than 64 bits')
  return n
}

/** A quantity used as a number: an index, a height, seconds. */
export function asNumber(value: unknown, name: string): number {
  const n = asQuantity(value, name)
  if (n > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(name, 'number is too large')
  return Number(n)
}

/** Development and fee methods take plain JSON numbers and decimal strings as well: Hardhat and Foundry send all three. */
export function asLooseQuantity(value: unknown, name: string): bigint {
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value) || value < 0) throw invalid(name, 'not a non-negative whole number')
    return BigInt(value)
  }
  if (typeof value === 'string' && /^[0-9]{1,78}$/.test(value)) {
    const n = BigInt(value)
    if (n >= 1n << 256n) throw invalid(name, 'more than 256 bits')
    return n
  }
  return asQuantity(value, name)
}

export function asLooseNumber(value: unknown, name: string): number {
  const n = asLooseQuantity(value, name)
  if (n > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(name, 'number is too large')
  return Number(n)
}

/** A storage slot: a short quantity or a 32-byte key, either way 32 bytes. `given32` tells how it came. */
export function asSlot(value: unknown, name: string): { slot: Uint8Array; echo: Hex } {
  const digits = hexDigits(value, name)
  if (digits.length > 64) throw invalid(name, 'storage key too long (want at most 32 bytes)')
  const slot = new Uint8Array(Buffer.from(digits.padStart(64, '0'), 'hex'))
  const short = digits.replace(/^0+(?=.)/, '').toLowerCase()
  return { slot, echo: digits.length === 64 ? toHex(slot) : `0x${short === '' ? '0' : short}` }
}

const MAX_ACCESS_LIST = 10_000

/** An EIP-2930 access list. */
export function asAccessList(value: unknown, name: string): AccessListEntry[] {
  return asArray(value, name, MAX_ACCESS_LIST).map((entry, i) => {
    const path = `${name}[${i}]`
    const object = asObject(entry, path)
    const keys = field(object, 'storageKeys', path, (v, n) => asArray(v, n, MAX_ACCESS_LIST)) ?? []
    return {
      address: need(field(object, 'address', path, asAddress), `${path}.address`),
      storageKeys: keys.map((key, k) => asHash(key, `${path}.storageKeys[${k}]`))
    }
  })
}

/** EIP-7702 authorizations. */
export function asAuthorizations(value: unknown, name: string): Authorization[] {
  return asArray(value, name, 1_000).map((entry, i) => {
    const path = `${name}[${i}]`
    const object = asObject(entry, path)
    const parity = field(object, 'yParity', path, asQuantity) ?? field(object, 'v', path, asQuantity) ?? 0n
    if (parity > 255n) throw invalid(`${path}.yParity`, 'out of range')
    return {
      chainId: field(object, 'chainId', path, asQuantity) ?? 0n,
      address: need(field(object, 'address', path, asAddress), `${path}.address`),
      nonce: field(object, 'nonce', path, asUint64) ?? 0n,
      yParity: Number(parity),
      r: field(object, 'r', path, asQuantity) ?? 0n,
      s: field(object, 's', path, asQuantity) ?? 0n
    }
  })
}

/** Insists on a field. */
export function need<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new RpcError(RPC.params, `missing value for required field '${name}'`)
  return value
}

/** What a block parameter may say (EIP-1898 and the tags). */
export type BlockParam =
  | { tag: 'latest' | 'earliest' | 'pending' }
  | { number: number }
  | { hash: Uint8Array; requireCanonical: boolean }

/** Only numbers and tags: the methods that say ByNumber. */
export function asBlockNumber(value: unknown, name: string): BlockParam {
  switch (value) {
    // Blocks are final as soon as they exist, so the three names mean one block.
    case 'latest':
    case 'safe':
    case 'finalized':
      return { tag: 'latest' }
    case 'earliest':
    case 'pending':
      return { tag: value }
    default:
      return { number: asNumber(value, name) }
  }
}

/** Number, tag, 32-byte hash, or the object of EIP-1898. */
export function asBlock(value: unknown, name: string): BlockParam {
  if (typeof value === 'object') {
    const object = asObject(value, name)
    const hash = field(object, 'blockHash', name, asHash)
    const number = field(object, 'blockNumber', name, asBlockNumber)
    const requireCanonical = field(object, 'requireCanonical', name, asBoolean) ?? false
    if (hash !== undefined && number !== undefined) {
      throw invalid(name, 'cannot specify both BlockHash and BlockNumber, choose one or the other')
    }
    if (hash !== undefined) return { hash, requireCanonical }
    if (number !== undefined) return number
    throw invalid(name, 'needs blockHash or blockNumber')
  }
  if (typeof value === 'string' && value.length === 66) {
    return { hash: asHash(value, name), requireCanonical: false }
  }
  return asBlockNumber(value, name)
}
