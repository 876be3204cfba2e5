/**
 * Token bytes to streamed text: whole characters only, and never a part of what may become a stop string. Whatever the pieces,
 * the texts joined are the text of all bytes joined, cut before the first stop string. Source: inference.md 7.3.
 */
import type { Tokenizer } from './types.ts'

/** The bytes of a token. */
export interface Piece {
  readonly bytes: Uint8Array
  /** Their text, where all of them are ASCII. */
  readonly ascii?: string
}

/** Entries of {@link PieceCache}: bytes and text of a token take about 200 bytes. */
export const PIECES_MAX = 8_192

/** What tokens say, those that were asked for lately: a call into the native part for each token of each stream costs more than its text. */
export class PieceCache {
  readonly #tokenizer: Pick<Tokenizer, 'piece'>
  readonly #kept = new Map<number, Piece>()

  constructor(tokenizer: Pick<Tokenizer, 'piece'>) {
    this.#tokenizer = tokenizer
  }

  /** @param special - control tokens have their names. */
  get(id: number, special: boolean): Piece {
    const key = 2 * id + (special ? 1 : 0)
    const known = this.#kept.get(key)
    if (known !== undefined) return known
    const made = pieceOf(this.#tokenizer.piece(id, special))
    // Which of them goes does not matter much.
    if (this.#kept.size >= PIECES_MAX) this.#kept.delete(this.#kept.keys().next().value!)
    this.#kept.set(key, made)
    return made
  }
}

export function pieceOf(bytes: Uint8Array): Piece {
  return bytes.every(b => b < 0x80) ? { bytes, ascii: String.fromCharCode(...bytes) } : { bytes }
}

interface Stop {
  text: string
  bytes: Uint8Array
}

/**
 * One answer's text. Stop strings are matched on bytes, across tokens. The one that is complete first ends the text; of several
 * that end at the same byte the longest.
 *
 *   const out = new TextStream(['###'])
 *   for (const piece of pieces) { emit(out.push(piece)); if (out.stopped !== undefined) break }
 *   emit(out.finish())
 */
export class TextStream {
  /** The stop string that was met; nothing is emitted after it. */
  stopped: string | undefined
  /** Longest first. */
  readonly #stops: Stop[]
  readonly #keepStop: boolean
  /** Bytes that are not decoded yet: the longest suffix of all bytes that is the beginning of a stop string. */
  #held = new Uint8Array(0)
  // Keeps up to three bytes of an unfinished character, and gives U+FFFD once for each maximal bad part.
  readonly #decoder = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true })

  /** No unfinished character is in the decoder. */
  #whole = true

  /** @param stops - empty ones are ignored. @param o.keepStop - the stop string that was met is emitted. */
  constructor(stops: readonly string[] = [], o: { keepStop?: boolean } = {}) {
    this.#keepStop = o.keepStop === true
    const encoder = new TextEncoder()
    this.#stops = stops
      .filter(text => text !== '')
      .map(text => ({ text, bytes: encoder.encode(text) }))
      .sort((a, b) => b.bytes.length - a.bytes.length)
  }

  /**
   * Takes the bytes of a token.
   * @returns the text that is certain now, often that token's own.
   */
  push(token: Piece | Uint8Array): string {
    if (this.stopped !== undefined) return ''
    const piece: Piece = token instanceof Uint8Array ? { bytes: token } : token
    const { bytes } = piece
    if (this.#stops.length === 0) {
      if (piece.ascii !== undefined && this.#whole) return piece.ascii
      this.#whole = bytes.length > 0 ? bytes.at(-1)! < 0x80 : this.#whole
      return this.#decoder.decode(bytes, { stream: true })
    }
    const all = new Uint8Array(this.#held.length + bytes.length)
    all.set(this.#held)
    all.set(bytes, this.#held.length)
    // A stop string that ends in the new bytes begins in them or in what is held.
    for (let end = this.#held.length + 1; end <= all.length; end++) {
      const stop = this.#stops.find(s => s.bytes.length <= end && equal(all, end - s.bytes.length, s.bytes))
      if (stop === undefined) continue
      this.stopped = stop.text
      this.#held = new Uint8Array(0)
      return this.#decoder.decode(all.subarray(0, this.#keepStop ? end : end - stop.bytes.length))
    }
    const keep = this.#open(all)
    this.#held = all.slice(keep)
    return this.#decoder.decode(all.subarray(0, keep), { stream: true })
  }

  /** The rest at the end of an answer: what was held back, an unfinished character as U+FFFD. */
  finish(): string {
    if (this.stopped !== undefined) return ''
    const rest = this.#decoder.decode(this.#held)
    this.#held = new Uint8Array(0)
    return rest
  }

  /** Where the longest suffix starts that is the beginning of a stop string; the length when there is none. */
  #open(all: Uint8Array): number {
    const longest = this.#stops[0]!.bytes.length
    for (let at = Math.max(0, all.length - longest + 1); at < all.length; at++) {
      const size = all.length - at
      if (this.#stops.some(s => s.bytes.length > size && equal(all, at, s.bytes.subarray(0, size)))) return at
    }
    return all.length
  }
}

/** Whether `part` stands at `at`; it fits. */
function equal(all: Uint8Array, at: number, part: Uint8Array): boolean {
  for (let i = 0; i < part.length; i++) if (all[at + i] !== part[i]) return false
  return true
}
