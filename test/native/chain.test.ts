/**
 * Proves that the native chain opens, keeps what it committed and says in words what is wrong: genesis, transfers signed in JavaScript
 * through pool, block and commit, reads at every block, logs by address and topic, calls and estimates, development writes and
 * undoing, snapshots, a block taken as a payload; another network's directory, a second process, a changed byte on the disk; and
 * that environments may end with jobs under way.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { bytesToBig, concat, padLeft } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { signTransaction, type UnsignedTransaction } from '../../lib/clients/sign.ts'
import { decodeRlp, encodeRlp, type RlpItem, rlpBytes, rlpList, rlpNumber } from '../../lib/codec/rlp.ts'
import { SYSTEM_CONTRACTS } from '../../lib/contracts/system-contracts.ts'
import { createAddress } from '../../lib/crypto/address.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { addressOf } from '../../lib/crypto/secp256k1.ts'
import { encodeGenesis, type GenesisInput } from '../../lib/evm/genesis.ts'
import { evmAddon } from '../../lib/evm/native.ts'
import type { NativeChain, NativeOpenOptions } from '../../lib/evm/types.ts'
import { nativePath } from '../../lib/native.ts'

const skip = existsSync(nativePath('evm')) ? false : 'no native build here'
t.setTimeout(240_000)

const GWEI = 10n ** 9n
const ETHER = 10n ** 18n
const KEYS = [1, 2, 3, 4].map(n => padLeft(Uint8Array.of(n), 32))
const USERS = KEYS.map(addressOf)
const NOBODY = fromHex(`0x${'99'.repeat(20)}`)
// Emits a log with topic = calldata word and data = calldata word: PUSH1 0 CALLDATALOAD DUP1 PUSH1 0 MSTORE PUSH1 32 PUSH1 0 LOG1, then stores it in slot 0.
const LOGGER = fromHex('0x60003580600052602060 00a1600035600055'.replaceAll(' ', ''))
const LOGGER_AT = fromHex(`0x${'10'.repeat(20)}`)

const genesis = (chainId = 31337): GenesisInput => ({
  chainId,
  config: {
    ...Object.fromEntries(
      [
        'homestead',
        'eip150',
        'eip155',
        'eip158',
        'byzantium',
        'constantinople',
        'petersburg',
        'istanbul',
        'berlin',
        'london'
      ].map(f => [`${f}Block`, 0])
    ),
    terminalTotalDifficulty: 0n,
    shanghaiTime: 0,
    cancunTime: 0,
    pragueTime: 0
  },
  timestamp: 1000,
  gasLimit: 30_000_000n,
  difficulty: 0n,
  nonce: new Uint8Array(8),
  extraData: new Uint8Array(0),
  prevRandao: new Uint8Array(32),
  beneficiary: new Uint8Array(20),
  baseFeePerGas: GWEI,
  excessBlobGas: 0n,
  blobGasUsed: 0n,
  alloc: [
    ...USERS.map(address => ({ address, balance: 1000n * ETHER, nonce: 0n, code: new Uint8Array(0), storage: [] })),
    { address: LOGGER_AT, balance: 0n, nonce: 1n, code: LOGGER, storage: [] },
    ...Object.values(SYSTEM_CONTRACTS).map(s => ({
      address: fromHex(s.address),
      balance: 0n,
      nonce: 1n,
      code: fromHex(s.code),
      storage: []
    }))
  ]
})

const options = (dir: string, over: Partial<NativeOpenOptions> = {}): NativeOpenOptions => ({
  dir,
  genesis: encodeGenesis(genesis()),
  dev: true,
  archive: true,
  history: 128,
  cacheBytes: 16 << 20,
  blockCacheBytes: 8 << 20,
  writeBufferBytes: 4 << 20,
  poolCount: 10_000,
  poolBytes: 64 << 20,
  queuedPerSender: 64,
  threads: 2,
  sync: true,
  logSegmentBytes: 1 << 20,
  ...over
})

const open = (dir: string, over: Partial<NativeOpenOptions> = {}): Promise<NativeChain> =>
  evmAddon().open(options(dir, over))

const transfer = (from: number, nonce: bigint, over: Partial<UnsignedTransaction> = {}): Uint8Array =>
  signTransaction(
    {
      type: 2,
      chainId: 31337n,
      nonce,
      maxFeePerGas: 10n * GWEI,
      maxPriorityFeePerGas: GWEI,
      gasLimit: 21_000n,
      to: NOBODY,
      value: 1n,
      data: new Uint8Array(0),
      ...over
    },
    KEYS[from]!
  )

const attributes = (timestamp: number): Uint8Array =>
  encodeRlp([timestamp, new Uint8Array(32), USERS[3]!, new Uint8Array(32), [], 30_000_000, new Uint8Array(0), []])

/** Builds on the head and commits. */
const mine = async (chain: NativeChain, timestamp = 1001): Promise<Uint8Array> => {
  const built = await chain.build(attributes(timestamp), 5000)
  await chain.commit(built.hash)
  return built.hash
}

