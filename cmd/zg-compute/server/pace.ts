/**
 * How a stream's steps become events. The first token leaves at once; after that a stream sends at most once an interval, and what came
 * meanwhile is one event: its text and odds joined, in order. A token that comes later than an interval after the last event leaves at
 * once, so that models slower than that are told token by token, without delay.
 */
import type { ChatStep } from '../../../lib/infer/chat-run.ts'
import { ChatChunks, type CompletionChunks, type Logprob } from '../../../lib/infer/openai-answer.ts'
import type { Clock } from '../../../lib/ports/clock.ts'

/** Between two events of a stream, unless `--stream-interval` says otherwise. */
export const STREAM_INTERVAL_MS = 20

/** One timer for all streams: whoever holds something back is called at its next tick, at most an interval later. */
export class Pacer {
  readonly #clock: Clock
  readonly #intervalMs: number
  #held: (() => void)[] = []

  /** @param intervalMs - 0: every token has an event of its own. */
  constructor(clock: Clock, intervalMs: number = STREAM_INTERVAL_MS) {
    this.#clock = clock
    this.#intervalMs = intervalMs
  }

  /** Whether a stream that sent last at this time may send again. */
  due(sentMs: number): boolean {
    return this.#intervalMs === 0 || this.#clock.monotonic() - sentMs >= this.#intervalMs
  }

  /** Calls `send` once, soon. It must not throw. */
  hold(send: () => void): void {
    if (this.#held.push(send) > 1) return
    this.#clock.after(this.#intervalMs, () => {
      const held = this.#held
      this.#held = []
      for (const one of held) one()
    })
  }
}

/** What a choice has to tell: steps in, as few events as they need out. */
export class Pieces {
  readonly #chunks: ChatChunks | CompletionChunks
  readonly #index: number
  readonly #callId: () => string
  /** Ids of the calls so far. */
  readonly #calls: string[] = []
  /** Events that nothing can be joined to any more. */
  #events = ''
  #kind: 'text' | 'thought' | 'call' = 'text'
  #text = ''
  #odds: Logprob[] = []

  constructor(chunks: ChatChunks | CompletionChunks, index: number, callId: () => string) {
    this.#chunks = chunks
    this.#index = index
    this.#callId = callId
  }

  /** Text of the answer, with the odds of its tokens where they are told. */
  text(text: string, odds: readonly Logprob[]): void {
    if (text === '' && odds.length === 0) return
    this.#turn('text')
    this.#text += text
    if (odds.length > 0) this.#odds.push(...odds)
  }

  /** Thoughts and calls of a step; completions have none. */
  rest(step: ChatStep): void {
    if (!(this.#chunks instanceof ChatChunks)) return
    if (step.reasoning !== undefined && step.reasoning !== '') {
      this.#turn('thought')
      this.#text += step.reasoning
    }
    if (step.call === undefined) return
    const { name, arguments: piece, index } = step.call
    if (index !== this.#calls.length - 1 || name !== undefined) this.#close()
    this.#turn('call')
    if (name !== undefined) {
      const id = this.#callId()
      this.#calls[index] = id
      this.#events += this.#chunks.call(this.#index, index, { id, name }, '')
    }
    this.#text += piece
  }

  /** All that was not taken yet; '' when there is nothing. */
  take(): string {
    this.#close()
    const events = this.#events
    this.#events = ''
    return events
  }

  #turn(kind: 'text' | 'thought' | 'call'): void {
    if (kind !== this.#kind) this.#close()
    this.#kind = kind
  }

  #close(): void {
    const text = this.#text
    const odds = this.#odds
    if (text === '' && odds.length === 0) return
    this.#text = ''
    const chunks = this.#chunks
    if (this.#kind === 'text') {
      this.#events += chunks.text(this.#index, text, odds.length === 0 ? undefined : odds)
      if (odds.length > 0) this.#odds = []
    } else if (chunks instanceof ChatChunks) {
      this.#events +=
        this.#kind === 'thought'
          ? chunks.reasoning(this.#index, text)
          : chunks.call(this.#index, this.#calls.length - 1, undefined, text)
    }
  }
}
