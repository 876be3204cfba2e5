/** The contracts of a network's genesis by the names that people use. */
import { contractAddresses } from '../../lib/contracts/addresses.ts'

/** What stands on the local network and what it is for. */
export const CONTRACT_NOTES: Record<string, string> = {
  flow: 'storage: submissions and the flow root',
  market: 'storage: price of a sector',
  reward: 'storage: fees of miners',
  mine: 'storage: proofs of miners',
  ledger: "compute: users' money",
  inference: 'compute: services, accounts, settlement',
  fineTuning: 'compute: fine-tuning services',
  daEntrance: 'data availability: roots and certificates',
  daRegistry: "data availability: signers' registration",
  daSigners: 'data availability: quorums (precompile)',
  w0g: 'wrapped 0G',
  multicall3: 'many calls in one',
  deployer: 'deterministic CREATE2 deployer',
  beaconRoots: 'EIP-4788',
  blockHashes: 'EIP-2935',
  withdrawals: 'EIP-7002',
  consolidations: 'EIP-7251'
}

export function contractsOf(chainId: number): Record<string, string> {
  const a = contractAddresses(chainId)
  return {
    flow: a.flow,
    market: a.market,
    reward: a.reward,
    mine: a.mine,
    ledger: a.ledgerManager,
    inference: a.inferenceServing,
    fineTuning: a.fineTuningServing,
    daEntrance: a.daEntrance,
    daRegistry: a.daRegistry,
    daSigners: a.daSigners,
    w0g: a.wrappedZG,
    multicall3: a.multicall3,
    deployer: a.deterministicDeployer,
    beaconRoots: '0x000F3df6D732807Ef1319fB7B8bB8522d0Beac02',
    blockHashes: '0x0000F90827F1C53a10cb7A02335B175320002935',
    withdrawals: '0x00000961Ef480Eb55e80D19ad83579A64c007002',
    consolidations: '0x0000BBdDc7CE488642fb579F8B00f3a590007251'
  }
}
