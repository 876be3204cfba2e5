/**
 * Proves the storage formats against test/vectors/storage-vectors.json (output of the published SDKs and of the reference flow
 * contract): shapes, roots, proofs, submissions, events, the flow's accumulator and its proofs, key-value files, encryption,
 * fragments, shards. Then the refusals: every altered proof, event and file, and laws over random input.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { truncateSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as ethers from 'ethers'
import fc from 'fast-check'
import t from 'tap'
import { concat, equalBytes, utf8 } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import {
  cipherFrom,
  cryptAt,
  HEADER_BYTES,
  newStream,
  openStream,
  parseHeader
} from '../../lib/codec/storage/encryption.ts'
import {
  appendSubmission,
  EMPTY_FLOW,
  FIRST_NODE,
  type FlowNode,
  type FlowReader,
  type FlowState,
  flowHeight,
  flowRoot,
  place,
  restoreFlow,
  sectorProof
} from '../../lib/codec/storage/flow-tree.ts'
import {
  decodeFolder,
  encodeFolder,
  type FolderEntry,
  findInFolder,
  folderMagic
} from '../../lib/codec/storage/folder.ts'
import { fragments } from '../../lib/codec/storage/fragments.ts'
import { FileHasher, hashBytes, hashFile } from '../../lib/codec/storage/hasher.ts'
import {
  CONTROL_TYPES,
  type ControlName,
  decodeKv,
  decodeStreamTags,
  encodeKv,
  encodeStreamTags,
  type KvControl,
  type KvOps,
  mergeReads,
  mergeWrites,
  STREAM_DOMAIN,
  streamsOf
} from '../../lib/codec/storage/kv.ts'
import {
  FIRST_SECTOR_LEAF,
  leafHash,
  MerkleTree,
  nodeHash,
  type Proof,
  positionOf,
  proofFault,
  rearPaddingFault,
  segmentRoot,
  treeRoot,
  zeroRoot,
  zeroTreeRoot
} from '../../lib/codec/storage/merkle.ts'
import { SEGMENT_BYTES, segmentLeaves, segmentWireBytes, shape } from '../../lib/codec/storage/shape.ts'
import { selectNodes, taskSegments, uploadTasks } from '../../lib/codec/storage/shards.ts'
import {
  decodeSubmitLog,
  encodeSubmit,
  encodeSubmitOld,
  fileRoot,
  identity,
  NEW_EPOCH_TOPIC,
  SUBMIT_TOPIC,
  sectorsOf,
  submissionFault,
  submissionFee
} from '../../lib/codec/storage/submission.ts'
import { SEED } from '../harness/seed.ts'
import { vectors as v } from '../vectors/storage.ts'

const seed = SEED

/** The vectors' deterministic bytes. */
function generated(seed: number, size: number): Uint8Array {
  const out = new Uint8Array(size)
  let s = (Math.imul(seed >>> 0, 2654435761) + 1) >>> 0
  for (let i = 0; i < size; i++) {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0
    out[i] = s >>> 24
  }
  return out
}
function sha(b: Uint8Array): string {
  return createHash('sha256').update(b).digest('hex')
}
function proofOf(p: { lemma: string[]; path: boolean[] }): Proof {
  return { lemma: p.lemma.map(h => fromHex(h)), path: p.path }
}

t.test('constants and the generator are those of the vectors', async t => {
  t.equal(toHex(generated(v.generator.check.seed, v.generator.check.size)), v.generator.check.bytes)
  t.equal(toHex(leafHash(new Uint8Array(256))), v.constants.emptySectorHash)
  t.equal(toHex(FIRST_SECTOR_LEAF), v.constants.firstSectorLeaf)
  v.constants.zeroSubtreeRoots.forEach((z, i) => {
    t.equal(toHex(zeroRoot(i)), z)
  })
  t.equal(toHex(STREAM_DOMAIN), v.constants.streamDomain)
  t.equal(toHex(SUBMIT_TOPIC), v.constants.submitTopic)
  t.equal(toHex(NEW_EPOCH_TOPIC), v.constants.newEpochTopic)
})

