/** The follower's chain over JSON-RPC. */

import { readU64be } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex, toQuantity } from '../../../lib/base/hex.ts'
import type { ChainClient, RpcLog } from '../../../lib/clients/chain.ts'
import { toNumber } from '../../../lib/clients/chain.ts'
import { HeadWatch } from '../../../lib/clients/head-watch.ts'
import { SUBMIT_TOPIC } from '../../../lib/codec/storage/submission.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { ChainLog, FlowChain } from '../core/chain-follower.ts'

/** `getFlowRootByTxSeq(uint256)`. */
const FLOW_ROOT_SELECTOR = '0x6d7ad0fc'
/** Most text of one answer of `eth_getLogs`, some 600 submissions: the follower asks for fewer blocks then. */
const PAGE_BYTES = 1024 * 1024
/** `numSubmissions()`. */
const COUNT_SELECTOR = '0x77e19824'

export interface ChainSource extends FlowChain {
  close(): void
}

/** @param flow - address of the flow contract, 0x hex. */
export function chainSource(client: ChainClient, flow: string, clock: Clock): ChainSource {
  const heads = new HeadWatch(client, clock)
  return {
    head: async () => (await heads.head()).number,
    async block(number) {
      const b =
        heads.header(number) ??
        (await client.call<{ number: string; hash: string; parentHash: string } | null>('eth_getBlockByNumber', [
          toQuantity(number),
          false
        ]))
      if (b === null) return undefined
      if (toNumber(b.number) !== number)
        throw new ZgError('ERR_PROTOCOL', `chain answered another block than ${number}`)
      return { number, hash: hash(b.hash, 'block hash'), parentHash: hash(b.parentHash, 'parent hash') }
    },
    async submitLogs(fromBlock, toBlock) {
      const range = { fromBlock: toQuantity(fromBlock), toBlock: toQuantity(toBlock) }
      const query = { address: flow, topics: [toHex(SUBMIT_TOPIC)], ...range }
      // One block is the least that can be asked for.
      const limit = toBlock > fromBlock ? { maxBytes: PAGE_BYTES } : {}
      const logs = await client.call<RpcLog[]>('eth_getLogs', [query], limit)
      return logs.filter(log => !log.removed).map(log => toLog(log, fromBlock, toBlock))
    },
    async flowRoot(seq) {
      const data = `${FLOW_ROOT_SELECTOR}${seq.toString(16).padStart(64, '0')}`
      const answer = await client.call<string>('eth_call', [{ to: flow, data }, 'latest'])
      return hash(answer, 'flow root')
    },
    async submissionCount() {
      const answer = await client.call<string>('eth_call', [{ to: flow, data: COUNT_SELECTOR }, 'latest'])
      return readU64be(hash(answer, 'submission count'), 24)
    },
    quiet: (fromBlock, toBlock) => heads.quiet(flow, fromBlock, toBlock),
    nextHead: signal => heads.next(signal),
    close: () => heads.close()
  }
}

function toLog(log: RpcLog, from: number, to: number): ChainLog {
  const block = toNumber(log.blockNumber)
  if (block < from || block > to) throw new ZgError('ERR_PROTOCOL', `chain answered a log of block ${block}`)
  return {
    topics: log.topics.map(t => hash(t, 'topic')),
    data: fromHex(log.data, 'log data'),
    block,
    logIndex: toNumber(log.logIndex)
  }
}

function hash(text: unknown, what: string): Uint8Array {
  try {
    return fromHex(text, what, { size: 32 })
  } catch (err) {
    throw new ZgError('ERR_PROTOCOL', `chain answered a malformed ${what}`, { cause: err })
  }
}
