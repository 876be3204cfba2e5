/**
 * Proves the Engine API without an engine: tokens, payloads both ways against 54 recorded blocks that cross every fork (their hashes are
 * other clients'), each method's versions and error codes, repeated and invalid payloads, fork choices, and the shape of answers as the
 * public execution-apis describe them. The backend here replays the recorded blocks; a real engine drives a real node in
 * test/cli/zg-chain-tools.test.ts.
 */
import { execFileSync } from 'node:child_process'
import { createHmac, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { EngineClient } from '../../cmd/zg-chain/engine/client.ts'
import { type ConsensusState, runConsensus } from '../../cmd/zg-chain/engine/consensus.ts'
import { jwtAccepts, jwtSecret, jwtToken } from '../../cmd/zg-chain/engine/jwt.ts'
import { ENGINE, type EngineBackend, engineMethods, MAX_BODIES } from '../../cmd/zg-chain/engine/methods.ts'
import { blockOfPayload, type Fork, payloadOfBlock, requestsHash } from '../../cmd/zg-chain/engine/payload.ts'
import { systemClock } from '../../lib/adapters/clock.ts'
import { serveRpc } from '../../lib/adapters/jsonrpc/server.ts'
import { JsonText, RpcError, type RpcMethods } from '../../lib/adapters/jsonrpc/types.ts'
import { systemRandom } from '../../lib/adapters/random.ts'
import { equalBytes } from '../../lib/base/bytes.ts'
import { type Hex, toHex, toQuantity } from '../../lib/base/hex.ts'
import {
  decodeRlp,
  decodeRlpSequence,
  encodeRlp,
  type RlpItem,
  rlpBytes,
  rlpList,
  rlpNumber
} from '../../lib/codec/rlp.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { silentLog } from '../../lib/ops/log.ts'
import { packageRoot } from '../harness/tools.ts'

const dir = mkdtempSync(join(tmpdir(), 'zg-engine-'))
t.teardown(() => rmSync(dir, { recursive: true, force: true }))

t.test('the secret is made once, private, and read back; other files are refused', async t => {
  const path = join(dir, 'jwt.hex')
  await t.rejects(jwtSecret(path, false), { code: 'ERR_NO_INPUT' })
  const secret = await jwtSecret(path, true)
  t.equal(secret.length, 32)
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.same(await jwtSecret(path, true), secret)
  writeFileSync(path, `${Buffer.from(secret).toString('hex')}\n`, { mode: 0o600 })
  t.same(await jwtSecret(path, false), secret, 'without 0x, as others write it')
  writeFileSync(join(dir, 'open.hex'), '00'.repeat(32), { mode: 0o644 })
  await t.rejects(jwtSecret(join(dir, 'open.hex'), true), { code: 'ERR_PERMISSION' })
  writeFileSync(join(dir, 'short.hex'), '00', { mode: 0o600 })
  await t.rejects(jwtSecret(join(dir, 'short.hex'), true), { code: 'ERR_BAD_INPUT' })
})

t.test('a token is HS256, of this secret, and at most 60 s from now', async t => {
  const secret = new Uint8Array(randomBytes(32))
  const now = 1_800_000_000_000
  const make = (header: object, claims: object, key: Uint8Array = secret): string => {
    const body = [header, claims].map(p => Buffer.from(JSON.stringify(p)).toString('base64url')).join('.')
    return `Bearer ${body}.${createHmac('sha256', key).update(body).digest('base64url')}`
  }
  const iat = now / 1000
  const hs256 = { alg: 'HS256', typ: 'JWT' }
  t.ok(jwtAccepts(`Bearer ${jwtToken(secret, now)}`, secret, now))
  t.ok(jwtAccepts(make(hs256, { iat, id: 'cl' }), secret, now), 'more claims are fine')
  for (const drift of [-60, 60]) t.ok(jwtAccepts(make(hs256, { iat: iat + drift }), secret, now), `${drift} s`)
  for (const [why, header] of [
    ['none', undefined],
    ['not bearer', `Basic ${jwtToken(secret, now)}`],
    ['too old', make(hs256, { iat: iat - 61 })],
    ['from the future', make(hs256, { iat: iat + 61 })],
    ['no time', make(hs256, {})],
    ['expired', make(hs256, { iat, exp: iat - 1 })],
    ['another algorithm', make({ alg: 'HS512' }, { iat })],
    ['no algorithm', make({ alg: 'none' }, { iat })],
    ['another secret', make(hs256, { iat }, randomBytes(32))],
    ['a cut signature', make(hs256, { iat }).slice(0, -2)],
    ['not JSON', `Bearer ${Buffer.from('x').toString('base64url')}.e30.AAAA`],
    ['long', `Bearer ${'A'.repeat(5000)}.A.A`]
  ] as const)
    t.notOk(jwtAccepts(header, secret, now), why)
})

t.test('requests hash to what EIP-7685 says', async t => {
  t.equal(toHex(requestsHash([])), '0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'none')
  t.same(requestsHash([Uint8Array.of(0)]), requestsHash([]), 'one without data does not count')
})

interface Recorded {
  raw: Uint8Array
  hash: Uint8Array
  parent: Uint8Array
  header: Uint8Array
  number: number
  timestamp: number
}

/** Blocks of the fixtures' chain; undefined where they are not. */
function recorded(): Recorded[] | undefined {
  const archive = ['../shared', '../../shared']
    .map(p => join(packageRoot, p, 'fixtures/evm/evm-fixtures.tar.xz'))
    .find(existsSync)
  const file = join(packageRoot, 'build/fixtures/rpc-compat/chain.rlp')
  if (!existsSync(file)) {
    if (archive === undefined) return undefined
    const target = join(packageRoot, 'build/fixtures')
    mkdirSync(target, { recursive: true })
    execFileSync('tar', ['-xJf', archive, '-C', target, 'rpc-compat'])
  }
  const bytes = new Uint8Array(readFileSync(file))
  return decodeRlpSequence(bytes).map((item): Recorded => {
    const block = rlpList(item)
    const header = encodeRlp(block[0] as RlpItem)
    const h = rlpList(block[0])
    return {
      raw: encodeRlp(block),
      hash: keccak256(header),
      parent: rlpBytes(h[0]),
      header,
      number: Number(rlpNumber(h[8])),
      timestamp: Number(rlpNumber(h[11]))
    }
  })
}

/** The fork times of the recorded chain (forkenv.json). */
const forkAt = (time: number): Fork =>
  time >= 480 ? 'osaka' : time >= 450 ? 'prague' : time >= 420 ? 'cancun' : time >= 390 ? 'shanghai' : 'paris'

const blocks = recorded()
const skip = blocks === undefined ? { skip: 'the EVM fixtures are not here' } : {}
const posBlocks = (blocks ?? []).filter(b => b.number >= 37)

/** Requests of a block that has none of its own: their hash must be the header's, or the block is left out. */
const noRequests = (b: Recorded): boolean => {
  const h = rlpList(decodeRlp(b.header))
  return h.length < 21 || equalBytes(rlpBytes(h[20]), requestsHash([]))
}

const contextOf = (b: Recorded): { fork: Fork; parentBeaconBlockRoot?: Uint8Array; requests?: Uint8Array[] } => {
  const h = rlpList(decodeRlp(b.header))
  return {
    fork: forkAt(b.timestamp),
    ...(h.length > 19 ? { parentBeaconBlockRoot: rlpBytes(h[19]) } : {}),
    requests: []
  }
}

t.test('recorded blocks of every fork become payloads and the same blocks again', skip, async t => {
  t.ok(posBlocks.length >= 15, `${posBlocks.length} blocks`)
  const forks = new Set<Fork>()
  for (const b of posBlocks.filter(noRequests)) {
    const payload = payloadOfBlock(b.raw, b.hash)
    const again = blockOfPayload(JSON.parse(JSON.stringify(payload)), contextOf(b))
    if (!equalBytes(again.hash, b.hash) || !equalBytes(again.raw, b.raw)) t.fail(`block ${b.number}`)
    t.same(again.claimed, b.hash)
    forks.add(forkAt(b.timestamp))
    t.equal('withdrawals' in payload, forkAt(b.timestamp) !== 'paris', 'fields of its fork only')
  }
  t.same([...forks].sort(), ['cancun', 'osaka', 'paris', 'prague', 'shanghai'])
})

t.test('a payload is read strictly: each field, its size, its form', skip, async t => {
  const b = posBlocks.filter(noRequests).at(-1)!
  const good = payloadOfBlock(b.raw, b.hash) as unknown as Record<string, unknown>
  const read = (change: Record<string, unknown>): unknown => blockOfPayload({ ...good, ...change }, contextOf(b))
  t.ok(read({ extra: 1 }), 'unknown fields are no matter')
  for (const name of Object.keys(good)) {
    t.throws(() => read({ [name]: undefined }), { code: -32602 }, `without ${name}`)
    t.throws(() => read({ [name]: 5 }), { code: -32602 }, `${name} a number`)
    t.throws(() => read({ [name]: '0xzz' }), { code: -32602 }, `${name} not hex`)
  }
  for (const change of [
    { blockNumber: '0x00' },
    { gasLimit: `0x1${'0'.repeat(16)}` },
    { extraData: `0x${'00'.repeat(33)}` },
    { logsBloom: '0x00' },
    { transactions: ['0x'] },
    { transactions: ['0xc0ff'] },
    { transactions: ['0x80'] },
    { withdrawals: [{}] },
    { withdrawals: null }
  ])
    t.throws(() => read(change), { code: -32602 }, JSON.stringify(change).slice(0, 60))
  t.throws(() => blockOfPayload(null, contextOf(b)), { code: -32602 })
})

/** Replays recorded blocks: knows which follow, refuses what it is told to. */
class Replay implements EngineBackend {
  #known = new Map<string, Recorded>()
  #canonical: Recorded[] = []
  executed = 0
  refuse = new Map<string, string>()
  next: Recorded | undefined
  constructor(first: Recorded) {
    this.#canonical.push(first)
  }
  head(): ReturnType<EngineBackend['head']> {
    const b = this.#canonical.at(-1)!
    return { number: b.number, hash: b.hash, header: b.header, version: b.number }
  }
  numberOf(hash: Uint8Array): number | undefined {
    return this.#canonical.find(b => equalBytes(b.hash, hash))?.number
  }
  async block(number: number): Promise<Uint8Array | undefined> {
    const b = this.#canonical.find(c => c.number === number)
    return b === undefined ? undefined : this.#record(b)
  }
  #record(b: Recorded): Uint8Array {
    const header = rlpList(rlpList(decodeRlp(b.raw))[0])
    const baseFee = rlpNumber(header[15])
    const transactions = rlpList(rlpList(decodeRlp(b.raw))[1])
    // Each paid two wei above the base fee for 21,000 gas.
    const receipts = transactions.map((_, i) => [
      2,
      1,
      21_000 * (i + 1),
      21_000,
      baseFee + 2n,
      new Uint8Array(256),
      [],
      new Uint8Array(0)
    ])
    return encodeRlp([decodeRlp(b.raw), b.hash, new Uint8Array(20 * transactions.length), receipts])
  }
  async newPayload(raw: Uint8Array): Promise<Uint8Array> {
    this.executed++
    const header = encodeRlp(rlpList(decodeRlp(raw))[0] as RlpItem)
    const hash = keccak256(header)
    const why = this.refuse.get(toHex(hash))
    if (why !== undefined) throw Object.assign(new Error(why), { failure: 'rejected' })
    const h = rlpList(decodeRlp(header))
    const parent = rlpBytes(h[0])
    if (!this.#known.has(toHex(parent)) && this.numberOf(parent) === undefined)
      throw Object.assign(new Error('unknown parent'), { failure: 'not found' })
    this.#known.set(toHex(hash), {
      raw,
      hash,
      parent,
      header,
      number: Number(rlpNumber(h[8])),
      timestamp: Number(rlpNumber(h[11]))
    })
    return hash
  }
  async build(): Promise<{ hash: Uint8Array; transactions: number }> {
    const b = this.next!
    this.#known.set(toHex(b.hash), b)
    return { hash: b.hash, transactions: rlpList(rlpList(decodeRlp(b.raw))[1]).length }
  }
  payload(hash: Uint8Array): Uint8Array | undefined {
    const b = this.#known.get(toHex(hash))
    return b === undefined ? undefined : this.#record(b)
  }
  payloadRequests(): Uint8Array | undefined {
    return encodeRlp([])
  }
  async commit(hash: Uint8Array): Promise<ReturnType<EngineBackend['head']>> {
    const b = this.#known.get(toHex(hash))
    if (b === undefined || !equalBytes(b.parent, this.head().hash))
      throw Object.assign(new Error('not a child of the head'), { failure: 'not found' })
    this.#canonical.push(b)
    return this.head()
  }
}

