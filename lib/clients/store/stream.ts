/**
 * What people see as one file: the pieces that it was cut into, one behind the other, decrypted where it was encrypted. Any range
 * of it can be read, verified, and a local copy of its beginning can be checked without fetching it again.
 */
import { ZgError } from '../../base/errors.ts'
import { toHex } from '../../base/hex.ts'
import {
  cipherFrom,
  cryptAt,
  type DecryptWith,
  MAX_HEADER_BYTES,
  openStream,
  parseHeader,
  type StreamKey
} from '../../codec/storage/encryption.ts'
import { SEGMENT_BYTES } from '../../codec/storage/shape.ts'
import { type Chunk, RemoteFile } from './get.ts'
import type { CallOptions } from './node.ts'
import type { NodePool } from './nodes.ts'

export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>

/** What can be downloaded: read by ranges, and a local beginning of it checked. */
export interface Downloadable {
  readonly sizeBytes: number
  chunks(start: number, end: number, o?: ReadOptions): AsyncIterable<Chunk>
  /** How many of the first `haveBytes` of a local copy are known to be right, at a place where reading can go on. */
  resumeAt(haveBytes: number, read: ReadAt): Promise<number>
}

/** Pieces of which the roots are fetched at the same time. */
const OPENING = 4
/** Nobody cuts smaller. */
const MIN_PIECE_BYTES = 256

interface ReadOptions {
  signal?: AbortSignal
  window?: number
}

/** What opens a stored stream, and the header in front of it. */
interface Opened {
  stream: StreamKey
  header: Uint8Array
}

/** Files that are one stored stream: all pieces as a rule, one piece when each was encrypted for itself. */
interface Section {
  files: readonly RemoteFile[]
  key: Opened | undefined
  /** Of what comes out. */
  sizeBytes: number
}

export class RemoteStream implements Downloadable {
  readonly files: readonly RemoteFile[]
  /** Of what comes out, without the header of an encrypted stream. */
  readonly sizeBytes: number
  readonly #sections: readonly Section[]

  private constructor(sections: readonly Section[]) {
    this.files = sections.flatMap(s => s.files)
    this.#sections = sections
    this.sizeBytes = sections.reduce((sum, s) => sum + s.sizeBytes, 0)
  }

  /**
   * @param o.key - the stream is encrypted and this opens it.
   * @throws {ZgError} as RemoteFile.open; ERR_CORRUPT when a key was given and nothing was encrypted; ERR_BAD_INPUT when it wants
   *   another kind of key.
   */
  static async open(
    pool: NodePool,
    roots: readonly Uint8Array[],
    o: CallOptions & { key?: DecryptWith | undefined } = {}
  ): Promise<RemoteStream> {
    const { key, ...call } = o
    if (roots.length === 0) throw new ZgError('ERR_BAD_INPUT', 'a stream has at least one root')
    const files = await eachOf(roots, root => RemoteFile.open(pool, root, call))
    if (key === undefined) return new RemoteStream([section(files, undefined)])
    const first = opened(await beginning(files), key)
    if (!cutBeforeEncryption(files, first.header.length)) return new RemoteStream([section(files, first)])
    const starts = await eachOf(files, file => beginning([file]))
    if (starts.some(start => start[0] !== first.header[0])) return new RemoteStream([section(files, first)])
    return new RemoteStream(files.map((file, i) => section([file], opened(starts[i]!, key))))
  }

  /** URLs of all nodes that hold a piece. */
  get nodes(): string[] {
    return [...new Set(this.files.flatMap(f => f.nodes))]
  }

  get segments(): number {
    return this.files.reduce((sum, f) => sum + f.shape.segments, 0)
  }

  /** What went wrong with nodes although everything was read. */
  get problems(): string[] {
    return this.files.flatMap(f => f.problems)
  }

  /** Bytes [start, end) of what comes out, verified, in order. @throws {ZgError} as RemoteFile.segments. */
  async *bytes(start: number, end: number, o: ReadOptions = {}): AsyncGenerator<Uint8Array> {
    for await (const { bytes } of this.chunks(start, end, o)) yield bytes
  }

  /** As {@link bytes}, for those who say when they are done with a part. */
  async *chunks(start: number, end: number, o: ReadOptions = {}): AsyncGenerator<Chunk> {
    let at = 0
    for (const s of this.#sections) {
      const from = Math.max(0, start - at)
      const to = Math.min(s.sizeBytes, end - at)
      if (from < to) yield* s.key === undefined ? stored(s.files, from, to, o) : decrypted(s.files, s.key, from, to, o)
      at += s.sizeBytes
    }
  }

  async resumeAt(haveBytes: number, read: ReadAt): Promise<number> {
    let at = 0
    for (const s of this.#sections) {
      if (haveBytes <= at) break
      const from = at
      const have = Math.min(haveBytes - at, s.sizeBytes)
      const good = await goodStart(s, have, (offset, length) => read(from + offset, length))
      at += good
      if (good < s.sizeBytes) break
    }
    return at
  }

