/** The real chain behind the follower: logs of the flow contract, senders, pushed heads. */

import { readU64be } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex, toQuantity } from '../../../lib/base/hex.ts'
import { type ChainClient, type RpcLog, toNumber } from '../../../lib/clients/chain.ts'
import { HeadWatch } from '../../../lib/clients/head-watch.ts'
import { decodeSubmitLog, SUBMIT_TOPIC } from '../../../lib/codec/storage/submission.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { KvChain, PlacedEvent } from './follow.ts'

/** `numSubmissions()`. */
const COUNT_SELECTOR = '0x77e19824'

/** @param flow - 0x, the address whose events count. */
export function followedChain(client: ChainClient, flow: string, clock: Clock): KvChain & { close(): void } {
  const heads = new HeadWatch(client, clock)
  return {
    head: async () => (await heads.head()).number,
    blockHash: async number => {
      const block =
        heads.header(number) ??
        (await client.call<{ hash: string } | null>('eth_getBlockByNumber', [toQuantity(number), false]))
      return block === null ? undefined : fromHex(block.hash, 'block hash', { size: 32 })
    },
    submissions: async (fromBlock, toBlock) => {
      if (heads.quiet(flow, fromBlock, toBlock)) return []
      return logsOf(client, flow, fromBlock, toBlock)
    },
    count: async () => {
      const answer = await client.call<string>('eth_call', [{ to: flow, data: COUNT_SELECTOR }, 'latest'])
      return readU64be(fromHex(answer, 'submission count', { size: 32 }), 24)
    },
    sender: async txHash => {
      const tx = await client.call<{ from: string } | null>('eth_getTransactionByHash', [txHash])
      if (tx === null) throw new ZgError('ERR_UNAVAILABLE', `chain does not answer transaction ${txHash}`)
      return fromHex(tx.from, 'sender', { size: 20 })
    },
    nextHead: signal => heads.next(signal),
    close: () => heads.close()
  }
}

/**
 * Public RPCs bound the blocks or the results of one call, each with an error of its own: what is refused is asked for in halves. A
 * single block that is refused is an error.
 */
async function logsOf(client: ChainClient, flow: string, fromBlock: number, toBlock: number): Promise<PlacedEvent[]> {
  const logs: RpcLog[] = []
  try {
    const query = { address: flow, topics: [toHex(SUBMIT_TOPIC)], fromBlock, toBlock }
    for await (const page of client.getLogs(query)) logs.push(...page)
  } catch (err) {
    if (fromBlock === toBlock || !(err instanceof ZgError && REFUSED.has(err.code))) throw err
    const middle = Math.floor((fromBlock + toBlock) / 2)
    const first = await logsOf(client, flow, fromBlock, middle)
    return [...first, ...(await logsOf(client, flow, middle + 1, toBlock))]
  }
  return logs.filter(l => !l.removed).map(placed)
}

const REFUSED: ReadonlySet<string> = new Set(['ERR_REJECTED', 'ERR_BAD_INPUT', 'ERR_PROTOCOL'])

function placed(log: RpcLog): PlacedEvent {
  const topics = log.topics.map(t => fromHex(t, 'topic'))
  return {
    event: decodeSubmitLog(topics, fromHex(log.data, 'log data')),
    block: toNumber(log.blockNumber),
    txHash: log.transactionHash
  }
}
