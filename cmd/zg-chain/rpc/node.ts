/** `web3_*`, `net_*` and what a client asks first. */

import type { RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { toHex, toQuantity } from '../../../lib/base/hex.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import type { RpcSetup } from './context.ts'
import { arg, asBytes } from './decode.ts'

/** Blocks back for which the engine makes proofs (native/evm/db/state_store.h). */
const PROOF_WINDOW = 10_000

export function nodeMethods(s: RpcSetup): RpcMethods {
  const { chain } = s
  const modules = ['eth', 'net', 'web3', 'txpool', 'rpc', 'debug', ...(s.dev ? ['evm', 'anvil', 'hardhat'] : [])]
  return {
    web3_clientVersion: () => s.clientVersion,
    web3_sha3: params => toHex(keccak256(arg(params, 0, 'data', asBytes))),
    net_version: () => chain.chainId.toString(),
    net_listening: () => true,
    // One sequencer decides alone: there are no peers to count.
    net_peerCount: () => '0x0',
    rpc_modules: () => Object.fromEntries(modules.map(name => [name, '1.0'])),
    eth_chainId: () => toQuantity(chain.chainId),
    eth_protocolVersion: () => '0x44',
    eth_syncing: () => false,
    eth_mining: () => false,
    eth_hashrate: () => '0x0',
    eth_coinbase: () => toHex(chain.head().beneficiary),
    eth_accounts: () => chain.devAccounts.map(a => toHex(a.address)),
    eth_capabilities: () => {
      const head = chain.head()
      const whole = { disabled: false, oldestBlock: '0x0' }
      // Blocks, receipts and logs are kept for ever; states only as far back as the setting says.
      const states =
        s.history === undefined
          ? whole
          : {
              disabled: false,
              oldestBlock: toQuantity(Math.max(0, head.number - s.history)),
              deleteStrategy: { type: 'window', retentionBlocks: toQuantity(s.history) }
            }
      const proofs = Math.min(s.history ?? PROOF_WINDOW, PROOF_WINDOW)
      return {
        head: { number: toQuantity(head.number), hash: toHex(head.hash) },
        state: states,
        tx: whole,
        logs: whole,
        receipts: whole,
        blocks: whole,
        stateproofs: {
          disabled: false,
          oldestBlock: toQuantity(Math.max(0, head.number - proofs)),
          deleteStrategy: { type: 'window', retentionBlocks: toQuantity(proofs) }
        }
      }
    }
  }
}
