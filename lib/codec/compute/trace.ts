/**
 * What a checker of an answer needs (compute.md 6.2, inference.md 12.1): leaves over the tokens and the states that predict them, their
 * trees, the start of the running hash, and the transcript that carries all of it as JSON.
 *
 *   leaf_t = keccak256(u32be t ‖ u32be token_t ‖ salt_{nIn+t} ‖ keccak256(h_t))         salt_i = keccak256(salt ‖ u32be i)
 *   t_0    = keccak256("zg-infer-1" ‖ model ‖ kernel ‖ cache ‖ parameters ‖ prompt)     strings and lists with a u32 little endian length
 *
 * Trees: leaf node keccak256(0x00 ‖ bytes), inner node keccak256(0x01 ‖ left ‖ right), an odd last node is carried up, no leaves are 32 zeros.
 */
import { utf8 } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { fromHex, type Hex, toHex } from '../../base/hex.ts'
import { keccak256 } from '../../crypto/hash.ts'

export const TRANSCRIPT_FORMAT = 'zg-transcript/1'
/** Numeric version with the cache that belongs to it, and order of sampling. */
export const KERNEL = 'zg-k1'
export const CACHE_TYPE = 'f16'
export const SAMPLER = 'zg-s1'
/** Tokens of a transcript, prompt and answer each. */
export const TRANSCRIPT_TOKENS_MAX = 1024 * 1024

/** Every field that reaches sampler or stop rule; decimals as the shortest text that gives back the float. */
export interface TraceParams {
  temperature: string
  top_p: string
  top_k: number
  min_p: string
  repetition_penalty: string
  frequency_penalty: string
  presence_penalty: string
  /** Ascending by id. */
  logit_bias: [id: number, bias: string][]
  min_tokens: number
  max_tokens: number
  ignore_eos: boolean
  /** Bytes of the strings, hex. */
  stop: Hex[]
  stop_ids: number[]
  grammar: null
}

export interface Transcript {
  format: typeof TRANSCRIPT_FORMAT
  /** Of the response; empty when made elsewhere. */
  id: string
  model: { name: string; root: Hex; kernel: string; cache: string; sampler: string }
  params: TraceParams
  /** Decimal. */
  seed: string
  choice: number
  salt: Hex
  prompt: number[]
  tokens: number[]
  finish: 'stop' | 'length' | 'cancelled'
  leaves: Hex[]
  /** The running hash behind each token. */
  running: Hex[]
  prompt_root: Hex
  output_root: Hex
  trace_root: Hex
}

/** A float as the shortest decimal text that gives it back. */
export function floatText(value: number): string {
  const f = Math.fround(value)
  if (Object.is(f, -0)) return '0'
  for (let digits = 1; digits <= 9; digits++) {
    const text = String(Number(f.toPrecision(digits)))
    if (Math.fround(Number(text)) === f) return text
  }
  return String(f)
}

/** The parameters as RFC 8785 writes them: members by name, no spaces. All their strings are ASCII. */
export function canonicalParams(p: TraceParams): string {
  const sorted = Object.fromEntries(Object.entries(p).sort(([a], [b]) => (a < b ? -1 : 1)))
  return JSON.stringify(sorted)
}

export function saltAt(salt: Uint8Array, index: number): Uint8Array {
  return keccak256(salt, u32be(index))
}

export function traceLeaf(t: number, token: number, salt: Uint8Array, hidden: Uint8Array): Uint8Array {
  return keccak256(u32be(t), u32be(token), salt, hidden)
}

/** Root over (u32be i ‖ u32be token ‖ salt_{first + i}). */
export function tokensRoot(tokens: readonly number[], salt: Uint8Array, first: number): Uint8Array {
  return merkleRoot(tokens.map((token, i) => concat(u32be(i), u32be(token), saltAt(salt, first + i))))
}

export function merkleRoot(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return new Uint8Array(32)
  let level = leaves.map(leaf => keccak256(LEAF, leaf))
  while (level.length > 1) {
    const up: Uint8Array[] = []
    for (let i = 0; i < level.length; i += 2) {
      up.push(i + 1 < level.length ? keccak256(INNER, level[i]!, level[i + 1]!) : level[i]!)
    }
    level = up
  }
  return level[0]!
}

/** t_0. @param model - root of the model's file. */
export function traceStart(model: Uint8Array, params: TraceParams, prompt: ArrayLike<number>): Uint8Array {
  const ids = new Uint8Array(4 + 4 * prompt.length)
  const view = new DataView(ids.buffer)
  view.setUint32(0, prompt.length, true)
  for (let i = 0; i < prompt.length; i++) view.setUint32(4 + 4 * i, prompt[i]!, true)
  return keccak256(text('zg-infer-1'), model, text(KERNEL), text(CACHE_TYPE), text(canonicalParams(params)), ids)
}

const LEAF = Uint8Array.of(0)
const INNER = Uint8Array.of(1)

function u32be(n: number): Uint8Array {
  const out = new Uint8Array(4)
  new DataView(out.buffer).setUint32(0, n)
  return out
}

function text(s: string): Uint8Array {
  const bytes = utf8(s)
  const length = new Uint8Array(4)
  new DataView(length.buffer).setUint32(0, bytes.length, true)
  return concat(length, bytes)
}

function concat(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts))
}

