/**
 * Memory for messages with shards in them, used again and again: a fresh array a message costs the system's clearing of its pages and,
 * for each 64 MiB of them, a collection by V8. What is never given back is collected like anything else, so whoever keeps data
 * for long simply does not release it.
 */
import { assert } from '../../../lib/base/errors.ts'

/** Sixteen shards of 256 KiB and what stands around them. */
const LARGE_BYTES: number = 4 * 1024 * 1024 + 64 * 1024
/** Eight. */
export const BLOCK_BYTES: number = 2 * 1024 * 1024 + 64 * 1024

/** A size of blocks, and those of it that nobody uses. A heartbeat need not hold the memory of eight shards. */
interface Class {
  readonly size: number
  readonly kept: number
  readonly free: Uint8Array[]
}

/** Kept when nobody uses them: 4, 14, 25 and 8 MiB. */
const CLASSES: readonly Class[] = [
  { size: 64 * 1024, kept: 64, free: [] },
  { size: 576 * 1024, kept: 24, free: [] },
  { size: BLOCK_BYTES, kept: 12, free: [] },
  { size: LARGE_BYTES, kept: 2, free: [] }
]

/** Some bytes in use by one or more parties; they go back when all have released theirs. */
export class Block {
  readonly bytes: Uint8Array
  #users = 1

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  /** One user more. */
  share(): void {
    assert(this.#users > 0, 'memory that was given back')
    this.#users++
  }

  release(): void {
    assert(this.#users > 0, 'memory given back twice')
    if (--this.#users > 0) return
    const c = CLASSES.find(x => x.size === this.bytes.length)
    if (c !== undefined && c.free.length < c.kept) c.free.push(this.bytes)
  }
}

/** At least `size` bytes; what lies in them is left over from others. Plain arrays: a Buffer's slice would share the memory. */
export function block(size: number): Block {
  const c = CLASSES.find(x => x.size >= size)
  return new Block(c?.free.pop() ?? new Uint8Array(Buffer.allocUnsafeSlow(c?.size ?? size).buffer))
}

/** Bytes of a shard, and how to say that nobody looks at them any more. Saying so is never needed, and allowed once. */
export interface Piece {
  readonly data: Uint8Array
  release(): void
}

/** A piece that is nobody's but the collector's. */
export function kept(data: Uint8Array): Piece {
  return { data, release: () => {} }
}
