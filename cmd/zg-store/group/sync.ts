/**
 * Members among themselves: heartbeats that carry the version of the list and a digest of all manifests, and the comparison of both
 * sides where digests differ. What a message lost comes this way later; a node that was away learns everything, tombstones first.
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { Manifest } from '../../../lib/codec/storage/manifest.ts'
import { decodeTombstone, type Tombstone } from '../../../lib/codec/storage/members.ts'
import { repeat } from '../../../lib/ports/clock.ts'
import { ask, type Context } from './context.ts'
import { type BucketEntry, EMPTY_DIGEST } from './manifests.ts'
import { OP } from './ports.ts'
import {
  decodeBeat,
  decodeEntries,
  decodeList,
  decodeManifests,
  encodeBeat,
  encodeManifests,
  encodeStripeName
} from './wire.ts'

/** Manifests wait so long for company before they are sent. */
const PUBLISH_MS = 20
const OUTBOX = 20_000
/** Digests differ for a moment whenever something is under way: compared in detail when they differ at so many beats in a row. */
const PATIENCE_BEATS = 2
export const BUCKET_PAGE = 1_000
export const FAMILY_PAGE = 256

export class Sync {
  readonly #c: Context
  readonly #url: () => string
  readonly #outbox = new Map<string, Manifest>()
  readonly #differs = new Map<string, number>()
  #cancelPublish: (() => void) | undefined
  #stopBeats: () => Promise<void> = async () => {}
  #syncing = false
  /** Files compared and pulled since start. */
  pulled = 0
  /** True once a member had the same manifests after the start. */
  settled = false
  onList: (json: string) => Promise<void> = async () => {}
  onTombstone: (t: Tombstone) => Promise<void> = async () => {}
  onManifests: (list: Manifest[]) => Promise<void> = async () => {}

  constructor(c: Context, url: () => string) {
    this.#c = c
    this.#url = url
  }

  start(): void {
    void this.beat()
    this.#stopBeats = repeat(this.#c.clock, this.#c.times.beatMs, () => this.beat())
  }

  async close(): Promise<void> {
    this.#cancelPublish?.()
    await this.#stopBeats()
  }

  /** Tells all members of manifests that changed here. */
  publish(list: readonly Manifest[]): void {
    if (this.#c.members.others().length === 0) return
    for (const m of list) {
      if (this.#outbox.size >= OUTBOX) break // what does not fit is found by comparison
      this.#outbox.set(`${toHex(m.root)}/${m.k}/${m.m}/${m.stripe}`, m)
    }
    this.#cancelPublish ??= this.#c.clock.after(PUBLISH_MS, () => {
      this.#cancelPublish = undefined
      void this.#flush()
    })
  }

  async #flush(): Promise<void> {
    const all = [...this.#outbox.values()]
    this.#outbox.clear()
    for (let at = 0; at < all.length; ) {
      const { bytes, count } = encodeManifests(all.slice(at))
      at += count
      await Promise.all(
        this.#c.members.others().map(async m => {
          if (this.#c.members.health(m.id) === 'lost') return
          await ask(this.#c, m.id, OP.manifests, new Uint8Array(0), { body: bytes }).catch(err =>
            this.#c.logger.debug('manifests not delivered', { member: toHex(m.id), error: messageOf(err) })
          )
        })
      )
    }
  }

  /** One heartbeat to everybody. */
  async beat(): Promise<void> {
    const head = encodeBeat({
      version: this.#c.members.list.version,
      digest: this.#c.manifests.digest(),
      url: this.#url()
    })
    await Promise.all(
      this.#c.members.others().map(async m => {
        try {
          const timeoutMs = Math.max(this.#c.times.beatMs, 1_000)
          const answer = await ask(this.#c, m.id, OP.beat, head, { timeoutMs })
          await this.heard(m.id, answer.head)
        } catch {
          // Silence is noticed by the time since it was last heard.
        }
      })
    )
  }

  /** What a member says of itself, in its heartbeat or its answer to ours. */
  async heard(from: Uint8Array, head: Uint8Array): Promise<void> {
    const beat = decodeBeat(head)
    if (beat === undefined) return
    if (beat.url !== '') this.#c.net.address(from, beat.url)
    if (beat.version > this.#c.members.list.version) {
      const { body } = await ask(this.#c, from, OP.list, new Uint8Array(0))
      await this.onList(new TextDecoder().decode(body))
    }
    const key = toHex(from)
    if (equalBytes(beat.digest, this.#c.manifests.digest())) {
      this.#differs.delete(key)
      // Two that have lost everything agree too.
      if (!equalBytes(beat.digest, EMPTY_DIGEST)) this.settled = true
      return
    }
    const times = (this.#differs.get(key) ?? 0) + 1
    this.#differs.set(key, times)
    // A node that has just started may have been away, or have nothing left: every beat counts.
    if ((this.settled && times < PATIENCE_BEATS) || this.#syncing) return
    this.#syncing = true
    void this.compare(from)
      .catch(err => this.#c.logger.debug('comparison broke off', { member: key, error: messageOf(err) }))
      .finally(() => {
        this.#syncing = false
        this.#differs.delete(key)
      })
  }

  /** Pulls from a member what it has and this node lacks. */
  async compare(from: Uint8Array): Promise<void> {
    const c = this.#c
    const { body } = await ask(c, from, OP.buckets, new Uint8Array(0))
    const mine = c.manifests.buckets()
    if (body.length !== mine.length) return
    for (let b = 0; b < 256 && !c.stop.aborted; b++) {
      if (equalBytes(body.subarray(16 * b, 16 * b + 16), mine.subarray(16 * b, 16 * b + 16))) continue
      let after: BucketEntry | undefined
      do {
        const head = after === undefined ? Uint8Array.of(b) : encodeStripeName(after.root, after, 0)
        const answer = await ask(c, from, OP.bucket, head)
        for (const item of decodeList(answer.head) ?? []) {
          const stone = decodeTombstone(item)
          if (stone !== undefined) await this.onTombstone(stone)
        }
        const theirs = decodeEntries(answer.body)
        const ours = new Map((await c.manifests.bucket(b, 1e9)).map(e => [nameOf(e), e.sum]))
        for (const e of theirs) {
          const known = ours.get(nameOf(e))
          if (known === undefined || !equalBytes(known, e.sum)) await this.#pull(from, e)
        }
        after = theirs.length < BUCKET_PAGE ? undefined : theirs.at(-1)
      } while (after !== undefined)
    }
  }

  async #pull(from: Uint8Array, e: BucketEntry): Promise<void> {
    this.pulled++
    for (let stripe = 0; ; ) {
      const { body } = await ask(this.#c, from, OP.family, encodeStripeName(e.root, e, stripe))
      const list = decodeManifests(body)
      if (list.length === 0) return
      await this.onManifests(list)
      stripe = list.at(-1)!.stripe + 1
    }
  }
}

function nameOf(e: BucketEntry): string {
  return `${toHex(e.root)}/${e.k}/${e.m}`
}
