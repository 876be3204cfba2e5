/** `debug_getRaw*`: blocks, headers and receipts as bytes. */
import { RPC, RpcError, type RpcMethod, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { encodeHeader } from '../core/block.ts'
import { encodeReceipt } from '../core/receipts.ts'
import { needReceipts, needWholeBlock } from './blocks.ts'
import type { RpcSetup } from './context.ts'
import { arg, asBlock } from './decode.ts'

export function debugMethods(s: RpcSetup): RpcMethods {
  return {
    debug_getRawHeader: async params => {
      const block = await needWholeBlock(s, arg(params, 0, 'block', asBlock))
      return toHex(encodeHeader(block.header))
    },
    debug_getRawBlock: async params => toHex((await needWholeBlock(s, arg(params, 0, 'block', asBlock))).raw),
    debug_getRawReceipts: async params => {
      const block = await needWholeBlock(s, arg(params, 0, 'block', asBlock))
      return (await needReceipts(s, block.header)).map(r => toHex(encodeReceipt(r)))
    },
    // Blocks are made here, so a bad one is a bug that stops the node, never a record.
    debug_getBadBlocks: () => []
  }
}

/** `debug_*` belongs to the operator: the Unix socket always, other transports on a development network only. */
export function operatorOnly(name: string, method: RpcMethod): RpcMethod {
  return (params, ctx) => {
    if (ctx.transport !== 'unix') {
      throw new RpcError(RPC.method, `the method ${name} does not exist/is not available over ${ctx.transport}`)
    }
    return method(params, ctx)
  }
}
