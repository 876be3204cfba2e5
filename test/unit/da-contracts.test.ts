/**
 * DAEntrance and DARegistry in an EVM on the genesis of a network: selectors, topics and check values of da.md 7 and 14, posting in
 * turn, certificates by a quorum with every refusal of da.md 12, the change of epochs, and settings with their roles. Sampling has
 * da-sampling.test.ts.
 */
import { Interface, type InterfaceAbi } from 'ethers'
import t from 'tap'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { dAEntranceAbi, dARegistryAbi } from '../../lib/contracts/generated/abi.ts'
import * as bls from '../../lib/crypto/bn254.ts'
import { AT, account, stop } from './contract-chain.ts'
import {
  bitmapOf,
  type Certificate,
  dataQuality,
  daWorld,
  duplicateKey,
  EPOCH_BLOCKS,
  hex32,
  identifier,
  lineQuality,
  MAX_TARGET,
  mapped,
  namespaced,
  SIGNERS
} from './da-contract-world.ts'

t.teardown(stop)
// A pairing takes the EVM a tenth of a second, and the machine may have other things to do.
t.setTimeout(120_000)

const ROOT = fromHex(hex32('11'))
const COMMIT = '(bytes32,uint256,uint256,(uint256,uint256),bytes,(uint256[2],uint256[2]),(uint256,uint256))[]'
const RESPONSE = '(bytes32,uint64,uint64,uint32,uint32,uint256,bytes32,bytes32[3],bytes32[],bytes)'
const DETAIL = '(address,string,(uint256,uint256),(uint256[2],uint256[2])),(uint256,uint256)'

const SELECTORS: Record<string, string> = {
  'submitOriginalData(bytes32[])': '0xd4ae59c9',
  [`submitVerifiedCommitRoots(${COMMIT})`]: '0xeafed6ce',
  'verifiedErasureCommitment(bytes32,uint256,uint256)': '0x9da3a69b',
  'commitmentExists(bytes32,uint256,uint256)': '0x6a53525d',
  [`submitSamplingResponse(${RESPONSE})`]: '0xf6902775',
  'sampleTask()': '0x988ea94e',
  'sampleRange()': '0x6efc2555',
  'sync()': '0xfff6cae9',
  'syncFixedTimes(uint256)': '0xe051d1ea',
  'donate()': '0xed88c68e',
  'payments(address)': '0xe2982c21',
  'withdrawPayments(address)': '0x31b3eb94',
  'DA_SIGNERS()': '0x807f063a',
  'SLICE_NUMERATOR()': '0x5626a47b',
  'SLICE_DENOMINATOR()': '0x602b245a',
  'MAX_PODAS_TARGET()': '0x8bdcc712',
  'PARAMS_ADMIN_ROLE()': '0xb15d20da',
  'currentEpoch()': '0x76671808',
  'currentSampleSeed()': '0x9fae1fa4',
  'sampleRound()': '0x168a062c',
  'nextSampleHeight()': '0x7397eb33',
  'podasTarget()': '0xc8d3b359',
  'roundSubmissions()': '0xff187748',
  'targetRoundSubmissions()': '0x2fc0534b',
  'targetRoundSubmissionsNext()': '0x257a3aa3',
  'currentEpochReward()': '0xe68e035b',
  'activedReward()': '0x12577052',
  'totalBaseReward()': '0x7f1b5e43',
  'serviceFee()': '0x8abdf5aa',
  'epochWindowSize()': '0x3e898337',
  'rewardRatio()': '0x646033bc',
  'baseReward()': '0x76ad03bc',
  'blobPrice()': '0x3d00448a',
  'samplePeriod()': '0x98920f57',
  'serviceFeeRateBps()': '0xc0575111',
  'treasury()': '0x61d027b3',
  'setRoundSubmissions(uint64)': '0x88521ec7',
  'setEpochWindowSize(uint64)': '0xb1be17ab',
  'setRewardRatio(uint64)': '0x3bab2a70',
  'setSamplePeriod(uint64)': '0x1192de9a',
  'setBaseReward(uint256)': '0x0373a23a',
  'setBlobPrice(uint256)': '0x23dd60a6',
  'setServiceFeeRate(uint256)': '0x9b1d3091',
  'setTreasury(address)': '0xf0f44260',
  'initialize()': '0x8129fc1c'
}

