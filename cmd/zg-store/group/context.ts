/** What the parts of the coding group share: who we are, the ports, and the few steps that all of them take. */
import { equalBytes } from '../../../lib/base/bytes.ts'
import {
  type BatchSignature,
  type BatchVerifier,
  type Claim,
  claimStatement,
  coreStatement,
  MAX_BATCH,
  type Manifest,
  manifestStripe,
  shardOf,
  signBatch
} from '../../../lib/codec/storage/manifest.ts'
import { SECTOR_BYTES } from '../../../lib/codec/storage/shape.ts'
import type { SigningKey } from '../../../lib/crypto/ed25519.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { PackedProof } from '../disk/record.ts'
import type { SegmentLog } from '../disk/segment-log.ts'
import { type Lease, lease } from '../node/buffers.ts'
import type { Courier, Word } from './courier.ts'
import type { Manifests } from './manifests.ts'
import { type Membership, name } from './members.ts'
import type { Piece } from './memory.ts'
import {
  type GroupCodec,
  type GroupFiles,
  type GroupNet,
  type GroupTimes,
  NOTHING,
  type Op,
  type Packet
} from './ports.ts'
import type { HeldShard, Shards } from './shards.ts'

/** Counted since start; all bytes. */
export interface GroupStats {
  spreadBytes: number
  /** Shards made again or copied to a newcomer, and what was read and sent for it. */
  repairedBytes: number
  repairedShards: number
  repairReadBytes: number
  repairSentBytes: number
  /** Segments read from other members, and stripes decoded. */
  remoteReads: number
  degradedReads: number
  hedgedReads: number
  checkedStripes: number
  wrongParity: number
  badShards: number
  wrongClaims: number
  filesBelow: number
  dropped: number
  /** Shards given to clients that read from the holders. */
  directShards: number
  /** Times a member did not take a shard. */
  refusedShards: number
}

