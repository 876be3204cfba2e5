/**
 * Proves on the simulated disk what the states of files promise when the power goes at any write of what is done to files after they were
 * uploaded: pruning, damage and its repair by sending again, reorganisations that take submissions back, and the end of bytes that
 * no submission names. After each reopening: final means whole, pruned stays pruned, bytes without a submission are marked and
 * end in time, and everything can be finished. And an index of the older layout is brought to the present one, whenever the
 * power goes.
 */
import t from 'tap'
import { FlowIndex } from '../../cmd/zg-store/core/flow-index.ts'
import { key, numberAt, numbers, type Tx } from '../../cmd/zg-store/core/tx.ts'
import { equalBytes } from '../../lib/base/bytes.ts'
import { toHex } from '../../lib/base/hex.ts'
import type { Clock } from '../../lib/ports/clock.ts'
import type { KvOp, KvStore } from '../../lib/ports/kv.ts'
import { forEveryCrash } from '../../lib/sim/crash.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SEED } from '../harness/seed.ts'
import { openSimFiles, type SimFile, simFile, submitSim } from '../harness/sim-files.ts'

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
const HOUR_MS = 3_600_000

const [A, B, C, D] = [simFile(1, 600), simFile(2, 262_145), simFile(3, 1), simFile(4, 900)]
const ALL = [A, B, C, D]
type Files = Awaited<ReturnType<typeof openSimFiles>>

async function upload({ store, index }: Files, f: SimFile, only?: number): Promise<void> {
  const tx = await store.select(f.root, true)
  if (tx === undefined) throw new Error('nothing to upload for')
  for (const s of f.segments) {
    if (only !== undefined && s.index !== only) continue
    await store.store({ ...s, proof: { lemma: [...s.proof.lemma], path: s.proof.path } }, await index.tx(tx.seq))
  }
}

async function whole({ store }: Files, f: SimFile, tx: Tx): Promise<boolean> {
  for (const s of f.segments) {
    const found = await store.read(tx, s.index)
    if (found === undefined || !equalBytes(found.data, s.data)) return false
  }
  return true
}

/** Roots of which bytes are here, and roots that carry a mark. */
async function rootsHeld({ kv }: Files): Promise<{ held: Set<string>; marked: Set<string> }> {
  const held = new Set<string>()
  const marked = new Set<string>()
  for await (const [k] of kv.scan({ gte: key('s'), lt: key('t') })) held.add(toHex(k.slice(1, 33)))
  for await (const [k] of kv.scan({ gte: key('o'), lt: key('p') })) marked.add(toHex(k.slice(1, 33)))
  return { held, marked }
}

interface Acked {
  final: Set<SimFile>
  pruned: Set<SimFile>
  /** The power may have gone between the beginning and the end of this. */
  turning: Set<SimFile>
}
const fresh = (): Acked => ({ final: new Set(), pruned: new Set(), turning: new Set() })

/** What holds after any crash. */
async function check(opened: Files, acked: Acked): Promise<void> {
  const { index, store } = opened
  // As every start does.
  for await (const root of store.unsettled()) await store.settle(root)
  const { held, marked } = await rootsHeld(opened)
  for (const f of ALL) {
    const name = toHex(f.root)
    let txs = await store.txsOf(f.root)
    if (txs.some(x => x.status === 'final') && !(await whole(opened, f, txs[0]!))) {
      // Found damaged just now: it must not be called final any more.
      await opened.noted()
      txs = await store.txsOf(f.root)
      if (txs.some(x => x.status === 'final')) throw new Error(`${f.size}: final and not whole`)
    }
    if (txs.length === 0 && held.has(name) && !marked.has(name)) {
      throw new Error(`${f.size}: bytes that nothing names and nothing marks`)
    }
    if (acked.turning.has(f)) continue
    if (acked.pruned.has(f) && (txs.some(x => x.status !== 'pruned') || held.has(name))) {
      throw new Error(`${f.size}: came back after it was pruned`)
    }
    if (acked.final.has(f) && !txs.some(x => x.status === 'final')) throw new Error(`${f.size}: no longer final`)
  }
  for (let seq = 0; seq < index.nextSeq; seq++) {
    if ((await index.tx(seq)) === undefined) throw new Error(`submission ${seq} is missing below the next number`)
  }
}

