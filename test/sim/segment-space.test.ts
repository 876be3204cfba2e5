/**
 * Proves on the simulated disk what a node does with its space: compaction gives it back and a power loss at any of its writes loses
 * nothing and brings nothing back; the scrubber finds every flipped bit, goes on where it stood after a restart, and a crash while it
 * quarantines costs nothing else; the index is made again from the files alone, under crashes too; with the disk full at each write in
 * turn the log stays up, reads, has nothing half-written, and takes data again; the quota holds. FLIPS sets how many bits are flipped.
 */
import t from 'tap'
import { compact } from '../../cmd/zg-store/disk/compaction.ts'
import { MAX_RECORD_BYTES, type Segment } from '../../cmd/zg-store/disk/record.ts'
import { Scrubber } from '../../cmd/zg-store/disk/scrubber.ts'
import { type LeafOf, SegmentLog, type SegmentLogOptions } from '../../cmd/zg-store/disk/segment-log.ts'
import { equalBytes, utf8 } from '../../lib/base/bytes.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { silentLog } from '../../lib/ops/log.ts'
import type { Clock } from '../../lib/ports/clock.ts'
import type { Disk } from '../../lib/ports/disk.ts'
import { forEveryCrash } from '../../lib/sim/crash.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { SEED } from '../harness/seed.ts'

const FLIPS = Number(process.env.FLIPS ?? 300)

let nowMs = 0
const clock: Clock = {
  now: () => 1_700_000_000_000 + nowMs,
  monotonic: () => nowMs,
  after(_ms, fn) {
    const handle = setImmediate(fn)
    return () => clearImmediate(handle)
  },
  sleep: async () => {}
}
const never = new AbortController().signal
const leafOf: LeafOf = async data => keccak256(data)

function segment(file: number, index: number, sectors = 4): Segment {
  const data = new SeededRandom(`${file}/${index}`).bytes(256 * sectors)
  const proof = {
    siblings: new SeededRandom(`p${file}/${index}`).bytes(32 * (index % 3)),
    path: [true, false].slice(0, index % 3)
  }
  return { root: rootOf(file), index, fileSize: 256, leaf: keccak256(data), proof, data }
}

const rootOf = (file: number): Uint8Array => keccak256(utf8(`file ${file}`))

async function openLog(disk: Disk, more: Partial<SegmentLogOptions> = {}) {
  const kv = await openSimKv(disk, '/kv')
  const log = await SegmentLog.open({
    disk,
    kv,
    clock,
    log: silentLog,
    dir: '/segments',
    leafOf,
    fileBytes: 6000,
    groupMs: 0,
    ...more
  })
  const close = async (): Promise<void> => {
    await log.close()
    await kv.close()
  }
  return { kv, log, close }
}

const scrubberOf = ({ kv, log }: { kv: Awaited<ReturnType<typeof openSimKv>>; log: SegmentLog }) =>
  Scrubber.open({ log, kv, clock, logger: silentLog, periodMs: 86_400_000 })

/** Files 1 (to be forgotten), 2 and 3 mixed over several segment files. */
const MIXED: [file: number, index: number][] = []
for (let i = 0; i < 6; i++) MIXED.push([1, 2 * i], [2, i], [1, 2 * i + 1], [3, i])

async function fill(log: SegmentLog): Promise<void> {
  for (const [f, i] of MIXED) await log.append(segment(f, i))
}

interface Acked {
  stored: [number, number][]
  forgetting: boolean
  forgotten: boolean
}
const fresh = (): Acked => ({ stored: [], forgetting: false, forgotten: false })

/** Everything acknowledged is there and right, what was forgotten is not, nothing else has other bytes. */
async function verify(log: SegmentLog, acked: Acked): Promise<void> {
  for (const [f, i] of acked.stored) {
    const want = segment(f, i)
    const found = await log.read(want.root, i)
    if (f === 1 && acked.forgotten) {
      if (found !== undefined) throw new Error(`segment ${f}/${i} came back after it was forgotten`)
    } else if (found === undefined ? !(f === 1 && acked.forgetting) : !equalBytes(found.data, want.data)) {
      throw new Error(`segment ${f}/${i} was acknowledged and is ${found === undefined ? 'gone' : 'wrong'}`)
    }
  }
}

