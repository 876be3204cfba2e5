/** `zg-chain node`: builds the adapters, gives them to the chain, owns start and stop. */
import { systemClock } from '../../lib/adapters/clock.ts'
import { serveRpc } from '../../lib/adapters/jsonrpc/server.ts'
import type { RpcServer } from '../../lib/adapters/jsonrpc/types.ts'
import { type DirectoryLock, lockDirectory } from '../../lib/adapters/lock.ts'
import { dataDir } from '../../lib/adapters/paths.ts'
import { namePortOwner } from '../../lib/adapters/port-owner.ts'
import { systemRandom } from '../../lib/adapters/random.ts'
import { messageOf, ZgError } from '../../lib/base/errors.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { formatAmount, formatDuration } from '../../lib/base/units.ts'
import type { Options, VerbContext, VerbFn } from '../../lib/cli/types.ts'
import { version } from '../../lib/cli/version.ts'
import { DEV_ACCOUNTS, DEV_MNEMONIC } from '../../lib/crypto/dev-accounts.ts'
import { opsRoutes } from '../../lib/ops/http.ts'
import { createMetrics, rpcMetrics } from '../../lib/ops/metrics.ts'
import type { Genesis } from './core/genesis.ts'
import { buildGenesis, readGenesis, writeGenesis } from './genesis-file.ts'
import { openChain } from './open.ts'
import { storeOptions } from './options.ts'
import { chainMethods, TOGETHER } from './rpc/methods.ts'
import { readStateFile, writeStateFile } from './state-file.ts'
import { removeTemporary, temporaryDirectory } from './temporary.ts'
import { Vitals } from './vitals.ts'

const LOOPBACK = /^(127\.|localhost$|::1$|\[::1\]$)/

export const node: VerbFn = async (ctx, _args, opts) => {
  const log = ctx.log('node')
  const dev = opts.dev === true
  const kept = (opts.dir as string | undefined) ?? (dev ? undefined : dataDir(ctx.network, 'chain'))
  if (opts.inMemory === true && kept !== undefined)
    throw new ZgError('ERR_USAGE', '--in-memory goes with --dev and without --dir')
  const stateFile = opts.state as string | undefined
  if (stateFile !== undefined && kept !== undefined)
    throw new ZgError('ERR_USAGE', '--state goes with --dev and without --dir')
  const store = storeOptions(opts)
  const dir = kept ?? (await temporaryDirectory(opts.inMemory === true))
  const blockTimeMs = opts.blockTime as number
  const fatal = deferred()
  let lock: DirectoryLock | undefined
  let server: RpcServer | undefined
  let chain: Awaited<ReturnType<typeof openChain>> | undefined
  try {
    if (kept !== undefined) lock = await lockDirectory(kept)
    const genesis = await genesisOf(ctx, opts, kept, stateFile)
    chain = await openChain({
      dir,
      kept: kept !== undefined,
      genesis,
      ...store,
      executionThreads: opts.executionThreads as number,
      clock: systemClock,
      random: systemRandom,
      log: ctx.log('chain'),
      blockTimeMs,
      onDemand: blockTimeMs === 0,
      ...(opts.gasLimit === undefined ? {} : { gasLimit: opts.gasLimit as bigint }),
      dev: dev
        ? { accounts: DEV_ACCOUNTS.map(a => ({ address: fromHex(a.address), privateKey: fromHex(a.privateKey) })) }
        : undefined,
      onFatal: fatal.reject
    })
    const vitals = new Vitals(chain, { blockTimeMs, clock: systemClock })
    const metrics = createMetrics('zg_chain')
    vitals.publish(metrics)
    const methods = chainMethods(chain, {
      dev,
      clientVersion: `zg-chain/v${version()}/${process.platform}-${process.arch}/node${process.versions.node}`,
      now: () => systemClock.now(),
      monotonic: () => systemClock.monotonic(),
      forks: genesis.config,
      history: store.history
    })
    const rpcLog = ctx.log('rpc')
    const port = opts.rpcPort as number
    const host = opts.rpcHost as string
    try {
      server = await serveRpc({
        methods,
        together: TOGETHER,
        port,
        host,
        websocket: true,
        fast: true,
        cors: dev ? 'any' : 'none',
        allowedHosts: (opts.allowHost as string[] | undefined) ?? [],
        routes: [opsRoutes({ ready: () => vitals.readiness(), metrics })],
        onCall: rpcMetrics(metrics, Object.keys(methods)),
        onBug: (method, err) => rpcLog.error('a method failed', { method, reason: messageOf(err) }),
        ...(opts.socket === undefined ? {} : { socketPath: opts.socket as string })
      })
    } catch (err) {
      throw await namePortOwner(err, port, 'zg-chain node --rpc-port 0')
    }
    if (!LOOPBACK.test(host)) {
      log.warn(dev ? 'anybody who reaches this address may spend the development accounts' : 'reachable from outside', {
        host,
        port: server.port
      })
    }
    chain.start()
    process.on('SIGUSR2', () => process.stderr.write(`${JSON.stringify(vitals.dump())}\n`))
    announce(ctx, opts, {
      genesis,
      dir: opts.inMemory === true ? undefined : dir,
      kept: kept !== undefined,
      url: server.url!,
      port: server.port!,
      hash: toHex(chain.genesisHash)
    })
    await Promise.race([ctx.stopped(), fatal.promise])
    log.info('stopping', { height: chain.head().number })
    if (stateFile !== undefined) {
      // Nobody may change what is being written.
      await server.close()
      await chain.producer.stop()
      await chain.exclusive(() => writeStateFile(stateFile, chain!, genesis))
      log.info('state written', { file: stateFile })
    }
  } finally {
    // Calls in flight still need the chain, the chain still needs the directory.
    await server?.close()
    await chain?.close()
    await lock?.release()
    if (kept === undefined) await removeTemporary(dir)
  }
}

