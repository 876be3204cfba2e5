/** `zg-compute serve`: options in, a running model server out, until a signal ends it. */
import { readFile } from 'node:fs/promises'
import { freemem } from 'node:os'
import { join } from 'node:path'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { packageRoot } from '../../../lib/base/package-root.ts'
import { formatDuration } from '../../../lib/base/units.ts'
import { passwordReader } from '../../../lib/cli/password.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { findSigner, isDevnet } from '../../../lib/clients/accounts.ts'
import { findEndpoint } from '../../../lib/clients/network.ts'
import { checksumAddress } from '../../../lib/crypto/address.ts'
import type { DeviceChoice } from '../../../lib/infer/device.ts'
import { CACHE_MIN_BYTES, openEngine } from '../../../lib/infer/engine.ts'
import type { Numa } from '../../../lib/infer/numa.ts'
import type { Engine } from '../../../lib/infer/types.ts'
import { modelFile } from '../server/model-set.ts'
import { QUEUE_WAIT_MS } from '../server/slots.ts'
import { type PaidOptions, type ServeOptions, startServer } from './server.ts'

/** The engine queues the choices of a request one by one, four at a time. */
const WAITING_FACTOR = 4

/** A Unix socket's path may have this many bytes; without a word about it the listen call fails. */
const SOCKET_PATH_MAX = 107

export const serve: VerbFn = async (ctx, _args, opts) => {
  const started = performance.now()
  const named = ((opts.model as string[] | undefined) ?? []).map(modelFile)
  const upstream = opts.upstream as string[] | undefined
  if (upstream !== undefined && opts.account !== undefined) {
    throw new ZgError(
      'ERR_USAGE',
      "'--account' is paid for what this machine computes, '--upstream' has others compute",
      {
        hint: 'leave one of them out'
      }
    )
  }
  const own = join(packageRoot(), 'share', 'models', 'tiny-zg.gguf')
  const modelPath = named[0]?.path ?? (upstream === undefined ? own : undefined)
  const engineOptions = {
    device: opts.device as DeviceChoice,
    ...(opts.split === undefined ? {} : { split: opts.split as number[] }),
    ...(opts.deviceLayers === undefined ? {} : { deviceLayers: opts.deviceLayers as number }),
    ...(opts.threads === undefined ? {} : { threads: opts.threads as number }),
    ...(opts.context === undefined ? {} : { contextLength: opts.context as number }),
    ...(opts.cache !== undefined
      ? { cacheBytes: opts.cache as number }
      : named.length > 1 && opts.device !== 'cpu'
        ? // Several models share a device: the first must not take what is left of it.
          { cacheBytes: CACHE_MIN_BYTES }
        : {}),
    running: opts.parallel as number,
    // A request may have several choices; the house's own bound comes first.
    waiting: WAITING_FACTOR * (opts.queue as number),
    patienceMs: QUEUE_WAIT_MS,
    sharedCache: opts.sharedCache === true,
    lookUp: opts.lookup !== false,
    pin: opts.pin === true,
    ...(opts.cpus === undefined ? {} : { cpus: opts.cpus as number[] }),
    ...(opts.numa === undefined ? {} : { numa: opts.numa as Numa })
  }
  // Made for one model's matrices and one vocabulary: the others have none.
  const ofFirst = {
    adapters: [
      ...((opts.lora as { path: string; strength: number }[] | undefined) ?? []),
      ...((opts.loraModules as { name: string; path: string; strength: number }[] | undefined) ?? [])
    ],
    ...(opts.draft === undefined ? {} : { draft: opts.draft as string })
  }
  const open = async (path: string, own: Partial<typeof ofFirst> = {}): Promise<Engine> => {
    const engine = await openEngine(path, { ...engineOptions, ...own })
    for (const warning of engine.warnings) ctx.log('engine').warn(warning)
    if (engine.placement !== '') ctx.log('engine').info(engine.placement)
    return engine
  }
  const options: ServeOptions = {
    modelPath,
    openEngine: () => open(modelPath!, ofFirst),
    port: opts.port as number,
    host: opts.host as string,
    parallel: opts.parallel as number,
    queue: opts.queue as number,
    streamIntervalMs: opts.streamInterval as number,
    adminPort: opts.adminPort as number,
    log: module => ctx.log(module)
  }
  if (named[0] !== undefined) options.modelName = named[0].name
  if (named.length > 1) {
    options.others = {
      files: named.slice(1),
      open: path => open(path),
      memoryBytes: (opts.modelsMemory as number | undefined) ?? Math.floor(freemem() / 2),
      cacheBytes: (opts.cache as number | undefined) ?? CACHE_MIN_BYTES
    }
  }
  if (upstream !== undefined) {
    const file = opts.upstreamKeyFile as string | undefined
    options.upstream = { urls: upstream, key: file === undefined ? undefined : (await readFile(file, 'utf8')).trim() }
  }
  if (opts.allowHost !== undefined) options.allowedHosts = opts.allowHost as string[]
  if (opts.account !== undefined) options.paid = await paidOptions(ctx, opts)
  const running = await startServer(options)
  let fatal: unknown
  const stopped = ctx.stopped()
  const first = await Promise.race([
    running.whenReady.then(
      () => 'ready',
      err => {
        fatal = err
        return 'failed'
      }
    ),
    stopped.then(() => 'stopped')
  ])
  if (first === 'ready') {
    const { engine, broker } = running.service
    const info = engine?.info
    const what =
      info === undefined
        ? `${running.service.upstreams!.healthy} of ${upstream!.length} servers answer`
        : `model ${info.name} ${Math.max(1, Math.round(info.fileBytes / 1e6))} MB, ${opts.device === 'cpu' ? 'cpu' : 'on'} ${info.cpu}`
    ctx.ready(
      {
        type: 'ready',
        service: 'compute',
        url: running.url,
        port: running.port,
        model: info?.name ?? null,
        model_bytes: info?.fileBytes ?? null,
        cpu: info?.cpu ?? null,
        context_length: info?.contextLength ?? null,
        admin_port: running.adminPort ?? null,
        provider: broker === undefined ? null : checksumAddress(broker.provider),
        signer: broker === undefined ? null : checksumAddress(broker.signer),
        dir: options.paid?.dir ?? null
      },
      `compute ready on ${running.url}/v1, ${what}, in ${formatDuration(performance.now() - started)}`
    )
    if (opts.host !== '127.0.0.1') ctx.log('serve').warn('open beyond this machine', { host: opts.host })
    await stopped
  }
  await running.close()
  if (first === 'failed') {
    ctx.log('serve').error('cannot serve', { error: messageOf(fatal) })
    throw fatal
  }
}

