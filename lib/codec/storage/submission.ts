/**
 * What goes to the flow contract and what its `Submit` event says (storage.md 1.4, 2.1 to 2.3).
 *
 *   Submission = (uint256 length, bytes tags, (bytes32 root, uint256 height)[] nodes)
 *
 * Both generations of `submit` are written: with the submitter beside the submission (new) and without (old). The event has
 * the old tuple in both.
 */
import { bigToBytes, bytesToBig, concat, equalBytes, padLeft } from '../../base/bytes.ts'
import { assert, ZgError } from '../../base/errors.ts'
import { fromHex } from '../../base/hex.ts'
import { keccak256 } from '../../crypto/hash.ts'
import { foldNodes, MerkleTree, segmentRoot, zeroRoot } from './merkle.ts'
import { MAX_FILE_BYTES, SECTOR_BYTES, SEGMENT_HEIGHT, SEGMENT_SECTORS, type Shape, setBits } from './shape.ts'

/** Root of a subtree of 2^height sectors. */
export interface SubmissionNode {
  root: Uint8Array
  height: number
}

export interface Submission {
  /** Bytes of the file. */
  size: number
  /** Free bytes, kept unchanged in the event. */
  tags: Uint8Array
  nodes: SubmissionNode[]
}

/** A decoded `Submit` event. */
export interface SubmitEvent {
  /** The submitter field: free text of the caller, not the account that signed. */
  sender: Uint8Array
  identity: Uint8Array
  /** Tx seq: number of this submission, from 0. */
  seq: number
  /** First sector in the flow. */
  startPos: number
  /** Sectors taken, padding inside the file included. */
  sectors: number
  submission: Submission
  /** File root, from the nodes. */
  root: Uint8Array
}

/** `Submit(address indexed, bytes32 indexed, uint256, uint256, uint256, (uint256, bytes, (bytes32, uint256)[]))`. */
export const SUBMIT_TOPIC = fromHex('0x167ce04d2aa1981994d3a31695da0d785373335b1078cec239a1a3a2c7675555')
/** `NewEpoch(address indexed, uint256 indexed, bytes32, uint256, uint256, bytes32)`. */
export const NEW_EPOCH_TOPIC = fromHex('0xbc8a3fd82465d43f1709e44ed882f7e1af0147274196ef1ec009f5d52ff4e993')
/** `submit((uint256, bytes, (bytes32, uint256)[]))`. */
export const SUBMIT_OLD_SELECTOR = fromHex('0xef3e12dc')
/** `submit(((uint256, bytes, (bytes32, uint256)[]), address))`. */
export const SUBMIT_SELECTOR = fromHex('0xbc8c11f8')
/** `batchSubmit(((uint256, bytes, (bytes32, uint256)[]), address)[])`. */
export const BATCH_SUBMIT_SELECTOR = fromHex('0x49aa3395')

/** Positions in the flow beyond this are refused: they would not be exact as numbers. */
export const MAX_FLOW_SECTORS = 2 ** 52
/** Largest height of a submission node that fits the above. */
const MAX_HEIGHT = 51
/** A file has at most four nodes; the decoder allows a little more so that the rule check gives the reason. */
const MAX_NODES = 64

/**
 * The submission nodes of a file.
 * @param segmentRoots - roots of the segments in order; those of zero segments at the end may be left out.
 * @param lastData - data in the last segment of the padded file (none if it is padding alone): its subtrees are needed when
 *   the file does not end with a whole segment.
 */
export function submissionNodes(s: Shape, segmentRoots: readonly Uint8Array[], lastData: Uint8Array): SubmissionNode[] {
  const whole: Uint8Array[] = []
  for (let i = 0; (i + 1) * SEGMENT_SECTORS <= s.padded; i++) {
    const root = segmentRoots[i]
    assert(root !== undefined || i >= s.segments, 'root of a segment with data is missing')
    whole.push(root ?? zeroRoot(SEGMENT_HEIGHT))
  }
  const nodes: SubmissionNode[] = []
  if (whole.length > 0) {
    const tree = new MerkleTree(whole)
    let at = 0
    for (const h of setBits(whole.length)) {
      nodes.push({ height: h + SEGMENT_HEIGHT, root: tree.subtree(h, at / 2 ** h) })
      at += 2 ** h
    }
  }
  let at = 0
  for (const h of setBits(s.padded % SEGMENT_SECTORS)) {
    const leaves = 2 ** h
    const part = lastData.subarray(at * SECTOR_BYTES, (at + leaves) * SECTOR_BYTES)
    nodes.push({ height: h, root: part.length === 0 ? zeroRoot(h) : segmentRoot(part, leaves) })
    at += leaves
  }
  return nodes
}

/** The file root: folds the nodes from the right. */
export function fileRoot(nodes: readonly SubmissionNode[]): Uint8Array {
  return foldNodes(nodes.map(n => n.root))
}

/** keccak of all node roots joined: the event's topic; another value than the file root. */
export function identity(nodes: readonly SubmissionNode[]): Uint8Array {
  return keccak256(...nodes.map(n => n.root))
}

/** Sectors a submission takes: the sum of 2^height. */
export function sectorsOf(nodes: readonly { height: number }[]): number {
  return nodes.reduce((sum, n) => sum + 2 ** n.height, 0)
}

/** What the flow asks for a submission, in wei (neuron). */
export function submissionFee(nodes: readonly { height: number }[], pricePerSector: bigint): bigint {
  return BigInt(sectorsOf(nodes)) * pricePerSector
}

/**
 * Checks the contract's rules (storage.md 2.3).
 * @returns undefined when they hold, otherwise which one is broken.
 */
