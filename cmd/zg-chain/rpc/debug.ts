/** `debug_*`: blocks and receipts as bytes, traces, ranges of the state. */
import { JsonText, RPC, RpcError, type RpcMethod, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { encodeHeader } from '../core/block.ts'
import { asking } from '../core/failure.ts'
import { encodeReceipt } from '../core/receipts.ts'
import { decodeAccountRange, decodeStorageRange } from '../core/records.ts'
import { needReceipts, needWholeBlock } from './blocks.ts'
import { callGas, prepare, readBlockOverride, readCall, readStateOverrides } from './call.ts'
import { findBlock, LATEST, needBlock, type RpcSetup } from './context.ts'
import {
  arg,
  asAddress,
  asBlock,
  asBlockNumber,
  asBoolean,
  asBytes,
  asHash,
  asLooseNumber,
  asObject,
  type BlockParam,
  field,
  optional
} from './decode.ts'
import { readTraceOptions, type TraceOptions } from './tracer.ts'

/** Entries of one answer about ranges of the state. */
const MAX_RANGE = 256

export function debugMethods(s: RpcSetup): RpcMethods {
  const { chain } = s
  const asCall = readCall(s)

  async function traceBlock(at: BlockParam, options: TraceOptions, words: string): Promise<JsonText> {
    const ref = findBlock(chain, at)
    if (ref === undefined || ref.kind === 'pending') throw new RpcError(RPC.server, words)
    return traced(chain.traceBlock(ref.header.number, undefined, options.tracer, options.timeoutMs))
  }

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
    debug_getBadBlocks: () => [],

    debug_traceTransaction: async params => {
      const hash = arg(params, 0, 'hash', asHash)
      const { tracer, timeoutMs } = readTraceOptions(params[1], 'options')
      const place = await chain.locate(hash)
      if (place === undefined) throw new RpcError(RPC.server, 'transaction not found')
      return traced(chain.traceBlock(place.blockNumber, place.index, tracer, timeoutMs))
    },
    debug_traceBlockByNumber: params => {
      const at = arg(params, 0, 'block', asBlockNumber)
      const words = 'number' in at ? `block #${at.number} not found` : 'block not found'
      return traceBlock(at, readTraceOptions(params[1], 'options'), words)
    },
    debug_traceBlockByHash: params => {
      const hash = arg(params, 0, 'blockHash', asHash)
      return traceBlock(
        { hash, requireCanonical: false },
        readTraceOptions(params[1], 'options'),
        `block ${toHex(hash)} not found`
      )
    },
    debug_traceBlock: params => {
      const raw = arg(params, 0, 'block', asBytes)
      const { tracer, timeoutMs } = readTraceOptions(params[1], 'options')
      return traced(chain.traceRaw(raw, tracer, timeoutMs))
    },
    debug_traceCall: async params => {
      const args = arg(params, 0, 'transaction', asCall)
      const at = needBlock(chain, optional(params, 1, 'block', asBlock) ?? LATEST)
      const { tracer, timeoutMs } = readTraceOptions(params[2], 'options')
      const o = params[2] === undefined || params[2] === null ? {} : asObject(params[2], 'options')
      const stateOverrides = field(o, 'stateOverrides', 'options', readStateOverrides)
      const blockOverride = field(o, 'blockOverrides', 'options', readBlockOverride)
      const gas = callGas(s, args)
      const overrides = {
        ...(stateOverrides === undefined ? {} : { stateOverrides }),
        ...(blockOverride === undefined ? {} : { blockOverride })
      }
      const call = prepare(s, args, at, overrides, { gas, checkGas: true })
      const { trace, error } = await chain.call({ ...call.request, gas }, at, { ...call.overrides, tracer, timeoutMs })
      // Without text there was no room or no time for it.
      if (trace !== undefined && trace !== '') return new JsonText(trace)
      throw new RpcError(
        RPC.server,
        `tracing failed: ${error?.kind === 'refused' ? error.text : 'it is too large, or its time was over'}`
      )
    },

    debug_accountRange: async params => {
      const ref = needBlock(chain, optional(params, 0, 'block', asBlock) ?? LATEST)
      const start = optional(params, 1, 'start', startKey) ?? new Uint8Array(32)
      const limit = Math.min(optional(params, 2, 'maxResults', asLooseNumber) ?? MAX_RANGE, MAX_RANGE)
      const noCode = optional(params, 3, 'nocode', asBoolean) ?? false
      const { accounts, next } = decodeAccountRange(
        await asking(chain.native.accountRange(start, limit, chain.at(ref)))
      )
      const state = chain.state(ref)
      const { header } = ref.kind === 'block' ? ref : { header: ref.parent }
      return {
        root: toHex(header.stateRoot).slice(2),
        accounts: Object.fromEntries(
          accounts.map(a => [
            a.address === undefined ? `pre(${toHex(a.hash)})` : toHex(a.address),
            {
              balance: a.balance.toString(),
              nonce: Number(a.nonce),
              root: toHex(a.storageRoot),
              codeHash: toHex(a.codeHash),
              ...(noCode || a.address === undefined ? {} : { code: toHex(state.now.code(a.address)) }),
              ...(a.address === undefined ? {} : { address: toHex(a.address) }),
              key: toHex(a.hash)
            }
          ])
        ),
        ...(next === undefined ? {} : { next: Buffer.from(next).toString('base64') })
      }
    },
    debug_storageRangeAt: async params => {
      const hash = arg(params, 0, 'blockHash', asHash)
      const index = arg(params, 1, 'txIndex', asLooseNumber)
      const address = arg(params, 2, 'address', asAddress)
      const start = optional(params, 3, 'keyStart', startKey) ?? new Uint8Array(32)
      const limit = Math.min(optional(params, 4, 'maxResult', asLooseNumber) ?? MAX_RANGE, MAX_RANGE)
      const block = await needWholeBlock(s, { hash, requireCanonical: false })
      // The state before the transaction: the parent's, and what those in front of it have done; behind the last one the block's own.
      const inside = index < block.transactions.length && block.header.number > 0
      const range = inside
        ? chain.native.storageRange(address, start, limit, block.header.number - 1, index)
        : chain.native.storageRange(address, start, limit, chain.at({ kind: 'block', header: block.header }))
      const { slots, next } = decodeStorageRange(await asking(range))
      return {
        storage: Object.fromEntries(
          slots.map(x => [toHex(x.hash), { key: x.slot === undefined ? null : toHex(x.slot), value: word(x.value) }])
        ),
        nextKey: next === undefined ? null : toHex(next)
      }
    }
  }
}

/** The engine's failures of a trace, in geth's words and code. */
async function traced(work: Promise<string>): Promise<JsonText> {
  try {
    return new JsonText(await work)
  } catch (err) {
    if (!(err instanceof ZgError) || err.code === 'ERR_UNAVAILABLE') throw err
    throw new RpcError(RPC.server, err.message)
  }
}

/** 32 bytes of hex, or geth's base64. */
function startKey(value: unknown, name: string): Uint8Array {
  if (typeof value === 'string' && !value.startsWith('0x') && value.length <= 44) {
    const bytes = new Uint8Array(Buffer.from(value, 'base64'))
    if (bytes.length <= 32) return padded(bytes)
  }
  return padded(asBytes(value, name))
}

/** Range keys are prefixes: zeros go behind them. */
function padded(bytes: Uint8Array): Uint8Array {
  if (bytes.length > 32) throw new RpcError(RPC.params, 'a start key has at most 32 bytes')
  const out = new Uint8Array(32)
  out.set(bytes)
  return out
}

function word(value: Uint8Array): string {
  return `0x${toHex(value).slice(2).padStart(64, '0')}`
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
