// Builds the trainer under sanitizers into build/sanitize and runs its tests (test/native/train.test.ts) with it.
//
//   node scripts/sanitize-train.mjs              addresses and undefined behaviour
//   node scripts/sanitize-train.mjs --threads    data races
//
// Exit status: that of the tests; 1 a failed build, 3 no compiler.
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const threads = process.argv.includes('--threads')
const out = join(root, 'build', 'sanitize', threads ? 'train-threads' : 'train')
const compiler = process.env.CXX ?? 'g++'
if (spawnSync(compiler, ['--version'], { stdio: 'ignore' }).status !== 0) {
  process.stderr.write('sanitize-train: no compiler\n')
  process.exit(3)
}

const checks = threads
  ? ['-fsanitize=thread']
  : ['-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-fno-sanitize=vptr']
const flags = [
  ...['-std=c++20', '-O1', '-g', '-fno-exceptions', '-fno-omit-frame-pointer', '-fno-math-errno', '-pthread'],
  `-I${join(root, 'native', 'infer')}`,
  ...checks
]
/** Sources of a target of binding.gyp, which is no JSON. */
const sources = target =>
  [
    ...(readFileSync(join(root, 'binding.gyp'), 'utf8')
      .split("'target_name': ")
      .find(part => part.startsWith(`'${target}'`))
      ?.matchAll(/'(native\/[a-z0-9_/]+\.cpp)'/g) ?? [])
  ].map(m => m[1])
const jobs = [
  ...sources('train_kernels').map(source => ({ source, contract: 'fast' })),
  ...sources('zg_train').map(source => ({ source, contract: 'off' }))
].map(job => ({ ...job, object: join(out, `${job.source.replaceAll('/', '_')}.o`) }))
mkdirSync(out, { recursive: true })

const waiting = [...jobs]
let failed = false
async function worker() {
  for (let job = waiting.shift(); job !== undefined && !failed; job = waiting.shift()) {
    const args = [...flags, `-ffp-contract=${job.contract}`, '-Wno-uninitialized', '-Wno-maybe-uninitialized']
    const child = spawn(compiler, [...args, '-c', job.source, '-o', job.object], { cwd: root, stdio: 'inherit' })
    failed ||= (await new Promise(done => child.on('close', done))) !== 0
  }
}
await Promise.all(Array.from({ length: availableParallelism() }, worker))
const program = join(out, 'zg-train')
const link = [...checks, '-pthread', ...jobs.map(job => job.object), '-o', program]
if (failed || spawnSync(compiler, link, { stdio: 'inherit' }).status !== 0) process.exit(1)

const test = spawnSync(process.execPath, ['--import', 'tsx', join(root, 'test', 'native', 'train.test.ts')], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, ZG_TRAIN_PROGRAM: program, TAP_TIMEOUT: '3000' }
})
process.exit(test.status ?? 1)
