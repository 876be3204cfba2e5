/** eth_simulateV1: reads the request, hands it to the engine as one piece, shows the sealed blocks (native/evm/trace/simulate.h). */
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { fromUtf8 } from '../../../lib/base/bytes.ts'
import { toHex, toQuantity } from '../../../lib/base/hex.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import {
  decodeRlp,
  encodeRlp,
  type RlpInput,
  type RlpItem,
  rlpBytes,
  rlpList,
  rlpNumber
} from '../../../lib/codec/rlp.ts'
import { decodeBlock, overrideFields, splitList } from '../core/records.ts'
import type { Withdrawal } from '../core/types.ts'
import { type CallArgs, readBlockOverride, readCall, readStateOverrides } from './call.ts'
import { LATEST, needBlock, type RpcSetup } from './context.ts'
import {
  arg,
  asAddress,
  asArray,
  asBlock,
  asBoolean,
  asObject,
  asUint64,
  field,
  type JsonObject,
  need,
  optional
} from './decode.ts'
import { encodeLog, encodeSmallBlock } from './encode.ts'

/** Blocks of one request, filled gaps included; calls of one block; withdrawals of one block. */
const MAX_BLOCKS = 256
const MAX_CALLS = 5_000
const MAX_WITHDRAWALS = 1_000
const TOO_MANY_BLOCKS = -38026
const TOO_MANY_CALLS = -38026
/** geth's code of an execution that failed without a revert. */
const VM_ERROR = -32015

export function simulateMethods(s: RpcSetup): RpcMethods {
  const { chain } = s
  const asCall = readCall(s)

  function readBlock(value: unknown, name: string): RlpInput {
    const o = asObject(value, name)
    const override = field(o, 'blockOverrides', name, readSimOverride) ?? NO_OVERRIDE
    const state = field(o, 'stateOverrides', name, readStateOverrides)
    const calls = field(o, 'calls', name, (v, n) => asArray(v, n, Number.MAX_SAFE_INTEGER)) ?? []
    if (calls.length > MAX_CALLS)
      throw new RpcError(TOO_MANY_CALLS, `too many calls: ${calls.length}, at most ${MAX_CALLS}`)
    return [
      override,
      state === undefined ? [] : overrideFields(state),
      calls.map((call, i) => callFields(asCall(call, `${name}.calls[${i}]`)))
    ]
  }

  return {
    eth_simulateV1: async params => {
      const o = arg(params, 0, 'options', asObject)
      const flag = (key: string) => field(o, key, 'options', asBoolean) ?? false
      const blocks = field(o, 'blockStateCalls', 'options', (v, n) => asArray(v, n, Number.MAX_SAFE_INTEGER)) ?? []
      if (blocks.length === 0) throw new RpcError(RPC.params, 'empty input')
      if (blocks.length > MAX_BLOCKS) throw new RpcError(TOO_MANY_BLOCKS, 'too many blocks')
      const ref = needBlock(chain, optional(params, 1, 'block', asBlock) ?? LATEST)
      const request = encodeRlp([
        flag('validation') ? 1 : 0,
        flag('traceTransfers') ? 1 : 0,
        s.callGas,
        blocks.map((block, i) => readBlock(block, `blockStateCalls[${i}]`))
      ])
      const at = ref.kind === 'pending' ? { kind: 'block' as const, header: ref.parent } : ref
      const [code, text, answer] = splitList(await chain.simulate(request, at, LIMITS.ethCallMs))
      const failed = Number(rlpNumber(decodeRlp(code!)))
      if (failed !== 0)
        throw new RpcError(
          failed === 4444 ? failed : -failed,
          fromUtf8(rlpBytes(decodeRlp(text!))) ?? 'simulation failed'
        )
      return splitList(answer!).map(block => showBlock(block, flag('returnFullTransactions')))
    }
  }
}

const present = (v: RlpInput): RlpInput[] => (v === undefined || v === null ? [] : [v])

const NO_OVERRIDE: RlpInput = [[], [], [], [], [], [], [], []]

