/**
 * The predeployed contracts: that their ABI is the one clients know, that the flow writes exactly the logs and roots of the reference
 * contract, and that each rule of storage.md 2 holds at its edges. They run from the genesis that networks use, in an EthereumJS EVM.
 *
 * The flow tree is checked against a second one written another way: a sparse table of all nodes, rehashed upwards, instead of one
 * open node a level.
 */
import { readFileSync } from 'node:fs'
import { keccak_256 } from '@noble/hashes/sha3.js'
import {
  AbiCoder,
  Interface,
  type InterfaceAbi,
  id,
  keccak256,
  type Result,
  Signature,
  SigningKey,
  TypedDataEncoder
} from 'ethers'
import t from 'tap'
import { bigToBytes, concat } from '../../lib/base/bytes.ts'
import { fromHex, type Hex, toHex } from '../../lib/base/hex.ts'
import { contractAddresses } from '../../lib/contracts/addresses.ts'
import {
  chunkLinearRewardAbi,
  counterAbi,
  fixedPriceMarketAbi,
  flowAbi,
  multicall3Abi,
  wrappedZGAbi
} from '../../lib/contracts/generated/abi.ts'
import { CREATION_CODE } from '../../lib/contracts/generated/artifacts.ts'
import { buildAlloc, DEVNET_STORAGE, pricePerSectorWei } from '../../lib/contracts/genesis.ts'
import { SYSTEM_CONTRACTS } from '../../lib/contracts/system-contracts.ts'
import { ACCOUNTS, account, blockHash, type Outcome, stop, TestChain, type TestContract } from './contract-chain.ts'

const AT = contractAddresses(31337)
const PRICE = DEVNET_STORAGE.pricePerSectorWei
const SUBMIT_OLD = 'submit((uint256,bytes,(bytes32,uint256)[]))'
const SUBMIT_NEW = 'submit(((uint256,bytes,(bytes32,uint256)[]),address))'
const BATCH_OLD = 'batchSubmit((uint256,bytes,(bytes32,uint256)[])[])'
const BATCH_NEW = 'batchSubmit(((uint256,bytes,(bytes32,uint256)[]),address)[])'
const SUBMIT_TOPIC = '0x167ce04d2aa1981994d3a31695da0d785373335b1078cec239a1a3a2c7675555'
const NEW_EPOCH_TOPIC = '0xbc8a3fd82465d43f1709e44ed882f7e1af0147274196ef1ec009f5d52ff4e993'
const EMPTY_HASH = '0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470'

const vectors = JSON.parse(readFileSync(new URL('../vectors/storage-vectors.json', import.meta.url), 'utf8'))
const coder = AbiCoder.defaultAbiCoder()

t.teardown(stop)

// ABI ------------------------------------------------------------------------------------------------------------------------------

