/** From the parameters of eth_call and its relatives to a `CallRequest` the chain can run (chain.md 9.4). */
import { RPC, RpcError, type RpcParams } from '../../../lib/adapters/jsonrpc/types.ts'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { BlockRef } from '../core/api.ts'
import type {
  AccessListEntry,
  Authorization,
  BlockOverride,
  CallRequest,
  CallResult,
  StateOverride
} from '../core/types.ts'
import { headerOf, type RpcSetup } from './context.ts'
import {
  asAccessList,
  asAddress,
  asArray,
  asAuthorizations,
  asBytes,
  asHash,
  asNumber,
  asObject,
  asQuantity,
  asUint64,
  field,
  invalid,
  type JsonObject,
  optional
} from './decode.ts'

/** A message as the caller wrote it; what is absent is undefined. */
export interface CallArgs {
  from: Uint8Array | undefined
  to: Uint8Array | null
  gas: bigint | undefined
  gasPrice: bigint | undefined
  maxFeePerGas: bigint | undefined
  maxPriorityFeePerGas: bigint | undefined
  value: bigint
  data: Uint8Array
  nonce: bigint | undefined
  accessList: AccessListEntry[] | undefined
  authorizationList: Authorization[] | undefined
  maxFeePerBlobGas: bigint | undefined
  blobVersionedHashes: Uint8Array[] | undefined
}

/** Blobs of one message. */
const MAX_BLOBS = 128

/** Reads the transaction object. */
export function readCall(s: RpcSetup): (value: unknown, name: string) => CallArgs {
  return (value, name) => {
    const o = asObject(value, name)
    const gasPrice = field(o, 'gasPrice', name, asQuantity)
    const maxFeePerGas = field(o, 'maxFeePerGas', name, asQuantity)
    const maxPriorityFeePerGas = field(o, 'maxPriorityFeePerGas', name, asQuantity)
    if (gasPrice !== undefined && (maxFeePerGas !== undefined || maxPriorityFeePerGas !== undefined)) {
      throw new RpcError(RPC.params, 'both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified')
    }
    const chainId = field(o, 'chainId', name, asQuantity)
    if (chainId !== undefined && chainId !== BigInt(s.chain.chainId)) {
      throw new RpcError(RPC.params, `chainId does not match node's (have=${chainId}, want=${s.chain.chainId})`)
    }
    return {
      from: field(o, 'from', name, asAddress),
      to: field(o, 'to', name, asAddress) ?? null,
      gas: field(o, 'gas', name, asUint64),
      gasPrice,
      maxFeePerGas,
      maxPriorityFeePerGas,
      value: field(o, 'value', name, asQuantity) ?? 0n,
      data: readData(o, name),
      nonce: field(o, 'nonce', name, asUint64),
      accessList: field(o, 'accessList', name, asAccessList),
      authorizationList: field(o, 'authorizationList', name, asAuthorizations),
      maxFeePerBlobGas: field(o, 'maxFeePerBlobGas', name, asQuantity),
      blobVersionedHashes: field(o, 'blobVersionedHashes', name, (v, n) =>
        asArray(v, n, MAX_BLOBS).map((hash, i) => asHash(hash, `${n}[${i}]`))
      )
    }
  }
}

/** `input` is the name, `data` the older one; some tools send both. */
function readData(o: JsonObject, name: string): Uint8Array {
  const input = field(o, 'input', name, asBytes)
  const data = field(o, 'data', name, asBytes)
  if (input !== undefined && data !== undefined && !equalBytes(input, data)) {
    throw new RpcError(
      RPC.params,
      'both "data" and "input" are set and not equal. Please use "input" to pass transaction call data'
    )
  }
  return input ?? data ?? new Uint8Array(0)
}

export interface Overrides {
  stateOverrides?: Map<string, StateOverride>
  blockOverride?: BlockOverride
}

/** Bounds on what one request may override. */
const MAX_ACCOUNTS = 1_000
const MAX_SLOTS = 10_000

