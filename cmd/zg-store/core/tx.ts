/**
 * What the node knows of a submission, and the keys under which the key-value store has it.
 *
 * ```
 *   key                              value
 *   m ‖ name                         small facts: network, progress, shard
 *   t ‖ seq u64                      the submission, below
 *   r ‖ root 32                      seq u64 ‖ more u8   the first submission of this root; `more` 1: others may follow
 *   r ‖ root 32 ‖ seq u64            (empty)             the others, in order
 *   w ‖ flow root 32                 seq u64 ‖ length u64   the flow root after a submission: proofs against past roots
 *   n ‖ height u8 ‖ index u64        hash 32             complete nodes of the flow tree
 *   b ‖ block u64                    hash 32 ‖ next seq u64  the last blocks, to notice and undo a reorganisation
 *   u ‖ root 32                      (empty)             files that lack segments here
 *   o ‖ root 32                      time u64            bytes that no submission names since then
 *   s, l, d, q                       the segment log (disk/segment-log.ts)
 * ```
 *
 * One look-up gives the submission of nearly every root, since hardly one has two. Places in the flow rise with the numbers of submissions, so
 * who covers a place is found by halving. Layout 1 had `r` with a number for each submission, and `x` ‖ startPos for places; it is
 * brought to this form when it is opened.
 *
 * All of one batch of events goes in as one atomic write, so the store is always the state after some block.
 */
import { ZgError } from '../../../lib/base/errors.ts'
import type { SubmissionNode } from '../../../lib/codec/storage/submission.ts'

/** `pending`: segments are missing here. `final`: this node has all of its segments. `pruned`: dropped by command. */
export type TxStatus = 'pending' | 'final' | 'pruned'
const STATUS: readonly TxStatus[] = ['pending', 'final', 'pruned']

export interface Tx {
  readonly seq: number
  readonly root: Uint8Array
  /** Bytes of the file as the submission claims. */
  readonly size: number
  readonly startPos: number
  readonly sectors: number
  readonly nodes: readonly SubmissionNode[]
  /** Length and root of the flow right after it. */
  readonly flowLength: number
  readonly flowRoot: Uint8Array
  readonly block: number
  readonly status: TxStatus
}

const FIXED_BYTES = 1 + 1 + 32 + 8 * 5 + 32

/** Value of `t`: status, node count, root, size, startPos, sectors, flowLength, block, flowRoot, then (height u8, root 32) each. */
export function encodeTx(t: Tx): Uint8Array {
  const out = new Uint8Array(FIXED_BYTES + 33 * t.nodes.length)
  const v = new DataView(out.buffer)
  out[0] = STATUS.indexOf(t.status)
  out[1] = t.nodes.length
  out.set(t.root, 2)
  const numbers = [t.size, t.startPos, t.sectors, t.flowLength, t.block]
  for (const [i, n] of numbers.entries()) v.setBigUint64(34 + 8 * i, BigInt(n))
  out.set(t.flowRoot, 74)
  for (const [i, n] of t.nodes.entries()) {
    out[FIXED_BYTES + 33 * i] = n.height
    out.set(n.root, FIXED_BYTES + 33 * i + 1)
  }
  return out
}

/** @throws {ZgError} ERR_CORRUPT. */
export function decodeTx(seq: number, value: Uint8Array): Tx {
  const status = STATUS[value[0] ?? 255]
  const count = value[1] ?? 0
  if (status === undefined || value.length !== FIXED_BYTES + 33 * count) {
    throw new ZgError('ERR_CORRUPT', `record of submission ${seq} is damaged`)
  }
  const v = new DataView(value.buffer, value.byteOffset, value.byteLength)
  const number = (i: number): number => Number(v.getBigUint64(34 + 8 * i))
  const nodes: SubmissionNode[] = []
  for (let i = 0; i < count; i++) {
    const at = FIXED_BYTES + 33 * i
    nodes.push({ height: value[at]!, root: value.slice(at + 1, at + 33) })
  }
  return {
    seq,
    status,
    root: value.slice(2, 34),
    size: number(0),
    startPos: number(1),
    sectors: number(2),
    flowLength: number(3),
    block: number(4),
    flowRoot: value.slice(74, 106),
    nodes
  }
}

const tag = (letter: string): number => letter.charCodeAt(0)

/** `letter` ‖ the parts; numbers take 8 bytes. */
export function key(letter: string, ...parts: readonly (Uint8Array | number)[]): Uint8Array {
  let size = 1
  for (const p of parts) size += typeof p === 'number' ? 8 : p.length
  const out = new Uint8Array(size)
  const v = new DataView(out.buffer)
  out[0] = tag(letter)
  let at = 1
  for (const p of parts) {
    if (typeof p === 'number') v.setBigUint64(at, BigInt(p))
    else out.set(p, at)
    at += typeof p === 'number' ? 8 : p.length
  }
  return out
}

/** Key of a small fact. */
export function fact(name: string): Uint8Array {
  return key('m', new TextEncoder().encode(name))
}

/** Key of a flow node. */
export function nodeKey(height: number, index: number): Uint8Array {
  return key('n', Uint8Array.of(height), index)
}

/** Two 8-byte numbers. */
export function numbers(...values: readonly number[]): Uint8Array {
  const out = new Uint8Array(8 * values.length)
  const v = new DataView(out.buffer)
  for (const [i, n] of values.entries()) v.setBigUint64(8 * i, BigInt(n))
  return out
}

/** The 8-byte number at `offset`. */
export function numberAt(value: Uint8Array, offset: number): number {
  return Number(new DataView(value.buffer, value.byteOffset, value.byteLength).getBigUint64(offset))
}
