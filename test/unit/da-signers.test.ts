/**
 * The DASigners precompile and DARegistry in an EVM on the genesis of a network: the storage keys of chain.md 4.1, who may call what and
 * at which gas, registration with proof of possession, epochs and quorums, aggregate keys, and that failing calls leave nothing behind.
 */
import { Interface, type Result } from 'ethers'
import t from 'tap'
import { fromHex, type Hex, toHex } from '../../lib/base/hex.ts'
import { drawQuorums, KEYS } from '../../lib/contracts/da-signers.ts'
import { DA_SIGNERS_ABI } from '../../lib/contracts/da-signers-abi.ts'
import { dARegistryAbi as registryAbi } from '../../lib/contracts/generated/abi.ts'
import * as bls from '../../lib/crypto/bn254.ts'
import { devSigners } from '../../lib/crypto/dev-signers.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { AT, account, stop, TestChain } from './contract-chain.ts'

const CHAIN_ID = 31337n
const abi = new Interface(DA_SIGNERS_ABI)
const GENESIS = devSigners()
const EPOCH_BLOCKS = 20n
const genesisSigners = GENESIS.map(s => ({ ...s, address: fromHex(s.address), votes: 768n }))
const DETAIL = '((address,string,(uint256,uint256),(uint256[2],uint256[2])),(uint256,uint256))'
const SIGNATURE = '((uint256,uint256))'
const nobody = `0x${'99'.repeat(20)}`

/** A newcomer: account i of the test chain with a key of its own. */
function newcomer(i: number) {
  const secretKey = bls.secretKeyFrom(keccak256(Uint8Array.of(i)))
  const [pkG1, pkG2] = [bls.publicKeyG1(secretKey), bls.publicKeyG2(secretKey)]
  return { address: account(i), secretKey, pkG1, pkG2, socket: `127.0.0.1:${35000 + i}` }
}
type Newcomer = ReturnType<typeof newcomer>

const pair = (p: bls.G1) => [p.x, p.y]
const detail = (s: Newcomer, change: Partial<Newcomer> = {}) => {
  const m = { ...s, ...change }
  return [m.address, m.socket, pair(m.pkG1), [[...m.pkG2.x], [...m.pkG2.y]]]
}
const registrationOf = (s: { address: string; secretKey: bigint }) =>
  bls.signBls(s.secretKey, bls.registrationDigest(fromHex(s.address), CHAIN_ID))
const epochOf = (s: { address: string; secretKey: bigint }, epoch: bigint) =>
  bls.signBls(s.secretKey, bls.epochDigest(fromHex(s.address), epoch, CHAIN_ID))

async function begin() {
  const chain = await TestChain.start({ da: { daSigners: genesisSigners, daEpochBlocks: EPOCH_BLOCKS } })
  const registry = chain.contract(AT.daRegistry, registryAbi)
  const send = (name: string, args: unknown[] = [], opts: { from?: string; gas?: bigint } = {}) =>
    chain.send({ to: AT.daSigners, data: abi.encodeFunctionData(name, args), ...opts })
  const read = async (name: string, args: unknown[] = []): Promise<Result> => {
    const answer = await chain.call({ to: AT.daSigners, data: abi.encodeFunctionData(name, args) })
    if (!answer.ok) throw new Error(answer.error)
    return abi.decodeFunctionResult(name, answer.data)
  }
  const enrol = (s: Newcomer, change: Partial<Newcomer> = {}, signature = registrationOf(s)) =>
    registry.send('registerSigner', [detail(s, change), pair(signature)], { from: s.address })
  const enter = (s: { address: string; secretKey: bigint }, epoch: bigint, signature = epochOf(s, epoch)) =>
    registry.send('registerNextEpoch', [pair(signature)], { from: s.address })
  return { chain, registry, send, read, enrol, enter }
}

t.teardown(stop)

