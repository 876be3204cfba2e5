/** The chain as settlement sees it, in memory: vouchers judged by the contract's rules, transactions by their nonce. For crash tests. */

import type { SettlementChain, VoucherOutcome } from '../../cmd/zg-compute/ledger/settler.ts'
import { bytesToBig } from '../../lib/base/bytes.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { signTransaction } from '../../lib/clients/sign.ts'
import { decodeSettlements } from '../../lib/codec/compute/abi.ts'
import { recoverDigest } from '../../lib/codec/compute/personal-sign.ts'
import { settlementDigest } from '../../lib/codec/compute/settlement.ts'
import { decodeRlp } from '../../lib/codec/rlp.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { addressOf } from '../../lib/crypto/secp256k1.ts'

const PROVIDER_KEY = keccak256(Uint8Array.of(1))
export const SIGNER_KEY = keccak256(Uint8Array.of(2))

interface SimAccount {
  nonce: bigint
  balance: bigint
  acknowledged: boolean
}

interface Mined {
  hash: string
  block: number
  vouchers: { user: string; nonce: bigint; outcome: VoucherOutcome }[]
}

export class SimChain implements SettlementChain {
  readonly provider = addressOf(PROVIDER_KEY)
  readonly accounts = new Map<string, SimAccount>()
  readonly mined: Mined[] = []
  /** What each user paid. */
  readonly paid = new Map<string, bigint>()
  serviceAcknowledged = true
  /** Transactions handed in are forgotten: the node lost them. */
  drop = 0
  sends = 0
  #nonce = 0n
  #pool: Uint8Array[] = []

  clone(): SimChain {
    const c = new SimChain()
    for (const [k, v] of this.accounts) c.accounts.set(k, { ...v })
    for (const [k, v] of this.paid) c.paid.set(k, v)
    c.mined.push(...this.mined)
    c.serviceAcknowledged = this.serviceAcknowledged
    c.#nonce = this.#nonce
    c.#pool = [...this.#pool]
    return c
  }

  /** Another transaction of the provider takes the next nonce. */
  stealNonce(): void {
    this.#nonce++
    this.#pool = []
  }

  domain() {
    return { chainId: 31337n, contract: new Uint8Array(20).fill(7) }
  }

  async blockNumber(): Promise<number> {
    return this.mined.length
  }

  async account(user: Uint8Array) {
    const a = this.accounts.get(toHex(user))
    if (a === undefined) return undefined
    return { user, provider: this.provider, pendingRefund: 0n, refunds: [], generation: 0n, revokedBitmap: 0n, ...a }
  }

  async acknowledged(): Promise<boolean> {
    return this.serviceAcknowledged
  }

  async sign(data: Uint8Array, replace?: { nonce: bigint }) {
    const nonce = replace?.nonce ?? this.#nonce
    const fee = replace === undefined ? 1n : 3n
    const tx = { type: 2, chainId: 31337n, maxFeePerGas: fee, maxPriorityFeePerGas: fee, gasLimit: 1n, value: 0n }
    const raw = signTransaction({ ...tx, nonce, to: this.domain().contract, data }, PROVIDER_KEY)
    return { hash: keccak256(raw), raw, nonce }
  }

  async send(raw: Uint8Array): Promise<void> {
    this.sends++
    if (this.drop > 0) this.drop--
    else this.#pool.push(raw)
  }

  async nonceUsed(nonce: bigint): Promise<boolean> {
    return this.#nonce > nonce
  }

  async wait(hash: Uint8Array): Promise<void> {
    this.mine()
    if ((await this.outcome(hash)) === undefined) throw new ZgError('ERR_TIMEOUT', 'in no block')
  }

  async outcome(hash: Uint8Array) {
    const m = this.mined.find(x => x.hash === toHex(hash))
    return m && { blockNumber: m.block, ok: true, results: m.vouchers.map(v => v.outcome) }
  }

  async find(entry: { user: Uint8Array; nonce: bigint }): Promise<VoucherOutcome | undefined> {
    const all = this.mined.flatMap(m => m.vouchers)
    return all.find(v => v.user === toHex(entry.user) && v.nonce === entry.nonce)?.outcome
  }

  /** Everything in the pool whose nonce is next runs. */
  mine(): void {
    for (const raw of this.#pool.splice(0)) {
      const fields = decodeRlp(raw.slice(1)) as Uint8Array[]
      if (bytesToBig(fields[1]!) !== this.#nonce) continue
      this.#nonce++
      const block = this.mined.length + 1
      const vouchers = decodeSettlements(toHex(fields[7]!))!.map(v => {
        const user = toHex(v.user)
        return { user, nonce: v.nonce, outcome: this.#judge(user, v) }
      })
      this.mined.push({ hash: toHex(keccak256(raw)), block, vouchers })
    }
  }

  #judge(user: string, v: NonNullable<ReturnType<typeof decodeSettlements>>[number]): VoucherOutcome {
    const a = this.accounts.get(user)
    const no = (status: VoucherOutcome['status']): VoucherOutcome => ({ status, unsettled: v.totalFee })
    if (a === undefined) return no('INVALID_SIGNATURE')
    if (!a.acknowledged || !this.serviceAcknowledged) return no('NO_TEE_SIGNER')
    if (v.nonce <= a.nonce) return no('INVALID_NONCE')
    const message = { ...v, user: fromHex(user) }
    if (toHex(recoverDigest(settlementDigest(this.domain(), message), v.signature)) !== toHex(addressOf(SIGNER_KEY)))
      return no('INVALID_SIGNATURE')
    const paid = a.balance < v.totalFee ? a.balance : v.totalFee
    a.nonce = v.nonce
    a.balance -= paid
    this.paid.set(user, (this.paid.get(user) ?? 0n) + paid)
    return { status: paid === v.totalFee ? 'SUCCESS' : 'PARTIAL', unsettled: v.totalFee - paid }
  }
}
