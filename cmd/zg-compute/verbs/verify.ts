/**
 * `zg-compute verify`: computes an answer again from its transcript. The model reads prompt and answer as one prompt, which is several times
 * faster than making the answer was; every state, draw and running hash is compared, and the first step that differs is named.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import { packageRoot } from '../../../lib/base/package-root.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import {
  merkleRoot,
  readTranscript,
  saltAt,
  type Transcript,
  tokensRoot,
  traceLeaf,
  traceStart
} from '../../../lib/codec/compute/trace.ts'
import type { DeviceChoice } from '../../../lib/infer/device.ts'
import { type LocalEngine, openEngine } from '../../../lib/infer/engine.ts'
import { modelRoot, requestOf } from '../trace.ts'

/** Of a transcript's text. */
export const TRANSCRIPT_MAX_BYTES = 256 * 1024 * 1024

/** What differs: the model's file, a root, the way it ended, or at a step the token drawn, the state, or the running hash. */
interface Difference {
  what: 'model' | 'prompt_root' | 'output_root' | 'trace_root' | 'finish' | 'token' | 'state' | 'hash'
  step?: number
  expected: string
  found: string
}

export const verify: VerbFn = async (ctx, args, opts) => {
  const text = await read(args[0]!)
  const list = parts(text)
  const path = (opts.model as string | undefined) ?? join(packageRoot(), 'share', 'models', 'tiny-zg.gguf')
  const root = await modelRoot(path, ctx.signal)
  const longest = Math.max(...list.map(t => t.prompt.length + t.tokens.length))
  const engine = await openEngine(path, {
    contextLength: longest,
    lookUp: false,
    device: opts.device as DeviceChoice,
    ...(opts.split === undefined ? {} : { split: opts.split as number[] }),
    ...(opts.deviceLayers === undefined ? {} : { deviceLayers: opts.deviceLayers as number }),
    ...(opts.threads === undefined ? {} : { threads: opts.threads as number })
  })
  let exit = 0
  try {
    for (const t of list) {
      const started = performance.now()
      const difference = await check(t, engine, root, ctx.signal)
      const seconds = (performance.now() - started) / 1000
      if (difference !== undefined) exit = 1
      ctx.print(
        {
          type: 'verified',
          id: t.id,
          choice: t.choice,
          ok: difference === undefined,
          prompt_tokens: t.prompt.length,
          tokens: t.tokens.length,
          seconds: Number(seconds.toFixed(3)),
          trace_root: t.trace_root,
          what: difference?.what ?? null,
          step: difference?.step ?? null,
          expected: difference?.expected ?? null,
          found: difference?.found ?? null
        },
        difference === undefined
          ? `ok: ${t.tokens.length} tokens computed again in ${seconds.toFixed(2)} s`
          : `differs: ${told(difference)}`
      )
    }
  } finally {
    await engine.close()
  }
  return exit
}

async function read(file: string): Promise<string> {
  const source = file === '-' ? process.stdin : undefined
  try {
    const bytes = source === undefined ? await readFile(file) : Buffer.concat(await source.toArray())
    if (bytes.length > TRANSCRIPT_MAX_BYTES) throw new ZgError('ERR_BAD_INPUT', 'the transcript is too large')
    return bytes.toString()
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT')
      throw new ZgError('ERR_NO_INPUT', `transcript '${file}' does not exist`)
    throw err
  }
}

/** One transcript, or what a server answers: `{"transcripts": […]}`. */
function parts(text: string): Transcript[] {
  let value: { transcripts?: unknown }
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new ZgError('ERR_BAD_INPUT', 'the transcript is not JSON', { cause })
  }
  if (!Array.isArray(value?.transcripts)) return [readTranscript(text)]
  if (value.transcripts.length === 0) throw new ZgError('ERR_BAD_INPUT', 'there is no transcript in it')
  return value.transcripts.map(t => readTranscript(JSON.stringify(t)))
}

async function check(
  t: Transcript,
  engine: LocalEngine,
  root: Uint8Array,
  signal: AbortSignal
): Promise<Difference | undefined> {
  // The steps are computed whatever the heads say: where they differ says more than that they do.
  const step = await firstStep(t, engine, signal)
  if (toHex(root) !== t.model.root) {
    return {
      what: 'model',
      ...(step?.step === undefined ? {} : { step: step.step }),
      expected: t.model.root,
      found: toHex(root)
    }
  }
  return step ?? roots(t) ?? ending(t, engine)
}

