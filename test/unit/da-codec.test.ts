/**
 * Proves the fast mode of data availability (da-design.md): its check values, the shapes, the code against Lagrange interpolation,
 * the laws of permutation and trees, each refusal with its own fault, the verdict on every kind of lying encoder, and that readers
 * never differ. Small blobs, in TypeScript and natively alike; test/native/da.test.ts compares the two.
 */
import t, { type Test } from 'tap'
import { concat, equalBytes } from '../../lib/base/bytes.ts'
import { toHex } from '../../lib/base/hex.ts'
import { encodeBlob, lineTrees, rowTree, signerForm } from '../../lib/codec/da/blob.ts'
import { decodeSymbols, encodeSymbols, lagrange } from '../../lib/codec/da/code.ts'
import { CANTOR_BASIS, inverse, mul } from '../../lib/codec/da/field.ts'
import {
  checkHeader,
  commitmentFromLe,
  commitmentToLe,
  decodeCy,
  decodeHeader,
  isFastMode,
  makeHeader
} from '../../lib/codec/da/header.ts'
import { daKernels } from '../../lib/codec/da/kernels.ts'
import { codeRow, openZ, permutation } from '../../lib/codec/da/open.ts'
import { decodeRecord, decodeRecords, encodeRecord } from '../../lib/codec/da/records.ts'
import { referenceKernels } from '../../lib/codec/da/reference.ts'
import { decodeMatrix, decodeRows, strictCheck } from '../../lib/codec/da/retrieve.ts'
import { climb, extendRow, pathOf, rootOf } from '../../lib/codec/da/row-tree.ts'
import { defaultLogK, shapeOf, shapeTag } from '../../lib/codec/da/shape.ts'
import type { DaHeader, LineRecord, Shape } from '../../lib/codec/da/types.ts'
import { fromSlice, sublineProof, toSlice } from '../../lib/codec/da/upstream.ts'
import { verifyLines } from '../../lib/codec/da/verify.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { SEED } from '../harness/seed.ts'

// Without a native build hashing is a hundred times slower.
t.setTimeout(120_000)

/** Numbers below n from a seed (xorshift). */
function generator(from: number): (n: number) => number {
  let s = (from ^ 0x9e3779b9) >>> 0 || 1
  return n => {
    s ^= s << 13
    s >>>= 0
    s ^= s >>> 17
    s ^= s << 5
    s >>>= 0
    return s % n
  }
}

const random = generator(SEED)
const bytes = (size: number, from = random): Uint8Array => Uint8Array.from({ length: size }, () => from(256))
const range = (n: number, from = 0): number[] => Array.from({ length: n }, (_, i) => from + i)
/** m different numbers below n, in random order. */
function draw(n: number, m: number, from = random): number[] {
  const all = range(n)
  for (let i = 0; i < m; i++) {
    const j = i + from(n - i)
    ;[all[i], all[j]] = [all[j]!, all[i]!]
  }
  return all.slice(0, m)
}
/** What a refusal must look like. */
const faulty = (fault: string | RegExp): { name: string; fault: string | RegExp } => ({ name: 'DaError', fault })
const flipped = (b: Uint8Array, at = random(b.length)): Uint8Array => {
  const out = b.slice()
  out[at]! ^= 1 << random(8)
  return out
}

t.test('field: Cantor basis, laws, check values', async t => {
  const square = (x: number): number => {
    let product = 0
    for (let i = 0; i < 16; i++) if ((x >> i) & 1) product ^= x << i
    for (let i = 30; i >= 16; i--) if ((product >> i) & 1) product ^= 0x1002d << (i - 16)
    return product
  }
  for (let i = 0; i < 15; i++) {
    const next = CANTOR_BASIS[i + 1]!
    t.equal(square(next) ^ next, CANTOR_BASIS[i], `β${i} = β${i + 1}² + β${i + 1}`)
  }
  t.equal(mul(2, 2), 3)
  t.equal(mul(0x1234, 0x5678), 0x35c9)
  t.equal(inverse(2), 3)
  for (let i = 0; i < 300; i++) {
    const [a, b, c] = [random(65_536), random(65_536), random(65_535) + 1]
    t.equal(mul(a, b ^ c), mul(a, b) ^ mul(a, c))
    t.equal(mul(mul(a, b), c), mul(a, mul(b, c)))
    t.equal(mul(c, inverse(c)), 1)
  }
})

