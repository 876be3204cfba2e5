/**
 * The checks of an uploaded segment, in the order and with the words of the 0G network (storage.md 3.3): clients match on
 * parts of these texts. Pure; the hash of the data is computed in between, off the event loop.
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { nodeHash, type Proof, positionOf, rearPaddingFault } from '../../../lib/codec/storage/merkle.ts'
import { type Shape, segmentWireBytes, shape } from '../../../lib/codec/storage/shape.ts'
import type { Tx } from './tx.ts'

export interface SegmentUpload {
  readonly root: Uint8Array
  readonly index: number
  readonly fileSize: number
  /** Valid until the promise of the store settles; then its memory is used for other segments. Who keeps it longer copies it. */
  readonly data: Uint8Array
  /** Where `data` lies, if whoever shares it may keep it: it must not be written to by anybody. */
  readonly memory?: { share(): void; release(): void }
  readonly proof: Proof
  /** False when the sender left the leaf out (frames do): then `lemma[0]` is a place holder for the computed one. */
  readonly namesLeaf?: boolean
}

/** Why a segment was not taken; `reason` is for edges with other words than JSON-RPC. */
export type RefusalReason =
  | 'input'
  | 'proof'
  | 'final'
  | 'pruned'
  | 'large-before-tx'
  | 'duplicate'
  | 'busy'
  | 'other-shard'

/** A refusal with its JSON-RPC face. */
export class UploadRefusal extends Error {
  readonly reason: RefusalReason
  readonly code: number
  readonly data: string | undefined
  constructor(reason: RefusalReason, code: number, message: string, data?: string) {
    super(message)
    this.name = 'UploadRefusal'
    this.reason = reason
    this.code = code
    this.data = data
  }
}

/** Files up to this size may come before their transaction. */
export const CACHED_FILE_BYTES = 10 * 1024 * 1024
export const ALREADY_FINAL = 'already uploaded and finalized'
const SERVER = -32000
const PARAMS = -32602
const INTERNAL = -32603

const invalid = (field: string, data: string, reason: RefusalReason = 'input'): UploadRefusal =>
  new UploadRefusal(reason, PARAMS, `Invalid params: ${field}`, data)

/**
 * All checks that need no hashing.
 * @param tx - the submission that this segment is for; undefined while none is known.
 * @returns the shape of the file.
 * @throws {UploadRefusal}
 */
export function checkUpload(up: SegmentUpload, tx: Tx | undefined): Shape {
  if (up.data.length === 0) throw new UploadRefusal('input', SERVER, 'data is empty')
  if (up.data.length % 256 !== 0) throw new UploadRefusal('input', SERVER, 'invalid data length')
  if (tx !== undefined) {
    if (!equalBytes(tx.root, up.root)) {
      throw new UploadRefusal('input', INTERNAL, 'Internal error', 'data root and tx seq not match')
    }
    if (tx.size !== up.fileSize) throw invalid('file_size', 'segment file size not matched with tx file size')
    if (tx.status === 'final') throw invalid('root', ALREADY_FINAL, 'final')
    if (tx.status === 'pruned') throw invalid('root', 'already pruned', 'pruned')
  } else if (up.fileSize > CACHED_FILE_BYTES) {
    const why = 'caching of large file when tx is unavailable is not supported'
    throw invalid('file_size', why, 'large-before-tx')
  }
  if (up.fileSize === 0) throw invalid('file_size', 'file is empty')
  const s = shape(up.fileSize)
  if (up.index >= s.segments) throw invalid('index', 'index out of bound')
  if (up.data.length !== segmentWireBytes(s, up.index)) throw invalid('data', 'invalid data length')
  const { lemma, path } = up.proof
  const wellFormed = path.length === 0 ? lemma.length === 1 : lemma.length === path.length + 2 && path.length <= 64
  if (!wellFormed || lemma.some(h => h.length !== 32)) throw invalid('proof', 'invalid proof', 'proof')
  return s
}

/**
 * The checks of data and proof against the file root.
 * @param leaf - segment root computed from the data and its zero padding.
 * @throws {UploadRefusal}
 */
export function checkProof(up: SegmentUpload, s: Shape, leaf: Uint8Array): void {
  const { lemma, path } = up.proof
  const position = positionOf(path, s.paddedSegments)
  if (position !== up.index) {
    const found = position === undefined ? 'none' : `${position}`
    throw new UploadRefusal('proof', SERVER, `wrong position: expected ${up.index}, found ${found}`)
  }
  const last = lemma[lemma.length - 1]!
  if (!equalBytes(last, up.root)) {
    throw new UploadRefusal('proof', SERVER, `root mismatch, expected ${toHex(up.root)}, found ${toHex(last)}`)
  }
  if (!equalBytes(lemma[0]!, leaf)) {
    throw new UploadRefusal('proof', SERVER, `data hash mismatch: expected ${toHex(leaf)}, found ${toHex(lemma[0]!)}`)
  }
  let running = leaf
  for (const [i, left] of path.entries()) {
    running = left ? nodeHash(running, lemma[i + 1]!) : nodeHash(lemma[i + 1]!, running)
  }
  if (!equalBytes(running, up.root)) throw invalid('proof', 'validation failed', 'proof')
  if (rearPaddingFault(up.proof, s) !== undefined) {
    throw invalid('proof', 'invalid proof node value in the padding range', 'proof')
  }
}

/** The single-segment calls refuse a repeat; the list form by seq skips it. */
export function duplicate(): UploadRefusal {
  return new UploadRefusal('duplicate', SERVER, 'segment has already been uploaded or is being uploaded')
}

/** Real exhaustion; ordinary load is slowed down by not reading. `count` segments are being written. */
export function tooBusy(count: number): UploadRefusal {
  return new UploadRefusal('busy', SERVER, `too many data writing: ${count}`)
}
