/**
 * Key-value operations as a file's content (storage.md 6.1, 6.2). All integers are big endian.
 *
 *   u64 version
 *   u32 reads;     each: stream 32, u24 key length, key
 *   u32 writes;    each: stream 32, u24 key length, key, u64 value length
 *        all values, in the order of the writes
 *   u32 controls;  each: u8 type, stream 32, then by type: key, account or both
 */
import { compareBytes, concat, u32be, u64be, view } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { fromHex, toHex } from '../../base/hex.ts'
import { MAX_FILE_BYTES } from './shape.ts'

/** sha256("STREAM"), the first word of the tags of a key-value file. */
export const STREAM_DOMAIN = fromHex('0xdf2ff3bb0af36c6384e6206552a4ed807f6f6a26e7d0aa6bff772ddc9d4307aa')
/** `I have seen everything`: what clients send who do not care about conflicts. */
export const ANY_VERSION = 2n ** 64n - 1n
/** Entries in each of the three sets. */
export const KV_MAX_ENTRIES = 65_536
/** Bytes of a key. */
export const KV_MAX_KEY_BYTES = 2 ** 24 - 1
/** Streams named by the tags of one submission. */
export const KV_MAX_TAG_STREAMS = 1_024

/** Operations on access, by their number on the wire. */
export const CONTROL_TYPES = {
  grantAdmin: 0x00,
  renounceAdmin: 0x01,
  setSpecial: 0x10,
  setNormal: 0x11,
  grantWriter: 0x20,
  revokeWriter: 0x21,
  renounceWriter: 0x22,
  grantSpecialWriter: 0x30,
  revokeSpecialWriter: 0x31,
  renounceSpecialWriter: 0x32
} as const
export type ControlName = keyof typeof CONTROL_TYPES

export interface KvRead {
  /** 32 bytes. */
  stream: Uint8Array
  key: Uint8Array
}

export interface KvWrite {
  stream: Uint8Array
  key: Uint8Array
  /** Empty deletes the key. */
  value: Uint8Array
}

export interface KvControl {
  type: ControlName
  stream: Uint8Array
  /** With setSpecial, setNormal and the special writer operations. */
  key?: Uint8Array
  /** 20 bytes, with grants and revocations. */
  account?: Uint8Array
}

/** The content of a key-value file. */
export interface KvOps {
  /** Newest seq that the writer has seen. */
  version: bigint
  reads: KvRead[]
  writes: KvWrite[]
  controls: KvControl[]
}

/** Operations as read from a file, and where in it the values begin. */
export interface DecodedKv extends KvOps {
  /** First byte of the values: they lie one behind the other, in the order of the writes. */
  valuesAt: number
}

/** Version, reads and writes of a file without its values: what stands before {@link DecodedKv.valuesAt}. */
export interface KvHead {
  version: bigint
  reads: KvRead[]
  writes: { stream: Uint8Array; key: Uint8Array; sizeBytes: number }[]
  valuesAt: number
}

const CONTROL_NAMES = new Map(
  Object.entries(CONTROL_TYPES).map(([name, type]) => [type as number, name as ControlName])
)

function hasKey(type: number): boolean {
  return type >= 0x30 || type === 0x10 || type === 0x11
}
function hasAccount(type: number): boolean {
  return [0x00, 0x20, 0x21, 0x30, 0x31].includes(type)
}

/**
 * Encodes operations.
 * @throws {ZgError} ERR_BAD_INPUT when something is out of bounds or a control lacks its key or account.
 */
export function encodeKv(ops: KvOps): Uint8Array {
  if (ops.version < 0n || ops.version > ANY_VERSION) throw bad(`version ${ops.version} is out of range`)
  const parts: Uint8Array[] = [u64be(ops.version)]
  parts.push(entryCount(ops.reads, 'reads'))
  for (const r of ops.reads) parts.push(streamId(r.stream), ...keyOf(r.key))
  parts.push(entryCount(ops.writes, 'writes'))
  for (const w of ops.writes) parts.push(streamId(w.stream), ...keyOf(w.key), u64be(w.value.length))
  for (const w of ops.writes) parts.push(w.value)
  parts.push(entryCount(ops.controls, 'controls'))
  for (const c of ops.controls) {
    const type = CONTROL_TYPES[c.type]
    parts.push(Uint8Array.of(type), streamId(c.stream))
    if (hasKey(type)) parts.push(...keyOf(c.key ?? new Uint8Array(0)))
    if (hasAccount(type)) {
      if (c.account?.length !== 20) throw bad(`control '${c.type}' needs an account of 20 bytes`)
      parts.push(c.account)
    }
  }
  return concat(...parts)
}

/**
 * Decodes the content of a key-value file. Bytes after the controls are ignored, as upstream does. Values are views of `data`.
 * @throws {ZgError} ERR_CORRUPT `list too long` or `invalid stream data`.
 */
export function decodeKv(data: Uint8Array): DecodedKv {
  const r = new Reader(data)
  const head = readHead(r)
  const writes = head.writes.map(h => ({ stream: h.stream, key: h.key, value: r.take(h.sizeBytes) }))
  const controls: KvControl[] = []
  for (let n = r.count(33); n > 0; n--) {
    const number = r.take(1)[0]!
    const type = CONTROL_NAMES.get(number)
    if (type === undefined) throw corrupt('invalid stream data')
    const control: KvControl = { type, stream: r.take(32) }
    if (hasKey(number)) control.key = r.key()
    if (hasAccount(number)) control.account = r.take(20)
    controls.push(control)
  }
  return { version: head.version, reads: head.reads, writes, controls, valuesAt: head.valuesAt }
}

