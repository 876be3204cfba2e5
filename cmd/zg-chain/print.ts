/** How the verbs show hashes, blocks and transactions: short on a terminal, whole everywhere else. */

import { formatAmount, formatCount, shortHash } from '../../lib/base/units.ts'
import type { VerbContext } from '../../lib/cli/types.ts'
import type { RpcReceipt } from '../../lib/clients/chain.ts'

/** A hash or address: shortened only for eyes. */
export function shown(ctx: VerbContext, hex: string): string {
  return ctx.tty ? shortHash(hex) : hex
}

/** A height or a count: with commas only for eyes. */
export function number(ctx: VerbContext, n: number): string {
  return ctx.tty ? formatCount(n) : n.toString()
}

/** What a mined transaction cost, in neuron. */
export function feeOf(receipt: RpcReceipt): bigint {
  return BigInt(receipt.gasUsed) * BigInt(receipt.effectiveGasPrice)
}

/** `fee 0.000021 0G`. */
export function feeText(neuron: bigint): string {
  return `fee ${formatAmount(neuron, 12)} 0G`
}

/** Lines `name  value` with the names padded; undefined values are left out. */
export function table(rows: [name: string, value: string | undefined][]): string {
  const kept = rows.filter((r): r is [string, string] => r[1] !== undefined)
  const width = Math.max(...kept.map(([name]) => name.length)) + 2
  return kept.map(([name, value]) => `${name.padEnd(width)}${value}`).join('\n')
}

/** A chain time (seconds) for the ends of the line: clock time on a terminal, RFC 3339 elsewhere. */
export function timeText(ctx: VerbContext, seconds: number): string {
  const iso = new Date(seconds * 1000).toISOString()
  return ctx.tty ? iso.slice(11, 19) : iso
}
