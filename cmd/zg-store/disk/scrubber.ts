/**
 * Reads every segment again within a period and hashes it, so that rot is found while others still have the bytes. Slowly: spread over the
 * period, never faster than a bound. Where it stands is kept in the index, so that a restart does not begin anew. A damaged
 * segment is quarantined by the log, which tells whoever owns the file.
 *
 * ```
 *   index entries in key order   s‖root‖0  s‖root‖1 … │ cursor … last      then the time of the pass is noted and it begins again
 * ```
 */
import { messageOf } from '../../../lib/base/errors.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { KvStore } from '../../../lib/ports/kv.ts'
import { MAX_RECORD_BYTES } from './record.ts'
import type { SegmentLog } from './segment-log.ts'

export interface ScrubberOptions {
  log: SegmentLog
  kv: KvStore
  clock: Clock
  logger: Logger
  /** Every segment is read within this time; 0 switches the scrubber off. */
  periodMs: number
  /** Bytes read a second, at most. */
  bytesPerSecond?: number
}

export interface ScrubState {
  /** 0 … 1 of the present pass, by place in the order of names. */
  readonly position: number
  readonly segments: number
  readonly bytes: number
  readonly damaged: number
  /** Wall time of the end of the last whole pass; 0 when there was none. */
  readonly lastPassMs: number
  /** Wall time of the beginning of this pass. */
  readonly passBegunMs: number
  /** The last whole pass is longer ago than the period. */
  readonly overdue: boolean
}

export const SCRUB_PERIOD_MS = 7 * 86_400_000
const BYTES_PER_SECOND = 32 * 1024 * 1024
/** 'c': where the scrubber stands. */
const CURSOR_KEY: Uint8Array = Uint8Array.of(0x63)
/** Entries looked up and segments read between two rests. */
const STEP = 64
/** Rest when there is nothing to read. */
const EMPTY_MS = 60_000
/** The period is aimed at a little early. */
const EARLY = 0.9

export class Scrubber {
  readonly #o: ScrubberOptions
  /** The key (root and index) that was read last. */
  #cursor: Uint8Array = new Uint8Array(36)
  #passBegunMs = 0
  #lastPassMs = 0
  #begunMs = 0
  #segments = 0
  #bytes = 0
  #running = false

  private constructor(o: ScrubberOptions) {
    this.#o = o
    this.#begunMs = o.clock.now()
  }

  static async open(o: ScrubberOptions): Promise<Scrubber> {
    const scrubber = new Scrubber(o)
    const value = await o.kv.get(CURSOR_KEY)
    if (value?.length === 52) {
      const v = new DataView(value.buffer, value.byteOffset, value.byteLength)
      scrubber.#passBegunMs = v.getFloat64(0)
      scrubber.#lastPassMs = v.getFloat64(8)
      scrubber.#cursor = value.slice(16)
    } else scrubber.#passBegunMs = o.clock.now()
    return scrubber
  }

  get state(): ScrubState {
    const { clock, periodMs } = this.#o
    const reference = this.#lastPassMs > 0 ? this.#lastPassMs : this.#begunMs
    const [a = 0, b = 0, c = 0, d = 0] = this.#cursor
    return {
      position: (((a * 256 + b) * 256 + c) * 256 + d) / 2 ** 32,
      segments: this.#segments,
      bytes: this.#bytes,
      damaged: this.#o.log.stats.quarantined,
      lastPassMs: this.#lastPassMs,
      passBegunMs: this.#passBegunMs,
      overdue: periodMs > 0 && clock.now() - reference > periodMs
    }
  }

  /** Reads on until `signal` ends it. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger, periodMs } = this.#o
    if (periodMs === 0) return
    // A start has more urgent things to read.
    await clock.sleep(Math.min(periodMs, EMPTY_MS), signal).catch(() => {})
    while (!signal.aborted) {
      try {
        const bytes = await this.step(signal)
        await clock.sleep(this.#restMs(bytes), signal)
      } catch (err) {
        if (signal.aborted) return
        logger.warn('scrubbing has to wait', { error: messageOf(err) })
        await clock.sleep(60_000, signal).catch(() => {})
      }
    }
  }

  /** Everything once, at full speed: `zg-store scrub`, tests. @returns how many were read and how many were damaged. */
  async all(signal: AbortSignal): Promise<{ segments: number; bytes: number; damaged: number }> {
    const before = { segments: this.#segments, bytes: this.#bytes, damaged: this.#o.log.stats.quarantined }
    this.#cursor = new Uint8Array(36)
    this.#passBegunMs = this.#o.clock.now()
    const last = this.#lastPassMs
    let first = true
    while (!signal.aborted && (first || !isZero(this.#cursor))) {
      first = false
      await this.step(signal)
      if (this.#lastPassMs !== last) break
    }
    return {
      segments: this.#segments - before.segments,
      bytes: this.#bytes - before.bytes,
      damaged: this.#o.log.stats.quarantined - before.damaged
    }
  }

  /** Reads the next segments; at the end of the index the pass is over. @returns bytes read. */
  async step(signal?: AbortSignal): Promise<number> {
    if (this.#running) return 0
    this.#running = true
    try {
      const { log, kv, clock } = this.#o
      const memory = new Uint8Array(MAX_RECORD_BYTES)
      const from = new Uint8Array(38)
      from[0] = 0x73
      from.set(this.#cursor, 1)
      // One zero byte behind the last key: the next one in order.
      const gte = isZero(this.#cursor) ? from.subarray(0, 37) : from
      const keys: Uint8Array[] = []
      for await (const [key] of kv.scan({ gte, lt: Uint8Array.of(0x74), limit: STEP })) keys.push(key.slice(1))
      let bytes = 0
      for (const key of keys) {
        if (signal?.aborted) return bytes
        const index = new DataView(key.buffer, key.byteOffset).getUint32(32)
        bytes += (await log.check(key.subarray(0, 32), index, memory)) ?? 0
        this.#segments++
        this.#cursor = key
      }
      this.#bytes += bytes
      if (keys.length < STEP) {
        this.#lastPassMs = clock.now()
        this.#passBegunMs = this.#lastPassMs
        this.#cursor = new Uint8Array(36)
      }
      await kv.batch([{ put: CURSOR_KEY, value: this.#record() }])
      return bytes
    } finally {
      this.#running = false
    }
  }

  #record(): Uint8Array {
    const out = new Uint8Array(52)
    const v = new DataView(out.buffer)
    v.setFloat64(0, this.#passBegunMs)
    v.setFloat64(8, this.#lastPassMs)
    out.set(this.#cursor, 16)
    return out
  }

  /** So long that all bytes take the period, and never less than the bound on the rate asks for. */
  #restMs(bytes: number): number {
    const { log, periodMs, bytesPerSecond = BYTES_PER_SECOND } = this.#o
    if (bytes === 0) return Math.min(periodMs, EMPTY_MS)
    const least = (bytes / bytesPerSecond) * 1000
    const share = bytes / Math.max(bytes, log.stats.usedBytes)
    // An empty or small store is not read all the time.
    return Math.max(least, Math.min(periodMs * EARLY, Math.max(1_000, share * periodMs * EARLY)))
  }
}

function isZero(b: Uint8Array): boolean {
  return b.every(x => x === 0)
}