/** A result as it travels. */
const plain = (value: unknown): unknown => JSON.parse(value instanceof JsonText ? value.text : JSON.stringify(value))

const NONE: Hex = `0x${'00'.repeat(32)}`
const ctx = { transport: 'http', signal: new AbortController().signal, session: new Map(), onClose: () => {} } as const
function caller(methods: RpcMethods): (name: string, ...params: unknown[]) => Promise<any> {
  return async (name, ...params) => plain(await methods[name]!(params, ctx))
}
const state = (head: Uint8Array, final: Uint8Array = head): object => ({
  headBlockHash: toHex(head),
  safeBlockHash: toHex(final),
  finalizedBlockHash: toHex(final)
})
/** newPayload of a recorded block in the version of its fork. */
const payloadCall = (b: Recorded): [string, ...unknown[]] => {
  const fork = forkAt(b.timestamp)
  const payload = payloadOfBlock(b.raw, b.hash)
  const { blobHashes } = blockOfPayload(payload, contextOf(b))
  const root = toHex(contextOf(b).parentBeaconBlockRoot ?? new Uint8Array(32))
  if (fork === 'paris') return ['engine_newPayloadV1', payload]
  if (fork === 'shanghai') return ['engine_newPayloadV2', payload]
  if (fork === 'cancun') return ['engine_newPayloadV3', payload, blobHashes.map(toHex), root]
  return ['engine_newPayloadV4', payload, blobHashes.map(toHex), root, []]
}

