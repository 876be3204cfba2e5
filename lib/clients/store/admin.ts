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

/** One call on a socket; `timeoutMs` 0 waits as long as it takes. @throws {ZgError} ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_PROTOCOL; {RpcError} as the node answered. */
export function callSocket(
  path: string,
  method: string,
  params: readonly unknown[],
  o: { signal?: AbortSignal | undefined; timeoutMs?: number } = {}
): Promise<unknown> {
  const { signal, timeoutMs = CALL_MS } = o
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
    const late = (): void => fail(new ZgError('ERR_TIMEOUT', `the node at '${path}' does not answer`))
    const timer = timeoutMs === 0 ? undefined : setTimeout(late, timeoutMs)
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

/** How a stripe of a coded file stands (docs/protocol/storage-admin.md). */
export interface StripeState {
  stripe: number
  code: string
  survivors: number
  need: number
  count: number
  holders: (string | null)[]
}

/** @throws {ZgError} ERR_REJECTED when the node is in no coding group, ERR_UNAVAILABLE, ERR_TIMEOUT. */
export async function stripesOf(socket: string, root: string, signal?: AbortSignal): Promise<StripeState[]> {
  const answer = await ask(socket, 'admin_getStripes', [root], { signal })
  return Array.isArray(answer) ? (answer as StripeState[]) : []
}

export interface RepairResult {
  /** Stripes that waited at the start, and that still do. */
  waited: number
  pending: number
  repairedBytes: number
  /** Bytes read and sent for each byte restored; null when nothing was. */
  trafficPerLostByte: number | null
  /** What cannot be repaired, by file. */
  alarms: Record<string, unknown>
}

/**
 * Has a member of a coding group repair now and waits until nothing waits any more, or until the files named are whole.
 * @throws {ZgError} ERR_REJECTED (no coding group), ERR_UNAVAILABLE, ERR_TIMEOUT.
 */
export async function repairNode(
  socket: string,
  roots: readonly string[],
  o: { signal?: AbortSignal; onProgress?: (done: number, total: number) => void } = {}
): Promise<RepairResult> {
  const before = numberIn(record(await ask(socket, 'admin_getGroup', [], o)).stats, 'repairedBytes')
  const waited = numberIn(await ask(socket, 'admin_repair', [], o), 'pending')
  for (;;) {
    const group = record(await ask(socket, 'admin_getGroup', [], o))
    const pending = numberIn(group, 'repairPending')
    const alarms = record(group.alarms ?? {})
    o.onProgress?.(Math.max(0, waited - pending), waited)
    const open = []
    for (const root of roots) {
      if (alarms[root] === undefined && !(await isWhole(socket, root, o.signal))) open.push(root)
    }
    if (roots.length > 0 ? open.length === 0 : pending <= Object.keys(alarms).length) {
      const repairedBytes = numberIn(group.stats, 'repairedBytes') - before
      const traffic = group.trafficPerLostByte
      return {
        waited,
        pending,
        repairedBytes,
        trafficPerLostByte: repairedBytes > 0 && typeof traffic === 'number' ? traffic : null,
        alarms
      }
    }
    await pause(POLL_MS, o.signal)
  }
}

async function isWhole(socket: string, root: string, signal: AbortSignal | undefined): Promise<boolean> {
  return (await stripesOf(socket, root, signal)).every(s => s.survivors >= s.count)
}

export interface ScrubResult {
  shards: number
  damaged: number
  stripes: number
  sumsWrong: number
}

/** Has a member read and check all that it holds; that may take hours, the signal ends the waiting. @throws as {@link repairNode}. */
export async function scrubNode(socket: string, o: { signal?: AbortSignal } = {}): Promise<ScrubResult> {
  const answer = await ask(socket, 'admin_scrub', [], { ...o, timeoutMs: 0 })
  return {
    shards: numberIn(answer, 'shards'),
    damaged: numberIn(answer, 'damaged'),
    stripes: numberIn(answer, 'stripes'),
    sumsWrong: numberIn(answer, 'sums_wrong')
  }
}

async function ask(
  socket: string,
  method: string,
  params: readonly unknown[],
  o: { signal?: AbortSignal | undefined; timeoutMs?: number }
): Promise<unknown> {
  try {
    return await callSocket(socket, method, params, o)
  } catch (err) {
    if (!(err instanceof RpcError)) throw err
    if (err.code === RPC.method) {
      throw new ZgError('ERR_REJECTED', `the node at '${socket}' is in no coding group: it keeps whole copies`, {
        cause: err
      })
    }
    throw new ZgError('ERR_REJECTED', typeof err.data === 'string' ? err.data : err.message, { cause: err })
  }
}

function record(v: unknown): Record<string, unknown> {
  if (v === null || typeof v !== 'object') throw new ZgError('ERR_PROTOCOL', 'the node told no state')
  return v as Record<string, unknown>
}

function numberIn(v: unknown, name: string): number {
  const n = record(v)[name]
  return typeof n === 'number' ? n : 0
}
