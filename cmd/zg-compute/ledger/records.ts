/**
 * The records of the fee journal. First byte: the kind. Integers big endian; fees u128, nonces u256 (neuron); ids are the 16 bytes of a
 * uuid, users 20 bytes.
 *
 *     1 done      id, user, createdMs u64, prompt u32, completion u32, cached u32, inputFee, outputFee
 *     2 open      the same: what a stream has delivered so far; the last one counts if the process dies
 *     3 intent    number u32, txNonce u64, fromBlock u64, transaction, u16 × { user, nonce, totalFee, requestsHash, u32 × id }
 *     4 resent    number u32, transaction                     the same call with the same nonce and another fee
 *     5 result    number u32, u16 × { status u8, paid, rest id }   status 255: the transaction never ran
 *     6 written off   u32 × id
 *     7 totals    nextNumber u32, settledCount u64, settledFee, writtenOffFee     first record after a rewrite
 *
 * transaction = hash, u32 length, signed bytes.
 */
import { bigToBytes, bytesToBig, concat, readU64be, u32be, u64be, view } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { type SettlementStatus, settlementStatus, statusCode } from '../../../lib/codec/compute/settlement.ts'

/** What one request costs. */
export interface FeeRecord {
  /** uuid. */
  id: string
  user: Uint8Array
  createdMs: number
  promptTokens: number
  completionTokens: number
  cachedTokens: number
  inputFee: bigint
  outputFee: bigint
}

export interface SignedTransaction {
  hash: Uint8Array
  raw: Uint8Array
}

export interface IntentEntry {
  user: Uint8Array
  nonce: bigint
  totalFee: bigint
  requestsHash: Uint8Array
  /** uuids, oldest first. */
  ids: string[]
}

/** A settlement that is about to be sent, or was. */
export interface Intent {
  number: number
  /** Nonce of the provider's transaction. */
  txNonce: bigint
  /** Block at which it was made: its events are not before. */
  fromBlock: number
  transaction: SignedTransaction
  entries: IntentEntry[]
}

/** `RELEASED`: the transaction never ran or reverted; the requests are free again. */
export type EntryStatus = SettlementStatus | 'RELEASED'

export interface EntryResult {
  status: EntryStatus
  /** Neuron that reached the provider. */
  paid: bigint
  /** Id of the record that carries what a PARTIAL left unpaid. */
  restId?: string
}

export interface Totals {
  nextNumber: number
  settledCount: number
  settledFee: bigint
  writtenOffFee: bigint
}

export type LedgerRecord =
  | { kind: 'done' | 'open'; record: FeeRecord }
  | { kind: 'intent'; intent: Intent }
  | { kind: 'resent'; number: number; transaction: SignedTransaction }
  | { kind: 'result'; number: number; results: EntryResult[] }
  | { kind: 'written_off'; ids: string[] }
  | { kind: 'totals'; totals: Totals }

const NO_ID = '00000000-0000-0000-0000-000000000000'
const RELEASED = 255

export function encodeRecord(r: LedgerRecord): Uint8Array {
  switch (r.kind) {
    case 'done':
    case 'open':
      return concat(
        Uint8Array.of(r.kind === 'done' ? 1 : 2),
        uuidBytes(r.record.id),
        r.record.user,
        u64be(r.record.createdMs),
        u32be(r.record.promptTokens),
        u32be(r.record.completionTokens),
        u32be(r.record.cachedTokens),
        u128(r.record.inputFee),
        u128(r.record.outputFee)
      )
    case 'intent': {
      const { number, txNonce, fromBlock, transaction, entries } = r.intent
      const parts = entries.map(e =>
        concat(
          e.user,
          bigToBytes(e.nonce, 32),
          u128(e.totalFee),
          e.requestsHash,
          u32be(e.ids.length),
          ...e.ids.map(uuidBytes)
        )
      )
      const head = [Uint8Array.of(3), u32be(number), u64be(txNonce), u64be(fromBlock), encodeTransaction(transaction)]
      return concat(...head, u16(entries.length), ...parts)
    }
    case 'resent':
      return concat(Uint8Array.of(4), u32be(r.number), encodeTransaction(r.transaction))
    case 'result':
      return concat(
        Uint8Array.of(5),
        u32be(r.number),
        u16(r.results.length),
        ...r.results.map(e =>
          concat(
            Uint8Array.of(e.status === 'RELEASED' ? RELEASED : statusCode(e.status)),
            u128(e.paid),
            uuidBytes(e.restId ?? NO_ID)
          )
        )
      )
    case 'written_off':
      return concat(Uint8Array.of(6), u32be(r.ids.length), ...r.ids.map(uuidBytes))
    case 'totals': {
      const { nextNumber, settledCount, settledFee, writtenOffFee } = r.totals
      return concat(Uint8Array.of(7), u32be(nextNumber), u64be(settledCount), u128(settledFee), u128(writtenOffFee))
    }
  }
}

