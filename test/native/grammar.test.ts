/**
 * The automaton behind constrained answers: token masks are exactly the tokens that keep an answer a beginning of a text (asked one by one),
 * shortest texts are texts, random walks end in valid values, and whatever a stranger sends as schema, pattern or grammar is compiled or
 * refused in words, never anything else. ZG_SEED repeats a run.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ZgError } from '../../lib/base/errors.ts'
import { type Constraint, compileConstraint } from '../../lib/infer/grammar/constraint.ts'
import { inferAddon, type NativeGrammar } from '../../lib/infer/native.ts'
import { openTokenizer } from '../../lib/infer/tokenizer.ts'
import { nativePath } from '../../lib/native.ts'
import { fault, randomOf, randomSchema } from '../harness/json-schema.ts'
import { SEED } from '../harness/seed.ts'
import { packageRoot } from '../harness/tools.ts'

const skip = existsSync(nativePath('infer')) ? false : 'the native part is not built'
t.setTimeout(120_000)

const tokenizer = skip ? undefined : openTokenizer(inferAddon(), join(packageRoot, 'share', 'models', 'tiny-zg.gguf'))
const pieces = Array.from({ length: tokenizer?.info.vocabularySize ?? 0 }, (_, id) => tokenizer!.piece(id))
const compile = (c: Constraint): Promise<NativeGrammar> => tokenizer!.grammar(compileConstraint(c).words)

const FIXED: Constraint[] = [
  { kind: 'json' },
  { kind: 'regex', pattern: '(un)?[a-zé]{2,9}(, [^x]+)?' },
  { kind: 'choice', texts: ['the ship', 'the sea', 'there'] },
  { kind: 'grammar', text: 'root ::= "(" root ")" | [0-9]+ root? | " " word\nword ::= [a-z]+ ("-" word)*' },
  {
    kind: 'call',
    functions: [{ name: 'f', parameters: undefined, strict: false }],
    argumentsKey: 'arguments',
    list: true
  }
]

t.test('masks are what one by one would be; walks end in texts of the grammar', { skip }, async t => {
  const random = randomOf(SEED)
  const schemas = Array.from(
    { length: 25 },
    (): Constraint => ({ kind: 'schema', schema: randomSchema(random, 2), strict: true })
  )
  let compared = 0
  for (const constraint of [...FIXED, ...schemas]) {
    const grammar = await compile(constraint)
    t.equal(grammar.accepts(grammar.shortest()!), 2, 'the shortest text is one')
    let text: Uint8Array = new Uint8Array(0)
    for (let step = 0; step < 60 && grammar.accepts(text) !== 2; step++) {
      const allowed = grammar.allowed(text)
      if (step < 6) {
        const set = new Set(allowed)
        const wrong = pieces.findIndex((p, id) => {
          const fits = p.length > 0 && grammar.accepts(Buffer.concat([text, p])) !== 0
          return fits !== set.has(id)
        })
        compared += pieces.length
        if (wrong !== -1)
          t.fail(`token ${wrong} behind '${Buffer.from(text)}'`, {
            constraint: JSON.stringify(constraint).slice(0, 500)
          })
      }
      if (allowed.length === 0) {
        t.fail(`nothing may follow '${Buffer.from(text)}'`)
        break
      }
      text = Buffer.concat([text, pieces[allowed[Math.floor(random() * allowed.length)]!]!])
    }
    if (constraint.kind === 'schema' && grammar.accepts(text) === 2) {
      t.equal(fault(JSON.parse(Buffer.from(text).toString()), constraint.schema as never), undefined)
    }
  }
  t.ok(compared > 100_000, `${compared} tokens compared`)
})

t.test('damaged schemas, patterns and grammars are compiled or refused in words', { skip }, async t => {
  const random = randomOf(SEED + 1)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!
  const values = [
    null,
    true,
    false,
    -1,
    0,
    1e308,
    0.1,
    '',
    'x',
    '#',
    '#/a/b',
    [],
    {},
    [[]],
    '(',
    '[',
    'a{9999}',
    1e15,
    ['string', 7]
  ]
  const keys = [
    'type',
    'properties',
    'required',
    'items',
    'minItems',
    'maxItems',
    'enum',
    'const',
    'anyOf',
    'allOf',
    '$ref',
    'minLength',
    'maxLength',
    'pattern',
    'format',
    'minimum',
    'exclusiveMaximum',
    'additionalProperties',
    'prefixItems',
    '$defs',
    'multipleOf',
    'uniqueItems',
    'oneOf',
    'not',
    'if',
    'else',
    'patternProperties'
  ]
  const damage = (value: unknown): unknown => {
    if (typeof value !== 'object' || value === null || random() < 0.1) return random() < 0.5 ? value : pick(values)
    if (Array.isArray(value)) return value.map(damage)
    const out = Object.fromEntries(Object.entries(value).map(([k, v]) => [k, damage(v)]))
    if (random() < 0.3) out[pick(keys)] = pick(values)
    return out
  }
  const signs = [...'abz019^$.*+?()[]{}|\\-,:="\n #_'].concat([
    '::=',
    'root',
    '{1,3}',
    '[a-z]',
    '(?:',
    '\\d',
    '\\u12',
    '"a"'
  ])
  const noise = (): string => Array.from({ length: 1 + Math.floor(random() * 24) }, () => pick(signs)).join('')
  let compiled = 0
  let refused = 0
  for (let i = 0; i < 3_000; i++) {
    const constraint: Constraint = pick([
      () => ({ kind: 'schema' as const, schema: damage(randomSchema(random, 2)), strict: random() < 0.5 }),
      () => ({ kind: 'regex' as const, pattern: noise() }),
      () => ({ kind: 'grammar' as const, text: `root ::= ${noise()}\na ::= ${noise()}` })
    ])()
    try {
      const grammar = await compile(constraint)
      const shortest = grammar.shortest()
      if (shortest !== undefined && grammar.accepts(shortest) !== 2)
        t.fail('a shortest text that is none', { constraint: JSON.stringify(constraint) })
      compiled++
    } catch (err) {
      if (!(err instanceof ZgError) || err.code !== 'ERR_BAD_INPUT')
        t.fail(String(err), { constraint: JSON.stringify(constraint).slice(0, 800) })
      refused++
    }
  }
  t.ok(compiled > 200 && refused > 200, `${compiled} compiled, ${refused} refused`)
})