t.test('files: shape, root, submission, calldata, fee and every segment proof', async t => {
  for (const f of v.files) {
    if (f.size === 0) {
      t.throws(() => shape(0), { code: 'ERR_BAD_INPUT' })
      t.throws(() => hashBytes(new Uint8Array(0)), { code: 'ERR_BAD_INPUT' })
      continue
    }
    const data = generated(f.seed, f.size)
    t.equal(sha(data), f.sha256, `${f.id} content`)
    const s = shape(f.size)
    t.match(
      { a: s.chunks, b: s.segments, c: s.padded * 256, d: s.paddedSegments },
      { a: f.numChunks, b: f.numSegments, c: f.paddedSize, d: f.numSegmentsPadded },
      `${f.id} shape`
    )
    const h = hashBytes(data)
    t.equal(toHex(h.root), f.root, `${f.id} root`)
    t.equal(toHex(fileRoot(h.nodes)), f.root, `${f.id} root from its nodes`)
    t.same(
      h.nodes.map(n => ({ height: n.height, root: toHex(n.root) })),
      f.submission!.nodes,
      `${f.id} nodes`
    )
    t.same(
      s.heights,
      f.submission!.nodes.map(n => n.height)
    )
    t.equal(toHex(identity(h.nodes)), f.identity)
    t.equal(sectorsOf(h.nodes), f.sectors)
    t.equal(submissionFee(h.nodes, BigInt(f.fee!.pricePerSector)), BigInt(f.fee!.wei))
    const submission = { size: f.size, tags: fromHex(f.submission!.tags), nodes: h.nodes }
    t.equal(submissionFault(submission), undefined)
    t.equal(toHex(encodeSubmit(submission, new Uint8Array(20).fill(0x11))), f.calldata!.submit_0xbc8c11f8)
    t.equal(toHex(encodeSubmitOld(submission)), f.calldata!.submit_0xef3e12dc)
    const tree = new MerkleTree(h.segmentRoots)
    for (const seg of f.segments!) {
      const part = data.subarray(seg.index * SEGMENT_BYTES, (seg.index + 1) * SEGMENT_BYTES)
      const wire = concat(part, new Uint8Array(segmentWireBytes(s, seg.index) - part.length))
      t.equal(wire.length, seg.dataLength)
      t.equal(sha(wire), seg.dataSha256)
      const leaf = segmentRoot(wire, segmentLeaves(s, seg.index))
      t.equal(toHex(leaf), seg.leaf)
      const proof = proofOf(seg.proof)
      t.same(tree.proof(seg.index), proof, `${f.id} proof ${seg.index}`)
      t.equal(proofFault(proof, { leaf, root: h.root, index: seg.index, leafCount: s.paddedSegments }), undefined)
      t.equal(rearPaddingFault(proof, s), undefined)
    }
  }
})

t.test('calldata equals what ethers writes, for tags of any length', async t => {
  const tuple = '(uint256 length, bytes tags, (bytes32 root, uint256 height)[] nodes)'
  const abi = new ethers.Interface([`function submit(${tuple})`, `function submit((${tuple} data, address submitter))`])
  for (const tagBytes of [0, 1, 31, 32, 33, 64]) {
    const h = hashBytes(generated(3, 70_000))
    const sub = { size: 70_000, tags: generated(9, tagBytes), nodes: h.nodes }
    const plain = [sub.size, sub.tags, h.nodes.map(n => [n.root, n.height])]
    const to = new Uint8Array(20).fill(0x11)
    t.equal(toHex(encodeSubmitOld(sub)), abi.encodeFunctionData('0xef3e12dc', [plain]))
    t.equal(toHex(encodeSubmit(sub, to)), abi.encodeFunctionData('0xbc8c11f8', [[plain, toHex(to)]]))
  }
})

t.test('streams in chunks of any size and files on disk give the same hash as bytes in memory', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'zg-hash-'))
  t.teardown(() => rm(dir, { recursive: true }))
  const random = (n: number, i: number) => generated(n * 31 + i, 1)[0]! / 256
  for (const size of [1, 256, 4097, SEGMENT_BYTES, SEGMENT_BYTES + 1, 700_000, 1_048_577]) {
    const data = generated(size, size)
    const want = hashBytes(data)
    const hasher = new FileHasher()
    for (let at = 0, i = 0; at < size; i++) {
      const n = Math.ceil(random(size, i) * 300_000)
      await hasher.push(data.subarray(at, at + n))
      at += n
    }
    t.same(await hasher.finish(), want, `stream of ${size}`)
    await t.rejects(hasher.push(data), { code: 'ERR_BAD_INPUT' })
    const path = join(dir, String(size))
    await writeFile(path, data)
    t.same(await hashFile(path), want, `file of ${size}`)
  }
  // A pipe has no size; a file that changes under the reader has no root; an abort ends the reading.
  const pipe = join(dir, 'pipe')
  execFileSync('mkfifo', [pipe])
  const data = generated(5, 1_000_000)
  const [fromPipe] = await Promise.all([hashFile(pipe), writeFile(pipe, data)])
  t.same(fromPipe.root, hashBytes(data).root, 'pipe')
  const big = join(dir, 'big')
  await writeFile(big, new Uint8Array(40 * 1024 * 1024))
  const progress: number[] = []
  const changing = hashFile(big, {
    parallelism: 1,
    onProgress: done => {
      if (progress.push(done) === 1) truncateSync(big, 30_000_000)
    }
  })
  await t.rejects(changing, { code: 'ERR_IO' })
  const stop = new AbortController()
  await t.rejects(hashFile(big, { signal: stop.signal, onProgress: () => stop.abort() }), { name: 'AbortError' })
  await writeFile(join(dir, 'empty'), '')
  await t.rejects(hashFile(join(dir, 'empty')), { code: 'ERR_BAD_INPUT' })
  await t.rejects(hashFile(join(dir, 'absent')), { code: 'ERR_NO_INPUT' })
  await t.rejects(hashFile(dir), { code: 'ERR_BAD_INPUT' })
  await t.rejects(new FileHasher().finish(), { code: 'ERR_BAD_INPUT' })
})

