/**
 * JSON request bodies with large base64 strings, taken apart while they arrive: a string that grows beyond 32 KiB is decoded piece by
 * piece into memory of the pool, and in the text that is parsed later a short mark stands in its place. So a segment of 350 KB of
 * JSON is held once, as 256 KiB of bytes, never becomes a string, and what is parsed is one kilobyte.
 *
 * ```
 *   …"data":"QgAAAA … AAA=","index":0…      →   …"data":"\u0000 0","index":0…   and   blobs[0] = 42 00 00 …
 * ```
 *
 * A client can write such a mark itself; it then names one of its own blobs, or none.
 */
import { decodeBase64 } from './base64.ts'
import { type Lease, lease } from './buffers.ts'

/** Data of a segment; longer strings are counted, not kept. */
const MAX_BLOB_BYTES = 262_144
/** Shorter strings stay where they are: so a slow client holds what it sent, and not a slot. */
const LONG_BYTES = 32 * 1024
const QUOTE = 0x22
const BACKSLASH = 0x5c
const MARK = '\u0000'

/** A string that was lifted out: its bytes, or what is wrong with it. */
export interface Blob {
  bytes: Uint8Array
  fault: 'not base64' | 'invalid data length' | undefined
  /** Absent when the bytes have memory of their own. */
  lease: Lease | undefined
}

/** The blob that a parsed string stands for; undefined for an ordinary string. */
export function blobOf(text: string, blobs: readonly Blob[]): Blob | undefined {
  return text.length < 12 && text.startsWith(MARK) ? blobs[Number(text.slice(1))] : undefined
}

export function releaseBlobs(blobs: readonly Blob[]): void {
  for (const b of blobs) {
    b.lease?.release()
    b.lease = undefined
  }
}

/** One body. Call {@link push} for each piece, then {@link text}; release the blobs whatever happens. */
export class JsonBody {
  readonly blobs: Blob[] = []
  /** The text outside blobs. */
  #parts: Buffer[] = []
  /** The string that is being read, its opening quote included; undefined outside strings. */
  #string: Buffer[] | undefined
  #stringBytes = 0
  #escapes = false
  /** The last byte was a backslash within a string. */
  #escaped = false
  #blob: GrowingBlob | undefined

  push(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#blob !== undefined) at = this.#inBlob(chunk, at)
      else if (this.#string !== undefined) at = this.#inString(chunk, at)
      else {
        const quote = chunk.indexOf(QUOTE, at)
        const end = quote < 0 ? chunk.length : quote
        if (end > at) this.#parts.push(copy(chunk, at, end))
        at = end
        if (quote < 0) continue
        this.#string = []
        this.#stringBytes = 0
        this.#escapes = false
        this.#keep(chunk, at, at + 1)
        at++
      }
    }
  }

  /** The text to parse, once the body is complete. Unfinished strings make it malformed, as they are. */
  text(): string {
    if (this.#string !== undefined) this.#parts.push(...this.#string)
    return Buffer.concat(this.#parts).toString('utf8')
  }

  #keep(chunk: Buffer, from: number, to: number): void {
    if (to === from) return
    this.#string!.push(copy(chunk, from, to))
    this.#stringBytes += to - from
  }

  /** @returns where to go on. */
  #inString(chunk: Buffer, from: number): number {
    let at = from
    if (this.#escaped) {
      this.#escaped = false
      at++
    }
    for (;;) {
      const quote = chunk.indexOf(QUOTE, at)
      const end = quote < 0 ? chunk.length : quote
      const slash = chunk.subarray(at, end).indexOf(BACKSLASH)
      if (slash >= 0) {
        this.#escapes = true
        at += slash + 2
        if (at <= chunk.length) continue
        this.#escaped = true
        this.#keep(chunk, from, chunk.length)
        return chunk.length
      }
      if (!this.#escapes && this.#stringBytes + end - from > LONG_BYTES) {
        this.#beginBlob()
        return from
      }
      const stop = quote < 0 ? end : quote + 1
      this.#keep(chunk, from, stop)
      if (quote >= 0) {
        this.#parts.push(...this.#string!)
        this.#string = undefined
      }
      return stop
    }
  }

