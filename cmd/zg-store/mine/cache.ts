/**
 * Sealed copies on disk, one file a segment of the flow, under a directory of the miner id. It is a cache: anything in it can be made again
 * from the node's data, so nothing is synced, and what does not fit its checksum is made again.
 *
 *   8 'zgseal1\0' · 32 miner id · 8 segment · 8 held (bit i: seal i is sealed) · 64 × 32 context digests · 32 checksum · zeros up to 4,096 ·
 *   262,144 sealed bytes. Integers big endian; the checksum is keccak over everything else.
 */
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { concat, equalBytes, u64be } from '../../../lib/base/bytes.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { SEGMENT_SEALS } from '../../../lib/codec/storage/pora.ts'
import { SEGMENT_BYTES } from '../../../lib/codec/storage/shape.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'

const MAGIC = new TextEncoder().encode('zgseal1\0')
const HEAD_BYTES = 4096
const FILE_BYTES = HEAD_BYTES + SEGMENT_BYTES
const CHECKSUM_AT = 8 + 32 + 8 + 8 + SEGMENT_SEALS * 32

/** A segment as far as it is sealed. */
export interface SealedSegment {
  held: bigint
  /** Context digest of each seal, 32 bytes; of those that are not sealed anything. */
  digests: Uint8Array
  data: Uint8Array
}

export class SealCache {
  readonly #dir: string
  readonly #minerId: Uint8Array
  /** What each file holds; its checksum was right when it was read into this. */
  readonly #held = new Map<number, bigint>()

  private constructor(dir: string, minerId: Uint8Array) {
    this.#dir = dir
    this.#minerId = minerId
  }

  /** Files of one segment. */
  static readonly fileBytes = FILE_BYTES

  /** Opens the directory and drops the copies of other miner ids, which are of no use any more. */
  static async open(root: string, minerId: Uint8Array): Promise<SealCache> {
    const own = toHex(minerId).slice(2)
    await mkdir(join(root, own), { recursive: true, mode: 0o700 })
    for (const name of await readdir(root)) {
      if (/^[0-9a-f]{64}$/.test(name) && name !== own) await rm(join(root, name), { recursive: true, force: true })
    }
    const cache = new SealCache(join(root, own), minerId)
    for (const name of await readdir(cache.#dir)) {
      const m = /^([0-9a-f]{13})\.seal$/.exec(name)
      if (m === null) await rm(join(cache.#dir, name), { force: true })
      else await cache.load(Number.parseInt(m[1]!, 16))
    }
    return cache
  }

  get count(): number {
    return this.#held.size
  }

  /** Bit i: seal i of the segment is sealed. */
  held(segment: number): bigint {
    return this.#held.get(segment) ?? 0n
  }

  /** The whole copy; undefined when there is none or it is damaged, and then it is gone. */
  async load(segment: number): Promise<SealedSegment | undefined> {
    const bytes = await readFile(this.#path(segment)).catch(() => undefined)
    const found = bytes === undefined ? undefined : this.#decode(segment, bytes)
    if (found === undefined) {
      this.#held.delete(segment)
      if (bytes !== undefined) await rm(this.#path(segment), { force: true })
    } else {
      this.#held.set(segment, found.held)
    }
    return found
  }

  /** Only the sealed bytes, unchecked: an answer is checked before it leaves. @returns false when they are not there. */
  async readInto(segment: number, into: Uint8Array): Promise<boolean> {
    const file = await open(this.#path(segment), 'r').catch(() => undefined)
    if (file === undefined) {
      this.#held.delete(segment)
      return false
    }
    try {
      const { bytesRead } = await file.read(into, 0, SEGMENT_BYTES, HEAD_BYTES)
      return bytesRead === SEGMENT_BYTES
    } finally {
      await file.close()
    }
  }

  async store(segment: number, s: SealedSegment): Promise<void> {
    const head = new Uint8Array(HEAD_BYTES)
    head.set(concat(MAGIC, this.#minerId, u64be(segment), u64be(s.held), s.digests))
    head.set(keccak256(head, s.data), CHECKSUM_AT)
    const path = this.#path(segment)
    await writeFile(`${path}.part`, concat(head, s.data), { mode: 0o600 })
    await rename(`${path}.part`, path)
    this.#held.set(segment, s.held)
  }

  async drop(segment: number): Promise<void> {
    this.#held.delete(segment)
    await rm(this.#path(segment), { force: true })
  }

  #decode(segment: number, bytes: Uint8Array): SealedSegment | undefined {
    if (bytes.length !== FILE_BYTES) return undefined
    const head = Uint8Array.from(bytes.subarray(0, HEAD_BYTES))
    const checksum = head.slice(CHECKSUM_AT, CHECKSUM_AT + 32)
    head.fill(0, CHECKSUM_AT, CHECKSUM_AT + 32)
    const data = bytes.subarray(HEAD_BYTES)
    const start = concat(MAGIC, this.#minerId, u64be(segment))
    if (!equalBytes(head.subarray(0, start.length), start) || !equalBytes(keccak256(head, data), checksum))
      return undefined
    const held = (BigInt(view32(head, 48)) << 32n) | BigInt(view32(head, 52))
    return { held, digests: head.slice(56, CHECKSUM_AT), data }
  }

  #path(segment: number): string {
    return join(this.#dir, `${segment.toString(16).padStart(13, '0')}.seal`)
  }
}

function view32(b: Uint8Array, at: number): number {
  return new DataView(b.buffer, b.byteOffset).getUint32(at)
}
