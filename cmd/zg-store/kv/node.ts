/** `zg-store kv node`: follows streams on the chain and answers what their keys hold. */
import { join } from 'node:path'
import { systemClock } from '../../../lib/adapters/clock.ts'
import { serveRpc } from '../../../lib/adapters/jsonrpc/server.ts'
import { RPC, RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { openKv } from '../../../lib/adapters/kv.ts'
import { lockDirectory } from '../../../lib/adapters/lock.ts'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { ChainClient } from '../../../lib/clients/chain.ts'
import { findEndpoint } from '../../../lib/clients/network.ts'
import { backoff, pause, sharedSignal } from '../../../lib/clients/store/retry.ts'
import { type NodePool, RemoteFile, readAll, readEncryptionKey } from '../../../lib/clients/store.ts'
import { cryptAt, openStream, parseHeader } from '../../../lib/codec/storage/encryption.ts'
import { opsRoutes } from '../../../lib/ops/http.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import { createMetrics, rpcMetrics } from '../../../lib/ops/metrics.ts'
import { findPool, parseStream } from '../verbs/common.ts'
import { kvAdminMethods } from './admin.ts'
import { followedChain } from './chain.ts'
import { type FetchedFile, type FollowOptions, KvFollower } from './follow.ts'
import { kvProofMethods, poolProver } from './proof.ts'
import { kvMethods } from './rpc.ts'
import { KvDatabase } from './store.ts'

/** Followed when nothing is said: upstream's example configuration. */
const DEFAULT_STREAMS = ['0xf2bd', '0xf009', '0x16879', '0x2e3d']
const STREAMS_SHOWN = 10_000
const STREAMS_MAX = 1_000

export const kvNode: VerbFn = async (ctx, _args, opts) => {
  const log = ctx.log('kv')
  const dir = (opts.dir as string | undefined) ?? dataDir(ctx.network, 'kv')
  const lock = await lockDirectory(dir)
  const kv = await openKv(join(dir, 'state'))
  const stop = new AbortController()
  sharedSignal(stop.signal)
  try {
    const db = await KvDatabase.open(kv)
    const pool = await findPool(ctx, opts)
    const rpcUrl = await findEndpoint(opts.rpcUrl as string | undefined, ctx.network, 'rpc', 'zg-store')
    const client = new ChainClient(rpcUrl, { signal: stop.signal })
    const all = opts.allStreams === true
    if (db.everything && !all) {
      throw new ZgError('ERR_USAGE', `'${dir}' holds every stream`, {
        hint: "give '--all-streams', or another --dir to follow only some"
      })
    }
    if (all) await db.followEverything()
    // Those that this directory does not hold yet are replayed from the start, beside the others.
    for (const s of (opts.stream as string[] | undefined) ?? DEFAULT_STREAMS) await db.follow(parseStream(s))
    let flow = opts.flow as string | undefined
    const metrics = createMetrics('zg_kv')
    const results = metrics.counter('replayed_total', 'Replayed submissions by result', ['result'])
    metrics.gauge('next_seq', 'The next submission to replay', () => db.progress.nextSeq)
    metrics.gauge('block', 'Last block read', () => Math.max(0, db.progress.block))
    metrics.gauge('streams_behind', 'Streams that are replayed from the start', () => behind(db))
    const add = async (stream: Uint8Array): Promise<void> => {
      if (all || db.streams.has(toHex(stream))) return
      if (db.streams.size >= STREAMS_MAX) throw new RpcError(RPC.limit, `${STREAMS_MAX} streams are followed already`)
      await db.follow(stream)
      log.info('stream added, it is replayed from the start', { stream })
      wake()
    }
    const reads = kvMethods(db.state, {
      get appliedSeq() {
        return db.progress.nextSeq === 0 ? undefined : db.progress.nextSeq - 1
      },
      get firstTxSeq() {
        return db.progress.firstSeq
      },
      holdingStreams: async () => (all ? db.writtenStreams(STREAMS_SHOWN) : [...db.streams.keys()].map(s => fromHex(s)))
    })
    const methods = {
      ...reads,
      ...kvProofMethods(
        db.state,
        poolProver(pool, client, () => flow)
      ),
      ...kvAdminMethods({ chainId: () => client.chainId(), add })
    }
    let follower: KvFollower | undefined
    let waiting = 'waiting for a storage node'
    let outage: string | undefined
    let wake = (): void => {}
    const server = await serveRpc({
      methods,
      port: opts.rpcPort as number,
      host: opts.rpcHost as string,
      allowedHosts: (opts.allowHost as string[] | undefined) ?? [],
      cors: 'any',
      answerBytes: ANSWER_BYTES,
      routes: [opsRoutes({ ready: () => readiness(db, follower, { waiting, outage }), metrics })],
      onCall: rpcMetrics(metrics, Object.keys(methods)),
      onBug: (method, err) => log.error('method failed', { method, error: err })
    })
    const follow = async (): Promise<void> => {
      flow ??= await flowOf(pool, stop.signal, why => (waiting = why))
      if (flow === undefined) return
      const chain = followedChain(client, flow, systemClock)
      const { nextHead } = chain
      chain.nextHead = async signal => {
        const added = new Promise<void>(resolve => {
          wake = resolve
        })
        await Promise.race([nextHead(signal), added])
      }
      follower = new KvFollower({
        db,
        chain,
        clock: systemClock,
        log,
        fetch: await fetcher(pool, opts, log, why => (outage = why)),
        startBlock: opts.startBlock as number,
        confirmations: opts.confirmations as number,
        maxFileBytes: opts.maxFile as number,
        onResult: text => results.inc(1, { result: text.split(':')[0]! })
      })
      const announcing = announce(ctx, follower, server, stop.signal)
      try {
        await follower.run(stop.signal)
      } finally {
        chain.close()
        await announcing
      }
    }
    const following = follow()
    // A follower that gives up ends the node: it would answer an old state for ever.
    await Promise.race([ctx.stopped(), following.then(() => ctx.stopped())])
    stop.abort(new ZgError('ERR_STOPPED', 'stopping'))
    await Promise.all([server.close(), following])
  } finally {
    stop.abort(new ZgError('ERR_STOPPED', 'stopping'))
    await kv.close()
    await lock.release()
  }
}

/** A value of 16 MiB as base64, and the JSON around it. */
const ANSWER_BYTES = 30_000_000

/** Tells once that the chain was read to its head. */
async function announce(
  ctx: VerbContext,
  follower: KvFollower,
  server: { url: string | undefined; port: number | undefined },
  signal: AbortSignal
): Promise<void> {
  while (!follower.caughtUp && !signal.aborted) await systemClock.sleep(20, signal).catch(() => {})
  if (signal.aborted) return
  ctx.ready({ type: 'ready', service: 'kv', url: server.url, port: server.port }, `kv ready at ${server.url}`)
}

/** Streams that are not replayed with the others yet. */
function behind(db: KvDatabase): number {
  return [...db.streams.values()].filter(s => s !== 'joined').length
}

function readiness(
  db: KvDatabase,
  follower: KvFollower | undefined,
  why: { waiting: string; outage: string | undefined }
) {
  const { block, nextSeq } = db.progress
  if (follower === undefined) return { ok: false, state: 'starting', reason: why.waiting }
  const lag = (follower.head ?? 0) - block
  const late = behind(db)
  const wave = late === 0 ? '' : `, ${late} streams at seq ${db.wave?.nextSeq ?? 0}`
  const progress = `block ${Math.max(0, block)}, seq ${nextSeq}${wave}`
  if (why.outage !== undefined) return { ok: false, state: 'degraded', reason: why.outage, progress }
  if (follower.trouble !== undefined) return { ok: false, state: 'degraded', reason: follower.trouble, progress }
  if (!follower.caughtUp || lag > 5) return { ok: false, state: 'syncing', reason: `${lag} blocks behind`, progress }
  return { ok: true, state: 'ready', progress, block, next_seq: nextSeq }
}

/** The flow contract that the storage nodes follow; asked until one answers. */
async function flowOf(pool: NodePool, signal: AbortSignal, on: (why: string) => void): Promise<string | undefined> {
  for (let attempt = 1; !signal.aborted; attempt++) {
    try {
      const [url] = await pool.urls({ signal, timeoutMs: 5_000 })
      if (url !== undefined) return (await pool.node(url).status({ signal, timeoutMs: 5_000 })).flowAddress
      on('the indexer knows no storage node')
    } catch (err) {
      on(messageOf(err))
    }
    await backoff(Math.min(attempt, 4), signal).catch(() => {})
  }
  return undefined
}

/** Bytes of old files are not on their way any more: whoever has them answers at once. */
const OLD_TIMEOUT_MS = 10_000

/**
 * Reads a file with verification, again and again until the time allowed is over. Only time in which a storage node answers
 * counts: while none does, nobody can say that the file is lost.
 * @param onOutage - why no node answers; undefined when one does again.
 */
async function fetcher(
  pool: NodePool,
  opts: Options,
  log: Logger,
  onOutage: (why: string | undefined) => void
): Promise<FollowOptions['fetch']> {
  const key =
    opts.encryptionKeyFile === undefined ? undefined : await readEncryptionKey(opts.encryptionKeyFile as string)
  const timeoutMs = opts.downloadTimeout as number
  return async (file, signal) => {
    let leftMs = file.old ? Math.min(timeoutMs, OLD_TIMEOUT_MS) : timeoutMs
    for (let attempt = 1; ; attempt++) {
      const begun = performance.now()
      let remote: RemoteFile | undefined
      try {
        remote = await RemoteFile.open(pool, file.root, { signal, sizeBytes: file.sizeBytes })
        onOutage(undefined)
        const stored = await readAll(remote, file.sizeBytes, signal)
        return key === undefined ? { content: stored, headerBytes: 0 } : decrypted(stored, key)
      } catch (err) {
        if (signal.aborted) throw signal.reason
        const away = remote === undefined && err instanceof ZgError && AWAY.has(err.code)
        onOutage(away ? messageOf(err) : undefined)
        // The bytes usually come a moment after the event: often at first, then twice a second.
        await pause(away ? 500 : Math.min(500, 20 * 1.5 ** attempt), signal)
        if (!away) leftMs -= performance.now() - begun
        if (leftMs > 0) continue
        log.warn('file not obtainable, going on without it', { root: toHex(file.root), error: messageOf(err) })
        return undefined
      }
    }
  }
}

const AWAY: ReadonlySet<string> = new Set(['ERR_UNAVAILABLE', 'ERR_TIMEOUT'])

/** The content of an encrypted file: with the shared key, or with the private key that it was encrypted for. */
function decrypted(stored: Uint8Array, key: Uint8Array): FetchedFile {
  // A plain log begins with its version, whose first byte is 0 or 255.
  if (stored[0] !== 1 && stored[0] !== 2) return { content: stored, headerBytes: 0 }
  try {
    const header = parseHeader(stored)
    const stream = openStream(header, header.version === 1 ? { key } : { privateKey: key })
    return { content: cryptAt(stream, 0, stored.subarray(header.bytes)), headerBytes: header.bytes }
  } catch (err) {
    // Cut off, or for nobody: the replay says that it is no log.
    if (err instanceof ZgError) return { content: stored, headerBytes: 0 }
    throw err
  }
}
