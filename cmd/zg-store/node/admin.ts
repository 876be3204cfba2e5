/**
 * Admin methods, on the Unix socket only: those of storage.md 3.8, and ours for pruning, scrubbing and compaction. The `miner_*` methods
 * are of the miner.
 */
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { hashFromHex, toHex } from '../../../lib/base/hex.ts'
import { SEGMENT_SECTORS, shape } from '../../../lib/codec/storage/shape.ts'
import type { Metrics } from '../../../lib/ops/metrics.ts'
import type { FileStore } from '../core/file-store.ts'
import type { FlowIndex } from '../core/flow-index.ts'
import type { Tx } from '../core/tx.ts'
import type { Scrubber } from '../disk/scrubber.ts'
import type { SegmentLog } from '../disk/segment-log.ts'
import type { PeerNetwork } from './peers.ts'
import type { Replicator } from './replicator.ts'
import type { Retention } from './retention.ts'

export interface AdminOptions {
  index: FlowIndex
  store: FileStore
  replicator: Replicator
  log: SegmentLog
  scrubber: Scrubber
  retention: Retention
  metrics: Metrics
  /** Aborted when the node stops: ends what takes long. */
  stopped: AbortSignal
  peers: () => PeerNetwork | undefined
  onShutdown: () => void
}

/** Files in one answer. */
const LISTED = 1_000

/** Blocks of a have-request to a peer are not needed here: one segment tells whether it knows the file. */
const ASK_MS = 5_000