t.test('code: equal to Lagrange interpolation for every k up to 64, linear, decodable from any k rows', async t => {
  const rows = (...symbols: number[]): Uint16Array[] => symbols.map(s => Uint16Array.of(s))
  t.same(
    encodeSymbols(rows(1, 2, 3, 4)).map(r => r[0]),
    [1, 2, 3, 4, 8, 0, 3, 0xf, 9, 0xc, 4, 5]
  )
  for (let k = 1; k <= 64; k *= 2) {
    const data = range(k).map(() => Uint16Array.from({ length: 3 }, () => random(65_536)))
    const all = encodeSymbols(data)
    t.equal(all.length, 3 * k)
    const points = range(k)
    for (let c = 0; c < 3 * k; c++) {
      const want = new Uint16Array(3)
      for (let i = 0; i < k; i++) {
        const l = lagrange(points, i, c)
        for (let j = 0; j < 3; j++) want[j]! ^= mul(l, data[i]![j]!)
      }
      if (!equalBytes(new Uint8Array(want.buffer), new Uint8Array(all[c]!.slice().buffer))) t.fail(`k ${k} row ${c}`)
    }
    const other = range(k).map(() => Uint16Array.from({ length: 3 }, () => random(65_536)))
    const sum = data.map((row, i) => row.map((s, j) => s ^ other[i]![j]!))
    const encoded = encodeSymbols(other)
    t.same(
      encodeSymbols(sum),
      all.map((row, i) => row.map((s, j) => s ^ encoded[i]![j]!)),
      `k ${k} is linear`
    )
    for (const chosen of [draw(3 * k, k), range(k, k), range(k, 2 * k), range(k)]) {
      t.same(
        decodeSymbols(
          chosen,
          chosen.map(c => all[c]!)
        ),
        data,
        `k ${k} decodes`
      )
    }
  }
})

t.test('check values of the two published blobs', async t => {
  const published = Uint8Array.from({ length: 1000 }, (_, i) => (7 * i + Math.floor(i / 256)) % 256)
  for (const kernels of [referenceKernels, daKernels()]) {
    const one = await encodeBlob(Uint8Array.of(0x2a), { kernels })
    t.match(one.header, { k: 1, w: 64, len: 1 })
    const row = '0x13da0232f2988771aee1d565c54ef6851d15f853d75ab3315169b83452a0550b'
    t.same(
      [0, 1, 2].map(c => toHex(one.rowRoot(c))),
      [row, row, row]
    )
    t.equal(toHex(one.header.r0), '0xe5e290c8c2cb61a183b830bcbab8b5d6c9144e7b1afae1cc1ff9e26e2418625a')
    t.equal(toHex(one.z), '0x5b43cf0b7e16aff2407db150e8181660')
    t.equal(toHex(one.header.zHash), '0xbde81ecc109474405f645cedaf1cfea00166160ba91c412f20cdad2b2a4334fb')
    t.same([...one.sigma.subarray(0, 6)], [746, 430, 2068, 662, 1166, 2641])
    t.equal(toHex(one.header.dataRoot), '0xda592b95aadbc5cc07cd458b5d7ac21d3d400be4d0ffa37c8597796482ffcfdd')
    t.equal(toHex(one.commitment.cx), '0xe8b0cf411a1d0eed36b284daf4a6b06c2f6acc11171984a3c74ca90eb7915ddd')
    t.equal(toHex(one.commitment.cy), '0xff01000000004000000000000000010000000000000000000000000000000000')

    const b = await encodeBlob(published, { kernels })
    t.match(b.header, { k: 8, w: 128, len: 1000 })
    t.equal(toHex(b.rowRoot(0)), '0xc50cf3687a196d230796cc07b5e1b805dd2961b28b3598eedc6827131ca9206f')
    t.equal(toHex(b.rowRoot(23)), '0x006cf58c6fd57757603dfb52e78ab0908030ecf7c637a4176a49c0ac2ed54539')
    t.equal(toHex(b.row(8).subarray(0, 8)), '0x6a52f13c76c77479')
    t.equal(toHex(b.row(8).subarray(32, 40)), '0xa2a985b6be4e435e')
    t.equal(toHex(b.header.r0), '0x865f008e7c8bd010aaa2c771c8ade3867ad1cf9e64eafd210ab71d4c1a764b14')
    t.equal(toHex(b.z.subarray(0, 16)), '0xc0f1400913d49497aff209e722b4fe44')
    t.equal(toHex(b.header.zHash), '0x1ab075409bb6a343dd89236f3732375cf8b12b2024aaac5e2c42d580b8009d27')
    t.same([...b.sigma.subarray(0, 6)], [866, 638, 1472, 1897, 2294, 841])
    t.equal(toHex(b.header.dataRoot), '0xbed0ab9167aaaf28c57cd3e3d0ae5d573f4391648a6d479434e952924d8fa4ed')
    t.equal(toHex(b.commitment.cx), '0x77ea0d06054b79894e2ee01ae74cd017fb50feafd2d201b8c56708faa2913551')
    t.equal(toHex(b.commitment.cy), '0xff01030000008000000000000003e80000000000000000000000000000000000')
  }
})

