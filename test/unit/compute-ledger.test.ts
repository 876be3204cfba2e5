/**
 * Proves that no acknowledged fee is lost and none is paid twice: power loss at every disk operation of a life with streams, answers,
 * settlements and rewrites, in every mode of loss, followed by a restart that settles all; then each way a settlement can go wrong.
 */
import t from 'tap'
import { FeeBook } from '../../cmd/zg-compute/ledger/fee-book.ts'
import { openJournal } from '../../cmd/zg-compute/ledger/journal.ts'
import { decodeRecord, encodeRecord, type FeeRecord } from '../../cmd/zg-compute/ledger/records.ts'
import { fit, newId, Settler } from '../../cmd/zg-compute/ledger/settler.ts'
import { SIGNATURE_TTL_MS, SignatureStore } from '../../cmd/zg-compute/ledger/signatures.ts'
import { toHex } from '../../lib/base/hex.ts'
import type { Logger } from '../../lib/ops/log.ts'
import type { Disk } from '../../lib/ports/disk.ts'
import { SimClock } from '../../lib/sim/clock.ts'
import { forEveryCrash } from '../../lib/sim/crash.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { SIGNER_KEY, SimChain } from './compute-sim-chain.ts'

const silent: Logger = { error() {}, warn() {}, info() {}, debug() {} }
const PATH = '/fees/fees.log'
const user = (n: number): Uint8Array => new Uint8Array(20).fill(n)
const OG = 10n ** 18n

function record(n: number, who: number, fee: bigint): FeeRecord {
  const id = `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`
  const counts = { promptTokens: n, completionTokens: 1, cachedTokens: 0 }
  return { id, user: user(who), createdMs: 1_000_000 + n, ...counts, inputFee: fee / 3n, outputFee: fee - fee / 3n }
}

function settlerOf(book: FeeBook, chain: SimChain): Settler {
  const random = new SeededRandom('settler')
  return new Settler({ book, chain, signerKey: SIGNER_KEY, clock: new SimClock(), random, logger: silent })
}

function newChain(balances: Record<number, bigint>): SimChain {
  const chain = new SimChain()
  for (const [who, balance] of Object.entries(balances))
    chain.accounts.set(toHex(user(Number(who))), { nonce: 0n, balance, acknowledged: true })
  return chain
}

const owed = (book: FeeBook): bigint => [...book.debts()].reduce((sum, d) => sum + d.unsettled, 0n)
const paid = (chain: SimChain): bigint => [...chain.paid.values()].reduce((sum, p) => sum + p, 0n)

t.test('records survive their encoding', async t => {
  const transaction = { hash: new Uint8Array(32).fill(9), raw: Uint8Array.of(2, 3) }
  const entry = {
    user: user(1),
    nonce: 2n ** 255n,
    totalFee: 7n,
    requestsHash: new Uint8Array(32),
    ids: [record(1, 1, 1n).id]
  }
  const restId = record(9, 1, 1n).id
  const results = [
    { status: 'PARTIAL' as const, paid: 5n, restId },
    { status: 'RELEASED' as const, paid: 0n }
  ]
  for (const r of [
    { kind: 'done' as const, record: record(1, 2, 10n ** 24n) },
    { kind: 'open' as const, record: record(2, 3, 0n) },
    { kind: 'intent' as const, intent: { number: 3, txNonce: 9n, fromBlock: 1, transaction, entries: [entry] } },
    { kind: 'resent' as const, number: 3, transaction },
    { kind: 'result' as const, number: 3, results },
    { kind: 'written_off' as const, ids: [restId] },
    { kind: 'totals' as const, totals: { nextNumber: 4, settledCount: 5, settledFee: 6n, writtenOffFee: 7n } }
  ]) {
    t.same(decodeRecord(encodeRecord(r)), r, r.kind)
    const bytes = encodeRecord(r)
    for (let cut = 0; cut < bytes.length; cut++)
      t.throws(() => decodeRecord(bytes.slice(0, cut)), { code: 'ERR_CORRUPT' })
  }
})

