/**
 * Proves what a signer refuses, through the product's own signer on a simulated disk: every wrong request of da-design.md 15 with
 * its status, the fraud proof that a lying encoder leaves, and that at no power loss a signature is out without its lines.
 */
import t from 'tap'
import { FraudProofs } from '../../cmd/zg-da/node/fraud.ts'
import { STATUS, statusFor } from '../../lib/adapters/grpc/status.ts'
import { concat, equalBytes } from '../../lib/base/bytes.ts'
import { toHex } from '../../lib/base/hex.ts'
import type { BlobId } from '../../lib/clients/da/abi.ts'
import type { SignRequest } from '../../lib/clients/da/wire.ts'
import { openZ } from '../../lib/codec/da/open.ts'
import { decodeRecord, decodeRecords } from '../../lib/codec/da/records.ts'
import { decodeMatrix, strictCheck } from '../../lib/codec/da/retrieve.ts'
import { shapeOf } from '../../lib/codec/da/shape.ts'
import { verifyLines } from '../../lib/codec/da/verify.ts'
import { blobDigest, decodeG1Le, sumG1, sumG2, verifyBls } from '../../lib/crypto/bn254.ts'
import { SimClock } from '../../lib/sim/clock.ts'
import { forEveryCrash } from '../../lib/sim/crash.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import {
  asPoint,
  codeRows,
  type Forged,
  forge,
  KEYS,
  openSigner,
  signRequest,
  WorldChain,
  type WorldSigner
} from '../harness/da-world.ts'
import { SEED } from '../harness/seed.ts'

t.setTimeout(120_000)
const random = new SeededRandom(SEED)
const flipped = (b: Uint8Array, at = random.below(b.length)): Uint8Array => {
  const out = b.slice()
  out[at]! ^= 1 << random.below(8)
  return out
}
const none = new Uint8Array(0)

async function honest(len: number, logK: number): Promise<Forged> {
  const shape = shapeOf(len, logK)
  const rows = await codeRows(shape, concat(random.bytes(len), new Uint8Array(shape.k * shape.w - len)))
  return forge(shape, rows.slice(0, shape.k), rows)
}

function posted(chain: WorldChain, f: Forged): BlobId {
  const { epoch, quorumId } = chain.post(f.header.dataRoot)
  return { root: f.header.dataRoot, epoch, quorumId }
}

/** Status and text of a refusal; time passes while it is waited for. */
async function refusal(clock: SimClock, call: Promise<unknown>): Promise<[number | undefined, string]> {
  let end: [number | undefined, string] | undefined
  const watched = call.then(
    () => {
      end = [STATUS.ok, 'signed']
    },
    (err: unknown) => {
      const s = statusFor(err)
      end = [s?.code, s?.details ?? String(err)]
    }
  )
  while (end === undefined && (await clock.until(() => end !== undefined, 10_000))) {}
  await watched
  return end!
}

