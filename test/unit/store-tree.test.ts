/**
 * Proves how the client handles directories, fragments and its own wire, against a real storage node in this process: what is put
 * comes back as it was; a thousand small files cost few transactions, and an interrupted run pays nothing twice; a hostile folder
 * writes nothing anywhere; and whatever a server sends instead of what the wire expects is an error or the ordinary client's work.
 */
import { createHash } from 'node:crypto'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { startStoreNode } from '../../cmd/zg-store/node/store-node.ts'
import { parseByteRange, parsePathInFolder } from '../../cmd/zg-store/verbs/common.ts'
import { parseLine } from '../../cmd/zg-store/verbs/root.ts'
import { concat, utf8 } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { ChainClient } from '../../lib/clients/chain.ts'
import { callSocket } from '../../lib/clients/store/admin.ts'
import { slice } from '../../lib/clients/store/source.ts'
import { wireExchange } from '../../lib/clients/store/wire.ts'
import {
  diffFolders,
  download,
  encryptedSource,
  FlowClient,
  hashSource,
  hashTree,
  memorySource,
  NodePool,
  type PutItem,
  type PutOptions,
  put,
  putMany,
  RemoteStream,
  readFolder,
  restoreFolder,
  scanTree,
  treeRootOf
} from '../../lib/clients/store.ts'
import { encodeFolder, type FolderEntry, folderMagic, linkStaysInside } from '../../lib/codec/storage/folder.ts'
import { fragments } from '../../lib/codec/storage/fragments.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { silentLog } from '../../lib/ops/log.ts'
import { waitFor } from '../harness/tools.ts'
import { FLOW, startPayingChain } from './paying-chain.ts'

const dir = mkdtempSync(join(tmpdir(), 'zg-tree-'))
const chain = await startPayingChain()
const node = await startStoreNode({
  dir: join(dir, 'node'),
  chain: chain.url,
  flow: FLOW,
  rpcPort: 0,
  log: () => silentLog
})
t.teardown(async () => {
  await node.close()
  await chain.close()
  rmSync(dir, { recursive: true, force: true })
})

const payer = DEV_ACCOUNTS[0]!
const pool = new NodePool({ nodes: [node.url] })
const options = (more: Partial<PutOptions> = {}): PutOptions => ({
  pool,
  flow: new FlowClient(new ChainClient(chain.url)),
  signer: async () => ({
    address: fromHex(payer.address),
    name: '0',
    wellKnown: true,
    privateKey: async () => fromHex(payer.privateKey)
  }),
  journalDir: join(dir, 'journal'),
  replicas: 1,
  waitMs: 20_000,
  ...more
})

function content(seed: string, size: number): Buffer {
  const out = Buffer.alloc(size)
  let block = createHash('sha256').update(seed).digest()
  for (let at = 0; at < size; at += 32) {
    block.copy(out, at)
    if (at % 4096 === 0) block = createHash('sha256').update(block).digest()
  }
  return out
}

/** A directory with files around every border, folders in folders, links and an empty file. */
function makeTree(name: string, files = 12): string {
  const root = join(dir, name)
  mkdirSync(join(root, 'sub', 'deeper'), { recursive: true })
  mkdirSync(join(root, 'empty folder'))
  for (let i = 0; i < files; i++) writeFileSync(join(root, 'sub', `f${i}`), content(`${name} ${i}`, 1 + i * 257))
  writeFileSync(join(root, 'sub', 'deeper', 'ö and space'), content(`${name} large`, 600_001))
  writeFileSync(join(root, 'same'), content(`${name} 1`, 258))
  writeFileSync(join(root, 'empty'), '')
  symlinkSync('../same', join(root, 'sub', 'link'))
  symlinkSync('sub', join(root, 'to folder'))
  return root
}

function snapshot(path: string): string[] {
  return (readdirSync(path, { recursive: true }) as string[]).sort().map(name => {
    const s = lstatSync(join(path, name))
    if (s.isSymbolicLink()) return `${name} -> ${readlinkSync(join(path, name))}`
    if (s.isDirectory()) return `${name}/`
    return `${name} ${createHash('sha256')
      .update(readFileSync(join(path, name)))
      .digest('hex')}`
  })
}

