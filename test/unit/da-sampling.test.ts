/**
 * The sampling lottery of DAEntrance (da.md 8, 9) with blobs of the codec: an answer proves a sub-line of a certified blob with the row's
 * tag and 15 siblings; every refusal of da.md 12, the window of epochs to its ends, rewards, fees and withdrawals, how rounds open
 * and how the difficulty moves.
 */
import { keccak_256 } from '@noble/hashes/sha3.js'
import t from 'tap'
import { toHex } from '../../lib/base/hex.ts'
import { AT, account, blockHash, stop } from './contract-chain.ts'
import {
  type Answer,
  answerOf,
  blobOf,
  type DaWorld,
  dataQuality,
  daWorld,
  duplicateKey,
  lineQuality,
  MAX_TARGET,
  mapped,
  must,
  namespaced,
  nextTarget,
  winners
} from './da-contract-world.ts'

t.teardown(stop)
t.setTimeout(120_000)

const PERIOD = 30
const ZERO = `0x${'0'.repeat(64)}`

/** Blobs certified in epoch 1, and epoch 2 begun, in which they can be sampled. */
async function begin(opts: { blobs?: number; blobPriceWei?: bigint } = {}) {
  const world = await daWorld(opts)
  const blobs = await Promise.all(Array.from({ length: opts.blobs ?? 3 }, (_, i) => blobOf(i, 3_000 + 40_000 * i)))
  const roots = blobs.map(b => b.header.dataRoot)
  const value = (opts.blobPriceWei ?? 0n) * BigInt(roots.length)
  must(await world.entrance.send('submitOriginalData', [roots], { value }))
  for (const root of roots) await world.certify(root, 1n)
  return { ...world, blobs, read: async (name: string) => (await world.entrance.read(name))[0] }
}
type World = Awaited<ReturnType<typeof begin>>

/** Goes to the height of the next round that is not yet opened, and opens it. */
async function openRound({ chain, entrance }: Pick<DaWorld, 'chain' | 'entrance'>): Promise<Uint8Array> {
  const height = Number((await entrance.read('nextSampleHeight'))[0])
  if (chain.number < height) await chain.skip({ blocks: height - chain.number })
  must(await entrance.send('sync'))
  return blockHash(Number((await entrance.read('nextSampleHeight'))[0]) - PERIOD - 1)
}

/** Opens rounds until one has at least `count` winning sub-lines. */
async function roundWith(world: World, count: number, epoch = 1n): Promise<Answer[]> {
  for (let i = 0; i < 60; i++) {
    const sampleSeed = await openRound(world)
    const found = winnersOf(world, { sampleSeed, epoch, target: await world.read('podasTarget') })
    if (found.length >= count) return found
  }
  throw new Error(`no round had ${count} winners`)
}

function winnersOf({ blobs }: World, round: { sampleSeed: Uint8Array; epoch: bigint; target: bigint }): Answer[] {
  const { target, ...at } = round
  return blobs.flatMap(b => winners(b, { ...at, quorumId: 0n }, target))
}

const submit = ({ entrance }: Pick<World, 'entrance'>, answer: Answer, change: Partial<Answer> = {}) =>
  entrance.send('submitSamplingResponse', [{ ...answer, ...change }], { from: account(4) })

t.test('an answer is accepted once and pays the owner of the row', async t => {
  const world = await begin()
  const { chain, entrance, quorum, nextEpoch, read } = world
  must(await entrance.send('setBaseReward', [7n]))
  must(await entrance.send('donate', [], { value: 10n }))
  await nextEpoch(2n)
  const [first, second] = (await roundWith(world, 2)) as [Answer, Answer]
  const owner = (await quorum(1n))[first.lineIndex]!
  const before = await read('roundSubmissions')
  const paid = await submit(world, first)
  t.ok(paid.ok, paid.error)
  const log = entrance.abi.parseLog(paid.logs.at(-1)!)!
  t.equal(log.name, 'DAReward')
  t.same(
    [...log.args],
    [
      owner,
      await read('sampleRound'),
      1n,
      0n,
      toHex(first.dataRoot),
      first.quality,
      BigInt(first.lineIndex),
      BigInt(first.sublineIndex),
      7n
    ]
  )
  t.equal(await read('roundSubmissions'), before + 1n)
  t.ok(paid.gas < 500_000n, `an answer took ${paid.gas} gas`)
  const at = mapped(namespaced('0g.storage.DAEntrance', 9), duplicateKey(first))
  t.equal(BigInt(await chain.storage(AT.daEntrance, at)), 1n, 'the duplicate key is that of the protocol')
  t.match(await submit(world, first), { ok: false, error: 'Duplicated submission' })

  t.ok((await submit(world, second)).ok)
  t.equal(await read('totalBaseReward'), 0n)
  const owed = async (who: string) => (await entrance.read('payments', [who]))[0] as bigint
  const other = (await quorum(1n))[second.lineIndex]!
  const [toOwner, toOther] = owner === other ? [10n, 10n] : [7n, 3n]
  t.equal(await owed(owner), toOwner)
  t.equal(await owed(other), toOther, 'the rest of what was donated')
  const had = await chain.balance(owner)
  t.ok((await entrance.send('withdrawPayments', [owner], { from: account(9) })).ok, 'anyone may send it')
  t.equal((await chain.balance(owner)) - had, toOwner)
  t.equal(await owed(owner), 0n)
})

