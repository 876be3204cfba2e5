/** The disperser's public face (da.md 2.1), with the texts and codes of da.md 12. */

import type { UnaryHandler } from '../../../lib/adapters/grpc/server.ts'
import { GrpcError, STATUS, statusOf } from '../../../lib/adapters/grpc/status.ts'
import { fromUtf8, utf8 } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import type { RetrieverClient } from '../../../lib/clients/da/retriever.ts'
import {
  BLOB_BYTES_MAX,
  BLOB_STATUS,
  type BlobStatusReply,
  type BlobStatusRequest,
  type DisperseBlobReply,
  type DisperseBlobRequest,
  narrow,
  type RetrieveBlobReply,
  type RetrieveBlobRequest
} from '../../../lib/clients/da/wire.ts'
import { blobIdOf, statusOf as blobStatus, type Job } from './job.ts'
import type { BlobQueue } from './queue.ts'

export interface ServiceOptions {
  queue: BlobQueue
  /** Asked for blobs that did not come through here. */
  retriever: () => Promise<RetrieverClient | undefined>
  /** Too few signatures is told as FAILED. */
  legacyStatus: boolean
  onAccepted: (job: Job) => void
}

/** Bytes of blobs that are being written down: each is in memory until then. */
const WRITING_BYTES = 256 * 1024 * 1024
const ID_MAX = 256

export function disperserHandlers(o: ServiceOptions): Record<string, UnaryHandler> {
  let writing = 0
  return {
    async DisperseBlob(request: DisperseBlobRequest, signal): Promise<DisperseBlobReply> {
      const { data } = request
      if (data.length > BLOB_BYTES_MAX) throw invalid('blob size cannot exceed 31744 KiB')
      if (data.length === 0) throw invalid('blob size must be greater than 0')
      if (writing + data.length > WRITING_BYTES) throw new GrpcError(STATUS.resourceExhausted, 'memory db is full')
      writing += data.length
      try {
        const job = await o.queue.add(data, signal)
        o.onAccepted(job)
        return { result: BLOB_STATUS.processing, request_id: utf8(job.id) }
      } catch (err) {
        if (err instanceof ZgError && err.code === 'ERR_DISK_FULL')
          throw new GrpcError(STATUS.resourceExhausted, 'memory db is full', { cause: err })
        throw err
      } finally {
        writing -= data.length
      }
    },

    async GetBlobStatus(request: BlobStatusRequest): Promise<BlobStatusReply> {
      if (request.request_id.length === 0) throw invalid('invalid request: request_id must not be empty')
      const id = fromUtf8(request.request_id.subarray(0, ID_MAX))
      if (!/^[0-9a-f]{64}-[0-9a-f]{1,64}$/.test(id)) throw invalid(`invalid metadata key: ${printable(id)}`)
      const job = await o.queue.find(id)
      if (job === undefined) {
        const text = 'failed to retrieve blob status: disperse failed or request may not exist'
        throw new GrpcError(STATUS.notFound, text)
      }
      const at = blobIdOf(job)
      const blob_header =
        at === undefined ? undefined : { storage_root: at.root, epoch: at.epoch, quorum_id: at.quorumId }
      return {
        status: blobStatus(job, o.legacyStatus),
        info: blob_header === undefined ? {} : { blob_header }
      }
    },

    async RetrieveBlob(request: RetrieveBlobRequest, signal): Promise<RetrieveBlobReply> {
      if (request.storage_root.length !== 32) throw invalid('parameter StorageRoot len is not accepted')
      const id = {
        root: new Uint8Array(request.storage_root),
        epoch: narrow(request.epoch, 'epoch'),
        quorumId: narrow(request.quorum_id, 'quorum_id')
      }
      const own = await o.queue.certified(id)
      if (own !== undefined) return { data: own }
      const retriever = await o.retriever()
      if (retriever === undefined)
        throw new GrpcError(STATUS.unavailable, 'failed to dial retriever: none is configured')
      try {
        return { data: await retriever.retrieve(id, { signal }) }
      } catch (err) {
        const code = statusOf(err) ?? STATUS.unavailable
        if (code === STATUS.unavailable)
          throw new GrpcError(code, `failed to dial retriever: ${messageOf(err)}`, { cause: err })
        throw new GrpcError(code, innermost(err), { cause: err })
      }
    }
  }
}

/** The text that the retriever itself gave. */
function innermost(err: unknown): string {
  for (let e = err; e instanceof Error; e = e.cause) if (e instanceof GrpcError) return e.message
  return messageOf(err)
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 100)
}

function invalid(text: string): GrpcError {
  return new GrpcError(STATUS.invalidArgument, text)
}
