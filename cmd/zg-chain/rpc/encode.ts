/** Blocks, transactions, receipts and logs as Ethereum's JSON-RPC writes them (chain.md 9.3). Addresses are lower case. */
import { jsonList } from '../../../lib/adapters/jsonrpc/json-list.ts'
import { JsonText } from '../../../lib/adapters/jsonrpc/types.ts'
import { type Hex, toHex, toQuantity } from '../../../lib/base/hex.ts'
import type { Block, BlockHeader, Log, PlacedLog, Receipt, Transaction } from '../core/types.ts'

const ZERO_ADDRESS: Hex = `0x${'00'.repeat(20)}`

const quantity = toQuantity

export function encodeHeader(h: BlockHeader): Record<string, unknown> {
  const out: Record<string, unknown> = {
    hash: toHex(h.hash),
    parentHash: toHex(h.parentHash),
    sha3Uncles: toHex(h.ommersHash),
    miner: toHex(h.beneficiary),
    stateRoot: toHex(h.stateRoot),
    transactionsRoot: toHex(h.transactionsRoot),
    receiptsRoot: toHex(h.receiptsRoot),
    logsBloom: toHex(h.logsBloom),
    difficulty: quantity(h.difficulty),
    number: quantity(h.number),
    gasLimit: quantity(h.gasLimit),
    gasUsed: quantity(h.gasUsed),
    timestamp: quantity(h.timestamp),
    extraData: toHex(h.extraData),
    mixHash: toHex(h.prevRandao),
    nonce: toHex(h.nonce)
  }
  // What a fork does not have yet is left out.
  if (h.baseFeePerGas !== undefined) out.baseFeePerGas = quantity(h.baseFeePerGas)
  if (h.withdrawalsRoot !== undefined) out.withdrawalsRoot = toHex(h.withdrawalsRoot)
  if (h.blobGasUsed !== undefined) out.blobGasUsed = quantity(h.blobGasUsed)
  if (h.excessBlobGas !== undefined) out.excessBlobGas = quantity(h.excessBlobGas)
  if (h.parentBeaconBlockRoot !== undefined) out.parentBeaconBlockRoot = toHex(h.parentBeaconBlockRoot)
  if (h.requestsHash !== undefined) out.requestsHash = toHex(h.requestsHash)
  return out
}

/**
 * A block with transaction hashes, or with whole transactions when `full`; made in turns.
 * @param hashes - the hashes as the text of a JSON list, if they are known.
 */
export async function encodeBlock(block: Block, full: boolean, hashes?: string): Promise<JsonText> {
  const list = hashes ?? (await jsonList(block.transactions.length, i => shownTransaction(block, i, full)))
  return new JsonText(`${JSON.stringify(blockFields(block)).slice(0, -1)},"transactions":${list}}`)
}

/** The same at once, for a block of a few transactions. */
export function encodeSmallBlock(block: Block, full: boolean): Record<string, unknown> {
  return { ...blockFields(block), transactions: block.transactions.map((_, i) => shownTransaction(block, i, full)) }
}

function shownTransaction(block: Block, index: number, full: boolean): unknown {
  const tx = block.transactions[index]!
  return full ? encodeTransaction(tx, placeOf(block.header, index)) : toHex(tx.hash)
}

function blockFields(block: Block): Record<string, unknown> {
  const out: Record<string, unknown> = {
    ...encodeHeader(block.header),
    size: quantity(block.raw.length),
    uncles: block.ommers.map(o => toHex(o.hash))
  }
  if (block.withdrawals !== undefined) {
    out.withdrawals = block.withdrawals.map(w => ({
      index: quantity(w.index),
      validatorIndex: quantity(w.validatorIndex),
      address: toHex(w.address),
      amount: quantity(w.amount)
    }))
  }
  return out
}

/** An uncle: a header as a block without transactions, as geth shows it. */
export function encodeUncle(header: BlockHeader, size: number): Record<string, unknown> {
  return { ...encodeHeader(header), size: quantity(size), uncles: [] }
}

/** What a block would be if it were built now; the fields that only sealing gives are null. */
export function encodePendingBlock(
  parent: BlockHeader,
  next: { baseFee: bigint; gasLimit: bigint; timestamp: number; transactions: Transaction[] },
  full: boolean
): Record<string, unknown> {
  return {
    ...encodeHeader({ ...parent, gasUsed: 0n, logsBloom: new Uint8Array(256) }),
    hash: null,
    nonce: null,
    parentHash: toHex(parent.hash),
    number: quantity(parent.number + 1),
    timestamp: quantity(next.timestamp),
    baseFeePerGas: quantity(next.baseFee),
    gasLimit: quantity(next.gasLimit),
    miner: ZERO_ADDRESS,
    size: quantity(next.transactions.reduce((size, tx) => size + tx.raw.length, 0)),
    transactions: next.transactions.map(tx => (full ? encodeTransaction(tx) : toHex(tx.hash))),
    uncles: [],
    ...(parent.withdrawalsRoot === undefined ? {} : { withdrawals: [] })
  }
}

/** Where a mined transaction stands. */
export interface Place {
  blockHash: Uint8Array
  blockNumber: number
  blockTimestamp: number
  index: number
  /** Absent before London. */
  baseFee: bigint | undefined
}

export function placeOf(h: BlockHeader, index: number): Place {
  return { blockHash: h.hash, blockNumber: h.number, blockTimestamp: h.timestamp, index, baseFee: h.baseFeePerGas }
}

/** The price a transaction pays under a base fee; its cap without one. */
export function effectivePrice(tx: Transaction, baseFee: bigint | undefined): bigint {
  if (tx.maxFeePerGas === undefined) return tx.gasPrice ?? 0n
  if (baseFee === undefined) return tx.maxFeePerGas
  const price = baseFee + (tx.maxPriorityFeePerGas ?? 0n)
  return price < tx.maxFeePerGas ? price : tx.maxFeePerGas
}

