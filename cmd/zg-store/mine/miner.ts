/**
 * The miner: follows what the node holds, keeps sealed copies of it, and in each window of the mine contract tries numbers until one
 * reaches the target, hands that in, and is done with the task. One task is answered once, over restarts too, so that others have
 * their share.
 */
import { randomBytes } from 'node:crypto'
import { bytesToBig, concat, equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { hashFromHex, toHex } from '../../../lib/base/hex.ts'
import type { Account } from '../../../lib/clients/accounts.ts'
import { pause } from '../../../lib/clients/chain.ts'
import type { StoreNode } from '../../../lib/clients/store.ts'
import { type Answer, provesData, type SealedRange, type Work } from '../../../lib/codec/storage/mine.ts'
import {
  type MineRange,
  nonceAt,
  rangeDigest,
  rangeOf,
  rangeTarget,
  recallSegment,
  SEAL_BYTES,
  SEAL_SECTORS,
  SEGMENT_SEALS,
  sealMask
} from '../../../lib/codec/storage/pora.ts'
import { poraKernels } from '../../../lib/codec/storage/pora-kernels.ts'
import { SEGMENT_BYTES, SEGMENT_SECTORS } from '../../../lib/codec/storage/shape.ts'
import type { SealCache } from './cache.ts'
import type { Accepted, MineContract } from './contract.ts'
import type { Holdings } from './holdings.ts'
import type { Pace } from './pace.ts'

/** Numbers that are tried at a time: 8 MiB of segments in memory. */
const BATCH_TRIES = 32
/** How often the contract is asked what there is to do, and the node what it holds. */
const WORK_POLL_MS = 1_000
const HOLDINGS_POLL_MS = 5_000
/** After a failure of chain or node. */
const RETRY_MS = 3_000
/** Segments that are sealed before work is looked at again. */
const SEAL_BURST = 64
/** Siblings of a proof: a flow has at most 2^64 sectors. */
const PROOF_MAX = 64

export interface MinerOptions {
  contract: MineContract
  node: StoreNode
  holdings: Holdings
  cache: SealCache
  minerId: Uint8Array
  account: Account
  pace: Pace
  /** Where the last answered task is remembered; written before an answer is sent. */
  answered: { load: () => Promise<Uint8Array | undefined>; save: (subtaskDigest: Uint8Array) => Promise<void> }
  signal: AbortSignal
  on: {
    accepted: (answer: Answer, epoch: bigint, result: Accepted) => void
    refused: (answer: Answer, epoch: bigint, reason: string) => void
    sealed: (segments: number, held: number) => void
    problem: (text: string) => void
  }
}

export class Miner {
  readonly #o: MinerOptions
  readonly #kernels = poraKernels()
  /** Ranges of the flow by epoch, in order. */
  readonly #ranges: SealedRange[] = []
  readonly #nonceStart = randomBytes(32)
  readonly #buffers = Array.from({ length: BATCH_TRIES }, () => new Uint8Array(SEGMENT_BYTES))
  #tried = 0n
  #answered: Uint8Array | undefined
  #holdingsAt = Number.NEGATIVE_INFINITY

  constructor(options: MinerOptions) {
    this.#o = options
  }

  /** Numbers tried so far. */
  get tried(): bigint {
    return this.#tried
  }

  /** Works until the signal fires; failures of chain and node are reported and waited out. */
  async run(): Promise<void> {
    const { signal } = this.#o
    this.#answered = await this.#o.answered.load()
    while (!signal.aborted) {
      try {
        await this.#round()
      } catch (err) {
        if (signal.aborted) break
        this.#o.on.problem(messageOf(err))
        await pause(RETRY_MS, signal).catch(() => {})
      }
    }
  }

  /** What there is to do now, once. */
  async #round(): Promise<void> {
    const { signal, contract, minerId } = this.#o
    const started = performance.now()
    if (started - this.#holdingsAt >= HOLDINGS_POLL_MS) {
      await this.#o.holdings.refresh(signal)
      this.#holdingsAt = started
    }
    const work = await contract.work(minerId)
    const sealedAll = await this.#seal(work)
    const { shardId, numShard } = this.#o.holdings.shard
    const range = rangeOf(work.flowSectors, 0n, BigInt(shardId), BigInt(numShard))
    const open = work.poraTarget > 0n && work.subtaskDigest.some(b => b !== 0)
    const done = this.#answered !== undefined && equalBytes(this.#answered, work.subtaskDigest)
    if (!open || done || range === undefined || BigInt(numShard) > work.maxShards || this.#o.cache.count === 0) {
      if (sealedAll) await pause(WORK_POLL_MS, signal)
      return
    }
    while (performance.now() - started < WORK_POLL_MS) {
      const answer = await this.#try(work, range)
      if (answer !== undefined) return this.#answer(answer, work)
    }
  }

  /**
   * Seals what is held and not sealed yet, over which an epoch has closed.
   * @returns true when nothing is left to do.
   */
  async #seal(work: Work): Promise<boolean> {
    const { holdings, cache, signal, pace } = this.#o
    let burst = 0
    for (const segment of holdings.segments()) {
      const missing = closedSeals(holdings.held(segment), segment, work.flowSectors) & ~cache.held(segment)
      if (missing === 0n) continue
      if (burst++ === SEAL_BURST) return false
      await this.#sealSegment(segment, missing)
      await pace.rest(signal)
    }
    if (burst > 0) this.#o.on.sealed(cache.count, holdings.count)
    return true
  }

  async #sealSegment(segment: number, missing: bigint): Promise<void> {
    const { holdings, cache, minerId, signal } = this.#o
    const raw = await holdings.read(segment, signal)
    if (raw === undefined) return
    const old = await cache.load(segment)
    const data = old === undefined ? new Uint8Array(SEGMENT_BYTES) : Uint8Array.from(old.data)
    const digests = old?.digests ?? new Uint8Array(SEGMENT_SEALS * 32)
    let held = old?.held ?? 0n
    const seals: number[] = []
    const masks: Uint8Array[] = []
    for (let i = 0; i < SEGMENT_SEALS; i++) {
      if (((missing >> BigInt(i)) & 1n) === 0n) continue
      const position = BigInt(segment * SEGMENT_SECTORS + i * SEAL_SECTORS)
      const range = await this.#rangeAt(position + BigInt(SEAL_SECTORS - 1))
      if (range === undefined) continue
      seals.push(i)
      masks.push(sealMask(minerId, range.digest, position))
      digests.set(range.digest, 32 * i)
    }
    if (seals.length === 0) return
    const parts = seals.map(i => raw.subarray(i * SEAL_BYTES, (i + 1) * SEAL_BYTES))
    const sealed = await this.#kernels.seal(concat(...masks), concat(...parts))
    for (const [n, i] of seals.entries()) {
      data.set(sealed.subarray(n * SEAL_BYTES, (n + 1) * SEAL_BYTES), i * SEAL_BYTES)
      held |= 1n << BigInt(i)
    }
    await cache.store(segment, { held, digests, data })
  }

  /** The closed range that holds a sector; asked of the chain once for each range. */
  async #rangeAt(sector: bigint): Promise<SealedRange | undefined> {
    let low = 0
    let high = this.#ranges.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#ranges[middle]!.end <= sector) low = middle + 1
      else high = middle
    }
    const known = this.#ranges[low]
    if (known !== undefined && known.start <= sector) return known
    const found = await this.#o.contract.rangeAt(sector, this.#o.account)
    if (found !== undefined) this.#ranges.splice(low, 0, found)
    return found
  }

  /** One batch of numbers. */
  async #try(work: Work, range: MineRange): Promise<Answer | undefined> {
    const { cache, minerId, pace, signal } = this.#o
    const nonces = Array.from({ length: BATCH_TRIES }, (_, i) => nonceAt(this.#nonceStart, this.#tried + BigInt(i)))
    this.#tried += BigInt(BATCH_TRIES)
    const pads = await this.#kernels.pads(minerId, concat(...nonces), work.subtaskDigest, rangeDigest(range))
    const found = await Promise.all(
      nonces.map(async (_, index) => {
        const at = recallSegment(range, pads.recalls.subarray(32 * index, 32 * index + 32))
        if (at === undefined) return undefined
        const segment = Number(at) / SEGMENT_SECTORS
        const held = closedSeals(cache.held(segment), segment, work.flowSectors)
        const sealed = this.#buffers[index]!
        return held !== 0n && (await cache.readInto(segment, sealed)) ? { index, held, sealed, segment } : undefined
      })
    )
    const reads = found.filter(r => r !== undefined)
    const best = await this.#kernels.best(pads, reads)
    const target = rangeTarget(range, work.poraTarget, work.flowSectors)
    await pace.rest(signal)
    for (const [i, b] of best.entries()) {
      if (b.seal === undefined || bytesToBig(b.quality) > target) continue
      const answer = await this.#answerOf(work, range, nonces[reads[i]!.index]!, reads[i]!.segment, b.seal)
      if (answer !== undefined) return answer
    }
    return undefined
  }

  /** Completes a hit with its proof; undefined when the copy turns out to be of no use, and then it is gone. */
  async #answerOf(
    work: Work,
    range: MineRange,
    nonce: Uint8Array,
    segment: number,
    sealOffset: number
  ): Promise<Answer | undefined> {
    const { cache, minerId, node, signal } = this.#o
    const copy = await cache.load(segment)
    if (copy === undefined) return undefined
    const recallPosition = BigInt(segment * SEGMENT_SECTORS + sealOffset * SEAL_SECTORS)
    const params = [Number(recallPosition), toHex(work.flowRoot)]
    const proof = (await node.call('zgs_getSectorProof', params, { signal })) as { lemma?: unknown }
    const lemma = Array.isArray(proof?.lemma) && proof.lemma.length <= PROOF_MAX + 2 ? proof.lemma : []
    const answer: Answer = {
      contextDigest: work.contextDigest,
      nonce,
      minerId,
      range,
      recallPosition,
      sealOffset,
      sealedContextDigest: copy.digests.slice(32 * sealOffset, 32 * sealOffset + 32),
      sealed: copy.data.slice(sealOffset * SEAL_BYTES, (sealOffset + 1) * SEAL_BYTES),
      // The lowest four siblings lie within the seal, the last entry is the root.
      proof: lemma.slice(5, -1).map(h => hashFromHex(h))
    }
    const proves = provesData(answer, work.flowRoot)
    if (proves && (await this.#o.contract.isClosed(answer.sealedContextDigest))) return answer
    await cache.drop(segment)
    // A development chain that went back has other contexts.
    this.#ranges.length = 0
    const why = proves ? 'belongs to a context that the chain does not know' : "does not prove the node's data"
    this.#o.on.problem(`the sealed copy of flow segment ${segment} ${why}, it is made again`)
    return undefined
  }

  async #answer(answer: Answer, work: Work): Promise<void> {
    const { contract, account, on, answered } = this.#o
    this.#answered = work.subtaskDigest
    await answered.save(work.subtaskDigest)
    try {
      on.accepted(answer, work.epoch, await contract.submit(account, answer))
    } catch (err) {
      // The window may have closed, or others were faster; anything else is not a matter of this task.
      if (!(err instanceof ZgError && err.code === 'ERR_REJECTED')) throw err
      on.refused(answer, work.epoch, err.message)
    }
  }
}

/** Of some seals of a segment those that lie wholly within a flow of so many sectors. */
function closedSeals(seals: bigint, segment: number, flowSectors: bigint): bigint {
  const room = (flowSectors - BigInt(segment * SEGMENT_SECTORS)) / BigInt(SEAL_SECTORS)
  if (room <= 0n) return 0n
  return room >= BigInt(SEGMENT_SEALS) ? seals : seals & ((1n << room) - 1n)
}
