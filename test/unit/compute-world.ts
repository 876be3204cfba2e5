/**
 * The compute contracts of a genesis with what clients do to them, for tests: ledgers, accounts, settlements signed as a provider's signer
 * signs them, and a check that the books agree with what the contracts hold.
 */
import { keccak_256 } from '@noble/hashes/sha3.js'
import { getAddress, Interface, type InterfaceAbi, id, type Result, SigningKey, TypedDataEncoder } from 'ethers'
import { fromHex, type Hex, toHex } from '../../lib/base/hex.ts'
import { contractAddresses } from '../../lib/contracts/addresses.ts'
import { DEVNET_COMPUTE, SERVICE_NAMES } from '../../lib/contracts/compute-genesis.ts'
import { fineTuningServingAbi, inferenceServingAbi, ledgerManagerAbi } from '../../lib/contracts/generated/abi.ts'
import { account, type Outcome, TestChain, type TestContract } from './contract-chain.ts'

export const OG = 10n ** 18n
export const LOCK = DEVNET_COMPUTE.lockSeconds
export const OWNER = account(0)
export const ABI: Record<string, readonly object[]> = {
  LedgerManager: ledgerManagerAbi,
  InferenceServing: inferenceServingAbi,
  FineTuningServing: fineTuningServingAbi
}
export const INTERFACES = Object.values(ABI).map(abi => new Interface(abi as InterfaceAbi))

/** An error of any of the three contracts, as a client would name it. */
export function failure(outcome: Outcome): string {
  if (outcome.ok) return 'no error'
  if (!outcome.data.startsWith('0x') || outcome.data.length < 10) return outcome.error
  for (const abi of INTERFACES) {
    const parsed = abi.parseError(outcome.data)
    if (parsed !== null) return `${parsed.name}(${parsed.args.map(String).join(', ')})`
  }
  return outcome.error
}

export const lower = (address: string) => address.toLowerCase() as Hex
export const key = (seed: string) => new SigningKey(keccak_256(new TextEncoder().encode(seed)))
export const addressOf = (k: SigningKey): Hex => toHex(keccak_256(fromHex(k.publicKey as Hex).slice(1)).slice(12))

export const SETTLEMENT_TYPES = {
  TEESettlement: [
    { name: 'requestsHash', type: 'bytes32' },
    { name: 'nonce', type: 'uint256' },
    { name: 'provider', type: 'address' },
    { name: 'user', type: 'address' },
    { name: 'totalFee', type: 'uint256' }
  ]
}
export const VERIFIER_TYPES = {
  VerifierMessage: [
    { name: 'id', type: 'string' },
    { name: 'encryptedSecret', type: 'bytes' },
    { name: 'modelRootHash', type: 'bytes' },
    { name: 'nonce', type: 'uint256' },
    { name: 'taskFee', type: 'uint256' },
    { name: 'user', type: 'address' }
  ]
}

export interface Settlement {
  user: string
  provider: string
  totalFee: bigint
  requestsHash: string
  nonce: bigint
  signature: string
}

export interface Task {
  id: string
  encryptedSecret: string
  modelRootHash: string
  nonce: bigint
  signature: string
  taskFee: bigint
  user: string
}

/** The three contracts on a chain, and what clients do with them. */
export class World {
  readonly chain: TestChain
  readonly chainId: number
  readonly at: ReturnType<typeof contractAddresses>
  readonly ledger: TestContract
  readonly inference: TestContract
  readonly fineTuning: TestContract
  readonly signer = key('signer')

  constructor(chain: TestChain, chainId: number) {
    this.chain = chain
    this.chainId = chainId
    this.at = contractAddresses(chainId)
    this.ledger = chain.contract(this.at.ledgerManager, ledgerManagerAbi)
    this.inference = chain.contract(this.at.inferenceServing, inferenceServingAbi)
    this.fineTuning = chain.contract(this.at.fineTuningServing, fineTuningServingAbi)
  }

  static async start(chainId = 31337): Promise<World> {
    return new World(await TestChain.start({ chainId }), chainId)
  }

  /** A view as seen by `from`. */
  async view(contract: TestContract, name: string, args: unknown[], from: string): Promise<Result> {
    const data = contract.abi.encodeFunctionData(name, args)
    const outcome = await this.chain.call({ from, to: contract.address, data })
    if (!outcome.ok) throw new Error(failure(outcome))
    return contract.abi.decodeFunctionResult(name, outcome.data)
  }

  /** A service of `provider`, vouched for by the owner. */
  async serve(provider: string, opts: { signer?: string; vouch?: boolean } = {}): Promise<void> {
    const done = await this.inference.send(
      'addOrUpdateService',
      [params({ signer: opts.signer ?? addressOf(this.signer) })],
      {
        from: provider,
        value: 100n * OG
      }
    )
    if (!done.ok) throw new Error(failure(done))
    if (opts.vouch !== false) await this.inference.send('acknowledgeTEESignerByOwner', [provider])
  }

