/**
 * Blocks and receipts as they stay on disk: the block log (data) and the index (how to find it). The last step of a commit
 * is one synced index batch that carries the head pointer: before it a block never happened, after it the block is final.
 *
 * The engine's state must be durable before `append`; engine.ts and chain.ts see to that.
 */
import { equalBytes, fromUtf8, utf8 } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { type Hex, toHex } from '../../../lib/base/hex.ts'
import type { Disk } from '../../../lib/ports/disk.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'
import type { LogFilter } from '../core/api.ts'
import type { Block, PlacedLog, Receipt } from '../core/types.ts'
import { type BlockLog, openBlockLog, type Place } from './blocklog.ts'
import {
  blockKey,
  decodeHead,
  decodePlace,
  decodeTxPlace,
  encodeHead,
  encodePlace,
  encodeTxPlace,
  HEAD_KEY,
  type Head,
  hashKey,
  META_KEY,
  NOTHING,
  txKey
} from './keys.ts'
import { candidates, matches, postingsOf } from './log-index.ts'
import { decodeRecord, encodeRecord } from './record.ts'

/** Version of everything in the directory. */
const FORMAT = 1
/** Decoded blocks kept: the last minute of a chain of two blocks a second, fewer when they are large. */
const CACHED_BLOCKS = 128
const CACHED_BYTES = 32 * 1024 * 1024

export interface StoredBlock {
  block: Block
  receipts: Receipt[]
}

export interface StoreOptions {
  disk: Disk
  /** The index; closed with the store. */
  kv: KvStore
  /** Directory of the block log. */
  dir: string
  chainId: number
  segmentBytes?: number
}

export class ChainStore {
  readonly #opts: StoreOptions
  readonly #kv: KvStore
  readonly #log: BlockLog
  #head: Head | undefined
  readonly #cached = new Map<number, StoredBlock>()
  #cachedBytes = 0

  private constructor(opts: StoreOptions, log: BlockLog, head: Head | undefined) {
    this.#opts = opts
    this.#kv = opts.kv
    this.#log = log
    this.#head = head
  }

  /**
   * Opens what is there: the head pointer wins, a longer block log is cut.
   * @throws {ZgError} ERR_WRONG_NETWORK when the directory is another chain id's, ERR_CORRUPT when it is damaged.
   */
  static async open(opts: StoreOptions): Promise<ChainStore> {
    const meta = await opts.kv.get(META_KEY)
    if (meta !== undefined) checkMeta(meta, { chainId: opts.chainId })
    const stored = await opts.kv.get(HEAD_KEY)
    const head = stored === undefined ? undefined : decodeHead(stored)
    if (head !== undefined && meta === undefined) throw new ZgError('ERR_CORRUPT', 'the index names no network')
    const log = await openBlockLog(opts.disk, opts.dir, head, opts.segmentBytes)
    return new ChainStore(opts, log, head)
  }

  /** Height, hash and development state of the last block, undefined before the genesis. */
  get head(): Readonly<Head> | undefined {
    return this.#head
  }

