/** Segment roots with the native codec, on its own threads unless there is little to hash. */
import { hashParallelism } from '../../../lib/codec/storage/hasher.ts'
import { segmentLeaves, shape } from '../../../lib/codec/storage/shape.ts'
import { codec } from '../../../lib/native.ts'
import type { LeafOf } from './segment-log.ts'

/** So little is hashed at once, in some 40 µs: a turn in the thread pool costs as much, and more for everybody who waits for it. */
const AT_ONCE_BYTES = 16_384
const AT_ONCE_LEAVES = 64
const NO_ROOT = new Uint8Array(32)

/**
 * Root of segment `index` of a file of `fileSize` bytes, with the padding sectors that belong to it. A damaged record may claim a size that
 * cannot hold its data: that has no root and matches nothing.
 */
export const leafOf: LeafOf = (data, index, fileSize) => {
  const s = shape(fileSize)
  if (index >= s.segments) return NO_ROOT
  const leaves = segmentLeaves(s, index)
  if (data.length > leaves * 256) return NO_ROOT
  if (data.length <= AT_ONCE_BYTES && leaves <= AT_ONCE_LEAVES) return codec().segmentRootsSync(data, leaves)[0]!
  return new Promise((resolve, reject) => {
    waiting.push({ data, leaves, resolve, reject })
    start()
  })
}

interface Waiting {
  data: Uint8Array
  leaves: number
  resolve: (root: Uint8Array) => void
  reject: (err: unknown) => void
}

/** Segments hashed by one job, and jobs at a time: whoever comes while all run is hashed together with those who came with it. */
const BATCH = 8
const JOBS = hashParallelism()
const waiting: Waiting[] = []
let running = 0

function start(): void {
  while (running < JOBS && waiting.length > 0) {
    const batch = waiting.splice(0, BATCH)
    running++
    void hash(batch).finally(() => {
      running--
      start()
    })
  }
}

async function hash(batch: readonly Waiting[]): Promise<void> {
  try {
    const roots = await codec().segmentRootsMany(
      batch.map(w => w.data),
      batch.map(w => w.leaves)
    )
    for (const [i, w] of batch.entries()) w.resolve(roots[i]!)
  } catch (err) {
    for (const w of batch) w.reject(err)
  }
}