t.test('power loss at every write: nothing acknowledged is lost, nothing is paid twice', async t => {
  interface Acked {
    chain: SimChain
    /** Fees that were acknowledged, by id. */
    done: Map<string, bigint>
    /** Fees that were handed in: at most these may be owed. */
    tried: Map<string, bigint>
  }
  const report = await forEveryCrash<Acked>({
    acked: () => ({ chain: newChain({ 1: OG, 2: OG, 3: 50n }), done: new Map(), tried: new Map() }),
    scenario: async (disk, acked) => {
      const book = await FeeBook.open(disk, PATH, { rewriteBytes: 700 })
      const settler = settlerOf(book, acked.chain)
      const pay = async (n: number, who: number, fee: bigint): Promise<void> => {
        const r = record(n, who, fee)
        acked.tried.set(r.id, fee)
        await book.done(r)
        acked.done.set(r.id, fee)
      }
      await pay(1, 1, 100n)
      // A stream: what was delivered grows, then it ends.
      acked.tried.set(record(2, 2, 0n).id, 90n)
      await book.progress({ ...record(2, 2, 30n) })
      acked.done.set(record(2, 2, 0n).id, 30n)
      await book.progress({ ...record(2, 2, 60n) })
      acked.done.set(record(2, 2, 0n).id, 60n)
      await pay(2, 2, 90n)
      await settler.settle()
      await Promise.all([pay(3, 1, 7n), pay(4, 2, 8n), pay(5, 3, 80n)])
      await settler.settle()
      acked.chain.drop = 1
      await pay(6, 1, 9n)
      await settler.settle()
      await pay(7, 2, 11n)
      await book.close()
    },
    check: async (disk, before) => {
      const chain = before.chain.clone()
      const book = await FeeBook.open(disk, PATH, { rewriteBytes: 700 })
      const settler = settlerOf(book, chain)
      // What the dead process had sent may still come into a block.
      chain.mine()
      await settler.reconcile()
      if (book.intents().length > 0) throw new Error('a settlement is left open')
      const acked = [...before.done.values()].reduce((sum, f) => sum + f, 0n)
      const tried = [...before.tried.values()].reduce((sum, f) => sum + f, 0n)
      const all = owed(book) + paid(chain)
      if (all < acked)
        throw new Error(`owed ${owed(book)} + paid ${paid(chain)} is below what was acknowledged, ${acked}`)
      if (all > tried) throw new Error(`owed ${owed(book)} + paid ${paid(chain)} is above all fees, ${tried}`)
      await settler.settle(undefined, { force: true })
      if (owed(book) + paid(chain) !== all) throw new Error('settling changed the sum')
      // Users 1 and 2 can pay everything, user 3 has 50 for 80.
      for (const who of [1, 2]) if (book.unsettled(user(who)) !== 0n) throw new Error(`user ${who} still owes`)
      await book.close()
      const again = await FeeBook.open(disk, PATH)
      if (owed(again) + paid(chain) !== all) throw new Error('a restart changed the sum')
      await again.close()
    }
  })
  t.ok(report.points > 25, `${report.points} crash points, ${report.runs} runs`)
})

t.test('damage is told from a torn tail', async t => {
  const disk = new SimDisk()
  const { journal } = await openJournal(disk, PATH)
  for (let i = 0; i < 5; i++) await journal.append([new Uint8Array(20).fill(i + 1)])
  await journal.close()
  const read = async (): Promise<Uint8Array> => {
    const file = await disk.open(PATH, 'open')
    const bytes = await file.read(0, await file.size())
    await file.close()
    return bytes
  }
  const whole = await read()
  const write = async (bytes: Uint8Array): Promise<void> => {
    const file = await disk.open(PATH, 'open')
    await file.truncate(0)
    await file.write(0, bytes)
    await file.close()
  }
  const one = whole.length / 5
  let stopped = 0
  for (let at = 0; at < whole.length; at++) {
    const bytes = whole.slice()
    bytes[at]! ^= 1
    await write(bytes)
    const found = await openJournal(disk, PATH).then(
      async ({ journal, bodies }) => {
        await journal.close()
        return bodies.length
      },
      err => err.code as string
    )
    // Behind the last record nothing says that it was durable.
    if (at < 4 * one) {
      t.equal(found, 'ERR_CORRUPT', `byte ${at}`)
      stopped++
    } else t.equal(found, 4, `byte ${at}: the last record may be torn`)
  }
  t.equal(stopped, 4 * one)
  for (let size = 0; size < whole.length; size++) {
    await write(whole.slice(0, size))
    const { journal, bodies } = await openJournal(disk, PATH)
    t.equal(bodies.length, Math.floor(size / one), `${size} bytes`)
    await journal.close()
  }
})

