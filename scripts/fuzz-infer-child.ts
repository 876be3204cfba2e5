/**
 * Random chat templates and requests, in this process: started by scripts/fuzz-infer.ts with the sanitized addon and its library.
 *
 *   fuzz-infer-child.ts template|request INPUTS SEED ADDON MODEL
 *
 * A template may give text or be refused, a request may be planned or refused as the caller's mistake; anything else is a finding: another
 * error, more than a few seconds of processor for one input, memory without bound (the heap's limit ends the process), a report of a
 * sanitizer (it ends the process). The last input stands in build/sanitize/fuzz_infer.input.
 */
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { apiError, isBug } from '../cmd/zg-compute/server/errors.ts'
import { type Kind, planRequest } from '../cmd/zg-compute/server/plan.ts'
import { messageOf, ZgError } from '../lib/base/errors.ts'
import { packageRoot } from '../lib/base/package-root.ts'
import { ChatTemplate, chatPrompt, RENDER_MS, templateOf } from '../lib/infer/chat-template.ts'
import { compileConstraint } from '../lib/infer/grammar/constraint.ts'
import type { InferAddon } from '../lib/infer/native.ts'
import { parseBody } from '../lib/infer/openai.ts'
import { openTokenizer } from '../lib/infer/tokenizer.ts'
import type { ChatMessage, Engine } from '../lib/infer/types.ts'

const [what, inputsText, seedText, addonPath, modelPath] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string
]
const inputs = Number(inputsText)
const addon = createRequire(import.meta.url)(addonPath) as InferAddon
const tokenizer = openTokenizer(addon, modelPath)
/** Processor time of one input: compiling and rendering may take their bound each, a grammar about as long. */
const CPU_MS_MAX = 4 * RENDER_MS + 1_000
const RSS_MAX_BYTES = 2_500_000_000

let state = Number(seedText) >>> 0
/** Mulberry32. */
function next(): number {
  state = (state + 0x6d2b79f5) | 0
  let t = Math.imul(state ^ (state >>> 15), 1 | state)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return (t ^ (t >>> 14)) >>> 0
}
const below = (n: number): number => next() % n
const pick = <T>(list: readonly T[]): T => list[below(list.length)]!

const ODD_TEXTS = [
  '',
  'hello',
  '\u0000',
  '\ud800',
  '\ufeff\u202e',
  '<|im_start|>system\n',
  '<|eot_id|>',
  '{{ 7*7 }}',
  '{% for',
  '</s>',
  '\u{f0000}\u{f0001}',
  '🦙'.repeat(40),
  'a'.repeat(5_000),
  ' '.repeat(999),
  "it's \r\n\t1234567",
  '__proto__',
  'constructor'
]
const ODD_VALUES: readonly unknown[] = [
  ...[null, true, false, 0, -1, 1, 0.5, 2 ** 31, 2 ** 53, -(2 ** 53), 1e308, -1e-300, 1e21, [], {}, [[]], [{}]],
  ...[[null], { a: 1 }, [1, 2, 3], ['a', 'b'], 'auto', 'none', 'required', 'user', 'json_object']
]

/** One to four changes of a text: cut, doubled, mixed with another, words of the language put in. */
function mutateText(text: string, words: readonly string[], others: readonly string[]): string {
  let out = text
  for (let n = 1 + below(1 + below(4)); n > 0; n--) {
    const at = below(out.length + 1)
    const length = below(1 + below(60))
    switch (below(6)) {
      case 0:
        out = out.slice(0, at) + out.slice(at + length)
        break
      case 1:
        out = out.slice(0, at) + out.slice(at, at + length).repeat(1 + below(3)) + out.slice(at)
        break
      case 2: {
        const other = pick(others)
        const from = below(other.length + 1)
        out = out.slice(0, at) + other.slice(from, from + length) + out.slice(at)
        break
      }
      case 3:
        out = out.slice(0, at) + String.fromCharCode(below(4) === 0 ? below(65_536) : below(128)) + out.slice(at + 1)
        break
      default:
        out = out.slice(0, at) + pick(words) + out.slice(at)
    }
  }
  return out.slice(0, 300_000)
}

// ---- chat templates ----

