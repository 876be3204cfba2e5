/** What the operator may ask of a running provider, on its Unix socket only: settle, look, write off. */
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { addressFromHex, toHex } from '../../../lib/base/hex.ts'
import { checksumAddress } from '../../../lib/crypto/address.ts'
import type { FeeBook } from '../ledger/fee-book.ts'
import type { SettleReport, Settler } from '../ledger/settler.ts'

export interface AdminOptions {
  /** Undefined until the chain was reached. */
  settler: () => Settler | undefined
  book: FeeBook
  status: () => Record<string, unknown>
}

/** A settlement report as it crosses the socket. */
export interface WireReport {
  settled: {
    user: string
    status: string
    requests: number
    fee_neuron: string
    unpaid_neuron: string
    number: number
    txHash: string
    blockNumber: number | null
  }[]
  skipped: { user: string; unsettled_neuron: string; reason: string }[]
  unsettled_neuron: string
}

export function adminMethods(o: AdminOptions): RpcMethods {
  return {
    admin_status: () => o.status(),
    /** Settles everybody's debts; users held back after a refusal too. */
    admin_settle: async () => {
      const settler = o.settler()
      if (settler === undefined) throw new RpcError(RPC.unavailable, 'the chain was not reached yet')
      try {
        return wireReport(await settler.settle(undefined, { force: true }), o.book)
      } catch (err) {
        // Names like ERR_FUNDS reach the verb, which exits by them.
        if (err instanceof ZgError) throw new RpcError(RPC.server, err.message, { code: err.code, hint: err.hint })
        throw err
      }
    },
    admin_accounts: () =>
      [...o.book.debts()].map(d => ({
        user: checksumAddress(d.user),
        unsettled_neuron: d.unsettled.toString(),
        settling_neuron: d.settling.toString(),
        requests: d.count,
        oldest: new Date(d.oldestMs).toISOString(),
        held: o.settler()?.held(d.user) ?? null
      })),
    admin_writeOff: async p => {
      let user: Uint8Array
      try {
        user = addressFromHex(p[0], 'user')
      } catch (err) {
        throw new RpcError(RPC.params, (err as Error).message)
      }
      const { count, fee } = await o.book.writeOff(user)
      return { user: checksumAddress(user), requests: count, fee_neuron: fee.toString() }
    }
  }
}

function wireReport(r: SettleReport, book: FeeBook): WireReport {
  let unsettled = 0n
  for (const d of book.debts()) unsettled += d.unsettled
  return {
    settled: r.settled.map(s => ({
      user: checksumAddress(s.user),
      status: s.status,
      requests: s.requests,
      fee_neuron: s.paid.toString(),
      unpaid_neuron: s.unpaid.toString(),
      number: s.number,
      txHash: toHex(s.txHash),
      blockNumber: s.blockNumber ?? null
    })),
    skipped: r.skipped.map(s => ({
      user: checksumAddress(s.user),
      unsettled_neuron: s.unsettled.toString(),
      reason: s.reason
    })),
    unsettled_neuron: unsettled.toString()
  }
}
