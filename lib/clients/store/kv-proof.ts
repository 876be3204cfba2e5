/**
 * Checks what a key-value node proves of a value (`kv_getProof`): that the submission it names wrote these bytes under this key.
 * Believed is the chain alone: its `Submit` event says where the file lies, and the contract's flow root what lies there.
 */
import { ZgError } from '../../base/errors.ts'
import { fromHex, hashFromHex, toHex } from '../../base/hex.ts'
import { cryptAt, openStream, parseHeader } from '../../codec/storage/encryption.ts'
import { flowHeight } from '../../codec/storage/flow-tree.ts'
import { decodeKvHead, decodeStreamTags, type KvHead } from '../../codec/storage/kv.ts'
import type { Proof } from '../../codec/storage/merkle.ts'
import { rangeFault, type SectorRange } from '../../codec/storage/range-proof.ts'
import { SECTOR_BYTES } from '../../codec/storage/shape.ts'
import { decodeSubmitLog, type SubmitEvent } from '../../codec/storage/submission.ts'
import type { ChainClient, RpcReceipt } from '../chain.ts'

/** An answer of `kv_getProof`, checked for shape alone. */
export interface KvProof {
  /** Seq of the submission. */
  version: number
  /** Bytes of the whole value; 0: the submission deleted the key. */
  sizeBytes: number
  /** Number of the write within the file. */
  index: number
  txHash: string
  ranges: SectorRange[]
}

/** What the chain says about a submission. */
export interface ProvenSubmission {
  event: SubmitEvent
  flowRoot: Uint8Array
  block: number
}

const RANGES_MAX = 2
/** Head and value of one answer; the head may take 4 MiB. */
const RANGE_MAX_BYTES = 6 * 1024 * 1024

/** @throws {ZgError} ERR_PROTOCOL when it is not an answer of `kv_getProof`. */
export function parseKvProof(answer: unknown): KvProof {
  try {
    const a = answer as Record<string, unknown>
    const { ranges, txHash } = a
    if (!Array.isArray(ranges) || ranges.length < 1 || ranges.length > RANGES_MAX) throw new Error('ranges')
    return {
      version: count(a.version),
      sizeBytes: count(a.size),
      index: count(a.index),
      txHash: toHex(hashFromHex(txHash)),
      ranges: ranges.map((r: Record<string, unknown>): SectorRange => {
        if (typeof r.data !== 'string' || r.data.length > RANGE_MAX_BYTES * 1.4) throw new Error('data')
        return {
          start: count(r.sector),
          data: new Uint8Array(Buffer.from(r.data, 'base64')),
          left: proof(r.left),
          right: proof(r.right)
        }
      })
    }
  } catch (err) {
    throw new ZgError('ERR_PROTOCOL', 'key-value node answered a malformed proof', { cause: err })
  }
}

function count(v: unknown): number {
  if (typeof v !== 'number' || !Number.isSafeInteger(v) || v < 0) throw new Error('not a count')
  return v
}

function proof(v: unknown): Proof {
  const { lemma, path } = v as { lemma: unknown; path: unknown }
  if (!Array.isArray(lemma) || !Array.isArray(path) || lemma.length > 66) throw new Error('proof')
  return { lemma: lemma.map(h => hashFromHex(h)), path: path.map(b => b === true) }
}

/**
 * What the chain says about the submission that a proof names.
 * @param flow - the flow contract, 0x lower case.
 * @throws {ZgError} ERR_BAD_PROOF when that transaction made no such submission.
 */
export async function provenSubmission(chain: ChainClient, flow: string, p: KvProof): Promise<ProvenSubmission> {
  const receipt = await chain.call<RpcReceipt | null>('eth_getTransactionReceipt', [p.txHash])
  for (const log of receipt?.logs ?? []) {
    if (log.address.toLowerCase() !== flow || log.topics.length !== 3) continue
    const topics = log.topics.map(t => fromHex(t, 'topic', { size: 32 }))
    let event: SubmitEvent
    try {
      event = decodeSubmitLog(topics, fromHex(log.data, 'log data'))
    } catch (err) {
      if (err instanceof ZgError && err.code === 'ERR_PROTOCOL') continue
      throw err
    }
    if (event.seq !== p.version) continue
    const data = `${FLOW_ROOT_SELECTOR}${p.version.toString(16).padStart(64, '0')}`
    const flowRoot = fromHex(await chain.call('eth_call', [{ to: flow, data }, 'latest']), 'flow root', { size: 32 })
    return { event, flowRoot, block: Number(log.blockNumber) }
  }
  throw wrong(`transaction ${p.txHash} did not make submission ${p.version}`)
}