t.test('every altered proof is refused', async t => {
  const s = shape(2_097_153)
  const h = hashBytes(generated(21, s.size))
  const tree = new MerkleTree(h.segmentRoots)
  for (let index = 0; index < s.paddedSegments; index++) {
    const proof = tree.proof(index)
    const claim = { leaf: h.segmentRoots[index]!, root: h.root, index, leafCount: s.paddedSegments }
    t.equal(proofFault(proof, claim), undefined)
    const flip = (i: number): Uint8Array[] =>
      proof.lemma.map((x, k) => (k === i ? Uint8Array.from(x, (b, j) => (j === 31 ? b ^ 1 : b)) : x))
    for (let i = 0; i < proof.lemma.length; i++) t.ok(proofFault({ ...proof, lemma: flip(i) }, claim), `hash ${i}`)
    for (let i = 0; i < proof.path.length; i++) {
      const path = proof.path.map((b, k) => (k === i ? !b : b))
      t.ok(proofFault({ ...proof, path }, claim), `side ${i}`)
    }
    t.ok(proofFault({ lemma: [...proof.lemma, h.root], path: proof.path }, claim), 'too long')
    t.ok(proofFault({ lemma: proof.lemma.slice(1), path: proof.path }, claim), 'too short')
    t.ok(proofFault({ lemma: [h.root, h.root], path: [] }, claim), 'two entries without a path')
    t.ok(proofFault(proof, { ...claim, index: (index + 1) % s.paddedSegments }), 'another index')
    t.ok(proofFault(proof, { ...claim, leafCount: 4 }), 'another leaf count')
  }
  // A node given as a leaf: hashes hold, only the leaf count tells.
  const leaf = tree.subtree(1, 0)
  const longer = tree.proof(0)
  const short = { lemma: [leaf, ...longer.lemma.slice(2)], path: longer.path.slice(1) }
  t.match(proofFault(short, { leaf, root: h.root, index: 0, leafCount: s.paddedSegments }), /position/)
})

t.test('padding that is not zero is refused', async t => {
  const s = shape(SEGMENT_BYTES * 33)
  t.ok(s.paddedSegments > s.segments, 'there are segments of padding')
  const good = hashBytes(generated(1, s.size))
  const index = s.segments - 1
  t.equal(rearPaddingFault(new MerkleTree(good.segmentRoots).proof(index), s), undefined)
  const evil = [...good.segmentRoots]
  evil[s.paddedSegments - 1] = segmentRoot(utf8('hidden'), 1024)
  const proof = new MerkleTree(evil).proof(index)
  t.equal(
    proofFault(proof, { leaf: evil[index]!, root: treeRoot(evil), index, leafCount: s.paddedSegments }),
    undefined
  )
  t.match(rearPaddingFault(proof, s), /padding/)
})

t.test('laws of trees: all proofs hold, and only at their place', async t => {
  const law = fc.property(fc.integer({ min: 1, max: 70 }), fc.nat(), fc.nat(), (n, a, b) => {
    const leaves = Array.from({ length: n }, (_, i) => Uint8Array.from({ length: 32 }, () => i))
    const tree = new MerkleTree(leaves)
    const [i, j] = [a % n, b % n]
    const proof = tree.proof(i)
    const claim = { leaf: leaves[i]!, root: tree.root, index: i, leafCount: n }
    return (
      equalBytes(tree.root, treeRoot(leaves)) &&
      proofFault(proof, claim) === undefined &&
      positionOf(proof.path, n) === i &&
      (i === j || proofFault(proof, { ...claim, index: j }) !== undefined)
    )
  })
  t.doesNotThrow(() => fc.assert(law, { seed, numRuns: 200 }))
  for (const n of [1, 2, 3, 5, 1000]) {
    t.same(zeroTreeRoot(n), treeRoot(Array.from({ length: n }, () => zeroRoot(0))), `${n} zero leaves`)
  }
  const shapes = fc.property(fc.integer({ min: 1, max: 2 ** 40 }), size => {
    const s = shape(size)
    const p = 2 ** Math.ceil(Math.log2(s.chunks))
    const sum = s.heights.reduce((x, h) => x + 2 ** h, 0)
    return (
      sum === s.padded &&
      s.padded >= s.chunks &&
      s.padded - s.chunks < Math.max(1, p / 16) &&
      s.heights.length <= 4 &&
      submissionFault({ size, nodes: s.heights.map(height => ({ height })) }) === undefined
    )
  })
  t.doesNotThrow(() => fc.assert(shapes, { seed, numRuns: 2000 }))
  for (const size of [-1, 0.5, Number.NaN, 2 ** 53]) t.throws(() => shape(size), { code: 'ERR_BAD_INPUT' })
})

