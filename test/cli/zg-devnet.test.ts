/**
 * Proves zg-devnet from outside, with the built launcher: up, status, env, connect, fund, accounts, contracts, logs, doctor, restart,
 * kill, stop, start, down; two networks side by side; a taken port; a second up; a crashed child restarted with its last lines; and that neither
 * SIGTERM nor SIGKILL of `up` leaves a process behind.
 */
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { promisify } from 'node:util'
import t from 'tap'
import { alive } from '../../lib/clients/network.ts'
import { startNetwork } from '../harness/network.ts'
import { parseRecords, runTool, sandbox, waitFor } from '../harness/tools.ts'

const network = await startNetwork('cli')
t.teardown(() => network.stop())

const run = (args: string[], env: Record<string, string> = network.env) =>
  runTool('zg-devnet', args, { env, timeoutMs: 60_000 })

t.test('up announces each service and the network as records', async t => {
  const records = network.up.records()
  const names = records.filter(r => r.type === 'service').map(r => r.name)
  const signers = [0, 1, 2, 3].map(i => `signer-${i}`)
  t.strictSame(names, ['chain', 'store-0', 'store-1', 'indexer', 'kv', ...signers, 'retriever', 'da', 'compute'])
  // Signers and retriever are parts of `da`.
  t.match(
    records.find(r => r.type === 'network_ready'),
    { name: 'cli', chainId: 31337, services: 7, accounts: 10 }
  )
})

t.test('status is a table for people, records for scripts, and an exit code', async t => {
  const human = await run(['status'])
  t.equal(human.code, 0, human.stderr)
  t.match(human.stdout, /^SERVICE\s+STATE\s+PROGRESS\s+PORT\s+PID/)
  const rows = parseRecords((await run(['status', '--json'])).stdout)
  t.equal(rows.length, 12)
  for (const r of rows) t.match(r, { type: 'service', state: 'ready', restarts: 0 })
  t.equal((await run(['status', '--quiet'])).stdout, '')
  const none = await run(['status', '--name', 'nobody'])
  t.equal(none.code, 69)
  t.match(none.stderr, "network 'nobody' is not running")
})

t.test('env is what a shell can eval, in each format', async t => {
  const sh = await run(['env', '--keys'])
  const { stdout } = await promisify(execFile)('sh', ['-c', `${sh.stdout}\nenv`])
  for (const name of [
    'ETH_RPC_URL',
    'ETH_WS_URL',
    'ZG_NETWORK',
    'ZG_STORE_INDEXER',
    'ZG_STORE_NODES',
    'ZG_STORE_KV',
    'ZG_FLOW',
    'ZG_DA_DISPERSER',
    'ZG_DA_RETRIEVER',
    'ZG_DA_ENTRANCE',
    'LEDGER_CA',
    'INFERENCE_CA',
    'FINE_TUNING_CA',
    'ZG_PROVIDER',
    'OPENAI_BASE_URL',
    'OPENAI_API_KEY=app-sk-',
    'PRIVATE_KEY'
  ])
    t.match(stdout, name.includes('=') ? name : `${name}=`)
  t.notMatch((await run(['env'])).stdout, 'PRIVATE_KEY', 'keys only on demand')
  t.equal(JSON.parse((await run(['env', '--format', 'json'])).stdout).ETH_RPC_URL, network.rpc)
  t.match((await run(['env', '--format', 'fish'])).stdout, /^set -gx /)
  t.match((await run(['env', '--format', 'dotenv'])).stdout, /^ZG_NETWORK=cli$/m)
  t.equal((await run(['env', '--format', 'xml'])).code, 64)
})

t.test('accounts, contracts and connect print what stands there', async t => {
  const accounts = parseRecords((await run(['accounts', '--json'])).stdout)
  t.equal(accounts.length, 10)
  t.equal(accounts[9]!.balance_neuron, '10000000000000000000000')
  t.notOk('private_key' in accounts[0]!)
  const contracts = parseRecords((await run(['contracts', '--json'])).stdout)
  t.ok(contracts.length >= 10)
  t.equal(contracts.find(c => c.name === 'flow')!.address, network.flow)
  for (const tool of ['cast', 'hardhat', 'viem', 'ethers', '0g-ts-sdk', 'metamask']) {
    const { code, stdout } = await run(['connect', tool])
    t.equal(code, 0)
    t.match(stdout, tool === '0g-ts-sdk' ? network.indexer : network.rpc, tool)
  }
  const typo = await run(['connect', 'hardhta'])
  t.equal(typo.code, 64)
  t.match(typo.stderr, "did you mean 'hardhat'?")
})