t.test('every other answer is refused by name', async t => {
  const world = await begin()
  const { entrance, nextEpoch, certify, blobs } = world
  const early = answerOf(blobs[0]!, {
    sampleSeed: new Uint8Array(32),
    epoch: 1n,
    quorumId: 0n,
    lineIndex: 0,
    sublineIndex: 0
  })
  t.match(await submit(world, early, { quality: 0n }), { ok: false, error: 'Sample round 0 cannot be mined' })
  await nextEpoch(2n)
  await certify(blobs[0]!.header.dataRoot, 2n)
  const [best] = (await roundWith(world, 1)) as [Answer]
  const target: bigint = await world.read('podasTarget')
  const refused = async (what: string, error: string, change: Partial<Answer>, answer = best) =>
    t.match(await submit(world, answer, change), { ok: false, error }, what)

  await refused('another seed', 'Unmatched sample seed', { sampleSeed: blockHash(1) })
  await refused('no seed', 'Unmatched sample seed', { sampleSeed: new Uint8Array(32) })
  await refused('above the target', 'Quality not reached', { quality: target + 1n })
  await refused('a root without certificate', 'Unrecorded commitment', { dataRoot: blockHash(1) })
  await refused('a quorum without', 'Unrecorded commitment', { quorumId: 1n })
  await refused('an epoch without', 'Unrecorded commitment', { epoch: 3n })
  const current = { epoch: 2n, dataRoot: blobs[0]!.header.dataRoot }
  await refused('the current epoch', 'Cannot sample current epoch', current)
  await refused('line 3,072', 'Incorrect line index', { lineIndex: 3072 })
  await refused('line 2³² − 1', 'Incorrect line index', { lineIndex: 2 ** 32 - 1 })
  await refused('sub-line 32', 'Incorrect sub-line index', { sublineIndex: 32 })
  for (const size of [0, 1023, 1025]) {
    await refused(`${size} bytes`, 'Incorrect data length', { data: new Uint8Array(size) })
  }
  const blob = blobs.find(b => toHex(b.header.dataRoot) === toHex(best.dataRoot))!
  const at = { sampleSeed: best.sampleSeed, epoch: 1n, quorumId: 0n }
  let over: Answer | undefined
  for (let line = 0; over === undefined; line++) {
    const answer = answerOf(blob, { ...at, lineIndex: line, sublineIndex: 0 })
    if (answer.quality >= 2n ** 256n) over = answer
  }
  await refused('a sum of 2²⁵⁶ and more', 'Quality overflow', { quality: 0n }, over)
  await refused('a better quality than it has', 'Incorrect quality', { quality: best.quality - 1n })
  await refused('of another sub-line', 'Incorrect quality', { sublineIndex: best.sublineIndex ^ 1 })

  const flipped = (hash: Uint8Array) => hash.map((byte, i) => (i === 31 ? byte ^ 1 : byte))
  const BLOB_ROOT = 'Incorrect blob Root'
  for (const i of [0, 4, 5, 14]) {
    await refused(`sibling ${i}`, BLOB_ROOT, { proof: best.proof.map((h, j) => (i === j ? flipped(h) : h)) })
  }
  await refused('14 siblings', BLOB_ROOT, { proof: best.proof.slice(0, 14) })
  await refused('16 siblings', BLOB_ROOT, { proof: [...best.proof, new Uint8Array(32)] })
  await refused('no siblings', BLOB_ROOT, { proof: [] })
  const third = Math.floor(best.lineIndex / 1024)
  const roots = (i: number) => best.blobRoots.map((h, j) => (i === j ? flipped(h) : h))
  await refused('the root of its third', BLOB_ROOT, { blobRoots: roots(third) })
  await refused('the root of another third', 'Incorrect dataRoot', { blobRoots: roots((third + 1) % 3) })
  t.equal(await world.read('roundSubmissions'), 0n, 'none of them counted')
  t.ok((await submit(world, best)).ok, 'the right one still does')
  t.equal((await entrance.read('sampleTask'))[0].restSubmissions, 39n)
})

