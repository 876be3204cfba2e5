/**
 * The tokenizers of inference.md section 5 as plain programs: expressions as regular expressions, merging by looking through the whole list
 * again for each merge. For checks: a long word without a space takes the square of its length.
 */
import { ZgError } from '../../base/errors.ts'
import type { GgufFile, GgufValue } from './gguf.ts'

const NORMAL = 1
const UNKNOWN = 2
const CONTROL = 3
const USER_DEFINED = 4
const UNUSED = 5
const BYTE = 6

/** Names that mark the end of an answer: never a user's text, but for the one that is honest HTML. */
const END_NAMES = [
  '<|im_end|>',
  '<|eot_id|>',
  '<|eom_id|>',
  '<|end|>',
  '<end_of_turn>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<|return|>',
  '<|call|>'
]

const SPACE = '\\p{White_Space}'
const GAPS = `${SPACE}+(?!\\P{White_Space})|${SPACE}+`
const SYMBOLS = `[^${SPACE}\\p{L}\\p{N}]+`
const SHORTENED = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
const HIGH = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]'
const LOW = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'
const BEFORE = '[^\\r\\n\\p{L}\\p{N}]?'

const GPT2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?${SYMBOLS}|${GAPS}`
const lines = (digits: string, ending: string): string =>
  `\\p{N}${digits}| ?${SYMBOLS}${ending}|${SPACE}*[\\r\\n]+|${GAPS}`
const llama = (digits: string): string => `${SHORTENED}|${BEFORE}\\p{L}+|${lines(digits, '[\\r\\n]*')}`
const cased = (digits: string, more: string): string =>
  `${BEFORE}${HIGH}*${LOW}+${more}|${BEFORE}${HIGH}+${LOW}*${more}|${lines(digits, '[\\r\\n/]*')}`

interface PreTokenizer {
  readonly names: readonly string[]
  readonly pattern: RegExp
  /** Each digit alone, before the expression sees the rest. */
  readonly digits?: true
  /** A piece that is a token is not merged. */
  readonly whole?: true
}

const PRE_TOKENIZERS: readonly PreTokenizer[] = [
  {
    names: ['gpt-2', 'phi-2', 'jina-es', 'jina-de', 'jina-v2-es', 'jina-v2-de', 'gigachat', 'roberta-bpe', 'default'],
    pattern: new RegExp(GPT2, 'gu')
  },
  {
    names: ['llama-bpe', 'llama3', 'llama-v3'],
    pattern: new RegExp(llama('{1,3}'), 'gu'),
    whole: true
  },
  { names: ['smaug-bpe', 'dbrx'], pattern: new RegExp(llama('{1,3}'), 'gu') },
  { names: ['qwen2', 'stablelm2', 'deepseek-r1-qwen'], pattern: new RegExp(llama(''), 'gu') },
  { names: ['tekken'], pattern: new RegExp(cased('', ''), 'gu'), whole: true },
  { names: ['gpt-4o'], pattern: new RegExp(cased('{1,3}', `(?:${SHORTENED})?`), 'gu') },
  { names: ['smollm', 'starcoder', 'refact', 'command-r'], pattern: new RegExp(GPT2, 'gu'), digits: true }
]

/** Bytes as byte-level BPE writes them. */
const PRINTABLE: readonly string[] = (() => {
  let next = 0x100
  return Array.from({ length: 256 }, (_, b) => {
    const plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174
    return String.fromCodePoint(plain ? b : next++)
  })
})()
const BYTE_OF = new Map(PRINTABLE.map((c, b) => [c, b]))

const MARK = '\u2581'

export class ReferenceTokenizer {
  readonly bosId: number | undefined
  readonly eosId: number | undefined
  readonly chatTemplate: string | undefined
  readonly size: number
  readonly #spm: boolean
  readonly #spacePrefix: boolean
  readonly #pre: PreTokenizer
  readonly #names: readonly (string | Uint8Array)[]
  readonly #types: Uint8Array
  readonly #scores: readonly number[]
  /** Ids of tokens that text may become, by their text: with spaces for SPM, as printed for BPE. */
  readonly #ids = new Map<string, number>()
  readonly #bytes = new Map<number, number>()
  readonly #ranks = new Map<string, number>()
  /** Longest first. */
  readonly #specials: { name: string; id: number; control: boolean }[] = []
  readonly #unknown: number | undefined

  /** @throws {ZgError} ERR_BAD_INPUT when the file has no tokenizer of a known kind. */
  constructor(file: GgufFile) {
    const get = (key: string): GgufValue | undefined => file.metadata.get(`tokenizer.${key}`)
    const model = get('ggml.model')
    if (model !== 'llama' && model !== 'gpt2') {
      throw new ZgError('ERR_BAD_INPUT', `tokenizer '${String(model)}' is not known; known are llama and gpt2`)
    }
    this.#spm = model === 'llama'
    const pre = String(get('ggml.pre') ?? 'default')
    const found = PRE_TOKENIZERS.find(p => p.names.includes(pre))
    if (!this.#spm && found === undefined) throw new ZgError('ERR_BAD_INPUT', `pre-tokenizer '${pre}' is not known`)
    this.#pre = found ?? PRE_TOKENIZERS[0]!
    this.#names = (get('ggml.tokens') ?? []) as (string | Uint8Array)[]
    this.size = this.#names.length
    this.#types = Uint8Array.from((get('ggml.token_type') as number[] | undefined) ?? this.#names.map(() => NORMAL))
    this.#scores = (get('ggml.scores') ?? []) as number[]
    this.#spacePrefix = this.#spm && get('ggml.add_space_prefix') !== false
    const template = get('chat_template')
    this.chatTemplate = typeof template === 'string' ? template : undefined
    const id = (name: string): number | undefined => {
      const value = get(`ggml.${name}_token_id`)
      return value === undefined ? undefined : Number(value)
    }
    this.bosId = id('bos')
    this.eosId = id('eos')
    const firstUnknown = this.#types.indexOf(UNKNOWN)
    this.#unknown = id('unknown') ?? (firstUnknown < 0 ? undefined : firstUnknown)
    this.#readTokens()
    for (const [rank, merge] of ((get('ggml.merges') ?? []) as string[]).entries()) {
      const space = merge.indexOf(' ', 1)
      const halves = [merge.slice(0, space), merge.slice(space + 1)]
      if ([...halves, halves.join('')].every(s => this.#ids.has(s)) && !this.#ranks.has(merge)) {
        this.#ranks.set(merge, rank)
      }
    }
  }

  #readTokens(): void {
    for (const [id, raw] of this.#names.entries()) {
      const name = typeof raw === 'string' ? raw : undefined
      if (name !== undefined && END_NAMES.includes(name) && this.#types[id] === NORMAL) this.#types[id] = CONTROL
      const type = this.#types[id]!
      if (name === undefined) continue
      if (type === BYTE) {
        const byte = /^<0x([0-9A-F]{2})>$/.exec(name)
        if (byte !== null && !this.#bytes.has(Number.parseInt(byte[1]!, 16))) {
          this.#bytes.set(Number.parseInt(byte[1]!, 16), id)
        }
      }
      if (type === NORMAL || type === USER_DEFINED) {
        const text = this.#spm && type === NORMAL ? name.replaceAll(MARK, ' ') : name
        const possible = this.#spm ? !name.includes(' ') : [...name].every(c => BYTE_OF.has(c))
        if (possible && !this.#ids.has(text)) this.#ids.set(text, id)
      }
      if (type === CONTROL || type === USER_DEFINED) this.#specials.push({ name, id, control: type === CONTROL })
    }
    this.#specials.sort((a, b) => Buffer.byteLength(b.name) - Buffer.byteLength(a.name) || a.id - b.id)
    if (!this.#spm) {
      for (const [b, c] of PRINTABLE.entries()) {
        const id = this.#ids.get(c)
        if (id !== undefined) this.#bytes.set(b, id)
      }
    }
  }

  /** Ids of a text, without BOS. @param special - names of control tokens become those tokens. */
  encode(text: string, special = false): Int32Array {
    let parts: (string | number)[] = text === '' ? [] : [Buffer.from(text).toString()]
    for (const { name, id, control } of this.#specials) {
      if ((control && !special) || name === '') continue
      parts = parts.flatMap(part =>
        typeof part === 'number' ? [part] : part.split(name).flatMap((piece, i) => (i === 0 ? [piece] : [id, piece]))
      )
      parts = parts.filter(part => part !== '')
    }
    return Int32Array.from(
      parts.flatMap(part => {
        if (typeof part === 'number') return [part]
        return this.#spm ? this.#byScore(part) : this.#words(part).flatMap(word => this.#byRank(word))
      })
    )
  }

  #byScore(text: string): number[] {
    const symbols = [...`${this.#spacePrefix ? ' ' : ''}${text.replaceAll(MARK, ' ')}`]
    for (;;) {
      let best = -1
      let score = Number.NEGATIVE_INFINITY
      for (let i = 0; i + 1 < symbols.length; i++) {
        const id = this.#ids.get(symbols[i]! + symbols[i + 1]!)
        if (id !== undefined && (best < 0 || this.#scores[id]! > score)) {
          best = i
          score = this.#scores[id]!
        }
      }
      if (best < 0) break
      symbols.splice(best, 2, symbols[best]! + symbols[best + 1]!)
    }
    return symbols.flatMap(s => {
      const id = this.#ids.get(s)
      if (id !== undefined) return [id]
      const bytes = [...Buffer.from(s)].map(b => this.#bytes.get(b))
      if (bytes.every(b => b !== undefined)) return bytes
      return this.#unknown === undefined ? [] : [this.#unknown]
    })
  }

  #words(text: string): string[] {
    const words = (part: string): string[] => part.match(this.#pre.pattern) ?? []
    if (this.#pre.digits !== true) return words(text)
    return text.split(/(\p{N})/u).flatMap((part, i) => (i % 2 === 1 ? [part] : words(part)))
  }

  #byRank(word: string): number[] {
    const symbols = [...Buffer.from(word)].map(b => PRINTABLE[b]!)
    const whole = this.#pre.whole === true ? this.#ids.get(symbols.join('')) : undefined
    if (whole !== undefined) return [whole]
    for (;;) {
      let best = -1
      let rank = Number.POSITIVE_INFINITY
      for (let i = 0; i + 1 < symbols.length; i++) {
        const r = this.#ranks.get(`${symbols[i]} ${symbols[i + 1]}`)
        if (r !== undefined && r < rank) {
          best = i
          rank = r
        }
      }
      if (best < 0) break
      symbols.splice(best, 2, symbols[best]! + symbols[best + 1]!)
    }
    return symbols.flatMap(s => {
      const id = this.#ids.get(s) ?? this.#unknown
      return id === undefined ? [] : [id]
    })
  }

  /** A token as text, '' for undefined: what templates print for BOS and EOS. */
  name(id: number | undefined): string {
    return id === undefined ? '' : Buffer.from(this.#piece(id, true)).toString()
  }

  /** Ids to text; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: ArrayLike<number>): string {
    let bytes = Buffer.concat(Array.from(ids, id => this.#piece(id, false)))
    if (this.#spacePrefix && bytes[0] === 0x20) bytes = bytes.subarray(1)
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
  }

  #piece(id: number, special: boolean): Uint8Array {
    const raw = this.#names[id]
    const type = this.#types[id]
    if (raw === undefined || (!special && (type === CONTROL || type === UNKNOWN || type === UNUSED))) {
      return new Uint8Array(0)
    }
    if (typeof raw !== 'string') return raw
    if (type === BYTE) {
      const byte = /^<0x([0-9A-F]{2})>$/.exec(raw)
      return byte === null ? new Uint8Array(0) : Uint8Array.of(Number.parseInt(byte[1]!, 16))
    }
    if (this.#spm) return Buffer.from(type === NORMAL ? raw.replaceAll(MARK, ' ') : raw)
    const plain = (type === NORMAL || type === USER_DEFINED) && [...raw].every(c => BYTE_OF.has(c))
    return plain ? Uint8Array.from([...raw], c => BYTE_OF.get(c)!) : Buffer.from(raw)
  }
}
