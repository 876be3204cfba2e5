/** The control socket of `zg-devnet up`: status, restart, stop, kill and start, from the other verbs. */
import { serveRpc } from '../../lib/adapters/jsonrpc/server.ts'
import { RPC, RpcError } from '../../lib/adapters/jsonrpc/types.ts'
import { runtimeDir } from '../../lib/adapters/paths.ts'
import type { ServiceStatus, Supervisor } from './supervisor.ts'

export interface Control {
  path: string
  /** Resolves when `zg-devnet down` asked. */
  stopAsked: Promise<void>
  close(): Promise<void>
}

export async function openControl(network: string, supervisor: Supervisor): Promise<Control> {
  const path = runtimeDir(network, 'control.sock')
  let ask: () => void = () => {}
  const stopAsked = new Promise<void>(resolve => {
    ask = resolve
  })
  const server = await serveRpc({
    socketPath: path,
    methods: {
      devnet_status: (): ServiceStatus[] => supervisor.status(),
      devnet_stop: () => {
        setImmediate(ask)
        return true
      },
      devnet_stop_service: ([name]) => one(name, n => supervisor.stopOne(n)),
      devnet_kill_service: ([name, again]) => one(name, n => supervisor.killOne(n, again === true)),
      devnet_start_service: ([name]) => one(name, n => supervisor.startOne(n)),
      devnet_restart: ([name]) => one(name, n => supervisor.restart(n))
    }
  })
  return { path, stopAsked, close: () => server.close() }
}

async function one(name: unknown, act: (name: string) => boolean | Promise<boolean>): Promise<true> {
  if (typeof name !== 'string' || !(await act(name)))
    throw new RpcError(RPC.params, `no service '${String(name).slice(0, 40)}'`)
  return true
}
