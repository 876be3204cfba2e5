/** A key-value node as a client sees it (storage.md 6.4). */
import { RpcClient } from '../../adapters/jsonrpc/client.ts'
import { RpcError } from '../../adapters/jsonrpc/types.ts'
import { compareBytes } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { toHex } from '../../base/hex.ts'
import type { ChainClient } from '../chain.ts'
import { type ProvenSubmission, parseKvProof, provenSubmission, provenValue } from './kv-proof.ts'
import { until } from './retry.ts'

export interface KvValue {
  /** Seq of the submission that wrote it. */
  version: number
  sizeBytes: number
  data: Uint8Array
}

/** A living key. */
export interface KvEntry {
  key: Uint8Array
  version: number
  sizeBytes: number
  /** Empty unless asked for. */
  data: Uint8Array
}

/** An account's roles in a stream; the last three are of a key, undefined when none was asked about. */
export interface KvRoles {
  admin: boolean
  writer: boolean
  /** The key has writers of its own. */
  special: boolean | undefined
  keyWriter: boolean | undefined
  mayWrite: boolean | undefined
}

const QUERY_BYTES = 262_144
/** One answer carries at most 16 MiB of value as base64. */
const VALUE_MAX_BYTES = 1024 * 1024 * 1024

export class KvClient {
  readonly #rpc: RpcClient
  readonly #signal: AbortSignal | undefined

  get url(): string {
    return this.#rpc.url
  }

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

