/**
 * Buffers of one batch (four segments) that are used again. A buffer of that size made anew for each batch is outside the heap of
 * JavaScript, and its collector then runs after every few of them: a third of the processor time of a transfer.
 */
import { SEGMENT_BYTES } from '../../codec/storage/shape.ts'

/** Segments of a batch: one request of the raw path, one job of the hashing threads. */
export const BATCH_SEGMENTS = 4
export const BATCH_BYTES = BATCH_SEGMENTS * SEGMENT_BYTES
/** Buffers that are kept when nobody needs them: 24 MiB. */
const KEPT = 24

const free: Uint8Array[] = []

/** A buffer of {@link BATCH_BYTES}, with whatever was in it before. */
export function takeBuffer(): Uint8Array {
  return free.pop() ?? Buffer.allocUnsafeSlow(BATCH_BYTES)
}

/** Gives a buffer back. Only when nobody can write to or read from it any more: after an error let it go instead. */
export function giveBuffer(buffer: Uint8Array): void {
  if (free.length < KEPT) free.push(buffer)
}
