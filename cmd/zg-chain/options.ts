/** Options that several verbs share. */

import { ZgError } from '../../lib/base/errors.ts'
import { parseDuration } from '../../lib/base/units.ts'
import { parseInteger, parseUrl } from '../../lib/cli/options.ts'
import type { OptionSpec, Options, VerbContext } from '../../lib/cli/types.ts'
import type { Account } from '../../lib/clients/accounts.ts'
import type { ChainClient } from '../../lib/clients/chain.ts'

/** Where the chain is. `ETH_RPC_URL` is what cast and others read too. */
export const RPC_OPTION: OptionSpec = {
  flags: '-r, --rpc-url <url>',
  help: 'the node to ask; otherwise the running network',
  env: 'ETH_RPC_URL',
  parse: parseUrl
}

/** Parser: `on-demand`, or a time between blocks. 0 stands for on-demand. */
export function parseBlockTime(text: string): number {
  if (text === 'on-demand') return 0
  const ms = parseDuration(text)
  if (ms < 10 || ms > 3_600_000) throw new ZgError('ERR_USAGE', `block time '${text}' is not within 10ms and 1h`)
  return ms
}

/** Parser: gas of a block, with separators or an M at will: `30000000`, `30_000_000`, `30M`. */
export function parseGasLimit(text: string): bigint {
  const m = /^([0-9][0-9_,]{0,15})(M?)$/.exec(text)
  const gas = m === null ? 0n : BigInt(m[1]!.replace(/[_,]/g, '')) * (m[2] === 'M' ? 1_000_000n : 1n)
  if (gas < 21_000n || gas > 1_000_000_000_000n) throw new ZgError('ERR_USAGE', `'${text}' is not a gas limit`)
  return gas
}

/** Parser: a size of memory, `256M` or `1G`, at least 16 MiB. */
export function parseMemory(text: string): number {
  const m = /^([0-9]{1,9})([MG])(i?B)?$/.exec(text)
  const bytes = m === null ? 0 : Number(m[1]) * (m[2] === 'G' ? 1024 : 1) * 1024 * 1024
  if (bytes < 16 * 1024 * 1024 || bytes > 2 ** 40) throw new ZgError('ERR_USAGE', `'${text}' is not a size from 16M on`)
  return bytes
}

/** Parser: threads that execute a block, 1 to 64, or `auto`: 0. */
export function parseExecutionThreads(text: string): number {
  return text === 'auto' ? 0 : parseInteger(1, 64)(text)
}

/** Of every verb that executes blocks for long. */
export const EXECUTION_THREADS: OptionSpec = {
  flags: '--execution-threads <n>',
  help: "threads that may execute a block's transactions together, where they cost enough; 'auto': as many as gain here",
  default: 'auto',
  parse: parseExecutionThreads,
  advanced: true
}

/** How much of a chain's past is kept, and what memory it takes: of every verb that opens a data directory. */
export const STORE_OPTIONS: OptionSpec[] = [
  { flags: '--archive', help: 'keep the state after every block; the default', env: false },
  {
    flags: '--prune <blocks>',
    help: 'keep the state after so many last blocks only',
    parse: parseInteger(1, 1_000_000_000)
  },
  { flags: '--cache <size>', help: "memory of the engine's caches together", default: '160M', parse: parseMemory }
]

/** What STORE_OPTIONS mean to openChain. @throws {ZgError} ERR_USAGE. */
export function storeOptions(opts: Options): { history?: number; cacheBytes: number } {
  if (opts.archive === true && opts.prune !== undefined)
    throw new ZgError('ERR_USAGE', '--archive and --prune exclude each other')
  const cacheBytes = opts.cache as number
  return opts.prune === undefined ? { cacheBytes } : { history: opts.prune as number, cacheBytes }
}

const TIMEOUT_OPTION: OptionSpec = {
  flags: '--timeout <duration>',
  help: 'how long to wait for a block',
  default: '60s',
  parse: parseDuration
}

/** Where a password comes from when nobody is asked. */
export const PASSWORD_OPTIONS: OptionSpec[] = [
  { flags: '--password-file <file>', help: 'password of the key file, in its first line (mode 0600)' },
  {
    flags: '--password-fd <n>',
    help: 'read the password from this descriptor',
    env: false,
    parse: parseInteger(0, 1023),
    advanced: true
  }
]

/** Who signs, and how the key is opened. */
export const SIGNER_OPTIONS: OptionSpec[] = [
  { flags: '-f, --from <account>', help: 'who pays: 0 to 9 on a devnet, or a key file by name, path or address' },
  { flags: '--account <account>', help: 'the same as --from', advanced: true },
  {
    flags: '--private-key <key>',
    help: 'one of the ten devnet keys; others are refused here',
    env: false,
    advanced: true
  },
  ...PASSWORD_OPTIONS,
  RPC_OPTION,
  { flags: '-n, --dry-run', help: 'show what it would cost; send nothing', env: false },
  { flags: '--no-wait', help: 'return after sending, before a block has it', env: false },
  TIMEOUT_OPTION
]

/** A client of the node the options or the running network name. */
export async function connect(ctx: VerbContext, opts: Options): Promise<ChainClient> {
  const [{ ChainClient }, { findEndpoint }] = await Promise.all([
    import('../../lib/clients/chain.ts'),
    import('../../lib/clients/network.ts')
  ])
  const url = await findEndpoint(opts.rpcUrl as string | undefined, ctx.network, 'rpc', `${ctx.tool} ${ctx.verb}`)
  return new ChainClient(url, { signal: ctx.signal })
}

/** The account of SIGNER_OPTIONS. */
export async function signer(ctx: VerbContext, opts: Options, client: ChainClient): Promise<Account> {
  const [{ findSigner }, { passwordReader }] = await Promise.all([
    import('../../lib/clients/accounts.ts'),
    import('../../lib/cli/password.ts')
  ])
  return findSigner(client, {
    account: (opts.from ?? opts.account) as string | undefined,
    privateKey: opts.privateKey as string | undefined,
    password: passwordReader(ctx, opts),
    network: ctx.network
  })
}