  /**
   * The living keys of a stream in byte order, each once, as of `version`: a snapshot, whatever is written meanwhile.
   * @param o.prefix - only keys that begin with it. `from`: begin at this key (included). `values`: with the first 256 KiB of each value,
   *   or all of it up to 16 MiB from a zg node; otherwise without.
   */
  async *list(
    stream: Uint8Array,
    o: { prefix?: Uint8Array; from?: Uint8Array; reverse?: boolean; version?: number; values?: boolean } = {}
  ): AsyncGenerator<KvEntry> {
    const prefix = o.prefix ?? new Uint8Array(0)
    const reverse = o.reverse === true
    const version = o.version ?? (await this.progress()).appliedSeq
    const edge = reverse ? afterPrefix(prefix) : prefix.length === 0 ? undefined : prefix
    // Whichever of the two lies further in the direction of the walk.
    const sign = reverse ? -1 : 1
    const byFrom = o.from !== undefined && (edge === undefined || compareBytes(o.from, edge) * sign >= 0)
    let at = byFrom ? o.from : edge
    let inclusive = byFrom || !reverse
    for (;;) {
      const id = toHex(stream)
      const len = o.values === true ? QUERY_BYTES : 0
      const answer =
        at === undefined
          ? await this.#call<unknown>(reverse ? 'kv_getLast' : 'kv_getFirst', [id, 0, len, version])
          : await this.#call<unknown>(reverse ? 'kv_getPrev' : 'kv_getNext', [
              id,
              base64(at),
              0,
              len,
              inclusive,
              version
            ])
      if (answer === null) return
      const entry = parseEntry(answer)
      const order = at === undefined ? 1 : compareBytes(entry.key, at) * sign
      if (order < 0 || (order === 0 && !inclusive)) {
        throw new ZgError('ERR_PROTOCOL', 'key-value node answered keys out of order')
      }
      if (compareBytes(entry.key.subarray(0, prefix.length), prefix) !== 0) return
      yield entry
      at = entry.key
      inclusive = false
    }
  }

  /** How far the node has replayed the log. */
  async progress(): Promise<{ appliedSeq: number; firstTxSeq: number | null }> {
    const a = await this.#call<{ appliedSeq: unknown; firstTxSeq: unknown }>('kv_getReplayProgress', [])
    if (typeof a?.appliedSeq !== 'number') throw new ZgError('ERR_PROTOCOL', 'key-value node answered no progress')
    return { appliedSeq: a.appliedSeq, firstTxSeq: typeof a.firstTxSeq === 'number' ? a.firstTxSeq : null }
  }

  /**
   * The value of a key with proof: every byte and the key itself are checked against the flow root of the submission that wrote
   * them, as the chain has it (kv-proof.ts). Undefined when there is none; `deleted` when the proof shows its deletion.
   * @param flow - the flow contract, 0x lower case.
   * @throws {ZgError} ERR_BAD_PROOF.
   */
  async prove(
    stream: Uint8Array,
    key: Uint8Array,
    o: { chain: ChainClient; flow: string; version?: number; encryptionKey?: Uint8Array | undefined }
  ): Promise<(KvValue & { proof: ProvenSubmission & { txHash: string } }) | undefined> {
    const parts: Uint8Array[] = []
    let at = 0
    let version = o.version
    let submission: ProvenSubmission | undefined
    for (;;) {
      const params: unknown[] = [toHex(stream), base64(key), at, QUERY_BYTES]
      if (version !== undefined) params.push(version)
      const answer = await this.#call<unknown>('kv_getProof', params)
      if (answer === null || answer === undefined) return undefined
      const p = parseKvProof(answer)
      if (submission !== undefined && p.version !== version) {
        throw new ZgError('ERR_PROTOCOL', 'key-value node proved parts of two values')
      }
      version = p.version
      submission ??= await provenSubmission(o.chain, o.flow, p)
      const what = { stream, key, start: at, length: QUERY_BYTES }
      const data = provenValue(p, submission, what, o.encryptionKey)
      parts.push(data)
      at += data.length
      if (at < p.sizeBytes && data.length > 0) continue
      const proof = { ...submission, txHash: p.txHash }
      return { version, sizeBytes: p.sizeBytes, data: Buffer.concat(parts), proof }
    }
  }

  /** What an account may do in a stream, and with a key of it when one is named, as of `version` (newest when absent). */
  async roles(stream: Uint8Array, account: Uint8Array, key?: Uint8Array, version?: number): Promise<KvRoles> {
    const [who, where, at] = [toHex(account), toHex(stream), version === undefined ? [] : [version]]
    const ask = async (method: string, params: readonly unknown[]): Promise<boolean> => {
      const answer = await this.#call<unknown>(method, [...params, ...at])
      if (typeof answer !== 'boolean')
        throw new ZgError('ERR_PROTOCOL', `key-value node answered no boolean to ${method}`)
      return answer
    }
    const [admin, writer] = [await ask('kv_isAdmin', [who, where]), await ask('kv_isWriterOfStream', [who, where])]
    if (key === undefined) return { admin, writer, special: undefined, keyWriter: undefined, mayWrite: undefined }
    const name = base64(key)
    return {
      admin,
      writer,
      special: await ask('kv_isSpecialKey', [where, name]),
      keyWriter: await ask('kv_isWriterOfKey', [who, where, name]),
      mayWrite: await ask('kv_hasWritePermission', [who, where, name])
    }
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

/** The first key behind all that begin with `prefix`; undefined when there is none. */
function afterPrefix(prefix: Uint8Array): Uint8Array | undefined {
  const out = prefix.slice()
  for (let i = out.length - 1; i >= 0; i--) {
    if (out[i]! < 0xff) {
      out[i]!++
      return out.subarray(0, i + 1)
    }
  }
  return undefined
}

function parseEntry(answer: unknown): KvEntry {
  const a = answer as { key?: unknown; data?: unknown; version?: unknown; size?: unknown }
  const ok =
    typeof a?.key === 'string' &&
    a.key !== '' &&
    typeof a.data === 'string' &&
    Number.isSafeInteger(a.version) &&
    Number.isSafeInteger(a.size)
  if (!ok) throw new ZgError('ERR_PROTOCOL', 'key-value node answered a malformed key')
  return {
    key: Buffer.from(a.key as string, 'base64'),
    version: a.version as number,
    sizeBytes: a.size as number,
    data: Buffer.from(a.data as string, 'base64')
  }
}

function base64(b: Uint8Array): string {
  return Buffer.from(b.buffer, b.byteOffset, b.length).toString('base64')
}
