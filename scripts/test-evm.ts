/**
 * Runs all public fixtures of EVM behaviour on the native engine and prints counts and what is left out; exit status 1 when any case fails.
 *
 *   npm run test:evm [-- --only state,block,vectors,rpc,benchmark] [--jobs N] [--match TEXT] [--forks Prague,Osaka] [--seconds N]
 *
 * Files are spread over N processes (default: all cores).
 */
import { fork, spawn } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { join, relative, sep } from 'node:path'
import { parseArgs } from 'node:util'
import { packageRoot } from '../lib/base/package-root.ts'
import { loadConformance } from '../lib/native.ts'
import { LEFT_OUT_VECTORS } from '../test/harness/evm-basics.ts'
import {
  fixturesDir,
  jsonFiles,
  type Outcome,
  runBlockFile,
  runStateFile,
  stateForks
} from '../test/harness/evm-fixtures.ts'
import { runVectors } from '../test/harness/evm-vectors.ts'

interface Job {
  suite: string
  kind: 'state' | 'block' | 'vectors'
  file: string
  /** Only these forks of it. */
  forks?: string[]
}

/** One call of 2^32 - 1 rounds of BLAKE2b in each fork, and nothing can be done side by side: each is a job of its own, and the first. */
const SLOW = /CALLBlake2f_MaxRounds\.json$/
const ABSENT =
  'a few dozen very large files of the suites (constant-gas, stack-overflow, some BLS multi-infinity and time-consuming storage combinations): the public copies lack them'

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    jobs: { type: 'string' },
    match: { type: 'string' },
    forks: { type: 'string' },
    seconds: { type: 'string' }
  }
})
/** No file takes long on its own; one that does is a hang, and counts as failed. */
const secondsPerFile = Number(values.seconds ?? 300)
const SLOW_FACTOR = 5
const forks = values.forks?.split(',')

if (process.send !== undefined) {
  const run = loadConformance()
  process.on('message', async (job: Job) => {
    const outcome =
      job.kind === 'state'
        ? runStateFile(run, job.file, job.forks ?? forks)
        : job.kind === 'block'
          ? runBlockFile(run, job.file, forks)
          : await runVectors(run, job.file)
    process.send!(outcome)
  })
} else {
  process.exitCode = await main()
}

