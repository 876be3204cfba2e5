/** Disk and key-value store of a chain that lives in memory (`--dev` without a directory): gone with the process, by intent. */
import { compareBytes } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import type { Disk, DiskFile } from '../../../lib/ports/disk.ts'
import type { KvStore } from '../../../lib/ports/kv.ts'

/** An ordered store over a map; keys are sorted when a scan needs it. */
export function memoryKv(): KvStore {
  const map = new Map<string, Uint8Array>()
  let sorted: string[] | undefined
  // latin1 strings compare bytewise.
  const text = (b: Uint8Array) => Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('latin1')
  const bytes = (s: string) => new Uint8Array(Buffer.from(s, 'latin1'))
  return {
    async get(key) {
      return map.get(text(key))
    },
    async getMany(keys) {
      return keys.map(k => map.get(text(k)))
    },
    async batch(ops) {
      for (const op of ops) {
        const key = text('put' in op ? op.put : op.del)
        if ('put' in op) {
          if (!map.has(key)) sorted = undefined
          map.set(key, op.value.slice())
        } else if (map.delete(key)) sorted = undefined
      }
    },
    async *scan(range) {
      sorted ??= [...map.keys()].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
      const from = range.gte === undefined ? 0 : lowerBound(sorted, text(range.gte))
      const to = range.lt === undefined ? sorted.length : lowerBound(sorted, text(range.lt))
      const keys = sorted.slice(from, to)
      if (range.reverse) keys.reverse()
      const found = keys.slice(0, range.limit).map(k => [bytes(k), map.get(k)!] as [Uint8Array, Uint8Array])
      yield* found
    },
    async close() {}
  }
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
  return {
    async open(path, mode) {
      let f = files.get(path)
      if (f !== undefined && mode === 'new') throw new ZgError('ERR_EXISTS', `'${path}' exists`)
      if (f === undefined) {
        if (mode === 'open') throw new ZgError('ERR_NOT_FOUND', `'${path}' does not exist`)
        f = { data: new Uint8Array(4096), size: 0 }
        files.set(path, f)
      }
      return memoryFile(f)
    },
    async mkdir() {},
    async list(path) {
      const prefix = path.endsWith('/') ? path : `${path}/`
      const names = [...files.keys()].filter(p => p.startsWith(prefix)).map(p => p.slice(prefix.length))
      return names
        .filter(n => !n.includes('/'))
        .sort((a, b) => compareBytes(new TextEncoder().encode(a), new TextEncoder().encode(b)))
    },
    async exists(path) {
      return files.has(path)
    },
    async rename(from, to) {
      const f = files.get(from)
      if (f === undefined) throw new ZgError('ERR_NOT_FOUND', `'${from}' does not exist`)
      files.delete(from)
      files.set(to, f)
    },
    async remove(path) {
      files.delete(path)
    },
    async syncDir() {}
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
