/**
 * A storage node: builds the adapters, gives them to the cores, and owns start and stop.
 *
 * ```
 *   JSON-RPC ─┐                              ┌─ FlowIndex ◄── ChainFollower ◄── chain RPC
 *   /v1/ raw ─┼─► checks ─► FileStore ───────┤
 *   peers ────┘               │    ▲         └─ SegmentLog ──► segment files
 *                             ▼    └──────── Replicator ◄──── libp2p streams, announcements
 *                       LevelDB index
 * ```
 *
 * Order at start: directory lock, recovery of the log, the port, then the chain, then libp2p (which takes half a second to load and
 * must not keep clients waiting). At stop the reverse, with everything that was answered already on disk.
 */

import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from '../../../lib/adapters/clock.ts'
import { systemDisk } from '../../../lib/adapters/disk.ts'
import { serveRpc } from '../../../lib/adapters/jsonrpc/server.ts'
import { RPC, RpcError, type RpcServer } from '../../../lib/adapters/jsonrpc/types.ts'
import { lockDirectory } from '../../../lib/adapters/lock.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { addressFromHex, toHex } from '../../../lib/base/hex.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import { ChainClient } from '../../../lib/clients/chain.ts'
import { contractAddresses } from '../../../lib/contracts/addresses.ts'
import { opsRoutes, type Readiness } from '../../../lib/ops/http.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import { createMetrics, rpcMetrics } from '../../../lib/ops/metrics.ts'
import { type Clock, repeat } from '../../../lib/ports/clock.ts'
import type { Disk } from '../../../lib/ports/disk.ts'
import type { KvStore } from '../../../lib/ports/kv.ts'
import { ChainFollower, type FlowChain } from '../core/chain-follower.ts'
import { FileStore, type ShardPosition } from '../core/file-store.ts'
import { FlowIndex } from '../core/flow-index.ts'
import { fact } from '../core/tx.ts'
import { leafOf } from '../disk/leaf.ts'
import { SCRUB_PERIOD_MS, Scrubber } from '../disk/scrubber.ts'
import { SegmentLog } from '../disk/segment-log.ts'
import { type Coding, openCoding } from '../group/node.ts'
import type { GroupTimes } from '../group/ports.ts'
import { leavesOf } from '../group/shards.ts'
import { adminMethods } from './admin.ts'
import { admission, firstRequests } from './admission.ts'
import { chainSource } from './chain-source.ts'
import { GRPC_METHODS, type HostPort, serveNodeGrpc } from './grpc.ts'
import { openIndex } from './open-index.ts'
import { type PeerNetwork, startPeers } from './peers.ts'
import { peersRoute } from './peers-route.ts'
import { tuneProcess } from './process.ts'
import { rawRoutes } from './raw.ts'
import { Replicator } from './replicator.ts'
import { Retention } from './retention.ts'
import { frameMethods, type NodeRpcOptions, nodeMethods } from './rpc.ts'
import { rpcRoute } from './rpc-route.ts'

export interface StoreNodeOptions {
  /** Data directory, made when absent. */
  dir: string
  /** 0 chooses a free port. */
  rpcPort: number
  rpcHost?: string
  /** Where uploads are taken by gRPC too; absent: nowhere. */
  grpc?: HostPort
  /** Host names clients may use beside localhost and addresses. */
  allowedHosts?: string[]
  /** URL of the chain's RPC. */
  chain: string
  /** Flow contract; absent: the one of the chain id. */
  flow?: string
  startBlock?: number
  confirmations?: number
  shard?: ShardPosition
  /** Bytes that the segment files may take; absent: the disk is the bound. */
  quotaBytes?: number
  /** At the quota: refuse uploads (the default), or prune the files that became final first. */
  whenFull?: 'refuse' | 'oldest'
  /** Files that became final longer ago are pruned; absent: none. */
  maxAgeMs?: number
  /** Every segment is read and hashed again within this time; 0 never. */
  scrubMs?: number
  /** Puts the index aside and makes it again. */
  rebuildIndex?: boolean
  /** Unix socket of the admin methods; absent: none. */
  socket?: string
  /** Text of the signed list of a coding group; absent: this node keeps whole files by itself. */
  group?: string
  /** Times of the group that differ from the defaults. */
  groupTimes?: Partial<GroupTimes>
  /** How clients reach this node; announced to peers. */
  publicUrl?: string
  /** Peers to dial (multiaddrs); absent and no port: no libp2p at all. */
  peers?: string[]
  p2pPort?: number
  p2pHost?: string
  log: (module: string) => Logger
  clock?: Clock
  disk?: Disk
  /** Called by `admin_shutdown`. */
  onShutdown?: () => void
  /** Called when the node cannot go on: the chain contradicts what it read. */
  onFatal?: (err: unknown) => void
}

