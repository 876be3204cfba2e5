/**
 * What every implementation of a port must do, as functions over a tap-like test object: real and simulated forms pass the same
 * suite, so a test on the simulated one says something about the real one.
 */
import { concat } from '../base/bytes.ts'
import { ZgError } from '../base/errors.ts'
import type { Disk } from './disk.ts'
import type { KvStore } from './kv.ts'

/** The few methods of a tap test that the suites use. */
export interface ComplianceTest {
  test(name: string, fn: (t: ComplianceTest) => Promise<void>): unknown
  equal(found: unknown, wanted: unknown, ...message: [] | [string]): unknown
  same(found: unknown, wanted: unknown, ...message: [] | [string]): unknown
}

/**
 * The suite of {@link Disk}.
 * @param fresh - gives a disk and an empty directory on it for each test.
 */
export async function diskCompliance(
  t: ComplianceTest,
  fresh: () => Promise<{ disk: Disk; dir: string }>
): Promise<void> {
  await t.test('bytes written are read back, wherever they were written', async t => {
    const { disk, dir } = await fresh()
    const file = await disk.open(`${dir}/f`, 'create')
    t.equal(await file.size(), 0)
    await file.write(0, bytes(10, 1))
    await file.write(5000, bytes(3, 2), new Uint8Array(0), bytes(4, 3))
    t.equal(await file.size(), 5007)
    t.same([...(await file.read(0, 12))], [...bytes(10, 1), 0, 0])
    t.same([...(await file.read(4999, 100))], [0, ...bytes(3, 2), ...bytes(4, 3)], 'a read stops at the end')
    t.equal((await file.read(6000, 10)).length, 0, 'a read behind the end is empty')
    await file.write(2, bytes(1, 9))
    t.same([...(await file.read(1, 3))], [1, 9, 1])
    await file.sync()
    await file.close()
    const again = await disk.open(`${dir}/f`, 'open')
    t.equal(await again.size(), 5007)
    await again.close()
  })
  await t.test('large writes of many buffers arrive whole', async t => {
    const { disk, dir } = await fresh()
    const file = await disk.open(`${dir}/f`, 'new')
    const parts = Array.from({ length: 1500 }, (_, i) => bytes(1 + (i % 2000), i % 251))
    await file.write(7, ...parts)
    const whole = concat(...parts)
    t.same(Buffer.compare(await file.read(7, whole.length + 5), whole), 0)
    await file.close()
  })
  await t.test('cold writes of any size at any place are plain writes to whoever reads', async t => {
    const { disk, dir } = await fresh()
    const file = await disk.open(`${dir}/f`, 'new')
    let whole: Uint8Array = bytes(4097, 5)
    await file.write(0, whole)
    // Below and above what an implementation may treat apart, blocks begun and ended in the middle, and one that ends at a block.
    const sizes = [
      [104, 262_144, 136, 262_144],
      [3],
      [1_500_000, 0, 700_001],
      [9],
      [4 * 1024 * 1024 + 5],
      [655_360],
      [1]
    ]
    for (const [i, parts] of sizes.entries()) {
      // Read first, so that stale pages would show.
      t.same(Buffer.compare(await file.read(0, whole.length + 1), whole), 0)
      const buffers = parts.map((n, k) => bytes(n, 16 * i + k))
      if (file.writeCold === undefined) await file.write(whole.length, ...buffers)
      else await file.writeCold(whole.length, ...buffers)
      whole = concat(whole, ...buffers)
      t.equal(await file.size(), whole.length)
    }
    const patch = bytes(1_048_577, 77)
    await (file.writeCold === undefined ? file.write(4095, patch) : file.writeCold(4095, patch))
    whole.set(patch, 4095)
    t.same(Buffer.compare(await file.read(0, whole.length + 1), whole), 0)
    await file.sync()
    t.equal(await file.size(), whole.length)
    await file.close()
  })
  await t.test('what is read is a copy, and what was written may be reused', async t => {
    const { disk, dir } = await fresh()
    const file = await disk.open(`${dir}/f`, 'new')
    const mine = bytes(4, 1)
    await file.write(0, mine)
    mine.fill(7)
    const read = await file.read(0, 4)
    read.fill(8)
    t.same([...(await file.read(0, 4))], [1, 1, 1, 1])
    t.equal(read.constructor, Uint8Array, 'a plain byte array, not a Buffer')
    await file.close()
  })
  await t.test('truncation cuts and zero-extends', async t => {
    const { disk, dir } = await fresh()
    const file = await disk.open(`${dir}/f`, 'new')
    await file.write(0, bytes(100, 5))
    await file.truncate(10)
    t.equal(await file.size(), 10)
    await file.truncate(20)
    t.same([...(await file.read(8, 100))], [5, 5, ...new Uint8Array(10)])
    await file.close()
  })
  await t.test('open modes say no with the right code', async t => {
    const { disk, dir } = await fresh()
    t.equal(await codeOf(() => disk.open(`${dir}/f`, 'open')), 'ERR_NOT_FOUND')
    await (await disk.open(`${dir}/f`, 'new')).close()
    t.equal(await codeOf(() => disk.open(`${dir}/f`, 'new')), 'ERR_EXISTS')
    const file = await disk.open(`${dir}/f`, 'create')
    await file.write(0, bytes(1, 1))
    await file.close()
    const kept = await disk.open(`${dir}/f`, 'create')
    t.equal(await kept.size(), 1, 'create keeps what is there')
    await kept.close()
    t.equal(await codeOf(() => disk.open(`${dir}/no/f`, 'create')), 'ERR_NOT_FOUND')
    t.equal(await codeOf(() => disk.open(dir, 'open')), 'ERR_IO')
  })
  await t.test('directories are made with their parents, listed in order and missed by name', async t => {
    const { disk, dir } = await fresh()
    await disk.mkdir(`${dir}/a/b/c`)
    await disk.mkdir(`${dir}/a/b/c`)
    for (const name of ['z', 'B', 'a1']) await (await disk.open(`${dir}/a/${name}`, 'new')).close()
    t.same(await disk.list(`${dir}/a`), ['B', 'a1', 'b', 'z'])
    t.same(await disk.list(`${dir}/a/b/c`), [])
    t.equal(await codeOf(() => disk.list(`${dir}/no`)), 'ERR_NOT_FOUND')
    t.equal(await codeOf(() => disk.mkdir(`${dir}/a/z`)), 'ERR_EXISTS')
    t.equal(await codeOf(() => disk.syncDir(`${dir}/no`)), 'ERR_NOT_FOUND')
    t.same(
      [await disk.exists(`${dir}/a`), await disk.exists(`${dir}/a/z`), await disk.exists(`${dir}/q`)],
      [true, true, false]
    )
  })
  await t.test('rename replaces its target, and open files outlive their names', async t => {
    const { disk, dir } = await fresh()
    await disk.mkdir(`${dir}/d`)
    const one = await disk.open(`${dir}/one`, 'new')
    const two = await disk.open(`${dir}/two`, 'new')
    await one.write(0, bytes(1, 1))
    await two.write(0, bytes(1, 2))
    await disk.rename(`${dir}/one`, `${dir}/two`)
    await disk.rename(`${dir}/two`, `${dir}/d/three`)
    await disk.syncDir(dir)
    await disk.syncDir(`${dir}/d`)
    t.same(await disk.list(dir), ['d'])
    t.same([...(await two.read(0, 1))], [2], 'the replaced file is still readable')
    const three = await disk.open(`${dir}/d/three`, 'open')
    t.same([...(await three.read(0, 1))], [1])
    await disk.remove(`${dir}/d/three`)
    await disk.remove(`${dir}/d/three`)
    t.same([...(await three.read(0, 1))], [1], 'so is the removed one')
    t.equal(await codeOf(() => disk.rename(`${dir}/one`, `${dir}/x`)), 'ERR_NOT_FOUND')
    for (const file of [one, two, three]) await file.close()
  })
}