t.test('shapes: the table, borders, and what no blob may have', async t => {
  const table = [
    [1, 1, 64],
    [64, 1, 64],
    [65, 1, 128],
    [127, 1, 128],
    [1024, 16, 64],
    [65_536, 256, 256],
    [1_048_576, 1024, 1024],
    [32_505_852, 1024, 31_744]
  ] as const
  for (const [len, k, w] of table) t.match(shapeOf(len), { len, k, w }, `${len} bytes`)
  for (let i = 0; i < 300; i++) {
    const len = 1 + random(i < 150 ? 5000 : 32_505_852)
    const { k, w, logK } = shapeOf(len)
    t.ok(k * w >= len && len > k * w - 64 * k && w % 64 === 0 && k === 2 ** logK && logK === defaultLogK(len), `${len}`)
    const larger = 2 * k
    t.ok(larger > 1024 || larger * larger > len || larger > Math.max(1, len / 64), `${len}: k is the largest`)
  }
  const refuse = (fault: string, ...args: Parameters<typeof shapeOf>): void => {
    t.throws(() => shapeOf(...args), faulty(fault), args.join(' '))
  }
  for (const len of [0, -1, 1.5, Number.NaN, 32_505_853]) refuse('blob-size', len)
  for (const logK of [-1, 11, 0.5]) refuse('shape', 100, logK)
  refuse('shape', 32_705, 0)
  t.match(shapeOf(32_704, 0), { w: 32_704 })
  await t.rejects(encodeBlob(new Uint8Array(0)), { ...faulty('blob-size'), code: 'ERR_BAD_INPUT' })
})

t.test('length and k are part of the root; equal blobs are equal', async t => {
  const roots = new Set<string>()
  const blobs: [Uint8Array, number?][] = [[Uint8Array.of(0x2a)], [Uint8Array.of(0x2a, 0)]]
  for (const len of [1, 2, 63, 64, 65, 128, 129, 1000, 1001]) blobs.push([new Uint8Array(len)])
  for (const logK of [0, 1, 2, 3, 5]) blobs.push([new Uint8Array(1002), logK])
  for (const [data, logK] of blobs) roots.add(toHex((await encodeBlob(data, { logK })).header.dataRoot))
  t.equal(roots.size, blobs.length)
  const again = await encodeBlob(new Uint8Array(1000))
  t.ok(roots.has(toHex(again.header.dataRoot)))
})

t.test('permutation, placement of rows, trees and paths', async t => {
  for (const len of [1, 200, 1000, 5000, 70_000]) {
    const b = await encodeBlob(bytes(len))
    const { k } = b.header
    t.equal(new Set(b.sigma).size, 3072, 'a permutation')
    const counts = new Uint32Array(3 * k)
    for (let p = 0; p < 3072; p++) counts[b.codeRow(p)]!++
    t.ok(
      counts.every(n => n === 1024 / k),
      `each row on ${1024 / k} places`
    )
    const any = new Set(draw(3072, 1024).map(p => b.codeRow(p)))
    t.ok(any.size >= k, 'any 1 024 lines contain k rows')
    for (const p of draw(3072, 5)) {
      const c = b.codeRow(p)
      t.same(climb(keccak256, b.rowRoot(c), p % 1024, b.linePath(p)), b.header.b[Math.floor(p / 1024)])
      t.same(climb(keccak256, b.rowRoot(c), c, b.rowPath(c)), b.header.r0)
    }
  }
  t.throws(() => pathOf(new Uint8Array(32 * 7), 4), /a node of its level/)
})

