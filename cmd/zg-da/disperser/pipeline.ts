/**
 * Takes each accepted blob through its stages, driven by events alone:
 *
 *     encode ─► post ─► (final) ─► collect signatures ─► certify ─► CONFIRMED ─► (final) ─► FINALIZED
 *
 * Every stage leaves its result in the journal, so a restart goes on behind the last one. A stage that fails is tried again after
 * a pause; too few signatures, or a refusal that time does not cure, end the blob after a number of tries.
 */
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import type { BlobId, G1 } from '../../../lib/clients/da/abi.ts'
import type { DaChain } from '../../../lib/clients/da/chain.ts'
import type { SignerPool } from '../../../lib/clients/da/signer.ts'
import { type EncodedBlob, encodeBlob } from '../../../lib/codec/da/blob.ts'
import { shapeOf } from '../../../lib/codec/da/shape.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import { Budget } from '../budget.ts'
import { collectSignatures, TooFewSignatures } from './collect.ts'
import type { Finality } from './finality.ts'
import type { Job, Posting } from './job.ts'
import type { BlobQueue } from './queue.ts'
import type { Transactions } from './transactions.ts'

export interface PipelineOptions {
  chain: DaChain
  queue: BlobQueue
  pool: SignerPool
  transactions: Transactions
  finality: Finality
  clock: Clock
  logger: Logger
  signal: AbortSignal
  signTimeoutMs: number
  /** Tries beyond the first. */
  maxRetries: number
  /** Bytes of encoded blobs in memory. */
  memoryBytes: number
  /** Told when a blob is final: from acceptance to there. */
  onFinal?: (ms: number) => void
}

/** Requests to signers on their way. */
const SENDING_BYTES = 64 * 1024 * 1024
/** Works that may wait for memory: more than the queue holds. */
const WAITING_MAX = 100_000
const FIRST_PAUSE_MS = 500
const MOST_PAUSE_MS = 10_000
/** A posting older than this many epochs gets no signatures any more. */
const POSTING_EPOCHS = 2

export class Pipeline {
  readonly #o: PipelineOptions
  readonly #memory: Budget
  readonly #sending = new Budget(SENDING_BYTES, WAITING_MAX)
  readonly #running = new Set<Promise<void>>()

  constructor(options: PipelineOptions) {
    this.#o = options
    this.#memory = new Budget(options.memoryBytes, WAITING_MAX)
  }

  get encodedBytes(): number {
    return this.#memory.usedBytes
  }

  /** Starts a blob's way; never throws. */
  start(job: Job): void {
    const run: Promise<void> = this.#run(job).finally(() => this.#running.delete(run))
    this.#running.add(run)
  }

  /** Waits until all works have noticed the signal. */
  async settled(): Promise<void> {
    await Promise.all(this.#running)
  }

  async #run(job: Job): Promise<void> {
    const { clock, logger, signal } = this.#o
    let failures = 0
    while (!signal.aborted) {
      try {
        await this.#advance(job)
        if (job.state === 'finalized') {
          this.#o.onFinal?.(clock.now() - job.acceptedMs)
          return
        }
        failures = 0
      } catch (err) {
        if (signal.aborted) return
        failures++
        const message = messageOf(err)
        logger.warn('a stage failed', { request: job.id, state: job.state, error: message })
        try {
          if (await this.#giveUp(job, err)) return
        } catch (broken) {
          logger.error('the journal cannot be written', { request: job.id, error: messageOf(broken) })
        }
        const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** Math.min(failures - 1, 10), MOST_PAUSE_MS)
        await clock.sleep(pauseMs, signal).catch(() => {})
      }
    }
  }

