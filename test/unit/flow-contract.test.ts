/**
 * The flow contract: that it writes exactly the logs and roots of the reference contract, and that each rule of storage.md 2.3 to 2.5
 * holds at its edges. It runs from the genesis that networks use, in an EthereumJS EVM.
 *
 * The flow tree is checked against a second one written another way: a sparse table of all nodes, rehashed upwards, instead of one
 * open node a level.
 */
import { readFileSync } from 'node:fs'
import { AbiCoder, id, keccak256 } from 'ethers'
import t from 'tap'
import { type Hex, toHex } from '../../lib/base/hex.ts'
import { fixedPriceMarketAbi, multicall3Abi } from '../../lib/contracts/generated/abi.ts'
import { pricePerSectorWei } from '../../lib/contracts/genesis.ts'
import { SEED } from '../harness/seed.ts'
import { SparseTree } from '../harness/sparse-tree.ts'
import {
  AT,
  account,
  BATCH_NEW,
  BATCH_OLD,
  blockHash,
  type File,
  file,
  flowOf,
  NEW_EPOCH_TOPIC,
  type Outcome,
  PRICE,
  rootOf,
  SUBMIT_NEW,
  SUBMIT_OLD,
  SUBMIT_TOPIC,
  sectorsOf,
  stop,
  type TestContract,
  tuple
} from './contract-chain.ts'

const EMPTY_HASH = '0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470'
const vectors = JSON.parse(readFileSync(new URL('../vectors/storage-vectors.json', import.meta.url), 'utf8'))
const coder = AbiCoder.defaultAbiCoder()

t.teardown(stop)

t.test('the flow writes the logs, places and roots of the reference contract', async t => {
  const { submitter, submissions } = vectors.flow[0]
  for (const form of [SUBMIT_NEW, SUBMIT_OLD]) {
    const { chain, flow } = await flowOf()
    // The old form signs with the caller; the vectors' submitter sends for itself.
    await chain.send({ to: submitter, value: 10n ** 20n })
    for (const v of submissions) {
      const { args } = flow.abi.parseLog(v.log)!
      const [length, tags, nodes] = args[5] as [bigint, Hex, [Hex, bigint][]]
      const f = { length, tags, nodes: nodes.map(([root, height]) => ({ root, height: Number(height) })) }
      t.same(
        f.nodes.map(n => n.height),
        v.heights
      )
      const done = await flow.send(form, [form === SUBMIT_NEW ? [tuple(f), submitter] : tuple(f)], {
        from: submitter,
        value: sectorsOf(f) * PRICE
      })
      t.ok(done.ok, done.error)
      const logs = done.logs.filter(l => l.topics[0] === SUBMIT_TOPIC)
      t.equal(logs.length, 1, 'one Submit a submission')
      t.same(logs[0], { address: AT.flow.toLowerCase(), ...v.log })
      const [index, digest, start, sectors] = flow.abi.decodeFunctionResult(form, done.data)
      t.same(
        [index, digest, start, sectors],
        [BigInt(v.submissionIndex), v.log.topics[2], BigInt(v.startPos), BigInt(v.length)]
      )
      t.same([...(await flow.read('tree'))], [BigInt(v.flowLengthAfter), 1n])
      t.equal((await flow.read('computeFlowRoot'))[0], v.flowRootAfter)
      t.equal((await flow.read('getFlowRootByTxSeq', [index]))[0], v.flowRootAfter)
    }
    t.equal((await flow.read('numSubmissions'))[0], BigInt(submissions.length))
    t.equal((await flow.read('submissionIndex'))[0], BigInt(submissions.length))
  }
})