/** Third and fourth parameter: state overrides and block overrides. */
export function readOverrides(params: RpcParams): Overrides {
  const stateOverrides = optional(params, 2, 'stateOverrides', readStateOverrides)
  const blockOverride = optional(params, 3, 'blockOverrides', readBlockOverride)
  return {
    ...(stateOverrides === undefined ? {} : { stateOverrides }),
    ...(blockOverride === undefined ? {} : { blockOverride })
  }
}

export function readStateOverrides(value: unknown, name: string): Map<string, StateOverride> {
  const object = asObject(value, name)
  const addresses = Object.keys(object)
  if (addresses.length > MAX_ACCOUNTS) throw invalid(name, `${addresses.length} accounts, at most ${MAX_ACCOUNTS}`)
  const out = new Map<string, StateOverride>()
  for (const key of addresses) {
    const address = toHex(asAddress(key, `${name} address`))
    const path = `${name}.${address}`
    const o = asObject(object[key], path)
    const moveTo = field(o, 'movePrecompileToAddress', path, asAddress)
    const override: StateOverride = {}
    const balance = field(o, 'balance', path, asQuantity)
    const nonce = field(o, 'nonce', path, asUint64)
    const code = field(o, 'code', path, asBytes)
    const state = field(o, 'state', path, readSlots)
    const stateDiff = field(o, 'stateDiff', path, readSlots)
    if (state !== undefined && stateDiff !== undefined) {
      throw invalid(path, `account ${address} has both 'state' and 'stateDiff'`)
    }
    if (balance !== undefined) override.balance = balance
    if (nonce !== undefined) override.nonce = nonce
    if (code !== undefined) override.code = code
    if (state !== undefined) override.state = state
    if (stateDiff !== undefined) override.stateDiff = stateDiff
    if (moveTo !== undefined) override.movePrecompileTo = moveTo
    out.set(address, override)
  }
  return out
}

function readSlots(value: unknown, name: string): [Uint8Array, Uint8Array][] {
  const object = asObject(value, name)
  const keys = Object.keys(object)
  if (keys.length > MAX_SLOTS) throw invalid(name, `${keys.length} slots, at most ${MAX_SLOTS}`)
  return keys.map(key => [asHash(key, `${name} key`), asHash(object[key], `${name} value`)])
}

export function readBlockOverride(value: unknown, name: string): BlockOverride {
  const o = asObject(value, name)
  const out: BlockOverride = {}
  const number = field(o, 'number', name, asNumber)
  const timestamp = field(o, 'time', name, asNumber) ?? field(o, 'timestamp', name, asNumber)
  const gasLimit = field(o, 'gasLimit', name, asUint64)
  const beneficiary = field(o, 'feeRecipient', name, asAddress) ?? field(o, 'coinbase', name, asAddress)
  const prevRandao = field(o, 'prevRandao', name, asHash) ?? field(o, 'random', name, asHash)
  const baseFeePerGas = field(o, 'baseFeePerGas', name, asQuantity) ?? field(o, 'baseFee', name, asQuantity)
  const blobBaseFee = field(o, 'blobBaseFee', name, asQuantity)
  if (number !== undefined) out.number = number
  if (timestamp !== undefined) out.timestamp = timestamp
  if (gasLimit !== undefined) out.gasLimit = gasLimit
  if (beneficiary !== undefined) out.beneficiary = beneficiary
  if (prevRandao !== undefined) out.prevRandao = prevRandao
  if (baseFeePerGas !== undefined) out.baseFeePerGas = baseFeePerGas
  if (blobBaseFee !== undefined) out.blobBaseFee = blobBaseFee
  return out
}

/** A request with its fees settled, and what it runs on. */
export interface PreparedCall {
  request: CallRequest
  /** What a unit of gas may cost the sender; 0 when no fee was given. */
  feeCap: bigint
  /** The sender's balance, overrides included. */
  balance: bigint
  at: BlockRef
  overrides: Overrides
}

/**
 * Settles price, gas and balance of a message on a block.
 * @throws {RpcError} −32000 in geth's words when a given fee is below the base fee, or the balance does not cover the value or,
 *   with a fee given and `checkGas` set, the gas.
 */
