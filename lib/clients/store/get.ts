/**
 * Reads a stored file from several nodes at once. Nothing leaves this module that was not hashed against the file root:
 * from a zg node the roots of all segments are fetched once, folded to the file root and then every raw segment is compared
 * with its own; from a foreign node every segment comes with its proof, checked with the right leaf count.
 *
 * A node that answers wrongly, late or not at all costs a strike, and the next one is asked. Memory: `window` batches of four
 * segments, whatever the size of the file.
 */
import { concat, equalBytes } from '../../base/bytes.ts'
import { messageOf, ZgError } from '../../base/errors.ts'
import { toHex } from '../../base/hex.ts'
import { proofFault } from '../../codec/storage/merkle.ts'
import {
  SEGMENT_BYTES,
  SEGMENT_SECTORS,
  type Shape,
  segmentDataBytes,
  segmentLeaves,
  segmentWireBytes,
  shape
} from '../../codec/storage/shape.ts'
import { holds } from '../../codec/storage/shards.ts'
import { codec } from '../../native.ts'
import { BATCH_SEGMENTS, giveBuffer, takeBuffer } from './buffers.ts'
import { origin } from './http.ts'
import type { CallOptions, FileInfo, StoreNode } from './node.ts'
import type { NodePool } from './nodes.ts'
import { allOrGrace, backoff, sharedSignal } from './retry.ts'
import { StripedFile } from './striped.ts'

const BATCH = BATCH_SEGMENTS
/** Batches in flight: 8 MiB of data, enough to hide a round trip behind hashing. */
const WINDOW = 8
/** Rows of stripes in flight when a coding group says where its shards lie: 24 MiB with 4+2. */
const ROWS = 3
/** Files below this many segments are not worth asking where they lie. */
const STRIPED_SEGMENTS = 16
/** How long other nodes may take once one has said that it holds the file. */
const GRACE_MS = 500
/** First patience with a batch; doubled in each round, so that a silent node costs seconds and a slow line still gets through. */
const PATIENCE_MS = 5_000
/** Rounds over all holders before a segment is given up. */
const ROUNDS = 4

/** A part of a file, and how to say that nobody looks at it any more. */
export interface Chunk {
  bytes: Uint8Array
  release: () => void
}

/** Segments first, first + 1, … on their way into one buffer. */
interface Batch {
  first: number
  buffer: Uint8Array
  /** Which of them are there, and right. */
  have: boolean[]
}

interface Holder {
  node: StoreNode
  shard: { shardId: number; numShard: number }
  raw: boolean
  strikes: number
}

export class RemoteFile {
  readonly root: Uint8Array
  readonly shape: Shape
  readonly info: FileInfo
  readonly #holders: Holder[]
  /** Checked roots of all padded segments, 32 bytes each; undefined when only foreign nodes hold the file. */
  readonly #roots: Uint8Array | undefined
  /** Set when the nodes are a coding group that says which member holds what. */
  #striped: StripedFile | undefined
  /** What went wrong with a node although the file was read: for a warning afterwards. */
  readonly problems: string[] = []

  private constructor(info: FileInfo, holders: Holder[], roots: Uint8Array | undefined) {
    this.root = info.root
    this.info = info
    this.shape = shape(info.sizeBytes)
    this.#holders = holders
    this.#roots = roots
  }

  get sizeBytes(): number {
    return this.info.sizeBytes
  }

  get nodes(): string[] {
    return this.#holders.map(h => h.node.url)
  }

  /** True when segments on a disk can be checked without fetching them again. */
  get canCheck(): boolean {
    return this.#roots !== undefined
  }

