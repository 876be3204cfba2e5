/** Admin methods, on the Unix socket only (storage.md 3.8): those that mean something in this node. */
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import type { FileStore } from '../core/file-store.ts'
import type { FlowIndex } from '../core/flow-index.ts'
import type { Tx } from '../core/tx.ts'
import type { PeerNetwork } from './peers.ts'
import type { Replicator } from './replicator.ts'

export interface AdminOptions {
  index: FlowIndex
  store: FileStore
  replicator: Replicator
  peers: () => PeerNetwork | undefined
  onShutdown: () => void
}

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
    admin_getNetworkInfo: () => peers().info(),
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
    admin_getSyncServiceState: () => ({
      numSyncing: o.replicator.running,
      catchedUp: o.replicator.pending === 0,
      autoSyncSerial: null,
      autoSyncRandom: null
    }),
    /** Ours: drops the bytes of a file for good on this node. */
    admin_pruneFile: async p => o.store.prune((await tx(p[0])).root),
    admin_shutdown: () => {
      o.onShutdown()
      return null
    }
  }
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
