/** Transactions signed ahead of time, in bulk: a load driver that signs while it sends measures itself. */
import { bytesToBig, concat } from '../../../lib/base/bytes.ts'
import { encodeRlp, type RlpInput } from '../../../lib/codec/rlp.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import { addressOf } from '../../../lib/crypto/secp256k1.ts'
import { evmAddon } from '../../../lib/evm/native.ts'

export interface Sender {
  key: Uint8Array
  address: Uint8Array
  nonce: bigint
}

/** A type 2 transaction of a load: fees and chain are the driver's. */
export interface LoadTransaction {
  sender: Sender
  to: Uint8Array | null
  value: bigint
  data: Uint8Array
  gasLimit: bigint
}

export interface Signed {
  raw: Uint8Array
  hash: Uint8Array
}

export interface Fees {
  chainId: bigint
  maxFeePerGas: bigint
  maxPriorityFeePerGas: bigint
}

/** Senders of their own: keys that follow from `seed`, so that the same load can be sent again to a fresh chain. */
export function makeSenders(count: number, seed: string): Sender[] {
  return Array.from({ length: count }, (_, i) => {
    const key = keccak256(new TextEncoder().encode(`zg-bench ${seed} ${i}`))
    return { key, address: addressOf(key), nonce: 0n }
  })
}

/** Signs all; each sender's nonce goes on. Natively, about 30 µs each and core. @throws {ZgError} ERR_NATIVE. */
export function signAll(txs: readonly LoadTransaction[], fees: Fees): Signed[] {
  const bodies: RlpInput[][] = []
  const digests = new Uint8Array(txs.length * 32)
  const keys = new Uint8Array(txs.length * 32)
  txs.forEach((tx, i) => {
    const body: RlpInput[] = [
      fees.chainId,
      tx.sender.nonce++,
      fees.maxPriorityFeePerGas,
      fees.maxFeePerGas,
      tx.gasLimit,
      tx.to,
      tx.value,
      tx.data,
      []
    ]
    bodies.push(body)
    digests.set(keccak256(TYPE, encodeRlp(body)), i * 32)
    keys.set(tx.sender.key, i * 32)
  })
  const signatures = evmAddon().signMany(digests, keys)
  return bodies.map((body, i) => {
    const at = i * 65
    const r = bytesToBig(signatures.subarray(at, at + 32))
    const s = bytesToBig(signatures.subarray(at + 32, at + 64))
    const raw = concat(TYPE, encodeRlp([...body, signatures[at + 64]!, r, s]))
    return { raw, hash: keccak256(raw) }
  })
}

const TYPE = Uint8Array.of(2)
