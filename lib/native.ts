/**
 * The only file that loads native parts. Without a build the TypeScript reference does the same work about a hundred times
 * slower, and one line on stderr says so.
 */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { getSystemErrorMap } from 'node:util'
import { concat } from './base/bytes.ts'
import { ZgError } from './base/errors.ts'
import { packageRoot } from './base/package-root.ts'
import { checkShape, recoveryPlan, rsEncode, rsReconstruct, shardBytes } from './crypto/reed-solomon.ts'
import { keccak256Reference, segmentRootsReference, treeRootReference } from './crypto/reference.ts'
import { checkPoint, shardSum, TOWER_BYTES } from './crypto/tower.ts'

const SEGMENT_BYTES = 262_144
const SECTOR_BYTES = 256

/** What the native codec offers; the reference has the same face. */
export interface Codec {
  readonly path: 'native' | 'reference'
  /** The SIMD path in use: `generic`, `avx2`, `avx512vl` or `avx512`; `javascript` for the reference. */
  readonly cpu: string
  /** keccak-256 of the parts joined. */
  keccak256(...parts: readonly Uint8Array[]): Uint8Array
  /**
   * Merkle roots of consecutive segments, off the event loop. The data must not change before the promise settles; if it
   * does the roots are of a mixture, nothing worse. Its buffer must not be transferred away meanwhile.
   * @param data - whole segments of 262,144 bytes, the last may be shorter; empty data is one segment of zeros.
   * @param lastLeaves - leaves of the last segment; absent: as many as it has sectors of data (at least 1).
   * @returns one root a segment.
   * @throws {ZgError} ERR_BAD_INPUT when the leaves are out of range or do not hold the data.
   */
  segmentRoots(data: Uint8Array, lastLeaves?: number): Promise<Uint8Array[]>
  /**
   * Roots of segments that lie in arrays of their own, at most 64, by one thread: cheaper than a promise each.
   * @param leaves - of each.
   * @throws {ZgError} as segmentRoots.
   */
  segmentRootsMany(segments: readonly Uint8Array[], leaves: readonly number[]): Promise<Uint8Array[]>
  /** The same at once, on the calling thread: 0.3 ms a segment natively. */
  segmentRootsSync(data: Uint8Array, lastLeaves?: number): Uint8Array[]
  /** The same on the calling thread, 32 bytes a segment in one array; a SIMD path by name (tests and benchmarks). */
  segmentRootsFlat(data: Uint8Array, lastLeaves?: number, cpu?: string): Uint8Array
  /** Root of the tree over n ≥ 1 hashes that lie one behind the other. */
  treeRoot(hashes: Uint8Array): Uint8Array
  /**
   * Strict standard base64 with padding, as characters in bytes (of a request's body) from `from` up to `to`; a SIMD path by name.
   * @returns undefined for anything else: line breaks, missing padding, another alphabet, bits behind the data.
   */
  base64Decode(src: Uint8Array, from?: number, to?: number, cpu?: string): Uint8Array | undefined
  /** The same into memory of the caller's. @returns bytes written; −1 for anything else, and then `out` has garbage. */
  base64DecodeInto(src: Uint8Array, out: Uint8Array): number
  /** Base64 as characters in bytes. */
  base64Encode(data: Uint8Array, cpu?: string): Uint8Array
  /** The same into memory of the caller's. @returns characters written. */
  base64EncodeInto(data: Uint8Array, out: Uint8Array): number
  /** Tells the system that these bytes of an open file need not stay in its page cache; a hint, without effect where there is none. */
  dropCached(fd: number, offset: number, length: number): void
  /**
   * From now on memory of 128 KiB and more comes from the system block by block, and goes back to it when it is freed, in the whole process:
   * for those who keep such blocks and use them again. Without effect where the C library is not glibc.
   */
  largeApart(): void
  /**
   * Fills an array from a file by a thread, and tells the system that these bytes need not stay in its page cache. Linux.
   * @returns bytes read, less only at the end of the file.
   * @throws an error with the `code` of the system.
   */
  readCold: ((fd: number, offset: number, target: Uint8Array) => Promise<number>) | undefined
  /**
   * Writes arrays one behind the other past the page cache, by a thread; they must not change meanwhile. Linux.
   * @param direct - the file of `fd`, opened with O_DIRECT.
   * @throws an error with the `code` of the system.
   */
  writeDirect:
    | ((fd: number, direct: number, offset: number, buffers: readonly Uint8Array[]) => Promise<void>)
    | undefined
  /** Names of all SIMD paths that this machine has, narrowest first; none for the reference. */
  readonly paths: readonly string[]
  /** Kernels of data availability; absent in the reference: lib/codec/da/kernels.ts has them in TypeScript. */
  readonly da: NativeDa | undefined
  /** Reed-Solomon of storage stripes. */
  readonly rs: ReedSolomon
  /** Sealing and searching; absent in the reference: lib/codec/storage/pora-kernels.ts has them in TypeScript. */
  readonly pora: NativePora | undefined
}

