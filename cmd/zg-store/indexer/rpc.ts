/** The indexer's JSON-RPC (storage.md 5.1). */
import { isIP } from 'node:net'
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { hashFromHex } from '../../../lib/base/hex.ts'
import { type Entry, type NodeBook, type ShardedNode, shown } from './book.ts'

const ASK_TIMEOUT_MS = 3_000
const REPLICAS_MAX = 64

/** Where nodes are, by IP address, as the operator wrote it down. */
export type NodeLocations = Record<string, unknown>

export function indexerMethods(book: NodeBook, nodeLocations: NodeLocations = {}): RpcMethods {
  return {
    indexer_getShardedNodes: () => ({
      trusted: book.living().map(shown),
      discovered: orNull(book.livingDiscovered().map(shown))
    }),
    indexer_getSelectedNodes: ([replica, method, fullTrusted, dropped]) => {
      const copies = replicaOf(replica)
      const name = typeof method === 'string' && method !== '' ? method : 'min'
      if (!/^(min|max|random|[0-9]{1,10})$/.test(name)) throw invalid('method', `unknown method '${name.slice(0, 40)}'`)
      const without = new Set(Array.isArray(dropped) ? dropped.filter(u => typeof u === 'string').slice(0, 1000) : [])
      const chosen = book.selectMixed(copies, name, fullTrusted === true, without)
      if (chosen === undefined) {
        throw new RpcError(
          RPC.server,
          'cannot select a subset from the returned nodes that meets the replication requirement'
        )
      }
      return { trusted: chosen.trusted.map(shown), discovered: orNull(chosen.discovered.map(shown)) }
    },
    indexer_getFileLocations: async ([root]) => locations(book, rootOf(root)),
    indexer_getNodeLocations: () => ownLocations(book, nodeLocations)
  }
}

/** Upstream has null for none. */
function orNull<T>(list: T[]): T[] | null {
  return list.length === 0 ? null : list
}

/**
 * Living nodes that have the file final: the trusted ones, and discovered ones as well when those do not hold all of it. None for an
 * unknown root: the old SDK dies of `null`.
 */
export async function locations(book: NodeBook, root: Uint8Array): Promise<ShardedNode[]> {
  const trusted = await holders(book.living(), root)
  if (book.select(1, 'given', new Set(), trusted) !== undefined) return trusted.map(shown)
  const discovered = await holders(book.livingDiscovered(), root)
  return [...trusted, ...discovered].map(shown)
}

async function holders(entries: readonly Entry[], root: Uint8Array): Promise<Entry[]> {
  const answers = await Promise.all(
    entries.map(async (e): Promise<Entry | undefined> => {
      const info = await e.node.fileInfo(root, true, { timeoutMs: ASK_TIMEOUT_MS }).catch(() => null)
      return info?.finalized && equalBytes(info.root, root) ? e : undefined
    })
  )
  return answers.filter(e => e !== undefined)
}

/** What is known of the nodes in the book; addresses of others are nobody's business. */
function ownLocations(book: NodeBook, all: NodeLocations): NodeLocations {
  const out: NodeLocations = {}
  for (const e of book.entries) {
    const ip = new URL(e.node.url).hostname.replace(/^\[|\]$/g, '')
    if (all[ip] !== undefined) out[ip] = all[ip]
  }
  return out
}

/**
 * Reads a table of places: `{"203.0.113.7": {"city", "region", "country", "location": "lat,lon", "timezone"}}`.
 * @throws {ZgError} ERR_CONFIG.
 */
export function parseLocations(text: string): NodeLocations {
  let table: unknown
  try {
    table = JSON.parse(text)
  } catch (err) {
    throw new ZgError('ERR_CONFIG', `locations are not JSON: ${messageOf(err)}`)
  }
  if (table === null || typeof table !== 'object' || Array.isArray(table)) {
    throw new ZgError('ERR_CONFIG', 'locations are not an object')
  }
  const out: NodeLocations = {}
  for (const [ip, place] of Object.entries(table)) {
    if (isIP(ip) === 0) throw new ZgError('ERR_CONFIG', `'${ip.slice(0, 40)}' in the locations is not an IP address`)
    const fields: Record<string, string> = {}
    for (const name of ['city', 'region', 'country', 'location', 'timezone']) {
      const value = (place as Record<string, unknown> | null)?.[name]
      if (value !== undefined && typeof value !== 'string') {
        throw new ZgError('ERR_CONFIG', `'${name}' of ${ip} in the locations is not text`)
      }
      fields[name] = value ?? ''
    }
    out[ip] = fields
  }
  return out
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
