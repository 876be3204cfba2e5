/** What is different between two folders, by path: roots decide, so no byte of a file is fetched. */
import { compareBytes, equalBytes, utf8 } from '../../base/bytes.ts'
import type { FolderEntry } from '../../codec/storage/folder.ts'

export type Change = 'added' | 'removed' | 'changed' | 'type'

export interface Difference {
  path: string
  change: Change
  before: FolderEntry | undefined
  after: FolderEntry | undefined
}

/** Differences in the order of the paths. What is below an added or removed directory is told one by one. */
export function* diffFolders(a: FolderEntry, b: FolderEntry, at = ''): Generator<Difference> {
  const names = new Map<string, [FolderEntry | undefined, FolderEntry | undefined]>()
  for (const e of a.entries) names.set(e.name, [e, undefined])
  for (const e of b.entries) names.set(e.name, [names.get(e.name)?.[0], e])
  const sorted = [...names].sort(([x], [y]) => compareBytes(utf8(x), utf8(y)))
  for (const [name, [before, after]] of sorted) {
    const path = at === '' ? name : `${at}/${name}`
    if (before === undefined) yield* whole(after!, path, 'added')
    else if (after === undefined) yield* whole(before, path, 'removed')
    else if (before.type !== after.type) {
      yield { path, change: 'type', before, after }
      yield* below(before, path, 'removed')
      yield* below(after, path, 'added')
    } else if (before.type === 'directory') yield* diffFolders(before, after, path)
    else if (!same(before, after)) yield { path, change: 'changed', before, after }
  }
}

function* whole(e: FolderEntry, path: string, change: 'added' | 'removed'): Generator<Difference> {
  yield { path, change, before: change === 'removed' ? e : undefined, after: change === 'added' ? e : undefined }
  yield* below(e, path, change)
}

function* below(e: FolderEntry, path: string, change: 'added' | 'removed'): Generator<Difference> {
  for (const x of e.entries) yield* whole(x, `${path}/${x.name}`, change)
}

function same(a: FolderEntry, b: FolderEntry): boolean {
  if (a.size !== b.size || a.link !== b.link || a.roots.length !== b.roots.length) return false
  return a.roots.every((r, i) => equalBytes(r, b.roots[i]!))
}
