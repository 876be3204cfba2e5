/** From files to what the trainer reads: the tokens, and for a new model its vocabulary and its first weights. */
import { createReadStream, createWriteStream } from 'node:fs'
import { open, readFile, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { formatCount } from '../../../lib/base/units.ts'
import type { VerbContext } from '../../../lib/cli/types.ts'
import { templateOf } from '../../../lib/infer/chat-template.ts'
import { inferAddon } from '../../../lib/infer/native.ts'
import { openTokenizer } from '../../../lib/infer/tokenizer.ts'
import { addSample, addText, emptySet, FAULTS_SHOWN, SampleReader } from '../../../lib/infer/train/dataset.ts'
import { type TokenFile, type TokenSet, tokenFile } from '../../../lib/infer/train/token-file.ts'
import { countPieces, learnVocabulary, metadataLines } from '../../../lib/infer/train/vocabulary.ts'

/** A plain text file: it is held as one string. */
export const TEXT_MAX_BYTES = 256 * 1024 * 1024

export interface Source {
  /** As the user named it. */
  name: string
  path: string
}

/** Standard input becomes a file: it is read twice when a vocabulary is learnt, and again by nobody. */
export async function sourcesOf(ctx: VerbContext, names: readonly string[], folder: string): Promise<Source[]> {
  const sources: Source[] = []
  for (const name of names) {
    if (name === '-') {
      const path = join(folder, 'stdin')
      await pipeline(ctx.stdin, createWriteStream(path))
      sources.push({ name: 'stdin', path })
      continue
    }
    const found = await stat(name).catch(() => undefined)
    if (found === undefined) throw new ZgError('ERR_NO_INPUT', `cannot open '${name}': no such file or directory`)
    if (!found.isFile()) throw new ZgError('ERR_BAD_INPUT', `'${name}' is no file`)
    sources.push({ name, path: name })
  }
  return sources
}

async function readText({ name, path }: Source): Promise<string> {
  const bytes = await readFile(path)
  if (bytes.length > TEXT_MAX_BYTES)
    throw new ZgError('ERR_BAD_INPUT', `'${name}' has more than ${TEXT_MAX_BYTES} bytes`)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (err) {
    throw new ZgError('ERR_BAD_INPUT', `'${name}' is no UTF-8`, { cause: err })
  }
}

async function* linesOf(source: Source, signal: AbortSignal): AsyncGenerator<[number: number, line: string]> {
  let number = 0
  for await (const line of createInterface({
    input: createReadStream(source.path),
    crlfDelay: Number.POSITIVE_INFINITY
  })) {
    signal.throwIfAborted()
    number++
    if (line.trim() !== '') yield [number, number === 1 ? line.replace(/^\ufeff/, '') : line]
  }
}

/** Texts of a JSON value, wherever they stand. */
function* textsOf(value: unknown, depth = 0): Generator<string> {
  if (typeof value === 'string') yield value
  else if (typeof value === 'object' && value !== null && depth < 8) {
    for (const inner of Object.values(value)) yield* textsOf(inner, depth + 1)
  }
}

/** Learns a vocabulary from the sources and writes it as metadata lines. @returns its size. */
export async function writeVocabulary(
  ctx: VerbContext,
  sources: readonly Source[],
  plain: boolean,
  size: number,
  name: string,
  path: string
): Promise<number> {
  const counts = new Map<string, number>()
  for (const source of sources) {
    if (plain) {
      countPieces(counts, await readText(source))
      continue
    }
    for await (const [, line] of linesOf(source, ctx.signal)) {
      let value: unknown
      try {
        value = JSON.parse(line)
      } catch {
        // Named with all other faulty lines when they are read in earnest.
        continue
      }
      for (const text of textsOf(value)) countPieces(counts, text)
    }
  }
  ctx.say(`learning a vocabulary of ${formatCount(size)} tokens from ${formatCount(counts.size)} different words`)
  const vocabulary = learnVocabulary(counts, size)
  await writeFile(
    path,
    metadataLines(vocabulary, {
      'general.name': name,
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'gpt-2',
      'tokenizer.ggml.bos_token_id': 0,
      'tokenizer.ggml.eos_token_id': 1,
      'tokenizer.ggml.add_bos_token': true,
      'tokenizer.ggml.add_eos_token': false
    })
  )
  return vocabulary.tokens.length
}

export interface DatasetOptions {
  plain: boolean
  context: number
  heldOutShare: number
  validation: readonly Source[]
}

/**
 * Tokens of all sources into a file.
 * @throws {ZgError} ERR_BAD_INPUT after every faulty line was named.
 */
export async function writeTokens(
  ctx: VerbContext,
  model: string,
  sources: readonly Source[],
  o: DatasetOptions,
  path: string
): Promise<void> {
  const tokenizer = openTokenizer(inferAddon(), model)
  const share = o.validation.length > 0 ? 0 : o.heldOutShare
  const { addBos, bosId, vocabularySize } = tokenizer.info
  const file: TokenFile = o.plain
    ? { vocabularySize, opening: addBos ? bosId : undefined, kind: 'streams', sets: [] }
    : { vocabularySize, opening: undefined, kind: 'samples', sets: [] }
  const sets: TokenSet[] = []
  if (o.plain) {
    for (const source of sources) {
      const set = emptySet(basename(source.name))
      addText(set, tokenizer, await readText(source), share)
      if (set.training.tokens.length < 2)
        throw new ZgError('ERR_BAD_INPUT', `'${source.name}' holds no text to learn from`)
      set.weight = set.training.tokens.length
      sets.push(set)
    }
    for (const source of o.validation) {
      const held = emptySet('')
      addText(held, tokenizer, await readText(source), 0)
      // Held-out text of its own belongs to the first set that has none.
      const set = sets.find(s => s.heldOut.tokens.length === 0)
      if (set === undefined)
        throw new ZgError('ERR_USAGE', 'there are more files to check with than files to learn from')
      Object.assign(set, { heldOut: held.training, heldOutBytes: Buffer.byteLength(await readText(source)) })
    }
  } else {
    const set = emptySet('samples')
    const reader = new SampleReader(tokenizer, templateOf(tokenizer), o.context)
    const every = share > 0 ? Math.max(2, Math.round(1 / share)) : Number.POSITIVE_INFINITY
    let faults = 0
    let count = 0
    const read = async (list: readonly Source[], held: boolean): Promise<void> => {
      for (const source of list) {
        for await (const [number, line] of linesOf(source, ctx.signal)) {
          try {
            const samples = reader.line(line)
            const out = held || (share > 0 && count % every === Math.floor(every / 2))
            count++
            for (const sample of samples) addSample(out ? set.heldOut : set.training, sample)
          } catch (err) {
            if (!(err instanceof ZgError) || err.code !== 'ERR_BAD_INPUT') throw err
            faults++
            if (faults <= FAULTS_SHOWN) ctx.warn(`${source.name}:${number}: ${messageOf(err)}`)
          }
        }
      }
    }
    await read(sources, false)
    await read(o.validation, true)
    if (faults > 0) {
      throw new ZgError('ERR_BAD_INPUT', `${formatCount(faults)} of the lines cannot be used`, {
        hint: 'each is named above, at most 20 of them'
      })
    }
    if (set.training.starts.length === 0) throw new ZgError('ERR_BAD_INPUT', 'there are no samples to learn from')
    if (reader.cut > 0) {
      ctx.warn(`longer than the context of ${o.context} tokens and cut: ${formatCount(reader.cut)} samples`)
    }
    sets.push(set)
  }
  const out = await open(path, 'w')
  try {
    for (const piece of tokenFile({ ...file, sets })) await out.write(piece)
    await out.sync()
  } finally {
    await out.close()
  }
}
