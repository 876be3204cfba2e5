/** Options of `zg-store node`. Light: cli.ts imports this file for the help. */
import { ZgError } from '../../../lib/base/errors.ts'
import { parseDuration, parseSize } from '../../../lib/base/units.ts'
import { parseInteger, parsePort, parseUrl } from '../../../lib/cli/options.ts'
import type { OptionSpec } from '../../../lib/cli/types.ts'
import type { ShardPosition } from '../core/file-store.ts'
import type { HostPort } from './grpc.ts'

export const NODE_OPTIONS: OptionSpec[] = [
  { flags: '--dir <dir>', help: 'data directory (default: under the user data directory, by network)' },
  {
    flags: '--rpc-port <port>',
    help: 'JSON-RPC and raw routes; 0 chooses a free port',
    default: 5678,
    parse: parsePort
  },
  { flags: '--rpc-host <address>', help: 'address to listen on', default: '127.0.0.1' },
  {
    flags: '-r, --rpc-url <url>',
    help: 'RPC of the chain; otherwise the running network',
    env: 'ETH_RPC_URL',
    parse: parseUrl
  },
  { flags: '--chain <url>', help: 'the same as --rpc-url', env: false, parse: parseUrl, advanced: true },
  {
    flags: '--flow <address>',
    help: 'flow contract (default: that of the chain id)',
    env: 'ZG_FLOW',
    parse: parseFlow
  },
  {
    flags: '--start-block <n>',
    help: 'first block to read',
    default: 0,
    parse: parseInteger(0, Number.MAX_SAFE_INTEGER)
  },
  {
    flags: '--confirmations <n>',
    help: 'blocks on top and including before an event counts; 1 takes the newest',
    default: 1,
    parse: parseInteger(1, 100)
  },
  {
    flags: '--grpc <host:port>',
    help: 'uploads by gRPC too, such as 127.0.0.1:50051 (default: none)',
    parse: parseHostPort
  },
  { flags: '--peer <multiaddr>', help: 'another storage node, such as /ip4/127.0.0.1/tcp/4001', repeat: true },
  {
    flags: '--p2p-port <port>',
    help: 'port for other nodes; 0 chooses a free one; absent and no --peer: none',
    parse: parsePort
  },
  { flags: '--p2p-host <address>', help: 'address to listen on for other nodes', default: '127.0.0.1' },
  { flags: '--public-url <url>', help: 'how clients reach this node; told to other nodes', parse: parseUrl },
  {
    flags: '--shard <s/n>',
    help: 'hold only segments s modulo n (n a power of two)',
    parse: parseShard,
    advanced: true
  },
  {
    flags: '--quota <size>',
    help: 'most bytes of segment files, such as 100GiB; above it only reads',
    parse: parseQuota
  },
  {
    flags: '--when-full <what>',
    help: "at the quota: 'refuse' uploads, or prune the 'oldest' files",
    default: 'refuse',
    parse: parseWhenFull
  },
  {
    flags: '--max-age <duration>',
    help: 'prune files that became final longer ago, such as 90d',
    parse: parseDuration
  },
  {
    flags: '--scrub <duration>',
    help: 'read and hash every segment again within this time; 0s never',
    default: '7d',
    parse: parseDuration
  },
  {
    flags: '--rebuild-index',
    help: 'put the index aside and make it again from the segment files and the chain',
    advanced: true
  },
  {
    flags: '--group <file>',
    help: 'signed list of a coding group to which this node belongs: files are coded over its members'
  },
  {
    flags: '--group-lost <time>',
    help: 'after so long without a sign of life a member is repaired away from (default 15m)',
    parse: parseDuration
  },
  {
    flags: '--group-beat <time>',
    help: 'between heartbeats (default 2s); five of them missing make a member suspected',
    parse: parseDuration,
    advanced: true
  },
  {
    flags: '--repair-rate <size>',
    help: 'bytes a second that a member of a group may move for repair, such as 50MiB (default: no bound)',
    parse: parseSize
  },
  { flags: '--socket <path>', help: 'Unix socket of the admin methods (default: admin.sock in the data directory)' },
  { flags: '--allow-host <name>', help: 'a Host name that clients may use', repeat: true, advanced: true }
]

/** Reads `127.0.0.1:50051`, `[::1]:50051`, `node.local:0`. @throws {ZgError} ERR_USAGE. */
function parseHostPort(text: string): HostPort {
  const m = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([\w.-]{1,253})):([0-9]{1,5})$/.exec(text)
  const port = Number(m?.[3])
  if (m === null || port > 65_535) {
    throw new ZgError('ERR_USAGE', `'${text}' is not an address`, { hint: "write '127.0.0.1:50051'" })
  }
  return { host: m[1] ?? m[2]!, port }
}

function parseFlow(text: string): string {
  if (!/^0x[0-9a-fA-F]{40}$/.test(text)) throw new ZgError('ERR_USAGE', `'${text}' is not an address`)
  return text.toLowerCase()
}

/** One segment file and room to compact it are the least that makes sense. */
const QUOTA_MIN_BYTES = 64 * 1024 * 1024

function parseQuota(text: string): number {
  const bytes = parseSize(text)
  if (bytes < QUOTA_MIN_BYTES) throw new ZgError('ERR_USAGE', `a quota of '${text}' is too small, the least is 64MiB`)
  return bytes
}

function parseWhenFull(text: string): 'refuse' | 'oldest' {
  if (text !== 'refuse' && text !== 'oldest') {
    throw new ZgError('ERR_USAGE', `'${text}' is not possible at the quota`, { hint: "write 'refuse' or 'oldest'" })
  }
  return text
}

/** Reads `1/4`. @throws {ZgError} ERR_USAGE. */
export function parseShard(text: string): ShardPosition {
  const m = /^([0-9]{1,4})\/([0-9]{1,4})$/.exec(text)
  const shardId = Number(m?.[1])
  const numShard = Number(m?.[2])
  const powerOfTwo = numShard >= 1 && Number.isInteger(Math.log2(numShard))
  if (m === null || !powerOfTwo || shardId >= numShard) {
    throw new ZgError('ERR_USAGE', `'${text}' is not a shard`, {
      hint: "write '0/2': a position below the number of shards, which is a power of two"
    })
  }
  return { shardId, numShard }
}
