/**
 * Proves the native kernels of data availability against the TypeScript reference: every SIMD path, all lengths around the borders
 * of rows, random subsets of rows, hashing of rows of every kind, the largest blobs with the strict check, the storage layer's root
 * of an encoded blob, and that the binding refuses what it must not touch.
 */
import { createRequire } from 'node:module'
import t from 'tap'
import { equalBytes } from '../../lib/base/bytes.ts'
import { toHex } from '../../lib/base/hex.ts'
import { encodeBlob } from '../../lib/codec/da/blob.ts'
import { openZ } from '../../lib/codec/da/open.ts'
import { referenceKernels } from '../../lib/codec/da/reference.ts'
import { decodeMatrix, strictCheck } from '../../lib/codec/da/retrieve.ts'
import { extendRow } from '../../lib/codec/da/row-tree.ts'
import { shapeTag } from '../../lib/codec/da/shape.ts'
import { verifyLines } from '../../lib/codec/da/verify.ts'
import { codec, type DaKernels, nativePath } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'

// The reference hashes a hundred times slower than what it checks.
t.setTimeout(120_000)

const native = codec().da
const skip = native === undefined ? 'no native build' : false

let state = SEED >>> 0 || 1
function random(n: number): number {
  state ^= state << 13
  state >>>= 0
  state ^= state >>> 17
  state ^= state << 5
  state >>>= 0
  return state % n
}
function bytes(size: number): Uint8Array {
  const out = new Uint8Array(size)
  for (let i = 0; i < size; i++) out[i] = random(256)
  return out
}
const range = (n: number, from = 0): number[] => Array.from({ length: n }, (_, i) => from + i)
function draw(n: number, m: number): number[] {
  const all = range(n)
  for (let i = 0; i < m; i++) {
    const j = i + random(n - i)
    ;[all[i], all[j]] = [all[j]!, all[i]!]
  }
  return all.slice(0, m)
}
const paths = (): [string, DaKernels][] => native!.paths.map(name => [name, native!.with(name)])

t.test('encoding is the reference bit for bit on every path and length', { skip }, async t => {
  const sizes = [1, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 65_535, 65_536, 65_537]
  for (const len of [...sizes, ...range(3).map(() => 1 + random(20_000))]) {
    const data = bytes(len)
    const want = await encodeBlob(data, { kernels: referenceKernels })
    const expected = openZ(want.header, want.z, referenceKernels).e
    for (const [path, kernels] of paths()) {
      const got = await encodeBlob(data, { kernels })
      t.equal(toHex(got.header.bytes), toHex(want.header.bytes), `${len} bytes, ${path}`)
      t.ok(equalBytes(got.z, want.z) && equalBytes(got.rowRoots, want.rowRoots), 'z and row roots')
      t.ok(
        range(3 * want.header.k).every(c => equalBytes(got.row(c), want.row(c))),
        'rows'
      )
      t.ok(equalBytes(openZ(got.header, got.z, kernels).e, expected), 'E')
    }
  }
  // 1 MiB, and rows that do not divide into strips.
  for (const [len, logK] of [
    [1 << 20, undefined],
    [100_000, 2],
    [60_000, 1],
    [32_704, 0],
    [20_001, 8]
  ] as const) {
    const data = bytes(len)
    const want = await encodeBlob(data, { logK, kernels: referenceKernels })
    const got = await encodeBlob(data, { logK })
    t.equal(toHex(got.header.bytes), toHex(want.header.bytes), `${len} bytes, log k ${logK}`)
  }
})

t.test('hashes and sums of rows of every width are the reference', { skip }, async t => {
  for (const w of [64, 192, 256, 320, 512, 2048, 2112, 4096, 16_384, 31_744, 32_448, 32_512, 32_576, 32_704]) {
    const rows = range(w > 4096 ? 2 : 19).map(() => bytes(w))
    const tag = shapeTag({ logK: 0, k: 1, w, len: w })
    t.equal(
      toHex(await native!.rowRoots(tag, rows)),
      toHex(await referenceKernels.rowRoots(tag, rows)),
      `roots of ${w} bytes`
    )
    const p = bytes(48)
    t.equal(toHex(await native!.rowSums(p, rows)), toHex(await referenceKernels.rowSums(p, rows)), `sums of ${w} bytes`)
  }
  const key = bytes(32)
  for (const n of [0, 1, 3, 8, 9, 392]) t.equal(toHex(native!.stream(key, n)), toHex(referenceKernels.stream(key, n)))
  for (const n of [1, 2, 4, 8, 16, 64, 1024]) {
    const leaves = bytes(32 * n)
    t.equal(toHex(native!.treeNodes(leaves)), toHex(referenceKernels.treeNodes(leaves)))
  }
  t.same(await native!.rowRoots(bytes(16), []), new Uint8Array(0))
  t.same(await native!.rowSums(bytes(48), []), new Uint8Array(0))
})

