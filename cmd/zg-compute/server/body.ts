/**
 * The bytes of an answer on their way out: hashed as sent where they are signed, written no faster than the client reads, and ended only when the caller says
 * so. A stream that has nothing to say sends a comment every 15 s, which is part of the signed bytes.
 */
import { createHash, type Hash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { SSE_KEEP_ALIVE } from '../../../lib/infer/openai-answer.ts'
import type { Clock } from '../../../lib/ports/clock.ts'

/** A client that reads nothing for so long is cut off. */
export const SLOW_READER_MS = 60_000
const KEEP_ALIVE_MS = 15_000

const DONE = Promise.resolve()

export class AnswerBody {
  readonly #res: ServerResponse
  readonly #clock: Clock
  /** Undefined where nobody signs what is sent. */
  readonly #hash: Hash | undefined
  #cancelKeepAlive: () => void = () => {}
  /** When something was sent last. */
  #sentMs = 0
  /** Writes that wait for the reader, one after the other; undefined while he takes all. */
  #waiting: Promise<void> | undefined

  constructor(res: ServerResponse, clock: Clock, o: { hashed: boolean } = { hashed: true }) {
    this.#res = res
    this.#clock = clock
    this.#hash = o.hashed ? createHash('sha256') : undefined
  }

  get started(): boolean {
    return this.#res.headersSent
  }

  get gone(): boolean {
    return this.#res.destroyed || this.#res.writableEnded
  }

  /** The reader is behind: see {@link room}. */
  get blocked(): boolean {
    return this.#waiting !== undefined
  }

  /** Resolves when all that was written is on its way, or the client left. */
  room(): Promise<void> {
    return this.#waiting ?? DONE
  }

  /** Sends the head of a stream and starts keeping it alive. */
  startStream(headers: Record<string, string>): void {
    for (const [name, value] of Object.entries(headers)) this.#res.setHeader(name, value)
    this.#res.writeHead(200, { 'Content-Type': 'text/event-stream' })
    this.#sentMs = this.#clock.monotonic()
    this.#keepAlive(KEEP_ALIVE_MS)
  }

  /** Writes events; resolves when the client can take more. A client that left makes it return at once. */
  write(text: string): Promise<void> {
    if (text === '' || this.gone) return DONE
    if (this.#waiting === undefined) {
      if (this.#send(text)) return DONE
      return this.#wait(this.#drained())
    }
    return this.#wait(this.#waiting.then(() => (this.gone || this.#send(text) ? undefined : this.#drained())))
  }

  /** The hash if `last` were the end of the body. */
  hashWith(last: Uint8Array): Uint8Array {
    return new Uint8Array((this.#hash?.copy() ?? createHash('sha256')).update(last).digest())
  }

  /** No further keep-alives: what was hashed is all that will be sent before the end. Waits for what is being written. */
  async quiet(): Promise<void> {
    this.#cancelKeepAlive()
    await this.#waiting
  }

  /** The last bytes. */
  end(last: Uint8Array): void {
    this.#cancelKeepAlive()
    if (this.gone) return
    this.#hash?.update(last)
    this.#res.end(last)
  }

  /** A whole answer at once. */
  sendWhole(headers: Record<string, string>, body: Uint8Array): void {
    if (this.gone) return
    for (const [name, value] of Object.entries(headers)) this.#res.setHeader(name, value)
    this.#res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length })
    this.#res.end(body)
  }

  /** False: the reader is behind. */
  #send(text: string): boolean {
    const bytes = Buffer.from(text)
    this.#hash?.update(bytes)
    this.#sentMs = this.#clock.monotonic()
    return this.#res.write(bytes)
  }

  #wait(until: Promise<void>): Promise<void> {
    const waiting = until.then(() => {
      if (this.#waiting === waiting) this.#waiting = undefined
    })
    this.#waiting = waiting
    return waiting
  }

  #drained(): Promise<void> {
    return new Promise<void>(resolve => {
      const done = (): void => {
        cancel()
        this.#res.off('drain', done)
        this.#res.off('close', done)
        resolve()
      }
      const cancel = this.#clock.after(SLOW_READER_MS, () => {
        this.#res.destroy()
        done()
      })
      this.#res.once('drain', done)
      this.#res.once('close', done)
    })
  }

  /** One timer for the whole stream: it looks back how long nothing was sent. */
  #keepAlive(ms: number): void {
    this.#cancelKeepAlive = this.#clock.after(ms, () => {
      if (this.gone) return
      const silent = this.#clock.monotonic() - this.#sentMs
      // Behind a reader who is slow a comment would only be more to wait for.
      const wanted = silent >= KEEP_ALIVE_MS && this.#res.writableLength === 0
      if (wanted) void this.write(SSE_KEEP_ALIVE)
      this.#keepAlive(silent >= KEEP_ALIVE_MS ? KEEP_ALIVE_MS : KEEP_ALIVE_MS - silent)
    })
  }
}