t.test('a thousand random submissions give the root of a tree built another way', async t => {
  let s = SEED
  const random = (n: number) => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0
    return Math.floor((s / 2 ** 32) * n)
  }
  const { chain, flow, submit } = await flowOf({ storage: { pricePerSectorWei: 0n } })
  const multicall = chain.contract(AT.multicall3, multicall3Abi)
  const tree = new SparseTree()
  for (let batch = 0; batch < 40; batch++) {
    const files: File[] = []
    const expected: [start: bigint, root: Hex][] = []
    for (let i = 0; i < 25; i++) {
      const highest = random(10) === 0 ? random(24) : random(9)
      const heights = [highest]
      for (const h of [highest - 1, highest - 2, highest - 3]) if (h >= 0 && random(2) === 0) heights.push(h)
      const f = file(heights, SEED + batch * 25 + i)
      files.push(f)
      expected.push([tree.submit(f), tree.root()])
    }
    const done = await flow.send(BATCH_OLD, [files.map(tuple)])
    if (!done.ok) return t.fail(done.error)
    const [seqs, , starts] = flow.abi.decodeFunctionResult(BATCH_OLD, done.data)
    const getRoot = (seq: bigint) => [AT.flow, flow.abi.encodeFunctionData('getFlowRootByTxSeq', [seq])]
    const roots = (await multicall.read('aggregate', [seqs.map(getRoot)]))[1]
    for (const [i, [start, root]] of expected.entries()) {
      const heights = files[i]!.nodes.map(n => n.height)
      if (starts[i] !== start)
        return t.fail(`submission ${seqs[i]} of heights ${heights} starts at ${starts[i]}, not ${start}`)
      if (roots[i] !== root) return t.fail(`root after submission ${seqs[i]} of heights ${heights}`)
    }
  }
  t.equal((await flow.read('numSubmissions'))[0], 1000n)
  t.equal((await flow.read('tree'))[0], tree.length)
  t.equal((await flow.read('computeFlowRoot'))[0], tree.root())

  t.test('the history of roots answers for the last thousand', async t => {
    t.equal((await flow.read('rootHistory'))[0], AT.flow)
    const [first] = await flow.read('getFlowRootByTxSeq', [0])
    t.same([(await flow.read('at', [0]))[0], (await flow.read('contains', [first]))[0]], [first, true])
    t.same([(await flow.read('available', [999]))[0], (await flow.read('available', [1000]))[0]], [true, false])
    t.equal((await flow.read('contains', [rootOf(99)]))[0], false)
    await t.rejects(flow.read('at', [1000]), /Unavailable root/)
    await submit(file([0], 9), 0n)
    t.same([(await flow.read('available', [0]))[0], (await flow.read('available', [1]))[0]], [false, true])
    t.equal((await flow.read('contains', [first]))[0], false, 'the first has left the window')
    t.equal((await flow.read('getFlowRootByTxSeq', [0]))[0], first, 'by its number it is still known')
  })
})