t.test('any k rows decode, for every k and on every path', { skip }, async t => {
  for (let logK = 0; logK <= 10; logK++) {
    const k = 2 ** logK
    const w = 64 * (1 + random(logK < 6 ? 80 : 3))
    const matrix = bytes(k * w)
    const parity = new Uint8Array(2 * k * w)
    await native!.encode(shapeTag({ logK, k, w, len: k * w }), matrix, parity)
    const row = (c: number): Uint8Array =>
      c < k ? matrix.subarray(c * w, (c + 1) * w) : parity.subarray((c - k) * w, (c - k + 1) * w)
    const subsets = [
      range(k, k),
      range(k, 2 * k),
      range(k),
      draw(3 * k, k),
      draw(3 * k, k),
      draw(2 * k, k),
      [...range(k - 1), 2 * k]
    ]
    for (const indexes of subsets) {
      for (const [path, kernels] of paths()) {
        const got = await kernels.decode(w, Uint16Array.from(indexes), indexes.map(row))
        if (!equalBytes(got, matrix)) t.fail(`k ${k} w ${w} ${path} from ${indexes.slice(0, 9)} …`)
      }
    }
    if (logK <= 4) {
      const indexes = subsets[3]!
      const slow = await referenceKernels.decode(w, Uint16Array.from(indexes), indexes.map(row))
      t.ok(equalBytes(slow, matrix), 'the reference, too')
    }
    t.pass(`k ${k}`)
  }
})

t.test('the largest blobs come back from parity rows alone', { skip }, async t => {
  for (const len of [32_505_851, 32_505_852]) {
    const data = Buffer.alloc(len)
    for (let at = 0; at + 4 <= len; at += 4) data.writeUInt32LE((Math.imul(at, 2_654_435_761) ^ SEED) >>> 0, at)
    data[len - 1] = 7
    const b = await encodeBlob(data)
    t.match(b.header, { k: 1024, w: 31_744, len })
    const rows = new Map(draw(2048, 1024).map(i => [1024 + i, b.row(1024 + i)]))
    const matrix = await decodeMatrix(b.header, rows)
    t.ok(data.equals(matrix.subarray(0, len)), `${len} bytes`)
    t.ok((await strictCheck(b.header, matrix)).exact)
    const lines = b.records(draw(3072, 31), 'paths')
    t.equal((await verifyLines(b.header, b.z, lines)).rows.size > 20, true)
    matrix[random(len)]! ^= 1
    t.notOk((await strictCheck(b.header, matrix)).exact)
    await t.rejects(encodeBlob(new Uint8Array(32_505_853)), { message: /at most 32505852/ })
  }
})

t.test('the data root is the storage root of the encoded blob as a file of 96 MiB', { skip }, async t => {
  const b = await encodeBlob(bytes(5000), { logK: 4 })
  const roots = new Uint8Array(384 * 32)
  const segment = new Uint8Array(262_144)
  for (let i = 0; i < 384; i++) {
    for (let j = 0; j < 8; j++) segment.set(extendRow(b.header.tag, b.row(b.codeRow(8 * i + j))), 32_768 * j)
    roots.set(codec().segmentRootsFlat(segment), 32 * i)
  }
  t.equal(toHex(codec().treeRoot(roots)), toHex(b.header.dataRoot))
})

