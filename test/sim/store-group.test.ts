/**
 * Proves on simulated time, nets and disks what a coding group promises (storage.md 11): any m members may vanish and every file reads
 * back identical through every other; one more gives a clean error and no wrong byte; what is lost, wiped, rotten or lied about is
 * found and made again; two entry nodes, both sides of a partition, and a member that comes back agree. Seeds are printed.
 */
import t from 'tap'
import { type GroupCodec, OP } from '../../cmd/zg-store/group/ports.ts'
import {
  decodePuts,
  decodeTake,
  encodeClaims,
  encodeManifests,
  encodeTake,
  encodeTaken
} from '../../cmd/zg-store/group/wire.ts'
import { equalBytes, utf8 } from '../../lib/base/bytes.ts'
import { toHex } from '../../lib/base/hex.ts'
import { type Claim, claimStatement, coreStatement, MAX_EPOCH, signBatch } from '../../lib/codec/storage/manifest.ts'
import { signTombstone } from '../../lib/codec/storage/members.ts'
import { ranked, reassign } from '../../lib/codec/storage/placement.ts'
import type { SigningKey } from '../../lib/crypto/ed25519.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { SEED } from '../harness/seed.ts'
import { choices, content, SimGroup, syncCodec } from '../harness/store-group.ts'

const ALL = process.env.PATTERNS === 'all'
t.setTimeout(280_000)

/** What a member says who keeps nothing. */
function falseClaims(key: SigningKey, head: Uint8Array): Claim[] {
  return decodePuts(head)!.map(({ shard }) => {
    const [by] = signBatch(key, [claimStatement(shard, shard.shardRoot)])
    return { holder: key.publicKey, by: by! }
  })
}

const SIZES: Record<number, number[]> = {
  1: [1, 300_000],
  2: [1, 20_000, 262_144, 300_000],
  3: [5, 16_385, 524_288, 700_001],
  4: [1, 30_000, 524_289],
  6: [1, 16_384, 16_385, 262_145, 1_048_576, 1_300_000]
}

for (const n of [1, 2, 3, 4, 6]) {
  t.test(`${n} members: every loss that the code bears, through every survivor; one more is a clean error`, async t => {
    const g = await SimGroup.start(n, `${SEED}/loss ${n}`)
    const seqs: number[] = []
    for (const [i, size] of SIZES[n]!.entries()) {
      seqs.push((await g.put(i % n, content(`${n}/${size}`, size))).seq)
    }
    t.ok(await g.until(() => g.sound(seqs), 60_000), 'all shards acknowledged, parity computed again')
    const m = [0, 0, 1, 1, 2, 2, 2][n]!
    let reads = 0
    for (let lost = 0; lost <= m; lost++) {
      for (const dead of choices(n, lost)) {
        for (const i of dead) g.members[i]!.up = false
        for (const x of g.members) if (x.up) x.group.dropCaches()
        for (const x of g.members) {
          if (!x.up) continue
          for (const seq of seqs) {
            const found = await g.read(x.index, seq)
            reads++
            if (found !== 'same') t.fail(`dead ${dead}, through ${x.index}, file ${seq}: ${found}`)
          }
        }
        for (const i of dead) g.members[i]!.up = true
      }
    }
    let clean = 0
    if (m + 1 < n) {
      for (const dead of [...choices(n, m + 1)].slice(0, 4)) {
        for (const i of dead) g.members[i]!.up = false
        for (const x of g.members) {
          if (!x.up) continue
          x.group.dropCaches()
          for (const seq of seqs) {
            const found = await g.read(x.index, seq)
            if (found === 'wrong') t.fail(`wrong bytes with ${dead} dead`)
            if (found === 'none') clean++
          }
        }
        for (const i of dead) g.members[i]!.up = true
      }
      t.ok(clean > 0, 'too many dead: null')
    }
    t.comment(`${reads} reads of whole files, ${clean} clean refusals`)
    t.ok(reads > 0)
    await g.close()
  })
}