t.test('submissions that break a rule of the contract are found', async t => {
  const heights = (...list: number[]) => list.map(height => ({ height }))
  const cases: [number, { height: number }[], RegExp][] = [
    [0, heights(0), /too small/],
    [257, heights(0), /does not fit/],
    [256, heights(1), /too small/],
    [1, [], /no nodes/],
    [700, heights(0, 1), /fall/],
    [700, heights(1, 1), /fall/],
    [256 * 17, heights(4, 0), /span/],
    [256 * 60, heights(6), /too small/],
    [256, heights(64), /out of range/]
  ]
  for (const [size, nodes, why] of cases) t.match(submissionFault({ size, nodes }), why)
  t.equal(submissionFault({ size: 256 * 60 + 1, nodes: heights(6) }), undefined)
})

/** All complete nodes of a flow in memory, and the data inside submissions. */
class MemoryFlow implements FlowReader {
  readonly nodes = new Map<string, Uint8Array>([['0/0', FIRST_NODE.hash]])
  readonly files: { start: number; sectors: number; data: Uint8Array }[] = []

  add(nodes: readonly FlowNode[]): void {
    for (const n of nodes) this.nodes.set(`${n.height}/${n.index}`, n.hash)
  }
  async node(height: number, index: number): Promise<Uint8Array | undefined> {
    return this.nodes.get(`${height}/${index}`)
  }
  async inside(height: number, index: number): Promise<Uint8Array | undefined> {
    const from = index * 2 ** height
    const f = this.files.find(x => x.start <= from && from + 2 ** height <= x.start + x.sectors)
    if (f === undefined) return undefined
    const leaves: Uint8Array[] = []
    for (let i = from - f.start; i < from - f.start + 2 ** height; i++) {
      const sector = new Uint8Array(256)
      sector.set(f.data.subarray(i * 256, (i + 1) * 256))
      leaves.push(leafHash(sector))
    }
    return treeRoot(leaves)
  }
}

t.test('the flow: events, places, roots, restored states and sector proofs', async t => {
  const flow = v.flow[0]!
  const memory = new MemoryFlow()
  const states: FlowState[] = [EMPTY_FLOW]
  for (const [i, want] of flow.submissions.entries()) {
    const e = decodeSubmitLog(
      want.log.topics.map(x => fromHex(x)),
      fromHex(want.log.data)
    )
    const data = generated(want.seed, want.size)
    const h = hashBytes(data)
    t.equal(toHex(e.sender), flow.submitter)
    t.equal(e.seq, want.submissionIndex)
    t.equal(e.startPos, want.startPos)
    t.equal(e.sectors, want.length)
    t.equal(e.submission.size, want.size)
    t.same(e.submission.nodes, h.nodes)
    t.same(e.root, h.root)
    const r = appendSubmission(states[i]!, e.submission.nodes)
    t.match(r.place, {
      start: want.startPos,
      sectors: want.length,
      gap: want.paddingSectors,
      end: want.flowLengthAfter
    })
    t.same(place(states[i]!.length, want.heights), r.place)
    t.equal(toHex(flowRoot(r.state)), want.flowRootAfter, `root after ${i}`)
    memory.add(r.complete)
    memory.files.push({ start: want.startPos, sectors: want.length, data })
    states.push(r.state)
  }
  for (const [i, s] of states.entries()) {
    const restored = await restoreFlow(s.length, memory)
    t.same(flowRoot(restored), flowRoot(s), `restored state ${i}`)
  }
  const length = states[states.length - 1]!.length
  for (const p of flow.sectorProofs) {
    t.same(await sectorProof(p.sectorIndex, length, memory), proofOf(p.proof), `sector ${p.sectorIndex}`)
  }
  // Every past root must be answerable, with all later nodes in the store.
  for (const s of states) {
    const root = flowRoot(s)
    for (const sector of new Set([0, 1, 2, 5, 6, 40, 1500, 2049, s.length >> 1, s.length - 1])) {
      if (sector >= s.length) continue
      const proof = await sectorProof(sector, s.length, memory)
      const leafCount = 2 ** flowHeight(s.length)
      t.equal(proof.path.length, flowHeight(s.length))
      t.equal(
        proofFault(proof, { leaf: proof.lemma[0]!, root, index: sector, leafCount }),
        undefined,
        `${sector} of ${s.length}`
      )
    }
  }
  await t.rejects(sectorProof(length, length, memory), { code: 'ERR_BAD_INPUT' })
  memory.files.length = 0
  await t.rejects(sectorProof(8193, length, memory), { code: 'ERR_NOT_FOUND' }, 'data is not held')
})