const refusals = (answers: (Uint8Array | string)[]): string[] => answers.filter(a => typeof a === 'string')
const temp = async (test: Tap): Promise<string> => {
  const dir = await mkdtemp(join(tmpdir(), 'zg-chain-'))
  test.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}
type Tap = { teardown(fn: () => unknown): unknown }
const failureOf = (err: unknown): string | undefined => (err as { failure?: string }).failure
const at = (item: RlpItem | undefined, ...path: number[]): RlpItem | undefined =>
  path.reduce<RlpItem | undefined>((x, i) => rlpList(x)[i], item)
const word = (n: bigint): Uint8Array => padLeft(fromHex(`0x${n.toString(16).padStart(64, '0')}`), 32)

t.test('transfers go through pool, block and commit, and stay', { skip }, async t => {
  const dir = await temp(t)
  let chain = await open(dir)
  const genesisHead = chain.head()
  t.equal(genesisHead.number, 0)
  t.same(genesisHead.hash, chain.genesisHash)
  t.same(keccak256(genesisHead.header), genesisHead.hash)
  t.equal(chain.account(USERS[0]!, undefined)!.balance, 1000n * ETHER)
  t.same(chain.code(LOGGER_AT, undefined), LOGGER)
  t.equal(chain.account(NOBODY, undefined), undefined)

  const raw = [transfer(0, 0n), transfer(0, 1n), transfer(1, 0n, { maxPriorityFeePerGas: 2n * GWEI })]
  const answers = await chain.submit([...raw, raw[0]!, transfer(0, 3n), Uint8Array.of(1, 2), transfer(1, 0n)])
  t.same(
    answers.slice(0, 3),
    raw.map(r => keccak256(r))
  )
  t.same(
    answers.slice(3).map(a => (typeof a === 'string' ? a : 'ok')),
    ['already known', 'ok', answers[5], 'replacement transaction underpriced']
  )
  t.match(answers[5], /^rlp|^typed|^transaction/)
  t.same(chain.poolCounts(), { pending: 3, queued: 1, bytes: chain.poolCounts().bytes })
  t.equal(chain.pendingNonce(USERS[0]!), 2n)
  t.ok(chain.hasExecutable())
  t.same(chain.takeAnnounced(), concat(...raw.map(r => keccak256(r))))
  t.same(rlpBytes(at(decodeRlp(chain.pooled(keccak256(raw[0]!))!), 2)), USERS[0])

  const hash = await mine(chain)
  t.equal(chain.head().number, 1)
  t.same(chain.head().hash, hash)
  t.equal(chain.account(NOBODY, undefined)!.balance, 3n)
  t.equal(chain.account(NOBODY, 0), undefined, 'the state of the block before')
  t.equal(chain.account(USERS[0]!, 1)!.nonce, 2n)
  t.same(chain.poolCounts(), { pending: 0, queued: 1, bytes: chain.poolCounts().bytes })
  // The one that pays more comes first.
  t.same(chain.locate(keccak256(raw[2]!)), { number: 1, index: 0 })
  t.same(chain.bySenderAndNonce(USERS[0]!, 1n), keccak256(raw[1]!))
  t.equal(chain.numberOf(hash), 1)
  const record = decodeRlp((await chain.block(1))!)
  t.same(rlpBytes(at(record, 1)), hash)
  t.same(rlpBytes(at(record, 2)), concat(USERS[1]!, USERS[0]!, USERS[0]!))
  t.equal(rlpNumber(at(record, 3, 2, 2)), 63_000n)
  t.equal(rlpBytes(at(record, 3, 0, 5)).length, 256, 'the bloom is written out')
  t.equal(await chain.block(2), undefined)
  await chain.close()
  t.throws(() => chain.head(), { failure: 'stopped' })

  chain = await open(dir)
  t.same(chain.head().hash, hash)
  t.same(chain.poolCounts().queued, 1, 'what waited is still there')
  t.same(decodeRlp((await chain.block(1))!), record)
  t.same(refusals(await chain.submit([transfer(0, 2n)])), [])
  t.equal(chain.pendingNonce(USERS[0]!), 4n)
  await mine(chain)
  t.equal(chain.account(USERS[0]!, undefined)!.nonce, 4n)
  await chain.close()
})

