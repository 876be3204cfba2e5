/** `zg-store stat`: who holds a file. */
import { ZgError } from '../../../lib/base/errors.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { statFile } from '../../../lib/clients/store.ts'
import { printStat } from '../print.ts'
import { findPool, parseRoot } from './common.ts'

export const stat: VerbFn = async (ctx, args, opts) => {
  const text = args[0]!
  const key = /^[0-9]{1,15}$/.test(text) ? Number(text) : parseRoot(text)
  const views = await statFile(await findPool(ctx, opts), key, { signal: ctx.signal })
  printStat(ctx, views)
  if (views.some(v => v.state === 'final')) return 0
  if (views.every(v => v.state === 'down')) {
    throw new ZgError('ERR_UNAVAILABLE', `no storage node answers (asked ${views.length})`, {
      hint: "run 'zg-devnet status'"
    })
  }
  return 1
}
