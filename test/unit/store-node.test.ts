/**
 * Proves the storage node's face in one process: every row of the upload checks with its exact code, message and data, the state machine
 * (pending, final, duplicates, cached files, damage), proofs, download rules, the raw routes, how the chain is followed (gaps, repeats,
 * reorganisations, wrong roots, another network) and the bad-input list. The chain is a stand-in that can be told to lie.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as grpc from '@grpc/grpc-js'
import { load } from '@grpc/proto-loader'
import t from 'tap'
import { decodeTx, encodeTx, type Tx } from '../../cmd/zg-store/core/tx.ts'
import { decodeHead, encodeHead } from '../../cmd/zg-store/disk/record.ts'
import { decodeFrameHead } from '../../cmd/zg-store/node/frame.ts'
import { type StoreNode, type StoreNodeOptions, startStoreNode } from '../../cmd/zg-store/node/store-node.ts'
import { concat, equalBytes, u32be, u64be } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { MerkleTree, nodeHash, type Proof, proofFault, segmentRoot } from '../../lib/codec/storage/merkle.ts'
import { shape } from '../../lib/codec/storage/shape.ts'
import { silentLog } from '../../lib/ops/log.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import {
  FLOW_ADDRESS,
  type FlowChainServer,
  rpcFailure,
  startFlowChain,
  type TestFile,
  testFile,
  wireSegment
} from '../harness/flow-chain.ts'
import { SEED } from '../harness/seed.ts'
import { packageRoot, waitFor } from '../harness/tools.ts'

t.setTimeout(120_000)
const random = new SeededRandom(`store-node ${SEED}`)
const content = (size: number): Uint8Array => {
  const out = new Uint8Array(size)
  for (let at = 0; at < size; at += 65_536) out.set(random.bytes(Math.min(65_536, size - at)), at)
  return out
}

interface Setup {
  chain: FlowChainServer
  node: StoreNode
  dir: string
  restart(more?: Partial<StoreNodeOptions>): Promise<void>
}

async function setup(
  test: { teardown(fn: () => Promise<void>): unknown },
  more: Partial<StoreNodeOptions> = {}
): Promise<Setup> {
  const chain = await startFlowChain()
  const dir = mkdtempSync(join(tmpdir(), 'zg-node-'))
  const options = { dir, chain: chain.url, rpcPort: 0, log: () => silentLog, ...more }
  const s: Setup = {
    chain,
    dir,
    node: await startStoreNode(options),
    async restart(changed = {}) {
      await s.node.close()
      s.node = await startStoreNode({ ...options, ...changed })
    }
  }
  await synced(s)
  test.teardown(async () => {
    await s.node.close()
    await chain.close()
    rmSync(dir, { recursive: true, force: true })
  })
  return s
}

/** Waits until the node has read the chain's last block. */
async function synced(s: Setup): Promise<void> {
  await waitFor(async () => s.node.ready().ok && s.node.ready().log_sync_height === s.chain.height, {
    what: 'the node to sync'
  })
}

interface Answer {
  status: number
  id?: unknown
  result?: any
  error?: { code: number; message: string; data?: unknown }
}

let nextId = 17_954_575_632_293_802
async function call(s: Setup, method: string, ...params: unknown[]): Promise<Answer> {
  const id = nextId++
  const res = await fetch(s.node.url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id, method, ...(params.length > 0 ? { params } : {}) })
  })
  const answer = (await res.json()) as Answer
  if (answer.id !== id) throw new Error('the id was not echoed')
  return { ...answer, status: res.status }
}

async function submit(s: Setup, ...files: Pick<TestFile, 'size' | 'nodes'>[]): Promise<number[]> {
  const seqs = s.chain.submit(files)
  await synced(s)
  return seqs
}

async function uploadAll(s: Setup, f: TestFile, seq: number): Promise<void> {
  const { result, error } = await call(s, 'zgs_uploadSegmentsByTxSeq', f.segments.map(wireSegment), seq)
  if (result !== f.segments.length) throw new Error(`upload failed: ${JSON.stringify(error)}`)
}

function frame(f: TestFile, index: number, change: (b: Buffer) => void = () => {}): Uint8Array {
  const g = f.segments[index]!
  const n = g.proof.path.length
  const bits = g.proof.path.reduce((b, left, i) => (left ? b | (1n << BigInt(i)) : b), 0n)
  const siblings = n === 0 ? [] : g.proof.lemma.slice(1, -1)
  const head = concat(Buffer.from('zgs1'), u32be(index), u32be(g.data.length), Uint8Array.of(n, 0, 0, 0), u64be(bits))
  const out = Buffer.from(concat(head, u64be(f.size), f.root, ...siblings, g.data))
  change(out)
  return out
}

async function put(s: Setup, key: string, body: Uint8Array): Promise<{ status: number; body: any }> {
  const res = await fetch(`${s.node.url}/v1/segments/${key}`, { method: 'PUT', body })
  return { status: res.status, body: await res.json() }
}

/** Bytes of all segment files: bad input must not add any. */
function diskBytes(s: Setup): number {
  const dir = join(s.dir, 'segments')
  return readdirSync(dir).reduce((n, name) => n + readFileSync(join(dir, name)).length, 0)
}

