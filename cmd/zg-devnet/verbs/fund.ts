/** `zg-devnet fund ADDRESS [AMOUNT]`: the faucet: a plain transfer from a test account that the node signs. */
import { RpcClient } from '../../../lib/adapters/jsonrpc/client.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { addressFromHex, toHex, toQuantity } from '../../../lib/base/hex.ts'
import { formatAmount, parseAmount, shortHash } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { DEV_ACCOUNTS } from '../../../lib/crypto/dev-accounts.ts'
import { requireNetwork } from '../control-client.ts'

/** The last account gives, so that the first ones keep round balances. */
const FAUCET = DEV_ACCOUNTS[9]!
const WAIT_MS = 30_000

export async function fund(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const to = toHex(addressFromHex(args[0], `address '${args[0]}'`))
  const amount = args[1] === undefined ? (opts.amount as bigint) : parseAmount(args[1])
  const file = await requireNetwork(opts.name as string)
  const chain = new RpcClient(file.endpoints.rpc!, { what: 'chain', signal: ctx.signal })
  const balance = BigInt(await chain.call<string>('eth_getBalance', [FAUCET.address, 'latest']))
  if (balance < amount + 10n ** 16n) {
    throw new ZgError(
      'ERR_FUNDS',
      `the faucet has ${formatAmount(balance, 4)} 0G left, ${formatAmount(amount)} wanted`,
      { hint: "ask for less, or start over with 'zg-devnet up --fresh'" }
    )
  }
  const hash = await chain.call<string>('eth_sendTransaction', [
    { from: FAUCET.address, to, value: toQuantity(amount) }
  ])
  const receipt = await waitReceipt(chain, hash)
  const after = BigInt(await chain.call<string>('eth_getBalance', [to, 'latest']))
  ctx.print(
    {
      type: 'funded',
      address: to,
      amount_neuron: amount.toString(),
      balance_neuron: after.toString(),
      txHash: hash,
      blockNumber: Number(receipt.blockNumber)
    },
    `${ctx.tty ? shortHash(to) : to}  +${formatAmount(amount)} 0G, now ${formatAmount(after, 6)} 0G`
  )
}

async function waitReceipt(chain: RpcClient, hash: string): Promise<{ blockNumber: string }> {
  const deadline = performance.now() + WAIT_MS
  for (;;) {
    const receipt = await chain.call<{ blockNumber: string; status: string } | null>('eth_getTransactionReceipt', [
      hash
    ])
    if (receipt !== null) {
      if (receipt.status !== '0x1')
        throw new ZgError('ERR_REJECTED', `the transfer ${hash} failed: the address refuses plain value`)
      return receipt
    }
    if (performance.now() > deadline)
      throw new ZgError('ERR_TIMEOUT', `transaction ${hash} is not in a block after ${WAIT_MS / 1000} s`, {
        hint: 'zg-devnet status'
      })
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}
