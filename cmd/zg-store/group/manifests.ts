/**
 * The manifests a member keeps: those of all files of the group, in the key-value store, merged as they come.
 *
 * ```
 *   m ‖ root 32 ‖ k ‖ m ‖ stripe u32     manifest
 *   l ‖ root 32                          size u64 ‖ roots of all segments with data, once they were folded to the root
 *   c ‖ root 32 ‖ k ‖ m ‖ stripe u32     hash of the shard roots for which parity was computed again
 *   x ‖ root 32                          tombstone
 *   y ‖ root 32                          its file is being deleted here: a start goes on with it
 *   d ‖ bucket u8                        xor of 16-byte hashes of all manifests and tombstones whose root begins with that byte
 * ```
 *
 * Two members compare 256 bucket sums to know that they have the same; where they differ they list that bucket's files.
 */
import { concat, equalBytes, u32be, u64be, view } from '../../../lib/base/bytes.ts'
import { toHex } from '../../../lib/base/hex.ts'
import {
  claimed,
  decodeManifest,
  encodeManifest,
  isDurable,
  type Manifest,
  mergeManifests
} from '../../../lib/codec/storage/manifest.ts'
import { decodeTombstone, encodeTombstone, type Tombstone } from '../../../lib/codec/storage/members.ts'
import { MerkleTree, zeroTreeRoot } from '../../../lib/codec/storage/merkle.ts'
import { segmentLeaves, shape } from '../../../lib/codec/storage/shape.ts'
import { type Code, stripeCount } from '../../../lib/codec/storage/shard-name.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'

const SUMS_BYTES = 256 * 16
/** The digest of who knows no file. */
export const EMPTY_DIGEST: Uint8Array = keccak256(new Uint8Array(SUMS_BYTES))
/** How far a manifest may be ahead of the one known here: away for so many repairs, not a forged number without end. */
export const EPOCH_JUMP = 1024
const FAMILIES = 512
/** Files whose segment roots are kept in memory, and how many roots together: 32 MiB with their trees. */
const KNOWN_FILES = 512
const KNOWN_LEAVES = 200_000

/** What is known of a file's segments. */
export interface KnownLeaves {
  readonly size: number
  /** Roots of all segments with data, 32 bytes each. */
  readonly leaves: Uint8Array
  /** Over all padded segments. */
  readonly tree: () => MerkleTree
}

/** Manifests of one file under one code. */
export interface Family extends Code {
  readonly root: Uint8Array
  size: number
  stripes: number
  /** Stripes of which enough shards are acknowledged, and of which all are. */
  durable: number
  whole: number
  /** For each stripe: 0, 1 durable, 2 whole. */
  readonly states: Uint8Array
  epoch: number
}

/** One file in a bucket: what its manifests add up to. */
export interface BucketEntry {
  readonly root: Uint8Array
  readonly k: number
  readonly m: number
  readonly sum: Uint8Array
}

const letter = (c: string): number => c.charCodeAt(0)

function manifestKey(root: Uint8Array, { k, m }: Code, stripe: number, kind = 'm'): Uint8Array {
  return concat(Uint8Array.of(letter(kind)), root, Uint8Array.of(k, m), u32be(stripe))
}

function rootKey(kind: string, root: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(letter(kind)), root)
}

export class Manifests {
  readonly #kv: KvStore
  readonly #sums: Uint8Array
  readonly #families = new Map<string, Family[]>()
  readonly #leaves = new Map<string, KnownLeaves>()
  #leafCount = 0
  #tail: Promise<unknown> = Promise.resolve()
  #count = 0

  private constructor(kv: KvStore, sums: Uint8Array) {
    this.#kv = kv
    this.#sums = sums
  }

  static async open(kv: KvStore): Promise<Manifests> {
    const sums = new Uint8Array(SUMS_BYTES)
    for await (const [k, v] of kv.scan({ gte: Uint8Array.of(letter('d')), lt: Uint8Array.of(letter('e')) })) {
      if (k.length === 2 && v.length === 16) sums.set(v, 16 * k[1]!)
    }
    return new Manifests(kv, sums)
  }

  /** Manifests taken since start. */
  get count(): number {
    return this.#count
  }

