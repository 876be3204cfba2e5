import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { type Claim, claimStatement, type Manifest, manifestStripe } from '../../../lib/codec/storage/manifest.ts'
import { ranked } from '../../../lib/codec/storage/placement.ts'
import { defaultCode } from '../../../lib/codec/storage/rs.ts'
import { segmentWireBytes, shape } from '../../../lib/codec/storage/shape.ts'
import { cutShards, stripeOf } from '../../../lib/codec/storage/shard-name.ts'
import type { Tx } from '../core/tx.ts'
import { ask, type Context, goodHolders, heldOf, sealed } from './context.ts'
import type { Family } from './manifests.ts'
import type { GroupSegment } from './ports.ts'
import { OP } from './ports.ts'
import { encodeHeld, type HeldShard } from './shards.ts'
import { fit, spreadStripe } from './spread.ts'

/** Stripes whose manifests are signed together. */
const SEALED = 32

/** A segment of a file, wherever it lies. */
type Read = (tx: Pick<Tx, 'root' | 'size'>, index: number) => Promise<GroupSegment | undefined>

export class Keeper {
  readonly #c: Context
  readonly #read: Read
  /** Shards that others hold too, and since when that is known. */
  readonly #surplus = new Map<string, number>()

  constructor(c: Context, read: Read) {
    this.#c = c
    this.#read = read
  }

