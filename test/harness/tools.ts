/**
 * Runs the built tools as a user would: as child processes from the package root, with directories of their own. NODE_OPTIONS is
 * taken away by `/usr/bin/env -u`, because the test runner patches `spawn` and puts its loader there whatever `env` says.
 * Everything started here is killed when the test process ends, by pid.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'

/** The directory of package.json. */
export const packageRoot = findRoot()

export type ToolName = 'zg-chain' | 'zg-store' | 'zg-da' | 'zg-compute' | 'zg-market' | 'zg-devnet'

export interface ToolOptions {
  /** For Node itself: a profile of the tool. */
  execArgv?: string[]
  /** Added to (or, when undefined, taken from) the environment. */
  env?: Record<string, string | undefined>
  /** Written to stdin, which is then closed. */
  input?: string | Uint8Array
  /** SIGKILL after this; default 30 s. */
  timeoutMs?: number
  /** The record that announces readiness; default `ready`. */
  readyType?: string
  /** Working directory; default the package root. */
  cwd?: string
}

export interface ToolResult {
  /** Exit status; null when a signal ended it. */
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
  /** stdout as bytes, for verbs that write files to it. */
  bytes: Uint8Array
  /** From spawn to the end of all output. */
  ms: number
}

/** Runs a tool to its end. Never rejects because of its exit status. */
export async function runTool(name: ToolName, args: string[], opts: ToolOptions = {}): Promise<ToolResult> {
  const begun = performance.now()
  const child = launch(name, args, opts)
  const out = collect(child.stdout)
  const err = collect(child.stderr)
  // A tool that ends without reading its input closes the pipe: its own business, not the test's.
  child.stdin.on('error', () => {})
  child.stdin.end(opts.input ?? '')
  const timer = setTimeout(() => child.kill('SIGKILL'), opts.timeoutMs ?? 30_000)
  try {
    const [code, signal] = await closed(child)
    const bytes = Buffer.concat(out.chunks)
    const ms = performance.now() - begun
    return { code, signal, stdout: bytes.toString(), stderr: Buffer.concat(err.chunks).toString(), bytes, ms }
  } finally {
    clearTimeout(timer)
  }
}

/** A record that the tool printed under --json. */
export type JsonRecord = { type: string; [field: string]: unknown }

export interface RunningTool {
  readonly pid: number
  /** The record that announced readiness. */
  readonly ready: JsonRecord
  /** Its `url`, else `rpc_url`, else loopback at `port`. */
  readonly url: string
  readonly port: number
  /** From spawn to readiness. */
  readonly readyMs: number
  /** All records on stdout so far. */
  records(): JsonRecord[]
  stdout(): string
  stderr(): string
  /** Sends a signal without waiting. */
  signal(signal: NodeJS.Signals): void
  /** SIGTERM, then waits; SIGKILL and an error after `timeoutMs` (default 15 s). */
  stop(timeoutMs?: number): Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  /** SIGKILL, then waits. */
  kill9(): Promise<void>
  /** Resolves when it has ended. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

/**
 * Starts a long-running verb with `--json` added and waits for its `{"type":"ready"}` line.
 * @throws {Error} with its stderr when it ends first or is not ready within `timeoutMs` (default 30 s).
 */
export async function startTool(name: ToolName, args: string[], opts: ToolOptions = {}): Promise<RunningTool> {
  const begun = performance.now()
  const child = launch(name, args.includes('--json') ? args : [...args, '--json'], opts)
  const out = collect(child.stdout)
  const err = collect(child.stderr)
  child.stdin.on('error', () => {})
  child.stdin.end(opts.input ?? '')
  let end: { code: number | null; signal: NodeJS.Signals | null } | undefined
  const ended = closed(child).then(([code, signal]) => {
    end = { code, signal }
    return end
  })
  const stdout = (): string => Buffer.concat(out.chunks).toString()
  const stderr = (): string => Buffer.concat(err.chunks).toString()
  const records = (): JsonRecord[] => parseRecords(stdout())
  const command = `${name} ${args.join(' ')}`

  const timeoutMs = opts.timeoutMs ?? 30_000
  let ready: JsonRecord | undefined
  try {
    await waitFor(
      () => {
        ready = records().find(r => r.type === (opts.readyType ?? 'ready'))
        return ready !== undefined || end !== undefined
      },
      { timeoutMs, everyMs: 10, what: `'${command}' to be ready` }
    )
  } catch (cause) {
    child.kill('SIGKILL')
    await ended
    throw new Error(`'${command}' was not ready within ${timeoutMs} ms; stderr:\n${stderr()}`, { cause })
  }
  if (ready === undefined) {
    throw new Error(`'${command}' ended before it was ready: ${end?.code ?? end?.signal}; stderr:\n${stderr()}`)
  }
  const url = String(ready.url ?? ready.rpc_url ?? `http://127.0.0.1:${ready.port ?? ready.rpc_port}`)
  return {
    pid: child.pid!,
    ready,
    url,
    port: Number(ready.port ?? ready.rpc_port ?? (URL.canParse(url) ? new URL(url).port : Number.NaN)),
    readyMs: performance.now() - begun,
    records,
    stdout,
    stderr,
    signal: signal => void child.kill(signal),
    async stop(stopMs = 15_000) {
      child.kill('SIGTERM')
      let late = false
      const timer = setTimeout(() => {
        late = true
        child.kill('SIGKILL')
      }, stopMs)
      const result = await ended
      clearTimeout(timer)
      if (late) throw new Error(`'${command}' did not stop within ${stopMs} ms; stderr:\n${stderr()}`)
      return result
    },
    async kill9() {
      child.kill('SIGKILL')
      await ended
    },
    ended
  }
}

export interface Sandbox {
  /** An empty directory, removed with the sandbox. */
  dir: string
  /** XDG_* below `dir`; pass it as `env`. */
  env: Record<string, string>
  /** `dir` and these names. */
  path(...names: string[]): string
  remove(): void
}

/** Directories of a test's own: no tool of one test sees what another left. Removed when the process ends at the latest. */
export function sandbox(name = 'test'): Sandbox {
  const dir = mkdtempSync(join(tmpdir(), `zg-${name}-`))
  const env: Record<string, string> = { HOME: dir }
  for (const [variable, sub] of XDG) {
    env[variable] = join(dir, sub)
    mkdirSync(env[variable], { mode: 0o700 })
  }
  sandboxes.add(dir)
  const remove = (): void => {
    sandboxes.delete(dir)
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 })
  }
  return { dir, env, path: (...names) => join(dir, ...names), remove }
}

