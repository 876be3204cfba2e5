/**
 * Writes a stored file to disk: into `PATH.part`, which is checked and continued after an interruption, synced, and renamed to
 * its final name only when whole. So a file under its final name is always complete and right.
 */
import { constants } from 'node:fs'
import { type FileHandle, lstat, open, rename, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { systemCode, ZgError } from '../../base/errors.ts'
import { codec } from '../../native.ts'
import type { Chunk } from './get.ts'
import type { Downloadable } from './stream.ts'

export interface DownloadOptions {
  signal?: AbortSignal | undefined
  /** Replace an existing file. */
  force?: boolean
  /** A file that is there already and equal is left alone. */
  keepEqual?: boolean
  onProgress?: (doneBytes: number) => void
}

/** Files from this size on do not stay in the page cache; what is written is given back in such stretches. */
const CACHED_BYTES = 64 * 1024 * 1024
const BEHIND_BYTES = 8 * 1024 * 1024
/** Writes in flight to one file. */
const WRITES = 3

/** Refuses early, before anything is fetched. @throws {ZgError} ERR_EXISTS. */
export async function checkTarget(path: string, force: boolean): Promise<void> {
  const there = await stat(path).catch(() => undefined)
  if (there?.isDirectory()) throw new ZgError('ERR_EXISTS', `'${path}' is a directory`)
  if (there !== undefined && !force) {
    throw new ZgError('ERR_EXISTS', `'${path}' exists`, { hint: "give '--force' to replace it" })
  }
}

/**
 * Downloads one file.
 * @returns bytes that were already there from an earlier attempt.
 * @throws {ZgError} as RemoteFile.segments, and ERR_EXISTS, ERR_DISK_FULL, ERR_IO.
 */
export async function download(
  file: Downloadable,
  path: string,
  o: DownloadOptions = {}
): Promise<{ resumedBytes: number }> {
  if (o.keepEqual === true && (await isEqual(file, path))) {
    o.onProgress?.(file.sizeBytes)
    return { resumedBytes: file.sizeBytes }
  }
  await checkTarget(path, o.force === true)
  const part = `${path}.part`
  const handle = await openPart(part)
  try {
    const { size } = await handle.stat()
    const resumedBytes = size === 0 ? 0 : await file.resumeAt(size, readerOf(handle))
    await handle.truncate(resumedBytes)
    o.onProgress?.(resumedBytes)
    const signal = o.signal === undefined ? {} : { signal: o.signal }
    const parts = file.chunks(resumedBytes, file.sizeBytes, signal)
    await writeStream(handle, parts, resumedBytes, path, o)
    await settle(handle, part, path)
    return { resumedBytes }
  } finally {
    await handle.close()
  }
}

/** True when the file is on disk already, whole and right. */
async function isEqual(file: Downloadable, path: string): Promise<boolean> {
  const there = await lstat(path).catch(() => undefined)
  if (!there?.isFile() || there.size !== file.sizeBytes) return false
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => undefined)
  if (handle === undefined) return false
  try {
    return (await file.resumeAt(file.sizeBytes, readerOf(handle))) === file.sizeBytes
  } finally {
    await handle.close()
  }
}

/** Writes parts as they come; the next ones are fetched and checked while one is being written. */
async function writeStream(
  handle: FileHandle,
  parts: AsyncIterable<Chunk>,
  start: number,
  path: string,
  o: DownloadOptions
): Promise<void> {
  let at = start
  const writing = new Set<Promise<void>>()
  const cache = new Behind(handle, start)
  let failed: unknown
  try {
    for await (const { bytes, release } of parts) {
      const write = writeAll(handle, bytes, at, path)
        .then(release, err => {
          failed ??= err
        })
        .finally(() => writing.delete(write))
      writing.add(write)
      at += bytes.length
      if (writing.size >= WRITES) await Promise.race(writing)
      if (failed !== undefined) throw failed
      await cache.reached(at, writing)
      o.onProgress?.(at)
    }
  } finally {
    await Promise.all(writing)
    await cache.done()
  }
  if (failed !== undefined) throw failed
  if (cache.failed !== undefined) throw new ZgError('ERR_IO', `cannot sync '${path}'`, { cause: cache.failed })
}

