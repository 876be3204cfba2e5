/**
 * Proves the verbs that move, check and load a chain, and consensus and execution as two processes: `node --engine-url` drives
 * `engine` over the Engine API, its blocks carry transactions, survive kill -9 of either side, verify, and go through export, import and
 * snapshot into the same head. The built launcher as child processes.
 */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { ChainClient } from '../../lib/clients/chain.ts'
import { type JsonRecord, runTool, sandbox, startTool, waitFor } from '../harness/tools.ts'

t.setTimeout(300_000)
const box = sandbox('chain-tools')
t.teardown(() => box.remove())

/** Runs a verb under --json; its records, the last error when it failed. */
async function run(
  args: string[],
  opts: { input?: Uint8Array } = {}
): Promise<{ code: number | null; records: JsonRecord[]; error: JsonRecord | undefined }> {
  const r = await runTool('zg-chain', [...args, '--json'], { env: box.env, timeoutMs: 120_000, ...opts })
  const records = (text: string): JsonRecord[] =>
    text
      .split('\n')
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line) as JsonRecord)
  return { code: r.code, records: records(r.stdout), error: records(r.stderr).findLast(e => e.type === 'error') }
}

const dir = box.path('chain')
const key = 'devnet keys sign here: the chain says 31337'

t.test('init prints a genesis that init takes again', async t => {
  const printed = await runTool('zg-chain', ['init', '--print', '--kind', 'dev'], { env: box.env })
  t.equal(printed.code, 0)
  writeFileSync(box.path('genesis.json'), printed.stdout)
  t.match(JSON.parse(printed.stdout), { config: { chainId: 31337 }, alloc: Object })
  t.notOk(existsSync(dir), 'and makes nothing')
  const made = await run(['init', '--dir', dir, '--genesis', box.path('genesis.json')])
  t.equal(made.code, 0, key)
  const again = await runTool('zg-chain', ['init', '--print', '--genesis', box.path('genesis.json')], { env: box.env })
  t.equal(again.stdout, printed.stdout)
})

t.test('consensus in one process, execution in another', async t => {
  const engineArgs = ['engine', '--dir', dir, '--engine-port', '0', '--rpc-port', '0']
  let engine = await startTool('zg-chain', engineArgs, { env: box.env })
  const secret = engine.ready.jwt_secret as string
  t.equal(statSync(secret).mode & 0o777, 0o600)
  const api = engine.ready.engine_url as string
  await t.rejects(new RpcClient(api).call('eth_chainId'), 'nobody without a token')
  await t.rejects(
    new RpcClient(engine.url).call('engine_exchangeCapabilities', [[]]),
    { code: -32601 },
    'nor on the other port'
  )
  const lone = new ChainClient(engine.url)
  t.equal(await lone.blockNumber(), 0, 'no block on its own')

  t.equal((await run(['node', '--engine-url', api, '--rpc-port', '0'])).code, 64, 'no secret')
  const nodeArgs = ['node', '--engine-url', api, '--jwt-secret', secret, '--rpc-port', '0', '--block-time', '100ms']
  const node = await startTool('zg-chain', nodeArgs, { env: box.env })
  t.match(node.ready, { service: 'chain', engine: /^zg-chain/, chainId: 31337 })
  const client = new ChainClient(node.url)
  await waitFor(async () => (await client.blockNumber()) >= 3, { what: 'three blocks' })
  const loaded = await run(['bench', '--count', '300', '--senders', '10', '--batch', '50', '--rpc-url', engine.url])
  t.equal(loaded.code, 0)
  t.match(loaded.records[0], { type: 'bench', included: 300, failed: 0, refused: 0 })
  const head = await lone.blockNumber()
  await waitFor(async () => (await client.blockNumber()) > head, { what: 'the same chain over the node' })

  await engine.kill9()
  await waitFor(async () => ((await (await fetch(`${node.url}/ready`)).json()) as { ok: boolean }).ok === false, {
    what: 'the node to notice'
  })
  engine = await startTool(
    'zg-chain',
    ['engine', '--dir', dir, '--engine-port', new URL(api).port, '--rpc-port', '0'],
    { env: box.env }
  )
  const after = await new ChainClient(engine.url).blockNumber()
  t.ok(after >= head, 'what was final is there')
  await waitFor(async () => (await client.blockNumber()) > after, { what: 'blocks go on', timeoutMs: 30_000 })
  t.same(await node.stop(), { code: 0, signal: null })
  t.same(await engine.stop(), { code: 0, signal: null })
})

