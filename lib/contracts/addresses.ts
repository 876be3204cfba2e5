/**
 * Where contracts stand: fixed by chain id, so that no network needs a deployment step and no client a configuration.
 *
 * Storage (storage.md 2.8): the addresses of the turbo testnet on every network, those of the turbo mainnet on 16661; the market has an
 * address of our own because no client asks for it by address. Keep them: clients and tutorials know them.
 */
import type { Hex } from '../base/hex.ts'

export interface ContractAddresses {
  flow: Hex
  market: Hex
  reward: Hex
  mine: Hex
  wrappedZG: Hex
  /** Compute (compute.md 1.1): the SDK maps chain ids to these. */
  ledgerManager: Hex
  inferenceServing: Hex
  fineTuningServing: Hex
  /** Data availability (da.md 1); the signers' registry is a precompile. */
  daEntrance: Hex
  daRegistry: Hex
  daSigners: Hex
  multicall3: Hex
  deterministicDeployer: Hex
}

export const MAINNET_CHAIN_ID = 16661

const EVERYWHERE = {
  market: '0x7a67000000000000000000000000000000000001',
  wrappedZG: '0x1Cd0690fF9a693f5EF2dD976660a8dAFc81A109c',
  daEntrance: '0xE75A073dA5bb7b0eC622170Fd268f35E675a957B',
  daRegistry: '0x20F30b2584F3096ea0D6c18c3b5CACC0585E12FC',
  daSigners: '0x0000000000000000000000000000000000001000',
  multicall3: '0xcA11bde05977b3631167028862bE2a173976CA11',
  deterministicDeployer: '0x4e59b44847b379578588920cA78FbF26c0B4956C'
} as const

const TURBO_TESTNET: Omit<ContractAddresses, keyof Compute> = {
  ...EVERYWHERE,
  flow: '0x22E03a6A89B950F1c82ec5e74F8eCa321a105296',
  mine: '0x00A9E9604b0538e06b268Fb297Df333337f9593b',
  reward: '0xA97B57b4BdFEA2D0a25e535bd849ad4e6C440A69'
}

const TURBO_MAINNET: Omit<ContractAddresses, keyof Compute> = {
  ...EVERYWHERE,
  flow: '0x62D4144dB0F0a6fBBaeb6296c785C71B3D57C526',
  mine: '0xCd01c5Cd953971CE4C2c9bFb95610236a7F414fe',
  reward: '0x457aC76B58ffcDc118AABD6DbC63ff9072880870'
}

type Compute = Pick<ContractAddresses, 'ledgerManager' | 'inferenceServing' | 'fineTuningServing'>

/** Of the compute testnet, and of every chain id that the compute SDK does not know. */
const COMPUTE_TESTNET: Compute = {
  ledgerManager: '0xE70830508dAc0A97e6c087c75f402f9Be669E406',
  inferenceServing: '0xa79F4c8311FF93C06b8CfB403690cc987c93F91E',
  fineTuningServing: '0xC6C075D8039763C8f1EbE580be5ADdf2fd6941bA'
}

const COMPUTE: Record<number, Compute> = {
  [MAINNET_CHAIN_ID]: {
    ledgerManager: '0x2dE54c845Cd948B72D2e32e39586fe89607074E3',
    inferenceServing: '0x47340d900bdFec2BD393c626E12ea0656F938d84',
    fineTuningServing: '0x4e3474095518883744ddf135b7E0A23301c7F9c0'
  },
  31337: {
    ledgerManager: '0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0',
    inferenceServing: '0x0165878A594ca255338adfa4d48449f69242Eb8F',
    fineTuningServing: '0xA51c1fc2f0D1a1b8494Ed1FE312d7C3a78Ed91C0'
  }
}

/** The addresses of our contracts on a chain, checksummed (EIP-55). */
export function contractAddresses(chainId: number): ContractAddresses {
  const storage = chainId === MAINNET_CHAIN_ID ? TURBO_MAINNET : TURBO_TESTNET
  return { ...storage, ...(COMPUTE[chainId] ?? COMPUTE_TESTNET) }
}
