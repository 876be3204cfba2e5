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
  /** Reserved for the mine contract; no code there yet. */
  mine: Hex
  wrappedZG: Hex
  multicall3: Hex
  deterministicDeployer: Hex
}

export const MAINNET_CHAIN_ID = 16661

const EVERYWHERE = {
  market: '0x7a67000000000000000000000000000000000001',
  wrappedZG: '0x1Cd0690fF9a693f5EF2dD976660a8dAFc81A109c',
  multicall3: '0xcA11bde05977b3631167028862bE2a173976CA11',
  deterministicDeployer: '0x4e59b44847b379578588920cA78FbF26c0B4956C'
} as const

const TURBO_TESTNET: ContractAddresses = {
  ...EVERYWHERE,
  flow: '0x22E03a6A89B950F1c82ec5e74F8eCa321a105296',
  mine: '0x00A9E9604b0538e06b268Fb297Df333337f9593b',
  reward: '0xA97B57b4BdFEA2D0a25e535bd849ad4e6C440A69'
}

const TURBO_MAINNET: ContractAddresses = {
  ...EVERYWHERE,
  flow: '0x62D4144dB0F0a6fBBaeb6296c785C71B3D57C526',
  mine: '0xCd01c5Cd953971CE4C2c9bFb95610236a7F414fe',
  reward: '0x457aC76B58ffcDc118AABD6DbC63ff9072880870'
}

/** The addresses of our contracts on a chain, checksummed (EIP-55). */
export function contractAddresses(chainId: number): ContractAddresses {
  return chainId === MAINNET_CHAIN_ID ? TURBO_MAINNET : TURBO_TESTNET
}
