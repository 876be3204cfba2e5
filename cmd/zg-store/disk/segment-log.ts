/**
 * Where the bytes of files lie: an append-only log of segments in plain files, and a small index of it in the key-value store.
 *
 * ```
 *   segments/00000001.seg   ┌──────┬────────┬────────┬─────────────────┬───────────┬─ …     sealed, 256 MiB and a little more
 *                           │ head │ A / 0  │ B / 17 │ (gap: damaged)  │ A / 1     │
 *   segments/00000002.seg   ┌──────┬────────┬────────┐
 *                           │ head │ C / 0  │ A / 2  │ ◄ end: the next group goes here
 *                                    record = header, proof, data (record.ts)
 *   index   s ‖ root ‖ index  →  file, offset, data size, siblings, segment root       one entry a segment, 1/5000 of the data
 *           l                 →  (file, offset): everything before this point is in the index
 * ```
 *
 * A segment is named by (root of its file, index), so two submissions of the same content share its bytes, and a place in the
 * flow leads to it through the submission that covers the place: floor((position − start) / 1024) is the index.
 *
 * **Group commit.** A segment waits at most 5 ms for company; then the group is written in one call, and while the disk syncs it the
 * next groups are written behind it: the sync after that is for all of them. Then their index entries and the new `l` go to the
 * key-value store in one batch, for large groups while the next sync runs, and only then are the callers answered. The index batch
 * itself is not synced: the log is the truth, the index can always be made again from `l` onwards.
 *
 * **Recovery.** Scan from `l` to the end. A record counts when its header's checksum is right and its data hashes to its segment root.
 * After a bad one the scan looks for the next good header; if there is one, the bad stretch is a gap (bits flipped, or a group
 * that a crash tore in the middle) and stays where it is, unreachable; if there is none, it is the torn tail and is cut off. So
 * a flipped bit never costs the records behind it. Found records are synced before they are indexed: after a mere kill they may
 * live in the page cache alone.
 *
 * **Reading.** The header must name what was asked for, and on the first read after start the data must hash to the segment root (and
 * again after an hour). What fails is quarantined: its index entry moves away, the place is remembered, it is never served, and
 * whoever owns the file is told, so that it is fetched again.
 *
 * **Page cache.** Segments are let go from it once synced or read (docs/decisions/0063): fresh pages for bulk data can cost more than its
 * hashing. Small files stay.
 *
 * **Space.** What is forgotten stays where it is until compaction (compaction.ts) has moved what still lives in its file to the end
 * of the log and removes the file. Moves, removals and quarantine change index entries one after the other, so that a segment that
 * is being forgotten is not brought back by a move.
 *
 * **Errors.** A full disk rejects the group with ERR_DISK_FULL, the end does not move, and one group a second is let through to find out
 * whether it has room again. A failed sync is final: nothing more is written until the process is started again (reliability.md 1).
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { assert, messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { formatSize, shortHash } from '../../../lib/base/units.ts'
import type { DiskFile } from '../../../lib/ports/disk.ts'
import type { KvOp } from '../../../lib/ports/kv.ts'
import type { LogStats, LogTrouble, SegmentLogOptions } from './log-options.ts'
import { OpenFiles } from './open-files.ts'
import { type DecodedHead, decodeHead, encodeHead, HEADER_BYTES, MAX_SIBLINGS, type Segment } from './record.ts'
import { recoverFile } from './recovery.ts'
import { FILE_HEADER_BYTES, fileHeader, fileName, fileNumber, scanHeads } from './segment-file.ts'
import {
  deadKey,
  deadOp,
  decodeLocation,
  decodePoint,
  encodeLocation,
  encodePoint,
  indexKey,
  LOG_HEAD_KEY,
  type Location,
  locationsOf,
  recordBytes
} from './segment-index.ts'
import { VerifiedPlaces } from './verified.ts'

export type { LeafOf, LogStats, LogTrouble, SegmentLogOptions } from './log-options.ts'

interface Pending {
  segment: Segment
  /** For a move: where it was. It is dropped when the index has another place by then. */
  from: Location | undefined
  key: string
  head: Uint8Array
  done: Promise<void>
  resolve: () => void
  reject: (err: unknown) => void
  /** Set when a move came too late. */
  dropped: boolean
}

