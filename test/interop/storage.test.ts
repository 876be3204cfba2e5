/**
 * Proves that both storage SDKs of 0G work unmodified against `zg-devnet up`: files of 1 byte to 64 MiB written by either and read
 * by either, the same content twice, and key-value streams set, read, iterated and protected.
 */
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import * as newSdk from '@0gfoundation/0g-ts-sdk'
import * as oldSdk from '@0glabs/0g-ts-sdk'
import * as ethers from 'ethers'
import t from 'tap'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { startNetwork } from '../harness/network.ts'
import { endSoon, runTool, waitFor } from '../harness/tools.ts'

// The SDKs print their progress with console.log, which is this file's TAP output.
console.log = () => {}
console.info = () => {}
console.debug = () => {}

const network = await startNetwork('interop-store')
t.teardown(async () => {
  await network.stop()
  endSoon()
})

const MiB = 1024 * 1024
/** 64 MiB once, by the newer SDK: each hashes it twice at 13 MB a second. */
const SIZES = [1, 255, 256, 257, 4097, 262_143, 262_144, 262_145, MiB + 1, 5 * MiB + 1, 16 * MiB]

/** Bytes that differ for every seed, at memory speed. */
function content(seed: string, size: number): Uint8Array {
  const block = createHash('sha256').update(seed).digest()
  const out = Buffer.alloc(size)
  for (let at = 0; at < size; at += 32) block.copy(out, at)
  for (let at = 0; at + 4 <= size; at += 4096) out.writeUInt32LE(at, at)
  return out
}

type Sdk = typeof newSdk | typeof oldSdk

function signer(index: number): ethers.Wallet {
  return new ethers.Wallet(
    DEV_ACCOUNTS[index]!.privateKey,
    new ethers.JsonRpcProvider(network.rpc, 31337, { staticNetwork: true, pollingInterval: 100 })
  )
}

/** From a file when there is much: the newer SDK's MemData copies all of it for each segment that it reads. */
async function upload(sdk: Sdk, data: Uint8Array, by: ethers.Wallet, opts?: object): Promise<string> {
  const path = network.box.path(`up-${Math.random().toString(36).slice(2)}`)
  if (data.length >= MiB) writeFileSync(path, data)
  const file = data.length >= MiB ? await sdk.ZgFile.fromFilePath(path) : new sdk.MemData(data as never)
  try {
    const [tree, treeError] = await file.merkleTree()
    if (treeError !== null) throw treeError
    const indexer = new sdk.Indexer(network.indexer)
    const [, err] = await (indexer.upload as any)(file, network.rpc, by, opts)
    if (err !== null) throw err
    return tree!.rootHash()!
  } finally {
    if (file instanceof sdk.ZgFile) await file.close()
  }
}

async function download(sdk: Sdk, root: string): Promise<Uint8Array> {
  const path = network.box.path(
    `dl-${sdk === newSdk ? 'new' : 'old'}-${root.slice(2, 12)}-${Math.random().toString(36).slice(2)}`
  )
  const err = await new sdk.Indexer(network.indexer).download(root, path, true)
  if (err !== null) throw err
  return readFileSync(path)
}

t.test('files of every size, written by each SDK and read by both', async t => {
  const write = async (sdk: Sdk, account: number): Promise<Map<string, Uint8Array>> => {
    const written = new Map<string, Uint8Array>()
    const by = signer(account)
    for (const size of SIZES) {
      const data = content(`${account}-${size}`, size)
      written.set(await upload(sdk, data, by), data)
    }
    return written
  }
  const [byNew, byOld] = await Promise.all([write(newSdk, 1), write(oldSdk, 2)])
  for (const [writer, files] of [
    ['new', byNew],
    ['old', byOld]
  ] as const) {
    for (const [root, data] of files) {
      for (const [reader, sdk] of [
        ['new', newSdk],
        ['old', oldSdk]
      ] as const) {
        t.ok(
          Buffer.from(data).equals(await download(sdk, root)),
          `${data.length} bytes written by the ${writer} SDK, read by the ${reader} one`
        )
      }
    }
  }
})

