/**
 * Proves the JSON-RPC edge with raw sockets and bytes: envelopes, batches, ids of every kind, limits, hostile bodies, slow
 * clients, WebSocket and Unix socket, Host check, CORS, and a stop that leaves nothing open. The short way of `POST /` and Node's HTTP
 * server get the same hostile bytes and must answer alike; pipelined calls come back in order whatever way they take.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { HttpError, listenHttp, sendError } from '../../lib/adapters/http.ts'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { FAST_HEADER_BYTES, readHead } from '../../lib/adapters/jsonrpc/fast.ts'
import { serveRpc } from '../../lib/adapters/jsonrpc/server.ts'
import {
  JsonText,
  RpcError,
  type RpcMethods,
  type RpcServer,
  type RpcServerOptions
} from '../../lib/adapters/jsonrpc/types.ts'
import { JsonSplitter } from '../../lib/adapters/jsonrpc/unix.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { LIMITS } from '../../lib/base/limits.ts'

const bugs: string[] = []
const methods: RpcMethods = {
  echo: params => params,
  fail: () => {
    throw new RpcError(-32000, 'no', 'why')
  },
  bug: () => {
    throw new TypeError('secret inner text')
  },
  badInput: () => {
    throw new ZgError('ERR_BAD_INPUT', 'root is not hex')
  },
  raw: () => new JsonText('{"made":"before"}'),
  slow: params => new Promise(resolve => setImmediate(() => resolve(params[0]))),
  big: () => 'x'.repeat(3_000_000),
  push: (_, ctx) => {
    for (let i = 0; i < 3; i++) ctx.notify?.('tick', { i })
    return true
  },
  wait: (_, ctx) => new Promise(resolve => ctx.signal.addEventListener('abort', () => resolve('aborted')))
}

/** Calls of `meet` under way; the third sends all home, the later ones first. */
const meeting: (() => void)[] = []
methods.meet = params =>
  new Promise((resolve, reject) => {
    meeting.push(() => (params[0] === 'refused' ? reject(new RpcError(-32000, 'refused')) : resolve(params[0])))
    if (meeting.length === 3) for (const go of meeting.splice(0).reverse()) go()
  })
methods.met = () => meeting.length

const dir = mkdtempSync(join(tmpdir(), 'zg-rpc-'))
const socketPath = join(dir, 'rpc.sock')
const server = await serveRpc({
  methods,
  together: new Set(['meet']),
  port: 0,
  websocket: true,
  fast: true,
  socketPath,
  cors: 'any',
  onBug: m => bugs.push(m)
})
const url = server.url!
t.teardown(async () => {
  await server.close()
  rmSync(dir, { recursive: true, force: true })
})

async function post(body: string, headers: Record<string, string> = {}): Promise<{ status: number; text: string }> {
  const res = await fetch(url, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } })
  return { status: res.status, text: await res.text() }
}

const json = async (body: unknown): Promise<any> => JSON.parse((await post(JSON.stringify(body))).text)

t.test('answers calls, echoes ids exactly and keeps errors at HTTP 200', async t => {
  t.strictSame(await json({ jsonrpc: '2.0', id: 7, method: 'echo', params: [1, 'a', null] }), {
    jsonrpc: '2.0',
    id: 7,
    result: [1, 'a', null]
  })
  t.match(
    (await post('{"jsonrpc":"2.0","id":17954575632293802,"method":"echo"}')).text,
    '"id":17954575632293802',
    'ids beyond 2^53 come back as sent'
  )
  for (const id of ['text', null, 0, -1.5]) t.strictSame((await json({ id, method: 'echo' })).id, id)
  t.strictSame((await json({ id: 1, method: 'fail' })).error, { code: -32000, message: 'no', data: 'why' })
  t.equal((await json({ id: 1, method: 'nope' })).error.code, -32601)
  t.equal((await json({ id: 1, method: 'badInput' })).error.code, -32602)
  for (const name of ['__proto__', 'constructor', 'toString'])
    t.equal((await json({ id: 1, method: name })).error.code, -32601, `${name} is no method`)
})

