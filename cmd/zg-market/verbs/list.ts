/** `zg-market list`: the registry as a table, the best first. */
import { formatDuration, shortHash } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { type ServiceView, sorted } from '../view.ts'
import { openRegistry, viewAll } from './common.ts'

export async function list(ctx: VerbContext, _args: string[], opts: Options): Promise<number> {
  const registry = await openRegistry(ctx, opts)
  const model = opts.model as string | undefined
  const wanted = (await registry.services()).filter(s => model === undefined || s.model === model)
  const context = opts.context as number | undefined
  const views = sorted(await viewAll(ctx, opts, registry, wanted), opts.sort as string).filter(
    v =>
      (opts.live !== true || v.state === 'live') &&
      (context === undefined || (v.contextLength !== null && v.contextLength >= context))
  )
  if (!ctx.json && views.length > 0) printTable(ctx, views, opts.wide === true || !ctx.tty)
  else for (const view of views) ctx.print({ type: 'market_service', ...view }, null)
  if (views.length === 0) ctx.say(model === undefined ? 'no service matches' : `no service of '${model}' matches`)
  return views.length === 0 ? 1 : 0
}

function printTable(ctx: VerbContext, views: readonly ServiceView[], wide: boolean): void {
  const heads = ['MODEL', 'PROVIDER', 'IN/M', 'OUT/M', 'STATE', ...(wide ? ['VERIFY', 'URL'] : [])]
  const rows = views.map(v => [
    printable(v.model),
    wide ? v.provider : shortHash(v.provider),
    `${v.pricing.promptPer1M} 0G`,
    `${v.pricing.completionPer1M} 0G`,
    stateOf(v),
    ...(wide ? [printable(v.verifiability) || '-', printable(v.url)] : [])
  ])
  const widths = heads.map((h, i) => Math.max(h.length, ...rows.map(r => r[i]!.length)))
  for (const row of [heads, ...rows]) {
    const line = row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]!))).join('  ')
    ctx.print({ type: 'market_service' }, line)
  }
}

/** `live 12 ms`, `stale: nobody listens there`, `not asked`, `not acknowledged`. */
export function stateOf(v: ServiceView): string {
  if (!v.acknowledged) return 'not acknowledged'
  if (v.state === null) return 'not asked'
  return v.state === 'live' ? `live ${formatDuration(v.latencyMs ?? 0)}` : `stale: ${printable(v.reason ?? '')}`
}

/** Text of strangers on a terminal: no control characters, bounded. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '?').slice(0, 120)
}
