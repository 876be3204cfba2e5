/**
 * What the machine sets, and the peers: one round of the rows that all others stand beside.
 *
 *   limit: tree, one core, generic   Merkle root of the file, one core, the plain one-lane path in C
 *   tree of one core                 the same on the widest path; then on each path, and on all cores
 *   limit: http up | down            the same bytes over Node's HTTP between two processes, nothing done with them
 *   limit: disk, write and sync      the same bytes written in 4 MiB pieces, synced after each 8 MiB; read again past the page cache
 *   peer: sdk hashing                merkleTree() of the newest SDK, 16 MiB: it hashes twice an upload
 *
 * A MinIO or another object store would stand here too: neither Debian nor npm carries one that is more than a test double.
 */
import { fork } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { Agent, createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { toHex } from '../../lib/base/hex.ts'
import { codec } from '../../lib/native.ts'
import { testFile } from '../../test/harness/flow-chain.ts'
import { packageRoot } from '../../test/harness/tools.ts'
import { options, parallel, print, random, send, since, usageOf, usageSince } from './lib.ts'

const { size, dir, values } = options({ role: { type: 'string' } })
const PIECE = 4 * 1024 * 1024

if (values.role === 'sink') sink()
else {
  const place = mkdtempSync(join(dir, 'zg-bench-limits-'))
  try {
    await tree()
    await disk(join(place, 'plain'))
    await http()
    await sdk()
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

async function tree(): Promise<void> {
  const c = codec()
  const data = random(Math.min(size, 64 * 1024 * 1024))
  c.segmentRootsFlat(data.subarray(0, PIECE))
  for (const path of c.paths) {
    const own = process.cpuUsage()
    const begun = performance.now()
    c.segmentRootsFlat(data, undefined, path)
    const seconds = (performance.now() - begun) / 1000
    const client = usageSince(own)
    const name = path === 'generic' ? 'limit: tree, one core, generic' : `tree of one core, ${path}`
    print({ name, bytes: data.length, seconds, client })
    if (path === c.cpu) print({ name: 'tree of one core', bytes: data.length, seconds, client })
  }
  const own = process.cpuUsage()
  const begun = performance.now()
  const parts = Array.from({ length: data.length / PIECE }, (_, i) => data.subarray(i * PIECE, (i + 1) * PIECE))
  await parallel(parts, availableParallelism(), p => c.segmentRoots(p))
  const seconds = (performance.now() - begun) / 1000
  print({ name: 'tree of all cores', bytes: data.length, seconds, client: usageSince(own) })
}

async function disk(path: string): Promise<void> {
  const piece = random(PIECE)
  const own = process.cpuUsage()
  const begun = performance.now()
  const f = await open(path, 'w')
  for (let at = 0, n = 0; at < size; at += PIECE) {
    await f.write(piece, 0, Math.min(PIECE, size - at), at)
    if (++n % 2 === 0) await f.datasync()
  }
  await f.datasync()
  const seconds = (performance.now() - begun) / 1000
  await f.close()
  print({ name: 'limit: disk, write and sync', bytes: size, seconds, client: usageSince(own) })
}

async function http(): Promise<void> {
  const child = fork(fileURLToPath(import.meta.url), ['--role', 'sink'], { execArgv: process.execArgv })
  const port = await new Promise<number>(resolve => child.once('message', m => resolve(m as number)))
  const body = Buffer.alloc(1024 * 1024, 7)
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })
  for (const [name, method] of [
    ['limit: http up', 'PUT'],
    ['limit: http down', 'GET']
  ] as const) {
    const before = usageOf(child.pid!)
    const own = process.cpuUsage()
    const begun = performance.now()
    const items = Array.from({ length: Math.ceil(size / body.length) }, (_, i) => i)
    await parallel(items, 4, () => send(port, agent, method, '/', method === 'PUT' ? [body] : []))
    const seconds = (performance.now() - begun) / 1000
    print({ name, bytes: size, seconds, node: since(child.pid!, before), client: usageSince(own) })
  }
  agent.destroy()
  child.kill('SIGTERM')
  await new Promise(resolve => child.once('close', resolve))
}

function sink(): void {
  const body = Buffer.alloc(1024 * 1024, 7)
  const server = createServer((req, res) => {
    req.on('data', () => {})
    req.on('end', () => (req.method === 'GET' ? res.end(body) : res.end()))
  })
  server.listen(0, '127.0.0.1', () => process.send!((server.address() as AddressInfo).port))
  process.once('SIGTERM', () => process.exit(0))
}

async function sdk(): Promise<void> {
  if (!existsSync(join(packageRoot, 'bench/node_modules/@0gfoundation/0g-ts-sdk'))) return
  const { MemData } = createRequire(join(packageRoot, 'bench', 'package.json'))('@0gfoundation/0g-ts-sdk') as {
    MemData: new (b: Uint8Array) => { merkleTree(): Promise<[{ rootHash(): string | null } | null, unknown]> }
  }
  const bytes = random(Math.min(size / 16, 16 * 1024 * 1024))
  const own = process.cpuUsage()
  const begun = performance.now()
  const [found, err] = await new MemData(bytes).merkleTree()
  const seconds = (performance.now() - begun) / 1000
  if (err !== null || found?.rootHash() !== toHex(testFile(bytes).root))
    throw new Error(`another root by the SDK ${err}`)
  print({ name: 'peer: sdk hashing, once', bytes: bytes.length, seconds, client: usageSince(own) })
}
