/**
 * Proves of whole groups what test/sim/store-group.test.ts proves of small ones: 6+3 and 8+4 bear every loss of as many members as they
 * have parity; a failure zone may go as one; parity made from another shard, covered by that shard's holder, is found; what looks like
 * a partition is repaired when an operator says so and not before; files written while members were away are coded again.
 */
import t from 'tap'
import { type GroupCodec, OP } from '../../cmd/zg-store/group/ports.ts'
import { decodeList } from '../../cmd/zg-store/group/wire.ts'
import { equalBytes } from '../../lib/base/bytes.ts'
import { toHex } from '../../lib/base/hex.ts'
import { shardSum } from '../../lib/codec/storage/tower.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { SEED } from '../harness/seed.ts'
import { choices, content, SimGroup, syncCodec } from '../harness/store-group.ts'

const random = new SeededRandom(`large groups ${SEED}`)
t.setTimeout(280_000)

/** Some of these, or all where there are few. */
function some<T>(all: readonly T[], count: number): T[] {
  if (all.length <= count) return [...all]
  return Array.from({ length: count }, () => all[random.below(all.length)]!)
}

for (const { n, m, code, patterns } of [
  { n: 9, m: 3, code: '6+3', patterns: 84 },
  { n: 12, m: 4, code: '8+4', patterns: 60 }
]) {
  t.test(`${n} members, ${code}: losses of ${m}, one more is a clean error`, async t => {
    const g = await SimGroup.start(n, `${SEED}/large ${n}`)
    const small = [(await g.put(0, content(`${n}/a`, 20_000))).seq, (await g.put(1, content(`${n}/b`, 300_000))).seq]
    const full = (await g.put(2, content(`${n}/c`, (n - m) * 262_144 + 5))).seq
    t.ok(await g.until(() => g.sound([...small, full]), 60_000))
    t.equal((await g.members[0]!.group.stripes(g.chain[full]!.root))[0]!.code, code)
    const dead = async (set: readonly number[], fn: () => Promise<void>): Promise<void> => {
      for (const i of set) g.members[i]!.up = false
      for (const x of g.members) if (x.up) x.group.dropCaches()
      await fn()
      for (const i of set) g.members[i]!.up = true
    }
    const reader = (): number => {
      const up = g.members.filter(x => x.up)
      return up[random.below(up.length)]!.index
    }
    let reads = 0
    for (const [i, set] of some([...choices(n, m)], patterns).entries()) {
      await dead(set, async () => {
        for (const seq of i % 12 === 0 ? [...small, full] : small) {
          const found = await g.read(reader(), seq)
          reads++
          if (found !== 'same') t.fail(`dead ${set}, file ${seq}: ${found}`)
        }
      })
    }
    let clean = 0
    for (const set of some([...choices(n, m + 1)], 6)) {
      await dead(set, async () => {
        for (const seq of small) {
          const found = await g.read(reader(), seq)
          if (found === 'wrong') t.fail(`wrong bytes with ${set} dead`)
          if (found === 'none') clean++
        }
      })
    }
    t.ok(clean > 0, 'too many dead: null')
    t.comment(`${reads} reads, ${clean} clean refusals`)
    await g.close()
  })
}

t.test('failure zones: a whole zone may go, though it has more members than the code has parity', async t => {
  const zones = ['a', 'a', 'a', 'b', 'b', 'b', 'c', 'c']
  const g = await SimGroup.start(8, `${SEED}/zones`, { zones })
  const seqs: number[] = []
  for (let i = 0; i < 12; i++) seqs.push((await g.put(i % 8, content(`zone ${i}`, 20_000 + i))).seq)
  t.ok(await g.until(() => g.sound(seqs), 60_000))
  const zoneOf = new Map(g.members.map(x => [toHex(x.key.publicKey), zones[x.index]!]))
  for (const seq of seqs) {
    for (const s of await g.members[0]!.group.stripes(g.chain[seq]!.root)) {
      const used = s.holders.map(h => zoneOf.get(h as `0x${string}`))
      for (const z of ['a', 'b', 'c']) {
        const count = used.filter(x => x === z).length
        if (count > 2) t.fail(`${count} shards of one stripe in zone ${z}`)
      }
    }
  }
  for (const z of ['a', 'b', 'c']) {
    for (const x of g.members) x.up = zones[x.index] !== z
    for (const x of g.members) if (x.up) x.group.dropCaches()
    for (const seq of seqs) t.equal(await g.read(g.members.find(x => x.up)!.index, seq), 'same', `zone ${z} dead`)
    for (const x of g.members) x.up = true
  }
  await g.close()
})

