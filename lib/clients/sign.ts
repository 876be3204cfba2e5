/** Transactions from their fields to signed bytes, without a wallet library. */

import { concat } from '../base/bytes.ts'
import { encodeRlp } from '../codec/rlp.ts'
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
  const { body, digest } = layout(tx)
  const sig = sign(digest, key)
  const v = tx.type === 0 ? tx.chainId * 2n + 35n + BigInt(sig.yParity) : BigInt(sig.yParity)
  return seal(tx.type, body, [v, sig.r, sig.s])
}

/** The same bytes with zeros for a signature: what eth_fillTransaction hands out to be signed elsewhere. */
export function encodeUnsigned(tx: UnsignedTransaction): Uint8Array {
  return seal(tx.type, layout(tx).body, [0n, 0n, 0n])
}

type Field = bigint | Uint8Array | Field[]

/** The fields before the signature, and what is signed. */
function layout(tx: UnsignedTransaction): { body: Field[]; digest: Uint8Array } {
  const { chainId } = tx
  const empty = new Uint8Array(0)
  const to = tx.to ?? empty
  if (tx.type === 0) {
    const body = [tx.nonce, tx.gasPrice ?? 0n, tx.gasLimit, to, tx.value, tx.data]
    return { body, digest: keccak256(encodeRlp([...body, chainId, empty, empty])) }
  }
  const fees = tx.type === 1 ? [tx.gasPrice ?? 0n] : [tx.maxPriorityFeePerGas ?? 0n, tx.maxFeePerGas ?? 0n]
  const list = (tx.accessList ?? []).map(e => [e.address, e.storageKeys])
  const body: Field[] = [chainId, tx.nonce, ...fees, tx.gasLimit, to, tx.value, tx.data, list]
  if (tx.type === 4) {
    body.push(
      (tx.authorizationList ?? []).map(a => [a.chainId, a.address, a.nonce, BigInt(a.yParity), a.r, a.s] as Field[])
    )
  }
  return { body, digest: keccak256(Uint8Array.of(tx.type), encodeRlp(body)) }
}

function seal(type: number, body: Field[], signature: bigint[]): Uint8Array {
  const encoded = encodeRlp([...body, ...signature])
  return type === 0 ? encoded : concat(Uint8Array.of(type), encoded)
}
