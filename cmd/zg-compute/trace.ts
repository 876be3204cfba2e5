/** Between the engine and transcripts: parameters of a request as a trace names them and back, and the root that names a model. */
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { floatText, type TraceParams, type Transcript } from '../../lib/codec/compute/trace.ts'
import { hashFile } from '../../lib/codec/storage/hasher.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { describeModel } from '../../lib/infer/model-file.ts'
import type { AdapterInfo, GenerateRequest } from '../../lib/infer/types.ts'

/** Undefined where no trace is made: a grammar, typical sampling, adapters, or an answer that goes on from an earlier one. */
export function paramsOf(r: GenerateRequest, adapters: readonly AdapterInfo[] = []): TraceParams | undefined {
  const s = r.sampling
  const continued = r.outputFrom !== undefined && r.outputFrom < r.prompt.length
  // Who names none gets those that are on by default.
  const adapted = (r.adapters ?? adapters).some(a => a.strength !== 0)
  if (r.grammar !== undefined || (s.typicalP ?? 1) !== 1 || adapted || continued || r.promptLogprobs === true)
    return undefined
  return {
    temperature: floatText(s.temperature ?? 1),
    top_p: floatText(s.topP ?? 1),
    top_k: Math.max(0, s.topK ?? 0),
    min_p: floatText(s.minP ?? 0),
    repetition_penalty: floatText(s.repetitionPenalty ?? 1),
    frequency_penalty: floatText(s.frequencyPenalty ?? 0),
    presence_penalty: floatText(s.presencePenalty ?? 0),
    logit_bias: [...(s.logitBias ?? [])].sort(([a], [b]) => a - b).map(([id, bias]) => [id, floatText(bias)]),
    min_tokens: r.minTokens ?? 0,
    max_tokens: r.maxTokens,
    ignore_eos: r.ignoreEnd === true,
    stop: (r.stop ?? []).map(text => toHex(Buffer.from(text))),
    stop_ids: [...(r.stopIds ?? [])].sort((a, b) => a - b),
    grammar: null
  }
}

/** The request whose answer a transcript is, without its tokens. */
export function requestOf(t: Transcript): GenerateRequest {
  const p = t.params
  return {
    prompt: Int32Array.from(t.prompt),
    maxTokens: p.max_tokens,
    sampling: {
      temperature: Number(p.temperature),
      topP: Number(p.top_p),
      topK: p.top_k,
      minP: Number(p.min_p),
      repetitionPenalty: Number(p.repetition_penalty),
      frequencyPenalty: Number(p.frequency_penalty),
      presencePenalty: Number(p.presence_penalty),
      logitBias: new Map(p.logit_bias.map(([id, bias]) => [id, Number(bias)])),
      seed: BigInt(t.seed),
      choice: t.choice
    },
    stop: p.stop.map(hex => Buffer.from(fromHex(hex)).toString()),
    stopIds: p.stop_ids,
    minTokens: p.min_tokens,
    ignoreEnd: p.ignore_eos
  }
}

/** Root of the model's file in 0G Storage; of a model in parts: keccak256 of their roots. */
export async function modelRoot(path: string, signal?: AbortSignal): Promise<Uint8Array> {
  const { paths } = await describeModel(path)
  const roots: Uint8Array[] = []
  for (const part of paths) roots.push((await hashFile(part, signal === undefined ? {} : { signal })).root)
  return roots.length === 1 ? roots[0]! : keccak256(...roots)
}
