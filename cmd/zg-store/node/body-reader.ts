/**
 * Takes exact amounts of bytes out of a request body: events and one copy to where the bytes shall lie. An async iterator over the
 * request costs a promise and two turns for each 64 KiB, and a copy more.
 */
import type { IncomingMessage } from 'node:http'
import { type Lease, lease } from './buffers.ts'
import { passing } from './young-garbage.ts'

/** Bytes that may wait here before the socket is paused: one read of the system beyond what is being worked on. */
const AHEAD_BYTES = 128 * 1024

export class BodyReader {
  readonly #req: IncomingMessage
  readonly #onChunk: () => void
  #chunks: Buffer[] = []
  /** Bytes of the first chunk that are used. */
  #used = 0
  #size = 0
  #ended = false
  #wake: (() => void) | undefined
  /** What is being filled, and how much of it is: one promise for a segment, not one for each piece. */
  #target: Uint8Array | undefined
  #have = 0
  /** Memory of the first chunk, when it is one of ours. */
  #held: Lease | undefined

  /** @param onChunk - called for each piece that arrives. */
  constructor(req: IncomingMessage, onChunk: () => void = () => {}) {
    this.#req = req
    this.#onChunk = onChunk
    const end = (): void => {
      this.#ended = true
      this.#wakeUp()
    }
    req.on('data', (chunk: Buffer) => {
      this.#onChunk()
      passing(chunk.length)
      const rest = this.#copied(chunk)
      if (rest === undefined) return
      this.#chunks.push(rest)
      this.#size += rest.length
      if (this.#size > AHEAD_BYTES) req.pause()
      this.#wakeUp()
    })
    req.once('end', end)
    req.once('close', end)
    req.once('error', end)
  }

  /** True when the body came to its end; false when the connection was cut within it. */
  get complete(): boolean {
    return this.#req.complete
  }

  /** Lets whoever waits see the end of the body now. */
  end(): void {
    this.#ended = true
    this.#req.pause()
    this.#wakeUp()
  }

  /** Copies the next bytes to `target`, those to come as they arrive; the count is less than its length only at the end of the body. */
  async fill(target: Uint8Array): Promise<number> {
    let have = 0
    while (have < target.length && this.#size > 0) {
      const chunk = this.#chunks[0]!
      const part = Math.min(chunk.length - this.#used, target.length - have)
      chunk.copy(target, have, this.#used, this.#used + part)
      have += part
      this.#take(part)
    }
    if (have === target.length || this.#ended) return have
    if (this.#req.isPaused()) this.#req.resume()
    this.#target = target
    this.#have = have
    await this.#more()
    this.#target = undefined
    return this.#have
  }

  /**
   * The next bytes will not be asked for soon: what has arrived is put into memory of the pool, and no more is read. Node's pieces would
   * grow old here, and what V8 has seen twice is freed only when it marks the whole heap.
   */
  hold(): void {
    if (this.#ended) return
    this.#req.pause()
    if (this.#size === 0 || this.#held !== undefined) return
    const memory = lease(this.#size)
    let at = 0
    for (const [i, chunk] of this.#chunks.entries()) at += chunk.copy(memory.bytes, at, i === 0 ? this.#used : 0)
    this.#chunks = [memory.bytes.subarray(0, at)]
    this.#used = 0
    this.#held = memory
  }

  /** The next piece, whatever its size, valid until the next call; undefined at the end. */
  async next(): Promise<Buffer | undefined> {
    while (this.#size === 0) {
      if (this.#ended) return undefined
      await this.#more()
    }
    const chunk = this.#chunks[0]!
    const piece = this.#used === 0 ? chunk : chunk.subarray(this.#used)
    this.#take(piece.length)
    return piece
  }

  /** Puts a piece that has just arrived where somebody waits for it. @returns what is left to be kept. */
  #copied(chunk: Buffer): Buffer | undefined {
    const target = this.#target
    if (target === undefined || this.#have === target.length) return chunk
    const part = chunk.copy(target, this.#have)
    this.#have += part
    if (this.#have === target.length) this.#wakeUp()
    return part === chunk.length ? undefined : chunk.subarray(part)
  }

  #take(bytes: number): void {
    this.#used += bytes
    this.#size -= bytes
    if (this.#used === this.#chunks[0]!.length) {
      this.#chunks.shift()
      this.#used = 0
      this.#held?.release()
      this.#held = undefined
    }
    if (this.#size <= AHEAD_BYTES && this.#req.isPaused()) this.#req.resume()
  }

  #more(): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve
    })
  }

  #wakeUp(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }
}
