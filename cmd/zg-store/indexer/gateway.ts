/**
 * The REST gateway (storage.md 5.2). Files stream through with a window of a few segments, each checked against the root before
 * it goes out; nothing is kept, so memory does not depend on what is asked for.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { readBody } from '../../../lib/adapters/http.ts'
import { type HttpRoute, RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { hashFromHex, toHex } from '../../../lib/base/hex.ts'
import { type NodePool, RemoteFile, readAll } from '../../../lib/clients/store.ts'
import {
  decodeFolder,
  FOLDER_MAX_BYTES,
  type FolderEntry,
  findInFolder,
  isFolder
} from '../../../lib/codec/storage/folder.ts'
import { type Body, CODES, GatewayError, sendBody, sendData, sendFailure, sendPlainFailure } from './answer.ts'
import type { NodeBook } from './book.ts'
import { contentType } from './content-type.ts'
import type { Upload } from './upload.ts'

/** Batches of four segments in flight for one reader, and for all of them together. */
const WINDOW = 4
const WINDOW_TOTAL = 64
/** Files that are read at the same time; more are told to come back. */
const READERS_MAX = 256
const SEGMENT_BODY_BYTES = 1024 * 1024
const BATCH_MAX = 100
const ASK = { timeoutMs: 5_000 }
/** How long a file's nodes and checked roots are reused: players and browsers ask for many ranges of one file. */
const CACHE_MS = 5_000
const CACHE_FILES = 32
/** Folders kept decoded, and the largest of them. */
const CACHE_FOLDERS = 16
const CACHE_FOLDER_BYTES = 1024 * 1024
/** Files with more segments are not kept: the roots of 65,536 are 2 MiB. */
const CACHE_SEGMENTS = 65_536

export interface GatewayOptions {
  book: NodeBook
  pool: NodePool
  /** Stores a body and pays for it; absent when the gateway has no account. */
  store?: Upload
  onError: (err: unknown) => void
}

type Handler = (req: IncomingMessage, res: ServerResponse, url: URL) => Promise<void>

export function gatewayRoute(o: GatewayOptions): HttpRoute {
  const files = new FileCache(o.pool, o.book)
  const find = (method: string, path: string): { run: Handler; plain: boolean } | undefined => {
    const read = method === 'GET' || method === 'HEAD'
    if (read && path === '/file') return { run: (req, res, url) => fileByQuery(files, req, res, url), plain: false }
    if (read && path === '/files/info') return { run: (_, res, url) => filesInfo(o.book, res, url), plain: false }
    if (read && path === '/node/status')
      return { run: async (_, res) => sendData(res, nodeStatus(o.book)), plain: false }
    if (read && path.startsWith('/file/info/')) {
      return {
        run: async (_, res) => sendData(res, await fileInfo(o.book, part(path, 11)).then(known)),
        plain: false
      }
    }
    if (read && path.startsWith('/file/')) return { run: (req, res) => fileByPath(files, req, res, path), plain: false }
    if (method === 'POST' && path === '/file/segment') {
      return { run: (req, res) => uploadSegment(o.book, req, res), plain: false }
    }
    if (read && path.startsWith('/v1/segment/')) {
      return { run: (req, res) => rawSegment(files, req, res, path), plain: true }
    }
    if ((method === 'PUT' || method === 'POST') && path === '/v1/file')
      return { run: (req, res, url) => putFile(o, req, res, url), plain: true }
    return undefined
  }
  return async (req, res, url) => {
    const found = find(req.method ?? 'GET', url.pathname)
    if (found === undefined) return false
    try {
      await found.run(req, res, url)
    } catch (err) {
      if (!(err instanceof GatewayError || err instanceof ZgError)) o.onError(err)
      if (res.headersSent) res.destroy()
      else if (found.plain) sendPlainFailure(req, res, err)
      else sendFailure(res, err)
    }
    return true
  }
}

/** True when nobody has a file because it was given up, not because nobody knows it. */
async function isPruned(book: NodeBook, id: string, err: unknown): Promise<boolean> {
  if (!(err instanceof ZgError) || (err.code !== 'ERR_NOT_FOUND' && err.code !== 'ERR_NOT_SYNCED')) return false
  const info = await fileInfo(book, id).catch(() => null)
  return info?.pruned === true && info.finalized !== true
}

