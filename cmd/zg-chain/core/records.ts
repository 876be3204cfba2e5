/**
 * What crosses the border to the engine, in both directions (the forms stand in lib/evm/types.ts). Records of blocks are cut, not
 * decoded: a block of ten thousand transactions costs a walk over its lengths, and what is inside is read when it is asked for.
 */
import { bytesToBig } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex } from '../../../lib/base/hex.ts'
import {
  decodeRlp,
  encodeRlp,
  type RlpInput,
  type RlpItem,
  rlpBytes,
  rlpList,
  rlpNumber
} from '../../../lib/codec/rlp.ts'
import type { NativeCallResult } from '../../../lib/evm/types.ts'
import type { LogFilter } from './api.ts'
import { decodeHeader } from './block.ts'
import { RawTransaction } from './transaction.ts'
import type {
  AccessListEntry,
  Authorization,
  Block,
  BlockHeader,
  BlockOverride,
  CallRequest,
  CallResult,
  Log,
  PlacedLog,
  Receipt,
  StateOverride,
  StateProof,
  Transaction,
  Withdrawal
} from './types.ts'

const NONE = new Uint8Array(0)

// ---------------------------------------------------------------------------------------------------------------------- blocks

/** A block with its receipts; all of it is views into the record. */
export interface StoredBlock {
  readonly block: Block
  readonly receipts: Receipt[]
  /** Bytes it keeps alive. */
  readonly size: number
}

/** @throws {ZgError} ERR_CORRUPT. */
export function decodeRecord(record: Uint8Array): StoredBlock {
  const [block, hash, senders, receipts] = splitList(record)
  if (receipts === undefined) throw corrupt()
  return new Stored(record, payload(block!), payload(hash!), payload(senders!), receipts)
}

/** A block without the engine's additions: senders are recovered when they are asked for. */
export function decodeBlock(raw: Uint8Array, senders: Uint8Array = NONE): Block {
  return new CutBlock(raw, senders)
}

class Stored implements StoredBlock {
  readonly block: Block
  readonly size: number
  readonly #receipts: Uint8Array
  #read: Receipt[] | undefined

  constructor(record: Uint8Array, block: Uint8Array, hash: Uint8Array, senders: Uint8Array, receipts: Uint8Array) {
    this.size = record.length
    this.block = new CutBlock(block, senders, hash)
    this.#receipts = receipts
  }

  get receipts(): Receipt[] {
    this.#read ??= splitList(this.#receipts).map(raw => new CutReceipt(raw))
    return this.#read
  }
}

class CutBlock implements Block {
  readonly raw: Uint8Array
  readonly header: BlockHeader
  readonly #senders: Uint8Array
  readonly #parts: Uint8Array[]
  #transactions: Transaction[] | undefined

  constructor(raw: Uint8Array, senders: Uint8Array, hash?: Uint8Array) {
    this.raw = raw
    this.#senders = senders
    this.#parts = splitList(raw)
    if (this.#parts.length < 3 || this.#parts.length > 4) throw corrupt()
    this.header = decodeHeader(this.#parts[0]!)
    if (hash !== undefined) this.header.hash = hash
  }

  get transactions(): Transaction[] {
    this.#transactions ??= splitList(this.#parts[1]!).map((item, i) => {
      const from = this.#senders.subarray(20 * i, 20 * i + 20)
      return new RawTransaction(item[0]! >= 0xc0 ? item : payload(item), {
        from: from.length === 20 ? from : undefined
      })
    })
    return this.#transactions
  }

  get ommers(): BlockHeader[] {
    return splitList(this.#parts[2]!).map(decodeHeader)
  }

  get withdrawals(): Withdrawal[] | undefined {
    const raw = this.#parts[3]
    if (raw === undefined) return undefined
    return rlpList(decodeRlp(raw)).map(item => {
      const [index, validatorIndex, address, amount] = rlpList(item)
      return {
        index: rlpNumber(index),
        validatorIndex: rlpNumber(validatorIndex),
        address: rlpBytes(address),
        amount: rlpNumber(amount)
      }
    })
  }
}

class CutReceipt implements Receipt {
  readonly #raw: Uint8Array
  #fields: ReceiptFields | undefined