  /**
   * Finds who holds a file.
   * @throws {ZgError} ERR_NOT_FOUND (nobody knows it, or it was pruned), ERR_NOT_SYNCED (not complete yet), ERR_UNAVAILABLE.
   */
  static async open(
    pool: NodePool,
    root: Uint8Array,
    o: CallOptions & {
      /** The size, where the chain has told it: nodes that say otherwise are not asked. */
      sizeBytes?: number
    } = {}
  ): Promise<RemoteFile> {
    const { sizeBytes, ...opts } = o
    const found = (await findHolders(pool, root, opts)).filter(
      f => (sizeBytes ?? f.info.sizeBytes) === f.info.sizeBytes
    )
    if (found.length === 0)
      throw new ZgError('ERR_PROTOCOL', `nodes tell another size of ${toHex(root)} than the chain`)
    const info = agree(found.map(f => f.info))
    const holders = await Promise.all(
      found
        .filter(f => f.info.sizeBytes === info.sizeBytes)
        .map(async ({ node }): Promise<Holder> => {
          const [raw, shard] = await Promise.all([
            node.hasRaw(opts).catch(() => false),
            node.shardConfig({ timeoutMs: 10_000, ...opts }).catch(() => ({ shardId: 0, numShard: 1 }))
          ])
          return { node, shard, raw, strikes: 0 }
        })
    )
    const file = new RemoteFile(info, holders, await fetchRoots(info, holders, opts))
    // Without checked roots the raw path proves nothing.
    if (file.#roots === undefined) for (const h of holders) h.raw = false
    else if (file.shape.segments >= STRIPED_SEGMENTS) {
      const asked = holders.find(h => h.raw)
      const at = await asked?.node.placement(root, opts).catch(() => null)
      if (at) file.#striped = StripedFile.of(root, file.shape, at, file.#roots, url => pool.node(url))
    }
    return file
  }

  /**
   * Verified data of segments first … last in order, cut to the size of the file.
   * @throws {ZgError} ERR_BAD_PROOF when no node gives the right bytes, ERR_UNAVAILABLE when none answers.
   */
  async *segments(
    o: { first?: number; last?: number; signal?: AbortSignal | undefined; window?: number } = {}
  ): AsyncGenerator<Uint8Array> {
    const first = o.first ?? 0
    const last = o.last ?? this.shape.segments - 1
    for await (const { bytes } of this.#batches(first, last, o)) {
      for (let at = 0; at < bytes.length; at += SEGMENT_BYTES) yield bytes.subarray(at, at + SEGMENT_BYTES)
    }
  }

  /** Bytes [start, end) of the file, verified, in order. */
  async *bytes(
    start: number,
    end: number,
    o: { signal?: AbortSignal; window?: number } = {}
  ): AsyncGenerator<Uint8Array> {
    // Whoever reads may keep what he gets: it is never given back.
    for await (const { bytes } of this.chunks(start, end, o)) yield bytes
  }

  /** As {@link bytes}, for those who say when they are done with a part. */
  async *chunks(start: number, end: number, o: { signal?: AbortSignal; window?: number } = {}): AsyncGenerator<Chunk> {
    if (start >= end) return
    const first = Math.floor(start / SEGMENT_BYTES)
    const last = Math.floor((end - 1) / SEGMENT_BYTES)
    let at = first * SEGMENT_BYTES
    for await (const { bytes, release } of this.#batches(first, last, o)) {
      const from = Math.max(0, start - at)
      const to = Math.min(bytes.length, end - at)
      at += bytes.length
      yield { bytes: bytes.subarray(from, to), release }
    }
  }

  /** Batches of segments first … last in order, several on their way. */
  async *#batches(
    first: number,
    last: number,
    o: { signal?: AbortSignal | undefined; window?: number }
  ): AsyncGenerator<Chunk> {
    const window = o.window ?? WINDOW
    const stop = new AbortController()
    sharedSignal(stop.signal)
    const onAbort = (): void => stop.abort(o.signal?.reason)
    if (o.signal?.aborted) throw o.signal.reason
    o.signal?.addEventListener('abort', onAbort, { once: true })
    const striped = this.#striped
    const queue: Promise<Chunk[]>[] = []
    let next = first
    const fill = (): void => {
      while (queue.length < (striped === undefined ? window : ROWS) && next <= last) {
        const end = striped === undefined ? next + BATCH : striped.rowEnd(next)
        const n = Math.min(end, last + 1) - next
        const batch =
          striped === undefined
            ? this.#batch(next, n, stop.signal).then(x => [x])
            : this.#row(striped, next, n, stop.signal)
        // Looked at later, in order; until then a failure must not count as unhandled.
        batch.catch(() => {})
        queue.push(batch)
        next += n
      }
    }
    try {
      fill()
      while (queue.length > 0) {
        const batch = await queue.shift()!
        fill()
        yield* batch
      }
    } finally {
      o.signal?.removeEventListener('abort', onAbort)
      stop.abort(new ZgError('ERR_STOPPED', 'reading ended'))
    }
  }

