/**
 * The raw path's own HTTP/1.1: kept-alive sockets that receive a body straight into the caller's buffer. Node's client makes a
 * new buffer for each 64 KiB that arrive and hands them on through four layers; here a segment is copied once, by the kernel.
 *
 * It speaks what zg's nodes speak: a status line, headers, a body of announced length. Anything else (chunks, compression: a proxy
 * stands between) is answered `unsupported`, and the caller uses the ordinary client.
 */
import { connect, type Socket } from 'node:net'
import { ZgError } from '../../base/errors.ts'
import { cutShort, origin, unreachable } from './http.ts'

export interface WireRequest {
  method: string
  /** Sent one behind the other, in one system call where the kernel takes it. */
  body?: readonly Uint8Array[] | undefined
  /** Receives the body when it fits; a new buffer does otherwise. */
  into?: Uint8Array | undefined
  /** Bodies beyond this are refused. */
  maxBytes: number
  timeoutMs: number
  signal?: AbortSignal | undefined
}

export interface WireAnswer {
  status: number
  body: Uint8Array
}

const HEAD_BYTES = 16 * 1024
/** An idle connection is not used again after this: servers close theirs after 5 s. */
const IDLE_MS = 3_000
/** Idle connections to one node. */
const IDLE_MAX = 16

const idle = new Map<string, Connection[]>()

/**
 * One exchange with `http://HOST:PORT`.
 * @param path - with a leading slash, and the query.
 * @throws {ZgError} ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_PROTOCOL, or the signal's reason.
 */
export async function wireExchange(base: URL, path: string, o: WireRequest): Promise<WireAnswer | 'unsupported'> {
  const key = base.host
  for (;;) {
    if (o.signal?.aborted) throw o.signal.reason
    const kept = takeIdle(key)
    const connection = kept ?? new Connection(base)
    try {
      const answer = await connection.exchange(path, o)
      if (connection.reusable) putIdle(key, connection)
      else connection.destroy()
      return answer
    } catch (err) {
      connection.destroy()
      // The server closed a kept connection at the moment when it was used again: its right, and no fault.
      if (kept !== undefined && connection.untouched && !o.signal?.aborted) continue
      throw err
    }
  }
}

function takeIdle(key: string): Connection | undefined {
  const list = idle.get(key)
  for (let c = list?.pop(); c !== undefined; c = list?.pop()) {
    if (c.reusable && performance.now() - c.idleSince < IDLE_MS) return c
    c.destroy()
  }
  return undefined
}

function putIdle(key: string, c: Connection): void {
  const list = idle.get(key) ?? []
  if (list.length >= IDLE_MAX) {
    c.destroy()
    return
  }
  c.rest()
  list.push(c)
  idle.set(key, list)
}

class Connection {
  readonly #socket: Socket
  readonly #base: URL
  readonly #head = Buffer.allocUnsafeSlow(HEAD_BYTES)
  #headBytes = 0
  /** The body being received, and how much of it is there; undefined while the head is read. */
  #body: Uint8Array | undefined
  #bodyBytes = 0
  #status = 0
  #request: WireRequest | undefined
  #settle: { resolve: (a: WireAnswer | 'unsupported') => void; reject: (err: unknown) => void } | undefined
  reusable = true
  /** Nothing of the current answer has arrived. */
  untouched = true
  idleSince = 0

