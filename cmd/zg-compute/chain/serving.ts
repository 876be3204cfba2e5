/**
 * InferenceServing as a provider calls it: typed reads, and its own transactions signed here. Everything is asked of the node anew;
 * what may be remembered is the mirror's business.
 */
import { RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, type Hex, toHex } from '../../../lib/base/hex.ts'
import type { Account } from '../../../lib/clients/accounts.ts'
import { type ChainClient, type RpcLog, type RpcReceipt, toNumber } from '../../../lib/clients/chain.ts'
import { signTransaction } from '../../../lib/clients/sign.ts'
import {
  type AccountRecord,
  decodeAccount,
  decodeRevert,
  decodeService,
  decodeSettlements,
  encodeCall,
  encodeServiceParams,
  inferenceAbi,
  type ServiceParams,
  type ServiceRecord
} from '../../../lib/codec/compute/abi.ts'
import { type SettlementDomain, settlementStatus } from '../../../lib/codec/compute/settlement.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import type { SignedTransaction } from '../ledger/records.ts'
import type { Outcome, SettlementChain, VoucherOutcome } from '../ledger/settler.ts'

/** What a first registration must bring along (`MIN_PROVIDER_STAKE`). */
export const MIN_STAKE = 100n * 10n ** 18n

export class ServingChain implements SettlementChain {
  readonly client: ChainClient
  readonly contract: Uint8Array
  readonly #account: Account
  readonly #chainId: number

  constructor(o: { client: ChainClient; contract: Uint8Array; account: Account; chainId: number }) {
    this.client = o.client
    this.contract = o.contract
    this.#account = o.account
    this.#chainId = o.chainId
  }

  get provider(): Uint8Array {
    return this.#account.address
  }

