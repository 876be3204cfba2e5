/**
 * Two peer-to-peer nodes on loopback: they find each other, gossip signed messages both ways, talk in frames with bounds and
 * deadlines, and leave nothing running. What a hostile peer sends over raw streams is refused before it costs memory.
 */
import '../../lib/adapters/libp2p/compat.ts'
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import t from 'tap'
import { type P2pNode, startP2p } from '../../lib/adapters/libp2p/node.ts'
import { concat, u32be, utf8 } from '../../lib/base/bytes.ts'
import { LIMITS } from '../../lib/base/limits.ts'
import { waitFor } from '../harness/tools.ts'

const temp = mkdtempSync(join(tmpdir(), 'zg-p2p-'))
const TOPIC = '/zg/test/1'
const start = (name: string, bootstrap: string[] = []): Promise<P2pNode> =>
  startP2p({ keyFile: join(temp, name, 'p2p.key'), listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap, topics: [TOPIC] })

const a = await start('a')
const b = await start('b', a.addresses())
t.teardown(async () => {
  await Promise.all([a.close(), b.close()])
  rmSync(temp, { recursive: true, force: true })
})

t.test('a node finds its bootstrap peer and keeps its identity', async t => {
  await waitFor(() => a.peers().includes(b.peerId) && b.peers().includes(a.peerId), { what: 'a connection' })
  t.match(a.addresses()[0], new RegExp(`^/ip4/127\\.0\\.0\\.1/tcp/\\d+/p2p/${a.peerId}$`))
  t.equal(statSync(join(temp, 'a', 'p2p.key')).mode & 0o777, 0o600)
  t.equal(await b.dial(a.addresses()[0]!), a.peerId)
})

