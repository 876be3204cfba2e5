/**
 * Messages of the three services as the gRPC layer hands them over (field names of share/proto/zg-da; 64-bit integers as decimal
 * strings), and the few rules about them that server and client share.
 */
import { ZgError } from '../../base/errors.ts'

/** A 64-bit integer: a decimal string when read; a number when written. */
export type Wide = string | number

export const BLOB_STATUS = {
  unknown: 0,
  processing: 1,
  confirmed: 2,
  failed: 3,
  finalized: 4,
  insufficientSignatures: 5
} as const

export interface BlobHeader {
  storage_root: Uint8Array
  epoch: Wide
  quorum_id: Wide
}

export interface DisperseBlobRequest {
  data: Uint8Array
}

export interface DisperseBlobReply {
  result: number
  request_id: Uint8Array
}

export interface BlobStatusRequest {
  request_id: Uint8Array
}

export interface BlobStatusReply {
  status: number
  info: { blob_header?: BlobHeader | null } | null
}

/** Of the disperser and of the retriever alike. */
export type RetrieveBlobRequest = BlobHeader

export interface RetrieveBlobReply {
  data: Uint8Array
}

export interface SignRequest {
  epoch: Wide
  quorum_id: Wide
  erasure_commitment: Uint8Array
  storage_root: Uint8Array
  encoded_slice: Uint8Array[]
  fast_header: Uint8Array
  fast_z: Uint8Array
  fast_row_roots: Uint8Array
}

export interface BatchSignRequest {
  requests: SignRequest[]
}

export interface BatchSignReply {
  signatures: Uint8Array[]
}

export interface RetrieveRequest {
  epoch: Wide
  quorum_id: Wide
  storage_root: Uint8Array
  row_indexes: number[]
  with_proof: boolean
  header: boolean
}

export interface BatchRetrieveRequest {
  requests: RetrieveRequest[]
}

export interface Slices {
  encoded_slice: Uint8Array[]
  fast_header: Uint8Array
  fast_z: Uint8Array
  fast_row_roots: Uint8Array
}

export interface BatchRetrieveReply {
  encoded_slice: Slices[]
}

export interface StatusReply {
  status_code: Wide
  entrance_contract: string
  modes: number
  version: string
}

/** Bits of {@link StatusReply.modes}. */
export const MODE_FAST = 2

/** Largest blob (da.md 4). */
export const BLOB_BYTES_MAX = 32_505_852
/** Message with one blob and room around it. */
export const BLOB_MESSAGE_BYTES = 32 * 1024 * 1024
/** A signer that owns a whole quorum gets or gives 93 MiB of rows, with proofs around them. */
export const ROWS_MESSAGE_BYTES = 128 * 1024 * 1024

export const DISPERSER = { file: 'zg-da/disperser.proto', service: 'disperser.Disperser' } as const
export const RETRIEVER = { file: 'zg-da/retriever.proto', service: 'retriever.Retriever' } as const
export const SIGNER = { file: 'zg-da/signer.proto', service: 'signer.Signer' } as const

/** An epoch or quorum as a number. @throws {ZgError} ERR_NOT_FOUND: no chain has one beyond 2⁵³. */
export function narrow(n: Wide, what: string): number {
  const value = Number(n)
  if (!Number.isSafeInteger(value) || value < 0) throw new ZgError('ERR_NOT_FOUND', `${what} is out of range`)
  return value
}