/** storage.md 2.1, 2.6, 2.7: selector, signature, what it returns. */
const FUNCTIONS: [abi: readonly object[], table: [selector: string, signature: string, returns: string][]][] = [
  [
    flowAbi,
    [
      ['0xef3e12dc', SUBMIT_OLD, 'uint256,bytes32,uint256,uint256'],
      ['0xbc8c11f8', SUBMIT_NEW, 'uint256,bytes32,uint256,uint256'],
      ['0x9e62a38e', BATCH_OLD, 'uint256[],bytes32[],uint256[],uint256[]'],
      ['0x49aa3395', BATCH_NEW, 'uint256[],bytes32[],uint256[],uint256[]'],
      ['0x80f55605', 'market()', 'address'],
      ['0x77e19824', 'numSubmissions()', 'uint256'],
      ['0xb8a409ac', 'submissionIndex()', 'uint256'],
      ['0xfd54b228', 'tree()', 'uint256,uint256'],
      ['0x6d7ad0fc', 'getFlowRootByTxSeq(uint256)', 'bytes32'],
      ['0x1deb0fca', 'computeFlowRoot()', 'bytes32'],
      ['0x127f0f07', 'getContext()', '(uint256,uint256,bytes32,uint256,bytes32,bytes32)'],
      ['0x38d45e10', 'makeContext()', ''],
      ['0x18a641ef', 'makeContextFixedTimes(uint256)', ''],
      ['0xb464b53e', 'makeContextWithResult()', '(uint256,uint256,bytes32,uint256,bytes32,bytes32)'],
      ['0x7d590708', 'getEpochRange(bytes32)', '(uint128,uint128)'],
      ['0x4282b532', 'getEpochRangeHistory(uint256)', '(uint128,uint128,bytes32)'],
      ['0x31bae174', 'queryContextAtPosition(uint128)', '(uint128,uint128,bytes32)'],
      ['0x900cf0cf', 'epoch()', 'uint256'],
      ['0x93e405a0', 'epochStartPosition()', 'uint256'],
      ['0x231b0268', 'firstBlock()', 'uint256'],
      ['0xf0682054', 'blocksPerEpoch()', 'uint256'],
      ['0x9bbbfdbb', 'deployDelay()', 'uint256'],
      ['0xc7dd5221', 'rootHistory()', 'address'],
      ['0xcd6dc687', 'initialize(address,uint256)', ''],
      ['0xc4d66de8', 'initialize(address)', ''],
      ['0x5c975abb', 'paused()', 'bool'],
      ['0x8456cb59', 'pause()', ''],
      ['0x3f4ba83a', 'unpause()', ''],
      ['0xca15c873', 'getRoleMemberCount(bytes32)', 'uint256'],
      ['0x9010d07c', 'getRoleMember(bytes32,uint256)', 'address']
    ]
  ],
  [
    fixedPriceMarketAbi,
    [
      ['0x61ec5082', 'pricePerSector()', 'uint256'],
      ['0x343aad82', 'flow()', 'address'],
      ['0x228cb733', 'reward()', 'address'],
      ['0x14aa90a1', 'setPricePerSector(uint256)', ''],
      ['0xda6eb36a', 'chargeFee(uint256,uint256,uint256)', ''],
      ['0xb4988fd0', 'initialize(uint256,address,address)', '']
    ]
  ],
  [
    chunkLinearRewardAbi,
    [
      ['0x59e96700', 'fillReward(uint256,uint256)', ''],
      ['0xb7a3c04c', 'claimMineReward(uint256,address,bytes32)', ''],
      ['0xf301af42', 'rewards(uint256)', '(uint128,uint128,uint128,uint40,uint40)'],
      ['0xb3b30c1a', 'firstRewardableChunk()', 'uint64,uint256'],
      ['0x21295931', 'releaseSeconds()', 'uint256'],
      ['0x0a539a19', 'rewardDeadline(uint256)', 'uint256'],
      ['0xed88c68e', 'donate()', ''],
      ['0x76ad03bc', 'baseReward()', 'uint256'],
      ['0x7f1b5e43', 'totalBaseReward()', 'uint256'],
      ['0xc0575111', 'serviceFeeRateBps()', 'uint256'],
      ['0x61d027b3', 'treasury()', 'address'],
      ['0xe2982c21', 'payments(address)', 'uint256'],
      ['0x31b3eb94', 'withdrawPayments(address)', '']
    ]
  ],
  [
    multicall3Abi,
    [
      ['0x252dba42', 'aggregate((address,bytes)[])', 'uint256,bytes[]'],
      ['0x82ad56cb', 'aggregate3((address,bool,bytes)[])', '(bool,bytes)[]'],
      ['0x174dea71', 'aggregate3Value((address,bool,uint256,bytes)[])', '(bool,bytes)[]'],
      ['0xc3077fa9', 'blockAndAggregate((address,bytes)[])', 'uint256,bytes32,(bool,bytes)[]'],
      ['0xbce38bd7', 'tryAggregate(bool,(address,bytes)[])', '(bool,bytes)[]'],
      ['0x399542e9', 'tryBlockAndAggregate(bool,(address,bytes)[])', 'uint256,bytes32,(bool,bytes)[]'],
      ['0x3e64a696', 'getBasefee()', 'uint256'],
      ['0xee82ac5e', 'getBlockHash(uint256)', 'bytes32'],
      ['0x42cbb15c', 'getBlockNumber()', 'uint256'],
      ['0x3408e470', 'getChainId()', 'uint256'],
      ['0xa8b0574e', 'getCurrentBlockCoinbase()', 'address'],
      ['0x72425d9d', 'getCurrentBlockDifficulty()', 'uint256'],
      ['0x86d516e8', 'getCurrentBlockGasLimit()', 'uint256'],
      ['0x0f28c97d', 'getCurrentBlockTimestamp()', 'uint256'],
      ['0x4d2301cc', 'getEthBalance(address)', 'uint256'],
      ['0x27e86d6e', 'getLastBlockHash()', 'bytes32']
    ]
  ],
  [
    wrappedZGAbi,
    [
      ['0xd0e30db0', 'deposit()', ''],
      ['0x2e1a7d4d', 'withdraw(uint256)', ''],
      ['0xa9059cbb', 'transfer(address,uint256)', 'bool'],
      ['0x23b872dd', 'transferFrom(address,address,uint256)', 'bool'],
      ['0xd505accf', 'permit(address,address,uint256,uint256,uint8,bytes32,bytes32)', '']
    ]
  ]
]

