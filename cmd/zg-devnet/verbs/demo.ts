/**
 * `zg-devnet demo`: the first minute (ux.md section 1). A network of its own on free ports, each step one public command, real
 * data through it, nothing left behind.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { packageRoot } from '../../../lib/base/package-root.ts'
import { formatAmount, formatCount, formatSize, shortHash } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { runTool } from '../run-tool.ts'

const STEPS = 7
const READY_MS = 60_000
/** The blob is the beginning of the stored tarball. */
const BLOB_BYTES = 256 * 1024
/** The signer that is stopped while the blob is read. */
const STOPPED = 'signer-2'
const PROMPT = 'The ship sailed'

interface Stage {
  ctx: VerbContext
  show: boolean
  env: NodeJS.ProcessEnv
  tmp: string
}

export async function demo(ctx: VerbContext, _args: string[], opts: Options): Promise<void> {
  const started = performance.now()
  const tmp = await mkdtemp(join(tmpdir(), 'zg-demo-'))
  const name = `demo-${process.pid}`
  const stage: Stage = {
    ctx,
    show: opts.show === true,
    env: { ZG_NETWORK: name, XDG_STATE_HOME: join(tmp, 'state') },
    tmp
  }
  let network: ChildProcess | undefined
  try {
    step(
      stage,
      1,
      'build',
      'TypeScript, contracts, native',
      process.env.ZG_BUILD_STATE ?? 'cached',
      Number(process.env.ZG_BUILD_SECONDS ?? 0) * 1000
    )
    network = await startNetwork(stage, name)
    await storage(stage)
    await availability(stage)
    await payment(stage, await compute(stage))
    await chain(stage)
    await stopNetwork(network)
    const seconds = ((performance.now() - started) / 1000 + Number(process.env.ZG_BUILD_SECONDS ?? 0)).toFixed(1)
    ctx.print(
      { type: 'demo', result: 'passed', seconds: Number(seconds) },
      `Everything passed in ${seconds} s. Nothing is left running.`
    )
    ctx.print({ type: 'next' }, ctx.json ? null : 'next: npx zg-devnet up     # the same network, kept running')
  } catch (err) {
    if (network !== undefined) await showLastLines(stage, err)
    throw err
  } finally {
    if (network !== undefined) await stopNetwork(network)
    await rm(tmp, { recursive: true, force: true })
  }
}

function step(stage: Stage, index: number | undefined, name: string, what: string, result: string, ms: number): void {
  const seconds = `${(ms / 1000).toFixed(1)} s`
  const head = index === undefined ? ' '.repeat(19) : ` ${index}/${STEPS}  ${name.padEnd(13)}`
  stage.ctx.print(
    { type: 'demo_step', step: index ?? null, of: STEPS, name, what, result, seconds: Math.round(ms) / 1000 },
    `${head}${what.padEnd(42)}  ${result.padEnd(22)}  ${seconds}`
  )
}

/** Prints a command as a user would type it, then runs it. */
async function command(stage: Stage, tool: string, args: string[]): Promise<string> {
  if (stage.show)
    stage.ctx.print(
      { type: 'command', command: [tool, ...args].join(' ') },
      `$ ${[tool, ...args].map(a => (/^[\w./:@=,-]+$/.test(a) ? a : `'${a}'`)).join(' ')}`
    )
  return (await runTool(tool, args, { env: stage.env })).trim()
}

async function startNetwork(stage: Stage, name: string): Promise<ChildProcess> {
  const started = performance.now()
  const args = ['up', '--name', name, '--ephemeral']
  if (stage.show)
    stage.ctx.print({ type: 'command', command: `zg-devnet ${args.join(' ')}` }, `$ zg-devnet ${args.join(' ')}`)
  const child = spawn(process.execPath, [join(packageRoot(), 'bin', 'zg-devnet'), ...args, '--json'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...stage.env, ZG_SUPERVISED: '1', NODE_OPTIONS: '' },
    detached: true
  })
  child.stdin?.on('error', () => {})
  const words: string[] = []
  createInterface({ input: child.stderr! }).on('line', line => words.push(line))
  const services = await new Promise<number>((resolve, reject) => {
    const timer = setTimeout(
      () =>
        reject(
          new ZgError('ERR_TIMEOUT', `the network was not ready within ${READY_MS / 1000} s`, {
            facts: words.slice(-2)
          })
        ),
      READY_MS
    )
    createInterface({ input: child.stdout! }).on('line', line => {
      const record = JSON.parse(line) as { type: string; services: number }
      if (record.type !== 'network_ready') return
      clearTimeout(timer)
      resolve(record.services)
    })
    child.once('close', code => {
      clearTimeout(timer)
      reject(failureOf(words, code))
    })
  }).catch(async err => {
    await stopNetwork(child)
    throw err
  })
  step(stage, 2, 'network', `${services} services ready`, `block ${await height(stage)}`, performance.now() - started)
  return child
}

