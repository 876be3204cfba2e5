/** `zg-store diff`: what is different between two folders or files, each on this machine or stored. */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { rootsLike } from '../../../lib/clients/store/tree.ts'
import { diffFolders, entryAt, isDirectory, type NodePool, readFolder, treeRootOf } from '../../../lib/clients/store.ts'
import type { FolderEntry } from '../../../lib/codec/storage/folder.ts'
import { printDifference } from '../print.ts'
import { encryptionKey, findPool, parsePathInFolder } from './common.ts'

type Side =
  | { kind: 'folder'; top: FolderEntry; local: string | undefined }
  | { kind: 'file'; roots: string; path: string }

export const diff: VerbFn = async (ctx, args, opts) => {
  const key = await encryptionKey(ctx, opts, false)
  let pool: NodePool | undefined
  const side = async (text: string): Promise<Side> => {
    if (/^0x[0-9a-fA-F]{64}(\/|$)/.test(text)) {
      pool ??= await findPool(ctx, opts)
      return stored(ctx, pool, text, key)
    }
    return local(ctx, text, key)
  }
  const [a, b] = [await side(args[0]!), await side(args[1]!)]
  if (a.kind === 'file' || b.kind === 'file') return files(ctx, a, b)
  let differences = 0
  for (const d of diffFolders(a.top, b.top)) {
    if (d.change === 'changed' && (await sameByCut(ctx, a, b, d, key))) continue
    differences++
    printDifference(ctx, d)
  }
  return differences === 0 ? 0 : 1
}

async function stored(ctx: VerbContext, pool: NodePool, text: string, key: Uint8Array | undefined): Promise<Side> {
  const { root, path } = parsePathInFolder(text)
  const o = { signal: ctx.signal, key: key === undefined ? undefined : { key, privateKey: key } }
  try {
    const entry = entryAt(await readFolder(pool, root, o), path)
    if (entry.type === 'directory') return { kind: 'folder', top: entry, local: undefined }
    return { kind: 'file', roots: entry.roots.map(r => toHex(r)).join(' '), path: text }
  } catch (err) {
    if (!(err instanceof ZgError && err.code === 'ERR_BAD_INPUT') || path !== '') throw err
    return { kind: 'file', roots: toHex(root), path: text }
  }
}

async function local(ctx: VerbContext, path: string, key: Uint8Array | undefined): Promise<Side> {
  if (!(await isDirectory(path))) {
    return { kind: 'file', roots: (await rootsLike(path, [], { key, signal: ctx.signal })).join(' '), path }
  }
  const bar = ctx.progress('hash')
  const { top } = await treeRootOf(path, { key, signal: ctx.signal, onProgress: (d, t) => bar.update(d, t) })
  bar.done()
  return { kind: 'folder', top, local: path }
}

/** A local file has one root until it is cut; a stored one may have been cut. */
async function sameByCut(
  ctx: VerbContext,
  a: Side & { kind: 'folder' },
  b: Side & { kind: 'folder' },
  d: { path: string; before: FolderEntry | undefined; after: FolderEntry | undefined },
  key: Uint8Array | undefined
): Promise<boolean> {
  const [mine, theirs, dir] = a.local !== undefined ? [d.before!, d.after!, a.local] : [d.after!, d.before!, b.local]
  if (dir === undefined || (a.local !== undefined && b.local !== undefined)) return false
  if (mine.type !== 'file' || mine.size !== theirs.size || theirs.roots.length < 2) return false
  const roots = await rootsLike(`${dir}/${d.path}`, theirs.roots, { key, signal: ctx.signal, sizeBytes: theirs.size })
  return roots.join(' ') === theirs.roots.map(r => toHex(r)).join(' ')
}

function files(ctx: VerbContext, a: Side, b: Side): number {
  if (a.kind !== b.kind) {
    throw new ZgError('ERR_BAD_INPUT', 'one is a folder and the other a file')
  }
  const [x, y] = [a as Side & { kind: 'file' }, b as Side & { kind: 'file' }]
  if (x.roots === y.roots) return 0
  ctx.print(
    { type: 'difference', path: y.path, change: 'changed', before: x.roots, after: y.roots },
    `changed  ${x.path} ${y.path}`
  )
  return 1
}
