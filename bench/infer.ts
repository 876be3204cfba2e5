/**
 * How fast does zg compute tokens on this CPU, beside llama.cpp (node-llama-cpp)? The same random model of half a billion parameters,
 * alternating runs, each contender in a process of its own; zg's process also measures what the machine reads and multiplies.
 *
 *   cd bench && npm ci && npm install --no-save --ignore-scripts node-llama-cpp@3.22.1 && cd .. && npm run build:native
 *   npm run bench:infer -- [--types Q8_0,Q4_0,Q4_K_M] [--threads 1,2] [--rounds 3] [--prompt 256] [--decoded 32] [--dir DIR] [--busy] [--only types] [--json]
 *
 * Then two threads beside a process that spins, the small model of the fixtures (stories260K), and bench/infer-serve.ts (which needs
 * `npm run build`); --only TYPES leaves that out.
 *
 * Medians over the rounds. llama.cpp runs with flash attention on and off, and its better figure counts. --dir keeps the models; --busy
 * lets another process spin on one core all the while. Without the peer's package only zg's figures are printed.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageRoot } from '../lib/base/package-root.ts'

interface Figures {
  loadSeconds: number
  prefill: number
  decode: number
  eight: number
}
interface Own extends Figures {
  level: string
  packedBytes: number
  parameters: number
  bandwidth: number
  bytePeak: number
  /** Decoding by one of the threads, and by all, whatever the engine would choose. */
  alone: number
  shared: number
  /** What digests add to a step, as a part of it; an answer's making over its computing again. */
  tracePart: number
  checking: number
  /** Speeds over those of the same kernels without the deterministic order; 0: not measured. */
  freePrefill: number
  freeDecode: number
}

const { values } = parseArgs({
  options: {
    types: { type: 'string', default: 'Q8_0,Q4_0,Q4_K_M' },
    threads: { type: 'string', default: '1,2' },
    rounds: { type: 'string', default: '3' },
    prompt: { type: 'string', default: '256' },
    decoded: { type: 'string', default: '32' },
    dir: { type: 'string' },
    busy: { type: 'boolean', default: false },
    only: { type: 'string' },
    json: { type: 'boolean', default: false }
  }
})
const root = packageRoot()
const program = join(root, 'build', 'Release', 'infer_cpu_check')
if (!existsSync(program)) throw new Error("no native build: run 'npm run build:native'")
const peer = hasPeer()
const dir = values.dir ?? mkdtempSync(join(tmpdir(), 'zg-bench-infer-'))
/** It ends with us, however we end. */
const spinning = (): ChildProcess =>
  spawn(process.execPath, ['-e', `while (process.ppid === ${process.pid});`], { stdio: 'ignore' })
let neighbour = values.busy ? spinning() : undefined

try {
  for (const type of values.types.split(',')) {
    const file = model(type)
    for (const threads of values.threads.split(',').map(Number)) race(type, file, threads)
  }
  if (values.only === undefined) {
    const fixtures = ['..', '../..'].map(up => join(root, up, 'shared', 'fixtures', 'models')).find(existsSync)
    for (const type of fixtures === undefined ? [] : ['Q8_0', 'Q4_0']) {
      race(`stories260K ${type}`, join(fixtures!, `stories260K-${type}.gguf`), 1)
    }
    neighbour ??= spinning()
    race('Q4_0', model('Q4_0'), 2)
    neighbour.kill()
    neighbour = undefined
    const around = join(root, 'bench', 'infer-serve.ts')
    const args = ['--import', 'tsx', around, '--model', model('Q4_0'), '--rounds', values.rounds]
    spawnSync(process.execPath, values.json ? [...args, '--json'] : args, { stdio: 'inherit' })
  }
} finally {
  neighbour?.kill()
  if (values.dir === undefined) rmSync(dir, { recursive: true })
}

function hasPeer(): boolean {
  try {
    createRequire(import.meta.url).resolve('node-llama-cpp')
    return true
  } catch {
    process.stderr.write(
      'bench: node-llama-cpp is not installed (cd bench && npm install --no-save --ignore-scripts node-llama-cpp@3.22.1): zg alone\n'
    )
    return false
  }
}

function model(type: string): string {
  const file = join(dir, `random-${type}.gguf`)
  if (!existsSync(file)) run(process.execPath, [join(root, 'scripts', 'make-random-gguf.mjs'), file, '--type', type])
  return file
}

