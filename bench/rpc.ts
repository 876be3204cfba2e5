/**
 * Question: what does the short way of lib/adapters/jsonrpc/fast.ts save over Node's HTTP server?
 * Peers, in the same rounds: the same methods behind node:http.
 *
 *   node --import tsx bench/rpc.ts [rounds] [seconds]
 *
 * One JSON line a server: median, least and most requests a second at 16 connections. The client is a process of its own on the same cores.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { serveRpc } from '../lib/adapters/jsonrpc/server.ts'
import type { RpcMethods } from '../lib/adapters/jsonrpc/types.ts'
import { packageRoot } from '../lib/base/package-root.ts'
import type { LoadResult } from './rpc-client.ts'

const ROUNDS = Number(process.argv[2] ?? 5)
const SECONDS = Number(process.argv[3] ?? 2)
const CONNECTIONS = 16

const methods: RpcMethods = { eth_chainId: () => '0x7a69', slow: async () => '0x7a69' }
const servers = [
  { name: 'node:http', server: await serveRpc({ methods, port: 0 }), method: 'eth_chainId' },
  { name: 'short way', server: await serveRpc({ methods, port: 0, fast: true }), method: 'eth_chainId' },
  { name: 'short way, a promise each', server: await serveRpc({ methods, port: 0, fast: true }), method: 'slow' }
]
const figures = new Map<string, LoadResult[]>()
for (let round = 0; round <= ROUNDS; round++) {
  for (const { name, server, method } of servers) {
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: [] })
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import', 'tsx', 'bench/rpc-client.ts', server.url!, `${CONNECTIONS}`, `${SECONDS}`, body],
      { cwd: packageRoot() }
    )
    const result = JSON.parse(stdout) as LoadResult
    if (result.first !== '{"jsonrpc":"2.0","id":1,"result":"0x7a69"}' || result.errors > 0)
      throw new Error(`${name} answered ${result.first}`)
    // The first round warms up.
    if (round > 0) figures.set(name, [...(figures.get(name) ?? []), result])
  }
}
for (const [name, results] of figures) {
  const sorted = results.map(r => r.perSecond).sort((a, b) => a - b)
  process.stdout.write(
    `${JSON.stringify({ name, connections: CONNECTIONS, rounds: ROUNDS, per_second: sorted[Math.floor(sorted.length / 2)], least: sorted[0], most: sorted.at(-1), p99_ms: Math.max(...results.map(r => r.p99Ms)) })}\n`
  )
}
for (const { server } of servers) await server.close()
