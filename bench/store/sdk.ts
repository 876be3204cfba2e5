/**
 * One upload by 0G's own SDK, unmodified, to a node on a chain of 500 ms blocks, and what of its time anybody but the SDK can change. It hashes
 * a file twice, makes a proof and base64 of each segment, asks the chain a dozen things one after the other and sleeps a second before
 * each of its two looks for the log entry. So the limit is measured too, in the same process and on the same chain: the same upload to a
 * server that reads the bodies, keeps nothing and says yes to everything.
 *
 *   node --import tsx bench/store/sdk.ts --size 64MiB
 */
import { type ChildProcess, fork } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { packageRoot, startTool } from '../../test/harness/tools.ts'
import { options, print, random, round, since, startNode, usageOf, usageSince } from './lib.ts'

const { size, dir, values } = options({ role: { type: 'string' } })
/** `delay(1000)` in its Uploader before each look for the log entry: once before the segments, once behind them. */
const SLEEPS_SECONDS = 2

interface Spent {
  seconds: number
  hashSeconds: number
  client: ReturnType<typeof usageSince>
}

if (values.role === 'yes') yes()
else if (existsSync(join(packageRoot, 'bench/node_modules/@0gfoundation/0g-ts-sdk'))) await main()

async function main(): Promise<void> {
  const place = mkdtempSync(join(dir, 'zg-bench-sdk-'))
  const chain = await startTool('zg-chain', [
    ...['node', '--dev', '--kind', 'network', '--dir', join(place, 'chain')],
    ...['--rpc-port', '0', '--block-time', '500ms']
  ])
  const node = await startNode(join(place, 'node'), chain.url)
  const other = fork(fileURLToPath(import.meta.url), ['--role', 'yes'])
  try {
    const flow = await flowOf(node.url)
    const yesUrl = await listening(other, flow)
    const upload = await uploader(chain.url, flow, place)
    // Its code is compiled by now, as in a process that stores more than one file.
    await upload(yesUrl, 1024 * 1024)
    const limit = await upload(yesUrl, size)
    row('limit: the SDK and a server that only says yes', limit)
    const before = usageOf(node.pid)
    const real = await upload(node.url, size)
    row('upload by the SDK, unmodified', real, {
      node: since(node.pid, before),
      more: {
        of_the_limit: round((limit.seconds - limit.hashSeconds + real.hashSeconds) / real.seconds),
        node_seconds: round(real.seconds - real.hashSeconds - (limit.seconds - limit.hashSeconds))
      }
    })
  } finally {
    other.kill()
    await node.stop()
    await chain.stop()
    rmSync(place, { recursive: true, force: true })
  }
}

function row(
  name: string,
  s: Spent,
  o: { node?: ReturnType<typeof since>; more?: Record<string, unknown> } = {}
): void {
  const more = {
    of_its_hashing: round(s.hashSeconds / s.seconds),
    of_its_hashing_and_sleeping: round((s.hashSeconds + SLEEPS_SECONDS) / s.seconds),
    hash_seconds: round(s.hashSeconds),
    ...o.more
  }
  print({ name, bytes: size, seconds: s.seconds, node: o.node, client: s.client, more })
}

/** Uploads a file of `bytes` random bytes, made in `place`, to a node; its hashing is measured on the way. */
async function uploader(
  rpc: string,
  flowAddress: string,
  place: string
): Promise<(url: string, bytes: number) => Promise<Spent>> {
  const require = createRequire(join(packageRoot, 'bench', 'package.json'))
  const { ZgFile, Uploader, StorageNode, getFlowContract } = require('@0gfoundation/0g-ts-sdk')
  const { JsonRpcProvider, Wallet } = require('ethers')
  const provider = new JsonRpcProvider(rpc, undefined, { pollingInterval: 100, staticNetwork: true })
  const flow = getFlowContract(flowAddress, new Wallet(DEV_ACCOUNTS[1]!.privateKey, provider))
  const o = { tags: '0x', finalityRequired: true, taskSize: 10, expectedReplica: 1, skipTx: false, fee: 0n }
  return async (url, bytes) => {
    // Not its MemData: that copies the whole data for each segment that it reads, three times over.
    const path = join(place, 'upload.bin')
    writeFileSync(path, random(bytes))
    const file = await ZgFile.fromFilePath(path)
    let hashSeconds = 0
    for (const name of ['merkleTree', 'createSubmission']) {
      const run = file[name].bind(file)
      file[name] = async (...args: unknown[]) => {
        const begun = performance.now()
        const result = await run(...args)
        hashSeconds += (performance.now() - begun) / 1000
        return result
      }
    }
    const log = console.log
    console.log = () => {}
    const own = process.cpuUsage()
    const begun = performance.now()
    const [, err] = await new Uploader([new StorageNode(url)], rpc, flow).uploadFile(file, o)
    const seconds = (performance.now() - begun) / 1000
    console.log = log
    await file.close()
    if (err !== null) throw err
    return { seconds, hashSeconds, client: usageSince(own) }
  }
}

async function flowOf(url: string): Promise<string> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'zgs_getStatus', params: [] })
  const answer = (await (await fetch(url, { method: 'POST', body })).json()) as {
    result: { networkIdentity: { flowAddress: string } }
  }
  return answer.result.networkIdentity.flowAddress
}

function listening(child: ChildProcess, flow: string): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('message', url => resolve(url as string))
    child.once('close', () => reject(new Error('the other server ended')))
    child.send(flow)
  })
}

// ---- the server of the limit, in a process of its own

/** Knows every file once it is asked again, and calls it final once a segment of it has come. */
function yes(): void {
  let flowAddress = ''
  const asked = new Set<string>()
  const uploaded = new Set<string>()
  const server = createServer(async (req, res) => {
    const { method, id, root } = await call(req)
    const answers: Record<string, () => unknown> = {
      zgs_getStatus: () => ({ logSyncHeight: 1, networkIdentity: { chainId: 31337, flowAddress } }),
      zgs_getShardConfig: () => ({ shardId: 0, numShard: 1 }),
      zgs_getFileInfo: () => {
        if (!asked.has(root)) {
          asked.add(root)
          return null
        }
        const tx = { dataMerkleRoot: '0x', startEntryIndex: 1024, size: 1, seq: 1 }
        return { tx, finalized: uploaded.has(root), isCached: false, uploadedSegNum: 0, pruned: false }
      },
      zgs_uploadSegmentsByTxSeq: () => uploaded.add(root).size
    }
    res.setHeader('content-type', 'application/json')
    res.end(`{"jsonrpc":"2.0","id":${id},"result":${JSON.stringify(answers[method]!())}}`)
  })
  process.once('message', address => {
    flowAddress = address as string
    server.listen(0, '127.0.0.1', () => process.send!(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
  })
}

/** The method of a call, its id and the root it is about; the rest of the body is dropped as it comes. */
async function call(req: IncomingMessage): Promise<{ method: string; id: string; root: string }> {
  let first = ''
  let last = ''
  for await (const part of req as AsyncIterable<Buffer>) {
    if (first.length < 300) first += part.toString('latin1', 0, 300)
    last = (last + part.toString('latin1', Math.max(0, part.length - 200))).slice(-200)
  }
  return {
    method: /"method":"(\w+)"/.exec(first + last)?.[1] ?? '',
    id: /"id":(\d+)/.exec(last)?.[1] ?? /"id":(\d+)/.exec(first)?.[1] ?? '0',
    root: /0x[0-9a-f]{64}/.exec(first)?.[0] ?? ''
  }
}
