/**
 * Keeps the processes of a network alive: starts them together, waits for their ready records, keeps their last lines and log
 * files, restarts one that died at most three times a minute, follows their progress, and stops them all at the end.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream, type WriteStream } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { packageRoot } from '../../lib/base/package-root.ts'
import type { Service } from './services.ts'

export type ServiceState = 'starting' | 'ready' | 'syncing' | 'degraded' | 'stalled' | 'stopped' | 'crashed'

export interface ServiceStatus {
  name: string
  kind: Service['kind']
  state: ServiceState
  url: string
  port: number
  pid: number
  restarts: number
  /** Unix ms of the last start. */
  startedAt: number
  /** For people: `block 1,204`. */
  progress: string
  /** Why it is not ready. */
  reason: string | undefined
}

export interface SupervisorEvents {
  ready(status: ServiceStatus): void
  /** A process ended by itself; `lines` are its last log lines. */
  crashed(status: ServiceStatus, how: string, lines: string[], final: boolean): void
  log?(service: string, line: string): void
}

const LAST_LINES = 20
const RESTARTS_PER_MINUTE = 3
const STALL_MS = 60_000
const PROBE_MS = 2_000
const PROBE_TIMEOUT_MS = 2_000
/** While something is not ready yet, people wait: those that are not are asked often. */
const PROBE_WAITING_MS = 75
const STOP_MS = 12_000
const HEAD_START_MS = 600

interface Running {
  service: Service
  child: ChildProcess | undefined
  status: ServiceStatus
  lines: string[]
  log: WriteStream
  deaths: number[]
  /** Set while a restart or stop is ours. */
  ending: boolean
  /** Its ready record has come: from now on it answers /ready. */
  announced: boolean
  /** Where it answers /ready: its own port, or the one its ready record names (gRPC services). */
  opsUrl: string
  lastProgress: { value: string; at: number }
  /** Unix ms of the last probe. */
  probedAt: number
}

function waiting(r: Running): boolean {
  return r.status.state === 'starting' || r.status.state === 'syncing'
}

export class Supervisor {
  readonly #running: Running[]
  readonly #events: SupervisorEvents
  #stopping = false
  #probe: NodeJS.Timeout | undefined

