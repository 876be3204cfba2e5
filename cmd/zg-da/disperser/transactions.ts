/**
 * The disperser's two transactions. Whatever waits when one is free goes into the next, so a crowd of blobs costs a few
 * transactions, and a single blob waits for nobody.
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { addressFromHex, fromHex, type Hex, toHex } from '../../../lib/base/hex.ts'
import type { Account } from '../../../lib/clients/accounts.ts'
import type { RpcReceipt } from '../../../lib/clients/chain.ts'
import { toNumber } from '../../../lib/clients/chain.ts'
import { type Submission, submitCertificatesCall, submitOriginalDataCall } from '../../../lib/clients/da/abi.ts'
import type { DaChain } from '../../../lib/clients/da/chain.ts'
import type { Posting } from './job.ts'

/** Roots of one posting. */
const ROOTS = 64
/** Certificates of one transaction: each takes about 1.2 million gas. */
const CERTIFICATES = 8

/** Sends one after the other, so that nonces are given out once; receipts are waited for side by side. */
class Sender {
  readonly #chain: DaChain
  readonly #account: Account
  #last: Promise<unknown> = Promise.resolve()

  constructor(chain: DaChain, account: Account) {
    this.#chain = chain
    this.#account = account
  }

  /** @throws {ZgError} ERR_REJECTED when it was reverted, before or in its block. */
  async send(data: Hex, value: bigint): Promise<RpcReceipt> {
    const message = { to: addressFromHex(this.#chain.addresses.entrance), data: fromHex(data), value }
    const sent = this.#last.then(() => this.#chain.client.send(this.#account, message))
    this.#last = sent.catch(() => {})
    const hash = await sent
    const receipt = await this.#chain.client.waitReceipt(hash)
    if (receipt.status === '0x0') throw new ZgError('ERR_REJECTED', `transaction ${hash} was reverted`)
    return receipt
  }
}

/** Gathers what comes while a run is under way and gives it to the next. */
class Batcher<In, Out> {
  readonly #max: number
  readonly #run: (items: In[]) => Promise<Out[]>
  #waiting: { item: In; resolve: (out: Out) => void; reject: (err: unknown) => void }[] = []
  #running = false

  constructor(max: number, run: (items: In[]) => Promise<Out[]>) {
    this.#max = max
    this.#run = run
  }

  submit(item: In): Promise<Out> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject })
      if (!this.#running) void this.#drain()
    })
  }

  async #drain(): Promise<void> {
    this.#running = true
    // A moment for those that are ready at the same time.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, this.#max)
      try {
        const out = await this.#run(batch.map(b => b.item))
        batch.forEach((b, i) => {
          b.resolve(out[i]!)
        })
      } catch (err) {
        // One that is refused must not take the others along.
        if (batch.length > 1 && err instanceof ZgError && err.code === 'ERR_REJECTED') await this.#oneByOne(batch)
        else for (const b of batch) b.reject(err)
      }
    }
    this.#running = false
  }

  async #oneByOne(batch: { item: In; resolve: (out: Out) => void; reject: (err: unknown) => void }[]): Promise<void> {
    for (const b of batch) {
      try {
        b.resolve((await this.#run([b.item]))[0]!)
      } catch (err) {
        b.reject(err)
      }
    }
  }
}

export class Transactions {
  readonly #chain: DaChain
  readonly #sender: Sender
  readonly #posts: Batcher<Uint8Array, Posting>
  readonly #certificates: Batcher<Submission, number>

  constructor(chain: DaChain, account: Account) {
    this.#chain = chain
    this.#sender = new Sender(chain, account)
    this.#posts = new Batcher(ROOTS, roots => this.#post(roots))
    this.#certificates = new Batcher(CERTIFICATES, all => this.#certify(all))
  }

  /** Posts a root. @returns the epoch and quorum that the contract gave it. @throws {ZgError} as the chain refuses. */
  post(root: Uint8Array): Promise<Posting> {
    return this.#posts.submit(root)
  }

  /** Records a certificate. @returns the block that has it. */
  certify(submission: Submission): Promise<number> {
    return this.#certificates.submit(submission)
  }

  async #post(roots: Uint8Array[]): Promise<Posting[]> {
    // The same blob twice at once is posted once.
    const distinct = [...new Map(roots.map(r => [toHex(r), r])).values()]
    const price = await this.#chain.blobPrice()
    const receipt = await this.#sender.send(submitOriginalDataCall(distinct), price * BigInt(distinct.length))
    const uploads = this.#chain.uploadsOf(receipt)
    const blockNumber = toNumber(receipt.blockNumber)
    return roots.map(root => {
      const upload = uploads.find(u => equalBytes(u.root, root))
      if (upload === undefined) throw new ZgError('ERR_PROTOCOL', 'the contract took a root and told nothing of it')
      return { epoch: upload.epoch, quorumId: upload.quorumId, blockNumber }
    })
  }

  async #certify(all: Submission[]): Promise<number[]> {
    const receipt = await this.#sender.send(submitCertificatesCall(all), 0n)
    return all.map(() => toNumber(receipt.blockNumber))
  }
}
