// The first thing that runs on a fresh clone, so plain JavaScript with node: imports alone. It brings the tree up to date
// (install, contracts and native part, TypeScript), each step only when its inputs changed, and then does what was asked:
//
//   node scripts/bootstrap.mjs build | native | contracts | demo [-- demo options] | test [-- tap options]
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
// biome-ignore lint/correctness/useImportExtensions: the name of the file; its declarations are for the tests
import { tellFailures } from './failures.mjs'

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)))
const STATE = join(ROOT, '.build')
const NODE_FLOOR = [20, 19]

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < NODE_FLOOR[0] || (major === NODE_FLOOR[0] && minor < NODE_FLOOR[1])) {
  fail(
    `zg needs Node ${NODE_FLOOR.join('.')} or newer, this is ${process.versions.node}: install the current LTS from your package manager or nodejs.org`,
    78
  )
}

const [command = 'build', ...rest] = process.argv.slice(2)
const args = rest[0] === '--' ? rest.slice(1) : rest
process.chdir(ROOT)
mkdirSync(STATE, { recursive: true })
await withLock(async () => {
  const started = performance.now()
  const done = []
  await install(done)
  if (command === 'contracts') await contracts(done, true)
  else if (command === 'native') await native(done, { programs: true, force: true })
  else {
    await Promise.all([contracts(done), native(done, { programs: command === 'test' })])
    await typescript(done)
  }
  process.env.ZG_BUILD_SECONDS = ((performance.now() - started) / 1000).toFixed(1)
  process.env.ZG_BUILD_STATE = done.length === 0 ? 'cached' : done.join(', ')
})
if (command === 'demo') await hand(process.execPath, ['bin/zg-devnet', 'demo', ...args])
if (command === 'test') {
  await interop()
  // On a terminal tap draws its own report, which ends with what failed.
  const through = process.stdout.isTTY ? undefined : tellFailures()
  await hand(process.execPath, [join('node_modules', 'tap', 'dist', 'esm', 'run.mjs'), ...args], through)
}

// ---- steps -------------------------------------------------------------------------------------------------------------

async function install(done) {
  const stamp = hashOf(['package-lock.json'], [process.versions.modules])
  if (existsSync('node_modules/.package-lock.json') && fresh('install', stamp)) return
  say('install    packages from the lockfile')
  // No package needs its install script: what is native comes prebuilt, and the carriers of C sources would compile for minutes.
  await npm(['ci', '--no-audit', '--no-fund', '--loglevel=error', '--ignore-scripts'], ROOT)
  keep('install', stamp)
  done.push('packages')
}

async function contracts(done, force = false) {
  const stamp = hashOf([...files('lib/contracts', /\.sol$/), 'scripts/build-contracts.mjs', 'package-lock.json'])
  if (!force && existsSync('lib/contracts/generated') && fresh('contracts', stamp)) return
  say('build      contracts')
  await run(process.execPath, ['scripts/build-contracts.mjs'], { what: 'contracts' })
  keep('contracts', stamp)
  done.push('contracts')
}

/** @param programs - also what only tests and benchmarks run. */
async function native(done, { programs, force = false }) {
  const addons = ['codec', 'evm', 'infer'].map(name => `dist/native/${process.platform}-${process.arch}/${name}.node`)
  const present = addons.every(path => existsSync(path))
  const stamp = hashOf(
    [...files('native', /./), 'binding.gyp', 'scripts/build-native.mjs', 'package-lock.json'],
    [process.arch, process.platform]
  )
  if (!force && present && fresh(programs ? 'native-programs' : 'native', stamp)) return
  if (!force && !present && fresh('native-absent', stamp)) return
  say('build      native part')
  // 3: no compiler or no Node headers. The script said so in one line; the TypeScript reference does the work.
  const command = ['scripts/build-native.mjs', ...(programs ? ['--programs'] : [])]
  const code = await run(process.execPath, command, { what: 'native part', accept: [3] })
  keep(code === 3 ? 'native-absent' : 'native', stamp)
  if (code === 0 && programs) keep('native-programs', stamp)
  if (code === 0) done.push('native')
}