/** A transaction; block fields are null while it waits in the pool. */
export function encodeTransaction(tx: Transaction, place?: Place): Record<string, unknown> {
  const out: Record<string, unknown> = {
    blockHash: place === undefined ? null : toHex(place.blockHash),
    blockNumber: place === undefined ? null : quantity(place.blockNumber),
    blockTimestamp: place === undefined ? null : quantity(place.blockTimestamp),
    transactionIndex: place === undefined ? null : quantity(place.index),
    hash: toHex(tx.hash),
    type: quantity(tx.type),
    from: toHex(tx.from),
    to: tx.to === null ? null : toHex(tx.to),
    nonce: quantity(tx.nonce),
    gas: quantity(tx.gasLimit),
    gasPrice: quantity(effectivePrice(tx, place?.baseFee)),
    value: quantity(tx.value),
    input: toHex(tx.data)
  }
  if (tx.maxFeePerGas !== undefined) {
    out.maxFeePerGas = quantity(tx.maxFeePerGas)
    out.maxPriorityFeePerGas = quantity(tx.maxPriorityFeePerGas ?? 0n)
  }
  if (tx.chainId !== undefined) out.chainId = quantity(tx.chainId)
  if (tx.type >= 1) {
    out.accessList = (tx.accessList ?? []).map(e => ({
      address: toHex(e.address),
      storageKeys: e.storageKeys.map(toHex)
    }))
    out.yParity = quantity(tx.v)
  }
  if (tx.type === 3) {
    out.maxFeePerBlobGas = quantity(tx.maxFeePerBlobGas ?? 0n)
    out.blobVersionedHashes = (tx.blobVersionedHashes ?? []).map(toHex)
  }
  if (tx.type === 4) {
    out.authorizationList = (tx.authorizationList ?? []).map(a => ({
      chainId: quantity(a.chainId),
      address: toHex(a.address),
      nonce: quantity(a.nonce),
      yParity: quantity(a.yParity),
      r: quantity(a.r),
      s: quantity(a.s)
    }))
  }
  out.v = quantity(tx.v)
  out.r = quantity(tx.r)
  out.s = quantity(tx.s)
  return out
}

/** The receipt of transaction `index`. */
export function encodeReceipt(
  block: Block,
  receipts: Receipt[],
  index: number,
  blob?: BlobFee
): Record<string, unknown> {
  const tx = block.transactions[index]!
  const receipt = receipts[index]!
  const firstLog = logsBefore(receipts)[index]!
  const out: Record<string, unknown> = {
    transactionHash: toHex(tx.hash),
    transactionIndex: quantity(index),
    blockHash: toHex(block.header.hash),
    blockNumber: quantity(block.header.number),
    from: toHex(tx.from),
    to: tx.to === null ? null : toHex(tx.to),
    cumulativeGasUsed: quantity(receipt.cumulativeGasUsed),
    gasUsed: quantity(receipt.gasUsed),
    contractAddress: receipt.contractAddress === null ? null : toHex(receipt.contractAddress),
    logs: receipt.logs.map((log, i) => encodeLog(placeLog(block, tx, index, log, firstLog + i))),
    logsBloom: toHex(receipt.logsBloom),
    type: quantity(receipt.type),
    effectiveGasPrice: quantity(receipt.effectiveGasPrice)
  }
  if (receipt.root === undefined) out.status = quantity(receipt.status)
  else out.root = toHex(receipt.root)
  if (tx.type === 3) {
    out.blobGasUsed = quantity(BLOB_GAS * (tx.blobVersionedHashes ?? []).length)
    if (blob !== undefined) out.blobGasPrice = quantity(blob.price)
  }
  return out
}

const counted = new WeakMap<Receipt[], Uint32Array>()

/** For each receipt, how many logs of the block come before its own: counted once for a block that is read again and again. */
function logsBefore(receipts: Receipt[]): Uint32Array {
  let before = counted.get(receipts)
  if (before === undefined) {
    before = new Uint32Array(receipts.length)
    for (let i = 1; i < receipts.length; i++) before[i] = before[i - 1]! + receipts[i - 1]!.logCount
    counted.set(receipts, before)
  }
  return before
}

/** Gas of one blob (EIP-4844). */
const BLOB_GAS = 131_072

/** What a unit of blob gas costs in a block. */
export interface BlobFee {
  price: bigint
}

function placeLog(block: Block, tx: Transaction, transactionIndex: number, log: Log, logIndex: number): PlacedLog {
  return {
    ...log,
    blockHash: block.header.hash,
    blockNumber: block.header.number,
    blockTimestamp: block.header.timestamp,
    transactionHash: tx.hash,
    transactionIndex,
    logIndex
  }
}

/** All logs of a block in order, with their places. */
export function placedLogs(block: Block, receipts: Receipt[]): PlacedLog[] {
  const out: PlacedLog[] = []
  receipts.forEach((receipt, i) => {
    for (const log of receipt.logs) out.push(placeLog(block, block.transactions[i]!, i, log, out.length))
  })
  return out
}

export function encodeLog(log: PlacedLog, removed = false): Record<string, unknown> {
  return {
    address: toHex(log.address),
    topics: log.topics.map(toHex),
    data: toHex(log.data),
    blockNumber: quantity(log.blockNumber),
    transactionHash: toHex(log.transactionHash),
    transactionIndex: quantity(log.transactionIndex),
    blockHash: toHex(log.blockHash),
    blockTimestamp: quantity(log.blockTimestamp),
    logIndex: quantity(log.logIndex),
    removed
  }
}