export function prepare(
  s: RpcSetup,
  args: CallArgs,
  at: BlockRef,
  overrides: Overrides,
  opts: { gas: bigint; checkGas: boolean }
): PreparedCall {
  const from = args.from ?? new Uint8Array(20)
  const baseFee =
    overrides.blockOverride?.baseFeePerGas ??
    (at.kind === 'block' ? (at.header.baseFeePerGas ?? 0n) : s.chain.nextBaseFee())
  const { price, cap } = settlePrice(args, baseFee, from)
  const override = overrides.stateOverrides?.get(toHex(from))
  const cost = args.value + (opts.checkGas ? opts.gas * cap : 0n)
  // Most calls cost nothing: then nobody's balance matters.
  const balance =
    cost === 0n && cap === 0n ? 0n : (override?.balance ?? s.chain.state(at).now.account(from)?.balance ?? 0n)
  if (balance < cost) {
    throw new RpcError(
      RPC.server,
      `insufficient funds for gas * price + value: address ${toHex(from)} have ${balance} want ${cost}`
    )
  }
  const request: CallRequest = {
    from,
    to: args.to,
    gas: opts.gas,
    gasPrice: price,
    value: args.value,
    data: args.data,
    ...(args.accessList === undefined ? {} : { accessList: args.accessList }),
    ...(args.authorizationList === undefined ? {} : { authorizationList: args.authorizationList }),
    ...(args.nonce === undefined ? {} : { nonce: args.nonce }),
    ...(args.maxFeePerBlobGas === undefined ? {} : { maxFeePerBlobGas: args.maxFeePerBlobGas }),
    ...(args.blobVersionedHashes === undefined ? {} : { blobVersionedHashes: args.blobVersionedHashes })
  }
  return { request, feeCap: cap, balance, at, overrides }
}

function settlePrice(args: CallArgs, baseFee: bigint, from: Uint8Array): { price: bigint; cap: bigint } {
  if (args.maxFeePerGas === undefined && args.maxPriorityFeePerGas === undefined) {
    const price = args.gasPrice ?? 0n
    if (price !== 0n && price < baseFee) throw feeTooLow(from, price, baseFee)
    return { price, cap: price }
  }
  const tip = args.maxPriorityFeePerGas ?? 0n
  const cap = args.maxFeePerGas ?? baseFee + tip
  if (cap === 0n && tip === 0n) return { price: 0n, cap: 0n }
  if (tip > cap) {
    throw new RpcError(
      RPC.server,
      `max priority fee per gas higher than max fee per gas: address ${toHex(from)}, maxPriorityFeePerGas: ${tip}, maxFeePerGas: ${cap}`
    )
  }
  if (cap < baseFee) throw feeTooLow(from, cap, baseFee)
  return { price: baseFee + tip < cap ? baseFee + tip : cap, cap }
}

function feeTooLow(from: Uint8Array, cap: bigint, baseFee: bigint): RpcError {
  return new RpcError(
    RPC.server,
    `max fee per gas less than block base fee: address ${toHex(from)}, maxFeePerGas: ${cap}, baseFee: ${baseFee}`
  )
}

/** Runs a prepared call with `gas`. */
export function run(s: RpcSetup, call: PreparedCall, gas: bigint, accessList?: AccessListEntry[]): Promise<CallResult> {
  return s.chain.call({ ...call.request, gas, ...(accessList === undefined ? {} : { accessList }) }, call.at, {
    ...call.overrides,
    ...(accessList === undefined ? {} : { accessList: true })
  })
}

/** Gas a call gets when it names none, and at most. */
export function callGas(s: RpcSetup, args: CallArgs): bigint {
  return args.gas === undefined || args.gas > s.callGas ? s.callGas : args.gas
}

/** Gas limit of the block a reference stands for. */
export function blockGasLimit(s: RpcSetup, at: BlockRef): bigint {
  return at.kind === 'block' ? headerOf(at).gasLimit : s.chain.nextGasLimit()
}
