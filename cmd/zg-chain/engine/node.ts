/**
 * `zg-chain node --engine-url`: consensus here, execution in another client (reth, geth, or `zg-chain engine`). The node's JSON-RPC is that
 * client's: calls for the chain are passed on behind the token, so that users need not reach the other port.
 */
import { systemClock } from '../../../lib/adapters/clock.ts'
import { serveRpc } from '../../../lib/adapters/jsonrpc/server.ts'
import { JsonText, RpcError, type RpcMethods, type RpcServer } from '../../../lib/adapters/jsonrpc/types.ts'
import { namePortOwner } from '../../../lib/adapters/port-owner.ts'
import { systemRandom } from '../../../lib/adapters/random.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { formatCount, formatDuration } from '../../../lib/base/units.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { version } from '../../../lib/cli/version.ts'
import { opsRoutes } from '../../../lib/ops/http.ts'
import { createMetrics, rpcMetrics } from '../../../lib/ops/metrics.ts'
import { EngineClient } from './client.ts'
import { type ConsensusState, runConsensus } from './consensus.ts'
import { jwtSecret } from './jwt.ts'

/** Without a block for so long something is wrong, at least. */
const STALL_MS = 10_000
const MISSED_BEATS = 10

/** Read and send; nothing that steers, signs or subscribes. */
const PASSED_ON = [
  ...['clientVersion', 'sha3'].map(m => `web3_${m}`),
  ...['version', 'listening', 'peerCount'].map(m => `net_${m}`),
  ...['status', 'content', 'contentFrom', 'inspect'].map(m => `txpool_${m}`),
  ...[
    'chainId syncing blockNumber protocolVersion accounts coinbase mining hashrate config capabilities',
    'getBlockByNumber getBlockByHash getBlockTransactionCountByNumber getBlockTransactionCountByHash getUncleCountByBlockNumber',
    'getUncleCountByBlockHash getUncleByBlockNumberAndIndex getUncleByBlockHashAndIndex getBlockReceipts getHeaderByNumber getHeaderByHash',
    'getBalance getCode getStorageAt getStorageValues getTransactionCount getProof',
    'sendRawTransaction sendRawTransactionSync getTransactionByHash getTransactionByBlockHashAndIndex getTransactionByBlockNumberAndIndex',
    'getRawTransactionByHash getRawTransactionByBlockHashAndIndex getRawTransactionByBlockNumberAndIndex getTransactionReceipt',
    'getTransactionBySenderAndNonce fillTransaction',
    'call estimateGas createAccessList simulateV1 callMany gasPrice maxPriorityFeePerGas feeHistory blobBaseFee baseFee',
    'getLogs newFilter newBlockFilter newPendingTransactionFilter getFilterChanges getFilterLogs uninstallFilter'
  ].flatMap(line => line.split(' ').map(m => `eth_${m}`))
]

export const externalNode: VerbFn = async (ctx, _args, opts) => {
  const log = ctx.log('node')
  for (const name of ['dev', 'inMemory', 'showKeys'])
    if (opts[name] === true)
      throw new ZgError('ERR_USAGE', "'--engine-url' goes without '--dev': the state is the other client's")
  const secretFile = opts.jwtSecret as string | undefined
  if (secretFile === undefined) {
    throw new ZgError('ERR_USAGE', "'--engine-url' needs '--jwt-secret'", {
      hint: "give the file that the execution client was started with; 'zg-chain engine' prints its path"
    })
  }
  const blockTimeMs = opts.blockTime as number
  if (blockTimeMs === 0)
    throw new ZgError('ERR_USAGE', "an execution client elsewhere does not tell of transactions: give a '--block-time'")
  const stop = new AbortController()
  const client = new EngineClient(opts.engineUrl as string, await jwtSecret(secretFile, false), { signal: stop.signal })
  const { name } = await client.introduce(version())
  const [head, chainId] = await Promise.all([client.head(), client.call<string>('eth_chainId')])
  const state: ConsensusState = {
    height: Number(head.number),
    head: head.hash,
    lastBlockMs: undefined,
    trouble: undefined
  }
  log.info('execution client found', { name, height: state.height, chainId: Number(chainId) })

  const methods: RpcMethods = Object.create(null)
  for (const method of PASSED_ON)
    methods[method] = async params => new JsonText(JSON.stringify(await client.call(method, params).catch(passed)))
  const metrics = createMetrics('zg_chain')
  metrics.gauge('head_block', 'Height of the newest block', () => state.height)
  const started = systemClock.now()
  const ready = () => {
    const silentMs = systemClock.now() - (state.lastBlockMs ?? started)
    const stalled = silentMs > Math.max(STALL_MS, MISSED_BEATS * blockTimeMs)
    return {
      ok: !stalled && state.trouble === undefined,
      state: stalled ? 'stalled' : state.trouble === undefined ? 'ready' : 'degraded',
      ...(state.trouble === undefined ? {} : { reason: state.trouble }),
      progress: `block ${formatCount(state.height)}`,
      busy: true,
      blockNumber: state.height,
      chainId: Number(chainId)
    }
  }
  const port = opts.rpcPort as number
  let server: RpcServer | undefined
  try {
    server = await serveRpc({
      methods,
      port,
      host: opts.rpcHost as string,
      fast: true,
      allowedHosts: (opts.allowHost as string[] | undefined) ?? [],
      routes: [opsRoutes({ ready, metrics })],
      onCall: rpcMetrics(metrics, PASSED_ON),
      onBug: (method, err) => log.error('a method failed', { method, reason: messageOf(err) })
    }).catch(async err => {
      throw await namePortOwner(err, port, 'zg-chain node --rpc-port 0')
    })
    ctx.ready(
      {
        type: 'ready',
        service: 'chain',
        url: server.url,
        port: server.port,
        pid: process.pid,
        chainId: Number(chainId),
        engine_url: client.url,
        engine: name,
        block_time_ms: blockTimeMs,
        data_dir: null
      },
      `ready ${server.url}  id ${Number(chainId)}, block every ${formatDuration(blockTimeMs)}, executed by ${name} at ${client.url}`
    )
    const running = runConsensus(
      {
        client,
        clock: systemClock,
        random: systemRandom,
        log,
        blockTimeMs,
        feeRecipient: new Uint8Array(20),
        onBlock: block => log.debug('block', block)
      },
      state,
      stop.signal
    )
    await Promise.race([ctx.stopped(), running])
    stop.abort()
    await running.catch(() => undefined)
    log.info('stopping', { height: state.height })
  } finally {
    stop.abort()
    await server?.close()
  }
}

/** The other client's refusal is the answer; that it is away is one too. */
function passed(err: unknown): never {
  if (err instanceof RpcError) throw err
  throw new RpcError(-32002, messageOf(err))
}
