/**
 * An external execution client as consensus sees it: the Engine API over HTTP with a fresh token for each request. Which version of a
 * method fits is found once and kept until the client says that the fork is another one (−38005).
 */
import { RpcClient } from '../../../lib/adapters/jsonrpc/client.ts'
import { RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import type { Hex } from '../../../lib/base/hex.ts'
import { jwtToken } from './jwt.ts'
import { ENGINE } from './methods.ts'
import type { ExecutionPayload, Withdrawal } from './payload.ts'

export interface PayloadStatus {
  status: 'VALID' | 'INVALID' | 'SYNCING' | 'ACCEPTED' | 'INVALID_BLOCK_HASH'
  latestValidHash: Hex | null
  validationError: string | null
}

export interface PayloadAttributes {
  timestamp: Hex
  prevRandao: Hex
  suggestedFeeRecipient: Hex
  withdrawals: Withdrawal[]
  parentBeaconBlockRoot: Hex
}

/** A payload with what must go back with it. */
export interface Built {
  payload: ExecutionPayload
  blobHashes: Hex[]
  requests: Hex[] | undefined
}

/** A header as `eth_getBlockByNumber` gives it. */
export interface ElHead {
  hash: Hex
  number: Hex
  timestamp: Hex
}

const TIMEOUT_MS = 8_000
/** Newest first: what a version refuses by −38005 the next one is asked for. */
const GET_PAYLOAD = [4, 5, 3, 2] as const

/** @throws {ZgError} ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_PROTOCOL, ERR_PERMISSION; RpcError as the client answered. */
export class EngineClient {
  readonly url: string
  readonly #rpc: RpcClient
  #getVersion: (typeof GET_PAYLOAD)[number] = 4

  constructor(url: string, secret: Uint8Array, opts: { signal?: AbortSignal; now?: () => number } = {}) {
    this.url = url
    const now = opts.now ?? Date.now
    this.#rpc = new RpcClient(url, {
      what: 'execution client',
      hint: "its Engine API listens there? zg-chain's own: zg-chain engine",
      timeoutMs: TIMEOUT_MS,
      headers: () => ({ authorization: `Bearer ${jwtToken(secret, now())}` }),
      ...(opts.signal === undefined ? {} : { signal: opts.signal })
    })
  }

  call<T>(method: string, params: readonly unknown[] = []): Promise<T> {
    return this.#rpc.call<T>(method, params)
  }

  /** Names both sides to each other. @throws {ZgError} ERR_PROTOCOL when the client lacks a method that consensus needs. */
  async introduce(version: string): Promise<{ name: string; capabilities: string[] }> {
    const wanted = [
      'engine_forkchoiceUpdatedV3',
      'engine_newPayloadV3',
      'engine_getPayloadV3',
      'engine_newPayloadV4',
      'engine_getPayloadV4',
      'engine_getPayloadV5'
    ]
    const capabilities = await this.#rpc.call<string[]>('engine_exchangeCapabilities', [wanted])
    if (!Array.isArray(capabilities) || !capabilities.includes('engine_forkchoiceUpdatedV3'))
      throw new ZgError('ERR_PROTOCOL', `the execution client at ${this.url} has no engine_forkchoiceUpdatedV3`)
    let name = 'unnamed'
    try {
      const [them] = await this.#rpc.call<{ name?: string; version?: string }[]>('engine_getClientVersionV1', [
        { code: 'ZG', name: 'zg-chain', version, commit: '0x00000000' }
      ])
      if (typeof them?.name === 'string') name = `${them.name} ${them.version ?? ''}`.trim().slice(0, 80)
    } catch (err) {
      // Older clients do not tell their name.
      if (!(err instanceof RpcError)) throw err
    }
    return { name, capabilities }
  }

  head(): Promise<ElHead> {
    return this.#rpc.call<ElHead>('eth_getBlockByNumber', ['latest', false])
  }

  /** Under instant finality the head is safe and final as well. */
  forkchoice(
    head: Hex,
    attributes?: PayloadAttributes
  ): Promise<{ payloadStatus: PayloadStatus; payloadId: Hex | null }> {
    return this.#rpc.call('engine_forkchoiceUpdatedV3', [
      { headBlockHash: head, safeBlockHash: head, finalizedBlockHash: head },
      attributes ?? null
    ])
  }

  async getPayload(id: Hex): Promise<Built> {
    const tried = [this.#getVersion, ...GET_PAYLOAD.filter(v => v !== this.#getVersion)]
    for (const version of tried) {
      try {
        const answer = await this.#rpc.call<{
          executionPayload: ExecutionPayload
          executionRequests?: Hex[]
          blobsBundle?: { commitments: Hex[] }
        }>(`engine_getPayloadV${version}`, [id])
        this.#getVersion = version
        if (answer.blobsBundle !== undefined && answer.blobsBundle.commitments.length > 0)
          throw new ZgError('ERR_PROTOCOL', 'the execution client put blobs into a block; this chain has none')
        return { payload: answer.executionPayload, blobHashes: [], requests: answer.executionRequests }
      } catch (err) {
        if (!(err instanceof RpcError) || (err.code !== ENGINE.fork && err.code !== -32601)) throw err
      }
    }
    throw new ZgError('ERR_PROTOCOL', `the execution client at ${this.url} gives payload ${id} under no version`)
  }

  newPayload(built: Built, parentBeaconBlockRoot: Hex): Promise<PayloadStatus> {
    if (built.payload.blobGasUsed === undefined) return this.#rpc.call('engine_newPayloadV2', [built.payload])
    const params = [built.payload, built.blobHashes, parentBeaconBlockRoot]
    return built.requests === undefined
      ? this.#rpc.call('engine_newPayloadV3', params)
      : this.#rpc.call('engine_newPayloadV4', [...params, built.requests])
  }
}