/**
 * Gives the pages of a large file back while it is being written. Fresh pages for all of it cost more than fetching and hashing it: where free
 * memory has to be asked of a host first, twice the processor time of the whole download (docs/decisions/0063). Small files stay cached.
 */
class Behind {
  readonly #handle: FileHandle
  #from: number
  #at: number
  #running: Promise<void> = Promise.resolve()
  failed: unknown

  constructor(handle: FileHandle, start: number) {
    this.#handle = handle
    this.#from = start
    this.#at = start
  }

  /** Everything below `at` is written or among `writing`. Waits when the disk is two stretches behind. */
  async reached(at: number, writing: ReadonlySet<Promise<void>>): Promise<void> {
    if (at - this.#at < BEHIND_BYTES) return
    const [from, length, last] = [this.#from, at - this.#from, this.#running]
    this.#at = at
    if (at < CACHED_BYTES) return
    this.#from = at
    const written = Promise.all(writing)
    await last
    this.#running = (async () => {
      await written
      try {
        await this.#handle.datasync()
        codec().dropCached(this.#handle.fd, from, length)
      } catch (err) {
        // The system tells a failed sync once: the one of the whole file would not say so again.
        this.failed ??= err
      }
    })()
  }

  done(): Promise<void> {
    return this.#running
  }
}

async function* owned(parts: AsyncIterable<Uint8Array>): AsyncGenerator<Chunk> {
  for await (const bytes of parts) yield { bytes, release: () => {} }
}

/** Writes any stream to disk under the same promise, without resuming. */
export async function saveStream(
  parts: AsyncIterable<Uint8Array>,
  path: string,
  o: DownloadOptions = {}
): Promise<void> {
  await checkTarget(path, o.force === true)
  const part = `${path}.part`
  const handle = await openPart(part)
  try {
    await handle.truncate(0)
    await writeStream(handle, owned(parts), 0, path, o)
    await settle(handle, part, path)
  } finally {
    await handle.close()
  }
}

/** Opens or makes the unfinished file. A link in its place is refused: it may lead anywhere. */
async function openPart(part: string): Promise<FileHandle> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK
  let handle: FileHandle
  try {
    handle = await open(part, flags, 0o666)
  } catch (err) {
    throw cannotCreate(part, err)
  }
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  throw new ZgError('ERR_EXISTS', `'${part}' is there and not a file`)
}

/** What people read when a file or directory cannot be made. */
export function cannotCreate(path: string, err: unknown): ZgError {
  const code = systemCode(err)
  const why =
    code === 'EACCES' || code === 'EPERM'
      ? 'permission denied'
      : code === 'ENOENT'
        ? 'no such directory'
        : code === 'EROFS'
          ? 'read-only file system'
          : code === 'ENAMETOOLONG'
            ? 'its path is too long'
            : code === 'ELOOP'
              ? 'a link is in its place'
              : code === 'ENOTDIR' || code === 'EISDIR' || code === 'EEXIST'
                ? 'something else is in its place'
                : 'the system refused'
  return new ZgError('ERR_EXISTS', `cannot create '${path}': ${why}`, { cause: err })
}

function readerOf(handle: FileHandle): (offset: number, length: number) => Promise<Uint8Array> {
  return async (offset, length) => {
    const out = new Uint8Array(length)
    let at = 0
    while (at < length) {
      const { bytesRead } = await handle.read(out, at, length - at, offset + at)
      if (bytesRead === 0) break
      at += bytesRead
    }
    return out.subarray(0, at)
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, offset: number, path: string): Promise<void> {
  try {
    let at = 0
    while (at < bytes.length) {
      const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, offset + at)
      at += bytesWritten
    }
  } catch (err) {
    const code = systemCode(err)
    if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG') {
      throw new ZgError('ERR_DISK_FULL', `cannot write '${path}': no space left`, {
        cause: err,
        hint: 'make room and run the same command again; it goes on where it stopped'
      })
    }
    throw new ZgError('ERR_IO', `cannot write '${path}'`, { cause: err })
  }
}

/** Synced before the rename, and the rename synced too: a power loss leaves the part or the whole, never a hole. */
async function settle(handle: FileHandle, part: string, path: string): Promise<void> {
  await handle.sync()
  await rename(part, path)
  const dir = await open(dirname(path) || '.', 'r')
  await dir.sync().finally(() => dir.close())
}
