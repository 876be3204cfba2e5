/** What answers the requests of `zg-compute eval`: the native engine or the reference. */
import { ZgError } from '../../../lib/base/errors.ts'
import type { RenderOptions } from '../../../lib/infer/chat-template.ts'
import type { GenerateRequest } from '../../../lib/infer/types.ts'

/** Models are named by path and kept open. All reject with a ZgError that says what is wrong. */
export interface EvalEngine {
  dequantize(type: string, blocks: Uint8Array): Promise<Float32Array>
  tokenize(path: string, text: string, special: boolean): Promise<Int32Array>
  detokenize(path: string, tokens: Int32Array): Promise<string>
  /** The rendered template, names of control tokens taken as those tokens wherever they stand. */
  chat(
    path: string,
    messages: readonly { role: string; content: string }[],
    options: RenderOptions
  ): Promise<{ text: string; tokens: Int32Array }>
  /** Of the whole vocabulary, behind the last token. */
  logits(path: string, tokens: Int32Array): Promise<Float32Array>
  /** The likeliest token before each one that is followed. */
  force(path: string, tokens: Int32Array, follow: Int32Array): Promise<number[]>
  greedy(path: string, tokens: Int32Array, count: number): Promise<number[]>
  /** t_n of inference.md 12.1 behind the last followed token, of a greedy request that no token ends. */
  trace(path: string, tokens: Int32Array, follow: Int32Array): Promise<Uint8Array>
  close(): Promise<void>
}

/** The request that traces are made of. */
export function tracedRequest(prompt: Int32Array, maxTokens: number): GenerateRequest {
  return { prompt, maxTokens, sampling: { temperature: 0, seed: 0n }, ignoreEnd: true }
}

/** @throws {ZgError} ERR_BAD_INPUT for an id outside the vocabulary. */
export function checkIds(ids: Int32Array, vocabulary: number): void {
  const strange = ids.find(id => id >= vocabulary)
  if (strange !== undefined) {
    throw new ZgError('ERR_BAD_INPUT', `token ${strange} is not one of the vocabulary's ${vocabulary}`)
  }
}
