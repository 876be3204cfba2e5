/**
 * The simulated disk really loses, tears and reorders what was not synced, and keeps what was. A program that forgets a sync must
 * be caught by forEveryCrash (the canaries); the same program with it must pass. Seeds and counts are printed.
 */
import t from 'tap'
import type { Disk } from '../../lib/ports/disk.ts'
import { forEveryCrash } from '../../lib/sim/crash.ts'
import { PAGE_BYTES, SimCrash, SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'

const SEED = process.env.TEST_SEED ?? 'disk'

/** Replaces a small file the way POSIX demands: temporary file, sync, rename, sync of the directory. */
async function replaceFile(
  disk: Disk,
  dir: string,
  name: string,
  data: Uint8Array,
  skip?: 'file' | 'dir'
): Promise<void> {
  await disk.remove(`${dir}/${name}.tmp`)
  const file = await disk.open(`${dir}/${name}.tmp`, 'new')
  await file.write(0, data)
  if (skip !== 'file') await file.sync()
  await file.close()
  await disk.rename(`${dir}/${name}.tmp`, `${dir}/${name}`)
  if (skip !== 'dir') await disk.syncDir(dir)
}

const version = (n: number): Uint8Array => new Uint8Array(3 * PAGE_BYTES).fill(n)

async function readVersion(disk: Disk): Promise<number> {
  if (!(await disk.exists('/d/state'))) return 0
  const file = await disk.open('/d/state', 'open')
  const data = await file.read(0, 4 * PAGE_BYTES)
  const n = data[0]
  if (data.length !== 3 * PAGE_BYTES || n === undefined || n === 0 || data.some(b => b !== n)) throw new Error('torn')
  return n
}

/** Writes versions 1 to 5 one after the other; the newest acknowledged one may never be lost, none may ever be torn. */
const replaceAll = (skip?: 'file' | 'dir') =>
  forEveryCrash<{ last: number }>({
    seed: SEED,
    acked: () => ({ last: 0 }),
    async scenario(disk, acked) {
      await disk.mkdir('/d')
      for (let n = 1; n <= 5; n++) {
        await replaceFile(disk, '/d', 'state', version(n), skip)
        acked.last = n
      }
    },
    async check(disk, acked) {
      const n = await readVersion(disk)
      if (n !== acked.last && n !== acked.last + 1) throw new Error(`version ${n} after ${acked.last} was acknowledged`)
    }
  })

t.test('replacing a file survives a crash at every operation', async t => {
  const report = await replaceAll()
  t.comment(`seed ${SEED}: ${report.points} crash points, ${report.runs} reopenings, history ${report.hash}`)
  t.equal(report.points, 27, 'mkdir, five times create, write, sync, rename and syncDir, the end')
  t.equal(report.runs, 27 * 12)
  t.equal((await replaceAll()).hash, report.hash, 'two runs have one history')
})

t.test('canary: without the file sync a torn or empty file is found', async t => {
  await t.rejects(replaceAll('file'), { message: /^crash at \d+ of \d+ \(.*\), mode \w+, seed \S+: torn$/ })
})

t.test('canary: without the directory sync a lost version is found', async t => {
  await t.rejects(replaceAll('dir'), { message: /version 0 after 1 was acknowledged/ })
})

t.test('canary: a write that was not awaited is not covered by the sync', async t => {
  const run = (awaited: boolean) =>
    forEveryCrash<{ done: boolean }>({
      seed: SEED,
      acked: () => ({ done: false }),
      async scenario(disk, acked) {
        const file = await disk.open('/f', 'new')
        await disk.syncDir('/')
        const writing = file.write(0, Uint8Array.of(1))
        // A crash in the sync leaves it behind, rejected.
        writing.catch(() => {})
        if (awaited) await writing
        await file.sync()
        await writing
        acked.done = true
      },
      async check(disk, acked) {
        if (!acked.done) return
        const data = await (await disk.open('/f', 'open')).read(0, 1)
        if (data[0] !== 1) throw new Error('lost')
      }
    })
  await run(true)
  await t.rejects(run(false), { message: /lost$/ })
})

t.test('each mode leaves what it says', async t => {
  const disk = new SimDisk()
  const file = await disk.open('/f', 'new')
  await file.write(0, new Uint8Array(2 * PAGE_BYTES).fill(1))
  await file.sync()
  await disk.syncDir('/')
  await file.write(0, new Uint8Array(8 * PAGE_BYTES).fill(2))
  await file.write(8 * PAGE_BYTES, new Uint8Array(100).fill(3))
  await (await disk.open('/g', 'new')).close()
  disk.crashNow()
  await t.rejects(file.read(0, 1), SimCrash)
  await t.rejects(disk.list('/'), SimCrash)

  t.same(disk.afterCrash('none').files(), ['/f'])
  t.same(disk.afterCrash('none').peek('/f'), new Uint8Array(2 * PAGE_BYTES).fill(1))
  t.same(disk.afterCrash('all').files(), ['/f', '/g'])
  t.same(disk.afterCrash('all').peek('/f'), disk.peek('/f'))

  const seen = { tornWrite: 0, mixed: 0, holes: 0, order: 0, nameLost: 0, nameKept: 0 }
  for (let seed = 0; seed < 100; seed++) {
    const after = disk.afterCrash('prefix', seed).peek('/f')
    const twos = after.filter(b => b === 2).length
    // A prefix has no gap: what follows the last new byte is old or absent.
    t.equal(after.lastIndexOf(2) + 1, twos)
    if (twos > 0 && twos < 8 * PAGE_BYTES && twos % PAGE_BYTES !== 0) seen.tornWrite++

    const subset = disk.afterCrash('subset', seed)
    if (subset.files().includes('/g')) seen.nameKept++
    else seen.nameLost++
    const bytes = subset.peek('/f')
    const pages: (number | undefined)[] = []
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const page = bytes.subarray(at, at + PAGE_BYTES)
      if (page.length === PAGE_BYTES && page.some(b => b !== page[0])) t.fail('a page is torn inside')
      pages.push(page[0])
    }
    if (pages[0] !== pages[1]) seen.mixed++
    if (pages.slice(2, 8).includes(0)) seen.holes++
    if (pages[8] === 3 && pages.slice(0, 8).some(p => p !== 2)) seen.order++
  }
  t.comment(JSON.stringify(seen))
  for (const [what, count] of Object.entries(seen)) t.ok(count > 0, `${what} happens`)
  t.equal(disk.afterCrash('subset', 5).peek('/f').join(), disk.afterCrash('subset', 5).peek('/f').join())
})

