/**
 * The compute contracts of a genesis (compute.md 1): the ledger knows both services from the beginning, as `inference-v1.0` and
 * `fine-tuning-v1.0`, and account 0 owns all three, so it can vouch for the signers of providers.
 */
import { ZgError } from '../base/errors.ts'
import { fromHex, type Hex } from '../base/hex.ts'
import type { ContractAddresses } from './addresses.ts'

export interface ComputeParams {
  /** How long money that users take back from a provider waits: 1 hour to 7 days. */
  lockSeconds: number
  /** What of a fine-tuning fee is due for a model its user never acknowledged: 0 to 100 percent. */
  penaltyPercent: number
}

/** Those of the deployed networks. */
export const DEVNET_COMPUTE: ComputeParams = { lockSeconds: 86_400, penaltyPercent: 30 }

/** The full names under which the ledger of every zg network knows its services. */
export const SERVICE_NAMES = { inference: 'inference-v1.0', fineTuning: 'fine-tuning-v1.0' } as const

const LOCK_SECONDS_MIN = 3600
const LOCK_SECONDS_MAX = 7 * 86_400

/** A contract to be constructed at its address; arguments are one 32-byte word each. */
interface Construction {
  at: Hex
  code: Hex
  args: (bigint | Uint8Array)[]
}

type ComputeCode = Record<'LedgerManager' | 'InferenceServing' | 'FineTuningServing', Hex>

/**
 * What to construct, in any order: none calls another while it is constructed.
 * @throws {ZgError} ERR_CONFIG when a parameter is out of the contracts' range
 */
export function computeConstructions(
  code: ComputeCode,
  addresses: ContractAddresses,
  owner: Uint8Array,
  params: Partial<ComputeParams> = {}
): Construction[] {
  const { lockSeconds, penaltyPercent } = { ...DEVNET_COMPUTE, ...params }
  if (!Number.isSafeInteger(lockSeconds) || lockSeconds < LOCK_SECONDS_MIN || lockSeconds > LOCK_SECONDS_MAX) {
    throw new ZgError('ERR_CONFIG', `genesis: lockSeconds must be ${LOCK_SECONDS_MIN} to ${LOCK_SECONDS_MAX}`)
  }
  if (!Number.isSafeInteger(penaltyPercent) || penaltyPercent < 0 || penaltyPercent > 100) {
    throw new ZgError('ERR_CONFIG', 'genesis: penaltyPercent must be 0 to 100')
  }
  const { ledgerManager, inferenceServing, fineTuningServing } = addresses
  const ledger = fromHex(ledgerManager)
  const lock = BigInt(lockSeconds)
  return [
    {
      at: ledgerManager,
      code: code.LedgerManager,
      args: [owner, fromHex(inferenceServing), fromHex(fineTuningServing)]
    },
    { at: inferenceServing, code: code.InferenceServing, args: [lock, ledger, owner] },
    {
      at: fineTuningServing,
      code: code.FineTuningServing,
      args: [lock, ledger, owner, BigInt(penaltyPercent)]
    }
  ]
}
