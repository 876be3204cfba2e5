/**
 * Small files that arrived before their transaction (storage.md 3.3): kept in memory by root for five minutes, already checked
 * against the root, and stored when the transaction appears. Bounded in bytes, because anyone may send such a file for nothing.
 */
import { toHex } from '../../../lib/base/hex.ts'
import { type SegmentUpload, tooBusy } from './upload-checks.ts'

interface CachedFile {
  segments: Map<number, CachedSegment>
  bytes: number
  expiresAtMs: number
}

export interface CachedSegment extends SegmentUpload {
  readonly leaf: Uint8Array
}

const TTL_MS = 300_000
const TOTAL_BYTES = 128 * 1024 * 1024

export class SegmentCache {
  readonly #files = new Map<string, CachedFile>()
  readonly #totalBytes: number
  #bytes = 0

  constructor(totalBytes: number = TOTAL_BYTES) {
    this.#totalBytes = totalBytes
  }

  get bytes(): number {
    return this.#bytes
  }

  has(root: Uint8Array): boolean {
    return this.#files.has(toHex(root))
  }

  /** Segments of a file and its size as the first one claimed; undefined when it is not here. */
  peek(root: Uint8Array): { size: number; indices: number[] } | undefined {
    const file = this.#files.get(toHex(root))
    const first = file?.segments.values().next()
    if (file === undefined || first === undefined || first.done) return undefined
    return { size: first.value.fileSize, indices: [...file.segments.keys()] }
  }

  /**
   * Keeps a checked segment. `nowMs` is monotonic.
   * @returns false when it was here already.
   * @throws {UploadRefusal} `too many data writing` when the bound is reached.
   */
  put(segment: CachedSegment, nowMs: number): boolean {
    this.expire(nowMs)
    const name = toHex(segment.root)
    const file = this.#files.get(name) ?? { segments: new Map(), bytes: 0, expiresAtMs: 0 }
    if (file.segments.has(segment.index)) return false
    if (this.#bytes + segment.data.length > this.#totalBytes) throw tooBusy(this.#files.size)
    // Copied: the uploader's memory is used again as soon as it is answered.
    file.segments.set(segment.index, { ...segment, data: new Uint8Array(segment.data) })
    file.bytes += segment.data.length
    file.expiresAtMs = nowMs + TTL_MS
    this.#bytes += segment.data.length
    // The map is in order of expiry, so that the oldest stand first.
    this.#files.delete(name)
    this.#files.set(name, file)
    return true
  }

  /** Hands a file over and forgets it. */
  take(root: Uint8Array): CachedSegment[] {
    const name = toHex(root)
    const file = this.#files.get(name)
    if (file === undefined) return []
    this.#files.delete(name)
    this.#bytes -= file.bytes
    return [...file.segments.values()]
  }

  expire(nowMs: number): void {
    for (const [name, file] of this.#files) {
      if (file.expiresAtMs > nowMs) break
      this.#files.delete(name)
      this.#bytes -= file.bytes
    }
  }
}
