/**
 * Proves that the native codec computes what the TypeScript reference and @noble/hashes compute, on every SIMD path of this
 * machine: messages around the block borders, segments of every shape around the borders of sectors and segments, trees of any
 * size. Then that its binding stands wrong arguments, odd buffers and writes while a worker reads, and that a missing, foreign or
 * misconfigured build is said in the right words.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { keccak_256 } from '@noble/hashes/sha3.js'
import fc from 'fast-check'
import t from 'tap'
import { concat } from '../../lib/base/bytes.ts'
import { toHex } from '../../lib/base/hex.ts'
import { packageRoot } from '../../lib/base/package-root.ts'
import { type Codec, codec, loadError, nativePath, reference } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'

const seed = SEED
// Without a compiler there is no native part and the tools run on the reference; the build says so.
const skip = existsSync(nativePath('codec')) ? false : 'no native build here'
const slow = reference()

function bytes(seed: number, size: number): Uint8Array {
  const out = new Uint8Array(size)
  let s = seed >>> 0
  for (let i = 0; i < size; i++) {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0
    out[i] = s >>> 24
  }
  return out
}

/** Runs JavaScript in a new process without the test runner's loader. */
function child(script: string, env: Record<string, string>, args: string[] = []) {
  return spawnSync('/usr/bin/env', ['-u', 'NODE_OPTIONS', process.execPath, ...args, '-e', script], {
    encoding: 'utf8',
    cwd: packageRoot(),
    env: { ...process.env, ...env }
  })
}

t.test('the native codec is in use', { skip }, async t => {
  t.equal(codec().path, 'native')
  t.ok(codec().paths.includes(codec().cpu))
  t.ok(codec().paths.includes('generic'))
  t.equal(slow.path, 'reference')
})

t.test('single messages equal noble on every path, lengths 0 to 560', { skip }, async t => {
  const want = keccak_256.create()
  for (let n = 0; n <= 560; n++) {
    const b = bytes(n, n)
    const hash = keccak_256(b)
    want.update(hash)
    if (toHex(codec().keccak256(b)) !== toHex(hash)) t.fail(`length ${n}`)
  }
  const expected = toHex(want.digest())
  // One process a path: the path of single messages is chosen at load.
  const script = `
    const c = require(${JSON.stringify(nativePath('codec'))})
    const all = []
    for (let n = 0; n <= 560; n++) {
      const b = new Uint8Array(n), out = new Uint8Array(32)
      for (let i = 0, s = n; i < n; i++) { s = (Math.imul(s, 1664525) + 1013904223) >>> 0; b[i] = s >>> 24 }
      c.keccak256(b, out); all.push(out)
    }
    const out = new Uint8Array(32); c.keccak256(Buffer.concat(all), out)
    console.log(c.info().cpu, '0x' + Buffer.from(out).toString('hex'))`
  for (const path of codec().paths) {
    const r = child(script, { ZG_CPU: path })
    t.equal(r.stdout.trim(), `${path} ${expected}`, path)
  }
})

t.test('messages in parts and around the limit of the scratch equal noble', { skip }, async t => {
  for (const n of [0, 1, 64, 1023, 1024, 1025, 3000]) {
    const b = bytes(seed, n)
    for (const cut of [0, 1, n >> 1, n]) {
      t.same(codec().keccak256(b.subarray(0, cut), b.subarray(cut)), keccak_256(b), `${n} bytes cut at ${cut}`)
    }
  }
  t.same(codec().keccak256(), keccak_256(new Uint8Array(0)))
  const first = codec().keccak256(bytes(1, 64))
  const kept = Uint8Array.from(first)
  codec().keccak256(bytes(2, 64))
  t.same(first, kept, 'a later call does not change an earlier result')
  // Workers have a scratch of their own.
  const script = `
    const { Worker } = require('node:worker_threads')
    const code = 'const c = require(process.env.ADDON); let x = 0; for (let i = 0; i < 20000; i++) { c.scratch.fill(i & 7, 32, 96);' +
      'c.hashScratch(64); x = (x * 31 + c.scratch[0]) % 1000003 } require("node:worker_threads").parentPort.postMessage(x)'
    const runs = [0, 1, 2].map(() => new Promise(r => new Worker(code, { eval: true }).on('message', r)))
    Promise.all(runs).then(x => console.log(new Set(x).size))`
  t.equal(child(script, { ADDON: nativePath('codec') }).stdout.trim(), '1')
})

