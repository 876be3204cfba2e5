/**
 * Replays streams that are followed later than from the start: the log is read again from its beginning, beside the follower, a
 * page at a time. The end is the state that there would be had they been followed always:
 *
 *   a file of these streams alone ─────────► replayed now: every question is asked as of its seq
 *   a file of these streams and of others ─► it was skipped, and may change the others: all is rewound to it and goes on together
 *   a file of others that was refused because it reads one of these ─► likewise
 *   any other file ────────────────────────► as it was
 */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { type FollowOptions, type KvFollower, type PlacedEvent, parse, streamsOf } from './follow.ts'

const PAGE_BLOCKS = 1_000

export class WaveReplay {
  readonly #o: FollowOptions
  readonly #main: KvFollower

  constructor(options: FollowOptions, main: KvFollower) {
    this.#o = options
    this.#main = main
  }

  /** Replays one page. False when there is nothing to do. The others must be at the head. */
  async page(signal: AbortSignal): Promise<boolean> {
    const { db, chain, startBlock, log } = this.#o
    if (db.wave === undefined && !(await db.startWave())) return false
    const wave = db.wave!
    const from = Math.max(startBlock, wave.block + 1)
    const top = db.progress.block
    if (from > top) {
      if (wave.nextSeq !== db.progress.nextSeq && db.progress.firstSeq !== undefined) await this.#again(wave.nextSeq)
      await db.join()
      log.info('streams were replayed from the start', { seq: db.progress.nextSeq })
      return true
    }
    const to = Math.min(top, from + PAGE_BLOCKS - 1)
    const events = (await chain.submissions(from, to)).sort((a, b) => a.event.seq - b.event.seq)
    for (const placed of events) {
      signal.throwIfAborted()
      const { seq } = placed.event
      const { nextSeq } = db.wave!
      if (seq < nextSeq || seq >= db.progress.nextSeq) continue
      if (seq > nextSeq) await this.#again(nextSeq)
      if (await this.#meets(placed, signal)) {
        log.info('replaying again from where the streams meet', { seq, block: placed.block })
        await db.rewind(seq, placed.block)
        return true
      }
      const streams = this.#ofWave(placed)
      if (streams === undefined) {
        await db.applyWave(seq, [], undefined)
        continue
      }
      const result = await this.#main.replayOne(placed, streams, s => this.#known(s), signal)
      await db.applyWave(seq, result.ops, result.text)
      this.#o.onResult?.(result.text)
    }
    await db.waveBlock(to)
    return true
  }

  /** An RPC left out an event: the pages are read again, what was replayed is passed over. */
  async #again(seq: number): Promise<never> {
    await this.#o.db.waveBlock(-1)
    throw new ZgError('ERR_PROTOCOL', `chain does not answer the event of submission ${seq}`)
  }

  #inWave(stream: Uint8Array): boolean {
    return this.#o.db.streams.get(toHex(stream)) === 'wave'
  }

  #known(stream: Uint8Array): boolean {
    return this.#inWave(stream) || this.#main.follows(stream)
  }

  /** The streams of a file of the wave alone. */
  #ofWave(placed: PlacedEvent): Uint8Array[] | undefined {
    const streams = streamsOf(placed.event)
    return streams?.every(s => this.#inWave(s)) ? streams : undefined
  }

  /** True when the others cannot be what they are with the streams of the wave. */
  async #meets(placed: PlacedEvent, signal: AbortSignal): Promise<boolean> {
    const streams = streamsOf(placed.event)
    if (streams === undefined || !streams.every(s => this.#known(s))) return false
    const waving = streams.filter(s => this.#inWave(s)).length
    if (waving > 0) return waving < streams.length
    if ((await this.#o.db.state.result(placed.event.seq)) !== 'TagsMismatch') return false
    const file = await this.#main.fetch(placed, signal)
    const content = file === undefined ? undefined : parse(file.content)
    return content !== undefined && 'reads' in content && content.reads.some(r => this.#inWave(r.stream))
  }
}
