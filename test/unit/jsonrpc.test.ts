/**
 * Proves the JSON-RPC edge with raw sockets and bytes: envelopes, batches, ids of every kind, limits, hostile bodies, slow
 * clients, WebSocket and Unix socket, Host check, CORS, and a stop that leaves nothing open.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { WebSocket } from 'ws'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { serveRpc } from '../../lib/adapters/jsonrpc/server.ts'
import { RpcError, type RpcMethods } from '../../lib/adapters/jsonrpc/types.ts'
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
  big: () => 'x'.repeat(3_000_000),
  push: (_, ctx) => {
    for (let i = 0; i < 3; i++) ctx.notify?.('tick', { i })
    return true
  },
  wait: (_, ctx) => new Promise(resolve => ctx.signal.addEventListener('abort', () => resolve('aborted')))
}

const dir = mkdtempSync(join(tmpdir(), 'zg-rpc-'))
const socketPath = join(dir, 'rpc.sock')
const server = await serveRpc({ methods, port: 0, websocket: true, fast: true, socketPath, cors: 'any', onBug: m => bugs.push(m) })
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

t.test('bodies above the bound are refused early, by length and by count', async t => {
  const announced = await post('x'.repeat(LIMITS.httpBodyBytes + 1)).catch(err => ({ status: 0, text: String(err) }))
  t.ok(announced.status === 413 || announced.status === 0, 'announced length')
  const chunked = await raw(
    `POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n${`100000\r\n${'y'.repeat(0x100000)}\r\n`.repeat(6)}`
  )
  t.match(chunked, / 413 /, 'counted length')
  t.equal((await json({ id: 1, method: 'echo', params: [] })).id, 1, 'the server goes on')
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
