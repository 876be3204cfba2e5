// Fuzzes what reads model files (native/infer/gguf_fuzz.cpp) under address and undefined-behaviour sanitizers. Plain JavaScript on
// node: modules alone.
//
//   node scripts/fuzz-gguf.mjs [--minutes N | --inputs N] [--seed S] [--fixtures]
//
// clang++ with libFuzzer is used where it is there, else the driver in the source with g++ or what CXX names. --fixtures adds the
// small model files beside the repository to the seeds made in memory. Exit status: 0 nothing found, 1 a finding or a failed build,
// 3 no compiler.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    inputs: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    fixtures: { type: 'boolean', default: false }
  }
})
const seconds = Math.max(1, Math.round(Number(values.minutes) * 60))
const out = join(root, 'build', 'sanitize')
mkdirSync(out, { recursive: true })

const dir = join(root, 'native', 'infer')
// What runs requests reads no files, and needs more than this folder.
const LEFT_OUT = /(bench|check|scheduler|trace|draft|prefix|sampler|constraint|grammar|token_trie)[.]cpp$/
const inFolders = end =>
  ['.', 'cpu', 'det'].flatMap(under =>
    readdirSync(join(dir, under))
      .filter(f => f.endsWith(end))
      .map(f => join(dir, under, f))
  )
const sources = inFolders('.cpp').filter(f => !LEFT_OUT.test(f))
const flags = ['-std=c++20', '-O1', '-g', '-fno-omit-frame-pointer', '-ffp-contract=off', '-pthread', `-I${dir}`]
const checks = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all']
const program = join(out, 'gguf_fuzz')

// A number of inputs is the own driver's: libFuzzer counts differently.
const wide = process.env.CXX === undefined && values.inputs === undefined && libFuzzer()
const compiler = wide
  ? 'clang++'
  : ['g++', 'c++'].concat(process.env.CXX ?? []).findLast(c => run(c, ['--version'], 'ignore') === 0)
if (compiler === undefined) {
  process.stderr.write('fuzz: no C++ compiler found\n')
  process.exit(3)
}
const options = [...flags, ...checks, ...(wide ? ['-fsanitize=fuzzer', '-DZG_LIBFUZZER'] : [])]
const objects = join(out, 'gguf', wide ? 'wide' : 'own')
mkdirSync(objects, { recursive: true })
const newestHeader = Math.max(...[...inFolders('.h'), ...inFolders('.inc')].map(f => statSync(f).mtimeMs))
const linked = sources.map(source => {
  const object = join(objects, `${source.slice(dir.length + 1).replaceAll('/', '_')}.o`)
  const stale = !existsSync(object) || statSync(object).mtimeMs < Math.max(newestHeader, statSync(source).mtimeMs)
  if (stale && run(compiler, [...options, '-c', source, '-o', object]) !== 0) process.exit(1)
  return object
})
if (run(compiler, [...options, ...linked, '-o', program]) !== 0) process.exit(1)

const length = values.inputs === undefined ? `${seconds} s` : `${values.inputs} inputs`
process.stdout.write(`fuzz: ${length} with ${wide ? 'libFuzzer' : 'the driver of its own'}, seed ${values.seed}\n`)
const files = values.fixtures ? fixtures() : []
const corpus = join(out, 'gguf_corpus')
mkdirSync(corpus, { recursive: true })
const args = wide
  ? [`-max_total_time=${seconds}`, `-seed=${values.seed}`, '-max_len=65536', '-rss_limit_mb=1024', corpus]
  : [values.inputs === undefined ? String(seconds) : `${values.inputs}x`, values.seed, ...files]
const status = run(program, args, 'inherit', out)
if (status !== 0) process.stderr.write(`fuzz: found something (seed ${values.seed}); the input is in '${out}'\n`)
process.exit(status === 0 ? 0 : 1)

function run(command, args, stdio = 'inherit', cwd = root) {
  return spawnSync(command, args, { stdio, cwd }).status
}

/** Whether clang++ is there with its fuzzing library, which distributions package on its own. */
function libFuzzer() {
  const source = join(out, 'probe.cpp')
  writeFileSync(source, 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n')
  return run('clang++', ['-fsanitize=fuzzer', source, '-o', join(out, 'probe')], 'ignore') === 0
}

/** Model files of at most 600 kB: larger ones only slow the search down. */
function fixtures() {
  const found = ['..', '../..'].map(up => join(root, up, 'shared', 'fixtures', 'models')).find(existsSync)
  if (found === undefined) return []
  return readdirSync(found)
    .filter(f => f.endsWith('.gguf'))
    .map(f => join(found, f))
    .filter(f => statSync(f).size <= 600_000)
}
