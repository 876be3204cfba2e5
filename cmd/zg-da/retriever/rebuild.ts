/**
 * From (root, epoch, quorum) to the blob, trusting no signer (da-design.md 7): the commitment comes from the chain, header and z
 * are checked against it, each row against both, and the result is encoded again and compared. Whoever lies is asked no more;
 * whoever is slow is not waited for while others can give enough rows.
 */

import { GrpcError, STATUS } from '../../../lib/adapters/grpc/status.ts'
import { bigToBytes, concat } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { BlobId, G1, SignerDetail } from '../../../lib/clients/da/abi.ts'
import type { Quorum, QuorumMember } from '../../../lib/clients/da/chain.ts'
import type { SignerPool } from '../../../lib/clients/da/signer.ts'
import { checkHeader, decodeCy, decodeHeader, isFastMode } from '../../../lib/codec/da/header.ts'
import { codeRow, type OpenBlob, openZ } from '../../../lib/codec/da/open.ts'
import { decodeRecords } from '../../../lib/codec/da/records.ts'
import { decodeMatrix, strictCheck } from '../../../lib/codec/da/retrieve.ts'
import { type DaCommitment, DaError, type LineRecord, type Shape } from '../../../lib/codec/da/types.ts'
import { checkRootsOfR0, verifyLines } from '../../../lib/codec/da/verify.ts'
import type { Logger } from '../../../lib/ops/log.ts'

/** What it needs of the chain. */
export interface RetrievalChain {
  quorum(epoch: number, quorumId: number): Promise<Quorum>
  signers(addresses: readonly Uint8Array[]): Promise<SignerDetail[]>
  commitment(id: BlobId): Promise<G1 | undefined>
}

export interface RetrievalOptions {
  chain: RetrievalChain
  pool: SignerPool
  logger: Logger
  signal?: AbortSignal | undefined
  /** For the whole retrieval. */
  timeoutMs?: number
}

/** A signer as a source of rows. */
export interface Source extends QuorumMember {
  socket: string
  /** Answered wrongly or not at all: not asked again in this retrieval. */
  bad: boolean
}

/** A certified blob, its header known and checked. */
export interface Located {
  id: BlobId
  blob: OpenBlob
  sources: Source[]
  /** 3k × 32 bytes, checked, when a signer had them. */
  rowRoots: Uint8Array | undefined
}

const TIMEOUT_MS = 60_000
/** One question to one signer. */
const ASK_MS = 20_000
/** After this a question is repeated elsewhere; its answer is still welcome. */
const SLOW_MS = 1_000
/** Signers that are asked for the header at once; another one whenever those were slow. */
const HEADER_ASKS = 3

/**
 * The blob.
 * @throws {GrpcError} NOT_FOUND (unknown to the chain, or too few rows), DATA_LOSS (certified, but no value has that root).
 */
export async function retrieveBlob(id: BlobId, o: RetrievalOptions): Promise<Uint8Array> {
  const stop = new AbortController()
  const onAbort = (): void => stop.abort(o.signal?.reason)
  if (o.signal?.aborted) onAbort()
  o.signal?.addEventListener('abort', onAbort, { once: true })
  const timer = setTimeout(() => stop.abort(new Error('deadline')), o.timeoutMs ?? TIMEOUT_MS)
  try {
    const mine = { ...o, signal: stop.signal }
    const located = await locate(id, mine)
    const rows = await gatherRows(located, mine)
    return await decodeStrictly(located, rows, mine)
  } finally {
    clearTimeout(timer)
    o.signal?.removeEventListener('abort', onAbort)
    // Questions still open are of no use any more.
    stop.abort(new Error('done'))
  }
}

/** Shape of a certified blob as the chain tells it, and the commitment. @throws {GrpcError} NOT_FOUND. */
export async function certified(
  id: BlobId,
  chain: RetrievalChain
): Promise<{ commitment: DaCommitment; shape: Shape; quorum: Quorum }> {
  let quorum: Quorum
  try {
    quorum = await chain.quorum(id.epoch, id.quorumId)
  } catch (err) {
    if (!(err instanceof ZgError) || err.code !== 'ERR_NOT_FOUND') throw err
    throw new GrpcError(STATUS.notFound, `failed get signers from block chain: ${err.message}`, { cause: err })
  }
  const point = await chain.commitment(id)
  if (point === undefined) throw missing('no certificate of this root, epoch and quorum')
  const commitment = { cx: bigToBytes(point.x, 32), cy: bigToBytes(point.y, 32) }
  if (!isFastMode(commitment.cy)) throw missing('the blob is of a mode that is not known here')
  return { commitment, shape: decodeCy(commitment.cy), quorum }
}