t.test('segments of every shape around the borders equal the reference on every path', { skip }, async t => {
  const sizes = [0, 1, 255, 256, 257, 511, 512, 513, 1024, 2049, 4096, 4097, 65_537, 262_143, 262_144, 262_145, 525_000]
  for (const size of sizes) {
    const data = bytes(seed + size, size)
    const rest = size === 0 ? 0 : ((size - 1) % 262_144) + 1
    const least = Math.max(1, Math.ceil(rest / 256))
    for (const leaves of new Set([least, least + 1, least + 2, least + 6, 1023, 1024])) {
      if (leaves < least || leaves > 1024) continue
      const want = toHex(slow.segmentRootsFlat(data, leaves))
      for (const path of codec().paths) {
        const got = toHex(codec().segmentRootsFlat(data, leaves, path))
        if (got !== want) t.fail(`${path}: ${size} bytes, ${leaves} leaves`)
      }
      const roots = await codec().segmentRoots(data, leaves)
      t.equal(toHex(concat(...roots)), want, `${size} bytes, ${leaves} leaves, on a worker`)
    }
  }
})

t.test('segments of a few leaves and trees of any size equal the reference', { skip }, async t => {
  for (let leaves = 1; leaves <= 40; leaves++) {
    const data = bytes(seed + leaves, leaves * 256 - 3)
    const want = toHex(slow.segmentRootsFlat(data))
    for (const path of codec().paths) t.equal(toHex(codec().segmentRootsFlat(data, undefined, path)), want)
  }
  const law = fc.property(fc.integer({ min: 1, max: 200 }), fc.nat(), (n, s) => {
    const hashes = bytes(s, 32 * n)
    return toHex(codec().treeRoot(hashes)) === toHex(slow.treeRoot(hashes))
  })
  t.doesNotThrow(() => fc.assert(law, { seed, numRuns: 40 }))
})

t.test('both codecs refuse the same wrong input', async t => {
  const both: [string, Codec][] = [['reference', slow]]
  if (skip === false) both.push(['native', codec()])
  const gone = new Uint8Array(256)
  structuredClone(gone.buffer, { transfer: [gone.buffer] })
  for (const [name, c] of both) {
    const bad = { code: 'ERR_BAD_INPUT' }
    t.throws(() => c.segmentRootsSync(new Uint8Array(257), 1), bad, `${name}: data does not fit`)
    t.throws(() => c.segmentRootsSync(new Uint8Array(0), 0), bad, `${name}: no leaves`)
    t.throws(() => c.segmentRootsSync(new Uint8Array(1), 1025), bad, `${name}: too many leaves`)
    t.throws(() => c.segmentRootsSync(new Uint8Array(1), 1.5), bad, `${name}: half a leaf`)
    t.throws(() => c.segmentRootsSync(gone), bad, `${name}: detached`)
    await t.rejects(c.segmentRoots(new Uint8Array(257), 1), bad, `${name}: on a worker`)
    t.throws(() => c.treeRoot(new Uint8Array(0)), bad, `${name}: no hashes`)
    t.throws(() => c.treeRoot(new Uint8Array(33)), bad, `${name}: half a hash`)
  }
})

t.test('the binding refuses what is no Uint8Array and never crashes', { skip }, async t => {
  const addon = createRequire(import.meta.url)(nativePath('codec')) as Record<string, (...args: unknown[]) => unknown>
  const gone = new Uint8Array(32)
  structuredClone(gone.buffer, { transfer: [gone.buffer] })
  const wrong = [
    undefined,
    null,
    1,
    'text',
    {},
    [],
    new ArrayBuffer(32),
    new Uint16Array(16),
    new DataView(new ArrayBuffer(32)),
    gone
  ]
  for (const w of wrong) {
    t.throws(() => addon.keccak256!(w, new Uint8Array(32)), TypeError)
    t.throws(() => addon.keccak256!(new Uint8Array(1), w), TypeError)
    t.throws(() => addon.segmentRoots!(w, 1), TypeError)
    t.throws(() => addon.segmentRootsSync!(w, 1), TypeError)
    t.throws(() => addon.treeRoot!(w), TypeError)
  }
  for (const leaves of [undefined, null, '1', 0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 1025, 2 ** 40]) {
    t.throws(() => addon.segmentRootsSync!(new Uint8Array(1), leaves), TypeError)
    t.throws(() => addon.segmentRoots!(new Uint8Array(1), leaves), TypeError)
  }
  t.throws(() => addon.keccak256!(), TypeError)
  for (const size of [undefined, '1', 1025, 2 ** 32 - 1]) t.throws(() => addon.hashScratch!(size), TypeError)
  t.throws(() => addon.keccak256!(new Uint8Array(1), new Uint8Array(31)), TypeError)
  t.throws(() => addon.segmentRootsSync!(new Uint8Array(257), 1), TypeError)
  t.throws(() => addon.segmentRootsSync!(new Uint8Array(1), 1, 'sse9'), TypeError)
  t.throws(() => addon.segmentRootsSync!(new Uint8Array(1), 1, 9), TypeError)
})