/** The child's own error record, passed on as ours. */
function failureOf(words: string[], code: number | null): ZgError {
  for (const line of words.reverse()) {
    try {
      const record = JSON.parse(line) as { type?: string; message?: string; hint?: string }
      if (record.type === 'error' && record.message !== undefined)
        return new ZgError('ERR_CRASHED', record.message, { hint: record.hint })
    } catch {
      // Not a record.
    }
  }
  return new ZgError('ERR_CRASHED', `the network did not start (exit ${code})`)
}

async function stopNetwork(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise(resolve => child.once('close', resolve))
  child.kill('SIGTERM')
  await gone
}

async function height(stage: Stage): Promise<number> {
  const block = JSON.parse(await runTool('zg-chain', ['block', 'latest', '--json'], { env: stage.env })) as {
    number: number
  }
  return Number(block.number)
}

/** The repository's own sources as a tarball: stored, read back with proof, compared byte by byte. */
async function storage(stage: Stage): Promise<void> {
  const file = join(stage.tmp, 'zg-src.tar')
  await makeTarball(file)
  const { size } = await stat(file)
  let started = performance.now()
  const stored = await lastRecord<{ root: string; segments: number; nodes: number }>(stage, 'zg-store', [
    'put',
    file,
    '--json'
  ])
  step(
    stage,
    3,
    'storage',
    `zg-src.tar ${formatSize(size)} → ${stage.ctx.tty ? shortHash(stored.root) : stored.root}`,
    `on ${stored.nodes} nodes`,
    performance.now() - started
  )
  started = performance.now()
  const copy = join(stage.tmp, 'copy.tar')
  await command(stage, 'zg-store', ['get', stored.root, '-o', copy, '--quiet'])
  if (!(await sameContent(file, copy)))
    throw new ZgError('ERR_BAD_PROOF', `what came back for ${stored.root} is not what was stored`)
  step(
    stage,
    undefined,
    'storage',
    'read back with proof, identical',
    `${stored.segments} segments`,
    performance.now() - started
  )
}

async function makeTarball(path: string): Promise<void> {
  const root = packageRoot()
  // A fixed order, owner and time: the same sources give the same root on every machine.
  const plain = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0']
  const parts = ['bin', 'cmd', 'lib', 'native', 'dist/cmd', 'dist/lib', 'package.json', 'README.md']
  const present = (
    await Promise.all(
      parts.map(async p => ((await stat(join(root, p)).catch(() => undefined)) === undefined ? [] : [p]))
    )
  ).flat()
  const pack = (flags: string[]): Promise<number | null> =>
    new Promise(resolve => {
      const child = spawn('tar', ['-cf', path, ...flags, '-C', root, ...present], { stdio: 'ignore' })
      child.once('error', () => resolve(null))
      child.once('close', resolve)
    })
  // The tar of other systems lacks these flags; the content matters more than the root's sameness.
  if ((await pack(plain)) !== 0 && (await pack([])) !== 0)
    throw new ZgError('ERR_UNAVAILABLE', "cannot run 'tar'", { hint: 'install tar' })
}

async function sameContent(a: string, b: string): Promise<boolean> {
  if ((await stat(a)).size !== (await stat(b)).size) return false
  const other = createReadStream(b, { highWaterMark: 1 << 20 })[Symbol.asyncIterator]()
  for await (const part of createReadStream(a, { highWaterMark: 1 << 20 })) {
    const { value } = await other.next()
    if (value === undefined || !equalBytes(part as Uint8Array, value as Uint8Array)) return false
  }
  return true
}

