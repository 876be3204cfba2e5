/**
 * The compute contracts as a client reads and pays through them (compute.md 1): services, ledgers, sub-accounts. The ABI coder of
 * ethers alone is loaded, no wallet and no provider.
 */
import { Interface, type Result } from 'ethers/abi'
import { RpcError } from '../../adapters/jsonrpc/types.ts'
import { ZgError } from '../../base/errors.ts'
import { fromHex, type Hex, toHex } from '../../base/hex.ts'
import { formatAmount } from '../../base/units.ts'
import { contractAddresses } from '../../contracts/addresses.ts'
import { checksumAddress } from '../../crypto/address.ts'
import type { Account } from '../accounts.ts'
import type { ChainClient, RpcReceipt } from '../chain.ts'

/** A registered service. Prices are neuron for one token. */
export interface Service {
  provider: Hex
  serviceType: string
  url: string
  inputPrice: bigint
  outputPrice: bigint
  /** Unix seconds. */
  updatedAt: number
  model: string
  verifiability: string
  additionalInfo: string
  teeSigner: Hex
  /** By the contract's owner: without it nobody is served. */
  acknowledged: boolean
}

export interface Ledger {
  /** Neuron, not given to any provider. */
  available: bigint
  /** Neuron, sub-accounts included. */
  total: bigint
}

/** What a user has at one provider. */
export interface SubAccount {
  user: Hex
  provider: Hex
  nonce: bigint
  /** Neuron. */
  balance: bigint
  /** Neuron asked back, part of the balance. */
  pendingRefund: bigint
  refunds: { amount: bigint; createdAt: number }[]
  acknowledged: boolean
  generation: number
  revokedBitmap: bigint
}

export interface ComputeAddresses {
  ledgerManager: Hex
  inferenceServing: Hex
}

const PAGE = 50
/** A registry beyond this is not listed whole. */
export const SERVICES_MAX = 10_000
/** The name under which the ledger knows the inference contract. */
export const INFERENCE = 'inference-v1.0'

const SERVICE =
  'tuple(address provider, string serviceType, string url, uint256 inputPrice, uint256 outputPrice, uint256 updatedAt, string model, string verifiability, string additionalInfo, address teeSignerAddress, bool teeSignerAcknowledged)'
const ACCOUNT =
  'tuple(address user, address provider, uint256 nonce, uint256 balance, uint256 pendingRefund, tuple(uint256 index, uint256 amount, uint256 createdAt, bool processed)[] refunds, string additionalInfo, bool acknowledged, uint256 validRefundsLength, uint256 generation, uint256 revokedBitmap)'
const LEDGER = 'tuple(address user, uint256 availableBalance, uint256 totalBalance, string additionalInfo)'

const ABI = new Interface([
  `function getAllServices(uint256 offset, uint256 limit) view returns (${SERVICE}[] services, uint256 total)`,
  `function getService(address provider) view returns (${SERVICE})`,
  `function getAccount(address user, address provider) view returns (${ACCOUNT})`,
  `function getLedger(address user) view returns (${LEDGER})`,
  'function lockTime() view returns (uint256)',
  'function getLedgerProviders(address user, string serviceName) view returns (address[])',
  'function addLedger(string additionalInfo) payable returns (uint256, uint256)',
  'function depositFund() payable',
  'function transferFund(address provider, string serviceName, uint256 amount)',
  'function retrieveFund(address[] providers, string serviceName)',
  'function refund(uint256 amount)',
  'function acknowledgeTEESigner(address provider, bool acknowledged)',
  'error LedgerNotExists(address user)',
  'error LedgerExists(address user)',
  'error InsufficientAvailableBalance(uint256 available, uint256 needed)',
  'error InsufficientBalance(address user)',
  'error MinimumDepositRequired(uint256 given, uint256 minimum)',
  'error ServiceNotExist(address provider)',
  'error AccountNotExists(address user, address provider)',
  'error ProviderCannotBeUser()',
  'error TooManyRefunds(address user, address provider)',
  'error TooManyProviders(uint256 given, uint256 maximum)',
  'error TooManyProvidersForService(uint256 given, uint256 maximum)',
  'error ServiceNotFound(address service)',
  'error ZeroAmountNotAllowed()'
])

export class ComputeContracts {
  readonly chain: ChainClient
  readonly addresses: ComputeAddresses

  private constructor(chain: ChainClient, addresses: ComputeAddresses) {
    this.chain = chain
    this.addresses = addresses
  }