t.test('a wiped member makes its shards again, k bytes read for each lost one', async t => {
  const g = await SimGroup.start(6, `${SEED}/wipe`)
  const seqs = [(await g.put(0, content('w1', 1_048_576))).seq, (await g.put(1, content('w2', 2_500_000))).seq]
  t.ok(await g.until(() => g.sound(seqs), 60_000))
  await g.kill(2)
  g.wipe(2)
  await g.up(2)
  t.ok(await g.until(async () => (await g.shares())[2]! > 0 && (await g.sound(seqs, 2)), 60_000), 'whole again')
  t.ok(
    await g.until(async () => (await g.shares())[2] === (await g.shares())[3], 60_000),
    'as many shards as the others'
  )
  const { stats } = g.members[2]!.group
  const ratio = (stats.repairReadBytes + stats.repairSentBytes) / stats.repairedBytes
  t.comment(`${stats.repairedBytes} bytes lost, ${ratio.toFixed(2)} bytes moved for each`)
  t.ok(stats.repairedBytes > 500_000)
  t.ok(ratio <= 4.01, `at most k bytes for each lost one, found ${ratio}`)
  for (const dead of [0, 1]) g.members[dead]!.up = false
  for (const x of g.members) x.group.dropCaches()
  for (const seq of seqs) t.equal(await g.read(2, seq), 'same', 'its new shards are good')
  for (const dead of [0, 1]) g.members[dead]!.up = true
  await g.close()
})

t.test(
  'of seven members one is lost: others take its shards; it comes back, nothing is lost, surplus goes',
  async t => {
    const g = await SimGroup.start(7, `${SEED}/lost`)
    const seqs: number[] = []
    for (let i = 0; i < 4; i++) seqs.push((await g.put(i, content(`l${i}`, 1_048_576 + i * 300_000))).seq)
    t.ok(await g.until(() => g.sound(seqs), 60_000))
    const before = (await g.shares()).reduce((a, b) => a + b)
    await g.kill(3)
    t.ok(
      await g.until(
        async () => g.members[0]!.group.membership.losses().lost.length === 1 && (await g.sound(seqs)),
        120_000
      ),
      'repaired without it'
    )
    for (const x of g.members) if (x.up) x.group.dropCaches()
    for (const seq of seqs) for (const x of g.members) if (x.up) t.equal(await g.read(x.index, seq), 'same')
    await g.up(3)
    t.ok(await g.until(() => g.sound(seqs, 3), 60_000), 'it learns what became of its shards')
    t.ok(
      await g.until(async () => (await g.shares()).reduce((a, b) => a + b) === before, 200_000),
      'each shard lies at one member again'
    )
    t.ok(await g.sound(seqs))
    for (const seq of seqs) t.equal(await g.read(3, seq), 'same')
    await g.close()
  }
)

t.test('flipped bits: never served, found by reads and by scrub, made again', async t => {
  const g = await SimGroup.start(6, `${SEED}/rot`)
  const { seq } = await g.put(0, content('rot', 1_200_000))
  t.ok(await g.until(() => g.sound([seq]), 60_000))
  await g.run(1_000)
  for (const i of [1, 4]) {
    const m = g.members[i]!
    await g.kill(i, 'all') // what was verified is forgotten with the process
    for (const path of m.disk.files().filter(f => f.startsWith('/segments/'))) {
      const size = m.disk.peek(path).length
      for (let at = 400; at < size; at += 100_000) m.disk.flipBit(path, 8 * at + 3)
    }
    await g.up(i)
  }
  await g.run(3_000)
  for (const x of g.members) x.group.dropCaches()
  for (const x of g.members) t.equal(await g.read(x.index, seq), 'same', 'read around the damage')
  let damaged = 0
  for (const i of [1, 4]) damaged += (await g.finish(g.members[i]!.group.scrub())).damaged
  t.ok(await g.until(() => g.sound([seq]), 60_000), 'whole again')
  // The others' view is whole before the last byte is written at those two.
  let left = -1
  for (let second = 0; second < 60 && left !== 0; second++) {
    await g.run(1_000)
    left = 0
    for (const i of [1, 4]) left += (await g.finish(g.members[i]!.group.scrub())).damaged
  }
  t.equal(left, 0, 'nothing damaged is left')
  t.comment(`${damaged} damaged shards found by scrub, the others by reads`)
  await g.close()
})

