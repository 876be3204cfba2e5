/**
 * Data availability under faults: signers that are gone, silent or lying, power loss within a signer's and a disperser's store, and
 * kill -9 of every daemon under load. No accepted blob is lost, no signature stands without its lines on disk, no final blob
 * becomes unreadable.
 */
import { createHash, randomBytes } from 'node:crypto'
import t from 'tap'
import { BlobQueue } from '../../cmd/zg-da/disperser/queue.ts'
import type { StoredShare } from '../../cmd/zg-da/node/line-record.ts'
import { LineStore } from '../../cmd/zg-da/node/line-store.ts'
import { systemClock } from '../../lib/adapters/clock.ts'
import { GrpcClient } from '../../lib/adapters/grpc/client.ts'
import { type GrpcListener, serveGrpc } from '../../lib/adapters/grpc/server.ts'
import { concat, equalBytes } from '../../lib/base/bytes.ts'
import type { BlobId } from '../../lib/clients/da/abi.ts'
import { DisperserClient } from '../../lib/clients/da/disperser.ts'
import { RetrieverClient } from '../../lib/clients/da/retriever.ts'
import { SignerClient } from '../../lib/clients/da/signer.ts'
import {
  type BatchRetrieveRequest,
  type BatchSignRequest,
  ROWS_MESSAGE_BYTES,
  SIGNER
} from '../../lib/clients/da/wire.ts'
import { forEveryCrash } from '../../lib/sim/crash.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { startDaNetwork } from '../harness/da-network.ts'
import { endSoon, freePort, waitFor } from '../harness/tools.ts'

// The network's part alone is allowed more than the runner's default.
t.setTimeout(290_000)

function share(n: number, sizeBytes: number): StoredShare {
  const fill = (size: number, salt: number): Uint8Array => new Uint8Array(size).fill((n * 31 + salt) & 255)
  return {
    id: { root: fill(32, 1), epoch: 1 + (n >> 2), quorumId: n % 2 },
    commitment: fill(64, 2),
    header: fill(208, 3),
    z: fill(64, 4),
    rowRoots: fill(96, 5),
    lines: [fill(sizeBytes, 6), fill(8, 7)]
  }
}

t.test('power loss at any operation of a signer store: what was acknowledged is there, whole', async t => {
  const report = await forEveryCrash<number[]>({
    acked: () => [],
    seeds: 4,
    scenario: async (disk, acked) => {
      const store = await LineStore.open(disk, '/lines', { segmentBytes: 12_000 })
      for (let n = 0; n < 6; n += 2) {
        // Two at once share a sync; the third pair begins another segment and another epoch.
        await Promise.all([store.append(share(n, 5_000)), store.append(share(n + 1, 300))])
        acked.push(n, n + 1)
      }
      await store.close()
    },
    check: async (disk, acked) => {
      const store = await LineStore.open(disk, '/lines', { segmentBytes: 12_000 })
      for (const n of acked) {
        const wanted = share(n, n % 2 === 0 ? 5_000 : 300)
        const found = await store.get(wanted.id)
        if (found === undefined) throw new Error(`share ${n} was acknowledged and is gone`)
        const same = equalBytes(
          concat(...found.lines, found.z, found.header),
          concat(...wanted.lines, wanted.z, wanted.header)
        )
        if (!same) throw new Error(`share ${n} is altered`)
      }
      // What comes after the crash finds room.
      await store.append(share(20, 100))
      if ((await store.get(share(20, 100).id)) === undefined) throw new Error('nothing can be stored any more')
      await store.close()
    }
  })
  t.ok(report.points > 10, `${report.points} crash points, ${report.runs} reopenings`)
})

