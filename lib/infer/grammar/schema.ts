/**
 * JSON Schema (2020-12 and what older drafts share with it) as an automaton: every text of it is valid. Where a schema allows more than
 * can be said (objects without `additionalProperties` are taken as closed, numbers have bounded digits), less is generated, never
 * anything invalid. `oneOf` is taken as `anyOf`. Properties come in the order in which the schema has them. Source: inference.md 9.
 */
import { type Automaton, type Part, type Rule, unfit } from './automaton.ts'
import { charsOf, except, intersect, PLAIN } from './chars.ts'
import { Json } from './json.ts'
import { type Bounds, decimal, integer } from './numbers.ts'
import { type CharNfa, parseRegex } from './regex.ts'
import { asSchema, isSchema, listOf, merge, type Schema, typesOf } from './schema-merge.ts'

/** A schema as JSON. */
export const MAX_SCHEMA_BYTES = 64 * 1024
/** Schemas within a schema, references followed. */
export const MAX_RULES = 10_000
/** Schemas within each other that are written out. */
export const MAX_SCHEMA_DEPTH = 64
/** Longest string where the schema counts characters and allows longer ones. */
export const MAX_COUNTED_CHARS = 4_096
/** Longest list where the schema counts elements and allows longer ones. */
export const MAX_COUNTED_ELEMENTS = 1_024

const KNOWN = new Set([
  ...['type', 'properties', 'required', 'additionalProperties', 'items', 'prefixItems', 'minItems', 'maxItems'],
  ...['enum', 'const', 'anyOf', 'oneOf', 'allOf', '$ref', '$defs', 'definitions', 'minLength', 'maxLength', 'pattern'],
  ...['format', 'minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum']
])
/** These say nothing about which values are valid. */
const NOTES = new Set([
  ...[
    'title',
    'description',
    'default',
    'examples',
    'deprecated',
    'readOnly',
    'writeOnly',
    '$schema',
    '$id',
    '$comment'
  ],
  ...['$anchor', 'contentEncoding', 'contentMediaType', 'strict', 'name']
])

/** Characters of a property's name where others are allowed beside it. */
const MAX_NAME = 256

const DAY = '((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))'
const TIME = '([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)'
const BYTE = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const LABEL = '[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?'
const FORMATS: Record<string, string> = {
  date: `[12]\\d{3}-${DAY}`,
  time: TIME,
  'date-time': `[12]\\d{3}-${DAY}T${TIME}`,
  duration: 'P(\\d{1,4}D(T\\d{1,4}[HMS])?|T\\d{1,4}[HMS]|\\d{1,4}[YMW])',
  uuid: '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}',
  email: `[a-z0-9]+([._+-][a-z0-9]+)*@(${LABEL}\\.)+[a-z]{2,10}`,
  hostname: `(${LABEL}\\.)*${LABEL}`,
  ipv4: `${BYTE}(\\.${BYTE}){3}`,
  ipv6: '([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}',
  uri: `[a-z][a-z0-9+.-]{1,15}://${LABEL}(\\.${LABEL})*(:\\d{1,4})?(/[A-Za-z0-9._~-]{0,64})*(\\?[A-Za-z0-9._~=&-]{0,64})?`
}

export interface SchemaOptions {
  /** A keyword that is not supported is refused; else it is reported and ignored. */
  strict: boolean
}

export class SchemaCompiler {
  /** Keywords that are ignored, as far as was looked. */
  readonly ignored = new Set<string>()
  readonly #a: Automaton
  readonly #json: Json
  readonly #root: Schema
  readonly #strict: boolean
  readonly #rules = new Map<Schema, Rule>()
  readonly #refs = new Map<string, Schema>()
  #depth = 0
  #work = 0

