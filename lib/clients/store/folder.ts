/**
 * Stored folders: read, looked into, brought back to disk. What a folder says is checked as a whole before the first file is
 * written: no name and no link in it may lead out of the directory that it is restored to.
 */
import { constants } from 'node:fs'
import { lstat, mkdir, open, readlink, symlink, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { systemCode, ZgError } from '../../base/errors.ts'
import { toHex } from '../../base/hex.ts'
import type { DecryptWith } from '../../codec/storage/encryption.ts'
import {
  decodeFolder,
  FOLDER_MAX_BYTES,
  type FolderEntry,
  findInFolder,
  isFolder,
  unsafeOnDisk
} from '../../codec/storage/folder.ts'
import { cannotCreate, download } from './download.ts'
import type { CallOptions } from './node.ts'
import type { NodePool } from './nodes.ts'
import { RemoteStream } from './stream.ts'

export interface FolderOptions extends CallOptions {
  key?: DecryptWith | undefined
}

/** @throws {ZgError} ERR_BAD_INPUT when the root is not a folder's, ERR_CORRUPT when its list is malformed, as RemoteFile.open. */
export async function readFolder(pool: NodePool, root: Uint8Array, o: FolderOptions = {}): Promise<FolderEntry> {
  const stream = await RemoteStream.open(pool, [root], o)
  if (!(await looksLikeFolder(stream))) throw new ZgError('ERR_BAD_INPUT', `${toHex(root)} is a file, not a folder`)
  return decodeFolder(await stream.all(FOLDER_MAX_BYTES))
}

async function looksLikeFolder(stream: RemoteStream): Promise<boolean> {
  for await (const start of stream.bytes(0, Math.min(34, stream.sizeBytes), { window: 1 })) return isFolder(start)
  return false
}

/** The entry at a path in a stored folder. @throws {ZgError} ERR_NOT_FOUND. */
export function entryAt(top: FolderEntry, path: string): FolderEntry {
  const entry = findInFolder(top, path)
  if (entry !== undefined) return entry
  throw new ZgError('ERR_NOT_FOUND', `no '${path}' in the folder`)
}

/** An entry of a folder with its path from the top. */
export interface Listed {
  path: string
  entry: FolderEntry
}

/** Everything below an entry, folders before what is in them. */
export function* walkFolder(e: FolderEntry, at: readonly string[] = []): Generator<Listed & { at: readonly string[] }> {
  for (const entry of e.entries) {
    const path = [...at, entry.name]
    yield { path: path.join('/'), entry, at }
    if (entry.type === 'directory') yield* walkFolder(entry, path)
  }
}

export interface RestoreOptions extends FolderOptions {
  /** Replaces files that differ. */
  force?: boolean
  onProgress?: (doneBytes: number) => void
  onFile?: (path: string, entry: FolderEntry, resumedBytes: number) => void
}

/** Files that are read at the same time. */
const FILES_AT_ONCE = 4

/**
 * Restores a folder into a directory, which is made when it is not there. Files that are there already and right are left alone,
 * so an interrupted run goes on; others are an error without `force`. Links are made last: nothing is ever written through one.
 * @throws {ZgError} ERR_BAD_INPUT (a name or link that must not be on a disk), ERR_EXISTS, as download.
 */
export async function restoreFolder(
  pool: NodePool,
  top: FolderEntry,
  dir: string,
  o: RestoreOptions = {}
): Promise<void> {
  const all = [...walkFolder(top)]
  for (const { entry, at, path } of all) {
    const why = unsafeOnDisk(entry, at)
    if (why !== undefined) throw new ZgError('ERR_BAD_INPUT', `folder entry '${path.slice(0, 200)}': ${why}`)
  }
  await makeDirectory(dir, true)
  for (const { path, entry } of all) if (entry.type === 'directory') await makeDirectory(join(dir, path), false)
  const files = all.filter(l => l.entry.type === 'file')
  let next = 0
  let done = 0
  const lane = async (): Promise<void> => {
    for (let l = files[next++]; l !== undefined; l = files[next++]) {
      o.signal?.throwIfAborted()
      const target = join(dir, l.path)
      let last = 0
      const resumed = await restoreFile(pool, l.entry, target, o, n => {
        done += n - last
        last = n
        o.onProgress?.(done)
      })
      o.onFile?.(l.path, l.entry, resumed)
    }
  }
  const lanes = Array.from({ length: Math.min(FILES_AT_ONCE, files.length) }, lane)
  for (const r of await Promise.allSettled(lanes)) if (r.status === 'rejected') throw r.reason
  for (const { path, entry } of all) {
    if (entry.type === 'symbolic') await makeLink(join(dir, path), entry.link, o.force === true)
  }
}

async function restoreFile(
  pool: NodePool,
  entry: FolderEntry,
  target: string,
  o: RestoreOptions,
  onProgress: (n: number) => void
): Promise<number> {
  if (entry.roots.length === 0) {
    await makeEmpty(target, o.force === true)
    return 0
  }
  const { key, signal } = o
  const call = signal === undefined ? {} : { signal }
  const stream = await RemoteStream.open(pool, entry.roots, { key, ...call })
  const stored = stream.files.reduce((sum, f) => sum + f.sizeBytes, 0)
  if (stored !== entry.size) {
    throw new ZgError('ERR_CORRUPT', `folder says that '${entry.name}' has ${entry.size} bytes, it has ${stored}`)
  }
  const r = await download(stream, target, { ...call, force: o.force === true, keepEqual: true, onProgress })
  return r.resumedBytes
}

/** A directory that is one itself, not a link to one; `top`: how the user names it is his own business. */
async function makeDirectory(path: string, top: boolean): Promise<void> {
  try {
    await mkdir(path, { recursive: top })
  } catch (err) {
    if (systemCode(err) !== 'EEXIST') throw cannotCreate(path, err)
  }
  const s = await lstat(path)
  if (!s.isDirectory() && !top) throw new ZgError('ERR_EXISTS', `'${path}' is there and not a directory`)
}

async function makeEmpty(path: string, force: boolean): Promise<void> {
  const there = await lstat(path).catch(() => undefined)
  if (there?.isFile() && there.size === 0) return
  if (there !== undefined && !force) throw exists(path)
  if (there?.isSymbolicLink()) await unlink(path)
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW
  try {
    await (await open(path, flags, 0o666)).close()
  } catch (err) {
    throw cannotCreate(path, err)
  }
}

async function makeLink(path: string, target: string, force: boolean): Promise<void> {
  const there = await lstat(path).catch(() => undefined)
  if (there?.isSymbolicLink() && (await readlink(path)) === target) return
  if (there !== undefined) {
    if (!force || there.isDirectory()) throw exists(path)
    await unlink(path)
  }
  try {
    await symlink(target, path)
  } catch (err) {
    throw cannotCreate(join(dirname(path), '…'), err)
  }
}

function exists(path: string): ZgError {
  return new ZgError('ERR_EXISTS', `'${path}' exists`, { hint: "give '--force' to replace it" })
}
