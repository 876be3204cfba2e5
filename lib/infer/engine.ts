/**
 * The engine behind {@link Engine}: native/infer on a thread of its own, the tokenizer and chat template of the same file. A request
 * is an async generator over records that the native part delivers once a step for all requests.
 */
import { createHash, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { availableParallelism, freemem } from 'node:os'
import { basename } from 'node:path'
import { messageOf, ZgError } from '../base/errors.ts'
import { Adapters } from './adapters.ts'
import { Answers, type TokenRecord } from './answers.ts'
import { type ChatTemplate, chatPrompt, templateOf } from './chat-template.ts'
import { backendOf, type NativeBackend } from './cuda.ts'
import { type Constraint, compileConstraint } from './grammar/constraint.ts'
import { inferAddon, type NativeGrammar, type NativeModel, type NativeRequest } from './native.ts'
import { placementOf } from './numa.ts'
import { PieceCache, TextStream } from './text-stream.ts'
import { type ModelTokenizer, openTokenizer } from './tokenizer.ts'
import type {
  AdapterChoice,
  AnswerGrammar,
  Engine,
  EngineOptions,
  EngineStats,
  GenerateRequest,
  ModelInfo,
  Sampling,
  Step,
  TokenLogprob
} from './types.ts'

/** Positions of a sequence unless asked for otherwise. */
export const DEFAULT_CONTEXT = 8_192
/** Threads of the forward pass unless asked for otherwise. */
export const DEFAULT_THREADS_MAX = 8
/** Requests that wait for room; one more is refused. */
export const WAITING_MAX = 256
/** Requests that share the steps. */
export const RUNNING_MAX = 64
/** Keys and values of all running requests, at least; more where a quarter of the free memory is more. */
export const CACHE_MIN_BYTES = 256 * 1024 * 1024

const DEFAULTS: Sampling = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  typicalP: 1,
  repetitionPenalty: 1,
  frequencyPenalty: 0,
  presencePenalty: 0,
  logitBias: new Map(),
  seed: 0n,
  choice: 0
}

/** Compiled constraints that are kept; clients send the same schema again and again. */
export const GRAMMARS_MAX = 64

/** What tests and checks need beyond {@link Engine}. */
export interface LocalEngine extends Engine {
  /**
   * Log-odds of all ids at every position (from `from` on), one row of the vocabulary's size each; the prompt is fed in chunks. floatCache: keys and values
   * are kept as floats, which gives other bits than serving does.
   */
  evaluate(
    tokens: Int32Array,
    options?: {
      chunk?: number
      cpu?: string
      floatCache?: boolean
      adapters?: readonly AdapterChoice[]
      from?: number
    }
  ): Promise<Float32Array>
  stats(): EngineStats
  /** Positions the model was made for. */
  readonly trainedContext: number
  /** What is odd about the file but can be lived with, for the log. */
  readonly warnings: readonly string[]
  /** Which layers lie where, for the log; empty when that is one place. */
  readonly placement: string
}

/** A level of CPU by name; another addon for CUDA devices: that of the emulated one. */
type TestOptions = EngineOptions & { cpu?: string; cudaAddon?: string }

/**
 * Opens a model off the event loop.
 * @param path - a GGUF file. It must not be changed in place while it is open: replace it by renaming.
 * @throws {ZgError} ERR_NO_INPUT when there is no such file, ERR_BAD_INPUT when it is no model that can be run, ERR_NATIVE without
 *   the native part, ERR_UNAVAILABLE when the device asked for is not there.
 */