t.test('header, commitment and records come back as they went', async t => {
  const b = await encodeBlob(bytes(5000), { logK: 4 })
  t.same(decodeHeader(b.header.bytes), b.header)
  t.same(decodeCy(b.commitment.cy), shapeOf(5000, 4))
  t.same(commitmentFromLe(commitmentToLe(b.commitment)), b.commitment)
  t.same(commitmentToLe(b.commitment).subarray(0, 32).reverse(), b.commitment.cx, 'little endian')
  checkHeader(b.header, { storageRoot: b.header.dataRoot, commitment: b.commitment })
  t.ok(isFastMode(b.commitment.cy))
  const places = draw(3072, 60).sort((x, y) => x - y)
  for (const form of ['paths', 'roots', 'read'] as const) {
    const list = b.records(places, form)
    t.same(decodeRecords(list.map(encodeRecord), b.header), list, form)
  }
  t.equal(signerForm(shapeOf(5000, 4), 1, 900), 'roots', 'k ≤ 32')
  t.equal(signerForm(shapeOf(1 << 20), 31, 32), 'roots', 'few signers')
  t.equal(signerForm(shapeOf(1 << 20), 31, 33), 'paths')
  t.equal(signerForm(shapeOf(1 << 20), 140, 33), 'roots', 'many places')
  const slice = toSlice(b.header.tag, b.row(3))
  t.equal(slice.length, 32_776)
  t.same(fromSlice(b.header, slice), b.row(3))
  t.throws(() => fromSlice(b.header, slice.subarray(1)), faulty('slice-size'))
  for (const at of [0, 1, 8 + b.header.w, 20_000, 32_775]) {
    t.throws(() => fromSlice(b.header, flipped(slice, at)), faulty('slice-form'), `byte ${at}`)
  }
})

t.test('sampling answers lead to the roots that the contract knows', async t => {
  const b = await encodeBlob(bytes(5000), { logK: 4 })
  for (const p of [0, 1500, 2047, 3071]) {
    for (const s of [0, 31, random(32)]) {
      const payload = b.row(b.codeRow(p))
      const { data, path, position } = sublineProof(b.header.tag, { p, payload, linePath: b.linePath(p) }, s)
      t.same(data, extendRow(b.header.tag, payload).subarray(1024 * s, 1024 * (s + 1)))
      const sectors = range(4).map(i => keccak256(data.subarray(256 * i, 256 * (i + 1))))
      const leaf = keccak256(keccak256(sectors[0]!, sectors[1]!), keccak256(sectors[2]!, sectors[3]!))
      t.equal(path.length, 15 * 32)
      t.same(climb(keccak256, leaf, position, path), b.header.b[Math.floor(p / 1024)], `line ${p} sub-line ${s}`)
    }
  }
})

t.test('headers: every field that is wrong has a fault of its own', async t => {
  const b = await encodeBlob(bytes(1000))
  const with_ = (at: number, ...values: number[]): Uint8Array => {
    const out = b.header.bytes.slice()
    out.set(values, at)
    return out
  }
  const cases: [string, Uint8Array][] = [
    ['header-size', b.header.bytes.subarray(1)],
    ['header-size', concat(b.header.bytes, Uint8Array.of(0))],
    ['header-size', new Uint8Array(0)],
    ['header-version', with_(0, 0)],
    ['header-version', with_(0, 2)],
    ['header-k', with_(1, 11)],
    ['header-k', with_(1, 255)],
    ['header-reserved', with_(2, 1)],
    ['header-reserved', with_(3, 1)],
    ['header-w', with_(4, 0, 0)],
    ['header-w', with_(4, 127)],
    ['header-w', with_(4, 0, 0x80)], // 32 768
    ['header-w', with_(4, 64, 0, 0, 1)],
    ['header-len', with_(8, 0, 0)],
    ['header-len', with_(12, 1)],
    ['header-len', with_(8, 0xfd, 0xff, 0xf0, 1)], // 32 505 853 and 128 rows
    ['header-shape', with_(8, 1, 4)], // 1 025
    ['header-shape', with_(8, 0, 2)], // 512
    ['header-shape', with_(1, 2)],
    ['header-shape', with_(4, 192)]
  ]
  for (const at of [80, 111, 112, 143, 144, 175, 176, 207]) cases.push(['data-root', flipped(b.header.bytes, at)])
  const other = await encodeBlob(bytes(1000))
  cases.push([
    'data-root',
    concat(b.header.bytes.subarray(0, 80), other.header.bytes.subarray(80, 176), b.header.dataRoot)
  ])
  for (const [fault, header] of cases) {
    t.throws(() => decodeHeader(header), faulty(fault), `${fault} ${toHex(header.subarray(0, 16))}`)
  }
  // R0 and zHash are bound by the commitment, and by every line.
  for (const at of [16, 47, 48, 79, 8]) {
    const changed = flipped(b.header.bytes, at)
    if (at === 8) changed.set([0xe7], 8) // 999 bytes: the same shape
    const header = decodeHeader(changed)
    t.throws(() => checkHeader(header, { commitment: b.commitment }), faulty('commitment'), `byte ${at}`)
    const wanted = at === 48 || at === 79 ? 'z-hash' : 'row-path'
    await t.rejects(verifyLines(header, b.z, b.records([4], 'paths')), faulty(wanted), `byte ${at}`)
  }
  t.throws(() => checkHeader(b.header, { storageRoot: other.header.dataRoot }), faulty('storage-root'))
  t.throws(() => checkHeader(b.header, { commitment: other.commitment }), faulty('commitment'))
  t.throws(
    () => checkHeader(b.header, { commitment: { ...b.commitment, cx: flipped(b.commitment.cx) } }),
    faulty('commitment')
  )
  t.throws(() => commitmentFromLe(new Uint8Array(63)), faulty('commitment-size'))
  t.throws(() => commitmentFromLe(new Uint8Array(65)), faulty('commitment-size'))
  const cy = b.commitment.cy
  for (let at = 0; at < 32; at++) {
    const changed = cy.slice()
    changed[at]! ^= at === 14 ? 0x80 : at === 13 ? 0x10 : 1
    const read = (() => {
      try {
        return decodeCy(changed)
      } catch (err) {
        return err as { fault: string }
      }
    })()
    t.match(read, at === 14 ? { len: 1000 ^ 0x80 } : faulty('commitment-form'), `CY byte ${at}`)
    t.throws(() => checkHeader(b.header, { commitment: { cx: b.commitment.cx, cy: changed } }), faulty(/^commitment/))
  }
  t.throws(() => decodeCy(new Uint8Array(31)), faulty('commitment-form'))
})

