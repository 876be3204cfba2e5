/** `zg-devnet accounts`: the ten test accounts, with balances when the network runs. */
import { RpcClient } from '../../../lib/adapters/jsonrpc/client.ts'
import { formatAmount } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { readNetwork } from '../../../lib/clients/network.ts'
import { DEV_ACCOUNTS } from '../../../lib/crypto/dev-accounts.ts'

export async function accounts(ctx: VerbContext, _args: string[], opts: Options): Promise<void> {
  const file = await readNetwork(opts.name as string)
  const balances = file?.endpoints.rpc === undefined ? undefined : await balancesOf(file.endpoints.rpc, ctx.signal)
  DEV_ACCOUNTS.forEach((account, index) => {
    const balance = balances?.[index]
    const key = opts.keys === true ? account.privateKey : undefined
    ctx.print(
      {
        type: 'account',
        index,
        address: account.address,
        balance_neuron: balance?.toString() ?? null,
        ...(key === undefined ? {} : { private_key: key })
      },
      [
        index,
        account.address,
        ...(balance === undefined ? [] : [`${formatAmount(balance, 4)} 0G`.padEnd(16)]),
        ...(key === undefined ? [] : [key])
      ]
        .join('  ')
        .trimEnd()
    )
  })
  if (opts.keys === true) ctx.say('public test keys: never use them on a network with value')
}

async function balancesOf(url: string, signal: AbortSignal): Promise<bigint[]> {
  const answers = await new RpcClient(url, { what: 'chain', signal }).batch<string>(
    DEV_ACCOUNTS.map(a => ({ method: 'eth_getBalance', params: [a.address, 'latest'] }))
  )
  return answers.map(a => {
    if (typeof a !== 'string') throw a
    return BigInt(a)
  })
}