t.test('a submission of another shape than a padded file is refused', async t => {
  const { chain, flow, submit } = await flowOf({ storage: { pricePerSectorWei: 0n } })
  const refused = async (what: string, f: File) => {
    const done = await submit(f, 0n)
    t.same([done.ok, done.error], [false, 'Invalid submission'], what)
  }
  await refused('no nodes', { length: 1n, tags: '0x', nodes: [] })
  await refused('a height of 64', file([64], 0, 256n))
  await refused('a height of 45: sizes above 2^52', file([45], 0, 2n ** 53n))
  await refused('equal heights', file([2, 2]))
  await refused('rising heights', file([2, 3]))
  await refused('a second node far above', file([0, 255], 0, 256n))
  await refused('a span of four', file([4, 0]))
  await refused('a span of four over several nodes', file([6, 5, 2]))
  await refused('length zero', file([0], 0, 0n))
  // Below 16 sectors nothing is padded; above, at most a sixteenth of the next power of two.
  for (const [heights, most, least] of [
    [[0], 256n, 1n],
    [[1], 512n, 257n],
    [[3, 2, 1, 0], 15n * 256n, 14n * 256n + 1n],
    [[4], 16n * 256n, 15n * 256n + 1n],
    [[5], 32n * 256n, 30n * 256n + 1n],
    [[4, 1], 18n * 256n, 16n * 256n + 1n],
    [[10, 7], 1152n * 256n, 1024n * 256n + 1n],
    [[63], 2n ** 71n, 15n * 2n ** 67n + 1n]
  ] as [number[], bigint, bigint][]) {
    await refused(`${heights}: one byte too long`, file(heights, 0, most + 1n))
    await refused(`${heights}: one byte too short`, file(heights, 0, least - 1n))
    if (heights[0]! < 63) {
      for (const length of [most, least])
        t.ok((await submit(file(heights, 0, length), 0n)).ok, `${heights}: ${length} bytes`)
    }
  }
  const f = file([0])
  const nobody = `0x${'0'.repeat(40)}`
  for (const [name, args] of [
    [SUBMIT_NEW, [[tuple(f), nobody]]],
    [
      BATCH_NEW,
      [
        [
          [tuple(f), account(2)],
          [tuple(f), nobody]
        ]
      ]
    ]
  ] as [string, unknown[]][]) {
    const done = await flow.send(name, args)
    t.same([done.ok, done.error], [false, 'Invalid submission'], `submitter zero in ${name}`)
  }
  // 2^256-1 cannot be reached by adding to it: the span is computed downwards.
  const iface = flow.abi
  const huge = iface.encodeFunctionData(SUBMIT_OLD, [
    [
      256n,
      '0x',
      [
        [rootOf(1), 3n],
        [rootOf(2), 2n ** 256n - 1n]
      ]
    ]
  ])
  t.equal((await flow.read('numSubmissions'))[0], 14n, 'exactly the valid ones were taken')
  t.equal((await chain.send({ to: AT.flow, data: huge })).error, 'Invalid submission', 'a height of 2^256-1')
})

t.test('a fee is taken from its own call and the rest goes back', async t => {
  const { chain, flow, submit } = await flowOf()
  t.equal(PRICE, 30_733_644_962n, 'unit price 33, 12 months')
  t.equal(pricePerSectorWei(24n, 12n), (24n * 10n ** 18n) / 2n ** 30n)
  t.equal((await flow.read('market'))[0], AT.market)
  const f = file([4, 1])
  const fee = 18n * PRICE
  const spent = async (act: () => Promise<Outcome>) => {
    const before = await chain.balance(account(1))
    const done = await act()
    return { done, paid: before - (await chain.balance(account(1))) }
  }

  const exact = await spent(() => submit(f, fee))
  t.same([exact.done.ok, exact.paid], [true, fee])
  const short = await spent(() => submit(f, fee - 1n))
  t.same([short.done.error, short.paid], [`NotEnoughFee(${PRICE}, 18, ${fee - 1n})`, 0n])
  const surplus = await spent(() => submit(f, fee + 5n * 10n ** 18n))
  t.same([surplus.done.ok, surplus.paid], [true, fee], 'the surplus comes back')

  t.test('money that lies in the flow pays for nobody', async t => {
    // Upstream compares with the contract's balance, so a stranger could spend it.
    await chain.setBalance(AT.flow, 10n ** 18n)
    t.equal((await submit(f, 0n)).error, `NotEnoughFee(${PRICE}, 18, 0)`)
    t.equal(await chain.balance(AT.flow), 10n ** 18n)
  })

  t.test('a batch pays one after the other from one value', async t => {
    const files = [file([0], 1), file([3], 2), file([10, 7], 3)]
    const total = files.reduce((sum, x) => sum + sectorsOf(x), 0n) * PRICE
    const first = (await flow.read('numSubmissions'))[0] as bigint
    const old = await spent(() => flow.send(BATCH_OLD, [files.map(tuple)], { from: account(1), value: total + 7n }))
    t.same([old.done.ok, old.paid], [true, total])
    const [indexes, digests, starts, lengths] = flow.abi.decodeFunctionResult(BATCH_OLD, old.done.data)
    t.same([...indexes], [first, first + 1n, first + 2n])
    t.same([...lengths], files.map(sectorsOf))
    const events = old.done.logs.filter(l => l.topics[0] === SUBMIT_TOPIC).map(l => flow.abi.parseLog(l)!.args)
    t.same(
      events.map(e => [e[0].toLowerCase(), e[1], e[2], e[3], e[4]]),
      files.map((_, i) => [account(1), digests[i], indexes[i], starts[i], lengths[i]])
    )
    const named = await spent(() =>
      flow.send(BATCH_NEW, [files.map(x => [tuple(x), account(5)])], { from: account(1), value: total })
    )
    t.same([named.done.ok, named.paid], [true, total])
    t.same(
      named.done.logs.filter(l => l.topics[0] === SUBMIT_TOPIC).map(l => l.topics[1]!.slice(26)),
      files.map(() => account(5).slice(2))
    )
    const last = await spent(() => flow.send(BATCH_OLD, [files.map(tuple)], { from: account(1), value: total - 1n }))
    t.same([last.done.error, last.paid], [`NotEnoughFee(${PRICE}, 1152, ${1152n * PRICE - 1n})`, 0n], 'all or nothing')
    t.ok((await flow.send(BATCH_OLD, [[]])).ok, 'an empty batch does nothing')
  })

  t.test('at price zero storage is free, and a value sent anyway comes back', async t => {
    const market = chain.contract(AT.market, fixedPriceMarketAbi)
    t.match(
      (await market.send('setPricePerSector', [0n], { from: account(1) })).error,
      /AccessControlUnauthorizedAccount/
    )
    t.ok((await market.send('setPricePerSector', [0n])).ok)
    const free = await spent(() => submit(f, 0n))
    t.same([free.done.ok, free.paid], [true, 0n])
    const back = await spent(() => submit(f, 10n ** 18n))
    t.same([back.done.ok, back.paid], [true, 0n])
  })

  t.test('a caller that refuses its refund gets no submission', async t => {
    // Passes calldata and value on to the flow; reverts on empty calldata, which is what a refund comes with.
    const code = `0x3615602f57366000600037600060003660003473${AT.flow.slice(2)}5af115602f57005b5f5ffd` as const
    const caller = `0x${'ca'.repeat(20)}` as const
    await chain.setCode(caller, code)
    const data = flow.abi.encodeFunctionData(SUBMIT_OLD, [tuple(f)])
    const count = (await flow.read('numSubmissions'))[0]
    t.notOk((await chain.send({ to: caller, data, value: 1n })).ok, 'with a refund due')
    t.equal((await flow.read('numSubmissions'))[0], count)
    t.ok((await chain.send({ to: caller, data })).ok, 'with none')
  })
})

