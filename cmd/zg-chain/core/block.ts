/** Headers and blocks as bytes: keccak256(rlp(header)) is the block's hash. */
import { RLP } from '@ethereumjs/rlp'
import { bytesToBig } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { EMPTY_LIST_HASH, EMPTY_TRIE_ROOT, keccak256 } from './hash.ts'
import { orderedRoot } from './ordered-root.ts'
import { decodeTransaction } from './transaction.ts'
import type { Block, BlockHeader, Transaction } from './types.ts'

type Item = Uint8Array | Item[]
type Unhashed = Omit<BlockHeader, 'hash'>

/** The Prague header's 21 fields in order. Difficulty is 0 since there is no work. */
function headerFields(h: Unhashed): (Uint8Array | bigint | number)[] {
  return [
    h.parentHash,
    h.ommersHash,
    h.beneficiary,
    h.stateRoot,
    h.transactionsRoot,
    h.receiptsRoot,
    h.logsBloom,
    0,
    h.number,
    h.gasLimit,
    h.gasUsed,
    h.timestamp,
    h.extraData,
    h.prevRandao,
    h.nonce,
    h.baseFeePerGas,
    h.withdrawalsRoot,
    h.blobGasUsed,
    h.excessBlobGas,
    h.parentBeaconBlockRoot,
    h.requestsHash
  ]
}

/** RLP of a header. */
export function encodeHeader(h: Unhashed): Uint8Array {
  return RLP.encode(headerFields(h))
}

/** Fills in the hash. */
export function sealHeader(h: Unhashed): BlockHeader {
  return { ...h, hash: keccak256(encodeHeader(h)) }
}

/** The block of a sealed header: RLP of header, transactions, no ommers, no withdrawals. */
export function makeBlock(header: BlockHeader, transactions: Transaction[]): Block {
  // Legacy transactions stand in the list as lists, typed ones as byte strings.
  const body = transactions.map(tx => (tx.type === 0 ? (RLP.decode(tx.raw) as Uint8Array[]) : tx.raw))
  return { header, transactions, raw: RLP.encode([headerFields(header), body, [], []]) }
}

/** The header's transactionsRoot. */
export function transactionsRoot(transactions: readonly Transaction[]): Uint8Array {
  return orderedRoot(transactions.map(tx => tx.raw))
}

/** Fields that no block of this chain sets otherwise. */
export const FIXED_HEADER = {
  ommersHash: EMPTY_LIST_HASH,
  nonce: new Uint8Array(8),
  withdrawalsRoot: EMPTY_TRIE_ROOT,
  blobGasUsed: 0n,
  excessBlobGas: 0n
} as const

/**
 * Reads a block of the log.
 * @param senders - one a transaction, as stored beside the block; absent: recovered (1.6 ms each).
 * @throws {ZgError} ERR_CORRUPT when it is no block.
 */
export function decodeBlock(raw: Uint8Array, chainId: bigint, senders?: readonly Uint8Array[]): Block {
  try {
    const [head, txs, ommers, withdrawals] = RLP.decode(raw) as [Uint8Array[], Item[], Item[], Item[]]
    if (head.length !== 21 || ommers.length !== 0 || withdrawals.length !== 0) throw new Error('wrong number of fields')
    const transactions = txs.map((tx, i) => {
      const from = senders?.[i]
      return decodeTransaction(
        tx instanceof Uint8Array ? tx : RLP.encode(tx),
        from === undefined ? { chainId } : { chainId, from }
      )
    })
    return { header: decodeHeader(head), transactions, raw }
  } catch (err) {
    throw new ZgError('ERR_CORRUPT', 'a stored block cannot be read', { cause: err })
  }
}

function decodeHeader(f: Uint8Array[]): BlockHeader {
  const big = (i: number) => bytesToBig(f[i]!)
  const integer = (i: number) => {
    const n = Number(big(i))
    if (!Number.isSafeInteger(n)) throw new ZgError('ERR_CORRUPT', `header field ${i} is out of range`)
    return n
  }
  return sealHeader({
    parentHash: f[0]!,
    ommersHash: f[1]!,
    beneficiary: f[2]!,
    stateRoot: f[3]!,
    transactionsRoot: f[4]!,
    receiptsRoot: f[5]!,
    logsBloom: f[6]!,
    number: integer(8),
    gasLimit: big(9),
    gasUsed: big(10),
    timestamp: integer(11),
    extraData: f[12]!,
    prevRandao: f[13]!,
    nonce: f[14]!,
    baseFeePerGas: big(15),
    withdrawalsRoot: f[16]!,
    blobGasUsed: big(17),
    excessBlobGas: big(18),
    parentBeaconBlockRoot: f[19]!,
    requestsHash: f[20]!
  })
}
