/**
 * How fast does a file become its root? zg against both 0G SDKs, same bytes, equal roots, interleaved rounds.
 *
 *   cd bench && npm ci && cd .. && npm run build:native
 *   node --import tsx bench/root.ts [--rounds 7] [--size 16MiB] [--large 1GiB]
 *
 * One JSON line a contender: median, least and most MB/s (10⁶ bytes) over the rounds, by the clock and per second of processor time. Start-up, compiling and loading are
 * excluded; reading the file is included where it says file (it lies in the page cache). The machine's own limit beside the figure
 * is one core's rate of Keccak permutations: 85.4 bytes of file each.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { toHex } from '../lib/base/hex.ts'
import { parseSize } from '../lib/base/units.ts'
import { FileHasher, hashFile } from '../lib/codec/storage/hasher.ts'
import { treeRoot } from '../lib/codec/storage/merkle.ts'
import { segmentLeaves, shape } from '../lib/codec/storage/shape.ts'
import { codec, reference } from '../lib/native.ts'

interface Contender {
  name: string
  version: string
  file: 'small' | 'large'
  root(): Promise<string>
}

/** MB/s by the clock, and MB per second of processor time: the one that holds on a machine with other work. */
interface Rate {
  wall: number
  cpu: number
}

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    size: { type: 'string', default: '16MiB' },
    large: { type: 'string', default: '1GiB' }
  }
})
const rounds = Math.max(5, Number(values.rounds))
const require = createRequire(import.meta.url)
const dir = mkdtempSync(join(tmpdir(), 'zg-bench-root-'))

try {
  await main()
} finally {
  rmSync(dir, { recursive: true })
}

async function main(): Promise<void> {
  if (codec().path !== 'native') throw new Error("no native build: run 'npm run build:native'")
  const sizes = { small: parseSize(values.size), large: parseSize(values.large) }
  const paths = { small: writeInput('small', sizes.small), large: writeInput('large', sizes.large) }
  const list = contenders(paths)
  const times = new Map<Contender, Rate[]>(list.map(c => [c, []]))
  const roots = { small: '', large: '' }
  // Round 0 warms up and is not counted.
  for (let round = 0; round <= rounds; round++) {
    for (const c of list) {
      const cpu = process.cpuUsage()
      const start = process.hrtime.bigint()
      const root = await c.root()
      const seconds = Number(process.hrtime.bigint() - start) / 1e9
      const used = process.cpuUsage(cpu)
      roots[c.file] ||= root
      if (root !== roots[c.file]) throw new Error(`${c.name} gives root ${root}, ${list[0]!.name} ${roots[c.file]}`)
      if (round > 0)
        times.get(c)!.push({ wall: sizes[c.file] / seconds / 1e6, cpu: sizes[c.file] / (used.user + used.system) })
    }
  }
  for (const c of list) print(c, sizes[c.file], roots[c.file], times.get(c)!)
}

function contenders(paths: { small: string; large: string }): Contender[] {
  const bytes = readFileSync(paths.small)
  const zg = (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string })
    .version
  const inMemory = (cpu: string): Contender => ({
    name: `zg native, one core, memory, ${cpu}`,
    version: zg,
    file: 'small',
    root: async () => rootOf(codec().segmentRootsFlat(bytes, lastLeaves(bytes.length), cpu))
  })
  return [
    ...codec().paths.map(inMemory),
    {
      name: 'zg native, all cores, file',
      version: zg,
      file: 'small',
      root: async () => toHex((await hashFile(paths.small)).root)
    },
    {
      name: 'zg TypeScript reference, memory',
      version: zg,
      file: 'small',
      root: async () => rootOf(reference().segmentRootsFlat(bytes, lastLeaves(bytes.length)))
    },
    sdk('@0gfoundation/0g-ts-sdk', paths.small),
    sdk('@0glabs/0g-ts-sdk', paths.small),
    {
      name: 'zg native, all cores, file',
      version: zg,
      file: 'large',
      root: async () => toHex((await hashFile(paths.large)).root)
    },
    { name: 'zg native, all cores, stream', version: zg, file: 'large', root: () => streamRoot(paths.large) }
  ]
}

/** Leaves of the last segment that has data. Sizes are chosen so that there is no segment of padding alone. */
function lastLeaves(size: number): number {
  const s = shape(size)
  if (s.segments !== s.paddedSegments) throw new Error('choose a size without segments of padding, a power of two')
  return segmentLeaves(s, s.segments - 1)
}

function rootOf(flat: Uint8Array): string {
  const roots: Uint8Array[] = []
  for (let i = 0; i < flat.length; i += 32) roots.push(flat.subarray(i, i + 32))
  return toHex(treeRoot(roots))
}

async function streamRoot(path: string): Promise<string> {
  const { createReadStream } = await import('node:fs')
  const hasher = new FileHasher()
  for await (const chunk of createReadStream(path, { highWaterMark: 256 * 1024 }))
    await hasher.push(chunk as Uint8Array)
  return toHex((await hasher.finish()).root)
}

/** An SDK's `merkleTree()` of a file. */
function sdk(name: string, path: string): Contender {
  interface Sdk {
    ZgFile: {
      fromFilePath(path: string): Promise<{
        merkleTree(): Promise<[{ rootHash(): string | null } | null, Error | null]>
        close(): Promise<void>
      }>
    }
  }
  const { ZgFile } = require(name) as Sdk
  const file = join(import.meta.dirname, 'node_modules', name, 'package.json')
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string }
  return {
    name: `${name} merkleTree(), file`,
    version,
    file: 'small',
    root: async () => {
      const input = await ZgFile.fromFilePath(path)
      const [tree, err] = await input.merkleTree()
      await input.close()
      const root = tree?.rootHash()
      if (typeof root !== 'string') throw err ?? new Error('no root')
      return root
    }
  }
}

/** Deterministic bytes, so that runs on other machines have the same roots. */
function writeInput(name: string, size: number): string {
  const block = new Uint32Array(256 * 1024)
  let s = 1
  const path = join(dir, name)
  const fd = openSync(path, 'w')
  for (let at = 0; at < size; at += block.byteLength) {
    for (let i = 0; i < block.length; i++) {
      s = (Math.imul(s, 1664525) + 1013904223) >>> 0
      block[i] = s
    }
    writeSync(fd, new Uint8Array(block.buffer), 0, Math.min(block.byteLength, size - at))
  }
  closeSync(fd)
  return path
}

function print(c: Contender, sizeBytes: number, root: string, rates: Rate[]): void {
  const sorted = rates.map(r => r.wall).sort((a, b) => a - b)
  const perCpu = rates.map(r => r.cpu).sort((a, b) => a - b)
  const round = (n: number): number => Math.round(n * 10) / 10
  const line = {
    type: 'bench_root',
    name: c.name,
    version: c.version,
    size_bytes: sizeBytes,
    root,
    rounds: rates.length,
    median_mb_per_second: round(sorted[sorted.length >> 1]!),
    least_mb_per_second: round(sorted[0]!),
    most_mb_per_second: round(sorted[sorted.length - 1]!),
    median_mb_per_cpu_second: round(perCpu[perCpu.length >> 1]!),
    least_mb_per_cpu_second: round(perCpu[0]!),
    most_mb_per_cpu_second: round(perCpu[perCpu.length - 1]!),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    simd: codec().cpu,
    node: process.versions.node,
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  }
  process.stdout.write(`${JSON.stringify(line)}\n`)
}
