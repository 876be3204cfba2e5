/**
 * Proves that both storage SDKs of 0G work unmodified against a coding group (`zg-devnet up --stores 6`, 4+2): each writes and both read,
 * through the indexer and directly through a member, with all members alive and with two of them killed, and what was written while two
 * were dead reads back too.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import * as newSdk from '@0gfoundation/0g-ts-sdk'
import * as oldSdk from '@0glabs/0g-ts-sdk'
import * as ethers from 'ethers'
import t from 'tap'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { startNetwork } from '../harness/network.ts'
import { endSoon, runTool, waitFor } from '../harness/tools.ts'

// The SDKs print their progress with console.log, which is this file's TAP output.
console.log = () => {}
console.info = () => {}
console.debug = () => {}

const network = await startNetwork('interop-group', ['--stores', '6'])
t.teardown(async () => {
  await network.stop()
  endSoon()
})
t.setTimeout(280_000)

/** Copies, a cut stripe, a full one, and one and a bit. */
const SIZES = [257, 20_000, 4 * 262_144, 1_300_001]
const DEAD = [1, 4]

type Sdk = typeof newSdk | typeof oldSdk
const sdks: [string, Sdk][] = [
  ['new', newSdk],
  ['old', oldSdk]
]

function content(seed: string, size: number): Uint8Array {
  const block = createHash('sha256').update(seed).digest()
  const out = Buffer.alloc(size)
  for (let at = 0; at < size; at += 32) block.copy(out, at)
  for (let at = 0; at + 4 <= size; at += 4096) out.writeUInt32LE(at, at)
  return out
}

function signer(index: number): ethers.Wallet {
  return new ethers.Wallet(
    DEV_ACCOUNTS[index]!.privateKey,
    new ethers.JsonRpcProvider(network.rpc, 31337, { staticNetwork: true, pollingInterval: 100 })
  )
}

const OPTIONS = { tags: '0x', finalityRequired: true, taskSize: 10, expectedReplica: 1, skipTx: false, fee: 0n }

async function upload(sdk: Sdk, data: Uint8Array, by: ethers.Wallet): Promise<string> {
  const file = new sdk.MemData(data as never)
  const [tree, treeError] = await file.merkleTree()
  if (treeError !== null) throw treeError
  const [, err] = await (new sdk.Indexer(network.indexer).upload as any)(file, network.rpc, by, OPTIONS)
  if (err !== null) throw err
  return tree!.rootHash()!
}

/** Through one member alone. */
async function uploadTo(sdk: Sdk, url: string, data: Uint8Array, by: ethers.Wallet): Promise<string> {
  const file = new sdk.MemData(data as never)
  const [tree] = await file.merkleTree()
  const flow = (sdk.getFlowContract as any)(network.flow, by)
  const uploader = new (sdk.Uploader as any)([new sdk.StorageNode(url)], network.rpc, flow)
  const [, err] = await uploader.uploadFile(file, OPTIONS)
  if (err !== null) throw err
  return tree!.rootHash()!
}

const path = (): string => network.box.path(`dl-${Math.random().toString(36).slice(2)}`)

async function download(sdk: Sdk, root: string): Promise<Uint8Array> {
  const to = path()
  const err = await new sdk.Indexer(network.indexer).download(root, to, true)
  if (err !== null) throw err
  return readFileSync(to)
}

async function downloadFrom(sdk: Sdk, url: string, root: string): Promise<Uint8Array> {
  const to = path()
  const from = new sdk.Downloader([new sdk.StorageNode(url)] as never) as any
  // The older SDK calls it otherwise.
  const err = await (sdk === newSdk ? from.download(root, to, true) : from.downloadFile(root, to, true))
  if (err !== null) throw err
  return readFileSync(to)
}

const written = new Map<string, Uint8Array>()

async function writeAll(what: string, direct: string): Promise<void> {
  await Promise.all(
    sdks.map(async ([name, sdk], i) => {
      const by = signer(i + 1)
      for (const size of SIZES) {
        const data = content(`${what} ${name} ${size}`, size)
        written.set(await upload(sdk, data, by), data)
      }
      const data = content(`${what} ${name} direct`, 1_100_000)
      written.set(await uploadTo(sdk, direct, data, by), data)
    })
  )
}

async function readAll(t: { ok(x: unknown, message: string): unknown }, what: string, direct: string): Promise<void> {
  for (const [root, data] of written) {
    for (const [name, sdk] of sdks) {
      t.ok(Buffer.from(data).equals(await download(sdk, root)), `${what}: ${data.length} bytes, ${name} SDK, indexer`)
      t.ok(
        Buffer.from(data).equals(await downloadFrom(sdk, direct, root)),
        `${what}: ${data.length} bytes, ${name} SDK, one member`
      )
    }
  }
}

/** Every file final at a member. */
async function finalAt(url: string): Promise<void> {
  const node = new RpcClient(url)
  for (const root of written.keys()) {
    const final = async (): Promise<boolean> =>
      ((await node.call('zgs_getFileInfo', [root, true])) as { finalized?: boolean } | null)?.finalized === true
    await waitFor(final, { timeoutMs: 60_000, what: `${root} at ${url}` })
  }
}

t.test('six alive, then two dead: both SDKs write and read', async t => {
  await writeAll('alive', network.nodes[0]!)
  for (const url of network.nodes) await finalAt(url)
  await readAll(t, 'all alive', network.nodes[3]!)
  const killed = await runTool('zg-devnet', ['kill', ...DEAD.map(i => `store-${i}`)], { env: network.env })
  t.equal(killed.code, 0, killed.stderr)
  const left = network.nodes.filter((_, i) => !DEAD.includes(i))
  await readAll(t, 'two dead', left[0]!)
  // With four of six left new files take the code for four.
  const members = async (): Promise<number> => {
    const text = await (await fetch(`${left[1]}/metrics`)).text()
    return Number(/^zg_store_group_members_live (\d+)/m.exec(text)?.[1])
  }
  await waitFor(async () => (await members()) === 4, { timeoutMs: 60_000, what: 'the loss to be noticed' })
  written.clear()
  await writeAll('two dead', left[2]!)
  await finalAt(left[3]!)
  await readAll(t, 'written with two dead', left[3]!)
})