t.test('views at odd offsets, Buffers, shared and resizable memory are read as they are', { skip }, async t => {
  const base = bytes(seed, 300_000)
  for (const offset of [0, 1, 3, 7, 8, 31, 63]) {
    const view = base.subarray(offset, offset + 270_000)
    const want = toHex(slow.segmentRootsFlat(view))
    t.equal(toHex(codec().segmentRootsFlat(view)), want, `offset ${offset}`)
    t.equal(toHex(concat(...(await codec().segmentRoots(Buffer.from(view))))), want, 'Buffer')
  }
  const shared = new Uint8Array(new SharedArrayBuffer(5000))
  shared.set(base.subarray(0, 5000))
  const want = toHex(slow.segmentRootsFlat(base.subarray(0, 5000)))
  t.equal(toHex(concat(...(await codec().segmentRoots(shared)))), want, 'shared')
  const Resizable = ArrayBuffer as unknown as new (
    size: number,
    opts: object
  ) => ArrayBuffer & { resize(n: number): void }
  const memory = new Resizable(5000, { maxByteLength: 10_000 })
  const array = new Uint8Array(memory)
  array.set(base.subarray(0, 5000))
  const running = codec().segmentRoots(array)
  memory.resize(0)
  t.equal(toHex(concat(...(await running))), want, 'resizable memory that shrinks while the worker reads')
  // The result may overwrite the message.
  const addon = createRequire(import.meta.url)(nativePath('codec')) as { keccak256(a: Uint8Array, b: Uint8Array): void }
  const overlapping = bytes(1, 64)
  const hash = keccak_256(overlapping)
  addon.keccak256(overlapping, overlapping.subarray(8, 40))
  t.same(overlapping.slice(8, 40), hash)
})

t.test('writing while workers read crashes nothing, and dropped arrays stay alive until then', { skip }, async t => {
  const data = bytes(seed, 16 * 262_144)
  const want = toHex(codec().segmentRootsFlat(data))
  const running = [codec().segmentRoots(data), codec().segmentRoots(data)]
  for (let i = 0; i < 200; i++) data[(i * 7919) % data.length]! ^= 0xff
  const roots = await Promise.all(running)
  t.equal(roots[0]!.length, 16)
  for (let i = 0; i < 200; i++) data[(i * 7919) % data.length]! ^= 0xff
  t.equal(toHex(concat(...(await codec().segmentRoots(data)))), want, 'the codec is as good as before')
  // Nobody else holds these arrays while they are hashed; the collector runs in between.
  const script = `
    const c = require(${JSON.stringify(nativePath('codec'))})
    const make = i => c.segmentRoots(new Uint8Array(1048576).fill(i), 1024)
    const all = []
    for (let i = 0; i < 32; i++) { all.push(make(i % 2)); globalThis.gc() }
    Promise.all(all).then(r => {
      const hex = r.map(x => Buffer.from(x).toString('hex'))
      console.log(new Set(hex).size, hex[0] === hex[2])
    })`
  t.equal(child(script, {}, ['--expose-gc']).stdout.trim(), '2 true')
})

t.test('the native codec is many times faster than the reference', { skip }, async t => {
  // A build without optimisation passes every other test at 7 times the reference; a right one has 100 times (generic: 20).
  // Processor time, least of three: other work on the machine does not count.
  const data = bytes(1, 1 << 20)
  const cost = (c: Codec, repeat: number) => {
    const runs = [0, 1, 2].map(() => {
      const before = process.cpuUsage()
      for (let i = 0; i < repeat; i++) c.segmentRootsFlat(data)
      const used = process.cpuUsage(before)
      return (used.user + used.system) / repeat
    })
    return Math.min(...runs)
  }
  const ratio = cost(slow, 1) / cost(codec(), 20)
  t.comment(`${ratio.toFixed(0)} times`)
  t.ok(ratio > 12, `${ratio.toFixed(1)} times the reference`)
})

t.test('the build says in one line what is missing, with a status of its own', async t => {
  const r = spawnSync('/usr/bin/env', ['-u', 'NODE_OPTIONS', process.execPath, 'scripts/build-native.mjs'], {
    encoding: 'utf8',
    cwd: packageRoot(),
    env: { ...process.env, CXX: '/nonexistent/c++' }
  })
  t.equal(r.status, 3)
  t.match(r.stderr, /^native: '\/nonexistent\/c\+\+' not found; .+\n$/)
  t.equal(r.stdout, '')
})

