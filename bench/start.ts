/**
 * Question: how long until a local network is ready, and until help is on the screen?
 * Peers, in the same rounds: as many bare Node processes started together, and `node -e 0`.
 *
 *   npm run build && node --import tsx bench/start.ts [rounds]
 *
 * One JSON line a figure: median, minimum and maximum of the rounds (default 5), in seconds. `up_first` starts from nothing (genesis
 * included), `up_again` from kept data. Excluded: building.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { packageRoot } from '../lib/base/package-root.ts'

const ROUNDS = Number(process.argv[2] ?? 5)
const TOOLS = ['zg-chain', 'zg-store', 'zg-devnet']
const SERVICES = 5

const dir = mkdtempSync(join(tmpdir(), 'zg-bench-'))
const env: NodeJS.ProcessEnv = { ...process.env, NODE_OPTIONS: '', NO_COLOR: '1' }
for (const name of ['XDG_DATA_HOME', 'XDG_STATE_HOME', 'XDG_RUNTIME_DIR', 'XDG_CONFIG_HOME', 'XDG_CACHE_HOME']) {
  env[name] = join(dir, name)
  mkdirSync(env[name]!, { recursive: true })
}

/** Seconds until a command has ended. */
function ended(args: string[]): Promise<number> {
  const started = performance.now()
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: 'ignore', env })
    child.once('error', reject)
    child.once('close', code =>
      code === 0
        ? resolve((performance.now() - started) / 1000)
        : reject(new Error(`${args.join(' ')} ended with ${code}`))
    )
  })
}

/** Seconds until `up` says it is ready; then it is stopped, and the next round may begin. */
async function up(args: string[]): Promise<number> {
  const started = performance.now()
  const child = spawn(
    process.execPath,
    [join(packageRoot(), 'bin', 'zg-devnet'), 'up', '--name', 'bench', '--json', ...args],
    { stdio: ['ignore', 'pipe', 'inherit'], env }
  )
  const gone = new Promise(resolve => child.once('close', resolve))
  const seconds = await new Promise<number>((resolve, reject) => {
    createInterface({ input: child.stdout! }).on('line', line => {
      if (JSON.parse(line).type === 'network_ready') resolve((performance.now() - started) / 1000)
    })
    child.once('close', () => reject(new Error('the network did not start')))
  })
  child.kill('SIGTERM')
  await gone
  return seconds
}

const figures = new Map<string, number[]>()
const add = (name: string, seconds: number): void => {
  figures.set(name, [...(figures.get(name) ?? []), seconds])
}

await up([])
for (let round = 0; round < ROUNDS; round++) {
  add('up_again', await up([]))
  add('up_first', await up(['--fresh']))
  const started = performance.now()
  await Promise.all(Array.from({ length: SERVICES }, () => ended(['-e', '0'])))
  add(`bare_node_x${SERVICES}`, (performance.now() - started) / 1000)
  add('bare_node', await ended(['-e', '0']))
  for (const name of TOOLS) add(`${name}_help`, await ended([join(packageRoot(), 'bin', name), '--help']))
}
rmSync(dir, { recursive: true, force: true })

const round3 = (n: number): number => Math.round(n * 1000) / 1000
for (const [name, values] of figures) {
  const sorted = values.sort((a, b) => a - b)
  process.stdout.write(
    `${JSON.stringify({ name, rounds: sorted.length, median_seconds: round3(sorted[Math.floor(sorted.length / 2)]!), min: round3(sorted[0]!), max: round3(sorted.at(-1)!), node: process.version })}\n`
  )
}
