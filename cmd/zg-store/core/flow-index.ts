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
const LAYOUT = fact('layout')
/** Of the keys in tx.ts. */
const LAYOUT_NOW = 2
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
    const layout = (await kv.get(LAYOUT))?.[0]
    if (layout === undefined) await convert(kv)
    else if (layout !== LAYOUT_NOW) {
      throw new ZgError('ERR_CONFIG', `the index is in layout ${layout}, this program knows ${LAYOUT_NOW}`, {
        hint: 'use the newer program that wrote it'
      })
    }
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
    return this.txNow(seq)
  }

  /** As {@link tx}, at once. */
  txNow(seq: number): Tx | undefined {
    if (!Number.isSafeInteger(seq) || seq < 0 || seq >= this.#nextSeq) return undefined
    const value = this.#kv.getSync(key('t', seq))
    return value === undefined ? undefined : decodeTx(seq, value)
  }

  /** The submissions of a root at once, when there is at most one; undefined when {@link txsOf} must be asked. */
  soleTxOf(root: Uint8Array): Tx[] | undefined {
    const first = this.#kv.getSync(key('r', root))
    if (first === undefined) return []
    if (first[8] !== 0) return undefined
    const tx = this.txNow(numberAt(first, 0))
    return tx === undefined ? [] : [tx]
  }

  /** Submissions of a root in order, at most `limit`. */
  async *txsOf(root: Uint8Array, limit = 1000): AsyncGenerator<Tx> {
    const first = this.#kv.getSync(key('r', root))
    if (first === undefined) return
    const seqs = [numberAt(first, 0)]
    if (first[8] !== 0) {
      const range = { gte: key('r', root, 0), lt: key('r', root, Number.MAX_SAFE_INTEGER), limit: limit - 1 }
      for await (const [k] of this.#kv.scan(range)) seqs.push(numberAt(k, 33))
    }
    for (const seq of seqs) {
      const tx = await this.tx(seq)
      if (tx !== undefined) yield tx
    }
  }

  /** The submission that covers a sector of the flow; undefined for gaps and beyond the end. */
  async txAt(sector: number): Promise<Tx | undefined> {
    // The last that starts at or before the sector: places rise with the numbers.
    let [from, to] = [0, this.#nextSeq]
    let found: Tx | undefined
    while (from < to) {
      const middle = Math.floor((from + to) / 2)
      const tx = this.txNow(middle)
      if (tx === undefined) throw new ZgError('ERR_CORRUPT', `record of submission ${middle} is missing`)
      if (tx.startPos <= sector) {
        found = tx
        from = middle + 1
      } else to = middle
    }
    return found !== undefined && sector < found.startPos + found.sectors ? found : undefined
  }

  /**
   * Works out what a stretch of blocks adds. Nothing is written.
   * @throws {ZgError} ERR_PROTOCOL when the events do not continue the log: a lagging or lying RPC.
   */
  prepare(events: readonly LoggedSubmission[], progress: Progress): PreparedBlocks {
    const ops: KvOp[] = []
    const txs: Tx[] = []
    const firsts = new Map<string, number>()
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
      ops.push(...this.#rootOps(tx, firsts))
      ops.push({ put: key('w', tx.flowRoot), value: numbers(seq, tx.flowLength) })
      ops.push({ put: key('u', tx.root), value: NOTHING })
      for (const n of added.complete) ops.push({ put: nodeKey(n.height, n.index), value: n.hash })
      seq++
    }
    ops.push(...progressOps(progress, seq, state.length), { put: LAYOUT, value: Uint8Array.of(LAYOUT_NOW) })
    return { txs, root: flowRoot(state), state, progress, ops }
  }

  /** @param firsts - first submissions of roots that this batch has brought. */
  #rootOps(tx: Tx, firsts: Map<string, number>): KvOp[] {
    const name = Buffer.from(tx.root.buffer, tx.root.byteOffset, 32).toString('latin1')
    const known = this.#kv.getSync(key('r', tx.root))
    const first = firsts.get(name) ?? (known === undefined ? undefined : numberAt(known, 0))
    if (first === undefined) {
      firsts.set(name, tx.seq)
      return [{ put: key('r', tx.root), value: firstOf(tx.seq, false) }]
    }
    return [
      { put: key('r', tx.root), value: firstOf(first, true) },
      { put: key('r', tx.root, tx.seq), value: NOTHING }
    ]
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
   * comes back with another number. Roots that no submission names any more are marked with the time in the same batch, so that
   * no crash leaves bytes which nobody would ever drop.
   * @returns the submissions that are gone.
   */
  async rollback(to: KnownBlock | undefined, nowMs: number): Promise<Tx[]> {
    const nextSeq = to?.nextSeq ?? 0
    const gone: Tx[] = []
    const ops: KvOp[] = []
    for (let seq = nextSeq; seq < this.#nextSeq; seq++) {
      const tx = await this.tx(seq)
      assert(tx !== undefined, `submission ${seq} is missing`)
      gone.push(tx)
      ops.push({ del: key('t', seq) }, { del: key('w', tx.flowRoot) })
      const first = this.#kv.getSync(key('r', tx.root))
      if (first !== undefined && numberAt(first, 0) < nextSeq) {
        ops.push({ del: key('r', tx.root, seq) })
        if (!(await this.#othersBefore(tx.root, nextSeq))) {
          ops.push({ put: key('r', tx.root), value: firstOf(numberAt(first, 0), false) })
        }
      } else {
        // Nobody wants a file that no submission names any more, even if the node dies before the file store hears of it.
        ops.push({ del: key('r', tx.root) }, { del: key('r', tx.root, seq) }, { del: key('u', tx.root) })
        ops.push({ put: key('o', tx.root), value: numbers(nowMs) })
      }
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

  /** True when a submission of this root other than the first is below `seq`. */
  async #othersBefore(root: Uint8Array, seq: number): Promise<boolean> {
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

const NOTHING = new Uint8Array(0)

/** Value of `r`. */
function firstOf(seq: number, more: boolean): Uint8Array {
  const value = new Uint8Array(9)
  value.set(numbers(seq))
  value[8] = more ? 1 : 0
  return value
}

/** Brings an index of layout 1 to the present one. What a crash leaves half done is done again. */
async function convert(kv: KvStore): Promise<void> {
  const ops: KvOp[] = []
  let last: { root: Uint8Array; first: number; more: boolean } | undefined
  const end = async (): Promise<void> => {
    if (last !== undefined) ops.push({ put: key('r', last.root), value: firstOf(last.first, last.more) })
    if (ops.length >= 4_096) await kv.batch(ops.splice(0))
  }
  for await (const [k, value] of kv.scan({ gte: key('r'), lt: key('s') })) {
    const root = k.slice(1, 33)
    if (last === undefined || !equalBytes(last.root, root)) {
      await end()
      const first = numberAt(k.length === 33 ? value : k, k.length === 33 ? 0 : 33)
      last = { root, first, more: k.length === 33 && value[8] === 1 }
      if (k.length !== 33) ops.push({ del: k })
    } else if (numberAt(k, 33) === last.first) ops.push({ del: k })
    else last.more = true
  }
  await end()
  for await (const [k] of kv.scan({ gte: key('x'), lt: key('y') })) {
    ops.push({ del: k })
    if (ops.length >= 4_096) await kv.batch(ops.splice(0))
  }
  ops.push({ put: LAYOUT, value: Uint8Array.of(LAYOUT_NOW) })
  await kv.batch(ops, { sync: true })
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
