/** The raw routes under /v1/ (docs/protocol/storage-raw.md): segments without JSON and base64. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { answerUnread, HttpError, sendError, sendJson } from '../../../lib/adapters/http.ts'
import type { HttpRoute } from '../../../lib/adapters/jsonrpc/types.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { hashFromHex, toHex } from '../../../lib/base/hex.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import { segmentWireBytes, shape } from '../../../lib/codec/storage/shape.ts'
import type { FileStore, ServedSegment, StoreResult } from '../core/file-store.ts'
import type { FlowIndex } from '../core/flow-index.ts'
import type { Tx } from '../core/tx.ts'
import { type RefusalReason, type SegmentUpload, UploadRefusal } from '../core/upload-checks.ts'
import { BodyReader } from './body-reader.ts'
import { type Lease, lease, sendBytes } from './buffers.ts'
import { decodeFrameHead, encodeFrameHead, FRAME_HEAD_BYTES, frameUpload } from './frame.ts'

export interface RawRoutesOptions {
  store: FileStore
  index: FlowIndex
}

/** Frames in one upload request. */
export const UPLOAD_FRAMES = 4
/** Frames of all uploads from which on none waits in memory for the rest of its request: 33 MiB. */
const FRAMES_HELD = 96
/** Frames in memory now, of all uploads. */
let framesHeld = 0
/** Segments in one download request. */
const DOWNLOAD_SEGMENTS = 64
/** Segments of one answer that are read while earlier ones are being sent. */
const READ_AHEAD = 3
const FRAME_TYPE = 'application/vnd.zg.segment'

/** A route for the node's server. Answers everything under /v1/. */
export function rawRoutes(o: RawRoutesOptions): HttpRoute {
  return async (req, res, url) => {
    if (!url.pathname.startsWith('/v1/')) return false
    try {
      await serve(o, req, res, url)
    } catch (err) {
      if (res.headersSent) res.destroy()
      else sendError(req, res, toHttpError(err))
    }
    return true
  }
}

async function serve(o: RawRoutesOptions, req: IncomingMessage, res: ServerResponse, url: URL): Promise<void> {
  const [what, name, index, ...more] = url.pathname.slice('/v1/'.length).split('/')
  if (name === undefined || more.length > 0) throw new HttpError(404, 'ERR_NOT_FOUND', `nothing at ${url.pathname}`)
  if (what === 'segments' && index === undefined && req.method === 'PUT') return upload(o, req, res, name)
  if (req.method !== 'GET' && req.method !== 'HEAD') {
    throw new HttpError(405, 'ERR_BAD_INPUT', `${req.method} is not possible here`)
  }
  const proof = url.searchParams.get('proof') === '1'
  if (what === 'segment' && index !== undefined) {
    return one(o, res, await named(o, name), counter(index, 'segment index'), proof)
  }
  if (index !== undefined) throw new HttpError(404, 'ERR_NOT_FOUND', `nothing at ${url.pathname}`)
  if (what === 'segments') {
    const first = counter(url.searchParams.get('first') ?? '0', 'first')
    const count = counter(url.searchParams.get('count') ?? '1', 'count')
    if (count < 1 || count > DOWNLOAD_SEGMENTS) {
      throw new HttpError(400, 'ERR_BAD_INPUT', `count is ${count}, 1 to ${DOWNLOAD_SEGMENTS} are possible`)
    }
    return several(o, res, await named(o, name), { first, count, proof })
  }
  if (what === 'roots') return roots(o, res, await named(o, name))
  if (what === 'file') return file(o, res, name)
  throw new HttpError(404, 'ERR_NOT_FOUND', `nothing at ${url.pathname}`)
}