/** What a miner computes (storage.md 9), off the event loop. Arrays must not change before a promise settles. */
export interface PoraKernels {
  /**
   * Seals 4,096-byte pieces.
   * @param masks - 32 bytes a seal, its first mask.
   * @param data - 4,096 bytes a seal, at most 4,096 seals.
   */
  seal(masks: Uint8Array, data: Uint8Array): Promise<Uint8Array>
  /** The reverse. */
  unseal(masks: Uint8Array, data: Uint8Array): Promise<Uint8Array>
  /** Prepares up to 64 tries; all of minerId, subtask and range digest have 32 bytes. @param nonces - 32 bytes a try. */
  pads(minerId: Uint8Array, nonces: Uint8Array, subtaskDigest: Uint8Array, rangeDigest: Uint8Array): Promise<PoraPads>
  /** The best seal of each segment that a try reads. */
  best(pads: PoraPads, reads: readonly PoraRead[]): Promise<PoraBest[]>
}

export interface NativePora extends PoraKernels {
  /** The same on one path of the hashing by name (tests and benchmarks). */
  with(path: string): PoraKernels
}

/** Prepared tries, one behind the other. */
export interface PoraPads {
  /** 64 bytes each. */
  seeds: Uint8Array
  /** 32 bytes each: which segment is read. */
  recalls: Uint8Array
  /** 16,384 bytes each. */
  pads: Uint8Array
}

export interface PoraRead {
  /** Which of the prepared tries. */
  index: number
  /** Bit i: seal i of the segment is held and counts. */
  held: bigint
  /** The sealed segment, 262,144 bytes; what is not held may be anything. */
  sealed: Uint8Array
}

export interface PoraBest {
  /** Of the seal with the lowest quality; undefined when none is held. */
  seal: number | undefined
  /** 32 bytes, big endian. */
  quality: Uint8Array
}

/**
 * Reed-Solomon of storage stripes (storage.md 11), off the event loop. Shards are read where they lie and must not change before a
 * promise settles, nor their buffers be transferred away. Shapes: 1 ≤ k, 0 ≤ m, k + m ≤ 256; shards of a call have one length of 1
 * to 262,144 bytes. Anything else is a ZgError ERR_BAD_INPUT.
 */
export interface ReedSolomon {
  /** SIMD paths of this machine, narrowest first; none for the reference. */
  readonly paths: readonly string[]
  /** The same on one path by name (tests and benchmarks). */
  with(path: string): ReedSolomon
  /**
   * The m parity shards of k data shards.
   * @param out - memory for all of them, one behind the other, when the caller has some to use again: new memory costs more than the
   *   coding itself.
   */
  encode(k: number, m: number, data: readonly Uint8Array[], out?: Uint8Array): Promise<Uint8Array[]>
  /**
   * Makes shards again from any k others.
   * @param shards - by index, undefined where not at hand; the first k present ones are used.
   * @param wanted - indexes of the shards to return; one that is present is handed back as it is.
   */
  reconstruct(
    k: number,
    m: number,
    shards: readonly (Uint8Array | undefined)[],
    wanted: readonly number[]
  ): Promise<Uint8Array[]>
  /** Σ shard[i] · ρⁱ in the tower field for each of up to 256 shards (lib/codec/storage/tower.ts), 16 bytes each; ρ has 16 bytes. */
  shardSums(rho: Uint8Array, shards: readonly Uint8Array[]): Promise<Uint8Array[]>
}

