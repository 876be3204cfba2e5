/**
 * Pays for a file: one call of the flow contract's `submit`, signed here (no wallet library: it costs a quarter of a second to
 * load). The hash of the transaction is known and handed out before it leaves, so that a crash in between is found again.
 */
import { RpcError } from '../../adapters/jsonrpc/types.ts'
import { bytesToBig, equalBytes } from '../../base/bytes.ts'
import { messageOf, ZgError } from '../../base/errors.ts'
import { fromHex, fromQuantity, toHex, toQuantity } from '../../base/hex.ts'
import {
  decodeSubmitLog,
  encodeBatchSubmit,
  encodeSubmit,
  SUBMIT_TOPIC,
  type Submission,
  type SubmitEvent,
  sectorsOf
} from '../../codec/storage/submission.ts'
import { checksumAddress } from '../../crypto/address.ts'
import { keccak256 } from '../../crypto/hash.ts'
import type { Account } from '../accounts.ts'
import { type ChainClient, notEnough, type RpcReceipt } from '../chain.ts'
import { signTransaction } from '../sign.ts'
import { until } from './retry.ts'

export interface SubmitReceipt {
  txHash: Uint8Array
  seq: number
  blockNumber: number
  /** What was paid for storage; gas is apart. */
  feeNeuron: bigint
}

const RECEIPT_DEADLINE_MS = 60_000
const NONCE_ATTEMPTS = 8

/** The flow contract of one chain, as a payer uses it. */
export class FlowClient {
  readonly #chain: ChainClient
  readonly #signal: AbortSignal | undefined
  #chainId: number | undefined

  constructor(chain: ChainClient, signal?: AbortSignal) {
    this.#chain = chain
    this.#signal = signal
  }

  async chainId(): Promise<number> {
    this.#chainId ??= await this.#chain.chainId()
    return this.#chainId
  }

