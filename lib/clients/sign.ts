/** Transactions from their fields to signed bytes, without a wallet library. */
import { RLP } from '@ethereumjs/rlp'
import { concat } from '../base/bytes.ts'
import { keccak256 } from '../crypto/hash.ts'
import { sign } from '../crypto/secp256k1.ts'

/** A transaction with all fields settled, not yet signed. Types 0, 1, 2 and 4. */
export interface UnsignedTransaction {
  type: number
  chainId: bigint
  nonce: bigint
  /** Types 0 and 1. */
  gasPrice?: bigint
  /** Types 2 and 4. */
  maxFeePerGas?: bigint
  maxPriorityFeePerGas?: bigint
  gasLimit: bigint
  to: Uint8Array | null
  value: bigint
  data: Uint8Array
  accessList?: { address: Uint8Array; storageKeys: Uint8Array[] }[]
  authorizationList?: {
    chainId: bigint
    address: Uint8Array
    nonce: bigint
    yParity: number
    r: bigint
    s: bigint
  }[]
}

/** EIP-2718 bytes of a transaction signed with `key`; legacy ones are replay-protected (EIP-155). */
export function signTransaction(tx: UnsignedTransaction, key: Uint8Array): Uint8Array {
  const { chainId } = tx
  const to = tx.to ?? new Uint8Array(0)
  const empty = new Uint8Array(0)
  if (tx.type === 0) {
    const body = [tx.nonce, tx.gasPrice ?? 0n, tx.gasLimit, to, tx.value, tx.data]
    const sig = sign(keccak256(RLP.encode([...body, chainId, empty, empty])), key)
    return RLP.encode([...body, chainId * 2n + 35n + BigInt(sig.yParity), sig.r, sig.s])
  }
  const fees = tx.type === 1 ? [tx.gasPrice ?? 0n] : [tx.maxPriorityFeePerGas ?? 0n, tx.maxFeePerGas ?? 0n]
  const list = (tx.accessList ?? []).map(e => [e.address, e.storageKeys])
  const body = [chainId, tx.nonce, ...fees, tx.gasLimit, to, tx.value, tx.data, list]
  const fields =
    tx.type === 4
      ? [...body, (tx.authorizationList ?? []).map(a => [a.chainId, a.address, a.nonce, a.yParity, a.r, a.s])]
      : body
  const type = Uint8Array.of(tx.type)
  const sig = sign(keccak256(type, RLP.encode(fields)), key)
  return concat(type, RLP.encode([...fields, sig.yParity, sig.r, sig.s]))
}