t.test('every wrong request has its own refusal, and leaves nothing', async t => {
  const clock = new SimClock()
  const chain = new WorldChain(3, p => (p < 6 ? 0 : 1))
  const disk = new SimDisk()
  const { signer, store } = await openSigner(chain, 0, disk, clock)
  const f = await honest(1000, 3)
  const other = await honest(1000, 3)
  const id = posted(chain, f)
  const places = chain.places(0)
  const good = signRequest(id, f, places)
  const paths = signRequest(id, f, places, 'paths')
  const swap = (i: number, record: Uint8Array): Uint8Array[] => good.encoded_slice.map((r, j) => (j === i ? record : r))
  const record0 = (at: number, value: number): Uint8Array[] => {
    const r = good.encoded_slice[0]!.slice()
    r[at] = value
    return swap(0, r)
  }
  const le = good.erasure_commitment
  const kzg = le.slice()
  kzg[63] = 0x12
  const unposted = await honest(900, 3)
  const early = await honest(901, 3)
  const header = (at: number, value: number): Uint8Array => {
    const out = f.header.bytes.slice()
    out[at] = value
    return out
  }
  const mismatch = 'received slices and assigned slices are mismatch'
  const cases: [string, Partial<SignRequest>, number, RegExp | string][] = [
    ['root of 31 bytes', { storage_root: id.root.subarray(1) }, STATUS.invalidArgument, 'storage root'],
    ['no root', { storage_root: none }, STATUS.invalidArgument, 'storage root'],
    ['no commitment', { erasure_commitment: none }, STATUS.invalidArgument, /deserialize erasure commitment/],
    [
      'long commitment',
      { erasure_commitment: concat(le, le) },
      STATUS.invalidArgument,
      /deserialize erasure commitment/
    ],
    ['commitment of another mode', { erasure_commitment: kzg }, STATUS.invalidArgument, /^Incorrect commitment/],
    ['another CX', { erasure_commitment: flipped(le, 3) }, STATUS.invalidArgument, /^verification failed/],
    ['another len in CY', { erasure_commitment: flipped(le, 49) }, STATUS.invalidArgument, /^verification failed/],
    ['CY with a bit set that must be zero', { erasure_commitment: flipped(le, 32) }, STATUS.invalidArgument, /^veri/],
    ['epoch to come', { epoch: chain.now.epoch + 1 }, STATUS.notFound, 'invalid epoch'],
    ['epoch gone', { epoch: chain.now.epoch - 4 }, STATUS.notFound, 'invalid epoch'],
    ['epoch beyond all', { epoch: '18446744073709551615' }, STATUS.notFound, /out of range/],
    ['unknown quorum', { quorum_id: 1 }, STATUS.notFound, /out of bound/],
    ['quorum beyond all', { quorum_id: '18446744073709551615' }, STATUS.notFound, /out of range/],
    ['no lines', { encoded_slice: [] }, STATUS.invalidArgument, mismatch],
    ['a line too few', { encoded_slice: good.encoded_slice.slice(1) }, STATUS.invalidArgument, mismatch],
    [
      'a line twice',
      { encoded_slice: [good.encoded_slice[0]!, ...good.encoded_slice] },
      STATUS.invalidArgument,
      mismatch
    ],
    [
      'a line in place of another',
      { encoded_slice: swap(1, good.encoded_slice[0]!) },
      STATUS.invalidArgument,
      mismatch
    ],
    ['wrong order', { encoded_slice: [...good.encoded_slice].reverse() }, STATUS.invalidArgument, mismatch],
    ['places of others', signRequest(id, f, [6, 7, 8, 9, 10, 11]), STATUS.invalidArgument, mismatch],
    ['one place of others', signRequest(id, f, [0, 1, 2, 3, 4, 6]), STATUS.invalidArgument, mismatch],
    ['place beyond the last', { encoded_slice: record0(3, 0xff) }, STATUS.invalidArgument, mismatch],
    ['an empty record', { encoded_slice: swap(2, none) }, STATUS.invalidArgument, mismatch],
    ['record version', { encoded_slice: record0(0, 2) }, STATUS.invalidArgument, /^failed to deserialize slice/],
    ['record flags', { encoded_slice: record0(1, 0x81) }, STATUS.invalidArgument, /^failed to deserialize slice/],
    ['record cut', { encoded_slice: swap(0, good.encoded_slice[0]!.subarray(0, 20)) }, STATUS.invalidArgument, /slice/],
    [
      'record longer',
      { encoded_slice: swap(0, concat(good.encoded_slice[0]!, none, new Uint8Array(64))) },
      STATUS.invalidArgument,
      /slice|payload/
    ],
    ['not posted', { storage_root: unposted.header.dataRoot }, STATUS.notFound, 'blob not found'],
    ['posted, not final', { storage_root: early.header.dataRoot }, STATUS.notFound, 'blob not found'],
    ['posted in another epoch', { epoch: chain.now.epoch - 1 }, STATUS.notFound, 'blob not found'],
    ['no header', { fast_header: none }, STATUS.invalidArgument, /^verification failed/],
    ['header of 209 bytes', { fast_header: concat(f.header.bytes, Uint8Array.of(0)) }, STATUS.invalidArgument, /^veri/],
    ['header version', { fast_header: header(0, 2) }, STATUS.invalidArgument, /version/],
    ['header reserved', { fast_header: header(2, 1) }, STATUS.invalidArgument, /^verification failed/],
    ['header k', { fast_header: header(1, 4) }, STATUS.invalidArgument, /^verification failed/],
    ['header w', { fast_header: header(5, 0x80) }, STATUS.invalidArgument, /^verification failed/],
    ['header len', { fast_header: header(8, 0xe7) }, STATUS.invalidArgument, /^verification failed/],
    ['header of another blob', { fast_header: other.header.bytes }, STATUS.invalidArgument, /^verification failed/],
    ['no z', { fast_z: none }, STATUS.invalidArgument, /z has 0 bytes/],
    ['z changed', { fast_z: flipped(f.z) }, STATUS.invalidArgument, /z is not the one/],
    ['z encoded', { fast_z: openZ(f.header, f.z).e }, STATUS.invalidArgument, /z has 384 bytes/],
    ['z of another blob', { fast_z: other.z }, STATUS.invalidArgument, /z is not the one/],
    ['no row roots', { fast_row_roots: none }, STATUS.invalidArgument, /row roots are missing/],
    ['paths where roots are due', paths, STATUS.invalidArgument, /row roots are missing/],
    [
      'row roots too long',
      { fast_row_roots: concat(f.rowRoots, f.rowRoots) },
      STATUS.invalidArgument,
      /row roots have/
    ],
    ['row roots changed', { fast_row_roots: flipped(f.rowRoots) }, STATUS.invalidArgument, /^verification failed/],
    ['row roots of another', { fast_row_roots: other.rowRoots }, STATUS.invalidArgument, /^verification failed/],
    [
      'payload changed',
      { encoded_slice: swap(0, flipped(good.encoded_slice[0]!, 40)) },
      STATUS.invalidArgument,
      /^veri/
    ],
    [
      'lines of another blob',
      { encoded_slice: signRequest(id, other, places).encoded_slice },
      STATUS.invalidArgument,
      /^veri/
    ],
    [
      'lines of another k',
      { encoded_slice: signRequest(id, await honest(1000, 2), places).encoded_slice },
      STATUS.invalidArgument,
      /slice|payload/
    ]
  ]
  for (const at of [16, 47, 48, 79, 80, 143, 175, 176, 207]) {
    cases.push([`header byte ${at}`, { fast_header: flipped(f.header.bytes, at) }, STATUS.invalidArgument, /^veri/])
  }
  chain.lag = 1
  posted(chain, early)
  for (const [what, change, status, text] of cases) {
    const call = signer.batchSign({ requests: [{ ...good, ...change }] })
    t.match(await refusal(clock, call), [status, text], what)
    t.equal(store.count, 0, `${what}: nothing is kept`)
  }
  chain.lag = 0
  const many = signer.batchSign({ requests: new Array(257).fill(good) })
  t.match(await refusal(clock, many), [STATUS.invalidArgument, /257 requests/])
  const half = signer.batchSign({ requests: [good, { ...good, fast_z: none }] })
  t.match(await refusal(clock, half), [STATUS.invalidArgument, /z has/], 'one bad request refuses its batch')
  t.equal(store.count, 0)
  t.equal(signer.counts.signed, 0)

  // Ten calls wait for a posting that does not come; the eleventh is turned away at once.
  const waiting = Array.from({ length: 10 }, () =>
    signer.batchSign({ requests: [{ ...good, storage_root: unposted.header.dataRoot }] })
  )
  t.match(await refusal(clock, signer.batchSign({ requests: [good] })), [
    STATUS.resourceExhausted,
    'request pool is full'
  ])
  for (const call of waiting) t.match(await refusal(clock, call), [STATUS.notFound, 'blob not found'])

  const stranger = await openSigner(chain, 2, new SimDisk(), clock)
  t.match(await refusal(clock, stranger.signer.batchSign({ requests: [good] })), [STATUS.invalidArgument, mismatch])

  const { signatures } = await signer.batchSign({ requests: [good] })
  t.equal(signatures.length, 1)
  t.same((await signer.batchSign({ requests: [good] })).signatures, signatures, 'asked again: the same word')
  t.equal(store.count, 1)
  const second = signer.batchSign({ requests: [{ ...good, erasure_commitment: flipped(le, 3) }] })
  t.match(await refusal(clock, second), [STATUS.invalidArgument, /another encoding of this root was signed/])
  chain.now.epoch += 3
  t.same((await signer.batchSign({ requests: [good] })).signatures, signatures, 'three epochs later still')
  chain.now.epoch++
  t.match(await refusal(clock, signer.batchSign({ requests: [good] })), [STATUS.notFound, 'invalid epoch'])
  chain.now.epoch -= 4
  chain.certificates.set(`${id.epoch}/${id.quorumId}/${toHex(id.root)}`, asPoint(f.commitment))
  t.match(await refusal(clock, signer.batchSign({ requests: [good] })), [STATUS.alreadyExists, 'blob verified already'])
})

