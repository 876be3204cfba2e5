/**
 * Proves zg-chain as its users hold it: the built launcher as a child process. Every verb with its human and its JSON form against a
 * node in memory, exit statuses, refusals and key files. What a node's directory survives: zg-chain-node.test.ts.
 */
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import t from 'tap'
import { ChainClient } from '../../lib/clients/chain.ts'
import { CREATION_CODE } from '../../lib/contracts/generated/artifacts.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { parseRecords, runTool, sandbox, startTool } from '../harness/tools.ts'

t.setTimeout(300_000)
const box = sandbox('chain')
const node = await startTool('zg-chain', ['node', '--dev', '--rpc-port', '0', '--block-time', '100ms'], {
  env: box.env
})
const env = { ...box.env, ETH_RPC_URL: node.url }
t.teardown(async () => {
  await node.stop()
  box.remove()
})

/** Runs a verb against the node; the answer is stdout without its last newline. */
async function zg(...args: string[]): Promise<string> {
  const r = await runTool('zg-chain', args, { env })
  if (r.code !== 0) throw new Error(`zg-chain ${args.join(' ')}: exit ${r.code}\n${r.stderr}`)
  return r.stdout.trimEnd()
}
const json = async (...args: string[]) => JSON.parse(await zg(...args, '--json'))

t.test('money moves, and each form of the answer says the same', async t => {
  t.equal(await zg('balance', '9'), '10000 0G')
  const hash = await zg('send', '9', '1.5', '--from', '3')
  t.match(hash, /^0x[0-9a-f]{64}$/, 'a pipe gets the whole hash and nothing else')
  t.equal(await zg('balance', DEV_ACCOUNTS[9]!.address), '10001.5 0G')
  t.match(await json('balance', '9'), { type: 'balance', balance_neuron: '10001500000000000000000', nonce: 0 })
  const tx = await json('tx', hash)
  t.match(tx, { type: 'transaction', txHash: hash, receipt: { status: '0x1', gasUsed: '0x5208' } })
  t.match(await zg('tx', hash), /^value +1\.5 0G$/m)
  const block = await json('block', Number(tx.blockNumber).toString())
  t.same([block.type, block.hash, block.transactions], ['block', tx.blockHash, [hash]])
  t.match(await zg('block', tx.blockHash), new RegExp(`^number +${Number(tx.blockNumber)}$`, 'm'))
  const sent = await json('send', '9', '10 gneuron', '--from', '3')
  t.match(sent, { type: 'transaction', from: DEV_ACCOUNTS[3]!.address, value_neuron: '10000000000', gasUsed: 21000 })
  const dry = await json('send', '9', '1', '--dry-run')
  t.match(dry, { type: 'dry_run', from: DEV_ACCOUNTS[0]!.address, gasLimit: 21000 })
  t.match(await zg('balance', '8', '9'), /^0x\w+ {2}10000 0G\n0x\w+ {2}10001\.50000001 0G$/)
})

t.test('a contract is deployed, changed and asked, and its events are found', async t => {
  const artifact = box.path('Counter.json')
  writeFileSync(artifact, JSON.stringify({ abi: [], bytecode: { object: CREATION_CODE.Counter } }))
  const deployed = await json('deploy', artifact)
  t.match(deployed, { type: 'transaction', contractAddress: /^0x[0-9a-f]{40}$/, to: null })
  const address = deployed.contractAddress as string
  await zg('send', address, '--sig', 'setNumber(uint256)', '41')
  const changed = await json('send', address, '--sig', 'increment()', '--private-key', DEV_ACCOUNTS[1]!.privateKey)
  t.equal(await zg('call', address, 'number()(uint256)'), '42')
  t.same((await json('call', address, 'number()(uint256)')).values, ['42'])
  t.equal(Number(await zg('call', address, '--data', '0x8381f58a')), 42)
  const logs = await runTool('zg-chain', ['logs', address, '--topic', 'Changed(address,uint256)', '--json'], { env })
  t.equal(parseRecords(logs.stdout).length, 2)
  t.match(parseRecords(logs.stdout)[1], { type: 'log', transactionHash: changed.txHash })
  t.equal((await runTool('zg-chain', ['logs', '0x00000000000000000000000000000000000000aa'], { env })).code, 1)
  const piped = await runTool('zg-chain', ['deploy', '-'], { env, input: CREATION_CODE.Counter })
  t.match(piped.stdout, /^0x[0-9a-fA-F]{40}\n$/, 'hex from stdin; only the address on stdout')
})

