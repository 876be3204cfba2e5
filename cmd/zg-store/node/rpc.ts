/** The JSON-RPC face of a storage node: the methods, shapes, codes and texts of the 0G network (storage.md 3.2 to 3.6). */
import {
  RPC,
  type RpcContext,
  RpcError,
  type RpcMethod,
  type RpcMethods,
  type RpcParams
} from '../../../lib/adapters/jsonrpc/types.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { hashFromHex, toHex } from '../../../lib/base/hex.ts'
import type { Proof } from '../../../lib/codec/storage/merkle.ts'
import { SEGMENT_HEIGHT, SEGMENT_SECTORS, shape } from '../../../lib/codec/storage/shape.ts'
import type { FileStore } from '../core/file-store.ts'
import type { FlowIndex } from '../core/flow-index.ts'
import type { Tx } from '../core/tx.ts'
import { duplicate, type SegmentUpload, UploadRefusal } from '../core/upload-checks.ts'
import type { SegmentLog } from '../disk/segment-log.ts'
import { base64Length, encodeBase64 } from './base64.ts'
import { type Lease, lease } from './buffers.ts'
import { type Blob, blobOf } from './json-body.ts'
import type { BlobContext, Frame, FrameMethod } from './rpc-route.ts'

export interface NodeRpcOptions {
  store: FileStore
  index: FlowIndex
  log: SegmentLog
  /** Chain and flow, once known; the address as the configuration spells it. */
  network: () => { chainId: number; flowAddress: string }
  connectedPeers: () => number
}

/** Reported as ours; upstream is at 0.4.0 and clients only look at the shape. */
const P2P_VERSION = { major: 0, minor: 4, build: 0 }

/** All methods of the public port. */
export function nodeMethods(o: NodeRpcOptions): RpcMethods {
  const { store, index } = o
  const bySeq = async (p: RpcParams, at: number): Promise<Tx | undefined> => index.tx(counter(p[at], 'tx_seq'))
  const byRoot = async (p: RpcParams, at: number): Promise<Tx | undefined> =>
    store.select(hash(p[at], 'data_root'), true)
  const up = (value: unknown, ctx: RpcContext): SegmentUpload => segment(value, blobsOf(ctx))
  const ups = (value: unknown, ctx: RpcContext): SegmentUpload[] => segments(value, blobsOf(ctx))
  return {
    zgs_getStatus: () => {
      const progress = index.progress
      return {
        connectedPeers: o.connectedPeers(),
        logSyncHeight: progress?.block ?? 0,
        logSyncBlock: toHex(progress?.hash ?? new Uint8Array(32)),
        nextTxSeq: index.nextSeq,
        networkIdentity: { ...o.network(), p2pProtocolVersion: P2P_VERSION }
      }
    },
    zgs_getShardConfig: () => ({ ...store.shard }),
    zgs_getFileInfo: async p => fileInfo(o, await store.select(hash(p[0], 'data_root'), p[1] === true)),
    zgs_getFileInfoByTxSeq: async p => fileInfo(o, await bySeq(p, 0)),
    zgs_checkFileFinalized: async p => {
      const tx = typeof p[0] === 'number' ? await bySeq(p, 0) : await store.select(hash(p[0], 'tx_seq_or_root'), false)
      return tx === undefined ? null : tx.status === 'final'
    },
    zgs_uploadSegment: async (p, ctx) => {
      const one = up(p[0], ctx)
      return uploadOne(store, one, await store.target(one.root, one.fileSize))
    },
    zgs_uploadSegments: async (p, ctx) =>
      answered(uploadList(store, ups(p[0], ctx), up => store.target(up.root, up.fileSize), 'refuse')),
    zgs_uploadSegmentByTxSeq: async (p, ctx) => uploadOne(store, up(p[0], ctx), await bySeqOrNone(index, p[1])),
    zgs_uploadSegmentsByTxSeq: async (p, ctx) => {
      const list = ups(p[0], ctx)
      const tx = await bySeqOrNone(index, p[1])
      return answered(uploadList(store, list, tx ?? (async () => undefined), 'skip'))
    },
    zgs_downloadSegment: async p => download(store, p, () => byRoot(p, 0)),
    zgs_downloadSegmentByTxSeq: async p => download(store, p, () => bySeq(p, 0)),
    zgs_downloadSegmentWithProof: async p => downloadWithProof(store, await byRoot(p, 0), p[1]),
    zgs_downloadSegmentWithProofByTxSeq: async p => downloadWithProof(store, await bySeq(p, 0), p[1]),
    zgs_getSectorProof: async p => {
      const root = p[1] === null || p[1] === undefined ? undefined : hash(p[1], 'flow_root')
      const sector = counter(p[0], 'sector_index')
      return wireProof(await index.proveSector(sector, root, (h, i) => store.inside(h, i)))
    },
    zgs_getFlowContext: () => [toHex(index.root), index.length],
    ...debugMethods(o)
  }
}

