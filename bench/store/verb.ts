/**
 * The verbs as users type them, with a chain of their own that makes a block every 500 ms: the whole wall time of a command, start of
 * Node, submission and finality included.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { packageRoot, startTool } from '../../test/harness/tools.ts'
import { type NodeProcess, options, peakMib, print, since, startNode, type Usage, usageOf, writeRandom } from './lib.ts'

const { size, dir, values } = options({ brief: { type: 'boolean' } })

const place = mkdtempSync(join(dir, 'zg-bench-verb-'))
const chain = await startTool('zg-chain', [
  ...['node', '--dev', '--kind', 'network', '--dir', join(place, 'chain')],
  ...['--rpc-port', '0', '--block-time', '500ms']
])
const node = await startNode(join(place, 'node'), chain.url)
try {
  await verbs(node)
} finally {
  await node.stop()
  await chain.stop()
  rmSync(place, { recursive: true, force: true })
}

async function verbs(node: NodeProcess): Promise<void> {
  const file = join(place, 'file')
  writeRandom(file, size)
  const want = values.brief === true ? '' : await digest(createReadStream(file, { highWaterMark: 1024 * 1024 }))
  const common = ['--node', node.url, '--quiet']
  let root = ''
  const put = ['put', file, ...common, '--rpc-url', chain.url, '--account', '0', '--expected-replica', '1']
  await timed('zg-store put, chain of 500 ms blocks included', put, async out => {
    for await (const part of out) root += String(part)
  })
  rmSync(file)
  await timed('zg-store get, to stdout', ['get', root.trim(), ...common], async out => {
    for await (const _ of out);
  })
  // For sizes that take minutes: memory is what they are for.
  if (values.brief === true) return
  // Equal bytes, not by the clock: hashing them costs more than fetching them.
  let got = ''
  await run(['get', root.trim(), ...common], async out => {
    got = await digest(out)
  })
  if (got !== want) throw new Error('other bytes came back')
  const copy = join(place, 'copy')
  await timed('zg-store get, to a file, synced', ['get', root.trim(), '--output', copy, ...common], async out => {
    out.resume()
  })
  rmSync(copy)
}

async function digest(stream: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256')
  for await (const part of stream) hash.update(part)
  return hash.digest('hex')
}

async function timed(name: string, args: string[], take: (out: Readable) => Promise<void>): Promise<void> {
  const before = usageOf(node.pid)
  const begun = performance.now()
  const client = await run(args, take)
  const seconds = (performance.now() - begun) / 1000
  print({ name, bytes: size, seconds, node: since(node.pid, before), client })
}

/** Runs a verb to its end. @returns what it used, as last seen while it ran. */
async function run(args: string[], take: (out: Readable) => Promise<void>): Promise<Usage> {
  const child = spawn(join(packageRoot, 'bin/zg-store'), args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let usage: Usage = { cpuSeconds: 0, peakMib: 0 }
  const look = setInterval(() => {
    try {
      usage = { cpuSeconds: usageOf(child.pid!), peakMib: peakMib(child.pid!) || usage.peakMib }
    } catch {
      // It has just ended.
    }
  }, 20)
  const ended = new Promise<number | null>(resolve => child.once('close', resolve))
  await take(child.stdout)
  const code = await ended
  clearInterval(look)
  if (code !== 0) throw new Error(`zg-store ${args[0]} ended with ${code}`)
  return usage
}