t.test('records as bytes: sizes, versions, flags, places, trailing bytes', async t => {
  const b = await encodeBlob(bytes(5000), { logK: 4 })
  const good = encodeRecord(b.records([7], 'paths')[0]!)
  const with_ = (at: number, ...values: number[]): Uint8Array => {
    const out = good.slice()
    out.set(values, at)
    return out
  }
  const cases: [string, Uint8Array][] = [
    ['record-size', new Uint8Array(0)],
    ['record-size', good.subarray(0, 7)],
    ['record-size', good.subarray(0, good.length - 1)],
    ['record-size', good.subarray(0, good.length - 32)],
    ['record-size', concat(good, Uint8Array.of(0))],
    ['record-version', with_(0, 0)],
    ['record-version', with_(0, 2)],
    ['record-flags', with_(1, 8)],
    ['record-flags', with_(1, 0xff)],
    ['record-place', with_(2, 0, 12)], // 3 072
    ['record-place', with_(2, 0xff, 0xff)],
    ['payload-size', with_(4, 0, 0, 0, 1)],
    ['payload-size', with_(4, 128)],
    ['payload-size', with_(1, 6)],
    ['record-size', with_(1, 3)],
    ['record-size', with_(1, 5)]
  ]
  for (const [fault, record] of cases) t.throws(() => decodeRecord(record, b.header), faulty(fault), fault)
  t.throws(() => decodeRecord(good, shapeOf(5000, 3)), faulty('payload-size'), 'record of another k')
  t.throws(() => decodeRecords(new Array(3073).fill(good), b.header), faulty('record-count'))
})

