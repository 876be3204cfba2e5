/** The grammar of zg-market. Verbs load when they run. */
import { parseDuration } from '../../lib/base/units.ts'
import { parseInteger, parseUrl } from '../../lib/cli/options.ts'
import { tool } from '../../lib/cli/tool.ts'
import type { OptionSpec } from '../../lib/cli/types.ts'

const ASK: OptionSpec[] = [
  { flags: '--rpc-url <url>', help: 'chain whose registry is read', parse: parseUrl, env: 'ETH_RPC_URL' },
  { flags: '--no-probe', help: 'do not ask the providers whether they live', env: false },
  { flags: '--timeout <time>', help: 'how long a provider may take to answer', default: '5s', parse: parseDuration },
  {
    flags: '--allow-private',
    help: 'ask providers at loopback and private addresses too (always so on a devnet)',
    advanced: true
  }
]

await tool({
  name: 'zg-market',
  summary: 'the marketplace of AI services: what the registry offers and who answers',
  verbs: [
    {
      name: 'list',
      summary: 'list inference services with price and state',
      examples: [
        'zg-market list',
        'zg-market list --model tiny-zg --json | jq -r .provider | head -1',
        'zg-market list --live --sort price --wide'
      ],
      options: [
        { flags: '--model <name>', help: 'only this model', env: false },
        {
          flags: '--context <tokens>',
          help: 'only models that take at least this many tokens',
          parse: parseInteger(1, 1e9),
          env: false
        },
        { flags: '--live', help: 'only services that answer now', env: false },
        {
          flags: '--sort <order>',
          help: 'order: best (live, then price), price, latency, newest',
          default: 'best',
          choices: ['best', 'price', 'latency', 'newest']
        },
        { flags: '--wide', help: 'whole addresses, URL and verification', env: false },
        ...ASK
      ],
      exits: { 0: 'at least one service', 1: 'none matches', 69: 'no chain' },
      load: async () => (await import('./verbs/list.ts')).list
    },
    {
      name: 'show',
      args: '<provider>',
      summary: 'show all that is known of one provider',
      examples: [
        'zg-market show 0x70997970C51812dc3A010C7d01b50e0d17dc79C8',
        'zg-market show $ZG_PROVIDER --json | jq .pricing'
      ],
      options: ASK,
      exits: { 69: 'no chain, or no such provider' },
      load: async () => (await import('./verbs/show.ts')).show
    }
  ],
  notes: 'Services are read from the inference contract of the chain; states come from asking each provider once.'
})
