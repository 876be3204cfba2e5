/** Reads the versioned key-value state (layout: keys.ts). Every question is asked "as of" a seq. */
import { concat, readU64be, u64be, view } from '../../../lib/base/bytes.ts'
import { assert } from '../../../lib/base/errors.ts'
import type { KvRange, KvStore } from '../../../lib/ports/kv.ts'
import { after, at, CHUNK_BYTES, keys, unescapeKey } from './keys.ts'

/** What reading needs of a store. */
export type KvReader = Pick<KvStore, 'get' | 'getMany' | 'scan'>

/** The newest seq there can be. */
export const NEWEST = Number.MAX_SAFE_INTEGER

export interface ValueRef {
  /** Seq of the submission that wrote it. */
  version: number
  /** 0: deleted. */
  sizeBytes: number
  /** Number of the write within its submission. */
  index: number
  /** First byte of the value in the file that was stored, its encryption header included. */
  offset: number
}

/** The file behind a committed submission: what it takes to prove a value of it. */
export interface KvFile {
  root: Uint8Array
  /** Bytes as stored, and the first sector in the flow. */
  sizeBytes: number
  startPos: number
  sectors: number
  block: number
  /** The transaction that submitted it. */
  txHash: Uint8Array
  /** Bytes of the encryption header (0: not encrypted) and of everything before the first value, that header included. */
  headerBytes: number
  valuesAt: number
}

/** Bytes of a value are not there: what pointed to them was undone after it was read (a reorganisation), or the store is damaged. */
export class ValueGone extends Error {}

export class KvState {
  readonly #db: KvReader
  /** Changes when submissions are undone: what was looked up before and read after may not belong together. */
  undone = 0
  constructor(db: KvReader) {
    this.#db = db
  }

