/** `zg-chain balance`: what accounts own. */
import { toHex } from '../../../lib/base/hex.ts'
import { formatAmount } from '../../../lib/base/units.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { connect } from '../options.ts'
import { blockArgument } from './block.ts'

export const balance: VerbFn = async (ctx, accounts, opts) => {
  const [{ findAddress }, { checksumAddress }] = await Promise.all([
    import('../../../lib/clients/accounts.ts'),
    import('../../../lib/crypto/address.ts')
  ])
  const client = await connect(ctx, opts)
  for (const text of accounts) {
    const address = await findAddress(text)
    const params = [toHex(address), blockArgument(opts.block as string)]
    const neuron = BigInt(await client.call<string>('eth_getBalance', params))
    const nonce = Number(await client.call<string>('eth_getTransactionCount', params))
    const amount = `${formatAmount(neuron)} 0G`
    ctx.print(
      { type: 'balance', address: checksumAddress(address), balance_neuron: neuron.toString(), nonce },
      accounts.length === 1 ? amount : `${checksumAddress(address)}  ${amount}`
    )
  }
}
