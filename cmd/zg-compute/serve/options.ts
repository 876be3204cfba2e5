/** Options of `zg-compute serve`. Light: cli.ts imports this file for the help. */
import { ZgError } from '../../../lib/base/errors.ts'
import { parseAmount, parseDuration, parseSize } from '../../../lib/base/units.ts'
import { parseInteger, parsePort, parseUrl } from '../../../lib/cli/options.ts'
import type { OptionSpec } from '../../../lib/cli/types.ts'
import { parseDevice, parseSplit } from '../../../lib/infer/device.ts'
import type { Numa } from '../../../lib/infer/numa.ts'

const TOKENS_PER_PRICE = 1_000_000n

export const SERVE_OPTIONS: OptionSpec[] = [
  {
    flags: '--model <file>',
    help: 'model in GGUF, NAME=FILE to name it; further ones are opened on demand (default: the one that comes along)',
    repeat: true
  },
  {
    flags: '--models-memory <size>',
    help: 'memory for the models beside the first (default: half of what is free)',
    parse: parseSize
  },
  {
    flags: '--upstream <url>',
    help: 'serve what this OpenAI-compatible server serves, repeatable: vLLM, SGLang, llama-server, zg-compute',
    repeat: true,
    parse: parseUrl
  },
  { flags: '--upstream-key-file <file>', help: 'key for those servers', env: false, advanced: true },
  { flags: '--port <port>', help: 'port; 0 chooses a free one', default: 3080, parse: parsePort },
  { flags: '--host <address>', help: 'address to listen on', default: '127.0.0.1' },
  {
    flags: '--account <name>',
    help: 'provider: key file, its address, or 0 to 9 on a devnet; absent: a plain server, free of charge'
  },
  { flags: '--password-file <file>', help: 'password of the key file', env: false },
  { flags: '--rpc-url <url>', help: 'chain of the contracts', parse: parseUrl, env: 'ETH_RPC_URL' },
  { flags: '--dir <dir>', help: 'data directory: fees, signatures, signer (default: by network)' },
  { flags: '--input-price <amount>', help: '0G for a million prompt tokens', default: '0.1', parse: parsePrice },
  { flags: '--output-price <amount>', help: '0G for a million tokens made', default: '0.2', parse: parsePrice },
  { flags: '--public-url <url>', help: 'how clients reach this server; stands in the contract', parse: parseUrl },
  {
    flags: '--owner-account <name>',
    help: "contract's owner, who acknowledges the signer at once (devnet: account 0)"
  },
  {
    flags: '--device <name>',
    help: 'cpu, cuda, cuda:N, several by cuda:N,M or cuda:all (layers are spread over them), or auto: the first CUDA device, else the CPU',
    default: 'cpu',
    parse: parseDevice
  },
  {
    flags: '--split <shares>',
    help: "how many layers each device gets beside the others, like '3,1' (default: by free memory)",
    parse: parseSplit,
    advanced: true
  },
  {
    flags: '--device-layers <n>',
    help: 'so many of the last layers on the devices, the first ones on the CPU (default: as many as fit)',
    parse: parseInteger(1, 65_536),
    advanced: true
  },
  { flags: '--threads <n>', help: 'threads of the engine', parse: parseInteger(1, 256) },
  { flags: '--context <n>', help: 'positions of a sequence', parse: parseInteger(16, 1_048_576) },
  { flags: '--parallel <n>', help: 'requests at once; others wait', default: '64', parse: parseInteger(1, 1024) },
  {
    flags: '--queue <n>',
    help: 'requests that may wait; one more gets 429',
    default: '256',
    parse: parseInteger(1, 65_536)
  },
  {
    flags: '--stream-interval <time>',
    help: 'least time between two events of a stream: tokens that come faster share one; 0ms: an event for each token',
    default: '20ms',
    parse: parseInterval,
    advanced: true
  },
  {
    flags: '--cache <size>',
    help: 'memory for keys and values of all requests (default: a quarter of what is free; on a device, what is left of it)',
    parse: parseSize
  },
  {
    flags: '--shared-cache',
    help: 'what was computed of a prompt serves all users: faster, but its speed tells what others asked',
    advanced: true
  },
  {
    flags: '--lora <file>',
    help: 'LoRA adapter that applies to every request of the first model, FILE or FILE=STRENGTH, repeatable',
    parse: parseAdapter,
    repeat: true
  },
  {
    flags: '--lora-modules <name=file>',
    help: 'LoRA adapter of the first model that requests ask for by this name as their model, repeatable',
    parse: parseModule,
    repeat: true
  },
  {
    flags: '--draft <file>',
    help: 'smaller model of the same vocabulary, in GGUF, that guesses tokens ahead for the first model'
  },
  { flags: '--no-lookup', help: 'do not guess tokens by looking them up in the text', advanced: true },
  { flags: '--pin', help: "keep each of the engine's threads to a core", advanced: true },
  {
    flags: '--cpus <list>',
    help: "cores that the engine's threads keep to, like 0-3,8; without --threads one thread each",
    parse: parseCpus,
    advanced: true
  },
  {
    flags: '--numa <mode>',
    help: 'on machines with several memory nodes: interleave spreads threads and memory over them, local keeps to one',
    parse: parseNuma,
    advanced: true
  },
  {
    flags: '--settle-after <time>',
    help: 'settle what is older than this',
    default: '1h',
    parse: parseDuration,
    advanced: true
  },
  {
    flags: '--settle-share <percent>',
    help: 'settle when a user owes this part of his balance',
    default: '50',
    parse: parseInteger(1, 100),
    advanced: true
  },
  {
    flags: '--min-locked <amount>',
    help: 'what a user must keep locked',
    default: '1',
    parse: parseAmount,
    advanced: true
  },
  {
    flags: '--stake <amount>',
    help: 'what a first registration brings along',
    default: '100',
    parse: parseAmount,
    advanced: true
  },
  {
    flags: '--max-chain-age <time>',
    help: 'serve from remembered balances for so long when the chain is away',
    default: '2m',
    parse: parseDuration,
    advanced: true
  },
  {
    flags: '--requests-per-minute <n>',
    help: 'of one user',
    default: '6000',
    parse: parseInteger(1, 1_000_000),
    advanced: true
  },
  {
    flags: '--admin-port <port>',
    help: 'loopback port of /health, /ready and /metrics; 0 chooses a free one',
    default: 0,
    parse: parsePort,
    advanced: true
  },
  { flags: '--socket <path>', help: 'Unix socket of the admin methods (default: admin.sock in the data directory)' },
  { flags: '--allow-host <name>', help: 'Host name that clients may use', repeat: true, advanced: true }
]

