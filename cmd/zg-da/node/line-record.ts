/**
 * A signed blob's share as it lies on disk: everything that a signer promised to keep, in one record behind a checksum.
 *
 *     u32 magic · u32 crc32 of all that follows · u64 body length
 *     body: u64 epoch · u64 quorum · root 32 · CX 32 · CY 32 · header 208 · u32 n · z · u32 n · row roots · u32 lines · (u32 n · line)*
 *
 * Integers little endian. Lines are the records of the request (da-design.md 11.1), unchanged: with their proofs.
 */
import { crc32 } from 'node:zlib'
import { view } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import type { BlobId } from '../../../lib/clients/da/abi.ts'

export interface StoredShare {
  id: BlobId
  /** CX ‖ CY, big endian. */
  commitment: Uint8Array
  header: Uint8Array
  z: Uint8Array
  /** Empty in the paths form. */
  rowRoots: Uint8Array
  lines: Uint8Array[]
}

/** Magic, checksum and length. */
export const PREFIX_BYTES = 16
/** Rows of a whole quorum with proofs stay below it: a torn length must not allocate. */
export const MAX_RECORD_BYTES = 256 * 1024 * 1024

const MAGIC = 0x4c_44_47_5a
const HEADER_BYTES = 208
const FIXED_BYTES = 8 + 8 + 32 + 64 + HEADER_BYTES
const MAX_LINES = 3_072

/** The record in pieces, to be written one behind the other. Nothing large is copied. */
export function encodeShare(share: StoredShare): { parts: Uint8Array[]; sizeBytes: number } {
  const fixed = new Uint8Array(FIXED_BYTES)
  const v = view(fixed)
  v.setBigUint64(0, BigInt(share.id.epoch), true)
  v.setBigUint64(8, BigInt(share.id.quorumId), true)
  fixed.set(share.id.root, 16)
  fixed.set(share.commitment, 48)
  fixed.set(share.header, 112)
  const body = [
    fixed,
    u32(share.z.length),
    share.z,
    u32(share.rowRoots.length),
    share.rowRoots,
    u32(share.lines.length),
    ...share.lines.flatMap(line => [u32(line.length), line])
  ]
  let size = 0
  for (const part of body) size += part.length
  if (size > MAX_RECORD_BYTES) throw new ZgError('ERR_BAD_INPUT', 'a share is larger than a record may be')
  const length = new Uint8Array(8)
  view(length).setBigUint64(0, BigInt(size), true)
  let crc = crc32(length)
  for (const part of body) crc = crc32(part, crc)
  const prefix = new Uint8Array(PREFIX_BYTES)
  view(prefix).setUint32(0, MAGIC, true)
  view(prefix).setUint32(4, crc, true)
  prefix.set(length, 8)
  return { parts: [prefix, ...body], sizeBytes: PREFIX_BYTES + size }
}

/** Length of the whole record whose first bytes are given; undefined when no record begins there. */
export function recordLength(prefix: Uint8Array): number | undefined {
  if (prefix.length < PREFIX_BYTES) return undefined
  const v = view(prefix)
  if (v.getUint32(0, true) !== MAGIC) return undefined
  const size = v.getBigUint64(8, true)
  if (size < BigInt(FIXED_BYTES + 12) || size > BigInt(MAX_RECORD_BYTES)) return undefined
  return PREFIX_BYTES + Number(size)
}

/** The blob of a record, from its first {@link ID_BYTES}. */
export function recordId(bytes: Uint8Array): BlobId {
  const v = view(bytes)
  return {
    epoch: Number(v.getBigUint64(PREFIX_BYTES, true)),
    quorumId: Number(v.getBigUint64(PREFIX_BYTES + 8, true)),
    root: bytes.slice(PREFIX_BYTES + 16, PREFIX_BYTES + 48)
  }
}

export const ID_BYTES = PREFIX_BYTES + 48

/** True when the record is whole. */
export function recordIntact(record: Uint8Array): boolean {
  return recordLength(record) === record.length && crc32(record.subarray(8)) === view(record).getUint32(4, true)
}

/** @throws {ZgError} ERR_CORRUPT. */
export function decodeShare(record: Uint8Array): StoredShare {
  if (!recordIntact(record)) throw damaged()
  const v = view(record)
  let at = PREFIX_BYTES + FIXED_BYTES
  const take = (): Uint8Array => {
    if (at + 4 > record.length) throw damaged()
    const size = v.getUint32(at, true)
    at += 4
    if (at + size > record.length) throw damaged()
    at += size
    return record.subarray(at - size, at)
  }
  const z = take()
  const rowRoots = take()
  if (at + 4 > record.length) throw damaged()
  const count = v.getUint32(at, true)
  at += 4
  if (count > MAX_LINES) throw damaged()
  const lines: Uint8Array[] = []
  for (let i = 0; i < count; i++) lines.push(take())
  const body = PREFIX_BYTES
  return {
    id: recordId(record),
    commitment: record.subarray(body + 48, body + 112),
    header: record.subarray(body + 112, body + FIXED_BYTES),
    z,
    rowRoots,
    lines
  }
}

function u32(n: number): Uint8Array {
  const out = new Uint8Array(4)
  view(out).setUint32(0, n, true)
  return out
}

function damaged(): ZgError {
  return new ZgError('ERR_CORRUPT', 'a stored share is damaged')
}