t.test('the accumulator equals an independent tree over random submissions', async t => {
  const submission = fc.record({ size: fc.integer({ min: 1, max: 40_000 }), fill: fc.integer({ min: 0, max: 255 }) })
  const law = fc.property(fc.array(submission, { minLength: 1, maxLength: 12 }), list => {
    let state: FlowState = EMPTY_FLOW
    const leaves: Uint8Array[] = [FIRST_SECTOR_LEAF]
    for (const { size, fill } of list) {
      const heights = shape(size).heights
      const nodes = heights.map(height => {
        const leaf = leafHash(new Uint8Array(256).fill(fill))
        let root = leaf
        for (let i = 0; i < height; i++) root = nodeHash(root, root)
        return { height, root, leaf }
      })
      const r = appendSubmission(state, nodes)
      while (leaves.length < r.place.start) leaves.push(zeroRoot(0))
      for (const n of nodes) for (let i = 0; i < 2 ** n.height; i++) leaves.push(n.leaf)
      state = r.state
      if (state.length !== leaves.length) return false
    }
    const full = [...leaves]
    while (full.length < 2 ** flowHeight(leaves.length)) full.push(zeroRoot(0))
    return equalBytes(treeRoot(full), flowRoot(state))
  })
  t.doesNotThrow(() => fc.assert(law, { seed, numRuns: 12 }))
  t.throws(() => place(2 ** 52 - 1, [3]), { code: 'ERR_PROTOCOL' })
})

t.test('Submit logs that are cut, bent or lie are refused', async t => {
  const log = v.flow[0]!.submissions[5]!.log
  const topics = log.topics.map(x => fromHex(x))
  const data = fromHex(log.data)
  t.doesNotThrow(() => decodeSubmitLog(topics, data))
  const refused = (name: string, tp: Uint8Array[], d: Uint8Array) =>
    t.throws(() => decodeSubmitLog(tp, d), { code: 'ERR_PROTOCOL' }, name)
  for (let n = 0; n < data.length; n += 32) refused(`cut at ${n}`, topics, data.subarray(0, n))
  refused('two topics', topics.slice(0, 2), data)
  refused('another event', [NEW_EPOCH_TOPIC, topics[1]!, topics[2]!], data)
  refused('another identity', [topics[0]!, topics[1]!, FIRST_SECTOR_LEAF], data)
  refused('a sender of 32 bytes', [topics[0]!, new Uint8Array(32).fill(1), topics[2]!], data)
  // Every word set to a large number: offsets, lengths, counts, heights. Words of the start and of the index alone may be anything
  // in range, so a number out of range is what must be refused everywhere but in roots, which the identity covers.
  for (let at = 0; at < data.length; at += 32) {
    const bent = Uint8Array.from(data)
    bent.fill(0xff, at, at + 32)
    refused(`word ${at / 32} of all ones`, topics, bent)
  }
  const outer = Uint8Array.from(data)
  outer[95]! ^= 1
  refused('a count of sectors that does not match', topics, outer)
})

t.test('decoders answer mutated input with a value or their own error, never anything else', async t => {
  const log = v.flow[0]!.submissions[5]!.log
  const topics = log.topics.map(x => fromHex(x))
  const event = fromHex(log.data)
  const folder = encodeFolder({
    name: '',
    type: 'directory',
    roots: [],
    size: 0,
    link: '',
    entries: [{ name: 'a', type: 'file', roots: [zeroRoot(0)], size: 9, link: '', entries: [] }]
  })
  const ops = encodeKv({
    version: 1n,
    reads: [],
    writes: [{ stream: new Uint8Array(32), key: utf8('k'), value: utf8('value') }],
    controls: [{ type: 'grantSpecialWriter', stream: new Uint8Array(32), key: utf8('k'), account: new Uint8Array(20) }]
  })
  const decoders: [string, Uint8Array, string, (b: Uint8Array) => unknown][] = [
    ['Submit log', event, 'ERR_PROTOCOL', b => decodeSubmitLog(topics, b)],
    ['folder', folder, 'ERR_CORRUPT', b => decodeFolder(b)],
    ['key-value file', ops, 'ERR_CORRUPT', b => decodeKv(b)]
  ]
  const mutation = fc.record({ at: fc.nat(), byte: fc.integer({ min: 0, max: 255 }) })
  for (const [name, good, code, decode] of decoders) {
    t.doesNotThrow(() => decode(good), `${name} as it is`)
    const law = fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), fc.nat(), (list, cut) => {
      const bad = Uint8Array.from(cut % 3 === 0 ? good.subarray(0, cut % good.length) : good)
      for (const m of list) if (bad.length > 0) bad[m.at % bad.length] = m.byte
      try {
        decode(bad)
        return true
      } catch (err) {
        return (err as { code?: string }).code === code
      }
    })
    t.doesNotThrow(() => fc.assert(law, { seed, numRuns: 1500 }), `${name} mutated`)
  }
})

