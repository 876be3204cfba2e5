/**
 * What a signer keeps: shares appended to segment files, `e<epoch>-<number>.seg`, which are deleted as wholes when their epoch has
 * left the window. A share is acknowledged after fsync, never before; shares that arrive together share one. The index is in
 * memory and rebuilt from the files at start, where a torn tail (power loss within an append) is cut off.
 *
 *     append ─► queue ─► write to the epoch's open segment ─► sync ─► index ─► acknowledged
 */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { BlobId } from '../../../lib/clients/da/abi.ts'
import type { Disk, DiskFile } from '../../../lib/ports/disk.ts'
import {
  decodeShare,
  encodeShare,
  ID_BYTES,
  recordId,
  recordIntact,
  recordLength,
  type StoredShare
} from './line-record.ts'

export interface LineStoreOptions {
  /** A segment beyond this size takes no further share. */
  segmentBytes?: number
}

interface Segment {
  name: string
  epoch: number
  number: number
  size: number
  /** Open for appends; undefined once it takes no more. */
  file: DiskFile | undefined
}

interface Place {
  segment: Segment
  offset: number
  length: number
}

interface Waiting {
  share: StoredShare
  resolve: () => void
  reject: (err: unknown) => void
}

/** A segment takes no further share beyond this. */
const SEGMENT_BYTES = 256 * 1024 * 1024
/** Shares that wait to be written: more than the sign calls that a node takes at once. */
const QUEUE_MAX = 256

export class LineStore {
  readonly #disk: Disk
  readonly #dir: string
  readonly #segmentBytes: number
  readonly #index = new Map<string, Place>()
  readonly #segments = new Map<string, Segment>()
  #waiting: Waiting[] = []
  #writing: Promise<void> | undefined
  #closed = false

  private constructor(disk: Disk, dir: string, opts: LineStoreOptions) {
    this.#disk = disk
    this.#dir = dir
    this.#segmentBytes = opts.segmentBytes ?? SEGMENT_BYTES
  }

  /** Opens (and on first use creates) the store. @throws {ZgError} ERR_PERMISSION, ERR_IO. */
  static async open(disk: Disk, dir: string, opts: LineStoreOptions = {}): Promise<LineStore> {
    const store = new LineStore(disk, dir, opts)
    await disk.mkdir(dir)
    const segments = (await disk.list(dir)).map(parseName).filter(s => s !== undefined)
    segments.sort((a, b) => a.epoch - b.epoch || a.number - b.number)
    for (const [i, segment] of segments.entries()) {
      await store.#load(segment, segments[i + 1]?.epoch !== segment.epoch)
    }
    return store
  }

  /** Shares that are kept. */
  get count(): number {
    return this.#index.size
  }

