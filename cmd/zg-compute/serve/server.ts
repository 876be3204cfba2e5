/**
 * `zg-compute serve` as a whole: builds the adapters, owns start and stop.
 *
 * ```
 *   clients ──► public port ──► Gate ──► Slots ──► Engine ──► answers
 *                                │                   │
 *                    Mirror ◄── chain          FeeBook, SignatureStore ──► SettleLoop ──► Settler ──► chain
 * ```
 *
 * The port opens first and says 503 until everything stands; then the model loads while the chain is looked for, however long that
 * takes. Without an account there is no chain at all and the answers are free.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from '../../../lib/adapters/clock.ts'
import { systemDisk } from '../../../lib/adapters/disk.ts'
import { listenHttp } from '../../../lib/adapters/http.ts'
import { serveRpc } from '../../../lib/adapters/jsonrpc/server.ts'
import { openKv } from '../../../lib/adapters/kv.ts'
import { lockDirectory } from '../../../lib/adapters/lock.ts'
import { systemRandom } from '../../../lib/adapters/random.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { addressFromHex, toHex } from '../../../lib/base/hex.ts'
import { version } from '../../../lib/cli/version.ts'
import type { Account } from '../../../lib/clients/accounts.ts'
import { ChainClient } from '../../../lib/clients/chain.ts'
import type { Prices } from '../../../lib/codec/compute/fee.ts'
import { buildQuote, composeHash } from '../../../lib/codec/compute/quote.ts'
import { writeServiceInfo } from '../../../lib/codec/compute/service-info.ts'
import { contractAddresses } from '../../../lib/contracts/addresses.ts'
import { addressOf } from '../../../lib/crypto/secp256k1.ts'
import type { Engine } from '../../../lib/infer/types.ts'
import { opsRoutes, type Readiness } from '../../../lib/ops/http.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import { createMetrics, type Metrics } from '../../../lib/ops/metrics.ts'
import { type Clock, repeat } from '../../../lib/ports/clock.ts'
import type { Disk } from '../../../lib/ports/disk.ts'
import { Mirror } from '../chain/mirror.ts'
import { register } from '../chain/register.ts'
import { ServingChain } from '../chain/serving.ts'
import { FeeBook } from '../ledger/fee-book.ts'
import { Settler } from '../ledger/settler.ts'
import { SignatureStore } from '../ledger/signatures.ts'
import { publicHandler } from '../server/app.ts'
import { Gate } from '../server/gate.ts'
import { ModelSet } from '../server/model-set.ts'
import { VERIFIABILITY } from '../server/models.ts'
import { Pacer } from '../server/pace.ts'
import { Slots } from '../server/slots.ts'
import { Traces } from '../server/traces.ts'
import { Upstreams } from '../server/upstream.ts'
import { adminMethods } from './admin.ts'
import { engineMetrics } from './engine-metrics.ts'
import { makeCounters, type Service } from './service.ts'
import { SettleLoop } from './settle-loop.ts'
import { signerKey } from './signer-key.ts'

/** Connections of the public port: idle streams are cheap. */
export const CONNECTIONS_MAX = 4_096
/** After a rise of prices the old ones hold for so long: clients remember a service record for ten minutes. */
const OLD_PRICES_MS = 15 * 60_000
const SWEEP_MS = 600_000
const PROBE_MS = 10_000
/** For generations that were cut off at a stop to be billed. */
const LAST_BILLS_MS = 5_000

/** What makes a server a paid provider. */
export interface PaidOptions {
  /** Data directory, made when absent. */
  dir: string
  chainUrl: string
  /** The provider's account; asked again while the chain is away. */
  account: (client: ChainClient) => Promise<Account>
  /** The contract's owner, where his key is at hand. */
  owner?: (client: ChainClient) => Promise<Account | undefined>
  prices: Prices
  /** Neuron a first registration brings along. */
  stake: bigint
  /** Neuron a user must keep locked. */
  minLocked: bigint
  maxChainAgeMs: number
  requestsPerMinute: number
  settleAfterMs: number
  settleSharePercent: number
  /** How clients reach this server; default its own URL. */
  publicUrl?: string
  /** Serving contract; default that of the chain id. */
  contract?: string
  /** Unix socket of the admin methods; absent: none. */
  socket?: string
}

