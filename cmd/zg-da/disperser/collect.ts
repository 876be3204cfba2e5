/**
 * Signatures for one posted blob: every signer of its quorum gets its lines, all at once, and as soon as two thirds of the places
 * have signed only a short grace is left for the others (da.md 13.6). Signatures are checked before they count.
 */

import { STATUS, statusOf } from '../../../lib/adapters/grpc/status.ts'
import { assert, messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { BlobId, G1, G2, SignerDetail } from '../../../lib/clients/da/abi.ts'
import type { Quorum, QuorumMember } from '../../../lib/clients/da/chain.ts'
import type { SignerPool } from '../../../lib/clients/da/signer.ts'
import { MODE_FAST, type SignRequest } from '../../../lib/clients/da/wire.ts'
import { type EncodedBlob, signerForm } from '../../../lib/codec/da/blob.ts'
import { commitmentToLe } from '../../../lib/codec/da/header.ts'
import { encodeRecord } from '../../../lib/codec/da/records.ts'
import { blobDigest, decodeG1Le, sumG1, sumG2, verifyBls } from '../../../lib/crypto/bn254.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Budget } from '../budget.ts'
import type { Certificate } from './job.ts'

export interface CollectOptions {
  pool: SignerPool
  clock: Clock
  logger: Logger
  /** Bytes of requests on their way. */
  sending: Budget
  /** For one signer's answer. */
  timeoutMs: number
  signal: AbortSignal
}

/** Too few signed. */
export class TooFewSignatures extends Error {
  readonly signed: number
  readonly places: number
  /** Somebody does not see the posting, or finds its epoch too old: posting anew may help. */
  readonly stale: boolean
  /** Somebody found the blob certified. */
  readonly certified: boolean
  constructor(signed: number, places: number, refusals: { stale: boolean; certified: boolean }) {
    super(`${signed} of ${places} places signed, ${needed(places)} needed`)
    this.name = 'TooFewSignatures'
    this.signed = signed
    this.places = places
    this.stale = refusals.stale
    this.certified = refusals.certified
  }
}

/** After the threshold: places that sign now cost nobody anything, and a certificate with more of them is worth more. */
const GRACE_MS = 200
/** A signer that cannot be reached, is busy, or has not seen the posting yet is asked again for this long. */
const RETRY_MS = 5_000
const FIRST_PAUSE_MS = 100
const MOST_PAUSE_MS = 1_000
const STATUS_MS = 5_000

/** Places that must sign: two thirds, rounded up. */
export function needed(places: number): number {
  return Math.ceil((2 * places) / 3)
}

interface Signed {
  member: QuorumMember
  detail: SignerDetail
  signature: G1
}

/**
 * @param details - of the quorum's members, in their order.
 * @throws {TooFewSignatures}
 */
export async function collectSignatures(
  blob: EncodedBlob,
  id: BlobId,
  quorum: Quorum,
  details: readonly SignerDetail[],
  o: CollectOptions
): Promise<Certificate> {
  const { cx, cy } = blob.commitment
  const commitment = { x: toBig(cx), y: toBig(cy) }
  const digest = blobDigest(id.root, BigInt(id.epoch), BigInt(id.quorumId), commitment)
  const stop = new AbortController()
  const onAbort = (): void => stop.abort(o.signal.reason)
  if (o.signal.aborted) onAbort()
  o.signal.addEventListener('abort', onAbort, { once: true })
  let signed: Signed[] = []
  const refusals = { stale: false, certified: false }
  const places = (): number => signed.reduce((sum, s) => sum + s.member.places.length, 0)
  const want = needed(quorum.places)
  let enough: () => void = () => {}
  const threshold = new Promise<void>(resolve => {
    enough = resolve
  })
  const asks = quorum.members.map(async (member, i) => {
    const detail = details[i]
    assert(detail !== undefined, 'details of every member')
    try {
      const signature = await ask(blob, id, { member, detail, signers: quorum.members.length }, o, stop.signal)
      signed.push({ member, detail, signature })
      if (places() >= want) enough()
    } catch (err) {
      if (stop.signal.aborted) return
      const status = statusOf(err)
      if (status === STATUS.notFound) refusals.stale = true
      if (status === STATUS.alreadyExists) refusals.certified = true
      o.logger.warn('a signer did not sign', {
        signer: toHex(member.address),
        socket: detail.socket,
        root: id.root,
        error: messageOf(err)
      })
    }
  })
  const all = Promise.all(asks)
  try {
    await Promise.race([all, threshold.then(() => o.clock.sleep(GRACE_MS))])
    if (places() >= want && !allSigned(digest, signed)) {
      // A false one among them: find it, and wait for whoever is still asked.
      signed = signed.filter(s => valid(digest, s, o.logger))
      if (places() < want) {
        await all
        signed = signed.filter(s => valid(digest, s, o.logger))
      }
    }
    if (o.signal.aborted) throw new ZgError('ERR_STOPPED', 'stopped')
    if (places() < want) throw new TooFewSignatures(places(), quorum.places, refusals)
    return {
      signature: sumG1(signed.map(s => s.signature)),
      aggPkG2: sumOfKeys(signed),
      bitmap: bitmapOf(signed, quorum.places),
      commitment,
      signed: signed.length,
      signers: quorum.members.length
    }
  } finally {
    o.signal.removeEventListener('abort', onAbort)
    stop.abort(new ZgError('ERR_STOPPED', 'enough signed'))
  }
}

async function ask(
  blob: EncodedBlob,
  id: BlobId,
  to: { member: QuorumMember; detail: SignerDetail; signers: number },
  o: CollectOptions,
  signal: AbortSignal
): Promise<G1> {
  const begun = o.clock.monotonic()
  let pauseMs = FIRST_PAUSE_MS
  for (;;) {
    try {
      return await askOnce(blob, id, to, o, signal)
    } catch (err) {
      if (signal.aborted || !passing(err) || o.clock.monotonic() - begun + pauseMs > RETRY_MS) throw err
      await o.clock.sleep(pauseMs, signal)
      pauseMs = Math.min(2 * pauseMs, MOST_PAUSE_MS)
    }
  }
}

async function askOnce(
  blob: EncodedBlob,
  id: BlobId,
  { member, detail, signers }: { member: QuorumMember; detail: SignerDetail; signers: number },
  o: CollectOptions,
  signal: AbortSignal
): Promise<G1> {
  const client = o.pool.at(detail.socket)
  client.fast ??= ((await client.status({ timeoutMs: STATUS_MS, signal })).modes & MODE_FAST) !== 0
  if (!client.fast) throw new ZgError('ERR_PROTOCOL', 'it does not know the fast mode')
  const form = signerForm(blob.header, member.places.length, signers)
  const { w, k } = blob.header
  const release = await o.sending.take(
    member.places.length * 8 + Math.min(member.places.length, 3 * k) * (w + 700),
    signal
  )
  try {
    const request: SignRequest = {
      epoch: id.epoch,
      quorum_id: id.quorumId,
      erasure_commitment: commitmentToLe(blob.commitment),
      storage_root: id.root,
      encoded_slice: blob.records(member.places, form).map(encodeRecord),
      fast_header: blob.header.bytes,
      fast_z: blob.z,
      fast_row_roots: form === 'roots' ? blob.rowRoots : new Uint8Array(0)
    }
    const bytes = await client.sign(request, { timeoutMs: o.timeoutMs, signal })
    return decodeG1Le(new Uint8Array(bytes ?? new Uint8Array(0)), 'signature')
  } finally {
    release()
  }
}

/** Worth another try at the same signer. */
function passing(err: unknown): boolean {
  const status = statusOf(err)
  return status === STATUS.unavailable || status === STATUS.resourceExhausted || status === STATUS.notFound
}

/** One pairing for all: the normal case. */
function allSigned(digest: Uint8Array, signed: readonly Signed[]): boolean {
  const signature = sumG1(signed.map(s => s.signature))
  return verifyBls(digest, signature, sumOfKeys(signed))
}

/** Sums of keys: nearly every blob has the same signers, and checking their keys costs as much as a pairing. */
const sums = new Map<string, G2>()
const SUMS = 64

function sumOfKeys(signed: readonly Signed[]): G2 {
  const keys = signed.map(s => s.detail.pkG2)
  const name = keys
    .map(k => `${k.x[0]}/${k.y[0]}/${k.x[1]}/${k.y[1]}`)
    .sort()
    .join(' ')
  let sum = sums.get(name)
  if (sum === undefined) {
    sum = sumG2(keys)
    if (sums.size >= SUMS) sums.delete(sums.keys().next().value!)
    sums.set(name, sum)
  }
  return sum
}

function valid(digest: Uint8Array, s: Signed, logger: Logger): boolean {
  if (verifyBls(digest, s.signature, s.detail.pkG2)) return true
  logger.warn('a signer gave a false signature', { signer: toHex(s.member.address), socket: s.detail.socket })
  return false
}

/** Place p is bit p mod 8, least significant first, of byte p / 8. */
function bitmapOf(signed: readonly Signed[], places: number): Uint8Array {
  const bitmap = new Uint8Array(Math.ceil(places / 8))
  for (const { member } of signed) for (const p of member.places) bitmap[p >> 3]! |= 1 << (p & 7)
  return bitmap
}

function toBig(b: Uint8Array): bigint {
  return BigInt(toHex(b))
}
