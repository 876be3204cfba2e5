/** Which nodes there are: from an indexer, or named one by one. Dead ones are left out and counted. */
import { RpcClient } from '../../adapters/jsonrpc/client.ts'
import { messageOf, ZgError } from '../../base/errors.ts'
import { toHex } from '../../base/hex.ts'
import type { Shard } from '../../codec/storage/shards.ts'
import { type CallOptions, StoreNode } from './node.ts'

export interface Member {
  node: StoreNode
  shard: Shard
}

export interface Where {
  /** `http://127.0.0.1:12345`; asked for nodes and for locations of files. */
  indexer?: string | undefined
  /** Used as they are, before the indexer; a function where the list changes. */
  nodes?: readonly string[] | (() => readonly string[]) | undefined
}

const NODES_MAX = 1000

export class NodePool {
  readonly #where: Where
  readonly #known = new Map<string, StoreNode>()
  /** Why nodes were left out, newest last; for messages. */
  readonly problems: string[] = []

  constructor(where: Where) {
    if (
      where.indexer === undefined &&
      (where.nodes === undefined || where.nodes.length === 0) &&
      typeof where.nodes !== 'function'
    ) {
      throw new ZgError('ERR_NO_NETWORK', 'no network found', {
        hint: "run 'zg-devnet up', or give '--indexer URL' or '--node URL'"
      })
    }
    this.#where = where
  }

  /** The same object for the same URL, so that measured latencies are kept. */
  node(url: string): StoreNode {
    const key = url.replace(/\/+$/, '')
    let node = this.#known.get(key)
    if (node === undefined) {
      node = new StoreNode(key)
      this.#known.set(key, node)
    }
    return node
  }

  /** All living nodes with their shard, in the indexer's order. @throws {ZgError} ERR_UNAVAILABLE when there is none. */
  async members(opts: CallOptions = {}): Promise<Member[]> {
    const members = await this.#ask(await this.urls(opts), opts)
    if (members.length === 0) {
      throw new ZgError('ERR_UNAVAILABLE', 'no storage node answers', {
        facts: this.problems.slice(-2),
        hint: "run 'zg-devnet status'"
      })
    }
    return members
  }

  /** URLs of the named nodes, else of those the indexer lists. */
  async urls(opts: CallOptions = {}): Promise<string[]> {
    const named = this.#named()
    if (named !== undefined) return named
    return this.#fromIndexer('indexer_getShardedNodes', [], opts)
  }

  /** URLs of nodes that are said to hold a file; all nodes when nobody keeps locations. */
  async locate(root: Uint8Array, opts: CallOptions = {}): Promise<{ urls: string[]; located: boolean }> {
    const named = this.#named()
    if (named !== undefined) return { urls: named, located: false }
    const urls = await this.#fromIndexer('indexer_getFileLocations', [toHex(root)], opts)
    // An empty list may also mean "not final yet": the nodes themselves know more.
    return urls.length > 0 ? { urls, located: true } : { urls: await this.urls(opts), located: false }
  }

  #named(): string[] | undefined {
    const { nodes } = this.#where
    if (typeof nodes === 'function') return [...nodes()]
    return nodes === undefined || nodes.length === 0 ? undefined : [...new Set(nodes)]
  }

  async #fromIndexer(method: string, params: unknown[], opts: CallOptions): Promise<string[]> {
    const rpc = new RpcClient(this.#where.indexer!, { what: 'indexer', timeoutMs: 10_000 })
    const answer = await rpc.call<unknown>(method, params, opts)
    const list = Array.isArray(answer) ? answer : [...listOf(answer, 'trusted'), ...listOf(answer, 'discovered')]
    const urls: string[] = []
    for (const entry of list.slice(0, NODES_MAX)) {
      const url = (entry as { url?: unknown } | null)?.url
      if (typeof url === 'string' && /^https?:\/\//.test(url) && !urls.includes(url)) urls.push(url)
    }
    return urls
  }

  async #ask(urls: readonly string[], opts: CallOptions): Promise<Member[]> {
    const asked = await Promise.all(
      urls.map(async url => {
        const node = this.node(url)
        try {
          return { node, shard: await node.shardConfig({ timeoutMs: 5_000, ...opts }) }
        } catch (err) {
          if (opts.signal?.aborted) throw err
          this.problems.push(messageOf(err))
          return undefined
        }
      })
    )
    return asked.filter(m => m !== undefined)
  }
}

function listOf(answer: unknown, name: string): unknown[] {
  const list = (answer as Record<string, unknown> | null)?.[name]
  return Array.isArray(list) ? list : []
}
