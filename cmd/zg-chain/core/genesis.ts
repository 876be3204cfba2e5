/** The genesis file: a subset of geth's genesis.json, read with bounds, and the block 0 that it means. */

import { sha256 } from '@noble/hashes/sha2.js'
import { bigToBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { addressFromHex, fromHex, toHex, toQuantity } from '../../../lib/base/hex.ts'
import { FIXED_HEADER, makeBlock, sealHeader } from './block.ts'
import type { AllocEntry } from './engine.ts'
import { INITIAL_BASE_FEE, MIN_GAS_LIMIT } from './fees.ts'
import { EMPTY_TRIE_ROOT } from './hash.ts'
import type { Block } from './types.ts'

/** A genesis file of a network with all of 0G's contracts has about 0.3 MiB. */
export const MAX_GENESIS_BYTES = 64 * 1024 * 1024
const MAX_ACCOUNTS = 100_000
const MAX_SLOTS = 1_000_000

export interface Genesis {
  chainId: number
  timestamp: number
  gasLimit: bigint
  baseFeePerGas: bigint
  extraData: Uint8Array
  prevRandao: Uint8Array
  beneficiary: Uint8Array
  alloc: AllocEntry[]
}

/** What a genesis leaves out. */
export const GENESIS_DEFAULTS = {
  timestamp: 0,
  gasLimit: 30_000_000n,
  baseFeePerGas: INITIAL_BASE_FEE,
  extraData: new Uint8Array(0),
  prevRandao: new Uint8Array(32),
  beneficiary: new Uint8Array(20)
} as const

/**
 * Reads a genesis file.
 * @throws {ZgError} ERR_CONFIG naming the field that is wrong.
 */
export function parseGenesis(text: string): Genesis {
  if (text.length > MAX_GENESIS_BYTES) throw bad(`genesis has more than ${MAX_GENESIS_BYTES} bytes`)
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (err) {
    throw bad(`genesis is not JSON: ${messageOf(err)}`)
  }
  try {
    return fromJson(json)
  } catch (err) {
    if (err instanceof ZgError && err.code === 'ERR_BAD_INPUT') throw bad(`genesis: ${err.message}`)
    throw err
  }
}

/** The file of a genesis; parsing it gives the same again. */
export function formatGenesis(g: Genesis): string {
  const alloc: Record<string, object> = {}
  for (const a of g.alloc) {
    alloc[toHex(a.address)] = {
      balance: toQuantity(a.balance),
      ...(a.nonce === 0n ? {} : { nonce: toQuantity(a.nonce) }),
      ...(a.code.length === 0 ? {} : { code: toHex(a.code) }),
      ...(a.storage.length === 0
        ? {}
        : { storage: Object.fromEntries(a.storage.map(([slot, value]) => [toHex(slot), toHex(value)])) })
    }
  }
  const file = {
    config: { chainId: g.chainId, terminalTotalDifficulty: 0, shanghaiTime: 0, cancunTime: 0, pragueTime: 0 },
    timestamp: toQuantity(g.timestamp),
    extraData: toHex(g.extraData),
    gasLimit: toQuantity(g.gasLimit),
    difficulty: '0x0',
    mixHash: toHex(g.prevRandao),
    coinbase: toHex(g.beneficiary),
    baseFeePerGas: toQuantity(g.baseFeePerGas),
    alloc
  }
  return `${JSON.stringify(file, null, 2)}\n`
}

/** Block 0 on its state root. */
export function genesisBlock(g: Genesis, stateRoot: Uint8Array): Block {
  const header = sealHeader({
    ...FIXED_HEADER,
    parentHash: new Uint8Array(32),
    beneficiary: g.beneficiary,
    stateRoot,
    transactionsRoot: EMPTY_TRIE_ROOT,
    receiptsRoot: EMPTY_TRIE_ROOT,
    logsBloom: new Uint8Array(256),
    number: 0,
    gasLimit: g.gasLimit,
    gasUsed: 0n,
    timestamp: g.timestamp,
    extraData: g.extraData,
    prevRandao: g.prevRandao,
    baseFeePerGas: g.baseFeePerGas,
    parentBeaconBlockRoot: new Uint8Array(32),
    requestsHash: sha256(new Uint8Array(0))
  })
  return makeBlock(header, [])
}

function fromJson(json: unknown): Genesis {
  const g = object(json, 'genesis')
  const config = object(g.config, 'config')
  const chainId = Number(quantity(config.chainId, 'config.chainId', 53))
  if (chainId === 0) throw bad('genesis: config.chainId is 0')
  const timestamp = Number(optional(g.timestamp, v => quantity(v, 'timestamp', 53)) ?? 0n)
  const gasLimit = optional(g.gasLimit, v => quantity(v, 'gasLimit', 63)) ?? GENESIS_DEFAULTS.gasLimit
  if (gasLimit < MIN_GAS_LIMIT) throw bad(`genesis: gasLimit is below ${MIN_GAS_LIMIT}`)
  const extraData = optional(g.extraData, v => fromHex(v, 'extraData')) ?? GENESIS_DEFAULTS.extraData
  if (extraData.length > 32) throw bad('genesis: extraData has more than 32 bytes')
  const accounts = Object.entries(object(g.alloc ?? {}, 'alloc'))
  if (accounts.length > MAX_ACCOUNTS) throw bad(`genesis: alloc has more than ${MAX_ACCOUNTS} accounts`)
  let slots = 0
  const seen = new Set<string>()
  const alloc = accounts.map(([key, value]): AllocEntry => {
    const address = fromHex(key, `address '${key}'`, { size: 20, bare: true })
    if (seen.has(toHex(address))) throw bad(`genesis: alloc names ${toHex(address)} twice`)
    seen.add(toHex(address))
    const a = object(value, `alloc.${key}`)
    const storage = Object.entries(object(a.storage ?? {}, `alloc.${key}.storage`))
    slots += storage.length
    if (slots > MAX_SLOTS) throw bad(`genesis: alloc has more than ${MAX_SLOTS} storage slots`)
    return {
      address,
      balance: optional(a.balance, v => quantity(v, `alloc.${key}.balance`, 256)) ?? 0n,
      nonce: optional(a.nonce, v => quantity(v, `alloc.${key}.nonce`, 64)) ?? 0n,
      code: optional(a.code, v => fromHex(v, `alloc.${key}.code`)) ?? new Uint8Array(0),
      storage: storage.map(([slot, v]) => [word(slot, `slot of ${key}`), word(v, `slot value of ${key}`)])
    }
  })
  return {
    chainId,
    timestamp,
    gasLimit,
    baseFeePerGas: optional(g.baseFeePerGas, v => quantity(v, 'baseFeePerGas', 128)) ?? GENESIS_DEFAULTS.baseFeePerGas,
    extraData,
    prevRandao: optional(g.mixHash, v => fromHex(v, 'mixHash', { size: 32 })) ?? GENESIS_DEFAULTS.prevRandao,
    beneficiary: optional(g.coinbase, v => addressFromHex(v, 'coinbase')) ?? GENESIS_DEFAULTS.beneficiary,
    alloc
  }
}

function object(v: unknown, what: string): Record<string, unknown> {
  if (typeof v !== 'object' || v === null || Array.isArray(v)) throw bad(`genesis: ${what} is not an object`)
  return v as Record<string, unknown>
}

function optional<T>(v: unknown, read: (v: unknown) => T): T | undefined {
  return v === undefined || v === null ? undefined : read(v)
}

/** A JSON integer, a decimal string or a hex quantity. */
function quantity(v: unknown, what: string, bits: number): bigint {
  const isText = typeof v === 'string' && /^(0x[0-9a-fA-F]{1,64}|[0-9]{1,78})$/.test(v)
  if (!isText && !(typeof v === 'number' && Number.isSafeInteger(v) && v >= 0))
    throw bad(`genesis: ${what} is not a number`)
  const n = BigInt(v as string | number)
  if (n >> BigInt(bits) !== 0n) throw bad(`genesis: ${what} has more than ${bits} bits`)
  return n
}

/** A slot or value: up to 32 bytes of hex, padded on the left. */
function word(v: unknown, what: string): Uint8Array {
  if (typeof v !== 'string' || !/^(0x)?[0-9a-fA-F]{1,64}$/.test(v)) throw bad(`genesis: ${what} is not a word`)
  return bigToBytes(BigInt(v.startsWith('0x') ? v : `0x${v}`), 32)
}

function bad(message: string): ZgError {
  return new ZgError('ERR_CONFIG', message)
}