t.test('files of every awkward size go in and come out, with proofs, by number and by root', async t => {
  const s = await setup(t)
  const sizes = [1, 255, 256, 257, 513, 4097, 262_143, 262_144, 262_145, 300_000, 700_000, 1_048_577]
  const files = sizes.map(n => testFile(content(n)))
  const seqs = await submit(s, ...files)
  for (const [k, f] of files.entries()) {
    const seq = seqs[k]!
    const root = toHex(f.root)
    const info = (await call(s, 'zgs_getFileInfo', root, true)).result
    const { segments, heights } = shape(f.size)
    t.match(info, {
      tx: { streamIds: [], data: [], dataMerkleRoot: root, size: f.size, seq },
      finalized: false,
      isCached: false,
      uploadedSegNum: 0,
      pruned: false
    })
    t.same(
      info.tx.merkleNodes,
      f.nodes.map((n, i) => [heights[i]! + 1, toHex(n.root)])
    )
    // Last first: order must not matter.
    for (const g of [...f.segments].reverse()) {
      t.equal((await call(s, 'zgs_uploadSegmentsByTxSeq', [wireSegment(g)], seq)).result, 1)
    }
    t.equal((await call(s, 'zgs_checkFileFinalized', seq)).result, true)
    t.equal((await call(s, 'zgs_checkFileFinalized', root.slice(2))).result, true, 'a root without 0x')
    const after = (await call(s, 'zgs_getFileInfoByTxSeq', seq)).result
    t.match(after, { finalized: true, uploadedSegNum: segments, isCached: false })
    let got: Uint8Array = new Uint8Array(0)
    for (const g of f.segments) {
      const end = Math.min((g.index + 1) * 1024, shape(f.size).chunks)
      const text = (await call(s, 'zgs_downloadSegmentByTxSeq', seq, g.index * 1024, end)).result
      got = concat(got, Buffer.from(text, 'base64'))
      const proven = (await call(s, 'zgs_downloadSegmentWithProof', root, g.index)).result
      t.equal(proven.fileSize, f.size)
      const proof = { lemma: proven.proof.lemma.map((h: string) => fromHex(h)), path: proven.proof.path }
      const claim = { leaf: g.leaf, root: f.root, index: g.index, leafCount: shape(f.size).paddedSegments }
      t.equal(proofFault(proof, claim), undefined)
    }
    t.ok(equalBytes(got.subarray(0, f.size), f.bytes), `${f.size} bytes are the same`)
    t.ok(got.subarray(f.size).every(b => b === 0))
  }
  const status = (await call(s, 'zgs_getStatus')).result
  t.match(status, {
    connectedPeers: 0,
    logSyncHeight: 1,
    nextTxSeq: sizes.length,
    networkIdentity: { chainId: 31337, flowAddress: FLOW_ADDRESS, p2pProtocolVersion: { major: 0, minor: 4, build: 0 } }
  })
  t.match(status.logSyncBlock, /^0x[0-9a-f]{64}$/)
  t.same((await call(s, 'zgs_getShardConfig')).result, { shardId: 0, numShard: 1 })
  // Ranges that are not aligned to segments, across a border.
  const big = files.at(-1)!
  const part = Buffer.from((await call(s, 'zgs_downloadSegment', toHex(big.root), 1000, 1500)).result, 'base64')
  t.ok(equalBytes(part, big.bytes.subarray(256_000, 384_000)))
  // What was written survives a restart, which verifies on the first read.
  await s.restart()
  for (const [k, f] of files.entries()) {
    const res = await fetch(`${s.node.url}/v1/segment/${seqs[k]}/0`)
    t.ok(equalBytes(new Uint8Array(await res.arrayBuffer()), f.segments[0]!.data))
  }
})

t.test('each upload check answers with its exact code, message and data, and leaves nothing behind', async t => {
  const s = await setup(t)
  const f = testFile(content(700_000))
  const other = testFile(content(700_000))
  const finished = testFile(content(300))
  const [seq, , finishedSeq] = await submit(s, f, other, finished)
  await uploadAll(s, finished, finishedSeq!)
  const empty = diskBytes(s)
  const good = wireSegment(f.segments[1]!)
  const proof = good.proof as { lemma: string[]; path: boolean[] }
  const bad = `0x${'ee'.repeat(32)}`
  const flipped = Buffer.from(f.segments[1]!.data)
  flipped[77]! ^= 1
  const lemma = (at: number, value: string): string[] => proof.lemma.map((h, i) => (i === at ? value : h))
  const leafAt = toHex(f.leaves[0]!)
  const rows: [name: string, segment: unknown, seq: unknown, code: number, message: RegExp | string, data?: unknown][] =
    [
      ['empty data', { ...good, data: '' }, seq, -32000, 'data is empty'],
      ['not whole sectors', { ...good, data: 'QUJD' }, seq, -32000, 'invalid data length'],
      ['other root', wireSegment(other.segments[1]!), seq, -32603, 'Internal error', 'data root and tx seq not match'],
      [
        'other size',
        { ...good, fileSize: 700_001 },
        seq,
        -32602,
        'Invalid params: file_size',
        'segment file size not matched with tx file size'
      ],
      [
        'final',
        wireSegment(finished.segments[0]!),
        finishedSeq,
        -32602,
        'Invalid params: root',
        'already uploaded and finalized'
      ],
      [
        'large before its transaction',
        { ...good, fileSize: 10_485_761 },
        99,
        -32602,
        'Invalid params: file_size',
        'caching of large file when tx is unavailable is not supported'
      ],
      ['size zero', { ...good, fileSize: 0 }, 99, -32602, 'Invalid params: file_size', 'file is empty'],
      ['index too high', { ...good, index: 3 }, seq, -32602, 'Invalid params: index', 'index out of bound'],
      ['index 2^53', { ...good, index: 2 ** 53 }, seq, -32602, 'Invalid params: index'],
      ['negative index', { ...good, index: -1 }, seq, -32602, 'Invalid params: index'],
      [
        'short for its place',
        { ...good, data: Buffer.alloc(256).toString('base64') },
        seq,
        -32602,
        'Invalid params: data',
        'invalid data length'
      ],
      [
        'too long',
        { ...good, data: Buffer.alloc(262_400).toString('base64') },
        seq,
        -32602,
        'Invalid params: data',
        'invalid data length'
      ],
      ['no proof', { ...good, proof: { lemma: [], path: [] } }, seq, -32602, 'Invalid params: proof', 'invalid proof'],
      [
        'proof too short',
        { ...good, proof: { lemma: proof.lemma.slice(1), path: proof.path } },
        seq,
        -32602,
        'Invalid params: proof',
        'invalid proof'
      ],
      [
        'proof too long',
        { ...good, proof: { lemma: Array(70).fill(bad), path: Array(68).fill(true) } },
        seq,
        -32602,
        'Invalid params: proof',
        'invalid proof'
      ],
      [
        'altered path',
        { ...good, proof: { ...proof, path: proof.path.map(b => !b) } },
        seq,
        -32000,
        /^wrong position: /
      ],
      ['wrong index', { ...good, index: 0 }, seq, -32000, /^wrong position: /],
      [
        'other root in the proof',
        { ...good, proof: { ...proof, lemma: lemma(proof.lemma.length - 1, bad) } },
        seq,
        -32000,
        /^root mismatch, /
      ],
      [
        'leaf of another segment',
        { ...good, proof: { ...proof, lemma: lemma(0, leafAt) } },
        seq,
        -32000,
        /^data hash mismatch: /
      ],
      ['flipped byte', { ...good, data: flipped.toString('base64') }, seq, -32000, /^data hash mismatch: /],
      [
        'altered sibling',
        { ...good, proof: { ...proof, lemma: lemma(1, bad) } },
        seq,
        -32602,
        'Invalid params: proof',
        'validation failed'
      ],
      [
        'base64 with a line break',
        { ...good, data: `${(good.data as string).slice(0, 76)}\n${(good.data as string).slice(77)}` },
        seq,
        -32602,
        'Invalid params: data'
      ],
      [
        'base64 without padding',
        { ...good, data: (good.data as string).replace(/=+$/, '').slice(0, -1) },
        seq,
        -32602,
        'Invalid params: data'
      ],
      ['root not hex', { ...good, root: 'hello' }, seq, -32602, 'Invalid params: root'],
      [
        'proof of words',
        { ...good, proof: { lemma: ['a', 'b'], path: ['yes'] } },
        seq,
        -32602,
        'Invalid params: proof'
      ],
      ['no object', 7, seq, -32602, 'Invalid params: segment'],
      ['seq as text', good, '0', -32602, 'Invalid params: tx_seq'],
      ['negative seq', good, -1, -32602, 'Invalid params: tx_seq']
    ]
  for (const [name, segment, to, code, message, data] of rows) {
    for (const [method, value] of [
      ['zgs_uploadSegmentByTxSeq', segment],
      ['zgs_uploadSegmentsByTxSeq', [segment]]
    ] as const) {
      const { status, error, result } = await call(s, method, value, to)
      t.equal(status, 200)
      t.equal(result, undefined, `${name}: refused`)
      t.equal(error?.code, code, `${name}: code`)
      if (typeof message === 'string') t.equal(error?.message, message, `${name}: message`)
      else t.match(error?.message, message, `${name}: message`)
      if (data !== undefined) t.equal(error?.data, data, `${name}: data`)
    }
  }
  // A submission whose padding is not zero: its nodes say so, the proof shows it.
  const dirty = dirtyPadding()
  const [dirtySeq] = await submit(s, dirty.file)
  const refused = await call(s, 'zgs_uploadSegmentByTxSeq', dirty.segment, dirtySeq)
  t.match(refused.error, {
    code: -32602,
    message: 'Invalid params: proof',
    data: 'invalid proof node value in the padding range'
  })
  t.equal(diskBytes(s), empty, 'no byte of all this is on disk')
  t.equal((await call(s, 'zgs_checkFileFinalized', seq)).result, false)
  t.equal((await call(s, 'zgs_getFileInfoByTxSeq', seq)).result.uploadedSegNum, 0)
  // Repeats: refused alone, skipped in a list by number.
  t.equal((await call(s, 'zgs_uploadSegmentByTxSeq', good, seq)).result, 1)
  t.match((await call(s, 'zgs_uploadSegmentByTxSeq', good, seq)).error, {
    code: -32000,
    message: 'segment has already been uploaded or is being uploaded'
  })
  t.match((await call(s, 'zgs_uploadSegments', [good])).error, { code: -32000 })
  t.equal((await call(s, 'zgs_uploadSegmentsByTxSeq', [good], seq)).result, 1)
  t.equal((await call(s, 'zgs_uploadSegmentsByTxSeq', [], seq)).result, 0, 'an empty list is 0')
  // The number wins over null: the old SDK takes null for a failure; trailing null is fine.
  t.equal((await call(s, 'zgs_uploadSegmentsByTxSeq', f.segments.map(wireSegment), seq, null)).result, 3)
  t.equal((await call(s, 'zgs_checkFileFinalized', seq)).result, true)
})

