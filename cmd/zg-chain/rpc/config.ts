/** `eth_config` (EIP-7910): which rules hold. They hold from block 0 on and nothing else is planned. */
import { crc32 } from 'node:zlib'
import type { RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { toQuantity } from '../../../lib/base/hex.ts'
import type { RpcSetup } from './context.ts'

/** Prague's precompiles by the names of EIP-7910; their place in the list is their address. */
const PRECOMPILES = [
  'ECREC',
  'SHA256',
  'RIPEMD160',
  'ID',
  'MODEXP',
  'BN254_ADD',
  'BN254_MUL',
  'BN254_PAIRING',
  'BLAKE2F',
  'KZG_POINT_EVALUATION',
  'BLS12_G1ADD',
  'BLS12_G1MSM',
  'BLS12_G2ADD',
  'BLS12_G2MSM',
  'BLS12_PAIRING_CHECK',
  'BLS12_MAP_FP_TO_G1',
  'BLS12_MAP_FP2_TO_G2'
]

/** Addresses of the EIPs 4788, 7251, 2935 and 7002. There is no deposit contract. */
const SYSTEM_CONTRACTS = {
  BEACON_ROOTS_ADDRESS: '0x000f3df6d732807ef1319fb7b8bb8522d0beac02',
  CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS: '0x0000bbddc7ce488642fb579f8b00f3a590007251',
  HISTORY_STORAGE_ADDRESS: '0x0000f90827f1c53a10cb7a02335b175320002935',
  WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS: '0x00000961ef480eb55e80d19ad83579a64c007002'
}

export function configMethods(s: RpcSetup): RpcMethods {
  const { chain } = s
  // EIP-2124: forks at genesis do not enter the checksum, so the genesis hash is all of it.
  const forkId = crc32(chain.genesisHash).toString(16).padStart(8, '0')
  const precompiles = Object.fromEntries(
    PRECOMPILES.map((name, i) => [name, `0x${(i + 1).toString(16).padStart(40, '0')}`])
  )
  return {
    eth_config: () => ({
      current: {
        activationTime: 0,
        // Prague's schedule; the pool refuses blob transactions all the same.
        blobSchedule: { target: 6, max: 9, baseFeeUpdateFraction: 5007716 },
        chainId: toQuantity(chain.chainId),
        forkId: `0x${forkId}`,
        precompiles,
        systemContracts: SYSTEM_CONTRACTS
      },
      next: null,
      last: null
    })
  }
}
