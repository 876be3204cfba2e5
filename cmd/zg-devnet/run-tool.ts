/** Other tools of the suite, run by their public command line. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { ZgError } from '../../lib/base/errors.ts'
import { packageRoot } from '../../lib/base/package-root.ts'

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
