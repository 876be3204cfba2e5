/**
 * New heads, in order and without gaps. Two sources feed one number, "the newest block known": notifications of a WebSocket, and a
 * poll every 100 ms while that is down. One worker walks from the last block told to that number, so it does not matter which
 * source spoke, how often, or what was lost while the connection was broken.
 */
import type { WebSocket } from 'ws'
import { messageOf } from '../base/errors.ts'
import { toQuantity } from '../base/hex.ts'
import { type ChainClient, pause, type RpcHeader, toNumber } from './chain.ts'

const POLL_MS = 100
/** While heads are pushed: how often their silence is looked for. */
const LOOK_MS = 500
/** Pauses between attempts to connect: at first short, then patient. */
const RETRY_MS = [100, 250, 500, 1_000, 2_000, 5_000]
/** A connection that says nothing for so long is asked for the head over HTTP. */
const SILENCE_MS = 5_000
const RECENT = 64
const MESSAGE_BYTES = 1024 * 1024

export function followHeads(
  client: ChainClient,
  onHead: (header: RpcHeader) => void | Promise<void>,
  opts: { from?: number; onState?: (up: boolean, err: unknown) => void }
): () => void {
  const stop = new AbortController()
  let told = opts.from === undefined ? undefined : opts.from - 1
  /** The newest header seen; what lies between `told` and it is fetched. */
  let newest: { number: number; header: RpcHeader | undefined } | undefined
  /** Hashes told lately: a block seen by poll and by push is one block. */
  const recent: string[] = []
  let busy = false
  let connected = false
  let heardMs = performance.now()

  function saw(number: number, header?: RpcHeader): void {
    heardMs = performance.now()
    if (header !== undefined && recent.includes(header.hash)) return
    told ??= number - 1
    // Not above what was told: a development node went back. Its blocks are news again.
    const back = number < told || (header !== undefined && number === told)
    if (back) told = header === undefined ? number : number - 1
    if (back || newest === undefined || number > newest.number || header !== undefined) newest = { number, header }
    if (!busy) void work()
  }

  async function work(): Promise<void> {
    busy = true
    try {
      while (newest !== undefined && told !== undefined && told < newest.number && !stop.signal.aborted) {
        const number: number = told + 1
        const pushed: RpcHeader | undefined = newest.number === number ? newest.header : undefined
        const header = pushed ?? (await client.call<RpcHeader | null>('eth_getHeaderByNumber', [toQuantity(number)]))
        if (header === null) break
        if (recent.push(header.hash) > RECENT) recent.shift()
        await onHead(header)
        // A step back while this block was told must not be undone.
        if (told === number - 1) told = number
      }
    } catch (err) {
      opts.onState?.(false, err)
      // The next sign of life starts the worker again.
    } finally {
      busy = false
    }
  }

  async function poll(): Promise<void> {
    while (!stop.signal.aborted) {
      await pause(connected ? LOOK_MS : POLL_MS, stop.signal)
      if (connected && performance.now() - heardMs < SILENCE_MS) continue
      try {
        const number = await client.blockNumber()
        // A head polled for the first time is old news, unless the caller named a start.
        told ??= number
        saw(number)
      } catch {
        // The connection loop reports what is wrong.
      }
    }
  }

  async function connect(): Promise<void> {
    const { WebSocket } = await import('ws')
    for (let attempt = 0; !stop.signal.aborted; attempt++) {
      let up = false
      const failure = await listen(new WebSocket(client.url.replace(/^http/, 'ws'), socketOptions), () => {
        up = true
        connected = true
        opts.onState?.(true, undefined)
      })
      connected = false
      if (stop.signal.aborted) return
      opts.onState?.(false, failure)
      if (up) attempt = 0
      await pause(RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]!, stop.signal)
    }
  }

  /** Serves one connection to its end; the answer is why it ended. */
  function listen(ws: WebSocket, onUp: () => void): Promise<unknown> {
    return new Promise(resolve => {
      let failure: unknown
      const end = (): void => ws.terminate()
      stop.signal.addEventListener('abort', end, { once: true })
      ws.on('error', err => {
        failure = err
      })
      ws.on('close', () => {
        stop.signal.removeEventListener('abort', end)
        resolve(failure ?? new Error('connection closed'))
      })
      ws.on('open', () => ws.send('{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}'))
      ws.on('message', data => {
        try {
          const message = JSON.parse(data.toString())
          if (message.id === 1) {
            if (message.error !== undefined) throw new Error(messageOf(message.error.message))
            onUp()
            // Blocks made while there was no connection.
            client.blockNumber().then(
              number => {
                told ??= number
                saw(number)
              },
              () => {}
            )
          } else if (message.method === 'eth_subscription') {
            const header = message.params.result as RpcHeader
            saw(toNumber(header.number), header)
          }
        } catch (err) {
          failure = err
          ws.terminate()
        }
      })
    })
  }

  for (const task of [poll(), connect()]) task.catch(() => {}) // Ends only by `stop`.
  return () => stop.abort()
}

const socketOptions = { perMessageDeflate: false, maxPayload: MESSAGE_BYTES, handshakeTimeout: 5_000 }