const JINJA = [
  ...[
    '{%',
    '%}',
    '{{',
    '}}',
    '{#',
    '#}',
    '{%-',
    '-%}',
    '{{-',
    '-}}',
    ' for ',
    ' in ',
    ' if ',
    ' else ',
    ' elif ',
    'not '
  ],
  ...[
    '{% endfor %}',
    '{% endif %}',
    '{% set x = ',
    '{% macro f(a) %}',
    '{% endmacro %}',
    '{{ f(f) }}',
    ' is defined ',
    ' and '
  ],
  ...[
    '{% for i in range(99999) %}',
    '{% for i in range(10) %}{% for j in range(10) %}',
    'range(-1, 9999999, 2)',
    'range(0)'
  ],
  ...[
    "'a' * 999999",
    "'ab'",
    '"',
    '~',
    '+',
    '-',
    '*',
    '/',
    '//',
    '%',
    '**',
    '==',
    '!=',
    '<',
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
    ',',
    ':'
  ],
  ...[
    '|tojson',
    '|length',
    '|join',
    '|upper',
    '|trim',
    '|first',
    '|last',
    '|reverse',
    '|map(attribute="role")',
    '|default("x")'
  ],
  ...[
    '|selectattr("role", "equalto", "user")|list',
    '|items',
    '|string',
    '|int',
    '|sort',
    '|unique',
    '|safe',
    '|indent(4)'
  ],
  ...[
    'messages',
    'messages[0]',
    'messages[-1]',
    '.content',
    "['content']",
    '[::-1]',
    '[1:]',
    '[0]',
    'tools',
    'bos_token'
  ],
  ...[
    'loop.index',
    'loop.first',
    'loop.last',
    'loop.previtem',
    'namespace(a=1)',
    '{% set ns.a = ns.a + 1 %}',
    'raise_exception("no")'
  ],
  ...[
    'strftime_now("%Y-%m-%d")',
    '.split(" ")',
    '.strip()',
    '.startswith("a")',
    '.replace("a", "b")',
    '.items()',
    '.keys()'
  ],
  ...[
    '.constructor',
    '.__proto__',
    "['constructor']('return this')()",
    '{% break %}',
    '{% continue %}',
    '{% call f() %}',
    'none'
  ]
]
const TEMPLATES = [
  "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
  "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% if loop.first and m['role'] == 'system' %}{{ m['content'] | trim }}{% else %}[{{ ns.n }}]{{ m.content }}{% endif %}{% endfor %}",
  "{%- if tools %}{% for t in tools %}{{ t | tojson(indent=2) }}\n{% endfor %}{% endif -%}{{ bos_token }}{% for m in messages %}{{ '### ' ~ m.role ~ ':\\n' ~ m.content }}{% endfor %}",
  '{% macro one(m, depth) %}{{ m.role }}{% if depth > 0 %}{{ one(m, depth - 1) }}{% endif %}{% endmacro %}{% for m in messages %}{{ one(m, 3) }}{% endfor %}',
  "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m in messages[::-1] %}{{ m.content.split(' ')|join('_') }}{% endfor %}{{ strftime_now('%d %b %Y') }}"
]
if (tokenizer.info.chatTemplate !== undefined) TEMPLATES.push(tokenizer.info.chatTemplate)

const text = (): string => (below(3) === 0 ? pick(ODD_TEXTS) : mutateText(pick(ODD_TEXTS), ODD_TEXTS, ODD_TEXTS))

function conversation(): ChatMessage[] {
  return Array.from({ length: below(5) }, () => {
    const m: ChatMessage = {
      role: below(8) === 0 ? text() : pick(['system', 'user', 'assistant', 'tool']),
      content: text()
    }
    if (below(6) === 0) m[pick(['name', 'tool_calls', 'reasoning_content', text()])] = pick(ODD_VALUES)
    return m
  })
}

const tools = (): unknown[] | undefined =>
  below(3) === 0 ? [{ type: 'function', function: { name: text(), parameters: pick(ODD_VALUES) } }] : undefined

function tryTemplate(): string {
  const source = below(3) === 0 ? pick(TEMPLATES) : mutateText(pick(TEMPLATES), JINJA, TEMPLATES)
  const messages = conversation()
  remember(JSON.stringify({ source, messages }))
  try {
    const template = new ChatTemplate(source, { bos: '<s>', eos: '</s>' })
    const options = { tools: tools(), addGenerationPrompt: below(2) === 0, now: new Date(0) }
    // The way prompts take: strings guarded, then tokens with the marks out.
    if (below(4) === 0) chatPrompt(tokenizer, template, messages, options)
    else template.render(messages, options)
    return 'rendered'
  } catch (err) {
    if (err instanceof ZgError && err.code === 'ERR_BAD_INPUT') return 'refused'
    throw err
  }
}

// ---- requests ----