  async serveTuning(provider: string): Promise<void> {
    const args = ['http://a', [1, 2, 3, 4, 'H100'], 7, false, ['m'], addressOf(this.signer)]
    const done = await this.fineTuning.send('addOrUpdateService', args, { from: provider, value: 100n * OG })
    if (!done.ok) throw new Error(failure(done))
    await this.fineTuning.send('acknowledgeTEESignerByOwner', [provider])
  }

  deposit(user: string, value: bigint): Promise<Outcome> {
    return this.ledger.send('depositFund', [], { from: user, value })
  }

  transfer(
    user: string,
    provider: string,
    amount: bigint,
    service: string = SERVICE_NAMES.inference
  ): Promise<Outcome> {
    return this.ledger.send('transferFund', [provider, service, amount], { from: user })
  }

  retrieve(user: string, providers: string[], service: string = SERVICE_NAMES.inference): Promise<Outcome> {
    return this.ledger.send('retrieveFund', [providers, service], { from: user })
  }

  async ledgerOf(user: string): Promise<{ available: bigint; total: bigint }> {
    const [ledger] = await this.ledger.read('getLedger', [user])
    return { available: ledger.availableBalance, total: ledger.totalBalance }
  }

  async account(user: string, provider: string): Promise<Result> {
    return (await this.inference.read('getAccount', [user, provider]))[0]
  }

  settlement(user: string, provider: string, totalFee: bigint, nonce: bigint, signer = this.signer): Settlement {
    const message = { requestsHash: id(`${user}${nonce}`), nonce, provider, user, totalFee }
    const domain = {
      name: '0G Inference Serving',
      version: '1',
      chainId: this.chainId,
      verifyingContract: lower(this.inference.address)
    }
    const digest = TypedDataEncoder.hash(domain, SETTLEMENT_TYPES, message)
    return { ...message, signature: signer.sign(digest).serialized }
  }

  settle(provider: string, batch: Settlement[]): Promise<Outcome> {
    return this.inference.send('settleFeesWithTEE', [batch], { from: provider })
  }

  task(fields: Omit<Task, 'signature'>, signer = this.signer): Task {
    const domain = {
      name: '0G Fine-Tuning Serving',
      version: '1',
      chainId: this.chainId,
      verifyingContract: lower(this.fineTuning.address)
    }
    return { ...fields, signature: signer.sign(TypedDataEncoder.hash(domain, VERIFIER_TYPES, fields)).serialized }
  }

  statuses(outcome: Outcome): number[] {
    return [...this.inference.abi.decodeFunctionResult('settleFeesWithTEE', outcome.data)[0]].map(Number)
  }

  /** name and arguments of the logs of one contract. */
  logs(outcome: Outcome, contract: TestContract): [string, ...string[]][] {
    return outcome.logs
      .filter(l => lower(l.address) === lower(contract.address))
      .map(l => contract.abi.parseLog(l)!)
      .map(l => [l.name, ...l.args.map(a => String(a).toLowerCase())])
  }

  /** Where the books are not what the contracts hold, to the neuron: nowhere, one hopes. */
  async discrepancies(users: string[], stakes: { inference: bigint; fineTuning: bigint }): Promise<string[]> {
    const found: string[] = []
    let available = 0n
    const held = [stakes.inference, stakes.fineTuning]
    for (const user of users) {
      let sum = 0n
      for (const [i, service] of [this.inference, this.fineTuning].entries()) {
        const [accounts] = await service.read('getAccountsByUser', [user, 0, 50])
        for (const a of accounts) {
          sum += a.balance
          held[i]! += a.balance
        }
      }
      const ledger = await this.ledgerOf(user).catch(() => ({ available: 0n, total: 0n }))
      available += ledger.available
      if (ledger.total - ledger.available !== sum)
        found.push(`${user}: ${ledger.total} - ${ledger.available}, not ${sum}`)
    }
    const contracts = [this.ledger, this.inference, this.fineTuning]
    for (const [i, expected] of [available, ...held].entries()) {
      const balance = await this.chain.balance(contracts[i]!.address)
      if (balance !== expected) found.push(`${contracts[i]!.address} holds ${balance}, not ${expected}`)
    }
    return found
  }
}

export function params(changes: { signer?: string; url?: string; model?: string; info?: string; price?: number } = {}) {
  const { signer = account(9), url = 'http://127.0.0.1:9000', model = 'org/model', info = '{}', price = 10 } = changes
  return ['chatbot', url, model, 'TeeML', price, 20, info, signer]
}

/** An address as errors show it. */
export function addressText(address: string): string {
  return getAddress(address)
}

/** Code that on any call sends `data` to `target` and logs whether that went well. */
export function callsBack(target: string, data: string): Hex {
  const length = ((data.length - 2) / 2).toString(16).padStart(4, '0')
  // codecopy(0, end, length); log0(call(gas, target, 0, 0, length, 0, 0))
  const offset = 'OO'
  const code = `61${length}60${offset}5f395f5f61${length}5f5f73${target.slice(2)}5af15f5260205fa000`
  const end = (code.length / 2).toString(16).padStart(2, '0')
  return `0x${code.replace(offset, end)}${data.slice(2)}` as Hex
}