async function putTree(path: string, more: Partial<PutOptions> = {}, key?: Uint8Array, fragmentBytes?: number) {
  const tree = await scanTree(path)
  const pieces = await hashTree(tree, { key, fragmentBytes })
  const items: PutItem[] = pieces.map(p => ({ hash: p.hash, open: p.open }))
  const results = await putMany(items, options(more))
  const plain = memorySource(encodeFolder(tree.top))
  const source = key === undefined ? plain : await encryptedSource(plain, key)
  return { results, top: tree.top, folder: await put(source, await hashSource(source), options(more)) }
}

const transactions = (): number => new Set(chain.sent.map(s => s.hash)).size

t.test('a directory comes back as it was, its files in one transaction, and costs nothing a second time', async t => {
  const path = makeTree('a')
  const before = transactions()
  const { folder, results } = await putTree(path)
  t.equal(transactions() - before, 2, 'one for fourteen files, one for the folder')
  t.equal(results.length, 14)
  t.equal(
    toHex(folder.root),
    toHex((await treeRootOf(path)).hash.root),
    "the root is what 'root' says without a network"
  )
  const target = join(dir, 'restored')
  await restoreFolder(pool, await readFolder(pool, folder.root), target)
  t.same(snapshot(target), snapshot(path))
  const paid = chain.sent.length
  const again = await putTree(path)
  t.ok(again.folder.already && again.results.every(r => r.already))
  t.equal(chain.sent.length, paid)
  // What is there and right is left alone, also links; what differs is an error, or replaced by force.
  const resumed: number[] = []
  await restoreFolder(pool, again.top, target, { onFile: (_, e, n) => resumed.push(e.size - n) })
  t.ok(resumed.every(n => n === 0))
  writeFileSync(join(target, 'sub', 'f3'), 'changed')
  await t.rejects(restoreFolder(pool, again.top, target), { code: 'ERR_EXISTS' })
  await restoreFolder(pool, again.top, target, { force: true })
  t.same(snapshot(target), snapshot(path))
})

t.test('a contract without batches is paid one by one', async t => {
  chain.batches = false
  const before = transactions()
  await putTree(makeTree('single', 3))
  t.equal(transactions() - before, 5, 'four contents and the folder; the twin of a file costs nothing')
  chain.batches = true
})

t.test('a batch that was cut off while its transaction waited is not paid again', async t => {
  const path = makeTree('cut', 5)
  const stop = new AbortController()
  chain.hold = true
  const before = chain.sent.length
  const running = putTree(path, { signal: stop.signal, flow: new FlowClient(new ChainClient(chain.url), stop.signal) })
  await waitFor(() => chain.sent.length > before, { what: 'the batch' })
  const sent = chain.sent.length
  stop.abort(new Error('stopped'))
  await t.rejects(running)
  chain.hold = false
  chain.mine()
  const { folder } = await putTree(path)
  t.equal(chain.sent.length - sent, 1, 'only the folder was paid')
  await restoreFolder(pool, await readFolder(pool, folder.root), join(dir, 'cut-back'))
  t.same(snapshot(join(dir, 'cut-back')), snapshot(path))
  t.same(readdirSync(join(dir, 'journal')), [], 'nothing is left to remember')
})

t.test('encrypted and in fragments: the folder too is unreadable without the key', async t => {
  const path = makeTree('secret', 3)
  const key = content('key', 32)
  const { folder, top } = await putTree(path, {}, key, 262_144)
  t.equal(top.entries.find(e => e.name === 'sub')!.entries[0]!.entries[0]!.roots.length, 3, 'the large one is cut')
  await t.rejects(readFolder(pool, folder.root), { code: 'ERR_BAD_INPUT' })
  const read = await readFolder(pool, folder.root, { key: { key } })
  await restoreFolder(pool, read, join(dir, 'secret-back'), { key: { key } })
  t.same(snapshot(join(dir, 'secret-back')), snapshot(path))
  t.same([...diffFolders(read, (await treeRootOf(path, { key, fragmentBytes: 262_144 })).top)], [])
})

