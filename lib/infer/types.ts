/**
 * The face of the inference engine. What stands behind it may change (a faster engine, a GPU); servers and clients know only this.
 * Numbers of tokens count ids of the model's vocabulary; text is UTF-8.
 */

import type { DeviceChoice } from './device.ts'
import type { Constraint } from './grammar/constraint.ts'
import type { Numa } from './numa.ts'

export interface ModelInfo {
  /** `general.name`, else the file's name without extension. */
  readonly name: string
  readonly architecture: string
  /** Parameters in all tensors. */
  readonly parameters: number
  readonly fileBytes: number
  /** Positions a sequence may have. */
  readonly contextLength: number
  readonly embeddingLength: number
  readonly vocabularySize: number
  /** Ids that end an answer. */
  readonly endIds: readonly number[]
  readonly bosId: number | undefined
  /** Where the forward pass runs: a path of the CPU (`generic`, `avx2`, `avx512`), or a device's name. */
  readonly cpu: string
  readonly chatTemplate: string | undefined
  /** The model's file (of one in parts: the first); absent where there is none. */
  readonly file?: string
}

export interface Tokenizer {
  /**
   * Text to ids, without BOS.
   * @param special - names of control tokens in the text become those tokens; false: they are ordinary text (what users wrote).
   */
  encode(text: string, special?: boolean): Int32Array
  /** The bytes of one id; control tokens are empty unless asked for. Bytes of one character may be spread over several ids. */
  piece(id: number, special?: boolean): Uint8Array
  /** Ids to text; bytes that are not UTF-8 become U+FFFD. */
  decode(ids: ArrayLike<number>): string
}

/** A message of a conversation as OpenAI's API has it. */
export interface ChatMessage {
  role: string
  content: string
  [more: string]: unknown
}

/** Sampling as inference.md 7.1 orders it. `temperature` 0 is greedy. */
export interface Sampling {
  temperature: number
  topP: number
  topK: number
  minP: number
  /** Least probability that the most typical tokens cover; 1 is off. */
  typicalP: number
  repetitionPenalty: number
  frequencyPenalty: number
  presencePenalty: number
  logitBias: ReadonlyMap<number, number>
  /** Draws are a pure function of (seed, position, choice). */
  seed: bigint
  /** Which of several answers to one prompt this is, from 0. */
  choice: number
}

/** What an answer may be, compiled for one model by {@link Engine.constrain}. */
export interface AnswerGrammar {
  /** For that engine alone. */
  readonly native: unknown
  /** Keywords of the schema that nobody looked at. */
  readonly ignored: readonly string[]
}

export interface GenerateRequest {
  /** The whole prompt, BOS included where the model asks for it. At least one id. */
  prompt: Int32Array
  maxTokens: number
  sampling: Partial<Sampling>
  /** Strings that end the answer; they and what follows are not part of it. */
  stop?: readonly string[]
  /** The stop string that was met is part of the answer. */
  keepStop?: boolean
  /** Further ids that end the answer; they are no part of it. */
  stopIds?: readonly number[]
  ignoreEnd?: boolean
  /** Nothing ends the answer before so many tokens. */
  minTokens?: number
  /** The answer is a text of it. Where its shortest text fits into `maxTokens`, the answer comes to an end within them. */
  grammar?: AnswerGrammar
  /** The prompt from this index on was made by an earlier part of the same answer. */
  outputFrom?: number
  /** With `logprobs`: steps for the prompt's tokens come first. */
  promptLogprobs?: boolean
  /** Control tokens whose names are part of the text. */
  visible?: ReadonlySet<number>
  /** For each token this many best alternatives with their log-probabilities; absent: none. */
  logprobs?: number
  signal?: AbortSignal
  /** Whose request it is: accounts that were served least come first. */
  account?: string
  /** Requests of equal salt share what was computed of equal beginnings (default: the account). */
  cacheSalt?: string
  /** Tokens of an answer that exists, end token included: followed whatever would be drawn. Steps tell what would have been, with the followed token's logprob. */
  forced?: Int32Array
  /** 32 bytes that the running hash of inference.md 12.1 starts with; steps then carry digests. */
  trace?: Uint8Array
  /** Adapters by their names, with their strengths, applied in this order; absent: those that are on by themselves. */
  adapters?: readonly AdapterChoice[]
}

export interface AdapterChoice {
  name: string
  /** Times what the adapter itself says; 0: not at all. */
  strength: number
}

/** A LoRA adapter beside a model's weights. */
export interface AdapterInfo {
  readonly name: string
  readonly path: string
  readonly rank: number
  readonly bytes: number
  /** What a request gets that names no adapters; 0: only those that name it. */
  readonly strength: number
}

export interface TokenLogprob {
  id: number
  logprob: number
  bytes: Uint8Array
  /** A control token: its name is no part of the text. */
  hidden?: true
}

