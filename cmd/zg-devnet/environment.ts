/** The environment names that scripts rely on (design.md). A service that a network does not run leaves its name unset. */
import type { NetworkFile } from '../../lib/clients/network.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'

export function environmentOf(file: NetworkFile, keys: boolean): [name: string, value: string][] {
  const e = file.endpoints
  const pairs: [string, string | undefined][] = [
    ['ZG_NETWORK', file.name],
    ['ETH_RPC_URL', e.rpc],
    ['ETH_WS_URL', e.ws],
    ['RPC_ENDPOINT', e.rpc],
    ['ZG_RPC_ENDPOINT', e.rpc],
    ['ZG_STORE_INDEXER', e.indexer],
    ['ZG_STORE_NODES', e.nodes?.join(',')],
    ['ZG_STORE_KV', e.kv],
    ['ZG_FLOW', file.contracts.flow],
    ['PRIVATE_KEY', keys ? DEV_ACCOUNTS[0]!.privateKey : undefined]
  ]
  return pairs.filter((p): p is [string, string] => p[1] !== undefined && p[1] !== '')
}
