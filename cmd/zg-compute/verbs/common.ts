/** What the client verbs share: which chain, who pays, which provider, which prompt. */
import { ZgError } from '../../../lib/base/errors.ts'
import { formatAmount } from '../../../lib/base/units.ts'
import { passwordReader } from '../../../lib/cli/password.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { type Account, findAddress, findSigner } from '../../../lib/clients/accounts.ts'
import { ChainClient } from '../../../lib/clients/chain.ts'
import { ComputeContracts } from '../../../lib/clients/compute/contracts.ts'
import { chooseService, openSession, type Session } from '../../../lib/clients/compute/session.ts'
import { findEndpoint } from '../../../lib/clients/network.ts'
import type { ServiceRecord } from '../../../lib/codec/compute/abi.ts'

/** Bytes of a prompt that are read. */
export const PROMPT_BYTES_MAX = 8 << 20

export async function openContracts(ctx: VerbContext, opts: Options): Promise<ComputeContracts> {
  const url = await findEndpoint(opts.rpcUrl as string | undefined, ctx.network, 'rpc', 'zg-compute')
  return ComputeContracts.open(new ChainClient(url, { signal: ctx.signal }))
}

export function payer(ctx: VerbContext, opts: Options, contracts: ComputeContracts): Promise<Account> {
  return findSigner(contracts.chain, {
    account: opts.account as string | undefined,
    network: ctx.network,
    password: passwordReader(ctx, opts)
  })
}

/** The provider named by `--provider`, else the cheapest one of `--model` that answers. */
export async function findService(
  ctx: VerbContext,
  opts: Options,
  contracts: ComputeContracts
): Promise<ServiceRecord> {
  const named = opts.provider as string | undefined
  const provider = named === undefined ? undefined : await findAddress(named)
  return chooseService(contracts, { provider, model: opts.model as string | undefined }, ctx.signal)
}

/** A paid session; says when money moves. */
export async function paidSession(ctx: VerbContext, opts: Options): Promise<Session> {
  const contracts = await openContracts(ctx, opts)
  const [service, account] = await Promise.all([findService(ctx, opts, contracts), payer(ctx, opts, contracts)])
  return openSession(contracts, service, account, {
    signal: ctx.signal,
    onTransfer: amount => ctx.say(`moving ${formatAmount(amount)} 0G from the ledger to the provider's account`)
  })
}

/** The prompt: the arguments joined, else standard input. @throws {ZgError} ERR_USAGE when there is none. */
export async function readPrompt(ctx: VerbContext, args: readonly string[]): Promise<string> {
  if (args.length > 0) return args.join(' ')
  if (ctx.stdin.isTTY === true) ctx.say('reading from the terminal, Ctrl-D ends')
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of ctx.stdin as AsyncIterable<Uint8Array>) {
    size += part.length
    if (size > PROMPT_BYTES_MAX) throw new ZgError('ERR_BAD_INPUT', 'the prompt is longer than 8 MiB')
    parts.push(part)
  }
  const text = Buffer.concat(parts)
    .toString()
    .replace(/\r?\n$/, '')
  if (text === '') throw new ZgError('ERR_USAGE', 'the prompt is empty', { hint: 'give it as an argument or on stdin' })
  return text
}

/** Fields of the request that the options set. */
export function sampling(opts: Options): Record<string, unknown> {
  const stop = opts.stop as string[] | undefined
  const fields: [string, unknown][] = [
    ['max_tokens', opts.maxTokens],
    ['temperature', opts.temperature],
    ['top_p', opts.topP],
    ['seed', opts.seed],
    ['stop', stop]
  ]
  return Object.fromEntries(fields.filter(([, value]) => value !== undefined))
}