const XDG: readonly [variable: string, sub: string][] = [
  ['XDG_CONFIG_HOME', 'config'],
  ['XDG_DATA_HOME', 'data'],
  ['XDG_STATE_HOME', 'state'],
  ['XDG_CACHE_HOME', 'cache'],
  ['XDG_RUNTIME_DIR', 'run']
]

/** Waits until `cond` holds. @throws {Error} after `timeoutMs` (default 10 s), naming `what`. */
export async function waitFor(
  cond: () => boolean | Promise<boolean>,
  opts: { timeoutMs?: number; everyMs?: number; what?: string } = {}
): Promise<void> {
  const end = performance.now() + (opts.timeoutMs ?? 30_000)
  for (;;) {
    if (await cond()) return
    if (performance.now() > end) throw new Error(`gave up waiting for ${opts.what ?? 'a condition'}`)
    await new Promise(resolve => setTimeout(resolve, opts.everyMs ?? 20))
  }
}

/**
 * For the teardown of tests that hold other people's clients: when every assertion has run, a socket or timer that such a client
 * still keeps must not hold the process until the runner's time limit. Says what was open and ends with the status the runner set.
 */
export function endSoon(afterMs = 5_000): void {
  const timer = setTimeout(() => {
    process.stderr.write(`still open after the last test: ${process.getActiveResourcesInfo().join(', ')}\n`)
    process.exit()
  }, afterMs)
  // Holds nothing itself: without other handles the process ends at once.
  timer.unref()
}

/** Below the ports that the system hands out by itself (32768 on Linux), above the first blocks of networks (18000). */
const PORTS = { from: 24_000, count: 8_000 }

/**
 * A loopback port that nobody listens on now, and that the system gives to nobody who asks for any: it stays free while a tool
 * starts, or is down for a while. Prefer port 0 where the tool takes it.
 */
export async function freePort(): Promise<number> {
  for (let i = 0; i < 100; i++) {
    const port = PORTS.from + randomInt(PORTS.count)
    const server = createServer()
    const taken = await new Promise<boolean>(resolve => {
      server.once('error', () => resolve(true))
      server.listen(port, '127.0.0.1', () => resolve(false))
    })
    if (taken) continue
    await new Promise(resolve => server.close(resolve))
    return port
  }
  throw new Error('no free port')
}

/** Lines of stdout that are JSON records; a last, unfinished line is left out. */
export function parseRecords(stdout: string): JsonRecord[] {
  return stdout
    .split('\n')
    .slice(0, -1)
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line) as JsonRecord)
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>

const children = new Set<Child>()
const sandboxes = new Set<string>()
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
  for (const dir of sandboxes) rmSync(dir, { recursive: true, force: true })
})

function launch(name: ToolName, args: string[], opts: ToolOptions): Child {
  const env: NodeJS.ProcessEnv = { ...process.env, NO_COLOR: '1' }
  // Nothing of the person who runs the tests may steer the tools.
  for (const variable of Object.keys(env)) if (variable.startsWith('ZG_')) delete env[variable]
  for (const [variable, value] of Object.entries(opts.env ?? {})) {
    if (value === undefined) delete env[variable]
    else env[variable] = value
  }
  const node = [process.execPath, ...(opts.execArgv ?? [])]
  const command = ['-u', 'NODE_OPTIONS', ...node, join(packageRoot, 'bin', name), ...args]
  const child = spawn('/usr/bin/env', command, {
    cwd: opts.cwd ?? packageRoot,
    env,
    stdio: ['pipe', 'pipe', 'pipe']
  })
  children.add(child)
  child.once('exit', () => children.delete(child))
  return child
}

function collect(stream: Readable): { chunks: Buffer[] } {
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  return { chunks }
}

function closed(child: Child): Promise<[number | null, NodeJS.Signals | null]> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve([code, signal]))
  })
}

function findRoot(): string {
  for (let dir = dirname(fileURLToPath(import.meta.url)); ; dir = dirname(dir)) {
    if (existsSync(join(dir, 'package.json'))) return dir
    if (dir === dirname(dir)) throw new Error('no package.json above the test harness')
  }
}
