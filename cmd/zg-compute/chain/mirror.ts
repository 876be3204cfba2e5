/**
 * What the chain says about our users and our service, held here so that a request needs no round trip, and never older than a few
 * seconds while the chain answers: each new head's events of the serving contract name the accounts that changed, and those are read anew.
 *
 * Age is time since the mirror was last known to equal the head. A chain that makes no blocks is asked for its height every second, so
 * silence of the chain is told from an idle chain.
 */
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { HeadWatch } from '../../../lib/clients/head-watch.ts'
import { type AccountRecord, inferenceAbi, type ServiceRecord } from '../../../lib/codec/compute/abi.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import { type ServingChain, servingLogs, topicOf } from './serving.ts'

/** Accounts kept; those used longest ago are forgotten and read again when they come back. */
export const ACCOUNTS_MAX = 10_000
/** How often the height is asked for when no head is pushed. */
const POLL_MS = 1_000
/** How long a pushed head is taken for the newest; below {@link POLL_MS}, so that a silent chain is asked each time. */
const PUSHED_MS = 900
/** More blocks behind than this: reading all accounts anew is cheaper than their events. */
const CATCH_UP_BLOCKS = 5_000

interface Entry {
  /** Undefined: no such account. */
  account: AccountRecord | undefined
  loaded: boolean
  loading: Promise<void> | undefined
  /** Grows with each event: an answer asked for earlier is thrown away. */
  version: number
}

export interface MirrorOptions {
  chain: ServingChain
  clock: Clock
  logger: Logger
  /** A user asked for a refund. */
  onRefund: (user: Uint8Array) => void
  /** The service record was read anew. */
  onService?: (service: ServiceRecord | undefined) => void
}

export class Mirror {
  readonly #o: MirrorOptions
  /** In order of use, oldest first. */
  readonly #accounts = new Map<string, Entry>()
  #service: ServiceRecord | undefined
  #synced: number | undefined
  #freshMs: number | undefined
  #trouble: string | undefined

  constructor(o: MirrorOptions) {
    this.#o = o
  }

  /** Our service as the contract has it. */
  get service(): ServiceRecord | undefined {
    return this.#service
  }

  /** The last block whose events were read. */
  get height(): number | undefined {
    return this.#synced
  }

  get trouble(): string | undefined {
    return this.#trouble
  }

  /** Ms since the mirror equalled the head; infinite before the first time. */
  ageMs(): number {
    return this.#freshMs === undefined ? Number.POSITIVE_INFINITY : this.#o.clock.monotonic() - this.#freshMs
  }

  /** An account as of the last known head; asked of the chain when it is not held. @throws {ZgError} as the chain does. */
  async account(user: Uint8Array): Promise<AccountRecord | undefined> {
    const entry = this.#entry(toHex(user))
    while (!entry.loaded) await this.#load(user, entry)
    return entry.account
  }

  /** Reads accounts anew. @throws {ZgError} as the chain does. */
  async refresh(users: readonly Uint8Array[]): Promise<void> {
    await Promise.all(
      users.map(async user => {
        const entry = this.#accounts.get(toHex(user))
        if (entry === undefined) return
        entry.version++
        for (;;) {
          const version = entry.version
          const account = await this.#o.chain.account(user)
          if (entry.version !== version) continue
          entry.account = account
          entry.loaded = true
          return
        }
      })
    )
  }

  /** Reads the service record anew. */
  async refreshService(): Promise<ServiceRecord | undefined> {
    this.#service = await this.#o.chain.service()
    this.#o.onService?.(this.#service)
    return this.#service
  }

  /** Follows the chain until the signal. Trouble with the chain is waited out. */
  async run(signal: AbortSignal): Promise<void> {
    const heads = new HeadWatch(this.#o.chain.client, this.#o.clock, PUSHED_MS)
    try {
      while (!signal.aborted) {
        try {
          await this.#step(heads)
          if (this.#trouble !== undefined) this.#o.logger.info('chain is back')
          this.#trouble = undefined
        } catch (err) {
          if (signal.aborted) return
          if (!(err instanceof ZgError)) throw err
          const message = messageOf(err)
          if (this.#trouble !== message) this.#o.logger.warn('chain not reached', { error: message })
          this.#trouble = message
        }
        await heads.next(signal, POLL_MS)
      }
    } finally {
      heads.close()
    }
  }

  async #step(heads: HeadWatch): Promise<void> {
    // The age counts from when this head was pushed, or from before it was asked for: what comes later is not known yet.
    const { number: head, asOfMs } = await heads.head()
    const from = this.#synced
    if (from === undefined || head < from || head - from > CATCH_UP_BLOCKS) {
      await this.refreshService()
      this.#reload()
    } else if (head > from && !heads.quiet(toHex(this.#o.chain.contract), from + 1, head)) {
      await this.#read(from + 1, head)
    }
    this.#synced = head
    this.#freshMs = asOfMs
  }

  async #read(from: number, to: number): Promise<void> {
    const mine = topicOf(this.#o.chain.provider)
    const abi = inferenceAbi()
    const refund = abi.getEvent('RefundRequested')!.topicHash
    const aboutService = new Set<string>(
      ['ServiceUpdated', 'ServiceRemoved', 'ProviderTEESignerAcknowledged'].map(n => abi.getEvent(n)!.topicHash)
    )
    const changed = new Map<string, Uint8Array>()
    const refunds: Uint8Array[] = []
    let service = false
    for (const { topics } of await servingLogs(this.#o.chain, from, to)) {
      if (topics[1] === mine && aboutService.has(topics[0]!)) service = true
      // Every event about an account names user and provider in this order.
      if (topics[2] !== mine || topics[1] === undefined) continue
      const user = new Uint8Array(Buffer.from(topics[1].slice(26), 'hex'))
      changed.set(toHex(user), user)
      if (topics[0] === refund) refunds.push(user)
    }
    if (service) await this.refreshService()
    await this.refresh([...changed.values()])
    for (const user of refunds) this.#o.onRefund(user)
  }

  /** Forgets what is held: it is read again when needed. */
  #reload(): void {
    for (const entry of this.#accounts.values()) {
      entry.version++
      entry.loaded = false
    }
  }

  #load(user: Uint8Array, entry: Entry): Promise<void> {
    entry.loading ??= (async () => {
      const version = entry.version
      const account = await this.#o.chain.account(user)
      if (entry.version !== version) return
      entry.account = account
      entry.loaded = true
    })().finally(() => {
      entry.loading = undefined
    })
    return entry.loading
  }

  #entry(key: string): Entry {
    let entry = this.#accounts.get(key)
    if (entry === undefined) {
      entry = { account: undefined, loaded: false, loading: undefined, version: 1 }
      if (this.#accounts.size >= ACCOUNTS_MAX) this.#accounts.delete(this.#accounts.keys().next().value!)
    } else this.#accounts.delete(key)
    this.#accounts.set(key, entry)
    return entry
  }
}