t.test('two entry nodes at once, and half of the segments at each: both final, one manifest', async t => {
  const g = await SimGroup.start(6, `${SEED}/two`)
  const a = await g.submit(content('two', 2_300_000))
  await Promise.all([g.upload(0, a.file, a.seq), g.upload(5, a.file, a.seq)])
  for (const i of [0, 2, 5]) t.ok(await g.until(() => g.isFinal(i, a.seq), 30_000), `final at ${i}`)
  const digests = async () => new Set(g.members.map(m => m.group.describe().digest))
  t.ok(await g.until(async () => (await digests()).size === 1, 30_000), 'all have the same manifests')
  t.ok(await g.until(() => g.sound([a.seq]), 60_000))
  t.equal(
    (await g.shares()).reduce((x, y) => x + y),
    3 * 6,
    'no shard twice'
  )
  await g.close()
})

t.test('a partition: the larger side repairs, both heal to one state', async t => {
  const g = await SimGroup.start(7, `${SEED}/partition`)
  const seqs = [(await g.put(0, content('p1', 1_048_576))).seq, (await g.put(4, content('p2', 900_000))).seq]
  t.ok(await g.until(() => g.sound(seqs), 60_000))
  g.side = i => (i < 5 ? 0 : 1)
  await g.run(15_000)
  for (const seq of seqs) for (const i of [0, 4]) t.equal(await g.read(i, seq), 'same')
  const late = await g.put(1, content('p3', 700_000), { finalAt: [0, 1, 2] })
  g.side = undefined
  t.ok(await g.until(() => g.sound([...seqs, late.seq]), 120_000), 'whole after the heal')
  t.ok(await g.until(async () => new Set(g.members.map(m => m.group.describe().digest)).size === 1, 60_000))
  for (const x of g.members) for (const seq of [...seqs, late.seq]) t.equal(await g.read(x.index, seq), 'same')
  t.ok(await g.isFinal(6, late.seq), 'the smaller side knows the file it did not see')
  await g.close()
})

t.test('lossy net: a tenth of all messages lost, files become final and whole', async t => {
  const g = await SimGroup.start(6, `${SEED}/loss`)
  g.loss = 0.1
  const { seq } = await g.put(2, content('lossy', 1_500_000))
  g.loss = 0
  t.ok(await g.until(() => g.sound([seq]), 120_000))
  await g.close()
})

