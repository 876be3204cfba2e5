/** `zg-da node`: a signer, from its options to a signal. */
import { join } from 'node:path'
import { systemClock } from '../../../lib/adapters/clock.ts'
import { systemDisk } from '../../../lib/adapters/disk.ts'
import { plainAddress } from '../../../lib/adapters/grpc/client.ts'
import { type GrpcListener, serveGrpc } from '../../../lib/adapters/grpc/server.ts'
import { GrpcError, STATUS } from '../../../lib/adapters/grpc/status.ts'
import { lockDirectory } from '../../../lib/adapters/lock.ts'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { version } from '../../../lib/cli/version.ts'
import { ROWS_MESSAGE_BYTES, SIGNER } from '../../../lib/clients/da/wire.ts'
import { blobDigest, encodeG1Le, signBls } from '../../../lib/crypto/bn254.ts'
import { createMetrics } from '../../../lib/ops/metrics.ts'
import { Closers, callMetrics, patiently, reachChain, serveOps, stopper } from '../service.ts'
import { FraudProofs } from './fraud.ts'
import { findIdentity } from './identity.ts'
import { LineStore } from './line-store.ts'
import { Postings } from './postings.ts'
import { keepRegistered, takeStand } from './registration.ts'
import { SIGN_EPOCHS, Signer } from './signer.ts'

/** Calls at once, of all kinds; above the bounds of each kind, which answer more kindly. */
const CALLS = 48
/** How often old epochs are looked for. */
const PRUNE_MS = 600_000

export const node: VerbFn = async (ctx, _args, opts) => {
  const index = opts.devSigner as number | undefined
  const name = index === undefined ? 'da-node' : `da-node-${index}`
  const dir = (opts.dir as string | undefined) ?? dataDir(ctx.network, name)
  const port = (opts.port as number | undefined) ?? 34000 + (index ?? 0)
  const host = opts.host as string
  const logger = ctx.log('node')
  const stop = stopper()
  const closers = new Closers()
  const state = { ready: false, reason: 'waiting for the chain' }
  try {
    const lock = await lockDirectory(dir)
    closers.add(() => lock.release())
    const store = await LineStore.open(systemDisk, join(dir, 'lines'))
    closers.add(() => store.close())
    const metrics = createMetrics('zg_da_node')
    let signer: Signer | undefined
    const ready = (): Signer => {
      if (signer === undefined) throw new GrpcError(STATUS.unavailable, `not ready: ${state.reason}`)
      return signer
    }
    metrics.gauge('shares', 'blobs of which rows are kept', () => store.count)
    metrics.gauge('store_bytes', 'bytes of rows on disk', () => store.sizeBytes)
    metrics.gauge('signatures', 'signatures given', () => signer?.counts.signed ?? 0)
    metrics.gauge('refusals', 'sign calls refused', () => signer?.counts.refused ?? 0)
    metrics.gauge('frauds', 'encoders seen cheating', () => signer?.counts.fraud ?? 0)
    const grpc: GrpcListener = await serveGrpc({
      services: [
        {
          file: SIGNER.file,
          name: SIGNER.service,
          handlers: {
            BatchSign: request => ready().batchSign(request),
            BatchRetrieve: request => ready().batchRetrieve(request),
            GetStatus: async () => ready().status()
          }
        }
      ],
      port,
      host,
      receiveBytes: ROWS_MESSAGE_BYTES,
      calls: CALLS,
      onCall: callMetrics(metrics),
      onBug: (method, err) => logger.error('a call failed inside', { method, error: messageOf(err) })
    })
    closers.add(() => grpc.close())
    const ops = await serveOps(opts.metricsPort as number, state, metrics, () => ({ shares: store.count }))
    closers.add(() => ops.close())

    // From here on nothing keeps callers waiting; a signal may come before the chain does.
    const socket = opts.socket === undefined ? grpc.address : plainAddress(opts.socket as string)
    const running = (async () => {
      const chain = await reachChain(ctx, opts, { state, logger, signal: stop.signal })
      const identity = await patiently(() => findIdentity(ctx, opts, chain.client), state, stop.signal)
      const { address } = identity.account
      const registration = { chain, identity, socket, clock: systemClock, logger }
      state.reason = 'not registered on chain yet'
      await patiently(() => takeStand(registration), state, stop.signal)
      signer = new Signer({
        chain,
        postings: new Postings(chain, systemClock, SIGN_EPOCHS),
        store,
        fraud: new FraudProofs(systemDisk, join(dir, 'fraud')),
        address,
        sign: async (id, commitment) => {
          const digest = blobDigest(id.root, BigInt(id.epoch), BigInt(id.quorumId), commitment)
          return encodeG1Le(signBls(identity.secretKey, digest))
        },
        entrance: chain.addresses.entrance,
        version: version(),
        logger
      })
      state.ready = true
      ctx.ready(
        {
          type: 'ready',
          service: 'signer',
          address: grpc.address,
          port: grpc.port,
          metrics_port: ops.port,
          dir,
          signer: toHex(address),
          shares: store.count
        },
        `signer ready on ${grpc.address}, ${store.count} blobs kept`
      )
      await Promise.all([
        keepRegistered(registration, stop.signal),
        prune(store, chain, opts.keepEpochs as number, stop.signal)
      ])
    })()
    // A failure ends the process; the signal ends the work.
    await Promise.race([ctx.stopped(), running])
    stop.abort(new ZgError('ERR_STOPPED', 'stopping'))
    await running.catch(() => {})
  } finally {
    stop.abort(new ZgError('ERR_STOPPED', 'stopping'))
    await closers.run()
  }
}

/** Forgets epochs that nobody may ask for any more. */
async function prune(
  store: LineStore,
  chain: { epoch(): Promise<number> },
  keep: number,
  signal: AbortSignal
): Promise<void> {
  while (!signal.aborted) {
    await systemClock.sleep(PRUNE_MS, signal).catch(() => {})
    if (signal.aborted) return
    await chain.epoch().then(
      epoch => store.prune(epoch - keep),
      () => {}
    )
  }
}