export async function openEngine(path: string, options: TestOptions = {}): Promise<LocalEngine> {
  const addon = inferAddon()
  if (!existsSync(path)) throw new ZgError('ERR_NO_INPUT', `model file '${path}' does not exist`)
  const wanted = options.device ?? 'cpu'
  const device = backendOf(wanted, options.cudaAddon)
  const adapted = (options.adapters?.length ?? 0) > 0
  if (device !== undefined && adapted && wanted !== 'auto') {
    throw new ZgError('ERR_USAGE', 'LoRA adapters are applied on the CPU alone', { hint: "use '--device cpu'" })
  }
  // What the CPU alone can do is done there.
  const backend = adapted ? undefined : device
  const places = placesOf(options, backend)
  const placement = options.numa === undefined ? undefined : placementOf(options.numa, options.cpus)
  const cpus = placement?.cpus ?? options.cpus
  const nodes = placement?.nodes ?? []
  const answers = new Answers()
  const native = await Promise.resolve()
    .then(() =>
      addon.open(
        path,
        {
          threads:
            options.threads ??
            options.cpus?.length ??
            Math.min(DEFAULT_THREADS_MAX, availableParallelism(), cpus?.length ?? Number.POSITIVE_INFINITY),
          pin: options.pin ?? false,
          ...(cpus === undefined ? {} : { cpus: Int32Array.from(cpus) }),
          ...(nodes.length === 0 ? {} : { nodes: Int32Array.from(nodes), interleave: options.numa === 'interleave' }),
          contextLength: options.contextLength ?? DEFAULT_CONTEXT,
          cacheBytes:
            options.cacheBytes ?? (backend !== undefined ? 0 : Math.max(CACHE_MIN_BYTES, Math.floor(freemem() / 4))),
          ...places,
          waiting: options.waiting ?? WAITING_MAX,
          running: options.running ?? RUNNING_MAX,
          patienceMs: options.patienceMs ?? 0,
          ...(options.draft === undefined ? {} : { draft: options.draft }),
          ...(options.cpu === undefined ? {} : { cpu: options.cpu })
        },
        words => answers.deliver(words)
      )
    )
    .catch((err: unknown) => {
      throw new ZgError('ERR_BAD_INPUT', `model '${path}' cannot be run: ${messageOf(err)}`, { cause: err })
    })
  try {
    const tokenizer = openTokenizer(addon, path)
    const adapters = await Adapters.load(native, options.adapters ?? [])
    const engine = new NativeEngine(path, native, answers, tokenizer, templateOf(tokenizer), adapters, options)
    if (placement?.note !== undefined) engine.warnings.push(placement.note)
    return engine
  } catch (err) {
    await native.close()
    throw err
  }
}

class NativeEngine implements LocalEngine {
  readonly info: ModelInfo
  readonly tokenizer: ModelTokenizer
  readonly placement: string
  readonly warnings: string[]
  readonly trainedContext: number
  readonly #native: NativeModel
  readonly #answers: Answers
  readonly #template: ChatTemplate
  readonly #adapters: Adapters
  /** By the constraint as JSON, the latest used last. */
  readonly #grammars = new Map<string, Promise<AnswerGrammar>>()
  readonly #options: EngineOptions
  readonly #pieces: PieceCache
  #closing: Promise<void> | undefined

  constructor(
    path: string,
    native: NativeModel,
    answers: Answers,
    tokenizer: ModelTokenizer,
    template: ChatTemplate,
    adapters: Adapters,
    options: EngineOptions
  ) {
    this.#native = native
    this.#adapters = adapters
    this.#options = options
    this.#answers = answers
    this.#template = template
    this.tokenizer = tokenizer
    this.placement = native.info.placement
    this.#pieces = new PieceCache(tokenizer)
    this.warnings = [...native.info.warnings, ...tokenizer.info.warnings]
    const { name, architecture, parameters, fileBytes, contextLength, embeddingLength, vocabularySize, cpu } =
      native.info
    this.info = {
      name: name === '' ? basename(path).replace(/\.gguf$/, '') : name,
      architecture,
      parameters,
      fileBytes,
      contextLength,
      embeddingLength,
      vocabularySize,
      endIds: tokenizer.info.endIds,
      bosId: tokenizer.info.bosId,
      cpu,
      chatTemplate: tokenizer.info.chatTemplate,
      file: path
    }
    this.trainedContext = native.info.trainedContext
  }

