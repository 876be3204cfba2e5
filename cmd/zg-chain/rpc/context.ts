/** What every method file gets, and how block parameters become blocks. */
import { RPC, RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import type { BlockRef, Chain } from '../core/api.ts'
import { type ForkConfig, PRAGUE } from '../core/genesis.ts'
import type { BlockHeader } from '../core/types.ts'
import type { BlockParam } from './decode.ts'

/** Settings of the method table; all have defaults. */
export interface RpcOptions {
  /** Adds the development methods and opens `debug_*` to every transport. */
  dev: boolean
  /** `web3_clientVersion`. */
  clientVersion?: string
  /** Wall time in ms: the timestamp of the pending block. */
  now?: () => number
  /** Monotonic ms: filters expire by it. */
  monotonic?: () => number
  logsBlocks?: number
  logsResults?: number
  callGas?: bigint
  /** The chain's rules, for eth_config and blob fees; default Prague from block 0 on. */
  forks?: ForkConfig
  /** States kept beside the head; absent: all. */
  history?: number | undefined
}

export interface RpcSetup extends Required<Omit<RpcOptions, 'history'>> {
  readonly chain: Chain
  readonly history: number | undefined
}

export function setup(chain: Chain, opts: RpcOptions): RpcSetup {
  return {
    chain,
    dev: opts.dev,
    clientVersion: opts.clientVersion ?? 'zg-chain',
    now: opts.now ?? Date.now,
    monotonic: opts.monotonic ?? (() => performance.now()),
    logsBlocks: opts.logsBlocks ?? LIMITS.logsBlocks,
    logsResults: opts.logsResults ?? LIMITS.logsResults,
    callGas: opts.callGas ?? LIMITS.ethCallGas,
    forks: opts.forks ?? PRAGUE,
    history: opts.history
  }
}

export const LATEST: BlockParam = { tag: 'latest' }

/** The block a parameter names, or undefined when the chain has none such. */
export function findBlock(chain: Chain, at: BlockParam): BlockRef | undefined {
  if ('tag' in at) {
    if (at.tag === 'latest') return { kind: 'block', header: chain.head() }
    if (at.tag === 'pending') return { kind: 'pending', parent: chain.head() }
    return asRef(chain.header(0))
  }
  if ('number' in at) return asRef(chain.header(at.number))
  const header = chain.header(at.hash)
  if (header !== undefined && at.requireCanonical && !isCanonical(chain, header)) {
    throw new RpcError(RPC.server, 'hash is not currently canonical')
  }
  return asRef(header)
}

function asRef(header: BlockHeader | undefined): BlockRef | undefined {
  return header === undefined ? undefined : { kind: 'block', header }
}

/** False for a block that `evm_revert` took away. */
export function isCanonical(chain: Chain, header: BlockHeader): boolean {
  const same = chain.header(header.number)
  return same !== undefined && equalBytes(same.hash, header.hash)
}

/** Like findBlock, for methods that read state: an unknown block is an error, never a zero value (chain.md 9.3). */
export function needBlock(chain: Chain, at: BlockParam): BlockRef {
  const ref = findBlock(chain, at)
  if (ref === undefined) {
    throw new RpcError(RPC.server, 'hash' in at ? 'header for hash not found' : 'header not found')
  }
  return ref
}

/** The header a reference stands on. */
export function headerOf(ref: BlockRef): BlockHeader {
  return ref.kind === 'block' ? ref.header : ref.parent
}
