/**
 * Proves zg-market and the client verbs of zg-compute from outside against a running network: the table and the records, states by
 * asking (live, stale, another model, a private address), hostile names, money in and out of the ledger, and each refusal with
 * its words and exit status.
 */
import { createServer } from 'node:http'
import * as ethers from 'ethers'
import t from 'tap'
import { isPrivate } from '../../cmd/zg-market/probe.ts'
import { inferenceServingAbi } from '../../lib/contracts/generated/abi.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { startNetwork } from '../harness/network.ts'
import { parseRecords, runTool } from '../harness/tools.ts'

const network = await startNetwork('market', ['--block-time', '200ms'])
t.teardown(() => network.stop())
const rpc = new ethers.JsonRpcProvider(network.rpc, 31337, {
  staticNetwork: true,
  pollingInterval: 50,
  cacheTimeout: -1
})
t.teardown(() => rpc.destroy())

const market = (...args: string[]) => runTool('zg-market', args, { env: network.env })
const compute = (...args: string[]) => runTool('zg-compute', args, { env: network.env })

/** Registers a service of a stranger. */
async function register(index: number, url: string, model: string): Promise<string> {
  const wallet = new ethers.Wallet(DEV_ACCOUNTS[index]!.privateKey, rpc)
  const abi = inferenceServingAbi as unknown as ethers.InterfaceAbi
  const serving = new ethers.Contract(network.contracts.inference!, abi, wallet)
  const params = ['chatbot', url, model, 'OpML', 5n, 7n, '{"TargetSeparated":false}', wallet.address]
  await (await serving.getFunction('addOrUpdateService').send(params, { value: ethers.parseEther('100') })).wait()
  const owner = serving.connect(new ethers.Wallet(DEV_ACCOUNTS[0]!.privateKey, rpc)) as ethers.Contract
  await (await owner.getFunction('acknowledgeTEESignerByOwner').send(wallet.address)).wait()
  return wallet.address
}

t.test('list and show: prices to the neuron, states by asking, strangers kept at bay', async t => {
  const other = createServer((_req, res) =>
    res.end(JSON.stringify({ object: 'list', data: [{ id: 'something-else' }] }))
  )
  await new Promise<void>(resolve => other.listen(0, '127.0.0.1', resolve))
  t.teardown(() => other.close())
  const { port } = other.address() as { port: number }
  const dead = await register(1, 'http://127.0.0.1:9', 'ghost')
  const liar = await register(2, `http://127.0.0.1:${port}`, 'big\u001b[31mmodel')
  await register(9, 'file:///etc/passwd', 'local')

  const rows = parseRecords((await market('list', '--json')).stdout)
  t.equal(rows.length, 4)
  t.match(rows[0], { type: 'market_service', provider: network.provider, state: 'live', model: 'tiny-zg' })
  t.match(rows[0]!.pricing, { prompt: '100000000000', promptPer1M: '0.1', completionPer1M: '0.2' })
  t.match(
    rows.find(r => r.provider === dead),
    { state: 'stale', reason: 'nobody listens there', flags: ['unreachable'] }
  )
  t.match(
    rows.find(r => r.provider === liar),
    { state: 'stale', flags: ['model-mismatch'] }
  )
  t.match(
    rows.find(r => r.model === 'local'),
    { state: 'stale', urlOk: false, flags: ['bad-url'] }
  )
  const table = (await market('list')).stdout
  t.notMatch(table, /\u001b/, 'names of strangers cannot paint the terminal')
  t.match(table, /^MODEL +PROVIDER +IN\/M +OUT\/M +STATE +VERIFY +URL$/m)
  t.equal(parseRecords((await market('list', '--live', '--json')).stdout).length, 1)
  const cheap = parseRecords((await market('list', '--sort', 'price', '--no-probe', '--json')).stdout)
  t.equal(cheap.at(-1)!.provider, network.provider, 'the dearest comes last')
  t.equal(cheap[0]!.state, null, 'nobody was asked')
  t.equal((await market('list', '--model', 'nothing')).code, 1)
  const one = await market('show', dead)
  t.match(one.stdout, /state +stale: nobody listens there/)
  const nobody = await market('show', '0x00000000000000000000000000000000000000aa')
  t.equal(nobody.code, 69)
  t.match(nobody.stderr, /no provider 0x.* is registered\nhint: run 'zg-market list'/)
  t.equal((await market('show', 'nonsense!')).code, 64)
  for (const address of [
    '127.0.0.1',
    '10.1.2.3',
    '169.254.169.254',
    '192.168.0.1',
    '::1',
    'fe80::1',
    'fd00::1',
    '::ffff:127.0.0.1'
  ])
    t.ok(isPrivate(address), address)
  for (const address of ['1.1.1.1', '2606:4700::1111']) t.notOk(isPrivate(address), address)
})

