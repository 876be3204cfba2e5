/** `zg-devnet restart [SERVICE]`: stops a service in order and starts it again, then waits until it is ready. */
import { ZgError } from '../../../lib/base/errors.ts'
import { suggest } from '../../../lib/cli/suggest.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import type { NetworkFile } from '../../../lib/clients/network.ts'
import { control, requireNetwork } from '../control-client.ts'
import type { ServiceStatus } from '../supervisor.ts'

const READY_MS = 30_000

export async function restart(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const file = await requireNetwork(opts.name as string)
  const wanted = args[0] === undefined ? file.services.map(s => s.name) : knownServices(file, [args[0]])
  for (const name of wanted) {
    await control(file, 'devnet_restart', [name])
    const status = await untilReady(file, name)
    ctx.print({ type: 'service', ...status }, `${name} restarted, pid ${status.pid}`)
  }
}

/** The names as they are. @throws {ZgError} ERR_USAGE for one that the network does not have. */
export function knownServices(file: NetworkFile, wanted: string[]): string[] {
  const names = file.services.map(s => s.name)
  for (const name of wanted) {
    if (names.includes(name)) continue
    const near = suggest(name, names)
    throw new ZgError('ERR_USAGE', `no service '${name}'${near === undefined ? '' : `, did you mean '${near}'?`}`, {
      hint: `services: ${names.join(', ')}`
    })
  }
  return wanted
}

export async function untilReady(file: NetworkFile, name: string): Promise<ServiceStatus> {
  const deadline = performance.now() + READY_MS
  for (;;) {
    const all = await control<ServiceStatus[]>(file, 'devnet_status')
    const status = all.find(s => s.name === name)
    if (status?.state === 'ready') return status
    if (performance.now() > deadline)
      throw new ZgError('ERR_UNAVAILABLE', `${name} did not come back within ${READY_MS / 1000} s`, {
        hint: `zg-devnet logs ${name}`
      })
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}
