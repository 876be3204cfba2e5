/**
 * What a storage node holds, by segments of the flow: the final files, read from the node's own RPC. A seal counts as held when all of its
 * sectors belong to final files; gaps between files are nobody's data and are not mined, though they could be. A member of a coding group
 * answers for every file, but holds a part of each: only sectors on its own disk count, so that what it earns follows what it stores
 * (docs/decisions/0071).
 */
import type { StoreNode } from '../../../lib/clients/store.ts'
import { SEAL_SECTORS, SEGMENT_SEALS } from '../../../lib/codec/storage/pora.ts'
import { SECTOR_BYTES, SEGMENT_BYTES, SEGMENT_SECTORS, shape } from '../../../lib/codec/storage/shape.ts'

/** Submissions asked about in one refresh. */
const REFRESH_SUBMISSIONS_MAX = 1_000
/** Of a refresh, at the same time. */
const PARALLEL_CALLS = 8

/** Segments of one question about a member's own sectors, bytes of the answer for each. */
const MASK_SEGMENTS = 1_024
const MASK_BYTES = SEGMENT_SECTORS / 8
/** Files of a group that are asked about again, and how many of them at each refresh. */
const GROUP_FILES = 100_000
const AGAIN = 50

/** Where a part of a flow segment comes from. */
interface Piece {
  root: Uint8Array
  /** Segment of the file. */
  index: number
  /** Bytes of the file in that segment; the rest of the piece is padding, which is zero. */
  bytes: number
  /** Within the flow segment. */
  firstSector: number
  sectors: number
  /** Sectors of the file segment on the disk of this member of a coding group, a bit each; absent: all of them. */
  mask?: Uint8Array
}

export class Holdings {
  readonly #node: StoreNode
  readonly #segmentsMax: number
  readonly #segments = new Map<number, Piece[]>()
  /** Known submissions that are not final here yet. */
  readonly #pending = new Set<number>()
  #nextSeq = 0
  /** True when the node is a member of a coding group; not known before the first file. */
  #inGroup: boolean | undefined
  /** Files of the group that are asked about again in turn. */
  readonly #files: number[] = []
  #next = 0
  #shard = { shardId: 0, numShard: 1 }

  /** @param segmentsMax - segments to keep in mind; what comes after is not mined. */
  constructor(node: StoreNode, segmentsMax: number) {
    this.#node = node
    this.#segmentsMax = segmentsMax
  }

  get shard(): { shardId: number; numShard: number } {
    return this.#shard
  }

  /** Flow segments of which something is held, in no order. */
  segments(): IterableIterator<number> {
    return this.#segments.keys()
  }

  get count(): number {
    return this.#segments.size
  }

