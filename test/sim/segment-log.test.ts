/**
 * Proves on the simulated disk that the segment log and the file states built on it keep what they promised: power is cut at every
 * write of a scenario, every mode of unsynced writes is tried, and after each reopening all acknowledged segments are read
 * back exactly, nothing else is ever served, and work goes on. The canary, a disk whose sync does nothing, must be found out.
 */
import t from 'tap'
import type { Tx } from '../../cmd/zg-store/core/tx.ts'
import { crc32c } from '../../cmd/zg-store/disk/crc32c.ts'
import type { Segment } from '../../cmd/zg-store/disk/record.ts'
import { type LeafOf, SegmentLog } from '../../cmd/zg-store/disk/segment-log.ts'
import { equalBytes, utf8 } from '../../lib/base/bytes.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { silentLog } from '../../lib/ops/log.ts'
import type { Clock } from '../../lib/ports/clock.ts'
import type { Disk, DiskFile } from '../../lib/ports/disk.ts'
import { forEveryCrash } from '../../lib/sim/crash.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { SEED } from '../harness/seed.ts'
import { openSimFiles, simFile, submitSim } from '../harness/sim-files.ts'

/** Groups close at the next turn of the event loop, so a scenario's order is its own. */
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

/** The log alone: segments of any content, "root" of the data is its plain hash. */
const plainLeaf: LeafOf = async data => keccak256(data)

function plainSegment(file: number, index: number, sectors: number): Segment {
  const data = new SeededRandom(`${file}/${index}`).bytes(256 * sectors)
  const siblings = new SeededRandom(`p${file}/${index}`).bytes(32 * (index % 3))
  const path = Array.from({ length: index % 3 }, (_, i) => i % 2 === 0)
  return {
    root: keccak256(utf8(`file ${file}`)),
    index,
    fileSize: 256,
    leaf: keccak256(data),
    proof: { siblings, path },
    data
  }
}

async function openLog(disk: Disk, onQuarantine?: (root: Uint8Array, index: number) => void) {
  const kv = await openSimKv(disk, '/kv')
  const options = { disk, kv, clock, log: silentLog, dir: '/segments', leafOf: plainLeaf, fileBytes: 6000, groupMs: 0 }
  const log = await SegmentLog.open(onQuarantine === undefined ? options : { ...options, onQuarantine })
  return { kv, log }
}

interface Acked {
  stored: Segment[]
  /** Files whose removal was begun: their segments may be there or not. */
  dropping: Set<number>
  dropped: Set<number>
}

const PLAN: [file: number, index: number, sectors: number][][] = [
  [[1, 0, 4]],
  [
    [1, 1, 2],
    [2, 0, 1],
    [1, 2, 3]
  ],
  [
    [3, 0, 8],
    [3, 1, 8]
  ],
  [[3, 2, 4]],
  [
    [2, 1, 6],
    [1, 3, 1]
  ],
  [[3, 3, 1]]
]
const ALL: Segment[] = PLAN.flat().map(([f, i, n]) => plainSegment(f, i, n))
const FILE = (s: Segment): number => [1, 2, 3].find(f => equalBytes(keccak256(utf8(`file ${f}`)), s.root))!

async function logScenario(disk: Disk, acked: Acked): Promise<void> {
  const { kv, log } = await openLog(disk)
  for (const group of PLAN) {
    const segments = group.map(([f, i, n]) => plainSegment(f, i, n))
    const done = await Promise.allSettled(segments.map(s => log.append(s)))
    for (const [i, r] of done.entries()) {
      if (r.status === 'fulfilled') acked.stored.push(segments[i]!)
      else throw r.reason
    }
  }
  acked.dropping.add(1)
  await log.forget(keccak256(utf8('file 1')))
  acked.dropped.add(1)
  await log.close()
  await kv.close()
}