/** A submission of 17 data segments and one of padding, in which the padding is not zero; and its segment 16 with a true proof. */
function dirtyPadding() {
  const size = 16_385 * 256
  const leaves = Array.from({ length: shape(size).paddedSegments }, () => random.bytes(32))
  const data = content(256)
  leaves[16] = segmentRoot(data, 1024)
  const tree = new MerkleTree(leaves)
  const nodes = [
    { height: 14, root: tree.subtree(4, 0) },
    { height: 11, root: tree.subtree(1, 8) }
  ]
  const proof = tree.proof(16)
  const segment = {
    root: toHex(tree.root),
    index: 16,
    fileSize: size,
    data: Buffer.from(data).toString('base64'),
    proof: { lemma: proof.lemma.map(toHex), path: proof.path }
  }
  return { file: { size, nodes }, segment }
}

t.test('duplicates share bytes and become final together or by themselves', async t => {
  const s = await setup(t)
  const f = testFile(content(300_000))
  const [a, b] = await submit(s, f, f)
  const before = diskBytes(s)
  await uploadAll(s, f, b!)
  const once = diskBytes(s) - before
  t.ok(once < 302_000, 'stored once')
  t.equal((await call(s, 'zgs_checkFileFinalized', a)).result, true, 'the earlier pending one too')
  t.equal((await call(s, 'zgs_checkFileFinalized', b)).result, true)
  const [c] = await submit(s, f)
  await waitFor(async () => (await call(s, 'zgs_checkFileFinalized', c)).result === true, {
    what: 'finality by itself'
  })
  t.equal(diskBytes(s) - before, once)
  t.equal((await call(s, 'zgs_getFileInfo', toHex(f.root), true)).result.tx.seq, a, 'the first final one answers')
  // The same root under another size: zero bytes at the end make no difference to the tree, a lie does.
  const withZeros = { size: 300_000 + 30, nodes: f.nodes }
  const tooShort = { size: 262_145 + 10_000, nodes: f.nodes }
  const [more] = await submit(s, withZeros)
  await waitFor(async () => (await call(s, 'zgs_checkFileFinalized', more)).result === true)
  t.equal((await call(s, 'zgs_getFileInfoByTxSeq', more)).result.tx.size, 300_030)
  if (shape(tooShort.size).padded === shape(f.size).padded) {
    const [lie] = await submit(s, tooShort)
    t.equal(
      (await call(s, 'zgs_checkFileFinalized', lie)).result,
      false,
      'a size that cuts data off never becomes final'
    )
  }
})

t.test('a submission that lies about the size of a root harms nobody else', async t => {
  const s = await setup(t)
  const f = testFile(content(700_000))
  // Folds to the same root and fits the contract's rules, but no bytes have this shape.
  const [lie, truth] = await submit(s, { size: 200, nodes: [{ height: 0, root: f.root }] }, f)
  await uploadAll(s, f, truth!)
  t.equal((await call(s, 'zgs_checkFileFinalized', truth)).result, true)
  t.equal((await call(s, 'zgs_checkFileFinalized', lie)).result, false)
  t.equal(
    (await call(s, 'zgs_getFileInfo', toHex(f.root), true)).result.tx.seq,
    truth,
    'the final one answers for the root'
  )
  t.equal((await call(s, 'zgs_downloadSegmentByTxSeq', lie, 0, 1)).result === null, false, 'what fits is served')
  const g = testFile(content(600_000))
  await submit(s, { size: 256 * 4096, nodes: [{ height: 12, root: g.root }] }, g)
  t.equal((await call(s, 'zgs_uploadSegments', g.segments.map(wireSegment))).result, 3, 'by root the size decides')
  t.equal((await call(s, 'zgs_checkFileFinalized', toHex(g.root))).result, true)
  t.equal((await call(s, 'zgs_checkFileFinalized', 2)).result, false)
})