t.test('parity made from another shard, and the holder of that shard lies for it', async t => {
  const flip = (data: Uint8Array): Uint8Array => {
    const other = data.slice()
    other[1000]! ^= 0x5a
    return other
  }
  const wrong: GroupCodec = {
    ...syncCodec,
    encode: (k, m, data) => syncCodec.encode(k, m, data[0]!.length > 16 ? data.with(2, flip(data[2]!)) : data)
  }
  let done = false
  for (let attempt = 0; attempt < 8 && !done; attempt++) {
    const g = await SimGroup.start(6, `${SEED}/covered ${attempt}`, { codecs: new Map([[0, wrong]]) })
    const bytes = content(`covered ${attempt}`, 1_048_576)
    const { file } = await g.submit(bytes)
    const seq = g.chain.length - 1
    const answers = { covered: 0 }
    for (const x of g.members) {
      g.liars.set(x.index, async (op, asked, honest, from) => {
        if (op === OP.sum) {
          const [name, rho] = decodeList(asked.head)!
          const second = file.segments[2]!.data
          // The number of the shard that the parity was made from.
          if (name![46] === 2 && equalBytes(name!.subarray(0, 32), file.root)) {
            answers.covered++
            return { head: shardSum(rho!.slice(), flip(second)), body: new Uint8Array(0) }
          }
        }
        return honest(from, op, asked)
      })
    }
    await g.upload(0, file, seq)
    for (const x of g.members) t.ok(await g.until(() => g.isFinal(x.index, seq), 60_000), `member ${x.index}`)
    const [stripe] = await g.members[3]!.group.stripes(file.root)
    const first = g.members.find(x => toHex(x.key.publicKey) === stripe!.holders[4])!
    // A liar that checks himself finds nothing: then another seed.
    if (first.index !== 0 && stripe!.holders[2] !== stripe!.holders[4]) {
      done = true
      t.ok(await g.until(async () => first.group.stats.wrongParity > 0, 60_000), 'found by computing again')
      for (const x of g.members) {
        const told = async (): Promise<boolean> => (await x.group.stripes(file.root))[0]!.epoch > stripe!.epoch
        t.ok(await g.until(told, 60_000), `member ${x.index} knows the next epoch`)
      }
      t.ok(await g.until(() => g.sound([seq], 3), 60_000), 'made again')
      for (const set of choices(6, 2)) {
        for (const i of set) g.members[i]!.up = false
        for (const x of g.members) if (x.up) x.group.dropCaches()
        const found = await g.read(g.members.find(x => x.up)!.index, seq)
        if (found !== 'same') t.fail(`dead ${set}: ${found}`)
        for (const i of set) g.members[i]!.up = true
      }
      // Now the same lie is against right parity: the numbers are no code word any more.
      const scrubbed = await g.finish(first.group.scrub())
      t.ok(answers.covered > 0 && scrubbed.sums_wrong > 0, 'the lone liar is found by the numbers')
    }
    await g.close()
  }
  t.ok(done, 'some seed has an honest first parity holder')
})

t.test('more members lost than the code bears: repaired when an operator says so', async t => {
  const g = await SimGroup.start(16, `${SEED}/partition`)
  const seqs: number[] = []
  const dead = [11, 12, 13, 14, 15]
  const ids = dead.map(i => toHex(g.members[i]!.key.publicKey))
  const held: number[] = []
  // Twelve, and as many more as it takes until one loses two shards, and one more than the code bears.
  for (let i = 0; i < 12 || (i < 200 && !(held.includes(2) && held.includes(5))); i++) {
    const { seq } = await g.put(i % 16, content(`part ${i}`, 20_000 + i))
    seqs.push(seq)
    t.ok(await g.until(() => g.sound([seq]), 60_000))
    const [stripe] = await g.members[0]!.group.stripes(g.chain[seq]!.root)
    held.push(stripe!.holders.filter(h => h !== null && ids.includes(h as `0x${string}`)).length)
  }
  for (const i of dead) await g.kill(i)
  await g.run(30_000)
  const survivors = async (): Promise<number[]> =>
    Promise.all(seqs.map(async seq => (await g.health(0, seq)).survivors))
  const before = await survivors()
  // Twelve shards a stripe, eleven members: the fullest that can be is eleven. k or k + 1 are repaired at once, ten are more.
  t.ok(before.includes(10), `survivors ${before}, lost ${held}: what is not in danger waits`)
  for (const [i, n] of before.entries()) {
    if (held[i]! > 4 ? n >= 8 : n < 10) t.fail(`file ${i}: ${held[i]} lost, ${n} survivors`)
  }
  for (const x of g.members.slice(0, 11)) x.group.repair()
  const whole = async (): Promise<boolean> => (await survivors()).every((n, i) => n === 11 || held[i]! > 4)
  t.ok(await g.until(whole, 60_000), 'admin_repair does it')
  for (const [i, seq] of seqs.entries()) t.equal(await g.read(1, seq), held[i]! > 4 ? 'none' : 'same')
  await g.close()
})

