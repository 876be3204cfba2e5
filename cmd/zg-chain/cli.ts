/** The grammar of zg-chain. */
import { parseAmount, parseDuration } from '../../lib/base/units.ts'
import { parseInteger, parsePort, parseUrl } from '../../lib/cli/options.ts'
import { tool } from '../../lib/cli/tool.ts'
import type { OptionSpec } from '../../lib/cli/types.ts'
import {
  EXECUTION_THREADS,
  PASSWORD_OPTIONS,
  parseBlockTime,
  parseGasLimit,
  RPC_OPTION,
  SIGNER_OPTIONS,
  STORE_OPTIONS
} from './options.ts'

const CHAIN_ID: OptionSpec = {
  flags: '--chain-id <id>',
  help: 'id of a new chain',
  default: '31337',
  parse: parseInteger(2, Number.MAX_SAFE_INTEGER)
}
const AT_BLOCK: OptionSpec = {
  flags: '--block <block>',
  help: 'state after this block: a number, a hash or a tag',
  default: 'latest',
  env: false
}
const VALUE: OptionSpec = { flags: '--value <amount>', help: 'sent along', parse: parseAmount, env: false }
const DATA: OptionSpec = { flags: '--data <hex>', help: 'the call itself, as bytes', env: false, advanced: true }
const DIR: OptionSpec = { flags: '--dir <dir>', help: 'the data directory; the usual place otherwise' }
const HEIGHT = parseInteger(0, Number.MAX_SAFE_INTEGER)
const FROM_BLOCK: OptionSpec = { flags: '--from-block <n>', help: 'first block', parse: HEIGHT, env: false }
const DIRECTORY_EXITS = { 66: 'no chain there', 74: 'damaged data', 75: 'a node runs on it' }
const JWT_SECRET = '--jwt-secret <file>'
const JSON_LINES: OptionSpec[] = [
  { flags: '--jsonl', help: 'JSON lines on stdin and stdout', env: false },
  { flags: '--jobs <n>', help: 'processes to spread the lines over', parse: parseInteger(1, 256), env: false }
]
const SEND_EXITS = {
  69: 'no node',
  75: 'in no block in time',
  76: 'refused or failed',
  77: 'no money or wrong password'
}

