/**
 * Files that come over plain HTTP, stored at the expense of the gateway's account: one as a raw body (`PUT /v1/file`), several as
 * a form (`POST /v1/file`, multipart/form-data). What comes is spooled to disk and hashed on the way; nothing is submitted before
 * the whole body was read, so a broken upload costs nothing and leaves nothing.
 */
import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import busboy from 'busboy'
import { cacheDir } from '../../../lib/adapters/paths.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import type { NodePool, PutOptions, PutResult, Source } from '../../../lib/clients/store.ts'
import { encodeFolder, type FolderEntry, isName, unsafeOnDisk } from '../../../lib/codec/storage/folder.ts'
import type { FileHash, FileHasher } from '../../../lib/codec/storage/hasher.ts'

const TAGS_MAX_BYTES = 4096
/** Files of one form. */
const FORM_FILES = 1000
const FORM_FIELDS = 16
const FIELD_BYTES = 4096
/** Uploads that are spooled or stored at the same time. */
const UPLOADS_MAX = 16

export interface UploadOptions {
  pool: NodePool
  /** Bytes of one request. */
  maxBytes: number
  replicas: number
  journalDir: string
  /** Who pays, found when first needed. */
  payer: () => Promise<Pick<PutOptions, 'flow' | 'signer'>>
}

export type Upload = (req: IncomingMessage, url: URL) => Promise<Record<string, unknown>>

/** A file as it came, spooled and hashed. */
interface Received {
  /** As the client named it; '' for a raw body. */
  name: string
  source: Source
  hash: FileHash | undefined
}

export function uploads(o: UploadOptions): Upload {
  let running = 0
  return async (req, url) => {
    if (running >= UPLOADS_MAX) throw new ZgError('ERR_UNAVAILABLE', `${UPLOADS_MAX} uploads are running already`)
    const announced = Number(req.headers['content-length'] ?? 0)
    if (announced > o.maxBytes) throw tooLarge(o.maxBytes)
    const tags = fromHex(url.searchParams.get('tags') ?? '0x', 'tags')
    if (tags.length > TAGS_MAX_BYTES) throw new ZgError('ERR_BAD_INPUT', `tags are longer than ${TAGS_MAX_BYTES} bytes`)
    running++
    const received: Received[] = []
    // A body that stops coming must not hold its file for ever.
    // (Without a callback: the server ends a socket that timed out, and no listener stays on a kept-alive one.)
    req.setTimeout(LIMITS.httpIdleBodyMs)
    try {
      const { FileHasher } = await import('../../../lib/codec/storage/hasher.ts')
      const budget = { left: o.maxBytes, max: o.maxBytes }
      const form = req.method === 'POST'
      if (form) await receiveForm(req, new FileHasherFactory(FileHasher), budget, received)
      else received.push(await receive(req, '', new FileHasherFactory(FileHasher), budget))
      req.setTimeout(0)
      return form ? await storeForm(o, received, url, tags) : await storeOne(o, received[0]!, tags)
    } finally {
      running--
      req.setTimeout(0)
      for (const r of received) await r.source.close()
    }
  }
}

/** The hasher's class, loaded by the first upload. */
class FileHasherFactory {
  readonly #make: typeof FileHasher
  constructor(make: typeof FileHasher) {
    this.#make = make
  }
  make(): FileHasher {
    return new this.#make()
  }
}

interface Budget {
  left: number
  max: number
}

async function receive(stream: Readable, name: string, hashers: FileHasherFactory, budget: Budget): Promise<Received> {
  const { spool } = await import('../../../lib/clients/store.ts')
  const hasher = hashers.make()
  const source = await spool(stream, process.env.TMPDIR ?? cacheDir('spool'), async part => {
    budget.left -= part.length
    if (budget.left < 0) throw tooLarge(budget.max)
    await hasher.push(part)
  })
  try {
    return { name, source, hash: source.sizeBytes === 0 ? undefined : await hasher.finish() }
  } catch (err) {
    await source.close()
    throw err
  }
}

/** Reads a form to its end; its files come one behind the other and are spooled as they come. */
async function receiveForm(
  req: IncomingMessage,
  hashers: FileHasherFactory,
  budget: Budget,
  out: Received[]
): Promise<void> {
  let parser: busboy.Busboy
  try {
    parser = busboy({
      headers: req.headers,
      // Paths are wanted: a folder may be uploaded. Each is checked before it is used.
      preservePath: true,
      limits: { files: FORM_FILES, fields: FORM_FIELDS, fieldSize: FIELD_BYTES, headerPairs: 64, fieldNameSize: 200 }
    })
  } catch (err) {
    throw new ZgError('ERR_BAD_INPUT', `not a form: ${messageOf(err)}`, {
      hint: "send multipart/form-data, as 'curl -F file=@NAME' does, or one raw body with PUT"
    })
  }
  await new Promise<void>((resolve, reject) => {
    let chain: Promise<void> = Promise.resolve()
    const fail = (err: unknown): void => {
      req.unpipe(parser)
      parser.destroy()
      reject(err)
    }
    parser.on('file', (_field, stream, info) => {
      // It may fail before somebody reads it; whoever then reads it is told.
      stream.on('error', () => {})
      chain = chain.then(async () => {
        out.push(await receive(stream, info.filename ?? '', hashers, budget))
      })
      chain.catch(fail)
    })
    parser.on('filesLimit', () => fail(new ZgError('ERR_BAD_INPUT', `a form has at most ${FORM_FILES} files`)))
    parser.on('fieldsLimit', () => fail(new ZgError('ERR_BAD_INPUT', `a form has at most ${FORM_FIELDS} fields`)))
    parser.on('error', err => fail(new ZgError('ERR_BAD_INPUT', `malformed form: ${messageOf(err)}`)))
    parser.on('close', () => void chain.then(resolve, reject))
    req.once('close', () => {
      if (!req.complete) fail(new ZgError('ERR_BAD_INPUT', 'connection closed within the body'))
    })
    req.pipe(parser)
  })
  if (out.length === 0) throw new ZgError('ERR_BAD_INPUT', 'the form has no file')
}