t.test("decoders of strangers' and of damaged bytes refuse, never throw", async t => {
  const f = testFile(content(700))
  const good = frame(f, 0)
  const record = encodeHead({ ...f.segments[0]!, proof: { siblings: new Uint8Array(64), path: [true, false] } }, 768)
  const tx: Tx = {
    seq: 1,
    root: f.root,
    size: 700,
    startPos: 2,
    sectors: 3,
    nodes: f.nodes,
    flowLength: 5,
    flowRoot: f.root,
    block: 9,
    status: 'final'
  }
  t.same(decodeTx(1, encodeTx(tx)), tx)
  t.match(decodeHead(record), { index: 0, dataSize: 768, fileSize: 700, headBytes: 168 })
  let refused = 0
  for (let k = 0; k < 5000; k++) {
    const b = record.slice(0, k % 5 === 0 ? random.below(record.length) : record.length)
    if (b.length > 0) b[random.below(b.length)]! ^= 1 << random.below(8)
    const head = decodeHead(b)
    // The first word and the checksum cover all of it.
    if (head === undefined) refused++
    const w = good.slice(0, 64)
    w[random.below(64)]! ^= 1 << random.below(8)
    const decoded = decodeFrameHead(w)
    if (typeof decoded !== 'string' && (decoded.dataSize > 262_144 || decoded.path.length > 64))
      t.fail('a bound was passed')
    decodeFrameHead(random.bytes(random.below(80)))
    try {
      decodeTx(1, random.bytes(random.below(200)))
    } catch (err) {
      if ((err as { code?: string }).code !== 'ERR_CORRUPT') t.fail(`decodeTx threw ${String(err)}`)
    }
  }
  t.equal(refused, 5000, 'every flip in a record is noticed')
})

t.test('a small file may come before its transaction, a large one may not; the cache is not durable', async t => {
  const s = await setup(t)
  const f = testFile(content(600_000))
  const before = diskBytes(s)
  t.equal((await call(s, 'zgs_uploadSegments', f.segments.slice(0, 2).map(wireSegment))).result, 2)
  t.equal(
    (await call(s, 'zgs_uploadSegmentsByTxSeq', [wireSegment(f.segments[2]!)], 0)).result,
    1,
    'by a number to come'
  )
  t.equal((await call(s, 'zgs_getFileInfo', toHex(f.root), true)).result, null)
  const raw = await (await fetch(`${s.node.url}/v1/file/${toHex(f.root)}`)).json()
  t.match(raw, { cached: true, finalized: false, uploaded: 3, missing: [] })
  t.equal(diskBytes(s), before)
  const flipped = Buffer.from(f.segments[0]!.data)
  flipped[0]! ^= 1
  const g = testFile(content(500))
  const forged = { ...wireSegment(g.segments[0]!), data: Buffer.alloc(512).toString('base64') }
  t.equal((await call(s, 'zgs_uploadSegment', forged)).error?.code, -32000, 'checked before it is cached')
  const [seq] = await submit(s, f)
  await waitFor(async () => (await call(s, 'zgs_checkFileFinalized', seq)).result === true, { what: 'the cached file' })
  const text = (await call(s, 'zgs_downloadSegment', toHex(f.root), 2048, 2344)).result
  t.ok(equalBytes(Buffer.from(text, 'base64').subarray(0, 600_000 - 524_288), f.bytes.subarray(524_288)))
})

t.test('download rules: ranges before existence, null for what is not here', async t => {
  const s = await setup(t)
  const f = testFile(content(700_000))
  const [seq] = await submit(s, f)
  const none = `0x${'12'.repeat(32)}`
  for (const [method, key, unknown] of [
    ['zgs_downloadSegment', toHex(f.root), none],
    ['zgs_downloadSegmentByTxSeq', seq, 77]
  ] as const) {
    t.match((await call(s, method, key, 5, 5)).error, {
      code: -32602,
      message: 'Invalid params: end_index',
      data: 'invalid chunk index'
    })
    t.match((await call(s, method, unknown, 6, 5)).error, { code: -32602 }, 'also for unknown files')
    t.match((await call(s, method, key, 0, 1025)).error, { code: -32602, data: 'exceeds maximum chunks 1024' })
    t.match((await call(s, method, key, 2700, 2736)).error, {
      code: -32000,
      message: /^end entry index exceeds tx size: /
    })
    t.equal((await call(s, method, unknown, 0, 5)).result, null)
    t.equal((await call(s, method, key, 0, 5)).result, null, 'not uploaded yet')
  }
  t.equal((await call(s, 'zgs_uploadSegmentByTxSeq', wireSegment(f.segments[1]!), seq)).result, 1)
  t.type(
    (await call(s, 'zgs_downloadSegmentByTxSeq', seq, 1024, 2048)).result,
    'string',
    'partly uploaded files serve what they have'
  )
  t.equal((await call(s, 'zgs_downloadSegmentByTxSeq', seq, 1000, 1100)).result, null)
  t.equal((await call(s, 'zgs_downloadSegmentWithProofByTxSeq', seq, 0)).result, null)
  t.match((await call(s, 'zgs_downloadSegmentWithProofByTxSeq', seq, 3)).error, {
    code: -32602,
    message: 'Invalid params: index',
    data: 'index out of bound'
  })
  for (const [method, ...p] of [
    ['zgs_getFileInfo', none, true],
    ['zgs_getFileInfoByTxSeq', 77],
    ['zgs_checkFileFinalized', none],
    ['zgs_checkFileFinalized', 77],
    ['zgs_downloadSegmentWithProof', none, 0],
    ['zgs_downloadSegmentWithProofByTxSeq', 77, 0]
  ] as const) {
    t.equal((await call(s, method, ...p)).result, null, `${method} of something unknown is null`)
  }
})

/** Folds a sector proof up; checks its form. */
function sectorRoot(proof: Proof, sector: number): Uint8Array {
  let running = proof.lemma[0]!
  for (const [i, left] of proof.path.entries()) {
    if (left !== (Math.floor(sector / 2 ** i) % 2 === 0)) throw new Error('path does not lead to the sector')
    running = left ? nodeHash(running, proof.lemma[i + 1]!) : nodeHash(proof.lemma[i + 1]!, running)
  }
  return running
}