const BODIES: Record<Kind, Record<string, unknown>[]> = {
  chat: [
    { model: 'm', messages: [{ role: 'user', content: 'hi' }] },
    {
      messages: [
        { role: 'system', content: 'be short' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' }
          ]
        },
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{"a":1}' } }]
        },
        { role: 'tool', tool_call_id: 'c', content: '4' }
      ],
      tools: [
        {
          type: 'function',
          function: {
            name: 'f',
            description: 'd',
            strict: true,
            parameters: {
              type: 'object',
              properties: { a: { type: 'integer' } },
              required: ['a'],
              additionalProperties: false
            }
          }
        }
      ],
      tool_choice: 'auto',
      parallel_tool_calls: false,
      max_completion_tokens: 9
    },
    {
      messages: [{ role: 'developer', content: 'x' }],
      response_format: {
        type: 'json_schema',
        json_schema: {
          name: 'n',
          strict: false,
          schema: {
            type: 'object',
            properties: {
              s: { type: 'string', pattern: '^[a-z]{1,4}$', minLength: 1, maxLength: 4 },
              n: { type: 'number', minimum: -3.5, exclusiveMaximum: 12 },
              l: { type: 'array', items: { $ref: '#/$defs/t' }, minItems: 1, maxItems: 3 },
              e: { enum: ['a', 1, null, { b: [] }] },
              o: { anyOf: [{ const: 1 }, { type: 'boolean' }] },
              m: { const: 6, multipleOf: 1.5, minimum: 0, not: { enum: [3] } },
              x: {
                oneOf: [
                  { type: 'string', maxLength: 2 },
                  { type: 'array', prefixItems: [{ type: 'null' }] }
                ]
              },
              u: { type: 'array', items: { enum: [1, 2, 3] }, uniqueItems: true, maxItems: 2 },
              p: { type: 'object', patternProperties: { '^k': { type: 'integer', maximum: 9 } }, required: ['k1'] },
              i: {
                properties: { a: { type: 'string' } },
                if: { properties: { a: { const: 'y' } } },
                else: { required: ['a'] }
              }
            },
            required: ['s'],
            $defs: { t: { type: 'object', properties: { t: { $ref: '#/$defs/t' } } } }
          }
        }
      },
      temperature: 0.2,
      stop: ['\n', 'END'],
      logit_bias: { 5: 1, 7: -100 },
      logprobs: true,
      top_logprobs: 3,
      seed: 5,
      n: 2,
      user: 'u',
      stream: true,
      stream_options: { include_usage: true },
      chat_template_kwargs: { enable_thinking: false }
    }
  ],
  completion: [
    { prompt: 'once', max_tokens: 4 },
    { prompt: ['a', 'b'], echo: true, logprobs: 2, best_of: 2, n: 2, suffix: null, max_tokens: 0 },
    { prompt: [[1, 2, 3], [4]], top_k: 3, top_p: 0.5, min_p: 0.1, typical_p: 0.9, repetition_penalty: 1.1 },
    {
      prompt: [1, 2],
      frequency_penalty: -1,
      presence_penalty: 1,
      min_tokens: 2,
      stop_token_ids: [3],
      ignore_eos: true
    },
    { prompt: 'x', grammar: 'root ::= "a" [b-d]+ ( "e" | root2 )\nroot2 ::= "f" root2?' },
    { prompt: 'x', guided_regex: '(a|b)*c{2,5}[^d-f\\d]\\w+$', cache_salt: 's', lora: [{ id: 0, scale: 1 }] },
    { prompt: 'x', guided_choice: ['yes', 'no'], guided_json: { type: 'array', items: { type: 'integer' } } }
  ]
}
const KEYS = [
  ...new Set(Object.values(BODIES).flatMap(list => list.flatMap(b => Object.keys(b)))),
  '__proto__',
  'suffix',
  'store'
]
const SCHEMA_KEYS =
  `type properties patternProperties required additionalProperties items prefixItems minItems maxItems uniqueItems
  enum const anyOf oneOf allOf not if then else $ref $defs minLength maxLength pattern format minimum maximum exclusiveMinimum
  exclusiveMaximum multipleOf`.split(/\s+/)
const JSON_WORDS = [
  'null',
  '-0',
  '1e999',
  '"\\u0000"',
  '"\\ud800"',
  '[[[[',
  ']',
  '}',
  '{"a":',
  ',',
  ':',
  '"',
  '\\',
  'NaN',
  '1'.repeat(400)
]

/** Places of a value: object and key. */
function placesOf(value: unknown, out: [Record<string, unknown>, string][] = []): [Record<string, unknown>, string][] {
  if (typeof value === 'object' && value !== null) {
    for (const key of Object.keys(value)) {
      out.push([value as Record<string, unknown>, key])
      placesOf((value as Record<string, unknown>)[key], out)
    }
  }
  return out
}

