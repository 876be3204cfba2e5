/**
 * What a put must not forget: that a submission of this root was paid for. One small JSON file a root, written before the
 * transaction leaves and removed when the file is stored; so an interrupted put goes on instead of paying twice. Which segments
 * are missing is asked of the nodes: only they know what is on their disks.
 *
 * A lock file beside it keeps two puts of one root apart.
 */
import { link, mkdir, open, readFile, rename, unlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { systemCode, ZgError } from '../../base/errors.ts'
import { toHex } from '../../base/hex.ts'

export interface JournalEntry {
  /** Transaction hash, known before it is sent. */
  txHash: string
  chainId: number
  /** 0x, lower case. */
  flow: string
  /** Known once the receipt was seen. */
  seq?: number
  blockNumber?: number
  /** Decimal, neuron. */
  feeNeuron: string
  sizeBytes: number
  /** 0x; another put of the same root with other tags is another submission. */
  tags: string
}

export class Journal {
  readonly #path: string
  readonly #lock: string
  #closed = false
  private constructor(path: string) {
    this.#path = path
    this.#lock = `${path}.lock`
  }

  /** Takes the lock of a root. @throws {ZgError} ERR_LOCKED while another process puts the same root. */
  static async open(dir: string, root: Uint8Array): Promise<Journal> {
    const journal = new Journal(join(dir, `${toHex(root)}.json`))
    await mkdir(dir, { recursive: true, mode: 0o700 })
    for (let attempt = 0; ; attempt++) {
      try {
        // A whole file linked into place: a lock without its pid would look stale to others.
        const mine = `${journal.#lock}.${process.pid}`
        await writeFile(mine, `${process.pid}\n`, { mode: 0o600 })
        await link(mine, journal.#lock).finally(() => unlink(mine))
        return journal
      } catch (err) {
        if (systemCode(err) !== 'EEXIST') throw new ZgError('ERR_IO', `cannot write to '${dir}'`, { cause: err })
        const pid = await holderOf(journal.#lock)
        if (pid !== undefined || attempt > 3) {
          throw new ZgError('ERR_LOCKED', `another put of ${toHex(root)} is running${pid ? ` (pid ${pid})` : ''}`)
        }
        // Left behind by a process that was killed.
        await unlink(journal.#lock).catch(() => {})
      }
    }
  }

  async read(): Promise<JournalEntry | undefined> {
    try {
      const entry = JSON.parse(await readFile(this.#path, 'utf8')) as JournalEntry
      const whole =
        typeof entry.txHash === 'string' && typeof entry.flow === 'string' && typeof entry.chainId === 'number'
      return whole ? entry : undefined
    } catch (err) {
      // A torn file cannot happen (rename), a foreign one is none of ours.
      if (err instanceof SyntaxError || systemCode(err) === 'ENOENT') return undefined
      throw new ZgError('ERR_IO', `cannot read '${this.#path}'`, { cause: err })
    }
  }

  /** Durable when this returns: file, then name. */
  async write(entry: JournalEntry): Promise<void> {
    const temporary = `${this.#path}.new`
    const handle = await open(temporary, 'w', 0o600)
    try {
      await handle.writeFile(`${JSON.stringify(entry)}\n`)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, this.#path)
    const dir = await open(dirname(this.#path), 'r')
    await dir.sync().finally(() => dir.close())
  }

  /** The file is stored: nothing left to remember. */
  async forget(): Promise<void> {
    await unlink(this.#path).catch(() => {})
  }

  /** Gives the lock back; once, since the next one may belong to somebody else. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await unlink(this.#lock).catch(() => {})
  }
}

/** The pid in a lock file when that process lives; undefined for a stale lock. */
async function holderOf(lock: string): Promise<number | undefined> {
  const text = await readFile(lock, 'utf8').catch(() => '')
  const pid = Number(text.trim())
  if (!Number.isInteger(pid) || pid <= 0) return undefined
  try {
    process.kill(pid, 0)
    return pid
  } catch (err) {
    return systemCode(err) === 'EPERM' ? pid : undefined
  }
}