  constructor(services: Service[], logDir: string, events: SupervisorEvents) {
    this.#events = events
    this.#running = services.map(service => ({
      service,
      child: undefined,
      status: {
        name: service.name,
        kind: service.kind,
        state: 'starting',
        url: `http://127.0.0.1:${service.port}`,
        port: service.port,
        pid: 0,
        restarts: 0,
        startedAt: Date.now(),
        progress: '',
        reason: undefined
      },
      lines: [],
      log: createWriteStream(join(logDir, `${service.name}.log`), { flags: 'a', mode: 0o600 }),
      deaths: [],
      ending: false,
      announced: false,
      opsUrl: '',
      lastProgress: { value: '', at: Date.now() },
      probedAt: 0
    }))
  }

  /** The chain goes first: everybody waits for it, and a dozen processes that load at once share few cores. */
  start(): void {
    const [first, rest] = [true, false].map(head => this.#running.filter(r => (r.service.kind === 'chain') === head))
    for (const r of first!) this.#spawn(r)
    setTimeout(() => {
      if (!this.#stopping) for (const r of rest!) this.#spawn(r)
    }, HEAD_START_MS)
    this.#probeLater()
  }

  #probeLater(): void {
    this.#probe = setTimeout(
      async () => {
        await this.#probeAll()
        if (!this.#stopping) this.#probeLater()
      },
      this.#running.some(waiting) ? PROBE_WAITING_MS : PROBE_MS
    )
    this.#probe.unref()
  }

  status(): ServiceStatus[] {
    return this.#running.map(r => ({ ...r.status }))
  }

  /** Last log lines of a service. */
  lastLines(name: string): string[] {
    return this.#running.find(r => r.service.name === name)?.lines ?? []
  }

  /** Stops one service and starts it again. False for an unknown name. */
  async restart(name: string): Promise<boolean> {
    const r = this.#named(name)
    if (r === undefined) return false
    await this.#end(r)
    r.status.restarts++
    this.#spawn(r)
    return true
  }

  /** Stops one service until somebody starts it. False for an unknown name. */
  async stopOne(name: string): Promise<boolean> {
    const r = this.#named(name)
    if (r === undefined) return false
    await this.#end(r)
    Object.assign(r.status, { state: 'stopped', pid: 0, progress: '', reason: undefined })
    return true
  }

  /**
   * SIGKILL, in the middle of whatever it does. False for an unknown name.
   * @param again - as after a crash: it comes back by itself. Otherwise it stays down until somebody starts it.
   */
  async killOne(name: string, again: boolean): Promise<boolean> {
    const r = this.#named(name)
    if (r === undefined) return false
    if (!again) r.ending = true
    const child = r.child
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
      child.kill('SIGKILL')
      await gone
    }
    if (!again) Object.assign(r.status, { state: 'stopped', pid: 0, progress: '', reason: 'killed' })
    return true
  }

  /** Starts a service that is down; one that runs is left alone. False for an unknown name. */
  startOne(name: string): boolean {
    const r = this.#named(name)
    if (r === undefined) return false
    if (r.child === undefined) {
      r.status.restarts++
      // Whoever starts it by hand forgives the deaths before.
      r.deaths = []
      this.#spawn(r)
    }
    return true
  }

  #named(name: string): Running | undefined {
    return this.#running.find(r => r.service.name === name)
  }

  /** SIGTERM to all, SIGKILL to what is left after the grace time; resolves when no child lives. */
  async stop(): Promise<void> {
    this.#stopping = true
    clearTimeout(this.#probe)
    await Promise.all(this.#running.map(r => this.#end(r)))
    for (const r of this.#running) r.log.end()
  }

  #spawn(r: Running): void {
    const launcher = join(packageRoot(), 'bin', r.service.tool)
    const child = spawn(process.execPath, [launcher, ...r.service.args, '--json'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      // A group of its own: Ctrl-C in the terminal reaches only the supervisor, which stops its children in order.
      detached: true,
      env: { ...process.env, ZG_SUPERVISED: '1', NODE_OPTIONS: '' }
    })
    r.child = child
    r.ending = false
    r.announced = false
    r.lines = []
    r.lastProgress = { value: '', at: Date.now() }
    Object.assign(r.status, {
      state: 'starting',
      pid: child.pid ?? 0,
      startedAt: Date.now(),
      reason: undefined,
      progress: ''
    })
    child.stdin?.on('error', () => {})
    createInterface({ input: child.stdout! }).on('line', line => this.#record(r, line))
    createInterface({ input: child.stderr! }).on('line', line => this.#line(r, line))
    child.on('error', err => this.#line(r, err.message))
    child.once('close', (code, signal) => this.#closed(r, child, code === null ? `signal ${signal}` : `exit ${code}`))
  }

  #record(r: Running, line: string): void {
    try {
      const record = JSON.parse(line) as { type?: string; metrics_port?: unknown }
      if (record.type === 'ready') {
        r.announced = true
        r.opsUrl = typeof record.metrics_port === 'number' ? `http://127.0.0.1:${record.metrics_port}` : r.status.url
        r.status.state = 'ready'
        this.#events.ready({ ...r.status })
        return
      }
    } catch {
      // Not a record: kept with the log like any other line.
    }
    this.#line(r, line)
  }

  #line(r: Running, line: string): void {
    r.lines.push(line)
    if (r.lines.length > LAST_LINES) r.lines.shift()
    r.log.write(`${line}\n`)
    this.#events.log?.(r.service.name, line)
  }

  #closed(r: Running, child: ChildProcess, how: string): void {
    if (r.child !== child) return
    r.child = undefined
    if (r.ending || this.#stopping) {
      r.status.state = 'stopped'
      return
    }
    const now = Date.now()
    r.deaths = [...r.deaths.filter(t => now - t < 60_000), now]
    const final = r.deaths.length > RESTARTS_PER_MINUTE
    r.status.state = 'crashed'
    r.status.reason = how
    this.#events.crashed({ ...r.status }, how, [...r.lines], final)
    if (final) return
    r.status.restarts++
    setTimeout(() => {
      if (!this.#stopping && !r.ending && r.child === undefined) this.#spawn(r)
    }, 100 * r.deaths.length)
  }

  async #end(r: Running): Promise<void> {
    const child = r.child
    r.ending = true
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
    await gone
    clearTimeout(timer)
  }

  /** Asks each process for its readiness and notices those that no longer get on. */
  async #probeAll(): Promise<void> {
    const started = Date.now()
    await Promise.all(
      this.#running.map(async r => {
        if (r.child === undefined || !r.announced) return
        // The others' impatience is not for those that are ready.
        if (!waiting(r) && started - r.probedAt < PROBE_MS - PROBE_WAITING_MS) return
        r.probedAt = started
        const answer = await probe(r.opsUrl)
        if (r.child === undefined || r.ending) return
        const now = Date.now()
        r.status.progress = answer.progress
        if (answer.progress !== r.lastProgress.value) r.lastProgress = { value: answer.progress, at: now }
        const still = now - r.lastProgress.at
        const stalled = still > STALL_MS && answer.busy
        r.status.state = stalled ? 'stalled' : answer.state
        r.status.reason = stalled
          ? `no progress for ${Math.round(still / 1000)} s${answer.reason === undefined ? '' : `: ${answer.reason}`}`
          : answer.reason
      })
    )
  }
}

interface Probe {
  state: ServiceState
  progress: string
  reason: string | undefined
  /** True while there is work, so that standing still means trouble. */
  busy: boolean
}

/** `/ready` of a service: { ok, state, progress?, reason?, busy? }. */
async function probe(url: string): Promise<Probe> {
  try {
    const body = JSON.parse(await get(`${url}/ready`)) as {
      ok?: boolean
      state?: ServiceState
      progress?: string
      reason?: string
      busy?: boolean
    }
    return {
      state: body.ok ? 'ready' : (body.state ?? 'degraded'),
      progress: body.progress ?? '',
      reason: body.reason,
      busy: body.busy === true || body.ok !== true
    }
  } catch {
    return { state: 'degraded', progress: '', reason: 'does not answer /ready', busy: true }
  }
}

/** Kept alive from one probe to the next: thirteen services are asked all day. */
const agent = new Agent({ keepAlive: true, maxSockets: 1 })

/** The body of an answer, whatever its status. */
function get(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const req = request(url, { agent, timeout: PROBE_TIMEOUT_MS }, res => {
      const parts: Buffer[] = []
      res.on('data', (part: Buffer) => parts.push(part))
      res.once('end', () => resolve(Buffer.concat(parts).toString('utf8')))
      res.once('error', reject)
    })
    req.once('timeout', () => req.destroy(new Error('timeout')))
    req.once('error', reject)
    req.end()
  })
}
