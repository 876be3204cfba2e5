/**
 * Loads the native inference engine (native/infer, native/napi/infer_napi.cpp, tokenizer_napi.cpp). There is no other engine: without
 * a build the caller gets an error that says how to make one.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { ZgError } from '../base/errors.ts'
import { loadError, nativePath } from '../native.ts'
import type { FileDescription } from './model-file.ts'
import type { TokenizerAddon } from './tokenizer.ts'
import type { EngineStats } from './types.ts'

export interface NativeModelInfo {
  /** `general.name`, or empty. */
  name: string
  architecture: string
  parameters: number
  fileBytes: number
  /** Positions the model was trained for, and those a sequence may have here. */
  trainedContext: number
  contextLength: number
  embeddingLength: number
  layers: number
  vocabularySize: number
  cpu: string
  /** Which layers lie where, when that is not one place. */
  placement: string
  threads: number
  warnings: string[]
}

export interface NativeOpenOptions {
  threads: number
  /** One core each. */
  pin: boolean
  /** Cores to keep to, instead of all the process may use. */
  cpus?: Int32Array
  /** Memory nodes for weights, keys and values: in turns, or these alone; absent: wherever the system likes. */
  nodes?: Int32Array
  interleave?: boolean
  contextLength: number
  /** Keys and values of all running sequences together; 0: what is left of the device. */
  cacheBytes: number
  /** What infer_cuda.node exports, and which of its devices; absent: the CPU. */
  backend?: unknown
  devices?: Int32Array
  /** How many layers each device gets beside the others; absent: by free memory. */
  shares?: Int32Array
  /** So many of the last layers on the devices; 0 or absent: as many as fit. */
  deviceLayers?: number
  /** Free memory of the machine, of which layers on the CPU take half at most. */
  hostBytes?: number
  /** Requests that may wait, and that may run at once. */
  waiting: number
  running: number
  /** Longest wait for a start; 0: any. */
  patienceMs: number
  /** A level by name; absent: the widest, or what `ZG_CPU` says. */
  cpu?: string
  /** A smaller model of the same vocabulary that guesses what comes next. */
  draft?: string
}

export interface NativeRequest {
  prompt: Int32Array
  maxTokens: number
  endIds: Int32Array
  /** -1: none; else so many alternatives. */
  logprobs: number
  temperature: number
  topP: number
  topK: number
  minP: number
  repetitionPenalty: number
  frequencyPenalty: number
  presencePenalty: number
  seed: bigint
  biasIds: Int32Array
  biasValues: Float32Array
  typicalP: number
  /** Which of several answers to one prompt: their draws differ. */
  choice: number
  /** End ids are not drawn before so many tokens. */
  minTokens: number
  /** The prompt from this index on counts as output for the penalties. */
  outputFrom: number
  /** Records of the prompt's tokens but the first come before those of the answer. */
  promptLogprobs: boolean
  /** 1 the mean of the prompt's states, 2 the last one, instead of an answer: its values come as `top`. */
  pooling: 0 | 1 | 2
  /** Made by the model's own tokenizer. */
  grammar: NativeGrammar | undefined
  /** Whose request it is, for the order of service. */
  account: string
  /** Requests of equal salt share pages of equal beginnings; absent: with nobody. */
  salt?: string
  lookUp: boolean
  /** Tokens of an answer that exists: followed whatever would be drawn; maxTokens is their number then. */
  forced?: Int32Array
  /** 32 bytes that the running hash starts with; absent: no digests. */
  trace?: Uint8Array
  /** Changes to the weights, applied in this order. */
  adapters?: [id: number, strength: number][]
}

/** A compiled grammar (native/napi/tokenizer_napi.cpp). */
export interface NativeGrammar {
  /** 0 no text begins so, 1 some text does, 2 it is a whole one. */
  accepts(bytes: Uint8Array): 0 | 1 | 2
  /** Ids that may follow. */
  allowed(bytes: Uint8Array): Int32Array
  /** One of the shortest texts; undefined when it is too long to be worked out. */
  shortest(): Uint8Array | undefined
}

export interface NativeModel {
  readonly info: NativeModelInfo
  /** The request's id from 1 on; -1 the queue is full, -2 larger than the cache, -3 closed, -4 the device failed. */
  submit(request: NativeRequest): number
  cancel(id: number): void
  /** Logits of every position from `from` on, one row of the vocabulary's size each; tokens are fed in chunks. */
  evaluate(
    tokens: Int32Array,
    chunk: number,
    cpu?: string,
    floatCache?: boolean,
    adapters?: [id: number, strength: number][],
    from?: number
  ): Promise<Float32Array>
  /** Reads a change to the weights, which requests then name by its id. */
  loadAdapter(path: string): Promise<{ id: number; name: string; rank: number; bytes: number }>
  stats(): EngineStats
  /** Why the device is of no use any more, or empty. */
  fault(): string
  close(): Promise<void>
}

/** A metadata entry: key, id of its type, value. 64-bit integers are bigints. */
export type GgufEntry = [key: string, type: number, value: unknown]

export interface GgufContents {
  version: number
  alignment: number
  metadata: GgufEntry[]
  tensors: { name: string; type: string; dims: number[]; offset: number; bytes: number }[]
}

export interface InferAddon extends TokenizerAddon {
  /** The level of CPU in use, and all of this machine, narrowest first. */
  info(): { cpu: string; paths: string[] }
  /** Reads and checks a file; rejects with an Error that names the key or tensor and the byte. */
  readGguf(path: string): Promise<GgufContents>
  /** Why a file of these bytes is refused, as GGUF or as a model; undefined when it is not. */
  check(bytes: Uint8Array, asModel: boolean): string | undefined
  dequantize(typeId: number, blocks: Uint8Array): Float32Array
  /** Reads a file's header; rejects when it is no GGUF file. */
  describe(path: string): Promise<FileDescription>
  recipes(): string[]
  /** Whole blocks of a type; undefined when it cannot hold one of the values. */
  quantize(typeId: number, values: Float32Array): Uint8Array | undefined
  quantizeFile(
    from: string,
    to: string,
    recipe: string,
    threads: number
  ): { done: Promise<void>; progress(): [done: number, total: number]; cancel: () => void }
  /** `onEvents` gets the records that native/napi/infer_napi.cpp describes. */
  open(path: string, options: NativeOpenOptions, onEvents: (words: Uint32Array) => void): Promise<NativeModel>
}

let loaded: InferAddon | undefined

/**
 * The engine's native part, loaded at the first call.
 * @throws {ZgError} ERR_NATIVE when it is not built, was built for another Node or platform, or `ZG_CPU` names a missing path.
 */
export function inferAddon(): InferAddon {
  if (loaded !== undefined) return loaded
  const file = nativePath('infer')
  if (!existsSync(file)) {
    throw new ZgError('ERR_NATIVE', 'the native inference engine is not built', { hint: "run 'npm run build:native'" })
  }
  try {
    loaded = createRequire(import.meta.url)(file) as InferAddon
  } catch (err) {
    throw loadError(err, file)
  }
  return loaded
}
