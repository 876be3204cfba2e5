/**
 * What a key-value node keeps, in one ordered store: the versioned state (keys.ts) and how far it has read. All that one
 * submission changes goes into ONE batch together with the progress, so a node killed at any moment continues with exactly the
 * state after some submission.
 *
 *   'p'                 → nextSeq8 block8 firstSeq8         firstSeq all ones: none seen yet
 *   'b' block8          → hash32 nextSeq8                   the last 100 blocks read to their end
 *   'u' seq8            → keys written, each u32 length ‖ key; the last 256 submissions
 *   'S' stream32        → ''                                streams added by the admin call
 *
 * The state only ever gets new keys (they carry the seq), so undoing a submission is deleting its keys: that is how a
 * reorganisation, or a devnet that was set back, is followed.
 */
import { concat, readU64be, u32be, u64be, view } from '../../../lib/base/bytes.ts'
import { assert } from '../../../lib/base/errors.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'
import { keys } from './keys.ts'
import { KvState } from './state.ts'

const NONE = 2n ** 64n - 1n
const BLOCKS_KEPT = 100
const UNDO_KEPT = 256

export interface Progress {
  /** Everything below was replayed or skipped. */
  nextSeq: number
  /** Read to its end; −1 before the first. */
  block: number
  firstSeq: number | undefined
}

export interface KnownBlock {
  block: number
  hash: Uint8Array
  nextSeq: number
}

const tag = (c: string, ...rest: Uint8Array[]): Uint8Array => concat(Uint8Array.of(c.charCodeAt(0)), ...rest)

const blockKey = (block: number): Uint8Array => tag('b', u64be(block))

export class KvDatabase {
  readonly #db: KvStore
  readonly state: KvState
  #progress: Progress
  /** The blocks read last, oldest first. */
  #blocks: KnownBlock[]

  private constructor(db: KvStore, progress: Progress, blocks: KnownBlock[]) {
    this.#db = db
    this.#blocks = blocks
    this.state = new KvState(db)
    this.#progress = progress
  }

  static async open(db: KvStore): Promise<KvDatabase> {
    const p = await db.get(keys.progress)
    if (p === undefined) return new KvDatabase(db, { nextSeq: 0, block: -1, firstSeq: undefined }, [])
    const first = view(p).getBigUint64(16)
    const blocks: KnownBlock[] = []
    for await (const [key, value] of db.scan({ gte: tag('b'), lt: tag('c') })) {
      blocks.push({ block: readU64be(key, 1), hash: value.slice(0, 32), nextSeq: readU64be(value, 32) })
    }
    return new KvDatabase(
      db,
      {
        nextSeq: readU64be(p),
        block: readU64be(p, 8) - 1,
        firstSeq: first === NONE ? undefined : Number(first)
      },
      blocks
    )
  }

  get progress(): Progress {
    return this.#progress
  }

  /** One submission: its changes, its result (undefined when it was skipped) and the progress, atomically. */
  async apply(seq: number, ops: readonly KvOp[], result: string | undefined): Promise<void> {
    const written = ops.map(op => {
      assert('put' in op, 'a replay only adds')
      return op.put
    })
    const all: KvOp[] = [...ops]
    if (result !== undefined) {
      all.push({ put: keys.result(seq), value: Buffer.from(result) })
      written.push(keys.result(seq))
    }
    if (written.length > 0) {
      const undo = concat(...written.flatMap(k => [u32be(k.length), k]))
      all.push({ put: tag('u', u64be(seq)), value: undo })
    }
    if (seq >= UNDO_KEPT) all.push({ del: tag('u', u64be(seq - UNDO_KEPT)) })
    await this.#commit(all, { ...this.#progress, nextSeq: seq + 1, firstSeq: this.#progress.firstSeq ?? seq })
  }

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
  async rollback(to: KnownBlock | undefined): Promise<boolean> {
    const nextSeq = to?.nextSeq ?? 0
    if (this.#progress.nextSeq - nextSeq > UNDO_KEPT) return false
    const ops: KvOp[] = []
    for await (const [key, value] of this.#db.scan({ gte: tag('u', u64be(nextSeq)), lt: tag('v') })) {
      ops.push({ del: key })
      for (let at = 0; at < value.length; ) {
        const size = view(value).getUint32(at)
        ops.push({ del: value.slice(at + 4, at + 4 + size) })
        at += 4 + size
      }
    }
    const kept = to === undefined ? [] : this.#blocks.filter(k => k.block <= to.block)
    for (const gone of this.#blocks.slice(kept.length)) ops.push({ del: blockKey(gone.block) })
    const { firstSeq } = this.#progress
    await this.#commit(ops, {
      nextSeq,
      block: to?.block ?? -1,
      firstSeq: firstSeq === undefined || firstSeq >= nextSeq ? undefined : firstSeq
    })
    this.#blocks = kept
    return true
  }

  /** Streams that were added at run time. */
  async addedStreams(): Promise<Uint8Array[]> {
    const out: Uint8Array[] = []
    for await (const [key] of this.#db.scan({ gte: tag('S'), lt: tag('T') })) out.push(key.slice(1))
    return out
  }

  async addStream(stream: Uint8Array): Promise<void> {
    await this.#db.batch([{ put: tag('S', stream), value: new Uint8Array(0) }], { sync: true })
  }

  /** Streams that somebody has written to. */
  async writtenStreams(limit: number): Promise<Uint8Array[]> {
    const out: Uint8Array[] = []
    for await (const [key] of this.#db.scan({ gte: tag('e'), lt: tag('f'), limit })) out.push(key.slice(1))
    return out
  }

  async #commit(ops: KvOp[], next: Progress, sync = true): Promise<void> {
    const value = concat(u64be(next.nextSeq), u64be(next.block + 1), u64be(next.firstSeq ?? NONE))
    await this.#db.batch([...ops, { put: keys.progress, value }], { sync })
    this.#progress = next
  }
}