export interface StoreNode {
  readonly url: string
  readonly port: number
  readonly shard: ShardPosition
  /** Where gRPC listens, if it does. */
  readonly grpcAddress: string | undefined
  /** Addresses at which peers can dial, once libp2p runs. */
  p2pAddresses(): string[]
  ready(): Readiness
  close(): Promise<void>
}

const NETWORK = fact('network')
const SHARD = fact('shard')
const STALL_MS = 60_000
const SWEEP_MS = 60_000
/** With a full disk: between two looks for room. */
const RECONSIDER_MS = 2_000

/**
 * Starts a node.
 * @throws {ZgError} ERR_LOCKED, ERR_PORT_IN_USE, ERR_CONFIG, ERR_CORRUPT, ERR_IO, ERR_DISK_FULL; ERR_WRONG_NETWORK for a data directory of
 *   another network or shard position, when the chain answers at once (else through `onFatal`).
 */
export async function startStoreNode(o: StoreNodeOptions): Promise<StoreNode> {
  tuneProcess()
  const clock = o.clock ?? systemClock
  const logger = o.log('node')
  const closers: (() => Promise<void> | void)[] = []
  const stop = new AbortController()
  const closeAll = async (): Promise<void> => {
    stop.abort(new ZgError('ERR_STOPPED', 'the node stops'))
    for (const close of closers.splice(0).reverse()) {
      await Promise.resolve(close()).catch(err => logger.warn('while stopping', { error: messageOf(err) }))
    }
  }
  try {
    const lock = await lockDirectory(o.dir)
    closers.push(() => lock.release())
    const { kv } = await openIndex(o.dir, logger, o.rebuildIndex)
    closers.push(() => kv.close())
    const shard = o.shard ?? { shardId: 0, numShard: 1 }
    await keepShard(kv, shard)
    let store: FileStore | undefined
    let coding: Coding | undefined
    let server: RpcServer | undefined
    let retention: Retention | undefined
    const log = await SegmentLog.open({
      disk: o.disk ?? systemDisk,
      kv,
      clock,
      log: o.log('segments'),
      dir: join(o.dir, 'segments'),
      freeBytes: async () => {
        const { bavail, bsize } = await statfs(o.dir)
        return bavail * bsize
      },
      leafOf: o.group === undefined ? leafOf : leavesOf(),
      ...(o.quotaBytes === undefined ? {} : { quotaBytes: o.quotaBytes }),
      ...(o.group === undefined ? { quarantineOps: FileStore.damagedOps } : {}),
      onQuarantine: (root, index) => {
        const noted = coding === undefined ? store?.lost(root) : coding.group.rotten(root, index)
        void noted?.catch(err => logger.error('cannot note a damaged file', { error: messageOf(err) }))
      }
    })
    closers.push(() => log.close())
    const index = await FlowIndex.open(kv)
    let peers: PeerNetwork | undefined
    if (o.group !== undefined) {
      coding = await openCoding(
        { ...o, group: o.group },
        { kv, log, clock, shard, files: () => store!, url: () => o.publicUrl ?? server?.url ?? '' }
      )
      closers.push(() => coding!.close())
    }
    const replicator = new Replicator({ index, clock, logger: o.log('replication'), peers: () => peers })
    store = new FileStore({
      kv,
      index,
      log,
      clock,
      logger: o.log('files'),
      leafOf,
      shard,
      ...(coding === undefined ? {} : { group: coding.group }),
      onFinal: txs => {
        replicator.done(txs)
        peers?.announce(txs)
        void retention?.final(txs).catch(err => logger.warn('cannot note the age of files', { error: messageOf(err) }))
      },
      onWanted: root => {
        if (coding === undefined) replicator.want(root)
      }
    })
    const files = store
    replicator.attach(files)
    closers.push(() => replicator.close())
    const { quotaBytes, maxAgeMs, whenFull = 'refuse' } = o
    const keeper = new Retention({
      kv,
      log,
      store: files,
      clock,
      logger: o.log('retention'),
      quotaBytes,
      maxAgeMs,
      whenFull
    })
    retention = keeper
    const scrubber = await Scrubber.open({
      log,
      kv,
      clock,
      logger: o.log('scrub'),
      periodMs: o.scrubMs ?? SCRUB_PERIOD_MS
    })

    const identity = { chainId: 0, flow: o.flow === undefined ? '' : toHex(addressFromHex(o.flow, '--flow')) }
    const recorded = await recordedNetwork(kv)
    if (recorded !== undefined) {
      refuseOther(recorded, { chainId: recorded.chainId, flow: identity.flow || recorded.flow }, o.dir)
      Object.assign(identity, recorded)
    }
    const state: { follower: ChainFollower | undefined; fatal: unknown; trouble: string | undefined } = {
      follower: undefined,
      fatal: undefined,
      trouble: undefined
    }
    const ready = (): Readiness => readiness({ index, log, state, clock })

    const first = firstRequests()
    const metrics = createMetrics('zg_store')
    metrics.gauge('segments_written_total', 'segments appended since start', () => log.stats.appended)
    metrics.gauge('segment_bytes_written_total', 'bytes appended since start', () => log.stats.appendedBytes)
    metrics.gauge('segment_syncs_total', 'group commits since start', () => log.stats.syncs)
    metrics.gauge('segments_quarantined_total', 'damaged segments found since start', () => log.stats.quarantined)
    metrics.gauge('segment_files', 'segment files', () => log.stats.files)
    metrics.gauge('log_sync_height', 'last block read', () => index.progress?.block ?? 0)
    metrics.gauge('next_tx_seq', 'submissions read', () => index.nextSeq)
    metrics.gauge('flow_sectors', 'length of the flow', () => index.length)
    metrics.gauge('cache_bytes', 'bytes of files without transaction', () => files.cache.bytes)
    metrics.gauge('peers', 'connected peers', () => peers?.count() ?? 0)
    metrics.gauge('segment_bytes', 'bytes of all segment files', () => log.stats.usedBytes)
    metrics.gauge('segments_moved_total', 'segments moved by compaction since start', () => log.stats.moved)
    metrics.gauge('segment_files_removed_total', 'segment files removed since start', () => log.stats.removedFiles)
    metrics.gauge('files_pruned_total', 'files pruned by age or quota since start', () => keeper.stats.pruned)
    metrics.gauge('scrub_position_ratio', 'place in the present scrub pass', () => scrubber.state.position)
    metrics.gauge('scrub_segments_total', 'segments scrubbed since start', () => scrubber.state.segments)
    metrics.gauge('scrub_bytes_total', 'bytes scrubbed since start', () => scrubber.state.bytes)
    metrics.gauge('scrub_last_pass_seconds', 'unix time of the last whole pass, 0 for none', () => {
      return scrubber.state.lastPassMs / 1000
    })
    metrics.gauge('scrub_overdue', '1 when the last whole pass is longer ago than the period', () => {
      return scrubber.state.overdue ? 1 : 0
    })
    metrics.gauge('connections_waiting', 'connections that were not read yet', () => first.waiting())
    metrics.gauge('files_wanted', 'files being fetched from peers', () => replicator.pending)

    const face: NodeRpcOptions = {
      store: files,
      index,
      log,
      network: () => {
        if (identity.chainId === 0) throw new RpcError(RPC.unavailable, 'the chain was not reached yet')
        return { chainId: identity.chainId, flowAddress: identity.flow }
      },
      connectedPeers: () => peers?.count() ?? 0
    }
    const methods = nodeMethods(face)
    const onCall = rpcMetrics(metrics, [...Object.keys(methods), ...GRPC_METHODS])
    const onBug = (method: string, err: unknown): void =>
      logger.error('a request failed inside', { method, error: messageOf(err) })
    server = await serveRpc({
      methods,
      port: o.rpcPort,
      ...(o.rpcHost === undefined ? {} : { host: o.rpcHost }),
      ...(o.allowedHosts === undefined ? {} : { allowedHosts: o.allowedHosts }),
      cors: 'any',
      bodyBytes: LIMITS.storeBodyBytes,
      connections: LIMITS.storeConnections,
      gate: first.gate,
      routes: [
        first.route,
        ...(coding === undefined ? [] : [coding.route]),
        peersRoute(() => peers),
        rawRoutes({ store: files, index }),
        opsRoutes({ ready, metrics }),
        admission(),
        rpcRoute({ rpc: { methods, onCall, onBug }, frames: frameMethods(face), bodyBytes: LIMITS.storeBodyBytes })
      ],
      onCall,
      onBug
    })
    const listening = server
    closers.push(() => listening.close())
    let grpcAddress: string | undefined
    if (o.grpc !== undefined) {
      const grpc = await serveNodeGrpc({ ...o.grpc, store: files, index, onCall, onBug })
      closers.push(() => grpc.close())
      grpcAddress = grpc.address
    }
    coding?.start(metrics)
    if (o.socket !== undefined) {
      const admin = adminMethods({
        index,
        store: files,
        replicator,
        log,
        scrubber,
        retention: keeper,
        metrics,
        stopped: stop.signal,
        peers: () => peers,
        onShutdown: () => o.onShutdown?.()
      })
      const socket = await serveRpc({
        methods: { ...methods, ...admin, ...(coding?.admin() ?? {}) },
        socketPath: o.socket,
        onBug
      })
      closers.push(() => socket.close())
    }
    const fatal = (err: unknown): void => {
      state.fatal = err
      logger.error('the node cannot go on', { error: messageOf(err) })
      o.onFatal?.(err)
    }

    // From here on nothing keeps clients waiting.
    const following = follow().catch(err => {
      if (!stop.signal.aborted) fatal(err)
    })
    closers.push(() => following)
    const cancelSweep = repeat(clock, SWEEP_MS, async () => {
      files.cache.expire(clock.monotonic())
      await files.sweepOrphans()
      await keeper.sweep(stop.signal)
    })
    closers.push(cancelSweep)
    closers.push(
      repeat(clock, RECONSIDER_MS, async () => {
        if (log.trouble?.kind !== 'full') return
        if (whenFull === 'oldest') await keeper.sweep(stop.signal)
        await log.reconsider()
      })
    )
    const scrubbing = scrubber.run(stop.signal)
    closers.push(() => scrubbing)
    void resume(files, coding === undefined ? replicator : undefined, stop.signal).catch(err => {
      if (!stop.signal.aborted) logger.warn('cannot look for unfinished files', { error: messageOf(err) })
    })

    return {
      url: listening.url!,
      port: listening.port!,
      shard,
      grpcAddress,
      p2pAddresses: () => peers?.addresses() ?? [],
      ready,
      close: closeAll
    }

    async function follow(): Promise<void> {
      const client = new ChainClient(o.chain, { signal: stop.signal, timeoutMs: 15_000 })
      const found = await identify(client, o, identity.flow, state, stop.signal, clock, logger)
      refuseOther(recorded, found, o.dir)
      if (recorded === undefined) await kv.batch([{ put: NETWORK, value: encodeNetwork(found) }], { sync: true })
      Object.assign(identity, found)
      const chain: FlowChain & { close(): void } = chainSource(client, found.flow, clock)
      closers.push(() => chain.close())
      state.follower = new ChainFollower({
        chain,
        index,
        clock,
        logger: o.log('chain'),
        startBlock: o.startBlock ?? 0,
        confirmations: o.confirmations ?? 1,
        onSubmitted: txs => files.submitted(txs),
        onRemoved: txs => files.removed(txs)
      })
      const following = state.follower.run(stop.signal)
      await Promise.all([following, joinPeers(found)])
    }

    /** libp2p takes a second of CPU to load: what clients wait for comes first. */
    async function joinPeers(found: Network): Promise<void> {
      if (o.p2pPort === undefined && (o.peers?.length ?? 0) === 0) return
      await clock.sleep(PEERS_AFTER_MS, stop.signal).catch(() => {})
      if (stop.signal.aborted) return
      peers = await startPeers({
        chainId: found.chainId,
        flow: found.flow,
        dir: o.dir,
        port: o.p2pPort ?? 0,
        host: o.p2pHost ?? '127.0.0.1',
        bootstrap: o.peers ?? [],
        publicUrl: o.publicUrl ?? listening.url!,
        store: files,
        index,
        clock,
        logger: o.log('peers'),
        onAnnounced: (root, peer) => replicator.announced(root, peer)
      })
      const started = peers
      if (stop.signal.aborted) return started.close()
      closers.push(() => started.close())
      logger.info('peers', { addresses: started.addresses().join(' ') })
    }
  } catch (err) {
    await closeAll()
    throw err
  }
}

