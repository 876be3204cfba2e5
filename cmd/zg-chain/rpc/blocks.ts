/** Blocks, headers, their counts and receipts. Look-ups answer null for what does not exist. */
import { jsonList } from '../../../lib/adapters/jsonrpc/json-list.ts'
import { JsonText, RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { toQuantity } from '../../../lib/base/hex.ts'
import type { BlockRef } from '../core/api.ts'
import { encodeHeader as encodeRawHeader } from '../core/block.ts'
import type { Block, BlockHeader, Receipt } from '../core/types.ts'
import { findBlock, type RpcSetup } from './context.ts'
import { arg, asBlock, asBlockNumber, asBoolean, asHash, asNumber, type BlockParam, optional } from './decode.ts'
import { encodeBlock, encodeHeader, encodePendingBlock, encodeReceipt, encodeUncle } from './encode.ts'
import { blobFeeOf } from './rules.ts'

export function blockMethods(s: RpcSetup): RpcMethods {
  const { chain } = s

  async function blockAt(at: BlockParam): Promise<Block | 'pending' | undefined> {
    const ref = findBlock(chain, at)
    if (ref === undefined) return undefined
    return ref.kind === 'pending' ? 'pending' : chain.blockByHash(ref.header.hash)
  }

  const byHash = (hash: Uint8Array): BlockParam => ({ hash, requireCanonical: false })

  function pendingBlock(full: boolean): Record<string, unknown> {
    const parent = chain.head()
    return encodePendingBlock(
      parent,
      {
        baseFee: chain.nextBaseFee(),
        gasLimit: chain.nextGasLimit(),
        timestamp: Math.max(parent.timestamp, Math.floor(s.now() / 1000)),
        transactions: chain.pool.content().pending
      },
      full
    )
  }

  async function getBlock(at: BlockParam, full: boolean): Promise<unknown> {
    const block = await blockAt(at)
    if (block === 'pending') return pendingBlock(full)
    if (block === undefined) return null
    return encodeBlock(block, full, full ? undefined : await chain.transactionHashes(block.header))
  }

  async function count(at: BlockParam): Promise<unknown> {
    const block = await blockAt(at)
    if (block === undefined) return null
    return toQuantity(block === 'pending' ? chain.pool.counts().pending : block.transactions.length)
  }

  async function header(at: BlockParam): Promise<unknown> {
    const ref: BlockRef | undefined = findBlock(chain, at)
    if (ref === undefined) return null
    if (ref.kind === 'block') return encodeHeader(ref.header)
    const { transactions, uncles, withdrawals, size, ...head } = pendingBlock(false)
    return head
  }

  async function uncleCount(at: BlockParam): Promise<unknown> {
    const block = await blockAt(at)
    if (block === undefined) return null
    return toQuantity(block === 'pending' ? 0 : block.ommers.length)
  }

  async function uncle(at: BlockParam, index: number): Promise<unknown> {
    const block = await blockAt(at)
    const header = block === undefined || block === 'pending' ? undefined : block.ommers[index]
    return header === undefined ? null : encodeUncle(header, encodeRawHeader(header).length)
  }

  return {
    eth_blockNumber: () => toQuantity(chain.head().number),
    eth_getBlockByNumber: params =>
      getBlock(arg(params, 0, 'block', asBlockNumber), optional(params, 1, 'full', asBoolean) ?? false),
    eth_getBlockByHash: params =>
      getBlock(byHash(arg(params, 0, 'blockHash', asHash)), optional(params, 1, 'full', asBoolean) ?? false),
    eth_getHeaderByNumber: params => header(arg(params, 0, 'block', asBlockNumber)),
    eth_getHeaderByHash: params => header(byHash(arg(params, 0, 'blockHash', asHash))),
    eth_getBlockTransactionCountByNumber: params => count(arg(params, 0, 'block', asBlockNumber)),
    eth_getBlockTransactionCountByHash: params => count(byHash(arg(params, 0, 'blockHash', asHash))),
    eth_getUncleCountByBlockNumber: params => uncleCount(arg(params, 0, 'block', asBlockNumber)),
    eth_getUncleCountByBlockHash: params => uncleCount(byHash(arg(params, 0, 'blockHash', asHash))),
    eth_getUncleByBlockNumberAndIndex: params =>
      uncle(arg(params, 0, 'block', asBlockNumber), arg(params, 1, 'index', asNumber)),
    eth_getUncleByBlockHashAndIndex: params =>
      uncle(byHash(arg(params, 0, 'blockHash', asHash)), arg(params, 1, 'index', asNumber)),
    eth_getBlockReceipts: async params => {
      const block = await blockAt(arg(params, 0, 'block', asBlock))
      if (block === undefined) return null
      if (block === 'pending') return []
      const receipts = await needReceipts(s, block.header)
      const fee = blobFeeOf(s.forks, block.header)
      return new JsonText(await jsonList(receipts.length, i => encodeReceipt(block, receipts, i, fee)))
    }
  }
}

/** The receipts of a block that was there a moment ago. */
export async function needReceipts(s: RpcSetup, header: BlockHeader): Promise<Receipt[]> {
  const receipts = await s.chain.receipts(header.hash)
  // Only evm_revert takes a block away between two looks at it.
  if (receipts === undefined) throw new RpcError(RPC.server, 'block not found')
  return receipts
}

/** The block a method cannot do without. */
export async function needWholeBlock(s: RpcSetup, at: BlockParam): Promise<Block> {
  const ref = findBlock(s.chain, at)
  const block = ref?.kind === 'block' ? await s.chain.blockByHash(ref.header.hash) : undefined
  if (block === undefined) throw new RpcError(RPC.server, 'block not found')
  return block
}