t.test('an unexpected exception says nothing of its inside and is reported', async t => {
  t.strictSame((await json({ id: 1, method: 'bug' })).error, { code: -32603, message: 'internal error' })
  t.ok(bugs.includes('bug'))
})

t.test('malformed requests get the standard codes', async t => {
  const code = async (body: string): Promise<number> => JSON.parse((await post(body)).text).error.code
  t.equal(await code('{'), -32700)
  t.equal(await code(''), -32700)
  t.equal(await code('[]'), -32600)
  t.equal(await code('7'), -32600)
  t.equal(await code('{"id":{},"method":"echo"}'), -32600)
  t.equal(await code('{"id":1}'), -32600)
  t.equal(await code('{"id":1,"method":"echo","params":5}'), -32602)
  t.equal(
    await code(`{"id":1,"method":"echo","params":${'['.repeat(100_000)}${']'.repeat(100_000)}}`),
    -32600,
    'nested 100,000 deep'
  )
})

t.test('batches answer in order, notifications stay silent, limits hold', async t => {
  const answers = await json([{ id: 1, method: 'echo', params: [1] }, { method: 'echo' }, 5, { id: 2, method: 'nope' }])
  t.strictSame(
    answers.map((a: { id: unknown }) => a.id),
    [1, null, 2]
  )
  const silent = await post('[{"method":"echo"}]')
  t.strictSame(silent, { status: 200, text: '' })
  t.equal(
    (await json(Array.from({ length: LIMITS.rpcBatchCalls + 1 }, (_, id) => ({ id, method: 'echo' })))).error.code,
    -32005
  )
  const large = await json(Array.from({ length: 12 }, (_, id) => ({ id, method: 'big' })))
  t.equal(large.length, 12, 'one answer for each call, also beyond the bound')
  t.ok(large.slice(0, 8).every((a: { result?: string }) => a.result?.length === 3_000_000))
  t.equal(large[11].error.code, -32005)
})

t.test('neighbours that may begin together do, what follows them waits for all', { timeout: 20_000 }, async t => {
  const answers = await json([
    { id: 0, method: 'met' },
    { id: 1, method: 'meet', params: ['a'] },
    { id: 2, method: 'meet', params: ['refused'] },
    { id: 3, method: 'meet', params: ['c'] },
    { id: 'x', method: 'nope' }
  ])
  t.strictSame(
    answers.map((a: { id: unknown; result?: unknown; error?: { code: number } }) => [a.id, a.result ?? a.error?.code]),
    [
      [0, 0],
      [1, 'a'],
      [2, -32000],
      [3, 'c'],
      ['x', -32601]
    ]
  )
  const many = Array.from({ length: 999 }, (_, id) => ({ id, method: 'meet', params: [id] }))
  const all = await json([...many, { id: 'last', method: 'met' }])
  t.strictSame(
    all.map((a: { id: unknown }) => a.id),
    [...many.map(c => c.id), 'last']
  )
  t.equal(all[999].result, 0, 'none is under way when the next method begins')
})

t.test('bodies above the bound are refused early, by length and by count', async t => {
  const announced = await post('x'.repeat(LIMITS.httpBodyBytes + 1)).catch(err => ({ status: 0, text: String(err) }))
  t.ok(announced.status === 413 || announced.status === 0, 'announced length')
  const chunked = await raw(
    `POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n${`100000\r\n${'y'.repeat(0x100000)}\r\n`.repeat(6)}`
  )
  t.match(chunked, / 413 /, 'counted length')
  t.equal((await json({ id: 1, method: 'echo', params: [] })).id, 1, 'the server goes on')
})

