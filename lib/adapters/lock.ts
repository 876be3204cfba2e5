/**
 * One process per data directory. Node has no file locks, but LevelDB takes one (POSIX `fcntl` on its LOCK file), so a tiny,
 * empty store under `<dir>/lock` is the lock: the kernel lets go of it however the process ends, kill -9 included. A pid file
 * beside it only serves the message; nobody decides by it.
 */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ZgError } from '../base/errors.ts'
import type { KvStore } from '../ports/kv.ts'
import { diskError, makeDirs } from './disk.ts'
import { openKv } from './kv.ts'

export interface DirectoryLock {
  /** Lets the next process in. Safe to call twice. */
  release(): Promise<void>
}

/**
 * Takes the data directory for this process, creating it (0700) when absent.
 * @throws {ZgError} ERR_LOCKED with the holder's pid, ERR_PERMISSION, ERR_DISK_FULL, ERR_IO.
 */
export async function lockDirectory(dir: string): Promise<DirectoryLock> {
  const lockDir = join(dir, 'lock')
  const pidFile = join(lockDir, 'pid')
  await makeDirs(lockDir)
  const store = await take(dir, lockDir, pidFile)
  try {
    await writeFile(pidFile, `${process.pid}\n`, { mode: 0o600 })
  } catch (err) {
    await store.close()
    throw diskError(err, 'write', pidFile)
  }
  let released: Promise<void> | undefined
  const release = async (): Promise<void> => {
    await rm(pidFile, { force: true })
    await store.close()
  }
  return {
    release() {
      released ??= release()
      return released
    }
  }
}

async function take(dir: string, lockDir: string, pidFile: string): Promise<KvStore> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await openKv(lockDir, { cacheBytes: 64 * 1024 })
    } catch (err) {
      if (!(err instanceof ZgError)) throw err
      if (err.code === 'ERR_LOCKED') throw await inUse(dir, pidFile, err)
      // The lock store holds nothing, so damage to it (power loss) must not stop a node. LOCK itself stays: others may wait on it.
      if (err.code !== 'ERR_CORRUPT' || attempt > 0) throw err
      for (const name of await readdir(lockDir)) if (name !== 'LOCK') await rm(join(lockDir, name), { force: true })
    }
  }
}

async function inUse(dir: string, pidFile: string, cause: ZgError): Promise<ZgError> {
  const pid = await readFile(pidFile, 'utf8').then(
    text => /^\d+$/.exec(text.trim())?.[0],
    () => undefined
  )
  return new ZgError('ERR_LOCKED', `'${dir}' is in use by ${pid === undefined ? 'another process' : `pid ${pid}`}`, {
    hint: 'stop that process first, or name another data directory',
    cause
  })
}
