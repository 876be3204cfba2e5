/**
 * How fast is zg's storage, and what bounds it? One command, one machine, each figure beside its limits measured in the same run.
 *
 *   npm run bench:store -- [--size 1GiB] [--group-size 1GiB] [--rounds 3] [--only limits,node,verb,sdk,json,small,kv,gateway,group] [--quick] [--json] [--dir DIR]
 *
 * Run `npm run build` first: nodes and verbs are those of bin/.
 *
 * Each part is a script of bench/store/ that starts processes of its own, does one round and prints one JSON line a row:
 *
 *   {"row":"put, one node","mb_per_second":311, …}
 *
 * Rounds alternate over all parts, so that a limit and the figure beside it see the same machine. The table at the end has the median
 * of the rounds, least and most, the figure that was asked for, and 70 % of the smallest of its limits where that is lower: what the
 * machine cannot do is no fault of the program. With --json the rows of all rounds come first, one a line.
 *
 * A new part: a script that prints such lines, and a line in PARTS; a row with a floor: a line in FLOORS.
 */
import { spawn } from 'node:child_process'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { parseSize } from '../lib/base/units.ts'
import { codec } from '../lib/native.ts'
import { packageRoot } from '../test/harness/tools.ts'

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '1GiB' },
    'group-size': { type: 'string' },
    rounds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    dir: { type: 'string', default: tmpdir() },
    json: { type: 'boolean', default: false }
  }
})
const SIZE = values.quick ? 64 * 1024 * 1024 : parseSize(values.size)
const GROUP_SIZE = values['group-size'] === undefined ? SIZE : parseSize(values['group-size'])
const ROUNDS = Number(values.rounds ?? (values.quick ? 1 : 3))

/** Scripts below bench/store/, in the order of a round. */
const PARTS: { name: string; script: string; args: string[] }[] = [
  { name: 'limits', script: 'limits.ts', args: sized(SIZE) },
  { name: 'node', script: 'node.ts', args: sized(SIZE) },
  { name: 'verb', script: 'verb.ts', args: sized(SIZE) },
  { name: 'sdk', script: 'sdk.ts', args: sized(Math.min(SIZE, 64 * 1024 * 1024)) },
  { name: 'json', script: 'json.ts', args: sized(SIZE) },
  { name: 'small', script: 'small.ts', args: [] },
  { name: 'kv', script: 'kv.ts', args: [] },
  { name: 'gateway', script: 'gateway.ts', args: sized(SIZE) },
  { name: 'group', script: 'group.ts', args: sized(GROUP_SIZE) }
]

interface Floor {
  /** As the row's field has it. */
  field: string
  asked: number
  /** Rows that the machine sets; the floor is 70 % of the least of them where that is lower. */
  limits?: string[]
  /** The value is to be below, not above. */
  most?: boolean
}

const NODE_LIMITS = ['limit: tree, one core, generic', 'limit: http up', 'limit: disk, write and sync']
/** What issue 6 asks for, by row. */
const FLOORS: Record<string, Floor[]> = {
  'tree of one core': [{ field: 'mb_per_second', asked: 700 }],
  'put, one node': [
    { field: 'mb_per_second', asked: 250, limits: NODE_LIMITS },
    { field: 'node_peak_mib', asked: 256, most: true },
    { field: 'client_peak_mib', asked: 256, most: true }
  ],
  'get, one node, first read': [
    { field: 'mb_per_second', asked: 400, limits: [NODE_LIMITS[0]!, 'limit: http down', NODE_LIMITS[2]!] },
    { field: 'node_peak_mib', asked: 256, most: true },
    { field: 'client_peak_mib', asked: 256, most: true }
  ],
  'zg-store put, chain of 500 ms blocks included': [
    { field: 'mb_per_second', asked: 250, limits: NODE_LIMITS },
    { field: 'node_peak_mib', asked: 256, most: true },
    { field: 'client_peak_mib', asked: 256, most: true }
  ],
  'zg-store get, to stdout': [
    { field: 'mb_per_second', asked: 400, limits: [NODE_LIMITS[0]!, 'limit: http down', NODE_LIMITS[2]!] },
    { field: 'client_peak_mib', asked: 256, most: true }
  ],
  'upload by the SDK, unmodified': [
    { field: 'of_its_hashing', asked: 0.9 },
    { field: 'of_the_limit', asked: 0.9 }
  ],
  'gateway, 8 readers of a part each': [
    { field: 'gateway_peak_mib', asked: 256, most: true },
    { field: 'node_peak_mib', asked: 256, most: true }
  ],
  'put, JSON-RPC': [
    { field: 'per_second', asked: 2_000 },
    { field: 'node_peak_mib', asked: 256, most: true }
  ],
  'upload by JSON-RPC, 32 clients': [{ field: 'mb_per_second', asked: 100 }],
  'download by JSON-RPC, 32 clients': [{ field: 'mb_per_second', asked: 150 }],
  'JSON-RPC uploads of whole segments, all at the same time': [
    { field: 'retries', asked: 0, most: true },
    { field: 'node_peak_mib', asked: 256, most: true }
  ],
  'put, raw route': [{ field: 'per_second', asked: 2_000 }],
  'one writer': [{ field: 'readable_ms_most', asked: 1_000, most: true }],
  'four writers at once': [{ field: 'readable_ms_most', asked: 1_000, most: true }],
  'put, 6 nodes, 4+2': [{ field: 'mb_per_second', asked: 80 }],
  'get, 6 nodes': [{ field: 'mb_per_second', asked: 200 }],
  'get, two of 6 nodes dead': [{ field: 'mb_per_second', asked: 120 }],
  'repair, one of 6 nodes empty, clients reading': [{ field: 'minutes_for_10_gib', asked: 3, most: true }]
}

