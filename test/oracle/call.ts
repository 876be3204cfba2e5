/** eth_call, eth_estimateGas and eth_createAccessList: one message on a state that is thrown away afterwards. */
import type { Common } from '@ethereumjs/common'
import { createEOACode7702Tx, createFeeMarket1559Tx, type TypedTransaction } from '@ethereumjs/tx'
import { createAccount } from '@ethereumjs/util'
import { runTx } from '@ethereumjs/vm'
import { EMPTY_CODE_HASH } from '../../cmd/zg-chain/core/hash.ts'
import { floorGas, intrinsicGas } from '../../cmd/zg-chain/core/transaction.ts'
import type { CallRequest, CallResult, StateOverride } from '../../cmd/zg-chain/core/types.ts'
import { equalBytes } from '../../lib/base/bytes.ts'
import { AssertionError, messageOf, ZgError } from '../../lib/base/errors.ts'
import { fromHex, toHex, toQuantity } from '../../lib/base/hex.ts'
import type { ExecutionEngine } from './engine-types.ts'
import { type ExecutionOptions, execution } from './evm.ts'
import type { Overlay } from './nodes.ts'
import { addressOf, type State } from './state.ts'
import { haltError, refusalWords } from './words.ts'

type CallAt = Parameters<ExecutionEngine['call']>[1]
type CallOptions = Parameters<ExecutionEngine['call']>[2]

/**
 * Runs a message as a transaction without signature and nonce check. What would keep it from running is an error of the
 * result: `insufficient funds for gas * price + value` (kind other), `intrinsic gas too low` (kind out of gas).
 */
export async function runCall(
  opts: ExecutionOptions,
  overlay: Overlay,
  request: CallRequest,
  at: CallAt,
  callOpts: CallOptions
): Promise<CallResult> {
  const gas = request.gas < callOpts.gasCap ? request.gas : callOpts.gasCap
  const failed = (kind: 'out of gas' | 'other', text: string): CallResult => ({
    gasUsed: 0n,
    gasRefund: 0n,
    returnData: new Uint8Array(0),
    logs: [],
    error: { kind, text }
  })
  const intrinsic = intrinsicGas(request)
  if (gas < intrinsic) return failed('out of gas', `intrinsic gas too low: have ${gas}, want ${intrinsic}`)
  const floor = floorGas(request)
  if (gas < floor) return failed('out of gas', `insufficient gas for floor data gas cost: have ${gas}, want ${floor}`)

  const env = { ...at.block }
  // A call that names no price pays none, and sees no base fee either (as in geth).
  if (request.gasPrice === 0n) env.baseFeePerGas = 0n
  else if (request.gasPrice < env.baseFeePerGas) {
    return failed('other', `max fee per gas less than block base fee: ${request.gasPrice} < ${env.baseFeePerGas}`)
  }
  const exec = await execution(opts, overlay, { root: at.parent.stateRoot, env }, callOpts.timeoutMs)
  const { state, vm } = exec
  if (callOpts.stateOverrides !== undefined) await override(state, callOpts.stateOverrides)

  const from = addressOf(request.from)
  const account = await state.getAccount(from)
  if ((account?.balance ?? 0n) < gas * request.gasPrice + request.value) {
    return failed('other', 'insufficient funds for gas * price + value')
  }
  if (account !== undefined && !equalBytes(account.codeHash, EMPTY_CODE_HASH)) state.allowSender(from)

  try {
    const result = await runTx(vm, {
      tx: messageTx(request, gas, account?.nonce ?? 0n, opts.common),
      block: exec.block,
      blockGasUsed: 0n,
      skipNonce: true,
      skipBlockGasLimitValidation: true,
      ...(callOpts.accessList ? { reportAccessList: true } : {})
    })
    const spent = intrinsic + result.execResult.executionGasUsed
    const refund = result.gasRefund < spent / 5n ? result.gasRefund : spent / 5n
    const halt = result.execResult.exceptionError?.error
    const isRevert = halt === 'revert'
    return {
      gasUsed: result.totalGasSpent,
      gasRefund: refund,
      returnData: halt === undefined || isRevert ? result.execResult.returnValue : new Uint8Array(0),
      logs: (result.execResult.logs ?? []).map(([address, topics, data]) => ({ address, topics, data })),
      ...(halt === undefined ? {} : { error: haltError(halt) }),
      ...(result.accessList === undefined
        ? {}
        : {
            accessList: result.accessList.map(entry => ({
              address: fromHex(entry.address),
              storageKeys: entry.storageKeys.map(key => fromHex(key))
            }))
          })
    }
  } catch (err) {
    if (err instanceof ZgError && err.code === 'ERR_TIMEOUT') return failed('other', err.message)
    if (err instanceof ZgError || err instanceof AssertionError) throw err
    return failed('other', refusalWords(messageOf(err)))
  }
}

function messageTx(request: CallRequest, gas: bigint, nonce: bigint, common: Common): TypedTransaction {
  const fields = {
    chainId: common.chainId(),
    nonce,
    gasLimit: gas,
    // Cap and tip alike: the price is then exactly this, whatever the base fee.
    maxFeePerGas: request.gasPrice,
    maxPriorityFeePerGas: request.gasPrice,
    value: request.value,
    data: request.data,
    accessList: (request.accessList ?? []).map(e => ({
      address: toHex(e.address),
      storageKeys: e.storageKeys.map(toHex)
    })),
    ...(request.to === null ? {} : { to: addressOf(request.to) })
  }
  const list = request.authorizationList
  const tx =
    list === undefined || list.length === 0
      ? createFeeMarket1559Tx(fields, { common, freeze: false })
      : createEOACode7702Tx(
          {
            ...fields,
            authorizationList: list.map(a => ({
              chainId: toQuantity(a.chainId),
              address: toHex(a.address),
              nonce: toQuantity(a.nonce),
              yParity: toQuantity(a.yParity),
              r: toQuantity(a.r),
              s: toQuantity(a.s)
            }))
          },
          { common, freeze: false }
        )
  const from = addressOf(request.from)
  tx.getSenderAddress = () => from
  return tx
}

/** Applies eth_call's state overrides. Keys are 0x addresses. */
async function override(state: State, overrides: Map<string, StateOverride>): Promise<void> {
  for (const [hex, change] of overrides) {
    const address = addressOf(fromHex(hex, 'override address', { size: 20 }))
    const account = (await state.getAccount(address)) ?? createAccount({})
    if (change.balance !== undefined) account.balance = change.balance
    if (change.nonce !== undefined) account.nonce = change.nonce
    await state.putAccount(address, account)
    if (change.code !== undefined) await state.putCode(address, change.code)
    if (change.state !== undefined) await state.clearStorage(address)
    for (const [slot, value] of change.state ?? change.stateDiff ?? []) await state.putStorage(address, slot, value)
  }
}
