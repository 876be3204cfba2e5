/**
 * Settlement vouchers (compute.md 3.5): per user one EIP-712 signature over the sum of fees and a hash of the requests it pays.
 *
 *   requestsHash = keccak256 of requestId ‖ user ‖ fee ‖ inputFee ‖ outputFee for each request in order of creation, as text without
 *                  separators (decimal fees, checksummed address)
 *   digest       = keccak256(0x1901 ‖ domainSeparator ‖ structHash)
 */
import { bigToBytes, concat, padLeft, utf8 } from '../../base/bytes.ts'
import { checksumAddress } from '../../crypto/address.ts'
import { keccak256 } from '../../crypto/hash.ts'
import { signDigest } from './personal-sign.ts'

/** One request as the voucher counts it. Fees in neuron. */
export interface SettledRequest {
  /** Its uuid. */
  id: string
  fee: bigint
  inputFee: bigint
  outputFee: bigint
}

export interface SettlementMessage {
  requestsHash: Uint8Array
  nonce: bigint
  provider: Uint8Array
  user: Uint8Array
  totalFee: bigint
}

export interface SettlementDomain {
  chainId: bigint
  /** InferenceServing, 20 bytes. */
  contract: Uint8Array
}

const DOMAIN_TYPE = 'EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)'
const SETTLEMENT_TYPE =
  'TEESettlement(bytes32 requestsHash,uint256 nonce,address provider,address user,uint256 totalFee)'

export const DOMAIN_TYPEHASH = keccak256(utf8(DOMAIN_TYPE))
export const SETTLEMENT_TYPEHASH = keccak256(utf8(SETTLEMENT_TYPE))
const NAME_HASH = keccak256(utf8('0G Inference Serving'))
const VERSION_HASH = keccak256(utf8('1'))

/** The text whose hash binds the voucher to its requests. */
export function requestsPreimage(user: Uint8Array, requests: readonly SettledRequest[]): string {
  const address = checksumAddress(user)
  return requests.map(r => `${r.id}${address}${r.fee}${r.inputFee}${r.outputFee}`).join('')
}

export function requestsHash(user: Uint8Array, requests: readonly SettledRequest[]): Uint8Array {
  return keccak256(utf8(requestsPreimage(user, requests)))
}

export function domainSeparator(d: SettlementDomain): Uint8Array {
  return keccak256(DOMAIN_TYPEHASH, NAME_HASH, VERSION_HASH, word(d.chainId), padLeft(d.contract, 32))
}

export function settlementStructHash(m: SettlementMessage): Uint8Array {
  return keccak256(
    SETTLEMENT_TYPEHASH,
    m.requestsHash,
    word(m.nonce),
    padLeft(m.provider, 32),
    padLeft(m.user, 32),
    word(m.totalFee)
  )
}

/** What is signed. */
export function settlementDigest(d: SettlementDomain, m: SettlementMessage): Uint8Array {
  return keccak256(concat(Uint8Array.of(0x19, 0x01), domainSeparator(d), settlementStructHash(m)))
}

/** r ‖ s ‖ v by the key of the service's `teeSignerAddress`. */
export function signSettlement(d: SettlementDomain, m: SettlementMessage, key: Uint8Array): Uint8Array {
  return signDigest(settlementDigest(d, m), key)
}

/** Outcome of one entry of a batch, as the event numbers it. */
export type SettlementStatus =
  | 'SUCCESS'
  | 'PARTIAL'
  | 'PROVIDER_MISMATCH'
  | 'NO_TEE_SIGNER'
  | 'INVALID_NONCE'
  | 'INVALID_SIGNATURE'

const STATUSES: readonly SettlementStatus[] = [
  'SUCCESS',
  'PARTIAL',
  'PROVIDER_MISMATCH',
  'NO_TEE_SIGNER',
  'INVALID_NONCE',
  'INVALID_SIGNATURE'
]

/** The status of a number; undefined when there is no such. */
export function settlementStatus(code: number): SettlementStatus | undefined {
  return STATUSES[code]
}

/** The number of a status. */
export function statusCode(status: SettlementStatus): number {
  return STATUSES.indexOf(status)
}

/** Vouchers of one call (`TooManySettlements`). */
export const MAX_SETTLEMENTS = 50

function word(n: bigint): Uint8Array {
  return bigToBytes(n, 32)
}