/** Says something at most once a minute for each key. */
export class Warnings {
  readonly #clock: Clock
  readonly #saidMs = new Map<string, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  say(key: string, fn: () => void): void {
    const nowMs = this.#clock.monotonic()
    if (nowMs - (this.#saidMs.get(key) ?? -1e12) < WARN_MS) return
    if (this.#saidMs.size >= 4096) this.#saidMs.clear()
    this.#saidMs.set(key, nowMs)
    fn()
  }
}

const WARN_MS = 60_000

export interface Context {
  readonly key: SigningKey
  readonly id: Uint8Array
  readonly clock: Clock
  readonly logger: Logger
  readonly times: GroupTimes
  readonly codec: GroupCodec
  readonly net: GroupNet
  readonly files: GroupFiles
  readonly members: Membership
  readonly manifests: Manifests
  readonly shards: Shards
  /** Segments as clients sent them, until their shards are spread and checked. */
  readonly staging: SegmentLog
  readonly courier: Courier
  readonly signer: BatchSigner
  /** Signs what can wait a moment, so that more goes into one batch: each costs every member a check. */
  readonly patientSigner: BatchSigner
  readonly verifier: BatchVerifier
  readonly bad: BadShards
  readonly stats: GroupStats
  readonly warnings: Warnings
  readonly stop: AbortSignal
  /** Merges manifests that were made here, acts on what they change and tells the others. */
  take(list: readonly Manifest[]): Promise<void>
}

/** Signs what is asked for at one moment as one batch. */
export class BatchSigner {
  readonly #key: SigningKey
  readonly #clock: Clock
  readonly #waitMs: () => number
  #queue: { statement: Uint8Array; done: (by: BatchSignature) => void }[] = []
  #cancel: (() => void) | undefined

  /** @param waitMs - how long a statement waits for company now. */
  constructor(key: SigningKey, clock: Clock, waitMs: () => number = () => 0) {
    this.#key = key
    this.#clock = clock
    this.#waitMs = waitMs
  }

  sign(statement: Uint8Array): Promise<BatchSignature> {
    return new Promise(done => {
      this.#queue.push({ statement, done })
      if (this.#queue.length === 1) this.#cancel = this.#clock.after(this.#waitMs(), () => this.#flush())
    })
  }

  /** No more company is to be expected: what waits is signed in a moment. */
  hurry(): void {
    if (this.#queue.length === 0) return
    this.#cancel?.()
    this.#cancel = this.#clock.after(0, () => this.#flush())
  }

  #flush(): void {
    const queue = this.#queue
    this.#queue = []
    for (let i = 0; i < queue.length; i += MAX_BATCH) {
      const part = queue.slice(i, i + MAX_BATCH)
      const signed = signBatch(
        this.#key,
        part.map(p => p.statement)
      )
      for (const [n, p] of part.entries()) p.done(signed[n]!)
    }
  }
}

/** Shards that a holder claims and did not give. Remembered for a while: a fault may pass, and a claim is made again after a repair. */
export class BadShards {
  readonly #marks = new Map<string, { sinceMs: number; times: number }>()
  readonly #clock: Clock
  readonly #keepMs: number

  constructor(clock: Clock, keepMs: number) {
    this.#clock = clock
    this.#keepMs = keepMs
  }

  mark(m: Pick<Manifest, 'root' | 'stripe' | 'k' | 'm'>, j: number, holder: Uint8Array): number {
    if (this.#marks.size >= BAD_MARKS) this.#marks.clear()
    const key = badKey(m, j, holder)
    const times = (this.#marks.get(key)?.times ?? 0) + 1
    this.#marks.set(key, { sinceMs: this.#clock.monotonic(), times })
    return times
  }

  clear(m: Pick<Manifest, 'root' | 'stripe' | 'k' | 'm'>, j: number, holder: Uint8Array): void {
    this.#marks.delete(badKey(m, j, holder))
  }

  has(m: Pick<Manifest, 'root' | 'stripe' | 'k' | 'm'>, j: number, holder: Uint8Array): boolean {
    const mark = this.#marks.get(badKey(m, j, holder))
    return mark !== undefined && this.#clock.monotonic() - mark.sinceMs < this.#keepMs * Math.min(mark.times, 16)
  }
}

const BAD_MARKS = 100_000

function badKey(m: Pick<Manifest, 'root' | 'stripe' | 'k' | 'm'>, j: number, holder: Uint8Array): string {
  return `${name(m.root)}${m.stripe}/${m.k}/${m.m}/${j}${name(holder)}`
}

/** One message; what it says about the member's health is noted. */
export async function ask(
  c: Context,
  to: Uint8Array,
  op: Op,
  head: Uint8Array,
  more: {
    body?: Uint8Array | readonly Uint8Array[]
    timeoutMs?: number
    signal?: AbortSignal
    into?: Uint8Array
  } = {}
): Promise<Packet> {
  const signal = more.signal === undefined ? c.stop : AbortSignal.any([c.stop, more.signal])
  try {
    const timeoutMs = more.timeoutMs ?? c.times.requestMs
    const into = more.into === undefined ? {} : { into: more.into }
    const answer = await c.net.ask(to, op, { head, body: more.body ?? NOTHING }, { timeoutMs, signal, ...into })
    c.members.heard(to)
    return answer
  } catch (err) {
    if (!signal.aborted) c.members.failed(to)
    throw err
  }
}

/** The shard j of a manifest as something to hold. */
export function heldOf(m: Pick<Manifest, 'root' | 'size' | 'stripe' | 'k' | 'm' | 'shardRoots'>, j: number): HeldShard {
  return { ...shardOf(m, j), size: m.size, shardRoot: m.shardRoots[j]! }
}

/**
 * Gives a shard to a member, or keeps it here.
 * @returns once it is on that disk: the signed word for it, or how to get it.
 * @throws {ZgError} when it is not taken.
 */
export async function entrust(
  c: Context,
  shard: HeldShard,
  to: Uint8Array,
  data: Uint8Array,
  opts: { epoch: number; proof: PackedProof | undefined }
): Promise<Word> {
  if (!equalBytes(to, c.id)) return c.courier.put(to, { shard, data, ...opts })
  await c.shards.put(shard, data, opts.proof)
  const signer = c.courier.busy ? c.patientSigner : c.signer
  return async () => ({ holder: c.id, by: await signer.sign(claimStatement(shard, shard.shardRoot)) })
}

/** As {@link entrust}, with the word itself. @throws {ZgError} when it is not taken or the word does not hold. */
export async function hand(...args: Parameters<typeof entrust>): Promise<Claim> {
  return wordOf(await entrust(...args))
}

/** @throws {ZgError} when it is not given or does not hold. */
export async function wordOf(word: Word): Promise<Claim> {
  return typeof word === 'function' ? word() : word
}

/** A shard from this node's own disk, in memory that is used again; undefined when it is not here or was found damaged. */
export async function ownPiece(c: Context, shard: HeldShard): Promise<Piece | undefined> {
  const slot = lease()
  try {
    const data = await c.shards.read(shard, slot.bytes)
    if (data !== undefined) return pieceOf(slot, data)
    slot.release()
    return undefined
  } catch (err) {
    slot.release()
    throw err
  }
}

/** Data that lies in a lease, or elsewhere. */
export function pieceOf(slot: Lease, data: Uint8Array): Piece {
  let live = true
  const release = (): void => {
    if (live) slot.release()
    live = false
  }
  return { data, release }
}

export function bytesOf(piece: Piece | undefined): Uint8Array | undefined {
  return piece?.data
}

/** Nobody looks at these any more. */
export function releaseAll(pieces: readonly (Piece | undefined)[]): void {
  for (const p of pieces) p?.release()
}

/** A signed manifest from its core and claims. */
export async function sealed(c: Context, core: Omit<Manifest, 'signer' | 'by'>): Promise<Manifest> {
  return { ...core, signer: c.id, by: await c.patientSigner.sign(coreStatement(core)) }
}

/** Holders whose shards count at present: members, not lost, not found bad. */
export function goodHolders(c: Context, m: Manifest): (Uint8Array | undefined)[] {
  return m.claims.map((claim, j) => {
    if (claim === undefined || !c.members.isMember(claim.holder)) return undefined
    if (c.members.health(claim.holder) === 'lost' || c.bad.has(m, j, claim.holder)) return undefined
    return claim.holder
  })
}

/** Roots of all shards from their data. */
export async function rootsOf(c: Context, data: readonly Uint8Array[], sectors: number): Promise<Uint8Array[]> {
  return Promise.all(data.map(d => c.codec.root(d, sectors)))
}

/**
 * All shards of a stripe from its data shards. Copies are the data again.
 * @param into - memory for the parity.
 */
export async function allShards(
  c: Context,
  m: Pick<Manifest, 'size' | 'k' | 'm' | 'stripe'>,
  data: readonly Uint8Array[],
  into?: Uint8Array
) {
  const s = manifestStripe(m)
  const parity = s.count - s.need
  if (parity === 0) return [...data]
  if (s.need === 1) return Array.from({ length: s.count }, () => data[0]!)
  const size = parity * s.sectors * SECTOR_BYTES
  const out = into !== undefined && into.length >= size ? into.subarray(0, size) : undefined
  return [...data, ...(await c.codec.encode(s.need, parity, data, out))]
}

/** At most `most` of these run at a time; the others wait in order. */
export class Lanes {
  readonly #most: number
  #running = 0
  readonly #waiting: (() => void)[] = []

  constructor(most: number) {
    this.#most = most
  }

  async run<T>(fn: () => Promise<T>): Promise<T> {
    while (this.#running >= this.#most) await new Promise<void>(resolve => this.#waiting.push(resolve))
    this.#running++
    try {
      return await fn()
    } finally {
      this.#running--
      this.#waiting.shift()?.()
    }
  }
}
