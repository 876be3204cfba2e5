/** `zg-store node`: options in, a running storage node out, until a signal ends it. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { formatDuration } from '../../../lib/base/units.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { findEndpoint } from '../../../lib/clients/network.ts'
import type { ShardPosition } from '../core/file-store.ts'
import type { HostPort } from './grpc.ts'
import { type StoreNodeOptions, startStoreNode } from './store-node.ts'
import { boundGarbage } from './young-garbage.ts'

/** Runs until SIGTERM (exit 0), `admin_shutdown` (0), or until the chain contradicts what was read (76, 78). */
export const node: VerbFn = async (ctx, _args, opts) => {
  const started = performance.now()
  boundGarbage()
  const dir = (opts.dir as string | undefined) ?? dataDir(ctx.network, 'store-node')
  const given = (opts.chain ?? opts.rpcUrl) as string | undefined
  let fatal: unknown
  let finish: () => void = () => {}
  const finished = new Promise<void>(resolve => {
    finish = resolve
  })
  const socket = (opts.socket as string | undefined) ?? join(dir, 'admin.sock')
  // The system takes at most 107 bytes; without a word about it the listen call fails.
  if (Buffer.byteLength(socket) > 107)
    ctx.log('node').warn('no admin socket: its path is too long, name one by --socket')
  const options: StoreNodeOptions = {
    dir,
    chain: await findEndpoint(given, ctx.network, 'rpc', 'zg-store node'),
    rpcPort: opts.rpcPort as number,
    rpcHost: opts.rpcHost as string,
    startBlock: opts.startBlock as number,
    confirmations: opts.confirmations as number,
    p2pHost: opts.p2pHost as string,
    log: module => ctx.log(module),
    onShutdown: () => finish(),
    onFatal: err => {
      fatal = err
      finish()
    }
  }
  if (Buffer.byteLength(socket) <= 107) options.socket = socket
  if (opts.flow !== undefined) options.flow = opts.flow as string
  if (opts.grpc !== undefined) options.grpc = opts.grpc as HostPort
  if (opts.shard !== undefined) options.shard = opts.shard as ShardPosition
  if (opts.quota !== undefined) options.quotaBytes = opts.quota as number
  if (opts.whenFull !== undefined) options.whenFull = opts.whenFull as 'refuse' | 'oldest'
  if (opts.maxAge !== undefined) options.maxAgeMs = opts.maxAge as number
  if (opts.scrub !== undefined) options.scrubMs = opts.scrub as number
  if (opts.rebuildIndex === true) options.rebuildIndex = true
  if (opts.publicUrl !== undefined) options.publicUrl = opts.publicUrl as string
  if (opts.peer !== undefined) options.peers = opts.peer as string[]
  if (opts.p2pPort !== undefined) options.p2pPort = opts.p2pPort as number
  if (opts.allowHost !== undefined) options.allowedHosts = opts.allowHost as string[]
  if (opts.group !== undefined) {
    for (const [name, set] of [
      ['--shard', opts.shard !== undefined],
      ['--max-age', opts.maxAge !== undefined],
      ['--when-full oldest', opts.whenFull === 'oldest']
    ] as const) {
      if (!set) continue
      // What one member drops the others would restore: deleting is an act of the group.
      throw new ZgError('ERR_USAGE', `${name} cannot be used by a member of a group`, {
        hint: "files of a group are deleted with 'zg-store group tombstone'"
      })
    }
    options.group = await readGroup(opts.group as string)
    const beatMs = opts.groupBeat as number | undefined
    const lostMs = opts.groupLost as number | undefined
    const rate = opts.repairRate as number | undefined
    options.groupTimes = {
      ...(beatMs === undefined ? {} : { beatMs, suspectMs: 5 * beatMs, tickMs: Math.min(1_000, beatMs) }),
      ...(lostMs === undefined ? {} : { lostMs }),
      ...(rate === undefined ? {} : { repairBytesPerSecond: rate })
    }
  }
  const running = await startStoreNode(options)
  const { shardId, numShard } = running.shard
  ctx.ready(
    {
      type: 'ready',
      service: 'store',
      url: running.url,
      port: running.port,
      dir,
      shardId,
      numShard,
      chain: options.chain,
      ...(running.grpcAddress === undefined ? {} : { grpc: running.grpcAddress })
    },
    `store node ready on ${running.url}, shard ${shardId}/${numShard}, in ${formatDuration(performance.now() - started)}`
  )
  if (opts.rpcHost !== '127.0.0.1') ctx.log('node').warn('the RPC is open beyond this machine', { host: opts.rpcHost })
  await Promise.race([ctx.stopped(), finished])
  await running.close()
  if (fatal !== undefined) throw fatal
}

async function readGroup(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (err) {
    throw new ZgError('ERR_NO_INPUT', `cannot read the group list '${path}': ${messageOf(err)}`, {
      cause: err,
      hint: "make one with 'zg-store group make'"
    })
  }
}