t.test('logs come from the index, in order, and not beyond the limit', { skip }, async t => {
  const chain = await open(await temp(t))
  for (let n = 0n; n < 6n; n++) {
    const data = word(n % 2n)
    t.same(refusals(await chain.submit([transfer(0, n, { to: LOGGER_AT, data, gasLimit: 100_000n, value: 0n })])), [])
    await mine(chain, 1001 + Number(n))
    await mine(chain, 1001 + Number(n))
  }
  const query = async (from: number, to: number, addresses: Uint8Array[], topics: Uint8Array[][], limit = 100) =>
    rlpList(decodeRlp(await chain.logs(encodeRlp([from, to, addresses, topics, limit])))).map(l =>
      Number(rlpNumber(at(l, 2)))
    )
  t.same(await query(0, 100, [], []), [1, 3, 5, 7, 9, 11])
  t.same(await query(0, 100, [LOGGER_AT], [[word(1n)]]), [3, 7, 11])
  t.same(await query(4, 9, [LOGGER_AT, NOBODY], [[word(1n), word(0n)]]), [5, 7, 9])
  t.same(await query(0, 100, [NOBODY], []), [])
  t.same(await query(0, 100, [], [[], [word(1n)]]), [])
  await t.rejects(query(0, 100, [], [], 4), { failure: 'rejected', lastBlock: 8 })
  t.same(chain.storage(LOGGER_AT, new Uint8Array(32), undefined), word(1n))
  t.same(chain.storage(LOGGER_AT, new Uint8Array(32), 2), word(0n))
  const proof = decodeRlp(await chain.proof(LOGGER_AT, [new Uint8Array(32)], undefined))
  t.equal(rlpNumber(at(proof, 5, 0, 1)), 1n)
  const root = rlpBytes(at(decodeRlp(chain.head().header), 3))
  t.same(keccak256(rlpBytes(at(proof, 4, 0))), root, 'a proof begins at the root of the header')
  await chain.close()
})

