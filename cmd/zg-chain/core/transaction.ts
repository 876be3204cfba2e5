/**
 * Transactions from their EIP-2718 bytes: types 0, 1, 2 and 4, strictly (canonical RLP, no leading zeros, exact sizes, low s), and
 * the gas they must bring. Refusals carry geth's words (chain.md 9.6).
 */
import { RLP } from '@ethereumjs/rlp'
import { bytesToBig, concat } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { recoverAddress } from '../../../lib/crypto/secp256k1.ts'
import { PoolRefusal } from './api.ts'
import { keccak256 } from './hash.ts'
import type { AccessListEntry, Authorization, Transaction } from './types.ts'

/** The largest transaction accepted, in bytes (geth's bound). */
export const MAX_TX_BYTES = 128 * 1024
/** EIP-3860. */
export const MAX_INITCODE_BYTES = 49_152
const MAX_U64 = (1n << 64n) - 1n

type Item = Uint8Array | Item[]

/**
 * Reads a transaction.
 * @param raw - EIP-2718 bytes; kept in the result, not copied.
 * @param opts.chainId - the chain's; another one is refused, none (pre-155) is accepted.
 * @param opts.from - the sender when it is known already (a block of our own log): saves 1.6 ms of recovery.
 * @throws {PoolRefusal} in geth's words.
 */
export function decodeTransaction(raw: Uint8Array, opts: { chainId: bigint; from?: Uint8Array }): Transaction {
  if (raw.length > MAX_TX_BYTES)
    throw new PoolRefusal(`oversized data: transaction size ${raw.length}, limit ${MAX_TX_BYTES}`)
  const first = raw[0]
  if (first === undefined) throw new PoolRefusal('typed transaction too short')
  if (first >= 0xc0) return legacy(raw, opts)
  if (first === 1 || first === 2 || first === 4) return typed(raw, first, opts)
  throw new PoolRefusal('transaction type not supported')
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
  const digest = keccak256(concat(Uint8Array.of(5), RLP.encode([a.chainId, a.address, a.nonce])))
  return recoverSender(digest, a.r, a.s, a.yParity)
}

function calldataTokens(data: Uint8Array): number {
  let zeros = 0
  for (const b of data) if (b === 0) zeros++
  return zeros + 4 * (data.length - zeros)
}

function legacy(raw: Uint8Array, opts: { chainId: bigint; from?: Uint8Array }): Transaction {
  const f = fields(raw, 9)
  const v = uint(f[6], 256, 'v')
  const body = f.slice(0, 6)
  let chainId: bigint | undefined
  let parity: number
  if (v === 27n || v === 28n) parity = Number(v - 27n)
  else {
    if (v < 35n) throw new PoolRefusal('invalid transaction v, r, s values')
    chainId = (v - 35n) / 2n
    parity = Number((v - 35n) % 2n)
    checkChainId(chainId, opts.chainId)
  }
  const r = uint(f[7], 256, 'r')
  const s = uint(f[8], 256, 's')
  const signed = () =>
    RLP.encode(chainId === undefined ? body : [...body, chainId, new Uint8Array(0), new Uint8Array(0)])
  return {
    hash: keccak256(raw),
    type: 0,
    ...(chainId === undefined ? {} : { chainId }),
    nonce: nonceOf(f[0]),
    gasPrice: uint(f[1], 256, 'gas price'),
    gasLimit: uint(f[2], 64, 'gas'),
    to: recipient(f[3]),
    value: uint(f[4], 256, 'value'),
    data: bytes(f[5], 'data'),
    v,
    r,
    s,
    from: opts.from ?? sender(keccak256(signed()), r, s, parity),
    raw
  }
}

function typed(raw: Uint8Array, type: 1 | 2 | 4, opts: { chainId: bigint; from?: Uint8Array }): Transaction {
  const f = fields(raw.subarray(1), type === 1 ? 11 : type === 2 ? 12 : 13)
  const chainId = uint(f[0], 256, 'chain id')
  checkChainId(chainId, opts.chainId)
  const fees = type === 1 ? 1 : 2
  const rest = f.slice(2 + fees)
  const accessList = accessListOf(rest[4])
  const authorizationList = type === 4 ? authorizationsOf(rest[5]) : undefined
  const [v, r, s] = f.slice(-3).map(x => uint(x, 256, 'signature')) as [bigint, bigint, bigint]
  if (v > 1n) throw new PoolRefusal('invalid transaction v, r, s values')
  const to = recipient(rest[1])
  if (type === 4) {
    if (to === null) throw new PoolRefusal('set code transaction must not be a create transaction')
    if (authorizationList!.length === 0) throw new PoolRefusal('set code tx must have at least one authorization tuple')
  }
  const digest = () => keccak256(concat(Uint8Array.of(type), RLP.encode(f.slice(0, -3))))
  return {
    hash: keccak256(raw),
    type,
    chainId,
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
    v,
    r,
    s,
    from: opts.from ?? sender(digest(), r, s, Number(v)),
    raw
  }
}

