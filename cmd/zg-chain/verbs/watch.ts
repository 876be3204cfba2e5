/** `zg-chain watch`: a line for each new block, until stopped. */
import { formatAmount } from '../../../lib/base/units.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import type { RpcHeader } from '../../../lib/clients/chain.ts'
import { connect } from '../options.ts'
import { number, shown, timeText } from '../print.ts'

export const watch: VerbFn = async (ctx, _args, opts) => {
  const client = await connect(ctx, opts)
  // A dead node is an error at the start; later on it is waited for.
  const head = await client.blockNumber()
  const count = opts.count as number | undefined
  let seen = 0
  let down = false
  await new Promise<void>((resolve, reject) => {
    const stop = client.subscribeHeads(
      async header => {
        if (count !== undefined && seen === count) return
        await show(header)
        if (++seen === count) finish()
      },
      {
        from: head,
        onState: up => {
          if (up && down) ctx.say('connected again')
          if (!up && !down) ctx.say('connection lost, trying again')
          down = !up
        }
      }
    )
    const onAbort = (): void => {
      stop()
      reject(ctx.signal.reason)
    }
    const finish = (): void => {
      stop()
      ctx.signal.removeEventListener('abort', onAbort)
      resolve()
    }
    if (ctx.signal.aborted) onAbort()
    ctx.signal.addEventListener('abort', onAbort, { once: true })
  })

  async function show(header: RpcHeader): Promise<void> {
    const height = Number(header.number)
    const transactions = Number(await client.call<string | null>('eth_getBlockTransactionCountByHash', [header.hash]))
    const gasUsed = Number(header.gasUsed)
    const share = Math.round((gasUsed * 100) / Number(header.gasLimit))
    const time = Number(header.timestamp)
    ctx.print(
      {
        type: 'block_seen',
        time: new Date(time * 1000).toISOString(),
        number: height,
        hash: header.hash,
        transactions,
        gasUsed,
        gasLimit: Number(header.gasLimit),
        baseFeePerGas: Number(header.baseFeePerGas)
      },
      `${number(ctx, height)}  ${timeText(ctx, time)}  ${transactions} txs  gas ${share} %  base ${formatAmount(BigInt(header.baseFeePerGas) * 10n ** 9n, 3)} gneuron  ${shown(ctx, header.hash)}`
    )
  }
}
