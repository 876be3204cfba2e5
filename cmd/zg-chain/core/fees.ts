/** What a block charges: EIP-1559 base fee, gas limit steering, effective prices. */
import type { BlockHeader, Transaction } from './types.ts'

/** Base fee of block 1 on a genesis that names none: 1 gwei. */
export const INITIAL_BASE_FEE = 1_000_000_000n
/** The least gas limit of a block (chain.md 1, before the raise to 3,000,000). */
export const MIN_GAS_LIMIT = 5_000n

/** Base fee of the child of `parent`: elasticity 2, change denominator 8. Source: EIP-1559. */
export function nextBaseFee(parent: Pick<BlockHeader, 'baseFeePerGas' | 'gasUsed' | 'gasLimit'>): bigint {
  const target = parent.gasLimit / 2n
  const base = parent.baseFeePerGas ?? INITIAL_BASE_FEE
  if (parent.gasUsed === target || target === 0n) return base
  if (parent.gasUsed > target) {
    const delta = (base * (parent.gasUsed - target)) / target / 8n
    return base + (delta > 0n ? delta : 1n)
  }
  return base - (base * (target - parent.gasUsed)) / target / 8n
}

/** Moves towards `target` by less than parent/1024 a block (chain.md 1). */
export function nextGasLimit(parent: bigint, target: bigint): bigint {
  const step = parent / 1024n - 1n
  const wanted = target < MIN_GAS_LIMIT ? MIN_GAS_LIMIT : target
  if (step <= 0n || wanted === parent) return parent
  if (wanted > parent) return wanted > parent + step ? parent + step : wanted
  return wanted < parent - step ? parent - step : wanted
}

type Fees = Pick<Transaction, 'gasPrice' | 'maxFeePerGas' | 'maxPriorityFeePerGas'>

/** The most a transaction pays for one gas. */
export function feeCap(tx: Fees): bigint {
  return tx.maxFeePerGas ?? tx.gasPrice ?? 0n
}

/** The most it pays the proposer for one gas. */
export function tipCap(tx: Fees): bigint {
  return tx.maxPriorityFeePerGas ?? tx.gasPrice ?? 0n
}

/** What the proposer gets for one gas at a base fee; negative when the cap lies below it. */
export function effectiveTip(tx: Fees, baseFee: bigint): bigint {
  const room = feeCap(tx) - baseFee
  const tip = tipCap(tx)
  return tip < room ? tip : room
}

/** What the sender pays for one gas at a base fee it covers. */
export function effectiveGasPrice(tx: Fees, baseFee: bigint): bigint {
  return baseFee + effectiveTip(tx, baseFee)
}
