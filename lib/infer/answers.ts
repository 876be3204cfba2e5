/**
 * From the native part's records, delivered once a step for all requests, to a queue for each request. A queue holds at most the
 * answer that its request may have: the native part stops there.
 */
import { assert } from '../base/errors.ts'

/** One record of native/napi/infer_napi.cpp. */
export interface TokenRecord {
  id: number | undefined
  logprob: number | undefined
  top: { id: number; logprob: number }[]
  finish: 'stop' | 'length' | 'cancelled' | 'failed' | 'expired' | undefined
  /** With `failed`: counted from 1; 0 is lack of memory. */
  failedLayer: number
  /** Tokens of the prompt that were there already. */
  cached: number
  /** keccak-256 of the state that predicts the token, and the running hash with it. */
  trace: { hidden: Uint8Array; running: Uint8Array } | undefined
}

const HEADER_WORDS = 10
const DIGEST_WORDS = 8
const FINISHES = [undefined, 'stop', 'length', 'cancelled', 'failed', 'expired'] as const
const CANCELLED: TokenRecord = {
  id: undefined,
  logprob: undefined,
  top: [],
  finish: 'cancelled',
  failedLayer: 0,
  cached: 0,
  trace: undefined
}

class Answer {
  readonly #records: TokenRecord[] = []
  #wake: ((record: TokenRecord) => void) | undefined

  push(record: TokenRecord): void {
    const wake = this.#wake
    this.#wake = undefined
    if (wake === undefined) this.#records.push(record)
    else wake(record)
  }

  /** The next record; one caller at a time. */
  next(): Promise<TokenRecord> {
    const record = this.#records.shift()
    if (record !== undefined) return Promise.resolve(record)
    assert(this.#wake === undefined, 'one reader an answer')
    return new Promise(resolve => {
      this.#wake = resolve
    })
  }
}

export class Answers {
  readonly #open = new Map<number, Answer>()

  /** Starts to collect a request's records: in the same turn of the event loop in which it was submitted. */
  open(id: number): Answer {
    const answer = new Answer()
    this.#open.set(id, answer)
    return answer
  }

  /** Further records of the request are dropped. */
  close(id: number): void {
    this.#open.delete(id)
  }

  cancelAll(): void {
    for (const answer of this.#open.values()) answer.push(CANCELLED)
  }

  /** Takes what the native part delivered. */
  deliver(words: Uint32Array): void {
    const floats = new Float32Array(words.buffer, words.byteOffset, words.length)
    for (let at = 0; at < words.length; ) {
      const count = words[at + 7]!
      const answer = this.#open.get(words[at]!)
      if (answer !== undefined) answer.push(record(words, floats, at))
      at += HEADER_WORDS + 2 * count + (words[at + 9] === 1 ? 2 * DIGEST_WORDS : 0)
    }
  }
}

function record(words: Uint32Array, floats: Float32Array, at: number): TokenRecord {
  const top = []
  for (let i = 0; i < words[at + 7]!; i++) {
    top.push({ id: words[at + HEADER_WORDS + 2 * i]!, logprob: floats[at + HEADER_WORDS + 2 * i + 1]! })
  }
  return {
    id: words[at + 2] === 1 ? words[at + 3] : undefined,
    logprob: words[at + 5] === 1 ? floats[at + 6] : undefined,
    top,
    finish: FINISHES[words[at + 1]!],
    failedLayer: words[at + 4]!,
    cached: words[at + 8]!,
    trace: words[at + 9] === 1 ? digests(words, at + HEADER_WORDS + 2 * words[at + 7]!) : undefined
  }
}

function digests(words: Uint32Array, at: number): NonNullable<TokenRecord['trace']> {
  return { hidden: digest(words, at), running: digest(words, at + DIGEST_WORDS) }
}

/** Its bytes, little endian. Small arrays cost little as long as nobody asks for their buffer. */
function digest(words: Uint32Array, from: number): Uint8Array {
  const out = new Uint8Array(4 * DIGEST_WORDS)
  for (let i = 0; i < DIGEST_WORDS; i++) {
    const word = words[from + i]!
    out[4 * i] = word
    out[4 * i + 1] = word >>> 8
    out[4 * i + 2] = word >>> 16
    out[4 * i + 3] = word >>> 24
  }
  return out
}