/**
 * The suite of {@link KvStore}.
 * @param fresh - gives an opener of one empty store; each call of it opens that same store again.
 */
export async function kvCompliance(t: ComplianceTest, fresh: () => Promise<() => Promise<KvStore>>): Promise<void> {
  const key = (...b: number[]): Uint8Array => Uint8Array.from(b)
  const put = (k: Uint8Array, value: Uint8Array) => ({ put: k, value })

  await t.test('what a batch put is there, what it deleted is not, after reopening too', async t => {
    const open = await fresh()
    const kv = await open()
    t.equal(await kv.get(key(1)), undefined)
    await kv.batch([put(key(1), bytes(3, 1)), put(key(2), new Uint8Array(0)), put(key(3), bytes(100_000, 3))], {
      sync: true
    })
    await kv.batch([{ del: key(1) }, { del: key(77) }, put(key(4), bytes(1, 4)), put(key(4), bytes(1, 5))])
    await kv.batch([])
    const look = async (kv: KvStore): Promise<(number[] | undefined)[]> =>
      (await kv.getMany([key(1), key(2), key(4), key(9)])).map(v => v && [...v])
    t.same(await look(kv), [undefined, [], [5], undefined])
    await kv.close()
    const again = await open()
    t.same(await look(again), [undefined, [], [5], undefined])
    t.equal((await again.get(key(3)))?.length, 100_000)
    t.same(
      [key(4), key(2), key(9)].map(k => again.getSync(k)?.length),
      [1, 0, undefined],
      'without waiting too'
    )
    await again.close()
  })
  await t.test('scans are in bytewise order, half open, reversed and limited on demand', async t => {
    const kv = await (await fresh())()
    const keys = [key(0), key(0, 0), key(0, 255), key(1), key(1, 2), key(128), key(255), key(255, 0)]
    await kv.batch([...keys].reverse().map((k, i) => put(k, bytes(1, i))))
    const scan = async (range: Parameters<KvStore['scan']>[0]): Promise<number[][]> => {
      const out: number[][] = []
      for await (const [k] of kv.scan(range)) out.push([...k])
      return out
    }
    const all = keys.map(k => [...k])
    t.same(await scan({}), all)
    t.same(await scan({ reverse: true }), [...all].reverse())
    t.same(await scan({ gte: key(0, 0), lt: key(1, 2) }), all.slice(1, 4))
    t.same(await scan({ gte: key(0, 0), lt: key(1, 2), reverse: true, limit: 2 }), [all[3], all[2]])
    t.same(await scan({ gte: key(200) }), all.slice(6))
    t.same(await scan({ limit: 0 }), [])
    t.same(await scan({ gte: key(5), lt: key(5) }), [])
    t.same(await scan({ gte: key(9), lt: key(5) }), [])
    await kv.close()
  })
  await t.test('a scan is a snapshot taken when it was asked for, and may be left early', async t => {
    const kv = await (await fresh())()
    await kv.batch(Array.from({ length: 500 }, (_, i) => put(key(i >> 8, i & 255), bytes(1, 1))))
    const before = kv.scan({})
    await kv.batch([{ del: key(0, 3) }, put(key(9), bytes(1, 2)), put(key(0, 0), bytes(1, 2))])
    let count = 0
    let ones = 0
    for await (const [, value] of before) {
      count++
      ones += value[0]!
    }
    t.same([count, ones], [500, 500])
    for await (const [k] of kv.scan({})) {
      t.same([...k], [0, 0])
      break
    }
    await kv.close()
  })
  await t.test('buffers are copied, results are plain byte arrays', async t => {
    const kv = await (await fresh())()
    const k = key(1)
    const v = bytes(2, 1)
    await kv.batch([put(k, v)])
    k.fill(9)
    v.fill(9)
    const got = await kv.get(key(1))
    t.same([...got!], [1, 1])
    t.equal(got!.constructor, Uint8Array)
    got!.fill(7)
    t.same([...(await kv.get(key(1)))!], [1, 1])
    await kv.close()
  })
  await t.test('concurrent batches land in the order they were issued', async t => {
    const kv = await (await fresh())()
    await Promise.all(
      Array.from({ length: 50 }, (_, i) => kv.batch([put(key(1), bytes(1, i))], { sync: i % 10 === 0 }))
    )
    t.same([...(await kv.get(key(1)))!], [49])
    await kv.close()
  })
  await t.test('a closed store says so', async t => {
    const kv = await (await fresh())()
    await kv.close()
    await kv.close()
    t.equal(await codeOf(() => kv.get(key(1))), 'ERR_STOPPED')
    t.equal(await codeOf(() => kv.batch([{ del: key(1) }])), 'ERR_STOPPED')
  })
}

function bytes(size: number, value: number): Uint8Array {
  return new Uint8Array(size).fill(value)
}

async function codeOf(fn: () => Promise<unknown>): Promise<string> {
  try {
    await fn()
    return 'no error'
  } catch (err) {
    return err instanceof ZgError ? err.code : `not a ZgError: ${err}`
  }
}
