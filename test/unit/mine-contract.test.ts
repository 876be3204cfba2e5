/**
 * The mine contract: that it computes the protocol's vectors, pays for a number found on the flow's own data and for nothing else, in
 * the order and with the words of storage.md 9.3, adapts its difficulty, and that what it pays out never exceeds what was paid in. It runs
 * from the genesis that networks use, in an EthereumJS EVM; numbers are searched by the same kernels as `zg-store mine` uses.
 */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { bytesToBig, concat } from '../../lib/base/bytes.ts'
import { fromHex, type Hex, toHex } from '../../lib/base/hex.ts'
import {
  type MineRange,
  nonceAt,
  rangeDigest,
  rangeOf,
  rangeTarget,
  recallSegment,
  seal,
  sealMask
} from '../../lib/codec/storage/pora.ts'
import { poraKernels } from '../../lib/codec/storage/pora-kernels.ts'
import { chunkLinearRewardAbi, poraMineAbi } from '../../lib/contracts/generated/abi.ts'
import { codec } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'
import { AT, account, flowOf, PRICE, SUBMIT_OLD, stop } from './contract-chain.ts'

const vectors = JSON.parse(readFileSync(new URL('../vectors/storage-vectors.json', import.meta.url), 'utf8'))
const ASKER = '0x000000000000000000000000000000000000000A'
const ZERO = `0x${'00'.repeat(32)}` as Hex
t.teardown(stop)

function generated(seed: number, size: number): Uint8Array {
  let s = (Math.imul(seed, 2654435761) + 1) >>> 0
  return Uint8Array.from({ length: size }, () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0
    return s >>> 24
  })
}

const words = (b: Uint8Array): Hex[] =>
  Array.from({ length: b.length / 32 }, (_, i) => toHex(b.subarray(32 * i, 32 * i + 32)))

interface Answer {
  contextDigest: Hex
  nonce: Uint8Array
  minerId: Hex
  range: MineRange
  recallPosition: bigint
  sealOffset: number
  sealedContextDigest: Hex
  sealed: Uint8Array
  proof: Hex[]
}

const tuple = (a: Answer) => [
  a.contextDigest,
  toHex(a.nonce),
  a.minerId,
  [a.range.startPosition, a.range.mineLength, a.range.shardId, a.range.shardMask],
  a.recallPosition,
  a.sealOffset,
  a.sealedContextDigest,
  words(a.sealed),
  a.proof
]

type Opts = Parameters<typeof flowOf>[0]

/**
 * A chain with one file of 2,048 sectors at sectors 2,048 to 4,096 of the flow, so that the flow has four segments, and a miner who
 * holds all of it.
 */
