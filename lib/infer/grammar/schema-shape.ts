/**
 * The shape of a JSON Schema's keywords: a count is a count, a list a list, wherever it stands and whether or not it is used. Source:
 * the meta-schema of JSON Schema 2020-12.
 */
import { unfit } from './automaton.ts'

export type Schema = Record<string, unknown>

export function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A schema that may be `true` or `false` as an object. @throws {ZgError} ERR_BAD_INPUT when it is none. */
export function asSchema(value: unknown, where: string): Schema {
  if (value === true) return {}
  if (value === false) return { enum: [] }
  if (!isSchema(value)) throw unfit(`the schema's ${where} is no schema`)
  const wrong = malformed(value)
  if (wrong !== undefined) throw unfit(`the schema's keyword '${wrong.key}' in its ${where} ${wrong.why}`)
  return value
}

export function listOf(value: unknown, key: string): unknown[] {
  if (!Array.isArray(value)) throw unfit(`the schema's ${key} is no list`)
  return value
}

export function typesOf(schema: Schema): string[] | undefined {
  const { type } = schema
  if (type === undefined) return undefined
  return (Array.isArray(type) ? type : [type]) as string[]
}

/** The first keyword that has no value of its kind. */
export function malformed(schema: Schema): { key: string; why: string } | undefined {
  if (sound.has(schema)) return undefined
  for (const [key, value] of Object.entries(schema)) {
    if (value === undefined) continue
    const why = SHAPES.get(key)?.(value)
    if (why !== undefined) return { key, why }
  }
  sound.add(schema)
  return undefined
}

/** The schemas that stand directly in one. */
export function* within(schema: Schema): Generator<unknown> {
  for (const [key, value] of Object.entries(schema)) {
    if (ONE.has(key)) yield value
    else if (LISTS.has(key)) yield* listOf(value, key)
    else if (NAMED.has(key)) yield* Object.values(value as Schema)
  }
}

/** Two sets of named schemas as one; `__proto__` is a name like others. */
export function joinNamed(x: Schema, y: Schema, both: (x: unknown, y: unknown) => unknown): Schema {
  const added = Object.entries(y).map(([name, value]) => [name, Object.hasOwn(x, name) ? both(x[name], value) : value])
  return Object.fromEntries([...Object.entries(x), ...added])
}

const ONE = new Set(['items', 'additionalProperties', 'not', 'if', 'then', 'else'])
const LISTS = new Set(['prefixItems', 'anyOf', 'oneOf', 'allOf'])
/** Where schemas for `$ref` stand; nothing else is said of them. */
export const DEFINITIONS = new Set(['$defs', 'definitions'])
const NAMED = new Set(['properties', 'patternProperties'])
const TYPES = new Set(['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'])

/** Those that were looked at; they are not changed afterwards. */
const sound = new WeakSet<Schema>()

type Shape = (value: unknown) => string | undefined

const shape =
  (fits: (value: unknown) => boolean, why: string): Shape =>
  value =>
    fits(value) ? undefined : why

const isPart = (value: unknown): boolean => typeof value === 'boolean' || isSchema(value)
const isType = (value: unknown): boolean => typeof value === 'string' && TYPES.has(value)
const isText = (value: unknown): boolean => typeof value === 'string'
const isNumber = (value: unknown): boolean => typeof value === 'number' && Number.isFinite(value)

const limit: Shape = value => {
  if (typeof value === 'boolean') return 'is a boolean: since draft 6 it is the number itself'
  return isNumber(value) ? undefined : 'is no number'
}

const SHAPES = new Map<string, Shape>([
  [
    'type',
    shape(
      value => isType(value) || (Array.isArray(value) && value.length > 0 && value.every(isType)),
      "is none of JSON's types"
    )
  ],
  ['required', shape(value => Array.isArray(value) && value.every(isText), 'is no list of names')],
  ['enum', shape(Array.isArray, 'is no list')],
  ['items', value => (Array.isArray(value) ? 'is a list: use prefixItems' : part(value))],
  ['uniqueItems', shape(value => typeof value === 'boolean', 'is no boolean')],
  ['multipleOf', shape(value => isNumber(value) && Number(value) > 0, 'is no number above 0')],
  ['minimum', shape(isNumber, 'is no number')],
  ['maximum', shape(isNumber, 'is no number')],
  ['exclusiveMinimum', limit],
  ['exclusiveMaximum', limit]
])

const part = shape(isPart, 'is no schema')
for (const key of ONE) if (!SHAPES.has(key)) SHAPES.set(key, part)
for (const key of LISTS)
  SHAPES.set(
    key,
    shape(value => Array.isArray(value) && value.every(isPart), 'is no list of schemas')
  )
for (const key of NAMED)
  SHAPES.set(
    key,
    shape(value => isSchema(value) && Object.values(value).every(isPart), 'is no object of schemas')
  )
for (const key of DEFINITIONS) SHAPES.set(key, shape(isSchema, 'is no object'))
for (const key of ['$ref', 'pattern', 'format']) SHAPES.set(key, shape(isText, 'is no string'))
for (const key of ['minLength', 'maxLength', 'minItems', 'maxItems'])
  SHAPES.set(
    key,
    shape(value => Number.isInteger(value) && (value as number) >= 0, 'is no count')
  )
