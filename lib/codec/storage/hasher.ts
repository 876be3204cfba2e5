/**
 * From bytes to the root of a file, off the event loop, on all cores, in bounded memory.
 *
 * The shape of a file is known only at its end, but the root of a segment that is full of data does not depend on it. So full
 * segments are hashed in batches as they arrive, and only the tail (less than one segment) and the padding wait for the end.
 */
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { systemCode, ZgError } from '../../base/errors.ts'
import { codec } from '../../native.ts'
import { treeRoot, zeroRoot, zeroTreeRoot } from './merkle.ts'
import { SEGMENT_BYTES, SEGMENT_HEIGHT, SEGMENT_SECTORS, type Shape, segmentLeaves, shape } from './shape.ts'
import { type SubmissionNode, submissionNodes } from './submission.ts'

/** All that a submission and the proofs of a file need. */
export interface FileHash {
  size: number
  shape: Shape
  /** The file root. */
  root: Uint8Array
  /** Roots of all segments of the padded file: the leaves of segment proofs. */
  segmentRoots: Uint8Array[]
  /** For the submission. */
  nodes: SubmissionNode[]
}

/**
 * Segments of a batch: 1 MiB is 1 ms of work natively. A quarter of it shows the handing over (836 instead of 1,100 MB a second
 * of processor time), four times as much only holds memory.
 */
const BATCH_SEGMENTS = 4
const BATCH_BYTES = BATCH_SEGMENTS * SEGMENT_BYTES

/** Batches hashed at once. Node's pool has four threads for hashing and for files: one stays free for reading. */
export function hashParallelism(): number {
  return Math.min(3, Math.max(1, availableParallelism()))
}

/**
 * Hashes a stream of unknown length. Holds (parallelism + 1) × 1 MiB.
 *
 *   const h = new FileHasher()
 *   for await (const chunk of stream) await h.push(chunk)
 *   const { root, nodes } = await h.finish()
 */
export class FileHasher {
  readonly #parallelism: number
  readonly #roots: Uint8Array[][] = []
  readonly #free: Uint8Array[] = []
  readonly #running = new Set<Promise<void>>()
  #batch: Uint8Array = new Uint8Array(0)
  #fill = 0
  #size = 0
  #finished = false
  #failure: unknown

  constructor(opts: { parallelism?: number } = {}) {
    this.#parallelism = opts.parallelism ?? hashParallelism()
  }

  /** Bytes taken so far. */
  get size(): number {
    return this.#size
  }