/**
 * Decodes what stands before the values of a file; `data` may end there.
 * @throws {ZgError} ERR_CORRUPT as {@link decodeKv}.
 */
export function decodeKvHead(data: Uint8Array): KvHead {
  return readHead(new Reader(data))
}

function readHead(r: Reader): KvHead {
  const version = r.u64()
  const reads: KvRead[] = []
  for (let n = r.count(35); n > 0; n--) reads.push({ stream: r.take(32), key: r.key() })
  const writes: KvHead['writes'] = []
  for (let n = r.count(43); n > 0; n--) writes.push({ stream: r.take(32), key: r.key(), sizeBytes: r.size() })
  return { version, reads, writes, valuesAt: r.at }
}

/**
 * Merges writes of one key as the SDK's builder does: the order is that of first insertion (streams, then keys in them), the
 * value the last one. With `sorted`, streams and keys in byte order.
 */
export function mergeWrites(writes: readonly KvWrite[], opts: { sorted?: boolean } = {}): KvWrite[] {
  return grouped(writes, opts.sorted === true, (_, w) => w)
}

/** The same for reads. */
export function mergeReads(reads: readonly KvRead[], opts: { sorted?: boolean } = {}): KvRead[] {
  return grouped(reads, opts.sorted === true, first => first)
}

function grouped<T extends KvRead>(items: readonly T[], sorted: boolean, merge: (first: T, again: T) => T): T[] {
  const streams = new Map<string, Map<string, T>>()
  for (const item of items) {
    const id = toHex(item.stream)
    let keys = streams.get(id)
    if (keys === undefined) {
      keys = new Map()
      streams.set(id, keys)
    }
    const key = toHex(item.key)
    const first = keys.get(key)
    keys.set(key, first === undefined ? item : merge(first, item))
  }
  const out = [...streams.values()].flatMap(keys => [...keys.values()])
  if (sorted) out.sort((a, b) => compareBytes(a.stream, b.stream) || compareBytes(a.key, b.key))
  return out
}

/** Tags of a submission that names these streams, in this order. */
export function encodeStreamTags(streams: readonly Uint8Array[]): Uint8Array {
  return concat(STREAM_DOMAIN, ...streams.map(streamId))
}

/** The streams that tags name, or undefined when this is not a key-value file. */
export function decodeStreamTags(tags: Uint8Array): Uint8Array[] | undefined {
  if (tags.length < 32 || tags.length % 32 !== 0 || tags.length / 32 - 1 > KV_MAX_TAG_STREAMS) return undefined
  if (compareBytes(tags.subarray(0, 32), STREAM_DOMAIN) !== 0) return undefined
  const out: Uint8Array[] = []
  for (let at = 32; at < tags.length; at += 32) out.push(tags.slice(at, at + 32))
  return out
}

/** The streams of operations without repetition, as the tags must name them: in order of appearance, or sorted. */
export function streamsOf(ops: KvOps, opts: { sorted?: boolean } = {}): Uint8Array[] {
  const seen = new Map<string, Uint8Array>()
  for (const x of [...ops.reads, ...ops.writes, ...ops.controls]) seen.set(toHex(x.stream), x.stream)
  const out = [...seen.values()]
  return opts.sorted === true ? out.sort(compareBytes) : out
}

class Reader {
  readonly #data: Uint8Array
  #at = 0

  constructor(data: Uint8Array) {
    this.#data = data
  }

  take(size: number): Uint8Array {
    if (size > this.#data.length - this.#at) throw corrupt('invalid stream data')
    this.#at += size
    return this.#data.subarray(this.#at - size, this.#at)
  }

  /** A count of entries of at least `least` bytes each, so that a lie is found before anything is built. */
  count(least: number): number {
    const n = view(this.take(4)).getUint32(0)
    if (n > KV_MAX_ENTRIES) throw corrupt('list too long')
    if (n * least > this.#data.length - this.#at) throw corrupt('invalid stream data')
    return n
  }

  key(): Uint8Array {
    const [a, b, c] = this.take(3)
    const size = (a! << 16) | (b! << 8) | c!
    if (size === 0) throw corrupt('invalid stream data')
    return this.take(size)
  }

  u64(): bigint {
    return view(this.take(8)).getBigUint64(0)
  }

  /** Bytes read so far. */
  get at(): number {
    return this.#at
  }

  size(): number {
    const n = this.u64()
    if (n > BigInt(MAX_FILE_BYTES)) throw corrupt('invalid stream data')
    return Number(n)
  }
}

function entryCount(list: readonly unknown[], what: string): Uint8Array {
  if (list.length > KV_MAX_ENTRIES) throw bad(`${list.length} ${what}, at most ${KV_MAX_ENTRIES} fit one file`)
  return u32be(list.length)
}

function streamId(id: Uint8Array): Uint8Array {
  if (id.length !== 32) throw bad(`stream id has ${id.length} bytes, 32 wanted`)
  return id
}

function keyOf(key: Uint8Array): Uint8Array[] {
  if (key.length === 0) throw bad('key is empty')
  if (key.length > KV_MAX_KEY_BYTES) throw bad(`key has ${key.length} bytes, at most ${KV_MAX_KEY_BYTES} are possible`)
  return [u32be(key.length).subarray(1), key]
}

function bad(what: string): ZgError {
  return new ZgError('ERR_BAD_INPUT', what)
}

function corrupt(what: string): ZgError {
  return new ZgError('ERR_CORRUPT', what)
}