export function adminMethods(o: AdminOptions): RpcMethods {
  const tx = async (value: unknown): Promise<Tx> => {
    const found = typeof value === 'number' ? await o.index.tx(value) : undefined
    if (found === undefined) throw new RpcError(RPC.params, 'Invalid params: tx_seq', 'no such submission')
    return found
  }
  const peers = (): PeerNetwork => {
    const p = o.peers()
    if (p === undefined)
      throw new RpcError(RPC.unavailable, 'this node runs without peers', "start it with '--p2p-port'")
    return p
  }
  return {
    admin_getNetworkInfo: () => ({ ...(peers().info() as object), bannedPeers: o.replicator.shunned }),
    admin_getPeers: () => peers().describe(),
    /** Asks all connected peers now; who has the file becomes a source for fetching it. */
    admin_findFile: async p => {
      const file = await tx(p[0])
      const holders = await holdersOf(peers(), file)
      for (const h of holders) o.replicator.announced(file.root, h)
      return holders.length
    },
    admin_getFileLocation: async p => {
      const file = await tx(p[0])
      const network = peers()
      const holders = await holdersOf(network, file)
      if (holders.length === 0) return null
      return holders.map(id => ({ ip: network.addressOf(id) ?? id, shardConfig: { shardId: 0, numShard: 1 } }))
    },
    admin_startSyncFile: async p => {
      const file = await tx(p[0])
      if (file.status === 'pending') o.replicator.want(file.root, true)
      return null
    },
    /** Segments that hold sectors [start, end) of the file, from whoever has them. */
    admin_startSyncChunks: async p => {
      const file = await tx(p[0])
      const [start, end] = [number(p[1], 'start_index'), number(p[2], 'end_index')]
      if (start >= end || end > shape(file.size).chunks) {
        throw new RpcError(RPC.params, 'Invalid params: end_index', 'invalid chunk index')
      }
      peers()
      const [first, last] = [Math.floor(start / SEGMENT_SECTORS), Math.ceil(end / SEGMENT_SECTORS)]
      // Answered at once, as upstream does; admin_getSyncStatus tells how it goes.
      void o.replicator.fetchRange(file, first, last).then(
        () => o.store.settle(file.root),
        () => {}
      )
      return null
    },
    admin_terminateSync: async p => o.replicator.cancel((await tx(p[0])).root),
    admin_getSyncStatus: async p => syncText(o, await tx(p[0])),
    /** Of one submission, or of all files that are wanted, at most 1,000. */
    admin_getSyncInfo: async p => {
      const files: Tx[] = []
      if (p[0] !== null && p[0] !== undefined) files.push(await tx(p[0]))
      else for (const root of o.replicator.wanted(LISTED)) files.push(...(await firstTx(o, root)))
      const out: Record<string, unknown> = {}
      for (const f of files) out[f.seq] = await syncInfo(o, f)
      return { files: out }
    },
    admin_getMetrics: async p => {
      const prefix = p[0] === null || p[0] === undefined ? '' : String(p[0])
      const out: Record<string, string> = {}
      for (const line of (await o.metrics.text()).split('\n')) {
        const m = /^([^#\s][^\s]*) (\S+)$/.exec(line)
        if (m !== null && m[1]!.startsWith(prefix)) out[m[1]!] = m[2]!
      }
      return out
    },
    admin_getSyncServiceState: () => ({
      numSyncing: o.replicator.running,
      catchedUp: o.replicator.pending === 0,
      autoSyncSerial: null,
      autoSyncRandom: null
    }),
    /** Ours: drops the bytes of a file for good on this node. */
    admin_pruneFile: async p => o.store.prune((await tx(p[0])).root),
    /** Ours: the file by its root, for those who do not know the number. */
    admin_pruneRoot: async p => o.store.prune(hash(p[0])),
    /** Ours: where the scrubber stands. */
    admin_getScrub: () => o.scrubber.state,
    /** Ours: every segment now, at full speed. */
    admin_scrub: () => o.scrubber.all(o.stopped),
    /** Ours: space of pruned files now, from all files of the log in which so much is dead. */
    admin_compact: async p => {
      const share = p[0] === null || p[0] === undefined ? 0.01 : p[0]
      if (typeof share !== 'number' || !(share > 0 && share <= 1)) {
        throw new RpcError(RPC.params, 'Invalid params: dead_share', 'a number above 0, at most 1')
      }
      const begun = o.log.stats.usedBytes
      const result = await o.retention.compact(o.stopped, share)
      return { ...result, beforeBytes: begun, afterBytes: o.log.stats.usedBytes }
    },
    admin_shutdown: () => {
      o.onShutdown()
      return null
    }
  }
}

function number(value: unknown, name: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new RpcError(RPC.params, `Invalid params: ${name}`, 'not a non-negative integer')
  }
  return value
}

function hash(value: unknown): Uint8Array {
  try {
    return hashFromHex(value, 'data_root')
  } catch (err) {
    throw new RpcError(RPC.params, 'Invalid params: data_root', messageOf(err))
  }
}

async function firstTx(o: AdminOptions, root: Uint8Array): Promise<Tx[]> {
  const found = await o.store.select(root, true)
  return found === undefined ? [] : [found]
}

async function syncInfo(o: AdminOptions, file: Tx): Promise<Record<string, unknown>> {
  const { segments } = shape(file.size)
  const have = file.status === 'pending' ? await o.store.contiguous(file.root) : segments
  const running = o.replicator.describe(file.root)
  return {
    root: toHex(file.root),
    state: syncState(file, running),
    goal: { numChunks: segments, indexStart: 0, indexEnd: segments },
    nextChunks: have,
    tries: running?.tries ?? 0,
    announcers: running?.announcers ?? 0
  }
}

function syncState(file: Tx, running: { running: boolean } | undefined): string {
  if (file.status !== 'pending') return file.status === 'final' ? 'Completed' : 'Pruned'
  return running === undefined ? 'Idle' : running.running ? 'Downloading' : 'FindingPeers'
}

async function syncText(o: AdminOptions, file: Tx): Promise<string> {
  const info = await syncInfo(o, file)
  return `${info.state}: ${info.nextChunks} of ${shape(file.size).segments} segments, ${info.tries} tries, ${info.announcers} announcers`
}

async function holdersOf(network: PeerNetwork, file: Tx): Promise<string[]> {
  const stop = new AbortController()
  const timer = setTimeout(() => stop.abort(), ASK_MS)
  try {
    const asked = network.ids().map(async id => {
      const held = await network.have(id, file.root, 0, 1, stop.signal).catch(() => undefined)
      return held?.[0] ? id : undefined
    })
    return (await Promise.all(asked)).filter(id => id !== undefined)
  } finally {
    clearTimeout(timer)
  }
}