  constructor(base: URL) {
    this.#base = base
    this.#socket = connect({
      host: base.hostname.replace(/^\[|\]$/g, ''),
      port: Number(base.port || 80),
      noDelay: true,
      onread: {
        buffer: () => this.#target(),
        callback: (n: number) => {
          this.#received(n)
          return true
        }
      }
    })
    this.#socket.on('error', err => this.#fail(unreachable(base.href, err)))
    this.#socket.on('close', () => this.#fail(unreachable(base.href, cutShort())))
    this.#socket.on('end', () => this.#fail(unreachable(base.href, cutShort())))
  }

  exchange(path: string, o: WireRequest): Promise<WireAnswer | 'unsupported'> {
    return new Promise((resolve, reject) => {
      const socket = this.#socket
      const onAbort = (): void => this.#fail(o.signal?.reason)
      const late = `${origin(this.#base.href)} did not answer within ${Math.round(o.timeoutMs / 1000)} s`
      const timer = setTimeout(() => this.#fail(new ZgError('ERR_TIMEOUT', late)), o.timeoutMs)
      const done = (fn: () => void): void => {
        clearTimeout(timer)
        o.signal?.removeEventListener('abort', onAbort)
        this.#settle = undefined
        this.#request = undefined
        fn()
      }
      this.#settle = { resolve: a => done(() => resolve(a)), reject: err => done(() => reject(err)) }
      this.#request = o
      this.#headBytes = 0
      this.#body = undefined
      this.untouched = true
      o.signal?.addEventListener('abort', onAbort, { once: true })
      socket.ref()
      const size = o.body?.reduce((sum, part) => sum + part.length, 0)
      const length = size === undefined ? '' : `content-length: ${size}\r\ncontent-type: application/octet-stream\r\n`
      socket.cork()
      socket.write(`${o.method} ${path} HTTP/1.1\r\nhost: ${this.#base.host}\r\n${length}\r\n`, 'latin1')
      for (const part of o.body ?? []) socket.write(part)
      socket.uncork()
    })
  }

  /** Waits unused, and does not keep the process alive. */
  rest(): void {
    this.idleSince = performance.now()
    this.#socket.unref()
  }

  destroy(): void {
    this.reusable = false
    this.#socket.destroy()
  }

  /** Where the next bytes go. */
  #target(): Uint8Array {
    if (this.#body !== undefined && this.#bodyBytes < this.#body.length) return this.#body.subarray(this.#bodyBytes)
    return this.#head.subarray(Math.min(this.#headBytes, HEAD_BYTES - 1))
  }

  #received(n: number): void {
    this.untouched = false
    if (this.#request === undefined) {
      // Bytes that nobody asked for: whatever follows could not be told apart from them.
      this.destroy()
      return
    }
    if (this.#body !== undefined) {
      this.#bodyBytes += n
    } else {
      this.#headBytes += n
      const end = this.#head.subarray(0, this.#headBytes).indexOf('\r\n\r\n')
      if (end < 0) {
        if (this.#headBytes >= HEAD_BYTES - 1) this.#protocol('a head of over 16 KiB')
        return
      }
      if (!this.#begin(this.#head.toString('latin1', 0, end), end + 4)) return
    }
    if (this.#bodyBytes === this.#body!.length) {
      const body = this.#body!
      this.#body = undefined
      // The place of the next answer's first bytes is asked for before anybody sends the next request.
      this.#headBytes = 0
      this.#settle?.resolve({ status: this.#status, body })
    }
  }

  /** Reads the head; false when the exchange is over. */
  #begin(head: string, bodyAt: number): boolean {
    const o = this.#request!
    const status = /^HTTP\/1\.1 ([0-9]{3})/.exec(head)
    if (status === null) return this.#protocol('something that is not HTTP/1.1')
    this.#status = Number(status[1])
    if (/\r\nconnection: *close/i.test(head)) this.reusable = false
    const length = /\r\ncontent-length: *([0-9]{1,15})(\r|$)/i.exec(head)
    if (length === null || this.#status < 200 || /\r\n(transfer-encoding|content-encoding):/i.test(head)) {
      this.reusable = false
      this.#settle?.resolve('unsupported')
      return false
    }
    const size = Number(length[1])
    if (size > o.maxBytes) return this.#protocol(`a body of ${size} bytes`)
    const first = this.#headBytes - bodyAt
    if (first > size) return this.#protocol('more bytes than it announced')
    const body = o.into !== undefined && size <= o.into.length ? o.into.subarray(0, size) : Buffer.allocUnsafeSlow(size)
    body.set(this.#head.subarray(bodyAt, this.#headBytes))
    this.#body = body
    this.#bodyBytes = first
    return true
  }

  #protocol(what: string): false {
    this.#fail(new ZgError('ERR_PROTOCOL', `${origin(this.#base.href)} answered ${what}`))
    return false
  }

  #fail(err: unknown): void {
    this.reusable = false
    this.#settle?.reject(err)
    this.#socket.destroy()
  }
}