t.test('liars: false acknowledgements, wrong parity, forged manifests', async t => {
  const wrong: GroupCodec = {
    ...syncCodec,
    encode: async (k, m, data) => {
      const parity = await syncCodec.encode(k, m, data)
      if (data[0]!.length > 16) parity[0]![100]! ^= 1
      return parity
    }
  }
  const begin = async (attempt: number) => {
    const g = await SimGroup.start(6, `${SEED}/liars${attempt === 0 ? '' : attempt}`, { codecs: new Map([[0, wrong]]) })
    // Member 5 signs for everything and keeps nothing: ⌈m / 2⌉ such members are borne from the first moment.
    const liar = g.members[5]!.key
    g.liars.set(5, async (op, asked, honest, from) => {
      if (op === OP.put) {
        return { head: encodeTaken(falseClaims(liar, asked.head)), body: new Uint8Array(0) }
      }
      return honest(from, op, asked)
    })
    const { seq, file } = await g.put(0, content('lie', 1_048_576))
    const [stripe] = await g.members[1]!.group.stripes(file.root)
    return { g, liar, seq, file, first: stripe?.holders[4] }
  }
  // Who checks the parity is its first holder; one that lies finds nothing, and then it is another draw.
  let attempt = 0
  let begun = await begin(attempt)
  const lying = (): boolean => [0, 5].some(i => toHex(begun.g.members[i]!.key.publicKey) === begun.first)
  while (lying() && attempt < 20) {
    await begun.g.close()
    begun = await begin(++attempt)
  }
  const { g, liar, seq, file } = begun
  t.ok(
    await g.until(async () => g.members.some(m => m.group.stats.wrongParity > 0), 60_000),
    'the wrong parity of the encoder is found'
  )
  await g.run(5_000)
  for (const x of g.members) x.group.dropCaches()
  for (const x of g.members) t.equal(await g.read(x.index, seq), 'same')
  // Without one honest data holder: what was made again decodes.
  const holders = (await g.members[1]!.group.stripes(file.root))[0]!.holders
  const data = holders.slice(0, 4)
  const dead = g.members.find(m => m.index !== 5 && data.includes(toHex(m.key.publicKey)))!
  dead.up = false
  for (const x of g.members) if (x.up) x.group.dropCaches()
  for (const x of g.members) if (x.up && x.index !== 5) t.not(await g.read(x.index, seq), 'wrong')
  dead.up = true

  // Forged: the last epoch, foreign holders, nothing signed by them.
  const before = await g.shares()
  const m = (await g.manifests(1, file.root))[0]!
  const core = { ...m, epoch: MAX_EPOCH, claims: m.claims.map(() => undefined) }
  const [by] = signBatch(liar, [coreStatement(core)])
  const forged = encodeManifests([{ ...core, signer: liar.publicKey, by: by! }]).bytes
  for (const x of g.members.slice(1, 5)) {
    await g.finish(x.group.handle(liar.publicKey, OP.manifests, { head: new Uint8Array(0), body: forged }))
  }
  t.ok(
    (await g.manifests(1, file.root)).every(x => x.epoch < 100),
    'an epoch out of reach is refused'
  )
  await g.run(30_000)
  t.same(await g.shares(), before, 'no shard was dropped')
  const fresh = await g.submit(content('fresh', 600_000))
  const lie = {
    ...m,
    root: fresh.file.root,
    size: fresh.file.size,
    stripe: 0,
    leaves: [...m.shardRoots.slice(0, 3)],
    claims: m.claims
  }
  const [by2] = signBatch(liar, [coreStatement(lie)])
  await g.finish(
    g.members[1]!.group.handle(liar.publicKey, OP.manifests, {
      head: new Uint8Array(0),
      body: encodeManifests([{ ...lie, signer: liar.publicKey, by: by2! }]).bytes
    })
  )
  t.notOk(await g.isFinal(1, fresh.seq), 'a false final')
  await g.upload(1, fresh.file, fresh.seq)
  t.ok(await g.until(() => g.isFinal(1, fresh.seq), 60_000), 'the upload was not refused')
  t.equal(await g.read(1, fresh.seq), 'same')
  await g.close()
})

t.test('below k: final turns false, the same upload brings it back', async t => {
  const g = await SimGroup.start(6, `${SEED}/below`)
  const { seq, file } = await g.put(0, content('below', 1_048_576))
  t.ok(await g.until(() => g.sound([seq]), 60_000))
  for (const i of [1, 2, 3]) await g.kill(i)
  t.ok(await g.isFinal(0, seq), 'at first they may only be restarting')
  t.ok(await g.until(async () => !(await g.isFinal(0, seq)), 60_000), 'not final any more')
  t.equal((await g.tx(0, seq)).status, 'pending', 'and not pruned')
  await g.upload(0, file, seq)
  t.ok(await g.until(() => g.isFinal(0, seq), 120_000), 'final again')
  for (const i of [0, 4, 5]) t.equal(await g.read(i, seq), 'same')
  await g.close()
})

