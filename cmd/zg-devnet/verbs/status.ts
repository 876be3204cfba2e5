/** `zg-devnet status`: one row a service with progress, load and reasons. */
import pidusage from 'pidusage'
import { formatDuration, formatSize } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { control, requireNetwork } from '../control-client.ts'
import type { ServiceStatus } from '../supervisor.ts'

export async function status(ctx: VerbContext, _args: string[], opts: Options): Promise<number> {
  const file = await requireNetwork(opts.name as string)
  const services = await control<ServiceStatus[]>(file, 'devnet_status')
  const usage = await load(services.map(s => s.pid).filter(pid => pid > 0))
  if (!ctx.quiet && !ctx.json)
    ctx.print({ type: 'head' }, row(['SERVICE', 'STATE', 'PROGRESS', 'PORT', 'PID', 'CPU', 'MEM', 'UP', 'RESTARTS']))
  for (const s of services) {
    const used = usage.get(s.pid)
    const upMs = Date.now() - s.startedAt
    const record = {
      type: 'service',
      name: s.name,
      state: s.state,
      url: s.url,
      port: s.port,
      pid: s.pid,
      uptime_seconds: Math.floor(upMs / 1000),
      restarts: s.restarts,
      progress: s.progress,
      reason: s.reason ?? null,
      cpu_percent: used?.cpu ?? null,
      memory_bytes: used?.memory ?? null
    }
    const cells = [
      s.name,
      s.state,
      s.progress,
      `${s.port}`,
      `${s.pid}`,
      used === undefined ? '-' : `${Math.round(used.cpu)} %`,
      used === undefined ? '-' : formatSize(used.memory),
      formatDuration(upMs),
      `${s.restarts}`
    ]
    if (!ctx.quiet)
      ctx.print(record, s.reason === undefined ? row(cells) : `${row(cells)}\n${' '.repeat(10)}${s.reason}`)
  }
  const bad = services.filter(s => s.state !== 'ready')
  const worst = bad.find(s => s.state === 'stalled' || s.state === 'crashed') ?? bad[0]
  const flag = file.name === 'devnet' ? '' : ` --name ${file.name}`
  if (worst === undefined) ctx.say(`all ${services.length} services are ready. next: eval "$(zg-devnet env${flag})"`)
  else
    ctx.say(
      `${bad.length} of ${services.length} ${bad.length === 1 ? 'is' : 'are'} ${worst.state}. next: zg-devnet logs ${worst.name} --since 2m${flag}`
    )
  if (bad.length === 0) return 0
  return bad.every(s => s.state === 'starting' || s.state === 'syncing') ? 75 : 69
}

const WIDTHS = [10, 9, 27, 7, 8, 6, 10, 9, 8]

function row(cells: string[]): string {
  return cells
    .map((c, i) => c.padEnd(WIDTHS[i]!))
    .join('')
    .trimEnd()
}

async function load(pids: number[]): Promise<Map<number, { cpu: number; memory: number }>> {
  const out = new Map<number, { cpu: number; memory: number }>()
  await Promise.all(
    pids.map(async pid => {
      const used = await pidusage(pid).catch(() => undefined)
      if (used !== undefined) out.set(pid, { cpu: used.cpu, memory: used.memory })
    })
  )
  return out
}
