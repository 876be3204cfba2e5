/** The little ABI coding that precompiles need: strict, bounded by the input's own size. */
import { bigToBytes, bytesToBig, concat } from '../../../lib/base/bytes.ts'
import { PrecompileError } from './types.ts'

/** Reads the arguments of a call; every read outside the input fails. */
export class AbiReader {
  readonly #data: Uint8Array
  readonly #base: number
  /** @param base - where the tuple begins that offsets are relative to. */
  constructor(data: Uint8Array, base: number) {
    this.#data = data
    this.#base = base
  }

  /** Word i of the tuple. */
  uint(i: number): bigint {
    return bytesToBig(this.#slice(this.#base + 32 * i, 32))
  }

  /** @throws {PrecompileError} when the number has more bits. */
  uintBits(i: number, bits: number): bigint {
    const n = this.uint(i)
    if (n >> BigInt(bits) !== 0n) throw new PrecompileError('invalid input: integer is out of range')
    return n
  }

  address(i: number): Uint8Array {
    return bigToBytes(this.uintBits(i, 160), 20)
  }

  /** The tuple that word i points to. */
  tuple(i: number): AbiReader {
    return new AbiReader(this.#data, this.#target(i))
  }

  bytes(i: number, maxBytes: number): Uint8Array {
    const at = this.#target(i)
    const length = bytesToBig(this.#slice(at, 32))
    if (length > BigInt(maxBytes)) throw new PrecompileError(`invalid input: more than ${maxBytes} bytes`)
    return this.#slice(at + 32, Number(length))
  }

  addresses(i: number, maxCount: number): Uint8Array[] {
    const at = this.#target(i)
    const length = bytesToBig(this.#slice(at, 32))
    if (length > BigInt(maxCount)) throw new PrecompileError(`invalid input: more than ${maxCount} addresses`)
    const items = new AbiReader(this.#data, at + 32)
    return Array.from({ length: Number(length) }, (_, n) => items.address(n))
  }

  #target(i: number): number {
    const offset = this.uint(i)
    if (offset > BigInt(this.#data.length)) throw new PrecompileError('invalid input: offset is out of range')
    return this.#base + Number(offset)
  }

  #slice(at: number, size: number): Uint8Array {
    if (at + size > this.#data.length) throw new PrecompileError('invalid input: too short')
    return this.#data.subarray(at, at + size)
  }
}

/** One word: an integer, a truth value, or an address. */
export function abiWord(value: bigint | boolean | Uint8Array): Uint8Array {
  return bigToBytes(value instanceof Uint8Array ? bytesToBig(value) : BigInt(value), 32)
}

/** Static values, one word each. */
export function abiWords(...values: (bigint | boolean | Uint8Array)[]): Uint8Array {
  return concat(...values.map(abiWord))
}

/** A byte string's length and content, padded to whole words. */
export function abiBytes(bytes: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil(bytes.length / 32) * 32)
  padded.set(bytes)
  return concat(abiWord(BigInt(bytes.length)), padded)
}

/** Dynamic items as an array's content: count, offsets, items. */
export function abiDynamicArray(items: readonly Uint8Array[]): Uint8Array {
  let offset = 32 * items.length
  const heads = items.map(item => {
    const head = abiWord(BigInt(offset))
    offset += item.length
    return head
  })
  return concat(abiWord(BigInt(items.length)), ...heads, ...items)
}