async function storeOne(o: UploadOptions, r: Received, tags: Uint8Array): Promise<Record<string, unknown>> {
  if (r.hash === undefined) throw new ZgError('ERR_BAD_INPUT', 'body is empty: an empty file cannot be stored')
  const { put } = await import('../../../lib/clients/store.ts')
  return shown(await put(r.source, r.hash, await putOptions(o, tags)))
}

/** Stores the files of a form, and with `?folder=NAME` the folder that their names make. */
async function storeForm(
  o: UploadOptions,
  received: readonly Received[],
  url: URL,
  tags: Uint8Array
): Promise<Record<string, unknown>> {
  const folderName = url.searchParams.get('folder')
  // Before anything is paid.
  const top = folderName === null ? undefined : folderOf(folderName, received)
  const { hashSource, memorySource, putMany } = await import('../../../lib/clients/store.ts')
  const stored = received.filter(r => r.hash !== undefined)
  if (stored.length < received.length && top === undefined) {
    throw new ZgError('ERR_BAD_INPUT', 'a file of the form is empty: an empty file cannot be stored')
  }
  const options = await putOptions(o, tags)
  // The spooled files are closed by whoever opened them.
  const items = stored.map(r => ({ hash: r.hash!, open: async () => ({ ...borrowed(r.source) }) }))
  const results = items.length === 0 ? [] : await putMany(items, options)
  const files = results.map((r, i) => ({ name: stored[i]!.name, ...shown(r) }))
  if (top === undefined) return { files }
  const source = memorySource(encodeFolder(top))
  const { put } = await import('../../../lib/clients/store.ts')
  return { files, folder: shown(await put(source, await hashSource(source), options)) }
}

function borrowed(source: Source): Source {
  return {
    sizeBytes: source.sizeBytes,
    read: (offset, length) => source.read(offset, length),
    check: () => source.check(),
    close: async () => {}
  }
}

/** The folder that the names of the files make. @throws {ZgError} ERR_BAD_INPUT for names that lead out of it, or twice to one place. */
function folderOf(name: string, received: readonly Received[]): FolderEntry {
  const top = directory(name)
  for (const r of received) {
    const path = r.name.split('/')
    const last = path.pop()!
    let at = top
    for (const [depth, part] of path.entries()) {
      checkName(part, r.name)
      let next = at.entries.find(e => e.name === part)
      if (next === undefined) {
        next = directory(part)
        at.entries.push(next)
      }
      if (next.type !== 'directory' || depth > 100) throw badName(r.name)
      at = next
    }
    checkName(last, r.name)
    if (at.entries.some(e => e.name === last))
      throw new ZgError('ERR_BAD_INPUT', `'${r.name.slice(0, 200)}' comes twice`)
    const roots = r.hash === undefined ? [] : [r.hash.root]
    at.entries.push({ ...directory(last), type: 'file', roots, size: r.hash?.size ?? 0 })
  }
  return top
}

function checkName(part: string, whole: string): void {
  if (!isName(part) || unsafeOnDisk(directory(part), []) !== undefined) throw badName(whole)
}

function badName(name: string): ZgError {
  return new ZgError('ERR_BAD_INPUT', `a folder cannot have the name '${name.slice(0, 200)}'`)
}

function directory(name: string): FolderEntry {
  return { name, type: 'directory', roots: [], size: 0, link: '', entries: [] }
}

async function putOptions(o: UploadOptions, tags: Uint8Array): Promise<PutOptions> {
  return {
    pool: o.pool,
    ...(await o.payer()),
    tags,
    journalDir: o.journalDir,
    replicas: o.replicas,
    fewer: true
  }
}

function shown(r: PutResult): Record<string, unknown> {
  return {
    root: toHex(r.root),
    seq: r.seq,
    size: r.sizeBytes,
    txHash: r.txHash === undefined ? null : toHex(r.txHash),
    nodes: r.urls.length
  }
}

function tooLarge(max: number): ZgError {
  return new ZgError('ERR_BAD_INPUT', `body is larger than ${max} bytes`)
}