t.test('a stream of encrypted fragments: every range, and a download that goes on', async t => {
  const bytes = content('stream', 1_500_003)
  const key = content('another key', 32)
  const source = await encryptedSource(memorySource(bytes), key)
  const roots: Uint8Array[] = []
  for (const f of fragments(source.sizeBytes, 524_288)) {
    const part = slice(source, f.offset, f.size)
    roots.push((await put(part, await hashSource(part), options())).root)
  }
  t.equal(roots.length, 3)
  const stream = await RemoteStream.open(pool, roots, { key: { key } })
  t.equal(stream.sizeBytes, bytes.length)
  for (const [start, end] of [
    [0, 1],
    [15, 33],
    [524_270, 524_300],
    [524_288 - 17, 524_288],
    [0, bytes.length],
    [1_048_000, 1_500_003],
    [7, 7]
  ] as const) {
    const parts: Uint8Array[] = []
    for await (const p of stream.bytes(start, end)) parts.push(Buffer.from(p))
    t.ok(Buffer.concat(parts).equals(bytes.subarray(start, end)), `${start} to ${end}`)
  }
  const target = join(dir, 'stream.bin')
  // The last 100,000 bytes of what is there are wrong: they are found out and read again.
  writeFileSync(`${target}.part`, concat(bytes.subarray(0, 900_000), new Uint8Array(100_000)))
  const { resumedBytes } = await download(stream, target)
  t.equal(resumedBytes, 524_288 + 262_144 - 17)
  t.ok(readFileSync(target).equals(bytes))
  await t.rejects(RemoteStream.open(pool, roots, { key: { privateKey: key } }), { code: 'ERR_BAD_INPUT' })
  await t.rejects(RemoteStream.open(pool, roots.slice(1), { key: { key } }), { code: 'ERR_CORRUPT' })
})

t.test('what a directory may not hold is refused before anything is sent', async t => {
  const cases: [string, (path: string) => void, RegExp][] = [
    ['out', p => symlinkSync('../../x', join(p, 'l')), /leads out of the folder/],
    ['absolute', p => symlinkSync('/etc/passwd', join(p, 'l')), /leads out/],
    ['device', p => writeFileSync(join(p, 'NUL'), 'x'), /is a device/],
    ['unicode', p => writeFileSync(Buffer.concat([Buffer.from(`${p}/`), Buffer.of(0xff, 0x41)]), 'x'), /not UTF-8/]
  ]
  for (const [name, make, words] of cases) {
    const path = join(dir, `bad-${name}`)
    mkdirSync(path)
    make(path)
    await t.rejects(scanTree(path), { code: 'ERR_BAD_INPUT', message: words }, name)
  }
  const socket = createServer()
  const path = join(dir, 'bad-socket')
  mkdirSync(path)
  await new Promise<void>(resolve => socket.listen(join(path, 's'), resolve))
  await t.rejects(scanTree(path), { code: 'ERR_BAD_INPUT', message: /it is a socket/ })
  socket.close()
  await t.rejects(scanTree(join(dir, 'not there')), { code: 'ERR_NO_INPUT' })
})