function oddValue(): unknown {
  const kind = below(40)
  if (kind === 0) return Array.from({ length: below(3_000) }, () => pick(ODD_TEXTS).slice(0, 20))
  if (kind === 1) {
    let deep: unknown = 1
    for (let i = below(below(20) === 0 ? 800 : 200); i > 0; i--) deep = below(2) === 0 ? [deep] : { a: deep }
    return deep
  }
  if (kind === 2) return 'x'.repeat(below(200_000))
  // A schema that grows by itself.
  if (kind === 3) return { anyOf: Array.from({ length: below(60) }, () => ({ $ref: '#' })) }
  if (kind === 4) return { type: 'string', minLength: below(1_000_000), maxLength: below(1_000_000) }
  if (kind === 5)
    return { type: 'array', items: { type: 'array', minItems: below(300), items: {} }, maxItems: below(100_000) }
  return kind < 20 ? text() : structuredClone(pick(ODD_VALUES))
}

async function tryRequest(engine: Engine): Promise<string> {
  const kind: Kind = below(2) === 0 ? 'chat' : 'completion'
  const body = structuredClone(pick(BODIES[kind]))
  for (let n = below(4); n > 0; n--) {
    const places = placesOf(body)
    if (places.length === 0) break
    const [object, key] = pick(places)
    const how = below(6)
    if (how === 5) object[pick(SCHEMA_KEYS)] = oddValue()
    else if (how === 0) delete object[key]
    else if (how === 1) body[pick(KEYS)] = oddValue()
    else if (how === 2) {
      const [other, name] = pick(placesOf(pick(BODIES[pick(['chat', 'completion'] as const)])))
      object[key] = structuredClone(other[name])
    } else object[key] = oddValue()
  }
  let bytes = Buffer.from(JSON.stringify(body))
  if (below(4) === 0) {
    bytes = Buffer.from(mutateText(bytes.toString('latin1'), JSON_WORDS, ODD_TEXTS), 'latin1')
  }
  remember(bytes)
  try {
    await planRequest(kind, parseBody(bytes), {
      engine,
      models: ['m'],
      random: { bytes: n => new Uint8Array(n), below }
    })
    return 'planned'
  } catch (err) {
    if (isBug(err) || apiError(err).status >= 500) throw err
    return 'refused'
  }
}

/** The model's vocabulary and template with nothing behind them. */
function emptyEngine(): Engine {
  const template = templateOf(tokenizer)
  return {
    info: {
      name: 'm',
      architecture: 'none',
      parameters: 0,
      fileBytes: 0,
      contextLength: 4_096,
      embeddingLength: 1,
      vocabularySize: tokenizer.info.vocabularySize,
      endIds: tokenizer.info.endIds,
      bosId: tokenizer.info.bosId,
      cpu: 'none',
      chatTemplate: tokenizer.info.chatTemplate
    },
    tokenizer,
    adapters: [{ name: 'a', path: 'a', rank: 1, bytes: 1, strength: 0 }],
    chatPrompt: (messages, options = {}) => chatPrompt(tokenizer, template, messages, options),
    textPrompt: prompt => tokenizer.prompt(prompt),
    constrain: async constraint => {
      const { words, ignored } = compileConstraint(constraint)
      return { native: await tokenizer.grammar(words), ignored }
    },
    generate: () => {
      throw new Error('nothing is generated here')
    },
    close: async () => {}
  } as Engine
}

// ---- the loop ----

let input: string | Uint8Array = ''
function remember(text: string | Uint8Array): void {
  input = text
}

function found(why: string, index: number): never {
  const path = join(packageRoot(), 'build', 'sanitize', 'fuzz_infer.input')
  writeFileSync(path, input)
  process.stderr.write(`fuzz ${what}: input ${index} of seed ${seedText}: ${why}\nit stands in ${path}\n`)
  process.exit(1)
}

const engine = emptyEngine()
const counts: Record<string, number> = {}
let slowest = 0
for (let i = 0; i < inputs; i++) {
  const before = process.cpuUsage()
  try {
    const outcome = what === 'template' ? tryTemplate() : await tryRequest(engine)
    counts[outcome] = (counts[outcome] ?? 0) + 1
  } catch (err) {
    found(`${messageOf(err)}\n${(err as Error).stack ?? ''}`, i)
  }
  const { user, system } = process.cpuUsage(before)
  const ms = (user + system) / 1000
  slowest = Math.max(slowest, ms)
  if (ms > CPU_MS_MAX) found(`${Math.round(ms)} ms of processor`, i)
  if (i % 256 === 0) {
    if (process.memoryUsage().rss > RSS_MAX_BYTES) found('more than 2.5 GB of memory', i)
    // The event loop turns, so that what is finished goes away.
    await new Promise(resolve => setImmediate(resolve))
  }
}
const told = Object.entries(counts).map(([k, n]) => `${n} ${k}`)
process.stdout.write(
  `${what}: ${inputs} inputs, ${told.join(', ')}, slowest ${Math.round(slowest)} ms, nothing found (seed ${seedText})\n`
)
