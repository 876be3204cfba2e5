/** `zg-compute models`: what a provider serves. */
import { ZgError } from '../../../lib/base/errors.ts'
import { formatAmount, formatCount } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { type ListedModel, listModels } from '../../../lib/clients/compute/session.ts'
import { findService, openContracts } from './common.ts'

export async function models(ctx: VerbContext, _args: string[], opts: Options): Promise<void> {
  const url = opts.url as string | undefined
  const root = url?.replace(/\/+$/, '') ?? `${(await findService(ctx, opts, await openContracts(ctx, opts))).url}/v1`
  const list = await listModels(root, ctx.signal)
  if (list.length === 0) throw new ZgError('ERR_NOT_FOUND', `${root} serves no model`)
  const rows = [['MODEL', 'CONTEXT', 'IN/M', 'OUT/M'], ...list.map(rowOf)]
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map(r => r[i]!.length)))
  if (!ctx.json)
    for (const row of rows)
      ctx.print(
        { type: 'model' },
        row
          .map((c, i) => c.padEnd(widths[i]!))
          .join('  ')
          .trimEnd()
      )
  else
    for (const m of list)
      ctx.print({ type: 'model', id: m.id, context_length: m.context_length ?? null, pricing: m.pricing ?? null }, null)
}

function rowOf(model: ListedModel): string[] {
  const price = (neuron: unknown): string =>
    typeof neuron === 'string' && /^[0-9]{1,60}$/.test(neuron) ? `${formatAmount(BigInt(neuron) * 1_000_000n)} 0G` : '-'
  return [
    model.id.slice(0, 120),
    typeof model.context_length === 'number' ? formatCount(model.context_length) : '-',
    price(model.pricing?.prompt),
    price(model.pricing?.completion)
  ]
}
