/** `zg-da disperser`: from its options to a signal. */
import { join } from 'node:path'
import { systemClock } from '../../../lib/adapters/clock.ts'
import { systemDisk } from '../../../lib/adapters/disk.ts'
import { serveGrpc } from '../../../lib/adapters/grpc/server.ts'
import { openKv } from '../../../lib/adapters/kv.ts'
import { lockDirectory } from '../../../lib/adapters/lock.ts'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { systemRandom } from '../../../lib/adapters/random.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { passwordReader } from '../../../lib/cli/password.ts'
import type { VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { findSigner } from '../../../lib/clients/accounts.ts'
import { RetrieverClient } from '../../../lib/clients/da/retriever.ts'
import { SignerPool } from '../../../lib/clients/da/signer.ts'
import { DISPERSER } from '../../../lib/clients/da/wire.ts'
import { readNetwork } from '../../../lib/clients/network.ts'
import { createMetrics } from '../../../lib/ops/metrics.ts'
import { Closers, callMetrics, patiently, reachChain, serveOps, stopper } from '../service.ts'
import { Finality } from './finality.ts'
import type { Job } from './job.ts'
import { Pipeline } from './pipeline.ts'
import { BlobQueue } from './queue.ts'
import { disperserHandlers } from './service.ts'
import { Transactions } from './transactions.ts'

/** Calls at once: writes of full blobs have a bound of their own, in bytes. */
const CALLS = 256
/** A blob beyond the limit must be told so by its size, not by its message. */
const RECEIVE_BYTES = 64 * 1024 * 1024
/** Journal and index are small. */
const CACHE_BYTES = 2 * 1024 * 1024
const SWEEP_MS = 600_000

export const disperser: VerbFn = async (ctx, _args, opts) => {
  const dir = (opts.dir as string | undefined) ?? dataDir(ctx.network, 'da-disperser')
  const logger = ctx.log('disperser')
  const stop = stopper()
  const closers = new Closers()
  const state = { ready: false, reason: 'waiting for the chain' }
  try {
    const lock = await lockDirectory(dir)
    closers.add(() => lock.release())
    const kv = await openKv(join(dir, 'journal'), { cacheBytes: CACHE_BYTES })
    closers.add(() => kv.close())
    const queue = await BlobQueue.open({
      disk: systemDisk,
      kv,
      dir: join(dir, 'blobs'),
      clock: systemClock,
      random: systemRandom,
      maxBytes: opts.storeMax as number,
      keepMs: opts.keep as number
    })
    const metrics = createMetrics('zg_da_disperser')
    const seconds = metrics.histogram('blob_seconds', 'From acceptance to finality', [0.5, 1, 2, 3, 5, 10, 30, 120])
    metrics.gauge('active_blobs', 'blobs on their way', () => queue.active().length)
    metrics.gauge('final_blobs', 'final blobs that are kept', () => queue.finalCount)
    metrics.gauge('store_bytes', 'bytes of blobs on disk', () => queue.sizeBytes)
    let pipeline: Pipeline | undefined
    metrics.gauge('encoded_bytes', 'bytes of encoded blobs in memory', () => pipeline?.encodedBytes ?? 0)
    const begin = (job: Job): void => pipeline?.start(job)
    const retriever = lazyRetriever(ctx, opts.retriever as string | undefined, closers)
    const grpc = await serveGrpc({
      services: [
        {
          file: DISPERSER.file,
          name: DISPERSER.service,
          handlers: disperserHandlers({
            queue,
            retriever,
            legacyStatus: opts.legacyStatus !== false,
            onAccepted: begin
          })
        }
      ],
      port: opts.port as number,
      host: opts.host as string,
      receiveBytes: RECEIVE_BYTES,
      calls: CALLS,
      health: true,
      onCall: callMetrics(metrics),
      onBug: (method, err) => logger.error('a call failed inside', { method, error: messageOf(err) })
    })
    closers.add(() => grpc.close())
    const ops = await serveOps(opts.metricsPort as number, state, metrics, () => ({ active: queue.active().length }))
    closers.add(() => ops.close())

    // Blobs are taken from here on, whether the chain is there yet or not.
    const running = (async () => {
      const chain = await reachChain(ctx, opts, { state, logger, signal: stop.signal })
      const source = {
        account: opts.account as string | undefined,
        network: ctx.network,
        password: passwordReader(ctx, opts)
      }
      const account = await patiently(() => findSigner(chain.client, source), state, stop.signal)
      await account.privateKey()
      const pool = new SignerPool()
      closers.add(() => pool.close())
      pipeline = new Pipeline({
        chain,
        queue,
        pool,
        transactions: new Transactions(chain, account),
        finality: new Finality(chain, systemClock, stop.signal),
        clock: systemClock,
        logger,
        signal: stop.signal,
        signTimeoutMs: opts.signTimeout as number,
        maxRetries: opts.maxRetries as number,
        memoryBytes: opts.memory as number,
        onFinal: ms => seconds.observe(ms / 1000)
      })
      const left = queue.active()
      for (const job of left) pipeline.start(job)
      state.ready = true
      ctx.ready(
        {
          type: 'ready',
          service: 'da',
          address: grpc.address,
          port: grpc.port,
          metrics_port: ops.port,
          dir,
          resumed: left.length
        },
        `disperser ready on ${grpc.address}${left.length === 0 ? '' : `, ${left.length} blobs go on`}`
      )
      while (!stop.signal.aborted) {
        await systemClock.sleep(SWEEP_MS, stop.signal).catch(() => {})
        if (!stop.signal.aborted) await queue.sweep()
      }
    })()
    await Promise.race([ctx.stopped(), running])
    stop.abort(new ZgError('ERR_STOPPED', 'stopping'))
    await running.catch(() => {})
    await grpc.close()
    await pipeline?.settled()
  } finally {
    stop.abort(new ZgError('ERR_STOPPED', 'stopping'))
    await closers.run()
  }
}

/** Connected when first asked for a blob of others: by flag, else that of the running network, else the usual port. */
function lazyRetriever(
  ctx: VerbContext,
  given: string | undefined,
  closers: Closers
): () => Promise<RetrieverClient | undefined> {
  let client: Promise<RetrieverClient> | undefined
  return () => {
    client ??= (async () => {
      const file = given === undefined ? await readNetwork(ctx.network) : undefined
      const made = new RetrieverClient(given ?? file?.endpoints.retriever ?? '127.0.0.1:34005')
      closers.add(() => made.close())
      return made
    })()
    return client
  }
}