t.test('a hostile folder writes nothing', async t => {
  const root = toHex(
    (await put(memorySource(content('x', 10)), await hashSource(memorySource(content('x', 10))), options())).root
  )
  const file = (name: string) => ({ name, type: 'file', roots: [root], size: 10 })
  const link = (name: string, to: string) => ({ name, type: 'symbolic', link: to })
  const folder = (...entries: object[]) => ({ name: 'd', type: 'directory', entries })
  const hostile: [string, object[]][] = [
    ['dots', [file('..')]],
    ['a path', [file('../evil')]],
    ['absolute', [file('/tmp/evil')]],
    ['a backslash', [file('..\\evil')]],
    ['NUL', [file('a\0b')]],
    ['a dot', [folder(file('.'))]],
    ['4,096 bytes', [file('n'.repeat(4096))]],
    ['empty', [file('')]],
    ['twice', [file('a'), link('a', 'b')]],
    ['a device', [file('com1')]],
    ['a device with a space', [file('nul ')]],
    ['a link out', [link('l', '../..')]],
    ['a link out from below', [folder(link('l', '../../x'))]],
    ['an absolute link', [link('l', '/etc')]],
    ['a drive', [link('l', 'C:\\x')]],
    ['a link out and back', [link('l', '../restored/x')]],
    ['an empty link', [link('l', '')]],
    ['a wrong size', [{ ...file('a'), size: 11 }]]
  ]
  for (const [what, entries] of hostile) {
    const bytes = concat(folderMagic(), Uint8Array.of(0, 2), utf8(JSON.stringify({ ...folder(...entries), name: '' })))
    const source = memorySource(bytes)
    const stored = await put(source, await hashSource(source), options())
    const target = join(dir, 'hostile')
    await t.rejects(
      readFolder(pool, stored.root).then(top => restoreFolder(pool, top, target)),
      { code: /ERR_CORRUPT|ERR_BAD_INPUT/ },
      what
    )
    t.notOk(existsSync(join(dir, 'evil')) || existsSync(join(target, 'l')) || existsSync(join(target, 'a')), what)
    rmSync(target, { recursive: true, force: true })
  }
  for (const link of ['a/../b', '../x', '..', './y']) t.ok(linkStaysInside(link, ['d']), link)
  t.notOk(linkStaysInside('x/../../../y', ['d']))
  t.notOk(linkStaysInside('../../x', ['d']) || linkStaysInside('a/../../../x', ['d']))
})

t.test('nothing is written through a link that lies in the way', async t => {
  const path = makeTree('victim', 2)
  const { top } = await putTree(path)
  const outside = join(dir, 'outside')
  mkdirSync(outside)
  for (const prepare of [
    (to: string) => symlinkSync(outside, join(to, 'sub')),
    (to: string) => symlinkSync(join(outside, 'stolen'), join(to, 'same.part')),
    (to: string) => symlinkSync(join(outside, 'stolen'), join(to, 'empty'))
  ]) {
    const target = mkdtempSync(join(dir, 'links-'))
    prepare(target)
    await t.rejects(restoreFolder(pool, top, target), { code: 'ERR_EXISTS' })
    t.same(readdirSync(outside), [])
  }
})

t.test('what differs between folders', async t => {
  const file = (name: string, root: number, size = 5): FolderEntry => ({
    ...{ name, type: 'file', size, link: '', entries: [] },
    roots: [new Uint8Array(32).fill(root)]
  })
  const folder = (name: string, ...entries: FolderEntry[]): FolderEntry => ({
    ...{ name, type: 'directory', size: 0, link: '', roots: [] },
    entries
  })
  const a = folder('', file('a', 1), file('b', 1), folder('d', file('x', 1), file('y', 1)), file('t', 1))
  const b = folder('', file('b', 2), file('c', 1), folder('d', file('x', 1)), folder('t', file('u', 1)))
  t.same(
    [...diffFolders(a, b)].map(d => `${d.change} ${d.path}`),
    ['removed a', 'changed b', 'added c', 'removed d/y', 'type t', 'added t/u']
  )
  t.same([...diffFolders(a, a)], [])
})

t.test('words of the command line', async t => {
  t.same(parseByteRange('0-499')(1000), [0, 500])
  t.same(parseByteRange('500-')(1000), [500, 1000])
  t.same(parseByteRange('-500')(100), [0, 100])
  t.same(parseByteRange('5-999')(10), [5, 10])
  for (const bad of ['', '-', '5', '9-5', 'a-b', '1-2,3-4', '0x1-2', `${'9'.repeat(17)}-`])
    t.throws(() => parseByteRange(bad), { code: 'ERR_USAGE' }, bad)
  t.throws(() => parseByteRange('10-')(10), { code: 'ERR_BAD_INPUT' })
  const root = `0x${'ab'.repeat(32)}`
  t.same(parsePathInFolder(`${root}/a/b/`), { root: fromHex(root), path: 'a/b' })
  t.throws(() => parsePathInFolder('a/b'), { code: 'ERR_USAGE' })
  t.same(parseLine(`${root}  a  b`), { root, file: 'a  b' })
  t.same(parseLine(`${root.slice(2)} *a`), { root, file: 'a' })
  t.same(parseLine(`\\${root}  a\\nb\\\\c`), { root, file: 'a\nb\\c' })
  for (const bad of [root, `${root} a`, 'x  y', `${root}  `, `${root}  a\0b`]) t.equal(parseLine(bad), undefined)
})

