/** `up --detach`: starts the same command in the background and returns when it is ready, or with its first cause of failure. */
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { stateDir } from '../../lib/adapters/paths.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { packageRoot } from '../../lib/base/package-root.ts'
import type { VerbContext } from '../../lib/cli/types.ts'
import { readNetwork } from '../../lib/clients/network.ts'

const POLL_MS = 25

export async function detach(ctx: VerbContext, name: string, timeoutMs: number): Promise<void> {
  const dir = stateDir(name)
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const logPath = join(dir, 'devnet.log')
  const log = openSync(logPath, 'w', 0o600)
  const args = process.argv.slice(2).filter(a => a !== '--detach' && a !== '--json')
  const child = spawn(process.execPath, [join(packageRoot(), 'bin', 'zg-devnet'), ...args], {
    detached: true,
    stdio: ['ignore', log, log],
    env: process.env
  })
  closeSync(log)
  let exit: number | undefined
  child.once('exit', code => {
    exit = code ?? 70
  })
  child.unref()
  const started = performance.now()
  for (;;) {
    const file = await readNetwork(name)
    if (file?.pid === child.pid && file !== undefined) {
      for (const s of file.services) ctx.print({ type: 'service', ...s }, null)
      const seconds = Math.round((performance.now() - started) / 100) / 10
      ctx.print(
        {
          type: 'network_ready',
          name,
          chainId: file.chainId,
          seconds,
          services: file.services.length,
          accounts: 10,
          data_dir: file.dataDir
        },
        null
      )
      for (const line of readFileSync(logPath, 'utf8').trimEnd().split('\n'))
        ctx.say(
          line.replace('Ctrl-C stops all', `'zg-devnet down${name === 'devnet' ? '' : ` --name ${name}`}' stops all`)
        )
      return
    }
    const words = (): string[] => readFileSync(logPath, 'utf8').trim().split('\n')
    if (exit !== undefined) {
      const line =
        words()
          .find(l => l.startsWith('zg-devnet: '))
          ?.slice('zg-devnet: '.length) ?? `zg-devnet up ended (exit ${exit})`
      throw new ZgError(exit === 75 ? 'ERR_LOCKED' : exit === 78 ? 'ERR_PORT_IN_USE' : 'ERR_CRASHED', line, {
        hint:
          words()
            .find(l => l.startsWith('hint: '))
            ?.slice(6) ?? `read '${logPath}'`
      })
    }
    if (performance.now() - started > timeoutMs || ctx.signal.aborted) {
      if (child.pid !== undefined) process.kill(child.pid, 'SIGTERM')
      throw new ZgError('ERR_UNAVAILABLE', `network '${name}' was not ready within ${timeoutMs / 1000} s`, {
        hint: `zg-devnet logs --name ${name}`,
        facts: words().slice(-2)
      })
    }
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
}
