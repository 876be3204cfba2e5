/**
 * The compute contracts as clients and providers call them (compute.md 1.3, 1.4): fragments, and typed readers of what comes back.
 * Costs 85 ms and 16 MB to load (the ABI part of ethers, never the whole): import it lazily in verbs.
 */
import { Interface, type Result } from 'ethers/abi'
import { ZgError } from '../../base/errors.ts'
import { fromHex, type Hex, toHex } from '../../base/hex.ts'

const REFUND = 'tuple(uint256 index, uint256 amount, uint256 createdAt, bool processed)'
const ACCOUNT =
  'tuple(address user, address provider, uint256 nonce, uint256 balance, uint256 pendingRefund, ' +
  `${REFUND}[] refunds, string additionalInfo, bool acknowledged, uint256 validRefundsLength, uint256 generation, uint256 revokedBitmap)`
const SERVICE =
  'tuple(address provider, string serviceType, string url, uint256 inputPrice, uint256 outputPrice, uint256 updatedAt, string model, ' +
  'string verifiability, string additionalInfo, address teeSignerAddress, bool teeSignerAcknowledged)'
const PARAMS =
  'tuple(string serviceType, string url, string model, string verifiability, uint256 inputPrice, uint256 outputPrice, ' +
  'string additionalInfo, address teeSignerAddress)'
const SETTLEMENT =
  'tuple(address user, address provider, uint256 totalFee, bytes32 requestsHash, uint256 nonce, bytes signature)'
const LEDGER = 'tuple(address user, uint256 availableBalance, uint256 totalBalance, string additionalInfo)'
const SERVICE_INFO =
  'tuple(address serviceAddress, address serviceContract, string serviceType, string version, string fullName, string description, ' +
  'bool isRecommended, uint256 registeredAt)'

/** InferenceServing. */
export const INFERENCE_FRAGMENTS: readonly string[] = [
  `function addOrUpdateService(${PARAMS}) payable`,
  'function removeService()',
  `function getService(address provider) view returns (${SERVICE})`,
  'function serviceExists(address provider) view returns (bool)',
  `function getAllServices(uint256 offset, uint256 limit) view returns (${SERVICE}[], uint256 total)`,
  'function acknowledgeTEESignerByOwner(address provider)',
  'function revokeTEESignerAcknowledgement(address provider)',
  'function acknowledgeTEESigner(address provider, bool acknowledged)',
  `function getAccount(address user, address provider) view returns (${ACCOUNT})`,
  'function accountExists(address user, address provider) view returns (bool)',
  'function getPendingRefund(address user, address provider) view returns (uint256)',
  `function getAccountsByUser(address user, uint256 offset, uint256 limit) view returns (${ACCOUNT}[], uint256 total)`,
  `function getAccountsByProvider(address provider, uint256 offset, uint256 limit) view returns (${ACCOUNT}[], uint256 total)`,
  'function revokeToken(address provider, uint8 tokenId)',
  'function revokeTokens(address provider, uint8[] tokenIds)',
  'function revokeAllTokens(address provider)',
  'function isTokenRevoked(address user, address provider, uint8 tokenId) view returns (bool)',
  `function settleFeesWithTEE(${SETTLEMENT}[] settlements) returns (uint8[])`,
  `function previewSettlementResults(${SETTLEMENT}[] settlements) view returns (address[] failedUsers, uint8[] reasons, address[] partialUsers, uint256[] partialAmounts)`,
  'function lockTime() view returns (uint256)',
  'function owner() view returns (address)',
  'function ledgerAddress() view returns (address)',
  'event BalanceUpdated(address indexed user, address indexed provider, uint256 amount, uint256 pendingRefund)',
  'event RefundRequested(address indexed user, address indexed provider, uint256 indexed index, uint256 timestamp)',
  'event ServiceUpdated(address indexed service, string serviceType, string url, uint256 inputPrice, uint256 outputPrice, uint256 updatedAt, string model, string verifiability)',
  'event ServiceRemoved(address indexed service)',
  'event ProviderTEESignerAcknowledged(address indexed provider, address indexed signer, bool acknowledged)',
  'event TEESettlementResult(address indexed user, uint8 status, uint256 unsettledAmount)',
  'event TokenRevoked(address indexed user, address indexed provider, uint8 tokenId)',
  'event TokensRevoked(address indexed user, address indexed provider, uint8[] tokenIds)',
  'event AllTokensRevoked(address indexed user, address indexed provider, uint256 newGeneration)',
  'event AccountDeleted(address indexed user, address indexed provider, uint256 amount)',
  'error AccountExists(address user, address provider)',
  'error AccountNotExists(address user, address provider)',
  'error AdditionalInfoTooLong()',
  'error CannotAddStakeWhenUpdating()',
  'error CannotRevokeWithNonZeroBalance(address user, address provider, uint256 balance)',
  'error InsufficientStake(uint256 provided, uint256 required)',
  'error LimitTooLarge(uint256 limit, uint256 max)',
  'error NoSettlementsProvided()',
  'error ProviderCannotBeUser()',
  'error ServiceNotExist(address provider)',
  'error TooManyRefunds(address user, address provider)',
  'error TooManySettlements(uint256 count, uint256 max)',
  'error TransferFailed()'
]