t.test('key-value files encode and decode as the SDK does', async t => {
  const nameOf = new Map(Object.entries(CONTROL_TYPES).map(([n, x]) => [x as number, n as ControlName]))
  for (const k of v.kv) {
    const sorted = k.sorted === true
    const ops: KvOps = {
      version: BigInt(k.version),
      reads: mergeReads(
        (k.reads ?? []).map(r => ({ stream: fromHex(r.streamId), key: fromHex(r.key) })),
        { sorted }
      ),
      writes: mergeWrites(
        (k.writes ?? []).map(w => ({
          stream: fromHex(w.streamId),
          key: fromHex(w.key),
          value: w.valueGen === undefined ? fromHex(w.value) : generated(w.valueGen.seed, w.valueGen.size)
        })),
        { sorted }
      ),
      controls: (k.controls ?? []).map(c => {
        const out: KvControl = { type: nameOf.get(c.type)!, stream: fromHex(c.streamId) }
        if (c.key !== undefined) out.key = fromHex(c.key)
        if (c.account !== undefined) out.account = fromHex(c.account)
        return out
      })
    }
    const bytes = encodeKv(ops)
    t.equal(bytes.length, k.encodedLength, `${k.id} length`)
    t.equal(sha(bytes), k.encodedSha256, `${k.id} bytes`)
    if (k.encoded !== undefined) t.equal(toHex(bytes), k.encoded)
    t.equal(toHex(hashBytes(bytes).root), k.root)
    t.equal(toHex(encodeStreamTags(streamsOf(ops, { sorted }))), k.tags, `${k.id} tags`)
    t.same(decodeStreamTags(fromHex(k.tags)), streamsOf(ops, { sorted }))
    const { valuesAt, ...decoded } = decodeKv(bytes)
    t.same(decoded, ops, `${k.id} decoded`)
    const first = decoded.writes[0]?.value ?? new Uint8Array(0)
    t.equal(toHex(bytes.subarray(valuesAt, valuesAt + first.length)), toHex(first), 'where the values begin')
    t.same(
      { ...decodeKv(concat(bytes, utf8('behind'))) },
      { ...ops, valuesAt },
      'bytes behind the controls are ignored'
    )
    const step = Math.max(1, Math.floor(bytes.length / 40))
    for (let n = 0; n < bytes.length; n += step) {
      t.throws(() => decodeKv(bytes.subarray(0, n)), { code: 'ERR_CORRUPT' }, `${k.id} cut at ${n}`)
    }
  }
  const stream = new Uint8Array(32)
  const empty: KvOps = { version: 0n, reads: [], writes: [], controls: [] }
  t.throws(() => encodeKv({ ...empty, reads: [{ stream, key: new Uint8Array(0) }] }), { code: 'ERR_BAD_INPUT' })
  t.throws(() => encodeKv({ ...empty, version: 2n ** 64n }), { code: 'ERR_BAD_INPUT' })
  t.throws(() => encodeKv({ ...empty, controls: [{ type: 'grantAdmin', stream }] }), { code: 'ERR_BAD_INPUT' })
  t.throws(() => decodeKv(fromHex(`0x${'00'.repeat(8)}00010001${'00'.repeat(100)}`)), { message: 'list too long' })
  t.throws(() => decodeKv(fromHex(`0x${'00'.repeat(8)}00010000${'00'.repeat(100)}`)), {
    message: 'invalid stream data'
  })
  t.throws(() => decodeKv(fromHex(`0x${'00'.repeat(19)}01${'ff'.repeat(100)}`)), { message: 'invalid stream data' })
  t.equal(decodeStreamTags(new Uint8Array(64)), undefined)
  t.equal(decodeStreamTags(STREAM_DOMAIN.subarray(1)), undefined)
})

