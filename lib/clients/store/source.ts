/**
 * What is put: bytes of a known size that can be read twice, once for hashing and once for sending. A regular file is read in
 * place; a pipe is spooled to a temporary file (disk, not memory) that is gone when the process is.
 */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { assert, systemCode, ZgError } from '../../base/errors.ts'

export interface Source {
  readonly sizeBytes: number
  /**
   * Exactly `length` bytes, unless the end comes first.
   * @param into - may be used for them when it is large enough; the result is then a view of it.
   */
  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>
  /** The path, when the bytes lie in a file exactly as they are stored; lets native code read them itself. */
  readonly path?: string
  /** @throws {ZgError} ERR_BAD_INPUT when the file changed since it was opened. */
  check(): Promise<void>
  close(): Promise<void>
}

/** Turns a system error about an input into a message for people. */
export function inputError(path: string, err: unknown): ZgError {
  const code = systemCode(err)
  if (code === 'ENOENT') return new ZgError('ERR_NO_INPUT', `cannot open '${path}': no such file`, { cause: err })
  if (code === 'EACCES' || code === 'EPERM')
    return new ZgError('ERR_NO_INPUT', `cannot open '${path}': permission denied`, {
      cause: err,
      hint: `run 'chmod u+r ${path}'`
    })
  if (code === 'EISDIR')
    return new ZgError('ERR_BAD_INPUT', `'${path}' is a directory`, {
      cause: err,
      hint: `run 'tar c ${path} | zg-store put'`
    })
  return err instanceof ZgError ? err : new ZgError('ERR_IO', `cannot read '${path}'`, { cause: err })
}

class FileSource implements Source {
  readonly sizeBytes: number
  readonly path: string
  /** Another one after every change. */
  readonly version: string
  readonly #handle: FileHandle
  readonly #mtimeMs: number
  constructor(handle: FileHandle, path: string, sizeBytes: number, mtimeMs: number, inode = 0) {
    this.version = `${inode} ${mtimeMs}`
    this.#handle = handle
    this.path = path
    this.sizeBytes = sizeBytes
    this.#mtimeMs = mtimeMs
  }

  async read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array> {
    const want = Math.max(0, Math.min(length, this.sizeBytes - offset))
    // Not zeroed first: it is filled to its end, or nobody gets it.
    const out = into !== undefined && into.length >= want ? into.subarray(0, want) : Buffer.allocUnsafeSlow(want)
    let at = 0
    while (at < want) {
      const { bytesRead } = await this.#handle.read(out, at, want - at, offset + at)
      if (bytesRead === 0) throw new ZgError('ERR_BAD_INPUT', `'${this.path}' became shorter while it was read`)
      at += bytesRead
    }
    return out
  }

  async check(): Promise<void> {
    const s = await this.#handle.stat()
    if (s.size !== this.sizeBytes || s.mtimeMs !== this.#mtimeMs)
      throw new ZgError('ERR_BAD_INPUT', `'${this.path}' changed while it was read`)
  }

  close(): Promise<void> {
    return this.#handle.close()
  }
}

/** True when the path is a regular file; pipes, sockets and devices have to be spooled. @throws {ZgError} ERR_NO_INPUT. */
export async function openSource(path: string): Promise<Source | { handle: FileHandle }> {
  let handle: FileHandle
  try {
    handle = await open(path, 'r')
  } catch (err) {
    throw inputError(path, err)
  }
  const s = await handle.stat()
  if (s.isDirectory()) {
    await handle.close()
    throw inputError(path, Object.assign(new Error('is a directory'), { code: 'EISDIR' }))
  }
  return s.isFile() ? new FileSource(handle, path, s.size, s.mtimeMs) : { handle }
}

/**
 * A regular file and nothing else, not even through a link: for the files of a directory, which may change while it is read.
 * @throws {ZgError} ERR_NO_INPUT, ERR_BAD_INPUT.
 */
export async function openRegular(path: string): Promise<Source & { readonly version: string }> {
  let handle: FileHandle
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (err) {
    throw inputError(path, err)
  }
  const s = await handle.stat()
  if (s.isFile()) return new FileSource(handle, path, s.size, s.mtimeMs, s.ino)
  await handle.close()
  throw new ZgError('ERR_BAD_INPUT', `'${path}' is no longer a regular file`)
}

/** A file in memory, for small things that were made here (key-value records). */
export function memorySource(bytes: Uint8Array): Source {
  return {
    sizeBytes: bytes.length,
    read: async (offset, length) => bytes.subarray(offset, Math.min(bytes.length, offset + length)),
    check: async () => {},
    close: async () => {}
  }
}

/** A part of a source as a source: a fragment. */
export function slice(source: Source, start: number, sizeBytes: number): Source {
  assert(start >= 0 && start + sizeBytes <= source.sizeBytes, 'a fragment lies within its file')
  return {
    sizeBytes,
    read: (offset, length, into) => source.read(start + offset, Math.min(length, sizeBytes - offset), into),
    check: () => source.check(),
    close: async () => {}
  }
}

/**
 * Writes a stream of unknown length to a temporary file in `dir`. The name is removed at once where the system allows it, so
 * that even SIGKILL leaves nothing behind.
 * @param onBytes - sees every part in order, before it is written: hashing happens there.
 */
export async function spool(
  stream: AsyncIterable<Uint8Array>,
  dir: string,
  onBytes: (part: Uint8Array) => void | Promise<void>,
  signal?: AbortSignal
): Promise<Source> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const path = join(dir, `put-${randomBytes(8).toString('hex')}.spool`)
  const handle = await open(path, 'wx+', 0o600)
  try {
    await unlink(path)
    let size = 0
    for await (const part of stream) {
      signal?.throwIfAborted()
      await onBytes(part)
      let at = 0
      while (at < part.length) {
        const { bytesWritten } = await handle.write(part, at, part.length - at, size + at)
        at += bytesWritten
      }
      size += part.length
    }
    const source = new FileSource(handle, path, size, 0)
    return {
      sizeBytes: size,
      read: (offset, length, into) => source.read(offset, length, into),
      check: async () => {},
      close: () => handle.close()
    }
  } catch (err) {
    await handle.close()
    const code = systemCode(err)
    if (code === 'ENOSPC' || code === 'EDQUOT')
      throw new ZgError('ERR_DISK_FULL', `no space left in '${dir}' to keep what comes from the pipe`, {
        cause: err,
        hint: "set TMPDIR to a disk with room, or give 'put' a file"
      })
    throw err
  }
}