function run(command: string, args: string[]): string {
  const r = spawnSync(command, args, { encoding: 'utf8' })
  if (r.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${r.stderr}`)
  return r.stdout.trim().split('\n').at(-1) ?? ''
}

function race(type: string, file: string, threads: number): void {
  const own: Own[] = []
  const theirs: Figures[] = []
  const load = loadavg()[0]!
  // All its positions are 512.
  const prompt = type.startsWith('stories') ? '128' : values.prompt
  for (let i = 0; i < Math.max(1, Number(values.rounds)); i++) {
    // What the order costs is measured by turns within one process: once is enough.
    const brief = i > 0 ? ['brief'] : []
    own.push(JSON.parse(run(program, ['bench', file, String(threads), prompt, values.decoded, ...brief])))
    if (!peer) continue
    const flash = [0, 1].map(f => {
      const script = join(root, 'bench', 'infer-peer.mjs')
      return JSON.parse(run(process.execPath, [script, file, String(threads), prompt, values.decoded, String(f)]))
    }) as [Figures, Figures]
    const better = (key: keyof Figures): number => Math.max(flash[0][key], flash[1][key])
    theirs.push({
      loadSeconds: Math.min(flash[0].loadSeconds, flash[1].loadSeconds),
      prefill: better('prefill'),
      decode: better('decode'),
      eight: better('eight')
    })
  }
  const mine = (key: Exclude<keyof Own, 'level'>): number => median(own.map(o => o[key]))
  const { packedBytes, parameters, level } = own[0]!
  // The random models' embedding is read by rows: its parameters multiply nothing. The small one's are its output's as well.
  const small = type.startsWith('stories')
  const multiplied = small ? parameters : parameters - 32_000 * 1_536
  const shares = {
    ofBandwidth: (mine('decode') * packedBytes) / mine('bandwidth'),
    ofBytePeak: mine('bytePeak') === 0 ? 0 : (mine('prefill') * multiplied * 2) / mine('bytePeak')
  }
  const row = {
    type,
    threads,
    level,
    packedBytes,
    loadAverage: load,
    busy: neighbour !== undefined,
    ...shares,
    zg: own,
    llamaCpp: theirs
  }
  if (values.json) {
    console.log(JSON.stringify(row))
    return
  }
  const gb = (x: number): string => (x / 1e9).toFixed(1)
  console.log(
    `${type}, ${threads} thread${threads === 1 ? '' : 's'}, ${level}, ${(packedBytes / 1e6).toFixed(0)} MB a token; reads ${gb(mine('bandwidth'))} GB/s, ` +
      `int8 ${gb(mine('bytePeak'))} GOPS, load average ${load.toFixed(1)}${neighbour === undefined ? '' : ', beside a process that spins'}`
  )
  for (const key of ['prefill', 'decode', 'eight'] as const) {
    const share =
      key === 'prefill'
        ? `${(100 * shares.ofBytePeak).toFixed(0)} % of int8 peak`
        : key === 'decode'
          ? `${(100 * shares.ofBandwidth).toFixed(0)} % of bandwidth`
          : ''
    const ratio = theirs.length === 0 ? '' : `${(mine(key) / median(theirs.map(o => o[key]))).toFixed(2)} x`
    console.log(
      `  ${key.padEnd(8)} ${range(own.map(o => o[key])).padEnd(24)} llama.cpp ${range(theirs.map(o => o[key])).padEnd(24)} ${ratio.padEnd(8)} ${share}`
    )
  }
  if (threads > 1) {
    const most = (mine('decode') / mine('alone')).toFixed(2)
    console.log(
      `  decode   by one of the threads ${mine('alone').toFixed(1)}, by all ${mine('shared').toFixed(1)}: as chosen ${most} of the one's`
    )
  }
  console.log(`  load     ${mine('loadSeconds').toFixed(2)} s`)
  if (own[0]!.freePrefill > 0) {
    console.log(
      `  order    deterministic over kernels free of its rules: decode ${own[0]!.freeDecode.toFixed(2)}, prefill ${own[0]!.freePrefill.toFixed(2)}`
    )
  }
  if (mine('checking') > 0) {
    console.log(
      `  trace    ${(100 * mine('tracePart')).toFixed(2)} % of a step in the engine; 256 tokens computed again ${mine('checking').toFixed(2)} times as fast as made`
    )
  }
}

function median(list: number[]): number {
  return [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0
}

/** Median with the range behind it, tokens a second. */
function range(list: number[]): string {
  if (list.length === 0) return '-'
  return `${median(list).toFixed(1)} (${Math.min(...list).toFixed(1)} to ${Math.max(...list).toFixed(1)})`
}