  constructor(raw: Uint8Array) {
    this.#raw = raw
  }

  get type() {
    return this.#read().type
  }
  get status() {
    return this.#read().status
  }
  get root() {
    return this.#read().root
  }
  get gasUsed() {
    return this.#read().gasUsed
  }
  get cumulativeGasUsed() {
    return this.#read().cumulativeGasUsed
  }
  get effectiveGasPrice() {
    return this.#read().effectiveGasPrice
  }
  get logsBloom() {
    return this.#read().logsBloom
  }
  get logs() {
    return this.#read().logs
  }
  get contractAddress() {
    return this.#read().contractAddress
  }

  get logCount() {
    return this.#fields?.logs.length ?? countItems(itemAt(this.#raw, LOGS))
  }

  #read(): ReceiptFields {
    this.#fields ??= receiptOf(rlpList(decodeRlp(this.#raw)))
    return this.#fields
  }
}

type ReceiptFields = Omit<Receipt, 'logCount'>
/** Place of the logs in a receipt's record. */
const LOGS = 6

function receiptOf(f: readonly RlpItem[]): ReceiptFields {
  const outcome = rlpBytes(f[1])
  const created = rlpBytes(f[7])
  return {
    type: Number(rlpNumber(f[0])),
    status: outcome.length === 1 && outcome[0] === 1 ? 1 : 0,
    root: outcome.length === 32 ? outcome : undefined,
    cumulativeGasUsed: rlpNumber(f[2]),
    gasUsed: rlpNumber(f[3]),
    effectiveGasPrice: rlpNumber(f[4]),
    logsBloom: rlpBytes(f[5]),
    logs: rlpList(f[6]).map(logOf),
    contractAddress: created.length === 0 ? null : created
  }
}

function logOf(item: RlpItem): Log {
  const [address, topics, data] = rlpList(item)
  return { address: rlpBytes(address), topics: rlpList(topics).map(t => rlpBytes(t)), data: rlpBytes(data) }
}

/** [raw, hash, sender]. */
export function decodePooled(raw: Uint8Array): Transaction {
  return pooledOf(decodeRlp(raw))
}

/** [[pending…], [queued…]]. */
export function decodePoolContent(raw: Uint8Array): { pending: Transaction[]; queued: Transaction[] } {
  const [pending, queued] = rlpList(decodeRlp(raw))
  return { pending: rlpList(pending).map(pooledOf), queued: rlpList(queued).map(pooledOf) }
}

function pooledOf(item: RlpItem): Transaction {
  const [raw, hash, from] = rlpList(item)
  return new RawTransaction(rlpBytes(raw), { hash: rlpBytes(hash), from: rlpBytes(from) })
}

// ------------------------------------------------------------------------------------------------------------------------ logs

export function encodeLogFilter(f: LogFilter): Uint8Array {
  return encodeRlp([f.fromBlock, f.toBlock, f.addresses, f.topics, f.limit])
}

export function decodePlacedLogs(raw: Uint8Array): PlacedLog[] {
  return rlpList(decodeRlp(raw)).map(item => {
    const [log, blockHash, blockNumber, blockTimestamp, transactionHash, transactionIndex, logIndex] = rlpList(item)
    return {
      ...logOf(log!),
      blockHash: rlpBytes(blockHash),
      blockNumber: Number(rlpNumber(blockNumber)),
      blockTimestamp: Number(rlpNumber(blockTimestamp)),
      transactionHash: rlpBytes(transactionHash),
      transactionIndex: Number(rlpNumber(transactionIndex)),
      logIndex: Number(rlpNumber(logIndex))
    }
  })
}

// ----------------------------------------------------------------------------------------------------------------------- calls

export function encodeCall(c: CallRequest): Uint8Array {
  return encodeRlp(callFields(c))
}

