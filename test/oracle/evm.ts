/** One execution: an EVM on a state of its own, for one block or one call. Nothing is shared but the durable nodes below. */
import { setImmediate } from 'node:timers/promises'
import { type Block, createBlock, paramsBlock } from '@ethereumjs/block'
import { type ChainConfig, type Common, createCustomCommon, Hardfork, Mainnet } from '@ethereumjs/common'
import { paramsEVM } from '@ethereumjs/evm'
import { paramsTx } from '@ethereumjs/tx'
import { createVM, paramsVM, type VM } from '@ethereumjs/vm'
import { keccak256 } from '../../cmd/zg-chain/core/hash.ts'
import type { BlockOverride } from '../../cmd/zg-chain/core/types.ts'
import { ZgError } from '../../lib/base/errors.ts'
import type { Clock } from '../../lib/ports/clock.ts'
import { kzg } from './kzg.ts'
import type { Overlay } from './nodes.ts'
import { hostPrecompiles } from './precompiles.ts'
import { addressOf, State } from './state.ts'

/** How long the EVM keeps the event loop before others get a turn. */
const TURN_MS = 8
/** EIP-4788, 2935, 7002, 7251: gas of a system call. */
const SYSTEM_GAS = 30_000_000n
const SYSTEM_ADDRESS = addressOf(Uint8Array.from({ length: 20 }, (_, i) => (i === 19 ? 0xfe : 0xff)))

/**
 * Prague rules under our chain id.
 * @param wrong - constants to be changed: the canary of differential tests.
 */
export function pragueRules(chainId: number, wrong?: typeof paramsEVM): Common {
  // Every fork from the start: mainnet's own heights would make block 1,920,000 demand the DAO fork's extra data.
  const hardforks: ChainConfig['hardforks'] = []
  for (const fork of Mainnet.hardforks) {
    if (fork.name === 'dao' || fork.name === 'mergeNetsplitBlock') continue
    hardforks.push({ name: fork.name, block: 0 })
    if (fork.name === Hardfork.Prague) break
  }
  const common = createCustomCommon({ chainId, name: 'zg', hardforks }, Mainnet, {
    hardfork: Hardfork.Prague,
    customCrypto: { keccak256: data => keccak256(data), kzg }
  })
  takeParamsOnce(common)
  if (wrong !== undefined) common.updateParams(wrong)
  return common
}

/**
 * Each EVM, VM, header and transaction merges the constants of its package into the rules again, at a millisecond a set. All are
 * merged here, and copies of the rules have them, so the same sets are passed over from then on.
 */
function takeParamsOnce(common: Common): void {
  const sets = new Set<unknown>([paramsEVM, paramsVM, paramsBlock, paramsTx])
  for (const params of sets) common.updateParams(params as typeof paramsEVM)
  const { updateParams } = common
  common.updateParams = function (this: Common, params) {
    if (!sets.has(params)) updateParams.call(this, params)
  }
}

export interface ExecutionOptions {
  common: Common
  clock: Clock
  /** Hash of an ancestor, for BLOCKHASH. */
  blockHash(number: number): Promise<Uint8Array | undefined>
}

export interface Execution {
  vm: VM
  state: State
  block: Block
  /** Runs a system contract; its output, empty when it has no code. */
  system(to: Uint8Array, data: Uint8Array): Promise<{ output: Uint8Array; error: string | undefined }>
  /** Lets others have a turn when this one took long. */
  turn(): Promise<void>
}

/**
 * @param at.root - state to start on.
 * @param at.env - the block's environment; `parentHash` answers BLOCKHASH of the parent.
 * @param timeoutMs - the execution fails with ERR_TIMEOUT after it; absent: no bound.
 */
export async function execution(
  opts: ExecutionOptions,
  overlay: Overlay,
  at: { root: Uint8Array; env: Required<BlockOverride>; parentBeaconBlockRoot?: Uint8Array },
  timeoutMs?: number
): Promise<Execution> {
  const { clock } = opts
  // A copy: each EVM hangs a listener on its rules, and would live as long as shared ones do.
  const common = opts.common.copy()
  const state = new State(common, overlay, at.root)
  const started = clock.monotonic()
  let turnEnds = started + TURN_MS

  /** True when it is time to let others run. */
  function due(): boolean {
    const now = clock.monotonic()
    if (timeoutMs !== undefined && now - started > timeoutMs) {
      throw new ZgError('ERR_TIMEOUT', `execution aborted (timeout = ${timeoutMs / 1000}s)`)
    }
    return now >= turnEnds
  }
  async function turn(): Promise<void> {
    if (!due()) return
    await setImmediate()
    turnEnds = clock.monotonic() + TURN_MS
  }

  const precompiles = await hostPrecompiles({
    common,
    state,
    blockNumber: () => BigInt(at.env.number),
    blockHash: opts.blockHash
  })
  let jumps = 0
  const vm = await createVM({
    common,
    stateManager: state,
    evmOpts: {
      common,
      stateManager: state,
      customPrecompiles: precompiles.custom,
      blockchain: {
        async getBlock(number) {
          const hash = await opts.blockHash(number)
          if (hash === undefined) throw new ZgError('ERR_CORRUPT', `hash of block ${number} is missing`)
          return { hash: () => hash }
        },
        async putBlock() {},
        shallowCopy() {
          return this
        }
      },
      // Every loop passes a JUMPDEST and every recursion a message: between the two, long executions give way and end in time.
      customOpcodes: [
        {
          opcode: 0x5b,
          opcodeName: 'JUMPDEST',
          baseFee: 1,
          logicFunction: async () => {
            if ((++jumps & 0x7f) === 0) await turn()
          }
        }
      ]
    }
  })
  vm.evm.events?.on('beforeMessage', (message, done) => {
    precompiles.heard(message)
    if (due()) turn().then(done)
    else done?.()
  })

  const block = createBlock(
    {
      header: {
        number: at.env.number,
        timestamp: at.env.timestamp,
        gasLimit: at.env.gasLimit,
        coinbase: addressOf(at.env.beneficiary),
        mixHash: at.env.prevRandao,
        baseFeePerGas: at.env.baseFeePerGas
      }
    },
    { common, skipConsensusFormatValidation: true }
  )

  async function system(to: Uint8Array, data: Uint8Array) {
    const address = addressOf(to)
    if ((await state.getCode(address)).length === 0) return { output: new Uint8Array(0), error: undefined }
    const result = await vm.evm.runCall({
      caller: SYSTEM_ADDRESS,
      to: address,
      data,
      gasLimit: SYSTEM_GAS,
      block,
      skipNonceIncrement: true
    })
    // The system account was touched and is empty: it vanishes again (EIP-161).
    await vm.evm.journal.cleanup()
    state.originalStorageCache.clear()
    return { output: result.execResult.returnValue, error: result.execResult.exceptionError?.error }
  }

  return { vm, state, block, system, turn }
}
