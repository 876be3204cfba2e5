/** Opens a chain on the native execution client; makes it on first use. The RPC is built on what this answers. */
import { availableParallelism } from 'node:os'
import { bytesToBig, equalBytes } from '../../lib/base/bytes.ts'
import { fromHex } from '../../lib/base/hex.ts'
import { contractAddresses } from '../../lib/contracts/addresses.ts'
import { DA_SIGNERS, KEYS } from '../../lib/contracts/da-signers.ts'
import { encodeGenesis } from '../../lib/evm/genesis.ts'
import { evmAddon } from '../../lib/evm/native.ts'
import type { NativeOpenOptions } from '../../lib/evm/types.ts'
import { type Logger, silentLog } from '../../lib/ops/log.ts'
import type { Clock } from '../../lib/ports/clock.ts'
import type { Random } from '../../lib/ports/random.ts'
import type { Chain } from './core/api.ts'
import { ZgChain } from './core/chain.ts'
import { asking } from './core/failure.ts'
import type { Genesis } from './core/genesis.ts'
import { POOL_LIMITS, type PoolLimits } from './core/pool.ts'
import { removeTemporary, temporaryDirectory } from './temporary.ts'

/** What the engine keeps in memory where nobody says otherwise. */
export const DEFAULT_CACHE_BYTES = 160 * 1024 * 1024
/** Where a segment of the block log ends. */
const SEGMENT_BYTES = 256 * 1024 * 1024
/** Agency of the wrapped-token precompile (chain.md 4.3). */
const AGENCY = '0xe1a5162f99e075f8c6681ae28191ab3ac250b468'

export interface StoreOptions {
  /** Data directory; absent: a temporary one, gone when the chain is closed. */
  dir?: string | undefined
  /** False for data that nobody wants after the process: nothing is synced. Default true with a directory. */
  kept?: boolean | undefined
  genesis: Genesis
  /** Versions of the state that are kept beside the head; absent: all (archive). */
  history?: number | undefined
  /** Memory of the engine's caches together. */
  cacheBytes?: number | undefined
  poolLimits?: Partial<PoolLimits> | undefined
  /** Threads that may execute a block's transactions together; 0 or absent: as many as gain here. */
  executionThreads?: number | undefined
  /** Where a segment of the block log ends; for tests. */
  segmentBytes?: number | undefined
  /** Development verbs are allowed. */
  dev: boolean
}

export interface OpenChainOptions extends Omit<StoreOptions, 'dev'> {
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
  /** A write or sync failed and the chain has stopped: end the process. */
  onFatal?: (err: unknown) => void
}

/**
 * @returns a chain that makes no blocks before `start()`.
 * @throws {ZgError} ERR_NATIVE without the native part, ERR_WRONG_NETWORK when the directory belongs to another genesis or chain id,
 *   ERR_CORRUPT when it is damaged, ERR_LOCKED when another process has it open.
 */
export async function openChain(opts: OpenChainOptions): Promise<ZgChain> {
  const addon = evmAddon()
  const { genesis } = opts
  const log = opts.log ?? silentLog
  const dir = opts.dir ?? (await temporaryDirectory())
  const dispose = async () => {
    if (opts.dir === undefined) await removeTemporary(dir)
  }
  try {
    const native = await asking(
      addon.open(
        engineOptions({
          ...opts,
          dir,
          kept: opts.dir !== undefined && opts.kept !== false,
          dev: opts.dev !== undefined
        })
      )
    )
    const chain = new ZgChain({
      chainId: genesis.chainId,
      native,
      clock: opts.clock,
      random: opts.random,
      log,
      gasLimit: opts.gasLimit ?? genesis.gasLimit,
      coinbase: opts.coinbase ?? new Uint8Array(20),
      blockTimeMs: opts.blockTimeMs ?? 500,
      onDemand: opts.onDemand ?? false,
      dev: opts.dev,
      onFatal: opts.onFatal ?? (() => {}),
      onClosed: dispose
    })
    const { number, hash } = chain.head()
    log.info('chain opened', { height: number, head: hash, pool: native.poolCounts().pending })
    return chain
  } catch (err) {
    await dispose()
    throw err
  }
}

/** What the engine is opened with. */
export function engineOptions(o: StoreOptions & { dir: string }): NativeOpenOptions {
  const limits = { ...POOL_LIMITS, ...o.poolLimits }
  const cacheBytes = o.cacheBytes ?? DEFAULT_CACHE_BYTES
  const zg = hostPrecompiles(o.genesis)
  return {
    dir: o.dir,
    genesis: encodeGenesis(o.genesis),
    dev: o.dev,
    archive: o.history === undefined,
    history: o.history ?? 1,
    // Flat values first: they answer every read; blocks of tables and the write buffer, of which there may be two, share the rest.
    cacheBytes: Math.floor(cacheBytes * 0.6),
    blockCacheBytes: Math.floor(cacheBytes * 0.2),
    writeBufferBytes: Math.floor(cacheBytes * 0.1),
    poolCount: limits.count,
    poolBytes: limits.bytes,
    queuedPerSender: limits.queuedPerSender,
    threads: Math.min(64, availableParallelism()),
    executionThreads: o.executionThreads ?? 0,
    sync: o.kept ?? true,
    logSegmentBytes: o.segmentBytes ?? SEGMENT_BYTES,
    ...(zg === undefined ? {} : { zg })
  }
}

/** 0G's precompiles, on chains whose genesis holds the account of DASigners: code 0x01 is its mark. */
function hostPrecompiles({ chainId, alloc }: Genesis): NativeOpenOptions['zg'] {
  const at = contractAddresses(chainId)
  const address = fromHex(at.daSigners)
  const account = alloc.find(a => equalBytes(a.address, address))
  if (account === undefined || !equalBytes(account.code, Uint8Array.of(1))) return undefined
  const key = KEYS.epochBlocks()
  const epochBlocks = account.storage.find(([slot]) => equalBytes(slot, key))?.[1]
  return {
    tokensPerVote: DA_SIGNERS.tokensPerVote,
    maxVotesPerSigner: DA_SIGNERS.maxVotesPerSigner,
    maxQuorums: BigInt(DA_SIGNERS.maxQuorums),
    epochBlocks: epochBlocks === undefined ? DA_SIGNERS.epochBlocks : bytesToBig(epochBlocks),
    encodedSlices: BigInt(DA_SIGNERS.encodedSlices),
    daRegistry: fromHex(at.daRegistry),
    w0g: fromHex(at.wrappedZG),
    agency: fromHex(AGENCY)
  }
}