t.test('storage keys, selectors and topics are those of the protocol', async t => {
  const at = fromHex(`0x${'11'.repeat(20)}`)
  t.equal(toHex(KEYS.signer(at)), '0x7dc95ba3cb9e5e87824447501846b50797b2ea27f5fdee5fc351ef943975dd3f')
  t.equal(toHex(KEYS.quorum(1n, 42n)), '0xe26d93f2acb8151395b7f036aa81f315fbffbf448442ebfe2090c00d453f81f3')
  t.equal(toHex(KEYS.epochNumber()), '0xdbb8d0f4c497851a5043c6363657698cb1387682cac2f786c731f8936109d795')
  const selectors: Record<string, string> = {
    params: '0xcff0ab96',
    epochNumber: '0xf4145a83',
    quorumCount: '0x5ecba503',
    isSigner: '0x7df73e27',
    getSigner: '0xd1f5e5f8',
    getQuorum: '0x6ab6f654',
    getQuorumRow: '0xfa6fcba6',
    registeredEpoch: '0x6c9e560c',
    getAggPkG1: '0x50b73739',
    registerSigner: '0x7ca4dd5e',
    updateSocket: '0x0cf4b767',
    registerNextEpoch: '0x0f62bda5',
    makeEpoch: '0x5a889f0c'
  }
  for (const [name, selector] of Object.entries(selectors)) t.equal(abi.getFunction(name)!.selector, selector, name)
  t.equal(abi.getEvent('NewSigner')!.topicHash, '0x679917c2006df1daaa987a56bf1d66e99764d5ad317892d9e83a6eb4e3f051e7')
  t.equal(
    abi.getEvent('SocketUpdated')!.topicHash,
    '0x09617a966176a40f8f1410768b118506db0096484acd5811064fcc12038798de'
  )
  const registry = new Interface(registryAbi)
  t.equal(registry.getFunction(`registerSigner${DETAIL}`)!.selector, '0x7ca4dd5e')
  t.equal(registry.getFunction(`registerNextEpoch${SIGNATURE}`)!.selector, '0x56a32372')
  t.equal(registry.getError('ErrSenderNotOrigin')!.selector, '0x0f15d651')
  t.equal(registry.getError('ErrSenderNotSigner')!.selector, '0x4090e434')
  t.equal(registry.getError('ErrSenderNotEligibleToVote')!.selector, '0x2e9b1de8')
})

t.test('a network begins with its signers and their quorum', async t => {
  const { read } = await begin()
  t.same([...(await read('params'))[0]], [30n, 102_400n, 10n, EPOCH_BLOCKS, 3072n])
  t.equal((await read('epochNumber'))[0], 1n)
  t.equal((await read('quorumCount', [1n]))[0], 1n)
  const quorum: string[] = [...(await read('getQuorum', [1n, 0n]))[0]]
  t.equal(quorum.length, 3072)
  for (const s of GENESIS) {
    t.equal(quorum.filter(a => a === s.address).length, 768, 'a quarter each')
    t.equal((await read('isSigner', [s.address]))[0], true)
    t.equal((await read('registeredEpoch', [s.address, 1n]))[0], true)
    t.equal((await read('registeredEpoch', [s.address, 2n]))[0], false)
  }
  for (const row of [0, 1, 1023, 3071]) t.equal((await read('getQuorumRow', [1n, 0n, row]))[0], quorum[row])
  const list = (await read('getSigner', [GENESIS.map(s => s.address)]))[0]
  for (const [i, s] of GENESIS.entries()) {
    t.equal(list[i].signer, s.address)
    t.equal(list[i].socket, s.socket)
    t.same([...list[i].pkG1], pair(s.pkG1))
    t.same([[...list[i].pkG2.X], [...list[i].pkG2.Y]], [[...s.pkG2.x], [...s.pkG2.y]], 'c0 before c1')
  }
  t.equal((await read('isSigner', [nobody]))[0], false)
  await t.rejects(read('getSigner', [[nobody]]), /not found/)
  for (const [name, args] of [
    ['quorumCount', [2n]],
    ['quorumCount', [2n ** 256n - 1n]],
    ['getQuorum', [2n, 0n]],
    ['getQuorum', [0n, 0n]],
    ['getQuorum', [1n, 1n]],
    ['getQuorumRow', [1n, 1n, 0]],
    ['getQuorumRow', [1n, 0n, 3072]]
  ] as [string, unknown[]][]) {
    await t.rejects(read(name, args), /epoch|quorum|row/, `${name}(${args})`)
  }
})