/** A blob certified by all signers, then read back with one of them gone. */
async function availability(stage: Stage): Promise<void> {
  const file = join(stage.tmp, 'blob.bin')
  await writeFile(file, await firstBytes(join(stage.tmp, 'zg-src.tar'), BLOB_BYTES))
  let started = performance.now()
  const put = await lastRecord<{ dataRoot: string; signed: number; signers: number; certified: boolean }>(
    stage,
    'zg-da',
    ['put', file, '--json']
  )
  if (!put.certified) throw new ZgError('ERR_PROTOCOL', `the blob ${put.dataRoot} is not certified`)
  step(
    stage,
    4,
    'data avail.',
    `${formatSize(BLOB_BYTES)} blob → ${stage.ctx.tty ? shortHash(put.dataRoot) : put.dataRoot}`,
    `certified, ${put.signed} of ${put.signers}`,
    performance.now() - started
  )
  await command(stage, 'zg-devnet', ['down', STOPPED, '--quiet'])
  started = performance.now()
  const copy = join(stage.tmp, 'copy.bin')
  await command(stage, 'zg-da', ['get', put.dataRoot, '-o', copy, '--quiet'])
  if (!(await sameContent(file, copy)))
    throw new ZgError('ERR_BAD_PROOF', `what came back for ${put.dataRoot} is not what was put`)
  step(
    stage,
    undefined,
    'data avail.',
    `${STOPPED} stopped, read back, identical`,
    `${put.signers - 1} of ${put.signers}`,
    performance.now() - started
  )
  await command(stage, 'zg-devnet', ['restart', STOPPED, '--quiet'])
}

interface Completion {
  provider: string
  text: string
  completion_tokens: number
  tokens_per_second: number
  fee_neuron: string
  signed: boolean
}

/** A prompt answered by the paid provider, its signature checked over the very bytes. */
async function compute(stage: Stage): Promise<Completion> {
  const started = performance.now()
  const prompt = ['complete', PROMPT, '--max-tokens', '24', '--temperature', '0', '--json']
  const answer = await lastRecord<Completion>(stage, 'zg-compute', prompt)
  if (answer.signed !== true) throw new ZgError('ERR_BAD_PROOF', 'the answer is not signed by the provider')
  const text = answer.text.replace(/\s+/g, ' ').trim()
  step(
    stage,
    5,
    'compute',
    `${answer.completion_tokens} tokens, ${formatCount(answer.tokens_per_second)} tok/s`,
    'signature ok',
    performance.now() - started
  )
  stage.ctx.print({ type: 'demo_text', prompt: PROMPT, text }, `${' '.repeat(19)}“${PROMPT}” → ${text.slice(0, 90)}`)
  return answer
}

/** The fee moves on chain: the provider settles, both sides' balances tell the same. */
async function payment(stage: Stage, answer: Completion): Promise<void> {
  const total = async (): Promise<bigint> => {
    const lines = (await command(stage, 'zg-compute', ['account', 'show', '--json'])).split('\n')
    return BigInt((JSON.parse(lines[0]!) as { total_neuron: string }).total_neuron)
  }
  const before = await total()
  const started = performance.now()
  const settled = await lastRecord<{ fee_neuron: string; blockNumber: number }>(stage, 'zg-compute', [
    'settle',
    '--json'
  ])
  const after = await total()
  const fee = BigInt(answer.fee_neuron)
  if (before - after !== fee || BigInt(settled.fee_neuron) !== fee)
    throw new ZgError('ERR_PROTOCOL', `the ledger paid ${before - after} neuron, the answer cost ${fee}`)
  step(
    stage,
    6,
    'payment',
    `provider 0 → ${formatAmount(fee)} 0G`,
    `settled, block ${formatCount(settled.blockNumber)}`,
    performance.now() - started
  )
  step(stage, undefined, 'payment', `your ledger ${formatAmount(before)} → ${formatAmount(after)} 0G`, '', 0)
}

/** Runs a verb with `--json` and answers its last record. */
async function lastRecord<T>(stage: Stage, tool: string, args: string[]): Promise<T> {
  return JSON.parse((await command(stage, tool, args)).split('\n').at(-1)!) as T
}

