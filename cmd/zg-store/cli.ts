/** The grammar of zg-store. Verbs load when they run. */
import { parseDuration, parseSize } from '../../lib/base/units.ts'
import { parseInteger, parsePort, parseUrl } from '../../lib/cli/options.ts'
import { tool } from '../../lib/cli/tool.ts'
import type { OptionSpec } from '../../lib/cli/types.ts'
import { NODE_OPTIONS } from './node/options.ts'

const NODES: OptionSpec[] = [
  { flags: '--indexer <url>', help: 'indexer to ask for nodes', parse: parseUrl },
  {
    flags: '--node <url>',
    help: 'storage node to use instead of an indexer, repeatable',
    parse: parseUrl,
    repeat: true,
    env: 'ZG_STORE_NODES'
  }
]

const CHAIN: OptionSpec = { flags: '--rpc-url <url>', help: 'chain to pay on', parse: parseUrl, env: 'ETH_RPC_URL' }

const PAY: OptionSpec[] = [
  CHAIN,
  { flags: '--account <name>', help: 'who pays: key file, its address, or 0 to 9 on a devnet' },
  { flags: '--password-file <file>', help: 'password of the key file', env: false }
]

const REPLICA: OptionSpec = {
  flags: '--expected-replica <n>',
  help: 'nodes that must hold it before return',
  default: '2',
  parse: parseInteger(1, 64)
}

const TIMEOUT: OptionSpec = {
  flags: '--timeout <time>',
  help: 'how long a node may lag or finality may take',
  parse: parseDuration,
  env: false,
  advanced: true
}

const KEY_FILE: OptionSpec = {
  flags: '--encryption-key-file <file>',
  help: 'file with a key of 64 hex digits, mode 0600'
}

const ENCRYPT_TO: OptionSpec = {
  flags: '--encrypt-to <key>',
  help: "encrypt for the owner of a public key, as 'zg-store pubkey' prints it",
  env: false
}

/** The key of whoever uses the tool, made by the first `put --encrypt`. */
const DECRYPT: OptionSpec = { flags: '--decrypt', help: "decrypt with the key that 'put --encrypt' made", env: false }

const SOCKET: OptionSpec = {
  flags: '--socket <path>',
  help: 'admin socket of a node, repeatable; default: all nodes of the running network',
  repeat: true,
  env: false
}

const ROLE_KEY: OptionSpec = { flags: '--key <key>', help: 'for this key alone, text or hex with 0x', env: false }

/** How operations on a stream are sent. */
const KV_WRITE: OptionSpec[] = [
  { flags: '--kv <url>', help: 'key-value node that must have applied it', parse: parseUrl },
  { flags: '--wait', help: 'wait until it is applied (the default)', default: true, env: false, advanced: true },
  { flags: '--no-wait', help: 'return when it is stored', env: false },
  { ...KEY_FILE, help: 'store it encrypted, for nodes that have the key' },
  ENCRYPT_TO,
  REPLICA,
  ...NODES,
  ...PAY,
  TIMEOUT
]
const KV_EXITS = { 75: 'not applied in time', 76: 'refused: no permission' }

const SERVE = (port: string): OptionSpec[] => [
  { flags: '--rpc-port <port>', help: 'port', default: port, parse: parsePort },
  { flags: '--rpc-host <address>', help: 'address to listen on', default: '127.0.0.1' },
  {
    flags: '--allow-host <name>',
    help: 'Host header to accept beside localhost, repeatable',
    repeat: true,
    advanced: true
  }
]

