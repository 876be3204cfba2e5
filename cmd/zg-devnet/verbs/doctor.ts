/** `zg-devnet doctor`: checks the machine, and the running network from its chain to one stored byte, one blob and one prompt. Each failure names its cure. */
import { spawnSync } from 'node:child_process'
import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { RpcClient } from '../../../lib/adapters/jsonrpc/client.ts'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { portOwner } from '../../../lib/adapters/port-owner.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { formatAmount, formatDuration } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { type NetworkFile, readNetwork } from '../../../lib/clients/network.ts'
import { DEV_ACCOUNTS } from '../../../lib/crypto/dev-accounts.ts'
import { codec } from '../../../lib/native.ts'
import { control } from '../control-client.ts'
import { portFree } from '../ports.ts'
import { runTool } from '../run-tool.ts'
import { listOfPorts, planPorts } from '../services.ts'
import type { ServiceStatus } from '../supervisor.ts'

interface Check {
  name: string
  result: 'ok' | 'warn' | 'fail'
  message: string
  fix?: string
  value_seconds?: number
}

export async function doctor(ctx: VerbContext, _args: string[], opts: Options): Promise<number> {
  const name = opts.name as string
  const file = await readNetwork(name)
  const counts = { ok: 0, warn: 0, fail: 0 }
  for await (const check of checks(file, name, ctx.signal)) {
    counts[check.result]++
    ctx.print(
      { type: 'check', ...check },
      `${check.result.padEnd(5)} ${check.fix === undefined ? check.message : `${check.message.padEnd(44)} fix: ${check.fix}`}`
    )
  }
  ctx.say(
    `${counts.ok} ok, ${counts.warn} ${counts.warn === 1 ? 'warning' : 'warnings'}, ${counts.fail} ${counts.fail === 1 ? 'failure' : 'failures'}`
  )
  return counts.fail === 0 ? 0 : 1
}

async function* checks(file: NetworkFile | undefined, name: string, signal: AbortSignal): AsyncGenerator<Check> {
  yield machine()
  yield compiler()
  yield await disk(file?.dataDir ?? dataDir())
  yield clock()
  if (file === undefined) {
    yield await ports()
    return
  }
  yield* await chain(file, signal)
  yield* await services(file)
  yield await oneByte(name)
  if (file.endpoints.da !== undefined) yield await oneBlob(name)
  if (file.endpoints.compute !== undefined) yield await oneToken(name)
}

function machine(): Check {
  const c = codec()
  const node = `node ${process.versions.node}`
  if (c.path === 'native') return { name: 'machine', result: 'ok', message: `${node}, native built for it, ${c.cpu}` }
  return {
    name: 'machine',
    result: 'warn',
    message: `${node}, no native part: hashing is slow`,
    fix: 'npm run build:native'
  }
}

function compiler(): Check {
  for (const name of [process.env.CXX, 'c++', 'g++', 'clang++']) {
    if (name === undefined) continue
    const found = spawnSync(name, ['--version'], { encoding: 'utf8' })
    if (found.status === 0)
      return { name: 'compiler', result: 'ok', message: `compiler ${found.stdout.split('\n')[0]}` }
  }
  const fix = process.platform === 'darwin' ? 'xcode-select --install' : 'apt install g++ make python3'
  return {
    name: 'compiler',
    result: codec().path === 'native' ? 'ok' : 'warn',
    message: 'no C++ compiler',
    ...(codec().path === 'native' ? {} : { fix })
  }
}

async function disk(dir: string): Promise<Check> {
  const path = join(dir, `.doctor-${process.pid}`)
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    const handle = await open(path, 'wx', 0o600)
    const times: number[] = []
    for (let i = 0; i < 5; i++) {
      await handle.write(Buffer.alloc(4096, i), 0, 4096, i * 4096)
      const started = performance.now()
      await handle.datasync()
      times.push(performance.now() - started)
    }
    await handle.close()
    const ms = times.sort((a, b) => a - b)[2]!
    const value_seconds = Math.round(ms) / 1000
    if (ms < 20)
      return { name: 'disk_fsync', result: 'ok', message: `fsync ${ms.toFixed(1)} ms on ${dir}`, value_seconds }
    return {
      name: 'disk_fsync',
      result: 'warn',
      message: `fsync takes ${Math.round(ms)} ms on ${dir}`,
      fix: 'zg-devnet up --data DIR on a local disk',
      value_seconds
    }
  } catch (err) {
    return {
      name: 'disk_fsync',
      result: 'fail',
      message: `cannot write '${dir}': ${messageOf(err)}`,
      fix: 'zg-devnet up --data DIR'
    }
  } finally {
    await rm(path, { force: true })
  }
}

function clock(): Check {
  const year = new Date().getUTCFullYear()
  return year >= 2025 && year < 2100
    ? { name: 'clock', result: 'ok', message: `clock ${new Date().toISOString().slice(0, 19)}Z` }
    : {
        name: 'clock',
        result: 'fail',
        message: `the clock says ${new Date().toISOString()}`,
        fix: 'timedatectl set-ntp true'
      }
}

