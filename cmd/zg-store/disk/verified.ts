/** Which places of the log were hashed lately: their next read needs no hash. Bounded; the longest known are forgotten first. */
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Location } from './segment-index.ts'

const VERIFY_AGAIN_MS = 3_600_000
/** Places remembered as verified: 64 GiB of segments in some 20 MB of memory. */
const VERIFIED_PLACES = 262_144

export class VerifiedPlaces {
  readonly #clock: Clock
  readonly #places = new Map<number, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  has(at: Location): boolean {
    const when = this.#places.get(placeOf(at))
    return when !== undefined && this.#clock.monotonic() - when < VERIFY_AGAIN_MS
  }

  add(at: Location): void {
    if (this.#places.size >= VERIFIED_PLACES) {
      const oldest = this.#places.keys().next()
      if (!oldest.done) this.#places.delete(oldest.value)
    }
    this.#places.delete(placeOf(at))
    this.#places.set(placeOf(at), this.#clock.monotonic())
  }

  delete(at: Location): void {
    this.#places.delete(placeOf(at))
  }
}

/** One number for a place in the log: files stay far below 2 GiB, and records start at multiples of 8. */
function placeOf(at: Location): number {
  return at.file * 0x1000_0000 + at.offset / 8
}