const compacted = (log: SegmentLog, deadShare = 0.3) => compact({ log, clock, logger: silentLog, deadShare }, never)

t.test('compaction gives back the space of what was forgotten, and everything else stays', async t => {
  const disk = new SimDisk()
  const opened = await openLog(disk)
  await fill(opened.log)
  const size = (): number => disk.files().reduce((n, p) => n + (p.endsWith('.seg') ? disk.peek(p).length : 0), 0)
  const before = size()
  t.equal(opened.log.stats.usedBytes, before, 'the log knows what it takes')
  await opened.log.forget(rootOf(1))
  const done = await compacted(opened.log)
  t.ok(done.files >= 3, `${done.files} files`)
  t.ok(size() < before * 0.7, `${before} bytes before, ${size()} after`)
  t.equal(opened.log.stats.usedBytes, size())
  await verify(opened.log, { stored: MIXED, forgetting: true, forgotten: true })
  await opened.close()
  const again = await openLog(disk)
  await verify(again.log, { stored: MIXED, forgetting: true, forgotten: true })
  t.ok((await compacted(again.log)).files <= 1, 'but what was still being written then')
  t.equal((await compacted(again.log)).files, 0, 'nothing left to do')
  await again.close()
})

t.test('a file that is forgotten while it is moved does not come back', async t => {
  for (let round = 0; round < 12; round++) {
    const disk = new SimDisk()
    const { log, close } = await openLog(disk)
    await fill(log)
    await log.forget(rootOf(1))
    const moving = compacted(log)
    for (let i = 0; i < round; i++) await new Promise(resolve => setImmediate(resolve))
    await log.forget(rootOf(2))
    await moving
    for (let i = 0; i < 6; i++) {
      t.equal(await log.read(rootOf(2), i), undefined)
      t.same((await log.read(rootOf(3), i))?.data, segment(3, i).data)
    }
    await close()
    const again = await openLog(disk)
    for (let i = 0; i < 6; i++) t.equal(await again.log.read(rootOf(2), i), undefined)
    await again.close()
  }
})

t.test('a power loss at any write of forgetting and compaction', async t => {
  const report = await forEveryCrash<Acked>({
    acked: fresh,
    scenario: async (disk, acked) => {
      const { log, close } = await openLog(disk)
      for (const [f, i] of MIXED) {
        await log.append(segment(f, i))
        acked.stored.push([f, i])
      }
      acked.forgetting = true
      await log.forget(rootOf(1))
      acked.forgotten = true
      await compacted(log)
      await close()
    },
    check: async (disk, acked) => {
      for (let round = 0; round < 2; round++) {
        const { log, close } = await openLog(disk)
        await verify(log, acked)
        // And the interrupted work can be done again.
        await compacted(log)
        await verify(log, acked)
        await close()
      }
    },
    seeds: 2,
    seed: SEED
  })
  t.comment(
    `seed ${SEED}: ${report.points} crash points, ${report.runs} recoveries, history ${report.hash.slice(0, 16)}`
  )
  t.ok(report.points > 60)
})

t.test('a power loss at any write of the scrubber and its quarantine', async t => {
  const start = async (): Promise<SimDisk> => {
    const disk = new SimDisk()
    const { log, close } = await openLog(disk)
    await fill(log)
    await close()
    disk.flipBit('/segments/00000001.seg', 8 * (16 + 104 + 300))
    return disk
  }
  const report = await forEveryCrash<Acked>({
    acked: fresh,
    start,
    scenario: async disk => {
      const opened = await openLog(disk)
      await (await scrubberOf(opened)).all(never)
      await opened.close()
    },
    check: async disk => {
      const lost: string[] = []
      const opened = await openLog(disk, { onQuarantine: (_r, i) => lost.push(`${i}`) })
      const result = await (await scrubberOf(opened)).all(never)
      if (result.damaged + 23 < result.segments || result.segments < 23) throw new Error('the pass was not whole')
      let gone = 0
      for (const [f, i] of MIXED) {
        const found = await opened.log.read(rootOf(f), i)
        if (found === undefined) gone++
        else if (!equalBytes(found.data, segment(f, i).data)) throw new Error('wrong bytes served')
      }
      if (gone !== 1) throw new Error(`${gone} segments gone, one bit was flipped`)
      await opened.close()
    },
    seeds: 2,
    seed: SEED
  })
  t.ok(report.points > 3)
})

