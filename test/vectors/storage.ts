/** storage-vectors.json with types, as the tests use it. */
import { readFileSync } from 'node:fs'

interface ProofJson {
  lemma: string[]
  path: boolean[]
}
interface ShardJson {
  shardId: number
  numShard: number
}
interface Piece {
  size: number
  root: string
}

export interface StorageVectors {
  generator: { check: { seed: number; size: number; bytes: string } }
  constants: {
    emptySectorHash: string
    firstSectorLeaf: string
    zeroSubtreeRoots: string[]
    streamDomain: string
    submitTopic: string
    newEpochTopic: string
  }
  files: {
    id: string
    seed: number
    size: number
    sha256: string
    numChunks: number
    numSegments: number
    paddedSize: number
    numSegmentsPadded: number
    root: string | null
    submission?: { length: number; tags: string; nodes: { height: number; root: string }[] }
    sectors?: number
    identity?: string
    fee?: { pricePerSector: string; wei: string }
    calldata?: { submit_0xbc8c11f8: string; submit_0xef3e12dc: string }
    segments?: { index: number; dataLength: number; dataSha256: string; leaf: string; proof: ProofJson }[]
  }[]
  fragments: { seed: number; size: number; fragmentSize: number; fragments: Piece[] }[]
  kv: {
    id: string
    version: number
    sorted?: boolean
    reads?: { streamId: string; key: string }[]
    writes?: { streamId: string; key: string; value: string; valueGen?: { seed: number; size: number } }[]
    controls?: { type: number; streamId: string; key?: string; account?: string }[]
    encodedLength: number
    encodedSha256: string
    encoded?: string
    tags: string
    root: string
  }[]
  encryption: {
    id: string
    version: number
    seed: number
    size: number
    key: string
    nonce: string
    plaintextSha256: string
    aesKey: string
    header: string
    streamLength: number
    streamSha256: string
    streamFirst96: string
    root: string
    paddedSize: number
    fragmentSize?: number
    fragments?: Piece[]
    recipientPrivateKey: string
    recipientPublicKey: string
    ephemeralPrivateKey: string
  }[]
  cryptAt: {
    id: string
    seed: number
    size: number
    offset: number
    key: string
    nonce: string
    outSha256: string
    outFirst32: string
  }[]
  shardSelection: {
    id: string
    nodes: (ShardJson & { url: string })[]
    expectedReplica: number
    min: { ok: boolean; selected: string[] }
    max: { ok: boolean; selected: string[] }
  }[]
  uploadTasks: {
    id: string
    startEntryIndex: number
    size: number
    taskSize: number
    nodes: ShardJson[]
    tasks: { node: number; firstSegment: number; stride: number }[]
  }[]
  flow: {
    submitter: string
    submissions: {
      seed: number
      size: number
      submissionIndex: number
      heights: number[]
      startPos: number
      length: number
      paddingSectors: number
      flowLengthAfter: number
      flowRootAfter: string
      log: { topics: string[]; data: string }
    }[]
    sectorProofs: { sectorIndex: number; flowRoot: string; proof: ProofJson }[]
  }[]
}

export const vectors = JSON.parse(
  readFileSync(new URL('./storage-vectors.json', import.meta.url), 'utf8')
) as StorageVectors
