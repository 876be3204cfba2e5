/**
 * Turns recorded fees into money on chain, each request once (compute.md 3.5).
 *
 * Order of one batch: choose whole requests that the balance covers → sign the vouchers → sign the transaction → journal the intent →
 * send → read the outcome → journal the results. A crash between any two steps leaves an intent whose transaction is known byte for
 * byte. {@link Settler.reconcile} finishes it before anything new is signed: it looks for the receipt; while the nonce is unused it sends
 * the same bytes again (or, when their fee no longer does, the same call under the same nonce); and when the nonce was used by
 * something else it asks the contract's events. One nonce runs once, so no request can be paid twice.
 */
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { type AccountRecord, encodeSettlements, type SettlementEntry } from '../../../lib/codec/compute/abi.ts'
import {
  MAX_SETTLEMENTS,
  requestsHash,
  type SettlementDomain,
  signSettlement
} from '../../../lib/codec/compute/settlement.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Random } from '../../../lib/ports/random.ts'
import { callOf } from './call-of.ts'
import { type FeeBook, feeOf } from './fee-book.ts'
import { type EntryResult, type FeeRecord, type Intent, type SignedTransaction, uuidText } from './records.ts'

/** Requests of one batch, all users together: keeps the journal's record small. */
export const BATCH_REQUESTS_MAX = 10_000
/** How long one transaction is waited for before its fee is raised. */
const RECEIPT_MS = 60_000
/** Attempts for one settlement before it is left for the next round. */
const SENDS_MAX = 3
/** A user whose vouchers were refused is left alone for so long. */
const HOLD_MS = 3_600_000

/** The chain as settlement needs it. */
export interface SettlementChain {
  readonly provider: Uint8Array
  domain(): SettlementDomain
  blockNumber(): Promise<number>
  /** Straight from the chain; undefined: there is none. */
  account(user: Uint8Array): Promise<AccountRecord | undefined>
  /** True when the contract's owner has acknowledged the service's signer. */
  acknowledged(): Promise<boolean>
  /**
   * Signs a call of the serving contract; sends nothing.
   * @param replace - under this nonce, with more fee than before.
   */
  sign(data: Uint8Array, replace?: { nonce: bigint }): Promise<SignedTransaction & { nonce: bigint }>
  /** Hands a transaction to the node; one that it knows already is fine. */
  send(raw: Uint8Array): Promise<void>
  /** True when a transaction of the provider with this nonce is in a block. */
  nonceUsed(nonce: bigint): Promise<boolean>
  /** The outcome of a transaction by its receipt, entry by entry; undefined: in no block. */
  outcome(hash: Uint8Array, entries: number): Promise<Outcome | undefined>
  /** Waits for it. @throws {ZgError} ERR_TIMEOUT. */
  wait(hash: Uint8Array, timeoutMs: number): Promise<void>
  /** The outcome of one voucher by the contract's events from a block on; undefined: it was never taken. */
  find(entry: { user: Uint8Array; nonce: bigint }, fromBlock: number): Promise<VoucherOutcome | undefined>
}

export interface VoucherOutcome {
  status: Exclude<EntryResult['status'], 'RELEASED'>
  /** Neuron left unpaid. */
  unsettled: bigint
}

export interface Outcome {
  blockNumber: number
  /** False: reverted, nothing happened. */
  ok: boolean
  results: VoucherOutcome[]
}

export interface SettledUser {
  user: Uint8Array
  status: EntryResult['status']
  requests: number
  paid: bigint
  /** What was asked for and not paid. */
  unpaid: bigint
  number: number
  txHash: Uint8Array
  /** Absent when it was found by events. */
  blockNumber?: number
}

export interface SkippedUser {
  user: Uint8Array
  unsettled: bigint
  reason: string
}

export interface SettleReport {
  settled: SettledUser[]
  skipped: SkippedUser[]
}

export interface SettlerOptions {
  book: FeeBook
  chain: SettlementChain
  /** Key of the service's `teeSignerAddress`. */
  signerKey: Uint8Array
  clock: Clock
  random: Random
  logger: Logger
  /** After money moved, before the book says so: accounts read from the chain anew. */
  onMoved?: (users: Uint8Array[]) => Promise<void>
}

export class Settler {
  readonly #o: SettlerOptions
  readonly #held = new Map<string, { reason: string; untilMs: number; balance: bigint }>()
  #last: Promise<unknown> = Promise.resolve()

  constructor(o: SettlerOptions) {
    this.#o = o
  }

