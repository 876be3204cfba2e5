/**
 * Large files are cut into independent files, each with its own submission (storage.md 7.2). With encryption the **stream**
 * is cut: only fragment 0 has the header.
 */
import { ZgError } from '../../base/errors.ts'
import { nextPow2, SECTOR_BYTES } from './shape.ts'

/** What the new SDK uses when nothing is said. */
export const DEFAULT_FRAGMENT_BYTES = 4 * 1024 ** 3

/** A piece of a stream. */
export interface Fragment {
  index: number
  offset: number
  size: number
}

/** The fragment size that takes effect: a power of two, at least one sector. @throws {ZgError} ERR_BAD_INPUT. */
export function fragmentBytes(wanted: number): number {
  if (!Number.isSafeInteger(wanted) || wanted < 1 || wanted > 2 ** 52) {
    throw new ZgError('ERR_BAD_INPUT', `fragment size ${wanted} is out of range`)
  }
  return Math.max(SECTOR_BYTES, nextPow2(wanted))
}

/** The pieces of a stream of `size` bytes (encryption header included), in order. One piece when it is not longer. */
export function fragments(size: number, wanted = DEFAULT_FRAGMENT_BYTES): Fragment[] {
  const step = fragmentBytes(wanted)
  const out: Fragment[] = []
  for (let offset = 0; offset < size; offset += step) {
    out.push({ index: out.length, offset, size: Math.min(step, size - offset) })
  }
  return out
}