export interface ServeOptions {
  /** The model that is served first, and paid for; undefined: none, only servers behind this one. */
  modelPath: string | undefined
  /** A further name of it. */
  modelName?: string
  openEngine: () => Promise<Engine>
  /** Models beside it. */
  others?: {
    files: { name: string; path: string }[]
    open: (path: string) => Promise<Engine>
    memoryBytes: number
    cacheBytes: number
  }
  upstream?: { urls: string[]; key: string | undefined }
  port: number
  host: string
  allowedHosts?: string[]
  /** Requests that the engine runs at once, and that may wait for it. */
  parallel: number
  queue?: number
  /** Least time between two events of a stream; 0: an event for each token. */
  streamIntervalMs?: number
  /** Loopback port for /health, /ready and /metrics; absent: none. */
  adminPort?: number
  paid?: PaidOptions
  log: (module: string) => Logger
  clock?: Clock
  disk?: Disk
}

export interface RunningServer {
  readonly url: string
  readonly port: number
  readonly adminPort: number | undefined
  /** Resolves when requests can be served; rejects with what can never be mended by waiting. */
  readonly whenReady: Promise<void>
  readonly service: Service
  ready(): Readiness
  close(): Promise<void>
}

/** @throws {ZgError} ERR_LOCKED, ERR_PORT_IN_USE, ERR_CORRUPT, ERR_IO, ERR_DISK_FULL. */
export async function startServer(o: ServeOptions): Promise<RunningServer> {
  const clock = o.clock ?? systemClock
  const logger = o.log('serve')
  const metrics = createMetrics('zg_compute')
  const stop = new AbortController()
  const closers: (() => Promise<void> | void)[] = []
  const closeAll = async (): Promise<void> => {
    stop.abort(new ZgError('ERR_STOPPED', 'the server stops'))
    for (const close of closers.splice(0).reverse()) {
      await Promise.resolve(close()).catch(err => logger.warn('while stopping', { error: messageOf(err) }))
    }
  }
  const state: { trouble: string | undefined; fatal: unknown } = { trouble: undefined, fatal: undefined }
  const slots = new Slots(o.parallel, clock, o.queue)
  const service: Service = {
    engine: undefined,
    modelNames: [],
    modelCreated: 0,
    fingerprint: '',
    broker: undefined,
    paid: o.paid !== undefined,
    slots,
    pacer: new Pacer(clock, o.streamIntervalMs),
    traces: new Traces(systemRandom),
    running: new Set(),
    draining: false,
    clock,
    random: systemRandom,
    logger,
    counters: makeCounters(metrics),
    others:
      o.others === undefined
        ? undefined
        : new ModelSet({
            ...o.others,
            logger: o.log('models'),
            fingerprint: async path => fingerprintOf(await hashFile(path))
          }),
    upstreams:
      o.upstream === undefined ? undefined : new Upstreams({ ...o.upstream, clock, logger: o.log('upstream') }),
    metrics: () => metrics.text(),
    ready: () => readiness()
  }
  const { others, upstreams } = service
  if (others !== undefined) {
    metrics.gauge('models_open', 'models beside the first one that are open', () => others.stats().open)
    metrics.gauge('models_bytes', 'memory set aside for them', () => others.stats().bytes)
    closers.push(() => others.close())
  }
  if (upstreams !== undefined) {
    metrics.gauge('upstreams_healthy', 'servers behind this one that answer', () => upstreams.healthy)
    metrics.gauge('upstreams_running', 'requests under way there', () => upstreams.running)
    closers.push(() => upstreams.stop())
  }
  metrics.gauge('running', 'generations under way', () => slots.running)
  metrics.gauge('waiting', 'requests that wait for the engine', () => slots.waiting)
  engineMetrics(metrics, () => service.engine)
  let paid: PaidParts | undefined

  function readiness(): Readiness {
    const model = service.modelNames[0] ?? null
    const not = (name: string, reason: string): Readiness => ({ ok: false, state: name, reason, model })
    if (state.fatal !== undefined) return not('degraded', messageOf(state.fatal))
    if (service.draining) return not('degraded', 'stopping')
    if (upstreams !== undefined && o.modelPath === undefined) {
      if (upstreams.healthy === 0) return not('degraded', 'no server behind this one answers')
      return { ok: true, state: 'ready', model: String(upstreams.models()[0]?.id ?? '') }
    }
    if (service.engine === undefined) return not('starting', 'loading the model')
    if (o.paid === undefined) return { ok: true, state: 'ready', model }
    if (paid?.mirror === undefined || service.broker === undefined)
      return not(state.trouble === undefined ? 'starting' : 'degraded', state.trouble ?? 'waiting for the chain')
    if (paid.book.trouble !== undefined) return not('degraded', `fee journal: ${paid.book.trouble.message}`)
    if (paid.mirror.trouble !== undefined) return not('degraded', `chain: ${paid.mirror.trouble}`)
    if (paid.mirror.service?.teeSignerAcknowledged !== true)
      return not('degraded', "signer not acknowledged by the contract's owner")
    return { ok: true, state: 'ready', model, progress: `block ${paid.mirror.height ?? 0}` }
  }

  try {
    if (o.paid !== undefined) {
      const lock = await lockDirectory(o.paid.dir)
      closers.push(() => lock.release())
      paid = await openPaid(o.paid, { disk: o.disk ?? systemDisk, clock, logger, closers, metrics })
    }
    const http = await listenHttp({
      handler: publicHandler(service),
      port: o.port,
      host: o.host,
      connections: CONNECTIONS_MAX,
      onError: err => logger.error('a request failed inside', { error: messageOf(err) }),
      ...(o.allowedHosts === undefined ? {} : { allowedHosts: o.allowedHosts })
    })
    closers.push(async () => {
      await http.close()
      for (const run of service.running) run.abort(new ZgError('ERR_STOPPED', 'the server stops'))
      const until = clock.monotonic() + LAST_BILLS_MS
      while (service.running.size > 0 && clock.monotonic() < until) await clock.sleep(20)
    })
    let adminPort: number | undefined
    if (o.adminPort !== undefined) {
      const ops = opsRoutes({ ready: readiness, metrics })
      const admin = await listenHttp({
        port: o.adminPort,
        handler: async (req, res, url) => {
          if (await ops(req, res, url)) return
          res.writeHead(404)
          res.end()
        }
      })
      closers.push(() => admin.close())
      adminPort = admin.port
    }
    if (o.paid?.socket !== undefined && paid !== undefined) {
      const parts = paid
      const methods = adminMethods({
        settler: () => parts.settler,
        book: parts.book,
        status: () => ({ ...readiness() })
      })
      const socket = await serveRpc({
        methods,
        socketPath: o.paid.socket,
        onBug: (method, err) => logger.error('an admin call failed inside', { method, error: messageOf(err) })
      })
      closers.push(() => socket.close())
    }
    const whenReady = (async () => {
      await upstreams?.start()
      if (o.modelPath === undefined) return
      const model = await loadModel(o, o.modelPath, service, closers)
      if (o.paid !== undefined && paid !== undefined)
        await becomeProvider(o.paid, paid, model, http.url, { service, state, stop, closers, clock, log: o.log })
    })()
    whenReady.catch(err => {
      if (!stop.signal.aborted) state.fatal = err
    })
    return {
      url: http.url,
      port: http.port,
      adminPort,
      whenReady,
      service,
      ready: readiness,
      async close() {
        service.draining = true
        await closeAll()
      }
    }
  } catch (err) {
    await closeAll()
    throw err
  }
}