t.test('epochs are closed by one jump whose gas does not depend on the idle time', async t => {
  const perEpoch = 10
  const { chain, flow, submit } = await flowOf({ storage: { blocksPerEpoch: perEpoch } })
  const digestOf = (number: number, root: Hex, length: bigint) =>
    keccak256(coder.encode(['bytes32', 'bytes32', 'uint256'], [blockHash(number), root, length]))
  const newEpoch = (done: Outcome) =>
    done.logs.filter(l => l.topics[0] === NEW_EPOCH_TOPIC).map(l => [...flow.abi.parseLog(l)!.args])
  const at = async (block: number) => chain.mine(block - chain.number)

  t.same(
    [...(await flow.read('getContext'))[0]],
    [0n, 0n, EMPTY_HASH, 1n, EMPTY_HASH, EMPTY_HASH],
    'before the first epoch'
  )
  t.same([(await flow.read('firstBlock'))[0], (await flow.read('deployDelay'))[0]], [0n, 0n])
  await at(10)
  t.same(newEpoch(await flow.send('makeContext')), [], 'block 10 is not past itself')
  await submit(file([2], 1))
  const [root1] = await flow.read('computeFlowRoot')
  await at(11)
  t.same(
    newEpoch(await flow.send('makeContext', [], { from: account(3) })).map(e => [e[0].toLowerCase(), ...e.slice(1)]),
    [[account(3), 1n, root1, 1n, 8n, digestOf(10, root1, 8n)]]
  )
  t.same([...(await flow.read('getContext'))[0]], [1n, 10n, root1, 8n, toHex(blockHash(10)), digestOf(10, root1, 8n)])
  t.same([...(await flow.read('getEpochRange', [digestOf(10, root1, 8n)]))[0]], [0n, 8n])
  t.same([...(await flow.read('getEpochRangeHistory', [0]))[0]], [0n, 8n, digestOf(10, root1, 8n)])
  t.equal((await flow.read('epochStartPosition'))[0], 8n)

  await at(21)
  t.equal(newEpoch(await submit(file([2], 2))).length, 1, 'a submission closes epochs too')
  await at(31)
  const short = await flow.send('makeContext')
  await at(1031)
  const long = await flow.send('makeContext')
  t.same(
    newEpoch(short).map(e => e[1]),
    [3n]
  )
  t.same(
    newEpoch(long).map(e => e[1]),
    [103n],
    'one event for a hundred epochs'
  )
  t.ok(long.gas <= short.gas, `gas ${short.gas} after 10 blocks, ${long.gas} after 1,000`)
  t.same((await flow.read('getContext'))[0].blockDigest, toHex(blockHash(1030)))
  t.same(newEpoch(await submit(file([2], 3))), [])

  t.test('a sector is found in the range that closed over it', async t => {
    await at(1041)
    const { start, end, digest } = (await flow.read('queryContextAtPosition', [9]))[0]
    t.same([start, end], [8n, 12n], 'what was submitted before block 31')
    t.same([...(await flow.read('getEpochRange', [digest]))[0]], [start, end])
    t.same((await flow.read('queryContextAtPosition', [0]))[0].end, 8n)
    t.same((await flow.read('queryContextAtPosition', [15]))[0].end, 16n, 'the call closes what can be closed')
    t.equal((await flow.read('epoch'))[0], 103n, 'and as an eth_call changes nothing')
    await t.rejects(flow.read('queryContextAtPosition', [16]), /upper bound/)
  })

  t.test('a limited count of epochs is closed, with older block hashes from EIP-2935', async t => {
    await at(1041 + 400)
    t.same(newEpoch(await flow.send('makeContextFixedTimes', [0])), [])
    const done = await flow.send('makeContextFixedTimes', [1])
    t.same(
      newEpoch(done).map(e => e[1]),
      [104n]
    )
    const context = (await flow.read('getContext'))[0]
    t.same([context.mineStart, context.blockDigest], [1040n, toHex(blockHash(1040))], '401 blocks back')
    t.same((await flow.read('makeContextWithResult'))[0].epoch, 144n)
    t.same(
      newEpoch(await submit(file([2], 4))).map(e => e[1]),
      [144n],
      'a submission pays for one jump'
    )
  })

  t.test('an epoch older than any known block hash cannot be mined and stores no range', async t => {
    const start = (await flow.read('epochStartPosition'))[0]
    await chain.skip({ blocks: 8192 })
    const done = await flow.send('makeContextFixedTimes', [1])
    t.same(
      newEpoch(done).map(e => [e[1], e[5]]),
      [[145n, EMPTY_HASH]]
    )
    const context = (await flow.read('getContext'))[0]
    t.same([context.blockDigest, context.digest], [EMPTY_HASH, EMPTY_HASH])
    t.equal((await flow.read('epochStartPosition'))[0], start)
  })
})