function fields(encoded: Uint8Array, count: number): Item[] {
  let decoded: Item
  try {
    decoded = RLP.decode(encoded) as Item
  } catch (err) {
    throw new PoolRefusal(`rlp: ${messageOf(err)}`)
  }
  if (!Array.isArray(decoded) || decoded.length !== count)
    throw new PoolRefusal('rlp: wrong number of transaction fields')
  return decoded
}

function bytes(item: Item | undefined, what: string): Uint8Array {
  if (!(item instanceof Uint8Array)) throw new PoolRefusal(`rlp: ${what} is a list`)
  return item
}

function list(item: Item | undefined, what: string): Item[] {
  if (!Array.isArray(item)) throw new PoolRefusal(`rlp: ${what} is not a list`)
  return item
}

function uint(item: Item | undefined, bits: number, what: string): bigint {
  const b = bytes(item, what)
  if (b.length * 8 > bits) throw new PoolRefusal(`rlp: ${what} is too large`)
  if (b[0] === 0) throw new PoolRefusal(`rlp: ${what} has leading zeros`)
  return bytesToBig(b)
}

function nonceOf(item: Item | undefined): bigint {
  const nonce = uint(item, 64, 'nonce')
  if (nonce === MAX_U64) throw new PoolRefusal('nonce has max value: 18446744073709551615')
  return nonce
}

function address(item: Item | undefined, what: string): Uint8Array {
  const b = bytes(item, what)
  if (b.length !== 20) throw new PoolRefusal(`rlp: ${what} has ${b.length} bytes, 20 wanted`)
  return b
}

function recipient(item: Item | undefined): Uint8Array | null {
  const b = bytes(item, 'to')
  return b.length === 0 ? null : address(b, 'to')
}

function accessListOf(item: Item | undefined): AccessListEntry[] {
  return list(item, 'access list').map(entry => {
    const [a, keys, ...more] = list(entry, 'access list entry')
    if (more.length > 0) throw new PoolRefusal('rlp: access list entry has too many fields')
    return {
      address: address(a, 'access list address'),
      storageKeys: list(keys, 'storage keys').map(key => {
        const b = bytes(key, 'storage key')
        if (b.length !== 32) throw new PoolRefusal(`rlp: storage key has ${b.length} bytes, 32 wanted`)
        return b
      })
    }
  })
}

function authorizationsOf(item: Item | undefined): Authorization[] {
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

function checkChainId(have: bigint, want: bigint): void {
  if (have !== want) throw new PoolRefusal(`invalid chain id for signer: have ${have} want ${want}`)
}

function sender(digest: Uint8Array, r: bigint, s: bigint, parity: number): Uint8Array {
  const from = recoverSender(digest, r, s, parity)
  if (from === undefined) throw new PoolRefusal('invalid sender')
  return from
}

function recoverSender(digest: Uint8Array, r: bigint, s: bigint, parity: number): Uint8Array | undefined {
  if (parity > 1) return undefined
  try {
    // Low s for every type (EIP-2).
    return recoverAddress(digest, { r, s, yParity: parity as 0 | 1 })
  } catch (err) {
    if (err instanceof ZgError) return undefined
    throw err
  }
}

/** EIP-2718 bytes of a transaction's fields. */
export function encodeTransaction(tx: Omit<Transaction, 'hash' | 'raw' | 'from'>): Uint8Array {
  const to = tx.to ?? new Uint8Array(0)
  if (tx.type === 0) {
    return RLP.encode([tx.nonce, tx.gasPrice!, tx.gasLimit, to, tx.value, tx.data, tx.v, tx.r, tx.s])
  }
  const fees = tx.type === 1 ? [tx.gasPrice!] : [tx.maxPriorityFeePerGas!, tx.maxFeePerGas!]
  const access = (tx.accessList ?? []).map(e => [e.address, e.storageKeys])
  const authorizations = (tx.authorizationList ?? []).map(a => [a.chainId, a.address, a.nonce, a.yParity, a.r, a.s])
  const lists = tx.type === 4 ? [access, authorizations] : [access]
  const body = RLP.encode([
    tx.chainId!,
    tx.nonce,
    ...fees,
    tx.gasLimit,
    to,
    tx.value,
    tx.data,
    ...lists,
    tx.v,
    tx.r,
    tx.s
  ])
  return concat(Uint8Array.of(tx.type), body)
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
  const raw = encodeTransaction({ ...fields, ...signature, chainId })
  return decodeTransaction(raw, { chainId, from: fields.from })
}

/** True for what {@link impersonated} makes. */
export function isImpersonated(tx: Pick<Transaction, 'from' | 'r' | 's'>): boolean {
  return tx.s === 1n && tx.r === bytesToBig(tx.from)
}
