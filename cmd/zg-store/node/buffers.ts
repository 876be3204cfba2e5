/**
 * Memory for segments on their way, used again and again. A fresh 256 KiB array a segment costs twice: the system clears its pages,
 * and V8 starts a collection of everything for each 64 MiB of such arrays, which took half of the node's processor time.
 *
 * A lease is given back exactly once by whoever took it, and once by each who shared it, when he does not read or write its bytes any more.
 */
import type { ServerResponse } from 'node:http'
import { assert } from '../../../lib/base/errors.ts'

/** Holds a record of the log (264 296 bytes). */
const RECORD_BYTES = 260 * 1024
/** Holds a segment as base64 with the answer around it (349 528 and 600). */
export const SLOT_BYTES = 352 * 1024
/** Slots of each size that are kept when nobody uses them: 24 and 33 MiB. */
const KEPT = 96

/** Some bytes of the pool, in use until released. */
export class Lease {
  readonly bytes: Buffer
  readonly #free: Buffer[] | undefined
  #users = 1

  constructor(bytes: Buffer, free: Buffer[] | undefined) {
    this.bytes = bytes
    this.#free = free
  }

  /** One user more. */
  share(): void {
    assert(this.#users > 0, 'memory that was given back')
    this.#users++
  }

  release(): void {
    assert(this.#users > 0, 'memory given back twice')
    if (--this.#users > 0) return
    if (this.#free !== undefined && this.#free.length < KEPT) this.#free.push(this.bytes)
  }
}

const records: Buffer[] = []
const slots: Buffer[] = []

/** At least `bytes` bytes; what lies in them is left over from others. Larger wishes than a slot get memory of their own. */
export function lease(bytes: number = RECORD_BYTES): Lease {
  if (bytes > SLOT_BYTES) return new Lease(Buffer.allocUnsafeSlow(bytes), undefined)
  const [size, free] = bytes <= RECORD_BYTES ? [RECORD_BYTES, records] : [SLOT_BYTES, slots]
  return new Lease(free.pop() ?? Buffer.allocUnsafeSlow(size), free)
}

/**
 * Writes bytes that lie in a lease, or elsewhere, to a client; the lease is given back once the system has them, or the client is gone.
 * @returns false when the client should be waited for.
 */
export function sendBytes(res: ServerResponse, bytes: Uint8Array, memory: Lease): boolean {
  let live = true
  const done = (): void => {
    if (live) memory.release()
    live = false
    res.off('close', done)
  }
  if (res.destroyed) {
    done()
    return true
  }
  res.once('close', done)
  return res.write(bytes, done)
}