async function ports(): Promise<Check> {
  const wanted = listOfPorts(planPorts(2, undefined, []))
  for (const port of wanted) {
    if (await portFree(port)) continue
    const owner = await portOwner(port)
    return {
      name: 'ports',
      result: 'fail',
      message: `port ${port} is in use${owner === undefined ? '' : ` by ${owner.name} (pid ${owner.pid})`}`,
      fix: 'zg-devnet up --port-base 18000'
    }
  }
  return { name: 'ports', result: 'ok', message: `ports ${wanted.join(' ')} free` }
}

async function chain(file: NetworkFile, signal: AbortSignal): Promise<Check[]> {
  const rpc = new RpcClient(file.endpoints.rpc ?? '', { what: 'chain', signal, timeoutMs: 5_000 })
  try {
    const id = Number(await rpc.call<string>('eth_chainId'))
    const entries = Object.entries(file.contracts)
    const codes = await rpc.batch<string>(
      entries.map(([, address]) => ({ method: 'eth_getCode', params: [address, 'latest'] }))
    )
    // A precompile is known by its answers, not by code.
    const missing = entries
      .filter(([n], i) => n !== 'daSigners' && (typeof codes[i] !== 'string' || codes[i] === '0x'))
      .map(([n]) => n)
    const head = await rpc.call<{ number: string; timestamp: string }>('eth_getBlockByNumber', ['latest', false])
    const age = Date.now() / 1000 - Number(head.timestamp)
    const balance = BigInt(await rpc.call<string>('eth_getBalance', [DEV_ACCOUNTS[0]!.address, 'latest']))
    return [
      missing.length > 0 || id !== file.chainId
        ? {
            name: 'chain',
            result: 'fail',
            message: `chain ${id}: no code at ${missing.join(', ') || 'the expected id'}`,
            fix: 'zg-devnet up --fresh'
          }
        : {
            name: 'chain',
            result: 'ok',
            message: `chain ${id}, ${entries.length} contracts have their code, block ${Number(head.number)} is ${formatDuration(Math.max(0, age) * 1000)} old`
          },
      balance > 10n ** 18n
        ? { name: 'balances', result: 'ok', message: `account 0 has ${formatAmount(balance, 4)} 0G` }
        : {
            name: 'balances',
            result: 'warn',
            message: `account 0 has ${formatAmount(balance, 4)} 0G`,
            fix: `zg-devnet fund ${DEV_ACCOUNTS[0]!.address}`
          }
    ]
  } catch (err) {
    return [{ name: 'chain', result: 'fail', message: messageOf(err), fix: 'zg-devnet restart chain' }]
  }
}

async function services(file: NetworkFile): Promise<Check[]> {
  const all = await control<ServiceStatus[]>(file, 'devnet_status')
  return all.map(s =>
    s.state === 'ready'
      ? { name: s.name, result: 'ok' as const, message: `${s.name} ready, ${s.progress || s.url}` }
      : {
          name: s.name,
          result: 'fail' as const,
          message: `${s.name} ${s.state}${s.reason === undefined ? '' : `: ${s.reason}`}`,
          fix: `zg-devnet restart ${s.name}`
        }
  )
}

/** Stores a text that differs from run to run, reads it back. */
function oneByte(name: string): Promise<Check> {
  return endToEnd('store_end_to_end', 'zg-devnet logs store-0 --since 2m', async () => {
    const text = probeText()
    const env = { ZG_NETWORK: name }
    const root = (await runTool('zg-store', ['put', '--quiet'], { input: Readable.from([text]), env })).trim()
    const same = (await runTool('zg-store', ['get', root, '--quiet'], { env })) === text
    return same ? 'one file stored and read back' : undefined
  })
}

function oneBlob(name: string): Promise<Check> {
  return endToEnd('da_end_to_end', 'zg-devnet logs da --since 2m', async () => {
    const text = probeText()
    const env = { ZG_NETWORK: name }
    const root = (await runTool('zg-da', ['put', '--quiet'], { input: Readable.from([text]), env })).trim()
    const same = (await runTool('zg-da', ['get', root, '--quiet'], { env })) === text
    return same ? 'one blob certified and read back' : undefined
  })
}

/** Asks with a fixed seed; the paid path with its signature check. */
function oneToken(name: string): Promise<Check> {
  return endToEnd('compute_end_to_end', 'zg-devnet logs compute --since 2m', async () => {
    const args = ['complete', 'The ship sailed', '--max-tokens', '8', '--seed', '1', '--json']
    const record = JSON.parse(
      (await runTool('zg-compute', args, { env: { ZG_NETWORK: name } })).trim().split('\n').at(-1)!
    )
    return record.signed === true && record.completion_tokens > 0
      ? `${record.completion_tokens} tokens asked, paid and signed`
      : undefined
  })
}

function probeText(): string {
  return `zg doctor ${new Date().toISOString()} ${process.pid}`
}

/** One way through a layer; `work` answers what was done, undefined when what came back was wrong. */
async function endToEnd(name: string, fix: string, work: () => Promise<string | undefined>): Promise<Check> {
  const started = performance.now()
  try {
    const done = await work()
    const ms = performance.now() - started
    if (done === undefined) return { name, result: 'fail', message: 'what came back is not what was asked for', fix }
    return {
      name,
      result: 'ok',
      message: `${done} in ${formatDuration(ms)}`,
      value_seconds: Math.round(ms) / 1000
    }
  } catch (err) {
    return { name, result: 'fail', message: messageOf(err), fix }
  }
}