  /** `n` consecutive segments from their holders; what cannot be had there, by the ordinary way. */
  async #row(striped: StripedFile, first: number, n: number, signal: AbortSignal): Promise<Chunk[]> {
    const row = await striped.row(first, first + n - 1, { signal })
    const out: Chunk[] = []
    for (let i = 0; i < n; i++) {
      const found = row[i]
      if (found !== undefined) {
        out.push(found)
        continue
      }
      let count = 1
      while (count < BATCH && i + count < n && row[i + count] === undefined) count++
      out.push(await this.#batch(first + i, count, signal))
      i += count - 1
    }
    return out
  }

  async resumeAt(haveBytes: number, read: (offset: number, length: number) => Promise<Uint8Array>): Promise<number> {
    const good = await this.checkPrefix(Math.min(haveBytes, this.sizeBytes), read)
    return Math.min(good * SEGMENT_BYTES, this.sizeBytes)
  }

  /**
   * How many whole segments of a local copy are right, counted from the start.
   * @param read - reads `length` bytes at an offset of the local copy.
   */
  async checkPrefix(sizeBytes: number, read: (offset: number, length: number) => Promise<Uint8Array>): Promise<number> {
    if (this.#roots === undefined) return 0
    let good = 0
    while (good < this.shape.segments) {
      const have = Math.min(BATCH, Math.floor(sizeBytes / SEGMENT_BYTES) - good)
      const tail = sizeBytes === this.sizeBytes && have < BATCH ? 1 : 0
      const n = Math.min(Math.max(have, 0) + tail, this.shape.segments - good)
      if (n <= 0) break
      const at = good * SEGMENT_BYTES
      const data = await read(at, Math.min(n * SEGMENT_BYTES, sizeBytes - at))
      const wrong = await this.#firstWrong(good, n, data)
      if (wrong !== undefined) return wrong
      good += n
    }
    return good
  }

  async #firstWrong(first: number, n: number, data: Uint8Array): Promise<number | undefined> {
    const roots = await codec().segmentRoots(data, segmentLeaves(this.shape, first + n - 1))
    for (let i = 0; i < n; i++) {
      const at = 32 * (first + i)
      const root = roots[i]
      if (root === undefined || !equalBytes(root, this.#roots!.subarray(at, at + 32))) return first + i
    }
    return undefined
  }

  /** `n` consecutive segments, from whichever nodes give them, in one buffer of the pool. */
  async #batch(first: number, n: number, signal: AbortSignal): Promise<Chunk> {
    const batch: Batch = { first, buffer: takeBuffer(), have: new Array(n).fill(false) }
    let problem: unknown
    for (let round = 0; round < ROUNDS; round++) {
      if (round > 0) await backoff(round, signal)
      const timeoutMs = this.#holders.length > 1 ? PATIENCE_MS * 2 ** round : 60_000
      for (const holder of this.#order(first)) {
        try {
          if (holder.raw) await this.#raw(holder, batch, { signal, timeoutMs })
          else await this.#proved(holder, batch, { signal, timeoutMs })
        } catch (err) {
          if (signal.aborted) throw signal.reason
          holder.strikes++
          // A wrong answer tells more than a later silence.
          if (!(problem instanceof ZgError && problem.code === 'ERR_BAD_PROOF')) problem = err
          if (this.problems.length < 16) this.problems.push(messageOf(err))
        }
        if (!batch.have.includes(false)) return this.#finished(batch)
      }
    }
    if (problem !== undefined) throw problem
    const missing = first + batch.have.indexOf(false)
    throw new ZgError('ERR_UNAVAILABLE', `no node gives segment ${missing} of ${toHex(this.root)}`, {
      hint: `run 'zg-store stat ${toHex(this.root)}'`
    })
  }

  /** Drops the zero fill behind the end of the file; anything but zeros there means that the size is a lie. */
  #finished({ first, buffer, have }: Batch): Chunk {
    const size = (have.length - 1) * SEGMENT_BYTES + segmentDataBytes(this.shape, first + have.length - 1)
    const sent = (have.length - 1) * SEGMENT_BYTES + segmentWireBytes(this.shape, first + have.length - 1)
    for (let i = size; i < sent; i++) {
      if (buffer[i] !== 0) {
        throw new ZgError('ERR_BAD_PROOF', `the size ${this.sizeBytes} that nodes tell of ${toHex(this.root)} is wrong`)
      }
    }
    return { bytes: buffer.subarray(0, size), release: () => giveBuffer(buffer) }
  }

