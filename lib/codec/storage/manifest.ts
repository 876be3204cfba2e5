/**
 * Manifests: which shards a stripe has and who says that he holds them (storage.md 11). Nothing is on chain; the chain already commits to
 * the file root, and a manifest is only a hint: a reader accepts nothing that does not hash to the file root.
 *
 * The signed **core** (root, size, stripe, code, shard roots, epoch) says what the shards are. The **claims** beside it, one a shard,
 * are statements of the holders themselves: "I have the shard of this name with this root on stable storage", signed by them. So a
 * manifest may be merged with another one claim by claim, by anybody, and stays checkable.
 *
 * ```
 *  core    root 32 │ seq u64 │ size u64 │ stripe u32 │ k u8 │ m u8 │ epoch u32 │ shard roots │ segment roots of a last stripe
 *  signer  id 32 │ batch signature
 *  claims  for each shard: 0, or 1 │ holder 32 │ batch signature
 * ```
 *
 * **Batch signatures.** Signing takes 50 µs and checking 150; a node that takes 500 shards a second would do nothing else. So whatever
 * is ready at one moment is signed as one: the signature is over the root of a small Merkle tree, and each statement carries its
 * path. Checked roots are remembered, so the second statement of a batch costs a few hashes.
 */
import { compareBytes, concat, equalBytes, u32be, u64be, utf8, view } from '../../base/bytes.ts'
import { type SigningKey, verifyEd25519 } from '../../crypto/ed25519.ts'
import { keccak256 } from '../../crypto/hash.ts'
import { MerkleTree } from './merkle.ts'
import { SEGMENT_BYTES, shape } from './shape.ts'
import { codeFault, durableAt, type ShardId, type Stripe, shardName, stripeOf } from './shard-name.ts'

/** A signature over a tree of statements, and the way from one of them to its root. */
export interface BatchSignature {
  readonly signature: Uint8Array
  /** Siblings bottom to top, 32 bytes each. */
  readonly siblings: Uint8Array
  /** Bit i: the running hash is the left child at step i. */
  readonly path: number
}

/** What a holder says about one shard. */
export interface Claim {
  readonly holder: Uint8Array
  readonly by: BatchSignature
}

export interface Manifest {
  readonly root: Uint8Array
  readonly seq: number
  readonly size: number
  readonly stripe: number
  readonly k: number
  readonly m: number
  readonly epoch: number
  /** One a shard. */
  readonly shardRoots: readonly Uint8Array[]
  /** Segment roots of a stripe that is not full: its shards do not show them. */
  readonly leaves: readonly Uint8Array[]
  readonly signer: Uint8Array
  readonly by: BatchSignature
  readonly claims: readonly (Claim | undefined)[]
}

/** The largest batch. */
export const MAX_BATCH = 64
const MAX_DEPTH = 6
export const MAX_EPOCH = 0xffff_ffff
const CORE_DOMAIN = utf8('zg/store/manifest/1')
const CLAIM_DOMAIN = utf8('zg/store/holds/1')
const BATCH_DOMAIN = utf8('zg/store/batch/1')

/** Signs up to 64 statements at once, in their order. */
export function signBatch(key: SigningKey, statements: readonly Uint8Array[]): BatchSignature[] {
  const tree = new MerkleTree([...statements])
  const signature = key.sign(concat(BATCH_DOMAIN, tree.root))
  return statements.map((_, i) => {
    const { lemma, path } = tree.proof(i)
    const siblings = path.length === 0 ? new Uint8Array(0) : concat(...lemma.slice(1, -1))
    return { signature, siblings, path: path.reduce((bits, left, b) => bits | (left ? 1 << b : 0), 0) }
  })
}

/** Checks batch signatures and remembers the last batches. */
export class BatchVerifier {
  readonly #good = new Set<string>()
  readonly #most: number

  constructor(most = 4096) {
    this.#most = most
  }