t.test(
  'the same content again costs nothing with the new SDK and becomes final by itself with the old one',
  async t => {
    const data = content('twice', 300_000)
    const root = await upload(newSdk, data, signer(1))
    const submissions = async (): Promise<bigint> =>
      new ethers.Contract(network.flow, ['function numSubmissions() view returns (uint256)'], signer(1))
        .getFunction('numSubmissions')
        .staticCall()
    const before = await submissions()
    t.equal(await upload(newSdk, data, signer(1)), root)
    t.equal(await submissions(), before, 'no second transaction')
    t.equal(await upload(oldSdk, data, signer(2)), root)
    t.equal(await submissions(), before + 1n, 'the old SDK always submits')
    t.ok(Buffer.from(data).equals(await download(newSdk, root)))
  }
)

t.test('task sizes other than the default', async t => {
  const data = content('tasks', 3 * MiB + 5)
  for (const taskSize of [1, 10, 100]) {
    const mine = Buffer.concat([data, Buffer.from([taskSize])])
    const root = await upload(newSdk, mine, signer(1), { taskSize })
    t.ok(mine.equals(Buffer.from(await download(oldSdk, root))), `taskSize ${taskSize}`)
  }
})

t.test('unknown roots are a clean error in both', async t => {
  const root = `0x${'ab'.repeat(32)}`
  for (const sdk of [newSdk, oldSdk]) {
    const err = await new sdk.Indexer(network.indexer).download(root, network.box.path('never'), true)
    t.ok(err instanceof Error, String(err?.message))
  }
})

t.test('64 MiB, by root and by stream, with and without proof', async t => {
  const data = content('largest', 64 * MiB)
  const root = await upload(newSdk, data, signer(1), { taskSize: 10 })
  t.ok(Buffer.from(data).equals(await download(newSdk, root)), 'by the newer SDK')
  t.ok(Buffer.from(data).equals(await download(oldSdk, root)), 'by the older one')
  const [blob, error] = await new newSdk.Indexer(network.indexer).downloadToBlob(root, { proof: false })
  t.equal(error, null)
  t.ok(Buffer.from(data).equals(Buffer.from(await blob.arrayBuffer())), 'as a stream, without proof')
  const viaGateway = await fetch(`${network.indexer}/file?root=${root}`)
  t.ok(Buffer.from(data).equals(Buffer.from(await viaGateway.arrayBuffer())), 'through the gateway')
})

t.test('directly from a node, without the indexer', async t => {
  const data = content('direct', 3 * MiB + 77)
  const by = signer(1)
  const clients = network.nodes.slice(0, 1).map(url => new newSdk.StorageNode(url))
  const file = new newSdk.MemData(data as never)
  const uploader = new newSdk.Uploader(clients as never, network.rpc, newSdk.getFlowContract(network.flow, by as never))
  const [tree] = await file.merkleTree()
  const [, err] = await (uploader as any).uploadFile(file, {
    ...{ tags: '0x', finalityRequired: true, taskSize: 10, expectedReplica: 1, skipTx: false, fee: 0n }
  })
  t.equal(err, null)
  const path = network.box.path('direct')
  t.equal(await (new newSdk.Downloader(clients as never) as any).download(tree!.rootHash(), path, true), null)
  t.ok(readFileSync(path).equals(Buffer.from(data)))
})