async function main(): Promise<number> {
  const dir = fixturesDir()
  if (dir === undefined) {
    process.stderr.write('test-evm: the fixtures are not there (../shared/fixtures/evm/evm-fixtures.tar.xz)\n')
    return 1
  }
  const only = values.only?.split(',') ?? ['state', 'block', 'vectors', 'rpc', 'benchmark']
  const jobs: Job[] = []
  const leftOut: string[] = []
  const add = (kind: Job['kind'], part: string, suiteOf = (_file: string) => part): void => {
    for (const file of jsonFiles(join(dir, part))) {
      const name = relative(dir, file)
      if (values.match !== undefined && !name.includes(values.match)) continue
      const reason = kind === 'vectors' ? LEFT_OUT_VECTORS[name.split(sep).slice(1).join('/')] : undefined
      if (reason !== undefined) leftOut.push(`${name}: ${reason}`)
      else if (SLOW.test(file))
        for (const f of stateForks(file).filter(f => forks?.includes(f) !== false))
          jobs.unshift({ suite: suiteOf(file), kind, file, forks: [f] })
      else jobs.push({ suite: suiteOf(file), kind, file })
    }
  }
  if (only.includes('state'))
    for (const s of ['state/eest-v5.4.0', 'state/legacy-cancun', 'state/legacy-constantinople']) add('state', s)
  if (only.includes('block')) for (const s of ['blockchain/eest-v5.4.0', 'blockchain/ethereum-tests']) add('block', s)
  if (only.includes('benchmark')) add('block', 'benchmark')
  if (only.includes('vectors')) add('vectors', 'vectors', file => relative(dir, file).split(sep).slice(0, 2).join('/'))
  const counts = new Map<string, { cases: number; failed: number }>()
  const failures: string[] = []
  const started = performance.now()
  let next = 0
  const worker = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const child = fork(import.meta.filename, process.argv.slice(2), { execArgv: process.execArgv })
      let current: Job | undefined
      let limit: NodeJS.Timeout | undefined
      const give = (): void => {
        current = jobs[next++]
        if (current === undefined) {
          child.disconnect()
          return
        }
        child.send(current)
        const seconds = secondsPerFile * (current.forks === undefined ? 1 : SLOW_FACTOR)
        limit = setTimeout(() => child.kill('SIGKILL'), seconds * 1000)
      }
      child.on('message', (outcome: Outcome) => {
        clearTimeout(limit)
        const c = counts.get(current!.suite) ?? { cases: 0, failed: 0 }
        c.cases += outcome.cases
        c.failed += outcome.failures.length
        counts.set(current!.suite, c)
        for (const f of outcome.failures) failures.push(`${relative(dir, current!.file)}: ${f}`)
        give()
      })
      child.on('exit', code => {
        clearTimeout(limit)
        if (current === undefined) resolve()
        else {
          // The engine must not die, whatever a fixture says: the file counts as failed, and another process goes on.
          failures.push(
            `${relative(dir, current.file)}: the process ended with ${code ?? `a signal (limit ${secondsPerFile} s)`}`
          )
          worker().then(resolve, reject)
        }
      })
      child.on('error', reject)
      give()
    })
  const n = values.jobs === undefined ? availableParallelism() : Number(values.jobs)
  await Promise.all(Array.from({ length: n }, worker))
  if (only.includes('rpc') && values.match === undefined) {
    const rpc = await runRpc()
    counts.set('rpc-compat', { cases: rpc.cases, failed: rpc.failures.length })
    failures.push(...rpc.failures)
    leftOut.push(...rpc.leftOut)
  }
  if (values.match === undefined) {
    const part = 'BasicTests/keyaddrtest.json: signatures'
    if (only.includes('vectors')) leftOut.push(`vectors/${part}: ${LEFT_OUT_VECTORS[part]}`)
    leftOut.push(ABSENT)
  }

  for (const f of failures) process.stdout.write(`FAIL ${f}\n`)
  let cases = 0
  process.stdout.write(`\n${'suite'.padEnd(32)}    passed      cases\n`)
  for (const [suite, c] of [...counts].sort(([a], [b]) => (a < b ? -1 : 1))) {
    cases += c.cases
    process.stdout.write(
      `${suite.padEnd(32)} ${String(c.cases - c.failed).padStart(9)} ${String(c.cases).padStart(10)}\n`
    )
  }
  process.stdout.write(
    `${'all'.padEnd(32)} ${String(cases - failures.length).padStart(9)} ${String(cases).padStart(10)}\n`
  )
  const state = [...counts].filter(([suite]) => suite.startsWith('state/')).map(([, c]) => c)
  if (state.length > 0) {
    const sum = (of: (c: { cases: number; failed: number }) => number): number => state.reduce((n, c) => n + of(c), 0)
    process.stdout.write(`\nstate tests: ${sum(c => c.cases - c.failed)} of ${sum(c => c.cases)}\n`)
  }
  process.stdout.write(`left out: ${leftOut.length === 0 ? 'nothing' : ''}\n`)
  for (const what of leftOut) process.stdout.write(`  ${what}\n`)
  const seconds = (performance.now() - started) / 1000
  process.stdout.write(
    `${cases} cases, ${failures.length} failed, ${leftOut.length} left out, ${seconds.toFixed(1)} s\n`
  )
  return failures.length === 0 && cases > 0 ? 0 : 1
}

/** The recorded requests and answers are replayed by their own test, whose report is read here. */
async function runRpc(): Promise<Outcome & { leftOut: string[] }> {
  const file = join('test', 'conformance', 'rpc-compat.test.ts')
  const child = spawn(process.execPath, ['--import', 'tsx', file], {
    cwd: packageRoot(),
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let text = ''
  child.stdout.on('data', d => {
    text += d
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  const failures = [...text.matchAll(/^ +not ok \d+ - (.*)$/gm)].map(m => `rpc-compat: ${m[1]}`)
  const counts = /(\d+) files equal, (\d+) of the same shape/.exec(text)
  if (counts === null || (code !== 0 && failures.length === 0)) failures.push(`rpc-compat: the test ended with ${code}`)
  return {
    cases: counts === null ? 0 : Number(counts[1]) + Number(counts[2]),
    failures,
    leftOut: [...text.matchAll(/^ *# left out: (.*)$/gm)].map(m => `rpc-compat/${m[1]}`)
  }
}
