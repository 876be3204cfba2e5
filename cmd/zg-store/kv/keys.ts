/**
 * How the key-value state lies in an ordered store. Everything is versioned by the seq of the submission that wrote it, so a
 * query "as of seq v" is the last entry at or below v, and a replay never overwrites history.
 *
 *   'v' stream32 esc(key) seq8            → size8 index4 offset8   a value of this key (size 0: deleted), where it lies in its file
 *   'd' seq8 index4 chunk4                → ≤ 64 KiB          its bytes
 *   'e' stream32                          → seq8              first submission of a stream: it exists since
 *   'a' stream32 account20 seq8           → 1 | 0             admin
 *   'w' stream32 account20 seq8           → 1 | 0             writer of the stream
 *   'k' stream32 esc(key) seq8            → 1 | 0             special key
 *   's' stream32 account20 esc(key) seq8  → 1 | 0             writer of a special key
 *   'r' seq8                              → text              result of a replayed submission
 *   'f' seq8                              → the file of a committed submission, for proofs (proof.ts)
 *   'p'                                   → progress
 *
 * esc keeps bytewise order for keys of any length and any bytes: 00 becomes 00 ff, and 00 00 ends the key. So "a" sorts before
 * "a\0" sorts before "a\1", and no key is a prefix of another.
 */
import { concat, u32be, u64be } from '../../../lib/base/bytes.ts'

const tag = (c: string): Uint8Array => Uint8Array.of(c.charCodeAt(0))

/** Values are cut into pieces of this size, so that a range of a long one is read without the rest. */
export const CHUNK_BYTES = 64 * 1024

/** Order-preserving, self-terminating form of a key. */
export function escapeKey(key: Uint8Array): Uint8Array {
  let zeros = 0
  for (const b of key) if (b === 0) zeros++
  const out = new Uint8Array(key.length + zeros + 2)
  let at = 0
  for (const b of key) {
    out[at++] = b
    if (b === 0) out[at++] = 0xff
  }
  return out
}

/** Reads an escaped key at `from`; `end` is the place behind its terminator. */
export function unescapeKey(b: Uint8Array, from: number): { key: Uint8Array; end: number } {
  const out: number[] = []
  let i = from
  for (;;) {
    const x = b[i]
    if (x === undefined) throw new RangeError('unterminated key in the key-value state')
    if (x !== 0) {
      out.push(x)
      i++
    } else if (b[i + 1] === 0xff) {
      out.push(0)
      i += 2
    } else return { key: Uint8Array.from(out), end: i + 2 }
  }
}

export const keys = {
  progress: tag('p'),
  result: (seq: number): Uint8Array => concat(tag('r'), u64be(seq)),
  file: (seq: number): Uint8Array => concat(tag('f'), u64be(seq)),
  exists: (stream: Uint8Array): Uint8Array => concat(tag('e'), stream),
  value: (stream: Uint8Array, key: Uint8Array): Uint8Array => concat(tag('v'), stream, escapeKey(key)),
  valuesOf: (stream: Uint8Array): Uint8Array => concat(tag('v'), stream),
  data: (seq: number, index: number, chunk: number): Uint8Array =>
    concat(tag('d'), u64be(seq), u32be(index), u32be(chunk)),
  admin: (stream: Uint8Array, account: Uint8Array): Uint8Array => concat(tag('a'), stream, account),
  writer: (stream: Uint8Array, account: Uint8Array): Uint8Array => concat(tag('w'), stream, account),
  special: (stream: Uint8Array, key: Uint8Array): Uint8Array => concat(tag('k'), stream, escapeKey(key)),
  keyWriter: (stream: Uint8Array, account: Uint8Array, key: Uint8Array): Uint8Array =>
    concat(tag('s'), stream, account, escapeKey(key)),
  keyWritersOf: (stream: Uint8Array, account: Uint8Array): Uint8Array => concat(tag('s'), stream, account)
}

/** `prefix` with a seq behind it. */
export function at(prefix: Uint8Array, seq: number): Uint8Array {
  return concat(prefix, u64be(seq))
}

/** The first byte string behind all that start with `prefix`; undefined when there is none (all ones). */
export function after(prefix: Uint8Array): Uint8Array | undefined {
  const out = prefix.slice()
  for (let i = out.length - 1; i >= 0; i--) {
    if (out[i]! < 0xff) {
      out[i]!++
      return out.subarray(0, i + 1)
    }
  }
  return undefined
}