interface PaidParts {
  book: FeeBook
  signatures: SignatureStore
  signerKey: Uint8Array
  settler: Settler | undefined
  mirror: Mirror | undefined
}

interface Edge {
  disk: Disk
  clock: Clock
  logger: Logger
  closers: (() => Promise<void> | void)[]
  metrics: Metrics
}

/** What lies in the data directory. */
async function openPaid(o: PaidOptions, e: Edge): Promise<PaidParts> {
  const book = await FeeBook.open(e.disk, join(o.dir, 'fees', 'fees.log'))
  e.closers.push(() => book.close())
  const kv = await openKv(join(o.dir, 'signatures'), { cacheBytes: 1024 * 1024 })
  e.closers.push(() => kv.close())
  const signatures = new SignatureStore(kv)
  e.closers.push(
    repeat(e.clock, SWEEP_MS, async () => {
      await signatures.sweep(e.clock.now())
    }),
    // After trouble somebody has to try a write, or nobody would ever be served again.
    repeat(e.clock, PROBE_MS, async () => {
      if (book.trouble !== undefined) await book.probe()
    })
  )
  e.metrics.gauge('unsettled_requests', 'requests not settled yet', () => book.count)
  e.metrics.gauge('unsettled_neuron', 'fees not settled yet, as a double', () => {
    let sum = 0n
    for (const d of book.debts()) sum += d.unsettled
    return Number(sum)
  })
  e.metrics.gauge('settled_neuron_total', 'fees paid on chain, as a double', () => Number(book.totals.settledFee))
  e.metrics.gauge('journal_bytes', 'length of the fee journal', () => book.sizeBytes)
  e.metrics.gauge('journal_syncs_total', 'group commits since start', () => book.syncs)
  const key = await signerKey(e.disk, o.dir, systemRandom)
  const parts: PaidParts = { book, signatures, signerKey: key, settler: undefined, mirror: undefined }
  e.metrics.gauge('mirror_age_seconds', 'time since the mirror equalled the head', () => {
    const age = parts.mirror?.ageMs() ?? Number.POSITIVE_INFINITY
    return Number.isFinite(age) ? age / 1000 : -1
  })
  return parts
}

