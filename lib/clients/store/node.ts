/**
 * One storage node as a client sees it: the JSON-RPC every node speaks (storage.md 3) and the raw routes of zg's own nodes
 * (docs/protocol/storage-raw.md). Answers are checked for shape here, so that the rest of the client deals in plain values;
 * nothing that a node says about bytes is believed before it was hashed.
 */
import { RpcClient } from '../../adapters/jsonrpc/client.ts'
import { RpcError } from '../../adapters/jsonrpc/types.ts'
import { messageOf, ZgError } from '../../base/errors.ts'
import { hashFromHex, toHex } from '../../base/hex.ts'
import type { Proof } from '../../codec/storage/merkle.ts'
import { SEGMENT_BYTES } from '../../codec/storage/shape.ts'
import { codeFault } from '../../codec/storage/shard-name.ts'
import { isShard, type Shard } from '../../codec/storage/shards.ts'
import { frameHead } from './frame.ts'
import { exchange, origin } from './http.ts'
import { type WireAnswer, type WireRequest, wireExchange } from './wire.ts'

export interface NodeStatus {
  connectedPeers: number
  logSyncHeight: number
  nextTxSeq: number
  chainId: number
  /** 0x, lower case. */
  flowAddress: string
}

export interface FileInfo {
  root: Uint8Array
  sizeBytes: number
  seq: number
  /** First sector in the flow. */
  startEntryIndex: number
  finalized: boolean
  pruned: boolean
  isCached: boolean
  /** Contiguous segments present while uploading, all of them when final. */
  uploadedSegments: number
}

/** One segment ready to be sent. */
export interface SegmentToSend {
  index: number
  /** Whole sectors: 262,144 bytes, or what is left of the file filled up to 256. */
  data: Uint8Array
  proof: Proof
}

/** What a zg node still wants of a file: half-open ranges of segment numbers. */
export interface RawFileState {
  finalized: boolean
  pruned: boolean
  missing: [number, number][]
}

/** Which member of a coding group holds which shard of a file. */
export interface Placement {
  readonly k: number
  readonly m: number
  readonly sizeBytes: number
  readonly urls: readonly string[]
  /** For each stripe k + m numbers of members, 255 for nobody. */
  readonly holders: Uint8Array
}

const PLACEMENT_MAX_BYTES = 64 * 1024 * 1024
/** One bit a sector of a segment. */
const HELD_MASK_BYTES = 128
/** Peers that a node may tell of. */
const PEERS_MAX = 256
const ROOTS_MAX_BYTES = 512 * 1024 * 1024

export class StoreNode {
  readonly url: string
  readonly #rpc: RpcClient
  readonly #base: string
  /** Whether `/v1/` is there; undefined until asked. */
  #raw: boolean | undefined
  /** Where our own wire connects; undefined with TLS, a path, or something in between that does not speak it. */
  #wire: URL | undefined
  constructor(url: string) {
    this.url = url.replace(/\/+$/, '')
    this.#base = this.url
    this.#wire = wireBase(this.url)
    this.#rpc = new RpcClient(this.url, { what: 'storage node' })
  }

  /** Any method, answer unchecked: for those who pass it on. @throws {RpcError} as the node answered. */
  call(method: string, params: readonly unknown[], opts: CallOptions = {}): Promise<unknown> {
    return this.#rpc.call(method, params, opts)
  }

