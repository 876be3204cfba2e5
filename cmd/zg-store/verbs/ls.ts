/** `zg-store ls`: the newest files. */
import type { VerbFn } from '../../../lib/cli/types.ts'
import { listNewest } from '../../../lib/clients/store.ts'
import { printList } from '../print.ts'
import { findPool } from './common.ts'

export const ls: VerbFn = async (ctx, _args, opts) => {
  const files = await listNewest(await findPool(ctx, opts), opts.limit as number, { signal: ctx.signal })
  printList(ctx, files)
  return files.length === 0 ? 1 : 0
}
