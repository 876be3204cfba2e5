/** Byte strings are `Uint8Array` inside; these are the few operations the platform lacks. */
import { ZgError } from './errors.ts'

/** Joins byte strings into a new one. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  let size = 0
  for (const p of parts) size += p.length
  const out = new Uint8Array(size)
  let at = 0
  for (const p of parts) {
    out.set(p, at)
    at += p.length
  }
  return out
}

/** True when both hold the same bytes. Not constant time: never for secrets. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** Bytewise order, shorter first on a common prefix: negative, zero or positive. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const n = Math.min(a.length, b.length)
  for (let i = 0; i < n; i++) {
    const d = a[i]! - b[i]!
    if (d !== 0) return d
  }
  return a.length - b.length
}

/** A DataView on exactly the bytes of `b`. */
export function view(b: Uint8Array): DataView {
  return new DataView(b.buffer, b.byteOffset, b.byteLength)
}

/** 4-byte big endian. */
export function u32be(n: number): Uint8Array {
  const out = new Uint8Array(4)
  view(out).setUint32(0, n)
  return out
}

/** 8-byte big endian; numbers must be safe integers. */
export function u64be(n: number | bigint): Uint8Array {
  const out = new Uint8Array(8)
  view(out).setBigUint64(0, BigInt(n))
  return out
}

/** Reads an 8-byte big endian integer as a number. @throws {ZgError} ERR_CORRUPT above 2⁵³−1. */
export function readU64be(b: Uint8Array, at = 0): number {
  const n = view(b).getBigUint64(at)
  if (n > BigInt(Number.MAX_SAFE_INTEGER)) throw new ZgError('ERR_CORRUPT', `integer ${n} is out of range`)
  return Number(n)
}

/** Big endian, left padded with zeros to `size` bytes. @throws {RangeError} when it does not fit. */
export function bigToBytes(n: bigint, size: number): Uint8Array {
  if (n < 0n || n >> BigInt(8 * size) !== 0n) throw new RangeError(`integer does not fit ${size} bytes`)
  const out = new Uint8Array(size)
  let v = n
  for (let i = size - 1; i >= 0 && v !== 0n; i--) {
    out[i] = Number(v & 0xffn)
    v >>= 8n
  }
  return out
}

/** Big endian unsigned integer; no bytes are 0. */
export function bytesToBig(b: Uint8Array): bigint {
  return b.length === 0 ? 0n : BigInt(`0x${Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('hex')}`)
}

/** Pads on the left with zeros to `size` bytes. @throws {RangeError} when `b` is longer. */
export function padLeft(b: Uint8Array, size: number): Uint8Array {
  if (b.length > size) throw new RangeError(`${b.length} bytes do not fit ${size}`)
  const out = new Uint8Array(size)
  out.set(b, size - b.length)
  return out
}

/** UTF-8 bytes of a string. */
export function utf8(s: string): Uint8Array {
  return new TextEncoder().encode(s)
}

/** Text of UTF-8 bytes; bad sequences become U+FFFD. */
export function fromUtf8(b: Uint8Array): string {
  return new TextDecoder().decode(b)
}