t.test('aggregate keys: each signer once, all its places; unknown quorums and wrong bitmaps fail', async t => {
  const { read } = await begin()
  const quorum: string[] = [...(await read('getQuorum', [1n, 0n]))[0]]
  const bitmapOf = (addresses: string[]): Uint8Array => {
    const bits = new Uint8Array(384)
    for (const [p, a] of quorum.entries()) if (addresses.includes(a)) bits[p >> 3]! |= 1 << (p & 7)
    return bits
  }
  const three = GENESIS.slice(0, 3)
  const [sum, total, hit] = await read('getAggPkG1', [1n, 0n, bitmapOf(three.map(s => s.address))])
  t.same([...sum], pair(bls.sumG1(three.map(s => s.pkG1))))
  t.same([total, hit], [3072n, 2304n])
  const none = await read('getAggPkG1', [1n, 0n, new Uint8Array(384)])
  t.same([[...none[0]], none[1], none[2]], [[0n, 0n], 3072n, 0n])

  // Only the first place of a signer marked: the later ones count, since its key is in.
  const first = new Uint8Array(384)
  const place = quorum.indexOf(three[1]!.address)
  first[place >> 3]! |= 1 << (place & 7)
  const one = await read('getAggPkG1', [1n, 0n, first])
  t.same([[...one[0]], one[2]], [pair(three[1]!.pkG1), 768n])
  // Its last place alone: what stood before does not count.
  const last = new Uint8Array(384)
  const end = quorum.lastIndexOf(three[1]!.address)
  last[end >> 3]! |= 1 << (end & 7)
  t.equal((await read('getAggPkG1', [1n, 0n, last]))[2], 1n)

  const all = bitmapOf(GENESIS.map(s => s.address))
  for (const size of [0, 383, 385, 446]) {
    await t.rejects(read('getAggPkG1', [1n, 0n, new Uint8Array(size).fill(255)]), /bitmap|bytes/, `${size} bytes`)
  }
  for (const [epoch, id] of [
    [0n, 0n],
    [2n, 0n],
    [1n, 1n],
    [2n ** 64n, 0n],
    [1n, 2n ** 255n]
  ]) {
    await t.rejects(read('getAggPkG1', [epoch, id, all]), /epoch|quorum/, `${epoch} ${id}`)
  }
})