/** Finds signers, header and z. */
export async function locate(id: BlobId, o: RetrievalOptions): Promise<Located> {
  const { commitment, quorum } = await certified(id, o.chain)
  const details = await o.chain.signers(quorum.members.map(m => m.address))
  const sources = quorum.members.map((m, i) => ({ ...m, socket: details[i]?.socket ?? '', bad: false }))
  const left = shuffled(sources)
  let found: { blob: OpenBlob; rowRoots: Uint8Array | undefined } | undefined
  const done = new AbortController()
  const ask = async (): Promise<void> => {
    for (let source = left.shift(); source !== undefined && found === undefined; source = left.shift()) {
      try {
        const answer = await o.pool.at(source.socket).retrieve(id, [], {
          header: true,
          timeoutMs: ASK_MS,
          signal: done.signal
        })
        const header = decodeHeader(answer?.fast_header ?? new Uint8Array(0))
        checkHeader(header, { storageRoot: id.root, commitment })
        const blob = openZ(header, answer!.fast_z)
        found ??= { blob, rowRoots: rootsIn(answer!.fast_row_roots, blob) }
      } catch (err) {
        note(source, err, o)
      }
    }
  }
  await new Promise<void>(resolve => {
    let active = 0
    const start = (): void => {
      active++
      void ask().finally(() => {
        active--
        if (found !== undefined || active === 0) end()
      })
    }
    // Those that were asked first may all be silent.
    const more = setInterval(() => {
      if (left.length > 0) start()
    }, SLOW_MS)
    const end = (): void => {
      clearInterval(more)
      resolve()
    }
    if (o.signal?.aborted) end()
    else o.signal?.addEventListener('abort', end, { once: true })
    for (let i = 0; i < HEADER_ASKS; i++) start()
  })
  done.abort()
  if (found === undefined) throw missing('no signer has its header')
  return { id, sources, ...found }
}

/** k different code rows, each checked. */
export async function gatherRows(located: Located, o: RetrievalOptions): Promise<Map<number, Uint8Array>> {
  const { blob, sources, id } = located
  const { k } = blob.header
  const rows = new Map<number, Uint8Array>()
  /** Code rows asked of somebody who is not slow yet. */
  const asked = new Map<number, number>()
  const slow = new Set<Source>()
  /** Committed to, but not of the code: nobody has them better. */
  const wrong = new Set<number>()
  const holders = holdersOf(blob, sources)
  const order = [...holders.keys()].sort((a, b) => a - b)
  const news = new News()
  let open = 0

  const ask = async (source: Source, places: number[]): Promise<void> => {
    const codes = places.map(p => codeRow(blob, p))
    for (const c of codes) asked.set(c, (asked.get(c) ?? 0) + 1)
    let waited = true
    const release = (): void => {
      if (!waited) return
      waited = false
      for (const c of codes) asked.set(c, asked.get(c)! - 1)
    }
    const timer = setTimeout(() => {
      slow.add(source)
      release()
      news.ring()
    }, SLOW_MS)
    open++
    try {
      const answer = await o.pool.at(source.socket).retrieve(id, places, { timeoutMs: ASK_MS, signal: o.signal })
      const lines = decodeRecords(answer?.encoded_slice ?? [], blob.header)
      const checked = await readLines(blob, lines, places)
      for (const [c, payload] of checked.rows) rows.set(c, payload)
      for (const c of checked.wrong) wrong.add(c)
      if (checked.wrong.length > 0) o.logger.warn('an encoder cheated', { root: id.root, rows: checked.wrong.length })
      slow.delete(source)
    } catch (err) {
      note(source, err, o)
    } finally {
      clearTimeout(timer)
      release()
      open--
      news.ring()
    }
  }

  while (rows.size < k) {
    if (o.signal?.aborted) throw tooFew(rows.size, k)
    let expected = rows.size
    for (const [c, n] of asked) if (n > 0 && !rows.has(c)) expected++
    const batch = new Map<Source, number[]>()
    for (const c of order) {
      if (expected >= k) break
      if (rows.has(c) || wrong.has(c) || (asked.get(c) ?? 0) > 0) continue
      const able = holders.get(c)!.filter(h => !h.source.bad)
      const holder = able.find(h => !slow.has(h.source))
      if (holder === undefined) continue
      const places = batch.get(holder.source)
      if (places === undefined) batch.set(holder.source, [holder.place])
      else places.push(holder.place)
      expected++
    }
    for (const [source, places] of batch) {
      void ask(
        source,
        places.sort((a, b) => a - b)
      )
    }
    if (open === 0) throw tooFew(rows.size, k)
    await news.wait()
  }
  return rows
}