/** storage.md 2.1, 2.2, 2.7: topic or selector, and the ABI that must declare it. */
const EVENTS: [abi: readonly object[], topic: string, indexed: number][] = [
  [flowAbi, SUBMIT_TOPIC, 2],
  [flowAbi, NEW_EPOCH_TOPIC, 2],
  [chunkLinearRewardAbi, '0xf099de0c527342bff1397d08daae31c3de66104f48886094fbe9126a21ebf4b0', 3],
  [wrappedZGAbi, '0xe1fffcc4923d04b559f4d29a8bfc6cda04eb5b0d3c460751c2402c5c5cc9109c', 1],
  [wrappedZGAbi, '0x7fcf532c15f0a6db0bd6d0e038bea71d30d808c7d98cb3bf7268a95bf5081b65', 1]
]
const ERRORS = ['0xf85c6482', '0xf956cee4', '0xd93c0665']

t.test('every function, event and error of the tables stands in the ABI', async t => {
  for (const [abi, table] of FUNCTIONS) {
    const iface = new Interface(abi as InterfaceAbi)
    for (const [selector, signature, returns] of table) {
      const fragment = iface.getFunction(signature)
      t.equal(fragment?.selector, selector, signature)
      t.equal(fragment?.outputs.map(o => o.format('sighash')).join(','), returns, `${signature} returns`)
    }
  }
  for (const [abi, topic, indexed] of EVENTS) {
    const event = new Interface(abi as InterfaceAbi).getEvent(topic)
    t.equal(event?.topicHash, topic)
    t.equal(event?.inputs.filter(i => i.indexed).length, indexed, topic)
  }
  for (const selector of ERRORS) t.ok(new Interface(flowAbi as InterfaceAbi).getError(selector), selector)
})

// Flow -----------------------------------------------------------------------------------------------------------------------------

interface Node {
  root: Hex
  height: number
}
interface File {
  length: bigint
  tags: Hex
  nodes: Node[]
}

const tuple = (f: File) => [f.length, f.tags, f.nodes.map(n => [n.root, n.height])]
const sectorsOf = (f: File) => f.nodes.reduce((sum, n) => sum + 2n ** BigInt(n.height), 0n)
const rootOf = (seed: number) => toHex(keccak_256(bigToBytes(BigInt(seed), 32)))

/** A file that needs exactly these subtrees: by default as long as they hold. */
function file(heights: number[], seed = 0, length?: bigint): File {
  const nodes = heights.map((height, i) => ({ root: rootOf(seed * 8 + i), height }))
  const whole = { length: 0n, tags: '0x' as Hex, nodes }
  return { ...whole, length: length ?? sectorsOf(whole) * 256n }
}