/**
 * The heavy parts of the fast mode of data availability (da-design.md 3, 4). All sizes are checked by the callers in
 * lib/codec/da. A tag is the 16-byte shape tag, p the 48 bytes tag ‖ R0. What promises read must not change before they settle.
 */
export interface DaKernels {
  /**
   * Encodes a blob.
   * @param data - rows one behind the other, at most k·w bytes; what is missing is zero.
   * @param parity - 2k·w bytes that receive rows k … 3k − 1, or undefined.
   * @returns row roots (3k × 32) ‖ z (k × 16).
   */
  encode(tag: Uint8Array, data: Uint8Array, parity: Uint8Array | undefined): Promise<Uint8Array>
  /** ρ of each row, 32 bytes each. Rows have w bytes. */
  rowRoots(tag: Uint8Array, rows: readonly Uint8Array[]): Promise<Uint8Array>
  /** Σ_j row[j] · r[j] of each row, 16 bytes each; r follows from p. */
  rowSums(p: Uint8Array, rows: readonly Uint8Array[]): Promise<Uint8Array>
  /** E = Enc(z): k × 16 to 3k × 16 bytes. */
  extendZ(z: Uint8Array): Uint8Array
  /** keccak(seed ‖ u64 0) ‖ keccak(seed ‖ u64 1) ‖ …, so many hashes; the seed has 32 bytes. */
  stream(seed: Uint8Array, hashes: number): Uint8Array
  /** All nodes over n hashes, n a power of two: leaves, then level by level up to the root; 32·(2n − 1) bytes. */
  treeNodes(leaves: Uint8Array): Uint8Array
  /**
   * The k data rows from k different code rows.
   * @param indexes - of the rows, below 3k.
   * @returns k·w bytes.
   */
  decode(w: number, indexes: Uint16Array, rows: readonly Uint8Array[]): Promise<Uint8Array>
}

/** What codec.node exports (native/napi/codec_napi.cpp). */
interface CodecAddon {
  info(): { cpu: string; paths: string[] }
  keccak256(data: Uint8Array, out: Uint8Array): void
  /** 32 bytes of result, then up to 1024 of message; absent where Node does not let JavaScript see native memory. */
  scratch?: Uint8Array
  hashScratch?(size: number): void
  segmentRoots(data: Uint8Array, lastLeaves: number): Promise<Uint8Array>
  segmentRootsMany?(segments: readonly Uint8Array[], leaves: Uint16Array): Promise<Uint8Array>
  segmentRootsSync(data: Uint8Array, lastLeaves: number, cpu?: string): Uint8Array
  treeRoot(hashes: Uint8Array): Uint8Array
  base64Encode(data: Uint8Array, out: Uint8Array, cpu?: string): void
  base64Decode(src: Uint8Array, from: number, to: number, out: Uint8Array, cpu?: string): boolean
  /** Absent in older builds. */
  dropCached?(fd: number, offset: number, length: number): void
  /** Absent in older builds. */
  largeApart?(): void
  /** 8 bytes: errno and bytes read; absent in older builds. */
  readCold?(fd: number, offset: number, target: Uint8Array): Promise<Uint8Array>
  /** 8 bytes, the first four the errno; absent in older builds. */
  writeDirect?(fd: number, direct: number, offset: number, buffers: readonly Uint8Array[]): Promise<Uint8Array>
  /** The kernels of native/napi/da_napi.cpp; the SIMD path of the code by name (tests and benchmarks). */
  da: DaAddon
  /** The kernels of native/napi/rs_napi.cpp. */
  rs?: RsAddon
  /** The kernels of native/napi/pora_napi.cpp. */
  pora?: PoraAddon
}

