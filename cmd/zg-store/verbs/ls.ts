/** `zg-store ls`: the newest files; with a root what is in that folder. */
import type { VerbFn } from '../../../lib/cli/types.ts'
import { entryAt, listNewest, readFolder, walkFolder } from '../../../lib/clients/store.ts'
import { printEntry, printEntryHead, printList } from '../print.ts'
import { decryption, findPool, parsePathInFolder } from './common.ts'

export const ls: VerbFn = async (ctx, args, opts) => {
  const pool = await findPool(ctx, opts)
  if (args[0] === undefined) {
    const files = await listNewest(pool, opts.limit as number, { signal: ctx.signal })
    printList(ctx, files)
    return files.length === 0 ? 1 : 0
  }
  const { root, path } = parsePathInFolder(args[0])
  const key = await decryption(ctx, opts)
  const entry = entryAt(await readFolder(pool, root, { signal: ctx.signal, key }), path)
  const list =
    entry.type !== 'directory'
      ? [{ path: entry.name, entry }]
      : opts.recursive === true
        ? [...walkFolder(entry)]
        : entry.entries.map(e => ({ path: e.name, entry: e }))
  if (list.length > 0) printEntryHead(ctx)
  for (const l of list) printEntry(ctx, l)
  return 0
}
