/**
 * Which nodes a client uses and which segments go to which node (storage.md 4.1, 4.2, 3.9). A node with (shardId, numShard)
 * holds the flow segments g with g mod numShard = shardId.
 */
import { assert, ZgError } from '../../base/errors.ts'
import { SEGMENT_SECTORS, shape } from './shape.ts'

/** What part of the flow a node holds; numShard is a power of two. */
export interface Shard {
  shardId: number
  numShard: number
}

/** One call of an upload: file segments first, first + stride, … as many as the task size allows. */
export interface UploadTask {
  /** Index in the list of nodes. */
  node: number
  firstSegment: number
  stride: number
}

/** True when the numbers describe a part of the flow. */
export function isShard(s: Shard): boolean {
  const { shardId, numShard } = s
  if (!Number.isInteger(numShard) || numShard < 1 || numShard > 2 ** 30) return false
  if ((numShard & (numShard - 1)) !== 0) return false
  return Number.isInteger(shardId) && shardId >= 0 && shardId < numShard
}

/** True when the node holds this flow segment. */
export function holds(s: Shard, flowSegment: number): boolean {
  return flowSegment % s.numShard === s.shardId
}

/**
 * Chooses nodes that together hold everything `copies` times, as both SDKs do: sorted (stable) by numShard, ascending for
 * `min` with shardId as second key, descending for `max`, then taken while they add something.
 * @throws {ZgError} ERR_UNAVAILABLE when the nodes do not suffice, ERR_BAD_INPUT when copies is not positive.
 */
export function selectNodes<T extends { shard: Shard }>(
  nodes: readonly T[],
  copies: number,
  order: 'min' | 'max' | 'given'
): T[] {
  if (!Number.isInteger(copies) || copies < 1)
    throw new ZgError('ERR_BAD_INPUT', `${copies} copies cannot be asked for`)
  const sorted = nodes.filter(n => isShard(n.shard))
  if (order === 'min') sorted.sort((a, b) => a.shard.numShard - b.shard.numShard || a.shard.shardId - b.shard.shardId)
  if (order === 'max') sorted.sort((a, b) => b.shard.numShard - a.shard.numShard)
  const root: Cover = { modulus: 1, copies: 0, pending: 0, children: undefined }
  const chosen: T[] = []
  for (const n of sorted) {
    if (insert(root, n.shard.numShard, n.shard.shardId, copies)) chosen.push(n)
    if (root.copies >= copies) return chosen
  }
  throw new ZgError('ERR_UNAVAILABLE', `nodes do not hold everything ${copies === 1 ? 'once' : `${copies} times`}`)
}

/** A node of the binary tree over residues: the root is everything, its children the even and the odd segments, and so on. */
interface Cover {
  modulus: number
  /** Least number of copies over all residues below. */
  copies: number
  /** Copies of this whole residue class that the children do not know of yet. */
  pending: number
  children: [Cover, Cover] | undefined
}

function insert(at: Cover, numShard: number, residue: number, wanted: number): boolean {
  if (at.copies >= wanted) return false
  if (at.modulus === numShard) {
    at.copies++
    at.pending++
    return true
  }
  at.children ??= [emptyCover(at.modulus * 2), emptyCover(at.modulus * 2)]
  for (const c of at.children) {
    c.copies += at.pending
    c.pending += at.pending
  }
  at.pending = 0
  const taken = insert(at.children[residue % 2]!, numShard, residue >> 1, wanted)
  at.copies = Math.min(at.children[0].copies, at.children[1].copies)
  return taken
}

function emptyCover(modulus: number): Cover {
  return { modulus, copies: 0, pending: 0, children: undefined }
}

/**
 * Which segments go where, interleaving the nodes.
 * @param startPos - first sector of the file in the flow.
 * @param taskSize - segments a call.
 * @param like - `complete` sends everything (zg's own). `sdk` merges the lists only for as many rounds as the shortest has and
 *   so loses segments on unequal nodes: what both SDKs do, kept to predict them.
 */
export function uploadTasks(
  file: { startPos: number; size: number },
  taskSize: number,
  nodes: readonly Shard[],
  like: 'complete' | 'sdk' = 'complete'
): UploadTask[] {
  assert(Number.isInteger(taskSize) && taskSize >= 1, 'task size is at least 1')
  const first = Math.floor(file.startPos / SEGMENT_SECTORS)
  const last = Math.floor((file.startPos + shape(file.size).chunks - 1) / SEGMENT_SECTORS)
  const lists = nodes
    .map((s, node) => {
      assert(isShard(s), 'not a shard')
      const tasks: UploadTask[] = []
      const from = first + ((s.shardId - (first % s.numShard) + s.numShard) % s.numShard)
      for (let g = from; g <= last; g += s.numShard * taskSize) {
        tasks.push({ node, firstSegment: g - first, stride: s.numShard })
      }
      return tasks
    })
    .filter(list => list.length > 0)
    .sort((a, b) => a.length - b.length)
  const rounds = (like === 'sdk' ? lists[0] : lists[lists.length - 1])?.length ?? 0
  const out: UploadTask[] = []
  for (let i = 0; i < rounds; i++) {
    for (const list of lists) if (list[i] !== undefined) out.push(list[i]!)
  }
  return out
}

/** The file segments of one task. */
export function taskSegments(task: UploadTask, taskSize: number, segments: number): number[] {
  const out: number[] = []
  for (let i = 0; i < taskSize; i++) {
    const s = task.firstSegment + i * task.stride
    if (s >= segments) break
    out.push(s)
  }
  return out
}
