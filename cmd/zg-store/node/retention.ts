/**
 * What a node gives up by itself: nothing, unless its operator said so. Files older than an age, or, at the quota, the oldest
 * ones until a tenth is free again. Age counts from when the file became final here.
 *
 * ```
 *   a ‖ u64 ms ‖ root   one entry for each time a file became final here, in order of age
 * ```
 */
import { messageOf } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { shortHash } from '../../../lib/base/units.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'
import type { FileStore } from '../core/file-store.ts'
import { key, numberAt, type Tx } from '../core/tx.ts'
import { type CompactionResult, compact } from '../disk/compaction.ts'
import type { SegmentLog } from '../disk/segment-log.ts'

export interface RetentionOptions {
  kv: KvStore
  log: SegmentLog
  store: FileStore
  clock: Clock
  logger: Logger
  /** Files that became final longer ago are pruned. */
  maxAgeMs?: number | undefined
  quotaBytes?: number | undefined
  /** At the quota: take nothing more, or prune the oldest files. */
  whenFull?: 'refuse' | 'oldest'
}

/** Of the quota: above the first the oldest go, until the second is reached. */
const FULL_SHARE = 0.95
const ROOM_SHARE = 0.9
/** At the quota a file is compacted for less. */
const PRESSED_SHARE = 0.1

export class Retention {
  readonly #o: RetentionOptions
  readonly stats = { pruned: 0, compactedFiles: 0, movedBytes: 0, freedBytes: 0 }
  #tail: Promise<unknown> = Promise.resolve()

  constructor(options: RetentionOptions) {
    this.#o = options
  }

  get #active(): boolean {
    return this.#o.maxAgeMs !== undefined || this.#o.whenFull === 'oldest'
  }

  /** Files became final: their age begins. */
  async final(txs: readonly Tx[]): Promise<void> {
    const now = this.#o.clock.now()
    const ops = txs.map((tx): KvOp => ({ put: key('a', now, tx.root), value: new Uint8Array(0) }))
    await this.#o.kv.batch(ops)
  }

  /** Prunes what the policy gives up, then compacts. Called from time to time, and when the disk is full. */
  async sweep(signal: AbortSignal): Promise<void> {
    try {
      if (this.#active) await this.#prune(signal)
      const { used, quota } = this.#room()
      const pressed = this.#o.log.trouble?.kind === 'full' || (quota !== undefined && used > ROOM_SHARE * quota)
      await this.compact(signal, pressed ? PRESSED_SHARE : undefined)
    } catch (err) {
      if (!signal.aborted) this.#o.logger.warn('cannot make room', { error: messageOf(err) })
    }
  }

  /** One compaction at a time. @param deadShare - see compaction.ts. */
  compact(signal: AbortSignal, deadShare?: number): Promise<CompactionResult> {
    const { log, clock, logger } = this.#o
    const run = this.#tail.then(async () => {
      const more = deadShare === undefined ? {} : { deadShare, leastBytes: 0 }
      const done = await compact({ log, clock, logger, ...more }, signal)
      this.stats.compactedFiles += done.files
      this.stats.movedBytes += done.movedBytes
      this.stats.freedBytes += done.freedBytes
      return done
    })
    this.#tail = run.catch(() => {})
    return run
  }

  #room(): { used: number; quota: number | undefined } {
    return { used: this.#o.log.stats.usedBytes, quota: this.#o.quotaBytes }
  }

  async #prune(signal: AbortSignal): Promise<void> {
    const { kv, store, clock, maxAgeMs, whenFull, logger } = this.#o
    const { used, quota } = this.#room()
    let excess = 0
    if (whenFull === 'oldest' && quota !== undefined) {
      // A refused upload asks for one file at least, however much room a share of the quota is.
      if (this.#o.log.trouble?.kind === 'full') excess = Math.max(1, used - ROOM_SHARE * quota)
      else if (used > FULL_SHARE * quota) excess = used - ROOM_SHARE * quota
    }
    excess -= excess > 0 ? await this.#deadBytes() : 0
    const before = maxAgeMs === undefined ? 0 : clock.now() - maxAgeMs
    for await (const [k] of kv.scan({ gte: key('a'), lt: key('b') })) {
      if (signal.aborted) return
      const old = numberAt(k, 1) < before
      if (!old && excess <= 0) return
      const root = k.slice(9)
      const bytes = await store.bytesHeld(root)
      const segments = await store.prune(root)
      await kv.batch([{ del: k }])
      if (segments === 0) continue
      excess -= bytes
      this.stats.pruned++
      logger.info('file pruned', { root: shortHash(toHex(root)), why: old ? 'age' : 'quota', segments })
    }
  }

  /** Forgotten, but still on the disk. */
  async #deadBytes(): Promise<number> {
    let sum = (await this.#o.log.active()).deadBytes
    for (const f of await this.#o.log.sealed()) sum += f.deadBytes
    return sum
  }
}