/** Opened files, a few seconds old at most. */
class FileCache {
  readonly #pool: NodePool
  readonly #book: NodeBook
  readonly #open = new Map<string, { file: Promise<RemoteFile>; until: number }>()
  /** Decoded folders, which never change. */
  readonly #folders = new Map<string, FolderEntry>()
  constructor(pool: NodePool, book: NodeBook) {
    this.#pool = pool
    this.#book = book
  }

  /** A folder by its root; undefined for any other file. @throws {GatewayError} tooLarge, unsupported. */
  async folder(file: RemoteFile): Promise<FolderEntry | undefined> {
    const id = toHex(file.root)
    const hit = this.#folders.get(id)
    if (hit !== undefined) return hit
    if (!(await looksLikeFolder(file))) return undefined
    if (file.sizeBytes > FOLDER_MAX_BYTES) throw new GatewayError(CODES.tooLarge)
    let top: FolderEntry
    try {
      top = decodeFolder(await readAll(file, FOLDER_MAX_BYTES))
    } catch (err) {
      if (err instanceof ZgError && err.code === 'ERR_CORRUPT') throw new GatewayError(CODES.unsupported, err.message)
      throw err
    }
    if (file.sizeBytes <= CACHE_FOLDER_BYTES) {
      if (this.#folders.size >= CACHE_FOLDERS) this.#folders.delete(this.#folders.keys().next().value!)
      this.#folders.set(id, top)
    }
    return top
  }

  get(root: Uint8Array): Promise<RemoteFile> {
    const id = toHex(root)
    const now = performance.now()
    const hit = this.#open.get(id)
    if (hit !== undefined && hit.until > now) return hit.file
    const file = RemoteFile.open(this.#pool, root).catch(async err => {
      throw (await isPruned(this.#book, id, err)) ? new GatewayError(CODES.pruned) : err
    })
    this.#open.delete(id)
    this.#open.set(id, { file, until: now + CACHE_MS })
    file.then(
      f => {
        if (f.shape.paddedSegments > CACHE_SEGMENTS) this.#open.delete(id)
      },
      () => this.#open.delete(id)
    )
    for (const [old, e] of this.#open) {
      if (this.#open.size <= CACHE_FILES && e.until > now) break
      this.#open.delete(old)
    }
    return file
  }

  /** The root of a content id: itself, or that of a submission. */
  async rootOf(cid: string): Promise<Uint8Array> {
    if (!/^[0-9]{1,15}$/.test(cid)) return rootParameter(cid)
    for (const url of await this.#pool.urls()) {
      const info = await this.#pool
        .node(url)
        .fileInfoBySeq(Number(cid), ASK)
        .catch(() => null)
      if (info !== null) return info.root
    }
    throw new GatewayError(CODES.notFound)
  }
}

function rootParameter(text: string): Uint8Array {
  try {
    return hashFromHex(text, 'root')
  } catch (err) {
    throw new GatewayError(CODES.parameter, messageOf(err))
  }
}

function part(path: string, from: number): string {
  try {
    return decodeURIComponent(path.slice(from))
  } catch {
    throw new GatewayError(CODES.parameter, 'malformed path')
  }
}

let readers = 0

/** Fragments one behind the other as one body. */
function bodyOf(files: readonly RemoteFile[], name: string): Body {
  return {
    sizeBytes: files.reduce((sum, f) => sum + f.sizeBytes, 0),
    etag: `"${files.length === 0 ? 'empty' : files.map(f => toHex(f.root)).join('-')}"`,
    name,
    type: contentType(name),
    async *bytes(start, end, signal) {
      if (readers >= READERS_MAX) throw new ZgError('ERR_UNAVAILABLE', `${READERS_MAX} files are being read already`)
      readers++
      // The more readers, the less each may hold: memory stays the same.
      const window = Math.max(1, Math.min(WINDOW, Math.floor(WINDOW_TOTAL / readers)))
      try {
        let at = 0
        for (const f of files) {
          const from = Math.max(0, start - at)
          const to = Math.min(f.sizeBytes, end - at)
          if (from < to) yield* f.bytes(from, to, { signal, window })
          at += f.sizeBytes
        }
      } finally {
        readers--
      }
    }
  }
}

/** `GET /file?root=…&name=…` and `?txSeq=…`. */
async function fileByQuery(files: FileCache, req: IncomingMessage, res: ServerResponse, url: URL): Promise<void> {
  const cid = url.searchParams.get('root') ?? url.searchParams.get('txSeq')
  if (cid === null || cid === '') throw new GatewayError(CODES.parameter, 'either root or txSeq is wanted')
  if (url.searchParams.get('root') === null && !/^[0-9]{1,15}$/.test(cid)) {
    throw new GatewayError(CODES.parameter, 'txSeq is not a number')
  }
  const root = await files.rootOf(cid)
  await sendBody(req, res, bodyOf([await files.get(root)], url.searchParams.get('name') || toHex(root)))
}

/** `GET /file/{cid}/{path…}`: into a folder; without a path the folder's entries, or the file itself. */
async function fileByPath(files: FileCache, req: IncomingMessage, res: ServerResponse, path: string): Promise<void> {
  const [cid = '', ...names] = path.slice('/file/'.length).split('/')
  const inner = part(names.join('/'), 0)
  const root = await files.rootOf(part(cid, 0))
  const file = await files.get(root)
  const top = await files.folder(file)
  if (top === undefined) {
    if (inner !== '') throw new GatewayError(CODES.unsupported, 'not a folder')
    return sendBody(req, res, bodyOf([file], toHex(root)))
  }
  const entry = findInFolder(top, inner)
  if (entry === undefined) throw new GatewayError(CODES.noPath, inner)
  if (entry.type === 'directory') return sendData(res, entry.entries.map(listed))
  if (entry.type === 'symbolic') return sendData(res, { ...listed(entry), link: entry.link })
  const pieces: RemoteFile[] = []
  // An empty file has nothing stored: its body is empty too.
  for (const r of entry.roots) pieces.push(await files.get(r))
  await sendBody(req, res, bodyOf(pieces, entry.name))
}

function listed(e: FolderEntry): { name: string; type: string; size: number } {
  return { name: e.name, type: e.type, size: e.size }
}

async function looksLikeFolder(file: RemoteFile): Promise<boolean> {
  if (file.sizeBytes < 34) return false
  for await (const start of file.bytes(0, 34, { window: 1 })) return isFolder(start)
  return false
}

/** `GET /v1/segment/{root}/{index}`: the data of one segment, cut to the size of the file. */
async function rawSegment(files: FileCache, req: IncomingMessage, res: ServerResponse, path: string): Promise<void> {
  const m = /^\/v1\/segment\/(0x[0-9a-fA-F]{64})\/([0-9]{1,10})$/.exec(path)
  if (m === null) throw new ZgError('ERR_BAD_INPUT', 'want /v1/segment/0xROOT/INDEX')
  const file = await files.get(hashFromHex(m[1]))
  const index = Number(m[2])
  if (index >= file.shape.segments) throw new ZgError('ERR_BAD_INPUT', `file has ${file.shape.segments} segments`)
  for await (const data of file.segments({ first: index, last: index })) {
    res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': data.length })
    res.end(req.method === 'HEAD' ? undefined : data)
  }
}

async function putFile(o: GatewayOptions, req: IncomingMessage, res: ServerResponse, url: URL): Promise<void> {
  if (o.store === undefined) {
    throw new ZgError('ERR_PERMISSION', 'this gateway does not pay for files', {
      hint: "start it with '--account NAME', or use 'zg-store put'"
    })
  }
  const stored = await o.store(req, url)
  res.writeHead(200, { 'content-type': 'application/json' })
  res.end(JSON.stringify(stored))
}

type WireInfo = {
  finalized?: boolean
  pruned?: boolean
  isCached?: boolean
  uploadedSegNum?: number
  tx?: { size?: number; seq?: number; dataMerkleRoot?: string }
}

/** What the nodes say together: final where all are, pruned where any is, the least progress. Null when nobody knows it. */
async function fileInfo(book: NodeBook, cid: string): Promise<WireInfo | null> {
  const bySeq = /^[0-9]{1,15}$/.test(cid)
  const method = bySeq ? 'zgs_getFileInfoByTxSeq' : 'zgs_getFileInfo'
  const params = bySeq ? [Number(cid)] : [toHex(rootParameter(cid)), false]
  const living = book.living()
  const answers = await Promise.all(living.map(e => e.node.call(method, params, ASK).catch(() => undefined)))
  if (living.length === 0 || answers.every(a => a === undefined)) {
    throw new ZgError('ERR_UNAVAILABLE', 'no storage node answers')
  }
  const infos = answers.filter((a): a is WireInfo => typeof a === 'object' && a !== null)
  if (infos.length === 0) return null
  return {
    ...infos[0],
    finalized: infos.every(i => i.finalized === true),
    pruned: infos.some(i => i.pruned === true),
    isCached: infos.some(i => i.isCached === true),
    uploadedSegNum: Math.min(...infos.map(i => Number(i.uploadedSegNum ?? 0)))
  }
}

function known(info: WireInfo | null): WireInfo {
  if (info === null) throw new GatewayError(CODES.notFound)
  return info
}

async function filesInfo(book: NodeBook, res: ServerResponse, url: URL): Promise<void> {
  const cids = url.searchParams.getAll('cid')
  if (cids.length === 0) throw new GatewayError(CODES.parameter, 'cid is wanted')
  if (cids.length > BATCH_MAX) throw new GatewayError(CODES.parameter, `at most ${BATCH_MAX} cids`)
  sendData(res, await Promise.all(cids.map(cid => fileInfo(book, cid))))
}

/** The trusted nodes as one: least height, most peers, least nextTxSeq. */
function nodeStatus(book: NodeBook): unknown {
  const all = book.living().map(e => e.status!)
  if (all.length === 0) throw new ZgError('ERR_UNAVAILABLE', 'no storage node answers')
  return {
    connectedPeers: Math.max(...all.map(s => s.connectedPeers)),
    logSyncHeight: Math.min(...all.map(s => s.logSyncHeight)),
    nextTxSeq: Math.min(...all.map(s => s.nextTxSeq)),
    networkIdentity: { chainId: all[0]!.chainId, flowAddress: all[0]!.flowAddress }
  }
}

interface SegmentBody {
  root?: unknown
  txSeq?: unknown
  data?: unknown
  index?: unknown
  proof?: unknown
  expectedReplica?: unknown
}

/** `POST /file/segment`: hands a segment to as many nodes as wanted. */
async function uploadSegment(book: NodeBook, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const body = await segmentBody(req)
  if (typeof body.data !== 'string' || body.data === '')
    throw new GatewayError(CODES.parameter, 'segment data is empty')
  const cid = body.root !== undefined ? String(body.root) : body.txSeq !== undefined ? String(body.txSeq) : undefined
  if (cid === undefined) throw new GatewayError(CODES.parameter, 'either root or txSeq is wanted')
  const { tx } = known(await fileInfo(book, cid))
  const copies = Number(body.expectedReplica ?? 1)
  const chosen =
    Number.isInteger(copies) && copies >= 1 && copies <= 64 ? book.select(copies, 'min', new Set()) : undefined
  if (chosen === undefined) throw new GatewayError(CODES.parameter, 'not enough nodes for the wanted replicas')
  const seq = /^[0-9]{1,15}$/.test(cid) ? Number(cid) : tx!.seq
  const segment = {
    root: tx!.dataMerkleRoot,
    data: body.data,
    index: body.index ?? 0,
    proof: body.proof,
    fileSize: tx!.size
  }
  const failures: string[] = []
  await Promise.all(
    chosen.map(async e => {
      try {
        await e.node.call('zgs_uploadSegmentByTxSeq', [segment, seq], { timeoutMs: 30_000 })
      } catch (err) {
        if (!(err instanceof RpcError)) throw err
        const text = `${err.message}${typeof err.data === 'string' ? `: ${err.data}` : ''}`
        if (!/already (uploaded|been uploaded)/.test(text)) failures.push(text)
      }
    })
  )
  if (failures.length > 0) throw new GatewayError(CODES.parameter, failures[0])
  sendData(res, 'Segment uploaded')
}

async function segmentBody(req: IncomingMessage): Promise<SegmentBody> {
  const bytes = await readBody(req, SEGMENT_BODY_BYTES)
  try {
    const body: unknown = JSON.parse(bytes.toString('utf8'))
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body
  } catch {
    // Said below, as for any other text that is no object.
  }
  throw new GatewayError(CODES.parameter, 'body is not a JSON object')
}
