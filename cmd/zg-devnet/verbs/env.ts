/** `zg-devnet env`: the environment for a shell, a .env file or a program. */
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { requireNetwork } from '../control-client.ts'
import { environmentOf } from '../environment.ts'

export async function env(ctx: VerbContext, _args: string[], opts: Options): Promise<void> {
  const file = await requireNetwork(opts.name as string)
  const pairs = environmentOf(file, opts.keys === true)
  const format = ctx.json ? 'json' : (opts.format as string)
  if (format === 'json') {
    await ctx.write(Buffer.from(`${JSON.stringify({ type: 'environment', ...Object.fromEntries(pairs) })}\n`))
    return
  }
  const line = {
    sh: (n: string, v: string) => `export ${n}=${quote(v)}`,
    fish: (n: string, v: string) => `set -gx ${n} ${quote(v)}`,
    dotenv: (n: string, v: string) => `${n}=${v}`
  }[format as 'sh' | 'fish' | 'dotenv']
  for (const [name, value] of pairs) ctx.print({ type: 'environment' }, line(name, value))
}

/** Plain words stay plain; anything else stands in single quotes, which both shells read literally. */
function quote(value: string): string {
  return /^[A-Za-z0-9_./:,@%+=-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`
}