/** LedgerManager. */
export const LEDGER_FRAGMENTS: readonly string[] = [
  'function addLedger(string additionalInfo) payable returns (uint256, uint256)',
  'function depositFund() payable',
  'function depositFundFor(address user) payable',
  'function transferFund(address provider, string serviceName, uint256 amount)',
  'function retrieveFund(address[] providers, string serviceName)',
  'function refund(uint256 amount)',
  'function deleteLedger()',
  `function getLedger(address user) view returns (${LEDGER})`,
  `function getAllLedgers(uint256 offset, uint256 limit) view returns (${LEDGER}[], uint256 total)`,
  'function getLedgerProviders(address user, string serviceName) view returns (address[])',
  `function getServiceInfo(address service) view returns (${SERVICE_INFO})`,
  'function getServiceAddressByName(string serviceName) view returns (address)',
  'error CallFailed()',
  'error InsufficientAvailableBalance(uint256 available, uint256 needed)',
  'error InsufficientBalance(address user)',
  'error LedgerExists(address user)',
  'error LedgerNotExists(address user)',
  'error MinimumDepositRequired(uint256 provided, uint256 required)',
  'error MustWithdrawAllFundsFirst(uint256 total)',
  'error ServiceNotFound(address service)',
  'error TooManyProviders(uint256 count, uint256 max)',
  'error ZeroAmountNotAllowed()'
]

let inference: Interface | undefined
let ledger: Interface | undefined

/** InferenceServing's interface, made once. */
export function inferenceAbi(): Interface {
  inference ??= new Interface(INFERENCE_FRAGMENTS)
  return inference
}

/** LedgerManager's interface, made once. */
export function ledgerAbi(): Interface {
  ledger ??= new Interface(LEDGER_FRAGMENTS)
  return ledger
}

/** What a provider registers. Prices in neuron a token. */
export interface ServiceParams {
  serviceType: string
  url: string
  model: string
  verifiability: string
  inputPrice: bigint
  outputPrice: bigint
  additionalInfo: string
  /** 20 bytes. */
  teeSigner: Uint8Array
}

/** A service as the contract holds it. */
export interface ServiceRecord extends ServiceParams {
  provider: Uint8Array
  /** Unix seconds. */
  updatedAt: bigint
  teeSignerAcknowledged: boolean
}

/** A sub-account as the contract holds it. */
export interface AccountRecord {
  user: Uint8Array
  provider: Uint8Array
  nonce: bigint
  balance: bigint
  pendingRefund: bigint
  /** The live refund requests. */
  refunds: { amount: bigint; createdAt: bigint }[]
  acknowledged: boolean
  generation: bigint
  revokedBitmap: bigint
}

/** One voucher of a batch. */
export interface SettlementEntry {
  user: Uint8Array
  provider: Uint8Array
  totalFee: bigint
  requestsHash: Uint8Array
  nonce: bigint
  signature: Uint8Array
}

export function encodeServiceParams(p: ServiceParams): Uint8Array {
  const { serviceType, url, model, verifiability, inputPrice, outputPrice, additionalInfo } = p
  const tuple = [serviceType, url, model, verifiability, inputPrice, outputPrice, additionalInfo, toHex(p.teeSigner)]
  return fromHex(inferenceAbi().encodeFunctionData('addOrUpdateService', [tuple]))
}

