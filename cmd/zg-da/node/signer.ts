/**
 * What a signer answers: signatures over shares that it has checked and stored, and rows out of its store (da.md 2.4 and 6.2,
 * da-design.md 5).
 *
 *     free checks ─► posted? certified? ─► header, z, lines ─► stored, fsynced ─► signed
 *
 * The order is the promise: a signature says that these lines lie on this disk.
 */

import { GrpcError, STATUS } from '../../../lib/adapters/grpc/status.ts'
import { concat, equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import type { BlobId, G1 } from '../../../lib/clients/da/abi.ts'
import type { Quorum } from '../../../lib/clients/da/chain.ts'
import {
  type BatchRetrieveReply,
  type BatchRetrieveRequest,
  type BatchSignReply,
  type BatchSignRequest,
  MODE_FAST,
  narrow,
  type RetrieveRequest,
  ROWS_MESSAGE_BYTES,
  type SignRequest,
  type Slices,
  type StatusReply,
  type Wide
} from '../../../lib/clients/da/wire.ts'
import { signerForm } from '../../../lib/codec/da/blob.ts'
import { checkHeader, commitmentFromLe, decodeHeader, isFastMode } from '../../../lib/codec/da/header.ts'
import { decodeRecords, encodeRecord } from '../../../lib/codec/da/records.ts'
import { DaError, type DaHeader, type LineRecord, PLACES } from '../../../lib/codec/da/types.ts'
import { verifyLines } from '../../../lib/codec/da/verify.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { FraudProofs } from './fraud.ts'
import type { StoredShare } from './line-record.ts'
import type { LineStore } from './line-store.ts'
import type { Postings } from './postings.ts'
import { rowsOf } from './rows.ts'

/** What it needs of the chain. */
export interface SignerChain {
  epoch(): Promise<number>
  quorum(epoch: number, quorumId: number): Promise<Quorum>
  commitment(id: BlobId): Promise<G1 | undefined>
}

export interface SignerOptions {
  chain: SignerChain
  postings: Postings
  store: LineStore
  fraud: FraudProofs
  /** Its address on chain. */
  address: Uint8Array
  /** Signs the digest of a blob: 64 bytes, upstream's form. */
  sign: (id: BlobId, commitment: G1) => Promise<Uint8Array>
  /** Address of DAEntrance. */
  entrance: string
  version: string
  logger: Logger
}

/** Sign calls at once (da.md 2.4). */
const SIGN_CALLS = 10
/** Read calls at once. */
const READ_CALLS = 16
/** Requests of one call. */
const REQUESTS = 256
/** A posting of an older epoch gets no signature any more: its disperser posts again. */
export const SIGN_EPOCHS = 3

export class Signer {
  readonly #o: SignerOptions
  #signing = 0
  #reading = 0
  readonly counts = { signed: 0, refused: 0, read: 0, fraud: 0 }

  constructor(options: SignerOptions) {
    this.#o = options
  }

  status(): StatusReply {
    const { entrance, version } = this.#o
    return {
      status_code: 200,
      entrance_contract: entrance.replace(/^0x/i, '').toLowerCase(),
      modes: MODE_FAST,
      version
    }
  }

  /** @throws {GrpcError} as da.md 12 lists them. */
  async batchSign(request: BatchSignRequest): Promise<BatchSignReply> {
    if (this.#signing >= SIGN_CALLS) throw new GrpcError(STATUS.resourceExhausted, 'request pool is full')
    checkCount(request.requests)
    this.#signing++
    try {
      const checked: { share: StoredShare; commitment: G1 }[] = []
      for (const r of request.requests) checked.push(await this.#check(r))
      await Promise.all(checked.map(({ share }) => this.#o.store.append(share)))
      const signatures: Uint8Array[] = []
      for (const { share, commitment } of checked) signatures.push(await this.#o.sign(share.id, commitment))
      this.counts.signed += signatures.length
      return { signatures }
    } catch (err) {
      this.counts.refused++
      throw err instanceof ZgError && err.code === 'ERR_DISK_FULL'
        ? new GrpcError(STATUS.resourceExhausted, 'no space to store the slices: not signed', { cause: err })
        : err
    } finally {
      this.#signing--
    }
  }

  async batchRetrieve(request: BatchRetrieveRequest): Promise<BatchRetrieveReply> {
    if (this.#reading >= READ_CALLS) throw new GrpcError(STATUS.resourceExhausted, 'request pool is full')
    checkCount(request.requests)
    this.#reading++
    try {
      const slices: Slices[] = []
      let room = ROWS_MESSAGE_BYTES
      for (const r of request.requests) {
        const answer = await this.#read(r)
        for (const slice of answer.encoded_slice) room -= slice.length
        if (room < 0)
          throw new GrpcError(STATUS.resourceExhausted, 'the rows of this call are too large for one answer')
        slices.push(answer)
      }
      this.counts.read += slices.length
      return { encoded_slice: slices }
    } finally {
      this.#reading--
    }
  }

  /** All checks of one request. What is there already with the same commitment needs none of the dear ones again. */
  async #check(r: SignRequest): Promise<{ share: StoredShare; commitment: G1 }> {
    const { chain, postings } = this.#o
    const id = idOf(r)
    const le = new Uint8Array(r.erasure_commitment)
    if (le.length !== 64) {
      throw invalid(`failed to deserialize erasure commitment: it has ${le.length} bytes, 64 wanted`)
    }
    const { cx, cy } = commitmentFromLe(le)
    if (!isFastMode(cy)) throw invalid('Incorrect commitment: it is not of a mode that this signer knows')
    const commitment = { x: big(cx), y: big(cy) }
    const current = await chain.epoch()
    if (id.epoch > current || id.epoch < current - SIGN_EPOCHS) throw new GrpcError(STATUS.notFound, 'invalid epoch')
    const quorum = await chain.quorum(id.epoch, id.quorumId)
    const places = quorum.members.find(m => equalBytes(m.address, this.#o.address))?.places ?? []
    if (places.length === 0 || !coversExactly(r.encoded_slice, places)) {
      throw invalid('received slices and assigned slices are mismatch')
    }
    if ((await chain.commitment(id)) !== undefined) throw new GrpcError(STATUS.alreadyExists, 'blob verified already')
    if (!(await postings.has(id))) throw new GrpcError(STATUS.notFound, 'blob not found')
    const known = await this.#stored(id)
    if (known !== undefined) {
      if (equalBytes(known.commitment, concat(cx, cy))) return { share: known, commitment }
      throw invalid('verification failed: another encoding of this root was signed here')
    }
    const share = { id, ...(await this.#verify(r, { cx, cy }, id, places, quorum.members.length)) }
    return { share, commitment }
  }

  /** A damaged share is as good as none: what comes now takes its place. */
  async #stored(id: BlobId): Promise<StoredShare | undefined> {
    try {
      return await this.#o.store.get(id)
    } catch (err) {
      if (!(err instanceof ZgError) || err.code !== 'ERR_CORRUPT') throw err
      this.#o.logger.error('a stored share is damaged', { root: id.root })
      this.#o.store.forget(id)
      return undefined
    }
  }

  async #verify(
    r: SignRequest,
    commitment: { cx: Uint8Array; cy: Uint8Array },
    id: BlobId,
    places: number[],
    signers: number
  ): Promise<Omit<StoredShare, 'id'>> {
    let header: DaHeader
    let lines: LineRecord[]
    try {
      header = decodeHeader(r.fast_header)
      checkHeader(header, { storageRoot: id.root, commitment })
      lines = decodeRecords(r.encoded_slice, header)
    } catch (err) {
      throw refusal(err)
    }
    const rowRoots = r.fast_row_roots.length === 0 ? undefined : r.fast_row_roots
    if (rowRoots === undefined && rootsDemanded(header, signers)) {
      throw invalid('verification failed: the row roots are missing')
    }
    try {
      await verifyLines(header, r.fast_z, lines, { rowRoots, places })
    } catch (err) {
      if (err instanceof DaError && err.fault === 'line-code') await this.#keepFraud(r, header, lines, err.at!)
      throw refusal(err)
    }
    return {
      commitment: concat(commitment.cx, commitment.cy),
      header: r.fast_header,
      z: r.fast_z,
      rowRoots: r.fast_row_roots,
      lines: r.encoded_slice
    }
  }

  /** A line that its header commits to and that is not of the code: evidence against the encoder. */
  async #keepFraud(r: SignRequest, header: DaHeader, lines: LineRecord[], at: number): Promise<void> {
    this.counts.fraud++
    try {
      const row = rowsOf({ header, rowRoots: r.fast_row_roots, lines }).row(at)
      if (row === undefined) return
      const path = await this.#o.fraud.keep(r.fast_header, r.fast_z, encodeRecord(row))
      if (path !== undefined) this.#o.logger.warn('an encoder cheated', { root: header.dataRoot, proof: path })
    } catch (err) {
      this.#o.logger.warn('cannot keep a fraud proof', { error: messageOf(err) })
    }
  }

  async #read(r: RetrieveRequest): Promise<Slices> {
    const id = idOf(r)
    if (r.row_indexes.length > PLACES || r.row_indexes.some(i => i >= PLACES)) throw invalid('invalid row indexes')
    let share: StoredShare | undefined
    try {
      share = await this.#o.store.get(id)
    } catch (err) {
      this.#o.logger.error('a stored share cannot be read', { root: id.root, error: messageOf(err) })
    }
    if (share === undefined) throw new GrpcError(STATUS.notFound, 'slice is missing')
    const header = decodeHeader(share.header)
    const rows = rowsOf({ header, rowRoots: share.rowRoots, lines: decodeRecords(share.lines, header) })
    const out: Uint8Array[] = []
    for (const p of [...new Set(r.row_indexes)].sort((a, b) => a - b)) {
      const row = rows.row(p)
      if (row === undefined) throw new GrpcError(STATUS.notFound, 'slice is missing')
      out.push(r.with_proof ? encodeRecord(row) : rows.slice(row))
    }
    const none = new Uint8Array(0)
    return {
      encoded_slice: out,
      fast_header: r.header ? share.header : none,
      fast_z: r.header ? share.z : none,
      fast_row_roots: r.header ? share.rowRoots : none
    }
  }
}

/** Small quorums and small blobs always bring the row roots (da-design.md 9.3). */
function rootsDemanded(header: DaHeader, signers: number): boolean {
  // Of one place the smaller form is the paths: if it is not, the roots were demanded.
  return signerForm(header, 1, signers) === 'roots'
}

function checkCount(requests: readonly unknown[]): void {
  if (requests.length > REQUESTS) throw invalid(`${requests.length} requests in one call, at most ${REQUESTS}`)
}

function idOf(r: { epoch: Wide; quorum_id: Wide; storage_root: Uint8Array }): BlobId {
  if (r.storage_root.length !== 32) throw invalid('storage root')
  return {
    root: new Uint8Array(r.storage_root),
    epoch: narrow(r.epoch, 'epoch'),
    quorumId: narrow(r.quorum_id, 'quorum_id')
  }
}

/** Looks at nothing but the places that the records name (da-design.md 11.1). */
function coversExactly(records: readonly Uint8Array[], places: readonly number[]): boolean {
  return (
    records.length === places.length && records.every((b, i) => b.length >= 4 && (b[2]! | (b[3]! << 8)) === places[i])
  )
}

function refusal(err: unknown): unknown {
  if (!(err instanceof DaError)) return err
  if (err.fault.startsWith('record-')) return invalid(`failed to deserialize slice: ${err.message}`)
  return invalid(`verification failed: ${err.message}`)
}

function invalid(text: string): GrpcError {
  return new GrpcError(STATUS.invalidArgument, text)
}

function big(b: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(b).toString('hex')}`)
}
