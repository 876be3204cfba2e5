/**
 * One paid (or plain) request from its parsed body to its last byte:
 *
 *     plan ─► hold the money ─► take a place ─► generate, write as it comes ─► record the fee and the signature ─► the last bytes
 *
 * The end of the body leaves only after fee and signature are on the disk, so a client that asks at once finds both. A client that left
 * is billed for the tokens made until then; a request that failed before anything reached the client costs nothing.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { messageOf } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { chatFee } from '../../../lib/codec/compute/fee.ts'
import { responseText, signResponse } from '../../../lib/codec/compute/response-signature.ts'
import { sha256 } from '../../../lib/crypto/hash.ts'
import {
  type AnswerHead,
  ChatChunks,
  type Choice,
  CompletionChunks,
  chatAnswer,
  completionAnswer,
  type Finish,
  type Logprob,
  SSE_DONE,
  sseError
} from '../../../lib/infer/openai-answer.ts'
import type { Engine, Step } from '../../../lib/infer/types.ts'
import type { FeeRecord } from '../ledger/records.ts'
import { newId } from '../ledger/settler.ts'
import type { Broker, Service } from '../serve/service.ts'
import { AnswerBody } from './body.ts'
import { apiError, BusyError, isBug } from './errors.ts'
import { type Kind, type Plan, planRequest, usageOf } from './plan.ts'

/** Choices of one request that are generated at once. */
const CHOICES_PARALLEL = 4
/** What a stream has delivered is journalled this often: more than that is never lost when the process dies. */
const PROGRESS_MS = 50
/** A stream that has produced nothing for so long is opened, so that keep-alives can flow. */
const OPEN_AFTER_MS = 15_000

export interface AnswerRequest {
  kind: Kind
  /** Exactly as received: it is hashed. */
  bytes: Uint8Array
  body: Record<string, unknown>
  /** Who pays; undefined on the plain server. */
  user: Uint8Array | undefined
  /** Who asks, on the plain server: a name for the order of service. */
  account: string
  headers: Record<string, string>
}

/** @throws before the first byte left: refusals and failures; later ones end the stream. */
export async function answer(s: Service, a: AnswerRequest, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const engine = s.engine!
  const plan = planRequest(a.kind, a.body, { engine, models: s.modelNames, random: s.random })
  const running = new Run(s, engine, a, plan, res)
  await running.all(req)
}

class Run {
  readonly #s: Service
  readonly #engine: Engine
  readonly #a: AnswerRequest
  readonly #plan: Plan
  readonly #res: ServerResponse
  readonly #body: AnswerBody
  readonly #stop = new AbortController()
  readonly #id: string
  readonly #head: AnswerHead
  readonly #createdMs: number
  readonly #beganMs: number
  #made = 0
  #firstMs: number | undefined
  #noted = Number.NEGATIVE_INFINITY

  constructor(s: Service, engine: Engine, a: AnswerRequest, plan: Plan, res: ServerResponse) {
    this.#s = s
    this.#engine = engine
    this.#a = a
    this.#plan = plan
    this.#res = res
    this.#body = new AnswerBody(res, s.clock)
    this.#id = newId(s.random)
    this.#createdMs = s.clock.now()
    this.#beganMs = s.clock.monotonic()
    this.#head = {
      id: `${a.kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${this.#id}`,
      created: Math.floor(this.#createdMs / 1000),
      model: s.modelNames[0]!,
      fingerprint: s.fingerprint
    }
  }

