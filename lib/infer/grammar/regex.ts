/**
 * Regular expressions as automata over characters: the regular part of ECMAScript's syntax (ECMA-262 22.2.1). Look-around, back
 * references and word borders are refused: a language of theirs is not regular, or not what their authors think.
 */
import { unfit } from './automaton.ts'
import { ALL, type Chars, charSet, charsOf, DIGITS, except, intersect, inverse, SPACES, union, WORD } from './chars.ts'

/** Characters of a pattern. */
export const MAX_PATTERN_LENGTH = 8_192
/** Nodes of one pattern, repetitions written out. */
export const MAX_PATTERN_NODES = 20_000
/** Groups within groups. */
const MAX_DEPTH = 64

/** Nodes from 0 to `size` − 1; one start, one end. */
export interface CharNfa {
  start: number
  end: number
  size: number
  empty: [from: number, to: number][]
  edges: [from: number, set: Chars, to: number][]
  /** Parts written out so far: repetitions of nothing cost time, too. */
  work: number
}

type Tree =
  | { kind: 'set'; set: Chars }
  | { kind: 'seq' | 'any'; parts: Tree[] }
  | { kind: 'repeat'; part: Tree; min: number; max: number }
  | { kind: 'start' | 'end' }

const ANYTHING: Tree = {
  kind: 'repeat',
  part: { kind: 'set', set: charSet([[0x20, 0x10ffff]]) },
  min: 0,
  max: Number.POSITIVE_INFINITY
}

/**
 * @param search - the pattern may match anywhere unless `^` and `$` say otherwise, as JSON Schema has it; else it is the whole text.
 * @throws {ZgError} ERR_BAD_INPUT when it is malformed, not regular or too large.
 */
export function parseRegex(pattern: string, search: boolean): CharNfa {
  if (pattern.length > MAX_PATTERN_LENGTH) throw unfit(`a pattern has more than ${MAX_PATTERN_LENGTH} characters`)
  const tree = anchored(new Parser(pattern).all(), search)
  const nfa: CharNfa = { start: 0, end: 0, size: 1, empty: [], edges: [], work: 0 }
  nfa.end = build(nfa, tree, 0)
  return nfa
}

/** Whether a text is one of the pattern's, in time that grows with the text's length alone. */
export function matches(nfa: CharNfa, text: string): boolean {
  const free = new Map<number, number[]>()
  for (const [from, to] of nfa.empty) free.set(from, [...(free.get(from) ?? []), to])
  const closed = (states: Iterable<number>): Set<number> => {
    const out = new Set(states)
    for (const state of out) for (const to of free.get(state) ?? []) out.add(to)
    return out
  }
  let at = closed([nfa.start])
  for (const char of text) {
    const code = char.codePointAt(0)!
    const next = nfa.edges.filter(
      ([from, set]) => at.has(from) && set.some(([low, high]) => code >= low && code <= high)
    )
    at = closed(next.map(([, , to]) => to))
  }
  return at.has(nfa.end)
}

/** Pairs of states that are looked at; beyond it two patterns count as overlapping. */
const MAX_PAIRS = 40_000

/** True when no text is of both patterns. */
export function disjoint(x: CharNfa, y: CharNfa): boolean {
  const seen = new Set<number>()
  const open: [number, number][] = []
  const see = (i: number, j: number): void => {
    const key = i * y.size + j
    if (seen.has(key)) return
    seen.add(key)
    open.push([i, j])
  }
  const by = <T extends readonly [number, ...unknown[]]>(list: readonly T[]): Map<number, T[]> => {
    const out = new Map<number, T[]>()
    for (const one of list) out.set(one[0], [...(out.get(one[0]) ?? []), one])
    return out
  }
  const [freeX, freeY, edgesX, edgesY] = [by(x.empty), by(y.empty), by(x.edges), by(y.edges)]
  see(x.start, y.start)
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const [i, j] = at
    if ((i === x.end && j === y.end) || seen.size > MAX_PAIRS) return false
    for (const [, to] of freeX.get(i) ?? []) see(to, j)
    for (const [, to] of freeY.get(j) ?? []) see(i, to)
    for (const [, set, to] of edgesX.get(i) ?? []) {
      for (const [, other, then] of edgesY.get(j) ?? []) if (intersect(set, other).length > 0) see(to, then)
    }
  }
  return true
}

