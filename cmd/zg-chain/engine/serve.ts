/**
 * `zg-chain engine`: the native execution client for an external consensus client. The Engine API (and eth_* beside it, as consensus
 * clients ask for it there) on a port of its own behind a token; plain JSON-RPC on the usual one. Makes no block on its own.
 */
import { join } from 'node:path'
import { systemClock } from '../../../lib/adapters/clock.ts'
import { serveRpc } from '../../../lib/adapters/jsonrpc/server.ts'
import type { RpcMethods, RpcServer } from '../../../lib/adapters/jsonrpc/types.ts'
import { lockDirectory } from '../../../lib/adapters/lock.ts'
import { namePortOwner } from '../../../lib/adapters/port-owner.ts'
import { systemRandom } from '../../../lib/adapters/random.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { version } from '../../../lib/cli/version.ts'
import { opsRoutes } from '../../../lib/ops/http.ts'
import { createMetrics, rpcMetrics } from '../../../lib/ops/metrics.ts'
import type { Genesis } from '../core/genesis.ts'
import { openChain } from '../open.ts'
import { chainMethods, TOGETHER } from '../rpc/methods.ts'
import { directoryOf, genesisIn } from '../verbs/directory.ts'
import { Vitals } from '../vitals.ts'
import { jwtAccepts, jwtSecret } from './jwt.ts'
import { engineMethods } from './methods.ts'
import type { Fork } from './payload.ts'

export const engine: VerbFn = async (ctx, _args, opts) => {
  const log = ctx.log('engine')
  const dir = directoryOf(ctx, opts)
  const genesis = await genesisIn(dir)
  const secretFile = (opts.jwtSecret as string | undefined) ?? join(dir, 'jwt.hex')
  const lock = await lockDirectory(dir)
  let fatal: (err: unknown) => void = () => {}
  const failed = new Promise<never>((_, reject) => {
    fatal = reject
  })
  failed.catch(() => {})
  const servers: RpcServer[] = []
  let chain: Awaited<ReturnType<typeof openChain>> | undefined
  try {
    const secret = await jwtSecret(secretFile, true)
    chain = await openChain({
      dir,
      genesis,
      clock: systemClock,
      random: systemRandom,
      log: ctx.log('chain'),
      blockTimeMs: 0,
      executionThreads: opts.executionThreads as number,
      ...(opts.gasLimit === undefined ? {} : { gasLimit: opts.gasLimit as bigint }),
      onFatal: err => fatal(err)
    })
    const opened = chain
    const vitals = new Vitals(chain, { blockTimeMs: 0, clock: systemClock })
    const metrics = createMetrics('zg_chain')
    vitals.publish(metrics)
    const methods = chainMethods(chain, {
      dev: false,
      clientVersion: `zg-chain/v${version()}/${process.platform}-${process.arch}/node${process.versions.node}`,
      now: () => systemClock.now(),
      monotonic: () => systemClock.monotonic()
    })
    const withEngine: RpcMethods = Object.assign(
      Object.create(null),
      methods,
      engineMethods({
        backend: chain.native,
        forkAt: forksOf(genesis),
        gasLimit: () => opened.nextGasLimit(),
        version: version(),
        onHead: () => opened.headMoved()
      })
    )
    const host = opts.rpcHost as string
    const allowedHosts = (opts.allowHost as string[] | undefined) ?? []
    const onBug = (method: string, err: unknown): void =>
      log.error('a method failed', { method, reason: messageOf(err) })
    const onCall = rpcMetrics(metrics, Object.keys(withEngine))
    const routes = [opsRoutes({ ready: () => vitals.readiness(), metrics })]
    const listen = async (port: number, more: Partial<Parameters<typeof serveRpc>[0]>): Promise<RpcServer> => {
      try {
        const server = await serveRpc({
          methods,
          together: TOGETHER,
          port,
          host,
          allowedHosts,
          onBug,
          onCall,
          routes,
          ...more
        })
        servers.push(server)
        return server
      } catch (err) {
        throw await namePortOwner(err, port, 'zg-chain engine --engine-port 0 --rpc-port 0')
      }
    }
    const api = await listen(opts.enginePort as number, {
      methods: withEngine,
      // A payload with its block's transactions as hex.
      bodyBytes: MAX_ENGINE_BYTES,
      authorize: header => jwtAccepts(header, secret, systemClock.now())
    })
    const rpc = await listen(opts.rpcPort as number, { websocket: true, fast: true })
    chain.start()
    ctx.ready(
      {
        type: 'ready',
        service: 'engine',
        url: rpc.url,
        port: rpc.port,
        engine_url: api.url,
        engine_port: api.port,
        jwt_secret: secretFile,
        pid: process.pid,
        chainId: genesis.chainId,
        genesis: toHex(chain.genesisHash),
        data_dir: dir
      },
      `ready ${rpc.url}  id ${genesis.chainId}, Engine API ${api.url}, secret ${secretFile}`
    )
    await Promise.race([ctx.stopped(), failed])
    log.info('stopping', { height: chain.head().number })
  } finally {
    await Promise.all(servers.map(s => s.close()))
    await chain?.close()
    await lock.release()
  }
}

/** Body of one Engine API call: a block of 8 MiB as hex, with room. */
export const MAX_ENGINE_BYTES = 32 * 1024 * 1024

/** The rules of a block by its time. @throws {ZgError} ERR_CONFIG for a chain that begins with work: it has no payloads yet. */
export function forksOf(genesis: Genesis): (timestamp: number) => Fork {
  const { config } = genesis
  if (config.terminalTotalDifficulty === undefined)
    throw new ZgError('ERR_CONFIG', 'this chain has no terminalTotalDifficulty: nobody can drive it by payloads')
  const from = (time: number | undefined): number => time ?? Number.POSITIVE_INFINITY
  const [shanghai, cancun, prague, osaka] = [
    config.shanghaiTime,
    config.cancunTime,
    config.pragueTime,
    config.osakaTime
  ].map(from)
  return time =>
    time >= osaka!
      ? 'osaka'
      : time >= prague!
        ? 'prague'
        : time >= cancun!
          ? 'cancun'
          : time >= shanghai!
            ? 'shanghai'
            : 'paris'
}
