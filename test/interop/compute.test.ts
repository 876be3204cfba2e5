/**
 * Proves that 0G's compute SDK, its command line and the `openai` client work unmodified against the built network: from an empty ledger
 * to the refund, streaming and not, signatures checked, fees exact to the neuron, and the pipe from `zg-market list` to `zg-compute chat`.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import * as ethers from 'ethers'
import OpenAI from 'openai'
import t from 'tap'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { startNetwork } from '../harness/network.ts'
import { endSoon, packageRoot, parseRecords, runTool, waitFor } from '../harness/tools.ts'

const network = await startNetwork('interop-compute', ['--block-time', '200ms'])
t.teardown(async () => {
  await network.stop()
  endSoon()
})

// The SDK's ES module build imports a file extension Node does not resolve by itself: its CommonJS build is what Node users load.
const sdk = createRequire(import.meta.url)('@0gfoundation/0g-compute-ts-sdk')
const provider = network.provider
const rpc = new ethers.JsonRpcProvider(network.rpc, 31337, {
  staticNetwork: true,
  pollingInterval: 100,
  cacheTimeout: -1
})
const user = new ethers.Wallet(DEV_ACCOUNTS[1]!.privateKey, rpc)
const OG = 10n ** 18n

/** What the user owes the provider and has not paid, by the provider's own word. */
async function unsettled(headers: Record<string, string>): Promise<bigint> {
  const res = await fetch(`${network.compute}/v1/user/${user.address}/unsettledfee`, { headers })
  return BigInt(((await res.json()) as { unsettledFee: string }).unsettledFee)
}