export function encodeSettlements(entries: readonly SettlementEntry[]): Uint8Array {
  const tuples = entries.map(e => [e.user, e.provider, e.totalFee, e.requestsHash, e.nonce, e.signature].map(hexed))
  return fromHex(inferenceAbi().encodeFunctionData('settleFeesWithTEE', [tuples]))
}

/** The vouchers of a `settleFeesWithTEE` call; undefined for any other call data. */
export function decodeSettlements(data: Hex): SettlementEntry[] | undefined {
  const abi = inferenceAbi()
  if (!data.startsWith(abi.getFunction('settleFeesWithTEE')!.selector)) return undefined
  const [list] = decoded(() => abi.decodeFunctionData('settleFeesWithTEE', data)) as unknown as [Result[]]
  return [...list].map(e => ({
    user: fromHex(e.user),
    provider: fromHex(e.provider),
    totalFee: e.totalFee as bigint,
    requestsHash: fromHex(e.requestsHash),
    nonce: e.nonce as bigint,
    signature: fromHex(e.signature)
  }))
}

/** Call data of a view or a plain function; byte strings and addresses may be given as bytes. */
export function encodeCall(abi: Interface, name: string, args: readonly unknown[] = []): Uint8Array {
  return fromHex(abi.encodeFunctionData(name, args.map(hexed)))
}

/** @throws {ZgError} ERR_PROTOCOL when the answer is no service. */
export function decodeService(data: Hex): ServiceRecord {
  const [s] = decoded(() => inferenceAbi().decodeFunctionResult('getService', data))
  return serviceOf(s)
}

/** A page of `getAllServices`. @throws {ZgError} ERR_PROTOCOL. */
export function decodeServices(data: Hex): { services: ServiceRecord[]; total: bigint } {
  const [list, total] = decoded(() => inferenceAbi().decodeFunctionResult('getAllServices', data))
  return { services: [...(list as Result[])].map(serviceOf), total: total as bigint }
}

/** @throws {ZgError} ERR_PROTOCOL when the answer is no account. */
export function decodeAccount(data: Hex): AccountRecord {
  const [a] = decoded(() => inferenceAbi().decodeFunctionResult('getAccount', data))
  const live = Number(a.validRefundsLength)
  return {
    user: fromHex(a.user),
    provider: fromHex(a.provider),
    nonce: a.nonce,
    balance: a.balance,
    pendingRefund: a.pendingRefund,
    refunds: [...(a.refunds as Result[])]
      .slice(0, live)
      .map(r => ({ amount: r.amount as bigint, createdAt: r.createdAt as bigint })),
    acknowledged: a.acknowledged,
    generation: a.generation,
    revokedBitmap: a.revokedBitmap
  }
}

/** Name and arguments of a revert by one of the contracts' errors; undefined for other data. */
export function decodeRevert(data: unknown): { name: string; args: unknown[] } | undefined {
  if (typeof data !== 'string' || !/^0x[0-9a-f]{8,}$/i.test(data)) return undefined
  for (const abi of [ledgerAbi(), inferenceAbi()]) {
    try {
      const found = abi.parseError(data)
      if (found !== null) return { name: found.name, args: [...found.args] }
    } catch {
      // Not this contract's.
    }
  }
  return undefined
}

function serviceOf(s: Result): ServiceRecord {
  return {
    provider: fromHex(s.provider),
    serviceType: s.serviceType,
    url: s.url,
    inputPrice: s.inputPrice,
    outputPrice: s.outputPrice,
    updatedAt: s.updatedAt,
    model: s.model,
    verifiability: s.verifiability,
    additionalInfo: s.additionalInfo,
    teeSigner: fromHex(s.teeSignerAddress),
    teeSignerAcknowledged: s.teeSignerAcknowledged
  }
}

function decoded<T>(fn: () => T): T {
  try {
    return fn()
  } catch (err) {
    throw new ZgError('ERR_PROTOCOL', 'the contract answered something else than its ABI says', { cause: err })
  }
}

function hexed(value: unknown): unknown {
  return value instanceof Uint8Array ? toHex(value) : Array.isArray(value) ? value.map(hexed) : value
}