  get #broker(): Broker | undefined {
    return this.#a.user === undefined ? undefined : this.#s.broker
  }

  async all(_req: IncomingMessage): Promise<void> {
    const onClose = (): void => {
      if (!this.#res.writableFinished) this.#stop.abort(new Error('the client left'))
    }
    this.#res.once('close', onClose)
    this.#s.running.add(this.#stop)
    let release: () => void = () => {}
    let free: () => void = () => {}
    try {
      const broker = this.#broker
      if (broker !== undefined) release = await broker.gate.reserve(this.#a.user!, this.#most(broker))
      free = this.#s.slots.take(this.#stop.signal)
      if (this.#plan.stream) await this.#stream()
      else await this.#whole()
    } catch (err) {
      if (this.#stop.signal.aborted && this.#body.gone) return
      throw err
    } finally {
      free()
      release()
      this.#s.running.delete(this.#stop)
      this.#res.off('close', onClose)
      this.#count()
    }
  }

  /** The most that the request can cost. */
  #most(broker: Broker): bigint {
    const { promptTokens, maxTokens } = this.#plan
    return chatFee({ promptTokens, completionTokens: maxTokens }, broker.prices()).fee
  }

  async #whole(): Promise<void> {
    const { kind, tasks } = this.#plan
    const choices: Choice[] = []
    await this.#generate(async (index, steps) => {
      const prefix = tasks[index]!.prefix
      let text = prefix
      let finish: Finish = 'length'
      const logprobs: Logprob[] = []
      for await (const step of steps) {
        text += step.text
        if (step.logprob !== undefined) logprobs.push(step.logprob)
        if (step.finish !== undefined) finish = step.finish
      }
      choices.push({ index, text, finish, ...(this.#plan.logprobs ? { logprobs } : {}) })
    })
    if (this.#body.gone) {
      // Made for a client that did not wait for it.
      await this.#bill(undefined)
      return
    }
    // Stopped by us, not by the client: what there is may be less than was asked for, and is not sold.
    if (this.#stop.signal.aborted) throw new BusyError(503, 'draining', 'the server is stopping', 5)
    choices.sort((x, y) => x.index - y.index)
    const usage = usageOf(this.#plan, this.#made)
    const object = (kind === 'chat' ? chatAnswer : completionAnswer)(this.#head, choices, usage)
    const bytes = Buffer.from(JSON.stringify(object))
    await this.#bill(sha256(bytes))
    this.#body.sendWhole(this.#headers(), bytes)
  }

  async #stream(): Promise<void> {
    const { kind, includeUsage, tasks } = this.#plan
    const chunks = new (kind === 'chat' ? ChatChunks : CompletionChunks)(this.#head, includeUsage)
    const open = (): void => {
      if (!this.#body.started && !this.#body.gone) this.#body.startStream(this.#headers())
    }
    const cancelOpen = this.#s.clock.after(OPEN_AFTER_MS, open)
    let failure: unknown
    try {
      await this.#generate(async (index, steps) => {
        let begun = false
        let finish: Finish = 'length'
        for await (const step of steps) {
          open()
          const first = begun ? '' : chunks.open(index) + chunks.text(index, tasks[index]!.prefix)
          begun = true
          if (step.finish !== undefined) finish = step.finish
          const logprobs = step.logprob === undefined ? undefined : [step.logprob]
          // The generator is asked for the next token only when the reader has room.
          await this.#body.write(first + chunks.text(index, step.text, logprobs))
          this.#note()
        }
        open()
        const rest = begun ? '' : chunks.open(index) + chunks.text(index, tasks[index]!.prefix)
        await this.#body.write(rest + chunks.close(index, finish))
      })
    } catch (err) {
      failure = err
    } finally {
      cancelOpen()
    }
    if (failure !== undefined && !this.#body.started) throw failure
    if (failure !== undefined) this.#report(failure)
    const stopped =
      failure ?? (this.#stop.signal.aborted ? new BusyError(503, 'draining', 'the server is stopping', 5) : undefined)
    const tail =
      stopped === undefined ? chunks.usage(usageOf(this.#plan, this.#made)) + SSE_DONE : sseError(apiError(stopped))
    await this.#endStream(tail)
  }

  async #endStream(tail: string): Promise<void> {
    await this.#body.quiet()
    const bytes = Buffer.from(tail)
    try {
      await this.#bill(this.#body.gone ? undefined : this.#body.hashWith(bytes))
      this.#body.end(bytes)
    } catch (err) {
      this.#report(err)
      this.#body.end(Buffer.from(sseError(apiError(err))))
    }
  }

  /** Runs all tasks, a few at once; the first failure stops the others. */
  async #generate(each: (index: number, steps: AsyncIterable<Step>) => Promise<void>): Promise<void> {
    const waiting = [...this.#plan.tasks]
    let failed = false
    const worker = async (): Promise<void> => {
      for (let task = waiting.shift(); task !== undefined && !failed; task = waiting.shift()) {
        try {
          await each(task.index, task.request === undefined ? none() : this.#counted(task.request))
        } catch (err) {
          failed = true
          throw err
        }
      }
    }
    const workers = Array.from({ length: Math.min(CHOICES_PARALLEL, waiting.length) }, worker)
    const ends = await Promise.allSettled(workers)
    for (const end of ends) if (end.status === 'rejected') throw end.reason
  }

  async *#counted(request: NonNullable<Plan['tasks'][number]['request']>): AsyncGenerator<Step, void, void> {
    const account = this.#a.user === undefined ? this.#a.account : toHex(this.#a.user)
    for await (const step of this.#engine.generate({ ...request, account, signal: this.#stop.signal })) {
      if (step.id !== undefined) {
        this.#made++
        this.#firstMs ??= this.#s.clock.monotonic() - this.#beganMs
      }
      yield step
    }
  }

  /** What was delivered so far, for the case that the process dies. */
  #note(): void {
    const broker = this.#broker
    const now = this.#s.clock.monotonic()
    if (broker === undefined || this.#made === 0 || now - this.#noted < PROGRESS_MS) return
    this.#noted = now
    // A failure shows again, and counts, at the end.
    broker.book.progress(this.#record(broker)).catch(() => {})
  }

  #record(broker: Broker): FeeRecord {
    const counts = { promptTokens: this.#plan.promptTokens, completionTokens: this.#made }
    const { inputFee, outputFee } = chatFee(counts, broker.prices())
    return {
      id: this.#id,
      user: this.#a.user!,
      createdMs: this.#createdMs,
      ...counts,
      cachedTokens: 0,
      inputFee,
      outputFee
    }
  }

  /** Makes fee and signature durable. @param responseHash - undefined: nobody has the whole response, nothing is signed. */
  async #bill(responseHash: Uint8Array | undefined): Promise<void> {
    const broker = this.#broker
    if (broker === undefined) return
    const work: Promise<void>[] = []
    if (responseHash !== undefined) {
      const requestHash = sha256(this.#a.bytes)
      const signature = signResponse(responseText(requestHash, responseHash), broker.signerKey)
      work.push(broker.signatures.put(this.#id, this.#createdMs, { requestHash, responseHash, signature }))
    }
    const record = this.#record(broker)
    // A client that left before the first token owes nothing.
    const owed = responseHash !== undefined || this.#made > 0
    if (owed && record.inputFee + record.outputFee > 0n) work.push(broker.book.done(record))
    const ends = await Promise.allSettled(work)
    for (const end of ends) {
      if (end.status === 'fulfilled') continue
      throw new BusyError(503, 'disk_unavailable', 'the provider cannot record the request', 30)
    }
    if (owed) {
      this.#s.counters.fees.inc(Number(record.inputFee + record.outputFee))
      broker.onDebt(this.#a.user!)
    }
  }

  #headers(): Record<string, string> {
    const own = this.#broker === undefined ? {} : { 'ZG-Res-Key': this.#id }
    return { ...this.#a.headers, ...own, 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' }
  }

  #report(err: unknown): void {
    const fields = { error: messageOf(err), user: this.#a.user === undefined ? '' : toHex(this.#a.user) }
    if (isBug(err)) this.#s.logger.error('a request failed inside', fields)
    else this.#s.logger.warn('a stream ended early', fields)
  }

  #count(): void {
    const { counters } = this.#s
    if (this.#made === 0) return
    counters.promptTokens.inc(this.#plan.promptTokens)
    counters.completionTokens.inc(this.#made)
    if (this.#firstMs !== undefined) counters.firstTokenSeconds.observe(this.#firstMs / 1000)
  }
}

async function* none(): AsyncGenerator<Step, void, void> {}
