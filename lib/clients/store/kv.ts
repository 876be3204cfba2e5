/** A key-value node as a client sees it (storage.md 6.4). */
import { RpcClient } from '../../adapters/jsonrpc/client.ts'
import { RpcError } from '../../adapters/jsonrpc/types.ts'
import { ZgError } from '../../base/errors.ts'
import { toHex } from '../../base/hex.ts'
import { until } from './retry.ts'

export interface KvValue {
  /** Seq of the submission that wrote it. */
  version: number
  sizeBytes: number
  data: Uint8Array
}

const QUERY_BYTES = 262_144
/** One answer carries at most 16 MiB of value as base64. */
const VALUE_MAX_BYTES = 1024 * 1024 * 1024

export class KvClient {
  readonly #rpc: RpcClient
  readonly #signal: AbortSignal | undefined

  constructor(url: string, signal?: AbortSignal) {
    this.#rpc = new RpcClient(url, { what: 'key-value node', signal })
    this.#signal = signal
  }

  async #call<T>(method: string, params: readonly unknown[]): Promise<T> {
    try {
      return await this.#rpc.call<T>(method, params)
    } catch (err) {
      if (!(err instanceof RpcError)) throw err
      if (err.code === -32601) {
        throw new ZgError('ERR_PROTOCOL', `${this.#rpc.url} is no key-value node`, {
          cause: err,
          hint: "key-value nodes listen on port 6789 by default; give '--kv URL'"
        })
      }
      throw new ZgError('ERR_REJECTED', `key-value node: ${err.message}${err.data ? `: ${err.data}` : ''}`, {
        cause: err
      })
    }
  }

  /** The value of a key as of `version` (newest when absent); undefined when there is none or it was deleted. */
  async get(stream: Uint8Array, key: Uint8Array, version?: number): Promise<KvValue | undefined> {
    const parts: Uint8Array[] = []
    let at = 0
    let first: { version: number; size: number } | undefined
    for (;;) {
      // Later parts are asked at the version of the first, so that a write in between does not mix two values.
      const params: unknown[] = [toHex(stream), base64(key), at, QUERY_BYTES]
      const asOf = first?.version ?? version
      if (asOf !== undefined) params.push(asOf)
      const a = await this.#call<{ version: number; data: string; size: number }>('kv_getValue', params)
      if (typeof a?.size !== 'number' || typeof a.data !== 'string' || a.size > VALUE_MAX_BYTES) {
        throw new ZgError('ERR_PROTOCOL', 'key-value node answered a malformed value')
      }
      first ??= a
      if (a.size === 0) return undefined
      const data = Buffer.from(a.data, 'base64')
      parts.push(data)
      at += data.length
      if (at >= a.size) break
      if (data.length === 0) throw new ZgError('ERR_PROTOCOL', 'key-value node answered a value that is cut short')
    }
    return { version: first.version, sizeBytes: first.size, data: Buffer.concat(parts) }
  }

  /** Result text of a submission; undefined while it was not replayed. */
  async result(seq: number): Promise<string | undefined> {
    return (await this.#call<string | null>('kv_getTransactionResult', [seq])) ?? undefined
  }

  /** Waits until a submission was replayed. @throws {ZgError} ERR_TIMEOUT. */
  async waitResult(seq: number, deadlineMs: number): Promise<string> {
    const text = await until(() => this.result(seq), { deadlineMs, firstMs: 20, mostMs: 250, signal: this.#signal })
    if (text !== undefined) return text
    throw new ZgError('ERR_TIMEOUT', `key-value node has not replayed submission ${seq} yet`, {
      hint: 'the write is stored and is replayed later; does the node follow this stream?'
    })
  }
}

function base64(b: Uint8Array): string {
  return Buffer.from(b.buffer, b.byteOffset, b.length).toString('base64')
}
