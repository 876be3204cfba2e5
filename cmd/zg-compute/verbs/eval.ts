/**
 * `zg-compute eval --jsonl`: answers about models for checkers and scripts, one JSON request a line on stdin, one answer a line on
 * stdout, matched by `id`. What fails is answered `{"id","error"}`; the next line is read all the same.
 */
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import type { EvalEngine } from '../eval/engine.ts'
import { EVAL_LINE_MAX_BYTES, type EvalRequest, readRequest } from '../eval/request.ts'

export const evaluate: VerbFn = async (ctx, _args, opts) => {
  if (opts.jsonl !== true) {
    throw new ZgError('ERR_USAGE', 'the only form so far is JSON lines', { hint: "add '--jsonl'" })
  }
  const engine =
    opts.engine === 'reference'
      ? (await import('../eval/reference.ts')).referenceEngine()
      : (await import('../eval/native.ts')).nativeEngine({
          ...(opts.threads === undefined ? {} : { threads: opts.threads as number }),
          ...(opts.context === undefined ? {} : { context: opts.context as number })
        })
  try {
    for await (const line of lines(ctx.stdin)) {
      if (line.length > 0) await ctx.write(Buffer.from(`${await answer(engine, line)}\n`))
    }
  } finally {
    await engine.close()
  }
}

/** Lines without their ends, white space around them left out. @throws {ZgError} ERR_BAD_INPUT for one that is too long. */
async function* lines(input: AsyncIterable<Uint8Array | string>): AsyncGenerator<string> {
  let parts: Buffer[] = []
  let held = 0
  for await (const chunk of input) {
    let rest = typeof chunk === 'string' ? Buffer.from(chunk) : Buffer.from(chunk)
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      yield Buffer.concat([...parts, rest.subarray(0, end)])
        .toString()
        .trim()
      parts = []
      held = 0
      rest = rest.subarray(end + 1)
    }
    parts.push(rest)
    held += rest.length
    if (held > EVAL_LINE_MAX_BYTES) {
      throw new ZgError('ERR_BAD_INPUT', `a line has more than ${EVAL_LINE_MAX_BYTES} bytes`)
    }
  }
  yield Buffer.concat(parts).toString().trim()
}

async function answer(engine: EvalEngine, line: string): Promise<string> {
  let id: unknown = null
  try {
    const value: unknown = JSON.parse(line)
    id = (value as { id?: unknown } | null)?.id ?? null
    return JSON.stringify({ id, ...(await run(engine, readRequest(value))) })
  } catch (err) {
    return JSON.stringify({ id, error: messageOf(err) })
  }
}

async function run(engine: EvalEngine, r: EvalRequest): Promise<Record<string, unknown>> {
  switch (r.op) {
    case 'dequantize':
      return { values: [...(await engine.dequantize(r.type, r.blocks))] }
    case 'tokenize':
      return { tokens: [...(await engine.tokenize(r.model, r.text, r.special))] }
    case 'detokenize':
      return { text: await engine.detokenize(r.model, r.tokens) }
    case 'chat': {
      const { messages, tools, addGenerationPrompt } = r
      const { text, tokens } = await engine.chat(r.model, messages, { addGenerationPrompt, tools })
      return { text, tokens: [...tokens] }
    }
    case 'logits': {
      const logits = await engine.logits(r.model, r.tokens)
      const strange = r.ids.find(i => i >= logits.length)
      if (strange !== undefined) {
        throw new ZgError('ERR_BAD_INPUT', `token ${strange} is not one of the vocabulary's ${logits.length}`)
      }
      return { top: Array.from(r.ids, i => [i, logits[i]]) }
    }
    case 'force':
      return { argmax: await engine.force(r.model, r.tokens, r.follow) }
    case 'greedy':
      return { tokens: await engine.greedy(r.model, r.tokens, r.count) }
    case 'trace':
      return { digest: toHex(await engine.trace(r.model, r.tokens, r.follow)) }
  }
}