/** Debugging: node i is the flow's segment i, sectors [1024 i, 1024 (i + 1)). */
function debugMethods({ store, index, log }: NodeRpcOptions): RpcMethods {
  const found = async (p: RpcParams) => {
    const i = counter(p[0], 'node_index')
    const tx = i * SEGMENT_SECTORS < index.length ? await index.txAt(i * SEGMENT_SECTORS) : undefined
    return { i, tx, inFile: tx === undefined ? 0 : i - Math.floor(tx.startPos / SEGMENT_SECTORS) }
  }
  const getHash: RpcMethod = async p => {
    const { i } = await found(p)
    const node = (await index.node(SEGMENT_HEIGHT, i)) ?? (await store.inside(SEGMENT_HEIGHT, i))
    return node === undefined ? null : toHex(node)
  }
  const getData: RpcMethod = async p => {
    const { tx, inFile } = await found(p)
    const segment = tx === undefined ? undefined : await store.read(tx, inFile)
    if (segment === undefined) return null
    return Array.from({ length: segment.data.length / 256 }, (_, k) => [
      ...segment.data.subarray(256 * k, 256 * k + 256)
    ])
  }
  const getMeta: RpcMethod = async p => {
    const { i, tx, inFile } = await found(p)
    if (tx === undefined) return `segment ${i}: no submission`
    const at = await log.locate(tx.root, inFile)
    const where = at === undefined ? 'not held' : `file ${at.file} offset ${at.offset} bytes ${at.dataSize}`
    return `segment ${i}: submission ${tx.seq} segment ${inFile} ${where}`
  }
  return { zgs_getHashAtNodeIndex: getHash, zgs_getDataByNodeIndex: getData, zgs_getMetaDataByNodeIndex: getMeta }
}

async function fileInfo(o: NodeRpcOptions, tx: Tx | undefined): Promise<unknown> {
  if (tx === undefined) return null
  const pending = tx.status === 'pending'
  return {
    tx: {
      streamIds: [],
      data: [],
      dataMerkleRoot: toHex(tx.root),
      merkleNodes: tx.nodes.map(n => [n.height + 1, toHex(n.root)]),
      startEntryIndex: tx.startPos,
      size: tx.size,
      seq: tx.seq
    },
    finalized: tx.status === 'final',
    isCached: o.store.cache.has(tx.root),
    uploadedSegNum: pending ? await o.store.contiguous(tx.root) : shape(tx.size).segments,
    pruned: tx.status === 'pruned'
  }
}

/** An upload by a number that no event has brought yet is treated as one without transaction. */
async function bySeqOrNone(index: FlowIndex, seq: unknown): Promise<Tx | undefined> {
  return index.tx(counter(seq, 'tx_seq'))
}

async function uploadOne(store: FileStore, up: SegmentUpload, tx: Tx | undefined): Promise<number> {
  try {
    if ((await store.store(up, tx)) === 'known') throw duplicate()
    return 1
  } catch (err) {
    throw refusal(err)
  }
}

/**
 * Stores the segments of one call.
 * @param target - the submission that all are for, or how to find that of each.
 * @returns how many are stored now.
 * @throws {UploadRefusal} of the first that is refused; ZgError ERR_DISK_FULL, ERR_IO.
 */
export async function uploadList(
  store: FileStore,
  ups: readonly SegmentUpload[],
  target: Tx | ((up: SegmentUpload) => Promise<Tx | undefined>),
  repeats: 'skip' | 'refuse'
): Promise<number> {
  const results =
    typeof target === 'function'
      ? await Promise.allSettled(ups.map(async up => store.store(up, await target(up))))
      : await store.storeAll(ups, target)
  for (const r of results) {
    if (r.status === 'rejected') {
      // Segments of one call are stored side by side: one of them may complete the file before the next is looked at.
      const completed = r.reason instanceof UploadRefusal && r.reason.reason === 'final'
      if (!(completed && results.some(x => x.status === 'fulfilled'))) throw r.reason
    } else if (r.value === 'known' && repeats === 'refuse') throw duplicate()
  }
  return ups.length
}