async function world(opts: Opts = {}) {
  const { chain, flow } = await flowOf({ storage: { blocksPerEpoch: 40 }, ...opts })
  const mine = chain.contract(AT.mine, poraMineAbi)
  const reward = chain.contract(AT.reward, chunkLinearRewardAbi)
  const hash = codec().keccak256
  const file = generated(SEED, 2048 * 256)
  // The whole flow as leaves: sector 0 is special, a gap of zero sectors follows, then the file.
  const data = concat(new Uint8Array(2048 * 256), file)
  const leaves = Array.from({ length: 4096 }, (_, i) => hash(data.subarray(256 * i, 256 * i + 256)))
  leaves[0] = new Uint8Array(32)
  const levels = [leaves]
  while (levels.at(-1)!.length > 1) {
    const below = levels.at(-1)!
    levels.push(Array.from({ length: below.length / 2 }, (_, i) => hash(below[2 * i]!, below[2 * i + 1]!)))
  }
  const root = toHex(levels[11]![1]!)
  const done = await flow.send(SUBMIT_OLD, [[file.length, '0x', [[root, 11]]]], {
    from: account(1),
    value: 2048n * PRICE
  })
  if (!done.ok) throw new Error(done.error)
  const { mineStart } = await mineable()

  async function mineable(): Promise<{ mineStart: number }> {
    await chain.mine(40 - ((chain.number - 1) % 40) + 1)
    return { mineStart: chain.number - 1 - ((chain.number - 1) % 40) }
  }

  async function register(from = account(2), beneficiary = account(3), number = 7): Promise<Hex> {
    const made = await mine.send('requestMinerId', [beneficiary, number], { from })
    if (!made.ok) throw new Error(made.error)
    return mine.abi.parseLog(made.logs[0]!)!.args[0] as Hex
  }

  async function work(minerId: Hex) {
    const asked = await chain.call({
      to: AT.mine,
      from: ASKER,
      data: mine.abi.encodeFunctionData('computeWorkerContext', [minerId])
    })
    if (!asked.ok) throw new Error(asked.error)
    const [answer] = mine.abi.decodeFunctionResult('computeWorkerContext', asked.data)
    const [context, poraTarget, subtaskDigest, maxShards] = answer
    return {
      digest: context[5] as Hex,
      flowRoot: context[2] as Hex,
      flowLength: context[3] as bigint,
      epoch: context[0] as bigint,
      poraTarget: poraTarget as bigint,
      subtaskDigest: subtaskDigest as Hex,
      maxShards: maxShards as bigint
    }
  }

  const proofOf = (position: number): Hex[] =>
    Array.from({ length: 8 }, (_, i) => toHex(levels[4 + i]![(position >> (4 + i)) ^ 1]!))

  let tried = 0n
  /** A number that reaches the target on a segment of `from`, and the answer it makes. */
  async function search(
    minerId: Hex,
    o: { segments?: number[]; range?: MineRange; held?: bigint } = {}
  ): Promise<Answer> {
    const w = await work(minerId)
    const range = o.range ?? rangeOf(w.flowLength)!
    const target = rangeTarget(range, w.poraTarget, w.flowLength)
    const sealedContextDigest = (await flow.read('queryContextAtPosition', [4095]))[0][2] as Hex
    const kernels = poraKernels()
    const start = fromHex(rootSeed())
    for (let n = 0n; n < 20_000n; n += 16n) {
      const nonces = Array.from({ length: 16 }, (_, i) => nonceAt(start, n + BigInt(i)))
      const pads = await kernels.pads(fromHex(minerId), concat(...nonces), fromHex(w.subtaskDigest), rangeDigest(range))
      for (let i = 0; i < 16; i++) {
        const at = recallSegment(range, pads.recalls.subarray(32 * i, 32 * i + 32))
        if (at === undefined || !(o.segments ?? [2, 3]).includes(Number(at) / 1024)) continue
        const masks = Array.from({ length: 64 }, (_, k) =>
          sealMask(fromHex(minerId), fromHex(sealedContextDigest), at + BigInt(16 * k))
        )
        const raw = data.subarray(Number(at) * 256, (Number(at) + 1024) * 256)
        const sealed = await kernels.seal(concat(...masks), raw)
        const [best] = await kernels.best(pads, [{ index: i, held: o.held ?? (1n << 64n) - 1n, sealed }])
        if (best!.seal === undefined || bytesToBig(best!.quality) > target) continue
        const k = best!.seal
        return {
          contextDigest: w.digest,
          nonce: nonces[i]!,
          minerId,
          range,
          recallPosition: at + BigInt(16 * k),
          sealOffset: k,
          sealedContextDigest,
          sealed: sealed.subarray(4096 * k, 4096 * (k + 1)),
          proof: proofOf(Number(at) + 16 * k)
        }
      }
    }
    throw new Error('nothing found')
  }
  const rootSeed = (): Hex =>
    toHex(codec().keccak256(Uint8Array.from([SEED & 255, (SEED >> 8) & 255, Number(tried++)])))

  const submit = (a: Answer) => mine.send('submit', [tuple(a)], { from: account(2), gas: 3_000_000n })
  return { chain, flow, mine, reward, register, work, search, submit, mineable, mineStart, proofOf, data }
}

const EASY = { mine: { difficulty: 1n, minDifficulty: 1n } } as const