t.test('a consensus client brings recorded blocks one by one; repeats cost nothing', skip, async t => {
  const usable: Recorded[] = []
  for (const b of posBlocks) {
    if (!noRequests(b)) break
    usable.push(b)
  }
  const [first, ...rest] = usable
  t.ok(rest.length >= 5, `${rest.length} blocks in a row`)
  const backend = new Replay(first!)
  let moved = 0
  const call = caller(
    engineMethods({ backend, forkAt, gasLimit: () => 100_000_000n, version: '0', onHead: () => void moved++ })
  )
  const orphan = rest[1]!
  t.strictSame(await call(...payloadCall(orphan)), { status: 'SYNCING', latestValidHash: null, validationError: null })
  t.strictSame(await call('engine_forkchoiceUpdatedV1', state(orphan.hash), null), {
    payloadStatus: { status: 'SYNCING', latestValidHash: null, validationError: null },
    payloadId: null
  })
  for (const b of rest) {
    const good = { status: 'VALID', latestValidHash: toHex(b.hash), validationError: null }
    t.strictSame(await call(...payloadCall(b)), good)
    const executed = backend.executed
    t.strictSame(await call(...payloadCall(b)), good, 'again')
    t.equal(backend.executed, executed, 'without executing again')
  }
  // Only the last is named: the others come along.
  const last = rest.at(-1)!
  await t.rejects(call('engine_forkchoiceUpdatedV1', state(last.hash, new Uint8Array(32).fill(7)), null), {
    code: ENGINE.forkChoice
  })
  t.equal(moved, 0, 'a fork choice that is refused moves nothing')
  t.match(await call('engine_forkchoiceUpdatedV1', state(last.hash, first!.hash), null), {
    payloadStatus: { status: 'VALID' },
    payloadId: null
  })
  t.equal(backend.head().number, last.number)
  t.equal(moved, 1)
  t.match(await call('engine_forkchoiceUpdatedV1', state(first!.hash), null), {
    payloadStatus: { status: 'VALID', latestValidHash: toHex(first!.hash) }
  })
  t.equal(backend.head().number, last.number, 'an ancestor moves nothing back')
  t.match(await call(...payloadCall(rest[0]!)), { status: 'VALID' }, 'what is on the chain is valid')

  const bodies = await call('engine_getPayloadBodiesByHashV1', [toHex(rest[0]!.hash), NONE])
  t.equal(bodies.length, 2)
  t.equal(bodies[1], null)
  t.ok(Array.isArray(bodies[0].transactions))
  const range = await call('engine_getPayloadBodiesByRangeV1', toQuantity(first!.number), '0x20')
  t.equal(range.length, usable.length, 'cut at the head')
  t.same(range[1], bodies[0])
  await t.rejects(call('engine_getPayloadBodiesByRangeV1', '0x0', '0x1'), { code: -32602 })
  await t.rejects(call('engine_getPayloadBodiesByRangeV1', '0x1', toQuantity(MAX_BODIES + 1)), {
    code: ENGINE.tooLarge
  })
  await t.rejects(call('engine_getPayloadBodiesByHashV1', Array(MAX_BODIES + 1).fill(NONE)), { code: ENGINE.tooLarge })
})

