/** Writes and withdraws the file by which client verbs find the network. */
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type NetworkFile, networkFilePath } from '../../lib/clients/network.ts'
import { contractsOf } from './contracts.ts'
import { type NetworkPlan, PROVIDER } from './services.ts'
import type { Supervisor } from './supervisor.ts'

/** Describes the network as it runs now; written whole, by rename. */
export async function describe(plan: NetworkPlan, supervisor: Supervisor, controlSocket: string): Promise<NetworkFile> {
  const services = supervisor.status()
  const url = (kind: string): string | undefined => services.find(s => s.kind === kind)?.url
  const target = (kind: string): string | undefined => url(kind)?.replace(/^http:\/\//, '')
  const rpc = url('chain')
  const file: NetworkFile = {
    version: 1,
    name: plan.name,
    chainId: plan.chainId,
    pid: process.pid,
    dataDir: plan.dataDir,
    startedAt: new Date().toISOString(),
    controlSocket,
    services: services.map(s => ({
      name: s.name,
      kind: s.kind,
      state: s.state,
      url: s.url,
      port: s.port,
      pid: s.pid,
      restarts: s.restarts
    })),
    endpoints: {
      ...(rpc === undefined ? {} : { rpc, ws: rpc.replace('http:', 'ws:') }),
      ...(url('indexer') === undefined ? {} : { indexer: url('indexer')! }),
      nodes: services.filter(s => s.kind === 'store').map(s => s.url),
      ...(url('kv') === undefined ? {} : { kv: url('kv')! }),
      ...(target('da') === undefined ? {} : { da: target('da')! }),
      ...(target('retriever') === undefined ? {} : { retriever: target('retriever')! }),
      ...(url('compute') === undefined ? {} : { compute: url('compute')!, provider: PROVIDER.address })
    },
    contracts: contractsOf(plan.chainId)
  }
  const path = networkFilePath(plan.name)
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  await writeFile(`${path}.tmp`, `${JSON.stringify(file, null, 2)}\n`, { mode: 0o600 })
  await rename(`${path}.tmp`, path)
  return file
}

/** Takes the file away: from now on nobody finds the network. */
export async function withdraw(name: string): Promise<void> {
  await rm(networkFilePath(name), { force: true })
}
