/**
 * Proves the retriever against signers that lie (da-design.md 7 and 9.3): a blob that liars alone certified has one value or none
 * for every reader, false answers are dropped, and any signers with enough rows suffice. The product's retriever asks the
 * product's signers in one process; what goes between them is altered here.
 */
import t from 'tap'
import { retrieveBlob } from '../../cmd/zg-da/retriever/rebuild.ts'
import { GrpcError, STATUS, statusOf } from '../../lib/adapters/grpc/status.ts'
import { concat, equalBytes } from '../../lib/base/bytes.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { toHex } from '../../lib/base/hex.ts'
import type { BlobId } from '../../lib/clients/da/abi.ts'
import type { SignerPool } from '../../lib/clients/da/signer.ts'
import type { Slices } from '../../lib/clients/da/wire.ts'
import { encodeRecord } from '../../lib/codec/da/records.ts'
import { shapeOf } from '../../lib/codec/da/shape.ts'
import type { Shape } from '../../lib/codec/da/types.ts'
import type { Logger } from '../../lib/ops/log.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { asPoint, codeRows, type Forged, forge, openSigner, WorldChain, type WorldSigner } from '../harness/da-world.ts'
import { SEED } from '../harness/seed.ts'

t.setTimeout(120_000)
const random = new SeededRandom(SEED)

type Mode = 'honest' | 'gone' | 'silent' | 'alters' | 'swaps' | 'garbage' | 'empty' | 'header' | 'headless'

interface Net {
  chain: WorldChain
  pool: SignerPool
  modes: Mode[]
  signers: WorldSigner[]
  /** Calls that were begun and not given up. */
  open: Set<object>
  warnings: string[]
  logger: Logger
}

async function network(signers = 4): Promise<Net> {
  const chain = new WorldChain(signers, p => p % signers)
  const all = await Promise.all(Array.from({ length: signers }, (_, i) => openSigner(chain, i, new SimDisk())))
  const warnings: string[] = []
  const modes: Mode[] = new Array(signers).fill('honest')
  const open = new Set<object>()
  const retrieve = async (
    i: number,
    id: BlobId,
    rows: readonly number[],
    o: { header?: boolean; signal?: AbortSignal }
  ): Promise<Slices> => {
    const mode = modes[i]!
    if (mode === 'gone') throw new GrpcError(STATUS.unavailable, 'gone')
    if (mode === 'silent') {
      const call = {}
      open.add(call)
      await new Promise((_, reject) => {
        const stop = (): void => {
          open.delete(call)
          reject(new ZgError('ERR_STOPPED', 'stopped'))
        }
        if (o.signal?.aborted) stop()
        else o.signal?.addEventListener('abort', stop)
      })
    }
    const request = { epoch: id.epoch, quorum_id: id.quorumId, storage_root: id.root, row_indexes: [...rows] }
    const reply = await all[i]!.signer.batchRetrieve({
      requests: [{ ...request, with_proof: true, header: o.header === true }]
    })
    const answer = reply.encoded_slice[0]!
    const list = answer.encoded_slice.map(r => r.slice())
    if (mode === 'alters' && list.length > 0) list[random.below(list.length)]![8 + random.below(64)]! ^= 1
    if (mode === 'swaps') list.reverse()
    if (mode === 'garbage')
      return { ...answer, encoded_slice: list.map(r => random.bytes(r.length)), fast_z: list[0] ?? answer.fast_header }
    if (mode === 'empty') list.length = 0
    if (mode === 'header' && answer.fast_header.length > 0) return { ...answer, fast_header: random.bytes(208) }
    if (mode === 'headless') return { ...answer, encoded_slice: list, fast_header: new Uint8Array(0) }
    return { ...answer, encoded_slice: list }
  }
  const pool = {
    at: (socket: string) => ({
      retrieve: (id: BlobId, rows: readonly number[], o: { header?: boolean; signal?: AbortSignal }) =>
        retrieve(Number(socket.slice(7)), id, rows, o)
    })
  } as unknown as SignerPool
  const note = (message: string): void => {
    warnings.push(message)
  }
  return {
    chain,
    pool,
    modes,
    signers: all,
    open,
    warnings,
    logger: { error: note, warn: note, info() {}, debug() {} }
  }
}

