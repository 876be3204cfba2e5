/** Who holds what: asks every node about a file, and for the newest submissions. */
import { messageOf } from '../../base/errors.ts'
import type { CallOptions, FileInfo } from './node.ts'
import type { NodePool } from './nodes.ts'

export interface NodeView {
  url: string
  state: 'final' | 'uploading' | 'pruned' | 'unknown' | 'down'
  info: FileInfo | undefined
  /** Why a node is down. */
  problem: string | undefined
}

/** What each node says about a root or a submission, in the order of the nodes. */
export async function statFile(pool: NodePool, key: Uint8Array | number, opts: CallOptions = {}): Promise<NodeView[]> {
  const urls = await pool.urls(opts)
  return Promise.all(
    urls.map(async (url): Promise<NodeView> => {
      const node = pool.node(url)
      try {
        const o = { timeoutMs: 10_000, ...opts }
        const info = typeof key === 'number' ? await node.fileInfoBySeq(key, o) : await node.fileInfo(key, false, o)
        const state = info === null ? 'unknown' : info.finalized ? 'final' : info.pruned ? 'pruned' : 'uploading'
        return { url, state, info: info ?? undefined, problem: undefined }
      } catch (err) {
        if (opts.signal?.aborted) throw err
        return { url, state: 'down', info: undefined, problem: messageOf(err) }
      }
    })
  )
}

export interface ListedFile {
  info: FileInfo
  /** Nodes that have it final, and that know it. */
  final: number
  known: number
}

/** The newest `limit` submissions, newest first, as the nodes know them. Asks `limit` × nodes small questions. */
export async function listNewest(pool: NodePool, limit: number, opts: CallOptions = {}): Promise<ListedFile[]> {
  const members = await pool.members(opts)
  const next = await Promise.all(
    members.map(m =>
      m.node.status({ timeoutMs: 10_000, ...opts }).then(
        s => s.nextTxSeq,
        () => 0
      )
    )
  )
  const newest = Math.max(0, ...next)
  const out: ListedFile[] = []
  const CHUNK = 32
  for (let high = newest; high > Math.max(0, newest - limit); high -= CHUNK) {
    opts.signal?.throwIfAborted()
    const seqs: number[] = []
    for (let s = high - 1; s >= Math.max(0, high - CHUNK, newest - limit); s--) seqs.push(s)
    const rows = await Promise.all(
      seqs.map(async seq => {
        const infos = await Promise.all(members.map(m => m.node.fileInfoBySeq(seq, opts).catch(() => null)))
        const known = infos.filter(i => i !== null)
        if (known.length === 0) return undefined
        return { info: known[0]!, final: known.filter(i => i.finalized).length, known: known.length }
      })
    )
    for (const row of rows) if (row !== undefined) out.push(row)
  }
  return out
}
