/**
 * Mutated bytes for the decoders of native/evm (native/evm/test/exec_fuzz.cpp), under address and undefined-behaviour sanitizers.
 *
 *   npm run fuzz:evm-decoders -- [--seconds N] [--seed S] [--iterations N]
 *
 * Seeds come from the fixtures: transactions, blocks, headers, a genesis, inputs of precompiles. Exit status 1 when anything is found; the seed is printed.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { decoderCorpus } from '../test/harness/evm-corpus.ts'
import { fixturesDir } from '../test/harness/evm-fixtures.ts'
// biome-ignore lint/correctness/useImportExtensions: the build script is JavaScript, so that it runs before anything is installed
import { buildProgram } from './evm-programs.mjs'

const { values } = parseArgs({
  options: { seconds: { type: 'string' }, seed: { type: 'string' }, iterations: { type: 'string' } }
})
process.exitCode = await main()

async function main(): Promise<number> {
  const dir = fixturesDir()
  if (dir === undefined) {
    process.stderr.write('fuzz-evm-decoders: the fixtures are not there (../shared/fixtures/evm/evm-fixtures.tar.xz)\n')
    return 1
  }
  const program = await buildProgram('exec_fuzz')
  const temp = mkdtempSync(join(tmpdir(), 'zg-fuzz-'))
  try {
    const file = join(temp, 'corpus')
    writeFileSync(file, decoderCorpus(dir))
    const seed = values.seed ?? String(Date.now() % 1_000_000_000)
    process.stdout.write(`seed ${seed}\n`)
    const args = [file, values.seconds ?? '60', seed, ...(values.iterations === undefined ? [] : [values.iterations])]
    const r = spawnSync(program, args, {
      stdio: 'inherit',
      env: { ...process.env, UBSAN_OPTIONS: 'print_stacktrace=1' }
    })
    if (r.status !== 0) process.stdout.write(`FAIL the program ended with ${r.status ?? r.signal}\n`)
    return r.status === 0 ? 0 : 1
  } finally {
    rmSync(temp, { recursive: true, force: true })
  }
}
