/** `zg-devnet logs`: the services' log files, merged by time. */
import { createReadStream } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { stateDir } from '../../../lib/adapters/paths.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { suggest } from '../../../lib/cli/suggest.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'

interface Line {
  service: string
  time: number
  level: string
  text: string
  record: Record<string, unknown> | undefined
}

const RANK: Record<string, number> = { debug: 0, info: 1, warn: 2, error: 3 }
const COLOURS = [36, 32, 33, 35, 34, 96, 92, 95]
const FOLLOW_MS = 200
/** Lines kept in memory for merging; older ones of a long log are left out. */
const MERGED_LINES = 100_000

export async function logs(ctx: VerbContext, args: string[], opts: Options): Promise<number> {
  const dir = stateDir(opts.name as string)
  const all = (await readdir(dir).catch(() => []))
    .filter(f => f.endsWith('.log') && f !== 'devnet.log')
    .map(f => f.slice(0, -4))
  if (all.length === 0)
    throw new ZgError('ERR_NO_INPUT', `network '${opts.name}' has no logs in '${dir}'`, { hint: "run 'zg-devnet up'" })
  for (const name of args) {
    if (all.includes(name)) continue
    const near = suggest(name, all)
    throw new ZgError('ERR_USAGE', `no service '${name}'${near === undefined ? '' : `, did you mean '${near}'?`}`, {
      hint: `services: ${all.sort().join(', ')}`
    })
  }
  const services = args.length === 0 ? all.sort() : args
  const filter = {
    after: opts.since === undefined ? 0 : Date.now() - (opts.since as number),
    rank: RANK[opts.level as string]!,
    grep: opts.grep as string | undefined
  }
  const show = (line: Line): void => {
    const colour = COLOURS[services.indexOf(line.service) % COLOURS.length]
    const head =
      ctx.tty && process.env.NO_COLOR === undefined
        ? `\u001b[${colour}m${line.service.padEnd(9)}\u001b[0m`
        : line.service.padEnd(9)
    ctx.print(
      { type: 'log', service: line.service, ...(line.record ?? { message: line.text }) },
      `${head}${human(line)}`
    )
  }
  const passes = (line: Line): boolean =>
    line.time >= filter.after &&
    (RANK[line.level] ?? 1) >= filter.rank &&
    (filter.grep === undefined || line.text.includes(filter.grep))
  const lines: Line[] = []
  const sizes = new Map<string, number>()
  for (const service of services) {
    const path = join(dir, `${service}.log`)
    let time = 0
    let size = 0
    for await (const text of createInterface({ input: createReadStream(path) })) {
      size += Buffer.byteLength(text) + 1
      const line = parse(service, text, time)
      time = line.time
      if (passes(line)) lines.push(line)
      if (lines.length > MERGED_LINES * 2) lines.splice(0, lines.length - MERGED_LINES)
    }
    sizes.set(service, size)
  }
  lines.sort((a, b) => a.time - b.time)
  for (const line of lines) show(line)
  if (opts.follow !== true) return lines.length > 0 ? 0 : 1
  while (!ctx.signal.aborted) {
    for (const service of services) {
      for (const text of await newLines(join(dir, `${service}.log`), sizes, service)) {
        const line = parse(service, text, Date.now())
        if (passes(line)) show(line)
      }
    }
    await new Promise(resolve => setTimeout(resolve, FOLLOW_MS))
  }
  throw ctx.signal.reason
}

/** Whole lines that were appended since the last look. */
async function newLines(path: string, sizes: Map<string, number>, service: string): Promise<string[]> {
  const from = sizes.get(service) ?? 0
  const file = await open(path, 'r')
  try {
    const { size } = await file.stat()
    if (size <= from) return []
    const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(size - from, 1 << 20)), 0, undefined, from)
    const end = buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1
    sizes.set(service, from + end)
    return buffer.subarray(0, end).toString().split('\n').slice(0, -1)
  } finally {
    await file.close()
  }
}

/** A JSON log line, or a plain one that takes the time of the line before it. */
function parse(service: string, text: string, before: number): Line {
  try {
    const record = JSON.parse(text) as { time?: string; level?: string }
    const time = Date.parse(record.time ?? '')
    return { service, time: Number.isNaN(time) ? before : time, level: record.level ?? 'info', text, record }
  } catch {
    return { service, time: before, level: 'info', text, record: undefined }
  }
}

function human(line: Line): string {
  if (line.record === undefined) return line.text
  const { time, level, tool: _tool, module, message, type: _type, ...fields } = line.record
  const tail = Object.entries(fields).map(([k, v]) => ` ${k}=${typeof v === 'string' ? v : JSON.stringify(v)}`)
  return `${String(time).slice(11, 23)} ${String(level).padEnd(5)} ${module ?? ''} ${message ?? ''}${tail.join('')}`
}