  async status(opts: CallOptions = {}): Promise<NodeStatus> {
    const s = record(await this.#rpc.call('zgs_getStatus', [], opts), this.url)
    const id = record(s.networkIdentity, this.url)
    return {
      connectedPeers: count(s.connectedPeers, this.url),
      logSyncHeight: count(s.logSyncHeight, this.url),
      nextTxSeq: count(s.nextTxSeq, this.url),
      chainId: count(id.chainId, this.url),
      flowAddress: String(id.flowAddress).toLowerCase()
    }
  }

  async shardConfig(opts: CallOptions = {}): Promise<Shard> {
    const c = record(await this.#rpc.call('zgs_getShardConfig', [], opts), this.url)
    const shard = { shardId: count(c.shardId, this.url), numShard: count(c.numShard, this.url) }
    if (!isShard(shard)) throw bad(this.url, `shard ${shard.shardId} of ${shard.numShard}`)
    return shard
  }

  /** `needAvailable`: null when every submission of the root is pruned. */
  async fileInfo(root: Uint8Array, needAvailable: boolean, opts: CallOptions = {}): Promise<FileInfo | null> {
    return this.#info(await this.#rpc.call('zgs_getFileInfo', [toHex(root), needAvailable], opts))
  }

  async fileInfoBySeq(seq: number, opts: CallOptions = {}): Promise<FileInfo | null> {
    return this.#info(await this.#rpc.call('zgs_getFileInfoByTxSeq', [seq], opts))
  }

  #info(answer: unknown): FileInfo | null {
    if (answer === null || answer === undefined) return null
    const info = record(answer, this.url)
    const tx = record(info.tx, this.url)
    const sizeBytes = count(tx.size, this.url)
    if (sizeBytes < 1) throw bad(this.url, 'a file of 0 bytes')
    return {
      root: hash(tx.dataMerkleRoot, this.url),
      sizeBytes,
      seq: count(tx.seq, this.url),
      startEntryIndex: count(tx.startEntryIndex, this.url),
      finalized: info.finalized === true,
      pruned: info.pruned === true,
      isCached: info.isCached === true,
      uploadedSegments: count(info.uploadedSegNum, this.url)
    }
  }

  /** True when this is a zg node with the raw routes. Asked once. */
  async hasRaw(opts: CallOptions = {}): Promise<boolean> {
    if (this.#raw === undefined) {
      const answer = await exchange(`${this.#base}/v1/file/0x${'00'.repeat(32)}`, { timeoutMs: 5_000, ...opts })
      this.#raw = answer.status === 404 && errorOf(answer).code === 'ERR_NOT_FOUND'
    }
    return this.#raw
  }

  /** Client URLs of the nodes that this one is connected to, as they say themselves; none from a foreign node. */
  async peers(opts: CallOptions = {}): Promise<string[]> {
    const answer = await exchange(`${this.#base}/v1/peers`, opts)
    if (answer.status !== 200) return []
    const { peers } = record(json(answer.body), this.url)
    if (!Array.isArray(peers)) return []
    const urls = peers.slice(0, PEERS_MAX).map(p => (p as { url?: unknown } | null)?.url)
    return urls.filter(u => typeof u === 'string')
  }

  /** What the node wants of a submission; null when its event was not seen here yet. */
  async rawFile(seq: number, opts: CallOptions = {}): Promise<RawFileState | null> {
    const answer = await exchange(`${this.#base}/v1/file/${seq}`, opts)
    if (answer.status === 404) return null
    if (answer.status !== 200) throw this.#refused(answer, 'file state')
    const r = record(json(answer.body), this.url)
    const missing = Array.isArray(r.missing)
      ? r.missing.map(m => [count(m?.[0], this.url), count(m?.[1], this.url)] as [number, number])
      : []
    return { finalized: r.finalized === true, pruned: r.pruned === true, missing }
  }

  /**
   * Sends up to four segments raw; they are synced on the node's disk when this returns.
   * @throws {ZgError} ERR_UNAVAILABLE (retry elsewhere), ERR_BAD_PROOF, ERR_BAD_INPUT, ERR_DISK_FULL, ERR_NOT_FOUND.
   */
  async putRaw(
    file: { root: Uint8Array; sizeBytes: number; seq: number },
    segments: readonly SegmentToSend[],
    opts: CallOptions = {}
  ): Promise<{ finalized: boolean }> {
    const body: Uint8Array[] = []
    for (const s of segments) {
      body.push(
        frameHead({
          index: s.index,
          dataSize: s.data.length,
          fileSize: file.sizeBytes,
          root: file.root,
          proof: s.proof
        }),
        s.data
      )
    }
    const answer = await this.#transfer(`/v1/segments/${file.seq}`, {
      method: 'PUT',
      body,
      maxBytes: 64 * 1024,
      timeoutMs: opts.timeoutMs ?? 60_000,
      signal: opts.signal
    })
    if (answer.status !== 200) throw this.#refused(answer, `segment ${segments[0]?.index ?? 0}`)
    return { finalized: record(json(answer.body), this.url).finalized === true }
  }

  /** Sends segments as JSON-RPC does (foreign nodes). "Already uploaded and finalized" is success. */
  async putJson(
    file: { root: Uint8Array; sizeBytes: number; seq: number },
    segments: readonly SegmentToSend[],
    opts: CallOptions = {}
  ): Promise<{ finalized: boolean }> {
    const list = segments.map(s => ({
      root: toHex(file.root),
      data: base64(s.data),
      index: s.index,
      proof: { lemma: s.proof.lemma.map(toHex), path: s.proof.path },
      fileSize: file.sizeBytes
    }))
    try {
      await this.#rpc.call('zgs_uploadSegmentsByTxSeq', [list, file.seq], { timeoutMs: 60_000, ...opts })
      return { finalized: false }
    } catch (err) {
      if (err instanceof RpcError) {
        const text = `${err.message} ${typeof err.data === 'string' ? err.data : ''}`
        if (text.includes('already uploaded and finalized')) return { finalized: true }
        if (text.includes('already been uploaded or is being uploaded')) return { finalized: false }
        const busy = text.includes('too many data writing')
        throw new ZgError(
          busy ? 'ERR_UNAVAILABLE' : 'ERR_REJECTED',
          `${origin(this.url)} refused segment ${segments[0]?.index ?? 0}: ${text.trim()}`,
          { cause: err }
        )
      }
      throw err
    }
  }

  /** Roots of all padded segments of a final file, 32 bytes each; null when it is not final here or there is no raw path. */
  async roots(root: Uint8Array, paddedSegments: number, opts: CallOptions = {}): Promise<Uint8Array | null> {
    if (paddedSegments * 32 > ROOTS_MAX_BYTES) throw new ZgError('ERR_BAD_INPUT', 'file has too many segments')
    const answer = await exchange(`${this.#base}/v1/roots/${toHex(root)}`, {
      maxBytes: Math.max(paddedSegments * 32, 4096),
      timeoutMs: 60_000,
      ...opts
    })
    if (answer.status !== 200) return null
    if (answer.body.length !== paddedSegments * 32) throw bad(this.url, 'a list of segment roots of the wrong length')
    return answer.body
  }

  /**
   * Data of `n` consecutive segments (whole sectors), raw. The answer may be cut short; null when the first is not held.
   * @param into - receives the data; the result is a view of it when it fits.
   */
  async getRaw(
    root: Uint8Array,
    first: number,
    n: number,
    opts: CallOptions = {},
    into?: Uint8Array
  ): Promise<Uint8Array | null> {
    const answer = await this.#transfer(`/v1/segments/${toHex(root)}?first=${first}&count=${n}`, {
      method: 'GET',
      into,
      maxBytes: Math.max(n * SEGMENT_BYTES, 4096),
      timeoutMs: opts.timeoutMs ?? 60_000,
      signal: opts.signal
    })
    if (answer.status === 404 || answer.status === 410) return null
    if (answer.status !== 200) throw this.#refused(answer, `segment ${first}`)
    return answer.body
  }

  /** Where the shards of a file lie, from a member of a coding group; null from any other node. */
  async placement(root: Uint8Array, opts: CallOptions = {}): Promise<Placement | null> {
    const answer = await exchange(`${this.#base}/v1/group/placement/${toHex(root)}`, {
      maxBytes: PLACEMENT_MAX_BYTES,
      timeoutMs: 30_000,
      ...opts
    })
    if (answer.status !== 200) return null
    const r = record(json(answer.body), this.url)
    const [k, m, sizeBytes] = [count(r.k, this.url), count(r.m, this.url), count(r.size, this.url)]
    const holders = new Uint8Array(Buffer.from(String(r.holders), 'base64'))
    const urls = Array.isArray(r.members) ? r.members.map(x => String((x as { url?: unknown } | null)?.url)) : []
    if (codeFault({ k, m }) !== undefined || holders.length % (k + m) !== 0) throw bad(this.url, 'no placement')
    return { k, m, sizeBytes, urls, holders }
  }

  /**
   * Which sectors of segments `first` … of a file lie on the disk of this very member of a coding group: 128 bytes a segment, a bit a sector,
   * the lowest first. @returns null from a node that is in no group.
   */
  async heldSectors(root: Uint8Array, first: number, n: number, opts: CallOptions = {}): Promise<Uint8Array | null> {
    const path = `${this.#base}/v1/group/held/${toHex(root)}?first=${first}&count=${n}`
    const answer = await exchange(path, { maxBytes: Math.max(4096, n * HELD_MASK_BYTES), timeoutMs: 30_000, ...opts })
    if (answer.status === 404) return null
    if (answer.status !== 200) throw this.#refused(answer, 'held sectors')
    if (answer.body.length !== n * HELD_MASK_BYTES) throw bad(this.url, 'a list of held sectors of the wrong length')
    return answer.body
  }

  /** What of a segment lies on the disk of this very member: its sectors as above, and the bytes with zeros for the others. */
  async heldSegment(
    root: Uint8Array,
    index: number,
    opts: CallOptions = {}
  ): Promise<{ mask: Uint8Array; data: Uint8Array }> {
    const path = `${this.#base}/v1/group/held/${toHex(root)}?first=${index}&data=1`
    const answer = await exchange(path, { maxBytes: HELD_MASK_BYTES + SEGMENT_BYTES, timeoutMs: 30_000, ...opts })
    if (answer.status !== 200) throw this.#refused(answer, `held sectors of segment ${index}`)
    if (answer.body.length !== HELD_MASK_BYTES + SEGMENT_BYTES) throw bad(this.url, 'a segment of the wrong length')
    return { mask: answer.body.subarray(0, HELD_MASK_BYTES), data: answer.body.subarray(HELD_MASK_BYTES) }
  }

  /**
   * Shards of full stripes that a member of a coding group has, unchecked.
   * @param into - receives them, one behind the other in the order asked, without those that are not there.
   * @returns which are there.
   */
  async getShards(
    root: Uint8Array,
    of: Pick<Placement, 'k' | 'm' | 'sizeBytes'>,
    asked: readonly { stripe: number; j: number }[],
    into: Uint8Array,
    opts: CallOptions = {}
  ): Promise<{ data: Uint8Array; have: boolean[] }> {
    const at = asked.map(x => `${x.stripe}.${x.j}`).join(',')
    const answer = await this.#transfer(
      `/v1/group/shards/${toHex(root)}?k=${of.k}&m=${of.m}&size=${of.sizeBytes}&at=${at}`,
      { method: 'GET', into, maxBytes: into.length, timeoutMs: opts.timeoutMs ?? 60_000, signal: opts.signal }
    )
    if (answer.status !== 200) throw this.#refused(answer, `shard ${at}`)
    const end = answer.body.length - asked.length
    if (end < 0) throw bad(this.url, 'too few bytes')
    const have = [...answer.body.subarray(end)].map(x => x === 1)
    if (have.filter(x => x).length * SEGMENT_BYTES !== end) throw bad(this.url, `${end} bytes of shards`)
    return { data: answer.body.subarray(0, end), have }
  }

  /** Bulk data: by our own wire where the node speaks it, else by the ordinary client. */
  async #transfer(path: string, o: WireRequest): Promise<WireAnswer> {
    if (this.#wire !== undefined) {
      const answer = await wireExchange(this.#wire, path, o)
      if (answer !== 'unsupported') return answer
      this.#wire = undefined
    }
    const { body, method, maxBytes, timeoutMs, signal } = o
    const headers = body === undefined ? {} : { 'content-type': 'application/octet-stream' }
    return exchange(this.#base + path, { method, headers, maxBytes, timeoutMs, signal, ...(body && { body }) })
  }

  /** One segment with its proof by JSON-RPC; null when it is not held. */
  async getJson(
    root: Uint8Array,
    index: number,
    opts: CallOptions = {}
  ): Promise<{ data: Uint8Array; proof: Proof } | null> {
    const answer = await this.#rpc.call('zgs_downloadSegmentWithProof', [toHex(root), index], {
      timeoutMs: 60_000,
      ...opts
    })
    if (answer === null || answer === undefined) return null
    const r = record(answer, this.url)
    const proof = record(r.proof, this.url)
    if (typeof r.data !== 'string' || r.data.length > 400_000) throw bad(this.url, 'segment data')
    if (!Array.isArray(proof.lemma) || !Array.isArray(proof.path) || proof.lemma.length > 66) {
      throw bad(this.url, 'a malformed proof')
    }
    return {
      data: Buffer.from(r.data, 'base64'),
      proof: { lemma: proof.lemma.map(h => hash(h, this.url)), path: proof.path.map(b => b === true) }
    }
  }

  #refused(answer: WireAnswer, what: string): ZgError {
    const { code, message } = errorOf(answer)
    const known =
      code === 'ERR_BAD_PROOF' || code === 'ERR_BAD_INPUT' || code === 'ERR_DISK_FULL' || code === 'ERR_NOT_FOUND'
    return new ZgError(
      known ? code : 'ERR_UNAVAILABLE',
      `${origin(this.url)} refused ${what}: ${message ?? `HTTP ${answer.status}`}`
    )
  }
}