interface Model {
  name: string
  /** SHA-256 of the file, hex. */
  hash: string
}

async function loadModel(o: ServeOptions, path: string, s: Service, closers: Edge['closers']): Promise<Model> {
  const [engine, hash, file] = await Promise.all([o.openEngine(), hashFile(path), stat(path)])
  closers.push(() => engine.close())
  const adapters = engine.adapters ?? []
  // A request may name an adapter as its model.
  const alias = o.modelName === undefined ? [] : [o.modelName]
  s.modelNames = [...new Set([engine.info.name, ...alias, ...adapters.map(a => a.name)])]
  s.modelCreated = Math.floor(file.mtimeMs / 1000)
  const changes = await Promise.all(adapters.map(async a => ` ${await hashFile(a.path)} ${a.strength}`))
  s.fingerprint = fingerprintOf(hash, changes.join(''))
  s.engine = engine
  return { name: engine.info.name, hash }
}

/** `system_fingerprint` of a model by the hash of its file, and those of its adapters. */
function fingerprintOf(hash: string, changes = ''): string {
  return `zg-${composeHash(`${hash} ${NUMERIC}${changes}`).slice(0, 12)}`
}

/** Version of the arithmetic: same model, same number, same tokens. */
const NUMERIC = 'zg-n1'

interface Joining {
  service: Service
  state: { trouble: string | undefined }
  stop: AbortController
  closers: Edge['closers']
  clock: Clock
  log: (module: string) => Logger
}