t.test('gas is fixed by selector; errors take all of it, views are fine statically, changes are not', async t => {
  const { chain, send, enrol } = await begin()
  const gasOf = async (name: string, args: unknown[] = []) => {
    const data = abi.encodeFunctionData(name, args)
    let intrinsic = 21_000n
    for (const byte of fromHex(data)) intrinsic += byte === 0 ? 4n : 16n
    return (await chain.call({ to: AT.daSigners, data })).gas - intrinsic
  }
  t.equal(await gasOf('params'), 1_000n)
  t.equal(await gasOf('epochNumber'), 1_000n)
  t.equal(await gasOf('quorumCount', [1n]), 1_000n)
  t.equal(await gasOf('isSigner', [nobody]), 10_000n)
  t.equal(await gasOf('getSigner', [[]]), 100_000n)
  t.equal(await gasOf('getQuorum', [1n, 0n]), 100_000n)
  t.equal(await gasOf('getQuorumRow', [1n, 0n, 0]), 10_000n)
  t.equal(await gasOf('registeredEpoch', [nobody, 1n]), 10_000n)
  t.equal(await gasOf('getAggPkG1', [1n, 0n, new Uint8Array(384)]), 1_000_000n)
  t.equal(await gasOf('makeEpoch'), 100_000n)

  for (const data of ['0x', '0xcff0ab', '0x12345678', `0x5ecba503${'00'.repeat(31)}`]) {
    const failed = await chain.send({ to: AT.daSigners, data, gas: 200_000n })
    t.notOk(failed.ok, data)
    t.equal(failed.gas, 200_000n, 'nothing comes back')
  }
  const poor = await send('makeEpoch', [], { gas: 21_064n + 99_999n })
  t.match(poor, { ok: false, error: 'out of gas' })

  // Forwards its input by the opcode, and reverts when that fails: 36 bytes would be a selector and a word.
  const forwarder = (op: 'call' | 'staticcall' | 'delegatecall' | 'callcode'): Hex => {
    const tail = { call: 'f1', staticcall: 'fa', delegatecall: 'f4', callcode: 'f2' }[op]
    const value = op === 'call' || op === 'callcode' ? '6000' : ''
    return `0x36600060003760006000366000${value}6110005a${tail}3d600060003e601c573d6000fd5b3d6000f3`
  }
  const at = `0x${'77'.repeat(20)}`
  const through = async (
    op: 'call' | 'staticcall' | 'delegatecall' | 'callcode',
    name: string,
    args: unknown[] = []
  ) => {
    const code = forwarder(op)
    // The jump's target depends on the length before it.
    const target = (code.indexOf('5b3d6000f3') - 2) / 2
    await chain.setCode(at, code.replace('601c57', `60${target.toString(16).padStart(2, '0')}57`) as Hex)
    return chain.call({ to: at, data: abi.encodeFunctionData(name, args) })
  }
  t.ok((await through('staticcall', 'getQuorum', [1n, 0n])).ok)
  t.ok((await through('call', 'makeEpoch')).ok)
  t.match(await through('staticcall', 'makeEpoch'), { ok: false, error: /write protection/ })
  t.match(await through('staticcall', 'updateSocket', ['x']), { ok: false, error: /write protection/ })
  for (const op of ['delegatecall', 'callcode'] as const) {
    t.match(await through(op, 'epochNumber'), { ok: false, error: /directly/ }, op)
  }
  // By a contract, even one that the signer calls.
  const s = newcomer(3)
  t.ok((await enrol(s)).ok)
  t.match(await through('call', 'updateSocket', ['x']), { ok: false, error: /origin/ })
})

