/** Decimal numbers within bounds as automata over their digits. */
import { type Automaton, type Part, unfit } from './automaton.ts'

/** Digits in front of the point where no bound says otherwise: what a double holds exactly. */
export const MAX_DIGITS = 15

export interface Bounds {
  min?: number | undefined
  max?: number | undefined
  /** The bound itself is left out. */
  exclusiveMin?: boolean | undefined
  exclusiveMax?: boolean | undefined
}

/** @throws {ZgError} ERR_BAD_INPUT when no integer lies between the bounds. */
export function integer(a: Automaton, bounds: Bounds): Part {
  const range = scaled(bounds, 0)
  if (range === undefined) throw unfit('no integer lies between the bounds')
  return from => {
    const to = a.node()
    signed(a, from, range, 0, to)
    return to
  }
}

/** Divisors up to this have automata of their remainders; of larger ones so many multiples, those nearest to zero, are written out. */
export const MAX_DIVISOR = 256
export const MAX_MULTIPLES = 1_024

/** Whether n is a multiple of m, exactly, as decimals. */
export function isMultiple(n: number, m: number): boolean {
  const [x, y] = [exact(n), exact(m)]
  const places = Math.max(x.places, y.places)
  const scale = (v: typeof x): bigint => v.digits * 10n ** BigInt(places - v.places)
  return scale(x) % scale(y) === 0n
}

/** Multiples of a positive number within bounds. @throws {ZgError} ERR_BAD_INPUT when there is none. */
export function multiples(a: Automaton, bounds: Bounds, of: number, whole: boolean): Part {
  const step = exact(of)
  if (step.places > MAX_DIGITS) throw unfit('a multipleOf has too many places')
  // An integer that is a multiple of n/10^k is one of n/gcd(n, 10^k).
  const unit = 10n ** BigInt(step.places)
  const places = whole ? 0 : step.places
  const divisor = whole ? step.digits / gcd(step.digits, unit) : step.digits
  const range = scaled(bounds, places)
  if (range === undefined) throw unfit('no multiple lies between the bounds')
  const [low, high] = range
  const first = low >= 0n ? (low + divisor - 1n) / divisor : -(-low / divisor)
  const last = high >= 0n ? high / divisor : -((-high + divisor - 1n) / divisor)
  if (first > last) throw unfit('no multiple lies between the bounds')
  if (divisor > BigInt(MAX_DIVISOR) || last - first < 64n) {
    const most = BigInt(MAX_MULTIPLES)
    const from =
      first > 0n
        ? first
        : last < 0n
          ? last - most + 1n > first
            ? last - most + 1n
            : first
          : first < -most / 2n
            ? -most / 2n
            : first
    const to = from + most - 1n < last ? from + most - 1n : last
    const texts = Array.from({ length: Number(to - from) + 1 }, (_, i) => written((from + BigInt(i)) * divisor, places))
    return oneOf(a, texts)
  }
  return from => {
    const to = a.node()
    const rest = new Remainders(a, Number(divisor), places, to)
    if (high >= 0n) rest.range(from, low > 0n ? low : 0n, high)
    if (low < 0n) {
      const minus = a.node()
      if (rest.range(minus, high < 0n ? -high : 1n, -low)) a.bytes(from, 0x2d, 0x2d, minus)
    }
    return to
  }
}

/** One of many texts, equal beginnings written once: a state for each of them all at once would be too many. */
function oneOf(a: Automaton, texts: readonly string[]): Part {
  return from => {
    const to = a.node()
    const known = new Map<string, number>([['', from]])
    for (const text of texts) {
      let at = from
      for (let i = 1; i <= text.length; i++) {
        const begin = text.slice(0, i)
        let next = known.get(begin)
        if (next === undefined) {
          next = a.node()
          known.set(begin, next)
          a.bytes(at, text.charCodeAt(i - 1), text.charCodeAt(i - 1), next)
        }
        at = next
      }
      a.empty(at, to)
    }
    return to
  }
}

function gcd(a: bigint, b: bigint): bigint {
  let [x, y] = [a, b]
  while (y !== 0n) [x, y] = [y, x % y]
  return x
}

