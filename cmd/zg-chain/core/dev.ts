/** Development verbs (evm_…, anvil_…, hardhat_…): only on a chain that was opened with `dev`. */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { DevControls } from './api.ts'
import type { ChainOptions, DevState, ZgChain } from './chain.ts'
import { asking } from './failure.ts'
import { type AccountWrite, encodeWrites } from './records.ts'
import type { Transaction } from './types.ts'

/** Blocks that one `mine` may make. */
const MAX_MINE = 100_000
const MAX_SNAPSHOTS = 1_000

interface Snapshot {
  number: number
  /** Of the state: development changes on top of the block count. */
  version: number
  transactions: Transaction[]
  settings: DevState
}

/** Version of the state after the genesis. */
const GENESIS_VERSION = 1

export function devControls(chain: ZgChain, { gasLimit, coinbase }: ChainOptions): DevControls {
  const { settings, producer, pool, native } = chain
  const snapshots = new Map<number, Snapshot>()
  let lastSnapshot = 0

  async function changeState(change: AccountWrite): Promise<void> {
    await chain.exclusive(async () => {
      await asking(native.writeState(encodeWrites([change])))
      chain.stateChanged()
    })
  }

  return {
    async mine(count, timestamp) {
      if (!Number.isSafeInteger(count) || count < 0 || count > MAX_MINE) {
        throw new ZgError('ERR_BAD_INPUT', `cannot mine ${count} blocks, at most ${MAX_MINE}`)
      }
      if (timestamp !== undefined) checkTimestamp(timestamp)
      // Each block is a turn of its own: others are not kept waiting for all of them.
      for (let i = 0; i < count; i++) {
        await chain.exclusive(() =>
          chain.produce({ empty: true, ...(i === 0 && timestamp !== undefined ? { timestamp } : {}) })
        )
      }
      return chain.head()
    },

    snapshot: () =>
      chain.exclusive(async () => {
        const { number, version } = native.head()
        snapshots.set(++lastSnapshot, { number, version, transactions: pool.all(), settings: copy(settings) })
        for (const id of snapshots.keys()) {
          if (snapshots.size <= MAX_SNAPSHOTS) break
          snapshots.delete(id)
        }
        return lastSnapshot
      }),

    revert: id =>
      chain.exclusive(async () => {
        const s = snapshots.get(id)
        if (s === undefined) return false
        for (const other of [...snapshots.keys()]) if (other >= id) snapshots.delete(other)
        Object.assign(settings, copy(s.settings))
        await chain.moveBack(s)
        producer.wake()
        return true
      }),

    setNextTimestamp(seconds) {
      checkTimestamp(seconds)
      settings.nextTimestamp = seconds
    },

    increaseTime(seconds) {
      if (!Number.isSafeInteger(seconds) || seconds < 0) throw new ZgError('ERR_BAD_INPUT', 'time only moves forward')
      settings.offsetSeconds += seconds
      return settings.offsetSeconds
    },

    automine: () => producer.onDemand,
    setAutomine: on => producer.setOnDemand(on),

    setInterval(ms) {
      if (!Number.isSafeInteger(ms) || ms < 0) throw new ZgError('ERR_BAD_INPUT', `'${ms}' is not an interval`)
      producer.setInterval(ms)
    },

    setAccount: (address, change) => changeState({ address, ...change }),

    setStorage: (address, slot, value) => changeState({ address, storage: [[slot, value]] }),

    setNextBaseFee(fee) {
      settings.nextBaseFee = fee
      chain.stateChanged()
    },

    setCoinbase(address) {
      settings.coinbase = address
    },

    setGasLimit(limit) {
      if (limit < 5_000n || limit >= 1n << 63n) throw new ZgError('ERR_BAD_INPUT', `gas limit ${limit} is out of range`)
      settings.gasLimit = limit
      settings.gasLimitNow = true
      chain.stateChanged()
    },

    impersonate(address, on) {
      if (on) settings.impersonated.add(toHex(address))
      else settings.impersonated.delete(toHex(address))
    },

    isImpersonated: address => settings.impersonated.has(toHex(address)),

    reset: () =>
      chain.exclusive(async () => {
        snapshots.clear()
        Object.assign(settings, {
          offsetSeconds: 0,
          nextTimestamp: undefined,
          nextBaseFee: undefined,
          gasLimit,
          gasLimitNow: false,
          coinbase,
          impersonated: new Set()
        } satisfies DevState)
        await chain.moveBack({ number: 0, version: GENESIS_VERSION, transactions: [] })
      })
  }

  function checkTimestamp(seconds: number): void {
    const { timestamp } = chain.head()
    if (!Number.isSafeInteger(seconds) || seconds < timestamp) {
      throw new ZgError('ERR_BAD_INPUT', `timestamp ${seconds} is below the head's ${timestamp}`)
    }
  }
}

function copy(s: DevState): DevState {
  return { ...s, impersonated: new Set(s.impersonated) }
}