t.test('invalid payloads are remembered with what follows them', skip, async t => {
  const [first, bad, child] = posBlocks
  const backend = new Replay(first!)
  backend.refuse.set(toHex(bad!.hash), 'invalid gas used')
  const call = caller(engineMethods({ backend, forkAt, gasLimit: () => 1n, version: '0' }))
  const answer = { status: 'INVALID', latestValidHash: toHex(first!.hash), validationError: 'invalid gas used' }
  t.strictSame(await call(...payloadCall(bad!)), answer)
  t.strictSame(await call(...payloadCall(bad!)), answer)
  t.strictSame(await call(...payloadCall(child!)), answer, 'its child with the same last valid block')
  t.equal(backend.executed, 1)
  t.strictSame(await call('engine_forkchoiceUpdatedV1', state(child!.hash), null), {
    payloadStatus: answer,
    payloadId: null
  })
  const [name, payload, ...more] = payloadCall(bad!)
  t.match(await call(name, { ...(payload as object), gasUsed: '0x1' }, ...more), {
    status: name === 'engine_newPayloadV1' ? 'INVALID_BLOCK_HASH' : 'INVALID',
    latestValidHash: null,
    validationError: /blockhash mismatch/
  })
  t.match(await call('engine_forkchoiceUpdatedV1', state(new Uint8Array(32)), null), {
    payloadStatus: { status: 'INVALID' }
  })
})

