/**
 * What other clients do: segments as base64 within JSON-RPC, by 32 clients one after the other, then one connection a segment and all
 * of them at the same time, as one call of the SDKs does with a file of that many segments.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { type FlowChainServer, startFlowChain, type TestFile, wireSegment } from '../../test/harness/flow-chain.ts'
import { measured, type NodeProcess, options, parallel, randomFile, round, send, startNode, submitted } from './lib.ts'

const { size, dir, values } = options({ parallel: { type: 'string' } })
/** Bodies are made before the clock runs and lie in this process's memory, so the file has a bound. */
const MOST_BYTES = 1024 * 1024 * 1024
const AT_ONCE = Number(values.parallel ?? Math.min(4096, size / 262_144))

await each('32 clients', byClients)
await each('all at once', allAtOnce)

async function each(_name: string, fn: (node: NodeProcess, chain: FlowChainServer) => Promise<void>): Promise<void> {
  const place = mkdtempSync(join(dir, 'zg-bench-json-'))
  const chain = await startFlowChain()
  const node = await startNode(join(place, 'node'), chain.url)
  try {
    await fn(node, chain)
  } finally {
    await node.stop()
    await chain.close()
    rmSync(place, { recursive: true, force: true })
  }
}

function uploadBody(f: TestFile, index: number, seq: number): Buffer {
  const params = [[wireSegment(f.segments[index]!)], seq]
  return Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: index, method: 'zgs_uploadSegmentsByTxSeq', params }))
}

async function byClients(node: NodeProcess, chain: FlowChainServer): Promise<void> {
  const file = randomFile(Math.min(size, MOST_BYTES))
  const [seq] = await submitted(node, chain, [file])
  const bodies = file.segments.map(g => uploadBody(file, g.index, seq!))
  const agent = new Agent({ keepAlive: true, maxSockets: 32 })
  await measured(node, 'upload by JSON-RPC, 32 clients', file.size, async () => {
    await parallel(bodies, 32, async b => {
      const text = await send(node.port, agent, 'POST', '/', [b], true)
      if (!text.includes('"result":1')) throw new Error(text.slice(0, 200))
    })
    return {}
  })
  const download = (i: number): Buffer => {
    const params = [seq, i * 1024, i * 1024 + file.segments[i]!.data.length / 256]
    return Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'zgs_downloadSegmentByTxSeq', params }))
  }
  await measured(node, 'download by JSON-RPC, 32 clients', file.size, async () => {
    await parallel(file.segments, 32, g => send(node.port, agent, 'POST', '/', [download(g.index)]))
    return {}
  })
  // Equal bytes, not by the clock.
  for (const i of [0, file.segments.length - 1]) {
    const text = await send(node.port, agent, 'POST', '/', [download(i)], true)
    const data = Buffer.from((JSON.parse(text) as { result: string }).result, 'base64')
    if (!data.equals(file.segments[i]!.data)) throw new Error(`segment ${i} came back different`)
  }
  agent.destroy()
}

async function allAtOnce(node: NodeProcess, chain: FlowChainServer): Promise<void> {
  const file = randomFile(AT_ONCE * 262_144)
  const [seq] = await submitted(node, chain, [file])
  const bodies = file.segments.map(g => uploadBody(file, g.index, seq!))
  const name = 'JSON-RPC uploads of whole segments, all at the same time'
  await measured(node, name, file.size, async () => {
    const agent = new Agent({ keepAlive: false, maxSockets: AT_ONCE })
    let slowest = 0
    let retries = 0
    await Promise.all(
      bodies.map(async b => {
        const begun = performance.now()
        const text = await send(node.port, agent, 'POST', '/', [b], true).catch(String)
        if (!/"result":1|already uploaded and finalized/.test(text)) retries++
        slowest = Math.max(slowest, performance.now() - begun)
      })
    )
    agent.destroy()
    return { requests: AT_ONCE, retries, slowest_seconds: round(slowest / 1000) }
  })
}
