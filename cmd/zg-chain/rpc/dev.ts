/**
 * Development methods under the names of Hardhat and Foundry (`evm_*`, `anvil_*`, `hardhat_*`): time, blocks, snapshots and
 * account state at will. Only with `--dev`.
 */
import { randomBytes } from 'node:crypto'
import type { RpcMethod, RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { padLeft } from '../../../lib/base/bytes.ts'
import { toHex, toQuantity } from '../../../lib/base/hex.ts'
import type { DevControls } from '../core/api.ts'
import { accountMethods } from './accounts.ts'
import type { RpcSetup } from './context.ts'
import {
  arg,
  asAddress,
  asBoolean,
  asBytes,
  asHash,
  asLooseNumber,
  asLooseQuantity,
  asObject,
  asSlot,
  field,
  invalid,
  optional
} from './decode.ts'

/** Blocks one call may mine. */
const MAX_MINE = 100_000
/** Blocks between two looks at whether the caller is still there. */
const MINE_CHUNK = 64
/** Seconds; beyond this a date no longer fits JavaScript's. */
const MAX_SECONDS = 8_640_000_000_000
const MAX_INTERVAL_SECONDS = 86_400

export function devMethods(s: RpcSetup, dev: DevControls): RpcMethods {
  let anyone = false
  const isImpersonated = (address: Uint8Array) => anyone || dev.isImpersonated(address)
  return {
    ...accountMethods(s, isImpersonated),
    ...evmMethods(s, dev),
    ...bothNames(
      sharedMethods(s, dev, on => {
        anyone = on
      })
    ),
    ...nodeInfo(s)
  }
}

/** Each method under `anvil_` and under `hardhat_`. */
function bothNames(methods: Record<string, RpcMethod>): RpcMethods {
  const out: RpcMethods = {}
  for (const [name, method] of Object.entries(methods)) {
    out[`anvil_${name}`] = method
    out[`hardhat_${name}`] = method
  }
  return out
}

function seconds(value: unknown, name: string): number {
  const n = asLooseNumber(value, name)
  if (n > MAX_SECONDS) throw invalid(name, 'too far in the future')
  return n
}

/** The next block's time must not lie before the head's: neighbours may share one (chain.md 1). */
function timestamp(s: RpcSetup): (value: unknown, name: string) => number {
  return (value, name) => {
    const n = seconds(value, name)
    const head = s.chain.head().timestamp
    if (n < head) throw invalid(name, `${n} is before the head's ${head}`)
    return n
  }
}

function evmMethods(s: RpcSetup, dev: DevControls): RpcMethods {
  const increaseTime: RpcMethod = params => {
    const more = arg(params, 0, 'seconds', seconds)
    if (s.now() / 1000 + dev.increaseTime(0) + more > MAX_SECONDS) throw invalid('seconds', 'too far in the future')
    return dev.increaseTime(more)
  }
  const snapshot: RpcMethod = async () => toQuantity(await dev.snapshot())
  const revert: RpcMethod = params => dev.revert(arg(params, 0, 'snapshotId', asLooseNumber))
  const setNextTimestamp: RpcMethod = params => {
    const at = arg(params, 0, 'timestamp', timestamp(s))
    dev.setNextTimestamp(at)
    return at
  }
  const setTime: RpcMethod = params => {
    // Ganache and anvil take milliseconds or seconds here; what would lie in the far future as seconds is milliseconds.
    const given = arg(params, 0, 'timestamp', asLooseNumber)
    const wanted = given > 100_000_000_000 ? Math.floor(given / 1000) : given
    if (wanted > MAX_SECONDS) throw invalid('timestamp', 'too far in the future')
    const ahead = wanted - Math.floor(s.now() / 1000) - dev.increaseTime(0)
    if (ahead < 0) throw invalid('timestamp', 'time only moves forward here')
    dev.increaseTime(ahead)
    return ahead
  }
  const setAutomine: RpcMethod = params => {
    dev.setAutomine(arg(params, 0, 'enabled', asBoolean))
    return true
  }
  const setInterval: RpcMethod = params => {
    const interval = arg(params, 0, 'seconds', asLooseNumber)
    if (interval > MAX_INTERVAL_SECONDS) throw invalid('seconds', `at most ${MAX_INTERVAL_SECONDS}`)
    dev.setInterval(interval * 1000)
    return true
  }
  const setGasLimit: RpcMethod = params => {
    dev.setGasLimit(arg(params, 0, 'gasLimit', asLooseQuantity))
    return true
  }
  return {
    evm_mine: async (params, ctx) => {
      const { count, at } = readMine(s, params[0])
      if (count > 0) await dev.mine(1, at)
      await mineMany(dev, count - 1, ctx.signal)
      return '0x0'
    },
    evm_snapshot: snapshot,
    evm_revert: revert,
    evm_increaseTime: increaseTime,
    evm_setTime: setTime,
    evm_setNextBlockTimestamp: setNextTimestamp,
    evm_setAutomine: setAutomine,
    evm_setIntervalMining: setInterval,
    evm_setBlockGasLimit: setGasLimit,
    anvil_snapshot: snapshot,
    anvil_revert: revert,
    anvil_increaseTime: increaseTime,
    anvil_setTime: setTime,
    anvil_setNextBlockTimestamp: setNextTimestamp,
    anvil_setAutomine: setAutomine,
    anvil_setIntervalMining: setInterval,
    anvil_setBlockGasLimit: setGasLimit,
    anvil_getAutomine: () => dev.automine(),
    hardhat_getAutomine: () => dev.automine()
  }
}

/** evm_mine takes nothing, a timestamp, or `{timestamp, blocks}`. */
function readMine(s: RpcSetup, param: unknown): { count: number; at: number | undefined } {
  if (param === undefined || param === null) return { count: 1, at: undefined }
  if (typeof param !== 'object') return { count: 1, at: timestamp(s)(param, 'timestamp') }
  const o = asObject(param, 'options')
  return {
    count: field(o, 'blocks', 'options', blockCount) ?? 1,
    at: field(o, 'timestamp', 'options', timestamp(s))
  }
}

function blockCount(value: unknown, name: string): number {
  const n = asLooseNumber(value, name)
  if (n > MAX_MINE) throw invalid(name, `at most ${MAX_MINE} blocks`)
  return n
}

function sharedMethods(s: RpcSetup, dev: DevControls, setAnyone: (on: boolean) => void): Record<string, RpcMethod> {
  const { pool } = s.chain
  return {
    setBalance: async params => {
      const address = arg(params, 0, 'address', asAddress)
      await dev.setAccount(address, { balance: arg(params, 1, 'balance', asLooseQuantity) })
      return true
    },
    setNonce: async params => {
      const address = arg(params, 0, 'address', asAddress)
      const nonce = arg(params, 1, 'nonce', asLooseQuantity)
      if (nonce >= (1n << 64n) - 1n) throw invalid('nonce', 'more than 64 bits')
      await dev.setAccount(address, { nonce })
      return true
    },
    setCode: async params => {
      const address = arg(params, 0, 'address', asAddress)
      await dev.setAccount(address, { code: arg(params, 1, 'code', asBytes) })
      return true
    },
    setStorageAt: async params => {
      const address = arg(params, 0, 'address', asAddress)
      const { slot } = arg(params, 1, 'slot', asSlot)
      const value = arg(params, 2, 'value', asBytes)
      if (value.length > 32) throw invalid('value', `${value.length} bytes, at most 32`)
      await dev.setStorage(address, slot, padLeft(value, 32))
      return true
    },
    impersonateAccount: params => {
      dev.impersonate(arg(params, 0, 'address', asAddress), true)
      return true
    },
    stopImpersonatingAccount: params => {
      dev.impersonate(arg(params, 0, 'address', asAddress), false)
      return true
    },
    autoImpersonateAccount: params => {
      setAnyone(arg(params, 0, 'enabled', asBoolean))
      return true
    },
    reset: async params => {
      const fork = params[0]
      if (fork !== undefined && fork !== null && Object.keys(asObject(fork, 'options')).length > 0) {
        throw invalid('options', 'this node does not fork other networks')
      }
      await dev.reset()
      return true
    },
    mine: async (params, ctx) => {
      const count = optional(params, 0, 'blocks', blockCount) ?? 1
      const interval = optional(params, 1, 'interval', seconds) ?? 0
      await mineApart(dev, { count, interval }, ctx.signal)
      return true
    },
    setNextBlockBaseFeePerGas: params => {
      dev.setNextBaseFee(arg(params, 0, 'baseFeePerGas', asLooseQuantity))
      return true
    },
    setCoinbase: params => {
      dev.setCoinbase(arg(params, 0, 'address', asAddress))
      return true
    },
    dropTransaction: params => pool.remove(arg(params, 0, 'hash', asHash)),
    dropAllTransactions: () => {
      pool.clear()
      return true
    }
  }
}

/** Mines `count` blocks with `interval` seconds between neighbours; 0 leaves the time to the clock. */
async function mineApart(
  dev: DevControls,
  { count, interval }: { count: number; interval: number },
  signal: AbortSignal
): Promise<void> {
  if (interval === 0) return mineMany(dev, count, signal)
  if (interval * count > MAX_SECONDS) throw invalid('interval', 'too far in the future')
  let before: number | undefined
  for (let i = 0; i < count && !signal.aborted; i++) {
    const header = await dev.mine(1, before === undefined ? undefined : before + interval)
    before = header.timestamp
  }
}

/** Mines until done, or until the caller has gone. */
async function mineMany(dev: DevControls, count: number, signal: AbortSignal): Promise<void> {
  for (let left = count; left > 0 && !signal.aborted; left -= MINE_CHUNK) await dev.mine(Math.min(left, MINE_CHUNK))
}

function nodeInfo(s: RpcSetup): RpcMethods {
  const { chain } = s
  const instanceId = toHex(randomBytes(32))
  return {
    anvil_nodeInfo: () => {
      const head = chain.head()
      return {
        currentBlockNumber: toQuantity(head.number),
        currentBlockTimestamp: head.timestamp,
        currentBlockHash: toHex(head.hash),
        hardFork: 'prague',
        transactionOrder: 'fees',
        environment: {
          baseFee: toQuantity(chain.nextBaseFee()),
          chainId: chain.chainId,
          gasLimit: toQuantity(chain.nextGasLimit()),
          gasPrice: toQuantity(chain.nextBaseFee() + 1_000_000_000n)
        },
        forkConfig: { forkUrl: null, forkBlockNumber: null, forkRetryBackoff: null }
      }
    },
    hardhat_metadata: () => {
      const head = chain.head()
      return {
        clientVersion: s.clientVersion,
        chainId: chain.chainId,
        instanceId,
        latestBlockNumber: head.number,
        latestBlockHash: toHex(head.hash)
      }
    }
  }
}