async function flowOf(opts: Parameters<typeof TestChain.start>[0] = {}) {
  const chain = await TestChain.start(opts)
  const flow = chain.contract(AT.flow, flowAbi)
  const submit = (f: File, value?: bigint) =>
    flow.send(SUBMIT_OLD, [tuple(f)], { from: account(1), value: value ?? sectorsOf(f) * PRICE })
  return { chain, flow, submit }
}

/** The flow's tree as a table of every node that is not all zero. */
class SparseTree {
  length = 1n
  private readonly nodes = new Map<string, Uint8Array>()
  private readonly zeros: Uint8Array[] = [keccak_256(new Uint8Array(256))]
  constructor() {
    this.put(0, 0n, new Uint8Array(32))
  }

  /** Places a submission by the rule of storage.md 2.3. @returns its first sector. */
  submit(f: File): bigint {
    const up = (n: bigint, unit: bigint) => ((n + unit - 1n) / unit) * unit
    const sectors = sectorsOf(f)
    let start = up(this.length, 2n ** BigInt(f.nodes[0]!.height))
    if (start % 1024n !== 0n && start / 1024n !== (start + sectors - 1n) / 1024n) start = up(start, 1024n)
    let position = start
    for (const { root, height } of f.nodes) {
      const size = 2n ** BigInt(height)
      position = up(position, size)
      this.put(height, position / size, fromHex(root))
      position += size
    }
    this.length = position
    return start
  }

  root(): Hex {
    let height = 0
    while (2n ** BigInt(height) < this.length) height++
    return toHex(this.get(height, 0n))
  }

  private put(level: number, index: bigint, hash: Uint8Array): void {
    this.nodes.set(`${level}/${index}`, hash)
    for (let [l, i] = [level, index]; l < 40; ) {
      const parent = keccak_256(concat(this.get(l, i & ~1n), this.get(l, i | 1n)))
      l++
      i >>= 1n
      this.nodes.set(`${l}/${i}`, parent)
    }
  }

  private get(level: number, index: bigint): Uint8Array {
    while (this.zeros.length <= level) this.zeros.push(keccak_256(concat(this.zeros.at(-1)!, this.zeros.at(-1)!)))
    return this.nodes.get(`${level}/${index}`) ?? this.zeros[level]!
  }
}

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
  const seed = Number(process.env.ZG_SEED ?? Date.now() % 2 ** 31)
  t.comment(`seed ${seed} (ZG_SEED)`)
  let s = seed
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
      const f = file(heights, seed + batch * 25 + i)
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

// Market and reward ----------------------------------------------------------------------------------------------------------------