t.test('the binding refuses what it must not touch and never crashes', { skip }, async t => {
  const addon = (
    createRequire(import.meta.url)(nativePath('codec')) as { da: Record<string, (...a: unknown[]) => unknown> }
  ).da
  const gone = new Uint8Array(64)
  structuredClone(gone.buffer, { transfer: [gone.buffer] })
  const Resizable = ArrayBuffer as unknown as new (size: number, opts: object) => ArrayBuffer
  const shrinking = new Uint8Array(new Resizable(64, { maxByteLength: 128 }))
  const tag = shapeTag({ logK: 0, k: 1, w: 64, len: 64 })
  const row = new Uint8Array(64)
  const indexes = Uint16Array.of(1)
  const bad = [undefined, null, 1, 'x', {}, [], new ArrayBuffer(64), new Uint16Array(32), gone]
  for (const x of bad) {
    t.throws(() => addon.encode!(x, row, undefined), TypeError)
    t.throws(() => addon.encode!(tag, x, undefined), TypeError)
    if (x !== undefined) t.throws(() => addon.encode!(tag, row, x), TypeError)
    t.throws(() => addon.rowRoots!(x, [row]), TypeError)
    t.throws(() => addon.rowRoots!(tag, [x]), TypeError)
    t.throws(() => addon.rowSums!(x, [row]), TypeError)
    t.throws(() => addon.decode!(64, x, [row], row), TypeError)
    t.throws(() => addon.decode!(64, indexes, [x], row), TypeError)
    t.throws(() => addon.decode!(64, indexes, [row], x), TypeError)
    t.throws(() => addon.extendZ!(x), TypeError)
    t.throws(() => addon.stream!(x, 1), TypeError)
    t.throws(() => addon.treeNodes!(x), TypeError)
    if (!Array.isArray(x)) t.throws(() => addon.rowSums!(new Uint8Array(48), x), TypeError)
  }
  for (const name of ['encode', 'rowRoots', 'rowSums', 'decode', 'extendZ', 'stream', 'treeNodes']) {
    t.throws(() => addon[name]!(), TypeError, name)
  }
  const tags: [number, number][] = [
    [0, 0],
    [0, 2],
    [1, 11],
    [4, 0],
    [4, 65],
    [5, 0x80],
    [7, 1]
  ]
  for (const [at, value] of tags) {
    const wrong = tag.slice()
    wrong[at] = value
    t.throws(() => addon.encode!(wrong, row, undefined), TypeError, `tag byte ${at} = ${value}`)
  }
  t.throws(() => addon.encode!(tag, new Uint8Array(65), undefined), TypeError)
  t.throws(() => addon.encode!(tag, row, new Uint8Array(127)), TypeError)
  t.throws(() => addon.encode!(tag, row, undefined, 'mmx'), TypeError)
  t.throws(() => addon.encode!(tag, shrinking, undefined), TypeError)
  t.throws(() => addon.rowRoots!(tag, [shrinking]), TypeError)
  t.throws(() => addon.rowRoots!(tag, [new Uint8Array(63)]), TypeError)
  t.throws(() => addon.rowRoots!(tag, [new Uint8Array(32_768)]), TypeError)
  t.throws(() => addon.rowRoots!(tag, [row, new Uint8Array(128)]), TypeError)
  t.throws(() => addon.rowRoots!(tag, new Array(3073).fill(row)), TypeError)
  t.throws(() => addon.decode!(64, Uint16Array.of(3), [row], row), TypeError, 'no such code row')
  t.throws(() => addon.decode!(64, Uint16Array.of(1, 1), [row, row], new Uint8Array(128)), TypeError, 'a row twice')
  t.throws(
    () => addon.decode!(64, Uint16Array.of(0, 1, 2), [row, row, row], new Uint8Array(192)),
    TypeError,
    'three rows'
  )
  t.throws(() => addon.decode!(128, indexes, [row], new Uint8Array(128)), TypeError)
  t.throws(() => addon.decode!(64, indexes, [row], row, 7), TypeError)
  for (const size of [0, 15, 48, 16 * 2048]) t.throws(() => addon.extendZ!(new Uint8Array(size)), TypeError)
  for (const n of [-1, 0.5, 65_537, Number.NaN, '1']) t.throws(() => addon.stream!(new Uint8Array(32), n), TypeError)
  for (const size of [0, 31, 96, 32 * 131_072]) t.throws(() => addon.treeNodes!(new Uint8Array(size)), TypeError)
  t.throws(() => native!.with('mmx').encode(tag, row, undefined), TypeError)
})

t.test('jobs run side by side, and dropped arrays stay alive until they end', { skip }, async t => {
  const data = bytes(300_000)
  const want = toHex((await encodeBlob(data)).header.bytes)
  const all = await Promise.all(range(12).map(() => encodeBlob(data.slice())))
  t.ok(all.every(b => toHex(b.header.bytes) === want))
})