/** A group that lies in a file. */
interface Written {
  number: number
  file: DiskFile
  start: number
  end: number
  bytes: number
  /** Written to find out whether there is room again. */
  probe: boolean
  group: { pending: Pending; at: Location }[]
}

const FILE_BYTES = 256 * 1024 * 1024
const GROUP_MS = 5
/** A group is written at once when it holds this much. */
const GROUP_BYTES = 4 * 1024 * 1024
/** What waits already is written together up to this much. */
const GROUP_MOST_BYTES = 8 * 1024 * 1024
/** Segments waiting for the disk; a caller that would exceed it waits (back-pressure). */
const PENDING_BYTES = 64 * 1024 * 1024
/** Records and groups from this size on do not stay in the page cache. */
const LET_GO_BYTES = 128 * 1024
const RETRY_FULL_MS = 1000
const RESERVE_BYTES = 64 * 1024 * 1024
/** The room is asked for again after so much was written, or so long. */
const ROOM_BYTES = 16 * 1024 * 1024
const ROOM_MS = 1000

/** The segment files of one node. One instance a directory. */
export class SegmentLog {
  readonly #o: SegmentLogOptions
  readonly #queue: Pending[] = []
  readonly #inFlight = new Map<string, Pending>()
  readonly #open: OpenFiles
  readonly #verified: VerifiedPlaces
  #waiters: (() => void)[] = []
  #queuedBytes = 0
  #pendingBytes = 0
  #files: number[] = []
  #active!: { number: number; file: DiskFile; end: number }
  #trouble: LogTrouble | undefined
  #retryAtMs = 0
  #room = { bytes: 0, untilMs: 0 }
  /** True from the first group until the queue is seen empty; set back in the same step, so that no segment is left waiting. */
  #writing = false
  #syncing = false
  /** Groups in the file but not synced, in order. */
  #written: Written[] = []
  #flushed: Promise<void> = Promise.resolve()
  #synced: Promise<void> = Promise.resolve()
  /** Never rejects. */
  #indexed: Promise<void> = Promise.resolve()
  /** Changes of index entries that exist already go one after the other. */
  #indexing: Promise<unknown> = Promise.resolve()
  #cancelTimer: (() => void) | undefined
  #closed = false
  readonly stats: LogStats = {
    files: 0,
    appended: 0,
    appendedBytes: 0,
    syncs: 0,
    quarantined: 0,
    moved: 0,
    removedFiles: 0,
    usedBytes: 0,
    recovered: 0,
    gaps: 0,
    cutBytes: 0
  }

  private constructor(options: SegmentLogOptions) {
    this.#o = options
    this.#verified = new VerifiedPlaces(options.clock)
    this.#open = new OpenFiles(options)
  }

  /** Opens (and if need be recovers) the log in `options.dir`. @throws {ZgError} of the disk. */
  static async open(options: SegmentLogOptions): Promise<SegmentLog> {
    const log = new SegmentLog(options)
    await options.disk.mkdir(options.dir)
    await log.#recover()
    return log
  }

  /** Why nothing can be written at the moment; undefined when all is well. */
  get trouble(): LogTrouble | undefined {
    return this.#trouble
  }