  /**
   * Settles what these users owe (all when absent), first finishing what was begun. Calls queue up behind each other.
   * @param opts.force - also users that are held back after a refusal.
   * @throws {ZgError} what the chain or the disk says; everything journalled stays so.
   */
  settle(users?: readonly Uint8Array[], opts: { force?: boolean } = {}): Promise<SettleReport> {
    return this.#serial(async () => {
      const report: SettleReport = { settled: [], skipped: [] }
      await this.#reconcile(report)
      if (opts.force === true) this.#held.clear()
      const wanted = users === undefined ? undefined : new Set(users.map(toHex))
      const debts = [...this.#o.book.debts()].filter(d => wanted === undefined || wanted.has(toHex(d.user)))
      if (debts.length === 0) return report
      if (!(await this.#o.chain.acknowledged())) {
        for (const d of debts)
          report.skipped.push({ user: d.user, unsettled: d.unsettled, reason: 'service not acknowledged' })
        return report
      }
      const batches = await this.#plan(
        debts.map(d => d.user),
        report
      )
      for (const batch of batches) await this.#send(batch, report)
      return report
    })
  }

  /** Finishes settlements that a crash or a silent chain left open. */
  reconcile(): Promise<SettleReport> {
    return this.#serial(async () => {
      const report: SettleReport = { settled: [], skipped: [] }
      await this.#reconcile(report)
      return report
    })
  }

  /** Why a user is not settled now. */
  held(user: Uint8Array): string | undefined {
    const hold = this.#held.get(toHex(user))
    return hold !== undefined && hold.untilMs > this.#o.clock.monotonic() ? hold.reason : undefined
  }

  #serial<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#last.then(work)
    this.#last = run.catch(() => {})
    return run
  }

  async #plan(users: Uint8Array[], report: SettleReport): Promise<Planned[][]> {
    const { book, chain } = this.#o
    const batches: Planned[][] = []
    let batch: Planned[] = []
    let room = BATCH_REQUESTS_MAX
    for (const user of users) {
      const billable = book.billable(user)
      if (billable.length === 0) continue
      const account = await chain.account(user)
      const skip = (reason: string): void => {
        report.skipped.push({ user, unsettled: book.unsettled(user), reason })
      }
      if (account === undefined) {
        skip('account does not exist')
        continue
      }
      const hold = this.#held.get(toHex(user))
      if (hold !== undefined && hold.untilMs > this.#o.clock.monotonic() && account.balance <= hold.balance) {
        skip(hold.reason)
        continue
      }
      this.#held.delete(toHex(user))
      if (!account.acknowledged) {
        skip('account has not acknowledged the signer')
        continue
      }
      if (account.balance === 0n) {
        skip('balance is 0')
        continue
      }
      if (batch.length === MAX_SETTLEMENTS || room === 0) {
        batches.push(batch)
        batch = []
        room = BATCH_REQUESTS_MAX
      }
      const chosen = fit(billable, account.balance, room)
      room -= chosen.length
      batch.push({ account, requests: chosen })
    }
    if (batch.length > 0) batches.push(batch)
    return batches
  }

  async #send(batch: Planned[], report: SettleReport): Promise<void> {
    const { book, chain, clock, signerKey } = this.#o
    const entries: SettlementEntry[] = batch.map(({ account, requests }, k) => {
      const now = BigInt(Math.floor(clock.now() / 1000)) * 10n ** 7n + BigInt(k)
      const message = {
        user: account.user,
        provider: chain.provider,
        totalFee: requests.reduce((sum, r) => sum + feeOf(r), 0n),
        requestsHash: requestsHash(
          account.user,
          requests.map(r => ({ id: r.id, fee: feeOf(r), inputFee: r.inputFee, outputFee: r.outputFee }))
        ),
        // Two settlements of one second would collide on the time alone.
        nonce: now > account.nonce ? now : account.nonce + 1n
      }
      return { ...message, signature: signSettlement(chain.domain(), message, signerKey) }
    })
    const fromBlock = await chain.blockNumber()
    const { nonce, hash, raw } = await chain.sign(encodeSettlements(entries))
    const intent: Intent = {
      number: book.nextNumber,
      txNonce: nonce,
      fromBlock,
      transaction: { hash, raw },
      entries: entries.map((e, i) => ({
        user: e.user,
        nonce: e.nonce,
        totalFee: e.totalFee,
        requestsHash: e.requestsHash,
        ids: batch[i]!.requests.map(r => r.id)
      }))
    }
    await book.begin(intent)
    await this.#drive(intent, encodeSettlements(entries), report)
  }

  async #reconcile(report: SettleReport): Promise<void> {
    for (const intent of this.#o.book.intents()) await this.#drive(intent, undefined, report)
  }

  /** Takes an intent to its end. @param data - the call, when it is at hand. */
  async #drive(intent: Intent, data: Uint8Array | undefined, report: SettleReport): Promise<void> {
    const { chain, logger } = this.#o
    let current = intent
    let failure: unknown
    for (let attempt = 0; attempt < SENDS_MAX; attempt++) {
      const outcome = await chain.outcome(current.transaction.hash, current.entries.length)
      if (outcome !== undefined) return this.#finish(current, outcome, report)
      if (await chain.nonceUsed(current.txNonce)) {
        // Between the two questions above the transaction may have come into a block.
        const late = await chain.outcome(current.transaction.hash, current.entries.length)
        return late === undefined ? this.#search(current, report) : this.#finish(current, late, report)
      }
      try {
        if (attempt > 0) current = await this.#raise(current, data)
        await chain.send(current.transaction.raw)
        await chain.wait(current.transaction.hash, RECEIPT_MS)
      } catch (err) {
        if (!(err instanceof ZgError)) throw err
        failure = err
        if (err.code === 'ERR_UNAVAILABLE' || err.code === 'ERR_STOPPED' || err.code === 'ERR_FUNDS') break
        logger.warn('a settlement was not taken yet', { number: current.number, error: messageOf(err) })
      }
    }
    const outcome = await chain.outcome(current.transaction.hash, current.entries.length).catch(() => undefined)
    if (outcome !== undefined) return this.#finish(current, outcome, report)
    throw failure
  }

  /** The same call under the same nonce with more fee; journalled before it can be sent. */
  async #raise(intent: Intent, data: Uint8Array | undefined): Promise<Intent> {
    const { book, chain } = this.#o
    const call = data ?? callOf(intent.transaction.raw)
    const { hash, raw } = await chain.sign(call, { nonce: intent.txNonce })
    await book.resent(intent.number, { hash, raw })
    return { ...intent, transaction: { hash, raw } }
  }

  /** The nonce went to another transaction: what did the contract see? */
  async #search(intent: Intent, report: SettleReport): Promise<void> {
    const { chain } = this.#o
    const found = await Promise.all(intent.entries.map(e => chain.find(e, intent.fromBlock)))
    const results = intent.entries.map(
      (e, i): EntryResult => (found[i] === undefined ? { status: 'RELEASED', paid: 0n } : this.#result(e, found[i]))
    )
    await this.#record(intent, results, undefined, report)
  }

  async #finish(intent: Intent, outcome: Outcome, report: SettleReport): Promise<void> {
    const results = intent.entries.map(
      (e, i): EntryResult => (outcome.ok ? this.#result(e, outcome.results[i]!) : { status: 'RELEASED', paid: 0n })
    )
    if (!outcome.ok) this.#o.logger.error('a settlement reverted', { number: intent.number })
    await this.#record(intent, results, outcome.blockNumber, report)
  }

  #result(entry: { totalFee: bigint }, found: VoucherOutcome): EntryResult {
    const { status } = found
    if (status === 'SUCCESS') return { status, paid: entry.totalFee }
    if (status !== 'PARTIAL') return { status, paid: 0n }
    const paid = entry.totalFee - found.unsettled
    return found.unsettled > 0n ? { status, paid, restId: newId(this.#o.random) } : { status, paid }
  }

  async #record(
    intent: Intent,
    results: EntryResult[],
    blockNumber: number | undefined,
    report: SettleReport
  ): Promise<void> {
    const { book, clock, logger } = this.#o
    // Balances first: a user must never look richer than he is.
    await this.#o.onMoved?.(intent.entries.map(e => e.user))
    await book.finish(intent.number, results)
    intent.entries.forEach((e, i) => {
      const { status, paid } = results[i]!
      report.settled.push({
        user: e.user,
        status,
        requests: e.ids.length,
        paid,
        unpaid: e.totalFee - paid,
        number: intent.number,
        txHash: intent.transaction.hash,
        ...(blockNumber === undefined ? {} : { blockNumber })
      })
      if (status !== 'SUCCESS' && status !== 'RELEASED' && status !== 'INVALID_NONCE') {
        const reason = HOLD_WORDS[status]
        // More money than now lifts it.
        this.#held.set(toHex(e.user), { reason, untilMs: clock.monotonic() + HOLD_MS, balance: 0n })
        logger.warn('a user could not be settled in full', { user: toHex(e.user), status })
      }
    })
    const paid = results.reduce((sum, r) => sum + r.paid, 0n)
    logger.info('settled', { number: intent.number, users: results.length, paid_neuron: paid })
  }
}

const HOLD_WORDS = {
  PARTIAL: 'balance was too small',
  PROVIDER_MISMATCH: 'the contract knows no such service',
  NO_TEE_SIGNER: 'signer not acknowledged',
  INVALID_SIGNATURE: 'the contract refused the signature'
} as const

interface Planned {
  account: AccountRecord
  requests: FeeRecord[]
}

/** Whole requests that a balance covers, oldest first; when not even one fits, the oldest, which is then paid in part. */
export function fit(billable: readonly FeeRecord[], balance: bigint, max: number): FeeRecord[] {
  const chosen: FeeRecord[] = []
  let left = balance
  for (const r of billable) {
    if (chosen.length === max) break
    if (feeOf(r) > left) continue
    left -= feeOf(r)
    chosen.push(r)
  }
  return chosen.length > 0 ? chosen : billable.slice(0, 1)
}

/** A random uuid (version 4) from the port. */
export function newId(random: Random): string {
  const b = random.bytes(16)
  b[6] = (b[6]! & 0x0f) | 0x40
  b[8] = (b[8]! & 0x3f) | 0x80
  return uuidText(b)
}
