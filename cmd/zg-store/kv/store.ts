/**
 * What a key-value node keeps, in one ordered store: the versioned state (keys.ts) and how far it has read. All that one
 * submission changes goes into ONE batch together with the progress, so a node killed at any moment continues with exactly the
 * state after some submission.
 *
 *   'p'                 → nextSeq8 block8 firstSeq8 eventBlock8   all ones: none yet
 *   'b' block8          → hash32 nextSeq8                   the last 100 blocks read to their end
 *   'u' seq8            → keys written, each u32 length ‖ key; the last 256 submissions
 *   'S' stream32        → 0 followed | 1 in the wave | 2 waiting for the next wave
 *   'W'                 → nextSeq8 block8                   how far the wave has come
 *   'A'                 → ''                                every stream is followed
 *   'X'                 → seq8 block8                       a rewind that has begun
 *
 * The state only ever gets new keys (they carry the seq), so undoing a submission is deleting its keys: that is how a
 * reorganisation, or a devnet that was set back, is followed.
 *
 * Streams that are followed later than from the start are replayed from the start as a **wave** beside the others (follow.ts);
 * where what they hold meets what was replayed without them, the whole replay is **rewound** to that submission. Either way the
 * state ends as if they had been followed from the first block.
 */
import { concat, readU64be, u32be, u64be, view } from '../../../lib/base/bytes.ts'
import { assert } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'
import { keys } from './keys.ts'
import { KvState } from './state.ts'

const NONE = 2n ** 64n - 1n
const BLOCKS_KEPT = 100
const UNDO_KEPT = 256
/** Keys deleted by one batch of a rewind. */
const REWIND_BATCH = 4_000

export interface Progress {
  /** Everything below was replayed or skipped. */
  nextSeq: number
  /** Read to its end; −1 before the first. */
  block: number
  firstSeq: number | undefined
  /** Block of the submission read last: where a log with a gap is read again from. */
  eventBlock: number | undefined
}

export interface KnownBlock {
  block: number
  hash: Uint8Array
  nextSeq: number
}

/** `joined`: replayed with all others. `wave`: is being caught up. `queued`: waits for the wave before it. */
export type StreamState = 'joined' | 'wave' | 'queued'
const STATES: readonly StreamState[] = ['joined', 'wave', 'queued']

/** How far the streams of the wave were replayed: submissions below `nextSeq`, blocks up to `block`. */
export interface Wave {
  nextSeq: number
  block: number
}

const tag = (c: string, ...rest: Uint8Array[]): Uint8Array => concat(Uint8Array.of(c.charCodeAt(0)), ...rest)

const blockKey = (block: number): Uint8Array => tag('b', u64be(block))
const undoKey = (seq: number): Uint8Array => tag('u', u64be(seq))
const WAVE = tag('W')
const EVERYTHING = tag('A')
const REWIND = tag('X')
const NOTHING = new Uint8Array(0)
const START: Progress = { nextSeq: 0, block: -1, firstSeq: undefined, eventBlock: undefined }

export class KvDatabase {
  readonly #db: KvStore
  readonly state: KvState
  #progress: Progress = START
  /** The blocks read last, oldest first. */
  #blocks: KnownBlock[] = []
  #streams = new Map<string, StreamState>()
  #wave: Wave | undefined
  #everything = false
  /** Seqs whose undo records are kept, in order. */
  #undo: number[] = []

  private constructor(db: KvStore) {
    this.#db = db
    this.state = new KvState(db)
  }

  static async open(db: KvStore): Promise<KvDatabase> {
    const out = new KvDatabase(db)
    await out.#load()
    const rewind = await db.get(REWIND)
    if (rewind !== undefined) await out.#finishRewind(readU64be(rewind), readU64be(rewind, 8))
    return out
  }

