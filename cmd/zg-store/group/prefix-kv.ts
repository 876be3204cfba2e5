/** A part of a key-value store under a prefix, so that two users of one database cannot meet. */
import { concat } from '../../../lib/base/bytes.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'

/** Closing it does nothing: the store belongs to somebody else. @param letter - one byte before every key. */
export function prefixKv(kv: KvStore, letter: string): KvStore {
  const prefix = Uint8Array.of(letter.charCodeAt(0))
  const end = Uint8Array.of(letter.charCodeAt(0) + 1)
  const under = (key: Uint8Array): Uint8Array => concat(prefix, key)
  return {
    get: key => kv.get(under(key)),
    getSync: key => kv.getSync(under(key)),
    getMany: keys => kv.getMany(keys.map(under)),
    batch: (ops, opts) =>
      kv.batch(
        ops.map((op): KvOp => ('put' in op ? { put: under(op.put), value: op.value } : { del: under(op.del) })),
        opts
      ),
    async *scan(range) {
      const { gte, lt, ...rest } = range
      const inner = { ...rest, gte: gte === undefined ? prefix : under(gte), lt: lt === undefined ? end : under(lt) }
      for await (const [k, v] of kv.scan(inner)) yield [k.slice(1), v]
    },
    close: async () => {}
  }
}