async function typescript(done) {
  const sources = [...files('cmd', /\.tsx?$/), ...files('lib', /\.tsx?$/)]
  const stamp = hashOf([...sources, 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json'])
  if (existsSync('dist/.tsbuildinfo') && fresh('typescript', stamp)) return
  // tsc deletes nothing: what was made from a file that is gone would still be found.
  const known = read('sources.json', [])
  if (known.some(f => !sources.includes(f)))
    for (const part of ['cmd', 'lib', '.tsbuildinfo']) rmSync(join('dist', part), { recursive: true, force: true })
  say('build      TypeScript')
  await run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'], { what: 'TypeScript' })
  keep('typescript', stamp)
  writeFileSync(join(STATE, 'sources.json'), JSON.stringify(sources))
  done.push('TypeScript')
}

/** Real clients that only the tests use: a tree and a lockfile of their own. */
async function interop() {
  const dir = join(ROOT, 'test', 'interop')
  if (!existsSync(join(dir, 'package.json'))) return
  const stamp = hashOf(['test/interop/package-lock.json'], [process.versions.modules])
  if (existsSync(join(dir, 'node_modules')) && fresh('interop', stamp)) return
  say('install    clients for the tests')
  await npm(['ci', '--no-audit', '--no-fund', '--loglevel=error', '--ignore-scripts'], dir)
  // Our own step: what only a newer Node installs.
  await npm(['run', '--silent', 'postinstall'], dir)
  keep('interop', stamp)
}

// ---- stamps ------------------------------------------------------------------------------------------------------------

function files(dir, pattern) {
  if (!existsSync(dir)) return []
  const out = []
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name)
    if (entry.name === 'node_modules') continue
    if (entry.isDirectory()) out.push(...files(path, pattern))
    else if (pattern.test(entry.name)) out.push(relative(ROOT, join(ROOT, path)))
  }
  return out.sort()
}

function hashOf(paths, extra = []) {
  const hash = createHash('sha256')
  for (const path of paths)
    hash
      .update(`${path}\0`)
      .update(existsSync(path) ? readFileSync(path) : '')
      .update('\0')
  return hash.update(extra.join('\0')).digest('hex')
}

function read(name, fallback) {
  try {
    return JSON.parse(readFileSync(join(STATE, name), 'utf8'))
  } catch {
    return fallback
  }
}

function fresh(step, stamp) {
  return read('stamps.json', {})[step] === stamp
}

function keep(step, stamp) {
  writeFileSync(join(STATE, 'stamps.json'), JSON.stringify({ ...read('stamps.json', {}), [step]: stamp }))
}

// ---- processes ---------------------------------------------------------------------------------------------------------

function npm(args, cwd) {
  const cli = process.env.npm_execpath
  return cli?.endsWith('.js')
    ? run(process.execPath, [cli, ...args], { what: 'npm', cwd })
    : run('npm', args, { what: 'npm', cwd })
}

/** Runs a step quietly; its output is shown when it fails, or line by line when it says something on stderr at the end. */
function run(file, args, { what, cwd = ROOT, accept = [] }) {
  return new Promise(resolve => {
    const child = spawn(file, args, {
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NODE_OPTIONS: '' }
    })
    const out = []
    child.stdout.on('data', part => out.push(part))
    child.stderr.on('data', part => out.push(part))
    child.on('error', err => fail(`cannot run ${what}: ${err.message}`, 69))
    child.on('close', code => {
      const text = Buffer.concat(out).toString().trim()
      if (code !== 0 && !accept.includes(code)) {
        process.stderr.write(`${text}\n`)
        fail(`building ${what} failed (exit ${code})`, 70)
      }
      if (text !== '' && (what !== 'npm' || code !== 0)) process.stderr.write(`${text}\n`)
      resolve(code)
    })
  })
}

/** Becomes the asked command: its output, its signals, its exit status. */
function hand(file, args, through) {
  return new Promise(resolve => {
    const child = spawn(file, args, { stdio: ['inherit', through === undefined ? 'inherit' : 'pipe', 'inherit'] })
    if (through !== undefined) child.stdout.pipe(through).pipe(process.stdout)
    for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
    child.on('error', err => fail(err.message, 69))
    child.on('close', (code, signal) => {
      process.exitCode = code ?? (signal === 'SIGINT' ? 130 : 143)
      resolve()
    })
  })
}

/** One bootstrap at a time; a lock whose process is gone is taken over. */
async function withLock(work) {
  const path = join(STATE, 'lock')
  for (let waited = 0; ; waited++) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' })
      break
    } catch (err) {
      if (err.code !== 'EEXIST') throw err
      if (!holderAlive(path)) {
        rmSync(path, { force: true })
        continue
      }
      if (waited === 0) say('waiting for another build in this directory')
      if (waited > 6000) fail('another build has held the lock for ten minutes: remove .build/lock if it is gone', 75)
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
  const release = () => rmSync(path, { force: true })
  process.on('exit', release)
  await work()
  release()
  process.off('exit', release)
}

function holderAlive(path) {
  try {
    const pid = Number(readFileSync(path, 'utf8'))
    // Between creation and writing the file is empty for an instant.
    if (pid === 0) return Date.now() - statSync(path).mtimeMs < 5000
    process.kill(pid, 0)
    return true
  } catch (err) {
    return err.code === 'EPERM'
  }
}

function say(text) {
  process.stderr.write(`${text}\n`)
}

function fail(message, code) {
  process.stderr.write(`zg: ${message}\n`)
  process.exit(code)
}