  /** The newest entry under `prefix` with seq ≤ version. */
  async #last(prefix: Uint8Array, version: number): Promise<{ seq: number; value: Uint8Array } | undefined> {
    const range: KvRange = {
      gte: at(prefix, 0),
      lt: concat(prefix, u64be(BigInt(version) + 1n)),
      reverse: true,
      limit: 1
    }
    for await (const [key, value] of this.#db.scan(range)) {
      return { seq: readU64be(key, key.length - 8), value }
    }
    return undefined
  }

  async #flag(prefix: Uint8Array, version: number): Promise<boolean> {
    return (await this.#last(prefix, version))?.value[0] === 1
  }

  /** True when a submission at or below `version` has written to this stream. */
  async exists(stream: Uint8Array, version = NEWEST): Promise<boolean> {
    const since = await this.#db.get(keys.exists(stream))
    return since !== undefined && readU64be(since) <= version
  }

  isAdmin(stream: Uint8Array, account: Uint8Array, version = NEWEST): Promise<boolean> {
    return this.#flag(keys.admin(stream, account), version)
  }

  isWriter(stream: Uint8Array, account: Uint8Array, version = NEWEST): Promise<boolean> {
    return this.#flag(keys.writer(stream, account), version)
  }

  isSpecial(stream: Uint8Array, key: Uint8Array, version = NEWEST): Promise<boolean> {
    return this.#flag(keys.special(stream, key), version)
  }

  isKeyWriter(stream: Uint8Array, account: Uint8Array, key: Uint8Array, version = NEWEST): Promise<boolean> {
    return this.#flag(keys.keyWriter(stream, account, key), version)
  }

  /** True when the account may write at least one special key. */
  async isAnyKeyWriter(stream: Uint8Array, account: Uint8Array, version = NEWEST): Promise<boolean> {
    const prefix = keys.keyWritersOf(stream, account)
    let from = prefix
    for (;;) {
      const entry = await this.#first({ gte: from, ...below(prefix) })
      if (entry === undefined) return false
      const group = entry.key.subarray(0, entry.key.length - 8)
      if (await this.#flag(group, version)) return true
      const next = after(group)
      if (next === undefined) return false
      from = next
    }
  }

  /** Whether `account` may write this key, storage.md 6.3 rule 3. A new stream may be written by anybody. */
  async mayWrite(stream: Uint8Array, account: Uint8Array, key: Uint8Array, version = NEWEST): Promise<boolean> {
    if (!(await this.exists(stream, version)) || (await this.isAdmin(stream, account, version))) return true
    return (await this.isSpecial(stream, key, version))
      ? this.isKeyWriter(stream, account, key, version)
      : this.isWriter(stream, account, version)
  }

  /** The newest value of a key with version ≤ `version`, a deletion included. */
  async value(stream: Uint8Array, key: Uint8Array, version = NEWEST): Promise<ValueRef | undefined> {
    const found = await this.#last(keys.value(stream, key), version)
    return found === undefined ? undefined : decodeRef(found.seq, found.value)
  }

  /** Bytes [start, start + length) of a value. @throws {ValueGone} */
  async read(ref: ValueRef, start: number, length: number): Promise<Uint8Array> {
    const end = Math.min(ref.sizeBytes, start + length)
    if (start >= end) return new Uint8Array(0)
    const out = new Uint8Array(end - start)
    const wanted: Uint8Array[] = []
    const first = Math.floor(start / CHUNK_BYTES)
    const last = Math.floor((end - 1) / CHUNK_BYTES)
    for (let c = first; c <= last; c++) wanted.push(keys.data(ref.version, ref.index, c))
    const chunks = await this.#db.getMany(wanted)
    for (let c = first; c <= last; c++) {
      const chunk = chunks[c - first]
      if (chunk === undefined) throw new ValueGone(`value chunk ${c} of seq ${ref.version} is missing`)
      const lo = Math.max(start - c * CHUNK_BYTES, 0)
      const hi = Math.min(end - c * CHUNK_BYTES, chunk.length)
      out.set(chunk.subarray(lo, hi), c * CHUNK_BYTES + lo - start)
    }
    return out
  }

  /**
   * The next living key of a stream.
   * @param from - where to begin; absent: at the end that `reverse` begins with.
   * @param inclusive - `from` itself counts when it lives.
   */
  async seek(
    stream: Uint8Array,
    o: { from?: Uint8Array; inclusive: boolean; reverse: boolean; version?: number; signal?: AbortSignal }
  ): Promise<{ key: Uint8Array; ref: ValueRef } | undefined> {
    const prefix = keys.valuesOf(stream)
    const version = o.version ?? NEWEST
    let low = prefix
    let high = after(prefix)
    if (o.from !== undefined) {
      const group = keys.value(stream, o.from)
      if (o.reverse) high = o.inclusive ? after(group) : group
      else low = o.inclusive ? group : after(group)!
    }
    for (;;) {
      o.signal?.throwIfAborted()
      const entry = await this.#first({ gte: low, ...(high === undefined ? {} : { lt: high }), reverse: o.reverse })
      if (entry === undefined) return undefined
      const group = entry.key.subarray(0, entry.key.length - 8)
      const found = await this.#last(group, version)
      if (found !== undefined) {
        const ref = decodeRef(found.seq, found.value)
        if (ref.sizeBytes > 0) return { key: unescapeKey(group, prefix.length).key, ref }
      }
      // Deleted, or born later: on to the next key.
      if (o.reverse) high = group
      else low = after(group)!
    }
  }

  async #first(range: KvRange): Promise<{ key: Uint8Array; value: Uint8Array } | undefined> {
    for await (const [key, value] of this.#db.scan({ ...range, limit: 1 })) return { key, value }
    return undefined
  }

  /** Where the file of a committed submission lies. */
  async file(seq: number): Promise<KvFile | undefined> {
    const value = await this.#db.get(keys.file(seq))
    return value === undefined ? undefined : decodeFile(value)
  }

  /** Result text of a replayed submission; undefined while not replayed or when it was skipped. */
  async result(seq: number): Promise<string | undefined> {
    const text = await this.#db.get(keys.result(seq))
    return text === undefined ? undefined : Buffer.from(text).toString()
  }
}

function below(prefix: Uint8Array): { lt?: Uint8Array } {
  const lt = after(prefix)
  return lt === undefined ? {} : { lt }
}

function decodeRef(version: number, b: Uint8Array): ValueRef {
  return { version, sizeBytes: readU64be(b), index: view(b).getUint32(8), offset: b.length < 20 ? 0 : readU64be(b, 12) }
}

/** The stored form of a reference to a value. */
export function encodeRef(ref: Omit<ValueRef, 'version'>): Uint8Array {
  const out = new Uint8Array(20)
  out.set(u64be(ref.sizeBytes))
  view(out).setUint32(8, ref.index)
  out.set(u64be(ref.offset), 12)
  return out
}

const FILE_BYTES = 32 + 32 + 8 * 6

/** The stored form of {@link KvFile}. */
export function encodeFile(f: KvFile): Uint8Array {
  const numbers = [f.sizeBytes, f.startPos, f.sectors, f.block, f.headerBytes, f.valuesAt]
  return concat(f.root, f.txHash, ...numbers.map(n => u64be(n)))
}

function decodeFile(b: Uint8Array): KvFile {
  assert(b.length === FILE_BYTES, 'the record of a key-value file is damaged')
  const n = (i: number): number => readU64be(b, 64 + 8 * i)
  return {
    root: b.slice(0, 32),
    txHash: b.slice(32, 64),
    sizeBytes: n(0),
    startPos: n(1),
    sectors: n(2),
    block: n(3),
    headerBytes: n(4),
    valuesAt: n(5)
  }
}
