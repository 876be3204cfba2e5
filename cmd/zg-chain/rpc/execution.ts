/** eth_call, eth_estimateGas and eth_createAccessList (chain.md 9.4). */
import type { RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { toHex, toQuantity } from '../../../lib/base/hex.ts'
import type { AccessListEntry, CallResult } from '../core/types.ts'
import { type CallArgs, callGas, type Overrides, prepare, readCall, readOverrides, run } from './call.ts'
import { LATEST, needBlock, type RpcSetup } from './context.ts'
import { arg, asBlock, type BlockParam, optional } from './decode.ts'
import { executionError } from './revert.ts'

/** What a call may cost to be answered in the turn it came in; beyond, it runs on a thread. */
const SYNC_GAS = 200_000
/** Rounds of eth_createAccessList; a list that still changes then belongs to code that tests its own gas. */
const ACCESS_ROUNDS = 16

export function executionMethods(s: RpcSetup): RpcMethods {
  const asCall = readCall(s)
  return {
    eth_call: params => {
      const args = arg(params, 0, 'transaction', asCall)
      const at = needBlock(s.chain, optional(params, 1, 'block', asBlock) ?? LATEST)
      const gas = callGas(s, args)
      const overrides = readOverrides(params)
      const call = prepare(s, args, at, overrides, { gas, checkGas: true })
      if (at.kind === 'block' && overrides.stateOverrides === undefined && overrides.blockOverride === undefined) {
        const result = s.chain.callSync(call.request, at, SYNC_GAS)
        if (result !== undefined) return outputOf(result)
      }
      return run(s, call, gas).then(outputOf)
    },
    eth_estimateGas: async params => {
      const args = arg(params, 0, 'transaction', asCall)
      const at = optional(params, 1, 'block', asBlock) ?? LATEST
      return toQuantity(await estimateGas(s, args, at, readOverrides(params)))
    },
    eth_createAccessList: async params => {
      const args = arg(params, 0, 'transaction', asCall)
      const at = optional(params, 1, 'block', asBlock) ?? LATEST
      return createAccessList(s, args, at, readOverrides(params))
    }
  }
}

/**
 * The least gas with which a message succeeds, within 1.5 %: the engine's search.
 * @throws {RpcError} code 3 for a revert, −32000 `gas required exceeds allowance (N)` when the upper bound is not enough.
 */
export async function estimateGas(
  s: RpcSetup,
  args: CallArgs,
  atParam: BlockParam,
  overrides: Overrides
): Promise<bigint> {
  const at = needBlock(s.chain, atParam)
  const gas = args.gas ?? 0n
  const call = prepare(s, args, at, overrides, { gas, checkGas: false })
  const { feeCap } = call
  const request = { ...call.request, gasPrice: feeCap > 0n ? feeCap : call.request.gasPrice }
  const result = await s.chain.estimateGas(request, at, { ...overrides, gasCap: s.callGas })
  if (result.error !== undefined) throw executionError(result.error, result.returnData)
  return result.gasUsed
}

function outputOf(result: CallResult): string {
  if (result.error !== undefined) throw executionError(result.error, result.returnData)
  return toHex(result.returnData)
}

/**
 * The access list a message would profit from. Runs until the list no longer changes, since a list changes gas and gas may
 * change the path. The engine leaves out the sender and the precompiles, and the target unless slots of it are touched: all are warm anyway.
 */
async function createAccessList(
  s: RpcSetup,
  args: CallArgs,
  atParam: BlockParam,
  overrides: Overrides
): Promise<unknown> {
  const at = needBlock(s.chain, atParam)
  const gas = callGas(s, args)
  const call = prepare(s, args, at, overrides, { gas, checkGas: true })
  let list = args.accessList ?? []
  for (let round = 0; ; round++) {
    const result = await run(s, call, gas, list)
    const touched = result.accessList ?? []
    // Refused: it never ran, so there is nothing to list.
    if (result.error?.kind === 'refused') throw executionError(result.error, result.returnData)
    if (sameList(touched, list) || round === ACCESS_ROUNDS) {
      return {
        accessList: list.map(e => ({ address: toHex(e.address), storageKeys: e.storageKeys.map(toHex) })),
        ...(result.error === undefined ? {} : { error: executionError(result.error, result.returnData).message }),
        gasUsed: toQuantity(result.gasUsed)
      }
    }
    list = touched
  }
}

function sameList(a: AccessListEntry[], b: AccessListEntry[]): boolean {
  const keys = (list: AccessListEntry[]) =>
    list
      .flatMap(e => [toHex(e.address), ...e.storageKeys.map(k => `${toHex(e.address)} ${toHex(k)}`)])
      .sort()
      .join()
  return keys(a) === keys(b)
}