t.test('gossip goes both ways, signed, judged and once', async t => {
  const got: string[] = []
  const hear = (who: string) => (bytes: Uint8Array, from: string) => {
    got.push(`${who}:${Buffer.from(bytes)}:${from === a.peerId ? 'a' : 'b'}`)
  }
  a.subscribe(TOPIC, hear('a'))
  const leave = b.subscribe(TOPIC, hear('b'), bytes => (bytes[0] === 0x21 ? 'reject' : 'accept'))
  await waitFor(() => a.subscribers(TOPIC).includes(b.peerId) && b.subscribers(TOPIC).includes(a.peerId), {
    what: 'subscriptions'
  })
  t.equal(await a.publish(TOPIC, utf8('!bad')), 1)
  t.equal(await a.publish(TOPIC, utf8('one')), 1)
  await waitFor(() => got.length === 1, { what: 'the first message' })
  t.equal(await b.publish(TOPIC, utf8('two')), 1)
  await waitFor(() => got.length === 2, { what: 'the second message' })
  t.same(got, ['b:one:a', 'a:two:b'])
  const large = new Uint8Array(LIMITS.gossipMessageBytes).fill(0x2e)
  await a.publish(TOPIC, large)
  await waitFor(() => got.length === 3, { what: 'a message of the largest size' })
  await t.rejects(a.publish(TOPIC, new Uint8Array(LIMITS.gossipMessageBytes + 1)), /too large/)
  await t.rejects(a.publish('/other', large), /not one of this node's/)
  leave()
  await waitFor(() => !a.subscribers(TOPIC).includes(b.peerId), { what: 'the end of the subscription' })
})

t.test('streams carry frames there and back, up to the bound, against a slow reader', async t => {
  await a.handle('/zg/echo/1', async stream => {
    for (let frame = await stream.read(); frame !== undefined; frame = await stream.read()) await stream.write(frame)
    await stream.end()
  })
  const stream = await b.open(a.peerId, '/zg/echo/1')
  for (const size of [0, 1, 5000, LIMITS.p2pFrameBytes]) {
    const frame = new Uint8Array(size).map((_, i) => i * 7)
    await stream.write(frame)
    t.equal(Buffer.compare((await stream.read())!, frame), 0, `${size} bytes`)
  }
  await stream.end()
  t.equal(await stream.read(), undefined, 'the end is an end, not an error')

  // 24 MiB against a reader that starts late: the writer must be held back, and nothing lost.
  let release: () => void = () => {}
  const gate = new Promise<void>(resolve => {
    release = resolve
  })
  let sum = 0
  let count = 0
  await a.handle('/zg/sink/1', async sink => {
    await gate
    for (let frame = await sink.read(); frame !== undefined; frame = await sink.read()) {
      sum += frame[frame.length - 1]!
      count++
    }
    await sink.write(utf8(`${count} ${sum}`))
    await sink.end()
  })
  const source = await b.open(a.addresses()[0]!, '/zg/sink/1')
  let written = 0
  const writing = (async () => {
    for (let i = 0; i < 24; i++) {
      await source.write(new Uint8Array(1024 * 1024).fill(i))
      written++
    }
    await source.end()
  })()
  await waitFor(() => written > 0, { what: 'the first write' })
  await new Promise(resolve => setImmediate(resolve))
  t.ok(written < 24, `${written} of 24 MiB were taken while nobody read`)
  release()
  await writing
  t.equal(Buffer.from((await source.read())!).toString(), `24 ${(23 * 24) / 2}`)
})

t.test('frames over the bound, cut frames and silence are refused with their reasons', async t => {
  const failures: string[] = []
  await a.handle('/zg/strict/1', async stream => {
    try {
      await stream.read({ maxBytes: 1000, timeoutMs: 300 })
    } catch (err) {
      failures.push((err as { code: string }).code)
      throw err
    }
  })
  const over = await b.open(a.peerId, '/zg/strict/1')
  await over.write(new Uint8Array(1001))
  await waitFor(() => failures.length === 1, { what: 'the refusal' })
  await t.rejects(over.read(), { code: 'ERR_UNAVAILABLE' }, 'the stream was reset')

  // What our own writer would never send: a length of 2³²−1, and a frame that ends too early.
  const rough = await createLibp2p({ transports: [tcp()], connectionEncrypters: [noise()], streamMuxers: [yamux()] })
  const rawStream = () => rough.dialProtocol(multiaddr(a.addresses()[0]!), '/zg/strict/1')
  const raw = await rawStream()
  raw.send(u32be(0xffffffff))
  await waitFor(() => failures.length === 2, { what: 'the refusal of a huge length' })
  const cut = await rawStream()
  cut.send(concat(u32be(100), new Uint8Array(40)))
  await cut.close()
  await waitFor(() => failures.length === 3, { what: 'the refusal of a cut frame' })
  await rawStream()
  await waitFor(() => failures.length === 4, { what: 'the end of patience' })
  t.same(failures, ['ERR_PROTOCOL', 'ERR_PROTOCOL', 'ERR_PROTOCOL', 'ERR_TIMEOUT'])
  t.ok(a.peers().includes(rough.peerId.toString()), 'the connection outlives its streams')
  await rough.stop()
})

t.test('wrong peers, protocols, keys and addresses are told apart', async t => {
  await t.rejects(b.open(a.peerId, '/zg/none/1'), { code: 'ERR_PROTOCOL' })
  await t.rejects(b.dial('/ip4/127.0.0.1/tcp/1'), { code: 'ERR_UNAVAILABLE' })
  await t.rejects(b.dial('nowhere'), { code: 'ERR_BAD_INPUT' })
  await t.rejects(b.open('nobody', '/zg/echo/1'), { code: 'ERR_BAD_INPUT' })
  const taken = /\/tcp\/\d+/.exec(a.addresses()[0]!)![0]
  const options = { keyFile: join(temp, 'c.key'), topics: [] }
  await t.rejects(startP2p({ ...options, listen: [`/ip4/127.0.0.1${taken}`] }), { code: 'ERR_PORT_IN_USE' })
  chmodSync(options.keyFile, 0o644)
  await t.rejects(startP2p({ ...options, listen: [] }), { code: 'ERR_PERMISSION' })
  writeFileSync(options.keyFile, 'nonsense')
  chmodSync(options.keyFile, 0o600)
  await t.rejects(startP2p({ ...options, listen: [] }), { code: 'ERR_CORRUPT' })
})

t.test('a node that went away is found again, and closing leaves nothing', async t => {
  const port = /\/tcp\/\d+/.exec(a.addresses()[0]!)![0]
  const id = a.peerId
  await a.close()
  await a.close()
  await waitFor(() => b.peers().length === 0, { what: 'the loss' })
  const again = await startP2p({
    keyFile: join(temp, 'a', 'p2p.key'),
    listen: [`/ip4/127.0.0.1${port}`],
    topics: [TOPIC]
  })
  t.equal(again.peerId, id, 'the key file keeps the identity')
  await waitFor(() => b.peers().includes(id), { what: 'the redial' })
  await Promise.all([again.close(), b.close()])
  const left = (): string[] => process.getActiveResourcesInfo().filter(name => /^TCP|Server/.test(name))
  await waitFor(() => left().length === 0, { what: 'all sockets to be gone' })
  t.same(left(), [])
})