/** As {@link PoraKernels}, in flat arrays. */
interface PoraAddon {
  seal(masks: Uint8Array, data: Uint8Array, path?: string): Promise<Uint8Array>
  unseal(masks: Uint8Array, data: Uint8Array, path?: string): Promise<Uint8Array>
  pads(
    miner: Uint8Array,
    nonces: Uint8Array,
    subtask: Uint8Array,
    range: Uint8Array,
    path?: string
  ): Promise<Uint8Array>
  best(
    tries: Uint32Array,
    seeds: Uint8Array,
    pads: Uint8Array,
    held: Uint8Array,
    segments: readonly Uint8Array[],
    path?: string
  ): Promise<Uint8Array>
}

/** As {@link ReedSolomon}, except that shards are written into one array of the caller's. */
interface RsAddon {
  paths(): string[]
  encode(k: number, m: number, data: readonly Uint8Array[], out: Uint8Array, path?: string): Promise<void>
  reconstruct(
    k: number,
    m: number,
    have: Uint16Array,
    shards: readonly Uint8Array[],
    wanted: Uint16Array,
    out: Uint8Array,
    path?: string
  ): Promise<void>
  shardSums(rho: Uint8Array, shards: readonly Uint8Array[], path?: string): Promise<Uint8Array>
}

/** The native kernels, on the widest SIMD path of the code or on one by name. */
export interface NativeDa extends DaKernels {
  readonly paths: readonly string[]
  with(path: string): DaKernels
}

/** As {@link DaKernels}, except that results are written into arrays of the caller's where they are large. */
interface DaAddon {
  paths(): string[]
  encode(tag: Uint8Array, data: Uint8Array, parity: Uint8Array | undefined, path?: string): Promise<Uint8Array>
  rowRoots(tag: Uint8Array, rows: readonly Uint8Array[]): Promise<Uint8Array>
  rowSums(p: Uint8Array, rows: readonly Uint8Array[]): Promise<Uint8Array>
  extendZ(z: Uint8Array): Uint8Array
  stream(seed: Uint8Array, hashes: number): Uint8Array
  treeNodes(leaves: Uint8Array): Uint8Array
  decode(w: number, indexes: Uint16Array, rows: readonly Uint8Array[], out: Uint8Array, path?: string): Promise<void>
}

let chosen: Codec | undefined
const warn = (line: string): void => {
  process.stderr.write(`${line}\n`)
}

/**
 * The codec of this process, found at the first call.
 * @throws {ZgError} ERR_NATIVE when a native part is there but was built for another Node or platform, or is damaged, and when
 *   `ZG_CPU` names a path that this machine lacks.
 */
export function codec(): Codec {
  if (chosen !== undefined) return chosen
  const addon = process.env.ZG_NATIVE === 'off' ? undefined : load<CodecAddon>('codec')
  if (addon === undefined) {
    warn("zg: native codec not found, using the slower TypeScript reference\nhint: run 'npm run build:native'")
    chosen = reference()
  } else {
    chosen = native(addon)
  }
  return chosen
}

/** The TypeScript reference, whatever is installed: the other half of differential tests. */
export function reference(): Codec {
  const flat = (data: Uint8Array, lastLeaves?: number): Uint8Array =>
    segmentRootsReference(data, checkedLeaves(data, lastLeaves))
  return {
    path: 'reference',
    cpu: 'javascript',
    keccak256: (...parts) => keccak256Reference(parts.length === 1 ? parts[0]! : concat(...parts)),
    segmentRoots: async (data, lastLeaves) => split(flat(data, lastLeaves)),
    segmentRootsMany: async (segments, leaves) => segments.map((data, i) => flat(data, leaves[i])),
    segmentRootsSync: (data, lastLeaves) => split(flat(data, lastLeaves)),
    segmentRootsFlat: flat,
    treeRoot: hashes => treeRootReference(checkedHashes(hashes)),
    base64Decode: decodeBase64,
    base64DecodeInto: (src, out) => {
      const bytes = decodeBase64(src)
      if (bytes === undefined || bytes.length > out.length) return -1
      out.set(bytes)
      return bytes.length
    },
    base64Encode: encodeBase64,
    base64EncodeInto: (data, out) => {
      const text = encodeBase64(data)
      out.set(text)
      return text.length
    },
    dropCached: () => {},
    largeApart: () => {},
    readCold: undefined,
    writeDirect: undefined,
    paths: [],
    da: undefined,
    rs: referenceRs,
    pora: undefined
  }
}

