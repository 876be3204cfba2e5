// Byte-level BPE: learning merges from counted pieces, and encoding with them. Follows the cut and the byte alphabet that
// GGUF calls tokenizer model "gpt2", pre "gpt-2", so that any engine encodes text to the same ids.

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
const bytesOf = piece => [...utf8.encode(piece)].map(byte => byte + FIRST_BYTE)

/** Pairs of ids as one number; ids stay below 2^16. */
const pairKey = (left, right) => left * 65_536 + right

/** Replaces the pair wherever it stands in `ids`, leftmost first. */
const join = (ids, left, right, id) => {
  const out = []
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === left && ids[i + 1] === right) {
      out.push(id)
      i++
    } else {
      out.push(ids[i])
    }
  }
  return out
}

/**
 * Learns a vocabulary. The most frequent pair is merged until `size` tokens exist; on equal counts the smaller ids win.
 * @param {Map<string, number>} counts pieces and how often they occur
 * @param {number} size tokens, the two control tokens and 256 bytes included
 */
export const learnVocabulary = (counts, size) => {
  const tokens = ['<s>', '</s>', ...ALPHABET]
  const merges = []
  const words = [...counts].map(([piece, count]) => ({ ids: bytesOf(piece), count }))
  const pairs = new Map()
  const places = new Map()
  const note = (word, sign) => {
    const { ids, count } = words[word]
    for (let i = 0; i + 1 < ids.length; i++) {
      const key = pairKey(ids[i], ids[i + 1])
      pairs.set(key, (pairs.get(key) ?? 0) + sign * count)
      if (sign > 0) {
        if (!places.has(key)) places.set(key, new Set())
        places.get(key).add(word)
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
    tokens.push(tokens[left] + tokens[right])
    merges.push([left, right])
    for (const word of places.get(best)) {
      note(word, -1)
      words[word].ids = join(words[word].ids, left, right, id)
      note(word, 1)
    }
    pairs.delete(best)
    places.delete(best)
  }
  return { tokens, types: tokens.map((_, id) => (id < FIRST_BYTE ? CONTROL : NORMAL)), merges }
}

/**
 * An encoder for text without control tokens.
 * @returns {(text: string) => number[]}
 */
export const encoderOf = vocabulary => {
  const ranks = new Map(vocabulary.merges.map(([left, right], rank) => [pairKey(left, right), rank]))
  const firstMerge = FIRST_BYTE + 256
  const known = new Map()
  const encodePiece = piece => {
    let ids = known.get(piece)
    if (ids !== undefined) return ids
    ids = bytesOf(piece)
    for (;;) {
      let rank = Number.POSITIVE_INFINITY
      for (let i = 0; i + 1 < ids.length; i++) rank = Math.min(rank, ranks.get(pairKey(ids[i], ids[i + 1])) ?? rank)
      if (rank === Number.POSITIVE_INFINITY) break
      const [left, right] = vocabulary.merges[rank]
      ids = join(ids, left, right, firstMerge + rank)
    }
    known.set(piece, ids)
    return ids
  }
  return text => (text.match(PIECES) ?? []).flatMap(encodePiece)
}

/** Bytes of ids as text; control tokens give nothing. */
export const decode = (tokens, ids) => {
  const byteOf = new Map(ALPHABET.map((character, byte) => [character, byte]))
  const bytes = ids.filter(id => id >= FIRST_BYTE).flatMap(id => [...tokens[id]].map(c => byteOf.get(c) ?? 0x3f))
  return new TextDecoder().decode(Uint8Array.from(bytes))
}
