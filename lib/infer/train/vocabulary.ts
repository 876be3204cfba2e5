/**
 * Byte-level BPE: learning merges from counted pieces, and encoding with them. Follows the cut and the byte alphabet that GGUF calls
 * tokenizer model "gpt2", pre "gpt-2", so that any engine encodes text to the same ids.
 */

export interface Vocabulary {
  /** Texts in the byte alphabet, the id is the place. */
  tokens: string[]
  /** GGUF's kinds of token. */
  types: number[]
  /** Pairs of ids in the order in which they were joined. */
  merges: [left: number, right: number][]
}

/** The cut into pieces; merges never cross a piece's border. */
export const PIECES = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu

export const OPENING = 0
export const END = 1
const FIRST_BYTE = 2
const NORMAL = 1
const CONTROL = 3

/** Printable stand-ins of the 256 bytes: printable Latin-1 stands for itself, the other 68 are U+0100 and up. */
const ALPHABET = (() => {
  let next = 0x100
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    return String.fromCodePoint(printable ? byte : next++)
  })
})()

const utf8 = new TextEncoder()
const bytesOf = (piece: string): number[] => [...utf8.encode(piece)].map(byte => byte + FIRST_BYTE)

/** Pairs of ids as one number; ids stay below 2^16. */
const pairKey = (left: number, right: number): number => left * 65_536 + right

/** Replaces the pair wherever it stands in `ids`, leftmost first. */
const join = (ids: readonly number[], left: number, right: number, id: number): number[] => {
  const out: number[] = []
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === left && ids[i + 1] === right) {
      out.push(id)
      i++
    } else {
      out.push(ids[i]!)
    }
  }
  return out
}

/**
 * Learns a vocabulary. The most frequent pair is merged until `size` tokens exist; on equal counts the smaller ids win.
 * @param counts - pieces and how often they occur.
 * @param size - tokens, the two control tokens and 256 bytes included.
 */
export function learnVocabulary(counts: ReadonlyMap<string, number>, size: number): Vocabulary {
  const tokens = ['<s>', '</s>', ...ALPHABET]
  const merges: [number, number][] = []
  const words = [...counts].map(([piece, count]) => ({ ids: bytesOf(piece), count }))
  const pairs = new Map<number, number>()
  const places = new Map<number, Set<number>>()
  const note = (word: number, sign: number): void => {
    const { ids, count } = words[word]!
    for (let i = 0; i + 1 < ids.length; i++) {
      const key = pairKey(ids[i]!, ids[i + 1]!)
      pairs.set(key, (pairs.get(key) ?? 0) + sign * count)
      if (sign > 0) {
        if (!places.has(key)) places.set(key, new Set())
        places.get(key)!.add(word)
      }
    }
  }
  for (let word = 0; word < words.length; word++) note(word, 1)
  while (tokens.length < size) {
    let best = -1
    let most = 1
    for (const [key, count] of pairs) {
      if (count > most || (count === most && count > 1 && key < best)) {
        best = key
        most = count
      }
    }
    if (best < 0) break
    const left = Math.floor(best / 65_536)
    const right = best % 65_536
    const id = tokens.length
    tokens.push(tokens[left]! + tokens[right]!)
    merges.push([left, right])
    for (const word of places.get(best)!) {
      note(word, -1)
      words[word]!.ids = join(words[word]!.ids, left, right, id)
      note(word, 1)
    }
    pairs.delete(best)
    places.delete(best)
  }
  return { tokens, types: tokens.map((_, id) => (id < FIRST_BYTE ? CONTROL : NORMAL)), merges }
}

/** An encoder for text without control tokens. */
export function encoderOf(vocabulary: Vocabulary): (text: string) => number[] {
  const ranks = new Map(vocabulary.merges.map(([left, right], rank) => [pairKey(left, right), rank]))
  const firstMerge = FIRST_BYTE + 256
  const known = new Map<string, number[]>()
  const encodePiece = (piece: string): number[] => {
    let ids = known.get(piece)
    if (ids !== undefined) return ids
    ids = bytesOf(piece)
    for (;;) {
      let rank = Number.POSITIVE_INFINITY
      for (let i = 0; i + 1 < ids.length; i++) rank = Math.min(rank, ranks.get(pairKey(ids[i]!, ids[i + 1]!)) ?? rank)
      if (rank === Number.POSITIVE_INFINITY) break
      const [left, right] = vocabulary.merges[rank]!
      ids = join(ids, left, right, firstMerge + rank)
    }
    known.set(piece, ids)
    return ids
  }
  return text => (text.match(PIECES) ?? []).flatMap(encodePiece)
}

/** Bytes of ids as text; control tokens give nothing. */
export function decode(tokens: readonly string[], ids: readonly number[]): string {
  const byteOf = new Map(ALPHABET.map((character, byte) => [character, byte]))
  const bytes = ids.filter(id => id >= FIRST_BYTE).flatMap(id => [...tokens[id]!].map(c => byteOf.get(c) ?? 0x3f))
  return new TextDecoder().decode(Uint8Array.from(bytes))
}

/** Adds the pieces of a text to what was counted. `times`: what one occurrence counts. */
export function countPieces(counts: Map<string, number>, text: string, times = 1): void {
  for (const [piece] of text.matchAll(PIECES)) counts.set(piece, (counts.get(piece) ?? 0) + times)
}

const escaped = (text: string): string => text.replace(/[\\\n]/g, c => (c === '\n' ? '\\n' : '\\\\'))

/** Lines for `zg-train new --metadata`. Numbers with a fraction become floats. */
export function metadataLines(vocabulary: Vocabulary, entries: Record<string, string | number | boolean>): string {
  const lines = Object.entries(entries).map(([key, value]) => {
    if (typeof value === 'boolean') return `b ${key} ${value ? 1 : 0}`
    if (typeof value === 'number') return `${Number.isInteger(value) ? 'u' : 'f'} ${key} ${value}`
    return `s ${key} ${escaped(value)}`
  })
  vocabulary.tokens.forEach((token, id) => {
    lines.push(`t ${vocabulary.types[id]} ${token}`)
  })
  for (const [left, right] of vocabulary.merges) lines.push(`m ${vocabulary.tokens[left]} ${vocabulary.tokens[right]}`)
  return `${lines.join('\n')}\n`
}
