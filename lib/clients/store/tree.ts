/**
 * A directory of this machine as the folder that would be stored: what is in it, in order, without following anything out of it.
 * The root of a folder depends on names, sizes, roots and links alone, not on times, owners or the order of the disk.
 */
import type { Dirent } from 'node:fs'
import { lstat, readdir, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { compareBytes, utf8 } from '../../base/bytes.ts'
import { systemCode, ZgError } from '../../base/errors.ts'
import { toHex } from '../../base/hex.ts'
import { encodeFolder, FOLDER_MAX_ENTRIES, type FolderEntry, unsafeOnDisk } from '../../codec/storage/folder.ts'
import { fragments } from '../../codec/storage/fragments.ts'
import { type FileHash, hashBytes } from '../../codec/storage/hasher.ts'
import { hashSource } from './put.ts'
import { encryptedSource, type Lock } from './secret.ts'
import { inputError, openRegular, type Source, slice } from './source.ts'

/** A file of the tree, or a fragment of one, ready to be stored. */
export interface TreeFile {
  /** Path on this machine. */
  path: string
  /** Path in the folder, names separated by `/`. */
  name: string
  /** Its entry in the folder, whose `roots` are filled in by hashing. */
  entry: FolderEntry
}

export interface LocalTree {
  top: FolderEntry
  files: TreeFile[]
  bytes: number
}

/**
 * Lists a directory with everything below it.
 * @throws {ZgError} ERR_NO_INPUT, ERR_BAD_INPUT (a device, pipe or socket, a name that a folder cannot have, a link that leads
 *   out, too many entries).
 */
export async function scanTree(dir: string, signal?: AbortSignal): Promise<LocalTree> {
  const tree: LocalTree = { top: directory(''), files: [], bytes: 0 }
  let count = 0
  const walk = async (path: string, into: FolderEntry, at: string[]): Promise<void> => {
    signal?.throwIfAborted()
    for (const d of sorted(await list(path))) {
      if (++count > FOLDER_MAX_ENTRIES) {
        throw new ZgError('ERR_BAD_INPUT', `'${dir}' has more than ${FOLDER_MAX_ENTRIES} entries`, {
          hint: `run 'tar c ${dir} | zg-store put'`
        })
      }
      const full = join(path, d.name)
      const entry = await entryOf(full, d)
      const why = unsafeOnDisk(entry, at)
      if (why !== undefined) throw new ZgError('ERR_BAD_INPUT', `cannot store '${full}': ${why}`)
      into.entries.push(entry)
      if (entry.type === 'directory') await walk(full, entry, [...at, d.name])
      if (entry.type !== 'file') continue
      tree.bytes += entry.size
      tree.files.push({ path: full, name: [...at, d.name].join('/'), entry })
    }
  }
  await walk(dir, tree.top, [])
  return tree
}

function directory(name: string): FolderEntry {
  return { name, type: 'directory', roots: [], size: 0, link: '', entries: [] }
}

async function list(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true })
  } catch (err) {
    throw inputError(path, err)
  }
}

function sorted(list: Dirent[]): Dirent[] {
  return list.sort((a, b) => compareBytes(utf8(a.name), utf8(b.name)))
}

async function entryOf(path: string, d: Dirent): Promise<FolderEntry> {
  // A name that is not UTF-8 would come back as another one.
  if (d.name.includes('\ufffd')) throw new ZgError('ERR_BAD_INPUT', `cannot store '${path}': its name is not UTF-8`)
  try {
    if (d.isDirectory()) return directory(d.name)
    if (d.isSymbolicLink()) return { ...directory(d.name), type: 'symbolic', link: await readlink(path) }
    if (d.isFile()) return { ...directory(d.name), type: 'file', size: (await lstat(path)).size }
  } catch (err) {
    throw inputError(path, err)
  }
  const kind = d.isFIFO() ? 'a pipe' : d.isSocket() ? 'a socket' : 'a device'
  throw new ZgError('ERR_BAD_INPUT', `cannot store '${path}': it is ${kind}`)
}

export interface TreeHashOptions {
  /** Files are stored encrypted with this; the sizes in the folder are then those of the stored streams. */
  key?: Lock | undefined
  fragmentBytes?: number | undefined
  signal?: AbortSignal
  onProgress?: (doneBytes: number, totalBytes: number) => void
}

