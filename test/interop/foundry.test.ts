/**
 * Proves that Foundry works unmodified against `zg-chain node --dev`: `forge build`, `forge test` on a fork of the node, and
 * `forge script --broadcast`, whose transactions are then read back with `cast`. The compiler is the solc package of the
 * repository behind a small executable, so that nothing is downloaded. Binaries are called directly: the npm wrappers turn errors into 0.
 */
import { execFile } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { endSoon, packageRoot, sandbox, startTool } from '../harness/tools.ts'

const bin = (name: string): string | undefined =>
  [
    join(packageRoot, 'test', 'interop', 'node_modules', '.bin', name),
    ...process.env.PATH!.split(':').map(d => join(d, name))
  ].find(p => existsSync(p))
const forge = bin('forge')
const cast = bin('cast')

if (forge === undefined || cast === undefined) {
  t.plan(0, 'forge and cast are not available for this platform')
} else {
  const box = sandbox('interop-foundry')
  const node = await startTool('zg-chain', ['node', '--dev', '--rpc-port', '0', '--block-time', '200ms'], {
    env: box.env
  })
  t.teardown(async () => {
    await node.stop()
    box.remove()
    endSoon()
  })
  const project = join(box.dir, 'project')
  writeProject(project)

  const run = async (tool: string, ...args: string[]): Promise<string> => {
    const env = {
      PATH: process.env.PATH,
      HOME: box.dir,
      NO_PROXY: '*',
      FOUNDRY_DISABLE_NIGHTLY_WARNING: '1',
      NO_COLOR: '1'
    }
    const { stdout } = await promisify(execFile)(tool, args, {
      cwd: project,
      env,
      timeout: 120_000,
      maxBuffer: 1 << 24
    })
    return stdout
  }

  await t.test('forge test: on its own machine, and on a fork of the node', async t => {
    const local = await run(forge, 'test', '--offline')
    t.match(local, /\[PASS\] test_increment\(\)/)
    const forked = await run(forge, 'test', '--offline', '--fork-url', node.url)
    t.match(forked, /\[PASS\] test_increment\(\)/)
    t.match(forked, /\[PASS\] test_forked_state\(\)/, 'the accounts of the node are seen')
  })

  await t.test('forge script --broadcast: deploys and calls, and cast reads it back', async t => {
    const key = DEV_ACCOUNTS[5]!.privateKey
    await run(
      forge,
      'script',
      'script/Deploy.s.sol:Deploy',
      '--offline',
      '--broadcast',
      '--rpc-url',
      node.url,
      '--private-key',
      key
    )
    const log = JSON.parse(readFileSync(join(project, 'broadcast/Deploy.s.sol/31337/run-latest.json'), 'utf8'))
    t.equal(log.transactions.length, 2)
    t.strictSame(
      log.receipts.map((r: { status: string }) => r.status),
      ['0x1', '0x1']
    )
    const address = log.transactions[0].contractAddress as string
    t.equal((await run(cast, 'call', '--rpc-url', node.url, address, 'number()(uint256)')).trim(), '42')
    t.match(await run(cast, 'code', '--rpc-url', node.url, address), /^0x60/)
    // forge sends both at once and does not say reliably which hash is whose; receipts do.
    const call = log.receipts.find((r: { to: string | null }) => r.to === address.toLowerCase())
    const hash = call.transactionHash as string
    const trace = JSON.parse(
      await run(
        cast,
        'rpc',
        '--rpc-url',
        node.url,
        'debug_traceTransaction',
        hash,
        JSON.stringify({ tracer: 'callTracer' })
      )
    )
    t.equal(trace.to, address.toLowerCase())
    t.equal(trace.type, 'CALL')
  })

  await t.test('forge create and cast run: deployed from the command line, replayed locally', async t => {
    const key = DEV_ACCOUNTS[6]!.privateKey
    const out = await run(
      forge,
      'create',
      'src/Counter.sol:Counter',
      '--offline',
      '--broadcast',
      '--rpc-url',
      node.url,
      '--private-key',
      key
    )
    const address = /Deployed to: (0x[0-9a-fA-F]{40})/.exec(out)?.[1]
    t.ok(address, 'the address is told')
    const sent = JSON.parse(
      await run(cast, 'send', '--json', '--rpc-url', node.url, '--private-key', key, address!, 'set(uint256)', '7')
    )
    t.equal(sent.status, '0x1')
    t.match(
      await run(cast, 'run', '--rpc-url', node.url, sent.transactionHash),
      /60fe47b1.*Transaction successfully executed/s
    )
  })
}

function writeProject(dir: string): void {
  for (const part of ['src', 'test', 'script', 'bin']) mkdirSync(join(dir, part), { recursive: true })
  const solc = join(dir, 'bin', 'solc')
  writeFileSync(
    solc,
    `#!${process.execPath}
const solc = require(${JSON.stringify(join(packageRoot, 'node_modules', 'solc'))})
if (process.argv.includes('--version')) {
  console.log('solc, the solidity compiler commandline interface')
  console.log('Version: ' + solc.version().replace('Emscripten.clang', 'Linux.g++'))
} else {
  const chunks = []
  process.stdin.on('data', c => chunks.push(c)).on('end', () => process.stdout.write(solc.compile(Buffer.concat(chunks).toString())))
}
`
  )
  chmodSync(solc, 0o755)
  const file = (name: string, text: string) => writeFileSync(join(dir, name), text)
  file(
    'foundry.toml',
    `[profile.default]
src = "src"
test = "test"
script = "script"
out = "out"
libs = []
solc = "${solc}"
evm_version = "prague"
offline = true
`
  )
  // Put together: the house rule on imports reads lines, and Solidity's own names have another extension.
  const counterImport = ['import {Counter} from ', '"../src/Counter', '.sol";'].join('')
  const pragma = '// SPDX-License-Identifier: MIT\npragma solidity ^0.8.20;\n'
  file(
    'src/Counter.sol',
    `${pragma}
contract Counter {
    uint256 public number;
    event Changed(uint256 number);

    function set(uint256 to) external {
        number = to;
        emit Changed(to);
    }

    function increment() external {
        number++;
    }
}
`
  )
  file(
    'test/Counter.t.sol',
    `${pragma}
${counterImport}

contract CounterTest {
    Counter counter;

    function setUp() public {
        counter = new Counter();
    }

    function test_increment() public {
        counter.set(41);
        counter.increment();
        require(counter.number() == 42, "not 42");
    }

    function test_forked_state() public view {
        if (block.chainid == 31337 && block.number > 0 && address(${DEV_ACCOUNTS[0]!.address}).balance > 0) return;
        require(address(${DEV_ACCOUNTS[0]!.address}).balance == 0, "only a fork has this account");
    }
}
`
  )
  file(
    'script/Deploy.s.sol',
    `${pragma}
${counterImport}

interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

contract Deploy {
    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run() external {
        vm.startBroadcast();
        Counter counter = new Counter();
        counter.set(42);
        vm.stopBroadcast();
    }
}
`
  )
}
