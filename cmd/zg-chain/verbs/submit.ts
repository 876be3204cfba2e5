/** What `send` and `deploy` share: show the cost, send, wait for the block, print. */
import { ZgError } from '../../../lib/base/errors.ts'

import { formatAmount } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import type { Account } from '../../../lib/clients/accounts.ts'
import type { ChainClient, Message, RpcReceipt } from '../../../lib/clients/chain.ts'
import { feeOf, feeText, number, shown } from '../print.ts'

/**
 * @returns the receipt, or undefined when nothing was sent or nobody waits.
 * @throws {ZgError} ERR_REJECTED when the transaction is in a block but failed.
 */
export async function submit(
  ctx: VerbContext,
  opts: Options,
  o: { client: ChainClient; account: Account; message: Message; show: (receipt: RpcReceipt) => string }
): Promise<RpcReceipt | undefined> {
  const { client, account, message } = o
  const tx = await client.prepare(account.address, message)
  const { checksumAddress } = await import('../../../lib/crypto/address.ts')
  const parties = {
    from: checksumAddress(account.address),
    to: message.to === null ? null : checksumAddress(message.to),
    value_neuron: tx.value.toString()
  }
  if (opts.dryRun === true) {
    ctx.print(
      { type: 'dry_run', ...parties, gasLimit: Number(tx.gasLimit), fee_neuron: tx.likelyFee.toString() },
      `would send ${formatAmount(tx.value)} 0G from ${shown(ctx, parties.from)}, ${feeText(tx.likelyFee)}`
    )
    return undefined
  }
  const hash = await client.sendPrepared(account, tx)
  if (opts.wait === false) {
    ctx.print({ type: 'transaction', txHash: hash, ...parties, nonce: Number(tx.nonce) }, shown(ctx, hash))
    return undefined
  }
  const receipt = await client.waitReceipt(hash, { timeoutMs: opts.timeout as number })
  const blockNumber = Number(receipt.blockNumber)
  if (receipt.status !== '0x1') {
    throw new ZgError('ERR_REJECTED', `transaction ${hash} failed in block ${blockNumber}`, {
      facts: [`it used ${Number(receipt.gasUsed)} gas, ${feeText(feeOf(receipt))}`]
    })
  }
  ctx.print(
    {
      type: 'transaction',
      txHash: hash,
      ...parties,
      ...(receipt.contractAddress === null ? {} : { contractAddress: receipt.contractAddress }),
      nonce: Number(tx.nonce),
      blockNumber,
      gasUsed: Number(receipt.gasUsed),
      fee_neuron: feeOf(receipt).toString()
    },
    ctx.tty ? `${o.show(receipt)}  block ${number(ctx, blockNumber)}  ${feeText(feeOf(receipt))}` : o.show(receipt)
  )
  return receipt
}

/** Bytes of a hex argument. */
export function hexArgument(text: string, what: string): Uint8Array {
  if (!/^(0x)?([0-9a-fA-F]{2})*$/.test(text)) throw new ZgError('ERR_USAGE', `${what} is not hex`)
  return new Uint8Array(Buffer.from(text.replace(/^0x/, ''), 'hex'))
}
