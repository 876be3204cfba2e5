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
import type { ChatStep } from '../../../lib/infer/chat-run.ts'
import {
  type AnswerHead,
  type Call,
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
import type { Engine } from '../../../lib/infer/types.ts'
import type { FeeRecord } from '../ledger/records.ts'
import { newId } from '../ledger/settler.ts'
import type { Broker, Service } from '../serve/service.ts'
import { AnswerBody } from './body.ts'
import { apiError, BusyError, isBug } from './errors.ts'
import type { Held } from './model-set.ts'
import { hold } from './models.ts'
import { Pieces } from './pace.ts'
import { type Kind, type Plan, planRequest, type Task, usageOf } from './plan.ts'

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
  const gone = new AbortController()
  const onClose = (): void => gone.abort(new Error('the client left'))
  res.once('close', onClose)
  const held = await hold(s, a.body.model, gone.signal)
  try {
    const id = newId(s.random)
    // What is paid for can be checked; on the plain server whoever wants that says so.
    const traced = a.user !== undefined || a.body.trace === true
    const engine = traced
      ? s.traces.watch(held.engine, id, a.user === undefined ? a.account : toHex(a.user))
      : held.engine
    const plan = await planRequest(a.kind, a.body, { engine, models: held.names, random: s.random })
    await new Run(s, held, a, plan, res, id).all(req)
  } finally {
    res.off('close', onClose)
    held.release()
  }
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
  /** Of the prompts, what was computed before; of what was made, thoughts. */
  readonly #cached = new Map<number, number>()
  #reasoning = 0
  #lastMs: number | undefined
  #firstMs: number | undefined
  #noted = Number.NEGATIVE_INFINITY

  constructor(s: Service, held: Held, a: AnswerRequest, plan: Plan, res: ServerResponse, id: string) {
    this.#s = s
    this.#engine = held.engine
    this.#a = a
    this.#plan = plan
    this.#res = res
    this.#body = new AnswerBody(res, s.clock, { hashed: a.user !== undefined })
    this.#id = id
    this.#createdMs = s.clock.now()
    this.#beganMs = s.clock.monotonic()
    this.#head = {
      id: `${a.kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${this.#id}`,
      created: Math.floor(this.#createdMs / 1000),
      model: held.names[0]!,
      fingerprint: held.fingerprint
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
    const { kind } = this.#plan
    const made: (Choice & { prompt: number; odds: number })[] = []
    await this.#generate(async (task, steps) => {
      const c = {
        index: task.index,
        prompt: task.prompt,
        text: task.prefix,
        reasoning: '',
        finish: 'length' as Finish,
        odds: 0
      }
      const logprobs: Logprob[] = this.#firstOdds(task)
      const calls: Call[] = []
      let counted = 0
      let stopReason: string | number | undefined
      for await (const step of steps) {
        this.#saw(task, step)
        if (step.logprob !== undefined && !(task.promptAlone && step.prompt !== true)) logprobs.push(step.logprob)
        if (step.prompt === true || task.promptAlone) continue
        c.text += step.text
        c.reasoning += step.reasoning ?? ''
        if (step.call?.name !== undefined) calls.push({ id: this.#callId(), name: step.call.name, arguments: '' })
        if (step.call !== undefined) calls[step.call.index]!.arguments += step.call.arguments
        if (step.logprob !== undefined) {
          c.odds += step.logprob.logprob
          counted++
        }
        if (step.finish !== undefined) c.finish = step.finish
        stopReason = step.stopReason ?? stopReason
      }
      c.odds /= Math.max(1, counted)
      made.push({
        ...c,
        calls,
        ...(this.#plan.logprobs ? { logprobs } : {}),
        ...(c.finish === 'stop' && stopReason !== undefined ? { stopReason } : {})
      })
    })
    const choices = likeliest(made, this.#plan.keep)
    if (this.#body.gone) {
      // Made for a client that did not wait for it.
      await this.#bill(undefined)
      return
    }
    // Stopped by us, not by the client: what there is may be less than was asked for, and is not sold.
    if (this.#stop.signal.aborted) throw new BusyError(503, 'draining', 'the server is stopping', 5)
    const usage = this.#usage()
    const object = (kind === 'chat' ? chatAnswer : completionAnswer)(this.#head, choices, usage)
    const bytes = Buffer.from(JSON.stringify(object))
    await this.#bill(sha256(bytes))
    this.#body.sendWhole(this.#headers(), bytes)
  }

  async #stream(): Promise<void> {
    const { kind, includeUsage } = this.#plan
    const chunks = new (kind === 'chat' ? ChatChunks : CompletionChunks)(this.#head, includeUsage)
    const open = (): void => {
      if (!this.#body.started && !this.#body.gone) this.#body.startStream(this.#headers())
    }
    const cancelOpen = this.#s.clock.after(OPEN_AFTER_MS, open)
    let failure: unknown
    try {
      await this.#generate(async (task, steps) => {
        const { index } = task
        const pieces = new Pieces(chunks, index, () => this.#callId())
        let begun = false
        let over = false
        let held = false
        let sentMs = Number.NEGATIVE_INFINITY
        let finish: Finish = 'length'
        const events = (): string => {
          if (begun) return pieces.take()
          begun = true
          const first = this.#firstOdds(task)
          return (
            chunks.open(index) + chunks.text(index, task.prefix, first.length === 0 ? undefined : first) + pieces.take()
          )
        }
        const send = (): void => {
          held = false
          if (over || this.#body.blocked) return
          const text = events()
          if (text === '') return
          sentMs = this.#s.clock.monotonic()
          void this.#body.write(text)
          this.#note()
        }
        try {
          for await (const step of steps) {
            open()
            this.#saw(task, step)
            if (step.finish !== undefined) finish = step.finish
            const silent = task.promptAlone || step.prompt === true
            const told =
              step.logprob !== undefined && this.#plan.logprobs && !(task.promptAlone && step.prompt !== true)
            pieces.text(silent ? '' : step.text, told ? [step.logprob!] : [])
            pieces.rest(step)
            // The next token is asked for only when the reader has room.
            if (this.#body.blocked) await this.#body.room()
            if (this.#s.pacer.due(sentMs)) send()
            else if (!held) {
              held = true
              this.#s.pacer.hold(send)
            }
          }
        } finally {
          over = true
        }
        open()
        await this.#body.write(events() + chunks.close(index, finish))
        this.#note()
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
    const tail = stopped === undefined ? chunks.usage(this.#usage()) + SSE_DONE : sseError(apiError(stopped))
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

  #usage(): ReturnType<typeof usageOf> {
    let cached = 0
    for (const n of this.#cached.values()) cached += n
    return usageOf(this.#plan, { made: this.#made, cached, reasoning: this.#reasoning })
  }

  #callId(): string {
    return `call_${newId(this.#s.random).replaceAll('-', '').slice(0, 24)}`
  }

  /** The entry of a prompt's first token where the prompt's odds are told. */
  #firstOdds(task: Task): Logprob[] {
    if (task.first === undefined) return []
    const { tokenizer } = this.#engine
    const bytes = tokenizer.piece(task.first, true)
    const hidden = tokenizer.piece(task.first).length === 0
    return [{ id: task.first, logprob: null, bytes, top: [], ...(hidden ? { hidden: true as const } : {}) }]
  }

  /** Runs all tasks, a few at once; the first failure stops the others. */
  async #generate(each: (task: Task, steps: AsyncIterable<ChatStep>) => Promise<void>): Promise<void> {
    const waiting = [...this.#plan.tasks]
    const account = this.#a.user === undefined ? this.#a.account : toHex(this.#a.user)
    let failed = false
    const worker = async (): Promise<void> => {
      for (let task = waiting.shift(); task !== undefined && !failed; task = waiting.shift()) {
        try {
          await each(task, task.run === undefined ? none() : task.run(this.#stop.signal, account))
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

  /** Counts a step. */
  #saw(task: Task, step: ChatStep): void {
    if (step.id !== undefined && step.prompt !== true && !task.promptAlone) {
      this.#made++
      this.#clockToken()
      if (step.reasoning !== undefined) this.#reasoning++
    }
    // The first part of the first choice says what was there before; the others share what that one computed.
    if (!this.#cached.has(task.prompt)) this.#cached.set(task.prompt, step.cachedTokens ?? 0)
  }

  #clockToken(): void {
    const now = this.#s.clock.monotonic()
    if (this.#firstMs === undefined) this.#firstMs = now - this.#beganMs
    else if (this.#lastMs !== undefined) this.#s.counters.tokenSeconds.observe((now - this.#lastMs) / 1000)
    this.#lastMs = now
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
    const ignored =
      this.#plan.ignored.length === 0 ? {} : { 'ZG-Ignored-Keywords': this.#plan.ignored.map(headerText).join(', ') }
    return { ...this.#a.headers, ...own, ...ignored, 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' }
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

async function* none(): AsyncGenerator<ChatStep, void, void> {}

/** Of each prompt's answers the likeliest, numbered anew; all of them when no more were made than are told. */
function likeliest(made: (Choice & { prompt: number; odds: number })[], keep: number): Choice[] {
  made.sort((x, y) => x.index - y.index)
  const byPrompt = new Map<number, typeof made>()
  for (const choice of made) byPrompt.set(choice.prompt, [...(byPrompt.get(choice.prompt) ?? []), choice])
  const out: Choice[] = []
  for (const group of byPrompt.values()) {
    const chosen = group.length > keep ? group.sort((x, y) => y.odds - x.odds).slice(0, keep) : group
    for (const { prompt: _p, odds: _o, ...choice } of chosen) out.push({ ...choice, index: out.length })
  }
  return out
}

/** A keyword as a header may have it. */
function headerText(keyword: string): string {
  return keyword.replace(/[^\x21-\x7e]/g, '?')
}