async function upload(o: RawRoutesOptions, req: IncomingMessage, res: ServerResponse, name: string): Promise<void> {
  const key = parseKey(name)
  let tx: Tx | undefined
  if (typeof key === 'number') {
    tx = await o.index.tx(key)
    if (tx === undefined) {
      throw new HttpError(404, 'ERR_NOT_FOUND', `submission ${key} was not seen yet`, 'wait for its block, then repeat')
    }
  }
  // A stream that stands still must not hold its frames for ever.
  const idle = setTimeout(() => req.destroy(), LIMITS.httpIdleBodyMs)
  const reader = new BodyReader(req, () => idle.refresh())
  const counts = { stored: 0, known: 0, cached: 0 }
  let ups: SegmentUpload[] = []
  let leases: Lease[] = []
  let fault: { err: unknown; index: number | undefined } | undefined
  /** Stores what came whole, together; one that is refused does not keep the others. */
  const storeWhole = async (): Promise<void> => {
    const [frames, memories] = [ups, leases]
    ups = []
    leases = []
    const results = await storeFrames(o.store, frames, tx).finally(() => {
      for (const memory of memories) memory.release()
      framesHeld -= memories.length
    })
    for (const [i, r] of results.entries()) {
      if (r.status === 'fulfilled') counts[r.value]++
      else if (isKnown(r.reason)) counts.known++
      else if (fault?.index === undefined) fault = { err: r.reason, index: frames[i]!.index }
    }
  }
  try {
    const fixed = new Uint8Array(FRAME_HEAD_BYTES)
    for (let frames = 0; ; frames++) {
      const got = await reader.fill(fixed)
      if (got === 0) break
      if (frames === UPLOAD_FRAMES) {
        throw new HttpError(413, 'ERR_BAD_INPUT', `more than ${UPLOAD_FRAMES} segments in one request`)
      }
      const head = decodeFrameHead(fixed.subarray(0, got))
      if (typeof head === 'string') throw new HttpError(400, 'ERR_BAD_INPUT', head)
      const siblings = new Uint8Array(32 * head.path.length)
      await reader.fill(siblings)
      if (typeof key !== 'number' && toHex(head.root) !== toHex(key)) {
        throw new HttpError(400, 'ERR_BAD_INPUT', 'frame of another file')
      }
      // Clients that are slow, many of them, must not hold what came before while they send the rest.
      if (framesHeld >= FRAMES_HELD && ups.length > 0) await storeWhole()
      // Not a byte of the data is read before there is room for it.
      if (!o.store.hasRoom) {
        reader.hold()
        await o.store.room()
      }
      const memory = lease(head.dataSize)
      leases.push(memory)
      framesHeld++
      const data = plain(memory, head.dataSize)
      if ((await reader.fill(data)) < data.length) throw new HttpError(400, 'ERR_BAD_INPUT', 'body ends within a frame')
      ups.push(frameUpload(head, siblings, data, memory))
    }
  } catch (err) {
    fault = { err, index: undefined }
  } finally {
    clearTimeout(idle)
  }
  // What came whole is kept, whatever was wrong behind it.
  await storeWhole()
  if (fault !== undefined) return refuse(req, res, fault)
  const now = typeof key === 'number' ? await o.index.tx(key) : await o.store.select(key, true)
  sendJson(res, 200, { ...counts, finalized: now?.status === 'final' })
}

function storeFrames(
  store: FileStore,
  ups: readonly SegmentUpload[],
  tx: Tx | undefined
): Promise<PromiseSettledResult<StoreResult>[]> {
  if (tx !== undefined) return store.storeAll(ups, tx)
  return Promise.allSettled(ups.map(async up => store.store(up, await store.target(up.root, up.fileSize))))
}

function isKnown(err: unknown): boolean {
  return err instanceof UploadRefusal && (err.reason === 'final' || err.reason === 'duplicate')
}

/** The first bytes of a lease as a plain array: a Buffer's slice would share the memory where a copy is expected. */
function plain(memory: Lease, bytes: number): Uint8Array {
  return new Uint8Array(memory.bytes.buffer, memory.bytes.byteOffset, bytes)
}

function refuse(req: IncomingMessage, res: ServerResponse, fault: { err: unknown; index: number | undefined }): void {
  const e = toHttpError(fault.err)
  if (fault.index === undefined) {
    sendError(req, res, e)
    return
  }
  if (!req.complete) answerUnread(req, res)
  if (e.status === 429) res.setHeader('retry-after', '1')
  const error = {
    code: e.code,
    message: e.message,
    ...(e.hint === undefined ? {} : { hint: e.hint }),
    index: fault.index
  }
  sendJson(res, e.status, { error })
}