  /** Equal on members that have the same. */
  digest(): Uint8Array {
    return keccak256(this.#sums)
  }

  buckets(): Uint8Array {
    return this.#sums.slice()
  }

  async get(root: Uint8Array, code: Code, stripe: number): Promise<Manifest | undefined> {
    const value = await this.#kv.get(manifestKey(root, code, stripe))
    return value === undefined ? undefined : decodeManifest(value)
  }

  /** Manifests of a root in order of code and stripe. */
  async *ofRoot(root: Uint8Array): AsyncGenerator<Manifest> {
    for await (const [, v] of this.#kv.scan({ gte: rootKey('m', root), lt: after(rootKey('m', root)) })) {
      const m = decodeManifest(v)
      if (m !== undefined) yield m
    }
  }

  /** Up to `limit` manifests of one code from `stripe` on, one at a time: those of a large file together take 6 KiB a MiB of it. */
  async *family(root: Uint8Array, code: Code, stripe = 0, limit = 0xffff_ffff): AsyncGenerator<Manifest> {
    const prefix = concat(rootKey('m', root), Uint8Array.of(code.k, code.m))
    const range = { gte: concat(prefix, u32be(stripe)), lt: after(prefix), limit }
    for await (const [, v] of this.#kv.scan(range)) {
      const m = decodeManifest(v)
      if (m !== undefined) yield m
    }
  }

  /** All manifests, roots rising. */
  async *all(): AsyncGenerator<Manifest> {
    for await (const [, v] of this.#kv.scan({ gte: Uint8Array.of(letter('m')), lt: Uint8Array.of(letter('n')) })) {
      const m = decodeManifest(v)
      if (m !== undefined) yield m
    }
  }

  /** What is known of a root under each code. */
  async families(root: Uint8Array): Promise<Family[]> {
    const name = toHex(root)
    // Read in turn with what changes them: one taken between the scan and its end would be missing for as long as this is kept.
    return this.#families.get(name) ?? this.#serial(() => this.#load(root, name))
  }

  async #load(root: Uint8Array, name: string): Promise<Family[]> {
    const kept = this.#families.get(name)
    if (kept !== undefined) return kept
    const found: Family[] = []
    for await (const m of this.ofRoot(root)) note(found, m)
    if (this.#families.size >= FAMILIES) {
      const oldest = this.#families.keys().next()
      if (!oldest.done) this.#families.delete(oldest.value)
    }
    this.#families.set(name, found)
    return found
  }

  /** The code to read a root by: complete before incomplete, then the highest epoch. */
  async best(root: Uint8Array): Promise<Family | undefined> {
    const all = [...(await this.families(root))]
    all.sort(
      (a, b) => +(b.durable === b.stripes) - +(a.durable === a.stripes) || b.epoch - a.epoch || b.durable - a.durable
    )
    return all[0]
  }