/** Everything that can be whole becomes it again: the chain is read on, clients send, an hour passes. */
async function finish(opened: Files, acked: Acked): Promise<void> {
  const { store, index } = opened
  for (const f of ALL) {
    const [tx] = await store.txsOf(f.root)
    if (tx === undefined || tx.status === 'pruned') continue
    for (const [from, to] of await store.missing(tx)) for (let i = from; i < to; i++) await upload(opened, f, i)
    const now = await index.tx(tx.seq)
    if (now?.status !== 'final' || !(await whole(opened, f, now)))
      throw new Error(`${f.size}: cannot be made final again`)
  }
  nowMs += 2 * HOUR_MS
  await store.sweepOrphans()
  nowMs -= 2 * HOUR_MS
  const { held, marked } = await rootsHeld(opened)
  for (const f of ALL) {
    const named = (await store.txsOf(f.root)).length > 0
    if (!named && held.has(toHex(f.root))) throw new Error(`${f.size}: bytes stay for ever`)
  }
  if (marked.size > 0) throw new Error('marks stay for ever')
  await check(opened, acked)
}

const runs = async (
  scenario: (disk: SimDisk, acked: Acked) => Promise<void>,
  start?: () => Promise<SimDisk>
): Promise<Awaited<ReturnType<typeof forEveryCrash>>> =>
  forEveryCrash<Acked>({
    acked: fresh,
    ...(start === undefined ? {} : { start }),
    scenario,
    check: async (disk, acked) => {
      const opened = await openSimFiles(disk, clock)
      await check(opened, acked)
      await finish(opened, acked)
      await opened.close()
    },
    seeds: 4,
    seed: SEED
  })

/** All four files final in two blocks. */
async function filled(): Promise<SimDisk> {
  const disk = new SimDisk()
  const opened = await openSimFiles(disk, clock)
  await submitSim(opened, [A, B], 1)
  await submitSim(opened, [C, D, A], 2)
  for (const f of ALL) await upload(opened, f)
  await opened.close()
  return disk
}

t.test('a power loss at any write of pruning', async t => {
  const report = await runs(async (disk, acked) => {
    for (const f of ALL) acked.final.add(f)
    const opened = await openSimFiles(disk, clock)
    for (const f of [A, B]) {
      acked.turning.add(f)
      acked.final.delete(f)
      t.equal(await opened.store.prune(f.root), f.segments.length)
      acked.turning.delete(f)
      acked.pruned.add(f)
    }
    await opened.close()
  }, filled)
  t.ok(report.points > 10)
})

t.test('a power loss at any write between damage and its repair', async t => {
  const damaged = async (): Promise<SimDisk> => {
    const disk = await filled()
    disk.flipBit('/segments/00000001.seg', 8 * (16 + 104 + 300))
    return disk
  }
  let lost: SimFile | undefined
  const report = await runs(
    async (disk, acked) => {
      const opened = await openSimFiles(disk, clock)
      for (const f of ALL) {
        const tx = (await opened.store.select(f.root, false))!
        if (await whole(opened, f, tx)) {
          acked.final.add(f)
          continue
        }
        lost = f
        await opened.noted()
        // The same bytes are sent again; that is also what peers do.
        await upload(opened, f)
        const again = await opened.index.tx(tx.seq)
        if (again?.status !== 'final' || !(await whole(opened, f, again))) throw new Error('not repaired')
        acked.final.add(f)
      }
      await opened.close()
    },
    async () => damaged()
  )
  t.ok(lost, 'the flipped bit was found')
  t.ok(report.points > 8)
})

t.test(
  'a power loss at any write of a reorganisation: no bytes are left over, none that are named are dropped',
  async t => {
    const report = await runs(async (disk, acked) => {
      const opened = await openSimFiles(disk, clock)
      const { index, store } = opened
      for (const f of [A, B]) acked.final.add(f)
      const [, first] = await index.knownBlocks()
      // C and D lose their only submission, A its second one; C comes back with another number, and needs no upload.
      await store.removed(await index.rollback(first, clock.now()))
      await submitSim(opened, [C], 2, 1)
      const tx = await store.select(C.root, true)
      if (tx?.seq !== 2 || tx.status !== 'final') throw new Error('what is here was not final at once')
      acked.final.add(C)
      nowMs += 2 * HOUR_MS
      const dropped = await store.sweepOrphans()
      nowMs -= 2 * HOUR_MS
      if (dropped !== D.segments.length) throw new Error(`${dropped} segments dropped`)
      await opened.close()
    }, filled)
    t.ok(report.points > 6)
  }
)

