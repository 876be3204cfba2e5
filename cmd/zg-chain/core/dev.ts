/** Development verbs (evm_…, anvil_…, hardhat_…): only on a chain that was opened with `dev`. */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { DevControls } from './api.ts'
import type { ChainOptions, DevState, ZgChain } from './chain.ts'
import type { Transaction } from './types.ts'

/** Blocks that one `mine` may make. */
const MAX_MINE = 100_000
const MAX_SNAPSHOTS = 1_000

interface Snapshot {
  height: number
  devRoot: Uint8Array | undefined
  transactions: Transaction[]
  settings: DevState
}

export function devControls(chain: ZgChain, { store, engine, gasLimit, coinbase }: ChainOptions): DevControls {
  const { settings, producer, pool } = chain
  const snapshots = new Map<number, Snapshot>()
  let lastSnapshot = 0

  async function changeState(change: Parameters<typeof engine.writeState>[1][number]): Promise<void> {
    await chain.exclusive(async () => {
      const root = await engine.writeState(chain.stateRef(chain.head()).stateRoot, [change])
      await store.setDevRoot(root)
      await chain.stateChanged()
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
        const { height, devRoot } = store.head!
        snapshots.set(++lastSnapshot, { height, devRoot, transactions: pool.all(), settings: copy(settings) })
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

    setAccount: (address, { code, ...account }) =>
      changeState({ address, account: { ...account, ...(code === undefined ? {} : { code }) } }),

    setStorage: (address, slot, value) => changeState({ address, storage: [[slot, value]] }),

    setNextBaseFee(fee) {
      settings.nextBaseFee = fee
    },

    setCoinbase(address) {
      settings.coinbase = address
    },

    setGasLimit(limit) {
      if (limit < 5_000n || limit >= 1n << 63n) throw new ZgError('ERR_BAD_INPUT', `gas limit ${limit} is out of range`)
      settings.gasLimit = limit
      settings.gasLimitNow = true
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
        await chain.moveBack({ height: 0, devRoot: undefined, transactions: [] })
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