  domain(): SettlementDomain {
    return { chainId: BigInt(this.#chainId), contract: this.contract }
  }

  blockNumber(): Promise<number> {
    return this.client.blockNumber()
  }

  /** Undefined: not registered. */
  async service(): Promise<ServiceRecord | undefined> {
    const data = await this.#view('getService', [this.provider], 'ServiceNotExist')
    return data === undefined ? undefined : decodeService(data)
  }

  async account(user: Uint8Array): Promise<AccountRecord | undefined> {
    const data = await this.#view('getAccount', [user, this.provider], 'AccountNotExists')
    return data === undefined ? undefined : decodeAccount(data)
  }

  async acknowledged(): Promise<boolean> {
    return (await this.service())?.teeSignerAcknowledged === true
  }

  /** The contract's owner, 20 bytes. */
  async owner(): Promise<Uint8Array> {
    const data = await this.#view('owner', [])
    return fromHex(data!).slice(12)
  }

  /** Registers or updates; the answer is the receipt. @throws {ZgError} ERR_FUNDS, ERR_REJECTED. */
  async register(params: ServiceParams, stake: bigint): Promise<RpcReceipt> {
    return this.#transact(this.#account, encodeServiceParams(params), stake)
  }

  /** The owner's word for this provider's signer. */
  async acknowledgeAs(owner: Account): Promise<RpcReceipt> {
    return this.#transact(owner, encodeCall(inferenceAbi(), 'acknowledgeTEESignerByOwner', [this.provider]), 0n)
  }

  async sign(data: Uint8Array, replace?: { nonce: bigint }): Promise<SignedTransaction & { nonce: bigint }> {
    const { likelyFee, ...tx } = await this.client.prepare(this.provider, { to: this.contract, data })
    if (replace !== undefined) {
      tx.nonce = replace.nonce
      // Nodes take a replacement only when both fees grow by a tenth or more.
      tx.maxPriorityFeePerGas = 2n * (tx.maxPriorityFeePerGas ?? 0n) + 1n
      tx.maxFeePerGas = 2n * (tx.maxFeePerGas ?? 0n) + tx.maxPriorityFeePerGas
    }
    const raw = signTransaction(tx, await this.#account.privateKey())
    return { hash: keccak256(raw), raw, nonce: tx.nonce }
  }

  async send(raw: Uint8Array): Promise<void> {
    try {
      await this.client.call('eth_sendRawTransaction', [toHex(raw)])
    } catch (err) {
      if (err instanceof ZgError && /already known|known transaction/i.test(err.message)) return
      throw err
    }
  }

  async nonceUsed(nonce: bigint): Promise<boolean> {
    const count = await this.client.call<Hex>('eth_getTransactionCount', [toHex(this.provider), 'latest'])
    return BigInt(count) > nonce
  }

  async wait(hash: Uint8Array, timeoutMs: number): Promise<void> {
    await this.client.waitReceipt(toHex(hash), { timeoutMs })
  }

  async outcome(hash: Uint8Array, entries: number): Promise<Outcome | undefined> {
    const receipt = await this.client.call<RpcReceipt | null>('eth_getTransactionReceipt', [toHex(hash)])
    if (receipt === null) return undefined
    const blockNumber = toNumber(receipt.blockNumber)
    if (BigInt(receipt.status) !== 1n) return { blockNumber, ok: false, results: [] }
    const results = this.#results(receipt.logs)
    if (results.length !== entries)
      throw new ZgError('ERR_PROTOCOL', `settlement ${toHex(hash)} has ${results.length} results, ${entries} wanted`)
    return { blockNumber, ok: true, results }
  }

  async find(entry: { user: Uint8Array; nonce: bigint }, fromBlock: number): Promise<VoucherOutcome | undefined> {
    const topics = [inferenceAbi().getEvent('TEESettlementResult')!.topicHash, topicOf(entry.user)]
    const toBlock = await this.client.blockNumber()
    for await (const page of this.client.getLogs({ address: toHex(this.contract), topics, fromBlock, toBlock })) {
      for (const hash of new Set(page.map(l => l.transactionHash))) {
        const found = await this.#voucherIn(hash, entry)
        if (found !== undefined) return found
      }
    }
    return undefined
  }

  /** The event names no provider: the transaction's sender and call say whose voucher it was. */
  async #voucherIn(hash: Hex, entry: { user: Uint8Array; nonce: bigint }): Promise<VoucherOutcome | undefined> {
    const [tx, receipt] = await Promise.all([
      this.client.call<{ from: Hex; input: Hex } | null>('eth_getTransactionByHash', [hash]),
      this.client.call<RpcReceipt | null>('eth_getTransactionReceipt', [hash])
    ])
    if (tx === null || receipt === null || tx.from.toLowerCase() !== toHex(this.provider)) return undefined
    const vouchers = decodeSettlements(tx.input) ?? []
    const at = vouchers.findIndex(v => toHex(v.user) === toHex(entry.user) && v.nonce === entry.nonce)
    return at < 0 ? undefined : this.#results(receipt.logs)[at]
  }

  #results(logs: readonly RpcLog[]): VoucherOutcome[] {
    const event = inferenceAbi().getEvent('TEESettlementResult')!
    const address = toHex(this.contract)
    return logs
      .filter(l => l.address.toLowerCase() === address && l.topics[0] === event.topicHash)
      .map(l => {
        const data = fromHex(l.data, 'settlement result', { size: 64 })
        const status = settlementStatus(data[31]!)
        if (status === undefined) throw new ZgError('ERR_PROTOCOL', `unknown settlement status ${data[31]}`)
        return { status, unsettled: BigInt(toHex(data.slice(32))) }
      })
  }

  async #transact(account: Account, data: Uint8Array, value: bigint): Promise<RpcReceipt> {
    const hash = await this.client.send(account, { to: this.contract, data, value })
    const receipt = await this.client.waitReceipt(hash)
    if (BigInt(receipt.status) !== 1n) throw new ZgError('ERR_REJECTED', `transaction ${hash} was reverted`)
    return receipt
  }

  /** Undefined when it reverts with `absent`. */
  async #view(name: string, args: readonly unknown[], absent?: string): Promise<Hex | undefined> {
    const call = {
      to: toHex(this.contract),
      input: toHex(encodeCall(inferenceAbi(), name, args)),
      from: toHex(this.provider)
    }
    try {
      return await this.client.call<Hex>('eth_call', [call, 'latest'])
    } catch (err) {
      const cause = err instanceof ZgError ? err.cause : undefined
      if (cause instanceof RpcError && absent !== undefined && decodeRevert(cause.data)?.name === absent)
        return undefined
      throw err
    }
  }
}

/** An address as an event's topic. */
export function topicOf(address: Uint8Array): Hex {
  return `0x${'0'.repeat(24)}${toHex(address).slice(2)}`
}

/** Logs of the contract in a range of blocks. */
export async function servingLogs(chain: ServingChain, fromBlock: number, toBlock: number): Promise<RpcLog[]> {
  const out: RpcLog[] = []
  for await (const page of chain.client.getLogs({ address: toHex(chain.contract), fromBlock, toBlock })) {
    for (const log of page) if (!log.removed) out.push(log)
  }
  return out
}
