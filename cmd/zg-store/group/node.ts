/** The coding group in a real node: its key, its staging log, its HTTP link, its admin methods and metrics. */
import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { systemDisk } from '../../../lib/adapters/disk.ts'
import type { HttpRoute, RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { RPC, RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { memberKey } from '../../../lib/adapters/member-key.ts'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { fromHex, hashFromHex } from '../../../lib/base/hex.ts'
import { decodeTombstone, groupFromJson } from '../../../lib/codec/storage/members.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Disk } from '../../../lib/ports/disk.ts'
import type { KvStore } from '../../../lib/ports/kv.ts'
import type { FileStore, ShardPosition } from '../core/file-store.ts'
import { leafOf } from '../disk/leaf.ts'
import { SegmentLog } from '../disk/segment-log.ts'
import { directRoutes } from './direct.ts'
import { CodingGroup } from './group.ts'
import { groupLink, nativeCodec } from './link.ts'
import type { GroupTimes } from './ports.ts'
import { prefixKv } from './prefix-kv.ts'

export interface Coding {
  readonly group: CodingGroup
  readonly route: HttpRoute
  start(metrics: Gauges): void
  admin(): RpcMethods
  close(): Promise<void>
}

interface Gauges {
  gauge(name: string, help: string, read: () => number): void
}

/** Letters of the group and of the staging log in the node's database. */
const GROUP_PREFIX = 'G'
const STAGING_PREFIX = 'S'
/** Small files: staging space comes back when all of one is spread. */
const STAGING_FILE_BYTES = 64 * 1024 * 1024

/** @throws {ZgError} ERR_CONFIG for an explicit shard position or a list without this node, ERR_BAD_INPUT for a bad list, of the disk. */
export async function openCoding(
  o: {
    dir: string
    group: string
    groupTimes?: Partial<GroupTimes>
    log: (module: string) => Logger
    disk?: Disk
  },
  node: {
    kv: KvStore
    log: SegmentLog
    clock: Clock
    shard: ShardPosition
    files: () => FileStore
    url: () => string
  }
): Promise<Coding> {
  if (node.shard.numShard !== 1) {
    throw new ZgError('ERR_CONFIG', 'a node with a shard position takes no part in a coding group', {
      hint: "leave out '--shard' or '--group'"
    })
  }
  const list = groupFromJson(o.group)
  const key = await memberKey(join(o.dir, 'p2p.key'))
  const stagingKv = prefixKv(node.kv, STAGING_PREFIX)
  const staging = await SegmentLog.open({
    disk: o.disk ?? systemDisk,
    kv: stagingKv,
    clock: node.clock,
    log: o.log('staging'),
    dir: join(o.dir, 'staging'),
    fileBytes: STAGING_FILE_BYTES,
    freeBytes: async () => {
      const { bavail, bsize } = await statfs(o.dir)
      return bavail * bsize
    },
    leafOf
  })
  const holder: { group: CodingGroup | undefined } = { group: undefined }
  const link = groupLink(key, list.group, () => holder.group?.handle)
  const direct = directRoutes(
    () => holder.group,
    id => (equalBytes(id, key.publicKey) ? node.url() : link.urlOf(id))
  )
  const { files } = node
  const group = await CodingGroup.open({
    key,
    list,
    kv: prefixKv(node.kv, GROUP_PREFIX),
    log: node.log,
    staging,
    stagedRoots: () => rootsIn(stagingKv),
    clock: node.clock,
    logger: o.log('group'),
    net: link,
    codec: nativeCodec,
    files: {
      txs: root => files().txsOf(root),
      settle: root => files().settle(root),
      changed: root => files().changed(root),
      gained: (root, first, count) => files().gained(root, first, count),
      lost: root => files().lost(root),
      prune: root => files().pruned(root)
    },
    ...(o.groupTimes === undefined ? {} : { times: o.groupTimes }),
    url: node.url
  })
  return {
    group,
    route: (req, res, url) => {
      if (!url.pathname.startsWith('/v1/group/')) return false
      const done = direct(req, res, url)
      return done === false ? link.route(req, res, url) : done
    },
    start(metrics) {
      holder.group = group
      const { stats } = group
      metrics.gauge('group_members', 'members of the coding group', () => group.membership.members.length)
      metrics.gauge('group_members_live', 'members that answer', () => group.membership.live().length)
      metrics.gauge('repair_pending', 'stripes that wait for repair', () => group.pendingRepairs)
      metrics.gauge(
        'parity_unchecked',
        'stripes whose parity is to be computed again here',
        () => group.uncheckedParity
      )
      metrics.gauge('staged_files', 'files with bytes that wait here to be spread or checked', () => group.stagedFiles)
      metrics.gauge('repair_lost_bytes_total', 'bytes of shards made again or moved', () => stats.repairedBytes)
      metrics.gauge('repair_read_bytes_total', 'bytes read from others for it', () => stats.repairReadBytes)
      metrics.gauge('repair_sent_bytes_total', 'bytes sent to others for it', () => stats.repairSentBytes)
      metrics.gauge('stripes_checked_total', 'stripes whose parity was computed again', () => stats.checkedStripes)
      metrics.gauge('parity_wrong_total', 'stripes with wrong parity found', () => stats.wrongParity)
      metrics.gauge('shards_bad_total', 'shards that a holder lacked or had wrong', () => stats.badShards)
      metrics.gauge('degraded_reads_total', 'stripes read by decoding', () => stats.degradedReads)
      metrics.gauge('files_below_k_total', 'times a file was not final any more', () => stats.filesBelow)
      group.start()
    },
    admin: () => groupMethods(group),
    async close() {
      await group.close()
      link.close()
      await staging.close()
    }
  }
}

/** `admin_*` of the group, on the Unix socket. */
function groupMethods(group: CodingGroup): RpcMethods {
  const input = <T>(what: string, fn: () => T): T => {
    try {
      return fn()
    } catch (err) {
      throw new RpcError(RPC.params, `Invalid params: ${what}`, messageOf(err))
    }
  }
  return {
    /** Members with their health, what waits, counters, traffic per lost byte. */
    admin_getGroup: () => group.describe(),
    /** Every stripe of a file: code, epoch, survivors, holders. */
    admin_getStripes: p => group.stripes(input('root', () => hashFromHex(p[0], 'root'))),
    /** Repairs now, even what looks like a partition; answers how many stripes wait. */
    admin_repair: () => ({ pending: group.repair() }),
    /** Reads all shards here again, compares numbers, computes parity again. */
    admin_scrub: () => group.scrub(),
    /** Deletes a file from the whole group: a tombstone signed by the group's key, as hex. */
    admin_tombstone: async p => {
      const stone = input('tombstone', () => decodeTombstone(fromHex(String(p[0]))))
      if (stone === undefined) throw new RpcError(RPC.params, 'Invalid params: tombstone', 'not a tombstone')
      return group.bury(stone)
    },
    /** A newer list of the group, as text; it spreads by itself. */
    admin_setGroup: p => group.adopt(String(p[0]))
  }
}

/** Roots with segments in a log's index, each once. */
async function* rootsIn(kv: KvStore): AsyncGenerator<Uint8Array> {
  const end = Uint8Array.of(0x74)
  let gte: Uint8Array | undefined = Uint8Array.of(0x73)
  while (gte !== undefined) {
    let root: Uint8Array | undefined
    for await (const [k] of kv.scan({ gte, lt: end, limit: 1 })) root = k.slice(1, 33)
    if (root === undefined) return
    yield root
    gte = new Uint8Array(38).fill(255)
    gte[0] = 0x73
    gte.set(root, 1)
  }
}
