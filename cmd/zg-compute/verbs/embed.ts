/** `zg-compute embed`: texts to vectors, one a line. */
import { ZgError } from '../../../lib/base/errors.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { inWords, refusal } from '../../../lib/clients/compute/answer.ts'
import { readPrompt } from './common.ts'

/** Texts that are asked for at once. */
const BATCH = 64
/** Where a plain server of this machine listens unless told otherwise. */
export const LOCAL_URL = 'http://127.0.0.1:3080/v1'

/** With an argument one text, from a pipe one a line. */
export async function embed(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const base = ((opts.url as string | undefined) ?? LOCAL_URL).replace(/\/+$/, '')
  const text = await readPrompt(ctx, args)
  const texts = args.length > 0 ? [text] : text.split(/\r?\n/).filter(line => line !== '')
  let index = 0
  for (let at = 0; at < texts.length; at += BATCH) {
    const input = texts.slice(at, at + BATCH)
    const answer = await post(ctx, base, {
      input,
      ...(opts.model === undefined ? {} : { model: opts.model }),
      ...(opts.dimensions === undefined ? {} : { dimensions: opts.dimensions })
    })
    for (const vector of answer.vectors) {
      const record = { type: 'embedding', index, text: texts[index]!, model: answer.model, embedding: vector }
      ctx.print(record, vector.map(x => Number(x.toPrecision(7))).join(' '))
      index++
    }
  }
}

async function post(ctx: VerbContext, base: string, body: object): Promise<{ model: string; vectors: number[][] }> {
  try {
    const res = await fetch(`${base}/embeddings`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      redirect: 'error',
      signal: ctx.signal
    })
    if (!res.ok) throw await refusal(res, base)
    const { model, data } = (await res.json()) as { model?: unknown; data?: { index?: unknown; embedding?: unknown }[] }
    const vectors: number[][] = []
    for (const entry of data ?? []) {
      const { embedding } = entry
      if (!Array.isArray(embedding) || !embedding.every(x => typeof x === 'number')) break
      vectors[Number(entry.index)] = embedding as number[]
    }
    if (vectors.length !== (body as { input: string[] }).input.length || vectors.includes(undefined as never)) {
      throw new ZgError('ERR_PROTOCOL', `${base} answers without a vector for each text`)
    }
    return { model: String(model ?? ''), vectors }
  } catch (err) {
    throw inWords(err, base, ctx.signal)
  }
}
