/** `zg-chain send`: a transfer, or a call that changes state. */
import { ZgError } from '../../../lib/base/errors.ts'
import { parseAmount } from '../../../lib/base/units.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { connect, signer } from '../options.ts'
import { shown } from '../print.ts'
import { hexArgument, submit } from './submit.ts'

export const send: VerbFn = async (ctx, [to, amount, signature, ...rest], opts) => {
  const { findAddress } = await import('../../../lib/clients/accounts.ts')
  const value = amount === undefined ? 0n : parseAmount(amount)
  const data = await callData(signature, rest, opts.data as string | undefined)
  if (amount === undefined && data.length === 0) {
    throw new ZgError('ERR_USAGE', 'no amount given', { hint: "write 'zg-chain send 1 1.5'" })
  }
  const client = await connect(ctx, opts)
  const message = { to: await findAddress(to!), value, data }
  const account = await signer(ctx, opts, client)
  await submit(ctx, opts, { client, account, message, show: receipt => shown(ctx, receipt.transactionHash) })
}

async function callData(signature: string | undefined, args: string[], raw: string | undefined): Promise<Uint8Array> {
  if (raw !== undefined) {
    if (signature !== undefined) throw new ZgError('ERR_USAGE', "'--data' and a signature exclude each other")
    return hexArgument(raw, '--data')
  }
  if (signature === undefined) return new Uint8Array(0)
  const { encodeCall } = await import('../abi.ts')
  return (await encodeCall(signature, args)).data
}
