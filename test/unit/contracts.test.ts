/**
 * The predeployed contracts around the flow, and the genesis that holds them: that the ABI of each is the one clients know, that fees
 * and rewards add up, that W0G, Multicall3 and the deterministic deployer do what users of those addresses expect. The flow itself
 * has a file of its own.
 */
import { keccak_256 } from '@noble/hashes/sha3.js'
import {
  AbiCoder,
  getAddress,
  Interface,
  type InterfaceAbi,
  keccak256,
  type Result,
  Signature,
  SigningKey,
  TypedDataEncoder
} from 'ethers'
import t from 'tap'
import { fromHex, type Hex, toHex } from '../../lib/base/hex.ts'
import { contractAddresses } from '../../lib/contracts/addresses.ts'
import {
  chunkLinearRewardAbi,
  counterAbi,
  fixedPriceMarketAbi,
  flowAbi,
  multicall3Abi,
  poraMineAbi,
  wrappedZGAbi
} from '../../lib/contracts/generated/abi.ts'
import { CREATION_CODE } from '../../lib/contracts/generated/artifacts.ts'
import { buildAlloc, DEVNET_STORAGE } from '../../lib/contracts/genesis.ts'
import { SYSTEM_CONTRACTS } from '../../lib/contracts/system-contracts.ts'
import { devSigners } from '../../lib/crypto/dev-signers.ts'
import {
  ACCOUNTS,
  AT,
  account,
  BATCH_NEW,
  BATCH_OLD,
  blockHash,
  file,
  flowOf,
  NEW_EPOCH_TOPIC,
  PRICE,
  rootOf,
  SUBMIT_NEW,
  SUBMIT_OLD,
  SUBMIT_TOPIC,
  sectorsOf,
  stop,
  TestChain
} from './contract-chain.ts'

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
    poraMineAbi,
    [
      [
        '0xae722e82',
        'submit((bytes32,bytes32,bytes32,(uint256,uint256,uint64,uint64),uint256,uint256,bytes32,bytes32[128],bytes32[]))',
        ''
      ],
      [
        '0x296beba7',
        'computeWorkerContext(bytes32)',
        '((uint256,uint256,bytes32,uint256,bytes32,bytes32),uint256,bytes32,uint64)'
      ],
      ['0x047c13f5', 'requestMinerId(address,uint64)', ''],
      ['0x28812dbf', 'initialize(address,address,(uint256,uint256,uint256,uint64,uint256,uint256))', '']
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
  for (const from of [account(0), account(1), AT.flow, AT.market] as Hex[]) {
    const claim = await reward.send('claimMineReward', [5, account(1), id], { from })
    t.match(claim.error, /AccessControlUnauthorizedAccount/, 'only the mine contract claims')
  }
  t.equal((await reward.send('fillReward', [0, 1], { value: 1n })).error, 'Sender does not have permission')
  const market = chain.contract(AT.market, fixedPriceMarketAbi)
  t.equal((await market.send('chargeFee', [0, 1, 0])).error, 'Sender does not have permission')

  t.test('what time has released is claimable, half at a time', async t => {
    const mine = AT.mine as Hex
    const whole = await content(5)
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
  t.same(await buildAlloc(options), a, 'two builds are equal')
  const order = a.map(e => toHex(e.address))
  t.same(order, [...order].sort())

  const find = (alloc: typeof a, address: string) => alloc.find(e => toHex(e.address) === address.toLowerCase())
  for (const [name, address] of Object.entries(AT)) {
    t.equal(address, getAddress(address.toLowerCase()), `${name} has its checksum`)
    const entry = find(a, address)
    if (name === 'daSigners')
      t.match(entry, { code: Uint8Array.of(1), nonce: 0n, balance: 0n }, 'marked, not code')
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
  const { ledgerManager, inferenceServing, fineTuningServing } = AT
  const testnet = contractAddresses(16602)
  t.same(AT, { ...testnet, ledgerManager, inferenceServing, fineTuningServing }, 'only compute has its own on 31337')
  t.not(testnet.ledgerManager, ledgerManager)

  const [dev5] = devSigners()
  const signer = { ...dev5!, address: fromHex(dev5!.address), votes: 1n }
  for (const [change, message] of [
    [{ accounts: [] }, /at least one account/],
    [{ accounts: [ACCOUNTS[0]!, ACCOUNTS[0]!] }, /same address/],
    [{ accounts: [new Uint8Array(19)] }, /20 bytes/],
    [{ chainId: 0 }, /chain id/],
    [{ timestamp: -1 }, /timestamp/],
    [{ storage: { blocksPerEpoch: 0 } }, /blocksPerEpoch/],
    [{ storage: { sectorsPerPrice: 0n } }, /sectorsPerPrice/],
    [{ balance: -1n }, /balance/],
    [{ daEpochBlocks: 2n }, /at least 3 blocks/],
    [{ daSigners: [signer, signer] }, /stands there twice/],
    [{ daSigners: [{ ...signer, votes: 0n }] }, /no vote/],
    [{ daSigners: [{ ...signer, pkG1: { x: 1n, y: 1n } }] }, /no point of its group/]
  ] as [Partial<Parameters<typeof buildAlloc>[0]>, RegExp][]) {
    await t.rejects(buildAlloc({ ...options, ...change }), { code: 'ERR_CONFIG', message })
  }
})