function written(n: bigint, places: number): string {
  const digits = String(n < 0n ? -n : n).padStart(places + 1, '0')
  const point = digits.length - places
  return `${n < 0n ? '-' : ''}${digits.slice(0, point)}${places > 0 ? `.${digits.slice(point)}` : ''}`
}

/** Digits whose number leaves no remainder; what cannot get there has no node. */
class Remainders {
  readonly #a: Automaton
  readonly #by: number
  readonly #places: number
  readonly #to: number
  readonly #free = new Map<number, number | undefined>()

  constructor(a: Automaton, by: number, places: number, to: number) {
    this.#a = a
    this.#by = by
    this.#places = places
    this.#to = to
  }

  /** False: there is none. */
  range(from: number, low: bigint, high: bigint): boolean {
    let any = false
    for (let length = this.#places + 1; length <= Math.max(String(high).length, this.#places + 1); length++) {
      const least = length === this.#places + 1 ? 0n : 10n ** BigInt(length - 1)
      const most = 10n ** BigInt(length) - 1n
      const [l, h] = [low > least ? low : least, high < most ? high : most]
      if (l > h) continue
      const pad = (n: bigint): string => String(n).padStart(length, '0')
      const start = this.#digits(pad(l), pad(h), 0, true, true)
      if (start === undefined) continue
      this.#a.empty(from, start)
      any = true
    }
    return any
  }

  /** The node from which the last digits follow, between two strings where these still bind; undefined: none fits. */
  #digits(low: string, high: string, remainder: number, bindsLow: boolean, bindsHigh: boolean): number | undefined {
    const left = low.length
    if (left === 0) return remainder === 0 ? this.#to : undefined
    const free = !bindsLow && !bindsHigh
    const key = left * this.#by + remainder
    if (free && this.#free.has(key)) return this.#free.get(key)
    const edges: [digit: number, to: number][] = []
    const least = bindsLow ? Number(low[0]) : 0
    const most = bindsHigh ? Number(high[0]) : 9
    for (let d = least; d <= most; d++) {
      const after = this.#digits(
        low.slice(1),
        high.slice(1),
        (remainder * 10 + d) % this.#by,
        bindsLow && d === least,
        bindsHigh && d === most
      )
      if (after !== undefined) edges.push([d, after])
    }
    let node: number | undefined
    if (edges.length > 0) {
      node = this.#a.node()
      let at = node
      if (left === this.#places) {
        at = this.#a.node()
        this.#a.bytes(node, 0x2e, 0x2e, at)
      }
      for (const [d, to] of edges) this.#a.bytes(at, 0x30 + d, 0x30 + d, to)
    }
    if (free) this.#free.set(key, node)
    return node
  }
}

/** Without bounds any JSON number of moderate size, else decimals without exponent. @throws {ZgError} as {@link integer}. */
export function decimal(a: Automaton, bounds: Bounds): Part {
  if (bounds.min === undefined && bounds.max === undefined) {
    const digit: Part = from => {
      const to = a.node()
      a.bytes(from, 0x30, 0x39, to)
      return to
    }
    const whole = integer(a, {})
    const sign = a.any(a.text('+'), a.text('-'), from => from)
    return a.seq(
      whole,
      a.optional(a.seq(a.text('.'), a.times(digit, 1, MAX_DIGITS))),
      a.optional(a.seq(a.any(a.text('e'), a.text('E')), sign, a.times(digit, 1, 2)))
    )
  }
  const places = Math.max(2, Math.min(6, Math.max(placesOf(bounds.min), placesOf(bounds.max))))
  const ranges: [number, [bigint, bigint]][] = []
  // More places only where fewer have no number at all.
  for (let f = 0; f <= 15 && (f <= places || ranges.length === 0); f++) {
    const range = scaled(bounds, f)
    if (range !== undefined) ranges.push([f, range])
  }
  if (ranges.length === 0) throw unfit('no number of at most 15 places lies between the bounds')
  return from => {
    const to = a.node()
    for (const [f, range] of ranges) signed(a, from, range, f, to)
    return to
  }
}

