/**
 * Grammars in the notation of llama.cpp (GBNF): `root ::= "yes" | "no"`, classes `[a-z]`, `.`, groups, `* + ? {m,n}`, names of rules,
 * comments from `#`. A rule goes on until the next `name ::=`. A rule that begins with itself is refused.
 */
import { type Automaton, type Part, type Rule, unfit } from './automaton.ts'
import { ALL, type Chars, charSet, charsOf, except, inverse, union } from './chars.ts'

/** A grammar's text. */
export const MAX_GRAMMAR_BYTES = 64 * 1024
/** Groups within groups. */
const MAX_DEPTH = 64

type Tree =
  | { kind: 'text'; text: string }
  | { kind: 'set'; set: Chars }
  | { kind: 'rule'; name: string }
  | { kind: 'seq' | 'any'; parts: Tree[] }
  | { kind: 'repeat'; part: Tree; min: number; max: number }

/** @throws {ZgError} ERR_BAD_INPUT naming the line. */
export function parseGrammar(a: Automaton, text: string): Part {
  if (Buffer.byteLength(text) > MAX_GRAMMAR_BYTES) throw unfit(`the grammar has more than ${MAX_GRAMMAR_BYTES} bytes`)
  const rules = new Reader(text).all()
  if (!rules.has('root')) throw unfit("the grammar has no rule 'root'")
  checkRecursion(rules)
  const starts = new Map<string, Rule>([...rules.keys()].map(name => [name, a.node()]))
  for (const [name, tree] of rules) {
    const start = starts.get(name)!
    // A node of its own: a loop at the beginning must not be the rule's beginning.
    const first = a.node()
    a.empty(start, first)
    a.end(partOf(a, tree, starts)(first))
  }
  return a.call(starts.get('root')!)
}

function partOf(a: Automaton, tree: Tree, starts: Map<string, Rule>): Part {
  switch (tree.kind) {
    case 'text':
      return a.text(tree.text)
    case 'set':
      return a.one(tree.set)
    case 'rule': {
      const start = starts.get(tree.name)
      if (start === undefined) throw unfit(`the grammar lacks the rule '${tree.name}'`)
      return a.call(start)
    }
    case 'seq':
      return a.seq(...tree.parts.map(p => partOf(a, p, starts)))
    case 'any':
      return a.any(...tree.parts.map(p => partOf(a, p, starts)))
    default:
      return a.times(partOf(a, tree.part, starts), tree.min, tree.max)
  }
}

/** Rules that run themselves before they have read anything would never get on. */
function checkRecursion(rules: Map<string, Tree>): void {
  const empty = new Set<string>()
  const mayBeEmpty = (tree: Tree): boolean => {
    switch (tree.kind) {
      case 'text':
        return tree.text === ''
      case 'set':
        return false
      case 'rule':
        return empty.has(tree.name)
      case 'seq':
        return tree.parts.every(mayBeEmpty)
      case 'any':
        return tree.parts.some(mayBeEmpty)
      default:
        return tree.min === 0 || mayBeEmpty(tree.part)
    }
  }
  for (let grown = true; grown; ) {
    grown = false
    for (const [name, tree] of rules) {
      if (empty.has(name) || !mayBeEmpty(tree)) continue
      empty.add(name)
      grown = true
    }
  }
  const firsts = (tree: Tree, out: Set<string>): void => {
    if (tree.kind === 'rule') out.add(tree.name)
    else if (tree.kind === 'repeat') firsts(tree.part, out)
    else if (tree.kind === 'any') for (const part of tree.parts) firsts(part, out)
    else if (tree.kind === 'seq') {
      for (const part of tree.parts) {
        firsts(part, out)
        if (!mayBeEmpty(part)) break
      }
    }
  }
  const state = new Map<string, 'open' | 'done'>()
  for (const root of rules.keys()) {
    // Depth first without recursion: there may be thousands of rules in a row.
    const path: { name: string; next: string[] }[] = []
    const enter = (name: string): void => {
      if (state.get(name) === 'open') throw unfit(`the grammar's rule '${name}' begins with itself`)
      if (state.has(name) || !rules.has(name)) return
      state.set(name, 'open')
      const next = new Set<string>()
      firsts(rules.get(name)!, next)
      path.push({ name, next: [...next] })
    }
    enter(root)
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const name = top.next.pop()
      if (name !== undefined) enter(name)
      else {
        state.set(top.name, 'done')
        path.pop()
      }
    }
  }
}

