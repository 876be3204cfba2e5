/**
 * Who may be served, and whether he can pay: session tokens against the mirror of the chain, rates, and money held for what is running
 * (compute.md 2.2, 3.3). Every refusal comes before anything is computed or recorded.
 */
import { toHex } from '../../../lib/base/hex.ts'
import { formatAmount } from '../../../lib/base/units.ts'
import type { AccountRecord, ServiceRecord } from '../../../lib/codec/compute/abi.ts'
import {
  checkAccount,
  checkSessionToken,
  type ReceivedToken,
  readSessionToken,
  TokenRefusal,
  tokenSigner
} from '../../../lib/codec/compute/session-token.ts'
import { sha256 } from '../../../lib/crypto/hash.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import { BusyError, noBalance } from './errors.ts'

/** Recovered signers kept: recovery takes 1.6 ms. */
export const SIGNERS_MAX = 10_000
/** Users whose rate is remembered. */
export const RATES_MAX = 10_000
/** Requests of one user that run or wait at once. */
export const USER_PARALLEL_MAX = 64
/** An account that was refused is read from the chain again at most this often: some changes make no event. */
const RECHECK_MS = 2_000
const MINUTE_MS = 60_000

/** The mirror as the gate needs it. */
export interface GateAccounts {
  readonly service: ServiceRecord | undefined
  account(user: Uint8Array): Promise<AccountRecord | undefined>
  refresh(users: readonly Uint8Array[]): Promise<void>
  ageMs(): number
}

export interface GateOptions {
  provider: Uint8Array
  accounts: GateAccounts
  /** Recorded and not settled, neuron. */
  unsettled: (user: Uint8Array) => bigint
  clock: Clock
  /** Neuron that stay locked (3.3). */
  minLocked: bigint
  /** Older than this the mirror is not believed. */
  maxAgeMs: number
  requestsPerMinute: number
}

export interface Identity {
  user: Uint8Array
  token: ReceivedToken['token']
}

export interface Rate {
  limit: number
  /** Before this request. */
  remaining: number
  resetSeconds: number
}

export class Gate {
  readonly #o: GateOptions
  /** By SHA-256 of the token. */
  readonly #signers = new Map<string, Uint8Array>()
  readonly #rates = new Map<string, { left: number; atMs: number }>()
  readonly #rechecked = new Map<string, number>()
  readonly #held = new Map<string, { neuron: bigint; count: number }>()

  constructor(o: GateOptions) {
    this.#o = o
  }