async function answered(count: Promise<number>): Promise<number> {
  try {
    return await count
  } catch (err) {
    throw refusal(err)
  }
}

function refusal(err: unknown): unknown {
  if (err instanceof UploadRefusal) return new RpcError(err.code, err.message, err.data)
  if (err instanceof ZgError && (err.code === 'ERR_DISK_FULL' || err.code === 'ERR_IO')) {
    return new RpcError(RPC.server, err.message, err.hint)
  }
  return err
}

/** What a call asks for: sectors of a file, which lie in one or two segments. */
interface Wanted {
  tx: Tx
  start: number
  end: number
}

/** Reads and checks the parameters of a download; undefined when the file is not known. */
async function wanted(p: RpcParams, find: () => Promise<Tx | undefined>): Promise<Wanted | undefined> {
  const start = counter(p[1], 'start_index')
  const end = counter(p[2], 'end_index')
  if (start >= end) throw new RpcError(RPC.params, 'Invalid params: end_index', 'invalid chunk index')
  if (end - start > SEGMENT_SECTORS) {
    throw new RpcError(RPC.params, 'Invalid params: end_index', `exceeds maximum chunks ${SEGMENT_SECTORS}`)
  }
  const tx = await find()
  if (tx === undefined) return undefined
  const { chunks } = shape(tx.size)
  if (end > chunks) throw new RpcError(RPC.server, `end entry index exceeds tx size: end ${end}, tx size ${chunks}`)
  return { tx, start, end }
}

/** The bytes of what is wanted, in memory that `leases` names; undefined when they are not held. */
async function sectors(store: FileStore, { tx, start, end }: Wanted, leases: Lease[]): Promise<Buffer | undefined> {
  const first = Math.floor(start / SEGMENT_SECTORS)
  const last = Math.floor((end - 1) / SEGMENT_SECTORS)
  const parts: Buffer[] = []
  for (let i = first; i <= last; i++) {
    const memory = lease()
    leases.push(memory)
    const found = await store.read(tx, i, memory.bytes)
    if (found === undefined) return undefined
    const from = Math.max(0, start - i * SEGMENT_SECTORS) * 256
    const to = Math.min(SEGMENT_SECTORS, end - i * SEGMENT_SECTORS) * 256
    parts.push(Buffer.from(found.data.buffer, found.data.byteOffset + from, Math.min(to, found.data.length) - from))
  }
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
}

async function download(store: FileStore, p: RpcParams, find: () => Promise<Tx | undefined>): Promise<string | null> {
  const want = await wanted(p, find)
  if (want === undefined) return null
  const leases: Lease[] = []
  try {
    return (await sectors(store, want, leases))?.toString('base64') ?? null
  } finally {
    for (const l of leases) l.release()
  }
}

/** The index of a download with proof, checked; the order of the checks is upstream's. */
function provenIndex(tx: Tx | undefined, index: unknown): number | undefined {
  const i = counter(index, 'index')
  if (tx === undefined) return undefined
  if (i >= shape(tx.size).segments) throw new RpcError(RPC.params, 'Invalid params: index', 'index out of bound')
  return i
}

async function downloadWithProof(store: FileStore, tx: Tx | undefined, index: unknown): Promise<unknown> {
  const i = provenIndex(tx, index)
  if (tx === undefined || i === undefined) return null
  const found = await store.read(tx, i)
  if (found === undefined) return null
  const data = Buffer.from(found.data.buffer, found.data.byteOffset, found.data.length).toString('base64')
  return { root: toHex(tx.root), data, index: i, proof: wireProof(found.proof), fileSize: tx.size }
}

