/** Accounts, code, storage and proofs at a block. */
import { RPC, RpcError, type RpcMethods, type RpcParams } from '../../../lib/adapters/jsonrpc/types.ts'
import { toHex, toQuantity } from '../../../lib/base/hex.ts'
import type { StateReader } from '../core/types.ts'
import { LATEST, needBlock, type RpcSetup } from './context.ts'
import { arg, asAddress, asArray, asBlock, asObject, asSlot, invalid, optional } from './decode.ts'

/** Slots in one eth_getProof or eth_getStorageValues. */
const MAX_SLOTS = 1_024

export function stateMethods(s: RpcSetup): RpcMethods {
  const { chain } = s

  function stateAt(params: RpcParams, index: number): StateReader {
    return chain.state(needBlock(chain, optional(params, index, 'block', asBlock) ?? LATEST))
  }

  return {
    eth_getBalance: params => {
      const address = arg(params, 0, 'address', asAddress)
      return toQuantity(stateAt(params, 1).now.account(address)?.balance ?? 0n)
    },
    eth_getCode: params => {
      const address = arg(params, 0, 'address', asAddress)
      return toHex(stateAt(params, 1).now.code(address))
    },
    eth_getStorageAt: params => {
      const address = arg(params, 0, 'address', asAddress)
      const { slot } = arg(params, 1, 'storage key', asSlot)
      return toHex(stateAt(params, 2).now.storage(address, slot))
    },
    eth_getStorageValues: params => {
      const request = arg(params, 0, 'requests', asObject)
      const wanted = Object.keys(request).map(key => ({
        key,
        address: asAddress(key, 'address'),
        slots: asArray(request[key], `slots of ${key.slice(0, 42)}`, MAX_SLOTS).map(v => asSlot(v, 'storage key').slot)
      }))
      const total = wanted.reduce((n, w) => n + w.slots.length, 0)
      if (total === 0) throw new RpcError(RPC.params, 'empty request')
      if (total > MAX_SLOTS) throw invalid('requests', `${total} slots, at most ${MAX_SLOTS}`)
      const state = stateAt(params, 1).now
      const out: [string, string[]][] = []
      for (const { address, slots } of wanted) {
        out.push([toHex(address), slots.map(slot => toHex(state.storage(address, slot)))])
      }
      return Object.fromEntries(out)
    },
    eth_getTransactionCount: params => {
      const address = arg(params, 0, 'address', asAddress)
      const ref = needBlock(chain, optional(params, 1, 'block', asBlock) ?? LATEST)
      if (ref.kind === 'pending') return toQuantity(chain.pool.pendingNonceNow(address))
      return toQuantity(chain.state(ref).now.account(address)?.nonce ?? 0n)
    },
    eth_getProof: async params => {
      const address = arg(params, 0, 'address', asAddress)
      const keys = (optional(params, 1, 'storageKeys', (v, n) => asArray(v, n, MAX_SLOTS)) ?? []).map((key, i) =>
        asSlot(key, `storageKeys[${i}]`)
      )
      const proof = await stateAt(params, 2).proof(
        address,
        keys.map(k => k.slot)
      )
      return {
        address: toHex(address),
        accountProof: proof.accountProof.map(toHex),
        balance: toQuantity(proof.account.balance),
        codeHash: toHex(proof.account.codeHash),
        nonce: toQuantity(proof.account.nonce),
        storageHash: toHex(proof.account.storageRoot),
        storageProof: proof.storage.map((entry, i) => ({
          key: keys[i]!.echo,
          value: toQuantity(entry.value),
          proof: entry.proof.map(toHex)
        }))
      }
    }
  }
}
