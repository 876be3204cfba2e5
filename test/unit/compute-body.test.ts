/**
 * Proves what holds between a stream of an answer and its reader, on virtual time and a real socket: silence is broken by a comment every
 * 15 s, a reader that takes nothing for a minute is cut off and one that takes something is not, what waits behind him is bounded, and the
 * hash is that of the bytes on the wire. And how steps become events: joined in order, the first at once, the others at most once an
 * interval, and never held back where tokens come slower than that.
 */
import { createHash } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { AnswerBody, SLOW_READER_MS } from '../../cmd/zg-compute/server/body.ts'
import { Pacer, Pieces } from '../../cmd/zg-compute/server/pace.ts'
import { ChatChunks, CompletionChunks } from '../../lib/infer/openai-answer.ts'
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

const head = { id: 'chatcmpl-1', created: 1, model: 'm' }
const parsed = (events: string): { delta?: object; text?: string; logprobs: unknown }[] =>
  events
    .split('\n\n')
    .filter(e => e !== '')
    .map(
      e => (JSON.parse(e.slice('data: '.length)) as { choices: { delta?: object; logprobs: unknown }[] }).choices[0]!
    )

t.test('steps are joined to as few events as keep their order', async t => {
  let calls = 0
  const pieces = new Pieces(new ChatChunks(head, false), 0, () => `call_${calls++}`)
  const rest = (x: object): void => pieces.rest({ text: '', ...x })
  rest({ reasoning: 'so ' })
  rest({ reasoning: 'then' })
  pieces.text('a', [])
  pieces.text('', [])
  pieces.text('"\n', [])
  rest({ call: { index: 0, name: 'f', arguments: '' } })
  rest({ call: { index: 0, arguments: '{"x":' } })
  rest({ call: { index: 0, arguments: '1}' } })
  rest({ call: { index: 1, name: 'g', arguments: '' } })
  rest({ call: { index: 1, arguments: '{}' } })
  const call = (index: number, id: string, name: string): object => ({
    tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }]
  })
  const more = (index: number, text: string): object => ({ tool_calls: [{ index, function: { arguments: text } }] })
  t.strictSame(
    parsed(pieces.take()).map(c => c.delta),
    [
      { reasoning_content: 'so then' },
      { content: 'a"\n' },
      call(0, 'call_0', 'f'),
      more(0, '{"x":1}'),
      call(1, 'call_1', 'g'),
      more(1, '{}')
    ]
  )
  t.equal(pieces.take(), '', 'nothing is told twice')
  rest({ call: { index: 1, arguments: ' ' } })
  t.strictSame(
    parsed(pieces.take()).map(c => c.delta),
    [more(1, ' ')]
  )
})

t.test('odds of joined tokens are listed one by one', async t => {
  const odds = (token: string) => ({ id: 1, logprob: -1, bytes: new TextEncoder().encode(token), top: [] })
  const pieces = new Pieces(new CompletionChunks({ ...head, id: 'cmpl-1' }, false), 0, () => '')
  pieces.text('ab', [odds('ab')])
  pieces.text('', [odds('\xc3')])
  pieces.text('c', [odds('c')])
  const [one, ...others] = parsed(pieces.take())
  t.equal(others.length, 0)
  t.equal(one!.text, 'abc')
  t.match(one!.logprobs, { token_logprobs: [-1, -1, -1], text_offset: [0, 2, 3] })
})

t.test('a stream that is held back is called at the next tick, one timer for all', async t => {
  const clock = new SimClock()
  const pacer = new Pacer(clock, 20)
  const sent: string[] = []
  t.ok(pacer.due(Number.NEGATIVE_INFINITY), 'the first token leaves at once')
  const at = clock.monotonic()
  await clock.advance(19)
  t.notOk(pacer.due(at))
  for (const name of ['a', 'b', 'c']) pacer.hold(() => sent.push(name))
  await clock.advance(19)
  t.strictSame(sent, [])
  t.ok(pacer.due(at), 'slower tokens leave at once')
  await clock.advance(1)
  t.strictSame(sent, ['a', 'b', 'c'])
  t.equal(clock.next(), undefined, 'no timer is left')
  t.ok(new Pacer(clock, 0).due(clock.monotonic()), 'without an interval every token leaves at once')
})