t.test('the vectors give their hashes in the contract', async t => {
  const { mine } = await world(EASY)
  for (const v of vectors.pora) {
    const raw = generated(v.sealSeed, 4096)
    const sealed = seal(raw, sealMask(fromHex(v.minerId), fromHex(v.sealedContextDigest), BigInt(v.recallPosition)))
    const answer: Answer = {
      contextDigest: ZERO,
      nonce: fromHex(v.nonce),
      minerId: v.minerId,
      range: {
        startPosition: BigInt(v.range.startPosition),
        mineLength: BigInt(v.range.mineLength),
        shardId: BigInt(v.range.shardId),
        shardMask: BigInt(v.range.shardMask)
      },
      recallPosition: BigInt(v.recallPosition),
      sealOffset: v.sealOffset,
      sealedContextDigest: v.sealedContextDigest,
      sealed,
      proof: []
    }
    const [got] = await mine.read('pora', [tuple(answer), v.subtaskDigest])
    t.equal(`0x${got.toString(16).padStart(64, '0')}`, v.poraHash, v.id)
  }
  t.equal((await mine.read('poraVersion'))[0], 1n)
})

t.test('an answer is taken once and paid from the fees', async t => {
  const { chain, mine, reward, register, search, submit, work } = await world(EASY)
  const fee = 2048n * PRICE
  const minerId = await register()
  t.equal((await mine.read('beneficiaries', [minerId]))[0].toLowerCase(), account(3).toLowerCase())
  t.equal((await work(minerId)).flowLength, 4096n)
  await chain.skip({ seconds: 600 })
  const answer = await search(minerId)
  const done = await submit(answer)
  t.ok(done.ok, done.error)
  t.ok(done.gas < 3_000_000n, `${done.gas} gas`)
  t.comment(`gas of an answer ${done.gas}`)
  const events = done.logs.filter(l => l.address === AT.mine.toLowerCase())
  t.equal(events[0]!.topics[0], '0xfedd8f58059af8fd54b4394c01ea8d07cac041988be3b5a822fb779f9c8de3a4')
  t.equal(events[0]!.topics[2], minerId)
  const paid = done.logs.filter(l => l.address === AT.reward.toLowerCase())
  t.equal(paid[0]!.topics[0], '0xf099de0c527342bff1397d08daae31c3de66104f48886094fbe9126a21ebf4b0')

  t.equal((await submit(answer)).error, 'Answer has been submitted', 'a replay')
  const more = await submit(await search(minerId))
  t.ok(more.ok, more.error)

  const due = (await reward.read('payments', [account(3)]))[0] as bigint
  t.ok(due > 0n && due <= fee, `${due} of ${fee}`)
  // The pot opened with the file; an hour releases it, and a claim takes half of what is there.
  const pot = (await reward.read('rewards', [0]))[0]
  t.equal(pot[0] + pot[1] + pot[2], fee, 'locked, claimable and distributed are the fee')
  t.equal(pot[2], due)
  const before = await chain.balance(account(3))
  t.ok((await reward.send('withdrawPayments', [account(3)], { from: account(4) })).ok, 'anyone may send it on')
  t.equal((await chain.balance(account(3))) - before, due)
  t.equal((await reward.read('payments', [account(3)]))[0], 0n)
  t.ok((await reward.send('withdrawPayments', [account(3)])).ok, 'a second time sends nothing')
  t.equal(await chain.balance(AT.reward), fee - due)
  t.equal(await chain.balance(AT.mine), 0n)
})

