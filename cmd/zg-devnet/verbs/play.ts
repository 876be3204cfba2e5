/** `zg-devnet kill|stop|start SERVICE…`: failures on purpose. What is killed or stopped stays down until it is started. */
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ZgError } from '../../../lib/base/errors.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import type { NetworkFile } from '../../../lib/clients/network.ts'
import { control, requireNetwork } from '../control-client.ts'
import type { ServiceStatus } from '../supervisor.ts'
import { knownServices, untilReady } from './restart.ts'

/** What an emptied disk keeps: by it the others know the service again. */
const KEPT = new Set(['p2p.key'])

export async function kill(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const file = await requireNetwork(opts.name as string)
  const again = opts.restart === true
  for (const name of knownServices(file, args)) {
    await control(file, 'devnet_kill_service', [name, again])
    ctx.print({ type: 'service_stopped', name, how: 'killed' }, null)
    ctx.say(again ? `${name} killed, it is restarted` : `${name} killed\nnext: zg-devnet start ${name}`)
  }
}

export async function stop(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const file = await requireNetwork(opts.name as string)
  for (const name of knownServices(file, args)) {
    await control(file, 'devnet_stop_service', [name])
    ctx.print({ type: 'service_stopped', name, how: 'stopped' }, null)
    ctx.say(`${name} stopped\nnext: zg-devnet start ${name}`)
  }
}

export async function start(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const file = await requireNetwork(opts.name as string)
  const names = knownServices(file, args)
  if (opts.wipe === true) for (const name of names) await wipe(file, name)
  for (const name of names) await control(file, 'devnet_start_service', [name])
  if (opts.wait === false) return
  for (const name of names) {
    const status = await untilReady(file, name)
    ctx.print({ type: 'service', ...status }, `${name} started, pid ${status.pid}`)
  }
}

/** Empties the data directory of a service that is down, as a new disk would be. */
async function wipe(file: NetworkFile, name: string): Promise<void> {
  const all = await control<ServiceStatus[]>(file, 'devnet_status')
  if (all.find(s => s.name === name)?.pid !== 0) {
    throw new ZgError('ERR_LOCKED', `${name} is running`, { hint: `run 'zg-devnet kill ${name}' first` })
  }
  const dir = join(file.dataDir, name)
  for (const entry of await readdir(dir).catch(() => [])) {
    if (!KEPT.has(entry)) await rm(join(dir, entry), { recursive: true, force: true })
  }
}