t.test(
  'files written while members were away take the code of those who live, and are coded again afterwards',
  async t => {
    const g = await SimGroup.start(6, `${SEED}/recode`)
    await g.kill(4)
    await g.kill(5)
    await g.run(5_000)
    const small = await g.put(0, content('recode small', 300_000))
    const large = await g.put(1, content('recode large', 2_000_000))
    for (const { file } of [small, large]) {
      t.equal((await g.members[2]!.group.stripes(file.root))[0]!.code, '2+2')
    }
    await g.up(4)
    await g.up(5)
    const recoded = async (): Promise<boolean> => {
      for (const { file } of [small, large]) {
        for (const x of g.members) {
          const stripes = await x.group.stripes(file.root)
          if (stripes.length === 0 || !stripes.every(s => s.code === '4+2' && s.survivors === s.count)) return false
        }
      }
      return true
    }
    t.ok(await g.until(recoded, 200_000), 'coded for six, at every member')
    await g.run(100_000)
    for (const x of g.members) {
      x.group.dropCaches()
      t.equal(await g.read(x.index, small.seq), 'same')
      t.equal(await g.read(x.index, large.seq), 'same')
    }
    // One stripe and two: six shards each, and nothing of the old code.
    t.equal(
      (await g.shares()).reduce((a, b) => a + b),
      6 + 12,
      'the shards of the old code are gone'
    )
    await g.close()
  }
)

t.test('a rate set by the operator bounds what repair moves, and each lost byte costs k read ones', async t => {
  const g = await SimGroup.start(6, `${SEED}/rate`, { times: { repairBytesPerSecond: 262_144 } })
  const { seq } = await g.put(0, content('rate', 4 * 1_048_576))
  t.ok(await g.until(() => g.sound([seq]), 60_000))
  await g.kill(2)
  g.wipe(2)
  const before = g.clock.monotonic()
  await g.up(2)
  const { stats } = g.members[2]!.group
  t.ok(await g.until(async () => stats.repairedShards === 4, 120_000), 'four stripes, a shard of each')
  const seconds = (g.clock.monotonic() - before) / 1000
  t.equal(stats.repairedBytes, 4 * 262_144)
  t.equal(stats.repairReadBytes, 4 * stats.repairedBytes, 'k bytes read for each lost one')
  t.equal(stats.repairSentBytes, 0)
  // The first stripe starts at once, the others when the rate allows: 1 MiB each at 256 KiB a second.
  t.ok(seconds >= 12, `${seconds} s`)
  t.equal(await g.read(2, seq), 'same')
  await g.close()
})

t.test('a repair that takes longer than a shard counts as bad comes to its end', async t => {
  const stripes = 72
  const g = await SimGroup.start(6, `${SEED}/long`, { times: { repairBytesPerSecond: 1_048_576 } })
  const { seq } = await g.put(0, content('long', stripes * 1_048_576))
  t.ok(await g.until(() => g.sound([seq]), 60_000))
  await g.kill(2)
  g.wipe(2)
  const before = g.clock.monotonic()
  await g.up(2)
  const { group } = g.members[2]!
  const { stats } = group
  // Each stripe waits until it was made again: none is given up on the way, to be found again by somebody's reading or a comparison.
  let least = stripes
  const whole = await g.until(async () => {
    const known = stats.repairedShards + group.pendingRepairs
    if (stats.repairedShards > 0) least = Math.min(least, known)
    return stats.repairedShards === stripes
  }, 300_000)
  t.equal(least, stripes, 'stripes made again and those that wait')
  const seconds = (g.clock.monotonic() - before) / 1000
  t.ok(whole, `${stats.repairedShards} of ${stripes} stripes`)
  // Marks of bad shards hold for 30 s.
  t.ok(seconds > 45, `${seconds} s`)
  t.ok(await g.until(() => g.sound([seq]), 60_000))
  await g.close()
})
