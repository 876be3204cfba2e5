/**
 * zg-da as people run it: put, get and verify against a network of real daemons, their records and exit statuses, what they say
 * when something is missing, and the help.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { startDaNetwork } from '../harness/da-network.ts'
import { parseRecords, runTool, sandbox, type ToolResult } from '../harness/tools.ts'

const MAX = 32_505_852

function lastError(r: ToolResult): Record<string, unknown> {
  return JSON.parse(r.stderr.trim().split('\n').at(-1)!)
}

t.test('without a network', async t => {
  const box = sandbox('da-cli')
  const run = (args: string[], input: string | Uint8Array = 'x'): Promise<ToolResult> =>
    runTool('zg-da', args, { env: box.env, input, timeoutMs: 60_000 })
  const nothing = await run(['put'])
  t.equal(nothing.code, 69)
  t.match(
    nothing.stderr,
    /^zg-da: no network found\nhint: run 'zg-devnet up', or give 'zg-da put … --disperser HOST:PORT'/m
  )
  const dry = await run(['put', '--dry-run', '-'], Uint8Array.of(0x2a))
  t.equal(
    dry.stdout,
    '0xda592b95aadbc5cc07cd458b5d7ac21d3d400be4d0ffa37c8597796482ffcfdd\n',
    'the root of the byte 0x2a'
  )
  t.equal((await run(['put', '--dry-run'], '')).code, 65, 'empty')
  t.equal((await run(['put', '--dry-run'], new Uint8Array(MAX + 1))).code, 65, 'too large')
  t.equal((await run(['put', box.path('absent')])).code, 66)
  t.equal((await run(['get', '0x12'])).code, 64)
  t.equal((await run(['node', '--dev-signer', '4'])).code, 64)
  const gone = await run(['put', '--json', '--disperser', '127.0.0.1:1'])
  t.equal(gone.code, 69)
  t.match(lastError(gone), { type: 'error', code: 'ERR_UNAVAILABLE', message: /cannot reach disperser at 127.0.0.1:1/ })
  const help = await run(['put', '--help'])
  t.match(help.stdout, /^zg-da put: make a file or stdin available[\s\S]*Examples:[\s\S]*Exit status:/)
  box.remove()
})

t.test('put, get and verify', { timeout: 240_000 }, async t => {
  const net = await startDaNetwork('da-cli-net')
  t.teardown(() => net.stop())
  const run = (args: string[], input?: Uint8Array): Promise<ToolResult> =>
    runTool('zg-da', args, { env: net.env, timeoutMs: 120_000, ...(input === undefined ? {} : { input }) })
  const data = randomBytes(100_000)
  const file = net.box.path('blob')
  writeFileSync(file, data)

  const put = await run(['put', ...net.put, file, '--json'])
  t.equal(put.code, 0, put.stderr)
  const [blob] = parseRecords(put.stdout)
  t.match(blob, {
    type: 'blob',
    dataRoot: /^0x[0-9a-f]{64}$/,
    epoch: Number,
    quorum_id: 0,
    size: 100_000,
    signers: 4,
    certified: true,
    checked: true,
    blockNumber: Number
  })
  t.ok(Number(blob!.signed) >= 3)
  const root = String(blob!.dataRoot)
  t.equal((await run(['put', ...net.put], data)).stdout, `${root}\n`, 'again, from a pipe: the root alone')

  const got = await run(['get', root, ...net.get])
  t.equal(Buffer.compare(got.bytes, data), 0, got.stderr)
  const out = net.box.path('out')
  const saved = await run([
    'get',
    root,
    ...net.get,
    '-o',
    out,
    '--epoch',
    String(blob!.epoch),
    '--quorum-id',
    '0',
    '--json'
  ])
  t.match(parseRecords(saved.stdout)[0], { type: 'blob', dataRoot: root, size: 100_000, output: out })
  t.equal(Buffer.compare(readFileSync(out), data), 0)
  t.equal((await run(['get', root, ...net.get, '-o', out])).code, 73, 'an existing file stays')
  const direct = await run(['get', root, '--direct', ...net.get])
  t.equal(Buffer.compare(direct.bytes, data), 0, 'from the signers themselves')

  const good = await run(['verify', root, '--rpc-url', net.rpc, '--json'])
  t.equal(good.code, 0, good.stderr)
  t.match(parseRecords(good.stdout)[0], { type: 'blob_check', certified: true, samples: 32, good: 32, available: true })

  const absent = `0x${'11'.repeat(32)}`
  for (const verb of ['get', 'verify']) {
    const r = await run([verb, absent, '--rpc-url', net.rpc, '--json', ...(verb === 'get' ? ['-o', `${out}2`] : [])])
    t.equal(r.code, 69)
    t.match(lastError(r), { code: 'ERR_NOT_FOUND', message: /^no certificate of 0x11/ })
  }
  t.equal(existsSync(`${out}2`), false)
  t.equal((await run(['get', root, ...net.get, '--epoch', '77'])).code, 69)

  const { metrics_port: metricsPort } = net.disperser.tool().ready
  t.match(await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text(), /zg_da_disperser_final_blobs 2/)
  t.match(await (await fetch(`http://127.0.0.1:${metricsPort}/ready`)).json(), { ok: true, state: 'ready' })

  await Promise.all(net.signers.map(s => s.stop()))
  const none = await run(['verify', root, '--rpc-url', net.rpc])
  t.equal(none.code, 1, 'certified, and nobody shows that it is there')
  t.match(none.stdout, /not shown to be available/)
})
