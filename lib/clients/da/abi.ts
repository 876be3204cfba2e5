/**
 * Calls and events of DASigners, DAEntrance and DARegistry (chain.md 4.1, da.md 7), as bytes. Field order of G2 differs between
 * the two contracts and is kept as each has it (da.md 6.4): `registryG2` is [c0, c1], `pairingG2` is [c1, c0].
 */
import { concat, fromUtf8, utf8 } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import type { Hex } from '../../base/hex.ts'
import { addressWord, arrayTail, bytesTail, callData, type Part, sequence, Words, word } from './words.ts'

export interface G1 {
  x: bigint
  y: bigint
}

/** Coordinates over Fp²: c0 + c1·u. */
export interface G2 {
  x: readonly [c0: bigint, c1: bigint]
  y: readonly [c0: bigint, c1: bigint]
}

export interface SignerDetail {
  address: Uint8Array
  /** `host:port`, as the signer published it. */
  socket: string
  pkG1: G1
  pkG2: G2
}

export interface SignerParams {
  tokensPerVote: bigint
  maxVotesPerSigner: bigint
  maxQuorums: number
  epochBlocks: number
  /** Places of a quorum. */
  places: number
}

/** One entry of `submitVerifiedCommitRoots`. */
export interface Submission {
  root: Uint8Array
  epoch: number
  quorumId: number
  /** CX, CY. */
  commitment: G1
  bitmap: Uint8Array
  aggPkG2: G2
  signature: G1
}

export interface Upload {
  root: Uint8Array
  epoch: number
  quorumId: number
}

/** Names a certificate or a posting among all. */
export interface BlobId {
  root: Uint8Array
  epoch: number
  quorumId: number
}

export const TOPIC = {
  dataUpload: '0x57b8b1a6583dc6ce934dfba3d66f2a8e1591b6e171bb2e0921cc64640277087b',
  verified: '0x0f1b20d87bebd11dddaaab51f01cf2726880cb3f8073b636dbafa2aa8cacd256'
} as const

const PLACES_MAX = 16_384
const SIGNERS_MAX = 16_384
/** Certificates of one transaction that are read: a block holds fewer. */
const SUBMISSIONS_MAX = 1_024
/** A socket on chain has at most 96 bytes. */
const SOCKET_MAX = 96

const head = (n: bigint | number): Part => ({ head: word(n) })
const id = (b: BlobId): Part[] => [{ head: b.root }, head(b.epoch), head(b.quorumId)]
const g1Words = (p: G1): Uint8Array => concat(word(p.x), word(p.y))
const registryG2 = (p: G2): Uint8Array => concat(word(p.x[0]), word(p.x[1]), word(p.y[0]), word(p.y[1]))
const pairingG2 = (p: G2): Uint8Array => concat(word(p.x[1]), word(p.x[0]), word(p.y[1]), word(p.y[0]))

// DASigners

export const PARAMS: Hex = '0xcff0ab96'
export const EPOCH_NUMBER: Hex = '0xf4145a83'

export const quorumCountCall = (epoch: number): Hex => callData('0x5ecba503', head(epoch))
export const isSignerCall = (address: Uint8Array): Hex => callData('0x7df73e27', { head: addressWord(address) })
export const quorumCall = (epoch: number, quorumId: number): Hex => callData('0x6ab6f654', head(epoch), head(quorumId))
export const registeredEpochCall = (address: Uint8Array, epoch: number): Hex =>
  callData('0x6c9e560c', { head: addressWord(address) }, head(epoch))
export const updateSocketCall = (socket: string): Hex => callData('0x0cf4b767', { tail: bytesTail(utf8(socket)) })
export const signersCall = (addresses: readonly Uint8Array[]): Hex =>
  callData('0xd1f5e5f8', { tail: arrayTail(addresses.map(a => ({ head: addressWord(a) }))) })
export const aggregateCall = (epoch: number, quorumId: number, bitmap: Uint8Array): Hex =>
  callData('0x50b73739', head(epoch), head(quorumId), { tail: bytesTail(bitmap) })