t.test('a full disk refuses and recovers, a failed sync ends the journal', async t => {
  const disk = new SimDisk()
  const book = await FeeBook.open(disk, PATH)
  await book.done(record(1, 1, 10n))
  disk.faults.capacityBytes = book.sizeBytes + 40
  await t.rejects(book.done(record(2, 1, 10n)), { code: 'ERR_DISK_FULL' })
  t.equal(book.trouble?.code, 'ERR_DISK_FULL')
  t.equal(book.unsettled(user(1)), 10n, 'what was not recorded is not owed')
  disk.faults = {}
  await book.probe()
  t.equal(book.trouble, undefined)
  await book.done(record(3, 1, 5n))
  await book.close()
  const again = await FeeBook.open(disk, PATH)
  t.equal(again.unsettled(user(1)), 15n)
  const failing = new SimDisk()
  const last = await FeeBook.open(failing, PATH)
  // The first sync is that of the directory.
  failing.faults = { failSync: 2 }
  await t.rejects(last.done(record(4, 1, 1n)), { code: 'ERR_IO' })
  failing.faults = {}
  await t.rejects(last.done(record(5, 1, 1n)), { code: 'ERR_IO' }, 'a later sync would prove nothing')
  t.equal(last.unsettled(user(1)), 0n)
})

t.test('the journal stays small however many requests it has seen', async t => {
  const disk = new SimDisk()
  const book = await FeeBook.open(disk, PATH, { rewriteBytes: 4096 })
  const chain = newChain({ 1: 1000n * OG })
  const settler = settlerOf(book, chain)
  for (let round = 0; round < 30; round++) {
    await Promise.all(Array.from({ length: 40 }, (_, i) => book.done(record(round * 40 + i, 1, 5n))))
    await settler.settle()
  }
  t.ok(book.sizeBytes < 30_000, `${book.sizeBytes} bytes after 1,200 requests`)
  t.ok(book.syncs < 200, `${book.syncs} syncs for 1,200 requests and 30 settlements`)
  t.equal(book.totals.settledCount, 1200)
  t.equal(book.totals.settledFee, 6000n)
  await book.close()
  const again = await FeeBook.open(disk, PATH)
  t.same(again.totals, book.totals)
})