/** What a run of the engine gives, as a transcript. */
export function makeTranscript(o: {
  id: string
  model: { name: string; root: Uint8Array }
  params: TraceParams
  seed: bigint
  choice: number
  salt: Uint8Array
  prompt: ArrayLike<number>
  tokens: readonly number[]
  finish: Transcript['finish']
  hidden: readonly Uint8Array[]
  running: readonly Uint8Array[]
}): Transcript {
  const prompt = Array.from(o.prompt)
  const tokens = [...o.tokens]
  const leaves = tokens.map((token, t) => traceLeaf(t, token, saltAt(o.salt, prompt.length + t), o.hidden[t]!))
  return {
    format: TRANSCRIPT_FORMAT,
    id: o.id,
    model: { name: o.model.name, root: toHex(o.model.root), kernel: KERNEL, cache: CACHE_TYPE, sampler: SAMPLER },
    params: o.params,
    seed: o.seed.toString(),
    choice: o.choice,
    salt: toHex(o.salt),
    prompt,
    tokens,
    finish: o.finish,
    leaves: leaves.map(toHex),
    running: o.running.map(toHex),
    prompt_root: toHex(tokensRoot(prompt, o.salt, 0)),
    output_root: toHex(tokensRoot(tokens, o.salt, prompt.length)),
    trace_root: toHex(merkleRoot(leaves))
  }
}

/** @throws {ZgError} ERR_BAD_INPUT naming the member that is wrong. */
export function readTranscript(json: string): Transcript {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (cause) {
    throw new ZgError('ERR_BAD_INPUT', 'the transcript is not JSON', { cause })
  }
  const o = record(value, 'transcript')
  if (o.format !== TRANSCRIPT_FORMAT) throw bad('format', `'${TRANSCRIPT_FORMAT}'`)
  const model = record(o.model, 'model')
  for (const [name, want] of [
    ['kernel', KERNEL],
    ['cache', CACHE_TYPE],
    ['sampler', SAMPLER]
  ] as const) {
    if (model[name] !== want) throw bad(`model.${name}`, `'${want}': this program computes no other`)
  }
  if (typeof model.name !== 'string') throw bad('model.name', 'a text')
  for (const name of ['root'] as const) hash(model[name], `model.${name}`)
  for (const name of ['salt', 'prompt_root', 'output_root', 'trace_root'] as const) hash(o[name], name)
  const prompt = ids(o.prompt, 'prompt')
  const tokens = ids(o.tokens, 'tokens')
  if (prompt.length === 0) throw bad('prompt', 'at least one id')
  for (const name of ['leaves', 'running'] as const) {
    const list = o[name]
    if (!Array.isArray(list) || list.length !== tokens.length) throw bad(name, 'as many hashes as there are tokens')
    for (const [i, h] of list.entries()) hash(h, `${name}[${i}]`)
  }
  if (typeof o.seed !== 'string' || !/^\d{1,20}$/.test(o.seed) || BigInt(o.seed) >= 1n << 64n)
    throw bad('seed', 'a decimal below 2^64')
  if (!whole(o.choice, 0xffff_ffff)) throw bad('choice', 'a whole number')
  if (o.finish !== 'stop' && o.finish !== 'length' && o.finish !== 'cancelled')
    throw bad('finish', 'stop, length or cancelled')
  checkParams(record(o.params, 'params'))
  return value as Transcript
}

const NUMBERS = [
  'temperature',
  'top_p',
  'min_p',
  'repetition_penalty',
  'frequency_penalty',
  'presence_penalty'
] as const
const MEMBERS = [
  ...NUMBERS,
  'top_k',
  'logit_bias',
  'min_tokens',
  'max_tokens',
  'ignore_eos',
  'stop',
  'stop_ids',
  'grammar'
]

function checkParams(p: Record<string, unknown>): void {
  for (const name of Object.keys(p)) if (!MEMBERS.includes(name)) throw bad(`params.${name}`, 'a known parameter')
  const decimal = (v: unknown): boolean =>
    typeof v === 'string' && v.length < 40 && Number.isFinite(Number(v)) && floatText(Number(v)) === v
  for (const name of NUMBERS) if (!decimal(p[name])) throw bad(`params.${name}`, 'the shortest decimal of a float')
  for (const name of ['top_k', 'min_tokens', 'max_tokens'] as const) {
    if (!whole(p[name], 0xffff_ffff)) throw bad(`params.${name}`, 'a whole number')
  }
  if (typeof p.ignore_eos !== 'boolean') throw bad('params.ignore_eos', 'true or false')
  if (p.grammar !== null) throw bad('params.grammar', 'null')
  ids(p.stop_ids, 'params.stop_ids')
  const pair = (v: unknown): boolean => Array.isArray(v) && v.length === 2 && whole(v[0], 0xffff_ffff) && decimal(v[1])
  if (!Array.isArray(p.logit_bias) || !p.logit_bias.every(pair))
    throw bad('params.logit_bias', 'pairs of an id and a decimal')
  if (!Array.isArray(p.stop)) throw bad('params.stop', 'a list')
  for (const [i, s] of p.stop.entries()) fromHex(s, `params.stop[${i}]`)
}

function ids(value: unknown, name: string): number[] {
  if (!Array.isArray(value) || value.length > TRANSCRIPT_TOKENS_MAX || !value.every(v => whole(v, 0x7fff_ffff)))
    throw bad(name, 'a list of ids')
  return value
}

function hash(value: unknown, name: string): void {
  if (typeof value !== 'string' || !/^0x[0-9a-f]{64}$/.test(value)) throw bad(name, '32 bytes as hex')
}

const whole = (v: unknown, most: number): boolean => typeof v === 'number' && Number.isInteger(v) && v >= 0 && v <= most

function record(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(name, 'an object')
  return value as Record<string, unknown>
}

function bad(name: string, want: string): ZgError {
  return new ZgError('ERR_BAD_INPUT', `the transcript's ${name} must be ${want}`)
}
