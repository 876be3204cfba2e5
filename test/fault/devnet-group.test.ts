/**
 * Proves `zg-devnet up --stores 6` from outside: six storage nodes that know each other by a signed list code files as 4+2; two of them are
 * killed and every file reads back through others; they come back with empty disks, their shards are made again by themselves, and then two
 * others may die.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { fromHex } from '../../lib/base/hex.ts'
import { StoreNode } from '../../lib/clients/store.ts'
import { groupFromJson } from '../../lib/codec/storage/members.ts'
import { wrongAnswers } from '../harness/mining.ts'
import { startNetwork } from '../harness/network.ts'
import { parseRecords, runTool, startTool, waitFor } from '../harness/tools.ts'

const network = await startNetwork('group', ['--stores', '6'])
t.teardown(() => network.stop())

const devnet = (args: string[]) => runTool('zg-devnet', args, { env: network.env, timeoutMs: 120_000 })
const store = (args: string[]) => runTool('zg-store', args, { env: network.env, timeoutMs: 120_000 })
const list = () => groupFromJson(readFileSync(network.box.path('data', 'zg', 'group', 'group.json'), 'utf8'))

/** Sizes whose stripes are whole, cut, and copied instead of coded. */
const SIZES = [100, 20_000, 1_048_576, 1_300_001]

/** A miner beside one member has an answer accepted, proven by sectors that lie on this member's own disk, and seals nothing else. */
async function mines(
  t: { comment(x: string): void; ok(a: unknown, b: string): void; same(a: unknown, b: unknown, c: string): void },
  files: { root: string }[]
): Promise<void> {
  const node = new StoreNode(network.nodes[3]!)
  const dir = network.box.path('group-miner')
  const args = [
    'mine',
    '--node',
    node.url,
    '--account',
    '5',
    '--cpu-limit',
    '100',
    '--cache-max',
    '64MiB',
    '--dir',
    dir
  ]
  const begun = performance.now()
  const miner = await startTool('zg-store', [...args, '--json'], { env: network.env })
  const answers = () => miner.records().filter(r => r.type === 'mine_answer')
  try {
    await waitFor(() => answers().some(r => r.accepted === true), { timeoutMs: 150_000, what: 'an accepted answer' })
  } finally {
    await miner.stop()
  }
  t.comment(`a member's miner had its answer after ${Math.round((performance.now() - begun) / 1000)} s`)
  t.same(wrongAnswers(answers()), [], 'none was wrong')
  // Where each file lies in the flow, and which of its sectors the member has.
  const held = new Set<number>()
  let sectors = 0
  for (const { root } of files) {
    const info = (await node.fileInfo(fromHex(root as `0x${string}`), false))!
    const segments = Math.ceil(info.sizeBytes / 262_144)
    const mask = (await node.heldSectors(info.root, 0, segments))!
    const data = Math.ceil(info.sizeBytes / 256)
    sectors += data
    for (let s = 0; s < data; s++) if ((mask[s >> 3]! & (1 << (s & 7))) !== 0) held.add(info.startEntryIndex + s)
  }
  t.ok(held.size > 0 && held.size < sectors / 2, `the member has ${held.size} of ${sectors} sectors`)
  for (const r of answers()) {
    const at = Number(r.position)
    t.ok(
      Array.from({ length: 16 }, (_, i) => at + i).some(s => held.has(s)),
      `sector ${at} is its own`
    )
  }
  const reads = await fetch(`${node.url}/metrics`).then(x => x.text())
  t.ok(/zg_store_degraded_reads_total 0/.test(reads), 'nothing was decoded for it')
  await new RpcClient(node.url).call('zgs_getStatus')
}

t.test('two of six are killed, wiped and whole again, and every file reads back', { timeout: 540_000 }, async t => {
  const { members, version, chainId } = list()
  t.match({ count: members.length, version, chainId }, { count: 6, version: 1, chainId: 31337 })
  t.strictSame([...members].map(m => m.peer).sort(), [...network.nodes].sort())

  const files: { root: string; path: string }[] = []
  for (const size of SIZES) {
    const path = network.box.path(`f${size}`)
    writeFileSync(path, randomBytes(size))
    const put = await store(['put', path, '--quiet', '--expected-replica', '1'])
    t.equal(put.code, 0, put.stderr)
    files.push({ root: put.stdout.trim(), path })
  }
  const readAll = async (nodes: string[]): Promise<void> => {
    for (const { root, path } of files) {
      for (const node of nodes) {
        const got = await store(['get', root, '--node', node, '--quiet'])
        t.ok(got.code === 0 && readFileSync(path).equals(Buffer.from(got.bytes)), `${path} from ${node} ${got.stderr}`)
      }
    }
  }
  // Killed at once, two acknowledgements of the six may still be missing: wait until a file is whole everywhere.
  const final = async (node: string): Promise<boolean> => {
    for (const { root } of files) {
      const stat = parseRecords((await store(['stat', root, '--node', node, '--json'])).stdout)
      if (!stat.some(r => r.final === true || r.state === 'final')) return false
    }
    return true
  }
  for (const node of network.nodes) await waitFor(() => final(node), { timeoutMs: 120_000, everyMs: 200, what: node })
  await mines(t, files)
  const [a, b] = ['store-1', 'store-4']
  const killed = await devnet(['kill', a, b])
  t.equal(killed.code, 0, killed.stderr)
  await readAll(network.nodes.filter((_, i) => i !== 1 && i !== 4).slice(0, 2))

  t.equal((await devnet(['start', a, b, '--wipe'])).code, 0)
  const again = [network.nodes[1]!, network.nodes[4]!]
  for (const node of again)
    await waitFor(() => final(node), { timeoutMs: 120_000, everyMs: 500, what: `${node} again` })
  // What the two had lost is made again: one shard of each stripe each, a quarter of the coded bytes.
  const lost = (2 * SIZES.filter(size => size > 16_384).reduce((sum, size) => sum + size, 0)) / 4
  const metric = async (node: string, name: string): Promise<number> => {
    const text = await fetch(`${node}/metrics`).then(r => r.text())
    return Number(new RegExp(`^zg_store_${name} (\\d+)`, 'm').exec(text)?.[1] ?? Number.NaN)
  }
  await waitFor(
    async () => {
      const all = await Promise.all(
        network.nodes.map(n => Promise.all([metric(n, 'repair_lost_bytes_total'), metric(n, 'repair_pending')]))
      )
      return all.reduce((sum, x) => sum + x[0], 0) >= lost && all.reduce((sum, x) => sum + x[1], 0) === 0
    },
    { timeoutMs: 120_000, everyMs: 500, what: 'the shards of the wiped nodes' }
  )
  // Now two others may go: of the six of each stripe exactly four are left, two of them made again.
  t.equal((await devnet(['kill', 'store-0', 'store-2'])).code, 0)
  await readAll(again)
  t.equal(list().version, 1)
})