t.test('sector proofs hold against every flow root that ever was', async t => {
  const s = await setup(t)
  const files = [1, 700, 300, 262_145, 5000, 700_000, 17].map(n => testFile(content(n)))
  const seqs = await submit(s, ...files)
  for (const [k, f] of files.entries()) await uploadAll(s, f, seqs[k]!)
  const [root, length] = (await call(s, 'zgs_getFlowContext')).result
  t.equal(root, toHex(s.chain.root(files.length - 1)))
  let proofs = 0
  for (const seq of seqs) {
    const info = (await call(s, 'zgs_getFileInfoByTxSeq', seq)).result.tx
    const end = info.startEntryIndex + shape(info.size).padded
    const sectors = new Set([
      0,
      1,
      info.startEntryIndex,
      end - 1,
      random.below(end),
      random.below(end),
      Math.max(0, info.startEntryIndex - 1)
    ])
    for (const sector of sectors) {
      const { result } = await call(s, 'zgs_getSectorProof', sector, toHex(s.chain.root(seq)))
      const proof = { lemma: result.lemma.map((h: string) => fromHex(h)), path: result.path }
      t.equal(toHex(sectorRoot(proof, sector)), toHex(s.chain.root(seq)), `sector ${sector} against root ${seq}`)
      t.equal(result.lemma.at(-1), toHex(s.chain.root(seq)))
      proofs++
    }
    t.match(
      (await call(s, 'zgs_getSectorProof', end, toHex(s.chain.root(seq)))).error,
      { code: -32602 },
      'beyond that length'
    )
  }
  t.comment(`${proofs} proofs`)
  t.equal((await call(s, 'zgs_getSectorProof', 5, null)).result.lemma.at(-1), root)
  t.match((await call(s, 'zgs_getSectorProof', 0, `0x${'77'.repeat(32)}`)).error, { code: -32000 })
  t.match((await call(s, 'zgs_getSectorProof', length, null)).error, { code: -32602 })
  t.match((await call(s, 'zgs_getHashAtNodeIndex', 1)).result, /^0x/)
  t.equal((await call(s, 'zgs_getHashAtNodeIndex', 1e9)).result, null)
  t.equal((await call(s, 'zgs_getDataByNodeIndex', 1)).result.length, 1024)
  t.type((await call(s, 'zgs_getMetaDataByNodeIndex', 1)).result, 'string')
})

t.test('the raw routes: upload, download with and without proof, roots, state, errors', async t => {
  const s = await setup(t)
  const f = testFile(content(5 * 262_144 + 1000))
  const root = toHex(f.root)
  t.equal((await put(s, '0', frame(f, 0))).status, 404, 'no such submission yet')
  const [seq] = await submit(s, f)
  const empty = diskBytes(s)
  for (const [change, status, code] of [
    [(b: Buffer) => b.write('nope', 0), 400, 'ERR_BAD_INPUT'],
    [(b: Buffer) => b.writeUInt32BE(3, 4), 400, 'ERR_BAD_PROOF'],
    [(b: Buffer) => b.writeUInt8(b[500_00]! ^ 1, 500_00), 400, 'ERR_BAD_PROOF'],
    [(b: Buffer) => b.writeUInt32BE(300_000, 8), 400, 'ERR_BAD_INPUT'],
    [(b: Buffer) => b.writeUInt8(200, 12), 400, 'ERR_BAD_INPUT'],
    [(b: Buffer) => b.writeUInt8(1, 13), 400, 'ERR_BAD_INPUT'],
    [(b: Buffer) => b.writeBigUInt64BE(7n, 24), 400, 'ERR_BAD_INPUT'],
    [(b: Buffer) => b.fill(9, 32, 64), 400, 'ERR_BAD_INPUT'],
    [(b: Buffer) => b.fill(9, 64, 96), 400, 'ERR_BAD_PROOF']
  ] as const) {
    const answer = await put(s, root, frame(f, 1, change))
    t.equal(answer.status, status)
    t.match(answer.body.error, { code, message: String })
  }
  t.equal((await put(s, root, frame(f, 1).subarray(0, 9000))).status, 400, 'cut short')
  t.equal((await put(s, 'xyz', frame(f, 1))).status, 400)
  t.equal(diskBytes(s), empty)
  t.same(await put(s, root, concat(frame(f, 5), frame(f, 1))), {
    status: 200,
    body: { stored: 2, known: 0, cached: 0, finalized: false }
  })
  const partly = await (await fetch(`${s.node.url}/v1/file/${seq}`)).json()
  t.match(partly, {
    root,
    seqs: [seq],
    segments: 6,
    finalized: false,
    missing: [
      [0, 1],
      [2, 5]
    ],
    uploaded: 0
  })
  t.equal((await fetch(`${s.node.url}/v1/roots/${root}`)).status, 404, 'not complete')
  // Segments of one request are checked and stored together, and each still has its own fate.
  const missing = async () => {
    const state = await (await fetch(`${s.node.url}/v1/file/${seq}`)).json()
    return (state as { missing: unknown }).missing
  }
  const liar = frame(f, 2, b => b.writeUInt8(b[50_000]! ^ 1, 50_000))
  const mixed = await put(s, `${seq}`, concat(frame(f, 0), liar, frame(f, 3)))
  t.match(mixed, { status: 400, body: { error: { code: 'ERR_BAD_PROOF', index: 2 } } })
  t.same(await missing(), [
    [2, 3],
    [4, 5]
  ])
  t.equal((await put(s, `${seq}`, concat(frame(f, 4), frame(f, 2).subarray(0, 9000)))).status, 400, 'cut short')
  t.same(await missing(), [[2, 3]], 'what came whole is kept')
  const five = concat(...[0, 1, 2, 3, 4].map(i => frame(f, i)))
  t.equal((await put(s, `${seq}`, five)).status, 413)
  t.same((await put(s, `${seq}`, concat(frame(f, 0), frame(f, 2), frame(f, 3), frame(f, 4)))).body.finalized, true)
  t.same(
    (await put(s, root, frame(f, 0))).body,
    { stored: 0, known: 1, cached: 0, finalized: true },
    'a repeat is no error'
  )
  const one = await fetch(`${s.node.url}/v1/segment/${root}/5`)
  t.equal(one.headers.get('x-zg-segment-root'), toHex(f.leaves[5]!))
  t.equal(one.headers.get('x-zg-file-size'), `${f.size}`)
  t.ok(equalBytes(new Uint8Array(await one.arrayBuffer()), f.segments[5]!.data))
  const framed = new Uint8Array(await (await fetch(`${s.node.url}/v1/segment/${seq}/5?proof=1`)).arrayBuffer())
  t.ok(equalBytes(framed, frame(f, 5)), 'the frame is the one that was sent')
  const several = await fetch(`${s.node.url}/v1/segments/${root}?first=1&count=64`)
  t.equal(several.headers.get('x-zg-count'), '5')
  const tail = new Uint8Array(await several.arrayBuffer())
  t.ok(equalBytes(tail, concat(...f.segments.slice(1).map(g => g.data))))
  const frames = new Uint8Array(
    await (await fetch(`${s.node.url}/v1/segments/${root}?first=4&count=2&proof=1`)).arrayBuffer()
  )
  t.ok(equalBytes(frames, concat(frame(f, 4), frame(f, 5))))
  const leaves = new Uint8Array(await (await fetch(`${s.node.url}/v1/roots/${root}`)).arrayBuffer())
  t.ok(equalBytes(leaves, concat(...f.leaves)))
  t.equal((await fetch(`${s.node.url}/v1/segment/${root}/6`)).status, 400)
  t.equal((await fetch(`${s.node.url}/v1/segment/${root}/x`)).status, 400)
  t.equal((await fetch(`${s.node.url}/v1/segment/0x${'55'.repeat(32)}/0`)).status, 404)
  t.equal((await fetch(`${s.node.url}/v1/segments/${root}`, { method: 'DELETE' })).status, 405)
  t.equal((await fetch(`${s.node.url}/v1/nothing/${root}`)).status, 404)
  const head = await fetch(`${s.node.url}/v1/segment/${root}/0`, { method: 'HEAD' })
  t.equal(head.headers.get('content-length'), '262144')
  const g = testFile(content(1000))
  t.same((await put(s, toHex(g.root), frame(g, 0))).body, { stored: 0, known: 0, cached: 1, finalized: false })
})