async function logCheck(disk: Disk, acked: Acked): Promise<void> {
  // Twice: what recovery wrote must itself be recoverable.
  for (let round = 0; round < 2; round++) {
    const { kv, log } = await openLog(disk)
    for (const s of acked.stored) {
      const file = FILE(s)
      const found = await log.read(s.root, s.index)
      if (acked.dropped.has(file)) {
        if (found !== undefined) throw new Error(`segment ${file}/${s.index} came back after it was dropped`)
      } else if (found === undefined ? !acked.dropping.has(file) : !equalBytes(found.data, s.data)) {
        throw new Error(`segment ${file}/${s.index} was acknowledged and is ${found === undefined ? 'gone' : 'wrong'}`)
      }
    }
    for (const s of ALL) {
      const found = await log.read(s.root, s.index)
      if (found !== undefined && !equalBytes(found.data, s.data)) throw new Error('a segment has other bytes')
    }
    const more = plainSegment(9, round, 5)
    await log.append(more)
    const back = await log.read(more.root, more.index)
    if (back === undefined || !equalBytes(back.data, more.data))
      throw new Error('appending after recovery does not work')
    await log.close()
    await kv.close()
  }
}

const freshAcked = (): Acked => ({ stored: [], dropping: new Set(), dropped: new Set() })

t.test('every crash point of the segment log keeps what was acknowledged', async t => {
  const report = await forEveryCrash({
    acked: freshAcked,
    scenario: logScenario,
    check: (disk, acked) => logCheck(disk, acked),
    seed: SEED
  })
  t.comment(
    `seed ${SEED}: ${report.points} crash points, ${report.runs} recoveries, history ${report.hash.slice(0, 16)}`
  )
  t.ok(report.points > 30 && report.runs > report.points * 8)
})

t.test('the canary: a log on a disk whose sync does nothing is found out', async t => {
  const lying = (disk: SimDisk): Disk => ({
    ...wrap(disk),
    open: async (path, mode) => {
      const file = await disk.open(path, mode)
      const lie: DiskFile = {
        size: () => file.size(),
        read: (o, n) => file.read(o, n),
        write: (o, ...b) => file.write(o, ...b),
        truncate: n => file.truncate(n),
        close: () => file.close(),
        sync: async () => {}
      }
      return path.startsWith('/segments') ? lie : file
    }
  })
  const run = forEveryCrash({
    acked: freshAcked,
    scenario: (disk, acked) => logScenario(lying(disk), acked),
    check: (disk, acked) => logCheck(disk, acked),
    seed: SEED
  })
  await t.rejects(run, /was acknowledged and is (gone|wrong)/)
})

function wrap(disk: Disk): Disk {
  return {
    open: (p, m) => disk.open(p, m),
    mkdir: p => disk.mkdir(p),
    list: p => disk.list(p),
    exists: p => disk.exists(p),
    rename: (a, b) => disk.rename(a, b),
    remove: p => disk.remove(p),
    syncDir: p => disk.syncDir(p)
  }
}

t.test('a flipped bit anywhere in the files is never served and costs one segment at most', async t => {
  const whole = new SimDisk()
  const acked = freshAcked()
  {
    const { kv, log } = await openLog(whole)
    for (const s of ALL) {
      await log.append(s)
      acked.stored.push(s)
    }
    await log.close()
    await kv.close()
  }
  const random = new SeededRandom(`flips ${SEED}`)
  const paths = whole.files().filter(p => p.endsWith('.seg'))
  let quarantined = 0
  let flips = 0
  for (const rebuilt of [false, true]) {
    for (let k = 0; k < 150; k++) {
      const disk = whole.afterCrash('all', k)
      const path = random.pick(paths)
      const bits = whole.peek(path).length * 8
      // The first bytes of each file are a label for people.
      disk.flipBit(path, 128 + random.below(bits - 128))
      flips++
      if (rebuilt) for (const p of disk.files()) if (p.startsWith('/kv')) await disk.remove(p)
      const { kv, log } = await openLog(disk, () => quarantined++)
      let lost = 0
      for (const s of ALL) {
        const found = await log.read(s.root, s.index)
        if (found === undefined) lost++
        else if (!equalBytes(found.data, s.data)) t.fail(`wrong bytes served after a flip in ${path}`)
      }
      if (lost !== 1) t.fail(`${lost} segments lost by one flip (${path}, index ${rebuilt ? 'rebuilt' : 'kept'})`)
      await log.close()
      await kv.close()
    }
  }
  t.comment(
    `seed ${SEED}: ${flips} flips, all found, ${quarantined} quarantined on read, the others at recovery, wrong answers 0`
  )
  t.equal(quarantined, 150, 'with the index kept every flip is found by the read')
})

