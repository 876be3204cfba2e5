/**
 * JSON Schema (2020-12 and what older drafts share with it) as an automaton: every text of it is valid. Where a schema allows more than
 * can be said (objects without `additionalProperties` are taken as closed, numbers have bounded digits), less is generated, never
 * anything invalid. What restricts values and cannot be kept to the letter is refused, with its keyword and place. Properties come in
 * the order in which the schema has them. Source: inference.md 9.
 */
import { type Automaton, type Part, type Rule, unfit } from './automaton.ts'
import { charsOf, except, intersect, PLAIN } from './chars.ts'
import { Json } from './json.ts'
import { type Bounds, decimal, integer, multiples } from './numbers.ts'
import { type CharNfa, disjoint, matches, parseRegex } from './regex.ts'
import { apart, canonical, judge, literalsOf, type Resolve } from './schema-judge.ts'
import { merge } from './schema-merge.ts'
import { asSchema, DEFINITIONS, isSchema, listOf, malformed, type Schema, typesOf, within } from './schema-shape.ts'

/** A schema as JSON. */
export const MAX_SCHEMA_BYTES = 64 * 1024
/** Schemas within a schema, references followed. */
export const MAX_RULES = 10_000
/** Schemas within each other that are written out. */
export const MAX_SCHEMA_DEPTH = 64
/** Lists and objects of a schema's JSON within each other. */
export const MAX_SCHEMA_NESTING = 512
/** Longest string where the schema counts characters and allows longer ones. */
export const MAX_COUNTED_CHARS = 4_096
/** Longest list where the schema counts elements and allows longer ones. */
export const MAX_COUNTED_ELEMENTS = 1_024

