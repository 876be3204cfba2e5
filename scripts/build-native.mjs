// Builds native/ into dist/native/<platform>-<arch>/ and loads the result once. Plain JavaScript on node: modules alone, since
// it also runs before anything else is built.
//
//   node scripts/build-native.mjs              build; quiet when all is well
//   node scripts/build-native.mjs --programs   and what only tests and benchmarks run
//   node scripts/build-native.mjs --verbose    with the compiler's output
//   node scripts/build-native.mjs --sanitize   compile and run native/codec/codec_test.cpp with address and undefined
//                                              behaviour sanitizers, beside the build
//
// Exit status: 0 built, 1 the build failed, 3 there is no compiler or there are no headers (the tools then
// use the TypeScript reference).
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
/** Whoever only wants to use zg does not wait for what checks it. */
const programs = process.argv.includes('--programs')
const verbose = process.argv.includes('--verbose')
// The addon for CUDA devices where there is a compiler for it.
const CUDA = createRequire(import.meta.url)('../native/find-nvcc.cjs')
const ADDONS = ['codec', 'evm', 'infer', ...(CUDA.nvcc === '' ? [] : ['infer_cuda'])]
/** Programs that tools start. */
const PROGRAMS = { zg_train: 'zg-train' }
const BUILT_FOR = `Node ${process.versions.node.split('.')[0]} ${process.platform}-${process.arch}`

const compiler = findCompiler()
if (process.argv.includes('--sanitize')) sanitize()
else build()

function build() {
  const nodedir = findHeaders()
  // Configured files name the headers and the compiler they were made for.
  // Lists of sources are read when it is configured, too.
  const sources = [
    spawnSync(process.execPath, ['native/evm/sources.cjs'], { cwd: root, encoding: 'utf8' }).stdout,
    ...readdirSync(join(root, 'native', 'napi'))
  ]
  const configuration = JSON.stringify({
    node: process.version,
    arch: process.arch,
    nodedir,
    compiler,
    sources,
    cuda: CUDA
  })
  const stamp = join(root, 'build', 'zg-configuration.json')
  const fresh =
    existsSync(join(root, 'build', 'Makefile')) && existsSync(stamp) && readFileSync(stamp, 'utf8') === configuration
  if (!fresh || newer(join(root, 'binding.gyp'), stamp)) {
    gyp(['configure'], nodedir)
    writeFileSync(stamp, configuration)
  }
  gyp(['build', ...(programs ? [] : [...ADDONS, ...Object.keys(PROGRAMS)]), '--jobs=max'], nodedir)
  const out = join(root, 'dist', 'native', `${process.platform}-${process.arch}`)
  mkdirSync(out, { recursive: true })
  for (const name of Object.values(PROGRAMS)) {
    const target = join(out, name)
    copyFileSync(join(root, 'build', 'Release', name), `${target}.${process.pid}.tmp`)
    renameSync(`${target}.${process.pid}.tmp`, target)
  }
  for (const name of ADDONS) {
    const target = join(out, `${name}.node`)
    // Renamed into place: overwriting a file that a running process has mapped would crash that process.
    const temp = `${target}.${process.pid}.tmp`
    copyFileSync(join(root, 'build', 'Release', `${name}.node`), temp)
    renameSync(temp, target)
    writeFileSync(join(out, `${name}.json`), `${JSON.stringify({ built: BUILT_FOR })}\n`)
    // A missing symbol shows only now. ZG_CPU may name a path of another machine.
    const env = { ...process.env }
    delete env.ZG_CPU
    const r = spawnSync(process.execPath, ['-e', 'require(process.argv[1])', target], { encoding: 'utf8', env })
    if (r.status !== 0) {
      rmSync(target)
      fail(`native: ${name}.node does not load\n${r.stderr}`)
    }
  }
}

