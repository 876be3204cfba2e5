/**
 * LevelDB as a {@link KvStore}. A batch goes to LevelDB's log before it returns, so it survives the death of the process; with
 * `sync` the log is fsynced too. After any failed write LevelDB itself refuses further ones until it is reopened.
 */
import { Level } from 'level'
import { messageOf, systemCode, ZgError } from '../base/errors.ts'
import type { KvOp, KvRange, KvStore } from '../ports/kv.ts'
import { makeDirs } from './disk.ts'

const BYTES = { keyEncoding: 'view', valueEncoding: 'view' } as const

/**
 * Opens (and on first use creates, 0700) the store in directory `path`.
 * @param opts.cacheBytes - block cache; default 32 MiB.
 * @param opts.create - false: an absent store is ERR_NOT_FOUND.
 * @throws {ZgError} ERR_LOCKED when another process has it open, ERR_CORRUPT, ERR_PERMISSION, ERR_DISK_FULL, ERR_IO.
 */
export async function openKv(path: string, opts: { cacheBytes?: number; create?: boolean } = {}): Promise<KvStore> {
  const create = opts.create ?? true
  if (create) await makeDirs(path)
  const db = new Plain(path, {
    ...BYTES,
    createIfMissing: create,
    // 200 tables of 2 MiB: bounded descriptors and memory for a store of any size.
    maxOpenFiles: 200,
    cacheSize: opts.cacheBytes ?? 32 * 1024 * 1024,
    writeBufferSize: 8 * 1024 * 1024
  })
  await guard(path, 'open', () => db.open())
  const batch = inOrder((ops, sync) => guard(path, 'write', () => db.write(ops, sync)))
  return {
    get: key => guard(path, 'read', async () => plain(await db.get(key))),
    getSync(key) {
      try {
        return plain(db.getSync(key))
      } catch (err) {
        throw kvError(err, path, 'read')
      }
    },
    getMany: keys => guard(path, 'read', async () => (await db.getMany([...keys])).map(plain)),
    batch,
    scan(range) {
      // The iterator, and with it the snapshot, is made now, not at the first step.
      const iterator = db.iterator(levelRange(range))
      return walk(iterator, path)
    },
    // An empty batch is a barrier: those issued before it are written.
    close: async () => {
      if (db.status === 'open') await batch([])
      await guard(path, 'close', () => db.close())
    }
  }
}

/**
 * LevelDB with batches handed to the binding as they are: the general path copies each entry for hooks, events and encodings that nobody
 * here uses, at 10 µs an entry. What a binding has to do for its base class is `_batch`.
 */
class Plain extends Level<Uint8Array, Uint8Array> {
  declare _batch: (ops: readonly LevelOp[], options: { sync: boolean }) => Promise<void>

  async write(ops: readonly LevelOp[], sync: boolean): Promise<void> {
    if (this.status !== 'open') {
      throw Object.assign(new Error('Database is not open'), { code: 'LEVEL_DATABASE_NOT_OPEN' })
    }
    if (ops.length > 0) await this._batch(ops, { sync })
  }
}

interface LevelIterator {
  nextv(size: number): Promise<[Uint8Array, Uint8Array][]>
  close(): Promise<void>
}

/** A joined batch stops growing here: below LevelDB's write buffer, so that one write never stalls two. */
const JOINED_OPS_MAX = 10_000

/**
 * Batches in the order they were issued: the binding hands each to a thread pool, where two at once may change places. Those
 * that arrive while one is being written are joined into the next write, so that a crowd of synced batches shares one fsync.
 * A caller's buffers must stay as they are until its batch has returned.
 */
