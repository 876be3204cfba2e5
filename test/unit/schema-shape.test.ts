/**
 * A JSON Schema's keywords with values that are none of theirs: refused by name wherever they stand, whether or not they are used; and
 * keywords with values of their kind, any beside any: compiled, or refused in words. ZG_SEED repeats a run.
 */
import t from 'tap'
import { ZgError } from '../../lib/base/errors.ts'
import { compileConstraint } from '../../lib/infer/grammar/constraint.ts'
import { MAX_SCHEMA_NESTING } from '../../lib/infer/grammar/schema.ts'
import { randomOf } from '../harness/json-schema.ts'
import { SEED } from '../harness/seed.ts'

/** What a compilation says: undefined when it went well. */
function refusal(schema: unknown, strict = false): string | undefined {
  try {
    compileConstraint({ kind: 'schema', schema, strict })
    return undefined
  } catch (err) {
    if (err instanceof ZgError && err.code === 'ERR_BAD_INPUT') return err.message
    throw new Error(`${String(err)} for ${JSON.stringify(schema)}`, { cause: err })
  }
}

const VALUES: readonly unknown[] = [
  ...[null, true, false, -1, 0, 1, 2.5, 0.1, 1e15, 1e308, 5e-324, '', 'x', '#', '#/a', '(', 'number', 'date', '[a-z]'],
  ...[[], [[]], [1, 'a', null], ['string', 7], ['string'], [true], [{}], [{ type: 'null' }, false], {}, { a: 7 }],
  ...[{ a: {} }, { type: 'string' }, { minimum: 3 }, { enum: [1, 'x', {}, []] }, { '[': true }, { '^a': { const: 1 } }]
]

const isPart = (v: unknown): boolean =>
  typeof v === 'boolean' || (typeof v === 'object' && v !== null && !Array.isArray(v))
const isCount = (v: unknown): boolean => Number.isInteger(v) && Number(v) >= 0
const isNumber = (v: unknown): boolean => typeof v === 'number'
const isText = (v: unknown): boolean => typeof v === 'string'
const parts = (v: unknown): boolean => Array.isArray(v) && v.every(isPart)
const types = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null']
const isType = (v: unknown): boolean => types.includes(v as string)
const named = (v: unknown): boolean =>
  typeof v === 'object' && v !== null && !Array.isArray(v) && Object.values(v).every(isPart)

/** What each keyword takes, said apart from the product's own table. */
const KEYWORDS: Record<string, (v: unknown) => boolean> = {
  type: v => isType(v) || (Array.isArray(v) && v.length > 0 && v.every(isType)),
  properties: named,
  patternProperties: named,
  required: v => Array.isArray(v) && v.every(isText),
  ...Object.fromEntries(['additionalProperties', 'items', 'not', 'if', 'then', 'else'].map(key => [key, isPart])),
  prefixItems: parts,
  minItems: isCount,
  maxItems: isCount,
  uniqueItems: v => typeof v === 'boolean',
  enum: v => Array.isArray(v),
  const: () => true,
  anyOf: parts,
  oneOf: parts,
  allOf: parts,
  $ref: isText,
  $defs: v => typeof v === 'object' && v !== null && !Array.isArray(v),
  definitions: v => typeof v === 'object' && v !== null && !Array.isArray(v),
  minLength: isCount,
  maxLength: isCount,
  pattern: isText,
  format: isText,
  minimum: isNumber,
  maximum: isNumber,
  exclusiveMinimum: isNumber,
  exclusiveMaximum: isNumber,
  multipleOf: v => isNumber(v) && Number(v) > 0
}