/** A piece of a file: its hash, and how to read it later. */
export interface TreePiece {
  hash: FileHash
  /** @throws {ZgError} ERR_BAD_INPUT when the file is another one than was hashed. */
  open: () => Promise<Source>
}

/** Hashes one file of a tree and notes its roots in its entry; nothing stays open. An empty file has no pieces. */
export async function hashTreeFile(f: TreeFile, o: TreeHashOptions = {}): Promise<TreePiece[]> {
  const plain = await openRegular(f.path)
  try {
    f.entry.size = 0
    f.entry.roots = []
    if (plain.sizeBytes === 0) return []
    const signal = o.signal === undefined ? {} : { signal: o.signal }
    const { key } = o
    const encrypted = key === undefined ? undefined : await encryptedSource(plain, key, signal)
    const source = encrypted ?? plain
    const cut = o.fragmentBytes === undefined ? [] : fragments(source.sizeBytes, o.fragmentBytes)
    const again = async (start: number, sizeBytes: number): Promise<Source> => {
      const file = await openRegular(f.path)
      if (file.sizeBytes !== plain.sizeBytes || file.version !== plain.version) {
        await file.close()
        throw new ZgError('ERR_BAD_INPUT', `'${f.path}' changed while it was stored`)
      }
      const whole = key === undefined ? file : await encryptedSource(file, key, { stream: encrypted!.stream })
      if (start === 0 && sizeBytes === whole.sizeBytes) return whole
      return { ...slice(whole, start, sizeBytes), close: () => file.close() }
    }
    const parts = cut.length > 1 ? cut : [{ offset: 0, size: source.sizeBytes }]
    const pieces: TreePiece[] = []
    for (const { offset, size } of parts) {
      const part = parts.length === 1 ? source : slice(source, offset, size)
      pieces.push({ hash: await hashSource(part, signal), open: () => again(offset, size) })
    }
    f.entry.size = source.sizeBytes
    f.entry.roots = pieces.map(p => p.hash.root)
    return pieces
  } finally {
    await plain.close()
  }
}

/** Hashes all files of a tree; `top` is then the whole folder. @returns the pieces of all files. */
export async function hashTree(tree: LocalTree, o: TreeHashOptions = {}): Promise<TreePiece[]> {
  const pieces: TreePiece[][] = []
  let next = 0
  let done = 0
  const lane = async (): Promise<void> => {
    while (next < tree.files.length) {
      o.signal?.throwIfAborted()
      const i = next++
      const f = tree.files[i]!
      pieces[i] = await hashTreeFile(f, o)
      done += f.entry.size
      o.onProgress?.(done, tree.bytes)
    }
  }
  // Small files are bound by opening them, not by hashing.
  await Promise.all(Array.from({ length: Math.min(4, tree.files.length) }, lane))
  return pieces.flat()
}

/** The root of a directory as `put` would store it. @throws {ZgError} as scanTree. */
export async function treeRootOf(dir: string, o: TreeHashOptions = {}): Promise<{ top: FolderEntry; hash: FileHash }> {
  const tree = await scanTree(dir, o.signal)
  await hashTree(tree, o)
  return { top: tree.top, hash: hashBytes(encodeFolder(tree.top)) }
}

/**
 * The roots of a local file, 0x, cut as a stored one was.
 * @param like - roots of the stored one; its cut follows from their number and its size.
 */
export async function rootsLike(
  path: string,
  like: readonly Uint8Array[],
  o: { key?: Uint8Array | undefined; signal?: AbortSignal; sizeBytes?: number } = {}
): Promise<string[]> {
  const { sizeBytes, ...rest } = o
  // Only one power of two cuts this size into this many pieces.
  const cut = like.length < 2 ? {} : { fragmentBytes: 2 ** Math.ceil(Math.log2(sizeBytes! / like.length)) }
  const file: TreeFile = { path, name: '', entry: { ...directory(''), type: 'file' } }
  await hashTreeFile(file, { ...rest, ...cut })
  return file.entry.roots.map(r => toHex(r))
}

/** True when the path is a directory, following links. */
export async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return false
    throw inputError(path, err)
  }
}