t.test('everything else is refused, in order and in these words', async t => {
  const { chain, mine, register, search, submit, work, mineable, proofOf } = await world(EASY)
  const minerId = await register()
  const other = await register(account(5), account(6))
  const good = await search(minerId)
  const refused = async (what: string, change: Partial<Answer>, words: string) =>
    t.equal((await submit({ ...good, ...change })).error, words, what)

  await refused('no miner', { minerId: ZERO }, 'MinerId cannot be zero')
  await refused('an unknown miner', { minerId: toHex(new Uint8Array(32).fill(9)) }, 'MinerId does not registered')
  await refused('a foreign miner id', { minerId: other }, 'Inconsistent merkle root')
  await refused('another context', { contextDigest: toHex(new Uint8Array(32)) }, 'Inconsistent mining digest')
  const r = good.range
  await refused('a start between', { range: { ...r, startPosition: 1024n } }, 'Start position is not aligned')
  await refused('a start far out', { range: { ...r, startPosition: 1n << 255n } }, 'Mining range overflow')
  await refused('a range too long', { range: { ...r, mineLength: 5120n } }, 'Mining range overflow')
  await refused('a range too short', { range: { ...r, mineLength: 3072n } }, 'Mining range too short')
  await refused('an empty range', { range: { ...r, mineLength: 0n } }, 'Mining range too short')
  await refused('a shard outside', { range: { ...r, shardId: 1n } }, 'Masked bits should be zero')
  const mask = (shards: bigint) => BigInt.asUintN(64, ~(shards - 1n))
  await refused('a mask with holes', { range: { ...r, shardMask: mask(1n) - 2n } }, 'Invalid shard mask')
  await refused('64 shards', { range: { ...r, shardMask: mask(64n) } }, 'Exceeding the allowed number of shards')
  await refused('a context of other data', { sealedContextDigest: ZERO }, 'Invalid sealed context digest')
  const bent = good.sealed.slice()
  bent[4000] = bent[4000]! ^ 1
  await refused('a changed byte', { sealed: bent }, 'Inconsistent merkle root')
  await refused('a proof of another place', { proof: proofOf(16) }, 'Inconsistent merkle root')
  await refused('a proof too long', { proof: [...good.proof, ZERO] }, 'Inconsistent merkle root')
  await refused('a proof too short', { proof: good.proof.slice(1) }, 'Inconsistent merkle root')
  await refused('between two seals', { recallPosition: good.recallPosition - 1n }, 'Inconsistent merkle root')
  await refused('another seal of the segment', { sealOffset: good.sealOffset ^ 1 }, 'Incorrect recall position')
  await refused('a seal beyond the segment', { sealOffset: 64 }, 'Incorrect recall position')

  // A number that recalls another segment.
  let nonce = good.nonce
  const w = await work(minerId)
  for (let n = 1n; ; n++) {
    nonce = nonceAt(good.nonce, n)
    const pads = await poraKernels().pads(fromHex(minerId), nonce, fromHex(w.subtaskDigest), rangeDigest(r))
    if (recallSegment(r, pads.recalls) !== good.recallPosition - (good.recallPosition % 1024n)) break
  }
  await refused('a wrong number', { nonce }, 'Incorrect recall position')

  const first = await search(minerId, { segments: [0], held: 1n })
  t.equal(first.recallPosition, 0n)
  t.equal((await submit(first)).error, 'Inconsistent merkle root', 'seal 0 holds the sector that is no data')

  // Its half of the range is searched against half the target; with the easiest one any number passes.
  const half: MineRange = { ...r, shardId: 1n, shardMask: mask(2n) }
  const sharded = await search(minerId, { range: half, segments: [3] })
  const taken = await submit(sharded)
  t.ok(taken.ok, `a shard: ${taken.error}`)

  for (let i = 0; i < 3; i++) t.ok((await submit(i === 0 ? good : await search(minerId))).ok)
  t.equal((await mine.read('currentSubmissions'))[0], 4n)
  t.equal((await submit({ ...good, nonce })).error, 'Epoch has enough submissions', 'twice the wanted number')
  t.equal((await mine.read('canSubmit'))[0], false)
  t.equal((await work(minerId)).poraTarget, 0n, 'nothing to mine now')

  await mineable()
  t.equal((await submit(good)).error, 'Inconsistent mining digest', 'an old context')
  t.equal((await mine.read('canSubmit'))[0], true)
  const late = await search(minerId)
  await chain.mine(30)
  t.equal((await submit(late)).error, 'Mine deadline exceed', 'out of its window')
  const idle = await work(minerId)
  t.same([idle.poraTarget, idle.subtaskDigest], [0n, ZERO])
  t.match((await mine.send('computeWorkerContext', [ZERO])).error, 'MinerId cannot be zero')
})

t.test('a hard target refuses what an easy one takes', async t => {
  const easy = await world(EASY)
  const found = await easy.search(await easy.register())
  const hard = await world({ mine: { difficulty: 1n << 250n } })
  // The same genesis and the same steps: the same contexts and the same miner id.
  t.equal(await hard.register(), found.minerId)
  t.equal((await hard.submit(found)).error, 'Do not reach target quality')
  const done = await easy.submit(found)
  t.ok(done.ok, done.error)
})

