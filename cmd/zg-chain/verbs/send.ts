/** `zg-chain send`: a transfer, or a call that changes state. */
import { ZgError } from '../../../lib/base/errors.ts'
import { parseAmount } from '../../../lib/base/units.ts'
import type { Options, VerbFn } from '../../../lib/cli/types.ts'
import { connect, signer } from '../options.ts'
import { shown } from '../print.ts'
import { hexArgument, submit } from './submit.ts'

export const send: VerbFn = async (ctx, [to, ...rest], opts) => {
  const { findAddress } = await import('../../../lib/clients/accounts.ts')
  const message = { to: await findAddress(to!), ...(await content(rest, opts)) }
  const client = await connect(ctx, opts)
  const account = await signer(ctx, opts, client)
  await submit(ctx, opts, { client, account, message, show: receipt => shown(ctx, receipt.transactionHash) })
}

/** With --sig the words are the function's arguments; otherwise the one word is the amount. */
async function content(words: string[], opts: Options): Promise<{ value: bigint; data: Uint8Array }> {
  const raw = opts.data as string | undefined
  const signature = opts.sig as string | undefined
  const given = opts.value === undefined ? undefined : (opts.value as bigint)
  if (signature !== undefined) {
    if (raw !== undefined) throw new ZgError('ERR_USAGE', "'--data' and '--sig' exclude each other")
    const { encodeCall } = await import('../abi.ts')
    return { value: given ?? 0n, data: (await encodeCall(signature, words)).data }
  }
  if (words.length > 1) {
    throw new ZgError('ERR_USAGE', `'${words[1]}' is one word too many`, {
      hint: "arguments of a function need '--sig', as in --sig 'transfer(address,uint256)'"
    })
  }
  if (given !== undefined && words.length > 0) throw new ZgError('ERR_USAGE', 'the amount is given twice')
  const value = words[0] === undefined ? given : parseAmount(words[0])
  const data = raw === undefined ? new Uint8Array(0) : hexArgument(raw, '--data')
  if (value === undefined && data.length === 0) {
    throw new ZgError('ERR_USAGE', 'no amount given', { hint: "write 'zg-chain send 1 1.5'" })
  }
  return { value: value ?? 0n, data }
}