/** Certified and stored as if all signers had signed whatever it is. */
async function certify(net: Net, f: Forged, form: 'roots' | 'paths' = 'roots'): Promise<BlobId> {
  const { epoch, quorumId } = net.chain.post(f.header.dataRoot)
  const id = { root: f.header.dataRoot, epoch, quorumId }
  for (const [i, { store }] of net.signers.entries()) {
    await store.append({
      id,
      commitment: concat(f.commitment.cx, f.commitment.cy),
      header: f.header.bytes,
      z: f.z,
      rowRoots: form === 'roots' ? f.rowRoots : new Uint8Array(0),
      lines: f.records(net.chain.places(i), form).map(encodeRecord)
    })
  }
  net.chain.certificates.set(`${epoch}/${quorumId}/${toHex(id.root)}`, asPoint(f.commitment))
  return id
}

/** The answer of one retrieval: the blob in hex, or status and text. */
async function answer(net: Net, id: BlobId, timeoutMs = 30_000): Promise<string> {
  const { chain, pool, logger } = net
  try {
    return toHex(await retrieveBlob(id, { chain, pool, logger, timeoutMs }))
  } catch (err) {
    return `${statusOf(err)}: ${(err as Error).message}`
  }
}

async function blob(shape: Shape, wrong = 0): Promise<{ f: Forged; data: Uint8Array }> {
  // What lies beyond len is committed to as it is, zeros or not.
  const matrix = random.bytes(shape.k * shape.w)
  const rows = await codeRows(shape, matrix)
  const list = rows.slice()
  const places = Array.from({ length: rows.length }, (_, c) => c)
  for (let i = 0; i < wrong; i++) {
    const j = i + random.below(places.length - i)
    ;[places[i], places[j]] = [places[j]!, places[i]!]
    list[places[i]!] = random.bytes(shape.w)
  }
  return { f: await forge(shape, rows.slice(0, shape.k), list), data: matrix.slice(0, shape.len) }
}

const NO_VALUE = `${STATUS.dataLoss}: blob encoding does not match its root`

t.test(
  'certified by liars alone: the data while k rows or fewer are wrong, and no value for anybody beyond',
  async t => {
    const net = await network()
    for (const wrong of [0, 1, 7, 8, 9, 12, 16]) {
      const { f, data } = await blob(shapeOf(8 * 128 - 30, 3), wrong)
      const id = await certify(net, f)
      const expected = wrong <= 8 ? toHex(data) : NO_VALUE
      for (let reader = 0; reader < 4; reader++) {
        // Each reader reaches other signers, each of which has rows of its own.
        net.modes.fill('honest')
        for (const mode of [random.below(4), random.below(4)]) net.modes[mode] = 'gone'
        t.equal(await answer(net, id), expected, `${wrong} wrong rows, reader ${reader}`)
      }
    }
    t.ok(net.warnings.includes('an encoder cheated'), 'wrong rows are noted')
    t.notOk(net.warnings.includes('a signer answers wrongly'), 'and nobody is dropped for them')
    net.modes.fill('honest')
    const { f } = await blob(shapeOf(1000, 3), 17)
    t.match(
      await answer(net, await certify(net, f)),
      /^5: fail to recover slice: Not enough valid lines \(7 of 8 rows\)/
    )
  }
)

t.test('row roots that nobody serves: the decoded value, with a warning', async t => {
  const net = await network()
  const { f, data } = await blob(shapeOf(1000, 3), 3)
  const id = await certify(net, f, 'paths')
  t.equal(await answer(net, id), toHex(data))
  t.ok(net.warnings.some(w => w.startsWith('no signer serves the row roots')))
})

