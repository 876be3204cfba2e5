/**
 * The table of services that a network runs: one row a process, started by its public command line. A later layer joins by
 * adding its rows here; everything else (ready table, status, env, logs, restart) follows from them.
 */
import { join } from 'node:path'
import { ZgError } from '../../lib/base/errors.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { contractsOf } from './contracts.ts'

export interface NetworkPlan {
  name: string
  dataDir: string
  chainId: number
  blockTime: string
  gasLimit: string | undefined
  stores: number
  /** File with the signed list of the storage nodes; undefined: they are few, and each keeps whole copies. */
  group: string | undefined
  /** False where the inference engine is not built: there is no other one. */
  compute: boolean
  ports: Ports
}

export interface Ports {
  chain: number
  stores: number[]
  p2p: number[]
  indexer: number
  kv: number
  /** gRPC. */
  signers: number[]
  retriever: number
  disperser: number
  compute: number
}

/** Who pays for what in a network: accounts beside account 0, which users take first, and 9, the faucet. */
const DISPERSER_ACCOUNT = 3
const PROVIDER_ACCOUNT = 4
/** The account of the local inference provider. */
export const PROVIDER = DEV_ACCOUNTS[PROVIDER_ACCOUNT]!
/** A storage node that is quiet for so long is repaired away from: here nobody waits a quarter of an hour to see it. */
const LOST_AFTER = '20s'
/** Signers that genesis holds; three of them suffice. */
const SIGNERS = 4

export interface Service {
  name: string
  kind: 'chain' | 'store' | 'indexer' | 'kv' | 'signer' | 'retriever' | 'da' | 'compute'
  /** Launcher in bin/. */
  tool: string
  args: string[]
  port: number
  /** What stands behind the URL in the table of `up`. */
  note: string
  /** The service in whose row of `up` this one is counted; absent: it has a row. */
  partOf?: string
}

/** Ports where others' tools look for these services (ux.md section 1). */
const KNOWN = {
  chain: 8545,
  store: 5678,
  indexer: 12345,
  kv: 6789,
  signer: 34_000,
  retriever: 34_005,
  disperser: 51_001,
  compute: 3080
}