/** Places where a schema may stand, and company that it may have there. */
const PLACES: ((s: Record<string, unknown>) => unknown)[] = [
  s => s,
  s => ({ const: -1, ...s }),
  s => ({ enum: [1, 'x', null, [], {}, true], ...s }),
  s => ({ type: ['integer', 'string'], minimum: 0, maximum: 9, ...s }),
  s => ({ type: 'object', properties: { a: s }, required: ['a'] }),
  s => ({ type: 'array', items: s, maxItems: 2 }),
  s => ({ allOf: [{ type: 'number' }, s] }),
  s => ({ anyOf: [{ type: 'null' }, s] }),
  s => ({ oneOf: [{ const: 1 }, s] }),
  s => ({ type: 'string', not: s }),
  s => ({ type: 'object', if: { properties: { a: { const: 1 } } }, else: s }),
  s => ({ type: 'object', patternProperties: { '^b': s } })
]

t.test('a value that is none of its keyword is refused with its name', async t => {
  let asked = 0
  for (const [key, fits] of Object.entries(KEYWORDS)) {
    const silent: unknown[] = []
    for (const value of VALUES) {
      if (fits(value)) continue
      for (const place of PLACES) {
        const schema = place({ [key]: value })
        asked++
        if (!refusal(schema)?.includes(`'${key}'`)) silent.push([schema, refusal(schema)])
      }
    }
    t.same(silent, [], key)
  }
  t.ok(asked > 5_000, `${asked} schemas`)
})

t.test('keywords with values of their kind, any beside any, compile or are refused in words', async t => {
  const random = randomOf(SEED)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!
  const keys = Object.keys(KEYWORDS)
  const made = (depth: number): unknown => {
    const out: Record<string, unknown> = {}
    for (let n = 1 + Math.floor(random() * 3); n > 0; n--) {
      const key = pick(keys)
      const fitting = VALUES.filter(KEYWORDS[key]!)
      const value = pick(fitting)
      const deeper = depth > 0 && random() < 0.6
      if (deeper && isPart(value) && KEYWORDS[key] === isPart) out[key] = made(depth - 1)
      else if (deeper && KEYWORDS[key] === parts) out[key] = [made(depth - 1), made(depth - 1)]
      else if (deeper && KEYWORDS[key] === named) out[key] = { a: made(depth - 1), b: made(depth - 1) }
      else if (deeper && key === '$ref') out[key] = pick(['#', '#/$defs/a', '#/properties/a', '#/allOf/1', '#/enum/2'])
      else out[key] = value
    }
    return out
  }
  let compiled = 0
  for (let i = 0; i < 6_000; i++) if (refusal(made(2), random() < 0.5) === undefined) compiled++
  t.ok(compiled > 500, `${compiled} of 6000 compiled`)
})

t.test('numbers and nesting that JSON does not carry are refused', async t => {
  t.match(refusal(JSON.parse('{"const":1e400}')), /too large/, 'a constant that would be written as null')
  t.match(refusal(JSON.parse('{"type":"number","maximum":1e400}')), /too large/)
  const nested = (n: number): unknown => JSON.parse(`{"const":${'['.repeat(n)}${']'.repeat(n)}}`)
  t.equal(refusal(nested(MAX_SCHEMA_NESTING - 1)), undefined)
  t.match(refusal(nested(MAX_SCHEMA_NESTING)), /nests more than/)
  t.match(refusal(nested(30_000)), /nests more than/)
})

t.test('a draft 4 limit is told what it is since', async t => {
  t.match(refusal({ type: 'number', minimum: 1, exclusiveMinimum: true }), /since draft 6/)
})

t.test('a property named __proto__ is one like others', async t => {
  const one = JSON.parse('{"type":"object","properties":{"__proto__":{"enum":["abc","d"]}},"required":["__proto__"]}')
  const other = JSON.parse('{"properties":{"__proto__":{"minLength":2}}}')
  t.equal(refusal({ allOf: [one, other] }, true), undefined)
  const none = JSON.parse('{"properties":{"__proto__":{"minLength":9}}}')
  t.match(refusal({ allOf: [one, none] }, true), /no value/, 'what both say of it is kept')
})