  /**
   * The contracts of the chain behind the client.
   * @throws {ZgError} ERR_NO_CONTRACT when there is no code at their addresses.
   */
  static async open(chain: ChainClient, given: Partial<ComputeAddresses> = {}): Promise<ComputeContracts> {
    const chainId = await chain.chainId()
    const known = contractAddresses(chainId)
    const addresses = {
      ledgerManager: given.ledgerManager ?? known.ledgerManager,
      inferenceServing: given.inferenceServing ?? known.inferenceServing
    }
    for (const address of Object.values(addresses)) {
      if (!(await chain.hasCode(address))) {
        throw new ZgError('ERR_NO_CONTRACT', `no contract at ${address} on chain ${chainId}`, {
          hint: "run 'zg-devnet contracts', or give the network's chain with '--rpc-url URL'"
        })
      }
    }
    return new ComputeContracts(chain, addresses)
  }

  /** All registered services, in the registry's order. @throws {ZgError} ERR_PROTOCOL beyond {@link SERVICES_MAX}. */
  async services(): Promise<Service[]> {
    const found: Service[] = []
    for (;;) {
      const [page, total] = await this.#read(this.addresses.inferenceServing, 'getAllServices', [found.length, PAGE])
      found.push(...(page as Result[]).map(readService))
      if (found.length >= Number(total) || (page as Result[]).length === 0) return found
      if (found.length >= SERVICES_MAX)
        throw new ZgError('ERR_PROTOCOL', `the registry claims more than ${SERVICES_MAX} services`)
    }
  }

  /** @throws {ZgError} ERR_NOT_FOUND when the provider registered none. */
  async service(provider: Hex): Promise<Service> {
    try {
      const [service] = await this.#read(this.addresses.inferenceServing, 'getService', [provider])
      return readService(service as Result)
    } catch (err) {
      if (revertName(err) !== 'ServiceNotExist') throw err
      throw new ZgError('ERR_NOT_FOUND', `no provider ${checksumAddress(fromHex(provider))} is registered`, {
        hint: "run 'zg-market list'"
      })
    }
  }

  /** Undefined when the user has none. */
  async ledger(user: Uint8Array): Promise<Ledger | undefined> {
    try {
      const [ledger] = await this.#read(this.addresses.ledgerManager, 'getLedger', [toHex(user)])
      return { available: (ledger as Result).availableBalance, total: (ledger as Result).totalBalance }
    } catch (err) {
      if (revertName(err) === 'LedgerNotExists') return undefined
      throw err
    }
  }

  /** Undefined when the user never gave the provider anything. */
  async account(user: Uint8Array, provider: Hex): Promise<SubAccount | undefined> {
    try {
      const answer = await this.#read(this.addresses.inferenceServing, 'getAccount', [toHex(user), provider])
      const a = answer[0] as Result
      const live = Number(a.validRefundsLength)
      return {
        user: a.user,
        provider: a.provider,
        nonce: a.nonce,
        balance: a.balance,
        pendingRefund: a.pendingRefund,
        refunds: (a.refunds as Result[])
          .slice(0, live)
          .map(r => ({ amount: r.amount as bigint, createdAt: Number(r.createdAt) })),
        acknowledged: a.acknowledged,
        generation: Number(a.generation),
        revokedBitmap: a.revokedBitmap
      }
    } catch (err) {
      if (revertName(err) === 'AccountNotExists') return undefined
      throw err
    }
  }

  /** Providers at which the user has a sub-account. */
  async providersOf(user: Uint8Array): Promise<Hex[]> {
    const [list] = await this.#read(this.addresses.ledgerManager, 'getLedgerProviders', [toHex(user), INFERENCE])
    return [...(list as Result)] as Hex[]
  }

  /** Seconds that money asked back stays locked. */
  async lockSeconds(): Promise<number> {
    const [seconds] = await this.#read(this.addresses.inferenceServing, 'lockTime', [])
    return Number(seconds)
  }

  /** Pays into the user's ledger, which the first deposit (at least 3 0G) creates. */
  async deposit(account: Account, amount: bigint): Promise<RpcReceipt> {
    const exists = (await this.ledger(account.address)) !== undefined
    return this.#write(account, 'ledgerManager', exists ? 'depositFund' : 'addLedger', exists ? [] : [''], amount)
  }

  /** Moves money from the ledger to a provider's sub-account; the first time at least 1 0G. */
  async transfer(account: Account, provider: Hex, amount: bigint): Promise<RpcReceipt> {
    return this.#write(account, 'ledgerManager', 'transferFund', [provider, INFERENCE, amount])
  }