  /** The storage fee of a submission of this many sectors. @throws {ZgError} ERR_NO_CONTRACT. */
  async fee(flow: Uint8Array, sectors: number): Promise<bigint> {
    const market = (await this.#view(flow, '0x80f55605')).subarray(12)
    return bytesToBig(await this.#view(market, '0x61ec5082')) * BigInt(sectors)
  }

  async #view(to: Uint8Array, data: string): Promise<Uint8Array> {
    let answer: Uint8Array
    try {
      answer = fromHex(await this.#chain.call('eth_call', [{ to: toHex(to), data }, 'latest']), 'answer of eth_call')
    } catch (err) {
      if (rpcCause(err) === undefined) throw err
      answer = new Uint8Array(0)
    }
    if (answer.length === 32) return answer
    throw new ZgError('ERR_NO_CONTRACT', `no contract at ${toHex(to)} on chain ${await this.chainId()}`, {
      hint: "give the chain that the storage nodes follow by '--rpc-url URL'"
    })
  }

  /**
   * Submits and waits for the receipt.
   * @param onSigned - called with the hash before the transaction is sent (again with another one when the nonce was taken).
   * @throws {ZgError} ERR_FUNDS, ERR_REJECTED (would revert, or did), ERR_TIMEOUT, ERR_NO_CONTRACT.
   */
  async submit(
    o: { flow: Uint8Array; submission: Submission; signer: Account },
    onSigned: (txHash: Uint8Array, feeNeuron: bigint) => Promise<void>
  ): Promise<SubmitReceipt> {
    const data = encodeSubmit(o.submission, o.signer.address)
    const fee = await this.fee(o.flow, sectorsOf(o.submission.nodes))
    const txHash = await this.#send({ ...o, data, fee }, onSigned)
    return this.#wait(txHash, fee)
  }

  /**
   * Several submissions in one transaction; the receipts are in the order of the submissions.
   * @param onSigned - as for `submit`; the fee is that of all together.
   * @throws {ZgError} as `submit`; ERR_REJECTED also where the contract has no batches or the block no room for this one.
   */
  async submitBatch(
    o: { flow: Uint8Array; submissions: readonly Submission[]; signer: Account },
    onSigned: (txHash: Uint8Array, feeNeuron: bigint) => Promise<void>
  ): Promise<SubmitReceipt[]> {
    const sectors = o.submissions.map(s => sectorsOf(s.nodes))
    const pricePerSector = await this.fee(o.flow, 1)
    const fee = pricePerSector * BigInt(sectors.reduce((a, b) => a + b, 0))
    const data = encodeBatchSubmit(o.submissions, o.signer.address)
    const txHash = await this.#send({ flow: o.flow, signer: o.signer, data, fee }, onSigned)
    const first = await this.#wait(txHash, fee)
    const events = await this.#events(txHash)
    if (events === undefined || events.length !== o.submissions.length) {
      throw new ZgError('ERR_PROTOCOL', `transaction ${toHex(txHash)} made another number of submissions`)
    }
    return events.map((e, i) => ({
      txHash,
      seq: e.seq,
      blockNumber: first.blockNumber,
      feeNeuron: pricePerSector * BigInt(sectors[i]!)
    }))
  }

  /** Signs, tells, sends; the transaction is on its way when this returns. */
  async #send(
    o: { flow: Uint8Array; signer: Account; data: Uint8Array; fee: bigint },
    onSigned: (txHash: Uint8Array, feeNeuron: bigint) => Promise<void>
  ): Promise<Uint8Array> {
    const { data, fee } = o
    const from = toHex(o.signer.address)
    const call = { from, to: toHex(o.flow), value: toQuantity(fee), data: toHex(data) }
    const [balanceText, priceText] = await Promise.all([
      this.#chain.call('eth_getBalance', [from, 'latest']),
      this.#chain.call('eth_gasPrice')
    ])
    const balance = fromQuantity(balanceText, 'balance')
    const price = fromQuantity(priceText, 'gas price')
    if (balance < fee) throw notEnough(checksumAddress(o.signer.address), balance, fee)
    const gas = await this.#estimate(call)
    if (balance < fee + gas * price) throw notEnough(checksumAddress(o.signer.address), balance, fee + gas * price)
    const tx = { flow: o.flow, data, fee, gas, price, signer: o.signer }
    for (let attempt = 1; ; attempt++) {
      const raw = await this.#sign(tx)
      const txHash = keccak256(raw)
      await onSigned(txHash, fee)
      try {
        await this.#chain.call('eth_sendRawTransaction', [toHex(raw)])
      } catch (err) {
        const text = rpcCause(err)?.message ?? ''
        // Somebody else used the nonce meanwhile: two puts of one account at the same time.
        const taken = /nonce too low|replacement transaction underpriced|nonce .*(used|low)/i.test(text)
        if (taken && attempt < NONCE_ATTEMPTS) continue
        if (!/already known/i.test(text)) throw rejected(err)
      }
      return txHash
    }
  }

  async #estimate(call: Record<string, string>): Promise<bigint> {
    try {
      const gas = fromQuantity(await this.#chain.call('eth_estimateGas', [call]), 'gas')
      // The tree of the flow may have grown by others' submissions until ours is executed.
      return (gas * 5n) / 4n + 50_000n
    } catch (err) {
      throw rejected(err)
    }
  }

  async #sign(o: {
    flow: Uint8Array
    data: Uint8Array
    fee: bigint
    gas: bigint
    price: bigint
    signer: Account
  }): Promise<Uint8Array> {
    const [chainId, nonceText, tipText] = await Promise.all([
      this.chainId(),
      this.#chain.call('eth_getTransactionCount', [toHex(o.signer.address), 'pending']),
      this.#chain.call<unknown>('eth_maxPriorityFeePerGas').catch(() => toQuantity(o.price))
    ])
    // Twice the price outlives six full blocks of rising base fee.
    const maxFee = o.price * 2n > 0n ? o.price * 2n : 1n
    const tip = fromQuantity(tipText, 'priority fee')
    return signTransaction(
      {
        type: 2,
        chainId: BigInt(chainId),
        nonce: fromQuantity(nonceText, 'nonce'),
        maxFeePerGas: maxFee,
        maxPriorityFeePerGas: tip < maxFee ? tip : maxFee,
        gasLimit: o.gas,
        to: o.flow,
        value: o.fee,
        data: o.data
      },
      await o.signer.privateKey()
    )
  }

  async #wait(txHash: Uint8Array, fee: bigint, root?: Uint8Array): Promise<SubmitReceipt> {
    const receipt = await until(async () => this.receipt(txHash, fee, root), {
      deadlineMs: RECEIPT_DEADLINE_MS,
      firstMs: 30,
      mostMs: 200,
      signal: this.#signal
    })
    if (receipt !== undefined) return receipt
    throw new ZgError('ERR_TIMEOUT', `transaction ${toHex(txHash)} is not in a block after 60 s`, {
      hint: 'run the same command again: it goes on with this transaction and pays nothing twice'
    })
  }

  /**
   * The submission a transaction made; undefined while it is in no block.
   * @param root - which one, when the transaction may have made several; the first when absent.
   * @throws {ZgError} ERR_REJECTED when it failed, ERR_PROTOCOL when it is no submission.
   */
  async receipt(txHash: Uint8Array, feeNeuron: bigint, root?: Uint8Array): Promise<SubmitReceipt | undefined> {
    const events = await this.#events(txHash)
    if (events === undefined) return undefined
    const mine = root === undefined ? events[0] : events.find(e => equalBytes(e.root, root))
    if (mine === undefined) throw new ZgError('ERR_PROTOCOL', `transaction ${toHex(txHash)} made no such submission`)
    return { txHash, seq: mine.seq, blockNumber: mine.blockNumber, feeNeuron }
  }

  /** All submissions of a transaction in order; undefined while it is in no block. */
  async #events(txHash: Uint8Array): Promise<(SubmitEvent & { blockNumber: number })[] | undefined> {
    const r = await this.#chain.call<RpcReceipt | null>('eth_getTransactionReceipt', [toHex(txHash)])
    if (r === null) return undefined
    if (r.status !== '0x1') throw new ZgError('ERR_REJECTED', `transaction ${toHex(txHash)} failed`)
    const out: (SubmitEvent & { blockNumber: number })[] = []
    for (const log of r.logs) {
      const topics = log.topics.map(t => fromHex(t, 'topic'))
      if (topics[0] === undefined || !equalBytes(topics[0], SUBMIT_TOPIC)) continue
      const blockNumber = Number(fromQuantity(r.blockNumber, 'block'))
      out.push({ ...decodeSubmitLog(topics, fromHex(log.data, 'log data')), blockNumber })
    }
    if (out.length === 0) throw new ZgError('ERR_PROTOCOL', `transaction ${toHex(txHash)} made no submission`)
    return out
  }

  /** True while a transaction waits in the pool of the chain. */
  async isPending(txHash: Uint8Array): Promise<boolean> {
    return (await this.#chain.call('eth_getTransactionByHash', [toHex(txHash)])) !== null
  }

  /** Waits for a transaction that was sent earlier; undefined when the chain has forgotten it. */
  async resume(txHash: Uint8Array, feeNeuron: bigint, root?: Uint8Array): Promise<SubmitReceipt | undefined> {
    try {
      const receipt = await this.receipt(txHash, feeNeuron, root)
      if (receipt !== undefined) return receipt
    } catch (err) {
      // It failed in its block: nothing was paid for storage, so it may be submitted again.
      if (err instanceof ZgError && err.code === 'ERR_REJECTED') return undefined
      throw err
    }
    return (await this.isPending(txHash)) ? this.#wait(txHash, feeNeuron, root) : undefined
  }
}

/** What the node itself answered, beneath the family's own error. */
function rpcCause(err: unknown): RpcError | undefined {
  const cause = err instanceof ZgError ? err.cause : err
  return cause instanceof RpcError ? cause : undefined
}

function rejected(err: unknown): unknown {
  const rpc = rpcCause(err)
  if (rpc === undefined || (err instanceof ZgError && err.code === 'ERR_FUNDS')) return err
  return new ZgError('ERR_REJECTED', `the chain refused the submission: ${reasonOf(rpc)}`, { cause: err })
}

/** NotEnoughFee is the one custom error a payer can meet; other reverts carry their text. */
function reasonOf(err: RpcError): string {
  const data = typeof err.data === 'string' ? err.data : ''
  if (data.startsWith('0xf85c6482')) return 'the storage fee changed meanwhile'
  if (data.startsWith('0xd93c0665')) return 'the flow contract is paused'
  return messageOf(err).slice(0, 200)
}
