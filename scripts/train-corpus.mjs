// Writes what the trainer reads: the token file (layout in corpus.h). Imports TypeScript: run with `node --import tsx`.

import { END, encoderOf, learnVocabulary, OPENING, PIECES } from '../lib/infer/train/vocabulary.ts'

const BREAK = '\n\n'
/** Of corpus.h: the mark of a target, and the kind of file. */
const COUNTS = 0x80000000
const STREAMS = 0

/** Counts pieces of the training text; each set counts as much as its weight says. */
const countPieces = sets => {
  const counts = new Map()
  for (const set of sets) {
    const size = set.training.reduce((sum, paragraphs) => sum + paragraphs.join(BREAK).length, 0)
    const scale = (set.weight / size) * 1e7
    const own = new Map()
    for (const paragraphs of set.training) {
      for (const piece of paragraphs.join(BREAK).match(PIECES) ?? []) own.set(piece, (own.get(piece) ?? 0) + 1)
    }
    for (const [piece, count] of own) counts.set(piece, (counts.get(piece) ?? 0) + Math.ceil(count * scale))
  }
  return counts
}

/** Tokens of documents one after another, each closed by the end token, and where paragraphs begin. */
const streamOf = (documents, encode) => {
  const tokens = []
  const starts = []
  let bytes = 0
  for (const paragraphs of documents) {
    paragraphs.forEach((paragraph, i) => {
      starts.push(tokens.length)
      const text = i + 1 < paragraphs.length ? paragraph + BREAK : paragraph
      for (const id of encode(text)) tokens.push(id)
      bytes += text.length
    })
    tokens.push(END)
  }
  return { tokens, starts, bytes }
}

/**
 * @param sets from readSets
 * @param {number} size of the vocabulary
 * @returns {{ vocabulary: object, file: Uint8Array, summary: object[] }}
 */
export const makeCorpus = (sets, size) => {
  const vocabulary = learnVocabulary(countPieces(sets), size)
  const encode = encoderOf(vocabulary)
  const u32 = value => Buffer.from(Uint32Array.of(value).buffer)
  const u64 = value => Buffer.from(BigUint64Array.of(BigInt(value)).buffer)
  const u32s = values => Buffer.from(Uint32Array.from(values).buffer)
  // Every token of a text is learnt.
  const learnt = tokens => u32s(tokens.map(id => id + COUNTS))
  const parts = [
    Buffer.from('ZGTOKENS'),
    u32(2),
    u32(vocabulary.tokens.length),
    u32(OPENING),
    u32(STREAMS),
    u32(sets.length)
  ]
  const summary = []
  for (const set of sets) {
    const training = streamOf(set.training, encode)
    const heldOut = streamOf(set.heldOut, encode)
    parts.push(
      u32(set.name.length),
      Buffer.from(set.name),
      Buffer.from(Float32Array.of(set.weight).buffer),
      u64(training.tokens.length),
      u64(training.starts.length),
      u64(heldOut.tokens.length),
      u64(heldOut.starts.length),
      u64(heldOut.bytes),
      learnt(training.tokens),
      u32s(training.starts),
      learnt(heldOut.tokens),
      u32s(heldOut.starts)
    )
    summary.push({
      set: set.name,
      documents: set.training.length,
      heldOutDocuments: set.heldOut.length,
      bytes: training.bytes,
      tokens: training.tokens.length,
      heldOutBytes: heldOut.bytes,
      heldOutTokens: heldOut.tokens.length
    })
  }
  return { vocabulary, file: Buffer.concat(parts), summary }
}

/** Lower-case words of the training text that occur at least `least` times, sorted. */
export const frequentWords = (sets, least) => {
  const counts = new Map()
  for (const set of sets) {
    for (const paragraphs of set.training) {
      for (const word of paragraphs
        .join(BREAK)
        .toLowerCase()
        .match(/[a-z]+/g) ?? []) {
        counts.set(word, (counts.get(word) ?? 0) + 1)
      }
    }
  }
  return [...counts]
    .filter(([, count]) => count >= least)
    .map(([word]) => word)
    .sort()
}
