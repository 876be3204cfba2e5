/** An {@link Engine} for tests of the broker: known counts of tokens, known text, and stops where a test wants it. */
import type { ChatMessage, Engine, GenerateRequest, Step } from '../../lib/infer/types.ts'

export interface TestEngine extends Engine {
  /** Called before each token; a promise holds the generation. */
  onToken: (index: number) => Promise<void> | void
  /** Behind each word: a stream of many bytes. */
  padding: string
  /** Generations begun. */
  readonly begun: number
}

const CONTEXT = 4_096

/** One id for every four bytes of text; the answer is `w0 w1 …`, as long as allowed. */
export function testEngine(): TestEngine {
  let begun = 0
  const encode = (text: string): Int32Array => {
    const bytes = Buffer.from(text)
    return Int32Array.from({ length: Math.ceil(bytes.length / 4) }, (_, i) => 1 + bytes[4 * i]!)
  }
  const engine: TestEngine = {
    onToken: () => {},
    padding: '',
    get begun() {
      return begun
    },
    info: {
      name: 'test-model',
      architecture: 'test',
      parameters: 1,
      fileBytes: 1_000_000,
      contextLength: CONTEXT,
      embeddingLength: 1,
      vocabularySize: 300,
      endIds: [299],
      bosId: undefined,
      cpu: 'scalar',
      chatTemplate: undefined
    },
    tokenizer: {
      encode,
      piece: () => new Uint8Array(0),
      decode: ids => Array.from(ids, () => 'w ').join('')
    },
    chatPrompt: (messages: readonly ChatMessage[]) => encode(messages.map(m => m.content).join('\n')),
    textPrompt: encode,
    constrain: async () => ({ native: undefined, ignored: [] }),
    async *generate(request: GenerateRequest): AsyncGenerator<Step, void, void> {
      begun++
      for (let i = 0; i < request.maxTokens; i++) {
        await engine.onToken(i)
        if (request.signal?.aborted) {
          yield { text: '', finish: 'cancelled' }
          return
        }
        await new Promise(resolve => setImmediate(resolve))
        yield {
          id: 1,
          text: `w${i} ${engine.padding}`,
          ...(i === request.maxTokens - 1 ? { finish: 'length' as const } : {})
        }
      }
    },
    close: async () => {}
  }
  return engine
}
