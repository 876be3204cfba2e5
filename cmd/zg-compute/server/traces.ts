/**
 * Traces of answers (compute.md 6.2): an engine that notes digests as it generates, and the latest transcripts by response, for whoever asked.
 * They live in memory: what makes them binding, and keeps them, comes with commitments.
 */
import { makeTranscript, type Transcript, traceStart } from '../../../lib/codec/compute/trace.ts'
import type { Engine, GenerateRequest, Step } from '../../../lib/infer/types.ts'
import type { Random } from '../../../lib/ports/random.ts'
import { modelRoot, paramsOf } from '../trace.ts'

/** Tokens of prompts and answers kept, all transcripts together: about 150 bytes each. */
export const TRACES_TOKENS_MAX = 1024 * 1024

interface Kept {
  owner: string
  transcripts: Transcript[]
  tokens: number
}

export class Traces {
  readonly #random: Random
  /** Oldest first. */
  readonly #kept = new Map<string, Kept>()
  readonly #roots = new WeakMap<object, Promise<Uint8Array>>()
  #tokens = 0

  constructor(random: Random) {
    this.#random = random
  }

  /** Transcripts of a response in the order of its choices; undefined: not known, or somebody else's. */
  get(id: string, owner: string): Transcript[] | undefined {
    const kept = this.#kept.get(id)
    return kept === undefined || kept.owner !== owner ? undefined : kept.transcripts
  }

  /**
   * The same engine, whose answers leave transcripts under the response's id. Answers that no trace can be made of (see
   * {@link paramsOf}), or of an engine without a file, leave none.
   */
  watch(engine: Engine, id: string, owner: string): Engine {
    const { file } = engine.info
    if (file === undefined) return engine
    const root = this.#root(engine, file)
    const traced = (request: GenerateRequest): AsyncGenerator<Step, void, void> =>
      this.#run(engine, root, request, id, owner)
    return {
      info: engine.info,
      tokenizer: engine.tokenizer,
      ...(engine.adapters === undefined ? {} : { adapters: engine.adapters }),
      chatPrompt: (messages, options) => engine.chatPrompt(messages, options),
      constrain: constraint => engine.constrain(constraint),
      textPrompt: text => engine.textPrompt(text),
      generate: traced,
      close: () => engine.close()
    }
  }

  #root(engine: Engine, file: string): Promise<Uint8Array> {
    let root = this.#roots.get(engine)
    if (root === undefined) {
      root = modelRoot(file)
      // Asked again next time.
      root.catch(() => this.#roots.delete(engine))
      this.#roots.set(engine, root)
    }
    return root
  }

  async *#run(
    engine: Engine,
    root: Promise<Uint8Array>,
    request: GenerateRequest,
    id: string,
    owner: string
  ): AsyncGenerator<Step, void, void> {
    const params = paramsOf(request, engine.adapters)
    if (params === undefined || request.sampling.seed === undefined) return yield* engine.generate(request)
    const model = await root
    const tokens: number[] = []
    const hidden: Uint8Array[] = []
    const running: Uint8Array[] = []
    let finish: Transcript['finish'] = 'cancelled'
    try {
      for await (const step of engine.generate({ ...request, trace: traceStart(model, params, request.prompt) })) {
        if (step.id !== undefined && step.trace !== undefined) {
          tokens.push(step.id)
          hidden.push(step.trace.hidden)
          running.push(step.trace.running)
        }
        finish = step.finish ?? finish
        yield step
      }
    } finally {
      const made = makeTranscript({
        id,
        model: { name: engine.info.name, root: model },
        params,
        seed: request.sampling.seed,
        choice: request.sampling.choice ?? 0,
        salt: this.#random.bytes(32),
        prompt: request.prompt,
        tokens,
        finish,
        hidden,
        running
      })
      this.#keep(id, owner, made)
    }
  }

  #keep(id: string, owner: string, transcript: Transcript): void {
    const kept = this.#kept.get(id) ?? { owner, transcripts: [], tokens: 0 }
    const tokens = transcript.prompt.length + transcript.tokens.length
    kept.transcripts.push(transcript)
    kept.transcripts.sort((a, b) => a.choice - b.choice)
    kept.tokens += tokens
    this.#tokens += tokens
    this.#kept.set(id, kept)
    for (const [oldest, { tokens: gone }] of this.#kept) {
      if (this.#tokens <= TRACES_TOKENS_MAX || oldest === id) break
      this.#kept.delete(oldest)
      this.#tokens -= gone
    }
  }
}