  /** The whole, in memory. @throws {ZgError} ERR_BAD_INPUT above `maxBytes`. */
  async all(maxBytes: number): Promise<Uint8Array> {
    if (this.sizeBytes > maxBytes) {
      const name = toHex(this.files[0]!.root)
      throw new ZgError('ERR_BAD_INPUT', `${name} has ${this.sizeBytes} bytes, at most ${maxBytes} are read here`)
    }
    const parts: Uint8Array[] = []
    for await (const part of this.bytes(0, this.sizeBytes, { window: 1 })) parts.push(part)
    return Buffer.concat(parts)
  }
}

function section(files: readonly RemoteFile[], key: Opened | undefined): Section {
  return { files, key, sizeBytes: storedBytes(files) - (key?.header.length ?? 0) }
}

function storedBytes(files: readonly RemoteFile[]): number {
  return files.reduce((sum, f) => sum + f.sizeBytes, 0)
}

/** Results in order, a few at a time. */
async function eachOf<T, R>(list: readonly T[], fn: (item: T) => Promise<R>): Promise<R[]> {
  const out: R[] = []
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < list.length) {
      const i = next++
      out[i] = await fn(list[i]!)
    }
  }
  await Promise.all(Array.from({ length: Math.min(OPENING, list.length) }, lane))
  return out
}

/** Where the header of a stored stream is. */
async function beginning(files: readonly RemoteFile[]): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  const end = Math.min(MAX_HEADER_BYTES, storedBytes(files))
  for await (const { bytes } of stored(files, 0, end, { window: 1 })) parts.push(bytes)
  return Buffer.concat(parts)
}

function opened(start: Uint8Array, key: DecryptWith): Opened {
  const header = parseHeader(start)
  return { stream: openStream(header, key), header: start.subarray(0, header.bytes) }
}

/**
 * Two ways of cutting an encrypted file are found. The stream is cut after encryption (storage.md 7.2, zg and upstream's own client):
 * pieces of a power of two, one header, one run of the counter. Or, `upload` of the newer SDK, the plaintext is cut and every piece
 * encrypted like a file of its own: then the pieces are longer than a power of two by a header, which the first way never makes.
 */
function cutBeforeEncryption(files: readonly RemoteFile[], headerBytes: number): boolean {
  if (files.length < 2) return false
  const piece = files[0]!.sizeBytes - headerBytes
  if (piece < MIN_PIECE_BYTES || !Number.isInteger(Math.log2(piece))) return false
  return files.every(({ sizeBytes }, i) =>
    i < files.length - 1
      ? sizeBytes === piece + headerBytes
      : sizeBytes > headerBytes && sizeBytes <= piece + headerBytes
  )
}

async function* stored(
  files: readonly RemoteFile[],
  start: number,
  end: number,
  o: ReadOptions
): AsyncGenerator<Chunk> {
  let at = 0
  for (const f of files) {
    const from = Math.max(0, start - at)
    const to = Math.min(f.sizeBytes, end - at)
    if (from < to) yield* f.chunks(from, to, o)
    at += f.sizeBytes
  }
}

async function* decrypted(
  files: readonly RemoteFile[],
  { stream, header }: Opened,
  start: number,
  end: number,
  o: ReadOptions
): AsyncGenerator<Chunk> {
  const decrypt = cipherFrom(stream, start)
  for await (const { bytes, release } of stored(files, start + header.length, end + header.length, o)) {
    const plain = decrypt(bytes)
    release()
    yield { bytes: plain, release: () => {} }
  }
}

/** How many of the first `haveBytes` of a local copy of a section are right. */
async function goodStart({ files, key }: Section, haveBytes: number, read: ReadAt): Promise<number> {
  const headerBytes = key?.header.length ?? 0
  const have = haveBytes + headerBytes
  let at = 0
  for (const file of files) {
    const mine = Math.min(file.sizeBytes, have - at)
    if (mine <= 0) break
    const from = at
    const good = await file.checkPrefix(mine, (offset, length) => asStored(key, from + offset, length, read))
    at += Math.min(good * SEGMENT_BYTES, file.sizeBytes)
    if (good < file.shape.segments) break
  }
  return Math.max(0, at - headerBytes)
}

/** A piece of the stored stream made from the local copy of what it decrypts to. */
async function asStored(key: Opened | undefined, offset: number, length: number, read: ReadAt): Promise<Uint8Array> {
  if (key === undefined) return read(offset, length)
  const { stream, header } = key
  const head = header.subarray(offset, offset + length)
  const from = Math.max(0, offset - header.length)
  const plain = await read(from, length - head.length)
  const out = new Uint8Array(head.length + plain.length)
  out.set(head)
  out.set(cryptAt(stream, from, plain), head.length)
  return out
}