  get adapters(): Adapters['infos'] {
    return this.#adapters.infos
  }

  chatPrompt: Engine['chatPrompt'] = (messages, options = {}) =>
    chatPrompt(this.tokenizer, this.#template, messages, options)

  textPrompt: Engine['textPrompt'] = text => this.tokenizer.prompt(text)

  constrain(constraint: Constraint): Promise<AnswerGrammar> {
    const key = JSON.stringify(constraint)
    const known = this.#grammars.get(key)
    this.#grammars.delete(key)
    const made = known ?? this.#compile(constraint)
    this.#grammars.set(key, made)
    if (this.#grammars.size > GRAMMARS_MAX) this.#grammars.delete(this.#grammars.keys().next().value!)
    // What was refused is refused again, by its own words.
    made.catch(() => this.#grammars.delete(key))
    return made
  }

  async #compile(constraint: Constraint): Promise<AnswerGrammar> {
    const { words, ignored } = compileConstraint(constraint)
    return { native: await this.tokenizer.grammar(words), ignored }
  }

  generate(request: GenerateRequest): AsyncGenerator<Step, void, void> {
    const { contextLength, name } = this.info
    const { prompt } = request
    if (prompt.length === 0) throw new ZgError('ERR_BAD_INPUT', 'the prompt is empty')
    if (prompt.length > contextLength) {
      throw new ZgError('ERR_BAD_INPUT', `prompt has ${prompt.length} tokens, '${name}' takes ${contextLength}`)
    }
    return this.#run(request)
  }

  async *#run(request: GenerateRequest): AsyncGenerator<Step, void, void> {
    const { signal } = request
    const text = new TextStream(request.stop ?? [], { keepStop: request.keepStop === true })
    if (signal?.aborted === true) return yield { text: '', finish: 'cancelled' }
    if (request.maxTokens <= 0) return yield { text: '', finish: 'length' }
    const id = this.#submit(request)
    const answer = this.#answers.open(id)
    const abort = (): void => this.#native.cancel(id)
    signal?.addEventListener('abort', abort, { once: true })
    let finished = false
    const ends = new Set(this.#endIds(request))
    // Records of the prompt come before those of the answer.
    let prompt = request.promptLogprobs === true ? request.prompt.length - 1 : 0
    try {
      while (!finished) {
        const record = await answer.next()
        finished = record.finish !== undefined
        if (record.finish === 'failed') throw failure(record)
        if (record.finish === 'expired') {
          throw new ZgError('ERR_UNAVAILABLE', 'no capacity became free in time', { hint: 'try again later' })
        }
        if (prompt > 0 && !finished) {
          prompt--
          yield { text: '', prompt: true, id: record.id!, logprob: this.#logprob(record) }
          continue
        }
        const step = this.#step(record, text, ends, request)
        if (step.finish !== undefined && !finished) {
          // A stop string ends the answer here; the native part learns it now.
          abort()
          finished = true
        }
        yield step
      }
    } finally {
      signal?.removeEventListener('abort', abort)
      this.#answers.close(id)
      // The consumer left early.
      if (!finished) abort()
    }
  }

  #step(record: TokenRecord, text: TextStream, ends: ReadonlySet<number>, request: GenerateRequest): Step {
    const step: Step = { text: '' }
    // The token that ends an answer is no part of it.
    const ended = record.finish === 'stop' && record.id !== undefined && ends.has(record.id)
    if (record.cached > 0) step.cachedTokens = record.cached
    if (record.trace !== undefined) step.trace = record.trace
    if (record.id !== undefined) {
      step.id = record.id
      if (!ended) step.text = text.push(this.#pieces.get(record.id, request.visible?.has(record.id) === true))
      if (record.logprob !== undefined) step.logprob = this.#logprob(record)
    }
    if (text.stopped !== undefined) {
      step.finish = 'stop'
      step.stopReason = text.stopped
    } else if (record.finish !== undefined && record.finish !== 'failed' && record.finish !== 'expired') {
      step.finish = record.finish
      if (ended && request.stopIds?.includes(record.id!) === true) step.stopReason = record.id!
      step.text += text.finish()
    }
    return step
  }

  #logprob(record: TokenRecord): NonNullable<Step['logprob']> {
    const named = (id: number, logprob: number): TokenLogprob => {
      const bytes = this.tokenizer.piece(id, true)
      return bytes.length > 0 && this.tokenizer.piece(id).length === 0
        ? { id, logprob, bytes, hidden: true }
        : { id, logprob, bytes }
    }
    return { ...named(record.id!, record.logprob ?? 0), top: record.top.map(t => named(t.id, t.logprob)) }
  }

  #endIds(request: GenerateRequest): number[] {
    const own = request.ignoreEnd === true ? [] : this.info.endIds
    return [...new Set([...own, ...(request.stopIds ?? [])])]
  }

  #submit(request: GenerateRequest): number {
    return this.#accepted(this.#nativeRequest(request), request.prompt.length + request.maxTokens)
  }