await tool({
  name: 'zg-store',
  summary: "0G's storage layer: nodes, indexer, key-value, and their client",
  verbs: [
    {
      name: 'put',
      args: '[file...]',
      summary: 'store files, directories or stdin and print their roots',
      examples: [
        'zg-store put model.gguf',
        'tar c dir | zg-store put',
        'zg-store put dir',
        'zg-store put --json < batch.bin | jq -r .root',
        'zg-store put report.pdf --encrypt-to $(zg-store pubkey)'
      ],
      options: [
        REPLICA,
        { flags: '--no-wait', help: 'return when one node has taken the data', env: false },
        { flags: '-n, --dry-run', help: 'print root, size and fee; send nothing', env: false },
        { flags: '--encrypt', help: "encrypt with the key file, or with one's own, made when absent", env: false },
        KEY_FILE,
        ENCRYPT_TO,
        { flags: '--tags <bytes>', help: 'tags of the submission: text, or hex with 0x', env: false },
        ...NODES,
        ...PAY,
        {
          flags: '--finality-required',
          help: 'wait for finality (the default; wins over --no-wait)',
          env: false,
          advanced: true
        },
        {
          flags: '--fragment-size <size>',
          help: 'cut larger files into independent ones of this size (a power of two)',
          parse: parseSize,
          advanced: true
        },
        TIMEOUT
      ],
      exits: { 0: 'stored', 65: 'bad input', 69: 'no node', 75: 'not synced', 77: 'no money' },
      load: async () => (await import('./verbs/put.ts')).put
    },
    {
      name: 'get',
      args: '<root...>',
      summary: 'read files back, verified, to stdout, a file or a directory',
      examples: [
        'zg-store get $ROOT > model.gguf',
        'zg-store get $ROOT -o model.gguf',
        'zg-store get $ROOT | tar x',
        'zg-store get -r $ROOT -o dir',
        'zg-store get $ROOT/docs/a.txt --range 0-499'
      ],
      options: [
        { flags: '-o, --output <file>', help: 'write to a file; goes on after an interruption', env: false },
        { flags: '-r, --recursive', help: 'restore a folder into the directory --output', env: false },
        { flags: '--range <range>', help: "bytes to read: '0-499', '500-', '-500' (the last 500)", env: false },
        { flags: '-f, --force', help: 'replace existing files', env: false },
        DECRYPT,
        KEY_FILE,
        { flags: '--proof', help: 'verify every segment (always done)', env: false },
        ...NODES
      ],
      exits: { 65: 'a segment does not match the root', 69: 'no node holds it', 73: 'output exists' },
      load: async () => (await import('./verbs/get.ts')).get
    },
    {
      name: 'stat',
      args: '<root>',
      summary: 'show which nodes hold a file; takes a root or a submission number',
      examples: ['zg-store stat $ROOT', 'zg-store stat 17 --json'],
      options: [
        ...NODES,
        { ...SOCKET, help: 'admin socket of a node of a coding group: shows the stripes', advanced: true }
      ],
      exits: { 1: 'no node has it final', 69: 'no node answers' },
      load: async () => (await import('./verbs/stat.ts')).stat
    },
    {
      name: 'ls',
      args: '[root]',
      summary: 'list the newest files, or what is in a folder',
      examples: ['zg-store ls', 'zg-store ls --limit 1000 --json | jq -r .root', 'zg-store ls -R $ROOT/docs'],
      options: [
        {
          flags: '--limit <n>',
          help: 'submissions to look at',
          default: '50',
          parse: parseInteger(1, 100_000),
          env: false
        },
        { flags: '-R, --recursive', help: 'also what is in the folders of the folder', env: false },
        DECRYPT,
        KEY_FILE,
        ...NODES
      ],
      exits: { 1: 'nothing is stored', 69: 'no such folder or path' },
      load: async () => (await import('./verbs/ls.ts')).ls
    },
    {
      name: 'root',
      args: '[file...]',
      summary: 'print or check the roots of files and directories; no network',
      examples: ['zg-store root model.gguf', 'zg-store root *.bin > roots', 'zg-store root -c roots'],
      options: [
        { flags: '-c, --check', help: 'read roots and names from the files and check them', env: false },
        { flags: '--ignore-missing', help: 'with --check: say nothing of files that are not there', env: false }
      ],
      exits: { 1: 'a root did not match, a file could not be read' },
      load: async () => (await import('./verbs/root.ts')).root
    },
    {
      name: 'diff',
      args: '<before> <after>',
      summary: 'compare folders or files, each a path or a root',
      examples: ['zg-store diff dir $ROOT', 'zg-store diff $ROOT $OTHER --json'],
      options: [DECRYPT, KEY_FILE, ...NODES],
      exits: { 0: 'equal', 1: 'different' },
      load: async () => (await import('./verbs/diff.ts')).diff
    },
    {
      name: 'repair',
      args: '[root...]',
      summary: 'have nodes here restore what is lost, and wait for it',
      examples: ['zg-store repair', 'zg-store repair $ROOT --json'],
      options: [SOCKET],
      exits: { 1: 'something cannot be repaired', 69: 'no node here' },
      load: async () => (await import('./verbs/maintain.ts')).repair
    },
    {
      name: 'scrub',
      summary: 'have nodes here read and check what they hold',
      examples: ['zg-store scrub', 'zg-store scrub --socket /srv/store/admin.sock'],
      options: [SOCKET],
      exits: { 1: 'something is damaged', 69: 'no node here' },
      load: async () => (await import('./verbs/maintain.ts')).scrub
    },
    {
      name: 'quote',
      args: '<size...>',
      summary: 'show what storing a file, or so many bytes, costs',
      examples: ['zg-store quote 1GiB', 'zg-store quote model.gguf', 'zg-store quote 64MiB --json | jq -r .fee_neuron'],
      options: [CHAIN],
      exits: { 66: 'neither a file nor a size', 69: 'chain does not answer' },
      load: async () => (await import('./verbs/quote.ts')).quote
    },
    {
      name: 'kv get',
      args: '<stream> <key>',
      summary: 'print the value of a key of a stream',
      examples: ['zg-store kv get 0xf2bd name', 'zg-store kv get 0xf2bd 0x00ff --json'],
      options: [
        { flags: '--kv <url>', help: 'key-value node to ask', parse: parseUrl },
        {
          flags: '--at <seq>',
          help: 'value as of this submission',
          parse: parseInteger(0, Number.MAX_SAFE_INTEGER),
          env: false
        },
        { flags: '--proof', help: 'check it against the flow root on the chain', env: false },
        { ...CHAIN, help: 'chain to check against' },
        { flags: '--flow <address>', help: 'flow contract; that of the running network when absent', env: 'ZG_FLOW' },
        { ...KEY_FILE, help: 'with --proof: key file of an encrypted stream' }
      ],
      exits: { 1: 'there is no value', 65: 'the proof does not hold' },
      load: async () => (await import('./verbs/kv.ts')).kvGet
    },
    {
      name: 'kv list',
      args: '<stream> [prefix]',
      summary: 'list the keys of a stream in byte order',
      examples: [
        'zg-store kv list 0xf2bd',
        'zg-store kv list 0xf2bd user/ --reverse --limit 10',
        'zg-store kv list 0xf2bd --values --json | jq -r .value'
      ],
      options: [
        { flags: '--reverse', help: 'from the last to the first', env: false },
        { flags: '--from <key>', help: 'begin at this key', env: false },
        { flags: '--limit <n>', help: 'keys to list', parse: parseInteger(1, Number.MAX_SAFE_INTEGER), env: false },
        { flags: '-l, --long', help: 'with version and size', env: false },
        { flags: '--values', help: 'with their values', env: false },
        {
          flags: '--at <seq>',
          help: 'keys as of this submission',
          parse: parseInteger(0, Number.MAX_SAFE_INTEGER),
          env: false
        },
        { flags: '--kv <url>', help: 'key-value node to ask', parse: parseUrl }
      ],
      exits: { 1: 'there is no key' },
      load: async () => (await import('./verbs/kv.ts')).kvList
    },
    {
      name: 'kv put',
      args: '<stream> <key> [value]',
      summary: 'set a key of a stream; the value comes from stdin if absent',
      examples: [
        'zg-store kv put 0xf2bd name alice',
        'zg-store kv put 0xf2bd photo < me.jpg',
        'zg-store kv put 0xf2bd name --delete'
      ],
      options: [
        { flags: '--delete', help: 'delete the key', env: false },
        {
          flags: '--seen <seq>',
          help: 'refuse when the key changed after this submission',
          parse: parseInteger(0, Number.MAX_SAFE_INTEGER),
          env: false
        },
        ...KV_WRITE
      ],
      exits: { ...KV_EXITS, 76: 'refused: conflict or no permission' },
      load: async () => (await import('./verbs/kv.ts')).kvPut
    },
    {
      name: 'kv grant',
      args: '<stream> <account>',
      summary: 'let an account write a stream, or one special key of it',
      examples: [
        'zg-store kv grant 0xf2bd 0x1111111111111111111111111111111111111111',
        'zg-store kv grant 0xf2bd 3 --key price --json',
        'zg-store kv grant 0xf2bd 3 --admin'
      ],
      options: [{ flags: '--admin', help: 'all keys, and the roles of others', env: false }, ROLE_KEY, ...KV_WRITE],
      exits: KV_EXITS,
      load: async () => (await import('./verbs/kv-access.ts')).kvGrant
    },
    {
      name: 'kv revoke',
      args: '<stream> <account>',
      summary: 'take that away again',
      examples: ['zg-store kv revoke 0xf2bd 3', 'zg-store kv revoke 0xf2bd 3 --key price'],
      options: [ROLE_KEY, ...KV_WRITE],
      exits: KV_EXITS,
      load: async () => (await import('./verbs/kv-access.ts')).kvRevoke
    },
    {
      name: 'kv renounce',
      args: '<stream>',
      summary: "give up one's own role in a stream",
      examples: ['zg-store kv renounce 0xf2bd --account 3', 'zg-store kv renounce 0xf2bd --admin'],
      options: [{ flags: '--admin', help: 'that of an admin', env: false }, ROLE_KEY, ...KV_WRITE],
      exits: KV_EXITS,
      load: async () => (await import('./verbs/kv-access.ts')).kvRenounce
    },
    {
      name: 'kv protect',
      args: '<stream> <key>',
      summary: 'let only admins and writers of this very key write it',
      examples: ['zg-store kv protect 0xf2bd price', 'zg-store kv protect 0xf2bd price --off'],
      options: [{ flags: '--off', help: 'let all writers of the stream write it again', env: false }, ...KV_WRITE],
      exits: KV_EXITS,
      load: async () => (await import('./verbs/kv-access.ts')).kvProtect
    },
    {
      name: 'kv roles',
      args: '<stream> <account> [key]',
      summary: 'show what an account may do in a stream',
      examples: ['zg-store kv roles 0xf2bd 3', 'zg-store kv roles 0xf2bd 3 price --json'],
      options: [
        {
          flags: '--at <seq>',
          help: 'as of this submission',
          parse: parseInteger(0, Number.MAX_SAFE_INTEGER),
          env: false
        },
        { flags: '--kv <url>', help: 'key-value node to ask', parse: parseUrl }
      ],
      exits: { 1: 'none' },
      load: async () => (await import('./verbs/kv-access.ts')).kvRoles
    },
    {
      name: 'pubkey',
      args: '[file]',
      summary: "print the public key that others encrypt to, of one's own key or of a key file",
      examples: ['zg-store pubkey', 'zg-store pubkey stream.key --json | jq -r .public_key'],
      exits: { 65: 'not a private key' },
      load: async () => (await import('./verbs/pubkey.ts')).pubkey
    },
    {
      name: 'node',
      summary: 'run a storage node',
      examples: ['zg-store node', 'zg-store node --dir /srv/store --rpc-url http://127.0.0.1:8545'],
      options: NODE_OPTIONS,
      daemon: true,
      load: async () => (await import('./node/node.ts')).node
    },
    {
      name: 'mine',
      summary: 'earn the fees of the data that a storage node holds',
      examples: ['zg-store mine', 'zg-store mine --node http://127.0.0.1:5678 --account 3 --cpu-limit 50 --json'],
      daemon: true,
      options: [
        {
          flags: '--node <url>',
          help: "storage node whose data is mined (default: the network's first)",
          parse: parseUrl
        },
        ...PAY,
        { flags: '--chain <url>', help: 'the same as --rpc-url', env: false, parse: parseUrl, advanced: true },
        { flags: '--beneficiary <account>', help: 'who is paid (default: the account itself), when an id is made' },
        {
          flags: '--cpu-limit <percent>',
          help: 'share of a core to use; 200 is two cores',
          default: '25',
          parse: parseInteger(1, 6400)
        },
        { flags: '--dir <dir>', help: 'directory of sealed copies and of the miner id' },
        { flags: '--cache-max <size>', help: 'most that sealed copies may take', default: '10GiB', parse: parseSize }
      ],
      exits: { 77: 'no money for gas' },
      load: async () => (await import('./mine/mine.ts')).mine
    },
    {
      name: 'mine rewards',
      args: '[account]',
      summary: 'show what an account has earned and not withdrawn',
      examples: ['zg-store mine rewards', 'zg-store mine rewards 0x1111111111111111111111111111111111111111 --json'],
      options: PAY,
      load: async () => (await import('./mine/mine.ts')).rewards
    },
    {
      name: 'mine withdraw',
      args: '[account]',
      summary: 'send an account what it has earned',
      examples: ['zg-store mine withdraw', 'zg-store mine withdraw 3 --account 3'],
      options: PAY,
      exits: { 1: 'nothing is due' },
      load: async () => (await import('./mine/mine.ts')).withdraw
    },
    {
      name: 'group id',
      args: '<dir>',
      summary: 'print the id of the node whose data directory this is',
      examples: ['zg-store group id /srv/store'],
      load: async () => (await import('./verbs/group.ts')).groupId
    },
    {
      name: 'group make',
      args: '<file>',
      summary: 'write a signed list of members, one version above the one there',
      examples: [
        'zg-store group make group.json --key group.key --chain-id 16661 --flow 0x62D4144dB0F0a6fBBaeb6296c785C71B3D57C526 --member $ID@http://10.0.0.5:5678'
      ],
      options: [
        { flags: '--key <file>', help: 'key of the group; made when absent', default: 'group.key', env: false },
        {
          flags: '--member <id@url>',
          help: 'a member: its id, its RPC address, and after a comma its failure zone',
          repeat: true,
          env: false
        },
        {
          flags: '--chain-id <n>',
          help: 'chain of the group',
          parse: parseInteger(1, Number.MAX_SAFE_INTEGER),
          env: false
        },
        { flags: '--flow <address>', help: 'flow contract of the group', env: false }
      ],
      load: async () => (await import('./verbs/group.ts')).groupMake
    },
    {
      name: 'group tombstone',
      args: '<root>',
      summary: 'sign the deletion of a file from the whole group and print it',
      examples: ['zg-store group tombstone $ROOT --key group.key --epoch 0 --reason "owner asked"'],
      options: [
        { flags: '--key <file>', help: 'key of the group', default: 'group.key', env: false },
        {
          flags: '--epoch <n>',
          help: 'manifests up to this epoch die',
          default: 0,
          parse: parseInteger(0, 0xffff_fffe),
          env: false
        },
        { flags: '--reason <text>', help: 'kept with it, at most 64 bytes', default: 'deleted', env: false }
      ],
      load: async () => (await import('./verbs/group.ts')).groupTombstone
    },
    {
      name: 'indexer',
      summary: 'run an indexer with a gateway for plain HTTP',
      examples: [
        'zg-store indexer --node http://127.0.0.1:5678',
        'zg-store indexer --rpc-port 8080 --node http://10.0.0.5:5678'
      ],
      daemon: true,
      options: [
        ...SERVE('12345'),
        {
          flags: '--node <url>',
          help: 'trusted storage node, repeatable',
          parse: parseUrl,
          repeat: true,
          env: 'ZG_STORE_NODES'
        },
        ...PAY,
        REPLICA,
        {
          flags: '--put-max <size>',
          help: 'largest body of an upload by HTTP, which the account pays for',
          default: '1GiB',
          parse: parseSize
        },
        {
          flags: '--no-discover',
          help: 'list configured nodes only, not those that they are connected to',
          env: false
        },
        {
          flags: '--discovery-admin <url>',
          help: 'admin RPC of an upstream node that is asked for its peers',
          parse: parseUrl,
          advanced: true
        },
        { flags: '--locations <file>', help: 'JSON of where nodes are: IP to city, region, country …', advanced: true }
      ],
      load: async () => (await import('./indexer/node.ts')).indexer
    },
    {
      name: 'kv node',
      summary: 'run a key-value node',
      examples: ['zg-store kv node', 'zg-store kv node --all-streams --dir /srv/kv'],
      daemon: true,
      options: [
        { flags: '--dir <dir>', help: 'data directory' },
        ...SERVE('6789'),
        { ...CHAIN, help: 'chain to follow' },
        ...NODES,
        { flags: '--stream <id>', help: 'stream to follow, repeatable; default f2bd, f009, 16879, 2e3d', repeat: true },
        { flags: '--all-streams', help: 'follow every stream' },
        { flags: '--flow <address>', help: 'flow contract; asked of the storage nodes when absent', env: 'ZG_FLOW' },
        {
          flags: '--start-block <number>',
          help: 'first block to read',
          default: '0',
          parse: parseInteger(0, Number.MAX_SAFE_INTEGER)
        },
        {
          flags: '--confirmations <n>',
          help: '1: the newest block counts at once',
          default: '1',
          parse: parseInteger(1, 1000)
        },
        {
          flags: '--download-timeout <time>',
          help: 'after this a file counts as lost and the replay goes on',
          default: '2m',
          parse: parseDuration
        },
        {
          flags: '--max-file <size>',
          help: 'largest file that is replayed',
          default: '128MiB',
          parse: parseSize,
          advanced: true
        },
        KEY_FILE
      ],
      load: async () => (await import('./kv/node.ts')).kvNode
    }
  ],
  notes: `Files: unfinished puts are remembered in $XDG_STATE_HOME/zg/NETWORK/put; what comes from a pipe is kept in
$TMPDIR (else $XDG_CACHE_HOME/zg/spool) while it is stored. Nodes keep their data in $XDG_DATA_HOME/zg/NETWORK.`
})
