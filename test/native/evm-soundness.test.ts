/**
 * Proves, with programs built against the engine's libraries: the fast paths of the precompiles' arithmetic give what plain ones give
 * (native/evm/test/crypto_test.cpp), and mutated bytes do no harm to any decoder, which writes again what it accepted (exec_fuzz.cpp; longer and under
 * sanitizers as `npm run fuzz:evm-decoders`). Seeds are printed.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { decoderCorpus } from '../harness/evm-corpus.ts'
import { fixturesDir } from '../harness/evm-fixtures.ts'
import { SEED } from '../harness/seed.ts'

t.setTimeout(280_000)
const root = packageRoot()
const noBuild =
  spawnSync('g++', ['--version']).status !== 0
    ? 'no g++ here'
    : !existsSync(join(root, 'build', 'Release', 'evm_core.a')) && 'no static libraries of the build here'

function run(command: string, ...args: string[]): { status: number | null; text: string } {
  const r = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
  return { status: r.status, text: r.stdout + r.stderr }
}

t.test('fast arithmetic of the precompiles agrees with plain arithmetic', { skip: noBuild }, async t => {
  const built = run('sh', 'native/evm/test/chain_build.sh', 'crypto_test')
  t.equal(built.status, 0, built.text)
  const r = run(join(root, 'build', 'chain', 'crypto_test'), String(SEED), '400')
  t.equal(r.status, 0, r.text)
  t.match(r.text, /^400 rounds, 0 differences$/m)
  t.comment(r.text.trim())
})

const dir = fixturesDir()
const skip = noBuild || (dir === undefined && 'the fixtures are not there')
t.test('mutated bytes are refused without harm, or written again as they were', { skip }, async t => {
  const built = run('sh', 'native/evm/test/chain_build.sh', 'exec_fuzz')
  t.equal(built.status, 0, built.text)
  const corpus = join(t.testdir(), 'corpus')
  writeFileSync(corpus, decoderCorpus(dir!))
  const r = run(join(root, 'build', 'chain', 'exec_fuzz'), corpus, '20', String(SEED), '8000')
  t.equal(r.status, 0, r.text.slice(0, 4_000))
  for (const kind of ['tx', 'block', 'header', 'genesis', 'record', 'branch', 'account', 'snapshot', 'journal'])
    t.match(r.text, new RegExp(`^${kind} +\\d+ inputs +[1-9]\\d* accepted$`, 'm'), `${kind}: some inputs are accepted`)
  t.match(r.text, /0 faults$/m)
})