t.test('an answer that wins with data of its own making is refused: the data must be in the blob', async t => {
  const world = await begin({ blobs: 1 })
  await world.nextEpoch(2n)
  const [best] = (await roundWith(world, 1)) as [Answer]
  // Ground until it beats the target too: the quality is right, the place in the tree is not.
  const target: bigint = await world.read('podasTarget')
  const line = { sampleSeed: best.sampleSeed, epoch: 1n, quorumId: 0n, lineIndex: best.lineIndex }
  const quality = lineQuality({ ...line, dataRoot: best.dataRoot })
  for (let nonce = 0; ; nonce++) {
    const data = new Uint8Array(1024)
    data.set(keccak_256(Uint8Array.of(nonce & 0xff, (nonce >> 8) & 0xff, nonce >> 16)))
    const sum = quality + dataQuality(quality, best.sublineIndex, data)
    if (sum > target) continue
    t.match(await submit(world, best, { data, quality: sum }), { ok: false, error: 'Incorrect blob Root' })
    break
  }
})

t.test('epochs are answerable inside the window, to its two ends', async t => {
  const world = await begin()
  const { entrance, nextEpoch, certify, blobs } = world
  const range = async () => (await entrance.read('sampleRange'))[0].map(Number)
  t.same(await range(), [0, 0])
  await nextEpoch(2n)
  for (const b of blobs) await certify(b.header.dataRoot, 2n)
  await nextEpoch(3n)
  t.same(await range(), [0, 2])

  must(await entrance.send('setEpochWindowSize', [1n]))
  t.same(await range(), [2, 2])
  const newest = (await roundWith(world, 1, 2n))[0]!
  t.match(await submit(world, newest), { ok: true }, 'the newest of a window of one')
  const old = (await roundWith(world, 1, 1n))[0]!
  t.match(await submit(world, old), { ok: false, error: 'Epoch has stopped sampling' })
  must(await entrance.send('setEpochWindowSize', [2n]))
  t.same(await range(), [1, 2])
  t.match(await submit(world, old), { ok: true }, 'the oldest of a window of two')
})

t.test('rounds take twice their target of answers; the difficulty follows what came', async t => {
  const world = await begin()
  const { chain, entrance, nextEpoch, read } = world
  await nextEpoch(2n)
  for (const wanted of [5n, 2n]) {
    must(await entrance.send('setRoundSubmissions', [wanted]))
    await openRound(world)
    t.equal(await read('targetRoundSubmissions'), wanted)
    t.equal(await read('podasTarget'), MAX_TARGET, 'at its bound while nobody answers')
  }
  const found = await roundWith(world, 5)
  for (const [i, answer] of found.slice(0, 4).entries()) {
    t.ok((await submit(world, answer)).ok)
    t.equal((await entrance.read('sampleTask'))[0].restSubmissions, BigInt(3 - i))
  }
  t.match(await submit(world, found[4]!), { ok: false, error: 'Too many submissions in one round' })

  // Rounds with two more than wanted, one less, one more, none, each from where the one before left the target.
  let target = nextTarget(MAX_TARGET, 4n, 2n)
  for (const count of [1, 3, 0]) {
    const sampleSeed = await openRound(world)
    t.equal(await read('podasTarget'), target)
    const answers = winnersOf(world, { sampleSeed, epoch: 1n, target })
    t.ok(answers.length >= count, `${answers.length} winners in the round of ${count}`)
    for (const answer of answers.slice(0, count)) must(await submit(world, answer))
    target = nextTarget(target, BigInt(count), 2n)
  }
  t.ok(target < MAX_TARGET)

  // A setting decides from the next round on: the round that ends counts against the old number.
  must(await entrance.send('setRoundSubmissions', [1n]))
  await openRound(world)
  t.equal(await read('podasTarget'), target)
  const task = (await entrance.read('sampleTask'))[0]
  t.same([task.sampleHash, task.podasTarget, task.restSubmissions], [await read('currentSampleSeed'), target, 2n])

  // Several rounds due at once: each has its event, its own seed and the target of an idle round.
  const round = Number(await read('sampleRound'))
  const next = Number(await read('nextSampleHeight'))
  await chain.skip({ blocks: next + 2 * PERIOD + 3 - chain.number })
  const synced = must(await entrance.send('sync'))
  const targets = [0, 1, 2].map(() => {
    target = nextTarget(target, 0n, 1n)
    return target
  })
  t.same(
    synced.logs.map(l => entrance.abi.parseLog(l)!.args.toArray()),
    targets.map((idle, i) => [
      BigInt(round + 1 + i),
      BigInt(next + i * PERIOD),
      toHex(blockHash(next + i * PERIOD - 1)),
      idle
    ])
  )

  // One at a time, and none.
  const height = Number(await read('nextSampleHeight'))
  await chain.skip({ blocks: height + PERIOD - chain.number })
  t.equal(must(await entrance.send('syncFixedTimes', [0n])).logs.length, 0)
  t.equal(must(await entrance.send('syncFixedTimes', [1n])).logs.length, 1)
  t.equal(Number(await read('nextSampleHeight')), height + PERIOD)
  t.equal(must(await entrance.send('sync')).logs.length, 1)
  t.equal(must(await entrance.send('sync')).logs.length, 0)
})