t.test('a lying encoder: the owners of a bad row refuse and keep the proof, the others certify the data', async t => {
  // 48 signers with 64 places each; a row of 192 lies on 16 places.
  const chain = new WorldChain(48, p => p % 48)
  const shape = shapeOf(64 * 64, 6)
  const matrix = random.bytes(64 * 64)
  const rows = await codeRows(shape, matrix)
  const bad = random.below(192)
  const f = await forge(
    shape,
    rows.slice(0, 64),
    rows.map((row, c) => (c === bad ? flipped(row) : row))
  )
  const id = posted(chain, f)
  let signed = 0
  let refused = 0
  for (let i = 0; i < 48; i++) {
    const disk = new SimDisk()
    const { signer, store } = await openSigner(chain, i, disk)
    const places = chain.places(i)
    const owns = places.some(p => f.code(p) === bad)
    const request = signRequest(id, f, places, i % 2 === 0 ? 'paths' : 'roots')
    if (!owns) {
      t.equal((await signer.batchSign({ requests: [request] })).signatures.length, 1)
      signed += places.length
      continue
    }
    refused++
    for (let again = 0; again < 2; again++) {
      await t.rejects(signer.batchSign({ requests: [request] }), {
        code: STATUS.invalidArgument,
        message: /does not belong to the code/
      })
    }
    t.equal(store.count, 0)
    const proofs = await disk.list('/fraud')
    t.equal(proofs.length, 1, 'one proof a header')
    const file = await disk.open(`/fraud/${proofs[0]}`, 'open')
    const proof = await file.read(0, await file.size())
    t.ok(proof.length < 50 * 1024)
    // Anybody can check it: committed to, and not of the code.
    const header = proof.subarray(0, 208)
    const z = proof.subarray(208, 208 + 16 * 64)
    t.ok(equalBytes(header, f.header.bytes))
    const line = decodeRecord(proof.subarray(208 + 16 * 64), shape)
    t.equal(f.code(line.p), bad)
    await t.rejects(verifyLines(header, z, [line], { reading: true }), {
      name: 'DaError',
      fault: 'line-code',
      at: line.p
    })
  }
  t.ok(refused >= 1 && refused <= 16, `${refused} refuse`)
  t.ok(3 * signed >= 2 * 3072, `${signed} places sign: one bad row does not stop a blob`)
  const some = Array.from({ length: 192 }, (_, c) => c).filter(c => c !== bad && random.below(2) === 0)
  const decoded = await decodeMatrix(f.header, new Map(some.map(c => [c, rows[c]!])))
  t.ok(equalBytes(decoded, matrix))
  t.equal((await strictCheck(f.header, decoded)).count(f.rowRoots), 191)

  const disk = new SimDisk()
  const proofs = new FraudProofs(disk, '/fraud')
  let kept = 0
  for (let n = 0; n < 300; n++) if ((await proofs.keep(random.bytes(208), f.z, none)) !== undefined) kept++
  t.equal(kept, 256, 'a bounded number of them')
  t.equal((await disk.list('/fraud')).length, 256)
})