const KNOWN = new Set([
  ...['type', 'properties', 'required', 'additionalProperties', 'items', 'prefixItems', 'minItems', 'maxItems'],
  ...['enum', 'const', 'anyOf', 'oneOf', 'allOf', '$ref', '$defs', 'definitions', 'minLength', 'maxLength', 'pattern'],
  ...['format', 'minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  ...['multipleOf', 'uniqueItems', 'not', 'if', 'then', 'else', 'patternProperties']
])
/** These restrict values, and nothing here keeps to them: to pass over them would be a wrong answer. */
const REFUSED = new Set([
  ...['contains', 'minContains', 'maxContains', 'minProperties', 'maxProperties', 'propertyNames', 'dependentRequired'],
  ...['dependentSchemas', 'dependencies', 'unevaluatedProperties', 'unevaluatedItems', 'additionalItems'],
  ...['$dynamicRef', '$recursiveRef', 'divisibleBy', 'disallow', 'extends']
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
  /** A keyword that is none of JSON Schema's is refused; else it is reported and ignored. */
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
  /** Where each part of the schema stands, for messages. */
  readonly #places = new Map<unknown, string>()
  readonly #known: Resolve = {
    follow: ref => this.#resolve(ref),
    spend: steps => {
      this.#judged += steps
      if (this.#judged > MAX_JUDGED) throw unfit('the schema takes too much to work out')
    }
  }
  #judged = 0
  #depth = 0
  #work = 0

  /** @throws {ZgError} ERR_BAD_INPUT when the schema is no schema or larger than {@link MAX_SCHEMA_BYTES}. */
  constructor(a: Automaton, schema: unknown, o: SchemaOptions) {
    this.#a = a
    this.#json = new Json(a)
    this.#strict = o.strict
    const walk = (value: unknown, at: string, depth: number): void => {
      // JSON has no such numbers, and would write them as null.
      if (typeof value === 'number' && !Number.isFinite(value))
        throw unfit(`the schema's number at ${at.slice(0, 200)} is too large`)
      if (typeof value !== 'object' || value === null) return
      if (depth > MAX_SCHEMA_NESTING) throw unfit(`the schema nests more than ${MAX_SCHEMA_NESTING} lists and objects`)
      this.#places.set(value, at)
      for (const [key, part] of Object.entries(value)) walk(part, `${at}/${key.slice(0, 64)}`, depth + 1)
    }
    walk(schema, '#', 1)
    if (Buffer.byteLength(JSON.stringify(schema)) > MAX_SCHEMA_BYTES) {
      throw unfit(`the schema has more than ${MAX_SCHEMA_BYTES} bytes`)
    }
    this.#check(schema)
    this.#root = asSchema(schema, 'root')
  }

  /** Every keyword of a schema and of those in it, used or not. */
  #check(part: unknown): void {
    if (!isSchema(part)) return
    const wrong = malformed(part)
    if (wrong !== undefined) this.#refuse(wrong.key, part, wrong.why)
    for (const inner of within(part)) this.#check(inner)
  }

  #refuse(key: string, schema: Schema, why: string): never {
    const at = this.#places.get(schema) ?? this.#places.get(schema[key])
    throw unfit(`the schema's keyword '${key.slice(0, 64)}'${at === undefined ? '' : ` at ${at.slice(0, 200)}`} ${why}`)
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
      try {
        this.#a.end(this.#make(this.#flat(schema, 0))(rule))
      } catch (err) {
        // Whoever asks for it again is refused again.
        this.#rules.delete(schema)
        throw err
      } finally {
        this.#depth--
      }
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
    if (out.if !== undefined || out.then !== undefined || out.else !== undefined) out = this.#conditional(out, schema)
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

  /** `if` over constants of one property as two alternatives: those values with `then`, all others with `else`. */
  #conditional(schema: Schema, source: Schema): Schema {
    const { if: condition, then, else: otherwise, allOf, ...rest } = schema
    if (condition === undefined) return allOf === undefined ? rest : { ...rest, allOf }
    const test = asSchema(condition, 'if')
    const names = isSchema(test.properties) ? Object.keys(test.properties) : []
    const required = test.required === undefined ? [] : listOf(test.required, 'required')
    const [name] = names
    const tested = name === undefined ? undefined : asSchema((test.properties as Schema)[name], 'if')
    const values = tested === undefined ? undefined : literalsOf(tested)
    const plain = Object.keys(test).every(k => k === 'properties' || k === 'required' || k === 'type' || NOTES.has(k))
    const simple = Object.keys(tested ?? {}).every(k => k === 'const' || k === 'enum' || k === 'type' || NOTES.has(k))
    const fits =
      plain && simple && names.length === 1 && required.every(n => n === name) && (test.type ?? 'object') === 'object'
    if (!fits || values === undefined) this.#refuse('if', source, 'is supported for constants of one property alone')
    const property = (value: unknown, needed: boolean): Schema => ({
      type: 'object',
      properties: { [name!]: value },
      ...(needed ? { required: [name] } : {})
    })
    const needed = required.length > 0
    // Where `if` does not require the property, an object without it meets `if`.
    const branches = [
      { allOf: [property(tested, needed), then ?? true] },
      { allOf: [property({ not: { enum: values } }, !needed), otherwise ?? true] }
    ]
    return { ...rest, allOf: [...(allOf === undefined ? [] : listOf(allOf, 'allOf')), { anyOf: branches }] }
  }

  #checkKeys(schema: Schema): void {
    for (const key of Object.keys(schema)) {
      if (schema[key] === undefined || KNOWN.has(key) || NOTES.has(key)) continue
      if (this.#strict || REFUSED.has(key)) this.#refuse(key, schema, 'is not supported')
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
    this.#check(at)
    const schema = asSchema(at, ref.slice(0, 100))
    this.#refs.set(ref, schema)
    return schema
  }

  #make(schema: Schema): Part {
    if (typeof schema.$ref === 'string') return this.#value(this.#resolve(schema.$ref))
    if (schema.not !== undefined && schema.const === undefined && schema.enum === undefined)
      return this.#without(schema)
    if (schema.const !== undefined) return this.#literals([schema.const], schema)
    if (schema.enum !== undefined) return this.#literals(listOf(schema.enum, 'enum'), schema)
    for (const key of ['anyOf', 'oneOf']) {
      if (schema[key] === undefined) continue
      const { [key]: list, ...rest } = schema
      const bare = Object.keys(rest).every(k => NOTES.has(k) || DEFINITIONS.has(k))
      const parts = listOf(list, key)
      if (parts.length === 0) throw unfit(`the schema's ${key} is empty`)
      if (key === 'oneOf') this.#exclusive(parts, schema)
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
    const { format: _format, ...rest } = schema
    const fitting = values.filter(v => judge(v, typeof v === 'string' ? rest : schema, this.#known) === true)
    if (fitting.length === 0) throw unfit("the schema's enum or const has no value that its other keywords allow")
    return this.#a.any(...fitting.map(v => this.#a.text(JSON.stringify(v))))
  }

  /** Two alternatives that share a value would make it invalid. */
  #exclusive(parts: unknown[], schema: Schema): void {
    if (parts.length > MAX_EXCLUSIVE) this.#refuse('oneOf', schema, `has more than ${MAX_EXCLUSIVE} alternatives`)
    const whole = parts.map(part => this.#whole(asSchema(part, 'oneOf'), 1))
    for (const [i, part] of whole.entries()) {
      for (const other of whole.slice(0, i)) {
        if (apart(part, other, this.#known)) continue
        this.#refuse(
          'oneOf',
          schema,
          'has alternatives that a value may meet together: use anyOf, or constants that tell them apart'
        )
      }
    }
  }

  /** Without some types, or without some constants. */
  #without(schema: Schema): Part {
    const { not, ...rest } = schema
    const parts: Schema[] = []
    const gather = (part: unknown): void => {
      const no = this.#whole(asSchema(part, 'not'), 1)
      if (no.anyOf === undefined) parts.push(no)
      else if (Object.keys(no).some(k => k !== 'anyOf' && !NOTES.has(k)))
        this.#refuse('not', schema, 'is supported for types and constants alone')
      else listOf(no.anyOf, 'anyOf').forEach(gather)
    }
    gather(not)
    if (['anyOf', 'oneOf', '$ref'].some(k => rest[k] !== undefined)) {
      this.#refuse('not', schema, 'is not supported beside anyOf, oneOf and $ref')
    }
    let types = typesOf(rest) ?? inferred(rest) ?? ['object', 'array', 'string', 'number', 'boolean', 'null']
    const values: unknown[] = []
    for (const part of parts) {
      const keys = Object.keys(part).filter(k => !NOTES.has(k) && !DEFINITIONS.has(k))
      const literals = part.const !== undefined || part.enum !== undefined ? literalsOf(part) : undefined
      if (literals !== undefined && keys.every(k => k === 'const' || k === 'enum')) values.push(...literals)
      else if (keys.length === 1 && keys[0] === 'type') {
        const gone = typesOf(part)!
        if (gone.includes('integer') && !gone.includes('number') && types.includes('number'))
          this.#refuse('not', schema, 'forbids integers among numbers, which is not supported')
        types = types.filter(t => !gone.includes(t) && !(t === 'integer' && gone.includes('number')))
      } else this.#refuse('not', schema, 'is supported for types and constants alone')
    }
    if (types.length === 0) this.#refuse('not', schema, 'leaves no value')
    return this.#a.any(...types.flatMap(type => this.#ofTypeWithout(type, rest, values, schema)))
  }

  #ofTypeWithout(type: string, rest: Schema, values: unknown[], schema: Schema): Part[] {
    const literals = literalsOf({ type })
    const resolve = this.#known
    if (literals !== undefined) {
      const left = literals.filter(v => values.every(x => x !== v))
      return left.map(v => this.#a.text(String(v)))
    }
    const hit = values.filter(v => judge(v, { type }, resolve) === true)
    if (hit.length === 0) return [this.#ofType(type, rest)]
    if (type === 'string' && !['pattern', 'format', 'minLength', 'maxLength'].some(k => rest[k] !== undefined))
      return [this.#otherName(hit as string[])]
    if (type === 'integer') {
      const { min, max } = bounds(rest)
      if (min !== undefined && max !== undefined && max - min <= MAX_EXCLUDED_RANGE) {
        const all = Array.from({ length: Math.floor(max) - Math.ceil(min) + 1 }, (_, i) => Math.ceil(min) + i)
        return [this.#literals(all, { ...rest, type, not: { enum: hit } })]
      }
    }
    return this.#refuse('not', schema, `forbids values of type ${type} that cannot be left out`)
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
      case 'number': {
        const step = schema.multipleOf
        if (step === undefined) return (type === 'integer' ? integer : decimal)(this.#a, bounds(schema))
        if (Number(step) > 1e12) this.#refuse('multipleOf', schema, 'is larger than 1e12')
        return multiples(this.#a, bounds(schema), Number(step), type === 'integer')
      }
      case 'boolean':
        return this.#a.any(this.#a.text('true'), this.#a.text('false'))
      default:
        return this.#a.text('null')
    }
  }

  #object(schema: Schema): Part {
    const a = this.#a
    const named = (schema.properties ?? {}) as Schema
    const required = new Set((schema.required ?? []) as string[])
    const extra = schema.additionalProperties
    const open = extra === undefined ? Object.keys(named).length === 0 && required.size === 0 : extra !== false
    // Beside patterns no further names are made: they would have to be none of the patterns' own.
    const more =
      open && schema.patternProperties === undefined ? asSchema(extra ?? true, 'additionalProperties') : undefined
    const members = new Map(Object.entries(named))
    const patterns = this.#patterns(schema)
    for (const name of new Set([...members.keys(), ...required])) {
      const own = patterns.flatMap(p => (this.#matches(p.nfa, name) ? [p.schema] : []))
      if (own.length === 0) continue
      members.set(name, { allOf: [...(members.has(name) ? [members.get(name)] : []), ...own] })
    }
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
      // A pattern that allows a name of the schema's own makes none: it might be that one.
      const free = patterns.filter(p => ![...members.keys()].some(name => this.#matches(p.nfa, name)))
      const others = free.map(p =>
        a.seq(
          this.#json.matching(p.nfa, 0, Number.POSITIVE_INFINITY),
          this.#json.colon,
          this.#sub(p.schema, 'patternProperties')
        )
      )
      if (more !== undefined)
        others.push(a.seq(this.#otherName([...members.keys()]), this.#json.colon, this.#value(more)))
      if (others.length > 0) {
        const member = a.any(...others)
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

  #matches(nfa: CharNfa, name: string): boolean {
    this.#known.spend(nfa.size + nfa.edges.length * name.length)
    return matches(nfa, name)
  }

  /** Names by pattern. Two that may mean one name would have to be kept both. */
  #patterns(schema: Schema): { nfa: CharNfa; schema: unknown }[] {
    const list = Object.entries((schema.patternProperties ?? {}) as Schema).map(([p, s]) => ({
      nfa: parseRegex(p, true),
      schema: s
    }))
    for (const [i, x] of list.entries()) {
      for (const y of list.slice(0, i)) {
        this.#known.spend(x.nfa.size + y.nfa.size + 1_000)
        if (!disjoint(x.nfa, y.nfa))
          this.#refuse('patternProperties', schema, 'has two patterns that one name may match')
      }
    }
    return list
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
    let { items } = schema
    if (items === false || (items === undefined && first.length > 0 && min <= first.length)) {
      max = Math.min(max, first.length)
      if (max < min) throw unfit('the schema asks for more elements than it describes')
    }
    items ??= true
    if (schema.uniqueItems === true && max > 1) {
      if (first.length > 0) this.#refuse('uniqueItems', schema, 'is not supported beside prefixItems')
      return this.#unique(schema, this.#whole(asSchema(items, 'items'), 1), min, asked)
    }
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

  /** Lists of different literals: in any order where there are few, else in theirs. */
  #unique(schema: Schema, items: Schema, min: number, max: number): Part {
    const a = this.#a
    const literals = literalsOf(items)
    if (literals === undefined) this.#refuse('uniqueItems', schema, 'is supported for elements of an enum alone')
    const resolve = this.#known
    const valid = literals.filter(v => judge(v, items, resolve) === true)
    const texts = [...new Map(valid.map(v => [canonical(v), JSON.stringify(v)])).values()]
    if (texts.length < min) this.#refuse('uniqueItems', schema, `asks for ${min} different elements of ${texts.length}`)
    const anyOrder = texts.length <= MAX_ANY_ORDER
    if (texts.length > MAX_IN_ORDER)
      this.#refuse('uniqueItems', schema, `has more than ${MAX_IN_ORDER} different elements`)
    return from => {
      const { space } = this.#json
      const to = a.node()
      const states = new Map<number, number>()
      // What was used: a set of bits, or the count and how far the list is.
      const build = (used: number, count: number, next: number): number => {
        const key = anyOrder ? used : count * (texts.length + 1) + next
        const known = states.get(key)
        if (known !== undefined) return known
        const node = a.node()
        states.set(key, node)
        if (count >= min) a.empty(count === 0 ? node : space(node), to)
        for (let i = anyOrder ? 0 : next; count < max && i < texts.length; i++) {
          if (anyOrder && (used & (1 << i)) !== 0) continue
          if (!anyOrder && texts.length - i < min - count) break
          const start = a.seq(...(count === 0 ? [space] : [a.text(','), space]), a.text(texts[i]!))(node)
          a.empty(start, build(used | (1 << i), count + 1, i + 1))
        }
        return node
      }
      a.empty(a.text('[')(from), build(0, 0, 0))
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
    const { pattern, format } = schema as { pattern?: string; format?: string }
    if (pattern !== undefined) {
      if (format !== undefined && this.#strict) throw unfit('the schema has a pattern and a format for one string')
      return parseRegex(pattern, true)
    }
    if (format === undefined) return undefined
    const known = Object.hasOwn(FORMATS, format) ? FORMATS[format] : undefined
    if (known === undefined) {
      if (this.#strict) throw unfit(`the schema's format '${format.slice(0, 64)}' is not supported`)
      this.ignored.add(`format ${format.slice(0, 64)}`)
      return undefined
    }
    return parseRegex(known, false)
  }
}

/** Steps of all judgements about literals and alternatives of one schema. */
const MAX_JUDGED = 2_000_000
/** Elements of a list without repetition: up to so many in any order, up to so many at all. */
const MAX_ANY_ORDER = 6
const MAX_IN_ORDER = 32
/** Alternatives of a `oneOf`: each pair is compared. */
const MAX_EXCLUSIVE = 64
/** Integers of a range that are written out to leave some out. */
const MAX_EXCLUDED_RANGE = 1_024

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
  if (has('properties', 'required', 'additionalProperties', 'patternProperties')) return ['object']
  if (has('items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems')) return ['array']
  if (has('pattern', 'format', 'minLength', 'maxLength')) return ['string']
  if (has('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf')) return ['number']
  return undefined
}

function count(schema: Schema, key: string): number | undefined {
  return schema[key] as number | undefined
}

function bounds(schema: Schema): Bounds {
  const of = (key: string): number | undefined => {
    const value = schema[key] as number | undefined
    if (value !== undefined && Math.abs(value) > 1e18) throw unfit(`the schema's ${key} is no number up to 1e18`)
    return value
  }
  const [min, above, max, below] = [of('minimum'), of('exclusiveMinimum'), of('maximum'), of('exclusiveMaximum')]
  const exclusiveMin = above !== undefined && (min === undefined || above >= min)
  const exclusiveMax = below !== undefined && (max === undefined || below <= max)
  return { min: exclusiveMin ? above : min, max: exclusiveMax ? below : max, exclusiveMin, exclusiveMax }
}
