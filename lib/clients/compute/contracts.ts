/**
 * The compute contracts as a client reads and pays through them (compute.md 1): services, ledgers, sub-accounts. The ABI coder of
 * ethers alone is loaded, no wallet and no provider.
 */
import type { Interface, Result } from 'ethers/abi'
import { RpcError } from '../../adapters/jsonrpc/types.ts'
import { ZgError } from '../../base/errors.ts'
import { fromHex, type Hex, toHex } from '../../base/hex.ts'
import { formatAmount } from '../../base/units.ts'
import {
  type AccountRecord,
  decodeAccount,
  decodeRevert,
  decodeService,
  decodeServices,
  encodeCall,
  inferenceAbi,
  ledgerAbi,
  type ServiceRecord
} from '../../codec/compute/abi.ts'
import { contractAddresses } from '../../contracts/addresses.ts'
import { checksumAddress } from '../../crypto/address.ts'
import type { Account } from '../accounts.ts'
import type { ChainClient, RpcReceipt } from '../chain.ts'

export interface Ledger {
  /** Neuron, not given to any provider. */
  available: bigint
  /** Neuron, sub-accounts included. */
  total: bigint
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
  async services(): Promise<ServiceRecord[]> {
    const found: ServiceRecord[] = []
    for (;;) {
      const { services, total } = decodeServices(
        await this.#read('inferenceServing', 'getAllServices', [found.length, PAGE])
      )
      found.push(...services)
      if (found.length >= Number(total) || services.length === 0) return found
      if (found.length >= SERVICES_MAX)
        throw new ZgError('ERR_PROTOCOL', `the registry claims more than ${SERVICES_MAX} services`)
    }
  }

  /** @throws {ZgError} ERR_NOT_FOUND when the provider registered none. */
  async service(provider: Uint8Array): Promise<ServiceRecord> {
    try {
      return decodeService(await this.#read('inferenceServing', 'getService', [provider]))
    } catch (err) {
      if (revertName(err) !== 'ServiceNotExist') throw err
      throw new ZgError('ERR_NOT_FOUND', `no provider ${checksumAddress(provider)} is registered`, {
        hint: "run 'zg-market list'"
      })
    }
  }

  /** Undefined when the user has none. */
  async ledger(user: Uint8Array): Promise<Ledger | undefined> {
    try {
      const answer = await this.#read('ledgerManager', 'getLedger', [user])
      const ledger = this.#decode('getLedger', answer)[0] as Result
      return { available: ledger.availableBalance, total: ledger.totalBalance }
    } catch (err) {
      if (revertName(err) === 'LedgerNotExists') return undefined
      throw err
    }
  }

  /** Undefined when the user never gave the provider anything. */
  async account(user: Uint8Array, provider: Uint8Array): Promise<AccountRecord | undefined> {
    try {
      return decodeAccount(await this.#read('inferenceServing', 'getAccount', [user, provider]))
    } catch (err) {
      if (revertName(err) === 'AccountNotExists') return undefined
      throw err
    }
  }

  /** Providers at which the user has a sub-account. */
  async providersOf(user: Uint8Array): Promise<Uint8Array[]> {
    const answer = await this.#read('ledgerManager', 'getLedgerProviders', [user, INFERENCE])
    return [...(this.#decode('getLedgerProviders', answer)[0] as Result)].map(a => fromHex(a as string))
  }

  /** Seconds that money asked back stays locked. */
  async lockSeconds(): Promise<number> {
    return Number(BigInt(await this.#read('inferenceServing', 'lockTime', [])))
  }

  /** Pays into the user's ledger, which the first deposit (at least 3 0G) creates. */
  async deposit(account: Account, amount: bigint): Promise<RpcReceipt> {
    const exists = (await this.ledger(account.address)) !== undefined
    return this.#write(account, 'ledgerManager', exists ? 'depositFund' : 'addLedger', exists ? [] : [''], amount)
  }

  /** Moves money from the ledger to a provider's sub-account; the first time at least 1 0G. */
  async transfer(account: Account, provider: Uint8Array, amount: bigint): Promise<RpcReceipt> {
    return this.#write(account, 'ledgerManager', 'transferFund', [provider, INFERENCE, amount])
  }

  /** Pays back what is unlocked and asks for the rest of up to 20 providers. */
  async retrieve(account: Account, providers: readonly Uint8Array[]): Promise<RpcReceipt> {
    return this.#write(account, 'ledgerManager', 'retrieveFund', [providers, INFERENCE])
  }

  /** Takes available money out of the ledger. */
  async refund(account: Account, amount: bigint): Promise<RpcReceipt> {
    return this.#write(account, 'ledgerManager', 'refund', [amount])
  }

  /** The user's own acknowledgement of a provider's signer; a transfer sets it by itself. */
  async acknowledge(account: Account, provider: Uint8Array): Promise<RpcReceipt> {
    return this.#write(account, 'inferenceServing', 'acknowledgeTEESigner', [provider, true])
  }

  #read(contract: keyof ComputeAddresses, name: string, args: readonly unknown[]): Promise<Hex> {
    const data = toHex(encodeCall(abiOf(contract), name, args))
    return this.chain.call<Hex>('eth_call', [{ to: this.addresses[contract], data }, 'latest'])
  }

  #decode(name: string, answer: Hex): Result {
    try {
      return ledgerAbi().decodeFunctionResult(name, answer)
    } catch (cause) {
      throw new ZgError('ERR_PROTOCOL', `the ledger does not answer ${name} as it should`, { cause })
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
    const data = encodeCall(abiOf(contract), name, args)
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

function abiOf(contract: keyof ComputeAddresses): Interface {
  return contract === 'ledgerManager' ? ledgerAbi() : inferenceAbi()
}

function revertOf(err: unknown): { name: string; args: unknown[] } | undefined {
  const cause = err instanceof ZgError ? err.cause : err
  return cause instanceof RpcError ? decodeRevert(cause.data) : undefined
}

function revertName(err: unknown): string | undefined {
  return revertOf(err)?.name
}

/** A revert of these contracts as a sentence; anything else unchanged. */
function inWords(err: unknown): unknown {
  const parsed = revertOf(err)
  if (parsed === undefined) return err
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
