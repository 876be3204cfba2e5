/**
 * Question: how many public state tests a second does the runner take, one process, one thread? Peer: none here that is carried as a package; evmone's own
 * runner does 1,590 a second on the newest set (../shared/fixtures/evm).
 *
 *   npm run build && node --import tsx bench/statetest.ts -- [--forks Osaka] [--rounds 3]
 *
 * Requests are made ahead and given to `zg-chain statetest --jsonl` as a file; counted is from its start to its last answer, loading included, and
 * its processor time. Every answer's root is compared. One JSON line a round, then the medians.
 */
import { spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { cpuSeconds } from '../cmd/zg-chain/bench/driver.ts'
import { packageRoot } from '../lib/base/package-root.ts'
import { evmFixtures, jsonFiles, stateCases } from '../test/harness/evm-fixtures.ts'

const { values: flags } = parseArgs({
  options: { forks: { type: 'string', default: 'Osaka' }, rounds: { type: 'string', default: '3' } }
})
const folder = evmFixtures('state')
if (folder === undefined) throw new Error('the fixtures are absent: ../shared/fixtures/evm/evm-fixtures.tar.xz')
const dir = mkdtempSync(join(tmpdir(), 'zg-statetest-'))
process.once('exit', () => rmSync(dir, { recursive: true, force: true }))

const wanted: string[] = []
const path = join(dir, 'requests.jsonl')
const file = openSync(path, 'w')
for (const name of jsonFiles(folder))
  for (const { request, want } of stateCases(name, flags.forks.split(','))) {
    writeSync(file, `${JSON.stringify({ ...request, id: wanted.length })}\n`)
    wanted.push(want.hash)
  }
closeSync(file)

interface Round {
  seconds: number
  cpu: number
}

async function round(): Promise<Round> {
  const input = openSync(path, 'r')
  const began = performance.now()
  const child = spawn(process.execPath, [join(packageRoot(), 'bin/zg-chain'), 'statetest', '--jsonl'], {
    stdio: [input, 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' }
  })
  let cpu = 0
  const look = setInterval(async () => {
    cpu = (await cpuSeconds(child.pid!)) ?? cpu
  }, 20)
  let answers = 0
  for await (const line of createInterface({ input: child.stdout! })) {
    const { id, stateRoot } = JSON.parse(line) as { id: number; stateRoot: string }
    if (stateRoot !== wanted[id]) throw new Error(`case ${id}: root ${stateRoot}, ${wanted[id]} wanted`)
    answers++
  }
  const seconds = (performance.now() - began) / 1000
  clearInterval(look)
  closeSync(input)
  if (answers !== wanted.length) throw new Error(`${answers} answers to ${wanted.length} requests`)
  return { seconds, cpu }
}

const rounds: Round[] = []
for (let i = 0; i < Number(flags.rounds); i++) {
  const r = await round()
  rounds.push(r)
  process.stdout.write(`${JSON.stringify({ round: i, cases: wanted.length, ...r })}\n`)
}
const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!
const rate = (seconds: number): string => Math.round(wanted.length / seconds).toLocaleString('en-US')
process.stdout.write(
  `${wanted.length} cases of ${flags.forks}: ${rate(median(rounds.map(r => r.seconds)))} a second by the clock, ` +
    `${rate(median(rounds.map(r => r.cpu)))} a second of processor time\n`
)
