/**
 * The pool's journal: a transaction whose hash was returned survives a crash. One append-only file:
 *
 *   record := size u32 | crc u32 | from[20] | raw[size − 20]      big endian; crc = CRC-32C(from ‖ raw)
 *
 * Appends that arrive while a sync runs share the next one (group commit). When most of the file is dead it is rewritten
 * beside (`pool.journal.new`), synced and renamed. A torn tail was never acknowledged: it is cut when the journal is opened.
 */
import { concat, u32be, view } from '../../../lib/base/bytes.ts'
import type { Disk, DiskFile } from '../../../lib/ports/disk.ts'
import { MAX_TX_BYTES } from '../core/transaction.ts'
import { crc32c } from './crc32c.ts'

/** Below this size a rewrite is not worth its syncs. */
const REWRITE_BYTES = 1024 * 1024

export interface JournalEntry {
  from: Uint8Array
  raw: Uint8Array
}

export interface PoolJournal {
  /** Durable when it resolves. Any error is fatal: the journal takes no more. */
  append(entry: JournalEntry): Promise<void>
  /** Rewrites the file with the live entries when it holds far more than those. */
  trim(live: () => JournalEntry[]): Promise<void>
  /** Makes the file hold exactly these. */
  rewrite(live: () => JournalEntry[]): Promise<void>
  close(): Promise<void>
}

/** Opens the journal; `entries` are what it held, oldest first. */
export async function openPoolJournal(
  disk: Disk,
  path: string
): Promise<{ journal: PoolJournal; entries: JournalEntry[] }> {
  const dir = path.slice(0, path.lastIndexOf('/'))
  await disk.mkdir(dir)
  await disk.remove(`${path}.new`)
  let file = await disk.open(path, 'create')
  await disk.syncDir(dir)
  const { entries, end } = parse(await file.read(0, await file.size()))
  await file.truncate(end)
  await file.sync()
  let size = end
  let waiting: { bytes: Uint8Array; done: () => void; failed: (err: unknown) => void }[] = []
  /** Everything that touches the file, one after the other. */
  let last: Promise<void> = Promise.resolve()
  let broken: unknown

  function serial(work: () => Promise<void>): Promise<void> {
    last = last.then(async () => {
      if (broken !== undefined) throw broken
      try {
        await work()
      } catch (err) {
        broken = err
        throw err
      }
    })
    return last
  }

  async function flush(): Promise<void> {
    const batch = waiting
    waiting = []
    try {
      if (batch.length === 0) return
      const bytes = batch.map(b => b.bytes)
      await file.write(size, ...bytes)
      await file.sync()
      for (const b of bytes) size += b.length
      for (const b of batch) b.done()
    } catch (err) {
      for (const b of batch) b.failed(err)
      throw err
    }
  }

  async function replace(bytes: Uint8Array): Promise<void> {
    const next: DiskFile = await disk.open(`${path}.new`, 'create')
    await next.truncate(0)
    await next.write(0, bytes)
    await next.sync()
    await disk.rename(`${path}.new`, path)
    await disk.syncDir(dir)
    await file.close()
    file = next
    size = bytes.length
  }

  const journal: PoolJournal = {
    append(entry) {
      if (broken !== undefined) return Promise.reject(broken)
      return new Promise<void>((done, failed) => {
        waiting.push({ bytes: encode(entry), done, failed })
        // The first of a group starts the flush; later ones are taken along if it has not begun.
        if (waiting.length === 1) {
          serial(flush).catch(err => {
            for (const w of waiting.splice(0)) w.failed(err)
          })
        }
      })
    },
    trim: live =>
      size < REWRITE_BYTES
        ? Promise.resolve()
        : serial(async () => {
            const bytes = concat(...live().map(encode))
            if (bytes.length * 4 < size) await replace(bytes)
          }),
    rewrite: live => serial(() => replace(concat(...live().map(encode)))),
    async close() {
      await last.catch(() => undefined)
      await file.close()
    }
  }
  return { journal, entries }
}

function encode(e: JournalEntry): Uint8Array {
  const body = concat(e.from, e.raw)
  return concat(u32be(body.length), u32be(crc32c(body)), body)
}

function parse(bytes: Uint8Array): { entries: JournalEntry[]; end: number } {
  const entries: JournalEntry[] = []
  let at = 0
  while (at + 8 <= bytes.length) {
    const head = view(bytes.subarray(at, at + 8))
    const size = head.getUint32(0)
    if (size < 21 || size > MAX_TX_BYTES + 20 || at + 8 + size > bytes.length) break
    const body = bytes.subarray(at + 8, at + 8 + size)
    if (crc32c(body) !== head.getUint32(4)) break
    entries.push({ from: body.slice(0, 20), raw: body.slice(20) })
    at += 8 + size
  }
  return { entries, end: at }
}