t.test('who is refused within his body reads the answer, not a reset', async t => {
  const refusing = await listenHttp({
    port: 0,
    handler: (req, res) => sendError(req, res, new HttpError(413, 'ERR_BAD_INPUT', 'too much of it'))
  })
  t.teardown(() => refusing.close())
  for (const pieces of [1, 20, 200]) {
    // As simple clients do: write everything, then read.
    const socket = connect(refusing.port, '127.0.0.1')
    socket.pause()
    const piece = Buffer.alloc(65_536, 'x')
    socket.write(`PUT /x HTTP/1.1\r\nhost: localhost\r\ncontent-length: ${pieces * piece.length}\r\n\r\n`)
    for (let i = 0; i < pieces; i++) await new Promise(resolve => socket.write(piece, resolve))
    const text = await new Promise<string>(resolve => {
      let got = ''
      socket.on('data', d => {
        got += d
      })
      socket.on('error', err => resolve(`${err}`))
      socket.on('end', () => resolve(got))
      socket.resume()
    })
    t.match(text, /^HTTP\/1\.1 413 .*too much of it/s, `${pieces} pieces`)
    socket.destroy()
  }
})

/** Writes bytes to the port and answers all that comes back until the server closes or says something. */
function raw(text: string): Promise<string> {
  return new Promise(resolve => {
    const socket = connect(server.port!, '127.0.0.1')
    let got = ''
    socket.on('data', d => {
      got += d
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve(got))
    socket.write(text)
    setTimeout(() => socket.destroy(), 3000).unref()
  })
}

t.test('oversized headers, foreign hosts and preflights', async t => {
  t.match(await raw(`GET / HTTP/1.1\r\nhost: localhost\r\nx: ${'h'.repeat(20_000)}\r\n\r\n`), / 431 /)
  t.match(
    await raw('POST / HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}'),
    / 403 /
  )
  const preflight = await fetch(url, { method: 'OPTIONS', headers: { 'access-control-request-headers': 'x-a' } })
  t.equal(preflight.status, 204)
  t.equal(preflight.headers.get('access-control-allow-origin'), '*')
  t.equal((await fetch(`${url}/x`)).status, 404)
})

t.test('WebSocket: calls, notifications, bounds', async t => {
  const ws = new WebSocket(url.replace('http', 'ws'))
  const got: any[] = []
  ws.on('message', d => got.push(JSON.parse(String(d))))
  await new Promise(resolve => ws.once('open', resolve))
  ws.send('{"id":1,"method":"push"}')
  await until(() => got.length === 4)
  t.strictSame(
    got.slice(0, 3).map(m => m.params.i),
    [0, 1, 2]
  )
  t.equal(got[3].result, true)
  const closed = new Promise<number>(resolve => ws.once('close', resolve))
  ws.send('x'.repeat(LIMITS.wsMessageBytes + 1))
  t.equal(await closed, 1009, 'a message above the bound closes the connection')
})

t.test('WebSocket: a foreign Host is refused at the upgrade', async t => {
  const ws = new WebSocket(url.replace('http', 'ws'), { headers: { host: 'evil.example' } })
  const outcome = await new Promise<string>(resolve => {
    ws.once('open', () => resolve('open'))
    ws.once('error', err => resolve(err.message))
  })
  t.match(outcome, /401|403|400/)
})

t.test('Unix socket: private, messages with and without newlines, split anywhere', async t => {
  t.equal(statSync(socketPath).mode & 0o777, 0o600)
  const socket = connect(socketPath)
  let text = ''
  socket.on('data', d => {
    text += d
  })
  socket.write('{"id":1,"method":"echo","params":["}{\\"]"]}{"id":2,"meth')
  socket.write('od":"echo"}\n\n[{"id":3,"method":"echo"}]')
  await until(() => text.split('\n').length === 4)
  t.strictSame(
    text
      .trim()
      .split('\n')
      .map(l => [JSON.parse(l)].flat()[0].id),
    [1, 2, 3]
  )
  socket.write('garbage')
  await until(() => socket.readableEnded || socket.destroyed)
  t.match(text, '-32700')
  await t.rejects(serveRpc({ methods, socketPath }), { code: 'ERR_LOCKED' }, 'a live socket is not taken over')
})

t.test('the splitter is bounded', async t => {
  const splitter = new JsonSplitter(1000)
  t.strictSame(splitter.push(Buffer.from('{"a":')), [])
  t.equal(splitter.push(Buffer.from('1'.repeat(2000))), undefined)
})

t.test('a taken port is one clear error', async t => {
  await t.rejects(serveRpc({ methods, port: server.port! }), {
    code: 'ERR_PORT_IN_USE',
    message: `port ${server.port} is in use`
  })
})

t.test('the client tells refused, silent and wrong servers apart', async t => {
  const client = new RpcClient(url, { what: 'chain' })
  t.strictSame(await client.call('echo', [1]), [1])
  await t.rejects(client.call('fail'), { code: -32000, data: 'why' })
  const [a, b] = await client.batch([{ method: 'echo', params: [2] }, { method: 'fail' }])
  t.strictSame(a, [2])
  t.ok(b instanceof RpcError)
  await t.rejects(client.call('wait', [], { timeoutMs: 50 }), { code: 'ERR_TIMEOUT' })
  const abort = new AbortController()
  const waiting = client.call('wait', [], { signal: abort.signal })
  abort.abort()
  await t.rejects(waiting, { code: 'ERR_STOPPED' })
  await t.rejects(new RpcClient('http://127.0.0.1:1').call('x'), { code: 'ERR_UNAVAILABLE' })
})

t.test('stopping aborts what waits and closes within the grace time', async t => {
  const other = await serveRpc({ methods, port: 0, websocket: true })
  const waiting = new RpcClient(other.url!).call('wait')
  await until(async () => (await new RpcClient(other.url!).call('echo')) !== undefined)
  await other.close()
  t.equal(await waiting, 'aborted', 'a call in flight is answered')
  await t.rejects(new RpcClient(other.url!).call('echo'), { code: 'ERR_UNAVAILABLE' })
})

async function until(cond: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 5000
  while (!(await cond())) {
    if (Date.now() > deadline) throw new Error('condition not met in 5 s')
    await new Promise(resolve => setImmediate(resolve))
  }
}

/** A server with the short way and one without, for one comparison. */
async function pair(t: Test, opts: Partial<RpcServerOptions> = {}): Promise<{ short: RpcServer; plain: RpcServer }> {
  const short = await serveRpc({ methods, port: 0, fast: true, ...opts })
  const plain = await serveRpc({ methods, port: 0, ...opts })
  t.teardown(() => Promise.all([short.close(), plain.close()]))
  return { short, plain }
}

/** Writes the parts, each when the one before has left, and answers what came back when the other side closed or `done` says so. */
function exchange(
  port: number,
  parts: (string | Uint8Array)[],
  opts: { end?: boolean; done?: (got: string) => boolean } = {}
): Promise<{ text: string; closed: boolean }> {
  return new Promise(resolve => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    let text = ''
    const finish = (closed: boolean): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve({ text, closed })
    }
    const timer = setTimeout(() => finish(false), 5_000)
    socket.on('data', d => {
      text += d.toString('latin1')
      if (opts.done?.(text)) finish(false)
    })
    socket.on('end', () => finish(true))
    socket.on('error', () => {})
    socket.on('close', () => finish(true))
    void (async () => {
      for (const part of parts) {
        await new Promise(sent => socket.write(part, sent))
        await new Promise(sent => setImmediate(sent))
      }
      if (opts.end) socket.end()
    })()
  })
}

