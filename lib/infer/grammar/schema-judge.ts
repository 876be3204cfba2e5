/**
 * What is known of values and schemas without writing them out: whether a literal is valid, whether two schemas share a value. Answers
 * are certain or `undefined`; who needs certainty refuses the schema then. Pure.
 */
import { isMultiple } from './numbers.ts'
import { matches, parseRegex } from './regex.ts'
import { asSchema, isSchema, listOf, type Schema, typesOf } from './schema-shape.ts'

/** References and schemas within each other that are followed. */
const MAX_DEPTH = 32

type Verdict = boolean | undefined

export interface Resolve {
  /** Follows a reference. */
  follow(ref: string): Schema
  /** Counts work; throws where it is too much. */
  spend(steps: number): void
}

/** Equal as JSON: names of an object in any order. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (!isSchema(value)) return JSON.stringify(value)
  const names = Object.keys(value).sort()
  return `{${names.map(name => `${JSON.stringify(name)}:${canonical(value[name])}`).join(',')}}`
}

function all(list: readonly Verdict[]): Verdict {
  return list.includes(false) ? false : list.includes(undefined) ? undefined : true
}

function negate(v: Verdict): Verdict {
  return v === undefined ? undefined : !v
}

/** Whether a value is valid; undefined where that is not known. */
export function judge(value: unknown, schema: unknown, resolve: Resolve, depth = 0): Verdict {
  const s = asSchema(schema, 'part')
  if (depth > MAX_DEPTH) return undefined
  resolve.spend(1 + Object.keys(s).length)
  const sub = (v: unknown, x: unknown): Verdict => judge(v, x, resolve, depth + 1)
  const verdicts = Object.entries(s).map(([key, x]): Verdict => {
    if (x === undefined) return true
    switch (key) {
      case '$ref':
        return typeof x === 'string' ? sub(value, resolve.follow(x)) : undefined
      case 'type':
        return typesOf(s)!.some(t => isOf(value, t))
      case 'const':
        return canonical(x) === canonical(value)
      case 'enum':
        return listOf(x, key).some(e => canonical(e) === canonical(value))
      case 'allOf':
        return all(listOf(x, key).map(p => sub(value, p)))
      case 'anyOf':
        return negate(all(listOf(x, key).map(p => negate(sub(value, p)))))
      case 'oneOf': {
        const list = listOf(x, key).map(p => sub(value, p))
        return list.includes(undefined) ? undefined : list.filter(v => v === true).length === 1
      }
      case 'not':
        return negate(sub(value, x))
      case 'if': {
        const holds = sub(value, x)
        if (holds === undefined) return undefined
        return sub(value, (holds ? s.then : s.else) ?? true)
      }
      default:
        return ofKind(key, x, value, s, sub, resolve)
    }
  })
  return all(verdicts)
}

function isOf(value: unknown, type: string): boolean {
  if (type === 'integer') return typeof value === 'number' && Number.isInteger(value)
  return type === (value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value)
}

/** Keywords that speak of one kind of value alone. */
function ofKind(
  key: string,
  x: unknown,
  value: unknown,
  s: Schema,
  sub: (v: unknown, x: unknown) => Verdict,
  resolve: Resolve
): Verdict {
  const match = (pattern: string, text: string): boolean => {
    const nfa = parseRegex(pattern, true)
    resolve.spend(nfa.size + nfa.edges.length * text.length)
    return matches(nfa, text)
  }
  const n = Number(x)
  if (typeof value === 'number') {
    if (key === 'minimum') return value >= n
    if (key === 'maximum') return value <= n
    if (key === 'exclusiveMinimum') return value > n
    if (key === 'exclusiveMaximum') return value < n
    if (key === 'multipleOf') return isMultiple(value, n)
  }
  if (typeof value === 'string') {
    if (key === 'minLength') return [...value].length >= n
    if (key === 'maxLength') return [...value].length <= n
    if (key === 'pattern') return typeof x === 'string' ? match(x, value) : undefined
    if (key === 'format') return undefined
  }
  if (Array.isArray(value)) {
    if (key === 'minItems') return value.length >= n
    if (key === 'maxItems') return value.length <= n
    if (key === 'uniqueItems') return x !== true || new Set(value.map(canonical)).size === value.length
    const first = s.prefixItems === undefined ? [] : listOf(s.prefixItems, 'prefixItems')
    if (key === 'prefixItems') return all(first.slice(0, value.length).map((p, i) => sub(value[i], p)))
    if (key === 'items') return all(value.slice(first.length).map(v => sub(v, x)))
  }
  if (isSchema(value)) {
    const names = Object.keys(value)
    if (key === 'required') return listOf(x, key).every(name => Object.hasOwn(value, String(name)))
    const named = isSchema(s.properties) ? s.properties : {}
    const patterns = isSchema(s.patternProperties) ? Object.entries(s.patternProperties) : []
    const of = (name: string): unknown[] => patterns.flatMap(([p, schema]) => (match(p, name) ? [schema] : []))
    if (key === 'properties')
      return all(names.flatMap(name => (Object.hasOwn(named, name) ? [sub(value[name], named[name])] : [])))
    if (key === 'patternProperties') return all(names.flatMap(name => of(name).map(schema => sub(value[name], schema))))
    if (key === 'additionalProperties')
      return all(
        names.flatMap(name => (Object.hasOwn(named, name) || of(name).length > 0 ? [] : [sub(value[name], x)]))
      )
  }
  return true
}

