/**
 * The engine's pool as the RPC sees it. Admission is the engine's (chain.md 9.6): order of checks, replacement, bounds, journal. Here calls
 * that arrive together are handed over together, so that they share recovery on all cores and one sync of the journal.
 */
import { encodeRlp } from '../../../lib/codec/rlp.ts'
import type { NativeChain } from '../../../lib/evm/types.ts'
import { type Pool, PoolRefusal } from './api.ts'
import { asking } from './failure.ts'
import { decodePoolContent, decodePooled } from './records.ts'
import { isImpersonated } from './transaction.ts'
import type { Transaction } from './types.ts'

export interface PoolLimits {
  /** Transactions, pending and queued. */
  count: number
  /** Their raw bytes together. */
  bytes: number
  /** Queued transactions a sender. */
  queuedPerSender: number
}

export const POOL_LIMITS: PoolLimits = { count: 32_768, bytes: 128 * 1024 * 1024, queuedPerSender: 64 }

/** Raw transactions of one hand-over. */
const BATCH = 2_048
/** Hand-overs under way: one is synced while the next is recovered. */
const IN_FLIGHT = 2

interface Waiting {
  raw: Uint8Array
  resolve(hash: Uint8Array): void
  reject(err: unknown): void
}

export class NativePool implements Pool {
  readonly #native: NativeChain
  readonly #changed: () => void
  readonly #failed: (err: unknown) => void
  #waiting: Waiting[] = []
  #scheduled = false
  #inFlight = 0

  /** @param on.changed - something may have become executable. */
  constructor(native: NativeChain, on: { changed(): void; failed(err: unknown): void }) {
    this.#native = native
    this.#changed = on.changed
    this.#failed = on.failed
  }

  add(raw: Uint8Array): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ raw, resolve, reject })
      this.#schedule()
    })
  }

  async addImpersonated(tx: Parameters<NonNullable<Pool['addImpersonated']>>[0]): Promise<Uint8Array> {
    const fields = encodeRlp([
      tx.type,
      tx.from,
      tx.nonce,
      tx.gasLimit,
      tx.to,
      tx.value,
      tx.data,
      tx.maxFeePerGas ?? tx.gasPrice ?? 0n,
      tx.maxPriorityFeePerGas ?? tx.gasPrice ?? 0n,
      (tx.accessList ?? []).map(e => [e.address, e.storageKeys]),
      (tx.authorizationList ?? []).map(a => [a.chainId, a.address, a.nonce, a.yParity, a.r, a.s])
    ])
    const answer = await this.#guarded(this.#native.submitUnsigned(fields))
    this.#changed()
    if (typeof answer === 'string') throw new PoolRefusal(answer)
    return answer
  }

  /** Takes back what a snapshot held; what is no longer valid is dropped. */
  async restore(transactions: readonly Transaction[]): Promise<void> {
    const signed = transactions.filter(tx => !isImpersonated(tx))
    await this.#guarded(this.#native.submit(signed.map(tx => tx.raw)))
    for (const tx of transactions) {
      if (!isImpersonated(tx)) continue
      await this.addImpersonated(tx).catch(err => {
        if (!(err instanceof PoolRefusal)) throw err
      })
    }
  }

  get(hash: Uint8Array): Transaction | undefined {
    const raw = this.#native.pooled(hash)
    return raw === undefined ? undefined : decodePooled(raw)
  }

  async pendingNonce(address: Uint8Array): Promise<bigint> {
    return this.#native.pendingNonce(address)
  }

  pendingNonceNow(address: Uint8Array): bigint {
    return this.#native.pendingNonce(address)
  }

  content(sender?: Uint8Array): { pending: Transaction[]; queued: Transaction[] } {
    return decodePoolContent(this.#native.poolContent(sender))
  }

  counts(): { pending: number; queued: number } {
    const { pending, queued } = this.#native.poolCounts()
    return { pending, queued }
  }

  remove(hash: Uint8Array): boolean {
    return this.#native.poolRemove(hash)
  }

  clear(): void {
    this.#native.poolClear()
  }

  /** Everything in the pool. */
  all(): Transaction[] {
    const { pending, queued } = this.content()
    return [...pending, ...queued]
  }

  /** What became pending since the last time. */
  takeAnnounced(): Uint8Array[] {
    const joined = this.#native.takeAnnounced()
    return Array.from({ length: joined.length / 32 }, (_, i) => joined.subarray(32 * i, 32 * i + 32))
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= IN_FLIGHT) return
    this.#scheduled = true
    // What other connections bring in this turn of the loop comes along.
    setImmediate(() => {
      this.#scheduled = false
      const batch = this.#waiting.slice(0, BATCH)
      this.#waiting = this.#waiting.slice(BATCH)
      void this.#hand(batch)
      if (this.#waiting.length > 0) this.#schedule()
    })
  }

  async #hand(batch: Waiting[]): Promise<void> {
    this.#inFlight++
    try {
      const answers = await this.#guarded(this.#native.submit(batch.map(w => w.raw)))
      this.#changed()
      batch.forEach((w, i) => {
        const answer = answers[i]!
        if (typeof answer === 'string') w.reject(new PoolRefusal(answer))
        else w.resolve(answer)
      })
    } catch (err) {
      for (const w of batch) w.reject(err)
    } finally {
      this.#inFlight--
      if (this.#waiting.length > 0) this.#schedule()
    }
  }

  async #guarded<T>(work: Promise<T>): Promise<T> {
    try {
      return await asking(work)
    } catch (err) {
      this.#failed(err)
      throw err
    }
  }
}