t.test('calls and estimates run on any state, with accounts and block otherwise when asked', { skip }, async t => {
  const chain = await open(await temp(t))
  const call = (to: Uint8Array, data: Uint8Array, gas = 1_000_000n, value = 0n) =>
    encodeRlp([USERS[0]!, to, gas, 0, value, data, [], [], 0, 0, []])
  const logged = await chain.call(call(LOGGER_AT, word(7n)), undefined, false, {})
  t.equal(logged.error, undefined)
  t.same(rlpBytes(at(decodeRlp(logged.logs), 0, 1, 0)), word(7n))
  t.same(chain.callSync(call(LOGGER_AT, word(7n)), undefined, false, 300_000), logged, 'the same at once')
  t.equal(chain.callSync(call(LOGGER_AT, word(7n)), undefined, false, 40_000), undefined, 'not with too small a budget')
  // JUMPDEST PUSH1 0 JUMP
  const endless = encodeRlp([[NOBODY, [], [], [fromHex('0x5b600056')], 0, [], new Uint8Array(0)]])
  const stopped = await chain.call(call(NOBODY, new Uint8Array(0), 1n << 60n), undefined, false, {
    overrides: endless,
    timeoutMs: 50
  })
  t.equal(stopped.kind, 'stopped')
  const burnt = await chain.call(call(NOBODY, new Uint8Array(0)), undefined, false, { overrides: endless })
  t.equal(burnt.kind, 'out of gas')
  t.equal(burnt.error, 'out of gas')
  // NUMBER PUSH1 0 MSTORE PUSH1 32 PUSH1 0 RETURN
  const number = encodeRlp([[NOBODY, [], [], [fromHex('0x4360005260206000f3')], 0, [], new Uint8Array(0)]])
  t.equal(
    bytesToBig((await chain.call(call(NOBODY, new Uint8Array(0)), undefined, true, { overrides: number })).output),
    1n
  )
  const env = encodeRlp([77, 5000, 30_000_000, NOBODY, new Uint8Array(32), 0, 1])
  t.equal(
    bytesToBig((await chain.call(call(NOBODY, new Uint8Array(0)), 0, false, { overrides: number, env })).output),
    77n
  )
  const listed = await chain.call(call(LOGGER_AT, word(7n)), undefined, false, { accessList: true })
  t.same(decodeRlp(listed.accessList!), [[LOGGER_AT, [new Uint8Array(32)]]])
  const gasCap = 50_000_000n
  t.equal((await chain.estimateGas(call(NOBODY, new Uint8Array(0)), undefined, true, { gasCap })).gasUsed, 21_000n)
  const estimate = await chain.estimateGas(call(LOGGER_AT, word(7n), 0n), undefined, true, { gasCap })
  t.ok(estimate.gasUsed >= logged.gasUsed && estimate.gasUsed < (logged.gasUsed * 103n) / 100n, `${estimate.gasUsed}`)
  const short = await chain.estimateGas(call(LOGGER_AT, word(7n), 30_000n), undefined, true, { gasCap })
  t.equal(short.error, 'gas required exceeds allowance (30000)')
  await t.rejects(chain.call(call(NOBODY, new Uint8Array(0)), 5, false, {}), { failure: 'not found' })
  t.throws(() => chain.account(NOBODY.subarray(1), undefined), TypeError)
  t.throws(() => chain.head.call({} as NativeChain), TypeError)
  await chain.close()
})

t.test('development: impersonated senders, writes without a block, and back', { skip }, async t => {
  const dir = await temp(t)
  let chain = await open(dir)
  const { version } = chain.head()
  await mine(chain)
  const before = chain.head()
  await chain.writeState(encodeRlp([[NOBODY, [5], [ETHER], [Uint8Array.of(0)], [[word(1n), word(2n)]]]]))
  t.equal(chain.head().number, 1)
  t.equal(chain.head().version, before.version + 1)
  t.same(chain.account(NOBODY, undefined), { nonce: 5n, balance: ETHER, codeHash: keccak256(Uint8Array.of(0)) })
  t.same(chain.storage(NOBODY, word(1n), 1), word(2n), 'a write belongs to the block below it')
  t.equal(chain.account(NOBODY, 0), undefined)
  const sent = await chain.submitUnsigned(
    encodeRlp([2, USERS[2]!, 0, 21_000, NOBODY, 9, new Uint8Array(0), 10n * GWEI, GWEI, [], []])
  )
  t.type(sent, Uint8Array)
  const gone = await mine(chain)
  t.equal(chain.account(NOBODY, undefined)!.balance, ETHER + 9n)
  await chain.close()
  chain = await open(dir)
  t.equal(chain.account(NOBODY, undefined)!.balance, ETHER + 9n)
  const records = await chain.revertTo(1, before.version)
  t.same(
    records.map(r => rlpBytes(at(decodeRlp(r), 1))),
    [gone]
  )
  t.equal(chain.account(NOBODY, undefined), undefined)
  t.same(chain.head().hash, before.hash)
  t.equal(chain.locate(sent as Uint8Array), undefined)
  t.equal(chain.numberOf(gone), undefined)
  t.equal((await chain.revertTo(0, version)).length, 1)
  t.same(refusals(await chain.submit([transfer(0, 0n)])), [])
  await mine(chain)
  t.equal(chain.account(NOBODY, undefined)!.balance, 1n)
  await t.rejects(chain.revertTo(9, 9), { failure: 'not found' })
  await chain.close()
  chain = await open(dir)
  t.equal(chain.account(NOBODY, undefined)!.balance, 1n)
  await chain.close()
})