  /** @throws {ZgError} ERR_WRONG_NETWORK naming both networks. */
  async checkNetwork(genesisHash: Uint8Array): Promise<void> {
    const meta = await this.#kv.get(META_KEY)
    if (meta !== undefined) checkMeta(meta, { chainId: this.#opts.chainId, genesisHash: toHex(genesisHash) })
  }

  /** Appends the child of the head (or the genesis) and moves the head: durable when this returns. */
  async append(block: Block, receipts: readonly Receipt[]): Promise<void> {
    const { header } = block
    const height = header.number
    const place = await this.#log.append(this.#head?.place, height, encodeRecord(block, receipts))
    const head: Head = { height, place, hash: header.hash, devRoot: undefined }
    const ops: KvOp[] = []
    if (this.#head === undefined) {
      ops.push({ put: META_KEY, value: encodeMeta(this.#opts.chainId, toHex(header.hash)) })
    }
    ops.push({ put: blockKey(height), value: encodePlace(place, header.hash) })
    ops.push({ put: hashKey(header.hash), value: blockKey(height).slice(1) })
    for (const [index, tx] of block.transactions.entries()) {
      ops.push({ put: txKey(tx.hash), value: encodeTxPlace(height, index) })
    }
    for (const key of postingsOf(receipts, height)) ops.push({ put: key, value: NOTHING })
    ops.push({ put: HEAD_KEY, value: encodeHead(head) })
    await this.#kv.batch(ops, { sync: true })
    this.#head = head
    this.#remember(height, { block, receipts: [...receipts] })
  }

  /** Notes a development state on top of the head, durably. */
  async setDevRoot(devRoot: Uint8Array | undefined): Promise<void> {
    const head: Head = { ...this.#head!, devRoot }
    await this.#kv.batch([{ put: HEAD_KEY, value: encodeHead(head) }], { sync: true })
    this.#head = head
  }

  /**
   * Moves the head back and forgets everything above it, in one synced batch.
   * @returns the forgotten blocks, highest first.
   */
  async revertTo(height: number, devRoot: Uint8Array | undefined): Promise<StoredBlock[]> {
    const gone: StoredBlock[] = []
    const ops: KvOp[] = []
    for (let n = this.#head!.height; n > height; n--) {
      const stored = (await this.byNumber(n))!
      gone.push(stored)
      ops.push({ del: blockKey(n) }, { del: hashKey(stored.block.header.hash) })
      for (const tx of stored.block.transactions) ops.push({ del: txKey(tx.hash) })
      for (const key of postingsOf(stored.receipts, n)) ops.push({ del: key })
    }
    const { place, hash } = (await this.#placeOf(height))!
    const head: Head = { height, place, hash, devRoot }
    ops.push({ put: HEAD_KEY, value: encodeHead(head) })
    await this.#kv.batch(ops, { sync: true })
    this.#head = head
    for (const n of [...this.#cached.keys()]) if (n > height) this.#forget(n)
    return gone
  }

  /** A canonical block by height. @throws {ZgError} ERR_CORRUPT. */
  async byNumber(height: number): Promise<StoredBlock | undefined> {
    if (this.#head === undefined || height > this.#head.height || height < 0 || !Number.isSafeInteger(height))
      return undefined
    const hit = this.#cached.get(height)
    if (hit !== undefined) return hit
    const at = await this.#placeOf(height)
    // Gone: a revert came between.
    if (at === undefined) return undefined
    const stored = decodeRecord(await this.#log.read(at.place, height), BigInt(this.#opts.chainId))
    if (!equalBytes(stored.block.header.hash, at.hash)) {
      throw new ZgError(
        'ERR_CORRUPT',
        `block ${height} has hash ${toHex(stored.block.header.hash)}, not ${toHex(at.hash)}`
      )
    }
    this.#remember(height, stored)
    return stored
  }

  async byHash(hash: Uint8Array): Promise<StoredBlock | undefined> {
    const height = await this.heightOf(hash)
    return height === undefined ? undefined : this.byNumber(height)
  }

  async heightOf(hash: Uint8Array): Promise<number | undefined> {
    const found = await this.#kv.get(hashKey(hash))
    return found === undefined ? undefined : Number(toHex(found))
  }

  /** Hash of a canonical block without reading it. */
  async hashOf(height: number): Promise<Uint8Array | undefined> {
    return this.#cached.get(height)?.block.header.hash ?? (await this.#placeOf(height))?.hash
  }

  async locate(txHash: Uint8Array): Promise<{ blockHash: Uint8Array; blockNumber: number; index: number } | undefined> {
    const found = await this.#kv.get(txKey(txHash))
    if (found === undefined) return undefined
    const { height, index } = decodeTxPlace(found)
    const blockHash = await this.hashOf(height)
    return blockHash === undefined ? undefined : { blockHash, blockNumber: height, index }
  }

  /**
   * Logs of a filter, by block then log index.
   * @throws {ZgError} ERR_REJECTED `limit` when there are more than `filter.limit`.
   */
  async logs(filter: LogFilter): Promise<PlacedLog[]> {
    const found: PlacedLog[] = []
    for (const height of await candidates(this.#kv, filter)) {
      const stored = await this.byNumber(height)
      if (stored === undefined) continue
      for (const log of placedLogs(stored)) {
        if (!matches(log, filter)) continue
        if (found.length >= filter.limit) throw tooMany(filter, height)
        found.push(log)
      }
    }
    return found
  }

  async close(): Promise<void> {
    await this.closeLog()
    await this.#kv.close()
  }

  /** Closes the block log alone, for an opening that failed half way. */
  closeLog(): Promise<void> {
    return this.#log.close()
  }

  async #placeOf(height: number): Promise<{ place: Place; hash: Uint8Array } | undefined> {
    const found = await this.#kv.get(blockKey(height))
    return found === undefined ? undefined : decodePlace(found)
  }

  #remember(height: number, stored: StoredBlock): void {
    this.#forget(height)
    this.#cached.set(height, stored)
    this.#cachedBytes += stored.block.raw.length
    for (const oldest of this.#cached.keys()) {
      if (this.#cached.size <= CACHED_BLOCKS && this.#cachedBytes <= CACHED_BYTES) break
      this.#forget(oldest)
    }
  }

  #forget(height: number): void {
    this.#cachedBytes -= this.#cached.get(height)?.block.raw.length ?? 0
    this.#cached.delete(height)
  }
}

/** A block's logs with their places. */
export function* placedLogs({ block, receipts }: StoredBlock): Iterable<PlacedLog> {
  let logIndex = 0
  for (const [transactionIndex, receipt] of receipts.entries()) {
    for (const log of receipt.logs) {
      yield {
        ...log,
        blockHash: block.header.hash,
        blockNumber: block.header.number,
        blockTimestamp: block.header.timestamp,
        transactionHash: block.transactions[transactionIndex]!.hash,
        transactionIndex,
        logIndex: logIndex++
      }
    }
  }
}

function tooMany(filter: LogFilter, height: number): ZgError {
  const to = Math.max(filter.fromBlock, height - 1)
  return new ZgError(
    'ERR_REJECTED',
    `query returns more than ${filter.limit} results, try the range ${filter.fromBlock} to ${to}`,
    {
      facts: ['limit', String(to)]
    }
  )
}

function encodeMeta(chainId: number, genesisHash: Hex): Uint8Array {
  return utf8(JSON.stringify({ format: FORMAT, chainId, genesisHash }))
}

function checkMeta(stored: Uint8Array, want: { chainId: number; genesisHash?: Hex }): void {
  let have: { format?: unknown; chainId?: unknown; genesisHash?: unknown }
  try {
    have = JSON.parse(fromUtf8(stored))
  } catch (err) {
    throw new ZgError('ERR_CORRUPT', 'the index names no network', { cause: err })
  }
  if (have.format !== FORMAT) {
    throw new ZgError(
      'ERR_WRONG_NETWORK',
      `the data directory has format ${have.format}, this program writes ${FORMAT}`
    )
  }
  const same =
    have.chainId === want.chainId && (want.genesisHash === undefined || have.genesisHash === want.genesisHash)
  if (!same) {
    throw new ZgError('ERR_WRONG_NETWORK', 'the data directory belongs to another network', {
      hint: 'name another directory, or the genesis that this one was made with',
      facts: [
        `directory: chain id ${have.chainId}, genesis ${have.genesisHash}`,
        `wanted: chain id ${want.chainId}${want.genesisHash === undefined ? '' : `, genesis ${want.genesisHash}`}`
      ]
    })
  }
}
