/**
 * Trie nodes and code between the state manager and the KvStore.
 *
 *   state manager ──writes──▶ Overlay (memory, one a block) ──one synced batch at forkchoice──▶ KvStore
 *        └────────reads────▶ Overlay ─▶ parent overlays not yet durable ─▶ cache ─▶ KvStore
 *
 * Everything is content addressed (node: 32-byte hash; code: 'c' ‖ hash), nothing is ever deleted: every past state stays
 * readable, and a state that a crash left without a block harms nobody.
 */
import type { BatchDBOp, DB } from '@ethereumjs/util'
import { EMPTY_TRIE_ROOT } from '../../cmd/zg-chain/core/hash.ts'
import { ZgError } from '../../lib/base/errors.ts'
import type { KvOp, KvStore } from '../../lib/ports/kv.ts'

const EMPTY_ROOT_HEX = Buffer.from(EMPTY_TRIE_ROOT).toString('hex')
const PREFIX = 0x6e

/** Durable nodes with a cache of what was read last. Keys are hex without prefix, as the trie library has them. */
export class NodeStore {
  readonly #kv: KvStore
  readonly #cache = new Map<string, Uint8Array>()
  #cacheBytes = 0
  readonly #cacheLimit: number

  /** @param cacheBytes - bound of the read cache; the oldest entries go first. */
  constructor(kv: KvStore, cacheBytes: number) {
    this.#kv = kv
    this.#cacheLimit = cacheBytes
  }

  async get(hex: string): Promise<Uint8Array | undefined> {
    const hit = this.#cache.get(hex)
    if (hit !== undefined) {
      // Moved to the young end.
      this.#cache.delete(hex)
      this.#cache.set(hex, hit)
      return hit
    }
    const value = await this.#kv.get(kvKey(hex))
    if (value !== undefined) this.#remember(hex, value)
    return value
  }

  /** Makes nodes durable in one synced batch. */
  async write(nodes: ReadonlyMap<string, Uint8Array>, more: readonly KvOp[] = []): Promise<void> {
    const ops: KvOp[] = [...more]
    for (const [hex, value] of nodes) ops.push({ put: kvKey(hex), value })
    await this.#kv.batch(ops, { sync: true })
    for (const [hex, value] of nodes) this.#remember(hex, value)
  }

  #remember(hex: string, value: Uint8Array): void {
    if (this.#cache.has(hex)) return
    this.#cache.set(hex, value)
    // 200: keys, map entry and array header.
    this.#cacheBytes += value.length + 200
    for (const [oldHex, old] of this.#cache) {
      if (this.#cacheBytes <= this.#cacheLimit) break
      this.#cache.delete(oldHex)
      this.#cacheBytes -= old.length + 200
    }
  }
}

/** Nodes written on top of others, in memory. The trie library's DB. */
export class Overlay implements DB<string, Uint8Array> {
  readonly nodes = new Map<string, Uint8Array>()
  readonly #below: Overlay | NodeStore

  constructor(below: Overlay | NodeStore) {
    this.#below = below
  }

  /** @throws {ZgError} ERR_CORRUPT for an absent node: the trie library would take the gap for an absent account. */
  async get(hex: string): Promise<Uint8Array | undefined> {
    // The empty trie has no node; the library asks for it all the same.
    if (hex === EMPTY_ROOT_HEX) return undefined
    const found = await this.find(hex)
    if (found === undefined) {
      throw new ZgError(
        'ERR_CORRUPT',
        `state is incomplete: ${hex.length === 64 ? 'node' : 'code'} ${hex.slice(-64)} is missing`
      )
    }
    return found
  }

  async find(hex: string): Promise<Uint8Array | undefined> {
    const own = this.nodes.get(hex)
    if (own !== undefined) return own
    return this.#below instanceof Overlay ? this.#below.find(hex) : this.#below.get(hex)
  }

  async put(hex: string, value: Uint8Array): Promise<void> {
    this.nodes.set(hex, value)
  }

  async del(_hex: string): Promise<void> {
    // Without pruning the trie deletes no nodes; others may hang on the same hash.
  }

  async batch(ops: BatchDBOp<string, Uint8Array>[]): Promise<void> {
    for (const op of ops) if (op.type === 'put') this.nodes.set(op.key, op.value)
  }

  shallowCopy(): Overlay {
    return this
  }

  async open(): Promise<void> {}
}

function kvKey(hex: string): Uint8Array {
  const out = new Uint8Array(1 + hex.length / 2)
  out[0] = PREFIX
  Buffer.from(out.buffer).write(hex, 1, 'hex')
  return out
}
