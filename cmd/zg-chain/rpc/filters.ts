/**
 * Installed filters, polled by their owners. A block or log filter keeps the number of the last block it told about, not a
 * queue: its cost does not grow while nobody polls. A pending filter has a bounded queue of hashes. All expire after
 * `LIMITS.filterTtlMs` without a poll, and the oldest goes when there are too many.
 */
import { randomBytes } from 'node:crypto'
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { type Hex, toHex } from '../../../lib/base/hex.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import type { PlacedLog } from '../core/types.ts'
import type { RpcSetup } from './context.ts'
import { arg, asLooseQuantity, invalid } from './decode.ts'
import { encodeLog } from './encode.ts'
import { asLogQuery, heightOf, type LogQuery, queryLogs, rangeLogs } from './logs.ts'

/** Hashes a pending filter holds between polls; the oldest are dropped beyond. */
const MAX_PENDING = 10_000

/** Stands for no limit. */
const ALL = Number.MAX_SAFE_INTEGER

type Filter = { polledMs: number } & (
  | { kind: 'block'; told: number }
  | { kind: 'log'; told: number; query: LogQuery }
  | { kind: 'pending'; hashes: Hex[]; stop: () => void }
)

export function filterMethods(s: RpcSetup): RpcMethods {
  const { chain } = s
  const filters = new Map<string, Filter>()

  function install(filter: Filter): string {
    for (const [id, f] of filters) if (expired(f)) remove(id)
    if (filters.size >= LIMITS.filters) {
      const oldest = filters.keys().next().value
      if (oldest !== undefined) remove(oldest)
    }
    const id = `0x${BigInt(toHex(randomBytes(16))).toString(16)}`
    filters.set(id, filter)
    return id
  }

  function remove(id: string): boolean {
    const filter = filters.get(id)
    if (filter?.kind === 'pending') filter.stop()
    return filters.delete(id)
  }

  const expired = (f: Filter) => s.monotonic() - f.polledMs > LIMITS.filterTtlMs

  /** The filter a call names, kept alive by it and moved to the end of the eviction order. */
  function poll(id: string): Filter {
    const filter = filters.get(id)
    if (filter === undefined || expired(filter)) {
      remove(id)
      throw new RpcError(RPC.server, 'filter not found')
    }
    filter.polledMs = s.monotonic()
    filters.delete(id)
    filters.set(id, filter)
    return filter
  }

  const asId = (value: unknown, name: string) => `0x${asLooseQuantity(value, name).toString(16)}`

  // A block taken back by evm_revert must be told again when its number comes up once more.
  chain.onBlock(e => {
    if (!e.removed) return
    const before = e.block.header.number - 1
    for (const f of filters.values()) if (f.kind !== 'pending' && f.told > before) f.told = before
  })

  /**
   * As much news as one answer may hold; the rest comes with the next poll. Nothing is refused here, since the owner of a filter
   * cannot narrow it: a single block is told whole, whatever it holds.
   */
  async function firstLogs(query: LogQuery, from: number, to: number): Promise<{ logs: PlacedLog[]; upTo: number }> {
    const upTo = Math.min(to, from + s.logsBlocks - 1)
    if (upTo === from) return { logs: await rangeLogs({ ...s, logsResults: ALL }, query, from, from), upTo }
    try {
      return { logs: await rangeLogs(s, query, from, upTo), upTo }
    } catch (err) {
      if (!(err instanceof RpcError) || err.code !== RPC.limit) throw err
      return firstLogs(query, from, from + Math.floor((upTo - from) / 2))
    }
  }

  async function changes(filter: Filter): Promise<unknown[]> {
    if (filter.kind === 'pending') return filter.hashes.splice(0)
    const head = chain.head().number
    const from = filter.told + 1
    if (filter.kind === 'block') {
      const out: Hex[] = []
      for (let number = from; number <= head; number++) {
        const header = chain.header(number)
        if (header !== undefined) out.push(toHex(header.hash))
      }
      filter.told = Math.max(filter.told, head)
      return out
    }
    const { fromBlock, toBlock } = filter.query
    const first = fromBlock !== undefined && 'number' in fromBlock ? Math.max(from, fromBlock.number) : from
    const last = toBlock !== undefined && 'number' in toBlock ? Math.min(head, toBlock.number) : head
    const { logs, upTo } = await firstLogs(filter.query, first, last)
    filter.told = Math.max(filter.told, upTo === last ? head : upTo)
    return logs.map(log => encodeLog(log))
  }

  return {
    eth_newBlockFilter: () => install({ kind: 'block', told: chain.head().number, polledMs: s.monotonic() }),
    eth_newFilter: params => {
      const query = arg(params, 0, 'filter', asLogQuery)
      if (query.blockHash !== undefined) throw invalid('filter', 'a filter has no blockHash, use eth_getLogs')
      const { fromBlock, toBlock } = query
      if (fromBlock !== undefined && 'number' in fromBlock && toBlock !== undefined && 'number' in toBlock) {
        if (fromBlock.number > toBlock.number) throw new RpcError(RPC.params, 'invalid block range')
      }
      return install({ kind: 'log', query, told: chain.head().number, polledMs: s.monotonic() })
    },
    eth_newPendingTransactionFilter: () => {
      const hashes: Hex[] = []
      const stop = chain.onPending(tx => {
        hashes.push(toHex(tx.hash))
        if (hashes.length > MAX_PENDING) hashes.shift()
      })
      return install({ kind: 'pending', hashes, stop, polledMs: s.monotonic() })
    },
    eth_getFilterChanges: params => changes(poll(arg(params, 0, 'filterId', asId))),
    eth_getFilterLogs: async params => {
      const filter = poll(arg(params, 0, 'filterId', asId))
      if (filter.kind !== 'log') throw new RpcError(RPC.server, 'filter not found')
      if (heightOf(s, filter.query.fromBlock) > chain.head().number) return []
      return (await queryLogs(s, filter.query)).map(log => encodeLog(log))
    },
    eth_uninstallFilter: params => remove(arg(params, 0, 'filterId', asId))
  }
}