t.test('a damaged segment can be stored again, and the old place stays unused', async t => {
  const disk = new SimDisk()
  const segment = plainSegment(5, 0, 3)
  const other = plainSegment(5, 1, 3)
  const lost: number[] = []
  {
    const { kv, log } = await openLog(disk)
    await log.append(segment)
    await log.append(other)
    await log.close()
    await kv.close()
  }
  disk.flipBit('/segments/00000001.seg', 8 * (16 + 104 + 300))
  const { kv, log } = await openLog(disk, (_root, index) => lost.push(index))
  t.equal(await log.read(segment.root, 0), undefined)
  t.same(lost, [0])
  t.equal(await log.append(segment), 'stored')
  t.same((await log.read(segment.root, 0))?.data, segment.data)
  t.equal(await log.append(segment), 'known')
  await log.close()
  await kv.close()
})

t.test('a full disk is a typed refusal, reads go on, and room brings writing back', async t => {
  const disk = new SimDisk()
  const { kv, log } = await openLog(disk)
  const first = plainSegment(1, 0, 4)
  await log.append(first)
  const used = disk.files().reduce((n, p) => n + disk.peek(p).length, 0)
  disk.faults = { capacityBytes: used + 600 }
  await t.rejects(log.append(plainSegment(1, 1, 8)), { code: 'ERR_DISK_FULL' })
  t.equal(log.trouble?.kind, 'full')
  await t.rejects(log.append(plainSegment(1, 1, 8)), { code: 'ERR_DISK_FULL' }, 'at once, without touching the disk')
  t.same((await log.read(first.root, 0))?.data, first.data)
  disk.faults = {}
  nowMs += 2000
  t.equal(await log.append(plainSegment(1, 1, 8)), 'stored')
  t.equal(log.trouble, undefined)
  await log.close()
  await kv.close()
  const again = await openLog(disk)
  t.same((await again.log.read(first.root, 1))?.data, plainSegment(1, 1, 8).data)
})

t.test('the log stops before the disk is full, so that the index can still be written', async t => {
  const disk = new SimDisk()
  const kv = await openSimKv(disk, '/kv')
  let free = 200e6
  const options = { disk, kv, clock, log: silentLog, dir: '/segments', leafOf: plainLeaf, groupMs: 0 }
  const log = await SegmentLog.open({ ...options, freeBytes: async () => free })
  t.equal(await log.append(plainSegment(1, 0, 4)), 'stored')
  free = 70e6
  nowMs += 2000
  await t.rejects(log.append(plainSegment(1, 1, 4)), { code: 'ERR_DISK_FULL' })
  t.equal(log.trouble?.kind, 'full')
  free = 200e6
  nowMs += 2000
  t.equal(await log.append(plainSegment(1, 1, 4)), 'stored')
})

t.test('after a failed sync nothing more is written, and a new start works on what was synced', async t => {
  const disk = new SimDisk()
  const { log } = await openLog(disk)
  await log.append(plainSegment(1, 0, 4))
  // Counted over the whole life of the disk.
  disk.faults = { failSync: disk.trace.filter(op => op.startsWith('sync')).length + 1 }
  await t.rejects(log.append(plainSegment(1, 1, 4)), { code: 'ERR_IO' })
  disk.faults = {}
  nowMs += 5000
  await t.rejects(log.append(plainSegment(1, 2, 4)), { code: 'ERR_IO' }, 'a sync error is final')
  t.equal(log.trouble?.kind, 'failed')
  const next = await openLog(disk.afterCrash('none'))
  t.same((await next.log.read(plainSegment(1, 0, 4).root, 0))?.data, plainSegment(1, 0, 4).data)
  t.equal(await next.log.append(plainSegment(1, 2, 4)), 'stored')
})

const FILES = [simFile(1, 600), simFile(2, 262_145), simFile(3, 1)]

interface FileAcked {
  /** Highest block whose batch was acknowledged. */
  block: number
  stored: { file: number; index: number }[]
  /** Submissions that were answered as final. */
  final: Set<number>
}

