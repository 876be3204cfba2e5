/** Transactions of the types 0 to 4: reading their bytes, when their fields are first asked for. */
import { bytesToBig, concat } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { decodeRlp, encodeRlp, type RlpInput, type RlpItem } from '../../../lib/codec/rlp.ts'
import { recoverAddress } from '../../../lib/crypto/secp256k1.ts'
import { PoolRefusal } from './api.ts'
import { keccak256 } from './hash.ts'
import type { AccessListEntry, Authorization, Transaction } from './types.ts'

/** The largest transaction accepted, in bytes (geth's bound). */
export const MAX_TX_BYTES = 128 * 1024
/** EIP-3860. */
export const MAX_INITCODE_BYTES = 49_152
const BAD_SIGNATURE = 'invalid transaction v, r, s values'
const MAX_U64 = (1n << 64n) - 1n

type Fields = Omit<Transaction, 'hash' | 'from' | 'raw' | 'type'>

/**
 * A transaction by its bytes. The engine has read them before, so a block of ten thousand costs nothing until somebody looks at one;
 * the sender comes from the engine, or is recovered when it is first asked for.
 */
export class RawTransaction implements Transaction {
  readonly raw: Uint8Array
  #hash: Uint8Array | undefined
  #from: Uint8Array | undefined
  #fields: Fields | undefined

  constructor(raw: Uint8Array, known: { hash?: Uint8Array | undefined; from?: Uint8Array | undefined } = {}) {
    this.raw = raw
    this.#hash = known.hash
    this.#from = known.from
  }

  get hash(): Uint8Array {
    this.#hash ??= keccak256(this.raw)
    return this.#hash
  }
  get from(): Uint8Array {
    this.#from ??= senderOf(this)
    return this.#from
  }
  get type(): number {
    return this.raw[0]! >= 0xc0 ? 0 : this.raw[0]!
  }
  get chainId() {
    return this.#read().chainId
  }
  get nonce() {
    return this.#read().nonce
  }
  get gasPrice() {
    return this.#read().gasPrice
  }
  get maxFeePerGas() {
    return this.#read().maxFeePerGas
  }
  get maxPriorityFeePerGas() {
    return this.#read().maxPriorityFeePerGas
  }
  get gasLimit() {
    return this.#read().gasLimit
  }
  get to() {
    return this.#read().to
  }
  get value() {
    return this.#read().value
  }
  get data() {
    return this.#read().data
  }
  get accessList() {
    return this.#read().accessList
  }
  get authorizationList() {
    return this.#read().authorizationList
  }
  get maxFeePerBlobGas() {
    return this.#read().maxFeePerBlobGas
  }
  get blobVersionedHashes() {
    return this.#read().blobVersionedHashes
  }
  get v() {
    return this.#read().v
  }
  get r() {
    return this.#read().r
  }
  get s() {
    return this.#read().s
  }

  #read(): Fields {
    this.#fields ??= readFields(this.raw)
    return this.#fields
  }
}

/**
 * Reads a transaction that nobody has looked at yet.
 * @param raw - EIP-2718 bytes; kept in the result, not copied.
 * @param opts.chainId - the chain's; another one is refused, none (pre-155) is accepted; absent: any.
 * @param opts.from - the sender when it is known already: saves 1.6 ms of recovery.
 * @throws {PoolRefusal} in geth's words.
 */
export function decodeTransaction(
  raw: Uint8Array,
  opts: { chainId?: bigint | undefined; from?: Uint8Array | undefined } = {}
): Transaction {
  const tx = new RawTransaction(raw, { from: opts.from })
  const { chainId } = tx
  if (chainId !== undefined && opts.chainId !== undefined && chainId !== opts.chainId)
    throw new PoolRefusal(`invalid chain id for signer: have ${chainId} want ${opts.chainId}`)
  void tx.from
  return tx
}

/** Gas charged before the first instruction. Source: EIP-2028, 2930, 3860, 7702. */
export function intrinsicGas(tx: Pick<Transaction, 'to' | 'data' | 'accessList' | 'authorizationList'>): bigint {
  let gas = 21_000n + 4n * BigInt(calldataTokens(tx.data))
  if (tx.to === null) gas += 32_000n + 2n * BigInt(Math.ceil(tx.data.length / 32))
  for (const entry of tx.accessList ?? []) gas += 2_400n + 1_900n * BigInt(entry.storageKeys.length)
  return gas + 25_000n * BigInt(tx.authorizationList?.length ?? 0)
}

/** The least gas a transaction pays, whatever it executes. Source: EIP-7623. */
export function floorGas(tx: Pick<Transaction, 'data'>): bigint {
  return 21_000n + 10n * BigInt(calldataTokens(tx.data))
}

/** Who signed an authorization, or undefined when the signature is none. Source: EIP-7702. */
export function recoverAuthority(a: Authorization): Uint8Array | undefined {
  const digest = keccak256(concat(Uint8Array.of(5), encodeRlp([a.chainId, a.address, a.nonce])))
  return recoverSender(digest, a.r, a.s, a.yParity)
}