t.test('lines: one bit anywhere, the wrong blob, place, form or order: each its own fault', async t => {
  const b = await encodeBlob(bytes(5000), { logK: 4 })
  const other = await encodeBlob(bytes(5000), { logK: 4 })
  const { header, z } = b
  const opened = openZ(header, z)
  // Places of which two share a row, and a place that shares none.
  const [first, second] = (() => {
    for (let p = 0; ; p++) {
      for (let q = p + 1; q < p + 40; q++) if (b.codeRow(q) === b.codeRow(p)) return [p, q] as const
    }
  })()
  const alone = range(3072).find(p => p > second && b.codeRow(p) !== b.codeRow(first))!
  const places = [first, second, alone]
  const paths = b.records(places, 'paths')
  const roots = b.records(places, 'roots')
  await verifyLines(header, z, paths, { places })
  await verifyLines(header.bytes, z, roots, { places, rowRoots: b.rowRoots })
  await verifyLines(header, opened, b.records(places, 'read'), { reading: true })
  await verifyLines(header, opened, b.records(places, 'paths'), { rowRoots: b.rowRoots })
  t.same((await verifyLines(header, z, [])).rows.size, 0, 'no lines are fine, the caller knows how many he wants')
  const edit = (i: number, change: Partial<LineRecord>, from = paths): LineRecord[] =>
    from.map((line, j) => (j === i ? { ...line, ...change } : line))
  const [a, s, l] = paths as [LineRecord, LineRecord, LineRecord]
  const longer = (x: Uint8Array, by: number): Uint8Array => (by > 0 ? concat(x, new Uint8Array(by)) : x.subarray(0, by))
  const wrong = (b.codeRow(alone) + 1) % 48
  const cases: [string, LineRecord[]][] = [
    ['row-path', edit(0, { payload: flipped(a.payload!) })],
    ['row-path', edit(2, { rowPath: flipped(l.rowPath!) })],
    ['line-path', edit(1, { linePath: flipped(s.linePath!) })],
    ['payload-size', edit(0, { payload: longer(a.payload!, 64) })],
    ['payload-size', edit(0, { payload: longer(a.payload!, -64) })],
    ['payload-size', edit(0, { payload: new Uint8Array(0) })],
    ['path-size', edit(0, { rowPath: longer(a.rowPath!, 32) })],
    ['path-size', edit(0, { rowPath: longer(a.rowPath!, -32) })],
    ['path-size', edit(1, { linePath: longer(s.linePath!, 32) })],
    ['path-size', edit(1, { linePath: longer(s.linePath!, -32) })],
    ['path-size', edit(1, { linePath: new Uint8Array(0) })],
    ['path-missing', edit(1, { linePath: undefined })],
    ['path-missing', edit(0, { rowPath: undefined })],
    ['payload-missing', edit(0, { payload: undefined })],
    ['payload-missing', edit(2, { payload: undefined })],
    ['payload-differs', edit(1, { payload: flipped(a.payload!) })],
    ['record-order', [s, a, l]],
    ['record-order', [a, l, s]],
    ['record-repeated', [a, a, s, l]],
    ['record-place', edit(2, { p: 3072 })],
    ['record-place', edit(0, { p: -1 })],
    // Another row's payload and proofs under this place; the row's own proofs under another place.
    ['row-path', edit(2, { payload: b.row(wrong), rowPath: b.rowPath(wrong) })],
    ['line-path', edit(2, { p: range(3072, alone + 1).find(p => b.codeRow(p) === b.codeRow(alone))! })],
    // A line of another blob.
    ['row-path', edit(2, other.records([alone], 'paths')[0]!)]
  ]
  for (const [fault, lines] of cases) await t.rejects(verifyLines(header, z, lines), faulty(fault), fault)
  t.match(
    await verifyLines(header, z, edit(1, { payload: a.payload! })).then(v => v.rows.size),
    2,
    'a payload twice is fine'
  )
  for (const given of [[first, alone], [...places, 3071], [first, second, alone + 1], []]) {
    await t.rejects(verifyLines(header, z, paths, { places: given }), faulty('record-places'))
  }
  const rooted: [string, LineRecord[], Uint8Array][] = [
    ['row-root', edit(0, { payload: flipped(a.payload!) }, roots), b.rowRoots],
    ['row-roots', roots, flipped(b.rowRoots)],
    ['row-roots', roots, other.rowRoots],
    ['row-roots-size', roots, longer(b.rowRoots, 32)],
    ['row-roots-size', roots, longer(b.rowRoots, -32)],
    ['row-roots-size', roots, new Uint8Array(0)],
    ['payload-missing', edit(2, { payload: undefined }, roots), b.rowRoots],
    ['line-path', edit(1, { linePath: flipped(b.linePath(second)) }, roots), b.rowRoots]
  ]
  for (const [fault, lines, rowRoots] of rooted)
    await t.rejects(verifyLines(header, z, lines, { rowRoots }), faulty(fault), fault)

  t.throws(() => openZ(header, flipped(z)), faulty('z-hash'))
  t.throws(() => openZ(header, other.z), faulty('z-hash'))
  t.throws(() => openZ(header, opened.e), faulty('z-size'), 'z in encoded form')
  for (const size of [0, 16, z.length - 1, z.length + 1])
    t.throws(() => openZ(header, new Uint8Array(size)), faulty('z-size'))
  await t.rejects(verifyLines(header.bytes.subarray(1), z, paths), faulty('header-size'))

  // The outer tree of a liar: lines dealt out otherwise, all else honest.
  const dealt = b.sigma.slice().reverse()
  const [b0, b1, b2] = lineTrees(b.rowRoots, dealt, daKernels()).map(rootOf)
  const outer = makeHeader(header, { r0: header.r0, zHash: header.zHash, b: [b0!, b1!, b2!] })
  await t.rejects(verifyLines(outer, z, roots, { rowRoots: b.rowRoots }), faulty('outer-tree'))
  await t.rejects(verifyLines(outer, z, paths), faulty('line-path'))

  // k = 1 with another len: every row is equal, only the tag tells.
  const one = await encodeBlob(Uint8Array.of(0x2a))
  const shape = shapeOf(2)
  const lie = makeHeader(shape, { r0: one.header.r0, zHash: one.header.zHash, b: one.header.b })
  for (const form of ['paths', 'roots'] as const) {
    const rowRoots = form === 'roots' ? one.rowRoots : undefined
    await t.rejects(verifyLines(lie, one.z, one.records([9], form), { rowRoots }), faulty(/^row-/))
  }
})

