/** `zg-chain block`: one block. */
import { ZgError } from '../../../lib/base/errors.ts'
import { formatAmount } from '../../../lib/base/units.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { connect } from '../options.ts'
import { number, shown, table, timeText } from '../print.ts'

const TAGS = ['latest', 'pending', 'earliest', 'safe', 'finalized']

export const block: VerbFn = async (ctx, [which = 'latest'], opts) => {
  const client = await connect(ctx, opts)
  const full = opts.full === true
  const found = /^0x[0-9a-fA-F]{64}$/.test(which)
    ? await client.call<Record<string, unknown> | null>('eth_getBlockByHash', [which, full])
    : await client.call<Record<string, unknown> | null>('eth_getBlockByNumber', [blockArgument(which), full])
  if (found === null) throw new ZgError('ERR_NOT_FOUND', `chain has no block ${which}`)
  const quantity = (name: string) => Number(found[name])
  const transactions = found.transactions as (string | { hash: string })[]
  const hashes = transactions.map(t => (typeof t === 'string' ? t : t.hash))
  ctx.print(
    { type: 'block', ...found },
    table([
      ['number', number(ctx, quantity('number'))],
      ['hash', found.hash === null ? 'pending' : String(found.hash)],
      ['parent', String(found.parentHash)],
      ['time', timeText(ctx, quantity('timestamp'))],
      ['gas', `${number(ctx, quantity('gasUsed'))} of ${number(ctx, quantity('gasLimit'))}`],
      ['base fee', `${formatAmount(BigInt(String(found.baseFeePerGas)) * 10n ** 9n, 9)} gneuron`],
      ['state', String(found.stateRoot)],
      ['txs', hashes.length.toString()],
      ...hashes.map((hash): [string, string] => ['', shown(ctx, hash)])
    ])
  )
}

/** A block as the RPC takes it. @throws {ZgError} ERR_USAGE. */
export function blockArgument(text: string): string {
  if (TAGS.includes(text)) return text
  if (/^[0-9]{1,15}$/.test(text)) return `0x${Number(text).toString(16)}`
  if (/^0x([0-9a-fA-F]{1,13}|[0-9a-fA-F]{64})$/.test(text)) return text
  throw new ZgError('ERR_USAGE', `'${text}' is not a block`, { hint: "write a number, a hash or 'latest'" })
}