/** EIP-2718 bytes of a transaction's fields. */
export function encodeTransaction(tx: Omit<Transaction, 'hash' | 'raw' | 'from'>): Uint8Array {
  const signature = [tx.v, tx.r, tx.s]
  if (tx.type === 0) return encodeRlp([...legacyBody(tx), ...signature])
  return concat(Uint8Array.of(tx.type), encodeRlp([...typedBody(tx), ...signature]))
}

/**
 * A development transaction of an account whose key nobody has: r holds the sender and s is 1, which no signer makes, so that
 * hashes of equal transactions of two senders differ and readers can tell.
 */
export function impersonated(
  fields: Omit<Transaction, 'hash' | 'raw' | 'v' | 'r' | 's'>,
  chainId: bigint
): Transaction {
  const signature = { v: fields.type === 0 ? chainId * 2n + 35n : 0n, r: bytesToBig(fields.from), s: 1n }
  return new RawTransaction(encodeTransaction({ ...fields, ...signature, chainId }), { from: fields.from })
}

/** True for what {@link impersonated} makes. */
export function isImpersonated(tx: Pick<Transaction, 'from' | 'r' | 's'>): boolean {
  return tx.s === 1n && tx.r === bytesToBig(tx.from)
}

function calldataTokens(data: Uint8Array): number {
  let zeros = 0
  for (const b of data) if (b === 0) zeros++
  return zeros + 4 * (data.length - zeros)
}

function legacyBody(tx: Pick<Transaction, 'nonce' | 'gasPrice' | 'gasLimit' | 'to' | 'value' | 'data'>): RlpInput[] {
  return [tx.nonce, tx.gasPrice, tx.gasLimit, tx.to, tx.value, tx.data]
}

function typedBody(tx: Omit<Fields, 'v' | 'r' | 's'> & { type: number }): RlpInput[] {
  const fees = tx.type === 1 ? [tx.gasPrice] : [tx.maxPriorityFeePerGas, tx.maxFeePerGas]
  const body: RlpInput[] = [tx.chainId, tx.nonce, ...fees, tx.gasLimit, tx.to, tx.value, tx.data]
  body.push((tx.accessList ?? []).map(e => [e.address, e.storageKeys]))
  if (tx.type === 3) body.push(tx.maxFeePerBlobGas, tx.blobVersionedHashes ?? [])
  if (tx.type === 4)
    body.push((tx.authorizationList ?? []).map(a => [a.chainId, a.address, a.nonce, a.yParity, a.r, a.s]))
  return body
}

/** What was signed. */
function signingHash(tx: Transaction): Uint8Array {
  if (tx.type !== 0) return keccak256(concat(Uint8Array.of(tx.type), encodeRlp(typedBody(tx))))
  const body = legacyBody(tx)
  return keccak256(encodeRlp(tx.chainId === undefined ? body : [...body, tx.chainId, null, null]))
}

function senderOf(tx: Transaction): Uint8Array {
  if (tx.type === 0 && tx.v === 0n) throw new PoolRefusal(BAD_SIGNATURE)
  const parity = tx.type !== 0 ? tx.v : tx.chainId === undefined ? tx.v - 27n : (tx.v - 35n) % 2n
  const from = recoverSender(signingHash(tx), tx.r, tx.s, Number(parity))
  if (from === undefined) throw new PoolRefusal('invalid sender')
  return from
}

function readFields(raw: Uint8Array): Fields {
  if (raw.length > MAX_TX_BYTES)
    throw new PoolRefusal(`oversized data: transaction size ${raw.length}, limit ${MAX_TX_BYTES}`)
  const first = raw[0]
  if (first === undefined) throw new PoolRefusal('typed transaction too short')
  if (first >= 0xc0) return legacy(raw)
  if (first === 1 || first === 2 || first === 3 || first === 4) return typed(raw, first)
  throw new PoolRefusal('transaction type not supported')
}

function legacy(raw: Uint8Array): Fields {
  const f = fields(raw, 9)
  const v = uint(f[6], 256, 'v')
  const [r, s] = [uint(f[7], 256, 'r'), uint(f[8], 256, 's')]
  // A call of a simulated block stands there unsigned.
  const unsigned = v === 0n && r === 0n && s === 0n
  if (v !== 27n && v !== 28n && v < 35n && !unsigned) throw new PoolRefusal(BAD_SIGNATURE)
  return {
    ...(v < 35n ? {} : { chainId: (v - 35n) / 2n }),
    nonce: nonceOf(f[0]),
    gasPrice: uint(f[1], 256, 'gas price'),
    gasLimit: uint(f[2], 64, 'gas'),
    to: recipient(f[3]),
    value: uint(f[4], 256, 'value'),
    data: bytes(f[5], 'data'),
    v,
    r,
    s
  }
}