  holds(signer: Uint8Array, statement: Uint8Array, by: BatchSignature): boolean {
    let running = statement
    for (let i = 0; i * 32 < by.siblings.length; i++) {
      const sibling = by.siblings.subarray(32 * i, 32 * i + 32)
      running = (by.path >> i) & 1 ? keccak256(running, sibling) : keccak256(sibling, running)
    }
    const name = Buffer.from(concat(signer, running, by.signature)).toString('latin1')
    if (this.#good.has(name)) return true
    if (!verifyEd25519(signer, concat(BATCH_DOMAIN, running), by.signature)) return false
    if (this.#good.size >= this.#most) this.#good.clear()
    this.#good.add(name)
    return true
  }
}

/** What a holder signs. */
export function claimStatement(shard: ShardId, shardRoot: Uint8Array): Uint8Array {
  return keccak256(CLAIM_DOMAIN, shardName(shard), shardRoot)
}

type Core = Pick<Manifest, 'root' | 'seq' | 'size' | 'stripe' | 'k' | 'm' | 'epoch' | 'shardRoots' | 'leaves'>

function coreBytes(c: Core): Uint8Array {
  const head = concat(
    c.root,
    u64be(c.seq),
    u64be(c.size),
    u32be(c.stripe),
    Uint8Array.of(c.k, c.m),
    u32be(c.epoch),
    ...c.shardRoots,
    ...c.leaves
  )
  return head
}

/** What the encoder signs. */
export function coreStatement(c: Core): Uint8Array {
  return keccak256(CORE_DOMAIN, coreBytes(c))
}

export function manifestStripe(m: Pick<Manifest, 'size' | 'k' | 'm' | 'stripe'>): Stripe {
  return stripeOf(m.size, m, m.stripe)
}

/** Name of the shard j. */
export function shardOf(m: Pick<Manifest, 'root' | 'stripe' | 'k' | 'm'>, j: number): ShardId {
  return { root: m.root, stripe: m.stripe, k: m.k, m: m.m, j }
}

/** Shards that somebody holds. */
export function claimed(m: Manifest): number {
  return m.claims.filter(c => c !== undefined).length
}

export function isDurable(m: Manifest): boolean {
  return claimed(m) >= durableAt(manifestStripe(m))
}

/**
 * Checks a manifest from outside.
 * @param isMember - ids of members.
 * @returns the manifest with those claims that hold (of members, distinct, signed), or text: why it is refused as a whole.
 */
export function checkManifest(
  m: Manifest,
  isMember: (id: Uint8Array) => boolean,
  verifier: BatchVerifier
): Manifest | string {
  if (!isMember(m.signer)) return 'signed by a stranger'
  if (!verifier.holds(m.signer, coreStatement(m), m.by)) return 'bad signature'
  const seen = new Set<string>()
  const claims = m.claims.map((c, j) => {
    if (c === undefined || !isMember(c.holder)) return undefined
    const name = Buffer.from(c.holder).toString('latin1')
    if (seen.has(name) || !verifier.holds(c.holder, claimStatement(shardOf(m, j), m.shardRoots[j]!), c.by)) {
      return undefined
    }
    seen.add(name)
    return c
  })
  return { ...m, claims }
}

/** Which of two manifests of one stripe and code comes first: epoch, then the lower hash of the core. Negative: a. */
export function compareManifests(a: Manifest, b: Manifest): number {
  if (a.epoch !== b.epoch) return b.epoch - a.epoch
  return compareBytes(coreStatement(a), coreStatement(b))
}

/**
 * Two manifests of one stripe and code as one: the core of the first in order; claims of both, since equal names with equal roots are
 * equal bytes. Whoever merges the same manifests in whatever order comes to the same result.
 */
export function mergeManifests(a: Manifest, b: Manifest): Manifest {
  const order = compareManifests(a, b)
  const [first, second] = order <= 0 ? [a, b] : [b, a]
  const used = new Set<string>()
  const name = (id: Uint8Array): string => Buffer.from(id).toString('latin1')
  const picked = first.claims.map((c, j) => {
    const other = second.claims[j]
    if (c === undefined || other === undefined || order !== 0) return c
    return compareBytes(claimBytes(c), claimBytes(other)) <= 0 ? c : other
  })
  // One shard a node: of two shards of one holder the lower number counts.
  const claims: (Claim | undefined)[] = picked.map(c => {
    if (c === undefined || used.has(name(c.holder))) return undefined
    used.add(name(c.holder))
    return c
  })
  for (const [j, other] of second.claims.entries()) {
    if (other === undefined || claims[j] !== undefined || used.has(name(other.holder))) continue
    if (!equalBytes(first.shardRoots[j]!, second.shardRoots[j]!)) continue
    claims[j] = other
    used.add(name(other.holder))
  }
  const swap = order === 0 && compareBytes(signerBytes(second), signerBytes(first)) < 0
  return { ...first, ...(swap ? { signer: second.signer, by: second.by } : {}), claims }
}

function signerBytes(m: Manifest): Uint8Array {
  return concat(m.signer, batchBytes(m.by))
}

function claimBytes(c: Claim): Uint8Array {
  return concat(c.holder, batchBytes(c.by))
}

function batchBytes(b: BatchSignature): Uint8Array {
  return concat(Uint8Array.of(b.siblings.length / 32, b.path), b.signature, b.siblings)
}

export function encodeManifest(m: Manifest): Uint8Array {
  const claims = m.claims.map(c => (c === undefined ? Uint8Array.of(0) : concat(Uint8Array.of(1), claimBytes(c))))
  return concat(coreBytes(m), signerBytes(m), ...claims)
}

export function encodeClaim(c: Claim): Uint8Array {
  return claimBytes(c)
}

/** A claim read back; undefined for bytes that are none. */
export function decodeClaim(b: Uint8Array): Claim | undefined {
  const r = new Reader(b)
  const holder = r.take(32)
  const by = r.batch()
  return holder !== undefined && by !== undefined && r.done ? { holder, by } : undefined
}

/** A manifest read back; undefined for bytes that are none. No signature is checked. */
export function decodeManifest(b: Uint8Array): Manifest | undefined {
  if (b.length < 62) return undefined
  const v = view(b)
  const seq = Number(v.getBigUint64(32))
  const size = Number(v.getBigUint64(40))
  const stripe = v.getUint32(48)
  const [k, m] = [b[52]!, b[53]!]
  if (!Number.isSafeInteger(seq) || size < 1 || size > 2 ** 52 || codeFault({ k, m }) !== undefined) return undefined
  if (stripe * k >= shape(size).segments) return undefined
  const s = stripeOf(size, { k, m }, stripe)
  const r = new Reader(b, 58)
  const shardRoots = Array.from({ length: s.count }, () => r.take(32))
  const leaves = Array.from({ length: s.full ? 0 : s.segments }, () => r.take(32))
  const signer = r.take(32)
  const by = r.batch()
  if (signer === undefined || by === undefined) return undefined
  const claims: (Claim | undefined)[] = []
  for (let j = 0; j < s.count; j++) {
    const there = r.take(1)?.[0]
    if (there === 0) claims.push(undefined)
    else if (there === 1) {
      const holder = r.take(32)
      const signed = r.batch()
      if (holder === undefined || signed === undefined) return undefined
      claims.push({ holder, by: signed })
    } else return undefined
  }
  if (!r.done) return undefined
  return {
    root: b.slice(0, 32),
    seq,
    size,
    stripe,
    k,
    m,
    epoch: v.getUint32(54),
    shardRoots: shardRoots as Uint8Array[],
    leaves: leaves as Uint8Array[],
    signer,
    by,
    claims
  }
}

class Reader {
  readonly #b: Uint8Array
  #at: number

  constructor(b: Uint8Array, at = 0) {
    this.#b = b
    this.#at = at
  }

  get done(): boolean {
    return this.#at === this.#b.length
  }

  take(n: number): Uint8Array | undefined {
    if (this.#at + n > this.#b.length) return undefined
    this.#at += n
    return this.#b.slice(this.#at - n, this.#at)
  }

  batch(): BatchSignature | undefined {
    const head = this.take(2)
    if (head === undefined || head[0]! > MAX_DEPTH) return undefined
    const signature = this.take(64)
    const siblings = this.take(32 * head[0]!)
    return signature === undefined || siblings === undefined ? undefined : { signature, siblings, path: head[1]! }
  }
}

/** Segment roots that a manifest shows: its data shards, or its list. */
export function segmentRootsOf(m: Manifest): readonly Uint8Array[] {
  const s = manifestStripe(m)
  return s.full ? m.shardRoots.slice(0, s.need) : m.leaves
}

/** Bytes of one shard. */
export function shardBytes(s: Stripe): number {
  return Math.min(SEGMENT_BYTES, s.sectors * 256)
}
