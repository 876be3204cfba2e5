/** `zg-devnet env`: the environment for a shell, a .env file or a program. */
import { messageOf } from '../../../lib/base/errors.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import type { NetworkFile } from '../../../lib/clients/network.ts'
import { requireNetwork } from '../control-client.ts'
import { environmentOf } from '../environment.ts'
import { runTool } from '../run-tool.ts'

export async function env(ctx: VerbContext, _args: string[], opts: Options): Promise<void> {
  const file = await requireNetwork(opts.name as string)
  const pairs = environmentOf(file, opts.keys === true, await sessionToken(ctx, file))
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

/** Account 0's token for the local provider, lasting a day; undefined where there is no provider or no account there. */
async function sessionToken(ctx: VerbContext, file: NetworkFile): Promise<string | undefined> {
  if (file.endpoints.provider === undefined) return undefined
  const args = ['account', 'key', '--provider', file.endpoints.provider, '--account', '0', '--quiet']
  try {
    return (await runTool('zg-compute', args, { env: { ...process.env, ZG_NETWORK: file.name } })).trim()
  } catch (err) {
    ctx.warn(`OPENAI_API_KEY is left out: ${messageOf(err)}`)
    return undefined
  }
}
