/**
 * Recursive Length Prefix (Ethereum Yellow Paper, appendix B). Strict: refuses what an encoder would not have written (long
 * forms of short things, leading zeros of lengths, bytes behind the item). Decoded strings are views into the input.
 */
import { ZgError } from '../base/errors.ts'

/** A string of bytes, or a list of items. */
export type RlpItem = Uint8Array | readonly RlpItem[]

/** What can be written: numbers become their shortest big-endian form, null and undefined the empty string. */
export type RlpInput = Uint8Array | bigint | number | null | undefined | readonly RlpInput[]

/** Lists nested deeper than this are refused: nothing on the chain comes near, and recursion must end. */
const MAX_DEPTH = 64

/**
 * The one item that `input` is.
 * @throws {ZgError} ERR_BAD_INPUT when it is malformed or something follows it.
 */
export function decodeRlp(input: Uint8Array): RlpItem {
  const cursor = { at: 0 }
  const item = readItem(input, cursor, input.length, 0)
  if (cursor.at !== input.length) fail('bytes behind the item')
  return item
}

/**
 * The items of bytes that hold any number of them, one behind the other.
 * @throws {ZgError} ERR_BAD_INPUT.
 */
export function decodeRlpSequence(input: Uint8Array): RlpItem[] {
  const cursor = { at: 0 }
  const out: RlpItem[] = []
  while (cursor.at < input.length) out.push(readItem(input, cursor, input.length, 0))
  return out
}

/** @throws {ZgError} ERR_BAD_INPUT for a negative or fractional number. */
export function encodeRlp(item: RlpInput): Uint8Array {
  const size = new Map<readonly RlpInput[], number>()
  const out = new Uint8Array(sizeOf(item, size))
  write(item, out, 0, size)
  return out
}

/** The number a string stands for. @throws {ZgError} ERR_BAD_INPUT for a list or leading zeros. */
export function rlpNumber(item: RlpItem | undefined): bigint {
  const bytes = rlpBytes(item)
  if (bytes.length > 0 && bytes[0] === 0) fail('a number with leading zeros')
  let x = 0n
  for (let i = 0; i < bytes.length; ) {
    const n = Math.min(6, bytes.length - i)
    let part = 0
    for (const end = i + n; i < end; i++) part = part * 256 + bytes[i]!
    x = (x << BigInt(8 * n)) | BigInt(part)
  }
  return x
}

/** The item as a string. @throws {ZgError} ERR_BAD_INPUT when it is a list or absent. */
export function rlpBytes(item: RlpItem | undefined): Uint8Array {
  if (!(item instanceof Uint8Array)) fail('a string is wanted')
  return item
}

/** The item as a list. @throws {ZgError} ERR_BAD_INPUT when it is a string or absent. */
export function rlpList(item: RlpItem | undefined): readonly RlpItem[] {
  if (item === undefined || item instanceof Uint8Array) fail('a list is wanted')
  return item
}

function fail(what: string): never {
  throw new ZgError('ERR_BAD_INPUT', `rlp: ${what}`)
}

function readItem(input: Uint8Array, cursor: { at: number }, end: number, depth: number): RlpItem {
  if (cursor.at >= end) fail('input ends early')
  const head = input[cursor.at]!
  if (head < 0x80) return input.subarray(cursor.at, ++cursor.at)
  cursor.at++
  const list = head >= 0xc0
  let size = head - (list ? 0xc0 : 0x80)
  if (size > 55) {
    const n = size - 55
    if (cursor.at + n > end) fail('input ends early')
    if (input[cursor.at] === 0) fail('a length with leading zeros')
    size = 0
    // Exact up to 2⁵³, and far above any input beyond.
    for (let i = 0; i < n; i++) size = size * 256 + input[cursor.at++]!
    if (size <= 55) fail('a long form of a short item')
  }
  if (size > end - cursor.at) fail('input ends early')
  const stop = cursor.at + size
  if (!list) {
    if (size === 1 && input[cursor.at]! < 0x80) fail('a long form of one byte')
    const bytes = input.subarray(cursor.at, stop)
    cursor.at = stop
    return bytes
  }
  if (depth === MAX_DEPTH) fail(`lists nested deeper than ${MAX_DEPTH}`)
  const items: RlpItem[] = []
  while (cursor.at < stop) items.push(readItem(input, cursor, stop, depth + 1))
  return items
}

function headSize(size: number): number {
  if (size <= 55) return 1
  let n = 1
  for (let s = size; s > 0; s = Math.floor(s / 256)) n++
  return n
}

function byteLength(x: bigint): number {
  if (x < 0n) fail(`negative number ${x}`)
  if (x < 0x1_0000_0000n) {
    const low = Number(x)
    return low < 0x100 ? (low === 0 ? 0 : 1) : low < 0x10000 ? 2 : low < 0x1000000 ? 3 : 4
  }
  return (x.toString(16).length + 1) >> 1
}

function toBig(x: number | bigint): bigint {
  if (typeof x === 'number' && !Number.isSafeInteger(x)) fail(`${x} is no whole number`)
  return BigInt(x)
}

function sizeOf(item: RlpInput, sizes: Map<readonly RlpInput[], number>): number {
  if (item === null || item === undefined) return 1
  if (item instanceof Uint8Array) {
    return item.length === 1 && item[0]! < 0x80 ? 1 : headSize(item.length) + item.length
  }
  if (typeof item === 'bigint' || typeof item === 'number') {
    const x = toBig(item)
    const n = byteLength(x)
    return x < 0x80n ? 1 : headSize(n) + n
  }
  let payload = 0
  for (const x of item) payload += sizeOf(x, sizes)
  sizes.set(item, payload)
  return headSize(payload) + payload
}

function writeHead(base: number, size: number, out: Uint8Array, at: number): number {
  const n = headSize(size)
  if (n === 1) {
    out[at] = base + size
    return at + 1
  }
  out[at] = base + 55 + n - 1
  for (let i = n - 1, s = size; i > 0; i--, s = Math.floor(s / 256)) out[at + i] = s % 256
  return at + n
}

function write(item: RlpInput, out: Uint8Array, at: number, sizes: Map<readonly RlpInput[], number>): number {
  if (item === null || item === undefined) return writeHead(0x80, 0, out, at)
  if (item instanceof Uint8Array) {
    const body = item.length === 1 && item[0]! < 0x80 ? at : writeHead(0x80, item.length, out, at)
    out.set(item, body)
    return body + item.length
  }
  if (typeof item === 'bigint' || typeof item === 'number') {
    let x = toBig(item)
    const n = byteLength(x)
    const body = n === 1 && x < 0x80n ? at : writeHead(0x80, n, out, at)
    for (let i = n - 1; i >= 0; i--, x >>= 8n) out[body + i] = Number(x & 0xffn)
    return body + n
  }
  let next = writeHead(0xc0, sizes.get(item)!, out, at)
  for (const x of item) next = write(x, out, next, sizes)
  return next
}