t.test('windows of subtasks follow each other', async t => {
  const { register, search, submit, work, chain } = await world({
    mine: { ...EASY.mine, nSubtasks: 2, subtaskInterval: 9, targetMineBlocks: 8 }
  })
  // Miners whose windows differ: the second opens nine blocks after the first, when that has closed. Ids are hashes, so each falls into
  // one of the two by chance: as many as it takes, which is more than 60 never.
  const open: Hex[] = []
  const early: Hex[] = []
  for (let number = 0; number < 60 && (open.length === 0 || early.length === 0); number++) {
    const id = await register(account(4), account(5), number)
    if ((await work(id)).poraTarget !== 0n) open.push(id)
    else early.push(id)
  }
  t.ok(open.length > 0 && early.length > 0, `${open.length} open, ${early.length} wait`)
  const answer = await search(open[0]!)
  t.ok((await submit(answer)).ok)
  t.equal((await submit({ ...answer, minerId: early[0]! })).error, 'Earlier than expected subtask start block.')
  await chain.mine(9)
  t.equal((await submit({ ...answer, minerId: open[0]! })).error, 'Mine deadline exceed')
  t.not((await work(early[0]!)).poraTarget, 0n)
})

t.test('the difficulty follows the answers', async t => {
  const max = (1n << 256n) - 1n
  const [difficulty, minDifficulty] = [256n, 100n]
  const { mine, register, search, submit, mineable, work } = await world({ mine: { difficulty, minDifficulty } })
  const minerId = await register()
  const target = async () => (await mine.read('poraTarget'))[0] as bigint
  t.equal(await target(), max / difficulty)
  /** The rule of storage.md 9.3 in one line of plain numbers. */
  const next = (now: bigint, answers: bigint): bigint => {
    const expected = answers === 0n ? max : (now * 2n) / answers
    let out = (now / 20n) * 19n + expected / 20n
    if (out > 2n * now) out = 2n * now
    if (out < now / 2n) out = now / 2n
    return out < max / minDifficulty ? out : max / minDifficulty
  }
  let want = max / difficulty
  for (const answers of [4, 1, 2]) {
    for (let i = 0; i < answers; i++) {
      const done = await submit(await search(minerId))
      t.ok(done.ok, done.error)
    }
    t.equal(await target(), want)
    await mineable()
    want = next(want, BigInt(answers))
    t.equal((await work(minerId)).poraTarget, want, `after ${answers} answers`)
  }
  // Idle epochs double it, up to the easiest.
  await mineable()
  await mineable()
  const eased = next(next(want, 0n), 0n)
  t.equal((await work(minerId)).poraTarget, eased)
  t.equal(eased, max / minDifficulty)
  const done = await submit(await search(minerId))
  t.ok(done.ok, done.error)
  t.equal(await target(), eased)
})

t.test('ids and parameters', async t => {
  const { mine, register } = await world()
  const id = await register(account(2), account(3))
  t.equal((await mine.send('requestMinerId', [account(3), 7], { from: account(2) })).error, 'MinerId has registered')
  t.match((await mine.send('requestMinerId', [`0x${'00'.repeat(20)}`, 8])).error, /zero/)
  t.equal((await mine.send('transferBeneficial', [account(4), id])).error, 'Sender does not own minerId')
  const moved = await mine.send('transferBeneficial', [account(4), id], { from: account(3) })
  t.ok(moved.ok)
  const [, from, to] = mine.abi.parseLog(moved.logs[0]!)!.args as unknown as [Hex, string, string]
  t.same([from.toLowerCase(), to.toLowerCase()], [account(3), account(4)])
  for (const [name, arg] of [
    ['setTargetMineBlocks', 20],
    ['setTargetSubmissions', 3],
    ['setMaxShards', 8],
    ['setMinDifficulty', 1000],
    ['setNumSubtasks', 4],
    ['setSubtaskInterval', 5]
  ] as const) {
    t.match((await mine.send(name, [arg], { from: account(1) })).error, /AccessControlUnauthorizedAccount/, name)
    t.ok((await mine.send(name, [arg])).ok, name)
  }
  for (const [name, arg] of [
    ['setTargetMineBlocks', 257],
    ['setTargetSubmissions', 0],
    ['setMaxShards', 6],
    ['setNumSubtasks', 40],
    ['setSubtaskInterval', 0]
  ] as const) {
    t.equal((await mine.send(name, [arg])).error, 'Invalid parameters', name)
  }
  t.match((await mine.send('initialize', [AT.flow, AT.reward, [1, 1, 1, 1, 1, 1]])).error, /InvalidInitialization/)
})
