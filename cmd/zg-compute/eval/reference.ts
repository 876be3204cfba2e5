/** `zg-compute eval --engine reference`: the same answers by lib/infer/reference, without a native engine. */
import { ZgError } from '../../../lib/base/errors.ts'
import { traceStart } from '../../../lib/codec/compute/trace.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import { ChatTemplate } from '../../../lib/infer/chat-template.ts'
import { dequantize, shapeOf } from '../../../lib/infer/reference/blocks.ts'
import { bitsOf } from '../../../lib/infer/reference/float.ts'
import { ReferenceSequence } from '../../../lib/infer/reference/forward.ts'
import { GgufFile } from '../../../lib/infer/reference/gguf.ts'
import { type Model, readModel } from '../../../lib/infer/reference/model.ts'
import { ReferenceTokenizer } from '../../../lib/infer/reference/tokenizer.ts'
import { modelRoot, paramsOf } from '../trace.ts'
import { checkIds, type EvalEngine, tracedRequest } from './engine.ts'
import { Opened } from './opened.ts'

/** Logits of a step that the running hash has. */
const TRACE_LOGITS = 16

export function referenceEngine(): EvalEngine {
  const models = new Opened<Model>(readModel)
  const tokenizers = new Opened<ReferenceTokenizer>(path => {
    const file = GgufFile.open(path)
    try {
      return new ReferenceTokenizer(file)
    } finally {
      file.close()
    }
  })
  /** Logits before each of `count` tokens: those to follow, or the likeliest. */
  async function* steps(
    path: string,
    tokens: Int32Array,
    count: number,
    follow?: Int32Array
  ): AsyncGenerator<{ logits: Float32Array; best: number }> {
    const model = await models.get(path)
    checkIds(tokens, model.vocabulary)
    if (follow !== undefined) checkIds(follow, model.vocabulary)
    if (tokens.length + count > model.context + 1) {
      throw new ZgError('ERR_BAD_INPUT', `${tokens.length + count} tokens, the context has ${model.context}`)
    }
    const sequence = new ReferenceSequence(model)
    let state: Float32Array = new Float32Array(0)
    for (const token of tokens) state = sequence.push(token)
    for (let i = 0; i < count; i++) {
      const logits = sequence.logits(state)
      const best = logits.reduce((b, v, id) => (v > logits[b]! ? id : b), 0)
      yield { logits, best }
      if (i + 1 < count) state = sequence.push(follow?.[i] ?? best)
    }
  }
  return {
    dequantize: async (type, blocks) => dequantize(shapeOf(type), blocks),
    tokenize: async (path, text, special) => (await tokenizers.get(path)).encode(text, special),
    detokenize: async (path, tokens) => (await tokenizers.get(path)).decode(tokens),
    async chat(path, messages, options) {
      const tokenizer = await tokenizers.get(path)
      const { chatTemplate, bosId, eosId } = tokenizer
      const chatml = ['<|im_start|>', '<|im_end|>'].every(name => tokenizer.encode(name, true).length === 1)
      const names = { bos: tokenizer.name(bosId), eos: tokenizer.name(eosId), chatml }
      const text = new ChatTemplate(chatTemplate, names).render(messages, options)
      return { text, tokens: tokenizer.encode(text, true) }
    },
    async logits(path, tokens) {
      for await (const { logits } of steps(path, tokens, 1)) return logits
      throw new ZgError('ERR_BUG', 'no step was made')
    },
    async force(path, tokens, follow) {
      const out: number[] = []
      for await (const { best } of steps(path, tokens, follow.length, follow)) out.push(best)
      return out
    },
    async greedy(path, tokens, count) {
      const out: number[] = []
      for await (const { best } of steps(path, tokens, count)) out.push(best)
      return out
    },
    async trace(path, tokens, follow) {
      let running = traceStart(await modelRoot(path), paramsOf(tracedRequest(tokens, follow.length))!, tokens)
      let at = 0
      for await (const { logits } of steps(path, tokens, follow.length, follow)) {
        running = keccak256(running, words([follow[at++]!]), keccak256(highest(logits)))
      }
      return running
    },
    async close() {
      await tokenizers.close()
      await models.close()
    }
  }
}

function words(values: readonly number[]): Uint8Array {
  const out = new Uint8Array(4 * values.length)
  const view = new DataView(out.buffer)
  for (const [i, v] of values.entries()) view.setUint32(4 * i, v, true)
  return out
}

/** The highest logits with their ids, ties by lower id. */
function highest(logits: Float32Array): Uint8Array {
  const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b)
  return words(order.slice(0, TRACE_LOGITS).flatMap(id => [id, bitsOf(logits[id]!)]))
}
