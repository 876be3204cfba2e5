/**
 * The chain as data availability sees it: epochs and quorums of DASigners, postings and certificates of DAEntrance, and the
 * transactions of dispersers and signers. Quorums never change once made, so they are read once.
 */
import { equalBytes } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { addressFromHex, fromHex, type Hex, toHex } from '../../base/hex.ts'
import { contractAddresses } from '../../contracts/addresses.ts'
import type { Account } from '../accounts.ts'
import type { ChainClient, RpcHeader, RpcLog, RpcReceipt } from '../chain.ts'
import { toNumber } from '../chain.ts'
import {
  aggregateCall,
  BLOB_PRICE,
  type BlobId,
  EPOCH_NUMBER,
  type G1,
  isSignerCall,
  PARAMS,
  quorumCall,
  quorumCountCall,
  readAggregate,
  readG1,
  readParams,
  readQuorum,
  readSigners,
  readSubmissions,
  readUpload,
  readVerified,
  registeredEpochCall,
  type SignerDetail,
  type SignerParams,
  signersCall,
  TOPIC,
  type Upload,
  verifiedCommitmentCall
} from './abi.ts'
import { Words } from './words.ts'

/** Who holds which places of a quorum. */
export interface Quorum {
  epoch: number
  quorumId: number
  /** Number of places. */
  places: number
  /** Unique owners in the order of their first place. */
  members: QuorumMember[]
}

export interface QuorumMember {
  address: Uint8Array
  /** Its places, ascending. */
  places: number[]
}

export interface DaAddresses {
  entrance: Hex
  registry: Hex
  signers: Hex
}

/** Quorums that are remembered. */
const QUORUMS_MAX = 64

export class DaChain {
  readonly client: ChainClient
  readonly chainId: number
  readonly addresses: DaAddresses
  readonly #quorums = new Map<string, Quorum>()
  #params: SignerParams | undefined

  private constructor(client: ChainClient, chainId: number, addresses: DaAddresses) {
    this.client = client
    this.chainId = chainId
    this.addresses = addresses
  }

  /**
   * @param entrance - when the network has it elsewhere.
   * @throws {ZgError} ERR_UNAVAILABLE, ERR_NO_CONTRACT.
   */
  static async open(client: ChainClient, opts: { entrance?: string | undefined } = {}): Promise<DaChain> {
    const chainId = await client.chainId()
    const known = contractAddresses(chainId)
    const entrance = (opts.entrance ?? known.daEntrance).toLowerCase() as Hex
    if (!(await client.hasCode(entrance))) {
      throw new ZgError('ERR_NO_CONTRACT', `no data availability contract at ${entrance} on chain ${chainId}`, {
        hint: "run 'zg-devnet contracts', or give '--entrance ADDRESS'"
      })
    }
    return new DaChain(client, chainId, { entrance, registry: known.daRegistry, signers: known.daSigners })
  }

  // Signers and quorums

  async params(): Promise<SignerParams> {
    this.#params ??= readParams(await this.#read(this.addresses.signers, PARAMS))
    return this.#params
  }

