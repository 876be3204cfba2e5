/**
 * Proves the built zg-store as its users meet it: a chain, two nodes, an indexer and a key-value node as real processes, and every
 * client verb against them by stdout, stderr and exit status; then processes are killed and everything must still be there.
 */
import { createHash } from 'node:crypto'
import {
  closeSync,
  createReadStream,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync
} from 'node:fs'
import t from 'tap'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import {
  parseRecords,
  type RunningTool,
  runTool,
  sandbox,
  startTool,
  type ToolOptions,
  waitFor
} from '../harness/tools.ts'

const box = sandbox('store-cli')
await runTool('zg-chain', ['init', '--dir', box.path('chain'), '--quiet'], { env: box.env })
const chain = await startTool(
  'zg-chain',
  ['node', '--dev', '--dir', box.path('chain'), '--rpc-port', '0', '--block-time', '200ms'],
  { env: box.env }
)
const nodeArgs = (name: string, port: string): string[] => [
  'node',
  '--dir',
  box.path(name),
  '--rpc-port',
  port,
  '--rpc-url',
  chain.url
]
const stores: RunningTool[] = await Promise.all(
  ['a', 'b'].map(name => startTool('zg-store', nodeArgs(name, '0'), { env: box.env }))
)
const indexer = await startTool(
  'zg-store',
  ['indexer', '--rpc-port', '0', '--rpc-url', chain.url, '--account', '1', ...stores.flatMap(s => ['--node', s.url])],
  { env: box.env }
)
const kvArgs = (port: string): string[] => [
  'kv',
  'node',
  '--dir',
  box.path('kv'),
  '--rpc-port',
  port,
  '--rpc-url',
  chain.url,
  '--indexer',
  indexer.url,
  '--download-timeout',
  '20s'
]
let kv = await startTool('zg-store', kvArgs('0'), { env: box.env })
t.teardown(async () => {
  for (const tool of [kv, indexer, ...stores, chain]) await tool.stop().catch(() => {})
  box.remove()
})

const env = { ...box.env, ZG_STORE_INDEXER: indexer.url, ETH_RPC_URL: chain.url, ZG_STORE_KV: kv.url }
const zg = (args: string[], opts: ToolOptions = {}) =>
  runTool('zg-store', args, { ...opts, env: { ...env, ...opts.env } })
const lastError = (stderr: string) =>
  JSON.parse(stderr.trim().split('\n').at(-1)!) as { code: string; exit: number; message: string }

function content(seed: string, size: number): Buffer {
  const out = Buffer.alloc(size)
  let block = createHash('sha256').update(seed).digest()
  for (let at = 0; at < size; at += 32) {
    block.copy(out, at)
    if (at % 1024 === 0) block = createHash('sha256').update(block).digest()
  }
  return out
}

t.test('wrong use is refused before anything is asked of a network', async t => {
  const bare = { env: { ZG_STORE_INDEXER: undefined, ETH_RPC_URL: undefined, ZG_STORE_KV: undefined } } as ToolOptions
  for (const [args, code, words] of [
    [['put', box.path('nothing')], 66, /cannot open '.*nothing': no such file/],
    [['put', '-', '-'], 64, /given twice/],
    [['get', '-r', `0x${'00'.repeat(32)}`], 64, /--output/],
    [['get', `0x${'00'.repeat(32)}`, '--range', '9-5'], 64, /not a range of bytes/],
    [['root', '-c', box.path('nothing')], 66, /cannot open/],
    [['diff', box.path('nothing'), box.path('nothing')], 66, /no such file/],
    [['scrub'], 69, /no storage node is running here/],
    [['scrub', '--socket', box.path('nothing')], 69, /no node is running there/],
    [['get', '0x12'], 64, /'0x12' is not a root/],
    [['pt'], 64, /did you mean 'put'/],
    [['put', '--expected-replica', '0'], 64, /not a whole number/],
    [['get', `0x${'00'.repeat(32)}`, '--json'], 64, /--output/],
    [['get', `0x${'00'.repeat(32)}`], 69, /no network found\nhint: run 'zg-devnet up'/],
    [['kv', 'get', 'xyz', 'k'], 64, /is not a stream/],
    [['kv', 'get', 'f2bd', 'k'], 69, /no network found/]
  ] as [string[], number, RegExp][]) {
    const r = await zg(args, bare)
    t.equal(r.code, code, args.join(' '))
    t.match(r.stderr, words)
    t.equal(r.stdout, '')
  }
  t.match(lastError((await zg(['put', '--json'], { ...bare, input: '' })).stderr), { code: 'ERR_BAD_INPUT', exit: 65 })
})