/** @throws {ZgError} ERR_CORRUPT: the checksum fitted but the content does not. */
export function decodeRecord(body: Uint8Array): LedgerRecord {
  const r = new Reader(body)
  const record = decode(r)
  r.end()
  return record
}

function decode(r: Reader): LedgerRecord {
  const kind = r.bytes(1)[0]
  switch (kind) {
    case 1:
    case 2:
      return {
        kind: kind === 1 ? 'done' : 'open',
        record: {
          id: r.uuid(),
          user: r.bytes(20),
          createdMs: r.u64(),
          promptTokens: r.u32(),
          completionTokens: r.u32(),
          cachedTokens: r.u32(),
          inputFee: r.big(16),
          outputFee: r.big(16)
        }
      }
    case 3: {
      const number = r.u32()
      const txNonce = BigInt(r.u64())
      const fromBlock = r.u64()
      const transaction = r.transaction()
      const entries: IntentEntry[] = []
      for (let left = r.u16(); left > 0; left--) {
        const entry = { user: r.bytes(20), nonce: r.big(32), totalFee: r.big(16), requestsHash: r.bytes(32) }
        entries.push({ ...entry, ids: r.uuids() })
      }
      return { kind: 'intent', intent: { number, txNonce, fromBlock, transaction, entries } }
    }
    case 4:
      return { kind: 'resent', number: r.u32(), transaction: r.transaction() }
    case 5: {
      const number = r.u32()
      const results: EntryResult[] = []
      for (let left = r.u16(); left > 0; left--) {
        const code = r.bytes(1)[0]!
        const status = code === RELEASED ? 'RELEASED' : settlementStatus(code)
        if (status === undefined) throw damaged(`status ${code}`)
        const paid = r.big(16)
        const restId = r.uuid()
        results.push(restId === NO_ID ? { status, paid } : { status, paid, restId })
      }
      return { kind: 'result', number, results }
    }
    case 6:
      return { kind: 'written_off', ids: r.uuids() }
    case 7: {
      const nextNumber = r.u32()
      return {
        kind: 'totals',
        totals: { nextNumber, settledCount: r.u64(), settledFee: r.big(16), writtenOffFee: r.big(16) }
      }
    }
    default:
      throw damaged(`kind ${kind}`)
  }
}

class Reader {
  readonly #b: Uint8Array
  #at = 0
  constructor(b: Uint8Array) {
    this.#b = b
  }

  bytes(size: number): Uint8Array {
    if (this.#at + size > this.#b.length) throw damaged('end')
    this.#at += size
    return this.#b.slice(this.#at - size, this.#at)
  }

  u16(): number {
    return view(this.bytes(2)).getUint16(0)
  }

  u32(): number {
    return view(this.bytes(4)).getUint32(0)
  }

  u64(): number {
    return readU64be(this.bytes(8))
  }

  big(size: number): bigint {
    return bytesToBig(this.bytes(size))
  }

  uuid(): string {
    return uuidText(this.bytes(16))
  }

  uuids(): string[] {
    const count = this.u32()
    // Checked before anything is made.
    if (count * 16 > this.#b.length - this.#at) throw damaged('count of ids')
    return Array.from({ length: count }, () => this.uuid())
  }

  transaction(): SignedTransaction {
    return { hash: this.bytes(32), raw: this.bytes(this.u32()) }
  }

  end(): void {
    if (this.#at !== this.#b.length) throw damaged('length')
  }
}

function damaged(what: string): ZgError {
  return new ZgError('ERR_CORRUPT', `a record of the fee journal has an unknown ${what}`, {
    hint: 'it may have been written by a newer version'
  })
}

function encodeTransaction(t: SignedTransaction): Uint8Array {
  return concat(t.hash, u32be(t.raw.length), t.raw)
}

function u16(n: number): Uint8Array {
  return Uint8Array.of(n >> 8, n & 0xff)
}

function u128(n: bigint): Uint8Array {
  return bigToBytes(n, 16)
}

/** The 16 bytes of a uuid. */
export function uuidBytes(id: string): Uint8Array {
  return new Uint8Array(Buffer.from(id.replaceAll('-', ''), 'hex'))
}

/** Lower-case text of 16 bytes. */
export function uuidText(b: Uint8Array): string {
  const h = Buffer.from(b.buffer, b.byteOffset, 16).toString('hex')
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}`
}
