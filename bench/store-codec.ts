/**
 * The arithmetic of the storage layer, each part beside a named peer in the same run: Merkle trees, Reed-Solomon, sums of shards, sealing
 * and searching, AES-CTR, base64. Rates are bytes by CPU time of this process, so other load on the machine changes them little; the
 * last rows are by wall time on all cores.
 *
 * usage: node --import tsx bench/store-codec.ts [--json]
 */
import { createCipheriv } from 'node:crypto'
import { availableParallelism, cpus } from 'node:os'
import { codec, reference } from '../lib/native.ts'

const MIB = 1024 * 1024
const json = process.argv.includes('--json')
const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

interface Row {
  what: string
  path: string
  mbPerSecond: number
  /** Against the first row of its kind. */
  ratio: number
}
const rows: Row[] = []

/** Runs until a third of a second of CPU is used, three times; the best counts. @param bytes - of one call. */
async function measure(what: string, path: string, bytes: number, call: () => unknown): Promise<void> {
  await call()
  let best = 0
  for (let round = 0; round < 3; round++) {
    const start = cpuSeconds()
    let done = 0
    while (cpuSeconds() - start < 0.33) {
      await call()
      done += bytes
    }
    best = Math.max(best, done / (cpuSeconds() - start) / 1e6)
  }
  const first = rows.find(r => r.what === what)
  const row = {
    what,
    path,
    mbPerSecond: Math.round(best * 10) / 10,
    ratio: first === undefined ? 1 : best / first.mbPerSecond
  }
  rows.push(row)
  if (json) console.log(JSON.stringify(row))
  else
    console.log(
      `${what.padEnd(28)} ${path.padEnd(34)} ${best.toFixed(1).padStart(9)} MB/s  ${row.ratio.toFixed(1).padStart(6)} x`
    )
}

const random = (n: number): Uint8Array => {
  const out = new Uint8Array(n)
  for (let at = 0; at < n; at += 65_536) crypto.getRandomValues(out.subarray(at, Math.min(n, at + 65_536)))
  return out
}

const c = codec()
if (c.path !== 'native') throw new Error('the native codec is not built')
console.error(`${cpus()[0]?.model}, ${availableParallelism()} cores, Node ${process.versions.node}`)

const data = random(16 * MIB)
await measure('tree, one core', 'plain C, one lane', data.length, () => c.segmentRootsFlat(data, undefined, 'generic'))
for (const path of c.paths.slice(1)) {
  await measure('tree, one core', path, data.length, () => c.segmentRootsFlat(data, undefined, path))
}
const little = data.subarray(0, MIB)
await measure('tree, one core', 'JavaScript (@noble/hashes)', little.length, () => reference().segmentRootsFlat(little))
const sdk = await sdkTree()
if (sdk !== undefined) await measure('tree, one core', "real SDK's own", little.length, () => sdk(little))

for (const [k, m] of [
  [4, 2],
  [8, 4]
] as const) {
  const shards = Array.from({ length: k }, () => random(262_144))
  const room = new Uint8Array(m * 262_144)
  for (const path of c.rs.paths) {
    const rs = c.rs.with(path)
    await measure(`encode ${k}+${m}`, path, k * 262_144, () => rs.encode(k, m, shards, room))
  }
  const parity = await c.rs.encode(k, m, shards)
  const word = [...shards.map((s, i) => (i < m ? undefined : s)), ...parity]
  const lost = Array.from({ length: m }, (_, i) => i)
  for (const path of c.rs.paths) {
    const rs = c.rs.with(path)
    await measure(`${m} lost of ${k}+${m}`, path, k * 262_144, () => rs.reconstruct(k, m, word, lost))
  }
}
const rho = random(16)
const shard = random(262_144)
for (const path of c.rs.paths) {
  const rs = c.rs.with(path)
  await measure('sum of a shard', path, shard.length, () => rs.shardSums(rho, [shard]))
}

const { pora } = c
if (pora !== undefined) {
  const masks = random(32 * 256)
  const part = data.subarray(0, MIB)
  for (const path of c.paths) await measure('seal', path, MIB, () => pora.with(path).seal(masks, part))
  const [miner, nonces] = [random(32), random(32 * 32)]
  const sealed = random(262_144)
  for (const path of c.paths) {
    const p = pora.with(path)
    // Bytes of sealed segments that were tried.
    await measure('search', path, 32 * 262_144, async () => {
      const pads = await p.pads(miner, nonces, rho.length === 16 ? miner : rho, miner)
      const held = (1n << 64n) - 1n
      await p.best(
        pads,
        Array.from({ length: 32 }, (_, index) => ({ index, held, sealed }))
      )
    })
  }
}

const key = random(32)
await measure('AES-256-CTR', "the platform's library", data.length, () => {
  const cipher = createCipheriv('aes-256-ctr', key, new Uint8Array(16))
  for (let at = 0; at < data.length; at += 262_144) cipher.update(data.subarray(at, at + 262_144))
})
const segment = Buffer.from(data.buffer, 0, 262_144)
const text = segment.toString('base64')
await measure('base64 encode', "Node's", segment.length, () => segment.toString('base64'))
await measure('base64 decode', "Node's, from a string", segment.length, () => Buffer.from(text, 'base64'))
const ascii = Buffer.from(text, 'latin1')
await measure('base64 decode', "Node's, from bytes of a body", segment.length, () =>
  Buffer.from(ascii.toString('latin1'), 'base64')
)

for (const path of c.paths.slice(0, 2)) {
  await measure('base64 encode', `${path}, to bytes`, segment.length, () => c.base64Encode(segment, path))
  await measure('base64 decode', `${path}, from bytes of a body`, segment.length, () =>
    c.base64Decode(ascii, 0, ascii.length, path)
  )
}

// All cores: one call a core at a time, by wall time.
const parts = Array.from({ length: 16 }, (_, i) => data.subarray(i * MIB, (i + 1) * MIB))
for (const lanes of [1, availableParallelism()]) {
  let best = 0
  for (let round = 0; round < 3; round++) {
    const start = performance.now()
    const queue = [...parts, ...parts, ...parts, ...parts]
    const total = queue.length * MIB
    await Promise.all(
      Array.from({ length: lanes }, async () => {
        for (let part = queue.pop(); part !== undefined; part = queue.pop()) await c.segmentRoots(part)
      })
    )
    best = Math.max(best, total / ((performance.now() - start) * 1000))
  }
  console.log(
    json
      ? JSON.stringify({ what: 'tree, wall time', path: `${lanes} at a time`, mbPerSecond: best })
      : `${'tree, wall time'.padEnd(28)} ${`${lanes} at a time`.padEnd(34)} ${best.toFixed(1).padStart(9)} MB/s`
  )
}

/** The tree of the real SDK, when it is installed for the interoperability tests. */
async function sdkTree(): Promise<((b: Uint8Array) => Promise<unknown>) | undefined> {
  try {
    const path = new URL('../test/interop/node_modules/@0gfoundation/0g-ts-sdk/lib.esm/index.js', import.meta.url)
    const { MemData } = (await import(path.href)) as {
      MemData: new (b: Uint8Array) => { merkleTree(): Promise<[unknown, Error | null]> }
    }
    return b => new MemData(b).merkleTree()
  } catch {
    return undefined
  }
}