t.test('registration: by the registry alone, for oneself, with proof of possession', async t => {
  const { chain, registry, send, read, enrol } = await begin()
  const s = newcomer(1)
  const direct = await send('registerSigner', [detail(s), pair(registrationOf(s))], { from: s.address })
  t.match(direct, { ok: false, error: /DA registry/ })
  const foreign = await registry.send('registerSigner', [detail(s), pair(registrationOf(s))], { from: account(2) })
  t.match(foreign, { ok: false, error: 'ErrSenderNotSigner()' })

  const other = newcomer(2)
  const { x, y } = s.pkG1
  const refusals: [string, Partial<Newcomer>, bls.G1 | undefined, RegExp][] = [
    ['no proof', {}, bls.signBls(s.secretKey, new Uint8Array(32)), /signature/],
    ["somebody else's signature", {}, registrationOf(other), /signature/],
    [
      "somebody else's registration",
      {},
      bls.signBls(s.secretKey, bls.registrationDigest(fromHex(other.address), CHAIN_ID)),
      /signature/
    ],
    ['of another chain', {}, bls.signBls(s.secretKey, bls.registrationDigest(fromHex(s.address), 1n)), /signature/],
    ['rogue G1', { pkG1: bls.sumG1([other.pkG1, { x, y: bls.BN254_P - y }]) }, undefined, /signature/],
    ["another's G2", { pkG2: other.pkG2 }, undefined, /signature/],
    ['infinity in G1', { pkG1: bls.G1_INFINITY }, undefined, /public key/],
    ['infinity in G2', { pkG2: { x: [0n, 0n], y: [0n, 0n] } }, undefined, /public key/],
    [
      'infinity everywhere',
      { pkG1: bls.G1_INFINITY, pkG2: { x: [0n, 0n], y: [0n, 0n] } },
      bls.G1_INFINITY,
      /public key/
    ],
    ['off the curve', { pkG1: { x, y: y + 1n } }, undefined, /public key/],
    ['outside the subgroup', { pkG2: strayG2() }, undefined, /public key/],
    [
      'G2 in the other order',
      { pkG2: { x: [s.pkG2.x[1], s.pkG2.x[0]], y: [s.pkG2.y[1], s.pkG2.y[0]] } },
      undefined,
      /public key/
    ],
    ['a long socket', { socket: 'x'.repeat(97) }, undefined, /96/]
  ]
  for (const [what, change, signature, error] of refusals) {
    const outcome = await enrol(s, change, signature)
    t.match(outcome, { ok: false, error }, what)
    t.match(outcome.error, /^registerSigner call failed: /)
  }
  t.equal((await read('isSigner', [s.address]))[0], false, 'failures left nothing')

  const done = await enrol(s, { socket: 'x'.repeat(96) })
  t.ok(done.ok, done.error)
  t.same(
    done.logs.map(l => [l.address, abi.parseLog(l)!.name]),
    [
      [AT.daSigners, 'NewSigner'],
      [AT.daSigners, 'SocketUpdated']
    ]
  )
  t.equal(abi.parseLog(done.logs[0]!)!.args.signer.toLowerCase(), s.address)
  t.equal((await read('isSigner', [s.address]))[0], true)
  t.match(await enrol(s), { ok: false, error: /already exists/ })

  t.match(await send('updateSocket', ['a:1'], { from: nobody }), { ok: false, error: /not found/ })
  const moved = await send('updateSocket', ['a:1'], { from: s.address })
  t.ok(moved.ok)
  t.equal(abi.parseLog(moved.logs[0]!)!.args.socket, 'a:1')
  t.equal((await read('getSigner', [[s.address]]))[0][0].socket, 'a:1', 'a shorter one leaves nothing of the longer')
  t.match(await send('updateSocket', ['x'.repeat(97)], { from: s.address }), { ok: false, error: /96/ })
  t.ok(chain.number > 0)
})

t.test('an epoch: who registers in time is drawn; the change comes at its block and not before', async t => {
  const { chain, send, read, enrol, enter } = await begin()
  const s = newcomer(4)
  t.ok((await enrol(s)).ok)
  t.match(await enter(newcomer(5), 2n), { ok: false, error: /registerNextEpoch call failed: signer not found/ })
  t.match(await enter(s, 1n), { ok: false, error: /signature/ }, 'the current epoch')
  t.match(await enter(s, 3n), { ok: false, error: /signature/ }, 'the one after the next')
  await chain.setBalance(s.address, 29n * 10n ** 18n)
  t.match(await enter(s, 2n), { ok: false, error: 'ErrSenderNotEligibleToVote()' })
  await chain.setBalance(s.address, 90n * 10n ** 18n)
  t.match(await send('registerNextEpoch', [s.address, pair(epochOf(s, 2n)), 5n], { from: s.address }), {
    ok: false,
    error: /DA registry/
  })
  t.ok((await enter(s, 2n)).ok)
  t.match(await enter(s, 2n), { ok: false, error: /already registered/ })
  t.equal((await read('registeredEpoch', [s.address, 2n]))[0], true)

  await chain.skip({ blocks: 17 })
  const g = GENESIS[0]!
  await chain.setBalance(g.address, 10n ** 22n)
  t.equal(chain.number, 18)
  t.ok((await enter(g, 2n)).ok, 'the last block to register in')
  await chain.skip({ blocks: 1 })
  const late = GENESIS[1]!
  await chain.setBalance(late.address, 10n ** 22n)
  t.match(await enter(late, 2n), { ok: false, error: /is over/ })
  t.ok((await send('makeEpoch')).ok)
  t.equal((await read('epochNumber'))[0], 1n, 'one block too early')
  await chain.skip({ blocks: 1 })
  t.ok((await send('makeEpoch')).ok)
  t.equal((await read('epochNumber'))[0], 2n)
  t.ok((await send('makeEpoch')).ok)
  t.equal((await read('epochNumber'))[0], 2n, 'once')
  t.equal((await read('quorumCount', [2n]))[0], 1n)
  const quorum: string[] = [...(await read('getQuorum', [2n, 0n]))[0]]
  // 3 and 333 ballots, repeated to 3,072.
  const mine = quorum.filter(a => a.toLowerCase() === s.address).length
  t.ok(mine >= 27 && mine <= 30, `${mine} places`)
  t.equal(quorum.filter(a => a === g.address).length, 3072 - mine)
  t.equal((await read('getQuorum', [1n, 0n]))[0].length, 3072, 'the old quorum stays')

  await chain.skip({ blocks: 20 })
  t.ok((await send('makeEpoch')).ok)
  t.equal((await read('quorumCount', [3n]))[0], 0n, 'nobody registered')
  await t.rejects(read('getAggPkG1', [3n, 0n, new Uint8Array(384)]), /quorum/)
})

