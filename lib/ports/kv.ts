/**
 * An ordered key-value store (bytewise key order). Real: `lib/adapters/kv.ts` (LevelDB); simulated: `lib/sim/kv.ts` (a log on
 * the simulated disk, so that crashes tear it like anything else). One batch is atomic. A batch with `sync` survives power loss;
 * one without survives the death of the process, and after a power loss whole batches are missing only from the end.
 */
export interface KvStore {
  get(key: Uint8Array): Promise<Uint8Array | undefined>
  /** The same on the calling thread: some µs where the entry is in memory, a read of the disk where it is not. For small look-ups in crowds. */
  getSync(key: Uint8Array): Uint8Array | undefined
  getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]>
  batch(ops: readonly KvOp[], opts?: { sync?: boolean }): Promise<void>
  /** Entries with gte ≤ key < lt in key order (reversed on demand), at most `limit`. A snapshot: later writes do not show. */
  scan(range: KvRange): AsyncIterable<[key: Uint8Array, value: Uint8Array]>
  close(): Promise<void>
}

export type KvOp = { put: Uint8Array; value: Uint8Array } | { del: Uint8Array }

export interface KvRange {
  gte?: Uint8Array
  lt?: Uint8Array
  reverse?: boolean
  limit?: number
}
