/** Which ports are free. */
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
