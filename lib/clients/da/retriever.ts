/** Client of a retriever. */
import { type CallOptions, GrpcClient } from '../../adapters/grpc/client.ts'
import type { BlobId } from './abi.ts'
import { BLOB_MESSAGE_BYTES, RETRIEVER, type RetrieveBlobReply, type RetrieveBlobRequest } from './wire.ts'

const RETRIEVE_MS = 120_000

export class RetrieverClient {
  readonly #grpc: GrpcClient

  /** @param address - `host:port`. @throws {ZgError} ERR_USAGE. */
  constructor(address: string) {
    this.#grpc = new GrpcClient(address, {
      ...RETRIEVER,
      what: 'retriever',
      hint: "run 'zg-devnet up', or give '--retriever HOST:PORT'",
      receiveBytes: BLOB_MESSAGE_BYTES
    })
  }

  get address(): string {
    return this.#grpc.address
  }

  /** The blob's bytes, checked by the retriever. @throws {ZgError} ERR_NOT_FOUND, ERR_BAD_PROOF, ERR_UNAVAILABLE, ERR_TIMEOUT. */
  async retrieve(id: BlobId, opts: CallOptions = {}): Promise<Uint8Array> {
    const reply = await this.#grpc.call<RetrieveBlobRequest, RetrieveBlobReply>(
      'RetrieveBlob',
      { storage_root: id.root, epoch: id.epoch, quorum_id: id.quorumId },
      { timeoutMs: RETRIEVE_MS, ...opts }
    )
    return reply.data
  }

  close(): void {
    this.#grpc.close()
  }
}