  /** @throws {ZgError} ERR_BAD_INPUT when the schema is no schema or larger than {@link MAX_SCHEMA_BYTES}. */
  constructor(a: Automaton, schema: unknown, o: SchemaOptions) {
    this.#a = a
    this.#json = new Json(a)
    this.#strict = o.strict
    this.#root = asSchema(schema, 'root')
    if (Buffer.byteLength(JSON.stringify(schema)) > MAX_SCHEMA_BYTES) {
      throw unfit(`the schema has more than ${MAX_SCHEMA_BYTES} bytes`)
    }
  }

  /** @throws {ZgError} ERR_BAD_INPUT for what is malformed, unsupported, contradictory or beyond a bound. */
  all(): Part {
    return this.#value(this.#root)
  }

  /** A rule for each schema, so that recursion is a rule that runs itself. */
  #value(schema: Schema): Part {
    let rule = this.#rules.get(schema)
    if (rule === undefined) {
      if (this.#rules.size >= MAX_RULES) throw unfit(`the schema has more than ${MAX_RULES} parts`)
      if (++this.#depth > MAX_SCHEMA_DEPTH) throw unfit(`the schema is nested deeper than ${MAX_SCHEMA_DEPTH}`)
      rule = this.#a.node()
      this.#rules.set(schema, rule)
      this.#a.end(this.#make(this.#flat(schema, 0))(rule))
      this.#depth--
    }
    return this.#a.call(rule)
  }

  #sub(value: unknown, where: string): Part {
    return this.#value(asSchema(value, where))
  }

