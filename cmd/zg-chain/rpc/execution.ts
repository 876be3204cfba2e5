/** eth_call, eth_estimateGas and eth_createAccessList (chain.md 9.4). */
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { toHex, toQuantity } from '../../../lib/base/hex.ts'
import type { AccessListEntry, CallResult } from '../core/types.ts'
import { blockGasLimit, type CallArgs, callGas, type Overrides, prepare, readCall, readOverrides, run } from './call.ts'
import { LATEST, needBlock, type RpcSetup } from './context.ts'
import { arg, asBlock, type BlockParam, optional } from './decode.ts'
import { executionError } from './revert.ts'

/** A plain transfer. */
const TRANSFER_GAS = 21_000n
/** Gas a CALL with value hands over for free: the search must leave room for it. */
const STIPEND = 2_300n
/** Rounds of eth_createAccessList; a list that still changes then belongs to code that tests its own gas. */
const ACCESS_ROUNDS = 16

export function executionMethods(s: RpcSetup): RpcMethods {
  const asCall = readCall(s)
  return {
    eth_call: async params => {
      const args = arg(params, 0, 'transaction', asCall)
      const at = await needBlock(s.chain, optional(params, 1, 'block', asBlock) ?? LATEST)
      const gas = callGas(s, args)
      const call = await prepare(s, args, at, readOverrides(params), { gas, checkGas: true })
      const result = await run(s, call, gas)
      if (result.error !== undefined) throw executionError(result.error, result.returnData)
      return toHex(result.returnData)
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
 * The least gas with which a message succeeds, within 1.5 %.
 *
 * `gasUsed` alone would be wrong: refunds come only after execution, a call passes on at most 63/64 of what is left, and code
 * may look at its gas. So the gas limit itself is searched, biased low because most executions need little more than they use.
 * @throws {RpcError} code 3 for a revert, −32000 `gas required exceeds allowance (N)` when the upper bound is not enough.
 */
export async function estimateGas(
  s: RpcSetup,
  args: CallArgs,
  atParam: BlockParam,
  overrides: Overrides
): Promise<bigint> {
  const at = await needBlock(s.chain, atParam)
  const blockLimit = overrides.blockOverride?.gasLimit ?? blockGasLimit(s, at)
  let high = args.gas !== undefined && args.gas >= TRANSFER_GAS ? args.gas : blockLimit
  if (high > s.callGas) high = s.callGas
  const call = await prepare(s, args, at, overrides, { gas: high, checkGas: false })
  if (call.feeCap > 0n) {
    const affordable = (call.balance - args.value) / call.feeCap
    if (affordable < high) high = affordable
  }

  const isTransfer = args.to !== null && args.data.length === 0 && args.authorizationList === undefined
  if (isTransfer && high >= TRANSFER_GAS && (await hasNoCode(s, call.at, args.to!, overrides))) {
    const result = await run(s, call, TRANSFER_GAS)
    if (result.error === undefined) return TRANSFER_GAS
  }

  const first = await run(s, call, high)
  if (first.error !== undefined) throw estimateError(first, high)

  let low = first.gasUsed - 1n
  const guess = ((first.gasUsed + first.gasRefund + STIPEND) * 64n) / 63n
  if (guess < high) {
    if ((await run(s, call, guess)).error === undefined) high = guess
    else low = guess
  }
  while (low + 1n < high && (high - low) * 1000n >= high * 15n) {
    let middle = (high + low) / 2n
    if (middle > low * 2n) middle = low * 2n
    if ((await run(s, call, middle)).error === undefined) high = middle
    else low = middle
  }
  return high
}

function estimateError(result: CallResult, high: bigint): RpcError {
  const error = result.error!
  const short = error.kind === 'out of gas' || error.text.startsWith('intrinsic gas too low')
  return short
    ? new RpcError(RPC.server, `gas required exceeds allowance (${high})`)
    : executionError(error, result.returnData)
}

async function hasNoCode(
  s: RpcSetup,
  at: Parameters<RpcSetup['chain']['state']>[0],
  to: Uint8Array,
  overrides: Overrides
): Promise<boolean> {
  const code = overrides.stateOverrides?.get(toHex(to))?.code ?? (await s.chain.state(at).code(to))
  return code.length === 0
}

/**
 * The access list a message would profit from. Runs until the list no longer changes, since a list changes gas and gas may
 * change the path. Leaves out the sender and the precompiles, and the target unless slots of it are touched: all are warm anyway.
 */
async function createAccessList(
  s: RpcSetup,
  args: CallArgs,
  atParam: BlockParam,
  overrides: Overrides
): Promise<unknown> {
  const at = await needBlock(s.chain, atParam)
  const gas = callGas(s, args)
  const call = await prepare(s, args, at, overrides, { gas, checkGas: true })
  let list = args.accessList ?? []
  for (let round = 0; ; round++) {
    const result = await run(s, call, gas, list)
    const touched = useful(result.accessList ?? [], call.request.from, args.to)
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

function useful(touched: AccessListEntry[], from: Uint8Array, to: Uint8Array | null): AccessListEntry[] {
  return touched.filter(
    e => e.storageKeys.length > 0 || !(equalBytes(e.address, from) || (to && equalBytes(e.address, to)) || isWarm(e))
  )
}

/** Precompiles: 0x01 to 0x11 of Prague, and P-256 at 0x100. */
function isWarm(entry: AccessListEntry): boolean {
  const n = BigInt(toHex(entry.address))
  return (n >= 1n && n <= 0x11n) || n === 0x100n
}

function sameList(a: AccessListEntry[], b: AccessListEntry[]): boolean {
  const keys = (list: AccessListEntry[]) =>
    list
      .flatMap(e => [toHex(e.address), ...e.storageKeys.map(k => `${toHex(e.address)} ${toHex(k)}`)])
      .sort()
      .join()
  return keys(a) === keys(b)
}