  /**
   * Merges checked manifests into the store.
   * @returns those that changed something, as they are now; among them those that became something else than what came; and those
   *   refused because their epoch is out of reach or a tombstone's.
   */
  accept(
    list: readonly Manifest[],
    opts: { sync?: boolean } = {}
  ): Promise<{ changed: Manifest[]; merged: Manifest[]; refused: Manifest[] }> {
    return this.#serial(async () => {
      const changed: Manifest[] = []
      const merged: Manifest[] = []
      const refused: Manifest[] = []
      const ops: KvOp[] = []
      const fresh = new Map<string, Manifest>()
      const touched = new Set<number>()
      for (const m of list) {
        const key = manifestKey(m.root, m, m.stripe)
        const at = Buffer.from(key).toString('latin1')
        const old = fresh.get(at) ?? (await this.get(m.root, m, m.stripe))
        const dead = (await this.tombstone(m.root))?.epoch ?? -1
        const known = Math.max(old?.epoch ?? 0, dead)
        if (m.epoch <= dead || m.epoch > known + EPOCH_JUMP) {
          refused.push(m)
          continue
        }
        const now = old === undefined ? m : mergeManifests(old, m)
        const bytes = encodeManifest(now)
        const before = old === undefined ? undefined : encodeManifest(old)
        if (before !== undefined && equalBytes(before, bytes)) continue
        this.#flip(m.root, hash16(bytes))
        if (before !== undefined) this.#flip(m.root, hash16(before))
        touched.add(m.root[0]!)
        fresh.set(at, now)
        ops.push({ put: key, value: bytes })
        const known2 = this.#families.get(toHex(m.root))
        if (known2 !== undefined) note(known2, now)
        changed.push(now)
        if (old !== undefined && !equalBytes(encodeManifest(m), bytes)) merged.push(now)
      }
      for (const b of touched) ops.push(this.#sumOp(b))
      if (ops.length > 0) await this.#kv.batch(ops, { sync: opts.sync === true })
      this.#count += changed.length
      return { changed, merged, refused }
    })
  }

  /** Forgets manifests of a root, all or those that `which` says, with their marks. */
  forget(root: Uint8Array, which?: (m: Manifest) => boolean): Promise<void> {
    return this.#serial(async () => {
      const ops: KvOp[] = []
      for await (const m of this.ofRoot(root)) {
        if (which !== undefined && !which(m)) continue
        this.#flip(root, hash16(encodeManifest(m)))
        ops.push({ del: manifestKey(root, m, m.stripe) }, { del: manifestKey(root, m, m.stripe, 'c') })
      }
      if (which === undefined) ops.push({ del: rootKey('l', root) })
      ops.push(this.#sumOp(root[0]!))
      await this.#kv.batch(ops, { sync: true })
      this.#families.delete(toHex(root))
      if (which === undefined) this.#forgetLeaves(toHex(root))
    })
  }

  async tombstone(root: Uint8Array): Promise<Tombstone | undefined> {
    const value = await this.#kv.get(rootKey('x', root))
    return value === undefined ? undefined : decodeTombstone(value)
  }

  /** Keeps a tombstone for ever. @returns false when one of that epoch or a later one is here. */
  bury(t: Tombstone): Promise<boolean> {
    return this.#serial(async () => {
      const old = await this.tombstone(t.root)
      if (old !== undefined && old.epoch >= t.epoch) return false
      if (old !== undefined) this.#flip(t.root, hash16(encodeTombstone(old)))
      this.#flip(t.root, hash16(encodeTombstone(t)))
      const ops: KvOp[] = [
        { put: rootKey('x', t.root), value: encodeTombstone(t) },
        { put: rootKey('y', t.root), value: new Uint8Array(0) },
        this.#sumOp(t.root[0]!)
      ]
      await this.#kv.batch(ops, { sync: true })
      return true
    })
  }

  /** What its tombstone asks for is done here. Not synced: doing it again does no harm. */
  async buried(root: Uint8Array): Promise<void> {
    await this.#kv.batch([{ del: rootKey('y', root) }])
  }

  /** Roots that have a tombstone and were not yet deleted when the node stopped. */
  async halfBuried(): Promise<Uint8Array[]> {
    const out: Uint8Array[] = []
    const range = { gte: Uint8Array.of(letter('y')), lt: Uint8Array.of(letter('z')) }
    for await (const [k] of this.#kv.scan(range)) out.push(k.slice(1))
    return out
  }

  /** Files and tombstones (k = m = 0) of a bucket after `from`, at most `limit`. */
  async bucket(b: number, limit: number, from?: BucketEntry): Promise<BucketEntry[]> {
    const out: BucketEntry[] = []
    const gte =
      from === undefined
        ? Uint8Array.of(letter('m'), b)
        : concat(rootKey('m', from.root), Uint8Array.of(from.k, from.m), u32be(0xffff_ffff), Uint8Array.of(0))
    for await (const [key, v] of this.#kv.scan({ gte, lt: after(Uint8Array.of(letter('m'), b)) })) {
      const last = out.at(-1)
      const [root, k, m] = [key.slice(1, 33), key[33]!, key[34]!]
      const same = last !== undefined && last.k === k && last.m === m && equalBytes(last.root, root)
      if (same) xor(last.sum, hash16(v))
      else {
        if (out.length === limit) break
        out.push({ root, k, m, sum: hash16(v).slice() })
      }
    }
    return out
  }

  async tombstones(b: number): Promise<Tombstone[]> {
    const out: Tombstone[] = []
    const gte = Uint8Array.of(letter('x'), b)
    for await (const [, v] of this.#kv.scan({ gte, lt: after(gte), limit: 10_000 })) {
      const t = decodeTombstone(v)
      if (t !== undefined) out.push(t)
    }
    return out
  }

  /** Roots of all segments with data, once known to fold to the root, and the size they are for. */
  async leaves(root: Uint8Array): Promise<KnownLeaves | undefined> {
    const name = toHex(root)
    const kept = this.#leaves.get(name)
    if (kept !== undefined) return kept
    const value = await this.#kv.get(rootKey('l', root))
    if (value === undefined) return undefined
    return this.#know(name, Number(view(value).getBigUint64(0)), value.slice(8))
  }

  async keepLeaves(root: Uint8Array, size: number, leaves: Uint8Array): Promise<KnownLeaves> {
    await this.#kv.batch([{ put: rootKey('l', root), value: concat(u64be(size), leaves) }])
    return this.#know(toHex(root), size, leaves)
  }

  #know(name: string, size: number, leaves: Uint8Array): KnownLeaves {
    const count = leaves.length / 32
    while (this.#leaves.size > 0 && (this.#leaves.size >= KNOWN_FILES || this.#leafCount + count > KNOWN_LEAVES)) {
      this.#forgetLeaves(this.#leaves.keys().next().value!)
    }
    let tree: MerkleTree | undefined
    const known: KnownLeaves = {
      size,
      leaves,
      tree: () => {
        tree ??= new MerkleTree(paddedLeaves(size, leaves))
        return tree
      }
    }
    // Two readers at once may come here for one file.
    this.#forgetLeaves(name)
    this.#leaves.set(name, known)
    this.#leafCount += count
    return known
  }

  #forgetLeaves(name: string): void {
    const known = this.#leaves.get(name)
    if (known === undefined) return
    this.#leaves.delete(name)
    this.#leafCount -= known.leaves.length / 32
  }

  /** True when parity was computed again for exactly these shards. */
  async isChecked(m: Manifest): Promise<boolean> {
    const value = await this.#kv.get(manifestKey(m.root, m, m.stripe, 'c'))
    return value !== undefined && equalBytes(value, hash16(concat(...m.shardRoots)))
  }

  async markChecked(list: readonly Manifest[]): Promise<void> {
    const ops = list.map(m => ({
      put: manifestKey(m.root, m, m.stripe, 'c'),
      value: hash16(concat(...m.shardRoots)).slice()
    }))
    if (ops.length > 0) await this.#kv.batch(ops)
  }

  async unmarkChecked(m: Manifest): Promise<void> {
    await this.#kv.batch([{ del: manifestKey(m.root, m, m.stripe, 'c') }])
  }

  #flip(root: Uint8Array, h: Uint8Array): void {
    xor(this.#sums.subarray(16 * root[0]!, 16 * root[0]! + 16), h)
  }

  #sumOp(bucket: number): KvOp {
    return { put: Uint8Array.of(letter('d'), bucket), value: this.#sums.slice(16 * bucket, 16 * bucket + 16) }
  }

  #serial<T>(fn: () => Promise<T>): Promise<T> {
    const run = this.#tail.then(fn)
    this.#tail = run.catch(() => {})
    return run
  }
}

