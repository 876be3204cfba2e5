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
  chunks(start: number, end: number, o?: { signal?: AbortSignal; window?: number }): AsyncIterable<Chunk>
  /** How many of the first `haveBytes` of a local copy are known to be right, at a place where reading can go on. */
  resumeAt(haveBytes: number, read: ReadAt): Promise<number>
}

/** Pieces of which the roots are fetched at the same time. */
const OPENING = 4

export class RemoteStream implements Downloadable {
  readonly files: readonly RemoteFile[]
  /** Of what comes out, without the header of an encrypted stream. */
  readonly sizeBytes: number
  readonly #key: { stream: StreamKey; header: Uint8Array } | undefined

  private constructor(files: readonly RemoteFile[], key: { stream: StreamKey; header: Uint8Array } | undefined) {
    this.files = files
    this.#key = key
    this.sizeBytes = storedBytes(files) - (key?.header.length ?? 0)
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
    const files: RemoteFile[] = []
    let next = 0
    const lane = async (): Promise<void> => {
      while (next < roots.length) {
        const i = next++
        files[i] = await RemoteFile.open(pool, roots[i]!, call)
      }
    }
    await Promise.all(Array.from({ length: Math.min(OPENING, roots.length) }, lane))
    if (key === undefined) return new RemoteStream(files, undefined)
    const stored = new RemoteStream(files, undefined)
    const start = await stored.#all(0, Math.min(MAX_HEADER_BYTES, stored.sizeBytes))
    const header = parseHeader(start)
    return new RemoteStream(files, { stream: openStream(header, key), header: start.subarray(0, header.bytes) })
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
  async *bytes(
    start: number,
    end: number,
    o: { signal?: AbortSignal; window?: number } = {}
  ): AsyncGenerator<Uint8Array> {
    for await (const { bytes } of this.chunks(start, end, o)) yield bytes
  }

  /** As {@link bytes}, for those who say when they are done with a part. */
  async *chunks(start: number, end: number, o: { signal?: AbortSignal; window?: number } = {}): AsyncGenerator<Chunk> {
    if (start >= end) return
    if (this.#key === undefined) {
      yield* this.#stored(start, end, o)
      return
    }
    const { stream, header } = this.#key
    const decrypt = cipherFrom(stream, start)
    for await (const { bytes, release } of this.#stored(start + header.length, end + header.length, o)) {
      const plain = decrypt(bytes)
      release()
      yield { bytes: plain, release: () => {} }
    }
  }

  async resumeAt(haveBytes: number, read: ReadAt): Promise<number> {
    const header = this.#key?.header ?? new Uint8Array(0)
    const have = Math.min(haveBytes, this.sizeBytes) + header.length
    let at = 0
    for (const file of this.files) {
      const mine = Math.min(file.sizeBytes, have - at)
      if (mine <= 0) break
      const from = at
      const good = await file.checkPrefix(mine, (offset, length) => this.#asStored(from + offset, length, read))
      at += Math.min(good * SEGMENT_BYTES, file.sizeBytes)
      if (good < file.shape.segments) break
    }
    return Math.max(0, at - header.length)
  }

  /** A piece of the stored stream made from the local copy of what it decrypts to. */
  async #asStored(offset: number, length: number, read: ReadAt): Promise<Uint8Array> {
    if (this.#key === undefined) return read(offset, length)
    const { stream, header } = this.#key
    const head = header.subarray(offset, offset + length)
    const from = Math.max(0, offset - header.length)
    const plain = await read(from, length - head.length)
    const out = new Uint8Array(head.length + plain.length)
    out.set(head)
    out.set(cryptAt(stream, from, plain), head.length)
    return out
  }

  async *#stored(start: number, end: number, o: { signal?: AbortSignal; window?: number }): AsyncGenerator<Chunk> {
    let at = 0
    for (const f of this.files) {
      const from = Math.max(0, start - at)
      const to = Math.min(f.sizeBytes, end - at)
      if (from < to) yield* f.chunks(from, to, o)
      at += f.sizeBytes
    }
  }

  async #all(start: number, end: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = []
    for await (const part of this.bytes(start, end, { window: 1 })) parts.push(part)
    return Buffer.concat(parts)
  }

  /** The whole, in memory. @throws {ZgError} ERR_BAD_INPUT above `maxBytes`. */
  async all(maxBytes: number): Promise<Uint8Array> {
    if (this.sizeBytes > maxBytes) {
      const name = toHex(this.files[0]!.root)
      throw new ZgError('ERR_BAD_INPUT', `${name} has ${this.sizeBytes} bytes, at most ${maxBytes} are read here`)
    }
    return this.#all(0, this.sizeBytes)
  }
}

function storedBytes(files: readonly RemoteFile[]): number {
  return files.reduce((sum, f) => sum + f.sizeBytes, 0)
}
