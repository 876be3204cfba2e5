/** Options of zg-da's verbs. Light: the help loads this file. */
import { plainAddress } from '../../lib/adapters/grpc/client.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { parseDuration, parseSize } from '../../lib/base/units.ts'
import { parseInteger, parsePort, parseUrl } from '../../lib/cli/options.ts'
import type { OptionSpec } from '../../lib/cli/types.ts'

const CHAIN: OptionSpec[] = [
  {
    flags: '-r, --rpc-url <url>',
    help: 'RPC of the chain; otherwise the running network',
    env: 'ETH_RPC_URL',
    parse: parseUrl
  },
  {
    flags: '--entrance <address>',
    help: 'contract of data availability (default: that of the chain id)',
    parse: parseContract,
    advanced: true
  }
]

const SERVE = (port: number | undefined, what: string): OptionSpec[] => [
  {
    flags: '--port <port>',
    help: `${what}; 0 chooses a free one`,
    ...(port === undefined ? {} : { default: port }),
    parse: parsePort,
    env: false
  },
  { flags: '--host <address>', help: 'address to listen on', default: '127.0.0.1', env: false },
  {
    flags: '--metrics-port <port>',
    help: 'health and metrics on this machine; 0 chooses a free one',
    default: 0,
    parse: parsePort,
    env: false,
    advanced: true
  }
]

const ACCOUNT: OptionSpec[] = [
  { flags: '--account <name>', help: 'who pays: key file, its address, or 0 to 9 on a devnet' },
  { flags: '--password-file <file>', help: 'password of the key file', env: false }
]

const DISPERSER: OptionSpec = {
  flags: '--disperser <host:port>',
  help: 'disperser; otherwise the running network',
  parse: plainAddress
}

const RETRIEVER: OptionSpec = {
  flags: '--retriever <host:port>',
  help: 'retriever; otherwise the running network',
  parse: plainAddress
}

const AT: OptionSpec[] = [
  {
    flags: '--epoch <n>',
    help: 'epoch of the certificate (default: the newest)',
    parse: parseInteger(0, Number.MAX_SAFE_INTEGER),
    env: false
  },
  {
    flags: '--quorum-id <n>',
    help: 'quorum of the certificate',
    parse: parseInteger(0, Number.MAX_SAFE_INTEGER),
    env: false
  }
]

export const NODE_OPTIONS: OptionSpec[] = [
  { flags: '--dir <dir>', help: 'data directory (default: under the user data directory, by network)', env: false },
  ...SERVE(undefined, 'gRPC port [34000, one higher for each dev signer]'),
  ...CHAIN,
  ...ACCOUNT,
  { flags: '--bls-key-file <file>', help: 'file with the BLS secret key, decimal or hex with 0x, mode 0600' },
  {
    flags: '--dev-signer <n>',
    help: "one of the devnet's four signers, 0 to 3, in place of account and key",
    parse: parseInteger(0, 3),
    env: false
  },
  {
    flags: '--socket <host:port>',
    help: 'address to publish on chain (default: where it listens)',
    parse: plainAddress
  },
  {
    flags: '--keep-epochs <n>',
    help: 'epochs for which rows are kept',
    default: 300,
    parse: parseInteger(4, 1_000_000),
    advanced: true
  }
]

export const DISPERSER_OPTIONS: OptionSpec[] = [
  { flags: '--dir <dir>', help: 'data directory (default: under the user data directory, by network)', env: false },
  ...SERVE(51001, 'gRPC port'),
  ...CHAIN,
  ...ACCOUNT,
  { ...RETRIEVER, help: 'asked for blobs of others (default: the running network, 127.0.0.1:34005)' },
  { flags: '--store-max <size>', help: 'blobs on disk', default: '64GiB', parse: parseSize },
  { flags: '--keep <time>', help: 'how long a final blob is kept', default: '30d', parse: parseDuration },
  { flags: '--memory <size>', help: 'encoded blobs in memory', default: '256MiB', parse: parseSize, advanced: true },
  {
    flags: '--sign-timeout <time>',
    help: 'for the answer of one signer',
    default: '30s',
    parse: parseDuration,
    advanced: true
  },
  {
    flags: '--max-retries <n>',
    help: 'tries after the first before a blob fails',
    default: 2,
    parse: parseInteger(0, 100),
    advanced: true
  },
  {
    flags: '--no-legacy-status',
    help: 'tell too few signatures by a state of its own, not as FAILED',
    default: true,
    env: false,
    advanced: true
  }
]

export const RETRIEVER_OPTIONS: OptionSpec[] = [
  ...SERVE(34005, 'gRPC port'),
  ...CHAIN,
  { flags: '--memory <size>', help: 'reads under way in memory', default: '384MiB', parse: parseSize, advanced: true }
]

export const PUT_OPTIONS: OptionSpec[] = [
  DISPERSER,
  ...CHAIN,
  {
    flags: '--wait <state>',
    help: 'return when it is this far',
    default: 'finalized',
    choices: ['accepted', 'confirmed', 'finalized'],
    env: false
  },
  { flags: '-n, --dry-run', help: 'print the root; send nothing', env: false },
  { flags: '--timeout <time>', help: 'how long it may take', default: '5m', parse: parseDuration, env: false }
]

export const GET_OPTIONS: OptionSpec[] = [
  { flags: '-o, --output <file>', help: 'write to a file', env: false },
  { flags: '-f, --force', help: 'replace an existing file', env: false },
  ...AT,
  RETRIEVER,
  { flags: '--direct', help: 'ask the signers, not the retriever', env: false },
  ...CHAIN
]

export const VERIFY_OPTIONS: OptionSpec[] = [
  ...AT,
  { flags: '--samples <n>', help: 'random lines to ask for', default: 32, parse: parseInteger(1, 3072), env: false },
  ...CHAIN
]

function parseContract(text: string): string {
  if (!/^0x[0-9a-fA-F]{40}$/.test(text)) throw new ZgError('ERR_USAGE', `'${text}' is not an address`)
  return text.toLowerCase()
}
