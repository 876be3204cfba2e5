// Runs every test that draws, with a new seed each time: what the suite, whose draws are fixed, cannot find (docs/decisions/0098).
//
//   npm run test:seeds [-- --rounds 10] [-- --only TEXT]
//
// A failure prints its file, the seed that repeats it and where the output lies. Exit status: 0 none failed, 1 some did.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '10' }, only: { type: 'string', default: '' } }
})
const rounds = Number(values.rounds)
const folders = ['unit', 'native', 'sim', 'fault', 'fuzz', 'cli', 'interop'].map(name => join('test', name))
const files = folders
  .flatMap(folder => readdirSync(join(root, folder)).map(name => join(folder, name)))
  .filter(file => file.endsWith('.test.ts') && file.includes(values.only))
  .filter(file => readFileSync(join(root, file), 'utf8').includes("'../harness/seed.ts'"))
if (!Number.isSafeInteger(rounds) || rounds < 1 || files.length === 0) {
  process.stderr.write('test-seeds: --rounds is a count from 1, --only a part of the name of a test that draws\n')
  process.exit(64)
}

const tap = join(root, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs')
let failures = 0
for (let round = 1; round <= rounds; round++) {
  const from = Date.now()
  let failed = 0
  for (const file of files) {
    const run = spawnSync(process.execPath, [tap, '--disable-coverage', '--reporter=tap', '--timeout=900', file], {
      cwd: root,
      env: { ...process.env, ZG_SEED: 'new' },
      encoding: 'utf8',
      maxBuffer: 1 << 28
    })
    if (run.status === 0) continue
    failed++
    const kept = join(mkdtempSync(join(tmpdir(), 'zg-seeds-')), `${basename(file)}.tap`)
    writeFileSync(kept, run.stdout + run.stderr)
    const seed = /# seed (\d+)/.exec(run.stdout)?.[1] ?? 'unknown'
    console.log(`failed: ZG_SEED=${seed} npx tap ${file}   (${kept})`)
  }
  failures += failed
  const seconds = Math.round((Date.now() - from) / 1000)
  console.log(`round ${round} of ${rounds}: ${files.length} files, ${failed} failed, ${seconds} s`)
}
process.exit(failures === 0 ? 0 : 1)
