/**
 * The stateful precompiles in this engine. The library hands them gas, data and the state; who calls comes from its `beforeMessage`
 * event, which stands right before a precompile's run.
 */
import type { Common, StateManagerInterface } from '@ethereumjs/common'
import { EVMError, type ExecResult, type Message, type PrecompileInput } from '@ethereumjs/evm'
import { bigToBytes, concat, equalBytes, padLeft, utf8 } from '../../lib/base/bytes.ts'
import { fromHex } from '../../lib/base/hex.ts'
import { contractAddresses } from '../../lib/contracts/addresses.ts'
import { abiBytes } from './precompiles/abi.ts'
import { daSigners } from './precompiles/da-signers.ts'
import { type Precompile, type PrecompileCall, PrecompileError } from './precompiles/types.ts'
import { addressOf } from './state.ts'

/** The code of a stateful precompile's account. A chain has it when its genesis says so; on others the address is like any other. */
const MARK = Uint8Array.of(1)
/** Error(string) */
const REVERT_REASON = fromHex('0x08c379a0')

export interface PrecompileHost {
  common: Common
  state: Pick<StateManagerInterface, 'getStorage' | 'putStorage' | 'getCode'>
  /** Of the block that is executed. */
  blockNumber(): bigint
  /** Hash of an ancestor. */
  blockHash(number: number): Promise<Uint8Array | undefined>
}

/** The library's option, and the listener that must hear each message before it runs. */
export interface Hosted {
  custom: { address: ReturnType<typeof addressOf>; function: (input: PrecompileInput) => Promise<ExecResult> }[]
  heard(message: Message): void
}

/** The precompiles of the chain whose state this is. */
export async function hostPrecompiles(host: PrecompileHost): Promise<Hosted> {
  const chainId = Number(host.common.chainId())
  const all = [daSigners(fromHex(contractAddresses(chainId).daRegistry))]
  let message: Message | undefined
  let origin = new Uint8Array(20)
  const custom: Hosted['custom'] = []
  for (const precompile of all) {
    const address = addressOf(precompile.address)
    if (!equalBytes(await host.state.getCode(address), MARK)) continue
    custom.push({ address, function: input => run(precompile, host, input, message!, origin) })
  }
  return {
    custom,
    heard(next) {
      message = next
      if (next.depth === 0) origin = next.caller.bytes as Uint8Array<ArrayBuffer>
    }
  }
}

async function run(
  precompile: Precompile,
  host: PrecompileHost,
  { data, gasLimit }: PrecompileInput,
  message: Message,
  origin: Uint8Array
): Promise<ExecResult> {
  const gas = precompile.gasOf(data)
  if (gas !== undefined && gasLimit < gas) return failed(gasLimit, EVMError.errorMessages.OUT_OF_GAS, new Uint8Array(0))
  const address = addressOf(precompile.address)
  const blockNumber = host.blockNumber()
  try {
    if (gas === undefined) throw new PrecompileError('unknown selector')
    // By DELEGATECALL and CALLCODE it would act on the caller's account.
    if (message.delegatecall || !equalBytes(message.to!.bytes, precompile.address)) {
      throw new PrecompileError('precompile must be called directly')
    }
    const call: PrecompileCall = {
      caller: message.caller.bytes,
      origin,
      isStatic: message.isStatic,
      data,
      chainId: host.common.chainId(),
      blockNumber,
      state: {
        get: async slot => padLeft(await host.state.getStorage(address, slot), 32),
        set: (slot, value) => host.state.putStorage(address, slot, withoutZeros(value))
      },
      async blockHash(number) {
        if (number >= blockNumber || number < 0n || blockNumber - number > 256n) return new Uint8Array(32)
        return (await host.blockHash(Number(number))) ?? new Uint8Array(32)
      }
    }
    const { output, logs } = await precompile.run(call)
    return {
      executionGasUsed: gas,
      returnValue: output,
      logs: logs.map(log => [precompile.address, log.topics, log.data])
    }
  } catch (err) {
    if (!(err instanceof PrecompileError)) throw err
    const reason = concat(REVERT_REASON, bigToBytes(32n, 32), abiBytes(utf8(err.message)))
    return failed(gasLimit, EVMError.errorMessages.REVERT, reason)
  }
}

/** All gas is gone; the EVM reverts the message's checkpoint, and with it what was written. */
function failed(gasLimit: bigint, error: EVMError['error'], returnValue: Uint8Array): ExecResult {
  return { executionGasUsed: gasLimit, returnValue, exceptionError: new EVMError(error) }
}

function withoutZeros(value: Uint8Array): Uint8Array {
  const first = value.findIndex(byte => byte !== 0)
  return first < 0 ? new Uint8Array(0) : value.slice(first)
}
