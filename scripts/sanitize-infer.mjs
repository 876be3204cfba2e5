// Builds the inference addon with address and undefined-behaviour sanitizers into build/sanitize/infer.node, for fuzzing from Node with the
// sanitizer's library loaded first. Objects are kept, and made again when a source or header is newer. Plain JavaScript on node: modules.
//
//   node scripts/sanitize-infer.mjs        prints two lines: the addon, and what LD_PRELOAD must name
//
// Exit status: 0 built, 1 a failed build, 3 no compiler or no headers of Node.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const out = join(root, 'build', 'sanitize', 'addon')
const compiler = process.env.CXX ?? 'g++'
// The same headers that the ordinary build found.
const stamp = join(root, 'build', 'zg-configuration.json')
const nodedir = existsSync(stamp) ? JSON.parse(readFileSync(stamp, 'utf8')).nodedir : undefined
const headers = [nodedir, dirname(dirname(process.execPath))]
  .filter(dir => typeof dir === 'string')
  .map(dir => join(dir, 'include', 'node'))
  .find(dir => existsSync(join(dir, 'node_api.h')))
if (headers === undefined || spawnSync(compiler, ['--version'], { stdio: 'ignore' }).status !== 0) {
  process.stderr.write('sanitize-infer: no compiler, or no headers of Node beside it\n')
  process.exit(3)
}
const api = createRequire(import.meta.url)('node-addon-api').include_dir

const folders = ['native/infer', 'native/infer/cpu', 'native/infer/det']
const files = (folder, end) =>
  readdirSync(join(root, folder))
    .filter(f => f.endsWith(end))
    .map(f => join(folder, f))
const sources = [
  ...folders.flatMap(f => files(f, '.cpp')).filter(f => !/(bench|check|fuzz|forward_det|[/]pool)[.]cpp$/.test(f)),
  'native/codec/keccak_one.cpp',
  'native/codec/keccak_scalar.cpp',
  'native/napi/gguf_napi.cpp',
  'native/napi/infer_napi.cpp',
  'native/napi/model_files_napi.cpp',
  'native/napi/tokenizer_napi.cpp'
]
const flags = [
  ...['-std=c++20', '-O1', '-g', '-fPIC', '-pthread', '-ffp-contract=off', '-fno-omit-frame-pointer'],
  ...['-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-fno-sanitize=vptr'],
  ...['-DNODE_GYP_MODULE_NAME=infer', '-DBUILDING_NODE_EXTENSION', '-DNAPI_VERSION=9', '-DNAPI_DISABLE_CPP_EXCEPTIONS'],
  ...['-fno-exceptions'],
  ...[
    `-I${headers}`,
    `-I${join(root, api)}`,
    `-I${api}`,
    `-I${join(root, 'native', 'infer')}`,
    `-I${join(root, 'native')}`
  ]
]
mkdirSync(out, { recursive: true })
const changed = f => statSync(join(root, f)).mtimeMs
const newest = Math.max(
  ...[...folders, 'native/codec', 'native/napi'].flatMap(f => [...files(f, '.h'), ...files(f, '.inc')]).map(changed)
)
const objects = sources.map(source => {
  const object = join(out, `${source.replaceAll('/', '_')}.o`)
  const stale = !existsSync(object) || statSync(object).mtimeMs < Math.max(newest, changed(source))
  if (stale && run([...flags, '-c', source, '-o', object]) !== 0) process.exit(1)
  return object
})
const addon = join(root, 'build', 'sanitize', 'infer.node')
if (run(['-shared', '-fsanitize=address,undefined', '-pthread', ...objects, '-o', addon]) !== 0) process.exit(1)
const library = spawnSync(compiler, ['-print-file-name=libasan.so'], { encoding: 'utf8' }).stdout.trim()
process.stdout.write(`${addon}\n${library}\n`)

function run(args) {
  return spawnSync(compiler, args, { stdio: ['ignore', 'inherit', 'inherit'], cwd: root }).status
}
