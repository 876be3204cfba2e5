/** The follower's chain over JSON-RPC. */

import { readU64be } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex, toQuantity } from '../../../lib/base/hex.ts'
import type { ChainClient, RpcLog } from '../../../lib/clients/chain.ts'
import { toNumber } from '../../../lib/clients/chain.ts'
import { SUBMIT_TOPIC } from '../../../lib/codec/storage/submission.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { ChainLog, FlowChain } from '../core/chain-follower.ts'

/** Without pushed heads. */
const POLL_MS = 100
/** With them: only in case the push goes silent. */
const PUSHED_POLL_MS = 2_000
/** `getFlowRootByTxSeq(uint256)`. */
const FLOW_ROOT_SELECTOR = '0x6d7ad0fc'
/** `numSubmissions()`. */
const COUNT_SELECTOR = '0x77e19824'

export interface ChainSource extends FlowChain {
  close(): void
}

/** @param flow - address of the flow contract, 0x hex. */
export function chainSource(client: ChainClient, flow: string, clock: Clock): ChainSource {
  let pushed = false
  /** A head came while nobody waited: the next wait ends at once. */
  let news = false
  let wake: (() => void) | undefined
  const onHead = (): void => {
    news = true
    wake?.()
  }
  const onState = (up: boolean): void => {
    pushed = up
  }
  const stop = client.subscribeHeads(onHead, { onState })
  return {
    head: () => client.blockNumber(),
    async block(number) {
      const b = await client.call<{ number: string; hash: string; parentHash: string } | null>('eth_getBlockByNumber', [
        toQuantity(number),
        false
      ])
      if (b === null) return undefined
      if (toNumber(b.number) !== number)
        throw new ZgError('ERR_PROTOCOL', `chain answered another block than ${number}`)
      return { number, hash: hash(b.hash, 'block hash'), parentHash: hash(b.parentHash, 'parent hash') }
    },
    async submitLogs(fromBlock, toBlock) {
      const out: ChainLog[] = []
      const query = { address: flow, topics: [toHex(SUBMIT_TOPIC)], fromBlock, toBlock }
      for await (const page of client.getLogs(query)) {
        for (const log of page) if (!log.removed) out.push(toLog(log, fromBlock, toBlock))
      }
      return out
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
    nextHead(signal) {
      return new Promise(resolve => {
        const done = (): void => {
          cancel()
          signal.removeEventListener('abort', done)
          wake = undefined
          news = false
          resolve()
        }
        const cancel = clock.after(pushed ? PUSHED_POLL_MS : POLL_MS, done)
        signal.addEventListener('abort', done, { once: true })
        wake = done
        if (signal.aborted || news) done()
      })
    },
    close: stop
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