const call = (id: number, method = 'echo', params: unknown[] = []): string => JSON.stringify({ id, method, params })
const http = (body: string, headers: string[] = []): string =>
  ['POST / HTTP/1.1', 'Host: localhost', ...headers, `Content-Length: ${Buffer.byteLength(body)}`, '', body].join(
    '\r\n'
  )
const bodies = (text: string): string[] => text.split(/HTTP\/1\.1 [0-9]+ [\s\S]*?\r\n\r\n/).slice(1)
const statuses = (text: string): number[] => [...text.matchAll(/HTTP\/1\.1 ([0-9]+)/g)].map(m => Number(m[1]))

t.test('the short way takes plain requests only, byte for byte as it says', async t => {
  const opts = { bodyBytes: 1000, allowedHosts: ['node.example'] }
  const head = (...lines: string[]): number | undefined =>
    readHead(['POST / HTTP/1.1', ...lines].join('\r\n'), opts)?.bodyBytes
  t.equal(head('Host: localhost:8545', 'Content-Length: 7'), 7)
  t.equal(head('content-length:7', 'HOST: node.example', 'x: y'), 7, 'names in any case, a blank or none')
  t.equal(head('Host: 127.0.0.1', 'Content-Length: 1000', 'Connection: Keep-Alive'), 1000)
  for (const [why, lines] of [
    ['no length', ['Host: a.localhost']],
    ['no host', ['Content-Length: 7']],
    ['two lengths', ['Host: localhost', 'Content-Length: 7', 'Content-Length: 7']],
    ['a list of lengths', ['Host: localhost', 'Content-Length: 7, 7']],
    ['a signed length', ['Host: localhost', 'Content-Length: +7']],
    ['a hex length', ['Host: localhost', 'Content-Length: 0x7']],
    ['no digits', ['Host: localhost', 'Content-Length: ']],
    ['nothing to read', ['Host: localhost', 'Content-Length: 0']],
    ['too long', ['Host: localhost', 'Content-Length: 1001']],
    ['two hosts', ['Host: localhost', 'Host: localhost', 'Content-Length: 7']],
    ['a foreign host', ['Host: evil.example', 'Content-Length: 7']],
    ['chunks', ['Host: localhost', 'Content-Length: 7', 'Transfer-Encoding: chunked']],
    ['chunks under a cloak', ['Host: localhost', 'Content-Length: 7', 'Transfer-Encoding : chunked']],
    ['expectations', ['Host: localhost', 'Content-Length: 7', 'Expect: 100-continue']],
    ['an upgrade', ['Host: localhost', 'Content-Length: 7', 'Upgrade: websocket']],
    ['a last request', ['Host: localhost', 'Content-Length: 7', 'Connection: close']],
    ['a folded line', ['Host: localhost', 'x: a', ' b', 'Content-Length: 7']],
    ['a bare line feed', ['Host: localhost', 'x: a\ny: b', 'Content-Length: 7']],
    ['a bare carriage return', ['Host: localhost', 'x: a\ry: b', 'Content-Length: 7']],
    ['a NUL', ['Host: localhost', 'x: \0', 'Content-Length: 7']],
    ['a byte above ASCII', ['Host: localhost', 'x: \xff', 'Content-Length: 7']],
    ['no colon', ['Host: localhost', 'x', 'Content-Length: 7']],
    ['no name', ['Host: localhost', ': x', 'Content-Length: 7']]
  ] as const)
    t.equal(head(...lines), undefined, why)
  for (const line of ['POST  / HTTP/1.1', 'POST / HTTP/1.0', 'GET / HTTP/1.1', 'POST /x HTTP/1.1', 'POST / HTTP/1.1 '])
    t.equal(readHead(`${line}\r\nHost: localhost\r\nContent-Length: 7`, opts), undefined, line)
})