/** Anchors at the two ends of the pattern, or of each of its alternatives, and nowhere else. */
function anchored(tree: Tree, search: boolean): Tree {
  if (tree.kind === 'any') return { kind: 'any', parts: tree.parts.map(p => anchored(p, search)) }
  let parts = tree.kind === 'seq' ? [...tree.parts] : [tree]
  const start = parts[0]?.kind === 'start'
  if (start) parts = parts.slice(1)
  const end = parts.at(-1)?.kind === 'end'
  if (end) parts = parts.slice(0, -1)
  if (search && parts.length === 1 && !start && !end && parts[0]!.kind === 'any') return anchored(parts[0]!, search)
  const inner: Tree = { kind: 'seq', parts }
  if (hasAnchor(inner)) throw unfit('a pattern has an anchor in its middle')
  return search ? { kind: 'seq', parts: [...(start ? [] : [ANYTHING]), inner, ...(end ? [] : [ANYTHING])] } : inner
}

function hasAnchor(tree: Tree): boolean {
  if (tree.kind === 'start' || tree.kind === 'end') return true
  if (tree.kind === 'repeat') return hasAnchor(tree.part)
  return (tree.kind === 'seq' || tree.kind === 'any') && tree.parts.some(hasAnchor)
}

function build(nfa: CharNfa, tree: Tree, from: number): number {
  if (++nfa.work > MAX_PATTERN_NODES) throw unfit(`a pattern needs more than ${MAX_PATTERN_NODES} nodes`)
  const node = (): number => {
    if (nfa.size >= MAX_PATTERN_NODES) throw unfit(`a pattern needs more than ${MAX_PATTERN_NODES} nodes`)
    return nfa.size++
  }
  switch (tree.kind) {
    case 'set': {
      const to = node()
      nfa.edges.push([from, tree.set, to])
      return to
    }
    case 'seq':
      return tree.parts.reduce((at, part) => build(nfa, part, at), from)
    case 'any': {
      const to = node()
      for (const part of tree.parts) {
        const start = node()
        nfa.empty.push([from, start])
        nfa.empty.push([build(nfa, part, start), to])
      }
      return to
    }
    case 'repeat': {
      let at = from
      for (let i = 0; i < tree.min; i++) at = build(nfa, tree.part, at)
      const to = node()
      if (tree.max === Number.POSITIVE_INFINITY) {
        const loop = node()
        nfa.empty.push([at, loop], [build(nfa, tree.part, loop), loop], [loop, to])
        return to
      }
      for (let i = tree.min; i < tree.max; i++) {
        nfa.empty.push([at, to])
        const start = node()
        nfa.empty.push([at, start])
        at = build(nfa, tree.part, start)
      }
      nfa.empty.push([at, to])
      return to
    }
    default:
      throw unfit('a pattern has an anchor in its middle')
  }
}

const CLASSES: Record<string, Chars> = {
  d: DIGITS,
  D: inverse(DIGITS),
  w: WORD,
  W: inverse(WORD),
  s: SPACES,
  S: inverse(SPACES)
}
const CONTROLS: Record<string, string> = { n: '\n', r: '\r', t: '\t', f: '\f', v: '\v', 0: '\0' }

class Parser {
  readonly #text: string[]
  #at = 0
  #depth = 0

  constructor(pattern: string) {
    this.#text = [...pattern]
  }

