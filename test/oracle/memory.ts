/** Disk and key-value store of a chain that lives in memory (`--dev` without a directory): gone with the process, by intent. */
import { posix } from 'node:path'
import { ZgError } from '../../lib/base/errors.ts'
import type { Disk, DiskFile } from '../../lib/ports/disk.ts'
import type { KvStore } from '../../lib/ports/kv.ts'

/** Keys that share their first byte: the chain's kinds of entries, of which it scans only some. */
export interface Shelf {
  /** In order, complete up to `fresh`. */
  sorted: string[]
  /** Put since the last scan, in any order. */
  fresh: string[]
}

/** Fresh keys that are put into place one by one; more are sorted in. */
const FEW = 256

/** What a store in memory holds; it outlives the store, as a directory does. */
export interface MemoryTable {
  map: Map<string, Uint8Array>
  shelves: Map<string, Shelf>
}

export function memoryTable(): MemoryTable {
  return { map: new Map(), shelves: new Map() }
}

/** An ordered store over a map. Keys are brought into order when a scan needs it. */
export function memoryKv({ map, shelves }: MemoryTable = memoryTable()): KvStore {
  let open = true
  const alive = () => {
    if (!open) throw new ZgError('ERR_STOPPED', 'the store is closed')
  }
  // latin1 strings compare bytewise.
  const text = (b: Uint8Array) => Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('latin1')
  const bytes = (s: string) => new Uint8Array(Buffer.from(s, 'latin1'))

  function shelfOf(key: string): Shelf {
    let shelf = shelves.get(key.slice(0, 1))
    if (shelf === undefined) {
      shelf = { sorted: [], fresh: [] }
      shelves.set(key.slice(0, 1), shelf)
    }
    return shelf
  }

  function put(key: string, value: Uint8Array): void {
    if (!map.has(key)) shelfOf(key).fresh.push(key)
    map.set(key, value)
  }

  function del(key: string): void {
    if (!map.delete(key)) return
    const { sorted } = ordered(shelfOf(key))
    sorted.splice(lowerBound(sorted, key), 1)
  }

  return {
    async get(key) {
      alive()
      return map.get(text(key))?.slice()
    },
    getSync(key) {
      alive()
      return map.get(text(key))?.slice()
    },
    async getMany(keys) {
      alive()
      return keys.map(k => map.get(text(k))?.slice())
    },
    async batch(ops) {
      alive()
      for (const op of ops) {
        if ('put' in op) put(text(op.put), op.value.slice())
        else del(text(op.del))
      }
    },
    scan(range) {
      alive()
      const gte = range.gte === undefined ? '' : text(range.gte)
      const lt = range.lt === undefined ? undefined : text(range.lt)
      const found: string[] = []
      for (const first of [...shelves.keys()].sort()) {
        if (first < gte.slice(0, 1) || (lt !== undefined && first > lt.slice(0, 1))) continue
        const { sorted } = ordered(shelves.get(first)!)
        const to = lt === undefined ? sorted.length : lowerBound(sorted, lt)
        for (let i = lowerBound(sorted, gte); i < to; i++) found.push(sorted[i]!)
      }
      if (range.reverse) found.reverse()
      // Values are looked up now: later writes do not show.
      return each(found.slice(0, range.limit).map(k => [bytes(k), map.get(k)!.slice()]))
    },
    async close() {
      open = false
    }
  }
}

async function* each<T>(items: T[]): AsyncGenerator<T> {
  yield* items
}

/** Brings the fresh keys of a shelf into place. */
function ordered(shelf: Shelf): Shelf {
  const { sorted, fresh } = shelf
  if (fresh.length > FEW) {
    for (const key of fresh) sorted.push(key)
    sorted.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  } else {
    for (const key of fresh) sorted.splice(lowerBound(sorted, key), 0, key)
  }
  shelf.fresh = []
  return shelf
}

function lowerBound(sorted: string[], key: string): number {
  let lo = 0
  let hi = sorted.length
  while (lo < hi) {
    const mid = (lo + hi) >> 1
    if (sorted[mid]! < key) lo = mid + 1
    else hi = mid
  }
  return lo
}

/** Files in memory; sync is a no-op. */
export function memoryDisk(): Disk {
  const files = new Map<string, { data: Uint8Array; size: number }>()
  const dirs = new Set(['/'])

  function needDir(path: string): void {
    if (!dirs.has(path)) throw new ZgError('ERR_NOT_FOUND', `'${path}' does not exist`)
  }
  function notDir(path: string): void {
    if (dirs.has(path)) throw new ZgError('ERR_IO', `'${path}' is a directory`)
  }

  return {
    async open(path, mode) {
      notDir(path)
      needDir(posix.dirname(path))
      let f = files.get(path)
      if (f !== undefined && mode === 'new') throw new ZgError('ERR_EXISTS', `'${path}' exists`)
      if (f === undefined) {
        if (mode === 'open') throw new ZgError('ERR_NOT_FOUND', `'${path}' does not exist`)
        f = { data: new Uint8Array(4096), size: 0 }
        files.set(path, f)
      }
      return memoryFile(f)
    },
    async mkdir(path) {
      for (let p = path; !dirs.has(p); p = posix.dirname(p)) {
        if (files.has(p)) throw new ZgError('ERR_EXISTS', `'${p}' exists`)
        dirs.add(p)
      }
    },
    async list(path) {
      needDir(path)
      const names = [...files.keys(), ...dirs].filter(p => p !== '/' && posix.dirname(p) === path)
      return names.map(p => posix.basename(p)).sort()
    },
    async exists(path) {
      return files.has(path) || dirs.has(path)
    },
    async rename(from, to) {
      const f = files.get(from)
      if (f === undefined) throw new ZgError('ERR_NOT_FOUND', `'${from}' does not exist`)
      notDir(to)
      needDir(posix.dirname(to))
      files.delete(from)
      files.set(to, f)
    },
    async remove(path) {
      notDir(path)
      files.delete(path)
    },
    async syncDir(path) {
      needDir(path)
    }
  }
}

function memoryFile(f: { data: Uint8Array; size: number }): DiskFile {
  const grow = (size: number) => {
    if (size <= f.data.length) return
    const bigger = new Uint8Array(Math.max(size, f.data.length * 2))
    bigger.set(f.data.subarray(0, f.size))
    f.data = bigger
  }
  return {
    async size() {
      return f.size
    },
    async read(offset, length) {
      return f.data.slice(Math.min(offset, f.size), Math.min(offset + length, f.size))
    },
    async write(offset, ...buffers) {
      let at = offset
      grow(buffers.reduce((size, b) => size + b.length, offset))
      for (const b of buffers) {
        f.data.set(b, at)
        at += b.length
      }
      f.size = Math.max(f.size, at)
    },
    async truncate(size) {
      grow(size)
      f.data.fill(0, Math.min(size, f.size))
      f.size = size
    },
    async sync() {},
    async close() {}
  }
}
