/** `zg-store stat`: who holds a file. */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { type StripeState, stripesOf } from '../../../lib/clients/store/admin.ts'
import { statFile } from '../../../lib/clients/store.ts'
import { printStat, printStripe } from '../print.ts'
import { findPool, parseRoot } from './common.ts'
import { findSockets } from './maintain.ts'

export const stat: VerbFn = async (ctx, args, opts) => {
  const text = args[0]!
  const key = /^[0-9]{1,15}$/.test(text) ? Number(text) : parseRoot(text)
  const views = await statFile(await findPool(ctx, opts), key, { signal: ctx.signal })
  printStat(ctx, views)
  const root = views.find(v => v.info !== undefined)?.info?.root
  if (root !== undefined) await stripes(ctx, toHex(root), opts.socket as string[] | undefined)
  if (views.some(v => v.state === 'final')) return 0
  if (views.every(v => v.state === 'down')) {
    throw new ZgError('ERR_UNAVAILABLE', `no storage node answers (asked ${views.length})`, {
      hint: "run 'zg-devnet status'"
    })
  }
  return 1
}

/** How the stripes stand, where a node of a coding group runs here; nothing to say of whole copies. */
async function stripes(ctx: VerbContext, root: string, given: string[] | undefined): Promise<void> {
  for (const socket of await findSockets(ctx, given)) {
    let list: StripeState[]
    try {
      list = await stripesOf(socket, root, ctx.signal)
    } catch (err) {
      if (given !== undefined || ctx.signal.aborted || !(err instanceof ZgError)) throw err
      continue
    }
    for (const s of list) printStripe(ctx, s)
    return
  }
}
