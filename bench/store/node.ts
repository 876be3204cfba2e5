/**
 * One node and zg's own client, two processes on the same cores: durable writes and verification on, a file many times larger than
 * their windows. Chain: the stub of test/harness/flow-chain.ts, so that no block time is in these figures.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { RemoteFile } from '../../lib/clients/store/get.ts'
import { NodePool } from '../../lib/clients/store/nodes.ts'
import { hashSource } from '../../lib/clients/store/put.ts'
import { openSource, type Source } from '../../lib/clients/store/source.ts'
import { fileToSend, uploadTo } from '../../lib/clients/store/upload.ts'
import { type FlowChainServer, startFlowChain } from '../../test/harness/flow-chain.ts'
import { type NodeProcess, options, print, round, since, startNode, type Usage, usageOf, writeRandom } from './lib.ts'

const { size, dir, values } = options({ role: { type: 'string' }, profile: { type: 'string' } })

interface Message {
  nodes?: { height: number; root: string }[]
  root?: string
  hashSeconds?: number
  sendSeconds?: number
  client?: Usage
}

if (typeof values.role === 'string') await client(values.role)
else await main()

async function main(): Promise<void> {
  const place = mkdtempSync(join(dir, 'zg-bench-node-'))
  const chain = await startFlowChain()
  const node = await startNode(join(place, 'node'), chain.url)
  try {
    const file = join(place, 'file')
    writeRandom(file, size)
    const root = await put(node, chain, file)
    rmSync(file)
    await get(node, root, 'get, one node, first read')
    await get(node, root, 'get, one node, again')
  } finally {
    await node.stop()
    await chain.close()
    rmSync(place, { recursive: true, force: true })
  }
}

/** With --profile DIR each client leaves a profile of V8 in a directory of its own. */
function profiled(name: string): string[] {
  if (typeof values.profile !== 'string') return []
  const into = join(values.profile, name)
  mkdirSync(into, { recursive: true })
  return ['--cpu-prof', '--cpu-prof-interval', '500', '--cpu-prof-dir', into]
}

function role(name: string): ChildProcess {
  const execArgv = [...profiled(`client-${name}`), ...process.execArgv]
  return fork(fileURLToPath(import.meta.url), ['--role', name], { execArgv })
}

function answer(child: ChildProcess, onNodes?: (m: Message) => void): Promise<Message> {
  return new Promise((resolve, reject) => {
    child.once('close', code => reject(new Error(`the client ended with ${code}`)))
    child.on('message', m => {
      const message = m as Message
      if (message.nodes === undefined) resolve(message)
      else onNodes?.(message)
    })
  })
}

async function put(node: NodeProcess, chain: FlowChainServer, file: string): Promise<string> {
  const before = usageOf(node.pid)
  const child = role('put')
  child.send({ url: node.url, file })
  const done = await answer(child, message => {
    const nodes = message.nodes!.map(n => ({ height: n.height, root: fromHex(n.root, 'root') }))
    child.send({ seq: chain.submit([{ size, nodes }])[0] })
  })
  const [hashing, sending] = [done.hashSeconds!, done.sendSeconds!]
  const more = { hash_seconds: round(hashing), send_mb_per_second: Math.round(size / 1e6 / sending) }
  const used = since(node.pid, before)
  print({ name: 'put, one node', bytes: size, seconds: hashing + sending, node: used, client: done.client, more })
  return done.root!
}

async function get(node: NodeProcess, root: string, name: string): Promise<void> {
  const before = usageOf(node.pid)
  const child = role('get')
  child.send({ url: node.url, root })
  const { sendSeconds, client } = await answer(child)
  print({ name, bytes: size, seconds: sendSeconds!, node: since(node.pid, before), client })
}

/** The other side, in a process of its own. */
async function client(role: string): Promise<void> {
  const task = (await new Promise(resolve => process.once('message', resolve))) as Record<string, string>
  const before = usageOf(process.pid)
  const pool = new NodePool({ nodes: [task.url!] })
  const done = (message: Message): void => {
    process.send!({ ...message, client: since(process.pid, before) }, () => process.exit(0))
  }
  const begun = performance.now()
  if (role === 'get') {
    const file = await RemoteFile.open(pool, fromHex(task.root!, 'root'))
    let bytes = 0
    for await (const part of file.chunks(0, file.sizeBytes)) {
      bytes += part.bytes.length
      part.release()
    }
    if (bytes !== file.sizeBytes) throw new Error('too little came')
    return done({ sendSeconds: (performance.now() - begun) / 1000 })
  }
  const source = (await openSource(task.file!)) as Source
  const hash = await hashSource(source)
  const hashSeconds = (performance.now() - begun) / 1000
  process.send!({ nodes: hash.nodes.map(n => ({ height: n.height, root: toHex(n.root) })) })
  const { seq } = (await new Promise(resolve => process.once('message', resolve))) as { seq: number }
  const sent = performance.now()
  const [member] = await pool.members()
  await uploadTo(member!, fileToSend(hash, source, seq), { entryMs: 30_000, sealMs: 60_000 })
  done({ root: toHex(hash.root), hashSeconds, sendSeconds: (performance.now() - sent) / 1000 })
}