/** Rows of the table in the order in which they are shown. They start together; whoever needs another retries until it answers. */
export function serviceTable(plan: NetworkPlan): Service[] {
  const rpc = `http://127.0.0.1:${plan.ports.chain}`
  const stores = plan.ports.stores.map(port => `http://127.0.0.1:${port}`)
  const dir = (service: string): string => join(plan.dataDir, service)
  const every =
    plan.blockTime === 'on-demand'
      ? 'blocks on demand'
      : `block every ${plan.blockTime.replace(/(\d)(ms|s|m)$/, '$1 $2')}`
  return [
    {
      name: 'chain',
      kind: 'chain',
      tool: 'zg-chain',
      port: plan.ports.chain,
      note: `id ${plan.chainId}, ${every}`,
      args: [
        'node',
        '--dev',
        '--kind',
        'network',
        '--chain-id',
        `${plan.chainId}`,
        '--dir',
        dir('chain'),
        '--rpc-port',
        `${plan.ports.chain}`,
        '--block-time',
        plan.blockTime,
        ...(plan.gasLimit === undefined ? [] : ['--gas-limit', plan.gasLimit])
      ]
    },
    ...plan.ports.stores.map(
      (port, i): Service => ({
        name: `store-${i}`,
        kind: 'store',
        tool: 'zg-store',
        port,
        note: plan.group === undefined ? 'shard 0/1' : `member of a group of ${plan.stores}`,
        args: [
          'node',
          ...['--dir', dir(`store-${i}`), '--rpc-port', `${port}`, '--rpc-url', rpc],
          ...['--p2p-port', `${plan.ports.p2p[i]}`],
          ...plan.ports.p2p.filter((_, j) => j !== i).flatMap(p => ['--peer', `/ip4/127.0.0.1/tcp/${p}`]),
          ...(plan.group === undefined ? [] : ['--group', plan.group, '--group-lost', LOST_AFTER])
        ]
      })
    ),
    {
      name: 'indexer',
      kind: 'indexer',
      tool: 'zg-store',
      port: plan.ports.indexer,
      note: 'gateway on the same port',
      args: [
        'indexer',
        '--rpc-port',
        `${plan.ports.indexer}`,
        '--rpc-url',
        rpc,
        ...stores.flatMap(url => ['--node', url])
      ]
    },
    {
      name: 'kv',
      kind: 'kv',
      tool: 'zg-store',
      port: plan.ports.kv,
      note: '',
      args: [
        'kv',
        'node',
        '--dir',
        dir('kv'),
        '--rpc-port',
        `${plan.ports.kv}`,
        '--rpc-url',
        rpc,
        '--indexer',
        `http://127.0.0.1:${plan.ports.indexer}`,
        '--flow',
        contractsOf(plan.chainId).flow!
      ]
    },
    ...plan.ports.signers.map(
      (port, i): Service => ({
        name: `signer-${i}`,
        kind: 'signer',
        tool: 'zg-da',
        port,
        note: '',
        partOf: 'da',
        args: ['node', '--dir', dir(`signer-${i}`), '--port', `${port}`, '--rpc-url', rpc, '--dev-signer', `${i}`]
      })
    ),
    {
      name: 'retriever',
      kind: 'retriever',
      tool: 'zg-da',
      port: plan.ports.retriever,
      note: '',
      partOf: 'da',
      args: ['retriever', '--port', `${plan.ports.retriever}`, '--rpc-url', rpc]
    },
    {
      name: 'da',
      kind: 'da',
      tool: 'zg-da',
      port: plan.ports.disperser,
      note: `${SIGNERS} signers, ${Math.ceil((SIGNERS * 2) / 3)} needed`,
      args: [
        'disperser',
        ...['--dir', dir('disperser'), '--port', `${plan.ports.disperser}`, '--rpc-url', rpc],
        ...['--account', `${DISPERSER_ACCOUNT}`, '--retriever', `127.0.0.1:${plan.ports.retriever}`]
      ]
    },
    ...(plan.compute ? [computeService(plan, dir('compute'), rpc)] : [])
  ]
}

function computeService(plan: NetworkPlan, dir: string, rpc: string): Service {
  return {
    name: 'compute',
    kind: 'compute',
    tool: 'zg-compute',
    port: plan.ports.compute,
    note: 'model tiny-zg',
    args: [
      'serve',
      ...['--dir', dir, '--port', `${plan.ports.compute}`, '--rpc-url', rpc],
      ...['--account', `${PROVIDER_ACCOUNT}`, '--owner-account', '0']
    ]
  }
}

/** Ports of a network: the known ones for `devnet`, with `p2p` from the free range; a block of 100 from `base` on otherwise. */
export function planPorts(stores: number, base: number | undefined, p2p: number[] = []): Ports {
  const many = (first: number): number[] => Array.from({ length: stores }, (_, i) => first + i)
  if (base === undefined)
    return {
      chain: KNOWN.chain,
      stores: many(KNOWN.store),
      p2p,
      indexer: KNOWN.indexer,
      kv: KNOWN.kv,
      signers: Array.from({ length: SIGNERS }, (_, i) => KNOWN.signer + i),
      retriever: KNOWN.retriever,
      disperser: KNOWN.disperser,
      compute: KNOWN.compute
    }
  if (base < 1024 || base + 99 > 65_535)
    throw new ZgError('ERR_USAGE', `port base ${base} is out of range (1024 to 65000)`)
  return {
    chain: base,
    stores: many(base + 10),
    p2p: many(base + 60),
    indexer: base + 1,
    kv: base + 2,
    signers: Array.from({ length: SIGNERS }, (_, i) => base + 40 + i),
    retriever: base + 45,
    disperser: base + 3,
    compute: base + 4
  }
}

/** All TCP ports of the network. */
export function listOfPorts(ports: Ports): number[] {
  return [
    ports.chain,
    ...ports.stores,
    ...ports.p2p,
    ports.indexer,
    ports.kv,
    ...ports.signers,
    ports.retriever,
    ports.disperser,
    ports.compute
  ]
}
