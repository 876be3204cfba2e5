/**
 * A disk in memory that keeps only what it promised. Everything written is visible at once to the running program; what is there
 * after a power loss is another matter. The disk keeps, for each file, the durable bytes and the operations since, and for each
 * directory the durable names and the operations since:
 *
 *     file       durable bytes  ← write 0+100 ← write 4096+10 ← truncate 50        (`sync` moves them into the durable bytes)
 *     directory  durable names  ← create a    ← rename a → b                       (`syncDir` does the same for names)
 *
 * `crashAt(n)` cuts the power during the n-th mutating operation (write, truncate, sync, create, rename, remove, syncDir, mkdir);
 * every operation from then on throws {@link SimCrash}. `afterCrash(mode, seed)` gives the disk as the next start finds it:
 *
 * - `none`    nothing since the last sync is there: the interrupted operation and all unsynced data and names are gone.
 * - `all`     everything is there, the interrupted operation whole (as after the death of the process alone).
 * - `prefix`  operations survive in the order they were issued, over all files and directories, up to a random point; a write
 *             at that point is cut at a random byte.
 * - `subset`  any order: each 4 KiB page of a file is as it was after some number of the operations that touched it, the
 *             file's size likewise and independently (unwritten bytes inside the size read as zeros), and each operation on a
 *             directory is kept or not on its own. Some files and directories are drawn whole or untouched, since such
 *             mixtures (the name is there, the data is not) are the ones that hurt.
 *
 * Never: a change to synced data, a page newer in its middle than at its ends, a rename whose file has neither name. `mkdir` is
 * durable when it returns; interrupted, a prefix of the new directories is there.
 *
 * Faults while running: a full disk, an error at the n-th read, write or sync, flipped bits at rest. After a failed sync the
 * file's unsynced writes never become durable (Linux marks such pages clean) and the open file refuses everything.
 * All choices come from seeds; `hash()` is the hash of the history, equal for equal runs.
 */
import { createHash, type Hash } from 'node:crypto'
import { posix } from 'node:path'
import { assert, ZgError } from '../base/errors.ts'
import type { Disk, DiskFile } from '../ports/disk.ts'
import { Content, contentAfter, type FileOp, PAGE_BYTES, pagewise } from './pages.ts'
import { SeededRandom } from './random.ts'

export type CrashMode = 'none' | 'all' | 'prefix' | 'subset'
export const CRASH_MODES: readonly CrashMode[] = ['none', 'all', 'prefix', 'subset']

/** The power is gone. Not a ZgError: no handler of the product may take it for an expected failure. */
export class SimCrash extends Error {
  constructor(at: string) {
    super(`simulated power loss at ${at}`)
    this.name = 'SimCrash'
  }
}

/** Which operations fail by themselves; counts are 1-based and over all files. */
export interface DiskFaults {
  /** Bytes of all files together; a write that does not fit keeps what fits and fails with ERR_DISK_FULL. */
  capacityBytes?: number
  /** The n-th write fails with ERR_IO after a part of it. */
  failWrite?: number
  failRead?: number
  /** The n-th file or directory sync fails with ERR_IO. */
  failSync?: number
}

interface Inode {
  readonly id: number
  live: Content
  durable: Content
  pending: (FileOp & { seq: number; done: boolean })[]
  /** Counts failed syncs: files opened before the last one refuse. */
  failures: number
}

interface DirOp {
  seq: number
  /** Names to set and to delete, as one step. */
  set: [name: string, inode: Inode][]
  del: string[]
  /** The removal half of a rename between directories waits for its other half: the file never has neither name. */
  after?: { dir: Dir; op: DirOp }
}

interface Dir {
  readonly path: string
  live: Map<string, Inode>
  durable: Map<string, Inode>
  pending: DirOp[]
}

export class SimDisk implements Disk {
  /** Set at any time; read before each operation. */
  faults: DiskFaults = {}
  readonly #dirs = new Map<string, Dir>()
  readonly #history: Hash = createHash('sha256')
  readonly #trace: string[] = []
  #crashAt = Number.POSITIVE_INFINITY
  #crash: SimCrash | undefined
  #seq = 0
  #inodes = 0
  #counts = { read: 0, write: 0, sync: 0 }
  /** Directories of an interrupted mkdir, outermost first. */
  #halfMade: string[] = []

  constructor() {
    this.#dirs.set('/', newDir('/'))
  }

  /** Mutating operations begun so far. */
  get ops(): number {
    return this.#trace.length
  }

  get crashed(): boolean {
    return this.#crash !== undefined
  }

  /** What each operation was, in words; `trace[n - 1]` is the n-th. */
  get trace(): readonly string[] {
    return this.#trace
  }

  /** Cuts the power during the n-th mutating operation (1-based, counted from the disk's beginning). */
  crashAt(n: number): void {
    this.#crashAt = n
  }

