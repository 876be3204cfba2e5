/** File contents of the simulated disk, and what is left of unsynced operations when pages reach the disk in any order. */
import type { SeededRandom } from './random.ts'

/** The unit that a disk writes whole. */
export const PAGE_BYTES = 4096

/** What can happen to a file's content. */
export type FileOp = { write: Uint8Array; offset: number } | { truncate: number }

/** Growing bytes. */
export class Content {
  size = 0
  #buf = new Uint8Array(0)

  bytes(): Uint8Array {
    return this.#buf.subarray(0, this.size)
  }

  copy(): Content {
    const c = new Content()
    c.#buf = this.bytes().slice()
    c.size = this.size
    return c
  }

  resize(size: number): void {
    if (size > this.#buf.length) {
      const grown = new Uint8Array(Math.max(size, 2 * this.#buf.length, 256))
      grown.set(this.bytes())
      this.#buf = grown
    }
    // What is cut must read as zeros when the file grows again.
    if (size < this.size) this.#buf.fill(0, size, this.size)
    this.size = size
  }

  apply(op: FileOp): void {
    if ('truncate' in op) {
      this.resize(op.truncate)
      return
    }
    if (op.write.length === 0) return
    if (op.offset + op.write.length > this.size) this.resize(op.offset + op.write.length)
    this.#buf.set(op.write, op.offset)
  }
}

export function contentAfter(durable: Content, ops: readonly FileOp[]): Content {
  const out = durable.copy()
  for (const op of ops) out.apply(op)
  return out
}

/**
 * Each page as it was after a random number of the operations that touched it; the size after a random number of all of them,
 * drawn on its own.
 */
export function pagewise(durable: Content, ops: readonly FileOp[], random: SeededRandom): Content {
  const sizes = [durable.size]
  let most = durable.size
  for (const op of ops) {
    const last = sizes.at(-1)!
    sizes.push(
      'truncate' in op ? op.truncate : op.write.length === 0 ? last : Math.max(last, op.offset + op.write.length)
    )
    most = Math.max(most, sizes.at(-1)!)
  }
  const touched = new Map<number, FileOp[]>()
  for (const op of ops) {
    const end = 'truncate' in op ? most : op.offset + op.write.length
    const begin = 'truncate' in op ? op.truncate : op.offset
    for (let page = Math.floor(begin / PAGE_BYTES); page * PAGE_BYTES < end; page++) {
      const list = touched.get(page)
      if (list === undefined) touched.set(page, [op])
      else list.push(op)
    }
  }
  const out = durable.copy()
  out.resize(most)
  for (const [page, list] of [...touched].sort(([a], [b]) => a - b)) {
    const start = page * PAGE_BYTES
    const bytes = out.bytes().subarray(start, Math.min(start + PAGE_BYTES, most))
    for (const op of list.slice(0, drawCount(list.length, random))) applyToPage(bytes, start, op)
  }
  out.resize(sizes[drawCount(ops.length, random)]!)
  return out
}

/** 0 to `most`, with none and all as likely as the rest together. */
function drawCount(most: number, random: SeededRandom): number {
  const kind = random.below(3)
  return kind === 0 ? 0 : kind === 1 ? most : random.below(most + 1)
}

function applyToPage(page: Uint8Array, start: number, op: FileOp): void {
  if ('truncate' in op) {
    page.fill(0, Math.max(0, op.truncate - start))
    return
  }
  const from = Math.max(0, start - op.offset)
  const to = Math.min(op.write.length, start + page.length - op.offset)
  if (to > from) page.set(op.write.subarray(from, to), op.offset + from - start)
}