async function firstBytes(path: string, size: number): Promise<Uint8Array> {
  const handle = await open(path)
  try {
    const bytes = Buffer.alloc(size)
    const { bytesRead } = await handle.read(bytes, 0, size, 0)
    return bytes.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}

/** A contract deployed, written and read; money moved, balances before and after; the height that grew meanwhile. */
async function chain(stage: Stage): Promise<void> {
  const before = await height(stage)
  let started = performance.now()
  const artifact = join(stage.tmp, 'Counter.json')
  const { CREATION_CODE } = await import('../../../lib/contracts/generated/artifacts.ts')
  await writeFile(artifact, JSON.stringify({ contractName: 'Counter', bytecode: CREATION_CODE.Counter }))
  const deployed = JSON.parse(await command(stage, 'zg-chain', ['deploy', artifact, '--json'])) as {
    contractAddress: string
  }
  const address = deployed.contractAddress
  await command(stage, 'zg-chain', ['send', address, '--sig', 'setNumber(uint256)', '41', '--json'])
  await command(stage, 'zg-chain', ['send', address, '--sig', 'increment()', '--json'])
  const answer = await command(stage, 'zg-chain', ['call', address, 'number()(uint256)'])
  if (answer !== '42') throw new ZgError('ERR_PROTOCOL', `the contract answers ${answer}, 42 expected`)
  step(
    stage,
    7,
    'chain',
    `contract ${stage.ctx.tty ? shortHash(address) : address} deployed`,
    '41 + 1 = 42',
    performance.now() - started
  )
  started = performance.now()
  const balance = async (account: string): Promise<bigint> =>
    BigInt(
      (JSON.parse(await command(stage, 'zg-chain', ['balance', account, '--json'])) as { balance_neuron: string })
        .balance_neuron
    )
  const [from, to] = await Promise.all([balance('1'), balance('2')])
  await command(stage, 'zg-chain', ['send', '2', '1.5', '--from', '1', '--json'])
  const [fromAfter, toAfter] = await Promise.all([balance('1'), balance('2')])
  if (toAfter - to !== 15n * 10n ** 17n || from - fromAfter < 15n * 10n ** 17n)
    throw new ZgError('ERR_PROTOCOL', 'balances do not add up after a transfer')
  step(
    stage,
    undefined,
    'chain',
    `account 1  ${formatAmount(from, 4)} → ${formatAmount(fromAfter, 4)} 0G`,
    'paid 1.5 0G and a fee',
    performance.now() - started
  )
  step(
    stage,
    undefined,
    'chain',
    `account 2  ${formatAmount(to, 4)} → ${formatAmount(toAfter, 4)} 0G`,
    'received 1.5 0G',
    0
  )
  started = performance.now()
  const head = await height(stage)
  if (head <= before) throw new ZgError('ERR_NOT_SYNCED', `the chain stands at block ${head}`)
  const counts = await Promise.all(Array.from({ length: head + 1 }, (_, i) => runBlock(stage, i)))
  step(
    stage,
    undefined,
    'chain',
    `block ${formatCount(before)} → ${formatCount(head)}`,
    `${counts.reduce((a, b) => a + b, 0)} transactions`,
    performance.now() - started
  )
}

let client: import('../../../lib/adapters/jsonrpc/client.ts').RpcClient | undefined

async function runBlock(stage: Stage, number: number): Promise<number> {
  if (client === undefined) {
    const { RpcClient } = await import('../../../lib/adapters/jsonrpc/client.ts')
    const { readNetwork } = await import('../../../lib/clients/network.ts')
    const file = await readNetwork(stage.env.ZG_NETWORK!)
    client = new RpcClient(file?.endpoints.rpc ?? '', { what: 'chain' })
  }
  return Number(await client.call<string>('eth_getBlockTransactionCountByNumber', [`0x${number.toString(16)}`]))
}

/** A failed step shows what the services said last. */
async function showLastLines(stage: Stage, err: unknown): Promise<void> {
  if (err instanceof ZgError && err.code === 'ERR_STOPPED') return
  const { readdir } = await import('node:fs/promises')
  const dir = join(stage.tmp, 'state', 'zg', stage.env.ZG_NETWORK!)
  for (const file of await readdir(dir).catch(() => [])) {
    const lines = (await readFile(join(dir, file), 'utf8')).trim().split('\n').slice(-5)
    for (const line of lines) if (line !== '') stage.ctx.warn(`  ${file.replace('.log', '').padEnd(8)} ${line}`)
  }
}
