/** The environment names that scripts rely on (design.md). A service that a network does not run leaves its name unset. */
import type { NetworkFile } from '../../lib/clients/network.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'

export function environmentOf(
  file: NetworkFile,
  keys: boolean,
  /** A session token of account 0 for the local provider. */
  apiKey: string | undefined
): [name: string, value: string][] {
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
    ['ZG_DA_DISPERSER', e.da],
    ['ZG_DA_RETRIEVER', e.retriever],
    ['ZG_DA_ENTRANCE', e.da === undefined ? undefined : file.contracts.daEntrance],
    ['LEDGER_CA', e.compute === undefined ? undefined : file.contracts.ledger],
    ['INFERENCE_CA', e.compute === undefined ? undefined : file.contracts.inference],
    ['FINE_TUNING_CA', e.compute === undefined ? undefined : file.contracts.fineTuning],
    ['ZG_PROVIDER', e.provider],
    ['OPENAI_BASE_URL', e.compute === undefined ? undefined : `${e.compute}/v1/proxy`],
    ['OPENAI_API_KEY', apiKey],
    ['PRIVATE_KEY', keys ? DEV_ACCOUNTS[0]!.privateKey : undefined]
  ]
  return pairs.filter((p): p is [string, string] => p[1] !== undefined && p[1] !== '')
}
