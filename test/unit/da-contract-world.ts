/**
 * Data availability on a test chain: the devnet's signers in the genesis, posting, certificates, epochs, and answers to the sampling
 * lottery. Formulas are written from da.md 6 to 8, not taken from the product.
 */
import { Interface } from 'ethers'
import { bigToBytes, bytesToBig, concat, u32be, u64be } from '../../lib/base/bytes.ts'
import { fromHex, type Hex } from '../../lib/base/hex.ts'
import { type EncodedBlob, encodeBlob } from '../../lib/codec/da/blob.ts'
import { sublineProof } from '../../lib/codec/da/upstream.ts'
import { DA_SIGNERS_ABI } from '../../lib/contracts/da-signers-abi.ts'
import { dAEntranceAbi, dARegistryAbi } from '../../lib/contracts/generated/abi.ts'
import * as bls from '../../lib/crypto/bn254.ts'
import { type DevSigner, devSigners } from '../../lib/crypto/dev-signers.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { AT, type Outcome, TestChain } from './contract-chain.ts'

export const SIGNERS = devSigners()
export const signersAbi = new Interface(DA_SIGNERS_ABI)
export const EPOCH_BLOCKS = 1_000
export const MAX_TARGET = (2n ** 256n - 1n) / 128n
const CHAIN_ID = 31337n

const word = (n: number | bigint) => bigToBytes(BigInt(n), 32)

export interface Triple {
  dataRoot: Uint8Array
  epoch: bigint
  quorumId: bigint
}

export interface Certificate extends Triple {
  erasureCommitment: { X: bigint; Y: bigint }
  quorumBitmap: Uint8Array
  aggPkG2: unknown
  signature: unknown
}

export async function daWorld(opts: { blobPriceWei?: bigint } = {}) {
  const daSigners = SIGNERS.map(s => ({ ...s, address: fromHex(s.address), votes: 768n }))
  const chain = await TestChain.start({ da: { daSigners, daEpochBlocks: BigInt(EPOCH_BLOCKS), ...opts } })
  for (const s of SIGNERS) await chain.setBalance(s.address, 768n * 30n * 10n ** 18n)
  const entrance = chain.contract(AT.daEntrance, dAEntranceAbi)
  const registry = chain.contract(AT.daRegistry, dARegistryAbi)

  const quorums = new Map<bigint, string[]>()
  /** Addresses of the places of quorum 0. */
  async function quorum(epoch: bigint): Promise<string[]> {
    const known = quorums.get(epoch)
    if (known !== undefined) return known
    const data = signersAbi.encodeFunctionData('getQuorum', [epoch, 0n])
    const { data: answer } = await chain.call({ to: AT.daSigners, data })
    const places: string[] = [...signersAbi.decodeFunctionResult('getQuorum', answer)[0]]
    quorums.set(epoch, places)
    return places
  }

  /** All signers register for the epoch, which then begins. */
  async function nextEpoch(next: bigint, signers: readonly DevSigner[] = SIGNERS): Promise<void> {
    for (const s of signers) {
      const { x, y } = bls.signBls(s.secretKey, bls.epochDigest(fromHex(s.address), next, CHAIN_ID))
      must(await registry.send('registerNextEpoch', [[x, y]], { from: s.address }))
    }
    await chain.skip({ blocks: EPOCH_BLOCKS })
    must(await entrance.send('sync'))
  }

  /** A certificate by `signers`, over all their places. */
  async function certificate(
    blob: Triple & { commitment?: bls.G1 },
    signers: readonly DevSigner[] = SIGNERS.slice(0, 3),
    change: Partial<Certificate> = {}
  ): Promise<Certificate> {
    const { dataRoot, epoch, quorumId, commitment = { x: 1n, y: 2n } } = blob
    const digest = keccak256(dataRoot, word(epoch), word(quorumId), word(commitment.x), word(commitment.y))
    return {
      dataRoot,
      epoch,
      quorumId,
      erasureCommitment: { X: commitment.x, Y: commitment.y },
      quorumBitmap: bitmapOf(await quorum(epoch), a => signers.some(s => s.address === a)),
      aggPkG2: bls.g2PairingAbi(bls.sumG2(signers.map(s => s.pkG2))),
      signature: bls.g1Abi(bls.sumG1(signers.map(s => bls.signBls(s.secretKey, digest)))),
      ...change
    }
  }

  /** Posts and certifies a blob in the current epoch. */
  async function certify(dataRoot: Uint8Array, epoch: bigint): Promise<void> {
    must(await entrance.send('submitVerifiedCommitRoots', [[await certificate({ dataRoot, epoch, quorumId: 0n })]]))
  }

  return { chain, entrance, registry, quorum, nextEpoch, certificate, certify }
}
export type DaWorld = Awaited<ReturnType<typeof daWorld>>

