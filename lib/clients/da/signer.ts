/** Client of a signer, and a pool of them by address with a bound on calls at once to each. */
import { type CallOptions, GrpcClient } from '../../adapters/grpc/client.ts'
import type { BlobId } from './abi.ts'
import {
  type BatchRetrieveReply,
  type BatchRetrieveRequest,
  type BatchSignReply,
  type BatchSignRequest,
  ROWS_MESSAGE_BYTES,
  SIGNER,
  type SignRequest,
  type Slices,
  type StatusReply
} from './wire.ts'

/** Calls at once to one signer: below the ten that it takes, so that others get in too. */
const AT_ONCE = 6

export class SignerClient {
  readonly #grpc: GrpcClient
  /** Whether it knows the fast mode, once somebody has asked it. */
  fast: boolean | undefined
  #running = 0
  readonly #waiting: (() => void)[] = []

  /** @param address - as published on chain: `host:port`, a scheme in front is dropped. @throws {ZgError} ERR_USAGE. */
  constructor(address: string) {
    this.#grpc = new GrpcClient(address, { ...SIGNER, what: 'signer', receiveBytes: ROWS_MESSAGE_BYTES })
  }

  get address(): string {
    return this.#grpc.address
  }

  /** One signature, 64 bytes, unchecked. */
  async sign(request: SignRequest, opts: CallOptions = {}): Promise<Uint8Array | undefined> {
    const reply = await this.#bounded(() =>
      this.#grpc.call<BatchSignRequest, BatchSignReply>('BatchSign', { requests: [request] }, opts)
    )
    return reply.signatures[0]
  }

  /** Rows with proofs, and on demand what all rows share. Unchecked. */
  async retrieve(
    id: BlobId,
    rows: readonly number[],
    opts: CallOptions & { header?: boolean } = {}
  ): Promise<Slices | undefined> {
    const request = {
      epoch: id.epoch,
      quorum_id: id.quorumId,
      storage_root: id.root,
      row_indexes: [...rows],
      with_proof: true,
      header: opts.header === true
    }
    const reply = await this.#bounded(() =>
      this.#grpc.call<BatchRetrieveRequest, BatchRetrieveReply>('BatchRetrieve', { requests: [request] }, opts)
    )
    return reply.encoded_slice[0]
  }

  status(opts: CallOptions = {}): Promise<StatusReply> {
    return this.#grpc.call<object, StatusReply>('GetStatus', {}, opts)
  }

  close(): void {
    this.#grpc.close()
  }

  async #bounded<T>(fn: () => Promise<T>): Promise<T> {
    if (this.#running >= AT_ONCE) await new Promise<void>(resolve => this.#waiting.push(resolve))
    else this.#running++
    try {
      return await fn()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#running--
      else next()
    }
  }
}

/** Signers by address; connections are kept. */
export class SignerPool {
  readonly #clients = new Map<string, SignerClient>()

  /** @throws {ZgError} ERR_USAGE when the published socket is no address. */
  at(socket: string): SignerClient {
    let client = this.#clients.get(socket)
    if (client === undefined) {
      client = new SignerClient(socket)
      if (this.#clients.size >= CONNECTIONS) this.#dropOldest()
      this.#clients.set(socket, client)
    }
    return client
  }

  close(): void {
    for (const client of this.#clients.values()) client.close()
    this.#clients.clear()
  }

  #dropOldest(): void {
    const [oldest, client] = this.#clients.entries().next().value!
    this.#clients.delete(oldest)
    client.close()
  }
}

/** Connections a pool keeps: more than the 640 signers that a quorum may have. */
const CONNECTIONS = 1_024
