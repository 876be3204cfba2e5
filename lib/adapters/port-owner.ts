/** Who holds a port, for the error that says it is taken. Linux tells about one's own processes; elsewhere nobody is named. */
import { readdir, readFile, readlink } from 'node:fs/promises'
import { basename } from 'node:path'
import { ZgError } from '../base/errors.ts'

/** Name and pid of the process that listens on a TCP port; undefined when the system does not tell. */
export async function portOwner(port: number): Promise<{ name: string; pid: number } | undefined> {
  const inode = (await listeningInode('/proc/net/tcp', port)) ?? (await listeningInode('/proc/net/tcp6', port))
  if (inode === undefined) return undefined
  const processes = await readdir('/proc').catch(() => [])
  for (const pid of processes.filter(n => /^[0-9]+$/.test(n))) {
    const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => [])
    for (const fd of descriptors) {
      const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')
      if (target === `socket:[${inode}]`) return { name: await nameOf(pid), pid: Number(pid) }
    }
  }
  return undefined
}

/** The same error with the owner's name and how to be rid of it. Other errors pass unchanged. */
export async function namePortOwner(err: unknown, port: number, elsewhere: string): Promise<unknown> {
  if (!(err instanceof ZgError) || err.code !== 'ERR_PORT_IN_USE') return err
  const owner = await portOwner(port)
  return new ZgError(
    'ERR_PORT_IN_USE',
    `port ${port} is in use${owner === undefined ? '' : ` by ${owner.name} (pid ${owner.pid})`}`,
    {
      hint: `run '${elsewhere}'${owner === undefined ? '' : `, or stop it with 'kill ${owner.pid}'`}`,
      cause: err
    }
  )
}

async function listeningInode(table: string, port: number): Promise<string | undefined> {
  const text = await readFile(table, 'utf8').catch(() => '')
  const end = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  for (const line of text.split('\n')) {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/)
    // 0A is LISTEN.
    if (state === '0A' && local?.endsWith(end)) return inode
  }
  return undefined
}

/** The script of a Node process, else the program. */
async function nameOf(pid: string): Promise<string> {
  const args = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0').filter(a => a !== '')
  const program = basename(args[0] ?? '')
  const script = program === 'node' ? args.slice(1).find(a => !a.startsWith('-')) : undefined
  return basename(script ?? program) || 'another process'
}
