/**
 * Who holds what (storage.md 11): rendezvous hashing gives each stripe its own order of the members; shard j of a new stripe goes to
 * rank j. Afterwards the manifest rules: who stays among the first k + m keeps his shard, and each newcomer takes one of a node
 * that fell out, so that a join moves about 1/n of the data. Pure.
 */
import { compareBytes, equalBytes, u32be } from '../../base/bytes.ts'
import { keccak256 } from '../../crypto/hash.ts'
import type { Member } from './members.ts'

/** The members in the order of one stripe: rising keccak(id ‖ root ‖ stripe). */
export function ranked<M extends Member>(members: readonly M[], root: Uint8Array, stripe: number): M[] {
  const number = u32be(stripe)
  return members
    .map(member => ({ member, hash: keccak256(member.id, root, number) }))
    .sort((a, b) => compareBytes(a.hash, b.hash))
    .map(x => x.member)
}

/**
 * The first `count` in rank, at most ⌈count / zones⌉ of one failure zone. A member without zone is a zone of its own.
 * Fewer when there are not enough.
 */
export function choose<M extends Member>(order: readonly M[], count: number): M[] {
  const zones = new Set(order.map(m => m.zone).filter(z => z !== undefined))
  const named = zones.size + order.filter(m => m.zone === undefined).length
  const most = Math.ceil(count / Math.max(1, named))
  const used = new Map<string, number>()
  const out: M[] = []
  for (const m of order) {
    if (out.length === count) break
    if (m.zone !== undefined) {
      const n = used.get(m.zone) ?? 0
      if (n >= most) continue
      used.set(m.zone, n + 1)
    }
    out.push(m)
  }
  return out
}

/**
 * Who shall hold each shard.
 * @param holders - who holds it now with a good shard; undefined: nobody.
 * @param order - members that may hold, in rank: none that is lost.
 * @returns for each shard its holder: the present one while he is among the chosen, else a newcomer; undefined when there is none.
 */
export function reassign<M extends Member>(
  holders: readonly (Uint8Array | undefined)[],
  order: readonly M[]
): (Uint8Array | undefined)[] {
  const chosen = choose(order, holders.length)
  const out: (Uint8Array | undefined)[] = holders.map(h =>
    h !== undefined && chosen.some(m => equalBytes(m.id, h)) ? h : undefined
  )
  const taken = (id: Uint8Array): boolean => out.some(h => h !== undefined && equalBytes(h, id))
  const free = chosen.filter(m => !taken(m.id))
  // First what nobody holds; a good copy on one that fell out can wait.
  const order2 = [...out.keys()]
    .filter(j => out[j] === undefined)
    .sort((a, b) => +(holders[a] !== undefined) - +(holders[b] !== undefined))
  for (const j of order2) out[j] = free.shift()?.id ?? holders[j]
  return out
}
