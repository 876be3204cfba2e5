/** What the coding group's core needs from outside: messages, arithmetic, the file states, times. Real and simulated forms exist of each. */
import type { Tx } from '../core/tx.ts'
import type { PackedProof } from '../disk/record.ts'

/** Message kinds between members. */
export const OP = {
  beat: 1,
  list: 2,
  put: 3,
  get: 4,
  have: 5,
  manifests: 6,
  family: 7,
  buckets: 8,
  bucket: 9,
  checked: 10,
  tombstone: 11,
  lacks: 12,
  sum: 13,
  leaves: 14,
  /** Whether a first parity holder has computed parity again: who has staged bytes asks, should the word for it have been lost. */
  wasChecked: 15,
  /** As `put`, but the member fetches the bytes itself (`take`) and gives its signed word later (`claim`). */
  keep: 16,
  take: 17,
  claim: 18
} as const
export type Op = (typeof OP)[keyof typeof OP]

/** A message or its answer as it arrives: a small head, and bytes of shards that are never copied into it. */
export interface Packet {
  readonly head: Uint8Array
  readonly body: Uint8Array
}

/** A message or an answer on its way out. */
export interface Outgoing {
  readonly head: Uint8Array
  /** Sent one behind the other. */
  readonly body: Uint8Array | readonly Uint8Array[]
  /** Called once when nobody reads the body any more. */
  readonly done?: () => void
}

/** The parts of a body. */
export function partsOf(packet: Outgoing): readonly Uint8Array[] {
  return packet.body instanceof Uint8Array ? [packet.body] : packet.body
}

export const NOTHING: Uint8Array = new Uint8Array(0)

export interface GroupNet {
  /**
   * One message to a member and its answer. Who answers is authenticated.
   * @throws {ZgError} ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_PROTOCOL, ERR_STOPPED.
   */
  ask(to: Uint8Array, op: Op, packet: Outgoing, opts: AskOptions): Promise<Packet>
  /** Where a member can be reached, from the list or from its own word. */
  address(id: Uint8Array, url: string): void
}

export interface AskOptions {
  timeoutMs: number
  signal?: AbortSignal
  /** Memory for the answer; its body may lie in it. */
  into?: Uint8Array
}

/** Answers messages of authenticated members. The body is only valid until the answer is given. */
export type GroupHandler = (from: Uint8Array, op: number, packet: Packet) => Promise<Outgoing>

export interface GroupCodec {
  /** Merkle root of `leaves` sectors, data first. */
  root(data: Uint8Array, leaves: number): Promise<Uint8Array>
  /** The m parity shards of k equal data shards. @param out - memory for them, one behind the other. */
  encode(k: number, m: number, data: readonly Uint8Array[], out?: Uint8Array): Promise<Uint8Array[]>
  /** Shards `wanted` from any k present ones. */
  reconstruct(
    k: number,
    m: number,
    shards: readonly (Uint8Array | undefined)[],
    wanted: readonly number[]
  ): Promise<Uint8Array[]>
  /** Inner product of the shard's bytes with the powers of ρ, 16 bytes (storage.md 11). */
  sum(rho: Uint8Array, shard: Uint8Array): Promise<Uint8Array>
}

/** The states of files, as the group changes them. */
export interface GroupFiles {
  /** Submissions of a root. */
  txs(root: Uint8Array): Promise<Tx[]>
  /** All stripes of a root may be durable now. */
  settle(root: Uint8Array): Promise<boolean>
  /** What is known of a root has changed. */
  changed(root: Uint8Array): void
  /** Segments of a durable stripe: they need not be sent any more. */
  gained(root: Uint8Array, first: number, count: number): Promise<void>
  /** A stripe is below k: final turns false. */
  lost(root: Uint8Array): Promise<void>
  /** The group has deleted it. */
  prune(root: Uint8Array): Promise<void>
}

export interface GroupTimes {
  beatMs: number
  suspectMs: number
  lostMs: number
  /** A holder that has not answered so long is helped out by the others. */
  hedgeMs: number
  /** A shard that somebody else holds now is kept so long. */
  dropMs: number
  /** How often the background work looks around. */
  tickMs: number
  requestMs: number
  /** Part of the time that repair may take while clients are served, 0 to 1. */
  repairShare: number
  /** Bytes a second that this member may read and send for repair, on average; 0: as many as there is time for. */
  repairBytesPerSecond: number
  /** After so long of more losses than the code bears, they are taken for real. */
  partitionMs: number
}

export const DEFAULT_TIMES: GroupTimes = {
  beatMs: 2_000,
  suspectMs: 10_000,
  lostMs: 900_000,
  hedgeMs: 50,
  dropMs: 600_000,
  tickMs: 1_000,
  requestMs: 15_000,
  repairShare: 0.3,
  repairBytesPerSecond: 0,
  partitionMs: 86_400_000
}

/** A segment as FileStore serves it. */
export interface GroupSegment {
  readonly data: Uint8Array
  readonly leaf: Uint8Array
  readonly proof: PackedProof
}

/** How a stripe stands, for `stat`. */
export interface StripeState {
  readonly stripe: number
  readonly code: string
  readonly epoch: number
  readonly survivors: number
  readonly need: number
  readonly count: number
  readonly acknowledged: number
  readonly checked: boolean
  readonly holders: (string | null)[]
}
