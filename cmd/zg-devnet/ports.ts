/** Which ports are free, and who holds those that are not. */
import { readdir, readFile, readlink } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'

/** True when a loopback listener can be opened on the port now. */
export function portFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)))
  })
}

/** `count` different free ports, chosen by the system. */
export async function freePorts(count: number): Promise<number[]> {
  const probes = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
          const probe = createServer()
          probe.once('error', reject)
          probe.listen(0, '127.0.0.1', () => resolve(probe))
        })
    )
  )
  const ports = probes.map(p => (p.address() as AddressInfo).port)
  await Promise.all(probes.map(p => new Promise(resolve => p.close(resolve))))
  return ports
}

/** The first block of ports, 100 apart from 18000 on, in which all of `offsets` are free. */
export async function freeBlock(offsets: number[]): Promise<number | undefined> {
  for (let base = 18_000; base < 60_000; base += 100) {
    const free = await Promise.all(offsets.map(o => portFree(base + o)))
    if (free.every(Boolean)) return base
  }
  return undefined
}

/** Name and pid of the process that listens on a port, where the system tells (Linux, own processes). */
export async function portOwner(port: number): Promise<{ name: string; pid: number } | undefined> {
  const inode = (await listeningInode('/proc/net/tcp', port)) ?? (await listeningInode('/proc/net/tcp6', port))
  if (inode === undefined) return undefined
  for (const pid of (await readdir('/proc').catch(() => [])).filter(n => /^\d+$/.test(n))) {
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      if ((await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')) !== `socket:[${inode}]`) continue
      return { name: await processName(pid), pid: Number(pid) }
    }
  }
  return undefined
}

async function listeningInode(table: string, port: number): Promise<string | undefined> {
  const text = await readFile(table, 'utf8').catch(() => '')
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  for (const line of text.split('\n').slice(1)) {
    const cells = line.trim().split(/\s+/)
    // Column 1 is the local address, 3 the state (0A listens), 9 the inode.
    if (cells[1]?.endsWith(wanted) && cells[3] === '0A') return cells[9]
  }
  return undefined
}

/** The tool behind a `node bin/zg-X …`, else the command's own name. */
async function processName(pid: string): Promise<string> {
  const args = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
  const script = args[0]?.endsWith('node') ? args.slice(1).find(a => !a.startsWith('-')) : args[0]
  return script?.split('/').pop() || 'another process'
}