t.test('fund pays an address and says what it has now', async t => {
  const address = '0x00000000000000000000000000000000000000f1'
  const funded = await run(['fund', address, '2.5', '--json'])
  t.equal(funded.code, 0, funded.stderr)
  t.match(parseRecords(funded.stdout)[0], {
    type: 'funded',
    amount_neuron: '2500000000000000000',
    balance_neuron: '2500000000000000000'
  })
  t.equal((await run(['fund', '0x12'])).code, 65)
  t.equal((await run(['fund', address, 'much'])).code, 64)
  const greedy = await run(['fund', address, '100000'])
  t.equal(greedy.code, 77)
  t.match(greedy.stderr, /the faucet has/)
})

t.test('logs are merged by time and nothing on a good path is an error', async t => {
  const all = await run(['logs', '--json'])
  const records = parseRecords(all.stdout)
  t.ok(records.length > 5)
  const times = records.map(r => Date.parse(String(r.time))).filter(n => !Number.isNaN(n))
  t.strictSame(
    times,
    [...times].sort((a, b) => a - b)
  )
  t.strictSame(
    records.filter(r => r.level === 'error'),
    []
  )
  t.ok(parseRecords((await run(['logs', 'chain', '--json'])).stdout).every(r => r.service === 'chain'))
  t.equal((await run(['logs', 'chian'])).code, 64)
})

t.test('doctor finds everything in order', async t => {
  const { code, stdout, stderr } = await run(['doctor', '--json'])
  t.equal(code, 0, stdout + stderr)
  const checks = parseRecords(stdout)
  t.ok(checks.length >= 10)
  t.strictSame(
    checks.filter(c => c.result === 'fail'),
    []
  )
  for (const name of ['store_end_to_end', 'da_end_to_end', 'compute_end_to_end'])
    t.ok(
      checks.some(c => c.name === name),
      name
    )
})

t.test('one service stops until it is restarted, and the others go on', async t => {
  const down = await run(['down', 'signer-3'])
  t.equal(down.code, 0, down.stderr)
  t.match(down.stderr, 'next: zg-devnet restart signer-3')
  const rows = parseRecords((await run(['status', '--json'])).stdout)
  t.equal(rows.find(r => r.name === 'signer-3')!.state, 'stopped')
  t.equal(rows.filter(r => r.state === 'ready').length, 11)
  t.equal((await run(['restart', 'signer-3'])).code, 0)
  t.equal((await run(['status', '--quiet'])).code, 0)
  t.equal((await run(['down', 'signer-9'])).code, 76, 'an unknown service is refused by the network')
})

t.test('failures on purpose: what is killed or stopped stays down until it is started', async t => {
  const row = async (name: string) => parseRecords((await run(['status', '--json'])).stdout).find(r => r.name === name)!
  const pid = await network.pid('store-1')
  const killed = await run(['kill', 'store-1', 'kv'])
  t.equal(killed.code, 0, killed.stderr)
  t.match(killed.stderr, 'next: zg-devnet start store-1')
  t.notOk(alive(pid), 'it is gone when the verb returns')
  t.match(await row('store-1'), { state: 'stopped', pid: 0, reason: 'killed' })
  t.notOk(network.up.stderr().includes('kv crashed'), 'nobody is alarmed')
  t.equal((await run(['stop', 'indexer'])).code, 0)
  t.match(await row('indexer'), { state: 'stopped', reason: null })
  const wiped = await run(['start', 'indexer', 'store-1', '--wipe', '--json'])
  t.equal(wiped.code, 0, wiped.stderr)
  t.match(await row('store-1'), { state: 'ready', restarts: 1 })
  t.match(await row('kv'), { state: 'stopped' }, 'the others are left as they are')
  const running = await run(['start', 'store-1', '--wipe'])
  t.equal(running.code, 75)
  t.match(running.stderr, 'store-1 is running')
  t.equal((await run(['start', 'kv'])).code, 0)
  const before = await network.pid('kv')
  t.equal((await run(['kill', 'kv', '--restart'])).code, 0)
  await waitFor(async () => (await row('kv')).state === 'ready' && (await row('kv')).pid !== before, {
    timeoutMs: 30_000,
    what: 'kv to come back by itself'
  })
  const typo = await run(['kill', 'store-11'])
  t.equal(typo.code, 64)
  t.match(typo.stderr, "did you mean 'store-1'?")
  t.equal((await run(['kill'])).code, 64, 'a name is needed')
})

