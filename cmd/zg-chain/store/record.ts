/**
 * One block in the block log: what cannot be rebuilt without executing, in a compact form.
 *
 *   payload   := blockSize u32 | block RLP | senders (20 bytes a transaction) | receipt*      (one a transaction)
 *   receipt   := head u8 | gasUsed varint | effectiveGasPrice vbytes | [contract 20] | logCount varint | log*
 *   head      := type (low 3 bits) | status << 3 | hasContract << 4
 *   log       := address 20 | topicCount u8 | topics 32 each | data vbytes
 *   vbytes    := size varint | bytes;   varint := LEB128, at most 10 bytes
 *
 * Left out because it follows: block hash, blooms, cumulative gas, log places. Senders are kept because recovery costs 1.6 ms
 * each. Integers in front of byte strings are checked against what is left before anything is read.
 */
import { bigToBytes, bytesToBig, concat, view } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { decodeBlock } from '../core/block.ts'
import { bloomOf } from '../core/receipts.ts'
import type { Block, Log, Receipt } from '../core/types.ts'

/** The payload of a block's record. */
export function encodeRecord(block: Block, receipts: readonly Receipt[]): Uint8Array {
  const size = new Uint8Array(4)
  view(size).setUint32(0, block.raw.length)
  const parts = [size, block.raw, ...block.transactions.map(tx => tx.from)]
  for (const r of receipts) {
    parts.push(Uint8Array.of(r.type | (r.status << 3) | (r.contractAddress === null ? 0 : 1 << 4)))
    parts.push(varint(r.gasUsed), vbytes(minimal(r.effectiveGasPrice)))
    if (r.contractAddress !== null) parts.push(r.contractAddress)
    parts.push(varint(BigInt(r.logs.length)))
    for (const log of r.logs) {
      parts.push(log.address, Uint8Array.of(log.topics.length), ...log.topics, vbytes(log.data))
    }
  }
  return concat(...parts)
}

/** @throws {ZgError} ERR_CORRUPT when the payload is not exactly one record. */
export function decodeRecord(payload: Uint8Array, chainId: bigint): { block: Block; receipts: Receipt[] } {
  const r = new Reader(payload)
  const raw = r.take(view(r.take(4)).getUint32(0))
  // The number of senders is the number of transactions, which only the block tells: its list is read without senders' cost.
  const count = countTransactions(raw)
  const senders: Uint8Array[] = []
  for (let i = 0; i < count; i++) senders.push(r.take(20))
  const block = decodeBlock(raw, chainId, senders)
  const receipts: Receipt[] = []
  let cumulativeGasUsed = 0n
  for (let i = 0; i < count; i++) {
    const receipt = readReceipt(r, cumulativeGasUsed)
    cumulativeGasUsed = receipt.cumulativeGasUsed
    receipts.push(receipt)
  }
  r.end()
  return { block, receipts }
}

function readReceipt(r: Reader, before: bigint): Receipt {
  const head = r.take(1)[0]!
  const gasUsed = r.varint()
  const effectiveGasPrice = bytesToBig(r.vbytes())
  const contractAddress = head & 16 ? r.take(20) : null
  const logs: Log[] = []
  for (let n = r.count(); n > 0; n--) {
    const address = r.take(20)
    const topics: Uint8Array[] = []
    for (let t = r.take(1)[0]!; t > 0; t--) topics.push(r.take(32))
    logs.push({ address, topics, data: r.vbytes() })
  }
  return {
    type: head & 7,
    status: head & 8 ? 1 : 0,
    gasUsed,
    cumulativeGasUsed: before + gasUsed,
    effectiveGasPrice,
    logsBloom: bloomOf(logs),
    logs,
    contractAddress
  }
}

class Reader {
  readonly #b: Uint8Array
  #at = 0
  constructor(b: Uint8Array) {
    this.#b = b
  }
  take(size: number): Uint8Array {
    if (size > this.#b.length - this.#at) throw corrupt('a stored block ends early')
    this.#at += size
    return this.#b.subarray(this.#at - size, this.#at)
  }
  varint(): bigint {
    let n = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const b = this.take(1)[0]!
      n |= BigInt(b & 127) << shift
      if (b < 128) return n
    }
    throw corrupt('a stored block has an endless integer')
  }
  /** A number of things of at least one byte each. */
  count(): number {
    const n = this.varint()
    if (n > BigInt(this.#b.length - this.#at)) throw corrupt('a stored block counts more than it holds')
    return Number(n)
  }
  vbytes(): Uint8Array {
    return this.take(this.count())
  }
  end(): void {
    if (this.#at !== this.#b.length) throw corrupt('a stored block has trailing bytes')
  }
}

/** Items of the second list of a block's RLP, by their heads alone. */
function countTransactions(raw: Uint8Array): number {
  const outer = span(raw, 0)
  const header = span(raw, outer.from)
  const body = span(raw, header.to)
  let n = 0
  for (let at = body.from; at < body.to; at = span(raw, at).to) n++
  return n
}

/** Where the content of an RLP item begins and ends. */
function span(b: Uint8Array, at: number): { from: number; to: number } {
  const head = b[at]
  if (head === undefined) throw corrupt('a stored block ends early')
  if (head < 0x80) return { from: at, to: at + 1 }
  const base = head < 0xc0 ? 0x80 : 0xc0
  const short = head - base
  if (short <= 55) return { from: at + 1, to: at + 1 + short }
  const width = short - 55
  const from = at + 1 + width
  const to = from + Number(bytesToBig(b.subarray(at + 1, from)))
  if (to > b.length) throw corrupt('a stored block ends early')
  return { from, to }
}

function varint(n: bigint): Uint8Array {
  const out: number[] = []
  let v = n
  while (v >= 128n) {
    out.push(Number(v & 127n) | 128)
    v >>= 7n
  }
  return Uint8Array.from([...out, Number(v)])
}

function vbytes(b: Uint8Array): Uint8Array {
  return concat(varint(BigInt(b.length)), b)
}

function minimal(n: bigint): Uint8Array {
  return bigToBytes(n, Math.ceil(n.toString(16).length / 2))
}

function corrupt(what: string): ZgError {
  return new ZgError('ERR_CORRUPT', what)
}
