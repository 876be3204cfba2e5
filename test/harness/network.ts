/** A whole local network of the built tools for one test file: on free ports, with directories of its own, gone afterwards. */
import { type RunningTool, type Sandbox, sandbox, startTool } from './tools.ts'

export interface TestNetwork {
  box: Sandbox
  up: RunningTool
  name: string
  rpc: string
  indexer: string
  kv: string
  nodes: string[]
  flow: string
  /** Base URL of the inference provider, its address, its model. */
  compute: string
  provider: string
  model: string
  /** `host:port` of the gRPC services. */
  disperser: string
  retriever: string
  contracts: Record<string, string>
  /** Environment in which the tools find this network. */
  env: Record<string, string>
  /** Pid of a service now. */
  pid(service: string): Promise<number>
  stop(): Promise<void>
}

/** Starts `zg-devnet up --name …` and waits until it is ready. */
export async function startNetwork(name: string, args: string[] = []): Promise<TestNetwork> {
  const box = sandbox(name)
  const { readFileSync } = await import('node:fs')
  const up = await startTool('zg-devnet', ['up', '--name', name, ...args], {
    env: box.env,
    timeoutMs: 60_000,
    readyType: 'network_ready'
  })
  const file = JSON.parse(readFileSync(box.path('run', 'zg', name, 'network.json'), 'utf8'))
  return {
    box,
    up,
    name,
    rpc: file.endpoints.rpc,
    indexer: file.endpoints.indexer,
    kv: file.endpoints.kv,
    nodes: file.endpoints.nodes,
    flow: file.contracts.flow,
    compute: file.endpoints.compute,
    provider: file.endpoints.provider,
    model: 'tiny-zg',
    disperser: file.endpoints.da,
    retriever: file.endpoints.retriever,
    contracts: file.contracts,
    env: { ...box.env, ZG_NETWORK: name },
    async pid(service) {
      const { runTool } = await import('./tools.ts')
      const { stdout } = await runTool('zg-devnet', ['status', '--name', name, '--json'], { env: box.env })
      const row = stdout
        .split('\n')
        .filter(l => l.startsWith('{'))
        .map(l => JSON.parse(l))
        .find(r => r.name === service)
      return row.pid
    },
    async stop() {
      await up.stop(30_000)
      box.remove()
    }
  }
}