t.test('versions that do not fit a fork, fields that do not fit a version', skip, async t => {
  const last = (fork: Fork): Recorded => posBlocks.filter(b => forkAt(b.timestamp) === fork && noRequests(b)).at(-1)!
  const call = caller(engineMethods({ backend: new Replay(posBlocks[0]!), forkAt, gasLimit: () => 1n, version: '0' }))
  const cancun = payloadOfBlock(last('cancun').raw, last('cancun').hash)
  const prague = payloadOfBlock(last('prague').raw, last('prague').hash)
  const shanghai = payloadOfBlock(last('shanghai').raw, last('shanghai').hash)
  await t.rejects(call('engine_newPayloadV3', prague, [], NONE), { code: ENGINE.fork })
  await t.rejects(call('engine_newPayloadV4', cancun, [], NONE, []), { code: ENGINE.fork })
  await t.rejects(call('engine_newPayloadV2', cancun), { code: ENGINE.fork })
  await t.rejects(call('engine_newPayloadV1', shanghai), { code: -32602 })
  await t.rejects(call('engine_newPayloadV3', shanghai, [], NONE), { code: -32602 })
  await t.rejects(call('engine_newPayloadV3', cancun, null, NONE), { code: -32602 })
  await t.rejects(call('engine_newPayloadV3', cancun, [], null), { code: -32602 })
  await t.rejects(call('engine_newPayloadV4', prague, [], NONE), { code: -32602 })
  for (const requests of [['0x'], ['0x00'], ['0x01aa', '0x00aa'], ['0x01aa', '0x01bb']])
    await t.rejects(call('engine_newPayloadV4', prague, [], NONE, requests), { code: -32602 }, String(requests))
  const [, payload, hashes, root, requests] = payloadCall(last('osaka'))
  t.match(await call('engine_newPayloadV4', payload, [...(hashes as Hex[]), NONE], root, requests), {
    status: 'INVALID',
    latestValidHash: null
  })
  const head = posBlocks[0]!
  const attributes = {
    timestamp: toQuantity(500),
    prevRandao: NONE,
    suggestedFeeRecipient: `0x${'00'.repeat(20)}`,
    withdrawals: [],
    parentBeaconBlockRoot: NONE
  }
  const fcu = (version: number, change: object): Promise<unknown> =>
    call(`engine_forkchoiceUpdatedV${version}`, state(head.hash), { ...attributes, ...change })
  await t.rejects(fcu(3, { parentBeaconBlockRoot: null }), { code: ENGINE.attributes })
  await t.rejects(fcu(3, { timestamp: '0x1' }), { code: ENGINE.fork })
  await t.rejects(fcu(2, { parentBeaconBlockRoot: undefined }), { code: ENGINE.fork })
  await t.rejects(fcu(2, {}), { code: ENGINE.attributes })
  await t.rejects(
    fcu(1, { timestamp: toQuantity(head.timestamp - 1), parentBeaconBlockRoot: undefined, withdrawals: undefined }),
    { code: ENGINE.attributes }
  )
  await t.rejects(call('engine_forkchoiceUpdatedV3', { headBlockHash: '0x' }, null), { code: -32602 })
})