  #accepted(request: NativeRequest, total: number): number {
    const id = submitted(() => this.#native.submit(request))
    if (id === -1) {
      throw new ZgError(
        'ERR_UNAVAILABLE',
        `the engine is busy: ${this.#options.waiting ?? WAITING_MAX} requests wait`,
        {
          hint: 'try again soon'
        }
      )
    }
    if (id === -2) {
      throw new ZgError('ERR_BAD_INPUT', `${total} tokens take more memory than all requests together may`)
    }
    if (id === -3) throw new ZgError('ERR_STOPPED', 'the engine is closed')
    if (id === -4) throw new ZgError('ERR_UNAVAILABLE', `the device failed: ${this.#native.fault()}`)
    return id
  }

  #nativeRequest(request: GenerateRequest): NativeRequest {
    const { logitBias, ...sampling } = { ...DEFAULTS, ...defined(request.sampling) }
    const account = request.account ?? ''
    const adapters = this.#adapters.pairs(request.adapters)
    return {
      ...sampling,
      topK: Math.max(0, sampling.topK),
      seed: request.sampling.seed ?? randomBytes(8).readBigUInt64LE(),
      biasIds: Int32Array.from(logitBias.keys()),
      biasValues: Float32Array.from(logitBias.values()),
      prompt: request.prompt,
      maxTokens: Math.min(request.maxTokens, this.info.contextLength),
      endIds: Int32Array.from(this.#endIds(request)),
      logprobs: request.logprobs ?? -1,
      minTokens: request.minTokens ?? 0,
      outputFrom: request.outputFrom ?? request.prompt.length,
      promptLogprobs: request.promptLogprobs === true,
      pooling: 0,
      grammar: request.grammar?.native as NativeGrammar | undefined,
      account,
      // Who does not name a salt shares with himself alone; a check shares with nobody, nor does who wants to know the prompt's odds.
      ...(request.forced === undefined
        ? request.promptLogprobs === true
          ? {}
          : { salt: saltOf(this.#options.sharedCache === true ? '' : account, request.cacheSalt ?? '') }
        : { forced: request.forced }),
      lookUp: this.#options.lookUp ?? true,
      ...(request.trace === undefined ? {} : { trace: request.trace }),
      ...(adapters === undefined ? {} : { adapters })
    }
  }

  async embed(
    prompt: Int32Array,
    options: { pooling?: 'mean' | 'last'; account?: string; signal?: AbortSignal } = {}
  ): Promise<Float32Array> {
    const { signal, account } = options
    const { salt: _none, ...request } = this.#nativeRequest({
      prompt,
      maxTokens: 1,
      sampling: { seed: 0n },
      ...(account === undefined ? {} : { account })
    })
    // What is shared with others has no states any more.
    const id = this.#accepted({ ...request, pooling: options.pooling === 'last' ? 2 : 1 }, prompt.length)
    const answer = this.#answers.open(id)
    const abort = (): void => this.#native.cancel(id)
    if (signal?.aborted === true) abort()
    signal?.addEventListener('abort', abort, { once: true })
    try {
      const record = await answer.next()
      if (record.finish === 'failed') throw failure(record)
      if (record.finish !== 'stop')
        throw new ZgError('ERR_UNAVAILABLE', 'the text was not embedded', { hint: 'try again' })
      const out = Float32Array.from(record.top, x => x.logprob)
      let sum = 0
      for (const x of out) sum += x * x
      const length = Math.sqrt(sum)
      return length > 0 ? out.map(x => x / length) : out
    } finally {
      signal?.removeEventListener('abort', abort)
      this.#answers.close(id)
    }
  }

