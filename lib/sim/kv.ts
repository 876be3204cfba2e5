/**
 * A {@link KvStore} as one log on any disk, so that crashes tear it like everything else. Per batch one record:
 *
 *     0        4        8                16
 *     | length | crc32  | sequence       | count u32, then per entry: kind u8, key length u32, key, [value length u32, value] |
 *                        └────────────── crc covers this, `length` bytes ───────────────────────────────────────────────────┘
 *
 * A record is valid if its checksum fits and its sequence number is one above the last. Opening replays up to the first invalid
 * record and cuts the rest: whole batches are missing, and only from the end. The cut is synced before anything is appended, or
 * an old record behind it could come back after the next crash. A bit flip in the middle looks like an end, as in LevelDB's log.
 */
import { posix } from 'node:path'
import { crc32 } from 'node:zlib'
import { concat, u32be, u64be, view } from '../base/bytes.ts'
import { assert, ZgError } from '../base/errors.ts'
import type { Disk, DiskFile } from '../ports/disk.ts'
import type { KvOp, KvRange, KvStore } from '../ports/kv.ts'

const HEAD_BYTES = 8
/** No batch of a test comes near; a torn length must not make the reader allocate. */
const RECORD_BYTES_MAX = 256 * 1024 * 1024

/**
 * Opens (or creates) the store in directory `dir`.
 * @throws {ZgError} as the disk does.
 */
export async function openSimKv(disk: Disk, dir: string): Promise<KvStore> {
  await disk.mkdir(dir)
  const file = await disk.open(posix.join(dir, 'log'), 'create')
  await disk.syncDir(dir)
  const table = new Table()
  const log = await file.read(0, await file.size())
  let end = 0
  let sequence = 0
  for (;;) {
    const ops = decodeRecord(log.subarray(end), sequence + 1)
    if (ops === undefined) break
    table.apply(ops)
    sequence++
    end += HEAD_BYTES + view(log).getUint32(end)
  }
  if (end < log.length) {
    await file.truncate(end)
    await file.sync()
  }
  return new SimKv(file, table, end, sequence)
}

class SimKv implements KvStore {
  readonly #file: DiskFile
  readonly #table: Table
  #end: number
  #sequence: number
  /** Batches go one after the other. */
  #last: Promise<void> = Promise.resolve()
  #broken = false
  #closed = false

  constructor(file: DiskFile, table: Table, end: number, sequence: number) {
    this.#file = file
    this.#table = table
    this.#end = end
    this.#sequence = sequence
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    this.#open()
    return this.#table.get(key)
  }

  getSync(key: Uint8Array): Uint8Array | undefined {
    this.#open()
    return this.#table.get(key)
  }

  async getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    this.#open()
    return keys.map(k => this.#table.get(k))
  }

  batch(ops: readonly KvOp[], opts: { sync?: boolean } = {}): Promise<void> {
    // Copied now: the caller may reuse its buffers as soon as this returns a promise.
    const copies = ops.map(copyOp)
    const run = this.#last.then(() => this.#append(copies, opts.sync === true))
    this.#last = run.catch(() => {})
    return run
  }

  scan(range: KvRange): AsyncIterable<[Uint8Array, Uint8Array]> {
    this.#open()
    const entries = this.#table.range(range)
    return (async function* () {
      for (const [key, value] of entries) yield [key.slice(), value.slice()] as [Uint8Array, Uint8Array]
    })()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    await this.#last
    this.#closed = true
    await this.#file.close()
  }

  async #append(ops: KvOp[], sync: boolean): Promise<void> {
    this.#open()
    if (this.#broken) throw new ZgError('ERR_IO', 'cannot write the store: an earlier write failed')
    const record = encodeRecord(ops, this.#sequence + 1)
    try {
      await this.#file.write(this.#end, record)
      if (sync) await this.#file.sync()
    } catch (err) {
      // As LevelDB does: what lies behind the failed write is unknown until the next open has looked at it.
      this.#broken = true
      throw err
    }
    this.#end += record.length
    this.#sequence++
    this.#table.apply(ops)
  }

  #open(): void {
    if (this.#closed) throw new ZgError('ERR_STOPPED', 'cannot use the store: it is closed')
  }
}

/** Keys as Latin-1 strings: their order is bytewise order. */
class Table {
  readonly #values = new Map<string, Uint8Array>()
  #keys: string[] | undefined

  get(key: Uint8Array): Uint8Array | undefined {
    return this.#values.get(latin1(key))?.slice()
  }

  apply(ops: readonly KvOp[]): void {
    for (const op of ops) {
      if ('put' in op) {
        const key = latin1(op.put)
        if (!this.#values.has(key)) this.#keys = undefined
        this.#values.set(key, op.value)
      } else if (this.#values.delete(latin1(op.del))) this.#keys = undefined
    }
  }

  range(range: KvRange): [Uint8Array, Uint8Array][] {
    this.#keys ??= [...this.#values.keys()].sort()
    const from = range.gte === undefined ? 0 : lowerBound(this.#keys, latin1(range.gte))
    const to = range.lt === undefined ? this.#keys.length : lowerBound(this.#keys, latin1(range.lt))
    const keys = this.#keys.slice(from, Math.max(from, to))
    if (range.reverse) keys.reverse()
    return keys
      .slice(0, range.limit === undefined || range.limit < 0 ? keys.length : range.limit)
      .map(k => [new Uint8Array(Buffer.from(k, 'latin1')), this.#values.get(k)!])
  }
}

function latin1(b: Uint8Array): string {
  return Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('latin1')
}

function lowerBound(keys: readonly string[], key: string): number {
  let lo = 0
  let hi = keys.length
  while (lo < hi) {
    const mid = (lo + hi) >> 1
    if (keys[mid]! < key) lo = mid + 1
    else hi = mid
  }
  return lo
}

function copyOp(op: KvOp): KvOp {
  return 'put' in op ? { put: op.put.slice(), value: op.value.slice() } : { del: op.del.slice() }
}

const DEL = Uint8Array.of(0)
const PUT = Uint8Array.of(1)

function encodeRecord(ops: readonly KvOp[], sequence: number): Uint8Array {
  const parts = [u64be(sequence), u32be(ops.length)]
  for (const op of ops) {
    if ('put' in op) parts.push(PUT, u32be(op.put.length), op.put, u32be(op.value.length), op.value)
    else parts.push(DEL, u32be(op.del.length), op.del)
  }
  const body = concat(...parts)
  assert(body.length <= RECORD_BYTES_MAX, `a batch of ${body.length} bytes is too large`)
  return concat(u32be(body.length), u32be(crc32(body)), body)
}

/** The operations of the record at the start of `log`; undefined when it is absent, torn or not the expected one. */
function decodeRecord(log: Uint8Array, sequence: number): KvOp[] | undefined {
  if (log.length < HEAD_BYTES) return undefined
  const size = view(log).getUint32(0)
  if (size < 12 || size > RECORD_BYTES_MAX || size > log.length - HEAD_BYTES) return undefined
  const body = log.subarray(HEAD_BYTES, HEAD_BYTES + size)
  if (crc32(body) !== view(log).getUint32(4)) return undefined
  const v = view(body)
  if (v.getBigUint64(0) !== BigInt(sequence)) return undefined
  let at = 12
  const take = (): Uint8Array => {
    const length = v.getUint32(at)
    at += 4 + length
    return body.slice(at - length, at)
  }
  const ops: KvOp[] = []
  for (let left = v.getUint32(8); left > 0; left--) {
    const kind = body[at++]
    if (kind === 1) ops.push({ put: take(), value: take() })
    else ops.push({ del: take() })
  }
  return ops
}
