/**
 * Execution payloads: the JSON of the Engine API on one side, blocks in RLP on the other. Every field is checked on the way in; the block
 * hash is computed, never believed. Sources: execution-apis (paris, shanghai, cancun, prague, osaka), EIP-7685 for the hash of requests.
 */
import { RPC, RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { type Hex, toHex, toQuantity } from '../../../lib/base/hex.ts'
import {
  decodeRlp,
  encodeRlp,
  type RlpInput,
  type RlpItem,
  rlpBytes,
  rlpList,
  rlpNumber
} from '../../../lib/codec/rlp.ts'
import { keccak256, sha256 } from '../../../lib/crypto/hash.ts'
import { orderedRoot } from '../core/trie-root.ts'

/** Forks that the Engine API tells apart, oldest first. */
export const FORKS = ['paris', 'shanghai', 'cancun', 'prague', 'osaka'] as const
export type Fork = (typeof FORKS)[number]
export const fromFork = (fork: Fork, first: Fork): boolean => FORKS.indexOf(fork) >= FORKS.indexOf(first)

/** Transactions of one payload: a block of 8 MiB holds fewer. */
const MAX_TRANSACTIONS = 1_000_000
const MAX_WITHDRAWALS = 65_536
const MAX_REQUESTS = 256

export interface Withdrawal {
  index: Hex
  validatorIndex: Hex
  address: Hex
  /** Gwei. */
  amount: Hex
}

/** ExecutionPayloadV1 to V3. */
export interface ExecutionPayload {
  parentHash: Hex
  feeRecipient: Hex
  stateRoot: Hex
  receiptsRoot: Hex
  logsBloom: Hex
  prevRandao: Hex
  blockNumber: Hex
  gasLimit: Hex
  gasUsed: Hex
  timestamp: Hex
  extraData: Hex
  baseFeePerGas: Hex
  blockHash: Hex
  transactions: Hex[]
  /** From Shanghai. */
  withdrawals?: Withdrawal[]
  /** From Cancun. */
  blobGasUsed?: Hex
  excessBlobGas?: Hex
}

/** What beside the payload goes into the header. */
export interface PayloadContext {
  fork: Fork
  /** From Cancun. */
  parentBeaconBlockRoot?: Uint8Array
  /** From Prague. */
  requests?: readonly Uint8Array[]
}

export interface PayloadBlock {
  /** rlp [header, transactions, ommers, withdrawals]. */
  raw: Uint8Array
  hash: Uint8Array
  parentHash: Uint8Array
  number: number
  /** What the payload says its hash is. */
  claimed: Uint8Array
  /** Versioned hashes of all blobs, in order. */
  blobHashes: Uint8Array[]
}

/** The block a payload means. @throws {RpcError} −32602 naming the field that is wrong. */
export function blockOfPayload(value: unknown, context: PayloadContext): PayloadBlock {
  const { fork } = context
  const p = record(value, 'executionPayload')
  const withdrawals = fromFork(fork, 'shanghai')
    ? list(p.withdrawals, 'withdrawals', MAX_WITHDRAWALS).map(withdrawal)
    : undefined
  if (withdrawals === undefined && p.withdrawals !== undefined && p.withdrawals !== null)
    throw wrong('withdrawals', 'not before Shanghai')
  if (!fromFork(fork, 'cancun') && (isThere(p.blobGasUsed) || isThere(p.excessBlobGas)))
    throw wrong('blobGasUsed', 'not before Cancun')
  const transactions = list(p.transactions, 'transactions', MAX_TRANSACTIONS).map((tx, i) =>
    data(tx, `transactions[${i}]`)
  )
  const items = transactions.map((tx, i) => transactionItem(tx, `transactions[${i}]`))
  const parentHash = data(p.parentHash, 'parentHash', 32)
  const number = quantity(p.blockNumber, 'blockNumber', 53)
  const extraData = data(p.extraData, 'extraData')
  if (extraData.length > 32) throw wrong('extraData', 'more than 32 bytes')
  const header: RlpInput[] = [
    parentHash,
    EMPTY_OMMERS,
    data(p.feeRecipient, 'feeRecipient', 20),
    data(p.stateRoot, 'stateRoot', 32),
    orderedRoot(transactions),
    data(p.receiptsRoot, 'receiptsRoot', 32),
    data(p.logsBloom, 'logsBloom', 256),
    0,
    number,
    quantity(p.gasLimit, 'gasLimit', 64),
    quantity(p.gasUsed, 'gasUsed', 64),
    quantity(p.timestamp, 'timestamp', 64),
    extraData,
    data(p.prevRandao, 'prevRandao', 32),
    new Uint8Array(8),
    quantity(p.baseFeePerGas, 'baseFeePerGas', 256)
  ]
  if (withdrawals !== undefined) header.push(orderedRoot(withdrawals.map(encodeRlp)))
  if (fromFork(fork, 'cancun')) {
    header.push(quantity(p.blobGasUsed, 'blobGasUsed', 64), quantity(p.excessBlobGas, 'excessBlobGas', 64))
    header.push(context.parentBeaconBlockRoot!)
  }
  if (fromFork(fork, 'prague')) header.push(requestsHash(context.requests ?? []))
  return {
    raw: encodeRlp([header, items, [], ...(withdrawals === undefined ? [] : [withdrawals])]),
    hash: keccak256(encodeRlp(header)),
    parentHash,
    number: Number(number),
    claimed: data(p.blockHash, 'blockHash', 32),
    blobHashes: items.flatMap((item, i) => (item instanceof Uint8Array ? blobHashes(item, i) : []))
  }
}

/** The payload of a block; the fields that its fork does not have are left out. @throws {ZgError} ERR_BAD_INPUT for bytes that are no block. */
export function payloadOfBlock(raw: Uint8Array, hash: Uint8Array): ExecutionPayload {
  const [head, transactions, , withdrawals] = rlpList(decodeRlp(raw))
  const h = rlpList(head)
  const bytes = (i: number): Hex => toHex(rlpBytes(h[i]))
  const number = (i: number): Hex => toQuantity(rlpNumber(h[i]))
  return {
    parentHash: bytes(0),
    feeRecipient: bytes(2),
    stateRoot: bytes(3),
    receiptsRoot: bytes(5),
    logsBloom: bytes(6),
    prevRandao: bytes(13),
    blockNumber: number(8),
    gasLimit: number(9),
    gasUsed: number(10),
    timestamp: number(11),
    extraData: bytes(12),
    baseFeePerGas: number(15),
    blockHash: toHex(hash),
    transactions: rlpList(transactions).map(tx => toHex(transactionBytes(tx))),
    ...(withdrawals === undefined ? {} : { withdrawals: rlpList(withdrawals).map(withdrawalJson) }),
    ...(h.length > 18 ? { blobGasUsed: number(17), excessBlobGas: number(18) } : {})
  }
}

/** The body as engine_getPayloadBodies… give it. */
export function payloadBody(raw: Uint8Array): { transactions: Hex[]; withdrawals: Withdrawal[] | null } {
  const [, transactions, , withdrawals] = rlpList(decodeRlp(raw))
  return {
    transactions: rlpList(transactions).map(tx => toHex(transactionBytes(tx))),
    withdrawals: withdrawals === undefined ? null : rlpList(withdrawals).map(withdrawalJson)
  }
}

/** EIP-7685: sha256 of the joined sha256 of each non-empty request. */
export function requestsHash(requests: readonly Uint8Array[]): Uint8Array {
  return sha256(...requests.filter(r => r.length > 1).map(r => sha256(r)))
}

/** Requests as the API takes them: types strictly ascending, none without data. @throws {RpcError} −32602. */
export function readRequests(value: unknown): Uint8Array[] {
  const requests = list(value, 'executionRequests', MAX_REQUESTS).map((r, i) => data(r, `executionRequests[${i}]`))
  requests.forEach((r, i) => {
    if (r.length <= 1) throw wrong(`executionRequests[${i}]`, 'no data')
    if (i > 0 && requests[i - 1]![0]! >= r[0]!) throw wrong(`executionRequests[${i}]`, 'types do not ascend')
  })
  return requests
}

/** A withdrawal as RLP has it. */
export function withdrawal(value: unknown, i: number): RlpInput[] {
  const w = record(value, `withdrawals[${i}]`)
  const path = `withdrawals[${i}]`
  return [
    quantity(w.index, `${path}.index`, 64),
    quantity(w.validatorIndex, `${path}.validatorIndex`, 64),
    data(w.address, `${path}.address`, 20),
    quantity(w.amount, `${path}.amount`, 64)
  ]
}

function withdrawalJson(item: RlpItem): Withdrawal {
  const [index, validator, address, amount] = rlpList(item)
  return {
    index: toQuantity(rlpNumber(index)),
    validatorIndex: toQuantity(rlpNumber(validator)),
    address: toHex(rlpBytes(address)),
    amount: toQuantity(rlpNumber(amount))
  }
}

const EMPTY_OMMERS = keccak256(Uint8Array.of(0xc0))

/** A legacy transaction stands in a block as a list, a typed one as a string of bytes. */
function transactionItem(tx: Uint8Array, name: string): RlpItem {
  if (tx.length === 0) throw wrong(name, 'empty')
  if (tx[0]! < 0x80) return tx
  try {
    return rlpList(decodeRlp(tx))
  } catch {
    throw wrong(name, 'not a transaction')
  }
}

const transactionBytes = (item: RlpItem): Uint8Array => (item instanceof Uint8Array ? item : encodeRlp(item))

/** Versioned hashes of a type 3 transaction: its eleventh field. */
function blobHashes(tx: Uint8Array, i: number): Uint8Array[] {
  if (tx[0] !== 3) return []
  try {
    return rlpList(rlpList(decodeRlp(tx.subarray(1)))[10]).map(rlpBytes)
  } catch {
    throw wrong(`transactions[${i}]`, 'not a transaction')
  }
}

// ── reading JSON ──

export function wrong(name: string, why: string): RpcError {
  return new RpcError(RPC.params, `invalid ${name}: ${why}`)
}

export const isThere = (value: unknown): boolean => value !== undefined && value !== null

export function record(value: unknown, name: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(name, 'not an object')
  // Own fields only: `__proto__` and its kin are no fields.
  return Object.assign(Object.create(null), value) as Record<string, unknown>
}

export function list(value: unknown, name: string, max: number): readonly unknown[] {
  if (!Array.isArray(value)) throw wrong(name, 'not an array')
  if (value.length > max) throw wrong(name, `${value.length} entries, at most ${max}`)
  return value
}

export function data(value: unknown, name: string, size?: number): Uint8Array {
  if (typeof value !== 'string') throw wrong(name, value === undefined || value === null ? 'missing' : 'not a string')
  if (!/^0x([0-9a-fA-F]{2})*$/.test(value)) throw wrong(name, 'not hex')
  const bytes = new Uint8Array(Buffer.from(value.slice(2), 'hex'))
  if (size !== undefined && bytes.length !== size) throw wrong(name, `${bytes.length} bytes, ${size} wanted`)
  return bytes
}

export function quantity(value: unknown, name: string, bits: number): bigint {
  if (typeof value !== 'string') throw wrong(name, value === undefined || value === null ? 'missing' : 'not a string')
  if (!/^0x(0|[1-9a-fA-F][0-9a-fA-F]{0,63})$/.test(value)) throw wrong(name, 'not a hex quantity')
  const n = BigInt(value)
  if (n >> BigInt(bits) !== 0n) throw wrong(name, `more than ${bits} bits`)
  return n
}
