/** The files of a node on a simulated disk: segment log, index and states without chain and sockets, for tests that cut the power. */
import { FileStore } from '../../cmd/zg-store/core/file-store.ts'
import { FlowIndex } from '../../cmd/zg-store/core/flow-index.ts'
import { type LeafOf, SegmentLog } from '../../cmd/zg-store/disk/segment-log.ts'
import { utf8 } from '../../lib/base/bytes.ts'
import { toHex } from '../../lib/base/hex.ts'
import { place } from '../../lib/codec/storage/flow-tree.ts'
import { MerkleTree } from '../../lib/codec/storage/merkle.ts'
import { segmentLeaves, shape } from '../../lib/codec/storage/shape.ts'
import { type SubmitEvent, submissionNodes } from '../../lib/codec/storage/submission.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { codec } from '../../lib/native.ts'
import { silentLog } from '../../lib/ops/log.ts'
import type { Clock } from '../../lib/ports/clock.ts'
import type { Disk } from '../../lib/ports/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SeededRandom } from '../../lib/sim/random.ts'

export type SimFile = ReturnType<typeof simFile>

/** A file with its submission and segments, as a client makes them. */
export function simFile(seed: number, size: number) {
  const s = shape(size)
  const bytes = new Uint8Array(s.segments === 0 ? 0 : s.chunks * 256)
  bytes.set(new SeededRandom(`data ${seed}`).bytes(size))
  const leaves: Uint8Array[] = []
  for (let i = 0; i < s.paddedSegments; i++) {
    const part = bytes.subarray(i * 262_144, (i + 1) * 262_144)
    leaves.push(codec().segmentRootsSync(part, segmentLeaves(s, i))[0]!)
  }
  const tree = new MerkleTree(leaves)
  const nodes = submissionNodes(s, leaves, bytes.subarray(Math.min(bytes.length, (s.paddedSegments - 1) * 262_144)))
  const segments = Array.from({ length: s.segments }, (_, index) => ({
    root: tree.root,
    index,
    fileSize: size,
    data: bytes.slice(index * 262_144, (index + 1) * 262_144),
    proof: tree.proof(index)
  }))
  return { size, root: tree.root, nodes, segments, sectors: s.padded }
}

const leafCache = new Map<string, Uint8Array>()
/** Hashes each content once: the same few files are checked at thousands of crash points. */
const cachedLeaf: LeafOf = async (data, index, fileSize) => {
  const s = shape(fileSize)
  if (index >= s.segments || data.length > segmentLeaves(s, index) * 256) return new Uint8Array(32)
  const name = `${fileSize}/${index}/${toHex(keccak256(data))}`
  let leaf = leafCache.get(name)
  if (leaf === undefined) {
    leaf = codec().segmentRootsSync(data, segmentLeaves(s, index))[0]!
    leafCache.set(name, leaf)
  }
  return leaf
}

/** Opens the node's files on a disk. What the log finds damaged is noted in the states, as the node does. */
export async function openSimFiles(disk: Disk, clock: Clock) {
  const kv = await openSimKv(disk, '/kv')
  let store: FileStore | undefined
  const noted: Promise<void>[] = []
  const log = await SegmentLog.open({
    disk,
    kv,
    clock,
    log: silentLog,
    dir: '/segments',
    leafOf: cachedLeaf,
    fileBytes: 4096,
    groupMs: 0,
    quarantineOps: FileStore.damagedOps,
    onQuarantine: root => {
      if (store !== undefined) noted.push(store.lost(root).catch(() => {}))
    }
  })
  const index = await FlowIndex.open(kv)
  const shard = { shardId: 0, numShard: 1 }
  store = new FileStore({ kv, index, log, clock, logger: silentLog, leafOf: cachedLeaf, shard })
  return {
    kv,
    log,
    index,
    store,
    noted: () => Promise.all(noted),
    async close(): Promise<void> {
      await log.close()
      await kv.close()
    }
  }
}

/** A block with the submissions of these files. @param fork - another one gives the block another hash. */
export async function submitSim(
  { index, store }: { index: FlowIndex; store: FileStore },
  files: readonly SimFile[],
  block: number,
  fork = 0
): Promise<void> {
  let seq = index.nextSeq
  let length = index.length
  const events = files.map(f => {
    const at = place(
      length,
      f.nodes.map(n => n.height)
    )
    length = at.end
    const event: SubmitEvent = {
      sender: new Uint8Array(20),
      identity: new Uint8Array(32),
      seq: seq++,
      startPos: at.start,
      sectors: at.sectors,
      submission: { size: f.size, tags: new Uint8Array(0), nodes: f.nodes },
      root: f.root
    }
    return { event, block }
  })
  const hash = keccak256(utf8(fork === 0 ? `block ${block}` : `block ${block} fork ${fork}`))
  const prepared = index.prepare(events, { block, hash })
  await index.commit(prepared)
  await store.submitted(prepared.txs)
}
