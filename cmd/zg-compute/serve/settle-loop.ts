/**
 * When to settle without being told (compute.md 3.5): a user's debt passes a share of his balance, he asks for his money back, or his
 * oldest request is too old. Also takes up what a crash left open. One settlement at a time; trouble is tried again later.
 */
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { AccountRecord } from '../../../lib/codec/compute/abi.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { FeeBook } from '../ledger/fee-book.ts'
import type { Settler } from '../ledger/settler.ts'

/** Between looks at ages and at what was left open. */
const LOOK_MS = 10_000
/** After a failure. */
const RETRY_MS = 10_000

export interface SettleLoopOptions {
  book: FeeBook
  settler: Settler
  account: (user: Uint8Array) => Promise<AccountRecord | undefined>
  clock: Clock
  logger: Logger
  /** A request older than this is settled. */
  afterMs: number
  /** Percent of a balance that may be owed before it is settled. */
  sharePercent: number
}

export class SettleLoop {
  readonly #o: SettleLoopOptions
  readonly #due = new Map<string, Uint8Array>()
  #notBeforeMs = 0
  #running: Promise<void> | undefined
  #stopped = false
  #cancel: () => void = () => {}

  constructor(o: SettleLoopOptions) {
    this.#o = o
    this.#arm()
  }

  /** A fee was recorded. */
  onDebt(user: Uint8Array): void {
    void this.#o.account(user).then(
      account => {
        const balance = account?.balance ?? 0n
        if (this.#o.book.unsettled(user) * 100n > balance * BigInt(this.#o.sharePercent)) this.#want(user)
      },
      () => {}
    )
  }

  /** A user asked for his money: it may be gone after the lock time. */
  onRefund(user: Uint8Array): void {
    if (this.#o.book.unsettled(user) > 0n) this.#want(user)
  }

  /** No further settlement is begun; waits for one under way. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancel()
    await this.#running
  }

  #arm(): void {
    this.#cancel = this.#o.clock.after(LOOK_MS, () => {
      if (this.#stopped) return
      this.#arm()
      const limit = this.#o.clock.now() - this.#o.afterMs
      for (const d of this.#o.book.debts())
        if (d.oldestMs <= limit && d.unsettled > d.settling) this.#due.set(toHex(d.user), d.user)
      this.#pump()
    })
  }

  #want(user: Uint8Array): void {
    if (this.#o.settler.held(user) !== undefined) return
    this.#due.set(toHex(user), user)
    this.#pump()
  }

  #pump(): void {
    const { book, settler, clock, logger } = this.#o
    if (this.#stopped || this.#running !== undefined || clock.monotonic() < this.#notBeforeMs) return
    if (this.#due.size === 0 && book.intents().length === 0) return
    const users = [...this.#due.values()]
    this.#due.clear()
    this.#running = settler
      .settle(users)
      .then(
        () => undefined,
        err => {
          if (!(err instanceof ZgError)) throw err
          this.#notBeforeMs = clock.monotonic() + RETRY_MS
          for (const u of users) this.#due.set(toHex(u), u)
          logger.warn('settlement failed, tried again later', { error: messageOf(err) })
        }
      )
      .finally(() => {
        this.#running = undefined
        this.#pump()
      })
  }
}