async function one(o: RawRoutesOptions, res: ServerResponse, tx: Tx, index: number, proof: boolean): Promise<void> {
  if (index >= shape(tx.size).segments) throw new HttpError(400, 'ERR_BAD_INPUT', 'segment index out of bounds')
  const memory = lease()
  let sent = false
  try {
    const found = await o.store.read(tx, index, memory.bytes)
    if (found === undefined) throw notHeld(index)
    const head = proof ? frameHead(tx, index, found) : undefined
    res.writeHead(200, {
      'content-type': proof ? FRAME_TYPE : 'application/octet-stream',
      'content-length': (head?.length ?? 0) + found.data.length,
      etag: `"${toHex(found.leaf)}"`,
      'x-zg-root': toHex(tx.root),
      'x-zg-file-size': tx.size,
      'x-zg-segment-root': toHex(found.leaf)
    })
    if (res.req.method === 'HEAD') return void res.end()
    if (head !== undefined) res.write(head)
    sent = true
    sendBytes(res, found.data, memory)
    res.end()
  } finally {
    if (!sent) memory.release()
  }
}

async function several(
  o: RawRoutesOptions,
  res: ServerResponse,
  tx: Tx,
  want: { first: number; count: number; proof: boolean }
): Promise<void> {
  const s = shape(tx.size)
  if (want.first >= s.segments) throw new HttpError(400, 'ERR_BAD_INPUT', 'segment index out of bounds')
  const held = await o.store.held(tx.root, want.first, Math.min(want.count, s.segments - want.first))
  const count = held.includes(false) ? held.indexOf(false) : held.length
  const end = want.first + count
  const ahead: Promise<Read>[] = []
  let next = want.first
  const readAhead = (): void => {
    while (next < end && ahead.length < READ_AHEAD) {
      const read = readOne(o.store, tx, next++)
      read.catch(() => {}) // looked at in its turn
      ahead.push(read)
    }
  }
  readAhead()
  try {
    let read = await ahead[0]
    if (read?.found === undefined) throw notHeld(want.first)
    let size = 0
    for (let i = want.first; i < end; i++) size += segmentWireBytes(s, i)
    res.writeHead(200, {
      'content-type': want.proof ? FRAME_TYPE : 'application/octet-stream',
      ...(want.proof ? {} : { 'content-length': size }),
      'x-zg-root': toHex(tx.root),
      'x-zg-file-size': tx.size,
      'x-zg-count': count
    })
    if (res.req.method === 'HEAD') return void res.end()
    for (let i = want.first; i < end; i++) {
      read = await ahead[0]!
      // Damaged between the look and the read: the answer was promised longer, so cut the connection.
      if (read.found === undefined || res.destroyed) return void res.destroy()
      ahead.shift()
      if (want.proof) res.write(frameHead(tx, i, read.found))
      const more = sendBytes(res, read.found.data, read.memory)
      readAhead()
      if (!more) await drained(res)
    }
    res.end()
  } finally {
    for (const left of ahead) left.then(r => r.memory.release()).catch(() => {})
  }
}

interface Read {
  memory: Lease
  found: ServedSegment | undefined
}

async function readOne(store: FileStore, tx: Tx, index: number): Promise<Read> {
  const memory = lease()
  try {
    return { memory, found: await store.read(tx, index, memory.bytes) }
  } catch (err) {
    memory.release()
    throw err
  }
}

async function roots(o: RawRoutesOptions, res: ServerResponse, tx: Tx): Promise<void> {
  const leaves = tx.status === 'final' ? await o.store.leaves(tx) : undefined
  if (leaves === undefined) throw new HttpError(404, 'ERR_NOT_FOUND', 'the file is not complete here')
  res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': leaves.length })
  res.end(res.req.method === 'HEAD' ? undefined : leaves)
}

