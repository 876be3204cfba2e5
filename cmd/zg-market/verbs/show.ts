/** `zg-market show PROVIDER`: one service, every field with its unit. */

import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { findAddress } from '../../../lib/clients/accounts.ts'
import { openRegistry, viewAll } from './common.ts'
import { printable, stateOf } from './list.ts'

export async function show(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const registry = await openRegistry(ctx, opts)
  const service = await registry.service(await findAddress(args[0]!))
  const view = (await viewAll(ctx, opts, registry, [service]))[0]!
  const lines: [string, string][] = [
    ['provider', view.provider],
    ['kind', printable(view.kind)],
    ['model', printable(view.model)],
    ['state', stateOf(view)],
    ['endpoint', printable(view.url)],
    ['input', `${view.pricing.promptPer1M} 0G a million tokens (${view.pricing.prompt} neuron a token)`],
    ['output', `${view.pricing.completionPer1M} 0G a million tokens (${view.pricing.completion} neuron a token)`],
    ['context', view.contextLength === null ? 'unknown' : `${view.contextLength} tokens`],
    ['verifiability', `${printable(view.verifiability) || 'none'} (claimed)`],
    ['signer', `${view.teeSigner}${view.acknowledged ? ', acknowledged' : ', not acknowledged'}`],
    ['updated', view.updatedAt]
  ]
  ctx.print({ type: 'market_service', ...view }, lines.map(([name, value]) => `${name.padEnd(14)}${value}`).join('\n'))
}
