/**
 * Which files are here, and how a file becomes final.
 *
 * ```
 *              Submit event                      all segments synced, tree checked            prune
 *   (nothing) ─────────────► pending ───────────────────────────────────────────► final ─────────────► pruned
 *       │                      ▲   ▲                                                │
 *       └── cached (memory) ───┘   └────────── a segment found damaged ─────────────┘
 * ```
 *
 * Bytes belong to a **root**, states to a **submission**: several submissions of one root share the bytes. So when a root is
 * complete all its pending submissions become final together, and a submission whose root is complete becomes final when its event
 * is seen. A submission is more than a root, though: size and shape are claims of whoever sent the transaction, and a liar can
 * submit a root with a size that does not fit. Therefore finality is decided for each submission by folding the segment roots held,
 * with zero segments behind the claimed size, to the root. Sizes that differ only by zero bytes at the end share all bytes.
 *
 * `final` is written with a sync, after the segments themselves were synced one by one; a crash between leaves `pending`, and the
 * next start (or the next segment) finds that nothing is missing.
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { foldNodes, nodeHash, type Proof, zeroRoot, zeroTreeRoot } from '../../../lib/codec/storage/merkle.ts'
import {
  SEGMENT_HEIGHT,
  SEGMENT_SECTORS,
  type Shape,
  segmentLeaves,
  segmentWireBytes,
  shape
} from '../../../lib/codec/storage/shape.ts'
import { codec } from '../../../lib/native.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'
import type { PackedProof } from '../disk/record.ts'
import type { LeafOf, SegmentLog } from '../disk/segment-log.ts'
import type { CodingGroup } from '../group/group.ts'
import type { FlowIndex } from './flow-index.ts'
import { SegmentCache } from './segment-cache.ts'
import { encodeTx, key, type Tx, type TxStatus } from './tx.ts'
import { checkProof, checkUpload, type SegmentUpload, UploadRefusal } from './upload-checks.ts'

/** An explicit position among sharded nodes; {shardId 0, numShard 1} holds everything. */
export interface ShardPosition {
  readonly shardId: number
  readonly numShard: number
}

export interface FileStoreOptions {
  kv: KvStore
  index: FlowIndex
  log: SegmentLog
  clock: Clock
  logger: Logger
  /** Segment roots, off the event loop. */
  leafOf: LeafOf
  shard: ShardPosition
  /** Set when this node is a member of a coding group: then bytes lie with the members, and this store keeps the states. */
  group?: CodingGroup
  /** Submissions that have just become final here. */
  onFinal?: (txs: readonly Tx[]) => void
  /** A root of which segments are wanted. */
  onWanted?: (root: Uint8Array) => void
}

export type StoreResult = 'stored' | 'known' | 'cached'

/** A segment as it goes out: cut or zero-filled to the size of the submission asked for. */
export interface ServedSegment {
  readonly data: Uint8Array
  readonly leaf: Uint8Array
  readonly proof: Proof
  readonly packed: PackedProof
}

/** A segment that is on stable storage and still in memory. */
export interface StagedSegment {
  readonly up: SegmentUpload
  readonly leaf: Uint8Array
  readonly proof: PackedProof
}

interface Presence {
  readonly bits: Uint8Array
  count: number
  /** All segments below are present. */
  contiguous: number
}

const PRESENCE_FILES = 512
/** Files of so many segments are looked up at once, without a scan: most files have one. */
const SMALL_SEGMENTS = 8
/** Segments in the works at the same time: 128 MiB. */
const UPLOADS = 512
const ORPHAN_MS = 3_600_000

export class FileStore {
  readonly #o: FileStoreOptions
  readonly cache: SegmentCache = new SegmentCache()
  /** Promises while they are being read. */
  readonly #presence = new Map<string, Presence | Promise<Presence>>()
  readonly #unsettled = new Map<string, { root: Uint8Array; done: Promise<boolean> }>()
  readonly #settled = new Map<string, boolean>()
  #tail: Promise<unknown> = Promise.resolve()
  #uploads = 0
  readonly #waiters: (() => void)[] = []

  constructor(options: FileStoreOptions) {
    this.#o = options
  }

  /** Uploads being checked or written. */
  get uploads(): number {
    return this.#uploads
  }

  get shard(): ShardPosition {
    return this.#o.shard
  }

