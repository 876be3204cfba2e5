/** JSON's own rules (RFC 8259) in an automaton, with white space bounded: a model that likes blanks must not fill its answer with them. */
import type { Automaton, Part, Rule } from './automaton.ts'
import { ALL, type Chars, charsOf, except, intersect, PLAIN, union } from './chars.ts'
import { decimal } from './numbers.ts'
import type { CharNfa } from './regex.ts'

/** Spaces of an indentation. */
const MAX_INDENT = 8
const SHORT: [string, string][] = [
  ['"', '"'],
  ['\\', '\\'],
  ['\b', 'b'],
  ['\f', 'f'],
  ['\n', 'n'],
  ['\r', 'r'],
  ['\t', 't']
]
const HEX = charsOf('0123456789abcdefABCDEF')

/** What documents are made of; rules are made once, when first asked for. */
export class Json {
  readonly a: Automaton
  readonly #rules = new Map<string, Rule>()

  constructor(a: Automaton) {
    this.a = a
  }

  #rule(name: string, make: () => Part): Part {
    let rule = this.#rules.get(name)
    if (rule === undefined) {
      // Known before it is made: values hold values.
      rule = this.a.node()
      this.#rules.set(name, rule)
      this.a.end(make()(rule))
    }
    return this.a.call(rule)
  }

  /** Between tokens: nothing, a space, or a line break and some. */
  get space(): Part {
    const { a } = this
    return this.#rule('space', () =>
      a.any(from => from, a.text(' '), a.seq(a.text('\n'), a.times(a.text(' '), 0, MAX_INDENT)))
    )
  }

  get colon(): Part {
    return this.a.seq(this.a.text(':'), this.a.optional(this.a.text(' ')))
  }

  get escape(): Part {
    const { a } = this
    return this.#rule('escape', () => {
      const hex = a.one(HEX)
      // No half of a pair of surrogates.
      const code = a.any(
        a.seq(a.one(except(HEX, charsOf('dD'))), hex, hex, hex),
        a.seq(a.one(charsOf('dD')), a.one(charsOf('01234567')), hex, hex)
      )
      return a.seq(a.text('\\'), a.any(a.one(charsOf('"\\/bfnrt')), a.seq(a.text('u'), code)))
    })
  }

  get char(): Part {
    return this.#rule('char', () => this.a.any(this.a.one(PLAIN), this.escape))
  }

  get string(): Part {
    const { a } = this
    return this.#rule('string', () => a.seq(a.text('"'), a.many(this.char), a.text('"')))
  }

  get value(): Part {
    const { a } = this
    return this.#rule('value', () =>
      a.any(this.object, this.array, this.string, this.number, ...['true', 'false', 'null'].map(a.text))
    )
  }

  get number(): Part {
    return this.#rule('number', () => decimal(this.a, {}))
  }

  get object(): Part {
    const { a } = this
    return this.#rule('object', () => {
      const member = a.seq(this.string, this.colon, this.value)
      return a.seq(a.text('{'), this.list(member, 0, Number.POSITIVE_INFINITY), a.text('}'))
    })
  }

  get array(): Part {
    const { a } = this
    return this.#rule('array', () =>
      a.seq(a.text('['), this.list(this.value, 0, Number.POSITIVE_INFINITY), a.text(']'))
    )
  }

  /** Members with commas between them and space around. */
  list(member: Part, min: number, max: number): Part {
    const { a } = this
    if (max === 0) return from => from
    const more = a.seq(a.text(','), this.space, member)
    const some = a.seq(this.space, member, a.times(more, Math.max(0, min - 1), max - 1), this.space)
    return min === 0 ? a.optional(some) : some
  }

  /** A string whose content a pattern allows; its characters are counted where there is a bound. */
  matching(nfa: CharNfa, min: number, max: number): Part {
    const { a } = this
    // Above the least length without a greatest one counting makes no difference.
    const top = max === Number.POSITIVE_INFINITY ? min : max
    return start => {
      const open = a.text('"')(start)
      const nodes = new Map<number, number>()
      const node = (state: number, count: number): number => {
        const key = count * nfa.size + state
        let found = nodes.get(key)
        if (found === undefined) {
          found = a.node()
          nodes.set(key, found)
        }
        return found
      }
      const close = a.node()
      a.empty(open, node(nfa.start, 0))
      // Counts one after the other; what no path reaches makes nodes all the same, which the bound on nodes covers.
      const reached = new Set<number>([0])
      for (let count = 0; count <= top; count++) {
        if (!reached.has(count)) break
        for (const [from, to] of nfa.empty) a.empty(node(from, count), node(to, count))
        const next = count < top ? count + 1 : max === Number.POSITIVE_INFINITY ? count : undefined
        if (next !== undefined) {
          for (const [from, set, to] of nfa.edges) this.#content(node(from, count), set, node(to, next))
          reached.add(next)
        }
        if (count >= min) a.empty(node(nfa.end, count), close)
      }
      return a.text('"')(close)
    }
  }

  /** A character of a set as a JSON string holds it. */
  #content(from: number, set: Chars, to: number): void {
    const { a } = this
    const plain = intersect(set, PLAIN)
    if (plain.length > 0) a.chars(from, plain, to)
    for (const [char, letter] of SHORT) {
      if (intersect(set, charsOf(char)).length > 0) a.empty(a.text(`\\${letter}`)(from), to)
    }
    const named = union(PLAIN, charsOf(SHORT.map(([char]) => char).join('')))
    for (const [low, high] of intersect(set, except(ALL, named))) {
      for (let code = low; code <= high; code++) {
        a.empty(a.text(`\\u${code.toString(16).padStart(4, '0')}`)(from), to)
      }
    }
  }
}

/** A pattern's text as it is, outside of JSON. */
export function plainText(a: Automaton, nfa: CharNfa): Part {
  return from => {
    const nodes = Array.from({ length: nfa.size }, () => a.node())
    a.empty(from, nodes[nfa.start]!)
    for (const [x, y] of nfa.empty) a.empty(nodes[x]!, nodes[y]!)
    for (const [x, set, y] of nfa.edges) a.chars(nodes[x]!, set, nodes[y]!)
    return nodes[nfa.end]!
  }
}
