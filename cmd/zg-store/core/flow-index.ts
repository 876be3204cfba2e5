/**
 * The node's copy of the submission log: what the chain's events said, where each submission lies in the flow, and the flow tree, so
 * that any sector can be proved against any past flow root. Chain facts only; which bytes are here is the business of
 * {@link FileStore}. Everything that one stretch of blocks brings goes in by one atomic batch (storage.md 3.7).
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { assert, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import {
  appendSubmission,
  EMPTY_FLOW,
  type FlowReader,
  type FlowState,
  flowRoot,
  restoreFlow,
  sectorProof
} from '../../../lib/codec/storage/flow-tree.ts'
import type { Proof } from '../../../lib/codec/storage/merkle.ts'
import type { SubmitEvent } from '../../../lib/codec/storage/submission.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'
import { decodeTx, encodeTx, fact, key, nodeKey, numberAt, numbers, type Tx } from './tx.ts'

/** The last block that is fully in the index. */
export interface Progress {
  readonly block: number
  readonly hash: Uint8Array
}

/** A Submit event with the block that holds it. */
export interface LoggedSubmission {
  readonly event: SubmitEvent
  readonly block: number
}

/** A batch ready to be written; its root is to be compared with the chain's before. */
export interface PreparedBlocks {
  readonly txs: readonly Tx[]
  readonly root: Uint8Array
  readonly state: FlowState
  readonly progress: Progress
  readonly ops: KvOp[]
}

/** A block we processed, to notice a reorganisation by. */
export interface KnownBlock {
  readonly block: number
  readonly hash: Uint8Array
  /** Submissions up to and including this block. */
  readonly nextSeq: number
}

const PROGRESS = fact('progress')
/** Blocks whose hashes are kept. */
const KNOWN_BLOCKS = 100

export class FlowIndex {
  readonly #kv: KvStore
  #state: FlowState
  #nextSeq: number
  #progress: Progress | undefined

  private constructor(kv: KvStore, state: FlowState, nextSeq: number, progress: Progress | undefined) {
    this.#kv = kv
    this.#state = state
    this.#nextSeq = nextSeq
    this.#progress = progress
  }

  /** Reads the state back. @throws {ZgError} ERR_CORRUPT. */
  static async open(kv: KvStore): Promise<FlowIndex> {
    const value = await kv.get(PROGRESS)
    if (value === undefined) return new FlowIndex(kv, EMPTY_FLOW, 0, undefined)
    if (value.length !== 56) throw new ZgError('ERR_CORRUPT', 'the progress record of the submission log is damaged')
    const progress = { block: numberAt(value, 0), hash: value.slice(8, 40) }
    const node = (h: number, i: number) => kv.get(nodeKey(h, i))
    return new FlowIndex(kv, await restoreFlow(numberAt(value, 48), { node }), numberAt(value, 40), progress)
  }

  /** Number that the next submission will have. */
  get nextSeq(): number {
    return this.#nextSeq
  }

  /** Sectors of the flow; 1 when nothing was submitted. */
  get length(): number {
    return this.#state.length
  }

