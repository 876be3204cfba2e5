/**
 * The verbs as users type them, with a chain of their own that makes a block every 500 ms: the whole wall time of a command, start of
 * Node, submission and finality included. Then one upload by 0G's own SDK, unmodified, beside the hashing it does on the way.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { packageRoot, startTool } from '../../test/harness/tools.ts'
import {
  type NodeProcess,
  options,
  peakMib,
  print,
  random,
  round,
  since,
  startNode,
  type Usage,
  usageOf,
  writeRandom
} from './lib.ts'

const { size, dir, values } = options({ 'no-sdk': { type: 'boolean' }, brief: { type: 'boolean' } })
/** `delay(1000)` in its Uploader before each look for the log entry: once before the segments, once behind them. */
const SDK_SLEEPS_SECONDS = 2
const SDK_BYTES = Math.min(size, 32 * 1024 * 1024)

const place = mkdtempSync(join(dir, 'zg-bench-verb-'))
const chain = await startTool('zg-chain', [
  ...['node', '--dev', '--kind', 'network', '--dir', join(place, 'chain')],
  ...['--rpc-port', '0', '--block-time', '500ms']
])
const node = await startNode(join(place, 'node'), chain.url)
try {
  await verbs(node)
  if (values['no-sdk'] !== true) await sdk(node)
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

/** What of the time of an upload is the SDK's own hashing, which it does twice. */
async function sdk(node: NodeProcess): Promise<void> {
  if (!existsSync(join(packageRoot, 'bench/node_modules/@0gfoundation/0g-ts-sdk'))) return
  const require = createRequire(join(packageRoot, 'bench', 'package.json'))
  const { MemData, Uploader, StorageNode, getFlowContract } = require('@0gfoundation/0g-ts-sdk')
  const { JsonRpcProvider, Wallet } = require('ethers')
  const log = console.log
  console.log = () => {}
  const provider = new JsonRpcProvider(chain.url, undefined, { pollingInterval: 100 })
  const signer = new Wallet(DEV_ACCOUNTS[1]!.privateKey, provider)
  const status = (await (await fetch(node.url, rpc('zgs_getStatus'))).json()) as {
    result: { networkIdentity: { flowAddress: string } }
  }
  const flow = getFlowContract(status.result.networkIdentity.flowAddress, signer)
  const bytes = random(SDK_BYTES)
  const hashing = performance.now()
  await new MemData(bytes).merkleTree()
  const hashSeconds = (performance.now() - hashing) / 1000
  const before = usageOf(node.pid)
  const begun = performance.now()
  const uploader = new Uploader([new StorageNode(node.url)], chain.url, flow)
  const o = { tags: '0x', finalityRequired: true, taskSize: 10, expectedReplica: 1, skipTx: false, fee: 0n }
  const [, err] = await uploader.uploadFile(new MemData(bytes), o)
  if (err !== null) throw err
  const seconds = (performance.now() - begun) / 1000
  console.log = log
  provider.destroy()
  const more = {
    hash_seconds_once: round(hashSeconds),
    of_its_hashing: round((2 * hashSeconds) / seconds),
    // No node can shorten what it sleeps.
    of_its_hashing_and_sleeping: round((2 * hashSeconds + SDK_SLEEPS_SECONDS) / seconds)
  }
  print({ name: 'upload by the SDK, unmodified', bytes: SDK_BYTES, seconds, node: since(node.pid, before), more })
}

function rpc(method: string): RequestInit {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: [] })
  return { method: 'POST', headers: { 'content-type': 'application/json' }, body }
}