t.test('a block made elsewhere is taken when it is right, and a state goes on from a snapshot', { skip }, async t => {
  const [a, b, c] = [await temp(t), await temp(t), await temp(t)]
  const maker = await open(a)
  const taker = await open(b)
  await maker.submit([transfer(0, 0n), transfer(1, 0n, { to: LOGGER_AT, data: word(3n), gasLimit: 100_000n })])
  const built = await maker.build(attributes(1001), 5000)
  t.equal(built.transactions, 2)
  const block = rlpBytes(at(decodeRlp(maker.payload(built.hash)!), 0))
  t.same(await taker.newPayload(block), built.hash)
  t.same(await taker.newPayload(block), built.hash, 'again')
  t.same(taker.payload(built.hash), maker.payload(built.hash))
  t.same(decodeRlp(taker.payloadRequests(built.hash)!), [])
  const wrong = block.slice()
  // The last byte of the parent's hash.
  wrong[block.findIndex((_, i) => block.subarray(i, i + 32).every((x, k) => x === maker.genesisHash[k])) + 31]! ^= 1
  await t.rejects(taker.newPayload(wrong), { failure: 'not found' })
  await t.rejects(taker.newPayload(block.subarray(1)), { failure: 'rejected' })
  await t.rejects(taker.commit(keccak256(block)), { failure: 'not found' })
  t.same((await taker.commit(built.hash)).hash, built.hash)
  await maker.commit(built.hash)

  const file = join(c, 'state.snapshot')
  await maker.saveSnapshot(file)
  await t.rejects(maker.saveSnapshot(file), /already/)
  const dir = join(c, 'chain')
  await evmAddon().loadSnapshot(file, options(dir))
  const loaded = await open(dir)
  t.same(loaded.head().hash, built.hash)
  t.same(loaded.storage(LOGGER_AT, new Uint8Array(32), undefined), word(3n))
  t.same(await loaded.block(1), await maker.block(1))
  await loaded.submit([transfer(0, 1n)])
  await mine(loaded)
  t.equal(loaded.account(NOBODY, undefined)!.balance, 2n)
  const damaged = readFileSync(file)
  damaged[damaged.length >> 1]! ^= 1
  writeFileSync(`${file}.bad`, damaged)
  await t.rejects(evmAddon().loadSnapshot(`${file}.bad`, options(join(c, 'bad'))), { failure: 'corrupt' })
  await Promise.all([maker, taker, loaded].map(x => x.close()))
})

t.test('another network, a second process and a changed byte are said in words', { skip }, async t => {
  const dir = await temp(t)
  const chain = await open(dir)
  for (let n = 0n; n < 4n; n++) {
    await chain.submit([transfer(0, n)])
    await mine(chain)
  }
  await t.rejects(open(dir), { failure: 'locked' }, 'nor twice in one process')
  const script = `
    const options = JSON.parse(process.argv[2])
    require(process.argv[1]).open({ ...options, genesis: Buffer.from(options.genesis, 'hex') })
      .then(() => console.log('opened'), err => console.log(err.failure))`
  const json = JSON.stringify({ ...options(dir), genesis: toHex(options(dir).genesis).slice(2) })
  const second = spawnSync(process.execPath, ['-e', script, nativePath('evm'), json], { encoding: 'utf8' })
  t.equal(second.stdout.trim(), 'locked', second.stderr)
  await chain.close()

  const other = await open(dir, { genesis: encodeGenesis(genesis(31338)) }).catch((err: Error) => err)
  t.equal(failureOf(other), 'wrong network')
  t.match((other as Error).message, /belongs to chain 31337/)
  t.throws(() => evmAddon().open({ ...options(dir), genesis: Uint8Array.of(1) }), TypeError)

  const log = join(dir, 'blocks', '000001.log')
  const good = readFileSync(log)
  const flipped = Buffer.from(good)
  // In the record of an old block: found when it is read, and nothing goes on then.
  flipped[good.length >> 1]! ^= 1
  writeFileSync(log, flipped)
  const damaged = await open(dir)
  const results = await Promise.allSettled([0, 1, 2, 3, 4].map(n => damaged.block(n)))
  const failed = results.filter(r => r.status === 'rejected')
  t.ok(failed.length > 0 && failed.every(r => failureOf(r.reason) === 'corrupt'))
  await t.rejects(mine(damaged), { failure: 'corrupt' })
  await damaged.close()
  // In the last block: found at once.
  const last = Buffer.from(good)
  last[good.length - 5]! ^= 1
  writeFileSync(log, last)
  await t.rejects(open(dir), { failure: 'corrupt' })
  // Cut short.
  writeFileSync(log, good.subarray(0, good.length - 5))
  await t.rejects(open(dir), { failure: 'corrupt' })
  // What a crash left behind the head is passed over.
  writeFileSync(log, Buffer.concat([good, Buffer.from('half a record')]))
  const healed = await open(dir)
  await healed.submit([transfer(0, 4n)])
  await mine(healed)
  await healed.close()
  const again = await open(dir)
  t.equal(again.head().number, 5)
  t.equal(rlpList(at(decodeRlp((await again.block(5))!), 3)).length, 1)
  await again.close()
})