  /** References and `allOf` taken in; a lone reference stays, so that recursion is found again. */
  #flat(schema: Schema, depth: number): Schema {
    if (depth > MAX_SCHEMA_DEPTH) throw unfit('the schema refers to itself without end')
    if (++this.#work > 10 * MAX_RULES) throw unfit('the schema takes too much to work out')
    this.#checkKeys(schema)
    let out = schema
    if (
      typeof out.$ref === 'string' &&
      Object.keys(out).some(key => key !== '$ref' && !NOTES.has(key) && !DEFINITIONS.has(key))
    ) {
      const { $ref, ...rest } = out
      out = merge(this.#whole(this.#resolve($ref), depth + 1), rest)
    }
    if (out.allOf === undefined) return out
    const { allOf, ...rest } = out
    const joined = listOf(allOf, 'allOf').reduce<Schema>(
      (all, part) => merge(all, this.#whole(asSchema(part, 'allOf'), depth + 1)),
      rest
    )
    return this.#flat(joined, depth + 1)
  }

  /** The same without a reference at its head. */
  #whole(schema: Schema, depth: number): Schema {
    const flat = this.#flat(schema, depth)
    return typeof flat.$ref === 'string' ? this.#whole(this.#resolve(flat.$ref), depth + 1) : flat
  }

  #checkKeys(schema: Schema): void {
    for (const key of Object.keys(schema)) {
      if (schema[key] === undefined || KNOWN.has(key) || NOTES.has(key)) continue
      if (this.#strict) throw unfit(`the schema's keyword '${key.slice(0, 64)}' is not supported`)
      if (this.ignored.size < 32) this.ignored.add(key.slice(0, 64))
    }
  }

  #resolve(ref: string): Schema {
    const known = this.#refs.get(ref)
    if (known !== undefined) return known
    if (ref !== '#' && !ref.startsWith('#/'))
      throw unfit(`the schema refers to '${ref.slice(0, 100)}' outside of itself`)
    let at: unknown = this.#root
    for (const part of ref.split('/').slice(1)) {
      const key = decode(part).replaceAll('~1', '/').replaceAll('~0', '~')
      if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key))
        throw unfit(`the schema lacks '${ref.slice(0, 100)}'`)
      at = (at as Record<string, unknown>)[key]
    }
    const schema = asSchema(at, ref.slice(0, 100))
    this.#refs.set(ref, schema)
    return schema
  }

  #make(schema: Schema): Part {
    if (typeof schema.$ref === 'string') return this.#value(this.#resolve(schema.$ref))
    if (schema.const !== undefined) return this.#literals([schema.const], schema)
    if (schema.enum !== undefined) return this.#literals(listOf(schema.enum, 'enum'), schema)
    for (const key of ['anyOf', 'oneOf']) {
      if (schema[key] === undefined) continue
      const { [key]: list, ...rest } = schema
      const bare = Object.keys(rest).every(k => NOTES.has(k) || DEFINITIONS.has(k))
      const parts = listOf(list, key)
      if (parts.length === 0) throw unfit(`the schema's ${key} is empty`)
      return this.#a.any(...this.#alternatives(parts, key, bare ? undefined : rest))
    }
    const types = typesOf(schema) ?? inferred(schema)
    if (types === undefined) return this.#json.value
    // An integer is a number.
    const distinct = types.filter(t => !(t === 'integer' && types.includes('number')))
    return this.#a.any(...distinct.map(type => this.#ofType(type, schema)))
  }

  /** Alternatives that contradict the rest are left out; one at least must be left. */
  #alternatives(parts: unknown[], key: string, rest: Schema | undefined): Part[] {
    const out: Part[] = []
    let failure: unknown
    for (const part of parts) {
      const one = asSchema(part, key)
      if (rest === undefined) {
        out.push(this.#value(one))
        continue
      }
      try {
        out.push(this.#value(merge(rest, this.#whole(one, 1))))
      } catch (err) {
        failure = err
      }
    }
    if (out.length === 0) throw failure
    return out
  }

  #literals(values: unknown[], schema: Schema): Part {
    const fitting = values.filter(v => fits(v, schema))
    if (fitting.length === 0) throw unfit("the schema's enum or const has no value that its other keywords allow")
    return this.#a.any(...fitting.map(v => this.#a.text(JSON.stringify(v))))
  }

  #ofType(type: string, schema: Schema): Part {
    switch (type) {
      case 'object':
        return this.#object(schema)
      case 'array':
        return this.#array(schema)
      case 'string':
        return this.#string(schema)
      case 'integer':
        return integer(this.#a, bounds(schema))
      case 'number':
        return decimal(this.#a, bounds(schema))
      case 'boolean':
        return this.#a.any(this.#a.text('true'), this.#a.text('false'))
      default:
        return this.#a.text('null')
    }
  }

  #object(schema: Schema): Part {
    const a = this.#a
    const named = schema.properties === undefined ? {} : schema.properties
    if (!isSchema(named)) throw unfit("the schema's properties are no object")
    const required = new Set<string>()
    for (const name of schema.required === undefined ? [] : listOf(schema.required, 'required')) {
      if (typeof name !== 'string') throw unfit("the schema's required has something that is no name")
      required.add(name)
    }
    const extra = schema.additionalProperties
    const open = extra === undefined ? Object.keys(named).length === 0 && required.size === 0 : extra !== false
    const more = open ? asSchema(extra ?? true, 'additionalProperties') : undefined
    const members = new Map(Object.entries(named))
    for (const name of required) {
      if (members.has(name)) continue
      if (extra === false) throw unfit(`the schema requires '${name.slice(0, 64)}' and forbids it`)
      members.set(name, extra ?? true)
    }
    const parts = [...members].map(([name, value]) => ({
      optional: !required.has(name),
      part: a.seq(a.text(JSON.stringify(name)), this.#json.colon, this.#sub(value, `property '${name.slice(0, 64)}'`))
    }))
    return from => {
      const { space } = this.#json
      // Two rows of nodes: nothing was written yet, something was.
      let none: number | undefined = a.text('{')(from)
      let some: number | undefined
      const write = (part: Part): number => {
        const to = a.node()
        if (none !== undefined) a.empty(a.seq(space, part)(none), to)
        if (some !== undefined) a.empty(a.seq(a.text(','), space, part)(some), to)
        return to
      }
      for (const { optional, part } of parts) {
        const to = write(part)
        if (optional && some !== undefined) a.empty(some, to)
        if (!optional) none = undefined
        some = to
      }
      if (more !== undefined) {
        const member = a.seq(this.#otherName([...members.keys()]), this.#json.colon, this.#value(more))
        const loop = write(member)
        if (some !== undefined) a.empty(some, loop)
        a.empty(a.seq(a.text(','), space, member)(loop), loop)
        some = loop
      }
      const to = a.node()
      if (none !== undefined) a.empty(none, to)
      if (some !== undefined) a.empty(space(some), to)
      return a.text('}')(to)
    }
  }

  /** A name that is none of some; escapes are left out, since they spell the same names in other ways. */
  #otherName(names: string[]): Part {
    const a = this.#a
    if (names.some(name => name.length > MAX_NAME))
      throw unfit(`the schema has a name of more than ${MAX_NAME} characters`)
    return start => {
      const open = a.text('"')(start)
      const body = a.node()
      a.chars(body, PLAIN, body)
      const to = a.node()
      a.bytes(body, 0x22, 0x22, to)
      const branch = (from: number, rests: string[][]): void => {
        const byFirst = new Map<string, string[][]>()
        for (const [first, ...rest] of rests) {
          if (first === undefined) continue
          byFirst.set(first, [...(byFirst.get(first) ?? []), rest])
        }
        const other = except(PLAIN, charsOf([...byFirst.keys()].join('')))
        if (other.length > 0) a.chars(from, other, body)
        for (const [first, tails] of byFirst) {
          if (intersect(charsOf(first), PLAIN).length === 0) continue
          const next = a.node()
          a.chars(from, charsOf(first), next)
          branch(next, tails)
        }
        if (!rests.some(r => r.length === 0)) a.bytes(from, 0x22, 0x22, to)
      }
      branch(
        open,
        names.map(name => [...name])
      )
      return to
    }
  }

  #array(schema: Schema): Part {
    const a = this.#a
    const min = count(schema, 'minItems') ?? 0
    const asked = count(schema, 'maxItems') ?? Number.POSITIVE_INFINITY
    if (asked < min) throw unfit('the schema asks for more elements than it allows')
    if (min > MAX_COUNTED_ELEMENTS) throw unfit(`the schema asks for more than ${MAX_COUNTED_ELEMENTS} elements`)
    const first = schema.prefixItems === undefined ? [] : listOf(schema.prefixItems, 'prefixItems')
    let max = asked === Number.POSITIVE_INFINITY ? asked : Math.min(asked, Math.max(min, MAX_COUNTED_ELEMENTS))
    let items = schema.items
    if (Array.isArray(items)) throw unfit("the schema's items is a list: use prefixItems")
    if (items === false || (items === undefined && first.length > 0 && min <= first.length)) {
      max = Math.min(max, first.length)
      if (max < min) throw unfit('the schema asks for more elements than it describes')
    }
    items ??= true
    const member = (i: number): Part => this.#sub(i < first.length ? first[i] : items, 'items')
    return from => {
      const { space } = this.#json
      const to = a.node()
      let at = a.text('[')(from)
      if (min === 0) a.empty(at, to)
      const fixed = Math.max(min, Math.min(first.length, max), max === Number.POSITIVE_INFINITY ? 0 : max)
      for (let i = 0; i < fixed; i++) {
        at = a.seq(i === 0 ? space : a.seq(a.text(','), space), member(i))(at)
        if (i + 1 >= min) a.empty(space(at), to)
      }
      if (max === Number.POSITIVE_INFINITY) {
        const more = a.seq(a.text(','), space, member(fixed))
        if (fixed === 0) at = a.seq(space, member(0))(at)
        a.empty(space(a.many(more)(at)), to)
      }
      return a.text(']')(to)
    }
  }

  #string(schema: Schema): Part {
    const min = count(schema, 'minLength') ?? 0
    const asked = count(schema, 'maxLength') ?? Number.POSITIVE_INFINITY
    if (asked < min) throw unfit('the schema asks for a longer string than it allows')
    if (min > MAX_COUNTED_CHARS) throw unfit(`the schema asks for more than ${MAX_COUNTED_CHARS} characters`)
    const max = asked === Number.POSITIVE_INFINITY ? asked : Math.min(asked, Math.max(min, MAX_COUNTED_CHARS))
    const nfa = this.#pattern(schema)
    if (nfa !== undefined) return this.#json.matching(nfa, min, max)
    const { a, char } = this.#json
    if (min === 0 && max === Number.POSITIVE_INFINITY) return this.#json.string
    return a.seq(a.text('"'), a.times(char, min, max), a.text('"'))
  }

  #pattern(schema: Schema): CharNfa | undefined {
    const { pattern, format } = schema
    if (pattern !== undefined) {
      if (typeof pattern !== 'string') throw unfit("the schema's pattern is no string")
      if (format !== undefined && this.#strict) throw unfit('the schema has a pattern and a format for one string')
      return parseRegex(pattern, true)
    }
    if (format === undefined) return undefined
    if (typeof format !== 'string') throw unfit("the schema's format is no string")
    const known = Object.hasOwn(FORMATS, format) ? FORMATS[format] : undefined
    if (known === undefined) {
      if (this.#strict) throw unfit(`the schema's format '${format.slice(0, 64)}' is not supported`)
      this.ignored.add(`format ${format.slice(0, 64)}`)
      return undefined
    }
    return parseRegex(known, false)
  }
}