  /** Shards here that the manifest gives to nobody or to a lost member are claimed; those others hold are dropped after a while. */
  async offerOwn(): Promise<void> {
    const c = this.#c
    for await (const shard of c.shards.all()) {
      if (c.stop.aborted) return
      const m = await c.manifests.get(shard.root, shard, shard.stripe)
      const key = `${toHex(shard.root)}/${shard.stripe}/${shard.k}/${shard.m}/${shard.j}/${toHex(shard.shardRoot)}`
      if (m === undefined || !equalBytes(m.shardRoots[shard.j]!, shard.shardRoot)) {
        const also = await this.#wantedAs(shard)
        if (also !== undefined) await c.shards.rename(also)
        else if (await this.#gone(shard)) await this.#dropLater(key, shard, undefined)
        continue
      }
      const mine = m.claims.some(x => x !== undefined && equalBytes(x.holder, c.id))
      const holder = m.claims[shard.j]?.holder
      if (holder !== undefined && equalBytes(holder, c.id)) {
        this.#surplus.delete(key)
        continue
      }
      const good = goodHolders(c, m)
      if (!mine && good[shard.j] === undefined) {
        // Read again before it is promised: the log checks it.
        if ((await c.shards.read(shard)) === undefined) continue
        const by = await c.signer.sign(claimStatement(shard, shard.shardRoot))
        const claims: (Claim | undefined)[] = m.claims.map((x, j) => (j === shard.j ? { holder: c.id, by } : x))
        if (m.claims[shard.j] === undefined) await c.take([{ ...m, claims }])
        else {
          await c.take([await sealed(c, { ...m, epoch: m.epoch + 1, claims })])
        }
        continue
      }
      if (good.every(h => h !== undefined)) await this.#dropLater(key, shard, m)
    }
  }

  /** A segment is a data shard under every code of its file: as which other one it is claimed by this node. */
  async #wantedAs(shard: HeldShard): Promise<HeldShard | undefined> {
    const s = stripeOf(shard.size, shard, shard.stripe)
    if (!s.full || shard.j >= s.need) return undefined
    const index = s.firstSegment + shard.j
    for (const f of await this.#c.manifests.families(shard.root)) {
      const m = await this.#c.manifests.get(shard.root, f, Math.floor(index / f.k))
      const holder = m?.claims[index % f.k]?.holder
      if (m === undefined || holder === undefined || !equalBytes(holder, this.#c.id)) continue
      if (manifestStripe(m).full) return heldOf(m, index % f.k)
    }
    return undefined
  }

  /** True when nothing will ever want this shard: deleted, or of a code that was replaced. */
  async #gone(shard: HeldShard): Promise<boolean> {
    if ((await this.#c.manifests.tombstone(shard.root)) !== undefined) {
      return (await this.#c.manifests.families(shard.root)).length === 0
    }
    const families = await this.#c.manifests.families(shard.root)
    return families.some(f => f.whole === f.stripes)
  }

  /** All k + m acknowledgements from others in hand, ten minutes after, and each asked once more. */
  async #dropLater(key: string, shard: HeldShard, m: Manifest | undefined): Promise<void> {
    const nowMs = this.#c.clock.monotonic()
    const sinceMs = this.#surplus.get(key)
    if (sinceMs === undefined) {
      if (this.#surplus.size < 100_000) this.#surplus.set(key, nowMs)
      return
    }
    if (nowMs - sinceMs < this.#c.times.dropMs) return
    if (m !== undefined) {
      const there = await Promise.all(
        m.claims.map(async (x, j) => {
          if (x === undefined) return false
          if (equalBytes(x.holder, this.#c.id)) return this.#c.shards.has(heldOf(m, j))
          const answer = await ask(this.#c, x.holder, OP.have, encodeHeld(heldOf(m, j))).catch(() => undefined)
          return answer?.head[0] === 1
        })
      )
      if (!there.every(x => x)) return
    }
    await this.#c.shards.drop(shard)
    this.#c.stats.dropped++
    this.#surplus.delete(key)
  }

  /** Files whose code is not that of the whole group are coded again, when it is whole. */
  async recode(): Promise<void> {
    const c = this.#c
    const { members } = c.members
    if (members.some(x => c.members.health(x.id) !== 'live')) return
    const code = defaultCode(members.length)
    let last: Uint8Array | undefined
    for await (const m of c.manifests.all()) {
      if (c.stop.aborted) return
      if (last !== undefined && equalBytes(last, m.root)) continue
      last = m.root
      const best = await c.manifests.best(m.root)
      if (best === undefined || best.durable < best.stripes) continue
      if (best.k === code.k && best.m === code.m) {
        await this.#dropOldCodes(best)
        continue
      }
      const [first] = ranked(c.members.live(), m.root, 0xffff_ffff)
      if (first === undefined || !equalBytes(first.id, c.id)) continue
      await this.#recodeFile(best, code, m.seq).catch(err =>
        c.logger.debug('file not coded again yet', { root: toHex(m.root), error: messageOf(err) })
      )
    }
  }

  async #recodeFile(from: Family, code: { k: number; m: number }, seq: number): Promise<void> {
    const c = this.#c
    const form = shape(from.size)
    const sealing: Promise<void>[] = []
    for (let t = 0; t * code.k < form.segments; t++) {
      if (c.stop.aborted) return
      const s = stripeOf(from.size, code, t)
      const segments = await Promise.all(
        Array.from({ length: s.segments }, (_, i) =>
          this.#read({ root: from.root, size: from.size }, s.firstSegment + i)
        )
      )
      if (segments.some(x => x === undefined)) throw new Error('a segment cannot be had')
      const data = segments.map((x, i) => fit(x!.data, segmentWireBytes(form, s.firstSegment + i)))
      const joined = data.length === 1 ? data[0]! : Buffer.concat(data)
      const stripe = {
        data: s.full ? data : cutShards(new Uint8Array(joined), s),
        leaves: segments.map(x => x!.leaf),
        proofs: segments.map(x => x!.proof)
      }
      const base = { root: from.root, seq, size: from.size, stripe: t, ...code }
      const made = await spreadStripe(c, base, stripe, { leastEpoch: from.epoch + 1 })
      if (made === undefined) throw new Error('too few members took their shards')
      sealing.push(made().then(m => c.take([m])))
      if (sealing.length === SEALED) await Promise.all(sealing.splice(0))
    }
    await Promise.all(sealing)
  }

  /** The old stripes go only when the new code has all its acknowledgements. */
  async #dropOldCodes(best: Family): Promise<void> {
    if (best.whole < best.stripes) return
    const families = await this.#c.manifests.families(best.root)
    if (!families.some(f => f !== best && f.epoch < best.epoch)) return
    await this.#c.manifests.forget(best.root, m => (m.k !== best.k || m.m !== best.m) && m.epoch < best.epoch)
  }
}