/** The values of a schema that has few; undefined where it has others. They need not all be valid. */
export function literalsOf(schema: Schema): unknown[] | undefined {
  if (schema.const !== undefined) return [schema.const]
  if (schema.enum !== undefined) return listOf(schema.enum, 'enum')
  const types = typesOf(schema)
  if (types === undefined || !types.every(t => t === 'null' || t === 'boolean')) return undefined
  return types.flatMap(t => (t === 'null' ? [null] : [true, false]))
}

/** True when no value is valid under both, as far as it can be seen. */
export function apart(x: unknown, y: unknown, resolve: Resolve, depth = 0): boolean {
  const whole = (schema: unknown): Schema => {
    let s = asSchema(schema, 'part')
    for (let i = 0; i < MAX_DEPTH && typeof s.$ref === 'string'; i++)
      s = { ...resolve.follow(s.$ref), ...s, $ref: undefined }
    return s
  }
  if (depth > 8) return false
  resolve.spend(8)
  const [a, b] = [whole(x), whole(y)]
  const [mine, theirs] = [literalsOf(a), literalsOf(b)]
  if (mine !== undefined) return mine.every(v => judge(v, a, resolve) === false || judge(v, b, resolve) === false)
  if (theirs !== undefined) return apart(y, x, resolve, depth + 1)
  for (const [one, other] of [
    [a, y],
    [b, x]
  ] as const) {
    for (const key of ['anyOf', 'oneOf']) {
      const list = one[key]
      if (Array.isArray(list)) return list.every(part => apart(part, other, resolve, depth + 1))
    }
  }
  const [ta, tb] = [typesOf(a), typesOf(b)]
  if (ta === undefined || tb === undefined) return false
  const number = (t: string): string => (t === 'integer' ? 'number' : t)
  const shared = ta.map(number).filter(t => tb.map(number).includes(t))
  return shared.every(t =>
    t === 'object' ? objectsApart(a, b, resolve, depth) : t === 'number' ? above(a, b) || above(b, a) : false
  )
}

/** One asks for what the other forbids, or for a value that the other does not allow there. */
function objectsApart(a: Schema, b: Schema, resolve: Resolve, depth: number): boolean {
  const required = (s: Schema): string[] => (Array.isArray(s.required) ? s.required.map(String) : [])
  const named = (s: Schema): Schema => (isSchema(s.properties) ? s.properties : {})
  const forbids = (s: Schema, name: string): boolean =>
    s.additionalProperties === false && s.patternProperties === undefined && !Object.hasOwn(named(s), name)
  if (required(a).some(name => forbids(b, name)) || required(b).some(name => forbids(a, name))) return true
  return [...required(a), ...required(b)].some(
    name =>
      Object.hasOwn(named(a), name) &&
      Object.hasOwn(named(b), name) &&
      apart(named(a)[name], named(b)[name], resolve, depth + 1)
  )
}

/** All numbers of the first lie above those of the second. */
function above(a: Schema, b: Schema): boolean {
  const low = (s: Schema): number => Math.max(Number(s.minimum ?? -Infinity), Number(s.exclusiveMinimum ?? -Infinity))
  const high = (s: Schema): number => Math.min(Number(s.maximum ?? Infinity), Number(s.exclusiveMaximum ?? Infinity))
  if (low(a) > high(b)) return true
  return low(a) === high(b) && (Number(a.exclusiveMinimum) === low(a) || Number(b.exclusiveMaximum) === high(b))
}
