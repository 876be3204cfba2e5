/** `zg-store indexer`: tells clients which nodes there are, and serves files over plain HTTP. */
import { readFile } from 'node:fs/promises'
import { systemClock } from '../../../lib/adapters/clock.ts'
import { serveRpc } from '../../../lib/adapters/jsonrpc/server.ts'
import { stateDir } from '../../../lib/adapters/paths.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { sharedSignal } from '../../../lib/clients/store/retry.ts'
import { NodePool } from '../../../lib/clients/store.ts'
import { opsRoutes } from '../../../lib/ops/http.ts'
import { createMetrics, rpcMetrics } from '../../../lib/ops/metrics.ts'
import { type Entry, NodeBook } from './book.ts'
import { runDiscovery } from './discovery.ts'
import { gatewayRoute } from './gateway.ts'
import { indexerMethods, parseLocations } from './rpc.ts'
import { type Upload, uploads } from './upload.ts'

const DEFAULT_NODE = 'http://127.0.0.1:5678'

export const indexer: VerbFn = async (ctx, _args, opts) => {
  const log = ctx.log('indexer')
  const urls = (opts.node as string[] | undefined) ?? [DEFAULT_NODE]
  const stop = new AbortController()
  sharedSignal(stop.signal)
  const all = new NodePool({ nodes: urls })
  const book = new NodeBook(
    [...new Set(urls)].map(url => all.node(url)),
    systemClock,
    log
  )
  const reading = [() => book.living(), () => book.livingDiscovered()]
  const pool = new NodePool({ nodes: () => reading.flatMap(list => list().map(e => e.node.url)) })
  // What is paid for goes to nodes that somebody chose.
  const trustedPool = new NodePool({ nodes: () => book.living().map(e => e.node.url) })
  const metrics = createMetrics('zg_indexer')
  metrics.gauge('nodes', 'Nodes that are configured', () => book.trusted.length)
  metrics.gauge('nodes_up', 'Configured nodes that answer', () => book.trusted.filter(e => e.up).length)
  metrics.gauge('nodes_discovered', 'Nodes that others told of', () => book.discovered.length)
  metrics.gauge('nodes_discovered_up', 'Those that answer', () => book.discovered.filter(e => e.up).length)
  const places = opts.locations === undefined ? {} : parseLocations(await readFile(opts.locations as string, 'utf8'))
  const methods = indexerMethods(book, places)
  const store = opts.account === undefined ? undefined : uploader(ctx, opts, trustedPool)
  const server = await serveRpc({
    methods,
    port: opts.rpcPort as number,
    host: opts.rpcHost as string,
    allowedHosts: (opts.allowHost as string[] | undefined) ?? [],
    cors: 'any',
    routes: [
      opsRoutes({ ready: () => readiness(book), metrics }),
      gatewayRoute({
        book,
        pool,
        ...(store === undefined ? {} : { store }),
        onError: err => log.error('request failed', { error: err })
      })
    ],
    onCall: rpcMetrics(metrics, Object.keys(methods)),
    onBug: (method, err) => log.error('method failed', { method, error: err })
  })
  warnIfPublic(ctx, opts.rpcHost as string)
  let announced = false
  const probing = book.run(stop.signal, () => {
    if (announced || !book.trusted.some(e => e.up)) return
    announced = true
    const up = book.trusted.filter(e => e.up).length
    ctx.ready(
      { type: 'ready', service: 'indexer', url: server.url, port: server.port, nodes: up },
      `indexer ready at ${server.url}, ${up} of ${book.trusted.length} nodes`
    )
  })
  const discovering =
    opts.discover === false
      ? Promise.resolve()
      : runDiscovery(
          { book, pool: all, clock: systemClock, log, adminUrl: opts.discoveryAdmin as string | undefined },
          stop.signal
        )
  await ctx.stopped()
  stop.abort(new ZgError('ERR_STOPPED', 'stopping'))
  await Promise.all([server.close(), probing, discovering])
}

function readiness(book: NodeBook) {
  const up = book.trusted.filter(e => e.up).length
  const nodes = book.entries.map(nodeHealth)
  const progress = `${up} of ${book.trusted.length} nodes`
  if (up === 0) return { ok: false, state: 'starting', reason: 'no storage node answers', progress, nodes }
  return { ok: true, state: 'ready', progress, nodes }
}

function warnIfPublic(ctx: VerbContext, host: string): void {
  if (host === '127.0.0.1' || host === 'localhost' || host === '::1') return
  ctx.log('indexer').warn('listening beyond this machine', { host })
}

/** Uploads at the expense of the gateway's account; signing is loaded by the first one. */
function uploader(ctx: VerbContext, opts: Options, pool: NodePool): Upload {
  return uploads({
    pool,
    maxBytes: opts.putMax as number,
    replicas: opts.expectedReplica as number,
    journalDir: stateDir(`${ctx.network}/gateway`, 'put'),
    payer: async () => (await import('../verbs/common.ts')).findPayer(ctx, opts)
  })
}

/** Fields of the health page that tell of one node. */
function nodeHealth(e: Entry): Record<string, unknown> {
  return {
    url: e.node.url,
    trusted: e.trusted,
    up: e.up,
    latency_ms: Math.round(e.latencyMs),
    success: Math.round(e.success * 100) / 100,
    ...(e.problem === undefined ? {} : { reason: e.problem })
  }
}
