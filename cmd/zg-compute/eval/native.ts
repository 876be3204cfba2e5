/** `zg-compute eval` by the native engine, on the path that `ZG_CPU` names. */
import { ZgError } from '../../../lib/base/errors.ts'
import { traceStart } from '../../../lib/codec/compute/trace.ts'
import { templateOf } from '../../../lib/infer/chat-template.ts'
import { type LocalEngine, openEngine } from '../../../lib/infer/engine.ts'
import { inferAddon } from '../../../lib/infer/native.ts'
import { shapeOf } from '../../../lib/infer/reference/blocks.ts'
import { type ModelTokenizer, openTokenizer } from '../../../lib/infer/tokenizer.ts'
import { modelRoot, paramsOf } from '../trace.ts'
import { checkIds, type EvalEngine, tracedRequest } from './engine.ts'
import { Opened } from './opened.ts'

/** Keys and values of the request that runs. */
const CACHE_BYTES = 1024 * 1024 * 1024

export function nativeEngine(options: { threads?: number; context?: number } = {}): EvalEngine {
  const tokenizers = new Opened<ModelTokenizer>(path => openTokenizer(inferAddon(), path))
  const engines = new Opened<LocalEngine>(
    path =>
      openEngine(path, {
        lookUp: false,
        cacheBytes: CACHE_BYTES,
        ...(options.threads === undefined ? {} : { threads: options.threads }),
        ...(options.context === undefined ? {} : { contextLength: options.context })
      }),
    engine => engine.close()
  )
  /** Follows tokens, or goes its own way: the likeliest token of each step, and the running hash behind the last one. */
  async function steps(
    path: string,
    tokens: Int32Array,
    wanted: { follow: Int32Array } | { count: number },
    start?: Uint8Array
  ): Promise<{ ids: number[]; running: Uint8Array | undefined }> {
    const engine = await engines.get(path)
    const follow = 'follow' in wanted ? wanted.follow : undefined
    const count = 'follow' in wanted ? wanted.follow.length : wanted.count
    checkIds(tokens, engine.info.vocabularySize)
    if (follow !== undefined) checkIds(follow, engine.info.vocabularySize)
    if (tokens.length + count > engine.info.contextLength + 1) {
      throw new ZgError(
        'ERR_BAD_INPUT',
        `${tokens.length + count} tokens, the context has ${engine.info.contextLength}`
      )
    }
    const ids: number[] = []
    let running = start
    if (count === 0) return { ids, running }
    const request = {
      ...tracedRequest(tokens, count),
      ...(follow === undefined ? {} : { forced: follow }),
      ...(start === undefined ? {} : { trace: start })
    }
    for await (const step of engine.generate(request)) {
      if (step.id !== undefined) ids.push(step.id)
      running = step.trace?.running ?? running
    }
    return { ids, running }
  }
  return {
    async dequantize(type, blocks) {
      const shape = shapeOf(type)
      if (blocks.length % shape.bytes !== 0) {
        throw new ZgError('ERR_BAD_INPUT', `${blocks.length} bytes are not whole blocks of ${shape.bytes} of ${type}`)
      }
      return inferAddon().dequantize(shape.id, blocks)
    },
    tokenize: async (path, text, special) => (await tokenizers.get(path)).encode(text, special),
    detokenize: async (path, tokens) => (await tokenizers.get(path)).decode(tokens),
    async chat(path, messages, options) {
      const tokenizer = await tokenizers.get(path)
      const text = templateOf(tokenizer).render(messages, options)
      return { text, tokens: tokenizer.encode(text, true) }
    },
    async logits(path, tokens) {
      const engine = await engines.get(path)
      checkIds(tokens, engine.info.vocabularySize)
      return engine.evaluate(tokens, { from: tokens.length - 1 })
    },
    force: async (path, tokens, follow) => (await steps(path, tokens, { follow })).ids,
    greedy: async (path, tokens, count) => (await steps(path, tokens, { count })).ids,
    async trace(path, tokens, follow) {
      const params = paramsOf(tracedRequest(tokens, follow.length))!
      const start = traceStart(await modelRoot(path), params, tokens)
      return (await steps(path, tokens, { follow }, start)).running!
    },
    async close() {
      await tokenizers.close()
      await engines.close()
    }
  }
}