/** A blob by an encoder that commits to any rows and any z. */
interface Forged {
  header: DaHeader
  z: Uint8Array
  rowRoots: Uint8Array
  /** Whether a code row passes a reader's checks. */
  passes(c: number): Promise<string | undefined>
  rows: readonly Uint8Array[]
}

/**
 * @param x - data rows of which z is taken.
 * @param rows - all 3k rows committed to.
 */
async function forge(shape: Shape, x: readonly Uint8Array[], rows: readonly Uint8Array[], noise = 0): Promise<Forged> {
  const kernels = daKernels()
  const tag = shapeTag(shape)
  const rowRoots = await kernels.rowRoots(tag, rows)
  const tree = rowTree(rowRoots, kernels)
  const p = concat(tag, rootOf(tree))
  const z = await kernels.rowSums(p, x)
  for (let i = 0; i < noise; i++) z[random(z.length)] = random(256)
  const zHash = keccak256(z)
  const sigma = permutation(p, zHash, kernels)
  const [b0, b1, b2] = lineTrees(rowRoots, sigma, kernels).map(rootOf)
  const header = makeHeader(shape, { r0: rootOf(tree), zHash, b: [b0!, b1!, b2!] })
  const blob = openZ(header, z)
  const place = range(3 * shape.k).map(c => range(3072).find(q => codeRow(blob, q) === c)!)
  return {
    header,
    z,
    rowRoots,
    rows,
    passes: async c => {
      try {
        const line = { p: place[c]!, payload: rows[c]!, rowPath: pathOf(tree, c) }
        await verifyLines(header, blob, [line], { reading: true })
        return undefined
      } catch (err) {
        return (err as { fault: string }).fault
      }
    }
  }
}

/** What a reader makes of k passing rows: the blob, or ⊥. */
async function read(t: Test, f: Forged, from: readonly number[]): Promise<string> {
  const matrix = await decodeMatrix(f.header, new Map(from.map(c => [c, f.rows[c]!])))
  const check = await strictCheck(f.header, matrix)
  const value = toHex(matrix.subarray(0, f.header.len))
  if (check.exact) return value
  try {
    check.count(f.rowRoots)
    return value
  } catch (err) {
    t.match(err, { fault: 'no-value', code: 'ERR_CORRUPT', message: 'blob encoding does not match its root' })
    return '⊥'
  }
}

/** All 3k rows of a matrix. */
async function rowsOf(shape: Shape, matrix: Uint8Array): Promise<Uint8Array[]> {
  const { k, w } = shape
  const parity = new Uint8Array(2 * k * w)
  await daKernels().encode(shapeTag(shape), matrix, parity)
  const all = concat(matrix, parity)
  return range(3 * k).map(c => all.subarray(c * w, (c + 1) * w))
}