function readSimOverride(value: unknown, name: string): RlpInput {
  const o = asObject(value, name)
  const b = readBlockOverride(value, name)
  const withdrawals = field(o, 'withdrawals', name, readWithdrawals) ?? []
  return [
    present(b.number),
    present(b.timestamp),
    present(b.gasLimit),
    present(b.beneficiary),
    present(b.prevRandao),
    present(b.baseFeePerGas),
    present(b.blobBaseFee),
    withdrawals.map(w => [w.index, w.validatorIndex, w.address, w.amount])
  ]
}

function readWithdrawals(value: unknown, name: string): Withdrawal[] {
  return asArray(value, name, MAX_WITHDRAWALS).map((entry, i) => {
    const path = `${name}[${i}]`
    const o: JsonObject = asObject(entry, path)
    return {
      index: field(o, 'index', path, asUint64) ?? 0n,
      validatorIndex: field(o, 'validatorIndex', path, asUint64) ?? 0n,
      address: need(field(o, 'address', path, asAddress), `${path}.address`),
      amount: field(o, 'amount', path, asUint64) ?? 0n
    }
  })
}

function callFields(c: CallArgs): RlpInput[] {
  return [
    c.from ?? new Uint8Array(20),
    c.to,
    present(c.gas),
    present(c.gasPrice),
    present(c.maxFeePerGas),
    present(c.maxPriorityFeePerGas),
    c.value,
    c.data,
    c.accessList === undefined ? [] : [c.accessList.map(e => [e.address, e.storageKeys])],
    c.authorizationList === undefined
      ? []
      : [c.authorizationList.map(a => [a.chainId, a.address, a.nonce, a.yParity, a.r, a.s])],
    present(c.nonce),
    present(c.maxFeePerBlobGas),
    c.blobVersionedHashes === undefined ? [] : [c.blobVersionedHashes]
  ]
}

/** [block, hash, [sender…], [[returnData, [[address, [topic…], data, index]…], gasUsed, maxUsedGas, status, errorCode, errorText, errorData]…]] */
function showBlock(raw: Uint8Array, full: boolean): unknown {
  const [blockRaw, hash, senders, calls] = splitList(raw)
  const from = Buffer.concat(rlpList(decodeRlp(senders!)).map(x => rlpBytes(x)))
  const block = decodeBlock(blockRaw!, new Uint8Array(from))
  block.header.hash = rlpBytes(decodeRlp(hash!))
  const { header, transactions } = block
  const shown = rlpList(decodeRlp(calls!)).map((call, i) => {
    const [returnData, logItems, gasUsed, maxUsedGas, status, code, text, data] = rlpList(call)
    const failed = rlpNumber(status) === 0n
    return {
      returnData: toHex(rlpBytes(returnData)),
      logs: rlpList(logItems).map(item =>
        encodeLog({
          ...logOf(item),
          blockHash: header.hash,
          blockNumber: header.number,
          blockTimestamp: header.timestamp,
          transactionHash: transactions[i]!.hash,
          transactionIndex: i
        })
      ),
      gasUsed: toQuantity(rlpNumber(gasUsed)),
      maxUsedGas: toQuantity(rlpNumber(maxUsedGas)),
      status: failed ? '0x0' : '0x1',
      ...(failed ? { error: showError(Number(rlpNumber(code)), rlpBytes(text), rlpBytes(data)) } : {})
    }
  })
  return { ...encodeSmallBlock(block, full), calls: shown }
}

function showError(code: number, text: Uint8Array, data: Uint8Array): unknown {
  const message = fromUtf8(text) ?? 'execution failed'
  return code === RPC.reverted ? { message, code, data: toHex(data) } : { message, code: VM_ERROR }
}

function logOf(item: RlpItem) {
  const [address, topics, data, index] = rlpList(item)
  return {
    address: rlpBytes(address),
    topics: rlpList(topics).map(t => rlpBytes(t)),
    data: rlpBytes(data),
    logIndex: Number(rlpNumber(index))
  }
}