t.test('fees reach the pots of the sectors they were paid for, and stay there until somebody mines', async t => {
  const perChunk = 4096n
  const release = 1000
  const { chain, flow, submit } = await flowOf({ storage: { releaseSeconds: release } })
  const reward = chain.contract(AT.reward, chunkLinearRewardAbi)
  const pot = async (i: number) => (await reward.read('rewards', [i]))[0] as Result
  const content = async (i: number) => {
    const { locked, claimable, distributed } = await pot(i)
    return locked + claimable + distributed
  }
  /** The balance must equal all pots, the donated pool and all payments. */
  const balanced = async (chunks: number, payees: Hex[]) => {
    let sum = (await reward.read('totalBaseReward'))[0] as bigint
    for (let i = 0; i < chunks; i++) sum += (await pot(i)).locked + (await pot(i)).claimable
    for (const payee of payees) sum += (await reward.read('payments', [payee]))[0] as bigint
    t.equal(await chain.balance(AT.reward), sum, 'no wei is lost or owed twice')
  }

  // 1,024 sectors at 1024: the gap before them gets its part by sectors.
  await submit(file([10], 1))
  t.equal(await content(0), 1024n * PRICE)
  t.equal((await pot(0)).startTime, 0n, 'not full')
  t.equal((await reward.read('rewardDeadline', [0]))[0], 0n)
  t.same((await reward.read('firstRewardableChunk'))[0], 0n)
  t.same([await chain.balance(AT.flow), await chain.balance(AT.market)], [0n, 0n], 'nothing rests on the way')

  // 8 MiB at 32768: the padding fills chunks 0 to 7 and the upload 8 to 15, in one call.
  const big = file([15], 2)
  const done = await submit(big)
  t.ok(done.ok, done.error)
  const fee = sectorsOf(big) * PRICE
  const padding = 2n ** 15n - 2048n
  const paddingPart = (fee * padding) / (padding + 2n ** 15n)
  let sum = 0n
  for (let i = 0; i < 16; i++) {
    const { locked, startTime } = await pot(i)
    sum += locked
    if (startTime !== BigInt(chain.timestamp)) t.fail(`chunk ${i} began at ${startTime}`)
  }
  t.equal(sum, fee + 1024n * PRICE, 'together they hold both fees')
  t.equal(await content(5), (paddingPart * perChunk) / padding)
  t.equal(await content(10), ((fee - paddingPart) * perChunk) / 2n ** 15n)
  t.equal((await pot(16)).startTime, 0n)
  await balanced(17, [])

  const id = rootOf(1)
  for (const from of [account(0), account(1), AT.flow, AT.mine] as Hex[]) {
    const claim = await reward.send('claimMineReward', [5, account(1), id], { from })
    t.match(claim.error, /AccessControlUnauthorizedAccount/, 'nobody has the mine role in this genesis')
  }
  t.equal((await reward.send('fillReward', [0, 1], { value: 1n })).error, 'Sender does not have permission')
  const market = chain.contract(AT.market, fixedPriceMarketAbi)
  t.equal((await market.send('chargeFee', [0, 1, 0])).error, 'Sender does not have permission')

  t.test('what time has released is claimable, half at a time', async t => {
    const mine = AT.mine as Hex
    const whole = await content(5)
    t.ok((await reward.send('grantRole', [await reward.read('MINE_ROLE').then(r => r[0]), mine])).ok)
    const claim = (i: number) => reward.send('claimMineReward', [i, account(2), id], { from: mine })
    const due = async () => (await reward.read('payments', [account(2)]))[0] as bigint
    t.same((await claim(16)).logs, [], 'a chunk that is not full gives nothing')
    t.same((await claim(5)).logs, [], 'nor does one that is just full')
    await chain.skip({ seconds: release / 4 })
    const quarter = await claim(5)
    t.equal(await due(), whole / 4n / 2n)
    t.same(
      quarter.logs.map(l => [...reward.abi.parseLog(l)!.args].map(String)),
      [['5', `${reward.abi.parseLog(quarter.logs[0]!)!.args[1]}`, id, String(whole / 4n / 2n)]]
    )
    await claim(5)
    t.equal(await due(), whole / 4n / 2n + (whole / 4n - whole / 4n / 2n) / 2n, 'and half of the rest at once after')

    t.ok((await reward.send('setBaseReward', [100n])).ok)
    t.match((await reward.send('setBaseReward', [1n], { from: account(1) })).error, /AccessControlUnauthorizedAccount/)
    t.ok((await reward.send('donate', [], { value: 150n })).ok)
    const before = await due()
    await claim(10)
    t.equal((await reward.read('totalBaseReward'))[0], 50n)
    await claim(11)
    t.equal((await reward.read('totalBaseReward'))[0], 0n, 'as far as the pool lasts')
    t.ok((await due()) > before + 150n)
    await balanced(17, [account(2)])

    await chain.skip({ seconds: release })
    t.same((await reward.read('firstRewardableChunk'))[0], 16n, 'all full chunks are past their period')
    for (let i = 0; i < 60; i++) await claim(5)
    t.ok(
      (await content(5)) === whole && (await pot(5)).locked === 0n && (await pot(5)).claimable <= 1n,
      'all but the last wei'
    )
    await balanced(17, [account(2)])

    const owed = await due()
    const held = await chain.balance(account(2))
    t.ok((await reward.send('withdrawPayments', [account(2)], { from: account(9) })).ok)
    t.equal((await chain.balance(account(2))) - held, owed)
    t.equal(await due(), 0n)
    t.ok((await reward.send('withdrawPayments', [account(2)])).ok)
    t.equal((await chain.balance(account(2))) - held, owed, 'once')
    await balanced(17, [account(2)])
  })

  t.test('a service fee goes to the treasury, by pull', async t => {
    t.notOk((await reward.send('setServiceFeeRate', [500])).ok, 'not without a treasury')
    t.ok((await reward.send('setTreasury', [account(7)])).ok)
    t.ok((await reward.send('setServiceFeeRate', [500])).ok)
    t.notOk((await reward.send('setServiceFeeRate', [10_001])).ok)
    await submit(file([0], 9))
    t.equal((await reward.read('payments', [account(7)]))[0], (PRICE * 500n) / 10_000n)
    await balanced(18, [account(2), account(7)])
  })

  t.test('money sent to the market plainly goes with the next fee', async t => {
    await chain.send({ to: AT.market, value: 1000n })
    const before = await chain.balance(AT.reward)
    await submit(file([0], 10))
    t.equal((await chain.balance(AT.reward)) - before, PRICE + 1000n)
    t.equal(await chain.balance(AT.market), 0n)
    t.ok(await flow.read('tree'))
  })
})