async function file(o: RawRoutesOptions, res: ServerResponse, name: string): Promise<void> {
  const key = parseKey(name)
  const tx =
    typeof key === 'number'
      ? await o.index.tx(key)
      : await o.store.select(key, true).then(t => t ?? o.store.select(key, false))
  if (tx === undefined) {
    const cached = typeof key === 'number' ? undefined : o.store.cache.peek(key)
    if (cached === undefined || typeof key === 'number') throw new HttpError(404, 'ERR_NOT_FOUND', 'no such file here')
    const { segments } = shape(cached.size)
    const have = new Set(cached.indices)
    const missing: [number, number][] = []
    for (let i = 0; i < segments; i++) if (!have.has(i)) missing.push([i, i + 1])
    const state = { finalized: false, pruned: false, cached: true }
    return sendJson(res, 200, {
      root: toHex(key),
      seqs: [],
      size: cached.size,
      segments,
      ...state,
      uploaded: have.size,
      missing
    })
  }
  const seqs: number[] = []
  for await (const t of o.index.txsOf(tx.root, 64)) seqs.push(t.seq)
  const { segments } = shape(tx.size)
  const final = tx.status === 'final'
  sendJson(res, 200, {
    root: toHex(tx.root),
    seqs,
    size: tx.size,
    segments,
    finalized: final,
    pruned: tx.status === 'pruned',
    cached: o.store.cache.has(tx.root),
    uploaded: tx.status === 'pending' ? await o.store.contiguous(tx.root) : segments,
    missing: await o.store.missing(tx)
  })
}

/** The submission that a KEY names, not pruned. */
async function named(o: RawRoutesOptions, name: string): Promise<Tx> {
  const key = parseKey(name)
  const tx = typeof key === 'number' ? await o.index.tx(key) : await o.store.select(key, false)
  if (tx === undefined) throw new HttpError(404, 'ERR_NOT_FOUND', 'no such file here')
  if (tx.status === 'pruned') throw new HttpError(410, 'ERR_NOT_FOUND', 'the file was pruned')
  return tx
}

function parseKey(name: string): Uint8Array | number {
  if (/^[0-9]{1,15}$/.test(name)) return Number(name)
  try {
    return hashFromHex(name, 'root')
  } catch (err) {
    throw new HttpError(400, 'ERR_BAD_INPUT', messageOf(err), 'name a file by 0x and 64 hex digits, or by its number')
  }
}

function counter(text: string, what: string): number {
  if (!/^[0-9]{1,10}$/.test(text)) throw new HttpError(400, 'ERR_BAD_INPUT', `${what} is not a number`)
  return Number(text)
}

function frameHead(tx: Tx, index: number, found: ServedSegment): Uint8Array {
  const f = { index, dataSize: found.data.length, fileSize: tx.size, root: tx.root }
  return encodeFrameHead(f, found.packed)
}

function notHeld(index: number): HttpError {
  return new HttpError(404, 'ERR_NOT_FOUND', `segment ${index} is not held here`, 'ask another node')
}

function drained(res: ServerResponse): Promise<void> {
  return new Promise(resolve => {
    const done = (): void => {
      res.off('drain', done)
      res.off('close', done)
      resolve()
    }
    res.on('drain', done)
    res.on('close', done)
  })
}

const REFUSED: Record<RefusalReason, [number, string]> = {
  input: [400, 'ERR_BAD_INPUT'],
  proof: [400, 'ERR_BAD_PROOF'],
  final: [409, 'ERR_EXISTS'],
  duplicate: [409, 'ERR_EXISTS'],
  pruned: [410, 'ERR_NOT_FOUND'],
  'large-before-tx': [413, 'ERR_BAD_INPUT'],
  busy: [429, 'ERR_UNAVAILABLE'],
  'other-shard': [400, 'ERR_BAD_INPUT']
}

function toHttpError(err: unknown): HttpError {
  if (err instanceof HttpError) return err
  if (err instanceof UploadRefusal) {
    const [status, code] = REFUSED[err.reason]
    return new HttpError(status, code, err.data === undefined ? err.message : `${err.message}: ${err.data}`)
  }
  if (err instanceof ZgError) {
    if (err.code === 'ERR_DISK_FULL' || err.code === 'ERR_IO') {
      return new HttpError(507, 'ERR_DISK_FULL', err.message, err.hint)
    }
    if (err.code === 'ERR_BAD_INPUT') return new HttpError(400, err.code, err.message, err.hint)
    return new HttpError(503, 'ERR_UNAVAILABLE', err.message, err.hint)
  }
  throw err
}