t.test('gRPC: the same uploads, checks and texts without base64, by the stock client', async t => {
  const s = await setup(t, { grpc: { host: '127.0.0.1', port: 0 } })
  const packages = grpc.loadPackageDefinition(await load(join(packageRoot, 'share/proto/zg-store/node.proto')))
  const Service = (packages.zgs_grpc as any).ZgsGrpcService
  const client = new Service(s.node.grpcAddress, grpc.credentials.createInsecure(), {
    'grpc.max_send_message_length': -1
  })
  t.teardown(() => client.close())
  const ask = (method: string, request: object): Promise<any> =>
    new Promise((resolve, reject) =>
      client[method](request, (err: grpc.ServiceError | null, reply: unknown) => (err ? reject(err) : resolve(reply)))
    )
  const wire = (f: TestFile, change: object = {}, which = f.segments.map((_, i) => i)): object[] =>
    which.map(i => {
      const { index, data, proof } = f.segments[i]!
      return { root: { value: f.root }, data, index, proof, fileSize: f.size, ...change }
    })
  const upload = (segments: object[], txSeq: number | string) => ask('UploadSegmentsByTxSeq', { segments, txSeq })
  t.strictSame(await ask('Ping', { message: 'hello' }), { message: 'Echo: hello' })

  const f = testFile(content(3 * 262_144 + 1_000))
  const [seq] = (await submit(s, f)) as [number]
  const before = diskBytes(s)
  const other = testFile(content(3 * 262_144 + 1_000))
  const refusals: [string, object[], number | string, grpc.status, RegExp][] = [
    ['no data', wire(f, { data: Buffer.alloc(0) }, [0]), seq, grpc.status.INVALID_ARGUMENT, /^data is empty$/],
    [
      'a part of a sector',
      wire(f, { data: Buffer.alloc(300) }, [0]),
      seq,
      grpc.status.INVALID_ARGUMENT,
      /invalid data length/
    ],
    [
      'a flipped byte',
      wire(f, { data: f.segments[0]!.data.with(9, f.segments[0]!.data[9]! ^ 1) }, [0]),
      seq,
      grpc.status.INVALID_ARGUMENT,
      /^data hash mismatch: /
    ],
    [
      'another index',
      wire(f, { index: 1 }, [0]),
      seq,
      grpc.status.INVALID_ARGUMENT,
      /^wrong position: expected 1, found 0$/
    ],
    [
      'an index out of range',
      wire(f, { index: '9007199254740993' }, [0]),
      seq,
      grpc.status.INVALID_ARGUMENT,
      /^Invalid params: index: out of range$/
    ],
    ['a foreign root', wire(other, {}, [0]), seq, grpc.status.INVALID_ARGUMENT, /data root and tx seq not match/],
    [
      'a wrong size',
      wire(f, { fileSize: f.size + 1 }, [0]),
      seq,
      grpc.status.INVALID_ARGUMENT,
      /segment file size not matched/
    ],
    [
      'a short root',
      wire(f, { root: { value: f.root.slice(1) } }, [0]),
      seq,
      grpc.status.INVALID_ARGUMENT,
      /^Invalid params: root: not 32 bytes$/
    ],
    [
      'no proof',
      wire(f, { proof: null }, [0]),
      seq,
      grpc.status.INVALID_ARGUMENT,
      /^Invalid params: proof: invalid proof$/
    ],
    [
      'a proof without end',
      wire(f, { proof: { lemma: Array(70).fill(f.root), path: [] } }, [0]),
      seq,
      grpc.status.INVALID_ARGUMENT,
      /invalid proof/
    ],
    [
      'a submission to come',
      wire(testFile(content(11 * 1024 * 1024)), {}, [0]),
      seq + 1,
      grpc.status.FAILED_PRECONDITION,
      /caching of large file/
    ],
    [
      'more than a call may carry',
      [{ data: Buffer.alloc(33 * 1024 * 1024) }],
      seq,
      grpc.status.RESOURCE_EXHAUSTED,
      /larger than max/
    ]
  ]
  for (const [what, segments, at, code, text] of refusals) {
    const err = await upload(segments, at).then(
      () => undefined,
      e => e as grpc.ServiceError
    )
    t.equal(err?.code, code, what)
    t.match(err?.details, text, what)
  }
  t.equal(diskBytes(s), before, 'nothing of it is on the disk')

  t.strictSame(await upload([], seq), {}, 'an empty list')
  // Last first, one twice, the rest in calls side by side.
  t.strictSame(await upload(wire(f, {}, [3, 2]), seq), {})
  t.strictSame(await upload(wire(f, {}, [3]), seq), {}, 'a segment again')
  await Promise.all([upload(wire(f, {}, [0]), seq), upload(wire(f, {}, [1]), seq)])
  await waitFor(async () => (await call(s, 'zgs_getFileInfoByTxSeq', seq)).result.finalized, { what: 'finality' })
  const read = await call(s, 'zgs_downloadSegmentByTxSeq', seq, 0, 1024)
  t.ok(Buffer.from(read.result, 'base64').equals(Buffer.from(f.segments[0]!.data)), 'it reads back')
  const again = await upload(wire(f), seq).catch(e => e as grpc.ServiceError)
  t.equal(again.code, grpc.status.ALREADY_EXISTS)
  t.match(again.details, /already uploaded and finalized/, 'the text that clients look for')
  // 100 segments in one call, and more calls than a connection may have at once.
  const large = testFile(content(100 * 262_144))
  const [largeSeq] = (await submit(s, large)) as [number]
  t.strictSame(await upload(wire(large), largeSeq), {})
  const small = Array.from({ length: 40 }, () => testFile(content(300)))
  const seqs = await submit(s, ...small)
  await Promise.all(small.map((x, i) => upload(wire(x), seqs[i]!)))
  for (const n of [largeSeq, ...seqs]) {
    await waitFor(async () => (await call(s, 'zgs_checkFileFinalized', n)).result === true, {
      what: `finality of ${n}`
    })
  }
  const metrics = await (await fetch(`${s.node.url}/metrics`)).text()
  t.match(metrics, /rpc_calls_total\{[^}]*method="UploadSegmentsByTxSeq",result="ok"[^}]*\} 4[0-9]/)
})

