/**
 * JSON-RPC over a Unix socket (mode 0600): a stream of JSON values, answers end in a newline. Clients differ in whether they
 * send a newline, so messages are cut by bracket depth.
 */
import { chmod, mkdir, unlink } from 'node:fs/promises'
import { createConnection, createServer, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { messageOf, systemCode, ZgError } from '../../base/errors.ts'
import { LIMITS } from '../../base/limits.ts'
import { type DispatchOptions, dispatch, failure } from './dispatch.ts'
import { type Live, RPC, type RpcContext } from './types.ts'

export interface Listener {
  close(): Promise<void>
}

/** Listens on `path`; a socket file that nobody answers on is replaced. @throws {ZgError} ERR_LOCKED when a live process holds it. */
export async function listenUnix(path: string, rpc: DispatchOptions, live: Live): Promise<Listener> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  if (await answers(path)) {
    throw new ZgError('ERR_LOCKED', `socket '${path}' is in use`, {
      hint: "give another path by '--socket', or stop the other node"
    })
  }
  await unlink(path).catch(() => {})
  const open = new Set<Socket>()
  const server = createServer(socket => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    serveSocket(socket, rpc, live)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', err =>
      reject(new ZgError('ERR_UNAVAILABLE', `cannot listen on '${path}': ${messageOf(err)}`, { cause: err }))
    )
    server.listen(path, resolve)
  })
  await chmod(path, 0o600)
  return {
    async close() {
      for (const socket of open) socket.destroy()
      await new Promise<void>(resolve => server.close(() => resolve()))
    }
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const probe = createConnection(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', err => resolve(systemCode(err) === 'EACCES'))
  })
}

function serveSocket(socket: Socket, rpc: DispatchOptions, live: Live): void {
  const gone = new AbortController()
  live.add(gone)
  const closers: (() => void)[] = []
  const splitter = new JsonSplitter(LIMITS.wsMessageBytes)
  const push = (text: string): boolean => {
    if (socket.destroyed) return false
    if (socket.writableLength > LIMITS.wsUnsentBytes) {
      socket.destroy()
      return false
    }
    socket.write(`${text}\n`)
    return true
  }
  const ctx: RpcContext = {
    transport: 'unix',
    signal: gone.signal,
    session: new Map(),
    onClose: fn => closers.push(fn),
    notify: (method, params) => push(JSON.stringify({ jsonrpc: '2.0', method, params }))
  }
  socket.on('error', () => socket.destroy())
  socket.on('close', () => {
    gone.abort()
    live.delete(gone)
    for (const fn of closers) fn()
  })
  socket.on('data', data => {
    const messages = splitter.push(data)
    if (messages === undefined) {
      push(failure(null, RPC.parse, 'parse error'))
      socket.end()
      return
    }
    for (const text of messages) {
      dispatch(text, ctx, rpc).then(answer => {
        if (answer !== undefined) push(answer)
      })
    }
  })
}

const QUOTE = 0x22
const BACKSLASH = 0x5c

/** Cuts a byte stream into JSON texts by bracket depth outside strings. */
export class JsonSplitter {
  readonly #bound: number
  #parts: Buffer[] = []
  #size = 0
  #depth = 0
  #inString = false
  #escaped = false
  constructor(boundBytes: number) {
    this.#bound = boundBytes
  }

  /** Whole messages that ended in `data`; undefined when the stream is not JSON objects or a message is above the bound. */
  push(data: Buffer): string[] | undefined {
    const out: string[] = []
    let start = 0
    for (let i = 0; i < data.length; i++) {
      const c = data[i]!
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false
        else if (c === BACKSLASH) this.#escaped = true
        else if (c === QUOTE) this.#inString = false
        continue
      }
      if (this.#depth === 0 && c !== 0x7b && c !== 0x5b) {
        if (c === 0x0a || c === 0x0d || c === 0x20 || c === 0x09) {
          start = i + 1
          continue
        }
        return undefined
      }
      if (c === QUOTE) this.#inString = true
      else if (c === 0x7b || c === 0x5b) this.#depth++
      else if (c === 0x7d || c === 0x5d) {
        if (--this.#depth === 0) {
          out.push(Buffer.concat([...this.#parts, data.subarray(start, i + 1)]).toString('utf8'))
          this.#parts = []
          this.#size = 0
          start = i + 1
        }
      }
    }
    if (this.#depth > 0) {
      this.#parts.push(data.subarray(start))
      this.#size += data.length - start
      if (this.#size > this.#bound) return undefined
    }
    return out
  }
}