  async epoch(): Promise<number> {
    return Words.of(await this.#read(this.addresses.signers, EPOCH_NUMBER)).number(0)
  }

  async isSigner(address: Uint8Array): Promise<boolean> {
    return Words.of(await this.#read(this.addresses.signers, isSignerCall(address))).bool(0)
  }

  async registeredFor(address: Uint8Array, epoch: number): Promise<boolean> {
    return Words.of(await this.#read(this.addresses.signers, registeredEpochCall(address, epoch))).bool(0)
  }

  /** Details in the order asked. @throws {ZgError} ERR_REJECTED when one is unknown. */
  async signers(addresses: readonly Uint8Array[]): Promise<SignerDetail[]> {
    if (addresses.length === 0) return []
    return readSigners(await this.#read(this.addresses.signers, signersCall(addresses)))
  }

  /** @throws {ZgError} ERR_NOT_FOUND when the chain has no such epoch or quorum. */
  async quorum(epoch: number, quorumId: number): Promise<Quorum> {
    const key = `${epoch}/${quorumId}`
    const known = this.#quorums.get(key)
    if (known !== undefined) return known
    const count = await this.quorumCount(epoch)
    if (count === 0) throw new ZgError('ERR_NOT_FOUND', `quorum of epoch ${epoch} not found`)
    if (quorumId >= count) throw new ZgError('ERR_NOT_FOUND', 'quorum_id out of bound')
    const owners = readQuorum(await this.#read(this.addresses.signers, quorumCall(epoch, quorumId)))
    const members = new Map<string, QuorumMember>()
    owners.forEach((address, place) => {
      const key = toHex(address)
      const member = members.get(key)
      if (member === undefined) members.set(key, { address, places: [place] })
      else member.places.push(place)
    })
    const quorum = { epoch, quorumId, places: owners.length, members: [...members.values()] }
    if (this.#quorums.size >= QUORUMS_MAX) this.#quorums.delete(this.#quorums.keys().next().value!)
    this.#quorums.set(key, quorum)
    return quorum
  }

  /** 0 for an epoch that was never made. */
  async quorumCount(epoch: number): Promise<number> {
    try {
      return Words.of(await this.#read(this.addresses.signers, quorumCountCall(epoch))).number(0)
    } catch (err) {
      if (err instanceof ZgError && err.code === 'ERR_REJECTED') return 0
      throw err
    }
  }

  /** Aggregate G1 key of a bitmap with total and hit places. @throws {ZgError} ERR_REJECTED for an unknown quorum. */
  async aggregate(
    epoch: number,
    quorumId: number,
    bitmap: Uint8Array
  ): Promise<{ key: G1; total: number; hit: number }> {
    return readAggregate(await this.#read(this.addresses.signers, aggregateCall(epoch, quorumId, bitmap)))
  }

  // Postings and certificates

  /** Neuron for one root. */
  async blobPrice(): Promise<bigint> {
    return Words.of(await this.#read(this.addresses.entrance, BLOB_PRICE)).big(0)
  }

  /** The recorded (CX, CY), or undefined when the blob is not certified. */
  async commitment(id: BlobId): Promise<G1 | undefined> {
    const point = readG1(await this.#read(this.addresses.entrance, verifiedCommitmentCall(id)))
    return point.x === 0n && point.y === 0n ? undefined : point
  }

  /** Postings of a range of blocks, in order. */
  async *uploads(fromBlock: number, toBlock: number): AsyncGenerator<(Upload & { blockNumber: number })[]> {
    for await (const page of this.#logs(TOPIC.dataUpload, fromBlock, toBlock)) {
      yield page.map(log => ({ ...readUpload(log.data), blockNumber: toNumber(log.blockNumber) }))
    }
  }

  /** The newest certificate of a root, with its block and transaction. */
  async findCertificate(
    root: Uint8Array,
    at: { epoch?: number | undefined; quorumId?: number | undefined; fromBlock?: number } = {}
  ): Promise<(BlobId & { blockNumber: number; txHash: Hex }) | undefined> {
    let found: (BlobId & { blockNumber: number; txHash: Hex }) | undefined
    for await (const page of this.#logs(TOPIC.verified, at.fromBlock ?? 0, await this.client.blockNumber())) {
      for (const log of page) {
        const id = readVerified(log.data)
        if (!equalBytes(id.root, root)) continue
        if (id.epoch !== (at.epoch ?? id.epoch) || id.quorumId !== (at.quorumId ?? id.quorumId)) continue
        found = { ...id, blockNumber: toNumber(log.blockNumber), txHash: log.transactionHash }
      }
    }
    return found
  }

  /** How many of a quorum's signers stand behind a certificate: its bitmap is in the transaction alone. */
  async signersOf(id: BlobId & { txHash: Hex }): Promise<{ signed: number; signers: number }> {
    const tx = await this.client.call<{ input: string } | null>('eth_getTransactionByHash', [id.txHash])
    const quorum = await this.quorum(id.epoch, id.quorumId)
    const mine = readSubmissions(tx?.input ?? '').find(
      s => equalBytes(s.root, id.root) && s.epoch === id.epoch && s.quorumId === id.quorumId
    )
    const has = (p: number): boolean => ((mine?.bitmap[p >> 3] ?? 0) & (1 << (p & 7))) !== 0
    return { signed: quorum.members.filter(m => has(m.places[0]!)).length, signers: quorum.members.length }
  }

  /** Postings that a transaction made. */
  uploadsOf(receipt: RpcReceipt): Upload[] {
    return receipt.logs
      .filter(log => log.address.toLowerCase() === this.addresses.entrance && log.topics[0] === TOPIC.dataUpload)
      .map(log => readUpload(log.data))
  }

  /** Number of the newest final block; the head where the node has no such notion. */
  async finalized(): Promise<number> {
    try {
      const header = await this.client.call<RpcHeader | null>('eth_getBlockByNumber', ['finalized', false])
      if (header !== null) return toNumber(header.number)
    } catch (err) {
      if (!(err instanceof ZgError) || !['ERR_BAD_INPUT', 'ERR_REJECTED', 'ERR_PROTOCOL'].includes(err.code)) throw err
    }
    return this.client.blockNumber()
  }

  /**
   * Sends a call to one of the contracts and waits for its receipt.
   * @throws {ZgError} ERR_REJECTED with the revert's reason, ERR_FUNDS, ERR_TIMEOUT.
   */
  async transact(
    account: Account,
    to: Hex,
    data: Hex,
    opts: { value?: bigint; gasLimit?: bigint } = {}
  ): Promise<RpcReceipt> {
    const message = {
      to: addressFromHex(to),
      data: fromHex(data),
      value: opts.value ?? 0n,
      ...(opts.gasLimit === undefined ? {} : { gasLimit: opts.gasLimit })
    }
    const hash = await this.client.send(account, message)
    const receipt = await this.client.waitReceipt(hash)
    if (receipt.status === '0x0') throw new ZgError('ERR_REJECTED', `transaction ${hash} was reverted`)
    return receipt
  }

  #read(to: Hex, data: Hex): Promise<Hex> {
    return this.client.call<Hex>('eth_call', [{ to, data }, 'latest'])
  }

  #logs(topic: string, fromBlock: number, toBlock: number): AsyncGenerator<RpcLog[]> {
    return this.client.getLogs({ address: this.addresses.entrance, topics: [topic], fromBlock, toBlock })
  }
}