t.test('a deleted file stays deleted when a member returns that did not hear of it', async t => {
  const g = await SimGroup.start(6, `${SEED}/tombstone`)
  const { seq, file } = await g.put(0, content('gone', 800_000))
  t.ok(await g.until(() => g.sound([seq]), 60_000))
  await g.kill(4)
  const stone = signTombstone(file.root, 5, 'test', g.groupKey)
  t.notOk(await g.finish(g.members[0]!.group.bury({ ...stone, epoch: 6 })), 'a stone that is not signed')
  t.ok(await g.finish(g.members[0]!.group.bury(stone)))
  await g.up(4)
  t.ok(await g.until(async () => (await g.tx(4, seq)).status === 'pruned', 60_000))
  t.ok(await g.until(async () => (await g.shares()).every(n => n === 0), 120_000), 'no shard is left')
  for (const x of g.members) t.equal(await g.read(x.index, seq), 'none')
  const again = await g.put(2, content('gone', 800_000), { finalAt: [2, 4] })
  t.equal(await g.read(4, again.seq), 'same', 'a new upload of it starts above')
  await g.close()
})

t.test(
  'every two of six are killed, wiped or corrupted in turn: all reads hold, and the group heals itself',
  async t => {
    const g = await SimGroup.start(6, `${SEED}/pairs`)
    const seqs: number[] = []
    for (const [i, size] of [1, 16_384, 20_000, 300_000].entries()) {
      seqs.push((await g.put(i, content(`p${size}`, size))).seq)
    }
    t.ok(await g.until(() => g.sound(seqs), 60_000))
    const before = await g.shares()
    const ways = ['killed', 'wiped', 'corrupted'] as const
    const done: Record<string, number> = {}
    let lost = 0
    let moved = 0
    for (const [n, pair] of [...choices(6, 2)].entries()) {
      for (const way of ALL ? ways : [ways[n % 3]!]) {
        const what = `${pair} ${way}`
        for (const i of pair) await g.kill(i, 'all')
        for (const x of g.members) if (x.up) x.group.dropCaches()
        for (const x of g.members) {
          if (!x.up) continue
          for (const seq of seqs)
            if ((await g.read(x.index, seq)) !== 'same') t.fail(`${what}: file ${seq} through ${x.index}`)
        }
        for (const i of pair) {
          if (way === 'wiped') g.wipe(i)
          const { disk } = g.members[i]!
          const rotten = way === 'corrupted' ? disk.files().filter(f => f.startsWith('/segments/')) : []
          for (const path of rotten) {
            for (let at = 400; at < disk.peek(path).length; at += 5_000) disk.flipBit(path, 8 * at + (n % 8))
          }
          await g.up(i)
        }
        await g.run(2 * g.times.beatMs)
        if (way === 'corrupted') for (const i of pair) await g.finish(g.members[i]!.group.scrub())
        const whole = async (): Promise<boolean> => {
          for (const i of pair) {
            for (const seq of seqs) if (!(await g.isFinal(i, seq))) return false
            if (!(await g.sound(seqs, i)) || g.members[i]!.group.pendingRepairs > 0) return false
          }
          return `${await g.shares()}` === `${before}`
        }
        // Looked at now and then: the look costs more than what it looks at.
        let waited = 0
        while (!(await whole()) && waited++ < 240) await g.run(g.times.beatMs)
        if (waited >= 240) t.fail(`${what}: not whole again, shares ${await g.shares()}`)
        for (const i of pair) {
          const { stats } = g.members[i]!.group
          lost += stats.repairedBytes
          moved += stats.repairReadBytes + stats.repairSentBytes
          g.members[i]!.group.dropCaches()
          for (const seq of seqs)
            if ((await g.read(i, seq)) !== 'same') t.fail(`${what}: file ${seq} through ${i} afterwards`)
        }
        done[way] = (done[way] ?? 0) + 1
      }
    }
    t.same(done, ALL ? { killed: 15, wiped: 15, corrupted: 15 } : { killed: 5, wiped: 5, corrupted: 5 })
    t.comment(`${lost} bytes lost, ${(moved / lost).toFixed(2)} moved for each`)
    t.ok(lost > 500_000, 'shards were made again')
    t.ok(moved <= 4.01 * lost, 'at most k bytes moved for each lost one')
    await g.close()
  }
)

