/** `zg-devnet up`: plan, start, say when ready, keep alive, stop. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { lockDirectory } from '../../../lib/adapters/lock.ts'
import { dataDir, stateDir } from '../../../lib/adapters/paths.ts'
import { portOwner } from '../../../lib/adapters/port-owner.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { readNetwork } from '../../../lib/clients/network.ts'
import { nativePath } from '../../../lib/native.ts'
import { type Control, openControl } from '../control.ts'
import { detach } from '../detach.ts'
import { makeGroup } from '../group.ts'
import { describe, withdraw } from '../network-file.ts'
import { claimBlock, claimFreeBlock, freePorts, type PortBlock, portFree } from '../ports.ts'
import { readyLines, serviceLine, summaryLines } from '../print.ts'
import { provision } from '../provision.ts'
import { listOfPorts, type NetworkPlan, planPorts, serviceTable } from '../services.ts'
import { Supervisor } from '../supervisor.ts'

/** From so many storage nodes on, files are coded among them. */
const GROUP_STORES = 3

export async function up(ctx: VerbContext, _args: string[], opts: Options): Promise<void> {
  const started = performance.now()
  const name = checkName(opts.name as string)
  const running = await readNetwork(name)
  if (running !== undefined) {
    throw new ZgError('ERR_LOCKED', `network '${name}' is running already (pid ${running.pid})`, {
      hint: `zg-devnet status${flag(name)}, or 'zg-devnet down${flag(name)}'`
    })
  }
  if (opts.detach === true) return detach(ctx, name, opts.timeout as number)
  const ephemeral = opts.ephemeral === true
  const dir = (opts.data as string | undefined) ?? dataDir(ephemeral ? `${name}.ephemeral-${process.pid}` : name)
  const lock = await lockDirectory(dir)
  let control: Control | undefined
  let supervisor: Supervisor | undefined
  let block: PortBlock | undefined
  let allReady = false
  let clearLine = (): void => {}
  try {
    if (opts.fresh === true) await clear(dir)
    block = await portsOf(name, opts)
    const plan = await makePlan(name, dir, opts, block?.base)
    if (plan.stores >= GROUP_STORES) plan.group = await makeGroup(plan)
    const logDir = stateDir(name)
    await mkdir(logDir, { recursive: true, mode: 0o700 })
    const failure = failureSignal()
    const rows = serviceTable(plan)
    const chainReady = gate()
    supervisor = new Supervisor(rows, logDir, {
      ready: status => {
        clearLine()
        if (status.kind === 'chain') chainReady.done()
        const row = rows.find(r => r.name === status.name)!
        if (!ctx.json && !ctx.quiet && !allReady && row.partOf === undefined) ctx.say(serviceLine(status, row.note))
        if (allReady) ctx.log('devnet').info('service is ready again', { service: status.name, pid: status.pid })
      },
      crashed: (status, how, lines, final) => {
        clearLine()
        ctx.warn(
          [
            `${status.name} crashed (${how}), last lines:`,
            ...lines.map(l => `  ${l}`),
            final ? `${status.name} stays down after three restarts in a minute` : `restarting ${status.name}`
          ].join('\n')
        )
        if (!allReady && final)
          failure.fail(
            new ZgError('ERR_CRASHED', `${status.name} does not start (${how})`, {
              hint: `zg-devnet logs ${status.name}${flag(name)}`
            })
          )
      },
      ...(opts.log === true ? { log: (service: string, line: string) => ctx.warn(`${service.padEnd(8)} ${line}`) } : {})
    })
    control = await openControl(name, supervisor)
    supervisor.start()
    if (!plan.compute)
      ctx.warn(
        "compute is left out: the inference engine is not built\nhint: install a C++ compiler, then 'npm run build:native'"
      )
    clearLine = waitingLine(ctx, supervisor, () => allReady)
    // The ledger is made while the other services start.
    const provisioned = chainReady.promise.then(() => provision(plan, ctx.signal))
    await Promise.race([Promise.all([untilReady(supervisor), provisioned]), failure.promise, ctx.stopped()])
    if (!ctx.signal.aborted) {
      allReady = true
      clearLine()
      const file = await describe(plan, supervisor, control.path)
      const seconds = Math.round((performance.now() - started) / 100) / 10
      for (const s of file.services) ctx.print({ type: 'service', ...s }, null)
      ctx.print(
        {
          type: 'network_ready',
          name,
          chainId: plan.chainId,
          seconds,
          services: rows.filter(r => r.partOf === undefined).length,
          accounts: 10,
          data_dir: dir
        },
        null
      )
      if (!ctx.json && !ctx.quiet)
        for (const line of [...summaryLines(file), ...readyLines({ seconds, dir, ephemeral, name })]) ctx.say(line)
      await Promise.race([ctx.stopped(), control.stopAsked])
    }
    if (!ctx.json) ctx.say('stopping')
  } finally {
    allReady = true
    clearLine()
    await withdraw(name)
    await supervisor?.stop()
    await control?.close()
    block?.release()
    await lock.release()
    if (ephemeral) await rm(dir, { recursive: true, force: true })
  }
}