/**
 * Checks an answer. Lines that the blob commits to and that are not of its code are the encoder's fault: the others of the same
 * answer still count, or a blob that liars certified would have a value for some readers and none for others.
 * @throws {DaError} for whatever is the fault of who answered.
 */
async function readLines(
  blob: OpenBlob,
  lines: LineRecord[],
  places: number[]
): Promise<{ rows: ReadonlyMap<number, Uint8Array>; wrong: number[] }> {
  try {
    return { rows: (await verifyLines(blob.header, blob, lines, { places, reading: true })).rows, wrong: [] }
  } catch (err) {
    if (!isWrongCode(err)) throw err
  }
  const rows = new Map<number, Uint8Array>()
  const wrong: number[] = []
  // One by one: once more the work at most, however many are wrong. Each code row was asked for once, so each has its payload.
  for (const line of lines) {
    const c = codeRow(blob, line.p)
    try {
      await verifyLines(blob.header, blob, [line], { reading: true })
      rows.set(c, line.payload!)
    } catch (err) {
      if (!isWrongCode(err)) throw err
      wrong.push(c)
    }
  }
  return { rows, wrong }
}

function isWrongCode(err: unknown): boolean {
  return err instanceof DaError && err.fault === 'line-code'
}

/** Decodes and applies the strict rule, which makes all readers agree. */
async function decodeStrictly(
  located: Located,
  rows: Map<number, Uint8Array>,
  o: RetrievalOptions
): Promise<Uint8Array> {
  const { header } = located.blob
  const matrix = await decodeMatrix(header, rows)
  const check = await strictCheck(header, matrix)
  if (check.exact) return matrix.subarray(0, header.len)
  const committed = located.rowRoots ?? (await fetchRowRoots(located, o))
  if (committed === undefined) {
    o.logger.warn('no signer serves the row roots of a blob with a faulty encoding', { root: header.dataRoot })
    return matrix.subarray(0, header.len)
  }
  try {
    check.count(committed)
  } catch (err) {
    if (!(err instanceof DaError) || err.fault !== 'no-value') throw err
    throw new GrpcError(STATUS.dataLoss, 'blob encoding does not match its root', { cause: err })
  }
  return matrix.subarray(0, header.len)
}

async function fetchRowRoots(located: Located, o: RetrievalOptions): Promise<Uint8Array | undefined> {
  for (const source of located.sources) {
    if (source.bad) continue
    try {
      const answer = await o.pool.at(source.socket).retrieve(located.id, [], {
        header: true,
        timeoutMs: ASK_MS,
        signal: o.signal
      })
      const roots = rootsIn(answer?.fast_row_roots ?? new Uint8Array(0), located.blob)
      if (roots !== undefined) return roots
    } catch (err) {
      note(source, err, o)
    }
  }
  return undefined
}

function rootsIn(bytes: Uint8Array, blob: OpenBlob): Uint8Array | undefined {
  if (bytes.length === 0) return undefined
  checkRootsOfR0(blob.header, bytes)
  return concat(bytes)
}

/** Who can give each code row, in random order. */
function holdersOf(blob: OpenBlob, sources: readonly Source[]): Map<number, { source: Source; place: number }[]> {
  const holders = new Map<number, { source: Source; place: number }[]>()
  for (const source of shuffled(sources)) {
    for (const place of source.places) {
      const c = codeRow(blob, place)
      const list = holders.get(c)
      if (list === undefined) holders.set(c, [{ source, place }])
      else if (!list.some(h => h.source === source)) list.push({ source, place })
    }
  }
  return holders
}

function note(source: Source, err: unknown, o: RetrievalOptions): void {
  if (o.signal?.aborted || (err instanceof ZgError && err.code === 'ERR_STOPPED')) return
  source.bad = true
  const lied = err instanceof DaError
  o.logger[lied ? 'warn' : 'info'](lied ? 'a signer answers wrongly' : 'a signer does not answer', {
    signer: toHex(source.address),
    socket: source.socket,
    error: messageOf(err)
  })
}

function missing(why: string): GrpcError {
  return new GrpcError(STATUS.notFound, `fail to recover slice: ${why}`)
}

function tooFew(have: number, k: number): GrpcError {
  return missing(`Not enough valid lines (${have} of ${k} rows)`)
}

function shuffled<T>(list: readonly T[]): T[] {
  const out = [...list]
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    const x = out[i]!
    out[i] = out[j]!
    out[j] = x
  }
  return out
}

/** Something happened: wakes whoever waits, and is remembered when nobody does. */
class News {
  #rung = false
  #wake: (() => void) | undefined

  ring(): void {
    this.#rung = true
    this.#wake?.()
  }

  async wait(): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
    this.#rung = false
    this.#wake = undefined
  }
}