  evaluate(
    tokens: Int32Array,
    options: NonNullable<Parameters<LocalEngine['evaluate']>[1]> = {}
  ): Promise<Float32Array> {
    const { chunk = 64, cpu, floatCache, from } = options
    return this.#native.evaluate(tokens, chunk, cpu, floatCache, this.#adapters.pairs(options.adapters), from)
  }

  stats(): EngineStats {
    return this.#native.stats()
  }

  close(): Promise<void> {
    this.#closing ??= this.#native.close().finally(() => this.#answers.cancelAll())
    return this.#closing
  }
}

/** Where layers are to lie, for the native part. */
function placesOf(
  { split, deviceLayers, device }: EngineOptions,
  backend: NativeBackend | undefined
): Partial<NativeBackend> & { shares?: Int32Array; deviceLayers?: number; hostBytes?: number } {
  if (backend === undefined) {
    if ((split === undefined && deviceLayers === undefined) || device === 'auto') return {}
    throw new ZgError('ERR_USAGE', 'layers are split over CUDA devices alone', { hint: "use '--device cuda:all'" })
  }
  if (split !== undefined && split.length !== backend.devices.length) {
    throw new ZgError('ERR_USAGE', `split has ${split.length} shares for ${backend.devices.length} devices`)
  }
  return {
    ...backend,
    ...(split === undefined ? {} : { shares: Int32Array.from(split) }),
    ...(deviceLayers === undefined ? {} : { deviceLayers }),
    hostBytes: freemem()
  }
}

/** Fields that are there, so that an explicit undefined means the default. */
function defined<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, v]) => v !== undefined)) as T
}

/** Salts that are remembered: the same callers come again and again. */
export const SALTS_MAX = 1_024
/** Longer names are not kept. */
const SALT_NAME_MAX = 256
const salts = new Map<string, string>()

/** A name of bounded length for who shares what was computed. */
function saltOf(account: string, salt: string): string {
  const name = JSON.stringify([account, salt])
  const known = salts.get(name)
  if (known !== undefined) return known
  const made = createHash('sha256').update(name).digest('hex')
  if (name.length <= SALT_NAME_MAX) {
    if (salts.size >= SALTS_MAX) salts.delete(salts.keys().next().value!)
    salts.set(name, made)
  }
  return made
}

/** What the binding says of a wrong argument is the caller's bad input. */
function submitted(call: () => number): number {
  try {
    return call()
  } catch (err) {
    throw new ZgError('ERR_BAD_INPUT', messageOf(err), { cause: err })
  }
}

/** In place of a layer: the grammar cannot be followed any further, the device failed (native/infer/scheduler.h). */
const NO_WAY = 0xffffffff
const DEVICE_LOST = 0xfffffffe

function failure(record: TokenRecord): ZgError {
  if (record.failedLayer === NO_WAY) {
    return new ZgError('ERR_BAD_INPUT', 'the grammar is too ambiguous, or needs characters that the vocabulary lacks')
  }
  if (record.failedLayer === DEVICE_LOST) return new ZgError('ERR_UNAVAILABLE', 'the device failed')
  if (record.failedLayer === 0) return new ZgError('ERR_UNAVAILABLE', 'no memory left for keys and values')
  return new ZgError('ERR_CORRUPT', `the model's values stop being finite in layer ${record.failedLayer}`)
}