await tool({
  name: 'zg-chain',
  summary: 'an EVM chain: a node, and the verbs to use it',
  verbs: [
    {
      name: 'node',
      summary: 'run the chain',
      examples: [
        'zg-chain node --dev',
        'zg-chain node --dev --block-time 1s --rpc-port 0',
        'zg-chain node --dir ~/chain',
        'zg-chain node --engine-url http://127.0.0.1:8551 --jwt-secret jwt.hex'
      ],
      daemon: true,
      options: [
        { flags: '--dev', help: 'ten funded accounts, evm_* and anvil_* methods, any web page may ask', env: false },
        { flags: '--dir <dir>', help: 'its data; with --dev alone a temporary directory' },
        {
          flags: '--in-memory',
          help: 'with --dev: data in memory where the system offers it',
          env: false,
          advanced: true
        },
        {
          flags: '--rpc-port <port>',
          help: 'HTTP and WebSocket; 0 picks a free one',
          default: '8545',
          parse: parsePort
        },
        { flags: '--rpc-host <host>', help: 'address to listen on', default: '127.0.0.1' },
        { flags: '--socket <path>', help: 'also answer on this Unix socket (mode 0600)' },
        {
          flags: '--block-time <time>',
          help: "time between blocks, or 'on-demand': a block for each transaction",
          default: '500ms',
          parse: parseBlockTime
        },
        { flags: '--gas-limit <gas>', help: 'gas limit that blocks move towards', parse: parseGasLimit },
        ...STORE_OPTIONS,
        EXECUTION_THREADS,
        {
          flags: '--state <file>',
          help: 'with --dev: begin with the state in this file if there is one, and write it at the end',
          env: false
        },
        CHAIN_ID,
        {
          flags: '--kind <kind>',
          help: 'genesis of a new chain under --dev: dev is bare, network has the contracts of 0G',
          default: 'dev',
          choices: ['network', 'dev'],
          env: false
        },
        { flags: '--show-keys', help: 'with --dev: print the private keys, which are public anyway', env: false },
        {
          flags: '--engine-url <url>',
          help: 'let this execution client (reth, geth, zg-chain engine) execute, over its Engine API',
          parse: parseUrl,
          advanced: true
        },
        { flags: JWT_SECRET, help: 'with --engine-url: the secret both share', advanced: true },
        { flags: '--allow-host <name>', help: 'accept this name in the Host header', repeat: true, advanced: true }
      ],
      exits: { 74: 'disk full or damaged data', 75: 'the directory is in use', 78: 'port taken, other network' },
      load: async () => (await import('./verbs/node.ts')).node
    },
    {
      name: 'engine',
      summary: 'run the execution client alone, for a consensus client elsewhere',
      examples: [
        'zg-chain engine --dir ~/chain',
        'zg-chain engine --dir ~/chain --jwt-secret jwt.hex --engine-port 8551'
      ],
      daemon: true,
      options: [
        DIR,
        { flags: '--engine-port <port>', help: 'Engine API; 0 picks a free one', default: '8551', parse: parsePort },
        { flags: JWT_SECRET, help: 'the shared secret, made when missing; jwt.hex in the directory otherwise' },
        {
          flags: '--rpc-port <port>',
          help: 'HTTP and WebSocket; 0 picks a free one',
          default: '8545',
          parse: parsePort
        },
        { flags: '--rpc-host <host>', help: 'address to listen on', default: '127.0.0.1' },
        { flags: '--gas-limit <gas>', help: 'gas limit that built blocks move towards', parse: parseGasLimit },
        EXECUTION_THREADS,
        { flags: '--allow-host <name>', help: 'accept this name in the Host header', repeat: true, advanced: true }
      ],
      exits: { ...DIRECTORY_EXITS, 77: 'others may read the secret', 78: 'port taken, other network' },
      load: async () => (await import('./engine/serve.ts')).engine
    },
    {
      name: 'init',
      summary: 'make the genesis of a new chain and print its hash',
      examples: ['zg-chain init --dir ~/chain', 'zg-chain init --dir ~/chain --genesis genesis.json'],
      options: [
        { flags: '--dir <dir>', help: 'where its data will lie; the usual place otherwise' },
        CHAIN_ID,
        { flags: '--genesis <file>', help: "take this file (geth's form) instead of building one", env: false },
        {
          flags: '--kind <kind>',
          help: 'network: with the contracts of 0G; dev: a bare chain as other tools start it',
          default: 'network',
          choices: ['network', 'dev'],
          env: false
        },
        {
          flags: '--fund <account>',
          help: 'who starts with money, the owner of the contracts first; the ten devnet accounts otherwise',
          repeat: true,
          env: false
        },
        { flags: '--balance <amount>', help: 'of each', default: '10000', parse: parseAmount, env: false },
        { flags: '--gas-limit <gas>', help: 'gas limit of block 0', parse: parseGasLimit },
        { flags: '--print', help: "print the genesis (geth's form) and make nothing", env: false }
      ],
      exits: { 66: 'no such genesis file', 73: 'there is a chain already', 78: 'the genesis is wrong' },
      load: async () => (await import('./verbs/init.ts')).init
    },
    {
      name: 'send',
      args: '<to> [words...]',
      summary: 'send money, or call a contract and change it',
      examples: ['zg-chain send 1 1.5 --from 0', "zg-chain send 1 --sig 'greet(string,uint256)' hello 7"],
      options: [
        {
          flags: '--sig <signature>',
          help: "the function; its arguments follow, as in 'transfer(address,uint256)'",
          env: false
        },
        VALUE,
        DATA,
        ...SIGNER_OPTIONS
      ],
      exits: SEND_EXITS,
      load: async () => (await import('./verbs/send.ts')).send
    },
    {
      name: 'call',
      args: '<contract> [signature] [args...]',
      summary: 'ask a contract without changing it',
      examples: ["zg-chain call 0xcA11bde05977b3631167028862bE2a173976CA11 'getChainId()(uint)'"],
      options: [{ flags: '-f, --from <account>', help: 'who seems to ask', env: false }, AT_BLOCK, DATA, RPC_OPTION],
      exits: { 69: 'no node', 76: 'the contract refused', 78: 'no contract there' },
      load: async () => (await import('./verbs/call.ts')).call
    },
    {
      name: 'deploy',
      args: '<file> [args...]',
      summary: 'create a contract from an artifact or hex, print its address',
      examples: ['zg-chain deploy Counter.json', 'echo 0x60016000f3 | zg-chain deploy -'],
      options: [VALUE, ...SIGNER_OPTIONS],
      exits: { ...SEND_EXITS, 65: 'no code in the file', 66: 'no such file' },
      load: async () => (await import('./verbs/deploy.ts')).deploy
    },
    {
      name: 'balance',
      args: '<account...>',
      summary: 'print what accounts own',
      examples: ['zg-chain balance 0', 'zg-chain balance 0 1 2 --json'],
      options: [AT_BLOCK, RPC_OPTION],
      exits: { 69: 'no node' },
      load: async () => (await import('./verbs/balance.ts')).balance
    },
    {
      name: 'block',
      args: '[block]',
      summary: 'print a block',
      examples: ['zg-chain block', 'zg-chain block 12 --json'],
      options: [{ flags: '--full', help: 'with --json: whole transactions', env: false }, RPC_OPTION],
      exits: { 69: 'no node, or no such block' },
      load: async () => (await import('./verbs/block.ts')).block
    },
    {
      name: 'tx',
      args: '<hash>',
      summary: 'print a transaction and what became of it',
      examples: ['zg-chain tx $(zg-chain send 1 0.1)'],
      options: [RPC_OPTION],
      exits: { 1: 'it failed', 69: 'no node, or no such transaction' },
      load: async () => (await import('./verbs/tx.ts')).tx
    },
    {
      name: 'logs',
      args: '[contract...]',
      summary: 'print events, oldest first',
      examples: ["zg-chain logs --topic 'Transfer(address,address,uint256)' --from-block -1000"],
      options: [
        {
          flags: '--topic <topic>',
          help: "32 bytes, an event's signature, or * for any; once a place",
          repeat: true,
          env: false
        },
        { flags: '--from-block <n>', help: 'first block; -100 counts back from the head', env: false },
        { flags: '--to-block <n>', help: 'last block; the head otherwise', env: false },
        { flags: '--limit <n>', help: 'stop after so many', parse: parseInteger(1, 1_000_000_000), env: false },
        RPC_OPTION
      ],
      exits: { 1: 'no such events', 69: 'no node' },
      load: async () => (await import('./verbs/logs.ts')).logs
    },
    {
      name: 'watch',
      summary: 'print a line for each new block',
      examples: ['zg-chain watch', "zg-chain watch --json | jq 'select(.gasUsed > 1e6)'"],
      options: [
        { flags: '--count <n>', help: 'end after so many blocks', parse: parseInteger(1, 1_000_000_000), env: false },
        RPC_OPTION
      ],
      exits: { 69: 'no node' },
      load: async () => (await import('./verbs/watch.ts')).watch
    },
    {
      name: 'trace',
      args: '<hash-or-block>',
      summary: 'print what a transaction, or each of a block, did inside',
      examples: ['zg-chain trace $(zg-chain send 1 0.1)', 'zg-chain trace 12 --tracer prestateTracer --json'],
      options: [
        {
          flags: '--tracer <name>',
          help: 'what is recorded',
          default: 'callTracer',
          choices: [
            'callTracer',
            'prestateTracer',
            'flatCallTracer',
            '4byteTracer',
            'noopTracer',
            'muxTracer',
            'structLogs'
          ],
          env: false
        },
        { flags: '--tracer-config <json>', help: "the tracer's own settings", env: false, advanced: true },
        RPC_OPTION
      ],
      exits: { 69: 'no node, or nothing of that name', 76: 'the node does not trace (it does under --dev)' },
      load: async () => (await import('./verbs/trace.ts')).trace
    },
    {
      name: 'export',
      args: '<file>',
      summary: 'write the blocks of a data directory to a file (RLP)',
      examples: ['zg-chain export chain.rlp --dir ~/chain', 'zg-chain export - --from-block 100 | gzip > tail.rlp.gz'],
      options: [DIR, FROM_BLOCK, { flags: '--to-block <n>', help: 'last block', parse: HEIGHT, env: false }],
      exits: DIRECTORY_EXITS,
      load: async () => (await import('./verbs/export.ts')).exportBlocks
    },
    {
      name: 'import',
      args: '<file>',
      summary: 'execute the blocks of a file (RLP) into a data directory',
      examples: ['zg-chain import chain.rlp --dir ~/chain', 'zcat tail.rlp.gz | zg-chain import -'],
      options: [DIR],
      exits: { ...DIRECTORY_EXITS, 65: 'not blocks, or a gap', 76: 'an invalid block', 78: 'blocks of another chain' },
      load: async () => (await import('./verbs/import.ts')).importBlocks
    },
    {
      name: 'snapshot save',
      args: '<file>',
      summary: 'write the state of the head to a file',
      examples: ['zg-chain snapshot save state.zgs --dir ~/chain'],
      options: [DIR],
      exits: { ...DIRECTORY_EXITS, 73: 'the file exists' },
      load: async () => (await import('./verbs/snapshot.ts')).snapshotSave
    },
    {
      name: 'snapshot load',
      args: '<file>',
      summary: 'begin a data directory with the state of a file',
      examples: ['zg-chain snapshot load state.zgs --dir ~/copy --genesis ~/chain/genesis.json'],
      options: [DIR, { flags: '--genesis <file>', help: 'genesis of the chain, for a new directory', env: false }],
      exits: { ...DIRECTORY_EXITS, 65: 'not a snapshot', 78: 'of another chain' },
      load: async () => (await import('./verbs/snapshot.ts')).snapshotLoad
    },
    {
      name: 'verify',
      summary: 'check a data directory: every block, and the state root anew',
      examples: ['zg-chain verify --dir ~/chain'],
      options: [DIR, FROM_BLOCK],
      exits: { ...DIRECTORY_EXITS, 1: 'the state has another root' },
      load: async () => (await import('./verbs/verify.ts')).verify
    },
    {
      name: 'bench',
      summary: 'send signed transactions to a node and measure what it takes in',
      examples: [
        'zg-chain bench',
        'zg-chain bench --workload erc20 --count 20000 --rpc-url http://127.0.0.1:8545 --json'
      ],
      options: [
        {
          flags: '--workload <name>',
          help: 'what each transaction does',
          default: 'transfer',
          choices: ['transfer', 'erc20', 'swap'],
          env: false
        },
        {
          flags: '--count <n>',
          help: 'transactions',
          default: '10000',
          parse: parseInteger(1, 10_000_000),
          env: false
        },
        {
          flags: '--senders <n>',
          help: 'accounts that send',
          default: '100',
          parse: parseInteger(1, 10_000),
          env: false
        },
        {
          flags: '--batch <n>',
          help: 'transactions a request',
          default: '100',
          parse: parseInteger(1, 1_000),
          env: false
        },
        {
          flags: '--in-flight <n>',
          help: 'requests under way at once',
          default: '8',
          parse: parseInteger(1, 1_000),
          env: false
        },
        {
          flags: '--ahead <n>',
          help: 'transactions sent and in no block yet, at most',
          default: '20000',
          parse: parseInteger(1, 1_000_000),
          env: false
        },
        {
          flags: '--rate <n>',
          help: 'transactions a second, at most; otherwise as fast as the node takes them',
          parse: parseInteger(1, 1_000_000),
          env: false
        },
        {
          flags: '--pid <pid>',
          help: "the node's process, for its CPU time",
          parse: parseInteger(1, 4_194_304),
          env: false
        },
        { flags: '--timeout <duration>', help: 'how long without progress', default: '60s', parse: parseDuration },
        { flags: '-f, --from <account>', help: 'a devnet account that pays for it all', default: '0', env: false },
        RPC_OPTION
      ],
      exits: { 1: 'some failed or were refused', 69: 'no node', 75: 'no progress in time', 77: 'no money' },
      load: async () => (await import('./verbs/bench.ts')).bench
    },
    {
      name: 'statetest',
      summary: 'run state tests of the public fixtures, one JSON request a line',
      examples: ['zg-chain statetest --jsonl < requests.jsonl > answers.jsonl'],
      options: JSON_LINES,
      load: async () => (await import('./verbs/statetest.ts')).statetest
    },
    {
      name: 'blocktest',
      summary: 'run block tests of the public fixtures, one JSON request a line',
      examples: ['zg-chain blocktest --jsonl < requests.jsonl > answers.jsonl'],
      options: JSON_LINES,
      load: async () => (await import('./verbs/blocktest.ts')).blocktest
    },
    {
      name: 'keys new',
      args: '<name>',
      summary: 'make a key and keep it encrypted',
      examples: ['zg-chain keys new alice'],
      options: PASSWORD_OPTIONS,
      exits: { 73: 'there is one of that name' },
      load: async () => (await import('./verbs/keys.ts')).keysNew
    },
    {
      name: 'keys list',
      summary: 'print names and addresses of the keys here',
      examples: ['zg-chain keys list'],
      exits: { 1: 'there are none' },
      load: async () => (await import('./verbs/keys.ts')).keysList
    },
    {
      name: 'keys import',
      args: '<name> [file]',
      summary: "take over a key from another wallet's file, or from stdin",
      examples: ['zg-chain keys import alice UTC--2024.json', 'zg-chain keys import alice < key.hex'],
      options: PASSWORD_OPTIONS,
      exits: { 65: 'not a key', 73: 'there is one of that name', 77: 'wrong password' },
      load: async () => (await import('./verbs/keys.ts')).keysImport
    },
    {
      name: 'keys export',
      args: '<name>',
      summary: 'print a key file, still encrypted, as other wallets take it',
      examples: ['zg-chain keys export alice > alice.json'],
      exits: { 66: 'no such key' },
      load: async () => (await import('./verbs/keys.ts')).keysExport
    }
  ],
  notes:
    'Accounts are addresses, names of key files, or 0 to 9 on a devnet. The node is --rpc-url, ETH_RPC_URL, or the network that zg-devnet runs.'
})