t.test('put prints the root alone, get gives the bytes, and the second put costs nothing', async t => {
  const file = box.path('model.bin')
  const bytes = content('model', 3_000_001)
  writeFileSync(file, bytes)
  const root = (await zg(['root', file])).stdout
  t.match(root, /^0x[0-9a-f]{64}\n$/)
  const dry = parseRecords((await zg(['put', '-n', file, '--json'])).stdout)[0]!
  t.match(dry, { type: 'file', root: root.trim(), dry_run: true, nodes: 0 })
  const first = await zg(['put', file])
  t.same([first.code, first.stdout], [0, root])
  t.match(first.stderr, /submit {3}tx 0x[0-9a-f]{64} in block [\d,]+, fee 0\.0\d+ 0G/)
  const again = await zg(['put', file, '--json'])
  t.match(parseRecords(again.stdout)[0], {
    type: 'file',
    root: root.trim(),
    size: 3_000_001,
    segments: 12,
    txHash: null,
    fee_neuron: '0',
    already: true,
    nodes: 2
  })
  t.match((await zg(['put', file])).stderr, /already stored, nothing sent/)
  t.ok((await zg(['get', root.trim()])).bytes.length === bytes.length)
  t.ok(Buffer.from((await zg(['get', root.trim()])).bytes).equals(bytes))
  const stat = await zg(['stat', root.trim(), '--json'])
  t.same(
    parseRecords(stat.stdout).map(r => r.state),
    ['final', 'final', undefined]
  )
  const unknown = await zg(['stat', `0x${'11'.repeat(32)}`])
  t.equal(unknown.code, 1)
  t.match((await zg(['ls', '--json'])).stdout, root.trim())
})

t.test('a pipe is stored without a name, and read into a file that is never half there', async t => {
  const bytes = content('pipe', 1_500_000)
  const put = await zg(['put', '--quiet'], { input: bytes })
  t.same([put.code, put.stderr], [0, ''])
  const root = put.stdout.trim()
  t.equal((await zg(['root'], { input: bytes })).stdout.trim(), root)
  const target = box.path('copy.bin')
  writeFileSync(`${target}.part`, bytes.subarray(0, 600_000))
  const got = await zg(['get', root, '-o', target])
  t.same([got.code, got.stdout], [0, ''])
  t.match(got.stderr, /resumed at 34 %/)
  t.ok(readFileSync(target).equals(bytes))
  t.equal((await zg(['get', root, '-o', target])).code, 73)
  t.match(parseRecords((await zg(['get', root, '-o', target, '--force', '--json'])).stdout)[0], {
    type: 'file',
    root,
    size: 1_500_000,
    resumed: false
  })
  t.equal((await zg(['get', root, '-o', box.path('no', 'such', 'dir')])).code, 73)
  const missing = `0x${'5a'.repeat(32)}`
  const none = await zg(['get', missing])
  t.equal(none.code, 69)
  t.match(none.stderr, `zg-store: no node holds ${missing} (asked 2)`)
  t.same(readdirSync(box.path('cache', 'zg', 'spool')), [], 'nothing is left of the pipe')
})