t.test('a missing, foreign or misconfigured build is said in the right words', async t => {
  const script =
    "import { codec } from './lib/native.ts'; codec(); console.log(codec().path, codec().keccak256(new Uint8Array(0))[0])"
  const tsx = ['--import', 'tsx', '--input-type=module']
  const off = child(script, { ZG_NATIVE: 'off' }, tsx)
  t.equal(off.stdout.trim(), 'reference 197')
  t.equal(
    off.stderr,
    "zg: native codec not found, using the slower TypeScript reference\nhint: run 'npm run build:native'\n",
    'once, on stderr'
  )
  const dir = await mkdtemp(join(tmpdir(), 'zg-native-'))
  t.teardown(() => rm(dir, { recursive: true }))
  const file = join(dir, 'codec.node')
  await writeFile(file, 'this is no shared object')
  await writeFile(join(dir, 'codec.json'), '{"built":"Node 22 darwin-arm64"}')
  let thrown: unknown
  try {
    createRequire(import.meta.url)(file)
  } catch (err) {
    thrown = err
  }
  const here = `Node ${process.versions.node.split('.')[0]} ${process.platform}-${process.arch}`
  t.match(loadError(thrown, file), {
    code: 'ERR_NATIVE',
    message: `native part was built for Node 22 darwin-arm64, this is ${here}`,
    hint: "run 'npm run build'"
  })
  t.match(loadError(new Error('undefined symbol: x'), join(dir, 'other.node')), {
    code: 'ERR_NATIVE',
    message: /does not load/
  })
  if (skip === false) {
    const bad = child(script, { ZG_CPU: 'mmx' }, tsx)
    t.match(bad.stderr, /ZG_CPU=mmx is not a path of this machine/)
    t.not(bad.status, 0)
  }
})

t.test('segments that lie apart, hashed in one job, have the same roots', { skip }, async t => {
  const sizes = [0, 1, 255, 256, 257, 4096, 65_537, 262_143, 262_144]
  const segments = sizes.map((size, i) => bytes(seed + i, size))
  const leaves = sizes.map(size => Math.max(1, Math.ceil(size / 256)))
  leaves[0] = 1024
  leaves[5] = 32
  const want = segments.map((data, i) => toHex(slow.segmentRootsFlat(data, leaves[i])))
  t.same(
    (await codec().segmentRootsMany(segments, leaves)).map(r => toHex(r)),
    want
  )
  t.same(
    (await slow.segmentRootsMany(segments, leaves)).map(r => toHex(r)),
    want
  )
  await t.rejects(codec().segmentRootsMany([], []), 'none')
  await t.rejects(codec().segmentRootsMany([bytes(1, 262_145)], [1]), 'more than a segment')
  await t.rejects(codec().segmentRootsMany([bytes(1, 512)], [1]), { code: 'ERR_BAD_INPUT' })
  const many = Array.from({ length: 65 }, () => segments[3]!)
  await t.rejects(codec().segmentRootsMany(many, new Array(65).fill(1)), 'more than 64')
})

t.test('base64 into memory of the caller, and the hint about the page cache', { skip }, async t => {
  for (const c of [codec(), slow]) {
    for (const size of [0, 1, 2, 3, 47, 48, 1000]) {
      const data = bytes(size, size)
      const room = new Uint8Array(2000).fill(9)
      const n = c.base64EncodeInto(data, room)
      t.equal(Buffer.from(room.subarray(0, n)).toString('latin1'), Buffer.from(data).toString('base64'))
      t.equal(room[n], 9, 'nothing behind it')
      const back = new Uint8Array(size)
      t.equal(c.base64DecodeInto(room.subarray(0, n), back), size)
      t.same(back, data)
      if (size > 0) t.equal(c.base64DecodeInto(room.subarray(0, n), new Uint8Array(size - 1)), -1, 'no room')
    }
    for (const text of ['A', 'AA', 'AAA', 'AA-_', 'AB==', '====', 'AA\nA']) {
      t.equal(c.base64DecodeInto(Buffer.from(text), new Uint8Array(8)), -1, text)
    }
    c.dropCached(0, 0, 4096)
    c.largeApart()
  }
  t.throws(() => codec().dropCached(-1, 0, 1), TypeError)
  t.throws(() => codec().dropCached(0, Number.NaN, 1), TypeError)
})