/** Between the chain being followed and the start of libp2p. */
const PEERS_AFTER_MS = 1_000

interface Network {
  chainId: number
  flow: string
}

async function identify(
  client: ChainClient,
  o: StoreNodeOptions,
  flow: string,
  state: { trouble: string | undefined },
  signal: AbortSignal,
  clock: Clock,
  logger: Logger
): Promise<Network> {
  // Beside a chain that starts at the same time every moment counts; later it is down, and patience is cheaper.
  for (let attempt = 0; ; attempt++) {
    const waitMs = attempt < 60 ? 100 : 5_000
    try {
      const chainId = await client.chainId()
      const found = { chainId, flow: flow === '' ? contractAddresses(chainId).flow.toLowerCase() : flow }
      if (!(await client.hasCode(found.flow))) {
        throw new ZgError('ERR_NO_CONTRACT', `no flow contract at ${found.flow} on chain ${chainId}`, {
          hint: 'check --chain and --flow'
        })
      }
      state.trouble = undefined
      return found
    } catch (err) {
      if (signal.aborted) throw err
      const message = messageOf(err)
      if (state.trouble !== message) logger.warn('chain not reached', { chain: o.chain, error: message })
      state.trouble = message
      await clock.sleep(waitMs, signal)
    }
  }
}