async function fileScenario(disk: Disk, acked: FileAcked): Promise<void> {
  const opened = await openSimFiles(disk, clock)
  const { kv, log, index, store } = opened
  const upload = async (f: number, i: number, seq: number): Promise<void> => {
    const result = await store.store({ ...FILES[f]!.segments[i]! }, await index.tx(seq))
    if (result !== 'cached') acked.stored.push({ file: f, index: i })
  }
  const note = async (): Promise<void> => {
    for (let seq = 0; seq < index.nextSeq; seq++) {
      if ((await index.tx(seq))?.status === 'final') acked.final.add(seq)
    }
  }
  await submitSim(opened, [FILES[0]!, FILES[1]!], 1)
  await upload(1, 1, 1)
  await upload(0, 0, 0)
  await note()
  // A small file before its transaction; then one whose root is here already.
  await store.store({ ...FILES[2]!.segments[0]! }, undefined)
  await submitSim(opened, [FILES[2]!, FILES[0]!], 2)
  await note()
  await upload(1, 0, 1)
  await note()
  await submitSim(opened, [FILES[1]!], 3)
  await note()
  await log.close()
  await kv.close()
}

const SUBMISSIONS = [0, 1, 2, 0, 1]

async function fileCheck(disk: Disk, acked: FileAcked): Promise<void> {
  const opened = await openSimFiles(disk, clock)
  const { kv, log, index, store } = opened
  for (const { file: f, index: i } of acked.stored) {
    const found = await log.read(FILES[f]!.root, i)
    if (found === undefined || !equalBytes(found.data, FILES[f]!.segments[i]!.data)) {
      throw new Error(`segment ${i} of file ${f} was acknowledged and is ${found === undefined ? 'gone' : 'wrong'}`)
    }
  }
  const whole = async (tx: Tx): Promise<boolean> => {
    const f = FILES[SUBMISSIONS[tx.seq]!]!
    for (const s of f.segments) {
      const found = await store.read(tx, s.index)
      if (found === undefined || !equalBytes(found.data, s.data)) return false
    }
    return true
  }
  // A power loss may take the newest blocks from the index; the chain is then read again. Within the batch all or nothing.
  for (let seq = 0; seq < index.nextSeq; seq++) {
    const tx = await index.tx(seq)
    if (tx === undefined) throw new Error(`submission ${seq} is missing below the next number`)
    if (tx.status === 'final' && !(await whole(tx))) throw new Error(`submission ${seq} is final and not whole`)
    if (acked.final.has(seq) && tx.status !== 'final') throw new Error(`submission ${seq} is no longer final`)
  }
  for (const seq of acked.final) if (seq >= index.nextSeq) throw new Error(`final submission ${seq} is gone`)
  // Going on as a client does: read the rest of the chain, send what is missing; everything becomes final.
  for await (const root of store.unsettled()) await store.settle(root)
  for (const [block, files] of [
    [1, [0, 1]],
    [2, [2, 0]],
    [3, [1]]
  ] as const) {
    if (block > (index.progress?.block ?? 0))
      await submitSim(
        opened,
        files.map(f => FILES[f]!),
        block
      )
  }
  for (let seq = 0; seq < 5; seq++) {
    const tx = await index.tx(seq)
    if (tx === undefined) throw new Error(`submission ${seq} is missing after reading the chain again`)
    for (const [from, to] of await store.missing(tx)) {
      for (let i = from; i < to; i++) await store.store({ ...FILES[SUBMISSIONS[seq]!]!.segments[i]! }, tx)
    }
  }
  for (let seq = 0; seq < 5; seq++) {
    const tx = (await index.tx(seq))!
    if (tx.status !== 'final' || !(await whole(tx)))
      throw new Error(`submission ${seq} does not become final afterwards`)
  }
  await log.close()
  await kv.close()
}

t.test(
  'every crash point of upload and finality: final stays final and whole, and everything can be finished',
  async t => {
    const report = await forEveryCrash({
      acked: (): FileAcked => ({ block: 0, stored: [], final: new Set() }),
      scenario: fileScenario,
      check: (disk, acked) => fileCheck(disk, acked),
      seeds: 6,
      seed: SEED
    })
    t.comment(
      `seed ${SEED}: ${report.points} crash points, ${report.runs} recoveries, history ${report.hash.slice(0, 16)}`
    )
    t.ok(report.points > 20)
  }
)

t.test('CRC-32C has the published check value', async t => {
  t.equal(crc32c(utf8('123456789')), 0xe3069283)
})