type Row = { row: string } & Record<string, unknown>

await main()

async function main(): Promise<void> {
  const wanted = values.only?.split(',')
  const parts = PARTS.filter(p => wanted === undefined || wanted.includes(p.name))
  const rows: Row[] = []
  let failed = false
  for (let n = 1; n <= ROUNDS; n++) {
    for (const part of parts) {
      process.stderr.write(`round ${n} of ${ROUNDS}: ${part.name}\n`)
      const code = await run(part, row => {
        rows.push(row)
        if (values.json) process.stdout.write(`${JSON.stringify({ ...row, round: n })}\n`)
      })
      if (code !== 0) {
        failed = true
        process.stderr.write(`bench/store/${part.script} ended with ${code}\n`)
      }
    }
  }
  const machine = { cpus: cpus().length, model: cpus()[0]?.model, codec: codec().cpu, node: process.version }
  const load = Math.round(loadavg()[0]! * 10) / 10
  if (values.json) process.stdout.write(`${JSON.stringify({ row: 'machine', ...machine, load, size: SIZE })}\n`)
  process.stdout.write(table(rows))
  process.stdout.write(
    `\n${machine.model}, ${machine.cpus} cores, Node ${machine.node}, codec ${machine.codec}, ${SIZE} bytes, load ${load} at the end, ${ROUNDS} rounds\n`
  )
  if (failed) process.exitCode = 1
}

function sized(bytes: number): string[] {
  return ['--size', String(bytes)]
}

function run(part: (typeof PARTS)[number], onRow: (row: Row) => void): Promise<number | null> {
  const script = join(packageRoot, 'bench/store', part.script)
  const env = values.quick ? { FILES: '1000', WRITES: '5', ...process.env } : process.env
  const child = spawn(process.execPath, ['--import', 'tsx', script, ...part.args, '--dir', values.dir], {
    cwd: packageRoot,
    env,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  createInterface({ input: child.stdout }).on('line', line => {
    if (line.startsWith('{"row":')) onRow(JSON.parse(line) as Row)
  })
  return new Promise(resolve => child.once('close', resolve))
}

/** One line a row and field that has a floor, or that is the row's rate. */
function table(rows: readonly Row[]): string {
  const names = [...new Set(rows.map(r => r.row))].filter(n => n !== 'machine')
  const lines = [['row', '', 'median', 'least', 'most', 'asked', 'limit', 'kept']]
  for (const name of names) {
    const floors = FLOORS[name] ?? []
    const fields = floors.map(f => f.field)
    for (const rate of ['mb_per_second', 'per_second', 'seconds']) {
      if (fields.length > 0) break
      if (rows.some(r => r.row === name && typeof r[rate] === 'number')) fields.push(rate)
    }
    for (const field of fields) {
      const all = numbers(rows, name, field)
      if (all.length === 0) continue
      const median = middle(all)
      const floor = floors.find(f => f.field === field)
      const limit = limitOf(rows, floor)
      const asked = Math.min(floor?.asked ?? Number.NaN, limit ?? Number.POSITIVE_INFINITY)
      const kept = floor === undefined ? '' : (floor.most ? median <= floor.asked : median >= asked) ? 'yes' : 'NO'
      const [unit, asWritten] = [field.replaceAll('_', ' '), floor === undefined ? '' : String(floor.asked)]
      lines.push([
        name,
        unit,
        show(median),
        show(all[0]!),
        show(all.at(-1)!),
        asWritten,
        limit === undefined ? '' : show(limit),
        kept
      ])
    }
  }
  const widths = lines[0]!.map((_, i) => Math.max(...lines.map(l => l[i]!.length)))
  return lines
    .map(l =>
      l
        .map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
        .join('  ')
        .trimEnd()
    )
    .join('\n')
    .concat('\n')
}

function limitOf(rows: readonly Row[], floor: Floor | undefined): number | undefined {
  const known = (floor?.limits ?? []).flatMap(l => {
    const all = numbers(rows, l, 'mb_per_second')
    return all.length === 0 ? [] : [middle(all)]
  })
  return known.length === 0 ? undefined : 0.7 * Math.min(...known)
}

function numbers(rows: readonly Row[], name: string, field: string): number[] {
  const all = rows.filter(r => r.row === name).map(r => r[field])
  return all.filter(v => typeof v === 'number').sort((a, b) => a - b)
}

function middle(sorted: readonly number[]): number {
  const n = sorted.length
  return n % 2 === 1 ? sorted[(n - 1) / 2]! : (sorted[n / 2 - 1]! + sorted[n / 2]!) / 2
}

function show(x: number): string {
  return Number.isInteger(x) || x >= 100 ? String(Math.round(x)) : x.toFixed(2)
}