/** 0G a million tokens, as neuron a token. @throws {ZgError} ERR_USAGE when finer than one neuron a token. */
function parsePrice(text: string): bigint {
  const million = parseAmount(text)
  if (million % TOKENS_PER_PRICE !== 0n) throw new ZgError('ERR_USAGE', `'${text}' is finer than one neuron a token`)
  return million / TOKENS_PER_PRICE
}

function parseNuma(text: string): Numa {
  if (text !== 'interleave' && text !== 'local')
    throw new ZgError('ERR_USAGE', `'${text}' is none of interleave and local`)
  return text
}

/** Longer ones would only look like a server that hangs. */
const STREAM_INTERVAL_MAX_MS = 1_000

function parseInterval(text: string): number {
  const ms = parseDuration(text)
  if (ms > STREAM_INTERVAL_MAX_MS) throw new ZgError('ERR_USAGE', `'${text}' is longer than a second`)
  return ms
}

/** Cores of one machine, and what the engine has threads for. */
const CORE_MAX = 1023
const CORES_MAX = 64

/** `0-3,8` as numbers, in the order given. */
export function parseCpus(text: string): number[] {
  const cpus: number[] = []
  for (const part of text.split(',')) {
    const [, first, last = first] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim()) ?? []
    const bad = first === undefined || Number(last) < Number(first) || Number(last) > CORE_MAX
    if (bad) throw new ZgError('ERR_USAGE', `'${text}' is no list of cores`, { hint: 'numbers and ranges, like 0-3,8' })
    for (let cpu = Number(first); cpu <= Number(last); cpu++) if (!cpus.includes(cpu)) cpus.push(cpu)
  }
  if (cpus.length > CORES_MAX)
    throw new ZgError('ERR_USAGE', `'${text}' names ${cpus.length} cores, ${CORES_MAX} are enough`)
  return cpus
}

/** `FILE` or `FILE=STRENGTH`. */
function parseAdapter(text: string): { path: string; strength: number } {
  const m = /^(.+)=(-?\d{1,3}(?:\.\d{1,6})?)$/.exec(text)
  const strength = m === null ? 1 : Number(m[2])
  if (Math.abs(strength) > 100) throw new ZgError('ERR_USAGE', `strength '${m![2]}' is not from -100 to 100`)
  return { path: m === null ? text : m[1]!, strength }
}

function parseModule(text: string): { name: string; path: string; strength: number } {
  const at = text.indexOf('=')
  if (at < 1 || at === text.length - 1) {
    throw new ZgError('ERR_USAGE', `'${text.slice(0, 80)}' is not NAME=FILE`)
  }
  return { name: text.slice(0, at), path: text.slice(at + 1), strength: 0 }
}