export function submissionFault(s: { size: number; nodes: readonly { height: number }[] }): string | undefined {
  const n = s.nodes
  if (n.length === 0) return 'submission has no nodes'
  for (let i = 1; i < n.length; i++) if (n[i]!.height >= n[i - 1]!.height) return 'heights do not fall'
  const first = n[0]!.height
  if (first > MAX_HEIGHT || n[n.length - 1]!.height < 0) return 'height is out of range'
  if (first - n[n.length - 1]!.height >= 4) return 'heights span more than four levels'
  const cap = sectorsOf(n)
  if (s.size > cap * SECTOR_BYTES) return 'file does not fit its nodes'
  const low = cap < 16 ? cap - 1 : n.length === 1 ? cap - cap / 16 : cap - 2 ** (first - 3)
  if (s.size <= low * SECTOR_BYTES) return 'file is too small for its nodes'
  return undefined
}

/** Calldata of the new `submit`, as the new SDK writes it. */
export function encodeSubmit(s: Submission, submitter: Uint8Array): Uint8Array {
  assert(submitter.length === 20, 'submitter is an address')
  return concat(SUBMIT_SELECTOR, word(32), word(64), padLeft(submitter, 32), encodeTuple(s))
}

/** Calldata of the new `batchSubmit`: several submissions, one transaction, one event each. */
export function encodeBatchSubmit(list: readonly Submission[], submitter: Uint8Array): Uint8Array {
  assert(submitter.length === 20, 'submitter is an address')
  const parts = list.map(s => concat(word(64), padLeft(submitter, 32), encodeTuple(s)))
  const offsets: Uint8Array[] = []
  let at = 32 * parts.length
  for (const part of parts) {
    offsets.push(word(at))
    at += part.length
  }
  return concat(BATCH_SUBMIT_SELECTOR, word(32), word(parts.length), ...offsets, ...parts)
}

/** Calldata of the old `submit`: the submitter is the account that calls. */
export function encodeSubmitOld(s: Submission): Uint8Array {
  return concat(SUBMIT_OLD_SELECTOR, word(32), encodeTuple(s))
}

function encodeTuple(s: Submission): Uint8Array {
  const tagWords = Math.ceil(s.tags.length / 32)
  const tags = new Uint8Array(32 * tagWords)
  tags.set(s.tags)
  const head = [word(s.size), word(96), word(96 + 32 + 32 * tagWords)]
  const nodes = s.nodes.flatMap(n => [n.root, word(n.height)])
  return concat(...head, word(s.tags.length), tags, word(s.nodes.length), ...nodes)
}

/**
 * Decodes the log of a `Submit` event and checks it against itself: identity, counts, the contract's rules.
 * @param topics - three, 32 bytes each.
 * @throws {ZgError} ERR_PROTOCOL when it is not such a log or breaks a rule.
 */
export function decodeSubmitLog(topics: readonly Uint8Array[], data: Uint8Array): SubmitEvent {
  if (topics.length !== 3 || topics.some(t => t.length !== 32)) throw malformed('has not three topics')
  if (!equalBytes(topics[0]!, SUBMIT_TOPIC)) throw malformed('has another topic')
  if (topics[1]!.subarray(0, 12).some(b => b !== 0)) throw malformed('has a sender that is no address')
  const tuple = offset(data, 96, 0)
  const nodesAt = offset(data, tuple + 64, tuple)
  const tagsAt = offset(data, tuple + 32, tuple)
  const tagsLength = integer(data, tagsAt, data.length, 'length of the tags')
  if (tagsAt + 32 + tagsLength > data.length) throw malformed('is cut off in the tags')
  const count = integer(data, nodesAt, MAX_NODES, 'number of nodes')
  const nodes: SubmissionNode[] = []
  for (let i = 0; i < count; i++) {
    const at = nodesAt + 32 + 64 * i
    nodes.push({ root: slice(data, at, 32), height: integer(data, at + 32, MAX_HEIGHT, 'height') })
  }
  const event: SubmitEvent = {
    sender: topics[1]!.slice(12),
    identity: topics[2]!.slice(),
    seq: integer(data, 0, Number.MAX_SAFE_INTEGER, 'index'),
    startPos: integer(data, 32, MAX_FLOW_SECTORS, 'start'),
    sectors: integer(data, 64, MAX_FLOW_SECTORS, 'length'),
    submission: {
      size: integer(data, tuple, MAX_FILE_BYTES, 'size of the file'),
      tags: slice(data, tagsAt + 32, tagsLength),
      nodes
    },
    root: new Uint8Array(0)
  }
  const fault = submissionFault(event.submission)
  if (fault !== undefined) throw malformed(`breaks a rule: ${fault}`)
  if (event.sectors !== sectorsOf(nodes)) throw malformed('counts its sectors wrongly')
  if (!equalBytes(event.identity, identity(nodes))) throw malformed('has another identity than its nodes')
  event.root = fileRoot(nodes)
  return event
}

function offset(data: Uint8Array, at: number, base: number): number {
  return base + integer(data, at, data.length, 'offset')
}

function integer(data: Uint8Array, at: number, max: number, what: string): number {
  const n = bytesToBig(slice(data, at, 32))
  if (n > BigInt(max)) throw malformed(`has a ${what} out of range`)
  return Number(n)
}

function slice(data: Uint8Array, at: number, size: number): Uint8Array {
  if (at + size > data.length) throw malformed('is cut off')
  return data.slice(at, at + size)
}

function word(n: number): Uint8Array {
  return bigToBytes(BigInt(n), 32)
}

function malformed(what: string): ZgError {
  return new ZgError('ERR_PROTOCOL', `Submit event ${what}`)
}
