/** What gas costs: suggestions, and the history they come from (chain.md 9.5). */
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { toQuantity } from '../../../lib/base/hex.ts'
import type { BlockHeader } from '../core/types.ts'
import { needReceipts } from './blocks.ts'
import { findBlock, headerOf, type RpcSetup } from './context.ts'
import { arg, asArray, asBlockNumber, asLooseNumber, invalid, optional } from './decode.ts'
import { blobBaseFee, blobScheduleAt, nextBlobBaseFee } from './rules.ts'

/** Blocks of one eth_feeHistory. */
const MAX_HISTORY = 1_024
const MAX_PERCENTILES = 100
/** Blocks the suggested tip looks at, and samples it takes from each. */
const TIP_BLOCKS = 20
const TIP_SAMPLES = 3
const TIP_PERCENTILE = 60
/** Suggested while nobody has paid a tip lately: 1 gneuron. */
const TIP_DEFAULT = 1_000_000_000n
const TIP_MAX = 500_000_000_000n
/** Gas of one blob (EIP-4844). */
const BLOB_GAS = 131_072

export function feeMethods(s: RpcSetup): RpcMethods {
  const { chain } = s
  const tip = tipOracle(s)
  return {
    // Never below the next base fee, or a transaction at this price would wait.
    eth_gasPrice: () => {
      const known = tip()
      return typeof known === 'bigint'
        ? toQuantity(chain.nextBaseFee() + known)
        : known.then(t => toQuantity(chain.nextBaseFee() + t))
    },
    eth_maxPriorityFeePerGas: () => {
      const known = tip()
      return typeof known === 'bigint' ? toQuantity(known) : known.then(toQuantity)
    },
    eth_baseFee: () => toQuantity(chain.nextBaseFee()),
    eth_blobBaseFee: () => {
      const head = chain.head()
      return toQuantity(nextBlobBaseFee(s.forks, head, head.timestamp) ?? 0n)
    },
    eth_feeHistory: async params => {
      const count = Math.min(arg(params, 0, 'blockCount', asLooseNumber), MAX_HISTORY)
      const newest = arg(params, 1, 'newestBlock', asBlockNumber)
      const percentiles = optional(params, 2, 'rewardPercentiles', readPercentiles)
      const head = chain.head()
      if ('number' in newest && newest.number > head.number) {
        throw new RpcError(RPC.server, `request beyond head block: requested ${newest.number}, head ${head.number}`)
      }
      const ref = findBlock(chain, newest)
      if (ref === undefined) throw new RpcError(RPC.server, 'header not found')
      return feeHistory(s, Math.min(count, headerOf(ref).number + 1), headerOf(ref), percentiles)
    }
  }
}

function readPercentiles(value: unknown, name: string): number[] {
  const list = asArray(value, name, MAX_PERCENTILES)
  return list.map((p, i) => {
    if (typeof p !== 'number' || !(p >= 0 && p <= 100)) throw invalid(name, `percentile ${i} is not within 0 to 100`)
    if (i > 0 && p < (list[i - 1] as number)) throw invalid(name, 'percentiles do not increase')
    return p
  })
}

async function feeHistory(
  s: RpcSetup,
  count: number,
  newest: BlockHeader,
  percentiles: number[] | undefined
): Promise<unknown> {
  if (count === 0) return { oldestBlock: '0x0', gasUsedRatio: [] }
  const oldest = newest.number - count + 1
  const baseFees: string[] = []
  const ratios: number[] = []
  const blobFees: string[] = []
  const blobRatios: number[] = []
  const rewards: string[][] = []
  for (let number = oldest; number <= newest.number; number++) {
    const header = number === newest.number ? newest : s.chain.header(number)
    if (header === undefined) throw new RpcError(RPC.server, 'header not found')
    baseFees.push(toQuantity(header.baseFeePerGas ?? 0n))
    blobFees.push(toQuantity(blobBaseFee(s.forks, header) ?? 0n))
    const schedule = blobScheduleAt(s.forks, header.timestamp)
    blobRatios.push(schedule === undefined ? 0 : Number(header.blobGasUsed ?? 0n) / (schedule.max * BLOB_GAS))
    ratios.push(header.gasLimit === 0n ? 0 : Number(header.gasUsed) / Number(header.gasLimit))
    if (percentiles !== undefined) rewards.push((await rewardsOf(s, header, percentiles)).map(toQuantity))
  }
  const after = newest.number < s.chain.head().number ? s.chain.header(newest.number + 1) : undefined
  baseFees.push(toQuantity(after === undefined ? s.chain.nextBaseFee() : (after.baseFeePerGas ?? 0n)))
  const blobFee = after === undefined ? nextBlobBaseFee(s.forks, newest, newest.timestamp) : blobBaseFee(s.forks, after)
  blobFees.push(toQuantity(blobFee ?? 0n))
  return {
    oldestBlock: toQuantity(oldest),
    baseFeePerGas: baseFees,
    gasUsedRatio: ratios,
    baseFeePerBlobGas: blobFees,
    blobGasUsedRatio: blobRatios,
    ...(percentiles === undefined ? {} : { reward: rewards })
  }
}

/** Tips at percentiles of a block's gas; zeros for an empty block. */
async function rewardsOf(s: RpcSetup, header: BlockHeader, percentiles: number[]): Promise<bigint[]> {
  if (header.gasUsed === 0n) return percentiles.map(() => 0n)
  const paid = (await needReceipts(s, header))
    .map(r => ({ tip: r.effectiveGasPrice - (header.baseFeePerGas ?? 0n), gas: r.gasUsed }))
    .sort((a, b) => (a.tip < b.tip ? -1 : a.tip > b.tip ? 1 : 0))
  const total = paid.reduce((sum, p) => sum + p.gas, 0n)
  let at = 0
  let gas = paid[0]?.gas ?? 0n
  return percentiles.map(p => {
    const wanted = (total * BigInt(Math.round(p * 1_000_000))) / 100_000_000n
    while (gas < wanted && at < paid.length - 1) gas += paid[++at]!.gas
    return paid[at]?.tip ?? 0n
  })
}

/** The tip that got transactions into recent blocks: the 60th percentile of the lowest three of each. Known at once for a head seen before. */
function tipOracle(s: RpcSetup): () => bigint | Promise<bigint> {
  let cached: { head: Uint8Array; tip: bigint | Promise<bigint> } | undefined
  return () => {
    const head = s.chain.head()
    if (cached?.head === head.hash) return cached.tip
    const made: typeof cached = { head: head.hash, tip: suggest(s, head) }
    cached = made
    void Promise.resolve(made.tip).then(
      tip => {
        made.tip = tip
      },
      () => {
        if (cached === made) cached = undefined
      }
    )
    return made.tip
  }
}

async function suggest(s: RpcSetup, head: BlockHeader): Promise<bigint> {
  const samples: bigint[] = []
  for (let number = head.number; number > 0 && number > head.number - TIP_BLOCKS; number--) {
    const header = number === head.number ? head : s.chain.header(number)
    if (header === undefined || header.gasUsed === 0n) continue
    const tips = (await needReceipts(s, header)).map(r => r.effectiveGasPrice - (header.baseFeePerGas ?? 0n))
    tips.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
    samples.push(...tips.filter(t => t > 0n).slice(0, TIP_SAMPLES))
  }
  if (samples.length === 0) return TIP_DEFAULT
  samples.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  const tip = samples[Math.floor(((samples.length - 1) * TIP_PERCENTILE) / 100)]!
  return tip > TIP_MAX ? TIP_MAX : tip
}