const referenceRs: ReedSolomon = {
  paths: [],
  with: path => {
    throw new ZgError('ERR_BAD_INPUT', `the reference has no path '${path}'`)
  },
  encode: async (k, m, data, out) => {
    const made = rsEncode(k, m, data)
    if (out === undefined || m === 0) return made
    if (out.length !== m * made[0]!.length)
      throw new ZgError('ERR_BAD_INPUT', 'room for the parity is of another length')
    out.set(concat(...made))
    return split(out, made[0]!.length)
  },
  reconstruct: async (k, m, shards, wanted) => rsReconstruct(k, m, shards, wanted),
  shardSums: async (rho, shards) => shards.map(shard => shardSum(rho, shard))
}

function native(addon: CodecAddon): Codec {
  const { cpu, paths } = addon.info()
  let rs: ReedSolomon | undefined
  let pora: NativePora | undefined
  return {
    path: 'native',
    cpu,
    paths,
    keccak256: keccakOf(addon),
    segmentRoots: async (data, lastLeaves) => split(await addon.segmentRoots(data, checkedLeaves(data, lastLeaves))),
    segmentRootsMany: async (segments, leaves) => {
      const checked = Uint16Array.from(segments, (data, i) => checkedLeaves(data, leaves[i]))
      return split(await built(addon.segmentRootsMany)([...segments], checked))
    },
    segmentRootsSync: (data, lastLeaves) => split(addon.segmentRootsSync(data, checkedLeaves(data, lastLeaves))),
    segmentRootsFlat: (data, lastLeaves, cpu) =>
      cpu === undefined
        ? addon.segmentRootsSync(data, checkedLeaves(data, lastLeaves))
        : addon.segmentRootsSync(data, checkedLeaves(data, lastLeaves), cpu),
    treeRoot: hashes => addon.treeRoot(checkedHashes(hashes)),
    base64Decode: (src, from = 0, to = src.length, cpu) => {
      if (!(from >= 0 && from <= to && to <= src.length)) throw new ZgError('ERR_BAD_INPUT', 'ends out of range')
      if ((to - from) % 4 !== 0) return undefined
      const out = room(base64Bytes(src, from, to))
      return addon.base64Decode(src, from, to, out, cpu) ? out : undefined
    },
    base64DecodeInto: (src, out) => {
      if (src.length % 4 !== 0) return -1
      const size = base64Bytes(src, 0, src.length)
      if (size > out.length) return -1
      return addon.base64Decode(src, 0, src.length, out.subarray(0, size)) ? size : -1
    },
    base64EncodeInto: (data, out) => {
      const size = Math.ceil(data.length / 3) * 4
      if (size > out.length) throw new ZgError('ERR_BAD_INPUT', 'no room for the characters')
      addon.base64Encode(data, out.subarray(0, size))
      return size
    },
    dropCached: (fd, offset, length) => addon.dropCached?.(fd, offset, length),
    largeApart: () => addon.largeApart?.(),
    readCold: onLinux(addon.readCold) ? coldReader(addon.readCold) : undefined,
    writeDirect: onLinux(addon.writeDirect) ? directWriter(addon.writeDirect) : undefined,
    base64Encode: (data, cpu) => {
      const out = room(Math.ceil(data.length / 3) * 4)
      addon.base64Encode(data, out, cpu)
      return out
    },
    da: addon.da === undefined ? undefined : daOf(addon.da),
    get rs() {
      rs ??= rsOf(built(addon.rs))
      return rs
    },
    get pora() {
      pora ??= poraOf(built(addon.pora))
      return pora
    }
  }
}

