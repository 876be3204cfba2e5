/**
 * The bytes of an answer on their way out: hashed as sent, written no faster than the client reads, and ended only when the caller says
 * so. A stream that has nothing to say sends a comment every 15 s, which is part of the signed bytes.
 */
import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { SSE_KEEP_ALIVE } from '../../../lib/infer/openai-answer.ts'
import type { Clock } from '../../../lib/ports/clock.ts'

/** A client that reads nothing for so long is cut off. */
export const SLOW_READER_MS = 60_000
const KEEP_ALIVE_MS = 15_000

export class AnswerBody {
  readonly #res: ServerResponse
  readonly #clock: Clock
  readonly #hash = createHash('sha256')
  #cancelKeepAlive: () => void = () => {}
  /** Writes that wait for the reader, one after the other. */
  #last: Promise<void> = Promise.resolve()

  constructor(res: ServerResponse, clock: Clock) {
    this.#res = res
    this.#clock = clock
  }

  get started(): boolean {
    return this.#res.headersSent
  }

  get gone(): boolean {
    return this.#res.destroyed || this.#res.writableEnded
  }

  /** Sends the head of a stream and starts keeping it alive. */
  startStream(headers: Record<string, string>): void {
    for (const [name, value] of Object.entries(headers)) this.#res.setHeader(name, value)
    this.#res.writeHead(200, { 'Content-Type': 'text/event-stream' })
    this.#res.socket?.setNoDelay(true)
    this.#arm()
  }

  /** Writes events; resolves when the client can take more. A client that left makes it return at once. */
  write(text: string): Promise<void> {
    if (text === '' || this.gone) return Promise.resolve()
    this.#last = this.#last.then(() => this.#write(text))
    return this.#last
  }

  /** The hash if `last` were the end of the body. */
  hashWith(last: Uint8Array): Uint8Array {
    return new Uint8Array(this.#hash.copy().update(last).digest())
  }

  /** No further keep-alives: what was hashed is all that will be sent before the end. Waits for what is being written. */
  async quiet(): Promise<void> {
    this.#cancelKeepAlive()
    await this.#last
  }

  /** The last bytes. */
  end(last: Uint8Array): void {
    this.#cancelKeepAlive()
    if (this.gone) return
    this.#hash.update(last)
    this.#res.end(last)
  }

  /** A whole answer at once. */
  sendWhole(headers: Record<string, string>, body: Uint8Array): void {
    if (this.gone) return
    for (const [name, value] of Object.entries(headers)) this.#res.setHeader(name, value)
    this.#res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length })
    this.#res.end(body)
  }

  async #write(text: string): Promise<void> {
    if (this.gone) return
    const bytes = Buffer.from(text)
    this.#hash.update(bytes)
    this.#arm()
    if (this.#res.write(bytes)) return
    await new Promise<void>(resolve => {
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

  #arm(): void {
    this.#cancelKeepAlive()
    this.#cancelKeepAlive = this.#clock.after(KEEP_ALIVE_MS, () => {
      // Behind a reader who is slow a comment would only be more to wait for.
      if (!this.gone && this.#res.writableLength === 0) void this.write(SSE_KEEP_ALIVE)
      else if (!this.gone) this.#arm()
    })
  }
}
