/** `POST /v1/embeddings` (inference.md 10 and 11): texts as vectors of length 1. */
import {
  ApiError,
  type Fields,
  ids as idsOf,
  integer,
  MAX_PROMPTS,
  text,
  unsupported,
  wrong
} from '../../../lib/infer/openai.ts'
import type { Engine } from '../../../lib/infer/types.ts'

/** Texts of one request. */
export const MAX_EMBEDDINGS = 2_048

/** @throws {ApiError} 400 naming the field. */
export async function embeddings(
  engine: Engine,
  model: string,
  body: Fields,
  o: { account: string; signal: AbortSignal }
): Promise<object> {
  if (engine.embed === undefined) throw unsupported('model', 'gives no embeddings')
  const format = text(body, 'encoding_format') ?? 'float'
  if (format !== 'float' && format !== 'base64') throw wrong('encoding_format', 'is neither float nor base64')
  const dimensions = integer(body, 'dimensions', 1, engine.info.embeddingLength)
  const truncate = integer(body, 'truncate_prompt_tokens', 1, 2 ** 31 - 1)
  const pooling = text(body, 'pooling') ?? 'mean'
  if (pooling !== 'mean' && pooling !== 'last') throw wrong('pooling', 'is neither mean nor last')
  const inputs = inputsOf(body.input, engine)
  const prompts = inputs.map(one => {
    const ids = typeof one === 'string' ? engine.textPrompt(one) : one
    const cut = truncate === undefined ? ids : ids.slice(0, Math.min(truncate, engine.info.contextLength))
    if (cut.length === 0) throw wrong('input', 'has an empty text')
    if (cut.length > engine.info.contextLength) {
      throw new ApiError(400, `a text has ${cut.length} tokens, '${model}' takes ${engine.info.contextLength}`, {
        code: 'context_length_exceeded',
        param: 'input'
      })
    }
    return cut
  })
  const vectors: Float32Array[] = []
  // A few at once: the engine shares its steps between them.
  for (let at = 0; at < prompts.length; at += MAX_PROMPTS) {
    const part = prompts.slice(at, at + MAX_PROMPTS)
    vectors.push(
      ...(await Promise.all(part.map(p => engine.embed!(p, { pooling, account: o.account, signal: o.signal }))))
    )
  }
  const promptTokens = prompts.reduce((sum, p) => sum + p.length, 0)
  return {
    object: 'list',
    data: vectors.map((v, index) => ({ object: 'embedding', index, embedding: written(cutTo(v, dimensions), format) })),
    model,
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens }
  }
}

function inputsOf(input: unknown, engine: Engine): (string | Int32Array)[] {
  const limits = { maxTokens: engine.info.contextLength, vocabularySize: engine.info.vocabularySize }
  if (typeof input === 'string') return [input]
  if (!Array.isArray(input) || input.length === 0)
    throw wrong('input', 'is not a string, list of strings or list of ids')
  if (typeof input[0] === 'number') return [idsOf(input, limits, 'input')]
  if (input.length > MAX_EMBEDDINGS) throw wrong('input', `has more than ${MAX_EMBEDDINGS} texts`)
  return input.map((one: unknown) => {
    if (typeof one === 'string') return one
    if (!Array.isArray(one)) throw wrong('input', 'has an entry that is neither text nor ids')
    return idsOf(one, limits, 'input')
  })
}

/** The first numbers of a vector, made a vector of length 1 again. */
function cutTo(v: Float32Array, dimensions: number | undefined): Float32Array {
  if (dimensions === undefined || dimensions === v.length) return v
  const cut = v.slice(0, dimensions)
  let sum = 0
  for (const x of cut) sum += x * x
  return sum > 0 ? cut.map(x => x / Math.sqrt(sum)) : cut
}

/** Little-endian floats in base64, or numbers. */
function written(v: Float32Array, format: string): string | number[] {
  if (format === 'float') return [...v]
  const out = Buffer.alloc(v.length * 4)
  for (const [i, x] of v.entries()) out.writeFloatLE(x, 4 * i)
  return out.toString('base64')
}