t.test('hostile and odd requests are answered as by Node alone', async t => {
  const { short, plain } = await pair(t, { cors: 'any' })
  const body = call(1)
  const request = (line: string, ...headers: string[]): string => [line, ...headers, '', body].join('\r\n')
  const length = `Content-Length: ${body.length}`
  const cases: Record<string, (string | Uint8Array)[]> = {
    plain: [http(body)],
    'two lengths': [request('POST / HTTP/1.1', 'Host: localhost', length, 'Content-Length: 5')],
    'a length that is none': [request('POST / HTTP/1.1', 'Host: localhost', 'Content-Length: 1e2')],
    'length and chunks': [request('POST / HTTP/1.1', 'Host: localhost', length, 'Transfer-Encoding: chunked')],
    'bare line feeds': [`POST / HTTP/1.1\nHost: localhost\n${length}\n\n${body}`],
    'a folded header': [request('POST / HTTP/1.1', 'Host: localhost', 'x: a', ' b', length)],
    'no host': [request('POST / HTTP/1.1', length)],
    'a foreign host': [request('POST / HTTP/1.1', 'Host: evil.example', length)],
    chunked: [
      `POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
    ],
    'another path': [request('GET /x HTTP/1.1', 'Host: localhost')],
    preflight: ['OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a.example\r\n\r\n'],
    'a header block that is too large': [
      request('POST / HTTP/1.1', 'Host: localhost', `x: ${'h'.repeat(20_000)}`, length)
    ],
    'a large header block that is allowed': [
      request('POST / HTTP/1.1', 'Host: localhost', `x: ${'h'.repeat(FAST_HEADER_BYTES)}`, length)
    ],
    'a body that is too large': [
      request('POST / HTTP/1.1', 'Host: localhost', `Content-Length: ${LIMITS.httpBodyBytes + 1}`)
    ],
    garbage: [Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])],
    'header by header': ['POST / HTTP/1.1\r\n', 'Host: localhost\r\n', `${length}\r\n`, '\r\n', body],
    'a plain one, then an odd one': [http(call(1)), `POST / HTTP/1.1\r\nHost: evil.example\r\n${length}\r\n\r\n${body}`]
  }
  for (const [name, parts] of Object.entries(cases)) {
    const wanted = name.includes(', then ') ? 2 : 1
    const done = (got: string): boolean => {
      const [first, ...rest] = got.split('\r\n\r\n').filter(Boolean)
      return statuses(got).length === wanted && (first?.includes(' 204 ') || rest.at(-1)?.endsWith('}') || false)
    }
    const [a, b] = await Promise.all([short, plain].map(s => exchange(s.port!, parts, { done })))
    const strip = (got: string): string[] => bodies(got)
    t.equal(statuses(a!.text).length, wanted, `${name} is answered`)
    t.same(statuses(a!.text), statuses(b!.text), `${name}: ${statuses(a!.text)}`)
    t.same(strip(a!.text), strip(b!.text), `${name}: the same answer`)
  }
})

t.test('pipelined calls are answered in order, in any cut, on one connection', async t => {
  const { short } = await pair(t)
  const order = [
    call(1),
    call(2, 'slow', ['x']),
    call(3),
    call(4, 'slow', ['ü']),
    call(5, 'nope'),
    call(6, 'echo', ['ü'])
  ]
  const stream = Buffer.from(order.map(body => http(body)).join(''))
  const seen = async (parts: Uint8Array[]): Promise<unknown[]> => {
    const { text } = await exchange(short.port!, parts, {
      done: got => statuses(got).length === 6 && got.endsWith('}')
    })
    return bodies(text).map(b => JSON.parse(Buffer.from(b, 'latin1').toString('utf8')))
  }
  const whole = await seen([stream])
  t.same(
    whole.map(a => (a as { id: number }).id),
    [1, 2, 3, 4, 5, 6]
  )
  t.match(whole[5], { result: ['ü'] }, 'lengths count bytes, not characters')
  for (let at = 1; at < stream.length; at += 7) {
    const got = await seen([stream.subarray(0, at), stream.subarray(at)])
    if (JSON.stringify(got) !== JSON.stringify(whole)) t.same(got, whole, `cut at ${at}`)
  }
  t.pass('every cut gives the same')
})

t.test('half-open clients get their answer; a result that is JSON already is passed through', async t => {
  const { short } = await pair(t)
  const one = await exchange(short.port!, [http(call(1, 'slow', [7]))], { end: true })
  t.match(one.text, /"result":7/)
  t.equal(one.closed, true, 'and then the server closes too')
  const cut = await exchange(short.port!, ['POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{'], {
    end: true
  })
  t.equal(cut.closed, true, 'half a body and nothing more: closed')
  t.notMatch(cut.text, /result/)
  const raw = await exchange(short.port!, [http(call(1, 'raw'))], { done: got => got.endsWith('}') })
  t.match(raw.text, /"result":\{"made":"before"\}\}$/)
})

t.test('a client that sends slowly or takes nothing is dropped; others are served meanwhile', async t => {
  const server = await serveRpc({ methods, port: 0, fast: true })
  t.teardown(() => server.close())
  const stuck = connect({ port: server.port!, host: '127.0.0.1' })
  stuck.on('error', () => {})
  // 40 answers of 3 MB that nobody reads: the server must stop reading the calls, not collect the answers.
  stuck.write(Array.from({ length: 40 }, (_, i) => http(call(i, 'big'))).join(''))
  stuck.pause()
  const before = process.memoryUsage().rss
  for (let i = 0; i < 50; i++)
    t.equal(await new RpcClient(server.url!).call('echo', [i]).then(r => (r as number[])[0]), i)
  t.ok(process.memoryUsage().rss - before < 64 * 1024 * 1024, 'memory stays')
  stuck.destroy()
  const slow = await exchange(server.port!, ['POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n'], {
    done: () => true
  })
  t.equal(slow.text, '', 'nothing is answered before the body is there')
})

t.test('stopping ends idle connections of the short way and finishes what runs', async t => {
  const server = await serveRpc({ methods, port: 0, fast: true })
  const idle = exchange(server.port!, [http(call(1))])
  const waiting = exchange(server.port!, [http(call(2, 'wait'))])
  await until(async () => (await new RpcClient(server.url!).call('echo')) !== undefined)
  const began = performance.now()
  await server.close()
  t.ok(performance.now() - began < LIMITS.shutdownMs, 'without waiting for the idle one')
  t.match(await idle, { closed: true })
  t.match((await waiting).text, /"result":"aborted"/)
})

t.test(
  'a connection is kept longer than its client is told, so that a client that was busy does not send into its end',
  async t => {
    t.ok(LIMITS.httpKeepAliveCloseMs >= 10 * LIMITS.httpKeepAliveMs, 'by far')
    const { short, plain } = await pair(t)
    const until = LIMITS.httpKeepAliveMs + LIMITS.httpCheckIntervalMs + 500
    const twice = ({ port }: RpcServer): Promise<string> =>
      new Promise(resolve => {
        const socket = connect({ port: port!, host: '127.0.0.1', noDelay: true })
        let text = ''
        let timer: NodeJS.Timeout | undefined
        socket.on('data', d => {
          text += d.toString('latin1')
          if (statuses(text).length === 2) socket.destroy()
          // The time itself is what is tested: past the announced one, and past the next look at deadlines.
          else timer ??= setTimeout(() => socket.write(http(call(2))), until)
        })
        socket.on('error', () => {})
        socket.on('close', () => {
          clearTimeout(timer)
          resolve(text)
        })
        socket.write(http(call(1)))
      })
    for (const text of await Promise.all([short, plain].map(twice))) {
      t.same(statuses(text), [200, 200])
      t.equal(text.match(/^keep-alive: timeout=5\r$/gim)?.length, 2, 'announced as before')
    }
    const last = await exchange(plain.port!, [http(call(1), ['Connection: close'])])
    t.match(last, { closed: true })
    t.notMatch(last.text, /timeout=/, 'nothing of the kind on the last answer')
  }
)

t.test('a server that asks for a token answers 401 without one', async t => {
  const server = await serveRpc({ methods, port: 0, fast: true, authorize: header => header === 'Bearer right' })
  t.teardown(() => server.close())
  const ask = (headers: Record<string, string>): Promise<Response> =>
    fetch(server.url!, { method: 'POST', body: call(1), headers })
  t.equal((await ask({})).status, 401)
  t.equal((await ask({ authorization: 'Bearer wrong' })).status, 401)
  t.match(await (await ask({ authorization: 'Bearer right' })).json(), { id: 1 })
})