const TOPICS: Record<string, string> = {
  'DataUpload(address,bytes32,uint256,uint256,uint256)':
    '0x57b8b1a6583dc6ce934dfba3d66f2a8e1591b6e171bb2e0921cc64640277087b',
  'ErasureCommitmentVerified(bytes32,uint256,uint256)':
    '0x0f1b20d87bebd11dddaaab51f01cf2726880cb3f8073b636dbafa2aa8cacd256',
  'NewSampleRound(uint256,uint256,bytes32,uint256)':
    '0xdfb5db5886e81f083727f21152a2a83457e99364e9f104e1aa10bbd6d9b4b95f',
  'DAReward(address,uint256,uint256,uint256,bytes32,uint256,uint256,uint256,uint256)':
    '0xc3898eb7106c1cb2f727da316a76320c0035f5692950aa7f6b65d20a5efaedc5'
}

t.test('selectors, topics and indexed fields are those of the protocol', async t => {
  const entrance = new Interface(dAEntranceAbi as unknown as InterfaceAbi)
  for (const [name, selector] of Object.entries(SELECTORS)) {
    t.equal(entrance.getFunction(selector)?.format(), name, selector)
  }
  for (const [name, topic] of Object.entries(TOPICS)) t.equal(entrance.getEvent(topic)?.format(), name)
  const indexed = (name: string) =>
    entrance
      .getEvent(name)!
      .inputs.filter(i => i.indexed)
      .map(i => i.name)
  t.same(indexed('DataUpload'), [])
  t.same(indexed('ErasureCommitmentVerified'), [])
  t.same(indexed('NewSampleRound'), ['sampleRound'])
  t.same(indexed('DAReward'), ['beneficiary', 'sampleRound', 'epoch'])
  const registry = new Interface(dARegistryAbi as unknown as InterfaceAbi)
  t.equal(registry.getFunction('0x7ca4dd5e')?.format(), `registerSigner(${DETAIL})`)
  t.equal(registry.getFunction('0x56a32372')?.format(), 'registerNextEpoch((uint256,uint256))')
  t.equal(registry.getError('0x0f15d651')?.format(), 'ErrSenderNotOrigin()')
  t.equal(registry.getError('0x4090e434')?.format(), 'ErrSenderNotSigner()')
  t.equal(registry.getError('0x2e9b1de8')?.format(), 'ErrSenderNotEligibleToVote()')
})

t.test('the formulas these tests go by give the check values of the protocol', async t => {
  const s = { sampleSeed: fromHex(hex32('22')), epoch: 1n, quorumId: 2n, dataRoot: ROOT, lineIndex: 3 }
  const line = lineQuality(s)
  t.equal(line, 0x77a9de6d5d4b105082d8ee76db3e85376c4694d42a37897e5053bef2eed63062n)
  const data = dataQuality(line, 5, new Uint8Array(1024).fill(0x33))
  t.equal(data, 0x0be03636b664080d3c51fdad7b004dc1b713f059b4b05a106876e9aa326ed6fcn)
  const key = toHex(duplicateKey({ ...s, sublineIndex: 5 }))
  t.equal(key, '0xc9fb8306372490ec8a492c1722481dbc8cbfda9c371ca5139cc2674d01000371')
  t.equal(toHex(identifier(s)), '0xb17ae73b7d48db18adabbd31559bb80228399275ca5c82acdab14f1017480997')
  t.equal(
    toHex(bls.blobDigest(ROOT, 1n, 2n, { x: 1n, y: 2n })),
    '0x37412edc0fae2d298c470c1668f2ee05ff6197d6f40e06bdd6f341e501def8a0'
  )
})

