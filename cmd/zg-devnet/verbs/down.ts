/** `zg-devnet down`: asks the running network to stop and waits until nothing of it lives. */
import { existsSync } from 'node:fs'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { alive, readNetwork } from '../../../lib/clients/network.ts'
import { control } from '../control-client.ts'

const WAIT_MS = 20_000

export async function down(ctx: VerbContext, args: string[], opts: Options): Promise<number> {
  const name = opts.name as string
  const file = await readNetwork(name)
  if (file === undefined) {
    ctx.say(`network '${name}' is not running`)
    return 1
  }
  if (args[0] !== undefined) {
    await control(file, 'devnet_stop_service', [args[0]])
    ctx.print({ type: 'service_stopped', name: args[0] }, null)
    ctx.say(`${args[0]} stopped\nnext: zg-devnet restart ${args[0]}`)
    return 0
  }
  // A network whose socket is gone still stops on the signal.
  await control(file, 'devnet_stop').catch(() => process.kill(file.pid, 'SIGTERM'))
  const deadline = performance.now() + WAIT_MS
  while (alive(file.pid)) {
    if (performance.now() > deadline) {
      process.kill(file.pid, 'SIGKILL')
      ctx.warn(`network '${name}' did not stop within ${WAIT_MS / 1000} s and was killed`)
      break
    }
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  ctx.print({ type: 'network_stopped', name }, null)
  // Of an ephemeral network nothing is left.
  const kept = existsSync(file.dataDir) ? `its data stays in ${file.dataDir}` : 'nothing of it is kept'
  ctx.say(`network '${name}' stopped, ${kept}`)
  return 0
}