t.test('the index is made again from the files alone, whenever the power goes', async t => {
  const filled = async (): Promise<SimDisk> => {
    const disk = new SimDisk()
    const { log, close } = await openLog(disk)
    await fill(log)
    await close()
    const next = disk.afterCrash('all', 0)
    for (const p of next.files()) if (p.startsWith('/kv')) await next.remove(p)
    await next.syncDir('/kv')
    return next
  }
  const whole = { stored: MIXED, forgetting: false, forgotten: false }
  const report = await forEveryCrash<Acked>({
    acked: fresh,
    start: filled,
    scenario: async disk => {
      const { log, close } = await openLog(disk)
      t.equal(log.stats.recovered, MIXED.length)
      await close()
    },
    check: async disk => {
      const { log, close } = await openLog(disk)
      await verify(log, whole)
      await close()
    },
    seeds: 3,
    seed: SEED
  })
  t.ok(report.points > 5)
})

t.test('the scrubber finds every flipped bit, and no reader gets one', async t => {
  const whole = new SimDisk()
  {
    const { log, close } = await openLog(whole)
    await fill(log)
    await close()
  }
  const random = new SeededRandom(`scrub ${SEED}`)
  const paths = whole.files().filter(p => p.endsWith('.seg'))
  let found = 0
  for (let k = 0; k < FLIPS; k++) {
    const disk = whole.afterCrash('all', k)
    const path = random.pick(paths)
    // The first bytes of each file are a label for people.
    const bit = 128 + random.below(disk.peek(path).length * 8 - 128)
    disk.flipBit(path, bit)
    const lost: number[] = []
    const opened = await openLog(disk, { onQuarantine: (_r, i) => lost.push(i) })
    const result = await (await scrubberOf(opened)).all(never)
    if (result.damaged !== 1 || lost.length !== 1) t.fail(`flip of bit ${bit} in ${path}: ${result.damaged} found`)
    else found++
    for (const [f, i] of MIXED) {
      const read = await opened.log.read(rootOf(f), i)
      if (read !== undefined && !equalBytes(read.data, segment(f, i).data)) t.fail('wrong bytes served')
    }
    await opened.close()
  }
  t.equal(found, FLIPS)
})

t.test('a scrub pass goes on after a restart, ends, and is overdue when it does not', async t => {
  const disk = new SimDisk()
  {
    const { log, close } = await openLog(disk, { fileBytes: 1e6 })
    await Promise.all(Array.from({ length: 150 }, (_, i) => log.append(segment(4, i, 1))))
    await close()
  }
  let opened = await openLog(disk)
  let scrubber = await scrubberOf(opened)
  await scrubber.step()
  const position = scrubber.state.position
  t.equal(scrubber.state.segments, 64)
  t.equal(scrubber.state.lastPassMs, 0)
  await opened.close()
  opened = await openLog(disk)
  scrubber = await scrubberOf(opened)
  t.equal(scrubber.state.position, position)
  await scrubber.step()
  t.equal(scrubber.state.lastPassMs, 0)
  await scrubber.step()
  t.equal(scrubber.state.segments, 86, 'the rest, each once')
  t.ok(scrubber.state.lastPassMs > 0)
  t.equal(scrubber.state.position, 0)
  t.equal(scrubber.state.overdue, false)
  nowMs += 86_400_001
  t.equal(scrubber.state.overdue, true)
  t.equal((await scrubber.all(never)).segments, 150)
  t.equal(scrubber.state.overdue, false)
  await opened.close()
})