  /** On disk. */
  get sizeBytes(): number {
    let sum = 0
    for (const s of this.#segments.values()) sum += s.size
    return sum
  }

  has(id: BlobId): boolean {
    return this.#index.has(keyOf(id))
  }

  /** @throws {ZgError} ERR_CORRUPT when it is there but damaged. */
  async get(id: BlobId): Promise<StoredShare | undefined> {
    const place = this.#index.get(keyOf(id))
    if (place === undefined) return undefined
    const { segment, offset, length } = place
    const file = segment.file ?? (await this.#disk.open(`${this.#dir}/${segment.name}`, 'open'))
    try {
      return decodeShare(await file.read(offset, length))
    } finally {
      if (file !== segment.file) await file.close()
    }
  }

  /** Gives up a damaged share, so that it can be stored anew. */
  forget(id: BlobId): void {
    this.#index.delete(keyOf(id))
  }

  /**
   * Stores a share; it is on stable storage when this returns. One that is there already is not stored again.
   * @throws {ZgError} ERR_DISK_FULL, ERR_IO: then nothing was promised. ERR_UNAVAILABLE when too many wait.
   */
  append(share: StoredShare): Promise<void> {
    if (this.#closed) return Promise.reject(new ZgError('ERR_STOPPED', 'the store is closed'))
    if (this.has(share.id)) return Promise.resolve()
    if (this.#waiting.length >= QUEUE_MAX)
      return Promise.reject(new ZgError('ERR_UNAVAILABLE', 'too many shares wait to be stored'))
    return new Promise((resolve, reject) => {
      this.#waiting.push({ share, resolve, reject })
      this.#writing ??= this.#drain()
    })
  }

  /** Forgets all epochs below. @returns the number of segments removed. */
  async prune(beforeEpoch: number): Promise<number> {
    await this.#writing
    const gone = [...this.#segments.values()].filter(s => s.epoch < beforeEpoch)
    if (gone.length === 0) return 0
    for (const [key, { segment }] of this.#index) if (segment.epoch < beforeEpoch) this.#index.delete(key)
    for (const segment of gone) {
      this.#segments.delete(segment.name)
      await segment.file?.close()
      segment.file = undefined
      await this.#disk.remove(`${this.#dir}/${segment.name}`)
    }
    await this.#disk.syncDir(this.#dir)
    return gone.length
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#writing
    for (const segment of this.#segments.values()) {
      await segment.file?.close()
      segment.file = undefined
    }
  }

  async #drain(): Promise<void> {
    // Those that arrive in this turn share the first sync.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const all = this.#waiting
      this.#waiting = []
      // Epochs change rarely: nearly always one group.
      for (const epoch of new Set(all.map(w => w.share.id.epoch))) {
        const group = all.filter(w => w.share.id.epoch === epoch)
        try {
          await this.#write(
            epoch,
            group.map(w => w.share)
          )
          for (const w of group) w.resolve()
        } catch (err) {
          for (const w of group) w.reject(err)
        }
      }
    }
    // In the same turn as the last look at the queue: whoever comes next must start a drain of its own.
    this.#writing = undefined
  }

  async #write(epoch: number, shares: StoredShare[]): Promise<void> {
    const segment = await this.#segmentFor(epoch)
    const file = segment.file!
    const parts: Uint8Array[] = []
    const places: [string, Place][] = []
    let end = segment.size
    for (const share of shares) {
      const record = encodeShare(share)
      for (const part of record.parts) parts.push(part)
      places.push([keyOf(share.id), { segment, offset: end, length: record.sizeBytes }])
      end += record.sizeBytes
    }
    try {
      await file.write(segment.size, ...parts)
      await file.sync()
    } catch (err) {
      await this.#giveUp(segment)
      throw err
    }
    segment.size = end
    for (const [key, place] of places) this.#index.set(key, place)
  }

  async #segmentFor(epoch: number): Promise<Segment> {
    const mine = [...this.#segments.values()].filter(s => s.epoch === epoch)
    const last = mine.at(-1)
    if (last?.file !== undefined && last.size < this.#segmentBytes) return last
    if (last?.file !== undefined) {
      await last.file.close()
      last.file = undefined
    }
    const number = (last?.number ?? -1) + 1
    const name = nameOf(epoch, number)
    const file = await this.#disk.open(`${this.#dir}/${name}`, 'create')
    const segment: Segment = { name, epoch, number, size: 0, file }
    try {
      await file.truncate(0)
      // A segment whose name is lost would take the shares in it along.
      await this.#disk.syncDir(this.#dir)
    } catch (err) {
      await file.close()
      throw err
    }
    this.#segments.set(name, segment)
    return segment
  }

  /** After a failed append: what is behind the last good record goes away, and later shares go to a new segment. */
  async #giveUp(segment: Segment): Promise<void> {
    const { file } = segment
    segment.file = undefined
    try {
      await file?.truncate(segment.size)
    } catch {
      // The disk may refuse everything now; readers and the next start go by the checksums.
    }
    await file?.close().catch(() => {})
  }

  async #load(segment: Segment, last: boolean): Promise<void> {
    const path = `${this.#dir}/${segment.name}`
    const file = await this.#disk.open(path, 'open')
    const end = await file.size()
    let offset = 0
    for (;;) {
      const start = await file.read(offset, ID_BYTES)
      const length = recordLength(start)
      if (length === undefined || start.length < ID_BYTES || offset + length > end) break
      // Only the newest segment of an epoch can have been cut within an append; others were left whole.
      if (last && !recordIntact(await file.read(offset, length))) break
      this.#index.set(keyOf(recordId(start)), { segment, offset, length })
      offset += length
    }
    segment.size = offset
    this.#segments.set(segment.name, segment)
    if (last) {
      if (end > offset) await file.truncate(offset)
      segment.file = file
    } else await file.close()
  }
}

function keyOf(id: BlobId): string {
  return `${id.epoch}/${id.quorumId}/${toHex(id.root)}`
}

function nameOf(epoch: number, number: number): string {
  return `e${String(epoch).padStart(16, '0')}-${String(number).padStart(6, '0')}.seg`
}

function parseName(name: string): Segment | undefined {
  const m = /^e([0-9]{16})-([0-9]{6})\.seg$/.exec(name)
  if (m === null) return undefined
  return { name, epoch: Number(m[1]), number: Number(m[2]), size: 0, file: undefined }
}