export function callFields(c: CallRequest): RlpInput[] {
  return [
    c.from,
    c.to,
    c.gas,
    c.gasPrice,
    c.value,
    c.data,
    accessListFields(c.accessList),
    authorizationFields(c.authorizationList),
    c.nonce,
    c.maxFeePerBlobGas,
    c.blobVersionedHashes ?? []
  ]
}

function accessListFields(list: readonly AccessListEntry[] = []): RlpInput[] {
  return list.map(e => [e.address, e.storageKeys])
}

function authorizationFields(list: readonly Authorization[] = []): RlpInput[] {
  return list.map(a => [a.chainId, a.address, a.nonce, a.yParity, a.r, a.s])
}

export function encodeEnvironment(e: Required<BlockOverride>): Uint8Array {
  return encodeRlp(environmentFields(e))
}

export function environmentFields(e: Required<BlockOverride>): RlpInput[] {
  return [e.number, e.timestamp, e.gasLimit, e.beneficiary, e.prevRandao, e.baseFeePerGas, e.blobBaseFee]
}

export function encodeOverrides(overrides: ReadonlyMap<string, StateOverride>): Uint8Array {
  return encodeRlp(overrideFields(overrides))
}

export function overrideFields(overrides: ReadonlyMap<string, StateOverride>): RlpInput[] {
  const present = (v: RlpInput): RlpInput[] => (v === undefined ? [] : [v])
  return [...overrides].map(([address, o]) => [
    fromHex(address, 'override address', { size: 20 }),
    present(o.balance),
    present(o.nonce),
    present(o.code),
    o.state !== undefined ? 1 : o.stateDiff !== undefined ? 2 : 0,
    (o.state ?? o.stateDiff ?? []).map(pair => [...pair]),
    o.movePrecompileTo
  ])
}

export function decodeCallResult(r: NativeCallResult): CallResult {
  return {
    gasUsed: r.gasUsed,
    gasRefund: r.gasRefund,
    returnData: r.output,
    logs: r.logs.length === 0 ? [] : rlpList(decodeRlp(r.logs)).map(logOf),
    ...(r.error === undefined ? {} : { error: { kind: r.kind ?? 'other', text: r.error } }),
    ...(r.accessList === undefined ? {} : { accessList: decodeAccessList(r.accessList) }),
    ...(r.trace === undefined ? {} : { trace: r.trace })
  }
}

export function decodeAccessList(raw: Uint8Array): AccessListEntry[] {
  return rlpList(decodeRlp(raw)).map(entry => {
    const [address, keys] = rlpList(entry)
    return { address: rlpBytes(address), storageKeys: rlpList(keys).map(k => rlpBytes(k)) }
  })
}

// ----------------------------------------------------------------------------------------------------------------------- state

/** [nonce, balance, codeHash, storageRoot, [node…], [[key, value, [node…]]…]]. */
export function decodeProof(raw: Uint8Array): StateProof {
  const [nonce, balance, codeHash, storageRoot, nodes, slots] = rlpList(decodeRlp(raw))
  return {
    account: {
      nonce: rlpNumber(nonce),
      balance: rlpNumber(balance),
      codeHash: rlpBytes(codeHash),
      storageRoot: rlpBytes(storageRoot)
    },
    accountProof: rlpList(nodes).map(n => rlpBytes(n)),
    storage: rlpList(slots).map(slot => {
      const [key, value, proof] = rlpList(slot)
      return { key: rlpBytes(key), value: bytesToBig(rlpBytes(value)), proof: rlpList(proof).map(n => rlpBytes(n)) }
    })
  }
}

/** One development write: what is absent stays. */
export interface AccountWrite {
  address: Uint8Array
  nonce?: bigint
  balance?: bigint
  code?: Uint8Array
  storage?: [slot: Uint8Array, value: Uint8Array][]
}

export function encodeWrites(writes: readonly AccountWrite[]): Uint8Array {
  const present = (v: RlpInput): RlpInput[] => (v === undefined ? [] : [v])
  return encodeRlp(
    writes.map(w => [
      w.address,
      present(w.nonce),
      present(w.balance),
      present(w.code),
      (w.storage ?? []).map(pair => [...pair])
    ])
  )
}