t.test('a lying encoder: wrong rows are refused by their owners, and up to k of them change nothing', async t => {
  const shape = shapeOf(8 * 128, 3)
  const kernels = daKernels()
  for (const e of [0, 1, 5, 8, 9, 16, 24]) {
    const matrix = bytes(shape.k * shape.w)
    const rows = await rowsOf(shape, matrix)
    const bad = new Set(draw(24, e))
    const committed = rows.map((row, c) => (bad.has(c) ? bytes(shape.w) : row))
    const f = await forge(shape, rows.slice(0, 8), committed)
    const good: number[] = []
    for (let c = 0; c < 24; c++) {
      const fault = await f.passes(c)
      t.equal(fault, bad.has(c) ? 'line-code' : undefined, `e ${e} row ${c}`)
      if (fault === undefined) good.push(c)
    }
    t.equal(good.length, 24 - e)
    if (good.length < 8) continue
    const value = await read(
      t,
      f,
      draw(good.length, 8).map(i => good[i]!)
    )
    t.equal(value, e <= 8 ? toHex(matrix) : '⊥', `e ${e}`)
    // Signers with 32 places each; a third of the places signs anything.
    const blob = openZ(f.header, f.z)
    for (let run = 0; run < 20 && e > 8; run++) {
      const sigma = permutation(f.header.p, bytes(32), kernels)
      let signed = 1024
      for (let s = 32; s < 96; s++) {
        if (range(32, 32 * s).every(p => !bad.has(codeRow({ header: blob.header, sigma }, p)))) signed += 32
      }
      t.ok(signed < 2048, 'no certificate')
    }
  }
  const f = await encodeBlob(bytes(shape.len), { logK: 3 })
  const committed = await strictCheck(
    f.header,
    await decodeMatrix(f.header, new Map(range(8, 8).map(c => [c, f.row(c)])))
  )
  t.ok(committed.exact)
  t.equal(committed.count(f.rowRoots), 24)
  t.throws(() => committed.count(flipped(f.rowRoots)), faulty('row-roots'))
  t.throws(() => committed.count(f.rowRoots.subarray(32)), faulty('row-roots-size'))
})

t.test('readers never differ, whatever was committed and whichever rows they got', async t => {
  let values = 0
  let none = 0
  for (let run = 0; run < 150; run++) {
    const logK = random(4)
    const k = 2 ** logK
    const w = 64 * (1 + random(2))
    const shape = shapeOf(k * w - random(64 * k), logK)
    // Bytes beyond len may be anything.
    const matrix = bytes(k * shape.w)
    const rows = await rowsOf(shape, matrix)
    const e = random(3 * k + 1)
    const bad = new Set(draw(3 * k, e))
    // Noise, or rows of another code word, so that two code words compete.
    const rival = await rowsOf(shape, bytes(k * shape.w))
    const mixed = random(2) === 0
    const committed = rows.map((row, c) => (bad.has(c) ? (mixed ? rival[c]! : bytes(shape.w)) : row))
    const f = await forge(shape, (random(4) === 0 ? rival : rows).slice(0, k), committed, random(5) === 0 ? 3 : 0)
    const good: number[] = []
    for (let c = 0; c < 3 * k; c++) if ((await f.passes(c)) === undefined) good.push(c)
    if (good.length < k) continue
    const answers = new Set<string>()
    for (let i = 0; i < 3; i++)
      answers.add(
        await read(
          t,
          f,
          draw(good.length, k).map(j => good[j]!)
        )
      )
    t.equal(answers.size, 1, `run ${run}: k ${k}, ${e} bad rows, ${good.length} pass`)
    const [answer] = answers
    if (answer === '⊥') none++
    else values++
    if (e <= k && good.length >= 2 * k) t.equal(answer, toHex(matrix.subarray(0, shape.len)), 'the value is the data')
  }
  t.comment(`${values} values, ${none} without`)
  t.ok(values > 10 && none > 3, 'both ends were reached')
})

t.test('rows that cannot be decoded are refused', async t => {
  const data = bytes(1000)
  const b = await encodeBlob(data)
  const rows = (list: readonly number[]): Map<number, Uint8Array> => new Map(list.map(c => [c, b.row(c)]))
  t.same(await decodeRows(b.header, rows(range(8))), data)
  t.same(await decodeRows(b.header, rows(draw(24, 8))), data)
  t.same(await decodeRows(b.header, rows(range(24))), data, 'more than enough')
  await t.rejects(decodeRows(b.header, rows(range(7))), faulty('row-count'))
  await t.rejects(decodeRows(b.header, new Map()), faulty('row-count'))
  await t.rejects(decodeRows(b.header, rows(range(7)).set(24, b.row(0))), faulty('row-index'))
  await t.rejects(decodeRows(b.header, rows(range(7)).set(9, b.row(9).subarray(64))), faulty('row-size'))
  await t.rejects(strictCheck(b.header, new Uint8Array(1000)), faulty('row-size'))
})