/** Roots of all padded segments, 32 bytes each, from those with data. */
export function paddedLeaves(size: number, leaves: Uint8Array): Uint8Array {
  const s = shape(size)
  const out = new Uint8Array(32 * s.paddedSegments)
  out.set(leaves.subarray(0, 32 * s.segments))
  for (let i = s.segments; i < s.paddedSegments; i++) out.set(zeroTreeRoot(segmentLeaves(s, i)), 32 * i)
  return out
}

function note(families: Family[], m: Manifest): void {
  let f = families.find(x => x.k === m.k && x.m === m.m)
  if (f === undefined) {
    const stripes = stripeCount(m.size, m)
    f = {
      root: m.root,
      k: m.k,
      m: m.m,
      size: m.size,
      stripes,
      durable: 0,
      whole: 0,
      states: new Uint8Array(stripes),
      epoch: 0
    }
    families.push(f)
  }
  f.epoch = Math.max(f.epoch, m.epoch)
  if (m.stripe >= f.stripes) return
  const was = f.states[m.stripe]!
  const now = claimed(m) === m.claims.length ? 2 : isDurable(m) ? 1 : 0
  f.states[m.stripe] = now
  f.durable += +(now > 0) - +(was > 0)
  f.whole += +(now > 1) - +(was > 1)
}

export function stripeDurable(f: Family, stripe: number): boolean {
  return (f.states[stripe] ?? 0) > 0
}

function hash16(bytes: Uint8Array): Uint8Array {
  return keccak256(bytes).subarray(0, 16)
}

function xor(into: Uint8Array, other: Uint8Array): void {
  for (let i = 0; i < 16; i++) into[i] = into[i]! ^ other[i]!
}

/** The first key behind all that begin with `prefix`. */
function after(prefix: Uint8Array): Uint8Array {
  const out = prefix.slice()
  for (let i = out.length - 1; i >= 0; i--) {
    if (out[i]! < 255) {
      out[i]!++
      return out.subarray(0, i + 1)
    }
  }
  return Uint8Array.of(255, 255, 255, 255)
}