t.test('a full disk and a failed sync: refused, nothing promised, what was there stays', async t => {
  for (const faults of [{ capacityBytes: 9_000 }, { failSync: 3 }]) {
    const disk = new SimDisk()
    const store = await LineStore.open(disk, '/lines')
    await store.append(share(0, 5_000))
    disk.faults = faults
    await t.rejects(store.append(share(1, 6_000)))
    t.equal(store.has(share(1, 6_000).id), false)
    t.same((await store.get(share(0, 5_000).id))?.lines.length, 2)
    disk.faults = {}
    await store.append(share(1, 6_000))
    await store.close()
    const again = await LineStore.open(disk, '/lines')
    t.same([again.has(share(0, 1).id), again.has(share(1, 1).id)], [true, true])
    await again.close()
  }
})

t.test(
  'power loss at any operation of the disperser queue: an accepted blob is there, a lost one leaves no file',
  async t => {
    const blob = (n: number): Uint8Array => new Uint8Array(3_000 + n).fill(n)
    const open = async (disk: SimDisk): Promise<{ queue: BlobQueue; close: () => Promise<void> }> => {
      const kv = await openSimKv(disk, '/journal')
      const clock = { ...systemClock, now: () => 1_700_000_000_000 }
      const options = { disk, kv, dir: '/blobs', clock, random: new SeededRandom('queue'), maxBytes: 1e6, keepMs: 1e9 }
      return { queue: await BlobQueue.open(options), close: () => kv.close() }
    }
    let made = 0
    const report = await forEveryCrash<Map<string, number>>({
      acked: () => new Map(),
      seeds: 3,
      scenario: async (disk, acked) => {
        made = 0
        const { queue, close } = await open(disk)
        for (let n = 0; n < 3; n++) {
          const job = await queue.add(blob(n))
          acked.set(job.id, n)
          made++
        }
        await close()
      },
      check: async (disk, acked) => {
        const { queue, close } = await open(disk)
        for (const [id, n] of acked) {
          if ((await queue.find(id)) === undefined) throw new Error(`blob ${n} was accepted and is forgotten`)
          if (!equalBytes(await queue.read(id), blob(n))) throw new Error(`blob ${n} is altered`)
        }
        if ((await disk.list('/blobs')).length !== queue.active().length) throw new Error('a file without a blob stays')
        await close()
      }
    })
    t.ok(report.points > 10, `${report.points} crash points, ${report.runs} reopenings, ${made} blobs`)
  }
)

/** Stands before a signer and alters what it says. */
async function proxy(port: number, to: () => string, mode: () => 'honest' | 'lies' | 'silent'): Promise<GrpcListener> {
  const client = new GrpcClient(to(), { ...SIGNER, what: 'signer', receiveBytes: ROWS_MESSAGE_BYTES })
  const pass = async (method: string, request: object): Promise<never> => {
    if (mode() === 'silent') await new Promise(() => {})
    return client.call<object, never>(method, request, { timeoutMs: 60_000 })
  }
  const server = await serveGrpc({
    services: [
      {
        file: SIGNER.file,
        name: SIGNER.service,
        handlers: {
          GetStatus: request => pass('GetStatus', request),
          BatchSign: async (request: BatchSignRequest) => {
            const reply = (await pass('BatchSign', request)) as { signatures: Uint8Array[] }
            // A point of the curve, and not the right one.
            const false_ = new Uint8Array(64)
            false_[0] = 1
            false_[32] = 2
            return mode() === 'lies' ? { signatures: reply.signatures.map(() => false_) } : reply
          },
          BatchRetrieve: async (request: BatchRetrieveRequest) => {
            const reply = (await pass('BatchRetrieve', request)) as { encoded_slice: { encoded_slice: Uint8Array[] }[] }
            if (mode() === 'lies') {
              for (const { encoded_slice: rows } of reply.encoded_slice)
                for (const row of rows) row[row.length - 1]! ^= 1
            }
            return reply
          }
        }
      }
    ],
    port,
    receiveBytes: ROWS_MESSAGE_BYTES,
    calls: 64
  })
  return {
    ...server,
    async close() {
      client.close()
      await server.close()
    }
  }
}

