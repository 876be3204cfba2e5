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
 * **Group commit.** A segment waits at most 5 ms for company; then the whole group is written in one call and synced once, its index
 * entries and the new `l` go to the key-value store in one batch, and only then are the callers answered. Groups form by themselves
 * under load: what arrives during a sync is the next group. The index batch itself is not synced: the log is the truth, the index
 * can always be made again from `l` onwards.
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
 * **Errors.** A full disk rejects the group with ERR_DISK_FULL, the end does not move, and one group a second is let through to find out
 * whether it has room again. A failed sync is final: nothing more is written until the process is started again (reliability.md 1).
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { assert, messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { formatSize, shortHash } from '../../../lib/base/units.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Disk, DiskFile } from '../../../lib/ports/disk.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'
import { type DecodedHead, decodeHead, encodeHead, HEADER_BYTES, MAX_SIBLINGS, type Segment } from './record.ts'
import { FILE_HEADER_BYTES, fileHeader, fileName, fileNumber, scanRecords } from './segment-file.ts'
import { decodeLocation, encodeLocation, indexKey, LOG_HEAD_KEY, type Location, locationsOf } from './segment-index.ts'

/** Computes the segment root of `data`, which is segment `index` of a file of `fileSize` bytes. */
export type LeafOf = (data: Uint8Array, index: number, fileSize: number) => Promise<Uint8Array>

export interface SegmentLogOptions {
  disk: Disk
  kv: KvStore
  clock: Clock
  log: Logger
  /** Directory of the segment files. */
  dir: string
  leafOf: LeafOf
  /** A file is sealed once it is this long. */
  fileBytes?: number
  /** How long a segment waits for company. */
  groupMs?: number
  /** Room on the file system, if it can be asked. */
  freeBytes?: () => Promise<number>
  /** Left free for the key-value store, which after a failed write works only after a restart. */
  reserveBytes?: number
  /** Called after a segment was found damaged and taken out of the index. */
  onQuarantine?: (root: Uint8Array, index: number) => void
}

export interface LogTrouble {
  kind: 'full' | 'failed'
  message: string
}

export interface LogStats {
  files: number
  /** Records appended since start, and their data bytes. */
  appended: number
  appendedBytes: number
  syncs: number
  quarantined: number
  /** Of the recovery at start. */
  recovered: number
  gaps: number
  cutBytes: number
}

interface Pending {
  segment: Segment
  key: string
  head: Uint8Array
  done: Promise<void>
  resolve: () => void
  reject: (err: unknown) => void
}

const FILE_BYTES = 256 * 1024 * 1024
const GROUP_MS = 5
/** A group is written at once when it holds this much. */
const GROUP_BYTES = 8 * 1024 * 1024
/** Segments waiting for the disk; a caller that would exceed it waits (back-pressure). */
const PENDING_BYTES = 64 * 1024 * 1024
const OPEN_FILES = 64
const RETRY_FULL_MS = 1000
const RESERVE_BYTES = 64 * 1024 * 1024
/** The room is asked for again after so much was written, or so long. */
const ROOM_BYTES = 16 * 1024 * 1024
const ROOM_MS = 1000
const VERIFY_AGAIN_MS = 3_600_000
/** Places remembered as verified: 64 GiB of segments in some 20 MB of memory. */
const VERIFIED_PLACES = 262_144

/** The segment files of one node. One instance a directory. */
export class SegmentLog {
  readonly #o: SegmentLogOptions
  readonly #queue: Pending[] = []
  readonly #inFlight = new Map<string, Pending>()
  readonly #open = new Map<number, Promise<DiskFile>>()
  readonly #verified = new Map<number, number>()
  #waiters: (() => void)[] = []
  #queuedBytes = 0
  #pendingBytes = 0
  #files: number[] = []
  #active!: { number: number; file: DiskFile; end: number }
  #trouble: LogTrouble | undefined
  #retryAtMs = 0
  #room = { bytes: 0, untilMs: 0 }
  /** True from the first group until the queue is seen empty; set back in the same step, so that no segment is left waiting. */
  #busy = false
  #flushed: Promise<void> = Promise.resolve()
  #cancelTimer: (() => void) | undefined
  #closed = false
  readonly stats: LogStats = {
    files: 0,
    appended: 0,
    appendedBytes: 0,
    syncs: 0,
    quarantined: 0,
    recovered: 0,
    gaps: 0,
    cutBytes: 0
  }

  private constructor(options: SegmentLogOptions) {
    this.#o = options
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

  /** Resolves when a further segment may be offered without exceeding the memory bound. */
  async room(): Promise<void> {
    while (this.#pendingBytes > PENDING_BYTES && !this.#closed) {
      await new Promise<void>(resolve => this.#waiters.push(resolve))
    }
  }

  /** True while this segment waits for its sync. */
  writing(root: Uint8Array, index: number): boolean {
    return this.#inFlight.has(keyOf(root, index))
  }

  /** Where a segment lies, if it is held. */
  async locate(root: Uint8Array, index: number): Promise<Location | undefined> {
    const value = await this.#o.kv.get(indexKey(root, index))
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
    const head = encodeHead(segment, segment.data.length)
    let resolve!: () => void
    let reject!: (err: unknown) => void
    const done = new Promise<void>((a, b) => {
      resolve = a
      reject = b
    })
    done.catch(() => {}) // callers get it below; a rejection before they look must not end the process
    const pending: Pending = { segment, key, head, done, resolve, reject }
    const bytes = head.length + segment.data.length
    this.#inFlight.set(key, pending)
    this.#pendingBytes += bytes
    try {
      if ((await this.locate(segment.root, segment.index)) !== undefined) {
        resolve()
        return 'known'
      }
      this.#queue.push(pending)
      this.#queuedBytes += bytes
      this.#schedule()
      await done
      return 'stored'
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
   * @returns undefined when it is not held, or was found damaged just now.
   */
  async read(root: Uint8Array, index: number): Promise<Segment | undefined> {
    for (let attempt = 0; attempt < 2; attempt++) {
      const at = await this.locate(root, index)
      if (at === undefined) return undefined
      const found = await this.#readAt(at, root, index)
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

  /** Header and proof alone, without the data. */
  async readHead(root: Uint8Array, index: number): Promise<DecodedHead | undefined> {
    const at = await this.locate(root, index)
    if (at === undefined) return undefined
    const file = await this.#handle(at.file)
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
    let count = 0
    let ops: KvOp[] = [...extra]
    const dead = new Map<number, number>()
    for await (const [index, at] of this.locations(root)) {
      if (!only(index)) continue
      ops.push({ del: indexKey(root, index) })
      dead.set(at.file, (dead.get(at.file) ?? 0) + HEADER_BYTES + 32 * at.siblings + at.dataSize)
      count++
      if (ops.length >= 4096) {
        await this.#o.kv.batch(ops, { sync: true })
        ops = []
      }
    }
    for (const [file, bytes] of dead) ops.push(await this.#addDead(file, bytes))
    if (ops.length > 0) await this.#o.kv.batch(ops, { sync: true })
    for (const file of dead.keys()) await this.#removeIfDead(file)
    return count
  }

  /** Writes what is queued and closes all files. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    if (!this.#busy && this.#queue.length > 0) this.#startFlush()
    await this.#flushed
    for (const w of this.#waiters) w()
    for (const file of this.#open.values()) await (await file).close().catch(() => {})
    this.#open.clear()
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
    if (this.#busy) return
    if (this.#queuedBytes >= GROUP_BYTES || this.#closed) {
      this.#cancelTimer?.()
      this.#cancelTimer = undefined
      this.#startFlush()
      return
    }
    this.#cancelTimer ??= this.#o.clock.after(this.#o.groupMs ?? GROUP_MS, () => {
      this.#cancelTimer = undefined
      if (!this.#busy) this.#startFlush()
    })
  }

  #startFlush(): void {
    assert(!this.#busy, 'two groups at once')
    this.#busy = true
    this.#flushed = this.#flushAll()
  }

  async #flushAll(): Promise<void> {
    while (this.#queue.length > 0) {
      let bytes = 0
      let count = 0
      while (count < this.#queue.length && (count === 0 || bytes < GROUP_BYTES)) {
        const p = this.#queue[count++]!
        bytes += p.head.length + p.segment.data.length
      }
      const group = this.#queue.splice(0, count)
      this.#queuedBytes -= bytes
      try {
        await this.#commit(group, bytes)
        for (const p of group) p.resolve()
      } catch (err) {
        for (const p of group) p.reject(err)
      }
    }
    this.#busy = false
  }

  async #commit(group: Pending[], bytes: number): Promise<void> {
    if (this.#trouble?.kind === 'failed') this.#refuseWhenTroubled()
    try {
      await this.#checkRoom(bytes)
      if (this.#active.end >= (this.#o.fileBytes ?? FILE_BYTES)) await this.#roll()
      const { number, file, end } = this.#active
      const buffers: Uint8Array[] = []
      const ops: KvOp[] = []
      let at = end
      for (const { segment, head } of group) {
        buffers.push(head, segment.data)
        const location: Location = {
          file: number,
          offset: at,
          dataSize: segment.data.length,
          siblings: segment.proof.path.length,
          leaf: segment.leaf
        }
        ops.push({ put: indexKey(segment.root, segment.index), value: encodeLocation(location) })
        at += head.length + segment.data.length
      }
      await file.write(end, ...buffers)
      await this.#sync(file)
      ops.push({ put: LOG_HEAD_KEY, value: encodePoint(number, at) })
      await this.#o.kv.batch(ops)
      // What was just hashed by the caller and written by us needs no second look on its first read.
      for (const op of ops) if ('put' in op && op.put !== LOG_HEAD_KEY) this.#markVerified(decodeLocation(op.value))
      this.#active.end = at
      this.stats.appended += group.length
      this.stats.appendedBytes += bytes
      if (this.#trouble !== undefined) {
        this.#trouble = undefined
        this.#o.log.info('the disk has room again')
      }
    } catch (err) {
      throw this.#fail(err)
    }
  }

  /** @throws {ZgError} ERR_DISK_FULL while there is still room for the index to be closed in order. */
  async #checkRoom(bytes: number): Promise<void> {
    const { freeBytes, clock, reserveBytes = RESERVE_BYTES } = this.#o
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
    this.#open.set(number, Promise.resolve(file))
    this.#active = { number, file, end: FILE_HEADER_BYTES }
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
      last = await this.#recoverFile(number, start, number === numbers.at(-1))
    }
    this.stats.files = this.#files.length
    const highest = Math.max(numbers.at(-1) ?? 0, from.file)
    if (last !== undefined && last.number === highest) this.#active = last
    else {
      if (highest > (this.#files.at(-1) ?? 0)) this.#files.push(highest) // keep counting above names that are gone
      await this.#roll()
      this.#files = this.#files.filter(n => numbers.includes(n) || n === this.#active.number)
    }
    if (this.stats.recovered + this.stats.gaps + this.stats.cutBytes > 0) {
      const { recovered, gaps, cutBytes } = this.stats
      log.info('segment log recovered', { recovered, gaps, cut_bytes: cutBytes })
    }
  }

  async #recoverFile(number: number, start: number, isLast: boolean) {
    const { kv, leafOf, log } = this.#o
    const file = await this.#handle(number)
    const size = await file.size()
    let end = Math.min(start, size)
    let ops: KvOp[] = []
    let synced = false
    for await (const { offset, head, data, gapBefore } of scanRecords(file, start, size, leafOf)) {
      if (!synced) {
        await this.#sync(file)
        synced = true
      }
      if (gapBefore > 0) {
        this.stats.gaps++
        log.warn('damaged stretch in a segment file skipped', { file: fileName(number), offset: end, bytes: gapBefore })
      }
      end = offset + head.headBytes + data.length
      this.stats.recovered++
      const key = indexKey(head.root, head.index)
      const value: Location = {
        file: number,
        offset,
        dataSize: data.length,
        siblings: head.proof.path.length,
        leaf: head.leaf
      }
      if ((await kv.get(key)) === undefined) ops.push({ put: key, value: encodeLocation(value) })
      if (ops.length >= 512) {
        await kv.batch([...ops, { put: LOG_HEAD_KEY, value: encodePoint(number, end) }])
        ops = []
      }
    }
    end = Math.max(end, FILE_HEADER_BYTES)
    if (isLast && size !== end) {
      if (size > end) this.stats.cutBytes += size - end
      await file.truncate(end)
      if (size < FILE_HEADER_BYTES) await file.write(0, fileHeader(number))
      await this.#sync(file)
    }
    // The name itself may have been made just before the crash.
    if (isLast) await this.#o.disk.syncDir(this.#o.dir)
    await kv.batch([...ops, { put: LOG_HEAD_KEY, value: encodePoint(number, end) }])
    return { number, file, end }
  }

  async #readAt(at: Location, root: Uint8Array, index: number): Promise<Segment | undefined> {
    const headBytes = HEADER_BYTES + 32 * Math.min(at.siblings, MAX_SIBLINGS)
    let bytes: Uint8Array
    try {
      bytes = await (await this.#handle(at.file)).read(at.offset, headBytes + at.dataSize)
    } catch (err) {
      if (err instanceof ZgError && err.code === 'ERR_NOT_FOUND') return undefined
      throw err
    }
    if (bytes.length !== headBytes + at.dataSize) return undefined
    const head = decodeHead(bytes)
    if (head === undefined || head.headBytes !== headBytes || head.dataSize !== at.dataSize) return undefined
    if (head.index !== index || !equalBytes(head.root, root) || !equalBytes(head.leaf, at.leaf)) return undefined
    const data = bytes.subarray(headBytes)
    if (!this.#isVerified(at)) {
      const leaf = await this.#o.leafOf(data, index, head.fileSize)
      if (!equalBytes(leaf, head.leaf)) return undefined
      this.#markVerified(at)
    }
    return { root, index, fileSize: head.fileSize, leaf: head.leaf, proof: head.proof, data }
  }

  async #quarantine(root: Uint8Array, index: number, at: Location): Promise<void> {
    this.stats.quarantined++
    const name = `${shortHash(toHex(root))}/${index}`
    this.#o.log.error('damaged segment quarantined', { segment: name, file: fileName(at.file), offset: at.offset })
    const key = indexKey(root, index)
    const remembered = Uint8Array.from(key)
    remembered[0] = 0x71 // 'q'
    await this.#o.kv.batch([{ del: key }, { put: remembered, value: encodeLocation(at) }], { sync: true })
    this.#verified.delete(placeOf(at))
    this.#o.onQuarantine?.(root, index)
  }

  #isVerified(at: Location): boolean {
    const when = this.#verified.get(placeOf(at))
    return when !== undefined && this.#o.clock.monotonic() - when < VERIFY_AGAIN_MS
  }

  #markVerified(at: Location): void {
    if (this.#verified.size >= VERIFIED_PLACES) {
      const oldest = this.#verified.keys().next()
      if (!oldest.done) this.#verified.delete(oldest.value)
    }
    this.#verified.delete(placeOf(at))
    this.#verified.set(placeOf(at), this.#o.clock.monotonic())
  }

  /** An open file, kept among the last used ones. */
  #handle(number: number): Promise<DiskFile> {
    const kept = this.#open.get(number)
    if (kept !== undefined) {
      this.#open.delete(number)
      this.#open.set(number, kept)
      return kept
    }
    const opened = this.#o.disk.open(`${this.#o.dir}/${fileName(number)}`, 'open')
    this.#open.set(number, opened)
    opened.catch(() => this.#open.delete(number))
    if (this.#open.size > OPEN_FILES) {
      for (const [n, file] of this.#open) {
        if (n === number || n === this.#active?.number) continue
        this.#open.delete(n)
        // Closed a little later: a read on it may be under way.
        this.#o.clock.after(10_000, () => void file.then(f => f.close()).catch(() => {}))
        break
      }
    }
    return opened
  }

  async #addDead(file: number, bytes: number): Promise<KvOp> {
    const key = deadKey(file)
    const old = await this.#o.kv.get(key)
    const total = (old === undefined ? 0 : decodePoint(old).offset) + bytes
    return { put: key, value: encodePoint(file, total) }
  }

  async #removeIfDead(number: number): Promise<void> {
    if (number === this.#active.number) return
    const dead = await this.#o.kv.get(deadKey(number))
    const file = await this.#handle(number)
    if (dead === undefined || decodePoint(dead).offset < (await file.size()) - FILE_HEADER_BYTES) return
    this.#open.delete(number)
    await file.close()
    await this.#o.disk.remove(`${this.#o.dir}/${fileName(number)}`)
    await this.#o.disk.syncDir(this.#o.dir)
    await this.#o.kv.batch([{ del: deadKey(number) }])
    this.#files = this.#files.filter(n => n !== number)
    this.stats.files = this.#files.length
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

/** One number for a place in the log: files stay far below 2 GiB, and records start at multiples of 8. */
function placeOf(at: Location): number {
  return at.file * 0x1000_0000 + at.offset / 8
}

function deadKey(file: number): Uint8Array {
  const key = new Uint8Array(5)
  key[0] = 0x64 // 'd'
  new DataView(key.buffer).setUint32(1, file)
  return key
}

function encodePoint(file: number, offset: number): Uint8Array {
  const out = new Uint8Array(12)
  const v = new DataView(out.buffer)
  v.setUint32(0, file)
  v.setBigUint64(4, BigInt(offset))
  return out
}

function decodePoint(value: Uint8Array): { file: number; offset: number } {
  if (value.length !== 12) throw new ZgError('ERR_CORRUPT', 'bad position of the segment log in the index')
  const v = new DataView(value.buffer, value.byteOffset, value.byteLength)
  return { file: v.getUint32(0), offset: Number(v.getBigUint64(4)) }
}
