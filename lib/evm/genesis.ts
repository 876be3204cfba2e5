/**
 * A genesis as the native execution client takes it (native/evm/chain/genesis.h):
 *
 *   [config, header, alloc]
 *   config   [[name, value]…] by name; numbers, but blobSchedule: [[fork, [target, max, baseFeeUpdateFraction]]…]. A fork that is absent never
 *            begins.
 *   header   [timestamp, gasLimit, difficulty, nonce, extraData, prevRandao, beneficiary, baseFeePerGas, excessBlobGas, blobGasUsed]
 *   alloc    [[address, nonce, balance, code, [[slot, value]…]]…]
 *
 * The same genesis gives the same bytes: entries are sorted. Their hash is kept with a data directory, so that another network's is refused.
 */
import { compareBytes } from '../base/bytes.ts'
import { encodeRlp, type RlpInput } from '../codec/rlp.ts'

export interface GenesisAccount {
  address: Uint8Array
  balance: bigint
  nonce: bigint
  code: Uint8Array
  storage: readonly (readonly [slot: Uint8Array, value: Uint8Array])[]
}

export interface GenesisInput {
  chainId: number
  /** Forks by geth's names (`homesteadBlock`, `shanghaiTime`, `bpo1Time`, …), and the chain's own parameters. */
  config: object
  timestamp: number
  gasLimit: bigint
  difficulty: bigint
  /** 8 bytes. */
  nonce: Uint8Array
  extraData: Uint8Array
  prevRandao: Uint8Array
  beneficiary: Uint8Array
  baseFeePerGas: bigint
  excessBlobGas: bigint
  blobGasUsed: bigint
  alloc: readonly GenesisAccount[]
}

interface BlobSchedule {
  target: number
  max: number
  baseFeeUpdateFraction: number
}

const text = new TextEncoder()

/** @throws {ZgError} ERR_BAD_INPUT for a value that is no number, bytes or blob schedule. */
export function encodeGenesis(g: GenesisInput): Uint8Array {
  const config = Object.entries({ chainId: g.chainId, ...g.config })
    .filter(([, value]) => value !== undefined && value !== null)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]): RlpInput => [text.encode(name), configValue(value)])
  const header: RlpInput = [
    g.timestamp,
    g.gasLimit,
    g.difficulty,
    g.nonce,
    g.extraData,
    g.prevRandao,
    g.beneficiary,
    g.baseFeePerGas,
    g.excessBlobGas,
    g.blobGasUsed
  ]
  const alloc = [...g.alloc]
    .sort((a, b) => compareBytes(a.address, b.address))
    .map(
      (a): RlpInput => [
        a.address,
        a.nonce,
        a.balance,
        a.code,
        [...a.storage].sort(([x], [y]) => compareBytes(x, y)).map(([slot, value]): RlpInput => [slot, value])
      ]
    )
  return encodeRlp([config, header, alloc])
}

function configValue(value: unknown): RlpInput {
  if (typeof value === 'boolean') return value ? 1 : 0
  if (typeof value === 'number' || typeof value === 'bigint' || value instanceof Uint8Array) return value
  return Object.entries(value as Record<string, BlobSchedule>)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([fork, s]): RlpInput => [text.encode(fork), [s.target, s.max, s.baseFeeUpdateFraction]])
}