t.test('a second up of the same network is refused, and so is a taken port', async t => {
  const again = await run(['up', '--name', 'cli'])
  t.equal(again.code, 75)
  t.match(again.stderr, /is running already \(pid \d+\)\nhint: /)
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  t.teardown(() => server.close())
  const taken = await run(['up', '--name', 'other', '--port-base', `${port}`])
  t.equal(taken.code, 78)
  const named = new RegExp(`port ${port} is in use by .*\\(pid ${process.pid}\\)`)
  t.match(taken.stderr, named)
  // The same where the mark of the block is taken, too.
  const mark = createServer().on('error', () => {})
  mark.listen(port + 99, '127.0.0.1')
  t.teardown(() => mark.close())
  await new Promise(resolve => setImmediate(resolve))
  t.match((await run(['up', '--name', 'other', '--port-base', `${port}`])).stderr, named)
})

t.test('a killed child is reported with its last lines and restarted', async t => {
  const before = await network.pid('store-1')
  process.kill(before, 'SIGKILL')
  await waitFor(
    async () => {
      const rows = parseRecords((await run(['status', '--json'])).stdout)
      const row = rows.find(r => r.name === 'store-1')!
      return row.state === 'ready' && row.pid !== before && Number(row.restarts) >= 1
    },
    { timeoutMs: 30_000, what: 'store-1 to be back' }
  )
  t.match(network.up.stderr(), /store-1 crashed \(signal SIGKILL\), last lines:/)
})

t.test('restart gives a service a new process and keeps the others', async t => {
  const [kv, chain] = [await network.pid('kv'), await network.pid('chain')]
  const restarted = await run(['restart', 'kv'])
  t.equal(restarted.code, 0, restarted.stderr)
  t.not(await network.pid('kv'), kv)
  t.equal(await network.pid('chain'), chain)
  const typo = await run(['restart', 'kvv'])
  t.equal(typo.code, 64)
  t.match(typo.stderr, "did you mean 'kv'?")
})

t.test('two networks side by side, detached, data kept over a restart, nothing left after down', async t => {
  const box = sandbox('detached')
  t.teardown(() => box.remove())
  const up = await run(['up', '--name', 'two', '--detach', '--json'], box.env)
  t.equal(up.code, 0, up.stderr)
  const file = () => JSON.parse(readFileSync(box.path('run', 'zg', 'two', 'network.json'), 'utf8'))
  const pids: number[] = [file().pid, ...file().services.map((s: { pid: number }) => s.pid)]
  t.not(file().endpoints.rpc, network.rpc, 'other ports')
  await run(['fund', '0x00000000000000000000000000000000000000f2', '3', '--name', 'two'], box.env)
  const down = await run(['down', '--name', 'two'], box.env)
  t.equal(down.code, 0, down.stderr)
  t.match(down.stderr, `its data stays in ${box.path('data', 'zg', 'two')}`)
  await waitFor(() => !pids.some(alive), { what: 'all processes to end' })
  t.equal((await run(['down', '--name', 'two'], box.env)).code, 1, 'a second down is a plain no')
  t.equal((await run(['up', '--name', 'two', '--detach'], box.env)).code, 0)
  const balance = await runTool('zg-chain', ['balance', '0x00000000000000000000000000000000000000f2', '--json'], {
    env: { ...box.env, ZG_NETWORK: 'two' }
  })
  t.equal(parseRecords(balance.stdout)[0]!.balance_neuron, '3000000000000000000')
  const left: number[] = [file().pid, ...file().services.map((s: { pid: number }) => s.pid)]
  process.kill(left[0]!, 'SIGKILL')
  await waitFor(() => !left.some(alive), { timeoutMs: 30_000, what: 'children to notice that up was killed' })
  t.equal(execFileSync('ps', ['-eo', 'args']).toString().includes(box.dir), false, 'no process of it is left')
})

t.test('a detached network that keeps nothing says so, and does', async t => {
  const box = sandbox('passing')
  t.teardown(() => box.remove())
  t.equal((await run(['up', '--name', 'passing', '--detach', '--ephemeral'], box.env)).code, 0)
  const { dataDir } = JSON.parse(readFileSync(box.path('run', 'zg', 'passing', 'network.json'), 'utf8'))
  t.ok(existsSync(dataDir))
  const down = await run(['down', '--name', 'passing'], box.env)
  t.match(down.stderr, "network 'passing' stopped, nothing of it is kept")
  t.notOk(existsSync(dataDir))
})
