// Runs the CPU engine's checks on 64-bit ARM under an emulator: the products of every tensor type, drawn tokens, and whole models, each bit against the
// plain reference, on the levels `generic` and `neon`. For machines that are no ARM; on one `npm test` does the same.
//
//   node scripts/test-neon.mjs [--models A,B|all] [--tokens 1] [--seed 1] [--jobs 2]
//
// Wants aarch64-linux-gnu-g++ and qemu-aarch64 (or qemu-aarch64-static). --models names fixtures (default: all, which takes an hour); random
// models of the types that no fixture has are always there. Exit status: 0 all bits equal, 1 some differ, 2 something is missing.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: 'all' },
    tokens: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    jobs: { type: 'string', default: '2' }
  }
})
const root = dirname(dirname(fileURLToPath(import.meta.url)))
const COMPILER = 'aarch64-linux-gnu-g++'
const has = command => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0
const emulator = ['qemu-aarch64-static', 'qemu-aarch64'].find(has)
if (!has(COMPILER) || emulator === undefined) {
  process.stderr.write(`test-neon: needs ${COMPILER} and qemu-aarch64\n`)
  process.exit(2)
}
const fixtures = ['..', '../..'].map(up => join(root, up, 'shared', 'fixtures', 'models')).find(existsSync)
const dir = mkdtempSync(join(tmpdir(), 'zg-neon-'))
let failed = false
try {
  const program = await build()
  failed = !run(program, ['products', values.seed])
  failed = !run(program, ['choices', '200', values.seed]) || failed
  if (fixtures === undefined) {
    console.log('no model fixtures beside the repository: products alone')
  } else {
    const models = join(dir, 'models')
    spawnSync('mkdir', [models])
    for (const name of chosen(fixtures)) symlinkSync(resolve(fixtures, name), join(models, name))
    failed = !run(program, ['test', models, values.tokens, values.seed]) || failed
  }
} finally {
  rmSync(dir, { recursive: true })
}
process.exit(failed ? 1 : 0)

/** Sources of targets of binding.gyp, which is no JSON. */
function sources(...targets) {
  const parts = readFileSync(join(root, 'binding.gyp'), 'utf8').split("'target_name': ")
  return targets.flatMap(name => {
    const part = parts.find(p => p.startsWith(`'${name}'`)) ?? ''
    return [...part.matchAll(/'(native\/[a-z0-9_/]+\.cpp)'/g)].map(m => m[1])
  })
}

async function build() {
  const flags = [
    '-std=c++20',
    '-O2',
    '-fno-exceptions',
    '-fno-rtti',
    '-ffp-contract=off',
    '-fno-math-errno',
    '-Wall',
    '-Wextra',
    '-pthread'
  ]
  const list = [...new Set(sources('infer_cpu_check', 'infer_det', 'infer_free', 'infer_neon'))]
  const objects = list.map((_, i) => join(dir, `${i}.o`))
  let next = 0
  const worker = async () => {
    while (next < list.length) {
      const i = next++
      const own = basename(list[i]) === 'neon.cpp' ? ['-march=armv8.2-a+dotprod'] : []
      const args = [...flags, ...own, `-I${join(root, 'native/infer')}`, '-c', join(root, list[i]), '-o', objects[i]]
      const status = await new Promise(done => spawn(COMPILER, args, { stdio: 'inherit' }).on('close', done))
      if (status !== 0) throw new Error(`${list[i]} does not compile`)
    }
  }
  await Promise.all(Array.from({ length: Math.max(1, Number(values.jobs)) }, worker))
  const program = join(dir, 'check')
  const linked = spawnSync(COMPILER, ['-static', '-pthread', ...objects, '-o', program], { stdio: 'inherit' })
  if (linked.status !== 0) throw new Error('does not link')
  return program
}

function run(program, args) {
  return spawnSync(emulator, ['-cpu', 'max', program, ...args], { stdio: 'inherit' }).status === 0
}

function chosen(from) {
  const all = readdirSync(from).filter(name => name.endsWith('.gguf'))
  if (values.models === 'all') return all
  if (values.models !== undefined)
    return all.filter(name => values.models.split(',').includes(name.replace(/\.gguf$/, '')))
  return all
}