  /** Pays back what is unlocked and asks for the rest of up to 20 providers. */
  async retrieve(account: Account, providers: readonly Hex[]): Promise<RpcReceipt> {
    return this.#write(account, 'ledgerManager', 'retrieveFund', [providers, INFERENCE])
  }

  /** Takes available money out of the ledger. */
  async refund(account: Account, amount: bigint): Promise<RpcReceipt> {
    return this.#write(account, 'ledgerManager', 'refund', [amount])
  }

  /** The user's own acknowledgement of a provider's signer; a transfer sets it by itself. */
  async acknowledge(account: Account, provider: Hex): Promise<RpcReceipt> {
    return this.#write(account, 'inferenceServing', 'acknowledgeTEESigner', [provider, true])
  }

  async #read(to: Hex, name: string, args: readonly unknown[]): Promise<Result> {
    const answer = await this.chain.call<Hex>('eth_call', [{ to, data: ABI.encodeFunctionData(name, args) }, 'latest'])
    try {
      return ABI.decodeFunctionResult(name, answer)
    } catch (cause) {
      throw new ZgError('ERR_PROTOCOL', `the contract at ${to} does not answer ${name} as it should`, { cause })
    }
  }

  async #write(
    account: Account,
    contract: keyof ComputeAddresses,
    name: string,
    args: readonly unknown[],
    value = 0n
  ): Promise<RpcReceipt> {
    const to = fromHex(this.addresses[contract])
    const data = fromHex(ABI.encodeFunctionData(name, args))
    let hash: Hex
    try {
      hash = await this.chain.send(account, { to, data, value })
    } catch (err) {
      throw inWords(err)
    }
    const receipt = await this.chain.waitReceipt(hash)
    if (receipt.status !== '0x1')
      throw new ZgError('ERR_REJECTED', `${name} was reverted in transaction ${hash}`, {
        hint: `run 'zg-chain tx ${hash}'`
      })
    return receipt
  }
}

function readService(s: Result): Service {
  return {
    provider: s.provider,
    serviceType: s.serviceType,
    url: s.url,
    inputPrice: s.inputPrice,
    outputPrice: s.outputPrice,
    updatedAt: Number(s.updatedAt),
    model: s.model,
    verifiability: s.verifiability,
    additionalInfo: s.additionalInfo,
    teeSigner: s.teeSignerAddress,
    acknowledged: s.teeSignerAcknowledged
  }
}

function revertData(err: unknown): string | undefined {
  const cause = err instanceof ZgError ? err.cause : err
  return cause instanceof RpcError && typeof cause.data === 'string' ? cause.data : undefined
}

function revertName(err: unknown): string | undefined {
  const data = revertData(err)
  return data === undefined ? undefined : ABI.parseError(data)?.name
}

/** A revert of these contracts as a sentence; anything else unchanged. */
function inWords(err: unknown): unknown {
  const data = revertData(err)
  const parsed = data === undefined ? null : ABI.parseError(data)
  if (parsed === null) return err
  const og = (i: number): string => formatAmount(parsed.args[i] as bigint)
  const say = (message: string, hint?: string): ZgError => new ZgError('ERR_REJECTED', message, { hint, cause: err })
  switch (parsed.name) {
    case 'LedgerNotExists':
      return new ZgError('ERR_FUNDS', 'there is no ledger yet', {
        hint: "run 'zg-compute account deposit 3'",
        cause: err
      })
    case 'InsufficientAvailableBalance':
      return new ZgError('ERR_FUNDS', `ledger has ${og(0)} 0G, needs ${og(1)} 0G`, {
        hint: "run 'zg-compute account deposit 1'",
        cause: err
      })
    case 'InsufficientBalance':
      return new ZgError('ERR_FUNDS', 'the ledger does not hold that much', {
        hint: "run 'zg-compute account show'",
        cause: err
      })
    case 'MinimumDepositRequired':
      return say(`${og(0)} 0G is too little, at least ${og(1)} 0G are needed or must stay`)
    case 'ProviderCannotBeUser':
      return say('a provider cannot be its own customer', "name another payer with '--account'")
    case 'TooManyRefunds':
      return say('five withdrawals from this provider are waiting already', "run 'zg-compute account show'")
    default:
      return say(`the contract refuses: ${parsed.name}(${parsed.args.join(', ')})`)
  }
}