  #beginBlob(): void {
    const begun = Buffer.concat(this.#string!).subarray(1)
    this.#string = undefined
    this.#blob = new GrowingBlob()
    this.#blob.push(begun)
  }

  #inBlob(chunk: Buffer, at: number): number {
    const blob = this.#blob!
    const quote = chunk.indexOf(QUOTE, at)
    const end = quote < 0 ? chunk.length : quote
    const slash = chunk.subarray(at, end).indexOf(BACKSLASH)
    if (slash >= 0) {
      // Some writers escape '/' or '+'. Rare enough to go on as an ordinary string, with the text made again from the bytes.
      blob.push(chunk.subarray(at, at + slash))
      const text = blob.undo()
      this.#blob = undefined
      this.#string = [Buffer.from('"'), text]
      this.#stringBytes = text.length + 1
      this.#escapes = true
      return at + slash
    }
    blob.push(chunk.subarray(at, end))
    if (quote < 0) return end
    this.#parts.push(Buffer.from(`"\\u0000${this.blobs.length}"`))
    this.blobs.push(blob.finish())
    this.#blob = undefined
    return end + 1
  }

  /** Gives back all memory of the pool. */
  release(): void {
    this.#blob?.drop()
    this.#blob = undefined
    releaseBlobs(this.blobs)
  }
}

class GrowingBlob {
  readonly #lease: Lease = lease()
  #size = 0
  /** The last 1 to 4 characters: they may be the padded end. */
  #carry: Buffer = Buffer.alloc(0)
  #fault: Blob['fault']

  push(piece: Buffer): void {
    if (piece.length === 0 || this.#fault !== undefined) return
    const total = this.#carry.length + piece.length
    const keep = ((total - 1) % 4) + 1
    if (total === keep) {
      this.#carry = Buffer.concat([this.#carry, piece])
      return
    }
    const head = (4 - this.#carry.length) % 4
    if (this.#carry.length > 0) this.#decode(Buffer.concat([this.#carry, piece.subarray(0, head)]))
    this.#decode(piece.subarray(head, piece.length - keep))
    this.#carry = Buffer.from(piece.subarray(piece.length - keep))
  }

  #decode(text: Buffer): void {
    if (text.length === 0 || this.#fault !== undefined) return
    if (this.#size + (text.length / 4) * 3 > MAX_BLOB_BYTES) {
      this.#fault = 'invalid data length'
      return
    }
    const wrote = decodeBase64(text, this.#lease.bytes, this.#size)
    if (wrote < 0) this.#fault = 'not base64'
    else this.#size += wrote
  }

  finish(): Blob {
    if (this.#fault === undefined && this.#carry.length > 0) {
      const end = this.#carry.toString('latin1')
      const padding = end.endsWith('==') ? 2 : end.endsWith('=') ? 1 : 0
      const bytes = Buffer.from(end, 'base64')
      if (end.length !== 4 || bytes.length !== 3 - padding || /[-_]/.test(end)) this.#fault = 'not base64'
      else if (this.#size + bytes.length > MAX_BLOB_BYTES) this.#fault = 'invalid data length'
      else {
        bytes.copy(this.#lease.bytes, this.#size)
        this.#size += bytes.length
      }
    }
    // A plain array: a Buffer's slice would share the memory where everybody expects a copy.
    const bytes = new Uint8Array(this.#lease.bytes.buffer, this.#lease.bytes.byteOffset, this.#size)
    if (this.#fault === undefined && 2 * this.#size > this.#lease.bytes.length) {
      return { bytes, fault: undefined, lease: this.#lease }
    }
    const own = this.#fault === undefined ? Uint8Array.from(bytes) : new Uint8Array(0)
    this.#lease.release()
    return { bytes: own, fault: this.#fault, lease: undefined }
  }

  /** The text so far, or another that is no base64 either; the memory is given back. */
  undo(): Buffer {
    const text = this.#fault === undefined ? this.#lease.bytes.toString('base64', 0, this.#size) : '-'
    this.#lease.release()
    return Buffer.concat([Buffer.from(text, 'latin1'), this.#carry])
  }

  drop(): void {
    this.#lease.release()
  }
}

function copy(chunk: Buffer, from: number, to: number): Buffer {
  return Buffer.from(chunk.subarray(from, to))
}
