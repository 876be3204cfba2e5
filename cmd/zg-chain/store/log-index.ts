/** Which blocks may hold the logs of a filter: intersections of posting lists. keys.ts tells how they are kept. */
import { toHex } from '../../../lib/base/hex.ts'
import type { KvStore } from '../../../lib/ports/kv.ts'
import type { LogFilter } from '../core/api.ts'
import type { Log, Receipt } from '../core/types.ts'
import { heightOf, type Posting, postingKey } from './keys.ts'

/** Posting keys of a block's logs, each once. */
export function postingsOf(receipts: readonly Receipt[], height: number): Uint8Array[] {
  const keys = new Map<string, Uint8Array>()
  const add = (p: Posting) => {
    const key = postingKey(p, height)
    keys.set(toHex(key), key)
  }
  for (const receipt of receipts) {
    for (const log of receipt.logs) {
      add({ kind: 'any' })
      add({ kind: 'address', address: log.address })
      for (const [position, topic] of log.topics.entries()) add({ kind: 'topic', position, topic })
    }
  }
  return [...keys.values()]
}

/** Heights in order whose block has every one of the filter's parts, if not in one log. O(postings in the range). */
export async function candidates(kv: KvStore, filter: LogFilter): Promise<number[]> {
  const parts: Posting[][] = [filter.addresses.map(address => ({ kind: 'address', address }))]
  for (const [position, topics] of filter.topics.entries()) {
    parts.push(topics.map(topic => ({ kind: 'topic', position, topic })))
  }
  const named = parts.filter(alternatives => alternatives.length > 0)
  let found: Set<number> | undefined
  for (const alternatives of named.length > 0 ? named : [[{ kind: 'any' } as const]]) {
    const union = new Set<number>()
    for (const posting of alternatives) {
      const range = { gte: postingKey(posting, filter.fromBlock), lt: postingKey(posting, filter.toBlock + 1) }
      for await (const [key] of kv.scan(range)) {
        const height = heightOf(key)
        if (found === undefined || found.has(height)) union.add(height)
      }
    }
    found = union
    if (found.size === 0) break
  }
  return [...found!].sort((a, b) => a - b)
}

/** Whether a log passes: one of the addresses, and at each position one of the topics. */
export function matches(log: Log, filter: Pick<LogFilter, 'addresses' | 'topics'>): boolean {
  const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0
  if (filter.addresses.length > 0 && !filter.addresses.some(a => same(a, log.address))) return false
  return filter.topics.every((alternatives, i) => {
    if (alternatives.length === 0) return true
    const topic = log.topics[i]
    return topic !== undefined && alternatives.some(t => same(t, topic))
  })
}
