/**
 * Proves the paid provider over HTTP against a real chain with the real contracts: who is refused and how, that answers are what was
 * signed, that fees are exact and there before the last byte is read, that revocation and withdrawal bite, and that over a thousand mixed
 * requests every user is charged usage × price to the neuron. The engine is a counter: what a model says does not matter here.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { type PaidOptions, type RunningServer, startServer } from '../../cmd/zg-compute/serve/server.ts'
import { normalPath } from '../../cmd/zg-compute/server/app.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import type { Account } from '../../lib/clients/accounts.ts'
import { ChainClient } from '../../lib/clients/chain.ts'
import { ComputeContracts } from '../../lib/clients/compute/contracts.ts'
import { encodeCall, inferenceAbi } from '../../lib/codec/compute/abi.ts'
import { checkQuote } from '../../lib/codec/compute/quote.ts'
import { verifyResponse } from '../../lib/codec/compute/response-signature.ts'
import { planSessionToken, type SessionToken, signSessionToken } from '../../lib/codec/compute/session-token.ts'
import { checksumAddress } from '../../lib/crypto/address.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { sandbox, startTool, waitFor } from '../harness/tools.ts'
import { testEngine } from './compute-engine.ts'

t.setTimeout(180_000)

const OG = 10n ** 18n
const PRICES = { inputPrice: 100_000_000_000n, outputPrice: 200_000_000_000n }
const dev = (i: number): Account => ({
  address: fromHex(DEV_ACCOUNTS[i]!.address),
  name: `${i}`,
  wellKnown: true,
  privateKey: async () => fromHex(DEV_ACCOUNTS[i]!.privateKey)
})
const silent = () => ({ error() {}, warn() {}, info() {}, debug() {} })
const PROVIDER = dev(4)

const box = sandbox('compute-broker')
const chainTool = await startTool(
  'zg-chain',
  ['node', '--dev', '--kind', 'network', '--block-time', '100ms', '--rpc-port', '0', '--dir', box.path('chain')],
  { env: box.env }
)
const client = new ChainClient(chainTool.url)
const contracts = await ComputeContracts.open(client)
const modelFile = box.path('model.gguf')
writeFileSync(modelFile, 'a model')
const engine = testEngine()

function start(opts: Partial<PaidOptions> = {}, more: { parallel?: number } = {}): Promise<RunningServer> {
  return startServer({
    modelPath: modelFile,
    openEngine: async () => engine,
    port: 0,
    host: '127.0.0.1',
    parallel: more.parallel ?? 8,
    adminPort: 0,
    log: silent,
    paid: {
      dir: box.path('provider'),
      chainUrl: chainTool.url,
      account: async () => PROVIDER,
      owner: async () => dev(0),
      prices: PRICES,
      stake: 100n * OG,
      minLocked: OG,
      maxChainAgeMs: 60_000,
      requestsPerMinute: 100_000,
      settleAfterMs: 3_600_000,
      settleSharePercent: 100,
      publicUrl: 'http://127.0.0.1:3080',
      ...opts
    }
  })
}

let server = await start()
await server.whenReady
t.teardown(async () => {
  await server.close()
  await chainTool.stop()
  box.remove()
})

const USERS = [1, 2, 3, 5].map(dev)
for (const user of USERS) {
  await contracts.deposit(user, 10n * OG)
  await contracts.transfer(user, PROVIDER.address, 3n * OG)
}

interface TokenChange extends Partial<SessionToken> {
  key?: Uint8Array
}

async function token(user: Account, change: TokenChange = {}): Promise<string> {
  const account = (await contracts.account(user.address, PROVIDER.address)) ?? { generation: 0n, revokedBitmap: 0n }
  const plan = planSessionToken(
    { mode: 'ephemeral' },
    { user: user.address, provider: PROVIDER.address, account, nowMs: Date.now(), random: 0.5 }
  )
  const { key, ...fields } = change
  return signSessionToken({ ...plan, ...fields }, key ?? (await user.privateKey())).authorization
}

interface Answered {
  status: number
  text: string
  json: any
  headers: Headers
}

async function call(path: string, body?: unknown, authorization?: string, method?: string): Promise<Answered> {
  const bytes = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  const res = await fetch(`${server.url}${path}`, {
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    headers: { 'content-type': 'application/json', ...(authorization === undefined ? {} : { authorization }) },
    ...(bytes === undefined ? {} : { body: bytes as string })
  })
  const text = await res.text()
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    // A stream.
  }
  return { status: res.status, text, json, headers: res.headers }
}

const CHAT = '/v1/proxy/chat/completions'
const hello = { messages: [{ role: 'user', content: 'hello hello' }], max_tokens: 5 }
const sha = (text: string): Uint8Array => new Uint8Array(createHash('sha256').update(text).digest())

async function unsettled(user: Account, authorization: string): Promise<bigint> {
  const { json } = await call(`/v1/user/${checksumAddress(user.address)}/unsettledfee`, undefined, authorization)
  return BigInt(json.unsettledFee)
}

async function signatureOk(a: Answered, request: unknown): Promise<boolean> {
  const { json } = await call(`/v1/proxy/signature/${a.headers.get('zg-res-key')}?model=x`)
  const signer = server.service.broker!.signer
  return verifyResponse(json, { signer, requestHash: sha(JSON.stringify(request)), responseHash: sha(a.text) }).ok
}

t.test('the service stands in the contract, acknowledged, and describes itself', async t => {
  const service = await contracts.service(PROVIDER.address)
  t.match(service, { model: 'test-model', serviceType: 'chatbot', teeSignerAcknowledged: true, ...PRICES })
  const { json } = await call('/v1/models')
  t.equal(json.data[0].id, service.model)
  t.same(json.data[0].pricing, { prompt: '100000000000', completion: '200000000000' })
  const quote = await call('/v1/quote')
  const check = checkQuote(quote.text, { signer: toHex(service.teeSigner), teeVerifier: 'dstack' })
  t.ok(check.signerAllMatch && check.composePassed)
  t.equal((await call('/ready')).status, 200)
  const metrics = await (await fetch(`http://127.0.0.1:${server.adminPort}/metrics`)).text()
  t.match(metrics, /zg_compute_unsettled_requests 0/)
  t.equal((await call('/metrics')).status, 404, 'not on the public port')
})

t.test('an answer, whole and streamed: signed as sent, charged exactly, at once', async t => {
  const user = USERS[0]!
  const auth = await token(user)
  let owed = await unsettled(user, auth)
  for (const path of [CHAT, '/v1/proxy/v1/chat/completions/', '/v1/chat/completions']) {
    const a = await call(path, hello, auth)
    t.equal(a.status, 200, path)
    t.match(a.json, { object: 'chat.completion', choices: [{ message: { content: 'w0 w1 w2 w3 w4 ' } }] })
    t.same(a.json.usage, { prompt_tokens: 3, completion_tokens: 5, total_tokens: 8 })
    owed += 3n * PRICES.inputPrice + 5n * PRICES.outputPrice
    t.equal(await unsettled(user, auth), owed, 'to the neuron')
    t.ok(await signatureOk(a, hello))
    t.equal(a.headers.get('provider'), checksumAddress(PROVIDER.address))
    const byId = await call(`/v1/proxy/signature/${a.json.id}`)
    t.equal(byId.status, 200, "by the answer's own id too")
  }
  for (const include of [true, false]) {
    const request = { ...hello, stream: true, ...(include ? { stream_options: { include_usage: true } } : {}) }
    const a = await call(CHAT, request, auth)
    owed += 3n * PRICES.inputPrice + 5n * PRICES.outputPrice
    t.equal(await unsettled(user, auth), owed, `billed ${include ? 'with' : 'without'} usage`)
    t.ok(await signatureOk(a, request))
    const events = a.text.split('\n\n').filter(Boolean)
    t.equal(events.at(-1), 'data: [DONE]')
    const chunks = events.slice(0, -1).map(e => JSON.parse(e.slice(6)))
    t.equal(new Set(chunks.map(c => c.id)).size, 1)
    t.equal(chunks.map(c => c.choices[0]?.delta.content ?? '').join(''), 'w0 w1 w2 w3 w4 ')
    t.equal(
      chunks.some(c => c.usage !== undefined && c.usage !== null),
      include
    )
  }
  const many = { prompt: ['abcdefgh', 'xyz'], n: 2, max_tokens: 3 }
  const a = await call('/v1/completions', many, auth)
  t.equal(a.json.choices.length, 4)
  t.same(a.json.usage, { prompt_tokens: 3, completion_tokens: 12, total_tokens: 15 }, 'each prompt counts once')
  owed += 3n * PRICES.inputPrice + 12n * PRICES.outputPrice
  t.equal(await unsettled(user, auth), owed)
})

t.test('refusals: 4xx with an error, nothing begun and nothing charged', async t => {
  const user = USERS[1]!
  const auth = await token(user)
  const before = engine.begun
  const huge = JSON.stringify({ ...hello, pad: 'x'.repeat(33 * 1024 * 1024) })
  const long = { messages: [{ role: 'user', content: 'x'.repeat(20_000) }] }
  const table: [what: string, status: number, answer: Answered][] = [
    ['no header', 401, await call(CHAT, hello)],
    ['AAAA', 401, await call(CHAT, hello, 'Bearer app-sk-AAAA')],
    ['other signer', 401, await call(CHAT, hello, await token(user, { key: await USERS[0]!.privateKey() }))],
    ['other provider', 403, await call(CHAT, hello, await token(user, { provider: checksumAddress(user.address) }))],
    ['expired', 401, await call(CHAT, hello, await token(user, { timestamp: 5, expiresAt: 10 }))],
    ['without end', 401, await call(CHAT, hello, await token(user, { expiresAt: 0 }))],
    ['generation to come', 401, await call(CHAT, hello, await token(user, { generation: 1 }))],
    ['stranger', 402, await call(CHAT, hello, await token(dev(8)))],
    ['other model', 404, await call(CHAT, { ...hello, model: 'gpt' }, auth)],
    ['half a body', 400, await call(CHAT, '{', auth)],
    ['no messages', 400, await call(CHAT, {}, auth)],
    ['empty messages', 400, await call(CHAT, { messages: [] }, auth)],
    ['messages of a wrong type', 400, await call(CHAT, { messages: 'x' }, auth)],
    ['long prompt', 400, await call(CHAT, long, auth)],
    ['unknown route', 404, await call('/v1/proxy/videos', {}, auth)],
    ['embeddings', 404, await call('/v1/embeddings', {}, auth)],
    ['wrong method', 405, await call(CHAT, undefined, auth)],
    ["another's fee", 403, await call(`/v1/user/${checksumAddress(USERS[0]!.address)}/unsettledfee`, undefined, auth)],
    ['fee without token', 401, await call(`/v1/user/${checksumAddress(user.address)}/unsettledfee`)],
    ['unknown signature', 404, await call('/v1/proxy/signature/00000000-0000-4000-8000-000000000000')],
    ['33 MiB', 413, await call(CHAT, huge, auth)]
  ]
  for (const [what, status, answer] of table) {
    t.equal(answer.status, status, what)
    t.ok(answer.json?.error !== undefined, `${what}: an error in JSON`)
    if (answer.headers !== undefined) t.equal(answer.headers.get('zg-failure-source'), 'client')
  }
  const tooLong = await call(CHAT, long, auth)
  t.equal(tooLong.json.error.code, 'context_length_exceeded')
  t.match(tooLong.json.error.message, /5000 tokens.*4096/)
  t.equal(engine.begun, before)
  t.equal(await unsettled(user, auth), 0n)
  const preflight = await call(CHAT, undefined, undefined, 'OPTIONS')
  t.equal(preflight.status, 204)
  t.match(preflight.headers.get('access-control-allow-headers'), /Authorization/)
  t.equal(normalPath('//v1/proxy/v1/videos//'), '/v1/proxy/videos')
})

t.test('what is reserved cannot be spent twice; a client that leaves pays for what was made', async t => {
  const user = USERS[2]!
  const auth = await token(user)
  let held = 0
  let open: () => void = () => {}
  const gate = new Promise<void>(resolve => {
    open = resolve
  })
  engine.onToken = async index => {
    if (index < 3) return
    held++
    await gate
  }
  const stop = new AbortController()
  const left = fetch(`${server.url}${CHAT}`, {
    method: 'POST',
    headers: { authorization: auth },
    body: JSON.stringify({ ...hello, max_tokens: 100, stream: true }),
    signal: stop.signal
  })
  const reader = (await left).body!.getReader()
  await reader.read()
  await waitFor(() => held > 0)
  t.ok(server.service.broker!.gate.reserved > 100n * PRICES.outputPrice, 'held while it runs')
  stop.abort()
  await waitFor(() => [...server.service.running].every(run => run.signal.aborted), { what: 'the server to notice' })
  open()
  engine.onToken = () => {}
  await waitFor(() => server.service.running.size === 0)
  const fee = 3n * PRICES.inputPrice + 3n * PRICES.outputPrice
  t.equal(await unsettled(user, auth), fee, 'three tokens were made')
  t.equal(server.service.broker!.gate.reserved, 0n)
})

t.test('a slow reader holds the engine back, not the memory', async t => {
  const auth = await token(USERS[0]!)
  let made = 0
  engine.onToken = () => {
    made++
  }
  // Tokens that come fast share an event: what one of them has beside its text is little.
  engine.padding = 'x'.repeat(1000)
  const body = JSON.stringify({
    messages: [{ role: 'user', content: 'x' }],
    max_tokens: 4000,
    stream: true,
    logprobs: false
  })
  const socket = connect(server.port, '127.0.0.1')
  await once(socket, 'connect')
  socket.pause()
  const many = 8
  const request = { ...JSON.parse(body), n: many }
  const text = JSON.stringify(request)
  socket.write(
    `POST ${CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${auth}\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
  )
  await waitFor(() => made > 100)
  let last = -1
  // Buffers of the kernel fill up, then nothing moves.
  await waitFor(
    () => {
      const still = made === last
      last = made
      return still
    },
    { everyMs: 300, timeoutMs: 20_000 }
  )
  t.ok(made < 4000 * many, `${made} of ${4000 * many} tokens made for a reader that reads nothing`)
  socket.destroy()
  engine.onToken = () => {}
  engine.padding = ''
  await waitFor(() => server.service.running.size === 0)
})

t.test('a revoked key and a withdrawal bite within ten seconds', async t => {
  const user = USERS[3]!
  const key = await token(user, { tokenId: 7, expiresAt: 0 })
  const auth = await token(user)
  t.equal((await call(CHAT, hello, key)).status, 200)
  const send = async (data: Uint8Array): Promise<void> => {
    const to = fromHex(contracts.addresses.inferenceServing)
    const hash = await client.send(user, { to, data })
    await client.waitReceipt(hash)
  }
  await send(encodeCall(inferenceAbi(), 'revokeToken', [PROVIDER.address, 7]))
  const began = Date.now()
  await waitFor(async () => (await call(CHAT, hello, key)).status === 401, { what: 'the key to be refused' })
  t.ok(Date.now() - began < 10_000)
  t.equal((await call(CHAT, hello, auth)).status, 200, 'other tokens still serve')
  await contracts.retrieve(user, [PROVIDER.address])
  let refused: Answered | undefined
  await waitFor(async () => {
    refused = await call(CHAT, hello, auth)
    return refused.status === 402
  })
  t.match(refused!.json.error.message, /insufficient balance/)
  // A debtor who asks for his money back is settled without being told.
  await waitFor(() => server.service.broker!.book.unsettled(user.address) === 0n, { what: 'settlement after a refund' })
  await send(encodeCall(inferenceAbi(), 'revokeAllTokens', [PROVIDER.address]))
  await waitFor(async () => (await call(CHAT, hello, auth)).status === 401)
})

t.test(
  'a thousand mixed requests at parallelism 8: charged = usage × price for each user',
  { timeout: 120_000 },
  async t => {
    const users = USERS.slice(0, 3)
    const auths = await Promise.all(users.map(u => token(u)))
    const before = await Promise.all(users.map((u, i) => unsettled(u, auths[i]!)))
    const charged = users.map(() => 0n)
    const seed = 20_260_101
    t.comment(`seed ${seed}`)
    let next = 0
    const worker = async (): Promise<void> => {
      for (let i = next++; i < 1_000; i = next++) {
        const who = (i * seed) % 3
        const content = 'x'.repeat(1 + ((i * 7919) % 400))
        const max_tokens = 1 + ((i * 104_729) % 12)
        const stream = i % 2 === 0
        const n = 1 + (i % 3)
        const extra = { max_tokens, n, stream, ...(stream ? { stream_options: { include_usage: true } } : {}) }
        const chat = i % 4 < 2
        const request = chat ? { messages: [{ role: 'user', content }], ...extra } : { prompt: content, ...extra }
        const a = await call(chat ? CHAT : '/v1/proxy/completions', request, auths[who]!)
        if (a.status !== 200) throw new Error(`request ${i}: ${a.status} ${a.text}`)
        const usage = stream ? JSON.parse(a.text.split('\n\n').at(-3)!.slice(6)).usage : a.json.usage
        charged[who]! +=
          BigInt(usage.prompt_tokens) * PRICES.inputPrice + BigInt(usage.completion_tokens) * PRICES.outputPrice
        if (i % 100 === 0) t.ok(await signatureOk(a, request))
      }
    }
    await Promise.all(Array.from({ length: 8 }, worker))
    for (const [i, user] of users.entries())
      t.equal((await unsettled(user, auths[i]!)) - before[i]!, charged[i]!, `user ${i}`)
  }
)

t.test('settled on chain: every balance falls by what was owed; signatures outlive a restart', async t => {
  const a = await call(CHAT, hello, await token(USERS[0]!))
  const id = a.headers.get('zg-res-key')
  const owed = USERS.map(u => server.service.broker!.book.unsettled(u.address))
  const balance = async (u: Account): Promise<bigint> =>
    (await contracts.account(u.address, PROVIDER.address))?.balance ?? 0n
  const before = await Promise.all(USERS.map(balance))
  await server.close()
  t.ok(existsSync(join(box.path('provider'), 'signer.key')))
  const stakeBefore = await client.balance(PROVIDER.address)
  server = await start({ socket: box.path('admin.sock') })
  await server.whenReady
  t.ok(stakeBefore - (await client.balance(PROVIDER.address)) < OG / 100n, 'registered already: nothing sent')
  t.same(
    USERS.map(u => server.service.broker!.book.unsettled(u.address)),
    owed,
    'debts outlive it too'
  )
  t.equal((await call(`/v1/proxy/signature/${id}`)).status, 200)
  await settleNow()
  for (const [i, user] of USERS.entries()) {
    t.equal(before[i]! - (await balance(user)), owed[i]!, `user ${i}`)
    t.equal(server.service.broker!.book.unsettled(user.address), 0n)
  }
  await settleNow()
  for (const [i, user] of USERS.entries()) t.equal(before[i]! - (await balance(user)), owed[i]!, 'not twice')
})

t.test('when too many wait, the next is told to come back', async t => {
  await server.close()
  server = await start({}, { parallel: 1 })
  await server.whenReady
  const auth = await token(USERS[0]!)
  let open: () => void = () => {}
  const gate = new Promise<void>(resolve => {
    open = resolve
  })
  engine.onToken = () => gate
  const parallel = 70
  const calls = Array.from({ length: parallel }, () => call(CHAT, hello, auth))
  const first = await Promise.race(calls)
  t.equal(first.status, 429, 'more than one user may have under way')
  t.ok(Number(first.headers.get('retry-after')) >= 1)
  engine.onToken = () => {}
  open()
  const answers = await Promise.all(calls)
  t.equal(answers.filter(a => a.status === 200).length, 64)
  t.equal(answers.filter(a => a.status === 429).length, parallel - 64)
})

t.test('the plain server: same answers, no token, no provider routes', async t => {
  const plain = await startServer({
    modelPath: modelFile,
    openEngine: async () => engine,
    port: 0,
    host: '127.0.0.1',
    parallel: 2,
    log: silent
  })
  await plain.whenReady
  const get = (path: string, body?: unknown): Promise<Response> =>
    fetch(`${plain.url}${path}`, body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) })
  const chat = await get('/v1/chat/completions', hello)
  t.equal(chat.status, 200)
  t.equal(chat.headers.get('zg-res-key'), null)
  t.match(await chat.json(), { choices: [{ message: { content: 'w0 w1 w2 w3 w4 ' }, finish_reason: 'length' }] })
  t.equal((await get('/v1/proxy/chat/completions', hello)).status, 404)
  t.equal((await get('/v1/quote')).status, 404)
  t.match(await (await get('/tokenize', { content: 'abcdefgh' })).json(), { tokens: [98, 102], count: 2 })
  t.equal((await get('/detokenize', { tokens: [1, 'x'] })).status, 400)
  t.equal((await get('/v1/models/test-model')).status, 200)
  t.equal((await get('/v1/models/other')).status, 404)
  await plain.close()
})

/** `admin_settle` over the provider's socket. */
async function settleNow(): Promise<void> {
  const socket = connect(box.path('admin.sock'))
  socket.write('{"jsonrpc":"2.0","id":1,"method":"admin_settle","params":[]}')
  let text = ''
  for await (const part of socket) {
    text += part
    if (text.includes('\n')) break
  }
  const answer = JSON.parse(text) as { error?: unknown; result?: { skipped: unknown[] } }
  if (answer.error !== undefined) throw new Error(text)
}