t.test('only whoever may can pause, and a paused flow takes nothing', async t => {
  const { chain, flow, submit } = await flowOf()
  t.match((await flow.send('pause', [], { from: account(1) })).error, /AccessControlUnauthorizedAccount/)
  t.ok((await flow.send('pause')).ok, 'account 0 owns the contracts')
  t.equal((await flow.read('paused'))[0], true)
  const f = file([0])
  t.equal((await submit(f)).error, 'EnforcedPause()')
  for (const [name, args] of [
    [SUBMIT_NEW, [[tuple(f), account(2)]]],
    [BATCH_OLD, [[tuple(f)]]],
    [BATCH_NEW, [[[tuple(f), account(2)]]]]
  ] as [string, unknown[]][]) {
    t.equal((await flow.send(name, args, { value: PRICE })).error, 'EnforcedPause()', name)
  }
  t.match((await flow.send('unpause', [], { from: account(1) })).error, /AccessControlUnauthorizedAccount/)
  t.ok((await flow.send('unpause')).ok)
  t.ok((await submit(f)).ok)

  const [role] = await flow.read('PAUSER_ROLE')
  t.equal(role, id('PAUSER_ROLE'))
  t.same(
    [
      (await flow.read('getRoleMemberCount', [role]))[0],
      (await flow.read('getRoleMember', [role, 0]))[0].toLowerCase()
    ],
    [1n, account(0)]
  )
  t.ok((await flow.send('grantRole', [role, account(4)])).ok)
  t.ok((await flow.send('pause', [], { from: account(4) })).ok, 'a role can be given on')

  for (const [contract, name, args] of [
    [flow, 'initialize(address,uint256)', [account(1), 1n]],
    [flow, 'initialize(address)', [account(1)]],
    [chain.contract(AT.market, fixedPriceMarketAbi), 'initialize', [0n, account(1), account(1)]]
  ] as [TestContract, string, unknown[]][]) {
    t.equal((await contract.send(name, args)).error, 'InvalidInitialization()', name)
  }
})