function refuseOther(recorded: Network | undefined, found: Network, dir: string): void {
  if (recorded === undefined || (recorded.chainId === found.chainId && recorded.flow === found.flow)) return
  const is = `chain ${recorded.chainId}, flow ${recorded.flow}`
  throw new ZgError(
    'ERR_WRONG_NETWORK',
    `'${dir}' belongs to ${is}; this is chain ${found.chainId}, flow ${found.flow}`,
    {
      hint: 'use another --dir, or the --chain and --flow of that network'
    }
  )
}

async function recordedNetwork(kv: KvStore): Promise<Network | undefined> {
  const value = await kv.get(NETWORK)
  if (value === undefined) return undefined
  const [chainId, flow] = new TextDecoder().decode(value).split(' ')
  if (flow === undefined) throw new ZgError('ERR_CORRUPT', 'the network record of the data directory is damaged')
  return { chainId: Number(chainId), flow }
}

function encodeNetwork(n: Network): Uint8Array {
  return new TextEncoder().encode(`${n.chainId} ${n.flow}`)
}

/** A directory filled under one shard position is not whole under another. */
async function keepShard(kv: KvStore, shard: ShardPosition): Promise<void> {
  const text = `${shard.shardId}/${shard.numShard}`
  const value = await kv.get(SHARD)
  const was = value === undefined ? undefined : new TextDecoder().decode(value)
  if (was !== undefined && was !== text) {
    throw new ZgError('ERR_CONFIG', `this data directory was made for shard ${was}, not ${text}`, {
      hint: 'use another --dir'
    })
  }
  if (was === undefined) await kv.batch([{ put: SHARD, value: new TextEncoder().encode(text) }], { sync: true })
}

