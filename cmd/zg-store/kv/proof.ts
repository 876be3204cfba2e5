/**
 * Proofs of presence: that a value was written by the submission the node names.
 *
 *   value ─ bytes of the file ─ sectors of the flow ─ two sector proofs ─► flow root after that submission (in the contract)
 *   key   ─ head of the file  ─ sectors of the flow ─ two sector proofs ─►        "
 *
 * The bytes and the proofs come from the storage nodes; what one answers is checked here before it is passed on. A proof shows
 * that the submission holds this value under this key. Which version is the newest, and whether its sender may write, follows
 * from replaying the log alone.
 */
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import type { ChainClient } from '../../../lib/clients/chain.ts'
import type { NodePool, StoreNode } from '../../../lib/clients/store.ts'
import { flowHeight } from '../../../lib/codec/storage/flow-tree.ts'
import { rangeFault, type SectorRange } from '../../../lib/codec/storage/range-proof.ts'
import { SECTOR_BYTES, SEGMENT_SECTORS } from '../../../lib/codec/storage/shape.ts'
import { integer, keyOf, range, streamOf, versionOf } from './rpc.ts'
import type { KvFile, KvState } from './state.ts'

/** `getFlowRootByTxSeq(uint256)`. */
const FLOW_ROOT_SELECTOR = '0x6d7ad0fc'
/** Files whose keys alone take more are not proved: the proof would have to carry all of them. */
const HEAD_MAX_BYTES = 4 * 1024 * 1024

export interface Prover {
  /** `getFlowRootByTxSeq`. */
  flowRoot(seq: number): Promise<Uint8Array>
  /** Sectors [start, start + count) of the flow, which lie in this file, with their proofs against the root. */
  sectors(file: KvFile, seq: number, o: { start: number; count: number; root: Uint8Array }): Promise<SectorRange>
}

/** `kv_getProof(stream, key, start, len, version?)`. */
export function kvProofMethods(state: KvState, prover: Prover): RpcMethods {
  return {
    kv_getProof: async ([streamId, keyText, startIndex, len, version]) => {
      const [stream, key] = [streamOf(streamId), keyOf(keyText)]
      const p = range(startIndex, len)
      const ref = await state.value(stream, key, versionOf(version))
      const file = ref === undefined ? undefined : await state.file(ref.version)
      if (ref === undefined || file === undefined) return null
      if (p.start > ref.sizeBytes) {
        throw new RpcError(RPC.params, 'Invalid params: start', 'start index is greater than value length')
      }
      if (file.valuesAt > HEAD_MAX_BYTES) throw new RpcError(RPC.limit, 'the file names too many keys to be proved')
      try {
        const root = await prover.flowRoot(ref.version)
        const end = Math.min(ref.sizeBytes, p.start + p.len)
        const wanted = sectorRanges(file.valuesAt, ref.offset + p.start, ref.offset + end)
        const ranges: SectorRange[] = []
        for (const { from, to } of wanted) {
          const o = { start: file.startPos + from, count: to - from, root }
          ranges.push(await prover.sectors(file, ref.version, o))
        }
        return {
          version: ref.version,
          size: ref.sizeBytes,
          index: integer(ref.index, 'index'),
          txHash: toHex(file.txHash),
          block: file.block,
          root: toHex(file.root),
          flowRoot: toHex(root),
          ranges: ranges.map(wireRange)
        }
      } catch (err) {
        if (err instanceof ZgError) throw new RpcError(RPC.unavailable, 'no proof can be had now', messageOf(err))
        throw err
      }
    }
  }
}

/** The sectors of a file that hold its head and some bytes of a value: one range where they touch. Half open. */
function sectorRanges(headEnd: number, start: number, end: number): { from: number; to: number }[] {
  const head = { from: 0, to: Math.ceil(headEnd / SECTOR_BYTES) }
  if (start >= end) return [head]
  const value = { from: Math.floor(start / SECTOR_BYTES), to: Math.ceil(end / SECTOR_BYTES) }
  if (value.from <= head.to) return [{ from: 0, to: Math.max(head.to, value.to) }]
  return [head, value]
}

function wireRange(r: SectorRange): unknown {
  const proof = (p: SectorRange['left']) => ({ lemma: p.lemma.map(h => toHex(h)), path: p.path })
  return {
    sector: r.start,
    data: Buffer.from(r.data.buffer, r.data.byteOffset, r.data.length).toString('base64'),
    left: proof(r.left),
    right: proof(r.right)
  }
}

/** Proofs from the storage nodes of a pool, against the roots in the flow contract. */
export function poolProver(pool: NodePool, client: ChainClient, flow: () => string | undefined): Prover {
  return {
    async flowRoot(seq) {
      const to = flow()
      if (to === undefined) throw new ZgError('ERR_UNAVAILABLE', 'the flow contract is not known yet')
      const data = `${FLOW_ROOT_SELECTOR}${seq.toString(16).padStart(64, '0')}`
      return fromHex(await client.call('eth_call', [{ to, data }, 'latest']), 'flow root', { size: 32 })
    },
    async sectors(file, seq, o) {
      let problem: unknown
      for (const url of (await pool.locate(file.root)).urls) {
        try {
          const range = await fromNode(pool.node(url), file, seq, o)
          const fault = rangeFault(range, o.root, flowHeight(file.startPos + file.sectors))
          if (fault === undefined) return range
          problem = new ZgError('ERR_BAD_PROOF', `${url} proves it wrongly: ${fault}`)
        } catch (err) {
          problem = err
        }
      }
      if (problem instanceof ZgError) throw problem
      throw new ZgError('ERR_UNAVAILABLE', `no storage node proves it: ${messageOf(problem ?? 'none is known')}`)
    }
  }
}

async function fromNode(
  node: StoreNode,
  file: KvFile,
  seq: number,
  o: { start: number; count: number; root: Uint8Array }
): Promise<SectorRange> {
  const data = new Uint8Array(o.count * SECTOR_BYTES)
  const first = o.start - file.startPos
  for (let at = 0; at < o.count; at += SEGMENT_SECTORS) {
    const n = Math.min(SEGMENT_SECTORS, o.count - at)
    const answer = await node.call('zgs_downloadSegmentByTxSeq', [seq, first + at, first + at + n], CALL)
    if (typeof answer !== 'string') throw new ZgError('ERR_NOT_FOUND', `${node.url} does not hold submission ${seq}`)
    const bytes = Buffer.from(answer, 'base64')
    if (bytes.length !== n * SECTOR_BYTES)
      throw new ZgError('ERR_PROTOCOL', `${node.url} answered ${bytes.length} bytes`)
    data.set(bytes, at * SECTOR_BYTES)
  }
  const prove = async (sector: number): Promise<SectorRange['left']> => {
    const p = (await node.call('zgs_getSectorProof', [sector, toHex(o.root)], CALL)) as SectorProof
    if (!Array.isArray(p?.lemma) || !Array.isArray(p.path) || p.lemma.length > 66) {
      throw new ZgError('ERR_PROTOCOL', `${node.url} answered a malformed proof`)
    }
    return { lemma: p.lemma.map(h => fromHex(h, 'hash', { size: 32 })), path: p.path.map(b => b === true) }
  }
  const left = await prove(o.start)
  return { start: o.start, data, left, right: o.count === 1 ? left : await prove(o.start + o.count - 1) }
}

interface SectorProof {
  lemma: unknown[]
  path: unknown[]
}

const CALL = { timeoutMs: 20_000 }