/** The compiler's command, or exit 3 with one line that says what to install. CXX is honoured; otherwise g++, clang++ and c++ are tried. */
function findCompiler() {
  const candidates = process.env.CXX ? [process.env.CXX] : ['g++', 'clang++', 'c++']
  const found = candidates.find(c => works(c.split(' ')[0]))
  const missing = []
  if (found === undefined) missing.push(process.env.CXX ? `'${process.env.CXX}'` : 'a C++ compiler')
  if (!works(process.env.MAKE ?? 'make')) missing.push('make')
  if (!works(process.env.PYTHON ?? 'python3')) missing.push('python3')
  if (missing.length === 0) return found
  const how =
    process.platform === 'darwin'
      ? "run 'xcode-select --install'"
      : 'install the packages g++, make and python3 (Debian, Ubuntu) or gcc-c++, make and python3 (Fedora)'
  process.stderr.write(`native: ${missing.join(', ')} not found; ${how}\n`)
  process.exit(3)
}

function works(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0
}

/**
 * The prefix that holds Node's headers for exactly this version, or undefined: then node-gyp fetches them.
 * npm_config_nodedir is taken as it is; official archives carry the headers beside the program, distributions in /usr.
 */
function findHeaders() {
  if (process.env.npm_config_nodedir) return process.env.npm_config_nodedir
  const own = dirname(dirname(process.execPath))
  const prefix = [own, '/usr', '/usr/local'].find(p => headersMatch(join(p, 'include', 'node')))
  if (prefix === undefined) {
    process.stderr.write(`native: no headers of Node ${process.version} beside ${process.execPath}, fetching them\n`)
  }
  return prefix
}

function headersMatch(dir) {
  if (!existsSync(join(dir, 'node_api.h')) || !existsSync(join(dir, 'node_version.h'))) return false
  const text = readFileSync(join(dir, 'node_version.h'), 'utf8')
  const part = name => new RegExp(`#define NODE_${name}_VERSION (\\d+)`).exec(text)?.[1]
  return `${part('MAJOR')}.${part('MINOR')}.${part('PATCH')}` === process.versions.node
}

function gyp(args, nodedir) {
  let script
  try {
    script = createRequire(join(root, 'package.json')).resolve('node-gyp/bin/node-gyp.js')
  } catch {
    fail("native: node-gyp is not installed\nhint: run 'npm ci'")
  }
  const all = [script, ...args, '--loglevel=warn', ...(nodedir === undefined ? [] : [`--nodedir=${nodedir}`])]
  const env = { ...process.env, CXX: compiler }
  const r = spawnSync(process.execPath, all, {
    cwd: root,
    env,
    encoding: 'utf8',
    stdio: verbose ? 'inherit' : 'pipe',
    maxBuffer: 64 * 1024 * 1024
  })
  if (r.status === 0) return
  if (
    nodedir === undefined &&
    args[0] === 'configure' &&
    /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT/.test(r.stderr ?? '')
  ) {
    process.stderr.write(
      'native: headers of Node cannot be fetched; set npm_config_nodedir to the prefix of an installed Node\n'
    )
    process.exit(3)
  }
  fail(`native: node-gyp ${args[0]} failed${verbose ? '' : `\n${r.stdout}${r.stderr}`}`)
}

/** Kernels as a plain program under the sanitizers: Node is not needed for them and would have to be preloaded. */
function sanitize() {
  const dir = join(root, 'native', 'codec')
  const sources = readdirSync(dir)
    .filter(f => f.endsWith('.cpp'))
    .map(f => join(dir, f))
  const out = join(root, 'build', 'sanitize')
  mkdirSync(out, { recursive: true })
  const program = join(out, 'codec_test')
  const flags = ['-std=c++20', '-O1', '-g', '-fno-omit-frame-pointer', '-fsanitize=address,undefined']
  const [command, ...rest] = compiler.split(' ')
  const c = spawnSync(
    command,
    [...rest, ...flags, '-fno-sanitize-recover=all', `-I${dir}`, ...sources, '-o', program],
    {
      stdio: 'inherit'
    }
  )
  if (c.status !== 0) fail('native: the sanitizer build failed')
  const r = spawnSync(program, [], { stdio: 'inherit' })
  if (r.status !== 0) fail(`native: the sanitizer run failed with ${r.status ?? r.signal}`)
}

function newer(a, b) {
  return statTime(a) > statTime(b)
}

function statTime(path) {
  return existsSync(path) ? statSync(path).mtimeMs : 0
}

function fail(message) {
  process.stderr.write(`${message.trimEnd()}\n`)
  process.exit(1)
}
