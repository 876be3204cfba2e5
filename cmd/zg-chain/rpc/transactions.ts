/** Sending transactions and reading them back, from the pool or from blocks. */
import { RPC, type RpcContext, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { PoolRefusal } from '../core/api.ts'
import type { Block, Transaction } from '../core/types.ts'
import { needReceipts } from './blocks.ts'
import { findBlock, type RpcSetup } from './context.ts'
import {
  arg,
  asAddress,
  asBlockNumber,
  asBytes,
  asHash,
  asLooseNumber,
  asNumber,
  asUint64,
  type BlockParam,
  optional
} from './decode.ts'
import { encodeReceipt, encodeTransaction, placeOf } from './encode.ts'
import { blobFeeOf } from './rules.ts'

/** How long eth_sendRawTransactionSync waits when the caller names no time, and at most (EIP-7966). */
const SYNC_DEFAULT_MS = 20_000
const SYNC_MAX_MS = 60_000
/** EIP-7966: in the pool, not yet in a block; `data` is the hash. */
const SYNC_TIMEOUT = 4

export function transactionMethods(s: RpcSetup): RpcMethods {
  const { chain } = s

  /** A mined transaction with its block. */
  async function mined(hash: Uint8Array): Promise<{ block: Block; index: number } | undefined> {
    const place = await chain.locate(hash)
    if (place === undefined) return undefined
    const block = await chain.blockByHash(place.blockHash)
    return block === undefined ? undefined : { block, index: place.index }
  }

  async function inBlock(at: BlockParam, index: number): Promise<[Transaction, Block | undefined] | undefined> {
    const ref = findBlock(chain, at)
    if (ref === undefined) return undefined
    if (ref.kind === 'pending') {
      const tx = chain.pool.content().pending[index]
      return tx === undefined ? undefined : [tx, undefined]
    }
    const block = await chain.blockByHash(ref.header.hash)
    const tx = block?.transactions[index]
    return tx === undefined ? undefined : [tx, block]
  }

  async function byIndex(at: BlockParam, index: number): Promise<unknown> {
    const found = await inBlock(at, index)
    if (found === undefined) return null
    const [tx, block] = found
    return encodeTransaction(tx, block && placeOf(block.header, index))
  }

  async function rawByIndex(at: BlockParam, index: number): Promise<unknown> {
    const found = await inBlock(at, index)
    return found === undefined ? null : toHex(found[0].raw)
  }

  async function receipt(hash: Uint8Array): Promise<Record<string, unknown> | null> {
    const found = await mined(hash)
    if (found === undefined) return null
    const { header } = found.block
    return encodeReceipt(found.block, await needReceipts(s, header), found.index, blobFeeOf(s.forks, header))
  }

  const hashed = (hash: Uint8Array): BlockParam => ({ hash, requireCanonical: false })

  return {
    eth_sendRawTransaction: params => submit(s, arg(params, 0, 'transaction', asBytes)).then(toHex),

    eth_sendRawTransactionSync: async (params, ctx) => {
      const raw = arg(params, 0, 'transaction', asBytes)
      const timeoutMs = Math.min(optional(params, 1, 'timeout', asLooseNumber) ?? SYNC_DEFAULT_MS, SYNC_MAX_MS)
      const hash = await submit(s, raw)
      return waitForReceipt(s, ctx, hash, timeoutMs, () => receipt(hash))
    },

    eth_getTransactionByHash: async params => {
      const hash = arg(params, 0, 'hash', asHash)
      // The pool is asked on both sides of the index: a transaction that moves from one to the other is always seen.
      const waiting = chain.pool.get(hash)
      const found = await mined(hash)
      if (found !== undefined) {
        return encodeTransaction(found.block.transactions[found.index]!, placeOf(found.block.header, found.index))
      }
      const tx = waiting ?? chain.pool.get(hash)
      return tx === undefined ? null : encodeTransaction(tx)
    },
    eth_getRawTransactionByHash: params => rawByHash(arg(params, 0, 'hash', asHash)),
    eth_getTransactionByBlockHashAndIndex: params =>
      byIndex(hashed(arg(params, 0, 'blockHash', asHash)), arg(params, 1, 'index', asNumber)),
    eth_getTransactionByBlockNumberAndIndex: params =>
      byIndex(arg(params, 0, 'block', asBlockNumber), arg(params, 1, 'index', asNumber)),
    eth_getRawTransactionByBlockHashAndIndex: params =>
      rawByIndex(hashed(arg(params, 0, 'blockHash', asHash)), arg(params, 1, 'index', asNumber)),
    eth_getRawTransactionByBlockNumberAndIndex: params =>
      rawByIndex(arg(params, 0, 'block', asBlockNumber), arg(params, 1, 'index', asNumber)),
    eth_getTransactionBySenderAndNonce: async params => {
      const sender = arg(params, 0, 'sender', asAddress)
      const nonce = arg(params, 1, 'nonce', asUint64)
      const { pending, queued } = chain.pool.content(sender)
      const waiting = [...pending, ...queued].find(tx => tx.nonce === nonce)
      const hash = chain.bySenderAndNonce(sender, nonce)
      const found = hash === undefined ? undefined : await mined(hash)
      if (found !== undefined) {
        return encodeTransaction(found.block.transactions[found.index]!, placeOf(found.block.header, found.index))
      }
      return waiting === undefined ? null : encodeTransaction(waiting)
    },
    eth_getTransactionReceipt: params => receipt(arg(params, 0, 'hash', asHash)),
    debug_getRawTransaction: async params => (await rawByHash(arg(params, 0, 'hash', asHash))) ?? '0x'
  }

  async function rawByHash(hash: Uint8Array): Promise<string | null> {
    const waiting = chain.pool.get(hash)
    const found = await mined(hash)
    const tx = found?.block.transactions[found.index] ?? waiting ?? chain.pool.get(hash)
    return tx === undefined ? null : toHex(tx.raw)
  }
}

/** Puts a raw transaction into the pool; a refusal reaches the caller in the pool's words. */
export async function submit(s: RpcSetup, raw: Uint8Array): Promise<Uint8Array> {
  return refusals(() => s.chain.pool.add(raw))
}

/** Runs a pool operation and turns its refusals into −32000 (chain.md 9.1). */
export async function refusals<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (err) {
    if (err instanceof PoolRefusal) throw new RpcError(RPC.server, err.message)
    if (err instanceof ZgError && err.code === 'ERR_BAD_INPUT') throw new RpcError(RPC.server, err.message)
    throw err
  }
}

/** Resolves with the receipt once a block holds the transaction; −32000-like code 4 with the hash after `timeoutMs`. */
function waitForReceipt(
  s: RpcSetup,
  ctx: RpcContext,
  hash: Uint8Array,
  timeoutMs: number,
  receipt: () => Promise<Record<string, unknown> | null>
): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const late = () => {
      finish()
      reject(
        new RpcError(
          SYNC_TIMEOUT,
          `the transaction was added to the mempool but wasn't processed in ${timeoutMs} ms`,
          toHex(hash)
        )
      )
    }
    const look = () => {
      receipt().then(
        found => {
          if (found === null) return
          finish()
          resolve(found)
        },
        err => {
          finish()
          reject(err)
        }
      )
    }
    const timer = setTimeout(late, timeoutMs)
    const off = s.chain.onBlock(look)
    ctx.signal.addEventListener('abort', late, { once: true })
    function finish(): void {
      clearTimeout(timer)
      off()
      ctx.signal.removeEventListener('abort', late)
    }
    look()
  })
}
