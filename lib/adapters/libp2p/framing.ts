/**
 * Frames on a peer-to-peer stream: a length of 4 bytes, big endian, then that many bytes. The length is compared with the bound
 * before anything is allocated; a stream that breaks it is reset. Reading pauses the peer when nobody takes its frames, so a fast
 * writer costs a slow reader no memory; every wait has a deadline.
 */
import type { Stream } from '@libp2p/interface'
import { u32be, view } from '../../base/bytes.ts'
import { assert, messageOf, ZgError } from '../../base/errors.ts'
import { LIMITS } from '../../base/limits.ts'

/** Bytes that may lie unread here before the peer is paused. */
const UNREAD_BYTES = 256 * 1024
const TIMEOUT_MS = 10_000

export interface FrameStream {
  /** Peer id of the other side. */
  readonly peer: string
  /**
   * The next frame; undefined when the other side has ended its side. One read at a time.
   * @param opts.maxBytes - bound of this frame, at most (and by default) LIMITS.p2pFrameBytes.
   * @throws {ZgError} ERR_PROTOCOL above the bound or when it ends inside a frame, ERR_TIMEOUT, ERR_UNAVAILABLE when reset.
   */
  read(opts?: { maxBytes?: number; timeoutMs?: number }): Promise<Uint8Array | undefined>
  /**
   * Sends a frame; resolves when the stream takes more. Concurrent writes go one after the other.
   * @throws {ZgError} ERR_TIMEOUT when the other side takes nothing for so long, ERR_UNAVAILABLE when reset.
   */
  write(frame: Uint8Array, opts?: { timeoutMs?: number }): Promise<void>
  /** Nothing more will be written; what was is still delivered. */
  end(): Promise<void>
  /** Resets both directions at once. */
  abort(reason: string): void
}

/** Frames over a libp2p stream; takes the stream over, so call it in the first turn of a handler. */
export function frames(stream: Stream, peer: string): FrameStream {
  return new Frames(stream, peer)
}

class Frames implements FrameStream {
  readonly peer: string
  readonly #stream: Stream
  #chunks: Uint8Array[] = []
  #unread = 0
  /** How much the waiting read needs; 0 when none waits. */
  #wanted = 0
  #ended: boolean
  #failure: ZgError | undefined
  #wake: (() => void) | undefined
  #reading = false
  #lastWrite: Promise<void> = Promise.resolve()