  /** Who to ask for a batch: those with fewer strikes first, equal ones in turn. */
  #order(first: number): Holder[] {
    const shift = Math.floor(first / BATCH) % this.#holders.length
    const turned = [...this.#holders.slice(shift), ...this.#holders.slice(0, shift)]
    const flow = Math.floor(this.info.startEntryIndex / SEGMENT_SECTORS) + first
    const likely = (h: Holder): number => (h.shard.numShard > 1 && !holds(h.shard, flow) ? 1 : 0)
    return turned.sort((a, b) => likely(a) - likely(b) || a.strikes - b.strikes)
  }

  async #raw(holder: Holder, batch: Batch, call: CallOptions): Promise<void> {
    const { first, buffer, have } = batch
    const from = have.indexOf(false)
    // Never over what another node gave already: it was checked.
    const to = have.indexOf(true, from)
    const n = (to < 0 ? have.length : to) - from
    const place = buffer.subarray(from * SEGMENT_BYTES, (from + n) * SEGMENT_BYTES)
    const data = await holder.node.getRaw(this.root, first + from, n, call, place)
    if (data === null) throw new ZgError('ERR_UNAVAILABLE', `${origin(holder.node.url)} lost segment ${first + from}`)
    // Cut short at a segment border: the rest comes from somebody else.
    let got = 0
    let end = 0
    while (got < n && end < data.length) end += segmentWireBytes(this.shape, first + from + got++)
    if (got === 0 || end !== data.length) {
      throw new ZgError('ERR_PROTOCOL', `${origin(holder.node.url)} sent ${data.length} bytes for ${n} segments`)
    }
    if (data.buffer !== place.buffer || data.byteOffset !== place.byteOffset) place.set(data)
    const wrong = await this.#firstWrong(first + from, got, place.subarray(0, end))
    const good = wrong === undefined ? got : wrong - first - from
    for (let i = 0; i < good; i++) have[from + i] = true
    if (wrong !== undefined) throw mismatch(wrong, holder.node.url, this.root)
  }

  async #proved(holder: Holder, { first, buffer, have }: Batch, call: CallOptions): Promise<void> {
    for (let i = 0; i < have.length; i++) {
      if (have[i]) continue
      const index = first + i
      const answer = await holder.node.getJson(this.root, index, call)
      if (answer === null) continue
      const want = segmentWireBytes(this.shape, index)
      if (answer.data.length !== want) {
        throw new ZgError(
          'ERR_PROTOCOL',
          `${origin(holder.node.url)} sent ${answer.data.length} bytes for segment ${index}`
        )
      }
      const [leaf] = await codec().segmentRoots(answer.data, segmentLeaves(this.shape, index))
      const claim = { leaf: leaf!, root: this.root, index, leafCount: this.shape.paddedSegments }
      if (proofFault(answer.proof, claim) !== undefined) throw mismatch(index, holder.node.url, this.root)
      buffer.set(answer.data, i * SEGMENT_BYTES)
      have[i] = true
    }
  }
}