t.test('chunks fill and their clocks start at price zero too', async t => {
  const { chain, submit } = await flowOf({ storage: { pricePerSectorWei: 0n } })
  const reward = chain.contract(AT.reward, chunkLinearRewardAbi)
  await submit(file([13], 1), 0n)
  for (const i of [0, 1, 2, 3]) t.equal((await reward.read('rewards', [i]))[0].startTime, BigInt(chain.timestamp))
  t.equal((await reward.read('rewards', [4]))[0].startTime, 0n)
})

t.test('a file of 1 GiB fills a thousand pricing chunks at a bounded price', async t => {
  const { chain, submit } = await flowOf()
  const reward = chain.contract(AT.reward, chunkLinearRewardAbi)
  const small = await submit(file([10], 1))
  const large = await submit(file([22], 2))
  t.ok(large.gas < small.gas + 200_000n, `gas ${small.gas} for 256 KiB, ${large.gas} for 1 GiB`)
  const fee = 2n ** 22n * PRICE
  const padding = 2n ** 22n - 2048n
  const uploadPart = fee - (fee * padding) / (padding + 2n ** 22n)
  t.equal((await reward.read('rewards', [1500]))[0].locked, (uploadPart * 4096n) / 2n ** 22n)
})

// The others -----------------------------------------------------------------------------------------------------------------------

t.test('W0G is the native token as an ERC-20', async t => {
  const chain = await TestChain.start()
  const w0g = chain.contract(AT.wrappedZG, wrappedZGAbi)
  const balance = async (i: number) => (await w0g.read('balanceOf', [account(i)]))[0]
  t.same(
    [(await w0g.read('name'))[0], (await w0g.read('symbol'))[0], (await w0g.read('decimals'))[0]],
    ['Wrapped 0G', 'W0G', 18n]
  )
  const put = await w0g.send('deposit', [], { from: account(1), value: 100n })
  t.same(
    put.logs.map(l => w0g.abi.parseLog(l)!.name),
    ['Transfer', 'Deposit']
  )
  t.ok((await chain.send({ from: account(1), to: AT.wrappedZG, value: 23n })).ok, 'a plain send deposits')
  t.equal(await balance(1), 123n)
  await w0g.send('transfer', [account(2), 23n], { from: account(1) })
  const before = await chain.balance(account(2))
  const out = await w0g.send('withdraw', [20n], { from: account(2) })
  t.same(
    out.logs.map(l => w0g.abi.parseLog(l)!.name),
    ['Transfer', 'Withdrawal']
  )
  t.equal((await chain.balance(account(2))) - before, 20n)
  t.match((await w0g.send('withdraw', [4n], { from: account(2) })).error, /ERC20InsufficientBalance/)
  t.equal((await w0g.read('totalSupply'))[0], await chain.balance(AT.wrappedZG))

  const key = new SigningKey(keccak_256(Uint8Array.of(77)))
  const owner = toHex(keccak_256(fromHex(key.publicKey).slice(1)).slice(12))
  const domain = { name: 'Wrapped 0G', version: '1', chainId: 31337, verifyingContract: AT.wrappedZG }
  const types = {
    Permit: ['owner', 'spender', 'value', 'nonce', 'deadline'].map((name, i) => ({
      name,
      type: i < 2 ? 'address' : 'uint256'
    }))
  }
  const permit = { owner, spender: account(3), value: 7n, nonce: 0n, deadline: 2n ** 255n }
  const { v, r, s } = Signature.from(key.sign(TypedDataEncoder.hash(domain, types, permit)))
  const given = await w0g.send('permit', [owner, account(3), 7n, permit.deadline, v, r, s])
  t.ok(given.ok, `${given.error}: the domain knows the final address and this chain`)
  t.equal((await w0g.read('allowance', [owner, account(3)]))[0], 7n)
})