  all(): Tree {
    const tree = this.#alternatives()
    if (this.#at < this.#text.length) throw unfit(`a pattern has an unmatched '${this.#text[this.#at]}'`)
    return tree
  }

  #alternatives(): Tree {
    const parts = [this.#sequence()]
    while (this.#text[this.#at] === '|') {
      this.#at++
      parts.push(this.#sequence())
    }
    return parts.length === 1 ? parts[0]! : { kind: 'any', parts }
  }

  #sequence(): Tree {
    const parts: Tree[] = []
    for (let c = this.#text[this.#at]; c !== undefined && c !== '|' && c !== ')'; c = this.#text[this.#at]) {
      parts.push(this.#repeated(this.#atom()))
    }
    return parts.length === 1 ? parts[0]! : { kind: 'seq', parts }
  }

  #repeated(part: Tree): Tree {
    const c = this.#text[this.#at]
    let bounds: [number, number] | undefined
    if (c === '*') bounds = [0, Number.POSITIVE_INFINITY]
    else if (c === '+') bounds = [1, Number.POSITIVE_INFINITY]
    else if (c === '?') bounds = [0, 1]
    else if (c === '{') {
      const braces = /^\{(\d{1,6})(,(\d{1,6})?)?\}/.exec(this.#text.slice(this.#at, this.#at + 20).join(''))
      if (braces !== null) {
        const min = Number(braces[1])
        const max =
          braces[2] === undefined ? min : braces[3] === undefined ? Number.POSITIVE_INFINITY : Number(braces[3])
        if (max < min) throw unfit('a pattern repeats at least more often than at most')
        bounds = [min, max]
        this.#at += braces[0].length - 1
      }
    }
    if (bounds === undefined) return part
    this.#at++
    // Whether greedy or not, the language is the same.
    if (this.#text[this.#at] === '?') this.#at++
    if (part.kind === 'start' || part.kind === 'end') throw unfit('a pattern repeats an anchor')
    return this.#repeated({ kind: 'repeat', part, min: bounds[0], max: bounds[1] })
  }

  #atom(): Tree {
    const c = this.#text[this.#at++]!
    switch (c) {
      case '(':
        return this.#group()
      case '[':
        return { kind: 'set', set: this.#set() }
      case '.':
        return { kind: 'set', set: except(ALL, charsOf('\n\r\u2028\u2029')) }
      case '^':
        return { kind: 'start' }
      case '$':
        return { kind: 'end' }
      case '\\':
        return { kind: 'set', set: this.#escape() }
      case '*':
      case '+':
      case '?':
        throw unfit(`a pattern repeats nothing by '${c}'`)
      default:
        return { kind: 'set', set: charsOf(c) }
    }
  }

  #group(): Tree {
    if (this.#text[this.#at] === '?') {
      const named = /^\?<[A-Za-z_]\w{0,63}>/.exec(this.#text.slice(this.#at, this.#at + 70).join(''))
      if (named !== null) this.#at += named[0].length
      else if (this.#text[this.#at + 1] === ':') this.#at += 2
      else throw unfit('a pattern looks ahead or behind, which is not supported')
    }
    if (++this.#depth > MAX_DEPTH) throw unfit(`a pattern has more than ${MAX_DEPTH} groups within each other`)
    const tree = this.#alternatives()
    this.#depth--
    if (this.#text[this.#at++] !== ')') throw unfit('a pattern has an open group')
    return tree
  }

  /** Behind a backslash, outside and inside of brackets. */
  #escape(): Chars {
    const c = this.#text[this.#at++]
    if (c === undefined) throw unfit('a pattern ends in a backslash')
    if (Object.hasOwn(CLASSES, c)) return CLASSES[c]!
    if (Object.hasOwn(CONTROLS, c) && !(c === '0' && /\d/.test(this.#text[this.#at] ?? '')))
      return charsOf(CONTROLS[c]!)
    if (c === 'x' || c === 'u') {
      const rest = this.#text.slice(this.#at, this.#at + 10).join('')
      const hex = (c === 'x' ? /^[0-9a-f]{2}/i : /^(?:[0-9a-f]{4}|\{[0-9a-f]{1,6}\})/i).exec(rest)
      if (hex === null) throw unfit(`a pattern has \\${c} without its digits`)
      this.#at += hex[0].length
      const code = Number.parseInt(hex[0].replace(/[{}]/g, ''), 16)
      if (code > 0x10ffff) throw unfit('a pattern names a character that does not exist')
      return charSet([[code, code]])
    }
    if (/[A-Za-z0-9]/.test(c)) throw unfit(`a pattern uses \\${c}, which is not supported`)
    return charsOf(c)
  }

  #set(): Chars {
    const not = this.#text[this.#at] === '^'
    if (not) this.#at++
    const parts: Chars[] = []
    for (;;) {
      const c = this.#text[this.#at]
      if (c === undefined) throw unfit('a pattern has an open bracket')
      this.#at++
      if (c === ']') break
      const low = c === '\\' ? (this.#text[this.#at] === 'b' ? this.#backspace() : this.#escape()) : charsOf(c)
      const range =
        this.#text[this.#at] === '-' && this.#text[this.#at + 1] !== ']' && this.#text[this.#at + 1] !== undefined
      if (!range || low.length !== 1 || low[0]![0] !== low[0]![1]) {
        parts.push(low)
        continue
      }
      this.#at++
      const d = this.#text[this.#at++]!
      const high = d === '\\' ? this.#escape() : charsOf(d)
      if (high.length !== 1 || high[0]![0] !== high[0]![1]) throw unfit('a pattern has a range that ends in a class')
      if (high[0]![0] < low[0]![0]) throw unfit('a pattern has a range that runs backwards')
      parts.push(charSet([[low[0]![0], high[0]![0]]]))
    }
    const set = union(...parts)
    return not ? inverse(set) : set
  }

  #backspace(): Chars {
    this.#at++
    return charsOf('\b')
  }
}
