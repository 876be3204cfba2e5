/** The grammar of zg-compute. Verbs load when they run. */
import { ZgError } from '../../lib/base/errors.ts'
import { parseDuration } from '../../lib/base/units.ts'
import { parseInteger, parseUrl } from '../../lib/cli/options.ts'
import { tool } from '../../lib/cli/tool.ts'
import type { OptionSpec } from '../../lib/cli/types.ts'
import { parseDevice, parseSplit } from '../../lib/infer/device.ts'
import { SERVE_OPTIONS } from './serve/options.ts'
import { TRAIN_OPTIONS } from './train/options.ts'

const CHAIN: OptionSpec = {
  flags: '--rpc-url <url>',
  help: 'chain of the contracts',
  parse: parseUrl,
  env: 'ETH_RPC_URL'
}
const PAY: OptionSpec[] = [
  CHAIN,
  { flags: '--account <name>', help: 'who pays: key file, its address, or 0 to 9 on a devnet' },
  { flags: '--password-file <file>', help: 'password of the key file', env: false }
]
const PROVIDER: OptionSpec = {
  flags: '--provider <address>',
  help: 'provider to ask; default: the cheapest one that answers'
}
const MODEL: OptionSpec = { flags: '--model <name>', help: 'model to ask for' }
const URL_OPTION: OptionSpec = {
  flags: '--url <url>',
  help: 'plain OpenAI server to ask instead, free of charge',
  parse: parseUrl
}

/** What `chat` and `complete` share. */
const ASK: OptionSpec[] = [
  MODEL,
  PROVIDER,
  URL_OPTION,
  { flags: '--max-tokens <n>', help: 'longest answer', parse: parseInteger(1, 1_000_000) },
  { flags: '--temperature <t>', help: '0 takes the likeliest token', default: '0.7', parse: parseNumber(0, 2) },
  { flags: '--top-p <p>', help: 'least probability that the choice covers', parse: parseNumber(0, 1) },
  { flags: '--seed <n>', help: 'same seed, same answer', parse: parseInteger(0, Number.MAX_SAFE_INTEGER) },
  { flags: '--stop <text>', help: 'text that ends the answer, repeatable', repeat: true, env: false },
  { flags: '--meter', help: 'tokens, speed and fee on stderr' },
  { flags: '--no-check', help: 'do not check the signature of the answer', env: false },
  ...PAY
]

