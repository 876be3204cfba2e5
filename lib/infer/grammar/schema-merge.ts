/**
 * JSON Schemas taken together: `allOf`, keywords beside `$ref` or `anyOf`. What comes out allows what both allow, or less where
 * the two say it in ways that are not joined here; nothing is allowed that one of them forbids.
 */
import { unfit } from './automaton.ts'
import { isMultiple } from './numbers.ts'
import { isSchema, joinNamed, listOf, type Schema, typesOf } from './schema-shape.ts'

/** Alternatives that two `anyOf` make together. */
const MAX_ALTERNATIVES = 256

/** @throws {ZgError} ERR_BAD_INPUT when the two cannot be joined, or nothing satisfies both. */
export function merge(a: Schema, b: Schema): Schema {
  const out: Schema = { ...a }
  for (const [key, value] of Object.entries(b)) {
    if (value === undefined) continue
    const have = Object.hasOwn(out, key) ? out[key] : undefined
    out[key] = have === undefined ? value : join(key, have, value, a, b)
  }
  // What one says of names that it does not know it says of the other's, too.
  const patterns = [a, b].map(x => JSON.stringify(x.patternProperties))
  if (patterns[0] !== patterns[1]) {
    for (const [one, other] of [
      [a, b],
      [b, a]
    ] as const) {
      const rest = other.additionalProperties
      if (one.patternProperties !== undefined && rest !== undefined && rest !== true)
        throw unfit("the schema's patternProperties meet additionalProperties of another part, which is not supported")
    }
  }
  for (const [one, other] of [
    [a, b],
    [b, a]
  ] as const) {
    const rest = one.additionalProperties
    if (!isSchema(rest) || !isSchema(other.properties) || !isSchema(out.properties)) continue
    const named = isSchema(one.properties) ? one.properties : {}
    const add = (name: string, value: unknown): unknown =>
      Object.hasOwn(named, name) ? value : { allOf: [value, rest] }
    out.properties = Object.fromEntries(Object.entries(out.properties).map(([name, v]) => [name, add(name, v)]))
  }
  // A closed object has the properties that it names itself.
  for (const [closed, other] of [
    [a, b],
    [b, a]
  ] as const) {
    if (closed.additionalProperties === false && isSchema(other.properties) && isSchema(out.properties)) {
      const named = isSchema(closed.properties) ? closed.properties : {}
      out.properties = Object.fromEntries(Object.entries(out.properties).filter(([name]) => Object.hasOwn(named, name)))
    }
  }
  return out
}

function join(key: string, x: unknown, y: unknown, a: Schema, b: Schema): unknown {
  switch (key) {
    case 'type': {
      const [mine, theirs] = [typesOf(a)!, typesOf(b)!]
      const both = mine.flatMap(t =>
        theirs.includes(t)
          ? [t]
          : t === 'number' && theirs.includes('integer')
            ? ['integer']
            : t === 'integer' && theirs.includes('number')
              ? ['integer']
              : []
      )
      if (both.length === 0) throw unfit('the schema asks for two types at once')
      return both
    }
    case 'properties':
    case 'patternProperties':
      return joinNamed(x as Schema, y as Schema, (one, other) => ({ allOf: [one, other] }))
    case 'required':
      return [...new Set([...listOf(x, key), ...listOf(y, key)])]
    case 'items':
    case 'additionalProperties':
      return x === false || y === false ? false : { allOf: [x, y] }
    case 'enum': {
      const others = new Set(listOf(y, key).map(v => JSON.stringify(v)))
      return listOf(x, key).filter(v => others.has(JSON.stringify(v)))
    }
    case 'const':
      if (JSON.stringify(x) !== JSON.stringify(y)) throw unfit('the schema asks for two constants at once')
      return x
    case 'minimum':
    case 'exclusiveMinimum':
    case 'minLength':
    case 'minItems':
      return Math.max(Number(x), Number(y))
    case 'maximum':
    case 'exclusiveMaximum':
    case 'maxLength':
    case 'maxItems':
      return Math.min(Number(x), Number(y))
    case 'anyOf':
    case 'oneOf': {
      const [left, right] = [listOf(x, key), listOf(y, key)]
      if (left.length * right.length > MAX_ALTERNATIVES) throw unfit('the schema has too many alternatives')
      return left.flatMap(l => right.map(r => ({ allOf: [l, r] })))
    }
    case 'allOf':
      return [...listOf(x, key), ...listOf(y, key)]
    case 'pattern':
    case 'format':
    case 'prefixItems':
    case '$ref':
      if (JSON.stringify(x) !== JSON.stringify(y)) throw unfit(`the schema has two different '${key}' for one value`)
      return x
    case 'not':
      return { anyOf: [x, y] }
    case 'uniqueItems':
      return x === true || y === true
    case 'multipleOf':
      if (isMultiple(Number(x), Number(y))) return x
      if (isMultiple(Number(y), Number(x))) return y
      throw unfit("the schema has two different 'multipleOf' for one value")
    default:
      return x
  }
}
