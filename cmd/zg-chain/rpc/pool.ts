/** `txpool_*`: what waits, by sender and nonce. */
import type { RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { toHex, toQuantity } from '../../../lib/base/hex.ts'
import { checksumAddress } from '../../../lib/crypto/address.ts'
import type { Transaction } from '../core/types.ts'
import type { RpcSetup } from './context.ts'
import { arg, asAddress } from './decode.ts'
import { effectivePrice, encodeTransaction } from './encode.ts'

export function poolMethods(s: RpcSetup): RpcMethods {
  const { pool } = s.chain

  /** { sender: { nonce: shown } }, senders with their checksum as geth writes them here. */
  function bySender(txs: Transaction[], show: (tx: Transaction) => unknown): Record<string, Record<string, unknown>> {
    const out = new Map<string, Record<string, unknown>>()
    for (const tx of txs) {
      const sender = checksumAddress(tx.from)
      const list = out.get(sender) ?? {}
      list[tx.nonce.toString()] = show(tx)
      out.set(sender, list)
    }
    return Object.fromEntries(out)
  }

  const whole = (tx: Transaction) => encodeTransaction(tx)
  const line = (tx: Transaction) => {
    const to = tx.to === null ? 'contract creation' : toHex(tx.to)
    return `${to}: ${tx.value} wei + ${tx.gasLimit} gas × ${effectivePrice(tx, undefined)} wei`
  }

  return {
    txpool_status: () => {
      const { pending, queued } = pool.counts()
      return { pending: toQuantity(pending), queued: toQuantity(queued) }
    },
    txpool_content: () => {
      const { pending, queued } = pool.content()
      return { pending: bySender(pending, whole), queued: bySender(queued, whole) }
    },
    txpool_contentFrom: params => {
      const from = arg(params, 0, 'address', asAddress)
      const { pending, queued } = pool.content(from)
      const own = (txs: Transaction[]) => Object.fromEntries(txs.map(tx => [tx.nonce.toString(), whole(tx)]))
      return { pending: own(pending), queued: own(queued) }
    },
    txpool_inspect: () => {
      const { pending, queued } = pool.content()
      return { pending: bySender(pending, line), queued: bySender(queued, line) }
    }
  }
}