t.test('encrypted and in fragments, written by the SDK and read by zg, and the other way round', async t => {
  const key = content('sdk key', 32)
  const keyFile = network.box.path('sdk.key')
  writeFileSync(keyFile, Buffer.from(key).toString('hex'), { mode: 0o600 })
  const data = content('sdk secret', 700_001)
  const zg = (args: string[], input?: Uint8Array) =>
    runTool('zg-store', args, { env: network.env, ...(input === undefined ? {} : { input }) })
  const indexer = new newSdk.Indexer(network.indexer)
  const file = new newSdk.MemData(data as never)
  const [tx, err] = await (indexer.upload as any)(file, network.rpc, signer(1), {
    encryption: { type: 'aes256', key },
    fragmentSize: 262_144
  })
  t.equal(err, null, String(err))
  const roots: string[] = tx.rootHashes ?? [tx.rootHash]
  t.equal(roots.length, 3, 'cut into three')
  // This SDK gives every fragment a header of its own, which its own download does not know.
  const read = await zg(['get', '--encryption-key-file', keyFile, ...roots])
  t.ok(Buffer.from(read.bytes).equals(Buffer.from(data)), read.stderr)
  const mine = await zg(['put', '-q', '--encryption-key-file', keyFile, '--fragment-size', '256KiB'], data)
  const [blob, error] = await (indexer.downloadToBlob as any)(mine.stdout.trim().split('\n'), {
    proof: true,
    decryption: { symmetricKey: key }
  })
  t.equal(error, null, String(error))
  t.ok(Buffer.from(data).equals(Buffer.from(await blob.arrayBuffer())))
})

t.test('for the owner of a key pair, written by the SDK and read by zg, and the other way round', async t => {
  const secret = content('my secret', 32)
  const keyFile = network.box.path('mine.key')
  writeFileSync(keyFile, Buffer.from(secret).toString('hex'), { mode: 0o600 })
  const zg = (args: string[], input?: Uint8Array) =>
    runTool('zg-store', args, { env: network.env, ...(input === undefined ? {} : { input }) })
  const publicKey = ethers.SigningKey.computePublicKey(secret, true)
  t.equal((await zg(['pubkey', keyFile])).stdout.trim(), publicKey)
  const indexer = new newSdk.Indexer(network.indexer)
  const read = async (roots: string[]): Promise<Buffer> => {
    const what = roots.length === 1 ? roots[0] : roots
    const [blob, err] = await (indexer.downloadToBlob as any)(what, {
      proof: true,
      decryption: { privateKey: secret }
    })
    if (err !== null) throw err
    return Buffer.from(await blob.arrayBuffer())
  }
  for (const [size, cut] of [
    [1, undefined],
    [300_000, undefined],
    [700_001, 262_144]
  ] as const) {
    const data = Buffer.from(content(`for me ${size}`, size))
    const [tx, err] = await (indexer.upload as any)(new newSdk.MemData(data as never), network.rpc, signer(1), {
      encryption: { type: 'ecies', recipientPubKey: publicKey },
      ...(cut === undefined ? {} : { fragmentSize: cut })
    })
    t.equal(err, null, String(err))
    const roots: string[] = tx.rootHashes ?? [tx.rootHash]
    t.equal(roots.length, cut === undefined ? 1 : 3)
    const byZg = await zg(['get', '--encryption-key-file', keyFile, ...roots])
    t.ok(Buffer.from(byZg.bytes).equals(data), `${size} bytes by the SDK, read by zg ${byZg.stderr}`)
    const fragment = cut === undefined ? [] : ['--fragment-size', '256KiB']
    const put = await zg(['put', '-q', '--encrypt-to', publicKey, ...fragment], data)
    t.ok(data.equals(await read(put.stdout.trim().split('\n'))), `${size} bytes by zg, read by the SDK ${put.stderr}`)
  }
})

t.test('what the SDKs get wrong loses nothing here', async t => {
  // Their task lists lose the tail on nodes with unequal shards (storage.md 4.2): every node of zg shows one shard, so all lists are equal.
  for (const url of network.nodes) {
    const res = await fetch(url, {
      method: 'POST',
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'zgs_getShardConfig' })
    })
    t.same(((await res.json()) as any).result, { shardId: 0, numShard: 1 })
  }
  const five = content('five segments', 5 * 262_144)
  for (const [sdk, account] of [
    [newSdk, 1],
    [oldSdk, 2]
  ] as const) {
    const mine = Buffer.concat([five, Buffer.from([account])])
    // The older SDK takes a whole set of options or none.
    const all = { tags: '0x', finalityRequired: true, taskSize: 1, expectedReplica: 2, skipTx: false, fee: 0n }
    const root = await upload(sdk, mine, signer(account), all)
    t.ok(mine.equals(Buffer.from(await download(newSdk, root))), 'two nodes, an odd number of segments, one a call')
  }
  // A key written back to an old value has the root of the old write, so the newer SDK sends nothing (storage.md 6.3). The nodes
  // keep what was stored and say so; zg's own client submits again and the value is the one that was asked for.
  const owner = signer(5)
  const stream = `0x${'0'.repeat(59)}16879`
  const zg = (...args: string[]) => runTool('zg-store', ['kv', ...args], { env: network.env })
  for (const value of ['1', '2', '1']) {
    const put = await zg('put', stream, 'a', value, '--account', '5')
    t.equal(put.code, 0, put.stderr)
  }
  t.equal((await zg('get', stream, 'a')).stdout, '1')
  t.ok(owner.address)
})