/** `getFlowRootByTxSeq(uint256)`. */
const FLOW_ROOT_SELECTOR = '0x6d7ad0fc'

/**
 * The bytes of the value that a proof shows, from `start` on (as many as it was asked for).
 * @param encryptionKey - for a stream that is stored encrypted.
 * @throws {ZgError} ERR_BAD_PROOF with what does not hold.
 */
export function provenValue(
  p: KvProof,
  chain: ProvenSubmission,
  what: { stream: Uint8Array; key: Uint8Array; start: number; length: number },
  encryptionKey?: Uint8Array
): Uint8Array {
  const { event, flowRoot } = chain
  const tagged = decodeStreamTags(event.submission.tags) ?? []
  if (!tagged.some(s => toHex(s) === toHex(what.stream))) throw wrong('the submission is not of this stream')
  const height = flowHeight(event.startPos + event.sectors)
  for (const r of p.ranges) {
    const fault = rangeFault(r, flowRoot, height)
    if (fault !== undefined) throw wrong(fault)
  }
  const bytes = new FileBytes(p.ranges, event, encryptionKey)
  const head = bytes.head()
  const write = head.writes[p.index]
  if (write === undefined || toHex(write.stream) !== toHex(what.stream) || toHex(write.key) !== toHex(what.key)) {
    throw wrong('the submission does not write this key there')
  }
  // A later write of the same key in the same file is the one that counts.
  const again = head.writes.slice(p.index + 1)
  if (again.some(w => toHex(w.key) === toHex(what.key) && toHex(w.stream) === toHex(what.stream))) {
    throw wrong('the submission writes this key again behind')
  }
  if (write.sizeBytes !== p.sizeBytes) throw wrong('the value has another size in the submission')
  let at = head.valuesAt
  for (const w of head.writes.slice(0, p.index)) at += w.sizeBytes
  const end = Math.min(p.sizeBytes, what.start + what.length)
  return what.start >= end ? new Uint8Array(0) : bytes.read(at + what.start, at + end)
}

/** Plain bytes of a file of which some ranges of sectors are known. */
class FileBytes {
  readonly #ranges: readonly SectorRange[]
  readonly #event: SubmitEvent
  readonly #decrypt: ((at: number, bytes: Uint8Array) => Uint8Array) | undefined
  readonly #headerBytes: number = 0

  constructor(ranges: readonly SectorRange[], event: SubmitEvent, key: Uint8Array | undefined) {
    this.#ranges = ranges
    this.#event = event
    const first = ranges.find(r => r.start === event.startPos)?.data
    // A plain file begins with its version, whose first byte is 0 or 255.
    if (key !== undefined && (first?.[0] === 1 || first?.[0] === 2)) {
      const header = parseHeader(first)
      const stream = openStream(header, header.version === 1 ? { key } : { privateKey: key })
      this.#headerBytes = header.bytes
      this.#decrypt = (at, bytes) => cryptAt(stream, at, bytes)
    }
  }

  head(): KvHead {
    const first = this.#ranges.find(r => r.start === this.#event.startPos)
    if (first === undefined) throw wrong('the proof does not show the keys of the submission')
    const end = Math.min(first.data.length, this.#event.submission.size) - this.#headerBytes
    try {
      return decodeKvHead(this.read(0, end))
    } catch (err) {
      if (err instanceof ZgError && err.code === 'ERR_CORRUPT') throw wrong('the submission is no operation log')
      throw err
    }
  }

  /** Content [start, end). */
  read(start: number, end: number): Uint8Array {
    const { startPos, submission } = this.#event
    const [from, to] = [start + this.#headerBytes, end + this.#headerBytes]
    if (to > submission.size) throw wrong('the value does not fit the submission')
    for (const r of this.#ranges) {
      const offset = (r.start - startPos) * SECTOR_BYTES
      if (from < offset || to > offset + r.data.length) continue
      const bytes = r.data.subarray(from - offset, to - offset)
      return this.#decrypt === undefined ? bytes : this.#decrypt(start, bytes)
    }
    throw wrong('the proof does not show the whole value')
  }
}

function wrong(why: string): ZgError {
  return new ZgError('ERR_BAD_PROOF', `the proof does not hold: ${why}`, {
    hint: 'the key-value node lies or follows another chain: ask another one'
  })
}
