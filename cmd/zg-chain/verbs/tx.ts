/** `zg-chain tx`: one transaction and its receipt. */
import { ZgError } from '../../../lib/base/errors.ts'
import { formatAmount } from '../../../lib/base/units.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import type { RpcReceipt } from '../../../lib/clients/chain.ts'
import { connect } from '../options.ts'
import { feeOf, number, table } from '../print.ts'

export const tx: VerbFn = async (ctx, [hash], opts) => {
  if (!/^0x[0-9a-fA-F]{64}$/.test(hash!)) throw new ZgError('ERR_USAGE', `'${hash}' is not a transaction hash`)
  const client = await connect(ctx, opts)
  const [found, mined] = await Promise.all([
    client.call<Record<string, unknown> | null>('eth_getTransactionByHash', [hash]),
    client.call<RpcReceipt | null>('eth_getTransactionReceipt', [hash])
  ])
  if (found === null) throw new ZgError('ERR_NOT_FOUND', `chain has no transaction ${hash}`)
  const input = String(found.input)
  ctx.print(
    { ...found, type: 'transaction', txHash: found.hash, txType: found.type, receipt: mined },
    table([
      ['hash', String(found.hash)],
      ['from', String(found.from)],
      ['to', found.to === null ? `creates ${mined?.contractAddress ?? 'a contract'}` : String(found.to)],
      ['value', `${formatAmount(BigInt(String(found.value)))} 0G`],
      ['nonce', Number(found.nonce).toString()],
      ['data', input === '0x' ? undefined : ctx.tty && input.length > 74 ? `${input.slice(0, 70)}…` : input],
      ['block', mined === null ? 'waiting in the pool' : number(ctx, Number(mined.blockNumber))],
      ['status', mined === null ? undefined : mined.status === '0x1' ? 'done' : 'failed'],
      [
        'gas',
        mined === null ? undefined : `${number(ctx, Number(mined.gasUsed))} of ${number(ctx, Number(found.gas))}`
      ],
      ['fee', mined === null ? undefined : `${formatAmount(feeOf(mined))} 0G`],
      ['logs', mined === null ? undefined : mined.logs.length.toString()]
    ])
  )
  return mined?.status === '0x0' ? 1 : 0
}