t.test('a damaged segment is never served; the file is wanted again and can be put back', async t => {
  const s = await setup(t)
  const f = testFile(content(300_000))
  const [seq] = await submit(s, f)
  await uploadAll(s, f, seq!)
  await s.node.close()
  const path = join(s.dir, 'segments', '00000001.seg')
  const bytes = readFileSync(path)
  bytes[200_000]! ^= 4
  writeFileSync(path, bytes)
  await s.restart()
  await synced(s)
  t.equal((await call(s, 'zgs_checkFileFinalized', seq)).result, true, 'nobody has looked yet')
  t.equal((await call(s, 'zgs_downloadSegmentByTxSeq', seq, 0, 1024)).result, null)
  await waitFor(async () => (await call(s, 'zgs_checkFileFinalized', seq)).result === false, {
    what: 'final to turn false'
  })
  t.equal((await call(s, 'zgs_uploadSegmentsByTxSeq', [wireSegment(f.segments[0]!)], seq)).result, 1)
  t.equal((await call(s, 'zgs_checkFileFinalized', seq)).result, true)
  const text = (await call(s, 'zgs_downloadSegmentByTxSeq', seq, 0, 1024)).result
  t.ok(equalBytes(Buffer.from(text, 'base64'), f.segments[0]!.data))
})

t.test('following the chain: failures, late answers, repeats and gaps only delay', async t => {
  const s = await setup(t)
  const files = Array.from({ length: 12 }, (_, i) => testFile(content(100 + 300 * i)))
  let hidden = 0
  s.chain.intercept = method => {
    if (random.chance(0.1)) rpcFailure()
    // One block in three is said to have no logs.
    if (method !== 'eth_getLogs' || !random.chance(0.33)) return undefined
    hidden++
    return []
  }
  const height = () => s.node.ready().log_sync_height
  for (const f of files) {
    s.chain.submit([f])
    await waitFor(() => height() === s.chain.height, { what: 'the next block', timeoutMs: 20_000 })
  }
  // Logs that were hidden show as a gap at the next submission; the last one by the contract's count.
  await waitFor(async () => (await call(s, 'zgs_getStatus')).result.nextTxSeq === 12, {
    what: 'all submissions',
    timeoutMs: 20_000
  })
  t.ok(hidden >= 1, `${hidden} answers were empty`)
  s.chain.intercept = undefined
  s.chain.submit([files[0]!])
  await synced(s)
  t.equal((await call(s, 'zgs_getFlowContext')).result[0], toHex(s.chain.root(12)))
  s.chain.intercept = () => rpcFailure()
  s.chain.mine(1)
  await waitFor(async () => !s.node.ready().ok, { what: 'readiness to say so' })
  t.match(s.node.ready().reason, /^chain: /)
  t.equal((await fetch(`${s.node.url}/ready`)).status, 503)
  t.equal((await fetch(`${s.node.url}/health`)).status, 200)
  t.equal((await call(s, 'zgs_getStatus')).result.nextTxSeq, 13, 'reads go on')
  s.chain.intercept = undefined
  await synced(s)
  t.equal((await fetch(`${s.node.url}/ready`)).status, 200)
  t.match(await (await fetch(`${s.node.url}/metrics`)).text(), /zg_store_next_tx_seq 13/)
})

t.test('a reorganisation takes submissions back and brings them again with other numbers', async t => {
  const s = await setup(t)
  const [a, b, c] = [testFile(content(300)), testFile(content(700_000)), testFile(content(1000))]
  const [seqA] = await submit(s, a!)
  await uploadAll(s, a!, seqA!)
  const [seqB] = await submit(s, b!)
  await uploadAll(s, b!, seqB!)
  s.chain.mine(2)
  await synced(s)
  s.chain.reorg(3)
  s.chain.submit([c!])
  s.chain.submit([b!])
  s.chain.mine(3)
  await synced(s)
  t.equal((await call(s, 'zgs_getFileInfoByTxSeq', 1)).result.tx.dataMerkleRoot, toHex(c!.root))
  await waitFor(async () => (await call(s, 'zgs_checkFileFinalized', 2)).result === true, {
    what: 'the bytes to be found again'
  })
  t.equal((await call(s, 'zgs_getFileInfo', toHex(b!.root), true)).result.tx.seq, 2)
  t.equal((await call(s, 'zgs_checkFileFinalized', seqA)).result, true)
  t.equal((await call(s, 'zgs_getFlowContext')).result[0], toHex(s.chain.root(2)))
  // The same after a restart: what was undone stays undone.
  await s.restart()
  await synced(s)
  t.equal((await call(s, 'zgs_getStatus')).result.nextTxSeq, 3)
  const { result } = await call(s, 'zgs_getSectorProof', 1, toHex(s.chain.root(0)))
  t.equal(result.lemma.at(-1), toHex(s.chain.root(0)))
})