t.test('a gas limit estimated before others submit is still enough after them', async t => {
  const perEpoch = 10
  const { chain, flow, submit } = await flowOf({ storage: { blocksPerEpoch: perEpoch } })
  const data = (f: File) => flow.abi.encodeFunctionData(SUBMIT_OLD, [tuple(f)])
  const tagged = { ...file([3, 1], 1), tags: `0x${'ab'.repeat(3000)}` as Hex }
  for (const f of [file([0], 1), tagged]) {
    const trial = (gas: bigint) => chain.call({ to: AT.flow, data: data(f), value: sectorsOf(f) * PRICE, gas })
    let [low, high] = [100_000n, 3_000_000n]
    while (high - low > 100n) {
      const middle = (low + high) / 2n
      if ((await trial(middle)).ok) high = middle
      else low = middle
    }
    t.equal((await trial(low)).error, 'Not enough gas')
    // Gaps, carries into fresh levels, a new pricing chunk, the end of an epoch: all that makes a submission dear.
    for (const heights of [[0], [10], [3, 2, 1, 0], [12], [0]]) t.ok((await submit(file(heights, 2))).ok)
    await chain.mine(perEpoch)
    const done = await chain.send({ to: AT.flow, data: data(f), value: sectorsOf(f) * PRICE, gas: high })
    t.ok(done.ok, `limit ${high}, used ${done.gas} ${done.error}`)
  }
})

t.test('a submission never needs more gas than it asks for', async t => {
  for (const plan of [
    [[0], [10]],
    [[44, 43, 42, 41]],
    [[13], [40, 39, 38, 37]],
    [
      [3, 2, 1],
      [9, 8, 7, 6]
    ]
  ]) {
    const { chain, submit } = await flowOf({ storage: { blocksPerEpoch: 10 } })
    await chain.setBalance(account(1), 10n ** 40n)
    for (const [i, heights] of plan.entries()) {
      await chain.mine(30)
      const { ok, gas } = await submit(file(heights, i))
      t.ok(ok && gas < 700_000n, `gas ${gas} for ${heights} with an epoch to close, 750,000 asked for`)
    }
  }
})

t.test('what a submission costs', async t => {
  const { chain, flow, submit } = await flowOf()
  await chain.mine()
  const gas = []
  for (let i = 0; i < 12; i++) gas.push((await submit(file([10], i))).gas)
  const four = await submit(file([9, 8, 7, 6], 50))
  const fresh = await flow.send(SUBMIT_NEW, [[tuple(file([0], 51)), account(2)]], { from: account(1), value: PRICE })
  t.comment(`first ${gas[0]}, tenth ${gas[9]}, four nodes ${four.gas}, one sector in the new form ${fresh.gas}`)
  for (const g of [...gas, four.gas, fresh.gas]) t.ok(g < 400_000n, `${g}`)
})
