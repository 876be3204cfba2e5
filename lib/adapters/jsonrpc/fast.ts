/**
 * The short way of `POST /` with a JSON-RPC body: HTTP/1.1 read straight from the socket, answers of synchronous methods written in
 * the same turn. It takes only what cannot be misread: a header block of at most 8 KiB in strict form, one Content-Length of digits,
 * one Host, no Transfer-Encoding, Expect or Upgrade. At the first request that is anything else the connection goes, with all bytes
 * not yet used, to Node's own HTTP server, and stays there: what is refused, and with which words, is decided in one place.
 *
 * The limits of reliability.md 6 hold here as there: headers within 10 s, a request within 30 s, idle 60 s (5 s are announced), body bound, a reader that
 * takes no answer for 30 s is dropped, and requests of one connection are answered one after the other, so that what a client can have
 * in memory is one body, one answer and one read.
 */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { LIMITS } from '../../base/limits.ts'
import { hostAllowed } from '../http.ts'
import { type DispatchOptions, dispatchNow } from './dispatch.ts'
import type { Live, RpcContext } from './types.ts'

/** A header block that the short way reads; longer ones are Node's business up to LIMITS.httpHeaderBytes. */
export const FAST_HEADER_BYTES = 8 * 1024
/** Unsent bytes from which on a connection is not read any more. */
const UNSENT_BYTES = 256 * 1024
/** Bytes that may wait behind a request being answered before the socket is paused. */
const AHEAD_BYTES = 64 * 1024

export interface FastOptions {
  rpc: DispatchOptions
  live: Live
  bodyBytes: number
  allowedHosts: string[]
  anyOrigin: boolean
}

export interface FastPath {
  /** Ends idle connections; those with a request in flight end after its answer. */
  stop(): void
  /** Connections on the short way now, and requests it has answered: for tests and metrics. */
  counts(): { open: number; answered: number; handedOver: number }
}

/** Puts the short way in front of an HTTP server, which keeps listening, counting and timing out as before. */
export function attachFast(server: Server, opts: FastOptions): FastPath {
  const handOver = server.listeners('connection').at(0) as ((this: Server, socket: Socket) => void) | undefined
  if (handOver === undefined) throw new Error('an HTTP server listens to its connections')
  const open = new Set<FastConnection>()
  const counts = { answered: 0, handedOver: 0 }
  server.removeListener('connection', handOver as (socket: Socket) => void)
  server.on('connection', (socket: Socket) => {
    // Destroyed already when its address has too many.
    if (socket.destroyed) return
    const connection = new FastConnection(socket, opts, counts, {
      gone: () => open.delete(connection),
      handOver: () => handOver.call(server, socket)
    })
    open.add(connection)
  })
  const sweep = setInterval(() => {
    const now = performance.now()
    for (const connection of open) connection.sweep(now)
  }, LIMITS.httpCheckIntervalMs)
  sweep.unref()
  return {
    stop() {
      clearInterval(sweep)
      for (const connection of open) connection.stop()
      // A reader that takes nothing must not keep the server from ending.
      setTimeout(() => {
        for (const connection of open) connection.cut()
      }, LIMITS.shutdownMs).unref()
    },
    counts: () => ({ open: open.size, ...counts })
  }
}

interface Head {
  bodyBytes: number
}

class FastConnection {
  readonly #socket: Socket
  readonly #opts: FastOptions
  readonly #counts: { answered: number; handedOver: number }
  readonly #to: { gone: () => void; handOver: () => void }
  /** Bytes received and not used. */
  #parts: Buffer[] = []
  #size = 0
  /** Header of the request whose body is awaited, and where that body ends. */
  #wanted = 0
  #bodyStart = 0
  #busy = false
  #ended = false
  #stopping = false
  #given = false
  #fresh = true
  /** When the present phase began: connected, request begun, last answer, or last progress of the reader. */
  #since = performance.now()
  #context: HttpContext | undefined
  /** Clients send the same header block again and again: the last one that passed, and what it meant. */
  #lastHead = ''
  #lastMeaning: Head | undefined