  /** Neuron held for running requests, all users. */
  get reserved(): bigint {
    let sum = 0n
    for (const h of this.#held.values()) sum += h.neuron
    return sum
  }

  /**
   * Form, provider, times and signature of a token; nothing of the chain.
   * @throws {TokenRefusal}
   */
  identify(authorization: string | undefined): Identity {
    const received = readSessionToken(authorization)
    const user = checkSessionToken(received, {
      provider: this.#o.provider,
      nowMs: this.#o.clock.now(),
      signerOf: r => this.#signer(r)
    })
    return { user, token: received.token }
  }

  /**
   * Everything that a paid request needs except the money.
   * @throws {TokenRefusal | BusyError}
   */
  async admit(authorization: string | undefined): Promise<Identity & { rate: Rate }> {
    const identity = this.identify(authorization)
    await this.checkAccount(identity)
    if (this.#o.accounts.service?.teeSignerAcknowledged !== true)
      throw new TokenRefusal(
        403,
        'not_acknowledged',
        "the provider's signer is not acknowledged by the contract's owner"
      )
    return { ...identity, rate: this.#rate(identity.user) }
  }

  /** What the chain says about the token's account. @throws {TokenRefusal | BusyError} */
  async checkAccount({ user, token }: Identity): Promise<AccountRecord> {
    if (this.#o.accounts.ageMs() > this.#o.maxAgeMs)
      throw new BusyError(503, 'chain_unavailable', 'the chain cannot be reached, balances are too old', 10)
    let account: AccountRecord | undefined
    try {
      account = await this.#o.accounts.account(user)
    } catch {
      throw new BusyError(503, 'chain_unavailable', 'the chain cannot be reached to look up the account', 10)
    }
    try {
      checkAccount(token, account)
    } catch (err) {
      if (!(await this.#recheck(user))) throw err
      account = await this.#o.accounts.account(user)
      checkAccount(token, account)
    }
    return account!
  }

  /**
   * Holds the most that a request may cost until its fee is recorded. Checked and taken in one step, so that parallel requests cannot
   * all pass on the same money.
   * @returns the release.
   * @throws {ApiError} 402, or 429 when too many of the user's requests are under way.
   */
  async reserve(user: Uint8Array, neuron: bigint): Promise<() => void> {
    let account = await this.#o.accounts.account(user)
    if (!this.#fits(user, account, neuron) && (await this.#recheck(user)))
      account = await this.#o.accounts.account(user)
    const key = toHex(user)
    const held = this.#held.get(key) ?? { neuron: 0n, count: 0 }
    if (held.count >= USER_PARALLEL_MAX)
      throw new BusyError(
        429,
        'concurrency',
        `more than ${USER_PARALLEL_MAX} requests of this account are under way`,
        1
      )
    if (!this.#fits(user, account, neuron)) throw noBalance(this.#shortage(user, account, neuron))
    this.#held.set(key, { neuron: held.neuron + neuron, count: held.count + 1 })
    let released = false
    return () => {
      if (released) return
      released = true
      const now = this.#held.get(key)!
      if (now.count === 1) this.#held.delete(key)
      else this.#held.set(key, { neuron: now.neuron - neuron, count: now.count - 1 })
    }
  }

  #fits(user: Uint8Array, account: AccountRecord | undefined, neuron: bigint): boolean {
    const locked = account === undefined ? 0n : account.balance - account.pendingRefund
    const held = this.#held.get(toHex(user))?.neuron ?? 0n
    return locked >= this.#o.unsettled(user) + held + neuron + this.#o.minLocked
  }

  #shortage(user: Uint8Array, account: AccountRecord | undefined, neuron: bigint): string {
    const locked = account === undefined ? 0n : account.balance - account.pendingRefund
    const unsettled = this.#o.unsettled(user)
    const held = this.#held.get(toHex(user))?.neuron ?? 0n
    const needed = unsettled + held + neuron + this.#o.minLocked
    return (
      `insufficient balance: your locked balance is ${formatAmount(locked)} 0G, but the required minimum is ${formatAmount(needed)} 0G ` +
      `(breakdown: ${formatAmount(unsettled)} 0G unsettled, ${formatAmount(held)} 0G in running requests, ` +
      `${formatAmount(neuron)} 0G for this request at most, ${formatAmount(this.#o.minLocked)} 0G minimum)`
    )
  }

  /** Asks the chain again, seldom; true when it did. */
  async #recheck(user: Uint8Array): Promise<boolean> {
    const key = toHex(user)
    const now = this.#o.clock.monotonic()
    const last = this.#rechecked.get(key)
    if (last !== undefined && now - last < RECHECK_MS) return false
    remember(this.#rechecked, key, now, RATES_MAX)
    try {
      await this.#o.accounts.refresh([user])
      return true
    } catch {
      return false
    }
  }

  #signer(received: ReceivedToken): Uint8Array {
    const key = toHex(sha256(received.rawMessage, received.signature))
    const known = this.#signers.get(key)
    const signer = known ?? tokenSigner(received)
    remember(this.#signers, key, signer, SIGNERS_MAX)
    return signer
  }

  /** A bucket that fills evenly. @throws {BusyError} 429. */
  #rate(user: Uint8Array): Rate {
    const limit = this.#o.requestsPerMinute
    const key = toHex(user)
    const now = this.#o.clock.monotonic()
    const was = this.#rates.get(key) ?? { left: limit, atMs: now }
    const left = Math.min(limit, was.left + ((now - was.atMs) / MINUTE_MS) * limit)
    if (left < 1) {
      const waitMs = ((1 - left) / limit) * MINUTE_MS
      throw new BusyError(
        429,
        'rate_limit',
        `more than ${limit} requests a minute`,
        Math.max(1, Math.ceil(waitMs / 1000))
      )
    }
    remember(this.#rates, key, { left: left - 1, atMs: now }, RATES_MAX)
    return {
      limit,
      remaining: Math.floor(left),
      resetSeconds: Math.ceil(((limit - left) / limit) * (MINUTE_MS / 1000))
    }
  }
}

/** Puts at the young end; drops the oldest above the bound. */
function remember<T>(map: Map<string, T>, key: string, value: T, max: number): void {
  map.delete(key)
  if (map.size >= max) map.delete(map.keys().next().value!)
  map.set(key, value)
}
