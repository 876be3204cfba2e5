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
  for (const key of ['anyOf', 'oneOf'] as const) {
    if (Array.isArray(s[key]) && !s[key].some(x => sub(value, x, at) === undefined)) return `${at}: no ${key} fits`
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
      const wrong = Object.hasOwn(named, name)
        ? sub(v, named[name], `${at}.${name}`)
        : s.additionalProperties === undefined
          ? undefined
          : sub(v, s.additionalProperties, `${at}.${name}`)
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
  const deep = ['object', 'object', 'object', 'array', 'array', 'anyOf', 'allOf', 'tuple', 'map']
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
      return { [random() < 0.7 ? 'anyOf' : 'oneOf']: [child(), child()] }
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