t.test('two encodings of one root to two halves: no certificate of both', async t => {
  const chain = new WorldChain(4, p => p % 4)
  const f = await honest(1000, 3)
  // The same rows and lines under another z: what the second half is told.
  const shape = f.header
  const lie = await forge(shape, [...f.rows.slice(1, 8), f.rows[0]!], f.rows)
  const id = posted(chain, f)
  const lieId = posted(chain, lie)
  t.notOk(equalBytes(f.commitment.cx, lie.commitment.cx), 'another z is another commitment')
  const signatures: Uint8Array[] = []
  for (let i = 0; i < 4; i++) {
    const { signer } = await openSigner(chain, i, new SimDisk())
    const places = chain.places(i)
    if (i < 2) signatures.push((await signer.batchSign({ requests: [signRequest(id, f, places)] })).signatures[0]!)
    else {
      const request = signRequest(lieId, lie, places)
      await t.rejects(signer.batchSign({ requests: [request] }), { code: STATUS.invalidArgument })
      // Even one that signs blindly signs another digest.
      const blind = await openSigner(chain, i, new SimDisk())
      await blind.store.append({
        id: lieId,
        commitment: concat(lie.commitment.cx, lie.commitment.cy),
        header: lie.header.bytes,
        z: lie.z,
        rowRoots: lie.rowRoots,
        lines: request.encoded_slice
      })
      signatures.push((await blind.signer.batchSign({ requests: [request] })).signatures[0]!)
    }
  }
  const sum = (list: readonly number[]): boolean[] =>
    [f, lie].map(b => {
      const at = b === f ? id : lieId
      const digest = blobDigest(at.root, BigInt(at.epoch), BigInt(at.quorumId), asPoint(b.commitment))
      return verifyBls(digest, sumG1(list.map(i => decodeG1Le(signatures[i]!))), sumG2(list.map(i => KEYS[i]!.pkG2)))
    })
  t.same(sum([0, 1]), [true, false])
  t.same(sum([2, 3]), [false, true])
  for (const list of [
    [0, 1, 2, 3],
    [0, 1, 2],
    [1, 2, 3]
  ])
    t.same(sum(list), [false, false], `${list}`)
})

