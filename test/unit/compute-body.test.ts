/**
 * Proves what holds between a stream of an answer and its reader, on virtual time and a real socket: silence is broken by a comment every
 * 15 s, a reader that takes nothing for a minute is cut off and one that takes something is not, what waits behind him is bounded, and the
 * hash is that of the bytes on the wire.
 */
import { createHash } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { AnswerBody, SLOW_READER_MS } from '../../cmd/zg-compute/server/body.ts'
import { SimClock } from '../../lib/sim/clock.ts'
import { waitFor } from '../harness/tools.ts'

interface Exchange {
  clock: SimClock
  body: AnswerBody
  res: ServerResponse
  client: Socket
  /** Everything the client has read. */
  read(): Buffer
}

/** A stream whose reader reads only while it is told to. */
async function exchange(t: Test): Promise<Exchange> {
  const clock = new SimClock()
  let res: ServerResponse | undefined
  const server = createServer((_, answer) => {
    res = answer
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const parts: Buffer[] = []
  client.on('data', part => parts.push(part))
  client.on('error', () => {})
  client.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
  await waitFor(() => res !== undefined, { what: 'the request' })
  t.teardown(() => {
    client.destroy()
    server.close()
  })
  const body = new AnswerBody(res!, clock)
  body.startStream({ 'X-Test': 'yes' })
  return { clock, body, res: res!, client, read: () => Buffer.concat(parts) }
}

/** The content of chunked transfer coding. */
function content(raw: Buffer): string {
  let rest = raw.subarray(raw.indexOf('\r\n\r\n') + 4)
  const out: Buffer[] = []
  while (rest.length > 0) {
    const end = rest.indexOf('\r\n')
    const size = Number.parseInt(rest.toString('latin1', 0, end), 16)
    out.push(rest.subarray(end + 2, end + 2 + size))
    rest = rest.subarray(end + 4 + size)
  }
  return Buffer.concat(out).toString()
}

/** Writes until the socket takes no more; the promise is the write that waits. */
async function fill(x: Exchange): Promise<{ write: Promise<void> }> {
  const text = `data: ${'x'.repeat(64 * 1024)}\n\n`
  x.client.pause()
  for (let i = 0; i < 2_000; i++) {
    let done = false
    const write = x.body.write(text).then(() => {
      done = true
    })
    await x.clock.advance(0)
    await new Promise(resolve => setImmediate(resolve))
    if (!done) return { write }
  }
  throw new Error('the socket takes everything')
}

t.test('a comment every 15 s, in the hash like every other byte', async t => {
  const x = await exchange(t)
  await x.body.write('data: one\n\n')
  await x.clock.advance(14_999)
  await x.body.write('data: two\n\n')
  await x.clock.advance(30_001)
  await x.body.quiet()
  await x.clock.advance(120_000)
  const last = Buffer.from('data: [DONE]\n\n')
  const hash = x.body.hashWith(last)
  x.body.end(last)
  await new Promise(resolve => x.client.once('close', resolve))
  const text = content(x.read())
  t.equal(text, 'data: one\n\ndata: two\n\n: keep-alive\n\n: keep-alive\n\ndata: [DONE]\n\n')
  t.strictSame(hash, new Uint8Array(createHash('sha256').update(text).digest()))
})

t.test('a reader that takes nothing for a minute is cut off, and nothing waits for him any more', async t => {
  const x = await exchange(t)
  const stuck = await fill(x)
  const held = x.res.writableLength
  await x.clock.advance(SLOW_READER_MS - 1)
  t.notOk(x.body.gone, 'not before')
  t.equal(x.res.writableLength, held, 'no comment is put behind what waits')
  await x.clock.advance(1)
  t.ok(x.body.gone)
  await stuck.write
  await x.body.write('data: later\n\n')
  await x.body.quiet()
  x.body.end(Buffer.from('data: [DONE]\n\n'))
  x.client.resume()
  await new Promise(resolve => x.client.once('close', resolve))
  t.notMatch(x.read().toString('latin1'), 'later')
  t.equal(x.clock.next(), undefined, 'no timer is left')
})

t.test('a reader that comes back in time gets every byte', async t => {
  const x = await exchange(t)
  const stuck = await fill(x)
  await x.clock.advance(SLOW_READER_MS - 1)
  x.client.resume()
  await stuck.write
  await x.clock.advance(SLOW_READER_MS - 16_000)
  t.notOk(x.body.gone)
  await x.body.quiet()
  const last = Buffer.from('data: [DONE]\n\n')
  const hash = x.body.hashWith(last)
  x.body.end(last)
  await new Promise(resolve => x.client.once('close', resolve))
  t.strictSame(hash, new Uint8Array(createHash('sha256').update(content(x.read())).digest()))
})

t.test('a reader that leaves frees what waits for him', async t => {
  const x = await exchange(t)
  const stuck = await fill(x)
  x.client.destroy()
  await stuck.write
  t.ok(x.body.gone)
  await x.body.quiet()
  t.equal(x.clock.next(), undefined, 'no timer is left')
})
