/** The grammar of zg-compute. Verbs load when they run. */
import { ZgError } from '../../lib/base/errors.ts'
import { parseDuration } from '../../lib/base/units.ts'
import { parseInteger, parseUrl } from '../../lib/cli/options.ts'
import { tool } from '../../lib/cli/tool.ts'
import type { OptionSpec } from '../../lib/cli/types.ts'
import { SERVE_OPTIONS } from './serve/options.ts'

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
