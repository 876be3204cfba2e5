/**
 * Writes a stored file to disk: into `PATH.part`, which is checked and continued after an interruption, synced, and renamed to
 * its final name only when whole. So a file under its final name is always complete and right.
 */
import { type FileHandle, open, rename, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { systemCode, ZgError } from '../../base/errors.ts'
import { SEGMENT_BYTES } from '../../codec/storage/shape.ts'
import type { RemoteFile } from './get.ts'

export interface DownloadOptions {
  signal?: AbortSignal | undefined
  /** Replace an existing file. */
  force?: boolean
  onProgress?: (doneBytes: number) => void
}

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
  file: RemoteFile,
  path: string,
  o: DownloadOptions = {}
): Promise<{ resumedBytes: number }> {
  await checkTarget(path, o.force === true)
  const part = `${path}.part`
  const handle = await openPart(part)
  try {
    const { size } = await handle.stat()
    const good = size === 0 ? 0 : await file.checkPrefix(Math.min(size, file.sizeBytes), readerOf(handle))
    const resumedBytes = Math.min(good * SEGMENT_BYTES, file.sizeBytes)
    await handle.truncate(resumedBytes)
    let at = resumedBytes
    o.onProgress?.(at)
    if (good < file.shape.segments) {
      for await (const segment of file.segments({ first: good, signal: o.signal })) {
        await writeAll(handle, segment, at, path)
        at += segment.length
        o.onProgress?.(at)
      }
    }
    await settle(handle, part, path)
    return { resumedBytes }
  } finally {
    await handle.close()
  }
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
    let at = 0
    for await (const bytes of parts) {
      await writeAll(handle, bytes, at, path)
      at += bytes.length
      o.onProgress?.(at)
    }
    await settle(handle, part, path)
  } finally {
    await handle.close()
  }
}

async function openPart(part: string): Promise<FileHandle> {
  try {
    return await open(part, 'r+')
  } catch (err) {
    if (systemCode(err) !== 'ENOENT') throw cannotCreate(part, err)
  }
  try {
    return await open(part, 'wx+')
  } catch (err) {
    throw cannotCreate(part, err)
  }
}

function cannotCreate(path: string, err: unknown): ZgError {
  const code = systemCode(err)
  const why =
    code === 'EACCES' || code === 'EPERM'
      ? 'permission denied'
      : code === 'ENOENT'
        ? 'no such directory'
        : code === 'EROFS'
          ? 'read-only file system'
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