t.test('building: one id for one wish, one block for one id, versions by fork', skip, async t => {
  const osaka = posBlocks.filter(b => forkAt(b.timestamp) === 'osaka' && noRequests(b))
  const parent = posBlocks.find(b => equalBytes(b.hash, osaka.at(-1)!.parent))!
  const backend = new Replay(parent)
  backend.next = osaka.at(-1)!
  const call = caller(engineMethods({ backend, forkAt, gasLimit: () => 1n, version: '0.1.0' }))
  const attributes = (change: object = {}): object => ({
    timestamp: toQuantity(osaka.at(-1)!.timestamp),
    prevRandao: NONE,
    suggestedFeeRecipient: `0x${'00'.repeat(20)}`,
    withdrawals: [],
    parentBeaconBlockRoot: NONE,
    ...change
  })
  const begun = await call('engine_forkchoiceUpdatedV3', state(parent.hash), attributes())
  t.match(begun.payloadId, /^0x[0-9a-f]{16}$/)
  t.same((await call('engine_forkchoiceUpdatedV3', state(parent.hash), attributes())).payloadId, begun.payloadId)
  t.not(
    (await call('engine_forkchoiceUpdatedV3', state(parent.hash), attributes({ prevRandao: `0x${'01'.repeat(32)}` })))
      .payloadId,
    begun.payloadId
  )
  t.ok(
    (
      await call(
        'engine_forkchoiceUpdatedV3',
        state(parent.hash),
        attributes({ timestamp: toQuantity(Math.max(480, parent.timestamp)) })
      )
    ).payloadId,
    "the parent's second is allowed"
  )
  for (const version of [1, 2, 3, 4])
    await t.rejects(call(`engine_getPayloadV${version}`, begun.payloadId), { code: ENGINE.fork }, `V${version}`)
  const got = await call('engine_getPayloadV5', begun.payloadId)
  t.same(Object.keys(got).sort(), [
    'blobsBundle',
    'blockValue',
    'executionPayload',
    'executionRequests',
    'shouldOverrideBuilder'
  ])
  t.same(got.blobsBundle, { commitments: [], proofs: [], blobs: [] })
  t.equal(got.shouldOverrideBuilder, false)
  t.same(got.executionRequests, [])
  t.equal(
    got.blockValue,
    toQuantity(2n * 21_000n * BigInt(got.executionPayload.transactions.length)),
    'tips of all receipts'
  )
  t.equal(got.executionPayload.blockHash, toHex(osaka.at(-1)!.hash))
  backend.next = undefined
  t.same(await call('engine_getPayloadV5', begun.payloadId), got, 'the same block again, not built again')
  t.match(await call(...payloadCall(osaka.at(-1)!)), { status: 'VALID' })
  t.equal(backend.executed, 0, 'what was built here is not executed again')
  t.match(await call('engine_forkchoiceUpdatedV3', state(osaka.at(-1)!.hash), null), {
    payloadStatus: { status: 'VALID' }
  })
  await t.rejects(call('engine_getPayloadV5', `0x${'ab'.repeat(8)}`), { code: ENGINE.unknownPayload })
  await t.rejects(call('engine_getPayloadV5', '0x'), { code: -32602 })

  const capabilities = await call('engine_exchangeCapabilities', ['engine_newPayloadV4'])
  t.ok(capabilities.includes('engine_getPayloadV5'))
  t.notOk(capabilities.includes('engine_exchangeCapabilities'), 'as the specification says')
  const [client] = await call('engine_getClientVersionV1', {
    code: 'LH',
    name: 'x',
    version: '1',
    commit: '0x00000000'
  })
  t.match(client, { code: /^[A-Z]{2}$/, name: 'zg-chain', version: '0.1.0', commit: /^0x[0-9a-f]{8}$/ })
  t.same(await call('engine_getBlobsV1', [NONE, NONE]), [null, null])
  t.equal(await call('engine_getBlobsV2', [NONE]), null)
  await t.rejects(call('engine_getBlobsV1', Array(129).fill(NONE)), { code: ENGINE.tooLarge })
})