function onLinux<T>(part: T | undefined): part is T {
  return part !== undefined && process.platform === 'linux'
}

function coldReader(read: NonNullable<CodecAddon['readCold']>): Codec['readCold'] {
  return async (fd, offset, target) => {
    const out = await read(fd, offset, target)
    const view = new DataView(out.buffer, out.byteOffset)
    if (view.getInt32(0, true) !== 0) throw systemError(view.getInt32(0, true), 'read')
    return view.getUint32(4, true)
  }
}

/** Arrays of one call. */
const DIRECT_ARRAYS = 1024

function directWriter(write: NonNullable<CodecAddon['writeDirect']>): Codec['writeDirect'] {
  return async (fd, direct, offset, buffers) => {
    for (let i = 0, at = offset; i < buffers.length; i += DIRECT_ARRAYS) {
      const part = buffers.slice(i, i + DIRECT_ARRAYS)
      const out = await write(fd, direct, at, part)
      const fault = new DataView(out.buffer, out.byteOffset).getInt32(0, true)
      if (fault !== 0) throw systemError(fault, 'write')
      for (const b of part) at += b.length
    }
  }
}

function systemError(errno: number, syscall: string): Error {
  const [code, words] = getSystemErrorMap().get(-errno) ?? ['EIO', 'input/output error']
  return Object.assign(new Error(`${code}: ${words}`), { code, errno: -errno, syscall })
}

/** Memory not filled with zeros first: all of it is written. Not of Node's pool either, so that it can be transferred. */
function room(bytes: number): Uint8Array {
  return new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer)
}

/** Bytes behind a multiple of four characters. */
function base64Bytes(src: Uint8Array, from: number, to: number): number {
  const padding = to === from || src[to - 1] !== 61 ? 0 : src[to - 2] !== 61 ? 1 : 2
  return ((to - from) / 4) * 3 - padding
}

function encodeBase64(data: Uint8Array): Uint8Array {
  const text = Buffer.from(data.buffer, data.byteOffset, data.length).toString('base64')
  return Uint8Array.from(Buffer.from(text, 'latin1'))
}

/** Base64 by Node, made strict: what encodes to the same text again is it. */
function decodeBase64(src: Uint8Array, from = 0, to = src.length): Uint8Array | undefined {
  if (!(from >= 0 && from <= to && to <= src.length)) throw new ZgError('ERR_BAD_INPUT', 'ends out of range')
  const text = Buffer.from(src.buffer, src.byteOffset + from, to - from).toString('latin1')
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? Uint8Array.from(bytes) : undefined
}

/** A part of the addon that older builds lack. */
function built<T>(part: T | undefined): T {
  if (part !== undefined) return part
  throw new ZgError('ERR_NATIVE', 'the native codec was built from an older source', {
    hint: "run 'npm run build:native'"
  })
}

/**
 * The native code of storage stripes.
 * @param path - one of `paths`; absent: the widest that ZG_CPU allows.
 */
function rsOf(addon: RsAddon, path?: string): ReedSolomon {
  const cut = (out: Uint8Array, bytes: number): Uint8Array[] =>
    Array.from({ length: out.length / bytes }, (_, i) => out.subarray(i * bytes, (i + 1) * bytes))
  return {
    paths: addon.paths(),
    with: path => rsOf(addon, path),
    encode: async (k, m, data, given) => {
      checkShape(k, m)
      if (data.length !== k) throw new ZgError('ERR_BAD_INPUT', `${data.length} data shards given, the code has ${k}`)
      const bytes = shardBytes(data)
      if (m === 0) return []
      if (given !== undefined && given.length !== m * bytes) {
        throw new ZgError(
          'ERR_BAD_INPUT',
          `room for ${m * bytes} bytes of parity is needed, ${given.length} were given`
        )
      }
      const out = given ?? room(m * bytes)
      await addon.encode(k, m, [...data], out, path)
      return cut(out, bytes)
    },
    reconstruct: async (k, m, shards, wanted) => {
      const present = [...shards]
      const asked = [...wanted]
      const { have, given, bytes, missing } = recoveryPlan(k, m, present, asked)
      const out = room(missing.length * bytes)
      if (missing.length > 0) {
        await addon.reconstruct(k, m, Uint16Array.from(have), given, Uint16Array.from(missing), out, path)
      }
      const made = cut(out, bytes)
      return asked.map(w => present[w] ?? made[missing.indexOf(w)]!)
    },
    shardSums: async (rho, shards) => {
      checkPoint(rho)
      if (shards.length === 0) return []
      shardBytes(shards)
      return split(await addon.shardSums(rho, [...shards], path), TOWER_BYTES)
    }
  }
}

