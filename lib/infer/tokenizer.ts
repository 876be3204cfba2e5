/**
 * The tokenizer of a model file, as servers use it: native/infer/tokenizer.h behind checked calls. The vocabulary never becomes
 * JavaScript objects.
 */
import { messageOf, ZgError } from '../base/errors.ts'
import type { NativeGrammar } from './native.ts'
import type { Tokenizer } from './types.ts'

/** Text of one call, in UTF-8; engines bound it further by the context. native/infer/tokenizer.h has the same. */
export const MAX_TEXT_BYTES = 16 * 1024 * 1024
/** Ids of one decode. */
export const MAX_DECODE_IDS = 4_194_304

/** What infer.node exports for this file (native/napi/tokenizer_napi.cpp). */
export interface TokenizerAddon {
  Tokenizer: new (path: string, pre?: string) => NativeTokenizer
}

interface NativeTokenizer {
  info(): {
    model: string
    size: number
    bosId?: number
    eosId?: number
    eotId?: number
    eomId?: number
    unknownId?: number
    paddingId?: number
    endIds: Int32Array
    addBos: boolean
    addEos: boolean
    spacePrefix: boolean
    unicode: string
    chatTemplate?: Uint8Array
    warnings: string[]
  }
  encode(text: string, special: boolean): Int32Array
  encodeGuarded(text: string, mark: string): Int32Array
  guard(text: string, mark: string): string
  piece(id: number, special: boolean): Uint8Array
  decode(ids: Int32Array, special: boolean): Uint8Array
  compile(words: Uint32Array): Promise<NativeGrammar>
}

export interface TokenizerInfo {
  /** `llama` or `gpt2`. */
  readonly model: string
  readonly vocabularySize: number
  readonly bosId: number | undefined
  readonly eosId: number | undefined
  readonly eotId: number | undefined
  /** Ids that end an answer, ascending: those that the file names, and tokens known by their name. */
  readonly endIds: readonly number[]
  /** A prompt starts with BOS. */
  readonly addBos: boolean
  /** The template in the file; undefined when it has none. */
  readonly chatTemplate: string | undefined
  /** What is odd about the vocabulary but can be lived with, for the log. */
  readonly warnings: readonly string[]
  /** Version of the property tables. */
  readonly unicode: string
}

export interface ModelTokenizer extends Tokenizer {
  readonly info: TokenizerInfo
  /**
   * Text for {@link encodeGuarded} from which no control token can come.
   * @param mark - 1 to 64 bytes that occur in no text and no name of a token.
   */
  guard(text: string, mark: string): string
  /** Ids of text, parts of which were guarded: control tokens by name in the rest. The marks are left out. */
  encodeGuarded(text: string, mark: string): Int32Array
  /** A plain text prompt: what users wrote, so without control tokens, after BOS where the model asks for it. */
  prompt(text: string): Int32Array
  /** The text of a control token, '' for undefined. */
  name(id: number | undefined): string
  /** An automaton (lib/infer/grammar) for this vocabulary. @throws {ZgError} ERR_BAD_INPUT when no text of it ever ends. */
  grammar(words: Uint32Array): Promise<NativeGrammar>
}

const loose = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true })

/**
 * Reads the vocabulary of a GGUF file.
 * @param options.pre - a pre-tokenizer instead of the one that the file names.
 * @throws {ZgError} ERR_BAD_INPUT when the file is no GGUF, or its vocabulary is of an unknown kind or wrong in itself.
 */
export function openTokenizer(addon: TokenizerAddon, path: string, options: { pre?: string } = {}): ModelTokenizer {
  let native: NativeTokenizer
  try {
    native = options.pre === undefined ? new addon.Tokenizer(path) : new addon.Tokenizer(path, options.pre)
  } catch (err) {
    throw new ZgError('ERR_BAD_INPUT', `cannot read the vocabulary of '${path}': ${messageOf(err)}`, { cause: err })
  }
  const raw = native.info()
  const info: TokenizerInfo = {
    model: raw.model,
    vocabularySize: raw.size,
    bosId: raw.bosId,
    eosId: raw.eosId,
    eotId: raw.eotId,
    endIds: [...raw.endIds],
    addBos: raw.addBos,
    chatTemplate: raw.chatTemplate === undefined ? undefined : loose.decode(raw.chatTemplate),
    warnings: raw.warnings,
    unicode: raw.unicode
  }
  const encode = (text: string, special = false): Int32Array => bounded(() => native.encode(text, special))
  return {
    info,
    encode,
    encodeGuarded: (text, mark) => bounded(() => native.encodeGuarded(text, mark)),
    guard: (text, mark) => bounded(() => native.guard(text, mark)),
    piece: (id, special = false) => native.piece(id, special),
    decode: ids => {
      if (ids.length > MAX_DECODE_IDS) {
        throw new ZgError('ERR_BAD_INPUT', `${ids.length} ids at once, at most ${MAX_DECODE_IDS}`)
      }
      return loose.decode(native.decode(ids instanceof Int32Array ? ids : Int32Array.from(ids), false))
    },
    prompt: text => withBos(info, encode(text)),
    name: id => (id === undefined ? '' : loose.decode(native.piece(id, true))),
    grammar: words =>
      native.compile(words).catch((err: unknown) => {
        throw new ZgError('ERR_BAD_INPUT', messageOf(err), { cause: err })
      })
  }
}

/** Ids with BOS in front where the model asks for it, unless it is there already. */
export function withBos(info: Pick<TokenizerInfo, 'addBos' | 'bosId'>, ids: Int32Array): Int32Array {
  if (!info.addBos || info.bosId === undefined || ids[0] === info.bosId) return ids
  const out = new Int32Array(ids.length + 1)
  out[0] = info.bosId
  out.set(ids, 1)
  return out
}

/** A text that the native part refuses for its length is bad input, anything else a bug. */
function bounded<T>(call: () => T): T {
  try {
    return call()
  } catch (err) {
    if (err instanceof RangeError) throw new ZgError('ERR_BAD_INPUT', messageOf(err), { cause: err })
    throw err
  }
}