  /** With a full disk: looks whether it has room again, so that nobody has to be refused to find out. */
  async reconsider(): Promise<void> {
    if (this.#trouble?.kind !== 'full') return
    try {
      await this.#checkRoom(GROUP_BYTES, false)
    } catch {
      return
    }
    if (this.#trouble?.kind !== 'full') return
    this.#trouble = undefined
    this.#o.log.info('the disk has room again')
  }

  get hasRoom(): boolean {
    return this.#pendingBytes <= PENDING_BYTES || this.#closed
  }

  /** Resolves when a further segment may be offered without exceeding the memory bound. */
  async room(): Promise<void> {
    while (!this.hasRoom) {
      await new Promise<void>(resolve => this.#waiters.push(resolve))
    }
  }

  /** True while this segment waits for its sync. */
  writing(root: Uint8Array, index: number): boolean {
    return this.#inFlight.has(keyOf(root, index))
  }

  /** Where a segment lies, if it is held. */
  async locate(root: Uint8Array, index: number): Promise<Location | undefined> {
    return this.locateNow(root, index)
  }

  /** As {@link locate}, at once. */
  locateNow(root: Uint8Array, index: number): Location | undefined {
    const value = this.#o.kv.getSync(indexKey(root, index))
    return value === undefined ? undefined : decodeLocation(value)
  }

  /** Index entries of a file in order, from segment `first` on, below `end`. */
  locations(root: Uint8Array, first = 0, end = 0x1_0000_0000): AsyncIterable<[index: number, location: Location]> {
    return locationsOf(this.#o.kv, root, first, end)
  }

  /**
   * Stores a segment whose proof the caller has checked.
   * @returns 'stored' once it is on stable storage and indexed; 'known' when it already was.
   * @throws {ZgError} ERR_DISK_FULL, ERR_IO, ERR_STOPPED; then nothing may be assumed stored.
   */
  async append(segment: Segment): Promise<'stored' | 'known'> {
    const key = keyOf(segment.root, segment.index)
    const running = this.#inFlight.get(key)
    if (running !== undefined) {
      await running.done
      return 'known'
    }
    this.#refuseWhenTroubled()
    return this.#append(segment, key, undefined)
  }

  /**
   * Writes a segment again at the end of the log, as {@link append} does; compaction calls it.
   * @param from - where it lies now.
   * @returns false when it does not lie there any more.
   */
  async move(segment: Segment, from: Location): Promise<boolean> {
    const key = `${keyOf(segment.root, segment.index)} moved`
    if (this.#closed || this.#trouble?.kind === 'failed') this.#refuseWhenTroubled()
    return (await this.#append(segment, key, from)) === 'stored'
  }

  async #append(segment: Segment, key: string, from: Location | undefined): Promise<'stored' | 'known'> {
    const head = encodeHead(segment, segment.data.length)
    let resolve!: () => void
    let reject!: (err: unknown) => void
    const done = new Promise<void>((a, b) => {
      resolve = a
      reject = b
    })
    done.catch(() => {}) // callers get it below; a rejection before they look must not end the process
    const pending: Pending = { segment, from, key, head, done, resolve, reject, dropped: false }
    const bytes = head.length + segment.data.length
    this.#inFlight.set(key, pending)
    this.#pendingBytes += bytes
    try {
      if (from === undefined && this.locateNow(segment.root, segment.index) !== undefined) {
        resolve()
        return 'known'
      }
      this.#queue.push(pending)
      this.#queuedBytes += bytes
      this.#schedule()
      await done
      return pending.dropped ? 'known' : 'stored'
    } catch (err) {
      reject(err)
      throw err
    } finally {
      this.#inFlight.delete(key)
      this.#pendingBytes -= bytes
      const waiters = this.#waiters
      this.#waiters = []
      for (const w of waiters) w()
    }
  }

  /**
   * Reads a segment, verified (see above).
   * @param into - memory for the record, MAX_RECORD_BYTES or more; the data then may lie in it.
   * @returns undefined when it is not held, or was found damaged just now.
   */
  async read(root: Uint8Array, index: number, into?: Uint8Array): Promise<Segment | undefined> {
    for (let attempt = 0; attempt < 2; attempt++) {
      const at = await this.locate(root, index)
      if (at === undefined) return undefined
      const found = await this.#readAt(at, root, index, into)
      if (found !== undefined) return found
      // A file removed between index and read is not damage: look once more before believing it.
      const again = await this.locate(root, index)
      if (again !== undefined && again.file === at.file && again.offset === at.offset) {
        await this.#quarantine(root, index, at)
        return undefined
      }
    }
    return undefined
  }

  /**
   * Reads a segment from the disk and hashes it, whenever that was done last; a damaged one is quarantined. For the scrubber.
   * @returns bytes that were read; undefined when it is not held (any more).
   */
  async check(root: Uint8Array, index: number, into: Uint8Array): Promise<number | undefined> {
    const at = await this.locate(root, index)
    if (at === undefined) return undefined
    this.#verified.delete(at)
    const found = await this.read(root, index, into)
    return found === undefined ? undefined : HEADER_BYTES + 32 * at.siblings + at.dataSize
  }

  /** Header and proof alone, without the data. */
  async readHead(root: Uint8Array, index: number): Promise<DecodedHead | undefined> {
    const at = await this.locate(root, index)
    if (at === undefined) return undefined
    const file = await this.#open.get(at.file)
    const head = decodeHead(await file.read(at.offset, HEADER_BYTES + 32 * at.siblings))
    return head !== undefined && head.index === index && equalBytes(head.root, root) ? head : undefined
  }

  /**
   * Forgets all segments of a file. Files of the log in which nothing is left are removed; space inside others comes back only then.
   * @param extra - further operations for the same atomic batches; applied with the first one.
   * @param only - of these alone; by default of all.
   * @returns how many segments there were.
   */
  async forget(
    root: Uint8Array,
    extra: readonly KvOp[] = [],
    only: (index: number) => boolean = () => true
  ): Promise<number> {
    const dead = new Map<number, number>()
    const count = await this.#exclusive(async () => {
      let count = 0
      let ops: KvOp[] = [...extra]
      for await (const [index, at] of this.locations(root)) {
        if (!only(index)) continue
        ops.push({ del: indexKey(root, index) })
        dead.set(at.file, (dead.get(at.file) ?? 0) + recordBytes(at))
        count++
        if (ops.length >= 4096) {
          await this.#o.kv.batch(ops, { sync: true })
          ops = []
        }
      }
      for (const [file, bytes] of dead) ops.push(await deadOp(this.#o.kv, file, bytes))
      if (ops.length > 0) await this.#o.kv.batch(ops, { sync: true })
      return count
    })
    for (const file of dead.keys()) await this.#removeIfDead(file)
    return count
  }

  /** The files that nothing is written to any more, with the bytes in them that are forgotten. */
  async sealed(): Promise<{ number: number; bytes: number; deadBytes: number }[]> {
    const out = []
    for (const number of this.#files) {
      if (number === this.#active.number) continue
      const dead = await this.#o.kv.get(deadKey(number))
      const bytes = (await (await this.#open.get(number)).size()) - FILE_HEADER_BYTES
      out.push({ number, bytes, deadBytes: dead === undefined ? 0 : decodePoint(dead).offset })
    }
    return out
  }

  /** Bytes of the file that is being written, and those in it that are forgotten. */
  async active(): Promise<{ bytes: number; deadBytes: number }> {
    const dead = await this.#o.kv.get(deadKey(this.#active.number))
    return { bytes: this.#active.end, deadBytes: dead === undefined ? 0 : decodePoint(dead).offset }
  }

  /** Begins a new file now, so that the present one can be compacted. @throws {ZgError} as append. */
  async seal(): Promise<void> {
    while (this.#writing) await this.#flushed
    // A full disk is no reason: sealing is how room is made.
    if (this.#closed || this.#trouble?.kind === 'failed') this.#refuseWhenTroubled()
    this.#writing = true
    try {
      await this.#synced
      await this.#roll()
    } catch (err) {
      throw this.#fail(err)
    } finally {
      this.#writing = false
      if (this.#queue.length > 0) this.#startFlush()
    }
  }

  /** The heads of all records in a file, in order, damaged stretches left out; the data is not looked at. */
  async *heads(number: number): AsyncGenerator<{ head: DecodedHead; at: Location }> {
    const file = await this.#open.get(number)
    for await (const { offset, head } of scanHeads(file, FILE_HEADER_BYTES, await file.size())) {
      const { dataSize, leaf, proof } = head
      yield { head, at: { file: number, offset, dataSize, siblings: proof.path.length, leaf } }
    }
  }

  /**
   * Removes a file none of whose records the index names.
   * @returns false when one is still named.
   */
  async drop(number: number): Promise<boolean> {
    if (number === this.#active.number || !this.#files.includes(number)) return false
    for await (const { head, at } of this.heads(number)) {
      const now = await this.locate(head.root, head.index)
      if (now !== undefined && now.file === number && now.offset === at.offset) return false
    }
    await this.#remove(number)
    return true
  }

  /** Writes what is queued and closes all files. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    if (!this.#writing && this.#queue.length > 0) this.#startFlush()
    await this.#flushed
    await this.#synced
    await this.#indexing
    for (const w of this.#waiters) w()
    await this.#open.close()
  }

  #refuseWhenTroubled(): void {
    if (this.#closed) throw new ZgError('ERR_STOPPED', 'the segment log is closed')
    const t = this.#trouble
    if (t === undefined) return
    if (t.kind === 'failed') {
      throw new ZgError('ERR_IO', `the disk failed: ${t.message}`, {
        hint: 'check the disk, then start the node again'
      })
    }
    const now = this.#o.clock.monotonic()
    if (now < this.#retryAtMs) throw diskFull(t.message)
    this.#retryAtMs = now + RETRY_FULL_MS // this one goes through, to find out
  }

  #schedule(): void {
    if (this.#writing) return
    // While a sync is on, more company comes until it is over: a small group of its own would only cost one more.
    if (this.#syncing && this.#queuedBytes < GROUP_BYTES) return
    if (this.#queuedBytes >= GROUP_BYTES || this.#closed) {
      this.#cancelTimer?.()
      this.#cancelTimer = undefined
      this.#startFlush()
      return
    }
    this.#cancelTimer ??= this.#o.clock.after(this.#o.groupMs ?? GROUP_MS, () => {
      this.#cancelTimer = undefined
      if (!this.#writing && this.#queue.length > 0) this.#startFlush()
    })
  }

  #startFlush(): void {
    assert(!this.#writing, 'two groups at once')
    this.#writing = true
    this.#flushed = this.#writeAll()
  }

  async #writeAll(): Promise<void> {
    while (this.#queue.length > 0) {
      let bytes = 0
      let count = 0
      while (count < this.#queue.length && (count === 0 || bytes < GROUP_MOST_BYTES)) {
        const p = this.#queue[count++]!
        bytes += p.head.length + p.segment.data.length
      }
      const group = this.#queue.splice(0, count)
      this.#queuedBytes -= bytes
      try {
        await this.#write(group, bytes)
      } catch (err) {
        const told = this.#fail(err)
        for (const p of group) p.reject(told)
      }
      if (!this.#syncing && this.#written.length > 0) this.#synced = this.#syncAll()
    }
    this.#writing = false
  }

  /** Puts a group behind what is in the file. */
  async #write(group: Pending[], bytes: number): Promise<void> {
    if (this.#trouble?.kind === 'failed') this.#refuseWhenTroubled()
    await this.#checkRoom(
      bytes,
      group.every(p => p.from !== undefined)
    )
    if (this.#active.end >= (this.#o.fileBytes ?? FILE_BYTES)) {
      // The file before is whole and synced when the next one begins.
      await this.#synced
      await this.#roll()
    }
    const { number, file, end } = this.#active
    const buffers: Uint8Array[] = []
    const placed: Written['group'] = []
    let at = end
    for (const pending of group) {
      const { segment, head } = pending
      buffers.push(head, segment.data)
      const { leaf, proof, data } = segment
      const place = { file: number, offset: at, dataSize: data.length, siblings: proof.path.length, leaf }
      placed.push({ pending, at: place })
      at += head.length + data.length
    }
    if (bytes >= LET_GO_BYTES && file.writeCold !== undefined) await file.writeCold(end, ...buffers)
    else await file.write(end, ...buffers)
    this.#active.end = at
    this.stats.usedBytes += bytes
    this.#written.push({ number, file, start: end, end: at, bytes, group: placed, probe: this.#trouble !== undefined })
  }

  /** Syncs what is written, until nothing is, and indexes it: the index of one sync is written while the next one runs. */
  async #syncAll(): Promise<void> {
    this.#syncing = true
    while (this.#written.length > 0) {
      const groups = this.#written
      this.#written = []
      const refuse = (err: unknown): void => {
        const told = this.#fail(err)
        for (const g of groups) for (const { pending } of g.group) pending.reject(told)
      }
      try {
        await this.#sync(groups.at(-1)!.file)
      } catch (err) {
        refuse(err)
        continue
      }
      // In the order of the log: whoever is answered lies before the point up to which the index is whole.
      this.#indexed = this.#indexed
        .then(() => this.#index(groups))
        .then(() => {
          for (const g of groups) for (const { pending } of g.group) pending.resolve()
        }, refuse)
      // Little segments find company meanwhile: a sync each time would cost more than it gains.
      if (groups.reduce((sum, g) => sum + g.bytes, 0) < LET_GO_BYTES) await this.#indexed
    }
    this.#syncing = false
    // All that came during the sync is one group.
    if (!this.#writing && this.#queue.length > 0) this.#startFlush()
    await this.#indexed
  }

  /** Puts synced groups into the index. */
  async #index(groups: readonly Written[]): Promise<void> {
    const last = groups.at(-1)!
    const placed = groups.flatMap(g => g.group)
    const head: KvOp = { put: LOG_HEAD_KEY, value: encodePoint(last.number, last.end) }
    if (placed.some(p => p.pending.from !== undefined)) await this.#exclusive(() => this.#indexMoves(placed, head))
    else {
      const ops = placed.map(({ pending, at }): KvOp => {
        return { put: indexKey(pending.segment.root, pending.segment.index), value: encodeLocation(at) }
      })
      await this.#o.kv.batch([...ops, head])
    }
    // What was just hashed by the caller and written by us needs no second look on its first read.
    for (const { at } of placed) this.#verified.add(at)
    for (const g of groups) if (g.bytes >= LET_GO_BYTES) g.file.letGo?.(g.start, g.end - g.start)
    this.stats.appended += placed.length
    for (const g of groups) this.stats.appendedBytes += g.bytes
    if (this.#trouble?.kind === 'full' && groups.some(g => g.probe)) {
      this.#trouble = undefined
      this.#o.log.info('the disk has room again')
    }
  }

  async #indexMoves(placed: Written['group'], head: KvOp): Promise<void> {
    const ops: KvOp[] = []
    const dead = new Map<number, number>()
    for (const { pending, at } of placed) {
      const { segment, from } = pending
      if (from !== undefined) {
        const now = await this.locate(segment.root, segment.index)
        pending.dropped = now === undefined || now.file !== from.file || now.offset !== from.offset
        const gone = pending.dropped ? at : from
        dead.set(gone.file, (dead.get(gone.file) ?? 0) + recordBytes(gone))
        if (pending.dropped) continue
        this.stats.moved++
      }
      ops.push({ put: indexKey(segment.root, segment.index), value: encodeLocation(at) })
    }
    for (const [file, bytes] of dead) ops.push(await deadOp(this.#o.kv, file, bytes))
    await this.#o.kv.batch([...ops, head])
  }

  #exclusive<T>(fn: () => Promise<T>): Promise<T> {
    const run = this.#indexing.then(fn)
    this.#indexing = run.catch(() => {})
    return run
  }

  /** @throws {ZgError} ERR_DISK_FULL while there is still room for the index to be closed in order. */
  async #checkRoom(bytes: number, moving: boolean): Promise<void> {
    const { freeBytes, clock, reserveBytes = RESERVE_BYTES, quotaBytes } = this.#o
    // What compaction moves makes room in the end: it may go beyond the quota for as long.
    if (!moving && quotaBytes !== undefined && this.stats.usedBytes + bytes > quotaBytes) {
      throw new ZgError('ERR_DISK_FULL', `the quota of ${formatSize(quotaBytes)} is used up`)
    }
    if (freeBytes === undefined) return
    this.#room.bytes -= bytes
    if (this.#room.bytes > 0 && clock.monotonic() < this.#room.untilMs && this.#trouble === undefined) return
    const free = await freeBytes()
    this.#room = { bytes: ROOM_BYTES, untilMs: clock.monotonic() + ROOM_MS }
    if (free < reserveBytes + bytes + ROOM_BYTES) {
      throw new ZgError('ERR_DISK_FULL', `${formatSize(free)} left, ${formatSize(reserveBytes)} are kept free`)
    }
  }

  #fail(err: unknown): unknown {
    if (this.#trouble?.kind === 'failed') return err
    if (err instanceof ZgError && err.code === 'ERR_DISK_FULL') {
      if (this.#trouble === undefined) this.#o.log.error('disk full, serving reads only', { error: messageOf(err) })
      this.#trouble = { kind: 'full', message: messageOf(err) }
      this.#retryAtMs = this.#o.clock.monotonic() + RETRY_FULL_MS
      return diskFull(messageOf(err))
    }
    this.#o.log.error('the disk failed, serving reads only until restart', { error: messageOf(err) })
    this.#trouble = { kind: 'failed', message: messageOf(err) }
    return err instanceof ZgError ? err : new ZgError('ERR_IO', messageOf(err), { cause: err })
  }

  async #sync(file: DiskFile): Promise<void> {
    try {
      await file.sync()
      this.stats.syncs++
    } catch (err) {
      // After a failed sync the kernel may have dropped the dirty pages: neither this file nor a retry can be trusted.
      this.#trouble = { kind: 'failed', message: messageOf(err) }
      this.#o.log.error('sync failed, serving reads only until restart', { error: messageOf(err) })
      throw new ZgError('ERR_IO', `cannot sync: ${messageOf(err)}`, { cause: err })
    }
  }

  async #roll(): Promise<void> {
    const number = (this.#files.at(-1) ?? 0) + 1
    const path = `${this.#o.dir}/${fileName(number)}`
    const file = await this.#o.disk.open(path, 'new')
    try {
      await file.write(0, fileHeader(number))
      await this.#sync(file)
      await this.#o.disk.syncDir(this.#o.dir)
    } catch (err) {
      // A file that may or may not be there after a crash must not be appended to; leave no half-made one behind.
      await file.close().catch(() => {})
      await this.#o.disk.remove(path).catch(() => {})
      throw err
    }
    this.#files.push(number)
    this.stats.files = this.#files.length
    this.stats.usedBytes += FILE_HEADER_BYTES
    this.#open.set(number, Promise.resolve(file))
    this.#active = { number, file, end: FILE_HEADER_BYTES }
    this.#open.pinned = number
  }

  async #recover(): Promise<void> {
    const { disk, kv, dir, log } = this.#o
    const numbers: number[] = []
    for (const name of await disk.list(dir)) {
      const n = fileNumber(name)
      if (n !== undefined) numbers.push(n)
    }
    this.#files = numbers.sort((a, b) => a - b)
    const point = await kv.get(LOG_HEAD_KEY)
    const from = point === undefined ? { file: 0, offset: 0 } : decodePoint(point)
    if (from.file > 0 && !numbers.includes(from.file)) {
      log.error('a segment file is missing; its segments will be fetched again', { file: fileName(from.file) })
    }
    let last: { number: number; file: DiskFile; end: number } | undefined
    for (const number of numbers) {
      if (number < from.file) continue
      const start = Math.max(FILE_HEADER_BYTES, number === from.file ? from.offset : 0)
      const file = await this.#open.get(number)
      const o = { ...this.#o, stats: this.stats, sync: (f: DiskFile) => this.#sync(f) }
      last = { number, file, end: await recoverFile(o, file, number, start, number === numbers.at(-1)) }
    }
    this.stats.files = this.#files.length
    for (const number of numbers) this.stats.usedBytes += await (await this.#open.get(number)).size()
    const highest = Math.max(numbers.at(-1) ?? 0, from.file)
    if (last !== undefined && last.number === highest) {
      this.#active = last
      this.#open.pinned = last.number
    } else {
      if (highest > (this.#files.at(-1) ?? 0)) this.#files.push(highest) // keep counting above names that are gone
      await this.#roll()
      this.#files = this.#files.filter(n => numbers.includes(n) || n === this.#active.number)
    }
    if (this.stats.recovered + this.stats.gaps + this.stats.cutBytes > 0) {
      const { recovered, gaps, cutBytes } = this.stats
      log.info('segment log recovered', { recovered, gaps, cut_bytes: cutBytes })
    }
  }

  async #readAt(
    at: Location,
    root: Uint8Array,
    index: number,
    into: Uint8Array | undefined
  ): Promise<Segment | undefined> {
    const headBytes = HEADER_BYTES + 32 * Math.min(at.siblings, MAX_SIBLINGS)
    let bytes: Uint8Array
    try {
      const file = await this.#open.get(at.file)
      if (into === undefined || file.readInto === undefined) {
        bytes = await file.read(at.offset, headBytes + at.dataSize)
        if (bytes.length >= LET_GO_BYTES) file.letGo?.(at.offset, bytes.length)
      } else {
        // A plain array over it: a Buffer's slice would share the memory.
        const target = new Uint8Array(into.buffer, into.byteOffset, headBytes + at.dataSize)
        const cold = target.length >= LET_GO_BYTES && file.readCold !== undefined
        const got = await (cold ? file.readCold!(at.offset, target) : file.readInto(at.offset, target))
        bytes = target.subarray(0, got)
      }
    } catch (err) {
      if (err instanceof ZgError && err.code === 'ERR_NOT_FOUND') return undefined
      throw err
    }
    if (bytes.length !== headBytes + at.dataSize) return undefined
    const head = decodeHead(bytes)
    if (head === undefined || head.headBytes !== headBytes || head.dataSize !== at.dataSize) return undefined
    if (head.index !== index || !equalBytes(head.root, root) || !equalBytes(head.leaf, at.leaf)) return undefined
    const data = bytes.subarray(headBytes)
    if (!this.#verified.has(at)) {
      const leaf = await this.#o.leafOf(data, index, head.fileSize)
      if (!equalBytes(leaf, head.leaf)) return undefined
      this.#verified.add(at)
    }
    return { root, index, fileSize: head.fileSize, leaf: head.leaf, proof: head.proof, data }
  }

  async #quarantine(root: Uint8Array, index: number, at: Location): Promise<void> {
    const name = `${shortHash(toHex(root))}/${index}`
    this.#o.log.error('damaged segment quarantined', { segment: name, file: fileName(at.file), offset: at.offset })
    const key = indexKey(root, index)
    const remembered = Uint8Array.from(key)
    remembered[0] = 0x71 // 'q'
    const quarantined = await this.#exclusive(async () => {
      const now = await this.locate(root, index)
      if (now === undefined || now.file !== at.file || now.offset !== at.offset) return false
      const dead = await deadOp(this.#o.kv, at.file, recordBytes(at))
      const also = this.#o.quarantineOps?.(root) ?? []
      await this.#o.kv.batch([{ del: key }, { put: remembered, value: encodeLocation(at) }, dead, ...also], {
        sync: true
      })
      return true
    })
    if (!quarantined) return
    this.stats.quarantined++
    this.#verified.delete(at)
    this.#o.onQuarantine?.(root, index)
  }

  async #removeIfDead(number: number): Promise<void> {
    if (number === this.#active.number || !this.#files.includes(number)) return
    const dead = await this.#o.kv.get(deadKey(number))
    const file = await this.#open.get(number)
    if (dead === undefined || decodePoint(dead).offset < (await file.size()) - FILE_HEADER_BYTES) return
    await this.#remove(number)
  }

  async #remove(number: number): Promise<void> {
    // The index entries that point elsewhere must not be undone by a power loss once the file is gone.
    await this.#o.kv.batch([{ del: deadKey(number) }], { sync: true })
    const file = await this.#open.get(number)
    const bytes = await file.size()
    this.#open.putAway(number)
    this.#files = this.#files.filter(n => n !== number)
    await this.#o.disk.remove(`${this.#o.dir}/${fileName(number)}`)
    await this.#o.disk.syncDir(this.#o.dir)
    this.stats.files = this.#files.length
    this.stats.usedBytes -= bytes
    this.stats.removedFiles++
  }
}

function diskFull(message: string): ZgError {
  return new ZgError('ERR_DISK_FULL', `the disk of the node is full: ${message}`, {
    hint: 'free some space; the node takes data again by itself'
  })
}

function keyOf(root: Uint8Array, index: number): string {
  return `${Buffer.from(root.buffer, root.byteOffset, root.byteLength).toString('latin1')}${index}`
}