/**
 * The native kernels of data availability.
 * @param path - one of `paths`, the SIMD path of the code; absent: the widest that ZG_CPU allows.
 */
function daOf(addon: DaAddon, path?: string): NativeDa {
  return {
    paths: addon.paths(),
    with: path => daOf(addon, path),
    encode: (tag, data, parity) => addon.encode(tag, data, parity, path),
    // The lists are copied: the worker reads what lies behind them, and the caller may change his.
    rowRoots: async (tag, rows) => (rows.length === 0 ? new Uint8Array(0) : addon.rowRoots(tag, [...rows])),
    rowSums: async (p, rows) => (rows.length === 0 ? new Uint8Array(0) : addon.rowSums(p, [...rows])),
    extendZ: z => addon.extendZ(z),
    stream: (seed, hashes) => addon.stream(seed, hashes),
    treeNodes: leaves => addon.treeNodes(leaves),
    decode: async (w, indexes, rows) => {
      const out = new Uint8Array(indexes.length * w)
      await addon.decode(w, indexes, [...rows], out, path)
      return out
    }
  }
}

/** @param path - of the hashing; absent: the widest that ZG_CPU allows. */
function poraOf(addon: PoraAddon, path?: string): NativePora {
  return {
    with: path => poraOf(addon, path),
    seal: (masks, data) => addon.seal(masks, data, path),
    unseal: (masks, data) => addon.unseal(masks, data, path),
    pads: async (miner, nonces, subtask, range) => {
      const flat = await addon.pads(miner, nonces, subtask, range, path)
      const tries = nonces.length / 32
      return {
        seeds: flat.subarray(0, 64 * tries),
        recalls: flat.subarray(64 * tries, 96 * tries),
        pads: flat.subarray(96 * tries)
      }
    },
    best: async (pads, reads) => {
      if (reads.length === 0) return []
      const held = new Uint8Array(8 * reads.length)
      const bits = new DataView(held.buffer)
      for (const [i, r] of reads.entries()) bits.setBigUint64(8 * i, r.held, true)
      const flat = await addon.best(
        Uint32Array.from(reads, r => r.index),
        pads.seeds,
        pads.pads,
        held,
        reads.map(r => r.sealed),
        path
      )
      return split(flat, 33).map(a => ({ seal: a[0] === 64 ? undefined : a[0]!, quality: a.subarray(1) }))
    }
  }
}

/** Short messages go through the addon's scratch: 0.4 µs for 64 bytes instead of 0.9. */
function keccakOf(addon: CodecAddon): Codec['keccak256'] {
  const { scratch, hashScratch } = addon
  const whole = (parts: readonly Uint8Array[]): Uint8Array => {
    const out = new Uint8Array(32)
    addon.keccak256(parts.length === 1 ? parts[0]! : concat(...parts), out)
    return out
  }
  if (scratch === undefined || hashScratch === undefined) return (...parts) => whole(parts)
  return (...parts) => {
    let at = 32
    for (const p of parts) {
      if (at + p.length > scratch.length) return whole(parts)
      scratch.set(p, at)
      at += p.length
    }
    hashScratch(at - 32)
    return scratch.slice(0, 32)
  }
}

