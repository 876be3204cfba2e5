/** Sets of characters, and the bytes that UTF-8 has for them (RFC 3629). Surrogates are in no set. */

/** Ranges of code points, ascending, apart from each other, both ends included. */
export type Chars = readonly (readonly [low: number, high: number])[]

const LAST = 0x10ffff

/** Ranges in any order as a set. */
export function charSet(ranges: Iterable<readonly [number, number]>): Chars {
  const out: [number, number][] = []
  for (const [low, high] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = out.at(-1)
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high)
    else out.push([low, high])
  }
  return out.flatMap(([low, high]): [number, number][] => {
    if (high < 0xd800 || low > 0xdfff) return [[low, high]]
    const parts: [number, number][] = []
    if (low < 0xd800) parts.push([low, 0xd7ff])
    if (high > 0xdfff) parts.push([0xe000, high])
    return parts
  })
}

export function charsOf(text: string): Chars {
  return charSet([...text].map(c => [c.codePointAt(0)!, c.codePointAt(0)!] as const))
}

export const union = (...sets: Chars[]): Chars => charSet(sets.flat())

export function except(set: Chars, other: Chars): Chars {
  return intersect(set, inverse(other))
}

export function inverse(set: Chars): Chars {
  const out: [number, number][] = []
  let next = 0
  for (const [low, high] of set) {
    if (low > next) out.push([next, low - 1])
    next = high + 1
  }
  if (next <= LAST) out.push([next, LAST])
  return charSet(out)
}

export function intersect(a: Chars, b: Chars): Chars {
  const out: [number, number][] = []
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const low = Math.max(a[i]![0], b[j]![0])
    const high = Math.min(a[i]![1], b[j]![1])
    if (low <= high) out.push([low, high])
    if (a[i]![1] < b[j]![1]) i++
    else j++
  }
  return out
}

export const DIGITS: Chars = [[0x30, 0x39]]
export const WORD: Chars = charSet([
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a]
])
export const SPACES: Chars = charsOf(' \t\n\r\f\v')
export const ALL: Chars = charSet([[0, LAST]])
/** What a JSON string holds without a backslash (RFC 8259 section 7). */
export const PLAIN: Chars = except(charSet([[0x20, LAST]]), charsOf('"\\'))

/** Sequences of byte ranges whose products are the set's encodings. */
export function utf8Ranges(set: Chars): [number, number][][] {
  const out: [number, number][][] = []
  for (const [low, high] of set) split(low, high, out)
  return out
}

const LENGTHS = [0x7f, 0x7ff, 0xffff, LAST]

function split(low: number, high: number, out: [number, number][][]): void {
  for (const end of LENGTHS) {
    if (low <= end && high > end) {
      split(low, end, out)
      split(end + 1, high, out)
      return
    }
  }
  // Same length; cut where a continuation byte would not take its whole range.
  const count = LENGTHS.findIndex(end => high <= end)
  for (let bits = 6; bits <= 6 * count; bits += 6) {
    const mask = (1 << bits) - 1
    if ((low & ~mask) === (high & ~mask)) continue
    if ((low & mask) !== 0) {
      split(low, low | mask, out)
      split((low | mask) + 1, high, out)
      return
    }
    if ((high & mask) !== mask) {
      split(low, (high & ~mask) - 1, out)
      split(high & ~mask, high, out)
      return
    }
  }
  const a = Buffer.from(String.fromCodePoint(low))
  const b = Buffer.from(String.fromCodePoint(high))
  out.push([...a].map((byte, i): [number, number] => [byte, b[i]!]))
}
