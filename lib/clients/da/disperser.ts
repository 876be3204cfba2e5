/** Client of a disperser: blobs in, their state, blobs out. */
import { type CallOptions, GrpcClient } from '../../adapters/grpc/client.ts'
import type { BlobId } from './abi.ts'
import {
  BLOB_MESSAGE_BYTES,
  BLOB_STATUS,
  type BlobStatusReply,
  type BlobStatusRequest,
  DISPERSER,
  type DisperseBlobReply,
  type DisperseBlobRequest,
  narrow,
  type RetrieveBlobReply,
  type RetrieveBlobRequest
} from './wire.ts'

export type BlobState = keyof typeof BLOB_STATUS

const NAMES = Object.keys(BLOB_STATUS) as BlobState[]
/** A blob of 31 MiB over a slow line. */
const DISPERSE_MS = 180_000

export class DisperserClient {
  readonly #grpc: GrpcClient

  /** @param address - `host:port`. @throws {ZgError} ERR_USAGE. */
  constructor(address: string) {
    this.#grpc = new GrpcClient(address, {
      ...DISPERSER,
      what: 'disperser',
      hint: "run 'zg-devnet up', or give '--disperser HOST:PORT'",
      receiveBytes: BLOB_MESSAGE_BYTES
    })
  }

  get address(): string {
    return this.#grpc.address
  }

  /** Hands a blob over; it is durable there when this returns. @returns the request id. */
  async disperse(data: Uint8Array, opts: CallOptions = {}): Promise<Uint8Array> {
    const reply = await this.#grpc.call<DisperseBlobRequest, DisperseBlobReply>(
      'DisperseBlob',
      { data },
      { timeoutMs: DISPERSE_MS, ...opts }
    )
    return reply.request_id
  }

  /** @returns the blob's state, and from `confirmed` on where it stands on chain. */
  async status(requestId: Uint8Array, opts: CallOptions = {}): Promise<{ state: BlobState; id: BlobId | undefined }> {
    const reply = await this.#grpc.call<BlobStatusRequest, BlobStatusReply>(
      'GetBlobStatus',
      { request_id: requestId },
      opts
    )
    const header = reply.info?.blob_header
    const filled = header !== undefined && header !== null && header.storage_root.length === 32
    return {
      state: NAMES[reply.status] ?? 'unknown',
      id: filled
        ? {
            root: new Uint8Array(header.storage_root),
            epoch: narrow(header.epoch, 'epoch'),
            quorumId: narrow(header.quorum_id, 'quorum')
          }
        : undefined
    }
  }

  async retrieve(id: BlobId, opts: CallOptions = {}): Promise<Uint8Array> {
    const reply = await this.#grpc.call<RetrieveBlobRequest, RetrieveBlobReply>(
      'RetrieveBlob',
      { storage_root: id.root, epoch: id.epoch, quorum_id: id.quorumId },
      { timeoutMs: DISPERSE_MS, ...opts }
    )
    return reply.data
  }

  close(): void {
    this.#grpc.close()
  }
}
