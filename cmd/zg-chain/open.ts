/** Opens a chain: its stores, its engine, its head; makes them on first use. The RPC is built on what this answers. */
import { ZgError } from '../../lib/base/errors.ts'
import { toHex } from '../../lib/base/hex.ts'
import { type Logger, silentLog } from '../../lib/ops/log.ts'
import type { Clock } from '../../lib/ports/clock.ts'
import type { Disk } from '../../lib/ports/disk.ts'
import type { KvStore } from '../../lib/ports/kv.ts'
import type { Random } from '../../lib/ports/random.ts'
import type { Chain } from './core/api.ts'
import { ZgChain } from './core/chain.ts'
import { type Genesis, genesisBlock } from './core/genesis.ts'
import type { PoolLimits } from './core/pool.ts'
import { openEthereumjs } from './engine-ethereumjs/engine.ts'
import { ChainStore } from './store/chain-store.ts'
import { memoryDisk, memoryKv } from './store/memory.ts'
import { openPoolJournal } from './store/pool-journal.ts'

export interface OpenChainOptions {
  /** Data directory; absent: the chain lives in memory and `disk` and `openKv` are not used. */
  dir?: string
  disk?: Disk
  openKv?: (path: string) => Promise<KvStore>
  genesis: Genesis
  clock: Clock
  random: Random
  log?: Logger
  /** Interval of blocks in ms, empty ones too; default 500; 0: none. */
  blockTimeMs?: number
  /** A block as soon as a transaction is executable; default false. */
  onDemand?: boolean
  /** Gas limit to steer to; default the genesis's. */
  gasLimit?: bigint
  /** Receives the tips; default the zero address. */
  coinbase?: Uint8Array
  /** Development verbs and accounts. */
  dev?: { accounts: Chain['devAccounts'] } | undefined
  poolLimits?: Partial<PoolLimits>
  /** Bound of the engine's cache of trie nodes. */
  stateCacheBytes?: number
  /** Where a segment of the block log ends; for tests. */
  segmentBytes?: number
  /** A write or sync failed and the chain has stopped: end the process. */
  onFatal?: (err: unknown) => void
}

/**
 * @returns a chain that makes no blocks before `start()`.
 * @throws {ZgError} ERR_WRONG_NETWORK when the directory belongs to another genesis or chain id, ERR_CORRUPT when it is damaged,
 *   ERR_LOCKED when another process has it open.
 */
export async function openChain(opts: OpenChainOptions): Promise<ZgChain> {
  const { genesis } = opts
  const { chainId } = genesis
  const dir = opts.dir ?? '/chain'
  const disk = opts.dir === undefined ? memoryDisk() : required(opts.disk, 'disk')
  const openKv = opts.dir === undefined ? async () => memoryKv() : required(opts.openKv, 'openKv')
  const log = opts.log ?? silentLog

  // Opened in this order, closed in the other one, on errors too.
  const closers: (() => Promise<void>)[] = []
  try {
    await disk.mkdir(dir)
    const index = await openKv(`${dir}/index`)
    closers.push(() => index.close())
    const state = await openKv(`${dir}/state`)
    closers.push(() => state.close())
    const store = await ChainStore.open({
      disk,
      kv: index,
      dir: `${dir}/blocks`,
      chainId,
      ...(opts.segmentBytes === undefined ? {} : { segmentBytes: opts.segmentBytes })
    })
    closers.push(() => store.closeLog())
    const engine = openEthereumjs({
      chainId,
      kv: state,
      clock: opts.clock,
      blockHash: number => store.hashOf(number),
      ...(opts.stateCacheBytes === undefined ? {} : { cacheBytes: opts.stateCacheBytes })
    })
    const first = genesisBlock(genesis, await engine.genesis(genesis.alloc))
    await store.checkNetwork(first.header.hash)
    if (store.head === undefined) {
      await store.append(first, [])
      log.info('chain made', { chainId, genesis: first.header.hash })
    }
    const { height, devRoot } = store.head!
    const head = (await store.byNumber(height))!.block.header
    for (const root of [head.stateRoot, ...(devRoot === undefined ? [] : [devRoot])]) {
      if (await engine.hasState(root)) continue
      throw new ZgError('ERR_CORRUPT', `the state ${toHex(root)} of block ${height} is missing`, {
        hint: 'restore the data directory from a copy, or make the chain anew'
      })
    }
    const { journal, entries } = await openPoolJournal(disk, `${dir}/pool.journal`)
    closers.push(() => journal.close())
    const chain = new ZgChain({
      chainId,
      store,
      engine,
      journal,
      clock: opts.clock,
      random: opts.random,
      log,
      genesis: first.header,
      head,
      gasLimit: opts.gasLimit ?? genesis.gasLimit,
      coinbase: opts.coinbase ?? new Uint8Array(20),
      blockTimeMs: opts.blockTimeMs ?? 500,
      onDemand: opts.onDemand ?? false,
      dev: opts.dev,
      poolLimits: opts.poolLimits,
      onFatal: opts.onFatal ?? (() => {})
    })
    for (const entry of entries) await chain.pool.restore(entry)
    log.info('chain opened', { height, head: head.hash, pool: chain.pool.all().length })
    return chain
  } catch (err) {
    for (const close of closers.reverse()) await close().catch(() => undefined)
    throw err
  }
}

function required<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new ZgError('ERR_BUG', `a chain with a directory needs '${name}'`)
  return value
}
