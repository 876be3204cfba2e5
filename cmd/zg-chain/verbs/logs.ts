/** `zg-chain logs`: events of a range of blocks, page by page. */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { connect } from '../options.ts'
import { number, shown } from '../print.ts'

export const logs: VerbFn = async (ctx, accounts, opts) => {
  const { findAddress } = await import('../../../lib/clients/accounts.ts')
  const client = await connect(ctx, opts)
  const head = await client.blockNumber()
  const query = {
    topics: await topicsOf((opts.topic as string[] | undefined) ?? []),
    fromBlock: height(opts.fromBlock as string | undefined, head, 0),
    toBlock: height(opts.toBlock as string | undefined, head, head),
    ...(accounts.length === 0
      ? {}
      : { address: await Promise.all(accounts.map(async a => toHex(await findAddress(a)))) })
  }
  let found = 0
  for await (const page of client.getLogs(query)) {
    for (const log of page) {
      found++
      ctx.print(
        { type: 'log', ...log },
        `${number(ctx, Number(log.blockNumber))}  ${shown(ctx, log.transactionHash)}#${Number(log.logIndex)}  ${shown(ctx, log.address)}  ${log.topics.map(t => shown(ctx, t)).join(' ')}  ${shown(ctx, log.data)}`
      )
      if (found === opts.limit) return 0
    }
  }
  return found === 0 ? 1 : 0
}

function height(text: string | undefined, head: number, otherwise: number): number {
  if (text === undefined) return otherwise
  if (text === 'latest') return head
  if (/^-[0-9]{1,9}$/.test(text)) return Math.max(0, head + Number(text))
  if (/^([0-9]{1,15}|0x[0-9a-fA-F]{1,13})$/.test(text)) return Number(text)
  throw new ZgError('ERR_USAGE', `'${text}' is not a block number`, {
    hint: "write '120', 'latest' or '-100' from the head"
  })
}

/** Topics by position: 32 bytes, an event signature such as `Transfer(address,address,uint256)`, or `*` for any. */
async function topicsOf(texts: string[]): Promise<(string | null)[]> {
  if (texts.length > 4) throw new ZgError('ERR_USAGE', 'a log has at most four topics')
  const { keccak256 } = await import('../../../lib/crypto/hash.ts')
  return texts.map(text => {
    if (text === '*') return null
    if (/^0x[0-9a-fA-F]{64}$/.test(text)) return text
    if (/^[A-Za-z_$][A-Za-z0-9_$]*\([A-Za-z0-9_,()[\]]*\)$/.test(text)) {
      return toHex(keccak256(new TextEncoder().encode(text)))
    }
    throw new ZgError('ERR_USAGE', `'${text}' is not a topic`, {
      hint: "write 32 bytes of hex, 'Transfer(address,address,uint256)' or '*'"
    })
  })
}