t.test('a new network: parameters of the protocol, nothing yet counted', async t => {
  const { entrance } = await daWorld()
  const expected: Record<string, unknown> = {
    DA_SIGNERS: AT.daSigners,
    SLICE_NUMERATOR: 2n,
    SLICE_DENOMINATOR: 3n,
    MAX_PODAS_TARGET: MAX_TARGET,
    podasTarget: MAX_TARGET,
    samplePeriod: 30n,
    nextSampleHeight: 30n,
    sampleRound: 0n,
    targetRoundSubmissions: 20n,
    epochWindowSize: 300n,
    rewardRatio: 1_200_000n,
    baseReward: 0n,
    blobPrice: 0n,
    serviceFeeRateBps: 0n,
    treasury: `0x${'0'.repeat(40)}`
  }
  for (const [name, value] of Object.entries(expected)) t.equal((await entrance.read(name))[0], value, name)
  t.match(await entrance.send('initialize'), { ok: false, error: 'InvalidInitialization()' })
})

t.test('blobs are posted at their price; calls go to quorums in turn, all roots of a call to one', async t => {
  const { chain, entrance } = await daWorld({ blobPriceWei: 5n })
  const roots = [ROOT, fromHex(hex32('12'))]
  t.match(await entrance.send('submitOriginalData', [roots], { value: 9n }), {
    ok: false,
    error: 'Not enough da blob fee'
  })
  const posted = await entrance.send('submitOriginalData', [roots], { value: 11n, from: account(3) })
  t.ok(posted.ok, posted.error)
  t.same(
    posted.logs.map(l => entrance.abi.parseLog(l)!.args.map(a => String(a).toLowerCase())),
    roots.map(root => [account(3), toHex(root), '1', '0', '5'])
  )
  t.equal((await entrance.read('currentEpochReward'))[0], 11n, 'what is paid too much stays in the pot')
  t.equal(await chain.balance(AT.daEntrance), 11n)
  t.equal((await entrance.read('currentEpoch'))[0], 1n)
})

