/**
 * The directory of a chain that nobody asked to keep: removed when the node stops. One that `kill -9` left behind is
 * removed by the next such node, which reads in its name whether its process is gone.
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const PREFIX = 'zg-chain-dev-'

/** Linux keeps what lies here in memory. */
const MEMORY = '/dev/shm'

/**
 * A new directory, 0700, that carries this process's id.
 * @param inMemory - in the system's memory file system where it has one.
 */
export async function temporaryDirectory(inMemory = false): Promise<string> {
  if (inMemory) {
    const made = await make(MEMORY).catch(() => undefined)
    if (made !== undefined) return made
  }
  return make(tmpdir())
}

export async function removeTemporary(dir: string): Promise<void> {
  await rm(dir, { recursive: true, force: true })
}

async function make(parent: string): Promise<string> {
  for (const name of await readdir(parent).catch(() => [])) {
    const pid = /^zg-chain-dev-(\d+)-/.exec(name)?.[1]
    // Another user's cannot be removed, and need not be.
    if (pid !== undefined && !alive(Number(pid)))
      await rm(join(parent, name), { recursive: true, force: true }).catch(() => {})
  }
  return mkdtemp(join(parent, `${PREFIX}${process.pid}-`))
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (err) {
    return (err as NodeJS.ErrnoException).code === 'EPERM'
  }
}
