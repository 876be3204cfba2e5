/** The mine and reward contracts of one chain, as a miner uses them. */
import { bigToBytes, bytesToBig, concat, padLeft } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, type Hex, toHex } from '../../../lib/base/hex.ts'
import type { Account } from '../../../lib/clients/accounts.ts'
import type { ChainClient, RpcReceipt } from '../../../lib/clients/chain.ts'
import {
  type Answer,
  DISTRIBUTE_REWARD_TOPIC,
  decodeSealedRange,
  decodeWork,
  encodeAnswer,
  MINE_SELECTORS,
  NEW_MINER_ID_TOPIC,
  NEW_SUBMISSION_TOPIC,
  type SealedRange,
  type Work
} from '../../../lib/codec/storage/mine.ts'
import { contractAddresses } from '../../../lib/contracts/addresses.ts'

/** The deployed contract lets only this address ask for work from outside. */
const ASKER = '0x000000000000000000000000000000000000000a'
/** The proof of random access that is implemented here. */
const PORA_VERSION = 1n

export interface Accepted {
  txHash: Hex
  blockNumber: number
  gasUsed: bigint
  /** Neuron credited to the beneficiary, to be withdrawn. */
  paidNeuron: bigint
}

export class MineContract {
  readonly chain: ChainClient
  readonly mine: Hex
  readonly flow: Hex
  readonly reward: Hex
  readonly chainId: number

  private constructor(chain: ChainClient, chainId: number, flow: Hex, mine: Hex, reward: Hex) {
    this.chain = chain
    this.chainId = chainId
    this.flow = flow
    this.mine = mine
    this.reward = reward
  }

  /** @throws {ZgError} ERR_NO_CONTRACT when there is no mine contract, ERR_PROTOCOL when it is of another version. */
  static async find(chain: ChainClient): Promise<MineContract> {
    const chainId = await chain.chainId()
    const at = contractAddresses(chainId)
    const [flow, mine, reward] = [at.flow, at.mine, at.reward].map(a => a.toLowerCase()) as [Hex, Hex, Hex]
    if (!(await chain.hasCode(mine))) {
      throw new ZgError('ERR_NO_CONTRACT', `no mine contract at ${mine} on chain ${chainId}`, {
        hint: 'networks made by an older zg-devnet have none: start a new one'
      })
    }
    const found = new MineContract(chain, chainId, flow, mine, reward)
    const version = bytesToBig(await found.#view(mine, MINE_SELECTORS.poraVersion))
    if (version !== PORA_VERSION) {
      throw new ZgError('ERR_PROTOCOL', `the mine contract wants proofs of version ${version}, this is ${PORA_VERSION}`)
    }
    return found
  }

  /** What can be mined now. */
  async work(minerId: Uint8Array): Promise<Work> {
    const data = concat(MINE_SELECTORS.computeWorkerContext, minerId)
    return decodeWork(await this.#view(this.mine, data, ASKER))
  }

  /**
   * The range of the flow, and its context, that holds a sector; undefined while no epoch has closed over it. Contexts are closed by
   * whoever calls next; until then their digest changes with each epoch that passes, and a seal made for it would be worth
   * nothing. So one that is not closed yet is closed here, by a transaction.
   */
  async rangeAt(sector: bigint, account: Account): Promise<SealedRange | undefined> {
    const found = await this.#query(sector)
    if (found === undefined || (await this.isClosed(found.digest))) return found
    await this.#send(account, this.flow, MINE_SELECTORS.makeContext)
    const closed = await this.#query(sector)
    return closed !== undefined && (await this.isClosed(closed.digest)) ? closed : undefined
  }

  /** True when a context is in the chain's state, so that data sealed for it can be answered with. */
  async isClosed(contextDigest: Uint8Array): Promise<boolean> {
    const range = await this.#view(this.flow, concat(MINE_SELECTORS.getEpochRange, contextDigest))
    return bytesToBig(range.subarray(32)) !== 0n
  }

  async #query(sector: bigint): Promise<SealedRange | undefined> {
    try {
      const data = concat(MINE_SELECTORS.queryContextAtPosition, bigToBytes(sector, 32))
      return decodeSealedRange(await this.#view(this.flow, data))
    } catch (err) {
      if (err instanceof ZgError && err.code === 'ERR_REJECTED') return undefined
      throw err
    }
  }

  /** Who is paid for an id; undefined when it is not registered. */
  async beneficiary(minerId: Uint8Array): Promise<Uint8Array | undefined> {
    const found = (await this.#view(this.mine, concat(MINE_SELECTORS.beneficiaries, minerId))).slice(12)
    return found.some(b => b !== 0) ? found : undefined
  }

  /** Registers a new id; its transaction is in a block when this returns. */
  async register(account: Account, beneficiary: Uint8Array, seed: bigint): Promise<Uint8Array> {
    const data = concat(MINE_SELECTORS.requestMinerId, padLeft(beneficiary, 32), bigToBytes(seed, 32))
    const receipt = await this.#send(account, this.mine, data)
    const log = receipt.logs.find(l => l.address.toLowerCase() === this.mine && l.topics[0] === NEW_MINER_ID_TOPIC)
    if (log === undefined) throw new ZgError('ERR_PROTOCOL', 'the mine contract registered no id')
    return fromHex(log.topics[1]!)
  }

  /** @throws {ZgError} ERR_REJECTED with the contract's words, ERR_FUNDS for the gas. */
  async submit(account: Account, answer: Answer): Promise<Accepted> {
    const receipt = await this.#send(account, this.mine, encodeAnswer(answer))
    const from = (address: Hex, topic: string) =>
      receipt.logs.find(l => l.address.toLowerCase() === address && l.topics[0] === topic)
    if (from(this.mine, NEW_SUBMISSION_TOPIC) === undefined) {
      throw new ZgError('ERR_PROTOCOL', 'the mine contract took the answer and said nothing')
    }
    const paid = from(this.reward, DISTRIBUTE_REWARD_TOPIC)
    return {
      txHash: receipt.transactionHash,
      blockNumber: Number(receipt.blockNumber),
      gasUsed: BigInt(receipt.gasUsed),
      paidNeuron: paid === undefined ? 0n : BigInt(paid.data)
    }
  }

  /** Neuron that a payee may withdraw. */
  async due(payee: Uint8Array): Promise<bigint> {
    return bytesToBig(await this.#view(this.reward, concat(MINE_SELECTORS.payments, padLeft(payee, 32))))
  }

  /** Sends a payee what is due. */
  async withdraw(account: Account, payee: Uint8Array): Promise<Hex> {
    const data = concat(MINE_SELECTORS.withdrawPayments, padLeft(payee, 32))
    return (await this.#send(account, this.reward, data)).transactionHash
  }

  async #view(to: Hex, data: Uint8Array, from?: string): Promise<Uint8Array> {
    const call = { to, data: toHex(data), ...(from === undefined ? {} : { from }) }
    return fromHex(await this.chain.call<Hex>('eth_call', [call, 'latest']), 'answer of eth_call')
  }

  async #send(account: Account, to: Hex, data: Uint8Array): Promise<RpcReceipt> {
    const hash = await this.chain.send(account, { to: fromHex(to), data })
    const receipt = await this.chain.waitReceipt(hash)
    if (receipt.status !== '0x1') throw new ZgError('ERR_REJECTED', `transaction ${hash} was reverted`)
    return receipt
  }
}