  /** One stage further. */
  async #advance(job: Job): Promise<void> {
    switch (job.state) {
      case 'accepted':
      case 'posted':
        return this.#untilSigned(job)
      case 'signed':
        return this.#certify(job)
      case 'confirmed':
        return this.#finalize(job)
      default:
        return
    }
  }

  /** Encoding is the dear thing in memory, so post and collect happen while it is there; it is cheap to make again. */
  async #untilSigned(job: Job): Promise<void> {
    const { queue, finality, chain } = this.#o
    const release = await this.#memory.take(encodedBytes(job.sizeBytes), this.#o.signal)
    try {
      const blob = await encodeBlob(await queue.read(job.id))
      const root = blob.header.dataRoot
      if (await this.#certifiedBefore(job, blob)) return
      let { posting } = job
      if (posting === undefined || (await chain.epoch()) - posting.epoch > POSTING_EPOCHS) {
        posting = await this.#o.transactions.post(root)
        await queue.update(job, { state: 'posted', root, posting })
      }
      await finality.reached(posting.blockNumber)
      await this.#collect(job, blob, posting)
    } finally {
      release()
    }
  }

  async #collect(job: Job, blob: EncodedBlob, posting: Posting): Promise<void> {
    const { chain, pool, clock, logger, queue, signal, signTimeoutMs } = this.#o
    const id = { root: blob.header.dataRoot, epoch: posting.epoch, quorumId: posting.quorumId }
    const quorum = await chain.quorum(id.epoch, id.quorumId)
    const details = await chain.signers(quorum.members.map(m => m.address))
    const certificate = await collectSignatures(blob, id, quorum, details, {
      pool,
      clock,
      logger,
      sending: this.#sending,
      timeoutMs: signTimeoutMs,
      signal
    })
    await queue.update(job, { state: 'signed', certificate })
  }

  /** The same blob may stand on chain already, in this epoch and with this commitment: then there is nothing to do or pay. */
  async #certifiedBefore(job: Job, blob: EncodedBlob): Promise<boolean> {
    const { chain, queue } = this.#o
    const root = blob.header.dataRoot
    const mine = { x: big(blob.commitment.cx), y: big(blob.commitment.cy) }
    const epoch = await chain.epoch()
    const candidates: Omit<BlobId, 'root'>[] = Array.from(
      { length: await chain.quorumCount(epoch) },
      (_, quorumId) => ({
        epoch,
        quorumId
      })
    )
    if (job.posting !== undefined && job.posting.epoch !== epoch) candidates.push(job.posting)
    const recorded = await Promise.all(candidates.map(c => chain.commitment({ root, ...c })))
    const at = recorded.findIndex(point => point !== undefined && same(point, mine))
    if (at < 0) {
      // Another encoding of this root is on record where ours was posted: no signer signs there any more.
      const { posting } = job
      if (posting === undefined) return false
      if ((await chain.commitment({ root, ...posting })) !== undefined) await postAnew(queue, job)
      return false
    }
    const blockNumber = await chain.client.blockNumber()
    const { epoch: known, quorumId } = candidates[at]!
    await queue.update(job, {
      state: 'confirmed',
      root,
      posting: { epoch: known, quorumId, blockNumber },
      certifiedBlock: blockNumber
    })
    return true
  }

  async #certify(job: Job): Promise<void> {
    const { chain, queue, transactions } = this.#o
    const certificate = job.certificate!
    const id = { root: job.root!, epoch: job.posting!.epoch, quorumId: job.posting!.quorumId }
    let certifiedBlock: number
    if ((await chain.commitment(id)) === undefined) {
      certifiedBlock = await transactions.certify({ ...id, ...certificate })
    } else certifiedBlock = await chain.client.blockNumber()
    // The contract skips a known triple without a word, whatever its commitment (da-design.md 6).
    const recorded = await chain.commitment(id)
    if (recorded === undefined || !same(recorded, certificate.commitment)) {
      await postAnew(queue, job)
      throw new ZgError('ERR_REJECTED', 'another commitment is recorded for this root, epoch and quorum')
    }
    await queue.update(job, { state: 'confirmed', certifiedBlock })
  }

  async #finalize(job: Job): Promise<void> {
    const { chain, finality, queue } = this.#o
    await finality.reached(job.certifiedBlock!)
    const id = { root: job.root!, epoch: job.posting!.epoch, quorumId: job.posting!.quorumId }
    if ((await chain.commitment(id)) === undefined) {
      // The block was replaced before it was final. The certificate, if there is one here, is still good.
      const block =
        job.certificate === undefined ? undefined : await this.#o.transactions.certify({ ...id, ...job.certificate })
      if (block === undefined) throw new ZgError('ERR_REJECTED', 'the certificate is gone from the chain')
      return queue.update(job, { certifiedBlock: block })
    }
    await queue.update(job, { state: 'finalized' })
  }

  /** Counts the failure. @returns true when the blob's way ends here. */
  async #giveUp(job: Job, err: unknown): Promise<boolean> {
    const { queue, maxRetries } = this.#o
    if (err instanceof ZgError && PASSING.has(err.code)) return false
    if (err instanceof ZgError && err.code === LOST) {
      await queue.update(job, { state: 'failed', error: messageOf(err) })
      return true
    }
    // A blob that is certified is past failing.
    if (job.state === 'confirmed') return false
    const attempts = job.attempts + 1
    if (attempts > maxRetries) {
      const state = err instanceof TooFewSignatures ? 'insufficient' : 'failed'
      await queue.update(job, { state, attempts, error: messageOf(err) })
      return true
    }
    if (err instanceof TooFewSignatures && err.stale) await postAnew(queue, job)
    await queue.update(job, { attempts })
    return false
  }
}

/** Failures of the surroundings: a blob waits them out, however long. */
const PASSING: ReadonlySet<string> = new Set([
  'ERR_UNAVAILABLE',
  'ERR_TIMEOUT',
  'ERR_FUNDS',
  'ERR_DISK_FULL',
  'ERR_NOT_SYNCED'
])
/** The bytes are gone. */
const LOST = 'ERR_CORRUPT'

async function postAnew(queue: BlobQueue, job: Job): Promise<void> {
  delete job.posting
  delete job.certificate
  await queue.update(job, { state: 'accepted' })
}

/** Data, parity and trees of an encoded blob. */
function encodedBytes(sizeBytes: number): number {
  const { k, w } = shapeOf(sizeBytes)
  return 3 * k * w + 512 * 1024
}

function same(a: G1, b: G1): boolean {
  return a.x === b.x && a.y === b.y
}

function big(b: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(b).toString('hex')}`)
}
