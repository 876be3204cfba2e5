/** The indexer's JSON-RPC (storage.md 5.1). */
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { hashFromHex } from '../../../lib/base/hex.ts'
import { type Entry, type NodeBook, type ShardedNode, shown } from './book.ts'

const ASK_TIMEOUT_MS = 3_000
const REPLICAS_MAX = 64

export function indexerMethods(book: NodeBook): RpcMethods {
  return {
    indexer_getShardedNodes: () => ({ trusted: book.living().map(shown), discovered: null }),
    indexer_getSelectedNodes: ([replica, method, , dropped]) => {
      const copies = replicaOf(replica)
      const names = typeof method === 'string' && method !== '' ? method : 'min'
      if (!/^(min|max|random|[0-9]{1,10})$/.test(names))
        throw invalid('method', `unknown method '${names.slice(0, 40)}'`)
      const without = new Set(Array.isArray(dropped) ? dropped.filter(u => typeof u === 'string').slice(0, 1000) : [])
      const chosen = book.select(copies, names, without)
      if (chosen === undefined) {
        throw new RpcError(
          RPC.server,
          'cannot select a subset from the returned nodes that meets the replication requirement'
        )
      }
      return { trusted: chosen.map(shown), discovered: null }
    },
    indexer_getFileLocations: async ([root]) => locations(book, rootOf(root)),
    indexer_getNodeLocations: () => ({})
  }
}

/** Living nodes that have the file final; none for an unknown one: the old SDK dies of `null`. */
export async function locations(book: NodeBook, root: Uint8Array): Promise<ShardedNode[]> {
  const answers = await Promise.all(
    book.living().map(async (e): Promise<Entry | undefined> => {
      const info = await e.node.fileInfo(root, true, { timeoutMs: ASK_TIMEOUT_MS }).catch(() => null)
      return info?.finalized && equalBytes(info.root, root) ? e : undefined
    })
  )
  return answers.filter(e => e !== undefined).map(shown)
}

function rootOf(v: unknown): Uint8Array {
  try {
    return hashFromHex(v, 'root')
  } catch (err) {
    throw invalid('root', messageOf(err))
  }
}

function replicaOf(v: unknown): number {
  if (typeof v !== 'number' || !Number.isInteger(v) || v < 1 || v > REPLICAS_MAX) {
    throw invalid('replica', `not a whole number from 1 to ${REPLICAS_MAX}`)
  }
  return v
}

function invalid(name: string, why: string): RpcError {
  return new RpcError(RPC.params, `Invalid params: ${name}`, why)
}
