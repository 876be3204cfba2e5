/**
 * The file system as a {@link Disk}. Files are made 0600 and directories 0700: what a node keeps is nobody else's business.
 * A file whose sync has failed refuses everything afterwards: Linux reports a lost page once and then forgets it, so a second,
 * successful sync would prove nothing.
 */
import { constants, type FileHandle, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type ErrorCode, messageOf, systemCode, ZgError } from '../base/errors.ts'
import { codec } from '../native.ts'
import type { Disk, DiskFile } from '../ports/disk.ts'

/** Below this a read allocates what was asked for; above it the file's size is looked up first. */
const BLIND_READ_BYTES = 1024 * 1024

export const systemDisk: Disk = {
  async open(path, mode) {
    // 'a+' would force appends and 'w+' would cut, so `create` is two tries: open, then exclusive creation.
    if (mode === 'new') return openFile(path, 'wx+')
    try {
      return await openFile(path, 'r+')
    } catch (err) {
      if (mode === 'open' || !(err instanceof ZgError) || err.code !== 'ERR_NOT_FOUND') throw err
    }
    try {
      return await openFile(path, 'wx+')
    } catch (err) {
      if (!(err instanceof ZgError) || err.code !== 'ERR_EXISTS') throw err
    }
    return openFile(path, 'r+')
  },
  async mkdir(path) {
    // Every new directory is an entry of its parent: durable when this returns.
    for (const made of await makeDirs(path)) await systemDisk.syncDir(dirname(made))
  },
  async list(path) {
    return (await guard('list', path, () => readdir(path))).sort()
  },
  async exists(path) {
    try {
      await guard('look up', path, () => stat(path))
      return true
    } catch (err) {
      if (err instanceof ZgError && err.code === 'ERR_NOT_FOUND') return false
      throw err
    }
  },
  rename: (from, to) => guard('rename', from, () => rename(from, to)),
  async remove(path) {
    try {
      await guard('remove', path, () => unlink(path))
    } catch (err) {
      if (!(err instanceof ZgError) || err.code !== 'ERR_NOT_FOUND') throw err
    }
  },
  async syncDir(path) {
    const dir = await guard('open', path, () => open(path, 'r'))
    try {
      await guard('sync', path, () => dir.sync())
    } finally {
      await dir.close()
    }
  }
}

/**
 * Creates a directory (0700) and its parents. Node's own recursive mkdir never returns where the system answers ENOENT below
 * an existing parent (`/proc/x`).
 * @returns the directories made, outermost first.
 */
export async function makeDirs(path: string): Promise<string[]> {
  try {
    await mkdir(path, { mode: 0o700 })
    return [path]
  } catch (err) {
    const code = systemCode(err)
    if (code === 'EEXIST') {
      if ((await guard('look up', path, () => stat(path))).isDirectory()) return []
      throw diskError(err, 'create', path)
    }
    const parent = dirname(path)
    if (code !== 'ENOENT' || parent === path) throw diskError(err, 'create', path)
    const made = await makeDirs(parent)
    try {
      await mkdir(path, { mode: 0o700 })
      return [...made, path]
    } catch (again) {
      // Another process may have made it meanwhile.
      if (systemCode(again) === 'EEXIST') return made
      throw diskError(again, 'create', path)
    }
  }
}

async function openFile(path: string, flags: string): Promise<DiskFile> {
  const handle = await guard('open', path, () => open(path, flags, 0o600))
  return diskFile(handle, path)
}

/** From this size on a cold write goes past the page cache. */
const DIRECT_BYTES = 512 * 1024

function diskFile(handle: FileHandle, path: string): DiskFile {
  let failed = false
  let direct: Promise<FileHandle | undefined> | undefined
  const use = <T>(verb: string, fn: () => Promise<T>): Promise<T> => {
    if (failed) {
      return Promise.reject(new ZgError('ERR_IO', `cannot ${verb} '${path}': an earlier sync of it failed`))
    }
    return guard(verb, path, fn)
  }
  return {
    size: () => use('look up', async () => (await handle.stat()).size),
    read: (offset, length) => use('read', () => readExactly(handle, offset, length)),
    readInto: (offset, target) => use('read', () => fill(handle, offset, target)),
    readCold: (offset, target) => {
      const { readCold } = codec()
      return use('read', () =>
        readCold === undefined ? fill(handle, offset, target) : readCold(handle.fd, offset, target)
      )
    },
    write: (offset, ...buffers) => use('write', () => writeAll(handle, offset, buffers)),
    writeCold: (offset, ...buffers) =>
      use('write', async () => {
        const size = buffers.reduce((sum, b) => sum + b.length, 0)
        direct ??= size < DIRECT_BYTES ? undefined : openDirect(handle)
        const past = size < DIRECT_BYTES ? undefined : await direct
        if (past === undefined) await writeAll(handle, offset, buffers)
        else await codec().writeDirect!(handle.fd, past.fd, offset, buffers)
      }),
    letGo: (offset, length) => {
      if (!failed && handle.fd >= 0) codec().dropCached(handle.fd, offset, length)
    },
    truncate: size => use('truncate', () => handle.truncate(size)),
    async sync() {
      try {
        // fdatasync writes the size too when it changed: all that reading the data back needs.
        await use('sync', () => handle.datasync())
      } catch (err) {
        failed = true
        throw err
      }
    },
    close: () =>
      guard('close', path, async () => {
        await (await direct)?.close()
        await handle.close()
      })
  }
}

