/**
 * Blobs that were accepted, kept until they are final and for a while after: bytes in a file each, state in a key-value journal.
 * What is accepted survives kill -9 and power loss: the file is fsynced first, then its name, then the journal entry, then the
 * client hears of it. A file without an entry was never accepted and goes away at the next start.
 *
 *     blobs/<id>.blob   the bytes · u32 magic · u32 crc32 · u64 length
 *     journal           j<id> → job        c<epoch>/<quorum>/<root> → id of a certified blob
 */
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { fromUtf8, utf8, view } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { BlobId } from '../../../lib/clients/da/abi.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Disk } from '../../../lib/ports/disk.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'
import type { Random } from '../../../lib/ports/random.ts'
import { blobIdOf, decodeJob, encodeJob, isDone, type Job } from './job.ts'

export interface QueueOptions {
  disk: Disk
  kv: KvStore
  /** Of the blob files. */
  dir: string
  clock: Clock
  random: Random
  /** Bytes of all blobs together. */
  maxBytes: number
  /** How long a final blob is kept. */
  keepMs: number
}

const MAGIC = 0x31_42_47_5a
const TRAILER_BYTES = 16
/** Blobs that are not final yet. */
const ACTIVE = 4_096
/** A failed blob's state is told for this long: clients ask late (da.md 3 wants an hour at least). */
const KEEP_FAILED_MS = 86_400_000

export class BlobQueue {
  readonly #o: QueueOptions
  readonly #active = new Map<string, Job>()
  /** Final blobs, oldest first, with their sizes: what goes when room is needed. */
  readonly #final = new Map<string, number>()
  #bytes = 0

  private constructor(options: QueueOptions) {
    this.#o = options
  }

  /** Opens the queue; {@link active} then holds what a former run left unfinished. */
  static async open(options: QueueOptions): Promise<BlobQueue> {
    const queue = new BlobQueue(options)
    await options.disk.mkdir(options.dir)
    const jobs: Job[] = []
    for await (const [, value] of options.kv.scan({ gte: utf8('j'), lt: utf8('k') })) jobs.push(decodeJob(value))
    jobs.sort((a, b) => a.acceptedMs - b.acceptedMs)
    const files = new Set<string>()
    for (const job of jobs) {
      if (!isDone(job)) queue.#active.set(job.id, job)
      if (job.state === 'finalized') queue.#final.set(job.id, job.sizeBytes)
      if (job.state === 'failed' || job.state === 'insufficient') continue
      files.add(`${job.id}.blob`)
      queue.#bytes += job.sizeBytes
    }
    for (const name of await options.disk.list(options.dir)) {
      if (!files.has(name)) await options.disk.remove(`${options.dir}/${name}`)
    }
    return queue
  }

  /** What is not final yet, oldest first. */
  active(): Job[] {
    return [...this.#active.values()]
  }

  get sizeBytes(): number {
    return this.#bytes
  }

  get finalCount(): number {
    return this.#final.size
  }

  /**
   * Takes a blob; it is durable when this returns.
   * @param signal - of the call: a caller who has gone leaves nothing behind.
   * @throws {ZgError} ERR_DISK_FULL when there is no room, ERR_STOPPED.
   */
  async add(data: Uint8Array, signal?: AbortSignal): Promise<Job> {
    await this.#makeRoom(data.length)
    if (this.#active.size >= ACTIVE || this.#bytes + data.length > this.#o.maxBytes)
      throw new ZgError('ERR_DISK_FULL', 'memory db is full')
    const hash = createHash('sha256').update(data).digest('hex')
    const id = `${hash}-${BigInt(Math.round(this.#o.clock.now() * 1e6)).toString(16)}${toHex(this.#o.random.bytes(8)).slice(2)}`
    const now = this.#o.clock.now()
    const job: Job = { id, sizeBytes: data.length, acceptedMs: now, changedMs: now, state: 'accepted', attempts: 0 }
    this.#bytes += data.length
    // Reserved before the first wait: many at once must not overrun the bound.
    this.#active.set(id, job)
    try {
      await this.#writeBlob(id, data)
      if (signal?.aborted) throw new ZgError('ERR_STOPPED', 'the caller has gone')
      await this.#o.kv.batch([{ put: jobKey(id), value: encodeJob(job) }], { sync: true })
    } catch (err) {
      this.#active.delete(id)
      this.#bytes -= data.length
      await this.#o.disk.remove(this.#path(id)).catch(() => {})
      throw err
    }
    return job
  }

  /** The bytes of a blob. @throws {ZgError} ERR_CORRUPT when they are damaged or gone. */
  async read(id: string): Promise<Uint8Array> {
    const file = await this.#o.disk.open(this.#path(id), 'open').catch(err => {
      if (!(err instanceof ZgError) || err.code !== 'ERR_NOT_FOUND') throw err
      throw new ZgError('ERR_CORRUPT', `the stored bytes of blob ${id} are gone`, { cause: err })
    })
    try {
      const size = await file.size()
      const all = await file.read(0, size)
      const data = all.subarray(0, Math.max(0, size - TRAILER_BYTES))
      const tail = view(all.subarray(data.length))
      const whole =
        all.length > TRAILER_BYTES &&
        tail.getUint32(0, true) === MAGIC &&
        Number(tail.getBigUint64(8, true)) === data.length &&
        tail.getUint32(4, true) === crc32(data)
      if (!whole) throw new ZgError('ERR_CORRUPT', `the stored bytes of blob ${id} are damaged`)
      return data
    } finally {
      await file.close()
    }
  }

