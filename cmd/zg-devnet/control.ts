/** The control socket of `zg-devnet up`: status, restart, stop, from the other verbs. */
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
      devnet_stop_service: async ([name]) => {
        if (typeof name !== 'string' || !(await supervisor.stopOne(name)))
          throw new RpcError(RPC.params, `no service '${String(name).slice(0, 40)}'`)
        return true
      },
      devnet_restart: async ([name]) => {
        if (typeof name !== 'string' || !(await supervisor.restart(name)))
          throw new RpcError(RPC.params, `no service '${String(name).slice(0, 40)}'`)
        return true
      }
    }
  })
  return { path, stopAsked, close: () => server.close() }
}