/** The directory's genesis, or that of the state file, or with --dev a new one when there is none. */
async function genesisOf(
  ctx: VerbContext,
  opts: Options,
  kept: string | undefined,
  stateFile: string | undefined
): Promise<Genesis> {
  const where = kept ?? stateFile
  const found =
    kept !== undefined ? await readGenesis(kept) : stateFile !== undefined ? await readStateFile(stateFile) : undefined
  if (found !== undefined) {
    if (ctx.source('chainId') !== 'default' && opts.chainId !== found.chainId) {
      throw new ZgError('ERR_WRONG_NETWORK', `'${where}' holds chain ${found.chainId}, not ${opts.chainId}`)
    }
    return found
  }
  if (opts.dev !== true) {
    throw new ZgError('ERR_CONFIG', `no chain in '${kept}'`, { hint: `run 'zg-chain init --dir ${kept}'` })
  }
  const genesis = await buildGenesis({
    chainId: opts.chainId as number,
    kind: opts.kind as 'network' | 'dev',
    timestamp: Math.floor(systemClock.now() / 1000),
    ...(opts.gasLimit === undefined ? {} : { gasLimit: opts.gasLimit as bigint })
  })
  if (kept !== undefined) await writeGenesis(kept, genesis)
  return genesis
}

function announce(
  ctx: VerbContext,
  opts: Options,
  o: { genesis: Genesis; dir: string | undefined; kept: boolean; url: string; port: number; hash: string }
): void {
  const blockTimeMs = opts.blockTime as number
  const { genesis } = o
  const funded = new Map(genesis.alloc.map(a => [toHex(a.address), a.balance]))
  if (opts.dev === true) {
    const first = formatAmount(funded.get(DEV_ACCOUNTS[0]!.address.toLowerCase() as `0x${string}`) ?? 0n)
    ctx.say(`  ten accounts, ${first} 0G each at block 0; mnemonic: ${DEV_MNEMONIC}`)
    DEV_ACCOUNTS.forEach((a, i) => {
      ctx.say(`  ${i} ${a.address}${opts.showKeys === true ? `  ${a.privateKey}` : ''}`)
    })
    if (opts.showKeys !== true) ctx.say("  their keys are hardhat's and public: --show-keys")
  }
  const beat = blockTimeMs === 0 ? 'a block for each transaction' : `block every ${formatDuration(blockTimeMs)}`
  ctx.ready(
    {
      type: 'ready',
      service: 'chain',
      url: o.url,
      port: o.port,
      pid: process.pid,
      chainId: genesis.chainId,
      genesis: o.hash,
      block_time_ms: blockTimeMs,
      data_dir: o.dir ?? null
    },
    `ready ${o.url}  id ${genesis.chainId}, ${beat}${o.dir === undefined ? ', in memory' : o.kept ? '' : ', nothing is kept'}`
  )
}

function deferred(): { promise: Promise<never>; reject: (err: unknown) => void } {
  let reject: (err: unknown) => void = () => {}
  const promise = new Promise<never>((_, no) => {
    reject = no
  })
  promise.catch(() => {})
  return { promise, reject }
}