  /** Writes a job's new state; durable when this returns. */
  async update(job: Job, change: Partial<Job>): Promise<void> {
    Object.assign(job, change, { changedMs: this.#o.clock.now() })
    const ops: KvOp[] = [{ put: jobKey(job.id), value: encodeJob(job) }]
    const id = blobIdOf(job)
    if (id !== undefined) ops.push({ put: certifiedKey(id), value: utf8(job.id) })
    await this.#o.kv.batch(ops, { sync: true })
    if (!isDone(job)) return
    this.#active.delete(job.id)
    if (job.state === 'finalized') this.#final.set(job.id, job.sizeBytes)
    else {
      // Nothing will be done with the bytes; the state stays.
      this.#bytes -= job.sizeBytes
      await this.#o.disk.remove(this.#path(job.id))
    }
  }

  /** The job of a request id, of any age. */
  async find(id: string): Promise<Job | undefined> {
    const active = this.#active.get(id)
    if (active !== undefined) return active
    const value = await this.#o.kv.get(jobKey(id))
    return value === undefined ? undefined : decodeJob(value)
  }

  /** The bytes of a certified blob, when it is one of ours. */
  async certified(id: BlobId): Promise<Uint8Array | undefined> {
    const request = await this.#o.kv.get(certifiedKey(id))
    if (request === undefined) return undefined
    try {
      return await this.read(fromUtf8(request))
    } catch (err) {
      if (err instanceof ZgError && err.code === 'ERR_CORRUPT') return undefined
      throw err
    }
  }

  /** Forgets what was kept long enough. */
  async sweep(): Promise<void> {
    const now = this.#o.clock.now()
    const old: Job[] = []
    for await (const [, value] of this.#o.kv.scan({ gte: utf8('j'), lt: utf8('k') })) {
      const job = decodeJob(value)
      const keepMs = job.state === 'finalized' ? this.#o.keepMs : KEEP_FAILED_MS
      if (isDone(job) && now - job.changedMs > keepMs) old.push(job)
    }
    for (const job of old) await this.#forget(job)
  }

  /** Final blobs make way for new ones, oldest first: signers have them. */
  async #makeRoom(bytes: number): Promise<void> {
    while (this.#bytes + bytes > this.#o.maxBytes) {
      const oldest = this.#final.keys().next().value
      if (oldest === undefined) return
      const job = await this.find(oldest)
      if (job === undefined) this.#final.delete(oldest)
      else await this.#forget(job)
    }
  }

  async #forget(job: Job): Promise<void> {
    const ops: KvOp[] = [{ del: jobKey(job.id) }]
    const id = blobIdOf(job)
    if (id !== undefined) {
      const owner = await this.#o.kv.get(certifiedKey(id))
      // The same blob may have come twice; the later one's entry stays.
      if (owner !== undefined && fromUtf8(owner) === job.id) ops.push({ del: certifiedKey(id) })
    }
    if (this.#final.delete(job.id)) this.#bytes -= job.sizeBytes
    await this.#o.kv.batch(ops)
    await this.#o.disk.remove(this.#path(job.id))
  }

  async #writeBlob(id: string, data: Uint8Array): Promise<void> {
    const trailer = new Uint8Array(TRAILER_BYTES)
    const v = view(trailer)
    v.setUint32(0, MAGIC, true)
    v.setUint32(4, crc32(data), true)
    v.setBigUint64(8, BigInt(data.length), true)
    const file = await this.#o.disk.open(this.#path(id), 'new')
    try {
      await file.write(0, data, trailer)
      await file.sync()
    } finally {
      await file.close()
    }
    await this.#o.disk.syncDir(this.#o.dir)
  }

  #path(id: string): string {
    return `${this.#o.dir}/${id}.blob`
  }
}

const jobKey = (id: string): Uint8Array => utf8(`j${id}`)
const certifiedKey = (id: BlobId): Uint8Array => utf8(`c${id.epoch}/${id.quorumId}/${toHex(id.root)}`)