t.test(
  'random key-value operations survive the way there and back, and random bytes never break the decoder',
  async t => {
    const stream = fc.uint8Array({ minLength: 32, maxLength: 32 })
    const key = fc.uint8Array({ minLength: 1, maxLength: 40 })
    const ops = fc.record({
      version: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      reads: fc.array(fc.record({ stream, key }), { maxLength: 5 }),
      writes: fc.array(fc.record({ stream, key, value: fc.uint8Array({ maxLength: 100 }) }), { maxLength: 5 }),
      controls: fc.constant<KvControl[]>([])
    })
    t.doesNotThrow(() =>
      fc.assert(
        fc.property(ops, o => {
          const { valuesAt: _, ...decoded } = decodeKv(encodeKv(o))
          t.same(decoded, o)
        }),
        { seed, numRuns: 50 }
      )
    )
    const robust = fc.property(fc.uint8Array({ maxLength: 200 }), b => {
      try {
        decodeKv(b)
        return true
      } catch (err) {
        return (err as { code?: string }).code === 'ERR_CORRUPT'
      }
    })
    t.doesNotThrow(() => fc.assert(robust, { seed, numRuns: 500 }))
  }
)

t.test('encryption: header, key, stream, fragments and random access', async t => {
  for (const e of v.encryption) {
    const plain = generated(e.seed, e.size)
    t.equal(sha(plain), e.plaintextSha256)
    const nonce = fromHex(e.nonce)
    const stream =
      e.version === 1
        ? newStream({ key: fromHex(e.key) }, { nonce })
        : newStream(
            { publicKey: fromHex(e.recipientPublicKey) },
            { nonce, ephemeralPrivateKey: fromHex(e.ephemeralPrivateKey) }
          )
    t.equal(toHex(stream.header), e.header, `${e.id} header`)
    t.equal(toHex(stream.aesKey), e.aesKey, `${e.id} key`)
    // Encrypted in uneven chunks.
    const cipher = cipherFrom(stream)
    const cuts = [0, 1, 17, 1000, 262_143, plain.length].filter(x => x <= plain.length)
    const parts = cuts.map((c, i) => cipher(plain.subarray(c, cuts[i + 1] ?? c)))
    const stored = concat(stream.header, ...parts)
    t.equal(stored.length, e.streamLength)
    t.equal(sha(stored), e.streamSha256, `${e.id} stream`)
    t.ok(toHex(stored).startsWith(e.streamFirst96))
    const h = hashBytes(stored)
    t.equal(toHex(h.root), e.root)
    t.equal(h.shape.padded * 256, e.paddedSize)
    if (e.fragments !== undefined) {
      const pieces = fragments(stored.length, e.fragmentSize)
      t.same(
        pieces.map(p => ({ size: p.size, root: toHex(hashBytes(stored.subarray(p.offset, p.offset + p.size)).root) })),
        e.fragments
      )
    }
    const header = parseHeader(stored.subarray(0, 50))
    t.equal(header.bytes, HEADER_BYTES[e.version as 1 | 2])
    const opened = openStream(
      header,
      e.version === 1 ? { key: fromHex(e.key) } : { privateKey: fromHex(e.recipientPrivateKey) }
    )
    t.same(cryptAt(opened, 0, stored.subarray(header.bytes)), Buffer.from(plain), `${e.id} decrypted`)
    const o = Math.min(plain.length - 1, 12_345)
    t.same(cryptAt(opened, o, stored.subarray(header.bytes + o)), Buffer.from(plain.subarray(o)), 'from the middle')
  }
  for (const c of v.cryptAt) {
    const out = cryptAt({ aesKey: fromHex(c.key), nonce: fromHex(c.nonce) }, c.offset, generated(c.seed, c.size))
    t.equal(sha(out), c.outSha256, c.id)
    t.ok(toHex(out).startsWith(c.outFirst32))
  }
  // No point of the curve has x = 5.
  const offCurve = fromHex(`0x02${'02'}${'00'.repeat(31)}05${'00'.repeat(16)}`)
  t.throws(() => parseHeader(Uint8Array.of(3)), { code: 'ERR_CORRUPT' })
  t.throws(() => parseHeader(new Uint8Array(49).fill(2)), { code: 'ERR_CORRUPT' })
  t.throws(() => openStream(parseHeader(offCurve), { privateKey: leafHash(new Uint8Array(256)) }), {
    code: 'ERR_CORRUPT'
  })
  t.throws(() => openStream(parseHeader(new Uint8Array(50).fill(1)), { privateKey: new Uint8Array(32) }), {
    code: 'ERR_BAD_INPUT'
  })
  t.throws(() => newStream({ key: new Uint8Array(31) }), { code: 'ERR_BAD_INPUT' })
  t.notSame(newStream({ key: new Uint8Array(32) }).nonce, newStream({ key: new Uint8Array(32) }).nonce)
})