t.test('quorums are cut from sorted ballots; the rest is filled from before it; at most ten', async t => {
  const seed = new Uint8Array(32)
  const candidate = (n: number, votes: bigint) => ({
    address: new Uint8Array(20).fill(n),
    registrationHash: keccak256(Uint8Array.of(n)),
    votes
  })
  // Compared as text: the runner takes minutes over thousands of byte strings.
  const hexOf = (quorum: Uint8Array[]) => quorum.map(toHex).join()
  t.same(drawQuorums([], seed), [])
  t.equal(drawQuorums([candidate(1, 3072n)], seed).length, 1)
  const two = drawQuorums([candidate(1, 2000n), candidate(2, 1073n)], seed)
  t.same(
    two.map(q => q.length),
    [3072, 3072]
  )
  t.ok(hexOf(two[1]!.slice(0, -1)) === hexOf(two[0]!.slice(1)), 'one ballot too many: the last 3,072')
  t.equal(drawQuorums([candidate(1, 40_000n)], seed).length, 10)
  const small = drawQuorums([candidate(1, 2n), candidate(2, 3n)], seed)[0]!
  for (let i = 5; i < 3072; i++) if (toHex(small[i]!) !== toHex(small[i - 5]!)) t.fail(`place ${i} does not repeat`)
  t.ok(
    hexOf(drawQuorums([candidate(1, 2n), candidate(2, 3n)], keccak256(seed))[0]!) !== hexOf(small),
    'the seed matters'
  )
})

/** x = 1 on the twist has a root and is outside the subgroup. */
function strayG2(): bls.G2 {
  const p = bls.BN254_P
  const inv82 = power(82n, p - 2n)
  // y² = 1 + 3 / (9 + i) = 1 + 3 · (9 − i) / 82
  const [a, b] = [(1n + 27n * inv82) % p, (p - ((3n * inv82) % p)) % p]
  const norm = power((a * a + b * b) % p, (p + 1n) / 4n)
  for (const n of [norm, p - norm]) {
    const half = ((a + n) * power(2n, p - 2n)) % p
    const c0 = power(half, (p + 1n) / 4n)
    if ((c0 * c0) % p !== half) continue
    const c1 = (b * power((2n * c0) % p, p - 2n)) % p
    return { x: [1n, 0n], y: [c0, c1] }
  }
  throw new Error('no root')
}

function power(base: bigint, exponent: bigint): bigint {
  let [out, b] = [1n, base % bls.BN254_P]
  for (let e = exponent; e > 0n; e >>= 1n) {
    if ((e & 1n) === 1n) out = (out * b) % bls.BN254_P
    b = (b * b) % bls.BN254_P
  }
  return out
}