export interface RangeAccount {
  hash: Uint8Array
  /** Absent when the store keeps no preimages. */
  address: Uint8Array | undefined
  nonce: bigint
  balance: bigint
  codeHash: Uint8Array
  storageRoot: Uint8Array
}

/** [[addressHash, address | '', nonce, balance, codeHash, storageRoot]…], next start or ''. */
export function decodeAccountRange(raw: Uint8Array): { accounts: RangeAccount[]; next: Uint8Array | undefined } {
  const [accounts, next] = rlpList(decodeRlp(raw))
  return {
    accounts: rlpList(accounts).map(item => {
      const [hash, address, nonce, balance, codeHash, storageRoot] = rlpList(item)
      return {
        hash: rlpBytes(hash),
        address: present(address),
        nonce: rlpNumber(nonce),
        balance: rlpNumber(balance),
        codeHash: rlpBytes(codeHash),
        storageRoot: rlpBytes(storageRoot)
      }
    }),
    next: present(next)
  }
}

/** [[slotHash, slot | '', value]…], next start or ''. */
export function decodeStorageRange(raw: Uint8Array): {
  slots: { hash: Uint8Array; slot: Uint8Array | undefined; value: Uint8Array }[]
  next: Uint8Array | undefined
} {
  const [slots, next] = rlpList(decodeRlp(raw))
  return {
    slots: rlpList(slots).map(item => {
      const [hash, slot, value] = rlpList(item)
      return { hash: rlpBytes(hash), slot: present(slot), value: rlpBytes(value) }
    }),
    next: present(next)
  }
}

function present(item: RlpItem | undefined): Uint8Array | undefined {
  const bytes = rlpBytes(item)
  return bytes.length === 0 ? undefined : bytes
}

// ------------------------------------------------------------------------------------------------------------------------- rlp

/** The items of a list as they stand, heads included; nothing inside is looked at. */
export function splitList(raw: Uint8Array): Uint8Array[] {
  if (raw.length === 0 || raw[0]! < 0xc0) throw corrupt()
  const [start, end] = bounds(raw, 0)
  if (end !== raw.length) throw corrupt()
  const items: Uint8Array[] = []
  for (let at = start; at < end; ) {
    const [, next] = bounds(raw, at)
    if (next > end) throw corrupt()
    items.push(raw.subarray(at, next))
    at = next
  }
  return items
}

/** Item `index` of a list, head included. */
function itemAt(raw: Uint8Array, index: number): Uint8Array {
  let [at, end] = bounds(raw, 0)
  for (let i = 0; i < index && at < end; i++) at = bounds(raw, at)[1]
  if (at >= end) throw corrupt()
  return raw.subarray(at, bounds(raw, at)[1])
}

function countItems(list: Uint8Array): number {
  const [start, end] = bounds(list, 0)
  let count = 0
  for (let at = start; at < end; count++) at = bounds(list, at)[1]
  return count
}

/** The bytes of a string item. */
function payload(item: Uint8Array): Uint8Array {
  const [start, end] = bounds(item, 0)
  return item.subarray(start, end)
}

/** Where the content of the item at `at` begins and ends. */
function bounds(raw: Uint8Array, at: number): [start: number, end: number] {
  const head = raw[at]!
  if (head < 0x80) return [at, at + 1]
  let size = head - (head >= 0xc0 ? 0xc0 : 0x80)
  let start = at + 1
  if (size > 55) {
    const n = size - 55
    size = 0
    for (let i = 0; i < n; i++) size = size * 256 + (raw[start++] ?? Number.NaN)
  }
  // NaN, for a length that is cut off, is not within either.
  if (!(start + size <= raw.length)) throw corrupt()
  return [start, start + size]
}

function corrupt(): ZgError {
  return new ZgError('ERR_CORRUPT', 'a stored block cannot be read')
}