t.test('Multicall3 gathers calls, and says which failed', async t => {
  const chain = await TestChain.start()
  await chain.mine(3)
  const multicall = chain.contract(AT.multicall3, multicall3Abi)
  const flow = new Interface(flowAbi as InterfaceAbi)
  const good = [AT.flow, flow.encodeFunctionData('blocksPerEpoch')]
  const bad = [AT.flow, flow.encodeFunctionData('pause')]
  const epochs = coder.encode(['uint256'], [DEVNET_STORAGE.blocksPerEpoch])
  const [answers] = await multicall.read('aggregate3', [
    [
      [good[0], false, good[1]],
      [bad[0], true, bad[1]]
    ]
  ])
  t.same([answers[0].success, answers[0].returnData, answers[1].success], [true, epochs, false])
  await t.rejects(multicall.read('aggregate3', [[[bad[0], false, bad[1]]]]), /Multicall3: call failed/)
  await t.rejects(multicall.read('aggregate', [[good, bad]]), /Multicall3: call failed/)
  const all = await multicall.read('aggregate', [[good]])
  t.same([all[0], [...all[1]]], [BigInt(chain.number), [epochs]])
  t.same(
    (await multicall.read('tryAggregate', [false, [good, bad]]))[0].map((r: Result) => r[0]),
    [true, false]
  )
  await t.rejects(multicall.read('tryAggregate', [true, [bad]]), /Multicall3: call failed/)
  t.equal((await multicall.read('blockAndAggregate', [[good]]))[2][0][1], epochs)
  t.equal((await multicall.read('tryBlockAndAggregate', [false, [bad]]))[2][0][0], false)

  const pay = (value: bigint) =>
    multicall.send(
      'aggregate3Value',
      [
        [
          [account(5), false, 3n, '0x'],
          [account(6), false, 4n, '0x']
        ]
      ],
      { value }
    )
  const before = await chain.balance(account(6))
  t.equal((await pay(8n)).error, 'Multicall3: value mismatch')
  t.ok((await pay(7n)).ok)
  t.equal((await chain.balance(account(6))) - before, 4n)

  t.equal((await multicall.read('getBlockNumber'))[0], BigInt(chain.number))
  t.equal((await multicall.read('getLastBlockHash'))[0], toHex(blockHash(chain.number - 1)))
  t.equal((await multicall.read('getBlockHash', [2]))[0], toHex(blockHash(2)))
  t.equal((await multicall.read('getChainId'))[0], 31337n)
  t.equal((await multicall.read('getBasefee'))[0], 7n)
  t.equal((await multicall.read('getCurrentBlockTimestamp'))[0], BigInt(chain.timestamp))
  t.equal((await multicall.read('getCurrentBlockGasLimit'))[0], 30_000_000n)
  t.equal((await multicall.read('getCurrentBlockDifficulty'))[0], 0n)
  t.match((await multicall.read('getCurrentBlockCoinbase'))[0], /^0x0{40}$/)
  t.equal((await multicall.read('getEthBalance', [account(5)]))[0], await chain.balance(account(5)))
})