t.test('certificates: two thirds of the places, one signature of the keys behind them', async t => {
  const { chain, entrance, quorum, certificate } = await daWorld()
  const blob = { dataRoot: ROOT, epoch: 1n, quorumId: 0n }
  const places = await quorum(1n)
  const submit = (...list: Certificate[]) => entrance.send('submitVerifiedCommitRoots', [list])
  const refused = async (what: string, error: string, c: Certificate) =>
    t.match(await submit(c), { ok: false, error }, what)

  const INSUFFICIENT = 'DARegistry: insufficient signed slices'
  const INVALID = 'DARegistry: signature is invalid'
  const [a, b, c, d] = SIGNERS as [bls0: (typeof SIGNERS)[0], ...rest: typeof SIGNERS]
  const three = [a, b!, c!]
  await refused('two signers', INSUFFICIENT, await certificate(blob, [a, b!]))
  await refused('nobody', INSUFFICIENT, await certificate(blob, three, { quorumBitmap: new Uint8Array(384) }))

  // From a signer's first marked place on, all its places count: leave out as many of the third signer's as it takes.
  const countOf = (address: string) => places.filter(p => p === address).length
  const withHits = (hits: number) => {
    const rest = hits - countOf(a.address) - countOf(b!.address)
    const ofThird = places.flatMap((p, i) => (p === c!.address ? [i] : []))
    const first = ofThird.at(-rest)!
    return bitmapOf(places, (p, i) => p === a.address || p === b!.address || i === first)
  }
  await refused('2,047 places', INSUFFICIENT, await certificate(blob, three, { quorumBitmap: withHits(2047) }))
  await refused(
    'the bit of a signer that did not sign',
    INVALID,
    await certificate(blob, three, {
      quorumBitmap: bitmapOf(places, (p, i) => three.some(s => s.address === p) || i === places.lastIndexOf(d!.address))
    })
  )
  await refused(
    'a signer whose bits are missing',
    INVALID,
    await certificate(blob, SIGNERS, { quorumBitmap: bitmapOf(places, p => p !== d!.address) })
  )
  for (const size of [0, 383, 385]) {
    const quorumBitmap = new Uint8Array(size).fill(255)
    t.match(await submit(await certificate(blob, SIGNERS, { quorumBitmap })), { ok: false, error: /bitmap|bytes/ })
  }
  const aggPkG2 = bls.g2Abi(bls.sumG2(three.map(s => s.pkG2)))
  await refused(
    'parts of the key in the order of the precompile',
    'DARegistry: pairing precompile call failed',
    await certificate(blob, three, { aggPkG2 })
  )
  await refused(
    'the key of others',
    INVALID,
    await certificate(blob, three, { aggPkG2: bls.g2PairingAbi(bls.sumG2([a, b!, d!].map(s => s.pkG2))) })
  )
  const foreign = bls.g1Abi(bls.hashToG1(ROOT))
  await refused('a foreign signature', INVALID, await certificate(blob, three, { signature: foreign }))
  await refused('a signature off the curve', INVALID, await certificate(blob, three, { signature: [1n, 1n] }))
  await refused('no signature', INVALID, await certificate(blob, three, { signature: [0n, 0n] }))
  await refused(
    'another commitment than signed',
    INVALID,
    await certificate(blob, three, { erasureCommitment: { X: 2n, Y: 1n } })
  )
  await refused('no such quorum', 'quorum not found', await certificate({ ...blob }, three, { quorumId: 1n }))
  await refused('no such epoch', 'epoch has not begun', await certificate({ ...blob }, three, { epoch: 2n }))
  t.equal((await entrance.read('commitmentExists', [ROOT, 1n, 0n]))[0], false, 'failures left nothing')
  t.same([...(await entrance.read('verifiedErasureCommitment', [ROOT, 1n, 0n]))[0]], [0n, 0n])

  const good = await certificate(blob, three, { quorumBitmap: withHits(2048) })
  const other = await certificate({ ...blob, dataRoot: fromHex(hex32('12')), commitment: { x: 9n, y: 8n } })
  const done = await submit(good, other, good)
  t.ok(done.ok, done.error)
  t.same(
    done.logs.map(l => [l.topics[0], l.data]),
    [ROOT, other.dataRoot].map(root => [
      TOPICS['ErasureCommitmentVerified(bytes32,uint256,uint256)'],
      `${toHex(root)}${'1'.padStart(64, '0')}${'0'.repeat(64)}`
    ]),
    'one event each'
  )
  t.equal((await entrance.read('commitmentExists', [ROOT, 1n, 0n]))[0], true)
  t.same([...(await entrance.read('verifiedErasureCommitment', [other.dataRoot, 1n, 0n]))[0]], [9n, 8n])
  const at = mapped(namespaced('0g.storage.DAEntrance', 2), identifier(blob))
  t.equal(await chain.storage(AT.daEntrance, at), `0x${'1'.padStart(64, '0')}`, 'the identifier is the key in storage')

  const again = await submit({ ...good, erasureCommitment: { X: 7n, Y: 7n }, signature: [0n, 0n] })
  t.match(again, { ok: true, logs: [] }, 'known ones are passed over')
  t.same([...(await entrance.read('verifiedErasureCommitment', [ROOT, 1n, 0n]))[0]], [1n, 2n])
  t.ok(done.gas < 3_500_000n, `two certificates took ${done.gas} gas`)
})