t.test('fragments and encryption', async t => {
  const key = box.path('key')
  writeFileSync(key, `${'ab'.repeat(32)}\n`, { mode: 0o644 })
  const bytes = content('secret', 700_000)
  const open = await zg(['put', '--encryption-key-file', key], { input: bytes })
  t.equal(open.code, 77)
  t.match(open.stderr, /can be read by others\nhint: run 'chmod 600/)
  writeFileSync(box.path('key2'), `${'ab'.repeat(32)}\n`, { mode: 0o600 })
  const args = ['--encryption-key-file', box.path('key2')]
  const file = box.path('secret.bin')
  writeFileSync(file, bytes)
  const root = (await zg(['put', ...args, file])).stdout.trim()
  t.ok(Buffer.from((await zg(['get', root, ...args])).bytes).equals(bytes))
  t.notOk(Buffer.from((await zg(['get', root])).bytes).includes(bytes.subarray(0, 100)))
  const cut = (await zg(['put', file, '--fragment-size', '256KiB'])).stdout.trim().split('\n')
  t.equal(cut.length, 3)
  t.ok(Buffer.from((await zg(['get', ...cut])).bytes).equals(bytes))

  // For the owner of a key pair: its private key reads, no other one does, and the root is another each time.
  const mine = (await zg(['pubkey', box.path('key2')])).stdout.trim()
  t.match(mine, /^0x0[23][0-9a-f]{64}$/)
  const forMe = (await zg(['put', file, '--encrypt-to', mine])).stdout.trim()
  t.ok(Buffer.from((await zg(['get', forMe, ...args])).bytes).equals(bytes))
  const part = await zg(['get', forMe, ...args, '--range', '262100-262199'])
  t.ok(Buffer.from(part.bytes).equals(bytes.subarray(262_100, 262_200)))
  writeFileSync(box.path('key3'), `${'cd'.repeat(32)}\n`, { mode: 0o600 })
  const other = await zg(['get', forMe, '--encryption-key-file', box.path('key3')])
  t.notOk(Buffer.from(other.bytes).includes(bytes.subarray(0, 100)), 'another key reads nothing')
  t.not((await zg(['put', file, '--encrypt-to', mine.slice(2)])).stdout.trim(), forMe)
  const piped = (await zg(['put', '--encrypt-to', mine, '--fragment-size', '256KiB'], { input: bytes })).stdout
  t.ok(
    Buffer.from((await zg(['get', ...args, ...piped.trim().split('\n')])).bytes).equals(bytes),
    'a pipe, in fragments'
  )
  mkdirSync(box.path('for-me'))
  writeFileSync(box.path('for-me', 'a.bin'), bytes)
  const folder = (await zg(['put', box.path('for-me'), '--encrypt-to', mine])).stdout.trim()
  t.match((await zg(['ls', folder, ...args])).stdout, /a\.bin/)
  t.ok(Buffer.from((await zg(['get', `${folder}/a.bin`, ...args])).bytes).equals(bytes), 'a directory')
  for (const [more, code, text] of [
    [['--encrypt-to', '0x02'], 64, /is not a public key/],
    [['--encrypt-to', `0x02${'ff'.repeat(32)}`], 64, /is not a public key/],
    [['--encrypt-to', mine, '--encrypt'], 64, /takes no other key/]
  ] as const) {
    const r = await zg(['put', file, ...more])
    t.equal(r.code, code)
    t.match(r.stderr, text)
  }
})

t.test('directories: stored, listed, compared, restored, read in parts, and checked', async t => {
  const dir = box.path('site')
  mkdirSync(`${dir}/docs`, { recursive: true })
  writeFileSync(`${dir}/docs/a.txt`, content('a.txt', 300_000))
  writeFileSync(`${dir}/b.txt`, 'bee')
  writeFileSync(`${dir}/empty`, '')
  symlinkSync('b.txt', `${dir}/link`)
  const root = (await zg(['root', dir])).stdout.trim()
  const dry = await zg(['put', '-n', dir, '--json'])
  t.match(parseRecords(dry.stdout)[0], { type: 'file', root, dry_run: true })
  const put = await zg(['put', dir])
  t.same([put.code, put.stdout], [0, `${root}\n`])
  t.match((await zg(['put', dir])).stderr, /already stored, nothing sent/)
  t.same(
    parseRecords((await zg(['ls', root, '--json', '-R'])).stdout).map(r => [r.kind, r.path]),
    [
      ['file', 'b.txt'],
      ['directory', 'docs'],
      ['file', 'docs/a.txt'],
      ['file', 'empty'],
      ['symbolic', 'link']
    ]
  )
  t.match((await zg(['ls', `${root}/docs`])).stdout, /a\.txt/)
  t.equal((await zg(['ls', `${root}/none`])).code, 69)
  const part = await zg(['get', `${root}/docs/a.txt`, '--range', '262140-262150'])
  t.ok(Buffer.from(part.bytes).equals(content('a.txt', 300_000).subarray(262_140, 262_151)))
  t.equal((await zg(['get', `${root}/docs`])).code, 65, 'a folder is not a file')
  const back = box.path('site-back')
  t.equal((await zg(['get', '-r', root, '-o', back])).code, 0)
  t.ok(readFileSync(`${back}/docs/a.txt`).equals(content('a.txt', 300_000)))
  t.equal(readFileSync(`${back}/link`, 'utf8'), 'bee')
  t.same(await zg(['diff', dir, root]).then(r => [r.code, r.stdout]), [0, ''])
  writeFileSync(`${back}/b.txt`, 'changed')
  writeFileSync(`${back}/new`, 'new')
  const diff = await zg(['diff', root, back])
  t.same([diff.code, diff.stdout], [1, '~ b.txt\n+ new\n'])
  t.match(parseRecords((await zg(['diff', root, back, '--json'])).stdout)[1], { type: 'difference', change: 'added' })
  t.equal((await zg(['get', '-r', root, '-o', back])).code, 73, 'what differs is not replaced')
  t.equal((await zg(['get', '-r', root, '-o', back, '--force'])).code, 0)
  t.equal(readFileSync(`${back}/b.txt`, 'utf8'), 'bee')

  const many = await zg(['put', 'b.txt', 'docs/a.txt'], { cwd: dir })
  t.match(many.stdout, /^0x[0-9a-f]{64} {2}b\.txt\n0x[0-9a-f]{64} {2}docs\/a\.txt\n$/)
  const check = await zg(['root', '-c'], { cwd: dir, input: many.stdout })
  t.same([check.code, check.stdout], [0, 'b.txt: OK\ndocs/a.txt: OK\n'])
  writeFileSync(`${dir}/b.txt`, 'other')
  const bad = await zg(['root', '-c', '--json'], { cwd: dir, input: `${many.stdout}nonsense\n${root}  gone\n` })
  t.equal(bad.code, 1)
  t.same(
    parseRecords(bad.stdout).map(r => r.state),
    ['wrong', 'ok', 'unreadable']
  )
  t.match(bad.stderr, /1 line is malformed[\s\S]*1 root did not match/)
  t.equal((await zg(['root', '-c'], { input: 'nothing here\n' })).code, 65)

  const secret = await zg(['put', '--encrypt', back])
  t.equal(secret.code, 0)
  t.match(secret.stderr, /made a key in '.*storage\.key'/)
  t.equal((await zg(['ls', secret.stdout.trim()])).code, 65, 'the list is encrypted too')
  t.match((await zg(['ls', '--decrypt', secret.stdout.trim()])).stdout, /docs\//)
  t.equal((await zg(['get', '--decrypt', '-r', secret.stdout.trim(), '-o', box.path('open')])).code, 0)
  t.equal(readFileSync(`${box.path('open')}/b.txt`, 'utf8'), 'bee')
})

t.test('keys of a stream: set, read, replace by the same bytes, delete, conflict', async t => {
  const put = async (...args: string[]) => {
    const r = await zg(['kv', 'put', '0xf2bd', ...args])
    if (r.code !== 0) t.comment(r.stderr)
    return Number(r.stdout)
  }
  const get = async (key: string, ...more: string[]) => zg(['kv', 'get', 'f2bd', key, ...more])
  const first = await put('name', 'one')
  t.equal((await get('name')).stdout, 'one')
  await put('name', 'two')
  const third = await put('name', 'one')
  t.equal((await get('name')).stdout, 'one', 'the same bytes again are another write')
  t.match(parseRecords((await get('name', '--json')).stdout)[0], {
    type: 'kv_value',
    version: third,
    size: 3,
    value: '0x6f6e65'
  })
  t.equal((await get('name', '--at', String(third - 1))).stdout, 'two')
  const conflict = await zg(['kv', 'put', '0xf2bd', 'name', 'late', '--seen', String(first), '--json'])
  t.equal(conflict.code, 76)
  t.match(lastError(conflict.stderr).message, /VersionConfliction/)
  t.equal((await zg(['kv', 'put', '0xf2bd', 'name', 'x', '--account', '2'])).code, 76, 'somebody else may not write')
  await put('name', '--delete')
  t.equal((await get('name')).code, 1)
  const big = content('big value', 400_000)
  t.equal((await zg(['kv', 'put', '0xf2bd', 'big'], { input: big })).code, 0)
  t.ok(Buffer.from((await get('big')).bytes).equals(big))
})

t.test('roles in a stream: granted, used, shown, taken away and given up', async t => {
  const S = '0x2e3d'
  const kvOf = async (...args: string[]) => zg(['kv', ...args])
  const write = async (key: string, by: string) => (await kvOf('put', S, key, `by ${by}`, '--account', by)).code
  const roles = async (...args: string[]) => {
    const r = await kvOf('roles', S, ...args)
    return [r.code, r.stdout.trim()]
  }
  t.equal(await write('price', '4'), 0, 'who writes first is admin')
  t.same(await roles('4'), [0, 'admin'])
  t.same(await roles('5'), [1, 'no role'])
  t.equal(await write('price', '5'), 76)
  t.equal((await kvOf('grant', S, '5', '--account', '6')).code, 76, 'a stranger grants nothing')

  const granted = await kvOf('grant', S, '5', '--account', '4', '--json')
  t.equal(granted.code, 0, granted.stderr)
  t.match(parseRecords(granted.stdout)[0], {
    type: 'kv_access',
    stream: `0x${'0'.repeat(60)}2e3d`,
    operation: 'grantWriter',
    account: /^0x[0-9a-f]{40}$/,
    result: 'Commit'
  })
  t.equal(await write('price', '5'), 0)
  t.same(await roles('5'), [0, 'writer'])

  t.equal((await kvOf('protect', S, 'price', '--account', '4')).code, 0)
  t.equal(await write('price', '5'), 76, 'a special key is not for all writers')
  t.same(await roles('5', 'price'), [0, 'writer, price is special, may not write price'])
  t.equal((await kvOf('grant', S, '6', '--key', 'price', '--account', '4')).code, 0)
  t.equal(await write('price', '6'), 0)
  t.equal(await write('other', '6'), 76, 'and its writers write nothing else')
  const shown = await kvOf('roles', S, '6', 'price', '--json')
  t.match(parseRecords(shown.stdout)[0], {
    type: 'kv_roles',
    admin: false,
    writer: false,
    key: '0x7072696365',
    special: true,
    key_writer: true,
    may_write: true
  })
  t.equal((await kvOf('renounce', S, '--key', 'price', '--account', '6')).code, 0)
  t.equal(await write('price', '6'), 76)
  t.equal((await kvOf('grant', S, '6', '--key', 'price', '--account', '4')).code, 0)
  t.equal((await kvOf('revoke', S, '6', '--key', 'price', '--account', '4')).code, 0)
  t.equal(await write('price', '6'), 76)
  t.equal((await kvOf('protect', S, 'price', '--off', '--account', '4')).code, 0)
  t.equal(await write('price', '5'), 0)
  t.equal((await kvOf('revoke', S, '5', '--account', '4')).code, 0)
  t.equal(await write('price', '5'), 76)
  t.equal((await kvOf('grant', S, '5', '--admin', '--account', '4')).code, 0)
  t.equal((await kvOf('renounce', S, '--admin', '--account', '4')).code, 0)
  t.same(await roles('4'), [1, 'no role'])
  t.same(await roles('5'), [0, 'admin'])
  t.equal(await write('price', '4'), 76)
  const bad: [string[], RegExp][] = [
    [['grant', S, '5', '--admin', '--key', 'price'], /'--admin' is a role for all keys/],
    [['protect', S, ''], /a key has at least one byte/],
    [['grant', 'xyz', '5'], /is not a stream/],
    [['grant', S, 'nobody at all'], /./]
  ]
  for (const [args, text] of bad) {
    const r = await kvOf(...args)
    t.equal(r.code, 64, args.join(' '))
    t.match(r.stderr, text)
  }
})

t.test('the gateway stores at its own expense', async t => {
  const bytes = content('by http', 300_000)
  const res = await fetch(`${indexer.url}/v1/file`, { method: 'PUT', body: bytes })
  const stored = (await res.json()) as { root: string; seq: number }
  t.equal(res.status, 200)
  const back = await fetch(`${indexer.url}/file?root=${stored.root}`)
  t.ok(Buffer.from(await back.arrayBuffer()).equals(bytes))
  const form = new FormData()
  form.append('file', new Blob(['<p>hi']), 'pages/index.html')
  const made = (await (await fetch(`${indexer.url}/v1/file?folder=x`, { method: 'POST', body: form })).json()) as any
  const page = await fetch(`${indexer.url}/file/${made.folder.root}/pages/index.html`)
  t.same([page.headers.get('content-type'), await page.text()], ['text/html; charset=utf-8', '<p>hi'])
})

t.test('a large file goes through the gateway, whole and by parts, in memory that does not grow with it', async t => {
  const MOST_MIB = 256
  const file = box.path('for-the-gateway')
  const piece = content('piece', 1024 * 1024)
  const out = openSync(file, 'w')
  for (let i = 0; i < 384; i++) {
    piece.writeUInt32LE(i, 0)
    writeSync(out, piece)
  }
  closeSync(out)
  const put = await zg(['put', file, '--expected-replica', '1'], { timeoutMs: 60_000 })
  t.equal(put.code, 0, put.stderr)
  const url = `${indexer.url}/file?root=${put.stdout.trim()}`
  const size = 384 * 1024 * 1024
  const read = async (start: number, end: number): Promise<string> => {
    const hash = createHash('sha256')
    const res = await fetch(url, { headers: { range: `bytes=${start}-${end - 1}` } })
    for await (const part of res.body as unknown as AsyncIterable<Uint8Array>) hash.update(part)
    return hash.digest('hex')
  }
  const local = async (start: number, end: number): Promise<string> => {
    const hash = createHash('sha256')
    for await (const part of createReadStream(file, { start, end: end - 1 })) hash.update(part as Uint8Array)
    return hash.digest('hex')
  }
  t.equal(await read(0, size), await local(0, size))
  const parts = Array.from({ length: 8 }, (_, i) => [(i * size) / 8 + i, ((i + 1) * size) / 8] as const)
  t.same(await Promise.all(parts.map(p => read(...p))), await Promise.all(parts.map(p => local(...p))), 'eight at once')
  rmSync(file)
  if (process.platform !== 'linux') return
  const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${indexer.pid}/status`, 'utf8'))![1]) / 1024
  t.ok(peak < MOST_MIB, `the gateway took ${Math.round(peak)} MiB`)
})

t.test('a put that is killed goes on where it was, and pays once', async t => {
  const file = box.path('large.bin')
  mkdirSync(box.path('state', 'zg'), { recursive: true })
  writeFileSync(file, content('large', 48 * 1024 * 1024))
  const journal = (): string[] => {
    try {
      return readdirSync(box.path('state', 'zg', 'devnet', 'put')).filter(f => f.endsWith('.json'))
    } catch {
      return []
    }
  }
  const before = Number(parseRecords((await zg(['ls', '--limit', '1', '--json'])).stdout)[0]!.tx_seq)
  const running = startTool('zg-store', ['put', file], { env, timeoutMs: 60_000, readyType: 'never' }).catch(() => {})
  await waitFor(() => journal().length > 0, { what: 'the journal', timeoutMs: 30_000 })
  // Once the chain knows the transaction there is something to go on from.
  const rpc = new RpcClient(chain.url, { what: 'chain' })
  await waitFor(
    async () => {
      const [name] = journal()
      if (name === undefined) return true
      const { txHash } = JSON.parse(readFileSync(box.path('state', 'zg', 'devnet', 'put', name), 'utf8'))
      return (await rpc.call('eth_getTransactionByHash', [txHash])) !== null
    },
    { what: 'the transaction', timeoutMs: 30_000, everyMs: 5 }
  )
  const lock = readdirSync(box.path('state', 'zg', 'devnet', 'put')).find(f => f.endsWith('.lock'))!
  process.kill(Number(readFileSync(box.path('state', 'zg', 'devnet', 'put', lock), 'utf8')), 'SIGKILL')
  await running
  t.equal(journal().length, 1, 'it was killed before the end')
  const again = await zg(['put', file, '--json'], { timeoutMs: 60_000 })
  t.match(parseRecords(again.stdout)[0], { type: 'file', resumed: true, tx_seq: before + 1, nodes: 2 })
  t.equal(journal().length, 0)
  t.equal(
    Number(parseRecords((await zg(['ls', '--limit', '1', '--json'])).stdout)[0]!.tx_seq),
    before + 1,
    'one submission in all'
  )
})

t.test('after kill -9 of the key-value node its state is the same', async t => {
  t.equal((await zg(['kv', 'put', '0xf009', 'k', 'before'])).code, 0)
  await kv.kill9()
  t.equal((await zg(['kv', 'put', '0xf009', 'k', 'while away', '--no-wait'])).code, 0)
  kv = await startTool('zg-store', kvArgs(String(kv.port)), { env: box.env })
  await waitFor(async () => (await zg(['kv', 'get', '0xf009', 'k'])).stdout === 'while away', {
    what: 'the replay',
    timeoutMs: 20_000,
    everyMs: 200
  })
  t.equal((await zg(['kv', 'get', '0xf2bd', 'big'])).bytes.length, 400_000)
  const second = await runTool('zg-store', kvArgs('0'), { env: box.env })
  t.equal(second.code, 75, 'one process a directory')
  t.match(second.stderr, `is in use by pid ${kv.pid}`)
})

t.test('with one node dead everything is still read, and writes say that there is one copy', async t => {
  const bytes = content('survivor', 800_000)
  const root = (await zg(['put'], { input: bytes })).stdout.trim()
  await stores[0]!.kill9()
  t.ok(Buffer.from((await zg(['get', root])).bytes).equals(bytes))
  await waitFor(async () => ((await (await fetch(`${indexer.url}/ready`)).json()) as any).progress === '1 of 2 nodes', {
    what: 'the indexer to drop it',
    timeoutMs: 15_000,
    everyMs: 100
  })
  const one = await zg(['put'], { input: content('one copy', 5000) })
  t.equal(one.code, 0)
  t.match(one.stderr, /only one storage node answers: one copy/)
  t.equal((await zg(['put', '--expected-replica', '2'], { input: content('two copies', 5000) })).code, 69)
})

t.test('daemons end on SIGTERM with 0', async t => {
  for (const tool of [kv, indexer]) t.equal((await tool.stop(5_000)).code, 0)
})
