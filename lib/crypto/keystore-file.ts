/**
 * Key files on disk (reliability.md 7): the directory is 0700, a file 0600 and a regular file of this user. A new file is
 * written under a temporary name, synced, moved to its name without replacing anything, and the directory is synced, so that
 * a crash leaves either no key file or a whole one.
 */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, link, lstat, mkdir, open, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { systemCode, ZgError } from '../base/errors.ts'
import { LIMITS } from '../base/limits.ts'
import { decryptKey, encryptKey, type ScryptCost } from './keystore.ts'

/**
 * Encrypts a key into a new file.
 * @param replace - overwrite an existing file atomically; otherwise that is ERR_EXISTS.
 * @throws {ZgError} ERR_EXISTS, ERR_PERMISSION (a directory open to others, a symbolic link), ERR_IO, ERR_BAD_INPUT.
 */
export async function writeKeyFile(
  path: string,
  privateKey: Uint8Array,
  password: string,
  opts: { replace?: boolean; scrypt?: ScryptCost } = {}
): Promise<void> {
  await prepareDirectory(dirname(path))
  if (opts.replace !== true) await mustBeAbsent(path)
  const json = await encryptKey(privateKey, password, opts.scrypt === undefined ? {} : { scrypt: opts.scrypt })
  await writeSecretFile(path, new TextEncoder().encode(`${JSON.stringify(json)}\n`), opts)
}

/**
 * Reads and decrypts a key file.
 * @throws {ZgError} ERR_NO_INPUT when absent, ERR_PERMISSION when it is a link or open to others, ERR_CORRUPT, ERR_PASSWORD.
 */
export async function readKeyFile(path: string, password: string): Promise<Uint8Array> {
  return decryptKey(await readSecretFile(path), password)
}

/**
 * The text of a secret file: a regular file, not a link, of this user, with no rights for others, of at most 64 KiB.
 * @throws {ZgError} ERR_NO_INPUT, ERR_PERMISSION, ERR_CORRUPT, ERR_IO.
 */
export async function readSecretFile(path: string): Promise<string> {
  let file: FileHandle
  try {
    // O_NONBLOCK: opening a pipe put in place of the file must not wait for a writer.
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (err) {
    throw openError(err, path)
  }
  try {
    const s = await file.stat()
    if (!s.isFile()) throw new ZgError('ERR_PERMISSION', `key file '${path}' is not a regular file`)
    if ((s.mode & 0o077) !== 0) {
      throw new ZgError('ERR_PERMISSION', `key file '${path}' can be read by others`, {
        hint: `run 'chmod 600 ${path}'`
      })
    }
    const me = process.getuid?.()
    if (me !== undefined && s.uid !== me) {
      throw new ZgError('ERR_PERMISSION', `key file '${path}' belongs to another user`)
    }
    if (s.size > LIMITS.keystoreFileBytes) throw new ZgError('ERR_CORRUPT', `key file '${path}' is too long`)
    const buf = Buffer.alloc(s.size)
    const { bytesRead } = await file.read(buf, 0, s.size, 0)
    const text = buf.toString('utf8', 0, bytesRead)
    buf.fill(0)
    return text
  } finally {
    await file.close()
  }
}

/**
 * Writes a secret file durably, mode 0600, in a directory that must be closed to others.
 * @throws {ZgError} ERR_EXISTS unless `replace`, ERR_PERMISSION, ERR_IO.
 */
export async function writeSecretFile(
  path: string,
  content: Uint8Array,
  opts: { replace?: boolean } = {}
): Promise<void> {
  const dir = dirname(path)
  await prepareDirectory(dir)
  const temp = join(dir, `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`)
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
    const file = await open(temp, flags, 0o600)
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    // A rename replaces silently; a link refuses an existing name, a symbolic link included, without a race.
    if (opts.replace === true) await rename(temp, path)
    else {
      await link(temp, path)
      await unlink(temp)
    }
    await syncDirectory(dir)
  } catch (err) {
    await unlink(temp).catch(() => undefined)
    if (systemCode(err) === 'EEXIST') throw exists(path)
    throw openError(err, path)
  }
}

/** Makes the directory 0700 when absent; one that others may enter is refused. */
async function prepareDirectory(dir: string): Promise<void> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    const s = await lstat(dir)
    if (!s.isDirectory()) throw new ZgError('ERR_PERMISSION', `key directory '${dir}' is not a directory`)
    if ((s.mode & 0o077) !== 0) {
      throw new ZgError('ERR_PERMISSION', `key directory '${dir}' is open to others`, {
        hint: `run 'chmod 700 ${dir}'`
      })
    }
  } catch (err) {
    throw openError(err, dir)
  }
}

async function mustBeAbsent(path: string): Promise<void> {
  try {
    await lstat(path)
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return
    throw openError(err, path)
  }
  throw exists(path)
}

async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function exists(path: string): ZgError {
  return new ZgError('ERR_EXISTS', `key file '${path}' exists already`)
}

function openError(err: unknown, path: string): Error {
  if (err instanceof ZgError) return err
  const code = systemCode(err)
  if (code === 'ENOENT') return new ZgError('ERR_NO_INPUT', `key file '${path}' does not exist`, { cause: err })
  if (code === 'ELOOP') return new ZgError('ERR_PERMISSION', `key file '${path}' is a symbolic link`, { cause: err })
  if (code === 'EACCES' || code === 'EPERM') {
    return new ZgError('ERR_PERMISSION', `cannot open '${path}': permission denied`, { cause: err })
  }
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new ZgError('ERR_DISK_FULL', `cannot write '${path}': disk full`, { cause: err })
  }
  return new ZgError('ERR_IO', `cannot use key file '${path}'`, { cause: err })
}
