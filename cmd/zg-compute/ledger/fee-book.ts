/**
 * Who owes what: the fee journal and its sums in memory.
 *
 *     open ──► done ──► in settlement n ──► settled
 *      (stream)  ▲  │        │
 *                │  │        └─ not paid (any status but SUCCESS and PARTIAL) ─► done again
 *                │  └─ written off by the operator
 *                └──── PARTIAL: the entry is settled, what it left unpaid becomes a new record of its own
 *
 * So a request stands in at most one settlement whose vouchers were taken by the contract, and every neuron owed is in exactly one record.
 * A record counts for its user from the moment it is durable. `open` records only matter after a crash: what a stream had delivered by
 * then is owed, so opening the book turns them into done ones.
 */
import { assert, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { Disk } from '../../../lib/ports/disk.ts'
import { type Journal, openJournal } from './journal.ts'
import {
  decodeRecord,
  type EntryResult,
  encodeRecord,
  type FeeRecord,
  type Intent,
  type LedgerRecord,
  type SignedTransaction,
  type Totals
} from './records.ts'

/** Requests that may be unsettled at once, all users together; above it nothing new is served. */
export const UNSETTLED_MAX = 200_000

interface Kept {
  record: FeeRecord
  /** Order of arrival, for equal times. */
  order: number
  settlement: number | undefined
}

interface Debtor {
  user: Uint8Array
  records: Map<string, Kept>
  sum: bigint
}

export interface Debt {
  user: Uint8Array
  /** Everything not settled, what is in settlement included. Neuron. */
  unsettled: bigint
  /** Of that, in a settlement under way. */
  settling: bigint
  count: number
  /** Creation of the oldest record. */
  oldestMs: number
}

export class FeeBook {
  readonly #journal: Journal
  readonly #debtors = new Map<string, Debtor>()
  readonly #byId = new Map<string, Kept>()
  readonly #open = new Map<string, FeeRecord>()
  readonly #intents = new Map<number, Intent>()
  #totals: Totals = { nextNumber: 1, settledCount: 0, settledFee: 0n, writtenOffFee: 0n }
  #order = 0

  private constructor(journal: Journal) {
    this.#journal = journal
  }

  /** Opens the book at a path. @throws {ZgError} ERR_CORRUPT, or as the disk does. */
  static async open(disk: Disk, path: string, opts: { rewriteBytes?: number } = {}): Promise<FeeBook> {
    const { journal, bodies } = await openJournal(disk, path, opts)
    const book = new FeeBook(journal)
    for (const body of bodies) book.#apply(decodeRecord(body))
    const orphans = [...book.#open.values()]
    book.#open.clear()
    for (const record of orphans) await book.#write([{ kind: 'done', record }])
    return book
  }

  /** What a user owes, in neuron. */
  unsettled(user: Uint8Array): bigint {
    return this.#debtors.get(toHex(user))?.sum ?? 0n
  }

  /** All who owe something. */
  *debts(): Generator<Debt> {
    for (const d of this.#debtors.values()) {
      let oldestMs = Number.POSITIVE_INFINITY
      let settling = 0n
      for (const k of d.records.values()) {
        oldestMs = Math.min(oldestMs, k.record.createdMs)
        if (k.settlement !== undefined) settling += feeOf(k.record)
      }
      yield { user: d.user, unsettled: d.sum, settling, count: d.records.size, oldestMs }
    }
  }

  get count(): number {
    return this.#byId.size
  }

  get totals(): Readonly<Totals> {
    return this.#totals
  }

  /** True when no further request may be taken on credit. */
  get full(): boolean {
    return this.#byId.size >= UNSETTLED_MAX
  }

  get trouble(): ZgError | undefined {
    return this.#journal.trouble
  }

  get sizeBytes(): number {
    return this.#journal.sizeBytes
  }

  get syncs(): number {
    return this.#journal.syncs
  }

  /** Notes what a stream has delivered so far. Not awaited by the stream; a failure shows at its end. */
  progress(record: FeeRecord): Promise<void> {
    return this.#write([{ kind: 'open', record }])
  }

  /** The fee of an answer. Durable, and counted, when it resolves: only then may the last byte leave. */
  async done(record: FeeRecord): Promise<void> {
    await this.#write([{ kind: 'done', record }])
    // Not awaited: a rewrite is for the next start, and its failure shows in the next append.
    this.#journal.trim(() => this.#live()).catch(() => {})
  }

  /** Requests of a user that are in no settlement, oldest first. */
  billable(user: Uint8Array): FeeRecord[] {
    const kept = [...(this.#debtors.get(toHex(user))?.records.values() ?? [])].filter(k => k.settlement === undefined)
    kept.sort((a, b) => a.record.createdMs - b.record.createdMs || a.order - b.order)
    return kept.map(k => k.record)
  }

  /** Settlements whose outcome is not known, oldest first. */
  intents(): Intent[] {
    return [...this.#intents.values()]
  }

  get nextNumber(): number {
    return this.#totals.nextNumber
  }

  /** Before anything is sent: these requests are in this settlement. */
  begin(intent: Intent): Promise<void> {
    for (const e of intent.entries) {
      for (const id of e.ids) {
        const kept = this.#byId.get(id)
        assert(kept !== undefined && kept.settlement === undefined, `request ${id} is not free to be settled`)
      }
    }
    return this.#write([{ kind: 'intent', intent }])
  }

  /** Before the same call is sent again with another fee. */
  resent(number: number, transaction: SignedTransaction): Promise<void> {
    return this.#write([{ kind: 'resent', number, transaction }])
  }

  /** The outcome of a settlement, one result an entry. */
  async finish(number: number, results: EntryResult[]): Promise<void> {
    const intent = this.#intents.get(number)
    assert(intent !== undefined, `settlement ${number} is not under way`)
    assert(results.length === intent.entries.length, `settlement ${number} has ${results.length} results`)
    await this.#write([{ kind: 'result', number, results }])
    this.#journal.trim(() => this.#live()).catch(() => {})
  }

  /** Gives up what a user owes and is in no settlement. @returns how much, in neuron. */
  async writeOff(user: Uint8Array): Promise<{ count: number; fee: bigint }> {
    const records = this.billable(user)
    const fee = records.reduce((sum, r) => sum + feeOf(r), 0n)
    for (let i = 0; i < records.length; i += WRITE_OFF_STEP) {
      await this.#write([{ kind: 'written_off', ids: records.slice(i, i + WRITE_OFF_STEP).map(r => r.id) }])
    }
    return { count: records.length, fee }
  }

  /** Tries a write after trouble. @throws {ZgError} when it is still there. */
  probe(): Promise<void> {
    return this.#write([{ kind: 'totals', totals: this.#totals }])
  }

  close(): Promise<void> {
    return this.#journal.close()
  }

  #write(records: LedgerRecord[]): Promise<void> {
    return this.#journal.append(records.map(encodeRecord), () => {
      for (const r of records) this.#apply(r)
    })
  }

  #apply(r: LedgerRecord): void {
    switch (r.kind) {
      case 'open':
        this.#open.set(r.record.id, r.record)
        return
      case 'done':
        this.#open.delete(r.record.id)
        this.#add(r.record)
        return
      case 'intent':
        for (const e of r.intent.entries) for (const id of e.ids) this.#kept(id).settlement = r.intent.number
        this.#intents.set(r.intent.number, r.intent)
        this.#totals = { ...this.#totals, nextNumber: Math.max(this.#totals.nextNumber, r.intent.number + 1) }
        return
      case 'resent': {
        const intent = this.#intents.get(r.number)
        if (intent !== undefined) this.#intents.set(r.number, { ...intent, transaction: r.transaction })
        return
      }
      case 'result':
        this.#settle(r.number, r.results)
        return
      case 'written_off':
        for (const id of r.ids) {
          const fee = this.#remove(id)
          this.#totals = { ...this.#totals, writtenOffFee: this.#totals.writtenOffFee + fee }
        }
        return
      case 'totals':
        this.#totals = r.totals
    }
  }

  #settle(number: number, results: EntryResult[]): void {
    const intent = this.#intents.get(number)
    if (intent === undefined) throw new ZgError('ERR_CORRUPT', `the fee journal has a result without settlement`)
    this.#intents.delete(number)
    intent.entries.forEach((entry, i) => {
      const { status, paid, restId } = results[i]!
      if (status !== 'SUCCESS' && status !== 'PARTIAL') {
        for (const id of entry.ids) this.#kept(id).settlement = undefined
        return
      }
      let oldestMs = Number.POSITIVE_INFINITY
      let owed = 0n
      for (const id of entry.ids) {
        oldestMs = Math.min(oldestMs, this.#kept(id).record.createdMs)
        owed += this.#remove(id)
      }
      this.#totals = {
        ...this.#totals,
        settledCount: this.#totals.settledCount + entry.ids.length,
        settledFee: this.#totals.settledFee + paid
      }
      if (restId !== undefined && owed > paid) {
        const rest = { promptTokens: 0, completionTokens: 0, cachedTokens: 0, inputFee: owed - paid, outputFee: 0n }
        this.#add({ id: restId, user: entry.user, createdMs: oldestMs, ...rest })
      }
    })
  }

  #add(record: FeeRecord): void {
    // An append that was reported as failed may still have reached the disk: the same id again is the same request.
    if (this.#byId.has(record.id)) return
    const key = toHex(record.user)
    let debtor = this.#debtors.get(key)
    if (debtor === undefined) {
      debtor = { user: record.user, records: new Map(), sum: 0n }
      this.#debtors.set(key, debtor)
    }
    const kept: Kept = { record, order: this.#order++, settlement: undefined }
    debtor.records.set(record.id, kept)
    debtor.sum += feeOf(record)
    this.#byId.set(record.id, kept)
  }

  #remove(id: string): bigint {
    const { record } = this.#kept(id)
    const key = toHex(record.user)
    const debtor = this.#debtors.get(key)!
    debtor.records.delete(id)
    debtor.sum -= feeOf(record)
    if (debtor.records.size === 0) this.#debtors.delete(key)
    this.#byId.delete(id)
    return feeOf(record)
  }

  #kept(id: string): Kept {
    const kept = this.#byId.get(id)
    if (kept === undefined) throw new ZgError('ERR_CORRUPT', `the fee journal names request ${id}, which it lacks`)
    return kept
  }

  /** What a rewritten journal must hold. */
  #live(): Uint8Array[] {
    const records: LedgerRecord[] = [{ kind: 'totals', totals: this.#totals }]
    for (const k of this.#byId.values()) records.push({ kind: 'done', record: k.record })
    for (const record of this.#open.values()) records.push({ kind: 'open', record })
    for (const intent of this.#intents.values()) records.push({ kind: 'intent', intent })
    return records.map(encodeRecord)
  }
}

/** Ids of one record. */
const WRITE_OFF_STEP = 10_000

export function feeOf(r: FeeRecord): bigint {
  return r.inputFee + r.outputFee
}