t.test('a reorganisation is seen at the same height', async t => {
  const s = await setup(t)
  const [a, b] = [testFile(content(300)), testFile(content(500))]
  await submit(s, a!)
  s.chain.mine(3)
  await synced(s)
  const height = s.chain.height
  s.chain.reorg(4)
  s.chain.submit([b!])
  s.chain.mine(3)
  t.equal(s.chain.height, height)
  await waitFor(async () => (await first(s)) === toHex(b!.root), { what: 'the new chain of the same height' })
})

/** Root of the file of submission 0. */
async function first(s: Setup): Promise<unknown> {
  return (await call(s, 'zgs_getFileInfoByTxSeq', 0)).result?.tx.dataMerkleRoot
}

t.test("a flow root that is not the contract's stops the node loudly, nothing of that page is written", async t => {
  let fatal: unknown
  const s = await setup(t, { onFatal: err => (fatal = err) })
  s.chain.intercept = method => (method === 'eth_call' ? `0x${'66'.repeat(32)}` : undefined)
  s.chain.submit([testFile(content(300))])
  await waitFor(() => fatal !== undefined, { what: 'the node to stop following', timeoutMs: 20_000 })
  t.match(fatal, { code: 'ERR_PROTOCOL', message: /^flow root after submission 0 is 0x/ })
  t.equal((await call(s, 'zgs_getStatus')).result.nextTxSeq, 0)
  t.equal(s.node.ready().ok, false)
})

t.test('a data directory of another network, another shard or another process is refused', async t => {
  const s = await setup(t)
  const options = { dir: s.dir, chain: s.chain.url, rpcPort: 0, log: () => silentLog }
  await t.rejects(startStoreNode(options), { code: 'ERR_LOCKED' })
  await s.node.close()
  await t.rejects(startStoreNode({ ...options, flow: `0x${'11'.repeat(20)}` }), { code: 'ERR_WRONG_NETWORK' })
  await t.rejects(startStoreNode({ ...options, shard: { shardId: 0, numShard: 2 } }), { code: 'ERR_CONFIG' })
  s.chain.chainId = 16601
  let fatal: unknown
  s.node = await startStoreNode({ ...options, onFatal: err => (fatal = err) })
  await waitFor(() => fatal !== undefined, { what: 'the other chain to be noticed' })
  t.match(fatal, { code: 'ERR_WRONG_NETWORK' })
})

t.test('a sharded node wants, takes and serves its share only', async t => {
  const s = await setup(t, { shard: { shardId: 1, numShard: 2 } })
  const f = testFile(content(13 * 262_144))
  const [seq] = await submit(s, f)
  t.same((await call(s, 'zgs_getShardConfig')).result, { shardId: 1, numShard: 2 })
  const start = (await call(s, 'zgs_getFileInfoByTxSeq', seq)).result.tx.startEntryIndex / 1024
  const mine = f.segments.filter(g => (start + g.index) % 2 === 1)
  const theirs = f.segments.find(g => (start + g.index) % 2 === 0)!
  t.match((await call(s, 'zgs_uploadSegmentByTxSeq', wireSegment(theirs), seq)).error, { code: -32602 })
  t.equal((await call(s, 'zgs_uploadSegmentsByTxSeq', mine.map(wireSegment), seq)).result, mine.length)
  t.equal((await call(s, 'zgs_checkFileFinalized', seq)).result, true)
  t.equal((await call(s, 'zgs_downloadSegmentByTxSeq', seq, theirs.index * 1024, theirs.index * 1024 + 5)).result, null)
  // What a miner needs: every sector of the share is proved, though the segments beside it are not here.
  const root = toHex(s.chain.root(seq!))
  for (const g of mine) {
    const sector = (start + g.index) * 1024 + 17 * g.index
    const { result } = await call(s, 'zgs_getSectorProof', sector, root)
    const proof = { lemma: result.lemma.map((h: string) => fromHex(h)), path: result.path }
    t.equal(toHex(sectorRoot(proof, sector)), root, `segment ${g.index}`)
  }
  t.match((await call(s, 'zgs_getSectorProof', (start + theirs.index) * 1024 + 3, root)).error, { code: -32000 })
})

t.test('bad input of every kind is answered and never ends the node', async t => {
  const s = await setup(t)
  const raw = async (body: string | Uint8Array) => {
    const res = await fetch(s.node.url, { method: 'POST', body })
    return { status: res.status, body: await res.text() }
  }
  t.match(await raw('{"jsonrpc": "2.0", "id": 1'), { status: 200, body: /-32700/ })
  t.match(await raw(''), { status: 200, body: /-32700/ })
  t.match(await raw('[]'), { status: 200, body: /-32600/ })
  t.match((await call(s, 'zgs_nothing')).error, { code: -32601 })
  t.match((await call(s, '__proto__')).error, { code: -32601 })
  for (const bad of [undefined, null, {}, [], '', 'x', -1, 1.5, 2 ** 53, '0x', true]) {
    for (const method of [
      'zgs_getFileInfo',
      'zgs_getFileInfoByTxSeq',
      'zgs_downloadSegment',
      'zgs_uploadSegment',
      'zgs_uploadSegmentsByTxSeq'
    ]) {
      const { status, error } = await call(s, method, bad, bad, bad)
      t.equal(status, 200)
      t.equal(error?.code, -32602, `${method} of ${JSON.stringify(bad)}`)
    }
  }
  const batch = JSON.parse(
    (
      await raw(
        '[{"jsonrpc":"2.0","id":1,"method":"zgs_getShardConfig"},7,{"jsonrpc":"2.0","id":"b","method":"zgs_getFlowContext","params":null}]'
      )
    ).body
  )
  t.match(batch, [{ id: 1, result: { shardId: 0 } }, { error: { code: -32600 } }, { id: 'b', result: [/^0x/, 1] }])
  // 101 MiB are refused when they are announced, before a byte is read.
  const status = await new Promise<number | undefined>((resolve, reject) => {
    const req = request(s.node.url, { method: 'POST', headers: { 'content-length': 101 * 1024 * 1024 } }, res => {
      resolve(res.statusCode)
      res.resume()
    })
    req.on('error', reject)
    req.flushHeaders()
  })
  t.equal(status, 413)
  // Slow clients: headers of an upload, then nothing. Others are served meanwhile.
  const port = s.node.port
  const slow = Array.from({ length: 50 }, () => connect(port, '127.0.0.1'))
  for (const c of slow) c.write('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000\r\n\r\n{')
  t.ok((await call(s, 'zgs_getStatus')).result)
  for (const c of slow) c.destroy()
  t.ok((await call(s, 'zgs_getStatus')).result, 'still there')
})