t.test('verify, export, import, snapshot: the same head everywhere', async t => {
  const whole = await run(['verify', '--dir', dir])
  t.equal(whole.code, 0)
  const good = whole.records[0]!
  t.match(good, { type: 'verify', good: true })
  t.ok((good.transactions as number) >= 300)
  const head = { blockNumber: good.blockNumber, hash: good.hash }

  const file = box.path('chain.rlp')
  t.match((await run(['export', file, '--dir', dir])).records[0], {
    type: 'export',
    fromBlock: 0,
    toBlock: good.blockNumber
  })
  const half = Math.floor((good.blockNumber as number) / 2)
  t.equal((await run(['export', box.path('half.rlp'), '--dir', dir, '--to-block', `${half}`])).code, 0)
  const copy = box.path('copy')
  t.equal((await run(['import', file, '--dir', copy])).code, 66, 'no chain there yet')
  t.equal((await run(['init', '--dir', copy, '--genesis', box.path('genesis.json')])).code, 0)
  t.match((await run(['import', box.path('half.rlp'), '--dir', copy])).records[0], {
    imported: half,
    skipped: 1,
    blockNumber: half
  })
  t.match((await run(['import', '-', '--dir', copy], { input: readFileSync(file) })).records[0], {
    imported: (good.blockNumber as number) - half,
    skipped: half + 1,
    ...head
  })
  t.match((await run(['verify', '--dir', copy])).records[0], { good: true, computed: good.stateRoot, ...head })

  // Hostile files: cut, garbage, a length that lies, another chain.
  writeFileSync(box.path('cut.rlp'), readFileSync(file).subarray(0, -5))
  t.equal((await run(['import', box.path('cut.rlp'), '--dir', copy])).code, 65)
  writeFileSync(box.path('long.rlp'), Buffer.concat([readFileSync(file), Buffer.from('garbage')]))
  t.equal((await run(['import', box.path('long.rlp'), '--dir', copy])).code, 65)
  writeFileSync(box.path('lie.rlp'), Uint8Array.of(0xfb, 0xff, 0xff, 0xff, 0xff, 0))
  t.equal((await run(['import', box.path('lie.rlp'), '--dir', copy])).code, 65)
  const other = box.path('other')
  t.equal((await run(['init', '--dir', other, '--kind', 'dev', '--chain-id', '77'])).code, 0)
  t.equal((await run(['import', file, '--dir', other])).code, 78)

  const snapshot = box.path('state.zgs')
  t.match((await run(['snapshot', 'save', snapshot, '--dir', dir])).records[0], {
    type: 'snapshot',
    stateRoot: good.stateRoot,
    ...head
  })
  t.equal((await run(['snapshot', 'save', snapshot, '--dir', dir])).code, 73, 'nothing is written over')
  const third = box.path('third')
  t.match(
    (await run(['snapshot', 'load', snapshot, '--dir', third, '--genesis', box.path('genesis.json')])).records[0],
    {
      stateRoot: good.stateRoot,
      ...head
    }
  )
  t.not(
    (await run(['snapshot', 'load', file, '--dir', box.path('fourth'), '--genesis', box.path('genesis.json')])).code,
    0,
    'not a snapshot'
  )
  const node = await startTool('zg-chain', ['node', '--dir', third, '--rpc-port', '0', '--block-time', '50ms'], {
    env: box.env
  })
  await waitFor(async () => (await new ChainClient(node.url).blockNumber()) > (good.blockNumber as number), {
    what: 'a block on the snapshot'
  })
  t.equal((await run(['verify', '--dir', third])).code, 75, 'not while a node runs on it')
  await node.stop()
})

t.test('bench and trace on a development node', async t => {
  const node = await startTool('zg-chain', ['node', '--dev', '--rpc-port', '0', '--block-time', '100ms'], {
    env: box.env
  })
  for (const workload of ['erc20', 'swap']) {
    const r = await run([
      'bench',
      '--workload',
      workload,
      '--count',
      '200',
      '--senders',
      '8',
      '--rpc-url',
      node.url,
      '--pid',
      `${node.pid}`
    ])
    t.equal(r.code, 0, workload)
    t.match(r.records[0], { workload, included: 200, failed: 0, refused: 0, cpu_seconds: Number, rss_bytes: Number })
  }
  const client = new ChainClient(node.url)
  const sent = await runTool('zg-chain', ['send', '1', '0.5', '--rpc-url', node.url, '--from', '0'], { env: box.env })
  t.equal(sent.code, 0)
  const traced = await run(['trace', sent.stdout.trim(), '--rpc-url', node.url])
  t.equal(traced.code, 0)
  t.match(traced.records[0], {
    type: 'trace',
    txHash: sent.stdout.trim(),
    tracer: 'callTracer',
    result: { type: 'CALL', value: '0x6f05b59d3b20000' }
  })
  const { blockNumber } = (await client.call('eth_getTransactionReceipt', [sent.stdout.trim()])) as {
    blockNumber: string
  }
  const block = await run(['trace', `${Number(blockNumber)}`, '--rpc-url', node.url, '--tracer', 'prestateTracer'])
  t.ok(block.records.some(r => r.txHash === sent.stdout.trim()))
  const human = await runTool('zg-chain', ['trace', sent.stdout.trim(), '--rpc-url', node.url], { env: box.env })
  t.match(human.stdout, /\n {2}call {2}0x[0-9a-fA-F]{40} {2}0\.5 0G {2}gas 21000/)
  t.equal((await run(['trace', '99999999', '--rpc-url', node.url])).code === 0, false)
  await node.stop()
})
