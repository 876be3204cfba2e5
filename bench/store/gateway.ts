/**
 * What the gateway takes to hand out a large file: a node, an indexer with its gateway and readers, three processes on the same cores. The
 * file is many times larger than all windows together, so a process that kept any part of it would show. Rows: one reader, then eight at
 * once that each read an eighth of it by range, then readers that take a little and then stand still while another one reads.
 *
 *   node --import tsx bench/store/gateway.ts --size 10GiB
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { toHex } from '../../lib/base/hex.ts'
import { NodePool } from '../../lib/clients/store/nodes.ts'
import { hashSource } from '../../lib/clients/store/put.ts'
import { openSource, type Source } from '../../lib/clients/store/source.ts'
import { fileToSend, uploadTo } from '../../lib/clients/store/upload.ts'
import { startFlowChain } from '../../test/harness/flow-chain.ts'
import { startTool } from '../../test/harness/tools.ts'
import { options, peakMib, print, startNode, usageOf, writeRandom } from './lib.ts'

const { size, dir } = options()
const READERS = 8
const IDLE_READERS = 32

const place = mkdtempSync(join(dir, 'zg-bench-gateway-'))
const chain = await startFlowChain()
const node = await startNode(join(place, 'node'), chain.url)
const indexer = await startTool('zg-store', ['indexer', '--node', node.url, '--rpc-port', '0', '--no-discover'])
try {
  const path = join(place, 'file')
  writeRandom(path, size)
  const source = (await openSource(path)) as Source
  const hash = await hashSource(source)
  const [seq] = chain.submit([{ size, nodes: hash.nodes }])
  const [member] = await new NodePool({ nodes: [node.url] }).members()
  await uploadTo(member!, fileToSend(hash, source, seq!), { entryMs: 30_000, sealMs: 60_000 })
  const url = `${indexer.url.replace(/\/$/, '')}/file?root=${toHex(hash.root)}`
  const file = await open(path)
  const eighth = Math.ceil(size / READERS)
  await row('gateway, one reader', size, () => read(url, file, 0, size))
  await row(`gateway, ${READERS} readers of a part each`, size, () =>
    Promise.all(
      Array.from({ length: READERS }, (_, i) => read(url, file, i * eighth, Math.min(size, (i + 1) * eighth)))
    )
  )
  const idle = await Promise.all(Array.from({ length: IDLE_READERS }, () => begun(url, 0, size)))
  await row(`gateway, one reader beside ${IDLE_READERS} that stand still`, size, () => read(url, file, 0, size))
  for (const res of idle) res.destroy()
  await file.close()
} finally {
  await indexer.stop()
  await node.stop()
  await chain.close()
  rmSync(place, { recursive: true, force: true })
}

async function row(name: string, bytes: number, fn: () => Promise<unknown>): Promise<void> {
  const before = usageOf(indexer.pid)
  const nodeBefore = usageOf(node.pid)
  const begun = performance.now()
  await fn()
  const seconds = (performance.now() - begun) / 1000
  const usage = { cpuSeconds: usageOf(node.pid) - nodeBefore, peakMib: peakMib(node.pid) }
  const gateway = { gateway_cpu_s_per_gb: Number(((usageOf(indexer.pid) - before) / (bytes / 1e9)).toFixed(2)) }
  print({ name, bytes, seconds, node: usage, more: { ...gateway, gateway_peak_mib: peakMib(indexer.pid) } })
}

/** The answer to a range, before its bytes. */
function begun(url: string, start: number, end: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get(url, { headers: { range: `bytes=${start}-${end - 1}` }, agent: false }, res => {
      res.once('readable', () => {
        if (res.statusCode === 206) resolve(res)
        else reject(new Error(`HTTP ${res.statusCode}`))
      })
    }).on('error', reject)
  })
}

/** Reads a range to its end and compares it with the file: every MiB of it by its first bytes, and the count. */
async function read(url: string, file: FileHandle, start: number, end: number): Promise<void> {
  const res = await begun(url, start, end)
  const STEP = 1024 * 1024
  const want = Buffer.alloc(64)
  let at = start
  let next = start
  for await (const part of res as AsyncIterable<Buffer>) {
    while (next < at + part.length) {
      const got = part.subarray(next - at, next - at + want.length)
      const { bytesRead } = await file.read(want, 0, got.length, next)
      if (bytesRead !== got.length || !want.subarray(0, got.length).equals(got))
        throw new Error(`other bytes at ${next}`)
      next += STEP
    }
    at += part.length
  }
  if (at !== end) throw new Error(`${at - start} bytes of ${end - start}`)
}