t.test('a rename between directories never loses both names', async t => {
  const disk = new SimDisk()
  await disk.mkdir('/a')
  await disk.mkdir('/b')
  const file = await disk.open('/a/x', 'new')
  await file.write(0, Uint8Array.of(7))
  await file.sync()
  await disk.syncDir('/a')
  await disk.rename('/a/x', '/b/x')
  const outcomes = new Set<string>()
  const crash = (): void => {
    for (let seed = 0; seed < 100; seed++) outcomes.add(disk.afterCrash('subset', seed).files().join())
  }
  crash()
  t.same([...outcomes].sort(), ['/a/x', '/a/x,/b/x', '/b/x'])
  outcomes.clear()
  await disk.syncDir('/a')
  crash()
  t.same([...outcomes], ['/b/x'], 'the synced removal brings the new name with it')
})

t.test('the simulated store keeps every synced batch, whole, through every crash', async t => {
  const batches = 14
  const run = (sync: (i: number) => boolean) =>
    forEveryCrash<{ synced: number; done: number }>({
      seed: SEED,
      acked: () => ({ synced: 0, done: 0 }),
      async scenario(disk, acked) {
        const kv = await openSimKv(disk, '/kv')
        for (let i = 1; i <= batches; i++) {
          const value = new Uint8Array(700 * i).fill(i)
          const ops = [
            { put: Uint8Array.of(0), value: Uint8Array.of(i) },
            { put: Uint8Array.of(1, i), value }
          ]
          await kv.batch(ops, { sync: i % 3 === 0 && sync(i) })
          acked.done = i
          if (i % 3 === 0) acked.synced = i
        }
        await kv.close()
      },
      async check(disk, acked, at) {
        const kv = await openSimKv(disk, '/kv')
        const last = (await kv.get(Uint8Array.of(0)))?.[0] ?? 0
        if (last < acked.synced) throw new Error(`batch ${last} is the last after ${acked.synced} was synced`)
        if (at.mode === 'all' && last < acked.done) throw new Error('an issued batch is gone without power loss')
        let next = 1
        for await (const [key, value] of kv.scan({ gte: Uint8Array.of(1) })) {
          if (key[1] !== next || value.length !== 700 * next || value.some(b => b !== next)) throw new Error('a gap')
          next++
        }
        if (next - 1 !== last) throw new Error('half a batch')
        // What is written after recovery must survive the next power loss at once.
        await kv.batch([{ put: Uint8Array.of(9), value: Uint8Array.of(9) }], { sync: true })
        disk.crashNow()
        const again = await openSimKv(disk.afterCrash('subset', at.seed), '/kv')
        if ((await again.get(Uint8Array.of(9)))?.[0] !== 9) throw new Error('a batch after recovery is lost')
      }
    })
  const report = await run(() => true)
  t.comment(`seed ${SEED}: ${report.points} crash points, ${report.runs} reopenings`)
  t.equal(report.runs, report.points * 12)
  await t.rejects(
    run(i => i !== 9),
    { message: /after 9 was synced/ },
    'canary: one sync forgotten'
  )
})