function typed(raw: Uint8Array, type: 1 | 2 | 3 | 4): Fields {
  const f = fields(raw.subarray(1), { 1: 11, 2: 12, 3: 14, 4: 13 }[type])
  const rest = f.slice(type === 1 ? 3 : 4)
  const accessList = accessListOf(rest[4])
  const authorizationList = type === 4 ? authorizationsOf(rest[5]) : undefined
  const [v, r, s] = f.slice(-3).map(x => uint(x, 256, 'signature')) as [bigint, bigint, bigint]
  if (v > 1n) throw new PoolRefusal('invalid transaction v, r, s values')
  const to = recipient(rest[1])
  if (type === 4) {
    if (to === null) throw new PoolRefusal('set code transaction must not be a create transaction')
    if (authorizationList!.length === 0) throw new PoolRefusal('set code tx must have at least one authorization tuple')
  }
  if (type === 3 && to === null) throw new PoolRefusal('blob transaction must not be a create transaction')
  return {
    chainId: uint(f[0], 256, 'chain id'),
    nonce: nonceOf(f[1]),
    ...(type === 1
      ? { gasPrice: uint(f[2], 256, 'gas price') }
      : { maxPriorityFeePerGas: uint(f[2], 256, 'tip'), maxFeePerGas: uint(f[3], 256, 'fee cap') }),
    gasLimit: uint(rest[0], 64, 'gas'),
    to,
    value: uint(rest[2], 256, 'value'),
    data: bytes(rest[3], 'data'),
    accessList,
    ...(authorizationList === undefined ? {} : { authorizationList }),
    ...(type === 3
      ? {
          maxFeePerBlobGas: uint(rest[5], 256, 'blob fee cap'),
          blobVersionedHashes: list(rest[6], 'blob hashes').map(h => word(h, 'blob hash'))
        }
      : {}),
    v,
    r,
    s
  }
}

function fields(encoded: Uint8Array, count: number): readonly RlpItem[] {
  let decoded: RlpItem
  try {
    decoded = decodeRlp(encoded)
  } catch (err) {
    throw new PoolRefusal(messageOf(err))
  }
  if (decoded instanceof Uint8Array || decoded.length !== count)
    throw new PoolRefusal('rlp: wrong number of transaction fields')
  return decoded
}

function bytes(item: RlpItem | undefined, what: string): Uint8Array {
  if (!(item instanceof Uint8Array)) throw new PoolRefusal(`rlp: ${what} is a list`)
  return item
}

function list(item: RlpItem | undefined, what: string): readonly RlpItem[] {
  if (item === undefined || item instanceof Uint8Array) throw new PoolRefusal(`rlp: ${what} is not a list`)
  return item
}

function uint(item: RlpItem | undefined, bits: number, what: string): bigint {
  const b = bytes(item, what)
  if (b.length * 8 > bits) throw new PoolRefusal(`rlp: ${what} is too large`)
  if (b[0] === 0) throw new PoolRefusal(`rlp: ${what} has leading zeros`)
  return bytesToBig(b)
}

function nonceOf(item: RlpItem | undefined): bigint {
  const nonce = uint(item, 64, 'nonce')
  if (nonce === MAX_U64) throw new PoolRefusal('nonce has max value: 18446744073709551615')
  return nonce
}

function address(item: RlpItem | undefined, what: string): Uint8Array {
  const b = bytes(item, what)
  if (b.length !== 20) throw new PoolRefusal(`rlp: ${what} has ${b.length} bytes, 20 wanted`)
  return b
}

function word(item: RlpItem | undefined, what: string): Uint8Array {
  const b = bytes(item, what)
  if (b.length !== 32) throw new PoolRefusal(`rlp: ${what} has ${b.length} bytes, 32 wanted`)
  return b
}

function recipient(item: RlpItem | undefined): Uint8Array | null {
  const b = bytes(item, 'to')
  return b.length === 0 ? null : address(b, 'to')
}

function accessListOf(item: RlpItem | undefined): AccessListEntry[] {
  return list(item, 'access list').map(entry => {
    const [a, keys, ...more] = list(entry, 'access list entry')
    if (more.length > 0) throw new PoolRefusal('rlp: access list entry has too many fields')
    return {
      address: address(a, 'access list address'),
      storageKeys: list(keys, 'storage keys').map(key => word(key, 'storage key'))
    }
  })
}

function authorizationsOf(item: RlpItem | undefined): Authorization[] {
  return list(item, 'authorization list').map(entry => {
    const f = list(entry, 'authorization')
    if (f.length !== 6) throw new PoolRefusal('rlp: authorization has not six fields')
    return {
      chainId: uint(f[0], 256, 'authorization chain id'),
      address: address(f[1], 'authorization address'),
      nonce: uint(f[2], 64, 'authorization nonce'),
      yParity: Number(uint(f[3], 8, 'authorization parity')),
      r: uint(f[4], 256, 'authorization r'),
      s: uint(f[5], 256, 'authorization s')
    }
  })
}

function recoverSender(digest: Uint8Array, r: bigint, s: bigint, parity: number): Uint8Array | undefined {
  if (parity !== 0 && parity !== 1) return undefined
  try {
    // Low s for every type (EIP-2).
    return recoverAddress(digest, { r, s, yParity: parity })
  } catch (err) {
    if (err instanceof ZgError) return undefined
    throw err
  }
}