async function becomeProvider(o: PaidOptions, parts: PaidParts, model: Model, url: string, j: Joining): Promise<void> {
  const { clock, stop, service } = j
  const logger = j.log('provider')
  const client = new ChainClient(o.chainUrl, { signal: stop.signal, timeoutMs: 15_000 })
  const signer = addressOf(parts.signerKey)
  const software = {
    name: 'zg-compute',
    version: version(),
    model: model.name,
    model_sha256: model.hash,
    numeric: NUMERIC
  }
  const quote = buildQuote(signer, software)
  const patient = <T>(what: string, work: () => Promise<T>): Promise<T> => retry(what, work, j, logger)

  const { chain, owner } = await patient('chain', async () => {
    const chainId = await client.chainId()
    const contract = addressFromHex(o.contract ?? contractAddresses(chainId).inferenceServing)
    if (!(await client.hasCode(toHex(contract)))) {
      throw new ZgError('ERR_NO_CONTRACT', `no serving contract at ${toHex(contract)} on chain ${chainId}`, {
        hint: 'check --rpc-url'
      })
    }
    const account = await o.account(client)
    await account.privateKey()
    return { chain: new ServingChain({ client, contract, account, chainId }), owner: await o.owner?.(client) }
  })
  const wanted = {
    serviceType: 'chatbot',
    url: o.publicUrl ?? url,
    model: model.name,
    verifiability: VERIFIABILITY,
    ...o.prices,
    additionalInfo: writeServiceInfo({
      imageName: 'zg-compute',
      imageDigest: composeHash(quote.tcb_info.app_compose)
    }),
    teeSigner: signer
  }
  const before = await patient('registration', () => register(chain, wanted, { stake: o.stake, owner, logger }))

  let loop: SettleLoop | undefined
  const mirror = new Mirror({ chain, clock, logger: j.log('chain'), onRefund: user => loop?.onRefund(user) })
  const settler = new Settler({
    book: parts.book,
    chain,
    signerKey: parts.signerKey,
    clock,
    random: service.random,
    logger: j.log('settlement'),
    onMoved: users => mirror.refresh(users)
  })
  // What a crash left open comes before new fees can meet it.
  if (parts.book.intents().length > 0) await patient('settlement', () => settler.reconcile())
  loop = new SettleLoop({
    book: parts.book,
    settler,
    account: user => mirror.account(user),
    clock,
    logger: j.log('settlement'),
    afterMs: o.settleAfterMs,
    sharePercent: o.settleSharePercent
  })
  const settling = loop
  j.closers.push(() => settling.stop())
  await patient('service', () => mirror.refreshService())
  const following = mirror.run(stop.signal)
  j.closers.push(() => following)
  const gate = new Gate({
    provider: chain.provider,
    accounts: mirror,
    unsettled: user => parts.book.unsettled(user),
    clock,
    minLocked: o.minLocked,
    maxAgeMs: o.maxChainAgeMs,
    requestsPerMinute: o.requestsPerMinute
  })
  const changedMs = clock.monotonic()
  parts.mirror = mirror
  parts.settler = settler
  service.broker = {
    provider: chain.provider,
    signer,
    signerKey: parts.signerKey,
    gate,
    book: parts.book,
    signatures: parts.signatures,
    prices: () =>
      before !== undefined && clock.monotonic() - changedMs < OLD_PRICES_MS ? lower(before, o.prices) : o.prices,
    quote: () => quote,
    service: () => mirror.service,
    onDebt: user => settling.onDebt(user)
  }
  // The first look at the head, so that the first request finds a fresh mirror.
  while (mirror.ageMs() > o.maxChainAgeMs && !stop.signal.aborted) await clock.sleep(20, stop.signal)
}

function lower(a: Prices, b: Prices): Prices {
  return {
    inputPrice: a.inputPrice < b.inputPrice ? a.inputPrice : b.inputPrice,
    outputPrice: a.outputPrice < b.outputPrice ? a.outputPrice : b.outputPrice
  }
}

/** What waiting may mend: the chain is not up yet, the account not funded yet. */
const PATIENT = new Set([
  'ERR_UNAVAILABLE',
  'ERR_TIMEOUT',
  'ERR_FUNDS',
  'ERR_PROTOCOL',
  'ERR_REJECTED',
  'ERR_NOT_SYNCED'
])

async function retry<T>(what: string, work: () => Promise<T>, j: Joining, logger: Logger): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      const result = await work()
      j.state.trouble = undefined
      return result
    } catch (err) {
      if (j.stop.signal.aborted || !(err instanceof ZgError) || !PATIENT.has(err.code)) throw err
      const message = `${what}: ${messageOf(err)}`
      if (j.state.trouble !== message) logger.warn('not ready yet', { what, error: messageOf(err) })
      j.state.trouble = message
      // Beside a chain that starts at the same time every moment counts; later patience is cheaper.
      await j.clock.sleep(attempt < 60 ? 100 : 5_000, j.stop.signal)
    }
  }
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const part of createReadStream(path)) hash.update(part as Buffer)
  return hash.digest('hex')
}
