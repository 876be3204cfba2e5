/** The genesis file: geth's genesis.json, read with bounds. The engine makes block 0 of it. */
import { bigToBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { addressFromHex, fromHex, toHex, toQuantity } from '../../../lib/base/hex.ts'
import type { AllocEntry } from '../../../lib/contracts/genesis.ts'
import { INITIAL_BASE_FEE, MIN_GAS_LIMIT } from './fees.ts'

/** A genesis file of a network with all of 0G's contracts has about 0.3 MiB. */
export const MAX_GENESIS_BYTES = 64 * 1024 * 1024
const MAX_ACCOUNTS = 1_000_000
const MAX_SLOTS = 1_000_000
const MAX_BLOB_FORKS = 16

/** Forks by their first block, in order. */
export const BLOCK_FORKS = [
  'homesteadBlock',
  'daoForkBlock',
  'eip150Block',
  'eip155Block',
  'eip158Block',
  'byzantiumBlock',
  'constantinopleBlock',
  'petersburgBlock',
  'istanbulBlock',
  'muirGlacierBlock',
  'berlinBlock',
  'londonBlock',
  'arrowGlacierBlock',
  'grayGlacierBlock',
  'mergeNetsplitBlock'
] as const
/** Forks by their first second, in order; bpo…: blob parameters alone (EIP-7892). */
export const TIME_FORKS = [
  'shanghaiTime',
  'cancunTime',
  'pragueTime',
  'osakaTime',
  'bpo1Time',
  'bpo2Time',
  'bpo3Time',
  'bpo4Time',
  'bpo5Time'
] as const

export interface BlobSchedule {
  target: number
  max: number
  baseFeeUpdateFraction: number
}

/** The rules of a chain and when they begin; what is absent never does. */
export type ForkConfig = { [fork in (typeof BLOCK_FORKS)[number] | (typeof TIME_FORKS)[number]]?: number } & {
  daoForkSupport?: boolean
  /** 0: no work from the first block on. */
  terminalTotalDifficulty?: bigint
  /** EIP-6110 logs come from here. */
  depositContractAddress?: Uint8Array
  /** By fork name: cancun, prague, osaka, bpo1, … */
  blobSchedule?: Record<string, BlobSchedule>
  /** 0G (chain.md 1): charged gas is at least this share of the limit, in hundredths of a percent. */
  minGasChargeBps?: number
}

export interface Genesis {
  chainId: number
  config: ForkConfig
  timestamp: number
  gasLimit: bigint
  difficulty: bigint
  /** 8 bytes. */
  nonce: Uint8Array
  extraData: Uint8Array
  prevRandao: Uint8Array
  beneficiary: Uint8Array
  /** Of a chain that has base fees at block 0. */
  baseFeePerGas: bigint
  /** Of a chain that has blobs at block 0. */
  excessBlobGas: bigint
  blobGasUsed: bigint
  alloc: AllocEntry[]
}

/** Everything up to Prague from block 0 on. */
export const PRAGUE: ForkConfig = {
  ...Object.fromEntries(BLOCK_FORKS.filter(f => f !== 'daoForkBlock').map(f => [f, 0])),
  terminalTotalDifficulty: 0n,
  shanghaiTime: 0,
  cancunTime: 0,
  pragueTime: 0
}

/** What a genesis leaves out. */
export const GENESIS_DEFAULTS = {
  config: PRAGUE,
  timestamp: 0,
  gasLimit: 30_000_000n,
  difficulty: 0n,
  nonce: new Uint8Array(8),
  baseFeePerGas: INITIAL_BASE_FEE,
  excessBlobGas: 0n,
  blobGasUsed: 0n,
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
    // geth writes total difficulties as JSON numbers that no double holds.
    json = JSON.parse(text.replace(/("terminalTotalDifficulty"\s*:\s*)([0-9]{16,78})/, '$1"$2"'))
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
  const { terminalTotalDifficulty: total, depositContractAddress: deposits, ...forks } = g.config
  const named = Object.fromEntries([...BLOCK_FORKS, ...TIME_FORKS].map(f => [f, forks[f]]))
  const file = {
    config: {
      chainId: g.chainId,
      ...named,
      ...forks,
      ...(total === undefined ? {} : { terminalTotalDifficulty: total.toString() }),
      ...(deposits === undefined ? {} : { depositContractAddress: toHex(deposits) })
    },
    nonce: toQuantity(BigInt(toHex(g.nonce))),
    timestamp: toQuantity(g.timestamp),
    extraData: toHex(g.extraData),
    gasLimit: toQuantity(g.gasLimit),
    difficulty: toQuantity(g.difficulty),
    mixHash: toHex(g.prevRandao),
    coinbase: toHex(g.beneficiary),
    number: '0x0',
    gasUsed: '0x0',
    parentHash: toHex(new Uint8Array(32)),
    baseFeePerGas: isActive(g, 'londonBlock') ? toQuantity(g.baseFeePerGas) : null,
    excessBlobGas: isActive(g, 'cancunTime') ? toQuantity(g.excessBlobGas) : null,
    blobGasUsed: isActive(g, 'cancunTime') ? toQuantity(g.blobGasUsed) : null,
    alloc
  }
  const text = JSON.stringify(file, null, 2)
  return `${text.replace(/("terminalTotalDifficulty": )"([0-9]+)"/, '$1$2')}\n`
}

/** True when a fork's rules hold at block 0. */
export function isActive(
  { config, timestamp }: Pick<Genesis, 'config' | 'timestamp'>,
  fork: (typeof BLOCK_FORKS)[number] | (typeof TIME_FORKS)[number]
): boolean {
  const from = config[fork]
  return from !== undefined && from <= (fork.endsWith('Time') ? timestamp : 0)
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
  for (const [name, value] of Object.entries({ number: g.number, gasUsed: g.gasUsed })) {
    if ((optional(value, v => quantity(v, name, 63)) ?? 0n) !== 0n) throw bad(`genesis: ${name} is not 0`)
  }
  return {
    chainId,
    config: forksOf(config),
    timestamp,
    gasLimit,
    difficulty: optional(g.difficulty, v => quantity(v, 'difficulty', 256)) ?? 0n,
    nonce: bigToBytes(optional(g.nonce, v => quantity(v, 'nonce', 64)) ?? 0n, 8),
    baseFeePerGas: optional(g.baseFeePerGas, v => quantity(v, 'baseFeePerGas', 128)) ?? GENESIS_DEFAULTS.baseFeePerGas,
    excessBlobGas: optional(g.excessBlobGas, v => quantity(v, 'excessBlobGas', 63)) ?? 0n,
    blobGasUsed: optional(g.blobGasUsed, v => quantity(v, 'blobGasUsed', 63)) ?? 0n,
    extraData,
    prevRandao: optional(g.mixHash, v => fromHex(v, 'mixHash', { size: 32 })) ?? GENESIS_DEFAULTS.prevRandao,
    beneficiary: optional(g.coinbase, v => addressFromHex(v, 'coinbase')) ?? GENESIS_DEFAULTS.beneficiary,
    alloc: allocOf(g.alloc)
  }
}

/** A configuration that names no fork at all is this chain's own: Prague. */
function forksOf(config: Record<string, unknown>): ForkConfig {
  const forks: ForkConfig = {}
  for (const fork of [...BLOCK_FORKS, ...TIME_FORKS]) {
    const from = optional(config[fork], v => quantity(v, `config.${fork}`, 53))
    if (from !== undefined) forks[fork] = Number(from)
  }
  const isSilent = Object.keys(forks).length === 0 && config.terminalTotalDifficulty === undefined
  if (isSilent) Object.assign(forks, PRAGUE)
  const total = optional(config.terminalTotalDifficulty, v => quantity(v, 'config.terminalTotalDifficulty', 256))
  if (total !== undefined) forks.terminalTotalDifficulty = total
  // What has no work from the start on has all that came before.
  if (total === 0n) for (const fork of BLOCK_FORKS) if (fork !== 'daoForkBlock') forks[fork] ??= 0
  inOrder(forks, BLOCK_FORKS)
  inOrder(forks, TIME_FORKS)
  if (config.daoForkSupport === true) forks.daoForkSupport = true
  const deposits = optional(config.depositContractAddress, v => addressFromHex(v, 'config.depositContractAddress'))
  if (deposits !== undefined) forks.depositContractAddress = deposits
  const schedule = optional(config.blobSchedule, blobScheduleOf)
  if (schedule !== undefined) forks.blobSchedule = schedule
  const bps = optional(config.minGasChargeBps, v => quantity(v, 'config.minGasChargeBps', 14))
  if (bps !== undefined) {
    if (bps > 10_000n) throw bad('genesis: config.minGasChargeBps is above 10000')
    forks.minGasChargeBps = Number(bps)
  }
  return forks
}

/** A fork stands on those before it. */
function inOrder(forks: ForkConfig, names: readonly (keyof ForkConfig & string)[]): void {
  let before: { name: string; from: number } | undefined
  for (const name of names) {
    const from = forks[name] as number | undefined
    if (from === undefined || name === 'daoForkBlock') continue
    if (before !== undefined && from < before.from)
      throw bad(`genesis: config.${name} ${from} is before ${before.name} ${before.from}`)
    before = { name, from }
  }
}

function blobScheduleOf(v: unknown): Record<string, BlobSchedule> {
  const entries = Object.entries(object(v, 'config.blobSchedule'))
  if (entries.length > MAX_BLOB_FORKS) throw bad(`genesis: config.blobSchedule has more than ${MAX_BLOB_FORKS} forks`)
  return Object.fromEntries(
    entries.map(([fork, value]) => {
      const path = `config.blobSchedule.${fork.slice(0, 32)}`
      if (!/^[a-z][a-z0-9]{0,31}$/.test(fork)) throw bad(`genesis: ${path} is no name of a fork`)
      const o = object(value, path)
      const number = (name: string) => Number(quantity(o[name], `${path}.${name}`, 53))
      const schedule = {
        target: number('target'),
        max: number('max'),
        baseFeeUpdateFraction: number('baseFeeUpdateFraction')
      }
      if (schedule.baseFeeUpdateFraction === 0) throw bad(`genesis: ${path}.baseFeeUpdateFraction is 0`)
      return [fork, schedule]
    })
  )
}

function allocOf(json: unknown): AllocEntry[] {
  const accounts = Object.entries(object(json ?? {}, 'alloc'))
  if (accounts.length > MAX_ACCOUNTS) throw bad(`genesis: alloc has more than ${MAX_ACCOUNTS} accounts`)
  let slots = 0
  const seen = new Set<string>()
  return accounts.map(([key, value]): AllocEntry => {
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