/** The first step at which the model says otherwise. */
async function firstStep(t: Transcript, engine: LocalEngine, signal: AbortSignal): Promise<Difference | undefined> {
  if (t.tokens.length === 0) return undefined
  const { vocabularySize } = engine.info
  const strange = t.prompt.find(id => id >= vocabularySize)
  if (strange !== undefined)
    return { what: 'state', step: 0, expected: `token ${strange}`, found: `${vocabularySize} tokens` }
  const alien = t.tokens.findIndex(id => id >= vocabularySize)
  const tokens = alien < 0 ? t.tokens : t.tokens.slice(0, alien)
  const alone: Difference = {
    what: 'token',
    step: alien,
    expected: String(t.tokens[alien]),
    found: `${vocabularySize} tokens`
  }
  if (tokens.length === 0) return alone
  // The hash starts with the model that was named: a state shows another one.
  const start = traceStart(fromHex(t.model.root), t.params, t.prompt)
  const salt = fromHex(t.salt)
  let at = 0
  const request = { ...requestOf(t), forced: Int32Array.from(tokens), trace: start, signal }
  for await (const { id, trace } of engine.generate({ ...request, stop: [] })) {
    if (id === undefined || trace === undefined) continue
    const leaf = toHex(traceLeaf(at, t.tokens[at]!, saltAt(salt, t.prompt.length + at), trace.hidden))
    if (leaf !== t.leaves[at]) return { what: 'state', step: at, expected: t.leaves[at]!, found: leaf }
    if (id !== t.tokens[at]) return { what: 'token', step: at, expected: String(t.tokens[at]), found: String(id) }
    const hash = toHex(trace.running)
    if (hash !== t.running[at]) return { what: 'hash', step: at, expected: t.running[at]!, found: hash }
    at++
  }
  signal.throwIfAborted()
  return alien < 0 ? undefined : alone
}

function roots(t: Transcript): Difference | undefined {
  const salt = fromHex(t.salt)
  const found = {
    prompt_root: toHex(tokensRoot(t.prompt, salt, 0)),
    output_root: toHex(tokensRoot(t.tokens, salt, t.prompt.length)),
    trace_root: toHex(merkleRoot(t.leaves.map(leaf => fromHex(leaf))))
  }
  for (const what of ['prompt_root', 'output_root', 'trace_root'] as const) {
    if (found[what] !== t[what]) return { what, expected: t[what], found: found[what] }
  }
  return undefined
}

/** An answer may not end before it was over, nor go on behind its end. */
function ending(t: Transcript, engine: LocalEngine): Difference | undefined {
  const { max_tokens: most, ignore_eos: ignore, stop_ids: stopIds, stop } = t.params
  const ends = new Set([...(ignore ? [] : engine.info.endIds), ...stopIds])
  const early = t.tokens.findIndex((id, i) => ends.has(id) && i + 1 < t.tokens.length)
  if (early >= 0) return { what: 'finish', step: early, expected: 'an end', found: 'tokens behind it' }
  const last = t.tokens.at(-1)
  const text = (): Buffer => Buffer.concat(t.tokens.map(id => engine.tokenizer.piece(id, true)))
  const over = {
    stop: () => (last !== undefined && ends.has(last)) || stop.some(s => text().includes(Buffer.from(fromHex(s)))),
    // The context's length is the provider's, and at most what the model was made for.
    length: () => t.tokens.length >= most || t.prompt.length + t.tokens.length > engine.trainedContext,
    cancelled: () => true
  }
  return over[t.finish]() ? undefined : { what: 'finish', expected: t.finish, found: `${t.tokens.length} tokens` }
}

function told(d: Difference): string {
  const where = d.step === undefined ? '' : `step ${d.step}, `
  const names: Record<Difference['what'], string> = {
    model: 'the model is another file',
    prompt_root: "the prompt's root",
    output_root: "the answer's root",
    trace_root: "the trace's root",
    finish: 'the way it ended',
    token: 'the token drawn',
    state: 'the state of the model',
    hash: 'the running hash'
  }
  return `${where}${names[d.what]}: ${d.expected} in the transcript, ${d.found} here`
}
