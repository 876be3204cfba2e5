/**
 * Runs all public fixtures of EVM behaviour on the native engine and prints counts; exit status 1 when any case fails.
 *
 *   npm run test:evm [-- --only state,block,vectors] [--jobs N] [--match TEXT] [--forks Prague,Osaka] [--seconds N]
 *
 * Files are spread over N processes (default: all cores). What is left out is printed with its reason.
 */
import { fork } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { loadConformance } from '../lib/native.ts'
import { fixturesDir, jsonFiles, type Outcome, runBlockFile, runStateFile } from '../test/harness/evm-fixtures.ts'
import { runVectors, VECTOR_SUITES } from '../test/harness/evm-vectors.ts'

interface Job {
  suite: string
  kind: 'state' | 'block' | 'vectors'
  file: string
}

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    jobs: { type: 'string' },
    match: { type: 'string' },
    forks: { type: 'string' },
    seconds: { type: 'string' }
  }
})
/** No file takes long; one that does is a hang, and counts as failed. */
const secondsPerFile = Number(values.seconds ?? 120)
const forks = values.forks?.split(',')

if (process.send !== undefined) {
  const run = loadConformance()
  process.on('message', (job: Job) => {
    const outcome =
      job.kind === 'state'
        ? runStateFile(run, job.file, forks)
        : job.kind === 'block'
          ? runBlockFile(run, job.file, forks)
          : runVectors(run, job.file)
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
  const only = values.only?.split(',') ?? ['state', 'block', 'vectors']
  const jobs: Job[] = []
  const add = (kind: Job['kind'], suite: string): void => {
    if (!only.includes(kind)) return
    for (const file of jsonFiles(join(dir, suite))) jobs.push({ suite, kind, file })
  }
  add('vectors', 'vectors')
  for (const s of ['state/eest-v5.4.0', 'state/legacy-cancun', 'state/legacy-constantinople']) add('state', s)
  for (const s of ['blockchain/eest-v5.4.0', 'blockchain/ethereum-tests']) add('block', s)
  if (only.includes('vectors'))
    for (const job of jobs)
      if (job.kind === 'vectors') job.suite = `vectors/${VECTOR_SUITES(relative(join(dir, 'vectors'), job.file))}`
  const wanted = values.match === undefined ? jobs : jobs.filter(j => j.file.includes(values.match!))

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
        current = wanted[next++]
        if (current === undefined) {
          child.disconnect()
          return
        }
        child.send(current)
        limit = setTimeout(() => child.kill('SIGKILL'), secondsPerFile * 1000)
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

  for (const f of failures) process.stdout.write(`FAIL ${f}\n`)
  let cases = 0
  for (const [suite, c] of [...counts].sort(([a], [b]) => (a < b ? -1 : 1))) {
    cases += c.cases
    process.stdout.write(
      `${suite.padEnd(36)} ${String(c.cases - c.failed).padStart(7)} of ${String(c.cases).padStart(7)}\n`
    )
  }
  const seconds = (performance.now() - started) / 1000
  process.stdout.write(`${cases} cases, ${failures.length} failed, ${seconds.toFixed(1)} s\n`)
  return failures.length === 0 && cases > 0 ? 0 : 1
}