/** Removes everything in a network's directory except the lock that this process holds on it. */
async function clear(dir: string): Promise<void> {
  for (const entry of await readdir(dir)) {
    if (entry !== 'lock' && entry !== 'pid') await rm(join(dir, entry), { recursive: true, force: true })
  }
}

function flag(name: string): string {
  return name === 'devnet' ? '' : ` --name ${name}`
}

function checkName(name: string): string {
  if (!/^[a-z0-9][a-z0-9._-]{0,40}$/i.test(name))
    throw new ZgError('ERR_USAGE', `'${name}' is not a network name`, {
      hint: 'letters, digits, dot, dash and underscore, at most 41'
    })
  return name
}

function gate(): { promise: Promise<void>; done(): void } {
  let done: () => void = () => {}
  const promise = new Promise<void>(resolve => {
    done = resolve
  })
  return { promise, done }
}

/** The block of ports of a network that does not use the known ones, claimed for this process. */
async function portsOf(name: string, opts: Options): Promise<PortBlock | undefined> {
  const base = opts.portBase as number | undefined
  if (base !== undefined) {
    const block = await claimBlock(base)
    if (block !== undefined) return block
    // Of several reasons the plainest: a port that is taken.
    await refuseTaken(listOfPorts(planPorts(opts.stores as number, base)))
    throw new ZgError(
      'ERR_PORT_IN_USE',
      `the ports from ${base} on belong to another network, or port ${base + 99} is in use`,
      {
        hint: 'zg-devnet up --port-base PORT with another one'
      }
    )
  }
  // A second network must not fight for the known ports; it gets a block of its own unless told which.
  if (name === 'devnet') return undefined
  const offsets = listOfPorts(planPorts(opts.stores as number, 18_000)).map(p => p - 18_000)
  const block = await claimFreeBlock(offsets)
  if (block === undefined) throw new ZgError('ERR_PORT_IN_USE', 'no block of 100 ports is free between 18000 and 60000')
  return block
}

/** @throws {ZgError} ERR_PORT_IN_USE for the first port that somebody has, named where the system tells. */
async function refuseTaken(ports: readonly number[]): Promise<void> {
  for (const port of ports) {
    if (await portFree(port)) continue
    const owner = await portOwner(port)
    throw new ZgError(
      'ERR_PORT_IN_USE',
      `port ${port} is in use${owner === undefined ? '' : ` by ${owner.name} (pid ${owner.pid})`}`,
      {
        hint: `run 'zg-devnet up --port-base 18000'${owner === undefined ? '' : `, or stop it with 'kill ${owner.pid}'`}`
      }
    )
  }
}

async function makePlan(name: string, dir: string, opts: Options, base: number | undefined): Promise<NetworkPlan> {
  const stores = opts.stores as number
  const ports = planPorts(stores, base, base === undefined ? await freePorts(stores) : [])
  await refuseTaken(listOfPorts(ports))
  const blockTime = opts.blockTime as string
  return {
    name,
    dataDir: dir,
    chainId: 31337,
    blockTime,
    gasLimit: opts.gasLimit as string | undefined,
    stores,
    group: undefined,
    compute: existsSync(nativePath('infer')),
    ports
  }
}

/** On a terminal: who is still awaited and since when, on one line that goes away. Answers how to take it away at once. */
function waitingLine(ctx: VerbContext, supervisor: Supervisor, over: () => boolean): () => void {
  if (process.stderr.isTTY !== true || ctx.json || ctx.quiet || process.env.TERM === 'dumb') return () => {}
  const started = performance.now()
  const clear = (): void => {
    process.stderr.write('\r\u001b[K')
  }
  const timer = setInterval(() => {
    if (over()) return clearInterval(timer)
    const awaited = supervisor.status().filter(s => s.state !== 'ready')
    const words = awaited.map(s => (s.reason === undefined ? s.name : `${s.name} (${s.reason})`)).join(', ')
    const line = `  waiting for ${words}  ${((performance.now() - started) / 1000).toFixed(1)} s`
    process.stderr.write(`\r\u001b[K${line.slice(0, (process.stderr.columns ?? 80) - 1)}`)
  }, 250)
  timer.unref()
  return clear
}

/** Resolves when each service has been ready once. */
async function untilReady(supervisor: Supervisor): Promise<void> {
  while (!supervisor.status().every(s => s.state === 'ready')) await new Promise(resolve => setTimeout(resolve, 20))
}

function failureSignal(): { promise: Promise<never>; fail(err: Error): void } {
  let fail: (err: Error) => void = () => {}
  const promise = new Promise<never>((_, reject) => {
    fail = reject
  })
  promise.catch(() => {})
  return { promise, fail: err => fail(err) }
}