t.test('account: money in, to a provider, and back', async t => {
  const none = await compute('account', 'show', '--account', '1')
  t.equal(none.code, 1)
  t.match(none.stderr, 'next: zg-compute account deposit 3')
  const early = await compute('chat', 'hello', '--account', '1')
  t.equal(early.code, 77)
  t.match(early.stderr, /there is no ledger to pay from\nhint: run 'zg-compute account deposit 3'/)
  const little = await compute('account', 'deposit', '2', '--account', '1')
  t.equal(little.code, 76, little.stderr)
  t.equal((await compute('account', 'deposit', '4', '--account', '1')).code, 0)
  const asked = await compute('complete', 'The ship', '--account', '1', '--max-tokens', '4', '--json')
  t.equal(asked.code, 0, asked.stderr)
  t.match(parseRecords(asked.stdout).at(-1), { type: 'completion', signed: true, completion_tokens: 4 })
  const [ledger, sub] = parseRecords((await compute('account', 'show', '--account', '1', '--json')).stdout)
  t.match(ledger, { type: 'ledger', available_neuron: '2000000000000000000', total_neuron: '4000000000000000000' })
  t.match(sub, { type: 'sub_account', provider: network.provider, balance_neuron: '2000000000000000000' })
  t.ok(BigInt(sub!.unsettled_neuron as string) > 0n)
  const key = await compute('account', 'key', '--account', '1', '--id', '5')
  t.match(key.stdout, /^app-sk-/)
  t.equal((await compute('account', 'withdraw', '--account', '1')).code, 0)
  const refused = await compute('account', 'withdraw', '1.5', '--account', '1')
  t.equal(refused.code, 76, 'what stays must be nothing or 3 0G')
  t.match(refused.stderr, /at least 3 0G/)
  const self = await compute('chat', 'hello', '--account', '4')
  t.match(self.stderr, /a provider cannot be its own customer/)
})

t.test('chat and complete: pipes, refusals in words, a plain server', async t => {
  const piped = await runTool('zg-compute', ['chat', '--max-tokens', '6'], { env: network.env, input: 'The sea\n' })
  t.equal(piped.code, 0, piped.stderr)
  t.ok(piped.stdout.endsWith('\n') && piped.stdout.trim().length > 0)
  t.equal(piped.stderr, '', 'a pipe gets the answer and nothing else')
  const twice = await Promise.all(
    [1, 2].map(() => compute('complete', 'The sea', '--temperature', '0', '--max-tokens', '8'))
  )
  t.equal(twice[0]!.stdout, twice[1]!.stdout, 'greedy answers are the same')
  const long = await runTool('zg-compute', ['complete'], { env: network.env, input: 'word '.repeat(5000) })
  t.equal(long.code, 65)
  t.match(long.stderr, /prompt has \d+ tokens, 'tiny-zg' takes 512/)
  t.equal((await compute('chat', 'x', '--model', 'nothing')).code, 69)
  const gone = await compute('chat', 'x', '--provider', DEV_ACCOUNTS[1]!.address)
  t.equal(gone.code, 69)
  t.match(gone.stderr, /nobody listens at/)
  const unpaid = await compute('complete', 'x', '--url', `${network.compute}/v1`)
  t.equal(unpaid.code, 77, 'a paid provider has no unpaid path')
  t.match((await compute('models')).stdout, /^MODEL +CONTEXT +IN\/M +OUT\/M\ntiny-zg +512 +0\.1 0G +0\.2 0G$/m)
  t.equal((await runTool('zg-compute', ['complete'], { env: network.env, input: '' })).code, 64)
})