  get root(): Uint8Array {
    return flowRoot(this.#state)
  }

  get progress(): Progress | undefined {
    return this.#progress
  }

  async tx(seq: number): Promise<Tx | undefined> {
    if (!Number.isSafeInteger(seq) || seq < 0 || seq >= this.#nextSeq) return undefined
    const value = await this.#kv.get(key('t', seq))
    return value === undefined ? undefined : decodeTx(seq, value)
  }

  /** Submissions of a root in order, at most `limit`. */
  async *txsOf(root: Uint8Array, limit = 1000): AsyncGenerator<Tx> {
    const seqs: number[] = []
    const range = { gte: key('r', root, 0), lt: key('r', root, Number.MAX_SAFE_INTEGER), limit }
    for await (const [k] of this.#kv.scan(range)) seqs.push(numberAt(k, 33))
    for (const seq of seqs) {
      const tx = await this.tx(seq)
      if (tx !== undefined) yield tx
    }
  }

  /** The submission that covers a sector of the flow; undefined for gaps and beyond the end. */
  async txAt(sector: number): Promise<Tx | undefined> {
    const range = { gte: key('x', 0), lt: key('x', sector + 1), reverse: true, limit: 1 }
    for await (const [, value] of this.#kv.scan(range)) {
      const tx = await this.tx(numberAt(value, 0))
      if (tx !== undefined && sector < tx.startPos + tx.sectors) return tx
    }
    return undefined
  }

  /**
   * Works out what a stretch of blocks adds. Nothing is written.
   * @throws {ZgError} ERR_PROTOCOL when the events do not continue the log: a lagging or lying RPC.
   */
  prepare(events: readonly LoggedSubmission[], progress: Progress): PreparedBlocks {
    const ops: KvOp[] = []
    const txs: Tx[] = []
    let state = this.#state
    let seq = this.#nextSeq
    for (const { event, block } of events) {
      if (event.seq !== seq) throw new ZgError('ERR_PROTOCOL', `submission ${event.seq} follows ${seq - 1} in the log`)
      const added = appendSubmission(state, event.submission.nodes)
      if (added.place.start !== event.startPos) {
        throw new ZgError(
          'ERR_PROTOCOL',
          `submission ${seq} starts at ${event.startPos}, ${added.place.start} expected`
        )
      }
      state = added.state
      const tx: Tx = {
        seq,
        root: event.root,
        size: event.submission.size,
        startPos: event.startPos,
        sectors: event.sectors,
        nodes: event.submission.nodes,
        flowLength: state.length,
        flowRoot: flowRoot(state),
        block,
        status: 'pending'
      }
      txs.push(tx)
      ops.push({ put: key('t', seq), value: encodeTx(tx) })
      ops.push({ put: key('r', tx.root, seq), value: new Uint8Array(0) })
      ops.push({ put: key('x', tx.startPos), value: numbers(seq) })
      ops.push({ put: key('w', tx.flowRoot), value: numbers(seq, tx.flowLength) })
      ops.push({ put: key('u', tx.root), value: new Uint8Array(0) })
      for (const n of added.complete) ops.push({ put: nodeKey(n.height, n.index), value: n.hash })
      seq++
    }
    ops.push(...progressOps(progress, seq, state.length))
    return { txs, root: flowRoot(state), state, progress, ops }
  }

  /** Writes a prepared batch. Not synced: after a power loss the chain is simply read again from an earlier block. */
  async commit(p: PreparedBlocks): Promise<void> {
    const old: KvOp[] = []
    const lt = key('b', Math.max(0, p.progress.block - KNOWN_BLOCKS))
    for await (const [k] of this.#kv.scan({ gte: key('b', 0), lt, limit: KNOWN_BLOCKS })) old.push({ del: k })
    await this.#kv.batch([...p.ops, ...old])
    this.#state = p.state
    this.#nextSeq += p.txs.length
    this.#progress = p.progress
  }

  /** The last blocks processed, newest first. */
  async knownBlocks(): Promise<KnownBlock[]> {
    const out: KnownBlock[] = []
    const range = { gte: key('b', 0), lt: key('b', Number.MAX_SAFE_INTEGER), reverse: true, limit: KNOWN_BLOCKS }
    for await (const [k, v] of this.#kv.scan(range)) {
      out.push({ block: numberAt(k, 1), hash: v.slice(0, 32), nextSeq: numberAt(v, 32) })
    }
    return out
  }

  /**
   * Goes back to an earlier block after a reorganisation, or to the very beginning (undefined). Bytes stay: the same root usually
   * comes back with another number.
   * @returns the submissions that are gone.
   */
  async rollback(to: KnownBlock | undefined): Promise<Tx[]> {
    const nextSeq = to?.nextSeq ?? 0
    const gone: Tx[] = []
    const ops: KvOp[] = []
    for (let seq = nextSeq; seq < this.#nextSeq; seq++) {
      const tx = await this.tx(seq)
      assert(tx !== undefined, `submission ${seq} is missing`)
      gone.push(tx)
      ops.push({ del: key('t', seq) }, { del: key('r', tx.root, seq) }, { del: key('x', tx.startPos) })
      ops.push({ del: key('w', tx.flowRoot) })
      // Nobody wants a file that no submission names any more, even if the node dies before the file store hears of it.
      if (!(await this.#namedBefore(tx.root, nextSeq))) ops.push({ del: key('u', tx.root) })
    }
    const last = nextSeq === 0 ? undefined : await this.tx(nextSeq - 1)
    const length = last?.flowLength ?? 1
    for (let h = 0; h <= 52; h++) {
      const gte = nodeKey(h, Math.floor(length / 2 ** h))
      for await (const [k] of this.#kv.scan({ gte, lt: nodeKey(h, Number.MAX_SAFE_INTEGER) })) ops.push({ del: k })
    }
    const gteBlock = key('b', to === undefined ? 0 : to.block + 1)
    for await (const [k] of this.#kv.scan({ gte: gteBlock, lt: key('b', Number.MAX_SAFE_INTEGER) }))
      ops.push({ del: k })
    if (to === undefined) ops.push({ del: PROGRESS })
    else ops.push(...progressOps(to, nextSeq, length))
    await this.#kv.batch(ops, { sync: true })
    const node = (h: number, i: number) => this.#kv.get(nodeKey(h, i))
    this.#state = length === 1 ? EMPTY_FLOW : await restoreFlow(length, { node })
    this.#nextSeq = nextSeq
    this.#progress = to === undefined ? undefined : { block: to.block, hash: to.hash }
    return gone
  }

  /** True when a submission below `seq` has this root. */
  async #namedBefore(root: Uint8Array, seq: number): Promise<boolean> {
    for await (const _ of this.#kv.scan({ gte: key('r', root, 0), lt: key('r', root, seq), limit: 1 })) return true
    return false
  }

  /** Length of the flow when this root was current; undefined for a root that never was. */
  async lengthAt(root: Uint8Array): Promise<number | undefined> {
    if (equalBytes(root, this.root)) return this.length
    const value = await this.#kv.get(key('w', root))
    return value === undefined ? undefined : numberAt(value, 8)
  }

  /**
   * Proof of one sector against a flow root that is or was current; by default the newest.
   * @throws {ZgError} ERR_NOT_FOUND (unknown root, data not held), ERR_BAD_INPUT (beyond the flow).
   */
  async proveSector(sector: number, root: Uint8Array | undefined, inside: FlowReader['inside']): Promise<Proof> {
    const length = root === undefined ? this.length : await this.lengthAt(root)
    if (length === undefined) throw new ZgError('ERR_NOT_FOUND', `unknown flow root ${toHex(root ?? this.root)}`)
    return sectorProof(sector, length, { node: (h, i) => this.#kv.get(nodeKey(h, i)), inside })
  }

  /** A complete node of the flow tree, if it is known without data. */
  node(height: number, index: number): Promise<Uint8Array | undefined> {
    return this.#kv.get(nodeKey(height, index))
  }
}

function progressOps(p: Progress, nextSeq: number, length: number): KvOp[] {
  const value = new Uint8Array(56)
  value.set(numbers(p.block), 0)
  value.set(p.hash, 8)
  value.set(numbers(nextSeq, length), 40)
  const known = new Uint8Array(40)
  known.set(p.hash, 0)
  known.set(numbers(nextSeq), 32)
  return [
    { put: PROGRESS, value },
    { put: key('b', p.block), value: known }
  ]
}