t.test('power loss at any operation of a signer: no signature without its lines', async t => {
  const owner = (p: number): number => (p % 500 === 7 ? 0 : 1)
  const blobs = [await honest(1000, 3), await honest(600, 3), await honest(77, 0)]
  const world = (): { chain: WorldChain; ids: BlobId[] } => {
    const chain = new WorldChain(2, owner)
    return { chain, ids: blobs.map(f => posted(chain, f)) }
  }
  const reads = async ({ signer }: WorldSigner, id: BlobId, f: Forged, places: number[]): Promise<void> => {
    const request = { epoch: id.epoch, quorum_id: id.quorumId, storage_root: id.root, row_indexes: places }
    const { encoded_slice } = await signer.batchRetrieve({ requests: [{ ...request, with_proof: true, header: true }] })
    const answer = encoded_slice[0]!
    const lines = decodeRecords(answer.encoded_slice, f.header)
    await verifyLines(answer.fast_header, answer.fast_z, lines, { places, reading: true })
    if (!equalBytes(answer.fast_row_roots, f.rowRoots)) throw new Error('the row roots are not those it was given')
  }
  const report = await forEveryCrash<number[]>({
    acked: () => [],
    seeds: 3,
    prefixSeeds: 1,
    seed: SEED,
    scenario: async (disk, acked) => {
      const { chain, ids } = world()
      const places = chain.places(0)
      const mine = await openSigner(chain, 0, disk)
      const request = (n: number): SignRequest => signRequest(ids[n]!, blobs[n]!, places)
      if ((await mine.signer.batchSign({ requests: [request(0), request(1)] })).signatures.length === 2)
        acked.push(0, 1)
      if ((await mine.signer.batchSign({ requests: [request(2)] })).signatures.length === 1) acked.push(2)
      await mine.close()
    },
    check: async (disk, acked) => {
      const { chain, ids } = world()
      const places = chain.places(0)
      const mine = await openSigner(chain, 0, disk)
      for (const n of acked) await reads(mine, ids[n]!, blobs[n]!, places)
      // Whatever came back, all can be signed now and lies there then.
      for (const n of [0, 1, 2]) {
        await mine.signer.batchSign({ requests: [signRequest(ids[n]!, blobs[n]!, places)] })
        await reads(mine, ids[n]!, blobs[n]!, places)
      }
      await mine.close()
    }
  })
  t.ok(report.points > 6, `${report.points} crash points, ${report.runs} reopenings`)
})

t.test('a full disk or a failed sync: not signed; later it is', async t => {
  for (const [faults, code] of [
    [{ capacityBytes: 700 }, STATUS.resourceExhausted],
    [{ failSync: 2 }, 'ERR_IO'],
    [{ failWrite: 1 }, 'ERR_IO']
  ] as const) {
    const chain = new WorldChain(2, p => (p < 12 ? 0 : 1))
    const disk = new SimDisk()
    const { signer, store } = await openSigner(chain, 0, disk)
    const f = await honest(1000, 3)
    const request = signRequest(posted(chain, f), f, chain.places(0))
    disk.faults = faults
    await t.rejects(signer.batchSign({ requests: [request] }), { code })
    t.equal(store.count, 0)
    t.equal(signer.counts.signed, 0)
    disk.faults = {}
    t.equal((await signer.batchSign({ requests: [request] })).signatures.length, 1)
  }
})
