/**
 * A validator and a generator of JSON Schemas for tests of constrained answers. It shares nothing with lib/infer/grammar: values are
 * parsed by JSON.parse and judged by the keywords' definitions (JSON Schema 2020-12), patterns by RegExp.
 */

export type Schema = Record<string, unknown> | boolean

const FORMATS: Record<string, (s: string) => boolean> = {
  date: s => /^\d{4}-\d\d-\d\d$/.test(s) && new Date(`${s}T00:00:00Z`).toISOString().startsWith(s),
  'date-time': s =>
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(s) &&
    !Number.isNaN(Date.parse(s)) &&
    FORMATS.date!(s.slice(0, 10)),
  uuid: s => /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/.test(s),
  email: s => /^[^\s@]+@[^\s@.]+(\.[^\s@.]+)+$/.test(s),
  ipv4: s =>
    s.split('.').length === 4 && s.split('.').every(p => /^\d+$/.test(p) && String(Number(p)) === p && Number(p) < 256),
  uri: s => URL.canParse(s)
}

/** Why a value is not valid; undefined when it is. */
export function fault(value: unknown, schema: Schema, root: Schema = schema, at = '$'): string | undefined {
  if (schema === true) return undefined
  if (schema === false) return `${at}: nothing is allowed`
  const s = schema
  const sub = (v: unknown, x: unknown, where: string): string | undefined => fault(v, x as Schema, root, where)
  if (typeof s.$ref === 'string') {
    let target: unknown = root
    for (const part of s.$ref.split('/').slice(1)) target = (target as Record<string, unknown>)[part]
    const wrong = sub(value, target, at)
    if (wrong !== undefined) return wrong
  }
  if (s.type !== undefined) {
    const types = Array.isArray(s.type) ? s.type : [s.type]
    const is = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value
    const fits = types.some(t => t === is || (t === 'integer' && is === 'number' && Number.isInteger(value)))
    if (!fits) return `${at}: ${is} is not ${types.join(' or ')}`
  }
  const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)
  if (s.const !== undefined && !same(value, s.const)) return `${at}: not the constant`
  if (Array.isArray(s.enum) && !s.enum.some(e => same(e, value))) return `${at}: none of the enum`
  if (Array.isArray(s.anyOf) && !s.anyOf.some(x => sub(value, x, at) === undefined)) return `${at}: no anyOf fits`
  if (Array.isArray(s.oneOf)) {
    const count = s.oneOf.filter(x => sub(value, x, at) === undefined).length
    if (count !== 1) return `${at}: ${count} of oneOf fit`
  }
  if (s.not !== undefined && sub(value, s.not, at) === undefined) return `${at}: what not forbids`
  if (s.if !== undefined) {
    const [key, then] = sub(value, s.if, at) === undefined ? (['then', s.then] as const) : (['else', s.else] as const)
    const wrong = then === undefined ? undefined : sub(value, then, at)
    if (wrong !== undefined) return `${key}: ${wrong}`
  }
  for (const x of Array.isArray(s.allOf) ? s.allOf : []) {
    const wrong = sub(value, x, at)
    if (wrong !== undefined) return wrong
  }
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) return `${at}: not finite`
    if (typeof s.minimum === 'number' && value < s.minimum) return `${at}: ${value} below ${s.minimum}`
    if (typeof s.maximum === 'number' && value > s.maximum) return `${at}: ${value} above ${s.maximum}`
    if (typeof s.exclusiveMinimum === 'number' && value <= s.exclusiveMinimum)
      return `${at}: ${value} not above ${s.exclusiveMinimum}`
    if (typeof s.exclusiveMaximum === 'number' && value >= s.exclusiveMaximum)
      return `${at}: ${value} not below ${s.exclusiveMaximum}`
    if (typeof s.multipleOf === 'number') {
      // Steps of the tests are whole or tenths to thousandths.
      const times = (value * 1000) / (s.multipleOf * 1000)
      if (Math.abs(times - Math.round(times)) > 1e-9 * Math.max(1, Math.abs(times)))
        return `${at}: ${value} is no multiple of ${s.multipleOf}`
      if (Number.isInteger(s.multipleOf) && value % s.multipleOf !== 0) return `${at}: ${value} % ${s.multipleOf}`
    }
  }
  if (typeof value === 'string') {
    const length = [...value].length
    if (typeof s.minLength === 'number' && length < s.minLength)
      return `${at}: ${length} characters, fewer than ${s.minLength}`
    if (typeof s.maxLength === 'number' && length > s.maxLength)
      return `${at}: ${length} characters, more than ${s.maxLength}`
    if (typeof s.pattern === 'string' && !new RegExp(s.pattern, 'u').test(value))
      return `${at}: does not match ${s.pattern}`
    if (typeof s.format === 'string' && FORMATS[s.format] !== undefined && !FORMATS[s.format]!(value))
      return `${at}: no ${s.format}: ${value}`
  }
  if (Array.isArray(value)) {
    if (typeof s.minItems === 'number' && value.length < s.minItems) return `${at}: too few elements`
    if (typeof s.maxItems === 'number' && value.length > s.maxItems) return `${at}: too many elements`
    if (s.uniqueItems === true && new Set(value.map(v => JSON.stringify(v))).size !== value.length)
      return `${at}: an element twice`
    const first = Array.isArray(s.prefixItems) ? s.prefixItems : []
    for (const [i, item] of value.entries()) {
      const wrong =
        i < first.length
          ? sub(item, first[i], `${at}[${i}]`)
          : s.items === undefined
            ? undefined
            : sub(item, s.items, `${at}[${i}]`)
      if (wrong !== undefined) return wrong
    }
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const object = value as Record<string, unknown>
    const named = (s.properties ?? {}) as Record<string, unknown>
    for (const name of Array.isArray(s.required) ? s.required : []) {
      if (!Object.hasOwn(object, name)) return `${at}: lacks ${name}`
    }
    for (const [name, v] of Object.entries(object)) {
      const patterns = Object.entries((s.patternProperties ?? {}) as Record<string, unknown>)
      const own = patterns.filter(([p]) => new RegExp(p, 'u').test(name)).map(([, x]) => x)
      if (Object.hasOwn(named, name)) own.push(named[name])
      if (own.length === 0 && s.additionalProperties !== undefined) own.push(s.additionalProperties)
      const wrong = own.map(x => sub(v, x, `${at}.${name}`)).find(w => w !== undefined)
      if (wrong !== undefined) return wrong
    }
  }
  return undefined
}

