/** `zg-store indexer`: tells clients which nodes there are, and serves files over plain HTTP. */
import type { IncomingMessage } from 'node:http'
import { systemClock } from '../../../lib/adapters/clock.ts'
import { serveRpc } from '../../../lib/adapters/jsonrpc/server.ts'
import { cacheDir } from '../../../lib/adapters/paths.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { sharedSignal } from '../../../lib/clients/store/retry.ts'
import { NodePool } from '../../../lib/clients/store.ts'
import { opsRoutes } from '../../../lib/ops/http.ts'
import { createMetrics, rpcMetrics } from '../../../lib/ops/metrics.ts'
import { NodeBook } from './book.ts'
import { gatewayRoute } from './gateway.ts'
import { indexerMethods } from './rpc.ts'

const DEFAULT_NODE = 'http://127.0.0.1:5678'
const TAGS_MAX_BYTES = 4096

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
  const pool = new NodePool({ nodes: () => book.living().map(e => e.node.url) })
  const metrics = createMetrics('zg_indexer')
  metrics.gauge('nodes', 'Nodes that are configured', () => book.entries.length)
  metrics.gauge('nodes_up', 'Nodes that answer', () => book.entries.filter(e => e.up).length)
  const methods = indexerMethods(book)
  const store = opts.account === undefined ? undefined : payer(ctx, opts, pool)
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
    if (announced || !book.entries.some(e => e.up)) return
    announced = true
    const up = book.entries.filter(e => e.up).length
    ctx.ready(
      { type: 'ready', service: 'indexer', url: server.url, port: server.port, nodes: up },
      `indexer ready at ${server.url}, ${up} of ${book.entries.length} nodes`
    )
  })
  await ctx.stopped()
  stop.abort(new ZgError('ERR_STOPPED', 'stopping'))
  await Promise.all([server.close(), probing])
}

function readiness(book: NodeBook) {
  const up = book.entries.filter(e => e.up).length
  const nodes = book.entries.map(e => ({
    url: e.node.url,
    up: e.up,
    latency_ms: Math.round(e.latencyMs),
    ...(e.problem === undefined ? {} : { reason: e.problem })
  }))
  const progress = `${up} of ${nodes.length} nodes`
  if (up === 0) return { ok: false, state: 'starting', reason: 'no storage node answers', progress, nodes }
  return { ok: true, state: 'ready', progress, nodes }
}

function warnIfPublic(ctx: VerbContext, host: string): void {
  if (host === '127.0.0.1' || host === 'localhost' || host === '::1') return
  ctx.log('indexer').warn('listening beyond this machine', { host })
}

/** Stores a request's body at the expense of the gateway's account. */
function payer(ctx: VerbContext, opts: Options, pool: NodePool) {
  return async (req: IncomingMessage, url: URL): Promise<Record<string, unknown>> => {
    // Signing and hashing are loaded by the first one who needs them.
    const [{ findPayer, journalDir }, store, { FileHasher }] = await Promise.all([
      import('../verbs/common.ts'),
      import('../../../lib/clients/store.ts'),
      import('../../../lib/codec/storage/hasher.ts')
    ])
    const max = opts.putMax as number
    const announced = Number(req.headers['content-length'] ?? 0)
    if (announced > max) throw tooLarge(max)
    const tags = fromHex(url.searchParams.get('tags') ?? '0x', 'tags')
    if (tags.length > TAGS_MAX_BYTES) throw new ZgError('ERR_BAD_INPUT', `tags are longer than ${TAGS_MAX_BYTES} bytes`)
    const hasher = new FileHasher()
    // A body that stops coming must not hold its file for ever.
    // (Without a callback: the server ends a socket that timed out, and no listener stays on a kept-alive one.)
    req.setTimeout(LIMITS.httpIdleBodyMs)
    const source = await store.spool(req, process.env.TMPDIR ?? cacheDir('spool'), async part => {
      if (hasher.size + part.length > max) throw tooLarge(max)
      await hasher.push(part)
    })
    req.setTimeout(0)
    try {
      const { flow, signer } = await findPayer(ctx, opts)
      const r = await store.put(source, await hasher.finish(), {
        pool,
        flow,
        signer,
        tags,
        journalDir: journalDir(`${ctx.network}/gateway`),
        replicas: opts.expectedReplica as number,
        fewer: true
      })
      return {
        root: toHex(r.root),
        seq: r.seq,
        size: r.sizeBytes,
        txHash: r.txHash === undefined ? null : toHex(r.txHash),
        nodes: r.urls.length
      }
    } finally {
      await source.close()
    }
  }
}

function tooLarge(max: number): ZgError {
  return new ZgError('ERR_BAD_INPUT', `body is larger than ${max} bytes`)
}