const NAME = /[A-Za-z_][A-Za-z0-9_-]*/y
const HEAD = /[A-Za-z_][A-Za-z0-9_-]*[ \t]*::=/y
const BLANK = /(?:[ \t\r\n]+|#[^\n]*)*/y
const COUNTS = /\{(\d{1,6})(?:(,)(\d{1,6})?)?\}/y
const LETTERS: Record<string, string> = { n: '\n', r: '\r', t: '\t' }

class Reader {
  readonly #text: string
  #at = 0
  #depth = 0

  constructor(text: string) {
    this.#text = text
  }

  all(): Map<string, Tree> {
    const rules = new Map<string, Tree>()
    this.#take(BLANK)
    while (this.#at < this.#text.length) {
      const head = this.#take(HEAD)
      if (head === undefined) throw this.#wrong("'name ::=' wanted")
      const name = /^[\w-]+/.exec(head[0])![0]
      if (rules.has(name)) throw this.#wrong(`the rule '${name}' stands there twice`)
      this.#take(BLANK)
      rules.set(name, this.#alternatives())
    }
    return rules
  }

  #take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)
    if (found !== null) this.#at += found[0].length
    return found ?? undefined
  }

  #wrong(what: string): Error {
    const line = this.#text.slice(0, this.#at).split('\n').length
    return unfit(`the grammar is wrong in line ${line}: ${what}`)
  }

  #alternatives(): Tree {
    const parts = [this.#sequence()]
    while (this.#text[this.#at] === '|') {
      this.#at++
      this.#take(BLANK)
      parts.push(this.#sequence())
    }
    return parts.length === 1 ? parts[0]! : { kind: 'any', parts }
  }

  #sequence(): Tree {
    const parts: Tree[] = []
    for (;;) {
      const c = this.#text[this.#at]
      if (c === undefined || c === '|' || c === ')') break
      HEAD.lastIndex = this.#at
      if (HEAD.test(this.#text)) break
      parts.push(this.#repeated(this.#atom()))
      this.#take(BLANK)
    }
    return parts.length === 1 ? parts[0]! : { kind: 'seq', parts }
  }

  #repeated(part: Tree): Tree {
    const c = this.#text[this.#at]
    const bounds: [number, number] | undefined =
      c === '*'
        ? [0, Number.POSITIVE_INFINITY]
        : c === '+'
          ? [1, Number.POSITIVE_INFINITY]
          : c === '?'
            ? [0, 1]
            : undefined
    if (bounds !== undefined) this.#at++
    const braces = bounds === undefined && c === '{' ? this.#take(COUNTS) : undefined
    if (bounds === undefined && braces === undefined) return part
    const min = bounds?.[0] ?? Number(braces![1])
    const max =
      bounds?.[1] ??
      (braces![2] === undefined ? min : braces![3] === undefined ? Number.POSITIVE_INFINITY : Number(braces![3]))
    if (max < min) throw this.#wrong('at least more often than at most')
    return this.#repeated({ kind: 'repeat', part, min, max })
  }

  #atom(): Tree {
    const c = this.#text[this.#at]!
    if (c === '"') return { kind: 'text', text: this.#string() }
    if (c === '[') return { kind: 'set', set: this.#set() }
    if (c === '.') {
      this.#at++
      return { kind: 'set', set: except(ALL, charsOf('\n')) }
    }
    if (c === '(') {
      if (++this.#depth > MAX_DEPTH) throw this.#wrong(`more than ${MAX_DEPTH} groups within each other`)
      this.#at++
      this.#take(BLANK)
      const tree = this.#alternatives()
      if (this.#text[this.#at] !== ')') throw this.#wrong("')' wanted")
      this.#at++
      this.#depth--
      return tree
    }
    const name = this.#take(NAME)
    if (name === undefined) throw this.#wrong(`'${c}' does not begin anything`)
    return { kind: 'rule', name: name[0] }
  }

  /** One character within quotes or brackets. */
  #char(): string {
    const c = String.fromCodePoint(this.#text.codePointAt(this.#at) ?? 0)
    if (this.#at >= this.#text.length || c === '\n') throw this.#wrong('the line ends within quotes or brackets')
    this.#at += c.length
    if (c !== '\\') return c
    const letter = this.#text[this.#at++] ?? ''
    const digits = letter === 'x' ? 2 : letter === 'u' ? 4 : letter === 'U' ? 8 : 0
    if (digits > 0) {
      const hex = this.#text.slice(this.#at, this.#at + digits)
      const code = /^[0-9a-fA-F]+$/.test(hex) && hex.length === digits ? Number.parseInt(hex, 16) : -1
      if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        throw this.#wrong('no character has this number')
      this.#at += digits
      return String.fromCodePoint(code)
    }
    if (Object.hasOwn(LETTERS, letter)) return LETTERS[letter]!
    if (!'"\\[]-^/'.includes(letter) || letter === '') throw this.#wrong(`\\${letter} is unknown`)
    return letter
  }

  #string(): string {
    this.#at++
    let out = ''
    while (this.#text[this.#at] !== '"') out += this.#char()
    this.#at++
    return out
  }

  #set(): Chars {
    this.#at++
    const not = this.#text[this.#at] === '^'
    if (not) this.#at++
    const parts: Chars[] = []
    while (this.#text[this.#at] !== ']') {
      const low = this.#char()
      let high = low
      if (this.#text[this.#at] === '-' && this.#text[this.#at + 1] !== ']') {
        this.#at++
        high = this.#char()
      }
      const [l, h] = [low.codePointAt(0)!, high.codePointAt(0)!]
      if (h < l) throw this.#wrong('a range runs backwards')
      parts.push(charSet([[l, h]]))
    }
    this.#at++
    const set = union(...parts)
    return not ? inverse(set) : set
  }
}