t.test('an epoch without signers takes no blobs; the next with signers does, under its number', async t => {
  const { chain, entrance, nextEpoch, certificate } = await daWorld()
  const post = () => entrance.send('submitOriginalData', [[ROOT]])
  t.ok((await post()).ok)
  await chain.skip({ blocks: EPOCH_BLOCKS - 2 })
  t.match(await post(), { ok: true }, 'the last block of the epoch')
  await chain.skip({ blocks: 1 })
  t.match(await post(), { ok: false, error: 'DAEntrance: No DA Signers' })
  t.ok((await entrance.send('sync')).ok)
  t.equal((await entrance.read('currentEpoch'))[0], 2n)
  t.match(await post(), { ok: false, error: 'DAEntrance: No DA Signers' })

  await nextEpoch(3n)
  t.equal((await entrance.read('currentEpoch'))[0], 3n)
  const posted = await post()
  t.ok(posted.ok, posted.error)
  t.equal(entrance.abi.parseLog(posted.logs.at(-1)!)!.args.epoch, 3n)
  const old = { dataRoot: ROOT, epoch: 1n, quorumId: 0n }
  const now = { ...old, epoch: 3n }
  const list = [await certificate(old, SIGNERS), await certificate(now, SIGNERS)]
  const done = await entrance.send('submitVerifiedCommitRoots', [list])
  t.ok(done.ok, done.error)
  t.equal(done.logs.length, 2, 'certificates of past epochs still count')
})

t.test('settings: by who may, within bounds; what was due before goes by the old ones', async t => {
  const { chain, entrance } = await daWorld()
  const set = (name: string, value: unknown, from = account(0)) => entrance.send(name, [value], { from })
  const values: [string, unknown, string][] = [
    ['setRoundSubmissions', 40n, 'targetRoundSubmissionsNext'],
    ['setEpochWindowSize', 2n, 'epochWindowSize'],
    ['setRewardRatio', 3n, 'rewardRatio'],
    ['setSamplePeriod', 31n, 'samplePeriod'],
    ['setBaseReward', 4n, 'baseReward'],
    ['setBlobPrice', 5n, 'blobPrice'],
    ['setServiceFeeRate', 10_000n, 'serviceFeeRateBps'],
    ['setTreasury', account(7), 'treasury']
  ]
  const role = (await entrance.read('PARAMS_ADMIN_ROLE'))[0]
  for (const [name, value, getter] of values) {
    const refused = await set(name, value, account(1))
    t.match(refused, { ok: false, error: /^AccessControlUnauthorizedAccount\(/ }, name)
    t.match(refused.error, role)
    t.match(await set(name, value), { ok: true }, name)
    t.equal(String((await entrance.read(getter))[0]).toLowerCase(), String(value), getter)
  }
  t.ok((await entrance.send('grantRole', [role, account(1)])).ok)
  t.ok((await set('setBlobPrice', 6n, account(1))).ok)
  t.equal((await entrance.read('getRoleMemberCount', [role]))[0], 2n)

  const LARGE = 'Increase round submissions too large'
  for (const [name, value, error] of [
    ['setRoundSubmissions', 0n, 'Round submissions cannot be zero'],
    ['setRoundSubmissions', 81n, LARGE],
    ['setRoundSubmissions', 2n ** 64n - 1n, LARGE],
    ['setRoundSubmissions', 4n, 'Decrease round submissions too large'],
    ['setEpochWindowSize', 0n, 'Epoch window size cannot be zero'],
    ['setRewardRatio', 0n, 'Reward ratio must be non-zero'],
    ['setSamplePeriod', 0n, 'Sample period cannot be zero'],
    ['setServiceFeeRate', 10_001n, 'Service fee rate too large']
  ] as [string, bigint, string][]) {
    t.match(await set(name, value), { ok: false, error }, `${name}(${value})`)
  }
  for (const value of [5n, 80n]) t.ok((await set('setRoundSubmissions', value)).ok, `${value}`)
  t.equal((await entrance.read('targetRoundSubmissions'))[0], 20n, 'not before the next round')
  await chain.skip({ blocks: 29 })
  t.ok((await set('setSamplePeriod', 7n)).ok)
  t.equal((await entrance.read('targetRoundSubmissions'))[0], 80n)
  t.equal((await entrance.read('nextSampleHeight'))[0], 61n, 'the round that was due took the old period')
})