t.test(
  'rounds out of the reach of BLOCKHASH are counted and passed over; an open one without seed wins nothing',
  async t => {
    const world = await begin({ blobs: 1 })
    const { chain, entrance, nextEpoch, read, blobs } = world
    await nextEpoch(2n)
    const round = Number(await read('sampleRound'))
    const next = Number(await read('nextSampleHeight'))
    const count = 100_000
    await chain.skip({ blocks: next + (count - 1) * PERIOD - chain.number })
    const synced = must(await entrance.send('sync'))
    t.ok(synced.gas < 500_000n, `${count} rounds took ${synced.gas} gas`)
    t.equal(Number(await read('sampleRound')), round + count)
    t.equal(Number(await read('nextSampleHeight')), next + count * PERIOD)
    const opened = synced.logs.filter(l => entrance.abi.parseLog(l)?.name === 'NewSampleRound')
    t.equal(opened.length, 9, 'those of the last 256 blocks')
    for (const log of opened) t.not(entrance.abi.parseLog(log)!.args.sampleSeed, ZERO)
    t.equal(entrance.abi.parseLog(opened[8]!)!.args.sampleSeed, await read('currentSampleSeed'))

    must(await entrance.send('setSamplePeriod', [600n]))
    const last = Number(await read('nextSampleHeight'))
    await chain.skip({ blocks: last - chain.number })
    must(await entrance.send('sync'))
    t.equal(Number(await read('nextSampleHeight')), last + 600)
    await chain.skip({ blocks: 600 + 255 })
    must(await entrance.send('sync'))
    t.equal(await read('currentSampleSeed'), toHex(blockHash(last + 599)), '256 blocks back')
    await chain.skip({ blocks: 345 + 256 })
    must(await entrance.send('sync'))
    t.equal(Number(await read('nextSampleHeight')), last + 1800, 'not before its time')
    t.equal(await read('currentSampleSeed'), ZERO, '257 blocks back')
    const sampleSeed = new Uint8Array(32)
    const answer = answerOf(blobs[0]!, { sampleSeed, epoch: 1n, quorumId: 0n, lineIndex: 5, sublineIndex: 6 })
    t.match(await submit(world, answer, { quality: 0n }), { ok: false, error: 'Sample seed cannot be empty' })
  }
)

t.test('fees: the pot of an epoch goes to samples, less the share of the treasury', async t => {
  const price = 10n ** 18n
  const world = await begin({ blobPriceWei: price })
  const { chain, entrance, quorum, nextEpoch, read } = world
  const treasury = account(8)
  must(await entrance.send('setServiceFeeRate', [250n]))
  t.equal(await read('currentEpochReward'), 3n * price)
  await nextEpoch(2n)
  t.equal(await read('activedReward'), 3n * price, 'no treasury, no fee')
  t.equal(await read('serviceFee'), 0n)

  must(await entrance.send('setTreasury', [treasury]))
  must(await entrance.send('submitOriginalData', [[blockHash(1)]], { value: 4n * price }))
  t.equal(await read('activedReward'), 3n * price, 'not before the epoch ends')
  await nextEpoch(3n)
  const fee = price / 10n
  t.equal(await read('serviceFee'), fee)
  t.equal((await entrance.read('payments', [treasury]))[0], fee)
  t.equal(await read('currentEpochReward'), 0n)
  const pool = 7n * price - fee
  t.equal(await read('activedReward'), pool)

  must(await entrance.send('setRewardRatio', [1000n]))
  const [first, second] = (await roundWith(world, 2)) as [Answer, Answer]
  const rewards: bigint[] = []
  for (const answer of [first, second]) {
    const log = entrance.abi.parseLog(must(await submit(world, answer)).logs.at(-1)!)!
    t.equal(log.args.beneficiary, (await quorum(1n))[answer.lineIndex])
    rewards.push(log.args.reward)
  }
  const share = pool / 1000n
  t.same(rewards, [share, (pool - share) / 1000n], 'a share of what is left')
  t.equal(await read('activedReward'), pool - rewards[0]! - rewards[1]!)
  const had = await chain.balance(treasury)
  must(await entrance.send('withdrawPayments', [treasury]))
  t.equal((await chain.balance(treasury)) - had, fee)
  t.equal(await chain.balance(AT.daEntrance), 7n * price - fee, 'what is owed and what is in the pool')
})