/** A decimal as JSON has it: digits × 10 ^ −places, exact. */
function exact(n: number): { digits: bigint; places: number } {
  const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(n))!
  const places = fraction.length - Number(exponent)
  const digits = BigInt(`${sign}${whole}${fraction}`)
  return places >= 0 ? { digits, places } : { digits: digits * 10n ** BigInt(-places), places: 0 }
}

function placesOf(n: number | undefined): number {
  return n === undefined ? 0 : exact(n).places
}

/** Least and greatest multiple of 10 ^ −places within the bounds, as integers; undefined when there is none. */
function scaled(b: Bounds, places: number): [bigint, bigint] | undefined {
  const far = 10n ** BigInt(MAX_DIGITS - (places > 0 ? 3 : 0)) * 10n ** BigInt(places)
  const unit = 10n ** BigInt(places)
  const low = b.min === undefined ? undefined : edge(b.min, places, b.exclusiveMin === true, 1n)
  const high = b.max === undefined ? undefined : edge(b.max, places, b.exclusiveMax === true, -1n)
  const least = low ?? (high === undefined || high > -far ? 1n - far : high - 1_000_000n * unit)
  const most = high ?? (least < far - 1n ? far - 1n : least + 1_000_000n * unit)
  return least <= most ? [least, most] : undefined
}

/** The first multiple at or inside a bound; `inward` says where inside lies. */
function edge(bound: number, places: number, exclusive: boolean, inward: 1n | -1n): bigint {
  const { digits, places: has } = exact(bound)
  if (has <= places) return digits * 10n ** BigInt(places - has) + (exclusive ? inward : 0n)
  const by = 10n ** BigInt(has - places)
  // Division cuts towards zero.
  const cut = digits / by
  if (digits % by === 0n) return cut + (exclusive ? inward : 0n)
  if (inward === 1n) return digits > 0n ? cut + 1n : cut
  return digits < 0n ? cut - 1n : cut
}

function signed(a: Automaton, from: number, [low, high]: [bigint, bigint], places: number, to: number): void {
  if (high >= 0n) positive(a, from, low > 0n ? low : 0n, high, places, to)
  if (low < 0n) {
    const after = a.node()
    a.bytes(from, 0x2d, 0x2d, after)
    positive(a, after, high < 0n ? -high : 1n, -low, places, to)
  }
}

/** Numbers from low to high with the last `places` digits behind a point; no needless zeros in front. */
function positive(a: Automaton, from: number, low: bigint, high: bigint, places: number, to: number): void {
  const most = Math.max(String(high).length, places + 1)
  for (let length = places + 1; length <= most; length++) {
    const least = length === places + 1 ? 0n : 10n ** BigInt(length - 1)
    const greatest = 10n ** BigInt(length) - 1n
    const l = low > least ? low : least
    const h = high < greatest ? high : greatest
    if (l > h) continue
    const pad = (n: bigint): string => String(n).padStart(length, '0')
    digits(a, from, pad(l), pad(h), length - places, to)
  }
}

/** Strings of digits between two of equal length; the point stands in front of digit `point`, if that is there. */
function digits(a: Automaton, start: number, low: string, high: string, point: number, to: number): void {
  if (low === '') {
    a.empty(start, to)
    return
  }
  let from = start
  if (point === 0) {
    from = a.node()
    a.bytes(start, 0x2e, 0x2e, from)
  }
  const size = low.length - 1
  const rest = (first: number, last: number, l: string, h: string): void => {
    const next = a.node()
    a.bytes(from, 0x30 + first, 0x30 + last, next)
    digits(a, next, l, h, point - 1, to)
  }
  const [l, h] = [Number(low[0]), Number(high[0])]
  const nines = '9'.repeat(size)
  const zeros = '0'.repeat(size)
  if (l === h) {
    rest(l, l, low.slice(1), high.slice(1))
    return
  }
  const lowWhole = low.slice(1) === zeros
  const highWhole = high.slice(1) === nines
  if (!lowWhole) rest(l, l, low.slice(1), nines)
  const first = lowWhole ? l : l + 1
  const last = highWhole ? h : h - 1
  if (first <= last) rest(first, last, zeros, nines)
  if (!highWhole) rest(h, h, zeros, high.slice(1))
}
