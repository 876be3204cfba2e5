/**
 * How long a model takes to be ready, and how fast text becomes tokens.
 *
 *   npm run bench:infer-load -- [--models FILE,FILE] [--runs N]
 *
 * Model files are read from the page cache (each is read once before); without --models one of about 0.5 GB is made in a temporary folder.
 * The vocabularies are those of the fixtures; the text is this repository's Markdown. Prints wall and processor time, medians of N runs.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageRoot } from '../lib/base/package-root.ts'
import { openEngine } from '../lib/infer/engine.ts'
import { inferAddon } from '../lib/infer/native.ts'
import { openTokenizer } from '../lib/infer/tokenizer.ts'

const { values } = parseArgs({ options: { models: { type: 'string' }, runs: { type: 'string', default: '5' } } })
const runs = Number(values.runs)
const root = packageRoot()
const fixtures = ['..', '../..'].map(up => join(root, up, 'shared', 'fixtures', 'models')).find(existsSync)
const temp = mkdtempSync(join(tmpdir(), 'zg-load-'))
try {
  process.stdout.write(`load average ${loadavg()[0]!.toFixed(2)}, medians of ${runs}\n`)
  for (const model of values.models?.split(',') ?? [made()]) await load(model)
  if (fixtures !== undefined)
    for (const name of ['vocab-qwen3', 'vocab-llama2']) tokenize(join(fixtures, `${name}.gguf`))
} finally {
  rmSync(temp, { recursive: true, force: true })
}

function made(): string {
  const path = join(temp, 'random-Q8_0.gguf')
  spawnSync(process.execPath, [join(root, 'scripts', 'make-random-gguf.mjs'), path, '--type', 'Q8_0'])
  return path
}

function median(list: number[]): number {
  return [...list].sort((a, b) => a - b)[list.length >> 1]!
}

interface Spent {
  wall: number
  cpu: number
}

/** Milliseconds, as medians. */
async function timed(times: number, call: () => unknown): Promise<Spent> {
  const wall: number[] = []
  const cpu: number[] = []
  for (let i = 0; i < times; i++) {
    const before = process.cpuUsage()
    const start = performance.now()
    await call()
    wall.push(performance.now() - start)
    const { user, system } = process.cpuUsage(before)
    cpu.push((user + system) / 1000)
  }
  return { wall: median(wall), cpu: median(cpu) }
}

async function load(path: string): Promise<void> {
  // Into the page cache.
  spawnSync('cat', [path], { stdio: ['ignore', 'ignore', 'ignore'] })
  const gigabytes = statSync(path).size / 1e9
  for (const threads of [1, 2]) {
    const opened: Awaited<ReturnType<typeof openEngine>>[] = []
    const spent = await timed(runs, async () => {
      for (const e of opened.splice(0)) await e.close()
      const start = performance.now()
      opened.push(await openEngine(path, { threads, cacheBytes: 2 ** 26 }))
      return performance.now() - start
    })
    for (const e of opened) await e.close()
    process.stdout.write(
      `${basename(path)} ${(gigabytes * 1000).toFixed(0)} MB, ${threads} threads: ${spent.wall.toFixed(0)} ms, ` +
        `${(spent.wall / 1000 / gigabytes).toFixed(2)} s/GB (processor ${(spent.cpu / 1000 / gigabytes).toFixed(2)} s/GB)\n`
    )
  }
}

function tokenize(path: string): void {
  const name = basename(path, '.gguf')
  const openings: number[] = []
  for (let i = 0; i < Math.max(runs, 3); i++) {
    const start = performance.now()
    openTokenizer(inferAddon(), path)
    openings.push(performance.now() - start)
  }
  const tokenizer = openTokenizer(inferAddon(), path)
  const docs = join(root, 'docs')
  const files = readdirSync(docs, { recursive: true, encoding: 'utf8' }).filter(f => f.endsWith('.md'))
  const text = files.map(f => readFileSync(join(docs, f), 'utf8')).join('\n')
  const megabytes = Buffer.byteLength(text) / 1e6
  const rates: number[] = []
  let tokens = 0
  // A fresh cache of pieces each time, and one that knows the text.
  const cold: number[] = []
  for (let i = 0; i < runs; i++) {
    const fresh = openTokenizer(inferAddon(), path)
    const start = performance.now()
    fresh.encode(text)
    cold.push(megabytes / ((performance.now() - start) / 1000))
  }
  for (let i = 0; i < runs; i++) {
    const start = performance.now()
    tokens = tokenizer.encode(text).length
    rates.push(megabytes / ((performance.now() - start) / 1000))
  }
  process.stdout.write(
    `${name}: opens in ${median(openings).toFixed(0)} ms; ${megabytes.toFixed(1)} MB of Markdown, ${tokens} tokens: ` +
      `${median(rates).toFixed(1)} MB/s, first time ${median(cold).toFixed(1)} MB/s\n`
  )
}