/** The downloads again, as buffers that can be sent as they are (rpc-route.ts). */
export function frameMethods(o: NodeRpcOptions): Record<string, FrameMethod> {
  const { store, index } = o
  const seq = (p: RpcParams) => index.tx(counter(p[0], 'tx_seq'))
  const root = (p: RpcParams) => store.select(hash(p[0], 'data_root'), true)
  const plain =
    (find: (p: RpcParams) => Promise<Tx | undefined>): FrameMethod =>
    async (p, head) => {
      const want = await wanted(p, () => find(p))
      if (want === undefined) return undefined
      const leases: Lease[] = []
      try {
        const data = await sectors(store, want, leases)
        return data === undefined ? undefined : frame(`${head}"`, data, '"}')
      } finally {
        for (const l of leases) l.release()
      }
    }
  const proven =
    (find: (p: RpcParams) => Promise<Tx | undefined>): FrameMethod =>
    async (p, head) => {
      const tx = await find(p)
      const i = provenIndex(tx, p[1])
      if (tx === undefined || i === undefined) return undefined
      const memory = lease()
      try {
        const found = await store.read(tx, i, memory.bytes)
        if (found === undefined) return undefined
        const tail = `","index":${i},"proof":${JSON.stringify(wireProof(found.proof))},"fileSize":${tx.size}}}`
        return frame(`${head}{"root":"${toHex(tx.root)}","data":"`, found.data, tail)
      } finally {
        memory.release()
      }
    }
  return {
    zgs_downloadSegment: plain(root),
    zgs_downloadSegmentByTxSeq: plain(seq),
    zgs_downloadSegmentWithProof: proven(root),
    zgs_downloadSegmentWithProofByTxSeq: proven(seq)
  }
}

function frame(before: string, data: Uint8Array, after: string): Frame {
  const start = Buffer.byteLength(before)
  const out = lease(start + base64Length(data.length) + after.length)
  out.bytes.write(before, 0)
  const end = encodeBase64(data, out.bytes, start)
  return { lease: out, size: end + out.bytes.write(after, end, 'latin1') }
}

function wireProof(proof: Proof): { lemma: string[]; path: boolean[] } {
  return { lemma: proof.lemma.map(toHex), path: proof.path }
}

function blobsOf(ctx: RpcContext): readonly Blob[] {
  return (ctx as BlobContext).blobs ?? []
}

/** Segments of one call: bounded by the body anyway; the old SDK sends an empty list at times. */
function segments(value: unknown, blobs: readonly Blob[]): SegmentUpload[] {
  if (!Array.isArray(value)) throw invalid('segments', 'not a list')
  return value.map(s => segment(s, blobs))
}

function segment(value: unknown, blobs: readonly Blob[]): SegmentUpload {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid('segment', 'not an object')
  const s = value as Record<string, unknown>
  const root = hash(s.root, 'root')
  const index = counter(s.index, 'index')
  if (index > 0xffff_ffff) throw invalid('index', 'index out of bound')
  return { root, index, fileSize: counter(s.fileSize, 'file_size'), data: data(s.data, blobs), proof: proof(s.proof) }
}

function data(value: unknown, blobs: readonly Blob[]): Uint8Array {
  const blob = typeof value === 'string' ? blobOf(value, blobs) : undefined
  if (blob === undefined) return base64(value)
  if (blob.fault !== undefined) throw invalid('data', blob.fault)
  return blob.bytes
}

function proof(value: unknown): Proof {
  const { lemma, path } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  // Longer than any tree: refused before the hashes are read.
  if (!Array.isArray(lemma) || !Array.isArray(path) || lemma.length > 66 || path.length > 64) {
    throw invalid('proof', 'invalid proof')
  }
  if (path.some(b => typeof b !== 'boolean')) throw invalid('proof', 'invalid proof')
  return { lemma: lemma.map(h => hash(h, 'proof')), path: path as boolean[] }
}

/**
 * Standard base64 with padding and nothing else: what decodes loosely would be hashed as something else than was meant. The decoder
 * skips foreign characters and stops at padding, so the length tells whether there were any; a regular expression over 350 KB takes 3 ms.
 */
function base64(text: unknown): Uint8Array {
  if (typeof text !== 'string') throw invalid('data', 'not a base64 string')
  if (text.length > 349_528) throw invalid('data', 'invalid data length')
  const bytes = Buffer.from(text, 'base64')
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
  const whole = text.length % 4 === 0 && bytes.length === (text.length / 4) * 3 - padding
  if (!whole || text.includes('-') || text.includes('_')) throw invalid('data', 'not base64')
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
}

function hash(value: unknown, name: string): Uint8Array {
  try {
    return hashFromHex(value, name)
  } catch (err) {
    throw invalid(name, messageOf(err))
  }
}

function counter(value: unknown, name: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw invalid(name, 'not a non-negative integer')
  }
  return value
}

function invalid(name: string, why: string): RpcError {
  return new RpcError(RPC.params, `Invalid params: ${name}`, why)
}