/** A step of an answer (or, with `prompt`, a token of the prompt that was asked for). Its text holds whole characters only and never part of a stop string. */
export interface Step {
  /** The token drawn; absent in a last step that only flushes text. */
  id?: number
  text: string
  prompt?: true
  logprob?: TokenLogprob & { top: TokenLogprob[] }
  /** Set in the last step: `stop` (end token or stop string), `length`, `cancelled`. */
  finish?: 'stop' | 'length' | 'cancelled'
  /** With `stop`: the string or id that ended the answer; absent when its grammar did. */
  stopReason?: string | number
  /** Tokens of the prompt that were there already. */
  cachedTokens?: number
  /** Asked for by `trace`: keccak-256 of the final state that predicts the token, and the running hash with the token that follows. */
  trace?: { hidden: Uint8Array; running: Uint8Array }
}

/** Counts since the model was opened, and what is now (native/infer/scheduler.h). */
export interface EngineStats {
  running: number
  waiting: number
  /** Accounts with requests. */
  accounts: number
  /** Pages of 16 positions that requests hold, that only remember a beginning, and all there may be; bytes of one. */
  pagesUsed: number
  pagesIdle: number
  pages: number
  pageBytes: number
  steps: number
  /** Positions computed, of prompts, drafts and answers. */
  rows: number
  promptTokens: number
  /** Of prompts, that were there already. */
  cachedTokens: number
  tokens: number
  drafted: number
  accepted: number
  preempted: number
  cancelled: number
  expired: number
  /** Of the engine's thread. */
  busySeconds: number
}

export interface Engine {
  readonly info: ModelInfo
  readonly tokenizer: Tokenizer
  /**
   * The prompt of a conversation by the template in the model file (or a plain one when it has none), BOS included.
   * @throws {ZgError} ERR_BAD_INPUT when the template refuses the conversation.
   */
  chatPrompt(
    messages: readonly ChatMessage[],
    options?: {
      tools?: unknown[]
      addGenerationPrompt?: boolean
      extra?: Record<string, unknown>
      /** The last message is the beginning of the answer: the prompt ends with it. */
      continueFinal?: boolean
    }
  ): Int32Array
  /**
   * Compiles what an answer may be.
   * @throws {ZgError} ERR_BAD_INPUT when it is malformed, not supported or too large.
   */
  constrain(constraint: Constraint): Promise<AnswerGrammar>
  /** A plain text prompt, with BOS where the model asks for it. */
  textPrompt(text: string): Int32Array
  /**
   * Runs one request. Several may run at once: the engine shares its threads between them and never blocks the event loop.
   * @throws {ZgError} ERR_BAD_INPUT when the prompt is empty or does not fit the context.
   */
  generate(request: GenerateRequest): AsyncGenerator<Step, void, void>
  /** LoRA adapters that requests may name, in order; absent where there are none. */
  readonly adapters?: readonly AdapterInfo[]
  /**
   * A prompt as a vector of length 1: the mean of its states behind the final norm, or the last one. Weak with models made for chats.
   * Absent where the engine cannot.
   */
  embed?(
    prompt: Int32Array,
    options?: { pooling?: 'mean' | 'last'; account?: string; signal?: AbortSignal }
  ): Promise<Float32Array>
  /** What it does and did; absent where nothing is counted. */
  stats?(): EngineStats
  /** Cancels what runs and frees the model. */
  close(): Promise<void>
}

export interface EngineOptions {
  /** Where the forward pass runs; default: the CPU. Answers are the same everywhere. */
  device?: DeviceChoice
  /** How many layers each of several devices gets beside the others; default: by their free memory. */
  split?: readonly number[]
  /** So many of the last layers on the devices, the first ones on the CPU; default: as many as fit. */
  deviceLayers?: number
  /** Worker threads; default: the machine's cores, at most 8. */
  threads?: number
  /** Each thread keeps to a core of its own. */
  pin?: boolean
  /** Cores that threads keep to, as the system counts them; without `threads`, one thread each. */
  cpus?: readonly number[]
  /** Threads and memory by memory nodes (numa.ts); default: wherever the system puts them. */
  numa?: Numa
  /** Positions kept for one sequence; default: the model's, at most 8,192. */
  contextLength?: number
  /** Requests that share the steps, and that wait for it; one more is refused. */
  running?: number
  waiting?: number
  /** Longest wait for a start; absent: any. */
  patienceMs?: number
  /** Memory for keys and values of all requests; default: a quarter of what is free, on a device all that the weights leave but a tenth. */
  cacheBytes?: number
  /** Accounts share what was computed of equal beginnings; default: each for itself. */
  sharedCache?: boolean
  /** LoRA adapters to read with the model; strength is what requests get that name none, default 1. */
  adapters?: readonly { path: string; name?: string; strength?: number }[]
  /** Guess tokens and check several at once, with the same answers: by looking them up (default on), and by a smaller model. */
  lookUp?: boolean
  draft?: string
}