const DEFINITIONS = new Set(['$defs', 'definitions'])

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/** The type that keywords speak of, where there is none. */
function inferred(schema: Schema): string[] | undefined {
  const has = (...keys: string[]): boolean => keys.some(key => schema[key] !== undefined)
  if (has('properties', 'required', 'additionalProperties')) return ['object']
  if (has('items', 'prefixItems', 'minItems', 'maxItems')) return ['array']
  if (has('pattern', 'format', 'minLength', 'maxLength')) return ['string']
  if (has('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum')) return ['number']
  return undefined
}

function count(schema: Schema, key: string): number | undefined {
  const value = schema[key]
  if (value === undefined) return undefined
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw unfit(`the schema's ${key} is no count`)
  return value
}

function bounds(schema: Schema): Bounds {
  const of = (key: string): number | undefined => {
    const value = schema[key]
    if (value === undefined) return undefined
    if (typeof value !== 'number' || !Number.isFinite(value) || Math.abs(value) > 1e18) {
      throw unfit(`the schema's ${key} is no number up to 1e18`)
    }
    return value
  }
  const [min, above, max, below] = [of('minimum'), of('exclusiveMinimum'), of('maximum'), of('exclusiveMaximum')]
  const exclusiveMin = above !== undefined && (min === undefined || above >= min)
  const exclusiveMax = below !== undefined && (max === undefined || below <= max)
  return { min: exclusiveMin ? above : min, max: exclusiveMax ? below : max, exclusiveMin, exclusiveMax }
}

/** Whether a value of an enum meets the plain keywords beside it. */
function fits(value: unknown, schema: Schema): boolean {
  const types = typesOf(schema)
  const type = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value
  const whole = typeof value === 'number' && Number.isInteger(value)
  if (types !== undefined && !types.some(t => t === type || (t === 'integer' && whole))) return false
  if (schema.enum !== undefined && !listOf(schema.enum, 'enum').some(v => JSON.stringify(v) === JSON.stringify(value)))
    return false
  if (typeof value === 'number') {
    const { min, max, exclusiveMin, exclusiveMax } = bounds(schema)
    if (min !== undefined && (exclusiveMin === true ? value <= min : value < min)) return false
    if (max !== undefined && (exclusiveMax === true ? value >= max : value > max)) return false
  }
  if (typeof value === 'string') {
    const length = [...value].length
    if (length < (count(schema, 'minLength') ?? 0) || length > (count(schema, 'maxLength') ?? length)) return false
  }
  return true
}