t.test('a network under faults', { timeout: 280_000 }, async t => {
  let mode: 'honest' | 'lies' | 'silent' = 'honest'
  const port = await freePort()
  const net = await startDaNetwork('da-fault', {
    sockets: [`127.0.0.1:${port}`],
    disperser: ['--sign-timeout', '8s', '--no-legacy-status']
  })
  const before = await proxy(
    port,
    () => net.signers[0]!.address,
    () => mode
  )
  let client = new DisperserClient(net.disperser.address)
  let reader = new RetrieverClient(net.retriever.address)
  t.teardown(async () => {
    client.close()
    reader.close()
    await before.close()
    await net.stop()
    endSoon()
  })

  const finish = async (id: Uint8Array): Promise<{ state: string; id: BlobId | undefined }> => {
    let last: { state: string; id: BlobId | undefined } = { state: 'unknown', id: undefined }
    await waitFor(
      async () => {
        last = await client.status(id).catch(() => last)
        return ['finalized', 'failed', 'insufficientSignatures'].includes(last.state)
      },
      { timeoutMs: 100_000, everyMs: 50, what: 'a blob to be final or to fail' }
    )
    return last
  }
  const certify = async (data: Uint8Array): Promise<BlobId> => {
    const { state, id } = await finish(await client.disperse(data))
    t.equal(state, 'finalized')
    return id!
  }
  const readsBack = async (id: BlobId, data: Uint8Array, what: string): Promise<void> => {
    t.equal(Buffer.compare(await reader.retrieve(id), data), 0, what)
  }
  const kept: { id: BlobId; data: Uint8Array }[] = []

  await t.test('a lying or silent signer: certified without it, read back without it', async () => {
    for (const wrong of ['lies', 'silent'] as const) {
      mode = 'honest'
      const data = randomBytes(200_000)
      const id = await certify(data)
      mode = wrong
      await readsBack(id, data, `read while it ${wrong}`)
      const more = randomBytes(70_000)
      const certified = await certify(more)
      await readsBack(certified, more, `certified while it ${wrong}`)
      kept.push({ id, data }, { id: certified, data: more })
    }
    mode = 'honest'
  })

  await t.test('one signer of four gone: certified and read back; two gone: too few signatures', async t => {
    await net.signers[3]!.stop()
    const data = randomBytes(300_000)
    const id = await certify(data)
    await readsBack(id, data, 'with one signer gone')
    await net.signers[2]!.stop()
    const { state } = await finish(await client.disperse(randomBytes(1_000)))
    t.equal(state, 'insufficientSignatures')
    kept.push({ id, data })
    await Promise.all([net.signers[2]!.start(), net.signers[3]!.start()])
  })

  await t.test('kill -9 of each daemon under load: every accepted blob becomes final and readable', async t => {
    const accepted: { request: Uint8Array; data: Uint8Array }[] = []
    const load = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        const data = randomBytes(20_000 + i)
        // Refused or cut off: not accepted, so nothing is owed.
        const request = await client.disperse(data).catch(() => undefined)
        if (request !== undefined) accepted.push({ request, data })
      }
    }
    for (const victim of [net.disperser, net.retriever, ...net.signers]) {
      await load(2)
      const going = load(3)
      await victim.kill9()
      await going
      await victim.start()
    }
    client.close()
    reader.close()
    client = new DisperserClient(net.disperser.address)
    reader = new RetrieverClient(net.retriever.address)
    t.ok(accepted.length >= 12, `${accepted.length} accepted`)
    for (const { request, data } of accepted) {
      const { state, id } = await finish(request)
      t.equal(state, 'finalized')
      await readsBack(id!, data, createHash('sha256').update(data).digest('hex').slice(0, 8))
      kept.push({ id: id!, data })
    }
  })

  await t.test('every blob that was final is still readable, from any three signers', async t => {
    await net.signers[1]!.kill9()
    for (const { id, data } of kept) await readsBack(id, data, 'after all')
    await net.signers[1]!.start()
    const signer = new SignerClient(net.signers[1]!.address)
    const answer = await signer.retrieve(kept[0]!.id, [], { header: true })
    t.equal(answer!.fast_header.length, 208, 'what it signed lies on its disk after kill -9')
    signer.close()
  })
})
