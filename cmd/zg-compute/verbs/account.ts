/** `zg-compute account …`: the money of a user in the compute contracts (compute.md 1.3, 3.6). Amounts are in neuron. */
import { ZgError } from '../../../lib/base/errors.ts'
import { formatAmount, formatDuration, parseAmount, shortHash } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { findAddress } from '../../../lib/clients/accounts.ts'
import type { RpcReceipt } from '../../../lib/clients/chain.ts'
import { signToken, unsettledFee } from '../../../lib/clients/compute/session.ts'
import { checksumAddress } from '../../../lib/crypto/address.ts'
import { findService, openContracts, payer } from './common.ts'

/** Sub-accounts one call of the ledger takes. */
const RETRIEVE_MAX = 20

export async function show(ctx: VerbContext, args: string[], opts: Options): Promise<number> {
  const contracts = await openContracts(ctx, opts)
  const named = args[0] === undefined ? undefined : await findAddress(args[0])
  const account = named === undefined ? await payer(ctx, opts, contracts) : undefined
  const user = named ?? account!.address
  const [ledger, lockSeconds] = await Promise.all([contracts.ledger(user), contracts.lockSeconds()])
  if (ledger === undefined) {
    if (ctx.json)
      ctx.print(
        { type: 'ledger', user: checksumAddress(user), exists: false, available_neuron: '0', total_neuron: '0' },
        null
      )
    ctx.say(`${checksumAddress(user)} has no ledger\nnext: zg-compute account deposit 3`)
    return 1
  }
  ctx.print(
    {
      type: 'ledger',
      user: checksumAddress(user),
      exists: true,
      available_neuron: ledger.available.toString(),
      total_neuron: ledger.total.toString()
    },
    `ledger    ${formatAmount(ledger.available)} 0G available of ${formatAmount(ledger.total)} 0G`
  )
  for (const provider of await contracts.providersOf(user)) {
    const sub = await contracts.account(user, provider)
    if (sub === undefined) continue
    let unsettled: bigint | undefined
    if (account !== undefined) {
      const service = await contracts.service(provider).catch(() => undefined)
      if (service !== undefined)
        unsettled = await unsettledFee(service, account, await signToken(sub, service, account), ctx.signal)
    }
    const address = checksumAddress(provider)
    const waits = sub.refunds.map(r => Number(r.createdAt) + lockSeconds - Date.now() / 1000)
    const words = [`${formatAmount(sub.balance)} 0G`]
    if (unsettled !== undefined && unsettled > 0n) words.push(`${formatAmount(unsettled)} 0G not yet settled`)
    if (sub.pendingRefund > 0n) {
      const wait = Math.max(0, ...waits)
      words.push(
        `${formatAmount(sub.pendingRefund)} 0G asked back, ${wait === 0 ? 'ready' : `ready in ${formatDuration(wait * 1000)}`}`
      )
    }
    ctx.print(
      {
        type: 'sub_account',
        user: checksumAddress(user),
        provider: address,
        balance_neuron: sub.balance.toString(),
        pending_refund_neuron: sub.pendingRefund.toString(),
        unsettled_neuron: unsettled?.toString() ?? null,
        refunds: sub.refunds.map((r, i) => ({
          amount_neuron: r.amount.toString(),
          ready_in_seconds: Math.max(0, Math.round(waits[i]!))
        })),
        acknowledged: sub.acknowledged
      },
      `provider  ${ctx.tty ? shortHash(address) : address}  ${words.join(', ')}`
    )
  }
  return 0
}

export async function deposit(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const amount = positive(args[0]!)
  const contracts = await openContracts(ctx, opts)
  const account = await payer(ctx, opts, contracts)
  const receipt = await contracts.deposit(account, amount)
  await paid(ctx, receipt, 'deposit', amount, `ledger now ${await ledgerLine(contracts, account.address)}`)
}

