/** Which ports are free. */
import { createServer } from 'node:net'
import { ZgError } from '../../lib/base/errors.ts'

/** True when a loopback listener can be opened on the port now. */
export function portFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)))
  })
}

/** Below the blocks of named networks, and where the system hands out none: a port of a service that is stopped stays free for it. */
const FREE_FROM = 13_000
const FREE_TO = 18_000

/** `count` free ports. @throws {ZgError} ERR_PORT_IN_USE when there are not so many. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = []
  for (let port = FREE_FROM; port < FREE_TO && ports.length < count; port++) if (await portFree(port)) ports.push(port)
  if (ports.length < count)
    throw new ZgError('ERR_PORT_IN_USE', `no ${count} free ports from ${FREE_FROM} to ${FREE_TO - 1}`)
  return ports
}

/** The last port of a block: whoever listens on it has the block, also while its services are not up yet. */
const CLAIM = 99

export interface PortBlock {
  base: number
  release(): void
}

/** The block that begins at `base`, for as long as this process lives or until it is released; undefined: another has it. */
export function claimBlock(base: number): Promise<PortBlock | undefined> {
  return new Promise(resolve => {
    const claim = createServer(socket => socket.destroy())
    claim.once('error', () => resolve(undefined))
    claim.listen(base + CLAIM, '127.0.0.1', () => {
      claim.unref()
      resolve({ base, release: () => void claim.close() })
    })
  })
}

/**
 * The first block of ports, 100 apart from 18000 on, that nobody has and in which all of `offsets` are free. Networks that start at the
 * same time look at the same ports seconds before their services open them: only a claim tells them apart.
 */
export async function claimFreeBlock(offsets: number[]): Promise<PortBlock | undefined> {
  for (let base = 18_000; base < 60_000; base += 100) {
    const block = await claimBlock(base)
    if (block === undefined) continue
    const free = await Promise.all(offsets.map(o => portFree(base + o)))
    if (free.every(Boolean)) return block
    block.release()
  }
  return undefined
}
