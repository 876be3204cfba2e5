/** Small files on one node without the chain: one fsync for many. */
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { encodeFrameHead } from '../../cmd/zg-store/node/frame.ts'
import { concat } from '../../lib/base/bytes.ts'
import { startFlowChain } from '../../test/harness/flow-chain.ts'
import { measured, metric, options, parallel, randomFile, round, send, startNode, submitted } from './lib.ts'

const { dir, values } = options({ files: { type: 'string' } })
const COUNT = Number(values.files ?? 10_000)

const place = mkdtempSync(join(dir, 'zg-bench-small-'))
const chain = await startFlowChain()
const node = await startNode(join(place, 'node'), chain.url)
try {
  const files = Array.from({ length: COUNT }, () => randomFile(4096))
  const seqs = await submitted(node, chain, files)
  const bodies = files.map(f => {
    const head = { index: 0, dataSize: 4096, fileSize: f.size, root: f.root }
    return concat(encodeFrameHead(head, { siblings: new Uint8Array(0), path: [] }), f.bytes)
  })
  const agent = new Agent({ keepAlive: true, maxSockets: 128 })
  const before = await metric(node, 'zg_store_segment_syncs_total')
  await measured(node, 'small files of 4 KiB, 128 at a time', 4096 * COUNT, async () => {
    const begun = performance.now()
    await parallel(seqs, 128, async (seq, i) => {
      const text = await send(node.port, agent, 'PUT', `/v1/segments/${seq}`, [bodies[i]!], true)
      if (!text.includes('"finalized":true')) throw new Error(text.slice(0, 200))
    })
    const perSecond = Math.round(COUNT / ((performance.now() - begun) / 1000))
    const syncs = (await metric(node, 'zg_store_segment_syncs_total')) - before
    return { puts_per_second: perSecond, syncs, puts_per_sync: round(COUNT / syncs) }
  })
  agent.destroy()
} finally {
  await node.stop()
  await chain.close()
  rmSync(place, { recursive: true, force: true })
}