export function readParams(answer: unknown): SignerParams {
  const w = Words.of(answer)
  return {
    tokensPerVote: w.big(0),
    maxVotesPerSigner: w.big(1),
    maxQuorums: w.number(2),
    epochBlocks: w.number(3),
    places: w.number(4)
  }
}

/** The owner of each place, in order. */
export function readQuorum(answer: unknown): Uint8Array[] {
  const { count, items } = Words.of(answer).at(0).array(PLACES_MAX)
  return Array.from({ length: count }, (_, i) => items.address(i))
}

export function readSigners(answer: unknown): SignerDetail[] {
  const { count, items } = Words.of(answer).at(0).array(SIGNERS_MAX)
  return Array.from({ length: count }, (_, i) => {
    const w = items.at(i)
    return {
      address: w.address(0),
      socket: fromUtf8(w.at(1).bytes(SOCKET_MAX)),
      pkG1: { x: w.big(2), y: w.big(3) },
      pkG2: { x: [w.big(4), w.big(5)] as const, y: [w.big(6), w.big(7)] as const }
    }
  })
}

export function readAggregate(answer: unknown): { key: G1; total: number; hit: number } {
  const w = Words.of(answer)
  return { key: { x: w.big(0), y: w.big(1) }, total: w.number(2), hit: w.number(3) }
}

// DARegistry

export function registerSignerCall(signer: SignerDetail, proof: G1): Hex {
  const detail = sequence([
    { head: addressWord(signer.address) },
    { tail: bytesTail(utf8(signer.socket)) },
    { head: g1Words(signer.pkG1) },
    { head: registryG2(signer.pkG2) }
  ])
  return callData('0x7ca4dd5e', { tail: detail }, { head: g1Words(proof) })
}

export const registerNextEpochCall = (signature: G1): Hex => callData('0x56a32372', { head: g1Words(signature) })

// DAEntrance

export const BLOB_PRICE: Hex = '0x3d00448a'

export const submitOriginalDataCall = (roots: readonly Uint8Array[]): Hex =>
  callData('0xd4ae59c9', { tail: arrayTail(roots.map(root => ({ head: root }))) })

export const verifiedCommitmentCall = (b: BlobId): Hex => callData('0x9da3a69b', ...id(b))

export function readG1(answer: unknown): G1 {
  const w = Words.of(answer)
  return { x: w.big(0), y: w.big(1) }
}

export function submitCertificatesCall(all: readonly Submission[]): Hex {
  const entries = all.map(s => ({
    tail: sequence([
      ...id(s),
      { head: g1Words(s.commitment) },
      { tail: bytesTail(s.bitmap) },
      { head: pairingG2(s.aggPkG2) },
      { head: g1Words(s.signature) }
    ])
  }))
  return callData('0xeafed6ce', { tail: arrayTail(entries) })
}

/** Bitmaps in the calldata of `submitVerifiedCommitRoots`, with their blobs. @throws {ZgError} when it is another call. */
export function readSubmissions(input: string): (BlobId & { bitmap: Uint8Array })[] {
  if (!input.startsWith('0xeafed6ce')) throw new ZgError('ERR_PROTOCOL', 'the transaction records no certificates')
  const { count, items } = Words.of(`0x${input.slice(10)}`)
    .at(0)
    .array(SUBMISSIONS_MAX)
  return Array.from({ length: count }, (_, i) => {
    const w = items.at(i)
    return { root: w.raw(0).slice(), epoch: w.number(1), quorumId: w.number(2), bitmap: w.at(5).bytes(PLACES_MAX / 8) }
  })
}

/** What a `DataUpload` event says. */
export function readUpload(data: string): Upload {
  const w = Words.of(data)
  return { root: w.raw(1).slice(), epoch: w.number(2), quorumId: w.number(3) }
}

/** What an `ErasureCommitmentVerified` event says. */
export function readVerified(data: string): BlobId {
  const w = Words.of(data)
  return { root: w.raw(0).slice(), epoch: w.number(1), quorumId: w.number(2) }
}