await tool({
  name: 'zg-compute',
  summary: "0G's inference market: providers, and their client",
  verbs: [
    {
      name: 'serve',
      summary: 'serve a model: for pay with an account, else as a plain OpenAI server',
      examples: [
        'zg-compute serve',
        'zg-compute serve --model llama.gguf --port 8000',
        'zg-compute serve --account provider --public-url https://llm.example'
      ],
      options: SERVE_OPTIONS,
      exits: { 65: 'the model cannot be read', 66: 'model file missing' },
      daemon: true,
      load: async () => (await import('./serve/serve.ts')).serve
    },
    {
      name: 'settle',
      summary: 'turn what the running provider is owed into payment on chain',
      examples: [
        'zg-compute settle',
        'zg-compute settle --json | jq -r .fee_neuron',
        'zg-compute settle --dir /srv/llm'
      ],
      options: [
        { flags: '--dir <dir>', help: "the provider's data directory; default: that of the running network" },
        { flags: '--socket <path>', help: "the provider's admin socket" },
        { flags: '--write-off <address>', help: 'give up what this user owes instead', env: false, advanced: true }
      ],
      exits: { 1: 'something could not be settled', 69: 'no provider runs', 77: 'no money for gas' },
      load: async () => (await import('./verbs/settle.ts')).settle
    },
    {
      name: 'models',
      summary: 'list the models of a provider, with prices',
      examples: ['zg-compute models', 'zg-compute models --provider 0x…'],
      options: [MODEL, PROVIDER, URL_OPTION, CHAIN],
      load: async () => (await import('./verbs/models.ts')).models
    },
    {
      name: 'models inspect',
      args: '<file>',
      summary: 'show what a model file holds, the memory it needs and its root',
      examples: [
        'zg-compute models inspect llama.gguf',
        'zg-compute models inspect llama.gguf --json | jq .memory.total'
      ],
      options: [
        { flags: '--context <n>', help: 'positions of a sequence to reckon with', parse: parseInteger(16, 1_048_576) },
        { flags: '--no-hash', help: 'leave the root out: it reads the whole file', env: false }
      ],
      exits: { 65: 'no model file', 66: 'file missing' },
      load: async () => (await import('./verbs/model-files.ts')).inspect
    },
    {
      name: 'models hash',
      args: '<file...>',
      summary: "print a model's root on 0G Storage, by which it is named",
      examples: ['zg-compute models hash llama.gguf', 'zg-compute models hash part-*.gguf'],
      options: [],
      exits: { 66: 'file missing' },
      load: async () => (await import('./verbs/model-files.ts')).hash
    },
    {
      name: 'models pull',
      args: '<root>',
      summary: 'fetch a model from storage by its root, every byte checked',
      examples: ['zg-compute models pull $ROOT', 'zg-compute models pull $ROOT -o llama.gguf'],
      options: [
        { flags: '-o, --output <file>', help: 'file to write; default: named by the root, here', env: false },
        { flags: '-f, --force', help: 'replace an existing file', env: false },
        { flags: '--indexer <url>', help: 'indexer to ask for nodes', parse: parseUrl, env: 'ZG_STORE_INDEXER' },
        {
          flags: '--node <url>',
          help: 'storage node to use instead of an indexer, repeatable',
          parse: parseUrl,
          repeat: true,
          env: 'ZG_STORE_NODES'
        }
      ],
      exits: { 65: 'what is stored there is no model', 69: 'no node holds it', 73: 'output exists' },
      load: async () => (await import('./verbs/model-files.ts')).pull
    },
    {
      name: 'models quantize',
      args: '<file> <output>',
      summary: 'make a smaller model of one in F32, F16 or BF16',
      examples: [
        'zg-compute models quantize llama-f16.gguf llama-q4_k_m.gguf',
        'zg-compute models quantize llama-f16.gguf llama-q8_0.gguf --type q8_0'
      ],
      options: [
        {
          flags: '-t, --type <name>',
          help: 'F16, BF16, Q8_0, Q6_K, Q5_K, Q5_K_M, Q5_1, Q5_0, Q4_K, Q4_K_M, Q4_1, Q4_0, IQ4_NL, IQ4_XS, MXFP4, Q3_K, Q2_K or F32',
          default: 'Q4_K_M'
        },
        { flags: '--threads <n>', help: 'threads to use', parse: parseInteger(1, 64) },
        { flags: '-f, --force', help: 'replace an existing file', env: false }
      ],
      exits: { 65: 'quantized already, or a value that the type cannot hold', 66: 'file missing', 73: 'output exists' },
      load: async () => (await import('./verbs/model-files.ts')).quantize
    },
    {
      name: 'train',
      args: '[data...]',
      summary: 'train a model from text, train one on, or make an adapter for one',
      examples: [
        'zg-compute train --text book.txt -o small.gguf --epochs 4',
        'zg-compute train chats.jsonl --from llama.gguf --lora -o manners.gguf',
        'zg-compute train --resume -o small.gguf'
      ],
      options: TRAIN_OPTIONS,
      exits: {
        65: 'a line of the dataset or a file is faulty',
        66: 'a file is missing',
        69: 'too little memory, or the trainer was killed',
        73: 'output exists'
      },
      load: async () => (await import('./verbs/train.ts')).train
    },
    {
      name: 'chat',
      args: '[prompt...]',
      summary: 'talk to a model; with an argument or a pipe, one answer',
      examples: [
        'zg-compute chat',
        'zg-compute chat "What is a Merkle tree?"',
        'echo hi | zg-compute chat > answer.txt'
      ],
      options: [{ flags: '--system <text>', help: 'instructions for the whole talk' }, ...ASK],
      exits: { 65: 'the signature of the answer is wrong', 69: 'no provider answers', 77: 'no money' },
      load: async () => (await import('./verbs/chat.ts')).chat
    },
    {
      name: 'complete',
      args: '[text...]',
      summary: 'let a model continue a text',
      examples: ['zg-compute complete "The ship sailed"', 'zg-compute complete --max-tokens 24 < start.txt'],
      options: ASK,
      exits: { 65: 'the signature of the answer is wrong', 69: 'no provider answers', 77: 'no money' },
      load: async () => (await import('./verbs/complete.ts')).complete
    },
    {
      name: 'embed',
      args: '[text...]',
      summary: 'turn texts into vectors, from a pipe one a line',
      examples: ['zg-compute embed "a quiet sea"', 'zg-compute embed --json < lines.txt | jq .embedding'],
      options: [
        { flags: '--url <url>', help: 'server to ask; default: the one of this machine, port 3080', parse: parseUrl },
        MODEL,
        { flags: '--dimensions <n>', help: 'keep so many numbers of each', parse: parseInteger(1, 65_536) }
      ],
      exits: { 69: 'no server answers' },
      load: async () => (await import('./verbs/embed.ts')).embed
    },
    {
      name: 'bench',
      summary: 'measure a server of the OpenAI API: speed, latency, many at once',
      examples: [
        'zg-compute bench',
        'zg-compute bench --url http://127.0.0.1:8000/v1 --parallel 1,8,32',
        'zg-compute bench --json | jq .total_tokens_per_second'
      ],
      options: [
        {
          flags: '--url <url>',
          help: 'server to measure; default: the one of this machine, port 3080',
          parse: parseUrl
        },
        { flags: '--model <name>', help: 'model to ask for; default: the first one listed' },
        { flags: '--parallel <list>', help: 'requests at once, one run for each', default: '1,4,16' },
        {
          flags: '--requests <n>',
          help: 'requests of each run, at least those at once',
          default: '16',
          parse: parseInteger(1, 100_000)
        },
        { flags: '--prompt-tokens <n>', help: 'length of a prompt', default: '128', parse: parseInteger(1, 1_000_000) },
        { flags: '--max-tokens <n>', help: 'length of an answer', default: '64', parse: parseInteger(2, 1_000_000) }
      ],
      exits: { 1: 'a request failed', 69: 'no server answers' },
      load: async () => (await import('./verbs/bench.ts')).bench
    },
    {
      name: 'verify',
      args: '<transcript>',
      summary: 'compute an answer again from its transcript and name the first step that differs',
      examples: [
        'zg-compute verify answer.json --model llama.gguf',
        'curl -s localhost:3080/trace/cmpl-… | zg-compute verify -'
      ],
      options: [
        { flags: '--model <file>', help: 'model in GGUF (default: the one that comes along)' },
        {
          flags: '--device <name>',
          help: 'cpu, cuda, cuda:N, cuda:N,M, cuda:all or auto',
          default: 'cpu',
          parse: parseDevice
        },
        {
          flags: '--split <shares>',
          help: "how many layers each device gets beside the others, like '3,1'",
          parse: parseSplit,
          advanced: true
        },
        {
          flags: '--device-layers <n>',
          help: 'so many of the last layers on the devices, the first ones on the CPU',
          parse: parseInteger(1, 65_536),
          advanced: true
        },
        { flags: '--threads <n>', help: 'threads of the engine', parse: parseInteger(1, 64) }
      ],
      exits: { 1: 'something differs', 65: 'no transcript, or no model', 66: 'file missing' },
      load: async () => (await import('./verbs/verify.ts')).verify
    },
    {
      name: 'eval',
      summary: 'answer JSON requests about models line by line: for checkers and scripts',
      examples: [
        'zg-compute eval --jsonl < requests.jsonl > answers.jsonl',
        'ZG_CPU=generic zg-compute eval --jsonl < requests.jsonl',
        'zg-compute eval --jsonl --engine reference < requests.jsonl'
      ],
      options: [
        { flags: '--jsonl', help: 'JSON lines on stdin and stdout', env: false },
        {
          flags: '--engine <name>',
          help: 'the native engine, or the slow reference in TypeScript that it must equal bit for bit',
          choices: ['native', 'reference'],
          default: 'native',
          env: false
        },
        { flags: '--context <n>', help: 'longest sequence', parse: parseInteger(16, 1_048_576) },
        { flags: '--threads <n>', help: 'threads of the engine', parse: parseInteger(1, 64) }
      ],
      load: async () => (await import('./verbs/eval.ts')).evaluate
    },
    {
      name: 'account show',
      args: '[address]',
      summary: 'show the ledger and what lies with each provider',
      examples: ['zg-compute account show', 'zg-compute account show 0 --json'],
      options: PAY,
      exits: { 1: 'there is no ledger' },
      load: async () => (await import('./verbs/account.ts')).show
    },
    {
      name: 'account deposit',
      args: '<amount>',
      summary: 'pay into the ledger; the first time at least 3 0G',
      examples: ['zg-compute account deposit 3', 'zg-compute account deposit "1.5 0G" --account alice'],
      options: PAY,
      load: async () => (await import('./verbs/account.ts')).deposit
    },
    {
      name: 'account transfer',
      args: '<provider> <amount>',
      summary: 'move money from the ledger to a provider; the first time at least 1 0G',
      examples: ['zg-compute account transfer 0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65 2'],
      options: PAY,
      load: async () => (await import('./verbs/account.ts')).transfer
    },
    {
      name: 'account withdraw',
      args: '[amount]',
      summary: 'ask money back from providers; with an amount, or all, out of the ledger',
      examples: ['zg-compute account withdraw', 'zg-compute account withdraw all'],
      options: PAY,
      load: async () => (await import('./verbs/account.ts')).withdraw
    },
    {
      name: 'account key',
      summary: 'make an API key for a provider, for any OpenAI client',
      examples: ['zg-compute account key', 'zg-compute account key --id 3 --expires 30d'],
      options: [
        { flags: '--id <n>', help: 'number of the key; the first free one', parse: parseInteger(0, 254), env: false },
        { flags: '--expires <time>', help: 'life of the key; for ever when absent', parse: parseDuration, env: false },
        PROVIDER,
        MODEL,
        ...PAY
      ],
      load: async () => (await import('./verbs/account.ts')).key
    }
  ],
  notes: `Files: a provider keeps fees, signatures and its signer in $XDG_DATA_HOME/zg/NETWORK/compute, its admin socket beside them.
Fees are lost with that directory: back up fees/ and signer.key.`
})

function parseNumber(min: number, max: number): (text: string) => number {
  return text => {
    const n = Number(text)
    if (!/^\d{1,9}(\.\d{1,9})?$/.test(text) || n < min || n > max)
      throw new ZgError('ERR_USAGE', `'${text}' is not a number from ${min} to ${max}`)
    return n
  }
}