t.test('each way a settlement can end', async t => {
  const start = async (balances: Record<number, bigint>) => {
    const book = await FeeBook.open(new SimDisk() as Disk, PATH)
    const chain = newChain(balances)
    return { book, chain, settler: settlerOf(book, chain) }
  }
  t.test('the balance covers some requests: whole ones are chosen, the rest waits', async t => {
    const { book, chain, settler } = await start({ 1: 100n })
    for (const [n, fee] of [60n, 50n, 30n].entries()) await book.done(record(n, 1, fee))
    const report = await settler.settle()
    t.match(report.settled, [{ status: 'SUCCESS', requests: 2, paid: 90n }])
    t.equal(book.unsettled(user(1)), 50n)
    t.equal(chain.accounts.get(toHex(user(1)))!.balance, 10n)
  })
  t.test('not one fits: paid in part, the rest becomes a record of its own', async t => {
    const { book, chain, settler } = await start({ 1: 40n })
    await book.done(record(1, 1, 60n))
    const report = await settler.settle()
    t.match(report.settled, [{ status: 'PARTIAL', paid: 40n, unpaid: 20n }])
    t.equal(book.unsettled(user(1)), 20n)
    t.not(book.billable(user(1))[0]!.id, record(1, 1, 60n).id)
    t.equal(book.billable(user(1))[0]!.createdMs, record(1, 1, 60n).createdMs, 'as old as what it comes from')
    t.match((await settler.settle()).skipped, [{ reason: 'balance was too small' }])
    chain.accounts.get(toHex(user(1)))!.balance = 100n
    t.match((await settler.settle()).settled, [{ status: 'SUCCESS', paid: 20n }], 'more money lifts the hold')
    t.equal(owed(book), 0n)
  })
  t.test('signer not acknowledged: kept until it is, or written off', async t => {
    const { book, chain, settler } = await start({ 1: OG, 2: OG })
    await book.done(record(1, 1, 5n))
    await book.done(record(2, 2, 6n))
    chain.serviceAcknowledged = false
    t.equal((await settler.settle()).skipped.length, 2)
    chain.serviceAcknowledged = true
    chain.accounts.get(toHex(user(2)))!.acknowledged = false
    const report = await settler.settle()
    t.match(report.settled, [{ status: 'SUCCESS' }])
    t.match(report.skipped, [{ reason: 'account has not acknowledged the signer' }])
    t.same(await book.writeOff(user(2)), { count: 1, fee: 6n })
    t.equal(owed(book), 0n)
    t.equal(book.totals.writtenOffFee, 6n)
  })
  t.test('the acknowledgement goes between plan and block', async t => {
    const { book, chain, settler } = await start({ 1: OG })
    await book.done(record(1, 1, 5n))
    const mine = chain.mine.bind(chain)
    chain.mine = () => {
      chain.accounts.get(toHex(user(1)))!.acknowledged = false
      mine()
    }
    t.match((await settler.settle()).settled, [{ status: 'NO_TEE_SIGNER', paid: 0n }])
    t.equal(book.unsettled(user(1)), 5n, 'still owed')
    t.equal(settler.held(user(1)), 'signer not acknowledged')
  })
  t.test('a lost transaction is sent again with more fee, under the same nonce', async t => {
    const { book, chain, settler } = await start({ 1: OG })
    await book.done(record(1, 1, 5n))
    chain.drop = 2
    t.match((await settler.settle()).settled, [{ status: 'SUCCESS', paid: 5n }])
    t.equal(chain.sends, 3)
    t.equal(chain.mined.length, 1)
  })
  t.test('the nonce went to another transaction: free again, then paid', async t => {
    const { book, chain, settler } = await start({ 1: OG })
    await book.done(record(1, 1, 5n))
    chain.drop = 99
    await t.rejects(settler.settle(), { code: 'ERR_TIMEOUT' })
    t.equal(book.intents().length, 1)
    chain.drop = 0
    chain.stealNonce()
    const report = await settler.settle()
    t.match(report.settled, [{ status: 'RELEASED' }, { status: 'SUCCESS', paid: 5n }])
    t.equal(paid(chain), 5n)
  })
  t.test('120 users go in three batches; a second call pays nothing', async t => {
    const balances = Object.fromEntries(Array.from({ length: 120 }, (_, i) => [i + 1, OG]))
    const { book, chain, settler } = await start(balances)
    for (let i = 1; i <= 120; i++) await book.done(record(i, i, BigInt(i)))
    const [a, b] = await Promise.all([settler.settle(), settler.settle()])
    t.equal(a.settled.length + b.settled.length, 120)
    t.equal(chain.mined.length, 3)
    t.equal(paid(chain), (120n * 121n) / 2n)
    t.same((await settler.settle()).settled, [])
  })
  const list = [record(1, 1, 60n), record(2, 1, 50n), record(3, 1, 40n)]
  t.same(
    fit(list, 100n, 9).map(r => r.promptTokens),
    [1, 3]
  )
  t.same(
    fit(list, 10n, 9).map(r => r.promptTokens),
    [1],
    'the oldest in part'
  )
  t.same(
    fit(list, 500n, 2).map(r => r.promptTokens),
    [1, 2],
    'no more than there is room for'
  )
})

t.test('signatures are found for a day, across restarts, and then forgotten', async t => {
  const disk = new SimDisk()
  const kept = {
    requestHash: new Uint8Array(32).fill(1),
    responseHash: new Uint8Array(32).fill(2),
    signature: new Uint8Array(65).fill(3)
  }
  const id = newId(new SeededRandom('id'))
  t.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  const store = new SignatureStore(await openSimKv(disk, '/signatures'))
  await store.put(id, 1_000, kept)
  disk.crashNow()
  const after = new SignatureStore(await openSimKv(disk.afterCrash('none', 'x'), '/signatures'))
  t.same(await after.get(id, 1_000 + SIGNATURE_TTL_MS), kept)
  t.equal(await after.get(id, 1_001 + SIGNATURE_TTL_MS), undefined)
  for (const bad of ['', 'x', '../..', `${id}0`, id.toUpperCase()]) t.equal(await after.get(bad, 1_000), undefined, bad)
  t.equal(await after.sweep(1_000 + SIGNATURE_TTL_MS), 0)
  t.equal(await after.sweep(1_001 + SIGNATURE_TTL_MS), 1)
  t.equal(await after.get(id, 1_000), undefined)
})