function inOrder(write: (ops: LevelOp[], sync: boolean) => Promise<void>): KvStore['batch'] {
  interface Waiting {
    ops: LevelOp[]
    sync: boolean
    resolve: () => void
    reject: (err: unknown) => void
  }
  let waiting: Waiting[] = []
  let writing = false
  const drain = async (): Promise<void> => {
    writing = true
    while (waiting.length > 0) {
      let count = 0
      let size = 0
      while (count < waiting.length && (count === 0 || size + waiting[count]!.ops.length <= JOINED_OPS_MAX)) {
        size += waiting[count++]!.ops.length
      }
      const joined = waiting.slice(0, count)
      waiting = waiting.slice(count)
      try {
        await write(
          count === 1 ? joined[0]!.ops : joined.flatMap(w => w.ops),
          joined.some(w => w.sync)
        )
        for (const w of joined) w.resolve()
      } catch (err) {
        for (const w of joined) w.reject(err)
      }
    }
    writing = false
  }
  return (ops, opts) =>
    new Promise((resolve, reject) => {
      waiting.push({ ops: ops.map(levelOp), sync: opts?.sync === true, resolve, reject })
      if (!writing) void drain()
    })
}

/** Entries are fetched by the hundred: one crossing into LevelDB's thread each, not one an entry. */
const SCAN_STEP = 100

async function* walk(iterator: LevelIterator, path: string): AsyncGenerator<[Uint8Array, Uint8Array]> {
  try {
    while (true) {
      const entries = await guard(path, 'read', () => iterator.nextv(SCAN_STEP))
      if (entries.length === 0) return
      for (const [key, value] of entries) yield [plain(key)!, plain(value)!]
    }
  } finally {
    await iterator.close()
  }
}

function levelRange(range: KvRange): KvRange {
  const out: KvRange = {}
  if (range.gte !== undefined) out.gte = range.gte
  if (range.lt !== undefined) out.lt = range.lt
  if (range.reverse === true) out.reverse = true
  if (range.limit !== undefined) out.limit = range.limit
  return out
}

type LevelOp = { type: 'put'; key: Uint8Array; value: Uint8Array } | { type: 'del'; key: Uint8Array }

function levelOp(op: KvOp): LevelOp {
  return 'put' in op ? { type: 'put', key: op.put, value: op.value } : { type: 'del', key: op.del }
}

/** LevelDB's binding hands out Buffers: same bytes, as the plain type that everything else uses. */
function plain(b: Uint8Array | undefined): Uint8Array | undefined {
  return b === undefined ? undefined : new Uint8Array(b.buffer, b.byteOffset, b.byteLength)
}

async function guard<T>(path: string, verb: string, fn: () => Promise<T>): Promise<T> {
  try {
    return await fn()
  } catch (err) {
    throw kvError(err, path, verb)
  }
}

/** LevelDB tells system errors only in words ("IO error: …: No space left on device"). */
function kvError(err: unknown, path: string, verb: string): ZgError {
  const text = `${systemCode(err) ?? ''} ${deepMessage(err)}`
  const fail = (code: ConstructorParameters<typeof ZgError>[0], words: string, hint?: string): ZgError =>
    new ZgError(code, `cannot ${verb} the store '${path}': ${words}`, { hint, cause: err })
  if (/LEVEL_LOCKED|lock .*LOCK|already held by process/.test(text)) {
    return fail('ERR_LOCKED', 'another process has it open', 'stop the other process first')
  }
  if (/No space left|quota exceeded|File too large/i.test(text))
    return fail('ERR_DISK_FULL', 'no space left on the disk')
  if (/does not exist \(create_if_missing/.test(text)) return fail('ERR_NOT_FOUND', 'it does not exist')
  if (/Permission denied|Read-only file system|not permitted/i.test(text))
    return fail('ERR_PERMISSION', 'permission denied')
  if (/LEVEL_CORRUPTION|Corruption|corrupted|No such file/.test(text)) return fail('ERR_CORRUPT', 'it is damaged')
  if (verb !== 'open' && /LEVEL_DATABASE_NOT_OPEN|LEVEL_ITERATOR_NOT_OPEN/.test(text))
    return fail('ERR_STOPPED', 'it is closed')
  return fail('ERR_IO', deepMessage(err))
}

function deepMessage(err: unknown): string {
  const parts: string[] = []
  for (let e = err, depth = 0; e instanceof Error && depth < 8; e = e.cause, depth++) parts.push(messageOf(e))
  return parts.join(': ')
}
