/**
 * A whole data availability network of the built tools for one test file: chain with the contracts of 0G, four signers, disperser
 * and retriever, each a process of its own on a free port. Each can be killed and started again on the same data and port.
 */
import { freePort, type RunningTool, type Sandbox, sandbox, startTool } from './tools.ts'

export interface DaNetwork {
  box: Sandbox
  chain: RunningTool
  rpc: string
  signers: DaService[]
  disperser: DaService
  retriever: DaService
  /** Flags by which the client verbs find all this. */
  put: string[]
  get: string[]
  env: Record<string, string>
  stop(): Promise<void>
}

/** One daemon, which can die and come back. */
export interface DaService {
  readonly name: string
  readonly port: number
  /** `host:port`. */
  readonly address: string
  /** The running process. @throws {Error} while there is none. */
  tool(): RunningTool
  kill9(): Promise<void>
  stop(): Promise<void>
  /** Starts it again; `args` are added. */
  start(args?: string[]): Promise<void>
}

export interface DaNetworkOptions {
  blockTime?: string
  /** Added to the disperser's. */
  disperser?: string[]
  /** Socket that a signer publishes in place of its own. */
  sockets?: (string | undefined)[]
}

export async function startDaNetwork(name: string, o: DaNetworkOptions = {}): Promise<DaNetwork> {
  const box = sandbox(name)
  const { env } = box
  const chain = await startTool(
    'zg-chain',
    ['node', '--dev', '--kind', 'network', '--in-memory', '--rpc-port', '0', '--block-time', o.blockTime ?? '200ms'],
    { env }
  )
  const rpc = chain.url
  const service = async (label: string, verb: string, args: string[]): Promise<DaService> => {
    const port = await freePort()
    let running: RunningTool | undefined
    const made: DaService = {
      name: label,
      port,
      address: `127.0.0.1:${port}`,
      tool: () => {
        if (running === undefined) throw new Error(`${label} does not run`)
        return running
      },
      async kill9() {
        await running?.kill9()
        running = undefined
      },
      async stop() {
        const ending = running
        running = undefined
        await ending?.stop()
      },
      async start(more = []) {
        running = await startTool('zg-da', [verb, '--port', String(port), '--rpc-url', rpc, ...args, ...more], {
          env,
          timeoutMs: 60_000
        })
      }
    }
    return made
  }
  const signers: DaService[] = []
  for (let i = 0; i < 4; i++) {
    const socket = o.sockets?.[i]
    const args = ['--dev-signer', String(i), '--dir', box.path(`signer-${i}`)]
    signers.push(await service(`signer-${i}`, 'node', socket === undefined ? args : [...args, '--socket', socket]))
  }
  const retriever = await service('retriever', 'retriever', [])
  const disperser = await service('disperser', 'disperser', [
    '--dir',
    box.path('disperser'),
    '--retriever',
    retriever.address,
    ...(o.disperser ?? [])
  ])
  const all = [...signers, retriever, disperser]
  try {
    await Promise.all(all.map(s => s.start()))
  } catch (err) {
    await Promise.allSettled(all.map(s => s.stop()))
    await chain.stop()
    throw err
  }
  return {
    box,
    chain,
    rpc,
    signers,
    disperser,
    retriever,
    put: ['--disperser', disperser.address, '--rpc-url', rpc],
    get: ['--retriever', retriever.address, '--rpc-url', rpc],
    env,
    async stop() {
      await Promise.allSettled(all.map(s => s.stop()))
      await chain.stop()
      box.remove()
    }
  }
}
