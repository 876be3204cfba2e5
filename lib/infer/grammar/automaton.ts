/**
 * Builds pushdown automata over bytes for native/infer/grammar.h: nodes, edges that need nothing, edges over a range of bytes, and edges
 * that run a rule. Everything that constrains an answer (schema, regular expression, grammar) ends here, under one bound.
 */
import { ZgError } from '../../base/errors.ts'
import { type Chars, utf8Ranges } from './chars.ts'

/** Nodes of one automaton. A schema or pattern that needs more is refused. */
export const MAX_NODES = 200_000

/** A piece of an automaton: from a node it is given to the node where it ends. */
export type Part = (from: number) => number

/** A rule that others run: where it begins. Its end is marked by {@link Automaton.end}. */
export type Rule = number

/** What cannot be followed: the caller's mistake. */
export function unfit(message: string): ZgError {
  return new ZgError('ERR_BAD_INPUT', message)
}

const EMPTY = 0
const BYTES = 1
const RULE = 2

export class Automaton {
  #nodes = 0
  /** Repetitions written out: those of nothing make no node and cost time all the same. */
  #repeated = 0
  readonly #ends = new Set<number>()
  /** Source, kind ≪ 16 ∣ low ≪ 8 ∣ high, target, node after the rule; four numbers an edge. */
  readonly #edges: number[] = []

  /** @throws {ZgError} ERR_BAD_INPUT above {@link MAX_NODES}. */
  node(): number {
    if (this.#nodes >= MAX_NODES)
      throw unfit(`the constraint is too large: its automaton has more than ${MAX_NODES} nodes`)
    return this.#nodes++
  }

  /** A rule may end at this node. */
  end(node: number): void {
    this.#ends.add(node)
  }

  empty(from: number, to: number): void {
    this.#edges.push(from, EMPTY << 16, to, 0)
  }

  bytes(from: number, low: number, high: number, to: number): void {
    this.#edges.push(from, (BYTES << 16) | (low << 8) | high, to, 0)
  }

  run(from: number, rule: Rule, to: number): void {
    this.#edges.push(from, RULE << 16, rule, to)
  }

  /** One character of a set, between two nodes. */
  chars(from: number, set: Chars, to: number): void {
    // Sequences share their ends: the set of all characters takes eight nodes.
    const tails = new Map<string, number>()
    for (const ranges of utf8Ranges(set)) {
      let at = to
      let key = ''
      for (let i = ranges.length - 1; i > 0; i--) {
        const [low, high] = ranges[i]!
        key += `${low}-${high},`
        let before = tails.get(key)
        if (before === undefined) {
          before = this.node()
          tails.set(key, before)
          this.bytes(before, low, high, at)
        }
        at = before
      }
      this.bytes(from, ranges[0]![0], ranges[0]![1], at)
    }
  }

  /** A rule made of one part. */
  rule(part: Part): Rule {
    const start = this.node()
    this.end(part(start))
    return start
  }

  readonly text =
    (text: string): Part =>
    from => {
      let at = from
      for (const byte of Buffer.from(text)) {
        const next = this.node()
        this.bytes(at, byte, byte, next)
        at = next
      }
      return at
    }

  readonly one =
    (set: Chars): Part =>
    from => {
      const to = this.node()
      this.chars(from, set, to)
      return to
    }

  readonly call =
    (rule: Rule): Part =>
    from => {
      const to = this.node()
      this.run(from, rule, to)
      return to
    }

  readonly seq =
    (...parts: Part[]): Part =>
    from =>
      parts.reduce((at, part) => part(at), from)

  readonly any =
    (...parts: Part[]): Part =>
    from => {
      const to = this.node()
      for (const part of parts) {
        // Each begins at a node of its own: a loop at its start must not be the others' loop.
        const start = this.node()
        this.empty(from, start)
        this.empty(part(start), to)
      }
      return to
    }

  readonly optional = (part: Part): Part => this.any(part, from => from)

  readonly many =
    (part: Part): Part =>
    from => {
      const loop = this.node()
      this.empty(from, loop)
      this.empty(part(loop), loop)
      const to = this.node()
      this.empty(loop, to)
      return to
    }

  /** Between min and max times; Infinity for no bound. */
  readonly times =
    (part: Part, min: number, max: number): Part =>
    from => {
      let at = from
      this.#repeated += max === Number.POSITIVE_INFINITY ? min : max
      if (this.#repeated > MAX_NODES) throw unfit('the constraint is too large: it repeats too often')
      for (let i = 0; i < min; i++) at = part(at)
      if (max === Number.POSITIVE_INFINITY) return this.many(part)(at)
      if (max === min) return at
      const to = this.node()
      for (let i = min; i < max; i++) {
        this.empty(at, to)
        const start = this.node()
        this.empty(at, start)
        at = part(start)
      }
      this.empty(at, to)
      return to
    }

  /** What native/infer/grammar.h reads. */
  words(start: Rule): Uint32Array {
    const edges = this.#edges.length / 4
    const out = new Uint32Array(4 + this.#nodes + this.#nodes + 1 + 3 * edges)
    out.set([3, this.#nodes, edges, start])
    for (const node of this.#ends) out[4 + node] = 1
    const first = 4 + this.#nodes
    for (let i = 0; i < this.#edges.length; i += 4) out[first + this.#edges[i]! + 1]!++
    for (let node = 0; node < this.#nodes; node++) out[first + node + 1]! += out[first + node]!
    const fill = out.slice(first, first + this.#nodes)
    const base = first + this.#nodes + 1
    for (let i = 0; i < this.#edges.length; i += 4) {
      const at = base + 3 * fill[this.#edges[i]!]!++
      out[at] = this.#edges[i + 1]!
      out[at + 1] = this.#edges[i + 2]!
      out[at + 2] = this.#edges[i + 3]!
    }
    return out
  }
}
