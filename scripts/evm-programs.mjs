// Builds a program of native/evm/test with everything it stands on from sources, under sanitizers: build/sanitize/<kind>/<name>.
//
//   node scripts/evm-programs.mjs exec_sanitize            address and undefined behaviour; what is found ends the program
//   node scripts/evm-programs.mjs --threads exec_threads   data races; with --run it is also run, on a new directory (npm run test:sanitize:threads)
//
// Objects are kept beside it and made again when a file that went into them is newer. Plain JavaScript on node: modules alone.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const KINDS = { memory: 'address,undefined', threads: 'thread' }

/** Path of the program; throws with the compiler's words. */
export async function buildProgram(name, kind = 'memory') {
  const require = createRequire(join(root, 'package.json'))
  const packageDir = p => dirname(require.resolve(`${p}/package.json`))
  const secp = join(packageDir('bcrypto'), 'deps', 'secp256k1')
  const blst = join(packageDir('c-kzg'), 'deps', 'blst')
  const leveldb = join(packageDir('classic-level'), 'deps', 'leveldb', 'leveldb-1.20')
  const out = join(root, 'build', 'sanitize', kind)
  mkdirSync(out, { recursive: true })
  const sources = spawnSync(process.execPath, ['native/evm/sources.cjs'], { cwd: root, encoding: 'utf8' })
    .stdout.trim()
    .split(' ')

  const sanitize = [`-fsanitize=${KINDS[kind]}`, '-fno-sanitize-recover=all', '-fno-omit-frame-pointer', '-g', '-O1']
  const own = ['-std=c++20', '-fno-exceptions', '-fno-rtti', '-Wall', '-Wextra', '-pthread', ...sanitize]
  const includes = [
    '-Inative/evm',
    '-Inative/codec',
    `-I${leveldb}`,
    `-I${leveldb}/include`,
    `-I${secp}/include`,
    `-I${blst}/bindings`
  ]
  const units = []
  const add = (command, flags, files) => {
    for (const file of files)
      units.push({ command, flags, file, object: join(out, `${file.replace(/[^A-Za-z0-9]+/g, '_')}.o`) })
  }
  add(
    process.env.CXX ?? 'g++',
    [...own, ...includes],
    [...sources, `native/evm/test/${name}.cpp`, 'native/evm/test/fault_env.cpp']
  )
  // Its assembler is unknown to the sanitizers, so the portable form stands in for it.
  const secpDefines = [
    'USE_NUM_NONE',
    'USE_FIELD_INV_BUILTIN',
    'USE_SCALAR_INV_BUILTIN',
    'USE_ENDOMORPHISM',
    'ENABLE_MODULE_RECOVERY'
  ]
  add(
    process.env.CC ?? 'gcc',
    [
      '-w',
      ...sanitize,
      ...secpDefines.map(d => `-D${d}=1`),
      '-DECMULT_WINDOW_SIZE=15',
      '-DECMULT_GEN_PREC_BITS=4',
      `-I${secp}`,
      `-I${secp}/include`,
      `-I${secp}/src`,
      '-Inative/evm/crypto'
    ],
    ['native/evm/crypto/secp256k1_core.c']
  )
  // Pairings and KZG are almost all assembler.
  add(
    process.env.CC ?? 'gcc',
    ['-w', '-O2', '-D__BLST_PORTABLE__'],
    [join(blst, 'src', 'server.c'), join(blst, 'build', 'assembly.S')]
  )
  // LevelDB is others' code, and the build's own archives do: headers of ours do not reach it.
  const archives = ['leveldb.a', 'leveldb_crc.a'].map(a => join(root, 'build', 'Release', a))
  if (!archives.every(existsSync))
    throw new Error("the static libraries of the build are not there\nhint: run 'npm run build'")

  const stale = units.filter(u => isStale(u.object))
  let next = 0
  const failures = []
  const worker = async () => {
    for (let u = stale[next++]; u !== undefined && failures.length === 0; u = stale[next++]) {
      const r = await run(u.command, [...u.flags, '-MMD', '-c', u.file, '-o', u.object])
      if (r.status !== 0) failures.push(r.text)
    }
  }
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), 16) }, worker))
  if (failures.length > 0) throw new Error(failures.join('\n'))
  const program = join(out, name)
  const linked = await run(process.env.CXX ?? 'g++', [
    `-fsanitize=${KINDS[kind]}`,
    '-o',
    program,
    ...units.map(u => u.object),
    ...archives,
    '-lpthread'
  ])
  if (linked.status !== 0) throw new Error(linked.text)
  return program
}

/** Whether an object is missing or older than a file that went into it, as the compiler listed them. */
function isStale(object) {
  const list = object.replace(/\.o$/, '.d')
  if (!existsSync(object) || !existsSync(list)) return true
  const made = statSync(object).mtimeMs
  const files = readFileSync(list, 'utf8').replace(/\\\n/g, ' ').split(':').slice(1).join(':').trim().split(/\s+/)
  return files.some(f => {
    const path = resolve(root, f)
    return !existsSync(path) || statSync(path).mtimeMs > made
  })
}

function run(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root })
    let text = ''
    child.stdout.on('data', d => {
      text += d
    })
    child.stderr.on('data', d => {
      text += d
    })
    child.on('error', reject)
    child.on('close', status => resolve({ status, text }))
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2)
  try {
    for (const name of args.filter(a => !a.startsWith('--'))) {
      const program = await buildProgram(name, args.includes('--threads') ? 'threads' : 'memory')
      process.stdout.write(`${program}\n`)
      if (!args.includes('--run')) continue
      const temp = mkdtempSync(join(tmpdir(), 'zg-program-'))
      try {
        const r = spawnSync(program, [join(temp, 'chain')], { stdio: 'inherit' })
        if (r.status !== 0) throw new Error(`${name} ended with ${r.status ?? r.signal}`)
      } finally {
        rmSync(temp, { recursive: true, force: true })
      }
    }
  } catch (err) {
    process.stderr.write(`${err.message}\n`)
    process.exitCode = 1
  }
}