function mismatch(index: number, url: string, root: Uint8Array): ZgError {
  return new ZgError('ERR_BAD_PROOF', `segment ${index} from ${origin(url)} does not match the root`, {
    hint: `run 'zg-store stat ${toHex(root)}'`
  })
}

/** Nodes that have the file final, with what they say about it. */
async function findHolders(
  pool: NodePool,
  root: Uint8Array,
  opts: CallOptions
): Promise<{ node: StoreNode; info: FileInfo }[]> {
  const where = await pool.locate(root, opts)
  let urls = where.urls
  for (;;) {
    const asked = urls.map(async url => {
      const node = pool.node(url)
      try {
        return { node, info: await node.fileInfo(root, true, { timeoutMs: 10_000, ...opts }) }
      } catch (err) {
        if (!opts.signal?.aborted) pool.problems.push(messageOf(err))
        return undefined
      }
    })
    const answers = await allOrGrace(asked, a => a?.info?.finalized === true, GRACE_MS)
    opts.signal?.throwIfAborted()
    const known: { node: StoreNode; info: FileInfo }[] = []
    for (const a of answers) {
      if (a?.info && equalBytes(a.info.root, root)) known.push({ node: a.node, info: a.info })
    }
    const final = known.filter(a => a.info.finalized)
    if (final.length > 0) return final
    if (where.located && urls === where.urls) {
      // What the indexer remembered is no longer true.
      urls = await pool.urls(opts)
      continue
    }
    const answered = answers.filter(a => a !== undefined).length
    throw nobody(pool, root, { asked: urls.length, answered, pending: known.some(a => !a.info.pruned) })
  }
}

function nobody(pool: NodePool, root: Uint8Array, o: { asked: number; answered: number; pending: boolean }): ZgError {
  const facts = pool.problems.slice(-2)
  if (o.pending) {
    return new ZgError('ERR_NOT_SYNCED', `${toHex(root)} is not complete on any node yet (asked ${o.asked})`, {
      hint: `run 'zg-store stat ${toHex(root)}'`
    })
  }
  if (o.answered === 0) {
    return new ZgError('ERR_UNAVAILABLE', `no storage node answers (asked ${o.asked})`, {
      facts,
      hint: "run 'zg-devnet status'"
    })
  }
  return new ZgError('ERR_NOT_FOUND', `no node holds ${toHex(root)} (asked ${o.asked})`, {
    facts,
    hint: `run 'zg-store stat ${toHex(root)}'`
  })
}

/** The size that most nodes tell. A wrong one is found out at the last sector; this only keeps one liar from stopping a read. */
function agree(infos: readonly FileInfo[]): FileInfo {
  const votes = new Map<number, number>()
  for (const i of infos) votes.set(i.sizeBytes, (votes.get(i.sizeBytes) ?? 0) + 1)
  const best = [...votes].sort((a, b) => b[1] - a[1])[0]![0]
  return infos.find(i => i.sizeBytes === best)!
}

async function fetchRoots(
  info: FileInfo,
  holders: readonly Holder[],
  opts: CallOptions
): Promise<Uint8Array | undefined> {
  const { paddedSegments } = shape(info.sizeBytes)
  for (const h of holders) {
    if (!h.raw) continue
    const roots = await h.node.roots(info.root, paddedSegments, opts).catch(() => null)
    if (opts.signal?.aborted) throw opts.signal.reason
    if (roots === null) continue
    if (equalBytes(codec().treeRoot(roots), info.root)) return roots
    h.strikes += 10
  }
  return undefined
}

/** A small file as a whole. @throws {ZgError} ERR_BAD_INPUT above `maxBytes`. */
export async function readAll(file: RemoteFile, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
  if (file.sizeBytes > maxBytes) {
    throw new ZgError(
      'ERR_BAD_INPUT',
      `${toHex(file.root)} has ${file.sizeBytes} bytes, at most ${maxBytes} are read here`
    )
  }
  const parts: Uint8Array[] = []
  for await (const part of file.segments({ signal })) parts.push(part)
  return concat(...parts)
}