  /** Cuts the power now, between two operations. */
  crashNow(): void {
    this.#crash ??= new SimCrash(`rest after operation ${this.ops}`)
  }

  /** SHA-256 of the history so far, hex. */
  hash(): string {
    return this.#history.copy().digest('hex')
  }

  async open(path: string, mode: 'open' | 'create' | 'new'): Promise<DiskFile> {
    this.#alive()
    const at = resolve(path)
    const [dir, name] = this.#entry('open', at)
    if (this.#dirs.has(at)) throw failure('ERR_IO', 'open', at, 'it is a directory')
    let inode = dir.live.get(name)
    if (inode !== undefined && mode === 'new') throw failure('ERR_EXISTS', 'open', at, 'it exists already')
    if (inode === undefined) {
      if (mode === 'open') throw failure('ERR_NOT_FOUND', 'open', at, 'no such file or directory')
      inode = { id: this.#inodes++, live: new Content(), durable: new Content(), pending: [], failures: 0 }
      const made = inode
      this.#mutate(`create ${at}`, () => this.#change(dir, { set: [[name, made]], del: [] }))
    }
    return this.#file(inode, at)
  }

  async mkdir(path: string): Promise<void> {
    this.#alive()
    const at = resolve(path)
    const missing: string[] = []
    for (let p = at; !this.#dirs.has(p); p = posix.dirname(p)) {
      if (this.#dirs.get(posix.dirname(p))?.live.has(posix.basename(p))) {
        throw failure('ERR_EXISTS', 'create', at, 'it exists already')
      }
      missing.unshift(p)
    }
    if (missing.length === 0) return
    this.#halfMade = missing
    this.#mutate(`mkdir ${at}`, () => {})
    this.#halfMade = []
    for (const p of missing) this.#dirs.set(p, newDir(p))
  }

  async list(path: string): Promise<string[]> {
    this.#alive()
    const at = resolve(path)
    const names = [...this.#dir('list', at).live.keys()]
    for (const p of this.#dirs.keys()) if (p !== '/' && posix.dirname(p) === at) names.push(posix.basename(p))
    return names.sort()
  }

  async exists(path: string): Promise<boolean> {
    this.#alive()
    const at = resolve(path)
    return this.#dirs.has(at) || this.#dirs.get(posix.dirname(at))?.live.has(posix.basename(at)) === true
  }

  async rename(from: string, to: string): Promise<void> {
    this.#alive()
    const [fromDir, fromName] = this.#entry('rename', resolve(from))
    const [toDir, toName] = this.#entry('rename', resolve(to))
    const inode = fromDir.live.get(fromName)
    if (inode === undefined) throw failure('ERR_NOT_FOUND', 'rename', from, 'no such file or directory')
    if (this.#dirs.has(resolve(to))) throw failure('ERR_IO', 'rename', from, 'the target is a directory')
    if (inode === toDir.live.get(toName)) return
    this.#mutate(`rename ${resolve(from)} ${resolve(to)}`, () => {
      if (fromDir === toDir) {
        this.#change(toDir, { set: [[toName, inode]], del: [fromName] })
        return
      }
      const op = this.#change(toDir, { set: [[toName, inode]], del: [] })
      this.#change(fromDir, { set: [], del: [fromName], after: { dir: toDir, op } })
    })
  }

  async remove(path: string): Promise<void> {
    this.#alive()
    const at = resolve(path)
    if (this.#dirs.has(at)) throw failure('ERR_IO', 'remove', at, 'it is a directory')
    const dir = this.#dirs.get(posix.dirname(at))
    const name = posix.basename(at)
    if (!dir?.live.has(name)) return
    this.#mutate(`remove ${at}`, () => this.#change(dir, { set: [], del: [name] }))
  }

  async syncDir(path: string): Promise<void> {
    this.#alive()
    const dir = this.#dir('sync', resolve(path))
    this.#mutate(`syncDir ${dir.path}`, () => {})
    if (++this.#counts.sync === this.faults.failSync) throw failure('ERR_IO', 'sync', path, 'input/output error')
    for (const op of dir.pending) applyDirOp(dir, op)
    dir.pending = []
  }

  /** Flips one bit of a file at rest, durable and visible alike. */
  flipBit(path: string, bit: number): void {
    const inode = this.#inode(path)
    const at = Math.floor(bit / 8)
    assert(at < inode.live.size, `bit ${bit} is outside '${path}'`)
    for (const content of new Set([inode.live, inode.durable])) {
      if (at < content.size) content.bytes()[at]! ^= 1 << (bit % 8)
    }
    this.#history.update(`flip ${path} ${bit}\n`)
  }

  /** A file's visible bytes, copied; works on a crashed disk, for checkers. */
  peek(path: string): Uint8Array {
    return this.#inode(path).live.bytes().slice()
  }

  /** Paths of all visible files, sorted; works on a crashed disk. */
  files(): string[] {
    return [...this.#dirs.values()].flatMap(d => [...d.live.keys()].map(n => posix.join(d.path, n))).sort()
  }

  /** The disk as the next start finds it. The crashed one stays as it is and can be asked again. */
  afterCrash(mode: CrashMode, seed: string | number = 0): SimDisk {
    const random = new SeededRandom(`${seed}`).split(mode)
    const next = new SimDisk()
    const inodes = new Set<Inode>()
    for (const d of this.#dirs.values()) for (const i of [...d.live.values(), ...d.durable.values()]) inodes.add(i)
    for (const d of this.#dirs.values()) for (const op of d.pending) for (const [, i] of op.set) inodes.add(i)

    // The cut of `prefix`: operations before it survive, the one at it is torn.
    const seqs = new Set<number>()
    for (const i of inodes) for (const op of i.pending) seqs.add(op.seq)
    for (const d of this.#dirs.values()) for (const op of d.pending) seqs.add(op.seq)
    const ordered = [...seqs].sort((a, b) => a - b)
    const cut = ordered[random.below(ordered.length + 1)] ?? Number.POSITIVE_INFINITY

    const made = this.#halfMade.length
    const half = mode === 'none' ? 0 : mode === 'all' ? made : random.below(made + 1)
    for (const path of [...this.#dirs.keys(), ...this.#halfMade.slice(0, half)]) next.#dirs.set(path, newDir(path))

    const kept = (op: { seq: number }, whole: boolean | undefined): boolean =>
      mode === 'all' || (mode === 'prefix' ? op.seq < cut : mode === 'subset' && (whole ?? random.chance(0.5)))
    const names = new Map<Dir, Map<string, Inode>>()
    const survived = new Set<DirOp>()
    for (const d of this.#dirs.values()) {
      const whole = drawWhole(random)
      for (const op of d.pending) if (kept(op, whole)) survived.add(op)
    }
    for (const op of [...survived]) if (op.after?.dir.pending.includes(op.after.op)) survived.add(op.after.op)
    for (const d of this.#dirs.values()) {
      const map = new Map(d.durable)
      for (const op of d.pending) if (survived.has(op)) applyTo(map, op)
      names.set(d, map)
    }

    const copies = new Map<Inode, Inode>()
    for (const [d, map] of names) {
      const into = next.#dirs.get(d.path)!
      for (const [name, inode] of [...map].sort(([a], [b]) => (a < b ? -1 : 1))) {
        let copy = copies.get(inode)
        if (copy === undefined) {
          const content = survivor(inode, mode, cut, random)
          copy = { id: next.#inodes++, live: content, durable: content.copy(), pending: [], failures: 0 }
          copies.set(inode, copy)
        }
        into.live.set(name, copy)
        into.durable.set(name, copy)
      }
    }
    return next
  }

  #file(inode: Inode, path: string): DiskFile {
    const failures = inode.failures
    let open = true
    const use = (verb: string): void => {
      this.#alive()
      assert(open, `'${path}' is used after close`)
      if (inode.failures !== failures) throw failure('ERR_IO', verb, path, 'an earlier sync of it failed')
    }
    return {
      size: async () => {
        use('look up')
        return inode.live.size
      },
      read: async (offset, length) => {
        use('read')
        if (++this.#counts.read === this.faults.failRead) throw failure('ERR_IO', 'read', path, 'input/output error')
        return inode.live.bytes().slice(offset, offset + length)
      },
      write: async (offset, ...buffers) => {
        use('write')
        let size = 0
        for (const b of buffers) size += b.length
        const bytes = new Uint8Array(size)
        size = 0
        for (const b of buffers) {
          bytes.set(b, size)
          size += b.length
        }
        const [fits, error] = this.#admit(inode, path, offset, bytes.length)
        const op = this.#edit(inode, `write ${path} ${offset}+${size}`, { write: bytes.subarray(0, fits), offset })
        // Until the caller has seen it return, a write is not covered by a sync that overlaps it.
        await Promise.resolve()
        op.done = true
        if (error !== undefined) throw error
      },
      truncate: async size => {
        use('truncate')
        const op = this.#edit(inode, `truncate ${path} ${size}`, { truncate: size })
        await Promise.resolve()
        op.done = true
      },
      sync: async () => {
        use('sync')
        this.#mutate(`sync ${path}`, () => {})
        if (++this.#counts.sync === this.faults.failSync) {
          inode.failures++
          inode.pending = []
          throw failure('ERR_IO', 'sync', path, 'input/output error')
        }
        let done = 0
        while (inode.pending[done]?.done) inode.durable.apply(inode.pending[done++]!)
        inode.pending.splice(0, done)
      },
      close: async () => {
        this.#alive()
        open = false
      }
    }
  }

  /** How many bytes of a write get through, and the error for the rest. */
  #admit(inode: Inode, path: string, offset: number, size: number): [number, ZgError | undefined] {
    if (++this.#counts.write === this.faults.failWrite) {
      return [size >> 1, failure('ERR_IO', 'write', path, 'input/output error')]
    }
    const capacity = this.faults.capacityBytes
    if (capacity === undefined) return [size, undefined]
    let used = 0
    for (const i of new Set([...this.#dirs.values()].flatMap(d => [...d.live.values()]))) used += i.live.size
    const fits = Math.max(0, Math.min(size, inode.live.size + capacity - used - offset))
    return [fits, fits < size ? failure('ERR_DISK_FULL', 'write', path, 'no space left on the disk') : undefined]
  }

  #edit(inode: Inode, what: string, op: FileOp): FileOp & { done: boolean } {
    const entry = { ...op, seq: this.#seq, done: false }
    if ('write' in op) this.#history.update(op.write)
    this.#mutate(what, () => {
      entry.seq = this.#seq
      inode.live.apply(op)
      inode.pending.push(entry)
    })
    return entry
  }

  #change(dir: Dir, change: Omit<DirOp, 'seq'>): DirOp {
    const op = { ...change, seq: this.#seq }
    applyTo(dir.live, op)
    dir.pending.push(op)
    return op
  }

  /** Counts a mutating operation, performs it, and crashes if it is the one: what it did stays unsynced. */
  #mutate(what: string, perform: () => void): void {
    this.#seq++
    this.#trace.push(what)
    this.#history.update(`${what}\n`)
    perform()
    if (this.#trace.length < this.#crashAt) return
    this.#crash = new SimCrash(`operation ${this.#trace.length} (${what})`)
    throw this.#crash
  }

  #alive(): void {
    if (this.#crash !== undefined) throw this.#crash
  }

  #dir(verb: string, path: string): Dir {
    const dir = this.#dirs.get(path)
    if (dir === undefined) throw failure('ERR_NOT_FOUND', verb, path, 'no such file or directory')
    return dir
  }

  #entry(verb: string, path: string): [Dir, string] {
    const dir = this.#dirs.get(posix.dirname(path))
    if (dir === undefined) throw failure('ERR_NOT_FOUND', verb, path, 'no such file or directory')
    return [dir, posix.basename(path)]
  }

  #inode(path: string): Inode {
    const at = resolve(path)
    const inode = this.#dirs.get(posix.dirname(at))?.live.get(posix.basename(at))
    if (inode === undefined) throw failure('ERR_NOT_FOUND', 'open', at, 'no such file or directory')
    return inode
  }
}

/** A quarter of the things is kept whole, a quarter untouched, the rest (undefined) mixed. */
function drawWhole(random: SeededRandom): boolean | undefined {
  return [true, false, undefined, undefined][random.below(4)]
}

function survivor(inode: Inode, mode: CrashMode, cut: number, random: SeededRandom): Content {
  if (mode === 'none' || inode.pending.length === 0) return inode.durable.copy()
  if (mode === 'all') return contentAfter(inode.durable, inode.pending)
  if (mode === 'subset') {
    const whole = drawWhole(random)
    if (whole !== undefined) return whole ? contentAfter(inode.durable, inode.pending) : inode.durable.copy()
    return pagewise(inode.durable, inode.pending, random)
  }
  const kept: FileOp[] = inode.pending.filter(op => op.seq < cut)
  const torn = inode.pending.find(op => op.seq === cut)
  if (torn !== undefined && 'write' in torn) {
    kept.push({ write: torn.write.subarray(0, random.below(torn.write.length + 1)), offset: torn.offset })
  }
  return contentAfter(inode.durable, kept)
}

function newDir(path: string): Dir {
  return { path, live: new Map(), durable: new Map(), pending: [] }
}

function applyTo(map: Map<string, Inode>, op: DirOp): void {
  for (const name of op.del) map.delete(name)
  for (const [name, inode] of op.set) map.set(name, inode)
}

function applyDirOp(dir: Dir, op: DirOp): void {
  if (op.after?.dir.pending.includes(op.after.op)) {
    const { dir: other, op: half } = op.after
    other.pending = other.pending.filter(o => o !== half)
    applyTo(other.durable, half)
  }
  applyTo(dir.durable, op)
}

function resolve(path: string): string {
  return posix.resolve('/', path)
}

function failure(code: ConstructorParameters<typeof ZgError>[0], verb: string, path: string, words: string): ZgError {
  return new ZgError(code, `cannot ${verb} '${path}': ${words}`)
}

export { PAGE_BYTES }