/** @throws {Error} when it failed. */
export function must(outcome: Outcome): Outcome {
  if (!outcome.ok) throw new Error(outcome.error)
  return outcome
}

/** Place p is bit p mod 8 of byte p / 8. */
export function bitmapOf(quorum: readonly string[], isMarked: (address: string, place: number) => boolean): Uint8Array {
  const bits = new Uint8Array(384)
  for (const [p, a] of quorum.entries()) if (isMarked(a, p)) bits[p >> 3]! |= 1 << (p & 7)
  return bits
}

/** Slot `index` of the contract's namespace (ERC-7201). */
export function namespaced(name: string, index: number): bigint {
  const id = bytesToBig(keccak256(new TextEncoder().encode(name))) - 1n
  const base = bytesToBig(keccak256(word(id)))
  return base - (base & 0xffn) + BigInt(index)
}

/** Where a mapping at `slot` keeps a key of 32 bytes. */
export function mapped(slot: bigint, key: Uint8Array): Uint8Array {
  return keccak256(key, word(slot))
}

export function identifier({ dataRoot, epoch, quorumId }: Triple): Uint8Array {
  return keccak256(dataRoot, word(epoch), word(quorumId))
}

// Sampling -----------------------------------------------------------------------------------------------------------------------

export interface Sample extends Triple {
  sampleSeed: Uint8Array
  lineIndex: number
  sublineIndex: number
}

export interface Answer extends Sample {
  quality: bigint
  blobRoots: Uint8Array[]
  proof: Uint8Array[]
  data: Uint8Array
}

export function lineQuality(s: Omit<Sample, 'sublineIndex'>): bigint {
  return bytesToBig(keccak256(s.sampleSeed, word(s.epoch), word(s.quorumId), s.dataRoot, u64be(s.lineIndex)))
}

export function dataQuality(line: bigint, sublineIndex: number, data: Uint8Array): bigint {
  return bytesToBig(keccak256(word(line), word(sublineIndex), data))
}

export function duplicateKey(s: Sample): Uint8Array {
  const places = concat(u32be(s.lineIndex), u32be(s.sublineIndex))
  return keccak256(s.dataRoot, s.sampleSeed, u64be(s.epoch), u64be(s.quorumId), places)
}

/** A blob of `size` bytes that depends on `seed`. */
export async function blobOf(seed: number, size = 3_000): Promise<EncodedBlob> {
  return encodeBlob(Uint8Array.from({ length: size }, (_, i) => (i * 7 + (i >> 8) + seed) & 0xff))
}

/** The answer for one sub-line, whatever its quality. */
export function answerOf(blob: EncodedBlob, s: Omit<Sample, 'dataRoot'>): Answer {
  const { tag, b, dataRoot } = blob.header
  const p = s.lineIndex
  const line = { p, payload: blob.row(blob.codeRow(p)), linePath: blob.linePath(p) }
  const { data, path } = sublineProof(tag, line, s.sublineIndex)
  const quality = lineQuality({ ...s, dataRoot })
  return {
    ...s,
    dataRoot,
    quality: quality + dataQuality(quality, s.sublineIndex, data),
    blobRoots: [...b],
    proof: Array.from({ length: path.length / 32 }, (_, i) => path.slice(32 * i, 32 * (i + 1))),
    data
  }
}

/** All sub-lines of a blob that win, best first. */
export function winners(blob: EncodedBlob, s: Omit<Sample, 'dataRoot' | 'lineIndex' | 'sublineIndex'>, target: bigint) {
  const found: Answer[] = []
  for (let lineIndex = 0; lineIndex < 3072; lineIndex++) {
    if (lineQuality({ ...s, dataRoot: blob.header.dataRoot, lineIndex }) > target) continue
    for (let sublineIndex = 0; sublineIndex < 32; sublineIndex++) {
      const answer = answerOf(blob, { ...s, lineIndex, sublineIndex })
      if (answer.quality <= target) found.push(answer)
    }
  }
  return found.sort((a, b) => (a.quality < b.quality ? -1 : 1))
}

/** Section 8: more answers than wanted lower the target, fewer raise it, up to MAX. */
export function nextTarget(target: bigint, answers: bigint, wanted: bigint): bigint {
  const t = target >> 32n
  const change = (t * (answers > wanted ? answers - wanted : wanted - answers)) / wanted / 8n
  const next = (answers > wanted ? t - change : t + change) << 32n
  return next < MAX_TARGET ? next : MAX_TARGET
}

export const hex32 = (byte: string): Hex => `0x${byte.repeat(32)}`
