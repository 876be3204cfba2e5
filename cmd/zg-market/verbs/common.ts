/** What both verbs do first: find the chain, open its registry, ask the providers. */
import { ZgError } from '../../../lib/base/errors.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { isDevnet } from '../../../lib/clients/accounts.ts'
import { ChainClient } from '../../../lib/clients/chain.ts'
import { ComputeContracts } from '../../../lib/clients/compute/contracts.ts'
import { findEndpoint } from '../../../lib/clients/network.ts'
import type { ServiceRecord } from '../../../lib/codec/compute/abi.ts'
import { probeAll } from '../probe.ts'
import { type ServiceView, viewOf } from '../view.ts'

export async function openRegistry(ctx: VerbContext, opts: Options): Promise<ComputeContracts> {
  const url = await findEndpoint(opts.rpcUrl as string | undefined, ctx.network, 'rpc', 'zg-market')
  return ComputeContracts.open(new ChainClient(url, { signal: ctx.signal }))
}

/** The services as views, asked unless `--no-probe`. On a devnet every provider lives at a loopback address, so that is allowed. */
export async function viewAll(
  ctx: VerbContext,
  opts: Options,
  registry: ComputeContracts,
  services: readonly ServiceRecord[]
): Promise<ServiceView[]> {
  if (opts.probe === false) return services.map(s => viewOf(s, undefined))
  const allowPrivate = opts.allowPrivate === true || (await isDevnet(registry.chain, ctx.network))
  const probes = await probeAll(services, { timeoutMs: opts.timeout as number, allowPrivate, signal: ctx.signal })
  if (ctx.signal.aborted) throw new ZgError('ERR_STOPPED', 'stopped')
  return services.map((s, i) => viewOf(s, probes[i]))
}
