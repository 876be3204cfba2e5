/** What the forks of a chain say about blobs and fork ids (EIP-4844, 7892, 2124, 6122). */
import { crc32 } from 'node:zlib'
import { bigToBytes, concat } from '../../../lib/base/bytes.ts'
import { BLOCK_FORKS, type BlobSchedule, type ForkConfig, TIME_FORKS } from '../core/genesis.ts'
import type { BlockHeader } from '../core/types.ts'

/** What a fork has when its genesis names no schedule of its own. */
const SCHEDULES: Record<string, BlobSchedule> = {
  cancun: { target: 3, max: 6, baseFeeUpdateFraction: 3338477 },
  prague: { target: 6, max: 9, baseFeeUpdateFraction: 5007716 }
}
const BLOB_GAS = 131_072n
/** Least price of a unit of blob gas. */
const MIN_BLOB_FEE = 1n
/** EIP-7918: what a blob costs at least, in execution gas. */
const BLOB_BASE_COST = 8_192n

export type TimeFork = (typeof TIME_FORKS)[number]

/** The time forks that hold at a time, oldest first. */
export function timeForksAt(forks: ForkConfig, timestamp: number): TimeFork[] {
  return TIME_FORKS.filter(f => (forks[f] ?? Number.POSITIVE_INFINITY) <= timestamp)
}

/** @returns undefined before Cancun. */
export function blobScheduleAt(forks: ForkConfig, timestamp: number): BlobSchedule | undefined {
  let schedule: BlobSchedule | undefined
  for (const fork of timeForksAt(forks, timestamp)) {
    const name = fork.slice(0, -'Time'.length)
    schedule = forks.blobSchedule?.[name] ?? SCHEDULES[name] ?? schedule
  }
  return schedule
}

/** Price of a unit of blob gas in a block; undefined before Cancun. */
export function blobBaseFee(forks: ForkConfig, header: Pick<BlockHeader, 'timestamp' | 'excessBlobGas'>) {
  const schedule = blobScheduleAt(forks, header.timestamp)
  if (schedule === undefined || header.excessBlobGas === undefined) return undefined
  return fakeExponential(MIN_BLOB_FEE, header.excessBlobGas, BigInt(schedule.baseFeeUpdateFraction))
}

/** The same as a receipt needs it. */
export function blobFeeOf(forks: ForkConfig, header: BlockHeader): { price: bigint } | undefined {
  const price = blobBaseFee(forks, header)
  return price === undefined ? undefined : { price }
}

/** Price in the block after `parent`, made at `timestamp`. */
export function nextBlobBaseFee(forks: ForkConfig, parent: BlockHeader, timestamp: number): bigint | undefined {
  const schedule = blobScheduleAt(forks, timestamp)
  if (schedule === undefined) return undefined
  const excess = (parent.excessBlobGas ?? 0n) + (parent.blobGasUsed ?? 0n)
  const target = BigInt(schedule.target) * BLOB_GAS
  let excessBlobGas = excess > target ? excess - target : 0n
  const osaka = forks.osakaTime !== undefined && forks.osakaTime <= timestamp
  const current = blobBaseFee(forks, parent)
  if (
    osaka &&
    excess >= target &&
    current !== undefined &&
    (parent.baseFeePerGas ?? 0n) * BLOB_BASE_COST > current * BLOB_GAS
  ) {
    const { max, target: aim } = schedule
    excessBlobGas = (parent.excessBlobGas ?? 0n) + ((parent.blobGasUsed ?? 0n) * BigInt(max - aim)) / BigInt(max)
  }
  return blobBaseFee(forks, { timestamp, excessBlobGas })
}

/** factor × e^(numerator / denominator), as EIP-4844 computes it. */
function fakeExponential(factor: bigint, numerator: bigint, denominator: bigint): bigint {
  let sum = 0n
  let term = factor * denominator
  for (let i = 1n; term > 0n; i++) {
    sum += term
    term = (term * numerator) / (denominator * i)
  }
  return sum / denominator
}

/** EIP-2124 with EIP-6122: forks at genesis do not enter the checksum. */
export function forkId(forks: ForkConfig, genesis: Pick<BlockHeader, 'hash' | 'timestamp'>, timestamp: number): string {
  const blocks = BLOCK_FORKS.map(f => forks[f]).filter(n => n !== undefined && n > 0)
  const times = TIME_FORKS.map(f => forks[f]).filter(t => t !== undefined && t > genesis.timestamp && t <= timestamp)
  const sorted = (list: (number | undefined)[]) => [...new Set(list as number[])].sort((a, b) => a - b)
  const bytes = concat(genesis.hash, ...[...sorted(blocks), ...sorted(times)].map(n => bigToBytes(BigInt(n), 8)))
  return `0x${crc32(bytes).toString(16).padStart(8, '0')}`
}