t.test('killed while it works, it comes back with every block that it told of', { skip }, async t => {
  const dir = await temp(t)
  const script = `
    const options = JSON.parse(process.argv[2])
    const attributes = () => Buffer.from(process.argv[3], 'hex')
    ;(async () => {
      const chain = await require(process.argv[1]).open({ ...options, genesis: Buffer.from(options.genesis, 'hex') })
      for (;;) {
        const head = await chain.commit((await chain.build(attributes(), 1000)).hash)
        process.stdout.write(head.number + ' ' + Buffer.from(head.hash).toString('hex') + '\\n')
      }
    })()`
  const json = JSON.stringify({ ...options(dir), genesis: toHex(options(dir).genesis).slice(2) })
  const child = spawn(process.execPath, ['-e', script, nativePath('evm'), json, toHex(attributes(1001)).slice(2)])
  let told = ''
  await new Promise<void>(resolve => {
    child.stdout.on('data', (d: Buffer) => {
      told += d.toString()
      if (told.split('\n').length > 20) child.kill('SIGKILL')
    })
    child.on('close', () => resolve())
  })
  const [number, hash] = told
    .trimEnd()
    .split('\n')
    .filter(l => /^\d+ [0-9a-f]{64}$/.test(l))
    .at(-1)!
    .split(' ')
  const chain = await open(dir)
  t.ok(chain.head().number >= Number(number))
  t.equal(chain.numberOf(fromHex(`0x${hash}`)), Number(number))
  await mine(chain)
  await chain.close()
})

t.test('environments end with jobs under way and nothing falls', { skip }, async t => {
  const dir = await temp(t)
  // Endless calls, submissions and blocks in flight when the worker goes.
  const script = `
    const { workerData, parentPort } = require('node:worker_threads')
    const addon = require(workerData.addon)
    addon.open(workerData.options).then(chain => {
      for (let i = 0; i < 20; i++) {
        chain.call(workerData.call, undefined, false, { overrides: workerData.endless, timeoutMs: 2000 }).catch(() => {})
        chain.submit([Uint8Array.of(1, 2, 3)]).catch(() => {})
        chain.build(workerData.attributes, 1000).then(b => chain.commit(b.hash)).catch(() => {})
      }
      parentPort.postMessage('busy')
    })`
  for (let i = 0; i < 6; i++) {
    const worker = new Worker(script, {
      eval: true,
      workerData: {
        addon: nativePath('evm'),
        options: options(join(dir, `${i}`), { sync: false }),
        call: encodeRlp([USERS[0]!, NOBODY, 1n << 60n, 0, 0, new Uint8Array(0), [], [], 0, 0, []]),
        endless: encodeRlp([[NOBODY, [], [], [fromHex('0x5b600056')], 0, [], new Uint8Array(0)]]),
        attributes: attributes(1001)
      }
    })
    await new Promise<void>((resolve, reject) => {
      worker.once('message', () => resolve())
      worker.once('error', reject)
    })
    await worker.terminate()
  }
  t.pass('six of them')
  const chain = await open(join(dir, '0'))
  t.ok(chain.head().number >= 0)
  await chain.close()
})

// createAddress is the JavaScript half of a rule that both sides have.
t.test('a creation in a block lands where JavaScript says', { skip }, async t => {
  const chain = await open(await temp(t))
  const code = fromHex('0x600160005360016000f3')
  t.same(refusals(await chain.submit([transfer(0, 0n, { to: null, data: code, gasLimit: 100_000n, value: 0n })])), [])
  await mine(chain)
  t.same(chain.code(createAddress(USERS[0]!, 0n), undefined), Uint8Array.of(1))
  await chain.close()
})
