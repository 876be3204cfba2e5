/** `zg-compute complete`: continues a text. */
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { findTarget, meter, report, tell } from './answer.ts'
import { readPrompt, sampling } from './common.ts'

export async function complete(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const prompt = await readPrompt(ctx, args)
  const target = await findTarget(ctx, opts)
  const told = await tell(ctx, target, 'completions', { prompt, ...sampling(opts) }, { check: opts.check !== false })
  if (!ctx.json) await ctx.write(new TextEncoder().encode('\n'))
  report(ctx, target, told)
  if (opts.meter === true) ctx.say(meter(told))
}