  constructor(stream: Stream, peer: string) {
    this.peer = peer
    this.#stream = stream
    this.#ended = stream.readableEnded
    stream.addEventListener('message', event => {
      const { data } = event
      const bytes = data instanceof Uint8Array ? data : data.subarray()
      this.#chunks.push(bytes)
      this.#unread += bytes.length
      if (this.#unread >= Math.max(this.#wanted, UNREAD_BYTES)) this.#flow('pause')
      this.#wake?.()
    })
    stream.addEventListener('end', () => {
      this.#ended = true
      this.#wake?.()
    })
    stream.addEventListener('close', event => {
      // A paused stream may close with bytes still to be handed over: then 'end' follows when they have been.
      if (event.error !== undefined || stream.readBufferLength === 0) this.#ended = true
      if (event.error !== undefined) {
        this.#failure ??= new ZgError('ERR_UNAVAILABLE', `peer '${peer}' broke the stream: ${messageOf(event.error)}`, {
          cause: event.error
        })
      }
      this.#wake?.()
    })
  }

  async read(opts: { maxBytes?: number; timeoutMs?: number } = {}): Promise<Uint8Array | undefined> {
    assert(!this.#reading, 'one read of a stream at a time')
    const max = Math.min(opts.maxBytes ?? LIMITS.p2pFrameBytes, LIMITS.p2pFrameBytes)
    const timeoutMs = opts.timeoutMs ?? TIMEOUT_MS
    const deadline = performance.now() + timeoutMs
    this.#reading = true
    try {
      if (!(await this.#have(4, deadline, timeoutMs))) {
        if (this.#unread > 0) throw this.#fail('ERR_PROTOCOL', 'ended inside a frame')
        return undefined
      }
      const size = view(this.#take(4)).getUint32(0)
      if (size > max) throw this.#fail('ERR_PROTOCOL', `sent a frame of ${size} bytes, at most ${max} are allowed`)
      if (!(await this.#have(size, deadline, timeoutMs))) throw this.#fail('ERR_PROTOCOL', 'ended inside a frame')
      return this.#take(size)
    } finally {
      this.#reading = false
      this.#wanted = 0
    }
  }

  write(frame: Uint8Array, opts: { timeoutMs?: number } = {}): Promise<void> {
    assert(frame.length <= LIMITS.p2pFrameBytes, `a frame of ${frame.length} bytes is too large`)
    const run = this.#lastWrite.then(() => this.#send(frame, opts.timeoutMs ?? TIMEOUT_MS))
    this.#lastWrite = run.catch(() => {})
    return run
  }

  async end(): Promise<void> {
    await this.#lastWrite
    try {
      await this.#stream.close({ signal: AbortSignal.timeout(TIMEOUT_MS) })
    } catch (err) {
      this.abort(messageOf(err))
    }
  }

  abort(reason: string): void {
    this.#stream.abort(new Error(reason))
  }

  /** Waits until `size` bytes are here; false when the stream ends before. */
  async #have(size: number, deadline: number, timeoutMs: number): Promise<boolean> {
    while (this.#unread < size) {
      if (this.#failure !== undefined) throw this.#failure
      if (this.#ended) return false
      this.#wanted = size
      this.#flow('resume')
      if (this.#unread >= size) break
      const left = deadline - performance.now()
      if (left <= 0) throw this.#fail('ERR_TIMEOUT', `sent nothing for ${timeoutMs} ms`)
      await this.#change(left)
    }
    return true
  }

  /** Until something arrives or ends, at most `ms`. */
  #change(ms: number): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        this.#wake = undefined
        resolve()
      }
    })
  }

  #take(size: number): Uint8Array {
    const out = new Uint8Array(size)
    let at = 0
    while (at < size) {
      const chunk = this.#chunks[0]!
      const part = Math.min(chunk.length, size - at)
      out.set(part === chunk.length ? chunk : chunk.subarray(0, part), at)
      at += part
      if (part === chunk.length) this.#chunks.shift()
      else this.#chunks[0] = chunk.subarray(part)
    }
    this.#unread -= size
    return out
  }

  async #send(frame: Uint8Array, timeoutMs: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    let room: boolean
    try {
      this.#stream.send(u32be(frame.length))
      room = this.#stream.send(frame)
    } catch (err) {
      throw new ZgError('ERR_UNAVAILABLE', `cannot send to peer '${this.peer}': ${messageOf(err)}`, { cause: err })
    }
    if (!room) await this.#drained(timeoutMs)
  }

  #drained(timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (err?: ZgError): void => {
        clearTimeout(timer)
        this.#stream.removeEventListener('drain', onDrain)
        this.#stream.removeEventListener('close', onClose)
        if (err === undefined) resolve()
        else reject(err)
      }
      const onDrain = (): void => done()
      const onClose = (): void =>
        done(this.#failure ?? new ZgError('ERR_UNAVAILABLE', `peer '${this.peer}' closed the stream`))
      const timer = setTimeout(() => done(this.#fail('ERR_TIMEOUT', `took nothing for ${timeoutMs} ms`)), timeoutMs)
      this.#stream.addEventListener('drain', onDrain)
      this.#stream.addEventListener('close', onClose)
    })
  }

  /** The error for the caller; the stream is of no use any more. */
  #fail(code: 'ERR_PROTOCOL' | 'ERR_TIMEOUT', what: string): ZgError {
    this.#failure ??= new ZgError(code, `peer '${this.peer}' ${what}`)
    this.#chunks = []
    this.#unread = 0
    this.abort(what)
    return this.#failure
  }

  #flow(what: 'pause' | 'resume'): void {
    // A stream that is closing for reading can do neither, and needs neither.
    if (this.#stream.readStatus === 'readable' || this.#stream.readStatus === 'paused') this.#stream[what]()
  }
}
