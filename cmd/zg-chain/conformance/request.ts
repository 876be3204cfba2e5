/**
 * Public test fixtures as requests of the native engine (native/evm/exec/conformance.h gives the shapes). Numbers of fixtures are hex,
 * with leading zeros or without; `to` is '' for a creation.
 */
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

export type Json = { readonly [key: string]: unknown }

const NOTHING = new Uint8Array(0)
const WORD_BYTES = 32
const MAX_SECRET_BYTES = 32

export interface StateAnswer {
  stateRoot: string
  logsHash: string
  gasUsed: string
  /** Why the transaction was refused; absent: it was executed. */
  error?: string
}

export interface BlockAnswer {
  lastblockhash: string
  stateRoot: string
  /** One for each block: why it was refused, or null. */
  errors: (string | null)[]
  /** Why nothing could be imported at all. */
  error?: string
}

/**
 * A state test's case (fixtures, "Runner protocol"). A transaction that cannot be written at all (numbers out of range) is passed on as the
 * reason: the engine then refuses it.
 * @throws {ZgError} ERR_BAD_INPUT when anything else is malformed.
 */
export function encodeStateRequest(request: Json): Uint8Array {
  const fork = text(request.fork, 'fork')
  const env = object(request.env, 'env')
  let tx: RlpInput
  try {
    tx = encodeTransaction(object(request.tx, 'tx'))
  } catch (err) {
    if (!(err instanceof ZgError)) throw err
    tx = utf8(err.message)
  }
  return encodeRlp([
    utf8(fork),
    request.chainId === undefined || request.chainId === null ? 1 : number(request.chainId, 'chainId'),
    schedule(request.blobSchedule, fork),
    [
      number(env.currentNumber, 'currentNumber', 8),
      number(env.currentTimestamp, 'currentTimestamp', 8),
      number(env.currentGasLimit, 'currentGasLimit', 8),
      address(env.currentCoinbase, 'currentCoinbase'),
      env.currentDifficulty === undefined ? 0 : number(env.currentDifficulty, 'currentDifficulty'),
      optional(env.currentRandom, 'currentRandom'),
      optional(env.currentBaseFee, 'currentBaseFee'),
      optional(env.currentExcessBlobGas, 'currentExcessBlobGas')
    ],
    encodeAccounts(object(request.pre, 'pre')),
    tx
  ])
}

/** @throws {ZgError} ERR_BAD_INPUT when the engine could not make sense of the request. */
export function decodeStateAnswer(answer: Uint8Array): StateAnswer {
  const [root, logs, gas, error] = answerList(answer)
  const why = new TextDecoder().decode(rlpBytes(error))
  return {
    stateRoot: hex(rlpBytes(root)),
    logsHash: hex(rlpBytes(logs)),
    gasUsed: `0x${rlpNumber(gas).toString(16)}`,
    ...(why === '' ? {} : { error: why })
  }
}

/** A block test: `network`, `config`, `genesisRLP`, `pre`, `blocks`. @throws {ZgError} ERR_BAD_INPUT. */
export function encodeBlockRequest(request: Json): Uint8Array {
  const config = request.config === undefined || request.config === null ? {} : object(request.config, 'config')
  const schedules = config.blobSchedule === undefined ? {} : object(config.blobSchedule, 'blobSchedule')
  if (!Array.isArray(request.blocks)) fail('blocks is no list')
  return encodeRlp([
    utf8(text(request.network, 'network')),
    config.chainid === undefined ? 1 : number(config.chainid, 'chainid'),
    Object.entries(schedules).map(([name, s]) => [utf8(name), ...schedule(s, name)]),
    bytes(request.genesisRLP, 'genesisRLP'),
    encodeAccounts(object(request.pre, 'pre')),
    request.blocks.map(block => bytes(object(block, 'block').rlp, 'rlp'))
  ])
}

/** @throws {ZgError} ERR_BAD_INPUT when the engine could not make sense of the request. */
export function decodeBlockAnswer(answer: Uint8Array): BlockAnswer {
  const [hash, root, errors, error] = answerList(answer)
  const decoder = new TextDecoder()
  const why = decoder.decode(rlpBytes(error))
  return {
    lastblockhash: hex(rlpBytes(hash)),
    stateRoot: hex(rlpBytes(root)),
    errors: rlpList(errors).map(e => (rlpBytes(e).length === 0 ? null : decoder.decode(rlpBytes(e)))),
    ...(why === '' ? {} : { error: why })
  }
}

function answerList(answer: Uint8Array): readonly RlpItem[] {
  if (answer.length === 0) fail('the engine cannot read the request')
  return rlpList(decodeRlp(answer))
}

function encodeAccounts(pre: Json): RlpInput[] {
  return Object.entries(pre).map(([key, value]) => {
    const account = object(value, 'account')
    const storage = account.storage === undefined ? {} : object(account.storage, 'storage')
    return [
      address(key, 'account'),
      number(account.nonce ?? '0x', 'nonce', 8),
      number(account.balance ?? '0x', 'balance'),
      bytes(account.code ?? '0x', 'code'),
      Object.entries(storage).map(([slot, x]) => [number(slot, 'slot'), number(x, 'value of a slot')])
    ]
  })
}