  /**
   * Takes the next bytes, which are copied before this returns its promise's value; await it before the next call.
   * @throws whatever hashing an earlier batch threw.
   */
  async push(bytes: Uint8Array): Promise<void> {
    if (this.#finished) throw new ZgError('ERR_BAD_INPUT', 'hasher is finished already')
    let at = 0
    while (at < bytes.length) {
      if (this.#fill === this.#batch.length) await this.#grow()
      const n = Math.min(bytes.length - at, this.#batch.length - this.#fill)
      this.#batch.set(bytes.subarray(at, at + n), this.#fill)
      this.#fill += n
      this.#size += n
      at += n
    }
  }

  /**
   * The result.
   * @throws {ZgError} ERR_BAD_INPUT when nothing was pushed: an empty file cannot be stored.
   */
  async finish(): Promise<FileHash> {
    if (this.#finished) throw new ZgError('ERR_BAD_INPUT', 'hasher is finished already')
    this.#finished = true
    const s = shape(this.#size)
    const whole = this.#fill - (this.#fill % SEGMENT_BYTES)
    if (whole > 0) this.#start(this.#batch.subarray(0, whole))
    while (this.#running.size > 0) await Promise.race(this.#running)
    if (this.#failure !== undefined) throw this.#failure
    return complete(s, this.#roots.flat(), this.#batch.subarray(whole, this.#fill))
  }

  /** Makes room: the first batch grows from one segment, so that small files cost little; later ones are handed to workers. */
  async #grow(): Promise<void> {
    if (this.#batch.length < BATCH_BYTES) {
      const larger = new Uint8Array(Math.min(BATCH_BYTES, Math.max(SEGMENT_BYTES, this.#batch.length * 4)))
      larger.set(this.#batch.subarray(0, this.#fill))
      this.#batch = larger
      return
    }
    this.#start(this.#batch)
    while (this.#running.size >= this.#parallelism) await Promise.race(this.#running)
    if (this.#failure !== undefined) throw this.#failure
    this.#batch = this.#free.pop() ?? new Uint8Array(BATCH_BYTES)
    this.#fill = 0
  }

  #start(batch: Uint8Array): void {
    const slot = this.#roots.push([]) - 1
    const run = codec()
      .segmentRoots(batch, SEGMENT_SECTORS)
      .then(
        roots => {
          this.#roots[slot] = roots
          if (batch.length === BATCH_BYTES) this.#free.push(batch)
        },
        err => {
          this.#failure ??= err
        }
      )
      .finally(() => this.#running.delete(run))
    this.#running.add(run)
  }
}

/**
 * Hashes a file. A regular file is read in blocks of 1 MiB straight into what is hashed, one block ahead of the workers;
 * anything else (a pipe) is streamed.
 * @param onProgress - called with the bytes hashed so far and the size.
 * @throws {ZgError} ERR_NO_INPUT, ERR_PERMISSION, ERR_IO (also when the file changes meanwhile), ERR_BAD_INPUT when empty;
 *   the signal's reason when aborted.
 */
export async function hashFile(
  path: string,
  opts: { parallelism?: number; signal?: AbortSignal; onProgress?: (done: number, size: number) => void } = {}
): Promise<FileHash> {
  const file = await openInput(path)
  try {
    const stat = await file.stat()
    if (stat.isDirectory()) throw new ZgError('ERR_BAD_INPUT', `'${path}' is a directory`)
    if (!stat.isFile()) return await hashStream(file, opts)
    const result = await hashRegular(file, path, stat.size, opts)
    const after = await file.stat()
    // A root of half old and half new bytes would name a file that never was.
    if (after.size !== stat.size || after.mtimeMs !== stat.mtimeMs) {
      throw new ZgError('ERR_IO', `'${path}' was changed while it was read`)
    }
    return result
  } finally {
    await file.close()
  }
}

async function hashRegular(
  file: FileHandle,
  path: string,
  size: number,
  opts: { parallelism?: number; signal?: AbortSignal; onProgress?: (done: number, size: number) => void }
): Promise<FileHash> {
  const s = shape(size)
  const batches = Math.ceil(size / BATCH_BYTES)
  const roots: Uint8Array[][] = []
  let tail = new Uint8Array(0)
  let next = 0
  let done = 0
  // Each lane reads a block, hashes it and takes the next one; one lane more than workers keeps the disk ahead.
  const lane = async (): Promise<void> => {
    const buffer = new Uint8Array(Math.min(BATCH_BYTES, size))
    while (next < batches) {
      opts.signal?.throwIfAborted()
      const i = next++
      const want = Math.min(BATCH_BYTES, size - i * BATCH_BYTES)
      await readExactly(file, path, buffer, want, i * BATCH_BYTES)
      const whole = want - (want % SEGMENT_BYTES)
      if (whole < want) tail = buffer.slice(whole, want)
      roots[i] = whole === 0 ? [] : await codec().segmentRoots(buffer.subarray(0, whole), SEGMENT_SECTORS)
      done += want
      opts.onProgress?.(done, size)
    }
  }
  const lanes = Math.min(batches, (opts.parallelism ?? hashParallelism()) + 1)
  await allOrFirstError(Array.from({ length: lanes }, lane))
  return complete(s, roots.flat(), tail)
}

async function hashStream(
  file: FileHandle,
  opts: { parallelism?: number; signal?: AbortSignal; onProgress?: (done: number, size: number) => void }
): Promise<FileHash> {
  const hasher = new FileHasher(opts)
  const block = new Uint8Array(SEGMENT_BYTES)
  for (;;) {
    opts.signal?.throwIfAborted()
    const { bytesRead } = await file.read(block, 0, block.length, null)
    if (bytesRead === 0) return hasher.finish()
    await hasher.push(block.subarray(0, bytesRead))
    opts.onProgress?.(hasher.size, 0)
  }
}

/** Hashes bytes in memory on the calling thread. @throws {ZgError} ERR_BAD_INPUT when empty. */
export function hashBytes(data: Uint8Array): FileHash {
  const s = shape(data.length)
  const whole = data.length - (data.length % SEGMENT_BYTES)
  const roots = whole === 0 ? [] : codec().segmentRootsSync(data.subarray(0, whole), SEGMENT_SECTORS)
  return complete(s, roots, data.subarray(whole))
}

/** Adds the tail and the padding to the roots of the full segments. */
function complete(s: Shape, roots: Uint8Array[], tail: Uint8Array): FileHash {
  const segmentRoots = [...roots]
  if (tail.length > 0) {
    segmentRoots.push(codec().segmentRootsSync(tail, segmentLeaves(s, segmentRoots.length))[0]!)
  }
  for (let i = segmentRoots.length; i < s.paddedSegments; i++) {
    const leaves = segmentLeaves(s, i)
    segmentRoots.push(leaves === SEGMENT_SECTORS ? zeroRoot(SEGMENT_HEIGHT) : zeroTreeRoot(leaves))
  }
  const lastData = s.segments === s.paddedSegments ? tail : new Uint8Array(0)
  return {
    size: s.size,
    shape: s,
    root: treeRoot(segmentRoots),
    segmentRoots,
    nodes: submissionNodes(s, segmentRoots, lastData)
  }
}

async function readExactly(
  file: FileHandle,
  path: string,
  into: Uint8Array,
  length: number,
  position: number
): Promise<void> {
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(into, at, length - at, position + at)
    if (bytesRead === 0) throw new ZgError('ERR_IO', `'${path}' became shorter while it was read`)
    at += bytesRead
  }
}

/** Waits for all, so that nothing uses a closed file, then throws the first error. */
async function allOrFirstError(runs: Promise<void>[]): Promise<void> {
  for (const r of await Promise.allSettled(runs)) if (r.status === 'rejected') throw r.reason
}

async function openInput(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY)
  } catch (err) {
    const code = systemCode(err)
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new ZgError('ERR_NO_INPUT', `cannot open '${path}': no such file`, { cause: err })
    }
    if (code === 'EACCES' || code === 'EPERM') {
      throw new ZgError('ERR_PERMISSION', `cannot open '${path}': permission denied`, { cause: err })
    }
    throw new ZgError('ERR_IO', `cannot open '${path}'`, { cause: err })
  }
}