t.test('from an empty ledger to a verified answer', async t => {
  const broker = await sdk.createZGComputeNetworkBroker(user)
  await t.rejects(
    broker.ledger.getLedger(),
    /Account does not exist/,
    'a stranger has no ledger, in the SDK’s own words'
  )
  const services = await broker.inference.listService()
  t.equal(services.length, 1)
  const service = services[0]
  t.equal(service.provider, provider)
  t.equal(service.teeSignerAcknowledged, true)
  await t.rejects(broker.ledger.addLedger(2.9), 'the first deposit is at least 3 0G')
  await broker.ledger.addLedger(10)
  await broker.ledger.depositFund(2)
  t.equal((await broker.ledger.getLedger()).availableBalance, 12n * OG)
  await broker.ledger.transferFund(provider, 'inference', 3n * OG)
  await broker.inference.acknowledgeProviderSigner(provider)
  t.equal((await broker.inference.getAccount(provider)).balance, 3n * OG)
  const { endpoint, model } = await broker.inference.getServiceMetadata(provider)
  t.equal(endpoint, `${network.compute}/v1/proxy`)
  const models = (await (await fetch(`${network.compute}/v1/models`)).json()) as { data: { id: string }[] }
  t.ok(
    models.data.some(m => m.id === model),
    'the model on chain is served'
  )

  const headers = (await broker.inference.getRequestHeaders(provider)) as Record<string, string>
  const body = JSON.stringify({
    model,
    messages: [{ role: 'user', content: 'The ship sailed' }],
    max_tokens: 12,
    seed: 1
  })
  const before = await unsettled(headers)
  const res = await fetch(`${endpoint}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body
  })
  const bytes = new Uint8Array(await res.arrayBuffer())
  t.equal(res.status, 200, Buffer.from(bytes).toString())
  const after = await unsettled(headers)
  const answer = JSON.parse(Buffer.from(bytes).toString())
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage
  t.equal(total_tokens, prompt_tokens + completion_tokens)
  t.ok(completion_tokens > 0 && completion_tokens <= 12)
  const fee = BigInt(prompt_tokens) * service.inputPrice + BigInt(completion_tokens) * service.outputPrice
  t.equal(after - before, fee, 'the debt grew by usage times price, at once')
  const key = res.headers.get('zg-res-key')!
  t.equal(await broker.inference.processResponse(provider, key, JSON.stringify(answer.usage)), true)
  const record = (await (await fetch(`${endpoint}/signature/${key}`)).json()) as { text: string }
  const sha = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex')
  t.equal(record.text, `${sha(body)}:${sha(bytes)}`, 'the signed hashes are of the very bytes')
  const verdict = await broker.inference.verifyService(provider, network.box.dir)
  t.equal(verdict?.signerVerification?.allMatch ?? true, true, 'the quote names the signer')
  broker.inference.stopAutoFunding()
})

t.test('the openai client: streaming and not, keys made and revoked, refusals it understands', async t => {
  const broker = await sdk.createZGComputeNetworkBroker(user)
  const headers = (await broker.inference.getRequestHeaders(provider)) as { Authorization: string }
  const apiKey = headers.Authorization.replace('Bearer ', '')
  const client = new OpenAI({ baseURL: `${network.compute}/v1/proxy`, apiKey, maxRetries: 0 })
  const model = network.model
  const messages = [{ role: 'user' as const, content: 'It was a dark night' }]
  const whole = await client.chat.completions.create({ model, messages, max_tokens: 16, temperature: 0 })
  let streamed = ''
  let finish: string | null = null
  let usage: { prompt_tokens: number; completion_tokens: number } | undefined
  const stream = await client.chat.completions.create({
    model,
    messages,
    max_tokens: 16,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true }
  })
  for await (const chunk of stream) {
    streamed += chunk.choices[0]?.delta.content ?? ''
    finish = chunk.choices[0]?.finish_reason ?? finish
    if (chunk.usage) usage = chunk.usage
  }
  t.equal(streamed, whole.choices[0]!.message.content, 'streamed and whole text are the same')
  t.equal(finish, whole.choices[0]!.finish_reason)
  t.strictSame(
    { prompt_tokens: usage!.prompt_tokens, completion_tokens: usage!.completion_tokens },
    { prompt_tokens: whole.usage!.prompt_tokens, completion_tokens: whole.usage!.completion_tokens }
  )
  const debt = await unsettled({ Authorization: headers.Authorization })
  const quiet = await client.chat.completions.create({ model, messages, max_tokens: 4, temperature: 0, stream: true })
  for await (const chunk of quiet) t.notOk(chunk.usage, 'nobody asked for usage')
  t.ok((await unsettled({ Authorization: headers.Authorization })) > debt, 'it is billed all the same')
  const completion = await client.completions.create({ model, prompt: 'The captain', max_tokens: 8, temperature: 0 })
  t.type(completion.choices[0]!.text, 'string')
  const four = await Promise.all(
    [0, 1, 2, 3].map(seed => client.chat.completions.create({ model, messages, max_tokens: 8, seed }).withResponse())
  )
  t.equal(new Set(four.map(r => r.response.headers.get('zg-res-key'))).size, 4, 'four at once, four keys')

  const refused = async (params: object, status: number, code?: string): Promise<void> => {
    const err = await client.chat.completions.create({ model, messages, ...params } as never).then(
      () => undefined,
      e => e as InstanceType<typeof OpenAI.APIError>
    )
    t.equal(err?.status, status, JSON.stringify(params).slice(0, 60))
    if (code !== undefined) t.equal(err?.code, code)
  }
  const owed = await unsettled({ Authorization: headers.Authorization })
  await refused({ model: 'no-such-model' }, 404, 'model_not_found')
  await refused({ messages: [] }, 400)
  await refused({ messages: [{ role: 'user', content: 'word '.repeat(20_000) }] }, 400, 'context_length_exceeded')
  await refused({ max_tokens: -1 }, 400)
  for (const [key, status] of [
    ['app-sk-AAAA', 401],
    [`${apiKey.slice(0, -6)}${apiKey.at(-6) === 'A' ? 'B' : 'A'}${apiKey.slice(-5)}`, 401]
  ] as const) {
    const stranger = new OpenAI({ baseURL: `${network.compute}/v1/proxy`, apiKey: key, maxRetries: 0 })
    const err = await stranger.chat.completions.create({ model, messages }).then(
      () => undefined,
      e => e
    )
    t.equal(err?.status, status)
  }
  t.equal(await unsettled({ Authorization: headers.Authorization }), owed, 'refusals cost nothing')

  const secret = await broker.inference.requestProcessor.createApiKey(provider, { tokenId: 3 })
  const byKey = new OpenAI({
    baseURL: `${network.compute}/v1/proxy`,
    apiKey: secret.apiKey ?? secret.rawToken,
    maxRetries: 0
  })
  await byKey.chat.completions.create({ model, messages, max_tokens: 2 })
  await broker.inference.revokeApiKey(provider, 3)
  await waitFor(
    async () => {
      const err = await byKey.chat.completions.create({ model, messages, max_tokens: 1 }).catch(e => e)
      return err.status === 401
    },
    { timeoutMs: 10_000, everyMs: 250, what: 'the revoked key to be refused' }
  )
  t.pass('a revoked key is refused within ten seconds')
  broker.inference.stopAutoFunding()
})

t.test('the command line of the SDK lists the provider', async t => {
  const home = network.box.path('cli-home')
  mkdirSync(join(home, '.0g-compute-cli'), { recursive: true })
  writeFileSync(
    join(home, '.0g-compute-cli', 'config.json'),
    JSON.stringify({
      privateKey: DEV_ACCOUNTS[1]!.privateKey,
      rpcEndpoint: network.rpc,
      network: 'testnet',
      lastUpdated: 0
    })
  )
  const cli = join(packageRoot, 'test', 'interop', 'node_modules', '.bin', '0g-compute-cli')
  const env = { PATH: process.env.PATH, HOME: home, ZG_RPC_ENDPOINT: network.rpc, NO_COLOR: '1', FORCE_COLOR: '0' }
  const { stdout } = await promisify(execFile)(cli, ['inference', 'list-providers'], { env, timeout: 60_000 })
  t.match(stdout.toLowerCase(), provider.toLowerCase())
})

t.test('settled exactly once, then all money comes back', async t => {
  const broker = await sdk.createZGComputeNetworkBroker(user)
  const headers = (await broker.inference.getRequestHeaders(provider)) as Record<string, string>
  const owed = await unsettled(headers)
  t.ok(owed > 0n)
  const account = async (): Promise<bigint> => (await broker.inference.getAccount(provider)).balance
  const before = await account()
  const paidBefore = await rpc.getBalance(provider)
  const settled = await runTool('zg-compute', ['settle', '--json'], { env: network.env })
  t.equal(settled.code, 0, settled.stderr)
  t.equal(before - (await account()), owed, 'the sub-account paid what was owed')
  t.equal(await unsettled(headers), 0n)
  t.ok((await rpc.getBalance(provider)) > paidBefore - OG / 100n, 'the provider has it, less gas')
  const again = await runTool('zg-compute', ['settle', '--json'], { env: network.env })
  t.equal(again.code, 0, again.stderr)
  t.equal(before - (await account()), owed, 'a second settlement pays nothing')

  await broker.ledger.retrieveFund('inference')
  await rpc.send('evm_increaseTime', [86_500])
  await rpc.send('evm_mine', [])
  await broker.ledger.retrieveFund('inference')
  const ledger = await broker.ledger.getLedger()
  t.equal(ledger.availableBalance, ledger.totalBalance, 'nothing is left with the provider')
  t.equal(ledger.totalBalance, 12n * OG - owed)
  await t.rejects(broker.ledger.refund(Number((ledger.totalBalance - OG) / 10n ** 9n) / 1e9), /MinimumDepositRequired/)
  const contract = new ethers.Contract(
    network.contracts.ledger!,
    [
      'function refund(uint256 amount)',
      'function getLedger(address) view returns (tuple(address,uint256,uint256,string))'
    ],
    user
  )
  await (await contract.getFunction('refund').send(ledger.totalBalance)).wait()
  await t.rejects(broker.ledger.getLedger(), /Account does not exist/, 'the last refund deletes the ledger')
  broker.inference.stopAutoFunding()
})

t.test('tools pipe: the market finds the provider, chat asks it', async t => {
  const listed = await runTool('zg-market', ['list', '--model', network.model, '--json'], { env: network.env })
  t.equal(listed.code, 0, listed.stderr)
  const first = parseRecords(listed.stdout)[0]!
  t.equal(first.provider, provider)
  t.equal(first.state, 'live')
  const chat = await runTool(
    'zg-compute',
    ['chat', '--provider', first.provider as string, 'hello', '--max-tokens', '8', '--meter'],
    {
      env: network.env
    }
  )
  t.equal(chat.code, 0, chat.stderr)
  t.match(chat.stderr, /\d+ tokens?, .*0G, signed/)
  t.ok(chat.stdout.trim().length > 0)
  const shown = await runTool('zg-market', ['show', provider], { env: network.env })
  t.match(shown.stdout, /state +live/)
})
