/** The segment files that are open: the last used ones. */
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Disk, DiskFile } from '../../../lib/ports/disk.ts'
import { fileName } from './segment-file.ts'

const OPEN_FILES = 64
/** A file put away is closed so much later: a read on it may be under way. */
const CLOSE_MS = 10_000

export class OpenFiles {
  readonly #o: { disk: Disk; dir: string; clock: Clock }
  readonly #open = new Map<number, Promise<DiskFile>>()
  /** Never closed to make room: the file being written. */
  pinned = 0

  constructor(options: { disk: Disk; dir: string; clock: Clock }) {
    this.#o = options
  }

  get(number: number): Promise<DiskFile> {
    const kept = this.#open.get(number)
    if (kept !== undefined) {
      this.#open.delete(number)
      this.#open.set(number, kept)
      return kept
    }
    const opened = this.#o.disk.open(`${this.#o.dir}/${fileName(number)}`, 'open')
    opened.catch(() => this.#open.delete(number))
    this.set(number, opened)
    return opened
  }

  set(number: number, file: Promise<DiskFile>): void {
    this.#open.set(number, file)
    if (this.#open.size <= OPEN_FILES) return
    for (const n of this.#open.keys()) {
      if (n === number || n === this.pinned) continue
      this.putAway(n)
      return
    }
  }

  /** Closes a file, a little later. */
  putAway(number: number): void {
    const file = this.#open.get(number)
    this.#open.delete(number)
    this.#o.clock.after(CLOSE_MS, () => void file?.then(f => f.close()).catch(() => {}))
  }

  async close(): Promise<void> {
    for (const file of this.#open.values()) await file.then(f => f.close()).catch(() => {})
    this.#open.clear()
  }
}
