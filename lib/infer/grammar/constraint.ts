/**
 * What an answer may be, as a request says it, and its automaton (docs/decisions/0065). Pure, bounded in time and memory by the
 * bounds of the parts: a schema, pattern or grammar beyond them is the caller's mistake, not a hung server.
 *
 *   compileConstraint({ kind: 'schema', schema, strict: true }) → { words, ignored }
 */
import { Automaton, type Part, unfit } from './automaton.ts'
import { parseGrammar } from './gbnf.ts'
import { Json, plainText } from './json.ts'
import { parseRegex } from './regex.ts'
import { SchemaCompiler } from './schema.ts'

/** Texts of a choice. */
export const MAX_CHOICES = 1_024

export type Constraint =
  /** Any JSON object. */
  | { kind: 'json' }
  | { kind: 'schema'; schema: unknown; strict: boolean }
  /** The whole answer matches. */
  | { kind: 'regex'; pattern: string }
  | { kind: 'choice'; texts: readonly string[] }
  /** In GBNF, from its rule `root`. */
  | { kind: 'grammar'; text: string }
  /** `{"name": …, "arguments": …}` of one of some functions, by names of the two fields. */
  | { kind: 'call'; functions: readonly CallShape[]; argumentsKey: string; list: boolean }

export interface CallShape {
  name: string
  /** Schema of its arguments; undefined: any object. */
  parameters: unknown
  strict: boolean
}

export interface CompiledConstraint {
  /** For the native part. */
  words: Uint32Array
  /** Keywords that the schema has and nobody looked at. */
  ignored: string[]
}

/** @throws {ZgError} ERR_BAD_INPUT when it is malformed, unsupported or too large. */
export function compileConstraint(constraint: Constraint): CompiledConstraint {
  const a = new Automaton()
  const ignored = new Set<string>()
  const schema = (value: unknown, strict: boolean): Part => {
    const compiler = new SchemaCompiler(a, value, { strict })
    const part = compiler.all()
    for (const key of compiler.ignored) ignored.add(key)
    return part
  }
  return { words: a.words(a.rule(partOf(a, constraint, schema))), ignored: [...ignored] }
}

function partOf(a: Automaton, c: Constraint, schema: (value: unknown, strict: boolean) => Part): Part {
  switch (c.kind) {
    case 'json':
      return new Json(a).object
    case 'schema':
      return schema(c.schema, c.strict)
    case 'regex':
      return plainText(a, parseRegex(c.pattern, false))
    case 'choice':
      if (c.texts.length === 0 || c.texts.length > MAX_CHOICES) throw unfit(`a choice has 1 to ${MAX_CHOICES} texts`)
      return a.any(...c.texts.map(a.text))
    case 'grammar':
      return parseGrammar(a, c.text)
    default: {
      const json = new Json(a)
      const calls = c.functions.map(f =>
        a.seq(
          a.text(`{"name": ${JSON.stringify(f.name)}, ${JSON.stringify(c.argumentsKey)}: `),
          f.parameters === undefined ? json.object : schema(f.parameters, f.strict),
          a.text('}')
        )
      )
      return c.list ? a.seq(a.text('['), a.any(...calls), a.text(']')) : a.any(...calls)
    }
  }
}
