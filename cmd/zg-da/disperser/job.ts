/** A blob on its way: what the journal keeps of it, and what clients are told. */
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, type Hex, toHex } from '../../../lib/base/hex.ts'
import type { BlobId, G1, G2 } from '../../../lib/clients/da/abi.ts'
import { BLOB_STATUS } from '../../../lib/clients/da/wire.ts'

/**
 * accepted ─► posted ─► signed ─► confirmed ─► finalized
 * and from each of the first three: failed, insufficient. Going back to `accepted` (posting anew) does not show outside.
 */
export type JobState = 'accepted' | 'posted' | 'signed' | 'confirmed' | 'finalized' | 'failed' | 'insufficient'

export interface Posting {
  epoch: number
  quorumId: number
  blockNumber: number
}

/** The signers' word: what `submitVerifiedCommitRoots` takes. */
export interface Certificate {
  signature: G1
  aggPkG2: G2
  bitmap: Uint8Array
  commitment: G1
  /** Signers that signed, of how many. */
  signed: number
  signers: number
}

export interface Job {
  /** The request id that the client holds; ASCII. */
  readonly id: string
  readonly sizeBytes: number
  readonly acceptedMs: number
  state: JobState
  changedMs: number
  /** Tries that failed. */
  attempts: number
  root?: Uint8Array
  posting?: Posting
  certificate?: Certificate
  /** The block that has the certificate. */
  certifiedBlock?: number
  /** Why it failed. */
  error?: string
}

const DONE: ReadonlySet<JobState> = new Set(['finalized', 'failed', 'insufficient'])

/** True when nothing more will happen to it. */
export function isDone(job: Job): boolean {
  return DONE.has(job.state)
}

/** Where the blob stands on chain, once it does. */
export function blobIdOf(job: Job): BlobId | undefined {
  if (job.state !== 'confirmed' && job.state !== 'finalized') return undefined
  return { root: job.root!, epoch: job.posting!.epoch, quorumId: job.posting!.quorumId }
}

/**
 * The state as the public face names it.
 * @param legacy - too few signatures is FAILED: existing clients wait on the finer state for ever (da.md 11).
 */
export function statusOf(job: Job, legacy: boolean): number {
  switch (job.state) {
    case 'confirmed':
      return BLOB_STATUS.confirmed
    case 'finalized':
      return BLOB_STATUS.finalized
    case 'failed':
      return BLOB_STATUS.failed
    case 'insufficient':
      return legacy ? BLOB_STATUS.failed : BLOB_STATUS.insufficientSignatures
    default:
      return BLOB_STATUS.processing
  }
}

const big = (n: bigint): string => n.toString()

export function encodeJob(job: Job): Uint8Array {
  const { certificate: c, root } = job
  const plain = {
    ...job,
    root: root === undefined ? undefined : toHex(root),
    certificate:
      c === undefined
        ? undefined
        : {
            signature: [c.signature.x, c.signature.y].map(big),
            commitment: [c.commitment.x, c.commitment.y].map(big),
            aggPkG2: [...c.aggPkG2.x, ...c.aggPkG2.y].map(big),
            bitmap: toHex(c.bitmap),
            signed: c.signed,
            signers: c.signers
          }
  }
  return new TextEncoder().encode(JSON.stringify(plain))
}

interface PlainCertificate {
  signature: string[]
  commitment: string[]
  aggPkG2: string[]
  bitmap: Hex
  signed: number
  signers: number
}

/** @throws {ZgError} ERR_CORRUPT. */
export function decodeJob(bytes: Uint8Array): Job {
  try {
    const { root, certificate, ...rest } = JSON.parse(new TextDecoder().decode(bytes)) as Omit<
      Job,
      'root' | 'certificate'
    > & { root?: Hex; certificate?: PlainCertificate }
    const job: Job = rest
    if (root !== undefined) job.root = fromHex(root)
    if (certificate !== undefined) {
      const n = (list: string[], i: number): bigint => BigInt(list[i]!)
      const { signature, commitment, aggPkG2 } = certificate
      job.certificate = {
        signature: { x: n(signature, 0), y: n(signature, 1) },
        commitment: { x: n(commitment, 0), y: n(commitment, 1) },
        aggPkG2: { x: [n(aggPkG2, 0), n(aggPkG2, 1)], y: [n(aggPkG2, 2), n(aggPkG2, 3)] },
        bitmap: fromHex(certificate.bitmap),
        signed: certificate.signed,
        signers: certificate.signers
      }
    }
    return job
  } catch (err) {
    throw new ZgError('ERR_CORRUPT', 'a journal entry of a blob is damaged', { cause: err })
  }
}