t.test(
  'consensus drives an execution client that speaks as others do, waits while it is away, stops when it calls its block invalid',
  async t => {
    const secret = new Uint8Array(randomBytes(32))
    const zero20 = `0x${'00'.repeat(20)}`
    let height = 0
    let time = Math.floor(Date.now() / 1000)
    let down = false
    let invalid = false
    const asked: string[] = []
    const hashOf = (n: number): Hex => toHex(keccak256(Uint8Array.of(n)))
    const status = (s: string, hash: Hex | null, why: string | null = null): object => ({
      status: s,
      latestValidHash: hash,
      validationError: why
    })
    /** Answers in the recorded shape of geth and reth: quantities and data as they write them, V4 of Prague, growing seconds only. */
    const methods: RpcMethods = {
      engine_exchangeCapabilities: () => ['engine_newPayloadV4', 'engine_forkchoiceUpdatedV3', 'engine_getPayloadV4'],
      engine_getClientVersionV1: () => [{ code: 'GE', name: 'Geth', version: '1.16.7', commit: '0x12345678' }],
      eth_getBlockByNumber: () => {
        if (down) throw new RpcError(-32000, 'away')
        return { hash: hashOf(height), number: toQuantity(height), timestamp: toQuantity(time) }
      },
      engine_forkchoiceUpdatedV3: ([s, a]) => {
        asked.push(a === null ? 'choose' : 'begin')
        const { headBlockHash } = s as { headBlockHash: Hex }
        if (a === null) {
          height++
          return { payloadStatus: status('VALID', headBlockHash), payloadId: null }
        }
        const { timestamp } = a as { timestamp: Hex }
        if (Number(timestamp) <= time) throw new RpcError(-38003, 'Invalid payload attributes')
        time = Number(timestamp)
        return { payloadStatus: status('VALID', headBlockHash), payloadId: '0x0358ca76bee5a9a3' }
      },
      engine_getPayloadV4: () => {
        asked.push('get')
        return {
          executionPayload: {
            parentHash: hashOf(height),
            feeRecipient: zero20,
            blockHash: hashOf(height + 1),
            blockNumber: toQuantity(height + 1),
            timestamp: toQuantity(time),
            transactions: [],
            withdrawals: [],
            blobGasUsed: '0x0',
            excessBlobGas: '0x0'
          },
          blockValue: '0x0',
          blobsBundle: { commitments: [], proofs: [], blobs: [] },
          shouldOverrideBuilder: false,
          executionRequests: []
        }
      },
      engine_newPayloadV4: ([p, hashes, , requests]) => {
        asked.push('check')
        t.same([hashes, requests], [[], []])
        const { blockHash } = p as { blockHash: Hex }
        return invalid ? status('INVALID', hashOf(height), 'invalid state root') : status('VALID', blockHash)
      }
    }
    const server = await serveRpc({ methods, port: 0, authorize: header => jwtAccepts(header, secret, Date.now()) })
    t.teardown(() => server.close())
    await t.rejects(new EngineClient(server.url!, new Uint8Array(randomBytes(32))).introduce('0'), 'another secret')
    const client = new EngineClient(server.url!, secret)
    t.match(await client.introduce('0.1.0'), { name: 'Geth 1.16.7' })
    const stop = new AbortController()
    const now: ConsensusState = { height: 0, head: undefined, lastBlockMs: undefined, trouble: undefined }
    const made: number[] = []
    const running = runConsensus(
      {
        client,
        clock: systemClock,
        random: systemRandom,
        log: silentLog,
        blockTimeMs: 20,
        feeRecipient: new Uint8Array(20),
        onBlock: b => void made.push(b.number)
      },
      now,
      stop.signal
    )
    const failed = running.then(
      () => undefined,
      (err: unknown) => err as { code: string }
    )
    await until(() => made.length >= 2)
    t.same(made.slice(0, 2), [1, 2], 'in order, although this client wants growing seconds')
    down = true
    await until(() => now.trouble !== undefined)
    down = false
    const before = made.length
    await until(() => made.length > before)
    t.equal(now.trouble, undefined)
    const order = asked.join(' ').replaceAll('begin begin', 'begin')
    t.match(order, /begin get check choose begin get check choose/)
    invalid = true
    t.match(await failed, { code: 'ERR_REJECTED' })
    stop.abort()
  }
)

async function until(cond: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000
  while (!cond()) {
    if (Date.now() > deadline) throw new Error('condition not met in 20 s')
    await new Promise(resolve => setImmediate(resolve))
  }
}