t.test('fragments, node selection and upload tasks are those of the SDK', async t => {
  for (const f of v.fragments) {
    const data = generated(f.seed, f.size)
    t.same(
      fragments(f.size, f.fragmentSize).map(p => ({
        size: p.size,
        root: toHex(hashBytes(data.subarray(p.offset, p.offset + p.size)).root)
      })),
      f.fragments
    )
  }
  t.equal(fragments(10, 1)[0]!.size, 10, 'at least a sector')
  t.throws(() => fragments(10, 0), { code: 'ERR_BAD_INPUT' })
  for (const s of v.shardSelection) {
    const nodes = s.nodes.map(n => ({ url: n.url, shard: { shardId: n.shardId, numShard: n.numShard } }))
    for (const order of ['min', 'max'] as const) {
      const want = s[order]
      if (want.ok) {
        t.same(
          selectNodes(nodes, s.expectedReplica, order).map(n => n.url),
          want.selected,
          `${s.id} ${order}`
        )
      } else {
        t.throws(() => selectNodes(nodes, s.expectedReplica, order), { code: 'ERR_UNAVAILABLE' }, `${s.id} ${order}`)
      }
    }
  }
  t.throws(() => selectNodes([], 0, 'min'), { code: 'ERR_BAD_INPUT' })
  for (const u of v.uploadTasks) {
    const file = { startPos: u.startEntryIndex, size: u.size }
    t.same(uploadTasks(file, u.taskSize, u.nodes, 'sdk'), u.tasks, u.id)
    // zg's own list leaves no segment out and sends none twice.
    const segments = shape(u.size).segments
    const sent = uploadTasks(file, u.taskSize, u.nodes).flatMap(x => taskSegments(x, u.taskSize, segments))
    t.same(
      sent.sort((a, b) => a - b),
      Array.from({ length: segments }, (_, i) => i),
      `${u.id} complete`
    )
  }
})

t.test('folders survive the way there and back, and hostile ones are refused', async t => {
  const file = (name: string, size = 1): FolderEntry => ({
    name,
    type: 'file',
    roots: size === 0 ? [] : [zeroRoot(0)],
    size,
    link: '',
    entries: []
  })
  const dir = (name: string, entries: FolderEntry[]): FolderEntry => ({
    name,
    type: 'directory',
    roots: [],
    size: 0,
    link: '',
    entries
  })
  const link: FolderEntry = { name: 'l', type: 'symbolic', roots: [], size: 0, link: 'a', entries: [] }
  const top = dir('', [dir('b', [file('é'), file('c', 0)]), file('a', 300), link])
  const bytes = encodeFolder(top)
  const back = decodeFolder(bytes)
  t.same(
    back.entries.map(e => e.name),
    ['a', 'b', 'l']
  )
  t.same(encodeFolder(back), bytes)
  t.equal(findInFolder(back, '/b/c')?.size, 0)
  t.equal(findInFolder(back, 'a/x'), undefined)
  t.same(findInFolder(back, ''), back)
  const raw = (json: string, version = 2) => concat(folderMagic(), Uint8Array.of(0, version), utf8(json))
  const root = toHex(zeroRoot(0))
  const v1 = decodeFolder(
    raw(`{"name":"","type":"directory","entries":[{"name":"x","type":"file","hash":"${root}","size":5}]}`, 1)
  )
  t.same(v1.entries[0]!.roots, [zeroRoot(0)])
  const entry = (e: string) => raw(`{"name":"","type":"directory","entries":[${e}]}`)
  const bad: Record<string, Uint8Array> = {
    'no magic': utf8('{}'),
    'version 3': raw('{"name":"","type":"directory","entries":[]}', 3),
    'no JSON': raw('{'),
    'a file at the top': raw(`{"name":"x","type":"file","roots":["${root}"],"size":1}`),
    'a way out': entry(`{"name":"..","type":"directory","entries":[]}`),
    'a slash': entry(`{"name":"a/b","type":"directory","entries":[]}`),
    'no name': entry(`{"type":"directory","entries":[]}`),
    'a name twice': entry(`{"name":"a","type":"directory","entries":[]},{"name":"a","type":"directory","entries":[]}`),
    'an unknown type': entry(`{"name":"a","type":"pipe"}`),
    'a short root': entry(`{"name":"a","type":"file","roots":["0x12"],"size":1}`),
    'a size without roots': entry(`{"name":"a","type":"file","roots":[],"size":1}`),
    'a negative size': entry(`{"name":"a","type":"file","roots":["${root}"],"size":-1}`),
    null: raw('null'),
    'deep nesting': raw(`${'{"name":"d","type":"directory","entries":['.repeat(100)}${']}'.repeat(100)}`)
  }
  for (const [name, b] of Object.entries(bad)) t.throws(() => decodeFolder(b), { code: 'ERR_CORRUPT' }, name)
  t.throws(() => encodeFolder(dir('', [file('a'), file('a')])), { code: 'ERR_BAD_INPUT' })
})