async function paidOptions(ctx: VerbContext, opts: Options): Promise<PaidOptions> {
  const dir = (opts.dir as string | undefined) ?? dataDir(ctx.network, 'compute')
  const socket = (opts.socket as string | undefined) ?? join(dir, 'admin.sock')
  const password = passwordReader(ctx, opts)
  const paid: PaidOptions = {
    dir,
    chainUrl: await findEndpoint(opts.rpcUrl as string | undefined, ctx.network, 'rpc', 'zg-compute serve'),
    account: client => findSigner(client, { account: opts.account as string, network: ctx.network, password }),
    owner: async client => {
      const named = opts.ownerAccount as string | undefined
      if (named === undefined && !(await isDevnet(client, ctx.network))) return undefined
      return findSigner(client, { account: named ?? '0', network: ctx.network, password })
    },
    prices: { inputPrice: opts.inputPrice as bigint, outputPrice: opts.outputPrice as bigint },
    stake: opts.stake as bigint,
    minLocked: opts.minLocked as bigint,
    maxChainAgeMs: opts.maxChainAge as number,
    requestsPerMinute: opts.requestsPerMinute as number,
    settleAfterMs: opts.settleAfter as number,
    settleSharePercent: opts.settleShare as number
  }
  if (Buffer.byteLength(socket) <= SOCKET_PATH_MAX) paid.socket = socket
  else ctx.log('serve').warn('no admin socket: its path is too long, name one by --socket')
  if (opts.publicUrl !== undefined) paid.publicUrl = opts.publicUrl as string
  return paid
}