/** After a start: files that a crash left complete but not final, and files that others may have. */
async function resume(files: FileStore, replicator: Replicator | undefined, signal: AbortSignal): Promise<void> {
  for await (const root of files.unsettled()) {
    if (signal.aborted) return
    if (!(await files.settle(root))) replicator?.want(root)
  }
}

interface Facts {
  index: FlowIndex
  log: SegmentLog
  state: { follower: ChainFollower | undefined; fatal: unknown; trouble: string | undefined }
  clock: Clock
}

function readiness({ index, log, state, clock }: Facts): Readiness {
  const height = index.progress?.block
  const head = state.follower?.state.head
  const progress = head === undefined ? '' : `block ${height ?? 0} of ${head}`
  const facts = { progress, log_sync_height: height ?? 0, head: head ?? null, next_tx_seq: index.nextSeq }
  const not = (name: string, reason: string): Readiness => ({ ok: false, state: name, reason, ...facts })
  if (state.fatal !== undefined) return not('degraded', messageOf(state.fatal))
  if (log.trouble !== undefined) {
    const what = log.trouble.kind === 'full' ? 'disk full' : 'disk failed'
    return not('degraded', `${what}, serving reads only: ${log.trouble.message}`)
  }
  const trouble = state.follower?.state.trouble ?? state.trouble
  if (trouble !== undefined) return not('degraded', `chain: ${trouble}`)
  if (state.follower === undefined || head === undefined || height === undefined) {
    return not('starting', 'waiting for the chain')
  }
  if (head - height > 2) {
    const stalled = clock.monotonic() - state.follower.state.progressedAtMs > STALL_MS
    return not(stalled ? 'stalled' : 'syncing', progress)
  }
  return { ok: true, state: 'ready', ...facts }
}