  /** Asks the node for what is new. */
  async refresh(signal: AbortSignal): Promise<void> {
    const [status, shard] = await Promise.all([this.#node.status({ signal }), this.#node.shardConfig({ signal })])
    this.#shard = shard
    if (status.nextTxSeq < this.#nextSeq) this.#forget()
    const asked = [...this.#pending].slice(0, REFRESH_SUBMISSIONS_MAX)
    while (this.#nextSeq < status.nextTxSeq && asked.length < REFRESH_SUBMISSIONS_MAX) {
      this.#pending.add(this.#nextSeq)
      asked.push(this.#nextSeq++)
    }
    // Shards move when members come and go: known files are asked about again, some each time.
    for (let i = 0; i < Math.min(AGAIN, this.#files.length) && asked.length < REFRESH_SUBMISSIONS_MAX; i++) {
      asked.push(this.#files[this.#next++ % this.#files.length]!)
    }
    for (let i = 0; i < asked.length; i += PARALLEL_CALLS) {
      await Promise.all(asked.slice(i, i + PARALLEL_CALLS).map(seq => this.#ask(seq, signal)))
    }
  }

  /** Bit i: seal i of the segment is held. */
  held(segment: number): bigint {
    const covered = new Uint8Array(SEGMENT_SEALS)
    for (const p of this.#segments.get(segment) ?? []) {
      for (let s = 0; s < p.sectors; s++) {
        if (here(p, s)) covered[Math.floor((p.firstSector + s) / SEAL_SECTORS)]!++
      }
    }
    let bits = 0n
    for (const [i, n] of covered.entries()) if (n === SEAL_SECTORS) bits |= 1n << BigInt(i)
    // The flow's first sector is no data, so its seal can never be proven.
    return segment === 0 ? bits & ~1n : bits
  }

  /** The bytes of a flow segment, zeros where nothing is held; undefined when the node does not give all of them now. */
  async read(segment: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const out = new Uint8Array(SEGMENT_BYTES)
    for (const p of this.#segments.get(segment) ?? []) {
      if (p.bytes === 0) continue
      if (p.mask !== undefined) {
        const found = await this.#node.heldSegment(p.root, p.index, { signal })
        // A shard has moved to another member since: what is sealed of it stays.
        if (p.mask.some((b, i) => (b & ~found.mask[i]!) !== 0)) {
          p.mask = found.mask.slice()
          return undefined
        }
        out.set(found.data.subarray(0, Math.min(p.bytes, p.sectors * SECTOR_BYTES)), p.firstSector * SECTOR_BYTES)
        continue
      }
      const data = (await this.#node.hasRaw({ signal }))
        ? await this.#node.getRaw(p.root, p.index, 1, { signal })
        : ((await this.#node.getJson(p.root, p.index, { signal }))?.data ?? null)
      if (data === null || data.length < p.bytes) return undefined
      out.set(data.subarray(0, p.bytes), p.firstSector * SECTOR_BYTES)
    }
    return out
  }

  async #ask(seq: number, signal: AbortSignal): Promise<void> {
    const info = await this.#node.fileInfoBySeq(seq, { signal })
    if (info === null || !(info.finalized || info.pruned)) return
    if (!info.finalized) {
      this.#pending.delete(seq)
      return
    }
    const { padded, segments } = shape(info.sizeBytes)
    const first = Math.floor(info.startEntryIndex / SEGMENT_SECTORS)
    const masks = this.#inGroup === false ? null : await this.#masks(info.root, segments, signal)
    this.#inGroup = masks !== null
    const fresh = this.#pending.delete(seq)
    if (masks !== null && fresh && this.#files.length < GROUP_FILES) this.#files.push(seq)
    // A file lies inside one segment of the flow or starts at the border of one.
    for (let index = 0; index * SEGMENT_SECTORS < padded; index++) {
      const segment = first + index
      if (segment % this.#shard.numShard !== this.#shard.shardId) continue
      const pieces = this.#segments.get(segment)
      if (pieces === undefined && this.#segments.size >= this.#segmentsMax) return
      const piece: Piece = {
        root: info.root,
        index,
        bytes: Math.max(0, Math.min(SEGMENT_BYTES, info.sizeBytes - index * SEGMENT_BYTES)),
        firstSector: index === 0 ? info.startEntryIndex % SEGMENT_SECTORS : 0,
        sectors: Math.min(SEGMENT_SECTORS, padded - index * SEGMENT_SECTORS)
      }
      if (masks !== null) {
        // Padding belongs to whoever has the data before it; segments of padding alone are nobody's.
        if (index >= segments) continue
        piece.mask = masks.slice(MASK_BYTES * index, MASK_BYTES * (index + 1))
      }
      const known = pieces?.findIndex(p => p.firstSector === piece.firstSector) ?? -1
      if (known >= 0) pieces![known] = piece
      else if (piece.mask?.every(b => b === 0) === true) continue
      else if (pieces === undefined) this.#segments.set(segment, [piece])
      else pieces.push(piece)
    }
  }

  /** Sectors on the disk of this member, for all segments of a file; null when the node is in no coding group. */
  async #masks(root: Uint8Array, segments: number, signal: AbortSignal): Promise<Uint8Array | null> {
    const out = new Uint8Array(MASK_BYTES * segments)
    for (let at = 0; at < segments; at += MASK_SEGMENTS) {
      const part = await this.#node.heldSectors(root, at, Math.min(MASK_SEGMENTS, segments - at), { signal })
      if (part === null) return null
      out.set(part, MASK_BYTES * at)
    }
    return out
  }

  /** A development chain went back: everything is asked again. */
  #forget(): void {
    this.#segments.clear()
    this.#pending.clear()
    this.#files.length = 0
    this.#nextSeq = 0
  }
}

/** True when sector `s` of a piece is held. Padding goes with the last sector of data before it. */
function here(p: Piece, s: number): boolean {
  if (p.mask === undefined) return true
  const at = Math.min(s, Math.ceil(p.bytes / SECTOR_BYTES) - 1)
  return at >= 0 && (p.mask[at >> 3]! & (1 << (at & 7))) !== 0
}
