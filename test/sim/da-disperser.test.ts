/**
 * Proves that an accepted blob becomes final whatever happens to its disperser: power loss at every disk operation of its way, two
 * dispersers at once, epochs that change under it, a foreign commitment recorded first; and that a caller who leaves leaves
 * nothing behind. The product's queue, pipeline and signers in one process.
 */
import t from 'tap'
import { Finality } from '../../cmd/zg-da/disperser/finality.ts'
import { isDone, type Job } from '../../cmd/zg-da/disperser/job.ts'
import { Pipeline } from '../../cmd/zg-da/disperser/pipeline.ts'
import { BlobQueue } from '../../cmd/zg-da/disperser/queue.ts'
import { disperserHandlers } from '../../cmd/zg-da/disperser/service.ts'
import type { Transactions } from '../../cmd/zg-da/disperser/transactions.ts'
import { systemClock } from '../../lib/adapters/clock.ts'
import { GrpcError, STATUS } from '../../lib/adapters/grpc/status.ts'
import { equalBytes } from '../../lib/base/bytes.ts'
import { toHex } from '../../lib/base/hex.ts'
import type { Submission } from '../../lib/clients/da/abi.ts'
import type { DaChain } from '../../lib/clients/da/chain.ts'
import type { SignerPool } from '../../lib/clients/da/signer.ts'
import { MODE_FAST, type SignRequest } from '../../lib/clients/da/wire.ts'
import { encodeBlob } from '../../lib/codec/da/blob.ts'
import { silentLog } from '../../lib/ops/log.ts'
import { type Clock, sleepOn } from '../../lib/ports/clock.ts'
import { SimCrash, SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { asPoint, openSigner, WorldChain } from '../harness/da-world.ts'
import { SEED } from '../harness/seed.ts'

t.setTimeout(180_000)
const random = new SeededRandom(SEED)

/** Twenty times as fast as the wall: pauses and patience cost the test little. */
const SPEED = 20
const after = (ms: number, fn: () => void): (() => void) => systemClock.after(ms / SPEED, fn)
const clock: Clock = {
  now: () => systemClock.now(),
  monotonic: () => systemClock.monotonic() * SPEED,
  after,
  sleep: (ms, signal) => sleepOn({ after }, ms, signal)
}

interface World {
  chain: WorldChain
  pool: SignerPool
  transactions: Transactions
  stop(): void
}

/** Four signers and a chain with blocks every few milliseconds; a posting is final two blocks later. */
async function world(
  hooks: {
    posted?: (chain: WorldChain) => void
    owner?: (place: number) => number
    /** What the first signer says in place of its signature. */
    first?: (timeoutMs: number) => Promise<Uint8Array>
  } = {}
): Promise<World> {
  const chain = new WorldChain(4, hooks.owner ?? (p => p % 4))
  chain.lag = 2
  const signers = await Promise.all([0, 1, 2, 3].map(i => openSigner(chain, i, new SimDisk(), clock)))
  const pool = {
    at: (socket: string) => ({
      status: async () => ({ modes: MODE_FAST }),
      sign: async (request: SignRequest, o: { timeoutMs: number }) => {
        const i = Number(socket.slice(7))
        if (i === 0 && hooks.first !== undefined) return hooks.first(o.timeoutMs)
        return (await signers[i]!.signer.batchSign({ requests: [request] })).signatures[0]
      }
    })
  }
  const transactions = {
    post: async (root: Uint8Array) => {
      await systemClock.sleep(1)
      const posting = chain.post(root)
      hooks.posted?.(chain)
      return posting
    },
    certify: async (s: Submission) => {
      await systemClock.sleep(1)
      return chain.certify(s)
    }
  }
  const mining = setInterval(() => chain.mine(), 4)
  return {
    chain,
    pool: pool as unknown as SignerPool,
    transactions: transactions as unknown as Transactions,
    stop: () => clearInterval(mining)
  }
}

interface Disperser {
  queue: BlobQueue
  start(job: Job): void
  stop(): Promise<void>
}

async function disperser(w: World, disk: SimDisk, name = 'one'): Promise<Disperser> {
  const stop = new AbortController()
  const kv = await openSimKv(disk, '/journal')
  const chain = w.chain as unknown as DaChain
  const queue = await BlobQueue.open({
    disk,
    kv,
    dir: '/blobs',
    clock,
    random: new SeededRandom(`${SEED}/${name}`),
    maxBytes: 1e7,
    keepMs: 1e9
  })
  const pipeline = new Pipeline({
    chain,
    queue,
    pool: w.pool,
    transactions: w.transactions,
    finality: new Finality(chain, clock, stop.signal),
    clock,
    logger: silentLog,
    signal: stop.signal,
    signTimeoutMs: 4_000,
    maxRetries: 2,
    memoryBytes: 1e8
  })
  return {
    queue,
    start: job => pipeline.start(job),
    async stop() {
      stop.abort(new Error('stopped'))
      await pipeline.settled()
      await kv.close().catch(() => {})
    }
  }
}

/** Waits for a condition, looking every turn of the clock. */
async function until(done: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = systemClock.monotonic() + 30_000
  while (!(await done())) {
    if (systemClock.monotonic() > end) throw new Error(`waited in vain for ${what}`)
    await systemClock.sleep(2)
  }
}

async function finished(d: Disperser, job: Job): Promise<Job> {
  await until(async () => isDone((await d.queue.find(job.id))!), `the end of ${job.id}`)
  return (await d.queue.find(job.id))!
}

t.test('power loss at every disk operation of a blob on its way: accepted is final, certified once', async t => {
  const data = random.bytes(700)
  /** Runs a blob until it is final or the power goes. @returns the job when it was accepted. */
  const run = async (w: World, disk: SimDisk): Promise<Job | undefined> => {
    let job: Job | undefined
    try {
      const d = await disperser(w, disk)
      try {
        job = await d.queue.add(data)
        d.start(job)
        await until(() => disk.crashed || isDone(job!), 'a blob')
      } finally {
        await d.stop()
      }
    } catch (err) {
      if (!(err instanceof SimCrash) && !disk.crashed) throw err
    }
    return job
  }
  const whole = new SimDisk()
  const first = await world()
  t.equal((await run(first, whole))?.state, 'finalized')
  first.stop()
  const stages = new Map<string, number>()
  for (let n = 1; n <= whole.ops; n++) {
    const mode = n % 2 === 0 ? 'subset' : 'none'
    const w = await world()
    const disk = new SimDisk()
    disk.crashAt(n)
    const job = await run(w, disk)
    if (!disk.crashed) disk.crashNow()
    const again = await disperser(w, disk.afterCrash(mode, `${SEED}/${n}`))
    const at = `crash at ${n} (${whole.trace[n - 1]}), ${mode}`
    const left = again.queue.active()
    if (job !== undefined) {
      const found = await again.queue.find(job.id)
      if (found === undefined) t.fail(`${at}: accepted and forgotten`)
      stages.set(found!.state, (stages.get(found!.state) ?? 0) + 1)
    }
    for (const j of left) again.start(j)
    for (const j of left) {
      const end = await finished(again, j)
      if (end.state !== 'finalized') t.fail(`${at}: ${end.state} ${end.error}`)
      if (!equalBytes(await again.queue.read(j.id), data)) t.fail(`${at}: altered`)
    }
    if (w.chain.uploadsAt.length > 2) t.fail(`${at}: posted ${w.chain.uploadsAt.length} times`)
    if (job !== undefined && w.chain.certificates.size < 1) t.fail(`${at}: no certificate`)
    if (w.chain.certificates.size > 2 || w.chain.submissions > 2) t.fail(`${at}: certified again and again`)
    await again.stop()
    w.stop()
  }
  t.comment(`${whole.ops} crash points; resumed in ${JSON.stringify(Object.fromEntries(stages))}`)
  for (const state of ['accepted', 'posted', 'signed', 'confirmed']) t.ok(stages.has(state), `resumed from ${state}`)
})

t.test('two dispersers on one quorum, with the same and with different blobs', async t => {
  const w = await world()
  const [a, b] = [await disperser(w, new SimDisk(), 'a'), await disperser(w, new SimDisk(), 'b')]
  const shared = random.bytes(900)
  const blobs: [Disperser, Uint8Array][] = [
    [a, shared],
    [b, shared],
    [a, random.bytes(300)],
    [b, random.bytes(5_000)],
    [a, shared]
  ]
  const jobs = await Promise.all(blobs.map(async ([d, data]) => ({ d, job: await d.queue.add(data) })))
  for (const { d, job } of jobs) d.start(job)
  for (const { d, job } of jobs) {
    const end = await finished(d, job)
    t.equal(end.state, 'finalized', end.error ?? 'final')
  }
  t.equal(w.chain.certificates.size, 3, 'one certificate for each different blob')
  // Who comes later pays nothing.
  const before = w.chain.uploadsAt.length
  const late = await b.queue.add(shared)
  b.start(late)
  t.equal((await finished(b, late)).state, 'finalized')
  t.equal(w.chain.uploadsAt.length, before)
  await Promise.all([a.stop(), b.stop()])
  w.stop()
})

t.test('epochs that change between posting and signing', async t => {
  for (const [jump, postings] of [
    [1, 1],
    [3, 1],
    [4, 2]
  ] as const) {
    let times = 0
    const w = await world({
      posted: chain => {
        if (times++ === 0) chain.now.epoch += jump
      }
    })
    const d = await disperser(w, new SimDisk())
    const job = await d.queue.add(random.bytes(400))
    d.start(job)
    const end = await finished(d, job)
    t.match([end.state, end.error], ['finalized', undefined], `${jump} epochs later`)
    t.equal(w.chain.uploadsAt.length, postings, `posted ${postings} times`)
    await d.stop()
    w.stop()
  }
})

t.test('a foreign commitment recorded for the root first: posted anew elsewhere, never taken for ours', async t => {
  const w = await world()
  w.chain.quorums = 2
  const data = random.bytes(1_000)
  const { header, commitment } = await encodeBlob(data)
  const mine = asPoint(commitment)
  w.chain.certificates.set(`${w.chain.now.epoch}/0/${toHex(header.dataRoot)}`, { x: mine.x ^ 1n, y: mine.y })
  const d = await disperser(w, new SimDisk())
  const job = await d.queue.add(data)
  d.start(job)
  const end = await finished(d, job)
  t.match([end.state, end.error], ['finalized', undefined])
  t.equal(end.posting!.quorumId, 1)
  t.same(w.chain.certificates.get(`${end.posting!.epoch}/1/${toHex(header.dataRoot)}`), mine)
  await d.stop()
  w.stop()
})

t.test('a third of the places gone, silent, slow or lying: certified; one place more: not', async t => {
  const point = (x: number, y: number): Uint8Array => {
    const out = new Uint8Array(64)
    out[0] = x
    out[32] = y
    return out
  }
  const failures: Record<string, (timeoutMs: number) => Promise<Uint8Array>> = {
    gone: async () => {
      throw new GrpcError(STATUS.unavailable, 'gone')
    },
    silent: async timeoutMs => {
      await clock.sleep(timeoutMs)
      throw new GrpcError(STATUS.deadlineExceeded, 'no answer')
    },
    'a false signature': async () => point(1, 2),
    'a false signature, late': async timeoutMs => {
      await clock.sleep(timeoutMs / 2)
      return point(1, 2)
    },
    'no point of the curve': async () => point(1, 3),
    garbage: async () => random.bytes(64),
    'an empty answer': async () => new Uint8Array(0)
  }
  for (const [what, first] of Object.entries(failures)) {
    for (const [faulty, state] of [
      [1_024, 'finalized'],
      [1_025, 'insufficient']
    ] as const) {
      const w = await world({ owner: p => (p < faulty ? 0 : 1 + (p % 3)), first })
      const d = await disperser(w, new SimDisk())
      const job = await d.queue.add(random.bytes(300))
      d.start(job)
      t.equal((await finished(d, job)).state, state, `${faulty} places: ${what}`)
      t.equal(w.chain.certificates.size, state === 'finalized' ? 1 : 0)
      await d.stop()
      w.stop()
    }
  }
})

t.test('a caller who leaves at any moment: accepted whole, or nothing is left', async t => {
  const w = await world()
  let accepted = 0
  let dropped = 0
  for (let n = 0; n < 24; n++) {
    const disk = new SimDisk()
    const d = await disperser(w, disk)
    const gone = new AbortController()
    const started: Job[] = []
    const handlers = disperserHandlers({
      queue: d.queue,
      retriever: async () => undefined,
      legacyStatus: true,
      onAccepted: job => started.push(job)
    })
    const call = handlers.DisperseBlob!({ data: random.bytes(2_000) } as never, gone.signal as never)
    const settled = Promise.resolve(call).then(
      () => true,
      () => false
    )
    // So many turns of the event loop after its begin.
    for (let turn = 0; turn < n; turn++) await Promise.resolve()
    gone.abort()
    const taken = await settled
    if (taken) accepted++
    else dropped++
    t.equal(started.length, taken ? 1 : 0)
    t.equal(d.queue.active().length, taken ? 1 : 0)
    t.equal(d.queue.sizeBytes, taken ? 2_000 : 0)
    t.equal((await disk.list('/blobs')).length, taken ? 1 : 0)
    await d.stop()
    const again = await disperser(w, disk.afterCrash('all', 'x'))
    t.equal(again.queue.active().length, taken ? 1 : 0, 'nor after a restart')
    await again.stop()
  }
  t.ok(dropped > 0, `${dropped} dropped, ${accepted} accepted`)
  w.stop()
})