function wireBase(url: string): URL | undefined {
  if (!URL.canParse(url)) return undefined
  const base = new URL(url)
  const plain = base.protocol === 'http:' && base.pathname === '/' && base.search === '' && base.username === ''
  return plain ? base : undefined
}

export interface CallOptions {
  signal?: AbortSignal
  timeoutMs?: number
}

function errorOf(answer: WireAnswer): { code: string | undefined; message: string | undefined } {
  try {
    const e = (json(answer.body) as { error?: { code?: unknown; message?: unknown } } | null)?.error
    return {
      code: typeof e?.code === 'string' ? e.code : undefined,
      message: typeof e?.message === 'string' ? e.message.slice(0, 200) : undefined
    }
  } catch {
    return { code: undefined, message: undefined }
  }
}

function json(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.length).toString())
  } catch (err) {
    throw new ZgError('ERR_PROTOCOL', `answer is not JSON: ${messageOf(err)}`)
  }
}

function base64(b: Uint8Array): string {
  return Buffer.from(b.buffer, b.byteOffset, b.length).toString('base64')
}

function bad(url: string, what: string): ZgError {
  return new ZgError('ERR_PROTOCOL', `${origin(url)} answered ${what}`)
}

function record(v: unknown, url: string): Record<string, unknown> {
  if (v === null || typeof v !== 'object') throw bad(url, 'something that is not an object')
  return v as Record<string, unknown>
}

function count(v: unknown, url: string): number {
  if (typeof v !== 'number' || !Number.isSafeInteger(v) || v < 0)
    throw bad(url, `${String(v).slice(0, 40)} as a number`)
  return v
}

function hash(v: unknown, url: string): Uint8Array {
  try {
    return hashFromHex(v)
  } catch {
    throw bad(url, 'something that is not a hash')
  }
}