const STREAM = `0x${'0'.repeat(60)}f2bd`
const enc = (s: string): Uint8Array => new TextEncoder().encode(s)

/** `version`: the newest sequence number the writer has seen; a key written after it is a conflict. */
async function writeKv(
  sdk: Sdk,
  by: ethers.Wallet,
  pairs: [key: string, value: Uint8Array][],
  version = Number.MAX_SAFE_INTEGER,
  more: { stream?: string; options?: object } = {}
): Promise<string> {
  const indexer = new sdk.Indexer(network.indexer)
  const [nodes, err] = await indexer.selectNodes(1)
  if (err !== null) throw err
  const flow = (sdk.getFlowContract as any)(network.flow, by)
  const batcher = new (sdk.Batcher as any)(version, nodes, flow, network.rpc)
  for (const [key, value] of pairs) batcher.streamDataBuilder.set(more.stream ?? STREAM, enc(key), value)
  // A full set of options of our own: without one the SDK writes the tags into its shared defaults, and the old one fills in nothing.
  const options = {
    tags: '0x',
    finalityRequired: true,
    taskSize: 10,
    expectedReplica: 1,
    skipTx: false,
    fee: 0n,
    ...more.options
  }
  const [tx, batchError] = await batcher.exec(options)
  if (batchError !== null) throw batchError
  return typeof tx === 'string' ? tx : tx.txHash
}

t.test('key-value: set, get, iterate, overwrite, long values, foreign writers', async t => {
  const owner = signer(3)
  const long = content('kv-long', 300_000)
  await writeKv(newSdk, owner, [
    ['alpha', enc('one')],
    ['beta', enc('two')],
    ['long', long]
  ])
  const client = new newSdk.KvClient(network.kv)
  const text = async (key: string): Promise<string | undefined> => {
    const value = await client.getValue(STREAM, enc(key) as never)
    return value === null || value.size === 0 ? undefined : Buffer.from(value.data, 'base64').toString()
  }
  await waitFor(async () => (await text('alpha')) === 'one', {
    timeoutMs: 20_000,
    what: 'the first write to be replayed'
  })
  t.equal(await text('beta'), 'two')
  t.equal(await text('gamma'), undefined, 'an unknown key has no value')
  const value = await client.getValue(STREAM, enc('long') as never)
  t.ok(Buffer.from(value!.data, 'base64').equals(Buffer.from(long)), 'a value above 256 KiB')

  const oldClient = new oldSdk.KvClient(network.kv)
  await writeKv(oldSdk, owner, [['alpha', enc('three')]])
  await waitFor(async () => (await text('alpha')) === 'three', {
    timeoutMs: 20_000,
    what: 'the overwrite to be replayed'
  })
  const old = await oldClient.getValue(STREAM, ethers.encodeBase64(enc('alpha')) as never)
  t.equal(Buffer.from(old!.data, 'base64').toString(), 'three', 'the old client reads it too')

  const iterator = client.newIterator(STREAM)
  const keys: string[] = []
  for (let err = await iterator.seekToFirst(); err === null && iterator.valid(); err = await iterator.next()) {
    const pair = iterator.getCurrentPair()!
    keys.push(Buffer.from(pair.key as never, typeof pair.key === 'string' ? 'base64' : undefined).toString())
  }
  t.strictSame(keys, ['alpha', 'beta', 'long'])

  await writeKv(newSdk, signer(4), [['alpha', enc('stolen')]])
  const rpc = async (method: string, params: unknown[]): Promise<any> => {
    const res = await fetch(network.kv, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })
    })
    return ((await res.json()) as any).result
  }
  await writeKv(newSdk, owner, [['alpha', enc('late')]], 0)
  const count = await new ethers.Contract(network.flow, ['function numSubmissions() view returns (uint256)'], owner)
    .getFunction('numSubmissions')
    .staticCall()
  await waitFor(async () => (await rpc('kv_getTransactionResult', [String(count - 1n)])) !== null, {
    timeoutMs: 20_000,
    what: 'the foreign write to be judged'
  })
  t.equal(await rpc('kv_getTransactionResult', [Number(count - 2n)]), 'SenderNoWritePermission')
  t.match(
    await rpc('kv_getTransactionResult', [Number(count - 1n)]),
    /^VersionConfliction/,
    'who has not seen the newest version does not overwrite it'
  )
  t.equal(await text('alpha'), 'three', 'a stranger cannot write')
  t.equal(await rpc('kv_IsAdmin', [owner.address, STREAM]), true)
  t.equal(await rpc('kv_isAdmin', [signer(4).address, STREAM]), false)
})

