/**
 * A storage node's admin socket, as its operator's verbs use it (docs/protocol/storage-admin.md): one JSON-RPC call a connection,
 * and long work followed by asking how far it is.
 */
import { createConnection } from 'node:net'
import { RPC, RpcError } from '../../adapters/jsonrpc/types.ts'
import { JsonSplitter } from '../../adapters/jsonrpc/unix.ts'
import { messageOf, systemCode, ZgError } from '../../base/errors.ts'
import { LIMITS } from '../../base/limits.ts'
import { pause } from './retry.ts'

const CALL_MS = 60_000
const POLL_MS = 250

/** One call on a socket. @throws {ZgError} ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_PROTOCOL; {RpcError} as the node answered. */
export function callSocket(
  path: string,
  method: string,
  params: readonly unknown[],
  signal?: AbortSignal
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const socket = createConnection(path)
    const splitter = new JsonSplitter(LIMITS.storeBodyBytes)
    const finish = (fn: () => void): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      socket.destroy()
      fn()
    }
    const fail = (err: unknown): void => finish(() => reject(err))
    const onAbort = (): void => fail(signal?.reason)
    const timer = setTimeout(() => fail(new ZgError('ERR_TIMEOUT', `the node at '${path}' does not answer`)), CALL_MS)
    signal?.addEventListener('abort', onAbort, { once: true })
    socket.once('error', err => {
      const gone = systemCode(err) === 'ENOENT' || systemCode(err) === 'ECONNREFUSED'
      const why = gone ? 'no node is running there' : messageOf(err)
      fail(new ZgError('ERR_UNAVAILABLE', `cannot reach '${path}': ${why}`, { cause: err }))
    })
    socket.once('close', () => fail(new ZgError('ERR_UNAVAILABLE', `the node at '${path}' closed the connection`)))
    socket.once('connect', () => socket.write(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })))
    socket.on('data', data => {
      const [text] = splitter.push(data) ?? ['']
      if (text === undefined) return
      finish(() => {
        try {
          const answer = JSON.parse(text) as {
            result?: unknown
            error?: { code: number; message: string; data?: unknown }
          }
          if (answer.error !== undefined)
            reject(new RpcError(answer.error.code, answer.error.message, answer.error.data))
          else resolve(answer.result)
        } catch (err) {
          reject(new ZgError('ERR_PROTOCOL', `the node at '${path}' answered no JSON`, { cause: err }))
        }
      })
    })
  })
}

/** How far a repair or scrub is. Counters that the node does not tell are absent. */
export interface JobState {
  id: number | null
  state: 'running' | 'done' | 'failed'
  message?: string
  [counter: string]: unknown
}

/**
 * Starts (or joins) long work on a node and follows it to its end.
 * @param key - a root as 0x hex, a submission number, or null for everything.
 * @throws {ZgError} ERR_UNAVAILABLE, ERR_REJECTED (the node does not do such work, or it failed), ERR_BAD_INPUT.
 */
export async function runJob(
  socket: string,
  method: 'admin_repair' | 'admin_scrub',
  key: string | number | null,
  o: { signal?: AbortSignal; onProgress?: (s: JobState) => void } = {}
): Promise<JobState> {
  const call = async (name: string, params: unknown[]): Promise<JobState> => {
    try {
      return jobState(await callSocket(socket, name, params, o.signal))
    } catch (err) {
      if (!(err instanceof RpcError)) throw err
      const why = typeof err.data === 'string' ? err.data : err.message
      if (err.code === RPC.params) throw new ZgError('ERR_BAD_INPUT', why, { cause: err })
      if (err.code === RPC.method) {
        throw new ZgError('ERR_REJECTED', `the node at '${socket}' does not know '${name}'`, { cause: err })
      }
      throw new ZgError('ERR_REJECTED', why, { cause: err })
    }
  }
  let state = await call(method, [key])
  while (state.state === 'running' && state.id !== null) {
    o.onProgress?.(state)
    await pause(POLL_MS, o.signal)
    state = await call('admin_getJob', [state.id])
  }
  o.onProgress?.(state)
  return state
}

function jobState(answer: unknown): JobState {
  if (answer === null || typeof answer !== 'object') throw new ZgError('ERR_PROTOCOL', 'the node told no state')
  const { id, state, ...rest } = answer as Record<string, unknown>
  const known = state === 'running' || state === 'failed' ? state : 'done'
  return { ...rest, id: typeof id === 'number' ? id : null, state: known }
}
