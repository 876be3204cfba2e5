/** Headers and blocks as bytes: keccak256(rlp(header)) is the block's hash. */
import { ZgError } from '../../../lib/base/errors.ts'
import {
  decodeRlp,
  encodeRlp,
  type RlpInput,
  type RlpItem,
  rlpBytes,
  rlpList,
  rlpNumber
} from '../../../lib/codec/rlp.ts'
import { keccak256 } from './hash.ts'
import type { Block, BlockHeader, Transaction, Withdrawal } from './types.ts'

type Unhashed = Omit<BlockHeader, 'hash'>

/** 15 fields before London, then 16, 17, 20, and 21 from Prague on. */
function headerFields(h: Unhashed): RlpInput[] {
  const fields: RlpInput[] = [
    h.parentHash,
    h.ommersHash,
    h.beneficiary,
    h.stateRoot,
    h.transactionsRoot,
    h.receiptsRoot,
    h.logsBloom,
    h.difficulty,
    h.number,
    h.gasLimit,
    h.gasUsed,
    h.timestamp,
    h.extraData,
    h.prevRandao,
    h.nonce
  ]
  const later = [
    h.baseFeePerGas,
    h.withdrawalsRoot,
    h.blobGasUsed,
    h.excessBlobGas,
    h.parentBeaconBlockRoot,
    h.requestsHash
  ]
  for (const field of later) {
    if (field === undefined) break
    fields.push(field)
  }
  return fields
}

/** RLP of a header. */
export function encodeHeader(h: Unhashed): Uint8Array {
  return encodeRlp(headerFields(h))
}

/** Fills in the hash. */
export function sealHeader(h: Unhashed): BlockHeader {
  return { ...h, hash: keccak256(encodeHeader(h)) }
}

/**
 * Reads a header. Its byte strings are views into `raw`.
 * @throws {ZgError} ERR_CORRUPT.
 */
export function decodeHeader(raw: Uint8Array): BlockHeader {
  try {
    return { ...fieldsOf(rlpList(decodeRlp(raw))), hash: keccak256(raw) }
  } catch (err) {
    throw new ZgError('ERR_CORRUPT', 'a stored header cannot be read', { cause: err })
  }
}

function fieldsOf(f: readonly RlpItem[]): Unhashed {
  if (![15, 16, 17, 20, 21].includes(f.length)) throw new ZgError('ERR_CORRUPT', `a header has ${f.length} fields`)
  const bytes = (i: number) => rlpBytes(f[i])
  const optional = <T>(i: number, read: (item: RlpItem | undefined) => T): T | undefined =>
    i < f.length ? read(f[i]) : undefined
  return {
    parentHash: bytes(0),
    ommersHash: bytes(1),
    beneficiary: bytes(2),
    stateRoot: bytes(3),
    transactionsRoot: bytes(4),
    receiptsRoot: bytes(5),
    logsBloom: bytes(6),
    difficulty: rlpNumber(f[7]),
    number: integer(f[8], 'number'),
    gasLimit: rlpNumber(f[9]),
    gasUsed: rlpNumber(f[10]),
    timestamp: integer(f[11], 'timestamp'),
    extraData: bytes(12),
    prevRandao: bytes(13),
    nonce: bytes(14),
    baseFeePerGas: optional(15, rlpNumber),
    withdrawalsRoot: optional(16, rlpBytes),
    blobGasUsed: optional(17, rlpNumber),
    excessBlobGas: optional(18, rlpNumber),
    parentBeaconBlockRoot: optional(19, rlpBytes),
    requestsHash: optional(20, rlpBytes)
  }
}

function integer(item: RlpItem | undefined, what: string): number {
  const n = Number(rlpNumber(item))
  if (!Number.isSafeInteger(n)) throw new ZgError('ERR_CORRUPT', `header field ${what} is out of range`)
  return n
}

/** RLP of a block. */
export function encodeBlock(
  header: Unhashed,
  transactions: readonly Pick<Transaction, 'type' | 'raw'>[],
  more: { ommers?: readonly BlockHeader[]; withdrawals?: readonly Withdrawal[] | undefined } = {}
): Uint8Array {
  // Legacy transactions stand in the list as lists, typed ones as byte strings.
  const body = transactions.map(tx => (tx.type === 0 ? decodeRlp(tx.raw) : tx.raw))
  const parts: RlpInput[] = [headerFields(header), body, (more.ommers ?? []).map(headerFields)]
  if (more.withdrawals !== undefined)
    parts.push(more.withdrawals.map(w => [w.index, w.validatorIndex, w.address, w.amount]))
  return encodeRlp(parts)
}

/** The block of a sealed header. */
export function makeBlock(header: BlockHeader, transactions: Transaction[], withdrawals: Withdrawal[] = []): Block {
  const more = header.withdrawalsRoot === undefined ? {} : { withdrawals }
  return { header, transactions, ommers: [], ...more, raw: encodeBlock(header, transactions, more) }
}