t.test('with the disk full at each write in turn the log stays up, and has nothing half-written', async t => {
  const whole = new SimDisk()
  const total = await run(whole, Number.POSITIVE_INFINITY)
  const bytes = whole.files().reduce((n, p) => n + whole.peek(p).length, 0)
  t.equal(total.refused, 0)
  let refusals = 0
  let points = 0
  for (let capacity = 300; capacity < bytes; capacity += 397) {
    points++
    const disk = new SimDisk()
    const { refused } = await run(disk, capacity)
    if (refused > 0) refusals++
  }
  t.comment(`${points} capacities, ${refusals} with refusals`)
  t.ok(refusals > 20)

  async function run(disk: SimDisk, capacityBytes: number): Promise<{ refused: number }> {
    const acked = fresh()
    let refused = 0
    // The index lies elsewhere: a full disk stops LevelDB for good, which is why the log keeps a reserve for it.
    const kv = await openSimKv(new SimDisk(), '/kv')
    const options = { disk, kv, clock, log: silentLog, dir: '/segments', leafOf, fileBytes: 6000, groupMs: 0 }
    disk.faults = { capacityBytes }
    let log: SegmentLog
    try {
      log = await SegmentLog.open(options)
    } catch (err) {
      t.ok(err instanceof ZgError && err.code === 'ERR_DISK_FULL')
      return { refused: 1 }
    }
    for (const [f, i] of MIXED) {
      nowMs += 2000
      try {
        await log.append(segment(f, i))
        acked.stored.push([f, i])
      } catch (err) {
        if (!(err instanceof ZgError) || err.code !== 'ERR_DISK_FULL') throw err
        refused++
        if (log.trouble?.kind !== 'full') t.fail('a full disk is not told')
      }
    }
    acked.forgetting = true
    await log.forget(rootOf(1))
    acked.forgotten = true
    await compacted(log)
    await verify(log, acked)
    // Room comes back, and with it the writing.
    disk.faults = {}
    nowMs += 2000
    await log.append(segment(7, 0))
    if (log.trouble !== undefined) t.fail('room is not noticed')
    await log.close()
    const again = await SegmentLog.open(options)
    await verify(again, { ...acked, stored: [...acked.stored, [7, 0]] })
    // What was refused left nothing that a reader could meet.
    for (const [f, i] of MIXED) {
      const found = await again.read(rootOf(f), i)
      if (found !== undefined && !equalBytes(found.data, segment(f, i).data)) t.fail('half a segment')
    }
    await again.close()
    return { refused }
  }
})

t.test('the quota refuses, is told, and gives way when something is forgotten', async t => {
  const disk = new SimDisk()
  const { log, close } = await openLog(disk, { quotaBytes: 30_000 })
  await fill(log)
  let refused = false
  for (let i = 0; i < 10 && !refused; i++) {
    await log.append(segment(8, i)).catch(err => {
      t.match(err, { code: 'ERR_DISK_FULL', message: /quota/ })
      refused = true
    })
  }
  t.ok(refused)
  t.ok(log.stats.usedBytes <= 30_000)
  await log.reconsider()
  t.equal(log.trouble?.kind, 'full', 'no room yet')
  await log.forget(rootOf(1))
  t.ok((await compacted(log)).files > 0, 'compaction works at the quota')
  nowMs += 2000
  t.equal(await log.append(segment(8, 100)), 'stored')
  t.equal(log.trouble, undefined)
  await close()
})

t.test('memory of the caller is used where the disk can, and nothing of it leaks into what is kept', async t => {
  const disk = new SimDisk()
  const { log, close } = await openLog(disk)
  await log.append(segment(5, 2))
  const memory = Buffer.alloc(MAX_RECORD_BYTES, 0xee)
  const found = (await log.read(rootOf(5), 2, memory))!
  const copy = { leaf: found.leaf.slice(), siblings: found.proof.siblings.slice() }
  memory.fill(0x11)
  t.same(found.leaf, copy.leaf)
  t.same(found.proof.siblings, copy.siblings)
  await close()
})