const SECOND = `0x${'0'.repeat(60)}f009`

t.test('key-value through both clients: result, roles, both directions, a deleted and a missing key', async t => {
  const owner = signer(5)
  const last = async (): Promise<number> =>
    Number(
      await new ethers.Contract(network.flow, ['function numSubmissions() view returns (uint256)'], owner)
        .getFunction('numSubmissions')
        .staticCall()
    ) - 1
  const pairs = ['a', 'b', 'c', 'd'].map((key): [string, Uint8Array] => [key, enc(`value of ${key}`)])
  await writeKv(newSdk, owner, pairs, undefined, { stream: SECOND })
  await writeKv(oldSdk, owner, [['c', new Uint8Array(0)]], undefined, { stream: SECOND })
  const seq = await last()
  const fresh = new newSdk.KvClient(network.kv)
  const old = new oldSdk.KvClient(network.kv)
  await waitFor(async () => (await fresh.getTransactionResult(seq)) === 'Commit', {
    timeoutMs: 20_000,
    what: 'the result as the client asks for it'
  })
  t.equal(await old.getTransactionResult(seq), 'Commit')
  t.equal(await fresh.getTransactionResult(seq + 1), null, 'not replayed yet')
  for (const [name, client, key] of [
    ['new', fresh, (k: string) => enc(k)],
    ['old', old, (k: string) => ethers.encodeBase64(enc(k))]
  ] as const) {
    const c = client as any
    const value = async (k: string) => c.getValue(SECOND, key(k))
    t.equal(Buffer.from((await value('a')).data, 'base64').toString(), 'value of a', `${name} client`)
    for (const k of ['c', 'never']) t.equal((await value(k))?.size ?? 0, 0, `${name} client: ${k} has no value`)
    t.equal(await c.isAdmin(owner.address, SECOND), true, `${name} client: the first writer is admin`)
    t.equal(await c.isAdmin(signer(6).address, SECOND), false)
    t.equal(await c.hasWritePermission(signer(6).address, SECOND, key('a')), false)
    t.equal(await c.isSpecialKey(SECOND, key('a')), false)
    t.equal(await c.isWriterOfStream(owner.address, SECOND), false, 'an admin is no writer by that')
    t.ok((await c.getHoldingStreamIds()).includes(SECOND))
  }
  const iterator = fresh.newIterator(SECOND)
  const name = (): string => Buffer.from(iterator.getCurrentPair()!.key as never, 'base64').toString()
  const walked: string[] = []
  for (let err = await iterator.seekToLast(); err === null && iterator.valid(); err = await iterator.prev())
    walked.push(name())
  t.strictSame(walked, ['d', 'b', 'a'], 'backwards, over the deleted one')
  await iterator.seekAfter(enc('b') as never)
  t.equal(name(), 'b', 'at a key that is there')
  await iterator.seekAfter(enc('c') as never)
  t.equal(name(), 'd', 'behind one that was deleted')
})
