/** eth_getLogs and the log criteria that filters and subscriptions share (chain.md 9.5). */
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { toQuantity } from '../../../lib/base/hex.ts'
import { formatCount } from '../../../lib/base/units.ts'
import type { PlacedLog } from '../core/types.ts'
import { isCanonical, type RpcSetup } from './context.ts'
import { arg, asAddress, asArray, asBlockNumber, asHash, asObject, type BlockParam, field, invalid } from './decode.ts'
import { encodeLog } from './encode.ts'

const MAX_TOPICS = 4
/** Addresses, and alternatives at one topic position. */
const MAX_ALTERNATIVES = 1_000

/** What a caller asks for, before block numbers are settled. */
export interface LogQuery {
  fromBlock: BlockParam | undefined
  toBlock: BlockParam | undefined
  blockHash: Uint8Array | undefined
  addresses: Uint8Array[]
  topics: Uint8Array[][]
}

export function logMethods(s: RpcSetup): RpcMethods {
  return {
    eth_getLogs: async params => {
      const query = arg(params, 0, 'filter', asLogQuery)
      return (await queryLogs(s, query)).map(log => encodeLog(log))
    }
  }
}

/** Reads the filter object of eth_getLogs, eth_newFilter and `logs` subscriptions. */
export function asLogQuery(value: unknown, name: string): LogQuery {
  const o = asObject(value, name)
  const query: LogQuery = {
    fromBlock: field(o, 'fromBlock', name, asBlockNumber),
    toBlock: field(o, 'toBlock', name, asBlockNumber),
    blockHash: field(o, 'blockHash', name, asHash),
    addresses: field(o, 'address', name, asAddresses) ?? [],
    topics: field(o, 'topics', name, asTopics) ?? []
  }
  if (query.blockHash !== undefined && (query.fromBlock !== undefined || query.toBlock !== undefined)) {
    throw invalid(name, 'cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other')
  }
  return query
}

function asAddresses(value: unknown, name: string): Uint8Array[] {
  if (!Array.isArray(value)) return [asAddress(value, name)]
  return asArray(value, name, MAX_ALTERNATIVES).map((v, i) => asAddress(v, `${name}[${i}]`))
}

function asTopics(value: unknown, name: string): Uint8Array[][] {
  const topics = asArray(value, name, MAX_TOPICS).map((position, i) => {
    const path = `${name}[${i}]`
    if (position === null || position === undefined) return []
    if (!Array.isArray(position)) return [asHash(position, path)]
    const alternatives = asArray(position, path, MAX_ALTERNATIVES)
    // A null among the alternatives makes the place a wildcard, as geth has it.
    return alternatives.some(v => v === null) ? [] : alternatives.map((v, k) => asHash(v, `${path}[${k}]`))
  })
  return topics
}

/** A height for one end of a range. `pending` counts as the head: what is pending has no logs. */
export function heightOf(s: RpcSetup, at: BlockParam | undefined): number {
  if (at === undefined || !('number' in at)) {
    return at !== undefined && 'tag' in at && at.tag === 'earliest' ? 0 : s.chain.head().number
  }
  return at.number
}

/** @throws {RpcError} −32602 for a range that runs backwards, −32005 with a narrower one when it is too wide. */
export async function queryLogs(s: RpcSetup, query: LogQuery): Promise<PlacedLog[]> {
  if (query.blockHash !== undefined) {
    const header = s.chain.header(query.blockHash)
    if (header === undefined || !isCanonical(s.chain, header)) throw new RpcError(RPC.server, 'unknown block')
    return rangeLogs(s, query, header.number, header.number)
  }
  const from = heightOf(s, query.fromBlock)
  const to = heightOf(s, query.toBlock)
  if (from > to) {
    // Only a mistake when the caller named both ends: `fromBlock` just past the head is how pollers ask for news.
    if (query.toBlock === undefined || !('number' in query.toBlock)) return []
    throw new RpcError(RPC.params, 'invalid block range')
  }
  return rangeLogs(s, query, from, Math.min(to, s.chain.head().number))
}

/** Logs of the blocks `from` to `to`, both included, of an already cut range. */
export async function rangeLogs(s: RpcSetup, query: LogQuery, from: number, to: number): Promise<PlacedLog[]> {
  if (from > to) return []
  const blocks = to - from + 1
  if (blocks > s.logsBlocks) {
    const fits = from + s.logsBlocks - 1
    throw new RpcError(
      RPC.limit,
      `query spans ${formatCount(blocks)} blocks, at most ${formatCount(s.logsBlocks)}: ${narrower(from, fits)}`,
      rangeData(from, fits)
    )
  }
  try {
    return await s.chain.logs({
      fromBlock: from,
      toBlock: to,
      addresses: query.addresses,
      topics: query.topics,
      limit: s.logsResults
    })
  } catch (err) {
    // The chain names the last block up to which the answer would have fitted.
    if (!(err instanceof ZgError) || err.facts[0] !== 'limit') throw err
    const fits = Number(err.facts[1])
    const text = `query returns more than ${formatCount(s.logsResults)} results: `
    // One block alone is too much: `fits` then cannot lie before it.
    if (fits === from && to === from) throw new RpcError(RPC.limit, `${text}name an address or a topic`)
    throw new RpcError(RPC.limit, text + narrower(from, fits), rangeData(from, fits))
  }
}

/** The narrower range for programs: `error.data`. */
function rangeData(from: number, to: number): { fromBlock: string; toBlock: string } {
  return { fromBlock: toQuantity(from), toBlock: toQuantity(to) }
}

function narrower(from: number, to: number): string {
  return `try fromBlock ${toQuantity(from)}, toBlock ${toQuantity(to)}`
}

/** True when a log meets addresses and topics; ranges are the caller's matter. */
export function matches(query: LogQuery, log: PlacedLog): boolean {
  if (query.addresses.length > 0 && !query.addresses.some(a => equalBytes(a, log.address))) return false
  if (query.topics.length > log.topics.length) return false
  return query.topics.every((any, i) => any.length === 0 || any.some(t => equalBytes(t, log.topics[i]!)))
}