/** The same file once more, past the page cache; undefined where the system or its file system has no such thing. */
async function openDirect(handle: FileHandle): Promise<FileHandle | undefined> {
  if (codec().writeDirect === undefined) return undefined
  try {
    return await open(`/proc/self/fd/${handle.fd}`, constants.O_RDWR | constants.O_DIRECT)
  } catch {
    return undefined
  }
}

async function readExactly(handle: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  let want = length
  if (want > BLIND_READ_BYTES) want = Math.min(want, Math.max(0, (await handle.stat()).size - offset))
  // A plain Uint8Array, not a Buffer: Buffer's slice shares memory where Uint8Array's copies.
  const out = new Uint8Array(Buffer.allocUnsafeSlow(want).buffer)
  const got = await fill(handle, offset, out)
  return got === want ? out : out.slice(0, got)
}

async function fill(handle: FileHandle, offset: number, out: Uint8Array): Promise<number> {
  let got = 0
  while (got < out.length) {
    const { bytesRead } = await handle.read(out, got, out.length - got, offset + got)
    if (bytesRead === 0) break
    got += bytesRead
  }
  return got
}

async function writeAll(handle: FileHandle, offset: number, buffers: Uint8Array[]): Promise<void> {
  let rest = buffers.filter(b => b.length > 0)
  let at = offset
  while (rest.length > 0) {
    const { bytesWritten } =
      rest.length === 1 ? await handle.write(rest[0]!, 0, rest[0]!.length, at) : await handle.writev(rest, at)
    at += bytesWritten
    let skip = bytesWritten
    while (rest.length > 0 && skip >= rest[0]!.length) {
      skip -= rest[0]!.length
      rest = rest.slice(1)
    }
    if (skip > 0) rest = [rest[0]!.subarray(skip), ...rest.slice(1)]
  }
}

const KNOWN: Record<string, [code: ErrorCode, words: string, hint?: string]> = {
  ENOENT: ['ERR_NOT_FOUND', 'no such file or directory'],
  ENOTDIR: ['ERR_NOT_FOUND', 'a part of the path is not a directory'],
  EEXIST: ['ERR_EXISTS', 'it exists already'],
  ENOSPC: ['ERR_DISK_FULL', 'no space left on the disk', 'free some space and try again'],
  EDQUOT: ['ERR_DISK_FULL', 'the disk quota is used up', 'free some space and try again'],
  EFBIG: ['ERR_DISK_FULL', 'the file size limit is reached', "see 'ulimit -f'"],
  EACCES: ['ERR_PERMISSION', 'permission denied'],
  EPERM: ['ERR_PERMISSION', 'operation not permitted'],
  EROFS: ['ERR_PERMISSION', 'the file system is read-only'],
  EIO: ['ERR_IO', 'input/output error', 'the disk may be failing: look at the system log'],
  EISDIR: ['ERR_IO', 'it is a directory'],
  EMFILE: ['ERR_IO', 'too many open files', "see 'ulimit -n'"],
  ENFILE: ['ERR_IO', 'too many open files on this machine'],
  EXDEV: ['ERR_IO', 'source and target are on different file systems']
}

/**
 * Turns a system error into a ZgError that says what could not be done with which file.
 * @param verb - `open`, `write`, …: stands after `cannot`.
 */
export function diskError(err: unknown, verb: string, path: string): ZgError {
  if (err instanceof ZgError) return err
  const [code, words, hint] = KNOWN[systemCode(err) ?? ''] ?? ['ERR_IO', messageOf(err)]
  return new ZgError(code, `cannot ${verb} '${path}': ${words}`, { hint, cause: err })
}

async function guard<T>(verb: string, path: string, fn: () => Promise<T>): Promise<T> {
  try {
    return await fn()
  } catch (err) {
    throw diskError(err, verb, path)
  }
}