  constructor(
    socket: Socket,
    opts: FastOptions,
    counts: { answered: number; handedOver: number },
    to: { gone: () => void; handOver: () => void }
  ) {
    this.#socket = socket
    this.#opts = opts
    this.#counts = counts
    this.#to = to
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('drain', this.#onDrain)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
  }

  /** Enforces the deadlines. */
  sweep(now: number): void {
    const age = now - this.#since
    if (this.#socket.writableLength > 0) {
      if (age > LIMITS.httpIdleBodyMs) this.#socket.destroy()
    } else if (this.#busy) return
    else if (this.#size > 0) {
      const bound = this.#wanted > 0 ? LIMITS.httpRequestTimeoutMs : LIMITS.httpHeadersTimeoutMs
      if (age > bound) this.#timeOut()
    } else if (age > (this.#fresh ? LIMITS.httpHeadersTimeoutMs : LIMITS.httpKeepAliveCloseMs)) this.#socket.destroy()
  }

  stop(): void {
    this.#stopping = true
    if (!this.#busy) this.#socket.destroySoon()
  }

  cut(): void {
    this.#socket.destroy()
  }

  #timeOut(): void {
    this.#socket.end('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n')
    this.#socket.destroySoon()
  }

  readonly #onData = (data: Buffer): void => {
    if (this.#size === 0 && !this.#busy) this.#since = performance.now()
    this.#parts.push(data)
    this.#size += data.length
    if (this.#busy || this.#socket.writableLength > UNSENT_BYTES) {
      if (this.#size > AHEAD_BYTES) this.#socket.pause()
      return
    }
    if (this.#size >= this.#wanted) this.#work()
  }

  readonly #onEnd = (): void => {
    this.#ended = true
    // A client that shut its side down still gets the answer it waits for.
    if (!this.#busy) this.#socket.end()
  }

  readonly #onDrain = (): void => {
    this.#since = performance.now()
    if (!this.#busy) this.#resume()
  }

  readonly #onError = (): void => {
    this.#socket.destroy()
  }

  readonly #onClose = (): void => {
    this.#parts = []
    this.#size = 0
    this.#context?.end()
    this.#to.gone()
  }

  #resume(): void {
    if (this.#size > 0) this.#work()
    if (!this.#given && !this.#busy && this.#socket.isPaused() && !this.#socket.destroyed) this.#socket.resume()
  }

  /** Answers every whole request in the buffer, in order; the answers of one turn leave in one write. */
  #work(): void {
    let buffer = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts, this.#size)
    let out = ''
    while (buffer.length > 0) {
      if (this.#wanted === 0) {
        const text = buffer.toString('latin1', 0, Math.min(buffer.length, FAST_HEADER_BYTES))
        const end = text.indexOf('\r\n\r\n')
        const head = end < 0 ? undefined : this.#read(text.slice(0, end))
        if (head === undefined) {
          // Also a header block that came in part: whether it is slow or hostile is not for this path to find out.
          this.#keep(buffer)
          this.#flush(out)
          this.#giveAway()
          return
        }
        this.#bodyStart = end + 4
        this.#wanted = this.#bodyStart + head.bodyBytes
      }
      if (buffer.length < this.#wanted) break
      const body = buffer.toString('utf8', this.#bodyStart, this.#wanted)
      buffer = buffer.subarray(this.#wanted)
      this.#wanted = 0
      this.#fresh = false
      const context = new HttpContext(this.#opts.live)
      const answer = dispatchNow(body, context, this.#opts.rpc)
      this.#counts.answered++
      if (answer instanceof Promise) {
        this.#keep(buffer)
        this.#flush(out)
        this.#wait(answer, context)
        return
      }
      context.end()
      out += this.#message(answer)
      if (out.length > UNSENT_BYTES) {
        this.#keep(buffer)
        if (!this.#flush(out) && this.#socket.writableLength > UNSENT_BYTES) {
          this.#socket.pause()
          return
        }
        out = ''
      }
    }
    this.#keep(buffer)
    this.#since = performance.now()
    this.#flush(out)
    this.#endIfDone()
  }

  #endIfDone(): boolean {
    if (this.#stopping) this.#socket.destroySoon()
    else if (this.#ended) this.#socket.end()
    return this.#stopping || this.#ended
  }

  #wait(answer: Promise<string | undefined>, context: HttpContext): void {
    this.#busy = true
    this.#context = context
    answer
      .then(text => {
        context.end()
        this.#context = undefined
        this.#busy = false
        if (this.#socket.destroyed) return
        this.#since = performance.now()
        this.#flush(this.#message(text))
        if ((this.#stopping || this.#size === 0) && this.#endIfDone()) return
        if (this.#socket.writableLength <= UNSENT_BYTES) this.#resume()
        else this.#socket.pause()
      })
      .catch(() => this.#socket.destroy())
  }

  #keep(buffer: Buffer): void {
    this.#size = buffer.length
    this.#parts = buffer.length === 0 ? [] : [buffer]
  }

  /** Latin-1 unless it holds more: those strings go to the socket without being encoded. */
  #flush(out: string): boolean {
    return out === '' ? true : this.#socket.write(out, isNarrow(out) ? 'latin1' : 'utf8')
  }

  #message(answer: string | undefined): string {
    const body = answer ?? ''
    const stop = this.#stopping
    return `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n${this.#opts.anyOrigin ? 'access-control-allow-origin: *\r\n' : ''}content-length: ${Buffer.byteLength(body)}\r\ndate: ${date()}\r\n${stop ? 'connection: close' : KEEP_ALIVE}\r\n\r\n${body}`
  }

  /** What a header block means, or undefined when it is not for this path. */
  #read(head: string): Head | undefined {
    if (head === this.#lastHead) return this.#lastMeaning
    const meaning = readHead(head, this.#opts)
    if (meaning !== undefined) {
      this.#lastHead = head
      this.#lastMeaning = meaning
    }
    return meaning
  }

  /** Gives the connection to Node's HTTP server with every unused byte; this object hears of it no more. */
  #giveAway(): void {
    const socket = this.#socket
    socket.removeListener('data', this.#onData)
    socket.removeListener('end', this.#onEnd)
    socket.removeListener('drain', this.#onDrain)
    socket.removeListener('error', this.#onError)
    socket.removeListener('close', this.#onClose)
    this.#given = true
    this.#to.gone()
    this.#counts.handedOver++
    socket.pause()
    if (this.#size > 0) socket.unshift(this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts))
    this.#parts = []
    this.#to.handOver()
    socket.resume()
  }
}

const KEEP_ALIVE = `connection: keep-alive\r\nkeep-alive: timeout=${LIMITS.httpKeepAliveMs / 1000}`
const REQUEST_LINE = 'POST / HTTP/1.1'
/** One header: a token, a colon, printable ASCII. No blank before the colon and none that starts the line. */
const HEADER = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}):[ \t]*([\x20-\x7e\t]*)$/

/** @returns undefined for everything that is not plainly a request of this path. */
export function readHead(
  head: string,
  opts: Pick<FastOptions, 'bodyBytes' | 'allowedHosts'>
): { bodyBytes: number } | undefined {
  if (!head.startsWith(REQUEST_LINE) || head[REQUEST_LINE.length] !== '\r') return undefined
  const lines = head.split('\r\n')
  let bodyBytes: number | undefined
  let host: string | undefined
  for (let i = 1; i < lines.length; i++) {
    const m = HEADER.exec(lines[i]!)
    if (m === null) return undefined
    const value = m[2]!.trimEnd()
    switch (m[1]!.toLowerCase()) {
      case 'content-length':
        if (bodyBytes !== undefined || !/^[0-9]{1,9}$/.test(value)) return undefined
        bodyBytes = Number(value)
        if (bodyBytes === 0 || bodyBytes > opts.bodyBytes) return undefined
        break
      case 'host':
        if (host !== undefined || !hostAllowed(value, opts.allowedHosts)) return undefined
        host = value
        break
      case 'connection':
        if (value.toLowerCase() !== 'keep-alive') return undefined
        break
      case 'transfer-encoding':
      case 'expect':
      case 'upgrade':
      case 'trailer':
      case 'te':
      case 'content-encoding':
        return undefined
    }
  }
  return bodyBytes === undefined || host === undefined ? undefined : { bodyBytes }
}

let second = 0
let text = ''

/** The Date header, made once a second. */
function date(): string {
  const now = Math.floor(Date.now() / 1000)
  if (now !== second) {
    second = now
    text = new Date(now * 1000).toUTCString()
  }
  return text
}

/** True when every character fits one byte of ASCII. */
function isNarrow(s: string): boolean {
  return Buffer.byteLength(s) === s.length
}

/** What a method may ask of an HTTP exchange; the abort signal and the bag are made by the first who asks. */
export class HttpContext implements RpcContext {
  readonly transport = 'http'
  readonly #live: Live
  #gone: AbortController | undefined
  #session: Map<string, unknown> | undefined
  #closers: (() => void)[] | undefined
  #ended = false

  constructor(live: Live) {
    this.#live = live
  }

  get signal(): AbortSignal {
    if (this.#gone === undefined) {
      this.#gone = new AbortController()
      if (this.#ended) this.#gone.abort()
      else this.#live.add(this.#gone)
    }
    return this.#gone.signal
  }

  get session(): Map<string, unknown> {
    this.#session ??= new Map()
    return this.#session
  }

  onClose(fn: () => void): void {
    this.#closers ??= []
    this.#closers.push(fn)
  }

  /** The exchange is over: answered, or its client is gone. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    if (this.#gone !== undefined) {
      this.#live.delete(this.#gone)
      this.#gone.abort()
    }
    for (const fn of this.#closers ?? []) fn()
  }
}
