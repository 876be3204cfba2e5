/** What goes to the mine contract and what comes back (storage.md 9.2, 9.3): words of 32 bytes, read and written by hand. */
import { bigToBytes, bytesToBig, concat, equalBytes } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { fromHex } from '../../base/hex.ts'
import { keccak256 } from '../../crypto/hash.ts'
import { type MineRange, SEAL_BYTES, SEAL_SECTORS, sealMask, unseal } from './pora.ts'

export const MINE_SELECTORS = {
  submit: fromHex('0xae722e82'),
  computeWorkerContext: fromHex('0x296beba7'),
  requestMinerId: fromHex('0x047c13f5'),
  beneficiaries: keccak256(new TextEncoder().encode('beneficiaries(bytes32)')).slice(0, 4),
  poraVersion: keccak256(new TextEncoder().encode('poraVersion()')).slice(0, 4),
  reward: fromHex('0x228cb733'),
  /** These three of the flow. */
  queryContextAtPosition: fromHex('0x31bae174'),
  makeContext: fromHex('0x38d45e10'),
  getEpochRange: fromHex('0x7d590708'),
  /** These two of the reward contract. */
  payments: fromHex('0xe2982c21'),
  withdrawPayments: fromHex('0x31b3eb94')
} as const

/** `NewMinerId(bytes32 indexed, address indexed)`. */
export const NEW_MINER_ID_TOPIC = '0xbfeb006f16aca8eb3d9953cf44db6b11b6f3041a313875dfa18f2e9d71bd309e'
/** `NewSubmission(uint256 indexed, bytes32 indexed, uint256, uint256)`. */
export const NEW_SUBMISSION_TOPIC = '0xfedd8f58059af8fd54b4394c01ea8d07cac041988be3b5a822fb779f9c8de3a4'
/** `DistributeReward(uint256 indexed, address indexed, bytes32 indexed, uint256)`. */
export const DISTRIBUTE_REWARD_TOPIC = '0xf099de0c527342bff1397d08daae31c3de66104f48886094fbe9126a21ebf4b0'

/** What a miner works on; target 0 or a subtask digest of zeros: nothing to mine now. */
export interface Work {
  epoch: bigint
  flowRoot: Uint8Array
  flowSectors: bigint
  contextDigest: Uint8Array
  poraTarget: bigint
  subtaskDigest: Uint8Array
  maxShards: bigint
}

/** Sectors [start, end) came into the flow in the epoch with this context. */
export interface SealedRange {
  start: bigint
  end: bigint
  digest: Uint8Array
}

export interface Answer {
  contextDigest: Uint8Array
  nonce: Uint8Array
  minerId: Uint8Array
  range: MineRange
  /** First sector of the seal. */
  recallPosition: bigint
  /** Of 64 in its segment. */
  sealOffset: number
  sealedContextDigest: Uint8Array
  /** 4,096 bytes. */
  sealed: Uint8Array
  /** Siblings from the seal's subtree up to the flow root. */
  proof: readonly Uint8Array[]
}

const word = (n: bigint | number): Uint8Array => bigToBytes(BigInt(n), 32)
/** Words of an answer before its proof. */
const ANSWER_HEAD_WORDS = 139

export function encodeAnswer(a: Answer): Uint8Array {
  return concat(
    MINE_SELECTORS.submit,
    word(32),
    a.contextDigest,
    a.nonce,
    a.minerId,
    word(a.range.startPosition),
    word(a.range.mineLength),
    word(a.range.shardId),
    word(a.range.shardMask),
    word(a.recallPosition),
    word(a.sealOffset),
    a.sealedContextDigest,
    a.sealed,
    word(32 * ANSWER_HEAD_WORDS),
    word(a.proof.length),
    ...a.proof
  )
}

/** @throws {ZgError} ERR_PROTOCOL when the answer of the call has another length. */
export function decodeWork(data: Uint8Array): Work {
  const w = wordsOf(data, 9)
  return {
    epoch: bytesToBig(w[0]!),
    flowRoot: w[2]!,
    flowSectors: bytesToBig(w[3]!),
    contextDigest: w[5]!,
    poraTarget: bytesToBig(w[6]!),
    subtaskDigest: w[7]!,
    maxShards: bytesToBig(w[8]!)
  }
}

/** @throws {ZgError} ERR_PROTOCOL when the answer of the call has another length. */
export function decodeSealedRange(data: Uint8Array): SealedRange {
  const w = wordsOf(data, 3)
  return { start: bytesToBig(w[0]!), end: bytesToBig(w[1]!), digest: w[2]! }
}

/**
 * True when the contract would accept the data of an answer: unsealed, it leads to the root of the flow.
 * @param flowRoot - of the context that is answered.
 */
export function provesData(a: Answer, flowRoot: Uint8Array): boolean {
  if (a.sealed.length !== SEAL_BYTES) return false
  const raw = unseal(a.sealed, sealMask(a.minerId, a.sealedContextDigest, a.recallPosition))
  let level = Array.from({ length: SEAL_SECTORS }, (_, i) => keccak256(raw.subarray(256 * i, 256 * i + 256)))
  while (level.length > 1)
    level = Array.from({ length: level.length / 2 }, (_, i) => keccak256(level[2 * i]!, level[2 * i + 1]!))
  let root = level[0]!
  let index = a.recallPosition / BigInt(SEAL_SECTORS)
  for (const sibling of a.proof) {
    root = index % 2n === 0n ? keccak256(root, sibling) : keccak256(sibling, root)
    index /= 2n
  }
  return equalBytes(root, flowRoot)
}

function wordsOf(data: Uint8Array, count: number): Uint8Array[] {
  if (data.length !== 32 * count) {
    throw new ZgError('ERR_PROTOCOL', `the mine contract answered ${data.length} bytes, ${32 * count} were expected`)
  }
  return Array.from({ length: count }, (_, i) => data.slice(32 * i, 32 * i + 32))
}