t.test('roots with several submissions, before, across and after a reorganisation', async t => {
  const opened = await openSimFiles(new SimDisk(), clock)
  const { index } = opened
  const seqs = async (f: SimFile): Promise<number[]> => {
    const out: number[] = []
    for await (const tx of index.txsOf(f.root)) out.push(tx.seq)
    return out
  }
  await submitSim(opened, [A, B, A], 1)
  await submitSim(opened, [A, C, C], 2)
  await submitSim(opened, [B, D], 3)
  t.same([await seqs(A), await seqs(B), await seqs(C), await seqs(D)], [[0, 2, 3], [1, 6], [4, 5], [7]])
  t.equal(index.soleTxOf(A.root), undefined, 'several: the list must be asked')
  t.same(
    index.soleTxOf(D.root)?.map(x => x.seq),
    [7]
  )
  const known = await index.knownBlocks()
  await index.rollback(known[1], clock.now())
  t.same([await seqs(A), await seqs(B), await seqs(C), await seqs(D)], [[0, 2, 3], [1], [4, 5], []])
  t.same(
    index.soleTxOf(B.root)?.map(x => x.seq),
    [1],
    'one again'
  )
  await index.rollback(known[2], clock.now())
  t.same([await seqs(A), await seqs(B), await seqs(C), await seqs(D)], [[0, 2], [1], [], []])
  // Every sector of every submission is found, gaps and what lies beyond are not.
  await submitSim(opened, [D, B, C], 2, 1)
  for (let seq = 0; seq < index.nextSeq; seq++) {
    const tx = (await index.tx(seq))!
    for (const at of [tx.startPos, tx.startPos + tx.sectors - 1]) t.equal((await index.txAt(at))?.seq, seq)
    t.not((await index.txAt(tx.startPos - 1))?.seq, seq)
    t.not((await index.txAt(tx.startPos + tx.sectors))?.seq, seq)
  }
  t.equal(await index.txAt(0), undefined)
  t.equal(await index.txAt(index.length), undefined)
  await opened.close()
})

t.test('an index of the older layout is brought to the present one, whenever the power goes', async t => {
  const wanted = await entries(await openSimKv((await filled()).afterCrash('all', 0), '/kv'))
  const older = async (): Promise<SimDisk> => {
    const disk = await filled()
    const kv = await openSimKv(disk, '/kv')
    await kv.batch(await layoutOne(kv), { sync: true })
    await kv.close()
    return disk
  }
  const compare = async (kv: KvStore): Promise<void> => {
    const found = await entries(kv)
    if (found.join('\n') !== wanted.join('\n')) throw new Error(`the index differs: ${found.length} entries`)
  }
  const report = await forEveryCrash<object>({
    acked: () => ({}),
    start: older,
    scenario: async disk => {
      const kv = await openSimKv(disk, '/kv')
      await FlowIndex.open(kv)
      await compare(kv)
      await kv.close()
    },
    check: async disk => {
      const kv = await openSimKv(disk, '/kv')
      await FlowIndex.open(kv)
      await compare(kv)
      await kv.close()
    },
    seeds: 2,
    seed: SEED
  })
  t.ok(report.points > 2)
  const kv = await openSimKv(new SimDisk(), '/kv')
  await kv.batch([
    { put: key('m', new Uint8Array(Buffer.from('progress'))), value: new Uint8Array(56) },
    { put: key('m', new Uint8Array(Buffer.from('layout'))), value: Uint8Array.of(3) }
  ])
  await t.rejects(FlowIndex.open(kv), { code: 'ERR_CONFIG' }, 'a later one is refused')
})

async function entries(kv: KvStore): Promise<string[]> {
  const out: string[] = []
  for await (const [k, v] of kv.scan({})) out.push(`${toHex(k)} ${toHex(v)}`)
  return out
}

/** Turns the index into what layout 1 was: `r` with a number each, `x` for places, no word about the layout. */
async function layoutOne(kv: KvStore): Promise<KvOp[]> {
  const ops: KvOp[] = [{ del: key('m', new Uint8Array(Buffer.from('layout'))) }]
  for await (const [k, v] of kv.scan({ gte: key('r'), lt: key('s') })) {
    if (k.length !== 33) continue
    ops.push({ del: k }, { put: key('r', k.slice(1), numberAt(v, 0)), value: new Uint8Array(0) })
  }
  for await (const [k, v] of kv.scan({ gte: key('t'), lt: key('u') })) {
    // startPos is the second number behind status, count and root (tx.ts).
    ops.push({ put: key('x', numberAt(v, 42)), value: numbers(numberAt(k, 1)) })
  }
  return ops
}