t.test('the deterministic deployer puts a contract at its CREATE2 address', async t => {
  const chain = await TestChain.start()
  const salt = rootOf(5)
  const code = CREATION_CODE.Counter
  const expected = keccak256(`0xff${AT.deterministicDeployer.slice(2)}${salt.slice(2)}${keccak256(code).slice(2)}`)
  const done = await chain.send({ to: AT.deterministicDeployer, data: `${salt}${code.slice(2)}` })
  t.equal(done.data, `0x${expected.slice(26)}`)
  const counter = chain.contract(done.data, counterAbi)
  await counter.send('setNumber', [41])
  const grown = await counter.send('increment')
  t.equal((await counter.read('number'))[0], 42n)
  t.same(
    grown.logs.map(l => counter.abi.parseLog(l)!.args[1]),
    [42n]
  )
})

// Genesis --------------------------------------------------------------------------------------------------------------------------

t.test('a genesis is a function of its arguments', async t => {
  const options = { chainId: 31337, timestamp: 1_700_000_000, kind: 'network', accounts: ACCOUNTS } as const
  const a = await buildAlloc(options)
  // The first one has loaded the EVM, which a chain has loaded anyway.
  const started = performance.now()
  t.same(await buildAlloc(options), a, 'two builds are equal')
  t.ok(performance.now() - started < 1000, 'in under a second')
  const order = a.map(e => toHex(e.address))
  t.same(order, [...order].sort())

  const find = (alloc: typeof a, address: string) => alloc.find(e => toHex(e.address) === address.toLowerCase())
  for (const [name, address] of Object.entries(AT)) {
    const entry = find(a, address)
    if (name === 'mine') t.notOk(entry, 'the mine address is only reserved')
    else t.ok(entry && entry.code.length > 0 && entry.code.length <= 24_576 && entry.nonce === 1n, name)
  }
  for (const { address, code } of Object.values(SYSTEM_CONTRACTS)) {
    t.same(find(a, address), { address: fromHex(address), balance: 0n, nonce: 1n, code: fromHex(code), storage: [] })
  }
  t.same(
    ACCOUNTS.map(address => find(a, toHex(address))?.nonce),
    [13n, 0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n]
  )
  t.ok(ACCOUNTS.every(address => find(a, toHex(address))?.balance === 10_000n * 10n ** 18n))
  t.ok(
    a.every(e =>
      e.storage.every(([slot, value]) => slot.length === 32 && value.length === 32 && value.some(b => b !== 0))
    )
  )

  const dev = await buildAlloc({ ...options, kind: 'dev' })
  t.equal(dev.length, 16, 'ten accounts, five system contracts, Multicall3')
  t.ok(
    dev.every(e => e.code.length > 0 || e.nonce === 0n),
    'no account has a past'
  )
  t.notOk(find(dev, AT.flow))

  const main = contractAddresses(16661)
  const mainnet = await buildAlloc({ ...options, chainId: 16661 })
  t.ok(find(mainnet, main.flow) && !find(mainnet, AT.flow), 'mainnet has its own addresses')
  t.equal(main.flow, '0x62D4144dB0F0a6fBBaeb6296c785C71B3D57C526')
  t.same(AT, contractAddresses(16602))

  for (const [change, message] of [
    [{ accounts: [] }, /at least one account/],
    [{ accounts: [ACCOUNTS[0]!, ACCOUNTS[0]!] }, /same address/],
    [{ accounts: [new Uint8Array(19)] }, /20 bytes/],
    [{ chainId: 0 }, /chain id/],
    [{ timestamp: -1 }, /timestamp/],
    [{ storage: { blocksPerEpoch: 0 } }, /blocksPerEpoch/],
    [{ storage: { sectorsPerPrice: 0n } }, /sectorsPerPrice/],
    [{ balance: -1n }, /balance/]
  ] as [Partial<Parameters<typeof buildAlloc>[0]>, RegExp][]) {
    await t.rejects(buildAlloc({ ...options, ...change }), { code: 'ERR_CONFIG', message })
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
    [[60, 59, 58, 57]],
    [[13], [50, 49, 48, 47]],
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