export async function transfer(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const provider = await findAddress(args[0]!)
  const amount = positive(args[1]!)
  const contracts = await openContracts(ctx, opts)
  const account = await payer(ctx, opts, contracts)
  await contracts.service(provider)
  const receipt = await contracts.transfer(account, provider, amount)
  const sub = await contracts.account(account.address, provider)
  await paid(
    ctx,
    receipt,
    'transfer',
    amount,
    `the provider's account now holds ${formatAmount(sub?.balance ?? 0n)} 0G`
  )
}

/** Without an amount: asks everything back from the providers. With one: takes it out of the ledger. */
export async function withdraw(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const contracts = await openContracts(ctx, opts)
  const account = await payer(ctx, opts, contracts)
  const ledger = await contracts.ledger(account.address)
  if (ledger === undefined) throw new ZgError('ERR_NOT_FOUND', `${checksumAddress(account.address)} has no ledger`)
  if (args[0] !== undefined) {
    const amount = args[0] === 'all' ? ledger.available : positive(args[0])
    const receipt = await contracts.refund(account, amount)
    await paid(ctx, receipt, 'withdraw', amount, `ledger now ${await ledgerLine(contracts, account.address)}`)
    return
  }
  const providers = await contracts.providersOf(account.address)
  if (providers.length === 0)
    throw new ZgError('ERR_NOT_FOUND', 'no provider holds any of your money', {
      hint: "run 'zg-compute account withdraw all'"
    })
  for (let i = 0; i < providers.length; i += RETRIEVE_MAX) {
    const before = (await contracts.ledger(account.address))!.available
    const receipt = await contracts.retrieve(account, providers.slice(i, i + RETRIEVE_MAX))
    const back = (await contracts.ledger(account.address))!.available - before
    const lock = formatDuration((await contracts.lockSeconds()) * 1000)
    await paid(
      ctx,
      receipt,
      'retrieve',
      back,
      `${formatAmount(back)} 0G came back; the rest is asked back and can be fetched in ${lock} with the same command`
    )
  }
}

/** `account key`: a session token or API key for OpenAI clients, alone on stdout. */
export async function key(ctx: VerbContext, _args: string[], opts: Options): Promise<void> {
  const contracts = await openContracts(ctx, opts)
  const [service, account] = await Promise.all([findService(ctx, opts, contracts), payer(ctx, opts, contracts)])
  const sub = await contracts.account(account.address, service.provider)
  if (sub === undefined)
    throw new ZgError('ERR_FUNDS', 'the provider holds no account of yours, its keys would be refused', {
      hint: `run 'zg-compute account transfer ${checksumAddress(service.provider)} 2'`
    })
  const id = opts.id as number | undefined
  const duration = opts.expires as number | undefined
  const apiKey = await signToken(sub, service, account, {
    mode: id === undefined ? 'ephemeral' : 'persistent',
    ...(duration === undefined ? {} : { duration }),
    ...(id === undefined ? {} : { tokenId: id })
  })
  ctx.print(
    {
      type: 'api_key',
      provider: checksumAddress(service.provider),
      base_url: `${service.url}/v1/proxy`,
      key: apiKey,
      id: id ?? null
    },
    apiKey
  )
  ctx.say(`for ${service.url}/v1/proxy; ${id === undefined ? 'lives 24 hours at most' : `revoke it by id ${id}`}`)
}

function positive(text: string): bigint {
  const amount = parseAmount(text)
  if (amount === 0n) throw new ZgError('ERR_USAGE', 'the amount is 0')
  return amount
}

async function ledgerLine(contracts: Awaited<ReturnType<typeof openContracts>>, user: Uint8Array): Promise<string> {
  const ledger = await contracts.ledger(user)
  return ledger === undefined
    ? 'gone'
    : `${formatAmount(ledger.available)} 0G available of ${formatAmount(ledger.total)} 0G`
}

async function paid(ctx: VerbContext, receipt: RpcReceipt, what: string, amount: bigint, words: string): Promise<void> {
  const { transactionHash } = receipt
  const blockNumber = Number(receipt.blockNumber)
  ctx.print(
    { type: 'account_change', action: what, amount_neuron: amount.toString(), txHash: transactionHash, blockNumber },
    `${ctx.tty ? shortHash(transactionHash) : transactionHash}  block ${blockNumber}`
  )
  ctx.say(words)
}
