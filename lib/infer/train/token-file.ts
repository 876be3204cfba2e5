/** Token files, as native/infer/train/corpus.h reads them. */

/** The mark of a token that is learnt: its top bit. */
export const COUNTS = 0x80000000
/** In place of an opening token: there is none. */
const NO_OPENING = 0xffffffff

/** Tokens with their marks, and where parts begin: samples, or paragraphs of a stream. */
export interface TokenList {
  readonly tokens: Tokens
  readonly starts: Tokens
}

/** A growing list of u32: a plain array takes eight bytes a number and more while it grows. */
export class Tokens {
  #values = new Uint32Array(1024)
  length = 0

  push(value: number): void {
    if (this.length === this.#values.length) {
      const grown = new Uint32Array(this.length * 2)
      grown.set(this.#values)
      this.#values = grown
    }
    this.#values[this.length++] = value
  }

  get values(): Uint32Array {
    return this.#values.subarray(0, this.length)
  }
}

export function emptyList(): TokenList {
  return { tokens: new Tokens(), starts: new Tokens() }
}

export interface TokenSet {
  name: string
  /** Share of the windows. */
  weight: number
  training: TokenList
  heldOut: TokenList
  /** Of held-out text in UTF-8; 0: not counted. */
  heldOutBytes: number
}

export interface TokenFile {
  vocabularySize: number
  opening: number | undefined
  kind: 'streams' | 'samples'
  sets: readonly TokenSet[]
}

/** The file's bytes in pieces. */
export function* tokenFile(file: TokenFile): Generator<Uint8Array> {
  const u32 = (...values: number[]): Uint8Array => bytes(Uint32Array.from(values))
  const u64 = (...values: number[]): Uint8Array => new Uint8Array(BigUint64Array.from(values, BigInt).buffer)
  yield new TextEncoder().encode('ZGTOKENS')
  yield u32(2, file.vocabularySize, file.opening ?? NO_OPENING, file.kind === 'samples' ? 1 : 0, file.sets.length)
  for (const { name, weight, training, heldOut, heldOutBytes } of file.sets) {
    // The name comes back inside JSON that is put together by hand.
    const plain = new TextEncoder().encode(name.replace(/[^\x20-\x7e]|["\\]/g, '_').slice(0, 200))
    yield u32(plain.length)
    yield plain
    yield new Uint8Array(Float32Array.of(weight).buffer)
    yield u64(
      training.tokens.length,
      training.starts.length,
      heldOut.tokens.length,
      heldOut.starts.length,
      heldOutBytes
    )
    for (const list of [training.tokens, training.starts, heldOut.tokens, heldOut.starts]) yield bytes(list.values)
  }
}

function bytes(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
}