  /** True when {@link room} would not wait. */
  get hasRoom(): boolean {
    const { group, log } = this.#o
    return this.#uploads < UPLOADS && group?.hasRoom !== false && (group?.staging ?? log).hasRoom
  }

  /** Resolves when a further segment may be read from a client: bounded are those being hashed and those waiting for the disk. */
  async room(): Promise<void> {
    while (this.#uploads >= UPLOADS) await new Promise<void>(resolve => this.#waiters.push(resolve))
    await this.#o.group?.room()
    await (this.#o.group?.staging ?? this.#o.log).room()
  }

  /** True when this node is to hold segment `index` of the file of `tx`. */
  mine(tx: Pick<Tx, 'startPos'>, index: number): boolean {
    const { shardId, numShard } = this.#o.shard
    return (Math.floor(tx.startPos / SEGMENT_SECTORS) + index) % numShard === shardId
  }

  /**
   * The submission that answers for a root (storage.md 3.2): the first final one; else, with `needAvailable`, the first that is
   * not pruned, otherwise simply the first.
   */
  async select(root: Uint8Array, needAvailable: boolean): Promise<Tx | undefined> {
    const sole = this.#o.index.soleTxOf(root)
    if (sole !== undefined) return needAvailable && sole[0]?.status === 'pruned' ? undefined : sole[0]
    let first: Tx | undefined
    for await (const tx of this.#o.index.txsOf(root)) {
      if (tx.status === 'final') return tx
      if (first === undefined && !(needAvailable && tx.status === 'pruned')) first = tx
    }
    return first
  }

  /** The submission that an upload by root is for: the one that answers for the root, but rather one of that size. */
  async target(root: Uint8Array, fileSize: number): Promise<Tx | undefined> {
    const chosen = await this.select(root, true)
    if (chosen === undefined) return this.select(root, false)
    if (chosen.size === fileSize) return chosen
    for await (const tx of this.#o.index.txsOf(root)) if (tx.size === fileSize) return tx
    return chosen
  }

  /**
   * Checks a segment and stores it.
   * @param tx - the submission it is for; undefined when none is known: a small file is then cached.
   * @returns 'stored' once it is on stable storage.
   * @throws {UploadRefusal} what is wrong with it; {ZgError} ERR_DISK_FULL, ERR_IO, ERR_STOPPED.
   */
  async store(up: SegmentUpload, tx: Tx | undefined): Promise<StoreResult> {
    if (tx !== undefined) return this.#storeOne(up, tx)
    const s = checkUpload(up, undefined)
    this.#uploads++
    try {
      const presence = this.#presenceOf(up.root)
      if (has(presence instanceof Promise ? await presence : presence, up.index)) return 'known'
      const leaf = await this.#o.leafOf(up.data, up.index, up.fileSize)
      if (up.namesLeaf === false) up.proof.lemma[0] = leaf
      checkProof(up, s, leaf)
      // The event may have come while we were hashing; then the cache was already emptied for it.
      const late = await this.target(up.root, up.fileSize)
      if (late !== undefined) return await this.store(up, late)
      return this.cache.put({ ...up, leaf }, this.#o.clock.monotonic()) ? 'cached' : 'known'
    } finally {
      this.#left(1)
    }
  }

  async #storeOne(up: SegmentUpload, tx: Tx): Promise<StoreResult> {
    const s = this.#shapeOf(up, tx)
    this.#uploads++
    try {
      const presence = this.#presenceOf(up.root)
      if (has(presence instanceof Promise ? await presence : presence, up.index)) return 'known'
      const hashed = this.#o.leafOf(up.data, up.index, up.fileSize)
      const leaf = hashed instanceof Promise ? await hashed : hashed
      if (up.namesLeaf === false) up.proof.lemma[0] = leaf
      checkProof(up, s, leaf)
      const proof = packedProof(up.proof)
      const result = await this.#append(up, leaf, proof)
      await this.#written(tx, [{ up, leaf, proof }])
      return result
    } finally {
      this.#left(1)
    }
  }

  /** All checks that need no hash. @throws {UploadRefusal} */
  #shapeOf(up: SegmentUpload, tx: Tx): Shape {
    const s = checkUpload(up, tx)
    if (this.mine(tx, up.index)) return s
    throw new UploadRefusal('other-shard', -32602, 'Invalid params: index', 'segment belongs to another shard')
  }

  /**
   * Checks segments of one submission and stores them together: what can be asked once is asked once for all.
   * @returns for each segment what {@link store} would have returned or thrown, in their order.
   */
  async storeAll(ups: readonly SegmentUpload[], tx: Tx): Promise<PromiseSettledResult<StoreResult>[]> {
    if (ups.length === 1) return Promise.allSettled([this.#storeOne(ups[0]!, tx)])
    const out: PromiseSettledResult<StoreResult>[] = new Array(ups.length)
    this.#uploads += ups.length
    try {
      const known = this.#presenceOf(tx.root)
      const presence = known instanceof Promise ? await known : known
      const checked: { i: number; up: SegmentUpload; s: Shape; leaf: Uint8Array | Promise<Uint8Array> }[] = []
      for (const [i, up] of ups.entries()) {
        try {
          const s = this.#shapeOf(up, tx)
          if (has(presence, up.index)) out[i] = { status: 'fulfilled', value: 'known' }
          else {
            const leaf = this.#o.leafOf(up.data, up.index, up.fileSize)
            if (leaf instanceof Promise) leaf.catch(() => {}) // met below, in its turn
            checked.push({ i, up, s, leaf })
          }
        } catch (reason) {
          out[i] = { status: 'rejected', reason }
        }
      }
      const appended: Promise<void>[] = []
      const offered: (StagedSegment & { i: number })[] = []
      for (const { i, up, s, leaf: hashed } of checked) {
        try {
          const leaf = hashed instanceof Promise ? await hashed : hashed
          if (up.namesLeaf === false) up.proof.lemma[0] = leaf
          checkProof(up, s, leaf)
          const proof = packedProof(up.proof)
          offered.push({ i, up, leaf, proof })
          appended.push(
            this.#append(up, leaf, proof).then(
              value => {
                out[i] = { status: 'fulfilled', value }
              },
              reason => {
                out[i] = { status: 'rejected', reason }
              }
            )
          )
        } catch (reason) {
          out[i] = { status: 'rejected', reason }
        }
      }
      await Promise.all(appended)
      const written = offered.filter(c => out[c.i]!.status === 'fulfilled')
      try {
        if (written.length > 0) await this.#written(tx, written)
      } catch (reason) {
        for (const c of offered) if (out[c.i]!.status === 'fulfilled') out[c.i] = { status: 'rejected', reason }
      }
      return out
    } finally {
      this.#left(ups.length)
    }
  }

  /** So many uploads are over. */
  #left(count: number): void {
    this.#uploads -= count
    for (const wake of this.#waiters.splice(0)) wake()
  }

  #append(up: SegmentUpload, leaf: Uint8Array, proof: PackedProof): Promise<StoreResult> {
    const { root, index, fileSize, data } = up
    return (this.#o.group?.staging ?? this.#o.log).append({ root, index, fileSize, leaf, proof, data })
  }

  /** Segments are on stable storage: whether the file is complete now. */
  async #written(tx: Tx, segments: readonly StagedSegment[]): Promise<void> {
    const { group } = this.#o
    const known = this.#presenceOf(tx.root)
    const presence = known instanceof Promise ? await known : known
    for (const { up } of segments) mark(presence, up.index)
    if (group !== undefined) {
      // On stable storage here, which is what was asked for; the group makes it final when its stripes are spread.
      await group.staged(tx, segments)
    } else if (presence.count >= this.#required(tx)) await this.settle(tx.root)
    else if ((await this.#o.index.tx(tx.seq)) === undefined) {
      throw new UploadRefusal('input', -32000, 'Transaction reverted, please upload again')
    }
  }

  /** True when the segment is on stable storage here. */
  async holds(root: Uint8Array, index: number): Promise<boolean> {
    return has(await this.#presenceOf(root), index)
  }

  /** How many segments from the first on are here (`uploadedSegNum` of a pending file). */
  async contiguous(root: Uint8Array): Promise<number> {
    return (await this.#presenceOf(root)).contiguous
  }

  /** Half-open ranges of segments that this node still wants of a submission, at most `limit`. */
  async missing(tx: Tx, limit = 1024): Promise<[number, number][]> {
    if (tx.status !== 'pending') return []
    const presence = await this.#presenceOf(tx.root)
    const ranges: [number, number][] = []
    for (let i = presence.contiguous, n = shape(tx.size).segments; i < n && ranges.length < limit; i++) {
      if (has(presence, i) || !this.mine(tx, i)) continue
      const last = ranges[ranges.length - 1]
      if (last !== undefined && last[1] === i) last[1] = i + 1
      else ranges.push([i, i + 1])
    }
    return ranges
  }

  /** Segments held of a file among `count` from `first` on. */
  async held(root: Uint8Array, first: number, count: number): Promise<boolean[]> {
    const presence = await this.#presenceOf(root)
    return Array.from({ length: count }, (_, i) => has(presence, first + i))
  }

  /**
   * A segment as submission `tx` has it, verified; undefined when it is not held.
   * @param into - memory for it, a slot of node/buffers.ts; the data may lie in it or not.
   */
  async read(tx: Tx, index: number, into?: Uint8Array): Promise<ServedSegment | undefined> {
    if (tx.status === 'pruned') return undefined
    const { group } = this.#o
    const found = await (group === undefined ? this.#o.log.read(tx.root, index, into) : group.read(tx, index, into))
    if (found === undefined) return undefined
    const data = fit(found.data, segmentWireBytes(shape(tx.size), index))
    return { data, leaf: found.leaf, packed: found.proof, proof: unpackProof(found.leaf, tx.root, found.proof) }
  }

  /** The roots of all padded segments of a final file, 32 bytes each; undefined when some are not known here. */
  async leaves(tx: Tx): Promise<Uint8Array | undefined> {
    if (this.#o.group !== undefined) return this.#o.group.leaves(tx)
    const s = shape(tx.size)
    const out = new Uint8Array(32 * s.paddedSegments)
    let next = 0
    for await (const [i, at] of this.#o.log.locations(tx.root, 0, s.segments)) {
      if (i !== next++) return undefined
      out.set(at.leaf, 32 * i)
    }
    if (next < s.segments) return undefined
    for (let i = s.segments; i < s.paddedSegments; i++) out.set(zeroTreeRoot(segmentLeaves(s, i)), 32 * i)
    return out
  }

  /**
   * Brings the states of all submissions of a root in line with the bytes that are here.
   * @returns true when none of them is pending any more.
   */
  settle(root: Uint8Array): Promise<boolean> {
    const name = nameOf(root)
    let waiting = this.#unsettled.get(name)
    if (waiting === undefined) {
      waiting = { root, done: Promise.resolve(false) }
      // Whoever comes while a group is being written forms the next one: one sync for all of them.
      waiting.done = this.#serial(async () => {
        if (this.#settled.has(name)) return this.#take(name)
        await this.#settleGroup()
        return this.#take(name)
      })
      this.#unsettled.set(name, waiting)
    }
    return waiting.done
  }

  #take(name: string): boolean {
    const result = this.#settled.get(name)
    this.#settled.delete(name)
    return result ?? false
  }

  async #settleGroup(): Promise<void> {
    const group = [...this.#unsettled]
    this.#unsettled.clear()
    let final: Tx[] = []
    let waited = false
    const ops: KvOp[] = []
    for (const [name, { root }] of group) {
      let pending = 0
      const sole = this.#o.index.soleTxOf(root)
      if (sole === undefined) waited = true
      for (const tx of sole ?? (await this.txsOf(root))) {
        if (tx.status === 'pruned' || (tx.status === 'final' && this.#o.group !== undefined)) continue
        let complete = this.#completeNow(tx)
        if (complete === undefined) {
          waited = true
          complete = await this.#complete(tx)
        }
        if (!complete) pending++
        if (complete && tx.status === 'pending') final.push(tx)
        // A node that died between finding damage and noting it here.
        if (!complete && tx.status === 'final') ops.push(statusOp(tx, 'pending'))
      }
      if (pending === 0) ops.push({ del: key('u', root) })
      this.#settled.set(name, pending === 0)
    }
    if (waited) final = final.filter(tx => this.#stillPending(tx))
    for (const tx of final) ops.push(statusOp(tx, 'final'))
    if (ops.length > 0) await this.#o.kv.batch(ops, { sync: final.length > 0 })
    if (final.length > 0) this.#o.onFinal?.(final.map(tx => ({ ...tx, status: 'final' })))
  }

  /** For after a wait: a reorganisation may have taken the submission meanwhile. */
  #stillPending(tx: Tx): boolean {
    const now = this.#o.index.txNow(tx.seq)
    return now?.status === 'pending' && equalBytes(now.root, tx.root)
  }

  /** New submissions are in the index: files that are here already, or wait in the cache, become final. */
  async submitted(txs: readonly Tx[]): Promise<void> {
    // A further submission may claim a larger size than the bits were made for.
    for (const tx of txs) this.#presence.delete(nameOf(tx.root))
    for (const tx of txs) {
      const cached = this.cache.take(tx.root)
      if (cached.length === 0 && this.#nothingHeld(tx)) {
        if (this.#o.index.txNow(tx.seq)?.status === 'pending') this.#o.onWanted?.(tx.root)
        continue
      }
      for (const segment of cached) {
        const target = (await this.target(segment.root, segment.fileSize)) ?? tx
        try {
          await this.store(segment, target)
        } catch (err) {
          // A cached segment of another size than the submission's, or a full disk: the client sends it again.
          this.#o.logger.debug('cached segment not stored', { root: toHex(tx.root), error: messageOf(err) })
        }
      }
      const now = this.#o.index.txNow(tx.seq)
      if (now?.status === 'pending' && !(await this.settle(tx.root))) this.#o.onWanted?.(tx.root)
    }
  }

  /** True when it is certain at once that no segment of this small file is here, as of nearly every new one. */
  #nothingHeld(tx: Tx): boolean {
    const presence = this.#o.group === undefined ? this.#presenceOf(tx.root) : undefined
    return presence !== undefined && !(presence instanceof Promise) && presence.count === 0 && this.#required(tx) > 0
  }

  /** Submissions vanished in a reorganisation: the index marked their roots; their bytes are kept for an hour, as the root may come back. */
  async removed(txs: readonly Tx[]): Promise<void> {
    for (const tx of txs) this.#presence.delete(nameOf(tx.root))
  }

  /** Drops bytes that no submission has named for an hour. */
  async sweepOrphans(): Promise<number> {
    let dropped = 0
    const nowMs = this.#o.clock.now()
    for await (const [k, v] of this.#o.kv.scan({ gte: key('o'), lt: key('p'), limit: 1000 })) {
      const since = Number(new DataView(v.buffer, v.byteOffset, v.byteLength).getBigUint64(0))
      if (nowMs - since < ORPHAN_MS && since <= nowMs) continue
      const root = k.slice(1)
      await this.#serial(async () => {
        const named = (await this.select(root, false)) !== undefined
        if (!named) dropped += await this.#o.log.forget(root, [{ del: key('u', root) }])
        await this.#o.kv.batch([{ del: k }])
        this.#presence.delete(nameOf(root))
      })
    }
    return dropped
  }

  /** Bytes of a file's segments that are here. */
  async bytesHeld(root: Uint8Array): Promise<number> {
    let sum = 0
    for await (const [, at] of this.#o.log.locations(root)) sum += at.dataSize
    return sum
  }

  /**
   * Drops a file by command. @returns how many segments were dropped.
   * @throws {ZgError} ERR_REJECTED by a member of a coding group: the others count on its shards, and repair would bring them back.
   */
  async prune(root: Uint8Array): Promise<number> {
    if (this.#o.group !== undefined) {
      const how = "'zg-store group tombstone' deletes it from all"
      throw new ZgError('ERR_REJECTED', `a member alone does not give up a file of its group: ${how}`)
    }
    return this.#serial(async () => {
      const ops: KvOp[] = [{ del: key('u', root) }]
      for await (const tx of this.#o.index.txsOf(root)) ops.push(statusOp(tx, 'pruned'))
      this.#presence.delete(nameOf(root))
      return this.#o.log.forget(root, ops)
    })
  }

  /** A segment was damaged and is gone: final is not for ever (storage.md 11). */
  async lost(root: Uint8Array): Promise<void> {
    this.#presence.delete(nameOf(root)) // at once: an upload that comes now must not be told that it is known
    await this.#serial(async () => {
      this.#presence.delete(nameOf(root))
      const ops: KvOp[] = [{ put: key('u', root), value: new Uint8Array(0) }]
      for await (const tx of this.#o.index.txsOf(root)) if (tx.status === 'final') ops.push(statusOp(tx, 'pending'))
      await this.#o.kv.batch(ops, { sync: true })
    })
    this.#o.onWanted?.(root)
  }

  /** Submissions of a root. */
  async txsOf(root: Uint8Array): Promise<Tx[]> {
    const sole = this.#o.index.soleTxOf(root)
    if (sole !== undefined) return sole
    const out: Tx[] = []
    for await (const tx of this.#o.index.txsOf(root)) out.push(tx)
    return out
  }

  /** What is here of a root has changed behind this store's back. */
  changed(root: Uint8Array): void {
    this.#presence.delete(nameOf(root))
  }

  /** These segments need not be sent any more: their stripe is durable. */
  async gained(root: Uint8Array, first: number, count: number): Promise<void> {
    const presence = await this.#presence.get(nameOf(root))
    if (presence !== undefined) for (let i = first; i < first + count; i++) mark(presence, i)
  }

  /** The states alone, after the group has deleted the bytes. */
  pruned(root: Uint8Array): Promise<void> {
    return this.#serial(async () => {
      const ops: KvOp[] = [{ del: key('u', root) }]
      for await (const tx of this.#o.index.txsOf(root)) ops.push(statusOp(tx, 'pruned'))
      this.#presence.delete(nameOf(root))
      await this.#o.kv.batch(ops, { sync: true })
    })
  }

  /** Goes into the batch that takes a damaged segment of a file out of the index. */
  static damagedOps(root: Uint8Array): KvOp[] {
    return [{ put: key('u', root), value: new Uint8Array(0) }]
  }

  /** Roots that lack segments here, from the store. */
  async *unsettled(): AsyncGenerator<Uint8Array> {
    for await (const [k] of this.#o.kv.scan({ gte: key('u'), lt: key('v') })) yield k.slice(1)
  }

  /**
   * A node of the flow tree inside a submission, for sector proofs: above segments from their roots, below from the data.
   * @returns undefined when the data is not held.
   */
  async inside(height: number, index: number): Promise<Uint8Array | undefined> {
    const start = index * 2 ** height
    const tx = await this.#o.index.txAt(start)
    if (tx === undefined) return undefined
    const s = shape(tx.size)
    const inFile = start - tx.startPos
    const segment = Math.floor(inFile / SEGMENT_SECTORS)
    if (this.#o.group !== undefined) return this.#insideGroup(tx, s.segments, height, inFile)
    if (height >= SEGMENT_HEIGHT) {
      const count = 2 ** (height - SEGMENT_HEIGHT)
      const fold = new TreeFold()
      let next = segment
      for await (const [i, at] of this.#o.log.locations(tx.root, segment, Math.min(segment + count, s.segments))) {
        if (i !== next++) return this.#fromNeighbour(tx, height, segment)
        fold.push(at.leaf)
      }
      if (next < Math.min(segment + count, s.segments)) return this.#fromNeighbour(tx, height, segment)
      for (; next < segment + count; next++) fold.push(zeroRoot(SEGMENT_HEIGHT))
      return fold.root()
    }
    if (segment >= s.segments) return zeroRoot(height)
    const found = await this.#o.log.read(tx.root, segment)
    if (found === undefined) return undefined
    const from = (inFile % SEGMENT_SECTORS) * 256
    const [root] = await codec().segmentRoots(found.data.slice(from, from + 256 * 2 ** height), 2 ** height)
    return root
  }

  /**
   * A node over segments that are not all here (on a sharded node they never are), from the proof that lies with a held segment of the
   * subtree beside it: within a submission node the tree of the file and that of the flow are one.
   * @param segment - the first below the node, counted in the file.
   */
  async #fromNeighbour(tx: Tx, height: number, segment: number): Promise<Uint8Array | undefined> {
    const level = height - SEGMENT_HEIGHT
    const count = 2 ** level
    const left = (segment / count) % 2 === 1
    const beside = left ? segment - count : segment + count
    for await (const [i] of this.#o.log.locations(tx.root, beside, beside + count)) {
      const head = await this.#o.log.readHead(tx.root, i)
      if (head === undefined || head.fileSize !== tx.size || head.proof.path[level] !== left) continue
      return head.proof.siblings.slice(32 * level, 32 * level + 32)
    }
    return undefined
  }

  async #insideGroup(tx: Tx, segments: number, height: number, inFile: number): Promise<Uint8Array | undefined> {
    const segment = Math.floor(inFile / SEGMENT_SECTORS)
    if (height >= SEGMENT_HEIGHT) {
      const leaves = await this.#o.group!.leaves(tx)
      if (leaves === undefined) return undefined
      const fold = new TreeFold()
      for (let i = segment; i < segment + 2 ** (height - SEGMENT_HEIGHT); i++) {
        fold.push(i < segments ? leaves.subarray(32 * i, 32 * i + 32) : zeroRoot(SEGMENT_HEIGHT))
      }
      return fold.root()
    }
    if (segment >= segments) return zeroRoot(height)
    const found = await this.#o.group!.read(tx, segment)
    if (found === undefined) return undefined
    const from = (inFile % SEGMENT_SECTORS) * 256
    const [root] = await codec().segmentRoots(found.data.slice(from, from + 256 * 2 ** height), 2 ** height)
    return root
  }

  #required(tx: Tx): number {
    const { segments } = shape(tx.size)
    const { numShard } = this.#o.shard
    if (numShard === 1) return segments
    let count = 0
    for (let i = 0; i < Math.min(segments, numShard); i++) {
      if (this.mine(tx, i)) count = Math.floor((segments - 1 - i) / numShard) + 1
    }
    return count
  }

  /** As {@link #complete}, for a small file of an unsharded node without any wait; undefined for others. */
  #completeNow(tx: Tx): boolean | undefined {
    const s = shape(tx.size)
    if (this.#o.group !== undefined || this.#o.shard.numShard !== 1 || s.segments > SMALL_SEGMENTS) return undefined
    if (!equalHeights(s.heights, tx)) return false
    const fold = new TreeFold()
    for (let i = 0; i < s.segments; i++) {
      const at = this.#o.log.locateNow(tx.root, i)
      if (at === undefined) return false
      if (at.dataSize > segmentWireBytes(s, i)) return undefined // what lies behind must be looked at
      fold.push(at.leaf)
    }
    for (let i = s.segments; i < s.paddedSegments; i++) fold.push(zeroTreeRoot(segmentLeaves(s, i)))
    return equalBytes(fold.root(), tx.root)
  }

  /** True when every segment of this node's share is here and the tree of this submission holds. */
  async #complete(tx: Tx): Promise<boolean> {
    const s = shape(tx.size)
    if (!equalHeights(s.heights, tx)) return false
    if (this.#o.group !== undefined) return this.#o.group.complete(tx)
    const presence = await this.#presenceOf(tx.root)
    if (presence.count < this.#required(tx)) return false
    const whole = this.#o.shard.numShard === 1
    const fold = new TreeFold()
    let next = 0
    for await (const [i, at] of this.#o.log.locations(tx.root, 0, s.segments)) {
      while (!whole && next < i && !this.mine(tx, next)) next++
      if (i > next) return false
      if (!whole && !this.mine(tx, i)) continue
      next = i + 1
      // Without all leaves there is no fold: the segment's own proof counts, and it was checked under this size or not at all.
      if (!whole && (await this.#o.log.readHead(tx.root, i))?.fileSize !== tx.size) return false
      fold.push(at.leaf)
      const wire = segmentWireBytes(s, i)
      if (at.dataSize > wire && !(await this.#zeroBehind(tx.root, i, wire))) return false
    }
    while (!whole && next < s.segments && !this.mine(tx, next)) next++
    if (next < s.segments) return false
    if (!whole) return true
    for (let i = s.segments; i < s.paddedSegments; i++) fold.push(zeroTreeRoot(segmentLeaves(s, i)))
    return equalBytes(fold.root(), tx.root)
  }

  async #zeroBehind(root: Uint8Array, index: number, from: number): Promise<boolean> {
    const found = await this.#o.log.read(root, index)
    return found?.data.subarray(from).every(b => b === 0) ?? false
  }

  /** At once for small files. */
  #presenceOf(root: Uint8Array): Presence | Promise<Presence> {
    const name = nameOf(root)
    const known = this.#presence.get(name)
    if (known !== undefined) {
      this.#presence.delete(name)
      this.#presence.set(name, known)
      return known
    }
    if (this.#presence.size >= PRESENCE_FILES) {
      const oldest = this.#presence.keys().next()
      if (!oldest.done) this.#presence.delete(oldest.value)
    }
    const found = this.#smallPresence(root) ?? this.#loadPresence(root)
    this.#presence.set(name, found)
    if (found instanceof Promise) {
      found.then(
        p => {
          if (this.#presence.get(name) === found) this.#presence.set(name, p)
        },
        () => this.#presence.delete(name)
      )
    }
    return found
  }

  #smallPresence(root: Uint8Array): Presence | undefined {
    const txs = this.#o.group === undefined ? this.#o.index.soleTxOf(root) : undefined
    if (txs === undefined) return undefined
    const segments = txs[0] === undefined ? 1 : shape(txs[0].size).segments
    if (segments > SMALL_SEGMENTS) return undefined
    const presence: Presence = { bits: new Uint8Array(1), count: 0, contiguous: 0 }
    for (let i = 0; i < segments; i++) if (this.#o.log.locateNow(root, i) !== undefined) mark(presence, i)
    return presence
  }

  async #loadPresence(root: Uint8Array): Promise<Presence> {
    let most = 1
    for await (const tx of this.#o.index.txsOf(root)) most = Math.max(most, shape(tx.size).segments)
    const presence: Presence = { bits: new Uint8Array(Math.ceil(most / 8)), count: 0, contiguous: 0 }
    if (this.#o.group !== undefined) {
      for (const i of await this.#o.group.present(root)) mark(presence, i)
      return presence
    }
    for await (const [i] of this.#o.log.locations(root, 0, most)) mark(presence, i)
    return presence
  }

  #serial<T>(fn: () => Promise<T>): Promise<T> {
    const run = this.#tail.then(fn)
    this.#tail = run.catch(() => {})
    return run
  }
}

/** Folds leaves as they come, in memory of one hash a level: the same root as the whole tree at once. */
export class TreeFold {
  #open: { height: number; hash: Uint8Array }[] = []

  push(leaf: Uint8Array): void {
    let node = { height: 0, hash: leaf }
    for (let last = this.#open.at(-1); last?.height === node.height; last = this.#open.at(-1)) {
      this.#open.pop()
      node = { height: node.height + 1, hash: nodeHash(last.hash, node.hash) }
    }
    this.#open.push(node)
  }

  root(): Uint8Array {
    return foldNodes(this.#open.map(n => n.hash))
  }
}

/** A hash as a key of a map. */
function nameOf(hash: Uint8Array): string {
  return Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('latin1')
}

function equalHeights(heights: readonly number[], tx: Tx): boolean {
  return heights.length === tx.nodes.length && heights.every((h, i) => h === tx.nodes[i]!.height)
}

function statusOp(tx: Tx, status: TxStatus): KvOp {
  return { put: key('t', tx.seq), value: encodeTx({ ...tx, status }) }
}

function packedProof(proof: Proof): PackedProof {
  const siblings = new Uint8Array(32 * proof.path.length)
  for (let i = 0; i < proof.path.length; i++) siblings.set(proof.lemma[i + 1]!, 32 * i)
  return { siblings, path: proof.path }
}

function unpackProof(leaf: Uint8Array, root: Uint8Array, packed: PackedProof): Proof {
  const lemma = [leaf]
  for (let i = 0; i < packed.path.length; i++) lemma.push(packed.siblings.subarray(32 * i, 32 * i + 32))
  if (packed.path.length > 0) lemma.push(root)
  return { lemma, path: [...packed.path] }
}

/** Data cut or zero-filled: submissions of one root may differ by zero bytes at the end. */
function fit(data: Uint8Array, size: number): Uint8Array {
  if (data.length >= size) return data.subarray(0, size)
  const out = new Uint8Array(size)
  out.set(data)
  return out
}

function has(p: Presence, index: number): boolean {
  return ((p.bits[index >> 3] ?? 0) & (1 << (index & 7))) !== 0
}

function mark(p: Presence, index: number): void {
  if (index >> 3 >= p.bits.length || has(p, index)) return
  p.bits[index >> 3]! |= 1 << (index & 7)
  p.count++
  while (has(p, p.contiguous)) p.contiguous++
}