/** The leaf count of the last segment, checked against the data: the native part relies on it. */
function checkedLeaves(data: Uint8Array, lastLeaves: number | undefined): number {
  if (data.length === 0) checkAttached(data)
  const rest = data.length === 0 ? 0 : ((data.length - 1) % SEGMENT_BYTES) + 1
  const least = Math.max(1, Math.ceil(rest / SECTOR_BYTES))
  if (lastLeaves === undefined) return least
  if (!Number.isInteger(lastLeaves) || lastLeaves < least || lastLeaves > 1024) {
    throw new ZgError('ERR_BAD_INPUT', `last segment cannot have ${lastLeaves} leaves, its data needs ${least} to 1024`)
  }
  return lastLeaves
}

/** An array whose buffer was transferred away looks empty: hashing it must not give the root of nothing. */
function checkAttached(data: Uint8Array): void {
  try {
    new Uint8Array(data.buffer)
  } catch (err) {
    throw new ZgError('ERR_BAD_INPUT', 'the bytes were transferred away', { cause: err })
  }
}

function checkedHashes(hashes: Uint8Array): Uint8Array {
  if (hashes.length === 0 || hashes.length % 32 !== 0) {
    throw new ZgError('ERR_BAD_INPUT', `${hashes.length} bytes are not one or more hashes of 32 bytes`)
  }
  return hashes
}

function split(flat: Uint8Array, size = 32): Uint8Array[] {
  const out: Uint8Array[] = []
  for (let i = 0; i < flat.length; i += size) out.push(flat.subarray(i, i + size))
  return out
}

/** The path at which a native part is looked for: `dist/native/<platform>-<arch>/<name>.node` under the package root. */
export function nativePath(name: string): string {
  return join(packageRoot(), 'dist', 'native', `${process.platform}-${process.arch}`, `${name}.node`)
}

/** What native/evm offers to test fixtures: one request, one answer, RLP both (native/evm/exec/conformance.h). */
export type Conformance = (kind: 'state' | 'block' | 'tx' | 'call' | 'trie' | 'rlp', request: Uint8Array) => Uint8Array

/** @throws {ZgError} ERR_NATIVE when the engine is not built. */
export function loadConformance(): Conformance {
  const addon = load<{ conformance: Conformance }>('evm')
  if (addon === undefined)
    throw new ZgError('ERR_NATIVE', 'the native engine is not built', { hint: "run 'npm run build'" })
  return (kind, request) => addon.conformance(kind, request)
}

function load<T>(name: string): T | undefined {
  const file = nativePath(name)
  if (!existsSync(file)) return undefined
  try {
    return createRequire(import.meta.url)(file) as T
  } catch (err) {
    throw loadError(err, file)
  }
}

/** Says in words why a native part did not load. */
export function loadError(err: unknown, file: string): ZgError {
  const text = err instanceof Error ? err.message : String(err)
  const hint = "run 'npm run build'"
  if (/ZG_CPU/.test(text))
    return new ZgError('ERR_NATIVE', text, { hint: 'unset ZG_CPU or name a path of this machine' })
  const built = builtFor(file)
  const here = `Node ${process.versions.node.split('.')[0]} ${process.platform}-${process.arch}`
  const foreign = /NODE_MODULE_VERSION|Node-API version|invalid ELF|wrong ELF|wrong architecture|incompatible arch/i
  if (foreign.test(text) || (built !== undefined && built !== here)) {
    const message = `native part was built for ${built ?? 'another Node or platform'}, this is ${here}`
    return new ZgError('ERR_NATIVE', message, { hint, cause: err })
  }
  return new ZgError('ERR_NATIVE', `native part '${file}' does not load`, { hint, cause: err })
}

/** What the build script wrote beside the file, when it did. */
function builtFor(file: string): string | undefined {
  try {
    const note = JSON.parse(readFileSync(file.replace(/\.node$/, '.json'), 'utf8')) as { built?: unknown }
    return typeof note.built === 'string' ? note.built : undefined
  } catch {
    // The note is a courtesy: without it the error is only less exact.
    return undefined
  }
}
