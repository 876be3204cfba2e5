/**
 * Which blobs were posted: `DataUpload` events of final blocks, read when somebody asks and not before, so that an idle signer
 * costs the chain nothing. Kept in memory for the epochs in which a signature may still be asked for.
 */

import { toHex } from '../../../lib/base/hex.ts'
import type { BlobId, Upload } from '../../../lib/clients/da/abi.ts'
import type { Clock } from '../../../lib/ports/clock.ts'

/** What it needs of the chain. */
export interface PostingChain {
  finalized(): Promise<number>
  params(): Promise<{ epochBlocks: number }>
  uploads(fromBlock: number, toBlock: number): AsyncIterable<Upload[]>
}

/** Postings that are remembered; the oldest are forgotten first. */
const POSTINGS = 200_000
/** A disperser's node may be a moment ahead of ours: an unknown posting is looked for this long. */
const WAIT_MS = 1_000
const LOOK_MS = 100

export class Postings {
  readonly #chain: PostingChain
  readonly #clock: Clock
  readonly #epochs: number
  readonly #known = new Set<string>()
  /** Last block read. */
  #read: number | undefined
  #refreshing: Promise<void> | undefined

  /** @param epochs - how many epochs back a posting still counts. */
  constructor(chain: PostingChain, clock: Clock, epochs: number) {
    this.#chain = chain
    this.#clock = clock
    this.#epochs = epochs
  }

  get count(): number {
    return this.#known.size
  }

  /** True when a final block has the posting; waits a moment for it. */
  async has(id: BlobId): Promise<boolean> {
    const key = keyOf(id)
    const until = this.#clock.monotonic() + WAIT_MS
    while (!this.#known.has(key)) {
      await this.#refresh()
      if (this.#known.has(key)) return true
      if (this.#clock.monotonic() >= until) return false
      await this.#clock.sleep(LOOK_MS)
    }
    return true
  }

  /** One look at the chain serves all who ask meanwhile. */
  #refresh(): Promise<void> {
    this.#refreshing ??= this.#readOn().finally(() => {
      this.#refreshing = undefined
    })
    return this.#refreshing
  }

  async #readOn(): Promise<void> {
    const head = await this.#chain.finalized()
    if (this.#read !== undefined && head < this.#read) {
      // A development chain went back in time: what was posted on the blocks that are gone was not.
      this.#known.clear()
      this.#read = undefined
    }
    if (this.#read === undefined) {
      const { epochBlocks } = await this.#chain.params()
      this.#read = Math.max(-1, head - (this.#epochs + 1) * epochBlocks - 1)
    }
    if (head === this.#read) return
    for await (const page of this.#chain.uploads(this.#read + 1, head)) for (const u of page) this.#add(keyOf(u))
    this.#read = head
  }

  #add(key: string): void {
    this.#known.add(key)
    if (this.#known.size > POSTINGS) this.#known.delete(this.#known.values().next().value!)
  }
}

function keyOf(id: BlobId): string {
  return `${id.epoch}/${id.quorumId}/${toHex(id.root)}`
}