/** Numbers from 0 to 1 that a seed gives (mulberry32). */
export function randomOf(seed: number): () => number {
  let a = seed >>> 0
  return () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** A literal name would make the schema look like a promise. */
const MET = 'then'
const NAMES = ['a', 'id', 'name', 'größe', 'with space', 'q"uote', 'x\\y', 'tags', 'n', 'value', '日本', 'zz']
const PATTERNS = [
  '^[a-z]{2,5}$',
  '^(foo|ba[rz])+$',
  'x',
  '^\\d{3}-\\d{2}$',
  '^[^a-c"]{1,4}$',
  'end$',
  '^\\w+(\\.\\w+)*$',
  '^[A-Z]\\S{0,3}$'
]

/** A random schema of the keywords that are supported, at most so deep. */
export function randomSchema(random: () => number, depth: number): Record<string, unknown> {
  const root = make(random, depth)
  if (random() < 0.1) {
    const node = {
      type: 'object',
      properties: { value: make(random, 0), next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
      required: ['value', 'next'],
      additionalProperties: false
    }
    return {
      $defs: { node },
      type: 'object',
      properties: { list: { $ref: '#/$defs/node' }, more: root },
      required: ['list'],
      additionalProperties: false
    }
  }
  return root
}

function make(random: () => number, depth: number): Record<string, unknown> {
  const int = (most: number): number => Math.floor(random() * (most + 1))
  const pick = <T>(list: readonly T[]): T => list[int(list.length - 1)]!
  const kinds = ['string', 'string', 'integer', 'number', 'boolean', 'null', 'enum', 'const', 'types']
  kinds.push('multiple', 'unique', 'not')
  const deep = ['object', 'object', 'object', 'array', 'array', 'anyOf', 'allOf', 'tuple', 'map']
  deep.push('oneOf', 'oneOf', 'if', 'patterns')
  const kind = depth > 0 && random() < 0.7 ? pick(deep) : pick(kinds)
  const child = (): Record<string, unknown> => make(random, depth - 1)
  switch (kind) {
    case 'string': {
      const way = int(4)
      if (way === 0) return { type: 'string', format: pick(Object.keys(FORMATS)) }
      if (way === 1) return { type: 'string', pattern: pick(PATTERNS) }
      const min = int(4)
      return way === 2 ? { type: 'string', minLength: min, maxLength: min + int(12) } : { type: 'string' }
    }
    case 'integer':
    case 'number': {
      const low = kind === 'integer' ? int(2000) - 1000 : Math.round((random() * 200 - 100) * 100) / 100
      const out: Record<string, unknown> = { type: kind }
      if (random() < 0.6) out[random() < 0.5 ? 'minimum' : 'exclusiveMinimum'] = low
      if (random() < 0.6) out[random() < 0.5 ? 'maximum' : 'exclusiveMaximum'] = low + 2 + int(500)
      return out
    }
    case 'enum':
      return { enum: [pick(NAMES), int(99), null, true, 'ünï "q"', { a: [1] }].slice(int(3), 4 + int(2)) }
    case 'const':
      return { const: pick([pick(NAMES), int(99), [1, 'b'], 1.5]) }
    case 'types':
      return { type: ['string', 'null', 'integer'].slice(0, 2 + int(1)) }
    case 'array': {
      const min = int(2)
      return { type: 'array', items: child(), minItems: min, ...(random() < 0.7 ? { maxItems: min + int(3) } : {}) }
    }
    case 'tuple':
      return {
        type: 'array',
        prefixItems: [child(), child()],
        items: random() < 0.5 ? false : child(),
        minItems: int(2),
        maxItems: 4
      }
    case 'anyOf':
      return { anyOf: [child(), child()] }
    case 'oneOf': {
      const way = int(3)
      if (way === 0) return { oneOf: [{ type: 'string', maxLength: 6 }, { type: 'integer', minimum: 5 }, { const: 4 }] }
      if (way === 1) return { oneOf: [{ enum: ['a', 'b', 1] }, { enum: ['c', 'd'] }, { type: 'number', minimum: 2 }] }
      const tagged = (tag: string): Record<string, unknown> => ({
        type: 'object',
        properties: { kind: random() < 0.5 ? { const: tag } : { enum: [tag, `${tag}2`] }, body: child() },
        required: ['kind', ...(random() < 0.5 ? ['body'] : [])],
        ...(random() < 0.5 ? { additionalProperties: false } : {})
      })
      return way === 2
        ? { oneOf: [tagged('x'), tagged('y'), tagged('z')] }
        : { oneOf: [{ type: 'null' }, { type: 'array', items: child(), maxItems: 2 }, { type: 'boolean' }] }
    }
    case 'if': {
      const values = pick([{ const: 'a' }, { enum: ['a', 'b'] }, { const: 1 }, { const: true }])
      const kind = pick([{ enum: ['a', 'b', 'c', 1, 2, true] }, { type: 'string' }, { type: ['boolean', 'null'] }, {}])
      const given = Object.keys(kind).length > 0 ? { kind } : {}
      const out: Record<string, unknown> = {
        type: 'object',
        properties: { ...given, more: make(random, 0) },
        required: random() < 0.5 ? ['kind'] : [],
        if: { properties: { kind: values }, ...(random() < 0.5 ? { required: ['kind'] } : {}) }
      }
      if (random() < 0.8) out[MET] = { properties: { first: child() }, required: ['first'] }
      if (random() < 0.8)
        out.else = { properties: { other: make(random, 0) }, required: random() < 0.5 ? ['other'] : [] }
      return out
    }
    case 'patterns': {
      const list = { '^x-[a-z]{1,4}$': child(), '^n\\d+$': { type: 'integer', minimum: 0, maximum: 9 } }
      const named = random() < 0.5 ? { n1: { maximum: 5 }, id: make(random, 0) } : {}
      return {
        type: 'object',
        properties: named,
        patternProperties: list,
        required: random() < 0.5 ? ['n7'] : [],
        ...(random() < 0.7 ? { additionalProperties: false } : {})
      }
    }
    case 'multiple': {
      const low = int(2000) - 1000
      const step = pick([2, 3, 5, 7, 10, 12, 100, 256, 1000, 4096, 123457, 0.5, 0.25, 0.1, 1.5])
      const out: Record<string, unknown> = { type: random() < 0.5 ? 'integer' : 'number', multipleOf: step }
      if (random() < 0.5) out[random() < 0.5 ? 'minimum' : 'exclusiveMinimum'] = low
      if (random() < 0.5) out[random() < 0.5 ? 'maximum' : 'exclusiveMaximum'] = low + 300_000
      return out
    }
    case 'unique': {
      const list = ['a', 'b', 'c', 'd', 1, 2, null, true, 'größe', 'e'].slice(0, 3 + int(7))
      const min = int(2)
      return {
        type: 'array',
        items: { enum: list },
        uniqueItems: true,
        minItems: min,
        ...(random() < 0.5 ? { maxItems: min + 2 } : {})
      }
    }
    case 'not':
      return pick([
        { type: 'string', not: { enum: ['a', 'ab', 'abc', ''] } },
        { not: { type: ['object', 'array', 'number'] } },
        { type: 'integer', minimum: -3, maximum: 9, not: { enum: [0, 5, -3] } },
        { enum: ['a', 1, null, [2]], not: { type: ['string', 'array'] } },
        { type: ['boolean', 'null'], not: { const: true } },
        { allOf: [{ type: 'string' }, { not: { const: 'x' } }, { not: { enum: ['y', 'xy'] } }] }
      ])
    case 'allOf': {
      const one = make(random, 0)
      return {
        allOf: [
          { type: 'object', properties: { first: one }, required: ['first'] },
          { type: 'object', properties: { second: child() }, required: random() < 0.5 ? ['second'] : [] }
        ]
      }
    }
    case 'map':
      return {
        type: 'object',
        properties: { id: make(random, 0) },
        additionalProperties: child(),
        required: random() < 0.5 ? ['id'] : []
      }
    default: {
      const names = [...new Set(Array.from({ length: 1 + int(4) }, () => pick(NAMES)))]
      const out: Record<string, unknown> = {
        type: 'object',
        properties: Object.fromEntries(names.map(n => [n, child()])),
        required: names.filter(() => random() < 0.6)
      }
      if (random() < 0.7) out.additionalProperties = false
      return out
    }
  }
}
