/** The grammar of zg-devnet. */
import { parseAmount, parseDuration } from '../../lib/base/units.ts'
import { parseInteger } from '../../lib/cli/options.ts'
import { tool } from '../../lib/cli/tool.ts'
import type { OptionSpec } from '../../lib/cli/types.ts'

const NAME: OptionSpec = { flags: '--name <name>', help: 'which network', default: 'devnet', env: 'ZG_NETWORK' }

await tool({
  name: 'zg-devnet',
  summary: 'a whole 0G network on this machine',
  verbs: [
    {
      name: 'up',
      summary: 'start the network and keep it running',
      examples: [
        'zg-devnet up',
        'zg-devnet up --name ci --detach',
        'zg-devnet up --ephemeral --block-time on-demand',
        'zg-devnet up --stores 6'
      ],
      daemon: true,
      options: [
        NAME,
        { flags: '--detach', help: 'return when everything is ready', env: false },
        {
          flags: '--timeout <time>',
          help: 'how long --detach waits',
          default: '30s',
          parse: parseDuration,
          env: false
        },
        { flags: '--fresh', help: 'forget what the network held before', env: false },
        { flags: '--ephemeral', help: 'keep nothing when it stops', env: false },
        { flags: '--data <dir>', help: 'where its data lives' },
        { flags: '--port-base <port>', help: 'first port of a block of its own', parse: parseInteger(1024, 65_000) },
        { flags: '--block-time <time>', help: "time between blocks, or 'on-demand'", default: '500ms' },
        { flags: '--gas-limit <gas>', help: 'gas limit of a block' },
        {
          flags: '--stores <count>',
          help: 'storage nodes; three and more are a group that codes files, 6 as 4+2',
          default: '2',
          parse: parseInteger(1, 16)
        },
        { flags: '--log', help: "show the services' log lines", env: false }
      ],
      exits: { 69: 'a service did not come up', 75: 'it runs already', 78: 'a port is taken' },
      load: async () => (await import('./verbs/up.ts')).up
    },
    {
      name: 'down',
      args: '[service]',
      summary: 'stop a running network, or one service of it',
      examples: [
        'zg-devnet down',
        'zg-devnet down --name ci',
        'zg-devnet down signer-2   # and: zg-devnet restart signer-2'
      ],
      options: [NAME],
      exits: { 1: 'it was not running' },
      load: async () => (await import('./verbs/down.ts')).down
    },
    {
      name: 'restart',
      args: '[service]',
      summary: 'restart one service, or all of them',
      examples: ['zg-devnet restart store-1', 'zg-devnet restart'],
      options: [NAME],
      exits: { 69: 'not running, or the service did not come back' },
      load: async () => (await import('./verbs/restart.ts')).restart
    },
    {
      name: 'kill',
      args: '<service...>',
      summary: 'kill services as a crash would (SIGKILL); they stay down',
      examples: ['zg-devnet kill store-3', 'zg-devnet kill store-1 store-4', 'zg-devnet kill --restart chain'],
      options: [NAME, { flags: '--restart', help: 'let them come back by themselves, as after a crash', env: false }],
      exits: { 69: 'not running' },
      load: async () => (await import('./verbs/play.ts')).kill
    },
    {
      name: 'stop',
      args: '<service...>',
      summary: 'stop services in order (SIGTERM); they stay down',
      examples: ['zg-devnet stop store-3', 'zg-devnet stop kv'],
      options: [NAME],
      exits: { 69: 'not running' },
      load: async () => (await import('./verbs/play.ts')).stop
    },
    {
      name: 'start',
      args: '<service...>',
      summary: 'start services that are down, and wait until they are ready',
      examples: ['zg-devnet start store-3', 'zg-devnet start store-3 --wipe   # as with a new disk'],
      options: [
        NAME,
        { flags: '--wipe', help: 'with an empty data directory; its key is kept', env: false },
        { flags: '--no-wait', help: 'return at once', env: false }
      ],
      exits: { 69: 'not running, or a service did not come up', 75: 'to be wiped, but running' },
      load: async () => (await import('./verbs/play.ts')).start
    },
    {
      name: 'status',
      summary: 'say how each service is doing',
      examples: ['zg-devnet status', 'until zg-devnet status --quiet; do sleep 1; done'],
      options: [NAME],
      exits: { 69: 'something is down', 75: 'something is on its way' },
      load: async () => (await import('./verbs/status.ts')).status
    },
    {
      name: 'env',
      summary: 'print the environment that tools read',
      examples: ['eval "$(zg-devnet env)"', 'eval "$(zg-devnet env --keys)"', 'zg-devnet env --format dotenv > .env'],
      options: [
        NAME,
        {
          flags: '--format <format>',
          help: 'how to print it',
          default: 'sh',
          choices: ['sh', 'fish', 'dotenv', 'json'],
          env: false
        },
        { flags: '--keys', help: 'with the public test key of account 0', env: false }
      ],
      exits: { 69: 'not running' },
      load: async () => (await import('./verbs/env.ts')).env
    },
    {
      name: 'connect',
      args: '[tool]',
      summary: 'print the configuration that a foreign tool needs',
      examples: ['zg-devnet connect cast', 'zg-devnet connect viem > zg.ts', 'zg-devnet connect hardhat'],
      options: [NAME],
      exits: { 69: 'not running' },
      load: async () => (await import('./verbs/connect.ts')).connect
    },
    {
      name: 'fund',
      args: '<address> [amount]',
      summary: 'send 0G from the faucet to an address',
      examples: [
        'zg-devnet fund 0x70997970C51812dc3A010C7d01b50e0d17dc79C8',
        'zg-devnet fund 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 25'
      ],
      options: [
        NAME,
        {
          flags: '--amount <amount>',
          help: 'same as the argument',
          default: '100',
          parse: parseAmount,
          env: false,
          advanced: true
        }
      ],
      exits: { 69: 'not running' },
      load: async () => (await import('./verbs/fund.ts')).fund
    },
    {
      name: 'accounts',
      summary: 'list the ten test accounts',
      examples: ['zg-devnet accounts', 'zg-devnet accounts --keys'],
      options: [NAME, { flags: '--keys', help: 'with their public test keys', env: false }],
      load: async () => (await import('./verbs/accounts.ts')).accounts
    },
    {
      name: 'contracts',
      summary: 'list the contracts that stand in genesis',
      examples: ['zg-devnet contracts', 'zg-devnet contracts --json | jq -r .address'],
      options: [NAME],
      load: async () => (await import('./verbs/contracts.ts')).contracts
    },
    {
      name: 'logs',
      args: '[service...]',
      summary: "print the services' logs, merged by time",
      examples: ['zg-devnet logs', 'zg-devnet logs store-1 --since 2m', 'zg-devnet logs -f --level warn'],
      options: [
        NAME,
        { flags: '-f, --follow', help: 'go on as lines come', env: false },
        { flags: '--since <time>', help: 'only what is younger', parse: parseDuration, env: false },
        {
          flags: '--level <level>',
          help: 'this level and above',
          default: 'debug',
          choices: ['debug', 'info', 'warn', 'error'],
          env: false
        },
        { flags: '--grep <text>', help: 'only lines with this text', env: false }
      ],
      exits: { 1: 'no such line' },
      load: async () => (await import('./verbs/logs.ts')).logs
    },
    {
      name: 'doctor',
      summary: 'check this machine and the running network',
      examples: ['zg-devnet doctor', 'zg-devnet doctor --json | jq \'select(.result!="ok")\''],
      options: [NAME],
      exits: { 1: 'a check failed' },
      load: async () => (await import('./verbs/doctor.ts')).doctor
    },
    {
      name: 'demo',
      summary: 'show the whole network at work, then leave nothing behind',
      examples: ['zg-devnet demo', 'zg-devnet demo --show'],
      options: [{ flags: '--show', help: 'print each command before its result', env: false }],
      exits: { 69: 'a step failed: its own status is passed on' },
      load: async () => (await import('./verbs/demo.ts')).demo
    }
  ]
})