t.test('the wire: kept connections, and whatever else a server may send', async t => {
  const sockets = new Set<Socket>()
  let answer: (path: string, socket: Socket, request: number) => void = () => {}
  let connections = 0
  const server = createServer(socket => {
    connections++
    sockets.add(socket)
    let requests = 0
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    socket.on('data', d => {
      const path = /^\w+ (\S+) /.exec(d.toString('latin1'))?.[1]
      if (path !== undefined) answer(path, socket, ++requests)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const s of sockets) s.destroy()
    server.close()
  })
  const base = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  const ask = (into?: Uint8Array, more: object = {}) =>
    wireExchange(base, '/x', { method: 'GET', into, maxBytes: 100_000, timeoutMs: 5_000, ...more })
  const ok = (body: string): string => `HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`

  answer = (_, s) => s.write(ok('hello'))
  const into = new Uint8Array(16)
  for (let i = 0; i < 3; i++) {
    const a = await ask(into)
    if (a === 'unsupported') return t.fail('understood')
    t.equal(Buffer.from(a.body).toString(), 'hello')
    t.equal(a.body.buffer, into.buffer, 'in the buffer that was given')
  }
  t.equal(connections, 1, 'one connection for all')
  answer = (_, s) => {
    // A byte at a time, so that every border falls between two arrivals.
    const text = ok('x'.repeat(300))
    let at = 0
    const next = (): void => {
      if (at < text.length) s.write(text.slice(at, ++at), () => setImmediate(next))
    }
    next()
  }
  const slow = await ask()
  t.equal(slow !== 'unsupported' && slow.body.length, 300)
  answer = (_, s, n) => (n > 1 ? s.destroy() : s.write(ok('again')))
  for (let i = 0; i < 3; i++) {
    const a = await ask()
    t.equal(
      a !== 'unsupported' && Buffer.from(a.body).toString(),
      'again',
      'a kept connection that closed is made anew'
    )
  }
  for (const [what, text, code] of [
    ['not HTTP', 'SSH-2.0-x\r\n\r\n', 'ERR_PROTOCOL'],
    ['a huge head', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(20_000)}`, 'ERR_PROTOCOL'],
    ['a huge body', 'HTTP/1.1 200 OK\r\ncontent-length: 100001\r\n\r\n', 'ERR_PROTOCOL'],
    ['more than announced', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxyz', 'ERR_PROTOCOL']
  ] as const) {
    answer = (_, s) => s.write(text)
    await t.rejects(ask(), { code }, what)
  }
  answer = (_, s) => s.end('HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf')
  await t.rejects(ask(), { code: 'ERR_UNAVAILABLE' }, 'cut short')
  answer = () => {}
  await t.rejects(ask(undefined, { timeoutMs: 50 }), { code: 'ERR_TIMEOUT' })
  const stop = new AbortController()
  const waiting = ask(undefined, { signal: stop.signal })
  stop.abort(new Error('enough'))
  await t.rejects(waiting, { message: 'enough' })
  for (const head of ['transfer-encoding: chunked', 'content-encoding: gzip\r\ncontent-length: 1', 'x: no length']) {
    answer = (_, s) => s.write(`HTTP/1.1 200 OK\r\n${head}\r\n\r\n`)
    t.equal(await ask(), 'unsupported', head)
  }
  // And then the ordinary client does the work.
  const chunked = createHttpServer((_, res) => {
    res.write('a')
    res.end('b'.repeat(255))
  })
  await new Promise<void>(resolve => chunked.listen(0, '127.0.0.1', resolve))
  t.teardown(() => chunked.close())
  const far = pool.node(`http://127.0.0.1:${(chunked.address() as AddressInfo).port}`)
  t.equal((await far.getRaw(new Uint8Array(32), 0, 1))?.length, 256)
  await t.rejects(callSocket(join(dir, 'no.sock'), 'x', []), { code: 'ERR_UNAVAILABLE' })
})