t.test('full disks, failing calls and flipped bits appear where they are ordered', async t => {
  const disk = new SimDisk()
  disk.faults = { capacityBytes: 1000 }
  const file = await disk.open('/f', 'new')
  await file.write(0, new Uint8Array(900).fill(1))
  await t.rejects(file.write(900, new Uint8Array(200).fill(2)), { code: 'ERR_DISK_FULL' })
  t.equal(await file.size(), 1000, 'what fitted is there')
  await file.write(0, new Uint8Array(500).fill(3))
  await file.truncate(100)
  await file.write(100, new Uint8Array(900))

  const failing = new SimDisk()
  failing.faults = { failWrite: 2, failSync: 2, failRead: 2 }
  const g = await failing.open('/g', 'new')
  await g.write(0, new Uint8Array(10).fill(1))
  await g.sync()
  await t.rejects(g.write(10, new Uint8Array(10).fill(2)), { code: 'ERR_IO' })
  t.equal(await g.size(), 15, 'half of it was written')
  t.equal((await g.read(0, 1))[0], 1)
  await t.rejects(g.read(0, 1), { code: 'ERR_IO' })
  await t.rejects(g.sync(), { code: 'ERR_IO' })
  await t.rejects(g.write(0, Uint8Array.of(1)), { code: 'ERR_IO' }, 'a file is dead after a failed sync')
  const reopened = await failing.open('/g', 'open')
  await reopened.sync()
  await failing.syncDir('/')
  failing.crashNow()
  t.equal(failing.afterCrash('all').peek('/g').length, 10, 'a later, good sync does not bring the lost writes back')

  const rot = new SimDisk()
  const h = await rot.open('/h', 'new')
  await h.write(0, new Uint8Array(4))
  await h.sync()
  await rot.syncDir('/')
  rot.flipBit('/h', 9)
  t.same([...(await h.read(0, 4))], [0, 2, 0, 0])
  rot.crashNow()
  t.same([...rot.afterCrash('none').peek('/h')], [0, 2, 0, 0])
})

t.test('a scenario that differs between runs is refused', async t => {
  let run = 0
  const plan = {
    acked: () => null,
    async scenario(disk: SimDisk) {
      await disk.mkdir('/a')
      await (await disk.open(`/a/${run++}`, 'new')).close()
    },
    async check() {}
  }
  await t.rejects(forEveryCrash(plan), { message: /not deterministic/ })
})
