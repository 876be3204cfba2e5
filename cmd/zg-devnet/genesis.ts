/** The data of a network before its first block: made once by `zg-chain init`, kept over restarts. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ZgError } from '../../lib/base/errors.ts'
import { packageRoot } from '../../lib/cli/version.ts'
import type { NetworkPlan } from './services.ts'

/** Makes the chain's genesis when the directory has none. @throws {ZgError} ERR_CRASHED with the tool's own last line. */
export async function ensureGenesis(plan: NetworkPlan): Promise<void> {
  const dir = join(plan.dataDir, 'chain')
  if (existsSync(join(dir, 'genesis.json'))) return
  await mkdir(plan.dataDir, { recursive: true, mode: 0o700 })
  await runTool('zg-chain', ['init', '--dir', dir, '--chain-id', `${plan.chainId}`, '--quiet'])
}

/** Removes everything in a network's directory except the lock that this process holds on it. */
export async function clearGenesis(dir: string): Promise<void> {
  for (const entry of await readdir(dir))
    if (entry !== 'lock' && entry !== 'pid') await rm(join(dir, entry), { recursive: true, force: true })
}

/** Runs one of the suite's verbs to its end and answers its stdout. */
export function runTool(
  tool: string,
  args: string[],
  opts: { input?: NodeJS.ReadableStream; env?: NodeJS.ProcessEnv } = {}
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(packageRoot(), 'bin', tool), ...args], {
      stdio: [opts.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...opts.env, NODE_OPTIONS: '' }
    })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout?.on('data', part => out.push(part))
    child.stderr?.on('data', part => err.push(part))
    if (opts.input !== undefined && child.stdin !== null) {
      child.stdin.on('error', () => {})
      opts.input.pipe(child.stdin)
    }
    child.once('error', reject)
    child.once('close', code => {
      if (code === 0) return resolve(Buffer.concat(out).toString())
      const words = Buffer.concat(err).toString().trim().split('\n')
      const message = words.find(l => l.startsWith(`${tool}: `))?.slice(tool.length + 2) ?? words.at(-1) ?? ''
      const hint = words.find(l => l.startsWith('hint: '))?.slice(6)
      reject(new ZgError('ERR_CRASHED', `'${tool} ${args[0]}' failed (exit ${code}): ${message}`, { hint }))
    })
  })
}