t.test('a member alone does not give up a file of the group', async t => {
  const g = await SimGroup.start(6, `${SEED}/prune`)
  const { seq, file } = await g.put(0, content('kept', 800_000))
  t.ok(await g.until(() => g.sound([seq]), 60_000))
  const before = await g.shares()
  const { ops } = g.members[3]!.disk
  await t.rejects(g.members[3]!.store.prune(file.root), { code: 'ERR_REJECTED' })
  t.equal(g.members[3]!.disk.ops, ops, 'nothing is written, so no crash can leave half of it')
  t.equal((await g.tx(3, seq)).status, 'final')
  await g.run(g.times.lostMs)
  t.same(await g.shares(), before, 'no shard was dropped, nor made again')
  t.equal(
    g.members.reduce((n, m) => n + m.group.stats.repairedShards, 0),
    0
  )
  t.equal(await g.read(3, seq), 'same')
  await g.close()
})

t.test('a member replaced and one added: whole, shares even', async t => {
  const g = await SimGroup.start(6, `${SEED}/members`, { spare: 2 })
  const seqs: number[] = []
  for (let i = 0; i < 3; i++) seqs.push((await g.put(i, content(`m${i}`, 2_200_000))).seq)
  t.ok(await g.until(() => g.sound(seqs), 60_000))
  await g.kill(0)
  await g.newList([1, 2, 3, 4, 5, 6], 1)
  await g.up(6)
  t.ok(await g.until(() => g.sound(seqs, 6), 120_000), 'the newcomer has what the old one had')
  await g.newList([1, 2, 3, 4, 5, 6, 7], 2)
  await g.up(7)
  t.ok(await g.until(async () => (await g.sound(seqs, 7)) && (await g.shares())[7]! > 0, 200_000))
  for (const x of g.members) if (x.up) for (const seq of seqs) t.equal(await g.read(x.index, seq), 'same')
  await g.close()
  // Shares over many stripes: within a tenth, and a join moves about 1/n.
  const ids = Array.from({ length: 13 }, (_, i) => ({ id: keccak256(utf8(`even ${i}`)), peer: '' }))
  const root = keccak256(utf8('even'))
  let moved = 0
  const share = new Map<string, number>()
  for (let stripe = 0; stripe < 3000; stripe++) {
    const old = ranked(ids.slice(0, 12), root, stripe).slice(0, 6)
    const now = reassign(
      old.map(x => x.id),
      ranked(ids, root, stripe)
    )
    for (const [j, id] of now.entries()) {
      share.set(toHex(id!), (share.get(toHex(id!)) ?? 0) + 1)
      if (!equalBytes(id!, old[j]!.id)) moved++
    }
  }
  const mean = (3000 * 6) / 13
  for (const n of share.values()) if (Math.abs(n - mean) > mean / 10) t.fail(`share ${n}, mean ${mean}`)
  t.equal(share.size, 13)
  t.ok(moved / (3000 * 6) < 1 / 12, `${((100 * moved) / (3000 * 6)).toFixed(1)} % moved`)
})

