/** The two nodes of bench/chain.ts, started and stopped alike, and the figures that are taken of them. */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { RpcClient } from '../lib/adapters/jsonrpc/client.ts'
import { packageRoot } from '../lib/base/package-root.ts'
import type { LoadResult } from './rpc-client.ts'

export type Name = 'zg-chain' | 'anvil'
export interface Node {
  name: Name
  url: string
  pid: number
  startMs: number
  stop(): Promise<void>
}

export const GAS_LIMIT = '1000000000'
const root = packageRoot()
export const anvilBinary = join(root, 'bench/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil')
export const scratch = mkdtempSync(join(tmpdir(), 'zg-bench-chain-'))
const children = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(scratch, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130))

export function anvilInstalled(): boolean {
  return existsSync(anvilBinary)
}

let port = 21_000 + (process.pid % 20_000)
let directories = 0

/**
 * Starts a fresh node; its start ends with the first answer. `manual`: blocks only when `evm_mine` asks for one.
 * @throws when it does not answer within a minute.
 */
export async function start(
  name: Name,
  { manual = false, gasLimit = GAS_LIMIT }: { manual?: boolean; gasLimit?: string } = {}
): Promise<Node> {
  const at = port++
  const url = `http://127.0.0.1:${at}`
  const began = performance.now()
  const env = { ...process.env, NODE_OPTIONS: '', NO_COLOR: '1' }
  const beat =
    name === 'anvil' ? (manual ? ['--no-mining'] : ['--block-time', '1']) : ['--block-time', manual ? '1h' : '1s']
  const child: ChildProcess =
    name === 'anvil'
      ? spawn(
          anvilBinary,
          [
            ...beat,
            '--port',
            `${at}`,
            '--gas-limit',
            gasLimit,
            '--silent',
            '--chain-id',
            '31337',
            '--hardfork',
            'prague'
          ],
          { stdio: 'ignore', env }
        )
      : spawn(
          process.execPath,
          [
            join(root, 'bin/zg-chain'),
            'node',
            '--dev',
            '--dir',
            join(scratch, `${directories++}`),
            '--rpc-port',
            `${at}`,
            ...beat,
            '--gas-limit',
            gasLimit,
            '--quiet'
          ],
          { stdio: ['ignore', 'ignore', 'inherit'], env }
        )
  children.add(child)
  const gone = new Promise<void>(resolve =>
    child.once('close', () => {
      children.delete(child)
      resolve()
    })
  )
  const rpc = new RpcClient(url, { timeoutMs: 2_000 })
  for (;;) {
    try {
      await rpc.call('eth_chainId')
      break
    } catch (err) {
      if (child.exitCode !== null || performance.now() - began > 60_000) throw err
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  }
  return {
    name,
    url,
    pid: child.pid!,
    startMs: performance.now() - began,
    async stop() {
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), 15_000)
      await gone
      clearTimeout(timer)
    }
  }
}

// ---- figures

const figures = new Map<string, number[]>()
export function figure(name: Name, what: string, value: number): void {
  const key = `${what}\t${name}`
  figures.set(key, [...(figures.get(key) ?? []), value])
}

export const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!
const shown = (n: number): string => (n >= 100 ? Math.round(n).toLocaleString('en-US') : n.toPrecision(3))
const cell = (values: number[] | undefined): string =>
  values === undefined
    ? ''
    : `**${shown(median(values))}** (${shown(Math.min(...values))} to ${shown(Math.max(...values))})`

/** Ratios of medians of all figures whose name begins with `prefix` and that both nodes have. */
export function ratios(prefix: string): number[] {
  return [...figures.keys()].flatMap(key => {
    const [what, name] = key.split('\t')
    const theirs = figures.get(`${what}\tanvil`)
    return what!.startsWith(prefix) && name === 'zg-chain' && theirs !== undefined
      ? [median(figures.get(key)!) / median(theirs)]
      : []
  })
}

/** The table of docs/benchmarks.md: median, least and most, and the ratio of the medians. */
export function table(): string {
  let out = '| figure | zg-chain | anvil 1.7.1 | ratio |\n|---|---|---|---|\n'
  for (const what of new Set([...figures.keys()].map(k => k.split('\t')[0]!))) {
    const ours = figures.get(`${what}\tzg-chain`)
    const theirs = figures.get(`${what}\tanvil`)
    const both = ours !== undefined && theirs !== undefined && median(theirs) > 0
    const ratio = both ? `${(median(ours) / median(theirs)).toFixed(2)} ×` : ''
    out += `| ${what} | ${cell(ours)} | ${cell(theirs)} | ${ratio} |\n`
  }
  return out
}

// ---- the client of reads

export const wrk = spawnSync('wrk', ['--version'], { encoding: 'utf8' }).error === undefined

export interface Read {
  perSecond: number
  p99Ms: number
}

/** Asks the same again and again on so many connections. wrk where it is installed, else bench/rpc-client.ts; the same for both nodes. */
export async function read(url: string, connections: number, seconds: number, body: string): Promise<Read> {
  if (!wrk) {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import', 'tsx', 'bench/rpc-client.ts', url, `${connections}`, `${seconds}`, body],
      { cwd: root, env: { ...process.env, NODE_OPTIONS: '' } }
    )
    const result = JSON.parse(stdout) as LoadResult
    if (result.errors > 0) throw new Error(`${url}: ${result.errors} of the reads failed`)
    return { perSecond: result.perSecond, p99Ms: result.p99Ms }
  }
  const script = join(scratch, 'post.lua')
  writeFileSync(
    script,
    `wrk.method = 'POST'\nwrk.body = [[${body}]]\nwrk.headers['Content-Type'] = 'application/json'\n`
  )
  const { stdout } = await promisify(execFile)('wrk', [
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    '--latency',
    '-s',
    script,
    url
  ])
  const rate = /Requests\/sec:\s+([0-9.]+)/.exec(stdout)
  const p99 = /99%\s+([0-9.]+)(us|ms|s)/.exec(stdout)
  if (rate === null || p99 === null || /Non-2xx/.test(stdout)) throw new Error(`${url}: wrk says\n${stdout}`)
  const unit = p99[2] === 'us' ? 0.001 : p99[2] === 'ms' ? 1 : 1000
  return { perSecond: Number(rate[1]), p99Ms: Number(p99[1]) * unit }
}