t.test('every refusal has its exit status, its line and what to do', async t => {
  const cases: [args: string[], code: number, line: RegExp, env?: Record<string, string>][] = [
    [
      ['send', '9', '20000'],
      77,
      /^zg-chain: account 0x\w{40} has [0-9.]+ 0G, needs 20000 0G\nhint: run 'zg-devnet fund 0x/m
    ],
    [['send', '9'], 64, /no amount given/],
    [['send', '9', '1', 'x'], 64, /one word too many/],
    [['send', '0x12', '1'], 64, /address/],
    [['send', '9', '1', '--from', 'nobody'], 66, /key file '.*nobody\.json' does not exist/],
    [['send', '9', '1', '--private-key', `0x${'77'.repeat(32)}`], 64, /only devnet keys may stand on a command line/],
    [['send', DEV_ACCOUNTS[9]!.address.replace('0xa0Ee', '0xA0Ee'), '1'], 64, /wrong checksum/],
    [['call', '9', 'nonsense'], 64, /not a function signature/],
    [
      ['call', '0xcA11bde05977b3631167028862bE2a173976CA11', 'getBlockHash(uint256)(bytes32)', 'x'],
      64,
      /arguments do not fit/
    ],
    [['call', '9', 'x()(uint256)'], 78, /no contract at 9 on chain 31337/],
    [['deploy', 'missing.json'], 66, /missing\.json/],
    [['tx', `0x${'11'.repeat(32)}`], 69, /chain has no transaction/],
    [['block', '99999999'], 69, /chain has no block 99999999/],
    [['balance', '0', '--rpc-url', 'http://127.0.0.1:1'], 69, /cannot reach chain at http:\/\/127\.0\.0\.1:1/],
    [['balance', '0'], 69, /^zg-chain: no network found\nhint: run 'zg-devnet up'/m, { ETH_RPC_URL: '' }],
    [['balance'], 64, /missing required argument/],
    [['ballance', '0'], 64, /unknown verb 'ballance', did you mean 'balance'\?/],
    [['balance', '0', '--blok', '1'], 64, /unknown option '--blok', did you mean '--block'\?/],
    [['init', '--dir', box.path('x'), '--genesis', box.path('absent.json')], 66, /absent\.json/],
    [['node', '--dir', box.path('y')], 78, /no chain in '.*y'\nhint: run 'zg-chain init --dir /]
  ]
  await Promise.all(
    cases.map(async ([args, code, line, extra]) => {
      const r = await runTool('zg-chain', args, { env: { ...env, ...extra } })
      t.equal(r.code, code, `${args.join(' ')}\n${r.stderr}`)
      t.match(r.stderr, line)
      t.notMatch(r.stderr, /\n {4}at |ethers|7777777777/, 'no stack, no library, no key')
      t.equal(r.stdout, '')
    })
  )
  const machine = await runTool('zg-chain', ['send', '9', '20000', '--json'], { env })
  t.match(JSON.parse(machine.stderr.trimEnd().split('\n').at(-1)!), { type: 'error', code: 'ERR_FUNDS', exit: 77 })
  const taken = await runTool('zg-chain', ['node', '--dev', '--rpc-port', `${node.port}`], { env })
  t.equal(taken.code, 78)
  t.match(taken.stderr, new RegExp(`port ${node.port} is in use by zg-chain \\(pid ${node.pid}\\)`))
})

t.test('watch prints a line a block, in order', async t => {
  const r = await runTool('zg-chain', ['watch', '--json', '--count', '4'], { env })
  const records = parseRecords(r.stdout)
  t.equal(r.code, 0)
  t.same(
    records.map(x => x.type),
    Array(4).fill('block_seen')
  )
  const numbers = records.map(x => Number(x.number))
  t.same(
    numbers,
    numbers.map((_, i) => numbers[0]! + i)
  )
  t.type(records[0]!.gasUsed, 'number', 'jq can compare it')
})

t.test('keys are kept encrypted, named, and never shown', async t => {
  const password = box.path('password')
  writeFileSync(password, 'correct horse\n', { mode: 0o600 })
  const made = await json('keys', 'new', 'alice', '--password-file', password)
  t.equal(statSync(made.path).mode & 0o777, 0o600)
  t.match(await zg('keys', 'list'), new RegExp(`^alice +${made.address}$`))
  t.match(await zg('keys', 'export', 'alice'), /"crypto"/)
  t.equal(JSON.parse(await zg('keys', 'export', 'alice')).address, made.address.slice(2).toLowerCase())
  await zg('send', 'alice', '2', '--from', '4')
  const used = await json('send', '4', '0.5', '--from', 'alice', '--password-file', password)
  t.equal(used.from, made.address)
  const again = await runTool('zg-chain', ['keys', 'new', 'alice', '--password-file', password], { env })
  t.equal(again.code, 73)
  const unasked = await runTool('zg-chain', ['send', '4', '0.1', '--from', 'alice'], { env })
  t.equal(unasked.code, 64, 'nobody is asked without a terminal')
  t.match(unasked.stderr, /--password-file/)
  writeFileSync(password, 'wrong\n')
  const wrong = await runTool('zg-chain', ['send', '4', '0.1', '--from', 'alice', '--password-file', password], { env })
  t.equal(wrong.code, 77)
  const key = `0x${'5a'.repeat(32)}`
  const imported = await runTool('zg-chain', ['keys', 'import', 'bob', '--password-file', password], {
    env,
    input: key
  })
  t.equal(imported.code, 0)
  t.notMatch(imported.stdout + imported.stderr, '5a5a5a5a')
  chmodSync(made.path, 0o644)
  const open = await runTool('zg-chain', ['keys', 'export', 'alice'], { env })
  t.equal(open.code, 77)
})

t.test(
  'the node answers health, readiness and metrics, and keeps other pages out unless it is a development node',
  async t => {
    const get = async (path: string) => (await fetch(`${node.url}${path}`)).text()
    t.match(JSON.parse(await get('/health')), { ok: true, pid: node.pid })
    t.match(JSON.parse(await get('/ready')), { ok: true, state: 'ready', progress: /^block / })
    t.match(await get('/metrics'), /^zg_chain_head_block \d+$/m)
    const cors = await fetch(node.url, {
      method: 'OPTIONS',
      headers: { origin: 'http://example.org', 'access-control-request-method': 'POST' }
    })
    t.equal(cors.headers.get('access-control-allow-origin'), '*')
    const socket = box.path('chain.sock')
    const plain = await startTool(
      'zg-chain',
      ['node', '--dir', box.path('plain'), '--rpc-port', '0', '--socket', socket, '--dev', '--block-time', 'on-demand'],
      { env: box.env }
    )
    t.equal(statSync(socket).mode & 0o777, 0o600)
    const answer = await new Promise<string>((resolve, reject) => {
      const s = createConnection(socket, () => s.write('{"jsonrpc":"2.0","id":"a","method":"eth_chainId"}\n'))
      s.once('data', d => {
        resolve(d.toString())
        s.destroy()
      })
      s.once('error', reject)
    })
    t.match(JSON.parse(answer), { id: 'a', result: '0x7a69' })
    t.equal(await new ChainClient(plain.url).blockNumber(), 0, 'on demand: no transaction, no block')
    await plain.stop()
    t.notOk(existsSync(socket))
  }
)

t.test('help is one screen a verb and quick', async t => {
  const help = await runTool('zg-chain', ['--help'])
  t.equal(help.code, 0)
  t.match(help.stdout, /^zg-chain: /)
  for (const verb of ['node', 'init', 'send', 'call', 'deploy', 'balance', 'block', 'tx', 'logs', 'watch']) {
    const { stdout, code } = await runTool('zg-chain', [verb, '--help'])
    t.equal(code, 0, verb)
    t.match(stdout, /^Examples:$/m)
    t.ok(
      stdout.split('\n').every(line => line.length <= 80),
      `${verb}: 80 columns`
    )
  }
  const log = readFileSync(new URL('../../bin/zg-chain', import.meta.url), 'utf8')
  t.match(log, /^#!\/usr\/bin\/env node\n/)
})