t.test('many shards: fetched by their holders, signed together; whoever lies about them changes nothing', async t => {
  const g = await SimGroup.start(6, `${SEED}/fetched`)
  const ops = new Map<number, number>()
  const count = (op: number): number => ops.get(op) ?? 0
  let ticket: Uint8Array | undefined
  for (const x of g.members) {
    g.liars.set(x.index, async (op, asked, honest, from) => {
      ops.set(op, count(op) + 1)
      if (op === OP.take) ticket = asked.head.slice()
      return honest(from, op, asked)
    })
  }
  const first = await g.put(0, content('fetched', 6 * 1_048_576))
  t.ok(await g.until(() => g.sound([first.seq]), 60_000), 'whole')
  t.ok(count(OP.keep) > 0 && count(OP.take) === count(OP.keep), `${count(OP.take)} messages were fetched`)
  t.ok(count(OP.claim) >= 5 && count(OP.claim) < 5 * 6, `${count(OP.claim)} messages with signed words for 30 shards`)
  for (const x of g.members) t.equal(await g.read(x.index, first.seq), 'same')

  // Nobody fetches what is not offered to him, nor after it was kept; nobody gives his word for what he does not have.
  const other = g.members[4]!.key.publicKey
  const head = encodeTake(ticket!.subarray(0, 8), decodeTake(ticket!)!.wanted)
  for (const from of [other, g.members[1]!.key.publicKey]) {
    const answer = await g.finish(g.members[0]!.group.handle(from, OP.take, { head, body: new Uint8Array(0) }))
    t.same(answer.head, Uint8Array.of(0), 'an offer that is over')
  }
  const [m] = await g.manifests(0, first.file.root)
  const missing = { ...m!, j: 0, shardRoot: m!.shardRoots[0]! }
  const without = g.members.find(x => toHex(x.key.publicKey) !== toHex(m!.claims[0]!.holder))!
  const asked = { head: encodeClaims([missing]), body: new Uint8Array(0) }
  const told = await g.finish(without.group.handle(other, OP.claim, asked))
  t.same(told.head, encodeTaken(['not here']))

  // Member 3 says that it has everything and never signs: its shards are not counted, the file is final by the others.
  g.liars.set(3, async (op, packet, honest, from) => {
    if (op !== OP.claim) return honest(from, op, packet)
    return { head: encodeTaken(Array.from({ length: packet.head.length / 79 }, () => 'no')), body: new Uint8Array(0) }
  })
  const mute = await g.put(0, content('mute', 4 * 1_048_576))
  const silent = toHex(g.members[3]!.key.publicKey)
  const named = (await g.manifests(1, mute.file.root)).flatMap(x => x.claims)
  t.notOk(
    named.some(c => c !== undefined && toHex(c.holder) === silent),
    'no word, no holder'
  )
  g.liars.delete(3)
  t.ok(await g.until(() => g.sound([mute.seq]), 120_000), 'whole when it speaks again')

  // An entry node that gives other bytes than it announced: no holder takes them.
  let flipped = 0
  g.liars.set(0, async (op, packet, honest, from) => {
    const answer = await honest(from, op, packet)
    if (op !== OP.take || flipped >= 4) return answer
    flipped++
    const body = (Array.isArray(answer.body) ? answer.body : [answer.body]).map((x: Uint8Array) => x.slice())
    for (const x of body) x[17]! ^= 1
    return { head: answer.head, body }
  })
  const before = g.members.reduce((n, x) => n + x.group.stats.refusedShards, 0)
  const wrong = await g.put(0, content('wrong bytes', 4 * 1_048_576))
  t.ok(flipped > 0 && g.members[0]!.group.stats.refusedShards > before, 'refused')
  t.ok(await g.until(() => g.sound([wrong.seq]), 120_000), 'whole in the end')
  for (const x of g.members) {
    x.group.dropCaches()
    for (const seq of [first.seq, mute.seq, wrong.seq]) t.equal(await g.read(x.index, seq), 'same')
  }
  await g.close()
})

t.test('canary: more false acknowledgements than the code bears are noticed by these checks', async t => {
  const g = await SimGroup.start(6, `${SEED}/canary`)
  for (const i of [3, 4, 5]) {
    const { key } = g.members[i]!
    g.liars.set(i, async (op, asked, honest, from) => {
      if (op !== OP.put) return honest(from, op, asked)
      return { head: encodeTaken(falseClaims(key, asked.head)), body: new Uint8Array(0) }
    })
  }
  const { seq } = await g.put(0, content('canary', 1_048_576))
  await g.kill(0)
  g.wipe(0)
  t.equal(await g.read(1, seq), 'none', 'two honest members are not four: null, and not a wrong byte')
  await g.close()
})