  async #load(): Promise<void> {
    const db = this.#db
    const p = await db.get(keys.progress)
    if (p !== undefined) {
      const optional = (at: number): number | undefined => {
        const n = p.length < at + 8 ? NONE : view(p).getBigUint64(at)
        return n === NONE ? undefined : Number(n)
      }
      this.#progress = {
        nextSeq: readU64be(p),
        block: readU64be(p, 8) - 1,
        firstSeq: optional(16),
        eventBlock: optional(24)
      }
    }
    for await (const [key, value] of db.scan({ gte: tag('b'), lt: tag('c') })) {
      this.#blocks.push({ block: readU64be(key, 1), hash: value.slice(0, 32), nextSeq: readU64be(value, 32) })
    }
    for await (const [key] of db.scan({ gte: tag('u'), lt: tag('v') })) this.#undo.push(readU64be(key, 1))
    for await (const [key, value] of db.scan({ gte: tag('S'), lt: tag('T') })) {
      this.#streams.set(toHex(key.slice(1)), STATES[value[0] ?? 0] ?? 'joined')
    }
    const wave = await db.get(WAVE)
    this.#wave = wave === undefined ? undefined : { nextSeq: readU64be(wave), block: readU64be(wave, 8) - 1 }
    this.#everything = (await db.get(EVERYTHING)) !== undefined
  }

  get progress(): Progress {
    return this.#progress
  }

  /** True before anything was read. */
  get fresh(): boolean {
    return this.#progress.nextSeq === 0 && this.#progress.block < 0
  }

  // ---- submissions -------------------------------------------------------------------------------------------------------------

  /**
   * One submission: its changes, its result (undefined when it was skipped) and the progress, atomically.
   * @param o - the block that holds it, and whether the write must be on disk when this returns: not needed while more follow,
   *   since a power loss then only takes the node back a few submissions.
   */
  async apply(
    seq: number,
    ops: readonly KvOp[],
    result: string | undefined,
    o: { block?: number; sync?: boolean } = {}
  ): Promise<void> {
    const { all, undo } = withUndo(seq, ops, result)
    const gone = this.#undo.filter(s => s < seq - UNDO_KEPT)
    for (const s of gone) all.push({ del: undoKey(s) })
    await this.#commit(all, this.#after(seq, o.block), o.sync ?? true)
    if (gone.length > 0) this.#undo = this.#undo.slice(gone.length)
    if (undo) this.#undo.push(seq)
  }

  /** A submission that is not ours. Kept with the next write: until then a restart only reads it again. */
  skip(seq: number, block: number): void {
    this.#progress = this.#after(seq, block)
  }

  #after(seq: number, block: number | undefined): Progress {
    const p = this.#progress
    return { ...p, nextSeq: seq + 1, firstSeq: p.firstSeq ?? seq, eventBlock: block ?? p.eventBlock }
  }

  // ---- blocks ------------------------------------------------------------------------------------------------------------------

  /** A block was read to its end. Not synced: after a power loss the chain is read again from an earlier block. */
  async blockDone(block: number, hash: Uint8Array): Promise<void> {
    const { nextSeq } = this.#progress
    const blocks = [...this.#blocks.filter(k => k.block !== block), { block, hash, nextSeq }]
    const ops: KvOp[] = [{ put: blockKey(block), value: concat(hash, u64be(nextSeq)) }]
    for (const old of blocks.splice(0, Math.max(0, blocks.length - BLOCKS_KEPT))) ops.push({ del: blockKey(old.block) })
    await this.#commit(ops, { ...this.#progress, block }, false)
    this.#blocks = blocks
  }

  /** The blocks read last, newest first. */
  knownBlocks(): KnownBlock[] {
    return this.#blocks.toReversed()
  }

  /** The block read last. */
  get newestBlock(): KnownBlock | undefined {
    return this.#blocks.at(-1)
  }

  /**
   * Back to the state after a block (undefined: to the very beginning).
   * @returns false when that is further back than is kept; then nothing was changed.
   */
  async rollback(to: Pick<KnownBlock, 'block' | 'nextSeq'> | undefined): Promise<boolean> {
    const nextSeq = to?.nextSeq ?? 0
    if (this.#progress.nextSeq - nextSeq > UNDO_KEPT) return false
    const ops: KvOp[] = []
    for await (const [key, value] of this.#db.scan({ gte: undoKey(nextSeq), lt: tag('v') })) {
      ops.push({ del: key })
      for (let at = 0; at < value.length; ) {
        const size = view(value).getUint32(at)
        ops.push({ del: value.slice(at + 4, at + 4 + size) })
        at += 4 + size
      }
    }
    const block = to?.block ?? -1
    const kept = this.#blocks.filter(k => k.block <= block)
    for (const gone of this.#blocks.slice(kept.length)) ops.push({ del: blockKey(gone.block) })
    const wave = this.#wave
    const newWave = wave && { nextSeq: Math.min(wave.nextSeq, nextSeq), block: Math.min(wave.block, block) }
    if (newWave !== undefined) ops.push(waveOp(newWave))
    await this.#undoing(() => this.#commit(ops, backTo(this.#progress, nextSeq, block)))
    this.#blocks = kept
    this.#wave = newWave
    this.#undo = this.#undo.filter(s => s < nextSeq)
    return true
  }

  // ---- streams -----------------------------------------------------------------------------------------------------------------

  /** What is followed, by stream in hex. */
  get streams(): ReadonlyMap<string, StreamState> {
    return this.#streams
  }

  get everything(): boolean {
    return this.#everything
  }

  get wave(): Wave | undefined {
    return this.#wave
  }

  /** Follows a stream: at once when nothing was read yet, else after it has been replayed from the start. */
  async follow(stream: Uint8Array): Promise<void> {
    const id = toHex(stream)
    if (this.#everything || this.#streams.has(id)) return
    const state: StreamState = this.fresh ? 'joined' : 'queued'
    await this.#db.batch([streamOp(stream, state)], { sync: true })
    this.#streams.set(id, state)
  }

  /** Follows every stream; what was read without them is read again. */
  async followEverything(): Promise<void> {
    if (this.#everything) return
    const again = !this.fresh
    await this.#db.batch([{ put: EVERYTHING, value: NOTHING }], { sync: true })
    this.#everything = true
    if (again) await this.rewind(0, 0)
  }

  /** Makes a wave of the streams that wait. False when none does. */
  async startWave(): Promise<boolean> {
    const ops: KvOp[] = []
    for (const [id, state] of this.#streams) if (state === 'queued') ops.push(streamOp(id, 'wave'))
    if (ops.length === 0) return false
    const wave: Wave = { nextSeq: this.#progress.firstSeq ?? 0, block: -1 }
    await this.#db.batch([...ops, waveOp(wave)], { sync: true })
    for (const [id, state] of this.#streams) if (state === 'queued') this.#streams.set(id, 'wave')
    this.#wave = wave
    return true
  }

  /** One submission of streams of the wave; those of others pass `[]` and undefined. */
  async applyWave(seq: number, ops: readonly KvOp[], result: string | undefined): Promise<void> {
    assert(this.#wave !== undefined, 'there is a wave')
    const wave = { ...this.#wave, nextSeq: seq + 1 }
    if (result !== undefined) {
      const made = withUndo(seq, ops, result)
      // What can no longer be rolled back needs no undo record.
      const kept = made.undo && seq >= this.#progress.nextSeq - UNDO_KEPT
      const all = kept ? made.all : made.all.filter(op => !('put' in op) || op.put[0] !== undoKey(0)[0])
      await this.#db.batch([...all, waveOp(wave)])
      if (kept) this.#undo = [...this.#undo.filter(s => s !== seq), seq].sort((a, b) => a - b)
    }
    this.#wave = wave
  }

  async waveBlock(block: number): Promise<void> {
    assert(this.#wave !== undefined, 'there is a wave')
    const wave = { ...this.#wave, block }
    await this.#db.batch([waveOp(wave)])
    this.#wave = wave
  }

  /** The wave has come as far as the others: from now on they are replayed together. */
  async join(): Promise<void> {
    await this.#db.batch(this.#joinOps(), { sync: true })
    this.#joined()
  }

  #joinOps(): KvOp[] {
    const ops: KvOp[] = [{ del: WAVE }]
    for (const [id, state] of this.#streams) if (state === 'wave') ops.push(streamOp(id, 'joined'))
    return ops
  }

  #joined(): void {
    for (const [id, state] of this.#streams) if (state === 'wave') this.#streams.set(id, 'joined')
    this.#wave = undefined
  }

  /** Streams that somebody has written to. */
  async writtenStreams(limit: number): Promise<Uint8Array[]> {
    const out: Uint8Array[] = []
    for await (const [key] of this.#db.scan({ gte: tag('e'), lt: tag('f'), limit })) out.push(key.slice(1))
    return out
  }

  // ---- rewind ------------------------------------------------------------------------------------------------------------------

  /**
   * Forgets everything from a submission on, however long ago it was, and lets the wave join: all is replayed again from there,
   * together. Cut off in the middle, it is finished when the store is opened next.
   * @param block - the block that holds the submission.
   */
  async rewind(seq: number, block: number): Promise<void> {
    await this.#db.batch([{ put: REWIND, value: concat(u64be(seq), u64be(block)) }], { sync: true })
    await this.#undoing(() => this.#finishRewind(seq, block))
  }

  /** Readers notice it at both ends. */
  async #undoing(work: () => Promise<void>): Promise<void> {
    this.state.undone++
    try {
      await work()
    } finally {
      this.state.undone++
    }
  }

  async #finishRewind(seq: number, block: number): Promise<void> {
    let ops: KvOp[] = []
    // From the end: references to values ('v') go before their bytes ('d').
    for await (const [key, value] of this.#db.scan({ reverse: true })) {
      const at = seqOf(key, value)
      if (at === undefined || at < seq) continue
      ops.push({ del: key })
      if (ops.length < REWIND_BATCH) continue
      await this.#db.batch(ops)
      ops = []
    }
    for (const b of this.#blocks) ops.push({ del: blockKey(b.block) })
    ops.push({ del: REWIND }, ...this.#joinOps())
    await this.#commit(ops, backTo(this.#progress, seq, block - 1))
    this.#blocks = []
    this.#undo = this.#undo.filter(s => s < seq)
    this.#joined()
  }

  async #commit(ops: KvOp[], next: Progress, sync = true): Promise<void> {
    const optional = (n: number | undefined): Uint8Array => u64be(n ?? NONE)
    const value = concat(u64be(next.nextSeq), u64be(next.block + 1), optional(next.firstSeq), optional(next.eventBlock))
    await this.#db.batch([...ops, { put: keys.progress, value }], { sync })
    this.#progress = next
  }
}

function backTo(p: Progress, nextSeq: number, block: number): Progress {
  const firstSeq = p.firstSeq === undefined || p.firstSeq >= nextSeq ? undefined : p.firstSeq
  // Not known any more: a gap that shows now is read again from the start.
  return { nextSeq: firstSeq === undefined ? 0 : nextSeq, block, firstSeq, eventBlock: undefined }
}

function withUndo(seq: number, ops: readonly KvOp[], result: string | undefined): { all: KvOp[]; undo: boolean } {
  const written = ops.map(op => {
    assert('put' in op, 'a replay only adds')
    return op.put
  })
  const all: KvOp[] = [...ops]
  if (result !== undefined) {
    all.push({ put: keys.result(seq), value: Buffer.from(result) })
    written.push(keys.result(seq))
  }
  if (written.length === 0) return { all, undo: false }
  all.push({ put: undoKey(seq), value: concat(...written.flatMap(k => [u32be(k.length), k])) })
  return { all, undo: true }
}

function waveOp(w: Wave): KvOp {
  return { put: WAVE, value: concat(u64be(w.nextSeq), u64be(w.block + 1)) }
}

function streamOp(stream: Uint8Array | string, state: StreamState): KvOp {
  const id = typeof stream === 'string' ? Buffer.from(stream.slice(2), 'hex') : stream
  return { put: tag('S', id), value: Uint8Array.of(STATES.indexOf(state)) }
}

/** The submission that an entry of the state belongs to; undefined for what is not of the state. */
function seqOf(key: Uint8Array, value: Uint8Array): number | undefined {
  switch (String.fromCharCode(key[0]!)) {
    case 'v':
    case 'a':
    case 'w':
    case 'k':
    case 's':
      return readU64be(key, key.length - 8)
    case 'd':
    case 'r':
    case 'f':
    case 'u':
      return readU64be(key, 1)
    case 'e':
      return readU64be(value)
    default:
      return undefined
  }
}
