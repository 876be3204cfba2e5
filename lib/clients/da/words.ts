/**
 * The little of Solidity's ABI that data availability needs: words, and tails behind offsets. Written out because a daemon that
 * loads a whole ABI library for a dozen fixed calls pays for it in memory and start time. Reading checks every bound.
 */
import { bigToBytes, bytesToBig, concat } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { fromHex, type Hex, toHex } from '../../base/hex.ts'

/** A 32-byte big-endian word. */
export function word(n: bigint | number): Uint8Array {
  return bigToBytes(BigInt(n), 32)
}

/** An address as a word. */
export function addressWord(address: Uint8Array): Uint8Array {
  return concat(new Uint8Array(12), address)
}

/** Length and bytes, padded to whole words. */
export function bytesTail(b: Uint8Array): Uint8Array {
  return concat(word(b.length), b, new Uint8Array((32 - (b.length % 32)) % 32))
}

/** A part of an argument list: a fixed word (or several), or something that lies behind the list. */
export type Part = { head: Uint8Array } | { tail: Uint8Array }

/** Heads with offsets, then tails: an argument list, a dynamic tuple, or the elements of a dynamic array. */
export function sequence(parts: readonly Part[]): Uint8Array {
  let size = 0
  for (const p of parts) size += 'head' in p ? p.head.length : 32
  const heads: Uint8Array[] = []
  const tails: Uint8Array[] = []
  for (const p of parts) {
    if ('head' in p) heads.push(p.head)
    else {
      heads.push(word(size))
      tails.push(p.tail)
      size += p.tail.length
    }
  }
  return concat(...heads, ...tails)
}

/** A dynamic array of static elements, or of dynamic ones. */
export function arrayTail(elements: readonly Part[]): Uint8Array {
  return concat(word(elements.length), sequence(elements))
}

/** Selector and arguments. */
export function callData(selector: string, ...parts: Part[]): Hex {
  return toHex(concat(fromHex(selector), sequence(parts)))
}

/** Reads an answer word by word; offsets are relative to `base`. Anything outside the bytes is ERR_PROTOCOL. */
export class Words {
  readonly #bytes: Uint8Array
  readonly #base: number

  constructor(bytes: Uint8Array, base = 0) {
    this.#bytes = bytes
    this.#base = base
  }

  static of(hex: unknown): Words {
    return new Words(fromHex(hex, 'answer of the chain'))
  }

  /** Words that are there. */
  get length(): number {
    return Math.floor((this.#bytes.length - this.#base) / 32)
  }

  raw(i: number): Uint8Array {
    const at = this.#base + 32 * i
    if (i < 0 || at + 32 > this.#bytes.length) throw malformed()
    return this.#bytes.subarray(at, at + 32)
  }

  big(i: number): bigint {
    return bytesToBig(this.raw(i))
  }

  number(i: number): number {
    const n = this.big(i)
    if (n > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed()
    return Number(n)
  }

  bool(i: number): boolean {
    return this.big(i) !== 0n
  }

  address(i: number): Uint8Array {
    return this.raw(i).slice(12)
  }

  /** What the offset in word `i` points to. */
  at(i: number): Words {
    const offset = this.number(i)
    if (offset % 32 !== 0 || this.#base + offset > this.#bytes.length) throw malformed()
    return new Words(this.#bytes, this.#base + offset)
  }

  /** Starting `i` words further. */
  skip(i: number): Words {
    return new Words(this.#bytes, this.#base + 32 * i)
  }

  /** Elements of the dynamic array that starts here: their count, and the words behind it. */
  array(max: number): { count: number; items: Words } {
    const count = this.number(0)
    const items = this.skip(1)
    if (count > max || count > items.length) throw malformed()
    return { count, items }
  }

  /** The byte string that starts here. */
  bytes(max: number): Uint8Array {
    const size = this.number(0)
    const from = this.#base + 32
    if (size > max || from + size > this.#bytes.length) throw malformed()
    return this.#bytes.slice(from, from + size)
  }
}

function malformed(): ZgError {
  return new ZgError('ERR_PROTOCOL', 'chain answered a call with malformed data')
}