function encodeTransaction(tx: Json): RlpInput[] {
  const type = typeOf(tx)
  const fee = type >= 2 ? tx.maxFeePerGas : tx.gasPrice
  const tip = type >= 2 ? tx.maxPriorityFeePerGas : tx.gasPrice
  return [
    type,
    number(tx.nonce, 'nonce', 8),
    number(fee, 'gas price'),
    number(tip ?? '0x', 'priority fee'),
    number(tx.gasLimit, 'gasLimit', 8),
    tx.to === '' || tx.to === undefined || tx.to === null ? NOTHING : address(tx.to, 'to'),
    number(tx.value, 'value'),
    bytes(tx.data ?? '0x', 'data'),
    list(tx.accessList, 'accessList').map(entry => {
      const e = object(entry, 'entry of the access list')
      return [
        address(e.address, 'address of the access list'),
        list(e.storageKeys, 'storageKeys').map(key => word(key, 'storage key'))
      ]
    }),
    number(tx.maxFeePerBlobGas ?? '0x', 'maxFeePerBlobGas'),
    list(tx.blobVersionedHashes, 'blobVersionedHashes').map(h => word(h, 'blob hash')),
    list(tx.authorizationList, 'authorizationList').map(entry => {
      const a = object(entry, 'authorization')
      return [
        number(a.chainId, 'chainId of an authorization'),
        address(a.address, 'address of an authorization'),
        number(a.nonce, 'nonce of an authorization', 8),
        number(a.yParity ?? a.v, 'parity of an authorization', 1),
        number(a.r, 'r'),
        number(a.s, 's')
      ]
    }),
    tx.sender === undefined || tx.sender === null ? NOTHING : address(tx.sender, 'sender'),
    tx.secretKey === undefined || tx.secretKey === null
      ? NOTHING
      : padded(bytes(tx.secretKey, 'secretKey'), MAX_SECRET_BYTES)
  ]
}

function typeOf(tx: Json): number {
  if (tx.authorizationList !== undefined && tx.authorizationList !== null) return 4
  if (tx.maxFeePerBlobGas !== undefined || tx.blobVersionedHashes !== undefined) return 3
  if (tx.maxFeePerGas !== undefined) return 2
  return tx.accessList !== undefined && tx.accessList !== null ? 1 : 0
}

/** [target, max, fraction], or nothing: then the fork's own. Takes one schedule, or a map of them by fork. */
function schedule(value: unknown, fork: string): RlpInput[] {
  if (value === undefined || value === null) return []
  const all = object(value, 'blobSchedule')
  const own = Object.hasOwn(all, fork) ? object(all[fork], 'blobSchedule') : all
  if (own.target === undefined) return []
  return [
    number(own.target, 'target', 8),
    number(own.max, 'max', 8),
    number(own.baseFeeUpdateFraction, 'baseFeeUpdateFraction', 8)
  ]
}

function fail(what: string): never {
  throw new ZgError('ERR_BAD_INPUT', what)
}

function object(value: unknown, what: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(`${what} is no object`)
  return value as Json
}

function list(value: unknown, what: string): readonly unknown[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) fail(`${what} is no list`)
  return value
}

function text(value: unknown, what: string): string {
  if (typeof value !== 'string') fail(`${what} is no text`)
  return value
}

function utf8(value: string): Uint8Array {
  return new TextEncoder().encode(value)
}

function bytes(value: unknown, what: string): Uint8Array {
  if (typeof value !== 'string') fail(`${what} is no hex text`)
  const digits = value.startsWith('0x') ? value.slice(2) : value
  const even = digits.length % 2 === 0 ? digits : `0${digits}`
  const out = Buffer.from(even, 'hex')
  if (out.length * 2 !== even.length) fail(`${what} '${value.slice(0, 40)}' is not hex`)
  return out
}

/** Canonical: without leading zeros. */
function number(value: unknown, what: string, atMost = WORD_BYTES): Uint8Array {
  const raw = bytes(value, what)
  let zeros = 0
  while (zeros < raw.length && raw[zeros] === 0) zeros++
  const out = raw.subarray(zeros)
  if (out.length > atMost) fail(`${what} does not fit into ${atMost} bytes`)
  return out
}

function optional(value: unknown, what: string): RlpInput[] {
  return value === undefined || value === null ? [] : [number(value, what)]
}

function padded(value: Uint8Array, size: number): Uint8Array {
  if (value.length >= size) return value
  const out = new Uint8Array(size)
  out.set(value, size - value.length)
  return out
}

function word(value: unknown, what: string): Uint8Array {
  const raw = bytes(value, what)
  if (raw.length > WORD_BYTES) fail(`${what} has more than 32 bytes`)
  return padded(raw, WORD_BYTES)
}

function address(value: unknown, what: string): Uint8Array {
  const raw = bytes(value, what)
  if (raw.length !== 20) fail(`${what} has ${raw.length} bytes, 20 wanted`)
  return raw
}

function hex(value: Uint8Array): string {
  return `0x${Buffer.from(value).toString('hex')}`
}