t.test('a blob whose every row is from another code word than its sum: too few rows', async t => {
  const net = await network()
  const shape = shapeOf(1024, 3)
  const rows = await codeRows(shape, random.bytes(1024))
  const f = await forge(shape, (await codeRows(shape, random.bytes(1024))).slice(0, 8), rows)
  t.match(await answer(net, await certify(net, f)), /^5: fail to recover slice: Not enough valid lines/)
})

t.test('false answers of every kind are dropped, and the rest suffices', async t => {
  const net = await network()
  const { f, data } = await blob(shapeOf(5000))
  const id = await certify(net, f)
  const kinds: Mode[] = ['gone', 'alters', 'swaps', 'garbage', 'empty', 'header', 'headless']
  for (const one of kinds) {
    net.modes.splice(0, 4, 'honest', one, one, 'honest')
    t.equal(await answer(net, id), toHex(data), `two signers: ${one}`)
  }
  for (let run = 0; run < 20; run++) {
    net.modes.splice(0, 4, 'honest', 'honest', random.pick(kinds), random.pick(kinds))
    for (let i = 3; i > 0; i--) {
      const j = random.below(i + 1)
      ;[net.modes[i], net.modes[j]] = [net.modes[j]!, net.modes[i]!]
    }
    t.equal(await answer(net, id), toHex(data), net.modes.join(' '))
  }
  net.modes.fill('header')
  t.match(await answer(net, id), /^5: fail to recover slice: no signer has its header/)
  t.match(await answer(net, { ...id, epoch: 4 }), /^5: fail to recover slice: no certificate/)
  t.match(await answer(net, { ...id, quorumId: 3 }), /^5: failed get signers/)
})

t.test('any signers with enough rows suffice, fewer do not', async t => {
  const net = await network()
  for (const shape of [shapeOf(1, 0), shapeOf(1000, 3), shapeOf(1024 * 64, 10)]) {
    const { f, data } = await blob(shape)
    const id = await certify(net, f)
    for (let set = 1; set < 16; set++) {
      const rows = new Set<number>()
      for (let i = 0; i < 4; i++) {
        net.modes[i] = (set >> i) & 1 ? 'honest' : 'gone'
        if (net.modes[i] === 'honest') for (const p of net.chain.places(i)) rows.add(f.code(p))
      }
      const expected = rows.size >= shape.k ? toHex(data) : /^5: fail to recover slice: Not enough valid lines/
      const got = await answer(net, id)
      if (typeof expected === 'string') t.ok(got === expected, `k ${shape.k}: signers ${set.toString(2)}`)
      else t.match(got, expected, `k ${shape.k}: signers ${set.toString(2)}`)
    }
  }
})

t.test('a caller who leaves, and a deadline: the questions to signers end', async t => {
  const net = await network()
  const { f, data } = await blob(shapeOf(5000))
  const id = await certify(net, f)
  net.modes.fill('silent')
  const stop = new AbortController()
  const { chain, pool, logger } = net
  const call = retrieveBlob(id, { chain, pool, logger, signal: stop.signal })
  while (net.open.size === 0) await new Promise(resolve => setImmediate(resolve))
  stop.abort()
  await t.rejects(call)
  t.equal(net.open.size, 0)
  t.match(await answer(net, id, 50), /^5: fail to recover slice/, 'the deadline')
  t.equal(net.open.size, 0)
  // One that is silent is not waited for while others can give enough.
  net.modes.splice(0, 4, 'silent', 'silent', 'honest', 'honest')
  const got = await answer(net, id)
  t.ok(equalBytes(Buffer.from(got.slice(2), 'hex'), data))
  t.equal(net.open.size, 0, 'nor left asked')
  // More silent ones than are asked for the header at once: found before any of them times out.
  net.modes.splice(0, 4, 'silent', 'silent', 'silent', 'honest')
  const small = await blob(shapeOf(1000, 3))
  const at = await certify(net, small.f)
  for (let reader = 0; reader < 4; reader++) t.equal(await answer(net, at, 15_000), toHex(small.data), 'three silent')
})
