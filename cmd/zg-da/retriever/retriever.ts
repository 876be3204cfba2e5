/** `zg-da retriever`: rebuilds blobs from their signers' rows for whoever asks. */
import { serveGrpc } from '../../../lib/adapters/grpc/server.ts'
import { GrpcError, STATUS } from '../../../lib/adapters/grpc/status.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import type { DaChain } from '../../../lib/clients/da/chain.ts'
import { SignerPool } from '../../../lib/clients/da/signer.ts'
import { narrow, RETRIEVER, type RetrieveBlobReply, type RetrieveBlobRequest } from '../../../lib/clients/da/wire.ts'
import { createMetrics } from '../../../lib/ops/metrics.ts'
import { Budget } from '../budget.ts'
import { Closers, callMetrics, reachChain, serveOps, stopper } from '../service.ts'
import { certified, retrieveBlob } from './rebuild.ts'

const CALLS = 256
/** A request is three small fields. */
const RECEIVE_BYTES = 64 * 1024
/** Reads that wait for memory; further ones are refused. */
const WAITING = 200

export const retriever: VerbFn = async (ctx, _args, opts) => {
  const logger = ctx.log('retriever')
  const stop = stopper()
  const closers = new Closers()
  const state = { ready: false, reason: 'waiting for the chain' }
  let chain: DaChain | undefined
  const pool = new SignerPool()
  closers.add(() => pool.close())
  const memory = new Budget(opts.memory as number, WAITING)
  const metrics = createMetrics('zg_da_retriever')
  metrics.gauge('reading_bytes', 'memory that reads under way have taken', () => memory.usedBytes)

  const retrieve = async (request: RetrieveBlobRequest, gone: AbortSignal): Promise<RetrieveBlobReply> => {
    if (request.storage_root.length !== 32) {
      throw new GrpcError(STATUS.invalidArgument, 'parameter StorageRoot len is not accepted')
    }
    if (chain === undefined) throw new GrpcError(STATUS.unavailable, `not ready: ${state.reason}`)
    const id = {
      root: new Uint8Array(request.storage_root),
      epoch: narrow(request.epoch, 'epoch'),
      quorumId: narrow(request.quorum_id, 'quorum_id')
    }
    const { shape } = await certified(id, chain)
    let release: () => void
    try {
      // Rows, the matrix, and what is encoded again beside them.
      release = await memory.take(4 * shape.k * shape.w, gone)
    } catch (err) {
      if (err instanceof ZgError && err.code === 'ERR_UNAVAILABLE')
        throw new GrpcError(STATUS.resourceExhausted, err.message, { cause: err })
      throw err
    }
    try {
      return { data: await retrieveBlob(id, { chain, pool, logger, signal: gone }) }
    } finally {
      release()
    }
  }

  try {
    const grpc = await serveGrpc({
      services: [{ file: RETRIEVER.file, name: RETRIEVER.service, handlers: { RetrieveBlob: retrieve } }],
      port: opts.port as number,
      host: opts.host as string,
      receiveBytes: RECEIVE_BYTES,
      calls: CALLS,
      health: true,
      onCall: callMetrics(metrics),
      onBug: (method, err) => logger.error('a call failed inside', { method, error: messageOf(err) })
    })
    closers.add(() => grpc.close())
    const ops = await serveOps(opts.metricsPort as number, state, metrics)
    closers.add(() => ops.close())
    const starting = (async () => {
      chain = await reachChain(ctx, opts, { state, logger, signal: stop.signal })
      state.ready = true
      ctx.ready(
        { type: 'ready', service: 'retriever', address: grpc.address, port: grpc.port, metrics_port: ops.port },
        `retriever ready on ${grpc.address}`
      )
      await ctx.stopped()
    })()
    await Promise.race([ctx.stopped(), starting])
    stop.abort(new ZgError('ERR_STOPPED', 'stopping'))
    await starting.catch(() => {})
  } finally {
    stop.abort(new ZgError('ERR_STOPPED', 'stopping'))
    await closers.run()
  }
}
