/** `eth_config` (EIP-7910): which rules hold now, and which come next. */
import type { RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { toHex, toQuantity } from '../../../lib/base/hex.ts'
import { TIME_FORKS } from '../core/genesis.ts'
import type { RpcSetup } from './context.ts'
import { blobScheduleAt, forkId } from './rules.ts'

/** Precompiles by the names of EIP-7910; up to Prague the place in the list is the address. */
const CANCUN = [
  'ECREC',
  'SHA256',
  'RIPEMD160',
  'ID',
  'MODEXP',
  'BN254_ADD',
  'BN254_MUL',
  'BN254_PAIRING',
  'BLAKE2F',
  'KZG_POINT_EVALUATION'
]
const PRAGUE = [
  'BLS12_G1ADD',
  'BLS12_G1MSM',
  'BLS12_G2ADD',
  'BLS12_G2MSM',
  'BLS12_PAIRING_CHECK',
  'BLS12_MAP_FP_TO_G1',
  'BLS12_MAP_FP2_TO_G2'
]
const P256 = '0x0000000000000000000000000000000000000100'

/** Addresses of the EIPs 4788, 7251, 2935 and 7002. */
const BEACON_ROOTS = '0x000f3df6d732807ef1319fb7b8bb8522d0beac02'
const CONSOLIDATIONS = '0x0000bbddc7ce488642fb579f8b00f3a590007251'
const HISTORY = '0x0000f90827f1c53a10cb7a02335b175320002935'
const WITHDRAWALS = '0x00000961ef480eb55e80d19ad83579a64c007002'

export function configMethods(s: RpcSetup): RpcMethods {
  const { chain, forks } = s

  function at(activation: number): unknown {
    const genesis = chain.header(0)
    if (genesis === undefined) return null
    const holds = (fork: 'pragueTime' | 'osakaTime') => (forks[fork] ?? Number.POSITIVE_INFINITY) <= activation
    const names = holds('pragueTime') ? [...CANCUN, ...PRAGUE] : CANCUN
    const precompiles = names.map((name, i) => [name, `0x${(i + 1).toString(16).padStart(40, '0')}`])
    if (holds('osakaTime')) precompiles.push(['P256VERIFY', P256])
    const deposits = forks.depositContractAddress
    return {
      activationTime: activation,
      // Of the fork's rules; the pool refuses blob transactions all the same.
      blobSchedule: blobScheduleAt(forks, activation) ?? null,
      chainId: toQuantity(chain.chainId),
      forkId: forkId(forks, genesis, activation),
      precompiles: sorted(precompiles),
      systemContracts: sorted([
        ['BEACON_ROOTS_ADDRESS', BEACON_ROOTS],
        ...(holds('pragueTime')
          ? [
              ['CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS', CONSOLIDATIONS],
              ...(deposits === undefined ? [] : [['DEPOSIT_CONTRACT_ADDRESS', toHex(deposits)]]),
              ['HISTORY_STORAGE_ADDRESS', HISTORY],
              ['WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS', WITHDRAWALS]
            ]
          : [])
      ])
    }
  }

  return {
    eth_config: () => {
      const now = chain.head().timestamp
      const times = [...new Set(TIME_FORKS.map(f => forks[f]).filter(t => t !== undefined))].sort((a, b) => a - b)
      const current = times.filter(t => t <= now).at(-1) ?? 0
      const next = times.find(t => t > now)
      const last = times.at(-1)
      return {
        current: at(current),
        next: next === undefined ? null : at(next),
        last: last === undefined || last <= now ? null : at(last)
      }
    }
  }
}

function sorted(pairs: string[][]): Record<string, string> {
  return Object.fromEntries(pairs.sort(([a], [b]) => (a! < b! ? -1 : 1)))
}
